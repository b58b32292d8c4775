//! Numbers that stand for frames, things with parts, and places in time, between client and adapter.
//!
//! They are good until the next move. Numbers are not used again, so that one from before a move is
//! refused rather than taken for another thing.

use super::super::debuggee::{Failure, FrameId, Item};
use std::collections::HashMap;
use stillframe_image::CheckpointId;

/// Most numbers given out between two moves.
const MOST: usize = 1_000_000;

/// How a part that was shown can be watched: where it is, and an expression for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// First address and bytes.
    pub memory: Option<(u64, u64)>,
    /// An expression that gives it again.
    pub expression: Option<String>,
}

/// The numbers in use.
#[derive(Debug)]
pub(super) struct Handles<N> {
    last: i64,
    frames: HashMap<i64, FrameId>,
    numbers: HashMap<FrameId, i64>,
    nodes: HashMap<i64, N>,
    shown: HashMap<i64, HashMap<String, Shown>>,
    named: usize,
    targets: HashMap<i64, CheckpointId>,
}

impl<N> Default for Handles<N> {
    fn default() -> Self {
        Self {
            last: 0,
            frames: HashMap::new(),
            numbers: HashMap::new(),
            nodes: HashMap::new(),
            shown: HashMap::new(),
            named: 0,
            targets: HashMap::new(),
        }
    }
}

impl<N: Clone> Handles<N> {
    /// After a move nothing holds any more.
    pub fn clear(&mut self) {
        let last = self.last;
        *self = Self {
            last,
            ..Self::default()
        };
    }

    fn next(&mut self) -> Result<i64, Failure> {
        let used = self.frames.len() + self.nodes.len() + self.targets.len();
        // Clients hold them as 32-bit numbers.
        if used >= MOST || self.last >= i64::from(i32::MAX) {
            return Err(Failure::told(
                "too many variables were opened at this moment; step, or start a new session",
            ));
        }
        self.last += 1;
        Ok(self.last)
    }

    pub fn frame(&mut self, frame: FrameId) -> Result<i64, Failure> {
        if let Some(number) = self.numbers.get(&frame) {
            return Ok(*number);
        }
        let number = self.next()?;
        self.frames.insert(number, frame);
        self.numbers.insert(frame, number);
        Ok(number)
    }

    pub fn node(&mut self, node: N) -> Result<i64, Failure> {
        let number = self.next()?;
        self.nodes.insert(number, node);
        Ok(number)
    }

    pub fn target(&mut self, id: CheckpointId) -> Result<i64, Failure> {
        let number = self.next()?;
        self.targets.insert(number, id);
        Ok(number)
    }

    /// The number of a thing's parts, 0 if it has none.
    pub fn parts(&mut self, item: &Item<N>) -> Result<i64, Failure> {
        match &item.node {
            Some(node) => self.node(node.clone()),
            None => Ok(0),
        }
    }

    /// Remembers a part that a client was shown.
    pub fn show(&mut self, container: i64, item: &Item<N>) {
        if self.named >= MOST {
            return;
        }
        self.named += 1;
        let shown = Shown {
            memory: item.memory,
            expression: item.expression.clone(),
        };
        self.shown
            .entry(container)
            .or_default()
            .insert(item.name.clone(), shown);
    }

    pub fn was_shown(&self, container: i64, name: &str) -> Option<&Shown> {
        self.shown.get(&container)?.get(name)
    }

    fn unknown(&self, what: &str, number: i64) -> Failure {
        if number > 0 && number <= self.last {
            Failure::told(format!(
                "{what} {number} is of an earlier stop; ask for it again"
            ))
        } else {
            Failure::told(format!("there is no {what} {number}"))
        }
    }

    pub fn frame_of(&self, number: i64) -> Result<FrameId, Failure> {
        let found = self.frames.get(&number).copied();
        found.ok_or_else(|| self.unknown("frame", number))
    }

    pub fn node_of(&self, number: i64) -> Result<N, Failure> {
        let found = self.nodes.get(&number).cloned();
        found.ok_or_else(|| self.unknown("variablesReference", number))
    }

    pub fn target_of(&self, number: i64) -> Result<CheckpointId, Failure> {
        let found = self.targets.get(&number).copied();
        found.ok_or_else(|| self.unknown("target", number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_before_are_refused() {
        let mut handles: Handles<u8> = Handles::default();
        let frame = FrameId { tid: 1, level: 0 };
        let a = handles.frame(frame).unwrap();
        assert_eq!(handles.frame(frame).unwrap(), a);
        let b = handles.node(7).unwrap();
        assert_eq!(handles.node_of(b).unwrap(), 7);
        assert!(
            handles
                .node_of(a)
                .unwrap_err()
                .to_string()
                .contains("earlier stop")
        );
        handles.clear();
        assert!(
            handles
                .frame_of(a)
                .unwrap_err()
                .to_string()
                .contains("earlier stop")
        );
        assert!(
            handles
                .frame_of(99)
                .unwrap_err()
                .to_string()
                .contains("no frame")
        );
        assert!(handles.frame_of(-1).is_err());
        assert_ne!(handles.frame(frame).unwrap(), a);
    }
}
