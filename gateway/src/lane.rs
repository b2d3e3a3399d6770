//! One network's chain, accounts and nodes behind one object, so that the pipeline is the same for every chain.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chains::account::Account;
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{AssembleError, Chain, DecodeError, Replacement, Slot};
use chains::client::{BroadcastError, Client, Nonces, StateError, Tip};
use chains::effects::Effects;
use chains::intent::Intent;
use chains::network::Network;
use chains::payload::Signature;
use chains::rpc::RpcError;
use chains::simulation::Simulation;
use signer::policy::code::CodeHash;

use crate::nodes::{Nodes, Seen};
use crate::record::SignedBytes;

/// A network as the pipeline sees it: the unsigned and the signed transaction are bytes in the chain's own encoding.
#[async_trait]
pub trait Lane: Send + Sync + 'static {
    /// The network.
    fn network(&self) -> Network;

    /// Asks the nodes for the chain's state, with `busy` slots left out, and builds the transaction.
    async fn build(&self, intent: &Intent, account: &Account, busy: &BTreeSet<Slot>) -> Result<Draft, LaneError>;

    /// Asks the nodes for the chain's state and builds a transaction that excludes every one of `previous`, the intent's
    /// attempts so far, oldest first.
    async fn replace(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Vec<u8>],
        purpose: Replacement,
        busy: &BTreeSet<Slot>,
    ) -> Result<Draft, LaneError>;

    /// Decodes unsigned bytes anew: what comes from a store is not trusted.
    fn decode(&self, account: &Account, unsigned: Vec<u8>) -> Result<Draft, LaneError>;

    /// Puts the signatures in place and verifies them.
    fn assemble(&self, account: &Account, unsigned: &[u8], signatures: &[Signature]) -> Result<SignedBytes, LaneError>;

    /// Sends signed bytes to every node.
    async fn broadcast(&self, signed: &[u8]) -> Result<(), LaneError>;

    /// What has become of signed bytes, by the word of all nodes.
    async fn status(&self, signed: &[u8]) -> Result<Seen, LaneError>;

    /// What an account has of an asset.
    async fn balance(&self, account: &Account, asset: Asset) -> Result<Amount, LaneError>;

    /// The account's nonces as the nodes tell them, on a chain that has such.
    async fn nonces(&self, account: &Account) -> Result<Option<Nonces>, LaneError>;

    /// The Keccak-256 of a contract's code; `None` where it has none.
    async fn code_hash(&self, _contract: &Address) -> Result<Option<CodeHash>, LaneError> {
        Ok(None)
    }

    /// What a node says that unsigned bytes would do.
    async fn simulate(&self, _unsigned: &[u8]) -> Result<Simulation, LaneError> {
        Ok(Simulation::Unsupported)
    }

    /// How far the chain is.
    async fn tip(&self) -> Result<Tip, LaneError>;

    /// What the nodes' followers learnt since the last call, to be stored for the next start: the node's place in the
    /// configuration, and an opaque blob.
    async fn take_changes(&self) -> Vec<(u32, Vec<u8>)>;
}

/// A transaction that was built or read back: the bytes, and what they do. The effects are decoded from these very bytes.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(crate) unsigned: Vec<u8>,
    pub(crate) effects: Effects,
    pub(crate) slots: BTreeSet<Slot>,
}

impl Draft {
    /// The unsigned transaction in the chain's own encoding.
    pub fn unsigned(&self) -> &[u8] {
        &self.unsigned
    }

    /// What it does.
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// What it uses up on chain.
    pub fn slots(&self) -> &BTreeSet<Slot> {
        &self.slots
    }
}

/// Why a lane couldn't do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The intent can't become a transaction, or not in the chain's present state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Bytes are not what they should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Signatures don't fit.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The nodes didn't take the transaction.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// The nodes can't be asked.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// The one implementation of [`Lane`]: a chain with its nodes.
#[derive(Debug)]
pub struct NodeLane<N: Client> {
    chain: N::Chain,
    nodes: Nodes<N>,
}

impl<N: Client> NodeLane<N> {
    /// The lane of `chain`, whose nodes are `nodes`.
    pub const fn new(chain: N::Chain, nodes: Nodes<N>) -> Self {
        Self { chain, nodes }
    }

    fn draft(&self, account: &Account, unsigned: &<N::Chain as Chain>::Unsigned) -> Result<Draft, LaneError> {
        // The effects come from the bytes as they will be stored and signed, not from the value they were made from.
        let bytes = self.chain.encode_unsigned(unsigned);
        self.decode_draft(account, bytes)
    }

    fn decode_draft(&self, account: &Account, bytes: Vec<u8>) -> Result<Draft, LaneError> {
        let unsigned = self.chain.decode_unsigned(&bytes)?;
        let effects = self.chain.effects(account, &unsigned)?;
        let slots = self.chain.slots(account, &unsigned);
        Ok(Draft { unsigned: bytes, effects, slots })
    }
}

#[async_trait]
impl<N: Client> Lane for NodeLane<N> {
    fn network(&self) -> Network {
        self.chain.network()
    }

    async fn build(&self, intent: &Intent, account: &Account, busy: &BTreeSet<Slot>) -> Result<Draft, LaneError> {
        let state = self.nodes.read(|node| node.state(intent, account, busy)).await?;
        let unsigned = self.chain.build(intent, account, &state).map_err(StateError::from)?;
        self.draft(account, &unsigned)
    }

    async fn replace(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Vec<u8>],
        purpose: Replacement,
        busy: &BTreeSet<Slot>,
    ) -> Result<Draft, LaneError> {
        let previous = previous.iter().map(|bytes| self.chain.decode_unsigned(bytes)).collect::<Result<Vec<_>, _>>()?;
        let state = self.nodes.read(|node| node.replacement_state(intent, account, &previous, purpose, busy)).await?;
        let unsigned = self.chain.replace(intent, account, &previous, purpose, &state).map_err(StateError::from)?;
        self.draft(account, &unsigned)
    }

    fn decode(&self, account: &Account, unsigned: Vec<u8>) -> Result<Draft, LaneError> {
        self.decode_draft(account, unsigned)
    }

    fn assemble(&self, account: &Account, unsigned: &[u8], signatures: &[Signature]) -> Result<SignedBytes, LaneError> {
        let unsigned = self.chain.decode_unsigned(unsigned)?;
        let signed = self.chain.assemble(account, &unsigned, signatures)?;
        Ok(SignedBytes { bytes: self.chain.encode_signed(&signed), id: self.chain.id(&signed).to_string() })
    }

    async fn broadcast(&self, signed: &[u8]) -> Result<(), LaneError> {
        let signed = self.chain.decode_signed(signed)?;
        Ok(self.nodes.broadcast(&signed).await?)
    }

    async fn status(&self, signed: &[u8]) -> Result<Seen, LaneError> {
        let signed = self.chain.decode_signed(signed)?;
        Ok(self.nodes.status(&signed).await?)
    }

    async fn balance(&self, account: &Account, asset: Asset) -> Result<Amount, LaneError> {
        Ok(self.nodes.read(|node| node.balance(account, asset)).await?)
    }

    async fn nonces(&self, account: &Account) -> Result<Option<Nonces>, LaneError> {
        Ok(self.nodes.read(|node| node.nonces(account)).await?)
    }

    async fn code_hash(&self, contract: &Address) -> Result<Option<CodeHash>, LaneError> {
        Ok(self.nodes.read(|node| node.code_hash(contract)).await?.map(CodeHash::new))
    }

    async fn simulate(&self, unsigned: &[u8]) -> Result<Simulation, LaneError> {
        let unsigned = self.chain.decode_unsigned(unsigned)?;
        Ok(self.nodes.read(|node| node.simulate(&unsigned)).await?)
    }

    async fn tip(&self) -> Result<Tip, LaneError> {
        Ok(self.nodes.read(|node| node.tip()).await?)
    }

    async fn take_changes(&self) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        for (place, node) in (0..).zip(self.nodes.iter()) {
            all.extend(node.take_changes().await.map(|changes| (place, changes)));
        }
        all
    }
}
