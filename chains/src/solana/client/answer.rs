//! The shapes of a node's answers (<https://solana.com/docs/rpc>), as far as they are read.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use solana_sdk::pubkey::Pubkey;

/// A value and the slot at which it was read.
#[derive(Debug, Deserialize)]
pub(super) struct WithContext<T> {
    pub(super) context: Context,
    pub(super) value: T,
}

#[derive(Debug, Deserialize)]
pub(super) struct Context {
    pub(super) slot: u64,
}

/// `getLatestBlockhash`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LatestBlockhash {
    pub(super) blockhash: String,
    pub(super) last_valid_block_height: u64,
}

/// An account in `getMultipleAccounts` with encoding `base64`.
#[derive(Debug, Deserialize)]
pub(super) struct AccountInfo {
    pub(super) lamports: u64,
    #[serde(deserialize_with = "pubkey")]
    pub(super) owner: Pubkey,
    #[serde(deserialize_with = "base64_data")]
    pub(super) data: Vec<u8>,
    pub(super) executable: bool,
}

/// One slot in `getRecentPrioritizationFees`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PrioritizationFee {
    /// In micro-lamports for each compute unit.
    pub(super) prioritization_fee: u64,
}

/// `simulateTransaction`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Simulation {
    pub(super) err: Option<Value>,
    #[serde(default)]
    pub(super) units_consumed: Option<u64>,
}

/// One signature in `getSignatureStatuses`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TxStatus {
    pub(super) slot: u64,
    /// Blocks since; null once final.
    pub(super) confirmations: Option<u64>,
    pub(super) err: Option<Value>,
    #[serde(default)]
    pub(super) confirmation_status: Option<String>,
}

/// One transaction in `getSignaturesForAddress`.
#[derive(Debug, Deserialize)]
pub(super) struct SignatureOf {
    pub(super) signature: String,
    pub(super) slot: u64,
    pub(super) err: Option<Value>,
}

/// `getEpochInfo`: a block's slot and its height, in one answer.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EpochInfo {
    pub(super) absolute_slot: u64,
    pub(super) block_height: u64,
}

/// `getBlock`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    pub(super) blockhash: String,
    /// Null in the oldest blocks.
    pub(super) block_height: Option<u64>,
    /// The blockhash of the block before it.
    pub(super) previous_blockhash: String,
}

/// `getTransaction` with encoding `base64`.
#[derive(Debug, Deserialize)]
pub(super) struct Transaction {
    #[serde(deserialize_with = "base64_data")]
    pub(super) transaction: Vec<u8>,
    pub(super) meta: Option<Meta>,
}

/// `getTransaction`, where only its fee is of interest.
#[derive(Debug, Deserialize)]
pub(super) struct TransactionMeta {
    pub(super) meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    /// In lamports.
    pub(super) fee: u64,
}

fn pubkey<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pubkey, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(|_| D::Error::custom("an owner that is no address"))
}

fn base64_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let (data, encoding) = <(String, String)>::deserialize(deserializer)?;
    if encoding != "base64" {
        return Err(D::Error::custom(format!("bytes in {encoding}, not in base64")));
    }
    BASE64_STANDARD.decode(data).map_err(D::Error::custom)
}
