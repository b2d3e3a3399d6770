//! What a pool is asked to sign, and the evidence that comes with it: the client's own words, signed by the client.
//!
//! - [`token`]: the client's signed request: a JWT that covers the raw body;
//! - [`body`]: the body read strictly, as one JSON-RPC call;
//! - [`submission`]: the call read as an intent with its idempotency key;
//! - [`deal`]: the terms of a deal, where the intent is its crypto leg, and the desk's go;
//! - [`cancellation`]: the call read as a request to keep a payment off the chain;
//! - [`proposal`]: the call read as a request for another policy.
//!
//! Nothing here trusts the gateway: each signer starts from the same bytes that the client sent.

use chains::account::WalletId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::approval::Approval;
use crate::policy::document::PolicyDigest;

pub mod body;
pub mod cancellation;
pub mod deal;
pub mod proposal;
pub mod submission;
pub mod token;

pub use body::{BodyError, Call, MAX_BODY_LEN, parse_call};
pub use cancellation::Cancellation;
pub use deal::{Deal, Go};
pub use submission::{IdempotencyKey, IntentId, Submission};
pub use token::{AuthError, Claims, SignedRequest};

/// The only thing that a pool takes: a whole unsigned transaction and the evidence that somebody wants it. There is no
/// way to ask for a signature over a hash:
///
/// ```compile_fail,E0560
/// # fn ask(request: signer::request::SigningRequest) -> signer::request::SigningRequest {
/// signer::request::SigningRequest { hash: [7; 32], ..request }
/// # }
/// ```
///
/// ```compile_fail,E0308
/// # async fn ask(pool: &signer::pool::Pool) {
/// let _ = pool.sign([7; 32]).await;
/// # }
/// ```
///
/// and none to leave the evidence out:
///
/// ```compile_fail,E0063
/// # fn ask(tx: uuid::Uuid, wallet: chains::account::WalletId, unsigned: Vec<u8>) -> signer::request::SigningRequest {
/// signer::request::SigningRequest { tx, wallet, unsigned, fence: 1 }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningRequest {
    /// The gateway's name for the intent; every attempt of it has the same.
    pub tx: Uuid,
    /// The wallet that pays.
    pub wallet: WalletId,
    /// The frozen unsigned transaction, as the chain's `encode_unsigned` wrote it; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub unsigned: Vec<u8>,
    /// Who asked for it, and who approved.
    pub evidence: Evidence,
    /// The lease under which the gateway works on this intent; it only grows.
    pub fence: u64,
    /// The policy that the gateway judged it under. A signer under another one takes no part.
    pub policy: PolicyDigest,
}

/// Why a transaction may be signed, in the words and under the signatures of people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The client's signed request.
    pub request: SignedRequest,
    /// The approvals of it.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// The signed `tx_cancel` of the client or of an operator, where the transaction is to keep the payment off the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<SignedRequest>,
    /// The signed `otc_release` of whoever opened the deal, where its terms ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<SignedRequest>,
}

/// Serde for bytes that travel as base64 (RFC 4648 section 4, with padding).
pub(crate) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}
