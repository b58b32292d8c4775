//! The instructions.

/// Offset of `syscall`, then back.
pub(super) const CALL: u64 = 0;
/// Offset of `syscall`, then `close` of its result, then back. If the call failed, its negated
/// error number is closed, which is no descriptor.
pub(super) const CALL_AND_CLOSE: u64 = 12;

/// Both, and a trap after each that is never reached.
pub(super) const BYTES: [u8; 34] = [
    0x0f, 0x05, // syscall
    0xb8, 0x0f, 0x00, 0x00, 0x00, // mov eax, 15 (rt_sigreturn)
    0x0f, 0x05, // syscall
    0x0f, 0x0b, // ud2
    0xcc, // int3
    0x0f, 0x05, // syscall
    0x89, 0xc7, // mov edi, eax
    0xb8, 0x03, 0x00, 0x00, 0x00, // mov eax, 3 (close)
    0x0f, 0x05, // syscall
    0xb8, 0x0f, 0x00, 0x00, 0x00, // mov eax, 15 (rt_sigreturn)
    0x0f, 0x05, // syscall
    0x0f, 0x0b, // ud2
    0xcc, 0xcc, // int3
];
