//! Calls in a process whose state is put back by hand afterwards, so that a target that watches
//! itself must not notice.

use crate::Test;
use crate::attaching::libc_signal::{CONT, STOP, TERM};
use crate::support::{Target, kill, looks, run_for, run_out, targets, with_halt};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::time::Duration;
use stillframe_image::Thread;
use stillframe_linux::Error;
use stillframe_linux::remote::{Remote, SCRATCH};
use stillframe_linux::tracee::{Halt, Launch, Tracee};

pub const TESTS: &[Test] = &[
    ("calls_in_a_spinning_thread", spinning),
    ("calls_in_threads_in_interrupted_calls", in_calls),
    ("calls_in_a_stopped_job", in_job),
    ("calls_in_a_program_just_started", just_started),
];

// Numbers of x86-64.
const MMAP: i64 = 9;
const MUNMAP: i64 = 11;
const PREAD: i64 = 17;
const CLOSE: i64 = 3;
const GETTID: i64 = 186;

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> i32 {
    match result {
        Err(Error::Call { source, .. }) => source.raw_os_error().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// All that a remote can do, in every thread, and everything put back.
fn use_it(halt: &mut Halt<'_>) {
    let pid = halt.pid();
    let tids = halt.threads().to_vec();
    let mut states = vec![Thread::default(); tids.len()];
    for (tid, state) in tids.iter().zip(&mut states) {
        halt.thread_state(*tid, state).unwrap();
    }
    let affinity = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let allowed = |s: String| {
        s.lines()
            .find(|l| l.starts_with("Cpus_allowed"))
            .map(str::to_owned)
    };
    let before = allowed(affinity());
    let avoid = std::iter::once(0x1000_0000..0x7000_0000_0000);
    let avoid: Vec<_> = avoid.collect();
    let mut remote = Remote::prepare(halt, &avoid).unwrap();
    assert!(remote.pages().start >= 0x7000_0000_0000);
    let scratch = remote.scratch();
    assert_eq!(scratch.end - scratch.start, SCRATCH);
    for tid in &tids {
        let got = remote.call(halt, *tid, GETTID, [0; 6]).unwrap();
        assert_eq!(got, u64::from(*tid));
        assert_eq!(
            errno(remote.call(halt, *tid, CLOSE, [99_999, 0, 0, 0, 0, 0])),
            9
        );
    }
    let tid = tids[0];
    // Memory at a place of our choice, and gone again.
    let at = 0x2000_0000;
    let map = [at, 8192, 3, 0x10_0022, u64::MAX, 0];
    assert_eq!(remote.call(halt, tid, MMAP, map).unwrap(), at);
    assert_eq!(errno(remote.call(halt, tid, MMAP, map)), 17);
    let text: Vec<u8> = (0..8192u32).map(|n| (n % 251) as u8).collect();
    remote.write(at, &text).unwrap();
    let mut back = vec![0; 8192];
    remote.read(at, &mut back).unwrap();
    assert_eq!(back, text);
    remote
        .call(halt, tid, MUNMAP, [at, 8192, 0, 0, 0, 0])
        .unwrap();
    assert!(remote.read(at, &mut back).is_err());
    // A file of ours, there.
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"what is in it").unwrap();
    for low in [0, 40] {
        remote.reserve_descriptors(low);
        let number = remote.send_fd(halt, tid, file.as_fd()).unwrap();
        let again = remote.send_fd(halt, tid, file.as_fd()).unwrap();
        assert_ne!(number, again);
        assert!(remote.channel().unwrap() > low);
        let args = [u64::from(again), scratch.start, 8, 5, 0, 0];
        assert_eq!(remote.call(halt, tid, PREAD, args).unwrap(), 8);
        let mut got = [0; 8];
        remote.read(scratch.start, &mut got).unwrap();
        assert_eq!(&got, b"is in it");
        // The same open file, offset and all.
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut taken = std::fs::File::from(remote.take_fd(number).unwrap());
        let mut text = String::new();
        taken.read_to_string(&mut text).unwrap();
        assert_eq!(text, "what is in it");
        assert_eq!(file.stream_position().unwrap(), 13);
        for fd in [number, again] {
            let args = [u64::from(fd), 0, 0, 0, 0, 0];
            remote.call(halt, tid, CLOSE, args).unwrap();
        }
        remote.close_channel(halt, tid).unwrap();
    }
    assert!(remote.take_fd(77).is_err());
    remote.finish(halt, tid).unwrap();
    for (tid, state) in tids.iter().zip(&states) {
        halt.put_xstate(*tid, &state.xstate).unwrap();
        halt.put_registers(*tid, &state.registers).unwrap();
        halt.put_blocked(*tid, state.blocked).unwrap();
        let mut now = Thread::default();
        halt.thread_state(*tid, &mut now).unwrap();
        assert_eq!(&now, state);
    }
    assert_eq!(allowed(affinity()), before);
}

fn rounds(tracee: &mut Tracee, rounds: u32) {
    for _ in 0..rounds {
        run_for(tracee, Duration::from_millis(20));
        with_halt(tracee, use_it).unwrap();
    }
}

fn spinning() {
    let target = Target::start("registers", &[]);
    let before = looks(target.pid());
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    rounds(&mut tracee, 20);
    tracee.detach().unwrap();
    assert_eq!(looks(target.pid()), before);
    target.signal(TERM);
    drop(target.finish());
}

fn in_calls() {
    let target = Target::start("calls", &["2"]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    rounds(&mut tracee, 30);
    tracee.detach().unwrap();
    drop(target.finish());
}

fn in_job() {
    let target = Target::start("registers", &[]);
    target.signal(STOP);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    rounds(&mut tracee, 3);
    assert!(tracee.is_job_stopped());
    target.signal(CONT);
    rounds(&mut tracee, 3);
    tracee.detach().unwrap();
    target.signal(TERM);
    drop(target.finish());
}

fn just_started() {
    let launch = Launch {
        program: targets().unwrap().join("registers").into(),
        args: Vec::new(),
        cwd: None,
    };
    let mut tracee = Tracee::launch(launch).unwrap();
    with_halt(&mut tracee, use_it).unwrap();
    tracee.release().unwrap();
    run_for(&mut tracee, Duration::from_millis(200));
    kill(tracee.pid(), TERM);
    run_out(&mut tracee);
    assert_eq!(
        tracee.outcome(),
        Some(stillframe_linux::tracee::Outcome::Exited(0))
    );
}
