//! Other shares of the same FROST key: a refresh by the library's protocol, a reshare by Feldman's sharing of each
//! dealer's weighted share, and the split of a key that was whole.

use std::collections::{BTreeMap, BTreeSet};

use frost_core::keys::{
    CoefficientCommitment, IdentifierList, KeyPackage, PublicKeyPackage, SecretShare, SigningShare,
    VerifiableSecretSharingCommitment, VerifyingShare, dkg, refresh, split,
};
use frost_core::{Element, Field, Group, Identifier, Scalar, SigningKey};
use rand_core::OsRng;
use zeroize::Zeroizing;

use super::{FrostShare, Suite, by_identifier, fault, identifier};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step};
use crate::scheme::{Resharing, SchemeError, Setup};

impl<C: Suite> FrostShare<C> {
    pub(super) fn start_refresh(&self, setup: &Setup) -> Result<Run<Self>, SchemeError> {
        let holders = self.public.verifying_shares().len();
        if usize::from(setup.size()) != holders || u16::from(setup.threshold()) != *self.key.min_signers() {
            return Err(SchemeError::Threshold { threshold: setup.threshold(), parties: setup.size().into() });
        }
        let (setup, key, public) = (setup.clone(), self.key.clone(), self.public.clone());
        Ok(Box::new(Mask::<C> { setup, key, public }))
    }

    pub(super) fn start_reshare(old: Option<&Self>, resharing: &Resharing) -> Result<Run<Option<Self>>, SchemeError> {
        let library = |fault: Fault| SchemeError::Library(fault.reason);
        let mut weighted = None;
        let mut constants = BTreeMap::new();
        if let Some(old) = old {
            for (dealer, place) in resharing.dealers() {
                let weight = lagrange::<C>(*place, resharing.dealers().values()).map_err(library)?;
                if *dealer == resharing.me() {
                    let share = scalar_of(old.key.signing_share()).map_err(library)?;
                    weighted = Some(SigningKey::from_scalar(weight * share).map_err(|e| library(fault(e)))?);
                }
                let holder = identifier(*place).map_err(library)?;
                let public = old.public.verifying_shares().get(&holder);
                let public = public.ok_or(SchemeError::Damaged("it knows nothing of another holder"))?;
                constants.insert(*dealer, element_of(public).map_err(library)? * weight);
            }
        }
        if resharing.deals() != weighted.is_some() {
            return Err(SchemeError::Damaged("it is not the one to be dealt from"));
        }
        Ok(Box::new(Deal::<C> { resharing: resharing.clone(), weighted, constants }))
    }

    pub(super) fn split_key(secret: &[u8; 32], threshold: u8, parties: u8) -> Result<Vec<Self>, SchemeError> {
        let library = |error: frost_core::Error<C>| SchemeError::Library(error.to_string());
        let secret = SigningKey::<C>::deserialize(secret).map_err(library)?;
        let (shares, public) =
            split(&secret, parties.into(), threshold.into(), IdentifierList::Default, &mut OsRng).map_err(library)?;
        let share = |share: SecretShare<C>| Self::new(KeyPackage::try_from(share).map_err(library)?, public.clone());
        shares.into_values().map(share).collect()
    }
}

/// Refresh, before round one.
struct Mask<C: Suite> {
    setup: Setup,
    key: KeyPackage<C>,
    public: PublicKeyPackage<C>,
}

/// Refresh, round one sent: commitments to a polynomial whose constant term is zero.
struct MaskShares<C: Suite> {
    setup: Setup,
    key: KeyPackage<C>,
    public: PublicKeyPackage<C>,
    secret: dkg::round1::SecretPackage<C>,
}

/// Refresh, round two sent: what each of the others adds to its share.
struct MaskAdd<C: Suite> {
    setup: Setup,
    key: KeyPackage<C>,
    public: PublicKeyPackage<C>,
    secret: dkg::round2::SecretPackage<C>,
    commitments: BTreeMap<Identifier<C>, dkg::round1::Package<C>>,
}

impl<C: Suite> Protocol for Mask<C> {
    type Output = FrostShare<C>;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { setup, key, public } = *self;
        let (parties, threshold) = (setup.size().into(), setup.threshold().into());
        let (secret, package) =
            refresh::refresh_dkg_part1(identifier(setup.me())?, parties, threshold, OsRng).map_err(fault)?;
        let outbox = Outbox::broadcast(package.serialize().map_err(fault)?);
        Ok(Step::Continue(Box::new(MaskShares { setup, key, public, secret }), outbox))
    }
}

impl<C: Suite> Protocol for MaskShares<C> {
    type Output = FrostShare<C>;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { setup, key, public, secret } = *self;
        let commitments = inbox.broadcasts(setup.peers(), |bytes| dkg::round1::Package::deserialize(bytes).ok())?;
        let commitments = by_identifier(commitments)?;
        let (secret, mut packages) = refresh::refresh_dkg_part2(secret, &commitments).map_err(fault)?;
        let mut outbox = Outbox::default();
        for peer in setup.peers() {
            let package = packages.remove(&identifier(*peer)?);
            let package = package.ok_or_else(|| Fault::unattributed("the library made no share for a party"))?;
            outbox.directed.insert(*peer, Zeroizing::new(package.serialize().map_err(fault)?));
        }
        Ok(Step::Continue(Box::new(MaskAdd { setup, key, public, secret, commitments }), outbox))
    }
}

impl<C: Suite> Protocol for MaskAdd<C> {
    type Output = FrostShare<C>;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { setup, key, public, secret, commitments } = *self;
        let shares = inbox.directed(setup.peers(), |bytes| dkg::round2::Package::<C>::deserialize(bytes).ok())?;
        for (from, share) in &shares {
            let commitments = commitments.get(&identifier(*from)?);
            if !commitments.is_some_and(|package| masks(setup.me(), package, share)) {
                return Err(Fault::of(*from, "its share contradicts its commitments"));
            }
        }
        let shares = by_identifier(shares)?;
        let (key, public) = refresh::refresh_dkg_shares(&secret, &commitments, &shares, public, key).map_err(fault)?;
        FrostShare::new(key, public).map(Step::Done).map_err(|error| Fault::unattributed(error.to_string()))
    }
}

/// Whether a share of the zero polynomial is what its sender committed to; the commitment to the constant term is left
/// out. The library checks the same and doesn't say whose share is wrong.
fn masks<C: Suite>(me: PartyIndex, committed: &dkg::round1::Package<C>, share: &dkg::round2::Package<C>) -> bool {
    let check = || {
        let x = number::<C>(me.get());
        let mut expected = C::Group::identity();
        for bytes in committed.commitment().serialize().ok()?.iter().rev() {
            expected = (expected + CoefficientCommitment::<C>::deserialize(bytes).ok()?.value()) * x;
        }
        Some(C::Group::generator() * scalar_of(share.signing_share()).ok()? == expected)
    };
    check().unwrap_or(false)
}

/// Reshare, before its round.
struct Deal<C: Suite> {
    resharing: Resharing,
    /// This party's share times its Lagrange coefficient, where it deals: the weighted shares of all dealers sum up to the
    /// key.
    weighted: Option<SigningKey<C>>,
    /// What the constant term of each dealer must be, where this party can tell.
    constants: BTreeMap<PartyIndex, Element<C>>,
}

/// Reshare, its round sent: commitments to a polynomial of the new degree, and its value for each new holder.
struct Collect<C: Suite> {
    resharing: Resharing,
    constants: BTreeMap<PartyIndex, Element<C>>,
    own: Option<(VerifiableSecretSharingCommitment<C>, Option<SigningShare<C>>)>,
}

impl<C: Suite> Protocol for Deal<C> {
    type Output = Option<FrostShare<C>>;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { resharing, weighted, constants } = *self;
        let Some(weighted) = weighted else {
            // The echo takes something from everybody.
            let outbox = Outbox::broadcast(vec![0]);
            return Ok(Step::Continue(Box::new(Collect::<C> { resharing, constants, own: None }), outbox));
        };
        let (parties, threshold) = (resharing.parties(), resharing.threshold());
        let (shares, _) =
            split(&weighted, parties.into(), threshold.into(), IdentifierList::Default, &mut OsRng).map_err(fault)?;
        let commitment = shares.values().next().map(|share| share.commitment().clone());
        let commitment = commitment.ok_or_else(|| Fault::unattributed("the library made no share"))?;
        let mut outbox = Outbox::broadcast(commitment.serialize_whole().map_err(fault)?);
        let mut own = None;
        for party in PartyIndex::first(parties) {
            let share = shares.get(&identifier(party)?);
            let share = *share.ok_or_else(|| Fault::unattributed("the library left a party out"))?.signing_share();
            if party == resharing.me() {
                own = Some(share);
            } else {
                outbox.directed.insert(party, Zeroizing::new(share.serialize()));
            }
        }
        let own = Some((commitment, own));
        Ok(Step::Continue(Box::new(Collect { resharing, constants, own }), outbox))
    }
}

impl<C: Suite> Protocol for Collect<C> {
    type Output = Option<FrostShare<C>>;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Self::Output>, Fault> {
        let Self { resharing, constants, own } = *self;
        let dealers = resharing.other_dealers();
        let mut commitments = inbox
            .broadcasts(&dealers, |bytes| VerifiableSecretSharingCommitment::<C>::deserialize_whole(bytes).ok())?;
        let mut shares = if resharing.receives() {
            inbox.directed(&dealers, |bytes| SigningShare::<C>::deserialize(bytes).ok())?
        } else {
            BTreeMap::new()
        };
        for (dealer, share) in &shares {
            let commitment = commitments.get(dealer).cloned();
            let commitment = commitment.ok_or_else(|| Fault::of(*dealer, "its commitments are missing"))?;
            let checked = SecretShare::new(identifier(resharing.me())?, *share, commitment).verify();
            checked.map_err(|_| Fault::of(*dealer, "its share contradicts its commitments"))?;
        }
        if let Some((commitment, share)) = own {
            commitments.insert(resharing.me(), commitment);
            shares.extend(share.map(|share| (resharing.me(), share)));
        }
        let public = sum(&resharing, &constants, commitments)?;
        if C::group(&public) != Some(resharing.group()) {
            return Err(Fault::unattributed("the dealers' shares sum up to another key"));
        }
        if !resharing.receives() {
            return Ok(Step::Done(None));
        }
        let zero = <<C::Group as Group>::Field as Field>::zero();
        let total = shares.values().try_fold(zero, |total, share| Ok(total + scalar_of(share)?))?;
        let share = share_of(&total)?;
        let me = identifier(resharing.me())?;
        let key = KeyPackage::new(
            me,
            share,
            VerifyingShare::from(share),
            *public.verifying_key(),
            resharing.threshold().into(),
        );
        let share = FrostShare::new(key, public).map_err(|error| Fault::unattributed(error.to_string()))?;
        Ok(Step::Done(Some(share)))
    }
}

/// What the dealers' commitments amount to. A dealer whose constant term is not its weighted share is a culprit.
fn sum<C: Suite>(
    resharing: &Resharing,
    constants: &BTreeMap<PartyIndex, Element<C>>,
    commitments: BTreeMap<PartyIndex, VerifiableSecretSharingCommitment<C>>,
) -> Result<PublicKeyPackage<C>, Fault> {
    let mut total: Vec<Element<C>> = Vec::new();
    for (dealer, commitment) in commitments {
        let coefficients = commitment.serialize().map_err(fault)?.into_iter();
        let coefficients = coefficients.map(|bytes| Ok(CoefficientCommitment::<C>::deserialize(&bytes)?.value()));
        let coefficients = coefficients.collect::<Result<Vec<_>, _>>().map_err(fault::<C>)?;
        if coefficients.len() != usize::from(resharing.threshold()) {
            return Err(Fault::of(dealer, "its polynomial has another degree"));
        }
        if let (Some(constant), Some(is)) = (constants.get(&dealer), coefficients.first())
            && constant != is
        {
            return Err(Fault::of(dealer, "it deals another share than it holds"));
        }
        if total.is_empty() {
            total = coefficients;
        } else {
            total.iter_mut().zip(coefficients).for_each(|(sum, coefficient)| *sum = *sum + coefficient);
        }
    }
    let bytes = total.iter().map(|element| Ok(C::Group::serialize(element)?.as_ref().to_vec()));
    let bytes = bytes.collect::<Result<Vec<_>, frost_core::Error<C>>>().map_err(fault)?;
    let commitment = VerifiableSecretSharingCommitment::<C>::deserialize(bytes).map_err(fault)?;
    let holders = PartyIndex::first(resharing.parties()).map(identifier).collect::<Result<BTreeSet<_>, _>>()?;
    PublicKeyPackage::from_commitment(&holders, &commitment).map_err(fault)
}

/// The coefficient of the holder `place` when the holders `all` combine their shares (RFC 9591, section 4.2).
fn lagrange<'p, C: Suite>(place: PartyIndex, all: impl Iterator<Item = &'p PartyIndex>) -> Result<Scalar<C>, Fault> {
    let (mut numerator, mut denominator) = (number::<C>(1), number::<C>(1));
    for other in all.filter(|other| **other != place) {
        numerator = numerator * number::<C>(other.get());
        denominator = denominator * (number::<C>(other.get()) - number::<C>(place.get()));
    }
    let inverse = <<C::Group as Group>::Field as Field>::invert(&denominator);
    Ok(numerator * inverse.map_err(|error| fault::<C>(error.into()))?)
}

pub(super) fn number<C: Suite>(number: u8) -> Scalar<C> {
    let (zero, one) = (<<C::Group as Group>::Field as Field>::zero(), <<C::Group as Group>::Field as Field>::one());
    (0..number).fold(zero, |sum, _| sum + one)
}

pub(super) fn scalar_of<C: Suite>(share: &SigningShare<C>) -> Result<Scalar<C>, Fault> {
    let bytes = Zeroizing::new(share.serialize());
    Ok(SigningKey::<C>::deserialize(&bytes).map_err(fault)?.to_scalar())
}

fn share_of<C: Suite>(scalar: &Scalar<C>) -> Result<SigningShare<C>, Fault> {
    let mut bytes = <<C::Group as Group>::Field as Field>::serialize(scalar);
    let share = SigningShare::deserialize(bytes.as_ref()).map_err(fault);
    zeroize::Zeroize::zeroize(bytes.as_mut());
    share
}

fn element_of<C: Suite>(share: &VerifyingShare<C>) -> Result<Element<C>, Fault> {
    let bytes = share.serialize().map_err(fault)?;
    Ok(CoefficientCommitment::<C>::deserialize(&bytes).map_err(fault)?.value())
}
