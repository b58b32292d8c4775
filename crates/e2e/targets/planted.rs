//! A planted history in Rust (planted.h says how it works): statics, a pointer that moves, a box, a
//! thread-local, enumerations with and without data, options, a string and a vector.
#![allow(static_mut_refs, reason = "the program has one thread, and its variables are there to be watched")]
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const RING: usize = 1024;

#[repr(C)]
struct Planted {
    before: AtomicU64,
    after: AtomicU64,
    ring: [AtomicU64; RING],
}

static PLANTED: Planted = Planted {
    before: AtomicU64::new(0),
    after: AtomicU64::new(0),
    ring: [const { AtomicU64::new(0) }; RING],
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Idle,
    Running,
    Failed,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "a debugger reads it")]
enum Shape {
    Point,
    Circle { radius: u64 },
    Named(&'static str),
}

struct Queue {
    len: usize,
    weight: f64,
    rest: [u8; 8192],
}

static mut COUNT: i32 = 0;
static mut TOTAL: u64 = 1 << 63;
static mut PHASE: Phase = Phase::Idle;
static mut SHAPE: Shape = Shape::Point;
static mut CHOICE: Option<NonZeroU32> = None;
static mut QUEUE: *mut Queue = std::ptr::null_mut();
static mut OWNED: Option<Box<Queue>> = None;
static mut TITLE: String = String::new();
static mut SIZES: Vec<i32> = Vec::new();
static mut LABEL: &str = "alpha";
static mut FLAG: bool = false;
static mut LETTER: char = 'a';
thread_local!(static LEVEL: Cell<i32> = const { Cell::new(0) });

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64)
}

fn rest(us: u64) {
    std::thread::sleep(Duration::from_micros(us));
}

struct Teller {
    log: std::io::BufWriter<std::fs::File>,
    seed: u64,
    line: String,
}

impl Teller {
    fn below(&mut self, n: u64) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }

    fn says(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.line, " {name}={value}").unwrap();
    }

    /// One change: `store` makes one aligned store.
    fn change(&mut self, store: impl FnOnce()) {
        let number = PLANTED.after.load(Ordering::Relaxed) + 1;
        let slow = self.below(64);
        let check = number << 32 | self.line.len() as u64;
        PLANTED.ring[number as usize % RING].store(check, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        PLANTED.before.store(number, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        if slow == 0 {
            rest(300);
        }
        let storing = wall();
        compiler_fence(Ordering::SeqCst);
        store();
        compiler_fence(Ordering::SeqCst);
        let stored = wall();
        if slow == 1 {
            rest(300);
        }
        PLANTED.after.store(number, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        writeln!(self.log, "{number} {storing} {stored}{}", self.line).unwrap();
        self.line.clear();
    }

    /// Puts `value` in `place` as a change that makes `name` equal to `shown`.
    fn put<T>(&mut self, place: *mut T, value: T, name: &str, shown: impl std::fmt::Display) {
        self.says(name, shown);
        // SAFETY: the one thread of the program; the place is a static or in an allocation that lives.
        self.change(|| unsafe { place.write_volatile(value) });
    }
}

fn step(t: &mut Teller, queues: &[*mut Queue; 3]) {
    let (what, other) = (t.below(1000), t.below(1000));
    let queue = queues[other as usize % 3];
    // SAFETY: one thread; all pointers are to leaked boxes or statics.
    unsafe {
        match what {
            0..300 => t.put(&raw mut COUNT, COUNT + 1, "COUNT", COUNT + 1),
            300..400 => {
                let len = (*queue).len + 1 + other as usize % 3;
                if queue == QUEUE {
                    t.says("QUEUE.len", len);
                }
                t.change(|| (&raw mut (*queue).len).write_volatile(len));
            }
            400..440 => {
                let weight = (*queue).weight * 0.5 + (other % 8) as f64;
                if queue == QUEUE {
                    t.says("QUEUE.weight", weight);
                }
                t.change(|| (&raw mut (*queue).weight).write_volatile(weight));
            }
            440..460 if queue != QUEUE => {
                t.says("QUEUE.len", (*queue).len);
                t.says("QUEUE.weight", (*queue).weight);
                t.change(|| (&raw mut QUEUE).write_volatile(queue));
            }
            460..500 => t.put(&raw mut TOTAL, TOTAL - 1, "TOTAL", TOTAL - 1),
            500..540 => {
                let phase = [Phase::Idle, Phase::Running, Phase::Failed][other as usize % 3];
                t.put(&raw mut PHASE, phase, "PHASE", format!("{phase:?}"));
            }
            540..580 => {
                let choice = NonZeroU32::new(other as u32 % 4);
                let shown = choice.map_or("None".to_owned(), |n| format!("Some({n})"));
                t.put(&raw mut CHOICE, choice, "CHOICE", shown);
            }
            580..620 => {
                if let Shape::Circle { radius } = &mut *(&raw mut SHAPE) {
                    let shown = *radius + 1;
                    t.put(&raw mut *radius, shown, "SHAPE", format!("Circle{{radius:{shown}}}"));
                }
            }
            620..660 => {
                let byte = b'a' + (other % 26) as u8;
                let mut text = TITLE.clone();
                text.as_bytes_mut()[4] = byte;
                t.put(TITLE.as_mut_ptr().add(4), byte, "TITLE", format!("{text:?}"));
            }
            660..680 => t.put(SIZES.as_mut_ptr().add(1500), other as i32 - 500, "SIZES[1500]", other as i32 - 500),
            680..740 => {
                let place = SIZES.as_mut_ptr().add(1501 + other as usize % 400);
                t.change(|| place.write_volatile(other as i32));
            }
            740..760 => t.put(&raw mut FLAG, !FLAG, "FLAG", !FLAG),
            760..780 => {
                let letter = char::from(b'a' + (other % 26) as u8);
                t.put(&raw mut LETTER, letter, "LETTER", format!("'{letter}'"));
            }
            780..830 => {
                let level = LEVEL.get() - 1;
                t.says("LEVEL", level);
                t.change(|| LEVEL.set(level));
            }
            830..860 => {
                if let Some(owned) = &mut *(&raw mut OWNED) {
                    let len = owned.len + 7;
                    t.put(&raw mut owned.len, len, "OWNED.len", len);
                }
            }
            _ => {
                let place = &raw mut (*queue).rest[other as usize];
                t.change(|| place.write_volatile(other as u8));
            }
        }
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

extern "C" fn on_term(_: i32) {
    STOP.store(true, Ordering::Relaxed);
}

fn argument(name: &str) -> Option<String> {
    let args: Vec<String> = std::env::args().collect();
    args.windows(2).find(|w| w[0] == name).map(|w| w[1].clone())
}

fn main() {
    let seed: u64 = argument("--seed").and_then(|s| s.parse().ok()).unwrap_or(1);
    let path = argument("--log").expect("--log FILE");
    let mut t = Teller {
        log: std::io::BufWriter::with_capacity(1 << 16, std::fs::File::create(path).unwrap()),
        seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        line: String::new(),
    };
    let new = || Box::new(Queue { len: 0, weight: 0.0, rest: [0; 8192] });
    let queues = [(); 3].map(|()| Box::into_raw(new()));
    // SAFETY: SIGTERM only sets a flag; there is one thread.
    unsafe {
        signal(15, on_term);
        QUEUE = queues[0];
        OWNED = Some(new());
        TITLE = "the title of all of this".to_owned();
        SIZES = vec![0; 2000];
        SHAPE = match seed {
            u64::MAX => Shape::Named("never"),
            _ => Shape::Circle { radius: 5 },
        };
    }
    // As they are in memory, so that the compiler takes none of them apart or away.
    std::hint::black_box((&raw mut SIZES, &raw mut LABEL, &raw mut TITLE, &raw mut SHAPE));
    for (name, value) in [
        ("COUNT", "0"), ("QUEUE.len", "0"), ("QUEUE.weight", "0"), ("TOTAL", "9223372036854775808"),
        ("PHASE", "Idle"), ("CHOICE", "None"), ("SHAPE", "Circle{radius:5}"),
        ("TITLE", "\"the title of all of this\""), ("SIZES[1500]", "0"), ("FLAG", "false"),
        ("LETTER", "'a'"), ("LEVEL", "0"), ("OWNED.len", "0"), ("LABEL", "\"alpha\""),
    ] {
        t.says(name, value);
    }
    t.change(|| ());
    // SAFETY: one thread.
    println!("addr planted {:x}\naddr count {:x}\naddr label {:x}", &raw const PLANTED as usize,
        &raw const COUNT as usize, unsafe { LABEL.as_ptr() } as usize);
    println!("ready {}", std::process::id());
    while !STOP.load(Ordering::Relaxed) {
        step(&mut t, &queues);
        match t.below(100) {
            0..30 => {}
            30..97 => rest(t.below(60)),
            _ => rest(3000),
        }
    }
    t.log.flush().unwrap();
    println!("ok changes {}", PLANTED.after.load(Ordering::Relaxed));
}
