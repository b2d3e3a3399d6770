//! Ethereum and every EVM network: EIP-1559 and EIP-2930 transactions, native transfers, ERC-20 and contract calls.
//!
//! In the order in which a payment walks through: `client` asks a node for nonce, balances, fees and gas, `build` makes
//! the transaction and `replace` one in its place, `effects` tells what it does, `sign` what is signed and puts the
//! signature in place, `wire` holds the two transaction types and their bytes. `units` counts gas and its price, `decode`
//! knows what calls mean, [`function`] reads the arguments of a call by its signature, [`typed`] typed data (EIP-712).

pub mod address;
mod build;
#[cfg(feature = "client")]
mod client;
mod decode;
mod effects;
pub mod function;
mod replace;
mod sign;
pub mod typed;
mod units;
mod wire;

use std::collections::BTreeSet;

pub use build::{Fees, Replacing, State};
#[cfg(feature = "client")]
pub use client::{EthereumClient, Finality, Options};
pub use units::{BasisPoints, Gas, GasPrice, Nonce};
pub use wire::{Signed, Transaction, Unsigned};

use alloy::primitives::Address;

use crate::account::Account;
use crate::address::Address as ChainAddress;
use crate::chain::{AssembleError, BuildError, Chain, DecodeError, Replacement, Slot, TxId};
use crate::effects::Effects;
use crate::intent::Intent;
use crate::network::Network;
use crate::payload::{Payload, Signature};

/// One EVM network.
///
/// Every transaction names its chain id (EIP-155), so bytes of one network are refused on every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethereum {
    chain_id: u64,
}

impl Ethereum {
    /// The network with this EIP-155 chain id.
    pub const fn new(chain_id: u64) -> Self {
        Self { chain_id }
    }

    /// The EIP-155 chain id.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// What a transaction of `from` with `nonce` uses up: `<from, EIP-55>/<nonce>`.
    fn slot(&self, from: Address, nonce: Nonce) -> Slot {
        Slot::new(self.network(), format_args!("{from}/{nonce}"))
    }

    /// The account's address, where the account is of this network.
    fn address_of(&self, account: &Account) -> Option<Address> {
        match account.address() {
            ChainAddress::Ethereum(address) if account.network() == self.network() => Some(*address),
            _ => None,
        }
    }

    /// Makes sure that the transaction is of this network and spends from `account`.
    fn check(&self, account: &Account, unsigned: &Unsigned) -> Result<(), DecodeError> {
        wire::require_chain_id(self, unsigned.chain_id())?;
        match self.address_of(account) {
            Some(address) if address == unsigned.from() => Ok(()),
            _ => Err(DecodeError::WrongAccount(account.address().to_string())),
        }
    }
}

impl Chain for Ethereum {
    type State = State;
    type Unsigned = Unsigned;
    type Signed = Signed;

    fn network(&self) -> Network {
        Network::Ethereum(self.chain_id)
    }

    fn build(&self, intent: &Intent, account: &Account, state: &State) -> Result<Unsigned, BuildError> {
        build::build(self, intent, account, state)
    }

    fn replace(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Unsigned],
        purpose: Replacement,
        state: &State,
    ) -> Result<Unsigned, BuildError> {
        replace::replace(self, intent, account, previous, purpose, state)
    }

    fn effects(&self, account: &Account, unsigned: &Unsigned) -> Result<Effects, DecodeError> {
        self.check(account, unsigned)?;
        effects::effects(unsigned)
    }

    fn payloads(&self, account: &Account, unsigned: &Unsigned) -> Result<Vec<Payload>, DecodeError> {
        self.check(account, unsigned)?;
        Ok(sign::payloads(account, unsigned))
    }

    fn assemble(
        &self,
        account: &Account,
        unsigned: &Unsigned,
        signatures: &[Signature],
    ) -> Result<Signed, AssembleError> {
        self.check(account, unsigned)?;
        sign::assemble(unsigned, signatures)
    }

    fn encode_unsigned(&self, unsigned: &Unsigned) -> Vec<u8> {
        wire::encode_unsigned(unsigned)
    }

    fn decode_unsigned(&self, bytes: &[u8]) -> Result<Unsigned, DecodeError> {
        wire::decode_unsigned(self, bytes)
    }

    fn encode_signed(&self, signed: &Signed) -> Vec<u8> {
        signed.raw().to_vec()
    }

    fn decode_signed(&self, bytes: &[u8]) -> Result<Signed, DecodeError> {
        wire::decode_signed(self, bytes)
    }

    fn id(&self, signed: &Signed) -> TxId {
        TxId::new(signed.hash())
    }

    fn slots(&self, _account: &Account, unsigned: &Unsigned) -> BTreeSet<Slot> {
        BTreeSet::from([self.slot(unsigned.from(), unsigned.nonce())])
    }
}
