//! Writes the seeds of the fuzz targets: `cargo run --example corpus -- fuzz/corpus`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let to = PathBuf::from(std::env::args_os().nth(1).ok_or("say where to")?);
    for (decoder, name, bytes) in stillframe_store::decoders::corpus()? {
        let dir = to.join(decoder);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}
