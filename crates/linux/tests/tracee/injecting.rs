//! System calls inside a target that watches itself.

use crate::Test;
use crate::attaching::libc_signal::{TERM, USR1};
use crate::support::{Target, looks, run_for, run_out, with_halt};
use std::time::Duration;
use stillframe_linux::inject::Injector;
use stillframe_linux::tracee::{Halt, Tracee};

pub const TESTS: &[Test] = &[
    ("injection_into_a_spinning_thread", spinning),
    ("injection_into_a_sleeping_thread", sleeping),
    ("injection_into_interrupted_calls", in_calls),
    ("injection_into_a_stopped_job", in_job),
    ("state_that_only_the_target_can_ask_for", state),
];

/// O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY.
pub const UFFD_FLAGS: u32 = 0o2_000_000 | 0o4000 | 1;

pub fn inject(halt: &mut Halt<'_>) {
    let pid = i64::from(halt.pid());
    let mut injector = Injector::prepare(halt).unwrap();
    let fd = injector.userfaultfd(halt, UFFD_FLAGS).unwrap();
    let link = std::fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&fd)
    ));
    assert_eq!(link.unwrap().to_str(), Some("anon_inode:[userfaultfd]"));
    let tids = halt.threads().to_vec();
    for tid in tids {
        // getpid
        match injector.syscall(halt, tid, 39, [0; 6]) {
            Ok(result) => assert_eq!(result, pid),
            Err(e) => assert!(Injector::is_refusal(&e), "{e}"),
        }
    }
    injector.finish(halt).unwrap();
}

fn verified(args: &[&str], rounds: u32, pause: Duration) {
    let mut target = Target::start("registers", args);
    let pid = target.pid();
    let before = looks(pid);
    let mut tracee = Tracee::attach(pid).unwrap();
    for _ in 0..rounds {
        run_for(&mut tracee, pause);
        with_halt(&mut tracee, |halt| {
            let registers = halt.registers(pid).unwrap();
            let blocked = halt.blocked(pid).unwrap();
            let (mut xstate, mut after) = (Vec::new(), Vec::new());
            halt.xstate(pid, &mut xstate).unwrap();
            inject(halt);
            assert_eq!(halt.registers(pid).unwrap(), registers);
            assert_eq!(halt.blocked(pid).unwrap(), blocked);
            halt.xstate(pid, &mut after).unwrap();
            assert_eq!(xstate, after);
        })
        .unwrap();
    }
    tracee.detach().unwrap();
    assert_eq!(before, looks(pid));
    target.signal(TERM);
    let line = target.line();
    assert!(line.starts_with("ok"), "{line}");
}

fn spinning() {
    verified(&[], 1000, Duration::from_micros(300));
}

fn sleeping() {
    verified(&["sleep"], 1000, Duration::from_micros(700));
}

fn in_calls() {
    let mut target = Target::start("calls", &["3"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    for _ in 0..150 {
        run_for(&mut tracee, Duration::from_millis(10));
        if with_halt(&mut tracee, inject).is_none() {
            break;
        }
    }
    run_out(&mut tracee);
    let line = target.line();
    assert!(line.starts_with("ok"), "{line}");
}

fn in_job() {
    let mut target = Target::start("scenes", &["job", "2"]);
    target.signal(19);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    run_for(&mut tracee, Duration::from_millis(50));
    assert!(tracee.is_job_stopped());
    for _ in 0..20 {
        with_halt(&mut tracee, inject).unwrap();
    }
    assert!(tracee.is_job_stopped());
    target.signal(18);
    run_for(&mut tracee, Duration::from_millis(50));
    assert!(!tracee.is_job_stopped());
    target.signal(USR1);
    run_out(&mut tracee);
    assert!(target.line().starts_with("ok"));
}

fn state() {
    let target = Target::start("registers", &[]);
    let pid = target.pid();
    let mut tracee = Tracee::attach(pid).unwrap();
    with_halt(&mut tracee, |halt| {
        let mut injector = Injector::prepare(halt).unwrap();
        let term = injector.sigaction(halt, TERM as u32).unwrap();
        assert!(term.handler > 4096, "{term:?}");
        assert_eq!(injector.sigaction(halt, USR1 as u32).unwrap().handler, 0);
        let refused = injector.sigaction(halt, 99).unwrap_err();
        assert!(Injector::is_refusal(&refused), "{refused}");
        let stack = injector.sigaltstack(halt, pid).unwrap();
        assert_eq!((stack.flags, stack.size), (2, 0));
        assert_eq!(injector.getitimer(halt, 0).unwrap().value_us, 0);
        assert!(injector.timer_gettime(halt, 0).is_err());
        let brk = injector.brk(halt).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        assert!(
            maps.contains(&format!("-{brk:x} rw-p")) || maps.contains(&format!("-{brk:08x} rw-p")),
            "{brk:x} {maps}"
        );
        match injector.tid_address(halt, pid) {
            Ok(address) => assert_ne!(address, 0),
            Err(e) => assert!(Injector::is_refusal(&e), "{e}"),
        }
        injector.finish(halt).unwrap();
        let mut thread = stillframe_image::Thread::default();
        halt.thread_state(pid, &mut thread).unwrap();
        halt.thread_static(pid, &mut thread).unwrap();
        assert_eq!(thread.name, b"registers");
        assert!(thread.robust_list.is_some());
    })
    .unwrap();
    tracee.detach().unwrap();
    target.signal(TERM);
    target.finish();
}
