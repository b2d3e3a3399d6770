//! Recovery: an escrow and the shares of those signers that are left become a pool.
//!
//! The shares are put into the vaults of fresh signers, side by side with the escrow's, and what follows is an ordinary
//! [reshare](crate::ceremony::reshare) among the fresh signers: the key and its addresses stay, all signers of the new
//! pool get a share of their own, each proves itself in a signature, and the shares that were brought together are erased.
//! What the live signers remember of what they have signed goes along.
//!
//! Whoever does this has the threshold's number of shares in one place while it lasts. That is what an escrow is for; do
//! it on a machine that nobody else is on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chains::account::KeyId;

use super::file::Escrow;
use super::{EscrowError, SignerId};
use crate::disk;
use crate::node;
use crate::pool::{GroupKey, Pool, PoolConfig, PoolError, Progress, SignerConfig};
use crate::protocol::PartyIndex;
use crate::scheme::enroll::Point;
use crate::session::fresh_session;
use crate::share::Share;
use crate::vault::{KeyInfo, Vault};

/// What is brought together, and what is to come of it.
pub struct Recovery {
    /// The pool to be: signers in fresh folders, which may hold other keys, with a threshold of their own.
    pub pool: PoolConfig,
    /// The signers that are left, each with its folder and its seal. They must not be running; nothing in their folders is
    /// changed.
    pub live: Vec<SignerConfig>,
    /// A folder for shares in passing, which doesn't exist yet. It is overwritten and removed in the end.
    pub scratch: PathBuf,
}

/// A key that was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Its name.
    pub key: KeyId,
    /// Its public key, the same as before.
    pub group: GroupKey,
    /// The generation of the new shares.
    pub epoch: u32,
    /// Who holds them.
    pub holders: Vec<SignerId>,
}

/// What some of the shares can do by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alone {
    /// They don't make the key, and a pool of them signs nothing.
    Powerless {
        /// What the pool says.
        said: String,
    },
    /// They do: they are as many as it takes, or something is badly wrong.
    Able,
}

/// A share to be put into a fresh signer's vault.
struct Seat {
    signer: SignerConfig,
    share: Arc<Share>,
}

impl Recovery {
    /// Recovers the escrow's key.
    ///
    /// # Errors
    /// Where a live share is missing or does not belong to the escrow, they are too few, the new folders hold the key
    /// already, or the reshare fails. Nothing of the key stays in the new folders then.
    pub async fn run(
        &self,
        escrow: &Escrow,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Recovered, EscrowError> {
        let live = self.live_shares(escrow)?;
        let (have, needed) = (live.len().saturating_add(1), escrow.info.threshold);
        if have < usize::from(needed) {
            return Err(EscrowError::TooFew { key: escrow.info.key.clone(), have, needed });
        }
        self.vacant(&escrow.info.key)?;
        let own = Share::decode(escrow.info.scheme, &encoded(&escrow.share)?).map_err(|e| folder(&self.scratch, &e))?;
        let recovered = self.reshare(escrow, live, Some(own), progress).await;
        self.clean(&escrow.info.key, recovered.is_err());
        recovered
    }

    /// Tries to do without the others' shares: with the live ones alone, or with the `escrow` alone. Everything that was
    /// tried is wiped.
    ///
    /// # Errors
    /// Where it can't be tried.
    pub async fn alone(&self, escrow: &Escrow, with_escrow: bool) -> Result<Alone, EscrowError> {
        let live = if with_escrow { Vec::new() } else { self.live_shares(escrow)? };
        self.vacant(&escrow.info.key)?;
        let own = with_escrow.then(|| {
            let encoded = encoded(&escrow.share)?;
            Share::decode(escrow.info.scheme, &encoded).map_err(|error| folder(&self.scratch, &error))
        });
        let own = own.transpose()?;
        let mut points: BTreeMap<PartyIndex, Point> = BTreeMap::new();
        let damaged = |fault: crate::protocol::Fault| EscrowError::Damaged(fault.reason);
        for seat in &live {
            let place = escrow.info.party(&seat.signer.id).ok_or_else(|| self.no_share(escrow, &seat.signer))?;
            points.insert(place, seat.share.public_half().map_err(damaged)?);
        }
        if let Some(own) = &own {
            points.insert(escrow.public.place, own.public_half().map_err(damaged)?);
        }
        if Share::make_key(escrow.info.group, &points) {
            return Ok(Alone::Able);
        }
        let tried = self.reshare(escrow, live, own, |_| ()).await;
        self.clean(&escrow.info.key, true);
        match tried {
            Ok(_) => Ok(Alone::Able),
            Err(EscrowError::Pool(error)) => Ok(Alone::Powerless { said: error.to_string() }),
            Err(error) => Err(error),
        }
    }

    /// Seats the shares and has them share the key anew among the new signers.
    async fn reshare(
        &self,
        escrow: &Escrow,
        live: Vec<Seat>,
        own: Option<Share>,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Recovered, EscrowError> {
        let targets = self.pool.signers.iter().map(|signer| signer.id.clone()).collect::<Vec<_>>();
        let ledger = live.iter().map(|seat| seat.signer.dir.join("ledger")).max_by_key(|path| length(path));
        let mut info = escrow.info.clone();
        // Signers remember whom they have met: who is only passing gets a name that was never used.
        let tag = hex::encode(fresh_session().0).chars().take(16).collect::<String>();
        let holder = passing_name(&tag, usize::from(escrow.place()));
        info.participants.push(holder.clone());
        let mut signers = self.pool.signers.clone();
        for SignerConfig { dir, .. } in &signers {
            disk::create_private_dir(dir).map_err(|error| folder(dir, &error))?;
        }
        let own =
            own.map(|share| Ok::<_, EscrowError>(Seat { signer: self.passing(&holder)?, share: Arc::new(share) }));
        let own = own.transpose()?;
        let mut seats = Vec::new();
        for mut seat in live.into_iter().chain(own) {
            if let Some(target) = self.pool.signers.iter().find(|target| target.id == seat.signer.id) {
                seat.signer = target.clone();
            } else {
                let place = info.participants.iter().position(|name| *name == seat.signer.id).unwrap_or_default();
                seat.signer = self.passing(&passing_name(&tag, place.saturating_add(1)))?;
                if let Some(name) = info.participants.get_mut(place) {
                    name.clone_from(&seat.signer.id);
                }
                signers.push(seat.signer.clone());
            }
            seats.push(seat);
        }
        for seat in &seats {
            seat.take(&info)?;
        }
        if let Some(from) = ledger.filter(|from| from.exists()) {
            let known = read(&from)?;
            for target in &self.pool.signers {
                let to = target.dir.join("ledger");
                // The file only ever grows: where the new one is the old one's beginning, it has nothing of its own.
                if known.starts_with(&read(&to)?) {
                    disk::write_atomic(&to, &known).map_err(|error| folder(&to, &error))?;
                }
            }
        }
        let pool = Pool::start(PoolConfig { signers, ..self.pool.clone() }).await?;
        let rekeyed = pool.reshare(&info.key, &targets, progress).await;
        pool.shutdown().await;
        let rekeyed = rekeyed?;
        Ok(Recovered { key: rekeyed.key, group: info.group, epoch: rekeyed.epoch, holders: rekeyed.holders })
    }

    /// The live signers' shares, each checked to be of the escrow's sharing.
    fn live_shares(&self, escrow: &Escrow) -> Result<Vec<Seat>, EscrowError> {
        let (info, key) = (&escrow.info, escrow.info.key.clone());
        let mut seats = Vec::new();
        for signer in &self.live {
            let vault = signer.dir.join("vault");
            if !vault.is_dir() {
                return Err(folder(&vault, &"there is no vault"));
            }
            let _lock = node::lock(signer.dir.join("lock")).map_err(|error| folder(&signer.dir, &error))?;
            let vault = Vault::open(vault.clone(), signer.id.clone(), signer.seal.clone());
            let held = vault.and_then(|vault| vault.keys()).map_err(|error| folder(&signer.dir, &error))?;
            let held = held.into_iter().find(|(name, held)| *name == key && held.usable).map(|(_, held)| held);
            let Some((its, share)) = held.and_then(|held| Some((held.info, held.share?))) else {
                return Err(self.no_share(escrow, signer));
            };
            if its.group != info.group || its.scheme != info.scheme {
                return Err(EscrowError::OtherKey { escrow: key, signer: signer.id.clone() });
            }
            if its.epoch != info.epoch {
                let (signer, live) = (signer.id.clone(), its.epoch);
                return Err(EscrowError::OtherEpoch { key, escrow: info.epoch, signer, live });
            }
            let share = share.beside(&escrow.public).ok().filter(|_| its == *info);
            let share =
                share.ok_or_else(|| EscrowError::OtherSharing { key: key.clone(), signer: signer.id.clone() })?;
            seats.push(Seat { signer: signer.clone(), share: Arc::new(share) });
        }
        Ok(seats)
    }

    fn no_share(&self, escrow: &Escrow, signer: &SignerConfig) -> EscrowError {
        let (key, signer, dir) = (escrow.info.key.clone(), signer.id.clone(), signer.dir.clone());
        EscrowError::NoShare { key, signer, dir }
    }

    /// Refuses folders that hold the key already.
    fn vacant(&self, key: &KeyId) -> Result<(), EscrowError> {
        for signer in &self.pool.signers {
            let vault = signer.dir.join("vault");
            let entries = match std::fs::read_dir(&vault) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(folder(&vault, &error)),
            };
            let prefix = format!("{key}.");
            for entry in entries {
                let entry = entry.map_err(|error| folder(&vault, &error))?;
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    return Err(EscrowError::Occupied { key: key.clone(), dir: signer.dir.clone() });
                }
            }
        }
        if self.scratch.exists() {
            return Err(folder(&self.scratch, &"it exists; name a folder that doesn't"));
        }
        Ok(())
    }

    /// A signer that is there to deal, and holds nothing in the end.
    fn passing(&self, id: &SignerId) -> Result<SignerConfig, EscrowError> {
        let first = self.pool.signers.first().ok_or_else(|| PoolError::Config("there are no signers".to_owned()))?;
        Ok(SignerConfig { id: id.clone(), dir: self.scratch.join(id.as_str()), seal: first.seal.clone() })
    }

    /// Wipes what was only passing; after a failure, every trace of the key too.
    fn clean(&self, key: &KeyId, failed: bool) {
        if let Err(error) = wipe(&self.scratch) {
            tracing::error!(folder = %self.scratch.display(), %error, "shares are left behind; erase them");
        }
        for signer in self.pool.signers.iter().filter(|_| failed) {
            let vault = Vault::open(signer.dir.join("vault"), signer.id.clone(), signer.seal.clone());
            if let Err(error) = vault.and_then(|vault| vault.erase_before(key, u32::MAX)) {
                tracing::error!(folder = %signer.dir.display(), %error, "shares are left behind; erase them");
            }
        }
    }
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

impl Seat {
    /// Puts the share into the vault of its signer.
    fn take(&self, info: &KeyInfo) -> Result<(), EscrowError> {
        let SignerConfig { id, dir, seal } = &self.signer;
        let failed = |error| folder(dir, &error);
        disk::create_private_dir(dir).map_err(|error| folder(dir, &error))?;
        let vault = Vault::open(dir.join("vault"), id.clone(), seal.clone()).map_err(failed)?;
        vault.put(info, &self.share).map_err(failed)?;
        vault.mark_usable(info).map_err(failed)
    }
}

/// The name of whoever brings the share of a place and holds nothing in the end.
fn passing_name(tag: &str, place: usize) -> SignerId {
    format!("passing-{tag}-{place}").parse().expect("letters, digits and hyphens are a name")
}

fn encoded(share: &Share) -> Result<zeroize::Zeroizing<Vec<u8>>, EscrowError> {
    share.encode().map_err(|error| EscrowError::Damaged(error.to_string()))
}

fn folder(path: &Path, reason: &dyn std::fmt::Display) -> EscrowError {
    EscrowError::Folder { path: path.to_owned(), reason: reason.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, EscrowError> {
    let bytes = disk::read(path).map_err(|error| folder(path, &error))?;
    Ok(bytes.unwrap_or_default())
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Overwrites every file in a folder, and removes it. Where there is none, all is well.
///
/// # Errors
/// Where something of it stays.
pub fn wipe(path: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            wipe(&entry.path())?;
        } else {
            disk::erase(&entry.path())?;
        }
    }
    std::fs::remove_dir(path)
}
