//! What the two FROST suites have in common (RFC 9591): key generation in two rounds, signing in two rounds.

mod enroll;
mod rekey;

use std::collections::BTreeMap;
use std::sync::Arc;

use chains::account::KeyPath;
use chains::payload::{Message, Signature};
use frost_core::keys::{KeyPackage, PublicKeyPackage, dkg};
use frost_core::round1::{SigningCommitments, SigningNonces};
use frost_core::round2::SignatureShare;
use frost_core::{Ciphersuite, Error, Identifier, SigningPackage};
use rand_core::OsRng;
use zeroize::Zeroizing;

use super::enroll::{Enrollment, Part, Point};
use super::{GroupKey, Resharing, Scheme, SchemeError, SchemeId, Setup};
use crate::nonces::{NonceJournal, Stock};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step, decode};

/// What a suite does in its own way.
pub(crate) trait Suite: Ciphersuite {
    /// The scheme that the suite serves.
    const SCHEME: SchemeId;

    /// The bytes that are signed, where the message is of this scheme's kind.
    fn message(message: &Message) -> Option<&[u8]>;

    /// The group's public key.
    fn group(public: &PublicKeyPackage<Self>) -> Option<GroupKey>;

    /// This party's part of the signature.
    fn sign(
        package: &SigningPackage<Self>,
        nonces: &SigningNonces<Self>,
        key: &KeyPackage<Self>,
    ) -> Result<SignatureShare<Self>, Error<Self>>;

    /// The signature from all parts.
    fn aggregate(
        package: &SigningPackage<Self>,
        shares: &BTreeMap<Identifier<Self>, SignatureShare<Self>>,
        public: &PublicKeyPackage<Self>,
    ) -> Result<frost_core::Signature<Self>, Error<Self>>;

    /// The signature in the form that the chain takes.
    fn signature(bytes: [u8; 64]) -> Signature;
}

/// A share of a FROST key. The key package wipes itself when it is dropped.
pub(crate) struct FrostShare<C: Suite> {
    key: KeyPackage<C>,
    public: PublicKeyPackage<C>,
    group: GroupKey,
    stock: Stock<OneTimeNonces<C>>,
}

impl<C: Suite> FrostShare<C> {
    pub(super) fn new(key: KeyPackage<C>, public: PublicKeyPackage<C>) -> Result<Self, SchemeError> {
        if key.verifying_key() != public.verifying_key() {
            return Err(SchemeError::Damaged("its two public keys differ"));
        }
        let group = C::group(&public).ok_or(SchemeError::Damaged("its public key is malformed"))?;
        Ok(Self { key, public, group, stock: Stock::default() })
    }

    /// Has the ids of this share's nonces burned in `journal`.
    pub(crate) fn keep_nonces_in(&self, journal: &Arc<NonceJournal>) {
        self.stock.keep_in(journal);
    }

    /// Makes up to `most` nonces ahead of time.
    pub(crate) fn make_nonces(&self, journal: &Arc<NonceJournal>, most: usize) -> std::io::Result<()> {
        self.stock.keep_in(journal);
        self.stock.fill(most, || self.fresh_nonces())
    }

    /// How many nonces are ready.
    pub(crate) fn nonces(&self) -> usize {
        self.stock.depth()
    }

    fn fresh_nonces(&self) -> OneTimeNonces<C> {
        OneTimeNonces(frost_core::round1::commit(self.key.signing_share(), &mut OsRng).0)
    }
}

impl<C: Suite> Scheme for FrostShare<C> {
    /// The library's proofs are bound to the party's index, not to a session; the sealed links are.
    fn generate(setup: &Setup, _session: [u8; 32]) -> Result<Run<Self>, SchemeError> {
        Ok(Box::new(Commit::<C> { setup: setup.clone(), marker: std::marker::PhantomData }))
    }

    fn group(&self) -> GroupKey {
        self.group
    }

    fn sign(
        &self,
        setup: &Setup,
        _session: [u8; 32],
        path: &KeyPath,
        message: &Message,
    ) -> Result<Run<Signature>, SchemeError> {
        if !path.steps().is_empty() {
            return Err(SchemeError::Path { scheme: C::SCHEME, path: path.clone() });
        }
        if setup.size() != setup.threshold() || u16::from(setup.threshold()) != *self.key.min_signers() {
            return Err(SchemeError::Threshold { threshold: setup.threshold(), parties: setup.size().into() });
        }
        let message = C::message(message).ok_or(SchemeError::WrongMessage { scheme: C::SCHEME })?.to_vec();
        let nonces = self.stock.take(|| self.fresh_nonces()).map_err(|e| SchemeError::Nonce(e.to_string()))?;
        Ok(signing(setup.clone(), self.key.clone(), self.public.clone(), message, nonces))
    }

    /// The library's messages are bound to no session; the sealed links are.
    fn refresh(&self, setup: &Setup, _session: [u8; 32]) -> Result<Run<Self>, SchemeError> {
        self.start_refresh(setup)
    }

    fn reshare(
        old: Option<&Self>,
        resharing: &Resharing,
        _session: [u8; 32],
    ) -> Result<Run<Option<Self>>, SchemeError> {
        Self::start_reshare(old, resharing)
    }

    /// The key has no chain code.
    fn split(secret: &[u8; 32], _chain_code: [u8; 32], threshold: u8, parties: u8) -> Result<Vec<Self>, SchemeError> {
        Self::split_key(secret, threshold, parties)
    }

    /// The library's messages are bound to no session; the sealed links are.
    fn enroll(&self, helpers: &Setup, place: PartyIndex, _session: [u8; 32]) -> Result<Run<Part>, SchemeError> {
        self.start_enroll(helpers, place)
    }

    fn assemble(public: &Enrollment, parts: BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>) -> Result<Self, Fault> {
        Self::of_parts(public, parts)
    }

    fn public_half(&self) -> Result<Point, Fault> {
        self.point()
    }

    fn make_key(group: GroupKey, points: &BTreeMap<PartyIndex, Point>) -> bool {
        Self::of_points(group, points)
    }

    fn beside(&self, public: &Enrollment) -> Result<Self, Fault> {
        self.next_to(public)
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
        let key = Zeroizing::new(self.key.serialize().map_err(|e| SchemeError::Library(e.to_string()))?);
        let public = self.public.serialize().map_err(|e| SchemeError::Library(e.to_string()))?;
        let bytes = postcard::to_allocvec(&(&*key, public)).map_err(|e| SchemeError::Library(e.to_string()))?;
        Ok(Zeroizing::new(bytes))
    }

    fn decode(bytes: &[u8]) -> Result<Self, SchemeError> {
        let (key, public): (&[u8], &[u8]) = decode(bytes).ok_or(SchemeError::Damaged("it is malformed"))?;
        let key = KeyPackage::deserialize(key).map_err(|_| SchemeError::Damaged("its secret part is malformed"))?;
        let public =
            PublicKeyPackage::deserialize(public).map_err(|_| SchemeError::Damaged("its public part is malformed"))?;
        Self::new(key, public)
    }
}

/// Key generation, before round one.
struct Commit<C: Suite> {
    setup: Setup,
    marker: std::marker::PhantomData<fn() -> C>,
}

/// Key generation, round one sent: commitments to this party's polynomial, with a proof of knowledge.
struct Distribute<C: Suite> {
    setup: Setup,
    secret: dkg::round1::SecretPackage<C>,
}

/// Key generation, round two sent: a share for each of the others.
struct Combine<C: Suite> {
    setup: Setup,
    secret: dkg::round2::SecretPackage<C>,
    commitments: BTreeMap<Identifier<C>, dkg::round1::Package<C>>,
}

impl<C: Suite> Protocol for Commit<C> {
    type Output = FrostShare<C>;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Self::Output>, Fault> {
        let (parties, threshold) = (self.setup.size().into(), self.setup.threshold().into());
        let me = identifier(self.setup.me())?;
        let (secret, package) = dkg::part1(me, parties, threshold, OsRng).map_err(fault)?;
        let outbox = Outbox::broadcast(package.serialize().map_err(fault)?);
        Ok(Step::Continue(Box::new(Distribute { setup: self.setup, secret }), outbox))
    }
}

impl<C: Suite> Protocol for Distribute<C> {
    type Output = FrostShare<C>;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { setup, secret } = *self;
        let commitments = inbox.broadcasts(setup.peers(), |bytes| dkg::round1::Package::deserialize(bytes).ok())?;
        let commitments = by_identifier(commitments)?;
        let (secret, mut packages) = dkg::part2(secret, &commitments).map_err(fault)?;
        let mut outbox = Outbox::default();
        for peer in setup.peers() {
            let package = packages.remove(&identifier(*peer)?);
            let package = package.ok_or_else(|| Fault::unattributed("the library made no share for a party"))?;
            outbox.directed.insert(*peer, Zeroizing::new(package.serialize().map_err(fault)?));
        }
        Ok(Step::Continue(Box::new(Combine { setup, secret, commitments }), outbox))
    }
}

impl<C: Suite> Protocol for Combine<C> {
    type Output = FrostShare<C>;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { setup, secret, commitments } = *self;
        let shares = inbox.directed(setup.peers(), |bytes| dkg::round2::Package::deserialize(bytes).ok())?;
        let (key, public) = dkg::part3(&secret, &commitments, &by_identifier(shares)?).map_err(fault)?;
        FrostShare::new(key, public).map(Step::Done).map_err(|error| Fault::unattributed(error.to_string()))
    }
}

/// The nonces of one signature. They are consumed by it: signing two messages with them would give the share away.
pub(crate) struct OneTimeNonces<C: Suite>(pub(super) SigningNonces<C>);

impl<C: Suite> OneTimeNonces<C> {
    fn sign(self, package: &SigningPackage<C>, key: &KeyPackage<C>) -> Result<SignatureShare<C>, Error<C>> {
        C::sign(package, &self.0, key)
    }
}

/// A run that signs `message` with these nonces.
pub(super) fn signing<C: Suite>(
    setup: Setup,
    key: KeyPackage<C>,
    public: PublicKeyPackage<C>,
    message: Vec<u8>,
    nonces: OneTimeNonces<C>,
) -> Run<Signature> {
    Box::new(SignCommit { setup, key, public, message, nonces })
}

/// Signing, before round one.
struct SignCommit<C: Suite> {
    setup: Setup,
    key: KeyPackage<C>,
    public: PublicKeyPackage<C>,
    message: Vec<u8>,
    nonces: OneTimeNonces<C>,
}

/// Signing, round one sent: commitments to the nonces.
struct SignShare<C: Suite> {
    setup: Setup,
    key: KeyPackage<C>,
    public: PublicKeyPackage<C>,
    message: Vec<u8>,
    nonces: OneTimeNonces<C>,
}

/// Signing, round two sent: this party's part of the signature.
struct Aggregate<C: Suite> {
    setup: Setup,
    public: PublicKeyPackage<C>,
    package: SigningPackage<C>,
    own: SignatureShare<C>,
}

impl<C: Suite> Protocol for SignCommit<C> {
    type Output = Signature;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Signature>, Fault> {
        let Self { setup, key, public, message, nonces } = *self;
        let outbox = Outbox::broadcast(nonces.0.commitments().serialize().map_err(fault)?);
        Ok(Step::Continue(Box::new(SignShare { setup, key, public, message, nonces }), outbox))
    }
}

impl<C: Suite> Protocol for SignShare<C> {
    type Output = Signature;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Signature>, Fault> {
        let Self { setup, key, public, message, nonces } = *self;
        let commitments = inbox.broadcasts(setup.peers(), |bytes| SigningCommitments::deserialize(bytes).ok())?;
        let mut commitments = by_identifier(commitments)?;
        commitments.insert(identifier(setup.me())?, *nonces.0.commitments());
        let package = SigningPackage::new(commitments, &message);
        let own = nonces.sign(&package, &key).map_err(fault)?;
        let outbox = Outbox::broadcast(own.serialize());
        Ok(Step::Continue(Box::new(Aggregate { setup, public, package, own }), outbox))
    }
}

impl<C: Suite> Protocol for Aggregate<C> {
    type Output = Signature;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Signature>, Fault> {
        let Self { setup, public, package, own } = *self;
        let shares = inbox.broadcasts(setup.peers(), |bytes| SignatureShare::deserialize(bytes).ok())?;
        let mut shares = by_identifier(shares)?;
        shares.insert(identifier(setup.me())?, own);
        let signature = C::aggregate(&package, &shares, &public).map_err(fault)?;
        let bytes = signature.serialize().map_err(fault)?;
        let bytes = bytes.try_into().map_err(|_| Fault::unattributed("the library's signature has no 64 bytes"))?;
        Ok(Step::Done(C::signature(bytes)))
    }
}

pub(super) fn identifier<C: Ciphersuite>(party: PartyIndex) -> Result<Identifier<C>, Fault> {
    Identifier::try_from(u16::from(party.get())).map_err(fault)
}

fn by_identifier<C: Ciphersuite, T>(messages: BTreeMap<PartyIndex, T>) -> Result<BTreeMap<Identifier<C>, T>, Fault> {
    messages.into_iter().map(|(from, message)| Ok((identifier(from)?, message))).collect()
}

/// The library's error, with the first culprit that it names.
fn fault<C: Ciphersuite>(error: Error<C>) -> Fault {
    let culprits = error.culprits();
    let named = |party: &PartyIndex| identifier::<C>(*party).is_ok_and(|identifier| culprits.contains(&identifier));
    let culprit = if culprits.is_empty() { None } else { PartyIndex::first(u8::MAX).find(named) };
    Fault { culprit, ban: false, reason: error.to_string() }
}
