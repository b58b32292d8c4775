//! Something to debug in Rust: enums, slices, generics, closures, thread-locals, threads.
#![allow(dead_code, reason = "a debugger reads the fields")]
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Debug, Clone)]
enum Shape {
    Circle { radius: f64 },
    Named(String, Vec<u32>),
}

static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static TABLE: [u16; 4] = [10, 20, 30, 40];
thread_local!(static LEVEL: Cell<u32> = const { Cell::new(0) });

#[inline(never)]
fn descend(shapes: &[Shape], depth: u32, spin: bool) -> u32 {
    let mut own = shapes.to_vec();
    own.push(Shape::Circle { radius: f64::from(depth) });
    LEVEL.with(|l| l.set(depth));
    if depth > 0 {
        let below = descend(&own, depth - 1, spin);
        return black_box(below) + u32::from(TABLE[(depth % 4) as usize]);
    }
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    let mut turns = 0u32;
    loop {
        turns = black_box(turns.wrapping_add(1));
        if !spin {
            std::thread::sleep(Duration::from_secs(600));
        }
    }
}

fn main() {
    let first = vec![Shape::Named("first".into(), vec![1, 2, 3])];
    for i in 0..2 {
        let shapes = first.clone();
        std::thread::spawn(move || descend(&shapes, 2 + i, i == 1));
    }
    while ARRIVED.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    println!("ready {}", std::process::id());
    black_box(descend(&first, 3, false));
}
