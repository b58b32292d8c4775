//! Differing bytes in the words of the program: which variables they are, and which parts of those.

use super::memory::Bytes;
use crate::Error;
use crate::machine::Machine;
use crate::past::Past;
use std::ops::Range;
use stillframe_symbols::globals::parts_in;
use stillframe_symbols::{NoRegisters, Scope, Style};

/// Parts told of one stretch of bytes in one variable.
const PARTS: usize = 64;
/// Parts told of all variables.
const TOLD: usize = 10_000;

/// A part of a variable whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableChange {
    /// An expression for it: `server.clients`, `queue[3].len`.
    pub path: String,
    /// Its type.
    pub type_name: String,
    /// Where it is; of a bitfield, where what holds it begins.
    pub address: u64,
    /// What it was, in one line.
    pub old: String,
    /// What it is.
    pub new: String,
}

/// Variables that differ, and what is left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variables {
    /// The parts that differ, by address.
    pub changes: Vec<VariableChange>,
    /// Parts beyond those, not told.
    pub more_changes: u64,
    /// Stretches, or what is left of them, that belong to no variable with debug information.
    pub rest: Vec<Bytes>,
}

/// Says what stretches of bytes that differ between two positions are. Where there is no debug
/// information they are left as they are.
///
/// # Errors
/// Damage.
pub fn variables(
    machine: &Machine,
    past: &Past<'_>,
    (a, b): (usize, usize),
    stretches: &[Bytes],
) -> Result<Variables, Error> {
    let before = machine.at(past.id(a), past.space())?;
    let after = machine.at(past.id(b), past.space())?;
    let old = Scope::new(before.program(), before.memory(), &NoRegisters);
    let new = Scope::new(after.program(), after.memory(), &NoRegisters);
    let mut found = Variables::default();
    // The part that the stretch before ended in.
    let mut told = None;
    for stretch in stretches {
        // A stretch ends with its page: it cannot be long.
        let length = stretch.new.len();
        let differs = |i: usize| stretch.old.get(i) != stretch.new.get(i);
        let mut at = 0;
        let mut left = None;
        while let Some(from) = (at..length).find(|i| differs(*i)) {
            let address = stretch.address + from as u64;
            let Some((name, value)) = after.program().variable_at(address) else {
                left.get_or_insert(from);
                at = from + 1;
                continue;
            };
            if let Some(left) = left.take() {
                found.rest.extend(part(stretch, left..from));
            }
            let start = value.address().unwrap_or(address);
            let end = start.saturating_add(value.ty().size().unwrap_or(1));
            let end = end.clamp(address + 1, stretch.address + length as u64);
            at = (end - stretch.address) as usize;
            for (path, part) in parts_in(&new, &name, &value, &(address..end), PARTS) {
                let style = Style::short();
                let change = VariableChange {
                    old: part.display(&old, &style),
                    new: part.display(&new, &style),
                    address: part.storage().unwrap_or(start),
                    type_name: part.ty().name(),
                    path,
                };
                // What lies between two that differ need not; a text may differ behind its beginning.
                let same = part.bytes(&old).ok() == part.bytes(&new).ok();
                if same && change.old == change.new || told.as_ref() == Some(&change.path) {
                    continue;
                }
                told = Some(change.path.clone());
                if found.changes.len() < TOLD {
                    found.changes.push(change);
                } else {
                    found.more_changes += 1;
                }
            }
        }
        if let Some(left) = left {
            found.rest.extend(part(stretch, left..length));
        }
    }
    Ok(found)
}

/// Some bytes of a stretch, from the first to the last that differ.
fn part(stretch: &Bytes, range: Range<usize>) -> Option<Bytes> {
    let differs = |i: &usize| stretch.old.get(*i) != stretch.new.get(*i);
    let from = range.clone().find(differs)?;
    let to = range.rev().find(differs)?;
    Some(Bytes {
        address: stretch.address + from as u64,
        old: stretch.old.get(from..=to)?.to_vec(),
        new: stretch.new.get(from..=to)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_and_end_with_what_differs() {
        let stretch = Bytes {
            address: 100,
            old: vec![1, 2, 3, 4, 5, 6],
            new: vec![1, 0, 3, 0, 5, 0],
        };
        let found = part(&stretch, 0..5).unwrap();
        assert_eq!(
            (found.address, found.old, found.new),
            (101, vec![2, 3, 4], vec![0, 3, 0])
        );
        assert_eq!(part(&stretch, 0..1), None);
        assert_eq!(part(&stretch, 4..6).unwrap().address, 105);
    }
}
