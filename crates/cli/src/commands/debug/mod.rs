//! `still debug`.

mod dap;
mod gdb;
mod lldb;

use crate::args::debug::DebugArgs;
use crate::exit::{Code, fail};
use crate::open;
use anyhow::Context as _;
use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use stillframe_debugger::gdb::{Address, Connection, Error, Listener, Server, Settings};
use stillframe_linux::signals::Interrupts;

/// Starts a debugger on a moment, or serves those that come.
pub fn run(args: &DebugArgs) -> anyhow::Result<u8> {
    if args.dap {
        return dap::run(args);
    }
    let Some(moment) = &args.moment else {
        return Err(fail(Code::Usage, "which moment? write REC@N or REC@last"));
    };
    let opened = open::moment(moment)?;
    let process = open::process(&opened.recording, opened.id, &args.process)?.id;
    let settings = Settings {
        recording: opened.path,
        force: args.force,
        debug_dirs: args.debug_dirs.clone(),
    };
    let server = Server::new(opened.recording, opened.id, process, settings).map_err(failed)?;
    if args.stdio {
        return stdio(server);
    }
    if let Some(text) = &args.listen {
        return listen(server, args, text);
    }
    let place = Place::new()?;
    let address = Address::Unix(place.file("server"));
    let listener = Listener::bind(&address, false).map_err(failed)?;
    let command = match &args.lldb {
        Some(program) => lldb::command(program, args, &server, &place, &address)?,
        None => gdb::command(args, &server, &place, &address)?,
    };
    // Ctrl-C belongs to the debugger; it reaches us as well, being in the same group.
    let interrupts = Interrupts::new()?;
    serve(server, listener, false);
    started(command, &interrupts)
}

/// An error of the server with its exit code.
fn failed(error: Error) -> anyhow::Error {
    match error {
        Error::Store(error) => error.into(),
        Error::Address(_) | Error::Remote(_) => fail(Code::Usage, error.to_string()),
        Error::NoThreads { .. } => fail(Code::Recording, error.to_string()),
        other => other.into(),
    }
}

fn stdio(mut server: Server) -> anyhow::Result<u8> {
    // Ctrl-C is for the debugger that started us, which tells us in its own way.
    let _interrupts = Interrupts::new()?;
    server.serve(&Connection::Standard).map_err(failed)?;
    Ok(0)
}

fn listen(server: Server, args: &DebugArgs, text: &str) -> anyhow::Result<u8> {
    let address: Address = text.parse().map_err(failed)?;
    let interrupts = Interrupts::new()?;
    let listener = Listener::bind(&address, args.allow_remote).map_err(failed)?;
    let address = listener.address().map_err(failed)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {address}")?;
    out.flush()?;
    let serving = serve(server, listener, args.once);
    while !serving.is_finished() {
        if interrupts.take().is_some() {
            if let Address::Unix(path) = &address {
                let _ = std::fs::remove_file(path);
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(0)
}

/// Serves in a thread of its own, which lasts as long as the process.
fn serve(mut server: Server, listener: Listener, once: bool) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        loop {
            let served = listener
                .accept()
                .and_then(|connection| server.serve(&connection));
            match served {
                // A debugger that is killed leaves a broken connection, which harms nobody else.
                Err(Error::Connection(error)) => tracing::debug!("{error}"),
                Err(error) => tracing::warn!("{error}"),
                Ok(()) => {}
            }
            if once {
                return;
            }
        }
    })
}

/// Runs a debugger to its end; its status is ours.
fn started(mut command: Command, interrupts: &Interrupts) -> anyhow::Result<u8> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = match command.spawn() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(fail(
                Code::Failure,
                format!(
                    "there is no {program} here; install it, name another with --gdb PATH or \
                     --lldb=PATH, or use --listen"
                ),
            ));
        }
        other => other.with_context(|| format!("cannot start {program}"))?,
    };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(code(status));
        }
        // What a terminal sends, the debugger has got as well.
        if let Some(interrupt) = interrupts.take()
            && !interrupt.from_terminal
        {
            interrupt.pass_on(child.id());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A status as a shell reports it.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// A private directory that goes away with us.
struct Place(PathBuf);

impl Place {
    fn new() -> anyhow::Result<Self> {
        let mut n = 0u32;
        loop {
            let name = format!("still-debug-{}-{n}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && n < 1000 => n += 1,
                made => {
                    made.with_context(|| format!("cannot make {}", path.display()))?;
                    return Ok(Self(path));
                }
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.file(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The path of a socket, as debuggers want it in a command.
fn socket(address: &Address) -> anyhow::Result<&Path> {
    match address {
        Address::Unix(path) => Ok(path),
        Address::Tcp(_) => Err(fail(Code::Failure, "the debugger needs a socket's path")),
    }
}
