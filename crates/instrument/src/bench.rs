//! `still bench inproc`: what checkpoints inside a program cost, and what other ways to have them
//! cost the same programs.
//!
//! Each figure is the median over pairs of runs, one of the method and one without checkpoints, next
//! to each other in time. It reports and never asserts; a missed mark is no error. Every run prints a
//! sum over its result; a method whose sum is another's is wrong, and that is an error.

use crate::Error;
use crate::args::BenchArgs;
use crate::compiler::{Compiler, Granule, Kind, Language, Way};
use crate::embed::Files;
use crate::pass;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const COMMON: &str = include_str!("../bench/common.h");
const PROGRAMS: &str = include_str!("../bench/programs.c");
const SQLITE: &str = include_str!("../bench/sqlite.c");

/// The nine.
const KERNELS: [&str; 9] = [
    "fill",
    "triad",
    "stencil",
    "matrix",
    "histogram",
    "scatter",
    "radix",
    "sieve",
    "copies",
];

/// A way to have checkpoints.
#[derive(Clone, Debug)]
struct Method {
    name: &'static str,
    define: Option<&'static str>,
    way: Option<(Way, Granule)>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What ran.
    pub program: String,
    /// How checkpoints were had.
    pub method: String,
    /// Nanoseconds for a unit (a request, a statement, a sweep), with its checkpoint.
    pub unit_ns: f64,
    /// Against the run without checkpoints next to it.
    pub ratio: Option<f64>,
    /// Most memory, KiB.
    pub resident_kib: f64,
    /// Most of the log, bytes.
    pub log_bytes: f64,
}

/// A mark and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Mark {
    /// The figure.
    pub figure: String,
    /// What it is held to.
    pub mark: String,
    /// What was measured.
    pub measured: String,
    /// met, MISSED, or not measured.
    pub verdict: &'static str,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// All of them.
    pub figures: Vec<Figure>,
    /// All of them.
    pub marks: Vec<Mark>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

struct Run {
    seconds: f64,
    units: f64,
    sum: String,
    resident_kib: f64,
    log: f64,
}

/// Runs it.
///
/// # Errors
/// If nothing can be compiled, or a program's result is wrong.
pub fn run(args: &BenchArgs) -> Result<u8, Error> {
    let files = Files::open()?;
    let compiler = Compiler::find(Language::C)?;
    let place =
        tempfile::tempdir().map_err(Error::io("making a directory in", std::env::temp_dir()))?;
    for (name, text) in [
        ("common.h", COMMON),
        ("programs.c", PROGRAMS),
        ("sqlite.c", SQLITE),
    ] {
        let path = place.path().join(name);
        std::fs::write(&path, text).map_err(Error::io("writing", path))?;
    }
    let mut report = Report::default();
    let methods = methods(&files, &compiler, &mut report);
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|o| o == name);
    let mut bench = Bench {
        args,
        files: &files,
        compiler: &compiler,
        place: place.path(),
        report,
    };
    let built: Vec<(Method, PathBuf)> = methods
        .iter()
        .filter_map(|m| bench.build(m, "programs.c", &[]).map(|p| (m.clone(), p)))
        .collect();
    let ours = |m: &Method| m.way.is_some() || m.define.is_none();
    if wanted("empty") {
        for empty in ["empty", "empty, closed form", "empty, frame of 1 KiB"] {
            bench.program(empty, &built, |m| ours(m).then_some(10_000_000))?;
        }
    }
    if wanted("kv") {
        bench.program("kv", &built, |m| match m.name {
            "fork" => Some(1_000),
            "mprotect" | "userfaultfd" => Some(30_000),
            _ => Some(1_000_000),
        })?;
    }
    if wanted("server") {
        bench.program("server", &built, |m| match m.name {
            "fork" => Some(1_000),
            _ => Some(50_000),
        })?;
    }
    if wanted("kernels") {
        for kernel in KERNELS {
            for per in [10, 1] {
                bench.program(kernel, &built, |m| {
                    (m.name != "fork" || per == 10).then_some(per)
                })?;
            }
        }
    }
    if wanted("sqlite") {
        bench.sqlite(&methods)?;
    }
    bench.judge();
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&bench.report).unwrap_or_default()
        );
    } else {
        tell(&bench.report);
    }
    Ok(0)
}

fn methods(files: &Files, compiler: &Compiler, report: &mut Report) -> Vec<Method> {
    let still = |name, way, granule| Method {
        name,
        define: Some("STILL"),
        way: Some((way, granule)),
    };
    let other = |name, define| Method {
        name,
        define,
        way: None,
    };
    let mut all = vec![other("none", None)];
    match pass::build(files, compiler) {
        Ok(plugin) => {
            all.push(still("pass", Way::Pass(plugin.clone()), Granule::Line));
            all.push(still("pass, words", Way::Pass(plugin), Granule::Word));
        }
        Err(why) => report.skipped.push(format!("the pass: {why}")),
    }
    all.push(still("hooks", Way::Hooks, Granule::Line));
    all.push(still("undo log", Way::Hooks, Granule::Log));
    all.push(other("mprotect", Some("MPROTECT")));
    all.push(other("userfaultfd", Some("UFFD")));
    all.push(other("fork", Some("FORK")));
    all
}

struct Bench<'a> {
    args: &'a BenchArgs,
    files: &'a Files,
    compiler: &'a Compiler,
    place: &'a Path,
    report: Report,
}

impl Bench<'_> {
    /// Compiles a program for a method. None, and a reason noted, if that fails.
    fn build(&mut self, method: &Method, source: &str, more: &[&str]) -> Option<PathBuf> {
        let file = format!(
            "{}-{}",
            source.trim_end_matches(".c"),
            method.name.replace([' ', ','], "")
        );
        let program = self.place.join(file);
        let mut command = Command::new(&self.compiler.path);
        command
            .current_dir(self.place)
            .args(["-O2", "-w", source])
            .args(more);
        if let Some(define) = method.define {
            command.arg(format!("-D{define}"));
        }
        if let Some((way, granule)) = &method.way {
            if self.compiler.kind == Kind::Gcc {
                // Its flag would link another runtime: objects first, as still cc does.
                self.report
                    .skipped
                    .push(format!("{}: the bench needs clang", method.name));
                return None;
            }
            command
                .args(self.compiler.compile_flags(way))
                .arg("-isystem")
                .arg(self.files.include())
                .arg(self.files.runtime(*granule))
                .env(pass::VARIABLE, granule.name());
        }
        command
            .arg("-o")
            .arg(&program)
            .args(["-lpthread", "-lm", "-ldl"]);
        match command.output() {
            Ok(output) if output.status.success() => Some(program),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let line = said
                    .lines()
                    .find(|l| l.contains("error"))
                    .unwrap_or("no message")
                    .to_owned();
                self.report
                    .skipped
                    .push(format!("{source}, {}: {line}", method.name));
                None
            }
            Err(error) => {
                self.report
                    .skipped
                    .push(format!("{source}, {}: {error}", method.name));
                None
            }
        }
    }

    fn once(&self, program: &Path, words: &[String]) -> Result<Run, String> {
        // A copy for each run: where the pages of a program's file lie in memory is worth ten percent,
        // and stays as it is for as long as the file is in the page cache.
        let copy = self.place.join("run");
        let output = std::fs::copy(program, &copy)
            .and_then(|_| Command::new(&copy).args(words).output())
            .map_err(|e| e.to_string());
        let _ = std::fs::remove_file(&copy);
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout);
        let fields: Vec<&str> = text.trim().split('\t').collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
        match (
            output.status.success(),
            number(1),
            number(2),
            fields.get(3),
            number(4),
            number(5),
        ) {
            (true, Some(units), Some(seconds), Some(sum), Some(resident_kib), Some(log)) => {
                Ok(Run {
                    seconds,
                    units,
                    sum: (*sum).to_owned(),
                    resident_kib,
                    log,
                })
            }
            _ => Err(format!(
                "{} {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
                    .lines()
                    .last()
                    .unwrap_or_default()
            )),
        }
    }

    /// Measures a program with every method, in pairs with the first.
    fn program(
        &mut self,
        name: &str,
        built: &[(Method, PathBuf)],
        units: impl Fn(&Method) -> Option<u64>,
    ) -> Result<(), Error> {
        let title = match KERNELS.contains(&name) {
            true => {
                let per = built.first().and_then(|(m, _)| units(m)).unwrap_or(1);
                format!("{name}, {per} sweeps")
            }
            false => name.to_owned(),
        };
        let Some((_, plain)) = built.iter().find(|(m, _)| m.name == "none") else {
            return Ok(());
        };
        for (method, program) in built {
            let Some(units) = units(method) else { continue };
            let words = match name {
                "sqlite" => vec!["bench".to_owned(), units.to_string()],
                _ => vec![name.to_owned(), units.to_string()],
            };
            let (mut ns, mut ratios, mut resident, mut log) = (vec![], vec![], vec![], vec![]);
            let mut failed = None;
            for _ in 0..self.args.pairs {
                let (base, run) = match (self.once(plain, &words), self.once(program, &words)) {
                    (Ok(base), Ok(run)) => (base, run),
                    (Err(why), _) | (_, Err(why)) => {
                        failed = Some(why);
                        break;
                    }
                };
                if base.sum != run.sum {
                    return Err(Error::Failed(format!(
                        "{title} with {}: its result is not that of the run without checkpoints",
                        method.name
                    )));
                }
                ns.push(run.seconds / run.units * 1e9);
                ratios.push(run.seconds / base.seconds);
                resident.push(run.resident_kib);
                log.push(run.log);
            }
            if let Some(why) = failed {
                self.report
                    .skipped
                    .push(format!("{title}, {}: {why}", method.name));
                continue;
            }
            let ratio =
                (method.name != "none" && !name.starts_with("empty")).then(|| median(&mut ratios));
            self.report.figures.push(Figure {
                program: title.clone(),
                method: method.name.to_owned(),
                unit_ns: median(&mut ns),
                ratio,
                resident_kib: median(&mut resident),
                log_bytes: median(&mut log),
            });
        }
        Ok(())
    }

    fn sqlite(&mut self, methods: &[Method]) -> Result<(), Error> {
        let Some(source) = self.args.sqlite.clone().filter(|p| p.is_file()) else {
            self.report
                .skipped
                .push("sqlite: no amalgamation; name its sqlite3.c with --sqlite".into());
            return Ok(());
        };
        let include = format!("-I{}", source.parent().unwrap_or(Path::new(".")).display());
        let source = source.display().to_string();
        let more = [
            "-DSQLITE_THREADSAFE=0",
            "-DSQLITE_OMIT_LOAD_EXTENSION",
            &include,
            &source,
        ];
        let mut built = Vec::new();
        for method in methods {
            // Its memory is all over the heap, which the page-granular methods here do not track.
            if matches!(method.name, "mprotect" | "userfaultfd") {
                continue;
            }
            if let Some(program) = self.build(method, "sqlite.c", &more) {
                built.push((method.clone(), program));
            }
        }
        self.program("sqlite", &built, |m| {
            Some(if m.name == "fork" { 2_000 } else { 200_000 })
        })
    }

    fn find(&self, program: &str, method: &str) -> Option<&Figure> {
        self.report
            .figures
            .iter()
            .find(|f| f.program == program && f.method == method)
    }

    fn judge(&mut self) {
        let mut marks = Vec::new();
        let mut mark = |figure: &str, limit: String, measured: Option<(String, bool)>| {
            let (measured, verdict) = match measured {
                None => ("-".to_owned(), "not measured"),
                Some((text, true)) => (text, "met"),
                Some((text, false)) => (text, "MISSED"),
            };
            marks.push(Mark {
                figure: figure.to_owned(),
                mark: limit,
                measured,
                verdict,
            });
        };
        let best = |p: &str| self.find(p, "pass").or_else(|| self.find(p, "hooks"));
        mark(
            "an empty checkpoint",
            "<= 5 ns".into(),
            best("empty").map(|f| (format!("{:.1} ns", f.unit_ns), f.unit_ns <= 5.0)),
        );
        mark(
            "checkpoints a second, small KV",
            ">= 2,000,000".into(),
            best("kv").map(|f| (format!("{:.0}", 1e9 / f.unit_ns), f.unit_ns <= 500.0)),
        );
        for (program, limit) in [("sqlite", 1.5), ("server", 1.03)] {
            let found = best(program).and_then(|f| f.ratio);
            mark(
                &format!("{program}, a checkpoint per unit"),
                format!("<= {limit}"),
                found.map(|r| (format!("{r:.3}"), r <= limit)),
            );
        }
        for (method, limit) in [("pass", 1.35), ("hooks", 1.7)] {
            for per in [10, 1] {
                let ratios: Vec<f64> = KERNELS
                    .iter()
                    .filter_map(|k| self.find(&format!("{k}, {per} sweeps"), method)?.ratio)
                    .collect();
                let mean = (ratios.len() == KERNELS.len()).then(|| {
                    (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64).exp()
                });
                mark(
                    &format!("nine kernels, {method}, a checkpoint per {per} sweeps"),
                    format!("<= {limit}"),
                    mean.map(|m| (format!("{m:.2}"), m <= limit)),
                );
            }
        }
        let plain = self.find("kv", "none").map(|f| f.unit_ns);
        let ours = best("kv").map(|f| f.unit_ns);
        for method in ["mprotect", "userfaultfd", "fork"] {
            let found = self.find("kv", method).map(|f| f.unit_ns);
            let times = match (plain, ours, found) {
                (Some(plain), Some(ours), Some(found)) => {
                    Some((found - plain) / (ours - plain).max(0.1))
                }
                _ => None,
            };
            mark(
                &format!("{method}: dearer per checkpoint, small KV"),
                ">= 10 times".into(),
                times.map(|t| (format!("{t:.0} times"), t >= 10.0)),
            );
        }
        // Bytes of log against bytes written: 72 for 64. The kernel "fill" writes 8 MiB a sweep.
        mark(
            "memory of the log, 8 MiB written",
            "<= 9.5 MiB".into(),
            self.find("fill, 1 sweeps", "pass").map(|f| {
                let mib = f.log_bytes / f64::from(1 << 20);
                (format!("{mib:.2} MiB"), mib <= 9.5)
            }),
        );
        self.report.marks = marks;
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn tell(report: &Report) {
    let mut programs: BTreeMap<&str, Vec<&Figure>> = BTreeMap::new();
    for figure in &report.figures {
        programs.entry(&figure.program).or_default().push(figure);
    }
    println!(
        "{:21} {:12} {:>14} {:>8} {:>12} {:>12}",
        "program", "method", "ns a unit", "ratio", "resident", "log"
    );
    for figures in programs.values() {
        for f in figures {
            println!(
                "{:21} {:12} {:>14.1} {:>8} {:>8.0} KiB {:>8.1} KiB",
                f.program,
                f.method,
                f.unit_ns,
                f.ratio
                    .map_or_else(|| "-".to_owned(), |r| format!("{r:.3}")),
                f.resident_kib,
                f.log_bytes / 1024.0
            );
        }
    }
    println!();
    for m in &report.marks {
        println!(
            "{:50} {:14} {:>14}  {}",
            m.figure, m.mark, m.measured, m.verdict
        );
    }
    for s in &report.skipped {
        println!("SKIPPED: {s}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }
}
