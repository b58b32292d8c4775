//! Threads: where they are, in which system call, their registers.

use crate::names::syscalls;
use crate::output;
use std::io::{self, Write};
use stillframe_image::{Mapping, ProcessImage, Registers, Thread};
use stillframe_timeline::View;

/// With more threads than this, registers are printed only when asked for.
const FEW: usize = 8;

/// Registers in the order in which people read them.
pub(super) const ORDER: [&str; 27] = [
    "rip", "rsp", "rbp", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
    "r11", "r12", "r13", "r14", "r15", "orig_rax", "fs_base", "gs_base", "cs", "ss", "ds", "es",
    "fs", "gs",
];

/// The value of a register of [`ORDER`].
pub(super) fn value(r: &Registers, name: &str) -> u64 {
    match name {
        "rip" => r.rip,
        "rsp" => r.rsp,
        "rbp" => r.rbp,
        "rflags" => r.rflags,
        "rax" => r.rax,
        "rbx" => r.rbx,
        "rcx" => r.rcx,
        "rdx" => r.rdx,
        "rsi" => r.rsi,
        "rdi" => r.rdi,
        "r8" => r.r8,
        "r9" => r.r9,
        "r10" => r.r10,
        "r11" => r.r11,
        "r12" => r.r12,
        "r13" => r.r13,
        "r14" => r.r14,
        "r15" => r.r15,
        "orig_rax" => r.orig_rax,
        "fs_base" => r.fs_base,
        "gs_base" => r.gs_base,
        "cs" => r.cs,
        "ss" => r.ss,
        "ds" => r.ds,
        "es" => r.es,
        "fs" => r.fs,
        _ => r.gs,
    }
}

/// A thread and a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its name, or number if it has none here.
    pub name: String,
    /// All six argument registers; how many count depends on the call.
    pub arguments: [u64; 6],
    /// The result, if the call was over and its thread about to return to user mode.
    pub result: Option<i64>,
}

/// The system call that a thread is in. `orig_rax` is its number, and -1 outside of one; `rax` is
/// one of the kernel's restart codes (include/linux/errno.h) while the call is interrupted.
pub(super) fn call(r: &Registers) -> Option<Call> {
    let number = r.orig_rax;
    if number.cast_signed() < 0 {
        return None;
    }
    let result = r.rax.cast_signed();
    Some(Call {
        name: syscalls::name(number).map_or_else(|| format!("syscall_{number}"), str::to_owned),
        arguments: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9],
        result: (!(-516..=-512).contains(&result)).then_some(result),
    })
}

/// An address described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The mapping that holds it.
    pub mapping: &'a Mapping,
    /// Offset into the file of the mapping, or into the mapping if it has none.
    pub offset: u64,
    /// Function or object that holds it, and the distance from its start.
    pub symbol: Option<(String, u64)>,
}

/// Where an address is; `None` if nothing is mapped there. Symbol tables are enough for it.
pub(super) fn locate<'v>(view: &'v View<'_>, address: u64) -> Option<Place<'v>> {
    let mapping = view.layout().mapping_at(address)?;
    Some(Place {
        mapping,
        offset: (address - mapping.start).saturating_add(mapping.offset),
        symbol: view.program().symbol(address),
    })
}

/// `main+0x12 (/bin/prog+0x1139)`, or less, as far as it is known.
pub(super) fn place(view: &View<'_>, address: u64) -> String {
    describe(locate(view, address).as_ref())
}

fn describe(place: Option<&Place<'_>>) -> String {
    let Some(place) = place else {
        return "(not mapped)".to_owned();
    };
    let name = match output::printable(&place.mapping.name) {
        name if name.is_empty() => "anonymous memory".into(),
        name => name,
    };
    match &place.symbol {
        Some((symbol, distance)) => {
            let symbol = output::printable(symbol.as_bytes());
            format!("{symbol}+{distance:#x} ({name}+{:#x})", place.offset)
        }
        None => format!("{name}+{:#x}", place.offset),
    }
}

/// Prints the threads.
pub(super) fn print(
    out: &mut impl Write,
    image: &ProcessImage,
    view: &View<'_>,
    detail: bool,
) -> io::Result<()> {
    let threads = &image.threads;
    writeln!(out, "\nthreads: {}", threads.len())?;
    let registers = detail || threads.len() <= FEW;
    for thread in threads {
        one(out, thread, view)?;
        if registers {
            print_registers(out, thread)?;
        }
    }
    if !registers {
        writeln!(out, "  (registers: --threads)")?;
    }
    Ok(())
}

fn one(out: &mut impl Write, thread: &Thread, view: &View<'_>) -> io::Result<()> {
    let at = place(view, thread.registers.rip);
    writeln!(
        out,
        "  {:<8} {:<16} {:#x} {at}",
        thread.tid,
        output::printable(&thread.name),
        thread.registers.rip
    )?;
    if let Some(signal) = &thread.signal {
        writeln!(
            out,
            "           about to get {}",
            super::describe_signal(signal)
        )?;
    }
    if let Some(call) = call(&thread.registers) {
        let arguments: Vec<String> = call.arguments.iter().map(|a| format!("{a:#x}")).collect();
        write!(out, "           in {}({})", call.name, arguments.join(", "))?;
        match call.result {
            Some(result) => writeln!(out, " = {result}")?,
            None => writeln!(out, ", which goes on")?,
        }
    }
    Ok(())
}

fn print_registers(out: &mut impl Write, thread: &Thread) -> io::Result<()> {
    for row in ORDER.chunks(4) {
        write!(out, "          ")?;
        for name in row {
            write!(
                out,
                " {name:>8} {:<18}",
                format!("{:#x}", value(&thread.registers, name))
            )?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "            vector state {} bytes",
        thread.xstate.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_printed_once() {
        let mut words = [0; 27];
        for (at, word) in words.iter_mut().enumerate() {
            *word = at as u64 + 1;
        }
        let registers = Registers::from_words(&words);
        let mut seen: Vec<u64> = ORDER.iter().map(|name| value(&registers, name)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..=27).collect::<Vec<u64>>());
    }

    #[test]
    fn calls_are_told_apart() {
        let outside = Registers {
            orig_rax: u64::MAX,
            ..Registers::default()
        };
        assert_eq!(call(&outside), None);
        let waiting = Registers {
            orig_rax: 202,
            rax: (-512i64).cast_unsigned(),
            rdi: 7,
            ..outside
        };
        let found = call(&waiting).unwrap();
        assert_eq!(
            (found.name.as_str(), found.arguments[0], found.result),
            ("futex", 7, None)
        );
        let over = Registers {
            orig_rax: 0,
            rax: (-11i64).cast_unsigned(),
            ..outside
        };
        assert_eq!(call(&over).unwrap().result, Some(-11));
        let strange = Registers {
            orig_rax: 4000,
            ..outside
        };
        assert_eq!(call(&strange).unwrap().name, "syscall_4000");
    }
}
