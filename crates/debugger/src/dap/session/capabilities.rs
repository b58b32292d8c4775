//! What this adapter tells clients that it can do.

use super::super::bodies::{Capabilities, ExceptionFilter};
use stillframe_image::Marks;

/// Sorts of moments to stop at: the protocol's name, the marks (none for names given by the user).
pub(super) const FILTERS: [(&str, Option<Marks>); 5] = [
    ("crash", Some(Marks::CRASH)),
    ("exit", Some(Marks::EXIT)),
    ("point", Some(Marks::POINT)),
    ("exec", Some(Marks::EXEC)),
    ("tag", None),
];

/// The capabilities.
pub(super) fn ours() -> Capabilities {
    let filter = |filter, label, description, default| ExceptionFilter {
        filter,
        label,
        description,
        default,
    };
    Capabilities {
        supports_configuration_done_request: true,
        supports_function_breakpoints: true,
        supports_conditional_breakpoints: true,
        supports_hit_conditional_breakpoints: true,
        supports_evaluate_for_hovers: true,
        supports_step_back: true,
        supports_goto_targets_request: true,
        supports_completions_request: true,
        supports_modules_request: true,
        supports_exception_info_request: true,
        supports_value_formatting_options: true,
        supports_delayed_stack_trace_loading: true,
        supports_loaded_sources_request: true,
        supports_log_points: true,
        supports_terminate_request: true,
        supports_data_breakpoints: true,
        supports_data_breakpoint_bytes: true,
        supports_read_memory_request: true,
        supports_disassemble_request: true,
        supports_cancel_request: true,
        supports_breakpoint_locations_request: true,
        supports_clipboard_context: true,
        supports_stepping_granularity: true,
        exception_breakpoint_filters: vec![
            filter(
                "crash",
                "Fatal signals",
                "Stop at the moment a fatal signal was about to be delivered",
                true,
            ),
            filter(
                "exit",
                "Exit",
                "Stop at the moment the process was exiting",
                false,
            ),
            filter(
                "point",
                "Points of the program",
                "Stop at moments that the program marked",
                false,
            ),
            filter("exec", "Exec", "Stop at the first moment after exec", false),
            filter(
                "tag",
                "Named moments",
                "Stop at moments that were given a name",
                false,
            ),
        ],
    }
}
