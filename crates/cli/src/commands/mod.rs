//! One file per command. Each has `run`, which returns the exit status.

mod attach;
mod capture;
mod check;
mod completions;
mod debug;
mod doctor;
mod export;
mod history;
mod last_good;
mod ls;
mod man;
mod record;
mod report;
mod restore;
mod retention;
mod rollback;
mod show;
mod supervise;
mod verify;
#[cfg(feature = "view")]
mod view;

use crate::args::Command;
use stillframe_instrument as instrument;

/// Runs a command; the exit status of `still` is its result.
///
/// # Errors
/// Whatever went wrong, with an exit code as [`crate::exit::code_of`] finds it.
pub fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Record(args) => record::run(args),
        Command::Attach(args) => attach::run(args),
        Command::Ls(args) => ls::run(&args),
        Command::Show(args) => show::run(&args),
        Command::History(args) => history::history(&args),
        Command::Find(args) => history::find(&args),
        Command::Grep(args) => history::grep(&args),
        Command::Check(args) => check::run(&args),
        Command::LastGood(args) => last_good::run(&args),
        Command::Diff(args) => history::diff(&args),
        #[cfg(feature = "view")]
        Command::View(args) => view::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Supervise(args) => supervise::run(*args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Debug(args) => debug::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Tag(args) => retention::tag(&args),
        Command::Bookmark(args) => history::bookmark(&args),
        Command::Squash(args) => retention::squash(&args),
        Command::Prune(args) => retention::prune(&args),
        Command::Rm(args) => retention::rm(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => stillframe_bench::run(&args).map(|()| 0),
        Command::Cc(args) => Ok(instrument::cc::run(
            instrument::compiler::Language::C,
            &args,
        )?),
        Command::Cxx(args) => Ok(instrument::cc::run(
            instrument::compiler::Language::Cxx,
            &args,
        )?),
        Command::Inproc(args) => Ok(instrument::run(&args)?),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
