//! `still debug --dap`: an editor at a moment.

use crate::args::debug::DebugArgs;
use crate::exit::{Code, fail};
use anyhow::Context as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use stillframe_debugger::dap::arguments::Launch;
use stillframe_debugger::dap::recorded;
use stillframe_linux::signals::Interrupts;

/// Serves an editor on standard input and output, or those that connect, one after the other.
pub fn run(args: &DebugArgs) -> anyhow::Result<u8> {
    let recording = match &args.moment {
        Some(text) => Some(text.to_str().map(str::to_owned).ok_or_else(|| {
            let shown = text.to_string_lossy();
            fail(
                Code::Usage,
                format!("{shown} is not UTF-8; rename the recording"),
            )
        })?),
        None => None,
    };
    let defaults = Launch {
        recording,
        process: args.process.process,
        pid: args.process.pid,
        force: args.force,
        debug_dirs: args.debug_dirs.clone(),
        ..Launch::default()
    };
    let Some(address) = &args.listen else {
        // Ctrl-C is for the editor; it closes the stream when it wants us to end.
        let _interrupts = Interrupts::new()?;
        recorded::serve(std::io::stdin(), &mut std::io::stdout().lock(), &defaults)?;
        return Ok(0);
    };
    let listener = bind(address, args.allow_remote)?;
    let interrupts = Interrupts::new()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    let once = args.once;
    let serving = std::thread::spawn(move || accept(&listener, &defaults, once));
    while !serving.is_finished() && interrupts.take().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(0)
}

/// Serves clients one after the other.
fn accept(listener: &TcpListener, defaults: &Launch, once: bool) {
    loop {
        let served = listener
            .accept()
            .and_then(|(stream, _)| session(stream, defaults));
        if let Err(error) = served {
            // A client that breaks off harms nobody but itself.
            tracing::warn!("{error}");
        }
        if once {
            return;
        }
    }
}

fn session(mut stream: TcpStream, defaults: &Launch) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let input = stream.try_clone()?;
    let served = recorded::serve(input, &mut stream, defaults);
    // The reading thread may still wait for more.
    let _ = stream.shutdown(std::net::Shutdown::Both);
    served
}

fn bind(address: &str, remote: bool) -> anyhow::Result<TcpListener> {
    let parsed: SocketAddr = address.parse().map_err(|_| {
        fail(
            Code::Usage,
            format!("{address} is no address for --dap; write 127.0.0.1:PORT, with port 0 for any"),
        )
    })?;
    if !parsed.ip().is_loopback() && !remote {
        return Err(fail(
            Code::Usage,
            format!("other machines can reach {address}; add --allow-remote if they should"),
        ));
    }
    TcpListener::bind(parsed).with_context(|| format!("cannot listen on {address}"))
}
