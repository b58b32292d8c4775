//! What we ourselves cost.

use std::fs;

/// CPU seconds (user and system, all threads) and peak resident bytes of this process so far, as
/// /proc says. Zeroes where it does not.
pub fn ours() -> (f64, u64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| {
        after_name
            .split_whitespace()
            .nth(n)
            .and_then(|f| f.parse::<u64>().ok())
    };
    // utime and stime are fields 14 and 15 counted from 1; the name is the second. The kernel
    // reports them in USER_HZ, which is 100 on every Linux.
    let ticks: u64 = [field(11), field(12)].into_iter().flatten().sum();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    (ticks as f64 / 100.0, peak_kib * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_has_memory() {
        let (_, peak) = super::ours();
        assert!(peak > 100_000, "{peak}");
    }
}
