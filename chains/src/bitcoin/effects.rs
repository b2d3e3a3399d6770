//! What a PSBT does, from its unsigned transaction and the outputs that it spends.

use bitcoin::Amount as Sats;

use super::address::{self, Owner};
use super::wire::Unsigned;
use crate::account::Account;
use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::{Effects, Transfer};
use crate::network::BitcoinNetwork;

pub(super) fn effects(network: BitcoinNetwork, account: &Account, unsigned: &Unsigned) -> Result<Effects, DecodeError> {
    let owner = spender(network, account, unsigned)?;
    let mut change = Sats::ZERO;
    let mut transfers = Vec::new();
    for output in &unsigned.transaction().output {
        if output.script_pubkey == owner.script {
            let overflow = || DecodeError::Malformed("the change overflows".to_owned());
            change = change.checked_add(output.value).ok_or_else(overflow)?;
            continue;
        }
        let to = address::standard(&output.script_pubkey, network)
            .ok_or_else(|| DecodeError::Undecodable(format!("an output with script {:x}", output.script_pubkey)))?;
        transfers.push(Transfer {
            asset: Asset::Native,
            from: account.address().clone(),
            to: Address::Bitcoin(to),
            amount: Amount::from_sat(output.value.to_sat()),
        });
    }
    Ok(Effects {
        transfers,
        allowances: Vec::new(),
        calls: Vec::new(),
        programs: Vec::new(),
        proceeds: Vec::new(),
        change: Amount::from_sat(change.to_sat()),
        max_fee: Amount::from_sat(unsigned.fee().to_sat()),
        touches: Vec::new(),
        tables: Vec::new(),
        upkeep: None,
    })
}

/// The owner behind `account`, to whom every input must belong.
pub(super) fn spender(network: BitcoinNetwork, account: &Account, unsigned: &Unsigned) -> Result<Owner, DecodeError> {
    let wrong_account = || DecodeError::WrongAccount(account.address().to_string());
    let owner = Owner::of(account, network).ok_or_else(wrong_account)?;
    if unsigned.spent().iter().any(|output| output.script_pubkey != owner.script) {
        return Err(wrong_account());
    }
    Ok(owner)
}
