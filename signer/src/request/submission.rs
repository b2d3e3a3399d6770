//! `tx_submit`: the call that asks for a payment; and `otc_open`, which asks for one that is a leg of a [`Deal`].

use std::fmt;
use std::str::FromStr;

use chains::intent::{Intent, MAX_REFERENCE_LEN};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::body::{BodyError, Call};
use super::deal::{self, Deal};
use crate::roster::CredentialId;

/// The method whose parameters are a [`Submission`].
pub const METHOD: &str = "tx_submit";

/// The parameters of `tx_submit`: `{"idempotency_key": "…", "intent": {…}}`; and of `otc_open`, which has the deal's terms besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submission {
    /// The client's own key of the payment: the same key never pays twice.
    pub idempotency_key: IdempotencyKey,
    /// What is asked for.
    pub intent: Intent,
    /// The terms under which it is paid, where it is a deal's crypto leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deal: Option<Deal>,
}

/// The parameters of `tx_submit`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    idempotency_key: IdempotencyKey,
    intent: Intent,
}

/// The parameters of `otc_open`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    idempotency_key: IdempotencyKey,
    intent: Intent,
    deal: Deal,
}

/// A client's key of one payment, 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct IdempotencyKey(String);

/// A string that is no idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no idempotency key; use 1 to 64 printable ASCII characters without spaces")]
pub struct IdempotencyKeyError(String);

/// What makes one intent one: who asked, under which idempotency key. The gateway has no say in it, so that a gateway
/// that was taken over cannot present one request as two payments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct IntentId([u8; 32]);

impl Submission {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// Where the call is of another method, or its parameters lack something, hold something unknown or something
    /// wrong.
    pub fn from_call(call: &Call) -> Result<Self, BodyError> {
        let opens = call.method == deal::METHOD;
        if call.method != METHOD && !opens {
            return Err(BodyError::Method { expected: METHOD, found: call.method.chars().take(100).collect() });
        }
        if !call.params.is_object() {
            return Err(BodyError::Params("send an object with idempotency_key and intent".to_owned()));
        }
        let wrong = |error: serde_json::Error| BodyError::Params(error.to_string());
        let submission = if opens {
            let Opening { idempotency_key, intent, deal } = Opening::deserialize(&call.params).map_err(wrong)?;
            Self { idempotency_key, intent, deal: Some(deal) }
        } else {
            let Payment { idempotency_key, intent } = Payment::deserialize(&call.params).map_err(wrong)?;
            Self { idempotency_key, intent, deal: None }
        };
        if submission.deal.is_some() && submission.intent.action.is_upkeep() {
            return Err(BodyError::Params("a deal's crypto leg pays somebody: a transfer or a call".to_owned()));
        }
        match submission.intent.reference.as_ref().map_or(0, String::len) {
            0..=MAX_REFERENCE_LEN => Ok(submission),
            found => Err(BodyError::ReferenceTooLong { found, max: MAX_REFERENCE_LEN }),
        }
    }

    /// The intent's identity when `initiator` asks for it.
    pub fn intent_id(&self, initiator: &CredentialId) -> IntentId {
        let mut hash = Sha256::new();
        hash.update(b"portcullis intent v1\0");
        hash.update(initiator.as_str());
        hash.update([0]); // neither part can hold it
        hash.update(self.idempotency_key.as_str());
        IntentId(hash.finalize().into())
    }
}

impl IdempotencyKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = IdempotencyKeyError;

    fn try_from(text: String) -> Result<Self, IdempotencyKeyError> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(IdempotencyKeyError(text.chars().take(100).collect()))
        }
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntentId({self})")
    }
}

impl From<IntentId> for String {
    fn from(id: IntentId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for IntentId {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}
