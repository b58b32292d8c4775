//! Sleeping until a tracee has something to report.
//!
//! A stop of a tracee is announced by SIGCHLD to its tracer. The signal is kept blocked, so that it
//! stays pending instead of being lost, and is taken together with other descriptors (`signalfd`
//! and `ppoll`). It is not queued: one SIGCHLD may stand for many reports. So a sleeper first looks
//! for reports, then sleeps. While all threads are being stopped, or one runs an injected call, it
//! is known whose report is wanted, and a blocking `waitid` is faster.

use crate::error::{Error, Result, Target};
use crate::ptrace::wait_blocking;
use crate::signals::Interrupt;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The signal mask this process started with, for the programs it launches.
static FIRST_MASK: OnceLock<u64> = OnceLock::new();

/// Makes this process fit to trace: SIGCHLD is set to its default action (if it were ignored, which
/// is inherited over `exec`, stops would not be announced) and blocked in the calling thread.
///
/// Call it before other threads are started, so that they inherit the mask: a thread with SIGCHLD
/// unblocked would take the signal and drop it, and its tracer would sleep on.
///
/// # Errors
/// None is known; the kernel's, if it has one.
pub fn prepare() -> Result<()> {
    // SAFETY: all-zero is a valid `sigaction` (default action, empty mask, no flags).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = libc::SIG_DFL;
    // SAFETY: a valid action is read; the old one is not asked for.
    if unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(Error::last("sigaction", Target::Us));
    }
    block(&[libc::SIGCHLD])
}

/// Blocks signals in the calling thread, remembering the mask as it was at first.
pub(crate) fn block(signals: &[i32]) -> Result<()> {
    let set = set_of(signals);
    let mut old = set_of(&[]);
    // SAFETY: both sets are initialised and ours.
    let failed = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old) };
    if failed != 0 {
        let source = io::Error::from_raw_os_error(failed);
        return Err(Error::syscall("pthread_sigmask", Target::Us, source));
    }
    FIRST_MASK.get_or_init(|| {
        // SAFETY: `old` was filled by the call above, and the number is valid.
        let has = |signal| unsafe { libc::sigismember(&raw const old, signal) == 1 };
        (1..=64)
            .filter(|s| has(*s))
            .fold(0, |mask, s| mask | 1 << (s - 1))
    });
    Ok(())
}

/// The mask that programs we launch are to start with.
pub(crate) fn first_mask() -> u64 {
    FIRST_MASK.get().copied().unwrap_or(0)
}

pub(crate) fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: all-zero is a valid (if unspecified) `sigset_t`; sigemptyset then initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is initialised; an invalid number is refused by the call.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// A descriptor that is readable while one of `signals`, which must be blocked, is pending.
pub(crate) fn signal_fd(signals: &[i32]) -> Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(Error::last("signalfd", Target::Us));
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes one signal from a descriptor made by [`signal_fd`].
pub(crate) fn take_signal(fd: BorrowedFd<'_>) -> Option<Interrupt> {
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut buffer) {
        Ok(n) if n == buffer.len() => {
            // ssi_signo is the first word, ssi_code the third.
            let word = |at: usize| {
                buffer
                    .get(at..at + 4)
                    .and_then(|b| b.try_into().ok())
                    .map(i32::from_ne_bytes)
            };
            Some(Interrupt {
                signal: word(0)?,
                from_terminal: word(8)? == libc::SI_KERNEL,
            })
        }
        _ => None,
    }
}

/// A sleeper looks for reports this often though none was announced: another thread of this process
/// that was started with SIGCHLD unblocked, against what [`prepare`] asks, may have taken the signal.
const LOOK_ANYWAY: Duration = Duration::from_millis(100);

/// What woke a sleeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    /// There may be reports.
    Reports,
    /// A descriptor of the caller, by position.
    Descriptor(usize),
    /// The time.
    Time,
}

/// Announces reports of tracees of this thread.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
    alarm: Alarm,
}

impl Bell {
    pub(super) fn new() -> Result<Self> {
        prepare()?;
        Ok(Self {
            fd: signal_fd(&[libc::SIGCHLD])?,
            alarm: Alarm::new()?,
        })
    }

    /// Forgets past announcements. To be followed by a look for reports.
    pub(super) fn hush(&self) {
        while take_signal(self.fd.as_fd()).is_some() {}
    }

    /// Sleeps until this thread, which must be traced and not stopped, has a report. Comes back
    /// without one from time to time, so that the clock and other threads can be looked at, until
    /// [`Bell::rest`].
    pub(super) fn watch(&self, tid: u32) -> Result<()> {
        self.alarm.set(true)?;
        wait_blocking(tid).map(|_| ())
    }

    /// Ends the interruptions of [`Bell::watch`].
    pub(super) fn rest(&self) {
        // It can only fail for a timer that does not exist.
        let _ = self.alarm.set(false);
    }

    /// Sleeps until a report is announced, one of `wake` is readable or hung up, or `until`.
    pub(super) fn sleep_with(
        &self,
        until: Option<Instant>,
        wake: &[BorrowedFd<'_>],
    ) -> Result<Rung> {
        const FEW: usize = 8;
        let entry = |fd: i32| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut few = [entry(-1); FEW];
        let mut many = Vec::new();
        let entries = if let Some(fits) = few.get_mut(..=wake.len()) {
            fits
        } else {
            many.resize(wake.len() + 1, entry(-1));
            many.as_mut_slice()
        };
        let fds = std::iter::once(self.fd.as_raw_fd()).chain(wake.iter().map(AsRawFd::as_raw_fd));
        for (slot, fd) in entries.iter_mut().zip(fds) {
            slot.fd = fd;
        }
        let left = until.map_or(LOOK_ANYWAY, |u| u.saturating_duration_since(Instant::now()));
        let timeout = timespec(left.min(LOOK_ANYWAY));
        // SAFETY: `entries` is an initialised array of that length; the timeout is ours;
        // no mask is given.
        let ready = unsafe {
            libc::ppoll(
                entries.as_mut_ptr(),
                entries.len() as libc::nfds_t,
                &raw const timeout,
                std::ptr::null(),
            )
        };
        if ready < 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::EINTR) => Ok(Rung::Reports),
                _ => Err(Error::syscall("ppoll", Target::Us, source)),
            };
        }
        let mut set = entries.iter().map(|e| e.revents != 0);
        let reports = set.next().unwrap_or(false);
        Ok(match set.position(|ready| ready) {
            Some(index) => Rung::Descriptor(index),
            None if reports => Rung::Reports,
            None => Rung::Time,
        })
    }
}

/// Interrupts this thread's system calls, again and again while set.
///
/// A blocking `waitid` for one thread is what stops many threads fastest: a sleeper on SIGCHLD is
/// woken, and takes the CPU from a thread about to stop, at each of them (64 spinning threads:
/// 1.1 ms). But it has no timeout. The alarm is a timer whose signal, the last real-time one, has a
/// handler that does nothing; it repeats, since the first may come before the call sleeps.
#[derive(Debug)]
struct Alarm {
    timer: libc::timer_t,
    set: Cell<bool>,
}

/// How often.
const ALARM: Duration = Duration::from_millis(2);

extern "C" fn do_nothing(_: i32) {}

impl Alarm {
    fn new() -> Result<Self> {
        let signal = libc::SIGRTMAX();
        let handler: extern "C" fn(i32) = do_nothing;
        // SAFETY: all-zero is a valid `sigaction`. The handler touches nothing, so it may run at any
        // time; without SA_RESTART it makes blocking calls of this thread fail with EINTR.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(Error::last("sigaction", Target::Us));
            }
        }
        // SAFETY: all-zero is a valid `sigevent`.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: `event` is initialised, and `timer` is ours for the call to fill.
        let made =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        if made != 0 {
            return Err(Error::last("timer_create", Target::Us));
        }
        Ok(Self {
            timer,
            set: Cell::new(false),
        })
    }

    fn set(&self, on: bool) -> Result<()> {
        if self.set.get() == on {
            return Ok(());
        }
        let every = timespec(if on { ALARM } else { Duration::ZERO });
        let times = libc::itimerspec {
            it_interval: every,
            it_value: every,
        };
        // SAFETY: the timer is ours and exists as long as `self`; `times` is initialised; the old
        // setting is not asked for.
        let done =
            unsafe { libc::timer_settime(self.timer, 0, &raw const times, std::ptr::null_mut()) };
        if done != 0 {
            return Err(Error::last("timer_settime", Target::Us));
        }
        self.set.set(on);
        Ok(())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, and not used after this.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn timespec(d: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(d.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: i64::from(d.subsec_nanos()),
    }
}
