//! One token: found by its label, logged in with its PIN, and the handle of its key.

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::{RawAuthPin, Ulong};
use zeroize::Zeroizing;

use super::PinSource;
use super::fault::{Fault, Meaning, login, meaning};
use super::module::Entered;
use crate::seal::SealError;

/// A 96-bit IV, the length that NIST SP 800-38D recommends.
pub(super) const IV_LEN: usize = 12;
/// A full tag.
pub(super) const TAG_LEN: usize = 16;
const TAG_BITS: Ulong = Ulong::new(128);
const KEY_LEN: Ulong = Ulong::new(32);

/// Which key on which token.
pub(super) struct Token {
    label: String,
    pin: PinSource,
    key: String,
    create: bool,
}

/// A session that is logged in, with the handle of the key. It is not closed when it is dropped: its handle may be
/// another session's after the module was reloaded.
pub(super) struct Connection {
    session: Session,
    key: ObjectHandle,
    generation: u64,
}

impl Token {
    pub(super) fn new(label: String, pin: PinSource, key: String, create: bool) -> Self {
        Self { label, pin, key, create }
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// A fresh session.
    pub(super) fn connect(&self, entered: &Entered<'_>) -> Result<Connection, Fault> {
        let context = entered.context();
        let slot = self.find(context)?;
        let session = context.open_ro_session_no_drop(slot)?;
        let key = self.login(entered, slot, &session).and_then(|()| self.find_key(context, slot, &session));
        match key {
            Ok(key) => Ok(Connection { session, key, generation: entered.generation() }),
            Err(fault) => {
                close(session);
                Err(fault)
            }
        }
    }

    /// The slot that the token is in.
    fn find(&self, context: &Pkcs11) -> Result<Slot, Fault> {
        let slots = match context.get_slots_with_token() {
            Ok(slots) => slots,
            Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => return Err(Fault::Absent),
            Err(error) => return Err(error.into()),
        };
        let mut found = None;
        for slot in slots {
            // A slot whose token was just taken away answers with an error.
            let Ok(info) = context.get_token_info(slot) else { continue };
            if info.token_initialized() && info.label() == self.label && found.replace(slot).is_some() {
                return Err(SealError::AmbiguousToken(self.label.clone()).into());
            }
        }
        found.ok_or(Fault::Absent)
    }

    fn login(&self, entered: &Entered<'_>, slot: Slot, session: &Session) -> Result<(), Fault> {
        let mut refused = entered.refused_pins();
        let info = entered.context().get_token_info(slot)?;
        if info.user_pin_locked() {
            return Err(SealError::PinLocked(self.label.clone()).into());
        }
        let pin = self.pin.read()?;
        if refused.get(&self.label).is_some_and(|last| *last == pin) {
            return Err(SealError::WrongPin(self.label.clone()).into());
        }
        if info.user_pin_final_try() {
            return Err(SealError::LastTry(self.label.clone()).into());
        }
        let secret = RawAuthPin::new(Box::new(pin.to_vec()));
        match session.login_with_raw(UserType::User, &secret) {
            // The token is logged in for the whole process.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                refused.remove(&self.label);
                Ok(())
            }
            Err(error) => {
                let fault = login(&self.label, error);
                if matches!(fault, Fault::Other(SealError::WrongPin(_))) {
                    refused.insert(self.label.clone(), pin);
                }
                Err(fault)
            }
        }
    }

    fn find_key(&self, context: &Pkcs11, slot: Slot, session: &Session) -> Result<ObjectHandle, Fault> {
        let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(self.key.clone().into_bytes())];
        let found = session.find_objects(&template)?;
        match found.as_slice() {
            [key] => {
                self.fit(session, *key)?;
                Ok(*key)
            }
            [] if self.create => {
                self.generate(context, slot)?;
                match session.find_objects(&template)?.as_slice() {
                    [key] => {
                        self.fit(session, *key)?;
                        Ok(*key)
                    }
                    _ => Err(self.unfit("another one was made at the same time; remove one of them")),
                }
            }
            [] => Err(SealError::KeyAbsent { token: self.label.clone(), key: self.key.clone() }.into()),
            _ => Err(self.unfit("several keys have this label; give each a label of its own")),
        }
    }

    fn generate(&self, context: &Pkcs11, slot: Slot) -> Result<(), Fault> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEY_LEN),
            Attribute::Label(self.key.clone().into_bytes()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Modifiable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Sign(false),
            Attribute::Verify(false),
            Attribute::Derive(false),
        ];
        let session = context.open_rw_session_no_drop(slot)?;
        let made = session.generate_key(&Mechanism::AesKeyGen, &template);
        close(session);
        made?;
        tracing::info!(token = self.label, key = self.key, "a sealing key was made");
        Ok(())
    }

    /// Refuses a key that is none or that could leave the token.
    fn fit(&self, session: &Session, key: ObjectHandle) -> Result<(), Fault> {
        let has = |attribute: Attribute| -> Result<bool, Fault> {
            let kind = attribute.attribute_type();
            Ok(session.get_attributes(key, &[kind])?.contains(&attribute))
        };
        let demands = [
            (Attribute::KeyType(KeyType::AES), "it is no AES key"),
            (Attribute::ValueLen(KEY_LEN), "it has not 256 bits"),
            (Attribute::Extractable(false), "it could be extracted; use one that cannot be"),
            (Attribute::Sensitive(true), "it could be read; use one that is sensitive"),
            (Attribute::Encrypt(true), "it is not allowed to encrypt"),
            (Attribute::Decrypt(true), "it is not allowed to decrypt"),
        ];
        for (attribute, reason) in demands {
            if !has(attribute)? {
                return Err(self.unfit(reason));
            }
        }
        Ok(())
    }

    fn unfit(&self, reason: &'static str) -> Fault {
        SealError::UnfitKey { token: self.label.clone(), key: self.key.clone(), reason }.into()
    }
}

impl Connection {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The IV and the ciphertext with its tag. A device that insists on an IV of its own may replace the given one.
    pub(super) fn encrypt(
        &self,
        mut iv: [u8; IV_LEN],
        aad: &[u8],
        secret: &[u8],
    ) -> Result<([u8; IV_LEN], Vec<u8>), Fault> {
        let sealed = {
            let gcm = Mechanism::AesGcm(GcmParams::new(&mut iv, aad, TAG_BITS)?);
            self.session.encrypt(&gcm, self.key, secret)?
        };
        Ok((iv, sealed))
    }

    /// The secret.
    pub(super) fn decrypt(&self, mut iv: [u8; IV_LEN], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let gcm = Mechanism::AesGcm(GcmParams::new(&mut iv, aad, TAG_BITS)?);
        match self.session.decrypt(&gcm, self.key, sealed) {
            Ok(secret) => Ok(Zeroizing::new(secret)),
            Err(error) if meaning(&error) == Meaning::Unclear => Err(self.diagnose(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells a wrong tag from a broken device, for some give both the same code: a device that opens what it has just
    /// sealed is not broken.
    fn diagnose(&self, error: Error) -> Fault {
        const PROBE: &[u8] = b"portcullis";
        let probe = || -> Result<bool, Error> {
            let mut iv = [0; IV_LEN];
            rand_core::RngCore::fill_bytes(&mut rand_core::OsRng, &mut iv);
            let gcm = Mechanism::AesGcm(GcmParams::new(&mut iv, PROBE, TAG_BITS)?);
            let sealed = self.session.encrypt(&gcm, self.key, PROBE)?;
            drop(gcm);
            let gcm = Mechanism::AesGcm(GcmParams::new(&mut iv, PROBE, TAG_BITS)?);
            Ok(self.session.decrypt(&gcm, self.key, &sealed)? == PROBE)
        };
        match probe() {
            Ok(true) => Fault::Refused,
            Ok(false) => super::fault::device(&error),
            Err(broken) => broken.into(),
        }
    }

    /// Whether the token still answers for the key.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.session.get_attributes(self.key, &[AttributeType::KeyType])?;
        Ok(())
    }

    /// Ends the session; only right in the generation that it belongs to.
    pub(super) fn close(self) {
        close(self.session);
    }
}

fn close(session: Session) {
    if let Err(error) = session.close() {
        tracing::debug!(%error, "a session was not closed");
    }
}

impl PinSource {
    fn read(&self) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let text = match self {
            Self::File(path) => std::fs::read(path).map_err(|source| SealError::Io { path: path.clone(), source })?,
            Self::Environment(name) => {
                let value = std::env::var_os(name).unwrap_or_default();
                std::os::unix::ffi::OsStringExt::into_vec(value)
            }
        };
        let text = Zeroizing::new(text);
        let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        if line.is_empty() {
            return Err(SealError::NoPin(match self {
                Self::File(path) => format!("the file {}", path.display()),
                Self::Environment(name) => format!("the environment variable {name}"),
            }));
        }
        Ok(Zeroizing::new(line.to_vec()))
    }
}
