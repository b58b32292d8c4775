//! Pages of ours in a process that must survive our death.
//!
//! [`Remote::prepare`] and [`Remote::finish`] leave a thread for some microseconds where it could not
//! go on by itself. Where that matters, the pages are mapped and unmapped by calls that leave no
//! trace ([`Injector`]), and in between no thread has to stand anywhere but at our instructions, which
//! stop the process if they are ever run.

use super::{CODE, INSTRUCTIONS, LENGTH, OWN, Remote, SCRATCH, place, word};
use crate::error::{Error, Result};
use crate::inject::Injector;
use crate::memory::Door;
use crate::proc::maps::Maps;
use crate::tracee::Halt;
use std::ops::Range;

impl Remote {
    /// As [`Remote::prepare`], with all threads as they were before afterwards.
    ///
    /// # Errors
    /// As there; [`Error::NoSafeThread`] if no thread can make a call without a trace.
    pub fn prepare_safely(halt: &mut Halt<'_>, avoid: &[Range<u64>]) -> Result<Self> {
        let pid = halt.pid();
        let memory = Door::open(pid)?;
        let mut maps = Maps::open(pid)?;
        let _ = maps.refresh()?;
        let base = place::free(maps.entries(), avoid, LENGTH).ok_or(Error::NoRoom {
            pid,
            what: "pages of ours beside its old and new mappings",
        })?;
        let mut injector = Injector::prepare(halt)?;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let mut map = |halt: &mut Halt<'_>, at: u64, length: u64, protection: i32| {
            let args = [at, length, word(protection), word(anonymous), u64::MAX, 0];
            let got = injector.call_any(halt, libc::SYS_mmap, args)?;
            if got == at.cast_signed() {
                return Ok(());
            }
            let errno = i32::try_from(-got).unwrap_or(libc::ENOMEM);
            Err(Error::Call {
                call: "mmap",
                tid: pid,
                source: std::io::Error::from_raw_os_error(errno),
            })
        };
        map(halt, base, CODE, libc::PROT_READ | libc::PROT_EXEC)?;
        let data = libc::PROT_READ | libc::PROT_WRITE;
        let mapped = map(halt, base + CODE, OWN + SCRATCH, data);
        injector.finish(halt)?;
        let this = Self {
            pid,
            memory,
            base,
            ready: Vec::new(),
            pins: super::Pins::default(),
            channel: None,
            reserved: 0,
        };
        // The kernel lets a tracer write where the process may not.
        let written = mapped.and_then(|()| this.write(base, &INSTRUCTIONS));
        match written {
            Ok(()) => Ok(this),
            Err(e) => {
                this.finish_safely(halt)?;
                Err(e)
            }
        }
    }

    /// Unmaps our pages once no thread stands at our instructions and all registers are what they
    /// shall be: they are the same afterwards. [`Remote::close_channel`] is to be called before.
    ///
    /// # Errors
    /// The kernel's. The pages stay then, and do no harm.
    pub fn finish_safely(self, halt: &mut Halt<'_>) -> Result<()> {
        let args = [self.base, LENGTH, 0, 0, 0, 0];
        let mut injector = Injector::prepare(halt)?;
        let result = injector.call_any(halt, libc::SYS_munmap, args);
        injector.finish(halt)?;
        result.map(|_| ())
    }
}
