//! The tracer is killed at any instant, the target goes on.

use crate::Test;
use crate::attaching::libc_signal::TERM;
use crate::injecting::inject;
use crate::support::{Target, looks, run_for, with_halt};
use std::process::{Command, Stdio};
use std::time::Duration;
use stillframe_linux::inject::Injector;
use stillframe_linux::tracee::{Halt, Tracee};

pub const TESTS: &[Test] = &[
    ("a_spinning_target_outlives_its_tracers", spinning),
    ("a_sleeping_target_outlives_its_tracers", sleeping),
    ("interrupted_calls_outlive_their_tracers", calls),
];

/// What the child does: attach, inject, detach, until killed.
pub fn be_a_tracer(pid: u32) -> ! {
    loop {
        let mut tracee = Tracee::attach(pid).unwrap();
        with_halt(&mut tracee, inject_if_possible).unwrap();
        let _ = tracee.detach();
    }
}

/// Unless the tracer before was killed so lately that its call is not over.
fn inject_if_possible(halt: &mut Halt<'_>) -> bool {
    match Injector::prepare(halt) {
        Ok(injector) => {
            injector.finish(halt).unwrap();
            inject(halt);
            true
        }
        Err(e) => {
            assert!(Injector::is_refusal(&e), "{e}");
            false
        }
    }
}

fn kill_tracers(pid: u32, count: u32) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(pid);
    for _ in 0..count {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut tracer = Command::new(std::env::current_exe().unwrap())
            .args(["--be-a-tracer", &pid.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(2000 + random % 9000));
        tracer.kill().unwrap();
        let status = tracer.wait().unwrap();
        if std::os::unix::process::ExitStatusExt::signal(&status) != Some(9) {
            println!("a tracer ended by itself: {status}");
            return;
        }
    }
}

/// The far end of the stack may keep what we wrote there; nobody has reason to look at it.
/// Bytes of the vDSO that hold code and data must be as before; its padding may keep our
/// instructions, which nobody runs, until the next recorder puts zeros there.
fn survives(args: &[&str]) {
    let mut target = Target::start("registers", args);
    let pid = target.pid();
    let before = looks(pid);
    kill_tracers(pid, 200);
    // Whoever comes next clears what is left.
    let mut tracee = Tracee::attach(pid).unwrap();
    while !with_halt(&mut tracee, inject_if_possible).unwrap() {
        run_for(&mut tracee, Duration::from_millis(1));
    }
    tracee.detach().unwrap();
    assert_eq!(before, looks(pid));
    target.signal(TERM);
    let line = target.line();
    assert!(line.starts_with("ok"), "{line}");
}

fn spinning() {
    survives(&["shallow"]);
}

fn sleeping() {
    survives(&["sleep", "shallow"]);
}

fn calls() {
    let target = Target::start("calls", &["4", "orphaned"]);
    kill_tracers(target.pid(), 200);
    target.finish();
}
