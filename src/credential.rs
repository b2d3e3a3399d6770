//! Credential files: an Ed25519 key pair in PEM, as `openssl genpkey -algorithm ed25519` makes it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_core::OsRng;

/// Why a credential file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct CredentialError {
    path: PathBuf,
    reason: String,
}

fn failed(path: &Path, reason: impl ToString) -> CredentialError {
    CredentialError { path: path.to_owned(), reason: reason.to_string() }
}

/// Reads a public key, PEM (SPKI, RFC 8410).
///
/// # Errors
/// Where there is none.
pub(crate) fn read_public_key(path: &Path) -> Result<VerifyingKey, CredentialError> {
    let pem = fs::read_to_string(path).map_err(|e| failed(path, e))?;
    VerifyingKey::from_public_key_pem(&pem)
        .map_err(|e| failed(path, format!("no Ed25519 public key in PEM ({e}); make one with openssl pkey -pubout")))
}

/// Reads a private key, PEM (PKCS#8, RFC 8410).
///
/// # Errors
/// Where there is none.
pub(crate) fn read_private_key(path: &Path) -> Result<SigningKey, CredentialError> {
    let pem = fs::read_to_string(path).map_err(|e| failed(path, e))?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|e| {
        failed(path, format!("no Ed25519 private key in PEM ({e}); make one with openssl genpkey -algorithm ed25519"))
    })
}

/// Makes a key pair at `public` and beside it with the ending `.key`, unless it is there. Answers the private key's path.
///
/// # Errors
/// Where the files can't be written.
pub(crate) fn ensure_pair(public: &Path) -> Result<PathBuf, CredentialError> {
    let private = public.with_extension("key");
    if public.exists() && private.exists() {
        return Ok(private);
    }
    let key = SigningKey::generate(&mut OsRng);
    // Without the public key (RFC 5958's first version), as OpenSSL writes it and Python's cryptography reads it.
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let secret = pair.to_pkcs8_pem(LineEnding::LF).map_err(|e| failed(&private, e))?;
    let shown = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|e| failed(public, e))?;
    write_secret(&private, secret.as_bytes())?;
    write_whole(public, shown.as_bytes(), 0o644)?;
    Ok(private)
}

/// Writes a file that only its owner can read, with the folders that lead to it. A crash leaves it whole or not at all.
///
/// # Errors
/// Where it can't be written.
pub(crate) fn write_secret(path: &Path, secret: &[u8]) -> Result<(), CredentialError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
    }
    write_whole(path, secret, 0o600)
}

fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), CredentialError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(mode).open(&draft);
    opened
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path))
        .map_err(|e| failed(path, e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_pair_is_made_once_and_belongs_together() {
        let dir = tempfile::tempdir().unwrap();
        let public = dir.path().join("deeper/trader.pub");
        let private = ensure_pair(&public).unwrap();
        let key = read_private_key(&private).unwrap();
        assert_eq!(key.verifying_key(), read_public_key(&public).unwrap());
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        ensure_pair(&public).unwrap();
        assert_eq!(read_private_key(&private).unwrap().to_bytes(), key.to_bytes());
    }

    #[test]
    fn openssl_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let public = dir.path().join("trader.pub");
        let private = ensure_pair(&public).unwrap();
        let told = Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        assert_eq!(String::from_utf8_lossy(&told.stdout), fs::read_to_string(&public).unwrap());
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("noise");
        assert!(read_private_key(&file).is_err());
        fs::write(&file, "noise").unwrap();
        assert!(read_private_key(&file).is_err());
        assert!(read_public_key(&file).is_err());
    }
}
