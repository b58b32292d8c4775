//! `still view`.

use crate::args::view::ViewArgs;
use crate::exit::{Code, fail};
use crate::open;
use anyhow::Context as _;
use stillframe_linux::signals::Interrupts;
use stillframe_report::view::{self, Error, Options, Theme};

/// Shows a recording in the terminal until the user has seen enough.
pub fn run(args: &ViewArgs) -> anyhow::Result<u8> {
    let (path, recording, at) = open::recording_or_moment(&args.recording)?;
    let options = Options {
        theme: Theme::of(|name| std::env::var(name).ok()),
        watches: args.watch.clone(),
        sources: args.source.clone(),
    };
    // Before any thread is started: a signal must find us, and we the terminal, as it was.
    let interrupts = Interrupts::new().context("signals cannot be waited for")?;
    let mut signal = None;
    let shown = view::run(&path, recording, at, &options, &mut || {
        signal = signal
            .take()
            .or_else(|| interrupts.take().map(|i| i.signal));
        signal.is_some()
    });
    match (shown, signal) {
        // As a shell says it of a command that a signal ended.
        (_, Some(signal)) => Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        (Ok(()), None) => Ok(0),
        (Err(Error::Store(error)), None) => Err(error.into()),
        (Err(error @ Error::Empty(_)), None) => Err(fail(Code::Recording, error.to_string())),
        (Err(error), None) => Err(error.into()),
    }
}
