//! The processor that a recording was made on.
//!
//! A program asks once which instructions there are (glibc chooses its `memcpy` so) and uses them
//! ever after. Put on a processor that lacks one of them, it dies of SIGILL some time later. So a
//! recording says which there were.

use serde::{Deserialize, Serialize};

/// A processor, as programs see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// CPUID leaf 0: `GenuineIntel`.
    pub vendor: String,
    /// CPUID feature words, in the order of [`WORDS`]; empty if it was not asked.
    pub features: Vec<u32>,
    /// XCR0: the register sets that the kernel saves.
    pub xcr0: u64,
}

/// The words of [`Host::features`]: leaf, subleaf, register (0 eax, 1 ebx, 2 ecx, 3 edx).
pub const WORDS: [(u32, u32, usize); 9] = [
    (1, 0, 3),
    (1, 0, 2),
    (7, 0, 1),
    (7, 0, 2),
    (7, 0, 3),
    (7, 1, 0),
    (0x8000_0001, 0, 3),
    (0x8000_0001, 0, 2),
    (0xd, 1, 0),
];

/// Instructions that user programs choose by: word, bit, name. What only kernels use is left out, so
/// that it cannot keep a process from another machine.
const USED: [(usize, u32, &str); 67] = [
    (0, 23, "mmx"),
    (0, 25, "sse"),
    (0, 26, "sse2"),
    (1, 0, "sse3"),
    (1, 1, "pclmulqdq"),
    (1, 9, "ssse3"),
    (1, 12, "fma"),
    (1, 13, "cx16"),
    (1, 19, "sse4.1"),
    (1, 20, "sse4.2"),
    (1, 22, "movbe"),
    (1, 23, "popcnt"),
    (1, 25, "aes"),
    (1, 26, "xsave"),
    (1, 27, "osxsave"),
    (1, 28, "avx"),
    (1, 29, "f16c"),
    (1, 30, "rdrand"),
    (2, 0, "fsgsbase"),
    (2, 3, "bmi1"),
    (2, 5, "avx2"),
    (2, 8, "bmi2"),
    (2, 11, "rtm"),
    (2, 16, "avx512f"),
    (2, 17, "avx512dq"),
    (2, 18, "rdseed"),
    (2, 19, "adx"),
    (2, 21, "avx512ifma"),
    (2, 23, "clflushopt"),
    (2, 24, "clwb"),
    (2, 28, "avx512cd"),
    (2, 29, "sha"),
    (2, 30, "avx512bw"),
    (2, 31, "avx512vl"),
    (3, 1, "avx512vbmi"),
    (3, 4, "ospke"),
    (3, 5, "waitpkg"),
    (3, 6, "avx512_vbmi2"),
    (3, 8, "gfni"),
    (3, 9, "vaes"),
    (3, 10, "vpclmulqdq"),
    (3, 11, "avx512_vnni"),
    (3, 12, "avx512_bitalg"),
    (3, 14, "avx512_vpopcntdq"),
    (3, 22, "rdpid"),
    (3, 25, "cldemote"),
    (3, 27, "movdiri"),
    (3, 28, "movdir64b"),
    (4, 2, "avx512_4vnniw"),
    (4, 3, "avx512_4fmaps"),
    (4, 8, "avx512_vp2intersect"),
    (4, 14, "serialize"),
    (4, 22, "amx-bf16"),
    (4, 23, "avx512_fp16"),
    (4, 24, "amx-tile"),
    (4, 25, "amx-int8"),
    (5, 4, "avx_vnni"),
    (5, 5, "avx512_bf16"),
    (5, 23, "avx-ifma"),
    (6, 27, "rdtscp"),
    (7, 0, "lahf"),
    (7, 5, "lzcnt"),
    (7, 6, "sse4a"),
    (7, 11, "xop"),
    (7, 16, "fma4"),
    (8, 0, "xsaveopt"),
    (8, 1, "xsavec"),
];

/// Register sets of XSAVE, by bit of XCR0.
const SETS: [(u32, &str); 10] = [
    (0, "x87"),
    (1, "sse"),
    (2, "avx"),
    (3, "mpx bounds"),
    (4, "mpx status"),
    (5, "avx-512 masks"),
    (6, "avx-512 upper halves"),
    (7, "avx-512 upper registers"),
    (9, "protection keys"),
    (17, "amx tile configuration"),
];

impl Host {
    /// Instructions that this one has and `other` lacks, by name.
    pub fn lacking(&self, other: &Self) -> Vec<&'static str> {
        let has = |host: &Self, word: usize, bit: u32| {
            host.features.get(word).is_some_and(|w| w >> bit & 1 == 1)
        };
        USED.iter()
            .filter(|(word, bit, _)| has(self, *word, *bit) && !has(other, *word, *bit))
            .map(|(_, _, name)| *name)
            .collect()
    }
}

/// The register sets of a bit set, by name.
pub fn register_sets(bits: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| match SETS.iter().find(|(b, _)| *b == bit) {
            Some((_, name)) => (*name).to_owned(),
            None if bit == 18 => "amx tiles".to_owned(),
            None => format!("set {bit}"),
        })
        .collect()
}

/// What an XSAVE area as ptrace gives it says: the sets that the kernel saved (XCR0), and those of
/// them that are not in their initial state (XSTATE_BV).
pub fn saved_sets(xstate: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(xstate.get(at..at + 8)?.try_into().ok()?))
    };
    // Bytes 464 to 511 of the legacy area are the software's: the kernel puts XCR0 there.
    Some((word(464)?, word(512)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let mut old = Host {
            features: vec![0; WORDS.len()],
            ..Host::default()
        };
        let mut new = old.clone();
        new.features[2] = 1 << 5 | 1 << 16 | 1 << 20;
        old.features[2] = 1 << 5;
        assert_eq!(new.lacking(&old), ["avx512f"]);
        assert!(old.lacking(&new).is_empty());
        // Where nothing was asked nothing is claimed.
        assert!(Host::default().lacking(&old).is_empty());
        for (word, bit, _) in USED {
            assert!(word < WORDS.len() && bit < 32);
        }
    }

    #[test]
    fn saved_register_sets() {
        let mut area = vec![0; 832];
        area[464] = 7;
        area[512] = 3;
        assert_eq!(saved_sets(&area), Some((7, 3)));
        assert_eq!(saved_sets(&area[..512]), None);
        assert_eq!(
            register_sets(5 | 1 << 18 | 1 << 40),
            ["x87", "avx", "amx tiles", "set 40"]
        );
    }
}
