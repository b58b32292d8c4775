//! `still inproc selftest`: every kind of store a compiler can emit, in C, C++ and Rust, compiled
//! with each compiler that is here and run. What is missed is named: a rollback would leave it.

use crate::Error;
use crate::args::SelftestArgs;
use crate::compiler::{Compiler, Granule, Kind, Language, Way};
use crate::embed::Files;
use crate::{pass, rust};
use std::path::Path;
use std::process::{Command, Output};

const HEADER: &str = include_str!("../selftest/kinds.h");
const C: &str = include_str!("../selftest/kinds.c");
const CXX: &str = include_str!("../selftest/kinds.cpp");
const RUST: &str = include_str!("../selftest/kinds.rs");

/// One matrix.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Matrix {
    /// Compiler, instrumentation, level of optimisation.
    pub name: String,
    /// C, C++ or Rust.
    pub language: &'static str,
    /// Kinds that are undone.
    pub seen: u32,
    /// Kinds that are not.
    pub missed: Vec<String>,
    /// Kinds that wrote nothing, or were not run: nothing is known of them.
    pub unknown: Vec<String>,
    /// Why there are no results.
    pub failed: Option<String>,
}

/// Runs it. The exit status is 1 only if a matrix could not be run at all: what a compiler misses is
/// a fact to be told, not a failure.
///
/// # Errors
/// If files cannot be written.
pub fn run(args: &SelftestArgs) -> Result<u8, Error> {
    let matrices = all(args.compiler.as_deref(), |m| {
        if !args.json {
            tell(m);
        }
    })?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&matrices).unwrap_or_default()
        );
    }
    if matrices.is_empty() {
        return Err(Error::NoCompiler);
    }
    Ok(u8::from(matrices.iter().any(|m| m.failed.is_some())))
}

fn tell(m: &Matrix) {
    if let Some(why) = &m.failed {
        println!("{:24} {:5} not run: {why}", m.name, m.language);
        return;
    }
    let all = m.seen as usize + m.missed.len();
    println!(
        "{:24} {:5} {} of {all} kinds of store are undone",
        m.name, m.language, m.seen
    );
    if !m.missed.is_empty() {
        println!("{:30} missed: {}", "", m.missed.join(", "));
    }
    if !m.unknown.is_empty() {
        println!("{:30} nothing known of: {}", "", m.unknown.join(", "));
    }
}

/// Every matrix that can be run here.
///
/// # Errors
/// As [`run`].
pub fn all(only: Option<&str>, mut each: impl FnMut(&Matrix)) -> Result<Vec<Matrix>, Error> {
    let files = Files::open()?;
    let place =
        tempfile::tempdir().map_err(Error::io("making a directory in", std::env::temp_dir()))?;
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).map_err(Error::io("writing", path))
    };
    write("kinds.h", HEADER)?;
    write("kinds.c", C)?;
    write("kinds.cpp", CXX)?;
    write("kinds.rs", RUST)?;
    let mut matrices = Vec::new();
    for (language, name, source, candidates) in [
        (Language::C, "C", "kinds.c", ["clang", "gcc"]),
        (Language::Cxx, "C++", "kinds.cpp", ["clang++", "g++"]),
    ] {
        let _ = language;
        for compiler in candidates
            .iter()
            .filter_map(|c| Compiler::ask(Path::new(c)).ok())
        {
            let mut ways = vec![(Way::Hooks, Granule::Line)];
            if let Some(plugin) = pass::built(&files, &compiler) {
                ways.push((Way::Pass(plugin.clone()), Granule::Line));
                ways.push((Way::Pass(plugin), Granule::Word));
            }
            for (way, granule) in ways {
                for level in ["-O0", "-O2"] {
                    let kind = match (&way, compiler.kind) {
                        (Way::Pass(_), _) => "pass",
                        (_, Kind::Clang) => "hooks",
                        (_, Kind::Gcc) => "tsan",
                    };
                    let title = format!("{} {kind} {} {level}", compiler.name(), granule.name());
                    if only.is_some_and(|o| !title.contains(o)) {
                        continue;
                    }
                    let output = build_c(
                        &compiler,
                        &way,
                        granule,
                        level,
                        &files,
                        place.path(),
                        source,
                    );
                    let matrix = judge(title, name, output);
                    each(&matrix);
                    matrices.push(matrix);
                }
            }
        }
    }
    if Command::new("rustc")
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
    {
        for granule in [Granule::Line, Granule::Word] {
            let title = format!("rustc hooks {}", granule.name());
            if only.is_some_and(|o| !title.contains(o)) {
                continue;
            }
            let matrix = judge(title, "Rust", build_rust(granule, &files, place.path()));
            each(&matrix);
            matrices.push(matrix);
        }
    }
    Ok(matrices)
}

fn checked(what: &str, output: std::io::Result<Output>) -> Result<Output, String> {
    match output {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said
                .lines()
                .find(|l| l.contains("error"))
                .or_else(|| said.lines().next());
            Err(format!(
                "{what}: {} ({})",
                line.unwrap_or("no message"),
                output.status
            ))
        }
        Err(error) => Err(format!("{what}: {error}")),
    }
}

fn build_c(
    compiler: &Compiler,
    way: &Way,
    granule: Granule,
    level: &str,
    files: &Files,
    place: &Path,
    source: &str,
) -> Result<Output, String> {
    let mut compile = Command::new(&compiler.path);
    compile
        .current_dir(place)
        .args(["-w", level, "-c", source, "-o", "kinds.o"]);
    if source.ends_with("cpp") {
        compile.arg("-std=c++17");
    }
    compile
        .args(compiler.compile_flags(way))
        .arg("-isystem")
        .arg(files.include())
        .arg("-include")
        .arg(files.include().join("stillframe/instrumented.h"))
        .env(pass::VARIABLE, granule.name());
    checked("compiling", compile.output())?;
    let mut link = Command::new(&compiler.path);
    link.current_dir(place)
        .args(["kinds.o", "-o", "kinds"])
        .arg(files.runtime(granule));
    checked("linking", link.args(["-lpthread", "-ldl"]).output())?;
    checked(
        "running",
        Command::new(place.join("kinds"))
            .current_dir(place)
            .output(),
    )
}

fn build_rust(granule: Granule, files: &Files, place: &Path) -> Result<Output, String> {
    let mut compile = Command::new("rustc");
    compile
        .current_dir(place)
        .args(["--edition", "2024", "-Awarnings", "-o", "kinds", "kinds.rs"])
        .args(rust::flags())
        .arg(format!("-Clink-arg={}", files.runtime(granule).display()));
    checked("compiling", compile.output())?;
    checked(
        "running",
        Command::new(place.join("kinds"))
            .current_dir(place)
            .output(),
    )
}

fn judge(name: String, language: &'static str, output: Result<Output, String>) -> Matrix {
    let mut matrix = Matrix {
        name,
        language,
        seen: 0,
        missed: Vec::new(),
        unknown: Vec::new(),
        failed: None,
    };
    match output {
        Err(why) => matrix.failed = Some(why),
        Ok(output) => {
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                match line.split_once('\t') {
                    Some((_, "seen")) => matrix.seen += 1,
                    Some((kind, "missed")) => matrix.missed.push(kind.to_owned()),
                    Some((kind, _)) => matrix.unknown.push(kind.to_owned()),
                    None => {}
                }
            }
            if matrix.seen == 0 {
                matrix.failed = Some("it printed no result".to_owned());
            }
        }
    }
    matrix
}
