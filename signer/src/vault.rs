//! A signer's vault: its shares at rest, one file per (key, epoch, party).
//!
//! A fresh 32-byte data key seals each share by AES-256-GCM-SIV (RFC 8452); the signer's [`Seal`] seals the data key. The
//! associated data says which key, signer, epoch and party the share is for, so a file put in another's place does not
//! open. A share is *pending* until the whole pool has proved that the key signs; a marker beside it says that it is
//! *usable*, and from then on it is removed only where a later epoch takes its place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use chains::account::KeyId;
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::disk;
use crate::protocol::{PartyIndex, decode};
use crate::scheme::{GroupKey, SchemeError, SchemeId};
use crate::seal::{Seal, SealError};
use crate::share::Share;
use crate::transport::SignerId;

const VERSION: u8 = 1;
const NONCE_LEN: usize = 12;

/// What is public about a key, the same at every signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyInfo {
    /// Its name.
    pub(crate) key: KeyId,
    /// How it signs.
    pub(crate) scheme: SchemeId,
    /// Which generation of shares this is, from 1; shares of different epochs don't work together.
    pub(crate) epoch: u32,
    /// How many shares it takes to sign.
    pub(crate) threshold: u8,
    /// Who holds the shares: party i is the i-th, from 1.
    pub(crate) participants: Vec<SignerId>,
    /// The group's public key.
    pub(crate) group: GroupKey,
}

impl KeyInfo {
    /// The signer's place among the participants.
    pub(crate) fn party(&self, signer: &SignerId) -> Option<PartyIndex> {
        let position = self.participants.iter().position(|participant| participant == signer)?;
        PartyIndex::new(u8::try_from(position).ok()?.checked_add(1)?)
    }
}

/// A key as one signer holds it.
pub(crate) struct Held {
    /// What is public about it.
    pub(crate) info: KeyInfo,
    /// Whether the pool has proved that it signs.
    pub(crate) usable: bool,
    /// The share; none where it was lost.
    pub(crate) share: Option<Arc<Share>>,
}

/// Why the vault failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum VaultError {
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0} is damaged or belongs to another key, signer or epoch; restore it from this signer's backup")]
    Refused(PathBuf),
    #[error("{path}: {source}")]
    Seal { path: PathBuf, source: SealError },
    #[error("{path}: {source}")]
    Share { path: PathBuf, source: SchemeError },
    #[error("key {0} is in use and is not discarded")]
    InUse(KeyId),
}

/// One signer's vault.
pub(crate) struct Vault {
    directory: PathBuf,
    node: SignerId,
    seal: Arc<dyn Seal>,
}

/// A sealed file.
#[derive(Serialize, Deserialize)]
struct Blob {
    version: u8,
    data_key: Vec<u8>,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

/// What a blob is bound to.
#[derive(Serialize)]
struct Binding<'a> {
    domain: &'static str,
    version: u8,
    node: &'a SignerId,
    name: &'a str,
    epoch: u32,
    party: u8,
}

impl Vault {
    /// The vault in `directory`, which is made where it doesn't exist. What a crash left half written or half erased there
    /// is erased.
    pub(crate) fn open(directory: PathBuf, node: SignerId, seal: Arc<dyn Seal>) -> Result<Self, VaultError> {
        disk::create_private_dir(&directory)
            .and_then(|()| disk::clear_leftovers(&directory))
            .map_err(|source| VaultError::Io { path: directory.clone(), source })?;
        Ok(Self { directory, node, seal })
    }

    /// Whether shares could be sealed and opened at this moment.
    pub(crate) fn ready(&self) -> Result<(), VaultError> {
        self.seal.ready().map_err(|source| VaultError::Seal { path: self.directory.clone(), source })
    }

    /// Writes a share and reads it back; it is pending until [`Vault::mark_usable`].
    pub(crate) fn put(&self, info: &KeyInfo, share: &Share) -> Result<Held, VaultError> {
        let party = info.party(&self.node).ok_or_else(|| VaultError::Refused(self.directory.clone()))?;
        let path = self.share_path(&info.key, info.epoch, party);
        let at = |source| VaultError::Share { path: path.clone(), source };
        let encoded = share.encode().map_err(at)?;
        // Room enough that the secret is not copied about while the vector grows.
        let plain = Vec::with_capacity(encoded.len().saturating_add(8192));
        let plain = postcard::to_extend(&(info, encoded.as_slice()), plain);
        let plain = Zeroizing::new(plain.map_err(|error| at(SchemeError::Library(error.to_string())))?);
        self.write(&path, info.key.as_str(), info.epoch, party.get(), &plain)?;
        let (info, share) = self.load(&info.key, info.epoch, party)?;
        Ok(Held { info, usable: false, share: Some(Arc::new(share)) })
    }

    fn load(&self, key: &KeyId, epoch: u32, party: PartyIndex) -> Result<(KeyInfo, Share), VaultError> {
        let path = self.share_path(key, epoch, party);
        let refused = || VaultError::Refused(path.clone());
        let plain = self.read(&path, key.as_str(), epoch, party.get())?.ok_or_else(refused)?;
        let (info, share): (KeyInfo, &[u8]) = decode(&plain).ok_or_else(refused)?;
        let share =
            Share::decode(info.scheme, share).map_err(|source| VaultError::Share { path: path.clone(), source })?;
        let matches = info.key == *key && info.epoch == epoch && info.party(&self.node) == Some(party);
        if matches && share.group() == info.group { Ok((info, share)) } else { Err(refused()) }
    }

    /// Writes down that the pool has proved that the key signs.
    pub(crate) fn mark_usable(&self, info: &KeyInfo) -> Result<(), VaultError> {
        let path = self.marker_path(&info.key, info.epoch);
        let text = serde_json::to_vec_pretty(info)
            .map_err(|error| VaultError::Io { path: path.clone(), source: error.into() })?;
        disk::write_atomic(&path, &text).map_err(|source| VaultError::Io { path, source })
    }

    /// Erases a pending share: enough of them would be the key.
    pub(crate) fn discard(&self, key: &KeyId, epoch: u32) -> Result<(), VaultError> {
        if self.marker_path(key, epoch).exists() {
            return Err(VaultError::InUse(key.clone()));
        }
        for (path, name) in self.files()? {
            if matches!(parse_share_name(&name), Some((named, e, _)) if named == *key && e == epoch) {
                disk::erase(&path).map_err(|source| VaultError::Io { path, source })?;
            }
        }
        Ok(())
    }

    /// Removes every trace of the epochs of a key before `epoch`. The sealed files are overwritten first; whether a disk
    /// keeps another copy is beyond this, and backups are their keeper's to erase.
    pub(crate) fn erase_before(&self, key: &KeyId, epoch: u32) -> Result<(), VaultError> {
        for (path, name) in self.files()? {
            let marker = || parse_marker_name(&name).filter(|(named, at)| named == key && *at < epoch).is_some();
            let share = matches!(parse_share_name(&name), Some((named, at, _)) if named == *key && at < epoch);
            if share || marker() {
                disk::erase(&path).map_err(|source| VaultError::Io { path, source })?;
            }
        }
        Ok(())
    }

    /// Writes down that this signer saw a key handed over to others, and how they hold it.
    pub(crate) fn mark_left(&self, info: &KeyInfo) -> Result<(), VaultError> {
        let path = self.left_path(&info.key);
        let text = serde_json::to_vec_pretty(info)
            .map_err(|error| VaultError::Io { path: path.clone(), source: error.into() })?;
        disk::write_atomic(&path, &text).map_err(|source| VaultError::Io { path, source })
    }

    /// The key as this signer saw it handed over to others, if it did.
    ///
    /// # Errors
    /// Where that was written down and can't be read.
    pub(crate) fn left(&self, key: &KeyId) -> Result<Option<KeyInfo>, VaultError> {
        let path = self.left_path(key);
        let bytes = disk::read(&path).map_err(|source| VaultError::Io { path: path.clone(), source })?;
        let Some(bytes) = bytes else { return Ok(None) };
        serde_json::from_slice::<KeyInfo>(&bytes)
            .ok()
            .filter(|info| info.key == *key)
            .map(Some)
            .ok_or(VaultError::Refused(path))
    }

    /// Writes down that an escrow of an epoch was made.
    pub(crate) fn note_escrow(&self, key: &KeyId, epoch: u32) -> Result<(), VaultError> {
        let path = self.directory.join(format!("{key}.escrow"));
        disk::write_atomic(&path, epoch.to_string().as_bytes()).map_err(|source| VaultError::Io { path, source })
    }

    /// The epoch of the last escrow of a key, as far as this signer was told.
    pub(crate) fn escrowed(&self, key: &KeyId) -> Option<u32> {
        let noted = disk::read(&self.directory.join(format!("{key}.escrow"))).ok().flatten()?;
        std::str::from_utf8(&noted).ok()?.parse().ok()
    }

    /// When an epoch came into use here, in milliseconds since the Unix epoch: when its marker was written.
    pub(crate) fn since(&self, info: &KeyInfo) -> Option<u64> {
        let written = fs::metadata(self.marker_path(&info.key, info.epoch)).ok()?.modified().ok()?;
        u64::try_from(written.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    /// Every key with its latest usable epoch, or else its latest pending one. Shares that don't open are reported and
    /// left where they are.
    pub(crate) fn keys(&self) -> Result<BTreeMap<KeyId, Held>, VaultError> {
        let mut keys: BTreeMap<KeyId, Held> = BTreeMap::new();
        for held in self.epochs()? {
            let rank = |held: &Held| (held.usable, held.info.epoch, held.share.is_some());
            let known = keys.get(&held.info.key);
            if known.is_none_or(|known| rank(known) < rank(&held)) {
                keys.insert(held.info.key.clone(), held);
            }
        }
        Ok(keys)
    }

    /// Every epoch of every key: its share, where there is one that opens, and its marker, where it is usable.
    pub(crate) fn epochs(&self) -> Result<Vec<Held>, VaultError> {
        let mut epochs = Vec::new();
        for (path, name) in self.files()? {
            if name.ends_with(".usable.json") {
                let bytes = fs::read(&path).map_err(|source| VaultError::Io { path: path.clone(), source })?;
                let info: KeyInfo = serde_json::from_slice(&bytes).map_err(|_| VaultError::Refused(path.clone()))?;
                if self.marker_path(&info.key, info.epoch) != path {
                    return Err(VaultError::Refused(path));
                }
                epochs.push(Held { info, usable: true, share: None });
            } else if let Some((key, epoch, party)) = parse_share_name(&name) {
                match self.load(&key, epoch, party) {
                    Ok((info, share)) => {
                        let usable = self.marker_path(&key, epoch).exists();
                        epochs.push(Held { info, usable, share: Some(Arc::new(share)) });
                    }
                    // Without its seal a vault says nothing about its shares.
                    Err(VaultError::Seal { path, source }) if !matches!(source, SealError::Refused) => {
                        return Err(VaultError::Seal { path, source });
                    }
                    Err(error) => tracing::error!(signer = %self.node, %key, epoch, %error, "a share does not open"),
                }
            }
        }
        Ok(epochs)
    }

    /// A secret of the signer itself by name; made by `make` where there is none.
    pub(crate) fn own_secret(
        &self,
        name: &str,
        make: impl FnOnce() -> Zeroizing<Vec<u8>>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let path = self.directory.join(format!("{name}.secret"));
        if let Some(secret) = self.read(&path, name, 0, 0)? {
            return Ok(secret);
        }
        let secret = make();
        self.write(&path, name, 0, 0, &secret)?;
        Ok(secret)
    }

    fn write(&self, path: &Path, name: &str, epoch: u32, party: u8, plain: &[u8]) -> Result<(), VaultError> {
        let io = |source| VaultError::Io { path: path.to_owned(), source };
        let mut data_key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *data_key);
        let mut nonce = [0; NONCE_LEN];
        OsRng.fill_bytes(&mut nonce);
        let aad = self.binding(name, epoch, party);
        let sealed = Aes256GcmSiv::new((&*data_key).into())
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: plain, aad: &aad })
            .map_err(|_| io(std::io::Error::other("the share is too long to seal")))?;
        let data_key =
            self.seal.seal(&*data_key).map_err(|source| VaultError::Seal { path: path.to_owned(), source })?;
        let blob = postcard::to_allocvec(&Blob { version: VERSION, data_key, nonce, sealed })
            .map_err(|error| io(std::io::Error::other(error)))?;
        disk::write_atomic(path, &blob).map_err(io)
    }

    fn read(&self, path: &Path, name: &str, epoch: u32, party: u8) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let refused = || VaultError::Refused(path.to_owned());
        let bytes = disk::read(path).map_err(|source| VaultError::Io { path: path.to_owned(), source })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let blob: Blob = decode(&bytes).filter(|blob: &Blob| blob.version == VERSION).ok_or_else(refused)?;
        let data_key =
            self.seal.open(&blob.data_key).map_err(|source| VaultError::Seal { path: path.to_owned(), source })?;
        let cipher = Aes256GcmSiv::new_from_slice(&data_key).map_err(|_| refused())?;
        let payload = Payload { msg: &blob.sealed, aad: &self.binding(name, epoch, party) };
        let plain = cipher.decrypt(Nonce::from_slice(&blob.nonce), payload).map_err(|_| refused())?;
        Ok(Some(Zeroizing::new(plain)))
    }

    fn binding(&self, name: &str, epoch: u32, party: u8) -> Vec<u8> {
        let domain = "portcullis vault";
        let binding = Binding { domain, version: VERSION, node: &self.node, name, epoch, party };
        postcard::to_allocvec(&binding).expect("a few strings and numbers always encode into a growing vector")
    }

    fn share_path(&self, key: &KeyId, epoch: u32, party: PartyIndex) -> PathBuf {
        self.directory.join(format!("{key}.{epoch}.{party}.share"))
    }

    fn left_path(&self, key: &KeyId) -> PathBuf {
        self.directory.join(format!("{key}.left"))
    }

    fn marker_path(&self, key: &KeyId, epoch: u32) -> PathBuf {
        self.directory.join(format!("{key}.{epoch}.usable.json"))
    }

    fn files(&self) -> Result<Vec<(PathBuf, String)>, VaultError> {
        let io = |source| VaultError::Io { path: self.directory.clone(), source };
        let entries = fs::read_dir(&self.directory).map_err(io)?.collect::<Result<Vec<_>, _>>().map_err(io)?;
        let named = |entry: fs::DirEntry| Some((entry.path(), entry.file_name().into_string().ok()?));
        Ok(entries.into_iter().filter_map(named).collect())
    }
}

/// `<key>.<epoch>.usable.json`.
fn parse_marker_name(name: &str) -> Option<(KeyId, u32)> {
    let (key, epoch) = name.strip_suffix(".usable.json")?.split_once('.')?;
    Some((key.parse().ok()?, epoch.parse().ok()?))
}

/// `<key>.<epoch>.<party>.share`; a key's name has no dot in it.
fn parse_share_name(name: &str) -> Option<(KeyId, u32, PartyIndex)> {
    let mut parts = name.strip_suffix(".share")?.split('.');
    let (key, epoch, party) = (parts.next()?, parts.next()?, parts.next()?);
    let party = PartyIndex::new(party.parse().ok()?)?;
    parts.next().is_none().then_some((key.parse().ok()?, epoch.parse().ok()?, party))
}

#[cfg(test)]
mod tests;
