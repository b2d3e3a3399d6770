//! Parameters: by position, each checked when it is taken.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;

use super::error::{invalid_params, min_context_slot_not_reached};
use crate::node::solana::engine::Engine;
use crate::node::solana::ledger::Slot;
use crate::rpc::RpcError;

/// The most addresses or signatures in one request, by method.
pub(super) const MAX_MULTIPLE_ACCOUNTS: usize = 100;
pub(super) const MAX_SIGNATURE_STATUSES: usize = 256;
pub(super) const MAX_FEE_ADDRESSES: usize = 128;

/// The parameters of one call.
pub(super) struct Args<'a>(&'a [Value]);

/// How sure a caller wants to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Commitment {
    /// The node's newest block.
    Processed,
    /// Two thirds of the nodes vote for it.
    Confirmed,
    /// Two thirds of the nodes never leave it, as it is deep enough.
    #[default]
    Finalized,
}

/// What a caller says about the state that it wants to see.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContextConfig {
    pub(super) commitment: Option<Commitment>,
    pub(super) min_context_slot: Option<Slot>,
}

/// Like [`ContextConfig`], where only blocks can be asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct BlockContext {
    pub(super) commitment: Option<Commitment>,
}

impl<'a> Args<'a> {
    /// Takes `params` of a request: an array, or nothing.
    pub(super) fn new(params: &'a Value) -> Result<Self, RpcError> {
        match params {
            Value::Null => Ok(Self(&[])),
            Value::Array(params) => Ok(Self(params)),
            _ => Err(invalid_params("`params` should be an array")),
        }
    }

    /// Parameter `index`, from 0.
    pub(super) fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        let value = self.0.get(index).ok_or_else(|| {
            invalid_params(format!("`params` should have at least {} argument(s)", index.saturating_add(1)))
        })?;
        T::deserialize(value).map_err(|e| invalid_params(format!("Invalid params: {e}.")))
    }

    /// Parameter `index`, from 0, or its default where it is missing or null.
    pub(super) fn optional<T: DeserializeOwned + Default>(&self, index: usize) -> Result<T, RpcError> {
        match self.0.get(index) {
            None | Some(Value::Null) => Ok(T::default()),
            Some(_) => self.required(index),
        }
    }

    pub(super) fn pubkey(&self, index: usize) -> Result<Pubkey, RpcError> {
        pubkey(&self.required::<String>(index)?)
    }

    pub(super) fn signature(&self, index: usize) -> Result<Signature, RpcError> {
        signature(&self.required::<String>(index)?)
    }
}

impl Commitment {
    /// The newest slot that is as sure.
    pub(super) fn slot(self, engine: &Engine) -> Slot {
        match self {
            Self::Processed => engine.processed(),
            Self::Confirmed => engine.confirmed(),
            Self::Finalized => engine.finalized(),
        }
    }

    /// How sure `slot` is.
    pub(super) fn of(slot: Slot, engine: &Engine) -> Self {
        [Self::Finalized, Self::Confirmed]
            .into_iter()
            .find(|level| level.slot(engine) >= slot)
            .unwrap_or(Self::Processed)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
        }
    }
}

impl ContextConfig {
    /// The slot whose state is asked for.
    pub(super) fn slot(self, engine: &Engine) -> Result<Slot, RpcError> {
        let slot = self.commitment.unwrap_or_default().slot(engine);
        match self.min_context_slot {
            Some(wanted) if slot < wanted => Err(min_context_slot_not_reached(slot)),
            _ => Ok(slot),
        }
    }
}

impl BlockContext {
    /// The newest slot whose blocks may be seen.
    pub(super) fn slot(self, engine: &Engine) -> Result<Slot, RpcError> {
        match self.commitment.unwrap_or_default() {
            Commitment::Processed => Err(invalid_params("Method does not support commitment below `confirmed`")),
            level => Ok(level.slot(engine)),
        }
    }
}

pub(super) fn pubkey(text: &str) -> Result<Pubkey, RpcError> {
    text.parse().map_err(|e| invalid_params(format!("Invalid param: {e:?}")))
}

pub(super) fn signature(text: &str) -> Result<Signature, RpcError> {
    text.parse().map_err(|e| invalid_params(format!("Invalid param: {e:?}")))
}

/// Refuses a list that is longer than `most`.
pub(super) fn limited<T>(inputs: Vec<T>, most: usize) -> Result<Vec<T>, RpcError> {
    if inputs.len() > most {
        return Err(invalid_params(format!("Too many inputs provided; max {most}")));
    }
    Ok(inputs)
}
