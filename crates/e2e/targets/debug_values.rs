//! Values of every kind that Rust has, for questions about them: see scenarios/expressions.rs.
#![allow(dead_code, reason = "a debugger reads the fields")]
#![allow(static_mut_refs, reason = "one thread")]
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point { x: i32, y: i32 }
#[derive(Debug, Clone)]
struct Pair(u8, f64);
#[derive(Debug, Clone)]
struct Unit;
#[derive(Debug, Clone, Copy)]
enum State { Idle, Running = 5, Done }
#[derive(Debug, Clone)]
enum Shape { Nothing, Circle { radius: f64 }, Named(String, Vec<u32>), Corner(Point) }
struct Generic<T> { value: T, count: usize }
union Bits { whole: u32, real: f32 }
struct Node { value: u32, next: Option<Box<Node>> }
trait Speak { fn speak(&self) -> u32; }
impl Speak for Point { fn speak(&self) -> u32 { self.x as u32 } }

static TABLE: [u16; 4] = [10, 20, 30, 40];
static ORIGIN: Point = Point { x: 3, y: -4 };
static GREETING: &str = "hello";
static STATE: State = State::Running;
static COUNT: AtomicUsize = AtomicUsize::new(7);
static FLAG: AtomicBool = AtomicBool::new(true);
static ZEROS: [u8; 64] = [0; 64];
static SHAPES: [Option<u8>; 2] = [Some(9), None];
static GRID: [[i32; 3]; 2] = [[1, 2, 3], [4, 5, 6]];
static mut CHANGED: i64 = -5;
static mut NUMBER: u64 = 1 << 63;
static mut SMALL: i8 = -8;
static mut BYTE: u8 = 250;
static mut WIDE: u128 = 1 << 100;
static mut REAL: f64 = 0.1;
static mut SINGLE: f32 = 1.1;
static mut YES: bool = true;
static mut LETTER: char = 'r';
static mut TUPLE: (i32, u8, bool) = (1, 2, true);
static mut PAIR: Pair = Pair(4, 4.5);
static mut UNIT: Unit = Unit;
static mut SIZE: usize = 4096;
static mut BITS: Bits = Bits { whole: 0x4049_0fdb };
static mut POINTS: [Point; 3] = [Point { x: 1, y: 2 }, Point { x: 3, y: 4 }, Point { x: 5, y: 6 }];
static mut POINTER: *const Point = &raw const ORIGIN;
static mut REFERENCE: &Point = &ORIGIN;
static mut SLICE: &[u16] = &TABLE;
static mut FUNCTION: fn(i32) -> i32 = double;
static mut MAYBE: Option<u32> = Some(12);
static mut NEVER: Option<u32> = None;
static mut POSSIBLY: Option<&Point> = Some(&ORIGIN);
static mut OUTCOME: Result<u8, i32> = Err(-3);
static mut CORNER: Shape = Shape::Corner(Point { x: 8, y: 9 });
static mut ROUND: Shape = Shape::Circle { radius: 2.5 };
static mut PLAIN: Shape = Shape::Nothing;
static mut GENERIC: Generic<i16> = Generic { value: -16, count: 3 };
static mut ORDER: std::cmp::Ordering = std::cmp::Ordering::Less;

mod inner {
    pub static VALUE: u32 = 1234;
    pub mod deeper { pub static VALUE: u32 = 5678; }
}

fn double(x: i32) -> i32 { x * 2 }
fn calls() -> u32 {
    static CALLS: AtomicU32 = AtomicU32::new(20);
    CALLS.fetch_add(1, Ordering::SeqCst)
}

struct Held {
    text: String, empty: String, numbers: Vec<u32>, words: Vec<String>, nothing: Vec<u8>,
    map: HashMap<String, u32>, by_number: HashMap<u32, Point>, set: HashSet<u32>,
    tree: BTreeMap<u32, u64>, sorted: BTreeSet<u16>, ring: VecDeque<i32>,
    boxed: Box<Point>, counted: Rc<Point>, shared: Arc<Mutex<u32>>, cell: Cell<u8>, refcell: RefCell<String>,
    shapes: Vec<Shape>, list: Node, dynamic: Box<dyn Speak>, slice: Box<[u16]>, maybe_text: Option<String>,
    ok: Result<String, u32>, nested: Option<Option<u8>>, boxed_text: Box<str>, unit: (),
}

#[inline(never)]
fn work(depth: u32, held: &Held, numbers: &[u32], name: &str, point: Point, shape: &Shape) -> u32 {
    let local = depth * 10;
    let copy = held.numbers.clone();
    let tuple = (depth, name.len(), true);
    let text = format!("depth {depth}");
    let state = if depth == 0 { State::Done } else { State::Idle };
    let some = Some(local);
    let array = [depth, 1, 2];
    if depth > 0 {
        let local = i64::from(depth) - 100;
        return work(depth - 1, held, &numbers[1..], name, point, shape) + (black_box(local) as u32);
    }
    println!("ready {}", std::process::id());
    loop { black_box((&local, &copy, &tuple, &text, &state, &some, &array)); std::thread::sleep(Duration::from_secs(600)); }
}

fn main() {
    let counted = Rc::new(Point { x: 70, y: 80 });
    let _other = Rc::clone(&counted);
    let mut ring: VecDeque<i32> = (0..6).collect();
    ring.rotate_left(2); ring.pop_front(); ring.push_back(-1);
    let held = Held {
        text: "a string".into(), empty: String::new(), numbers: vec![1, 2, 3, 5, 8], words: vec!["alpha".into(), "beta".into()], nothing: Vec::new(),
        map: HashMap::from([("one".to_owned(), 1)]), by_number: HashMap::from([(7, Point { x: 1, y: 1 })]), set: HashSet::from([33]),
        tree: (0..30).map(|i| (i, u64::from(i) * 10)).collect(), sorted: BTreeSet::from([3, 1, 2]), ring,
        boxed: Box::new(Point { x: 50, y: 60 }), counted, shared: Arc::new(Mutex::new(88)), cell: Cell::new(6), refcell: RefCell::new("inside".into()),
        shapes: vec![Shape::Nothing, Shape::Circle { radius: 1.5 }, Shape::Named("n".into(), vec![4, 5]), Shape::Corner(ORIGIN)],
        list: Node { value: 1, next: Some(Box::new(Node { value: 2, next: None })) },
        dynamic: Box::new(ORIGIN), slice: Box::new([1, 2, 3]), maybe_text: Some("perhaps".into()),
        ok: Ok("fine".into()), nested: Some(None), boxed_text: "boxed".into(), unit: (),
    };
    COUNT.fetch_add(calls() as usize - 20, Ordering::SeqCst);
    unsafe {
        CHANGED -= 1; BYTE -= 1; MAYBE = Some(13); WIDE += 1; NUMBER += 5; SMALL -= 1; LETTER = 's';
        black_box((&CHANGED, &REAL, &SINGLE, &YES, &TUPLE, &PAIR, &UNIT, &SIZE, &BITS, &POINTS, &POINTER, &REFERENCE));
        black_box((&SLICE, &FUNCTION, &NEVER, &POSSIBLY, &OUTCOME, &CORNER, &ROUND, &PLAIN, &GENERIC, &ORDER));
    }
    black_box((&TABLE, &ORIGIN, &GREETING, &STATE, &FLAG, &ZEROS, &SHAPES, &GRID, &inner::VALUE, &inner::deeper::VALUE));
    let numbers = [9, 8, 7, 6];
    black_box(work(2, &held, &numbers, "argument", Point { x: -1, y: -2 }, &held.shapes[2]) + held.dynamic.speak());
}
