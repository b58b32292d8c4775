//! Which compiler, and what it is told.
//!
//! Per compiler the instrumentation that misses least: LLVM's for the kernel's address sanitizer
//! (calls before stores, none before loads), our own pass where it was built, and for gcc what it
//! does for the thread sanitizer (its address sanitizer misses all named globals).

use crate::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a tag stands for; a variant of the runtime each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Granule {
    /// 64 bytes.
    Line,
    /// 8 bytes: programs with threads.
    Word,
    /// No tags.
    Log,
}

impl Granule {
    /// As files are named.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Word => "word",
            Self::Log => "log",
        }
    }
}

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// LLVM's.
    Clang,
    /// GNU's.
    Gcc,
}

/// A language's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `still cc`.
    C,
    /// `still c++`.
    Cxx,
}

/// A compiler that is installed.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// How it is called.
    pub path: PathBuf,
    /// Whose.
    pub kind: Kind,
    /// Major version.
    pub version: u32,
}

/// What is compiled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Our pass, from this file.
    Pass(PathBuf),
    /// The compiler's own instrumentation.
    Hooks,
}

impl Compiler {
    /// Asks a compiler what it is.
    ///
    /// # Errors
    /// If it cannot be run, or is neither clang nor gcc.
    pub fn ask(path: &Path) -> Result<Self, Error> {
        let output = Command::new(path)
            .arg("--version")
            .output()
            .map_err(Error::io("running", path))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let kind = if text.contains("clang") {
            Kind::Clang
        } else if text.contains("Free Software Foundation") {
            Kind::Gcc
        } else {
            return Err(Error::Unknown(path.display().to_string()));
        };
        Ok(Self {
            path: path.to_path_buf(),
            kind,
            version: major(&text, kind),
        })
    }

    /// The best that is installed: clang before gcc.
    ///
    /// # Errors
    /// [`Error::NoCompiler`].
    pub fn find(language: Language) -> Result<Self, Error> {
        let names = match language {
            Language::C => ["clang", "gcc", "cc"],
            Language::Cxx => ["clang++", "g++", "c++"],
        };
        names
            .iter()
            .find_map(|name| Self::ask(Path::new(name)).ok())
            .ok_or(Error::NoCompiler)
    }

    /// As reports name it.
    pub fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Clang => "clang",
            Kind::Gcc => "gcc",
        };
        format!("{kind}-{}", self.version)
    }

    /// What instruments a compilation.
    pub fn compile_flags(&self, way: &Way) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        match (self.kind, way) {
            (Kind::Clang, Way::Pass(plugin)) => {
                let mut flag = OsString::from("-fpass-plugin=");
                flag.push(plugin);
                flags.push(flag);
            }
            (Kind::Clang, Way::Hooks) => {
                flags.push("-fsanitize=kernel-address".into());
                for option in kernel_address(self.version) {
                    flags.push("-mllvm".into());
                    flags.push(option.into());
                }
            }
            (Kind::Gcc, _) => {
                flags.extend(
                    [
                        "-fsanitize=thread",
                        "-fno-builtin",
                        "-mmemcpy-strategy=libcall:-1:align",
                        "-mmemset-strategy=libcall:-1:align",
                    ]
                    .map(OsString::from),
                );
                if self.version >= 12 {
                    flags.extend(
                        ["--param", "tsan-instrument-func-entry-exit=0"].map(OsString::from),
                    );
                }
            }
        }
        // Checked variants of the C library's functions write unseen; link-time optimisation would
        // move code past the instrumentation.
        flags.extend(["-U_FORTIFY_SOURCE", "-fno-lto"].map(OsString::from));
        flags
    }
}

/// Options of LLVM's pass: calls before stores, for everything but locals.
pub(crate) fn kernel_address(version: u32) -> Vec<&'static str> {
    let mut options = vec![
        "-asan-instrumentation-with-call-threshold=0",
        "-asan-instrument-reads=false",
        "-asan-stack=0",
        "-asan-globals=0",
        "-asan-opt-globals=0",
        "-asan-opt-stack=0",
    ];
    if version >= 15 {
        options.push("-asan-kernel-mem-intrinsic-prefix=1");
    }
    options
}

/// "gcc (Debian 12.2.0-14) 12.2.0", "Debian clang version 14.0.6".
fn major(text: &str, kind: Kind) -> u32 {
    let line = text.lines().next().unwrap_or_default();
    let number = |word: &str| word.split('.').next().and_then(|n| n.parse().ok());
    let found = match kind {
        Kind::Clang => line.split("version ").nth(1).and_then(number),
        Kind::Gcc => line
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').next())
            .and_then(number),
    };
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            major("Debian clang version 14.0.6\nTarget: x", Kind::Clang),
            14
        );
        assert_eq!(major("clang version 19.1.7 (++2025)", Kind::Clang), 19);
        assert_eq!(
            major(
                "gcc (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright",
                Kind::Gcc
            ),
            12
        );
        assert_eq!(major("strange", Kind::Gcc), 0);
    }

    #[test]
    fn old_compilers_get_no_option_they_do_not_know() {
        assert!(!kernel_address(14).iter().any(|o| o.contains("prefix")));
        assert!(kernel_address(19).iter().any(|o| o.contains("prefix")));
    }
}
