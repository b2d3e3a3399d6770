//! Payments that wait, on all three simulated chains with blocks by hand: sped up, cancelled in time, cancelled too late. The
//! gateway, its signers and its store are real; only the cable to the nodes can be pulled out.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "replace/house.rs"]
mod house;

use std::time::Duration;

use chains::network::Family;
use gateway::api::view::TxView;
use gateway::pipeline::replace::{Ask, FeePolicy, ReplaceError};
use gateway::record::{Exposure, Purpose, State};
use serde_json::{Value, json};

use crate::house::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_waits_is_sped_up_and_paid_once() {
    let house = House::start(NEVER, LONG).await;
    house.open_nonce().await;
    for family in FAMILIES {
        let before = house.received(family).await;
        let payment = house.pay("sped-up", family).await;
        house.sent(&payment).await;
        let faster = house.act("tx_speedUp", &payment).await;
        assert_eq!(faster.attempts.len(), 2, "{faster:#?}");
        assert_eq!((faster.attempts[1].purpose, faster.exposure), (Purpose::SpeedUp, Exposure::Possible));
        assert!(faster.attempts[1].sent_at.is_some() && faster.attempts[1].chain_tx_id.is_some(), "{faster:#?}");
        // Whoever isn't sure that the answer came may ask again without paying for one more.
        let again = json!({ "tx_id": payment.tx_id, "attempt": 1 });
        let again = house.call("trader", "tx_speedUp", again).await.unwrap();
        assert_eq!(again["attempts"].as_array().unwrap().len(), 2, "{again}");

        let end = house.ended(family, &payment).await;
        assert_eq!((end.state, end.exposure), (State::Finalized, Exposure::Certain), "{end:#?}");
        let included: Vec<u32> =
            end.attempts.iter().filter(|attempt| attempt.inclusion.is_some()).map(|attempt| attempt.number).collect();
        assert_eq!(included.len(), 1, "{end:#?}");
        if family != Family::Solana {
            assert_eq!(included, [2], "the node's mempool has room for one of them: {end:#?}");
        }
        assert_eq!(house.received(family).await, before + PAID, "{family:?}");
        let late = house.call("trader", "tx_speedUp", json!({ "tx_id": payment.tx_id })).await.unwrap_err();
        assert_eq!(late["data"]["kind"], "already_included", "{late}");
        assert_eq!(late["data"]["exposure"], "certain", "{late}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_wins_keeps_the_payment_off_the_chain() {
    let house = House::start(NEVER, LONG).await;
    house.open_nonce().await;
    for family in FAMILIES {
        let before = house.received(family).await;
        // On Solana whatever comes first wins, so there the payment gets lost on its way.
        let first = if family == Family::Solana { LOST } else { WHOLE };
        house.cable(family).set(first);
        let payment = house.pay("cancelled", family).await;
        house.sent(&payment).await;
        let cancelling = house.act("tx_cancel", &payment).await;
        // From here on the cancelling transaction is the one that goes out again.
        house.cable(family).set(WHOLE);
        assert!(cancelling.cancelling, "{cancelling:#?}");
        assert_eq!((cancelling.attempts.len(), cancelling.exposure), (2, Exposure::Possible), "{cancelling:#?}");
        assert_eq!(cancelling.attempts[1].purpose, Purpose::Cancel);

        // In a block it has not won yet: a reorg may let the payment in.
        let wait = async {
            let mut looks = 0_u32;
            loop {
                if looks.is_multiple_of(50) {
                    house.mine(family, 1).await; // no more than it takes: many make it final before anybody has looked
                }
                looks += 1;
                let view = house.act("tx_get", &payment).await;
                if matches!(view.state, State::Included | State::Confirmed) {
                    return view;
                }
                assert!(!view.state.is_terminal(), "{view:#?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let included = tokio::time::timeout(PATIENCE, wait).await.unwrap();
        assert_eq!(included.exposure, Exposure::Possible, "{included:#?}");
        let end = house.ended(family, &payment).await;
        assert_eq!((end.state, end.exposure), (State::Cancelled, Exposure::None), "{end:#?}");
        assert_eq!(house.received(family).await, before, "{family:?}");
        // Asking again changes nothing.
        let again = house.act("tx_cancel", &payment).await;
        assert_eq!((again.state, again.attempts.len()), (State::Cancelled, 2), "{again:#?}");
        // The slot is used up, and the next payment goes on behind it.
        let next = house.pay("after", family).await;
        house.sent(&next).await;
        assert_eq!(house.ended(family, &next).await.state, State::Finalized);
        assert_eq!(house.received(family).await, before + PAID, "{family:?}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_loses_ends_with_the_payment() {
    let house = House::start(NEVER, LONG).await;
    house.open_nonce().await;
    for family in FAMILIES {
        let (before, sent) = (house.received(family).await, house.cable(family).taken());
        let payment = house.pay("too-late", family).await;
        house.sent(&payment).await;
        house.until(&payment, "on its way", |_| house.cable(family).taken() > sent).await;
        house.cable(family).set(CUT);
        let cancelling = house.act("tx_cancel", &payment).await;
        assert_eq!((cancelling.attempts.len(), cancelling.exposure), (2, Exposure::Possible), "{cancelling:#?}");
        let end = house.ended(family, &payment).await;
        assert_eq!((end.state, end.exposure), (State::Finalized, Exposure::Certain), "{end:#?}");
        assert_eq!(house.received(family).await, before + PAID, "{family:?}");
        let late = house.call("trader", "tx_cancel", json!({ "tx_id": payment.tx_id })).await.unwrap_err();
        assert_eq!(late["data"]["kind"], "already_included", "{late}");
        house.cable(family).set(WHOLE);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_stuck_is_raised_and_hurried_on_within_its_cap() {
    let fees = FeePolicy { bump_after: Some(Duration::from_millis(300)), bump_limit: 2 };
    let house = House::start(fees, Duration::from_millis(600)).await;
    let payment = house.pay("stuck", Family::Ethereum).await;
    let bumped = house.until(&payment, "bumped twice", |view| view.attempts.len() == 3).await;
    assert!(bumped.attempts[1..].iter().all(|attempt| attempt.purpose == Purpose::SpeedUp), "{bumped:#?}");
    let raised = |alerts: &Value| alerts.as_array().unwrap().iter().any(|alert| alert["kind"] == "stuck");
    let wait = async {
        while !raised(&house.call("eyes", "gw_alerts", json!({})).await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    let end = house.ended(Family::Ethereum, &payment).await;
    assert_eq!((end.state, end.attempts.len()), (State::Finalized, 3), "the limit holds: {end:#?}");
    assert_eq!(house.received(Family::Ethereum).await, PAID);
    let alerts = house.call("eyes", "gw_alerts", json!({})).await.unwrap();
    assert!(!raised(&alerts), "{alerts}");
    let nonces = house.call("eyes", "wallet_nonces", json!({ "wallet": "eth" })).await.unwrap();
    assert_eq!((&nonces["held"], &nonces["findings"]), (&json!([0, 0]), &json!([])), "{nonces}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_initiator_or_an_operator_steers_a_payment() {
    let house = House::start(NEVER, LONG).await;
    let payment = house.pay("steered", Family::Ethereum).await;
    house.sent(&payment).await;
    let named = json!({ "tx_id": payment.tx_id });
    for method in ["tx_speedUp", "tx_cancel"] {
        for (who, kind) in [("other", "unknown_record"), ("eyes", "forbidden")] {
            let error = house.call(who, method, named.clone()).await.unwrap_err();
            assert_eq!(error["data"]["kind"], kind, "{who} {method}: {error}");
        }
        let error = house.call("trader", method, json!({ "tx_id": uuid::Uuid::nil() })).await.unwrap_err();
        assert_eq!(error["data"]["kind"], "unknown_record", "{error}");
    }
    // An operator's request is evidence enough for the signers.
    let cancelled = house.call("ops", "tx_cancel", named.clone()).await.unwrap();
    assert_eq!(cancelled["attempts"][1]["purpose"], "cancel", "{cancelled}");
    let end = house.ended(Family::Ethereum, &payment).await;
    assert_eq!(end.state, State::Cancelled, "{end:#?}");
    let error = house.call("ops", "tx_speedUp", named).await.unwrap_err();
    assert_eq!(error["data"]["kind"], "already_included", "{error}");
    // On Solana without a durable nonce there is nothing to take a payment's place by.
    house.cable(Family::Solana).set(LOST);
    let lost = house.pay("lost", Family::Solana).await;
    house.sent(&lost).await;
    let error = house.call("trader", "tx_speedUp", json!({ "tx_id": lost.tx_id })).await.unwrap_err();
    assert_eq!(error["data"]["kind"], "not_replaceable", "{error}");
    assert_eq!(error["data"]["exposure"], "possible", "{error}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_lets_go_of_another_brings_to_its_end() {
    let house = House::start(NEVER, LONG).await;
    let payment = house.pay("handed-over", Family::Ethereum).await;
    house.sent(&payment).await;
    // While the first one holds it, the second leaves it alone, and says so.
    let second = house.another("second").await;
    let refused = second.replace(payment.tx_id, Ask::SpeedUp { slow: None }).await.unwrap_err();
    assert!(matches!(refused, ReplaceError::HeldElsewhere), "{refused}");
    house.pipeline.stop().await;
    let faster = second.replace(payment.tx_id, Ask::SpeedUp { slow: None }).await.unwrap();
    assert_eq!(faster.attempts.len(), 2, "{faster:#?}");
    let end = house.ended(Family::Ethereum, &payment).await;
    assert_eq!((end.state, end.exposure), (State::Finalized, Exposure::Certain), "{end:#?}");
    assert_eq!(house.received(Family::Ethereum).await, PAID);
    second.stop().await;
    house.close().await;
}

/// The store of a gateway is an old copy, or somebody else has the key: a nonce is used up that no record knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_whose_key_is_used_elsewhere_is_frozen_until_an_operator_lifts_it() {
    let house = House::start(NEVER, LONG).await;
    let payment = house.pay("known", Family::Ethereum).await;
    assert_eq!(house.ended(Family::Ethereum, &payment).await.state, State::Finalized);

    let dir = tempfile::tempdir().unwrap();
    let elsewhere = gateway(&house.shared, dir.path(), "elsewhere").await;
    let listening = house.shared.serve(&elsewhere).await;
    let action = json!({ "kind": "transfer", "asset": "native", "to": payee(Family::Ethereum), "amount": "1" });
    let params = json!({ "idempotency_key": "unknown", "intent": { "wallet": "eth", "action": action } });
    let foreign = house.call_at(listening.addr, "trader", "tx_submit", params).await.unwrap();
    let named = json!({ "tx_id": foreign["tx_id"] });
    let wait = async {
        while house.call_at(listening.addr, "trader", "tx_get", named.clone()).await.unwrap()["state"] != "finalized" {
            house.mine(Family::Ethereum, 1).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    listening.stop().await;
    elsewhere.stop().await;

    // A gateway looks at the nonces when it starts.
    let second = house.another("second").await;
    house.until_frozen("eth", Some("gateway")).await;
    second.stop().await;
    let held = house.pay("held", Family::Ethereum).await;
    let held = house.until(&held, "held back", |view| kind(view) == Some("wallet_frozen")).await;
    assert_eq!((held.state, held.exposure, held.attempts.len()), (State::Queued, Exposure::None, 0), "{held:#?}");

    let named = json!({ "wallet": "eth" });
    let refused = house.call("trader", "wallet_unfreeze", named.clone()).await.unwrap_err();
    assert_eq!(refused["data"]["kind"], "forbidden", "{refused}");
    house.call("ops", "wallet_unfreeze", named.clone()).await.unwrap();
    assert_eq!(house.ended(Family::Ethereum, &held).await.state, State::Finalized);
    // Whoever lifted it knows of that nonce: it freezes nothing again.
    let third = house.another("third").await;
    let account = third.accounts().find(|account| account.wallet().to_string() == "eth").unwrap();
    assert!(!third.nonces(account).await.unwrap().findings.is_empty());
    house.until_frozen("eth", None).await;
    third.stop().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_wallet_has_nothing_signed_but_cancellations() {
    let house = House::start(NEVER, LONG).await;
    let payment = house.pay("under-way", Family::Ethereum).await;
    house.sent(&payment).await;
    for (who, params, refusal) in [
        ("trader", json!({ "wallet": "eth", "reason": "lunch" }), "forbidden"),
        ("ops", json!({ "wallet": "eth", "reason": "" }), "invalid_params"),
        ("ops", json!({ "wallet": "nobody", "reason": "lunch" }), "unknown_wallet"),
    ] {
        let refused = house.call(who, "wallet_freeze", params).await.unwrap_err();
        assert_eq!(refused["data"]["kind"], refusal, "{refused}");
    }
    let frozen = house.call("ops", "wallet_freeze", json!({ "wallet": "eth", "reason": "an incident" })).await.unwrap();
    assert_eq!((&frozen["frozen"]["by"], &frozen["frozen"]["reason"]), (&json!("ops"), &json!("an incident")));
    house.until_frozen("eth", Some("ops")).await;
    let refused = house.call("trader", "tx_speedUp", json!({ "tx_id": payment.tx_id })).await.unwrap_err();
    assert_eq!(refused["data"]["kind"], "wallet_frozen", "{refused}");
    let cancelling = house.act("tx_cancel", &payment).await;
    assert_eq!(cancelling.attempts[1].purpose, Purpose::Cancel, "{cancelling:#?}");
    assert_eq!(house.ended(Family::Ethereum, &payment).await.state, State::Cancelled);
    // Other wallets go on.
    let other = house.pay("other", Family::Bitcoin).await;
    assert_eq!(house.ended(Family::Bitcoin, &other).await.state, State::Finalized);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_payment_is_accelerated_by_a_child_that_pays_for_both() {
    let house = House::start(NEVER, LONG).await;
    let parent = house.pay("parent", Family::Bitcoin).await;
    let parent = house.until(&parent, "in the mempool", |view| view.state == State::InMempool).await;
    let id = parent.attempts[0].chain_tx_id.clone().unwrap();
    // Room gets dear: the parent alone would wait.
    let spike = json!([{ "fault": { "kind": "fee_spike", "rate": 50_000 }, "scope": { "on": "node", "nodes": [0] } }]);
    let spike: Value = house.node(Family::Bitcoin).call("sim_addFault", spike).await.unwrap();
    let child = house.submit("child", "btc", json!({ "kind": "accelerate", "parent": id })).await;
    let child = house.until(&child, "in the mempool", |view| view.state == State::InMempool).await;
    let pays = |id: &str| {
        let (node, id) = (house.node(Family::Bitcoin), id.to_owned());
        async move {
            let entry: Value = node.call("getmempoolentry", json!([id])).await.unwrap();
            let fee = format!("{:.8}", entry["fees"]["base"].as_f64().unwrap());
            let fee = bitcoin::Amount::from_str_in(&fee, bitcoin::Denomination::Bitcoin).unwrap().to_sat();
            (fee, entry["vsize"].as_u64().unwrap())
        }
    };
    let (before, size) = pays(&id).await;
    let (fee, child_size) = pays(child.attempts[0].chain_tx_id.as_ref().unwrap()).await;
    assert!((before + fee) * size > before * (size + child_size), "the package pays more for a byte than the parent");
    let _: Value = house.node(Family::Bitcoin).call("sim_removeFault", json!([spike])).await.unwrap();
    for view in [&child, &parent] {
        assert_eq!(house.ended(Family::Bitcoin, view).await.state, State::Finalized);
    }
    assert_eq!(house.received(Family::Bitcoin).await, PAID);
    house.close().await;
}

fn kind(view: &TxView) -> Option<&str> {
    view.reason.as_ref().map(|reason| reason.kind.as_str())
}
