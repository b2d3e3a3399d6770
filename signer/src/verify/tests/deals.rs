//! Deals: what every signer wants to see before it takes part in a crypto leg.

use std::collections::BTreeSet;

use super::*;

const EXPIRES: u64 = NOW / 1000 + 600;

/// Fay speaks for the fund, Finn for the desk, Carla confirms. Tina, the trader herself, is of every group.
fn people() -> BTreeMap<CredentialId, Approver> {
    let person = |person: &str, groups: &[&str]| Approver {
        person: person.parse().expect("a name"),
        groups: groups.iter().map(|group| group.parse().expect("a group")).collect::<BTreeSet<_>>(),
        passkeys: Vec::new(),
    };
    let all = [
        ("fay", person("fay", &["fund"])),
        ("finn", person("finn", &["desk"])),
        ("carla", person("carla", &["settlement"])),
        ("carla-2", person("carlo", &["fund", "desk", "settlement"])),
        ("trader", person("tina", &[])),
        ("tina", person("tina", &["fund", "desk", "settlement"])),
    ];
    all.into_iter().map(|(id, approver)| (id.parse().expect("a name"), approver)).collect()
}

fn house() -> Guard {
    guard_of(json!({ "rules": [{ "id": "otc", "wallets": ["sol"], "addresses": [SOL_PAYEE] }] }), people())
}

fn ask(method: &str, who: &str, seed: u8, params: &Value) -> SignedRequest {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    SignedRequest::sign(&key(seed), &who.parse().expect("a name"), "/", "jti", 1_700_000_000, 30, body.into_bytes())
}

fn opened(release: &str) -> SigningRequest {
    let intent = pays("sol", "native", SOL_PAYEE, "1000");
    let deal = json!({
        "party_a": "fund", "party_b": "desk", "fiat_confirmer": "settlement", "expires": EXPIRES, "release": release,
        "fiat": { "currency": "CHF", "amount": "97.50", "reference": "deal 1" },
    });
    let params = json!({ "idempotency_key": "deal-1", "intent": intent, "deal": deal });
    let mut request = request(&intent, built(&intent));
    request.evidence.request = ask("otc_open", "trader", 1, &params);
    request
}

fn seed(name: &str) -> u8 {
    match name {
        "fay" => 11,
        "finn" => 12,
        "carla" => 13,
        "carla-2" => 14,
        _ => 15,
    }
}

fn approved_by(names: &[&str], release: &str) -> SigningRequest {
    let mut request = opened(release);
    let trader = "trader".parse().expect("a name");
    let subject = Subject { intent: intent_of(&request), initiator: &trader, body: &request.evidence.request.body };
    let statement = Statement::about(&subject, Decision::Approve, EXPIRES + 3600);
    let approvals =
        names.iter().map(|name| Approval::sign(name.parse().expect("a name"), &statement, &key(seed(name))));
    request.evidence.approvals = approvals.collect();
    request
}

fn verdict(request: &SigningRequest) -> Result<(), Refusal> {
    house().judge(request, |_| NOW).map(drop)
}

#[test]
fn each_missing_side_leaves_it_unsigned() {
    let all = ["fay", "finn", "carla"];
    assert_eq!(verdict(&approved_by(&all, "automatic")), Ok(()));
    for subset in 0..7_u32 {
        let some: Vec<_> = (0..3).filter(|at| subset & (1 << at) != 0).map(|at| all[at]).collect();
        let refused = verdict(&approved_by(&some, "automatic"));
        assert!(matches!(refused, Err(Refusal::Quorum(_))), "{some:?}: {refused:?}");
    }
}

#[test]
fn one_person_has_one_side_and_no_party_confirms() {
    assert_eq!(verdict(&approved_by(&["carla-2", "finn", "carla"], "automatic")), Ok(()));
    for names in [["carla-2", "carla", "carla"].as_slice(), &["carla-2", "finn", "fay"]] {
        assert!(matches!(verdict(&approved_by(names, "automatic")), Err(Refusal::Quorum(_))), "{names:?}");
    }
    let tina = verdict(&approved_by(&["fay", "tina", "carla"], "automatic"));
    assert!(matches!(tina, Err(Refusal::Approval(ApprovalError::Initiator(_)))), "{tina:?}");
}

#[test]
fn its_time_is_the_signers_own() {
    let request = approved_by(&["fay", "finn", "carla"], "automatic");
    let at = |at: u64| house().judge(&request, |_| at).map(drop);
    assert_eq!(at(EXPIRES * 1000 + 999), Ok(()));
    assert_eq!(at((EXPIRES + 1) * 1000), Err(Refusal::DealOver(EXPIRES)));
}

#[test]
fn the_terms_are_those_that_people_have_approved() {
    // Another body under the same key: the approvals are for the first.
    let mut request = approved_by(&["fay", "finn", "carla"], "automatic");
    request.evidence.request = opened("manual").evidence.request;
    assert!(matches!(verdict(&request), Err(Refusal::Approval(ApprovalError::OtherIntent(_)))));
    // The same payment asked for without terms is another request, and those approvals aren't for it either.
    let plain = pays("sol", "native", SOL_PAYEE, "1000");
    request.evidence.request = signed_by("trader", 1, &plain);
    assert!(matches!(verdict(&request), Err(Refusal::Approval(ApprovalError::OtherIntent(_)))));
}

#[test]
fn where_the_terms_say_so_it_takes_the_desks_go_for_these_very_terms() {
    let mut request = approved_by(&["fay", "finn", "carla"], "manual");
    assert_eq!(verdict(&request), Err(Refusal::NotReleased));
    let digest = |request: &SigningRequest| hex::encode(Sha256::digest(&request.evidence.request.body));
    let go = |digest: String| json!({ "tx_id": Uuid::from_u128(1), "request": digest });
    let good = go(digest(&request));
    for (release, refusal) in [
        (ask("otc_release", "trader", 1, &go(digest(&opened("automatic")))), Refusal::OtherRelease),
        (ask("otc_release", "operator", 3, &good), Refusal::OtherRelease),
    ] {
        request.evidence.release = Some(release);
        assert_eq!(verdict(&request), Err(refusal));
    }
    request.evidence.release = Some(ask("otc_release", "trader", 3, &good));
    assert!(matches!(verdict(&request), Err(Refusal::Auth(_))), "signed by somebody else");
    request.evidence.release = Some(ask("tx_cancel", "trader", 1, &good));
    assert!(matches!(verdict(&request), Err(Refusal::Body(_))), "another call");
    request.evidence.release = Some(ask("otc_release", "trader", 1, &good));
    assert_eq!(verdict(&request), Ok(()));
}

#[test]
fn a_wallet_of_deals_pays_under_no_other_terms() {
    let rules = json!([{ "id": "otc", "wallets": ["sol"], "addresses": [SOL_PAYEE] }]);
    let strict = guard_of(json!({ "rules": rules, "deals_only": ["sol"] }), people());
    let plain = pays("sol", "native", SOL_PAYEE, "1000");
    let request = request(&plain, built(&plain));
    assert_eq!(verdict(&request), Ok(()));
    let refused = strict.judge(&request, |_| NOW).map(drop);
    assert_eq!(refused, Err(Refusal::Denied(Denial::NoDeal { wallet: wallet("sol") })));
    let deal = approved_by(&["fay", "finn", "carla"], "automatic");
    assert_eq!(strict.judge(&deal, |_| NOW).map(drop), Ok(()));
}

#[test]
fn upkeep_is_no_leg_and_a_plain_payment_has_no_terms() {
    let mut params = json!({ "idempotency_key": "deal-1", "intent": pays("sol", "native", SOL_PAYEE, "1") });
    let read = |method: &str, params: &Value| {
        Submission::from_call(&parse_call(&ask(method, "trader", 1, params).body).expect("a call"))
    };
    assert!(read("tx_submit", &params).is_ok() && read("otc_open", &params).is_err());
    params["deal"] = json!({
        "party_a": "fund", "party_b": "desk", "fiat_confirmer": "settlement", "expires": EXPIRES,
        "fiat": { "currency": "CHF", "amount": "97.50", "reference": "deal 1" },
    });
    assert!(read("tx_submit", &params).is_err() && read("otc_open", &params).is_ok());
    params["intent"]["action"] = json!({ "kind": "open_nonce", "index": 0 });
    assert!(read("otc_open", &params).is_err());
}
