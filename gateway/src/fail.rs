//! Places where a crash test stops the process. Without the feature `failpoints` nothing of this is compiled in.
//!
//! With it, the environment names one place: `PORTCULLIS_FAIL_AT=burn.after`, or `burn.after:3` for the third time that it is
//! passed. There the file named by `PORTCULLIS_FAIL_FILE` is written and the thread waits for the end of the process, which
//! the harness brings by SIGKILL, or for a file of that name with the ending `.go`, and goes on.
//!
//! `PORTCULLIS_TEST_LIMIT` has every payment draw its amount from one more limit, that many base units high, so that a
//! crash test sees what becomes of reservations whatever the policy says.

use crate::record::Record;
use crate::store::Draw;

/// Passes a named place.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn point(_name: &str) {}

/// Passes a named place, or stops there.
#[cfg(feature = "failpoints")]
pub fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Where to stop, how many passes go by before, and the file that tells of it.
    static ORDER: LazyLock<Option<(String, u64, Option<std::path::PathBuf>)>> = LazyLock::new(|| {
        let order = std::env::var("PORTCULLIS_FAIL_AT").ok()?;
        let file = std::env::var_os("PORTCULLIS_FAIL_FILE").map(std::path::PathBuf::from);
        Some(match order.split_once(':') {
            Some((place, pass)) => (place.to_owned(), pass.parse().unwrap_or(1), file),
            None => (order, 1, file),
        })
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let Some((place, pass, file)) = &*ORDER else { return };
    // Once: after it was told to go on, the process passes like any other.
    if place != name || PASSED.fetch_add(1, Ordering::SeqCst).saturating_add(1) != *pass {
        return;
    }
    if let Some(file) = file
        && let Err(error) = std::fs::write(file, name)
    {
        tracing::error!(%error, file = %file.display(), "the file of the fail point can't be written");
    }
    let go = file.as_ref().map(|file| file.with_extension("go"));
    let wait = || {
        while !go.as_ref().is_some_and(|go| go.exists()) {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    };
    // This task stands still and no other one: the runtime's thread is replaced meanwhile.
    match tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// What the payment draws from the test's own limit.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn draws(_record: &Record) -> Vec<Draw> {
    Vec::new()
}

/// What the payment draws from the test's own limit.
#[cfg(feature = "failpoints")]
pub fn draws(record: &Record) -> Vec<Draw> {
    use chains::amount::Amount;
    use chains::intent::Action;

    let limit = std::env::var("PORTCULLIS_TEST_LIMIT").ok().and_then(|limit| limit.parse::<u128>().ok());
    let (Some(limit), Action::Transfer { amount, .. }) = (limit, &record.intent.action) else { return Vec::new() };
    vec![Draw {
        counter: "crash-test".to_owned(),
        bucket: 0,
        since: 0,
        amount: *amount,
        max_amount: Some(Amount::from_wei(limit)),
        max_count: None,
    }]
}
