//! From what was typed to where a question is asked.

use crate::args::history::ScopeArgs;
use stillframe_timeline::{InFrame, Seen};

/// Which thread and frame an expression sees.
pub fn seen(scope: &ScopeArgs) -> Seen {
    let number = scope.frame.map(|n| InFrame::Number(n as usize));
    let function = scope.function.clone().map(InFrame::Function);
    Seen {
        thread: scope.thread,
        frame: number.or(function),
    }
}
