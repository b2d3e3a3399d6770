//! `policy_propose` and `policy_rollback`: the calls that ask for another policy.

use serde::{Deserialize, Serialize};

use super::body::{BodyError, Call};
use crate::policy::change::Version;

/// The method whose parameters are a [`Proposal::Document`].
pub const PROPOSE: &str = "policy_propose";
/// The method whose parameters are a [`Proposal::Rollback`].
pub const ROLLBACK: &str = "policy_rollback";
/// The longest note, in bytes.
const MAX_NOTE: usize = 1024;

/// What a policy admin proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// A document, in the exact bytes that are in force later, and what there is to say of it.
    Document {
        /// The document's text.
        document: String,
        /// Why.
        note: String,
    },
    /// The document of an earlier version, once more.
    Rollback {
        /// The earlier version.
        version: Version,
        /// Why.
        note: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Propose {
    document: String,
    #[serde(default)]
    note: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    version: Version,
    #[serde(default)]
    note: String,
}

impl Proposal {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// Where the call is of another method, its parameters are others, or the note is too long.
    pub fn from_call(call: &Call) -> Result<Self, BodyError> {
        let wrong = |error: serde_json::Error| BodyError::Params(error.to_string());
        let proposal = match call.method.as_str() {
            PROPOSE => {
                let Propose { document, note } = Propose::deserialize(&call.params).map_err(wrong)?;
                Self::Document { document, note }
            }
            ROLLBACK => {
                let Rollback { version, note } = Rollback::deserialize(&call.params).map_err(wrong)?;
                Self::Rollback { version, note }
            }
            other => return Err(BodyError::Method { expected: PROPOSE, found: other.chars().take(100).collect() }),
        };
        if !call.params.is_object() {
            return Err(BodyError::Params("send an object with document or version, and note".to_owned()));
        }
        if proposal.note().len() > MAX_NOTE {
            return Err(BodyError::Params(format!("the note is above {MAX_NOTE} bytes")));
        }
        Ok(proposal)
    }

    /// What there is to say of it.
    pub fn note(&self) -> &str {
        match self {
            Self::Document { note, .. } | Self::Rollback { note, .. } => note,
        }
    }
}
