//! Option pricing over a large array: the closed formula for European options (Black and Scholes,
//! "The Pricing of Options and Corporate Liabilities", 1973; Merton, 1973), priced again and again
//! like blackscholes of PARSEC (Bienia et al., PACT 2008).
//!
//! Every pass reads all options and writes all prices in order. In `pricing` the inputs stay as
//! they are, as in PARSEC: pages are written with the values they had. In `market` spot prices move
//! with each pass, so that every price changes in its low bits: the same work, hard to store.

use super::rng::Rng;
use super::{Outcome, on_slices};

/// A European option and its market.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    /// Price of the underlying.
    pub spot: f32,
    /// Price agreed on.
    pub strike: f32,
    /// Riskless interest, per year.
    pub rate: f32,
    /// Standard deviation of the underlying's yearly return.
    pub volatility: f32,
    /// Time to expiry, years.
    pub years: f32,
    /// Whether it is a put rather than a call.
    pub put: bool,
}

/// The distribution function of the standard normal distribution, within 7.5e-8 (Abramowitz and
/// Stegun, "Handbook of Mathematical Functions", 26.2.17).
pub fn normal(x: f64) -> f64 {
    const B: [f64; 5] = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let k = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let sum = B.iter().rev().fold(0.0, |sum, b| (sum + b) * k);
    let density = (-0.5 * x * x).exp() * 0.398_942_280_401_432_7;
    let upper = density * sum;
    if x < 0.0 { upper } else { 1.0 - upper }
}

/// The price of an option when the underlying stands at `spot`.
pub fn price(option: &Contract, spot: f64) -> f64 {
    let (strike, rate) = (f64::from(option.strike), f64::from(option.rate));
    let (volatility, years) = (f64::from(option.volatility), f64::from(option.years));
    let deviation = volatility * years.sqrt();
    let d1 = ((spot / strike).ln() + (rate + 0.5 * volatility * volatility) * years) / deviation;
    let d2 = d1 - deviation;
    let discounted = strike * (-rate * years).exp();
    if option.put {
        discounted * normal(-d2) - spot * normal(-d1)
    } else {
        spot * normal(d1) - discounted * normal(d2)
    }
}

/// Options and their prices.
#[derive(Debug)]
pub struct Pricing {
    options: Vec<Contract>,
    prices: Vec<f32>,
    threads: usize,
    moving: bool,
    passes: u64,
}

/// Options in one unit of work.
pub const UNIT: usize = 10_000;

impl Pricing {
    /// `count` options, the same ones every time. `moving`: spots move with each pass.
    pub fn new(count: usize, threads: usize, moving: bool) -> Self {
        let mut rng = Rng::new(7);
        let mut between = |low: f64, high: f64| (low + rng.fraction() * (high - low)) as f32;
        let options: Vec<Contract> = (0..count)
            .map(|i| Contract {
                spot: between(40.0, 160.0),
                strike: between(50.0, 150.0),
                rate: between(0.01, 0.1),
                volatility: between(0.05, 0.65),
                years: between(0.05, 1.0),
                put: i % 2 == 1,
            })
            .collect();
        // Priced once: a run shall rewrite prices, and not fill an empty array.
        let prices = |option: &Contract| price(option, f64::from(option.spot)) as f32;
        Self {
            prices: options.iter().map(prices).collect(),
            options,
            threads,
            moving,
            passes: 0,
        }
    }

    /// Prices `units` times [`UNIT`] options. Each thread has its part of the array and goes round
    /// in it.
    pub fn run(&mut self, units: u64) -> Outcome {
        let part = self.options.len().div_ceil(self.threads);
        let work = (units * UNIT as u64).div_ceil(self.threads as u64);
        let (moving, first) = (self.moving, self.passes);
        let parts = self
            .options
            .chunks(part)
            .zip(self.prices.chunks_mut(part))
            .collect();
        let (seconds, passes) = on_slices(parts, |(options, prices): (&[Contract], &mut [f32])| {
            let (mut left, mut pass) = (work, first);
            while left > 0 {
                pass += 1;
                // A market that drifts by a hundredth of a per cent and comes back.
                let factor = if moving {
                    1.0 + 0.0001 * (pass % 64) as f64
                } else {
                    1.0
                };
                let count = left.min(options.len() as u64);
                for (option, out) in options.iter().zip(prices.iter_mut()).take(count as usize) {
                    *out = price(option, f64::from(option.spot) * factor) as f32;
                }
                left -= count;
            }
            pass
        });
        self.passes = passes.into_iter().max().unwrap_or(first);
        Outcome {
            seconds,
            units,
            check: Some(self.prices.iter().map(|p| f64::from(*p)).sum()),
            ..Outcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(
        spot: f32,
        strike: f32,
        rate: f32,
        volatility: f32,
        years: f32,
        put: bool,
    ) -> Contract {
        Contract {
            spot,
            strike,
            rate,
            volatility,
            years,
            put,
        }
    }

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746),
            (-1.0, 0.158_655_254),
            (1.96, 0.975_002_105),
            (-3.0, 0.001_349_898),
        ] {
            assert!((normal(x) - expected).abs() < 1e-7, "{x}: {}", normal(x));
        }
    }

    #[test]
    fn prices_are_those_of_the_textbook() {
        // Hull, "Options, Futures, and Other Derivatives", example of the Black-Scholes formula:
        // 42, 40, 10 %, 20 %, half a year: call 4.76, put 0.81.
        let call = contract(42.0, 40.0, 0.1, 0.2, 0.5, false);
        assert!((price(&call, 42.0) - 4.759_422).abs() < 1e-4);
        let put = Contract { put: true, ..call };
        assert!((price(&put, 42.0) - 0.808_600).abs() < 1e-4);
    }

    #[test]
    fn calls_and_puts_are_at_parity() {
        // call - put = spot - discounted strike, whatever the volatility.
        let market = Pricing::new(2000, 1, false);
        for option in &market.options {
            let spot = f64::from(option.spot);
            let call = price(
                &Contract {
                    put: false,
                    ..*option
                },
                spot,
            );
            let put = price(
                &Contract {
                    put: true,
                    ..*option
                },
                spot,
            );
            let forward = spot
                - f64::from(option.strike)
                    * (-f64::from(option.rate) * f64::from(option.years)).exp();
            assert!(
                (call - put - forward).abs() < 1e-4,
                "{option:?}: {call} {put}"
            );
        }
    }

    #[test]
    fn every_price_is_written_by_any_number_of_threads() {
        let mut expected = None;
        for threads in 1..=3 {
            let mut pricing = Pricing::new(UNIT, threads, false);
            pricing.prices.fill(0.0);
            let outcome = pricing.run(2);
            for (option, got) in pricing.options.iter().zip(&pricing.prices) {
                let exact = price(option, f64::from(option.spot)) as f32;
                assert!((exact - got).abs() < 1e-6);
            }
            let sum = outcome.check.unwrap();
            assert!((expected.get_or_insert(sum).to_owned() - sum).abs() < 1e-3);
        }
    }

    #[test]
    fn a_moving_market_changes_the_prices() {
        let mut market = Pricing::new(1000, 1, true);
        market.run(1);
        let before = market.prices.clone();
        market.run(1);
        assert!(
            market
                .prices
                .iter()
                .zip(&before)
                .filter(|(a, b)| a.to_bits() != b.to_bits())
                .count()
                > 500
        );
    }
}
