//! What a debugger sends to the server: each line is a packet's content, or bytes as they are if it
//! begins with a `!`.
#![no_main]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock};
use stillframe_debugger::gdb::{Connection, Server, Settings};
use stillframe_image::{CheckpointId, SpaceId};
use stillframe_store::Recording;

fn server() -> &'static Mutex<Server> {
    static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
    SERVER.get_or_init(|| {
        let recording = Recording::open(stillframe_fuzz::recording()).expect("a recording");
        let settings = Settings {
            // Bookmarks are refused: they would be written.
            recording: "/nonexistent".into(),
            ..Settings::default()
        };
        let server = Server::new(recording, CheckpointId(3), SpaceId(0), settings);
        Mutex::new(server.expect("a server"))
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut sent = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        match line.strip_prefix(b"!") {
            Some(raw) => sent.extend_from_slice(raw),
            None => {
                let sum = line.iter().fold(0u8, |s, b| s.wrapping_add(*b));
                sent.push(b'$');
                sent.extend_from_slice(line);
                sent.extend_from_slice(format!("#{sum:02x}").as_bytes());
            }
        }
    }
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let mut reading = ours.try_clone().expect("a descriptor");
    let client = std::thread::spawn(move || {
        let mut writing = &ours;
        let _ = writing.write_all(&sent);
        let _ = ours.shutdown(std::net::Shutdown::Write);
    });
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(reading.read(&mut buffer), Ok(1..)) {}
    });
    if let Ok(mut server) = server().lock() {
        let _ = server.serve(&Connection::Unix(theirs));
    }
    let _ = (client.join(), reader.join());
});
