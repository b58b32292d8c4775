//! Packets that only LLDB sends (LLDB's `docs/lldb-gdb-remote.txt`).

use super::files;
use super::packet::{hex, split, unhex};
use super::scene::Scene;
use stillframe_image::MappingKind;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// `qHostInfo`.
pub fn host() -> String {
    format!(
        "triple:{};ptrsize:8;endian:little;ostype:linux;",
        hex(TRIPLE.as_bytes())
    )
}

/// `qProcessInfo`.
pub fn process(scene: &Scene<'_>) -> String {
    let process = &scene.image().process;
    format!(
        "pid:{:x};parent-pid:{:x};real-uid:{:x};real-gid:{:x};triple:{};ostype:linux;\
         endian:little;ptrsize:8;",
        process.pid.max(1),
        process.parent,
        process.uids[0],
        process.gids[0],
        hex(TRIPLE.as_bytes())
    )
}

/// `qMemoryRegionInfo`: the mapping that holds an address, or the gap around it.
pub fn region(scene: &Scene<'_>, address: u64) -> String {
    let mappings = &scene.space().mappings;
    let after = mappings.partition_point(|m| m.start <= address);
    match after.checked_sub(1).and_then(|i| mappings.get(i)) {
        Some(m) if m.contains(address) => {
            let permissions: String = [(m.read, 'r'), (m.write, 'w'), (m.execute, 'x')]
                .into_iter()
                .filter_map(|(set, letter)| set.then_some(letter))
                .collect();
            let kind = match m.kind {
                MappingKind::Stack => "type:stack;",
                MappingKind::Heap => "type:heap;",
                _ => "",
            };
            let name = if m.name.is_empty() {
                String::new()
            } else {
                format!("name:{};", hex(&m.name))
            };
            format!(
                "start:{:x};size:{:x};permissions:{permissions};{kind}{name}",
                m.start,
                m.len()
            )
        }
        before => {
            let start = before.map_or(0, |m| m.end);
            let end = mappings.get(after).map_or(u64::MAX, |m| m.start);
            format!("start:{start:x};size:{:x};", end.saturating_sub(start))
        }
    }
}

/// `qModuleInfo:PATH;TRIPLE`, both in hexadecimal: what identifies a file, so that LLDB does not
/// take another of the same name.
pub fn module(scene: &Scene<'_>, request: &[u8]) -> Option<String> {
    let (path, _) = split(request, b';')?;
    let file = files::find(scene, &unhex(path)?)?;
    let mut out = String::new();
    if let Some(id) = &file.build_id {
        out = format!("uuid:{};", hex(hex(id).to_uppercase().as_bytes()));
    }
    Some(format!(
        "{out}triple:{};file_path:{};file_offset:0;file_size:{:x};",
        hex(TRIPLE.as_bytes()),
        hex(&file.path),
        file.size
    ))
}
