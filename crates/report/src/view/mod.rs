//! The timeline in the terminal.
//!
//! A recording as lanes over one axis of time: how long the target stood still, what it wrote, what
//! that took, what happened; below them the threads at the chosen moment with their source, and
//! between both the values of watched expressions over the whole recording. It works over any
//! connection: 80 columns, 24 rows, sixteen colours or none.
//!
//! [`state`] is the whole of it as a pure state machine, [`draw`] puts a state on a screen, and both
//! are tested without a terminal. Everything that reads the recording runs in threads of its own and
//! can be given up, so that no question, however long, blocks the keys.

pub mod asked;
pub mod draw;
mod keys;
pub mod lanes;
pub mod layout;
mod line;
mod look;
mod past;
mod question;
mod run;
mod source;
pub mod state;
mod terminal;
mod text;
pub mod theme;
pub mod watch;
pub mod window;
mod work;

pub use run::run;
pub use state::State;
pub use theme::Theme;

use std::path::PathBuf;

/// How to show a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Colours and characters.
    pub theme: Theme,
    /// Expressions to watch from the start.
    pub watches: Vec<String>,
    /// Directories in which source is looked for.
    pub sources: Vec<PathBuf>,
}

/// Why nothing can be shown. Messages are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody to look and to press keys.
    #[error(
        "still view needs a terminal for its input and output; still ls, still show and still \
         report print instead"
    )]
    NoTerminal,
    /// The terminal failed.
    #[error("the terminal cannot be used: {0}")]
    Terminal(std::io::Error),
    /// There is nothing in it and nothing will come.
    #[error("{0} has no checkpoint")]
    Empty(String),
    /// The recording cannot be read.
    #[error(transparent)]
    Store(#[from] stillframe_store::Error),
    /// A thread could not be started.
    #[error("no thread can be started: {0}")]
    Thread(std::io::Error),
}

#[cfg(test)]
mod tests;
