//! Random numbers and arithmetic that no compiler removes.

use std::hint::black_box;

/// One step of splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators").
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `rounds` dependent steps of arithmetic in registers.
pub fn spin(mut x: u64, rounds: u64) -> u64 {
    for i in 0..rounds {
        x = mix(x.wrapping_add(i));
    }
    black_box(x)
}

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `0..bound`, up to a bias of `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `0.0..1.0`.
    pub fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The state, to start arithmetic from.
    pub fn peek(&self) -> u64 {
        self.0
    }

    /// Takes the result of arithmetic in, so that it must be done.
    pub fn stir(&mut self, x: u64) {
        self.0 ^= (x & 1) << 1;
        self.0 |= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_the_published_values() {
        // The first outputs of splitmix64 seeded with 1234567 (Rosetta Code, "Splitmix64").
        let mut seed = 1_234_567u64;
        let mut next = || {
            let x = mix(seed);
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            x
        };
        assert_eq!(next(), 6_457_827_717_110_365_317);
        assert_eq!(next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn numbers_stay_in_range_and_spread() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[rng.below(10) as usize] += 1;
            let f = rng.fraction();
            assert!((0.0..1.0).contains(&f));
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
    }
}
