//! Changes over time, from the index.
//!
//! A question is asked at one checkpoint, and what it read is noted; the next checkpoint at which any
//! of that is different is where it is asked again. So the cost is that of the changes.

use super::super::debuggee::{Change, Direction, Failure, FrameId, HistoryStep, Watch};
use super::super::interrupt::Interrupt;
use super::Recorded;
use super::values::InCall;
use stillframe_image::CheckpointId;
use stillframe_timeline::{Answer, Expression, Question, Raw, Seen, Step, Walk, walk};

/// A question of either sort.
type Any<'m> = Box<dyn Question<Answer = Answer> + 'm>;

impl<'m> Recorded<'m> {
    /// The question for a watched value.
    fn question(&self, watch: &Watch) -> Result<Any<'m>, Failure> {
        Ok(match watch {
            Watch::Bytes { address, length } => {
                let raw: Raw = format!("{address:#x}:{length}")
                    .parse()
                    .map_err(Failure::told)?;
                Box::new(raw)
            }
            Watch::Expression(text) => Box::new(self.of_globals(text)?),
        })
    }

    /// The nearest change of anything watched.
    pub(super) fn change(
        &mut self,
        watched: &[Watch],
        direction: Direction,
        interrupt: &Interrupt,
    ) -> Result<Option<Change>, Failure> {
        let life = self.past.life();
        let here = self.position;
        let mut found: Option<(usize, Vec<usize>)> = None;
        for (i, watch) in watched.iter().enumerate() {
            let question = self.question(watch)?;
            // Beyond what was found already nobody needs to look.
            let (range, way) = match direction {
                Direction::Forward => {
                    let end = found.as_ref().map_or(*life.end(), |(at, _)| *at);
                    (here..=end, walk::Direction::Forward)
                }
                Direction::Backward => {
                    let begin = found.as_ref().map_or(*life.start(), |(at, _)| at - 1);
                    (begin..=here, walk::Direction::Backward)
                }
            };
            let mut walk = Walk::new(&self.past, &question, range, way).map_err(Failure::told)?;
            match walk
                .next(&mut |_| !interrupt.is_set())
                .map_err(Failure::told)?
            {
                Step::Stopped => return Err(Failure::Interrupted),
                Step::End => {}
                Step::Change(change) => match &mut found {
                    Some((at, which)) if *at == change.at => which.push(i),
                    _ => found = Some((change.at, vec![i])),
                },
            }
        }
        let Some((at, which)) = found else {
            return Ok(None);
        };
        let before = at.checked_sub(1).and_then(|p| self.time.id(p));
        Ok(before.zip(self.time.id(at)).map(|(before, after)| Change {
            which,
            before,
            after,
        }))
    }

    /// Every value over a range, from its first checkpoint on.
    pub(super) fn steps(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
        range: (CheckpointId, CheckpointId),
        interrupt: &Interrupt,
        visit: &mut dyn FnMut(HistoryStep) -> bool,
    ) -> Result<(), Failure> {
        let question: Any<'m> = match Raw::is_meant(expression) {
            true => Box::new(expression.parse::<Raw>().map_err(Failure::told)?),
            // What means something without a frame keeps its meaning when that has gone.
            false => match frame {
                Some(frame) if self.value_of(None, expression, false).is_err() => {
                    let call = self.call(frame)?;
                    Box::new(InCall::new(self.machine, self.process, expression, call)?)
                }
                _ => Box::new(self.of_globals(expression)?),
            },
        };
        let life = self.past.life();
        let from = self.past.position(range.0).max(*life.start());
        let to = self.past.position(range.1).min(*life.end());
        if from > to {
            return Ok(());
        }
        let forward = walk::Direction::Forward;
        let mut walk =
            Walk::new(&self.past, &question, from..=to, forward).map_err(Failure::told)?;
        let mut at = from;
        loop {
            let value = match walk.answer() {
                Some(Answer::Value(value)) => value.text.clone(),
                Some(Answer::Missing(why)) => format!("<{why}>"),
                None => "<the process is not there>".to_owned(),
            };
            let moment = self.time.moment(at).unwrap_or_default();
            if !visit(HistoryStep { moment, value }) {
                return Ok(());
            }
            match walk
                .next(&mut |_| !interrupt.is_set())
                .map_err(Failure::told)?
            {
                Step::Stopped => return Err(Failure::Interrupted),
                Step::End => return Ok(()),
                Step::Change(change) => at = change.at,
            }
        }
    }

    fn of_globals(&self, text: &str) -> Result<Expression<'m>, Failure> {
        Expression::parse(self.machine, text, Seen::default()).map_err(Failure::told)
    }
}
