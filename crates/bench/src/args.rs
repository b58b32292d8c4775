//! What was typed after `still bench`.

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

/// `still bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The commands of `still bench`.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure what recording costs: pauses, slowdown, bytes, memory, against peers and marks.
    Capture(Box<CaptureBench>),
    /// Compute what each policy for hot pages would have cost, from what was written when.
    Policies(PoliciesBench),
    /// Measure what questions about the past cost, on a long recording of a big process.
    History(Box<HistoryBench>),
    /// Measure what bringing a moment back to life costs, beside CRIU.
    Restore(RestoreBench),
    /// Measure checkpoints inside programs (still cc) against fork, mprotect, userfaultfd and an undo log.
    Inproc(stillframe_instrument::args::BenchArgs),
    /// Be a workload: print `ready PID`, then do what each line `go UNITS` on stdin says.
    #[command(hide = true)]
    Target(TargetArgs),
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum WorkloadName {
    /// Black-Scholes prices of an array of options, over and over (like PARSEC blackscholes).
    Pricing,
    /// The same with spot prices that move at each pass: every price changes in its low bits.
    Market,
    /// Simulated annealing of a netlist (like PARSEC canneal).
    Annealing,
    /// Random writes at a given number of pages per interval.
    Random,
    /// redis-server under redis-benchmark.
    Redis,
    /// Inserts into a SQLite database.
    Sqlite,
    /// A Python program: dictionaries, lists, strings.
    Python,
}

impl WorkloadName {
    /// Its name, as typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pricing => "pricing",
            Self::Market => "market",
            Self::Annealing => "annealing",
            Self::Random => "random",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
            Self::Python => "python",
        }
    }
}

/// `still bench capture`.
#[derive(Clone, Debug, Args)]
pub struct CaptureBench {
    /// A short form: fewer settings, short runs; under three minutes.
    #[arg(long)]
    pub quick: bool,
    /// Workloads; all of them without. Several with commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub workload: Vec<WorkloadName>,
    /// Checkpoints per second; several with commas.
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = rate)]
    pub hz: Vec<f64>,
    /// Threads of pricing, market, annealing and random; several with commas.
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Vec<u8>,
    /// Memory of random, MiB; several with commas.
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub mib: Vec<u32>,
    /// Pages that random writes per interval; several with commas.
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub dirty: Vec<u32>,
    /// Random writes in a closed loop: a slowed target writes less often.
    #[arg(long)]
    pub closed: bool,
    /// Pairs of runs, recorded and not, for each setting.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pairs: Option<u32>,
    /// Length of one run, seconds, when not recorded.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Length of the run that shows whether a recorder at 1000 Hz falls behind, seconds; 0 for none.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub long: Option<u32>,
    /// Dirty tracker, for `still attach --tracker`.
    #[arg(long, value_name = "NAME")]
    pub tracker: Option<String>,
    /// Policy that chooses hot pages, for `still attach --speculate`.
    #[arg(long, value_name = "POLICY", alias = "policy")]
    pub speculate: Option<String>,
    /// One more argument for `still attach`; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub record_arg: Vec<String>,
    /// A further way to record, run in the same rounds: NAME='ARGS for still attach'; may be
    /// repeated. `none` and `oracle` are the names that the mark for speculation looks for.
    #[arg(long, value_name = "NAME=ARGS", value_parser = variant)]
    pub variant: Vec<Variant>,
    /// Do not measure CRIU, DMTCP and fork snapshots.
    #[arg(long)]
    pub no_peers: bool,
    /// The `still` that records; this one without.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recorder: Option<PathBuf>,
    /// Write everything as JSON into this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
    /// Where the recordings go while they are needed; a directory. The system's temporary one
    /// without.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Keep the recordings.
    #[arg(long)]
    pub keep: bool,
}

/// `still bench policies`.
#[derive(Clone, Debug, Args)]
pub struct PoliciesBench {
    /// Recordings made with `--account full --speculate none`; made-up runs without.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recordings: Vec<PathBuf>,
    /// Write everything as JSON into this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
}

/// `still bench history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryBench {
    /// The recording: used if it is there and long enough, else made there and kept. Without it, one
    /// is made in a temporary directory and removed.
    #[arg(long, value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: Option<PathBuf>,
    /// Checkpoints of the recording, at least.
    #[arg(long, value_name = "N", default_value = "20000", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub checkpoints: u32,
    /// Memory of the process, MiB.
    #[arg(long, value_name = "N", default_value = "512", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub mib: u32,
    /// Checkpoints per second at which it is recorded.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    pub hz: f64,
    /// How often each thing is measured, all of them in turn.
    #[arg(long, value_name = "N", default_value = "9", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Cores exported for GDB to look through; what all checkpoints would take is computed from
    /// these.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub cores: u32,
    /// Do not measure GDB.
    #[arg(long)]
    pub no_peers: bool,
    /// Write everything as JSON into this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
}

/// `still bench restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreBench {
    /// Memory of the process, MiB; several with commas. 256 and 1024 without.
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub mib: Vec<u32>,
    /// How often each is restored.
    #[arg(long, value_name = "N", default_value = "9", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Do not measure CRIU and DMTCP.
    #[arg(long)]
    pub no_peers: bool,
    /// Write everything as JSON into this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
}

/// A way to record: a name, and arguments for `still attach`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What tables call it.
    pub name: String,
    /// The arguments.
    pub args: Vec<String>,
}

fn variant(text: &str) -> Result<Variant, String> {
    let (name, args) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty() && *name != "default")
        .ok_or("a variant looks like NAME=--flag value, and is not called default")?;
    Ok(Variant {
        name: name.to_owned(),
        args: args.split_whitespace().map(str::to_owned).collect(),
    })
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hz) if (0.01..=1000.0).contains(&hz) => Ok(hz),
        _ => Err("a rate is a number from 0.01 to 1000".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.05..=86_400.0).contains(&s) => Ok(s),
        _ => Err("a length is a number of seconds from 0.05 to 86400".to_owned()),
    }
}

/// The workloads that are programs of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// See [`WorkloadName::Pricing`].
    Pricing,
    /// See [`WorkloadName::Market`].
    Market,
    /// See [`WorkloadName::Annealing`].
    Annealing,
    /// See [`WorkloadName::Random`].
    Random,
}

impl TargetName {
    /// Its name, as typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pricing => "pricing",
            Self::Market => "market",
            Self::Annealing => "annealing",
            Self::Random => "random",
        }
    }
}

/// `still bench target`.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// Which.
    #[arg(value_enum)]
    pub name: TargetName,
    /// Working threads.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
    /// Options to price, or elements to place.
    #[arg(long, value_parser = count)]
    pub count: Option<usize>,
    /// random: memory, MiB.
    #[arg(long, default_value = "64", value_parser = mib)]
    pub mib: usize,
    /// random: pages written per second.
    #[arg(long, default_value = "1000")]
    pub rate: f64,
    /// random: write in a closed loop with this many rounds of arithmetic after each write.
    #[arg(long)]
    pub closed: Option<u64>,
    /// random: take this many fork snapshots of itself per second.
    #[arg(long)]
    pub fork_hz: Option<f64>,
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if (2..=1 << 30).contains(&n) => Ok(n),
        _ => Err("a count is a number from 2 to 2^30".to_owned()),
    }
}

fn mib(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if (1..=1 << 20).contains(&n) => Ok(n),
        _ => Err("memory is 1 to 1048576 MiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(subcommand)]
        command: BenchCommand,
    }

    #[test]
    fn lists_and_variants() {
        let typed = Typed::try_parse_from([
            "bench",
            "capture",
            "--workload",
            "pricing,random",
            "--hz",
            "10,0.5",
            "--record-arg",
            "--precopy",
            "--record-arg",
            "off",
            "--variant",
            "none=--speculate none",
        ])
        .unwrap();
        let BenchCommand::Capture(bench) = typed.command else {
            panic!("another command")
        };
        assert_eq!(
            bench.workload,
            [WorkloadName::Pricing, WorkloadName::Random]
        );
        assert_eq!(bench.hz, [10.0, 0.5]);
        assert_eq!(bench.record_arg, ["--precopy", "off"]);
        assert_eq!(bench.variant[0].args, ["--speculate", "none"]);
        for bad in ["none", "=x", "default=x"] {
            assert!(variant(bad).is_err(), "{bad}");
        }
        assert!(rate("0").is_err() && rate("nan").is_err() && rate("1001").is_err());
    }
}
