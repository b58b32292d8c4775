//! `still cc`: the compiler, with what a program needs to take checkpoints of itself.
//!
//! Arguments pass as they are; ours are taken out. Where there is something to compile, the
//! instrumentation's flags are added; where a program is linked, the runtime. Shared libraries are
//! instrumented and not linked with it: they use the program's.

use crate::Error;
use crate::args::CcArgs;
use crate::compiler::{Compiler, Granule, Kind, Language, Way};
use crate::embed::Files;
use crate::pass;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Only say it.
    pub print: bool,
    /// The runtime's variant.
    pub granule: Granule,
    /// The compiler's own instrumentation even if there is a pass.
    pub hooks: bool,
    /// Another compiler.
    pub compiler: Option<PathBuf>,
    /// The compiler's arguments.
    pub rest: Vec<OsString>,
}

/// What is to be done with the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Compile, not link.
    Compile,
    /// Link a program, maybe compiling first.
    Program,
    /// Link something that is no program.
    Library,
    /// Neither.
    Other,
}

/// Runs it; the result is the compiler's exit status.
///
/// # Errors
/// If there is no compiler, it cannot be run, or what is asked for cannot be instrumented.
pub fn run(language: Language, args: &CcArgs) -> Result<u8, Error> {
    let request = read(
        &args.arguments,
        std::env::var("STILL_CC_OPTIONS").ok().as_deref(),
    )?;
    let compiler = match &request.compiler {
        Some(path) => Compiler::ask(path)?,
        None => Compiler::find(language)?,
    };
    let files = Files::open()?;
    let mut status = 0;
    for command in commands(&compiler, &request, &files, language)? {
        status = command.run(request.print)?;
        if status != 0 {
            break;
        }
    }
    Ok(status)
}

/// Takes our options out.
///
/// # Errors
/// For what cannot be had together with instrumentation.
pub fn read(arguments: &[OsString], more: Option<&str>) -> Result<Request, Error> {
    let mut request = Request {
        print: false,
        granule: Granule::Line,
        hooks: false,
        compiler: None,
        rest: Vec::new(),
    };
    let more = more
        .unwrap_or_default()
        .split_whitespace()
        .map(OsString::from);
    for argument in more.chain(arguments.iter().cloned()) {
        let text = argument.to_str().unwrap_or_default();
        match text {
            "--print" => request.print = true,
            "--threads" => request.granule = Granule::Word,
            "--undo-log" => (request.granule, request.hooks) = (Granule::Log, true),
            "--hooks" => request.hooks = true,
            "-static" | "-static-pie" | "-static-libstdc++" => {
                return Err(Error::Refused(format!(
                    "{text}: functions of the libraries of C and C++ that write memory can only be seen where these are linked dynamically"
                )));
            }
            _ if text.starts_with("--compiler=") => {
                request.compiler = Some(PathBuf::from(&text["--compiler=".len()..]));
            }
            _ if text.starts_with("-fsanitize=") => {
                return Err(Error::Refused(format!(
                    "{text}: the instrumentation is a sanitizer's, and there can be one only"
                )));
            }
            _ => request.rest.push(argument),
        }
    }
    Ok(request)
}

/// Whether an argument names something to compile.
fn is_source(argument: &OsStr) -> bool {
    let endings = ["c", "cc", "cp", "cxx", "cpp", "c++", "C", "i", "ii"];
    !argument.as_encoded_bytes().starts_with(b"-")
        && Path::new(argument)
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|e| endings.contains(&e))
}

fn job(arguments: &[OsString]) -> Job {
    let has = |names: &[&str]| arguments.iter().any(|a| names.iter().any(|n| a == n));
    if has(&["-c", "-S", "-E", "-M", "-MM", "-fsyntax-only"]) {
        Job::Compile
    } else if has(&["-shared", "-r", "-nostartfiles"]) {
        Job::Library
    } else if has(&["--version", "-v", "-dumpversion", "-dumpmachine", "-###"])
        && !sources(arguments).any(|_| true)
        || arguments.is_empty()
        || arguments.iter().any(|a| {
            a.to_str()
                .is_some_and(|t| t.starts_with("-print-") || t.starts_with("--print-"))
        })
    {
        Job::Other
    } else {
        Job::Program
    }
}

/// Arguments that are inputs, not values of options.
fn sources(arguments: &[OsString]) -> impl Iterator<Item = (usize, &OsString)> {
    let takes = [
        "-o", "-I", "-L", "-D", "-U", "-x", "-include", "-isystem", "-MF", "-MT", "-MQ",
        "-Xlinker", "-Xclang", "-mllvm", "--param",
    ];
    arguments.iter().enumerate().filter(move |(i, a)| {
        is_source(a) && !(*i > 0 && takes.iter().any(|t| arguments[i - 1] == *t))
    })
}

/// One call of the compiler.
#[derive(Clone, Debug)]
struct Call {
    program: PathBuf,
    arguments: Vec<OsString>,
    granule: Option<&'static str>,
    /// Objects that are only needed for it.
    _objects: Option<std::rc::Rc<tempfile::TempDir>>,
}

impl Call {
    fn run(&self, print: bool) -> Result<u8, Error> {
        if print {
            let mut line = String::new();
            if let Some(granule) = self.granule {
                line.push_str(&format!("{}={granule} ", pass::VARIABLE));
            }
            line.push_str(&quoted(self.program.as_os_str()));
            for argument in &self.arguments {
                line.push(' ');
                line.push_str(&quoted(argument));
            }
            // A closed pipe is no failure of ours.
            let _ = writeln!(std::io::stdout(), "{line}");
            return Ok(0);
        }
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if let Some(granule) = self.granule {
            command.env(pass::VARIABLE, granule);
        }
        let status = command
            .status()
            .map_err(Error::io("running", &self.program))?;
        Ok(status.code().map_or(1, |code| code.clamp(0, 255) as u8))
    }
}

/// As a shell reads it.
fn quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn commands(
    compiler: &Compiler,
    request: &Request,
    files: &Files,
    language: Language,
) -> Result<Vec<Call>, Error> {
    let job = job(&request.rest);
    let call = |arguments: Vec<OsString>, granule, objects| Call {
        program: compiler.path.clone(),
        arguments,
        granule,
        _objects: objects,
    };
    if job == Job::Other {
        return Ok(vec![call(request.rest.clone(), None, None)]);
    }
    let way = if request.hooks || compiler.kind == Kind::Gcc {
        Way::Hooks
    } else {
        pass::built(files, compiler).map_or(Way::Hooks, Way::Pass)
    };
    let granule = matches!(way, Way::Pass(_)).then(|| request.granule.name());
    let mut flags = compiler.compile_flags(&way);
    flags.push("-isystem".into());
    flags.push(files.include().into());
    flags.push("-include".into());
    flags.push(files.include().join("stillframe/instrumented.h").into());
    let mut link: Vec<OsString> = Vec::new();
    if job == Job::Program {
        link.push(files.runtime(request.granule).into());
        // Libraries that are instrumented use the program's runtime.
        for names in ["__asan_*", "__tsan_*", "__still_*", "still_inproc_*"] {
            link.push(format!("-Wl,--export-dynamic-symbol={names}").into());
        }
        link.push("-lpthread".into());
        link.push("-ldl".into());
    }
    let sources: Vec<usize> = sources(&request.rest).map(|(i, _)| i).collect();
    if job == Job::Compile || compiler.kind == Kind::Clang {
        // clang's flags mean nothing to the linker, so one call does both.
        let mut arguments = request.rest.clone();
        if job == Job::Compile || !sources.is_empty() {
            arguments.extend(flags);
        }
        // The runtime may follow `-x c`, which would make it a source.
        if !link.is_empty() && arguments.iter().any(|a| a == "-x") {
            arguments.extend(["-x", "none"].map(OsString::from));
        }
        arguments.extend(link);
        return Ok(vec![call(arguments, granule, None)]);
    }
    // gcc's flag would link the sanitizer's own runtime: compile and link apart.
    if sources.is_empty() {
        let mut arguments = request.rest.clone();
        arguments.extend(link);
        return Ok(vec![call(arguments, None, None)]);
    }
    let _ = language;
    let place =
        tempfile::tempdir().map_err(Error::io("making a directory in", std::env::temp_dir()))?;
    let place = std::rc::Rc::new(place);
    let mut calls = Vec::new();
    let mut linked = request.rest.clone();
    for (n, &index) in sources.iter().enumerate() {
        let object = place.path().join(format!("{n}.o"));
        let mut arguments: Vec<OsString> = Vec::new();
        let mut skip = false;
        for (i, argument) in request.rest.iter().enumerate() {
            let text = argument.to_str().unwrap_or_default();
            if skip || (sources.contains(&i) && i != index) {
                skip = false;
            } else if text == "-o" {
                skip = true;
            } else if !(text.starts_with("-l")
                || text.starts_with("-L")
                || text.starts_with("-Wl,")
                || is_object(argument))
            {
                arguments.push(argument.clone());
            }
        }
        arguments.extend(flags.iter().cloned());
        arguments.extend(["-c".into(), "-o".into(), object.clone().into_os_string()]);
        calls.push(call(arguments, None, Some(place.clone())));
        linked[index] = object.into();
    }
    linked.extend(link);
    calls.push(call(linked, None, Some(place)));
    Ok(calls)
}

fn is_object(argument: &OsStr) -> bool {
    !argument.as_encoded_bytes().starts_with(b"-")
        && Path::new(argument)
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|e| ["o", "a", "so", "lo"].contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn our_options_are_taken_out() {
        let request = read(
            &words("--threads -O2 --print -c a.c -o a.o"),
            Some("--hooks"),
        )
        .unwrap();
        assert!(request.print && request.hooks);
        assert_eq!(request.granule, Granule::Word);
        assert_eq!(request.rest, words("-O2 -c a.c -o a.o"));
        assert!(read(&words("-static a.c"), None).is_err());
        assert!(read(&words("-fsanitize=address a.c"), None).is_err());
    }

    #[test]
    fn what_is_done() {
        assert_eq!(job(&words("-c a.c")), Job::Compile);
        assert_eq!(job(&words("a.c -o a")), Job::Program);
        assert_eq!(job(&words("a.o b.o -lm")), Job::Program);
        assert_eq!(job(&words("-shared a.o -o liba.so")), Job::Library);
        assert_eq!(job(&words("--version")), Job::Other);
        assert_eq!(job(&words("-print-file-name=x.o")), Job::Other);
        let arguments = words("-o out.c a.c -include b.c c.cpp");
        let found: Vec<usize> = sources(&arguments).map(|(i, _)| i).collect();
        assert_eq!(found, [2, 5]);
    }

    #[test]
    fn a_shell_reads_back_what_is_printed() {
        assert_eq!(quoted(OsStr::new("-DX=1")), "-DX=1");
        assert_eq!(quoted(OsStr::new("-DX=\"it's\"")), "'-DX=\"it'\\''s\"'");
        assert_eq!(quoted(OsStr::new("")), "''");
    }
}
