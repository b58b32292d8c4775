//! Names as they are written and as DWARF spells them.

/// Splits a qualified name at `::`, but not within brackets: `a::b<c::d>::e` has three segments.
pub(crate) fn segments(name: &str) -> Vec<&str> {
    let bytes = name.as_bytes();
    let mut found = Vec::new();
    let (mut from, mut depth, mut at) = (0, 0usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            // `->` and the `>` of an operator close nothing.
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b':' if depth == 0 && bytes.get(at + 1) == Some(&b':') => {
                if at > from {
                    found.push(&name[from..at]);
                }
                at += 2;
                from = at;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if from < name.len() {
        found.push(&name[from..]);
    }
    found
}

/// A name without the spaces that compilers and people put differently: `Box<long>` and
/// `Box< long >`, `A<B<int> >` and `A<B<int>>`. Spaces between two words stay.
pub(crate) fn plain(name: &str) -> String {
    if !name.contains(' ') {
        return name.to_owned();
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ' ' {
            let before = out.chars().next_back().is_some_and(word);
            let after = chars.peek().is_some_and(|c| word(*c));
            if !(before && after) {
                continue;
            }
        }
        out.push(c);
    }
    out
}

/// The usual name of a type that was written in several words: `long unsigned` is `unsigned long`.
pub(crate) fn usual<'a>(words: impl Iterator<Item = &'a str> + Clone) -> String {
    let has = |w: &str| words.clone().any(|x| x == w);
    let longs = words.clone().filter(|w| *w == "long").count();
    let sign = if has("unsigned") { "unsigned " } else { "" };
    if has("double") {
        return if longs > 0 { "long double" } else { "double" }.to_owned();
    }
    if has("char") {
        return match (has("signed"), has("unsigned")) {
            (true, _) => "signed char",
            (_, true) => "unsigned char",
            _ => "char",
        }
        .to_owned();
    }
    for plain in ["float", "void", "_Bool"] {
        if has(plain) {
            return plain.to_owned();
        }
    }
    if has("__int128") {
        return format!("{sign}__int128");
    }
    match (has("short"), longs) {
        (true, _) => format!("{sign}short"),
        (_, 0) => format!("{sign}int"),
        (_, 1) => format!("{sign}long"),
        _ => format!("{sign}long long"),
    }
}

/// The words that the names of C's own numbers are made of.
const WORDS: &[&str] = &[
    "unsigned", "signed", "long", "short", "int", "char", "double", "__int128",
];

/// A name in the one spelling that is compared: without needless spaces, and with numbers called as
/// people call them, so that `Box<long int>` is `Box<long>`.
pub(crate) fn canonical(name: &str) -> std::borrow::Cow<'_, str> {
    if !name.contains(' ') {
        return name.into();
    }
    numbers(&plain(name)).into()
}

/// A name in which C's numbers are called as people call them.
pub(crate) fn numbers(name: &str) -> String {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(name.len());
    let mut run: Vec<&str> = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (head, tail) = if length == 0 {
            rest.split_at(rest.chars().next().map_or(1, char::len_utf8))
        } else {
            rest.split_at(length)
        };
        rest = tail;
        if WORDS.contains(&head) {
            run.push(head);
        } else if head == " " && !run.is_empty() && starts_with_word(rest) {
        } else {
            flush(&mut run, &mut out);
            out.push_str(head);
        }
    }
    flush(&mut run, &mut out);
    out
}

fn starts_with_word(rest: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
    WORDS.contains(&&rest[..length])
}

fn flush(run: &mut Vec<&str>, out: &mut String) {
    if !run.is_empty() {
        out.push_str(&usual(run.iter().copied()));
        run.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_hold_names_together() {
        assert_eq!(segments("a::b<c::d>::e"), ["a", "b<c::d>", "e"]);
        assert_eq!(
            segments("(anonymous namespace)::x"),
            ["(anonymous namespace)", "x"]
        );
        assert_eq!(segments("::a"), ["a"]);
        assert!(segments("").is_empty());
        assert_eq!(segments("a>>::b"), ["a>>", "b"]);
    }

    #[test]
    fn spaces_between_signs_do_not_count() {
        assert_eq!(plain("A<B<int> >"), "A<B<int>>");
        assert_eq!(plain("unsigned  long"), "unsigned long");
        assert_eq!(
            plain("std::pair<const int, char *>"),
            "std::pair<const int,char*>"
        );
    }

    #[test]
    fn numbers_have_one_name() {
        assert_eq!(canonical("Box<long int>"), "Box<long>");
        assert_eq!(canonical("long unsigned int"), "unsigned long");
        assert_eq!(canonical("std::map<int, short int>"), "std::map<int,short>");
        assert_eq!(canonical("A<const char *>"), "A<const char*>");
        assert_eq!(canonical("unsigned interest"), "unsigned int interest");
        assert_eq!(canonical("point"), "point");
    }
}
