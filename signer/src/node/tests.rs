//! Signers face to face, without a pool: what they accept from each other and from whoever carries their letters.

mod attack;
mod desk;
mod fields;
mod limits;
mod nonces;
mod recall;
mod rekey;
mod witness;

use std::path::Path;

use super::*;
use crate::protocol::Letter;
use crate::request::SigningRequest;
use crate::scheme::tests::deal;
use crate::seal::testing::TestSeal;
use crate::session::fresh_session;

const NAMES: [&str; 3] = ["a", "b", "c"];

struct Signers {
    dir: tempfile::TempDir,
    nodes: Vec<Node>,
}

fn ids(names: &[&str]) -> Vec<SignerId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn key() -> KeyId {
    "main".parse().unwrap()
}

fn open(dir: &Path, name: &str) -> Node {
    Node::open(name.parse().unwrap(), dir.join(name), Arc::new(TestSeal([3; 32])), 2).unwrap()
}

impl Signers {
    /// Three signers that know each other and hold a 2-of-3 key.
    fn with(scheme: SchemeId) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nodes = NAMES.map(|name| open(dir.path(), name)).into_iter().collect::<Vec<_>>();
        let signers = Self { dir, nodes };
        signers.join();
        for (node, share) in signers.nodes.iter().zip(deal(scheme, 2, 3).into_values()) {
            let (key, participants, group) = (key(), ids(&NAMES), share.group());
            let info = KeyInfo { key, scheme, epoch: 1, threshold: 2, participants, group };
            let held = node.vault.put(&info, &share).unwrap();
            node.keys.write().unwrap().insert(info.key, held);
            assert!(matches!(node.carry_out(Command::Activate { key: self::key(), epoch: 1 }), Ok(Answer::Done)));
        }
        signers
    }

    fn join(&self) {
        let peers = self.nodes.iter().map(|node| Peer { id: node.id.clone(), key: node.identity.public() });
        let peers = peers.collect::<Vec<_>>();
        for node in &self.nodes {
            assert!(matches!(node.carry_out(Command::Join { peers: peers.clone() }), Ok(Answer::Done)));
        }
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.id.as_str() == name).unwrap()
    }

    fn reopen(mut self) -> Self {
        self.nodes.clear();
        self.nodes = NAMES.map(|name| open(self.dir.path(), name)).into_iter().collect();
        self
    }

    /// Has two signers prove the key. `meddle` sees every letter on its way, with the round.
    fn prove(&self, pair: [&str; 2], meddle: impl Fn(u32, &mut SealedLetter)) -> Vec<Result<Answer, Stop>> {
        let session = fresh_session();
        self.prove_in(session, pair, meddle)
    }

    fn prove_in(
        &self,
        session: SessionId,
        pair: [&str; 2],
        meddle: impl Fn(u32, &mut SealedLetter),
    ) -> Vec<Result<Answer, Stop>> {
        let start = || prove(session, &pair);
        let mut answers = pair.iter().map(|name| self.node(name).carry_out(start())).collect::<Vec<_>>();
        loop {
            let mut letters = Vec::new();
            let mut round = 0;
            for answer in &answers {
                match answer {
                    Ok(Answer::Letters { round: at, letters: sent }) => {
                        round = *at;
                        letters.extend(sent.clone());
                    }
                    _ => return answers,
                }
            }
            letters.iter_mut().for_each(|letter| meddle(round, letter));
            let command = |name: &&str| {
                let letters = letters.iter().filter(|letter| letter.to.as_str() == *name).cloned().collect();
                self.node(name).carry_out(Command::Round { session, round, letters })
            };
            answers = pair.iter().map(command).collect();
        }
    }

    /// Opens a letter with its sender's own key, changes it and seals it again: what a cheating sender can do.
    fn cheat(&self, session: SessionId, pair: [&str; 2], round: u32, letter: &mut SealedLetter) {
        let info = self.node(pair[0]).share(&key()).ok().unwrap().0;
        let what = [(KeyPath::root(), proof_message(&info).unwrap())];
        let context = context(session, "prove", &(&info, ids(&pair).as_slice()), &what).ok().unwrap();
        let (from, to) = (self.node(letter.from.as_str()), self.node(letter.to.as_str()));
        let [sender, receiver] = [from, to].map(|node| info.party(&node.id).unwrap());
        // The link's key is the same at both ends; only the direction is bound.
        let reader = to.identity.link(&from.identity.public(), context, receiver, sender);
        let Letter { mut broadcast, mut directed } = reader.open(round, &letter.sealed).unwrap();
        let bytes = if broadcast.len() > directed.len() { &mut broadcast } else { &mut *directed };
        let position = bytes.len() * 9 / 10;
        bytes[position] ^= 1;
        let writer = from.identity.link(&to.identity.public(), context, sender, receiver);
        letter.sealed = writer.seal(round, &Letter { broadcast, directed }).unwrap();
    }
}

fn prove(session: SessionId, pair: &[&str]) -> Command {
    Command::Prove { session, key: key(), epoch: 1, participants: ids(pair) }
}

fn signed(answer: &Result<Answer, Stop>) -> bool {
    matches!(answer, Ok(Answer::Signed(signatures)) if signatures.len() == 1)
}

fn blamed(answer: &Result<Answer, Stop>) -> Option<&str> {
    match answer {
        Err(Stop::Fault { culprit, .. }) => culprit.as_ref().map(SignerId::as_str),
        _ => None,
    }
}

fn refused(answer: Result<Answer, Stop>) -> bool {
    matches!(answer, Err(Stop::Refused(_)))
}

#[test]
fn any_two_prove_the_key_after_a_restart_too() {
    for scheme in SchemeId::ALL {
        let signers = Signers::with(scheme).reopen();
        for pair in [["a", "b"], ["b", "c"], ["c", "a"]] {
            let answers = signers.prove(pair, |_, _| ());
            assert!(answers.iter().all(signed), "{scheme} {pair:?}");
        }
    }
}

#[test]
fn a_carrier_that_alters_a_letter_gets_no_signature() {
    for scheme in [SchemeId::Taproot, SchemeId::Ed25519] {
        let signers = Signers::with(scheme);
        for target in 1..=2 {
            let answers = signers.prove(["a", "b"], |round, letter| {
                if round == target && letter.from.as_str() == "a" {
                    letter.sealed[20] ^= 1;
                }
            });
            assert_eq!(blamed(&answers[1]), Some("a"));
        }
        let answers = signers.prove(["a", "b"], |_, letter| letter.from = "c".parse().unwrap());
        assert_eq!((blamed(&answers[0]), blamed(&answers[1])), (Some("b"), Some("a")), "a stranger's letter is none");
        assert!(signers.prove(["a", "b"], |_, _| ()).iter().all(signed));
    }
}

#[test]
fn a_cheating_signer_is_named_by_the_other() {
    for scheme in SchemeId::ALL {
        let rounds = if scheme == SchemeId::Ecdsa { 3 } else { 2 };
        for target in 1..=rounds {
            let (signers, session) = (Signers::with(scheme), fresh_session());
            let answers = signers.prove_in(session, ["a", "b"], |round, letter| {
                if round == target && letter.from.as_str() == "a" {
                    signers.cheat(session, ["a", "b"], round, letter);
                }
            });
            assert!(!signed(&answers[1]));
            assert_eq!(blamed(&answers[1]), Some("a"), "{scheme}, round {target}");
        }
    }
}

/// Failing the consistency check of the oblivious transfers is a ban, and a ban is for good.
#[test]
fn who_fails_the_consistency_check_is_banned_for_good() {
    let (signers, session) = (Signers::with(SchemeId::Ecdsa), fresh_session());
    signers.prove_in(session, ["a", "b"], |round, letter| {
        if round == 1 && letter.from.as_str() == "a" {
            signers.cheat(session, ["a", "b"], round, letter);
        }
    });
    let signers = signers.reopen();
    assert!(signers.node("b").bans.reason(&ids(&["a"])[0]).is_some());
    let answers = signers.prove(["a", "b"], |_, _| ());
    assert_eq!(blamed(&answers[1]), Some("a"));
    assert!(signers.prove(["b", "c"], |_, _| ()).iter().all(signed), "with the other it goes on");
}

/// The letters with which `a` cheats `b` in a session that stands right before its first check at `b`.
fn before_the_check(signers: &Signers, cheats: bool) -> (SessionId, Vec<SealedLetter>) {
    let (session, pair) = (fresh_session(), ["a", "b"]);
    let [from_a, from_b] = pair.map(|name| signers.node(name).carry_out(prove(session, &pair)));
    let (Ok(Answer::Letters { mut letters, .. }), Ok(Answer::Letters { .. })) = (from_a, from_b) else {
        panic!("both take part")
    };
    if cheats {
        letters.iter_mut().for_each(|letter| signers.cheat(session, pair, 1, letter));
    }
    (session, letters)
}

fn reason(answer: &Result<Answer, Stop>) -> &str {
    match answer {
        Err(Stop::Fault { reason, .. }) => reason,
        _ => "",
    }
}

/// Otherwise each of many sessions under way would tell the culprit one more bit of the state that they share.
#[test]
fn a_ban_ends_the_sessions_under_way_with_the_culprit() {
    let signers = Signers::with(SchemeId::Ecdsa);
    let b = signers.node("b");
    let answer =
        |(session, letters): (SessionId, Vec<SealedLetter>)| b.carry_out(Command::Round { session, round: 1, letters });
    let [honest, late] = [false, false].map(|cheats| before_the_check(&signers, cheats));
    let session = honest.0;
    let Ok(Answer::Letters { letters, .. }) = answer(honest) else { panic!("it goes on") };
    assert!(letters.iter().all(|letter| letter.to.as_str() == "a"));
    let with_c = fresh_session();
    let from_c = signers.node("c").carry_out(prove(with_c, &["b", "c"]));
    assert!(b.carry_out(prove(with_c, &["b", "c"])).is_ok());

    let caught = answer(before_the_check(&signers, true));
    assert!(blamed(&caught) == Some("a") && !reason(&caught).starts_with("banned"), "{}", reason(&caught));
    let second = b.carry_out(Command::Round { session, round: 2, letters: Vec::new() });
    for ended in [answer(late), second] {
        assert!(blamed(&ended) == Some("a") && reason(&ended).starts_with("banned"), "{}", reason(&ended));
    }
    let Ok(Answer::Letters { letters, .. }) = from_c else { panic!("c takes part") };
    let with_c = b.carry_out(Command::Round { session: with_c, round: 1, letters });
    assert!(matches!(with_c, Ok(Answer::Letters { round: 2, .. })), "with the other it goes on");
}

/// Sessions that are checked at the same moment tell no more than one.
#[test]
fn of_many_cheats_at_once_one_is_answered() {
    const AT_ONCE: usize = 8;
    let signers = Signers::with(SchemeId::Ecdsa);
    let cheats = (0..AT_ONCE).map(|_| before_the_check(&signers, true)).collect::<Vec<_>>();
    let (b, ready) = (signers.node("b"), std::sync::Barrier::new(AT_ONCE));
    let answer = |(session, letters)| {
        ready.wait();
        b.carry_out(Command::Round { session, round: 1, letters })
    };
    let answer = &answer;
    let answers = std::thread::scope(|scope| {
        let threads = cheats.into_iter().map(|cheat| scope.spawn(move || answer(cheat))).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(answers.iter().all(|answer| blamed(answer) == Some("a")));
    let caught = answers.iter().filter(|answer| !reason(answer).starts_with("banned")).count();
    assert_eq!(caught, 1, "the others are not checked any more");
}

/// A check that ends in a ban has to end before the next one begins. Whatever can't end in one waits for nobody.
#[test]
fn letters_of_a_peer_are_checked_one_session_at_a_time() {
    let (signers, frost) = (Signers::with(SchemeId::Ecdsa), Signers::with(SchemeId::Ed25519));
    let (b, (session, letters)) = (signers.node("b"), before_the_check(&signers, false));
    let [check, frosts] = [b, frost.node("b")].map(|b| b.checks.begin(ids(&["a"]).into_iter().collect()));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| b.carry_out(Command::Round { session, round: 1, letters }));
        assert!(frost.prove(["a", "b"], |_, _| ()).iter().all(signed), "no ban comes of these");
        assert!(signers.prove(["b", "c"], |_, _| ()).iter().all(signed), "the check is with another");
        assert!(matches!(b.carry_out(prove(fresh_session(), &["a", "b"])), Ok(Answer::Letters { .. })));
        assert!(!waits.is_finished());
        drop((check, frosts));
        assert!(matches!(waits.join().unwrap(), Ok(Answer::Letters { round: 2, .. })));
    });
}

#[test]
fn sessions_are_for_once_and_rounds_come_in_order() {
    let signers = Signers::with(SchemeId::Ed25519);
    let (session, b) = (fresh_session(), signers.node("b"));
    assert!(matches!(b.carry_out(prove(session, &["a", "b"])), Ok(Answer::Letters { round: 1, .. })));
    let failed = |command: Command| matches!(b.carry_out(command), Err(Stop::Failed(_)));
    assert!(failed(prove(session, &["a", "b"])), "the id is taken");
    assert!(failed(Command::Round { session, round: 2, letters: Vec::new() }), "round 1 is due");
    assert!(failed(Command::Round { session: fresh_session(), round: 1, letters: Vec::new() }), "no such session");
    // None of that did the session harm.
    let Ok(Answer::Letters { letters, .. }) = signers.node("a").carry_out(prove(session, &["a", "b"])) else {
        panic!("a takes part")
    };
    let next = b.carry_out(Command::Round { session, round: 1, letters: letters.clone() });
    assert!(matches!(next, Ok(Answer::Letters { round: 2, .. })));
    assert!(failed(Command::Round { session, round: 1, letters: letters.clone() }), "a replay");
    // Letters of round 1 are none of round 2.
    assert_eq!(blamed(&b.carry_out(Command::Round { session, round: 2, letters })), Some("a"));
    assert!(failed(Command::Round { session, round: 2, letters: Vec::new() }), "the session is over");
    assert!(matches!(b.carry_out(Command::Abandon { session }), Ok(Answer::Done)));
    assert!(failed(prove(session, &["a", "b"])), "an ended session does not start over");
}

/// Signers that were told different participants cannot read each other.
#[test]
fn signers_that_disagree_about_the_session_cannot_read_each_other() {
    let signers = Signers::with(SchemeId::Ed25519);
    let session = fresh_session();
    let (a, b) = (signers.node("a"), signers.node("b"));
    let Ok(Answer::Letters { letters, .. }) = a.carry_out(prove(session, &["a", "b"])) else { panic!("a takes part") };
    assert!(b.carry_out(prove(session, &["b", "a"])).is_ok());
    assert_eq!(blamed(&b.carry_out(Command::Round { session, round: 1, letters })), Some("a"));
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let signers = Signers::with(SchemeId::Ed25519);
    let b = signers.node("b");
    let session = fresh_session;
    for participants in [&["a", "c"][..], &["b"], &["a", "b", "c"], &["b", "x"], &["a", "a", "b"]] {
        assert!(refused(b.carry_out(prove(session(), participants))), "{participants:?}");
    }
    let participants = ids(&["a", "b"]);
    let other = Command::Prove { session: session(), key: key(), epoch: 2, participants: participants.clone() };
    assert!(refused(b.carry_out(other)), "another epoch");
    let unknown = "unknown".parse().unwrap();
    let other = Command::Prove { session: session(), key: unknown, epoch: 1, participants: participants.clone() };
    assert!(refused(b.carry_out(other)), "another key");
    let scheme = SchemeId::Ed25519;
    let again = Command::Generate { session: session(), key: key(), scheme, epoch: 1, participants };
    assert!(refused(b.carry_out(again)), "the key exists");
    assert!(refused(b.carry_out(Command::Discard { key: key(), epoch: 1 })), "a usable key stays");
    assert!(refused(b.carry_out(Command::Activate { key: key(), epoch: 7 })));
    let request =
        Command::Sign { session: session(), participants: ids(&["a", "b"]), epoch: 1, request: b"{}".to_vec() };
    assert!(refused(b.carry_out(request)), "no policy is installed");
    for bytes in [&[][..], &[0], &[1, 200], &[2, 0]] {
        assert!(matches!(wire::from_bytes(&b.answer(bytes)), Some(Answer::Refused(_))), "{bytes:?}");
    }
    assert!(matches!(wire::from_bytes(&b.answer(&wire::to_bytes(&Command::Hello))), Some(Answer::Identity(_))));
}
