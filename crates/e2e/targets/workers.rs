//! A multi-threaded Rust program with a deterministic result: `workers ROUNDS`.
//!
//! Threads pass growing vectors and maps around through channels; the digest does not depend on
//! how they are scheduled.
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::thread;

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn stage(number: u64, input: mpsc::Receiver<Vec<u64>>, output: mpsc::SyncSender<Vec<u64>>) -> u64 {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut recent: BTreeMap<u64, Box<[u64]>> = BTreeMap::new();
    let mut digest = number;
    for (turn, mut batch) in input.iter().enumerate() {
        for v in &mut batch {
            *v = mix(*v ^ number);
            *seen.entry(*v % 20_000).or_insert(0) += 1;
        }
        batch.push(mix(turn as u64));
        recent.insert(batch[0], batch.clone().into_boxed_slice());
        if recent.len() > 500 {
            let (_, dropped) = recent.pop_first().expect("not empty");
            digest = mix(digest ^ dropped.iter().fold(0, |a, b| a ^ b));
        }
        if output.send(batch).is_err() {
            break;
        }
    }
    seen.values().fold(digest, |a, b| a.wrapping_add(mix(*b)))
}

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(2000);
    let (first, mut input) = mpsc::sync_channel(16);
    let mut stages = Vec::new();
    for number in 0..3 {
        let (output, next) = mpsc::sync_channel(16);
        let from = std::mem::replace(&mut input, next);
        stages.push(thread::spawn(move || stage(number, from, output)));
    }
    println!("ready {}", std::process::id());
    let feeder = thread::spawn(move || {
        for round in 0..rounds {
            let batch: Vec<u64> = (0..400).map(|i| mix(round * 1000 + i)).collect();
            if first.send(batch).is_err() {
                break;
            }
        }
    });
    let mut digest = 0u64;
    for batch in input {
        digest = batch.iter().fold(digest, |a, b| mix(a ^ b));
    }
    feeder.join().expect("the feeder");
    for s in stages {
        digest ^= s.join().expect("a stage");
    }
    println!("ok {digest:016x}");
}
