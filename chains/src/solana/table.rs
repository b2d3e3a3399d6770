//! Address lookup tables: accounts from which a v0 message reads addresses by their places
//! (<https://docs.anza.xyz/proposals/versioned-transactions>, `solana-address-lookup-table-interface`).
//!
//! A message that reads a table says neither what stands in it nor who is meant. So it goes with the tables' accounts as a node
//! showed them, and whoever reads the message resolves every place for themselves. That the accounts are what the node said,
//! they don't prove: a table only grows, so the digest of its first entries holds for as long as the table exists, and a policy
//! names it ([`TableRead::digest`], `docs/adr/0010-lookup-tables.md`).

use sha2::{Digest, Sha256};
use solana_address_lookup_table_interface::program::ID as PROGRAM;
use solana_address_lookup_table_interface::state::{AddressLookupTable, LOOKUP_TABLE_MAX_ADDRESSES};
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;

use crate::effects::TableRead;

/// A lookup table's account as a node shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableAccount {
    /// Where it is.
    pub address: Pubkey,
    /// The program that owns it.
    pub owner: Pubkey,
    /// Its data: 56 bytes about the table, then 32 bytes for each entry.
    pub data: Vec<u8>,
}

/// What is wrong with a lookup table, or with how a message reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// There is no such account.
    #[error("there is no lookup table {table}")]
    Absent {
        /// The table.
        table: Pubkey,
    },
    /// Another program owns the account, so it is no lookup table.
    #[error("{table} is no lookup table: {owner} owns it")]
    NotOwned {
        /// The account.
        table: Pubkey,
        /// The program that owns it.
        owner: Pubkey,
    },
    /// The account's data aren't those of a table that is set up.
    #[error("{table} has not the data of a lookup table")]
    Unreadable {
        /// The account.
        table: Pubkey,
    },
    /// The table is being given up: what reads it is soon refused by the cluster.
    #[error("lookup table {table} was deactivated in slot {slot}; use another one")]
    Deactivated {
        /// The table.
        table: Pubkey,
        /// Since when.
        slot: u64,
    },
    /// The message reads a table whose account doesn't come with it.
    #[error("the account of lookup table {table} is missing")]
    Missing {
        /// The table.
        table: Pubkey,
    },
    /// A table's account comes with a message that doesn't read it, or reads another one at its place.
    #[error("the message doesn't read lookup table {table}, or not at this place")]
    Unread {
        /// The table.
        table: Pubkey,
    },
    /// The message reads a table in two places.
    #[error("lookup table {table} is read twice")]
    Repeated {
        /// The table.
        table: Pubkey,
    },
    /// The message reads an entry that the table doesn't have.
    #[error("lookup table {table} has {length} entries and none at {index}")]
    OutOfRange {
        /// The table.
        table: Pubkey,
        /// The place, from 0 on.
        index: u8,
        /// How many entries it has.
        length: usize,
    },
}

/// The accounts that a message names, those of its tables among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// In the order by which instructions name them: the message's own, what it may write to from each table in turn, what it
    /// only reads.
    pub(super) keys: Vec<Pubkey>,
    /// How many of them are from tables, to be written to.
    pub(super) writable: usize,
    /// What is read of which table, in the message's order.
    pub(super) tables: Vec<TableRead>,
}

impl TableAccount {
    /// The entries, in their order.
    ///
    /// # Errors
    /// Where it is no lookup table, or one that is being given up.
    pub fn entries(&self) -> Result<Vec<Pubkey>, TableError> {
        let table = self.address;
        if self.owner != PROGRAM {
            return Err(TableError::NotOwned { table, owner: self.owner });
        }
        let read = AddressLookupTable::deserialize(&self.data).map_err(|_| TableError::Unreadable { table })?;
        if read.addresses.len() > LOOKUP_TABLE_MAX_ADDRESSES {
            return Err(TableError::Unreadable { table });
        }
        match read.meta.deactivation_slot {
            u64::MAX => Ok(read.addresses.into_owned()),
            slot => Err(TableError::Deactivated { table, slot }),
        }
    }
}

impl TableRead {
    /// The SHA-256 of the first `length` entries, 32 bytes each; `None` where there are fewer.
    pub fn digest(&self, length: usize) -> Option<[u8; 32]> {
        digest(&self.entries, length)
    }
}

/// The SHA-256 of the first `length` entries of a table, 32 bytes each; `None` where it has fewer.
pub fn digest(entries: &[Pubkey], length: usize) -> Option<[u8; 32]> {
    let mut hasher = Sha256::new();
    entries.get(..length)?.iter().for_each(|entry| hasher.update(entry.to_bytes()));
    Some(hasher.finalize().into())
}

/// Puts the accounts that `message` reads from tables behind its own. `tables` are those that it reads, in its order.
pub(super) fn resolve(message: &VersionedMessage, tables: &[TableAccount]) -> Result<Resolved, TableError> {
    let lookups = message.address_table_lookups().unwrap_or_default();
    let (mut writable, mut read_only, mut read) = (Vec::new(), Vec::new(), Vec::<TableRead>::new());
    for (place, lookup) in lookups.iter().enumerate() {
        let table = lookup.account_key;
        if read.iter().any(|read| read.address == table) {
            return Err(TableError::Repeated { table });
        }
        let account = match tables.get(place) {
            Some(account) if account.address == table => account,
            Some(other) if !lookups.iter().any(|lookup| lookup.account_key == other.address) => {
                return Err(TableError::Unread { table: other.address });
            }
            _ => return Err(TableError::Missing { table }),
        };
        let entries = account.entries()?;
        let entry = |index: &u8| {
            let entry = entries.get(usize::from(*index)).copied();
            entry.ok_or(TableError::OutOfRange { table, index: *index, length: entries.len() })
        };
        for index in &lookup.writable_indexes {
            writable.push(entry(index)?);
        }
        for index in &lookup.readonly_indexes {
            read_only.push(entry(index)?);
        }
        let last = lookup.writable_indexes.iter().chain(&lookup.readonly_indexes).max().copied().unwrap_or_default();
        read.push(TableRead { address: table, last, entries });
    }
    if let Some(unread) = tables.get(lookups.len()) {
        return Err(TableError::Unread { table: unread.address });
    }
    let count = writable.len();
    let keys = message.static_account_keys().iter().copied().chain(writable).chain(read_only).collect();
    Ok(Resolved { keys, writable: count, tables: read })
}
