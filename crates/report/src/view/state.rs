//! Everything the screen shows, and how it changes.
//!
//! A pure state machine: keys, answers, new checkpoints and sizes come in; questions and what to
//! draw come out. It knows no terminal, no thread, no clock and no recording.

use super::asked::{Answer, Ask, Bookmark, Context, Moment, ThreadId};
use super::lanes::{Happening, Lanes};
use super::layout;
use super::line::Line;
use super::watch::{Progress, Watch};
use super::window::Window;
use stillframe_image::CheckpointId;
use stillframe_store::Row;

/// What was recorded, for the first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Path of the recording.
    pub recording: String,
    /// The program with its arguments.
    pub command: String,
    /// Its pid.
    pub pid: u32,
    /// The wall clock when it began, nanoseconds since 1970.
    pub started_wall_ns: u64,
}

/// Whether the recording still grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// A recorder is writing it.
    #[default]
    Live,
    /// It ended so, or nobody knows how.
    Ended(Option<String>),
}

/// What up and down, Enter and `d` are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// Threads.
    Threads,
    /// The stack of the chosen thread.
    Stack,
    /// Watched expressions.
    Watches,
}

/// What is being typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A moment to go to.
    GoTo,
    /// A condition to look for.
    Find,
    /// An expression to watch.
    Watch,
    /// Another expression for the watch of this number.
    Change(u64),
    /// What a bookmark says.
    Note,
}

/// What lies over the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// The keys.
    Help,
    /// The bookmarks, of which one is chosen.
    Bookmarks(usize),
    /// The chosen watch, from this line on.
    Value(usize),
}

/// A direction in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Later.
    Forward,
    /// Earlier.
    Back,
}

/// A line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub text: String,
    /// Whether something went wrong.
    pub bad: bool,
}

/// The state.
#[derive(Clone, Debug)]
pub struct State {
    /// What was recorded.
    pub subject: Subject,
    /// Checkpoints.
    pub rows: Vec<Row>,
    /// Whether there will be more.
    pub life: Life,
    /// Index of the checkpoint that is shown.
    pub at: usize,
    /// The newest checkpoint is shown, whichever it is.
    pub follow: bool,
    /// What part of time is shown.
    pub window: Window,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// The columns of the window, as of the last [`State::prepare`].
    pub lanes: Lanes,
    /// The pane that has the keys.
    pub pane: Pane,
    /// What is being typed.
    pub prompt: Option<(Asked, Line)>,
    /// What lies over it all.
    pub over: Option<Over>,
    /// Watched expressions.
    pub watches: Vec<Watch>,
    /// Index of the chosen one.
    pub watched: usize,
    /// The condition that is looked for.
    pub search: Option<Watch>,
    /// The direction in which a match is awaited.
    pub seeking: Option<Way>,
    /// The last moment that was answered.
    pub moment: Option<Moment>,
    /// The thread and frame that are wanted.
    pub context: Context,
    /// Bookmarks and names, in order of time.
    pub bookmarks: Vec<Bookmark>,
    /// A line for the user.
    pub message: Option<Message>,
    /// It is over.
    pub quit: bool,
    /// The turn of the last question.
    turn: u64,
    /// That of the last one about a moment.
    moment_turn: u64,
    /// That of the last one about where to go.
    goto_turn: u64,
    pub(super) numbers: u64,
    pub(super) past: [Vec<String>; 3],
    asks: Vec<Ask>,
    prepared: Option<(Window, usize, usize, CheckpointId)>,
}

impl State {
    /// Shows the checkpoint at index `at`.
    pub fn new(subject: Subject, rows: Vec<Row>, life: Life, at: usize) -> Self {
        let mut state = Self {
            subject,
            window: Window::whole(&rows),
            at: at.min(rows.len().saturating_sub(1)),
            follow: false,
            rows,
            life,
            size: (80, 24),
            lanes: Lanes::default(),
            pane: Pane::Threads,
            prompt: None,
            over: None,
            watches: Vec::new(),
            watched: 0,
            search: None,
            seeking: None,
            moment: None,
            context: Context::default(),
            bookmarks: Vec::new(),
            message: None,
            quit: false,
            turn: 0,
            moment_turn: 0,
            goto_turn: 0,
            numbers: 0,
            past: [const { Vec::new() }; 3],
            asks: Vec::new(),
            prepared: None,
        };
        state.follow = state.is_live() && state.at + 1 >= state.rows.len();
        state.ask_moment();
        state
    }

    /// Whether a recorder is writing it.
    pub fn is_live(&self) -> bool {
        self.life == Life::Live
    }

    /// The questions since the last call.
    pub fn take(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        self.asks.push(ask);
    }

    /// The checkpoint that is shown.
    pub fn row(&self) -> Option<&Row> {
        self.rows.get(self.at)
    }

    pub(super) fn id(&self) -> CheckpointId {
        self.row().map_or(CheckpointId(0), |r| r.id)
    }

    fn last(&self) -> Option<CheckpointId> {
        self.rows.last().map(|r| r.id)
    }

    /// The moment shown, if its answer has come.
    pub fn current(&self) -> Option<&Moment> {
        self.moment
            .as_ref()
            .filter(|m| Some(m.id) == self.row().map(|r| r.id))
    }

    /// The terminal has another size.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.size = (width, height);
    }

    /// Makes ready for drawing: what each column shows.
    pub fn prepare(&mut self) {
        let columns = layout::columns(self.size.0);
        let last = self.last().unwrap_or_default();
        let wanted = (self.window, columns, self.rows.len(), last);
        if self.prepared != Some(wanted) {
            self.lanes = Lanes::of(&self.rows, &self.window, columns);
            self.prepared = Some(wanted);
        }
    }

    /// The recording has these checkpoints now.
    pub fn renew(&mut self, rows: &[Row], life: Life) {
        let same = |n: usize| {
            let ends = [0, n.saturating_sub(1)];
            ends.iter()
                .all(|at| rows.get(*at).map(|r| r.id) == self.rows.get(*at).map(|r| r.id))
        };
        self.life = life;
        let known = self.rows.len();
        if rows.len() == known && same(known) {
            self.ask_histories();
            return;
        }
        let id = self.row().map(|r| r.id);
        if rows.len() > known && known > 0 && same(known) {
            self.rows
                .extend_from_slice(rows.get(known..).unwrap_or_default());
        } else {
            self.rows.clear();
            self.rows.extend_from_slice(rows);
            if let Some(first) = self.rows.first().map(|r| r.id) {
                for watch in self.watches.iter_mut().chain(&mut self.search) {
                    watch.prune(first);
                }
            }
        }
        let last = self.rows.len().saturating_sub(1);
        self.at = match id {
            Some(id) if !self.follow => self.index(id),
            _ => last,
        };
        if self.window.whole || self.follow {
            let now = self.row().map_or(0, |r| r.tick.at_ns);
            self.window = self.window.showing(&self.rows, now);
        }
        if self.row().map(|r| r.id) != id {
            self.ask_moment();
        }
        self.ask_histories();
    }

    /// Index of a checkpoint, or of the last one before it.
    pub(super) fn index(&self, id: CheckpointId) -> usize {
        self.rows.partition_point(|r| r.id <= id).saturating_sub(1)
    }

    /// Goes to a checkpoint.
    pub(super) fn go(&mut self, to: usize) {
        let last = self.rows.len().saturating_sub(1);
        let to = to.min(last);
        self.follow = self.is_live() && to == last;
        if to != self.at {
            self.at = to;
            self.ask_moment();
        }
        if let Some(row) = self.row() {
            self.window = self.window.showing(&self.rows, row.tick.at_ns);
        }
    }

    /// Goes a number of checkpoints.
    pub(super) fn step(&mut self, by: isize) {
        self.go(self.at.saturating_add_signed(by));
    }

    /// Goes a quarter of the window, one checkpoint at least.
    pub(super) fn page(&mut self, way: Way) {
        let Some(now) = self.row().map(|r| r.tick.at_ns) else {
            return;
        };
        let by = self.window.length / 4;
        let to = match way {
            Way::Forward => {
                let at = now.saturating_add(by);
                let after = self.rows.partition_point(|r| r.tick.at_ns <= at);
                after.saturating_sub(1).max(self.at + 1)
            }
            Way::Back => {
                let at = now.saturating_sub(by);
                let to = self.rows.partition_point(|r| r.tick.at_ns < at);
                to.min(self.at.saturating_sub(1))
            }
        };
        self.go(to);
    }

    /// Goes to the next event or bookmark.
    pub(super) fn event(&mut self, way: Way) {
        let noted = |row: &Row| {
            let happened = Happening::ALL[..5].iter().any(|h| h.of(row));
            happened || self.bookmarks.iter().any(|b| b.at == row.id)
        };
        let found = match way {
            Way::Forward => {
                let rows = self.rows.iter().enumerate().skip(self.at + 1);
                rows.clone().find(|(_, r)| noted(r)).map(|(n, _)| n)
            }
            Way::Back => {
                let rows = self.rows.iter().enumerate().take(self.at);
                rows.rev().find(|(_, r)| noted(r)).map(|(n, _)| n)
            }
        };
        match found {
            Some(to) => self.go(to),
            None => self.say(match way {
                Way::Forward => "no event and no bookmark comes after this",
                Way::Back => "no event and no bookmark comes before this",
            }),
        }
    }

    pub(super) fn zoom(&mut self, closer: bool) {
        if let Some(row) = self.row() {
            self.window = self.window.zoomed(&self.rows, row.tick.at_ns, closer);
        }
    }

    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message {
            text: text.into(),
            bad: false,
        });
    }

    pub(super) fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message {
            text: text.into(),
            bad: true,
        });
    }

    pub(super) fn ask_moment(&mut self) {
        self.turn += 1;
        self.moment_turn = self.turn;
        let Some(at) = self.row().map(|r| r.id) else {
            return;
        };
        let chosen = self.context;
        let of = |w: &Watch| (w.number, w.text.clone(), w.context(chosen));
        let watches = self.watches.iter().map(of);
        let ask = Ask::Moment {
            turn: self.turn,
            at,
            context: self.context,
            watches: watches.collect(),
        };
        self.ask(ask);
    }

    /// Another thread or frame is wanted.
    pub(super) fn choose(&mut self, thread: Option<ThreadId>, frame: usize) {
        if (thread, frame) == (self.context.thread, self.context.frame) {
            return;
        }
        (self.context.thread, self.context.frame) = (thread, frame);
        let here = self.id();
        for watch in self.watches.iter_mut().chain(&mut self.search) {
            watch.choose(here);
        }
        self.ask_moment();
        self.ask_histories();
    }

    /// Asks for what is not known of any history.
    pub(super) fn ask_histories(&mut self) {
        let (Some(first), Some(last)) = (self.rows.first().map(|r| r.id), self.last()) else {
            return;
        };
        let context = self.context;
        for watch in self.watches.iter_mut().chain(&mut self.search) {
            if watch.progress != Progress::Known || watch.covered.is_some_and(|c| c >= last) {
                continue;
            }
            self.turn += 1;
            watch.progress = Progress::Asked(self.turn);
            let from = match watch.covered {
                Some(covered) => CheckpointId(covered.0 + 1).max(first),
                None => first,
            };
            self.asks.push(Ask::History {
                turn: self.turn,
                watch: watch.number,
                text: watch.text.clone(),
                context: watch.context(context),
                from,
            });
        }
    }

    /// Goes to the moment that a text means.
    pub(super) fn go_to(&mut self, text: &str) {
        self.turn += 1;
        self.goto_turn = self.turn;
        self.ask(Ask::Resolve {
            turn: self.turn,
            text: text.to_owned(),
        });
    }

    pub(super) fn new_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Watches an expression.
    pub fn watch(&mut self, text: &str) {
        let number = self.new_number();
        self.watches.push(Watch::new(number, text, self.id()));
        self.watched = self.watches.len() - 1;
        self.ask_moment();
        self.ask_histories();
    }

    /// Looks for a condition from here on; for none, if it is empty.
    pub(super) fn find(&mut self, text: &str) {
        if let Some(old) = self.search.take() {
            self.ask(Ask::Forget { watch: old.number });
        }
        self.seeking = None;
        if text.is_empty() {
            return;
        }
        let number = self.new_number();
        self.search = Some(Watch::new(number, text, self.id()));
        self.ask_histories();
        self.seek(Way::Forward);
    }

    /// Goes to the next match, once it is known.
    pub(super) fn seek(&mut self, way: Way) {
        let here = self.id();
        let (found, watch) = match (&self.search, self.watches.get(self.watched)) {
            (Some(search), _) => {
                let mut begins = search.begins();
                let found = match way {
                    Way::Forward => begins.find(|id| *id > here),
                    Way::Back => begins.rfind(|id| *id < here),
                };
                (found, search)
            }
            (None, Some(watch)) => {
                let found = match way {
                    Way::Forward => watch.next_change(here),
                    Way::Back => watch.previous_change(here),
                };
                (found, watch)
            }
            (None, None) => {
                self.say("nothing to look for: / asks for a condition, w watches an expression");
                return;
            }
        };
        // Backwards everything before here must be known, or a nearer match may be missed.
        let certain = way == Way::Forward || watch.covered.is_some_and(|c| c >= here);
        let state = watch.progress.clone();
        let changes = self.search.is_none();
        self.seeking = None;
        match (found, state) {
            (Some(id), _) if certain => self.go(self.index(id)),
            (_, Progress::Failed(why)) => self.complain(why),
            (_, Progress::Asked(_)) => {
                self.seeking = Some(way);
                self.say("looking; Esc gives up");
            }
            (_, Progress::Known) => self.say(match (way, changes) {
                (Way::Forward, false) => "it does not begin to hold after this",
                (Way::Back, false) => "it does not begin to hold before this",
                (Way::Forward, true) => "it does not change after this",
                (Way::Back, true) => "it does not change before this",
            }),
        }
    }

    /// Takes in an answer.
    pub fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Moment { turn, moment } => {
                if turn == self.moment_turn {
                    self.moment = Some(*moment);
                }
            }
            Answer::Value { turn, watch, value } => {
                if turn == self.moment_turn
                    && let Some(w) = self.watches.iter_mut().find(|w| w.number == watch)
                {
                    w.value = Some(value);
                }
            }
            Answer::History {
                turn,
                watch,
                changes,
                covered,
                done,
                local,
            } => {
                let mut all = self.watches.iter_mut().chain(&mut self.search);
                let wanted =
                    |w: &&mut Watch| w.number == watch && w.progress == Progress::Asked(turn);
                if let Some(w) = all.find(wanted) {
                    w.local |= local;
                    w.add(changes, covered);
                    match (done, &w.progress) {
                        // There was too much of it.
                        (_, Progress::Failed(_)) | (None, _) => {}
                        (Some(Ok(())), _) => w.progress = Progress::Known,
                        (Some(Err(why)), _) => w.progress = Progress::Failed(why),
                    }
                    if let Some(way) = self.seeking {
                        self.seek(way);
                    }
                }
            }
            Answer::Resolved { turn, found } => match found {
                _ if turn != self.goto_turn => {}
                Ok(id) => self.go(self.index(id)),
                Err(why) => self.complain(why),
            },
            Answer::Bookmarks(bookmarks) => {
                self.bookmarks = bookmarks;
                self.bookmarks.sort();
                if let Some(Over::Bookmarks(at)) = &mut self.over {
                    *at = (*at).min(self.bookmarks.len().saturating_sub(1));
                }
            }
            Answer::Told(Ok(text)) => self.say(text),
            Answer::Told(Err(text)) => self.complain(text),
        }
    }

    /// The turn of the last question about a moment.
    #[cfg(test)]
    pub(super) const fn turn_of_moment(&self) -> u64 {
        self.moment_turn
    }
}
