//! Positional parameters, with geth's complaints about them.

use alloy::eips::BlockId;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rpc::{INVALID_PARAMS, RpcError};

/// The parameters of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args<'a>(&'a [Value]);

impl<'a> Args<'a> {
    /// The parameters, which are an array or left out.
    ///
    /// # Errors
    /// `-32602` for an object.
    pub(crate) fn new(params: &'a Value) -> Result<Self, RpcError> {
        match params {
            Value::Null => Ok(Self(&[])),
            Value::Array(values) => Ok(Self(values)),
            _ => Err(RpcError::new(INVALID_PARAMS, "non-array args")),
        }
    }

    /// The parameter at `index`; `None` where it is left out or null.
    ///
    /// # Errors
    /// `-32602` where it has another form.
    pub(crate) fn optional<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        let Some(value) = self.0.get(index).filter(|value| !value.is_null()) else { return Ok(None) };
        T::deserialize(value)
            .map(Some)
            .map_err(|error| RpcError::new(INVALID_PARAMS, format!("invalid argument {index}: {error}")))
    }

    /// The parameter at `index`.
    ///
    /// # Errors
    /// `-32602` where it is missing or has another form.
    pub(crate) fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        self.optional(index)?
            .ok_or_else(|| RpcError::new(INVALID_PARAMS, format!("missing value for required argument {index}")))
    }

    /// The block at `index`, the latest one where it is left out.
    ///
    /// # Errors
    /// `-32602` where it has another form.
    pub(crate) fn block(&self, index: usize) -> Result<BlockId, RpcError> {
        Ok(self.optional(index)?.unwrap_or_default())
    }
}
