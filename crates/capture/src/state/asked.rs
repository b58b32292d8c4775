//! What only the process itself tells: handlers of signals, alternate stacks, timers, the break.
//!
//! Each answer costs a call made inside the target, so they are not asked for at every boundary.
//! The kernel shows from outside which signals are caught, and that is read at every boundary:
//! what appears there is asked for in that very boundary, and so is everything else for some
//! boundaries after it, or after an answer that was not the one before: a program that changes
//! such things now will do it again. A quiet one is asked a little once a second, between boundaries.
//! So an answer is of that boundary, or the checkpoint says as of when it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stillframe_image::{AltStack, CheckpointId, IntervalTimer, PosixTimer, Process, SignalAction};
use stillframe_linux::inject::Injector;
use stillframe_linux::proc::moving::Dispositions;
use stillframe_linux::tracee::Halt;

/// Boundaries at which is asked after something changed.
const RESTLESS: u32 = 12;
/// Calls made inside one boundary, at most.
const INSIDE: usize = 8;
/// How old an answer of a program that catches signals may get.
const REFRESH: Duration = Duration::from_secs(1);
/// Calls for that, at most.
const REFRESHED: usize = 4;

/// Something to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Subject {
    /// A signal's action.
    Signal(u32),
    /// The three interval timers.
    Timers,
    /// The time a POSIX timer has left.
    Timer(u32),
    /// A thread's alternate stack, and the word that is cleared at its end.
    Thread(u32),
    /// The end of the heap.
    Break,
}

impl Subject {
    const fn calls(self) -> usize {
        match self {
            Self::Signal(_) | Self::Timer(_) | Self::Break => 1,
            Self::Thread(_) => 2,
            Self::Timers => 3,
        }
    }
}

/// When something was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The last boundary before it, or the one in which it was.
    at: CheckpointId,
    when: Instant,
}

/// What a thread told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub alt_stack: Option<AltStack>,
    pub tid_address: Option<u64>,
}

/// The answers so far.
#[derive(Debug, Default)]
pub struct Answers {
    actions: BTreeMap<u32, SignalAction>,
    timers: Option<[IntervalTimer; 3]>,
    armed: BTreeMap<u32, (u64, u64)>,
    threads: BTreeMap<u32, Told>,
    brk: u64,
    asked: BTreeMap<Subject, Asked>,
    seen: Dispositions,
    /// POSIX timers that exist.
    posix: Vec<u32>,
    restless: u32,
    now: CheckpointId,
}

impl Answers {
    /// A boundary sees this. Threads are those that exist.
    pub fn see(
        &mut self,
        now: CheckpointId,
        seen: Dispositions,
        threads: &[u32],
        timers: &[PosixTimer],
    ) {
        self.now = now;
        let posix = timers.iter().map(|t| t.id);
        if self.seen.caught != seen.caught || !self.posix.iter().copied().eq(posix.clone()) {
            self.restless = RESTLESS;
        }
        self.posix.clear();
        self.posix.extend(posix);
        self.seen = seen;
        // Caught again after it was not, it may have another handler.
        self.actions.retain(|signal, _| caught(seen, *signal));
        self.armed.retain(|id, _| self.posix.contains(id));
        self.threads.retain(|tid, _| threads.contains(tid));
        for tid in threads {
            self.threads.entry(*tid).or_default();
        }
        let (actions, posix, known) = (&self.actions, &self.posix, &self.threads);
        self.asked.retain(|subject, _| match subject {
            Subject::Signal(signal) => actions.contains_key(signal) || caught(seen, *signal),
            Subject::Timer(id) => posix.contains(id),
            Subject::Thread(tid) => known.contains_key(tid),
            Subject::Timers | Subject::Break => true,
        });
    }

    /// Whether something is to be asked for in this boundary.
    pub fn wants_now(&self) -> bool {
        self.seen.caught != 0 && self.restless > 0 || self.is_missing(Subject::is_signal)
    }

    /// Whether something is to be asked for when there is time.
    pub fn wants(&self) -> bool {
        self.is_missing(|_| true) || self.seen.caught != 0 && !self.old().is_empty()
    }

    fn is_missing(&self, sort: impl Fn(&Subject) -> bool) -> bool {
        let mut subjects = self.subjects();
        subjects.any(|s| sort(&s) && !self.asked.contains_key(&s))
    }

    fn subjects(&self) -> impl Iterator<Item = Subject> {
        let seen = self.seen;
        let signals = (1..=64)
            .filter(move |s| caught(seen, *s))
            .map(Subject::Signal);
        let timers = self.posix.iter().copied().map(Subject::Timer);
        let threads = self.threads.keys().copied().map(Subject::Thread);
        let rest = [Subject::Timers, Subject::Break];
        signals.chain(timers).chain(rest).chain(threads)
    }

    fn old(&self) -> Vec<Subject> {
        let is_old = |s: &Subject| {
            self.asked
                .get(s)
                .is_none_or(|a| a.when.elapsed() >= REFRESH)
        };
        self.subjects().filter(is_old).collect()
    }

    /// What is asked for next with this many calls: what is not known, then what was asked longest
    /// ago.
    fn choose(&self, mut subjects: Vec<Subject>, calls: usize) -> Vec<Subject> {
        subjects.sort_by_key(|s| self.asked.get(s).map(|a| a.when));
        let mut left = calls;
        subjects.retain(|s| {
            let fits = s.calls() <= left;
            left -= if fits { s.calls() } else { 0 };
            fits
        });
        subjects
    }

    /// Asks in a boundary, in which everything stands still.
    pub fn ask_now(&mut self, halt: &mut Halt<'_>) {
        self.restless = self.restless.saturating_sub(1);
        let subjects = self.subjects().filter(|s| *s != Subject::Break).collect();
        let chosen = self.choose(subjects, INSIDE);
        let mut injector = match Injector::prepare(halt) {
            Ok(injector) => injector,
            Err(error) => {
                tracing::debug!("nothing is asked in this boundary: {error}");
                return;
            }
        };
        self.ask_for(&chosen, &mut injector, halt);
        if let Err(error) = injector.finish(halt) {
            tracing::debug!("after asking: {error}");
        }
    }

    /// Asks between boundaries, with at most `calls` calls.
    pub fn ask(&mut self, injector: &mut Injector, halt: &mut Halt<'_>, calls: usize) {
        for tid in halt.threads() {
            self.threads.entry(*tid).or_default();
        }
        let unknown: Vec<Subject> = self
            .subjects()
            .filter(|s| !self.asked.contains_key(s))
            .collect();
        let (subjects, calls) = if unknown.is_empty() {
            (self.old(), calls.min(REFRESHED))
        } else {
            (unknown, calls)
        };
        let chosen = self.choose(subjects, calls);
        self.ask_for(&chosen, injector, halt);
    }

    fn ask_for(&mut self, subjects: &[Subject], injector: &mut Injector, halt: &mut Halt<'_>) {
        for subject in subjects {
            let asked = Asked {
                at: self.now,
                when: Instant::now(),
            };
            let first = self.asked.insert(*subject, asked).is_none();
            let changed = self.ask_one(*subject, injector, halt);
            if changed && !first {
                self.restless = RESTLESS;
            }
        }
    }

    /// Whether the answer is another than before.
    fn ask_one(&mut self, subject: Subject, injector: &mut Injector, halt: &mut Halt<'_>) -> bool {
        let failed = |error| tracing::debug!("{subject:?}: {error}");
        match subject {
            Subject::Signal(signal) => match injector.sigaction(halt, signal) {
                Ok(action) => self.actions.insert(signal, action) != Some(action),
                Err(error) => {
                    failed(error);
                    false
                }
            },
            Subject::Timers => {
                let timers = [0, 1, 2].map(|which| injector.getitimer(halt, which).ok());
                let [Some(real), Some(virt), Some(prof)] = timers else {
                    return false;
                };
                let now = [real, virt, prof];
                // One that has just expired has nothing left until its signal is taken.
                let sort = |t: &IntervalTimer| (t.interval_us, (t.interval_us | t.value_us) == 0);
                let before = self.timers.replace(now);
                before.is_none_or(|b| !b.iter().map(sort).eq(now.iter().map(sort)))
            }
            Subject::Timer(id) => match injector.timer_gettime(halt, id) {
                Ok(armed) => {
                    let before = self.armed.insert(id, armed);
                    before.is_none_or(|b| (b.0, b.1 == 0) != (armed.0, armed.1 == 0))
                }
                Err(error) => {
                    failed(error);
                    false
                }
            },
            Subject::Thread(tid) => {
                let told = Told {
                    alt_stack: injector
                        .sigaltstack(halt, tid)
                        .inspect_err(|error| tracing::debug!("thread {tid}: {error}"))
                        .ok(),
                    tid_address: injector.tid_address(halt, tid).ok(),
                };
                let place = |t: &Told| (t.alt_stack.map(|s| (s.base, s.size)), t.tid_address);
                let before = self.threads.entry(tid).or_default();
                let changed = place(before) != place(&told);
                *before = Told {
                    alt_stack: told.alt_stack.or(before.alt_stack),
                    tid_address: told.tid_address.or(before.tid_address),
                };
                changed
            }
            Subject::Break => {
                self.brk = injector.brk(halt).unwrap_or(self.brk);
                false
            }
        }
    }

    /// Completes what was read from outside.
    pub fn complete(&self, process: &mut Process) {
        process.actions = self.seen.actions();
        for action in &mut process.actions {
            if let Some(known) = self.actions.get(&action.signal)
                && action.handler == SignalAction::UNKNOWN
                && known.handler > 1
            {
                *action = *known;
            }
        }
        process.interval_timers = self.timers;
        for timer in &mut process.posix_timers {
            timer.armed_ns = self.armed.get(&timer.id).copied();
        }
        process.layout.brk = self.brk;
        // What stays the same for as long as it exists needs no second question.
        let counts = |s: &Subject| !matches!(s, Subject::Break) && self.seen.caught != 0;
        let oldest = self.subjects().filter(counts);
        let at = oldest.map(|s| self.asked.get(&s).map_or(CheckpointId(0), |a| a.at));
        process.as_of = at.min().unwrap_or(self.now);
    }

    /// What a thread told when it was last asked.
    pub fn of(&self, tid: u32) -> Told {
        self.threads.get(&tid).copied().unwrap_or_default()
    }

    /// The process was made what it was at a checkpoint: these were its answers then.
    pub fn adopt(&mut self, process: &Process, threads: BTreeMap<u32, Told>) {
        let told = process
            .actions
            .iter()
            .filter(|a| a.handler != SignalAction::UNKNOWN);
        self.actions = told.map(|a| (a.signal, *a)).collect();
        self.timers = process.interval_timers;
        self.threads = threads;
        self.asked.clear();
        self.restless = RESTLESS;
    }
}

impl Subject {
    const fn is_signal(&self) -> bool {
        matches!(self, Self::Signal(_))
    }
}

const fn caught(seen: Dispositions, signal: u32) -> bool {
    seen.caught & (1 << ((signal.wrapping_sub(1)) & 63)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catching(signals: &[u32]) -> Dispositions {
        Dispositions {
            caught: signals.iter().map(|s| 1 << (s - 1)).sum(),
            ignored: 0,
        }
    }

    fn answered(answers: &mut Answers, subjects: &[Subject], at: u64) {
        let asked = Asked {
            at: CheckpointId(at),
            when: Instant::now(),
        };
        answers.asked.extend(subjects.iter().map(|s| (*s, asked)));
    }

    #[test]
    fn what_appears_is_asked_for_at_once_and_a_quiet_program_is_left_alone() {
        let mut answers = Answers::default();
        answers.see(CheckpointId(1), Dispositions::default(), &[7], &[]);
        assert!(!answers.wants_now());
        let rest = [Subject::Timers, Subject::Break, Subject::Thread(7)];
        answered(&mut answers, &rest, 1);
        assert!(!answers.wants());
        answers.see(CheckpointId(2), catching(&[10]), &[7], &[]);
        assert!(answers.wants_now());
        let next = answers.choose(answers.subjects().collect(), INSIDE);
        assert_eq!(next[0], Subject::Signal(10));
        answered(&mut answers, &[Subject::Signal(10)], 2);
        for _ in 0..RESTLESS {
            assert!(answers.wants_now());
            answers.restless -= 1;
        }
        answers.see(CheckpointId(3), catching(&[10]), &[7], &[]);
        assert!(!answers.wants_now() && !answers.wants());
        answers.see(CheckpointId(4), catching(&[10, 12]), &[7], &[]);
        assert!(answers.wants_now());
    }

    #[test]
    fn few_calls_go_to_what_is_known_least() {
        let mut answers = Answers::default();
        answers.see(CheckpointId(1), catching(&[1, 2]), &[7, 8], &[]);
        answered(&mut answers, &[Subject::Signal(1)], 1);
        std::thread::sleep(Duration::from_millis(2));
        answered(&mut answers, &[Subject::Timers, Subject::Break], 1);
        let all: Vec<Subject> = answers.subjects().collect();
        let [two, seven, eight] = [Subject::Signal(2), Subject::Thread(7), Subject::Thread(8)];
        assert_eq!(answers.choose(all.clone(), 3), [two, seven]);
        let more = answers.choose(all, 6);
        assert_eq!(more, [two, seven, eight, Subject::Signal(1)]);
    }

    #[test]
    fn a_checkpoint_says_as_of_when_the_oldest_answer_is() {
        let mut answers = Answers::default();
        let mut process = Process::default();
        answers.see(CheckpointId(5), Dispositions::default(), &[7], &[]);
        answers.complete(&mut process);
        // Without handlers there is nothing to be told.
        assert_eq!(process.as_of, CheckpointId(5));
        answers.see(CheckpointId(6), catching(&[10]), &[7], &[]);
        let all: Vec<Subject> = answers.subjects().collect();
        answered(&mut answers, &all, 6);
        answers.see(CheckpointId(8), catching(&[10]), &[7], &[]);
        answered(&mut answers, &[Subject::Signal(10)], 8);
        answers.complete(&mut process);
        assert_eq!(process.as_of, CheckpointId(6));
    }

    #[test]
    fn a_signal_caught_again_is_asked_again() {
        let mut answers = Answers::default();
        answers.see(CheckpointId(1), catching(&[10]), &[7], &[]);
        answered(&mut answers, &[Subject::Signal(10)], 1);
        let action = SignalAction {
            signal: 10,
            handler: 0x1000,
            flags: 0,
            restorer: 0,
            mask: 0,
        };
        answers.actions.insert(10, action);
        let mut process = Process::default();
        answers.complete(&mut process);
        assert_eq!(process.actions, [action]);
        answers.see(CheckpointId(2), Dispositions::default(), &[7], &[]);
        answers.see(CheckpointId(3), catching(&[10]), &[7], &[]);
        answers.complete(&mut process);
        assert_eq!(process.actions[0].handler, SignalAction::UNKNOWN);
        assert!(answers.wants_now());
    }
}
