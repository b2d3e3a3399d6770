//! What transactions are on a network: [`Chain`], pure. What its nodes know is another matter, `client`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::address::AddressError;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::effects::Effects;
use crate::intent::Intent;
use crate::network::Network;
use crate::payload::{Payload, Signature};
use crate::solana::TableError;
use crate::text::string_serde;

/// What transactions are on one network. Everything here is pure: the same input gives the same bytes.
pub trait Chain: Send + Sync + 'static {
    /// The facts of the chain that a transaction is built from: nonce, unspent outputs, fees, blockhash.
    type State: Send + Sync;
    /// A transaction without its signatures, with all that is needed to decode and sign it.
    type Unsigned: Clone + fmt::Debug + Send + Sync;
    /// A transaction ready to be sent, its signatures verified.
    type Signed: Clone + fmt::Debug + Send + Sync;

    /// The network that the transactions are for.
    fn network(&self) -> Network;

    /// Builds the transaction that does what `intent` says from `account`.
    ///
    /// # Errors
    /// What makes the intent impossible on this chain in this state; see [`BuildError`].
    fn build(&self, intent: &Intent, account: &Account, state: &Self::State) -> Result<Self::Unsigned, BuildError>;

    /// Builds a transaction that excludes every one of `previous` on chain, so that of all of them at most one is ever
    /// included: one that does the same for a higher fee, or one that does nothing but that.
    ///
    /// `previous` are the intent's attempts so far, oldest first, never empty; `state` was gathered for this replacement.
    /// The new transaction has a slot in common with each of them.
    ///
    /// # Errors
    /// [`BuildError::NotReplaceable`] where the chain offers no way, [`BuildError::FeeAboveCap`] where the least fee that nodes
    /// take for a replacement is above the intent's cap, and what [`Chain::build`] answers.
    fn replace(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Self::Unsigned],
        purpose: Replacement,
        state: &Self::State,
    ) -> Result<Self::Unsigned, BuildError>;

    /// Decodes what the unsigned bytes do. `account` tells change from payment.
    ///
    /// # Errors
    /// Where the bytes spend from another account, belong to another network, or hold something that the decoder
    /// doesn't understand.
    fn effects(&self, account: &Account, unsigned: &Self::Unsigned) -> Result<Effects, DecodeError>;

    /// What has to be signed, in the order in which [`Chain::assemble`] takes the signatures; never empty.
    ///
    /// # Errors
    /// Where the bytes are not `account`'s to sign.
    fn payloads(&self, account: &Account, unsigned: &Self::Unsigned) -> Result<Vec<Payload>, DecodeError>;

    /// Puts the signatures in place and verifies each against `account`'s public key.
    ///
    /// # Errors
    /// Where a signature is missing, of the wrong kind, or doesn't verify.
    fn assemble(
        &self,
        account: &Account,
        unsigned: &Self::Unsigned,
        signatures: &[Signature],
    ) -> Result<Self::Signed, AssembleError>;

    /// The unsigned transaction as bytes, to be frozen in a store and sent to the signers.
    fn encode_unsigned(&self, unsigned: &Self::Unsigned) -> Vec<u8>;

    /// The inverse of [`Chain::encode_unsigned`]; what comes from a store or a peer is decoded anew, never trusted.
    ///
    /// # Errors
    /// Where the bytes are malformed, have a tail, or name another network.
    fn decode_unsigned(&self, bytes: &[u8]) -> Result<Self::Unsigned, DecodeError>;

    /// The signed transaction as bytes.
    fn encode_signed(&self, signed: &Self::Signed) -> Vec<u8>;

    /// The inverse of [`Chain::encode_signed`].
    ///
    /// # Errors
    /// Where the bytes are malformed or have a tail.
    fn decode_signed(&self, bytes: &[u8]) -> Result<Self::Signed, DecodeError>;

    /// The transaction's id as explorers show it: txid, transaction hash, first signature.
    fn id(&self, signed: &Self::Signed) -> TxId;

    /// What the transaction uses up on chain, so that nothing else can use it too: its nonce, its outpoints, its message.
    /// Two transactions with a slot in common exclude each other.
    fn slots(&self, account: &Account, unsigned: &Self::Unsigned) -> BTreeSet<Slot>;
}

/// What a transaction that takes an earlier one's place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// The same payment for a higher fee.
    SpeedUp,
    /// Nothing but to use up what the earlier one would.
    Cancel,
}

/// A transaction's id in its chain's own spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(String);

/// A string that is no transaction's id on any chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a transaction's id is 1 to {MAX_TX_ID_LEN} letters and digits")]
pub struct TxIdError;

/// The longest id: a Solana signature in base58 has 88 characters.
const MAX_TX_ID_LEN: usize = 88;

impl TxId {
    pub(crate) fn new(id: impl fmt::Display) -> Self {
        Self(id.to_string())
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TxId {
    type Err = TxIdError;

    /// Reads what may be an id; whether it is one, and of which transaction, the chain knows.
    fn from_str(text: &str) -> Result<Self, TxIdError> {
        let fits = (1..=MAX_TX_ID_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if fits { Ok(Self(text.to_owned())) } else { Err(TxIdError) }
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that a chain lets only one transaction use. Its text is a store's key:
/// `ethereum:1/0xabc…/7`, `bitcoin:regtest/<txid>:0`, `solana:localnet/<message hash>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    network: Network,
    what: String,
}

/// A string that is no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no slot")]
pub struct SlotError(String);

impl Slot {
    pub(crate) fn new(network: Network, what: impl fmt::Display) -> Self {
        Self { network, what: what.to_string() }
    }

    /// The network that the slot belongs to.
    pub fn network(&self) -> Network {
        self.network
    }

    /// What it is on that network: `<from>/<nonce>`, `<txid>:<vout>`, `<message hash>`.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Whether it is an output of the transaction `id`, on a chain where transactions spend outputs.
    pub fn is_output_of(&self, id: &TxId) -> bool {
        self.what.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with(':'))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.what)
    }
}

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        let (network, what) = text.split_once('/').ok_or_else(|| SlotError(text.to_owned()))?;
        let network = network.parse().map_err(|_| SlotError(text.to_owned()))?;
        Ok(Self { network, what: what.to_owned() })
    }
}

string_serde!(Slot, TxId);

/// Why an intent cannot become a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A transfer of nothing.
    #[error("the amount is zero")]
    ZeroAmount,
    /// The amount doesn't fit the chain's or token's integer.
    #[error("the amount is above what {0} can carry")]
    Overflow(&'static str),
    /// Below what the network relays (Bitcoin's dust limit) or keeps (Solana's rent exemption).
    #[error("the amount is dust: at least {minimum} is needed here")]
    Dust {
        /// The least amount that is possible, base units.
        minimum: Amount,
    },
    /// The account has too little of the asset, or of the native coin for fees.
    #[error("not enough {asset}: {needed} needed, {available} available")]
    InsufficientFunds {
        /// What is short.
        asset: Asset,
        /// Amount and fee, where they are of the same asset.
        needed: Amount,
        /// What could be spent.
        available: Amount,
    },
    /// The fee would pass the intent's own cap, or on Bitcoin what the highest fee rate that is believed makes of its size.
    #[error("the fee {fee} is above the cap of {cap}")]
    FeeAboveCap {
        /// The fee that would be needed, native base units.
        fee: Amount,
        /// The cap, native base units.
        cap: Amount,
    },
    /// No transaction can take the place of an earlier one, in this chain's present state.
    #[error("can't be replaced: {0}")]
    NotReplaceable(&'static str),
    /// Only a durable nonce would do, and none of the wallet's is free.
    #[error("no durable nonce of the wallet is free: open another, or wait until a payment under one is final")]
    NoNonce,
    /// No child can pay for the transaction, in the mempool's present state.
    #[error("can't be accelerated: {0}")]
    NotAcceleratable(&'static str),
    /// A lookup table that the intent names can't be used.
    #[error(transparent)]
    LookupTable(#[from] TableError),
    /// The destination is no address of the network.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The asset doesn't exist on the chain.
    #[error("{asset} doesn't exist on {network}")]
    WrongAsset {
        /// What was asked for.
        asset: Asset,
        /// Where.
        network: Network,
    },
    /// The chain or this version can't do that.
    #[error("unsupported: {0}")]
    Unsupported(&'static str),
    /// The account is of another network, or its key of another kind.
    #[error("the account doesn't belong to {0}")]
    WrongAccount(Network),
}

/// Why bytes are not the transaction that they should be. What can't be decoded is never signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a transaction.
    #[error("malformed transaction: {0}")]
    Malformed(String),
    /// A transaction of another network.
    #[error("the transaction is for {found}, not for {expected}")]
    WrongNetwork {
        /// The network that was expected.
        expected: Network,
        /// What the bytes say.
        found: String,
    },
    /// It spends what isn't the account's.
    #[error("the transaction doesn't spend from {0}")]
    WrongAccount(String),
    /// What it reads from lookup tables can't be told.
    #[error(transparent)]
    LookupTable(#[from] TableError),
    /// It holds something whose effect is not known.
    #[error("undecodable: {0}")]
    Undecodable(String),
}

/// Why signatures don't make a signed transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// Too few or too many signatures.
    #[error("{expected} signatures needed, {found} given")]
    Count {
        /// One for each payload.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Signature `index` is of the wrong kind or doesn't verify under the account's key.
    #[error("signature {0} doesn't verify")]
    Invalid(usize),
    /// The unsigned transaction itself is wrong.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}
