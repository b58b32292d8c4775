//! Every kind of store in Rust. Prints one line for each: seen, missed, or idle (wrote nothing).
#![allow(static_mut_refs, unused_must_use, clippy::all)]
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, LinkedList, VecDeque};
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

unsafe extern "C" {
    fn still_inproc_try(f: extern "C" fn(*mut c_void) -> i32, a: *mut c_void) -> i32;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(status: i32) -> !;
}

static mut COUNTER: u32 = 5;
thread_local! { static LOCAL: Cell<u32> = const { Cell::new(1) }; }

struct World {
    vec: Vec<u32>,
    text: String,
    hash: HashMap<u32, String>,
    tree: BTreeMap<u32, u32>,
    deque: VecDeque<u32>,
    boxed: Box<[u32; 20]>,
    rc: Rc<RefCell<Vec<u32>>>,
    arc: Arc<u32>,
    option: Option<String>,
    mutex: Mutex<u32>,
    call: Box<dyn Fn(u32) -> u32>,
    list: LinkedList<u32>,
    heap: BinaryHeap<u32>,
    set: BTreeSet<u32>,
    once: OnceCell<u32>,
    lock: OnceLock<u32>,
}

impl World {
    fn new() -> Self {
        Self {
            vec: vec![4, 7, 2, 8],
            text: "some text".to_owned(),
            hash: (0..10).map(|n| (n, n.to_string())).collect(),
            tree: (0..50).map(|n| (n, n)).collect(),
            deque: VecDeque::from([1]),
            boxed: Box::new([1; 20]),
            rc: Rc::new(RefCell::new(vec![1])),
            arc: Arc::new(5),
            option: Some("there".to_owned()),
            mutex: Mutex::new(1),
            call: Box::new(|n| n),
            list: LinkedList::from([1, 2]),
            heap: BinaryHeap::from([3]),
            set: BTreeSet::from([1, 5]),
            once: OnceCell::new(),
            lock: OnceLock::new(),
        }
    }

    fn content(&self) -> String {
        let mut hash: Vec<_> = self.hash.iter().collect();
        hash.sort();
        format!(
            "{:?} {:?} {hash:?} {:?} {:?} {:?} {:?} {} {} {} {:?} {:?} {} {:?} {} {:?} {:?} {:?} {} {}",
            self.vec, self.text, self.tree, self.deque, self.boxed, self.rc, Rc::strong_count(&self.rc),
            Arc::strong_count(&self.arc), self.arc, self.option, self.mutex.try_lock().map(|g| *g).ok(),
            (self.call)(1), self.list, self.heap.len(), self.set, self.once, self.lock,
            LOCAL.with(Cell::get), unsafe { COUNTER },
        )
    }
}

type Raw = fn(*mut u8);
type Held = fn(&mut World);

enum Body {
    Raw(Raw),
    Held(Held),
}

struct Place {
    arena: Vec<u64>,
    world: World,
    body: Body,
}

impl Place {
    fn run(&mut self) {
        match self.body {
            Body::Raw(f) => f(self.arena.as_mut_ptr().cast::<u8>().wrapping_add(1024)),
            Body::Held(f) => f(&mut self.world),
        }
    }
    fn content(&self) -> (Vec<u64>, String) {
        (self.arena.clone(), self.world.content())
    }
}

extern "C" fn call(p: *mut c_void) -> i32 {
    let place = unsafe { &mut *p.cast::<Place>() };
    std::hint::black_box(place).run();
    1
}

fn kind(name: &str, body: fn() -> Body) {
    let child = unsafe { fork() };
    if child != 0 {
        let mut status = 0;
        unsafe { waitpid(child, &mut status, 0) };
        if status != 0 {
            println!("{name}\tmissed");
        }
        return;
    }
    let place = || Place {
        arena: (0..512u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect(),
        world: World::new(),
        body: body(),
    };
    let mut once = place();
    let before = once.content();
    std::hint::black_box(&mut once).run();
    let writes = once.content() != before;
    // Two of them, so that one that ran has warmed up what is made once.
    let mut place = place();
    let before = place.content();
    let ended = unsafe { still_inproc_try(call, (&raw mut place).cast()) };
    let same = std::hint::black_box(&place).content() == before;
    let word = if ended != 1 {
        "refused"
    } else if !writes {
        "idle"
    } else if same {
        "seen"
    } else {
        "missed"
    };
    println!("{name}\t{word}");
    unsafe { _exit(0) }
}

fn main() {
    let _ = LOCAL.with(Cell::get);
    println!();
    kind("store_u8", || Body::Raw(|p| { unsafe { p.cast::<u8>().write(7 as u8) } }));
    kind("store_u16", || Body::Raw(|p| { unsafe { p.cast::<u16>().write(7 as u16) } }));
    kind("store_u32", || Body::Raw(|p| { unsafe { p.cast::<u32>().write(7 as u32) } }));
    kind("store_u64", || Body::Raw(|p| { unsafe { p.cast::<u64>().write(7 as u64) } }));
    kind("store_u128", || Body::Raw(|p| { unsafe { p.cast::<u128>().write(7 as u128) } }));
    kind("store_f32", || Body::Raw(|p| { unsafe { p.cast::<f32>().write(7 as f32) } }));
    kind("store_f64", || Body::Raw(|p| { unsafe { p.cast::<f64>().write(7 as f64) } }));
    kind("store_usize", || Body::Raw(|p| { unsafe { p.cast::<usize>().write(7 as usize) } }));
    kind("store_bool", || Body::Raw(|p| { unsafe { p.cast::<bool>().write(*p & 1 == 0) } }));
    kind("store_char", || Body::Raw(|p| { unsafe { p.cast::<char>().write('x') } }));
    kind("unaligned", || Body::Raw(|p| { unsafe { p.add(61).cast::<u64>().write_unaligned(9) } }));
    kind("volatile", || Body::Raw(|p| { unsafe { p.cast::<u32>().write_volatile(9) } }));
    kind("add_assign", || Body::Raw(|p| { unsafe { let r = &mut *p.cast::<u32>(); *r = r.wrapping_add(3) } }));
    kind("xor_assign", || Body::Raw(|p| { unsafe { *p.cast::<u64>() ^= 0xff } }));
    kind("struct_copy", || Body::Raw(|p| { unsafe { *p.cast::<[u64; 13]>() = *p.add(1024).cast::<[u64; 13]>() } }));
    kind("struct_write", || Body::Raw(|p| { unsafe { p.cast::<(u32, f64, u8)>().write((1, 2.0, 3)) } }));
    kind("array_fill", || Body::Raw(|p| { unsafe { *p.cast::<[u32; 50]>() = [9; 50] } }));
    kind("ptr_copy", || Body::Raw(|p| { unsafe { std::ptr::copy_nonoverlapping(p.add(1024), p, 333) } }));
    kind("ptr_copy_overlap", || Body::Raw(|p| { unsafe { std::ptr::copy(p, p.add(7), 200) } }));
    kind("write_bytes", || Body::Raw(|p| { unsafe { p.write_bytes(5, 100) } }));
    kind("mem_swap", || Body::Raw(|p| { unsafe { std::mem::swap(&mut *p.cast::<u64>(), &mut *p.add(128).cast::<u64>()) } }));
    kind("mem_replace", || Body::Raw(|p| { unsafe { std::mem::replace(&mut *p.cast::<u64>(), 4); } }));
    kind("slice_fill", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; s.fill(6); }));
    kind("slice_copy", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; s.copy_within(100..200, 0); }));
    kind("slice_sort", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; s.sort(); }));
    kind("slice_sort_unstable", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; s.sort_unstable(); }));
    kind("slice_reverse", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; s.reverse(); }));
    kind("slice_rotate", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; s.rotate_left(13); }));
    kind("slice_swap", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; s.swap(3, 500); s[3] ^= 1; }));
    kind("iter_mut", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; for b in s.iter_mut() { *b = b.wrapping_mul(3); } }));
    kind("chunks", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; for c in s.chunks_exact_mut(8) { c[3] ^= 1; } }));
    kind("zip", || Body::Raw(|p| { let s = unsafe { std::slice::from_raw_parts_mut(p, 1000) }; let (a, b) = s.split_at_mut(500); for (x, y) in a.iter_mut().zip(b) { *x ^= *y; } }));
    kind("atomic_store_u8", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU8>()).store(77, Ordering::SeqCst) } }));
    kind("atomic_add_u8", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU8>()).fetch_add(77, Ordering::Relaxed); } }));
    kind("atomic_store_u32", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU32>()).store(77, Ordering::SeqCst) } }));
    kind("atomic_add_u32", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU32>()).fetch_add(77, Ordering::Relaxed); } }));
    kind("atomic_store_u64", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU64>()).store(77, Ordering::SeqCst) } }));
    kind("atomic_add_u64", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU64>()).fetch_add(77, Ordering::Relaxed); } }));
    kind("atomic_swap", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU32>()).swap(1, Ordering::AcqRel); } }));
    kind("atomic_cas", || Body::Raw(|p| { unsafe { let a = &*p.cast::<AtomicU32>(); let _ = a.compare_exchange(a.load(Ordering::Relaxed), 5, Ordering::SeqCst, Ordering::Relaxed); } }));
    kind("atomic_max", || Body::Raw(|p| { unsafe { (*p.cast::<AtomicU32>()).fetch_max(u32::MAX, Ordering::SeqCst); } }));
    kind("asm_store", || Body::Raw(|p| { unsafe { core::arch::asm!("mov dword ptr [{0}], 99", in(reg) p) } }));
    kind("sse_store", || Body::Raw(|p| { unsafe { std::arch::x86_64::_mm_storeu_si128(p.add(3).cast(), std::arch::x86_64::_mm_set1_epi8(9)) } }));
    kind("static_mut", || Body::Raw(|p| { unsafe { COUNTER += 1; *p.cast::<u32>() = COUNTER; } }));
    kind("cell", || Body::Raw(|p| { unsafe { (*p.cast::<Cell<u32>>()).set(9) } }));
    kind("refcell", || Body::Raw(|p| { unsafe { *(*p.cast::<Cell<u64>>()).as_ptr() += 9 } }));
    kind("vec_push", || Body::Held(|w| { for i in 0..100 { w.vec.push(i) } }));
    kind("vec_clear", || Body::Held(|w| { w.vec.clear() }));
    kind("vec_insert", || Body::Held(|w| { w.vec.insert(1, 50) }));
    kind("vec_extend", || Body::Held(|w| { w.vec.extend_from_slice(&[1, 2, 3]) }));
    kind("vec_drain", || Body::Held(|w| { w.vec.drain(1..3); }));
    kind("vec_sort", || Body::Held(|w| { w.vec.sort_by(|a, b| b.cmp(a)) }));
    kind("vec_retain", || Body::Held(|w| { w.vec.retain(|n| n % 2 == 0) }));
    kind("string_push", || Body::Held(|w| { w.text.push_str(" and more than there was room for before") }));
    kind("string_insert", || Body::Held(|w| { w.text.insert(0, 'x') }));
    kind("string_format", || Body::Held(|w| { w.text = format!("{} {}", w.vec.len(), 3.5) }));
    kind("string_upper", || Body::Held(|w| { w.text.make_ascii_uppercase() }));
    kind("hashmap_insert", || Body::Held(|w| { for i in 0..100 { w.hash.insert(i, format!("n{i}")); } }));
    kind("hashmap_remove", || Body::Held(|w| { w.hash.remove(&3); }));
    kind("hashmap_entry", || Body::Held(|w| { *w.hash.entry(3).or_default() += "x"; }));
    kind("btree_insert", || Body::Held(|w| { for i in 0..200 { w.tree.insert(i * 7 % 211, i); } }));
    kind("btree_remove", || Body::Held(|w| { for i in 0..30 { w.tree.remove(&i); } }));
    kind("deque", || Body::Held(|w| { for i in 0..50 { w.deque.push_front(i); w.deque.push_back(i); } }));
    kind("box_replace", || Body::Held(|w| { w.boxed = Box::new([9; 20]) }));
    kind("box_write", || Body::Held(|w| { w.boxed[3] = 77 }));
    kind("rc_clone", || Body::Held(|w| { std::mem::forget(w.rc.clone()) }));
    kind("rc_refcell", || Body::Held(|w| { w.rc.borrow_mut().push(4) }));
    kind("arc", || Body::Held(|w| { std::mem::forget(w.arc.clone()) }));
    kind("option_take", || Body::Held(|w| { w.option.take(); }));
    kind("enum_change", || Body::Held(|w| { w.option = Some("other".to_owned()) }));
    kind("mutex", || Body::Held(|w| { *w.mutex.lock().unwrap() += 5 }));
    kind("boxed_closure", || Body::Held(|w| { let n = w.vec.len() as u32; w.call = Box::new(move |x| x + n) }));
    kind("linked_list", || Body::Held(|w| { w.list.push_back(5) }));
    kind("heap", || Body::Held(|w| { for i in 0..30 { w.heap.push(i * 7 % 31); } }));
    kind("btreeset", || Body::Held(|w| { w.set.extend(0..40) }));
    kind("once_cell", || Body::Held(|w| { let _ = w.once.get_or_init(|| 5); }));
    kind("once_lock", || Body::Held(|w| { let _ = w.lock.get_or_init(|| 5); }));
    kind("thread_local", || Body::Held(|w| { LOCAL.with(|l| l.set(l.get() + 1)) }));
    kind("panic_caught", || Body::Held(|w| { let _ = std::panic::catch_unwind(|| { let v = vec![1]; std::panic::resume_unwind(Box::new(v)) }); w.vec.push(1) }));
    kind("parse", || Body::Held(|w| { w.vec.push("123".parse().unwrap()) }));
    kind("read_to_string", || Body::Held(|w| { w.text = std::fs::read_to_string("/proc/self/comm").unwrap() }));
    kind("io_read", || Body::Held(|w| { use std::io::Read; let mut b = [0; 4]; std::fs::File::open("/proc/self/exe").unwrap().read_exact(&mut b).unwrap(); w.vec.extend(b.map(u32::from)) }));
    kind("cursor", || Body::Held(|w| { use std::io::Write; let mut c = std::io::Cursor::new(Vec::new()); c.write_all(b"abc").unwrap(); w.vec.push(c.into_inner().len() as u32) }));
    kind("drop_all", || Body::Held(|w| { *w = World::new() }));
}
