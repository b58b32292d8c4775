//! One moment, as the screen shows it.

use super::asked::{
    Answer, Ask, Context, Excerpt, FrameLine, Moment, Place, Reading, ThreadId, ThreadLine,
};
use super::source::Sources;
use super::{Options, text};
use super::{past, question};
use crate::bookmarks;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stillframe_image::{CheckpointId, Marks, ProcessImage, SpaceId, Thread, signal};
use stillframe_store::Error;
use stillframe_store::moment::is_tag;
use stillframe_symbols::unwind::{Frame, Limits, unwind};
use stillframe_timeline::{Asked, Machine, Past, View};

/// Most threads listed.
const THREADS: usize = 4096;
/// Most frames of a stack.
const FRAMES: usize = 256;
/// Most points named.
const POINTS: usize = 8;

/// Threads whose functions are looked up; of others only the mapping is told.
const LOCATED: usize = 512;

/// Reads moments.
#[derive(Debug)]
pub struct Look {
    path: PathBuf,
    machine: Option<Arc<Machine>>,
    sources: Sources,
    latest: Arc<AtomicU64>,
}

impl Look {
    /// Of the recording at a path. `latest` is the turn of the last question.
    pub fn new(path: &Path, options: &Options, latest: Arc<AtomicU64>) -> Self {
        Self {
            path: path.to_owned(),
            machine: None,
            sources: Sources::new(options.sources.clone()),
            latest,
        }
    }

    /// Forgets everything read, which may be half done.
    pub fn forget(&mut self) {
        self.machine = None;
    }

    /// Answers a question.
    pub fn answer(&mut self, ask: Ask, tell: &mut dyn FnMut(Answer)) {
        match ask {
            Ask::Moment {
                turn,
                at,
                context,
                watches,
            } => {
                let moment = self.moment(turn, at, context).unwrap_or_else(|e| Moment {
                    id: at,
                    trouble: Some(e.to_string()),
                    ..Moment::default()
                });
                let moment = Box::new(moment);
                tell(Answer::Moment { turn, moment });
                for (watch, text, context) in watches {
                    if !self.wanted(turn) {
                        return;
                    }
                    let value = self.value(at, context, &text);
                    tell(Answer::Value { turn, watch, value });
                }
            }
            Ask::Resolve { turn, text } => {
                let found = self.resolve(&text).map_err(|e| e.to_string());
                tell(Answer::Resolved { turn, found });
            }
            Ask::Keep { at, note } => {
                let done = self.keep(at, &note);
                self.changed(done, tell);
            }
            Ask::Remove { bookmark } => {
                let done = bookmarks::remove(&self.path, &bookmark.name);
                self.changed(done.map(|()| format!("{} is removed", bookmark.name)), tell);
            }
            Ask::History { .. } | Ask::Forget { .. } => {}
        }
    }

    /// One word that may be a name is one; anything else is a note.
    fn keep(&self, at: CheckpointId, note: &str) -> Result<String, Error> {
        if is_tag(note) {
            bookmarks::named(&self.path, at, note, "")?;
            return Ok(format!("checkpoint {at} is {note}"));
        }
        let name = bookmarks::keep(&self.path, at, note)?;
        Ok(format!("checkpoint {at} is {name}"))
    }

    /// Tells what became of a change to the bookmarks, and what they are now.
    fn changed(&mut self, done: Result<String, Error>, tell: &mut dyn FnMut(Answer)) {
        tell(Answer::Told(done.map_err(|e| e.to_string())));
        if let Ok(machine) = self.machine(None) {
            tell(Answer::Bookmarks(bookmarks::of(machine.recording())));
        }
    }

    fn wanted(&self, turn: u64) -> bool {
        self.latest.load(Ordering::Relaxed) <= turn
    }

    /// The value of an expression.
    fn value(&mut self, at: CheckpointId, context: Context, text: &str) -> Result<Reading, String> {
        let machine = self.machine(Some(at)).map_err(|e| e.to_string())?;
        let meaning = question::meaning(machine, text, context)?;
        let space = context.thread.map_or(SpaceId(0), |t| t.space);
        let lives = Past::new(machine.recording(), space).map_err(|e| e.to_string())?;
        let position = lives.position(at);
        if !lives.life().contains(&position) {
            return question::reading(None);
        }
        let asked = Asked::new(&lives, position);
        let answer = meaning.question.ask(&asked);
        asked.finish().map_err(|e| e.to_string())?;
        question::reading(Some(&answer))
    }

    /// The recording as it is now, or as it was read when it had this checkpoint.
    fn machine(&mut self, at: Option<CheckpointId>) -> Result<&Arc<Machine>, Error> {
        let has = |m: &Arc<Machine>| at.is_some_and(|id| m.recording().row(id).is_some());
        let machine = match self.machine.take() {
            Some(machine) if has(&machine) => machine,
            old => past::renewed(&self.path, old)?,
        };
        Ok(self.machine.insert(machine))
    }

    fn resolve(&mut self, typed: &str) -> Result<CheckpointId, Error> {
        let typed = typed.trim().trim_start_matches('@');
        let moment: stillframe_store::Moment = typed.parse()?;
        self.machine(None)?.recording().resolve(&moment)
    }

    fn moment(&mut self, turn: u64, at: CheckpointId, context: Context) -> Result<Moment, Error> {
        let latest = Arc::clone(&self.latest);
        let wanted = || latest.load(Ordering::Relaxed) <= turn;
        let machine = self.machine(Some(at))?;
        let recording = machine.recording();
        let mut moment = Moment {
            id: at,
            ..Moment::default()
        };
        let row = recording.row(at);
        if row.is_some_and(|r| r.tick.marks.contains(Marks::POINT)) {
            let points = recording.points(at)?.into_iter().take(POINTS);
            moment.points = points.map(|p| text::tame_bytes(&p.name)).collect();
        }
        let mut trouble = None;
        recording.each_process(at, |node, image| match image {
            // Nobody waits for it any more.
            _ if !wanted() => {}
            Ok(image) => {
                let view = machine.at(at, node.id).ok();
                for thread in &image.threads {
                    if moment.threads.len() >= THREADS {
                        moment.more_threads += 1;
                        continue;
                    }
                    let view = view.as_ref().filter(|_| moment.threads.len() < LOCATED);
                    moment.threads.push(line(&image, thread, view));
                }
            }
            Err(e) => trouble = Some(e.to_string()),
        })?;
        moment.trouble = trouble;
        let chosen = moment.threads.iter().find(|t| Some(t.id) == context.thread);
        let chosen = chosen.or(moment.threads.first());
        moment.thread = chosen.map(|t| t.id);
        if let Some(thread) = moment.thread.filter(|_| wanted()) {
            let image = recording.process(at, thread.space)?;
            let view = machine.at(at, thread.space)?;
            if let Some(registers) = view.registers(thread.tid)? {
                let limits = Limits { frames: FRAMES };
                let frames = unwind(view.program(), view.memory(), &registers, limits);
                moment.stack = frames.iter().map(|f| frame(&image, f)).collect();
            }
        }
        let chosen = context.frame.min(moment.stack.len().saturating_sub(1));
        moment.source = Some(excerpt(&mut self.sources, &moment.stack, chosen));
        Ok(moment)
    }
}

fn line(image: &ProcessImage, thread: &Thread, view: Option<&View<'_>>) -> ThreadLine {
    let told = thread.signal.as_ref();
    // What waits for the process as a whole is shown with its main thread.
    let main = image.threads.first().is_some_and(|t| t.tid == thread.tid);
    let shared = image.process.pending.first().filter(|_| main);
    let waiting = thread.pending.first().or(shared);
    let name = |s: &stillframe_image::SigInfo| signal::name(i64::from(s.signal));
    ThreadLine {
        id: ThreadId {
            space: image.id,
            tid: thread.tid,
        },
        name: text::tame_bytes(&thread.name),
        process: format!(
            "{} {}",
            text::tame_bytes(&image.process.name),
            image.process.pid
        ),
        place: place(image, view, thread.registers.rip),
        signal: told
            .map(name)
            .or_else(|| waiting.map(|s| format!("{} waits", name(s)))),
    }
}

/// Function and line, or mapping and offset, as far as is known.
fn place(image: &ProcessImage, view: Option<&View<'_>>, address: u64) -> Place {
    let location = view.and_then(|view| view.program().locate(address));
    let Some(location) = location else {
        return Place {
            function: unnamed(image, address),
            ..Place::default()
        };
    };
    let function = match (location.functions.last(), &location.symbol) {
        (Some(function), _) => text::tame(&function.name),
        (None, Some((name, offset))) => format!("{}+{offset:#x}", text::tame(name)),
        (None, None) => unnamed(image, address),
    };
    Place {
        function,
        file: location.place.as_ref().map(|p| text::tame(&p.file)),
        line: location.place.as_ref().map(|p| line_number(p.line)),
    }
}

/// A frame as it is listed.
fn frame(image: &ProcessImage, frame: &Frame) -> FrameLine {
    let place = frame.place();
    let symbol = frame.location.as_ref().and_then(|l| l.symbol.as_ref());
    let function = match (frame.function(), symbol) {
        (Some(function), _) => text::tame(&function.name),
        (None, Some((name, offset))) => format!("{}+{offset:#x}", text::tame(name)),
        (None, None) => unnamed(image, frame.pc),
    };
    FrameLine {
        place: Place {
            function,
            file: place.map(|p| text::tame(&p.file)),
            line: place.map(|p| line_number(p.line)),
        },
        inlined: frame.inlined,
        signal: frame.signal,
    }
}

fn line_number(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// The source of the chosen frame, or of the next outer one that has any here.
fn excerpt(sources: &mut Sources, stack: &[FrameLine], chosen: usize) -> Result<Excerpt, String> {
    let mut missing = None;
    for (number, frame) in stack.iter().enumerate().skip(chosen) {
        let (Some(file), Some(line)) = (&frame.place.file, frame.place.line) else {
            continue;
        };
        match sources.around(file, line, number) {
            Some(excerpt) => return Ok(excerpt),
            None => missing = missing.or(Some(file)),
        }
    }
    Err(match missing {
        Some(file) => format!("{file} is not here; --source DIR says where it is"),
        None => "no debug information says where this is".to_owned(),
    })
}

/// Mapping and offset: what can be said without symbols.
fn unnamed(image: &ProcessImage, address: u64) -> String {
    let Some(mapping) = image.space.mapping_at(address) else {
        return format!("{address:#x} (not mapped)");
    };
    let name = text::tame_bytes(&mapping.name);
    let name = name.rsplit('/').next().unwrap_or_default();
    let name = if name.is_empty() { "memory" } else { name };
    let offset = mapping.offset.wrapping_add(address - mapping.start);
    format!("{name}+{offset:#x}")
}
