//! A whole tree.

use super::{Difference, Member, Report, failed, ready, take_back, tell};
use crate::args::restore::{PidChoice, RestoreArgs};
use crate::exit::{Code, fail, of_outcome};
use crate::world;
use stillframe_image::{Checkpoint, CheckpointId, SpaceId};
use stillframe_linux::child;
use stillframe_linux::signals::Interrupts;
use stillframe_restore::check::Purpose;
use stillframe_restore::tree::{Request, Restored, restore};
use stillframe_store::Recording;

impl From<&Restored> for Report {
    fn from(tree: &Restored) -> Self {
        let compared = tree.members.iter().map(|m| m.verified.as_ref());
        Self {
            pid: root(tree),
            took_ns: u64::try_from(tree.took.as_nanos()).unwrap_or(u64::MAX),
            pages: tree.members.iter().map(|m| m.pages).sum(),
            pages_compared: compared.map(|v| v.map(|v| v.pages)).sum(),
            gaps: tree.gaps.iter().map(Difference::from).collect(),
            processes: tree
                .members
                .iter()
                .map(|m| Member {
                    process: m.id.0,
                    pid: m.pid,
                    number: m.number,
                })
                .collect(),
        }
    }
}

fn root(tree: &Restored) -> u32 {
    tree.members.first().map_or(0, |m| m.pid)
}

/// Starts the copies and, unless told otherwise, waits for their roots. Exits as the first that
/// fails does.
pub(super) fn run(
    args: &RestoreArgs,
    recording: &Recording,
    id: CheckpointId,
    checkpoint: &Checkpoint,
) -> anyhow::Result<u8> {
    let count = checkpoint.processes.len();
    if args.pid == Some(PidChoice::New) {
        return Err(fail(
            Code::Usage,
            format!(
                "the {count} processes of this tree wait for each other by their pids, so they keep them; \
                 leave out --pid new, or choose one process with --process N"
            ),
        ));
    }
    if args.lazy {
        return Err(fail(
            Code::Usage,
            format!(
                "--lazy works for one process, and this is a tree of {count}; leave it out, or choose one \
                 process with --process N"
            ),
        ));
    }
    let apart = args.count > 1;
    world::examine(recording, id, args.files.files.into(), Purpose::Tree)?;
    let processes: Vec<SpaceId> = checkpoint.processes.iter().map(|p| p.id).collect();
    let (mut puttings, sources) = ready(args, recording, id, &processes)?;
    let request = Request {
        stopped: args.stopped,
        detached: args.detach,
        paranoid: args.paranoid,
        apart,
    };
    // Signals to us are passed on, so they must not end us while there is nobody to pass them to.
    let interrupts = Interrupts::new()?;
    let mut started: Vec<Restored> = Vec::new();
    for sources in sources.iter().cycle().take(args.count as usize) {
        match restore(sources, request) {
            Ok(tree) => started.push(tree),
            Err(error) => {
                for tree in &started {
                    end(tree);
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
    let mut status = 0;
    if !args.detach {
        for tree in started {
            let root = root(&tree);
            let outcome = match tree.warden {
                Some((warden, told)) => child::wait_told(root, warden, told, &interrupts)?,
                None => child::wait(root, &interrupts)?,
            };
            if status == 0 {
                status = of_outcome(outcome);
            }
        }
    }
    Ok(status)
}

/// A copy that runs already does not outlive one that could not be made.
fn end(tree: &Restored) {
    for member in tree.members.iter().rev() {
        child::end(member.pid);
    }
    child::kill(
        tree.warden
            .as_ref()
            .map_or(root(tree), |(warden, _)| *warden),
    );
}
