//! A call's parameters, by position or by name, read with bitcoind's complaints.

use std::str::FromStr;

use bitcoin::consensus::encode::{Decodable, deserialize_hex};
use serde_json::{Map, Value};

use super::{Method, code};
use crate::node::bitcoin::amount::parse_btc;
use crate::rpc::RpcError;

/// A call's parameters in the order of the method's table entry.
pub(super) struct Args<'a> {
    names: &'static [&'static str],
    values: Vec<Option<&'a Value>>,
}

impl<'a> Args<'a> {
    /// Binds `params` to the parameters of `method`.
    pub(super) fn bind(method: &Method, params: &'a Value) -> Result<Self, RpcError> {
        let names = method.params;
        let values: Vec<Option<&Value>> = match params {
            Value::Array(values) => values.iter().map(Some).collect(),
            Value::Object(named) => by_name(names, named)?,
            _ => Vec::new(),
        };
        let present = values.iter().take(method.required).filter(|value| value.is_some()).count();
        if values.len() > names.len() || present < method.required {
            return Err(RpcError::new(code::MISC_ERROR, method.usage()));
        }
        Ok(Self { names, values })
    }

    /// A parameter, `None` where it was left out or null.
    pub(super) fn get(&self, index: usize) -> Option<&'a Value> {
        self.values.get(index).copied().flatten().filter(|value| !value.is_null())
    }

    pub(super) fn name(&self, index: usize) -> &'static str {
        self.names.get(index).copied().unwrap_or_default()
    }

    /// The complaint about a parameter of the wrong type.
    fn wrong_type(&self, index: usize, expected: &str) -> RpcError {
        let found = match self.get(index) {
            None => "null",
            Some(value) => type_name(value),
        };
        let position = index.saturating_add(1);
        RpcError::new(
            code::TYPE_ERROR,
            format!(
                "Wrong type passed:\n{{\n    \"Position {position} ({})\": \"JSON value of type {found} is not of expected type \
                 {expected}\"\n}}",
                self.name(index)
            ),
        )
    }

    pub(super) fn opt_text(&self, index: usize) -> Result<Option<&'a str>, RpcError> {
        match self.get(index) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong_type(index, "string")),
        }
    }

    pub(super) fn text(&self, index: usize) -> Result<&'a str, RpcError> {
        self.opt_text(index)?.ok_or_else(|| self.wrong_type(index, "string"))
    }

    pub(super) fn opt_integer(&self, index: usize) -> Result<Option<i64>, RpcError> {
        match self.get(index) {
            None => Ok(None),
            Some(Value::Number(number)) => {
                let integer = number.as_i64();
                integer.map(Some).ok_or_else(|| RpcError::new(code::MISC_ERROR, "JSON integer out of range"))
            }
            Some(_) => Err(self.wrong_type(index, "number")),
        }
    }

    pub(super) fn integer(&self, index: usize) -> Result<i64, RpcError> {
        self.opt_integer(index)?.ok_or_else(|| self.wrong_type(index, "number"))
    }

    pub(super) fn flag_or(&self, index: usize, default: bool) -> Result<bool, RpcError> {
        match self.get(index) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong_type(index, "bool")),
        }
    }

    /// A verbosity: a number, or a flag that stands for 0 or 1.
    pub(super) fn verbosity_or(&self, index: usize, default: i64) -> Result<i64, RpcError> {
        match self.get(index) {
            Some(Value::Bool(verbose)) => Ok(i64::from(*verbose)),
            _ => Ok(self.opt_integer(index)?.unwrap_or(default)),
        }
    }

    /// An amount or fee rate in BTC, as satoshis.
    pub(super) fn opt_btc(&self, index: usize) -> Result<Option<u64>, RpcError> {
        self.get(index).map(parse_btc).transpose()
    }

    pub(super) fn list(&self, index: usize) -> Result<&'a [Value], RpcError> {
        match self.get(index) {
            Some(Value::Array(list)) => Ok(list),
            _ => Err(self.wrong_type(index, "array")),
        }
    }

    pub(super) fn opt_hash<T: FromStr>(&self, index: usize) -> Result<Option<T>, RpcError> {
        self.opt_text(index)?.map(|text| parse_hash(self.name(index), text)).transpose()
    }

    pub(super) fn hash<T: FromStr>(&self, index: usize) -> Result<T, RpcError> {
        parse_hash(self.name(index), self.text(index)?)
    }
}

fn by_name<'a>(names: &[&str], named: &'a Map<String, Value>) -> Result<Vec<Option<&'a Value>>, RpcError> {
    let positional = match named.get("args") {
        Some(Value::Array(values)) if !names.contains(&"args") => values.as_slice(),
        _ => &[],
    };
    for name in named.keys() {
        if !names.contains(&name.as_str()) && (name != "args" || positional.is_empty()) {
            return Err(RpcError::new(code::INVALID_PARAMETER, format!("Unknown named parameter {name}")));
        }
    }
    let value = |(index, name): (usize, &&str)| positional.get(index).or_else(|| named.get(*name));
    Ok(names.iter().enumerate().map(value).collect())
}

fn parse_hash<T: FromStr>(name: &str, text: &str) -> Result<T, RpcError> {
    const LENGTH: usize = 64;
    let invalid = |message: String| RpcError::new(code::INVALID_PARAMETER, message);
    if text.len() != LENGTH {
        return Err(invalid(format!("{name} must be of length {LENGTH} (not {}, for '{text}')", text.len())));
    }
    text.parse().map_err(|_| invalid(format!("{name} must be hexadecimal string (not '{text}')")))
}

/// Reads a transaction or a block in hexadecimal.
pub(super) fn decode<T: Decodable>(hex: &str, complaint: &str) -> Result<T, RpcError> {
    deserialize_hex(hex).map_err(|_| RpcError::new(code::DESERIALIZATION_ERROR, complaint))
}

const fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
