//! How keys come into being: by all signers together, whole in no place.
//!
//! [`dkg`] is the coordinator's side of a key generation; [`echo`] makes the signers' broadcasts consistent.

pub(crate) mod dkg;
pub(crate) mod echo;
