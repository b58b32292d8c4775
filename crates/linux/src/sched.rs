//! Precedence over the target.
//!
//! A thread that is resumed preempts the one that resumes it, if they share a CPU: continuing 64
//! spinning threads took 36 ms for that reason alone, and less than 0.1 ms with SCHED_FIFO.

use std::io;
use std::time::Duration;

/// What was got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// SCHED_FIFO, lowest priority: before every ordinary thread.
    Realtime,
    /// A better nice value.
    Nice(i32),
    /// A shorter time slice (EEVDF, Linux 6.12): scheduled sooner, for less long.
    Slice,
    /// Nothing.
    None,
}

/// Gives the calling thread the best precedence it may have. Threads and processes it starts do not
/// inherit SCHED_FIFO.
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
    let who = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned();
    // SAFETY: no memory is passed; on Linux PRIO_PROCESS with a thread's id is that thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, who, -20) } == 0 {
        return Precedence::Nice(-20);
    }
    if set_slice(100_000).is_ok() {
        Precedence::Slice
    } else {
        Precedence::None
    }
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

fn set_slice(nanoseconds: u64) -> io::Result<()> {
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or(48);
    // SAFETY: PRIO_PROCESS 0 is the calling thread; no memory is passed.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = Attributes {
        size,
        nice,
        runtime: nanoseconds,
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
