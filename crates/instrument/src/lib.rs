//! Building programs that can take checkpoints of themselves: `still cc`, `still c++`, and
//! `still inproc`.
//!
//! The runtime that such programs are linked with is the crate `inproc`; this one carries its object
//! ([`embed`]), chooses the compiler and what to tell it ([`compiler`], [`cc`]), builds the compiler
//! pass ([`pass`]), and says what a build does not cover ([`selftest`], [`audit`]).
#![forbid(unsafe_code)]

pub mod args;
pub mod audit;
pub mod bench;
pub mod cc;
pub mod compiler;
pub mod embed;
pub mod pass;
pub mod rust;
pub mod selftest;

use std::path::PathBuf;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a program.
    #[error("{what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came of it.
        error: std::io::Error,
    },
    /// No compiler.
    #[error("no C compiler is installed: install clang or gcc, or name one with --compiler=PATH")]
    NoCompiler,
    /// A compiler that is neither.
    #[error(
        "{0} is neither clang nor gcc as far as --version says; name another with --compiler=PATH"
    )]
    Unknown(String),
    /// Something that cannot be had together.
    #[error("{0}")]
    Refused(String),
    /// The pass does not build.
    #[error("the pass for LLVM {version} cannot be built: {why}")]
    Pass {
        /// Of LLVM.
        version: u32,
        /// Last line of what was said.
        why: String,
    },
    /// Not a program that can be read.
    #[error("{}: {why}", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A test program failed.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Wraps an error of the system.
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { what, path, error }
    }
}

/// Runs `still inproc`; the result is the exit status.
///
/// # Errors
/// As the part that was asked for.
pub fn run(args: &args::InprocArgs) -> Result<u8, Error> {
    use args::InprocCommand as C;
    match &args.command {
        C::Selftest(args) => selftest::run(args),
        C::Audit(args) => audit::run(args),
        C::Pass(args) => pass::run(args),
        C::Rustflags(args) => rust::run(args),
    }
}
