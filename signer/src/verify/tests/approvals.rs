//! Whose approval counts, and that nothing else does.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::approval::passkey::{Assertion, Passkey, PasskeyError};
use crate::approval::{Proof, pre_authentication};

pub(super) const LATER: u64 = NOW / 1000 + 3600;
const RELYING_PARTY: &str = "approve.example.org";
const ORIGIN: &str = "https://approve.example.org";

fn passkey(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a scalar")
}

/// Fay, Finn and Pia, who has a passkey and two credentials, are of finance; Carla is of finance and the CFO, and has two credentials; the trader has another, as Tina.
pub(super) fn people() -> BTreeMap<CredentialId, Approver> {
    let person = |person: &str, groups: &[&str]| Approver {
        person: person.parse().expect("a name"),
        groups: groups.iter().map(|group| group.parse().expect("a group")).collect(),
        passkeys: Vec::new(),
    };
    let pem = passkey(7).verifying_key().to_public_key_pem(LineEnding::LF).expect("a key");
    let key = Passkey::new(&pem, RELYING_PARTY.to_owned(), vec![ORIGIN.to_owned()]).expect("a passkey");
    let all = [
        ("fay", person("fay", &["finance"])),
        ("pia", Approver { passkeys: vec![key], ..person("pia", &["finance"]) }),
        ("pia-2", person("pia", &["finance"])),
        ("finn", person("finn", &["finance"])),
        ("carla", person("carla", &["finance", "cfo"])),
        ("carla-2", person("carla", &["finance", "cfo"])),
        ("trader", person("tina", &[])),
        ("tina", person("tina", &["finance", "cfo"])),
    ];
    all.into_iter().map(|(id, approver)| (id.parse().expect("a name"), approver)).collect()
}

fn treasury() -> Guard {
    let rules = json!([{
        "id": "treasury", "wallets": ["sol"], "assets": ["native"], "addresses": [SOL_PAYEE],
        "require": "2 of finance and 1 of cfo", "require_above": "500",
    }]);
    guard_of(json!({ "rules": rules }), people())
}

pub(super) fn large() -> SigningRequest {
    let intent = pays("sol", "native", SOL_PAYEE, "1000");
    request(&intent, built(&intent))
}

pub(super) fn seed(name: &str) -> u8 {
    match name {
        "fay" => 11,
        "finn" => 12,
        "carla" => 13,
        "carla-2" => 14,
        "pia" => 16,
        "pia-2" => 17,
        _ => 15,
    }
}

pub(super) fn says(name: &str, request: &SigningRequest, decision: Decision, expires: u64) -> Approval {
    let trader = "trader".parse().expect("a name");
    let subject = Subject { intent: intent_of(request), initiator: &trader, body: &request.evidence.request.body };
    let statement = Statement::about(&subject, decision, expires);
    Approval::sign(name.parse().expect("a name"), &statement, &key(seed(name)))
}

pub(super) fn approved_by(names: &[&str]) -> SigningRequest {
    let mut request = large();
    let approvals = names.iter().map(|name| says(name, &request, Decision::Approve, LATER)).collect();
    request.evidence.approvals = approvals;
    request
}

fn verdict(request: &SigningRequest) -> Result<(), Refusal> {
    treasury().judge(request, |_| NOW).map(drop)
}

#[test]
fn every_missing_role_leaves_it_unsigned() {
    assert_eq!(verdict(&approved_by(&["fay", "finn", "carla"])), Ok(()));
    let short: [&[&str]; 6] =
        [&[], &["carla"], &["fay", "finn"], &["fay", "carla"], &["carla", "carla-2", "fay"], &["fay", "fay", "carla"]];
    for names in short {
        assert!(matches!(verdict(&approved_by(names)), Err(Refusal::Quorum(_))), "{names:?}");
    }
}

#[test]
fn up_to_the_step_up_amount_nobody_is_asked() {
    let intent = pays("sol", "native", SOL_PAYEE, "500");
    assert_eq!(verdict(&request(&intent, built(&intent))), Ok(()));
    let intent = pays("sol", "native", SOL_PAYEE, "501");
    assert!(matches!(verdict(&request(&intent, built(&intent))), Err(Refusal::Quorum(_))));
}

#[test]
fn whoever_asks_does_not_approve_under_another_credential() {
    let request = approved_by(&["fay", "finn", "tina"]);
    let tina = "tina".parse().expect("a name");
    assert_eq!(verdict(&request), Err(Refusal::Approval(ApprovalError::Initiator(tina))));
}

#[test]
fn one_rejection_ends_it() {
    let mut request = approved_by(&["fay", "finn", "carla"]);
    request.evidence.approvals.push(says("carla-2", &large(), Decision::Reject, LATER));
    assert!(matches!(verdict(&request), Err(Refusal::Approval(ApprovalError::Rejected(_)))));
}

#[test]
fn an_approval_expires_unless_the_intent_was_agreed_to_before() {
    let mut request = approved_by(&["fay", "finn"]);
    let short = says("carla", &large(), Decision::Approve, NOW / 1000);
    request.evidence.approvals.push(short);
    assert_eq!(verdict(&request), Ok(()));
    let later = |_| NOW + 2_000;
    assert!(matches!(
        treasury().judge(&request, later).map(drop),
        Err(Refusal::Approval(ApprovalError::Expired { at, .. })) if at == NOW / 1000
    ));
}

#[test]
fn an_approval_is_for_one_intent() {
    // The same approvals under another payment, another key, another amount, and for another who asks.
    let approvals = approved_by(&["fay", "finn", "carla"]).evidence.approvals;
    for intent in [pays("sol", "native", SOL_PAYEE, "1001"), pays("sol", "native", SOL_PAYEE, "10000")] {
        let mut other = request(&intent, built(&intent));
        other.evidence.approvals.clone_from(&approvals);
        assert!(matches!(verdict(&other), Err(Refusal::Approval(ApprovalError::OtherIntent(_)))));
    }
    let trader = "trader".parse().expect("a name");
    let original = large();
    let subject = Subject { intent: intent_of(&original), initiator: &trader, body: b"another body" };
    let statement = Statement::about(&subject, Decision::Approve, LATER);
    let mut request = original;
    request.evidence.approvals = vec![Approval::sign("fay".parse().expect("a name"), &statement, &key(11))];
    assert!(matches!(verdict(&request), Err(Refusal::Approval(ApprovalError::OtherIntent(_)))));
}

#[test]
fn nothing_but_the_exact_statement_under_the_right_key_counts() {
    let good = approved_by(&["fay", "finn", "carla"]);
    let spoiled = |spoil: &dyn Fn(&mut Approval)| {
        let mut request = good.clone();
        spoil(&mut request.evidence.approvals[0]);
        verdict(&request)
    };
    for at in 0..good.evidence.approvals[0].payload.len() {
        assert!(spoiled(&|approval| approval.payload[at] ^= 1).is_err(), "payload {at}");
    }
    for at in 0..64 {
        let flip = |approval: &mut Approval| match &mut approval.signature {
            Proof::Ed25519(signature) => signature[at] ^= 1,
            Proof::Passkey(_) => unreachable!("signed by a key"),
        };
        assert!(spoiled(&flip).is_err(), "signature {at}");
    }
    assert!(spoiled(&|approval| approval.approver = "finn".parse().expect("a name")).is_err());
    assert!(spoiled(&|approval| approval.approver = "operator".parse().expect("a name")).is_err());
    assert!(spoiled(&|approval| approval.approver = "nobody".parse().expect("a name")).is_err());
    // A statement spelled in another way, under a right signature.
    let respelled = |approval: &mut Approval| {
        approval.payload.push(b' ');
        let signature = ed25519_dalek::Signer::sign(&key(11), &pre_authentication(&approval.payload));
        approval.signature = Proof::Ed25519(signature.to_bytes().to_vec());
    };
    assert!(matches!(spoiled(&respelled), Err(Refusal::Approval(ApprovalError::Statement(_)))));
    // A signature over the payload alone, without its type.
    let untyped = |approval: &mut Approval| {
        let signature = ed25519_dalek::Signer::sign(&key(11), &approval.payload);
        approval.signature = Proof::Ed25519(signature.to_bytes().to_vec());
    };
    assert!(matches!(spoiled(&untyped), Err(Refusal::Approval(ApprovalError::Signature(_)))));
    let crowd = approved_by(&["fay"; 65]);
    assert_eq!(verdict(&crowd), Err(Refusal::Approval(ApprovalError::TooMany)));
}

/// An answer of an authenticator, as W3C Web Authentication, section 7.2, has it.
struct Answer {
    kind: &'static str,
    origin: &'static str,
    relying_party: &'static str,
    challenge: Vec<u8>,
    flags: u8,
    seed: u8,
}

impl Answer {
    fn to(payload: &[u8]) -> Self {
        let challenge = Sha256::digest(pre_authentication(payload)).to_vec();
        Self { kind: "webauthn.get", origin: ORIGIN, relying_party: RELYING_PARTY, challenge, flags: 0x05, seed: 7 }
    }

    fn assertion(&self) -> Assertion {
        let challenge = URL_SAFE_NO_PAD.encode(&self.challenge);
        let client_data =
            json!({ "type": self.kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false });
        let client_data = client_data.to_string().into_bytes();
        let authenticator_data = [Sha256::digest(self.relying_party).as_slice(), &[self.flags], &[0, 0, 0, 9]].concat();
        let signed = [authenticator_data.as_slice(), Sha256::digest(&client_data).as_slice()].concat();
        let signature: p256::ecdsa::Signature = passkey(self.seed).sign(&signed);
        Assertion { authenticator_data, client_data, signature: signature.to_der().as_bytes().to_vec() }
    }
}

#[test]
fn a_passkey_approves_what_it_was_asked_for_and_nothing_else() {
    let with = |change: &dyn Fn(&mut Answer)| {
        let mut request = approved_by(&["pia", "finn", "carla"]);
        let approval = &mut request.evidence.approvals[0];
        let mut answer = Answer::to(&approval.payload);
        change(&mut answer);
        approval.signature = Proof::Passkey(answer.assertion());
        match verdict(&request) {
            Err(Refusal::Approval(ApprovalError::Passkey { source, .. })) => Err(source),
            Ok(()) => Ok(()),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(with(&|_| {}), Ok(()));
    assert_eq!(with(&|answer| answer.kind = "webauthn.create"), Err(PasskeyError::ClientData));
    assert_eq!(with(&|answer| answer.challenge[0] ^= 1), Err(PasskeyError::Challenge));
    assert_eq!(with(&|answer| answer.origin = "https://approve.example.com"), Err(PasskeyError::Origin));
    assert_eq!(with(&|answer| answer.relying_party = "example.com"), Err(PasskeyError::AuthenticatorData));
    assert_eq!(with(&|answer| answer.flags = 0x01), Err(PasskeyError::User), "present, not verified");
    assert_eq!(with(&|answer| answer.flags = 0x04), Err(PasskeyError::User), "verified, not present");
    assert_eq!(with(&|answer| answer.seed = 8), Err(PasskeyError::Signature), "another passkey");
    // Who has a passkey approves by nothing else.
    let pia = "pia".parse().expect("a name");
    let by_key = verdict(&approved_by(&["pia", "finn", "carla"]));
    assert_eq!(by_key, Err(Refusal::Approval(ApprovalError::PasskeyWanted(pia))));
}

#[test]
fn who_has_a_passkey_approves_by_nothing_else_under_any_credential() {
    let other: CredentialId = "pia-2".parse().expect("a name");
    let mut request = approved_by(&["pia-2", "finn", "carla"]);
    assert_eq!(verdict(&request), Err(Refusal::Approval(ApprovalError::PasskeyWanted(other.clone()))));
    // Nor does a rejection by the stolen key count, or a delegation.
    let rejects = says("pia-2", &request, Decision::Reject, LATER);
    let mut rejected = approved_by(&["fay", "finn", "carla"]);
    rejected.evidence.approvals.push(rejects);
    assert_eq!(verdict(&rejected), Err(Refusal::Approval(ApprovalError::PasskeyWanted(other))));
    // The person's passkey serves the credential under which none is listed.
    let approval = &mut request.evidence.approvals[0];
    approval.signature = Proof::Passkey(Answer::to(&approval.payload).assertion());
    assert_eq!(verdict(&request), Ok(()));
}

#[test]
fn groups_are_those_of_the_roster() {
    // Whoever is on no list of people approves nothing, whatever their role.
    let config = json!({ "rules": [{
        "id": "r", "wallets": ["sol"], "addresses": [SOL_PAYEE], "require": "1 of finance",
    }] });
    let request = approved_by(&["fay"]);
    let judged = guard_of(config, BTreeMap::new()).judge(&request, |_| NOW).map(drop);
    assert!(matches!(judged, Err(Refusal::Approval(ApprovalError::NotAnApprover(_)))));
    let nobody = BTreeMap::from([(
        "stranger".parse().expect("a name"),
        Approver { person: "x".parse().expect("a name"), groups: BTreeSet::new(), passkeys: Vec::new() },
    )]);
    assert!(Roster::new(Vec::new()).expect("empty").with_people(nobody).is_err());
}
