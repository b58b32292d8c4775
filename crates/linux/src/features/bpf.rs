//! The kernel side of the `bpf` tracker, by opening what it opens.

use super::Feature;
use crate::bpf::{FaultLog, Options};

pub(super) const FAULTS: (&str, &str) = (
    "bpf-fault-log",
    "a boundary that costs what was written, not what is mapped",
);
const IMAGES: (&str, &str) = (
    "bpf-pre-images",
    "pages written before they were copied, without copying again",
);
const SEQUENCE: (&str, &str) = (
    "layout-sequence",
    "knowing in a microsecond that no mapping changed",
);

pub(super) fn all() -> Vec<Feature> {
    let small = Options {
        entries: 1,
        images: 64,
        ..Options::default()
    };
    let with_images = FaultLog::open(small);
    let (log, images) = match with_images {
        Ok(log) => (Ok(log), Ok("available")),
        Err(why) => {
            let without = Options { images: 0, ..small };
            (FaultLog::open(without), Err(why.to_string()))
        }
    };
    let sequence = match &log {
        Ok(log) => log
            .layout_sequence(std::process::id())
            .map(|_| "available")
            .ok_or(
                "this kernel has none that BPF can read; Linux 6.13 and later have it".to_owned(),
            ),
        Err(e) => Err(e.to_string()),
    };
    let log = log.map(|_| "available").map_err(|e| e.to_string());
    vec![
        Feature::new(FAULTS.0, FAULTS.1, log),
        Feature::new(IMAGES.0, IMAGES.1, images),
        Feature::new(SEQUENCE.0, SEQUENCE.1, sequence),
    ]
}
