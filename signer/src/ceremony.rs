//! How keys come into being, and how their shares change hands: by all signers together, whole in no place.
//!
//! [`dkg`], [`refresh`] and [`reshare`] are the coordinator's side of a key generation and of what follows it, [`import`]
//! splits a key that was whole, [`escrow`] makes a share for the day on which signers are lost; [`echo`] makes the signers' broadcasts consistent.

pub(crate) mod dkg;
pub(crate) mod echo;
pub mod escrow;
pub(crate) mod import;
pub(crate) mod refresh;
pub(crate) mod reshare;
