//! The body of a request, read strictly: one JSON-RPC 2.0 call, in which nothing can be read in two ways.
//!
//! JSON leaves open what a repeated key or an integer above 2^53 means, and readers differ. A signer that reads other
//! words than the gateway would guard the wrong payment, so whatever is open is refused.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The longest body, in bytes.
pub const MAX_BODY_LEN: usize = 128 * 1024;
/// How deep arrays and objects may nest; the call itself is the first level.
pub const MAX_DEPTH: usize = 32;

/// One JSON-RPC 2.0 call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The caller's own name for the call: a string or an integer.
    pub id: Value,
    /// What is called, `tx_submit`.
    pub method: String,
    /// The parameters: an object, an array, or null where there are none.
    pub params: Value,
}

/// Why a body is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Longer than [`MAX_BODY_LEN`].
    #[error("the body is longer than {MAX_BODY_LEN} bytes")]
    TooLong,
    /// Not one JSON text in UTF-8 from the first byte to the last.
    #[error("the body is no JSON text: {0}")]
    Json(Position),
    /// One key twice in an object.
    #[error("an object has the key {0:?} twice; send each key once")]
    DuplicateKey(String),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A number that readers round: with a fraction, with an exponent, or beyond 64 bits.
    #[error("a number is no 64-bit integer; send amounts as decimal strings")]
    Number,
    /// No JSON-RPC 2.0 call.
    #[error("no JSON-RPC 2.0 call: {0}")]
    NotACall(&'static str),
    /// A call of another method than the one that is read.
    #[error("the call is of {found:?}, not of {expected}")]
    Method {
        /// The method that the reader knows.
        expected: &'static str,
        /// What the call says, cut to 100 characters.
        found: String,
    },
    /// The parameters are not those of the method.
    #[error("wrong parameters: {0}")]
    Params(String),
    /// The intent's reference is too long.
    #[error("the reference has {found} bytes; at most {max} are kept")]
    ReferenceTooLong {
        /// Its length in bytes.
        found: usize,
        /// The most that it may be.
        max: usize,
    },
}

/// Where a reader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1; 0 at the end of a line.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Reads a body as one call.
///
/// # Errors
/// [`BodyError`] for anything that is not exactly one JSON-RPC 2.0 call with an id: a batch, a notification, an unknown
/// member, a tail; and for JSON that two readers could read differently.
pub fn parse_call(body: &[u8]) -> Result<Call, BodyError> {
    let Value::Object(mut members) = parse_strict(body)? else {
        return Err(BodyError::NotACall("send one object, not a batch"));
    };
    if members.remove("jsonrpc") != Some(Value::from("2.0")) {
        return Err(BodyError::NotACall("jsonrpc must be \"2.0\""));
    }
    let id = match members.remove("id") {
        Some(id @ (Value::String(_) | Value::Number(_))) => id,
        _ => return Err(BodyError::NotACall("id must be a string or an integer")),
    };
    let Some(Value::String(method)) = members.remove("method") else {
        return Err(BodyError::NotACall("method must be a string"));
    };
    let params = match members.remove("params") {
        None => Value::Null,
        Some(params @ (Value::Object(_) | Value::Array(_))) => params,
        Some(_) => return Err(BodyError::NotACall("params must be an object or an array")),
    };
    if members.is_empty() {
        Ok(Call { id, method, params })
    } else {
        Err(BodyError::NotACall("a call has jsonrpc, id, method and params, and nothing else"))
    }
}

/// Reads one JSON text in which every key is unique, every number a 64-bit integer and no nesting deeper than
/// [`MAX_DEPTH`].
fn parse_strict(body: &[u8]) -> Result<Value, BodyError> {
    if body.len() > MAX_BODY_LEN {
        return Err(BodyError::TooLong);
    }
    let fault = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Strict { levels: MAX_DEPTH, fault: &fault }.deserialize(&mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|e| fault.take().unwrap_or(BodyError::Json(Position { line: e.line(), column: e.column() })))
}

/// Reads a value with `levels` of nesting left. What it refuses it notes in `fault`: serde's own errors carry text only.
#[derive(Clone, Copy)]
struct Strict<'f> {
    levels: usize,
    fault: &'f Cell<Option<BodyError>>,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(self, fault: BodyError) -> E {
        let error = E::custom(&fault);
        self.fault.set(Some(fault));
        error
    }

    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels, ..self }),
            None => Err(self.refuse(BodyError::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.refuse(BodyError::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.refuse(BodyError::DuplicateKey(key.chars().take(100).collect())));
            }
            let value = entries.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
