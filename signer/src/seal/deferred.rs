//! A seal that is opened at its first use, and tried again at each further use until it opens.

use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::{Seal, SealError};

type Open = dyn Fn() -> Result<Arc<dyn Seal>, SealError> + Send + Sync;

/// A [`Seal`] that need not be there yet.
pub struct DeferredSeal {
    open: Box<Open>,
    opened: Mutex<Option<Arc<dyn Seal>>>,
}

impl DeferredSeal {
    /// A seal that `open` opens, on a thread that may block.
    pub fn new(open: impl Fn() -> Result<Arc<dyn Seal>, SealError> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), opened: Mutex::default() }
    }

    fn get(&self) -> Result<Arc<dyn Seal>, SealError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seal) = &*opened {
            return Ok(seal.clone());
        }
        let seal = (self.open)()?;
        *opened = Some(seal.clone());
        Ok(seal)
    }
}

impl Seal for DeferredSeal {
    fn seal(&self, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        self.get()?.seal(secret)
    }

    fn open(&self, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.get()?.open(blob)
    }

    fn ready(&self) -> Result<(), SealError> {
        self.get()?.ready()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::seal::testing::TestSeal;

    #[test]
    fn it_is_opened_once_and_tried_until_then() {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        let seal = DeferredSeal::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(SealError::EmptyPassphrase(PathBuf::from("passphrase"))),
            _ => Ok(Arc::new(TestSeal([7; 32]))),
        });
        assert_eq!(tries.load(Ordering::SeqCst), 0, "nothing happens before the first use");
        assert!(matches!(seal.ready(), Err(SealError::EmptyPassphrase(_))));
        let blob = seal.seal(b"secret").unwrap();
        assert_eq!(seal.open(&blob).unwrap().as_slice(), b"secret");
        seal.ready().unwrap();
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }
}
