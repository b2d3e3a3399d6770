//! One more share of a sharing, made by as many holders as it takes to sign, for a place that nobody has.
//!
//! The holders that help yield one blinded part each; the share is the sum of all parts, and fewer parts than all say
//! nothing of it. Who adds them up learns the one share and nothing of the helpers' own. The blinding is the libraries':
//! the repair of FROST (<https://eprint.iacr.org/2017/1155>) and that of DKLs23. What is checked on top are points: the
//! parts have to add up to what the helpers' shares make of the new place, and the helpers' shares to the key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::GroupKey;
use crate::protocol::PartyIndex;

/// What is public about one more share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrollment {
    /// The key.
    pub(crate) group: GroupKey,
    /// How many shares it takes to sign.
    pub(crate) threshold: u8,
    /// The place of the share: the x-coordinate that it belongs to.
    pub(crate) place: PartyIndex,
    /// The public halves of the helpers' own shares, by their places.
    pub(crate) shares: BTreeMap<PartyIndex, Point>,
    /// The public halves of their parts.
    pub(crate) parts: BTreeMap<PartyIndex, Point>,
}

/// A point as its curve's library writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Point(#[serde(with = "hex::serde")] pub(crate) Vec<u8>);

/// What one helper yields.
pub(crate) struct Part {
    /// Its part, for the new share's holder alone.
    pub(crate) secret: Zeroizing<Vec<u8>>,
    /// What every helper has seen alike.
    pub(crate) public: Enrollment,
}

/// What a helper tells the others of its part.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) share: Point,
    pub(super) part: Point,
}

impl Enrollment {
    /// What the helpers have told, put together.
    pub(super) fn of(group: GroupKey, threshold: u8, place: PartyIndex, told: BTreeMap<PartyIndex, Told>) -> Self {
        let (mut shares, mut parts) = (BTreeMap::new(), BTreeMap::new());
        for (helper, Told { share, part }) in told {
            shares.insert(helper, share);
            parts.insert(helper, part);
        }
        Self { group, threshold, place, shares, parts }
    }

    /// The helpers, where they are as many as they must be and stand where they may.
    pub(super) fn helpers(&self) -> Option<Vec<PartyIndex>> {
        let helpers = self.shares.keys().copied().collect::<Vec<_>>();
        let same = self.parts.keys().copied().eq(helpers.iter().copied());
        let enough = self.threshold >= 2 && helpers.len() == usize::from(self.threshold);
        (same && enough && !helpers.contains(&self.place)).then_some(helpers)
    }
}
