//! A signer that was restored from an old copy knows what it has forgotten, before it signs with another epoch.

use std::fs;
use std::path::Path;

use chains::chain::Slot;
use serde_json::{Value, json};

use super::desk::{self, Desk, SOL_PAYEE, pays};
use super::rekey::drive;
use super::witness::{copy, key, pay, restart};
use super::*;
use crate::ledger::LedgerError;
use crate::request::SigningRequest;

/// Payment `number`, built on one state of the chain or another.
fn payment(desk: &Desk, number: u32, state: u32) -> SigningRequest {
    desk.request(number.into(), &pays("sol", "native", SOL_PAYEE, 1_000 + u64::from(number)), state)
}

fn sign(signers: &Signers, pair: [&str; 2], epoch: u32, request: &SigningRequest) -> Vec<Result<Answer, Stop>> {
    let (session, request) = (fresh_session(), serde_json::to_vec(request).unwrap());
    drive(signers, session, &pair, || Command::Sign {
        session,
        participants: ids(&pair),
        epoch,
        request: request.clone(),
    })
}

fn why(answer: &Result<Answer, Stop>) -> &str {
    match answer {
        Err(Stop::Refused(reason)) => reason,
        _ => panic!("it should have refused"),
    }
}

/// Refreshes to `epoch` and has everybody go over.
pub(super) fn refresh(signers: &Signers, epoch: u32) {
    let session = fresh_session();
    let start = || Command::Refresh { session, key: key(), epoch, participants: ids(&NAMES) };
    for answer in drive(signers, session, &NAMES, start) {
        assert!(matches!(answer, Ok(Answer::Generated(_))));
    }
    for pair in [["a", "b"], ["b", "c"]] {
        let session = fresh_session();
        let start = || Command::Prove { session, key: key(), epoch, participants: ids(&pair) };
        assert!(drive(signers, session, &pair, start).iter().all(signed));
    }
    for node in &signers.nodes {
        assert!(matches!(node.carry_out(Command::Activate { key: key(), epoch }), Ok(Answer::Done)));
    }
}

/// Puts a signer's directory back to what it was.
fn restore(signers: &mut Signers, desk: &Desk, name: &str, backup: &Path) {
    restart(signers, desk, name, |dir| {
        fs::remove_dir_all(dir).unwrap();
        copy(backup, dir);
    });
}

fn ledger_of(signers: &Signers, name: &str) -> String {
    fs::read_to_string(signers.dir.path().join(name).join("ledger")).unwrap()
}

#[test]
fn a_restored_signer_knows_after_a_refresh_what_it_had_signed_for() {
    let (mut signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    let limit = json!({ "id": "cap", "wallets": ["sol"], "asset": "native", "window": "366d", "max_amount": "7900" });
    let desk = desk.with_limits(&Value::Array(vec![limit]));
    signers.nodes.iter().for_each(|node| desk.install(node));
    let backup = tempfile::tempdir().unwrap();
    assert!(pay(&signers, &desk, ["a", "b"], 1).iter().all(signed));
    restart(&mut signers, &desk, "a", |dir| copy(dir, backup.path()));
    for number in 2..5 {
        assert!(pay(&signers, &desk, ["a", "b"], number).iter().all(signed));
    }
    restore(&mut signers, &desk, "a", backup.path());
    assert_eq!(blamed(&pay(&signers, &desk, ["a", "b"], 5)[1]), Some("a"), "b remembers");
    // With one who doesn't, it signs for the same payment again: what the refresh has to end.
    assert!(sign(&signers, ["a", "c"], 1, &payment(&desk, 4, 104)).iter().all(signed));

    refresh(&signers, 2);
    assert!(ledger_of(&signers, "a").contains(r#""learnt":"b""#));
    assert!(!ledger_of(&signers, "b").contains("learnt") && !ledger_of(&signers, "c").contains("learnt"));
    for _ in 0..2 {
        for number in [2, 3] {
            // It alone and the one who plays along could have signed a second payment.
            let answers = sign(&signers, ["a", "c"], 2, &payment(&desk, number, 100 + number));
            assert!(why(&answers[0]).contains("doesn't exclude"), "{number}");
            let renamed = SigningRequest { tx: uuid::Uuid::from_u128(77), ..payment(&desk, number, 100 + number) };
            assert!(why(&sign(&signers, ["a", "c"], 2, &renamed)[0]).contains("the same intent"));
        }
        restart(&mut signers, &desk, "a", |_| ());
    }
    // What went on before goes on: the very bytes that it had signed, and other payments.
    assert!(sign(&signers, ["a", "b"], 2, &payment(&desk, 2, 2)).iter().all(signed));
    assert!(sign(&signers, ["b", "a"], 2, &payment(&desk, 6, 6)).iter().all(signed));
    // Of 7900 it counts 1001 to 1006, each once, though it has forgotten 1003; c has signed for 1004 alone.
    let answers = sign(&signers, ["a", "c"], 2, &payment(&desk, 900, 900));
    assert!(why(&answers[0]).contains("limit cap") && !matches!(answers[1], Err(Stop::Refused(_))));
}

#[test]
fn a_refresh_of_signers_that_remember_tells_nothing() {
    let (signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    for (number, pair) in [(1, ["a", "b"]), (2, ["b", "c"]), (3, ["c", "a"])] {
        assert!(pay(&signers, &desk, pair, number).iter().all(signed));
    }
    refresh(&signers, 2);
    for name in NAMES {
        assert!(!ledger_of(&signers, name).contains("learnt"), "{name}");
    }
    assert!(sign(&signers, ["a", "b"], 2, &payment(&desk, 4, 4)).iter().all(signed));
}

/// Several letters long, from both others, to two that have forgotten.
#[test]
fn a_long_ledger_is_told_in_pieces() {
    let (mut signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    assert!(pay(&signers, &desk, ["a", "b"], 1).iter().all(signed));
    assert!(pay(&signers, &desk, ["c", "b"], 2).iter().all(signed));
    let slots =
        |n: u32| -> std::collections::BTreeSet<Slot> { [format!("solana:localnet/{n}").parse().unwrap()].into() };
    for n in 0..5_000_u32 {
        let intent = crate::request::IntentId::try_from(format!("{n:064x}")).unwrap();
        let uses = crate::ledger::Uses { slots: slots(n), draws: Vec::new() };
        let unsigned = Sha256::digest(n.to_be_bytes()).into();
        let b = signers.node("b");
        b.ledger
            .lock()
            .unwrap()
            .burn(uuid::Uuid::from_u128(1_000 + u128::from(n)), intent, unsigned, &uses, 1)
            .unwrap()
            .settle()
            .unwrap();
    }
    for name in ["a", "c"] {
        restart(&mut signers, &desk, name, |dir| fs::remove_file(dir.join("ledger")).unwrap());
    }
    refresh(&signers, 2);
    for name in ["a", "c"] {
        let node = signers.node(name);
        let uses = crate::ledger::Uses { slots: slots(4_999), draws: Vec::new() };
        let intent = crate::request::IntentId::try_from("f".repeat(64)).unwrap();
        let taken = node.ledger.lock().unwrap().burn(uuid::Uuid::from_u128(1), intent, [9; 32], &uses, 1);
        assert!(matches!(taken, Err(LedgerError::SlotTaken { .. })), "{name}: {taken:?}");
        assert_eq!(ledger_of(&signers, name).lines().count(), 5_002, "{name}: each once, whoever told it");
    }
    assert!(sign(&signers, ["a", "c"], 2, &payment(&desk, 3, 3)).iter().all(signed));
}

/// A signer can make another look forgetful. That costs letters, and nothing else.
#[test]
fn a_signer_that_is_wrongly_said_to_have_forgotten_goes_on() {
    let (mut signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    assert!(pay(&signers, &desk, ["a", "b"], 1).iter().all(signed));
    restart(&mut signers, &desk, "b", |dir| {
        let path = dir.join("ledgers.json");
        let mut seen: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        seen["ed25519.1"]["a"]["entries"] = 1_000_000.into();
        fs::write(&path, seen.to_string()).unwrap();
    });
    refresh(&signers, 2);
    assert!(sign(&signers, ["a", "b"], 2, &payment(&desk, 2, 2)).iter().all(signed));
    assert!(sign(&signers, ["c", "a"], 2, &payment(&desk, 3, 3)).iter().all(signed));
}
