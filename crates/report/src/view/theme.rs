//! Colours and characters: what a terminal of any kind can show.
//!
//! Sixteen colours, because that is what every terminal over every connection has, and each of them
//! only repeats what a character or an attribute says already: without colours (`NO_COLOR`) nothing
//! is lost. Without UTF-8 lines and bars are drawn in ASCII.

use ratatui::style::{Color, Modifier, Style};

/// What something is, which decides how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ordinary text.
    Plain,
    /// Less important.
    Dim,
    /// Names of things.
    Strong,
    /// First line and rules.
    Frame,
    /// The rule of the pane that has the keys.
    Focus,
    /// What is chosen in a list.
    Chosen,
    /// Pauses.
    Pause,
    /// Written pages.
    Dirty,
    /// Bytes stored.
    Stored,
    /// Points, forks, ends.
    Event,
    /// A crash, a failure, a negative number.
    Bad,
    /// Bookmarks.
    Bookmark,
    /// Watched expressions.
    Watch,
    /// Where what is looked for holds.
    Match,
    /// The line of source that runs.
    Running,
}

/// How things look on this terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Whether colours may be used.
    pub colour: bool,
    /// Whether only ASCII may be used.
    pub ascii: bool,
}

impl Theme {
    /// What the environment asks for: `NO_COLOR` (no-color.org: set and not empty), `TERM=dumb`, and
    /// the character set that `LC_ALL`, `LC_CTYPE` or `LANG` name.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|v| !v.is_empty());
        let charset = set("LC_ALL")
            .or_else(|| set("LC_CTYPE"))
            .or_else(|| set("LANG"))
            .unwrap_or_default()
            .to_ascii_lowercase();
        let dumb = set("TERM").is_some_and(|t| t == "dumb");
        // C.UTF-8, en_US.utf8; nothing set at all is what minimal containers and ssh without
        // forwarded variables have, and their terminals show UTF-8 all the same.
        let plain = matches!(charset.as_str(), "c" | "posix")
            || (charset.contains('.') && !charset.contains("utf"));
        Self {
            colour: set("NO_COLOR").is_none() && !dumb,
            ascii: plain,
        }
    }

    /// Bars from nothing to full.
    pub const fn bars(&self) -> [char; 9] {
        if self.ascii {
            [' ', '_', '.', '-', ':', '=', '+', '*', '#']
        } else {
            [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        }
    }

    /// One of two characters.
    pub const fn glyph(&self, unicode: char, ascii: char) -> char {
        if self.ascii { ascii } else { unicode }
    }

    /// Text with the few characters of our own that are not ASCII replaced. What the recording says
    /// stays as it is, but for what the terminal cannot show.
    pub fn words(&self, text: &str) -> String {
        if !self.ascii {
            return text.to_owned();
        }
        text.chars()
            .map(|c| match c {
                '…' => '~',
                '─' => '-',
                '│' | '┬' | '┴' | '┼' => '|',
                '▲' => '^',
                c if c.is_ascii() => c,
                _ => '?',
            })
            .collect()
    }

    /// The style of a role.
    pub fn style(&self, role: Role) -> Style {
        let plain = Style::new();
        let with = |modifier| plain.add_modifier(modifier);
        let (colour, style) = match role {
            Role::Plain => (None, plain),
            Role::Dim => (Some(Color::DarkGray), plain),
            Role::Strong => (None, with(Modifier::BOLD)),
            Role::Frame => (Some(Color::DarkGray), plain),
            Role::Focus => (Some(Color::Cyan), with(Modifier::BOLD)),
            Role::Chosen => (None, with(Modifier::REVERSED)),
            Role::Pause => (Some(Color::Yellow), plain),
            Role::Dirty => (Some(Color::Green), plain),
            Role::Stored => (Some(Color::Blue), plain),
            Role::Event => (Some(Color::Magenta), plain),
            Role::Bad => (Some(Color::Red), with(Modifier::BOLD)),
            Role::Bookmark => (Some(Color::Cyan), with(Modifier::BOLD)),
            Role::Watch => (Some(Color::Cyan), plain),
            Role::Match => (Some(Color::Green), with(Modifier::BOLD)),
            Role::Running => (Some(Color::Yellow), with(Modifier::BOLD)),
        };
        match colour {
            Some(colour) if self.colour => style.fg(colour),
            // Grey is a colour; dimming is not.
            Some(_) if matches!(role, Role::Dim) => style.add_modifier(Modifier::DIM),
            _ => style,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(set: &[(&str, &str)]) -> Theme {
        Theme::of(|name| {
            let found = set.iter().find(|(n, _)| *n == name);
            found.map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn the_environment_decides() {
        let usual = theme(&[("LANG", "en_US.UTF-8"), ("TERM", "xterm")]);
        assert!(usual.colour && !usual.ascii);
        assert!(!theme(&[("NO_COLOR", "1")]).colour);
        assert!(theme(&[("NO_COLOR", "")]).colour);
        assert!(!theme(&[("TERM", "dumb")]).colour);
        assert!(theme(&[("LANG", "C.UTF-8"), ("LC_ALL", "C")]).ascii);
        assert!(theme(&[("LANG", "de_DE.ISO-8859-1")]).ascii);
        assert!(!theme(&[]).ascii);
    }

    #[test]
    fn without_colours_no_style_has_one() {
        let plain = theme(&[("NO_COLOR", "1")]);
        for role in [Role::Dim, Role::Bad, Role::Focus, Role::Watch, Role::Match] {
            let style = plain.style(role);
            assert_eq!((style.fg, style.bg), (None, None), "{role:?}");
        }
    }
}
