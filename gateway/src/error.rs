//! What clients are told when it goes wrong. The one place where JSON-RPC error codes are known; inner layers have typed
//! errors.
//!
//! | codes | what |
//! |---|---|
//! | -32700, -32600, -32601, -32602, -32603 | JSON-RPC's own |
//! | -331xx | authentication, role |
//! | -332xx | policy |
//! | -333xx | screening |
//! | -334xx | the transaction: idempotency, funds, fees, replacement |
//! | -335xx | signers |
//! | -336xx | nodes |
//! | -337xx | the store, and who holds a record |
//!
//! `data` always has `{kind, retriable, retry_after_ms, exposure, trace_id}`, and `tx_id` and `rule_id` where there are such.

use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;
use signer::policy::change::ChangeError;
use signer::request::{AuthError, BodyError};
use uuid::Uuid;

use crate::governance::GovernanceError;
use crate::pipeline::replace::ReplaceError;
use crate::record::{Exposure, Reason, Record, RecordId};
use crate::store::StoreError;

/// An answer that is no result.
#[derive(Clone, Debug)]
pub struct ApiError {
    code: i32,
    message: String,
    data: Data,
}

#[derive(Clone, Debug, Serialize)]
struct Data {
    kind: String,
    retriable: bool,
    retry_after_ms: Option<u64>,
    exposure: Exposure,
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_id: Option<RecordId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_id: Option<String>,
    trace_id: Uuid,
}

/// The code of a kind: the table that the documentation shows.
const CODES: [(&str, i32); 68] = [
    ("parse_error", -32700),
    ("invalid_request", -32600),
    ("method_not_found", -32601),
    ("invalid_params", -32602),
    ("unknown_wallet", -32602),
    ("unknown_record", -32602),
    ("unknown_key", -32602),
    ("unknown_version", -32602),
    ("unknown_override", -32602),
    ("unknown_delegation", -32602),
    ("invalid_address", -32602),
    ("wrong_network", -32602),
    ("wrong_asset", -32602),
    ("zero_amount", -32602),
    ("overflow", -32602),
    ("unsupported", -32602),
    ("internal", -32603),
    ("unauthenticated", -33101),
    ("token_replayed", -33102),
    ("forbidden", -33103),
    ("denied", -33201),
    ("undecodable", -33202),
    ("approval_missing", -33203),
    ("invalid_approval", -33204),
    ("not_awaiting_approval", -33205),
    ("policy_stale", -33211),
    ("policy_unchangeable", -33212),
    ("policy_change_open", -33213),
    ("policy_change_ended", -33214),
    ("invalid_policy", -33215),
    ("policy_not_due", -33216),
    ("not_a_deal", -33206),
    ("no_part_in_deal", -33207),
    ("deal_incomplete", -33208),
    ("deal_expired", -33209),
    ("denied_address", -33301),
    ("screening_unavailable", -33302),
    ("list_stale", -33303),
    ("listed_address", -33304),
    ("identified_address", -33305),
    ("override_impossible", -33306),
    ("travel_data_missing", -33307),
    ("invalid_ivms101", -33308),
    ("travel_not_wanted", -33309),
    ("idempotency_conflict", -33401),
    ("dust", -33402),
    ("insufficient_funds", -33403),
    ("fee_above_cap", -33404),
    ("would_revert", -33405),
    ("wrong_account", -33406),
    ("not_replaceable", -33407),
    ("already_included", -33408),
    ("not_on_its_way", -33409),
    ("not_acceleratable", -33410),
    ("no_nonce", -33411),
    ("code_hash_mismatch", -33412),
    ("simulation_mismatch", -33413),
    ("simulation_unavailable", -33414),
    ("wallet_frozen", -33415),
    ("lookup_table", -33416),
    ("signers_unavailable", -33501),
    ("signers_refused", -33502),
    ("invalid_signature", -33503),
    ("node_unreachable", -33601),
    ("node_failed", -33602),
    ("store_unavailable", -33701),
    ("held_elsewhere", -33702),
    ("busy", -33703),
];

/// The code of every kind that isn't in the table: the policy's denials.
const DENIED: i32 = -33201;

fn code(kind: &str) -> i32 {
    CODES.iter().find(|(known, _)| *known == kind).map_or(DENIED, |(_, code)| *code)
}

impl ApiError {
    /// An error of this kind; the kind decides the code.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            code: code(kind),
            message: message.into(),
            data: Data {
                kind: kind.to_owned(),
                retriable: false,
                retry_after_ms: None,
                exposure: Exposure::None,
                tx_id: None,
                rule_id: None,
                trace_id: Uuid::now_v7(),
            },
        }
    }

    /// The same, after which the client may try again.
    #[must_use]
    pub fn retry_after(mut self, millis: u64) -> Self {
        self.data.retriable = true;
        self.data.retry_after_ms = Some(millis);
        self
    }

    /// Why an accepted intent ended without a signature. The record stays and can be read.
    pub fn of_record(record: &Record) -> Self {
        let fallback = Reason { kind: "denied".to_owned(), message: "the intent was refused".to_owned(), rule: None };
        let reason = record.reason.as_ref().unwrap_or(&fallback);
        let mut error = Self::new(&reason.kind, reason.message.clone());
        error.data.exposure = record.exposure;
        error.data.tx_id = Some(record.id);
        error.data.rule_id.clone_from(&reason.rule);
        error
    }

    /// The same, about a record.
    #[must_use]
    pub fn about(mut self, record: &Record) -> Self {
        self.data.exposure = record.exposure;
        self.data.tx_id = Some(record.id);
        self
    }

    /// The stable word for what happened.
    pub fn kind(&self) -> &str {
        &self.data.kind
    }

    /// The JSON-RPC error object.
    pub fn object(&self) -> ErrorObjectOwned {
        ErrorObjectOwned::owned(self.code, self.message.clone(), Some(&self.data))
    }
}

impl From<ApiError> for ErrorObjectOwned {
    fn from(error: ApiError) -> Self {
        error.object()
    }
}

impl From<AuthError> for ApiError {
    /// Every failed authentication looks the same from outside; the detail goes to the log.
    fn from(error: AuthError) -> Self {
        let answer = Self::new("unauthenticated", "the request is not authenticated");
        tracing::warn!(%error, trace_id = %answer.data.trace_id, "authentication failed");
        answer
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let kind = match &error {
            BodyError::Json(_) => "parse_error",
            BodyError::Params(_) | BodyError::ReferenceTooLong { .. } => "invalid_params",
            _ => "invalid_request",
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ReplaceError> for ApiError {
    fn from(error: ReplaceError) -> Self {
        let message = error.to_string();
        match error {
            ReplaceError::NotOnItsWay(_) => Self::new("not_on_its_way", message),
            ReplaceError::AlreadyIncluded(_) => Self::new("already_included", message),
            ReplaceError::HeldElsewhere => Self::new("held_elsewhere", message).retry_after(1_000),
            ReplaceError::Busy => Self::new("busy", message).retry_after(1_000),
            ReplaceError::Refused(reason) => {
                let mut answer = Self::new(&reason.kind, message);
                answer.data.rule_id = reason.rule;
                answer
            }
            ReplaceError::Retry(reason) => Self::new(&reason.kind, message).retry_after(1_000),
            ReplaceError::Store(error) => error.into(),
        }
    }
}

impl From<GovernanceError> for ApiError {
    fn from(error: GovernanceError) -> Self {
        let kind = match &error {
            GovernanceError::Store(_) => None,
            GovernanceError::NoVersion(_) => Some("unknown_version"),
            GovernanceError::NotDue(_) => Some("policy_not_due"),
            GovernanceError::Change(change) => Some(match change {
                ChangeError::Unchangeable => "policy_unchangeable",
                ChangeError::NoSuchVersion(_) => "unknown_version",
                ChangeError::Body(_) => "invalid_params",
                ChangeError::Role { .. } => "forbidden",
                ChangeError::Approval(_)
                | ChangeError::OtherChange(_)
                | ChangeError::Proposer(_)
                | ChangeError::NotAsked(_) => "invalid_approval",
                _ => "invalid_policy",
            }),
        };
        match (kind, error) {
            (None, GovernanceError::Store(error)) => error.into(),
            (kind, error) => Self::new(kind.unwrap_or("internal"), error.to_string()),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::TokenReplayed => Self::new("token_replayed", error.to_string()),
            StoreError::IdempotencyConflict(id) => {
                let mut answer = Self::new("idempotency_conflict", error.to_string());
                answer.data.tx_id = Some(*id);
                answer
            }
            StoreError::PolicyOpen(_) | StoreError::PolicyVersion { .. } => {
                Self::new("policy_change_open", error.to_string())
            }
            StoreError::NoPolicyChange(_) => Self::new("unknown_version", error.to_string()),
            StoreError::PolicyEnded(_) => Self::new("policy_change_ended", error.to_string()),
            StoreError::NoRecord(_) => Self::new("unknown_record", error.to_string()),
            StoreError::Database(_) => {
                let answer = Self::new("store_unavailable", "the gateway's store is unavailable").retry_after(1_000);
                tracing::error!(%error, trace_id = %answer.data.trace_id, "the store failed");
                answer
            }
            _ => {
                let answer = Self::new("internal", "the gateway failed");
                tracing::error!(%error, trace_id = %answer.data.trace_id, "the store failed");
                answer
            }
        }
    }
}
