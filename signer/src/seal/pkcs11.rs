//! A sealing key that never leaves a hardware security module: PKCS#11 v2.40, AES-256 in GCM mode (NIST SP 800-38D).
//!
//! - [`Pkcs11Seal`]: the seal, with as many sessions as are in use at a time;
//! - `module`: the vendor's library, loaded and initialised once in the process;
//! - `token`: one logged-in session on one token, with the handle of the key;
//! - `fault`: what a device's return codes amount to.
//!
//! A token may be taken away and come back: each operation that finds it gone connects anew, once. A PIN that was refused
//! is not tried again until it changes, because a token locks itself after a few tries.

mod fault;
mod module;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Seal, SealError};
use crate::protocol::decode;
use fault::Fault;
use module::{Entered, Module};
use token::{Connection, IV_LEN, TAG_LEN, Token};

/// The format of a blob.
const VERSION: u8 = 1;
const DOMAIN: &str = "portcullis pkcs11 blob";

/// Where the sealing key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Config {
    /// The vendor's library.
    pub module: PathBuf,
    /// The label of the token, at most 32 bytes.
    pub token: String,
    /// Where the PIN of the token's normal user is.
    pub pin: PinSource,
    /// The label of the AES key.
    pub key: String,
    /// Whether the key is made where the token doesn't hold it.
    pub create: bool,
}

/// Where a PIN is read, anew at each login. It is never part of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

/// A [`Seal`] whose key lies in a token.
///
/// Tokens log in whole processes, not sessions (PKCS#11 v2.40, 2.6.7): as long as a session of this process is logged
/// in to a token, another one's PIN is not asked for. So every signer has a token of its own.
pub struct Pkcs11Seal {
    module: Arc<Module>,
    token: Token,
    idle: Mutex<Vec<Connection>>,
}

/// A sealed secret, with the name of its key. All but `sealed` goes into the associated data.
#[derive(Serialize, Deserialize)]
struct Blob<'a> {
    version: u8,
    key: &'a str,
    iv: [u8; IV_LEN],
    sealed: &'a [u8],
}

impl Pkcs11Seal {
    /// Finds the key; makes it where it isn't there and that is allowed: AES-256, sensitive and not extractable.
    ///
    /// # Errors
    /// Where the module cannot be loaded, the token is absent, its PIN is wrong or locked, or the key is absent or could
    /// be extracted.
    pub fn open(config: Pkcs11Config) -> Result<Self, SealError> {
        let Pkcs11Config { module, token, pin, key, create } = config;
        let module = Module::shared(&module)?;
        let seal = Self { module, token: Token::new(token, pin, key, create), idle: Mutex::default() };
        seal.ready()?;
        Ok(seal)
    }

    /// Does `work` over a session that is this worker's alone. Where the token turns out to be gone, the work is done
    /// over a fresh session; where it is in no slot, once more after the module has looked for its slots anew.
    fn with<T>(&self, work: impl Fn(&Connection) -> Result<T, Fault>) -> Result<T, SealError> {
        let (mut reconnected, mut reloaded) = (false, false);
        loop {
            let entered = self.module.enter();
            let fault = match self.attempt(&entered, &work) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            let generation = entered.generation();
            drop(entered);
            match fault {
                Fault::Refused => return Err(SealError::Refused),
                Fault::Other(error) => return Err(error),
                Fault::Lost(reason) if !reconnected => {
                    tracing::warn!(token = self.token.label(), reason, "the token's session is lost; connecting anew");
                    reconnected = true;
                }
                Fault::Lost(_) | Fault::Absent if !reloaded && self.module.reload(generation)? => reloaded = true,
                Fault::Lost(reason) => {
                    return Err(SealError::TokenLost { token: self.token.label().to_owned(), reason });
                }
                Fault::Absent => return Err(SealError::TokenAbsent(self.token.label().to_owned())),
            }
        }
    }

    fn attempt<T>(&self, entered: &Entered<'_>, work: &impl Fn(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let connection = match self.take(entered) {
            Some(connection) => connection,
            None => self.token.connect(entered)?,
        };
        let done = work(&connection);
        match &done {
            // The other sessions are as dead as this one.
            Err(Fault::Lost(_) | Fault::Absent) => {
                connection.close();
                self.idle().drain(..).for_each(|other| self.dismiss(entered, other));
            }
            _ => self.idle().push(connection),
        }
        done
    }

    /// A session that nobody uses.
    fn take(&self, entered: &Entered<'_>) -> Option<Connection> {
        let mut idle = self.idle();
        // Handles from before a reload mean nothing any more, or something else.
        idle.retain(|connection| connection.generation() == entered.generation());
        idle.pop()
    }

    fn dismiss(&self, entered: &Entered<'_>, connection: Connection) {
        if connection.generation() == entered.generation() {
            connection.close();
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seal for Pkcs11Seal {
    fn seal(&self, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.token.key();
        let (iv, sealed) = self.with(|connection| {
            let mut iv = [0; IV_LEN];
            OsRng.fill_bytes(&mut iv);
            connection.encrypt(iv, &associated_data(key), secret)
        })?;
        postcard::to_allocvec(&Blob { version: VERSION, key, iv, sealed: &sealed })
            .map_err(|error| SealError::Device(format!("the blob cannot be written: {error}")))
    }

    fn open(&self, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = self.token.key();
        let ours = |blob: &Blob<'_>| blob.version == VERSION && blob.key == key && blob.sealed.len() >= TAG_LEN;
        let Blob { iv, sealed, .. } = decode(blob).filter(ours).ok_or(SealError::Refused)?;
        self.with(|connection| connection.decrypt(iv, &associated_data(key), sealed))
    }

    fn ready(&self) -> Result<(), SealError> {
        self.with(Connection::check)
    }
}

impl Drop for Pkcs11Seal {
    fn drop(&mut self) {
        let entered = self.module.enter();
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        idle.into_iter().for_each(|connection| self.dismiss(&entered, connection));
    }
}

impl fmt::Debug for Pkcs11Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Seal").field("token", &self.token.label()).field("key", &self.token.key()).finish()
    }
}

fn associated_data(key: &str) -> Vec<u8> {
    [DOMAIN.as_bytes(), &[VERSION], key.as_bytes()].concat()
}
