//! Delegation: an approver lets another one act for them, for a time, and if they like only for some wallets or up to an amount.
//!
//! It is a DSSE envelope like an approval, of a payload type of its own, signed by whoever delegates. The delegate puts it into the
//! statement that they sign, so that every signer sees both and checks both against its own roster. What is delegated is the
//! delegator's own groups, so there are no chains; the delegate stays one person, who counts once; and a delegator's authority
//! counts once, whoever uses it.
//!
//! A gateway honours that a delegation was revoked. Signers know of delegations only what they are shown, so one ends for them
//! at its time: it holds 31 days at most.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chains::account::WalletId;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::intent::{Action, Intent};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Approval, ApprovalError, Approver, Subject};
use crate::request::{Submission, parse_call};
use crate::roster::{CredentialId, Role, Roster};

/// The DSSE payload type of a delegation.
pub const PAYLOAD_TYPE: &str = "application/vnd.portcullis.delegation+json";
/// The longest that one holds, in seconds: 31 days.
pub const MAX_SECONDS: u64 = 31 * 86_400;

/// What is delegated, to whom and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// Who acts.
    pub delegate: CredentialId,
    /// From when on, in seconds since the Unix epoch.
    pub from: u64,
    /// Until when, in seconds since the Unix epoch.
    pub until: u64,
    /// For payments of these wallets alone; for all, where it names none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub wallets: BTreeSet<WalletId>,
    /// For transfers up to this alone, and then for nothing but transfers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<UpTo>,
}

/// The most that a delegate may approve at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpTo {
    /// Of what.
    pub asset: Asset,
    /// How much, in base units.
    pub amount: Amount,
}

/// Which delegation: the SHA-256 of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DelegationId([u8; 32]);

/// A string that names no delegation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a delegation; use 64 hex digits")]
pub struct DelegationIdError(String);

/// Why nobody acts for somebody by a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelegationFault {
    /// It names somebody else.
    #[error("it names another delegate")]
    OtherDelegate,
    /// To oneself, under whatever credential.
    #[error("nobody delegates to themselves")]
    Oneself,
    /// It has no time, or too much.
    #[error("it holds for no time, or for more than 31 days")]
    Term,
    /// Its time hasn't come, or is over.
    #[error("it doesn't hold at this time")]
    NotNow,
    /// The payment isn't one that it is for.
    #[error("it isn't for this payment")]
    Scope,
    /// Whoever asks doesn't approve, through whomever.
    #[error("it is by the one who asked")]
    Initiator,
    /// The delegator has approved, or somebody else has acted for them.
    #[error("the authority of the one who gave it is used already")]
    Used,
    /// The gateway was told that it is over.
    #[error("it was revoked")]
    Revoked,
}

impl Delegation {
    /// Signs it with the delegator's Ed25519 key.
    pub fn sign(&self, delegator: CredentialId, key: &SigningKey) -> Approval {
        Approval::sign_payload(delegator, PAYLOAD_TYPE, self.to_payload(), key)
    }

    /// Its bytes, as they are signed and sent.
    pub fn to_payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always have a JSON form")
    }

    /// Reads a delegation that an approver of the roster has signed; answers also who that is.
    ///
    /// # Errors
    /// For the first thing that doesn't hold. Whether its time has come is not looked at.
    pub fn read(envelope: &Approval, roster: &Roster) -> Result<(Self, Approver), ApprovalError> {
        let (delegation, delegator): (Self, Approver) =
            envelope.statement(roster, PAYLOAD_TYPE, &[Role::Approver], Self::to_payload)?;
        let delegate = roster.approver(&delegation.delegate);
        let delegate =
            delegate.filter(|_| roster.get(&delegation.delegate).is_some_and(|one| one.role == Role::Approver));
        let delegate = delegate.ok_or_else(|| ApprovalError::NotAnApprover(delegation.delegate.clone()))?;
        let fault = |fault| ApprovalError::Delegation { delegator: envelope.approver.clone(), fault };
        if delegate.person == delegator.person {
            return Err(fault(DelegationFault::Oneself));
        }
        match delegation.until.checked_sub(delegation.from) {
            Some(1..=MAX_SECONDS) => Ok((delegation, delegator)),
            _ => Err(fault(DelegationFault::Term)),
        }
    }

    /// Reads the one under which `delegate` speaks about a subject; answers also for whom.
    ///
    /// # Errors
    /// For the first thing that doesn't hold. Whether its time has come is not looked at.
    pub(super) fn for_subject(
        envelope: &Approval,
        roster: &Roster,
        delegate: &CredentialId,
        subject: &Subject<'_>,
    ) -> Result<Approver, ApprovalError> {
        let (delegation, delegator) = Self::read(envelope, roster)?;
        let fault = |fault| Err(ApprovalError::Delegation { delegator: envelope.approver.clone(), fault });
        if delegation.delegate != *delegate {
            return fault(DelegationFault::OtherDelegate);
        }
        let asks = roster.approver(subject.initiator).is_some_and(|initiator| initiator.person == delegator.person);
        if asks || envelope.approver == *subject.initiator {
            return fault(DelegationFault::Initiator);
        }
        let asked = parse_call(subject.body).and_then(|call| Submission::from_call(&call));
        if asked.is_ok_and(|asked| delegation.is_for(&asked.intent)) {
            Ok(delegator)
        } else {
            fault(DelegationFault::Scope)
        }
    }

    /// Whether it is for what an intent asks for.
    pub fn is_for(&self, intent: &Intent) -> bool {
        let wallet = self.wallets.is_empty() || self.wallets.contains(&intent.wallet);
        let amount = match (&self.up_to, &intent.action) {
            (None, _) => true,
            (Some(most), Action::Transfer { asset, amount, .. }) => *asset == most.asset && *amount <= most.amount,
            (Some(_), _) => false,
        };
        wallet && amount
    }

    /// Whether it holds at a time in milliseconds since the Unix epoch.
    pub const fn holds_at(&self, at: u64) -> bool {
        self.from <= at / 1000 && at / 1000 <= self.until
    }
}

impl DelegationId {
    /// The delegation in this envelope.
    pub fn of(envelope: &Approval) -> Self {
        Self(Sha256::digest(&envelope.payload).into())
    }
}

impl fmt::Display for DelegationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for DelegationId {
    type Err = DelegationIdError;

    fn from_str(text: &str) -> Result<Self, DelegationIdError> {
        let mut id = [0; 32];
        let read = hex::decode_to_slice(text, &mut id);
        read.map(|()| Self(id)).map_err(|_| DelegationIdError(text.chars().take(100).collect()))
    }
}

impl From<DelegationId> for String {
    fn from(id: DelegationId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for DelegationId {
    type Error = DelegationIdError;

    fn try_from(text: String) -> Result<Self, DelegationIdError> {
        text.parse()
    }
}
