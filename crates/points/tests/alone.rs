//! The crate where nobody records.

use std::time::Duration;

#[test]
fn nobody_records() {
    stillframe_points::point("a");
    assert_eq!(stillframe_points::checkpoint("b"), None);
    assert_eq!(stillframe_points::checkpoints(), None);
    assert!(!stillframe_points::recording());
    assert!(!stillframe_points::wait_recording(Duration::ZERO));
    assert!(!stillframe_points::wait_recording(Duration::from_millis(3)));
}

/// The linker keeps the note, through `--gc-sections` too, with which Rust links.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn a_program_carries_the_note() {
    stillframe_points::point("a");
    let exe = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    // Written backwards here, so that it is not what is found.
    let note: Vec<u8> = b"\0emarfllits\0\0\0\x01\0\0\0\x08\0\0\0\x0b"
        .iter()
        .rev()
        .copied()
        .collect();
    assert_eq!(exe.windows(note.len()).filter(|w| *w == note).count(), 1);
}
