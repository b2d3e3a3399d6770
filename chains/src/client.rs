//! What the nodes of a network know: [`Client`], I/O. Behind the feature `client`, which signers do without.

use std::collections::BTreeSet;
use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::{BuildError, Chain, Replacement, Slot};
use crate::intent::Intent;
use crate::rpc::RpcError;
pub use crate::send::SendClass;
use crate::simulation::Simulation;

/// What a node (or several) knows of one network.
pub trait Client: Send + Sync + 'static {
    /// The chain that it speaks for.
    type Chain: Chain;

    /// Gathers what [`Chain::build`] needs for `intent`. Slots in `busy` are reserved for other payments: their nonces
    /// and outpoints are left out.
    fn state(
        &self,
        intent: &Intent,
        account: &Account,
        busy: &BTreeSet<Slot>,
    ) -> impl Future<Output = Result<<Self::Chain as Chain>::State, StateError>> + Send;

    /// Gathers what [`Chain::replace`] needs to take the place of `previous`, the attempts so far, oldest first. Slots in `busy`
    /// are reserved: those of `previous` are among them and are used again, the others are left out.
    fn replacement_state(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[<Self::Chain as Chain>::Unsigned],
        purpose: Replacement,
        busy: &BTreeSet<Slot>,
    ) -> impl Future<Output = Result<<Self::Chain as Chain>::State, StateError>> + Send;

    /// How much of `asset` the account has, unconfirmed payments from itself counted, in base units.
    fn balance(&self, account: &Account, asset: Asset) -> impl Future<Output = Result<Amount, RpcError>> + Send;

    /// Sends the signed transaction. That a node knows it already is success.
    fn broadcast(
        &self,
        signed: &<Self::Chain as Chain>::Signed,
    ) -> impl Future<Output = Result<(), BroadcastError>> + Send;

    /// What has become of the transaction.
    fn status(&self, signed: &<Self::Chain as Chain>::Signed) -> impl Future<Output = Result<Status, RpcError>> + Send;

    /// How many of the account's transactions are mined, pending and final, on a chain that counts them.
    fn nonces(&self, _account: &Account) -> impl Future<Output = Result<Option<Nonces>, RpcError>> + Send {
        std::future::ready(Ok(None))
    }

    /// The Keccak-256 of the code that a contract has, on a chain that has contracts; `None` where there is none.
    fn code_hash(&self, _contract: &Address) -> impl Future<Output = Result<Option<[u8; 32]>, RpcError>> + Send {
        std::future::ready(Ok(None))
    }

    /// What the transaction would do if it were sent. A node that can't tell says so.
    fn simulate(
        &self,
        _unsigned: &<Self::Chain as Chain>::Unsigned,
    ) -> impl Future<Output = Result<Simulation, RpcError>> + Send {
        std::future::ready(Ok(Simulation::Unsupported))
    }

    /// The height of the best block, and of the last final one where the chain has such.
    fn tip(&self) -> impl Future<Output = Result<Tip, RpcError>> + Send;

    /// What a client that follows the chain block by block has learnt since the last call, to be stored and given back at
    /// the next start. Most clients ask the node anew and have nothing to tell.
    fn take_changes(&self) -> impl Future<Output = Option<Vec<u8>>> + Send {
        std::future::ready(None)
    }
}

/// What has become of a transaction, as far as a node can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The node doesn't know it. That proves nothing.
    Unknown,
    /// In the node's mempool.
    InMempool,
    /// In a block of the best chain.
    Included(Inclusion),
    /// It can never be included any more, and no other signature over its message was: its validity has passed at *finalized*
    /// height (Solana), or a transaction that is known to be another one has used up its slot, finally.
    Expired,
    /// It can never be included any more, but it can't be told whether another signature over its very message was: signatures
    /// are randomised, and a transaction's id covers them on Ethereum and Solana.
    SlotUsed,
}

/// Where a transaction stands in the best chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inclusion {
    /// The block's height, or Solana's slot.
    pub height: u64,
    /// The block's hash, where the node tells it.
    pub block: Option<String>,
    /// Blocks from the including block to the best one, both counted.
    pub confirmations: u64,
    /// Whether the chain itself calls it final. On Bitcoin, which has no such thing, never: depth decides.
    pub finalized: bool,
    /// Whether it did what it was for. A failed transaction is on chain and has paid its fee.
    pub succeeded: bool,
    /// Why it failed, in the chain's words.
    pub failure: Option<String>,
    /// The fee it paid, native base units, where the node tells it.
    pub fee: Option<Amount>,
}

/// How far a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tip {
    /// The best block's height (Solana: its slot).
    pub height: u64,
    /// The last final block's height, where the chain has finality.
    pub finalized: Option<u64>,
}

/// An account's nonces as a node tells them: each is the first one that is not used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Nonces {
    /// In blocks of the best chain.
    pub latest: u64,
    /// The node's mempool counted.
    pub pending: u64,
    /// In final blocks, where there are such.
    pub finalized: Option<u64>,
}

/// Why the state for a transaction can't be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A node failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The intent can't become a transaction, whatever the state.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The node tried the call and it reverted.
    #[error("the call would revert: {0}")]
    Reverted(String),
}

/// Why a node didn't take a transaction. Only [`BroadcastError::Rejected`] is a node's verdict, and even that is no proof
/// that no other node took it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The node couldn't be asked, or its answer couldn't be read.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The node said no. No class is evidence that the payment is not out; see [`send`](crate::send).
    #[error("the node refused the transaction ({code}): {message}")]
    Rejected {
        /// What the node means.
        class: SendClass,
        /// The node's error code.
        code: i64,
        /// The node's words.
        message: String,
    },
}
