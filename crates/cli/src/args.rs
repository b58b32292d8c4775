//! What was typed. Values are checked for form here and nothing else happens: no file is looked
//! at, no process, no clock. What the values mean is for [`crate::commands`].

pub mod check;
pub mod debug;
pub mod history;
pub mod last_good;
pub mod restore;
pub mod retention;
pub mod rollback;
pub mod stacks;
pub mod supervise;
#[cfg(feature = "view")]
pub mod view;

use crate::{exit, units};
use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use debug::DebugArgs;
use history::{BookmarkArgs, DiffArgs, FindArgs, GrepArgs, HistoryArgs};
use retention::{PruneArgs, RmArgs, SquashArgs, TagArgs};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use stillframe_capture::FilesPolicy;
use stillframe_store::retention::Bound;
pub use supervise::SuperviseArgs;

/// Record a running program many times a second, and open any moment of it.
#[derive(Debug, Parser)]
#[command(
    name = "still",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_long_help = exit::TABLE,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Say more on stderr: -v information, -vv debugging, -vvv everything.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a program and record it.
    Record(RecordArgs),
    /// Record a program that already runs.
    Attach(AttachArgs),
    /// List the checkpoints of a recording.
    Ls(LsArgs),
    /// Show one moment: threads, registers, mappings, files, signals.
    Show(ShowArgs),
    /// Follow a value through time: each change, and when.
    History(HistoryArgs),
    /// Find the moments at which something holds, or in whose interval bytes changed.
    Find(FindArgs),
    /// Find bytes, text or a number anywhere in memory: where, and from when to when.
    Grep(GrepArgs),
    /// Say what would be different if a moment were restored here and now.
    Check(check::CheckArgs),
    /// Find the last moment that passes a command, by halves.
    LastGood(last_good::LastGoodArgs),
    /// Say what differs between two moments.
    Diff(DiffArgs),
    /// Move through a recording in the terminal: a timeline, threads with source, watched expressions.
    #[cfg(feature = "view")]
    View(view::ViewArgs),
    /// Say what a recording cost and where, as text or as a page for a browser.
    Report(ReportArgs),
    /// Start a program and keep it alive: when it is about to die, back to when it was well.
    Supervise(Box<SuperviseArgs>),
    /// Take a live process back to an earlier moment of itself.
    Rollback(rollback::RollbackArgs),
    /// Open a moment in GDB, and move from there through the others.
    Debug(DebugArgs),
    /// Bring a moment back to life: a new process goes on from there.
    Restore(restore::RestoreArgs),
    /// Write one moment as a file that other tools read.
    Export(ExportArgs),
    /// Name a moment, or list the names.
    Tag(TagArgs),
    /// Name a moment and note something beside it, or list the notes.
    Bookmark(BookmarkArgs),
    /// Merge a range of moments into its last.
    Squash(SquashArgs),
    /// Remove moments by rule, and give back their space.
    Prune(PruneArgs),
    /// Remove single moments, and give back their space.
    Rm(RmArgs),
    /// Read and check every byte of a recording.
    Verify(VerifyArgs),
    /// Say what this kernel and these privileges allow, and what will be used.
    Doctor(DoctorArgs),
    /// Measure what recording costs on this machine.
    Bench(stillframe_bench::BenchArgs),
    /// Compile C as cc does, so that the program can take checkpoints of itself (docs/inproc.md).
    Cc(stillframe_instrument::args::CcArgs),
    /// The same for C++, as c++ does.
    #[command(name = "c++")]
    Cxx(stillframe_instrument::args::CcArgs),
    /// Programs that take checkpoints of themselves: what is covered, the compiler pass, figures.
    Inproc(stillframe_instrument::args::InprocArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory.
    Man(ManArgs),
}

/// What `record` and `attach` have in common.
#[derive(Clone, Debug, Args)]
pub struct CaptureArgs {
    /// Checkpoints per second, 0.01 to 1000; fractions are allowed. auto: as many as the budget
    /// allows (3 %, if none is stated).
    #[arg(long, value_name = "N|auto", default_value = "100", value_parser = rate)]
    pub hz: Rate,
    /// Share of the target's speed that recording may cost, e.g. 3%. The rate stays below --hz as
    /// far as needed.
    #[arg(long, value_name = "PERCENT", value_parser = units::percent)]
    pub budget: Option<f64>,
    /// Pause that nine in ten checkpoints should stay below, e.g. 500us. Pre-copy rounds are added
    /// as needed.
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub max_pause: Option<Duration>,
    /// Take checkpoints only where the program names a point or asks for one (docs/points.md), at
    /// the start, and at the end.
    #[arg(long, conflicts_with_all = ["hz", "budget", "max_pause"])]
    pub at_points: bool,
    /// Stop after this time, e.g. 500ms, 30s, 2m, 1h.
    #[arg(long = "for", value_name = "TIME", value_parser = units::time)]
    pub duration: Option<Duration>,
    /// Stop after this many checkpoints.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Keep only the newest part: a time, a size or a number of checkpoints, or several of them, e.g.
    /// 60s or 60s,2GiB. Older checkpoints are removed and their space is given back, except tagged
    /// ones.
    #[arg(long, value_name = "TIME|SIZE|N", value_parser = retention::bound)]
    pub keep: Option<Bound>,
    /// Where the recording goes: a directory that does not exist yet. Without it, the name of the
    /// program and `.still`.
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub output: Option<PathBuf>,
    /// Replace the output if it is a recording.
    #[arg(long)]
    pub force: bool,
    /// Keep an independent copy of all writable memory at every checkpoint and compare it with
    /// what the recording gives back. Slow; for tests.
    #[arg(long)]
    pub paranoid: bool,
    /// Do not copy the executable and its libraries into the recording. It then opens only where
    /// the same files exist.
    #[arg(long)]
    pub no_objects: bool,
    /// What is recorded of files that the target writes: ignore (nothing), check (size, times, hashes
    /// of small ones), version (their content at each checkpoint, up to 1GiB of changes), version=SIZE.
    /// See docs/files.md.
    #[arg(long, value_name = "ignore|check|version[=SIZE]", default_value = "check", value_parser = files)]
    pub files: FilesPolicy,
    /// Memory for the previous contents of pages, against which differences are stored, e.g.
    /// 256MiB. 0 stores every page whole.
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub shadow: Option<u64>,
    /// Most memory of one shared mapping that is copied at every checkpoint, e.g. 1GiB. Larger ones
    /// are left out and named.
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub shared_limit: Option<u64>,
    /// Compression level of zstd, -7 (fast) to 19 (small).
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-7..=19)
    )]
    pub level: Option<i32>,
    /// Rounds of copying before each stop: auto, off, or a number.
    #[arg(long, value_name = "auto|off|N", default_value = "auto", value_parser = precopy)]
    pub precopy: Precopy,
    /// When pages are copied: now (in the stop), after (once the target runs again; written pages
    /// are had in a second stop), or auto (as is cheaper for the target).
    #[arg(long, value_name = "auto|now|after", default_value = "auto")]
    pub copy: Copy,
    /// Record the processes that the program makes, too, and theirs: one checkpoint holds all.
    #[arg(short = 'F', long)]
    pub follow: bool,
    /// How written pages are found: auto (the best that can be had here), wp-async, bpf (needs
    /// privileges), or soft-dirty (for kernels before 6.7). See docs/trackers.md and still doctor.
    #[arg(
        long,
        value_name = "auto|wp-async|bpf|soft-dirty",
        default_value = "auto"
    )]
    pub tracker: Tracker,
    /// Policy that chooses hot pages: pages copied inside the stop because they are written all the
    /// time, see docs/trackers.md.
    #[arg(long, value_name = "POLICY", default_value = stillframe_capture::speculation::NAMES[0],
          value_parser = clap::builder::PossibleValuesParser::new(stillframe_capture::speculation::NAMES))]
    pub speculate: String,
    /// What the account of each checkpoint holds: brief (sums and times), or full (every page
    /// written, too).
    #[arg(long, value_name = "brief|full", default_value = "brief")]
    pub account: AccountDepth,
    /// No live line and no summary.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the summary as JSON on stdout when the recording ends.
    #[arg(long)]
    pub json: bool,
}

/// Bytes of changed content of files that are kept if no number is given.
pub const FILES_BUDGET: u64 = 1 << 30;

fn files(text: &str) -> Result<FilesPolicy, String> {
    match text.split_once('=') {
        None if text == "ignore" => Ok(FilesPolicy::Ignore),
        None if text == "check" => Ok(FilesPolicy::Check),
        None if text == "version" => Ok(FilesPolicy::Version {
            budget: FILES_BUDGET,
        }),
        Some(("version", size)) => units::size(size).map(|budget| FilesPolicy::Version { budget }),
        _ => Err("files are ignore, check, version or version=SIZE".to_owned()),
    }
}

/// `--hz`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// This many a second.
    Fixed(f64),
    /// As many as the budget allows.
    Auto,
}

fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "auto" => Ok(Rate::Auto),
        _ => units::hz(text).map(Rate::Fixed),
    }
}

/// `--copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Copy {
    /// As measurement advises.
    Auto,
    /// In the stop.
    Now,
    /// After it.
    After,
}

/// `--tracker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tracker {
    /// The best that can be had.
    Auto,
    /// Asynchronous write protection.
    WpAsync,
    /// The same with a log of faults.
    Bpf,
    /// Soft-dirty bits, for kernels before 6.7.
    SoftDirty,
}

/// `--account`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AccountDepth {
    /// Sums and times.
    Brief,
    /// Every page written, too.
    Full,
}

/// `--precopy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precopy {
    /// As measurement advises.
    Auto,
    /// This many rounds; 0 is off.
    Rounds(u32),
}

fn precopy(text: &str) -> Result<Precopy, String> {
    match text {
        "auto" => Ok(Precopy::Auto),
        "off" => Ok(Precopy::Rounds(0)),
        _ => match text.parse() {
            Ok(rounds @ 0..=16) => Ok(Precopy::Rounds(rounds)),
            _ => Err("pre-copy is auto, off, or a number of rounds from 0 to 16".to_owned()),
        },
    }
}

/// `still record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// The program and its arguments, after `--`.
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CMD",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}

/// `still attach`.
#[derive(Clone, Debug, Args)]
pub struct AttachArgs {
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// The process to record.
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: u32,
}

/// `still ls`.
#[derive(Clone, Debug, Args)]
pub struct LsArgs {
    /// The recording.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// One JSON object: the recording, its checkpoints, its end.
    #[arg(long)]
    pub json: bool,
    /// More columns: the phases of the stop, pre-copied and untracked pages, the wall clock.
    #[arg(short, long)]
    pub all: bool,
    /// Only the checkpoints that answer points which the program marked.
    #[arg(long)]
    pub points: bool,
}

/// Which process of a moment.
#[derive(Clone, Debug, Default, Args)]
pub struct ProcessArgs {
    /// The process of this pid; without it, the one that was recorded first.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The process of this number, as `still show` lists them: two processes of a moment may have
    /// one pid (in different pid namespaces), but never one number.
    #[arg(long, value_name = "N", conflicts_with = "pid")]
    pub process: Option<u32>,
}

/// `still show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// The moment: REC@42 (checkpoint 42), REC@12.5s (that time), REC@-3s (before the end),
    /// REC@first, REC@last, REC@crash, REC@exit.
    #[arg(value_name = "REC@MOMENT")]
    pub moment: OsString,
    #[command(flatten)]
    pub process: ProcessArgs,
    /// As JSON, with everything but the account.
    #[arg(long)]
    pub json: bool,
    /// Only the tree of processes.
    #[arg(long)]
    pub tree: bool,
    /// Only the threads, with all their registers.
    #[arg(long)]
    pub threads: bool,
    /// Only the mappings.
    #[arg(long)]
    pub mappings: bool,
    /// Only the open files.
    #[arg(long)]
    pub files: bool,
    /// Only the signals.
    #[arg(long)]
    pub signals: bool,
    /// Only the event account of the interval that ends here: stops, how long each thread stood
    /// still, ticks not taken, where pages were written. With --json, as JSON.
    #[arg(long)]
    pub account: bool,
    #[command(flatten)]
    pub stacks: stacks::StackArgs,
    /// Everything.
    #[arg(
        long,
        conflicts_with_all = ["bt", "tree", "threads", "mappings", "files", "signals", "account"]
    )]
    pub all: bool,
}

/// `still report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// The recording; it may still be growing.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// Write one self-contained HTML page with charts, which opens offline.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,
    /// Replace the page if it exists.
    #[arg(long)]
    pub force: bool,
    /// Print the figures as text. This is what happens without any option.
    #[arg(long, conflicts_with = "json")]
    pub text: bool,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
    /// A time whose second the page must show event by event, e.g. 12.0 or 12s. Short recordings
    /// have all of theirs.
    #[arg(long, value_name = "TIME", value_parser = units::instant)]
    pub second: Option<Duration>,
    /// What a write fault costs on the machine that recorded, e.g. 0.9us; without it, what was
    /// measured elsewhere for the same tracker.
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub fault_cost: Option<Duration>,
}

/// `still export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Write an ELF core, as GDB and other debuggers read it.
    #[arg(long, required_unless_present = "file")]
    pub core: bool,
    /// Write what a file held that the processes write (recorded with --files version): its path, or
    /// the end of it.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["core", "pid", "process", "with_exe"])]
    pub file: Option<OsString>,
    /// The moment: REC@42 (checkpoint 42), REC@12.5s (that time), REC@-3s (before the end),
    /// REC@first, REC@last, REC@crash, REC@exit.
    #[arg(value_name = "REC@MOMENT")]
    pub moment: OsString,
    #[command(flatten)]
    pub process: ProcessArgs,
    /// The file to write.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
    /// Also write the executable kept in the recording, beside the core, as FILE.exe.
    #[arg(long)]
    pub with_exe: bool,
    /// Say what was written as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The recording.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell.
    pub shell: clap_complete::Shell,
}

/// `still man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The directory; it is made if it does not exist.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_program_keeps_its_own_flags() {
        let typed =
            Cli::try_parse_from(["still", "record", "--hz", "0.5", "--", "ls", "--hz", "-v"])
                .unwrap();
        assert_eq!(typed.verbose, 0);
        let Command::Record(record) = typed.command else {
            panic!("another command")
        };
        assert_eq!(record.command, ["ls", "--hz", "-v"]);
        assert_eq!(record.capture.hz, Rate::Fixed(0.5));
    }

    #[test]
    fn policies_of_files() {
        assert_eq!(files("check"), Ok(FilesPolicy::Check));
        assert_eq!(
            files("version"),
            Ok(FilesPolicy::Version { budget: 1 << 30 })
        );
        assert_eq!(
            files("version=4KiB"),
            Ok(FilesPolicy::Version { budget: 4096 })
        );
        for wrong in ["", "check=1", "version=", "version=x", "private"] {
            assert!(files(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn precopy_values() {
        assert_eq!(precopy("auto"), Ok(Precopy::Auto));
        assert_eq!(precopy("off"), Ok(Precopy::Rounds(0)));
        assert_eq!(precopy("3"), Ok(Precopy::Rounds(3)));
        assert!(precopy("17").is_err());
        assert!(precopy("-1").is_err());
    }
}
