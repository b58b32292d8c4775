//! The runtime is compiled by build scripts, so `cargo clippy` never sees it: it is linted here, in each
//! of its variants.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn the_runtime_is_clean() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../inproc/runtime/lib.rs");
    let place = tempfile::tempdir().unwrap();
    for variant in ["line", "word", "log"] {
        let made = Command::new("clippy-driver")
            .args([
                "--edition",
                "2024",
                "--crate-name",
                "still_inproc",
                "--crate-type",
                "lib",
            ])
            .args(["--emit", "metadata", "-Cpanic=abort"])
            .args([
                "--check-cfg",
                "cfg(granule, values(\"line\", \"word\", \"log\"))",
            ])
            .args(["--cfg", &format!("granule=\"{variant}\"")])
            .args([
                "-Dwarnings",
                "-Dclippy::all",
                "-Dclippy::undocumented_unsafe_blocks",
            ])
            .args([
                "-Dclippy::unwrap_used",
                "-Dclippy::expect_used",
                "-Dclippy::panic",
            ])
            .args(["-Dclippy::todo", "-Dclippy::indexing_slicing"])
            .arg("-o")
            .arg(place.path().join("still_inproc.rmeta"))
            .arg(&source)
            .env_remove("RUSTC_WRAPPER")
            .output();
        let Ok(made) = made else {
            println!("SKIPPED: no clippy-driver");
            return;
        };
        assert!(
            made.status.success(),
            "{variant}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
}
