//! A signer whose directory went back in time is found out by the others.

use std::fs;
use std::path::Path;

use super::super::witness::{Memory, Witness};
use super::desk::{self, Desk, SOL_PAYEE, pays};
use super::*;

pub(super) fn key() -> KeyId {
    SchemeId::Ed25519.name().parse().unwrap()
}

/// A payment that two signers sign together.
pub(super) fn pay(signers: &Signers, desk: &Desk, pair: [&str; 2], number: u32) -> Vec<Result<Answer, Stop>> {
    let session = fresh_session();
    let request = desk.request(number.into(), &pays("sol", "native", SOL_PAYEE, 1_000 + u64::from(number)), number);
    let request = serde_json::to_vec(&request).unwrap();
    let start = |name: &&str| {
        let command = Command::Sign { session, participants: ids(&pair), epoch: 1, request: request.clone() };
        signers.node(name).carry_out(command)
    };
    let mut answers = pair.iter().map(start).collect::<Vec<_>>();
    for round in 1..=2 {
        let mut letters = Vec::new();
        for answer in &answers {
            let Ok(Answer::Letters { letters: sent, .. }) = answer else { return answers };
            letters.extend(sent.clone());
        }
        let go_on = |name: &&str| {
            let letters = letters.iter().filter(|letter| letter.to.as_str() == *name).cloned().collect();
            signers.node(name).carry_out(Command::Round { session, round, letters })
        };
        answers = pair.iter().map(go_on).collect();
    }
    answers
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Stops a signer, has `meddle` at its directory, and starts it again.
pub(super) fn restart(signers: &mut Signers, desk: &Desk, name: &str, meddle: impl FnOnce(&Path)) {
    let place = signers.nodes.iter().position(|node| node.id.as_str() == name).unwrap();
    drop(signers.nodes.remove(place));
    meddle(&signers.dir.path().join(name));
    let node = open(signers.dir.path(), name);
    desk.install(&node);
    signers.nodes.insert(place, node);
}

#[test]
fn a_signer_restored_from_an_old_copy_is_refused_by_the_others() {
    let (mut signers, desk) = desk::open_for_business(&[SchemeId::Ed25519]);
    let backup = tempfile::tempdir().unwrap();
    assert!(pay(&signers, &desk, ["a", "b"], 1).iter().all(signed));
    restart(&mut signers, &desk, "a", |dir| copy(dir, backup.path()));
    for number in 2..5 {
        assert!(pay(&signers, &desk, ["a", "b"], number).iter().all(signed), "a restart alone is no offence");
        restart(&mut signers, &desk, "a", |_| ());
    }

    restart(&mut signers, &desk, "a", |dir| {
        fs::remove_dir_all(dir).unwrap();
        copy(backup.path(), dir);
    });
    let answers = pay(&signers, &desk, ["a", "b"], 5);
    assert_eq!(blamed(&answers[1]), Some("a"));
    assert!(matches!(&answers[1], Err(Stop::Fault { reason, .. }) if reason.contains("refresh")));
    // It stays so when the witness starts again; another that never met it cannot know.
    restart(&mut signers, &desk, "b", |_| ());
    assert_eq!(blamed(&pay(&signers, &desk, ["b", "a"], 6)[0]), Some("a"));
    assert!(pay(&signers, &desk, ["b", "c"], 7).iter().all(signed), "the others go on");
}

/// What is known of a signer with one key speaks against it with another, with which it was last seen long before.
#[test]
fn what_a_signer_has_lost_it_has_lost_for_every_key() {
    const OTHER: SchemeId = SchemeId::Taproot;
    let (mut signers, desk) = desk::open_for_business(&[SchemeId::Ed25519, OTHER]);
    let prove_other = |signers: &Signers, pair: [&str; 2]| {
        let (session, key) = (fresh_session(), OTHER.name().parse::<KeyId>().unwrap());
        super::rekey::drive(signers, session, &pair, || Command::Prove {
            session,
            key: key.clone(),
            epoch: 1,
            participants: ids(&pair),
        })
    };
    assert!(prove_other(&signers, ["a", "b"]).iter().all(signed));
    let backup = tempfile::tempdir().unwrap();
    assert!(pay(&signers, &desk, ["a", "b"], 1).iter().all(signed));
    restart(&mut signers, &desk, "a", |dir| copy(dir, backup.path()));
    for number in 2..5 {
        assert!(pay(&signers, &desk, ["a", "b"], number).iter().all(signed));
    }
    restart(&mut signers, &desk, "a", |dir| {
        fs::remove_dir_all(dir).unwrap();
        copy(backup.path(), dir);
    });
    for _ in 0..2 {
        let answers = prove_other(&signers, ["b", "a"]);
        assert_eq!(blamed(&answers[0]), Some("a"));
        assert!(matches!(&answers[0], Err(Stop::Fault { reason, .. }) if reason.contains("refresh")));
        restart(&mut signers, &desk, "b", |_| ());
    }
    assert!(prove_other(&signers, ["b", "c"]).iter().all(signed), "the others go on");

    // A refresh of one key tells it all that it has forgotten, and it has one ledger for all keys.
    super::recall::refresh(&signers, 2);
    for name in ["a", "b"] {
        assert!(prove_other(&signers, ["b", "a"]).iter().all(signed), "it has been told");
        restart(&mut signers, &desk, name, |_| ());
    }
    assert!(prove_other(&signers, ["b", "a"]).iter().all(signed));
}

#[test]
fn what_is_remembered_is_of_all_keys_until_it_was_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledgers.json");
    let a = &ids(&["a"])[0];
    let starts_with = |entries: u64| Witness::open(&dir.path().join("none"), entries).unwrap();
    let hears = |witness: &Witness, epoch, told: Memory| witness.hear(&key(), epoch, a, told).unwrap().is_ok();

    let witness = Witness::open(&path, 0).unwrap();
    let (first, second) = (starts_with(10), starts_with(12));
    assert!(hears(&witness, 1, first.own(12)));
    assert!(hears(&witness, 1, first.own(11)), "an overtaken letter");
    assert!(hears(&witness, 1, second.own(12)) && hears(&witness, 1, second.own(5_000)));
    assert!(!hears(&witness, 1, second.own(12)), "no letter is overtaken by that many");
    assert!(!hears(&witness, 1, starts_with(4_999).own(9_000)), "one entry is lost");
    drop(witness);
    let witness = Witness::open(&path, 0).unwrap();
    assert!(!hears(&witness, 1, starts_with(4_999).own(9_000)), "it is on the disk");
    assert!(!hears(&witness, 2, starts_with(1).own(1)), "a signer has one ledger for all epochs, and all keys");
    let restored = starts_with(60);
    witness.readmit(a, restored.own(60)).unwrap();
    assert!(hears(&witness, 2, restored.own(61)) && hears(&witness, 2, starts_with(61).own(61)));
    assert!(!hears(&witness, 3, starts_with(60).own(100)), "what it was told counts from there on");
    assert!(!hears(&witness, 1, restored.own(100)), "what it was refused for is refused still");
    assert!(hears(&witness, 1, starts_with(5_000).own(5_000)));

    // What a crash forgets is bounded: nothing is dropped here, so nothing is saved at the end.
    let witness = std::mem::ManuallyDrop::new(Witness::open(&path, 0).unwrap());
    let process = starts_with(5_000);
    (5_000..6_000).for_each(|entries| assert!(hears(&witness, 1, process.own(entries))));
    let after_the_crash = Witness::open(&path, 0).unwrap();
    assert!(!hears(&after_the_crash, 1, starts_with(5_960).own(5_960)));
}
