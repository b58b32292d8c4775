//! `--follow`: trees of processes recorded together, one boundary for all.
//!
//! `targets/tree.c` keeps an invariant across processes and says why it holds at any instant; its
//! sizes are repeated here. The other trees are of real programs.

use super::loads;
use super::survive::{delay, killed, recording_is_whole, seen};
use super::ways::{TRACKERS, refused};
use crate::process::{self, PATIENCE, Running, command, left_alone, wait_for};
use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use stillframe_image::{CheckpointId, Marks, SpaceId};
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "follow::instant_wp_async",
        about: "one boundary for a whole tree: what a child has received its parent has sent",
        run: |length| instant("wp-async", length),
    },
    Scenario {
        name: "follow::instant_bpf",
        about: "the same with the log of faults and pre-images",
        run: |length| instant("bpf", length),
    },
    Scenario {
        name: "follow::paranoid",
        about: "children that come and go: every process of every checkpoint is bit-exact",
        run: paranoid,
    },
    Scenario {
        name: "follow::programs",
        about: "bash and python with subprocesses: same output, status of the root, all seen",
        run: programs,
    },
    Scenario {
        name: "follow::daemon",
        about: "a root that ends before its daemon: its status is returned, the daemon is recorded",
        run: daemon,
    },
    Scenario {
        name: "follow::brood",
        about: "a hundred children that end at once",
        run: brood,
    },
    Scenario {
        name: "follow::child_crash",
        about: "a crash of a child makes a checkpoint, and the root goes on",
        run: child_crash,
    },
    Scenario {
        name: "follow::nginx",
        about: "attaching to a master with workers under load",
        run: nginx,
    },
    Scenario {
        name: "follow::survive",
        about: "SIGKILL of the recorder of a tree: every process goes on and is right",
        run: survives,
    },
];

const PAGE: u64 = 4096;
/// Two pages with a copy of the figure each.
const FIGURE: u64 = 2 * PAGE;
/// Words that fit into a pipe.
const PIPE: u64 = 65536 / 8;

/// Workers of `tree.c`: number, pid, address of the balance.
fn workers(said: &str) -> Vec<(u64, u32, u64)> {
    said.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("worker ")?.split(' ');
            let number = words.next()?.parse().ok()?;
            let pid = words.next()?.parse().ok()?;
            let address = u64::from_str_radix(words.next()?.trim(), 16).ok()?;
            Some((number, pid, address))
        })
        .collect()
}

/// The processes of a checkpoint by pid.
fn processes(recording: &Recording, id: CheckpointId) -> Result<BTreeMap<u32, SpaceId>> {
    let mut all = BTreeMap::new();
    for node in recording.tree(id)?.processes {
        all.insert(recording.process(id, node.id)?.process.pid, node.id);
    }
    Ok(all)
}

/// A figure of one process: its first copy. The second is written after it.
fn figure(recording: &Recording, id: CheckpointId, space: SpaceId, at: u64) -> Result<u64> {
    let memory = recording.memory(id, space)?;
    let mut copies = [0; 2];
    for (page, copy) in (0..).zip(&mut copies) {
        let mut word = [0; 8];
        memory.read(at + page * PAGE, &mut word)?;
        *copy = u64::from_le_bytes(word);
    }
    let [first, second] = copies;
    ensure!(
        first == second || first == second + 1,
        "process {} is of two instants: {first} and {second} at {at:#x}",
        space.0
    );
    Ok(first)
}

fn instant(tracker: &str, length: &Length) -> Result<Outcome> {
    if let Some(why) = refused(tracker)? {
        return skip(why);
    }
    let dir = place::scratch()?;
    let arguments = ["--children", "6", "--seconds", "20000"];
    let exe = place::target("tree.c")?;
    let mut target = Running::start(&mut command(exe, &arguments), dir.path())?;
    let pid = target.ready()?;
    wait_for("all workers are there", || {
        workers(&target.stdout()).len() == 6
    })?;
    let (ledger, shared) = (target.address("ledger")?, target.address("shared")?);
    let count = length.checkpoints.to_string();
    let out = dir.path().join("run.still");
    let args = [
        "--follow",
        "--hz",
        "100",
        "--copy",
        "after",
        "--tracker",
        tracker,
        "--count",
        &count,
    ];
    let mut recorder = still::attach(dir.path(), &args, &out, pid)?;
    let patience = PATIENCE + Duration::from_secs(length.checkpoints);
    still::ended_with(&mut recorder, 0, patience)?;
    let workers = workers(&target.stdout());
    for pid in workers.iter().map(|w| w.1).chain([pid]) {
        left_alone(pid)?;
    }
    target.finish()?;
    still::verify(dir.path(), &out)?;

    let recording = still::open(&out)?;
    let (mut compared, mut moved, mut last) = (0u64, 0u64, 0);
    for row in recording.rows() {
        let id = row.id;
        let all = processes(&recording, id)?;
        let root = *all.get(&pid).context("the root is missing")?;
        let mut progress = 0;
        for &(number, child, address) in &workers {
            let at = || format!("checkpoint {id}, worker {number}");
            // Orphaned by the one in between, some are nobody's child when we come.
            let Some(space) = all.get(&child).copied() else {
                continue;
            };
            let place = |base: u64| base + number * FIGURE;
            let sent = figure(&recording, id, root, place(ledger)).with_context(at)?;
            let received = figure(&recording, id, space, address).with_context(at)?;
            ensure!(
                received <= sent && sent - received <= PIPE + 1,
                "{}: {received} received of {sent} sent",
                at()
            );
            if number % 3 != 1 {
                let both = figure(&recording, id, root, place(shared)).with_context(at)?;
                ensure!(
                    both <= received && received <= both + 1,
                    "{}: {received} received, {both} in shared memory",
                    at()
                );
            }
            compared += 1;
            progress += received;
        }
        ensure!(
            progress >= last,
            "checkpoint {id} is older than the one before"
        );
        moved += u64::from(progress > last);
        last = progress;
    }
    let rows = recording.rows().len() as u64;
    ensure!(
        compared >= rows * 4,
        "{compared} workers in {rows} checkpoints"
    );
    ensure!(moved * 2 > rows, "the tree hardly moved");
    passed(format!(
        "checkpoints {rows}, workers compared with their parent {compared}, broken invariants 0"
    ))
}

fn paranoid(length: &Length) -> Result<Outcome> {
    let mut told = Vec::new();
    for tracker in TRACKERS {
        if let Some(why) = refused(tracker)? {
            return skip(why);
        }
        let dir = place::scratch()?;
        let out = dir.path().join("run.still");
        let seconds = if length.full { "120" } else { "3" };
        let cmd: [OsString; 6] = [
            place::target("tree.c")?.into(),
            "--children".into(),
            "4".into(),
            "--seconds".into(),
            seconds.into(),
            "--churn".into(),
        ];
        let args = [
            "--follow",
            "--paranoid",
            "--hz",
            "50",
            "--copy",
            "after",
            "--tracker",
            tracker,
        ];
        let mut run = still::record(dir.path(), &args, &out, &cmd)?;
        still::ended_with(&mut run, 0, PATIENCE * 5).context(tracker)?;
        let said = run.stdout();
        ensure!(said.contains("\nok "), "{tracker}: the tree said: {said}");
        let summary = still::summary(&said)?;
        let compared = summary.is_exact().context(tracker)?;
        still::verify(dir.path(), &out)?;
        let (most, ever) = population(&still::open(&out)?)?;
        ensure!(most >= 3, "{tracker}: at most {most} processes at once");
        told.push(format!(
            "{tracker}: checkpoints {} pages compared {} processes {ever}",
            compared.checkpoints, compared.pages_compared
        ));
    }
    passed(told.join(", "))
}

/// Processes in one checkpoint at most, and in all.
fn population(recording: &Recording) -> Result<(usize, usize)> {
    let (mut most, mut ever) = (0, BTreeSet::new());
    for row in recording.rows() {
        let tree = recording.tree(row.id)?;
        most = most.max(tree.processes.len());
        ever.extend(tree.processes.iter().map(|n| n.id));
    }
    Ok((most, ever.len()))
}

/// Runs a shell script alone and followed: the output and the status must be the same. Returns
/// the recording.
fn script(dir: &Path, shell: &str, script: &str, status: i32) -> Result<(Running, Recording)> {
    let cmd: [OsString; 3] = [shell.into(), "-c".into(), script.into()];
    let (alone, expected, _) = process::run(&mut command(&cmd[0], &cmd[1..]), dir)?;
    ensure!(
        alone.code() == Some(status),
        "the script by itself: {alone}"
    );
    let out = still::fresh(dir, "run.still");
    let mut run = still::record(dir, &["--follow", "--hz", "100"], &out, &cmd)?;
    still::ended_with(&mut run, status, PATIENCE)?;
    ensure!(
        run.stdout().starts_with(&expected),
        "the output differs: {} instead of {expected}",
        run.stdout()
    );
    still::verify(dir, &out)?;
    Ok((run, still::open(&out)?))
}

fn programs(_: &Length) -> Result<Outcome> {
    let (Some(bash), Some(python)) = (place::program("bash"), loads::python()) else {
        return skip("no bash or python3 on this machine");
    };
    let dir = place::scratch()?;
    let lines = "import subprocess, os, time
for i in range(4):
    print(subprocess.run(['sh', '-c', 'sleep 0.1; echo sub %d' % i], capture_output=True).stdout)
pid = os.fork()
if pid == 0:
    inner = os.fork()
    if inner == 0:
        time.sleep(0.2)
        os._exit(4)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) + 1)
print('forked', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let text = format!(
        "\"{}\" -c \"{lines}\"; (exit 3); echo $?; echo abc | tr a-c A-C | sed s/A/x/; sleep 0.1 & wait; exit 5",
        python.display()
    );
    let (_, recording) = script(dir.path(), &bash.to_string_lossy(), &text, 5)?;
    let mut names = BTreeSet::new();
    for row in recording.rows() {
        for node in recording.tree(row.id)?.processes {
            let process = recording.process(row.id, node.id)?.process;
            names.insert(String::from_utf8_lossy(&process.name).into_owned());
        }
    }
    let (most, ever) = population(&recording)?;
    for name in ["bash", "python", "sleep"] {
        ensure!(
            names.iter().any(|n| n.starts_with(name)),
            "no {name} among {names:?}"
        );
    }
    ensure!(most >= 3, "at most {most} processes in one checkpoint");
    passed(format!(
        "checkpoints {}, processes {ever}, at once {most}",
        recording.rows().len()
    ))
}

fn daemon(_: &Length) -> Result<Outcome> {
    let Some(setsid) = place::program("setsid") else {
        return skip("no setsid on this machine");
    };
    let dir = place::scratch()?;
    let note = dir.path().join("note");
    let script = format!(
        "({} sh -c 'sleep 0.6; echo done > {}' &) ; sleep 0.2; exit 3",
        setsid.display(),
        note.display()
    );
    let out = dir.path().join("run.still");
    let cmd: [OsString; 3] = ["sh".into(), "-c".into(), script.into()];
    let mut run = still::record(dir.path(), &["--follow", "--hz", "100"], &out, &cmd)?;
    still::ended_with(&mut run, 3, PATIENCE)?;
    wait_for("the daemon has written", || {
        std::fs::read_to_string(&note).is_ok_and(|n| n == "done\n")
    })?;
    still::verify(dir.path(), &out)?;
    let recording = still::open(&out)?;
    let mut orphaned = 0;
    for row in recording.rows() {
        let tree = recording.tree(row.id)?;
        orphaned += u32::from(tree.processes.iter().all(|n| n.id != SpaceId(0)));
    }
    ensure!(
        orphaned > 0,
        "no checkpoint holds the daemon without the root"
    );
    passed(format!(
        "checkpoints {}, after the root's end {orphaned}",
        recording.rows().len()
    ))
}

fn brood(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let text = "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done; \
                for i in 1 2 3 4 5 6 7 8 9 10; do (exit $i); echo $?; done; echo ok";
    let (_, recording) = script(dir.path(), "sh", text, 0)?;
    let forks = recording.rows().iter();
    let forks = forks.filter(|r| r.tick.marks.contains(Marks::FORK)).count();
    ensure!(
        forks > 0,
        "no checkpoint is marked as the first with a child"
    );
    let (_, ever) = population(&recording)?;
    passed(format!(
        "checkpoints {}, processes in them {ever}",
        recording.rows().len()
    ))
}

fn child_crash(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("crash.c")?;
    // `true` keeps the shell from replacing itself by the program.
    let script = format!(
        "ulimit -c 0; {} --after 0.3 --kind segv; s=$?; true; sleep 0.1; echo status $s; exit 7",
        exe.display()
    );
    let out = dir.path().join("run.still");
    let cmd: [OsString; 3] = ["sh".into(), "-c".into(), script.into()];
    let mut run = still::record(dir.path(), &["--follow", "--hz", "50"], &out, &cmd)?;
    still::ended_with(&mut run, 7, PATIENCE)?;
    ensure!(
        run.stdout().contains("status 139"),
        "the shell saw another end of its child: {}",
        run.stdout()
    );
    still::verify(dir.path(), &out)?;
    let recording = still::open(&out)?;
    let mut crashes = recording.rows().iter();
    let crash = crashes
        .find(|r| r.tick.marks.contains(Marks::CRASH))
        .context("no checkpoint is marked as a crash")?;
    let child = run.ready()?;
    let all = processes(&recording, crash.id)?;
    let space = *all.get(&child).context("the crash has no child")?;
    ensure!(all.len() == 2, "the crash has processes {all:?}");
    let mut word = [0; 8];
    let memory = recording.memory(crash.id, space)?;
    memory.read(run.address("last_words")?, &mut word)?;
    ensure!(
        u64::from_le_bytes(word) == 0x5ca1_ab1e_5ca1_ab1e,
        "the last words are {word:x?}"
    );
    for (&pid, &id) in &all {
        let threads = recording.process(crash.id, id)?.threads;
        let signals: Vec<i32> = threads
            .iter()
            .filter_map(|t| t.signal.as_ref().map(|s| s.signal))
            .collect();
        let expected: &[i32] = if pid == child { &[11] } else { &[] };
        ensure!(
            signals == expected,
            "signals of process {pid} (the child is {child}): {signals:?}"
        );
    }
    let last = recording.rows().last().context("no checkpoint")?;
    ensure!(
        last.id > crash.id && last.tick.marks.contains(Marks::EXIT),
        "the root's exit is not recorded behind the crash of its child"
    );
    let core = dir.path().join("child.core");
    let args: [OsString; 7] = [
        "export".into(),
        "--core".into(),
        still::moment(&out, &crash.id.to_string()),
        "--pid".into(),
        child.to_string().into(),
        "-o".into(),
        core.clone().into(),
    ];
    let (ended, _, err) = still::run(dir.path(), &args)?;
    ensure!(
        ended.success() && core.exists(),
        "export of the child: {err}"
    );
    passed(format!(
        "checkpoint {} of {}",
        crash.id,
        recording.rows().len()
    ))
}

fn nginx(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let Some(mut server) = loads::Nginx::start_with_workers(dir.path())? else {
        return skip("no nginx or ab on this machine");
    };
    server.load()?;
    let pid = server.pid();
    let out = dir.path().join("run.still");
    let count = (length.checkpoints / 2).to_string();
    let args = ["--follow", "--paranoid", "--hz", "100", "--count", &count];
    let mut recorder = still::attach(dir.path(), &args, &out, pid)?;
    while recorder.ended()?.is_none() {
        server.load()?;
    }
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    still::summary(&recorder.stdout())?.is_exact()?;
    still::verify(dir.path(), &out)?;
    let recording = still::open(&out)?;
    let mut fewest = usize::MAX;
    for row in recording.rows() {
        let all = processes(&recording, row.id)?;
        ensure!(all.contains_key(&pid), "the master is missing");
        fewest = fewest.min(all.len());
    }
    ensure!(fewest >= 3, "only {fewest} processes");
    let last = recording.rows().last().context("no checkpoint")?;
    for pid in processes(&recording, last.id)?.into_keys() {
        left_alone(pid)?;
    }
    server.check()?;
    server.stop()?;
    passed(format!("checkpoints {count}, processes {fewest}"))
}

fn survives(length: &Length) -> Result<Outcome> {
    let (mut random, seed) = Random::seeded();
    let mut checkpoints = 0;
    let kills = length.kills;
    for round in 0..kills {
        let context = || format!("kill {round}, seed {seed}");
        let tracker = TRACKERS[round as usize % 2];
        if refused(tracker)?.is_some() {
            continue;
        }
        let dir = place::scratch()?;
        let cmd: [OsString; 6] = [
            place::target("tree.c")?.into(),
            "--children".into(),
            "5".into(),
            "--seconds".into(),
            "20000".into(),
            "--churn".into(),
        ];
        let out = dir.path().join("run.still");
        let how = [
            "--follow",
            "--hz",
            "200",
            "--copy",
            "after",
            "--tracker",
            tracker,
        ];
        let mut recorder = still::record(dir.path(), &how, &out, &cmd)?;
        let pid = recorder.ready().with_context(context)?;
        std::thread::sleep(delay(&mut random));
        let known = if random.below(2) == 0 { seen(&out) } else { 0 };
        recorder.signal(Signal::KILL)?;
        killed(&mut recorder).with_context(context)?;
        let mut left = Ok(());
        for _ in 0..500 {
            left = left_alone(pid);
            if left.is_ok() || !process::alive(pid) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        left.with_context(context)?;
        checkpoints += recording_is_whole(dir.path(), &out, known).with_context(context)?;
        // Its children must answer before it ends.
        process::signal(pid, Signal::TERM).with_context(context)?;
        wait_for("the orphaned tree ends", || !process::alive(pid)).with_context(context)?;
        let said = recorder.stdout();
        ensure!(
            said.contains("\nok ") && !said.contains("wrong"),
            "{}: the tree said: {said}",
            context()
        );
    }
    passed(format!(
        "kills {kills}, checkpoints left {checkpoints}, seed {seed}"
    ))
}
