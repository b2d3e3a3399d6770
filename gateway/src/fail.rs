//! Places where a crash test stops the process. Without the feature `failpoints` nothing of this is compiled in.
//!
//! With it, the environment names one place: `PORTCULLIS_FAIL_AT=burn.after`, or `burn.after:3` for the third time that it is
//! passed. There the file named by `PORTCULLIS_FAIL_FILE` is written and the thread waits for the end of the process, which
//! the harness brings by SIGKILL.

/// Passes a named place.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn point(_name: &str) {}

/// Passes a named place, or stops there for good.
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
    if place != name || PASSED.fetch_add(1, Ordering::SeqCst).saturating_add(1) < *pass {
        return;
    }
    if let Some(file) = file
        && let Err(error) = std::fs::write(file, name)
    {
        tracing::error!(%error, file = %file.display(), "the file of the fail point can't be written");
    }
    loop {
        std::thread::park();
    }
}
