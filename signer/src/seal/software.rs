//! A sealing key in a file, wrapped by Argon2id (RFC 9106) of a passphrase.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Seal, SealError};

/// RFC 9106's second recommended choice: 64 MiB, 3 passes, 4 lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What a key file may ask for at most, so that an altered one cannot exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 64;

const FORMAT: &str = "portcullis-sealing-key-v1";
const BLOB: &[u8] = b"portcullis sealed blob v1";
const NONCE_LEN: usize = 12;

/// A [`Seal`] whose key lies in a file.
pub struct SoftwareSeal {
    cipher: Aes256GcmSiv,
}

/// The key file, JSON. The checksum tells damage from a wrong passphrase.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    format: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "hex::serde")]
    salt: Vec<u8>,
    #[serde(with = "hex::serde")]
    nonce: Vec<u8>,
    #[serde(with = "hex::serde")]
    wrapped_key: Vec<u8>,
    #[serde(with = "hex::serde")]
    checksum: Vec<u8>,
}

impl SoftwareSeal {
    /// The key of `key_file`, opened with the first line of `passphrase_file`. A key file that isn't there is made, for
    /// its owner alone (mode 0600).
    ///
    /// # Errors
    /// Where a file cannot be used, the passphrase is wrong or the key file damaged.
    pub fn open_or_create(key_file: &Path, passphrase_file: &Path) -> Result<Self, SealError> {
        let passphrase = read_passphrase(passphrase_file)?;
        match fs::read(key_file) {
            Ok(bytes) => Self::open_file(key_file, &bytes, &passphrase),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(key_file, &passphrase),
            Err(error) => Err(io(key_file, error)),
        }
    }

    fn create(path: &Path, passphrase: &[u8]) -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *key);
        let mut file = KeyFile {
            format: FORMAT.to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: random::<16>().to_vec(),
            nonce: random::<NONCE_LEN>().to_vec(),
            wrapped_key: Vec::new(),
            checksum: Vec::new(),
        };
        let wrapping = file.wrapping_key(passphrase).ok_or_else(|| SealError::Damaged(path.to_owned()))?;
        let payload = Payload { msg: &*key, aad: FORMAT.as_bytes() };
        file.wrapped_key = wrapping
            .encrypt(Nonce::from_slice(&file.nonce), payload)
            .map_err(|_| SealError::Device("cannot wrap the key".to_owned()))?;
        file.checksum = file.digest();
        write_new(path, &file)?;
        Ok(Self { cipher: Aes256GcmSiv::new((&*key).into()) })
    }

    fn open_file(path: &Path, bytes: &[u8], passphrase: &[u8]) -> Result<Self, SealError> {
        let damaged = || SealError::Damaged(path.to_owned());
        let file: KeyFile = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        let bounded = file.memory_kib <= MAX_MEMORY_KIB && file.passes <= MAX_PASSES;
        let whole = file.format == FORMAT && file.nonce.len() == NONCE_LEN && file.checksum == file.digest();
        if !bounded || !whole {
            return Err(damaged());
        }
        let wrapping = file.wrapping_key(passphrase).ok_or_else(damaged)?;
        let payload = Payload { msg: &file.wrapped_key, aad: FORMAT.as_bytes() };
        let key = wrapping
            .decrypt(Nonce::from_slice(&file.nonce), payload)
            .map_err(|_| SealError::WrongPassphrase(path.to_owned()))?;
        let key = Zeroizing::new(key);
        Ok(Self { cipher: Aes256GcmSiv::new_from_slice(&key).map_err(|_| damaged())? })
    }
}

impl KeyFile {
    fn wrapping_key(&self, passphrase: &[u8]) -> Option<Aes256GcmSiv> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(passphrase, &self.salt, &mut *key).ok()?;
        Some(Aes256GcmSiv::new((&*key).into()))
    }

    fn digest(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.format.as_bytes());
        for number in [self.memory_kib, self.passes, self.lanes] {
            hash.update(number.to_be_bytes());
        }
        for field in [&self.salt, &self.nonce, &self.wrapped_key] {
            hash.update(Sha256::digest(field));
        }
        hash.finalize().to_vec()
    }
}

impl Seal for SoftwareSeal {
    fn seal(&self, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = random::<NONCE_LEN>();
        let sealed = self
            .cipher
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: secret, aad: BLOB })
            .map_err(|_| SealError::Device("the secret is too long to seal".to_owned()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = blob.split_at_checked(NONCE_LEN).ok_or(SealError::Refused)?;
        let payload = Payload { msg: sealed, aad: BLOB };
        self.cipher.decrypt(Nonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| SealError::Refused)
    }
}

impl std::fmt::Debug for SoftwareSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftwareSeal").finish_non_exhaustive()
    }
}

fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let text = Zeroizing::new(fs::read(path).map_err(|error| io(path, error))?);
    let line = text.split(|byte| *byte == b'\n' || *byte == b'\r').next().unwrap_or_default();
    if line.is_empty() {
        return Err(SealError::EmptyPassphrase(path.to_owned()));
    }
    Ok(Zeroizing::new(line.to_vec()))
}

/// Writes the file under another name first and links it into place, so that it is there whole or not at all, and so
/// that of two processes that make it only one does.
fn write_new(path: &Path, file: &KeyFile) -> Result<(), SealError> {
    let text = serde_json::to_vec_pretty(file).map_err(|error| SealError::Device(error.to_string()))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(|error| io(directory, error))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", hex::encode(random::<8>())));
    let temporary: PathBuf = directory.join(name);
    let write = || -> std::io::Result<()> {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        out.write_all(&text)?;
        out.sync_all()?;
        fs::hard_link(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    let written = write();
    let _ = fs::remove_file(&temporary);
    written.map_err(|error| io(path, error))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

fn io(path: &Path, source: std::io::Error) -> SealError {
    SealError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (key, passphrase) = (dir.path().join("seal.json"), dir.path().join("passphrase"));
        fs::write(&passphrase, "correct horse\n").unwrap();
        (dir, key, passphrase)
    }

    #[test]
    fn a_second_start_opens_what_the_first_sealed() {
        let (_dir, key, passphrase) = files();
        let blob = SoftwareSeal::open_or_create(&key, &passphrase).unwrap().seal(b"secret").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let again = SoftwareSeal::open_or_create(&key, &passphrase).unwrap();
        assert_eq!(again.open(&blob).unwrap().as_slice(), b"secret");
        for position in 0..blob.len() {
            let mut altered = blob.clone();
            altered[position] ^= 1;
            assert!(matches!(again.open(&altered), Err(SealError::Refused)));
        }
        assert!(matches!(again.open(&[]), Err(SealError::Refused)));
    }

    #[test]
    fn a_wrong_passphrase_is_told_from_a_damaged_file() {
        let (_dir, key, passphrase) = files();
        SoftwareSeal::open_or_create(&key, &passphrase).unwrap();
        fs::write(&passphrase, "wrong horse\n").unwrap();
        let wrong = SoftwareSeal::open_or_create(&key, &passphrase);
        assert!(matches!(wrong, Err(SealError::WrongPassphrase(_))));
        fs::write(&passphrase, "correct horse").unwrap();
        assert!(SoftwareSeal::open_or_create(&key, &passphrase).is_ok(), "the line's end is no part of it");

        let text = fs::read_to_string(&key).unwrap();
        let digit = text.find("wrapped_key").unwrap() + "wrapped_key\": \"".len();
        let mut damaged = text.clone().into_bytes();
        damaged[digit] = if damaged[digit] == b'0' { b'1' } else { b'0' };
        fs::write(&key, damaged).unwrap();
        assert!(matches!(SoftwareSeal::open_or_create(&key, &passphrase), Err(SealError::Damaged(_))));
        fs::write(&key, &text[..text.len() / 2]).unwrap();
        assert!(matches!(SoftwareSeal::open_or_create(&key, &passphrase), Err(SealError::Damaged(_))));

        fs::write(&passphrase, "\n").unwrap();
        assert!(matches!(SoftwareSeal::open_or_create(&key, &passphrase), Err(SealError::EmptyPassphrase(_))));
        fs::remove_file(&passphrase).unwrap();
        assert!(matches!(SoftwareSeal::open_or_create(&key, &passphrase), Err(SealError::Io { .. })));
    }
}
