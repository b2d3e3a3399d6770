//! Signers that this one will never work with again.
//!
//! DKLs23 reuses oblivious-transfer state from one signature to the next; a party that fails its consistency checks may be
//! learning that state bit by bit, and going on with it would let it extract the key. So a ban is for good: it is written
//! down before the fault is reported, and only a person removes it, by a fresh key generation or refresh.
//!
//! It holds for sessions under way, too. Each check tells a cheat one bit, whether it passes or not, and many sessions can
//! stand right before their checks at once. So a signer makes one check with a peer at a time ([`Checks`]), bans before the
//! next one, and doesn't go on to that: what a cheat can learn are guesses that it gets right until the first wrong one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::disk;
use crate::transport::SignerId;

/// The bans of one signer.
pub(super) struct Bans {
    path: PathBuf,
    banned: Mutex<BTreeMap<SignerId, String>>,
}

impl Bans {
    /// The bans written in `path`.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let banned = match disk::read(path)? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => BTreeMap::new(),
        };
        Ok(Self { path: path.to_owned(), banned: Mutex::new(banned) })
    }

    /// Why `signer` is banned, if it is.
    pub(super) fn reason(&self, signer: &SignerId) -> Option<String> {
        self.banned.lock().unwrap_or_else(PoisonError::into_inner).get(signer).cloned()
    }

    /// Bans `signer`. In memory the ban holds even where it cannot be written.
    pub(super) fn ban(&self, signer: SignerId, reason: String) -> std::io::Result<()> {
        let mut banned = self.banned.lock().unwrap_or_else(PoisonError::into_inner);
        banned.entry(signer).or_insert(reason);
        disk::write_atomic(&self.path, &serde_json::to_vec_pretty(&*banned)?)
    }
}

/// The peers whose letters are being checked.
#[derive(Default)]
pub(super) struct Checks {
    under_way: Mutex<BTreeSet<SignerId>>,
    ended: Condvar,
}

/// A check of some peers' letters, the only one with any of them until it is dropped.
pub(super) struct Check<'c> {
    checks: &'c Checks,
    peers: BTreeSet<SignerId>,
}

impl Checks {
    /// Waits until no letters of any of `peers` are being checked. All of them are taken at one stroke, so that no two
    /// sessions wait for each other.
    pub(super) fn begin(&self, peers: BTreeSet<SignerId>) -> Check<'_> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |under_way: &mut BTreeSet<SignerId>| !under_way.is_disjoint(&peers);
        let mut under_way = self.ended.wait_while(under_way, taken).unwrap_or_else(PoisonError::into_inner);
        under_way.extend(peers.iter().cloned());
        drop(under_way);
        Check { checks: self, peers }
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        let mut under_way = self.checks.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|peer| !self.peers.contains(peer));
        drop(under_way);
        self.checks.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_check_with_a_peer_is_under_way_at_a_time() {
        let checks = Checks::default();
        let [b, c, d] = ["b", "c", "d"].map(|name| name.parse::<SignerId>().unwrap());
        let circles = [[b.clone(), c.clone()], [c.clone(), d.clone()], [d.clone(), b.clone()]];
        let counts = BTreeMap::from([b, c, d].map(|peer| (peer, AtomicUsize::new(0))));
        let (checks, counts) = (&checks, &counts);
        std::thread::scope(|scope| {
            for circle in circles.iter().cycle().take(6) {
                scope.spawn(move || {
                    for _ in 0..500 {
                        let check = checks.begin(circle.iter().cloned().collect());
                        for peer in circle {
                            assert_eq!(counts[peer].fetch_add(1, Ordering::SeqCst), 0, "{peer}");
                        }
                        std::thread::yield_now();
                        for peer in circle {
                            counts[peer].fetch_sub(1, Ordering::SeqCst);
                        }
                        drop(check);
                    }
                });
            }
        });
        // Checks of different peers don't wait for each other, or this would never end.
        let [b, c] = ["b", "c"].map(|name| BTreeSet::from([name.parse().unwrap()]));
        let (_with_b, _with_c) = (checks.begin(b), checks.begin(c));
    }

    #[test]
    fn a_ban_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bans.json");
        let (cheat, honest): (SignerId, SignerId) = ("cheat".parse().unwrap(), "honest".parse().unwrap());
        Bans::open(&path).unwrap().ban(cheat.clone(), "failed the consistency check".to_owned()).unwrap();
        let again = Bans::open(&path).unwrap();
        assert_eq!(again.reason(&cheat).as_deref(), Some("failed the consistency check"));
        assert_eq!(again.reason(&honest), None);
    }
}
