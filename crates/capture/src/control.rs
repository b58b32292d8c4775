//! Keeping a stated budget.
//!
//! What a recording costs its target is known while it runs: the time it stands still, about a
//! microsecond for each first write to a protected page, and, where the processors are all in use,
//! the time the recorder itself takes. The sum over a window is held against the budget, and the
//! rate follows: down at once, up slowly. A limit on the pause is kept by more pre-copy rounds,
//! which find and protect most of what was written in stops of their own, and then by a higher
//! rate, since less is written in a shorter interval.

use std::time::Duration;

/// What one first write to a protected page costs its thread, nanoseconds: measured, 0.83 to 1.1
/// microseconds with asynchronous write protection.
pub const FAULT_NS: f64 = 950.0;

/// Shortest window over which a judgement is made.
const WINDOW: Duration = Duration::from_millis(200);

/// Slowest rate, per second.
const SLOWEST: f64 = 0.1;

/// Most pre-copy rounds.
const MOST_ROUNDS: u32 = 3;

/// What is to be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goals {
    /// Rate not to be passed, per second.
    pub ceiling: f64,
    /// Share of the target's speed that recording may cost, 0 to 1.
    pub budget: Option<f64>,
    /// Pause that nine in ten boundaries should stay below.
    pub max_pause: Option<Duration>,
}

/// What one tick cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Time since the tick before.
    pub interval: Duration,
    /// Time the target stood still in it, all stops.
    pub stalled: Duration,
    /// The boundary alone.
    pub pause: Duration,
    /// First writes to protected pages.
    pub faults: u64,
    /// Threads that would run; at least 1 is assumed.
    pub running: usize,
}

/// The rate and the rounds that keep the goals.
#[derive(Debug)]
pub struct Control {
    goals: Goals,
    hz: f64,
    rounds: u32,
    processors: usize,
    elapsed: f64,
    lost: f64,
    running: f64,
    pauses: Vec<Duration>,
    /// Windows in a row in which fewer rounds would have done.
    calm: u32,
}

impl Control {
    /// For goals on a machine with so many processors.
    pub fn new(goals: Goals, processors: usize) -> Self {
        Self {
            goals,
            // Somewhere to begin; it takes a few windows to get to where it belongs.
            hz: goals.ceiling.min(50.0),
            rounds: 0,
            processors,
            elapsed: 0.0,
            lost: 0.0,
            running: 0.0,
            pauses: Vec::new(),
            calm: 0,
        }
    }

    /// Time between two ticks.
    pub fn period(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.hz)
    }

    /// Pre-copy rounds before each boundary.
    pub const fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Takes in a tick. `recorder`: processor time the recorder has used so far, seconds, asked for
    /// only when a window ends.
    pub fn tick(&mut self, cost: &Cost, recorder: impl FnOnce() -> f64) {
        let running = cost.running.max(1) as f64;
        self.elapsed += cost.interval.as_secs_f64();
        self.lost += cost.stalled.as_secs_f64() + cost.faults as f64 * FAULT_NS / 1e9 / running;
        self.running += running;
        self.pauses.push(cost.pause);
        if self.elapsed < WINDOW.as_secs_f64() {
            return;
        }
        let used = recorder();
        self.judge(used);
        self.elapsed = 0.0;
        self.lost = 0.0;
        self.running = 0.0;
        self.pauses.clear();
    }

    /// `used`: processor time the recorder used in the window, seconds.
    fn judge(&mut self, used: f64) {
        let running = self.running / self.pauses.len() as f64;
        let ours = used / self.elapsed;
        // What we take from threads that find no other processor.
        let crowded = (running + ours - self.processors as f64).clamp(0.0, ours);
        let share = self.lost / self.elapsed + crowded / running;
        if let Some(budget) = self.goals.budget {
            let factor = budget / share.max(1e-6);
            self.hz *= if factor < 1.0 {
                (factor * 0.95).max(0.25)
            } else {
                factor.sqrt().min(2.0)
            };
        }
        if let Some(limit) = self.goals.max_pause {
            self.pauses.sort_unstable();
            let high = self.pauses[self.pauses.len() * 9 / 10];
            if high > limit {
                self.calm = 0;
                if self.rounds < MOST_ROUNDS {
                    self.rounds += 1;
                } else if self.goals.budget.is_none() {
                    self.hz *= 1.25;
                }
            } else if high * 2 < limit && self.rounds > 0 {
                self.calm += 1;
                if self.calm >= 10 {
                    self.calm = 0;
                    self.rounds -= 1;
                }
            }
        }
        self.hz = self
            .hz
            .clamp(SLOWEST.min(self.goals.ceiling), self.goals.ceiling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that writes `rate` pages a second, of which `hot` again and again.
    fn run(control: &mut Control, seconds: f64, stop: f64, hot: f64, rate: f64) -> f64 {
        let mut now = 0.0;
        let mut lost = 0.0;
        while now < seconds {
            let interval = control.period().as_secs_f64();
            let faults = hot.min(rate * interval);
            let pause = stop + faults * 0.2e-6;
            let rounds = f64::from(control.rounds());
            let stalled = pause + rounds * stop;
            now += interval;
            if now > seconds / 2.0 {
                lost += stalled + faults * FAULT_NS / 1e9;
            }
            control.tick(
                &Cost {
                    interval: Duration::from_secs_f64(interval),
                    stalled: Duration::from_secs_f64(stalled),
                    pause: Duration::from_secs_f64(pause / (1.0 + rounds)),
                    faults: faults as u64,
                    running: 1,
                },
                || 0.0,
            );
        }
        lost / (seconds / 2.0)
    }

    fn goals(budget: Option<f64>, max_pause: Option<Duration>) -> Goals {
        Goals {
            ceiling: 1000.0,
            budget,
            max_pause,
        }
    }

    #[test]
    fn the_budget_is_used_and_kept() {
        for (stop, hot, rate) in [
            (300e-6, 1000.0, 1e5),
            (3e-3, 1e5, 1e6),
            (100e-6, 100.0, 1e4),
        ] {
            let mut control = Control::new(goals(Some(0.03), None), 2);
            let share = run(&mut control, 400.0, stop, hot, rate);
            assert!((0.02..0.034).contains(&share), "{share} {control:?}");
        }
    }

    #[test]
    fn a_light_target_reaches_the_ceiling_and_no_more() {
        let mut control = Control::new(goals(Some(0.5), None), 2);
        run(&mut control, 60.0, 20e-6, 10.0, 1e3);
        assert_eq!(control.period(), Duration::from_millis(1));
    }

    #[test]
    fn it_follows_a_target_that_changes() {
        let mut control = Control::new(goals(Some(0.03), None), 2);
        run(&mut control, 20.0, 100e-6, 100.0, 1e4);
        let fast = control.period();
        run(&mut control, 20.0, 3e-3, 1e5, 1e6);
        assert!(control.period() > fast * 10);
        run(&mut control, 20.0, 100e-6, 100.0, 1e4);
        assert!(control.period() < fast * 2);
    }

    #[test]
    fn long_pauses_bring_rounds_and_short_ones_take_them_back() {
        let mut control = Control::new(goals(None, Some(Duration::from_micros(500))), 2);
        run(&mut control, 10.0, 900e-6, 100.0, 1e4);
        assert!(control.rounds() >= 1);
        run(&mut control, 60.0, 50e-6, 10.0, 1e3);
        assert_eq!(control.rounds(), 0);
    }

    #[test]
    fn what_the_recorder_takes_counts_only_where_processors_are_scarce() {
        let cost = Cost {
            interval: Duration::from_millis(20),
            running: 1,
            ..Cost::default()
        };
        let speed = |processors| {
            let mut control = Control::new(goals(Some(0.03), None), processors);
            for _ in 0..200 {
                control.tick(&cost, || 0.2);
            }
            control.period()
        };
        assert!(speed(1) > speed(4));
    }
}
