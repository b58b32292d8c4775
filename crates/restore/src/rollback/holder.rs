//! Keeps a process from running without us while it is between two moments.

use crate::threads::{ALL_BLOCKED, Guard};
use std::collections::BTreeSet;
use stillframe_linux::Result;
use stillframe_linux::tracee::Halt;

/// Which threads have a stop signal queued for them alone.
#[derive(Debug, Default)]
pub struct Holder {
    held: BTreeSet<u32>,
}

impl Holder {
    /// Holds a thread. No other signal is delivered to it until its mask is set again.
    pub fn take(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
        halt.put_blocked(tid, ALL_BLOCKED)?;
        halt.hold(tid)?;
        self.held.insert(tid);
        Ok(())
    }

    /// A thread is gone.
    pub fn forget(&mut self, tid: u32) {
        self.held.remove(&tid);
    }

    /// Lets all go. All that is to be set must be set.
    pub fn let_all_go(&mut self, halt: &mut Halt<'_>) -> Result<()> {
        while let Some(tid) = self.held.pop_first() {
            halt.let_go(tid)?;
        }
        Ok(())
    }
}

impl Guard for Holder {
    fn allow(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
        if self.held.remove(&tid) {
            halt.let_go(tid)?;
        }
        Ok(())
    }

    fn hold(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
        if !self.held.contains(&tid) {
            self.take(halt, tid)?;
        }
        Ok(())
    }

    fn begun(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
        self.take(halt, tid)
    }
}
