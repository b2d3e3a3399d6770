//! One more share of an ECDSA key, by the library's repair of a lost one: the masks come from the seeds that the helpers
//! share in pairs, so nothing but points has to be exchanged.

use std::collections::BTreeMap;

use dkls23::protocols::repair::{RepairTerm, repair_assemble};
use dkls23::protocols::{Parameters, Party, PublicKeyPackage};
use dkls23::utilities::hashes::point_to_bytes;
use dkls23_k256::{AffinePoint, ProjectivePoint, Scalar, Secp256k1};
use zeroize::Zeroizing;

use super::rekey::number;
use super::{KeyShare, index, no_address, unstartable};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step, decode_owned, encode};
use crate::scheme::enroll::{Enrollment, Part, Point, Told};
use crate::scheme::{GroupKey, SchemeError, Setup};

impl KeyShare {
    pub(super) fn start_enroll(
        &self,
        setup: &Setup,
        place: PartyIndex,
        session: [u8; 32],
    ) -> Result<Run<Part>, SchemeError> {
        let Parameters { threshold, share_count } = self.party.parameters;
        let mine = setup.me().get() == self.party.party_index.as_u8();
        if !mine || setup.size() != threshold || setup.threshold() != threshold {
            return Err(SchemeError::Threshold { threshold: setup.threshold(), parties: setup.size().into() });
        }
        if place.get() <= share_count {
            return Err(SchemeError::Damaged("the place is another holder's"));
        }
        let mut helpers =
            setup.peers().iter().chain([&setup.me()]).map(|p| index(*p)).collect::<Result<Vec<_>, _>>()?;
        helpers.sort_unstable();
        // The library repairs places among those that there are; the polynomial has a value at every other place too. The
        // copy wipes itself.
        let mut party = Party::clone(&self.party);
        party.parameters.share_count = place.get();
        let term = party.repair_term(&helpers, index(place)?, &session);
        let term = term.map_err(|error| SchemeError::Library(error.to_string()))?;
        let share = ProjectivePoint::GENERATOR * self.party.poly_point;
        Ok(Box::new(Tell { setup: setup.clone(), place, group: self.group, term, share: share.to_affine() }))
    }

    /// The share that the parts add up to.
    pub(super) fn of_parts(
        public: &Enrollment,
        parts: BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>,
    ) -> Result<Self, Fault> {
        let (pk, expected) = check(public)?;
        let mut terms = Vec::with_capacity(parts.len());
        for (helper, part) in parts {
            let term = decode_owned::<RepairTerm<Secp256k1>>(&part);
            let term = term.ok_or_else(|| Fault::of(helper, "its part is malformed"))?;
            let told = public.parts.get(&helper).map(point).transpose()?;
            let is = ProjectivePoint::GENERATOR * term.term;
            if term.helper.as_u8() != helper.get() || told.is_none_or(|told| told != is) {
                return Err(Fault::of(helper, "its part is another than it told the others of"));
            }
            terms.push(term);
        }
        let place = index(public.place).map_err(unstartable)?;
        let parameters = Parameters::new(public.threshold, public.place.get());
        let parameters = parameters.map_err(|_| Fault::unattributed("the threshold is none"))?;
        let shares = BTreeMap::from([(place, expected.to_affine())]);
        let package = PublicKeyPackage::<Secp256k1>::new(pk.to_affine(), shares, parameters);
        let party = repair_assemble(&package, place, &terms, no_address);
        let party = party.map_err(|error| Fault::unattributed(error.to_string()))?;
        let share = Self::new(party).map_err(unstartable)?;
        if share.group == public.group { Ok(share) } else { Err(Fault::unattributed("the share is of another key")) }
    }

    /// The public half of this share.
    pub(super) fn point(&self) -> Point {
        written(&(ProjectivePoint::GENERATOR * self.party.poly_point).to_affine())
    }

    /// Whether the shares with these public halves make the key by themselves.
    pub(super) fn of_points(group: GroupKey, points: &BTreeMap<PartyIndex, Point>) -> bool {
        let GroupKey::Ecdsa(group) = group else { return false };
        let sum = sum_at(points, Scalar::ZERO).map(|sum| point_to_bytes::<Secp256k1>(&sum.to_affine()));
        sum.is_ok_and(|sum| sum == group.public_key.to_bytes())
    }

    /// This share for use beside the one that was made, if both are of one sharing.
    pub(super) fn next_to(&self, public: &Enrollment) -> Result<Self, Fault> {
        check(public)?;
        let me = PartyIndex::new(self.party.party_index.as_u8());
        let me = me.ok_or_else(|| Fault::unattributed("the share has no place"))?;
        if sum_at(&public.shares, number(me))? != ProjectivePoint::GENERATOR * self.party.poly_point {
            return Err(Fault::unattributed("the share is of another sharing"));
        }
        Self::new(Party::clone(&self.party)).map_err(unstartable)
    }
}

/// A helper, before it has told anything.
struct Tell {
    setup: Setup,
    place: PartyIndex,
    group: GroupKey,
    term: RepairTerm<Secp256k1>,
    share: AffinePoint,
}

/// A helper that has told the others of its share and its part.
struct Hear {
    setup: Setup,
    place: PartyIndex,
    group: GroupKey,
    term: RepairTerm<Secp256k1>,
    own: Told,
}

impl Protocol for Tell {
    type Output = Part;

    fn step(self: Box<Self>, _: Inbox) -> Result<Step<Part>, Fault> {
        let Self { setup, place, group, term, share } = *self;
        let part = (ProjectivePoint::GENERATOR * term.term).to_affine();
        let own = Told { share: written(&share), part: written(&part) };
        let outbox = Outbox::broadcast(encode(&own)?);
        Ok(Step::Continue(Box::new(Hear { setup, place, group, term, own }), outbox))
    }
}

impl Protocol for Hear {
    type Output = Part;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Part>, Fault> {
        let Self { setup, place, group, term, own } = *self;
        let mut told = inbox.broadcasts(setup.peers(), decode_owned::<Told>)?;
        told.insert(setup.me(), own);
        let public = Enrollment::of(group, setup.threshold(), place, told);
        check(&public)?;
        let secret = Zeroizing::new(encode(&term)?);
        Ok(Step::Done(Part { secret, public }))
    }
}

/// The key, and the public half of the new share. The helpers' shares have to make the key, and their parts the share.
fn check(public: &Enrollment) -> Result<(ProjectivePoint, ProjectivePoint), Fault> {
    public.helpers().ok_or_else(|| Fault::unattributed("the helpers are not those it takes"))?;
    let GroupKey::Ecdsa(group) = public.group else { return Err(Fault::unattributed("the key is no ECDSA key")) };
    let pk = sum_at(&public.shares, Scalar::ZERO)?;
    if point_to_bytes::<Secp256k1>(&pk.to_affine()) != group.public_key.to_bytes() {
        return Err(Fault::unattributed("the helpers' shares sum up to another key"));
    }
    let expected = sum_at(&public.shares, number(public.place))?;
    let parts = public.parts.values().try_fold(ProjectivePoint::IDENTITY, |sum, part| Ok(sum + point(part)?))?;
    if parts == expected { Ok((pk, expected)) } else { Err(Fault::unattributed("the parts sum up to another share")) }
}

/// What the helpers' shares make of the polynomial at `x`, in the exponent.
fn sum_at(shares: &BTreeMap<PartyIndex, Point>, x: Scalar) -> Result<ProjectivePoint, Fault> {
    shares.iter().try_fold(ProjectivePoint::IDENTITY, |sum, (helper, share)| {
        let (mut numerator, mut denominator) = (Scalar::ONE, Scalar::ONE);
        for other in shares.keys().filter(|other| *other != helper) {
            numerator *= x - number(*other);
            denominator *= number(*helper) - number(*other);
        }
        let inverse = Option::<Scalar>::from(denominator.invert());
        let inverse = inverse.ok_or_else(|| Fault::unattributed("two helpers have one place"))?;
        Ok(sum + point(share)? * (numerator * inverse))
    })
}

fn written(point: &AffinePoint) -> Point {
    Point(point_to_bytes::<Secp256k1>(point).to_vec())
}

fn point(point: &Point) -> Result<ProjectivePoint, Fault> {
    use dkls23_k256::elliptic_curve::group::GroupEncoding;
    let malformed = || Fault::unattributed("a point is malformed");
    let mut bytes = <AffinePoint as GroupEncoding>::Repr::default();
    if bytes.len() != point.0.len() {
        return Err(malformed());
    }
    bytes.copy_from_slice(&point.0);
    let point = Option::<AffinePoint>::from(AffinePoint::from_bytes(&bytes)).ok_or_else(malformed)?;
    Ok(point.into())
}
