//! Solana: legacy and v0 messages, SOL and SPL transfers.
//!
//! In the order in which a payment walks through: `client` learns blockhash, balances, rent and fees from a node, `build`
//! makes a message of them (`replace` another in its place), `effects` tells what it does (reading each `instruction` strictly), `sign` what is signed and
//! puts the signature in place, `wire` holds the two transaction types and their bytes. `fee` knows what a transaction
//! costs, `token` the token programs and their accounts, `nonce` what keeps a message valid, `table` what it reads from lookup tables.

pub mod address;
mod build;
#[cfg(feature = "client")]
mod client;
mod effects;
mod fee;
mod instruction;
mod nonce;
mod replace;
mod sign;
mod table;
mod token;
mod wire;

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

pub use build::{Destination, DestinationKind, MessageVersion, State, TokenState};
#[cfg(feature = "client")]
pub use client::{Durable, Options, Percent, PriorityFee, SolanaClient};
pub use fee::{ComputeBudget, Lamports, MAX_COMPUTE_UNITS, MicroLamports};
pub use nonce::{NONCE_ACCOUNTS, Nonce, Validity, nonce_account};
pub use table::{TableAccount, TableError, digest as table_digest};
pub use token::{TokenProgram, associated_token_account};
pub use wire::{Signed, Unsigned};

use crate::account::Account;
use crate::chain::{AssembleError, BuildError, Chain, DecodeError, Replacement, Slot, TxId};
use crate::effects::Effects;
use crate::intent::Intent;
use crate::network::{Cluster, Network};
use crate::payload::{Payload, Signature};

/// The Solana chain on one cluster.
///
/// A message doesn't name its cluster: what ties it to one is its blockhash. [`Unsigned`] and [`Signed`] carry the
/// cluster beside the message, so that one cluster's transaction is never taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solana {
    cluster: Cluster,
}

impl Solana {
    /// The chain of `cluster`.
    pub const fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }
}

impl Chain for Solana {
    type State = State;
    type Unsigned = Unsigned;
    type Signed = Signed;

    fn network(&self) -> Network {
        Network::Solana(self.cluster)
    }

    fn build(&self, intent: &Intent, account: &Account, state: &State) -> Result<Unsigned, BuildError> {
        build::build(self.cluster, intent, account, state)
    }

    fn replace(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Unsigned],
        purpose: Replacement,
        state: &State,
    ) -> Result<Unsigned, BuildError> {
        replace::replace(self.cluster, intent, account, previous, purpose, state)
    }

    fn effects(&self, account: &Account, unsigned: &Unsigned) -> Result<Effects, DecodeError> {
        effects::effects(self.cluster, account, unsigned)
    }

    fn payloads(&self, account: &Account, unsigned: &Unsigned) -> Result<Vec<Payload>, DecodeError> {
        sign::payloads(self.cluster, account, unsigned)
    }

    fn assemble(
        &self,
        account: &Account,
        unsigned: &Unsigned,
        signatures: &[Signature],
    ) -> Result<Signed, AssembleError> {
        sign::assemble(self.cluster, account, unsigned, signatures)
    }

    fn encode_unsigned(&self, unsigned: &Unsigned) -> Vec<u8> {
        unsigned.encode()
    }

    fn decode_unsigned(&self, bytes: &[u8]) -> Result<Unsigned, DecodeError> {
        Unsigned::decode(self.cluster, bytes)
    }

    fn encode_signed(&self, signed: &Signed) -> Vec<u8> {
        signed.encode()
    }

    fn decode_signed(&self, bytes: &[u8]) -> Result<Signed, DecodeError> {
        Signed::decode(self.cluster, bytes)
    }

    fn id(&self, signed: &Signed) -> TxId {
        TxId::new(signed.signature())
    }

    /// A cluster takes one message under a durable nonce's value, and under a blockhash a message once: the value or the
    /// message's hash is what the transaction uses up.
    fn slots(&self, _account: &Account, unsigned: &Unsigned) -> BTreeSet<Slot> {
        let what = match unsigned.validity() {
            Validity::Nonce(nonce) => Nonce::slot_text(&nonce.account, &nonce.value),
            Validity::Blockhash { .. } => hex::encode(Sha256::digest(unsigned.message_bytes())),
        };
        BTreeSet::from([Slot::new(self.network(), what)])
    }
}
