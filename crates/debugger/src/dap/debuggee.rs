//! What a session asks of the program it shows.
//!
//! The session knows the protocol and nothing of recordings, ELF or DWARF; what implements
//! [`Debuggee`] knows those and nothing of the protocol. So the one is tested with a made-up
//! program, and the other without an editor.

use super::interrupt::Interrupt;
use stillframe_image::{CheckpointId, Marks};

/// Why something could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// For the user, one line.
    #[error("{0}")]
    Told(String),
    /// Nobody waits for it any more.
    #[error("it was interrupted")]
    Interrupted,
}

impl Failure {
    /// A failure in words.
    pub fn told(what: impl std::fmt::Display) -> Self {
        Self::Told(what.to_string())
    }
}

/// A way through time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To later checkpoints.
    Forward,
    /// To earlier ones.
    Backward,
}

impl Direction {
    /// `later` or `earlier`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forward => "later",
            Self::Backward => "earlier",
        }
    }
}

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The program's name.
    pub name: String,
    /// Its pid when it was recorded.
    pub pid: u32,
    /// What is missing or not as it should be, one line each.
    pub notes: Vec<String>,
}

/// A checkpoint, as a place in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Nanoseconds since the recording began.
    pub at_ns: u64,
    /// Why it is special.
    pub marks: Marks,
    /// Its names.
    pub tags: Vec<String>,
    /// How many come before it.
    pub position: u64,
    /// How many there are.
    pub count: u64,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadInfo {
    /// Its kernel id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// The signal about to be delivered to it.
    pub signal: Option<Signal>,
}

/// A signal that ended the program, or was about to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// `SIGSEGV`.
    pub name: String,
    /// The same in more words: code, address, sender.
    pub description: String,
}

/// A line of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as the debug information has it.
    pub path: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1; 0 if unknown.
    pub column: u64,
}

/// A frame of a thread's stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameInfo {
    /// The function, or else the address.
    pub name: String,
    /// The address in it.
    pub pc: u64,
    /// What tells one call from another: the canonical frame address, if it is known.
    pub cfa: Option<u64>,
    /// Whether it was inlined into the next one.
    pub inlined: bool,
    /// Its line.
    pub place: Option<Place>,
    /// Where its module begins in memory.
    pub module: Option<u64>,
}

/// Which frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameId {
    /// Of which thread.
    pub tid: u32,
    /// How far from the innermost, which is 0.
    pub level: usize,
}

/// Groups of variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScopeKind {
    /// What the function was called with.
    Arguments,
    /// What it made.
    Locals,
    /// Globals and statics of its file.
    Globals,
    /// The processor's.
    Registers,
}

/// A group of variables that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeInfo<N> {
    /// Which.
    pub kind: ScopeKind,
    /// To ask for its variables with.
    pub node: N,
    /// How many they are, if that is known without reading them.
    pub count: Option<u64>,
}

/// A variable, a part of one, or the value of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<N> {
    /// What it is called in what it is part of.
    pub name: String,
    /// Its value, for people.
    pub value: String,
    /// Its type, for people.
    pub type_name: Option<String>,
    /// To ask for its parts with, if it has any.
    pub node: Option<N>,
    /// How many parts have numbers.
    pub indexed: u64,
    /// How many parts have names.
    pub named: u64,
    /// An expression that gives it again in the same frame.
    pub expression: Option<String>,
    /// Where it is in memory, and how many bytes.
    pub memory: Option<(u64, u64)>,
    /// Where it points, if it is a pointer.
    pub points_to: Option<u64>,
}

/// Some of the parts of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Which sort.
    pub filter: Filter,
    /// How many to leave out.
    pub start: u64,
    /// At most so many.
    pub count: u64,
    /// Integers in base 16.
    pub hex: bool,
}

/// Sorts of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Those with numbers.
    Indexed,
    /// Those with names.
    Named,
    /// All.
    All,
}

/// What is watched for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Bytes of memory, whatever they mean.
    Bytes {
        /// The first.
        address: u64,
        /// How many.
        length: u64,
    },
    /// The value of an expression that needs no frame.
    Expression(String),
}

/// A change of something watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Positions in the list of what is watched.
    pub which: Vec<usize>,
    /// The last checkpoint with the old value.
    pub before: CheckpointId,
    /// The first with the new one; its neighbour.
    pub after: CheckpointId,
}

/// A step of the history of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStep {
    /// The first checkpoint with this value.
    pub moment: Moment,
    /// The value.
    pub value: String,
}

/// A loaded program or library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Where it begins in memory.
    pub start: u64,
    /// Address after it.
    pub end: u64,
    /// Its file.
    pub path: String,
    /// What is known of it, for people.
    pub status: String,
}

/// Where a source file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceAt {
    /// The path that an editor should open.
    pub path: String,
    /// Whether there is such a file.
    pub found: bool,
}

/// A line of disassembly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disassembled {
    /// Where.
    pub address: u64,
    /// Its bytes; none where nothing can be read.
    pub bytes: Vec<u8>,
    /// In words.
    pub text: String,
    /// The function, with an offset.
    pub symbol: Option<String>,
}

/// A program at one moment of its past, which can be moved to others.
///
/// Nodes and frames are good until the next [`Debuggee::go`].
pub trait Debuggee {
    /// Something with parts.
    type Node: Clone;

    /// What is shown.
    fn about(&self) -> About;

    /// Where we stand.
    fn moment(&self) -> Moment;

    /// Goes to a checkpoint.
    ///
    /// # Errors
    /// If there is none, or it has no such process; then we stand where we stood.
    fn go(&mut self, to: CheckpointId) -> Result<(), Failure>;

    /// The checkpoint next to where we stand, in which the process exists.
    fn neighbour(&self, direction: Direction) -> Option<CheckpointId>;

    /// The nearest checkpoint in a direction with at least one of these marks.
    fn next_marked(&self, marks: Marks, direction: Direction) -> Option<CheckpointId>;

    /// The nearest checkpoint in a direction that has a name.
    fn next_tagged(&self, direction: Direction) -> Option<CheckpointId>;

    /// What a moment means, as users write it.
    ///
    /// # Errors
    /// With what there is instead.
    fn resolve(&self, moment: &str) -> Result<CheckpointId, Failure>;

    /// Checkpoints from the `start`th on.
    fn moments(&self, start: u64, count: u64) -> Vec<Moment>;

    /// The threads.
    ///
    /// # Errors
    /// If they cannot be read.
    fn threads(&mut self) -> Result<Vec<ThreadInfo>, Failure>;

    /// A thread's frames, innermost first, at most `limit` of them.
    ///
    /// # Errors
    /// If there is no such thread.
    fn frames(&mut self, tid: u32, limit: usize) -> Result<Vec<FrameInfo>, Failure>;

    /// A frame's groups of variables.
    ///
    /// # Errors
    /// If there is no such frame.
    fn scopes(&mut self, frame: FrameId) -> Result<Vec<ScopeInfo<Self::Node>>, Failure>;

    /// Parts of something.
    ///
    /// # Errors
    /// If they cannot be read.
    fn parts(&mut self, of: &Self::Node, page: Page) -> Result<Vec<Item<Self::Node>>, Failure>;

    /// The value of an expression.
    ///
    /// # Errors
    /// With where and why it has none.
    fn evaluate(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
        hex: bool,
    ) -> Result<Item<Self::Node>, Failure>;

    /// Whether an expression holds.
    ///
    /// # Errors
    /// As [`Debuggee::evaluate`].
    fn holds(&mut self, frame: Option<FrameId>, expression: &str) -> Result<bool, Failure>;

    /// The nearest change in a direction of anything watched. Does not move.
    ///
    /// # Errors
    /// If what is watched cannot be; [`Failure::Interrupted`].
    fn next_change(
        &mut self,
        watched: &[Watch],
        direction: Direction,
        interrupt: &Interrupt,
    ) -> Result<Option<Change>, Failure>;

    /// What a value was over a range of checkpoints, both ends included, each change handed to
    /// `visit`, which says whether to go on. An expression that cannot be evaluated at some of them
    /// has a value there that says why.
    ///
    /// # Errors
    /// If the expression is none; [`Failure::Interrupted`].
    fn history(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
        range: (CheckpointId, CheckpointId),
        interrupt: &Interrupt,
        visit: &mut dyn FnMut(HistoryStep) -> bool,
    ) -> Result<(), Failure>;

    /// Reads memory; how many bytes could be read before the first that cannot.
    fn read(&mut self, address: u64, out: &mut [u8]) -> usize;

    /// What is loaded.
    ///
    /// # Errors
    /// If it cannot be read.
    fn modules(&mut self) -> Result<Vec<ModuleInfo>, Failure>;

    /// Source files of what is loaded, as the debug information has them.
    ///
    /// # Errors
    /// If it cannot be read.
    fn sources(&mut self) -> Result<Vec<String>, Failure>;

    /// Lines of a file that have code, ascending; `None` if nothing is known of the file.
    ///
    /// # Errors
    /// If it cannot be read.
    fn lines(&mut self, path: &str) -> Result<Option<Vec<u64>>, Failure>;

    /// Whether any function has this name.
    ///
    /// # Errors
    /// If it cannot be read.
    fn has_function(&mut self, name: &str) -> Result<bool, Failure>;

    /// Where a source file is, given how the debug information or the client calls it.
    fn place_source(&mut self, path: &str) -> SourceAt;

    /// The text of a source file, if it can be had.
    ///
    /// # Errors
    /// With what to do about it.
    fn source(&mut self, path: &str) -> Result<String, Failure>;

    /// Instructions around an address: `before` of them before it, then itself and what follows,
    /// `count` in all.
    ///
    /// # Errors
    /// If disassembling is not possible.
    fn disassemble(
        &mut self,
        address: u64,
        before: i64,
        count: u64,
    ) -> Result<Vec<Disassembled>, Failure>;

    /// Names in scope that begin so.
    ///
    /// # Errors
    /// If they cannot be read.
    fn completions(&mut self, frame: Option<FrameId>, prefix: &str)
    -> Result<Vec<String>, Failure>;
}
