//! Precedence over the target.
//!
//! A thread that is resumed preempts the one that resumes it, if they share a CPU: continuing 64
//! spinning threads took 36 ms for that reason alone, and less than 0.1 ms with SCHED_FIFO. This is
//! the one place where the thread that captures asks for better.
//!
//! None of it is inherited, neither by threads of ours nor by programs that we launch
//! (SCHED_RESET_ON_FORK): a target must run as it would without us.

use std::fmt;
use std::io;
use std::time::Duration;

/// What was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// SCHED_FIFO, lowest priority: before every ordinary thread. Takes CAP_SYS_NICE, or an
    /// RLIMIT_RTPRIO of at least 1.
    Realtime,
    /// This nice value, and from Linux 6.12 on a short time slice. Takes CAP_SYS_NICE or a fitting
    /// RLIMIT_NICE.
    Nice(i32),
    /// A short time slice (EEVDF, Linux 6.12): scheduled sooner, for less long. Older kernels accept
    /// it and do nothing.
    Slice,
    /// Nothing.
    None,
}

impl fmt::Display for Precedence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realtime => f.write_str("SCHED_FIFO"),
            Self::Nice(nice) => write!(f, "nice {nice}, slice {} us", SLICE / 1000),
            Self::Slice => write!(f, "slice {} us", SLICE / 1000),
            Self::None => f.write_str("none"),
        }
    }
}

/// The nice value asked for where real time is not to be had.
const NICE: i32 = -10;

/// The time slice asked for, nanoseconds: the shortest that the kernel gives.
const SLICE: u64 = 100_000;

/// Gives the calling thread the best precedence it may have: real time, else a better nice value
/// and a short slice, else a short slice. A nice value that is better already is kept.
pub fn try_realtime() -> Precedence {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure is initialised; 0 is the calling thread.
    let set = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const param,
        )
    };
    if set == 0 {
        return Precedence::Realtime;
    }
    try_ordinary()
}

/// What there is short of real time.
fn try_ordinary() -> Precedence {
    // SAFETY: no memory is passed; PRIO_PROCESS 0 is the calling thread.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let wanted = nice.min(NICE);
    if set_ordinary(wanted).is_ok() {
        Precedence::Nice(wanted)
    } else if set_ordinary(nice).is_ok() {
        Precedence::Slice
    } else {
        Precedence::None
    }
}

/// The processors that a thread may run on.
#[derive(Clone, Copy, Debug)]
pub struct Affinity(Option<rustix::thread::CpuSet>);

impl Affinity {
    /// Those of the calling thread.
    pub fn ours() -> Self {
        Self(rustix::thread::sched_getaffinity(None).ok())
    }

    /// Gives them to a thread, or, `None`, to the calling one. Where the kernel refuses, it keeps what it
    /// has.
    pub fn give(&self, tid: Option<u32>) {
        let tid = tid.map(|tid| rustix::thread::Pid::from_raw(tid.cast_signed()));
        if let (Some(set), None | Some(Some(_))) = (&self.0, tid) {
            let _ = rustix::thread::sched_setaffinity(tid.flatten(), set);
        }
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Processor time that all threads of this process have used.
pub fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(used.tv_sec).unwrap_or(0),
        u32::try_from(used.tv_nsec).unwrap_or(0),
    )
}

/// `struct sched_attr`, as of its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// SCHED_OTHER with this nice value and [`SLICE`], for this thread alone.
fn set_ordinary(nice: i32) -> io::Result<()> {
    const SCHED_FLAG_RESET_ON_FORK: u64 = 1;
    let attributes = Attributes {
        size: u32::try_from(size_of::<Attributes>()).unwrap_or(48),
        flags: SCHED_FLAG_RESET_ON_FORK,
        nice,
        runtime: SLICE,
        ..Attributes::default()
    };
    // SAFETY: the structure is initialised and says its own size; 0 is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nice value, real-time priority and policy of a thread.
    fn of(stat: &str) -> [i64; 3] {
        let text = std::fs::read_to_string(stat).unwrap();
        let (_, rest) = text.rsplit_once(')').unwrap();
        let fields: Vec<i64> = rest
            .split_ascii_whitespace()
            .map(|f| f.parse().unwrap_or(0))
            .collect();
        [fields[16], fields[37], fields[38]]
    }

    fn child() -> [i64; 3] {
        let text = std::process::Command::new("cat")
            .arg("/proc/self/stat")
            .output()
            .unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.stdout).unwrap();
        of(file.path().to_str().unwrap())
    }

    #[test]
    fn precedence_is_what_it_says_and_not_inherited() {
        let before = of("/proc/thread-self/stat");
        for take in [try_realtime, try_ordinary] {
            // A thread for each: what it takes ends with it.
            std::thread::spawn(move || {
                let got = take();
                let now = of("/proc/thread-self/stat");
                match got {
                    Precedence::Realtime => assert_eq!(now[1..], [1, 1]),
                    Precedence::Nice(n) => assert_eq!(now, [i64::from(n), 0, 0]),
                    Precedence::Slice | Precedence::None => assert_eq!(now, before),
                }
                assert_eq!(child(), before, "{got}");
                let inner = std::thread::spawn(|| of("/proc/thread-self/stat"));
                assert_eq!(inner.join().unwrap(), before, "{got}");
            })
            .join()
            .unwrap();
        }
    }
}
