//! Which processes a checkpoint holds.

use crate::ids::SpaceId;
use serde::{Deserialize, Serialize};

/// Most processes in one checkpoint.
pub const MAX_PROCESSES: usize = 4096;

/// A process and the one that forked it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The process.
    pub id: SpaceId,
    /// Its parent, which may have ended; `None` for the recorded root.
    pub parent: Option<SpaceId>,
}

/// The processes of a checkpoint, ascending by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// At least one, at most [`MAX_PROCESSES`].
    pub processes: Vec<Node>,
}

/// What is wrong with a list of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// None at all.
    #[error("there is no process in it")]
    Empty,
    /// More than [`MAX_PROCESSES`].
    #[error("it has {0} processes, and a checkpoint holds {MAX_PROCESSES} at most")]
    TooMany(usize),
    /// Numbers that repeat or descend.
    #[error("process {} stands out of order", .0.0)]
    Order(SpaceId),
    /// A process that is older than its parent.
    #[error("process {} is older than its parent", .0.0)]
    Parent(SpaceId),
}

impl Tree {
    /// Checks that it is one: numbers ascend, and every parent is older than its children, so that
    /// there is no circle however hostile the bytes it came from.
    ///
    /// # Errors
    /// What is wrong, for the first process that is.
    pub fn check(&self) -> Result<(), TreeError> {
        match self.processes.len() {
            0 => return Err(TreeError::Empty),
            n if n > MAX_PROCESSES => return Err(TreeError::TooMany(n)),
            _ => {}
        }
        let mut last = None;
        for node in &self.processes {
            if last.is_some_and(|last| node.id <= last) {
                return Err(TreeError::Order(node.id));
            }
            if node.parent.is_some_and(|parent| parent >= node.id) {
                return Err(TreeError::Parent(node.id));
            }
            last = Some(node.id);
        }
        Ok(())
    }

    /// Whether it has a process of that number.
    pub fn contains(&self, id: SpaceId) -> bool {
        self.processes.binary_search_by_key(&id, |n| n.id).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(u32, Option<u32>)]) -> Tree {
        Tree {
            processes: nodes
                .iter()
                .map(|(id, parent)| Node {
                    id: SpaceId(*id),
                    parent: parent.map(SpaceId),
                })
                .collect(),
        }
    }

    #[test]
    fn only_trees_pass() {
        for (nodes, want) in [
            (&[(0, None)][..], Ok(())),
            (&[(0, None), (1, Some(0)), (7, Some(1))], Ok(())),
            // The root and a parent in between have ended.
            (&[(3, Some(1)), (5, Some(4)), (6, None)], Ok(())),
            (&[], Err(TreeError::Empty)),
            (&[(1, None), (1, None)], Err(TreeError::Order(SpaceId(1)))),
            (&[(2, None), (1, None)], Err(TreeError::Order(SpaceId(1)))),
            (&[(0, Some(0))], Err(TreeError::Parent(SpaceId(0)))),
            (
                &[(0, None), (1, Some(2))],
                Err(TreeError::Parent(SpaceId(1))),
            ),
        ] {
            assert_eq!(tree(nodes).check(), want, "{nodes:?}");
        }
        let many: Vec<(u32, Option<u32>)> = (0..4097).map(|n| (n, None)).collect();
        assert_eq!(tree(&many[..4096]).check(), Ok(()));
        assert_eq!(tree(&many).check(), Err(TreeError::TooMany(4097)));
        assert!(tree(&many[..9]).contains(SpaceId(8)) && !tree(&many[..9]).contains(SpaceId(9)));
    }
}
