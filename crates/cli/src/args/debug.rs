//! What was typed to debug a moment.

use super::ProcessArgs;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `still debug`.
#[derive(Clone, Debug, Args)]
pub struct DebugArgs {
    /// The moment to begin at: REC@42 (checkpoint 42), REC@12.5s (that time), REC@-3s (before the
    /// end), REC@first, REC@last, REC@crash, REC@exit.
    #[arg(value_name = "REC@MOMENT", required_unless_present = "dap")]
    pub moment: Option<OsString>,
    #[command(flatten)]
    pub process: ProcessArgs,
    /// A command for the debugger, run once it is connected. May be given several times.
    #[arg(short, long = "command", value_name = "CMD", conflicts_with_all = ["listen", "stdio"])]
    pub commands: Vec<OsString>,
    /// End the debugger after the commands.
    #[arg(long, conflicts_with_all = ["listen", "stdio"])]
    pub batch: bool,
    /// The GDB to start.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
    pub gdb: Option<PathBuf>,
    /// Start LLDB instead, or this one.
    #[arg(
        long,
        value_name = "PATH",
        value_hint = ValueHint::ExecutablePath,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "lldb",
        conflicts_with_all = ["gdb", "listen", "stdio"]
    )]
    pub lldb: Option<PathBuf>,
    /// Start no debugger; serve those that connect, one after the other, until interrupted:
    /// 127.0.0.1:PORT (0 for any), [::1]:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Let --listen take an address that other machines can reach. Whoever connects reads all
    /// memory of the recording.
    #[arg(long, requires = "listen")]
    pub allow_remote: bool,
    /// End --listen when the first debugger has left.
    #[arg(long, requires = "listen")]
    pub once: bool,
    /// Start no debugger; serve one on standard input and output, as GDB starts it:
    /// target remote | still debug REC@42 --stdio.
    #[arg(long, conflicts_with_all = ["listen", "gdb"])]
    pub stdio: bool,
    /// Serve an editor, which speaks the Debug Adapter Protocol, on standard input and output; with
    /// --listen, editors on 127.0.0.1:PORT. The editor may name the moment. See docs/editors.md.
    #[arg(long, conflicts_with_all = ["gdb", "lldb", "commands", "batch", "stdio", "arguments"])]
    pub dap: bool,
    /// Use files of this machine for what the recording keeps no copy of, even if they are not
    /// those that were recorded. What the debugger shows may then be wrong.
    #[arg(long)]
    pub force: bool,
    /// A directory with separate debug files (.build-id/xx/yy.debug), searched before
    /// /usr/lib/debug; for GDB's `monitor` commands and for --dap. May be repeated.
    #[arg(long = "debug-dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub debug_dirs: Vec<PathBuf>,
    /// Arguments for the debugger, after `--`.
    #[arg(last = true, value_name = "ARGS", conflicts_with_all = ["listen", "stdio"])]
    pub arguments: Vec<OsString>,
}
