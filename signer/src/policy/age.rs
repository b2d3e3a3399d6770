//! How old a client's request may be when it is first agreed to.

use serde::{Deserialize, Serialize};

use super::Denial;

/// The longest that can be set, in hours: a year.
const MAX_HOURS: u32 = 8_760;
/// What holds where nothing is set, in hours: 30 days.
const DEFAULT_HOURS: u32 = 720;

/// How long after it was signed a request may first be agreed to, 1 to 8760 hours; 720 unless set.
///
/// A token's own end is for the gateway that receives it: payments wait for approvals long after it. Without this a request
/// that was never paid could be presented to signers for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RequestLifetime(u32);

/// A number of hours that is no lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests live 1 to {MAX_HOURS} hours, not {0}")]
pub struct LifetimeError(u32);

impl RequestLifetime {
    /// Whether it is what holds where nothing is set.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a request that was signed at `asked_at`, in seconds since 1970, may first be agreed to at `at`, in milliseconds.
    pub(super) fn require(self, asked_at: u64, at: u64) -> Result<(), Denial> {
        let end = asked_at.saturating_add(u64::from(self.0).saturating_mul(3_600));
        if at / 1_000 <= end { Ok(()) } else { Err(Denial::RequestTooOld { asked_at, hours: self.0 }) }
    }
}

impl Default for RequestLifetime {
    fn default() -> Self {
        Self(DEFAULT_HOURS)
    }
}

impl TryFrom<u32> for RequestLifetime {
    type Error = LifetimeError;

    fn try_from(hours: u32) -> Result<Self, LifetimeError> {
        if (1..=MAX_HOURS).contains(&hours) { Ok(Self(hours)) } else { Err(LifetimeError(hours)) }
    }
}

impl From<RequestLifetime> for u32 {
    fn from(lifetime: RequestLifetime) -> Self {
        lifetime.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_lives_to_its_last_second() {
        let lifetime = RequestLifetime::try_from(2).unwrap();
        let end = 1_000 + 2 * 3_600;
        for at in [0, 1_000_000, end * 1_000, end * 1_000 + 999] {
            assert_eq!(lifetime.require(1_000, at), Ok(()));
        }
        let refused = Denial::RequestTooOld { asked_at: 1_000, hours: 2 };
        for at in [(end + 1) * 1_000, u64::MAX] {
            assert_eq!(lifetime.require(1_000, at), Err(refused.clone()));
        }
        assert_eq!(lifetime.require(u64::MAX, u64::MAX), Ok(()));
    }

    #[test]
    fn hours_out_of_bounds_are_refused() {
        for hours in [0, MAX_HOURS + 1, u32::MAX] {
            assert_eq!(RequestLifetime::try_from(hours), Err(LifetimeError(hours)));
        }
        assert!(serde_json::from_str::<RequestLifetime>("0").is_err());
        assert_eq!(serde_json::to_string(&RequestLifetime::default()).unwrap(), "720");
    }
}
