//! What was typed to ask the past.

use super::ProcessArgs;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// What all questions about a stretch of time have in common.
#[derive(Clone, Debug, Args)]
pub struct AskArgs {
    #[command(flatten)]
    pub process: ProcessArgs,
    /// The first moment to look at: 42, 12.5s, -3s, a tag. Without it, the first there is.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// The last moment to look at. Without it, the last there is.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// End after this many results.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// One JSON object per line.
    #[arg(long)]
    pub json: bool,
}

/// How expressions find what names mean.
#[derive(Clone, Debug, Default, Args)]
pub struct ScopeArgs {
    /// The thread whose registers and stack an expression sees: its tid. Without it, the main
    /// thread.
    #[arg(long, value_name = "TID")]
    pub thread: Option<u32>,
    /// See the locals of this frame of the thread, 0 being the innermost. Without it or --function,
    /// an expression sees globals, statics, thread-locals and registers.
    #[arg(long, value_name = "N")]
    pub frame: Option<u32>,
    /// See the locals of the innermost frame of this function; where it is not being called, there
    /// is no value.
    #[arg(long, value_name = "NAME", conflicts_with = "frame")]
    pub function: Option<String>,
    /// A directory with separate debug files (.build-id/xx/yy.debug), searched before
    /// /usr/lib/debug; may be repeated.
    #[arg(long = "debug-dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directories: Vec<PathBuf>,
}

/// `still history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// The recording.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// What to follow: an expression (server.clients, queue->len, $rip), or bytes at an address:
    /// u32@0x404010, i16[4]@0x404010, f64@.., ptr@.., str@.., 0x404010:8.
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub expression: String,
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub ask: AskArgs,
    /// From the last change to the first.
    #[arg(long)]
    pub backward: bool,
}

/// `still find`.
#[derive(Clone, Debug, Args)]
pub struct FindArgs {
    /// The recording.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// What has to hold: an expression (queue->len > 1000), or a comparison of bytes at an address:
    /// u32@0x404010 > 1000, str@0x404100 == "idle".
    #[arg(
        value_name = "EXPR",
        allow_hyphen_values = true,
        required_unless_present = "write",
        conflicts_with = "write"
    )]
    pub expression: Option<String>,
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub ask: AskArgs,
    /// Instead of an expression: the moments in whose interval these bytes changed.
    #[arg(long, value_name = "ADDR:LEN", value_parser = stretch)]
    pub write: Option<(u64, u64)>,
    /// The last moment at which it holds, instead of the first.
    #[arg(long, conflicts_with_all = ["all", "bisect"])]
    pub last: bool,
    /// The first moment only, of changes of bytes.
    #[arg(long, requires = "write", conflicts_with = "last")]
    pub first: bool,
    /// Every stretch of moments over which it holds.
    #[arg(long, conflicts_with_all = ["bisect", "write"])]
    pub all: bool,
    /// It holds from some moment on and not before: find that moment by halving, and check that it
    /// was so.
    #[arg(long, conflicts_with = "write")]
    pub bisect: bool,
}

fn stretch(text: &str) -> Result<(u64, u64), String> {
    stillframe_timeline::raw::stretch(text)
}

/// `still grep`.
#[derive(Clone, Debug, Args)]
pub struct GrepArgs {
    /// The recording.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// What to look for.
    #[arg(value_name = "NEEDLE", allow_hyphen_values = true)]
    pub needle: String,
    /// What it is: text, hex (de ad be ef), or a number in memory: u8, u16, u32, u64, i8, i16, i32,
    /// i64, f32, f64, ptr.
    #[arg(long = "as", value_name = "FORM", default_value = "text")]
    pub form: String,
    /// Only at addresses that are multiples of this. Without it 1; for numbers, their size.
    #[arg(long, value_name = "N")]
    pub align: Option<u64>,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `still diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The earlier moment: REC@42, REC@12.5s, REC@-3s, REC@first, ...
    #[arg(value_name = "REC@MOMENT")]
    pub old: OsString,
    /// The later moment, of the same recording; the name of the recording may be left out: @43.
    #[arg(value_name = "REC@MOMENT")]
    pub new: OsString,
    #[command(flatten)]
    pub process: ProcessArgs,
    /// A directory with separate debug files (.build-id/xx/yy.debug), searched before
    /// /usr/lib/debug; may be repeated.
    #[arg(long = "debug-dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directories: Vec<PathBuf>,
    /// All that differs. Without it the first of each sort, and how many more there are.
    #[arg(long)]
    pub all: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still bookmark`.
#[derive(Clone, Debug, Args)]
pub struct BookmarkArgs {
    /// The moment, REC@42; only the recording, with --list and --delete.
    #[arg(value_name = "REC[@MOMENT]")]
    pub moment: OsString,
    /// The name; without it one is made up. A bookmark is a tag: REC@NAME is the moment then, and
    /// nothing removes it.
    pub name: Option<String>,
    /// Note this beside it.
    #[arg(short = 'm', long, value_name = "TEXT", conflicts_with_all = ["list", "delete"])]
    pub note: Option<String>,
    /// List the bookmarks of a recording, with their notes.
    #[arg(short, long, conflicts_with_all = ["name", "delete"])]
    pub list: bool,
    /// Take the bookmark away.
    #[arg(short, long, requires = "name")]
    pub delete: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}
