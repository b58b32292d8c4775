//! Text that fits: into a cell, into a width, and into a terminal that must not obey it.
//!
//! Names of threads, functions and files were chosen by the recorded program, maybe in order to be
//! shown here. Nothing of them that moves a cursor, turns the writing direction or takes no room
//! reaches the screen.

use ratatui::text::Span;

/// What is shown instead of a character that must not be.
const INSTEAD: char = '\u{b7}';

/// Longest text kept of anything that the recording says, characters.
pub const LONGEST: usize = 4096;

const fn obeyed(c: char) -> bool {
    matches!(
        c,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Text as it can be shown on one line; tabs become spaces up to the next multiple of four.
pub fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    let mut column = 0;
    for c in text.chars().take(LONGEST) {
        let wide = if c == '\t' { 4 - column % 4 } else { 1 };
        column += wide;
        match c {
            '\t' => out.extend(std::iter::repeat_n(' ', wide)),
            c if obeyed(c) => out.push(INSTEAD),
            c => out.push(c),
        }
    }
    out
}

/// As [`tame`], of bytes.
pub fn tame_bytes(bytes: &[u8]) -> String {
    let most = bytes.len().min(4 * LONGEST);
    tame(&String::from_utf8_lossy(&bytes[..most]))
}

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text, or as much of its beginning as fits with an ellipsis behind it.
pub fn fit(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = room.saturating_sub(1);
    let mut buffer = [0; 4];
    for c in text.chars() {
        let wide = width(c.encode_utf8(&mut buffer));
        if wide > left {
            break;
        }
        left -= wide;
        out.push(c);
    }
    if room > 0 {
        out.push('…');
    }
    out
}

/// As [`fit`], keeping the end: of a path it is what matters.
pub fn fit_end(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = Vec::new();
    let mut left = room.saturating_sub(1);
    let mut buffer = [0; 4];
    for c in text.chars().rev() {
        let wide = width(c.encode_utf8(&mut buffer));
        if wide > left {
            break;
        }
        left -= wide;
        kept.push(c);
    }
    if room > 0 {
        kept.push('…');
    }
    kept.iter().rev().collect()
}

/// A text at the left and one at the right of a line; the right one goes first if both do not fit.
pub fn apart(left: &str, right: &str, room: usize) -> String {
    let right_wide = width(right);
    if right_wide + 2 > room {
        return fit(left, room);
    }
    let left = fit(left, room - right_wide - 1);
    let gap = room.saturating_sub(width(&left) + right_wide);
    format!("{left}{:gap$}{right}", "")
}

/// Seconds, with digits that tell apart what is `step_ns` apart.
pub fn seconds(ns: u64, step_ns: u64) -> String {
    let digits = match step_ns {
        0..1_000 => 9,
        1_000..1_000_000 => 6,
        1_000_000..100_000_000 => 3,
        100_000_000..1_000_000_000 => 1,
        _ => 0,
    };
    let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let part = format!("{part:09}");
    if digits == 0 {
        format!("{whole} s")
    } else {
        format!("{whole}.{} s", &part[..digits])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_obeyed() {
        assert_eq!(tame("a\x1b[2Jb\u{202e}c\u{200b}"), "a·[2Jb·c·");
        assert_eq!(tame("\tx\ty"), "    x   y");
        assert_eq!(tame_bytes(b"\xffok"), "\u{fffd}ok");
    }

    #[test]
    fn fitting() {
        assert_eq!(fit("queue", 5), "queue");
        assert_eq!(fit("queue.len", 5), "queu…");
        assert_eq!(fit("漢字漢字", 5), "漢字…");
        assert_eq!(fit("x", 0), "");
        assert_eq!(fit_end("/usr/src/a.c", 6), "…c/a.c");
        assert_eq!(apart("left", "right", 12), "left   right");
        assert_eq!(apart("left is long", "right", 12), "left … right");
        assert_eq!(apart("left", "much too long", 6), "left");
    }

    #[test]
    fn times() {
        assert_eq!(seconds(1_234_567_890, 1), "1.234567890 s");
        assert_eq!(seconds(1_234_567_890, 10_000_000), "1.234 s");
        assert_eq!(seconds(1_234_567_890, 1_000_000_000), "1 s");
    }

    proptest! {
        #[test]
        fn any_text_fits(text in any::<String>(), room in 0usize..40) {
            let tamed = tame(&text);
            prop_assert!(!tamed.chars().any(char::is_control));
            prop_assert!(width(&fit(&tamed, room)) <= room);
            prop_assert!(width(&fit_end(&tamed, room)) <= room);
            prop_assert!(width(&apart(&tamed, "right", room)) <= room);
        }
    }
}
