//! Where bytes and registers come from.

/// Bytes of a process at one instant.
pub trait Memory {
    /// Fills `out` with the bytes from `address` on.
    ///
    /// # Errors
    /// If one of them is not there; `out` then holds anything.
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Unreadable>;

    /// The word at an address.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn word(&self, address: u64) -> Result<u64, Unreadable> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Memory that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory at {address:#x} cannot be read: {reason}")]
pub struct Unreadable {
    /// The first byte that is missing.
    pub address: u64,
    /// Why: not mapped, not captured, damaged.
    pub reason: String,
}

/// The registers of a frame, numbered as DWARF does for x86-64 (System V ABI supplement, figure
/// 3.36): 0-15 are rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8-r15; 16 is the return address, which
/// in a frame is its own rip; 17-32 xmm0-15; 33-40 st0-7; 49 rflags; 58 and 59 are the bases of fs
/// and gs.
pub trait Registers {
    /// An integer register; `None` if it is not known in this frame.
    fn get(&self, dwarf: u16) -> Option<u64>;

    /// The bytes of a register of any size, little-endian; `None` if it is not known.
    fn bytes(&self, dwarf: u16) -> Option<Vec<u8>> {
        self.get(dwarf).map(|v| v.to_le_bytes().to_vec())
    }
}
