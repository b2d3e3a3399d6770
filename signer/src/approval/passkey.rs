//! Approvals by passkey: a WebAuthn assertion (W3C Web Authentication, Level 2, section 7.2) whose challenge is the SHA-256 of
//! what is approved, so that the authenticator signs this statement and no other.
//!
//! A passkey is registered out of band, by its public key on every signer's roster; there is no ceremony in which a server
//! would take one up. Only ES256 is taken: ECDSA on P-256 with SHA-256, which every authenticator can do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::request::base64_bytes;

/// A passkey that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passkey {
    /// The public key.
    public_key: VerifyingKey,
    /// The relying party's id: the domain that the passkey was made for.
    relying_party: String,
    /// The origins from which it may be used, `https://approve.example.org`.
    origins: Vec<String>,
}

/// An authenticator's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// What the authenticator says of itself; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub authenticator_data: Vec<u8>,
    /// What the browser says, JSON in the bytes that were hashed; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub client_data: Vec<u8>,
    /// An ECDSA signature, DER; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

/// What an authenticator's answer lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasskeyError {
    /// The browser's part can't be read, or isn't of a use of a passkey.
    #[error("the passkey's client data is no answer to a request")]
    ClientData,
    /// It answers another request.
    #[error("the passkey has signed something else")]
    Challenge,
    /// It was used from elsewhere.
    #[error("the passkey was used from an origin that isn't listed")]
    Origin,
    /// The authenticator's part can't be read, or is for another relying party.
    #[error("the passkey's authenticator data is not for this relying party")]
    AuthenticatorData,
    /// Nobody was there, or nobody was recognised.
    #[error("the passkey was used without its user being present and verified")]
    User,
    /// No passkey of the approver has signed it.
    #[error("no passkey of the approver has signed it")]
    Signature,
}

/// A public key that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a passkey's public key is a P-256 key in PEM (SubjectPublicKeyInfo): {0}")]
pub struct PasskeyKeyError(String);

/// The members of the browser's part that matter (section 5.8.1); others may come.
#[derive(Deserialize)]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

/// Bits of the authenticator's flags (section 6.1).
const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;

impl Passkey {
    /// A passkey by its public key in PEM.
    ///
    /// # Errors
    /// Where it is no P-256 key.
    pub fn new(pem: &str, relying_party: String, origins: Vec<String>) -> Result<Self, PasskeyKeyError> {
        let public_key = VerifyingKey::from_public_key_pem(pem).map_err(|e| PasskeyKeyError(e.to_string()))?;
        Ok(Self { public_key, relying_party, origins })
    }
}

impl Assertion {
    /// Checks that one of `passkeys` has signed `message`, its user present and verified.
    ///
    /// # Errors
    /// For the first thing that doesn't hold.
    pub(super) fn verify(&self, passkeys: &[Passkey], message: &[u8]) -> Result<(), PasskeyError> {
        let client: ClientData = serde_json::from_slice(&self.client_data).map_err(|_| PasskeyError::ClientData)?;
        if client.r#type != "webauthn.get" || client.cross_origin {
            return Err(PasskeyError::ClientData);
        }
        if client.challenge != URL_SAFE_NO_PAD.encode(Sha256::digest(message)) {
            return Err(PasskeyError::Challenge);
        }
        let (relying_party, rest) =
            self.authenticator_data.split_first_chunk::<32>().ok_or(PasskeyError::AuthenticatorData)?;
        // Flags and a counter of four bytes follow. The counter isn't kept: synced passkeys don't count.
        let (flags, rest) = rest.split_first().ok_or(PasskeyError::AuthenticatorData)?;
        if rest.len() < 4 {
            return Err(PasskeyError::AuthenticatorData);
        }
        let signed = [self.authenticator_data.as_slice(), Sha256::digest(&self.client_data).as_slice()].concat();
        let signature = Signature::from_der(&self.signature).map_err(|_| PasskeyError::Signature)?;
        let signs = |passkey: &&Passkey| passkey.public_key.verify(&signed, &signature).is_ok();
        let passkey = passkeys.iter().find(signs).ok_or(PasskeyError::Signature)?;
        if Sha256::digest(&passkey.relying_party).as_slice() != relying_party {
            return Err(PasskeyError::AuthenticatorData);
        }
        if !passkey.origins.contains(&client.origin) {
            return Err(PasskeyError::Origin);
        }
        if flags & USER_PRESENT == 0 || flags & USER_VERIFIED == 0 {
            return Err(PasskeyError::User);
        }
        Ok(())
    }
}
