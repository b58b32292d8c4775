//! Which settings are measured, and how long that will take.

use crate::args::{CaptureBench, Variant, WorkloadName};
use serde::{Deserialize, Serialize, Serializer};

/// One setting: a workload, and the rate at which it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// The program.
    #[serde(serialize_with = "name")]
    pub workload: WorkloadName,
    /// Its working threads; 1 for programs that have their own mind.
    pub threads: u8,
    /// Checkpoints per second asked for.
    pub hz: f64,
    /// random: memory, MiB. 0 elsewhere.
    pub mib: u32,
    /// random: pages written per interval. 0 elsewhere.
    pub dirty: u32,
    /// random in a closed loop: rounds of arithmetic after each write.
    pub closed_rounds: Option<u64>,
    /// Smaller data, for the short form.
    pub small: bool,
    /// Length of a run, seconds, when not recorded.
    pub seconds: f64,
    /// Pairs of runs.
    pub pairs: u32,
    /// Whether this is the long run that shows whether the recorder falls behind.
    pub long: bool,
}

fn name<S: Serializer>(workload: &WorkloadName, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(workload.as_str())
}

impl Setting {
    /// A name for tables: what tells it from other settings.
    pub fn label(&self) -> String {
        let what = self.workload.as_str();
        match self.workload {
            WorkloadName::Random => format!(
                "{what} {} d{}{} t{}{}",
                size(self.mib),
                self.dirty,
                if self.closed_rounds.is_some() {
                    " closed"
                } else {
                    ""
                },
                self.threads,
                if self.long { " long" } else { "" }
            ),
            WorkloadName::Pricing | WorkloadName::Market | WorkloadName::Annealing => {
                format!("{what} t{}", self.threads)
            }
            _ => what.to_owned(),
        }
    }

    /// Pages that random writes per second.
    pub fn pages_per_second(&self) -> f64 {
        f64::from(self.dirty) * self.hz
    }

    /// Size of the data of our own targets, as arguments; none for their default.
    pub fn count_args(&self) -> Vec<String> {
        let small = match self.workload {
            WorkloadName::Pricing | WorkloadName::Market => "1000000",
            _ => "300000",
        };
        if self.small {
            vec!["--count".to_owned(), small.to_owned()]
        } else {
            Vec::new()
        }
    }

    /// Memory of the program, MiB, roughly.
    pub fn memory_mib(&self) -> u32 {
        match self.workload {
            WorkloadName::Random => self.mib,
            WorkloadName::Annealing if self.small => 80,
            WorkloadName::Annealing => 400,
            _ => 128,
        }
    }

    /// What a run takes beside its work, seconds, roughly: start, full first checkpoint, end.
    fn overhead(&self, recorded: bool) -> f64 {
        let gib = f64::from(self.memory_mib()) / 1024.0;
        0.4 + 1.5 * gib
            + if recorded {
                0.6 + 2.5 * gib + 4.0 / self.hz
            } else {
                0.0
            }
    }
}

fn size(mib: u32) -> String {
    if mib.is_multiple_of(1024) {
        format!("{}G", mib / 1024)
    } else {
        format!("{mib}M")
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The settings, in the order in which they are measured.
    pub settings: Vec<Setting>,
    /// The ways to record that are compared in each; the first is called `default`.
    pub variants: Vec<Variant>,
}

/// How a recorder was told to record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Name.
    pub name: String,
    /// Arguments for `still attach`.
    pub args: Vec<String>,
}

fn or<T: Copy>(typed: &[T], otherwise: &[T]) -> Vec<T> {
    if typed.is_empty() { otherwise } else { typed }.to_vec()
}

impl Plan {
    /// What `args` ask for.
    pub fn new(args: &CaptureBench) -> Self {
        use WorkloadName as W;
        let quick = args.quick;
        let all = [
            W::Pricing,
            W::Annealing,
            W::Market,
            W::Random,
            W::Redis,
            W::Sqlite,
            W::Python,
        ];
        let seconds = args.seconds.unwrap_or(if quick { 1.0 } else { 5.0 });
        let pairs = args.pairs.unwrap_or(if quick { 2 } else { 5 });
        let mut settings = Vec::new();
        for workload in or(&args.workload, &all) {
            let base = Setting {
                workload,
                threads: 1,
                hz: 100.0,
                mib: 0,
                dirty: 0,
                closed_rounds: None,
                small: quick,
                seconds,
                pairs,
                long: false,
            };
            match workload {
                W::Pricing | W::Annealing | W::Market => {
                    let (threads, hz): (&[u8], &[f64]) = match (workload, quick) {
                        (W::Market, _) => (&[2], &[10.0]),
                        (_, true) => (&[2], &[10.0, 100.0, 1000.0]),
                        _ => (&[1, 2, 3], &[10.0, 50.0, 100.0, 1000.0]),
                    };
                    for threads in or(&args.threads, threads) {
                        for hz in or(&args.hz, hz) {
                            settings.push(Setting {
                                threads,
                                hz,
                                ..base
                            });
                        }
                    }
                }
                W::Random => random(args, base, &mut settings),
                W::Redis | W::Sqlite | W::Python => {
                    let hz: &[f64] = if quick { &[100.0] } else { &[10.0, 100.0] };
                    for hz in or(&args.hz, hz) {
                        settings.push(Setting { hz, ..base });
                    }
                }
            }
        }
        Self {
            settings,
            variants: variants(args),
        }
    }

    /// How long it will take, seconds, roughly.
    pub fn estimate(&self) -> f64 {
        self.settings.iter().map(|s| self.estimate_of(s)).sum()
    }

    fn estimate_of(&self, s: &Setting) -> f64 {
        let ways = if s.long { 1 } else { self.variants.len() };
        let bare = s.seconds + s.overhead(false);
        let recorded = s.seconds * 1.15 + s.overhead(true);
        1.0 + s.overhead(false) + f64::from(s.pairs) * (bare + ways as f64 * recorded)
    }
}

fn random(args: &CaptureBench, base: Setting, settings: &mut Vec<Setting>) {
    let (mib, dirty): (&[u32], &[u32]) = if args.quick {
        (&[64, 1024], &[1000])
    } else {
        (&[64, 1024, 8192], &[100, 1000, 5000])
    };
    let named = !(args.mib.is_empty() && args.dirty.is_empty() && args.hz.is_empty());
    for mib in or(&args.mib, mib) {
        for threads in or(&args.threads, &[2]) {
            for hz in or(&args.hz, &[100.0]) {
                for dirty in or(&args.dirty, dirty) {
                    settings.push(Setting {
                        threads,
                        hz,
                        mib,
                        dirty,
                        closed_rounds: args.closed.then_some(0),
                        ..base
                    });
                }
            }
        }
    }
    let long = args.long.unwrap_or(match (named, args.quick) {
        (true, _) => 0,
        (_, true) => 5,
        _ => 300,
    });
    if long > 0 {
        settings.push(Setting {
            threads: 2,
            hz: 1000.0,
            mib: 1024,
            dirty: 500,
            seconds: f64::from(long),
            pairs: 1,
            long: true,
            ..base
        });
    }
}

fn variants(args: &CaptureBench) -> Vec<Variant> {
    let mut common: Vec<String> = Vec::new();
    for (flag, value) in [
        ("--tracker", &args.tracker),
        ("--speculate", &args.speculate),
    ] {
        if let Some(value) = value {
            common.extend([flag.to_owned(), value.clone()]);
        }
    }
    common.extend(args.record_arg.iter().cloned());
    let mut ways = vec![Variant {
        name: "default".to_owned(),
        args: common.clone(),
    }];
    let everything = !args.quick && args.workload.is_empty() && args.speculate.is_none();
    if everything && args.variant.is_empty() {
        // The mark for speculation compares with this.
        let none = ["--speculate", "none"].map(str::to_owned);
        ways.push(Variant {
            name: "none".to_owned(),
            args: common.iter().cloned().chain(none).collect(),
        });
    }
    for variant in &args.variant {
        let mut args = common.clone();
        args.extend(variant.args.iter().cloned());
        ways.push(Variant {
            name: variant.name.clone(),
            args,
        });
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::BenchCommand;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(subcommand)]
        command: BenchCommand,
    }

    fn plan(args: &[&str]) -> Plan {
        let mut all = vec!["bench", "capture"];
        all.extend(args);
        match Typed::try_parse_from(all).unwrap().command {
            BenchCommand::Capture(args) => Plan::new(&args),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_quick_form_is_under_three_minutes() {
        let quick = plan(&["--quick"]);
        assert!(quick.estimate() < 160.0, "{}", quick.estimate());
        assert!(plan(&[]).estimate() > 10.0 * quick.estimate());
    }

    #[test]
    fn the_full_form_has_every_setting_of_the_marks() {
        let full = plan(&[]);
        let has = |w, threads, hz| {
            full.settings
                .iter()
                .any(|s| s.workload == w && s.threads == threads && s.hz == hz)
        };
        for workload in [WorkloadName::Pricing, WorkloadName::Annealing] {
            for threads in 1..=3 {
                for hz in [10.0, 50.0, 100.0, 1000.0] {
                    assert!(has(workload, threads, hz));
                }
            }
        }
        for mib in [64, 1024, 8192] {
            for dirty in [100, 1000, 5000] {
                assert!(
                    full.settings
                        .iter()
                        .any(|s| (s.mib, s.dirty) == (mib, dirty))
                );
            }
        }
        assert!(full.settings.iter().any(|s| s.long && s.seconds >= 300.0));
        assert_eq!(full.variants[1].name, "none");
        assert_eq!(plan(&["--workload", "redis"]).variants.len(), 1);
    }

    #[test]
    fn what_is_typed_is_what_is_measured() {
        let plan = plan(&[
            "--workload",
            "random",
            "--mib",
            "64",
            "--dirty",
            "10,20",
            "--hz",
            "50",
            "--pairs",
            "3",
            "--seconds",
            "2",
            "--tracker",
            "x",
            "--variant",
            "none=--speculate none",
        ]);
        assert_eq!(plan.settings.len(), 2);
        assert_eq!(plan.settings[1].label(), "random 64M d20 t2");
        assert_eq!(plan.settings[1].pages_per_second(), 1000.0);
        assert_eq!(plan.variants[0].args, ["--tracker", "x"]);
        assert_eq!(
            plan.variants[1].args,
            ["--tracker", "x", "--speculate", "none"]
        );
    }
}
