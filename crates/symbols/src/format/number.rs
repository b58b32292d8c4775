//! Numbers as `printf` writes them.

/// `%.Ng`: `digits` significant digits, the shorter of fixed and exponential, no trailing zeros
/// (C11, 7.21.6.1).
pub(crate) fn float(value: f64, digits: usize) -> String {
    if value.is_nan() {
        let bits = value.to_bits();
        let sign = if value.is_sign_negative() { "-" } else { "" };
        return format!("{sign}nan({:#x})", bits & 0x000f_ffff_ffff_ffff);
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let exponential = format!("{value:.*e}", digits.saturating_sub(1));
    let Some((mantissa, exponent)) = exponential.split_once('e') else {
        return exponential;
    };
    let power: i32 = exponent.parse().unwrap_or(0);
    let last = i32::try_from(digits).unwrap_or(17);
    if power < -4 || power >= last {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), power.abs());
    }
    let places = usize::try_from(last - 1 - power).unwrap_or(0);
    trimmed(&format!("{value:.places$}")).to_owned()
}

/// A NaN with its payload, as many bits of it as the format has.
pub(crate) fn nan(bytes: &[u8]) -> String {
    let fraction = match bytes.len() {
        2 => 10,
        4 => 23,
        8 => 52,
        _ => 63,
    };
    let wide = crate::value::integer_of(bytes, false).cast_unsigned();
    let sign = bytes
        .iter()
        .take(10)
        .next_back()
        .is_some_and(|b| b & 0x80 != 0);
    let payload = wide & ((1 << fraction) - 1);
    format!("{}nan({payload:#x})", if sign { "-" } else { "" })
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_printf() {
        assert_eq!(float(0.1, 17), "0.10000000000000001");
        assert_eq!(float(2.5, 17), "2.5");
        assert_eq!(float(100_000.0, 17), "100000");
        assert_eq!(float(1e20, 17), "1e+20");
        assert_eq!(float(1e-5, 17), "1.0000000000000001e-05");
        assert_eq!(float(-0.0, 17), "-0");
        assert_eq!(float(f64::from(1.1f32), 9), "1.10000002");
        assert_eq!(float(f64::INFINITY, 17), "inf");
        assert_eq!(
            float(123_456_789_012_345_680.0, 17),
            "1.2345678901234568e+17"
        );
        assert_eq!(float(f64::NAN, 17), "nan(0x8000000000000)");
    }
}
