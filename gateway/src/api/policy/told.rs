//! Effects as a record's history tells them, read back: to be judged by another policy, and for nothing else. What is signed is decoded
//! from bytes.

use chains::address::{Address, UncheckedAddress};
use chains::effects::{Allowance, Call, Effects, Proceeds, Transfer};
use chains::network::Network;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The effects that an event of a record on this network tells, where they can be read: not those of upkeep, and not those that call
/// a Solana program or read a lookup table.
pub(super) fn told_effects(told: &Value, network: Network) -> Option<Effects> {
    let told = Told { told, network };
    if ["programs", "tables", "upkeep"].iter().any(|name| told.told.get(*name).is_some()) {
        return None;
    }
    Some(Effects {
        transfers: told.each("transfers", |told| told.transfer())?,
        allowances: told.each("allowances", |told| told.allowance())?,
        calls: told.each("calls", |told| told.call())?,
        programs: Vec::new(),
        proceeds: told.each("proceeds", |told| Some(Proceeds { to: told.address("to")? }))?,
        change: told.read("change")?,
        max_fee: told.read("max_fee")?,
        touches: told
            .read::<Vec<UncheckedAddress>>("touches")?
            .iter()
            .map(|text| told.on_chain(text))
            .collect::<Option<_>>()?,
        tables: Vec::new(),
        upkeep: None,
    })
}

/// A part of what is told.
#[derive(Clone, Copy)]
struct Told<'t> {
    told: &'t Value,
    network: Network,
}

impl Told<'_> {
    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.told.get(name)?.clone()).ok()
    }

    fn each<T>(&self, name: &str, read: impl Fn(Told<'_>) -> Option<T>) -> Option<Vec<T>> {
        let parts = self.told.get(name)?.as_array()?;
        parts.iter().map(|told| read(Told { told, network: self.network })).collect()
    }

    fn on_chain(&self, text: &UncheckedAddress) -> Option<Address> {
        text.require_network(self.network).ok()
    }

    fn address(&self, name: &str) -> Option<Address> {
        self.on_chain(&self.read(name)?)
    }

    fn transfer(self) -> Option<Transfer> {
        let (from, to) = (self.address("from")?, self.address("to")?);
        Some(Transfer { asset: self.read("asset")?, from, to, amount: self.read("amount")? })
    }

    fn allowance(self) -> Option<Allowance> {
        let spender = self.address("spender")?;
        Some(Allowance { asset: self.read("asset")?, spender, amount: self.read("amount")? })
    }

    fn call(self) -> Option<Call> {
        let (Address::Ethereum(caller), Address::Ethereum(contract)) =
            (self.address("caller")?, self.address("contract")?)
        else {
            return None;
        };
        Some(Call {
            caller,
            depth: self.read("depth")?,
            contract,
            selector: self.read("selector")?,
            arguments: self.read("arguments")?,
            value: self.read("value")?,
        })
    }
}
