//! Texts and trees. What expressions mean is tested on real programs, against GDB.

use super::*;

/// The tree in a spelling with all brackets.
fn tree(text: &str) -> String {
    fn show(n: &Node) -> String {
        match &n.kind {
            Kind::Integer(i) => i.value.to_string(),
            Kind::Float(f, _) => format!("{f:?}"),
            Kind::Char(c) => format!("'{}'", char::from_u32(*c).unwrap()),
            Kind::Text(t) => format!("{:?}", String::from_utf8_lossy(t)),
            Kind::Bool(b) => b.to_string(),
            Kind::Path(p) => p.text(),
            Kind::Register(r) => format!("${r}"),
            Kind::Unary(op, a) => format!("({op:?} {})", show(a)),
            Kind::Binary(op, a, b) => format!("({} {} {})", show(a), op.sign(), show(b)),
            Kind::Choice(a, b, c) => format!("({} ? {} : {})", show(a), show(b), show(c)),
            Kind::Cast(t, a) => format!("<{}>{}", ty(t), show(a)),
            Kind::Member(a, m) => format!("{}.{m}", show(a)),
            Kind::Index(a, b) => format!("{}[{}]", show(a), show(b)),
            Kind::Slice(a, b, c) => {
                let end = |n: &Option<Box<Node>>| n.as_ref().map_or(String::new(), |n| show(n));
                format!("{}[{}..{}]", show(a), end(b), end(c))
            }
            Kind::SizeOfType(t) => format!("sizeof<{}>", ty(t)),
            Kind::Ask(ask, a) => format!("{ask:?}({})", show(a)),
        }
    }
    fn ty(t: &TypeName) -> String {
        match t {
            TypeName::Named { tag, path, .. } => {
                format!(
                    "{}{}",
                    tag.map_or(String::new(), |t| format!("{t} ")),
                    path.text()
                )
            }
            TypeName::Pointer(t) => format!("{}*", ty(t)),
            TypeName::Reference(t) => format!("{}&", ty(t)),
            TypeName::Array(t, n) => format!("{}[{}]", ty(t), n.unwrap_or(0)),
            TypeName::Function(t, p) => {
                format!(
                    "{}({})",
                    ty(t),
                    p.iter().map(ty).collect::<Vec<_>>().join(",")
                )
            }
        }
    }
    match parse(text) {
        Ok(e) => show(e.root()),
        Err(e) => format!("{} at {:?}", e.message, e.at),
    }
}

#[test]
fn precedence() {
    assert_eq!(tree("1 + 2 * 3"), "(1 + (2 * 3))");
    assert_eq!(tree("1 - 2 - 3"), "((1 - 2) - 3)");
    assert_eq!(tree("a && b || c == d & e"), "((a && b) || ((c == d) & e))");
    assert_eq!(tree("a ? b : c ? d : e"), "(a ? b : (c ? d : e))");
    assert_eq!(tree("-x[1].y->z"), "(Minus x[1].y.z)");
    assert_eq!(tree("*p + &q"), "((Follow p) + (Address q))");
    assert_eq!(tree("a < b << 1"), "(a < (b << 1))");
    assert_eq!(tree("p[0]@4 + 1"), "(p[0] @ (4 + 1))");
    assert_eq!(tree("x as u32 * 2"), "(<u32>x * 2)");
    assert_eq!(tree("&x as *const u8"), "<u8*>(Address x)");
    assert_eq!(tree("!a == ~b"), "((Not a) == (Complement b))");
    assert_eq!(tree("a, b"), "(a , b)");
}

#[test]
fn names_and_templates() {
    assert_eq!(tree("'file.c'::x"), "'file.c'::x");
    assert_eq!(tree("'src/a b.c'::f::x"), "'src/a b.c'::f::x");
    assert_eq!(tree("'a::b'"), "a::b");
    assert_eq!(tree("'ns::A<B::C>'::x"), "ns::A<B::C>::x");
    assert_eq!(tree("::x"), "::x");
    assert_eq!(tree("Box<long>::count"), "Box<long>::count");
    assert_eq!(tree("a<b, c<d>>::e.f"), "a<b, c<d>>::e.f");
    assert_eq!(tree("a<b"), "(a < b)");
    assert_eq!(tree("a<b>c"), "((a < b) > c)");
    assert_eq!(tree("a::{impl#0}::B"), "a::{impl#0}::B");
    assert_eq!(tree("x.0.1"), "x.0.1");
    assert_eq!(tree("x.Base::y"), "x.Base::y");
    assert_eq!(tree("$rip + $xmm0"), "($rip + $xmm0)");
}

#[test]
fn casts() {
    assert_eq!(tree("(int)x"), "<int>x");
    assert_eq!(tree("(unsigned long int *)p"), "<unsigned long*>p");
    assert_eq!(tree("(struct point *)0x10"), "<struct point*>16");
    assert_eq!(tree("*(T*)p->q"), "(Follow <T*>p.q)");
    assert_eq!(tree("(x)-1"), "(x - 1)");
    assert_eq!(tree("(uint8_t)-1"), "<uint8_t>(Minus 1)");
    assert_eq!(tree("(x)(y)"), "<x>y");
    assert_eq!(tree("(arr[3])"), "arr[3]");
    assert_eq!(tree("(a * b)"), "(a * b)");
    assert_eq!(tree("(int (*)(int, char *))f"), "<int(int,char*)*>f");
    assert_eq!(tree("(char[4])x"), "<char[4]>x");
    assert_eq!(tree("p as *mut [u8; 4]"), "<u8[4]*>p");
    assert_eq!(tree("p as &[u8]"), "<&[u8]>p");
    assert_eq!(tree("reinterpret_cast<A<B>*>(p)"), "<A<B>*>p");
    assert_eq!(tree("sizeof(struct s)"), "sizeof<struct s>");
    assert_eq!(tree("sizeof x"), "SizeOf(x)");
    assert_eq!(tree("sizeof(x)"), "SizeOf(x)");
    assert_eq!(tree("len(v) > 10"), "(Length(v) > 10)");
}

#[test]
fn literals() {
    assert_eq!(
        tree("0x1f + 017 + 0b11 + 1_000"),
        "(((31 + 15) + 3) + 1000)"
    );
    assert_eq!(tree("1.5e3"), "1500.0");
    assert_eq!(tree(".5f"), "0.5");
    assert_eq!(tree("'a' + '\\n' + '\\x41'"), "(('a' + '\n') + 'A')");
    assert_eq!(tree("\"a\\tb\" \"c\""), "\"a\\tbc\"");
    assert_eq!(tree("p[0..4]"), "p[0..4]");
    assert_eq!(tree("p[..]"), "p[..]");
    assert_eq!(tree("p[1..=n]"), "p[1..(n + 1)]");
    assert_eq!(tree("10usize"), "10");
    assert_eq!(tree("nullptr"), "0");
}

#[test]
fn errors_point_at_the_place() {
    let wrong = |text: &str| parse(text).unwrap_err();
    assert_eq!(wrong("1 +").at, 3..3);
    assert_eq!(wrong("a b").at, 2..3);
    assert_eq!(wrong("x = 1").at, 2..3);
    assert!(wrong("x = 1").message.contains("=="));
    assert_eq!(wrong("f(1)").at, 1..2);
    assert_eq!(wrong("\"abc").at, 0..4);
    assert_eq!(wrong("p[1").at, 3..3);
    assert_eq!(wrong("a $ b").at, 2..3);
    assert!(wrong("").message.contains("missing"));
    assert!(
        wrong("999999999999999999999999999999999999999999")
            .message
            .contains("128")
    );
    assert_eq!(point("a + é * b", &(4..6)), "  a + é * b\n      ^");
    assert_eq!(point("a b", &(2..3)), "  a b\n    ^");
    assert_eq!(point("a", &(9..12)), "  a\n   ^");
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [
        ("(", ")"),
        ("-", ""),
        ("*", ""),
        ("!", ""),
        ("a[", "]"),
        ("(int)", ""),
        ("sizeof ", ""),
        ("len(", ")"),
        ("1+(", ")"),
        ("a?", ":b"),
    ] {
        let text = format!("{}x{}", open.repeat(2000), close.repeat(2000));
        let error = parse(&text).unwrap_err();
        assert!(
            error.message.contains("more than"),
            "{open}: {}",
            error.message
        );
    }
    for chain in ["x+", "x.", "x->", "x,", "x==", "x as u8 + "] {
        let text = format!("{}x", chain.repeat(1000));
        assert!(parse(&text).is_err(), "{chain}");
    }
    assert!(parse(&"x[0]".repeat(1000)).is_err());
    assert!(parse(&format!("x as {}u8", "*const ".repeat(1000))).is_err());
    assert!(parse(&format!("(int {})x", "*".repeat(1000))).is_err());
    assert!(parse(&"x".repeat(1 << 20)).is_err());
    // What people write is far below.
    assert!(parse(&format!("{}x{}", "(".repeat(50), ")".repeat(50))).is_ok());
}
