//! `tx_cancel`, and `otc_abort` by the desk: the calls that ask for a payment to be kept off the chain.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::{BodyError, Call};

/// The method whose parameters are a [`Cancellation`].
const METHOD: &str = "tx_cancel";
/// The same for a deal.
const ABORT: &str = "otc_abort";

/// The parameters of `tx_cancel`: `{"tx_id": "<uuid>"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancellation {
    /// The gateway's name for the payment.
    pub tx_id: Uuid,
}

impl Cancellation {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// Where the call is of another method, or its parameters are not exactly the one.
    pub fn from_call(call: &Call) -> Result<Self, BodyError> {
        if call.method != METHOD && call.method != ABORT {
            return Err(BodyError::Method { expected: METHOD, found: call.method.chars().take(100).collect() });
        }
        if !call.params.is_object() {
            return Err(BodyError::Params("send an object with tx_id".to_owned()));
        }
        Self::deserialize(&call.params).map_err(|error| BodyError::Params(error.to_string()))
    }
}
