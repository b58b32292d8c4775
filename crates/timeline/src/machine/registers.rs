//! The registers of a stopped thread, by the numbers that DWARF gives them.

use stillframe_image::Thread;
use stillframe_symbols::Registers;

/// Where AVX state begins in an XSAVE area of the standard format (Intel SDM volume 1, 13.5.2: CPUID
/// says so, and it is the same on every processor that has it).
const YMM_HIGH: usize = 576;

/// The registers of a thread at a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct ThreadRegisters<'a> {
    thread: &'a Thread,
}

impl<'a> ThreadRegisters<'a> {
    /// Of a thread.
    pub const fn new(thread: &'a Thread) -> Self {
        Self { thread }
    }

    fn vector(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.thread.xstate.get(at..at.checked_add(length)?)
    }
}

impl Registers for ThreadRegisters<'_> {
    fn get(&self, dwarf: u16) -> Option<u64> {
        let r = &self.thread.registers;
        Some(match dwarf {
            0 => r.rax,
            1 => r.rdx,
            2 => r.rcx,
            3 => r.rbx,
            4 => r.rsi,
            5 => r.rdi,
            6 => r.rbp,
            7 => r.rsp,
            8 => r.r8,
            9 => r.r9,
            10 => r.r10,
            11 => r.r11,
            12 => r.r12,
            13 => r.r13,
            14 => r.r14,
            15 => r.r15,
            16 => r.rip,
            49 => r.rflags,
            50 => r.es,
            51 => r.cs,
            52 => r.ss,
            53 => r.ds,
            54 => r.fs,
            55 => r.gs,
            58 => r.fs_base,
            59 => r.gs_base,
            _ => return None,
        })
    }

    /// xmm0-15 (17-32) have their 32 bytes as ymm where the processor has those, else 16; st0-7
    /// (33-40) have 10, mm0-7 (41-48) 8; mxcsr (64) 4, the control and status words of the x87 (65,
    /// 66) 2.
    fn bytes(&self, dwarf: u16) -> Option<Vec<u8>> {
        let number = usize::from(dwarf);
        let found = match dwarf {
            17..=32 => {
                let at = number - 17;
                let mut bytes = self.vector(160 + 16 * at, 16)?.to_vec();
                if let Some(high) = self.vector(YMM_HIGH + 16 * at, 16) {
                    bytes.extend_from_slice(high);
                }
                return Some(bytes);
            }
            33..=40 => self.vector(32 + 16 * (number - 33), 10),
            41..=48 => self.vector(32 + 16 * (number - 41), 8),
            64 => self.vector(24, 4),
            65 => self.vector(0, 2),
            66 => self.vector(2, 2),
            _ => return self.get(dwarf).map(|v| v.to_le_bytes().to_vec()),
        };
        found.map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dwarfs() {
        let mut thread = Thread::default();
        thread.registers.rdx = 1;
        thread.registers.rip = 16;
        thread.registers.fs_base = 58;
        thread.xstate = (0..832u32).map(|n| (n % 251) as u8).collect();
        let registers = ThreadRegisters::new(&thread);
        assert_eq!(registers.get(1), Some(1));
        assert_eq!(registers.get(16), Some(16));
        assert_eq!(registers.get(58), Some(58));
        assert_eq!(registers.get(17), None);
        let xmm1 = registers.bytes(18).unwrap();
        assert_eq!(xmm1[..16], thread.xstate[176..192]);
        assert_eq!(xmm1[16..], thread.xstate[592..608]);
        assert_eq!(registers.bytes(33).unwrap(), thread.xstate[32..42]);
        thread.xstate.truncate(180);
        let registers = ThreadRegisters::new(&thread);
        assert_eq!(registers.bytes(18), None);
        assert_eq!(registers.bytes(17).unwrap().len(), 16);
    }
}
