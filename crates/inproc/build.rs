//! Makes the runtime's object and hands it to the linker of whoever depends on this crate.
//!
//! The runtime is compiled by a call of rustc here, not as a crate of the graph: the flags that
//! instrument a program (RUSTFLAGS) reach every crate of the graph, and an instrumented runtime would
//! call itself at every store.

include!("runtime/build.rs");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variant = if std::env::var_os("CARGO_FEATURE_THREADS").is_some() {
        "word"
    } else {
        "line"
    };
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let runtime = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("runtime");
    let object = out.join("still_inproc.o");
    compile_runtime(&runtime, variant, &object)?;
    std::fs::write(
        out.join("libstill_inproc.a"),
        archive(&std::fs::read(&object)?),
    )?;
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static:+whole-archive=still_inproc");
    Ok(())
}

/// An `ar` archive with one member and no index: the linker takes it whole.
fn archive(object: &[u8]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    bytes.extend(
        format!(
            "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            "still.o/",
            0,
            0,
            0,
            644,
            object.len()
        )
        .bytes(),
    );
    bytes.extend(object);
    if object.len() % 2 == 1 {
        bytes.push(b'\n');
    }
    bytes
}
