//! Attaching, stopping, detaching.

use crate::Test;
use crate::support::{Target, kill, looks, run_for, run_out, with_halt};
use std::process::Command;
use std::time::{Duration, Instant};
use stillframe_linux::tracee::{AttachError, Event, Outcome, Stop, Tracee};

pub const TESTS: &[Test] = &[
    ("attach_and_detach_while_threads_come_and_go", churn),
    ("every_thread_of_a_halt_is_stopped", all_stopped),
    ("interrupted_calls_are_restarted", calls),
    ("signals_are_not_lost", signals),
    ("timers_are_not_lost", timers),
    ("children_are_left_alone", children),
    ("a_killed_target_ends", killed_target),
    ("refusals_are_told_apart", refusals),
    ("other_children_are_left_to_others", other_children),
];

fn churn() {
    let target = Target::start("scenes", &["churn", "30"]);
    let pid = target.pid();
    let end = Instant::now() + Duration::from_millis(2500);
    let mut rounds = 0;
    while Instant::now() < end {
        let mut tracee = match Tracee::attach(pid) {
            Ok(t) => t,
            Err(e) => panic!("{e}"),
        };
        for _ in 0..rounds % 5 {
            run_for(&mut tracee, Duration::from_millis(3));
            with_halt(&mut tracee, |halt| assert!(!halt.threads().is_empty())).unwrap();
        }
        tracee.detach().unwrap();
        rounds += 1;
    }
    assert!(rounds > 20, "{rounds}");
    target.finish();
}

fn all_stopped() {
    let target = Target::start("scenes", &["churn", "15"]);
    let pid = target.pid();
    let mut tracee = Tracee::attach(pid).unwrap();
    let mut seen = 0;
    for _ in 0..300 {
        run_for(&mut tracee, Duration::from_millis(1));
        let done = with_halt(&mut tracee, |halt| {
            let mut buffer = Vec::new();
            for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
                let entry = entry.unwrap();
                let tid: u32 = entry.file_name().into_string().unwrap().parse().unwrap();
                let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                // Traced and stopped, or past its end.
                let state = stat.rsplit(") ").next().and_then(|s| s.chars().next());
                if halt.threads().contains(&tid) {
                    assert_eq!(state, Some('t'), "thread {tid}");
                    assert_ne!(halt.registers(tid).unwrap().rip, 0);
                    halt.xstate(tid, &mut buffer).unwrap();
                    assert!(buffer.len() >= 576);
                    seen += 1;
                } else {
                    assert!(
                        matches!(state, Some('Z' | 'X') | None),
                        "thread {tid}: {state:?}"
                    );
                }
            }
        });
        if done.is_none() {
            break;
        }
    }
    assert!(seen > 100);
    tracee.detach().unwrap();
    target.finish();
}

fn calls() {
    let mut target = Target::start("calls", &["3"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    let end = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < end {
        run_for(&mut tracee, Duration::from_millis(4));
        with_halt(&mut tracee, |_| ());
    }
    run_out(&mut tracee);
    let line = target.line();
    assert!(line.starts_with("ok"), "{line:?}");
}

fn storm(scene: &str, count: &str) {
    let mut target = Target::start("scenes", &[scene, count]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    while !tracee.has_exited() {
        run_for(&mut tracee, Duration::from_millis(5));
        with_halt(&mut tracee, |_| ());
    }
    let line = target.line();
    assert!(line.starts_with("ok"), "{line:?}");
}

fn signals() {
    storm("queue", "10000");
}

fn timers() {
    storm("timer", "10000");
}

fn children() {
    let mut target = Target::start("scenes", &["children", "30"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    while !tracee.has_exited() {
        run_for(&mut tracee, Duration::from_millis(2));
        with_halt(&mut tracee, |_| ());
    }
    let line = target.line();
    assert!(line.starts_with("ok"), "{line:?}");
}

fn killed_target() {
    let target = Target::start("scenes", &["spin", "4"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    // While it runs, and while it stands.
    with_halt(&mut tracee, |_| ()).unwrap();
    let Stop::All(halt) = tracee.stop(Duration::from_secs(1)).unwrap() else {
        panic!()
    };
    kill(halt.pid(), libc_signal::KILL);
    drop(halt);
    let events = run_out(&mut tracee);
    assert_eq!(
        events.last(),
        Some(&Event::Ended(Outcome::Killed {
            signal: libc_signal::KILL,
            core: false
        }))
    );
    assert!(
        tracee
            .stop(Duration::from_secs(1))
            .is_err_and(|e| e.is_gone())
    );
}

fn refusals() {
    let refused = |pid: u32| Tracee::attach(pid).unwrap_err();
    assert!(matches!(
        refused(std::process::id()),
        AttachError::Ourselves(_)
    ));
    assert!(matches!(
        refused(0x7fff_fff0),
        AttachError::NoSuchProcess(_)
    ));
    if std::fs::read("/proc/2/comm").is_ok_and(|n| n == b"kthreadd\n") {
        assert!(matches!(refused(2), AttachError::KernelThread(2)));
    }
    let mut zombie = Command::new("true").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(matches!(refused(zombie.id()), AttachError::Zombie(_)));
    zombie.wait().unwrap();
    let target = Target::start("scenes", &["spin", "1"]);
    let tracee = Tracee::attach(target.pid()).unwrap();
    let second = refused(target.pid());
    assert!(
        matches!(second, AttachError::AlreadyTraced { .. }),
        "{second}"
    );
    let thread = tracee
        .tids()
        .iter()
        .find(|t| **t != target.pid())
        .copied()
        .unwrap();
    assert!(matches!(refused(thread), AttachError::NotAProcess { pid, .. } if pid == target.pid()));
    tracee.detach().unwrap();
    let before = looks(target.pid());
    Tracee::attach(target.pid()).unwrap().detach().unwrap();
    assert_eq!(before, looks(target.pid()));
}

/// A child of ours that nobody traces ends meanwhile: it stays for us to reap.
fn other_children() {
    let target = Target::start("scenes", &["churn", "5"]);
    let mut child = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    while !tracee.has_exited() {
        run_for(&mut tracee, Duration::from_millis(5));
        with_halt(&mut tracee, |_| ());
    }
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

pub mod libc_signal {
    pub const KILL: i32 = 9;
    pub const USR1: i32 = 10;
    pub const SEGV: i32 = 11;
    pub const TERM: i32 = 15;
    pub const CONT: i32 = 18;
    pub const STOP: i32 = 19;
}
