//! What is reported, and in what state the target is then.

use crate::Test;
use crate::attaching::libc_signal::{CONT, SEGV, STOP, USR1};
use crate::support::{Target, run_for, run_out, run_until, targets, with_halt};
use std::time::Duration;
use stillframe_linux::tracee::{Event, Launch, LaunchError, Outcome, Tracee};

pub const TESTS: &[Test] = &[
    ("exec_from_another_thread", exec),
    ("the_first_thread_may_end_first", main_exit),
    ("exit_is_seen_while_memory_is_there", exit_group),
    ("a_fatal_signal_is_seen_before_it_kills", segv),
    ("job_control_goes_through", job),
    ("a_stopped_job_stays_stopped", job_detach),
    ("launched_programs_stand_at_their_first_instruction", launch),
    ("what_cannot_be_launched_is_told", launch_errors),
];

fn exec() {
    let mut target = Target::start("scenes", &["exec"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    run_until(&mut tracee, |e| matches!(e, Event::Exec));
    assert_eq!(tracee.tids(), [target.pid()]);
    let registers = with_halt(&mut tracee, |h| h.registers(h.pid()).unwrap()).unwrap();
    assert_eq!(registers.rax, 0);
    // Still held.
    assert!(!run_for(&mut tracee, Duration::from_millis(50)).contains(&Event::Exec));
    tracee.release().unwrap();
    run_out(&mut tracee);
    assert_eq!(target.line(), "ok");
}

fn main_exit() {
    let mut target = Target::start("scenes", &["mainexit"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    while !tracee.has_exited() {
        run_for(&mut tracee, Duration::from_millis(5));
        with_halt(&mut tracee, |_| ());
    }
    assert_eq!(target.line(), "ok");
    assert_eq!(tracee.outcome(), Some(Outcome::Exited(0)));
}

fn exit_group() {
    let target = Target::start("scenes", &["exitgroup"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    let before = tracee.tids().len();
    let event = run_until(&mut tracee, |e| matches!(e, Event::Exiting { .. }));
    assert!(
        matches!(event, Event::Exiting { status: 0x700, .. }),
        "{event:?}"
    );
    let (threads, readable) = with_halt(&mut tracee, |h| {
        let all = h.threads().iter().all(|t| h.registers(*t).is_ok());
        (
            h.threads().len(),
            all && std::fs::read(format!("/proc/{}/maps", h.pid())).is_ok_and(|m| !m.is_empty()),
        )
    })
    .unwrap();
    assert_eq!(threads, before);
    assert!(readable);
    tracee.release().unwrap();
    run_out(&mut tracee);
    assert_eq!(tracee.outcome(), Some(Outcome::Exited(7)));
}

fn segv() {
    let target = Target::start("scenes", &["segv"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    let event = run_until(&mut tracee, |e| matches!(e, Event::Fatal { .. }));
    let Event::Fatal { tid, siginfo } = event else {
        panic!()
    };
    assert_eq!((tid, siginfo.signal), (target.pid(), SEGV));
    // si_addr
    assert_eq!(
        u64::from_ne_bytes(siginfo.raw[16..24].try_into().unwrap()),
        16
    );
    with_halt(&mut tracee, |h| {
        assert_eq!(h.threads().len(), 3);
        assert_eq!(h.fatal_signal(tid).unwrap().unwrap(), siginfo);
    })
    .unwrap();
    tracee.release().unwrap();
    let events = run_out(&mut tracee);
    assert!(
        events.iter().any(|e| matches!(e, Event::Exiting { .. })),
        "{events:?}"
    );
    assert!(matches!(
        tracee.outcome(),
        Some(Outcome::Killed { signal: SEGV, .. })
    ));
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

fn job() {
    let mut target = Target::start("scenes", &["job", "3"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    for _ in 0..10 {
        target.signal(STOP);
        run_until(&mut tracee, |e| matches!(e, Event::JobStopped));
        run_for(&mut tracee, Duration::from_millis(5));
        with_halt(&mut tracee, |h| assert_eq!(h.threads().len(), 4)).unwrap();
        let events = run_for(&mut tracee, Duration::from_millis(20));
        assert!(!events.contains(&Event::JobContinued), "{events:?}");
        target.signal(CONT);
        run_until(&mut tracee, |e| matches!(e, Event::JobContinued));
    }
    target.signal(USR1);
    run_out(&mut tracee);
    assert!(target.line().starts_with("ok"));
}

fn job_detach() {
    let target = Target::start("scenes", &["job", "3"]);
    target.signal(STOP);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    run_until(&mut tracee, |e| matches!(e, Event::JobStopped));
    tracee.detach().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(state(target.pid()), 'T');
    target.signal(CONT);
    target.signal(USR1);
    target.finish();
}

fn launch() {
    let launch = Launch {
        program: targets().unwrap().join("scenes").into(),
        args: vec!["quiet".into()],
        cwd: Some("/".into()),
    };
    let mut tracee = Tracee::launch(launch).unwrap();
    let pid = tracee.pid();
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/cwd"))
            .unwrap()
            .to_str(),
        Some("/")
    );
    assert_eq!(
        std::fs::read(format!("/proc/{pid}/comm")).unwrap(),
        b"scenes\n"
    );
    let mask = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(mask.contains("SigBlk:\t0000000000000000"), "{mask}");
    // What we were started with ignored (a shell does that to what it starts in the background)
    // stays so; what Rust ignores (SIGPIPE) does not.
    let ignored = |status: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:\t"));
        u64::from_str_radix(line.unwrap(), 16).unwrap()
    };
    let ours = ignored(&std::fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(ignored(&mask), ours & !(1 << (13 - 1)), "{mask}");
    with_halt(&mut tracee, |h| {
        // The stack is as the kernel made it: argc on top.
        let registers = h.registers(pid).unwrap();
        let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        let mut argc = [0u8; 8];
        std::os::unix::fs::FileExt::read_exact_at(&memory, &mut argc, registers.rsp).unwrap();
        assert_eq!(u64::from_ne_bytes(argc), 2);
    })
    .unwrap();
    tracee.release().unwrap();
    run_out(&mut tracee);
    assert_eq!(tracee.outcome(), Some(Outcome::Exited(0)));
}

fn launch_errors() {
    let try_program = |program: &str, cwd: Option<&str>| {
        let cwd = cwd.map(Into::into);
        Tracee::launch(Launch {
            program: program.into(),
            args: vec![],
            cwd,
        })
        .unwrap_err()
    };
    let e = try_program("no-such-program-here", None);
    assert!(matches!(e, LaunchError::NotFound(_)), "{e}");
    let e = try_program("/etc/passwd", None);
    assert!(matches!(e, LaunchError::NotExecutable { .. }), "{e}");
    let e = try_program("/", None);
    assert!(matches!(e, LaunchError::NotExecutable { .. }), "{e}");
    let e = try_program("true", Some("/no/such/directory"));
    assert!(matches!(e, LaunchError::Directory { .. }), "{e}");
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let e = try_program(script.to_str().unwrap(), None);
    assert!(matches!(e, LaunchError::NotExecutable { .. }), "{e}");
}
