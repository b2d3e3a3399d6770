//! What compliance sees to: overrides of the screening, payments that are screened again when a list changes, and the data that
//! the Travel Rule wants; and approvers who act for others. On a simulated chain with real signers.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

use gateway::clock::{Clock as _, SystemClock};
use gateway::record::State;
use gateway::screening::waiver::{PAYLOAD_TYPE, WaiverId, Word};
use serde_json::{Value, json};
use signer::approval::{Approval, Decision};
use signer::roster::Role;

#[path = "support/office.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test needs another part of it")]
mod office;

use office::{LISTED, Member, Office, PAYEE, Plan, WALLET, key, word};

const MEMBERS: [Member; 7] = [
    ("trader", Role::Initiator, "tina", &[]),
    ("ops", Role::Operator, "otto", &[]),
    ("otto", Role::Approver, "otto", &["compliance"]),
    ("carla", Role::Approver, "carla", &["compliance"]),
    ("chris", Role::Approver, "chris", &["compliance"]),
    ("fay", Role::Approver, "fay", &["finance"]),
    ("ada", Role::Auditor, "ada", &[]),
];
const DENIED: &str = "0x098B716B8Aaf21512996dC57EB0615e2383E2f96";

fn payment(name: &str, to: &str) -> Value {
    let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": "1000" });
    json!({ "idempotency_key": name, "intent": { "wallet": WALLET, "action": action } })
}

fn policy(require: Option<&str>) -> Value {
    let rule = json!({ "id": "payee", "wallets": [WALLET], "addresses": [PAYEE, LISTED, DENIED], "require": require });
    json!({ "denied_addresses": [DENIED], "rules": [rule] })
}

async fn propose(office: &Office, address: &str, seconds: u64) -> Result<Value, Value> {
    let expires = SystemClock.unix_seconds() + seconds;
    let params = json!({ "address": address, "network": "ethereum:31337", "reason": "a namesake", "expires": expires });
    office.call("ops", "screen_override", params).await
}

async fn decide(office: &Office, who: &str, waiver: &Value, decision: Decision) -> Result<Value, Value> {
    let waiver: WaiverId = serde_json::from_value(waiver["override"].clone()).unwrap();
    let payload = Word { decision, waiver }.to_payload();
    let approval = Approval::sign_payload(who.parse().unwrap(), PAYLOAD_TYPE, payload, &key(who));
    office.call(who, "screen_approveOverride", json!({ "override": waiver, "approval": approval })).await
}

fn kind(error: &Value) -> &str {
    error["data"]["kind"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_overrides_a_list_for_a_time_and_never_the_policy() {
    let screening = json!({ "override_require": "2 of compliance" });
    let office = Plan { policy: policy(None), screening, ..Plan::new(&MEMBERS) }.start().await;
    let blocked = office.call("trader", "tx_submit", payment("listed", LISTED)).await.unwrap_err();
    assert_eq!(kind(&blocked), "listed_address");

    // An operator asks, for what isn't the policy's own, and for a time.
    for (who, address, seconds, expected) in [
        ("ops", DENIED, 60, "override_impossible"),
        ("ops", "0x12", 60, "invalid_address"),
        ("ops", LISTED, 91 * 86_400, "invalid_params"),
    ] {
        assert_eq!(kind(&propose(&office, address, seconds).await.unwrap_err()), expected, "{who} {address}");
    }
    let params = json!({ "address": LISTED, "network": "ethereum:31337", "reason": "x", "expires": u32::MAX });
    assert_eq!(kind(&office.call("carla", "screen_override", params).await.unwrap_err()), "forbidden");
    let waiver = propose(&office, LISTED, 3_600).await.unwrap();
    assert_eq!((&waiver["state"], &waiver["missing"]), (&json!("proposed"), &json!(2)));

    // Who asked doesn't approve under another name; who isn't of compliance doesn't help.
    assert_eq!(kind(&decide(&office, "otto", &waiver, Decision::Approve).await.unwrap_err()), "invalid_approval");
    let asks = decide(&office, "fay", &waiver, Decision::Approve).await.unwrap();
    assert_eq!(asks["missing"], 2);
    let first = decide(&office, "carla", &waiver, Decision::Approve).await.unwrap();
    assert_eq!((&first["state"], &first["missing"]), (&json!("proposed"), &json!(1)));
    let blocked = office.call("trader", "tx_submit", payment("listed", LISTED)).await.unwrap_err();
    assert_eq!(kind(&blocked), "listed_address");
    let name = waiver["override"].as_str().unwrap();
    let (shown, done) = office.type_in("chris", &["approve", "override", name], "y\n").await;
    assert!(done && shown.contains(&format!("clears     {LISTED}")) && shown.contains("Standing"), "{shown}");

    // It clears the address in any spelling, the record says so, and what the policy denies stays denied.
    let paid = office.call("trader", "tx_submit", payment("cleared", &LISTED.to_lowercase())).await.unwrap();
    assert_eq!(office.ended(&paid["tx_id"]).await.state, State::Finalized);
    let record = office.call("trader", "tx_get", json!({ "tx_id": paid["tx_id"] })).await.unwrap();
    let told =
        record["history"].as_array().unwrap().iter().find_map(|step| step.pointer("/detail/clearance/overrides/0"));
    let told = told.unwrap();
    assert_eq!((&told["override"], &told["source"]), (&waiver["override"], &json!("house")), "{record:#}");
    let denied = office.call("trader", "tx_submit", payment("denied", DENIED)).await.unwrap_err();
    assert_eq!(kind(&denied), "denied_address");

    // A rejection ends it for good, and an approval after it doesn't bring it back.
    let over = decide(&office, "carla", &waiver, Decision::Reject).await.unwrap();
    assert_eq!(over["state"], "rejected");
    assert_eq!(kind(&decide(&office, "carla", &waiver, Decision::Approve).await.unwrap_err()), "override_impossible");
    let blocked = office.call("trader", "tx_submit", payment("again", LISTED)).await.unwrap_err();
    assert_eq!(kind(&blocked), "listed_address");
    let all = office.call("fay", "screen_overrides", json!({})).await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);

    // What the store kept is what counts after a restart.
    office.pipeline().screening().set_waivers(Vec::new());
    let other = propose(&office, LISTED, 7_200).await.unwrap(); // a proposal that differs from the rejected one
    assert_eq!(other["state"], "proposed");
    let all = office.call("fay", "screen_overrides", json!({})).await.unwrap();
    let states: Vec<&Value> = all.as_array().unwrap().iter().map(|waiver| &waiver["state"]).collect();
    assert!(states.contains(&&json!("rejected")) && states.contains(&&json!("proposed")), "{all:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_list_changes_what_is_parked_is_blocked_at_once() {
    let office = Plan { policy: policy(Some("1 of finance")), ..Plan::new(&MEMBERS) }.start().await;
    let off = propose(&office, LISTED, 60).await.unwrap_err();
    assert_eq!(kind(&off), "override_impossible", "no quorum is configured");
    let parked = office.call("trader", "tx_submit", payment("parked", PAYEE)).await.unwrap();
    assert_eq!(parked["state"], "awaiting_approval");
    std::fs::write(office.list(), format!("{LISTED}\n")).unwrap(); // written anew, and the same
    let same = office.call("ops", "screen_reload", json!({})).await.unwrap();
    assert_eq!(same["changed"], json!([]));
    assert_eq!(office.tx(&parked["tx_id"]).await.state, State::AwaitingApproval);

    std::fs::write(office.list(), format!("{LISTED}\n{}\n", PAYEE.to_lowercase())).unwrap();
    let changed = office.call("ops", "screen_reload", json!({})).await.unwrap();
    assert_eq!(changed["changed"], json!(["house"]));
    // Nobody has approved it, and nobody is asked any more.
    let view = office.tx(&parked["tx_id"]).await;
    assert_eq!((view.state, view.reason.unwrap().kind.as_str()), (State::Blocked, "listed_address"));
    assert!(view.attempts.is_empty());
    let asked = office.call("trader", "approval_get", json!({ "tx_id": parked["tx_id"] })).await.unwrap();
    let late = json!({ "tx_id": parked["tx_id"], "approval": word("fay", &asked, Decision::Approve) });
    assert_eq!(kind(&office.call("fay", "approval_submit", late).await.unwrap_err()), "not_awaiting_approval");
}

/// A natural person pays a company, in IVMS101.
fn ivms101(account: &str) -> Value {
    let name = json!({ "primaryIdentifier": "Trader", "secondaryIdentifier": "Tina", "nameIdentifierType": "LEGL" });
    let company = json!({ "legalPersonName": "ABC Limited", "legalPersonNameIdentifierType": "LEGL" });
    json!({
        "originator": {
            "originatorPersons": [{ "naturalPerson": {
                "name": { "nameIdentifier": [name] }, "customerIdentification": "17",
            } }],
        },
        "beneficiary": {
            "beneficiaryPersons": [{ "legalPerson": { "name": { "nameIdentifier": [company] } } }],
            "accountNumber": [account],
        },
    })
}

fn travel(above: &str, exempt: &[&str]) -> Value {
    let threshold = json!({ "network": "ethereum:31337", "asset": "native", "above": above });
    json!({ "thresholds": [threshold], "exempt": exempt })
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_threshold_a_payment_waits_for_data_that_names_its_receiver() {
    let office = Plan { policy: policy(None), travel: travel("999", &[]), ..Plan::new(&MEMBERS) }.start().await;
    let held = office.call("trader", "tx_submit", payment("held", PAYEE)).await.unwrap();
    assert_eq!((&held["state"], &held["reason"]["kind"]), (&json!("awaiting_approval"), &json!("travel_data_missing")));
    let id = &held["tx_id"];
    let status = office.call("trader", "travel_status", json!({ "key": "held" })).await.unwrap();
    assert_eq!((&status["missing"], &status["demand"]["to"]), (&json!(true), &json!([PAYEE])), "{status:#}");

    let attach = |data: Value| json!({ "tx_id": id, "ivms101": data });
    let wrong = office.call("trader", "travel_attach", attach(ivms101(LISTED))).await.unwrap_err();
    assert_eq!((kind(&wrong), &wrong["code"]), ("invalid_ivms101", &json!(-33308)));
    let mut nameless = ivms101(PAYEE);
    nameless["originator"]["originatorPersons"][0]["naturalPerson"]["name"]["nameIdentifier"] = json!([]);
    let wrong = office.call("trader", "travel_attach", attach(nameless)).await.unwrap_err();
    assert!(wrong["message"].as_str().unwrap().starts_with("originator.originatorPersons[0]: C6"), "{wrong:#}");
    let nobody = office.call("fay", "travel_attach", attach(ivms101(PAYEE))).await.unwrap_err();
    assert_eq!(kind(&nobody), "forbidden");
    assert_eq!(office.tx(id).await.state, State::AwaitingApproval);

    // The receiver in another spelling is the receiver.
    let given = office.call("trader", "travel_attach", attach(ivms101(&PAYEE.to_lowercase()))).await.unwrap();
    assert_eq!((&given["missing"], &given["ivms101"]), (&json!(false), &Value::Null));
    let paid = office.ended(id).await;
    assert_eq!((paid.state, paid.reason), (State::Finalized, None));
    let told = paid.history.iter().find_map(|step| step.detail.as_ref()?.get("travel_digest").cloned()).unwrap();
    assert_eq!(told, given["digest"], "the record has the digest");
    let shown = office.call("ada", "travel_status", json!({ "tx_id": id })).await.unwrap();
    assert_eq!(shown["ivms101"], ivms101(&PAYEE.to_lowercase()), "an auditor sees the data");
    for who in ["ops", "trader", "fay"] {
        let shown = office.call(who, "travel_status", json!({ "tx_id": id })).await.unwrap();
        assert_eq!((&shown["ivms101"], &shown["digest"]), (&Value::Null, &told), "{who}");
    }
    let late = office.call("trader", "travel_attach", attach(ivms101(PAYEE))).await.unwrap_err();
    assert_eq!(kind(&late), "not_awaiting_approval");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exempt_and_small_amounts_need_no_data_and_people_are_waited_for_besides() {
    let plan = Plan { policy: policy(Some("1 of finance")), travel: travel("999", &[]), ..Plan::new(&MEMBERS) };
    let office = plan.start().await;
    let held = office.call("trader", "tx_submit", payment("held", PAYEE)).await.unwrap();
    let id = &held["tx_id"];
    let asked = office.call("fay", "approval_get", json!({ "tx_id": id })).await.unwrap();
    assert_eq!((&asked["travel_missing"], &asked["quorums"][0]["missing"]), (&json!(true), &json!(1)));
    let yes = json!({ "tx_id": id, "approval": word("fay", &asked, Decision::Approve) });
    let approved = office.call("fay", "approval_submit", yes).await.unwrap();
    assert_eq!(
        (&approved["tx"]["state"], &approved["quorums"][0]["missing"]),
        (&json!("awaiting_approval"), &json!(0))
    );
    office.call("ops", "travel_attach", json!({ "tx_id": id, "ivms101": ivms101(PAYEE) })).await.unwrap();
    assert_eq!(office.ended(id).await.state, State::Finalized);

    let mut small = payment("small", PAYEE);
    small["intent"]["action"]["amount"] = json!("999");
    let small = office.call("trader", "tx_submit", small).await.unwrap();
    assert_eq!(small["reason"], Value::Null);
    let status = office.call("trader", "travel_status", json!({ "key": "small" })).await.unwrap();
    assert_eq!((&status["demand"], &status["missing"]), (&Value::Null, &json!(false)));
    let unwanted = json!({ "key": "small", "ivms101": ivms101(PAYEE) });
    assert_eq!(kind(&office.call("trader", "travel_attach", unwanted).await.unwrap_err()), "travel_not_wanted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_to_the_exempt_goes_on_at_once_and_one_without_data_expires() {
    let exempt = PAYEE.to_lowercase();
    let screening = json!({ "override_require": "1 of compliance" });
    let approvals = gateway::config::ApprovalsConfig { expire_hours: 0 };
    let travel = travel("999", &[exempt.as_str()]);
    let plan = Plan { policy: policy(None), screening, approvals, travel, ..Plan::new(&MEMBERS) };
    let office = plan.start().await;
    let paid = office.call("trader", "tx_submit", payment("exempt", PAYEE)).await.unwrap();
    assert_eq!(office.ended(&paid["tx_id"]).await.state, State::Finalized);
    let waiver = propose(&office, LISTED, 60).await.unwrap();
    decide(&office, "carla", &waiver, Decision::Approve).await.unwrap();
    let held = office.call("trader", "tx_submit", payment("held", LISTED)).await.unwrap();
    let view = office.ended(&held["tx_id"]).await;
    assert_eq!((view.state, view.reason.unwrap().kind.as_str()), (State::Expired, "travel_data_missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_acts_for_another_until_it_is_revoked() {
    let members = [
        ("trader", Role::Initiator, "tina", [].as_slice()),
        ("ops", Role::Operator, "otto", &[]),
        ("fay", Role::Approver, "fay", &["finance"]),
        ("finn", Role::Approver, "finn", &["finance"]),
        ("dan", Role::Approver, "dan", &[]),
    ];
    let office = Plan { policy: policy(Some("2 of finance")), ..Plan::new(&members) }.start().await;
    let parked = async |name: &str| office.call("trader", "tx_submit", payment(name, PAYEE)).await.unwrap();
    let first = parked("first").await;
    let id = first["tx_id"].as_str().unwrap();

    // Nobody has delegated to Dan, whose own word is nothing here.
    let (told, done) = office.type_in("dan", &["approve", "sign", id, "--yes", "--acting-for", "fay"], "").await;
    assert!(!done && told.contains("has delegated nothing to dan"), "{told}");
    let (told, done) =
        office.type_in("fay", &["approve", "delegate", "dan", "--hours", "1", "--wallet", WALLET], "").await;
    assert!(done && told.contains("Standing") && told.contains("dan acts for fay for cold"), "{told}");
    let (told, done) = office.type_in("dan", &["approve", "sign", id, "--yes", "--acting-for", "fay"], "").await;
    assert!(done && told.contains("you act    for fay") && told.contains("1 missing"), "{told}");
    // Fay's authority is one: what she says herself comes before what Dan says for her.
    let asked = office.call("fay", "approval_get", json!({ "tx_id": id })).await.unwrap();
    let say = async |who: &str, view: &Value| {
        let params = json!({ "tx_id": view["tx"]["tx_id"], "approval": word(who, view, Decision::Approve) });
        office.call(who, "approval_submit", params).await.unwrap()
    };
    assert_eq!(say("fay", &asked).await["quorums"][0]["missing"], 1);
    say("finn", &asked).await;
    assert_eq!(office.ended(&first["tx_id"]).await.state, State::Finalized, "signers count as the gateway does");

    // With Finn and Dan for Fay, each signer sees the delegation in what Dan has signed.
    let second = parked("second").await;
    let id = second["tx_id"].as_str().unwrap();
    let asked = office.call("fay", "approval_get", json!({ "tx_id": id })).await.unwrap();
    say("finn", &asked).await;
    let (told, done) = office.type_in("dan", &["approve", "sign", id, "--yes", "--acting-for", "fay"], "").await;
    assert!(done, "{told}");
    assert_eq!(office.ended(&second["tx_id"]).await.state, State::Finalized);

    // Revoked, it counts for nothing, and neither does what was said under it.
    let third = parked("third").await;
    let id = third["tx_id"].as_str().unwrap();
    let (told, done) = office.type_in("dan", &["approve", "sign", id, "--yes", "--acting-for", "fay"], "").await;
    assert!(done && told.contains("1 missing"), "{told}");
    let all = office.call("finn", "approval_delegations", json!({})).await.unwrap();
    let name = all[0]["id"].as_str().unwrap();
    let stranger = office.call("finn", "approval_revoke", json!({ "id": name })).await.unwrap_err();
    assert_eq!(kind(&stranger), "forbidden");
    let (told, done) = office.type_in("fay", &["approve", "revoke", name], "").await;
    assert!(done && told.contains("Revoked"), "{told}");
    let asked = office.call("finn", "approval_get", json!({ "tx_id": id })).await.unwrap();
    assert_eq!(say("finn", &asked).await["quorums"][0]["missing"], 1);
    assert_eq!(office.tx(&third["tx_id"]).await.state, State::AwaitingApproval);
    let (told, done) = office.type_in("dan", &["approve", "sign", id, "--yes", "--acting-for", "fay"], "").await;
    assert!(!done && told.contains("has delegated nothing"), "{told}");
}
