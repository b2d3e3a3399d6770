//! Screening: no party that the bytes touch may be on a denylist.

pub mod index;
pub mod list;
pub mod ofac;
pub mod provider;

use std::sync::Arc;

use chains::address::Address;
use chains::effects::Effects;
use signer::policy::{self, Policy};

/// The configured denylist.
#[derive(Clone, Debug)]
pub struct Screening {
    policy: Arc<Policy>,
}

/// A party that is on a denylist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is on the denylist")]
pub struct Listed(pub Address);

impl Screening {
    /// Screens against the policy's denied addresses.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy }
    }

    /// Looks up every party of the effects.
    ///
    /// # Errors
    /// The first party that is listed.
    pub fn check(&self, effects: &Effects) -> Result<(), Listed> {
        match policy::screen(&self.policy, effects) {
            Some(address) => Err(Listed(address)),
            None => Ok(()),
        }
    }
}
