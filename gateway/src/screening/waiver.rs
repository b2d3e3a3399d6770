//! Overrides of the screening: an address that a list or a provider has something on may be touched after all, for a time,
//! because people have looked at it and said so.
//!
//! An operator asks for one in a signed request, `screen_override`; the quorum of `[screening] override_require` approves, each by
//! a DSSE envelope of a payload type of its own that names that request's body. One rejection ends it, at any time. It never
//! helps an address that the policy itself denies: every signer enforces that, and knows of no overrides.
//!
//! What the store keeps is believed nothing: request and words are verified against the roster whenever they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chains::address::{Address, AddressError, UncheckedAddress};
use chains::holder::Holder;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use signer::approval::{Approval, ApprovalError, Approver, Decision};
use signer::policy::quorum::{Group, Person, Quorum};
use signer::request::{AuthError, BodyError, Call, SignedRequest, parse_call};
use signer::roster::{CredentialId, Role, Roster};

/// The method that asks for an override.
const METHOD: &str = "screen_override";
/// The DSSE payload type of a word on an override.
pub const PAYLOAD_TYPE: &str = "application/vnd.portcullis.screening-override+json";
/// The longest reason, in characters.
const MAX_REASON: usize = 500;
/// The longest that an override may hold, in seconds: 90 days.
pub const MAX_SECONDS: u64 = 90 * 86_400;

/// The parameters of `screen_override`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The address that may be touched.
    pub address: UncheckedAddress,
    /// The network that it is spelled for. The same holder is meant under every spelling and on every network of the chain.
    pub network: Network,
    /// Why, 1 to 500 characters.
    pub reason: String,
    /// Until when, in seconds since the Unix epoch.
    pub expires: u64,
}

/// Which override: the SHA-256 of the body that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaiverId(#[serde(with = "hex_digest")] [u8; 32]);

/// What an approver says about an override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Yes or no.
    pub decision: Decision,
    /// The override.
    #[serde(rename = "override")]
    pub waiver: WaiverId,
}

/// An override that was asked for, with what people say of it.
#[derive(Clone, Debug)]
pub struct Waiver {
    id: WaiverId,
    proposal: Proposal,
    by: CredentialId,
    request: SignedRequest,
    holder: BTreeSet<Holder>,
    people: BTreeMap<Person, BTreeSet<Group>>,
    words: Vec<Approval>,
    rejected_by: Option<CredentialId>,
}

/// Why a request asks for no override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaiverError {
    /// It isn't signed by a credential of the roster.
    #[error("the request doesn't authenticate: {0}")]
    Auth(#[from] AuthError),
    /// It isn't signed by an operator.
    #[error("{0} is no operator")]
    Role(CredentialId),
    /// The body is none of `screen_override`.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The address is none on its network.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Proposal {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// Where the call is of another method, or its parameters lack something, hold something unknown or something wrong.
    pub fn from_call(call: &Call) -> Result<Self, BodyError> {
        if call.method != METHOD {
            return Err(BodyError::Method { expected: METHOD, found: call.method.chars().take(100).collect() });
        }
        if !call.params.is_object() {
            return Err(BodyError::Params("send an object with address, network, reason and expires".to_owned()));
        }
        let proposal = Self::deserialize(&call.params).map_err(|error| BodyError::Params(error.to_string()))?;
        let plain = !proposal.reason.chars().any(char::is_control);
        if plain && (1..=MAX_REASON).contains(&proposal.reason.trim().chars().count()) {
            Ok(proposal)
        } else {
            Err(BodyError::Params(format!("reason has 1 to {MAX_REASON} printable characters")))
        }
    }
}

impl WaiverId {
    /// The override that this body asks for.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

impl fmt::Display for WaiverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Word {
    /// Its bytes, as they are signed and sent.
    pub fn to_payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always have a JSON form")
    }
}

impl Waiver {
    /// Reads an operator's request.
    ///
    /// # Errors
    /// Where it asks for no override, or nobody who may has signed it.
    pub fn read(request: SignedRequest, roster: &Roster) -> Result<Self, WaiverError> {
        let (credential, _) = request.authenticate(roster)?;
        if credential.role != Role::Operator {
            return Err(WaiverError::Role(credential.id.clone()));
        }
        let by = credential.id.clone();
        let proposal = Proposal::from_call(&parse_call(&request.body)?)?;
        let address = proposal.address.require_network(proposal.network)?;
        Ok(Self {
            id: WaiverId::of(&request.body),
            holder: Holder::names(&address).into_iter().collect(),
            proposal,
            by,
            request,
            people: BTreeMap::new(),
            words: Vec::new(),
            rejected_by: None,
        })
    }

    /// What an approver says of it, where that holds.
    ///
    /// # Errors
    /// For the first thing that doesn't. A rejection that holds is no error here.
    pub fn check(&self, approval: &Approval, roster: &Roster) -> Result<(Word, Approver), ApprovalError> {
        let (word, approver): (Word, Approver) =
            approval.statement(roster, PAYLOAD_TYPE, &[Role::Approver], Word::to_payload)?;
        if word.waiver != self.id {
            return Err(ApprovalError::OtherIntent(approval.approver.clone()));
        }
        // Who asks doesn't approve, under whatever name.
        if roster.approver(&self.by).is_some_and(|asks| asks.person == approver.person) {
            return Err(ApprovalError::Initiator(approval.approver.clone()));
        }
        Ok((word, approver))
    }

    /// Counts an approver's word. One that doesn't hold (any more) counts for nothing.
    pub fn hear(&mut self, approval: Approval, roster: &Roster) {
        match self.check(&approval, roster) {
            Ok((Word { decision: Decision::Reject, .. }, _)) => self.rejected_by = Some(approval.approver.clone()),
            Ok((Word { decision: Decision::Approve, .. }, approver)) => {
                self.people.entry(approver.person).or_default().extend(approver.groups);
            }
            Err(error) => {
                tracing::warn!(id = %self.id, %error, "a word on an override of the screening doesn't count");
                return;
            }
        }
        self.words.push(approval);
    }

    /// Which one it is.
    pub const fn id(&self) -> WaiverId {
        self.id
    }

    /// What was asked for.
    pub const fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// Who asked.
    pub const fn by(&self) -> &CredentialId {
        &self.by
    }

    /// The request that asked for it.
    pub const fn request(&self) -> &SignedRequest {
        &self.request
    }

    /// The words that hold.
    pub fn words(&self) -> &[Approval] {
        &self.words
    }

    /// Who has rejected it.
    pub const fn rejected_by(&self) -> Option<&CredentialId> {
        self.rejected_by.as_ref()
    }

    /// How many more people it takes.
    pub fn missing(&self, quorum: &Quorum) -> usize {
        quorum.missing(&self.people)
    }

    /// Whether its time is over, at a time in milliseconds since the Unix epoch.
    pub const fn is_over(&self, at: u64) -> bool {
        self.proposal.expires <= at / 1000
    }

    /// Whether it holds at a time in milliseconds since the Unix epoch.
    pub fn stands(&self, quorum: &Quorum, at: u64) -> bool {
        self.rejected_by.is_none() && !self.is_over(at) && quorum.is_met_by(&self.people)
    }

    /// Whether it is for the holder of the address.
    pub fn covers(&self, address: &Address) -> bool {
        Holder::names(address).iter().any(|name| self.holder.contains(name))
    }
}

/// Serde for a digest as 64 hex digits.
mod hex_digest {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}", super::WaiverId(*digest)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("a digest has 64 lower-case hex digits");
        let plain = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !plain {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use serde_json::json;
    use signer::roster::Credential;

    use super::*;

    const LISTED: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
    const NOW: u64 = 1_700_000_000_000;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn roster() -> Roster {
        let credential =
            |id: &str, role, seed| Credential { id: id.parse().unwrap(), role, public_key: key(seed).verifying_key() };
        let credentials = vec![
            credential("ops", Role::Operator, 1),
            credential("trader", Role::Initiator, 2),
            credential("fay", Role::Approver, 3),
            credential("finn", Role::Approver, 4),
            credential("otto", Role::Approver, 5),
        ];
        let person = |person: &str| Approver {
            person: person.parse().unwrap(),
            groups: BTreeSet::from(["compliance".parse().unwrap()]),
            passkeys: Vec::new(),
        };
        let people = [("ops", "otto"), ("fay", "fay"), ("finn", "finn"), ("otto", "otto")];
        let people = people.map(|(id, name)| (id.parse().unwrap(), person(name)));
        Roster::new(credentials).unwrap().with_people(people.into()).unwrap()
    }

    fn ask(who: &str, seed: u8, params: &serde_json::Value) -> SignedRequest {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "screen_override", "params": params }).to_string();
        SignedRequest::sign(&key(seed), &who.parse().unwrap(), "/", "jti", NOW / 1000, 30, body.into_bytes())
    }

    fn params() -> serde_json::Value {
        json!({ "address": LISTED, "network": "ethereum:1", "reason": "a namesake", "expires": NOW / 1000 + 60 })
    }

    fn waiver() -> Waiver {
        Waiver::read(ask("ops", 1, &params()), &roster()).unwrap()
    }

    fn says(who: &str, seed: u8, decision: Decision, waiver: WaiverId) -> Approval {
        let payload = Word { decision, waiver }.to_payload();
        Approval::sign_payload(who.parse().unwrap(), PAYLOAD_TYPE, payload, &key(seed))
    }

    #[test]
    fn a_quorum_makes_it_stand_until_its_time_or_a_rejection() {
        let (roster, quorum): (_, Quorum) = (roster(), "2 of compliance".parse().unwrap());
        let mut waiver = waiver();
        assert!(!waiver.stands(&quorum, NOW));
        waiver.hear(says("fay", 3, Decision::Approve, waiver.id()), &roster);
        waiver.hear(says("fay", 3, Decision::Approve, waiver.id()), &roster);
        assert_eq!((waiver.stands(&quorum, NOW), waiver.missing(&quorum)), (false, 1));
        waiver.hear(says("finn", 4, Decision::Approve, waiver.id()), &roster);
        assert!(waiver.stands(&quorum, NOW) && waiver.stands(&quorum, NOW + 59_999));
        assert!(!waiver.stands(&quorum, NOW + 60_000));
        let address =
            |text: &str| Holder::read(&UncheckedAddress::new(text), chains::network::Family::Ethereum).unwrap();
        assert!(waiver.covers(&address(&LISTED.to_lowercase())));
        assert!(!waiver.covers(&address("0x52908400098527886E0F7030069857D2E4169EE7")));
        waiver.hear(says("fay", 3, Decision::Reject, waiver.id()), &roster);
        assert!(!waiver.stands(&quorum, NOW));
    }

    #[test]
    fn nobodys_word_counts_but_an_approvers_on_this_very_override() {
        let (roster, waiver) = (roster(), waiver());
        let checked = |approval: &Approval| waiver.check(approval, &roster).map(drop);
        let (yes, own) = (Decision::Approve, waiver.id());
        assert_eq!(checked(&says("fay", 3, yes, own)), Ok(()));
        assert!(matches!(checked(&says("fay", 4, yes, own)), Err(ApprovalError::Signature(_))));
        assert!(matches!(checked(&says("trader", 2, yes, own)), Err(ApprovalError::NotAnApprover(_))));
        assert!(matches!(checked(&says("otto", 5, yes, own)), Err(ApprovalError::Initiator(_))), "he asked, as ops");
        assert!(matches!(checked(&says("fay", 3, yes, WaiverId::of(b"x"))), Err(ApprovalError::OtherIntent(_))));
        // A signature of another purpose over the same bytes.
        let payload = Word { decision: yes, waiver: own }.to_payload();
        let other = Approval::sign_payload("fay".parse().unwrap(), signer::approval::PAYLOAD_TYPE, payload, &key(3));
        assert!(matches!(checked(&other), Err(ApprovalError::Signature(_))));
    }

    #[test]
    fn only_an_operator_asks_and_only_for_what_can_be_meant() {
        let read = |who, seed, params: &serde_json::Value| Waiver::read(ask(who, seed, params), &roster()).map(drop);
        assert!(matches!(read("trader", 2, &params()), Err(WaiverError::Role(_))));
        assert!(matches!(read("ops", 2, &params()), Err(WaiverError::Auth(_))));
        for (name, value) in [
            ("address", json!("0x12")),
            ("network", json!("bitcoin:mainnet")),
            ("reason", json!(" ")),
            ("reason", json!("a\nb")),
            ("reason", json!("x".repeat(501))),
            ("expires", json!("tomorrow")),
            ("more", json!(1)),
        ] {
            let mut wrong = params();
            wrong[name] = value;
            assert!(read("ops", 1, &wrong).is_err(), "{name}");
        }
    }
}
