//! Replacing: the same nonce for more, as nodes ask it, within the intent's cap; and what the client asks for it.

use std::collections::BTreeSet;

use alloy::primitives::Address as EvmAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain, Replacement};
use chains::client::{Client, Nonces, StateError};
use chains::ethereum::{BasisPoints, Fees, Gas, GasPrice, Nonce, Options, Replacing, State, Transaction, Unsigned};
use chains::intent::Intent;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fake_node::{Answer, FakeNode, block, error};
use crate::fixture::{CHAIN, alice, call, evm_address, state, transfer};

const BUMP: BasisPoints = BasisPoints::new(1_250);

fn replacing(fees: Fees) -> State {
    State { fees, replacing: Some(Replacing { bump: BUMP }), ..state() }
}

fn eip1559(max: u128, tip: u128) -> Fees {
    Fees::Eip1559 { max_fee_per_gas: GasPrice::from_wei(max), max_priority_fee_per_gas: GasPrice::from_wei(tip) }
}

fn prices(unsigned: &Unsigned) -> (u128, u128) {
    match unsigned.transaction() {
        Transaction::Eip1559(tx) => (tx.max_fee_per_gas, tx.max_priority_fee_per_gas),
        Transaction::Eip2930(tx) => (tx.gas_price, tx.gas_price),
    }
}

/// A payment to Bob, and its first attempt at these fees.
fn first(fees: Fees) -> (Intent, Unsigned) {
    let intent = transfer(Asset::Native, EvmAddress::repeat_byte(0xbb), Amount::from_wei(1_000));
    let unsigned = CHAIN.build(&intent, &alice(), &State { fees, ..state() }).expect("it can be built");
    (intent, unsigned)
}

fn any_fees() -> impl Strategy<Value = Fees> {
    let price = 0u128..1_000_000_000_000;
    prop_oneof![
        4 => (price.clone(), price.clone()).prop_map(|(a, b)| eip1559(a.max(b), a.min(b))),
        1 => price.prop_map(|price| Fees::Legacy { gas_price: GasPrice::from_wei(price) }),
    ]
}

proptest! {
    #[test]
    fn both_prices_rise_by_what_nodes_ask(
        start in any_fees(),
        rounds in prop::collection::vec((any_fees(), any::<bool>(), 21_000u64..200_000), 1..6),
        cap in prop::option::of(1_000_000_000u128..1_000_000_000_000_000_000),
    ) {
        let (mut intent, unsigned) = first(start);
        intent.max_fee = cap.map(Amount::from_wei);
        let mut attempts = vec![unsigned];
        for (market, cancel, gas) in rounds {
            let purpose = if cancel { Replacement::Cancel } else { Replacement::SpeedUp };
            let state = State { gas_limit: Gas::from_units(gas), ..replacing(market) };
            let unsigned = match CHAIN.replace(&intent, &alice(), &attempts, purpose, &state) {
                Ok(unsigned) => unsigned,
                Err(BuildError::FeeAboveCap { fee, cap }) => {
                    prop_assert!(fee > cap);
                    continue;
                }
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            let effects = CHAIN.effects(&alice(), &unsigned).expect("what was built");
            prop_assert_eq!(effects.transfers.len(), usize::from(!cancel));
            prop_assert!(effects.calls.is_empty() && effects.allowances.is_empty());
            prop_assert!(intent.max_fee.is_none_or(|cap| effects.max_fee <= cap));
            let slots = CHAIN.slots(&alice(), &unsigned);
            let (price, tip) = prices(&unsigned);
            prop_assert!(tip <= price);
            for earlier in &attempts {
                prop_assert_eq!(&CHAIN.slots(&alice(), earlier), &slots);
                let (old_price, old_tip) = prices(earlier);
                // geth's rule at 12.5 %, `core/txpool/legacypool/list.go`: above, and at least the threshold.
                prop_assert!(price > old_price && price * 1_000 >= old_price * 1_125);
                prop_assert!(tip > old_tip && tip * 1_000 >= old_tip * 1_125);
            }
            if cap.is_none() {
                let least = match market {
                    Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas } => (max_fee_per_gas, max_priority_fee_per_gas),
                    Fees::Legacy { gas_price } => (gas_price, gas_price),
                };
                prop_assert!(price >= least.0.wei() && tip >= least.1.wei(), "at least the market");
            }
            attempts.push(unsigned);
        }
    }
}

#[test]
fn a_speed_up_is_the_same_payment() {
    let token = EvmAddress::repeat_byte(0xcc);
    let intents = [
        transfer(Asset::Native, EvmAddress::repeat_byte(0xbb), Amount::from_wei(5)),
        transfer(Asset::Erc20(token), EvmAddress::repeat_byte(0xbb), Amount::from_wei(5)),
        call(token, [1, 2, 3, 4, 5], Amount::from_wei(9)),
    ];
    for intent in intents {
        let first = CHAIN.build(&intent, &alice(), &state()).expect("it can be built");
        let faster = CHAIN.replace(
            &intent,
            &alice(),
            std::slice::from_ref(&first),
            Replacement::SpeedUp,
            &replacing(eip1559(1, 1)),
        );
        let faster = faster.expect("it can be replaced");
        assert_eq!((faster.to(), faster.value(), faster.input()), (first.to(), first.value(), first.input()));
        assert_eq!(faster.nonce(), first.nonce());
        assert_eq!(prices(&faster), (33_750_000_000, 1_125_000_000), "12.5 % more, though the market asks for less");
    }
}

#[test]
fn a_cancel_pays_nobody_and_calls_nothing() {
    let (intent, first) = first(eip1559(100, 10));
    let state = State { gas_limit: Gas::from_units(21_000), ..replacing(eip1559(1_000, 1)) };
    let cancel = CHAIN.replace(&intent, &alice(), &[first], Replacement::Cancel, &state).expect("it can be cancelled");
    assert_eq!((cancel.from(), cancel.to()), (evm_address(&alice()), evm_address(&alice())));
    assert!(cancel.value().is_zero() && cancel.input().is_empty() && cancel.access_list().is_empty());
    assert_eq!(prices(&cancel), (1_000, 12), "the market's price, and the tip that nodes ask for");
    let effects = CHAIN.effects(&alice(), &cancel).expect("what was built");
    assert!(effects.transfers.is_empty() && effects.calls.is_empty() && effects.allowances.is_empty());
    assert_eq!(effects.touches, [alice().address().clone()]);
    assert_eq!(effects.max_fee, Amount::from_wei(21_000_000));
}

#[test]
fn the_market_gives_way_to_the_cap_and_the_bump_does_not() {
    let (mut intent, first) = first(eip1559(1_000, 100));
    let replace = |intent: &Intent| {
        let state = State { gas_limit: Gas::from_units(21_000), ..replacing(eip1559(9_000, 200)) };
        CHAIN.replace(intent, &alice(), std::slice::from_ref(&first), Replacement::SpeedUp, &state)
    };
    intent.max_fee = Some(Amount::from_wei(2_000 * 21_000 + 20_999));
    assert_eq!(replace(&intent).map(|tx| prices(&tx)), Ok((2_000, 200)));
    intent.max_fee = Some(Amount::from_wei(1_125 * 21_000));
    assert_eq!(replace(&intent).map(|tx| prices(&tx)), Ok((1_125, 200)));
    let cap = Amount::from_wei(1_125 * 21_000 - 1);
    intent.max_fee = Some(cap);
    assert_eq!(replace(&intent), Err(BuildError::FeeAboveCap { fee: Amount::from_wei(1_125 * 21_000), cap }));
}

#[test]
fn what_is_no_replacement() {
    let (intent, first) = first(eip1559(100, 10));
    let market = replacing(eip1559(1, 1));
    let refused = |previous: &[Unsigned], state: &State| {
        CHAIN.replace(&intent, &alice(), previous, Replacement::SpeedUp, state).expect_err("refused")
    };
    let other_nonce = CHAIN.build(&intent, &alice(), &State { nonce: Nonce::new(8), ..state() }).expect("built");
    let cases: [(&[Unsigned], State); 4] = [
        (&[], market.clone()),
        (&[first.clone(), other_nonce], market.clone()),
        (std::slice::from_ref(&first), state()),
        (std::slice::from_ref(&first), State { nonce: Nonce::new(8), ..market.clone() }),
    ];
    for (previous, state) in cases {
        let error = refused(previous, &state);
        assert!(matches!(error, BuildError::NotReplaceable(_)), "{error}");
    }
    let most = CHAIN.build(
        &intent,
        &alice(),
        &State { fees: eip1559(u128::MAX, 1), gas_limit: Gas::from_units(1), ..state() },
    );
    assert!(matches!(refused(&[most.expect("built")], &market), BuildError::Overflow(_)));
}

/// A node on which Alice's transactions below `mined` are mined.
async fn node(mined: u64) -> FakeNode {
    let node = FakeNode::start().await;
    node.on("eth_getTransactionCount", move |params: &Value| match params[1].as_str() {
        Some("latest") => Answer::Result(json!(format!("{mined:#x}"))),
        Some("pending") => Answer::Result(json!(format!("{:#x}", mined + 2))),
        Some("0x6") => Answer::Result(json!(format!("{:#x}", mined - 1))),
        _ => error(-32000, "missing trie node"),
    });
    node.result("eth_getBalance", json!("0xde0b6b3a7640000"));
    node.result("eth_getBlockByNumber", block(6, 1));
    node.result("eth_feeHistory", json!({ "baseFeePerGas": ["0x64"], "reward": [["0x5"]] }));
    node.result("eth_estimateGas", json!("0x5208"));
    node
}

async fn gathered(
    node: &FakeNode,
    first: &Unsigned,
    intent: &Intent,
    purpose: Replacement,
) -> Result<State, StateError> {
    let client = node.client(Options { min_priority_fee: GasPrice::from_wei(1), ..Options::default() });
    client.replacement_state(intent, &alice(), std::slice::from_ref(first), purpose, &BTreeSet::new()).await
}

#[tokio::test]
async fn the_state_is_that_of_the_best_chain_alone() {
    let node = node(7).await;
    let (intent, first) = first(eip1559(100, 10));
    let state = gathered(&node, &first, &intent, Replacement::SpeedUp).await.expect("a state");
    assert_eq!((state.nonce, state.replacing), (Nonce::new(7), Some(Replacing { bump: BUMP })));
    assert_eq!(state.gas_limit, Gas::from_units(25_200));
    for method in ["eth_getBalance", "eth_estimateGas"] {
        let asked = node.asked(method);
        assert!(asked.iter().all(|params| params[1] == json!("latest")), "{method}: {asked:?}");
    }
    CHAIN.replace(&intent, &alice(), &[first], Replacement::SpeedUp, &state).expect("it can be replaced");
}

#[tokio::test]
async fn what_waits_for_others_keeps_its_gas() {
    let node = node(5).await;
    node.error("eth_estimateGas", 3, "execution reverted");
    let (intent, first) = first(eip1559(100, 10));
    let state = gathered(&node, &first, &intent, Replacement::SpeedUp).await.expect("a state");
    assert_eq!(state.gas_limit, first.gas_limit());
    let cancel = gathered(&node, &first, &intent, Replacement::Cancel).await.expect_err("its own account reverts");
    assert!(matches!(cancel, StateError::Reverted(_)), "{cancel}");
}

#[tokio::test]
async fn what_is_mined_is_not_replaced() {
    let node = node(8).await;
    let (intent, first) = first(eip1559(100, 10));
    for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
        let refused = gathered(&node, &first, &intent, purpose).await.expect_err("mined");
        assert!(matches!(refused, StateError::Build(BuildError::NotReplaceable(_))), "{refused}");
    }
}

#[tokio::test]
async fn nonces_are_told_as_far_as_the_node_knows_them() {
    let node = node(7).await;
    let client = node.client(Options::default());
    let told = client.nonces(&alice()).await.expect("nonces");
    assert_eq!(told, Some(Nonces { latest: 7, pending: 9, finalized: Some(6) }));
    node.result("eth_getBlockByNumber", block(9, 1));
    let told = client.nonces(&alice()).await.expect("nonces");
    assert_eq!(told, Some(Nonces { latest: 7, pending: 9, finalized: None }), "an old state that is gone");
}
