//! Every decoder over the corpus of the fuzz targets and mutations of it: what `cargo fuzz` does
//! for hours, for a second.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use stillframe_store::decoders;

/// Deterministic noise.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % n.max(1)
    }
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len().max(1));
        match rng.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), rng.below(256) as u8),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff][rng.below(4)],
            _ if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            _ => bytes.push(0),
        }
    }
}

#[test]
fn no_decoder_minds_anything() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut rng = Rng(1);
    for (name, decode) in decoders::ALL {
        let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(corpus.join(name))
            .unwrap_or_else(|e| panic!("no corpus for {name}: {e}"))
            .map(|e| std::fs::read(e.unwrap().path()).unwrap())
            .collect();
        assert!(!seeds.is_empty(), "no corpus for {name}");
        seeds.push(Vec::new());
        for seed in &seeds {
            decode(seed);
            for _ in 0..2000 {
                let mut bytes = seed.clone();
                mutate(&mut bytes, &mut rng);
                decode(&bytes);
            }
        }
    }
}
