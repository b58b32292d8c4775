//! Logging: to stderr, so that stdout stays what the command was asked for.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Starts logging. `verbose` counts `-v`: warnings, information, debugging, everything. The
/// variable STILL_LOG, in the syntax of tracing's `EnvFilter`, overrides it.
pub fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = std::env::var("STILL_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(level));
    // Only a second subscriber makes this fail, and there is none.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose >= 2)
        .try_init();
}
