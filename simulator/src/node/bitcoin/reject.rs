//! Why a transaction or a block is refused, in Bitcoin Core's words.

use std::borrow::Cow;
use std::fmt;

/// A refusal: the short reason that Bitcoin Core's clients match on, and the detail that follows it.
///
/// Displayed as Core's `ValidationState::ToString` does: `reason` or `reason, detail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What the RPC layer has to tell apart.
    pub kind: RejectKind,
    /// Core's reject reason, such as `bad-txns-in-belowout`.
    pub reason: Cow<'static, str>,
    /// Core's debug message; often empty.
    pub detail: String,
}

/// The classes of refusal that the RPC layer answers differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// An input's coin is unknown or spent.
    MissingInputs,
    /// Anything else.
    Invalid,
}

impl Reject {
    /// A refusal without a detail.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RejectKind::Invalid, reason: reason.into(), detail: String::new() }
    }

    /// A refusal with a detail.
    pub fn with(reason: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { kind: RejectKind::Invalid, reason: reason.into(), detail: detail.into() }
    }

    /// An input's coin is unknown or spent.
    pub const fn missing_inputs() -> Self {
        Self {
            kind: RejectKind::MissingInputs,
            reason: Cow::Borrowed("bad-txns-inputs-missingorspent"),
            detail: String::new(),
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.detail.is_empty() {
            write!(f, ", {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Reject {}
