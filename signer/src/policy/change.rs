//! How a policy changes: a policy admin proposes a document, a quorum that the policy in force names approves it, and after a
//! delay that it names it is in force.
//!
//! ```toml
//! [policy.changes]
//! require = "2 of policy and 1 of ciso"
//! delay_seconds = 86400
//! ```
//!
//! What people sign is a DSSE envelope like an approval's ([`crate::approval`]), of a payload type of its own: it names the
//! version, the digest of its document, and the digest of the document that it replaces. So an approval serves one change at one
//! place in the chain of versions, and no other. Whoever proposes signs the request itself, and doesn't count as an approver.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::Policy;
use super::document::{Document, DocumentError, PolicyDigest};
use super::quorum::{Group, Person, Quorum};
use crate::approval::{Approval, ApprovalError, Approver, Decision, MAX_APPROVALS};
use crate::request::proposal::Proposal;
use crate::request::{AuthError, BodyError, SignedRequest, base64_bytes, parse_call};
use crate::roster::{CredentialId, Role, Roster};

/// The DSSE payload type of a statement on a change.
pub const PAYLOAD_TYPE: &str = "application/vnd.portcullis.policy-change+json";

/// Whose word on a change counts.
const APPROVING: [Role; 2] = [Role::Approver, Role::PolicyAdmin];

/// Who may change the policy, and how long that takes: `[policy.changes]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesConfig {
    /// Who has to approve: `2 of policy and 1 of ciso`.
    pub require: Quorum,
    /// How long an approved change waits until it is in force, in seconds.
    pub delay_seconds: u64,
}

/// The number of a policy's version. The configured policy is version 0, and each change adds one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

/// A change, with everything that stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The version that it makes.
    pub version: Version,
    /// The digest of the document that it replaces.
    pub previous: PolicyDigest,
    /// The document; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub document: Vec<u8>,
    /// The proposer's signed request.
    pub request: SignedRequest,
    /// What approvers say of it.
    #[serde(default)]
    pub approvals: Vec<Approval>,
}

/// What an approver says about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeStatement {
    /// Yes or no.
    pub decision: Decision,
    /// The version.
    pub version: Version,
    /// The SHA-256 of its document.
    pub document: PolicyDigest,
    /// The SHA-256 of the document that it replaces.
    pub previous: PolicyDigest,
    /// Until when it counts, in seconds since the Unix epoch: a signer that hasn't seen the change fully approved by then doesn't
    /// count it.
    pub expires: u64,
}

/// What people say of a change, each of them checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weighed {
    /// Who approves.
    pub people: BTreeMap<Person, BTreeSet<Group>>,
    /// Who has rejected it.
    pub rejected_by: Option<CredentialId>,
}

/// Why a change counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The policy in force names nobody who may change it.
    #[error("the policy in force has no [policy.changes], so it is changed in the configuration files alone")]
    Unchangeable,
    /// Not the version that comes next.
    #[error("it makes version {offered}; the next one is {next}")]
    Version {
        /// What it would make.
        offered: Version,
        /// What it could make.
        next: Version,
    },
    /// It replaces another document than the one in force.
    #[error("it replaces {named}; in force is {in_force}")]
    Previous {
        /// What it names.
        named: PolicyDigest,
        /// What is in force.
        in_force: PolicyDigest,
    },
    /// The document that is in force already.
    #[error("the document is the one in force; there is nothing to change")]
    Same,
    /// The proposer's request isn't signed by a credential of this roster.
    #[error("the proposal doesn't authenticate: {0}")]
    Auth(#[from] AuthError),
    /// The credential proposes nothing.
    #[error("{credential} is {role}; only a policy_admin proposes a policy")]
    Role {
        /// Who proposed it.
        credential: CredentialId,
        /// What it may do.
        role: Role,
    },
    /// The proposer's body is no proposal.
    #[error("the proposal: {0}")]
    Body(#[from] BodyError),
    /// The proposer has proposed another document.
    #[error("the proposer has proposed another document")]
    OtherDocument,
    /// The version to go back to isn't there.
    #[error("there is no version {0} to go back to")]
    NoSuchVersion(Version),
    /// More words than anybody needs.
    #[error("a change comes with at most {MAX_APPROVALS} approvals")]
    TooMany,
    /// Somebody's word doesn't hold.
    #[error("{0}")]
    Approval(#[from] ApprovalError),
    /// It is about another change.
    #[error("the approval of {0} is for another change")]
    OtherChange(CredentialId),
    /// Whoever proposes doesn't approve, under whatever name.
    #[error("{0} is the one who proposed it, and doesn't approve")]
    Proposer(CredentialId),
    /// Somebody who isn't asked.
    #[error("{0} is in none of the groups that the policy in force names")]
    NotAsked(CredentialId),
    /// The document is no policy.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A quorum of the document that the people of the roster can't meet.
    #[error("the people of the roster can't meet the quorum {quorum}, which {place} names")]
    Unmeetable {
        /// The quorum.
        quorum: Quorum,
        /// Where it stands.
        place: String,
    },
    /// A rule for somebody who isn't there.
    #[error("rule {rule} is for {credential}, which is no credential of the roster")]
    UnknownInitiator {
        /// The rule.
        rule: String,
        /// Whom it names.
        credential: CredentialId,
    },
}

impl Version {
    /// The version of that number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ChangesConfig {
    /// The delay, in milliseconds.
    pub const fn delay_millis(&self) -> u64 {
        self.delay_seconds.saturating_mul(1000)
    }
}

impl ChangeStatement {
    /// Its bytes, as they are signed and sent.
    pub fn to_payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always have a JSON form")
    }

    /// Signs it with an approver's Ed25519 key.
    pub fn sign(&self, approver: CredentialId, key: &SigningKey) -> Approval {
        Approval::sign_payload(approver, PAYLOAD_TYPE, self.to_payload(), key)
    }
}

impl Change {
    /// The document, with its digest.
    pub fn document(&self) -> Document {
        Document::new(self.document.as_slice())
    }

    /// What an approver of the change signs.
    pub fn statement(&self, decision: Decision, expires: u64) -> ChangeStatement {
        let (document, previous) = (self.document().digest(), self.previous);
        ChangeStatement { decision, version: self.version, document, previous, expires }
    }

    /// Who proposes it: a policy admin of the roster, whose signed request has this very document in it, or names the earlier
    /// version whose digest `earlier` knows.
    ///
    /// # Errors
    /// Where nobody of the roster proposes it.
    pub fn proposer(
        &self,
        roster: &Roster,
        earlier: impl Fn(Version) -> Option<PolicyDigest>,
    ) -> Result<(CredentialId, Proposal), ChangeError> {
        let (credential, _) = self.request.authenticate(roster)?;
        if credential.role != Role::PolicyAdmin {
            return Err(ChangeError::Role { credential: credential.id.clone(), role: credential.role });
        }
        let proposal = Proposal::from_call(&parse_call(&self.request.body)?)?;
        let proposed = match &proposal {
            Proposal::Document { document, .. } => document.as_bytes() == self.document,
            Proposal::Rollback { version, .. } => {
                earlier(*version).ok_or(ChangeError::NoSuchVersion(*version))? == self.document().digest()
            }
        };
        if proposed { Ok((credential.id.clone(), proposal)) } else { Err(ChangeError::OtherDocument) }
    }

    /// What people say of it, as of a time in milliseconds since the Unix epoch, where the policy in force has these rules for
    /// changes and the earlier versions have the digests that `earlier` knows. Whether that is enough is the quorum's to say.
    ///
    /// # Errors
    /// Where the proposal or anybody's word doesn't hold: somebody put it there.
    pub fn weigh(
        &self,
        roster: &Roster,
        rules: &ChangesConfig,
        earlier: impl Fn(Version) -> Option<PolicyDigest>,
        at: u64,
    ) -> Result<Weighed, ChangeError> {
        if self.approvals.len() > MAX_APPROVALS {
            return Err(ChangeError::TooMany);
        }
        if self.document().digest() == self.previous {
            return Err(ChangeError::Same);
        }
        let (proposer, _) = self.proposer(roster, earlier)?;
        let mut weighed = Weighed::default();
        for approval in &self.approvals {
            let (statement, approver) = self.check(approval, roster, rules, &proposer)?;
            if statement.expires < at / 1000 {
                let (approver, at) = (approval.approver.clone(), statement.expires);
                return Err(ApprovalError::Expired { approver, at }.into());
            }
            match statement.decision {
                Decision::Approve => weighed.people.entry(approver.person).or_default().extend(approver.groups),
                Decision::Reject => weighed.rejected_by = Some(approval.approver.clone()),
            }
        }
        Ok(weighed)
    }

    /// Checks one word on the change against the roster. The proposer may reject it, which is to withdraw it.
    ///
    /// # Errors
    /// For the first thing that doesn't hold. A rejection that holds is no error here.
    pub fn check(
        &self,
        approval: &Approval,
        roster: &Roster,
        rules: &ChangesConfig,
        proposer: &CredentialId,
    ) -> Result<(ChangeStatement, Approver), ChangeError> {
        let name = || approval.approver.clone();
        let (statement, approver) = self.check_word(approval, roster)?;
        let proposed = roster.approver(proposer).is_some_and(|proposer| proposer.person == approver.person);
        if proposed || approval.approver == *proposer {
            return match statement.decision {
                Decision::Reject => Ok((statement, approver)),
                Decision::Approve => Err(ChangeError::Proposer(name())),
            };
        }
        if rules.require.groups().is_disjoint(&approver.groups.iter().collect()) {
            return Err(ChangeError::NotAsked(name()));
        }
        Ok((statement, approver))
    }

    /// Checks that somebody of the roster has signed a word on this change, whether it counts or not.
    pub(super) fn check_word(
        &self,
        approval: &Approval,
        roster: &Roster,
    ) -> Result<(ChangeStatement, Approver), ChangeError> {
        let (statement, approver): (ChangeStatement, Approver) =
            approval.statement(roster, PAYLOAD_TYPE, &APPROVING, ChangeStatement::to_payload)?;
        if statement == self.statement(statement.decision, statement.expires) {
            Ok((statement, approver))
        } else {
            Err(ChangeError::OtherChange(approval.approver.clone()))
        }
    }

    /// Whether these bytes say yes to this change, whoever signed them.
    pub(super) fn is_approved_by(&self, payload: &[u8]) -> bool {
        let said = serde_json::from_slice::<ChangeStatement>(payload);
        said.is_ok_and(|said| said == self.statement(Decision::Approve, said.expires))
    }
}

/// Whether the people and credentials of the roster can do what a policy asks of them: meet each quorum, and ask for what is for
/// them alone.
///
/// # Errors
/// [`ChangeError::Unmeetable`] and [`ChangeError::UnknownInitiator`].
pub fn check_roster(policy: &Policy, roster: &Roster) -> Result<(), ChangeError> {
    let everybody = |roles: &[Role], but: Option<&Person>| {
        let mut people: BTreeMap<Person, BTreeSet<Group>> = BTreeMap::new();
        for credential in roster.credentials().filter(|credential| roles.contains(&credential.role)) {
            if let Some(approver) = roster.approver(&credential.id).filter(|approver| but != Some(&approver.person)) {
                people.entry(approver.person.clone()).or_default().extend(approver.groups.clone());
            }
        }
        people
    };
    let unmeetable = |quorum: &Quorum, place: String| ChangeError::Unmeetable { quorum: quorum.clone(), place };
    if let Some(ChangesConfig { require, .. }) = &policy.changes {
        // Whoever proposes doesn't count, so somebody has to be able to without being needed.
        let mut admins = roster.credentials().filter(|credential| credential.role == Role::PolicyAdmin);
        let met = admins.any(|admin| {
            let person = roster.approver(&admin.id).map(|approver| &approver.person);
            require.is_met_by(&everybody(&APPROVING, person))
        });
        if !met {
            return Err(unmeetable(require, "[policy.changes]".to_owned()));
        }
    }
    let approvers = everybody(&[Role::Approver], None);
    for (rule, quorum) in policy.quorums() {
        if !quorum.is_met_by(&approvers) {
            return Err(unmeetable(quorum, format!("rule {rule}")));
        }
    }
    let unknown = policy.initiators().find(|(_, credential)| roster.get(credential).is_none());
    match unknown {
        None => Ok(()),
        Some((rule, credential)) => {
            Err(ChangeError::UnknownInitiator { rule: rule.to_owned(), credential: credential.clone() })
        }
    }
}
