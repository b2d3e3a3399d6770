//! Approvals: what an approver signs, and what each signer checks of it for itself.
//!
//! An approval is a DSSE envelope (<https://github.com/secure-systems-lab/dsse>, protocol 1.0.2): a payload type, the exact
//! bytes of a [`Statement`], and a signature over both; nothing is canonicalized. The statement names the intent: who asked
//! under which idempotency key, and the digest of the request's raw body. It doesn't name the transaction, so a fee bump
//! within the intent's `max_fee` needs no new approval, and a retry of the same intent neither.
//!
//! - [`delegation`]: approvers who act for others;
//! - [`passkey`]: signatures by WebAuthn authenticators.

pub mod delegation;
pub mod passkey;

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signature, Signer as _, SigningKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::delegation::{Delegation, DelegationFault};
use self::passkey::{Assertion, PasskeyError};
use crate::policy::quorum::{Group, Person};
use crate::request::{IntentId, base64_bytes};
use crate::roster::{CredentialId, Role, Roster};

/// The DSSE payload type of a statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.portcullis.approval+json";

/// The longest payload that is read, in bytes.
const MAX_PAYLOAD: usize = 4096;
/// How many approvals a request may come with.
pub const MAX_APPROVALS: usize = 64;

/// An approver's signed statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Who says it.
    pub approver: CredentialId,
    /// The statement, in the bytes that are signed; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
    /// The signature over payload type and payload.
    pub signature: Proof,
}

/// How a statement is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// By the credential's Ed25519 key (RFC 8032), 64 bytes; base64 in JSON.
    #[serde(with = "base64_bytes")]
    Ed25519(Vec<u8>),
    /// By one of the person's passkeys.
    Passkey(Assertion),
}

/// What an approver says about an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Yes or no.
    pub decision: Decision,
    /// The intent: who asked, under which key.
    pub intent: IntentId,
    /// The SHA-256 of the request's raw body, in hex.
    #[serde(with = "hex::serde")]
    pub request: [u8; 32],
    /// Until when it counts, in seconds since the Unix epoch: a signer that has agreed to no attempt of the intent by then
    /// doesn't count it.
    pub expires: u64,
    /// The delegation under which the approver speaks for somebody else, as that one signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Approval>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may be done.
    Approve,
    /// It may not, whoever else approves.
    Reject,
}

/// Who an approver is, beside a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The person: one person's credentials count once.
    pub person: Person,
    /// The groups that the person is in.
    pub groups: BTreeSet<Group>,
    /// The person's passkeys, under whichever of its credentials they are listed. Who has any signs by one of them; the
    /// credentials' keys then do no more than call the gateway.
    pub passkeys: Vec<passkey::Passkey>,
}

/// What is approved.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'s> {
    /// The intent.
    pub intent: IntentId,
    /// Who asked for it.
    pub initiator: &'s CredentialId,
    /// The request's raw body.
    pub body: &'s [u8],
}

/// Why an approval counts for nothing. One that doesn't hold spoils the whole request: somebody put it there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// More than anybody needs.
    #[error("a request comes with at most {MAX_APPROVALS} approvals")]
    TooMany,
    /// A credential that isn't on the roster, or approves nothing.
    #[error("{0} is no approver of this roster")]
    NotAnApprover(CredentialId),
    /// The signature is not the approver's over these bytes.
    #[error("the approval of {0} isn't signed by them")]
    Signature(CredentialId),
    /// An approver who has passkeys signs by one of them: a key in a file proves nobody's presence.
    #[error("{0} has a passkey, and approves by nothing else")]
    PasskeyWanted(CredentialId),
    /// The passkey's answer doesn't hold.
    #[error("the approval of {approver}: {source}")]
    Passkey {
        /// The approver.
        approver: CredentialId,
        /// What is wrong with it.
        source: PasskeyError,
    },
    /// The payload is no statement.
    #[error("the approval of {0} holds no statement")]
    Statement(CredentialId),
    /// It is about another intent, or another request under the same key.
    #[error("the approval of {0} is for another intent")]
    OtherIntent(CredentialId),
    /// Its time is over.
    #[error("the approval of {approver} has expired, at {at}")]
    Expired {
        /// The approver.
        approver: CredentialId,
        /// When, in seconds since the Unix epoch.
        at: u64,
    },
    /// Somebody said no.
    #[error("{0} has rejected it")]
    Rejected(CredentialId),
    /// Whoever asks doesn't approve, under whatever name.
    #[error("{0} is the one who asked, and doesn't approve")]
    Initiator(CredentialId),
    /// Nobody acts for somebody this way.
    #[error("the delegation by {delegator}: {fault}")]
    Delegation {
        /// Who has delegated.
        delegator: CredentialId,
        /// What is wrong with it.
        fault: DelegationFault,
    },
}

impl Statement {
    /// The statement that approves, or rejects, a subject.
    pub fn about(subject: &Subject<'_>, decision: Decision, expires: u64) -> Self {
        Self {
            decision,
            intent: subject.intent,
            request: Sha256::digest(subject.body).into(),
            expires,
            delegation: None,
        }
    }

    /// The same, said for whoever has signed the delegation.
    #[must_use]
    pub fn under(self, delegation: Approval) -> Self {
        Self { delegation: Some(delegation), ..self }
    }

    /// Its bytes, as they are signed and sent.
    pub fn to_payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always have a JSON form")
    }
}

impl Approval {
    /// Signs a statement with the approver's Ed25519 key.
    pub fn sign(approver: CredentialId, statement: &Statement, key: &SigningKey) -> Self {
        Self::sign_payload(approver, PAYLOAD_TYPE, statement.to_payload(), key)
    }

    /// Signs the bytes of a statement of some payload type with the approver's Ed25519 key.
    pub fn sign_payload(approver: CredentialId, payload_type: &str, payload: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(&pre_authentication_of(payload_type, &payload)).to_bytes().to_vec();
        Self { approver, payload, signature: Proof::Ed25519(signature) }
    }

    /// The bytes of a statement with what one of the approver's passkeys has answered to their [`challenge`].
    pub fn by_passkey(approver: CredentialId, payload: Vec<u8>, assertion: Assertion) -> Self {
        Self { approver, payload, signature: Proof::Passkey(assertion) }
    }

    /// Checks that an approver of the roster, in one of these roles, has signed a statement of this payload type, and reads it.
    /// `spell` gives a statement's bytes: it has one spelling, so that two readers can't read two things.
    ///
    /// # Errors
    /// For the first thing that doesn't hold.
    pub fn statement<S: DeserializeOwned>(
        &self,
        roster: &Roster,
        payload_type: &str,
        roles: &[Role],
        spell: impl Fn(&S) -> Vec<u8>,
    ) -> Result<(S, Approver), ApprovalError> {
        let name = || self.approver.clone();
        let credential = roster.get(&self.approver).filter(|credential| roles.contains(&credential.role));
        let (Some(credential), Some(approver)) = (credential, roster.approver(&self.approver)) else {
            return Err(ApprovalError::NotAnApprover(name()));
        };
        if self.payload.len() > MAX_PAYLOAD {
            return Err(ApprovalError::Statement(name()));
        }
        let signed = pre_authentication_of(payload_type, &self.payload);
        match &self.signature {
            Proof::Ed25519(_) if !approver.passkeys.is_empty() => return Err(ApprovalError::PasskeyWanted(name())),
            Proof::Ed25519(signature) => Signature::from_slice(signature)
                .and_then(|signature| credential.public_key.verify_strict(&signed, &signature))
                .map_err(|_| ApprovalError::Signature(name()))?,
            Proof::Passkey(assertion) => assertion
                .verify(&approver.passkeys, &signed)
                .map_err(|source| ApprovalError::Passkey { approver: name(), source })?,
        }
        let statement: S = serde_json::from_slice(&self.payload).map_err(|_| ApprovalError::Statement(name()))?;
        if spell(&statement) == self.payload {
            Ok((statement, approver.clone()))
        } else {
            Err(ApprovalError::Statement(name()))
        }
    }

    /// Checks the approval against the roster and what it is to be about. Who acts for somebody is of that one's groups besides;
    /// whether the delegation holds at the time, and whether its authority is used already, is [`Tally`]'s to say.
    ///
    /// # Errors
    /// For the first thing that doesn't hold. A rejection that holds is no error here.
    pub fn check(&self, roster: &Roster, subject: &Subject<'_>) -> Result<(Statement, Approver), ApprovalError> {
        let name = || self.approver.clone();
        let (statement, mut approver): (Statement, Approver) =
            self.statement(roster, PAYLOAD_TYPE, &[Role::Approver], Statement::to_payload)?;
        if statement.intent != subject.intent || statement.request != <[u8; 32]>::from(Sha256::digest(subject.body)) {
            return Err(ApprovalError::OtherIntent(name()));
        }
        let asks = roster.approver(subject.initiator).is_some_and(|initiator| initiator.person == approver.person);
        if asks || self.approver == *subject.initiator {
            return Err(ApprovalError::Initiator(name()));
        }
        if let Some(envelope) = &statement.delegation {
            let delegator = Delegation::for_subject(envelope, roster, &self.approver, subject)?;
            approver.groups.extend(delegator.groups);
        }
        Ok((statement, approver))
    }
}

/// Who has approved a subject, and whose authority that used up.
#[derive(Debug, Default)]
pub struct Tally {
    people: BTreeMap<Person, BTreeSet<Group>>,
    /// Whose authority others have used.
    acted_for: BTreeSet<Person>,
}

impl Tally {
    /// The people, with the groups that each speaks for.
    pub fn into_people(self) -> BTreeMap<Person, BTreeSet<Group>> {
        self.people
    }

    /// Counts a statement that was checked, as of a time in milliseconds since the Unix epoch. What approvers say for themselves
    /// comes before what others say for them.
    ///
    /// # Errors
    /// Where it is said under a delegation that doesn't hold then, or whose authority is used.
    pub fn count(
        &mut self,
        statement: &Statement,
        approver: Approver,
        roster: &Roster,
        at: u64,
    ) -> Result<(), ApprovalError> {
        if let Some(envelope) = &statement.delegation {
            let (delegation, delegator) = Delegation::read(envelope, roster)?;
            let fault = |fault| Err(ApprovalError::Delegation { delegator: envelope.approver.clone(), fault });
            if !delegation.holds_at(at) {
                return fault(DelegationFault::NotNow);
            }
            // One authority counts once: used by its owner, or by one other, and nobody has two that way.
            let spoken = self.people.contains_key(&delegator.person);
            if spoken || self.acted_for.contains(&approver.person) || !self.acted_for.insert(delegator.person) {
                return fault(DelegationFault::Used);
            }
        }
        self.people.entry(approver.person).or_default().extend(approver.groups);
        Ok(())
    }
}

/// The people who approve a subject, as of a time in milliseconds since the Unix epoch.
///
/// # Errors
/// Where any of the approvals doesn't hold, has expired, or says no.
pub fn weigh(
    approvals: &[Approval],
    roster: &Roster,
    subject: &Subject<'_>,
    at: u64,
) -> Result<BTreeMap<Person, BTreeSet<Group>>, ApprovalError> {
    if approvals.len() > MAX_APPROVALS {
        return Err(ApprovalError::TooMany);
    }
    let mut said = Vec::with_capacity(approvals.len());
    for approval in approvals {
        let (statement, approver) = approval.check(roster, subject)?;
        if statement.decision == Decision::Reject {
            return Err(ApprovalError::Rejected(approval.approver.clone()));
        }
        if statement.expires < at / 1000 {
            return Err(ApprovalError::Expired { approver: approval.approver.clone(), at: statement.expires });
        }
        said.push((statement, approver));
    }
    said.sort_by_key(|(statement, _)| statement.delegation.is_some());
    let mut tally = Tally::default();
    for (statement, approver) in said {
        tally.count(&statement, approver, roster, at)?;
    }
    Ok(tally.into_people())
}

/// What a passkey signs as its challenge for the bytes of a statement: the SHA-256 of [`pre_authentication_of`] them.
pub fn challenge(payload_type: &str, payload: &[u8]) -> [u8; 32] {
    Sha256::digest(pre_authentication_of(payload_type, payload)).into()
}

/// DSSE's pre-authentication encoding of a statement's bytes: what is signed.
pub fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    pre_authentication_of(PAYLOAD_TYPE, payload)
}

/// DSSE's pre-authentication encoding of bytes of some payload type.
pub fn pre_authentication_of(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
