//! A service in Rust: threads, a table behind a mutex, an atomic. Each line `add NAME N` of a client
//! adds N to what NAME has, and is answered with the sum of all.
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

struct State {
    total: u64,
    last: String,
    accounts: BTreeMap<String, u64>,
    /// The newest sums.
    recent: Vec<u64>,
}

static SERVED: AtomicU64 = AtomicU64::new(0);
static STATE: Mutex<State> = Mutex::new(State {
    total: 0,
    last: String::new(),
    accounts: BTreeMap::new(),
    recent: Vec::new(),
});

#[inline(never)]
fn add(name: &str, amount: u64) -> u64 {
    let mut guard = STATE.lock().unwrap();
    let state = &mut *guard;
    *state.accounts.entry(name.to_owned()).or_default() += amount;
    state.total += amount;
    state.last = name.to_owned();
    if state.recent.len() == 16 {
        state.recent.remove(0);
    }
    state.recent.push(state.total);
    SERVED.fetch_add(1, Ordering::SeqCst);
    state.total
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next().and_then(|n| n.parse().ok())) {
            (Some("add"), Some(name), Some(amount)) => {
                // In one piece: two small ones wait for each other on the way.
                out.write_all(format!("{}\n", add(name, amount)).as_bytes())?;
            }
            _ => out.write_all(b"what?\n")?,
        }
    }
    Ok(())
}

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("port {}", listener.local_addr().unwrap().port());
    println!("ready {}", std::process::id());
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
}
