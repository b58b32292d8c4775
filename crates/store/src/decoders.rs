//! Entry points for fuzzing: each takes any bytes through one decoder. Nothing may panic, hang or
//! allocate more than a small multiple of its input, or of the limits of the format.

use crate::bytes::Page;
use crate::check::Key;
use crate::log::Location;
use crate::log::commit::Commit;
use crate::log::record::{HEADER, RecordHeader};
use crate::log::{segment, table};
use crate::pack::decode::Pack;
use crate::{header, index, objects, pack, rows};
use std::io::Write;
use stillframe_image::section::Section;

/// The id in whose name the decoders run, so that a corpus can have right checks.
pub const ID: [u8; 16] = *b"stillframe fuzz!";
/// Where the records of a corpus stand.
pub const AT: u64 = 1 << 32 | 40;

fn key() -> Key {
    Key::new(&ID)
}

/// A record, and what is in it if it is whole.
pub fn record(bytes: &[u8]) {
    let at = Location(AT);
    let Ok(head) = RecordHeader::decode(key(), at, bytes, bytes.len() as u64) else {
        return;
    };
    if let Ok(payload) = head.payload(&bytes[HEADER..]) {
        pack(&payload);
        page_table(&payload);
        commit(&payload);
    }
}

/// A pack's payload.
pub fn pack(bytes: &[u8]) {
    let _ = Pack::decode(Location(AT), bytes.to_vec());
}

/// A difference.
pub fn delta(bytes: &[u8]) {
    let mut page: Page = crate::bytes::ZERO_PAGE;
    let _ = pack::delta::apply(bytes, &mut page);
}

/// A page table.
pub fn page_table(bytes: &[u8]) {
    let _ = table::decode(bytes);
}

/// A commit.
pub fn commit(bytes: &[u8]) {
    if let Ok(commit) = Commit::decode(bytes) {
        assert_eq!(Commit::decode(&commit.encode()).ok(), Some(commit));
    }
}

/// A block of an index run.
pub fn block(bytes: &[u8]) {
    let _ = index::run::decode_block(bytes);
}

/// A whole index run.
pub fn run(bytes: &[u8]) {
    let data = index::run::Data::Memory(bytes.to_vec());
    if let Ok(run) = index::run::Run::open(data, &ID) {
        for i in 0..run.blocks() {
            let _ = run.block(i);
        }
    }
}

/// A row of the checkpoint table, and the header of such files.
pub fn row(bytes: &[u8]) {
    let _ = rows::decode(key(), 0, bytes);
    let _ = segment::decode_header(bytes, rows::MAGIC, rows::ROW as u32, &ID);
}

/// The file `recording`.
pub fn recording(bytes: &[u8]) {
    let _ = header::decode(bytes);
}

/// An object.
pub fn object(bytes: &[u8]) {
    let Ok(mut file) = tempfile() else { return };
    if file.write_all(bytes).is_ok()
        && let Ok(object) = objects::Object::from_file(file, String::new())
    {
        let _ = object.verify();
    }
}

/// A section of any kind.
pub fn section(bytes: &[u8]) {
    let _ = stillframe_image::AddressSpace::decode(bytes);
    let _ = Vec::<stillframe_image::Thread>::decode(bytes);
    let _ = stillframe_image::Descriptors::decode(bytes);
    let _ = stillframe_image::Process::decode(bytes);
    let _ = Vec::<stillframe_image::Gap>::decode(bytes);
    if let Ok(tree) = stillframe_image::Tree::decode(bytes) {
        assert_eq!(tree.check(), Ok(()));
    }
    let _ = stillframe_image::Account::decode(bytes);
    let _ = Vec::<stillframe_image::Point>::decode(bytes);
}

/// A moment, as typed.
pub fn moment(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = crate::split_moment(text);
    }
}

/// A file in memory.
fn tempfile() -> rustix::io::Result<std::fs::File> {
    rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).map(Into::into)
}

/// Takes any bytes.
pub type Decoder = fn(&[u8]);
/// A decoder, a name, and what to give it.
pub type Seed = (&'static str, String, Vec<u8>);

/// All of them by name.
pub const ALL: [(&str, Decoder); 12] = [
    ("record", record),
    ("pack", pack),
    ("delta", delta),
    ("page_table", page_table),
    ("commit", commit),
    ("block", block),
    ("run", run),
    ("row", row),
    ("recording", recording),
    ("object", object),
    ("section", section),
    ("moment", moment),
];

/// Small whole inputs for each decoder: (decoder, name, bytes). `cargo run --example corpus` writes
/// them where cargo-fuzz looks.
///
/// # Errors
/// None that a working system has: files are kept in memory.
pub fn corpus() -> Result<Vec<Seed>, crate::Error> {
    use crate::VersionRef;
    use crate::log::record::{Kind, encode};
    use crate::log::table::PageEntry;
    use crate::pack::delta as difference;
    use crate::pack::encode::PackBuilder;
    use stillframe_image::section::{SectionKey, SectionKind};
    use stillframe_image::{SpaceId, account, tree};

    let mut out: Vec<Seed> = Vec::new();
    let at = Location(AT);
    let older = VersionRef {
        pack: Location::new(1, 32 << 3).0,
        slot: 3,
    };
    let zero = crate::bytes::ZERO_PAGE;
    let mut page = zero;
    for (i, byte) in page.iter_mut().enumerate().step_by(97) {
        *byte = i as u8;
    }
    let mut sparse = Vec::new();
    difference::encode(
        &difference::changed(&zero, &page),
        Some(&zero),
        &page,
        &mut sparse,
    );
    let mut words = Vec::new();
    difference::encode(&difference::changed(&zero, &page), None, &page, &mut words);

    // A pack that depends on nothing is the one whose place is the log's first.
    let mut builder = PackBuilder::default();
    builder.place(at);
    let first = builder.delta(VersionRef::ZERO, &sparse, &page);
    builder.delta(first, &words, &page);
    builder.keyframe(&page);
    let packed = builder.finish();
    let table = table::encode(&[
        PageEntry {
            space: 0,
            page: 7,
            version: VersionRef::ZERO,
        },
        PageEntry {
            space: 0,
            page: 9,
            version: older,
        },
        PageEntry {
            space: 1,
            page: 2,
            version: VersionRef { pack: AT, slot: 1 },
        },
    ]);
    let commit = Commit {
        sections: vec![
            (SectionKey::whole(SectionKind::Space), at),
            (SectionKey::whole(SectionKind::Tree), at),
            (SectionKey::of(SpaceId(1), SectionKind::Space), at),
        ],
        tables: vec![(at, 3)],
        ..Commit::default()
    }
    .encode();
    for (kind, name, payload) in [
        (Kind::Pack, "pack", &packed),
        (Kind::Table, "table", &table),
        (Kind::Commit, "commit", &commit),
    ] {
        let mut record = Vec::new();
        encode(key(), at, kind, payload, None, &mut record);
        out.push(("record", name.into(), record));
    }
    if let Ok(compressed) = zstd::bulk::compress(&packed, 1) {
        let mut record = Vec::new();
        encode(
            key(),
            at,
            Kind::Pack,
            &compressed,
            Some(packed.len() as u32),
            &mut record,
        );
        out.push(("record", "compressed".into(), record));
    }
    out.push(("pack", "three".into(), packed));
    out.push(("delta", "masked".into(), sparse));
    out.push(("delta", "words".into(), words));
    out.push(("page_table", "three".into(), table));
    out.push(("commit", "small".into(), commit));

    let entries: Vec<index::Entry> = (0..40u64)
        .map(|i| index::Entry {
            space: (i / 30) as u32,
            page: i / 3,
            checkpoint: i,
            version: if i % 5 == 0 { VersionRef::ZERO } else { older },
        })
        .collect();
    let mut bytes = Vec::new();
    let mut sink = |b: &[u8]| {
        bytes.extend_from_slice(b);
        Ok(())
    };
    let failed = || crate::Error::io("build", "a run");
    let mut run = index::run::RunBuilder::new(&ID, 0, 40, &mut sink).map_err(failed())?;
    for entry in &entries {
        run.push(entry).map_err(failed())?;
    }
    run.finish().map_err(failed())?;
    // Behind the header of 56 bytes and before one footer line and the end, less its check.
    out.push((
        "block",
        "forty".into(),
        bytes[56..bytes.len() - 48 - 32 - 8].to_vec(),
    ));
    out.push(("run", "forty".into(), bytes));

    let full = rows::FullRow {
        commit: at,
        check: 5,
        ..rows::FullRow::default()
    };
    out.push(("row", "zero".into(), rows::encode(key(), 0, &full).to_vec()));
    out.push(("row", "header".into(), rows::header(&ID).to_vec()));
    let head = crate::Header {
        id: ID,
        program: b"/bin/true".to_vec(),
        ..crate::Header::default()
    };
    out.push(("recording", "small".into(), header::encode(&head)?));

    for (name, content) in [
        ("empty", Vec::new()),
        ("text", b"some text, ".repeat(40)),
        ("noise", sparse_noise()),
    ] {
        out.push(("object", name.into(), objects::encoded(&content)?));
    }
    let thread = stillframe_image::Thread {
        xstate: vec![1; 32],
        ..Default::default()
    };
    let node = |id, parent| tree::Node { id, parent };
    let tree = stillframe_image::Tree {
        processes: vec![
            node(SpaceId(0), None),
            node(SpaceId(2), Some(SpaceId(0))),
            node(SpaceId(3), Some(SpaceId(1))),
        ],
    };
    let account = stillframe_image::Account {
        stops: vec![account::StopRecord::default()],
        stalls: vec![account::ThreadStall::default()],
        skips: vec![account::Skip {
            at_ns: 1 << 40,
            ticks: 2,
            reason: account::SkipReason::Store,
        }],
        heat: vec![account::Heat::default()],
        repeats: vec![500, 3],
        dirty: vec![account::DirtyRun::default()],
        fault_log: vec![account::Fault::default()],
        ..stillframe_image::Account::default()
    };
    let point = stillframe_image::Point {
        space: SpaceId(2),
        tid: 77,
        name: b"loaded".to_vec(),
    };
    for (name, section) in [
        ("space", stillframe_image::AddressSpace::default().encode()?),
        ("threads", vec![thread].encode()?),
        (
            "descriptors",
            stillframe_image::Descriptors::default().encode()?,
        ),
        ("process", stillframe_image::Process::default().encode()?),
        ("gaps", Vec::<stillframe_image::Gap>::new().encode()?),
        ("tree", tree.encode()?),
        ("account", account.encode()?),
        ("points", vec![point].encode()?),
    ] {
        out.push(("section", name.into(), section));
    }
    for text in [
        "r.still@42",
        "a@b@-3.5s",
        "x@500ms",
        "y@crash",
        "z",
        "@first",
    ] {
        out.push((
            "moment",
            text.replace(['@', '.'], "_"),
            text.as_bytes().to_vec(),
        ));
    }
    Ok(out)
}

fn sparse_noise() -> Vec<u8> {
    let mut s = 1u32;
    (0..600)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 24) as u8
        })
        .collect()
}
