//! Registers of a frame.

use crate::memory::Registers;
use std::sync::Arc;

pub(crate) const RBX: u16 = 3;
pub(crate) const RBP: u16 = 6;
pub(crate) const RSP: u16 = 7;
pub(crate) const RIP: u16 = 16;
/// Integer registers and the return address.
const COUNT: usize = 17;

/// Registers that a function must leave as they were (System V ABI for x86-64, figure 3.4).
pub(crate) const PRESERVED: [u16; 6] = [RBX, RBP, 12, 13, 14, 15];

/// Registers that unwinding does not touch, and their values.
type Others = Vec<(u16, Vec<u8>)>;

/// The registers of a frame. In a frame that called another, those that the callee may have changed
/// are unknown.
#[derive(Clone, Debug, Default)]
pub struct FrameRegisters {
    integers: [Option<u64>; COUNT],
    /// Bases of fs and gs: a thread's, so the same in all its frames.
    bases: [Option<u64>; 2],
    /// Vector and other registers, known in the innermost frame only.
    others: Option<Arc<Others>>,
}

impl FrameRegisters {
    /// All registers of a thread.
    pub fn of_thread(registers: &dyn Registers) -> Self {
        let mut of = Self {
            bases: [registers.get(58), registers.get(59)],
            ..Self::default()
        };
        for (number, value) in (0..).zip(&mut of.integers) {
            *value = registers.get(number);
        }
        let others = (17..=57).chain(64..=66);
        let known = others.filter_map(|n| Some((n, registers.bytes(n)?)));
        of.others = Some(Arc::new(known.collect()));
        of
    }

    /// Those of the caller of this frame, as far as nothing is known of it: the bases only.
    pub(crate) fn empty_caller(&self) -> Self {
        Self {
            bases: self.bases,
            ..Self::default()
        }
    }

    pub(crate) fn set(&mut self, number: u16, value: Option<u64>) {
        if let Some(register) = self.integers.get_mut(usize::from(number)) {
            *register = value;
        }
    }
}

impl Registers for FrameRegisters {
    fn get(&self, dwarf: u16) -> Option<u64> {
        match dwarf {
            58 => self.bases[0],
            59 => self.bases[1],
            _ => match self.integers.get(usize::from(dwarf)) {
                Some(value) => *value,
                None => {
                    let bytes = self.bytes(dwarf)?;
                    Some(u64::from_le_bytes(bytes.try_into().ok()?))
                }
            },
        }
    }

    fn bytes(&self, dwarf: u16) -> Option<Vec<u8>> {
        if usize::from(dwarf) < COUNT || dwarf == 58 || dwarf == 59 {
            return self.get(dwarf).map(|v| v.to_le_bytes().to_vec());
        }
        let others = self.others.as_ref()?;
        let found = others.iter().find(|(n, _)| *n == dwarf)?;
        Some(found.1.clone())
    }
}
