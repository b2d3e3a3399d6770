//! The two yardsticks: single-key signatures by stock libraries, and the threshold libraries' own calls with nothing
//! around them: no evidence, no policy, no ledger, no links.

use std::collections::BTreeMap;
use std::hint::black_box;

use bitcoin::secp256k1::{Keypair, Message, PublicKey, Secp256k1, SecretKey, ecdsa, schnorr};
use dkls23::protocols::re_key::re_key;
use dkls23::protocols::signing::SignData;
use dkls23::protocols::{Parameters, Party, PartyIndex};
use dkls23_k256::Scalar;
use ed25519_dalek::{Signer as _, SigningKey};
use frost_ed25519 as ed;
use frost_secp256k1_tr as tr;
use rand_core::OsRng;
use signer::pool::SchemeId;

const HASH: [u8; 32] = [7; 32];

/// One key in one hand.
pub(crate) struct Floor {
    secp: Secp256k1<bitcoin::secp256k1::All>,
    secret: SecretKey,
    public: PublicKey,
    pair: Keypair,
    ecdsa: ecdsa::Signature,
    schnorr: schnorr::Signature,
    ed25519: SigningKey,
    signature: ed25519_dalek::Signature,
}

impl Floor {
    pub(crate) fn new() -> Self {
        let secp = Secp256k1::new();
        let secret = SecretKey::from_slice(&[5; 32]).unwrap();
        let (public, pair) = (secret.public_key(&secp), secret.keypair(&secp));
        let message = Message::from_digest(HASH);
        let (ecdsa, schnorr) = (secp.sign_ecdsa(&message, &secret), secp.sign_schnorr_no_aux_rand(&message, &pair));
        let ed25519 = SigningKey::from_bytes(&[5; 32]);
        let signature = ed25519.sign(&HASH);
        Self { secp, secret, public, pair, ecdsa, schnorr, ed25519, signature }
    }

    pub(crate) fn sign(&self, scheme: SchemeId) {
        let message = Message::from_digest(black_box(HASH));
        match scheme {
            SchemeId::Ecdsa => drop(black_box(self.secp.sign_ecdsa(&message, &self.secret))),
            SchemeId::Taproot => drop(black_box(self.secp.sign_schnorr_no_aux_rand(&message, &self.pair))),
            SchemeId::Ed25519 => drop(black_box(self.ed25519.sign(black_box(&HASH)))),
        }
    }

    pub(crate) fn verify(&self, scheme: SchemeId) {
        let message = Message::from_digest(black_box(HASH));
        match scheme {
            SchemeId::Ecdsa => self.secp.verify_ecdsa(&message, &self.ecdsa, &self.public).unwrap(),
            SchemeId::Taproot => {
                let (key, _) = self.pair.x_only_public_key();
                self.secp.verify_schnorr(&self.schnorr, &message, &key).unwrap();
            }
            SchemeId::Ed25519 => self.ed25519.verifying_key().verify_strict(&HASH, &self.signature).unwrap(),
        }
    }
}

/// Runs the two parties of a round one after the other.
fn in_turn<T>(one: impl FnOnce() -> T, two: impl FnOnce() -> T) -> (T, T) {
    (one(), two())
}

/// Two of three shares of a key of each scheme.
pub(crate) struct Library {
    ed: (Vec<ed::keys::KeyPackage>, ed::keys::PublicKeyPackage),
    tr: (Vec<tr::keys::KeyPackage>, tr::keys::PublicKeyPackage),
    dkls: Vec<Party<dkls23_k256::Secp256k1>>,
}

/// A round of both parties: at once or in turn.
trait Round {
    fn both<T: Send>(&self, one: impl FnOnce() -> T + Send, two: impl FnOnce() -> T + Send) -> (T, T);
}

struct InTurn;

/// The second party on a thread that is started for each round, which costs it some 20 µs.
struct AtOnce;

impl Round for InTurn {
    fn both<T: Send>(&self, one: impl FnOnce() -> T + Send, two: impl FnOnce() -> T + Send) -> (T, T) {
        in_turn(one, two)
    }
}

impl Round for AtOnce {
    fn both<T: Send>(&self, one: impl FnOnce() -> T + Send, two: impl FnOnce() -> T + Send) -> (T, T) {
        std::thread::scope(|scope| {
            let two = scope.spawn(two);
            let one = one();
            (one, two.join().unwrap())
        })
    }
}

/// FROST's calls are the same in every suite, but by no common name.
macro_rules! frost {
    ($suite:ident, $keys:expr, $how:expr, $sign:expr, $aggregate:expr) => {{
        let (keys, public) = $keys;
        let how = $how;
        let commit = |at: usize| $suite::round1::commit(keys[at].signing_share(), &mut OsRng);
        let (one, two) = how.both(|| commit(0), || commit(1));
        let ids = [*keys[0].identifier(), *keys[1].identifier()];
        let package = || {
            let commitments = BTreeMap::from([(ids[0], one.1), (ids[1], two.1)]);
            $suite::SigningPackage::new(commitments, &HASH)
        };
        let shares =
            how.both(|| $sign(&package(), &one.0, &keys[0]).unwrap(), || $sign(&package(), &two.0, &keys[1]).unwrap());
        let shares = BTreeMap::from([(ids[0], shares.0), (ids[1], shares.1)]);
        // Each party puts the signature together, as in the pool.
        let combine = || $aggregate(&package(), &shares, public).unwrap();
        black_box(how.both(combine, combine));
    }};
}

impl Library {
    pub(crate) fn new() -> Self {
        let (shares, public) = ed::keys::generate_with_dealer(3, 2, ed::keys::IdentifierList::Default, OsRng).unwrap();
        let ed = (shares.into_values().take(2).map(|share| share.try_into().unwrap()).collect(), public);
        let (shares, public) = tr::keys::generate_with_dealer(3, 2, tr::keys::IdentifierList::Default, OsRng).unwrap();
        let tr = (shares.into_values().take(2).map(|share| share.try_into().unwrap()).collect(), public);
        let parameters = Parameters::new(2, 3).unwrap();
        let (dkls, _) = re_key(&parameters, &[1; 32], &Scalar::from(77_u64), Some([2; 32]), |_| String::new());
        Self { ed, tr, dkls: dkls.into_iter().take(2).collect() }
    }

    /// All calls of both parties on this thread.
    pub(crate) fn sign(&self, scheme: SchemeId) {
        self.run(scheme, &InTurn);
    }

    /// The parties' calls of each round at once.
    pub(crate) fn sign_in_parallel(&self, scheme: SchemeId) {
        self.run(scheme, &AtOnce);
    }

    fn run(&self, scheme: SchemeId, how: &impl Round) {
        match scheme {
            SchemeId::Ed25519 => frost!(ed, (&self.ed.0, &self.ed.1), how, ed::round2::sign, ed::aggregate),
            SchemeId::Taproot => {
                let sign = |package: &_, nonces: &_, key: &_| tr::round2::sign_with_tweak(package, nonces, key, None);
                let aggregate =
                    |package: &_, shares: &_, public: &_| tr::aggregate_with_tweak(package, shares, public, None);
                frost!(tr, (&self.tr.0, &self.tr.1), how, sign, aggregate);
            }
            SchemeId::Ecdsa => self.dkls(how),
        }
    }

    fn dkls(&self, how: &impl Round) {
        let [one, two] = [&self.dkls[0], &self.dkls[1]];
        let data = |other: u8| SignData {
            sign_id: vec![9; 32],
            counterparties: vec![PartyIndex::new(other).unwrap()],
            message_hash: HASH,
        };
        let (to_two, to_one) = (data(2), data(1));
        let (a, b) = how.both(|| one.sign_phase1(&to_two).unwrap(), || two.sign_phase1(&to_one).unwrap());
        let (from_a, from_b) = (a.2, b.2);
        let (a, b) = how.both(
            || one.sign_phase2(&to_two, a.0, a.1, &from_b).unwrap(),
            || two.sign_phase2(&to_one, b.0, b.1, &from_a).unwrap(),
        );
        let (from_a, from_b) = (a.2, b.2);
        let (a, b) = how.both(
            || one.sign_phase3(&to_two, a.0, a.1, &from_b).unwrap(),
            || two.sign_phase3(&to_one, b.0, b.1, &from_a).unwrap(),
        );
        let all = [a.1, b.1];
        black_box(how.both(
            || one.sign_phase4(&to_two, &a.0, &all, true).unwrap(),
            || two.sign_phase4(&to_one, &b.0, &all, true).unwrap(),
        ));
    }
}
