//! Replacing: BIP-125 rule by rule, whatever the coins, the attempts so far and the market.

use std::collections::BTreeSet;

use bitcoin::FeeRate;
use chains::amount::Amount;
use chains::bitcoin::{Replaced, Signed, State, Unsigned, Waiting};
use chains::chain::{BuildError, Chain, Replacement};
use chains::intent::Intent;
use proptest::prelude::*;

use crate::fixture::{CHAIN, DESTINATIONS, Wallet, consensus_accepts, transfer};

fn sign(wallet: &Wallet, unsigned: &Unsigned) -> Signed {
    let payloads = CHAIN.payloads(&wallet.account, unsigned).expect("the account's");
    let signatures: Vec<_> = payloads.iter().map(|payload| wallet.sign(payload)).collect();
    CHAIN.assemble(&wallet.account, unsigned, &signatures).expect("signatures that verify")
}

fn vsize(signed: &Signed) -> u64 {
    u64::try_from(signed.transaction().vsize()).expect("small")
}

/// What a mempool tells that has the last of `attempts`, or nothing.
fn replaced(attempts: &[(Unsigned, Signed)], in_mempool: bool, incremental: u32) -> Replaced {
    let incremental = FeeRate::from_sat_per_vb_u32(incremental);
    let nothing = Replaced { incremental, fees: bitcoin::Amount::ZERO, rate: 0, count: 0, own_descendants: false };
    match attempts.last().filter(|_| in_mempool) {
        Some((unsigned, signed)) => {
            let rate = unsigned.fee().to_sat() * 1_000 / vsize(signed);
            Replaced { fees: unsigned.fee(), rate, count: 1, ..nothing }
        }
        None => nothing,
    }
}

fn replace(
    wallet: &Wallet,
    intent: &Intent,
    attempts: &[(Unsigned, Signed)],
    purpose: Replacement,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let previous: Vec<_> = attempts.iter().map(|(unsigned, _)| unsigned.clone()).collect();
    CHAIN.replace(intent, &wallet.account, &previous, purpose, state)
}

#[derive(Clone, Debug)]
struct Round {
    cancel: bool,
    rate: u32,
    incremental: u32,
    in_mempool: bool,
}

fn round() -> impl Strategy<Value = Round> {
    (any::<bool>(), 1u32..300, 1u32..5, any::<bool>()).prop_map(|(cancel, rate, incremental, in_mempool)| Round {
        cancel,
        rate,
        incremental,
        in_mempool,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_replacement_keeps_the_rules(
        taproot: bool,
        to in prop::sample::select(DESTINATIONS.to_vec()),
        amount in 600u64..1_500_000,
        coins in prop::collection::vec(1_000u64..1_000_000, 1..10),
        unconfirmed in 0usize..4,
        rate in 1u32..60,
        rounds in prop::collection::vec(round(), 1..5),
        cap in prop::option::of(200u64..200_000),
    ) {
        let wallet = if taproot { Wallet::p2tr(2) } else { Wallet::p2wpkh(1) };
        let mut state = wallet.state(&coins);
        state.fee_rate = FeeRate::from_sat_per_vb_u32(rate);
        for utxo in state.utxos.iter_mut().take(unconfirmed) {
            *utxo = chains::bitcoin::Utxo::new(utxo.previous().clone(), 0, 0).expect("the output is there");
        }
        let coins = state.utxos.clone();
        let mut intent = transfer(to, amount);
        intent.max_fee = cap.map(Amount::from_sat);
        let Ok(first) = CHAIN.build(&intent, &wallet.account, &state) else { return Ok(()) };
        let signed = sign(&wallet, &first);
        let mut attempts = vec![(first, signed)];

        for Round { cancel, rate, incremental, in_mempool } in rounds {
            let purpose = if cancel { Replacement::Cancel } else { Replacement::SpeedUp };
            state.fee_rate = FeeRate::from_sat_per_vb_u32(rate);
            state.waiting = Waiting::Replaced(replaced(&attempts, in_mempool, incremental));
            let unsigned = match replace(&wallet, &intent, &attempts, purpose, &state) {
                Ok(unsigned) => unsigned,
                Err(BuildError::FeeAboveCap { fee, cap }) => {
                    prop_assert!(fee > cap);
                    continue;
                }
                Err(BuildError::InsufficientFunds { needed, available, .. }) => {
                    prop_assert!(available < needed, "{available} < {needed}");
                    continue;
                }
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            prop_assert_eq!(replace(&wallet, &intent, &attempts, purpose, &state), Ok(unsigned.clone()));
            let signed = sign(&wallet, &unsigned);
            prop_assert!(consensus_accepts(signed.transaction(), unsigned.spent()));

            // It pays the payee exactly, or nobody, and nothing is lost.
            let effects = CHAIN.effects(&wallet.account, &unsigned).expect("what was built");
            let paid: Vec<_> = effects.transfers.iter().map(|t| (t.to.to_string(), t.amount)).collect();
            let expected = if cancel { vec![] } else { vec![(to.to_owned(), Amount::from_sat(amount))] };
            prop_assert_eq!(paid, expected);
            let spent: u64 = unsigned.spent().iter().map(|output| output.value.to_sat()).sum();
            let outputs: u64 = unsigned.transaction().output.iter().map(|output| output.value.to_sat()).sum();
            let fee = unsigned.fee().to_sat();
            prop_assert_eq!(spent, outputs + fee);
            prop_assert!(unsigned.transaction().output.iter().all(|o| o.value >= o.script_pubkey.minimal_non_dust()));
            prop_assert!(cap.is_none_or(|cap| fee <= cap));

            // Rule 1.
            prop_assert!(unsigned.transaction().is_explicitly_rbf());
            let slots = CHAIN.slots(&wallet.account, &unsigned);
            let mut earlier_slots = BTreeSet::new();
            for (earlier, earlier_signed) in &attempts {
                let theirs = CHAIN.slots(&wallet.account, earlier);
                prop_assert!(!slots.is_disjoint(&theirs), "it excludes every earlier attempt");
                earlier_slots.extend(theirs);
                // Rules 3 and 4, and the rate, as nodes reckon them on the signed bytes.
                let old = earlier.fee().to_sat();
                prop_assert!(fee >= old + u64::from(incremental) * vsize(&signed), "{fee} after {old}");
                prop_assert!(fee * 1_000 / vsize(&signed) > old * 1_000 / vsize(earlier_signed));
            }
            // Rule 2.
            let added = unsigned.transaction().input.iter().filter(|input| {
                !earlier_slots.iter().any(|slot| slot.what() == input.previous_output.to_string())
            });
            for input in added {
                let coin = coins.iter().find(|coin| coin.outpoint() == input.previous_output);
                prop_assert!(coin.is_some_and(|coin| coin.confirmations() > 0), "added coins are confirmed");
            }
            attempts.push((unsigned, signed));
        }
    }
}

/// A payment of 100,000 sat from coins of these amounts, and the state for its replacement.
fn paid(wallet: &Wallet, coins: &[u64]) -> (Intent, Vec<(Unsigned, Signed)>, State) {
    let intent = transfer(DESTINATIONS[2], 100_000);
    let mut state = wallet.state(coins);
    let first = CHAIN.build(&intent, &wallet.account, &state).expect("enough");
    let attempts = vec![(first.clone(), sign(wallet, &first))];
    state.waiting = Waiting::Replaced(replaced(&attempts, true, 1));
    state.fee_rate = FeeRate::from_sat_per_vb_u32(50);
    (intent, attempts, state)
}

#[test]
fn a_coin_is_added_where_the_change_does_not_suffice() {
    for wallet in Wallet::both() {
        let (intent, attempts, state) = paid(&wallet, &[101_500, 40_000, 30_000]);
        assert_eq!(attempts[0].0.transaction().input.len(), 1, "the first one spends the exact coin");
        let faster = replace(&wallet, &intent, &attempts, Replacement::SpeedUp, &state).expect("coins to spare");
        assert_eq!(faster.transaction().input.len(), 2);
        assert!(faster.spent().iter().any(|output| output.value.to_sat() == 40_000), "the largest one");
        // Without any to spare the market's rate is not to be had.
        let alone = State { utxos: Vec::new(), ..state };
        let short = replace(&wallet, &intent, &attempts, Replacement::SpeedUp, &alone).expect_err("too little");
        assert!(matches!(short, BuildError::InsufficientFunds { .. }), "{short}");
        let back = replace(&wallet, &intent, &attempts, Replacement::Cancel, &alone).expect("all of it comes back");
        assert_eq!(back.transaction().input, attempts[0].0.transaction().input);
        assert_eq!(back.transaction().output.len(), 1);
        assert_eq!(back.transaction().output[0].script_pubkey, wallet.script());
    }
}

#[test]
fn change_that_becomes_dust_goes_to_the_fee() {
    let wallet = Wallet::p2tr(2);
    let (intent, attempts, mut state) = paid(&wallet, &[102_000]);
    assert_eq!(attempts[0].0.transaction().output.len(), 2);
    state.fee_rate = FeeRate::from_sat_per_vb_u32(12);
    let faster = replace(&wallet, &intent, &attempts, Replacement::SpeedUp, &state).expect("enough");
    assert_eq!(faster.transaction().output.len(), 1);
    assert_eq!(faster.fee().to_sat(), 2_000);
}

#[test]
fn the_market_gives_way_to_the_cap_and_the_rules_do_not() {
    let wallet = Wallet::p2tr(2);
    let (mut intent, attempts, state) = paid(&wallet, &[1_000_000]);
    let first = attempts[0].0.fee().to_sat();
    let fee = |intent: &Intent| replace(&wallet, intent, &attempts, Replacement::SpeedUp, &state).map(|tx| tx.fee());
    let market = fee(&intent).expect("enough").to_sat();
    intent.max_fee = Some(Amount::from_sat(market - 1));
    assert_eq!(fee(&intent).expect("the rules ask for less").to_sat(), market - 1);
    intent.max_fee = Some(Amount::from_sat(first + 1));
    let refused = fee(&intent).expect_err("rule 4");
    assert!(matches!(refused, BuildError::FeeAboveCap { .. }), "{refused}");
}

#[test]
fn what_a_node_asks_is_believed_up_to_the_highest_rate() {
    for wallet in Wallet::both() {
        // Enough to be burned, and coins that could make room for it.
        let mut coins = vec![100_000_000];
        coins.extend([1_000_000; 40]);
        let (intent, attempts, state) = paid(&wallet, &coins);
        let with = |purpose: Replacement, change: &dyn Fn(&mut Replaced)| {
            let mut told = replaced(&attempts, true, 1);
            change(&mut told);
            let state = State { waiting: Waiting::Replaced(told), ..state.clone() };
            replace(&wallet, &intent, &attempts, purpose, &state)
        };
        let size = vsize(&attempts[0].1);
        let lies: [&dyn Fn(&mut Replaced); 3] = [
            &|told| told.incremental = FeeRate::from_sat_per_vb_u32(501),
            &|told| told.fees = bitcoin::Amount::from_sat(500 * (size + 10)),
            &|told| told.rate = 501_000,
        ];
        for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
            for lie in lies {
                let refused = with(purpose, lie).expect_err("more than the highest rate makes of it");
                let BuildError::FeeAboveCap { fee, cap } = refused else { panic!("{refused}") };
                assert!(fee > cap && cap <= Amount::from_sat(500 * (size + 10)), "{fee} above {cap}");
            }
            let dear = with(purpose, &|told| told.rate = 490_000).expect("it is believed");
            let size = vsize(&sign(&wallet, &dear));
            assert!((490 * size..=500 * size).contains(&dear.fee().to_sat()), "{} for {size}", dear.fee());
        }
    }
}

#[test]
fn nobody_s_transaction_is_pushed_out_but_the_intent_s_own() {
    let wallet = Wallet::p2tr(2);
    let (intent, attempts, state) = paid(&wallet, &[1_000_000]);
    let with = |change: &dyn Fn(&mut Replaced)| {
        let mut told = replaced(&attempts, true, 1);
        change(&mut told);
        let state = State { waiting: Waiting::Replaced(told), ..state.clone() };
        replace(&wallet, &intent, &attempts, Replacement::Cancel, &state)
    };
    assert!(with(&|_| {}).is_ok());
    let refused =
        [with(&|told| told.own_descendants = true), with(&|told| told.count = 2), with(&|told| told.count = 101)];
    let reasons: BTreeSet<_> = refused
        .into_iter()
        .map(|refused| match refused {
            Err(BuildError::NotReplaceable(reason)) => reason,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons.len(), 3, "three reasons: {reasons:?}");
    // Rule 3 counts all that leaves.
    let dear = with(&|told| told.fees = bitcoin::Amount::from_sat(40_000)).expect("enough");
    assert!(dear.fee().to_sat() > 40_000);
}

#[test]
fn what_is_no_replacement() {
    let wallet = Wallet::p2tr(2);
    let (intent, attempts, mut state) = paid(&wallet, &[1_000_000]);
    let none = replace(&wallet, &intent, &[], Replacement::Cancel, &state);
    assert!(matches!(none, Err(BuildError::NotReplaceable(_))), "{none:?}");
    let foreign = replace(&Wallet::p2wpkh(1), &intent, &attempts, Replacement::Cancel, &state);
    assert!(matches!(foreign, Err(BuildError::WrongAccount(_))), "{foreign:?}");
    state.waiting = Waiting::Untouched;
    let untold = replace(&wallet, &intent, &attempts, Replacement::Cancel, &state);
    assert!(matches!(untold, Err(BuildError::NotReplaceable(_))), "{untold:?}");
}
