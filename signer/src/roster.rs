//! Who may ask: the credentials whose signatures a signer believes, each with the one role that it has.
//!
//! Every signer holds a roster of its own and never fetches one from the gateway. Reading it from a file is the
//! configuration's business; what is here cannot be built wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::approval::Approver;
use crate::approval::passkey::Passkey;
use crate::policy::quorum::Person;

/// The credentials that are believed, by name.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    credentials: BTreeMap<CredentialId, Credential>,
    approvers: BTreeMap<CredentialId, Approver>,
    audience: Option<Audience>,
}

/// A key with a name and one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name, a token's `sub`.
    pub id: CredentialId,
    /// What it may do.
    pub role: Role,
    /// The Ed25519 key (RFC 8032) that its requests are signed with.
    pub public_key: VerifyingKey,
}

/// What a credential may do. One credential has one role, so that nobody approves what they asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asks for payments.
    Initiator,
    /// Approves them.
    Approver,
    /// Changes the policy.
    PolicyAdmin,
    /// Runs the machines: pauses, resumes, freezes.
    Operator,
    /// Reads everything, the audit log included.
    Auditor,
    /// Reads the state of payments and wallets.
    Viewer,
}

/// The name of a credential, 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CredentialId(String);

/// The name of a deployment, a token's `aud` (RFC 7519 section 4.1.3): a request for one isn't taken by another that believes the
/// same credentials. 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Audience(String);

/// A string that is no name of a credential or of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name; use 1 to 64 characters of a-z, 0-9, - and _")]
pub struct NameError(String);

/// Why credentials make no roster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// One name for two credentials.
    #[error("two credentials are named {0}; give each a name of its own")]
    DuplicateId(CredentialId),
    /// One key for two credentials, and so two roles for one holder.
    #[error("{first} and {second} have the same public key; a key has one role")]
    DuplicateKey {
        /// The credential that has it already.
        first: CredentialId,
        /// The one that would share it.
        second: CredentialId,
    },
    /// A person behind a credential that isn't there.
    #[error("there is no credential {0}")]
    Unknown(CredentialId),
    /// A key of small order, under which signatures can be made without any secret.
    #[error("the public key of {0} is of small order; generate another")]
    WeakKey(CredentialId),
}

impl Roster {
    /// A roster of these credentials.
    ///
    /// # Errors
    /// Where two have the same name or the same key, or where a key is of small order.
    pub fn new(credentials: Vec<Credential>) -> Result<Self, RosterError> {
        let mut keys: BTreeMap<[u8; 32], CredentialId> = BTreeMap::new();
        let mut roster = BTreeMap::new();
        for credential in credentials {
            let id = credential.id.clone();
            if credential.public_key.is_weak() {
                return Err(RosterError::WeakKey(id));
            }
            if let Some(first) = keys.insert(credential.public_key.to_bytes(), id.clone())
                && first != id
            {
                return Err(RosterError::DuplicateKey { first, second: id });
            }
            if roster.insert(id.clone(), credential).is_some() {
                return Err(RosterError::DuplicateId(id));
            }
        }
        Ok(Self { credentials: roster, approvers: BTreeMap::new(), audience: None })
    }

    /// The same roster, with what is known of the people behind some of its credentials. Initiators may be named, too: a
    /// person who asks doesn't approve, under whatever credential. A person's passkeys are those of all its credentials: who has one
    /// approves by nothing else, under whatever credential.
    ///
    /// # Errors
    /// Where a name is no credential's.
    pub fn with_people(mut self, mut people: BTreeMap<CredentialId, Approver>) -> Result<Self, RosterError> {
        if let Some(unknown) = people.keys().find(|id| !self.credentials.contains_key(id)) {
            return Err(RosterError::Unknown(unknown.clone()));
        }
        let mut passkeys: BTreeMap<Person, Vec<Passkey>> = BTreeMap::new();
        for approver in people.values() {
            let of_person = passkeys.entry(approver.person.clone()).or_default();
            for passkey in &approver.passkeys {
                if !of_person.contains(passkey) {
                    of_person.push(passkey.clone());
                }
            }
        }
        for approver in people.values_mut() {
            approver.passkeys = passkeys.get(&approver.person).cloned().unwrap_or_default();
        }
        self.approvers = people;
        Ok(self)
    }

    /// The same roster for requests that name this deployment, and for no others; without one, for requests that name none.
    #[must_use]
    pub fn for_audience(self, audience: Option<Audience>) -> Self {
        Self { audience, ..self }
    }

    /// The deployment that requests have to name.
    pub const fn audience(&self) -> Option<&Audience> {
        self.audience.as_ref()
    }

    /// The person behind a credential, where one is named.
    pub fn approver(&self, id: &CredentialId) -> Option<&Approver> {
        self.approvers.get(id)
    }

    /// The credential of that name.
    pub fn get(&self, id: &CredentialId) -> Option<&Credential> {
        self.credentials.get(id)
    }

    /// Every credential, in the order of their names.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.credentials.values()
    }
}

impl CredentialId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Gives types that hold a name its text form and its rule.
macro_rules! name {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
                if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text))
                } else {
                    Err(NameError(text.chars().take(100).collect()))
                }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )+};
}

name!(CredentialId, Audience);

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initiator => "initiator",
            Self::Approver => "approver",
            Self::PolicyAdmin => "policy_admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Viewer => "viewer",
        })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use p256::pkcs8::{EncodePublicKey as _, LineEnding};

    use super::*;

    fn credential(id: &str, seed: u8) -> Credential {
        Credential {
            id: id.parse().expect("a name"),
            role: Role::Initiator,
            public_key: SigningKey::from_bytes(&[seed; 32]).verifying_key(),
        }
    }

    #[test]
    fn a_name_and_a_key_serve_one_credential() {
        let roster = Roster::new(vec![credential("a", 1), credential("b", 2)]).expect("two credentials");
        assert_eq!(roster.get(&"b".parse().expect("a name")), Some(&credential("b", 2)));
        assert_eq!(roster.get(&"c".parse().expect("a name")), None);
        assert!(matches!(
            Roster::new(vec![credential("a", 1), credential("a", 2)]),
            Err(RosterError::DuplicateId(id)) if id.as_str() == "a"
        ));
        assert!(matches!(
            Roster::new(vec![credential("a", 1), credential("b", 1)]),
            Err(RosterError::DuplicateKey { .. })
        ));
        assert!(matches!(Roster::new(vec![credential("a", 1), credential("a", 1)]), Err(RosterError::DuplicateId(_))));
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        // The neutral element: y = 1.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let public_key = VerifyingKey::from_bytes(&neutral).expect("a point of the curve");
        let weak = Credential { public_key, ..credential("a", 1) };
        assert!(matches!(Roster::new(vec![weak]), Err(RosterError::WeakKey(_))));
    }

    fn passkeys() -> [Passkey; 2] {
        [1, 2].map(|seed| {
            let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a scalar");
            let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).expect("a key");
            Passkey::new(&pem, "example.org".to_owned(), vec!["https://example.org".to_owned()]).expect("a passkey")
        })
    }

    #[test]
    fn a_person_s_passkeys_are_those_of_all_its_credentials() {
        let approver = |person: &str, passkeys: Vec<Passkey>| Approver {
            person: person.parse().expect("a name"),
            groups: std::collections::BTreeSet::new(),
            passkeys,
        };
        let [one, two] = passkeys();
        let people = [
            ("ann", approver("ann", vec![one.clone(), two.clone()])),
            ("ann-admin", approver("ann", Vec::new())),
            ("ann-desk", approver("ann", vec![two.clone()])),
            ("bob", approver("bob", Vec::new())),
        ];
        let credentials = people.iter().zip(1..).map(|((id, _), seed)| credential(id, seed)).collect();
        let people = people.map(|(id, approver)| (id.parse().expect("a name"), approver)).into();
        let roster = Roster::new(credentials).and_then(|roster| roster.with_people(people)).expect("a roster");
        let of = |id: &str| roster.approver(&id.parse().expect("a name")).map(|approver| approver.passkeys.clone());
        for id in ["ann", "ann-admin", "ann-desk"] {
            assert_eq!(of(id), Some(vec![one.clone(), two.clone()]), "{id}");
        }
        assert_eq!(of("bob"), Some(Vec::new()));
    }

    #[test]
    fn names_and_roles_are_plain() {
        for bad in ["", "A", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<CredentialId>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<CredentialId>(bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(serde_json::to_value(Role::PolicyAdmin).expect("a role is a string"), "policy_admin");
        assert_eq!(Role::PolicyAdmin.to_string(), "policy_admin");
        assert!(serde_json::from_value::<Role>("root".into()).is_err());
    }
}
