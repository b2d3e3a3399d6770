//! Signers that this one will never work with again.
//!
//! DKLs23 reuses oblivious-transfer state from one signature to the next; a party that fails its consistency checks may be
//! learning that state bit by bit, and going on with it would let it extract the key. So a ban is for good: it is written
//! down before the fault is reported, and only a person removes it, by a fresh key generation or refresh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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

#[cfg(test)]
mod tests {
    use super::*;

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
