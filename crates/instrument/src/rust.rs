//! Rust: what instruments a crate with a stable rustc.

use crate::Error;
use crate::args::RustflagsArgs;
use crate::compiler::kernel_address;

/// Flags of rustc.
pub fn flags() -> Vec<String> {
    let mut flags = vec![
        "-Cpasses=forceattrs asan<kernel>".to_owned(),
        "-Cllvm-args=-force-attribute=sanitize_address".to_owned(),
    ];
    // rustc's LLVM is younger than any option here.
    flags.extend(
        kernel_address(u32::MAX)
            .into_iter()
            .map(|o| format!("-Cllvm-args={o}")),
    );
    // Below level 2 generic code comes from the prebuilt library, uninstrumented.
    flags.push("-Copt-level=2".to_owned());
    // Libraries of the program use its runtime.
    flags.push("-Clink-arg=-Wl,--export-dynamic-symbol=__asan_*".to_owned());
    flags
}

/// `still inproc rustflags`.
///
/// # Errors
/// Never.
pub fn run(args: &RustflagsArgs) -> Result<u8, Error> {
    let flags = flags();
    if args.encoded {
        print!("{}", flags.join("\u{1f}"));
    } else {
        for flag in flags {
            println!("{flag}");
        }
    }
    Ok(0)
}
