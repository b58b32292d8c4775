//! Where a variable is: DWARF expressions (DWARF 5, 2.5 and 2.6) run over memory and registers.

use crate::dies::{Attr, Die, Dies};
use crate::elf::Slice;
use crate::module::Module;
use crate::types::Type;
use crate::value::{Fault, Scope, Value};
use gimli::{
    AttributeValue, EvaluationResult, Expression, LittleEndian, Location, Operation, Piece,
    UnitOffset, ValueType,
};
use std::sync::Arc;

/// Operations of one expression: a loop in damaged debug information ends here.
const MOST_OPERATIONS: u32 = 10_000;
/// Expressions within expressions: frame bases, entry values.
const MOST_NESTED: u8 = 8;
/// Bytes of a value in pieces.
const MOST_PIECES: u64 = 1 << 20;

/// What an expression is run in.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub scope: &'a Scope<'a>,
    pub module: &'a Arc<Module>,
    pub bias: u64,
    pub dies: Dies<'a>,
    /// The function whose frame base is meant.
    pub function: Option<Die>,
    pub nested: u8,
}

fn damaged(error: gimli::Error) -> Fault {
    Fault::new(format!("damaged debug information: {error}"))
}

impl Context<'_> {
    fn deeper(&self) -> Result<Self, Fault> {
        if self.nested >= MOST_NESTED {
            return Err(Fault::new(
                "damaged debug information: locations within each other",
            ));
        }
        Ok(Self {
            nested: self.nested + 1,
            ..*self
        })
    }

    /// The value of type `ty` that an attribute describes: an expression or a list of them.
    pub fn value(&self, attribute: Attr, ty: &Type) -> Result<Value, Fault> {
        match attribute {
            AttributeValue::Exprloc(expression) => self.run(expression, ty),
            // DWARF 2 and 3 wrote expressions as blocks.
            AttributeValue::Block(bytes) => self.run(Expression(bytes), ty),
            list => match self.listed(list)? {
                Some(expression) => self.run(expression, ty),
                None => Err(Fault::OptimisedOut),
            },
        }
    }

    /// The entry of a location list for the place we are at.
    fn listed(&self, list: Attr) -> Result<Option<Expression<Slice>>, Fault> {
        let Some(here) = self.scope.here else {
            return Err(Fault::new(
                "this is only known inside of its function; choose a frame",
            ));
        };
        let at = here.pc.wrapping_sub(self.bias);
        let (dwarf, unit) = (self.dies.dwarf, self.dies.unit);
        let Some(mut entries) = dwarf.attr_locations(unit, list).map_err(damaged)? else {
            return Ok(None);
        };
        while let Some(entry) = entries.next().map_err(damaged)? {
            if entry.range.begin <= at && at < entry.range.end {
                return Ok(Some(entry.data));
            }
        }
        Ok(None)
    }

    fn run(&self, expression: Expression<Slice>, ty: &Type) -> Result<Value, Fault> {
        if expression.0.bytes().is_empty() {
            return Err(Fault::OptimisedOut);
        }
        let pieces = self.pieces(expression)?;
        self.assemble(&pieces, ty)
    }

    /// Runs an expression whose result is a number: a frame base, the value of an argument.
    pub fn number(&self, expression: Expression<Slice>) -> Result<u64, Fault> {
        match self.pieces(expression)?.first().map(|p| &p.location) {
            Some(Location::Address { address }) => Ok(*address),
            Some(Location::Value { value }) => value.to_u64(u64::MAX).map_err(damaged),
            Some(Location::Register { register }) => self.register(register.0),
            _ => Err(Fault::OptimisedOut),
        }
    }

    fn register(&self, register: u16) -> Result<u64, Fault> {
        self.scope
            .registers
            .get(register)
            .ok_or_else(|| Fault::new(format!("register {register} is not known in this frame")))
    }

    fn typed(&self, base: UnitOffset, bytes: &[u8]) -> Result<gimli::Value, Fault> {
        let kind = self.base_type(base)?;
        if kind == ValueType::Generic {
            let mut word = [0; 8];
            let length = bytes.len().min(8);
            word[..length].copy_from_slice(&bytes[..length]);
            return Ok(gimli::Value::Generic(u64::from_le_bytes(word)));
        }
        let size = match kind {
            ValueType::Generic => 8,
            other => usize::try_from(other.bit_size(u64::MAX) / 8).unwrap_or(8),
        };
        let mut padded = bytes.to_vec();
        padded.resize(size, 0);
        gimli::Value::parse(kind, Slice::new(padded.into(), LittleEndian)).map_err(damaged)
    }

    fn base_type(&self, base: UnitOffset) -> Result<ValueType, Fault> {
        if base.0 == 0 {
            return Ok(ValueType::Generic);
        }
        let entry = self.dies.unit.entry(base).map_err(damaged)?;
        Ok(ValueType::from_entry(&entry)
            .map_err(damaged)?
            .unwrap_or(ValueType::Generic))
    }

    fn pieces(&self, expression: Expression<Slice>) -> Result<Vec<Piece<Slice>>, Fault> {
        let mut evaluation = expression.evaluation(self.dies.unit.encoding());
        evaluation.set_max_iterations(MOST_OPERATIONS);
        let mut state = evaluation.evaluate().map_err(damaged)?;
        // Each turn answers one question; a program of bounded length asks boundedly many.
        for _ in 0..MOST_OPERATIONS {
            state = match state {
                EvaluationResult::Complete => return Ok(evaluation.result()),
                EvaluationResult::RequiresMemory {
                    address,
                    size,
                    base_type,
                    ..
                } => {
                    let mut bytes = [0; 8];
                    let length = usize::from(size).min(8);
                    self.scope.memory.read(address, &mut bytes[..length])?;
                    let value = self.typed(base_type, &bytes[..length])?;
                    evaluation.resume_with_memory(value)
                }
                EvaluationResult::RequiresRegister {
                    register,
                    base_type,
                } => {
                    let value = if base_type.0 == 0 {
                        gimli::Value::Generic(self.register(register.0)?)
                    } else {
                        let bytes = self.scope.registers.bytes(register.0).ok_or_else(|| {
                            Fault::new(format!(
                                "register {} is not known in this frame",
                                register.0
                            ))
                        })?;
                        self.typed(base_type, &bytes)?
                    };
                    evaluation.resume_with_register(value)
                }
                EvaluationResult::RequiresFrameBase => {
                    evaluation.resume_with_frame_base(self.frame_base()?)
                }
                EvaluationResult::RequiresTls(offset) => {
                    let address = crate::tls::address(self.scope, self.module, self.bias, offset)?;
                    evaluation.resume_with_tls(address)
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    let cfa = self.scope.here.and_then(|h| h.cfa);
                    let cfa =
                        cfa.ok_or_else(|| Fault::new("the frame of this function is not known"))?;
                    evaluation.resume_with_call_frame_cfa(cfa)
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(address.wrapping_add(self.bias))
                }
                EvaluationResult::RequiresIndexedAddress { index, relocate } => {
                    let address = self
                        .dies
                        .dwarf
                        .address(self.dies.unit, index)
                        .map_err(damaged)?;
                    let bias = if relocate { self.bias } else { 0 };
                    evaluation.resume_with_indexed_address(address.wrapping_add(bias))
                }
                EvaluationResult::RequiresBaseType(base) => {
                    evaluation.resume_with_base_type(self.base_type(base)?)
                }
                EvaluationResult::RequiresAtLocation(at) => {
                    let bytes = self.called(at)?;
                    evaluation.resume_with_at_location(bytes)
                }
                EvaluationResult::RequiresEntryValue(wanted) => {
                    let value = self.entry_value(&wanted)?;
                    evaluation.resume_with_entry_value(gimli::Value::Generic(value))
                }
                EvaluationResult::RequiresParameterRef(parameter) => {
                    let value = self.parameter(parameter)?;
                    evaluation.resume_with_parameter_ref(value)
                }
                EvaluationResult::RequiresWasmLocal { .. }
                | EvaluationResult::RequiresWasmGlobal { .. }
                | EvaluationResult::RequiresWasmStack { .. } => {
                    return Err(Fault::new("a location of another machine"));
                }
            }
            .map_err(damaged)?;
        }
        Err(Fault::new(
            "damaged debug information: a location without end",
        ))
    }

    /// The expression of another entry (DW_OP_call).
    fn called(&self, at: gimli::DieReference) -> Result<Slice, Fault> {
        let die = match at {
            gimli::DieReference::UnitRef(offset) => Some(self.dies.die(offset)),
            gimli::DieReference::DebugInfoRef(offset) => {
                self.dies.reference(AttributeValue::DebugInfoRef(offset))
            }
        };
        let entry = die.and_then(|die| Dies::of(self.dies.info, die)?.entry(die));
        match entry.and_then(|e| e.attr_value(gimli::DW_AT_location)) {
            Some(AttributeValue::Exprloc(expression)) => Ok(expression.0),
            _ => Ok(Slice::new(Arc::from([]), LittleEndian)),
        }
    }

    fn frame_base(&self) -> Result<u64, Fault> {
        let inner = self.deeper()?;
        let unknown = || Fault::new("the frame of this function is not known");
        let function = self.function.ok_or_else(unknown)?;
        let dies = Dies::of(self.dies.info, function).ok_or_else(unknown)?;
        let entry = dies.entry(function).ok_or_else(unknown)?;
        let attribute = entry
            .attr_value(gimli::DW_AT_frame_base)
            .ok_or_else(unknown)?;
        let inner = Self { dies, ..inner };
        let expression = match attribute {
            AttributeValue::Exprloc(expression) => expression,
            list => inner.listed(list)?.ok_or_else(unknown)?,
        };
        inner.number(expression)
    }

    /// What a register or parameter held when the function was entered: the caller's debug
    /// information says what it passed (DWARF 5, 3.4.2).
    fn entry_value(&self, wanted: &Expression<Slice>) -> Result<u64, Fault> {
        let inner = self.deeper()?;
        let here = self.scope.here.ok_or(Fault::OptimisedOut)?;
        here.entry_value(&inner, wanted)
    }

    fn parameter(&self, parameter: UnitOffset) -> Result<u64, Fault> {
        let inner = self.deeper()?;
        let here = self.scope.here.ok_or(Fault::OptimisedOut)?;
        here.parameter(&inner, self.dies.die(parameter))
    }

    fn assemble(&self, pieces: &[Piece<Slice>], ty: &Type) -> Result<Value, Fault> {
        let size = ty.size().unwrap_or(8);
        if let [piece] = pieces
            && piece.size_in_bits.is_none()
        {
            return Ok(match &piece.location {
                Location::Address { address } => Value::at(ty.clone(), *address),
                Location::Empty => Value::missing(ty.clone(), Fault::OptimisedOut),
                Location::ImplicitPointer { .. } => {
                    Value::missing(ty.clone(), Fault::new("a pointer that was optimised out"))
                }
                other => {
                    let mut bytes = self.content(other)?;
                    let wanted = usize::try_from(size.min(MOST_PIECES)).unwrap_or(0);
                    if bytes.len() < wanted {
                        bytes.resize(wanted, 0);
                    }
                    bytes.truncate(wanted);
                    Value::of_bytes(ty.clone(), bytes)
                }
            });
        }
        if size > MOST_PIECES {
            return Err(Fault::new("a value in pieces of more than a mebibyte"));
        }
        let mut bytes = vec![0u8; usize::try_from(size).unwrap_or(0)];
        let mut holes = Vec::new();
        let mut at = 0usize;
        for piece in pieces {
            let bits = piece.size_in_bits.unwrap_or(0);
            let length = usize::try_from(bits / 8).unwrap_or(usize::MAX);
            let end = at.saturating_add(length).min(bytes.len());
            let Some(out) = bytes.get_mut(at..end) else {
                break;
            };
            let skip = usize::try_from(piece.bit_offset.unwrap_or(0) / 8).unwrap_or(usize::MAX);
            let whole = bits % 8 == 0 && piece.bit_offset.unwrap_or(0) % 8 == 0;
            let known = whole
                && match &piece.location {
                    Location::Address { address } => self
                        .scope
                        .memory
                        .read(address.wrapping_add(skip as u64), out)
                        .is_ok(),
                    Location::Empty | Location::ImplicitPointer { .. } => false,
                    other => match self.content(other) {
                        Ok(found) => match found.get(skip..) {
                            Some(rest) if rest.len() >= out.len() => {
                                out.copy_from_slice(&rest[..out.len()]);
                                true
                            }
                            _ => false,
                        },
                        Err(_) => false,
                    },
                };
            if !known {
                holes.push(at..end);
            }
            at = end;
        }
        if at < bytes.len() {
            holes.push(at..bytes.len());
        }
        Ok(Value::with_holes(ty.clone(), bytes, holes))
    }

    /// The bytes of what is not in memory.
    fn content(&self, location: &Location<Slice>) -> Result<Vec<u8>, Fault> {
        Ok(match location {
            Location::Register { register } => {
                self.scope.registers.bytes(register.0).ok_or_else(|| {
                    Fault::new(format!(
                        "register {} is not known in this frame",
                        register.0
                    ))
                })?
            }
            Location::Value { value } => value_bytes(value),
            Location::Bytes { value } => value.bytes().to_vec(),
            _ => return Err(Fault::OptimisedOut),
        })
    }
}

fn value_bytes(value: &gimli::Value) -> Vec<u8> {
    use gimli::Value as V;
    match value {
        V::Generic(v) | V::U64(v) => v.to_le_bytes().to_vec(),
        // Sign extended, since the variable may be wider than what was computed.
        V::I8(v) => i64::from(*v).to_le_bytes().to_vec(),
        V::I16(v) => i64::from(*v).to_le_bytes().to_vec(),
        V::I32(v) => i64::from(*v).to_le_bytes().to_vec(),
        V::I64(v) => v.to_le_bytes().to_vec(),
        V::U8(v) => u64::from(*v).to_le_bytes().to_vec(),
        V::U16(v) => u64::from(*v).to_le_bytes().to_vec(),
        V::U32(v) => u64::from(*v).to_le_bytes().to_vec(),
        V::F32(v) => v.to_le_bytes().to_vec(),
        V::F64(v) => v.to_le_bytes().to_vec(),
    }
}

/// Whether an expression says the same address for every frame: a static variable.
pub(crate) fn is_static(dies: &Dies<'_>, attribute: &Attr) -> bool {
    let AttributeValue::Exprloc(expression) = attribute else {
        return false;
    };
    let mut operations = expression.clone().operations(dies.unit.encoding());
    let mut fixed = false;
    for _ in 0..16 {
        match operations.next() {
            Ok(Some(Operation::Address { .. } | Operation::AddressIndex { .. })) => fixed = true,
            Ok(Some(Operation::TLS)) => return true,
            Ok(Some(
                Operation::FrameOffset { .. }
                | Operation::Register { .. }
                | Operation::RegisterOffset { .. }
                | Operation::CallFrameCFA,
            )) => return false,
            Ok(Some(_)) => {}
            _ => break,
        }
    }
    fixed
}
