//! The stages between build and signature. Each can only be made from the one before it, and none is ever deserialized:
//! what comes from the store starts again as a [`Draft`].
//!
//! A transaction can't be frozen, and so not signed, unless it was screened and allowed:
//!
//! ```compile_fail,E0451
//! use gateway::{lane::Draft, pipeline::stage::Allowed, record::Purpose};
//! fn skip_the_policy(draft: Draft) -> Allowed {
//!     Allowed { draft, rule: "none".to_owned(), draws: Vec::new(), purpose: Purpose::Pay }
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
use crate::record::{Purpose, Reason, Record};
use crate::screening::{Listed, Screening};
use crate::store::Draw;

/// A draft none of whose parties is on a denylist.
#[derive(Debug)]
pub struct Screened {
    draft: Draft,
}

/// A screened draft that the policy allows, as what it was judged to be.
#[derive(Debug)]
pub struct Allowed {
    draft: Draft,
    rule: String,
    draws: Vec<policy::limit::Draw>,
    purpose: Purpose,
}

/// Bytes that are durable with their slots reserved: the only thing that is handed to the signers.
#[derive(Debug)]
pub struct Frozen {
    unsigned: Vec<u8>,
    number: u32,
    purpose: Purpose,
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

    /// Asks the policy about a payment, or about the wallet's own upkeep where the intent asks for that.
    ///
    /// # Errors
    /// Its denial.
    pub fn evaluate(self, policy: &Policy, record: &Record, account: &Account) -> Result<Allowed, Denied> {
        let verdict = if record.intent.action.is_upkeep() {
            policy::evaluate_upkeep(policy, account, self.draft.effects())
        } else {
            policy::evaluate(policy, account, &record.client, self.draft.effects())
        };
        self.allowed(verdict, Purpose::Pay)
    }

    /// Asks the policy about a transaction that is to keep every attempt of the record off the chain. It may cost no more than
    /// the intent permits.
    ///
    /// # Errors
    /// Its denial.
    pub fn evaluate_cancel(self, policy: &Policy, record: &Record, account: &Account) -> Result<Allowed, Denied> {
        let fee = self.draft.effects().max_fee;
        if let Some(limit) = record.intent.max_fee.filter(|limit| fee > *limit) {
            return Err(Denied { rule: None, denial: Denial::AboveFeeLimit { fee, limit } });
        }
        let verdict = policy::evaluate_upkeep(policy, account, self.draft.effects());
        self.allowed(verdict, Purpose::Cancel)
    }

    fn allowed(self, verdict: Verdict, purpose: Purpose) -> Result<Allowed, Denied> {
        match verdict {
            Verdict::Allow { rule, draws } => Ok(Allowed { draft: self.draft, rule, draws, purpose }),
            Verdict::Deny { rule, reason } => Err(Denied { rule, denial: reason }),
        }
    }
}

/// A draw as the store reserves it: in the bucket of its time, against every bucket that counts then.
fn reservation(draw: &policy::limit::Draw, at: u64) -> Draw {
    let counted = draw.window.buckets_counted(at);
    let number = |bucket: policy::limit::BucketId| u64::try_from(bucket.get()).unwrap_or_default();
    Draw {
        counter: draw.counter.as_str().to_owned(),
        bucket: number(*counted.end()),
        since: number(*counted.start()),
        amount: draw.amount,
        max_amount: draw.max_amount,
        max_count: draw.max_count,
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

    /// What it takes of the limits, reserved `at` a time in milliseconds since the Unix epoch.
    pub fn reservations(&self, at: u64) -> Vec<Draw> {
        self.draws.iter().map(|draw| reservation(draw, at)).collect()
    }

    /// The frozen bytes, once the store has them as attempt `number`. Only the pipeline's T3, and recovery of what T3 left,
    /// come here.
    pub(super) fn freeze(self, number: u32) -> Frozen {
        Frozen { unsigned: self.draft.unsigned, number, purpose: self.purpose }
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

    /// The attempt that they are, 1 and up.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Whether they were judged as a cancelling transaction, which signers want a request for.
    pub fn cancels(&self) -> bool {
        self.purpose == Purpose::Cancel
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
