//! Turning what is known into what clients show.

use super::super::arguments::Launch;
use super::super::bodies::{Evaluated, Moment as MomentBody, Source, Variable};
use super::super::debuggee::{Debuggee, Failure, Item, Moment};
use super::Session;

impl<D, O> Session<D, O>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    /// A source file for the client, given how the debug information calls it.
    pub(super) fn source_out(&mut self, path: &str) -> Result<Source, Failure> {
        let at = self.debuggee()?.place_source(path);
        let name = at.path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Source {
            name,
            source_reference: None,
            presentation_hint: (!at.found).then_some("deemphasize"),
            origin: (!at.found).then(|| "not on this machine; see sourceMap".to_owned()),
            path: self.path_out(at.path),
        })
    }

    /// A variable for the client.
    pub(super) fn variable_out(&mut self, item: &Item<D::Node>) -> Result<Variable, Failure> {
        Ok(Variable {
            name: item.name.clone(),
            value: item.value.clone(),
            type_name: item.type_name.clone(),
            variables_reference: self.handles.parts(item)?,
            named_variables: parts(item, item.named),
            indexed_variables: parts(item, item.indexed),
            evaluate_name: item.expression.clone(),
            memory_reference: reference(item),
        })
    }

    /// The value of an expression for the client.
    pub(super) fn evaluated_out(&mut self, item: &Item<D::Node>) -> Result<Evaluated, Failure> {
        Ok(Evaluated {
            result: item.value.clone(),
            type_name: item.type_name.clone(),
            variables_reference: self.handles.parts(item)?,
            named_variables: parts(item, item.named),
            indexed_variables: parts(item, item.indexed),
            memory_reference: reference(item),
        })
    }
}

fn parts<N>(item: &Item<N>, count: u64) -> Option<u64> {
    (item.node.is_some() && count > 0).then_some(count)
}

/// Where to begin when the user opens the memory of a variable: of a pointer, what it points to.
fn reference<N>(item: &Item<N>) -> Option<String> {
    let address = item.points_to.or(item.memory.map(|(address, _)| address));
    address.map(|address| format!("{address:#x}"))
}

/// A moment for the client.
pub(super) fn moment_out(moment: &Moment) -> MomentBody {
    MomentBody {
        checkpoint: moment.checkpoint.0,
        seconds: moment.at_ns as f64 / 1e9,
        position: moment.position,
        count: moment.count,
        marks: moment.marks.names().collect(),
        tags: moment.tags.clone(),
    }
}

/// A moment in words: `checkpoint 41 (0.412 s, crash)`.
pub(super) fn in_words(moment: &Moment) -> String {
    let mut text = format!(
        "checkpoint {} ({:.3} s",
        moment.checkpoint,
        moment.at_ns as f64 / 1e9
    );
    for mark in moment.marks.names() {
        text.push_str(", ");
        text.push_str(mark);
    }
    for tag in &moment.tags {
        text.push_str(", ");
        text.push_str(tag);
    }
    text.push(')');
    text
}

/// An address as clients give it: hexadecimal or decimal.
pub(super) fn address(text: &str) -> Result<u64, Failure> {
    let text = text.trim();
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        Failure::told(format!("{shown:?} is no address; write it like 0x7ffd1000"))
    })
}

/// Bytes in base 64 (RFC 4648, with padding).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| char::from(DIGITS[(n & 63) as usize]);
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        out.push(digit(word >> 18));
        out.push(digit(word >> 12));
        out.push(if group.len() > 1 {
            digit(word >> 6)
        } else {
            '='
        });
        out.push(if group.len() > 2 { digit(word) } else { '=' });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[255, 254, 253]), "//79");
    }

    #[test]
    fn addresses() {
        assert_eq!(address("0xff").unwrap(), 255);
        assert_eq!(address("12").unwrap(), 12);
        for bad in ["", "x", "0x", "-1", "0x10000000000000000"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
