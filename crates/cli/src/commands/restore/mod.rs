//! `still restore`.

mod tree;

use crate::args::ProcessArgs;
use crate::args::check::FilesArg;
use crate::args::restore::{PidChoice, RestoreArgs};
use crate::exit::{Code, fail, of_outcome};
use crate::{open, output, world};
use serde::Serialize;
use std::io::Write as _;
use stillframe_image::{CheckpointId, Gap, SpaceId};
use stillframe_linux::child;
use stillframe_linux::signals::{Interrupt, Interrupts};
use stillframe_linux::tracee::Outcome;
use stillframe_restore::check::Purpose;
use stillframe_restore::files::Putting;
use stillframe_restore::lazy::{Server, let_off};
use stillframe_restore::restore::{Pid, Request, Restored, restore};
use stillframe_restore::space::Backing;
use stillframe_restore::{Error, Source};
use stillframe_store::Recording;

/// SIGKILL.
const KILL: i32 = 9;
/// ECHILD: nobody to wait for.
const NO_CHILD: i32 = 10;

/// One process, as JSON.
#[derive(Serialize)]
struct Report {
    pid: u32,
    took_ns: u64,
    pages: u64,
    /// Pages read back and compared, with `--paranoid`.
    pages_compared: Option<u64>,
    gaps: Vec<Difference>,
    /// All processes of a tree, of which the above is the first or the sum.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<Member>,
}

/// One process of a tree, as JSON.
#[derive(Serialize)]
struct Member {
    /// Its number in the recording.
    process: u32,
    pid: u32,
    /// Its pid as it sees it.
    number: u32,
}

impl From<&Restored<'_>> for Report {
    fn from(one: &Restored<'_>) -> Self {
        Self {
            pid: one.pid,
            took_ns: u64::try_from(one.took.as_nanos()).unwrap_or(u64::MAX),
            pages: one.pages,
            pages_compared: one.verified.as_ref().map(|v| v.pages),
            gaps: one.gaps.iter().map(Difference::from).collect(),
            processes: Vec::new(),
        }
    }
}

impl From<&Gap> for Difference {
    fn from(gap: &Gap) -> Self {
        Self {
            subject: gap.subject.clone(),
            reason: gap.reason.clone(),
        }
    }
}

#[derive(Serialize)]
struct Difference {
    subject: String,
    reason: String,
}

/// Starts the copies and, unless told otherwise, waits for them. Exits as the process does.
pub fn run(args: &RestoreArgs) -> anyhow::Result<u8> {
    let opened = open::moment(&args.moment)?;
    if args.process.is_none() {
        let checkpoint = opened.recording.checkpoint(opened.id)?;
        if checkpoint.processes.len() > 1 {
            return tree::run(args, &opened.recording, opened.id, &checkpoint);
        }
    }
    if args.count > 1 && args.pid == Some(PidChoice::Same) {
        return Err(fail(
            Code::Usage,
            "only one process can have the pid it had; leave out --pid same or -n",
        ));
    }
    let chosen = ProcessArgs {
        process: args.process,
        pid: None,
    };
    let process = open::process(&opened.recording, opened.id, &chosen)?.id;
    let purpose = Purpose::New {
        same_pids: args.pid == Some(PidChoice::Same),
    };
    let (recording, id) = (&opened.recording, opened.id);
    world::examine(recording, id, args.files.files.into(), purpose)?;
    let (mut puttings, sources) = ready(args, recording, id, &[process])?;
    let request = Request {
        pid: match args.pid {
            None | Some(PidChoice::New) => Pid::New,
            Some(PidChoice::Same) => Pid::Same,
        },
        stopped: args.stopped,
        lazy: args.lazy,
        detached: args.detach,
        paranoid: args.paranoid,
    };
    // Signals to us are passed on, so they must not end us while there is nobody to pass them to.
    let interrupts = Interrupts::new()?;
    let mut started: Vec<Restored<'_>> = Vec::new();
    for source in sources.iter().flatten().cycle().take(args.count as usize) {
        match restore(source, request, &mut Backing::default()) {
            Ok(one) => started.push(one),
            Err(error) => {
                for one in &started {
                    child::kill(one.pid);
                }
                take_back(&mut puttings);
                return Err(failed(error));
            }
        }
    }
    for mut putting in puttings {
        putting.finish();
    }
    tell(args, &started.iter().map(Report::from).collect::<Vec<_>>())?;
    let pids: Vec<u32> = started.iter().map(|one| one.pid).collect();
    let servers: Vec<(u32, Server<'_>)> = started
        .into_iter()
        .filter_map(|one| Some((one.pid, one.server?)))
        .collect();
    // They end with this thread, the one that made them, until their memory is there.
    std::thread::scope(|scope| {
        let serving: Vec<_> = servers
            .into_iter()
            .map(|(pid, server)| (pid, scope.spawn(move || bring(pid, server))))
            .collect();
        let mut status = 0;
        // Those whose end was told to the thread that brought their memory.
        let mut elsewhere = Vec::new();
        if !args.detach {
            for pid in pids {
                match child::wait(pid, &interrupts) {
                    Ok(outcome) if status == 0 => status = of_outcome(outcome),
                    Ok(_) => {}
                    Err(error) if error.errno() == Some(NO_CHILD) => elsewhere.push(pid),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for (pid, one) in serving {
            let ended = match one.join() {
                Ok(done) => done?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            if let Some(outcome) = ended
                && status == 0
                && elsewhere.contains(&pid)
            {
                status = of_outcome(outcome);
            }
        }
        Ok(status)
    })
}

/// Puts files where they are to be, and reads these processes, for each copy that has files of its
/// own.
fn ready<'a>(
    args: &RestoreArgs,
    recording: &'a Recording,
    id: CheckpointId,
    processes: &[SpaceId],
) -> anyhow::Result<(Vec<Putting<'a>>, Vec<Vec<Source<'a>>>)> {
    // Copies have files of their own only if those are copies as well.
    let own = match args.files.files {
        FilesArg::Private => args.count,
        _ => 1,
    };
    let mut puttings = (0..own)
        .map(|copy| world::plan(recording, id, &args.files, copy))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut sources = Vec::new();
    for at in 0..puttings.len() {
        let ready = puttings[at].apply().and_then(|()| {
            let all = processes.iter().map(|process| {
                let mut source = Source::open(recording, id, *process)?;
                puttings[at].redirect(source.image_mut());
                Ok(source)
            });
            all.collect::<Result<Vec<_>, Error>>()
        });
        match ready {
            Ok(source) => sources.push(source),
            Err(error) => {
                take_back(&mut puttings);
                return Err(failed(error));
            }
        }
    }
    Ok((puttings, sources))
}

/// Files become again what they were before us.
fn take_back(puttings: &mut [Putting<'_>]) {
    for putting in puttings {
        if let Err(error) = putting.undo() {
            tracing::error!(%error, "a file is not what it was before");
        }
    }
}

/// Brings the memory of a process. If that fails it cannot go on.
fn bring(pid: u32, mut server: Server<'_>) -> anyhow::Result<Option<Outcome>> {
    if let Err(error) = server.serve() {
        Interrupt {
            signal: KILL,
            from_terminal: false,
        }
        .pass_on(pid);
        return Err(failed(error));
    }
    // A process that has ended meanwhile needs nothing.
    if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
        return Ok(None);
    }
    Ok(let_off(pid).unwrap_or_else(|error| {
        tracing::warn!(pid, %error, "it ends when this command ends");
        None
    }))
}

fn tell(args: &RestoreArgs, started: &[Report]) -> anyhow::Result<()> {
    if args.json {
        if args.detach {
            return output::json(&started);
        }
        // Standard output is the program's.
        let mut text = serde_json::to_vec(&started)?;
        text.push(b'\n');
        std::io::stderr().lock().write_all(&text)?;
        return Ok(());
    }
    if !args.quiet
        && let Some(one) = started.first()
    {
        let mut stderr = std::io::stderr().lock();
        for gap in &one.gaps {
            let line = format!("still: {}: {}", gap.subject, gap.reason);
            writeln!(stderr, "{}", output::printable(line.as_bytes()))?;
        }
    }
    if args.detach {
        let mut out = output::stdout();
        for one in started {
            writeln!(out, "{}", one.pid)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// An error of restoring with its exit code.
fn failed(error: Error) -> anyhow::Error {
    match crate::exit::of_restore(&error) {
        Some(code) => fail(code, error.to_string()),
        None => error.into(),
    }
}
