//! Links between signers: every letter is sealed from its sender to its receiver.
//!
//! Each signer has a long-term secp256k1 key; two signers share a secret by Diffie-Hellman, so what opens was written by
//! the other one. The key of a link is bound to the session's context (session id, key, participants, and digests of what
//! is signed, each computed by the signer itself), the letter to round, sender and receiver. Signers that disagree about
//! any of it cannot read each other: that is the echo of digest and participant set before the first round.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use k256::elliptic_curve::sec1::ToEncodedPoint;
use k256::{PublicKey, SecretKey};
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::protocol::{Letter, PartyIndex, decode};

const NONCE_LEN: usize = 12;
/// The longest that postcard writes a length.
const MAX_VARINT_LEN: usize = 10;

/// The secret half of a signer's link key. It wipes itself when it is dropped.
pub(crate) struct Identity {
    secret: SecretKey,
    /// What is shared with each peer, which is the same in every session: computing it is the dearest part of a link.
    shared: Mutex<BTreeMap<Vec<u8>, Shared>>,
}

/// The public half: a compressed secp256k1 point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LinkKey(PublicKey);

/// A secret of two signers.
type Shared = Arc<Zeroizing<Vec<u8>>>;

/// What both ends of a link must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context(pub(crate) [u8; 32]);

/// One signer's end of a link to one other, for one session.
pub(crate) struct Link {
    cipher: Aes256GcmSiv,
    me: PartyIndex,
    peer: PartyIndex,
}

#[derive(Serialize)]
struct Binding {
    domain: &'static str,
    round: u32,
    from: PartyIndex,
    to: PartyIndex,
}

impl Identity {
    /// A fresh key.
    pub(crate) fn generate() -> Self {
        Self::of(SecretKey::random(&mut OsRng))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        SecretKey::from_slice(bytes).ok().map(Self::of)
    }

    fn of(secret: SecretKey) -> Self {
        Self { secret, shared: Mutex::default() }
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(Zeroizing::new(self.secret.to_bytes()).to_vec())
    }

    pub(crate) fn public(&self) -> LinkKey {
        LinkKey(self.secret.public_key())
    }

    /// This end of the link to `peer`.
    pub(crate) fn link(&self, key: &LinkKey, context: Context, me: PartyIndex, peer: PartyIndex) -> Link {
        let shared = self.shared_with(key);
        let mut hash = Sha256::new();
        hash.update(b"portcullis link key v1");
        hash.update(context.0);
        hash.update(shared.as_slice());
        let link_key = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        Link { cipher: Aes256GcmSiv::new((&*link_key).into()), me, peer }
    }

    /// The secret shared with the holder of `key`, by Diffie-Hellman. Only keys that are pinned are ever asked for, so what
    /// is kept stays small.
    fn shared_with(&self, key: &LinkKey) -> Shared {
        let name = key.0.to_encoded_point(true).as_bytes().to_vec();
        if let Some(shared) = self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return shared.clone();
        }
        let secret = Zeroizing::new(*self.secret.to_nonzero_scalar());
        let shared = (key.0.to_projective() * *secret).to_affine();
        let shared = Arc::new(Zeroizing::new(shared.to_encoded_point(true).as_bytes().to_vec()));
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).insert(name, shared.clone());
        shared
    }
}

impl Link {
    /// Seals this party's letter of `round`; none where the letter is too long.
    pub(crate) fn seal(&self, round: u32, letter: &Letter) -> Option<Vec<u8>> {
        let plain = {
            // Room enough that what is secret is not copied about while the vector grows.
            let room = letter.broadcast.len().checked_add(letter.directed.len())?.checked_add(2 * MAX_VARINT_LEN)?;
            let parts = (Bytes::new(&letter.broadcast), Bytes::new(&letter.directed));
            Zeroizing::new(postcard::to_extend(&parts, Vec::with_capacity(room)).ok()?)
        };
        let mut nonce = [0; NONCE_LEN];
        OsRng.fill_bytes(&mut nonce);
        let aad = binding(round, self.me, self.peer)?;
        let sealed = self.cipher.encrypt(Nonce::from_slice(&nonce), Payload { msg: &plain, aad: &aad }).ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// Opens the peer's letter of `round`; none where it is not that.
    pub(crate) fn open(&self, round: u32, sealed: &[u8]) -> Option<Letter> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let aad = binding(round, self.peer, self.me)?;
        let plain = self.cipher.decrypt(Nonce::from_slice(nonce), Payload { msg: sealed, aad: &aad }).ok()?;
        let plain = Zeroizing::new(plain);
        let (broadcast, directed): (&[u8], &[u8]) = decode(&plain)?;
        Some(Letter { broadcast: broadcast.to_vec(), directed: Zeroizing::new(directed.to_vec()) })
    }
}

fn binding(round: u32, from: PartyIndex, to: PartyIndex) -> Option<Vec<u8>> {
    postcard::to_allocvec(&Binding { domain: "portcullis letter v1", round, from, to }).ok()
}

impl TryFrom<String> for LinkKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = hex::decode(text).map_err(|_| "a link key is hex")?;
        PublicKey::from_sec1_bytes(&bytes).map(Self).map_err(|_| "a link key is a compressed secp256k1 point")
    }
}

impl From<LinkKey> for String {
    fn from(key: LinkKey) -> Self {
        hex::encode(key.0.to_encoded_point(true).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_opens_only_where_it_belongs() {
        let [one, two] = [1, 2].map(|index| PartyIndex::new(index).unwrap());
        let three = PartyIndex::new(3).unwrap();
        let (a, b, c) = (Identity::generate(), Identity::generate(), Identity::generate());
        let (context, other) = (Context([1; 32]), Context([2; 32]));
        let letter = Letter { broadcast: b"all".to_vec(), directed: Zeroizing::new(b"you".to_vec()) };
        let sealed = a.link(&b.public(), context, one, two).seal(1, &letter).unwrap();

        let end = b.link(&a.public(), context, two, one);
        let opened = end.open(1, &sealed).unwrap();
        assert_eq!((opened.broadcast.as_slice(), opened.directed.as_slice()), (&b"all"[..], &b"you"[..]));
        assert!(end.open(2, &sealed).is_none(), "another round");
        assert!(b.link(&a.public(), other, two, one).open(1, &sealed).is_none(), "another session");
        assert!(b.link(&a.public(), context, two, three).open(1, &sealed).is_none(), "another sender");
        assert!(a.link(&b.public(), context, one, two).open(1, &sealed).is_none(), "sent back to its sender");
        assert!(c.link(&a.public(), context, two, one).open(1, &sealed).is_none(), "another receiver");
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1;
            assert!(end.open(1, &altered).is_none(), "byte {position}");
        }
    }
}
