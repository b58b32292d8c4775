//! Trees of processes.

use crate::Test;
use crate::attaching::libc_signal::KILL;
use crate::support::{Target, kill, targets};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stillframe_linux::inject::Injector;
use stillframe_linux::tracee::{
    Event, Family, FamilyStop, FamilyWake, Halt, Launch, Outcome, Stop, Tracee,
};

pub const TESTS: &[Test] = &[
    ("family_of_a_fork_bomb", || scene("bomb", "3", 255)),
    ("family_of_short_lives", || scene("flat", "300", 300)),
    ("family_of_vfork_and_spawn", || scene("spawn", "30", 60)),
    ("family_of_guests_of_guests", || scene("nested", "40", 80)),
    ("family_of_threads_that_fork", || scene("threads", "4", 4)),
    ("family_of_killed_children", || scene("killed", "60", 40)),
    ("family_of_crashing_children", || scene("crash", "1", 2)),
    ("family_of_signalled_children", || {
        scene("signals", "500", 1)
    }),
    ("family_of_stopped_children", || scene("job", "20", 1)),
    ("family_of_a_daemon", daemon),
    ("family_of_python", python),
    ("family_that_is_there_already", crowd),
    (
        "family_born_children_are_held_and_can_be_injected_into",
        held,
    ),
    ("family_killed_during_stops", killed_in_stop),
    ("family_that_does_not_follow", unfollowed),
    ("family_detaches_while_it_forks", detach),
    ("family_outlives_its_tracers", tracers),
    ("launched_programs_do_not_inherit_precedence", precedence),
];

/// What a recorder does with a family, as far as tracing goes.
pub struct Keeper {
    pub family: Family,
    pub alive: BTreeSet<u32>,
    pub guests: BTreeSet<u32>,
    pub ended: BTreeMap<u32, Outcome>,
    pub born: usize,
    pub execs: usize,
    pub halts: usize,
    pub inject: bool,
}

impl Keeper {
    pub fn new(family: Family) -> Self {
        Self {
            alive: family.pids().collect(),
            guests: BTreeSet::new(),
            ended: BTreeMap::new(),
            family,
            born: 0,
            execs: 0,
            halts: 0,
            inject: false,
        }
    }

    pub fn deal_with(&mut self, pid: u32, event: Event) {
        match event {
            Event::Born { shares_memory, .. } => {
                if shares_memory {
                    assert!(self.guests.insert(pid), "{pid} told twice");
                } else {
                    self.guests.remove(&pid);
                    assert!(self.alive.insert(pid), "{pid} told twice");
                    self.born += 1;
                    if self.inject {
                        self.set_up(pid);
                    }
                    self.family.release(pid).unwrap();
                }
            }
            Event::Exec => {
                self.execs += 1;
                let own = self.guests.remove(&pid);
                assert_eq!(self.alive.insert(pid), own, "{pid}");
                if self.inject {
                    self.set_up(pid);
                }
                self.family.release(pid).unwrap();
            }
            Event::Fatal { .. } | Event::Exiting { .. } => {
                assert!(self.alive.contains(&pid), "{pid}: {event:?}");
                self.family.release(pid).unwrap();
            }
            Event::Ended(outcome) => {
                assert!(self.alive.remove(&pid) | self.guests.remove(&pid), "{pid}");
                self.ended.insert(pid, outcome);
            }
            _ => {}
        }
    }

    fn set_up(&mut self, pid: u32) {
        let event = match self.family.stop_one(pid, Duration::from_secs(5)) {
            Ok(Stop::All(mut halt)) => {
                inject(&mut halt);
                halt.resume().unwrap();
                return;
            }
            Ok(Stop::TimedOut { tid, why }) => panic!("{tid}: {why}"),
            // It has been killed.
            Ok(Stop::Event(event)) => event,
            Err(e) => {
                assert!(e.is_gone(), "{e}");
                return;
            }
        };
        self.deal_with(pid, event);
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while !self.family.is_over() {
            match self.family.wait(Some(end), &[]).unwrap() {
                FamilyWake::Event { pid, event } => self.deal_with(pid, event),
                FamilyWake::Deadline => return,
                FamilyWake::Descriptor(_) => unreachable!(),
            }
        }
    }

    /// One attempt, as a tick is.
    pub fn halt(&mut self) {
        let (pid, event) = match self.family.stop_all(Duration::from_millis(50)) {
            Ok(FamilyStop::All(mut halt)) => {
                let pids: BTreeSet<u32> = halt.pids().collect();
                assert!(pids.is_subset(&self.alive), "{pids:?} {:?}", self.alive);
                let mut threads = 0;
                for process in halt.processes() {
                    for tid in process.threads().to_vec() {
                        assert!(process.seen_stopped(tid).is_some());
                        match process.registers(tid) {
                            Ok(r) => assert_ne!(r.rip, 0),
                            Err(e) => assert!(e.is_gone(), "{e}"),
                        }
                        threads += 1;
                    }
                }
                assert!(threads >= pids.len());
                halt.resume().unwrap();
                self.halts += 1;
                return;
            }
            Ok(FamilyStop::Event { pid, event }) => (pid, event),
            Ok(FamilyStop::TimedOut { .. }) => return,
            Err(e) => {
                assert!(e.is_gone(), "{e}");
                return;
            }
        };
        self.deal_with(pid, event);
    }

    /// Ticks until all is over.
    pub fn run_out(&mut self, period: Duration) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.family.is_over() {
            self.run_for(period);
            if !self.family.is_over() {
                self.halt();
            }
            assert!(Instant::now() < end, "{:?} {:?}", self.alive, self.guests);
        }
        assert!(self.alive.is_empty() && self.guests.is_empty());
    }
}

fn inject(halt: &mut Halt<'_>) {
    match Injector::prepare(halt) {
        Ok(mut injector) => {
            match injector.brk(halt) {
                Ok(at) => assert_ne!(at, 0),
                Err(e) => assert!(e.is_gone(), "{e}"),
            }
            let _ = injector.finish(halt);
        }
        Err(e) => assert!(e.is_gone() || Injector::is_refusal(&e), "{e}"),
    }
}

fn follow(target: &Target) -> Keeper {
    let tracee = Tracee::attach(target.pid()).unwrap();
    Keeper::new(Family::new(tracee, true).unwrap())
}

/// A scene under ticks, with calls made in every child. At least `born` children of it are seen,
/// unless some were made before we came.
fn scene(name: &str, argument: &str, born: usize) {
    for inject in [false, true] {
        let mut target = Target::start("tree", &[name, argument, "patient"]);
        let mut keeper = follow(&target);
        keeper.inject = inject;
        keeper.run_out(Duration::from_millis(2));
        let line = target.line();
        assert!(line.starts_with("ok"), "{line:?}");
        assert_eq!(keeper.family.outcome(), Some(Outcome::Exited(0)));
        println!(
            "  {name}: born {} execs {} halts {} ended {}",
            keeper.born,
            keeper.execs,
            keeper.halts,
            keeper.ended.len()
        );
        assert!(keeper.born + keeper.execs >= born, "{}", keeper.born);
        assert!(keeper.family.left_out().is_empty());
    }
}

fn launched(program: &str, args: &[&str]) -> Keeper {
    let tracee = Tracee::launch(Launch {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        cwd: None,
    })
    .unwrap();
    let mut keeper = Keeper::new(Family::new(tracee, true).unwrap());
    let pid = keeper.family.pid();
    keeper.halt();
    assert_eq!(keeper.halts, 1);
    keeper.family.release(pid).unwrap();
    keeper
}

/// The first process ends, its grandchild is still recorded.
fn daemon() {
    let program = targets().unwrap().join("tree");
    let mut keeper = launched(program.to_str().unwrap(), &["daemon"]);
    let start = Instant::now();
    keeper.run_out(Duration::from_millis(5));
    assert!(start.elapsed() > Duration::from_millis(250));
    assert_eq!(keeper.born, 2);
    assert_eq!(keeper.ended.len(), 3);
    assert_eq!(keeper.family.outcome(), Some(Outcome::Exited(6)));
}

fn python() {
    if Command::new("python3").arg("-V").output().is_err() {
        println!("  no python3");
        return;
    }
    let script = "import subprocess\nfor i in range(20):\n    r = subprocess.run(['sh', '-c', f'exit {i}'])\n    assert r.returncode == i\n    assert subprocess.run(['true'], close_fds=False).returncode == 0\nraise SystemExit(23)";
    let mut keeper = launched("python3", &["-c", script]);
    keeper.run_out(Duration::from_millis(5));
    assert_eq!(keeper.family.outcome(), Some(Outcome::Exited(23)));
    assert!(keeper.execs >= 40, "{}", keeper.execs);
}

fn crowd() {
    for _ in 0..5 {
        let mut target = Target::start("tree", &["crowd", "6"]);
        let mut keeper = follow(&target);
        // The six that fork go on forking, so how many of their children are there varies.
        assert!(keeper.alive.len() >= 7, "{:?}", keeper.alive);
        keeper.run_out(Duration::from_millis(3));
        assert!(keeper.born > 6 * 200, "{}", keeper.born);
        let line = target.line();
        assert!(line.starts_with("ok"), "{line:?}");
    }
}

/// Until it is released, a child does not run.
fn held() {
    let mut target = Target::start("tree", &["flat", "10", "patient"]);
    let mut keeper = follow(&target);
    let first = loop {
        match keeper
            .family
            .wait(Some(Instant::now() + Duration::from_secs(5)), &[])
            .unwrap()
        {
            FamilyWake::Event {
                pid,
                event:
                    Event::Born {
                        parent,
                        shares_memory: false,
                    },
            } => {
                assert_eq!(parent, target.pid());
                break pid;
            }
            FamilyWake::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    keeper.alive.insert(first);
    let look = |keeper: &mut Keeper| {
        let stop = keeper.family.stop_one(first, Duration::from_secs(1));
        let Ok(Stop::All(mut halt)) = stop else {
            panic!("{stop:?}")
        };
        assert_eq!(halt.threads(), [first]);
        inject(&mut halt);
        halt.registers(first).unwrap()
    };
    let before = look(&mut keeper);
    // What fork returns in a child.
    assert_eq!(before.rax, 0);
    keeper.run_for(Duration::from_millis(100));
    assert_eq!(look(&mut keeper), before);
    assert!(!keeper.ended.contains_key(&first));
    keeper.family.release(first).unwrap();
    keeper.run_out(Duration::from_millis(2));
    assert!(keeper.ended.contains_key(&first));
    assert!(target.line().starts_with("ok"));
}

/// SIGKILL for a child that stands still, and for one in the middle of forks.
fn killed_in_stop() {
    let target = Target::start("tree", &["spin", "3"]);
    let mut keeper = follow(&target);
    let child = keeper
        .alive
        .iter()
        .copied()
        .find(|p| *p != target.pid())
        .unwrap();
    keeper.run_for(Duration::from_millis(20));
    let Ok(FamilyStop::All(mut halt)) = keeper.family.stop_all(Duration::from_secs(1)) else {
        panic!()
    };
    kill(child, KILL);
    std::thread::sleep(Duration::from_millis(5));
    let threads = halt.process(child).unwrap().threads().to_vec();
    for tid in threads {
        // Gone, or in its exit stop, where it can still be asked.
        if let Err(e) = halt.process(child).unwrap().registers(tid) {
            assert!(e.is_gone(), "{e}");
        }
    }
    for process in halt.processes().filter(|p| p.pid() == target.pid()) {
        for tid in process.threads() {
            assert!(process.registers(*tid).is_ok());
        }
    }
    halt.resume().unwrap();
    while !keeper.ended.contains_key(&child) {
        keeper.run_for(Duration::from_millis(5));
        keeper.halt();
    }
    assert_eq!(keeper.alive.len(), 1);
    kill(target.pid(), KILL);
    keeper.run_out(Duration::from_millis(5));
    let end = Outcome::Killed {
        signal: KILL,
        core: false,
    };
    assert!(keeper.ended.values().all(|o| *o == end));
    // Makers killed while they fork.
    for i in 0..30 {
        let target = Target::start("tree", &["threads", "4"]);
        let mut keeper = follow(&target);
        keeper.run_for(Duration::from_micros(3000 + i * 700));
        kill(target.pid(), KILL);
        keeper.run_out(Duration::from_millis(1));
    }
}

fn unfollowed() {
    let mut target = Target::start("tree", &["flat", "200"]);
    let tracee = Tracee::attach(target.pid()).unwrap();
    let mut keeper = Keeper::new(Family::new(tracee, false).unwrap());
    keeper.run_out(Duration::from_millis(2));
    assert_eq!(keeper.born, 0);
    assert_eq!(keeper.ended.len(), 1);
    assert_eq!(keeper.family.outcome(), Some(Outcome::Exited(0)));
    assert!(target.line().starts_with("ok"));
}

fn detach() {
    detach_from("bomb", "12");
    detach_from("spawn", "150");
}

fn detach_from(name: &str, argument: &str) {
    let mut target = Target::start("tree", &[name, argument]);
    let mut rounds = 0;
    while rounds < 40 {
        let Ok(tracee) = Tracee::attach(target.pid()) else {
            break;
        };
        let Ok(family) = Family::new(tracee, true) else {
            break;
        };
        let mut keeper = Keeper::new(family);
        keeper.run_for(Duration::from_micros(500 + rounds * 300));
        if rounds % 2 == 0 {
            keeper.family.detach().unwrap();
        }
        rounds += 1;
    }
    assert!(rounds > 5, "{rounds}");
    let line = target.line();
    assert!(line.starts_with("ok"), "{line:?}");
}

/// What the child does: follow and tick until killed.
pub fn be_a_follower(pid: u32) -> ! {
    let tracee = Tracee::attach(pid).unwrap();
    let mut keeper = Keeper::new(Family::new(tracee, true).unwrap());
    keeper.inject = true;
    keeper.run_out(Duration::from_millis(1));
    std::process::exit(0)
}

fn tracers() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for (name, argument) in [("bomb", "8"), ("threads", "4"), ("spawn", "150")] {
        let mut killed = 0;
        while killed < 17 {
            let mut target = Target::start("tree", &[name, argument]);
            for _ in 0..6 {
                let mut tracer = Command::new(std::env::current_exe().unwrap())
                    .args(["--be-a-follower", &target.pid().to_string()])
                    .stdin(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(99);
                std::thread::sleep(Duration::from_micros(3000 + (random >> 33) % 40_000));
                tracer.kill().unwrap();
                let status = tracer.wait().unwrap();
                if std::os::unix::process::ExitStatusExt::signal(&status) == Some(KILL) {
                    killed += 1;
                }
            }
            let line = target.line();
            assert!(line.starts_with("ok"), "{name}: {line:?}");
        }
    }
}

fn precedence() {
    let of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<String> = stat
            .rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect();
        // nice, rt_priority, policy
        (fields[16].clone(), fields[37].clone(), fields[38].clone())
    };
    let before = of(std::process::id());
    let got = stillframe_linux::sched::try_realtime();
    println!("  {got:?}");
    let tracee = Tracee::launch(Launch {
        program: "sleep".into(),
        args: vec!["10".into()],
        cwd: None,
    })
    .unwrap();
    assert_eq!(of(tracee.pid()), before);
    let pid = tracee.pid();
    Family::new(tracee, true).unwrap().kill().unwrap();
    assert!(std::fs::read(format!("/proc/{pid}/stat")).is_err());
}
