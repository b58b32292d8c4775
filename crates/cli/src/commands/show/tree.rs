//! The processes of a moment.

use crate::{output, units};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use stillframe_image::tree::Node;
use stillframe_image::{CheckpointId, Mapping, ProcessImage};
use stillframe_store::{Error, Recording};

/// Deeper processes are not moved further to the right.
const DEEPEST: usize = 16;

/// One process, in few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Branch {
    /// Its number in the recording.
    process: u32,
    /// The number of the process that forked it.
    parent_process: Option<u32>,
    /// Of these, how many are above it in this moment.
    depth: usize,
    pid: Option<u32>,
    parent: Option<u32>,
    name: String,
    program: String,
    threads: usize,
    mappings: usize,
    mapped_bytes: u64,
    /// Why nothing is known about it.
    problem: Option<String>,
}

impl Branch {
    fn new(node: Node, process: Result<ProcessImage, Error>) -> Self {
        let known = Self {
            process: node.id.0,
            parent_process: node.parent.map(|p| p.0),
            ..Self::default()
        };
        let image = match process {
            Ok(image) => image,
            Err(error) => {
                return Self {
                    problem: Some(error.to_string()),
                    ..known
                };
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lengths = image.space.mappings.iter().map(Mapping::len);
        Self {
            pid: Some(image.process.pid),
            parent: Some(image.process.parent),
            name: text(&image.process.name),
            program: text(&image.process.executable),
            threads: image.threads.len(),
            mappings: image.space.mappings.len(),
            mapped_bytes: lengths.fold(0, u64::saturating_add),
            ..known
        }
    }
}

/// All processes of a moment, each after the one that forked it. One that is damaged says so.
///
/// # Errors
/// If the list itself is damaged.
pub(super) fn read(recording: &Recording, id: CheckpointId) -> Result<Vec<Branch>, Error> {
    let mut branches = Vec::new();
    recording.each_process(id, |node, process| {
        branches.push(Branch::new(node, process))
    })?;
    Ok(order(branches))
}

/// Brings processes into the order of the tree. One whose parent has ended stands at the top.
fn order(branches: Vec<Branch>) -> Vec<Branch> {
    let mut by_number: BTreeMap<u32, Branch> =
        branches.into_iter().map(|b| (b.process, b)).collect();
    let mut children: BTreeMap<Option<u32>, Vec<u32>> = BTreeMap::new();
    for (number, branch) in &by_number {
        let parent = branch.parent_process.filter(|p| by_number.contains_key(p));
        children.entry(parent).or_default().push(*number);
    }
    let mut ordered = Vec::with_capacity(by_number.len());
    let mut waiting: Vec<(usize, u32)> = Vec::new();
    let below = |waiting: &mut Vec<(usize, u32)>, depth, of: Option<u32>| {
        let list = children.get(&of).into_iter().flatten();
        waiting.extend(list.rev().map(|number| (depth, *number)));
    };
    below(&mut waiting, 0, None);
    while let Some((depth, number)) = waiting.pop() {
        if let Some(branch) = by_number.remove(&number) {
            below(&mut waiting, depth + 1, Some(number));
            ordered.push(Branch { depth, ..branch });
        }
    }
    ordered
}

/// Prints them, one per line.
pub(super) fn print(out: &mut impl Write, branches: &[Branch]) -> io::Result<()> {
    writeln!(out, "\nprocesses: {}", branches.len())?;
    writeln!(
        out,
        "  {:>7} {:>8} {:>8} {:>7} {:>8} {:>10}  PROGRAM",
        "PROCESS", "PID", "PARENT", "THREADS", "MAPPINGS", "MAPPED"
    )?;
    for branch in branches {
        let indent = "  ".repeat(branch.depth.min(DEEPEST));
        if let Some(problem) = &branch.problem {
            let problem = output::printable(problem.as_bytes());
            writeln!(out, "  {:>7} {problem}", branch.process)?;
            continue;
        }
        let number = |n: Option<u32>| n.map_or_else(String::new, |n| n.to_string());
        let program = match branch.program.as_str() {
            "" => &branch.name,
            program => program,
        };
        writeln!(
            out,
            "  {:>7} {:>8} {:>8} {:>7} {:>8} {:>10}  {indent}{}",
            branch.process,
            number(branch.pid),
            number(branch.parent),
            branch.threads,
            branch.mappings,
            units::show_size(branch.mapped_bytes),
            output::printable(program.as_bytes()),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_follow_their_parents() {
        let branch = |(process, parent): (u32, Option<u32>)| Branch {
            process,
            parent_process: parent,
            ..Branch::default()
        };
        // 0 forked 1 and 2, 1 forked 4 and 5; 3, which forked 6, has ended, and so 6 stands alone.
        let given = [
            (0, None),
            (1, Some(0)),
            (2, Some(0)),
            (4, Some(1)),
            (5, Some(1)),
            (6, Some(3)),
            (7, Some(6)),
        ];
        let found: Vec<(u32, usize)> = order(given.into_iter().map(branch).collect())
            .iter()
            .map(|b| (b.process, b.depth))
            .collect();
        let want = [(0, 0), (1, 1), (4, 2), (5, 2), (2, 1), (6, 0), (7, 1)];
        assert_eq!(found, want);
    }

    #[test]
    fn a_long_line_of_descent_is_listed() {
        let chain = (0..4096u32).map(|n| Branch {
            process: n,
            parent_process: n.checked_sub(1),
            ..Branch::default()
        });
        let ordered = order(chain.collect());
        assert_eq!(ordered.last().map(|b| b.depth), Some(4095));
        let mut text = Vec::new();
        print(&mut text, &ordered).unwrap();
        assert!(text.len() < 4096 * 120);
    }
}
