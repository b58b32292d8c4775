//! Threads of a stopped process made equal to those of a checkpoint.
//!
//! Three steps, in this order, around the writing of memory:
//!
//! 1. [`end`], before: threads that began since are ended. On its way out a thread's memory
//!    may be written by the kernel (its `rseq` area), so what it leaves is written over afterwards.
//! 2. [`conform`], after: threads that ended since begin again, standing still; what the kernel
//!    knows of each thread (alternate stack, tid address, robust list, `rseq`, name, queued signals)
//!    is set by calls made in it.
//! 3. [`put`], last: registers, vector state and masks, which no call can be made after.
//!
//! *Numbers.* A thread gets its old number where the system allows that (`clone3` with `set_tid`, or
//! the namespace's last number set by us). Where it does not, it gets another one, and the C
//! library's note of the number, which is where the kernel clears it at the thread's end, is
//! changed with it. A C library that keeps no note there (musl) would go on with a wrong number, so
//! then the thread is refused.
//!
//! *Interrupted calls.* The kernel restarts them by the code in `rax`, from the registers, as it
//! would have; except a wait with a rest of its own (-516), which it no longer knows: that is made
//! anew from its start.

mod begin;
mod restart;
mod signals;

pub(crate) use begin::own_number;
pub use restart::resumed;
pub use signals::conform_shared;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use stillframe_image::{AltStack, Gap, ProcessImage, Thread};
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result};

/// Numbers of threads: of the checkpoint, and here.
pub type Tids = BTreeMap<u32, u32>;

/// All signals but SIGKILL and SIGSTOP, which cannot be blocked.
pub const ALL_BLOCKED: u64 = !(1 << (libc_signal::KILL - 1) | 1 << (libc_signal::STOP - 1));

mod libc_signal {
    pub const KILL: u32 = 9;
    pub const STOP: u32 = 19;
}

/// Numbers of system calls that are made here (x86-64).
pub(crate) mod call {
    pub const RT_SIGACTION: i64 = 13;
    pub const CHDIR: i64 = 80;
    pub const UMASK: i64 = 95;
    pub const SETITIMER: i64 = 38;
    pub const SETPGID: i64 = 109;
    pub const CLONE: i64 = 56;
    pub const EXIT: i64 = 60;
    pub const RT_SIGTIMEDWAIT: i64 = 128;
    pub const RT_SIGQUEUEINFO: i64 = 129;
    pub const SIGALTSTACK: i64 = 131;
    pub const PRCTL: i64 = 157;
    pub const ARCH_PRCTL: i64 = 158;
    pub const SET_TID_ADDRESS: i64 = 218;
    pub const TIMER_CREATE: i64 = 222;
    pub const TIMER_SETTIME: i64 = 223;
    pub const TIMER_DELETE: i64 = 226;
    pub const SET_ROBUST_LIST: i64 = 273;
    pub const RT_TGSIGQUEUEINFO: i64 = 297;
    pub const RSEQ: i64 = 334;
    pub const CLONE3: i64 = 435;
}

/// What is to become of the threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Began since: to be ended.
    pub surplus: Vec<u32>,
    /// Ended since: to begin again, by their numbers in the checkpoint.
    pub missing: Vec<u32>,
    /// There then and now.
    pub kept: Vec<u32>,
}

/// Compares the threads that are there now with those of a checkpoint. `main`: the process's number
/// now, which is that of its first thread.
pub fn plan(now: &[u32], main: u32, wanted: &ProcessImage) -> Plan {
    let first = wanted.process.pid;
    // The first thread of a process is its first thread, whatever its number.
    let here = |tid: u32| if tid == first { main } else { tid };
    let then: BTreeSet<u32> = wanted.threads.iter().map(|t| here(t.tid)).collect();
    let present: BTreeSet<u32> = now.iter().copied().collect();
    Plan {
        surplus: present.difference(&then).copied().collect(),
        missing: wanted
            .threads
            .iter()
            .map(|t| t.tid)
            // In another PID namespace the first thread's number may be that of another one then.
            .filter(|tid| !present.contains(&here(*tid)) || (*tid == main && *tid != first))
            .collect(),
        kept: present.intersection(&then).copied().collect(),
    }
}

impl Plan {
    /// A thread that stays, in which calls can be made from the beginning to the end.
    pub fn caller(&self) -> Option<u32> {
        self.kept.first().copied()
    }

    /// What makes this plan impossible, in words.
    pub fn obstacle(&self, wanted: &ProcessImage) -> Option<String> {
        if self.missing.contains(&wanted.process.pid) {
            return Some(format!(
                "its first thread ({}) has ended, which cannot be made again",
                wanted.process.pid
            ));
        }
        if self.kept.is_empty() {
            return Some("none of its threads was there at that moment".to_owned());
        }
        None
    }
}

/// A thread that was ended, and what only it could tell.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its number.
    pub tid: u32,
    /// Its `rseq` area, which the kernel kept up to date to the end.
    pub rseq: Option<u64>,
    /// Its alternate stack.
    pub alt_stack: Option<AltStack>,
    /// Where the kernel would have cleared its number.
    pub tid_address: Option<u64>,
}

/// Ends a thread that began since. Nothing is written to its memory but by the kernel, which keeps
/// its `rseq` area up to date to the end.
///
/// # Errors
/// The kernel's.
pub fn end(remote: &mut Remote, halt: &mut Halt<'_>, tid: u32) -> Result<Ended> {
    const PR_GET_TID_ADDRESS: u64 = 40;
    let scratch = remote.scratch().start;
    let mut ended = Ended {
        tid,
        rseq: halt.rseq(tid)?.map(|r| r.address),
        alt_stack: None,
        tid_address: None,
    };
    let args = [0, scratch, 0, 0, 0, 0];
    if remote.call(halt, tid, call::SIGALTSTACK, args).is_ok() {
        ended.alt_stack = Some(read_stack(remote, scratch)?);
    }
    let args = [PR_GET_TID_ADDRESS, scratch, 0, 0, 0, 0];
    if remote.call(halt, tid, call::PRCTL, args).is_ok() {
        let mut word = [0; 8];
        remote.read(scratch, &mut word)?;
        ended.tid_address = Some(u64::from_le_bytes(word));
    }
    // Its end is to clear and wake nothing.
    remote.call(halt, tid, call::SET_TID_ADDRESS, [0; 6])?;
    remote.call(halt, tid, call::SET_ROBUST_LIST, [0, 24, 0, 0, 0, 0])?;
    match remote.call(halt, tid, call::EXIT, [0; 6]) {
        // That is how it goes.
        Err(Error::ThreadGone(_)) => {}
        Ok(_) => return Err(Error::Stuck { tid }),
        Err(e) => return Err(e),
    }
    halt.see_out(tid)?;
    Ok(ended)
}

/// A `stack_t` in the process.
fn read_stack(remote: &Remote, at: u64) -> Result<AltStack> {
    let mut words = [[0u8; 8]; 3];
    for (word, at) in words.iter_mut().zip((at..).step_by(8)) {
        remote.read(at, word)?;
    }
    let [base, flags, size] = words.map(u64::from_le_bytes);
    let flags = u32::try_from(flags & 0xffff_ffff).unwrap_or(0);
    Ok(AltStack { base, flags, size })
}

/// What [`conform`] did.
#[derive(Clone, Debug, Default)]
pub struct Conformed {
    /// The threads of the checkpoint, as they are numbered now.
    pub tids: Tids,
    /// Words of memory that are not the checkpoint's: (address, bytes) of thread numbers changed.
    pub patched: Vec<(u64, u32)>,
    /// Alternate stacks that were replaced, by thread, as they were.
    pub stacks: Vec<(u32, AltStack)>,
    /// What could not be had.
    pub gaps: Vec<Gap>,
}

/// Makes threads that are missing and sets what the kernel knows of all of them. Memory must be the
/// checkpoint's already. `caller`: the thread in which calls are made that any can make. Threads
/// made stand still, at an instruction of ours.
///
/// `allow`, `hold`: called around calls made in threads other than the caller, see
/// [`Halt::let_go`] and [`Halt::hold`]; a new process needs neither.
///
/// # Errors
/// [`Error::Call`] if a thread cannot be made; else the kernel's.
pub fn conform(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    wanted: &ProcessImage,
    guard: &mut dyn Guard,
) -> Result<Conformed> {
    let mut done = Conformed::default();
    let plan = plan(halt.threads(), halt.pid(), wanted);
    let main = halt.pid();
    for thread in &wanted.threads {
        let missing = plan.missing.contains(&thread.tid);
        let mut note = None;
        let tid = if missing {
            let begun = begin::begin(remote, halt, caller, thread)?;
            if let Some(patched) = begun.patched {
                done.patched.push(patched);
            }
            guard.begun(halt, begun.tid)?;
            note = begun.note;
            begun.tid
        } else if thread.tid == wanted.process.pid {
            if main != thread.tid
                && let Some(patched) = begin::note(remote, main, thread)?
            {
                done.patched.push(patched);
            }
            main
        } else {
            thread.tid
        };
        done.tids.insert(thread.tid, tid);
        if tid != caller {
            guard.allow(halt, tid)?;
        }
        // Without it, whoever joins the thread would wait for ever.
        let address = thread.tid_address.or(note);
        let set = set(remote, halt, tid, (thread, address), missing, &mut done);
        let queued =
            set.and_then(|()| signals::conform_own(remote, halt, tid, thread, &mut done.gaps));
        if tid != caller {
            guard.hold(halt, tid)?;
        }
        queued?;
    }
    Ok(done)
}

/// Keeps threads from running without us; see [`Halt::hold`].
pub trait Guard {
    /// A call is about to be made in a thread.
    ///
    /// # Errors
    /// The kernel's.
    fn allow(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()>;
    /// It was made.
    ///
    /// # Errors
    /// The kernel's.
    fn hold(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()>;
    /// A thread was made.
    ///
    /// # Errors
    /// The kernel's.
    fn begun(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()>;
}

/// For a process that nobody misses if we die: it is killed with us.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unguarded;

impl Guard for Unguarded {
    fn allow(&mut self, _: &mut Halt<'_>, _: u32) -> Result<()> {
        Ok(())
    }
    fn hold(&mut self, _: &mut Halt<'_>, _: u32) -> Result<()> {
        Ok(())
    }
    fn begun(&mut self, _: &mut Halt<'_>, _: u32) -> Result<()> {
        Ok(())
    }
}

/// What the kernel knows of one thread.
fn set(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    tid: u32,
    (wanted, tid_address): (&Thread, Option<u64>),
    fresh: bool,
    done: &mut Conformed,
) -> Result<()> {
    const SS_ONSTACK: u32 = 1;
    const SS_DISABLE: u32 = 2;
    let Conformed { stacks, gaps, .. } = done;
    let mut refused = |what: &str, result: Result<u64>| match result {
        Err(Error::Call { source, .. }) => {
            gaps.push(Gap {
                subject: format!("thread {}", wanted.tid),
                reason: format!("{what} could not be set: {source}"),
            });
            Ok(())
        }
        Err(e) => Err(e),
        Ok(_) => Ok(()),
    };
    let scratch = remote.scratch().start;
    if let Some(stack) = wanted.alt_stack {
        let flags = if stack.size == 0 {
            SS_DISABLE
        } else {
            stack.flags & !SS_ONSTACK
        };
        let words = [stack.base, u64::from(flags), stack.size];
        remote.write(scratch, &bytes_of(&words))?;
        let old = scratch + 64;
        let result = remote.call(halt, tid, call::SIGALTSTACK, [scratch, old, 0, 0, 0, 0]);
        if result.is_ok() {
            let held = read_stack(remote, old)?;
            stacks.push((tid, held));
            if stack.size == 0 && held.size != 0 && !fresh {
                // It may have been asked for before the thread had set it.
                let words = [held.base, u64::from(held.flags & !SS_ONSTACK), held.size];
                remote.write(scratch, &bytes_of(&words))?;
                let args = [scratch, 0, 0, 0, 0, 0];
                refused(
                    "its alternate signal stack",
                    remote.call(halt, tid, call::SIGALTSTACK, args),
                )?;
            }
        }
        refused("its alternate signal stack", result)?;
    }
    if let Some(address) = tid_address {
        remote.call(halt, tid, call::SET_TID_ADDRESS, [address, 0, 0, 0, 0, 0])?;
    }
    if halt.robust_list(tid)? != wanted.robust_list {
        let (head, length) = wanted.robust_list.map_or((0, 24), |l| (l.head, l.length));
        let result = remote.call(halt, tid, call::SET_ROBUST_LIST, [head, length, 0, 0, 0, 0]);
        refused("its list of robust futexes", result)?;
    }
    let now = halt.rseq(tid)?;
    if now != wanted.rseq {
        set_rseq(remote, halt, tid, now, wanted, fresh)
            .or_else(|e| refused("its restartable sequences", Err(e)))?;
    }
    if halt.name(tid)? != wanted.name && !wanted.name.is_empty() {
        const PR_SET_NAME: u64 = 15;
        let mut name = wanted.name.clone();
        name.truncate(15);
        name.push(0);
        remote.write(scratch, &name)?;
        let result = remote.call(halt, tid, call::PRCTL, [PR_SET_NAME, scratch, 0, 0, 0, 0]);
        refused("its name", result)?;
    }
    Ok(())
}

/// Registers the `rseq` area, whose content the kernel changes by that: what the program itself
/// writes there (the descriptor of a sequence) is put back.
fn set_rseq(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    tid: u32,
    now: Option<stillframe_image::Rseq>,
    wanted: &Thread,
    fresh: bool,
) -> Result<()> {
    const UNREGISTER: u64 = 1;
    const DESCRIPTOR: u64 = 8;
    let area = |r: &stillframe_image::Rseq, flags: u64| {
        [
            r.address,
            u64::from(r.size),
            flags,
            u64::from(r.signature),
            0,
            0,
        ]
    };
    if let Some(old) = now
        && !fresh
    {
        remote.call(halt, tid, call::RSEQ, area(&old, UNREGISTER))?;
    }
    let Some(new) = wanted.rseq else {
        return Ok(());
    };
    let mut descriptor = [0u8; 8];
    remote.read(new.address + DESCRIPTOR, &mut descriptor)?;
    remote.call(halt, tid, call::RSEQ, area(&new, 0))?;
    remote.write(new.address + DESCRIPTOR, &descriptor)
}

/// Registers, vector state and signal masks, as the last thing. The threads stand still, about to
/// go on from the checkpoint.
///
/// # Errors
/// The kernel's.
pub fn put(
    halt: &mut Halt<'_>,
    wanted: &ProcessImage,
    tids: &Tids,
    memory: &dyn Fn(u64, &mut [u8]) -> bool,
) -> Result<()> {
    let mut now = Vec::new();
    for thread in &wanted.threads {
        let Some(tid) = tids.get(&thread.tid).copied() else {
            continue;
        };
        halt.put_registers(tid, &resumed(&thread.registers, memory))?;
        if !thread.xstate.is_empty() {
            halt.xstate(tid, &mut now)?;
            if now != thread.xstate {
                halt.put_xstate(tid, &thread.xstate)?;
            }
        }
        halt.put_blocked(tid, thread.blocked)?;
    }
    Ok(())
}

/// Whether a thread uses AMX tiles, which a process must ask for before it may be given any.
pub fn needs_tiles(xstate: &[u8]) -> bool {
    const XSTATE_BV: usize = 512;
    const XTILEDATA: u64 = 1 << 18;
    xstate
        .get(XSTATE_BV..XSTATE_BV + 8)
        .and_then(|b| b.try_into().ok())
        .is_some_and(|b| u64::from_le_bytes(b) & XTILEDATA != 0)
}

/// Asks for the permission to use AMX tiles, if any thread of the checkpoint does.
///
/// # Errors
/// [`Error::Call`] if this machine has none.
pub fn permit_tiles(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    wanted: &ProcessImage,
) -> Result<()> {
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    if wanted.threads.iter().any(|t| needs_tiles(&t.xstate)) {
        let args = [ARCH_REQ_XCOMP_PERM, XTILEDATA, 0, 0, 0, 0];
        remote.call(halt, caller, call::ARCH_PRCTL, args)?;
    }
    Ok(())
}

pub(crate) fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tids: &[u32]) -> ProcessImage {
        let mut image = ProcessImage::default();
        image.process.pid = tids[0];
        image.threads = tids
            .iter()
            .map(|tid| Thread {
                tid: *tid,
                ..Thread::default()
            })
            .collect();
        image
    }

    #[test]
    fn threads_come_and_go() {
        let plan = plan(&[10, 12, 13], 10, &image(&[10, 11, 13]));
        assert_eq!(plan.surplus, [12]);
        assert_eq!(plan.missing, [11]);
        assert_eq!(plan.kept, [10, 13]);
        assert_eq!(plan.caller(), Some(10));
        assert_eq!(plan.obstacle(&image(&[10, 11, 13])), None);
    }

    #[test]
    fn the_first_thread_may_have_another_number() {
        let wanted = image(&[10, 11]);
        let plan = plan(&[20], 20, &wanted);
        assert_eq!(
            (plan.surplus.len(), &plan.missing[..], &plan.kept[..]),
            (0, &[11][..], &[20][..])
        );
    }

    #[test]
    fn the_first_thread_cannot_be_made_again() {
        let wanted = image(&[10, 11]);
        let plan = plan(&[11], 10, &wanted);
        assert!(plan.obstacle(&wanted).is_some());
    }
}
