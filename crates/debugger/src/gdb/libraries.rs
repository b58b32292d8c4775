//! Which libraries are loaded, from the dynamic loader's own list in memory.
//!
//! The list is that of `<link.h>`: DT_DEBUG of the executable leads to `r_debug`, that to a chain of
//! `link_map`. Names in it are those that the program asked for; debuggers are told the file that is
//! mapped instead, which is what the recording has. Layouts are those of the System V ABI for
//! x86-64, as glibc and musl have them.

use super::scene::Scene;
use std::fmt::Write as _;
use stillframe_image::FileIdentity;

const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;
const PT_DYNAMIC: u32 = 2;
const PT_PHDR: u32 = 6;
const DT_DEBUG: u64 = 21;
/// Entries of a dynamic section looked at.
const TAGS: u64 = 512;
/// Libraries followed; a list that goes in a circle ends here.
const MOST: usize = 4096;

/// A loaded object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Where its `link_map` stands.
    pub map: u64,
    /// What was added to its addresses.
    pub bias: u64,
    /// Its dynamic section.
    pub dynamic: u64,
    /// Its name as the loader has it.
    pub asked: Vec<u8>,
}

/// The objects that the dynamic loader has loaded, the executable first. Empty for a static
/// program, and before the loader has begun.
pub fn loaded(scene: &Scene<'_>) -> Vec<Loaded> {
    let mut all: Vec<Loaded> = Vec::new();
    let Some(mut at) = first(scene) else {
        return all;
    };
    while at != 0 && all.len() < MOST {
        let Some(words) = scene.exact(at, 32) else {
            break;
        };
        let word = |i: usize| {
            let bytes = words.get(8 * i..8 * i + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        all.push(Loaded {
            map: at,
            bias: word(0),
            dynamic: word(2),
            asked: scene.text(word(1), 4096).unwrap_or_default(),
        });
        at = word(3);
    }
    all
}

/// The head of the chain.
fn first(scene: &Scene<'_>) -> Option<u64> {
    let headers = scene.aux(AT_PHDR)?;
    let count = scene.aux(AT_PHNUM)?.min(256);
    let header = |i: u64| scene.exact(headers.checked_add(i * 56)?, 56);
    let field = |h: &[u8], at: usize| Some(u64::from_le_bytes(h.get(at..at + 8)?.try_into().ok()?));
    let of_kind = |kind: u32| {
        (0..count)
            .filter_map(header)
            .find(|h| h[..4] == kind.to_le_bytes())
            .and_then(|h| field(&h, 16))
    };
    let bias = of_kind(PT_PHDR).map_or(0, |stated| headers.wrapping_sub(stated));
    let dynamic = of_kind(PT_DYNAMIC)?.wrapping_add(bias);
    for i in 0..TAGS {
        let entry = scene.exact(dynamic.checked_add(16 * i)?, 16)?;
        match field(&entry, 0)? {
            0 => return None,
            DT_DEBUG => {
                let debug = field(&entry, 8).filter(|at| *at != 0)?;
                return scene.word(debug.checked_add(8)?);
            }
            _ => {}
        }
    }
    None
}

/// The file that an object was mapped from.
pub fn file_of<'s>(scene: &'s Scene<'_>, object: &Loaded) -> Option<&'s FileIdentity> {
    let space = scene.space();
    space.file_of(space.mapping_at(object.dynamic)?)
}

/// The document `libraries-svr4`.
pub fn document(scene: &Scene<'_>) -> String {
    let all = loaded(scene);
    let mut out = String::from("<library-list-svr4 version=\"1.0\"");
    let mut rest = all.iter();
    if let Some(main) = rest.next() {
        // Writing to a String cannot fail.
        let _ = write!(out, " main-lm=\"{:#x}\"", main.map);
    }
    out.push_str(">\n");
    for object in rest {
        let Some(file) = file_of(scene, object) else {
            // The vDSO, which debuggers find by themselves.
            continue;
        };
        let _ = writeln!(
            out,
            "<library name=\"{}\" lm=\"{:#x}\" l_addr=\"{:#x}\" l_ld=\"{:#x}\" lmid=\"0x0\"/>",
            xml(&file.path),
            object.map,
            object.bias,
            object.dynamic
        );
    }
    out.push_str("</library-list-svr4>\n");
    out
}

/// Bytes as text in an XML attribute or element. What XML cannot hold becomes `?`.
pub fn xml(bytes: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn xml_is_escaped() {
        assert_eq!(
            super::xml(b"a<b>&\"c'\x01\xff"),
            "a&lt;b&gt;&amp;&quot;c&apos;?\u{fffd}"
        );
    }
}
