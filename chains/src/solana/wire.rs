//! The two transaction types and their bytes.
//!
//! Unsigned: format version (1), cluster (1 byte), last valid block height (8, little-endian), the number of owners (1)
//! and each of them (32), the message as the cluster has it. Signed: format version, cluster, last valid block height,
//! the transaction as the cluster has it.

use bincode::Options;
use serde::de::DeserializeOwned;
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;
use solana_sdk::transaction::VersionedTransaction;

use super::address;
use super::sign;
use crate::account::Account;
use crate::chain::DecodeError;
use crate::network::{Cluster, Network};

/// A message and what is needed to decode and follow it.
///
/// An SPL transfer to a token account that exists names that account but not its owner. `owners` says who it is meant
/// for: a claim that proves itself, because the account's address derives from its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    cluster: Cluster,
    last_valid_block_height: u64,
    owners: Vec<Pubkey>,
    message: VersionedMessage,
}

/// A transaction with all its signatures, each of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    cluster: Cluster,
    last_valid_block_height: u64,
    transaction: VersionedTransaction,
}

const FORMAT: u8 = 1;

/// The longest transaction that the cluster takes: one IPv6 packet without its headers.
const MAX_TRANSACTION_LEN: usize = 1_232;

const SIGNATURE_LEN: usize = 64;

/// More owners than any transaction of [`MAX_TRANSACTION_LEN`] has use for.
const MAX_OWNERS: usize = 16;

impl Unsigned {
    /// A message for `cluster` that can be included up to `last_valid_block_height`; `owners` of the token accounts that
    /// it pays and doesn't create, in any order.
    ///
    /// # Errors
    /// Where the message is neither legacy nor v0, points outside of itself, or makes a transaction that is too long.
    pub fn new(
        cluster: Cluster,
        message: VersionedMessage,
        last_valid_block_height: u64,
        mut owners: Vec<Pubkey>,
    ) -> Result<Self, DecodeError> {
        owners.sort_unstable();
        owners.dedup();
        if owners.len() > MAX_OWNERS {
            return Err(malformed(format!("more than {MAX_OWNERS} owners")));
        }
        check(&message)?;
        if strict::<VersionedMessage>(&message.serialize())? != message {
            return Err(malformed("the message has no encoding"));
        }
        Ok(Self { cluster, last_valid_block_height, owners, message })
    }

    /// The cluster that the message is for.
    pub fn cluster(&self) -> Cluster {
        self.cluster
    }

    /// The message, legacy or v0.
    pub fn message(&self) -> &VersionedMessage {
        &self.message
    }

    /// The message's bytes: what is signed.
    pub fn message_bytes(&self) -> Vec<u8> {
        self.message.serialize()
    }

    /// The last block height at which the message can be included.
    pub fn last_valid_block_height(&self) -> u64 {
        self.last_valid_block_height
    }

    /// The claimed owners of token accounts, ascending.
    pub fn owners(&self) -> &[Pubkey] {
        &self.owners
    }

    /// The account's address, if it pays for the message and nobody else signs.
    pub(super) fn require_payer(&self, cluster: Cluster, account: &Account) -> Result<Pubkey, DecodeError> {
        require_cluster(cluster, self.cluster)?;
        let wrong = || DecodeError::WrongAccount(account.address().to_string());
        let own = address::of_account(account, cluster).ok_or_else(wrong)?;
        let alone = self.message.header().num_required_signatures == 1;
        if alone && self.message.static_account_keys().first() == Some(&own) { Ok(own) } else { Err(wrong()) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let count = u8::try_from(self.owners.len()).expect("at most 16 owners, checked by the constructor");
        let mut bytes = head(self.cluster, self.last_valid_block_height);
        bytes.push(count);
        bytes.extend(self.owners.iter().flat_map(|owner| owner.to_bytes()));
        bytes.extend(self.message_bytes());
        bytes
    }

    pub(super) fn decode(cluster: Cluster, bytes: &[u8]) -> Result<Self, DecodeError> {
        let (last_valid_block_height, rest) = read_head(cluster, bytes)?;
        let short = || malformed("the owners are cut off");
        let (count, rest) = rest.split_first().ok_or_else(short)?;
        let (owners, message) = rest.split_at_checked(usize::from(*count) * 32).ok_or_else(short)?;
        let owners = owners.as_chunks::<32>().0.iter().map(|owner| Pubkey::new_from_array(*owner)).collect();
        let unsigned = Self::new(cluster, strict(message)?, last_valid_block_height, owners)?;
        if unsigned.encode() == bytes { Ok(unsigned) } else { Err(malformed("not the one way to write it")) }
    }
}

impl Signed {
    /// A transaction whose every signature verifies under the key that its message names.
    ///
    /// # Errors
    /// Where the transaction is malformed or a signature doesn't verify.
    pub(super) fn new(
        cluster: Cluster,
        transaction: VersionedTransaction,
        last_valid_block_height: u64,
    ) -> Result<Self, DecodeError> {
        check(&transaction.message)?;
        transaction.sanitize().map_err(|e| malformed(e.to_string()))?;
        let message = transaction.message.serialize();
        let keys = transaction.message.static_account_keys().iter();
        for (index, (key, signature)) in keys.zip(&transaction.signatures).enumerate() {
            if !sign::verify(key.as_array(), &message, signature.as_array()) {
                return Err(malformed(format!("signature {index} doesn't verify")));
            }
        }
        Ok(Self { cluster, last_valid_block_height, transaction })
    }

    /// The cluster that the transaction is for.
    pub fn cluster(&self) -> Cluster {
        self.cluster
    }

    /// The transaction.
    pub fn transaction(&self) -> &VersionedTransaction {
        &self.transaction
    }

    /// The transaction's bytes, as nodes take them.
    pub fn transaction_bytes(&self) -> Vec<u8> {
        bincode::serialize(&self.transaction).expect("a transaction in memory has a length, and bincode asks no more")
    }

    /// The last block height at which the transaction can be included.
    pub fn last_valid_block_height(&self) -> u64 {
        self.last_valid_block_height
    }

    /// The payer's signature, which is the transaction's id.
    pub fn signature(&self) -> Signature {
        *self.transaction.signatures.first().expect("sanitized: as many signatures as signers, at least the payer's")
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = head(self.cluster, self.last_valid_block_height);
        bytes.extend(self.transaction_bytes());
        bytes
    }

    pub(super) fn decode(cluster: Cluster, bytes: &[u8]) -> Result<Self, DecodeError> {
        let (last_valid_block_height, rest) = read_head(cluster, bytes)?;
        let signed = Self::new(cluster, strict(rest)?, last_valid_block_height)?;
        if signed.encode() == bytes { Ok(signed) } else { Err(malformed("not the one way to write it")) }
    }
}

/// Whether the message is one that the adapter knows and the cluster would take.
fn check(message: &VersionedMessage) -> Result<(), DecodeError> {
    if matches!(message, VersionedMessage::V1(_)) {
        return Err(malformed("a message of version 1; only legacy and v0 are known"));
    }
    message.sanitize().map_err(|e| malformed(e.to_string()))?;
    let signatures = usize::from(message.header().num_required_signatures);
    let len = 1 + signatures * SIGNATURE_LEN + message.serialize().len();
    if len > MAX_TRANSACTION_LEN {
        return Err(malformed(format!("a transaction of {len} bytes; at most {MAX_TRANSACTION_LEN} are possible")));
    }
    Ok(())
}

/// Reads bytes in the cluster's encoding, all of them.
fn strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let options = bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_TRANSACTION_LEN as u64);
    options.deserialize(bytes).map_err(|e| malformed(e.to_string()))
}

fn head(cluster: Cluster, last_valid_block_height: u64) -> Vec<u8> {
    let mut bytes = vec![FORMAT, cluster_byte(cluster)];
    bytes.extend(last_valid_block_height.to_le_bytes());
    bytes
}

fn read_head(cluster: Cluster, bytes: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let ([format, found], rest) = bytes.split_first_chunk::<2>().ok_or_else(|| malformed("the head is cut off"))?;
    if *format != FORMAT {
        return Err(malformed(format!("format {format}; {FORMAT} is known")));
    }
    let known = [Cluster::MainnetBeta, Cluster::Testnet, Cluster::Devnet, Cluster::Localnet];
    let found = known.into_iter().find(|known| cluster_byte(*known) == *found);
    require_cluster(cluster, found.ok_or_else(|| malformed("an unknown cluster"))?)?;
    let (height, rest) = rest.split_first_chunk::<8>().ok_or_else(|| malformed("the head is cut off"))?;
    Ok((u64::from_le_bytes(*height), rest))
}

fn require_cluster(expected: Cluster, found: Cluster) -> Result<(), DecodeError> {
    if expected == found {
        return Ok(());
    }
    Err(DecodeError::WrongNetwork { expected: Network::Solana(expected), found: Network::Solana(found).to_string() })
}

/// A cluster in the adapter's own encoding. The numbers are stored: they never change.
const fn cluster_byte(cluster: Cluster) -> u8 {
    match cluster {
        Cluster::MainnetBeta => 0,
        Cluster::Testnet => 1,
        Cluster::Devnet => 2,
        Cluster::Localnet => 3,
    }
}

fn malformed(reason: impl Into<String>) -> DecodeError {
    DecodeError::Malformed(reason.into())
}
