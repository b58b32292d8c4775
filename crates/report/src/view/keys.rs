//! What each key does.

use super::asked::Ask;
use super::line::{self, Line, Typed};
use super::state::{Asked, Over, Pane, State, Way};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Checkpoints of a step with shift.
const LEAP: isize = 10;

/// The keys, as `?` shows them: keys, and what they do.
pub const HELP: [(&str, &str); 21] = [
    ("left right, h l", "one checkpoint back, on"),
    ("shift, H L", "ten"),
    ("PgUp PgDn", "a quarter of what is shown"),
    ("Home End", "first; last, which is followed while it grows"),
    ("[ ]", "previous, next event or bookmark"),
    ("g", "go to 42, 12.5s, -3s, first, crash, point:NAME, a tag"),
    ("+ - 0", "closer, farther, everything"),
    ("w", "watch an expression"),
    (
        "/",
        "find where a condition begins to hold; empty: end that",
    ),
    ("n N", "next, previous match, or change of the chosen watch"),
    ("b", "bookmark this checkpoint"),
    ("B", "list bookmarks: Enter goes to one, d removes it"),
    ("t", "choose a thread"),
    ("tab", "next pane: threads, stack, watches"),
    (
        "up down, j k",
        "choose in the pane: a thread, a frame, a watch",
    ),
    ("Enter", "threads: to the stack; watches: the whole value"),
    ("e d", "watches: change, remove the chosen one"),
    ("Esc", "stop looking; close this"),
    ("ctrl-L", "draw all again"),
    ("?", "these keys"),
    ("q, ctrl-C", "quit"),
];

impl State {
    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        self.message = None;
        if self.prompt.is_some() {
            self.type_key(key);
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            if key.code == KeyCode::Char('c') {
                self.quit = true;
            }
            return;
        }
        if self.over.is_some() && self.key_over(key) {
            return;
        }
        self.key_time(key);
    }

    fn key_time(&mut self, key: KeyEvent) {
        let leap = if key.modifiers.contains(KeyModifiers::SHIFT) {
            LEAP
        } else {
            1
        };
        match key.code {
            KeyCode::Left => self.step(-leap),
            KeyCode::Right => self.step(leap),
            KeyCode::Char('h') => self.step(-1),
            KeyCode::Char('l') => self.step(1),
            KeyCode::Char('H') => self.step(-LEAP),
            KeyCode::Char('L') => self.step(LEAP),
            KeyCode::PageUp => self.page(Way::Back),
            KeyCode::PageDown => self.page(Way::Forward),
            KeyCode::Home => self.go(0),
            KeyCode::End => self.go(usize::MAX),
            KeyCode::Char('[') => self.event(Way::Back),
            KeyCode::Char(']') => self.event(Way::Forward),
            KeyCode::Char('+' | '=') => self.zoom(true),
            KeyCode::Char('-' | '_') => self.zoom(false),
            KeyCode::Char('0') => self.show_all(),
            KeyCode::Char('n') => self.seek(Way::Forward),
            KeyCode::Char('N') => self.seek(Way::Back),
            KeyCode::Char('?') => self.over = Some(Over::Help),
            KeyCode::Char('q') => self.quit = true,
            _ => self.key_pane(key),
        }
    }

    fn key_pane(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Char('g' | ':') => self.prompt(Asked::GoTo, ""),
            KeyCode::Char('/') => {
                let text = self.search.as_ref().map(|s| s.text.clone());
                self.prompt(Asked::Find, &text.unwrap_or_default());
            }
            KeyCode::Char('w') => self.prompt(Asked::Watch, ""),
            KeyCode::Char('b') if self.row().is_some() => self.prompt(Asked::Note, ""),
            KeyCode::Char('B') => {
                let here = self.id();
                let at = self.bookmarks.partition_point(|b| b.at < here);
                let at = at.min(self.bookmarks.len().saturating_sub(1));
                self.over = Some(Over::Bookmarks(at));
            }
            KeyCode::Char('t') => self.pane = Pane::Threads,
            KeyCode::Tab => {
                self.pane = match self.pane {
                    Pane::Threads => Pane::Stack,
                    Pane::Stack => Pane::Watches,
                    Pane::Watches => Pane::Threads,
                }
            }
            KeyCode::BackTab => {
                self.pane = match self.pane {
                    Pane::Threads => Pane::Watches,
                    Pane::Stack => Pane::Threads,
                    Pane::Watches => Pane::Stack,
                }
            }
            KeyCode::Up | KeyCode::Char('k') => self.choose_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.choose_by(1),
            KeyCode::Enter => match self.pane {
                Pane::Threads => self.pane = Pane::Stack,
                Pane::Stack => {}
                Pane::Watches if self.watches.is_empty() => self.prompt(Asked::Watch, ""),
                Pane::Watches => self.over = Some(Over::Value(0)),
            },
            KeyCode::Char('d') | KeyCode::Delete if self.pane == Pane::Watches => self.unwatch(),
            KeyCode::Char('e') if self.pane == Pane::Watches => {
                if let Some(watch) = self.watches.get(self.watched) {
                    let (number, text) = (watch.number, watch.text.clone());
                    self.prompt(Asked::Change(number), &text);
                }
            }
            KeyCode::Esc => self.seeking = None,
            _ => {}
        }
    }

    /// A key while something lies over the screen; whether it was meant for that.
    fn key_over(&mut self, key: KeyEvent) -> bool {
        let down = matches!(key.code, KeyCode::Down | KeyCode::Char('j'));
        let up = matches!(key.code, KeyCode::Up | KeyCode::Char('k'));
        match (&mut self.over, key.code) {
            (Some(Over::Help), _) | (_, KeyCode::Esc | KeyCode::Char('q')) => self.over = None,
            (Some(Over::Value(from)), _) if up || down => {
                *from = from.saturating_add_signed(if down { 1 } else { -1 });
            }
            (Some(Over::Bookmarks(at)), _) if up || down => {
                let last = self.bookmarks.len().saturating_sub(1);
                *at = at
                    .saturating_add_signed(if down { 1 } else { -1 })
                    .min(last);
            }
            (Some(Over::Bookmarks(at)), KeyCode::Enter) => {
                let to = self.bookmarks.get(*at).map(|b| b.at);
                self.over = None;
                if let Some(id) = to {
                    self.go(self.index(id));
                }
            }
            (Some(Over::Bookmarks(at)), KeyCode::Char('d') | KeyCode::Delete) => {
                if let Some(bookmark) = self.bookmarks.get(*at).cloned() {
                    self.ask(Ask::Remove { bookmark });
                }
            }
            (Some(Over::Bookmarks(_)), KeyCode::Char('b' | 'B')) => {
                self.over = None;
                return key.code == KeyCode::Char('B');
            }
            (Some(Over::Value(_)), KeyCode::Enter) => self.over = None,
            // One can move through time with the value in sight.
            (Some(Over::Value(_)), _) => return false,
            _ => {}
        }
        true
    }

    fn show_all(&mut self) {
        self.window.whole = true;
        let now = self.row().map_or(0, |r| r.tick.at_ns);
        self.window = self.window.showing(&self.rows, now);
    }

    fn choose_by(&mut self, by: isize) {
        match self.pane {
            Pane::Threads => {
                let Some(moment) = self.current() else { return };
                let threads = &moment.threads;
                let chosen = self.context.thread.or(moment.thread);
                let at = threads.iter().position(|t| Some(t.id) == chosen);
                let to = at.map_or(0, |at| at.saturating_add_signed(by));
                let to = to.min(threads.len().saturating_sub(1));
                let thread = threads.get(to).map(|t| t.id);
                if thread.is_some() && at != Some(to) {
                    self.choose(thread, 0);
                }
            }
            Pane::Stack => {
                let Some(moment) = self.current() else { return };
                let last = moment.stack.len().saturating_sub(1);
                let frame = self.context.frame.saturating_add_signed(by).min(last);
                self.choose(self.context.thread, frame);
            }
            Pane::Watches => {
                let last = self.watches.len().saturating_sub(1);
                self.watched = self.watched.saturating_add_signed(by).min(last);
            }
        }
    }

    fn unwatch(&mut self) {
        if self.watched < self.watches.len() {
            let gone = self.watches.remove(self.watched);
            self.watched = self.watched.min(self.watches.len().saturating_sub(1));
            self.ask(Ask::Forget { watch: gone.number });
        }
    }

    fn prompt(&mut self, asked: Asked, text: &str) {
        self.prompt = Some((asked, Line::with(text)));
    }

    /// Lines typed before, for the same sort of question.
    fn past(&mut self, asked: Asked) -> &mut Vec<String> {
        match asked {
            Asked::GoTo => &mut self.past[0],
            // What was watched may be looked for, and the other way round.
            Asked::Find | Asked::Watch | Asked::Change(_) => &mut self.past[1],
            Asked::Note => &mut self.past[2],
        }
    }

    fn type_key(&mut self, key: KeyEvent) {
        let Some((asked, mut line)) = self.prompt.take() else {
            return;
        };
        match line.key(key, self.past(asked)) {
            Typed::On => self.prompt = Some((asked, line)),
            Typed::Given => {}
            Typed::Done => {
                let text = line.text().trim().to_owned();
                line::remember(self.past(asked), &text);
                self.typed(asked, text);
            }
        }
    }

    fn typed(&mut self, asked: Asked, text: String) {
        match asked {
            Asked::Find => self.find(&text),
            Asked::Note => {
                let at = self.id();
                self.ask(Ask::Keep { at, note: text });
            }
            _ if text.is_empty() => {}
            Asked::GoTo => self.go_to(&text),
            Asked::Watch => {
                self.watch(&text);
                self.pane = Pane::Watches;
            }
            Asked::Change(number) => {
                let (fresh, here) = (self.new_number(), self.id());
                if let Some(watch) = self.watches.iter_mut().find(|w| w.number == number) {
                    *watch = super::watch::Watch::new(fresh, &text, here);
                    self.ask(Ask::Forget { watch: number });
                    self.ask_moment();
                    self.ask_histories();
                }
            }
        }
    }
}
