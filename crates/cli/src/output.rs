//! Writing to stdout.

use std::io::{BufWriter, StdoutLock, Write};

pub use stillframe_image::text::printable;

/// Buffered stdout. A command writes through it with `?`, so that a reader that went away (`still
/// ls | head`) ends the command quietly instead of panicking inside `println!`.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(64 * 1024, std::io::stdout().lock())
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
