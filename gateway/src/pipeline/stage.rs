//! The stages between build and signature. Each can only be made from the one before it, and none is ever deserialized:
//! what comes from the store starts again as a [`Draft`].
//!
//! A transaction can't be frozen, and so not signed, unless it was screened and allowed:
//!
//! ```compile_fail,E0451
//! use gateway::{lane::Draft, pipeline::stage::Allowed, record::Purpose, screening::Clearance};
//! use signer::policy::document::PolicyDigest;
//! fn skip_the_policy(draft: Draft, clearance: Clearance, policy: PolicyDigest) -> Allowed {
//!     Allowed { draft, clearance, rule: "none".to_owned(), draws: Vec::new(), purpose: Purpose::Pay, policy }
//! }
//! ```
//!
//! not even with a clearance, which belongs to the draft that was screened:
//!
//! ```compile_fail,E0451
//! use gateway::{lane::Draft, pipeline::stage::Screened, screening::Clearance};
//! fn skip_the_screening(draft: Draft, clearance: Clearance) -> Screened {
//!     Screened { draft, clearance }
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

use std::collections::{BTreeMap, BTreeSet};

use chains::account::Account;
use signer::policy::document::PolicyDigest;
use signer::policy::quorum::{Group, Person, Quorum};
use signer::policy::{self, Circumstances, Denial, Policy, Verdict};
use signer::request::Deal;

use crate::lane::Draft;
use crate::record::{Purpose, Reason, Record};
use crate::screening::{Clearance, Refusal, Screening};
use crate::store::Draw;
use crate::travel::Demand;

/// A draft none of whose parties is listed anywhere.
#[derive(Debug)]
pub struct Screened {
    draft: Draft,
    clearance: Clearance,
}

/// What the policy says to a screened draft that it doesn't deny.
#[derive(Debug)]
pub enum Permitted {
    /// It may be done: nobody's approval is needed, or everybody's is there.
    Allowed(Allowed),
    /// It may be done once people have approved.
    Waiting(Waiting),
}

/// A screened draft that waits for people. Nothing leads from here to a signature: once they have approved, the transaction is
/// built, screened and evaluated again.
#[derive(Debug)]
pub struct Waiting {
    draft: Draft,
    clearance: Clearance,
    rule: String,
    quorums: BTreeSet<Quorum>,
    travel: Option<Demand>,
    draws: Vec<policy::limit::Draw>,
    policy: PolicyDigest,
}

/// Who has approved, and as of when a record is judged.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The people, with the groups that each is in.
    pub people: BTreeMap<Person, BTreeSet<Group>>,
    /// The terms that have to be met besides, where it is a deal's leg.
    pub deal: Option<Deal>,
    /// Whether the desk's go, where the terms ask for it, is missing.
    pub waits_for_go: bool,
    /// What the Travel Rule wants data for, and doesn't have.
    pub travel: Option<Demand>,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
}

/// A screened draft that the policy allows, as what it was judged to be.
#[derive(Debug)]
pub struct Allowed {
    draft: Draft,
    clearance: Clearance,
    rule: String,
    draws: Vec<policy::limit::Draw>,
    purpose: Purpose,
    policy: PolicyDigest,
}

/// Bytes that are durable with their slots reserved: the only thing that is handed to the signers.
#[derive(Debug)]
pub struct Frozen {
    unsigned: Vec<u8>,
    number: u32,
    purpose: Purpose,
    policy: PolicyDigest,
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
    /// Screens every party that the draft's bytes touch, and keeps the clearance with these very bytes.
    ///
    /// # Errors
    /// The first thing that stands against it.
    pub async fn new(draft: Draft, screening: &Screening) -> Result<Self, Refusal> {
        let clearance = screening.clear(draft.effects()).await?;
        Ok(Self { draft, clearance })
    }

    /// Asks the policy about a payment, or about the wallet's own upkeep where the intent asks for that.
    ///
    /// # Errors
    /// Its denial.
    pub fn evaluate(
        self,
        policy: &Policy,
        record: &Record,
        account: &Account,
        standing: &Standing,
    ) -> Result<Permitted, Denied> {
        // A token that can't be read is as old as can be.
        let asked_at = record.request.asked_at().unwrap_or_default();
        policy.require_recent(asked_at, standing.at).map_err(|denial| Denied { rule: None, denial })?;
        let circumstances = Circumstances { initiator: &record.client, at: standing.at };
        let verdict = if record.intent.action.is_upkeep() {
            policy::evaluate_upkeep(policy, account, &circumstances, self.draft.effects())
        } else {
            let asked = policy.require_deal(account.wallet(), record.deal.is_some());
            asked.map_err(|denial| Denied { rule: None, denial })?;
            policy::evaluate(policy, account, &circumstances, self.draft.effects())
        };
        self.permitted(verdict, policy.digest(), Purpose::Pay, standing)
    }

    /// Asks the policy about a transaction that is to keep every attempt of the record off the chain. It may cost no more than
    /// the intent permits.
    ///
    /// # Errors
    /// Its denial.
    pub fn evaluate_cancel(self, policy: &Policy, record: &Record, account: &Account) -> Result<Permitted, Denied> {
        let fee = self.draft.effects().max_fee;
        if let Some(limit) = record.intent.max_fee.filter(|limit| fee > *limit) {
            return Err(Denied { rule: None, denial: Denial::AboveFeeLimit { fee, limit } });
        }
        let verdict = policy::evaluate_cancel(policy, account, self.draft.effects());
        self.permitted(verdict, policy.digest(), Purpose::Cancel, &Standing::nobody())
    }

    fn permitted(
        self,
        verdict: Verdict,
        policy: PolicyDigest,
        purpose: Purpose,
        standing: &Standing,
    ) -> Result<Permitted, Denied> {
        let Self { draft, clearance } = self;
        let (rule, mut quorums, draws) = match verdict {
            Verdict::Allow { rule, draws } => (rule, BTreeSet::new(), draws),
            Verdict::Require { rule, quorums, draws } => (rule, quorums, draws),
            Verdict::Deny { rule, reason } => return Err(Denied { rule, denial: reason }),
        };
        let met = quorums.iter().all(|quorum| quorum.is_met_by(&standing.people)) && standing.fulfils_deal();
        Ok(if met && standing.travel.is_none() {
            Permitted::Allowed(Allowed { draft, clearance, rule, draws, purpose, policy })
        } else {
            quorums.extend(standing.deal.as_ref().map(Deal::quorum));
            let travel = standing.travel.clone();
            Permitted::Waiting(Waiting { draft, clearance, rule, quorums, travel, draws, policy })
        })
    }
}

impl Standing {
    /// Nobody's word, on something that needs nobody's.
    const fn nobody() -> Self {
        Self { people: BTreeMap::new(), deal: None, waits_for_go: false, travel: None, at: 0 }
    }

    /// Whether the deal, if it is one, may be released.
    fn fulfils_deal(&self) -> bool {
        self.deal
            .as_ref()
            .is_none_or(|deal| deal.is_met_by(&self.people) && !self.waits_for_go && !deal.is_over(self.at))
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

    /// What its parties were looked up in.
    pub fn clearance(&self) -> &Clearance {
        &self.clearance
    }

    /// The policy that allowed it.
    pub const fn policy(&self) -> PolicyDigest {
        self.policy
    }

    /// What it takes of the limits, reserved `at` a time in milliseconds since the Unix epoch.
    pub fn reservations(&self, at: u64) -> Vec<Draw> {
        self.draws.iter().map(|draw| reservation(draw, at)).collect()
    }

    /// The frozen bytes, once the store has them as attempt `number`. Only the pipeline's T3, and recovery of what T3 left,
    /// come here.
    pub(super) fn freeze(self, number: u32) -> Frozen {
        Frozen { unsigned: self.draft.unsigned, number, purpose: self.purpose, policy: self.policy }
    }
}

impl Waiting {
    /// The rule that permits it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What it does.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// What its parties were looked up in.
    pub fn clearance(&self) -> &Clearance {
        &self.clearance
    }

    /// The policy that permits it.
    pub const fn policy(&self) -> PolicyDigest {
        self.policy
    }

    /// What the Travel Rule wants data for, and doesn't have.
    pub const fn travel(&self) -> Option<&Demand> {
        self.travel.as_ref()
    }

    /// What has to be met, each of them.
    pub fn quorums(&self) -> &BTreeSet<Quorum> {
        &self.quorums
    }

    /// What it takes of the limits, as of an allowed one.
    pub fn reservations(&self, at: u64) -> Vec<Draw> {
        self.draws.iter().map(|draw| reservation(draw, at)).collect()
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

    /// The policy that they were judged under.
    pub const fn policy(&self) -> PolicyDigest {
        self.policy
    }

    /// Whether they were judged as a cancelling transaction, which signers want a request for.
    pub fn cancels(&self) -> bool {
        self.purpose == Purpose::Cancel
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Self { kind: refusal.kind().to_owned(), message: refusal.to_string(), rule: None }
    }
}

impl From<Denied> for Reason {
    fn from(denied: Denied) -> Self {
        Self { kind: denied.denial.kind().to_owned(), message: denied.denial.to_string(), rule: denied.rule }
    }
}
