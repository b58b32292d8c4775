//! Starting LLDB.

use super::{Place, failed, socket};
use crate::args::debug::DebugArgs;
use std::path::Path;
use std::process::Command;
use stillframe_debugger::gdb::{Address, Server};

/// LLDB, connected.
pub fn command(
    program: &Path,
    args: &DebugArgs,
    server: &Server,
    place: &Place,
    address: &Address,
) -> anyhow::Result<Command> {
    let mut lldb = Command::new(program);
    if args.batch {
        lldb.arg("--batch");
    }
    // LLDB opens files of this machine only; the executable comes out of the recording where this
    // machine no longer has it.
    if let Some(path) = server
        .executable(&place.file("executable"))
        .map_err(failed)?
    {
        lldb.arg("-o")
            .arg(format!("target create \"{}\"", path.display()));
    }
    let path = socket(address)?.display();
    lldb.arg("-o").arg(format!(
        "process connect --plugin gdb-remote unix-connect://{path}"
    ));
    lldb.arg("-o")
        .arg("command alias goto process plugin packet monitor goto");
    for typed in &args.commands {
        lldb.arg("-o").arg(typed);
    }
    lldb.args(&args.arguments);
    Ok(lldb)
}
