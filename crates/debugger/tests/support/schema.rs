//! Holds messages to the published schema of the protocol. Shared by unit tests and scenarios.
//!
//! The schema uses few words of JSON Schema, so that a page of code checks it: `type`, `properties`,
//! `required`, `additionalProperties`, `items`, `enum`, `anyOf`, `$ref`.

use serde_json::{Map, Value};

/// The schema, from the types that the protocol's authors publish.
const TEXT: &str = include_str!("../data/dap-1.68.0.schema.json");

/// Checks messages.
#[derive(Debug)]
pub struct Schema {
    definitions: Map<String, Value>,
}

impl Schema {
    /// Reads it.
    pub fn new() -> Self {
        let schema: Value = serde_json::from_str(TEXT).unwrap_or_default();
        let definitions = schema["definitions"].as_object().cloned();
        let definitions = definitions.unwrap_or_default();
        assert!(definitions.len() > 150, "the schema is not there");
        Self { definitions }
    }

    /// Checks a message of an adapter: an event, or a response to `command`. Events and commands of
    /// our own (`stillframe/...`) are held to the general form.
    pub fn message(&self, message: &Value) -> Result<(), String> {
        let word = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        let (name, kind) = match word("type").as_str() {
            "event" => (word("event"), "Event"),
            "response" if message["success"] == Value::Bool(false) => {
                return self.named("ErrorResponse", message);
            }
            "response" => (word("command"), "Response"),
            other => return Err(format!("a message of type {other:?}: {message}")),
        };
        if name.starts_with("stillframe/") {
            return self.named(kind, message);
        }
        let mut letters = name.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        let upper: String = first.into_iter().chain(letters).collect();
        self.named(&format!("{upper}{kind}"), message)
    }

    fn named(&self, name: &str, value: &Value) -> Result<(), String> {
        let name = format!("DebugProtocol.{name}");
        let schema = self.definitions.get(&name);
        let schema = schema.ok_or_else(|| format!("the protocol has no {name}: {value}"))?;
        self.check(schema, value, &name)
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            let name = name.replace("%3C", "<").replace("%3E", ">");
            let target = self.definitions.get(&name);
            let target = target.ok_or_else(|| format!("{at}: no definition {name}"))?;
            return self.check(target, value, at);
        }
        if let Some(options) = schema["anyOf"].as_array() {
            let errors: Vec<String> = options
                .iter()
                .filter_map(|option| self.check(option, value, at).err())
                .collect();
            return match errors.len() < options.len() {
                true => Ok(()),
                false => Err(format!("{at}: {}", errors.join(" / "))),
            };
        }
        if let Some(options) = schema["enum"].as_array()
            && !options.contains(value)
        {
            return Err(format!("{at} is {value}, not one of {options:?}"));
        }
        self.check_type(&schema["type"], value, at)?;
        if let Some(items) = schema.get("items")
            && let Some(list) = value.as_array()
        {
            for (i, item) in list.iter().enumerate() {
                self.check(items, item, &format!("{at}[{i}]"))?;
            }
        }
        let Some(fields) = value.as_object() else {
            return Ok(());
        };
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                return Err(format!("{at} lacks {name}: {value}"));
            }
        }
        for (name, field) in fields {
            let inner = format!("{at}.{name}");
            match (
                schema["properties"].get(name),
                schema.get("additionalProperties"),
            ) {
                (Some(property), _) => self.check(property, field, &inner)?,
                (None, Some(Value::Bool(false))) => return Err(format!("{inner} is not known")),
                (None, Some(rest @ Value::Object(_))) => self.check(rest, field, &inner)?,
                (None, _) => {}
            }
        }
        Ok(())
    }

    fn check_type(&self, wanted: &Value, value: &Value, at: &str) -> Result<(), String> {
        let is = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            // Every number of the protocol is an integer, except shares of progress.
            "number" => value.is_i64() || value.is_u64() || at.ends_with("percentage"),
            "integer" => value.is_i64() || value.is_u64(),
            _ => false,
        };
        let fits = match wanted {
            Value::Null => true,
            Value::String(name) => is(name),
            Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
            _ => false,
        };
        match fits {
            true => Ok(()),
            false => Err(format!("{at} is {value}, not {wanted}")),
        }
    }
}
