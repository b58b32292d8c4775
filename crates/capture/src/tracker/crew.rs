//! A second pair of hands for a scan.
//!
//! While the target stands still its processors are free, and a scan that protects pages is most of
//! the pause. The work is a list of pieces of address space. The capture thread takes them from the
//! front, a helper from the back, so that it does not matter when the helper wakes up, or whether
//! it does. Nobody spins before the target has stopped: it needs its processors to do so.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stillframe_linux::pagemap::{ScanEnd, Scanner};
use stillframe_linux::{Result, sched};

/// A scanner of the same address space, for the helper.
pub type Second = Arc<Mutex<Scanner>>;

/// What the helper found in a piece.
#[derive(Debug)]
pub struct Helped<'a> {
    /// What was written, and is protected now.
    pub found: &'a [Range<u64>],
    /// How far it came.
    pub end: Result<ScanEnd>,
}

/// One piece that the helper took.
#[derive(Debug)]
struct Done {
    piece: usize,
    found: Range<usize>,
    end: Result<ScanEnd>,
}

/// What the helper has done.
#[derive(Debug, Default)]
struct Results {
    found: Vec<Range<u64>>,
    /// In descending order of pieces.
    done: Vec<Done>,
}

/// Work for two.
#[derive(Debug)]
struct Job {
    pieces: Vec<Range<u64>>,
    /// First piece that nobody has taken, and above it, in the upper half, the end of those.
    open: AtomicU64,
    scanner: Second,
    results: Mutex<Results>,
}

impl Job {
    const fn pack(front: u32, back: u32) -> u64 {
        front as u64 | (back as u64) << 32
    }

    fn take(&self, step: impl Fn(u32, u32) -> (u32, u32, u32)) -> Option<usize> {
        let mut taken = None;
        let updated = self
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| {
                let (front, back) = (open as u32, (open >> 32) as u32);
                if front >= back {
                    return None;
                }
                let (piece, front, back) = step(front, back);
                taken = Some(piece as usize);
                Some(Self::pack(front, back))
            });
        updated.ok().and(taken)
    }

    fn take_first(&self) -> Option<usize> {
        self.take(|front, back| (front, front + 1, back))
    }

    fn take_last(&self) -> Option<usize> {
        self.take(|front, back| (back - 1, front, back - 1))
    }

    /// The helper's part.
    fn help(&self) {
        let mut scanner = self.scanner.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(piece) = self.take_last() {
            let mut results = self.results();
            let begin = results.found.len();
            let range = self.pieces[piece].clone();
            let end = scanner.written_and_protect(range, &mut results.found);
            let found = begin..results.found.len();
            results.done.push(Done { piece, found, end });
        }
    }

    /// Has nobody take another piece, and waits for what is being done. Gives the helper's results.
    fn close(&self) -> MutexGuard<'_, Results> {
        let open = self.open.swap(Self::pack(0, 0), Ordering::SeqCst);
        let taken = self.pieces.len() - (open >> 32) as usize;
        loop {
            let results = self.results();
            if results.done.len() == taken {
                return results;
            }
            // It has taken a piece and is about to take the lock.
            drop(results);
            std::thread::yield_now();
        }
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The helper of a recorder, shared by the trackers of all its processes.
#[derive(Debug)]
pub struct Crew {
    helper: SyncSender<Arc<Job>>,
}

impl Crew {
    /// Starts the helper; `None` if there is no processor for it, or no thread to be had.
    pub fn start(processors: usize) -> Option<Self> {
        if processors < 2 {
            return None;
        }
        let (helper, jobs) = sync_channel::<Arc<Job>>(1);
        let thread = std::thread::Builder::new().name("still-scan".into());
        let started = thread.spawn(move || {
            sched::try_realtime();
            for job in jobs {
                job.help();
            }
        });
        match started {
            Ok(_) => Some(Self { helper }),
            Err(error) => {
                tracing::debug!("scanning alone: {error}");
                None
            }
        }
    }

    /// Has every piece (ascending, disjoint) looked at. `visit` gets each and its index, ascending:
    /// first of those that the caller has to look at itself, then of the others, with what the
    /// helper found there.
    ///
    /// # Errors
    /// The first that `visit` gives. What the helper has found by then is given to it all the same.
    pub fn share<E>(
        &self,
        pieces: Vec<Range<u64>>,
        scanner: &Second,
        mut visit: impl FnMut(usize, Range<u64>, Option<Helped<'_>>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
        let job = Arc::new(Job {
            pieces,
            open: AtomicU64::new(Job::pack(0, count)),
            scanner: Arc::clone(scanner),
            results: Mutex::new(Results::default()),
        });
        // If there is no room it has not woken up since the last time, and we are alone.
        let _ = self.helper.try_send(Arc::clone(&job));
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(piece) = job.take_first()
        {
            outcome = visit(piece, job.pieces[piece].clone(), None);
        }
        let mut results = job.close();
        let Results { found, done } = &mut *results;
        for Done {
            piece,
            found: at,
            end,
        } in done.drain(..).rev()
        {
            let found = found.get(at).unwrap_or_default();
            let range = job.pieces[piece].clone();
            let visited = visit(piece, range, Some(Helped { found, end }));
            outcome = outcome.and(visited);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn job(pieces: usize) -> Option<Job> {
        let scanner = Scanner::for_classifying(std::process::id()).ok()?;
        Some(Job {
            pieces: (0..pieces as u64).map(|n| n..n + 1).collect(),
            open: AtomicU64::new(Job::pack(0, pieces as u32)),
            scanner: Arc::new(Mutex::new(scanner)),
            results: Mutex::new(Results::default()),
        })
    }

    #[test]
    fn every_piece_is_taken_once_whoever_is_quicker() {
        for pieces in [0, 1, 2, 3, 1000] {
            let job = job(pieces).unwrap();
            let taken: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut before = pieces;
                    while let Some(piece) = job.take_last() {
                        assert!(piece < before);
                        before = piece;
                        taken[piece].fetch_add(1, Ordering::SeqCst);
                    }
                });
                let mut before = None;
                while let Some(piece) = job.take_first() {
                    assert!(before < Some(piece));
                    before = Some(piece);
                    taken[piece].fetch_add(1, Ordering::SeqCst);
                }
            });
            assert!(taken.iter().all(|t| t.load(Ordering::SeqCst) == 1));
        }
    }

    #[test]
    fn an_error_ends_the_work_and_loses_nothing_that_was_found() {
        let crew = Crew::start(2).unwrap();
        let scanner = Scanner::for_classifying(std::process::id()).unwrap();
        let scanner = Arc::new(Mutex::new(scanner));
        for _ in 0..200 {
            let pieces: Vec<_> = (1..60u64).map(|n| n * 8192..n * 8192 + 4096).collect();
            let (mut own, mut helped) = (0, Vec::new());
            let shared = crew.share(pieces, &scanner, |piece, _, other| match other {
                Some(_) => {
                    helped.push(piece);
                    Ok(())
                }
                None => {
                    own += 1;
                    std::thread::yield_now();
                    if piece == 3 { Err(()) } else { Ok(()) }
                }
            });
            assert!(own <= 4);
            assert_eq!(shared.is_err(), own == 4);
            // The last ones, without a gap.
            assert!(helped.iter().rev().copied().eq((59 - helped.len()..59).rev()));
        }
    }

    #[test]
    fn what_is_not_the_callers_comes_afterwards_in_order() {
        let crew = Crew::start(2).unwrap();
        let scanner = Arc::new(Mutex::new(
            Scanner::for_classifying(std::process::id()).unwrap(),
        ));
        let mut helped = 0;
        for _ in 0..200 {
            // Nothing is mapped there, so nothing is found.
            let pieces: Vec<_> = (1..60u64).map(|n| n * 8192..n * 8192 + 4096).collect();
            let mut seen = Vec::new();
            let shared: std::result::Result<(), ()> =
                crew.share(pieces.clone(), &scanner, |piece, _, other| {
                    match other {
                        None => std::thread::yield_now(),
                        Some(Helped { found, .. }) => {
                            helped += 1;
                            assert!(found.is_empty());
                        }
                    }
                    seen.push(piece);
                    Ok(())
                });
            assert_eq!(shared, Ok(()));
            assert!(seen.iter().copied().eq(0..pieces.len()), "{seen:?}");
        }
        println!("helped with {helped} pieces of {}", 200 * 59);
    }
}
