//! The life of a policy at one signer.

use ed25519_dalek::SigningKey;
use serde_json::json;

use super::*;
use crate::approval::{Approval, Decision};
use crate::policy::PolicyConfig;
use crate::policy::change::ChangeStatement;
use crate::policy::document::Document;
use crate::request::SignedRequest;
use crate::roster::Role;

const DAY: u64 = 86_400_000;
const START: u64 = 1_800_000_000_000;

/// Everybody with a credential: role, person, groups. Ada administers policies, and has a credential to approve with, too.
const PEOPLE: [(&str, Role, &str, &[&str]); 8] = [
    ("ada", Role::PolicyAdmin, "ada", &[]),
    ("ada-approves", Role::Approver, "ada", &["policy", "ciso"]),
    ("pat", Role::Approver, "pat", &["policy"]),
    ("paul", Role::PolicyAdmin, "paul", &["policy"]),
    ("cis", Role::Approver, "cis", &["ciso"]),
    ("fay", Role::Approver, "fay", &["finance"]),
    ("trader", Role::Initiator, "tina", &["policy"]),
    ("olga", Role::Operator, "olga", &[]),
];
const QUORUM: [&str; 3] = ["pat", "paul", "cis"];

fn key(who: &str) -> SigningKey {
    let seed = PEOPLE.iter().position(|(id, ..)| *id == who).unwrap() + 1;
    SigningKey::from_bytes(&[u8::try_from(seed).unwrap(); 32])
}

fn roster_without(gone: &[&str]) -> Arc<Roster> {
    let here = || PEOPLE.iter().filter(|(id, ..)| !gone.contains(id));
    let credential = |(id, role, ..): &(&str, Role, &str, &[&str])| Credential {
        id: id.parse().unwrap(),
        role: *role,
        public_key: key(id).verifying_key(),
    };
    let people = here().map(|(id, _, person, groups)| {
        let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
        (id.parse().unwrap(), Approver { person: person.parse().unwrap(), groups, passkeys: Vec::new() })
    });
    Arc::new(Roster::new(here().map(credential).collect()).unwrap().with_people(people.collect()).unwrap())
}

fn wallets() -> BTreeMap<WalletId, Network> {
    BTreeMap::from([("cold".parse().unwrap(), "ethereum:1".parse().unwrap())])
}

fn document(most: u64, delay: u64) -> Vec<u8> {
    let changes = json!({ "require": "2 of policy and 1 of ciso", "delay_seconds": delay });
    let rule = json!({ "id": "pay", "wallets": ["cold"], "max_amount": most.to_string() });
    serde_json::to_vec(&json!({ "rules": [rule], "changes": changes })).unwrap()
}

fn configured(document: &[u8]) -> Arc<Policy> {
    let config: PolicyConfig = serde_json::from_slice(document).unwrap();
    Arc::new(config.compile(&wallets()).unwrap())
}

fn versions_of(base: &[u8]) -> Versions {
    Versions::resume(configured(base), roster_without(&[]), wallets(), Written::default()).unwrap()
}

fn versions() -> Versions {
    versions_of(&document(1, 86_400))
}

fn asks(who: &str, method: &str, params: &serde_json::Value) -> SignedRequest {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    SignedRequest::sign(&key(who), &who.parse().unwrap(), "/", "jti", START / 1000, 30, body.into_bytes())
}

/// A change to `document`, as `proposer` proposes it, without approvals.
fn proposed_by(proposer: &str, versions: &Versions, document: Vec<u8>) -> Change {
    let text = String::from_utf8(document.clone()).unwrap();
    Change {
        version: versions.version().next(),
        previous: versions.policy().digest(),
        document,
        request: asks(proposer, "policy_propose", &json!({ "document": text, "note": "because" })),
        approvals: Vec::new(),
    }
}

fn proposed(versions: &Versions, document: Vec<u8>) -> Change {
    proposed_by("ada", versions, document)
}

fn says(who: &str, change: &Change, decision: Decision) -> crate::approval::Approval {
    change.statement(decision, START / 1000 + 3_600).sign(who.parse().unwrap(), &key(who))
}

fn approved_by(mut change: Change, who: &[&str]) -> Change {
    change.approvals = who.iter().map(|who| says(who, &change, Decision::Approve)).collect();
    change
}

fn offered(versions: &mut Versions, document: Vec<u8>) -> PendingPolicy {
    let change = approved_by(proposed(versions, document), &QUORUM);
    assert_eq!(versions.offer(change, START), Ok(true));
    versions.standing().pending.unwrap()
}

fn refused(versions: &Versions, change: Change) -> OfferError {
    let mut tried = versions.clone();
    let refusal = tried.offer(change, START).unwrap_err();
    assert_eq!((tried.standing(), tried.written()), (versions.standing(), versions.written()));
    refusal
}

fn change_error(versions: &Versions, change: Change) -> ChangeError {
    match refused(versions, change) {
        OfferError::Change(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn an_approved_change_is_in_force_after_the_delay_and_not_before() {
    let mut versions = versions();
    let pending = offered(&mut versions, document(2, 86_400));
    assert_eq!((pending.version, pending.seen_at, pending.due_at), (Version::new(1), START, START + DAY));
    assert_eq!(versions.settle(START + DAY - 1), Ok(false));
    assert_eq!(versions.standing().version, Version::new(0));
    assert_eq!(versions.settle(START + DAY), Ok(true));
    assert_eq!((versions.standing().version, versions.policy().digest()), (Version::new(1), pending.digest));
    assert_eq!(versions.policy().caps().count(), 0);
    assert_eq!(versions.settle(START + 9 * DAY), Ok(false), "once");
}

#[test]
fn the_delay_is_that_of_the_policy_in_force_and_counts_from_the_first_time() {
    let mut versions = versions();
    let change = approved_by(proposed(&versions, document(2, 0)), &QUORUM);
    assert_eq!(versions.offer(change.clone(), START), Ok(true));
    assert_eq!(versions.offer(change, START + DAY / 2), Ok(false), "it waits already");
    assert_eq!(versions.standing().pending.unwrap().due_at, START + DAY, "the change's own delay is 0");
    assert_eq!(versions.settle(START), Ok(false));
    assert_eq!(versions.settle(START + DAY), Ok(true));
    // Version 1 has no delay.
    let next = approved_by(proposed(&versions, document(3, 86_400)), &QUORUM);
    assert_eq!(versions.offer(next, START + DAY), Err(expired("pat")), "the approvals were good for an hour");
    let next = {
        let mut change = proposed(&versions, document(3, 86_400));
        let expires = (START + DAY) / 1000 + 60;
        let word = |who: &&str| change.statement(Decision::Approve, expires).sign(who.parse().unwrap(), &key(who));
        change.approvals = QUORUM.iter().map(word).collect();
        change
    };
    assert_eq!(versions.offer(next, START + DAY), Ok(true));
    assert_eq!(versions.settle(START + DAY), Ok(true));
    assert_eq!(versions.standing().version, Version::new(2));
}

fn expired(who: &str) -> OfferError {
    let expired = ApprovalError::Expired { approver: who.parse().unwrap(), at: START / 1000 + 3_600 };
    ChangeError::from(expired).into()
}

#[test]
fn a_clock_that_is_turned_back_frees_nothing() {
    let mut versions = versions();
    offered(&mut versions, document(2, 86_400));
    assert_eq!(versions.settle(START + DAY), Ok(true));
    let next = approved_by(proposed(&versions, document(3, 0)), &QUORUM);
    assert_eq!(versions.offer(next, 1), Ok(true));
    assert_eq!(versions.standing().pending.unwrap().seen_at, START, "never before what was seen");
}

#[test]
fn whoever_is_missing_it_isnt_taken() {
    let versions = versions();
    for missing in 0..QUORUM.len() {
        let mut some = QUORUM.to_vec();
        some.remove(missing);
        let change = approved_by(proposed(&versions, document(2, 0)), &some);
        let OfferError::Quorum { missing, .. } = refused(&versions, change) else { panic!("somebody is missing") };
        assert_eq!(missing, 1, "{some:?}");
    }
    let twice = approved_by(proposed(&versions, document(2, 0)), &["pat", "pat", "cis"]);
    assert!(matches!(refused(&versions, twice), OfferError::Quorum { missing: 1, .. }), "one person counts once");
}

#[test]
fn whoever_proposes_doesnt_approve_under_whatever_name() {
    let versions = versions();
    for own in ["ada", "ada-approves"] {
        let change = approved_by(proposed(&versions, document(2, 0)), &["pat", "paul", "cis", own]);
        assert_eq!(change_error(&versions, change), ChangeError::Proposer(own.parse().unwrap()));
    }
    // Paul may approve what Ada proposes, and not what he proposes himself.
    let change = approved_by(proposed_by("paul", &versions, document(2, 0)), &QUORUM);
    assert_eq!(change_error(&versions, change), ChangeError::Proposer("paul".parse().unwrap()));
    let change = approved_by(proposed_by("paul", &versions, document(2, 0)), &["pat", "ada-approves", "cis"]);
    assert_eq!(versions.clone().offer(change, START), Ok(true));
}

#[test]
fn only_a_policy_admin_proposes_and_exactly_this_document() {
    let versions = versions();
    for other in ["pat", "trader", "olga"] {
        let change = approved_by(proposed_by(other, &versions, document(2, 0)), &QUORUM);
        assert!(matches!(change_error(&versions, change), ChangeError::Role { .. }), "{other}");
    }
    let good = approved_by(proposed(&versions, document(2, 0)), &QUORUM);
    let swapped = Change { document: document(3, 0), ..good.clone() };
    assert_eq!(change_error(&versions, swapped), ChangeError::OtherDocument);
    // The same, with approvals of the swapped document: whoever proposes has to have signed it.
    let swapped = approved_by(Change { document: document(3, 0), ..good.clone() }, &QUORUM);
    assert_eq!(change_error(&versions, swapped), ChangeError::OtherDocument);
    let mut forged = good.clone();
    forged.request.body = forged.request.body.to_ascii_uppercase();
    assert!(matches!(change_error(&versions, forged), ChangeError::Auth(_)));
    let mut other = good;
    other.request = asks("ada", "tx_submit", &json!({}));
    assert!(matches!(change_error(&versions, other), ChangeError::Body(_)));
}

#[test]
fn a_forged_or_foreign_word_spoils_it() {
    let versions = versions();
    let good = approved_by(proposed(&versions, document(2, 0)), &QUORUM);
    let with = |word| {
        let mut change = good.clone();
        change.approvals[0] = word;
        change_error(&versions, change)
    };
    let pat = "pat".parse::<CredentialId>().unwrap();
    let statement = good.statement(Decision::Approve, START / 1000 + 60);
    let forged = statement.sign(pat.clone(), &key("trader"));
    assert_eq!(with(forged), ApprovalError::Signature(pat.clone()).into());
    let others = [
        ChangeStatement { version: Version::new(2), ..statement },
        ChangeStatement { document: versions.policy().digest(), ..statement },
        ChangeStatement { previous: good.document().digest(), ..statement },
    ];
    for other in others {
        assert_eq!(with(other.sign(pat.clone(), &key("pat"))), ChangeError::OtherChange(pat.clone()));
    }
    // An approval of a payment is none of a policy, whatever its bytes say.
    let payload = statement.to_payload();
    let payment = Approval::sign_payload(pat.clone(), crate::approval::PAYLOAD_TYPE, payload.clone(), &key("pat"));
    assert_eq!(with(payment), ApprovalError::Signature(pat.clone()).into());
    let spaced = [b" ".as_slice(), &payload].concat();
    let spaced = Approval::sign_payload(pat.clone(), crate::policy::change::PAYLOAD_TYPE, spaced, &key("pat"));
    assert_eq!(with(spaced), ApprovalError::Statement(pat).into());
    for nobody in ["trader", "olga"] {
        let word = statement.sign(nobody.parse().unwrap(), &key(nobody));
        assert_eq!(with(word), ApprovalError::NotAnApprover(nobody.parse().unwrap()).into());
    }
    let unasked = statement.sign("fay".parse().unwrap(), &key("fay"));
    assert_eq!(with(unasked), ChangeError::NotAsked("fay".parse().unwrap()));
}

#[test]
fn only_the_next_version_of_what_is_in_force_is_taken() {
    let mut versions = versions();
    let base = versions.policy().digest();
    for version in [0, 2, 3, u64::MAX] {
        let change = Change { version: Version::new(version), ..proposed(&versions, document(2, 0)) };
        let error = change_error(&versions, approved_by(change, &QUORUM));
        assert_eq!(error, ChangeError::Version { offered: Version::new(version), next: Version::new(1) });
    }
    let change = Change { previous: Document::default().digest(), ..proposed(&versions, document(2, 0)) };
    assert!(matches!(change_error(&versions, approved_by(change, &QUORUM)), ChangeError::Previous { .. }));
    let same = versions.policy().document().bytes().to_vec();
    assert_eq!(change_error(&versions, approved_by(proposed(&versions, same), &QUORUM)), ChangeError::Same);

    offered(&mut versions, document(2, 0));
    versions.settle(START + DAY).unwrap();
    // A change that is in force is offered again by a gateway that doesn't know.
    let known = versions.change(Version::new(1)).unwrap().clone();
    assert_eq!(versions.offer(known.clone(), START), Ok(false));
    let replay = Change { version: Version::new(2), ..known };
    assert!(matches!(change_error(&versions, replay), ChangeError::Previous { named, .. } if named == base));
}

#[test]
fn one_rejection_ends_it_also_while_it_waits() {
    let mut versions = versions();
    let change = approved_by(proposed(&versions, document(2, 86_400)), &QUORUM);
    assert_eq!(versions.offer(change.clone(), START), Ok(true));
    let mut rejected = change.clone();
    rejected.approvals = vec![says("cis", &change, Decision::Reject)];
    assert_eq!(versions.offer(rejected.clone(), START), Ok(true));
    assert_eq!(versions.standing().pending, None);
    assert_eq!(versions.offer(rejected, START), Ok(false));
    assert_eq!(refused(&versions, change), OfferError::Rejected("cis".parse().unwrap()));
    assert_eq!(versions.settle(START + 9 * DAY), Ok(false));

    // Whoever proposes may withdraw; somebody who isn't asked stops nothing.
    let mut other = proposed(&versions, document(3, 86_400));
    other.approvals = vec![says("fay", &other, Decision::Reject)];
    assert_eq!(change_error(&versions, other.clone()), ChangeError::NotAsked("fay".parse().unwrap()));
    other.approvals = vec![says("ada", &other, Decision::Reject)];
    assert_eq!(versions.offer(other, START), Ok(true));
    offered(&mut versions, document(4, 86_400));
}

#[test]
fn one_change_waits_at_a_time() {
    let mut versions = versions();
    offered(&mut versions, document(2, 86_400));
    let other = approved_by(proposed(&versions, document(3, 86_400)), &QUORUM);
    assert_eq!(refused(&versions, other), OfferError::Occupied(Version::new(1)));
}

#[test]
fn a_policy_that_names_nobody_for_it_isnt_changed() {
    let rule = json!({ "id": "pay", "wallets": ["cold"] });
    let versions = versions_of(&serde_json::to_vec(&json!({ "rules": [rule] })).unwrap());
    let change = approved_by(proposed(&versions, document(2, 0)), &QUORUM);
    assert_eq!(change_error(&versions, change), ChangeError::Unchangeable);
}

#[test]
fn a_document_that_people_or_wallets_dont_fit_is_refused() {
    let versions = versions();
    let refuse = |document: serde_json::Value| {
        let document = serde_json::to_vec(&document).unwrap();
        change_error(&versions, approved_by(proposed(&versions, document), &QUORUM))
    };
    let changes = json!({ "require": "1 of policy", "delay_seconds": 0 });
    let rule = json!({ "id": "pay", "wallets": ["hot"] });
    assert!(matches!(refuse(json!({ "rules": [rule], "changes": changes })), ChangeError::Document(_)));
    assert!(matches!(refuse(json!({ "surprise": 1 })), ChangeError::Document(_)));
    let rule = json!({ "id": "pay", "wallets": ["cold"], "require": "2 of finance" });
    let refusal = refuse(json!({ "rules": [rule], "changes": changes }));
    assert!(matches!(refusal, ChangeError::Unmeetable { place, .. } if place == "rule pay"));
    let rule = json!({ "id": "pay", "wallets": ["cold"], "initiators": ["nobody"] });
    assert!(matches!(refuse(json!({ "rules": [rule], "changes": changes })), ChangeError::UnknownInitiator { .. }));
    // Nobody could ever change it again: Ada proposes, or Paul does, and neither counts then.
    for lost in ["1 of board", "3 of ciso", "4 of policy", "3 of policy"] {
        let changes = json!({ "require": lost, "delay_seconds": 0 });
        let refusal = refuse(json!({ "changes": changes }));
        assert!(matches!(refusal, ChangeError::Unmeetable { place, .. } if place == "[policy.changes]"), "{lost}");
    }
    let changes = json!({ "require": "2 of policy", "delay_seconds": 0 });
    let document = serde_json::to_vec(&json!({ "changes": changes })).unwrap();
    let change = approved_by(proposed(&versions, document), &QUORUM);
    assert_eq!(versions.clone().offer(change, START), Ok(true));
}

#[test]
fn an_earlier_document_comes_back_by_its_version() {
    let mut versions = versions();
    offered(&mut versions, document(2, 0));
    versions.settle(START + DAY).unwrap();
    let configured = configured(&document(1, 86_400));
    let back = |to: u64, document: Vec<u8>| {
        let request = asks("ada", "policy_rollback", &json!({ "version": to, "note": "" }));
        let change = Change { request, ..proposed(&versions, document) };
        approved_by(change, &QUORUM)
    };
    let missing = change_error(&versions, back(7, configured.document().bytes().to_vec()));
    assert_eq!(missing, ChangeError::NoSuchVersion(Version::new(7)));
    assert_eq!(change_error(&versions, back(0, document(3, 0))), ChangeError::OtherDocument);
    let rollback = back(0, configured.document().bytes().to_vec());
    assert_eq!(versions.offer(rollback, START), Ok(true));
    assert_eq!(versions.settle(START), Ok(true), "version 1 has no delay");
    assert_eq!((versions.standing().version, versions.policy().digest()), (Version::new(2), configured.digest()));
}

fn history() -> Versions {
    let mut versions = versions();
    for most in [2, 3] {
        offered(&mut versions, document(most, 0));
        versions.settle(START + DAY).unwrap();
    }
    offered(&mut versions, document(4, 0));
    versions
}

fn resumed(written: Written, gone: &[&str]) -> Result<Versions, ResumeError> {
    Versions::resume(configured(&document(1, 86_400)), roster_without(gone), wallets(), written)
}

#[test]
fn what_was_written_is_taken_up_whoever_has_left_since() {
    let versions = history();
    let written: Written = serde_json::from_slice(&serde_json::to_vec(versions.written()).unwrap()).unwrap();
    for gone in [&[][..], &["pat"], &["ada", "cis", "paul"]] {
        let again = resumed(written.clone(), gone).unwrap();
        assert_eq!((again.standing(), again.written()), (versions.standing(), versions.written()), "{gone:?}");
        assert_eq!(again.policy().digest(), versions.policy().digest());
    }
}

#[test]
fn written_versions_that_dont_hold_stop_the_signer() {
    let good = history().written().clone();
    let broken = |damage: &dyn Fn(&mut Written)| {
        let mut written = good.clone();
        damage(&mut written);
        resumed(written, &[]).unwrap_err()
    };
    let with = |taken: &Arc<Taken>, damage: &dyn Fn(&mut Taken)| {
        let mut taken = Taken::clone(taken);
        damage(&mut taken);
        Arc::new(taken)
    };
    assert!(matches!(broken(&|w| drop(w.taken.remove(0))), ResumeError::Origin { .. }));
    assert!(matches!(broken(&|w| drop(w.taken.remove(1))), ResumeError::Broken { version, .. } if version.get() == 3));
    assert!(matches!(broken(&|w| w.taken.swap(0, 1)), ResumeError::Origin { .. }));
    let fewer = broken(&|w| w.taken[1] = with(&w.taken[1], &|taken| drop(taken.change.approvals.pop())));
    assert!(matches!(fewer, ResumeError::Broken { source: OfferError::Quorum { .. }, .. }), "{fewer}");
    let other = broken(&|w| w.taken[0] = with(&w.taken[0], &|taken| taken.change.document = document(9, 0)));
    assert!(matches!(other, ResumeError::Broken { .. }), "{other}");
    let forged = broken(&|w| {
        w.taken[0] = with(&w.taken[0], &|taken| {
            let payload = taken.change.approvals[0].payload.clone();
            let pat = taken.change.approvals[0].approver.clone();
            taken.change.approvals[0] =
                Approval::sign_payload(pat, crate::policy::change::PAYLOAD_TYPE, payload, &key("fay"));
        });
    });
    assert!(matches!(forged, ResumeError::Broken { source: OfferError::Change(ChangeError::Approval(_)), .. }));
    let wallets = BTreeMap::from([("hot".parse().unwrap(), "ethereum:1".parse().unwrap())]);
    let base = configured(&document(1, 86_400));
    let unfit = Versions::resume(base, roster_without(&[]), wallets, good.clone()).unwrap_err();
    assert!(matches!(unfit, ResumeError::Wallets { .. }));
    let edited = Versions::resume(configured(&document(5, 0)), roster_without(&[]), self::wallets(), good);
    assert!(matches!(edited, Err(ResumeError::Origin { .. })), "somebody has edited the configuration");
}
