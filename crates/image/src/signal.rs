//! Signals by the names people know.

/// Signals 1 to 31 of x86-64.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// `SIGSEGV`, `SIGRT40`, or the number.
pub fn name(number: i64) -> String {
    match usize::try_from(number) {
        Ok(n @ 1..=31) => format!("SIG{}", NAMES[n - 1]),
        Ok(n @ 32..=64) => format!("SIGRT{n}"),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names() {
        assert_eq!(super::name(11), "SIGSEGV");
        assert_eq!(super::name(31), "SIGSYS");
        assert_eq!(super::name(34), "SIGRT34");
        assert_eq!(super::name(-3), "-3");
    }
}
