//! A malicious gateway and one colluding signer (t-1 of a 2-of-3 key) against two honest signers, over many generated
//! sequences of moves.
//!
//! The gateway says what it likes to whom it likes: requests under other names, with others' bytes, bodies or wallets;
//! several participant sets under one session; letters of any session in any order, several times; it abandons sessions,
//! opens their names again, and has signers restarted in the middle. The colluder plays along with its real share and its
//! real link key: it takes part in whatever it likes, with letters that open, and with commitments of others or its own
//! used again.
//!
//! What is checked after every answer of an honest signer, by reading along with the keys of all of them:
//! - it takes part only in bytes that the client asked for, once for each intent and slot, under one name;
//! - it never shows a nonce twice, and gives at most one share for each;
//! - every signature that comes out is of bytes that this signer agreed to.
//!
//! And the colluder tries to bend a share that it got onto another message: what comes out never verifies.

use std::collections::{BTreeMap, HashMap, HashSet};

use chains::payload::Message;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::witness::Memory;
use super::desk::{self, Desk};
use super::*;
use crate::protocol::{Outbox, Step, batch, decode_owned};
use crate::tests::{Dice, cases};

/// How many sequences the default test plays; `just attack` sets `CASES` to 100000.
const SEQUENCES: u64 = 600;
/// After so many sequences the signers are set up anew, with other keys.
const SEQUENCES_A_POOL: u64 = 500;
/// How many payments and letters the gateway keeps at hand.
const MEMORY: usize = 24;

/// One that the client asked for, with two transactions that both carry it out: only one of them may be signed.
struct Payment {
    requests: [SigningRequest; 2],
    messages: [Vec<(KeyPath, Message)>; 2],
    intent: Value,
}

/// A session at one honest signer, as the gateway sees it.
struct Open {
    node: &'static str,
    session: SessionId,
    participants: Vec<SignerId>,
    /// Which payment, which of its transactions.
    what: (usize, usize),
    round: u32,
    /// The colluder's own run, where it is of the party.
    colluder: Option<Colluder>,
    /// What this signer committed to, and whether it has given a share for it.
    commitment: Vec<u8>,
}

struct Colluder {
    run: Option<Run<Vec<Signature>>>,
    outbox: Outbox,
    link: Link,
}

/// What an honest signer has agreed to so far; it survives the signer's restarts, as the ledger does.
#[derive(Default)]
struct Agreed {
    /// By payment: under which name, for which of its transactions.
    payments: HashMap<usize, (Uuid, usize)>,
    names: HashMap<Uuid, usize>,
}

struct Arena {
    scheme: SchemeId,
    signers: Signers,
    desk: Desk,
    payments: Vec<Payment>,
    open: Vec<Open>,
    /// Letters on which the gateway has a hand: with the round they are from.
    letters: Vec<(SessionId, u32, SealedLetter)>,
    sessions: Vec<SessionId>,
    /// Commitments of honest signers that the colluder has read.
    read: Vec<Vec<u8>>,
    agreed: BTreeMap<&'static str, Agreed>,
    commitments: HashSet<Vec<u8>>,
    score: Score,
}

/// What happened, so that a run in which nothing happens is no proof.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    agreed: u64,
    refused: u64,
    faults: u64,
    failed: u64,
    shares: u64,
    signatures: u64,
    bent: u64,
    restarts: u64,
}

const HONEST: [&str; 2] = ["b", "c"];

impl Arena {
    fn new(scheme: SchemeId, score: Score) -> Self {
        let (signers, desk) = desk::open_for_business(&[scheme]);
        let agreed = HONEST.into_iter().map(|name| (name, Agreed::default())).collect();
        let (payments, open, letters, sessions, read) = Default::default();
        let commitments = HashSet::new();
        Self { scheme, signers, desk, payments, open, letters, sessions, read, agreed, commitments, score }
    }

    fn info(&self) -> KeyInfo {
        let key = self.scheme.name().parse().unwrap();
        self.signers.node("a").share(&key).ok().unwrap().0
    }

    /// The client asks for another payment.
    fn ask(&mut self) {
        let number = u32::try_from(self.payments.len()).unwrap();
        let amount = 10_000 + u64::from(number);
        let intent = match self.scheme {
            SchemeId::Ed25519 => desk::pays("sol", "native", desk::SOL_PAYEE, amount),
            SchemeId::Taproot => desk::pays("btc-taproot", "native", desk::BTC_PAYEE, amount),
            SchemeId::Ecdsa => panic!("the attack is on FROST keys"),
        };
        let request = |state| self.desk.request(u128::from(number) + 1, &intent, state);
        let requests = [request(2 * number + 1), request(2 * number + 2)];
        let guard = self.signers.node("b").guard.read().unwrap().clone().unwrap();
        let messages = requests.each_ref().map(|request| {
            let judged = guard.judge(request, |_| 0).unwrap();
            judged.payloads.iter().map(|payload| (payload.path().clone(), payload.message().clone())).collect()
        });
        self.payments.push(Payment { requests, messages, intent });
    }

    fn any_payment(&self, dice: &mut Dice) -> usize {
        let last = self.payments.len() - 1;
        last - dice.below(MEMORY.min(last + 1))
    }

    /// A request, mostly with something wrong with it; and what it would be for if it were right.
    fn request(&self, dice: &mut Dice) -> (SigningRequest, Option<(usize, usize)>) {
        let (number, version) = (self.any_payment(dice), dice.below(5) / 4);
        let mut request = self.payments[number].requests[version].clone();
        let other = &self.payments[self.any_payment(dice)];
        let what = Some((number, version));
        match dice.below(12) {
            // Another name, free or taken: it is up to the ledger.
            0 => request.tx = other.requests[0].tx,
            1 => request.tx = Uuid::from_u128(u128::from(dice.roll()) | 1 << 90),
            // The transaction of another payment.
            2 => request.unsigned = other.requests[dice.below(2)].unsigned.clone(),
            // The words of another payment.
            3 => request.evidence.request = other.requests[0].evidence.request.clone(),
            4 => request.evidence.request.body = other.requests[0].evidence.request.body.clone(),
            5 => request.evidence.request.token = other.requests[0].evidence.request.token.clone(),
            // Words that nobody signed.
            6 => {
                let mut intent = self.payments[number].intent.clone();
                intent["action"]["amount"] = json!("99000");
                request.evidence.request.body = self.desk.ask("more", &intent).body;
            }
            7 => {
                let mut flipped = request.clone();
                let at = dice.below(request.unsigned.len());
                flipped.unsigned[at] ^= 1 << dice.below(8);
                // What the intent leaves open, such as a block hash, makes another payment of it; `fields` looks at that.
                let guard = self.signers.node("b").guard.read().unwrap().clone().unwrap();
                if guard.judge(&flipped, |_| 0).is_err() {
                    request = flipped;
                }
            }
            _ => return (request, what),
        }
        // By chance, the other payment may have been the same.
        let words =
            |request: &SigningRequest| (request.evidence.clone(), request.unsigned.clone(), request.wallet.clone());
        let is =
            |(number, version): &(usize, usize)| words(&self.payments[*number].requests[*version]) == words(&request);
        let known = (0..self.payments.len()).rev().take(2 * MEMORY).flat_map(|number| [(number, 0), (number, 1)]);
        let what = known.into_iter().find(is);
        (request, what)
    }

    fn any_session(&mut self, dice: &mut Dice) -> SessionId {
        if !self.sessions.is_empty() && dice.once_in(3) {
            let last = self.sessions.len() - 1;
            return self.sessions[last - dice.below(MEMORY.min(last + 1))];
        }
        let session = fresh_session();
        self.sessions.push(session);
        session
    }

    /// Asks an honest signer to take part.
    fn start(&mut self, dice: &mut Dice) {
        let node = HONEST[dice.below(2)];
        let participants = match dice.below(10) {
            0..=3 => ids(&["a", node]),
            4 => ids(&[node, "a"]),
            5 | 6 => ids(&["b", "c"]),
            7 => ids(&["c", "b"]),
            8 => ids(&["a", "b", "c"]),
            _ => ids(&[node, node]),
        };
        let (request, what) = self.request(dice);
        let session = self.any_session(dice);
        let json = serde_json::to_vec(&request).unwrap();
        // There is one epoch; shares of another are asked for all the same.
        let epoch = if dice.once_in(12) { 2 } else { 1 };
        let command = Command::Sign { session, participants: participants.clone(), epoch, request: json };
        let answer = self.signers.node(node).carry_out(command);
        match answer {
            Ok(Answer::Letters { round: 1, letters }) => {
                assert_eq!(epoch, 1, "{node} has no shares of that epoch");
                let what = what.unwrap_or_else(|| panic!("{node} takes part in what nobody asked for: {request:?}"));
                self.agree(node, request.tx, what);
                let open = self.opened(node, session, participants, what, &letters);
                self.keep(session, 1, letters);
                self.open.retain(|known| (known.node, known.session) != (node, session));
                self.open.push(open);
                let surplus = self.open.len().saturating_sub(MEMORY);
                self.open.drain(..surplus);
            }
            Ok(_) => panic!("a session begins with letters"),
            Err(stop) => self.count(&stop),
        }
    }

    /// An honest signer agrees to a payment once: under one name, for one transaction.
    fn agree(&mut self, node: &'static str, tx: Uuid, (number, version): (usize, usize)) {
        let agreed = self.agreed.get_mut(node).unwrap();
        let before = *agreed.payments.entry(number).or_insert((tx, version));
        assert_eq!(before, (tx, version), "{node} agrees to one intent twice");
        assert_eq!(*agreed.names.entry(tx).or_insert(number), number, "{node} takes one name for two payments");
        self.score.agreed += 1;
    }

    fn opened(
        &mut self,
        node: &'static str,
        session: SessionId,
        participants: Vec<SignerId>,
        what: (usize, usize),
        letters: &[SealedLetter],
    ) -> Open {
        let [letter] = letters else { panic!("two parties, one letter") };
        let first = self.read_along(session, &participants, what, 1, letter);
        let (_, commitment): (Memory, Vec<u8>) = decode_owned(&first).unwrap();
        for commitment in decode_owned::<Vec<Vec<u8>>>(&commitment).unwrap() {
            assert!(self.commitments.insert(commitment), "{node} shows a nonce twice");
        }
        let colluder = (letter.to.as_str() == "a").then(|| {
            self.read.push(commitment.clone());
            self.collude(node, session, &participants, what)
        });
        Open { node, session, participants, what, round: 1, colluder, commitment }
    }

    fn context(&self, session: SessionId, participants: &[SignerId], (number, version): (usize, usize)) -> Context {
        let what = &self.payments[number].messages[version];
        context(session, "sign", &(&self.info(), participants), what).ok().unwrap()
    }

    /// The colluder's side of a session: its real share, its real link.
    fn collude(&self, node: &str, session: SessionId, participants: &[SignerId], what: (usize, usize)) -> Colluder {
        let info = self.info();
        let context = self.context(session, participants, what);
        let a = self.signers.node("a");
        let [me, peer] = [&a.id, &self.signers.node(node).id].map(|id| info.party(id).unwrap());
        let setup = Setup::new(me, &[me, peer], 2).unwrap();
        let (_, share) = a.share(&info.key).ok().unwrap();
        let runs = self.payments[what.0].messages[what.1].iter().enumerate().map(|(number, (path, message))| {
            share.sign(&setup, signing::sub_session(context, number), path, message).unwrap()
        });
        let run = batch(runs.collect(), vec![peer]);
        let Ok(Step::Continue(run, outbox)) = run.step(Inbox::default()) else { panic!("a first round") };
        let link = a.identity.link(&self.signers.node(node).identity.public(), context, me, peer);
        Colluder { run: Some(run), outbox, link }
    }

    /// Opens an honest signer's letter with its receiver's key.
    fn read_along(
        &self,
        session: SessionId,
        participants: &[SignerId],
        what: (usize, usize),
        round: u32,
        letter: &SealedLetter,
    ) -> Vec<u8> {
        let info = self.info();
        let (from, to) = (self.signers.node(letter.from.as_str()), self.signers.node(letter.to.as_str()));
        let [sender, receiver] = [from, to].map(|node| info.party(&node.id).unwrap());
        let link =
            to.identity.link(&from.identity.public(), self.context(session, participants, what), receiver, sender);
        link.open(round, &letter.sealed).unwrap().broadcast
    }

    fn keep(&mut self, session: SessionId, round: u32, letters: Vec<SealedLetter>) {
        self.letters.extend(letters.into_iter().map(|letter| (session, round, letter)));
        let surplus = self.letters.len().saturating_sub(2 * MEMORY);
        self.letters.drain(..surplus);
    }

    /// Letters for an honest signer in the round that is due.
    fn letters_for(&self, dice: &mut Dice, at: usize) -> Vec<SealedLetter> {
        let open = &self.open[at];
        let to = self.signers.node(open.node).id.clone();
        let Some(colluder) = &open.colluder else {
            // Between the honest two the gateway can only carry.
            let due = |(session, round, letter): &&(SessionId, u32, SealedLetter)| {
                *session == open.session && *round == open.round && letter.to == to
            };
            return self.letters.iter().rev().find(due).map(|(_, _, letter)| letter.clone()).into_iter().collect();
        };
        let peer = self.info().party(&to).unwrap();
        let mut letter = colluder.outbox.letter_to(peer);
        let colluders = self.signers.node("a").witness.own(dice.roll() % 4);
        match dice.below(8) {
            // Commitments that belong to others, or were used before.
            0 if open.round == 1 => letter.broadcast = self.read[dice.below(self.read.len())].clone(),
            // The signer's own commitments thrown back at it.
            1 if open.round == 1 => letter.broadcast.clone_from(&open.commitment),
            2 => {
                let at = dice.below(letter.broadcast.len());
                letter.broadcast[at] ^= 1 << dice.below(8);
            }
            _ => (),
        }
        if open.round == 1 {
            // It may tell what it likes of its ledger.
            letter.broadcast = crate::protocol::encode(&(colluders, letter.broadcast)).unwrap();
        }
        let sealed = colluder.link.seal(open.round, &letter).unwrap();
        vec![SealedLetter { from: "a".parse().unwrap(), to, sealed }]
    }

    /// Goes on with a session, in order or out of it.
    fn go_on(&mut self, dice: &mut Dice) {
        if self.open.is_empty() {
            return;
        }
        let last = self.open.len() - 1;
        let at = last - dice.below(3.min(last + 1));
        let mut round = self.open[at].round;
        let mut letters = self.letters_for(dice, at);
        match dice.below(10) {
            0 => round = u32::try_from(dice.below(4)).unwrap(),
            1 if !self.letters.is_empty() => {
                // A letter of another time, under its own name or another's.
                let (_, _, mut stray) = self.letters[dice.below(self.letters.len())].clone();
                if dice.once_in(2) {
                    stray.to = self.signers.node(self.open[at].node).id.clone();
                }
                letters.push(stray);
            }
            2 => letters = letters.iter().chain(&letters).cloned().collect(),
            3 => letters.clear(),
            _ => (),
        }
        let (node, session) = (self.open[at].node, self.open[at].session);
        let answer = self.signers.node(node).carry_out(Command::Round { session, round, letters });
        self.hear(dice, at, answer);
    }

    fn hear(&mut self, dice: &mut Dice, at: usize, answer: Result<Answer, Stop>) {
        let (node, session, what) = (self.open[at].node, self.open[at].session, self.open[at].what);
        match answer {
            Ok(Answer::Letters { round, letters }) => {
                assert_eq!((round, self.open[at].round), (2, 1), "{node} gives one share for one commitment");
                let participants = self.open[at].participants.clone();
                let [letter] = letters.as_slice() else { panic!("two parties, one letter") };
                let share = self.read_along(session, &participants, what, round, letter);
                self.score.shares += 1;
                self.open[at].round = 2;
                if let Some(colluder) = self.open[at].colluder.take() {
                    self.open[at].colluder = self.step_colluder(at, colluder, &share);
                }
                self.keep(session, round, letters);
            }
            Ok(Answer::Signed(signatures)) => {
                let info = self.info();
                let messages = &self.payments[what.0].messages[what.1];
                assert_eq!(signatures.len(), messages.len());
                for ((path, message), signature) in messages.iter().zip(signatures) {
                    let public_key = info.group.at(path).unwrap();
                    scheme::verify(&public_key, message, &signature.signature().unwrap()).unwrap();
                }
                self.score.signatures += 1;
                self.open.remove(at);
            }
            Ok(_) => panic!("{node} answers with something else"),
            Err(stop) => {
                self.count(&stop);
                // Some mistakes leave the session as it was; most end it.
                if matches!(stop, Stop::Fault { .. }) || dice.once_in(2) {
                    self.open.remove(at);
                }
            }
        }
    }

    /// The colluder takes the honest signer's commitments (kept from the first round) and makes its own share. Then it tries
    /// to bend the honest share onto another message.
    fn step_colluder(&mut self, at: usize, mut colluder: Colluder, share: &[u8]) -> Option<Colluder> {
        let open = &self.open[at];
        let info = self.info();
        let peer = info.party(&self.signers.node(open.node).id).unwrap();
        let inbox = |broadcast: &[u8], parts: usize| {
            let directed = crate::protocol::encode(&vec![Vec::<u8>::new(); parts]).unwrap();
            let letter = Letter { broadcast: broadcast.to_vec(), directed: directed.into() };
            Inbox::new(BTreeMap::from([(peer, letter)]))
        };
        let (number, version) = open.what;
        let messages = &self.payments[number].messages[version];
        let Ok(Step::Continue(run, outbox)) = colluder.run.take()?.step(inbox(&open.commitment, messages.len())) else {
            return None;
        };
        // What the colluder could make of it: its own run for *another* message, fed with the honest side's numbers.
        let other = (number, 1 - version);
        let Colluder { run: Some(bent), .. } = self.collude(open.node, open.session, &open.participants, other) else {
            return None;
        };
        let parts = self.payments[number].messages[other.1].len();
        if let (true, Ok(Step::Continue(bent, _))) =
            (parts == messages.len(), bent.step(inbox(&open.commitment, parts)))
        {
            assert!(bent.step(inbox(share, parts)).is_err(), "a share was bent onto another message");
            self.score.bent += 1;
        }
        Some(Colluder { run: Some(run), outbox, link: colluder.link })
    }

    fn count(&mut self, stop: &Stop) {
        match stop {
            Stop::Refused(_) | Stop::StalePolicy => self.score.refused += 1,
            Stop::Fault { .. } => self.score.faults += 1,
            Stop::Failed(_) => self.score.failed += 1,
        }
    }

    /// One honest signer is stopped and started again on its directory.
    fn restart(&mut self, dice: &mut Dice) {
        let name = HONEST[dice.below(2)];
        let place = self.signers.nodes.iter().position(|node| node.id.as_str() == name).unwrap();
        drop(self.signers.nodes.remove(place));
        let node = open(self.signers.dir.path(), name);
        self.desk.install(&node);
        self.signers.nodes.insert(place, node);
        self.open.retain(|open| open.node != name);
        self.score.restarts += 1;
    }

    fn play(&mut self, dice: &mut Dice) {
        if self.payments.is_empty() || dice.once_in(2) {
            self.ask();
        }
        for _ in 0..3 + dice.below(8) {
            match dice.below(16) {
                0..=5 => self.start(dice),
                6 if !self.open.is_empty() => {
                    let open = &self.open[dice.below(self.open.len())];
                    let abandon = Command::Abandon { session: open.session };
                    assert!(matches!(self.signers.node(open.node).carry_out(abandon), Ok(Answer::Done)));
                }
                7 if dice.once_in(10) => self.restart(dice),
                // Between commands a signer makes nonces ahead, or has none.
                8 => drop(self.signers.node(HONEST[dice.below(2)]).restock()),
                _ => self.go_on(dice),
            }
        }
    }
}

#[test]
fn a_malicious_gateway_with_a_colluding_signer_gets_no_signature_that_was_not_asked_for() {
    let sequences = cases(SEQUENCES);
    let mut score = Score::default();
    let schemes = [SchemeId::Ed25519, SchemeId::Taproot];
    let mut done = 0;
    for (pool, scheme) in schemes.into_iter().cycle().enumerate() {
        if done >= sequences {
            break;
        }
        // The seed is the pool's number: a failure is repeated by running the same count again.
        let mut dice = Dice::new(u64::try_from(pool).unwrap());
        let mut arena = Arena::new(scheme, score);
        let left = (sequences - done).min(SEQUENCES_A_POOL.min(sequences.div_ceil(2)));
        (0..left).for_each(|_| arena.play(&mut dice));
        done += left;
        score = arena.score;
    }
    println!("{sequences} sequences: {score:?}");
    // Of every kind of thing, enough happened.
    let least = sequences / 10;
    let Score { agreed, refused, faults, failed, shares, signatures, bent, restarts } = score;
    for (what, count) in
        [("agreed", agreed), ("refused", refused), ("faults", faults), ("failed", failed), ("shares", shares)]
    {
        assert!(count > least, "{what}: {score:?}");
    }
    assert!(signatures > least / 2 && bent > least / 2 && restarts > sequences / 200, "{score:?}");
}
