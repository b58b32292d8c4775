//! DWARF expressions in unwind tables.
//!
//! They may use registers and memory only; anything else in them makes the frame unknown.

use crate::memory::{Memory, Registers};
use gimli::{Encoding, Evaluation, EvaluationResult, Expression, Location, Reader, Value};

/// Longest run, in operations.
const LONGEST: u32 = 10_000;

/// The value of an expression, started with the CFA on its stack if one is given.
pub(super) fn evaluate<R: Reader>(
    expression: Expression<R>,
    encoding: Encoding,
    cfa: Option<u64>,
    registers: &dyn Registers,
    memory: &dyn Memory,
) -> Result<u64, String> {
    let failed = |e: gimli::Error| format!("an expression of its unwind table fails: {e}");
    let mut evaluation = Evaluation::new(expression.0, encoding);
    evaluation.set_max_iterations(LONGEST);
    if let Some(cfa) = cfa {
        evaluation.set_initial_value(cfa);
    }
    let mut state = evaluation.evaluate().map_err(failed)?;
    // Each turn is one operation of the expression, so this ends.
    for _ in 0..LONGEST {
        state = match state {
            EvaluationResult::Complete => return result(evaluation.result()),
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers
                    .get(register.0)
                    .ok_or_else(|| format!("register {} is needed and not known", register.0))?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            EvaluationResult::RequiresMemory { address, size, .. } => {
                let mut bytes = [0; 8];
                let wanted = usize::from(size).min(bytes.len());
                let part = bytes.get_mut(..wanted).unwrap_or_default();
                memory.read(address, part).map_err(|e| e.to_string())?;
                evaluation.resume_with_memory(Value::Generic(u64::from_le_bytes(bytes)))
            }
            _ => return Err("an expression of its unwind table asks for too much".to_owned()),
        }
        .map_err(failed)?;
    }
    Err("an expression of its unwind table does not end".to_owned())
}

fn result<R: Reader>(pieces: Vec<gimli::Piece<R>>) -> Result<u64, String> {
    match pieces.as_slice() {
        [piece] => match &piece.location {
            Location::Address { address } => Ok(*address),
            Location::Value { value } => value
                .to_u64(u64::MAX)
                .map_err(|e| format!("an expression of its unwind table fails: {e}")),
            _ => Err("an expression of its unwind table has no value".to_owned()),
        },
        _ => Err("an expression of its unwind table has no value".to_owned()),
    }
}
