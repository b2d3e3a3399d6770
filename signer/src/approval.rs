//! Approvals: what an approver signs, and what a signer will want to see of it.
//!
//! No rule of the policy asks for an approval yet, so a signer has nothing to weigh one against: it refuses a request
//! that carries any, rather than pass over evidence that it did not check.

use serde::{Deserialize, Serialize};

use crate::request::base64_bytes;
use crate::roster::CredentialId;

/// An approver's signature over a client's request.
///
/// The signed bytes are the DSSE pre-authentication encoding (`DSSEv1`, payload type, payload) of [`PAYLOAD_TYPE`] and
/// the request's raw body: the words of the client themselves, in the bytes in which they came, with no
/// canonicalization. They name the intent and not the transaction, so a fee bump within `max_fee` needs no new
/// approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Who approves.
    pub approver: CredentialId,
    /// An Ed25519 signature (RFC 8032), 64 bytes; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

/// The DSSE payload type of an approved request body.
pub const PAYLOAD_TYPE: &str = "application/vnd.portcullis.request+json";
