//! A transaction in the place of an earlier one, by the rules of BIP-125 as bitcoind keeps them (`policy/rbf.cpp`):
//!
//! 1. every attempt signals replaceability, as all that is built here does;
//! 2. no unconfirmed input that the earlier ones don't have: added coins are confirmed;
//! 3. it pays at least the fees of all that it pushes out;
//! 4. and its own relay on top, by the node's incremental rate;
//! 5. it pushes out at most 100 transactions.
//!
//! Besides, its fee rate is higher than that of what it replaces. All inputs of all earlier attempts are kept, so that it
//! excludes each of them on chain, whichever of them which node may hold.
//!
//! The fees, rates and counts of what waits are the node's word, so a fee above the highest rate that is believed is refused.

use std::collections::BTreeSet;

use bitcoin::policy::MAX_STANDARD_TX_WEIGHT;
use bitcoin::{Amount as Sats, FeeRate, OutPoint, TxOut, psbt};

use super::accelerate;
use super::address::{Owner, OwnerKey};
use super::build::select::Costs;
use super::build::{self, Replaced, State, Utxo, Waiting};
use super::effects::spender;
use super::wire::Unsigned;
use crate::account::Account;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::{BuildError, Replacement};
use crate::intent::{Action, Intent};
use crate::network::{BitcoinNetwork, Network};

/// BIP-125, rule 5.
const MAX_EVICTED: u64 = 100;
/// Bytes by which a signature may be shorter than the longest: one in 2^40 is shorter still.
const SHORTER_SIGNATURE: u64 = 6;

/// Builds the transaction that takes the place of `previous`.
pub(super) fn replace(
    network: BitcoinNetwork,
    intent: &Intent,
    account: &Account,
    previous: &[Unsigned],
    purpose: Replacement,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let wrong_account = || BuildError::WrongAccount(Network::Bitcoin(network));
    let owner = Owner::of(account, network).ok_or_else(wrong_account)?;
    if previous.iter().any(|tx| spender(network, account, tx).is_err()) {
        return Err(wrong_account());
    }
    if state.utxos.iter().any(|utxo| utxo.txout().script_pubkey != owner.script) {
        return Err(wrong_account());
    }
    let Waiting::Replaced(replaced) = &state.waiting else {
        return Err(BuildError::NotReplaceable("the state was gathered for another transaction; gather it anew"));
    };
    let anchors = anchors(previous)?;
    replaceable(replaced)?;

    let payment = match purpose {
        // A child that pays for its parent pays nobody either.
        Replacement::SpeedUp if matches!(intent.action, Action::Accelerate { .. }) => None,
        Replacement::SpeedUp => Some(build::payment(network, intent, &owner)?),
        Replacement::Cancel => None,
    };
    let change = TxOut { value: Sats::ZERO, script_pubkey: owner.script.clone() };
    let needs = Needs {
        costs: Costs {
            rate: state.fee_rate,
            input: build::input_weight(&owner.key),
            payment: payment.as_ref().map_or(0, |output| output.weight().to_wu()),
            change: change.weight().to_wu(),
            dust: owner.script.minimal_non_dust().to_sat(),
        },
        amount: payment.as_ref().map(|output| output.value.to_sat()),
        cap: intent.max_fee,
        floor: Floor::of(previous, replaced, &owner.key),
        believed: state.max_fee_rate,
        // A child pays for its unconfirmed ancestors, and so does what takes its place.
        ancestors: if matches!(intent.action, Action::Accelerate { .. }) { accelerate::MAX_PACKAGE } else { 0 },
    };
    let spare = spare_coins(state, previous, &anchors, &needs.costs);
    let (settled, added) = needs.fund(&anchors, &spare)?;

    let mut inputs: Vec<(OutPoint, psbt::Input)> =
        anchors.into_iter().map(|anchor| (anchor.outpoint, anchor.input)).collect();
    inputs.extend(added.iter().map(|utxo| (utxo.outpoint(), build::proof(utxo, &owner.key))));
    let mut outputs: Vec<TxOut> = payment.into_iter().collect();
    outputs.extend(settled.change.map(|value| TxOut { value: Sats::from_sat(value), ..change }));
    build::unsigned(inputs, outputs, state.tip)
}

/// An input of an earlier attempt.
struct Anchor {
    outpoint: OutPoint,
    value: u64,
    input: psbt::Input,
}

/// All inputs of all earlier attempts.
fn anchors(previous: &[Unsigned]) -> Result<Vec<Anchor>, BuildError> {
    let mut seen = BTreeSet::new();
    let mut anchors = Vec::new();
    for attempt in previous {
        let known = attempt.psbt().inputs.iter().zip(attempt.spent());
        for (txin, (input, spent)) in attempt.transaction().input.iter().zip(known) {
            if seen.insert(txin.previous_output) {
                let value = spent.value.to_sat();
                anchors.push(Anchor { outpoint: txin.previous_output, value, input: input.clone() });
            }
        }
    }
    if anchors.is_empty() { Err(BuildError::NotReplaceable("there is no earlier attempt")) } else { Ok(anchors) }
}

/// Whether nothing leaves with it but the intent's own attempts.
fn replaceable(replaced: &Replaced) -> Result<(), BuildError> {
    if replaced.own_descendants {
        return Err(BuildError::NotReplaceable(
            "a later payment of the wallet spends its change and would be lost with it; accelerate it instead",
        ));
    }
    if replaced.count > MAX_EVICTED {
        return Err(BuildError::NotReplaceable(
            "more than 100 transactions depend on it (BIP-125); accelerate it instead",
        ));
    }
    if replaced.count > 1 {
        return Err(BuildError::NotReplaceable(
            "somebody else's transaction spends its outputs and would be lost with it; accelerate it instead",
        ));
    }
    Ok(())
}

/// Confirmed coins that may be added, the largest first, each worth more than spending it costs.
fn spare_coins<'a>(state: &'a State, previous: &[Unsigned], anchors: &[Anchor], costs: &Costs) -> Vec<&'a Utxo> {
    let attempts: BTreeSet<_> = previous.iter().map(|attempt| attempt.transaction().compute_txid()).collect();
    let taken: BTreeSet<_> = anchors.iter().map(|anchor| anchor.outpoint).collect();
    let own_cost = costs.own_cost();
    let confirmed = state.utxos.iter().filter(|utxo| utxo.confirmations() > 0);
    let free = confirmed.filter(|utxo| !taken.contains(&utxo.outpoint()) && !attempts.contains(&utxo.outpoint().txid));
    let mut coins: Vec<&Utxo> = free.filter(|utxo| utxo.txout().value.to_sat() > own_cost).collect();
    coins.sort_by_key(|utxo| (std::cmp::Reverse(utxo.txout().value), utxo.outpoint()));
    coins.dedup_by_key(|utxo| utxo.outpoint());
    coins
}

/// The least that nodes take for the replacement.
struct Floor {
    /// Rule 3, satoshi.
    fees: u64,
    /// Rule 4.
    incremental: FeeRate,
    /// What is to be passed, satoshi per 1,000 virtual bytes.
    rate: u64,
}

impl Floor {
    fn of(previous: &[Unsigned], replaced: &Replaced, key: &OwnerKey) -> Self {
        let mut floor = Self { fees: replaced.fees.to_sat(), incremental: replaced.incremental, rate: replaced.rate };
        for attempt in previous {
            let fee = attempt.fee().to_sat();
            floor.fees = floor.fees.max(fee);
            floor.rate = floor.rate.max(build::rate_per_kvb(fee, least_vsize(attempt, key)));
        }
        floor
    }

    fn fee(&self, vsize: u64) -> u64 {
        let relay = self.incremental.fee_vb(vsize).map_or(u64::MAX, Sats::to_sat);
        let higher = u128::from(self.rate).saturating_add(1).saturating_mul(vsize.into()).div_ceil(1_000);
        self.fees.saturating_add(relay).max(u64::try_from(higher).unwrap_or(u64::MAX))
    }
}

/// How small the attempt may be once it is signed.
fn least_vsize(attempt: &Unsigned, key: &OwnerKey) -> u64 {
    const INPUT_BASE: u64 = 4 * (32 + 4 + 1 + 4);
    const SEGWIT_MARKER_AND_FLAG: u64 = 2;
    let witness = match key {
        OwnerKey::P2wpkh(_) => build::input_weight(key).saturating_sub(INPUT_BASE + SHORTER_SIGNATURE),
        OwnerKey::P2tr(_) => build::input_weight(key).saturating_sub(INPUT_BASE),
    };
    let tx = attempt.transaction();
    let inputs = u64::try_from(tx.input.len()).unwrap_or(u64::MAX);
    let weight = tx.weight().to_wu().saturating_add(SEGWIT_MARKER_AND_FLAG);
    weight.saturating_add(inputs.saturating_mul(witness)).div_ceil(4)
}

/// What the replacement has to pay for.
struct Needs {
    costs: Costs,
    /// What the payee gets; `None` where there is none.
    amount: Option<u64>,
    cap: Option<Amount>,
    floor: Floor,
    /// The highest rate that is believed.
    believed: FeeRate,
    /// So many virtual bytes of others it may pay for.
    ancestors: u64,
}

/// Where the money goes besides to the payee, satoshi.
#[derive(Clone, Copy)]
struct Settled {
    fee: u64,
    change: Option<u64>,
}

impl Needs {
    /// What the market asks, as far as the cap allows, and at least what nodes ask of a replacement.
    fn fee(&self, inputs: usize, with_change: bool) -> u64 {
        let vsize = self.costs.weight(inputs, with_change).div_ceil(4);
        let market = self.costs.rate.fee_vb(vsize).map_or(u64::MAX, Sats::to_sat);
        let cap = self.cap.map_or(u64::MAX, |cap| cap.to_u64().unwrap_or(u64::MAX));
        self.floor.fee(vsize).max(market.min(cap))
    }

    /// Change below dust goes to the fee. Without a payee, something must come back.
    fn settle(&self, total: u64, inputs: usize) -> Option<Settled> {
        let surplus = total.checked_sub(self.amount.unwrap_or(0))?;
        let fee = self.fee(inputs, true);
        match surplus.checked_sub(fee).filter(|change| *change >= self.costs.dust) {
            Some(change) => Some(Settled { fee, change: Some(change) }),
            None if self.amount.is_some() && surplus >= self.fee(inputs, false) => {
                Some(Settled { fee: surplus, change: None })
            }
            None => None,
        }
    }

    /// The anchors, and as many of the spare coins as it takes.
    fn fund<'a>(&self, anchors: &[Anchor], spare: &[&'a Utxo]) -> Result<(Settled, Vec<&'a Utxo>), BuildError> {
        let mut total = anchors.iter().fold(0_u64, |sum, anchor| sum.saturating_add(anchor.value));
        let mut added = Vec::new();
        let mut above_cap: Option<BuildError> = None;
        let mut rest = spare.iter();
        loop {
            let inputs = anchors.len().saturating_add(added.len());
            if self.costs.weight(inputs, true) > u64::from(MAX_STANDARD_TX_WEIGHT) {
                let heavy = "more inputs than a standard transaction holds; consolidate small outputs";
                return Err(above_cap.unwrap_or(BuildError::Unsupported(heavy)));
            }
            // At once: more coins would only make room for a higher fee.
            let vsize = self.costs.weight(inputs, true).div_ceil(4).saturating_add(self.ancestors);
            build::require_believed(self.fee(inputs, true), self.believed, vsize)?;
            if let Some(settled) = self.settle(total, inputs) {
                let fee = Amount::from_sat(settled.fee);
                match self.cap {
                    Some(cap) if fee > cap => {
                        above_cap.get_or_insert(BuildError::FeeAboveCap { fee, cap });
                    }
                    _ => return Ok((settled, added)),
                }
            }
            let Some(next) = rest.next() else {
                return Err(above_cap.unwrap_or_else(|| self.short(total, inputs)));
            };
            total = total.saturating_add(next.txout().value.to_sat());
            added.push(*next);
        }
    }

    fn short(&self, total: u64, inputs: usize) -> BuildError {
        let least = match self.amount {
            Some(amount) => amount.saturating_add(self.fee(inputs, false)),
            None => self.costs.dust.saturating_add(self.fee(inputs, true)),
        };
        let (needed, available) = (Amount::from_sat(least), Amount::from_sat(total));
        BuildError::InsufficientFunds { asset: Asset::Native, needed, available }
    }
}
