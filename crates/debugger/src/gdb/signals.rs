//! Signal numbers of the protocol, which are GDB's own (`include/gdb/signals.def`).

/// SIGTRAP.
pub const TRAP: u32 = 5;
/// SIGINT.
pub const INT: u32 = 2;

/// The protocol's number of a Linux signal; 143 (unknown) if it has none.
pub fn of_linux(signal: i32) -> u32 {
    /// Signals 1 to 31 of x86-64 Linux.
    const KNOWN: [u32; 31] = [
        1, 2, 3, 4, 5, 6, 10, 8, 9, 30, 11, 31, 13, 14, 15, 143, 20, 19, 17, 18, 21, 22, 16, 24,
        25, 26, 27, 28, 23, 32, 12,
    ];
    match usize::try_from(signal) {
        Ok(n @ 1..=31) => KNOWN[n - 1],
        // SIG32, SIG33 to SIG63, SIG64.
        Ok(32) => 77,
        Ok(n @ 33..=63) => u32::try_from(n).unwrap_or_default() + 12,
        Ok(64) => 78,
        _ => 143,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers() {
        for (linux, gdb) in [
            (11, 11),
            (7, 10),
            (10, 30),
            (17, 20),
            (31, 12),
            (33, 45),
            (34, 46),
            (63, 75),
            (0, 143),
            (-1, 143),
            (99, 143),
        ] {
            assert_eq!(super::of_linux(linux), gdb, "{linux}");
        }
    }
}
