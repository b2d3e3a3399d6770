//! Changes of the policy at rest: each with what people say of it, and how far it has come.

use serde::{Deserialize, Serialize};
use signer::approval::{Approval, Decision};
use signer::policy::change::{Change, Version};
use signer::policy::document::PolicyDigest;
use signer::roster::CredentialId;

use super::StoreError;

/// A change of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The change, with the latest word of each approver, in the order of their names.
    pub change: Change,
    /// The digest of its document.
    pub digest: PolicyDigest,
    /// Who proposed it.
    pub proposer: CredentialId,
    /// Why, in the proposer's words.
    pub note: String,
    /// How far it has come.
    pub state: PolicyState,
    /// When it was proposed, in milliseconds since the Unix epoch.
    pub proposed_at: u64,
    /// When enough people had approved, in milliseconds since the Unix epoch.
    pub approved_at: Option<u64>,
    /// When it came into force, in milliseconds since the Unix epoch.
    pub active_at: Option<u64>,
    /// Who rejected it.
    pub rejected_by: Option<CredentialId>,
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyState {
    /// It waits for people.
    Proposed,
    /// Enough people have approved; it waits for its delay.
    Approved,
    /// It is in force, or was until a later version came.
    Active,
    /// Somebody has rejected it.
    Rejected,
}

/// What happens to a change.
#[derive(Clone, Debug)]
pub enum PolicyStep {
    /// An approver's word, in place of what the same approver said before.
    Word {
        /// What is said.
        approval: Approval,
        /// What it says.
        decision: Decision,
    },
    /// Enough people have approved.
    Approved,
    /// It is in force.
    Active,
}

impl PolicyState {
    /// Whether it may still come into force.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Proposed | Self::Approved)
    }

    /// What it is called in its row.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Active => "active",
            Self::Rejected => "rejected",
        }
    }
}

impl PolicyRecord {
    /// The version that it makes.
    pub const fn version(&self) -> Version {
        self.change.version
    }

    /// Takes the change a step further, at a time in milliseconds since the Unix epoch. What is in force stays so; and what the
    /// signers have brought into force is, whatever was said here.
    pub(super) fn stepped(mut self, step: PolicyStep, at: u64) -> Result<Self, StoreError> {
        match (self.state, step) {
            (state, PolicyStep::Word { approval, decision }) if state.is_open() => {
                let approvals = &mut self.change.approvals;
                approvals.retain(|before| before.approver != approval.approver);
                if decision == Decision::Reject {
                    self.state = PolicyState::Rejected;
                    self.rejected_by = Some(approval.approver.clone());
                }
                approvals.push(approval);
                approvals.sort_by(|one, other| one.approver.cmp(&other.approver));
            }
            (PolicyState::Proposed, PolicyStep::Approved) => {
                self.state = PolicyState::Approved;
                self.approved_at = Some(at);
            }
            (PolicyState::Proposed | PolicyState::Approved | PolicyState::Rejected, PolicyStep::Active) => {
                self.state = PolicyState::Active;
                self.active_at = Some(at);
            }
            (PolicyState::Approved | PolicyState::Active, PolicyStep::Approved)
            | (PolicyState::Active, PolicyStep::Active) => {} // another gateway was faster
            _ => return Err(StoreError::PolicyEnded(self.version())),
        }
        Ok(self)
    }
}

/// Whether a change may be proposed, where these are open or the latest in force.
pub(super) fn admit(record: &PolicyRecord, open: Option<u64>, latest: Option<u64>) -> Result<(), StoreError> {
    if let Some(open) = open.filter(|open| latest.is_none_or(|latest| *open > latest)) {
        return Err(StoreError::PolicyOpen(Version::new(open)));
    }
    let next = Version::new(latest.unwrap_or_default()).next();
    if record.version() == next { Ok(()) } else { Err(StoreError::PolicyVersion { version: record.version(), next }) }
}
