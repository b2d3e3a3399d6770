//! The denylist: addresses that nothing may touch, compared by who is behind them and not by how they are spelled
//! ([`Holder`]).

use std::collections::BTreeSet;

use chains::address::{Address, UncheckedAddress};
use chains::holder::Holder;
use chains::network::Family;
use serde::Serialize;

/// Denied addresses, by every name under which their holders can be met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Denylist(BTreeSet<Holder>);

impl Denylist {
    /// Adds an address to every one of the chains on which it reads as one; `false` where it reads on none.
    pub(super) fn insert(&mut self, address: &UncheckedAddress, families: &BTreeSet<Family>) -> bool {
        let readings: Vec<Address> = families.iter().filter_map(|family| Holder::read(address, *family)).collect();
        self.0.extend(readings.iter().flat_map(Holder::names));
        !readings.is_empty()
    }

    /// Whether everything that the other list denies is denied by this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.0.is_superset(&other.0)
    }

    /// The address itself, where its holder is denied.
    pub(super) fn find(&self, address: &Address) -> Option<Address> {
        Holder::names(address).iter().any(|name| self.0.contains(name)).then(|| address.clone())
    }
}
