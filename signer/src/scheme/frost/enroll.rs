//! One more share of a FROST key, by the library's repair of a lost one: each helper splits its weighted share among the
//! helpers, and each sums up what it got.

use std::collections::BTreeMap;

use frost_core::keys::repairable::{Delta, Sigma, repair_share_part1, repair_share_part2, repair_share_part3};
use frost_core::keys::{CoefficientCommitment, PublicKeyPackage, SigningShare, VerifyingShare};
use frost_core::{Element, Field, Group, Identifier, Scalar, VerifyingKey};
use rand_core::OsRng;
use zeroize::Zeroizing;

use super::rekey::{number, scalar_of};
use super::{FrostShare, Suite, fault, identifier};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step, decode_owned, encode};
use crate::scheme::enroll::{Enrollment, Part, Point, Told};
use crate::scheme::{GroupKey, SchemeError, Setup};

impl<C: Suite> FrostShare<C> {
    pub(super) fn start_enroll(&self, setup: &Setup, place: PartyIndex) -> Result<Run<Part>, SchemeError> {
        let library = |fault: Fault| SchemeError::Library(fault.reason);
        let me = identifier::<C>(setup.me()).map_err(library)?;
        let mine = me == *self.key.identifier();
        let threshold = setup.threshold();
        if !mine || setup.size() != threshold || u16::from(threshold) != *self.key.min_signers() {
            return Err(SchemeError::Threshold { threshold, parties: setup.size().into() });
        }
        let target = identifier::<C>(place).map_err(library)?;
        let mut shares = BTreeMap::new();
        for helper in setup.peers().iter().chain([&setup.me()]) {
            let holder = identifier(*helper).map_err(library)?;
            let share = self.public.verifying_shares().get(&holder);
            let share = share.ok_or(SchemeError::Damaged("it knows nothing of another holder"))?;
            shares.insert(*helper, Point(share.serialize().map_err(|error| library(fault(error)))?));
        }
        if self.public.verifying_shares().contains_key(&target) {
            return Err(SchemeError::Damaged("the place is another holder's"));
        }
        let helpers =
            shares.keys().map(|helper| identifier(*helper)).collect::<Result<Vec<_>, _>>().map_err(library)?;
        let deltas = repair_share_part1::<C, _>(&helpers, &self.key, &mut OsRng, target);
        let deltas = deltas.map_err(|error| library(fault(error)))?;
        Ok(Box::new(Spread::<C> { setup: setup.clone(), place, group: self.group, shares, deltas }))
    }

    /// The share that the parts add up to.
    pub(super) fn of_parts(
        public: &Enrollment,
        parts: BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>,
    ) -> Result<Self, Fault> {
        let (key, expected) = check::<C>(public)?;
        let mut sigmas = Vec::with_capacity(parts.len());
        for (helper, part) in parts {
            let told = public.parts.get(&helper).map(point::<C>).transpose()?;
            let is = C::Group::generator() * scalar::<C>(&part).ok_or_else(|| Fault::of(helper, "it is malformed"))?;
            if told.is_none_or(|told| told != is) {
                return Err(Fault::of(helper, "its part is another than it told the others of"));
            }
            sigmas.push(Sigma::deserialize(&part).map_err(|_| Fault::of(helper, "its part is malformed"))?);
        }
        if sigmas.len() != public.parts.len() {
            return Err(Fault::unattributed("a part is missing"));
        }
        let mut shares = BTreeMap::from([(identifier(public.place)?, verifying::<C>(&expected)?)]);
        for holder in PartyIndex::first(public.place.get().saturating_sub(1)) {
            let share = sum_at::<C>(&public.shares, number::<C>(holder.get()))?;
            shares.insert(identifier(holder)?, verifying::<C>(&share)?);
        }
        let package = PublicKeyPackage::<C>::new(shares, key, Some(public.threshold.into()));
        let key = repair_share_part3(&sigmas, identifier(public.place)?, &package).map_err(fault)?;
        if package.verifying_shares().get(key.identifier()) != Some(key.verifying_share()) {
            return Err(Fault::unattributed("the parts sum up to another share"));
        }
        FrostShare::new(key, package).map_err(|error| Fault::unattributed(error.to_string()))
    }

    /// The public half of this share.
    pub(super) fn point(&self) -> Result<Point, Fault> {
        Ok(Point(self.key.verifying_share().serialize().map_err(fault)?))
    }

    /// Whether the shares with these public halves make the key by themselves.
    pub(super) fn of_points(group: GroupKey, points: &BTreeMap<PartyIndex, Point>) -> bool {
        key_of::<C>(points).is_ok_and(|(_, made)| made == group)
    }

    /// This share for use beside the one that was made, if both are of one sharing.
    pub(super) fn next_to(&self, public: &Enrollment) -> Result<Self, Fault> {
        let (key, expected) = check::<C>(public)?;
        let mut shares = self.public.verifying_shares().clone();
        for (helper, share) in &public.shares {
            let known = shares.get(&identifier(*helper)?).and_then(|share| share.serialize().ok());
            if known.as_deref() != Some(share.0.as_slice()) {
                return Err(Fault::unattributed("the share is of another sharing"));
            }
        }
        if key != *self.public.verifying_key() {
            return Err(Fault::unattributed("the share is of another key"));
        }
        shares.insert(identifier(public.place)?, verifying::<C>(&expected)?);
        let package = PublicKeyPackage::new(shares, key, self.public.min_signers());
        FrostShare::new(self.key.clone(), package).map_err(|error| Fault::unattributed(error.to_string()))
    }
}

/// A helper, before it has sent anything.
struct Spread<C: Suite> {
    setup: Setup,
    place: PartyIndex,
    group: GroupKey,
    shares: BTreeMap<PartyIndex, Point>,
    deltas: BTreeMap<Identifier<C>, Delta<C>>,
}

/// A helper that has split its weighted share among the helpers.
struct Gather<C: Suite> {
    setup: Setup,
    place: PartyIndex,
    group: GroupKey,
    shares: BTreeMap<PartyIndex, Point>,
    own: Delta<C>,
}

/// A helper that has told the others of its part.
struct Hear<C: Suite> {
    setup: Setup,
    place: PartyIndex,
    group: GroupKey,
    shares: BTreeMap<PartyIndex, Point>,
    secret: Zeroizing<Vec<u8>>,
    own: Told,
    marker: std::marker::PhantomData<fn() -> C>,
}

impl<C: Suite> Protocol for Spread<C> {
    type Output = Part;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Part>, Fault> {
        let Self { setup, place, group, shares, mut deltas } = *self;
        let missing = || Fault::unattributed("the library left a helper out");
        let mut outbox = Outbox::default();
        for peer in setup.peers() {
            let delta = deltas.remove(&identifier(*peer)?).ok_or_else(missing)?;
            outbox.directed.insert(*peer, Zeroizing::new(delta.serialize()));
        }
        let own = deltas.remove(&identifier(setup.me())?).ok_or_else(missing)?;
        Ok(Step::Continue(Box::new(Gather { setup, place, group, shares, own }), outbox))
    }
}

impl<C: Suite> Protocol for Gather<C> {
    type Output = Part;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Part>, Fault> {
        let Self { setup, place, group, shares, own } = *self;
        let deltas = inbox.directed(setup.peers(), |bytes| Delta::<C>::deserialize(bytes).ok())?;
        let deltas = deltas.into_values().chain([own]).collect::<Vec<_>>();
        let secret = Zeroizing::new(repair_share_part2(&deltas).serialize());
        let part = scalar::<C>(&secret).ok_or_else(|| Fault::unattributed("the deltas sum up to nothing"))?;
        let part = written::<C>(&(C::Group::generator() * part))?;
        let share = shares.get(&setup.me()).cloned();
        let own = Told { share: share.ok_or_else(|| Fault::unattributed("this helper has no share"))?, part };
        let outbox = Outbox::broadcast(encode(&own)?);
        let marker = std::marker::PhantomData::<fn() -> C>;
        Ok(Step::Continue(Box::new(Hear { setup, place, group, shares, secret, own, marker }), outbox))
    }
}

impl<C: Suite> Protocol for Hear<C> {
    type Output = Part;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Part>, Fault> {
        let Self { setup, place, group, shares, secret, own, .. } = *self;
        let mut told = inbox.broadcasts(setup.peers(), decode_owned::<Told>)?;
        told.insert(setup.me(), own);
        if let Some((helper, _)) = told.iter().find(|(helper, told)| shares.get(helper) != Some(&told.share)) {
            return Err(Fault::of(*helper, "it speaks of another share than it holds"));
        }
        let public = Enrollment::of(group, setup.threshold(), place, told);
        check::<C>(&public)?;
        Ok(Step::Done(Part { secret, public }))
    }
}

/// The key, and the public half of the new share. The helpers' shares have to make the key, and their parts the share.
fn check<C: Suite>(public: &Enrollment) -> Result<(VerifyingKey<C>, Element<C>), Fault> {
    public.helpers().ok_or_else(|| Fault::unattributed("the helpers are not those it takes"))?;
    let (key, group) = key_of::<C>(&public.shares)?;
    if group != public.group {
        return Err(Fault::unattributed("the helpers' shares sum up to another key"));
    }
    let expected = sum_at::<C>(&public.shares, number::<C>(public.place.get()))?;
    let parts = public.parts.values().try_fold(C::Group::identity(), |sum, part| Ok(sum + point::<C>(part)?))?;
    if parts == expected { Ok((key, expected)) } else { Err(Fault::unattributed("the parts sum up to another share")) }
}

/// The key that shares with these public halves make.
fn key_of<C: Suite>(shares: &BTreeMap<PartyIndex, Point>) -> Result<(VerifyingKey<C>, GroupKey), Fault> {
    let zero = <<C::Group as Group>::Field as Field>::zero();
    let key = written::<C>(&sum_at::<C>(shares, zero)?)?;
    let key = VerifyingKey::<C>::deserialize(&key.0).map_err(fault)?;
    let group = C::group(&PublicKeyPackage::<C>::new(BTreeMap::new(), key, None));
    Ok((key, group.ok_or_else(|| Fault::unattributed("the shares make no key"))?))
}

/// What the helpers' shares make of the polynomial at `x`, in the exponent.
fn sum_at<C: Suite>(shares: &BTreeMap<PartyIndex, Point>, x: Scalar<C>) -> Result<Element<C>, Fault> {
    shares.iter().try_fold(C::Group::identity(), |sum, (helper, share)| {
        let (mut numerator, mut denominator) = (number::<C>(1), number::<C>(1));
        for other in shares.keys().filter(|other| *other != helper) {
            numerator = numerator * (x - number::<C>(other.get()));
            denominator = denominator * (number::<C>(helper.get()) - number::<C>(other.get()));
        }
        let inverse = <<C::Group as Group>::Field as Field>::invert(&denominator);
        let inverse = inverse.map_err(|error| fault::<C>(error.into()))?;
        Ok(sum + point::<C>(share)? * (numerator * inverse))
    })
}

fn scalar<C: Suite>(bytes: &[u8]) -> Option<Scalar<C>> {
    scalar_of::<C>(&SigningShare::deserialize(bytes).ok()?).ok()
}

fn written<C: Suite>(element: &Element<C>) -> Result<Point, Fault> {
    let bytes = C::Group::serialize(element).map_err(|error| fault::<C>(error.into()))?;
    Ok(Point(bytes.as_ref().to_vec()))
}

fn point<C: Suite>(point: &Point) -> Result<Element<C>, Fault> {
    Ok(CoefficientCommitment::<C>::deserialize(&point.0).map_err(fault)?.value())
}

fn verifying<C: Suite>(element: &Element<C>) -> Result<VerifyingShare<C>, Fault> {
    VerifyingShare::deserialize(&written::<C>(element)?.0).map_err(fault)
}
