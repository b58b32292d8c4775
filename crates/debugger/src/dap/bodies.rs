//! What answers and events carry, in the words of the protocol (version 1.68). Properties that this
//! adapter never has anything to say for are left out.

use serde::Serialize;

/// What this adapter can do.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(
    missing_docs,
    clippy::struct_excessive_bools,
    reason = "the names are the protocol's"
)]
pub struct Capabilities {
    pub supports_configuration_done_request: bool,
    pub supports_function_breakpoints: bool,
    pub supports_conditional_breakpoints: bool,
    pub supports_hit_conditional_breakpoints: bool,
    pub supports_evaluate_for_hovers: bool,
    pub supports_step_back: bool,
    pub supports_goto_targets_request: bool,
    pub supports_completions_request: bool,
    pub supports_modules_request: bool,
    pub supports_exception_info_request: bool,
    pub supports_value_formatting_options: bool,
    pub supports_delayed_stack_trace_loading: bool,
    pub supports_loaded_sources_request: bool,
    pub supports_log_points: bool,
    pub supports_terminate_request: bool,
    pub supports_data_breakpoints: bool,
    pub supports_data_breakpoint_bytes: bool,
    pub supports_read_memory_request: bool,
    pub supports_disassemble_request: bool,
    pub supports_cancel_request: bool,
    pub supports_breakpoint_locations_request: bool,
    pub supports_clipboard_context: bool,
    pub supports_stepping_granularity: bool,
    pub exception_breakpoint_filters: Vec<ExceptionFilter>,
}

/// A sort of moments to stop at.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExceptionFilter {
    /// Its name between client and adapter.
    pub filter: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What it does, for people.
    pub description: &'static str,
    /// Whether it begins switched on.
    pub default: bool,
}

/// A thread.
#[derive(Clone, Debug, Serialize)]
pub struct Thread {
    /// Its number.
    pub id: i64,
    /// Its name for people.
    pub name: String,
}

/// A source file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its last component.
    pub name: String,
    /// Its path, or URI.
    pub path: String,
    /// A number to fetch it by with `source`, if it cannot be read by its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_reference: Option<i64>,
    /// `deemphasize`, if there is nothing to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presentation_hint: Option<&'static str>,
    /// Where it came from, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// A frame.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StackFrame {
    /// Its number until the next move.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Its line, 0 if unknown.
    pub line: i64,
    /// Its column, 0 if unknown.
    pub column: i64,
    /// The address that it executes.
    pub instruction_pointer_reference: String,
    /// The module's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<i64>,
    /// `subtle` for what has no source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presentation_hint: Option<&'static str>,
}

/// A group of variables.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// For people.
    pub name: &'static str,
    /// `arguments`, `locals`, `registers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presentation_hint: Option<&'static str>,
    /// To ask `variables` with.
    pub variables_reference: i64,
    /// How many there are, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_variables: Option<u64>,
    /// Do not open it by yourself.
    pub expensive: bool,
}

/// A variable.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value for people.
    pub value: String,
    /// Its type for people.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// To ask for its parts with, 0 if it has none.
    pub variables_reference: i64,
    /// Parts with names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_variables: Option<u64>,
    /// Parts with numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexed_variables: Option<u64>,
    /// An expression that gives it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_name: Option<String>,
    /// Its address, or where it points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reference: Option<String>,
}

/// The value of an expression.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluated {
    /// For people.
    pub result: String,
    /// Its type for people.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// To ask for its parts with, 0 if it has none.
    pub variables_reference: i64,
    /// Parts with names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_variables: Option<u64>,
    /// Parts with numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexed_variables: Option<u64>,
    /// Its address, or where it points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reference: Option<String>,
}

/// What became of a breakpoint.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Breakpoint {
    /// Its number.
    pub id: i64,
    /// Whether it can be hit.
    pub verified: bool,
    /// Why not, or what it means here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The line it was put on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<i64>,
}

/// Why we stand where we stand.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stopped {
    /// In the protocol's words.
    pub reason: &'static str,
    /// In ours.
    pub description: String,
    /// More of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The thread it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<i64>,
    /// Always.
    pub all_threads_stopped: bool,
    /// Breakpoints that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hit_breakpoint_ids: Vec<i64>,
}

/// A place in time that `goto` takes.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GotoTarget {
    /// Its number until the next move.
    pub id: i64,
    /// For people.
    pub label: String,
    /// The line.
    pub line: i64,
}

/// A module.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// Its number.
    pub id: i64,
    /// Its last component.
    pub name: String,
    /// Its path in the recorded process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is known of it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol_status: Option<String>,
    /// Where it is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_range: Option<String>,
}

/// An instruction.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instruction {
    /// Where.
    pub address: String,
    /// What, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction_bytes: Option<String>,
    /// What, in words.
    pub instruction: String,
    /// In which function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// `invalid` where no code is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presentation_hint: Option<&'static str>,
}

/// A moment, in our own requests and events.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Its number.
    pub checkpoint: u64,
    /// Seconds since the recording began.
    pub seconds: f64,
    /// How many come before it.
    pub position: u64,
    /// How many there are.
    pub count: u64,
    /// `crash`, `exit`, `point`, ...
    pub marks: Vec<&'static str>,
    /// Its names.
    pub tags: Vec<String>,
}

/// A change of a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// The first checkpoint with the new value.
    pub checkpoint: u64,
    /// When that was, seconds since the recording began.
    pub seconds: f64,
    /// The value before; absent at the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The value from here on.
    pub new: String,
}
