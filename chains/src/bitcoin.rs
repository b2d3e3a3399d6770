//! Bitcoin: P2WPKH and P2TR inputs, any standard output, change to the wallet itself.
//!
//! In the order in which a payment walks through: `client` learns the wallet's unspent outputs from a node, `build`
//! makes a PSBT of them and `replace` one in its place or `accelerate` one that pays for it, `effects` tells what it does, `sign` what is signed and puts the signatures in place, `wire`
//! holds the two transaction types and their bytes.

mod accelerate;
pub mod address;
mod build;
#[cfg(feature = "client")]
mod client;
mod effects;
mod replace;
mod sign;
mod wire;

use std::collections::BTreeSet;

pub use build::{Parent, Replaced, State, Utxo, Waiting};
#[cfg(feature = "client")]
pub use client::{BitcoinClient, Options, RestoreError};
pub use wire::{Signed, Unsigned};

use crate::account::Account;
use crate::chain::{AssembleError, BuildError, Chain, DecodeError, Replacement, Slot, TxId};
use crate::effects::Effects;
use crate::intent::Intent;
use crate::network::{BitcoinNetwork, Network};
use crate::payload::{Payload, Signature};

/// The Bitcoin chain on one network.
///
/// A PSBT doesn't name its network: what ties a transaction to one are the outputs that it spends, which exist on one
/// network only. The addresses in [`Effects`] are spelled for the network given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitcoin {
    network: BitcoinNetwork,
}

impl Bitcoin {
    /// The chain of `network`.
    pub const fn new(network: BitcoinNetwork) -> Self {
        Self { network }
    }
}

impl Chain for Bitcoin {
    type State = State;
    type Unsigned = Unsigned;
    type Signed = Signed;

    fn network(&self) -> Network {
        Network::Bitcoin(self.network)
    }

    fn build(&self, intent: &Intent, account: &Account, state: &State) -> Result<Unsigned, BuildError> {
        build::build(self.network, intent, account, state)
    }

    fn replace(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Unsigned],
        purpose: Replacement,
        state: &State,
    ) -> Result<Unsigned, BuildError> {
        replace::replace(self.network, intent, account, previous, purpose, state)
    }

    fn effects(&self, account: &Account, unsigned: &Unsigned) -> Result<Effects, DecodeError> {
        effects::effects(self.network, account, unsigned)
    }

    fn payloads(&self, account: &Account, unsigned: &Unsigned) -> Result<Vec<Payload>, DecodeError> {
        sign::payloads(self.network, account, unsigned)
    }

    fn assemble(
        &self,
        account: &Account,
        unsigned: &Unsigned,
        signatures: &[Signature],
    ) -> Result<Signed, AssembleError> {
        sign::assemble(self.network, account, unsigned, signatures)
    }

    fn encode_unsigned(&self, unsigned: &Unsigned) -> Vec<u8> {
        unsigned.encode()
    }

    fn decode_unsigned(&self, bytes: &[u8]) -> Result<Unsigned, DecodeError> {
        Unsigned::decode(bytes)
    }

    fn encode_signed(&self, signed: &Signed) -> Vec<u8> {
        signed.encode()
    }

    fn decode_signed(&self, bytes: &[u8]) -> Result<Signed, DecodeError> {
        Signed::decode(bytes)
    }

    fn id(&self, signed: &Signed) -> TxId {
        TxId::new(signed.transaction().compute_txid())
    }

    fn slots(&self, _account: &Account, unsigned: &Unsigned) -> BTreeSet<Slot> {
        let inputs = unsigned.transaction().input.iter();
        inputs.map(|input| Slot::new(self.network(), input.previous_output)).collect()
    }
}
