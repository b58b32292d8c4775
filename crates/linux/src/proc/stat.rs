//! Family, terminal, times and addresses: /proc/PID/stat.

use super::text::{self, decimal, signed};
use crate::error::Result;
use stillframe_image::process::Layout;

/// /proc/PID/stat, or a thread's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Process or thread id.
    pub pid: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// State letter, as in [`super::status::Status::state`].
    pub state: u8,
    /// Parent.
    pub parent: u32,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// Controlling terminal's device number, 0 for none.
    pub terminal: u64,
    /// PF_* flags.
    pub flags: u64,
    /// Minor faults.
    pub minor_faults: u64,
    /// Major faults.
    pub major_faults: u64,
    /// Clock ticks in user mode.
    pub user_ticks: u64,
    /// Clock ticks in the kernel.
    pub system_ticks: u64,
    /// Nice value.
    pub nice: i32,
    /// Threads of the process.
    pub threads: u32,
    /// Clock ticks from boot until it started. Together with the number this names a process for
    /// good.
    pub start_time: u64,
    /// Address-space boundaries; all zero where we may not know them. `brk` is not told here.
    pub layout: Layout,
}

impl Stat {
    /// PF_KTHREAD: a kernel thread.
    pub const KERNEL_THREAD: u64 = 0x0020_0000;

    /// Parses the text. The name is in parentheses and may contain any byte, parentheses and
    /// newlines included, so it ends at the last one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|b| *b == b'(')?;
        let close = text.iter().rposition(|b| *b == b')')?;
        let name = text.get(open + 1..close)?.to_vec();
        let pid = small(text[..open].trim_ascii())?;
        // Fields by their number in proc_pid_stat(5); the first here is 3.
        let mut rest = [&[][..]; 50];
        let mut count = 0;
        for (slot, field) in rest
            .iter_mut()
            .zip(text::fields(text[close + 1..].trim_ascii()))
        {
            *slot = field;
            count += 1;
        }
        // 52 fields since Linux 3.5.
        if count < 49 {
            return None;
        }
        let field = |number: usize| rest.get(number.checked_sub(3)?).copied();
        let number = |n| decimal(field(n)?);
        Some(Self {
            pid,
            name,
            state: *field(3)?.first()?,
            parent: small(field(4)?)?,
            // Of a process in another PID namespace than ours these may be 0 or -1.
            group: signed(field(5)?).map(|v| u32::try_from(v).unwrap_or(0))?,
            session: signed(field(6)?).map(|v| u32::try_from(v).unwrap_or(0))?,
            terminal: signed(field(7)?).map(|v| u64::try_from(v).unwrap_or(0))?,
            flags: number(9)?,
            minor_faults: number(10)?,
            major_faults: number(12)?,
            user_ticks: number(14)?,
            system_ticks: number(15)?,
            nice: i32::try_from(signed(field(19)?)?).ok()?,
            threads: small(field(20)?)?,
            start_time: number(22)?,
            layout: Layout {
                start_code: number(26)?,
                end_code: number(27)?,
                start_stack: number(28)?,
                start_data: number(45)?,
                end_data: number(46)?,
                start_brk: number(47)?,
                brk: 0,
                arg_start: number(48)?,
                arg_end: number(49)?,
                env_start: number(50)?,
                env_end: number(51)?,
            },
        })
    }

    /// Reads that of process `pid`.
    ///
    /// # Errors
    /// If it is gone or the text is not understood.
    pub fn read(pid: u32) -> Result<Self> {
        let text = text::read(pid, "stat")?;
        Self::parse(&text).ok_or_else(|| text::malformed(pid, "stat", &text))
    }
}

fn small(text: &[u8]) -> Option<u32> {
    u32::try_from(decimal(text)?).ok()
}
