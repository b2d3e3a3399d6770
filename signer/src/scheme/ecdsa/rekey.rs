//! Other shares of the same ECDSA key: a refresh, a reshare, and the split of a key that was whole.
//!
//! The refresh is the library's *complete* one. Its fast one keeps the oblivious-transfer state and masks it; the complete
//! one makes all of it anew, so what a cheating party may have learned of it is worth nothing afterwards, a fault in it
//! bans nobody, and it serves parties that have no such state yet, as after a reshare. It costs as much as a key
//! generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use dkls23::protocols::derivation::DerivData;
use dkls23::protocols::dkg::{
    KeepInitMulPhase3to4, KeepInitZeroSharePhase2to3, KeepInitZeroSharePhase3to4, ProofCommitment,
    TransmitInitZeroSharePhase2to4,
};
use dkls23::protocols::re_key::re_key;
use dkls23::protocols::{Parameters, Party, PartyIndex as DklsIndex};
use dkls23::utilities::hashes::{HashOutput, point_to_bytes};
use dkls23::utilities::proofs::DLogProof;
use dkls23::utilities::zero_shares::ZeroShare;
use dkls23_k256::elliptic_curve::PrimeField;
use dkls23_k256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar, Secp256k1};
use rand_core::{OsRng, RngCore};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{KeyShare, Pairwise, between, fault, index, no_address, receiver, unstartable};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step, decode_owned, encode, map};
use crate::scheme::{GroupKey, Resharing, SchemeError, Setup};

impl KeyShare {
    pub(super) fn start_refresh(&self, setup: &Setup, session: [u8; 32]) -> Result<Run<Self>, SchemeError> {
        let Parameters { threshold, share_count } = self.party.parameters;
        let fits = setup.me().get() == self.party.party_index.as_u8();
        if !fits || setup.size() != share_count || setup.threshold() != threshold {
            return Err(SchemeError::Threshold { threshold: setup.threshold(), parties: setup.size().into() });
        }
        Ok(Box::new(Mask { setup: setup.clone(), party: self.party.clone(), session }))
    }

    pub(super) fn start_reshare(
        old: Option<&Self>,
        resharing: &Resharing,
        session: [u8; 32],
    ) -> Result<Run<Option<Self>>, SchemeError> {
        let weighted = match (resharing.place(), old) {
            (Some(place), Some(old)) if place.get() == old.party.party_index.as_u8() => {
                let weight = lagrange(place, resharing.dealers().values())?;
                Some(Zeroizing::new(old.party.poly_point * weight))
            }
            (Some(_), _) => return Err(SchemeError::Damaged("it is not the one to be dealt from")),
            (None, _) => None,
        };
        Ok(Box::new(Deal { resharing: resharing.clone(), weighted, session }))
    }

    pub(super) fn split_key(
        secret: &[u8; 32],
        chain_code: [u8; 32],
        threshold: u8,
        parties: u8,
    ) -> Result<Vec<Self>, SchemeError> {
        let parameters = Parameters::new(threshold, parties)
            .map_err(|_| SchemeError::Threshold { threshold, parties: parties.into() })?;
        let scalar = Option::<Scalar>::from(Scalar::from_repr(FieldBytes::from(*secret)));
        let scalar = scalar.filter(|scalar| !bool::from(scalar.is_zero()));
        let scalar = Zeroizing::new(scalar.ok_or(SchemeError::Damaged("it is no secp256k1 key"))?);
        let mut session = [0; 32];
        OsRng.fill_bytes(&mut session);
        let (parties, _) = re_key::<Secp256k1>(&parameters, &session, &scalar, Some(chain_code), no_address);
        parties.into_iter().map(Self::new).collect()
    }
}

/// Refresh, before round one.
struct Mask {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    session: [u8; 32],
}

/// Refresh, round one sent: a point of a polynomial whose constant term is zero for each of the others.
struct MaskCommit {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    session: [u8; 32],
    own: Zeroizing<Scalar>,
}

/// Refresh, round two sent: commitments to the proof of the public correction and to the zero shares.
struct MaskOpen {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    session: [u8; 32],
    correction: Zeroizing<Scalar>,
    proof: ProofCommitment<Secp256k1>,
    zero: BTreeMap<DklsIndex, KeepInitZeroSharePhase2to3>,
}

/// Refresh, round three sent: what was committed to, and the first messages of the pairwise multiplications.
struct MaskFinish {
    setup: Setup,
    party: Arc<Party<Secp256k1>>,
    session: [u8; 32],
    correction: Zeroizing<Scalar>,
    proof: ProofCommitment<Secp256k1>,
    committed: BTreeMap<PartyIndex, HashOutput>,
    zero_received: BTreeMap<PartyIndex, TransmitInitZeroSharePhase2to4>,
    zero: BTreeMap<DklsIndex, KeepInitZeroSharePhase3to4>,
    multiplications: BTreeMap<DklsIndex, KeepInitMulPhase3to4<Secp256k1>>,
}

impl Protocol for Mask {
    type Output = KeyShare;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, party, session } = *self;
        let fragments = Zeroizing::new(party.refresh_complete_phase1());
        let mut own = None;
        let mut outbox = Outbox::default();
        for (to, fragment) in PartyIndex::first(setup.size()).zip(fragments.iter()) {
            if to == setup.me() {
                own = Some(Zeroizing::new(*fragment));
            } else {
                outbox.directed.insert(to, Zeroizing::new(encode(fragment)?));
            }
        }
        let own = own.ok_or_else(|| Fault::unattributed("the library made no fragment for this party"))?;
        Ok(Step::Continue(Box::new(MaskCommit { setup, party, session, own }), outbox))
    }
}

impl Protocol for MaskCommit {
    type Output = KeyShare;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, party, session, own } = *self;
        let mut fragments = inbox.directed(setup.peers(), decode_owned::<Scalar>)?;
        fragments.insert(setup.me(), *own);
        let fragments = Zeroizing::new(fragments.into_values().collect::<Vec<_>>());
        let (correction, proof, zero, messages) = party.refresh_complete_phase2(&session, &fragments);
        let correction = Zeroizing::new(correction);
        let mut outbox = Outbox::broadcast(encode(&proof.commitment)?);
        for message in &messages {
            outbox.directed.insert(receiver(&message.parties)?, Zeroizing::new(encode(message)?));
        }
        Ok(Step::Continue(Box::new(MaskOpen { setup, party, session, correction, proof, zero }), outbox))
    }
}

impl Protocol for MaskOpen {
    type Output = KeyShare;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, party, session, correction, proof, zero } = *self;
        let committed = inbox.broadcasts(setup.peers(), decode_owned::<HashOutput>)?;
        let zero_received = inbox.directed(setup.peers(), decode_owned::<TransmitInitZeroSharePhase2to4>)?;
        for (from, message) in &zero_received {
            between(*from, setup.me(), &message.parties)?;
        }
        let (zero, zero_messages, multiplications, messages) = party.refresh_complete_phase3(&session, &zero);
        let mut outbox = Outbox::broadcast(encode(&proof.proof)?);
        let mut messages = messages
            .into_iter()
            .map(|message| Ok((receiver(&message.parties)?, message)))
            .collect::<Result<BTreeMap<_, _>, Fault>>()?;
        for zero in zero_messages {
            let to = receiver(&zero.parties)?;
            let multiplication = messages.remove(&to);
            let multiplication = multiplication.ok_or_else(|| Fault::unattributed("the library left a party out"))?;
            outbox.directed.insert(to, Zeroizing::new(encode(&Pairwise { zero, multiplication })?));
        }
        let next =
            MaskFinish { setup, party, session, correction, proof, committed, zero_received, zero, multiplications };
        Ok(Step::Continue(Box::new(next), outbox))
    }
}

impl Protocol for MaskFinish {
    type Output = KeyShare;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<KeyShare>, Fault> {
        let Self { setup, party, session, correction, proof, committed, zero_received, zero, multiplications } = *self;
        let opened = inbox.broadcasts(setup.peers(), decode_owned::<DLogProof<Secp256k1>>)?;
        let pairwise = inbox.directed(setup.peers(), decode_owned::<Pairwise>)?;
        let mut proofs = BTreeMap::from([(setup.me(), proof)]);
        for (from, proof) in opened {
            let commitment = committed.get(&from).copied();
            let commitment = commitment.ok_or_else(|| Fault::of(from, "its commitment is missing"))?;
            proofs.insert(from, ProofCommitment { index: index(from).map_err(unstartable)?, proof, commitment });
        }
        let (mut zero_3, mut messages) = (Vec::new(), Vec::new());
        for (from, message) in pairwise {
            between(from, setup.me(), &message.zero.parties)?;
            between(from, setup.me(), &message.multiplication.parties)?;
            zero_3.push(message.zero);
            messages.push(message.multiplication);
        }
        let proofs = proofs.into_values().collect::<Vec<_>>();
        let zero_2 = zero_received.into_values().collect::<Vec<_>>();
        let party = party
            .refresh_complete_phase4(
                &session,
                &correction,
                &proofs,
                &zero,
                &zero_2,
                &zero_3,
                &multiplications,
                &messages,
            )
            .map_err(fault)?;
        KeyShare::new(party).map(Step::Done).map_err(unstartable)
    }
}

/// Reshare, before round one.
struct Deal {
    resharing: Resharing,
    /// This party's share times its Lagrange coefficient, where it deals: the weighted shares of all dealers sum up to the
    /// key.
    weighted: Option<Zeroizing<Scalar>>,
    session: [u8; 32],
}

/// Reshare, round one sent: commitments to a polynomial of the new degree, and its value for each new holder.
struct Collect {
    resharing: Resharing,
    own: Option<(Vec<AffinePoint>, Option<Zeroizing<Scalar>>)>,
    session: [u8; 32],
}

/// A party that is to hold no share keeps in step with those that are.
struct Bystand {
    /// Whether it has something to broadcast in each of the rounds to come.
    rounds: Vec<bool>,
}

impl Protocol for Deal {
    type Output = Option<KeyShare>;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { resharing, weighted, session } = *self;
        let Some(weighted) = weighted else {
            // The echo takes something from everybody.
            let outbox = Outbox::broadcast(vec![0]);
            return Ok(Step::Continue(Box::new(Collect { resharing, own: None, session }), outbox));
        };
        let mut coefficients = Zeroizing::new(Vec::with_capacity(resharing.threshold().into()));
        coefficients.push(*weighted);
        for _ in 1..resharing.threshold() {
            coefficients.push(random());
        }
        let commitment = |coefficient: &Scalar| (ProjectivePoint::GENERATOR * coefficient).to_affine();
        let commitments = coefficients.iter().map(commitment).collect::<Vec<_>>();
        let mut outbox = Outbox::broadcast(encode(&commitments)?);
        let mut own = None;
        for party in PartyIndex::first(resharing.parties()) {
            let x = number(party);
            let value = coefficients.iter().rev().fold(Scalar::ZERO, |value, coefficient| value * x + coefficient);
            let value = Zeroizing::new(value);
            if party == resharing.me() {
                own = Some(value);
            } else {
                outbox.directed.insert(party, Zeroizing::new(encode(&*value)?));
            }
        }
        let own = Some((commitments, own));
        Ok(Step::Continue(Box::new(Collect { resharing, own, session }), outbox))
    }
}

impl Protocol for Collect {
    type Output = Option<KeyShare>;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { resharing, own, session } = *self;
        let dealers = resharing.other_dealers();
        let mut commitments = inbox.broadcasts(&dealers, decode_owned::<Vec<AffinePoint>>)?;
        if let Some((dealer, _)) = commitments.iter().find(|(_, c)| c.len() != usize::from(resharing.threshold())) {
            return Err(Fault::of(*dealer, "its polynomial has another degree"));
        }
        let mut total = Zeroizing::new(Scalar::ZERO);
        if resharing.receives() {
            let x = number(resharing.me());
            for (dealer, value) in inbox.directed(&dealers, decode_owned::<Scalar>)? {
                let value = Zeroizing::new(value);
                let commitment = commitments.get(&dealer).map(Vec::as_slice).unwrap_or_default();
                let expected = commitment.iter().rev().fold(ProjectivePoint::IDENTITY, |sum, c| sum * x + c);
                if ProjectivePoint::GENERATOR * *value != expected {
                    return Err(Fault::of(dealer, "its share contradicts its commitments"));
                }
                *total += *value;
            }
        }
        if let Some((commitment, value)) = own {
            commitments.insert(resharing.me(), commitment);
            *total += value.map_or(Scalar::ZERO, |value| *value);
        }
        let constants = commitments.values().filter_map(|commitment| commitment.first());
        let pk = constants.fold(ProjectivePoint::IDENTITY, |sum, constant| sum + constant).to_affine();
        let GroupKey::Ecdsa(group) = resharing.group() else {
            return Err(Fault::unattributed("the key is no ECDSA key"));
        };
        if point_to_bytes::<Secp256k1>(&pk) != group.public_key.to_bytes() {
            return Err(Fault::unattributed("the dealers' shares sum up to another key"));
        }
        if !resharing.receives() {
            // The refresh of the others: fragments, commitments, openings.
            return Box::new(Bystand { rounds: vec![false, true, true] }).step(Inbox::default());
        }
        let party = party(&resharing, pk, &total, group.chain_code, &session).map_err(unstartable)?;
        let parties = PartyIndex::first(resharing.parties()).collect::<Vec<_>>();
        let setup = Setup::new(resharing.me(), &parties, resharing.threshold()).map_err(unstartable)?;
        map(Box::new(Mask { setup, party: Arc::new(party), session }), Some).step(Inbox::default())
    }
}

impl Protocol for Bystand {
    type Output = Option<KeyShare>;

    fn step(mut self: Box<Self>, _: Inbox) -> Result<Step<Self::Output>, Fault> {
        if self.rounds.is_empty() {
            return Ok(Step::Done(None));
        }
        let outbox = if self.rounds.remove(0) { Outbox::broadcast(vec![0]) } else { Outbox::default() };
        Ok(Step::Continue(self, outbox))
    }
}

/// A party with its share and nothing else: a complete refresh gives it what signing needs beyond that.
fn party(
    resharing: &Resharing,
    pk: AffinePoint,
    share: &Scalar,
    chain_code: [u8; 32],
    session: &[u8; 32],
) -> Result<Party<Secp256k1>, SchemeError> {
    let (threshold, parties) = (resharing.threshold(), resharing.parties());
    let parameters = Parameters::new(threshold, parties)
        .map_err(|_| SchemeError::Threshold { threshold, parties: parties.into() })?;
    let session_id = Sha256::new().chain_update(b"portcullis reshare v1").chain_update(session).finalize().to_vec();
    let derivation_data =
        DerivData { depth: 0, child_number: 0, parent_fingerprint: [0; 4], poly_point: *share, pk, chain_code };
    Ok(Party {
        parameters,
        party_index: index(resharing.me())?,
        session_id,
        poly_point: *share,
        pk,
        zero_share: ZeroShare::initialize(Vec::new()),
        mul_senders: BTreeMap::new(),
        mul_receivers: BTreeMap::new(),
        derivation_data,
        address: String::new(),
    })
}

/// The coefficient of the holder `place` when the holders `all` combine their shares.
fn lagrange<'p>(place: PartyIndex, all: impl Iterator<Item = &'p PartyIndex>) -> Result<Scalar, SchemeError> {
    let (mut numerator, mut denominator) = (Scalar::ONE, Scalar::ONE);
    for other in all.filter(|other| **other != place) {
        numerator *= number(*other);
        denominator *= number(*other) - number(place);
    }
    let inverse = Option::<Scalar>::from(denominator.invert());
    Ok(numerator * inverse.ok_or(SchemeError::Damaged("two holders have one place"))?)
}

pub(super) fn number(party: PartyIndex) -> Scalar {
    Scalar::from(u64::from(party.get()))
}

fn random() -> Scalar {
    loop {
        let mut bytes = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *bytes);
        // All but one in 2^128 are below the group's order.
        if let Some(scalar) = Option::<Scalar>::from(Scalar::from_repr(FieldBytes::from(*bytes))) {
            return scalar;
        }
    }
}
