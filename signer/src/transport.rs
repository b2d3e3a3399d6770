//! How the coordinator reaches the signers: a request of bytes, an answer of bytes, a deadline.
//!
//! A transport needs to be neither honest nor secret. The letters of a session are sealed from signer to signer, bound to
//! session, round, sender and receiver, so whoever carries them can drop or delay them, no more. [`memory`] joins signers
//! of the same process, `grpc` (with the feature of that name) signers in processes of their own.

#[cfg(feature = "grpc")]
pub mod grpc;
pub mod memory;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chains::account::{KeyId, NameError};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// The name of a signer, 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignerId(String);

/// Carries requests to signers.
pub trait Transport: Send + Sync {
    /// Sends `request` to the signer `to` and waits for its answer, no longer than `deadline`.
    ///
    /// # Errors
    /// Where no answer came; whether the request arrived is then unknown.
    fn call<'a>(
        &'a self,
        to: &'a SignerId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>>;
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The signer is not there.
    #[error("the signer cannot be reached")]
    Unreachable,
    /// The signer did not answer in time.
    #[error("the signer did not answer in time")]
    Timeout,
    /// The request is longer than the transport carries.
    #[error("the request is too long to be sent")]
    TooLong,
}

impl SignerId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SignerId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // Signers are named by the same rule as keys.
        text.parse::<KeyId>().map(|name| Self(name.to_string()))
    }
}

impl TryFrom<String> for SignerId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SignerId> for String {
    fn from(id: SignerId) -> Self {
        id.0
    }
}
