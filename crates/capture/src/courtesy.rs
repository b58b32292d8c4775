//! Standing back while the target is being stopped.
//!
//! A thread stops where it next enters or leaves the kernel, and for that it must have a processor.
//! If the store's thread has it, the boundary waits for the rest of its time slice: milliseconds, on
//! a machine with nothing to spare. So the capture thread asks, and the store's thread looks before
//! every page. Once the target stands still there are processors for all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

/// Longest time to stand back: whoever asked may have ended.
const LONGEST: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct State {
    asked: AtomicBool,
    waits: AtomicBool,
    thread: OnceLock<Thread>,
}

/// What both threads hold. Neither takes a lock.
#[derive(Clone, Debug, Default)]
pub struct Courtesy(Arc<State>);

impl Courtesy {
    /// Asks the other thread to stand back until [`Courtesy::thank`].
    pub fn ask(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
    }

    /// Lets it go on.
    pub fn thank(&self) {
        self.0.asked.store(false, Ordering::SeqCst);
        if self.0.waits.load(Ordering::SeqCst)
            && let Some(thread) = self.0.thread.get()
        {
            thread.unpark();
        }
    }

    /// Stands back if asked to. Always called by the same thread.
    pub fn show(&self) {
        if !self.0.asked.load(Ordering::Relaxed) {
            return;
        }
        self.0.thread.get_or_init(std::thread::current);
        self.0.waits.store(true, Ordering::SeqCst);
        // Asked again after that, so either we see the end or `thank` sees us wait.
        if self.0.asked.load(Ordering::SeqCst) {
            std::thread::park_timeout(LONGEST);
        }
        self.0.waits.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;

    #[test]
    fn nobody_is_kept_without_being_asked() {
        let courtesy = Courtesy::default();
        courtesy.show();
        courtesy.thank();
        courtesy.show();
    }

    #[test]
    fn work_stops_between_ask_and_thank_and_goes_on_after() {
        let courtesy = Courtesy::default();
        let done = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel::<()>();
        let worker = {
            let (courtesy, done) = (courtesy.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    courtesy.show();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let mut held = 0;
        for _ in 0..200 {
            courtesy.ask();
            std::thread::sleep(Duration::from_micros(200));
            // It may have taken one step that it was about to take, or have waited its longest time.
            let before = done.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros(200));
            held += u32::from(done.load(Ordering::SeqCst) <= before + 1);
            courtesy.thank();
            let before = done.load(Ordering::SeqCst);
            while done.load(Ordering::SeqCst) == before {
                std::thread::yield_now();
            }
        }
        drop(end);
        assert!(worker.join().is_ok());
        assert!(held > 100, "stood back {held} times of 200");
    }
}
