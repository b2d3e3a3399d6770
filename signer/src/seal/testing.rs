//! A seal for tests, which costs nothing to open.

use aes_gcm_siv::aead::{Aead, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use zeroize::Zeroizing;

use super::{Seal, SealError};

/// Seals under this key.
pub(crate) struct TestSeal(pub(crate) [u8; 32]);

impl Seal for TestSeal {
    fn seal(&self, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let cipher = Aes256GcmSiv::new((&self.0).into());
        cipher.encrypt(Nonce::from_slice(&[0; 12]), secret).map_err(|_| SealError::Refused)
    }

    fn open(&self, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let cipher = Aes256GcmSiv::new((&self.0).into());
        cipher.decrypt(Nonce::from_slice(&[0; 12]), blob).map(Zeroizing::new).map_err(|_| SealError::Refused)
    }
}
