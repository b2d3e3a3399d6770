//! Which lookup tables of a Solana cluster messages may read, and what has to stand in them.
//!
//! ```toml
//! [[policy.lookup_tables]]
//! address = "9AKCoNoAGYLW71TwTHY9e7KrZUWWL3c7VtHKb66NT3EV"
//! length = 42
//! sha256 = "7c1c2d0c3b1a…"
//! ```
//!
//! What stands in a table is a node's word, and a signer asks no node. But a table is only ever added to, and none is made again at
//! the address of another; so what its first entries are is true for good, and a digest over them can be named here once. Entries
//! that come later are read by nobody until the policy names more of them.

use std::collections::{BTreeMap, BTreeSet};

use chains::account::{Account, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::effects::{Effects, TableRead};
use chains::network::{Family, Network};
use serde::{Deserialize, Serialize};

use super::Denial;

/// The most entries that a table has.
const MAX_LENGTH: u16 = 256;

/// A lookup table that messages may read, and its first entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Where it is.
    pub address: UncheckedAddress,
    /// On which network; the wallets' one Solana cluster, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// How many of its entries may be read, from the first on: 1 to 256.
    pub length: u16,
    /// The SHA-256 of these entries, 32 bytes each in their order; 64 hexadecimal digits.
    #[serde(with = "hex::serde")]
    pub sha256: [u8; 32],
}

/// A table that messages of wallets on a network may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Pin {
    address: Address,
    network: Network,
    length: u16,
    #[serde(with = "hex::serde")]
    sha256: [u8; 32],
}

impl Pin {
    /// Its name in a list of all.
    pub(super) fn name(&self) -> String {
        format!("{} on {}", self.address, self.network)
    }
}

impl TableConfig {
    fn compile(&self, clusters: &BTreeSet<Network>) -> Result<Pin, String> {
        let network = match (self.network, clusters.iter().collect::<Vec<_>>().as_slice()) {
            (Some(network), clusters) if clusters.contains(&&network) => network,
            (Some(network), _) => return Err(format!("no wallet is on {network}, or it has no lookup tables")),
            (None, [network]) => **network,
            (None, []) => return Err("no wallet is on Solana".to_owned()),
            (None, _) => return Err("wallets are on several clusters; name the network".to_owned()),
        };
        if !(1..=MAX_LENGTH).contains(&self.length) {
            return Err(format!("its length is 1 to {MAX_LENGTH}"));
        }
        let address = self.address.require_network(network).map_err(|error| error.to_string())?;
        Ok(Pin { address, network, length: self.length, sha256: self.sha256 })
    }
}

/// Compiles the tables that a policy names.
///
/// # Errors
/// The first one that can't be meant, and why.
pub(super) fn compile(
    tables: &[TableConfig],
    wallets: &BTreeMap<WalletId, Network>,
) -> Result<Vec<Pin>, (UncheckedAddress, String)> {
    let clusters = wallets.values().copied().filter(|network| network.family() == Family::Solana).collect();
    let mut pins: Vec<Pin> = Vec::with_capacity(tables.len());
    for table in tables {
        let fault = |why| (table.address.clone(), why);
        let pin = table.compile(&clusters).map_err(fault)?;
        if pins.iter().any(|other| (&other.address, other.network) == (&pin.address, pin.network)) {
            return Err(fault("it is named twice".to_owned()));
        }
        pins.push(pin);
    }
    Ok(pins)
}

/// Makes sure that every table that is read is one of `pins`, has the entries that it should have, and is read no further.
///
/// # Errors
/// What is wrong with the first table that isn't so.
pub(super) fn require(pins: &[Pin], account: &Account, effects: &Effects) -> Result<(), Denial> {
    effects.tables.iter().try_for_each(|read| require_one(pins, account, read))
}

fn require_one(pins: &[Pin], account: &Account, read: &TableRead) -> Result<(), Denial> {
    let table = Address::Solana(read.address);
    let pin = pins.iter().find(|pin| pin.network == account.network() && pin.address == table);
    let Some(pin) = pin else { return Err(Denial::UnlistedTable { table }) };
    if u16::from(read.last) >= pin.length {
        return Err(Denial::UnlistedEntry { table, index: read.last, length: pin.length });
    }
    if read.digest(pin.length.into()) == Some(pin.sha256) {
        return Ok(());
    }
    Err(Denial::OtherTable { table, length: pin.length })
}
