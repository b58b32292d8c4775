//! The loop: keys, answers and new checkpoints into the state, questions and a picture out of it.

use super::asked::{Answer, Ask};
use super::state::{Life, State, Subject};
use super::terminal::{self, Screen};
use super::work::Workers;
use super::{Error, Options, draw, text};
use crate::bookmarks;
use ratatui::crossterm::event::{Event, KeyCode, KeyModifiers};
use std::path::Path;
use std::time::{Duration, Instant};
use stillframe_image::CheckpointId;
use stillframe_store::Recording;

/// How often a growing recording is looked at.
const REFRESH: Duration = Duration::from_millis(200);
/// How long keys are waited for while answers may come.
const SOON: Duration = Duration::from_millis(15);
/// And while none are due; as long a signal may take to be noticed.
const IDLE: Duration = Duration::from_millis(100);
/// Keys taken in before the next picture.
const KEYS: usize = 200;

fn subject(path: &Path, recording: &Recording) -> Subject {
    let header = recording.header();
    let arguments = header.arguments.strip_suffix(&[0]);
    let arguments = arguments.unwrap_or(&header.arguments);
    // Where the program lies matters less than what it was told.
    let program = if arguments.is_empty() {
        &header.program
    } else {
        arguments
    };
    let mut words: Vec<String> = program.split(|b| *b == 0).map(text::tame_bytes).collect();
    if let Some(first) = words.first_mut() {
        *first = first.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let name = path.file_name().unwrap_or(path.as_os_str());
    Subject {
        recording: text::tame(&name.to_string_lossy()),
        command: words.join(" "),
        pid: header.pid,
        started_wall_ns: header.started_wall_ns,
    }
}

fn life(recording: &Recording) -> Life {
    if recording.is_live() {
        Life::Live
    } else {
        Life::Ended(recording.summary().map(|s| s.how.clone()))
    }
}

/// Shows a recording until the user or a signal ends it.
///
/// # Errors
/// [`Error`].
pub fn run(
    path: &Path,
    mut recording: Recording,
    at: Option<CheckpointId>,
    options: &Options,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<(), Error> {
    if recording.rows().is_empty() && !recording.is_live() {
        return Err(Error::Empty(path.display().to_string()));
    }
    let mut screen = Screen::enter()?;
    let workers = Workers::start(path, options)?;
    let rows = recording.rows().to_vec();
    let at = match at {
        Some(id) => rows.partition_point(|r| r.id <= id).saturating_sub(1),
        None => rows.len().saturating_sub(1),
    };
    let mut state = State::new(subject(path, &recording), rows, life(&recording), at);
    let (width, height) = screen.size();
    state.resize(width, height);
    state.answer(Answer::Bookmarks(bookmarks::of(&recording)));
    for watch in &options.watches {
        state.watch(watch);
    }
    let mut looked = Instant::now();
    let mut changed = true;
    let mut waiting = 0u32;
    while !state.quit && !interrupted() {
        while let Some(answer) = workers.answer() {
            state.answer(answer);
            changed = true;
            waiting = 0;
        }
        if state.is_live() && looked.elapsed() >= REFRESH {
            looked = Instant::now();
            // Asked before, so that what was committed in between is seen; how it ended is known after.
            let live = recording.is_live();
            match recording.refresh() {
                Ok(_) => {
                    let now = if live { Life::Live } else { life(&recording) };
                    state.renew(recording.rows(), now);
                    state.answer(Answer::Bookmarks(bookmarks::of(&recording)));
                }
                Err(e) => {
                    state.answer(Answer::Told(Err(e.to_string())));
                    state.renew(recording.rows(), Life::Ended(None));
                }
            }
            changed = true;
        }
        for ask in state.take() {
            if !matches!(ask, Ask::Forget { .. }) {
                waiting = 0;
            }
            workers.ask(ask);
        }
        if changed {
            state.prepare();
            screen.draw(|frame| draw::screen(frame, &state, options.theme))?;
            changed = false;
        }
        waiting = waiting.saturating_add(1);
        // Answers come in soon after a question; a long search is looked at less often.
        let mut patience = if waiting < 40 { SOON } else { IDLE };
        for _ in 0..KEYS {
            let Some(event) = terminal::next(patience)? else {
                break;
            };
            patience = Duration::ZERO;
            changed = true;
            match event {
                Event::Key(key)
                    if key.code == KeyCode::Char('l')
                        && key.modifiers.contains(KeyModifiers::CONTROL) =>
                {
                    screen.clear()?;
                }
                Event::Key(key) => state.key(key),
                Event::Resize(width, height) => state.resize(width, height),
                _ => {}
            }
            if state.quit {
                break;
            }
        }
    }
    Ok(())
}
