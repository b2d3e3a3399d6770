//! The signer's own clock, by which it counts what was drawn. The gateway's says nothing here.

use std::fmt;
use std::time::SystemTime;

/// Tells a signer the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since 1970.
    fn unix_millis(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn unix_millis(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "the crate's one adapter to the wall clock")]
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
