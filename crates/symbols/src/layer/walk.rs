//! Ways through containers: where their elements are.

use crate::value::{Fault, Scope};
use std::ops::Range;

/// Steps of one walk. A longer container is shown up to here.
const MOST_STEPS: u64 = 1 << 20;

/// Where the elements are.
#[derive(Clone, Debug)]
pub(crate) enum Walk {
    /// Next to each other.
    Row { address: u64, size: u64 },
    /// Bits of 64-bit words, from bit `first` of the first.
    Bits { address: u64, first: u64 },
    /// A linked list: `next` at the start of each node, elements `at` behind it. Ends at `end`.
    Chain { first: u64, end: u64, at: u64 },
    /// libstdc++'s red-black tree; `header` is its `_Rb_tree_node_base`.
    Tree { header: u64, at: u64 },
    /// libstdc++'s deque: blocks in a map.
    Blocks {
        node: u64,
        current: u64,
        first: u64,
        size: u64,
        per_block: u64,
    },
    /// A ring buffer.
    Ring {
        buffer: u64,
        capacity: u64,
        head: u64,
        size: u64,
    },
    /// hashbrown: control bytes, elements in front of them backwards.
    Swiss {
        control: u64,
        buckets: u64,
        size: u64,
    },
    /// Rust's B-tree.
    BTree(BTree),
}

/// Layout of a B-tree's nodes.
#[derive(Clone, Debug)]
pub(crate) struct BTree {
    pub root: u64,
    pub height: u64,
    pub keys: (u64, u64),
    pub values: (u64, u64),
    pub length_at: u64,
    pub edges_at: u64,
}

/// An element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    At(u64),
    Bit(u8),
}

impl Walk {
    /// The places of the elements of a range.
    ///
    /// # Errors
    /// If the way there cannot be read.
    pub fn places(&self, range: Range<u64>, scope: &Scope<'_>) -> Result<Vec<Place>, Fault> {
        let range = range.start..range.end.min(range.start.saturating_add(MOST_STEPS));
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let memory = scope.memory;
        let mut found = Vec::new();
        match self {
            Self::Row { address, size } => {
                found.extend(range.map(|i| Place::At(address.wrapping_add(i.wrapping_mul(*size)))));
            }
            Self::Bits { address, first } => {
                for i in range {
                    let bit = first.wrapping_add(i);
                    let word = memory.word(address.wrapping_add(bit / 64 * 8))?;
                    found.push(Place::Bit((word >> (bit % 64) & 1) as u8));
                }
            }
            Self::Chain { first, end, at } => {
                let mut node = *first;
                for i in 0..range.end.min(MOST_STEPS) {
                    if node == *end || node == 0 {
                        break;
                    }
                    if i >= range.start {
                        found.push(Place::At(node.wrapping_add(*at)));
                    }
                    node = memory.word(node)?;
                }
            }
            Self::Tree { header, at } => {
                // _Rb_tree_node_base: colour, parent, left, right.
                let mut node = memory.word(header.wrapping_add(16))?;
                for i in 0..range.end.min(MOST_STEPS) {
                    if node == *header || node == 0 {
                        break;
                    }
                    if i >= range.start {
                        found.push(Place::At(node.wrapping_add(*at)));
                    }
                    node = successor(node, scope)?;
                }
            }
            Self::Blocks {
                node,
                current,
                first,
                size,
                per_block,
            } => {
                let begin = current.wrapping_sub(*first) / (*size).max(1);
                for i in range {
                    let i = begin.wrapping_add(i);
                    let block = memory
                        .word(node.wrapping_add((i / (*per_block).max(1)).wrapping_mul(8)))?;
                    let within = (i % (*per_block).max(1)).wrapping_mul(*size);
                    found.push(Place::At(block.wrapping_add(within)));
                }
            }
            Self::Ring {
                buffer,
                capacity,
                head,
                size,
            } => {
                for i in range {
                    let slot = head.wrapping_add(i) % (*capacity).max(1);
                    found.push(Place::At(buffer.wrapping_add(slot.wrapping_mul(*size))));
                }
            }
            Self::Swiss {
                control,
                buckets,
                size,
            } => {
                let mut seen = 0;
                let mut at = 0;
                while at < (*buckets).min(MOST_STEPS * 8) && seen < range.end {
                    let mut group = [0u8; 16];
                    let length = (*buckets - at).min(16);
                    let part = &mut group[..usize::try_from(length).unwrap_or(16)];
                    memory.read(control.wrapping_add(at), part)?;
                    for (i, byte) in part.iter().enumerate() {
                        if byte & 0x80 != 0 {
                            continue;
                        }
                        if seen >= range.start && seen < range.end {
                            let bucket = at + i as u64;
                            let back = (bucket + 1).wrapping_mul(*size);
                            found.push(Place::At(control.wrapping_sub(back)));
                        }
                        seen += 1;
                    }
                    at += 16;
                }
            }
            Self::BTree(tree) => {
                let mut places = Vec::new();
                tree.walk(tree.root, tree.height, range.end, &mut places, scope)?;
                let start = usize::try_from(range.start).unwrap_or(usize::MAX);
                found.extend(places.into_iter().skip(start).map(|(k, _)| Place::At(k)));
            }
        }
        Ok(found)
    }

    /// The places of keys and values, `offsets` behind the start of each entry.
    pub fn pairs(
        &self,
        range: Range<u64>,
        offsets: (u64, u64),
        scope: &Scope<'_>,
    ) -> Result<Vec<(u64, u64)>, Fault> {
        if let Self::BTree(tree) = self {
            let mut places = Vec::new();
            tree.walk(
                tree.root,
                tree.height,
                range.end.min(MOST_STEPS),
                &mut places,
                scope,
            )?;
            let start = usize::try_from(range.start).unwrap_or(usize::MAX);
            return Ok(places.into_iter().skip(start).collect());
        }
        Ok(self
            .places(range, scope)?
            .into_iter()
            .filter_map(|p| match p {
                Place::At(a) => Some((a.wrapping_add(offsets.0), a.wrapping_add(offsets.1))),
                Place::Bit(_) => None,
            })
            .collect())
    }
}

/// The next node in order: the leftmost of the right subtree, or the first ancestor from the left.
fn successor(node: u64, scope: &Scope<'_>) -> Result<u64, Fault> {
    const MOST_HEIGHT: usize = 128;
    let memory = scope.memory;
    let (parent, left, right) = (8, 16, 24);
    let below = memory.word(node.wrapping_add(right))?;
    if below != 0 {
        let mut at = below;
        for _ in 0..MOST_HEIGHT {
            let next = memory.word(at.wrapping_add(left))?;
            if next == 0 {
                return Ok(at);
            }
            at = next;
        }
        return Err(Fault::new("a damaged tree"));
    }
    let mut at = node;
    for _ in 0..MOST_HEIGHT {
        let above = memory.word(at.wrapping_add(parent))?;
        if memory.word(above.wrapping_add(right))? != at {
            return Ok(above);
        }
        // The header's parent is the root: from its right edge there is nothing more.
        if memory.word(above.wrapping_add(parent))? == at {
            return Ok(above);
        }
        at = above;
    }
    Err(Fault::new("a damaged tree"))
}

impl BTree {
    fn walk(
        &self,
        node: u64,
        height: u64,
        most: u64,
        found: &mut Vec<(u64, u64)>,
        scope: &Scope<'_>,
    ) -> Result<(), Fault> {
        // 6^24 entries are more than an address space holds.
        if height > 24 || found.len() as u64 >= most {
            return Ok(());
        }
        let mut raw = [0; 2];
        scope
            .memory
            .read(node.wrapping_add(self.length_at), &mut raw)?;
        let length = u64::from(u16::from_le_bytes(raw)).min(11);
        for i in 0..=length {
            if height > 0 {
                let edge = node.wrapping_add(self.edges_at).wrapping_add(i * 8);
                let below = scope.memory.word(edge)?;
                self.walk(below, height - 1, most, found, scope)?;
            }
            if i < length && (found.len() as u64) < most {
                let key = node.wrapping_add(self.keys.0 + i.wrapping_mul(self.keys.1));
                let value = node.wrapping_add(self.values.0 + i.wrapping_mul(self.values.1));
                found.push((key, value));
            }
        }
        Ok(())
    }
}
