//! Doors for the fuzz targets (`tests/fuzz`) to what is private otherwise; nothing secret is behind them.

use std::path::Path;
use std::sync::LazyLock;

use crate::ledger::Ledger;
use crate::node::fuzzing as node;

/// How many entries the ledger at `path` has; `None` where it is refused.
pub fn ledger(path: &Path) -> Option<u64> {
    Ledger::open(path).ok().map(|ledger| ledger.entries())
}

/// Reads a command to a signer and a signer's answer, and checks that what is read is written as it reads.
///
/// # Panics
/// Where it isn't.
pub fn message(bytes: &[u8]) {
    node::commands(bytes);
    node::answers(bytes);
}

/// Whether bytes open as a letter from one fixed signer to another.
pub fn opens(bytes: &[u8]) -> bool {
    static LINK: LazyLock<node::Ends> = LazyLock::new(node::Ends::new);
    LINK.opens(bytes)
}
