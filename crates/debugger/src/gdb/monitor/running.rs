//! `monitor running`: moments at which a thread executes something.

use super::super::link::Link;
use super::super::session::Session;
use super::super::travel::Past as _;
use super::{moment, plain, shown};
use std::collections::HashMap;
use stillframe_timeline::Machine;

/// Checkpoints looked at between two looks for Ctrl-C.
const OFTEN: usize = 64;
/// Addresses whose function is kept.
const KEPT: usize = 1 << 16;

/// What is to be executed.
enum Wanted {
    Addresses(u64, u64),
    Function(String),
}

impl Wanted {
    fn parse(rest: &str) -> Result<Self, String> {
        let number = |word: &str| match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words.as_slice() {
            [from, to] if number(from).is_some() => number(from)
                .zip(number(to))
                .map(|(from, to)| Self::Addresses(from, to)),
            [] => None,
            _ if number(rest).is_some() => None,
            // Names have spaces: operators, templates.
            _ => Some(Self::Function(rest.to_owned())),
        }
        .ok_or_else(|| {
            "running needs a function, or two addresses, FROM and TO: monitor running \
             0x401000 0x401080"
                .to_owned()
        })
    }
}

/// Goes to the next moment at which a thread executes it.
pub fn run(
    session: &mut Session<'_>,
    rest: &str,
    forward: bool,
    link: &mut Link,
) -> Result<String, String> {
    let wanted = Wanted::parse(rest)?;
    let (scene, machine) = (&session.scene, session.machine);
    let at = scene.row();
    let rows: Box<dyn Iterator<Item = usize>> = if forward {
        Box::new(at + 1..=*scene.lives().end())
    } else {
        Box::new((*scene.lives().start()..at).rev())
    };
    // By the program's modules, which seldom change, and the address.
    let mut known: HashMap<(usize, u64), Option<String>> = HashMap::new();
    for (n, row) in rows.enumerate() {
        if n % OFTEN == OFTEN - 1 && (link.interrupted() || link.abandoned()) {
            return Err(format!(
                "interrupted after {n} checkpoints; nothing found so far"
            ));
        }
        let counters = scene.counters(row).map_err(shown)?;
        let mut found = None;
        match &wanted {
            Wanted::Addresses(from, to) => {
                let inside = |&&(_, pc): &&(u32, u64)| (*from..*to).contains(&pc);
                let thread = counters.iter().find(inside);
                found = thread.map(|&(tid, pc)| (tid, format!("{pc:#x}")));
            }
            Wanted::Function(name) => {
                if known.len() > KEPT {
                    known.clear();
                }
                let program = modules_at(session, machine, row)?;
                let modules = std::sync::Arc::as_ptr(&program) as usize;
                for &(tid, pc) in &counters {
                    let function = known.entry((modules, pc)).or_insert_with(|| {
                        let location = program.locate(pc)?;
                        location.within(name).map(str::to_owned)
                    });
                    if let Some(function) = function {
                        found = Some((tid, format!("{pc:#x} in {}", plain(function))));
                        break;
                    }
                }
            }
        }
        if let Some((tid, place)) = found {
            session.go(row).map_err(shown)?;
            return Ok(format!(
                "{}: thread {tid} is at {place}\n",
                moment(&session.scene.listed())
            ));
        }
    }
    let side = if forward { "after" } else { "before" };
    Err(match wanted {
        Wanted::Addresses(from, to) => format!(
            "no thread executes between {from:#x} and {to:#x} at any checkpoint {side} this one"
        ),
        Wanted::Function(name) => {
            let name = plain(&name);
            if modules_at(session, machine, at)?.has_function(&name) {
                format!("no thread executes {name} at any checkpoint {side} this one")
            } else {
                format!("no function is called {name}")
            }
        }
    })
}

/// The modules that are mapped at a row.
fn modules_at(
    session: &Session<'_>,
    machine: &Machine,
    row: usize,
) -> Result<std::sync::Arc<stillframe_symbols::Program>, String> {
    let rows = machine.recording().rows();
    let id = rows.get(row).map(|r| r.id).unwrap_or_default();
    let view = machine.at(id, session.scene.process()).map_err(shown)?;
    Ok(std::sync::Arc::clone(view.program()))
}
