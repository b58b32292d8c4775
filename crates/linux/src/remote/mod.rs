//! System calls in a stopped process whose state is about to be replaced.
//!
//! Making a process equal to a checkpoint takes calls that only it can make: `mmap`, `brk`, `dup3`,
//! `rt_sigaction`. [`inject`](crate::inject) makes calls that leave no trace and are safe against our
//! death; here neither is needed, since registers, masks and memory are written anew afterwards.
//! What is needed instead is speed (hundreds of calls) and arguments of any size, so a few pages of
//! ours are mapped into the process, at a place that neither its old nor its new mappings use.
//!
//! The caller takes over what is spoiled: registers, vector state (calls do not touch it) and signal
//! masks of every thread that made a call. [`Halt::put_registers`] and its neighbours set them.
//!
//! *If we die in the middle*, threads are released where they stand: at an instruction of ours,
//! behind which there is a trap. A process that must survive that has to be made to stay stopped
//! beforehand: in a group stop (SIGSTOP delivered) released threads stop again at once. Calls can be
//! made in threads of a process in group stop.
//!
//! One call takes two stops. They cost some microseconds if tracer and tracee share a processor, and
//! thirty times that if they do not, so both are pinned to one as long as a [`Remote`] exists.

mod channel;
mod name;
pub mod numbers;
mod offspring;
mod pin;
mod place;
mod safe;

use crate::error::{Error, Result, Target};
use crate::memory::Door;
use crate::objects;
use crate::proc::maps::Maps;
use crate::ptrace::{StopKind, SyscallInfo};
use crate::tracee::{Halt, bit};
use channel::Channel;
use pin::Pins;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use stillframe_image::Registers;

pub use name::call_name;

/// How long a call may take: `munmap` or `mremap` of very much memory takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

const PAGE: u64 = 4096;
/// Instructions, then room for our own data, then the caller's.
const CODE: u64 = PAGE;
const OWN: u64 = PAGE;
/// Bytes of [`Remote::scratch`].
pub const SCRATCH: u64 = 64 * 1024;
const LENGTH: u64 = CODE + OWN + SCRATCH;

/// `syscall`; and, for when nobody is there to catch the thread behind it, what stops the process.
const INSTRUCTIONS: [u8; 25] = [
    0x0f, 0x05, // syscall
    0xb8, 0x27, 0x00, 0x00, 0x00, // mov eax, 39 (getpid)
    0x0f, 0x05, // syscall
    0x89, 0xc7, // mov edi, eax
    0xbe, 0x13, 0x00, 0x00, 0x00, // mov esi, 19 (SIGSTOP)
    0xb8, 0x3e, 0x00, 0x00, 0x00, // mov eax, 62 (kill)
    0x0f, 0x05, // syscall
    0xeb, 0xe9, // jmp, back to the second instruction
];

/// Signals that cannot come from outside while calls are made: all that can be blocked, but for
/// those that an instruction raises (blocked, they would kill).
const BLOCKED: u64 = !(bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGFPE)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGSYS)
    | bit(libc::SIGKILL)
    | bit(libc::SIGSTOP));

/// The means to make calls in one process, all of whose threads are stopped.
#[derive(Debug)]
pub struct Remote {
    pid: u32,
    memory: Door,
    base: u64,
    /// Threads whose masks are blocked already.
    ready: Vec<u32>,
    pins: Pins,
    channel: Option<Channel>,
    /// Descriptor numbers up to this are the caller's.
    reserved: u32,
}

impl Remote {
    /// Maps pages of ours at a free place outside `avoid` (addresses, ascending or not).
    ///
    /// The first thread that can be used makes the call; it must not be exiting.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if no place or no instruction to start from is found; else the kernel's.
    pub fn prepare(halt: &mut Halt<'_>, avoid: &[Range<u64>]) -> Result<Self> {
        let pid = halt.pid();
        let memory = Door::open(pid)?;
        let mut maps = Maps::open(pid)?;
        let _ = maps.refresh()?;
        let no_room = |what| Error::NoRoom { pid, what };
        let base = place::free(maps.entries(), avoid, LENGTH)
            .ok_or_else(|| no_room("pages of ours beside its old and new mappings"))?;
        let entry = place::instruction(maps.entries(), &memory)
            .ok_or_else(|| no_room("a system call: it maps no instruction that makes one"))?;
        let tid = usable(halt)?;
        let mut this = Self {
            pid,
            memory,
            base,
            ready: Vec::new(),
            pins: Pins::default(),
            channel: None,
            reserved: 0,
        };
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let args = [base, LENGTH, word(writable), word(anonymous), u64::MAX, 0];
        let at = this.call_at(halt, tid, entry, libc::SYS_mmap, args)?;
        if at != base {
            // A kernel before 4.17 does not know MAP_FIXED_NOREPLACE and takes it for a hint.
            return Err(no_room("pages of ours at the place chosen"));
        }
        this.write(base, &INSTRUCTIONS)?;
        let executable = word(libc::PROT_READ | libc::PROT_EXEC);
        let args = [base, CODE, executable, 0, 0, 0];
        this.call_at(halt, tid, entry, libc::SYS_mprotect, args)?;
        Ok(this)
    }

    /// The process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes a call in a thread and returns its result.
    ///
    /// # Errors
    /// [`Error::Call`] with the call's own error; else the kernel's about the thread.
    pub fn call(
        &mut self,
        halt: &mut Halt<'_>,
        tid: u32,
        number: i64,
        args: [u64; 6],
    ) -> Result<u64> {
        self.call_at(halt, tid, self.base, number, args)
    }

    /// All addresses that are ours: neither to be unmapped nor to be counted as the target's.
    pub const fn pages(&self) -> Range<u64> {
        self.base..self.base + LENGTH
    }

    /// Memory for arguments and results, [`SCRATCH`] bytes, readable and writable in the target.
    /// Nothing of ours writes to it.
    pub const fn scratch(&self) -> Range<u64> {
        self.base + CODE + OWN..self.base + LENGTH
    }

    /// Writes to the target's memory, whatever its protection.
    ///
    /// # Errors
    /// If nothing is mapped there (EIO), or the process is gone.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.memory.write(address, bytes)
    }

    /// Reads the target's memory, whatever its protection.
    ///
    /// # Errors
    /// If nothing is mapped there (EIO), or the process is gone.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<()> {
        self.memory.read(address, into)
    }

    /// Says up to which descriptor number the caller is going to use the target's table, so that
    /// what [`Remote::send_fd`] needs stays above. To be called before the first one is sent.
    pub const fn reserve_descriptors(&mut self, up_to: u32) {
        self.reserved = up_to;
    }

    /// Sends a descriptor of ours into the target, where it is the same open file under a new
    /// number, close-on-exec. Returns the number.
    ///
    /// # Errors
    /// The kernel's, e.g. EMFILE in the target.
    pub fn send_fd(&mut self, halt: &mut Halt<'_>, tid: u32, fd: BorrowedFd<'_>) -> Result<u32> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::open(self, halt, tid, self.reserved)?,
        };
        let sent = channel.send(self, halt, tid, fd);
        self.channel = Some(channel);
        sent
    }

    /// The number in the target of the descriptor that [`Remote::send_fd`] works through, as long as
    /// there is one: the caller is not to close or replace it.
    pub fn channel(&self) -> Option<u32> {
        self.channel.as_ref().map(Channel::number)
    }

    /// Takes a copy of a descriptor of the target: the same open file, close-on-exec.
    ///
    /// # Errors
    /// EBADF if it has none of that number; else the kernel's.
    pub fn take_fd(&self, number: u32) -> Result<OwnedFd> {
        objects::Door::open(self.pid)?.take(number)
    }

    /// Unmaps our pages and closes our descriptor. The thread used stands behind the call; its
    /// registers are to be set by the caller, who then lets nothing of ours run.
    ///
    /// # Errors
    /// The kernel's, if the process is gone.
    pub fn finish(mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
        self.close_channel(halt, tid)?;
        let args = [self.base, LENGTH, 0, 0, 0, 0];
        self.call(halt, tid, libc::SYS_munmap, args)?;
        Ok(())
    }

    /// Closes the descriptor that descriptors are sent through, if there is one.
    ///
    /// # Errors
    /// The kernel's, if the process is gone.
    pub fn close_channel(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
        if let Some(channel) = self.channel.take() {
            let number = u64::from(channel.number());
            self.call(halt, tid, libc::SYS_close, [number, 0, 0, 0, 0, 0])?;
        }
        Ok(())
    }

    fn own(&self) -> Range<u64> {
        self.base + CODE..self.base + CODE + OWN
    }

    fn call_at(
        &mut self,
        halt: &mut Halt<'_>,
        tid: u32,
        entry: u64,
        number: i64,
        args: [u64; 6],
    ) -> Result<u64> {
        self.make_ready(halt, tid)?;
        let stopped = halt.stopped(tid)?;
        let [rdi, rsi, rdx, r10, r8, r9] = args;
        let before = stopped.registers()?;
        stopped.set_registers(&Registers {
            rip: entry,
            rsp: self.base + CODE + OWN,
            rax: number.cast_unsigned(),
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            // Not in a system call, so the kernel restarts none.
            orig_rax: u64::MAX,
            rflags: 0x202,
            cs: CODE_64,
            ss: STACK_64,
            ..before
        })?;
        let done = pass(halt, tid, number);
        halt.rest();
        let result = done?;
        if (-4095..0).contains(&result) {
            return Err(Error::Call {
                call: call_name(number),
                tid,
                source: std::io::Error::from_raw_os_error(
                    i32::try_from(-result).unwrap_or(libc::EINVAL),
                ),
            });
        }
        Ok(result.cast_unsigned())
    }

    /// Brings a thread to where its registers are its own (not on its way through an `execve` or
    /// `clone`, whose results the kernel still has to put there), blocks its signals, pins it.
    fn make_ready(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
        if self.ready.contains(&tid) {
            return Ok(());
        }
        match halt.stopped(tid)?.kind() {
            StopKind::Trap | StopKind::Group(_) => {}
            StopKind::Exit => {
                let why = format!("thread {tid} is exiting");
                return Err(Error::NoSafeThread { pid: self.pid, why });
            }
            _ => {
                halt.stopped(tid)?.interrupt()?;
                halt.run_to_trap(tid, LIMIT)?;
            }
        }
        halt.stopped(tid)?.set_blocked(BLOCKED)?;
        self.pins.pin(tid);
        self.ready.push(tid);
        Ok(())
    }
}

/// `__USER_CS` and `__USER_DS`.
const CODE_64: u64 = 0x33;
const STACK_64: u64 = 0x2b;

/// A small number that C declares as signed, as an argument.
pub(crate) const fn word(value: i32) -> u64 {
    value as u32 as u64
}

fn usable(halt: &Halt<'_>) -> Result<u32> {
    let fits = |tid: &&u32| {
        halt.stopped(**tid)
            .is_ok_and(|s| s.kind() != StopKind::Exit && s.registers().is_ok())
    };
    let found = halt.threads().iter().find(fits).copied();
    found.ok_or_else(|| Error::NoSafeThread {
        pid: halt.pid(),
        why: "every thread is exiting".into(),
    })
}

/// Runs a thread into a call and out of it. Returns the result.
fn pass(halt: &mut Halt<'_>, tid: u32, number: i64) -> Result<i64> {
    let astray = |found: SyscallInfo| Error::Malformed {
        what: "call made",
        target: Target::Thread(tid),
        detail: format!("{}: stopped at {found:?}", call_name(number)),
    };
    halt.run_to_syscall(tid, LIMIT)?;
    match halt.stopped(tid)?.syscall_info()? {
        SyscallInfo::Entry { .. } => {}
        other => return Err(astray(other)),
    }
    halt.run_to_syscall(tid, LIMIT)?;
    match halt.stopped(tid)?.syscall_info()? {
        SyscallInfo::Exit { result } => Ok(result),
        other => Err(astray(other)),
    }
}
