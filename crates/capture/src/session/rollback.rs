//! Taking a recorded process back to an earlier checkpoint.
//!
//! First a checkpoint is made of the present, after which the process stays where it stands: nothing
//! is lost, and the index says exactly which pages differ. Then it is put back, and the recording
//! goes on: what we write is found written by the trackers like the program's own writes.

use super::{Goals, PATIENT_LIMIT, Session};
use crate::Error;
use crate::engine::{Happened, Outcome};
use std::time::{Duration, Instant};
use stillframe_image::{CheckpointId, Marks};
use stillframe_linux::tracee::FamilyStop;
use stillframe_restore::objects;
use stillframe_restore::rollback::ahead::Ahead;
use stillframe_restore::rollback::ask::{Request, Summary};
use stillframe_restore::rollback::{
    self, Beside, Differing, Error as Failed, Moment, Options, pages,
};
use stillframe_store::{Recording, Row};

/// How long the checkpoint of the present may take to be stored.
const STORE_LIMIT: Duration = Duration::from_secs(30);

impl Session<'_> {
    /// Somebody asks at the socket.
    pub(super) fn asked(&mut self, goals: &mut Goals) -> Result<Vec<Happened>, Error> {
        let Some((request, asker)) = self.door.as_ref().and_then(|d| d.take()) else {
            return Ok(Vec::new());
        };
        let mut happened = Vec::new();
        let result = self.serve(&request, goals, &mut happened)?;
        match &result {
            Ok(done) => tracing::info!(pid = request.pid, to = request.to, ?done, "rolled back"),
            Err(error) => {
                tracing::info!(pid = request.pid, to = request.to, %error, "not rolled back")
            }
        }
        asker.answer(&result);
        Ok(happened)
    }

    fn serve(
        &mut self,
        request: &Request,
        goals: &mut Goals,
        happened: &mut Vec<Happened>,
    ) -> Result<Result<Summary, Failed>, Error> {
        let refuse = |why: String| Ok(Err(Failed::Refused(why)));
        if self.engine.space_of(request.pid).is_none() {
            return refuse(format!("process {} is not recorded here", request.pid));
        }
        // If that fails, the same failure comes up again, and is told then.
        let mut ahead = self.read_ahead(request).unwrap_or_default();
        let begun = Instant::now();
        match self.engine.stand(Marks::default(), None, PATIENT_LIMIT)? {
            Outcome::Taken => {
                let mut result = self.go_back(request, Vec::new(), &mut ahead, goals)?;
                if let Ok(done) = &mut result {
                    done.took_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                }
                Ok(result)
            }
            Outcome::NotStopped(why) => refuse(format!(
                "process {} could not be stopped: {why}",
                request.pid
            )),
            Outcome::Event(event) => {
                happened.push(event);
                // It may stand, if that came after the checkpoint.
                self.go_on()?;
                // Whatever it is, whoever asked finds out by asking again.
                refuse("something happened to the process meanwhile; ask again".into())
            }
        }
    }

    /// The processes stand still, and their last checkpoint is the present. They run afterwards.
    /// `broken`: see [`Options::broken`]. `ahead`: what was read for it while they still ran.
    pub(super) fn go_back(
        &mut self,
        request: &Request,
        broken: Vec<u32>,
        ahead: &mut Ahead,
        goals: &mut Goals,
    ) -> Result<Result<Summary, Failed>, Error> {
        let result = self.change(request, broken, ahead);
        if result.is_ok() {
            goals.marks = goals.marks.with(Marks::ROLLBACK);
            goals.due = Instant::now();
        }
        if result.is_ok() && request.stay {
            let (family, _) = self.engine.parts();
            if let FamilyStop::All(mut halt) = family.stop_all(PATIENT_LIMIT)? {
                if let Some(process) = halt.process(request.pid)
                    && let Some(tid) = process.threads().first().copied()
                {
                    process.hold(tid)?;
                }
                halt.stay();
            }
        }
        self.go_on()?;
        Ok(result)
    }

    /// Lets all that stands run.
    pub(super) fn go_on(&mut self) -> Result<(), Error> {
        let (family, _) = self.engine.parts();
        match family.stop_all(PATIENT_LIMIT)? {
            FamilyStop::All(halt) => Ok(halt.resume()?),
            // They run already, or have ended.
            FamilyStop::TimedOut { .. } => Ok(()),
            FamilyStop::Event { pid, event } => {
                self.early.get_or_insert((pid, event));
                Ok(())
            }
        }
    }

    /// All checkpoints there are, the present one included.
    pub(super) fn read_rows(&mut self) -> Result<Vec<Row>, Failed> {
        self.wait_until_stored()?;
        let recording = self.reader()?;
        let rows = recording.rows().to_vec();
        self.reader = Some(recording);
        Ok(rows)
    }

    /// The recording, as far as it is stored. To be given back to [`Session::reader`].
    fn reader(&mut self) -> Result<Recording, Failed> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(Recording::open(&self.options.output)?);
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// What can be read for a request while the process still runs.
    fn read_ahead(&mut self, request: &Request) -> Result<Ahead, Failed> {
        let Some(space) = self.engine.space_of(request.pid) else {
            return Ok(Ahead::default());
        };
        let recording = self.reader()?;
        let ahead = Ahead::of_recorded(&recording, CheckpointId(request.to), space);
        self.reader = Some(recording);
        ahead
    }

    fn change(
        &mut self,
        request: &Request,
        broken: Vec<u32>,
        ahead: &mut Ahead,
    ) -> Result<Summary, Failed> {
        let present = CheckpointId(self.engine.taken().saturating_sub(1));
        self.wait_until_stored()?;
        let recording = self.reader()?;
        let result = self.change_by(&recording, request, present, broken, ahead);
        self.reader = Some(recording);
        result
    }

    fn change_by(
        &mut self,
        recording: &Recording,
        request: &Request,
        present: CheckpointId,
        broken: Vec<u32>,
        ahead: &mut Ahead,
    ) -> Result<Summary, Failed> {
        let gone = || Failed::Refused(format!("process {} is not recorded here", request.pid));
        let space = self.engine.space_of(request.pid).ok_or_else(gone)?;
        let to = CheckpointId(request.to);
        let row = recording.row(to).ok_or_else(|| {
            Failed::Refused(format!("the recording has no checkpoint {to} any more"))
        })?;
        let checkpoint = recording.checkpoint(to)?;
        let image = recording.process(to, space)?;
        rollback::check_identity(request.pid, &image.process, row.tick.wall_ns)?;
        let then = recording.memory(to, space)?;
        let now = recording.memory(present, space)?;
        let differ = pages::between(recording, &then, &now, ahead.differ.as_ref())?;
        let next = match &ahead.next {
            Some(next) => Some(next.clone()),
            None => rollback::next_asked(recording, to, space)?,
        };
        let room = ahead.take_room();
        let bytes = ahead.bytes(&then);
        let (family, _) = self.engine.parts();
        let mut halt = match family.stop_all(PATIENT_LIMIT)? {
            FamilyStop::All(halt) => halt,
            FamilyStop::TimedOut { why, .. } => return Err(Failed::Refused(why)),
            FamilyStop::Event { .. } => {
                return Err(Failed::Refused("the process is ending".to_owned()));
            }
        };
        let mut process = halt.process(request.pid).ok_or_else(gone)?;
        let to = Moment {
            image: &image,
            next: next.as_ref().map(|n| &n.process),
            at: to,
            bytes: &bytes,
        };
        let options = Options {
            paranoid: request.paranoid,
            broken,
            foreign: objects::foreign(&checkpoint, space),
            foreign_memory: rollback::foreign_memory(&checkpoint, space),
            room,
        };
        let beside = Beside {
            recording,
            checkpoint: &checkpoint,
            id: to.at,
            space,
            how: request.files,
        };
        let differing = Differing::Known(differ.pages);
        let result = rollback::roll_back(&mut process, to, beside, differing, options);
        drop(process);
        halt.stay();
        let number = |tid: u32| match &result {
            Ok(done) => done.tids.get(&tid).copied().unwrap_or(tid),
            Err(_) => tid,
        };
        self.engine.remade(request.pid, &image, number);
        let done = result?;
        Ok(Summary::new(&done, Some(present.0)))
    }

    /// Waits until everything handed over is in the recording.
    fn wait_until_stored(&mut self) -> Result<(), Failed> {
        let end = Instant::now() + STORE_LIMIT;
        loop {
            self.count();
            if self.counts.stats.checkpoints >= self.engine.taken() {
                return Ok(());
            }
            if Instant::now() >= end {
                let why = "the present could not be stored in time; see whether the disk is full";
                return Err(Failed::Refused(why.to_owned()));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
