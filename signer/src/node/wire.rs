//! What the coordinator and a signer say to each other, as bytes: a version, then `postcard`.

use chains::account::KeyId;
use chains::payload::Signature;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::link::LinkKey;
use super::own::Terms;
use crate::ceremony::escrow::SealedPart;
use crate::policy::change::Version;
use crate::policy::versions::PolicyStanding;
use crate::protocol::decode;
use crate::scheme::SchemeId;
use crate::transport::SignerId;
use crate::vault::KeyInfo;

const VERSION: u8 = 1;

/// A session's name: 32 random bytes, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SessionId(pub(crate) [u8; 32]);

/// What a signer is asked.
#[derive(Serialize, Deserialize)]
pub(crate) enum Command {
    /// Who are you?
    Hello,
    /// These are the signers of the pool. A signer remembers them and refuses others under the same names.
    Join { peers: Vec<Peer> },
    /// Which keys do you hold?
    Keys,
    /// Take part in the generation of a key.
    Generate { session: SessionId, key: KeyId, scheme: SchemeId, epoch: u32, participants: Vec<SignerId> },
    /// Take part in a signature that proves that the key signs, over a message that nobody chooses.
    Prove { session: SessionId, key: KeyId, epoch: u32, participants: Vec<SignerId> },
    /// Take part in the signatures of a transaction, with the shares of `epoch`. `request` is the JSON of a signing request.
    Sign {
        session: SessionId,
        participants: Vec<SignerId>,
        epoch: u32,
        #[serde(with = "serde_bytes")]
        request: Vec<u8>,
    },
    /// Take part in a refresh to `epoch`: other shares of the same key for the same holders.
    Refresh { session: SessionId, key: KeyId, epoch: u32, participants: Vec<SignerId> },
    /// Take part in a reshare: the `dealers` among the `old` holders share the key anew, as `target` says. `leavers` are
    /// the old holders that are to hold nothing any more.
    Reshare { session: SessionId, target: KeyInfo, old: Vec<SignerId>, dealers: Vec<SignerId>, leavers: Vec<SignerId> },
    /// The others' letters of `round`, from 1.
    Round { session: SessionId, round: u32, letters: Vec<SealedLetter> },
    /// The session is over.
    Abandon { session: SessionId },
    /// The key has been proved to sign.
    Activate { key: KeyId, epoch: u32 },
    /// The pending key is given up.
    Discard { key: KeyId, epoch: u32 },
    /// All have gone over to `epoch`: erase the shares of every epoch before it.
    Retire { key: KeyId, epoch: u32 },
    /// Is this what you judge by?
    Agree { terms: Terms },
    /// Take part in making an escrow of an epoch, and seal your part of it to `recipient`.
    Escrow { session: SessionId, key: KeyId, epoch: u32, helpers: Vec<SignerId>, recipient: String },
    /// The escrow of `epoch` is in its holder's hands.
    NoteEscrow { key: KeyId, epoch: u32 },
    /// Which policy is in force at you, and which one waits?
    PolicyStanding,
    /// Here is a change of the policy, as JSON, with its approvals.
    OfferPolicy {
        #[serde(with = "serde_bytes")]
        change: Vec<u8>,
    },
    /// The change that made that version.
    PolicyChange { version: Version },
}

/// What a signer answers.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Its name and the key of its links.
    Identity(Peer),
    /// Done as asked.
    Done,
    /// The keys it holds.
    Keys(Vec<HeldKey>),
    /// Its letters of `round`.
    Letters { round: u32, letters: Vec<SealedLetter> },
    /// It holds a share of this key, pending.
    Generated(KeyInfo),
    /// The signatures, one for each payload, each checked by a stock verifier.
    Signed(Vec<WireSignature>),
    /// It will not do that, by its own judgement.
    Refused(String),
    /// The session ended for a reason that lies with `culprit`, where that can be told.
    Fault { culprit: Option<SignerId>, reason: String },
    /// It failed by itself.
    Failed(String),
    /// Its part of an escrow, which only the holder can open.
    Escrowed(SealedPart),
    /// Its policy.
    Policy(PolicyStanding),
    /// A change of the policy, as JSON.
    PolicyChange(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It will not sign: the request was judged under another policy than this one.
    StalePolicy(PolicyStanding),
}

/// A signer and the public key of its links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) id: SignerId,
    pub(crate) key: LinkKey,
}

/// A key as a signer reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldKey {
    pub(crate) info: KeyInfo,
    /// It is marked as proved.
    pub(crate) usable: bool,
    /// The share is there and opens.
    pub(crate) share: bool,
    /// How many nonces are ready, where the scheme has any to make ahead.
    pub(crate) nonces: Option<u32>,
    /// When the epoch came into use at the signer, in milliseconds since the Unix epoch.
    pub(crate) since: Option<u64>,
    /// The epoch of the last escrow that the signer was told of.
    pub(crate) escrow: Option<u32>,
}

/// A letter that only `to` can open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SealedLetter {
    pub(crate) from: SignerId,
    pub(crate) to: SignerId,
    #[serde(with = "serde_bytes")]
    pub(crate) sealed: Vec<u8>,
}

/// A signature on its way: `kind` is 0 for ECDSA, 1 for BIP-340, 2 for Ed25519.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireSignature {
    kind: u8,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    recovery_id: u8,
}

impl From<&Signature> for WireSignature {
    fn from(signature: &Signature) -> Self {
        match signature {
            Signature::Ecdsa { rs, recovery_id } => Self { kind: 0, bytes: rs.to_vec(), recovery_id: *recovery_id },
            Signature::Schnorr(bytes) => Self { kind: 1, bytes: bytes.to_vec(), recovery_id: 0 },
            Signature::Ed25519(bytes) => Self { kind: 2, bytes: bytes.to_vec(), recovery_id: 0 },
        }
    }
}

impl WireSignature {
    /// The signature, if it is one.
    pub(crate) fn signature(&self) -> Option<Signature> {
        let bytes: [u8; 64] = self.bytes.as_slice().try_into().ok()?;
        match self.kind {
            0 => Some(Signature::Ecdsa { rs: bytes, recovery_id: self.recovery_id }),
            1 => Some(Signature::Schnorr(bytes)),
            2 => Some(Signature::Ed25519(bytes)),
            _ => None,
        }
    }
}

/// A message as bytes.
pub(crate) fn to_bytes<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_extend(message, vec![VERSION]).expect("names, numbers and bytes always encode into a growing vector")
}

/// A message from bytes, all of them.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first() {
        Some((&VERSION, message)) => decode(message),
        _ => None,
    }
}
