//! Giving up long work.
//!
//! Requests are answered one after the other, but they are read while one is being answered: so a
//! `cancel`, a `pause` or the end of the stream is known at once, and long work asks here whether
//! anybody still waits for it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most cancelled requests remembered; clients cancel what they have just asked.
const REMEMBERED: usize = 1000;

/// Shared between who reads requests and who answers them.
#[derive(Debug, Default)]
pub struct Interrupt(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Requests that nobody waits for.
    cancelled: BTreeSet<i64>,
    /// The request being answered.
    current: Option<i64>,
    /// Whether a move should end where it is.
    pause: bool,
    /// Whether nobody is there any more.
    closed: bool,
}

impl Interrupt {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for this request. Means nothing once it was answered.
    pub fn cancel(&self, seq: i64) {
        let mut state = self.lock();
        if state.cancelled.len() >= REMEMBERED {
            state.cancelled.pop_first();
        }
        state.cancelled.insert(seq);
    }

    /// Moves should end where they are.
    pub fn pause(&self) {
        self.lock().pause = true;
    }

    /// Nobody is there any more.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Work on a request begins.
    pub fn begin(&self, seq: i64) {
        let mut state = self.lock();
        state.current = Some(seq);
        state.pause = false;
    }

    /// And ends.
    pub fn end(&self) {
        let mut state = self.lock();
        if let Some(seq) = state.current.take() {
            state.cancelled.remove(&seq);
        }
        state.pause = false;
    }

    /// Whether nobody waits for the request being answered.
    pub fn is_cancelled(&self) -> bool {
        let state = self.lock();
        state
            .current
            .is_some_and(|seq| state.cancelled.contains(&seq))
    }

    /// Whether work should be given up.
    pub fn is_set(&self) -> bool {
        let state = self.lock();
        state.closed
            || state.pause
            || state
                .current
                .is_some_and(|seq| state.cancelled.contains(&seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_given_up_while_it_is_answered() {
        let interrupt = Interrupt::default();
        interrupt.cancel(2);
        interrupt.begin(1);
        assert!(!interrupt.is_set());
        interrupt.end();
        interrupt.begin(2);
        assert!(interrupt.is_set());
        interrupt.end();
        interrupt.begin(3);
        assert!(!interrupt.is_set());
        interrupt.pause();
        assert!(interrupt.is_set());
        interrupt.end();
        interrupt.begin(4);
        assert!(!interrupt.is_set());
        interrupt.close();
        assert!(interrupt.is_set());
    }

    #[test]
    fn memory_is_bounded() {
        let interrupt = Interrupt::default();
        for seq in 0..5000 {
            interrupt.cancel(seq);
        }
        assert!(interrupt.lock().cancelled.len() <= REMEMBERED);
    }
}
