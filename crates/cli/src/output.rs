//! Writing to stdout.

use std::borrow::Cow;
use std::io::{BufWriter, StdoutLock, Write};

/// Buffered stdout. A command writes through it with `?`, so that a reader that went away (`still
/// ls | head`) ends the command quietly instead of panicking inside `println!`.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(64 * 1024, std::io::stdout().lock())
}

/// Text from a recording made fit for a terminal: no control characters, no invalid UTF-8. What a
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

/// Writes `value` as one JSON document and a line end.
///
/// # Errors
/// If stdout cannot be written.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable(b"plain"), "plain");
        assert_eq!(printable(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable(b"\xff"), "\u{fffd}");
    }
}
