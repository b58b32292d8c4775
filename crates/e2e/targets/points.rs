//! Asks for checkpoints and says which it got: `points ROUNDS`.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static CELL: AtomicU64 = AtomicU64::new(0);

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(10);
    println!("addr cells {:x}", CELL.as_ptr().addr());
    println!("ready {}", std::process::id());
    let waited = stillframe_points::wait_recording(Duration::from_secs(30));
    println!("recording {} {}", u8::from(waited), u8::from(stillframe_points::recording()));
    for i in 1..=rounds {
        CELL.store(i, Ordering::SeqCst);
        stillframe_points::point("t0");
        let number = stillframe_points::checkpoint(&format!("t0.{i}"));
        println!("point 0 {i} {}", number.map_or(-1, |n| i64::try_from(n).unwrap_or(-2)));
    }
    println!("ok");
}
