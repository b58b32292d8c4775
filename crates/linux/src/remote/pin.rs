//! One processor for tracer and tracees.

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Threads that are pinned, with what they were allowed before. Dropping it gives that back.
///
/// All of it is a gift: where the kernel refuses (a foreign cpuset, a thread that is gone), calls are
/// only slower.
#[derive(Debug, Default)]
pub(super) struct Pins {
    at: Option<usize>,
    /// `None` for ourselves.
    before: Vec<(Option<Pid>, CpuSet)>,
}

impl Pins {
    /// Pins a thread of the target to the processor we are on, and at the first one us.
    pub(super) fn pin(&mut self, tid: u32) {
        let Some(tid) = Pid::from_raw(tid.cast_signed()) else {
            return;
        };
        let Ok(allowed) = sched_getaffinity(Some(tid)) else {
            return;
        };
        let at = match self.at {
            Some(at) => at,
            None => match self.choose(&allowed) {
                Some(at) => at,
                None => return,
            },
        };
        if allowed.is_set(at) && sched_setaffinity(Some(tid), &only(at)).is_ok() {
            self.before.push((Some(tid), allowed));
        }
    }

    fn choose(&mut self, allowed: &CpuSet) -> Option<usize> {
        let ours = sched_getaffinity(None).ok()?;
        let here = sched_getcpu();
        let both = |cpu: &usize| ours.is_set(*cpu) && allowed.is_set(*cpu);
        let at = std::iter::once(here).chain(0..CpuSet::MAX_CPU).find(both)?;
        sched_setaffinity(None, &only(at)).ok()?;
        self.before.push((None, ours));
        self.at = Some(at);
        Some(at)
    }
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

impl Drop for Pins {
    fn drop(&mut self) {
        for (tid, set) in self.before.drain(..) {
            let _ = sched_setaffinity(tid, &set);
        }
    }
}
