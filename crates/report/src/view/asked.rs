//! What the screen asks of the recording, and what it is told.
//!
//! The state machine never waits: a question is a value it hands out, an answer is a value that
//! comes in later, maybe too late. Each carries the turn it was asked in, so that what is no longer
//! wanted is known when it comes.

pub use crate::bookmarks::Bookmark;
use stillframe_image::{CheckpointId, SpaceId};

/// A thread of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId {
    /// Its process.
    pub space: SpaceId,
    /// Its id.
    pub tid: u32,
}

/// In whose words an expression is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The thread; without one, the main thread of the process that stands for the tree.
    pub thread: Option<ThreadId>,
    /// Which of its frames, 0 the innermost.
    pub frame: usize,
    /// The checkpoint at which that is the frame that is meant; elsewhere it may be another call.
    pub at: Option<CheckpointId>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Everything about one moment.
    Moment {
        /// Turn.
        turn: u64,
        /// When.
        at: CheckpointId,
        /// The thread whose stack is wanted, and the frame whose source is.
        context: Context,
        /// Expressions to evaluate: number of the watch, its text, and in whose words.
        watches: Vec<(u64, String, Context)>,
    },
    /// The values that an expression had from a checkpoint on.
    History {
        /// Turn.
        turn: u64,
        /// Number of the watch.
        watch: u64,
        /// Its expression.
        text: String,
        /// In whose words.
        context: Context,
        /// The first checkpoint that is wanted.
        from: CheckpointId,
    },
    /// Nobody waits for the history of a watch any more.
    Forget {
        /// Number of the watch.
        watch: u64,
    },
    /// Which checkpoint a moment means.
    Resolve {
        /// Turn.
        turn: u64,
        /// As it was typed.
        text: String,
    },
    /// Keep a bookmark.
    Keep {
        /// Where.
        at: CheckpointId,
        /// What it is called.
        note: String,
    },
    /// Take a bookmark away.
    Remove {
        /// Which.
        bookmark: Bookmark,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Threads, stack and source of a moment.
    Moment {
        /// Turn of the question.
        turn: u64,
        /// What there is.
        moment: Box<Moment>,
    },
    /// The value of a watch at the moment asked about.
    Value {
        /// Turn of the question.
        turn: u64,
        /// Number of the watch.
        watch: u64,
        /// The value, or why there is none.
        value: Result<Reading, String>,
    },
    /// More of the history of a watch.
    History {
        /// Turn of the question.
        turn: u64,
        /// Number of the watch.
        watch: u64,
        /// Changes, in order.
        changes: Vec<Change>,
        /// Everything is known up to this checkpoint.
        covered: Option<CheckpointId>,
        /// Whether this is the last part, and if it is, whether something went wrong.
        done: Option<Result<(), String>>,
        /// It depends on the thread and the frame.
        local: bool,
    },
    /// What a moment means.
    Resolved {
        /// Turn of the question.
        turn: u64,
        /// The checkpoint, or what moments there are.
        found: Result<CheckpointId, String>,
    },
    /// The bookmarks as they are now.
    Bookmarks(Vec<Bookmark>),
    /// Something to tell the user that is no answer: what was done, or why not.
    Told(Result<String, String>),
}

/// A value as a reader needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// On one line.
    pub text: String,
    /// As a number, if it is one.
    pub number: Option<f64>,
    /// As a condition, if it can be one.
    pub truth: Option<bool>,
}

/// A value that began at a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Its time, nanoseconds since the recording began.
    pub at_ns: u64,
    /// The value, or why there was none.
    pub value: Result<Reading, String>,
}

/// Where code is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Function and offset, or module and offset, or an address.
    pub function: String,
    /// Path of the source.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
}

/// A thread at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadLine {
    /// Which.
    pub id: ThreadId,
    /// Its name.
    pub name: String,
    /// Name and pid of its process.
    pub process: String,
    /// Where it is.
    pub place: Place,
    /// The signal it is about to get, or that waits for it.
    pub signal: Option<String>,
}

/// A frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameLine {
    /// Where it is.
    pub place: Place,
    /// It was inlined into the next one.
    pub inlined: bool,
    /// It was interrupted by a signal.
    pub signal: bool,
}

/// Lines of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// Path of the file.
    pub path: String,
    /// Number of the first line, from 1.
    pub first: u32,
    /// The lines.
    pub lines: Vec<String>,
    /// Number of the line that runs.
    pub at: u32,
    /// The frame it is of: the chosen one, or the next outer one that has source.
    pub frame: usize,
}

/// All there is to show of a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Which.
    pub id: CheckpointId,
    /// Names of the points it answers.
    pub points: Vec<String>,
    /// Threads of all processes, in their order.
    pub threads: Vec<ThreadLine>,
    /// Threads there are beyond those listed.
    pub more_threads: usize,
    /// Whose stack it is.
    pub thread: Option<ThreadId>,
    /// Frames, innermost first.
    pub stack: Vec<FrameLine>,
    /// Source of the chosen frame, or why there is none.
    pub source: Option<Result<Excerpt, String>>,
    /// What could not be had.
    pub trouble: Option<String>,
}
