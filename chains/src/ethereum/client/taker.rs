//! Which transaction has used up a nonce.
//!
//! ECDSA signatures are randomised, and a transaction's hash covers its signature. Whoever took part in a signing may keep a second
//! signature over the very same message and send it, so a hash that no node knows proves nothing. The transaction that has
//! used up the nonce is found, and its message compared.

use alloy::consensus::{TxEip1559, TxEip2930};
use alloy::eips::eip2930::AccessList;
use alloy::primitives::{Address, B256, Bytes, TxKind, U64, U128, U256};
use serde::Deserialize;
use serde_json::Value;

use super::node::Node;
use crate::ethereum::{Transaction, Unsigned};
use crate::rpc::RpcError;

/// Who has used up the nonce of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// The very same message, under a signature that makes it the transaction with this hash.
    Same(B256),
    /// Another message.
    Other,
    /// The node can't tell: it has thrown away old states or old blocks, it leaves out fields, or no transaction did (an
    /// authorization uses up a nonce of the account that gives it; EIP-7702).
    Untold,
}

/// Which transaction this is.
#[derive(Debug, Deserialize)]
struct Name {
    from: Address,
    nonce: U64,
    /// By EIP-2718.
    #[serde(rename = "type")]
    kind: U64,
}

/// What every transaction that is compared has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    hash: B256,
    chain_id: U64,
    /// `None` for a contract creation.
    to: Option<Address>,
    value: U256,
    input: Bytes,
    gas: U64,
    access_list: AccessList,
}

/// The prices of an EIP-1559 transaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fees {
    max_fee_per_gas: U128,
    max_priority_fee_per_gas: U128,
}

/// The one price of an EIP-2930 transaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Price {
    gas_price: U128,
}

/// Who has used up the nonce of `unsigned`, which is used up in the state after block `last`.
///
/// # Errors
/// Where the node can't be asked or its answer can't be read. That it answers with an error of its own is [`Taker::Untold`].
pub(super) async fn taker(node: &Node, unsigned: &Unsigned, last: u64) -> Result<Taker, RpcError> {
    let height = used_up_at(node, unsigned, last).await?;
    let transactions = node.transactions(height).await?.unwrap_or_default();
    Ok(transactions.iter().find_map(|tx| compare(unsigned, tx)).unwrap_or(Taker::Untold))
}

/// The lowest block after which the nonce is known to be used up: in steps back from `last` that double, because it is mostly
/// a recent one, and then between the last two steps. A state that the node doesn't have counts as one before.
async fn used_up_at(node: &Node, unsigned: &Unsigned, last: u64) -> Result<u64, RpcError> {
    let used_up = async |height| {
        let count = node.nonce_after(unsigned.from(), height).await?;
        Ok::<bool, RpcError>(count.is_some_and(|count| count > unsigned.nonce()))
    };
    let (mut unused, mut used, mut step) = (0, last, 1_u64);
    while used > 0 {
        let earlier = last.saturating_sub(step);
        if !used_up(earlier).await? {
            unused = earlier;
            break;
        }
        (used, step) = (earlier, step.saturating_mul(2));
    }
    while used.saturating_sub(unused) > 1 {
        let middle = unused.midpoint(used);
        if used_up(middle).await? {
            used = middle;
        } else {
            unused = middle;
        }
    }
    Ok(used)
}

/// What `tx` is to `unsigned`; `None` where it isn't of its sender and nonce.
fn compare(unsigned: &Unsigned, tx: &Value) -> Option<Taker> {
    let name = Name::deserialize(tx).ok()?;
    if name.from != unsigned.from() || name.nonce != U64::from(unsigned.nonce().get()) {
        return None;
    }
    let ours = unsigned.transaction();
    if name.kind != U64::from(ours.kind()) {
        return Some(Taker::Other);
    }
    Some(match message(ours, name.nonce.to(), tx) {
        Ok((hash, Some(message))) if message == *ours => Taker::Same(hash),
        Ok(_) => Taker::Other,
        Err(_) => Taker::Untold,
    })
}

/// The message that `tx` signs, of the same type as `ours`, and its hash; no message where it creates a contract.
fn message(ours: &Transaction, nonce: u64, tx: &Value) -> Result<(B256, Option<Transaction>), serde_json::Error> {
    let Fields { hash, chain_id, to, value, input, gas, access_list } = Fields::deserialize(tx)?;
    let Some(to) = to else { return Ok((hash, None)) };
    let (chain_id, to, gas_limit) = (chain_id.to(), TxKind::Call(to), gas.to());
    let message = match ours {
        Transaction::Eip1559(_) => {
            let Fees { max_fee_per_gas, max_priority_fee_per_gas } = Fees::deserialize(tx)?;
            Transaction::Eip1559(TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: max_fee_per_gas.to(),
                max_priority_fee_per_gas: max_priority_fee_per_gas.to(),
                to,
                value,
                access_list,
                input,
            })
        }
        Transaction::Eip2930(_) => {
            let Price { gas_price } = Price::deserialize(tx)?;
            let gas_price = gas_price.to();
            Transaction::Eip2930(TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input })
        }
    };
    Ok((hash, Some(message)))
}
