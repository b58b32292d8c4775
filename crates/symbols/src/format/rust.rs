//! Rust's way.

use super::Printer;
use crate::expr::completed;
use crate::members;
use crate::types::{Kind, Member, Record, Type};
use crate::value::Value;

impl Printer<'_> {
    pub(super) fn rust(&mut self, value: &Value) {
        let ty = completed(value.ty(), self.scope);
        match ty.kind() {
            Kind::Void => self.out.push_str("()"),
            Kind::Number(encoding) => self.number(value, *encoding),
            Kind::Pointer(link) => self.rust_pointer(value, &ty.follow(link)),
            Kind::Array(array) => {
                let element = ty.follow(&array.element);
                let count = array.count.unwrap_or(0);
                self.nested(|p| {
                    p.out.push('[');
                    p.elements(value, &element, count);
                    p.out.push(']');
                });
            }
            Kind::Record(record) => self.rust_record(value, &ty, record),
            Kind::Enumeration(_) => self.enumeration(value, &ty),
            _ => self.c(value),
        }
    }

    fn rust_pointer(&mut self, value: &Value, target: &Type) {
        let address = match value.pointer(self.scope) {
            Ok(address) => address,
            Err(fault) => return self.fault(&fault),
        };
        self.out.push_str(&format!("{address:#x}"));
        let _ = target;
        if address != 0 {
            self.symbol(address);
        }
    }

    fn rust_record(&mut self, value: &Value, ty: &Type, record: &Record) {
        if record.variants.is_some() {
            return match members::variant(value, self.scope) {
                Ok(Some((name, inside))) => {
                    let full = ty.name();
                    self.out.push_str(&format!("{full}::{name}"));
                    let inner = completed(inside.ty(), self.scope);
                    if let Kind::Record(fields) = inner.kind()
                        && !fields.members.is_empty()
                    {
                        self.rust_fields(&inside, &inner, &fields.members, false);
                    }
                }
                Ok(None) => {}
                Err(fault) => self.fault(&fault),
            };
        }
        let name = ty.name();
        if !name.starts_with('(') {
            self.out.push_str(&name);
        }
        if record.members.is_empty() {
            if name.starts_with('(') {
                self.out.push_str("()");
            }
            return;
        }
        let value = value.with_type(ty.clone());
        self.rust_fields(&value, ty, &record.members, true);
    }

    fn rust_fields(&mut self, value: &Value, ty: &Type, fields: &[Member], space: bool) {
        let mut ordered: Vec<&Member> = fields.iter().collect();
        let tuple = fields.iter().all(|m| {
            m.name.as_deref().is_some_and(|n| {
                n.strip_prefix("__")
                    .is_some_and(|d| d.parse::<u32>().is_ok())
            })
        });
        if tuple {
            ordered.sort_by_key(|m| {
                let name = m.name.as_deref().unwrap_or_default();
                name.trim_start_matches('_')
                    .parse::<u32>()
                    .unwrap_or(u32::MAX)
            });
        }
        self.nested(|p| {
            p.out.push_str(match (tuple, space) {
                (true, true) if !ty.name().starts_with('(') => " (",
                (true, _) => "(",
                (false, true) => " {",
                (false, false) => "{",
            });
            for (i, member) in ordered.iter().enumerate() {
                if p.full() {
                    p.out.push_str("...");
                    break;
                }
                if i > 0 {
                    p.out.push_str(", ");
                }
                if !tuple {
                    let name = member.name.as_deref().unwrap_or_default();
                    p.out.push_str(&format!("{name}: "));
                }
                match members::member(value, ty, member, p.scope) {
                    Ok(part) => p.value(&part),
                    Err(fault) => p.fault(&fault),
                }
            }
            p.out.push(if tuple { ')' } else { '}' });
        });
    }
}
