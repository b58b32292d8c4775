//! Names as people wrote them.

/// Longest mangled name that is taken apart, bytes. Templates reach some kilobytes; the time that
/// demangling takes can grow much faster than the name.
const LONGEST: usize = 1 << 14;
/// Longest result, bytes: back references let a short name stand for a huge one.
const LONGEST_RESULT: usize = 1 << 16;

/// A symbol's name without its mangling, Rust's hash left out; as it stands if it is not mangled.
pub fn demangle(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.len() > LONGEST {
        return text.into_owned();
    }
    rust(&text)
        .or_else(|| cpp(&text, cpp_demangle::DemangleOptions::new()))
        .unwrap_or_else(|| text.into_owned())
}

/// The name of a function without its parameters and result; `None` if it is not mangled.
pub(crate) fn function(name: &str) -> Option<String> {
    if name.len() > LONGEST {
        return None;
    }
    let short = cpp_demangle::DemangleOptions::new()
        .no_params()
        .no_return_type();
    rust(name).or_else(|| cpp(name, short))
}

fn rust(name: &str) -> Option<String> {
    let found = rustc_demangle::try_demangle(name).ok()?;
    let mut out = Bounded::default();
    std::fmt::write(&mut out, format_args!("{found:#}")).ok()?;
    Some(out.0)
}

fn cpp(name: &str, options: cpp_demangle::DemangleOptions) -> Option<String> {
    if !name.starts_with("_Z") && !name.starts_with("___Z") {
        return None;
    }
    let options = options.recursion_limit(128);
    let symbol = cpp_demangle::BorrowedSymbol::new(name.as_bytes()).ok()?;
    let mut out = Bounded::default();
    symbol.structured_demangle(&mut out, &options).ok()?;
    Some(out.0)
}

/// Text that stops growing.
#[derive(Default)]
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > LONGEST_RESULT {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_three_languages() {
        for (mangled, plain) in [
            ("main", "main"),
            ("_ZN3foo3barEi", "foo::bar(int)"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backEOi",
                "std::vector<int, std::allocator<int> >::push_back(int&&)",
            ),
            (
                "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
                "core::fmt::Formatter::pad",
            ),
            ("_RNvCs1234_7mycrate4main", "mycrate::main"),
            ("_Znonsense", "_Znonsense"),
        ] {
            assert_eq!(demangle(mangled.as_bytes()), plain);
        }
        assert_eq!(function("_ZN3foo3barEi").unwrap(), "foo::bar");
        assert_eq!(function("_Z3getIiET_S0_").unwrap(), "get<int>");
        assert_eq!(function("main"), None);
    }
}
