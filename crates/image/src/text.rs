//! Text from outside, made fit to be shown.

use std::borrow::Cow;

/// Text from a recording made fit for a terminal, on one line: no control characters, no invalid UTF-8. What a
/// hostile target named its threads must not move our cursor.
pub fn printable(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().any(char::is_control) {
        Cow::Owned(
            text.chars()
                .flat_map(|c| {
                    let escaped: Vec<char> = if c.is_control() {
                        c.escape_default().collect()
                    } else {
                        vec![c]
                    };
                    escaped
                })
                .collect(),
        )
    } else {
        text
    }
}
