//! What requests carry, as far as it means something here. Fields not named are ignored, as the
//! protocol wants.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `initialize`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Initialize {
    /// Lines begin with 1; they do unless this says no.
    pub lines_start_at1: Option<bool>,
    /// Columns begin with 1; they do unless this says no.
    pub columns_start_at1: Option<bool>,
    /// `path` or `uri`.
    pub path_format: Option<String>,
    /// Events about progress are understood.
    pub supports_progress_reporting: bool,
    /// References into memory are understood.
    pub supports_memory_references: bool,
}

/// `launch` and `attach`: both open a moment of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Launch {
    /// The directory of the recording; `REC@MOMENT` means a moment of it.
    pub recording: Option<String>,
    /// The moment to begin with: `42`, `12.5s`, `-3s`, `crash`, a tag. The last one, without it.
    pub moment: Option<Text>,
    /// The number of a process in the recording.
    pub process: Option<u32>,
    /// A process by its pid.
    pub pid: Option<u32>,
    /// Where sources are: prefixes of paths in the debug information, and what stands for them.
    pub source_map: BTreeMap<String, String>,
    /// More directories with separate debug information.
    pub debug_dirs: Vec<PathBuf>,
    /// Take files whose identity differs from what was recorded.
    pub force: bool,
}

/// A string, or a number that stands for one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// A number.
    Number(u64),
    /// A string.
    Text(String),
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Text(t) => f.write_str(t),
        }
    }
}

/// A source, as clients name it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Its path, or URI.
    pub path: Option<String>,
    /// A number that we gave out; not used for sources with a path.
    pub source_reference: Option<i64>,
}

/// `setBreakpoints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetBreakpoints {
    /// Which file.
    pub source: Source,
    /// The breakpoints.
    pub breakpoints: Option<Vec<SourceBreakpoint>>,
    /// Lines of breakpoints, from clients of long ago.
    #[serde(default)]
    pub lines: Vec<i64>,
}

/// One of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceBreakpoint {
    /// The line.
    pub line: i64,
    /// Stop only where this holds.
    pub condition: Option<String>,
    /// Stop only at this hit.
    pub hit_condition: Option<String>,
    /// Do not stop, say this.
    pub log_message: Option<String>,
}

/// `setFunctionBreakpoints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetFunctionBreakpoints {
    /// The breakpoints.
    pub breakpoints: Vec<FunctionBreakpoint>,
}

/// One of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionBreakpoint {
    /// The function.
    pub name: String,
    /// Stop only where this holds.
    pub condition: Option<String>,
    /// Stop only at this hit.
    pub hit_condition: Option<String>,
}

/// `setDataBreakpoints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetDataBreakpoints {
    /// The breakpoints.
    pub breakpoints: Vec<DataBreakpoint>,
}

/// One of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataBreakpoint {
    /// What `dataBreakpointInfo` said.
    pub data_id: String,
    /// `read`, `write` or `readWrite`.
    pub access_type: Option<String>,
    /// Stop only where this holds.
    pub condition: Option<String>,
    /// Stop only at this hit.
    pub hit_condition: Option<String>,
}

/// `setExceptionBreakpoints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetExceptionBreakpoints {
    /// Which of our filters are on.
    pub filters: Vec<String>,
}

/// `dataBreakpointInfo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataBreakpointInfo {
    /// The container of the variable, if it is one.
    pub variables_reference: Option<i64>,
    /// The variable's name; else an expression, or an address.
    pub name: String,
    /// The frame for an expression.
    pub frame_id: Option<i64>,
    /// How many bytes, if `name` is an address.
    pub bytes: Option<i64>,
    /// `name` is an address.
    pub as_address: bool,
}

/// `stackTrace`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StackTrace {
    /// Whose.
    pub thread_id: i64,
    /// The first frame wanted.
    #[serde(default)]
    pub start_frame: Option<i64>,
    /// How many; all, if 0.
    #[serde(default)]
    pub levels: Option<i64>,
}

/// Anything about a frame: `scopes`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfFrame {
    /// Which.
    pub frame_id: i64,
}

/// Anything about a thread: `continue`, `pause`, `exceptionInfo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfThread {
    /// Which.
    pub thread_id: i64,
}

/// `next`, `stepIn`, `stepOut`, `stepBack`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Whose line must differ.
    pub thread_id: i64,
    /// `statement`, `line` or `instruction`.
    pub granularity: Option<String>,
}

/// `variables`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variables {
    /// Of what.
    pub variables_reference: i64,
    /// `indexed` or `named`.
    pub filter: Option<String>,
    /// The first one wanted.
    pub start: Option<i64>,
    /// How many; all, if 0.
    pub count: Option<i64>,
    /// How values are written.
    pub format: Option<Format>,
}

/// How values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Format {
    /// Integers in base 16.
    pub hex: bool,
}

/// `evaluate`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluate {
    /// What.
    pub expression: String,
    /// In which frame.
    pub frame_id: Option<i64>,
    /// `watch`, `repl`, `hover`, `clipboard`, `variables`.
    pub context: Option<String>,
    /// How values are written.
    pub format: Option<Format>,
}

/// `gotoTargets` and `breakpointLocations`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfLine {
    /// The file.
    pub source: Source,
    /// The line.
    pub line: i64,
    /// The last line, if a range is meant.
    pub end_line: Option<i64>,
}

/// `goto`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Goto {
    /// The thread that should be looked at.
    pub thread_id: i64,
    /// What `gotoTargets` said.
    pub target_id: i64,
}

/// `readMemory`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadMemory {
    /// An address that we gave out, or any.
    pub memory_reference: String,
    /// Bytes from it.
    #[serde(default)]
    pub offset: i64,
    /// How many bytes.
    pub count: i64,
}

/// `disassemble`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disassemble {
    /// An address that we gave out, or any.
    pub memory_reference: String,
    /// Bytes from it.
    #[serde(default)]
    pub offset: i64,
    /// Instructions from it.
    #[serde(default)]
    pub instruction_offset: i64,
    /// How many instructions.
    pub instruction_count: i64,
    /// Name the functions.
    #[serde(default)]
    pub resolve_symbols: bool,
}

/// `modules`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Modules {
    /// The first one wanted.
    pub start_module: Option<i64>,
    /// How many; all, if 0.
    pub module_count: Option<i64>,
}

/// `source`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceArguments {
    /// Which, in clients of today.
    pub source: Option<Source>,
    /// Which, in clients of long ago.
    pub source_reference: i64,
}

/// `cancel`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cancel {
    /// The request that nobody waits for any more.
    pub request_id: Option<i64>,
    /// The progress that nobody waits for any more.
    pub progress_id: Option<String>,
}

/// `completions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completions {
    /// In which frame.
    pub frame_id: Option<i64>,
    /// What was typed.
    pub text: String,
    /// Where the cursor stands.
    pub column: i64,
}

/// `stillframe/goto`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GotoMoment {
    /// Where to: `42`, `12.5s`, `-3s`, `crash`, a tag; `+1` and `-1` are the next and the one before.
    pub moment: Text,
    /// The thread that should be looked at.
    pub thread_id: Option<i64>,
}

/// `stillframe/history`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryArguments {
    /// Of what.
    pub expression: String,
    /// In which frame; of globals without it.
    pub frame_id: Option<i64>,
    /// From which moment on; the first, without it.
    pub from: Option<Text>,
    /// Up to which moment; the last, without it.
    pub to: Option<Text>,
    /// At most so many changes, counted from `from`; 1000 without it.
    pub limit: Option<u64>,
}

/// `stillframe/checkpoints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointsArguments {
    /// The first one wanted, counted from 0.
    pub start: u64,
    /// How many, at most 10,000; 1000 without it.
    pub count: Option<u64>,
}
