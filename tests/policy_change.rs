//! The life of a policy, on a simulated chain with real signers: proposed, approved, in force after the delay at each signer, rolled
//! back; and limits that a hundred payments at once don't pass.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "policy_change/house.rs"]
mod house;

use gateway::record::State;
use serde_json::{Value, json};
use signer::approval::Decision;
use signer::policy::change::{Change, Version};
use signer::pool::{PolicyRefusal, SignerId};

use house::{DAY, Gateway, House, NOBODY, OTHER, PAYEE, document, key, word};

/// Everybody whom a change takes besides Ada, who proposes.
const QUORUM: [&str; 3] = ["pat", "paul", "cis"];

async fn versions(house: &House) -> Value {
    house.call("olga", "policy_versions", json!({})).await.unwrap()
}

/// The version that each signer has in force, by the gateway's last look.
async fn at_signers(house: &House) -> Vec<u64> {
    let versions = versions(house).await;
    versions["signers"].as_array().unwrap().iter().map(|at| at["version"].as_u64().unwrap_or(u64::MAX)).collect()
}

async fn in_force(house: &House) -> u64 {
    house.call("olga", "policy_get", json!({})).await.unwrap()["version"].as_u64().unwrap()
}

async fn propose(house: &House, document: &str) -> Value {
    house.call("ada", "policy_propose", json!({ "document": document, "note": "because" })).await.unwrap()
}

async fn approve(house: &House, version: u64, who: &[&str]) -> Value {
    let mut view = Value::Null;
    for who in who {
        let asked = house.call(who, "policy_get", json!({ "version": version })).await.unwrap();
        let params = json!({ "version": version, "approval": word(house, who, &asked, Decision::Approve) });
        view = house.call(who, "policy_approve", params).await.unwrap();
    }
    view
}

fn kind(error: &Value) -> &str {
    error["data"]["kind"].as_str().unwrap()
}

/// What becomes of a payment to somebody.
async fn paid(house: &House, name: &str, to: &str) -> Result<State, String> {
    match house.pay(name, to, 1_000).await {
        Ok(view) => Ok(house.ended(&view).await.state),
        Err(error) => Err(kind(&error).to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_denied_passes_after_the_change_and_not_before_the_delay() {
    let mut house = House::open(Gateway::Honest).await;
    assert_eq!(paid(&house, "a", OTHER).await, Err("unlisted_address".to_owned()));
    let wider = document(&[PAYEE, OTHER], 86_400);
    let view = propose(&house, &wider).await;
    assert_eq!((&view["version"], &view["state"]), (&json!(1), &json!("proposed")));
    let second = house.call("ada", "policy_propose", json!({ "document": document(&[OTHER], 0) })).await.unwrap_err();
    assert_eq!(kind(&second), "policy_change_open");

    // Somebody is missing, and whoever proposes doesn't help.
    let view = approve(&house, 1, &["pat", "cis"]).await;
    assert_eq!((&view["state"], &view["change"]["quorum"]["missing"]), (&json!("proposed"), &json!(1)));
    for own in ["ada", "ada-approves"] {
        let approval = word(&house, own, &view, Decision::Approve);
        let refused =
            house.call(own, "policy_approve", json!({ "version": 1, "approval": approval })).await.unwrap_err();
        assert_eq!(kind(&refused), "invalid_approval");
    }
    let mut forged = word(&house, "pat", &view, Decision::Approve);
    forged.approver = "paul".parse().unwrap();
    let refused = house.call("pat", "policy_approve", json!({ "version": 1, "approval": forged })).await.unwrap_err();
    assert_eq!(kind(&refused), "invalid_approval");
    house.clock.advance(2 * DAY);
    let early = house.call("ada", "policy_activate", json!({ "version": 1 })).await.unwrap_err();
    assert_eq!(kind(&early), "policy_not_due");
    assert_eq!(at_signers(&house).await, [0, 0, 0]);

    let view = approve(&house, 1, &QUORUM).await;
    assert_eq!(view["state"], "approved");
    assert_eq!(
        kind(&house.call("ada", "policy_activate", json!({ "version": 1 })).await.unwrap_err()),
        "policy_not_due"
    );
    assert_eq!(paid(&house, "b", OTHER).await, Err("unlisted_address".to_owned()));

    // Everything ends and starts again in between.
    house = house.restart().await;
    house.clock.advance(DAY - 1_000);
    assert_eq!(
        kind(&house.call("ada", "policy_activate", json!({ "version": 1 })).await.unwrap_err()),
        "policy_not_due"
    );
    assert_eq!(paid(&house, "c", OTHER).await, Err("unlisted_address".to_owned()));
    house.clock.advance(1_000);
    let view = house.call("ada", "policy_activate", json!({ "version": 1 })).await.unwrap();
    assert_eq!((&view["state"], &view["in_force"]), (&json!("active"), &json!(true)));
    assert_eq!(at_signers(&house).await, [1, 1, 1]);
    assert_eq!(paid(&house, "d", OTHER).await, Ok(State::Finalized));

    house = house.restart().await;
    assert_eq!((in_force(&house).await, at_signers(&house).await), (1, vec![1, 1, 1]));
    assert_eq!(paid(&house, "e", OTHER).await, Ok(State::Finalized));

    // What it changed, whether somebody else could be paid, and what it would have said before.
    let diff = house.call("olga", "policy_diff", json!({ "from": 0, "to": 1 })).await.unwrap();
    assert_eq!((&diff["rules"]["changed"], &diff["tightened"]), (&json!({ "pay": ["addresses"] }), &Value::Null));
    assert!(diff["loosened"].is_object(), "{diff:#}");
    let may = |to: &str, version: u64| {
        let question = json!({ "acts": ["pay"], "addresses": { "one_of": [to] } });
        house.call("olga", "policy_prove", json!({ "question": question, "version": version }))
    };
    assert_eq!(may(OTHER, 0).await.unwrap()["allowed"], false);
    let proof = may(OTHER, 1).await.unwrap();
    assert_eq!(proof.pointer("/witness/effects/transfers/0/to"), Some(&json!(OTHER)), "{proof:#}");
    assert_eq!(may(NOBODY, 1).await.unwrap()["allowed"], false);
    let narrow = json!({ "document": document(&[PAYEE], 86_400) });
    let replayed = house.call("olga", "policy_replay", narrow).await.unwrap();
    assert_eq!(replayed["unknown"], 0, "{replayed:#}");
    assert_eq!((&replayed["records"], &replayed["changes"]), (&json!(5), &json!({ "allow -> deny": 5 })));
    let same = json!({ "document": document(&[PAYEE, OTHER], 0) });
    assert_eq!(house.call("olga", "policy_replay", same).await.unwrap()["same"], 5);

    // Back, by the same people after the same delay.
    let view = house.call("ada", "policy_rollback", json!({ "version": 0, "note": "too wide" })).await.unwrap();
    assert_eq!((&view["version"], &view["state"]), (&json!(2), &json!("proposed")));
    assert_eq!(approve(&house, 2, &QUORUM).await["state"], "approved");
    assert_eq!(paid(&house, "f", OTHER).await, Ok(State::Finalized));
    house.clock.advance(DAY);
    house.until(async |house| in_force(house).await == 2).await;
    assert_eq!(paid(&house, "g", OTHER).await, Err("unlisted_address".to_owned()));
    assert_eq!(paid(&house, "h", PAYEE).await, Ok(State::Finalized));
    let all = versions(&house).await;
    assert_eq!(all["versions"][0]["digest"], all["versions"][2]["digest"], "the same document under another number");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rejection_ends_a_change_while_it_waits() {
    let house = House::open(Gateway::Honest).await;
    propose(&house, &document(&[PAYEE, OTHER], 0)).await;
    let view = approve(&house, 1, &QUORUM).await;
    assert_eq!(view["state"], "approved");
    let approval = word(&house, "cis", &view, Decision::Reject);
    let wrong = json!({ "version": 1, "approval": approval });
    assert_eq!(kind(&house.call("cis", "policy_approve", wrong.clone()).await.unwrap_err()), "invalid_approval");
    let view = house.call("cis", "policy_reject", wrong).await.unwrap();
    assert_eq!((&view["state"], &view["change"]["rejected_by"]), (&json!("rejected"), &json!("cis")));
    house.clock.advance(9 * DAY);
    assert_eq!(
        kind(&house.call("ada", "policy_activate", json!({ "version": 1 })).await.unwrap_err()),
        "policy_not_due"
    );
    assert_eq!(at_signers(&house).await, [0, 0, 0]);
    for (_, standing) in house.pool().policy_standings().await {
        assert_eq!(standing.unwrap().pending, None, "no signer waits for it");
    }
    // The next proposal is for the same version.
    let view = propose(&house, &document(&[OTHER], 0)).await;
    assert_eq!(view["version"], 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signer_takes_what_isnt_approved_and_signs_nothing_under_it() {
    let house = House::open(Gateway::Honest).await;
    let wider = document(&[PAYEE, OTHER], 0);
    let view = propose(&house, &wider).await;
    let honest = |who: &str| word(&house, who, &view, Decision::Approve);
    let change = Change {
        version: Version::new(1),
        previous: serde_json::from_value(view["change"]["previous"].clone()).unwrap(),
        document: wider.into_bytes(),
        request: serde_json::from_value(view["request"].clone()).unwrap(),
        approvals: QUORUM.iter().map(|who| honest(who)).collect(),
    };
    let with = |damage: &dyn Fn(&mut Change)| {
        let mut damaged = change.clone();
        damage(&mut damaged);
        damaged
    };
    let statement = change.statement(Decision::Approve, u64::MAX);
    let forgeries = [
        with(&|change| drop(change.approvals.pop())),
        with(&|change| change.approvals.clear()),
        with(&|change| change.approvals[0] = statement.sign("pat".parse().unwrap(), &key("trader"))),
        with(&|change| change.approvals[0].approver = "fay".parse().unwrap()),
        with(&|change| change.approvals.push(statement.sign("ada".parse().unwrap(), &key("ada")))),
        with(&|change| change.document = document(&[NOBODY], 0).into_bytes()),
        with(&|change| change.previous = change.document().digest()),
        with(&|change| change.version = Version::new(2)),
        with(&|change| change.version = Version::new(0)),
        with(&|change| change.request.body = b"{}".to_vec()),
    ];
    let signers: Vec<SignerId> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
    for signer in &signers {
        for forgery in &forgeries {
            let answer = house.pool().offer_policy(signer, forgery).await;
            assert!(matches!(answer, Err(PolicyRefusal::Refused(_))), "{signer}: {forgery:#?}");
        }
        // And what is approved, it takes.
        assert!(house.pool().offer_policy(signer, &change).await.unwrap().pending.is_some());
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_claims_another_policy_gets_no_signature() {
    let house = House::open(Gateway::Claims(&[PAYEE, OTHER])).await;
    for (name, to) in [("a", OTHER), ("b", PAYEE)] {
        let view = house.pay(name, to, 1_000).await.unwrap();
        let view = house.ended(&view).await;
        assert_eq!(view.state, State::Quarantined);
        assert!(view.attempts.iter().all(|attempt| attempt.chain_tx_id.is_none()), "{view:#?}");
        assert_eq!(view.reason.unwrap().kind, "signers_refused");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_was_away_blocks_nobody_and_is_caught_up() {
    let house = House::open(Gateway::Honest).await;
    house.cut("c", true);
    propose(&house, &document(&[PAYEE, OTHER], 0)).await;
    assert_eq!(approve(&house, 1, &QUORUM).await["state"], "approved");
    house.clock.advance(DAY);
    house.until(async |house| in_force(house).await == 1).await;
    assert_eq!(paid(&house, "a", OTHER).await, Ok(State::Finalized));

    // It comes back, is told, and waits for itself; nobody waits for it.
    house.cut("c", false);
    house.until(async |house| at_signers(house).await == [1, 1, 0]).await;
    for name in ["b", "c", "d"] {
        assert_eq!(paid(&house, name, OTHER).await, Ok(State::Finalized));
    }
    assert_eq!(at_signers(&house).await, [1, 1, 0]);
    house.clock.advance(DAY);
    house.until(async |house| at_signers(house).await == [1, 1, 1]).await;
    house.cut("a", true);
    assert_eq!(paid(&house, "e", OTHER).await, Ok(State::Finalized), "it signs under the new policy");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_payments_are_judged_again() {
    let house = House::open(Gateway::Honest).await;
    let asking = |amount: &str| {
        let changes = json!({ "require": "2 of policy and 1 of ciso", "delay_seconds": 0 });
        let rule = |id: &str, to: &str| json!({ "id": id, "wallets": ["cold"], "addresses": [to], "require": "1 of finance", "require_above": amount });
        json!({ "rules": [rule("pay", PAYEE), rule("other", OTHER)], "changes": changes }).to_string()
    };
    propose(&house, &asking("1")).await;
    approve(&house, 1, &QUORUM).await;
    house.clock.advance(DAY);
    house.until(async |house| in_force(house).await == 1).await;
    let (one, other) = (house.pay("a", PAYEE, 1_000).await.unwrap(), house.pay("b", OTHER, 1_000).await.unwrap());
    assert_eq!((one.state, other.state), (State::AwaitingApproval, State::AwaitingApproval));
    // The payee needs nobody any more, and the other one may not be paid at all.
    propose(&house, &document(&[PAYEE], 0)).await;
    approve(&house, 2, &QUORUM).await;
    house.until(async |house| in_force(house).await == 2).await;
    assert_eq!(house.ended(&one).await.state, State::Finalized);
    let view = house.ended(&other).await;
    assert_eq!((view.state, view.reason.unwrap().kind.as_str()), (State::Rejected, "unlisted_address"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_reads_the_change_on_their_own_machine() {
    let house = House::open(Gateway::Honest).await;
    let file = house.dir().join("wider.json");
    std::fs::write(&file, document(&[PAYEE, OTHER], 0)).unwrap();
    let path = file.to_str().unwrap();
    let (said, done) = house.type_in("ada", &["propose", path, "--note", "wider"], "").await;
    assert!(done && said.contains("version 1"), "{said}");
    let (shown, done) = house.type_in("pat", &["show", "1"], "").await;
    let changed = format!("+ \"{OTHER}\"");
    assert!(done && shown.contains("pay") && shown.contains(&changed), "{shown}");
    assert!(!shown.contains(&format!("+ \"{PAYEE}\"")), "{shown}");
    let (said, done) = house.type_in("pat", &["approve", "1"], "n\n").await;
    assert!(!done, "{said}");
    let (said, done) = house.type_in("pat", &["approve", "1"], "y\n").await;
    assert!(done && said.contains("2 missing"), "{said}");
    let (said, done) = house.type_in("cis", &["reject", "1", "--yes"], "").await;
    assert!(done && said.contains("rejected"), "{said}");
    let (listed, done) = house.type_in("olga", &["versions"], "").await;
    assert!(done && listed.contains("in force") && listed.contains("rejected"), "{listed}");
    house.close().await;
}

/// Reserved at once, whatever comes at once: the sum of a hundred payments never passes the cap by one base unit.
async fn a_hundred_at_once(house: House) {
    const CAP: u64 = 500;
    const EACH: u64 = 7;
    let payments = (0..100).map(|number| {
        let name = format!("velocity-{number}");
        let house = &house;
        async move { house.pay(&name, PAYEE, EACH).await }
    });
    let mut reserved = 0;
    for answer in futures::future::join_all(payments).await {
        match answer {
            Ok(view) => {
                assert_eq!(view.state, State::AwaitingApproval);
                reserved += EACH;
            }
            Err(error) => assert_eq!(kind(&error), "above_velocity", "{error:#}"),
        }
    }
    assert_eq!(reserved, CAP / EACH * EACH, "as many as fit, and not one more");
    let usage = house.call("olga", "policy_usage", json!({})).await.unwrap();
    assert_eq!(usage[0]["used_amount"], reserved.to_string(), "{usage:#}");
    assert_eq!((&usage[0]["limit"], &usage[0]["max_amount"]), (&json!("velocity"), &json!("500")));
    // What is left fits, and one base unit more doesn't.
    let left = CAP - reserved;
    assert_eq!(kind(&house.pay("too-much", PAYEE, left + 1).await.unwrap_err()), "above_velocity");
    house.pay("just", PAYEE, left).await.unwrap();
    assert_eq!(kind(&house.pay("one", PAYEE, 1).await.unwrap_err()), "above_velocity");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_payments_at_once_dont_pass_a_limit() {
    a_hundred_at_once(House::open(Gateway::Limited).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_payments_at_once_dont_pass_a_limit_on_postgres() {
    let Some(admin) = std::env::var("PORTCULLIS_POSTGRES").ok().filter(|url| !url.is_empty()) else {
        println!("PORTCULLIS_POSTGRES isn't set: this ran on SQLite alone");
        return;
    };
    a_hundred_at_once(House::open_on(Gateway::Limited, Some(&admin)).await).await;
}
