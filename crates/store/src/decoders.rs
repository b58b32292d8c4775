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
    if file.write_all(bytes).is_ok() {
        if let Ok(object) = objects::Object::from_file(file, String::new()) {
            let _ = object.verify();
        }
    }
}

/// A section of any kind.
pub fn section(bytes: &[u8]) {
    let _ = stillframe_image::AddressSpace::decode(bytes);
    let _ = Vec::<stillframe_image::Thread>::decode(bytes);
    let _ = stillframe_image::Descriptors::decode(bytes);
    let _ = stillframe_image::Process::decode(bytes);
    let _ = Vec::<stillframe_image::Gap>::decode(bytes);
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

/// All of them by name.
pub const ALL: [(&str, fn(&[u8])); 12] = [
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
