//! An OTC desk, delivery versus payment: nothing is signed until both parties have approved and the fiat leg is confirmed, and
//! every signer sees to that for itself. On a simulated chain with real signers.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

use gateway::clock::{Clock as _, SystemClock};
use gateway::record::State;
use serde_json::{Value, json};
use signer::approval::Decision;
use signer::roster::Role;

#[path = "support/office.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test needs another part of it")]
mod office;

use office::{Member, Office, PAYEE, Plan, WALLET, word};

/// Ann speaks for the fund, Bob for the desk, Cleo confirms; Dora is of both parties, and Fritz is of the fund and confirms, too.
const MEMBERS: [Member; 8] = [
    ("trader", Role::Initiator, "tina", &[]),
    ("ops", Role::Operator, "otto", &[]),
    ("ann", Role::Approver, "ann", &["fund"]),
    ("bob", Role::Approver, "bob", &["desk"]),
    ("cleo", Role::Approver, "cleo", &["settlement"]),
    ("dora", Role::Approver, "dora", &["fund", "desk"]),
    ("fritz", Role::Approver, "fritz", &["fund", "settlement"]),
    ("gus", Role::Approver, "gus", &["canteen"]),
];
const SIDES: [&str; 3] = ["ann", "bob", "cleo"];

fn opening(name: &str, seconds: u64, release: &str) -> Value {
    let action = json!({ "kind": "transfer", "asset": "native", "to": PAYEE, "amount": "1000" });
    json!({
        "idempotency_key": name,
        "intent": { "wallet": WALLET, "action": action },
        "deal": {
            "party_a": "fund", "party_b": "desk", "fiat_confirmer": "settlement",
            "expires": SystemClock.unix_seconds() + seconds, "release": release,
            "fiat": { "currency": "EUR", "amount": "1250000.00", "reference": name },
        },
    })
}

async fn open(office: &Office, name: &str) -> Value {
    office.call("trader", "otc_open", opening(name, 3_600, "automatic")).await.unwrap()
}

async fn confirm(office: &Office, who: &str, deal: &Value) -> Result<Value, Value> {
    let params = json!({ "tx_id": deal["tx"]["tx_id"], "approval": word(who, deal, Decision::Approve) });
    office.call(who, "otc_confirmLeg", params).await
}

fn id(deal: &Value) -> &Value {
    &deal["tx"]["tx_id"]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_missing_side_releases_nothing_and_all_of_them_release_it() {
    let office = Plan::new(&MEMBERS).start().await;
    let mut pending = Vec::new();
    for subset in 0..7_u32 {
        let deal = open(&office, &format!("deal-{subset}")).await;
        let mut view = deal.clone();
        for (number, who) in SIDES.iter().enumerate() {
            if subset & (1 << number) != 0 {
                view = confirm(&office, who, &deal).await.unwrap();
            }
        }
        let missing = 3 - usize::try_from(subset.count_ones()).unwrap();
        assert_eq!(view["missing"].as_array().unwrap().len(), missing, "{subset:b}: {view:#}");
        assert_eq!(view["tx"]["state"], "awaiting_approval", "{subset:b}");
        pending.push(deal);
    }
    // 0b110 lacks Ann. Dora has a side already once Bob has spoken for the other; either will do.
    let last = pending.pop().unwrap();
    let view = office.call("trader", "otc_get", json!({ "tx_id": id(&last) })).await.unwrap();
    assert_eq!(view["missing"], json!(["1 of fund"]));
    assert_eq!(view["fiat_confirmed_by"][0]["approver"], "cleo");
    confirm(&office, "dora", &last).await.unwrap();
    assert_eq!(office.ended(id(&last)).await.state, State::Finalized);

    // Dora alone is one side, whichever; Fritz has one, too, and confirms nothing.
    let one = &pending[0];
    let both = json!(["1 of settlement", "1 more of fund or desk"]);
    for (who, missing) in [("dora", both), ("fritz", json!(["1 of settlement"]))] {
        let view = confirm(&office, who, one).await.unwrap();
        assert_eq!((&view["missing"], &view["tx"]["state"]), (&missing, &json!("awaiting_approval")), "{view:#}");
    }
    let stranger = confirm(&office, "gus", one).await.unwrap_err();
    assert_eq!((&stranger["data"]["kind"], &stranger["code"]), (&json!("no_part_in_deal"), &json!(-33207)));
    for deal in &pending {
        assert_eq!(office.tx(id(deal)).await.state, State::AwaitingApproval);
    }
    let open = office.call("bob", "otc_list", json!({ "state": "awaiting_approval" })).await.unwrap();
    assert_eq!(open.as_array().unwrap().len(), pending.len());

    // The key names the terms as well as the payment.
    let other = office.call("trader", "otc_open", opening("deal-0", 7_200, "automatic")).await.unwrap_err();
    assert_eq!(other["data"]["kind"], "idempotency_conflict");
    let mut plain = opening("deal-0", 3_600, "automatic");
    plain.as_object_mut().unwrap().remove("deal");
    let plain = office.call("trader", "tx_submit", plain).await.unwrap_err();
    assert_eq!(plain["data"]["kind"], "idempotency_conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_time_and_an_abort_release_nothing_whoever_approves_later() {
    let office = Plan::new(&MEMBERS).start().await;
    // The gateway stops five seconds before the signers do.
    let late = office.call("trader", "otc_open", opening("late", 20, "automatic")).await.unwrap();
    for who in ["ann", "bob"] {
        confirm(&office, who, &late).await.unwrap();
    }
    let view = office.ended(id(&late)).await;
    assert_eq!((view.state, view.reason.unwrap().kind.as_str()), (State::Expired, "deal_expired"));
    let refused = confirm(&office, "cleo", &late).await.unwrap_err();
    assert_eq!(refused["data"]["kind"], "not_awaiting_approval");
    assert!(office.tx(id(&late)).await.attempts.is_empty());

    // A party's word ends it; a stranger's, and somebody else's signature, don't.
    let deal = open(&office, "aborted").await;
    confirm(&office, "ann", &deal).await.unwrap();
    let abort = |who: &str, decision| json!({ "tx_id": id(&deal), "approval": word(who, &deal, decision) });
    let yes = office.call("bob", "otc_abort", abort("bob", Decision::Approve)).await.unwrap_err();
    assert_eq!(yes["data"]["kind"], "invalid_approval");
    for who in ["gus", "cleo"] {
        let stranger = office.call(who, "otc_abort", abort(who, Decision::Reject)).await.unwrap_err();
        assert_eq!(stranger["data"]["kind"], "no_part_in_deal", "{who}");
    }
    let over = office.call("bob", "otc_abort", abort("bob", Decision::Reject)).await.unwrap();
    assert_eq!((&over["tx"]["state"], &over["tx"]["exposure"]), (&json!("rejected"), &json!("none")));
    for who in SIDES {
        assert!(confirm(&office, who, &deal).await.is_err());
    }

    // The desk's own, and an operator's.
    for who in ["trader", "ops"] {
        let deal = open(&office, &format!("by-{who}")).await;
        let nobody = office.call("ann", "otc_abort", json!({ "tx_id": id(&deal) })).await.unwrap_err();
        assert_eq!(nobody["data"]["kind"], "forbidden");
        let over = office.call(who, "otc_abort", json!({ "tx_id": id(&deal) })).await.unwrap();
        assert_eq!(over["tx"]["state"], "cancelled");
        assert!(confirm(&office, "ann", &deal).await.is_err());
    }

    // Terms that can't be meant are refused, and nothing is stored for them.
    for (place, value) in [
        ("/deal/expires", json!(SystemClock.unix_seconds() - 1)),
        ("/deal/expires", json!(SystemClock.unix_seconds() + 32 * 86_400)),
        ("/deal/party_a", json!("nobody")),
        ("/deal/party_a", json!("desk")),
    ] {
        let mut params = opening("wrong", 3_600, "automatic");
        *params.pointer_mut(place).unwrap() = value;
        let refused = office.call("trader", "otc_open", params).await.unwrap_err();
        assert_eq!(refused["code"], -32602, "{refused:#}");
    }
    let plain = json!({
        "idempotency_key": "plain",
        "intent": opening("plain", 1, "automatic")["intent"],
    });
    let paid = office.call("trader", "tx_submit", plain).await.unwrap();
    let no_deal = office.call("trader", "otc_get", json!({ "tx_id": paid["tx_id"] })).await.unwrap_err();
    assert_eq!(no_deal["data"]["kind"], "not_a_deal");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_desks_go_is_the_last_word_and_the_command_line_reads_the_terms() {
    let rule = json!({ "id": "payee", "wallets": [WALLET], "addresses": [PAYEE] });
    let policy = json!({ "deals_only": [WALLET], "rules": [rule] });
    let office = Plan { policy, ..Plan::new(&MEMBERS) }.start().await;
    let mut plain = opening("plain", 3_600, "manual");
    plain.as_object_mut().unwrap().remove("deal");
    let asked = office.call("trader", "policy_evaluate", json!({ "intent": plain["intent"].clone() })).await.unwrap();
    assert_eq!(asked["trace"]["verdict"]["reason"]["kind"], "no_deal");
    assert_eq!(asked["trace"]["nearest"]["changes"], json!([{ "input": "deal", "wanted": { "kind": "deal" } }]));
    let plain = office.call("trader", "tx_submit", plain).await.unwrap_err();
    assert_eq!((&plain["data"]["kind"], &plain["code"]), (&json!("no_deal"), &json!(-33201)));
    let open = ["otc", "open", WALLET, PAYEE, "1000", "--party-a", "fund", "--party-b", "desk", "--fiat-confirmer"];
    let open =
        [&open[..], &["settlement", "--currency", "EUR", "--fiat-amount", "1250000.00", "--fiat-reference"]].concat();
    let open = [&open[..], &["deal 17", "--manual-release", "--idempotency-key", "by-hand"]].concat();
    let (told, done) = office.type_in("trader", &open, "").await;
    assert!(done && told.contains("waits for   1 of fund, 1 of desk, 1 of settlement"), "{told}");
    let record = office.call("trader", "tx_getByKey", json!({ "idempotency_key": "by-hand" })).await.unwrap();
    let name = record["tx_id"].as_str().unwrap();
    let deal = office.call("trader", "otc_get", json!({ "tx_id": name })).await.unwrap();

    let (shown, done) = office.type_in("ann", &["approve", "show", name], "").await;
    let terms = ["against    EUR 1250000.00, reference \"deal 17\"", "once one of fund and one of desk", "explicit go"];
    assert!(done && terms.iter().all(|term| shown.contains(term)), "{shown}");
    let (told, done) = office.type_in("ann", &["otc", "confirm", name], "n\n").await;
    assert!(!done && told.contains("nothing was signed"), "{told}");
    for who in ["ann", "bob"] {
        let (told, done) = office.type_in(who, &["otc", "confirm", name, "--yes"], "").await;
        assert!(done, "{told}");
    }
    let digest = deal["request_digest"].clone();
    let early = office.call("trader", "otc_release", json!({ "tx_id": name, "request": digest })).await.unwrap_err();
    assert_eq!((&early["data"]["kind"], &early["code"]), (&json!("deal_incomplete"), &json!(-33208)));
    let (told, done) = office.type_in("cleo", &["otc", "confirm", name, "--yes"], "").await;
    assert!(done && told.contains("waits for   release"), "{told}");
    let other = office.call("trader", "otc_release", json!({ "tx_id": name, "request": "00".repeat(32) })).await;
    assert_eq!(other.unwrap_err()["code"], -32602);
    assert_eq!(office.tx(&deal["tx"]["tx_id"]).await.state, State::AwaitingApproval);
    let (told, done) = office.type_in("trader", &["otc", "release", name], "").await;
    assert!(done, "{told}");
    assert_eq!(office.ended(&deal["tx"]["tx_id"]).await.state, State::Finalized);
    let (told, done) = office.type_in("ops", &["otc", "list"], "").await;
    assert!(done && told.contains(name) && told.contains("finalized"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_pretends_the_fiat_leg_is_confirmed_gets_no_signature() {
    let mut taken_over = MEMBERS.to_vec();
    // The gateway's roster says that the canteen confirms. The signers' doesn't.
    taken_over[7] = ("gus", Role::Approver, "gus", &["settlement"]);
    let office = Plan { gateway_members: Some(taken_over), ..Plan::new(&MEMBERS) }.start().await;
    let deal = open(&office, "pretended").await;
    for who in ["ann", "bob", "gus"] {
        confirm(&office, who, &deal).await.unwrap();
    }
    let view = office.ended(id(&deal)).await;
    assert_eq!((view.state, view.reason.unwrap().kind.as_str()), (State::Quarantined, "signers_refused"));
    assert!(view.attempts.iter().all(|attempt| attempt.chain_tx_id.is_none()));
}
