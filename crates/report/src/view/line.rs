//! A line that is being typed.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Longest line, characters.
const LONGEST: usize = 2000;
/// Lines remembered.
const REMEMBERED: usize = 50;

/// The line, and those typed before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    text: Vec<char>,
    at: usize,
    /// How far back in the past lines; 0 is the line itself.
    back: usize,
    kept: Vec<char>,
}

/// What a key did to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Changed it, or nothing.
    On,
    /// It is done.
    Done,
    /// It is given up.
    Given,
}

impl Line {
    /// Begins with a text.
    pub fn with(text: &str) -> Self {
        let text: Vec<char> = text.chars().take(LONGEST).collect();
        Self {
            at: text.len(),
            text,
            ..Self::default()
        }
    }

    /// What was typed.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// What stands before the cursor.
    pub fn before(&self) -> String {
        self.text.iter().take(self.at).collect()
    }

    fn set(&mut self, text: Vec<char>) {
        self.at = text.len();
        self.text = text;
    }

    fn recall(&mut self, past: &[String], back: usize) {
        if back > past.len() || back == self.back {
            return;
        }
        if self.back == 0 {
            self.kept = std::mem::take(&mut self.text);
        }
        self.back = back;
        let text = match back.checked_sub(1).and_then(|n| past.iter().rev().nth(n)) {
            Some(line) => line.chars().collect(),
            None => std::mem::take(&mut self.kept),
        };
        self.set(text);
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent, past: &[String]) -> Typed {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Typed::Done,
            KeyCode::Esc => return Typed::Given,
            KeyCode::Char('c') if control => return Typed::Given,
            // An empty line that is deleted once more is given up, as in vi.
            KeyCode::Backspace if self.text.is_empty() => return Typed::Given,
            KeyCode::Backspace => {
                if let Some(at) = self.at.checked_sub(1) {
                    self.text.remove(at);
                    self.at = at;
                }
            }
            KeyCode::Delete if self.at < self.text.len() => {
                self.text.remove(self.at);
            }
            KeyCode::Left => self.at = self.at.saturating_sub(1),
            KeyCode::Right => self.at = (self.at + 1).min(self.text.len()),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.text.len(),
            KeyCode::Up => self.recall(past, self.back + 1),
            KeyCode::Down => self.recall(past, self.back.saturating_sub(1)),
            KeyCode::Char('a') if control => self.at = 0,
            KeyCode::Char('e') if control => self.at = self.text.len(),
            KeyCode::Char('u') if control => {
                self.text.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('k') if control => self.text.truncate(self.at),
            KeyCode::Char('w') if control => {
                let mut from = self.at;
                while from > 0 && self.text[from - 1].is_whitespace() {
                    from -= 1;
                }
                while from > 0 && !self.text[from - 1].is_whitespace() {
                    from -= 1;
                }
                self.text.drain(from..self.at);
                self.at = from;
            }
            KeyCode::Char(c) if !control && !c.is_control() && self.text.len() < LONGEST => {
                self.text.insert(self.at, c);
                self.at += 1;
            }
            _ => {}
        }
        Typed::On
    }
}

/// Remembers a line that was typed.
pub fn remember(past: &mut Vec<String>, line: &str) {
    if line.is_empty() {
        return;
    }
    past.retain(|l| l != line);
    past.push(line.to_owned());
    if past.len() > REMEMBERED {
        past.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &mut Line, keys: &[KeyCode], past: &[String]) {
        for code in keys {
            line.key(KeyEvent::from(*code), past);
        }
    }

    #[test]
    fn editing() {
        use KeyCode::{Backspace, Char, Delete, End, Home, Left};
        let mut line = Line::default();
        typed(&mut line, &[Char('a'), Char('c'), Left, Char('b')], &[]);
        assert_eq!(
            (line.text().as_str(), line.before().as_str()),
            ("abc", "ab")
        );
        typed(&mut line, &[Home, Delete, End, Backspace, Char('ü')], &[]);
        assert_eq!(line.text(), "bü");
        let mut line = Line::with("one two");
        let word = KeyEvent::new(Char('w'), KeyModifiers::CONTROL);
        line.key(word, &[]);
        assert_eq!(line.text(), "one ");
        line.key(word, &[]);
        assert_eq!(line.text(), "");
        assert_eq!(line.key(KeyEvent::from(Backspace), &[]), Typed::Given);
    }

    #[test]
    fn past_lines_come_back_and_the_new_one_is_kept() {
        use KeyCode::{Char, Down, Up};
        let mut past = Vec::new();
        for text in ["one", "two", "one", ""] {
            remember(&mut past, text);
        }
        assert_eq!(past, ["two", "one"]);
        let mut line = Line::default();
        typed(&mut line, &[Char('x'), Up], &past);
        assert_eq!(line.text(), "one");
        typed(&mut line, &[Up, Up, Up], &past);
        assert_eq!(line.text(), "two");
        typed(&mut line, &[Down, Down, Down], &past);
        assert_eq!(line.text(), "x");
    }
}
