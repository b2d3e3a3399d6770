//! Child pays for parent: the wallet's unconfirmed change of a payment is spent back to the wallet, for a fee that makes it
//! worth a miner's while to take both.
//!
//! Nodes and miners rate a transaction with all its unconfirmed ancestors as one package. So the child pays what the whole package lacks
//! at the market's rate, and at least that rate for itself.

use bitcoin::policy::MAX_STANDARD_TX_WEIGHT;
use bitcoin::{Amount as Sats, OutPoint, TxOut, Txid, psbt};

use super::address::Owner;
use super::build::select::Costs;
use super::build::{self, Parent, State, Utxo, Waiting};
use super::wire::Unsigned;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::{BuildError, TxId};
use crate::intent::Intent;

/// How large a transaction with all its unconfirmed ancestors may be where nodes are to take it, virtual bytes (bitcoind's
/// `-limitancestorsize`).
pub(super) const MAX_PACKAGE: u64 = 101_000;

/// Reads the parent's id; `None` where it isn't spelled as a txid is, in 64 lower-case digits.
pub(super) fn txid(parent: &TxId) -> Option<Txid> {
    parent.as_str().parse::<Txid>().ok().filter(|txid| txid.to_string() == parent.as_str())
}

/// Builds the child of `parent`.
pub(super) fn build(intent: &Intent, parent: &TxId, owner: &Owner, state: &State) -> Result<Unsigned, BuildError> {
    let txid = txid(parent).ok_or(BuildError::NotAcceleratable("that is no txid: 64 lower-case hex digits"))?;
    let Waiting::Accelerated(package) = &state.waiting else {
        return Err(BuildError::NotAcceleratable("the state was gathered for another transaction; gather it anew"));
    };
    if package.vsize > MAX_PACKAGE {
        return Err(BuildError::NotAcceleratable(
            "with its unconfirmed ancestors it is larger than nodes take a child of (101,000 virtual bytes)",
        ));
    }
    let costs = Costs {
        rate: state.fee_rate,
        input: build::input_weight(&owner.key),
        payment: 0,
        change: TxOut { value: Sats::ZERO, script_pubkey: owner.script.clone() }.weight().to_wu(),
        dust: owner.script.minimal_non_dust().to_sat(),
    };
    let (anchors, spare) = coins(state, txid, &costs)?;
    if fee(&costs, package.vsize) <= package.fees.to_sat() {
        return Err(BuildError::NotAcceleratable("it pays the market's rate already"));
    }

    let mut chosen = anchors;
    let mut rest = spare.into_iter();
    loop {
        let weight = costs.weight(chosen.len(), true);
        if weight > u64::from(MAX_STANDARD_TX_WEIGHT) {
            let heavy = "more inputs than a standard transaction holds; consolidate small outputs";
            return Err(BuildError::Unsupported(heavy));
        }
        let vsize = weight.div_ceil(4);
        let fee = child_fee(&costs, package, vsize);
        build::require_believed(fee, state.max_fee_rate, vsize.saturating_add(package.vsize))?;
        let total = chosen.iter().fold(0_u64, |sum, coin| sum.saturating_add(coin.txout().value.to_sat()));
        match total.checked_sub(fee).filter(|value| *value >= costs.dust) {
            Some(value) => {
                let fee = Amount::from_sat(fee);
                if let Some(cap) = intent.max_fee.filter(|cap| fee > *cap) {
                    return Err(BuildError::FeeAboveCap { fee, cap });
                }
                let inputs: Vec<(OutPoint, psbt::Input)> =
                    chosen.iter().map(|coin| (coin.outpoint(), build::proof(coin, &owner.key))).collect();
                let back = TxOut { value: Sats::from_sat(value), script_pubkey: owner.script.clone() };
                return build::unsigned(inputs, vec![back], state.tip);
            }
            None => match rest.next() {
                Some(coin) => chosen.push(coin),
                None => {
                    let needed = Amount::from_sat(fee.saturating_add(costs.dust));
                    let available = Amount::from_sat(total);
                    return Err(BuildError::InsufficientFunds { asset: Asset::Native, needed, available });
                }
            },
        }
    }
}

/// The parent's outputs, and confirmed coins that may be added, the largest first.
fn coins<'a>(state: &'a State, parent: Txid, costs: &Costs) -> Result<(Vec<&'a Utxo>, Vec<&'a Utxo>), BuildError> {
    let mut coins: Vec<&Utxo> = state.utxos.iter().collect();
    coins.sort_by_key(|coin| (std::cmp::Reverse(coin.txout().value), coin.outpoint()));
    coins.dedup_by_key(|coin| coin.outpoint());
    let (outputs, others): (Vec<&Utxo>, Vec<&Utxo>) =
        coins.into_iter().partition(|coin| coin.outpoint().txid == parent);
    if outputs.is_empty() {
        return Err(BuildError::NotAcceleratable(
            "it pays the wallet nothing that is free to be spent; where another payment spends its change, accelerate that one",
        ));
    }
    let own_cost = costs.own_cost();
    let worth = |coin: &&Utxo| coin.confirmations() > 0 && coin.txout().value.to_sat() > own_cost;
    Ok((outputs, others.into_iter().filter(worth).collect()))
}

/// What the package lacks, and at least the child's own share.
fn child_fee(costs: &Costs, package: &Parent, vsize: u64) -> u64 {
    let whole = fee(costs, package.vsize.saturating_add(vsize));
    whole.saturating_sub(package.fees.to_sat()).max(fee(costs, vsize))
}

fn fee(costs: &Costs, vsize: u64) -> u64 {
    costs.rate.fee_vb(vsize).map_or(u64::MAX, Sats::to_sat)
}
