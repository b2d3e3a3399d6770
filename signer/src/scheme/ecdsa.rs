//! Threshold ECDSA on secp256k1: DKLs23 (<https://eprint.iacr.org/2023/765>) by `dkls23`.
//!
//! The library brings its own generation of `k256`; keys and signatures cross to the rest of the house as bytes.

mod enroll;
mod rekey;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::CompressedPublicKey;
use chains::account::KeyPath;
use chains::derive::ExtendedKey;
use chains::payload::{Message, Signature};
use dkls23::protocols::dkg::{
    BroadcastDerivationPhase2to4, BroadcastDerivationPhase3to4, ProofCommitment, TransmitInitMulPhase3to4,
    TransmitInitZeroSharePhase2to4, TransmitInitZeroSharePhase3to4,
};
use dkls23::protocols::dkg_session::DkgSession;
use dkls23::protocols::signing::{
    Broadcast3to4, KeepPhase1to2, KeepPhase2to3, SignData, TransmitPhase1to2, TransmitPhase2to3, UniqueKeep1to2,
    UniqueKeep2to3,
};
use dkls23::protocols::{Abort, AbortKind, AbortReason, Parameters, PartiesMessage, Party, PartyIndex as DklsIndex};
use dkls23::utilities::hashes::{HashOutput, point_to_bytes};
use dkls23::utilities::proofs::DLogProof;
use dkls23_k256::{AffinePoint, Scalar, Secp256k1};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::enroll::{Enrollment, Part, Point};
use super::{GroupKey, Resharing, Scheme, SchemeError, SchemeId, Setup};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step, decode, decode_owned, encode};

/// How many derived children a share keeps at hand; deriving one again costs some 0.1 ms a step.
const MAX_CHILDREN: usize = 1024;

/// A share of an ECDSA key. The library's party wipes itself when it is dropped.
pub(crate) struct KeyShare {
    party: Arc<Party<Secp256k1>>,
    group: GroupKey,
    children: Mutex<BTreeMap<KeyPath, Arc<Party<Secp256k1>>>>,
}

impl KeyShare {
    pub(crate) fn new(party: Party<Secp256k1>) -> Result<Self, SchemeError> {
        let public_key = CompressedPublicKey::from_slice(&point_to_bytes::<Secp256k1>(&party.pk))
            .map_err(|_| SchemeError::Damaged("its public key is malformed"))?;
        let group = GroupKey::Ecdsa(ExtendedKey { public_key, chain_code: *party.chain_code() });
        Ok(Self { party: Arc::new(party), group, children: Mutex::default() })
    }

    /// The share of the child at `path`: the parent's share plus a public tweak (BIP-32, non-hardened).
    fn child(&self, path: &KeyPath) -> Result<Arc<Party<Secp256k1>>, SchemeError> {
        if path.steps().is_empty() {
            return Ok(self.party.clone());
        }
        if let Some(child) = self.children.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(child.clone());
        }
        let child = self.party.derive_from_path(&path.to_string(), no_address);
        let child = Arc::new(child.map_err(|error| SchemeError::Library(error.description))?);
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if children.len() < MAX_CHILDREN {
            children.insert(path.clone(), child.clone());
        }
        Ok(child)
    }
}

impl Scheme for KeyShare {
    fn generate(setup: &Setup, session: [u8; 32]) -> Result<Run<Self>, SchemeError> {
        let parameters = Parameters::new(setup.threshold(), setup.size())
            .map_err(|_| SchemeError::Threshold { threshold: setup.threshold(), parties: setup.size().into() })?;
        let session = DkgSession::new(parameters, index(setup.me())?, session.to_vec());
        Ok(Box::new(Fragment { setup: setup.clone(), session }))
    }

    fn group(&self) -> GroupKey {
        self.group
    }

    fn sign(
        &self,
        setup: &Setup,
        session: [u8; 32],
        path: &KeyPath,
        message: &Message,
    ) -> Result<Run<Signature>, SchemeError> {
        let Message::Ecdsa(hash) = message else {
            return Err(SchemeError::WrongMessage { scheme: SchemeId::Ecdsa });
        };
        if setup.size() != self.party.parameters.threshold || setup.me().get() != self.party.party_index.as_u8() {
            return Err(SchemeError::Threshold { threshold: setup.threshold(), parties: setup.size().into() });
        }
        let counterparties = setup.peers().iter().map(|peer| index(*peer)).collect::<Result<Vec<_>, _>>()?;
        let data = SignData { sign_id: session.to_vec(), counterparties, message_hash: *hash };
        Ok(Box::new(SignPhase1 { setup: setup.clone(), party: self.child(path)?, data }))
    }

    fn refresh(&self, setup: &Setup, session: [u8; 32]) -> Result<Run<Self>, SchemeError> {
        self.start_refresh(setup, session)
    }

    fn reshare(old: Option<&Self>, resharing: &Resharing, session: [u8; 32]) -> Result<Run<Option<Self>>, SchemeError> {
        Self::start_reshare(old, resharing, session)
    }

    fn split(secret: &[u8; 32], chain_code: [u8; 32], threshold: u8, parties: u8) -> Result<Vec<Self>, SchemeError> {
        Self::split_key(secret, chain_code, threshold, parties)
    }

    fn enroll(&self, helpers: &Setup, place: PartyIndex, session: [u8; 32]) -> Result<Run<Part>, SchemeError> {
        self.start_enroll(helpers, place, session)
    }

    fn assemble(public: &Enrollment, parts: BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>) -> Result<Self, Fault> {
        Self::of_parts(public, parts)
    }

    fn public_half(&self) -> Result<Point, Fault> {
        Ok(self.point())
    }

    fn make_key(group: GroupKey, points: &BTreeMap<PartyIndex, Point>) -> bool {
        Self::of_points(group, points)
    }

    fn beside(&self, public: &Enrollment) -> Result<Self, Fault> {
        self.next_to(public)
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
        let bytes = postcard::to_allocvec(&*self.party).map_err(|error| SchemeError::Library(error.to_string()))?;
        Ok(Zeroizing::new(bytes))
    }

    fn decode(bytes: &[u8]) -> Result<Self, SchemeError> {
        Self::new(decode(bytes).ok_or(SchemeError::Damaged("it is malformed"))?)
    }
}

/// Addresses are made by `chains`, not here.
fn no_address(_: &AffinePoint) -> String {
    String::new()
}

/// Key generation, before round one.
struct Fragment {
    setup: Setup,
    session: DkgSession<Secp256k1>,
}

/// Key generation, round one sent: a point of this party's polynomial for each of the others.
struct CommitProofs {
    setup: Setup,
    session: DkgSession<Secp256k1>,
    own: Zeroizing<Scalar>,
}

/// Key generation, round two sent: commitments to the proof of the public share, the chain code, the zero shares.
struct Open {
    setup: Setup,
    session: DkgSession<Secp256k1>,
    proof: ProofCommitment<Secp256k1>,
    derivation: BroadcastDerivationPhase2to4,
}

/// Key generation, round three sent: what was committed to, and the first messages of the pairwise multiplications.
struct Finish {
    setup: Setup,
    session: DkgSession<Secp256k1>,
    proof: ProofCommitment<Secp256k1>,
    derivation: (BroadcastDerivationPhase2to4, BroadcastDerivationPhase3to4),
    committed: BTreeMap<PartyIndex, Commitments>,
    zero: BTreeMap<PartyIndex, TransmitInitZeroSharePhase2to4>,
}

/// What is broadcast in round two. The proof itself stays back until everybody is committed.
#[derive(Serialize, Deserialize)]
struct Commitments {
    proof: HashOutput,
    derivation: BroadcastDerivationPhase2to4,
}

/// What is broadcast in round three.
#[derive(Serialize, Deserialize)]
struct Openings {
    proof: DLogProof<Secp256k1>,
    derivation: BroadcastDerivationPhase3to4,
}

/// What each party gets for itself in round three.
#[derive(Serialize, Deserialize)]
struct Pairwise {
    zero: TransmitInitZeroSharePhase3to4,
    multiplication: TransmitInitMulPhase3to4<Secp256k1>,
}

impl Protocol for Fragment {
    type Output = KeyShare;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, session } = *self;
        let mut own = None;
        let mut outbox = Outbox::default();
        for (party, fragment) in PartyIndex::first(setup.size()).zip(Zeroizing::new(session.phase1()).iter()) {
            if party == setup.me() {
                own = Some(Zeroizing::new(*fragment));
            } else {
                outbox.directed.insert(party, Zeroizing::new(encode(fragment)?));
            }
        }
        let own = own.ok_or_else(|| Fault::unattributed("the library made no fragment for this party"))?;
        Ok(Step::Continue(Box::new(CommitProofs { setup, session, own }), outbox))
    }
}

impl Protocol for CommitProofs {
    type Output = KeyShare;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, mut session, own } = *self;
        let mut fragments = inbox.directed(setup.peers(), decode_owned::<Scalar>)?;
        fragments.insert(setup.me(), *own);
        let fragments = Zeroizing::new(fragments.into_values().collect::<Vec<_>>());
        let (proof, zero, derivation) = session.phase2(&fragments).map_err(fault)?;
        let commitments = Commitments { proof: proof.commitment, derivation: derivation.clone() };
        let mut outbox = Outbox::broadcast(encode(&commitments)?);
        for message in &zero {
            outbox.directed.insert(receiver(&message.parties)?, Zeroizing::new(encode(message)?));
        }
        Ok(Step::Continue(Box::new(Open { setup, session, proof, derivation }), outbox))
    }
}

impl Protocol for Open {
    type Output = KeyShare;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, mut session, proof, derivation } = *self;
        let committed = inbox.broadcasts(setup.peers(), decode_owned::<Commitments>)?;
        for (from, commitments) in &committed {
            sent_by(*from, commitments.derivation.sender_index)?;
        }
        let zero = inbox.directed(setup.peers(), decode_owned::<TransmitInitZeroSharePhase2to4>)?;
        for (from, message) in &zero {
            between(*from, setup.me(), &message.parties)?;
        }
        let (zero_messages, multiplications, opening) = session.phase3().map_err(fault)?;
        let openings = Openings { proof: proof.proof.clone(), derivation: opening.clone() };
        let mut outbox = Outbox::broadcast(encode(&openings)?);
        let mut multiplications = multiplications
            .into_iter()
            .map(|message| Ok((receiver(&message.parties)?, message)))
            .collect::<Result<BTreeMap<_, _>, Fault>>()?;
        for zero in zero_messages {
            let to = receiver(&zero.parties)?;
            let multiplication = multiplications.remove(&to);
            let multiplication = multiplication.ok_or_else(|| Fault::unattributed("the library left a party out"))?;
            outbox.directed.insert(to, Zeroizing::new(encode(&Pairwise { zero, multiplication })?));
        }
        let derivation = (derivation, opening);
        Ok(Step::Continue(Box::new(Finish { setup, session, proof, derivation, committed, zero }), outbox))
    }
}

impl Protocol for Finish {
    type Output = KeyShare;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, session, proof, derivation, mut committed, zero } = *self;
        let me = index(setup.me()).map_err(unstartable)?;
        let openings = inbox.broadcasts(setup.peers(), decode_owned::<Openings>)?;
        let pairwise = inbox.directed(setup.peers(), decode_owned::<Pairwise>)?;

        let mut proofs = BTreeMap::from([(setup.me(), proof)]);
        let mut derivation_2 = BTreeMap::from([(me, derivation.0)]);
        let mut derivation_3 = BTreeMap::from([(me, derivation.1)]);
        for (from, opening) in openings {
            sent_by(from, opening.derivation.sender_index)?;
            let commitments = committed.remove(&from);
            let commitments = commitments.ok_or_else(|| Fault::of(from, "its commitments are missing"))?;
            let index = index(from).map_err(unstartable)?;
            proofs.insert(from, ProofCommitment { index, proof: opening.proof, commitment: commitments.proof });
            derivation_2.insert(index, commitments.derivation);
            derivation_3.insert(index, opening.derivation);
        }
        let mut zero_3 = Vec::new();
        let mut multiplications = Vec::new();
        for (from, message) in pairwise {
            between(from, setup.me(), &message.zero.parties)?;
            between(from, setup.me(), &message.multiplication.parties)?;
            zero_3.push(message.zero);
            multiplications.push(message.multiplication);
        }
        let (proofs, zero_2) = (proofs.into_values().collect::<Vec<_>>(), zero.into_values().collect::<Vec<_>>());
        let (party, _) = session
            .phase4(&proofs, &zero_2, &zero_3, &multiplications, &derivation_2, &derivation_3, no_address)
            .map_err(fault)?;
        KeyShare::new(party).map(Step::Done).map_err(unstartable)
    }
}

/// Signing, before round one.
struct SignPhase1 {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    data: SignData,
}

/// Signing, round one sent: a commitment to the instance point and the first message of each multiplication.
struct SignPhase2 {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    data: SignData,
    unique: UniqueKeep1to2<Secp256k1>,
    kept: BTreeMap<DklsIndex, KeepPhase1to2<Secp256k1>>,
}

/// Signing, round two sent: the instance point and the second message of each multiplication.
struct SignPhase3 {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    data: SignData,
    unique: UniqueKeep2to3<Secp256k1>,
    kept: BTreeMap<DklsIndex, KeepPhase2to3<Secp256k1>>,
}

/// Signing, round three sent: this party's part of numerator and denominator.
struct SignPhase4 {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    data: SignData,
    x: String,
    own: Broadcast3to4<Secp256k1>,
}

impl Protocol for SignPhase1 {
    type Output = Signature;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Signature>, Fault> {
        let Self { setup, party, data } = *self;
        let (unique, kept, messages) = party.sign_phase1(&data).map_err(fault)?;
        let mut outbox = Outbox::default();
        for message in &messages {
            outbox.directed.insert(receiver(&message.parties)?, Zeroizing::new(encode(message)?));
        }
        Ok(Step::Continue(Box::new(SignPhase2 { setup, party, data, unique, kept }), outbox))
    }
}

impl Protocol for SignPhase2 {
    type Output = Signature;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Signature>, Fault> {
        let Self { setup, party, data, unique, kept } = *self;
        let received = inbox.directed(setup.peers(), decode_owned::<TransmitPhase1to2>)?;
        for (from, message) in &received {
            between(*from, setup.me(), &message.parties)?;
        }
        let received = received.into_values().collect::<Vec<_>>();
        let (unique, kept, messages) = party.sign_phase2(&data, unique, kept, &received).map_err(fault)?;
        let mut outbox = Outbox::default();
        for message in &messages {
            outbox.directed.insert(receiver(&message.parties)?, Zeroizing::new(encode(message)?));
        }
        Ok(Step::Continue(Box::new(SignPhase3 { setup, party, data, unique, kept }), outbox))
    }
}

impl Protocol for SignPhase3 {
    type Output = Signature;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Signature>, Fault> {
        let Self { setup, party, data, unique, kept } = *self;
        let received = inbox.directed(setup.peers(), decode_owned::<TransmitPhase2to3<Secp256k1>>)?;
        for (from, message) in &received {
            between(*from, setup.me(), &message.parties)?;
        }
        let received = received.into_values().collect::<Vec<_>>();
        let only = only_peer(&setup);
        let (x, own) = party.sign_phase3(&data, unique, kept, &received).map_err(|abort| blame(fault(abort), only))?;
        let outbox = Outbox::broadcast(encode(&own)?);
        Ok(Step::Continue(Box::new(SignPhase4 { setup, party, data, x, own }), outbox))
    }
}

impl Protocol for SignPhase4 {
    type Output = Signature;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Signature>, Fault> {
        let Self { setup, party, data, x, own } = *self;
        let received = inbox.broadcasts(setup.peers(), decode_owned::<Broadcast3to4<Secp256k1>>)?;
        let received = received.into_values().chain([own]).collect::<Vec<_>>();
        let only = only_peer(&setup);
        let (s, recovery_id) =
            party.sign_phase4(&data, &x, &received, true).map_err(|abort| blame(fault(abort), only))?;
        let mut rs = [0; 64];
        let written = hex::decode_to_slice(format!("{x}{s}"), &mut rs);
        written.map_err(|_| Fault::unattributed("the library's signature is malformed"))?;
        Ok(Step::Done(Signature::Ecdsa { rs, recovery_id }))
    }
}

/// With one counterparty there is only one who can have caused a wrong result.
fn only_peer(setup: &Setup) -> Option<PartyIndex> {
    match setup.peers() {
        [peer] => Some(*peer),
        _ => None,
    }
}

fn blame(fault: Fault, peer: Option<PartyIndex>) -> Fault {
    Fault { culprit: fault.culprit.or(peer), ..fault }
}

fn index(party: PartyIndex) -> Result<DklsIndex, SchemeError> {
    DklsIndex::new(party.get()).map_err(|error| SchemeError::Library(error.to_string()))
}

fn receiver(parties: &PartiesMessage) -> Result<PartyIndex, Fault> {
    PartyIndex::new(parties.receiver.as_u8()).ok_or_else(|| Fault::unattributed("the library addressed nobody"))
}

/// Whoever sends a message must not speak for another party in it.
fn between(from: PartyIndex, to: PartyIndex, parties: &PartiesMessage) -> Result<(), Fault> {
    sent_by(from, parties.sender)?;
    if parties.receiver.as_u8() == to.get() {
        Ok(())
    } else {
        Err(Fault::of(from, "its message is addressed to another party"))
    }
}

fn sent_by(from: PartyIndex, claimed: DklsIndex) -> Result<(), Fault> {
    if claimed.as_u8() == from.get() { Ok(()) } else { Err(Fault::of(from, "it speaks for another party")) }
}

fn unstartable(error: SchemeError) -> Fault {
    Fault::unattributed(error.to_string())
}

/// The library's abort, with the culprit that it names. `BanCounterparty` must be obeyed for good: going on with that
/// party would let it extract the key.
fn fault(abort: Abort) -> Fault {
    let reason = abort.description();
    let (culprit, ban) = match abort.kind {
        AbortKind::BanCounterparty(party) => (Some(party), true),
        AbortKind::Recoverable => (culprit(&abort.reason), false),
    };
    Fault { culprit: culprit.and_then(|party| PartyIndex::new(party.as_u8())), ban, reason }
}

fn culprit(reason: &AbortReason) -> Option<DklsIndex> {
    match reason {
        AbortReason::UnexpectedSender { sender } | AbortReason::DuplicateSender { sender } => Some(*sender),
        AbortReason::MissingMessageFromParty { party }
        | AbortReason::MissingCommittedPoint { party }
        | AbortReason::ChainCodeCommitmentFailed { party } => Some(*party),
        AbortReason::SessionBindingMismatch { counterparty }
        | AbortReason::ProofVerificationFailed { counterparty }
        | AbortReason::CommitmentMismatch { counterparty }
        | AbortReason::TrivialInstancePoint { counterparty }
        | AbortReason::OtConsistencyCheckFailed { counterparty }
        | AbortReason::MultiplicationVerificationFailed { counterparty, .. }
        | AbortReason::GammaUInconsistency { counterparty }
        | AbortReason::ZeroShareDecommitFailed { counterparty } => Some(*counterparty),
        // The rest is about this party's own input or cannot be told; the library may add reasons.
        _ => None,
    }
}
