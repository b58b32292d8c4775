//! `still restore`.

use crate::args::ProcessArgs;
use crate::args::check::FilesArg;
use crate::args::restore::{PidChoice, RestoreArgs};
use crate::exit::{Code, fail, of_outcome};
use crate::{open, output, world};
use serde::Serialize;
use std::io::Write as _;
use stillframe_image::{Checkpoint, SpaceId};
use stillframe_linux::child;
use stillframe_linux::signals::{Interrupt, Interrupts};
use stillframe_linux::tracee::Outcome;
use stillframe_restore::check::Purpose;
use stillframe_restore::files::Putting;
use stillframe_restore::lazy::{Server, let_off};
use stillframe_restore::restore::{Pid, Request, Restored, restore};
use stillframe_restore::space::Backing;
use stillframe_restore::{Error, Source};

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
}

#[derive(Serialize)]
struct Difference {
    subject: String,
    reason: String,
}

/// Starts the copies and, unless told otherwise, waits for them. Exits as the process does.
pub fn run(args: &RestoreArgs) -> anyhow::Result<u8> {
    if args.count > 1 && args.pid == PidChoice::Same {
        return Err(fail(
            Code::Usage,
            "only one process can have the pid it had; leave out --pid same or -n",
        ));
    }
    let opened = open::moment(&args.moment)?;
    let chosen = ProcessArgs {
        process: args.process,
        pid: None,
    };
    let process = open::process(&opened.recording, opened.id, &chosen)?.id;
    let purpose = Purpose::New {
        same_pids: args.pid == PidChoice::Same,
    };
    let (recording, id) = (&opened.recording, opened.id);
    alone(args, &recording.checkpoint(id)?, process)?;
    world::examine(recording, id, args.files.files.into(), purpose)?;
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
            let mut source = Source::open(recording, id, process)?;
            puttings[at].redirect(source.image_mut());
            Ok(source)
        });
        match ready {
            Ok(source) => sources.push(source),
            Err(error) => {
                take_back(&mut puttings);
                return Err(failed(error));
            }
        }
    }
    let request = Request {
        pid: match args.pid {
            PidChoice::New => Pid::New,
            PidChoice::Same => Pid::Same,
        },
        stopped: args.stopped,
        lazy: args.lazy,
        detached: args.detach,
        paranoid: args.paranoid,
    };
    // Signals to us are passed on, so they must not end us while there is nobody to pass them to.
    let interrupts = Interrupts::new()?;
    let mut started: Vec<Restored<'_>> = Vec::new();
    for source in sources.iter().cycle().take(args.count as usize) {
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
    tell(args, &started)?;
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

/// A process that has recorded children would wait for children that are not there; so it comes back
/// without them only if it was named.
fn alone(args: &RestoreArgs, checkpoint: &Checkpoint, process: SpaceId) -> anyhow::Result<()> {
    let mut children = checkpoint.processes.iter();
    let child = children.find(|p| p.parent == Some(process));
    match child {
        Some(child) if args.process.is_none() => Err(fail(
            Code::Refused,
            format!(
                "a process tree cannot be restored: process {} has a child, {}, which would not come \
                 back with it; name one process with --process N (`still show` lists them)",
                process.0, child.process.pid
            ),
        )),
        _ => Ok(()),
    }
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

fn tell(args: &RestoreArgs, started: &[Restored<'_>]) -> anyhow::Result<()> {
    if args.json {
        let all: Vec<Report> = started
            .iter()
            .map(|one| Report {
                pid: one.pid,
                took_ns: u64::try_from(one.took.as_nanos()).unwrap_or(u64::MAX),
                pages: one.pages,
                pages_compared: one.verified.as_ref().map(|v| v.pages),
                gaps: one
                    .gaps
                    .iter()
                    .map(|g| Difference {
                        subject: g.subject.clone(),
                        reason: g.reason.clone(),
                    })
                    .collect(),
            })
            .collect();
        if args.detach {
            return output::json(&all);
        }
        // Standard output is the program's.
        let mut text = serde_json::to_vec(&all)?;
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
