//! What an editor sends to the adapter: each line is a message's JSON, or bytes as they are if it
//! begins with a `!`. A recording is open before the first.
#![no_main]

use std::io::Cursor;
use stillframe_debugger::dap::arguments::Launch;
use stillframe_debugger::dap::recorded;

fn framed(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", message.len()).as_bytes());
    out.extend_from_slice(message);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut sent = Vec::new();
    let begin: [&[u8]; 3] = [
        br#"{"seq":1,"type":"request","command":"initialize","arguments":{"adapterID":"f"}}"#,
        br#"{"seq":2,"type":"request","command":"launch","arguments":{}}"#,
        br#"{"seq":3,"type":"request","command":"configurationDone"}"#,
    ];
    for message in begin {
        framed(message, &mut sent);
    }
    for line in bytes.split(|b| *b == b'\n') {
        match line.strip_prefix(b"!") {
            Some(raw) => sent.extend_from_slice(raw),
            None => framed(line, &mut sent),
        }
    }
    let defaults = Launch {
        recording: stillframe_fuzz::recording().to_str().map(str::to_owned),
        ..Launch::default()
    };
    let _ = recorded::serve(Cursor::new(sent), &mut Vec::new(), &defaults);
});
