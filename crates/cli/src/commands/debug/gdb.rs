//! Starting GDB.

use super::{Place, failed, socket};
use crate::args::debug::DebugArgs;
use crate::exit::{Code, fail};
use std::path::Path;
use std::process::Command;
use stillframe_debugger::gdb::{Address, Server};

/// GDB, set up and connected.
pub fn command(
    args: &DebugArgs,
    server: &Server,
    place: &Place,
    address: &Address,
) -> anyhow::Result<Command> {
    // Files of this machine open faster, and scripts that belong to libraries (printers of
    // containers) are found beside them. The recording's own are as good for all else.
    let sysroot = if server.all_files_are_here().map_err(failed)? {
        "/"
    } else {
        "target:"
    };
    let Some(path) = socket(address)?.to_str() else {
        return Err(fail(
            Code::Failure,
            "the directory for temporary files is not UTF-8; set TMPDIR",
        ));
    };
    let setup = include_str!("setup.gdb")
        .replace("@SYSROOT@", sysroot)
        .replace("@SOCKET@", path);
    let setup = place.write("setup.gdb", &setup)?;
    let hooks = place.write("setup.py", include_str!("setup.py"))?;

    let program = args.gdb.as_deref().unwrap_or(Path::new("gdb"));
    let mut gdb = Command::new(program);
    gdb.arg("-q");
    if args.batch {
        gdb.arg("-batch");
    }
    gdb.arg("-x").arg(setup);
    // A GDB without Python complains of the second file, and does without.
    gdb.arg("-x").arg(hooks);
    gdb.arg("-ex").arg(format!("target remote {path}"));
    for typed in &args.commands {
        gdb.arg("-ex").arg(typed);
    }
    gdb.args(&args.arguments);
    Ok(gdb)
}
