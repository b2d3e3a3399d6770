//! The client's signed request: a JWT (RFC 7519) in compact form (RFC 7515) over the raw body, signed with Ed25519
//! (RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::ed25519::signature::Signer as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::base64_bytes;
use crate::roster::{Audience, Credential, CredentialId, Roster};

/// The longest life of a token, in seconds.
pub const MAX_LIFETIME_S: u64 = 60;
/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_LEN: usize = 4096;
/// The longest `jti`, in characters.
pub const MAX_JTI_LEN: usize = 64;

/// The one algorithm that is taken (RFC 8037). The token never chooses.
const ALGORITHM: &str = "EdDSA";

/// A request as the client signed it. Both parts are kept as they came, byte for byte: they are the evidence that
/// every signer verifies again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRequest {
    /// The JWT, `header.claims.signature`.
    pub token: String,
    /// The raw body that the token's `bodyHash` covers; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub body: Vec<u8>,
}

/// What a token says. Any further claim is refused: a claim that is not understood cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The credential that asks.
    pub sub: CredentialId,
    /// The deployment that it is for, where that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// The path that the request is sent to.
    pub uri: String,
    /// The token's unique name, 1 to 64 printable ASCII characters without spaces.
    pub jti: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970; at most 60 after `iat`.
    pub exp: u64,
    /// The SHA-256 of the raw body, 64 hex digits.
    #[serde(rename = "bodyHash")]
    pub body_hash: String,
}

/// Why a request is not authenticated: for the log of whoever verifies. The one who asked is told only that it failed, and
/// is told the same for every reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The token is no compact JWS with the claims that it must have.
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    /// Signed, if at all, by another algorithm than EdDSA.
    #[error("the token's algorithm is not {ALGORITHM}")]
    Algorithm,
    /// No such credential in the roster.
    #[error("no credential is named {0}")]
    UnknownCredential(CredentialId),
    /// The signature is not the credential's.
    #[error("the signature is not by the key of {0}")]
    Signature(CredentialId),
    /// The token is for another deployment.
    #[error("the token is for {}", .0.as_ref().map_or_else(|| "no deployment by name".to_owned(), ToString::to_string))]
    Audience(Option<Audience>),
    /// The token covers another body.
    #[error("the token of {0} covers another body")]
    BodyHash(CredentialId),
    /// `exp` is not after `iat`, or more than [`MAX_LIFETIME_S`] after it.
    #[error("a token from {iat} to {exp} doesn't live 1 to {MAX_LIFETIME_S} s")]
    Lifetime {
        /// When it was made.
        iat: u64,
        /// When it ends.
        exp: u64,
    },
    /// Made in the future.
    #[error("the token is from {iat}, and it is {now}")]
    NotYetValid {
        /// When it was made.
        iat: u64,
        /// The reader's clock.
        now: u64,
    },
    /// Past its end.
    #[error("the token ended at {exp}, and it is {now}")]
    Expired {
        /// When it ended.
        exp: u64,
        /// The reader's clock.
        now: u64,
    },
    /// Made for another path.
    #[error("the token is for {claimed:?}")]
    WrongUri {
        /// The path that it was made for.
        claimed: String,
    },
}

/// The header of a token. `crit` and every other parameter that would change the token's meaning is unknown here and so
/// refused (RFC 7515 section 4.1.11).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    /// Looked at by nobody: `sub` names the key.
    #[serde(default, rename = "kid")]
    _kid: Option<String>,
}

impl SignedRequest {
    /// Verifies that a credential of `roster` signed exactly this body for the roster's deployment: the signature by the
    /// roster's key of `sub`, EdDSA and nothing else, `aud`, `bodyHash`, and the claims' shape. It reads no clock: whether the request is *fresh* only the
    /// gateway that received it can say, by [`Claims::check_fresh`].
    ///
    /// # Errors
    /// [`AuthError`], which is not for the eyes of the one who asked.
    pub fn authenticate<'r>(&self, roster: &'r Roster) -> Result<(&'r Credential, Claims), AuthError> {
        let jws = Jws::parse(&self.token)?;
        let claims = jws.claims()?;

        // An unknown name costs as much time as a wrong signature, so that nobody can ask the clock for names.
        let credential = roster.get(&claims.sub);
        let key = credential.map(|credential| credential.public_key).unwrap_or_default();
        let signed = jws.is_signed_by(&key);
        let credential = credential.ok_or_else(|| AuthError::UnknownCredential(claims.sub.clone()))?;
        if !signed {
            return Err(AuthError::Signature(claims.sub));
        }

        if claims.aud.as_ref() != roster.audience() {
            return Err(AuthError::Audience(claims.aud));
        }
        let mut claimed = [0; 32];
        hex::decode_to_slice(&claims.body_hash, &mut claimed)
            .map_err(|_| AuthError::Malformed("bodyHash is not 64 hex digits"))?;
        if !bool::from(Sha256::digest(&self.body).as_slice().ct_eq(&claimed)) {
            return Err(AuthError::BodyHash(claims.sub));
        }
        claims.check_shape()?;
        Ok((credential, claims))
    }

    /// When the token says that it was made, in seconds since 1970: for whoever has authenticated it before.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] or [`AuthError::Algorithm`], where it is no token.
    pub fn asked_at(&self) -> Result<u64, AuthError> {
        Ok(Jws::parse(&self.token)?.claims()?.iat)
    }

    /// Signs `body` as the credential `sub`, for a deployment without a name: what a client does. The times are in seconds; a lifetime above
    /// [`MAX_LIFETIME_S`] makes a token that nobody takes.
    pub fn sign(
        signing_key: &SigningKey,
        sub: &CredentialId,
        uri: &str,
        jti: &str,
        iat: u64,
        lifetime_s: u64,
        body: Vec<u8>,
    ) -> Self {
        let (sub, uri, jti) = (sub.clone(), uri.to_owned(), jti.to_owned());
        let exp = iat.saturating_add(lifetime_s);
        Self::sign_claims(signing_key, Claims { sub, aud: None, uri, jti, iat, exp, body_hash: String::new() }, body)
    }

    /// Signs `body` with these claims; `body_hash` is put in.
    pub fn sign_claims(signing_key: &SigningKey, mut claims: Claims, body: Vec<u8>) -> Self {
        claims.body_hash = hex::encode(Sha256::digest(&body));
        let claims = serde_json::to_vec(&claims).expect("strings and integers always have a JSON form");
        let header = format!(r#"{{"alg":"{ALGORITHM}","typ":"JWT"}}"#);
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(signing_key.sign(message.as_bytes()).to_bytes());
        Self { token: format!("{message}.{signature}"), body }
    }
}

impl Claims {
    /// Whether the request is for `uri` and its time is `now_unix_s`, give or take `leeway_s` of difference between the
    /// clocks. All times are in seconds.
    ///
    /// # Errors
    /// [`AuthError::NotYetValid`], [`AuthError::Expired`] or [`AuthError::WrongUri`].
    pub fn check_fresh(&self, now_unix_s: u64, leeway_s: u64, uri: &str) -> Result<(), AuthError> {
        if self.iat > now_unix_s.saturating_add(leeway_s) {
            return Err(AuthError::NotYetValid { iat: self.iat, now: now_unix_s });
        }
        if self.exp.saturating_add(leeway_s) <= now_unix_s {
            return Err(AuthError::Expired { exp: self.exp, now: now_unix_s });
        }
        if self.uri != uri {
            return Err(AuthError::WrongUri { claimed: self.uri.clone() });
        }
        Ok(())
    }

    fn check_shape(&self) -> Result<(), AuthError> {
        match self.exp.checked_sub(self.iat) {
            Some(1..=MAX_LIFETIME_S) => {}
            _ => return Err(AuthError::Lifetime { iat: self.iat, exp: self.exp }),
        }
        if !(1..=MAX_JTI_LEN).contains(&self.jti.len()) || !self.jti.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(AuthError::Malformed("jti is not 1 to 64 printable characters"));
        }
        Ok(())
    }
}

/// A compact JWS (RFC 7515 section 7.1), taken apart and not yet verified.
struct Jws<'t> {
    /// Header and payload in base64url with the point between them: what is signed.
    message: &'t str,
    /// The payload's bytes.
    payload: Vec<u8>,
    /// The signature in base64url.
    signature: &'t str,
}

impl<'t> Jws<'t> {
    fn parse(token: &'t str) -> Result<Self, AuthError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(AuthError::Malformed("too long"));
        }
        let parts = || {
            let (message, signature) = token.rsplit_once('.')?;
            let (header, payload) = message.split_once('.')?;
            // Strict base64url: no padding, no left-over bits, so that one token has one spelling. A further point is
            // outside of its alphabet.
            let header = URL_SAFE_NO_PAD.decode(header).ok()?;
            let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
            Some((message, header, payload, signature))
        };
        let (message, header, payload, signature) = parts().ok_or(AuthError::Malformed("no compact JWS"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| AuthError::Malformed("header parameters unknown or wrong"))?;
        if header.alg != ALGORITHM {
            return Err(AuthError::Algorithm);
        }
        if header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(AuthError::Malformed("typ is not JWT"));
        }
        Ok(Self { message, payload, signature })
    }

    fn claims(&self) -> Result<Claims, AuthError> {
        serde_json::from_slice(&self.payload).map_err(|_| AuthError::Malformed("claims missing, unknown or wrong"))
    }

    fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let key = DecodingKey::from_ed_der(key.as_bytes());
        jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), &key, Algorithm::EdDSA).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        public_key_x: String,
        jws: String,
        payload: String,
    }

    /// RFC 8037 appendices A.4 (signing) and A.5 (validation).
    #[test]
    fn the_example_of_rfc_8037_verifies() {
        let vector: Vector =
            serde_json::from_str(include_str!("../../../tests/vectors/rfc-8037-a4.json")).expect("the vector's form");
        let key = URL_SAFE_NO_PAD.decode(vector.public_key_x).expect("base64url");
        let key = VerifyingKey::from_bytes(&key.try_into().expect("32 bytes")).expect("a point of the curve");
        let jws = Jws::parse(&vector.jws).expect("a compact JWS");
        assert_eq!(jws.payload, vector.payload.as_bytes());
        assert!(jws.is_signed_by(&key));

        let other = SigningKey::from_bytes(&[7; 32]).verifying_key();
        assert!(!jws.is_signed_by(&other));
        let flipped = vector.jws.replace("RXhh", "RXhi");
        assert!(!Jws::parse(&flipped).expect("still a compact JWS").is_signed_by(&key));
    }
}
