//! Times, sizes and rates, as they are typed and as they are printed.

use std::time::Duration;

pub use stillframe_report::units::{show_ns, show_size};

/// Parses a time: `30s`, `500ms`, `2m`, `1h`, `1.5s`; a bare number is seconds.
///
/// # Errors
/// A sentence saying what a time looks like.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time looks like 500ms, 30s, 2m or 1h".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = plain_number(digits).ok_or_else(wrong)?;
    if number == 0.0 {
        return Err("a time must be more than nothing".to_owned());
    }
    // A hundred years is beyond any use and keeps the arithmetic on times far from overflow.
    let seconds = number * factor;
    if seconds > 100.0 * 365.25 * 86400.0 {
        return Err("that time is too long".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Parses a time after the start, as [`time`], and 0.
///
/// # Errors
/// A sentence saying what a time looks like.
pub fn instant(text: &str) -> Result<Duration, String> {
    match plain_number(text.trim_end_matches('s')) {
        Some(0.0) => Ok(Duration::ZERO),
        _ => time(text),
    }
}

/// Parses a size in bytes: `4096`, `64K`, `256MiB`, `1.5G`. Units are powers of 1024, except `kB`,
/// `MB`, `GB` and `TB`, which are powers of 1000.
///
/// # Errors
/// A sentence saying what a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size looks like 4096, 64KiB, 256MiB or 1G".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: f64 = match &text[digits.len()..] {
        "" | "B" => 1.0,
        "k" | "K" | "KiB" => 1024.0,
        "M" | "MiB" => 1024.0 * 1024.0,
        "G" | "GiB" => 1024.0 * 1024.0 * 1024.0,
        "T" | "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return Err(wrong()),
    };
    let bytes = plain_number(digits).ok_or_else(wrong)? * factor;
    // 2^53: beyond it an f64 no longer counts bytes, and no machine has that much memory.
    if bytes > 9_007_199_254_740_992.0 {
        return Err("that size is too large".to_owned());
    }
    Ok(bytes.round() as u64)
}

/// The highest rate this release takes, checkpoints per second.
pub const MAX_HZ: f64 = 1000.0;

/// Parses a rate in checkpoints per second, 0.01 to [`MAX_HZ`].
///
/// # Errors
/// A sentence saying which rates there are.
pub fn hz(text: &str) -> Result<f64, String> {
    let rate = plain_number(text).ok_or_else(|| {
        "a rate is a number of checkpoints per second, e.g. 100 or 0.5".to_owned()
    })?;
    if rate > MAX_HZ {
        Err("this release records at most 1000 checkpoints per second".to_owned())
    } else if rate < 0.01 {
        Err("the lowest rate is 0.01, one checkpoint in 100 seconds".to_owned())
    } else {
        Ok(rate)
    }
}

/// A share: `3%` or `3`, above 0 and up to 100, as 0 to 1.
///
/// # Errors
/// What is wrong with it, for the user.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = plain_number(text.strip_suffix('%').unwrap_or(text));
    number
        .filter(|n| *n > 0.0 && *n <= 100.0)
        .map(|n| n / 100.0)
        .ok_or_else(|| "a share looks like 3% or 0.5%, at most 100%".to_owned())
}

/// A number of digits and at most one point: what `f64` parses, without `inf`, `nan`, signs and
/// exponents.
fn plain_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.len() <= 20;
    if plain { text.parse().ok() } else { None }
}

/// An instant of the wall clock in UTC, `2026-01-31 12:34:56 UTC`, from nanoseconds since 1970.
///
/// Days to a date by the algorithm of Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
pub fn show_wall(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let of_day = seconds % 86400;
    let days = seconds / 86400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents() {
        assert_eq!(percent("50%"), Ok(0.5));
        assert_eq!(percent("25"), Ok(0.25));
        for bad in ["", "%", "0%", "101%", "-3%", "nan%", "3%%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(time("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(time("1.5"), Ok(Duration::from_millis(1500)));
        for bad in [
            "", "s", "-1s", "1d", "1 s", "infs", "nan", "0s", "1e3s", "1..2s", "9999999h",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants() {
        assert_eq!(instant("0"), Ok(Duration::ZERO));
        assert_eq!(instant("0.0s"), Ok(Duration::ZERO));
        assert_eq!(instant("12.0"), Ok(Duration::from_secs(12)));
        assert!(instant("").is_err() && instant("-1").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("1.5K"), Ok(1536));
        assert_eq!(size("2MB"), Ok(2_000_000));
        for bad in ["", "G", "-1G", "1Q", "99999999T", "1 G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(hz("100"), Ok(100.0));
        assert_eq!(hz("0.01"), Ok(0.01));
        assert_eq!(hz("1000"), Ok(1000.0));
        for bad in ["1001", "0.009", "0", "-3", "fast", "nan", "inf", ""] {
            assert!(hz(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn printing() {
        assert_eq!(show_wall(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(
            show_wall(951_782_400_000_000_000),
            "2000-02-29 00:00:00 UTC"
        );
        assert_eq!(
            show_wall(1_767_225_599_000_000_000),
            "2025-12-31 23:59:59 UTC"
        );
    }
}
