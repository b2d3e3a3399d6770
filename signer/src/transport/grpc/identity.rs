//! Who stands at one end of a line: an Ed25519 key (RFC 8032) with a self-signed certificate (RFC 5280, RFC 8410).
//!
//! The certificate only carries the key through TLS and gives it a term. What the other end trusts is the key alone, by
//! its [`Pin`], so a certificate is renewed without telling anybody.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::disk;

/// What precedes the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Certificates begin a day early, for clocks that are behind.
const EARLY: Duration = Duration::from_secs(86_400);

/// The public key by which one end knows the other: 32 bytes of Ed25519, in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin([u8; 32]);

/// A string that is no pin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pinned key is 64 hexadecimal digits, as `portcullis signer init` prints it")]
pub struct PinError;

/// The key and the certificate of one end.
pub struct LinkIdentity {
    key: Zeroizing<Vec<u8>>,
    certificate: CertificateDer<'static>,
    pin: Pin,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not there.
    #[error("{0} is missing; make it with `portcullis signer init`")]
    Missing(PathBuf),
    /// What the file holds is no Ed25519 key.
    #[error(
        "{path} holds no Ed25519 key: {reason}; restore it, or remove it, run `portcullis signer init`, and pin the key that it prints"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Certificate(String),
}

impl LinkIdentity {
    /// A fresh key with a certificate for `name`, valid for `term` from `now`, seconds since 1970.
    ///
    /// # Errors
    /// Where the system has no randomness or the term has no end.
    pub fn generate(name: &str, now: u64, term: Duration) -> Result<Self, IdentityError> {
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(certificate)?;
        Self::certify(&pair, name, now, term)
    }

    /// The identity in `directory`: `link.key`, and `link.crt` made for it. The key is made where there is none, readable
    /// by its owner alone; the certificate is made anew, valid for `term` from `now`, seconds since 1970.
    ///
    /// # Errors
    /// Where the files can't be read or written.
    pub fn renew(directory: &Path, name: &str, now: u64, term: Duration) -> Result<Self, IdentityError> {
        disk::create_private_dir(directory).map_err(at(directory))?;
        let path = directory.join("link.key");
        let pair = match read_key(&path)? {
            Some(pair) => pair,
            None => {
                let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(certificate)?;
                let pem = Zeroizing::new(pair.serialize_pem());
                disk::write_atomic(&path, pem.as_bytes()).map_err(at(&path))?;
                pair
            }
        };
        let identity = Self::certify(&pair, name, now, term)?;
        let path = directory.join("link.crt");
        disk::write_atomic(&path, &identity.certificate).map_err(at(&path))?;
        Ok(identity)
    }

    /// The identity that [`LinkIdentity::renew`] left in `directory`.
    ///
    /// # Errors
    /// Where it isn't there.
    pub fn read(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join("link.key");
        let pair = read_key(&path)?.ok_or(IdentityError::Missing(path))?;
        let path = directory.join("link.crt");
        let certificate = disk::read(&path).map_err(at(&path))?.ok_or(IdentityError::Missing(path))?;
        Self::of(&pair, CertificateDer::from(certificate))
    }

    /// The public key for the other end's configuration.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }

    fn certify(pair: &KeyPair, name: &str, now: u64, term: Duration) -> Result<Self, IdentityError> {
        let epoch = date_time_ymd(1970, 1, 1);
        let instant = |since: Duration| {
            let since = since.try_into().map_err(|_| IdentityError::Certificate("the term has no end".to_owned()))?;
            epoch.checked_add(since).ok_or_else(|| IdentityError::Certificate("the term has no end".to_owned()))
        };
        let now = Duration::from_secs(now);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = instant(now.saturating_sub(EARLY))?;
        params.not_after = instant(now.saturating_add(term))?;
        let signed = params.self_signed(pair).map_err(certificate)?;
        Self::of(pair, signed.der().clone())
    }

    fn of(pair: &KeyPair, certificate: CertificateDer<'static>) -> Result<Self, IdentityError> {
        let public = pair.public_key_raw().try_into();
        let public = public.map_err(|_| IdentityError::Certificate("the key is no Ed25519 key".to_owned()))?;
        Ok(Self { key: Zeroizing::new(pair.serialize_der()), certificate, pin: Pin(public) })
    }
}

fn read_key(path: &Path) -> Result<Option<KeyPair>, IdentityError> {
    let Some(bytes) = disk::read(path).map_err(at(path))? else { return Ok(None) };
    let bytes = Zeroizing::new(bytes);
    let wrong = |reason: String| IdentityError::Key { path: path.to_owned(), reason };
    let pem = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
    KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519).map(Some).map_err(|error| wrong(error.to_string()))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { path, source }
}

fn certificate(error: rcgen::Error) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}

impl Pin {
    /// Whether a SubjectPublicKeyInfo is that of the pinned key.
    pub(super) fn matches(&self, spki: &[u8]) -> bool {
        spki.split_at_checked(SPKI_HEAD.len()).is_some_and(|(head, key)| head == SPKI_HEAD && key == self.0)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for LinkIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkIdentity").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| PinError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Pin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(31_536_000);

    #[test]
    fn a_renewed_certificate_keeps_the_pin() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(LinkIdentity::read(dir.path()), Err(IdentityError::Missing(_))));
        let first = LinkIdentity::renew(dir.path(), "signer-1", 1_800_000_000, YEAR).unwrap();
        let second = LinkIdentity::renew(dir.path(), "signer-1", 1_900_000_000, YEAR).unwrap();
        assert_eq!(first.pin(), second.pin());
        assert_ne!(first.certificate, second.certificate);
        let read = LinkIdentity::read(dir.path()).unwrap();
        assert_eq!((read.pin(), &read.certificate), (second.pin(), &second.certificate));
        assert_ne!(LinkIdentity::generate("signer-1", 1_800_000_000, YEAR).unwrap().pin(), first.pin());
    }

    #[test]
    fn a_damaged_key_is_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        LinkIdentity::renew(dir.path(), "signer-1", 1_800_000_000, YEAR).unwrap();
        std::fs::write(dir.path().join("link.key"), "no key").unwrap();
        let renewed = LinkIdentity::renew(dir.path(), "signer-1", 1_800_000_000, YEAR);
        assert!(matches!(renewed, Err(IdentityError::Key { .. })));
    }

    #[test]
    fn a_pin_is_read_as_it_is_printed() {
        let pin = LinkIdentity::generate("a", 1_800_000_000, YEAR).unwrap().pin();
        assert_eq!(pin.to_string().parse(), Ok(pin));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(66)] {
            assert_eq!(bad.parse::<Pin>(), Err(PinError), "{bad}");
        }
    }
}
