//! From intent and unspent outputs to a PSBT. Pure: the same input gives the same bytes.

pub(super) mod select;

use std::sync::Arc;

use bitcoin::absolute::{Height, LockTime};
use bitcoin::hashes::Hash;
use bitcoin::policy::MAX_STANDARD_TX_WEIGHT;
use bitcoin::transaction::Version;
use bitcoin::{Amount as Sats, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, psbt};

use self::select::{Coin, Costs, Selection};
use super::accelerate;
use super::address::{self, Owner, OwnerKey};
use super::wire::Unsigned;
use crate::account::Account;
use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::BuildError;
use crate::intent::{Action, Intent};
use crate::network::{BitcoinNetwork, Network};

/// Signals replaceability (BIP-125) and lets the lock time hold.
pub(super) const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// What a transaction is built from.
#[derive(Clone, Debug)]
pub struct State {
    /// What may be spent. All of it is the account's.
    pub utxos: Vec<Utxo>,
    /// What is paid per virtual byte; already at least what the node relays.
    pub fee_rate: FeeRate,
    /// The highest rate that is believed. What a node asks of a replacement, and of a child that pays for its parent, is refused
    /// above it.
    pub max_fee_rate: FeeRate,
    /// The best block's height. The transaction is locked to it, so that no miner gains by mining it into an earlier
    /// block (fee sniping).
    pub tip: Height,
    /// What the transaction has to do with those that wait in the mempool.
    pub waiting: Waiting,
}

/// What a transaction has to do with those that wait in the mempool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// It leaves them alone.
    #[default]
    Untouched,
    /// It takes the place of earlier attempts.
    Replaced(Replaced),
    /// It pays for one whose output it spends.
    Accelerated(Parent),
}

/// A transaction in the mempool with all its unconfirmed ancestors: one package for miners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// What all of them pay.
    pub fees: Sats,
    /// Their virtual size.
    pub vsize: u64,
}

/// What leaves the mempool for a replacement, and what the node asks for that (BIP-125).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// What a replacement pays for its own relay, on top of the fees of what leaves.
    pub incremental: FeeRate,
    /// The fees of all that leaves; zero where the mempool has no earlier attempt.
    pub fees: Sats,
    /// The rate of the earlier attempt in the mempool, satoshi per 1,000 virtual bytes.
    pub rate: u64,
    /// How many transactions leave: the earlier attempt and all that spend its outputs.
    pub count: u64,
    /// Whether another payment of the wallet spends an earlier attempt's change, or is about to.
    pub own_descendants: bool,
}

/// An unspent output, with the whole transaction that made it: a P2WPKH signature commits to its own input's amount
/// only, so the amounts of the others are proven by their transactions (BIP-174, `PSBT_IN_NON_WITNESS_UTXO`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utxo {
    outpoint: OutPoint,
    txout: TxOut,
    previous: Arc<Transaction>,
    confirmations: u32,
}

impl Utxo {
    /// Output `vout` of `previous`, with that many confirmations (0: in the mempool). `None` where there is no such
    /// output or its amount is above 21 million bitcoin.
    pub fn new(previous: Arc<Transaction>, vout: u32, confirmations: u32) -> Option<Self> {
        let txout = previous.output.get(usize::try_from(vout).ok()?)?.clone();
        let outpoint = OutPoint::new(previous.compute_txid(), vout);
        (txout.value <= Sats::MAX_MONEY).then_some(Self { outpoint, txout, previous, confirmations })
    }

    /// Where it is.
    pub fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// Its amount and script.
    pub fn txout(&self) -> &TxOut {
        &self.txout
    }

    /// The transaction that made it.
    pub fn previous(&self) -> &Arc<Transaction> {
        &self.previous
    }

    /// Blocks from the one that holds it to the best one, both counted; 0 where it is in the mempool.
    pub fn confirmations(&self) -> u32 {
        self.confirmations
    }
}

pub(super) fn build(
    network: BitcoinNetwork,
    intent: &Intent,
    account: &Account,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let wrong_account = || BuildError::WrongAccount(Network::Bitcoin(network));
    let owner = Owner::of(account, network).ok_or_else(wrong_account)?;
    if state.utxos.iter().any(|utxo| utxo.txout.script_pubkey != owner.script) {
        return Err(wrong_account());
    }
    if let Action::Accelerate { parent } = &intent.action {
        return accelerate::build(intent, parent, &owner, state);
    }
    let payment = payment(network, intent, &owner)?;
    let mut utxos = state.utxos.clone();
    utxos.sort_by_key(|utxo| (std::cmp::Reverse(utxo.txout.value), utxo.outpoint));
    utxos.dedup_by_key(|utxo| utxo.outpoint);

    let change = TxOut { value: Sats::ZERO, script_pubkey: owner.script.clone() };
    let costs = Costs {
        rate: state.fee_rate,
        input: input_weight(&owner.key),
        payment: payment.weight().to_wu(),
        change: change.weight().to_wu(),
        dust: owner.script.minimal_non_dust().to_sat(),
    };
    let selection = choose(&costs, payment.value, &utxos)?;

    if let Some(cap) = intent.max_fee {
        let fee = Amount::from_sat(selection.fee);
        if fee > cap {
            return Err(BuildError::FeeAboveCap { fee, cap });
        }
    }
    if costs.weight(selection.coins.len(), selection.change.is_some()) > u64::from(MAX_STANDARD_TX_WEIGHT) {
        return Err(BuildError::Unsupported(
            "more inputs than a standard transaction holds; consolidate small outputs",
        ));
    }

    let chosen = selection.coins.iter().filter_map(|index| utxos.get(*index));
    let inputs = chosen.map(|utxo| (utxo.outpoint, proof(utxo, &owner.key))).collect();
    let mut outputs = vec![payment];
    outputs.extend(selection.change.map(|value| TxOut { value: Sats::from_sat(value), ..change }));
    unsigned(inputs, outputs, state.tip)
}

/// The transaction of these inputs and outputs, in the order of BIP-69, so that the position of the change says nothing.
pub(super) fn unsigned(
    mut inputs: Vec<(OutPoint, psbt::Input)>,
    mut outputs: Vec<TxOut>,
    tip: Height,
) -> Result<Unsigned, BuildError> {
    inputs.sort_by_key(|(outpoint, _)| {
        let mut txid = outpoint.txid.to_byte_array();
        txid.reverse();
        (txid, outpoint.vout)
    });
    outputs.sort_by(|a, b| (a.value, &a.script_pubkey).cmp(&(b.value, &b.script_pubkey)));
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::Blocks(tip),
        input: inputs.iter().map(|(outpoint, _)| unsigned_input(*outpoint)).collect(),
        output: outputs,
    };
    let proofs = inputs.into_iter().map(|(_, proof)| proof).collect();
    Unsigned::new(tx, proofs).map_err(|_| BuildError::Unsupported("unspent outputs that no valid chain can hold"))
}

/// A fee rate as bitcoind compares them: satoshi per 1,000 virtual bytes, rounded down.
pub(super) fn rate_per_kvb(fee: u64, vsize: u64) -> u64 {
    fee.saturating_mul(1_000).checked_div(vsize).unwrap_or(0)
}

/// Makes sure that what a node asks is no more than `rate` makes of that many virtual bytes.
pub(super) fn require_believed(fee: u64, rate: FeeRate, vsize: u64) -> Result<(), BuildError> {
    let most = rate.fee_vb(vsize).map_or(u64::MAX, Sats::to_sat);
    if fee <= most {
        return Ok(());
    }
    Err(BuildError::FeeAboveCap { fee: Amount::from_sat(fee), cap: Amount::from_sat(most) })
}

/// The output that the intent asks for.
pub(super) fn payment(network: BitcoinNetwork, intent: &Intent, owner: &Owner) -> Result<TxOut, BuildError> {
    let (asset, to, amount) = match &intent.action {
        Action::Transfer { asset, to, amount } => (*asset, to, *amount),
        Action::Call { .. } => return Err(BuildError::Unsupported("Bitcoin has no contract calls")),
        Action::CallProgram { .. } => return Err(BuildError::Unsupported("programs are Solana's")),
        Action::OpenNonce { .. } => return Err(BuildError::Unsupported("durable nonces are Solana's")),
        Action::Accelerate { .. } => {
            return Err(BuildError::Unsupported("a child that pays for its parent pays nobody"));
        }
    };
    if asset != Asset::Native {
        return Err(BuildError::WrongAsset { asset, network: Network::Bitcoin(network) });
    }
    if amount.is_zero() {
        return Err(BuildError::ZeroAmount);
    }
    let overflow = BuildError::Overflow("bitcoin (21 million)");
    let value = amount.to_u64().map(Sats::from_sat).filter(|value| *value <= Sats::MAX_MONEY).ok_or(overflow)?;

    let Address::Bitcoin(to) = to.require_network(Network::Bitcoin(network))? else {
        return Err(BuildError::Unsupported("an address of another chain"));
    };
    let script = to.script_pubkey();
    if address::standard(&script, network).is_none() {
        return Err(BuildError::Unsupported("a witness version without rules, whose coins anybody may take"));
    }
    if script == owner.script {
        return Err(BuildError::Unsupported("a payment to the wallet's own address"));
    }
    let minimum = script.minimal_non_dust();
    if value < minimum {
        return Err(BuildError::Dust { minimum: Amount::from_sat(minimum.to_sat()) });
    }
    Ok(TxOut { value, script_pubkey: script })
}

/// Which of `utxos` (largest first) pay for the payment: confirmed ones where they suffice, the wallet's unconfirmed
/// change besides where they don't.
fn choose(costs: &Costs, amount: Sats, utxos: &[Utxo]) -> Result<Selection, BuildError> {
    let coins = |least: u32| -> Vec<Coin> {
        let enumerated = utxos.iter().enumerate().filter(|(_, utxo)| utxo.confirmations >= least);
        enumerated.map(|(index, utxo)| Coin { index, value: utxo.txout.value.to_sat() }).collect()
    };
    let amount = amount.to_sat();
    let selected = select::select(costs, amount, &coins(1)).or_else(|_| select::select(costs, amount, &coins(0)));
    selected.map_err(|short| BuildError::InsufficientFunds {
        asset: Asset::Native,
        needed: Amount::from_sat(short.needed),
        available: Amount::from_sat(short.available),
    })
}

/// The weight of a signed input, at the longest signature: 41 bytes without witness, then the count of the witness'
/// elements and each with its length (BIP-141).
pub(super) fn input_weight(key: &OwnerKey) -> u64 {
    const BASE: u64 = 4 * (32 + 4 + 1 + 4);
    match key {
        OwnerKey::P2wpkh(_) => BASE + 1 + (1 + 72) + (1 + 33), // low-S DER with sighash byte, compressed key
        OwnerKey::P2tr(_) => BASE + 1 + (1 + 64),              // BIP-340 signature, sighash type left out
    }
}

fn unsigned_input(previous_output: OutPoint) -> TxIn {
    TxIn { previous_output, script_sig: ScriptBuf::new(), sequence: SEQUENCE, witness: Witness::new() }
}

/// What the PSBT tells of an input besides its outpoint.
pub(super) fn proof(utxo: &Utxo, key: &OwnerKey) -> psbt::Input {
    match key {
        OwnerKey::P2wpkh(_) => super::wire::p2wpkh_input(utxo.txout.clone(), &utxo.previous),
        OwnerKey::P2tr(internal) => super::wire::p2tr_input(utxo.txout.clone(), *internal),
    }
}
