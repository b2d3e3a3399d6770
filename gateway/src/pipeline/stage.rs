//! The stages between build and signature. Each can only be made from the one before it, and none is ever deserialized:
//! what comes from the store starts again as a [`Draft`].
//!
//! A transaction can't be frozen, and so not signed, unless it was screened and allowed:
//!
//! ```compile_fail,E0451
//! use gateway::{lane::Draft, pipeline::stage::{Allowed, Screened}};
//! fn skip_the_policy(draft: Draft) -> Allowed {
//!     Allowed { draft, rule: "none".to_owned() }
//! }
//! ```
//!
//! and what was frozen is signed once:
//!
//! ```compile_fail,E0382
//! use gateway::pipeline::stage::Frozen;
//! fn twice(frozen: Frozen) -> (Vec<u8>, Vec<u8>) {
//!     (frozen.into_unsigned(), frozen.into_unsigned())
//! }
//! ```

use chains::account::Account;
use signer::policy::{self, Denial, Policy, Verdict};

use crate::lane::Draft;
use crate::record::Reason;
use crate::screening::{Listed, Screening};

/// A draft none of whose parties is on a denylist.
#[derive(Debug)]
pub struct Screened {
    draft: Draft,
}

/// A screened draft that the policy allows.
#[derive(Debug)]
pub struct Allowed {
    draft: Draft,
    rule: String,
}

/// Bytes that are durable with their slots reserved: the only thing that is handed to the signers.
#[derive(Debug)]
pub struct Frozen {
    unsigned: Vec<u8>,
}

/// The policy's no.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The rule that said it; none where no rule allowed it.
    pub rule: Option<String>,
    /// Why.
    pub denial: Denial,
}

impl Screened {
    /// Screens every party that the draft's bytes touch.
    ///
    /// # Errors
    /// The first party that is listed.
    pub fn new(draft: Draft, screening: &Screening) -> Result<Self, Listed> {
        screening.check(draft.effects())?;
        Ok(Self { draft })
    }

    /// Asks the policy.
    ///
    /// # Errors
    /// Its denial.
    pub fn evaluate(self, policy: &Policy, account: &Account) -> Result<Allowed, Denied> {
        // The signers hold the limits: the gateway keeps no counters to check draws against.
        match policy::evaluate_rules(policy, account, self.draft.effects()) {
            Verdict::Allow { rule, .. } => Ok(Allowed { draft: self.draft, rule }),
            Verdict::Deny { rule, reason } => Err(Denied { rule, denial: reason }),
        }
    }
}

impl Allowed {
    /// The rule that allowed it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What it does.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// The frozen bytes, once the store has them. Only the pipeline's T3, and recovery of what T3 left, come here.
    pub(super) fn freeze(self) -> Frozen {
        Frozen { unsigned: self.draft.unsigned }
    }
}

impl Frozen {
    /// The unsigned bytes, for the signers.
    pub fn into_unsigned(self) -> Vec<u8> {
        self.unsigned
    }

    /// The unsigned bytes, to put the signatures in.
    pub fn unsigned(&self) -> &[u8] {
        &self.unsigned
    }
}

impl From<Listed> for Reason {
    fn from(listed: Listed) -> Self {
        Self { kind: "denied_address".to_owned(), message: listed.to_string(), rule: None }
    }
}

impl From<Denied> for Reason {
    fn from(denied: Denied) -> Self {
        Self { kind: denied.denial.kind().to_owned(), message: denied.denial.to_string(), rule: denied.rule }
    }
}
