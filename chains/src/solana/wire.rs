//! The two transaction types and their bytes.
//!
//! Both begin with a head, which tells how long the message is valid. Under a blockhash: format 1, cluster (1 byte), last
//! valid block height (8, little-endian). Under a durable nonce: format 2, cluster, the slot at which the nonce account had the
//! value (8, little-endian), the blockhash from which the value derives (32); account and value are in the message.
//!
//! Unsigned: head, the number of owners (1) and each of them (32), the message as the cluster has it. Where the message reads
//! lookup tables, the format is 3 instead of 1 and 4 instead of 2, and before the message come the number of tables (1) and of
//! each, in the message's order, its address (32), its owner (32), the length of its data (2, little-endian) and the data. Signed:
//! head, the transaction as the cluster has it.

use bincode::Options;
use serde::de::DeserializeOwned;
use solana_sdk::hash::Hash;
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;
use solana_sdk::transaction::VersionedTransaction;

use super::address;
use super::nonce::{self, Nonce, Validity};
use super::sign;
use super::table::{self, Resolved, TableAccount, TableError};
use crate::account::Account;
use crate::chain::DecodeError;
use crate::network::{Cluster, Network};

/// A message and what is needed to decode and follow it.
///
/// An SPL transfer to a token account that exists names that account but not its owner. `owners` says who it is meant
/// for: a claim that proves itself, because the account's address derives from its owner.
///
/// A message that reads accounts from lookup tables goes with the tables' accounts, as a Bitcoin input goes with the transaction
/// that it spends: a claim that a policy's digests prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    cluster: Cluster,
    validity: Validity,
    owners: Vec<Pubkey>,
    tables: Vec<TableAccount>,
    message: VersionedMessage,
}

/// A transaction with all its signatures, each of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    cluster: Cluster,
    validity: Validity,
    transaction: VersionedTransaction,
}

/// The format of what is valid under a blockhash.
const FORMAT_BLOCKHASH: u8 = 1;

/// The format of what is valid under a durable nonce.
const FORMAT_NONCE: u8 = 2;

/// The format of what is valid under a blockhash and reads lookup tables.
const FORMAT_BLOCKHASH_TABLES: u8 = 3;

/// The format of what is valid under a durable nonce and reads lookup tables.
const FORMAT_NONCE_TABLES: u8 = 4;

/// The longest transaction that the cluster takes: one IPv6 packet without its headers.
const MAX_TRANSACTION_LEN: usize = 1_232;

const SIGNATURE_LEN: usize = 64;

/// More owners than any transaction of [`MAX_TRANSACTION_LEN`] has use for.
pub(super) const MAX_OWNERS: usize = 16;

/// More tables than a message has use for: with each, 34 bytes of it are gone.
pub(super) const MAX_TABLES: usize = 8;

/// The longest data of a table: 56 bytes and 256 entries.
const MAX_TABLE_LEN: usize = 56 + 256 * 32;

impl Unsigned {
    /// A message for `cluster` that can be included up to `last_valid_block_height`; `owners` of the token accounts that
    /// it pays and doesn't create, in any order.
    ///
    /// # Errors
    /// Where the message is neither legacy nor v0, points outside of itself, makes a transaction that is too long, or starts by
    /// advancing a nonce account.
    pub fn new(
        cluster: Cluster,
        message: VersionedMessage,
        last_valid_block_height: u64,
        owners: Vec<Pubkey>,
    ) -> Result<Self, DecodeError> {
        Self::with(cluster, message, Lifetime::Blockhash { last_valid_block_height }, owners)
    }

    /// A message for `cluster` that starts by advancing a nonce account and can be included as long as that has the value
    /// which the message names; `origin` and `seen_at` are those of its [`Nonce`].
    ///
    /// # Errors
    /// Where the message doesn't start so, where the value doesn't derive from `origin`, and as for [`Unsigned::new`].
    pub fn durable(
        cluster: Cluster,
        message: VersionedMessage,
        origin: Hash,
        seen_at: u64,
        owners: Vec<Pubkey>,
    ) -> Result<Self, DecodeError> {
        Self::with(cluster, message, Lifetime::Nonce { origin, seen_at }, owners)
    }

    fn with(
        cluster: Cluster,
        message: VersionedMessage,
        lifetime: Lifetime,
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
        let validity = lifetime.of(&message)?;
        Ok(Self { cluster, validity, owners, tables: Vec::new(), message })
    }

    /// The same, with the accounts of the lookup tables that the message reads, in its order.
    ///
    /// # Errors
    /// Where they are others than the message reads, or not what it reads them as ([`DecodeError::LookupTable`]).
    pub fn with_tables(mut self, tables: Vec<TableAccount>) -> Result<Self, DecodeError> {
        if tables.len() > MAX_TABLES {
            return Err(malformed(format!("more than {MAX_TABLES} lookup tables")));
        }
        table::resolve(&self.message, &tables)?;
        if let Some(long) = tables.iter().find(|account| account.data.len() > MAX_TABLE_LEN) {
            return Err(TableError::Unreadable { table: long.address }.into());
        }
        self.tables = tables;
        Ok(self)
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

    /// How long the message can be included.
    pub fn validity(&self) -> &Validity {
        &self.validity
    }

    /// The claimed owners of token accounts, ascending.
    pub fn owners(&self) -> &[Pubkey] {
        &self.owners
    }

    /// The accounts of the lookup tables that the message reads, in its order.
    pub fn tables(&self) -> &[TableAccount] {
        &self.tables
    }

    /// Every account that the message names, those of its tables among them.
    pub(super) fn resolved(&self) -> Result<Resolved, TableError> {
        table::resolve(&self.message, &self.tables)
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
        let mut bytes = head(self.cluster, &self.validity, !self.tables.is_empty());
        bytes.push(count);
        bytes.extend(self.owners.iter().flat_map(|owner| owner.to_bytes()));
        if !self.tables.is_empty() {
            bytes.push(u8::try_from(self.tables.len()).expect("at most 8 tables, checked by the constructor"));
        }
        for TableAccount { address, owner, data } in &self.tables {
            let len = u16::try_from(data.len()).expect("at most 8248 bytes, checked by the constructor");
            bytes.extend(address.to_bytes());
            bytes.extend(owner.to_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend(data);
        }
        bytes.extend(self.message_bytes());
        bytes
    }

    pub(super) fn decode(cluster: Cluster, bytes: &[u8]) -> Result<Self, DecodeError> {
        let Head { lifetime, tables, rest } = read_head(cluster, bytes)?;
        let short = || malformed("the owners are cut off");
        let (count, rest) = rest.split_first().ok_or_else(short)?;
        let (owners, rest) = rest.split_at_checked(usize::from(*count) * 32).ok_or_else(short)?;
        let owners = owners.as_chunks::<32>().0.iter().map(|owner| Pubkey::new_from_array(*owner)).collect();
        let (tables, message) = if tables { read_tables(rest)? } else { (Vec::new(), rest) };
        let unsigned = Self::with(cluster, strict(message)?, lifetime, owners)?;
        let unsigned = if tables.is_empty() { unsigned } else { unsigned.with_tables(tables)? };
        if unsigned.encode() == bytes { Ok(unsigned) } else { Err(malformed("not the one way to write it")) }
    }
}

impl Signed {
    /// A transaction whose every signature verifies under the key that its message names.
    ///
    /// # Errors
    /// Where the transaction is malformed, is not valid as `lifetime` says, or a signature doesn't verify.
    pub(super) fn new(
        cluster: Cluster,
        transaction: VersionedTransaction,
        lifetime: Lifetime,
    ) -> Result<Self, DecodeError> {
        check(&transaction.message)?;
        verify(&transaction)?;
        let validity = lifetime.of(&transaction.message)?;
        Ok(Self { cluster, validity, transaction })
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

    /// How long the transaction can be included.
    pub fn validity(&self) -> &Validity {
        &self.validity
    }

    /// The payer's signature, which is the transaction's id.
    pub fn signature(&self) -> Signature {
        *self.transaction.signatures.first().expect("sanitized: as many signatures as signers, at least the payer's")
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = head(self.cluster, &self.validity, false);
        bytes.extend(self.transaction_bytes());
        bytes
    }

    pub(super) fn decode(cluster: Cluster, bytes: &[u8]) -> Result<Self, DecodeError> {
        let Head { lifetime, rest, .. } = read_head(cluster, bytes)?;
        let signed = Self::new(cluster, strict(rest)?, lifetime)?;
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

/// Verifies every signature under the key that the message names.
pub(super) fn verify(transaction: &VersionedTransaction) -> Result<(), DecodeError> {
    transaction.sanitize().map_err(|e| malformed(e.to_string()))?;
    let message = transaction.message.serialize();
    let keys = transaction.message.static_account_keys().iter();
    for (index, (key, signature)) in keys.zip(&transaction.signatures).enumerate() {
        if !sign::verify(key.as_array(), &message, signature.as_array()) {
            return Err(malformed(format!("signature {index} doesn't verify")));
        }
    }
    Ok(())
}

/// Reads bytes in the cluster's encoding, all of them.
fn strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let options = bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_TRANSACTION_LEN as u64);
    options.deserialize(bytes).map_err(|e| malformed(e.to_string()))
}

/// What a head tells of a message's validity; the rest is in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    Blockhash { last_valid_block_height: u64 },
    Nonce { origin: Hash, seen_at: u64 },
}

impl Lifetime {
    /// The validity of `message`, if it is of this kind.
    fn of(self, message: &VersionedMessage) -> Result<Validity, DecodeError> {
        let hash = *message.recent_blockhash();
        match (self, nonce::advanced_by(message)) {
            (Self::Blockhash { last_valid_block_height }, None) => {
                Ok(Validity::Blockhash { blockhash: hash, last_valid_block_height })
            }
            // It would outlive the height that it is said to be valid to.
            (Self::Blockhash { .. }, Some(_)) => {
                Err(malformed("a message that advances a nonce is not one under a blockhash"))
            }
            (Self::Nonce { .. }, None) => Err(malformed("a message under a nonce that doesn't start by advancing one")),
            (Self::Nonce { origin, seen_at }, Some(account)) => {
                let nonce = Nonce { account, value: hash, origin, seen_at };
                if !nonce.is_proven() {
                    return Err(malformed("nothing proves that the message's hash is a nonce's value"));
                }
                Ok(Validity::Nonce(nonce))
            }
        }
    }
}

impl From<&Validity> for Lifetime {
    fn from(validity: &Validity) -> Self {
        match *validity {
            Validity::Blockhash { last_valid_block_height, .. } => Self::Blockhash { last_valid_block_height },
            Validity::Nonce(Nonce { origin, seen_at, .. }) => Self::Nonce { origin, seen_at },
        }
    }
}

fn head(cluster: Cluster, validity: &Validity, tables: bool) -> Vec<u8> {
    match Lifetime::from(validity) {
        Lifetime::Blockhash { last_valid_block_height } => {
            let format = if tables { FORMAT_BLOCKHASH_TABLES } else { FORMAT_BLOCKHASH };
            let mut bytes = vec![format, cluster_byte(cluster)];
            bytes.extend(last_valid_block_height.to_le_bytes());
            bytes
        }
        Lifetime::Nonce { origin, seen_at } => {
            let format = if tables { FORMAT_NONCE_TABLES } else { FORMAT_NONCE };
            let mut bytes = vec![format, cluster_byte(cluster)];
            bytes.extend(seen_at.to_le_bytes());
            bytes.extend(origin.to_bytes());
            bytes
        }
    }
}

/// What stands before the rest.
struct Head<'b> {
    lifetime: Lifetime,
    /// Whether lookup tables come with the message.
    tables: bool,
    rest: &'b [u8],
}

fn read_head(cluster: Cluster, bytes: &[u8]) -> Result<Head<'_>, DecodeError> {
    let short = || malformed("the head is cut off");
    let ([format, found], rest) = bytes.split_first_chunk::<2>().ok_or_else(short)?;
    let (durable, tables) = match *format {
        FORMAT_BLOCKHASH => (false, false),
        FORMAT_NONCE => (true, false),
        FORMAT_BLOCKHASH_TABLES => (false, true),
        FORMAT_NONCE_TABLES => (true, true),
        other => return Err(malformed(format!("format {other}; 1 to 4 are known"))),
    };
    let known = [Cluster::MainnetBeta, Cluster::Testnet, Cluster::Devnet, Cluster::Localnet];
    let found = known.into_iter().find(|known| cluster_byte(*known) == *found);
    require_cluster(cluster, found.ok_or_else(|| malformed("an unknown cluster"))?)?;
    let (number, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let number = u64::from_le_bytes(*number);
    if !durable {
        return Ok(Head { lifetime: Lifetime::Blockhash { last_valid_block_height: number }, tables, rest });
    }
    let (origin, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    Ok(Head { lifetime: Lifetime::Nonce { origin: Hash::new_from_array(*origin), seen_at: number }, tables, rest })
}

/// The tables, and what follows them.
fn read_tables(bytes: &[u8]) -> Result<(Vec<TableAccount>, &[u8]), DecodeError> {
    let short = || malformed("the lookup tables are cut off");
    let (count, mut rest) = bytes.split_first().ok_or_else(short)?;
    if usize::from(*count) > MAX_TABLES {
        return Err(malformed(format!("more than {MAX_TABLES} lookup tables")));
    }
    let mut tables = Vec::with_capacity(usize::from(*count));
    for _ in 0..*count {
        let (address, after) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (owner, after) = after.split_first_chunk::<32>().ok_or_else(short)?;
        let (len, after) = after.split_first_chunk::<2>().ok_or_else(short)?;
        let (data, after) = after.split_at_checked(u16::from_le_bytes(*len).into()).ok_or_else(short)?;
        let [address, owner] = [address, owner].map(|key| Pubkey::new_from_array(*key));
        tables.push(TableAccount { address, owner, data: data.to_vec() });
        rest = after;
    }
    Ok((tables, rest))
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
