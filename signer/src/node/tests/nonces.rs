//! Signers that are killed at every step of a signature never show a nonce twice.

use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::node::wire::HeldKey;
use crate::protocol::decode_owned;
use crate::tests::{Dice, cases};

/// How many runs the default test has; `just attack` sets `CASES` to 10000 and more.
const RUNS: u64 = 120;

/// Where in a run the signer `a` is killed and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// With nonces in stock, before it is asked.
    Ready,
    /// In the middle of writing its nonce journal.
    Journal,
    /// Its commitments are out.
    Committed,
    /// Its share of the signature is out, the other's has not come.
    Shared,
    /// The signature is there.
    Done,
    /// Not at all.
    Never,
}

const KILLS: [Kill; 6] = [Kill::Ready, Kill::Journal, Kill::Committed, Kill::Shared, Kill::Done, Kill::Never];

/// Everything that left the signers.
#[derive(Default)]
struct Scan {
    commitments: HashSet<Vec<u8>>,
    /// The `R` of each signature.
    nonces: HashSet<Vec<u8>>,
    /// By signer and session, the commitments that the next share of a signature belongs to.
    open: BTreeMap<(SignerId, SessionId), Vec<u8>>,
}

impl Scan {
    /// Reads the answer of `name`: a commitment is seen once, and each is followed by one share at most.
    fn read(&mut self, signers: &Signers, session: SessionId, name: &str, answer: &Answer) {
        let me = signers.node(name).id.clone();
        match answer {
            Answer::Letters { round, letters } => {
                let [letter] = letters.as_slice() else { panic!("two parties, one letter") };
                let plain = signers.read(session, ["a", "b"], *round, letter).broadcast;
                match round {
                    1 => {
                        let (_, plain): (super::super::witness::Memory, Vec<u8>) = decode_owned(&plain).unwrap();
                        let commitments: Vec<Vec<u8>> = decode_owned(&plain).unwrap();
                        for commitment in commitments {
                            assert!(self.commitments.insert(commitment), "{me} repeats a nonce");
                        }
                        self.open.insert((me, session), plain.clone());
                    }
                    2 => assert!(self.open.remove(&(me, session)).is_some(), "a second share with one nonce"),
                    _ => panic!("FROST has two rounds"),
                }
            }
            Answer::Signed(signatures) => {
                for signature in signatures {
                    let (Signature::Ed25519(bytes) | Signature::Schnorr(bytes)) = signature.signature().unwrap() else {
                        panic!("a FROST signature")
                    };
                    // Both signers report the one signature.
                    if name == "a" {
                        assert!(self.nonces.insert(bytes[..32].to_vec()), "two signatures with one nonce");
                    }
                }
            }
            _ => panic!("nothing else is answered"),
        }
    }
}

impl Signers {
    fn kill(&mut self, name: &str) {
        let place = self.nodes.iter().position(|node| node.id.as_str() == name).unwrap();
        drop(self.nodes.remove(place));
        let node = open(self.dir.path(), name);
        assert!(held(&node).iter().all(|key| key.nonces == Some(0)), "no nonce outlives its process");
        self.nodes.insert(place, node);
    }

    fn read(&self, session: SessionId, pair: [&str; 2], round: u32, letter: &SealedLetter) -> Letter {
        let (info, _) = self.node(pair[0]).share(&key()).ok().unwrap();
        let what = [(KeyPath::root(), proof_message(&info).unwrap())];
        let context = context(session, "prove", &(&info, ids(&pair).as_slice()), &what).ok().unwrap();
        let (from, to) = (self.node(letter.from.as_str()), self.node(letter.to.as_str()));
        let [sender, receiver] = [from, to].map(|node| info.party(&node.id).unwrap());
        to.identity.link(&from.identity.public(), context, receiver, sender).open(round, &letter.sealed).unwrap()
    }
}

fn held(node: &Node) -> Vec<HeldKey> {
    match node.carry_out(Command::Keys) {
        Ok(Answer::Keys(keys)) => keys,
        _ => panic!("a signer tells its keys"),
    }
}

/// One signature of `a` and `b`, cut off at `kill`. After that whoever carries the letters delivers all of them again.
fn sign_and_kill(signers: &mut Signers, scan: &mut Scan, kill: Kill) {
    let session = fresh_session();
    if kill == Kill::Ready {
        signers.node("a").restock();
        assert!(held(signers.node("a")).iter().all(|key| key.nonces > Some(0)));
        signers.kill("a");
    }
    if kill == Kill::Journal {
        let torn = signers.dir.path().join("a").join("nonces.tmp");
        signers.kill("a");
        std::fs::write(torn, "1").unwrap();
    }
    let mut log = Vec::new();
    let mut step = |signers: &Signers, name: &str, command: Command| {
        let answer = signers.node(name).carry_out(command).ok().unwrap();
        scan.read(signers, session, name, &answer);
        if let Answer::Letters { round, letters } = &answer {
            log.push((*round, letters.clone()));
        }
        answer
    };
    let letters = |answer: &Answer| match answer {
        Answer::Letters { letters, .. } => letters.clone(),
        _ => Vec::new(),
    };
    let mut said = ["a", "b"].map(|name| step(signers, name, prove(session, &["a", "b"])));
    if kill == Kill::Committed {
        signers.kill("a");
    } else {
        let round = |letters| Command::Round { session, round: 1, letters };
        let a = step(signers, "a", round(letters(&said[1])));
        if kill == Kill::Shared {
            signers.kill("a");
        } else {
            let b = step(signers, "b", round(letters(&said[0])));
            said = [a, b];
            let round = |letters| Command::Round { session, round: 2, letters };
            let done = [("a", 1), ("b", 0)].map(|(name, of)| step(signers, name, round(letters(&said[of]))));
            assert!(done.iter().all(|answer| matches!(answer, Answer::Signed(_))));
            if kill == Kill::Done {
                signers.kill("a");
            }
        }
    }
    // The same session once more, with what was said in it before. A signer that was killed has forgotten the session, so
    // it takes part: with another nonce.
    if let Ok(answer) = signers.node("a").carry_out(prove(session, &["a", "b"])) {
        assert!(matches!(kill, Kill::Committed | Kill::Shared | Kill::Done), "{kill:?}: a session began twice");
        scan.read(signers, session, "a", &answer);
    }
    for (round, letters) in log {
        let to_a = letters.into_iter().filter(|letter| letter.to.as_str() == "a").collect::<Vec<_>>();
        if let (false, Ok(answer)) =
            (to_a.is_empty(), signers.node("a").carry_out(Command::Round { session, round, letters: to_a }))
        {
            scan.read(signers, session, "a", &answer);
        }
    }
    signers.nodes.iter().for_each(|node| drop(node.carry_out(Command::Abandon { session })));
    scan.open.clear();
}

#[test]
fn no_nonce_is_repeated_wherever_a_signer_is_killed() {
    let (runs, mut dice) = (cases(RUNS), Dice::new(3));
    for scheme in [SchemeId::Ed25519, SchemeId::Taproot] {
        let (mut signers, mut scan) = (Signers::with(scheme), Scan::default());
        for run in 0..runs / 2 {
            // Sometimes from the stock, sometimes made on the spot.
            for name in ["a", "b"].into_iter().take(dice.below(3)) {
                signers.node(name).restock();
            }
            // Each kind of kill in turn, so that none is left out by chance.
            let kill = KILLS[usize::try_from(run).unwrap() % KILLS.len()];
            sign_and_kill(&mut signers, &mut scan, kill);
        }
        let runs = usize::try_from(runs).unwrap();
        assert!(scan.commitments.len() >= runs && scan.nonces.len() >= runs / 6, "the scan saw what was sent");
    }
}

#[test]
fn nonces_are_burned_before_they_exist_and_never_written() {
    let signers = Signers::with(SchemeId::Ed25519);
    let a = signers.node("a");
    let mark = |signers: &Signers| -> u64 {
        let text = std::fs::read_to_string(signers.dir.path().join("a").join("nonces")).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    };
    assert_eq!((mark(&signers), held(a)[0].nonces), (0, Some(0)));
    (0..100).for_each(|_| assert!(a.restock()));
    assert_eq!(held(a)[0].nonces, Some(64), "full");
    assert!(mark(&signers) >= 64);
    assert!(signers.prove(["a", "b"], |_, _| ()).iter().all(signed));
    assert_eq!(held(a)[0].nonces, Some(63), "one nonce a signature");
    let before = mark(&signers);
    let signers = signers.reopen();
    assert_eq!(held(signers.node("a"))[0].nonces, Some(0), "dropped");
    assert!(signers.prove(["a", "b"], |_, _| ()).iter().all(signed));
    assert!(mark(&signers) > before, "ids go on where the burned ones end");
}

#[test]
fn a_signer_that_cannot_burn_does_not_sign() {
    let signers = Signers::with(SchemeId::Ed25519);
    // The journal's temporary file cannot be made where a directory has its name.
    std::fs::create_dir(signers.dir.path().join("a").join("nonces.tmp")).unwrap();
    assert!(signers.node("a").carry_out(prove(fresh_session(), &["a", "b"])).is_err());
    assert!(signers.prove(["b", "c"], |_, _| ()).iter().all(signed), "the others do");
}
