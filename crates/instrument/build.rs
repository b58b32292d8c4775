//! Compiles the runtime of instrumented programs, so that the command carries it: an installed
//! `still` needs no other file, and whoever builds it has the compiler that the runtime needs.

include!("../inproc/runtime/build.rs");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let runtime =
        std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../inproc/runtime");
    for variant in ["line", "word", "log"] {
        compile_runtime(&runtime, variant, &out.join(format!("{variant}.o")))?;
    }
    Ok(())
}
