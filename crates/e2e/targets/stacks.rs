//! Stands still where Rust is hard to unwind: in a panic hook, in a destructor that a panic runs,
//! under closures and iterators that were inlined. Optimised.
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static ARRIVED: AtomicUsize = AtomicUsize::new(0);

#[inline(never)]
fn rest() {
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    loop {
        std::thread::sleep(Duration::from_secs(600));
    }
}

struct Guard<T>(T);

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            rest();
        }
    }
}

trait Visit {
    fn visit(&self, depth: u32) -> u32;
}

impl Visit for Vec<u32> {
    #[inline(never)]
    fn visit(&self, depth: u32) -> u32 {
        self.iter()
            .map(|n| {
                if *n + depth == 9 {
                    rest();
                }
                n.wrapping_mul(depth)
            })
            .sum()
    }
}

#[inline(never)]
fn fall(depth: u32) -> u32 {
    let guard = Guard(vec![depth]);
    assert!(depth != 0, "down");
    let below = fall(depth - 1);
    black_box(&guard.0);
    below + 1
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::spawn(|| black_box(fall(4)));
    std::thread::Builder::new()
        .name("visitor".into())
        .spawn(|| {
            let all: Box<dyn Visit> = Box::new(vec![1, 2, 4]);
            black_box(all.visit(black_box(5)))
        })
        .unwrap();
    while ARRIVED.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    println!("ready {}", std::process::id());
    rest();
}
