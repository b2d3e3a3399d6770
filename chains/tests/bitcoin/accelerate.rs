//! Child pays for parent: the package reaches the rate, the money comes back, and an output of the parent is spent.

use std::sync::Arc;

use bitcoin::{FeeRate, Transaction};
use chains::amount::Amount;
use chains::bitcoin::{Parent, State, Utxo, Waiting};
use chains::chain::{BuildError, Chain, Replacement, TxId};
use chains::intent::{Action, Intent};
use proptest::prelude::*;

use crate::fixture::{CHAIN, DESTINATIONS, Wallet, consensus_accepts, pay, transfer};

fn accelerate(parent: &str) -> Intent {
    let action = Action::Accelerate { parent: parent.parse().expect("letters and digits") };
    Intent { action, ..transfer(DESTINATIONS[0], 1) }
}

/// A state in which `parent` waits, whose outputs are the wallet's, beside confirmed coins.
fn waiting(wallet: &Wallet, parent: &Transaction, coins: &[u64], package: Parent, rate: u32) -> State {
    let parent = Arc::new(parent.clone());
    let change = (0..).map_while(|vout| Utxo::new(parent.clone(), vout, 0));
    let mut state = wallet.state(coins);
    state.utxos.extend(change);
    state.fee_rate = FeeRate::from_sat_per_vb_u32(rate);
    state.waiting = Waiting::Accelerated(package);
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_package_reaches_the_rate(
        taproot: bool,
        change in 300u64..500_000,
        coins in prop::collection::vec(1_000u64..500_000, 0..5),
        vsize in 110u64..20_000,
        fees in 100u64..100_000,
        rate in 1u32..300,
        cap in prop::option::of(200u64..100_000),
    ) {
        let wallet = if taproot { Wallet::p2tr(2) } else { Wallet::p2wpkh(1) };
        let parent = pay(&[(wallet.script(), change)], 99);
        let txid = parent.compute_txid().to_string();
        let package = Parent { fees: bitcoin::Amount::from_sat(fees), vsize };
        let state = waiting(&wallet, &parent, &coins, package, rate);
        let mut intent = accelerate(&txid);
        intent.max_fee = cap.map(Amount::from_sat);
        let rate = u64::from(rate);
        let unsigned = match CHAIN.build(&intent, &wallet.account, &state) {
            Ok(unsigned) => unsigned,
            Err(BuildError::NotAcceleratable(_)) => {
                prop_assert!(fees >= rate * vsize, "only what pays enough is left alone");
                return Ok(());
            }
            Err(BuildError::InsufficientFunds { needed, available, .. }) => {
                prop_assert!(available < needed);
                return Ok(());
            }
            Err(BuildError::FeeAboveCap { fee, cap }) => {
                prop_assert!(fee > cap);
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        let payloads = CHAIN.payloads(&wallet.account, &unsigned).expect("the account's");
        let signatures: Vec<_> = payloads.iter().map(|payload| wallet.sign(payload)).collect();
        let signed = CHAIN.assemble(&wallet.account, &unsigned, &signatures).expect("signatures that verify");
        prop_assert!(consensus_accepts(signed.transaction(), unsigned.spent()));

        let child = u64::try_from(signed.transaction().vsize()).expect("small");
        let fee = unsigned.fee().to_sat();
        prop_assert!(fees + fee >= rate * (vsize + child), "the package");
        prop_assert!(fee >= rate * child, "and the child itself");
        prop_assert!(cap.is_none_or(|cap| fee <= cap));
        let effects = CHAIN.effects(&wallet.account, &unsigned).expect("what was built");
        prop_assert!(effects.transfers.is_empty() && effects.upkeep.is_none());
        let spent: u64 = unsigned.spent().iter().map(|output| output.value.to_sat()).sum();
        prop_assert_eq!(effects.change, Amount::from_sat(spent - fee));
        let parent: TxId = txid.parse().expect("an id");
        prop_assert!(CHAIN.slots(&wallet.account, &unsigned).iter().any(|slot| slot.is_output_of(&parent)));
        let bytes = CHAIN.encode_unsigned(&unsigned);
        prop_assert_eq!(CHAIN.decode_unsigned(&bytes), Ok(unsigned));
    }
}

#[test]
fn what_cannot_be_accelerated() {
    let wallet = Wallet::p2tr(2);
    let parent = pay(&[(wallet.script(), 90_000)], 99);
    let txid = parent.compute_txid().to_string();
    let package = Parent { fees: bitcoin::Amount::from_sat(150), vsize: 150 };
    let good = waiting(&wallet, &parent, &[50_000], package, 20);
    let refused =
        |parent: &str, state: &State| CHAIN.build(&accelerate(parent), &wallet.account, state).expect_err("refused");
    assert!(CHAIN.build(&accelerate(&txid), &wallet.account, &good).is_ok());
    let elsewhere = State { utxos: wallet.state(&[50_000]).utxos, ..good.clone() };
    let paid = Parent { fees: bitcoin::Amount::from_sat(3_000), vsize: 150 };
    let enough = State { waiting: Waiting::Accelerated(paid), ..good.clone() };
    let untold = State { waiting: Waiting::Untouched, ..good.clone() };
    let upper = txid.to_uppercase();
    let cases = [(upper.as_str(), &good), ("7", &good), (&txid, &elsewhere), (&txid, &enough), (&txid, &untold)];
    for (parent, state) in cases {
        let error = refused(parent, state);
        assert!(matches!(error, BuildError::NotAcceleratable(_)), "{error}");
    }
    for text in ["", "a:0", "é", &"7".repeat(89)] {
        assert!(text.parse::<TxId>().is_err(), "{text:?}");
    }
}

#[test]
fn a_child_is_itself_replaced_by_one_that_pays_more() {
    let wallet = Wallet::p2tr(2);
    let parent = pay(&[(wallet.script(), 90_000)], 99);
    let intent = accelerate(&parent.compute_txid().to_string());
    let package = Parent { fees: bitcoin::Amount::from_sat(150), vsize: 150 };
    let mut state = waiting(&wallet, &parent, &[50_000], package, 20);
    let child = CHAIN.build(&intent, &wallet.account, &state).expect("it can be accelerated");
    let incremental = FeeRate::from_sat_per_vb_u32(1);
    let fees = child.fee();
    state.waiting =
        Waiting::Replaced(chains::bitcoin::Replaced { incremental, fees, rate: 0, count: 1, own_descendants: false });
    let faster = CHAIN.replace(&intent, &wallet.account, &[child], Replacement::SpeedUp, &state).expect("it can be");
    assert!(faster.fee() > fees);
    let effects = CHAIN.effects(&wallet.account, &faster).expect("what was built");
    assert!(effects.transfers.is_empty());
}

#[test]
fn what_a_node_asks_for_a_package_is_believed_up_to_what_nodes_take() {
    let wallet = Wallet::p2tr(2);
    let parent = pay(&[(wallet.script(), 90_000)], 99);
    let intent = accelerate(&parent.compute_txid().to_string());
    let of_size = |vsize, rate| {
        let package = Parent { fees: bitcoin::Amount::from_sat(150), vsize };
        waiting(&wallet, &parent, &[100_000_000], package, rate)
    };
    let build = |state: &State| CHAIN.build(&intent, &wallet.account, state);
    // The largest package at the highest rate.
    let child = build(&of_size(101_000, 500)).expect("it can be accelerated");
    assert!(child.fee().to_sat() >= 500 * 101_000 - 150);
    let too_large = build(&of_size(101_001, 1));
    assert!(matches!(too_large, Err(BuildError::NotAcceleratable(_))), "{too_large:?}");
    let too_dear = build(&of_size(101_000, 502));
    assert!(matches!(&too_dear, Err(BuildError::FeeAboveCap { fee, cap }) if fee > cap), "{too_dear:?}");

    // A child pays for others, so what takes its place may pay more than its own size is worth, but not anything.
    let mut state = of_size(20_000, 100);
    let child = build(&state).expect("it can be accelerated");
    let incremental = FeeRate::from_sat_per_vb_u32(1);
    for (fees, taken) in [(child.fee(), true), (bitcoin::Amount::from_sat(60_000_000), false)] {
        let told = chains::bitcoin::Replaced { incremental, fees, rate: 0, count: 1, own_descendants: false };
        state.waiting = Waiting::Replaced(told);
        for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
            match CHAIN.replace(&intent, &wallet.account, std::slice::from_ref(&child), purpose, &state) {
                Ok(faster) => assert!(taken && faster.fee() > fees),
                Err(BuildError::FeeAboveCap { fee, cap }) => assert!(!taken && fee > cap, "{fee} above {cap}"),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn the_slot_names_its_transaction_and_no_other() {
    let slot: chains::chain::Slot = format!("bitcoin:regtest/{}:7", "ab".repeat(32)).parse().expect("a slot");
    let is_of = |text: &str| slot.is_output_of(&text.parse().expect("letters and digits"));
    assert!(is_of(&"ab".repeat(32)));
    assert!(!is_of(&"ab".repeat(31)) && !is_of("a") && !is_of(&"cd".repeat(32)));
}
