//! The threads that read the recording.
//!
//! Two of them, so that a long history does not hold up the next moment: one answers what is on the
//! screen now and leaves off as soon as something else is wanted; the other goes through time for
//! one watch after the other, a slice each, and can be told to forget one. Each has a reader of its
//! own of the recording. A panic in one of them is an answer like any other failure.

use super::asked::{Answer, Ask};
use super::look::Look;
use super::terminal::WORKER;
use super::{Error, Options};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The threads, and the way to them and back.
#[derive(Debug)]
pub struct Workers {
    looks: Sender<Ask>,
    histories: Sender<Ask>,
    answers: Receiver<Answer>,
    /// The turn of the last question about a moment: older ones need no answer.
    latest: Arc<AtomicU64>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(path: &Path, options: &Options) -> Result<Self, Error> {
        let (answer, answers) = channel();
        let (looks, asked) = channel();
        let latest = Arc::new(AtomicU64::new(0));
        let look = Look::new(path, options, Arc::clone(&latest));
        let to = answer.clone();
        begin(move || serve(look, &asked, &to))?;
        let (histories, asked) = channel();
        let path: PathBuf = path.to_owned();
        begin(move || super::past::serve(&path, &asked, &answer))?;
        Ok(Self {
            looks,
            histories,
            answers,
            latest,
        })
    }

    /// Hands over a question.
    pub fn ask(&self, ask: Ask) {
        if let Ask::Moment { turn, .. } = &ask {
            self.latest.store(*turn, Ordering::Relaxed);
        }
        // A thread that has ended said so, and answers nothing more.
        let _ = match &ask {
            Ask::History { .. } | Ask::Forget { .. } => self.histories.send(ask),
            _ => self.looks.send(ask),
        };
    }

    /// An answer, if there is one.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

fn begin(work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = thread::Builder::new().name(WORKER.to_owned());
    thread.spawn(work).map_err(Error::Thread)?;
    Ok(())
}

fn serve(mut look: Look, asked: &Receiver<Ask>, to: &Sender<Answer>) {
    while let Ok(first) = asked.recv() {
        // Of questions about moments only the last is still wanted.
        let mut all = vec![first];
        all.extend(asked.try_iter());
        let moment = |a: &Ask| matches!(a, Ask::Moment { .. });
        let last = all.iter().rposition(moment);
        for (n, ask) in all.into_iter().enumerate() {
            if moment(&ask) && Some(n) != last {
                continue;
            }
            let mut gone = false;
            let mut tell = |answer| gone |= to.send(answer).is_err();
            let done = catch_unwind(AssertUnwindSafe(|| look.answer(ask, &mut tell)));
            if done.is_err() {
                look.forget();
                tell(Answer::Told(Err(panicked().to_owned())));
            }
            if gone {
                return;
            }
        }
    }
}

/// What is said when a thread of ours panicked.
pub const fn panicked() -> &'static str {
    "a defect of still view; what was asked is left out, the rest goes on"
}
