//! Credentials, signal masks and counters: /proc/PID/status.

use super::text::{self, decimal, fields, hexadecimal, octal, split_once};
use crate::error::Result;

/// /proc/PID/status, or a thread's. What a kernel does not tell stays zero, empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// State letter: R running, S sleeping, D in disk sleep, T stopped, t traced, Z zombie, X
    /// dead, I idle.
    pub state: u8,
    /// Process id (thread group).
    pub tgid: u32,
    /// Thread id.
    pub pid: u32,
    /// Parent.
    pub parent: u32,
    /// Who traces it, 0 for nobody.
    pub tracer: u32,
    /// Real, effective, saved, file-system.
    pub uids: [u32; 4],
    /// Real, effective, saved, file-system.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Thread id in each PID namespace, ours first, its own last.
    pub namespace_pids: Vec<u32>,
    /// File creation mask.
    pub umask: Option<u32>,
    /// Resident memory in KiB; `None` for a kernel thread or a zombie, which have no memory.
    pub resident_kb: Option<u64>,
    /// Memory in swap in KiB.
    pub swapped_kb: u64,
    /// Threads of the process.
    pub threads: u32,
    /// Signals pending for this thread, bit n-1 for signal n, as all the masks below.
    pub pending: u64,
    /// Signals pending for the process.
    pub shared_pending: u64,
    /// Signals this thread blocks.
    pub blocked: u64,
    /// Signals the process ignores.
    pub ignored: u64,
    /// Signals the process catches.
    pub caught: u64,
    /// Inheritable, permitted, effective, bounding and ambient capabilities.
    pub capabilities: [u64; 5],
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// A kernel thread.
    pub kernel_thread: bool,
    /// It is being dumped to a core file at this moment.
    pub core_dumping: bool,
}

impl Status {
    /// Parses the text; lines that are not understood are passed over. `None` if a line that every
    /// kernel writes is missing or wrong.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut status = Self::default();
        let mut seen = 0;
        for line in text.split(|b| *b == b'\n') {
            let Some((key, value)) = split_once(line, b':') else {
                continue;
            };
            let mut words = fields(value);
            let mut number = || words.next().and_then(decimal);
            let mut small = || number().and_then(|n| u32::try_from(n).ok());
            let mask = || fields(value).next().and_then(hexadecimal);
            match key {
                b"State" => {
                    status.state = *fields(value).next()?.first()?;
                    seen += 1;
                }
                b"Tgid" => {
                    status.tgid = small()?;
                    seen += 1;
                }
                b"Pid" => {
                    status.pid = small()?;
                    seen += 1;
                }
                b"PPid" => status.parent = small()?,
                b"TracerPid" => status.tracer = small()?,
                b"Uid" => {
                    status.uids = [small()?, small()?, small()?, small()?];
                    seen += 1;
                }
                b"Gid" => {
                    status.gids = [small()?, small()?, small()?, small()?];
                    seen += 1;
                }
                b"Groups" => status.groups = std::iter::from_fn(small).collect(),
                b"NSpid" => status.namespace_pids = std::iter::from_fn(small).collect(),
                b"Umask" => {
                    let value = fields(value).next().and_then(octal);
                    status.umask = value.and_then(|v| u32::try_from(v).ok());
                }
                b"VmRSS" => status.resident_kb = number(),
                b"VmSwap" => status.swapped_kb = number()?,
                b"Threads" => status.threads = small()?,
                b"SigPnd" => status.pending = mask()?,
                b"ShdPnd" => status.shared_pending = mask()?,
                b"SigBlk" => status.blocked = mask()?,
                b"SigIgn" => status.ignored = mask()?,
                b"SigCgt" => status.caught = mask()?,
                b"CapInh" => status.capabilities[0] = mask()?,
                b"CapPrm" => status.capabilities[1] = mask()?,
                b"CapEff" => status.capabilities[2] = mask()?,
                b"CapBnd" => status.capabilities[3] = mask()?,
                b"CapAmb" => status.capabilities[4] = mask()?,
                b"NoNewPrivs" => status.no_new_privs = number()? != 0,
                b"Seccomp" => status.seccomp = small()?,
                b"Kthread" => status.kernel_thread = number()? != 0,
                b"CoreDumping" => status.core_dumping = number()? != 0,
                _ => {}
            }
        }
        (seen >= 5).then_some(status)
    }

    /// Reads that of process `pid`.
    ///
    /// # Errors
    /// If it is gone or the text is not understood.
    pub fn read(pid: u32) -> Result<Self> {
        let text = text::read(pid, "status")?;
        Self::parse(&text).ok_or_else(|| text::malformed(pid, "status", &text))
    }
}
