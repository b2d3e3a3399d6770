//! The two transaction types and their bytes.
//!
//! Unsigned: the 20 bytes of the sender, then what EIP-2718 has signed, `type || rlp(fields)`. Signed: what
//! `eth_sendRawTransaction` takes, `type || rlp(fields, y parity, r, s)`. Both are read strictly: bytes that are not
//! exactly what encoding gives back are refused.

use alloy::consensus::transaction::{RlpEcdsaDecodableTx, RlpEcdsaEncodableTx};
use alloy::consensus::{SignableTransaction, TxEip1559, TxEip2930};
use alloy::eips::eip2930::AccessList;
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};

use super::{Ethereum, Gas, GasPrice, Nonce, sign};
use crate::chain::{Chain, DecodeError};
use crate::network::Network;

/// EIP-2718's type byte of an EIP-2930 transaction.
const TYPE_EIP2930: u8 = 0x01;
/// EIP-2718's type byte of an EIP-1559 transaction.
const TYPE_EIP1559: u8 = 0x02;

/// A transaction before its signature, with its sender, whom the fields themselves don't name.
///
/// Made only by building and by decoding, so it always calls or pays somebody: contract creations don't exist here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    from: Address,
    to: Address,
    tx: Transaction,
}

/// The fields of a transaction, by its EIP-2718 type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// Type 2: a highest price and a tip (EIP-1559).
    Eip1559(TxEip1559),
    /// Type 1: one price (EIP-2930), for networks without a base fee.
    Eip2930(TxEip2930),
}

/// A transaction with its signature, which has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    unsigned: Unsigned,
    raw: Bytes,
    hash: B256,
}

impl Transaction {
    fn fields(&self) -> &dyn SignableTransaction<Signature> {
        match self {
            Self::Eip1559(tx) => tx,
            Self::Eip2930(tx) => tx,
        }
    }

    /// EIP-2718's type byte.
    #[cfg(feature = "client")]
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Eip1559(_) => TYPE_EIP1559,
            Self::Eip2930(_) => TYPE_EIP2930,
        }
    }

    fn encode_signed(&self, signature: &Signature) -> Vec<u8> {
        let mut raw = Vec::new();
        match self {
            Self::Eip1559(tx) => tx.eip2718_encode(signature, &mut raw),
            Self::Eip2930(tx) => tx.eip2718_encode(signature, &mut raw),
        }
        raw
    }
}

impl Unsigned {
    /// Takes the fields if they are a transaction that can be valid: not a creation, and no tip above the whole price.
    pub(super) fn new(from: Address, tx: Transaction) -> Result<Self, DecodeError> {
        let TxKind::Call(to) = tx.fields().kind() else {
            return Err(DecodeError::Undecodable("a contract creation".to_owned()));
        };
        let price = tx.fields().max_fee_per_gas();
        if tx.fields().max_priority_fee_per_gas().is_some_and(|tip| tip > price) {
            return Err(DecodeError::Malformed("the tip is above the highest price (EIP-1559)".to_owned()));
        }
        Ok(Self { from, to, tx })
    }

    /// Who pays.
    pub const fn from(&self) -> Address {
        self.from
    }

    /// Who is paid or called.
    pub const fn to(&self) -> Address {
        self.to
    }

    /// The fields.
    pub const fn transaction(&self) -> &Transaction {
        &self.tx
    }

    /// The sender's nonce.
    pub fn nonce(&self) -> Nonce {
        Nonce::new(self.tx.fields().nonce())
    }

    /// The most gas that it may use.
    pub fn gas_limit(&self) -> Gas {
        Gas::from_units(self.tx.fields().gas_limit())
    }

    /// The most that it pays for a unit of gas, tip included.
    pub fn max_gas_price(&self) -> GasPrice {
        GasPrice::from_wei(self.tx.fields().max_fee_per_gas())
    }

    /// Wei that go along.
    pub fn value(&self) -> U256 {
        self.tx.fields().value()
    }

    /// The calldata.
    pub fn input(&self) -> &Bytes {
        self.tx.fields().input()
    }

    /// The accounts and storage slots that it announces (EIP-2930).
    pub const fn access_list(&self) -> &AccessList {
        match &self.tx {
            Transaction::Eip1559(tx) => &tx.access_list,
            Transaction::Eip2930(tx) => &tx.access_list,
        }
    }

    /// The EIP-155 chain id, which both types always have.
    pub const fn chain_id(&self) -> u64 {
        match &self.tx {
            Transaction::Eip1559(tx) => tx.chain_id,
            Transaction::Eip2930(tx) => tx.chain_id,
        }
    }

    /// What is signed: the Keccak-256 of `type || rlp(fields)`.
    pub fn signature_hash(&self) -> B256 {
        self.tx.fields().signature_hash()
    }
}

impl Signed {
    /// Joins the two; `signature` was verified against `unsigned`'s sender.
    pub(super) fn new(unsigned: Unsigned, signature: &Signature) -> Self {
        let raw = unsigned.tx.encode_signed(signature);
        Self { unsigned, hash: keccak256(&raw), raw: raw.into() }
    }

    /// The transaction without its signature.
    pub const fn unsigned(&self) -> &Unsigned {
        &self.unsigned
    }

    /// The bytes as `eth_sendRawTransaction` takes them.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The transaction hash.
    pub const fn hash(&self) -> B256 {
        self.hash
    }
}

/// Makes sure that a chain id is the chain's.
pub(super) fn require_chain_id(chain: &Ethereum, found: u64) -> Result<(), DecodeError> {
    if found == chain.chain_id() {
        return Ok(());
    }
    let found = Network::Ethereum(found).to_string();
    Err(DecodeError::WrongNetwork { expected: chain.network(), found })
}

/// `from || type || rlp(fields)`.
pub(super) fn encode_unsigned(unsigned: &Unsigned) -> Vec<u8> {
    let mut bytes = unsigned.from.to_vec();
    unsigned.tx.fields().encode_for_signing(&mut bytes);
    bytes
}

/// The inverse of [`encode_unsigned`], for transactions of `chain` only.
pub(super) fn decode_unsigned(chain: &Ethereum, bytes: &[u8]) -> Result<Unsigned, DecodeError> {
    let (from, typed) = bytes.split_first_chunk::<20>().ok_or_else(|| malformed("shorter than an address"))?;
    let (kind, mut fields) = typed.split_first().ok_or_else(|| malformed("no transaction type"))?;
    let rest = &mut fields;
    let tx = match *kind {
        TYPE_EIP1559 => TxEip1559::rlp_decode(rest).map(Transaction::Eip1559),
        TYPE_EIP2930 => TxEip2930::rlp_decode(rest).map(Transaction::Eip2930),
        other => return Err(unknown_type(other)),
    };
    let unsigned = Unsigned::new(Address::from(*from), tx.map_err(malformed)?)?;
    require_chain_id(chain, unsigned.chain_id())?;
    // Equality with the canonical encoding leaves no room for a tail or a second spelling.
    if encode_unsigned(&unsigned) == bytes { Ok(unsigned) } else { Err(malformed("not the canonical RLP")) }
}

/// Reads a signed transaction of `chain` and recovers its sender from the signature.
pub(super) fn decode_signed(chain: &Ethereum, bytes: &[u8]) -> Result<Signed, DecodeError> {
    let (kind, mut fields) = bytes.split_first().ok_or_else(|| malformed("empty"))?;
    let rest = &mut fields;
    let (tx, signature) = match *kind {
        TYPE_EIP1559 => TxEip1559::rlp_decode_with_signature(rest).map(|(tx, s)| (Transaction::Eip1559(tx), s)),
        TYPE_EIP2930 => TxEip2930::rlp_decode_with_signature(rest).map(|(tx, s)| (Transaction::Eip2930(tx), s)),
        other => return Err(unknown_type(other)),
    }
    .map_err(malformed)?;
    let from = sign::recover(&signature, tx.fields().signature_hash())
        .ok_or_else(|| malformed("the signature is invalid, or its s is in the upper half (EIP-2)"))?;
    let unsigned = Unsigned::new(from, tx)?;
    require_chain_id(chain, unsigned.chain_id())?;
    let signed = Signed::new(unsigned, &signature);
    if *signed.raw == *bytes { Ok(signed) } else { Err(malformed("not the canonical RLP")) }
}

fn malformed(reason: impl ToString) -> DecodeError {
    DecodeError::Malformed(reason.to_string())
}

fn unknown_type(kind: u8) -> DecodeError {
    DecodeError::Undecodable(format!("a transaction of type {kind:#04x}; use EIP-2930 (0x01) or EIP-1559 (0x02)"))
}
