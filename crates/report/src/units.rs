//! Sizes and times as people read them.

/// A size for people: four digits at most, in powers of 1024.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 99.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A short time for people: `12 us`, `1.23 ms`, `4.56 s`.
pub fn show_ns(ns: u64) -> String {
    let value = ns as f64;
    if ns < 1_000 {
        format!("{ns} ns")
    } else if ns < 999_500 {
        format!("{:.0} us", value / 1e3)
    } else if ns < 999_500_000 {
        format!("{:.2} ms", value / 1e6)
    } else if ns < 120_000_000_000 {
        format!("{:.2} s", value / 1e9)
    } else {
        let seconds = ns / 1_000_000_000;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            format!("{hours}:{minutes:02}:{seconds:02} h")
        } else {
            format!("{minutes}:{seconds:02} min")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(512 << 20), "512 MiB");
        assert_eq!(show_size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(show_ns(999), "999 ns");
        assert_eq!(show_ns(12_345), "12 us");
        assert_eq!(show_ns(1_230_000), "1.23 ms");
        assert_eq!(show_ns(125_000_000_000), "2:05 min");
    }
}
