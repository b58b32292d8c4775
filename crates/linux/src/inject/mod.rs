//! System calls made inside the target, without a trace and safe against our death.
//!
//! Some of a process's state can only be asked for, and a userfaultfd only be made, by the process
//! itself. So one of its stopped threads is made to run a few instructions of ours. Two rules:
//!
//! *It leaves nothing behind.* The instructions go to bytes that no one uses (the zeros after the
//! end of the vDSO), data to the far end of a stack, both restored exactly; registers, signal mask
//! and the restart of a system call that our stop interrupted are put back through the kernel.
//!
//! *We may be killed at any instant.* A thread is switched to our instructions by one SETREGSET,
//! and from then on it does not need us any more: after the call the instructions run
//! `rt_sigreturn` on a complete signal frame of the thread's original state ([`frame`]), prepared
//! beforehand. If we live, the thread is caught before it gets there and restored directly, which
//! alone keeps timeouts of interrupted calls exact. If we die, the kernel detaches and the thread
//! restores itself. Then, a few bytes in the vDSO's padding and on the unused end of a stack remain
//! different from before: no program reads either, and the next recorder clears the former.
//! A descriptor does not remain: the instructions that make it close it too.
//!
//! In the self-restoring case a call that our stop interrupted is made anew from the start, so a
//! relative timeout is counted anew.

mod calls;
mod frame;
mod place;
mod safety;
mod stub;

use crate::error::{Error, Result, Target};
use crate::memory;
use crate::objects::Door;
use crate::proc::maps::Maps;
use crate::ptrace::SyscallInfo;
use crate::tracee::{Halt, bit};
use place::Place;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use stillframe_image::Registers;

/// How long an injected call may take. None that we make blocks.
const LIMIT: Duration = Duration::from_secs(5);

/// Signals blocked during a call: all but those that an instruction raises, since the kernel
/// resets a handler when it must raise such a one while blocked.
const BLOCKED: u64 = !(bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGFPE)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGSYS));

/// What a seccomp filter means for injected calls. Strict mode always forbids them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeccompPolicy {
    /// Suspend the filter during the call, which takes CAP_SYS_ADMIN; refuse without it. Should we
    /// be killed during those microseconds, the filter applies again to what is left of the call.
    #[default]
    Suspend,
    /// Refuse to inject.
    Refuse,
    /// Inject under the filter. One that does not expect our calls may kill the target.
    Ignore,
}

/// The means to make system calls in one stopped process. [`Injector::finish`] restores all bytes.
#[derive(Debug)]
pub struct Injector {
    pid: u32,
    memory: File,
    place: Place,
    seccomp: SeccompPolicy,
    xstate: Vec<u8>,
    frame: Vec<u8>,
    /// Bytes to be restored, by address.
    saved: Vec<(u64, Vec<u8>)>,
}

/// A thread's state while it runs our instructions.
struct Away {
    tid: u32,
    registers: Registers,
    blocked: u64,
    suspended: bool,
}

impl Injector {
    /// Finds a place for instructions and data and puts the instructions there.
    ///
    /// # Errors
    /// [`Error::NoRoom`], [`Error::Seccomp`], [`Error::NoSafeThread`] if a call of a recorder that
    /// was killed is not over yet; else the kernel's.
    pub fn prepare(halt: &mut Halt<'_>) -> Result<Self> {
        Self::prepare_with(halt, SeccompPolicy::default())
    }

    /// The same, with a say about seccomp filters.
    ///
    /// # Errors
    /// As [`Injector::prepare`].
    pub fn prepare_with(halt: &mut Halt<'_>, seccomp: SeccompPolicy) -> Result<Self> {
        let pid = halt.pid();
        let memory = memory::open(pid)?;
        let mut maps = Maps::open(pid)?;
        let _ = maps.refresh()?;
        let mut xstate = Vec::new();
        let tid = safety::any_readable(halt)?;
        halt.xstate(tid, &mut xstate)?;
        let place = place::find(halt, &maps, &memory, frame::length(xstate.len()))?;
        let mut this = Self {
            pid,
            memory,
            place,
            seccomp,
            xstate,
            frame: Vec::new(),
            saved: Vec::new(),
        };
        this.save(place.data, place.data_length)?;
        // Zeros, or what a recorder before us left there.
        this.saved.push((place.code, vec![0; stub::BYTES.len()]));
        this.write("instructions", place.code, &stub::BYTES)?;
        Ok(this)
    }

    /// Makes a userfaultfd in the target and takes it. In the target it is closed again before
    /// this returns.
    ///
    /// `flags` are those of the call: `O_CLOEXEC`, `O_NONBLOCK`, `UFFD_USER_MODE_ONLY`.
    ///
    /// # Errors
    /// [`Error::Injected`] with the call's error; [`Error::NoSafeThread`]; else the kernel's.
    pub fn userfaultfd(&mut self, halt: &mut Halt<'_>, flags: u32) -> Result<OwnedFd> {
        let tid = safety::pick(halt, &self.memory)?;
        let number = libc::SYS_userfaultfd;
        let args = [u64::from(flags), 0, 0, 0, 0, 0];
        let away = self.depart(
            halt,
            tid,
            self.place.code + stub::CALL_AND_CLOSE,
            number,
            args,
        )?;
        let taken = self.fetch(halt, tid);
        self.bring_home(halt, &away)?;
        taken
    }

    fn fetch(&self, halt: &mut Halt<'_>, tid: u32) -> Result<OwnedFd> {
        let result = pass(halt, tid)?;
        let taken = if result < 0 {
            Err(failed("userfaultfd", tid, result))
        } else {
            Door::open(self.pid)
                .and_then(|door| door.take(u32::try_from(result).unwrap_or(u32::MAX)))
        };
        // Whatever became of that: the thread now closes what it made.
        let closed = pass(halt, tid)?;
        if closed < 0 && taken.is_ok() {
            return Err(failed("close", tid, closed));
        }
        taken
    }

    /// Makes one call in one thread and returns its result, a negated error number if it failed.
    /// The call must not block, not return twice, and not change what must be restored.
    ///
    /// # Errors
    /// [`Error::NoSafeThread`] if that thread cannot be used now; else the kernel's.
    pub fn syscall(
        &mut self,
        halt: &mut Halt<'_>,
        tid: u32,
        number: i64,
        args: [u64; 6],
    ) -> Result<i64> {
        if let Err(why) = safety::check(halt, &self.memory, tid)? {
            return Err(Error::NoSafeThread { pid: self.pid, why });
        }
        let away = self.depart(halt, tid, self.place.code + stub::CALL, number, args)?;
        let result = pass(halt, tid);
        self.bring_home(halt, &away)?;
        result
    }

    /// Restores all bytes.
    ///
    /// # Errors
    /// The kernel's, if the process is gone.
    pub fn finish(mut self, halt: &mut Halt<'_>) -> Result<()> {
        debug_assert_eq!(halt.pid(), self.pid, "another process");
        self.restore()
    }

    fn restore(&mut self) -> Result<()> {
        while let Some((at, bytes)) = self.saved.pop() {
            self.write("what was there before", at, &bytes)?;
        }
        Ok(())
    }

    fn save(&mut self, at: u64, length: usize) -> Result<()> {
        let mut bytes = vec![0; length];
        self.read("scratch", at, &mut bytes)?;
        self.saved.push((at, bytes));
        Ok(())
    }

    fn read(&self, what: &'static str, at: u64, into: &mut [u8]) -> Result<()> {
        self.memory
            .read_exact_at(into, at)
            .map_err(|e| Error::syscall("read", Target::Path(format!("{what} at {at:#x}")), e))
    }

    fn write(&self, what: &'static str, at: u64, bytes: &[u8]) -> Result<()> {
        self.memory
            .write_all_at(bytes, at)
            .map_err(|e| Error::syscall("write", Target::Path(format!("{what} at {at:#x}")), e))
    }

    /// Sends a thread to our instructions: up to the entry of the call.
    fn depart(
        &mut self,
        halt: &mut Halt<'_>,
        tid: u32,
        entry: u64,
        number: i64,
        args: [u64; 6],
    ) -> Result<Away> {
        let suspended = safety::seccomp(halt, tid, self.seccomp)?;
        let stopped = halt.stopped(tid)?;
        let registers = stopped.registers()?;
        let blocked = stopped.blocked()?;
        stopped.xstate(&mut self.xstate)?;
        let call = safety::going_on(halt, &self.memory, tid, &registers)
            .ok()
            .flatten();
        let alone = frame::resumed(&registers, call);
        frame::build(
            &mut self.frame,
            self.place.frame,
            &alone,
            blocked,
            &self.xstate,
        );
        self.write("signal frame", self.place.frame, &self.frame)?;
        let [rdi, rsi, rdx, r10, r8, r9] = args;
        let ours = Registers {
            rip: entry,
            // As if the return address had been popped.
            rsp: self.place.frame + 8,
            rax: number.cast_unsigned(),
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            // Not in a system call, so the kernel restarts none when the thread goes on.
            orig_rax: u64::MAX,
            rflags: registers.rflags & !(TRAP_FLAG | DIRECTION_FLAG),
            ..registers
        };
        if suspended {
            halt.set_extra_options(tid, SUSPEND_SECCOMP)?;
        }
        // From this call on the thread can do without us.
        stopped.set_registers(&ours)?;
        let away = Away {
            tid,
            registers,
            blocked,
            suspended,
        };
        let entered = stopped
            .set_blocked(BLOCKED & !bit(libc::SIGKILL) & !bit(libc::SIGSTOP))
            .and_then(|()| enter(halt, tid));
        match entered {
            Ok(()) => Ok(away),
            Err(e) => {
                // If it can be brought back, it is; if not, it comes back by itself.
                let _ = self.bring_home(halt, &away);
                Err(e)
            }
        }
    }

    /// Gives a thread stopped among our instructions its state back and has the kernel stop it
    /// anew, at the place where it was first stopped: on the way to user mode, an interrupted call
    /// yet to be restarted.
    fn bring_home(&self, halt: &mut Halt<'_>, away: &Away) -> Result<()> {
        let stopped = halt.stopped(away.tid)?;
        // In this order: before the registers are back, the frame restores the rest if we die;
        // after, the pending stop (or our death, which wakes the thread as a signal would) makes the
        // kernel look at the interrupted call.
        stopped.interrupt()?;
        stopped.set_blocked(away.blocked)?;
        if away.suspended {
            halt.set_extra_options(away.tid, 0)?;
        }
        stopped.set_registers(&away.registers)?;
        halt.run_to_trap(away.tid, LIMIT)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            tracing::debug!(pid = self.pid, %error, "injected bytes were not restored");
        }
    }
}

const TRAP_FLAG: u64 = 1 << 8;
const DIRECTION_FLAG: u64 = 1 << 10;
/// PTRACE_O_SUSPEND_SECCOMP.
const SUSPEND_SECCOMP: u32 = 1 << 21;

/// Runs a thread to the entry of a call.
fn enter(halt: &mut Halt<'_>, tid: u32) -> Result<()> {
    halt.run_to_syscall(tid, LIMIT)?;
    match halt.stopped(tid)?.syscall_info()? {
        SyscallInfo::Entry { .. } => Ok(()),
        other => Err(astray(tid, other)),
    }
}

/// Runs a thread to the exit of a call, entering it first if need be. Returns the result.
fn pass(halt: &mut Halt<'_>, tid: u32) -> Result<i64> {
    if !matches!(
        halt.stopped(tid)?.syscall_info()?,
        SyscallInfo::Entry { .. }
    ) {
        enter(halt, tid)?;
    }
    halt.run_to_syscall(tid, LIMIT)?;
    match halt.stopped(tid)?.syscall_info()? {
        SyscallInfo::Exit { result } => Ok(result),
        other => Err(astray(tid, other)),
    }
}

fn astray(tid: u32, found: SyscallInfo) -> Error {
    Error::Malformed {
        what: "injected call",
        target: Target::Thread(tid),
        detail: format!("stopped at {found:?}"),
    }
}

fn failed(call: &'static str, tid: u32, result: i64) -> Error {
    let errno = i32::try_from(-result).unwrap_or(libc::EINVAL);
    Error::Injected {
        call,
        tid,
        source: std::io::Error::from_raw_os_error(errno),
    }
}
