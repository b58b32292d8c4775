/// Compiles the runtime in `source` as one object. Included by the build scripts of the two crates
/// that carry it.
fn compile_runtime(
    source: &std::path::Path,
    variant: &str,
    object: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={}", source.display());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let made = std::process::Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "still_inproc", "--crate-type", "lib"])
        .args(["--emit", "obj", "-Copt-level=3", "-Cpanic=abort", "-Ccodegen-units=1"])
        .args(["-Coverflow-checks=off", "-Cdebug-assertions=off", "-Crelocation-model=pic"])
        .args(["--check-cfg", "cfg(granule, values(\"line\", \"word\", \"log\"))"])
        .args(["--cfg", &format!("granule=\"{variant}\"")])
        .arg("--target")
        .arg(std::env::var_os("TARGET").ok_or("no TARGET")?)
        .arg("-o")
        .arg(object)
        .arg(source.join("lib.rs"))
        .output()?;
    if !made.status.success() {
        return Err(format!(
            "the runtime does not compile: {}",
            String::from_utf8_lossy(&made.stderr)
        )
        .into());
    }
    Ok(())
}
