//! Moments as people write them: `42`, `12.5s`, `-3s`, `500ms`, `first`, `last`, `crash`, `exit`.

use crate::Error;
use std::path::PathBuf;
use std::time::Duration;

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The first checkpoint.
    First,
    /// The last.
    Last,
    /// The one with this number.
    Number(u64),
    /// The last one not later than this after the start.
    At(Duration),
    /// The last one not later than this before the end.
    FromEnd(Duration),
    /// The one taken as a fatal signal was about to be delivered.
    Crash,
    /// The one taken as the process was exiting.
    Exit,
}

impl std::str::FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Err(Error::MomentSyntax(text.to_owned()))
    }
}

/// Splits `REC@42` into the recording's path and the moment.
///
/// # Errors
/// If what follows the last `@` is not a moment.
pub fn split_moment(text: &str) -> Result<(PathBuf, Option<Moment>), Error> {
    match text.rsplit_once('@') {
        None => Ok((text.into(), None)),
        Some((path, moment)) => Ok((path.into(), Some(moment.parse()?))),
    }
}
