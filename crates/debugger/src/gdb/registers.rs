//! Registers as GDB and LLDB know them: their order, the target description that says so, their
//! bytes.
//!
//! Names and types are those of GDB's `features/i386/64bit-*.xml`, which both debuggers look for by
//! name; the order of the description is the order of the bytes. Which of them there are depends on
//! what the recorded processor saved (XCR0 in the XSAVE area), and that is looked up once for a
//! session: debuggers read the description once.

use std::fmt::Write as _;
use stillframe_image::elfcore::xsave;
use stillframe_image::{CheckpointId, Thread};

/// Where the bytes of a register stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// In the general registers: which word, in the kernel's order.
    Word(usize),
    /// In the XSAVE area, in the layout that debuggers expect: the offset, and the bits of XCR0
    /// that must be set for it to be there.
    Area(usize, u64),
    /// 16 bits of the XSAVE area.
    Half(usize),
    /// The x87 tag word, whole; FXSAVE has it abridged.
    Tags,
    /// The number of the checkpoint, which is no register.
    Checkpoint,
}

/// One register.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Register {
    name: String,
    bytes: usize,
    kind: &'static str,
    group: Option<&'static str>,
    source: Source,
}

/// All registers of a session, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    registers: Vec<Register>,
    description: String,
}

/// General registers by name, type, and word of `user_regs_struct`.
const GENERAL: [(&str, usize, &str, usize); 24] = [
    ("rax", 8, "int64", 10),
    ("rbx", 8, "int64", 5),
    ("rcx", 8, "int64", 11),
    ("rdx", 8, "int64", 12),
    ("rsi", 8, "int64", 13),
    ("rdi", 8, "int64", 14),
    ("rbp", 8, "data_ptr", 4),
    ("rsp", 8, "data_ptr", 19),
    ("r8", 8, "int64", 9),
    ("r9", 8, "int64", 8),
    ("r10", 8, "int64", 7),
    ("r11", 8, "int64", 6),
    ("r12", 8, "int64", 3),
    ("r13", 8, "int64", 2),
    ("r14", 8, "int64", 1),
    ("r15", 8, "int64", 0),
    ("rip", 8, "code_ptr", 16),
    ("eflags", 4, "i386_eflags", 18),
    ("cs", 4, "int32", 17),
    ("ss", 4, "int32", 20),
    ("ds", 4, "int32", 23),
    ("es", 4, "int32", 24),
    ("fs", 4, "int32", 25),
    ("gs", 4, "int32", 26),
];

/// x87 control registers, and where FXSAVE puts them.
const CONTROL: [(&str, Source); 8] = [
    ("fctrl", Source::Half(0)),
    ("fstat", Source::Half(2)),
    ("ftag", Source::Tags),
    ("fiseg", Source::Half(12)),
    ("fioff", Source::Area(8, 0)),
    ("foseg", Source::Half(20)),
    ("fooff", Source::Area(16, 0)),
    ("fop", Source::Half(6)),
];

const EFLAGS: &str = r#"<flags id="i386_eflags" size="4">
<field name="" start="22" end="31"/><field name="CF" start="0" end="0"/>
<field name="" start="1" end="1"/><field name="PF" start="2" end="2"/>
<field name="AF" start="4" end="4"/><field name="ZF" start="6" end="6"/>
<field name="SF" start="7" end="7"/><field name="TF" start="8" end="8"/>
<field name="IF" start="9" end="9"/><field name="DF" start="10" end="10"/>
<field name="OF" start="11" end="11"/><field name="NT" start="14" end="14"/>
<field name="RF" start="16" end="16"/><field name="VM" start="17" end="17"/>
<field name="AC" start="18" end="18"/><field name="VIF" start="19" end="19"/>
<field name="VIP" start="20" end="20"/><field name="ID" start="21" end="21"/>
</flags>
"#;

const VECTORS: &str = r#"<vector id="v8bf16" type="bfloat16" count="8"/>
<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>
<union id="vec128"><field name="v8_bfloat16" type="v8bf16"/>
<field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>
<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/>
<field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/>
<field name="uint128" type="uint128"/></union>
"#;

const MXCSR: &str = r#"<flags id="i386_mxcsr" size="4">
<field name="IE" start="0" end="0"/><field name="DE" start="1" end="1"/>
<field name="ZE" start="2" end="2"/><field name="OE" start="3" end="3"/>
<field name="UE" start="4" end="4"/><field name="PE" start="5" end="5"/>
<field name="DAZ" start="6" end="6"/><field name="IM" start="7" end="7"/>
<field name="DM" start="8" end="8"/><field name="ZM" start="9" end="9"/>
<field name="OM" start="10" end="10"/><field name="UM" start="11" end="11"/>
<field name="PM" start="12" end="12"/><field name="FZ" start="15" end="15"/>
</flags>
"#;

/// Components of XCR0.
const AVX: u64 = 1 << 2;
const AVX512: u64 = 7 << 5;
const PKRU: u64 = 1 << 9;

/// Collects registers and their description.
struct Maker {
    registers: Vec<Register>,
    xml: String,
}

impl Maker {
    fn feature(&mut self, name: &str, types: &[&str], registers: Vec<Register>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.xml, "<feature name=\"{name}\">");
        for text in types {
            self.xml.push_str(text);
        }
        for r in registers {
            let number = self.registers.len();
            let _ = write!(
                self.xml,
                "<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{number}\"",
                r.name,
                r.bytes * 8,
                r.kind
            );
            if let Some(group) = r.group {
                let _ = write!(self.xml, " group=\"{group}\"");
            }
            if r.source == Source::Checkpoint {
                self.xml.push_str(" save-restore=\"no\"");
            }
            self.xml.push_str("/>\n");
            self.registers.push(r);
        }
        self.xml.push_str("</feature>\n");
    }
}

fn register(name: impl Into<String>, bytes: usize, kind: &'static str, source: Source) -> Register {
    Register {
        name: name.into(),
        bytes,
        kind,
        group: None,
        source,
    }
}

fn in_group(mut register: Register, group: &'static str) -> Register {
    register.group = Some(group);
    register
}

/// `count` registers of `bytes` each, `step` apart from `offset` on; their names are numbered from
/// `first` and end with `suffix`.
fn row(
    (prefix, suffix): (&str, &str),
    (first, count): (usize, usize),
    (bytes, kind): (usize, &'static str),
    (offset, step): (usize, usize),
    needs: u64,
) -> Vec<Register> {
    (0..count)
        .map(|i| {
            let name = format!("{prefix}{}{suffix}", first + i);
            register(name, bytes, kind, Source::Area(offset + i * step, needs))
        })
        .collect()
}

impl Layout {
    /// The registers of a process some of whose threads are given.
    pub fn of(threads: &[Thread]) -> Self {
        let mask = threads
            .iter()
            .filter_map(|t| xsave::canonical(&t.xstate))
            .map(|area| mask_of(&area))
            .max()
            .unwrap_or(0);
        Self::with(mask)
    }

    fn with(mask: u64) -> Self {
        let mut m = Maker {
            registers: Vec::new(),
            xml: String::from(
                "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target>\n\
                 <architecture>i386:x86-64</architecture>\n<osabi>GNU/Linux</osabi>\n",
            ),
        };
        let general = GENERAL
            .iter()
            .map(|(name, bytes, kind, word)| register(*name, *bytes, kind, Source::Word(*word)));
        let stack = row(("st", ""), (0, 8), (10, "i387_ext"), (32, 16), 0);
        let control = CONTROL
            .iter()
            .map(|(name, source)| in_group(register(*name, 4, "int", *source), "float"));
        let core = general.chain(stack).chain(control).collect();
        m.feature("org.gnu.gdb.i386.core", &[EFLAGS], core);

        let mut sse = row(("xmm", ""), (0, 16), (16, "vec128"), (160, 16), 0);
        let mxcsr = register("mxcsr", 4, "i386_mxcsr", Source::Area(24, 0));
        sse.push(in_group(mxcsr, "vector"));
        m.feature("org.gnu.gdb.i386.sse", &[VECTORS, MXCSR], sse);

        let call = register("orig_rax", 8, "int", Source::Word(15));
        let call = vec![in_group(call, "system")];
        m.feature("org.gnu.gdb.i386.linux", &[], call);
        let bases = vec![
            register("fs_base", 8, "int", Source::Word(21)),
            register("gs_base", 8, "int", Source::Word(22)),
        ];
        m.feature("org.gnu.gdb.i386.segments", &[], bases);

        if mask & AVX == AVX {
            let high = row(("ymm", "h"), (0, 16), (16, "uint128"), (576, 16), AVX);
            m.feature("org.gnu.gdb.i386.avx", &[], high);
        }
        if mask & AVX512 == AVX512 {
            let wide = "<vector id=\"v2ui128\" type=\"uint128\" count=\"2\"/>\n";
            let mut all = row(("xmm", ""), (16, 16), (16, "vec128"), (1664, 64), AVX512);
            all.extend(row(
                ("ymm", "h"),
                (16, 16),
                (16, "uint128"),
                (1680, 64),
                AVX512,
            ));
            all.extend(row(("k", ""), (0, 8), (8, "uint64"), (1088, 8), AVX512));
            all.extend(row(
                ("zmm", "h"),
                (0, 16),
                (32, "v2ui128"),
                (1152, 32),
                AVX512,
            ));
            all.extend(row(
                ("zmm", "h"),
                (16, 16),
                (32, "v2ui128"),
                (1696, 64),
                AVX512,
            ));
            m.feature("org.gnu.gdb.i386.avx512", &[VECTORS, wide], all);
        }
        if mask & PKRU == PKRU {
            let keys = vec![register("pkru", 4, "int", Source::Area(2688, PKRU))];
            m.feature("org.gnu.gdb.i386.pkeys", &[], keys);
        }
        let moment = register("checkpoint", 8, "uint64", Source::Checkpoint);
        let moment = vec![in_group(moment, "system")];
        m.feature("org.stillframe.moment", &[], moment);
        m.xml.push_str("</target>\n");
        Self {
            registers: m.registers,
            description: m.xml,
        }
    }

    /// The target description.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The bytes of all registers of a thread, in order; `None` for those that were not saved.
    pub fn all<'a>(
        &'a self,
        thread: &'a Thread,
        at: CheckpointId,
    ) -> impl Iterator<Item = (usize, Option<Vec<u8>>)> + 'a {
        let area = xsave::canonical(&thread.xstate);
        self.registers
            .iter()
            .map(move |r| (r.bytes, bytes_of(r, thread, area.as_deref(), at)))
    }

    /// The size of a register in bytes, and its content; `None` if there is none of that number.
    pub fn one(
        &self,
        number: usize,
        thread: &Thread,
        at: CheckpointId,
    ) -> Option<(usize, Option<Vec<u8>>)> {
        let register = self.registers.get(number)?;
        let area = xsave::canonical(&thread.xstate);
        Some((
            register.bytes,
            bytes_of(register, thread, area.as_deref(), at),
        ))
    }
}

fn bytes_of(
    r: &Register,
    thread: &Thread,
    area: Option<&[u8]>,
    at: CheckpointId,
) -> Option<Vec<u8>> {
    let word = |value: u64| value.to_le_bytes()[..r.bytes].to_vec();
    match r.source {
        Source::Word(n) => thread.registers.to_words().get(n).copied().map(word),
        Source::Checkpoint => Some(word(at.0)),
        Source::Area(offset, needs) => {
            let area = area.filter(|a| mask_of(a) & needs == needs)?;
            area.get(offset..offset + r.bytes).map(<[u8]>::to_vec)
        }
        Source::Half(offset) => half(area?, offset).map(|v| word(u64::from(v))),
        Source::Tags => tags(area?).map(|v| word(u64::from(v))),
    }
}

fn half(area: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(area.get(at..at + 2)?.try_into().ok()?))
}

/// Which components an area in the debuggers' layout has. An area without a mask has at least what
/// FXSAVE writes.
fn mask_of(area: &[u8]) -> u64 {
    area.get(xsave::MASK_AT..xsave::MASK_AT + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// The whole tag word from the abridged one: Intel SDM, volume 1, table 10-4 ("recreating FSAVE
/// format"). Two bits for each physical register: 0 valid, 1 zero, 2 special, 3 empty.
fn tags(area: &[u8]) -> Option<u16> {
    let abridged = *area.get(4)?;
    let top = half(area, 2)? >> 11 & 7;
    let mut out = 0;
    for physical in 0..8u16 {
        let tag = if abridged >> physical & 1 == 0 {
            3
        } else {
            let at = 32 + 16 * usize::from((physical + 8 - top) % 8);
            let value = area.get(at..at + 10)?;
            let exponent = half(value, 8)? & 0x7fff;
            let fraction = u64::from_le_bytes(value[..8].try_into().ok()?);
            match (exponent, fraction) {
                (0, 0) => 1,
                (0 | 0x7fff, _) => 2,
                (_, f) if f >> 63 == 1 => 0,
                _ => 2,
            }
        };
        out |= tag << (2 * physical);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(mask: u64, length: usize) -> Thread {
        let mut t = Thread {
            xstate: (0..length).map(|i| (i / 16) as u8).collect(),
            ..Thread::default()
        };
        t.xstate[xsave::MASK_AT..xsave::MASK_AT + 8].copy_from_slice(&mask.to_le_bytes());
        t.registers.rip = 0x1122_3344_5566_7788;
        t.registers.fs_base = 7;
        t
    }

    fn find(layout: &Layout, name: &str) -> usize {
        layout
            .registers
            .iter()
            .position(|r| r.name == name)
            .unwrap()
    }

    fn read(layout: &Layout, t: &Thread, name: &str) -> Option<Vec<u8>> {
        layout
            .one(find(layout, name), t, CheckpointId(9))
            .unwrap()
            .1
    }

    #[test]
    fn numbers_are_gdbs() {
        let layout = Layout::with(0);
        for (name, number) in [
            ("rax", 0),
            ("rip", 16),
            ("st0", 24),
            ("fctrl", 32),
            ("xmm0", 40),
            ("mxcsr", 56),
            ("orig_rax", 57),
            ("fs_base", 58),
        ] {
            assert_eq!(find(&layout, name), number, "{name}");
        }
        assert!(!layout.description().contains("ymm0h"));
    }

    #[test]
    fn each_processor_has_its_registers() {
        let avx512 = Layout::of(&[thread(0xe7, 2688)]);
        assert!(
            avx512.description().contains("\"zmm31h\"") && !avx512.description().contains("pkru")
        );
        assert!(
            Layout::of(&[thread(0x2e7, 2696)])
                .description()
                .contains("pkru")
        );
        assert!(
            Layout::of(&[thread(7, 832)])
                .description()
                .contains("ymm15h")
        );
        assert!(!Layout::of(&[thread(3, 576)]).description().contains("ymm"));
        // A thread whose area is missing does not take them from the others.
        let mixed = Layout::of(&[Thread::default(), thread(7, 832)]);
        assert_eq!(read(&mixed, &Thread::default(), "ymm3h"), None);
        assert_eq!(read(&mixed, &thread(7, 832), "ymm3h"), Some(vec![39; 16]));
    }

    #[test]
    fn bytes_stand_where_they_should() {
        let layout = Layout::of(&[thread(0xe7, 2688)]);
        let t = thread(0xe7, 2688);
        let byte = |offset: usize| (offset / 16) as u8;
        assert_eq!(
            read(&layout, &t, "rip").unwrap(),
            0x1122_3344_5566_7788u64.to_le_bytes()
        );
        assert_eq!(read(&layout, &t, "checkpoint").unwrap(), 9u64.to_le_bytes());
        assert_eq!(read(&layout, &t, "xmm1").unwrap(), [byte(176); 16]);
        assert_eq!(read(&layout, &t, "k1").unwrap()[0], byte(1096));
        assert_eq!(read(&layout, &t, "zmm1h").unwrap()[0], byte(1184));
        assert_eq!(read(&layout, &t, "xmm17").unwrap()[0], byte(1728));
        assert_eq!(read(&layout, &t, "zmm17h").unwrap()[0], byte(1760));
        let total: usize = layout.all(&t, CheckpointId(0)).map(|(n, _)| n).sum();
        assert_eq!(
            total,
            layout.registers.iter().map(|r| r.bytes).sum::<usize>()
        );
        assert!(layout.one(9999, &t, CheckpointId(0)).is_none());
    }

    #[test]
    fn tag_words() {
        let mut area = vec![0u8; 512];
        assert_eq!(tags(&area), Some(0xffff));
        // One value on the stack: physical register 7, top 7, 1.0.
        area[2..4].copy_from_slice(&(7u16 << 11).to_le_bytes());
        area[4] = 0x80;
        area[32..42].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
        assert_eq!(tags(&area), Some(0x3fff));
        area[32..42].fill(0);
        assert_eq!(tags(&area), Some(0x7fff));
        area[41] = 0x7f;
        area[40] = 0xff;
        assert_eq!(tags(&area), Some(0xbfff));
        assert_eq!(tags(&[0; 4]), None);
    }
}
