//! A client of the gateway: each request signed with the caller's credential, as `docs/api.md` tells other languages to.

use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use gateway::clock::{Clock, SystemClock};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use signer::request::{Claims, SignedRequest};
use signer::roster::{Audience, CredentialId};

use crate::credential::{self, CredentialError};

/// How long a token holds, in seconds: long enough for the way, too short to keep.
const TOKEN_SECONDS: u64 = 30;

/// A gateway's endpoint with the credential to ask it with.
pub(crate) struct GatewayClient {
    http: reqwest::Client,
    url: String,
    id: CredentialId,
    key: SigningKey,
    audience: Option<Audience>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ClientError {
    /// The credential can't be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The gateway can't be reached.
    #[error("the gateway at {url} can't be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What the HTTP client says.
        reason: String,
    },
    /// The answer is no JSON-RPC response.
    #[error("the gateway's answer can't be read: {0}")]
    Malformed(String),
    /// The gateway's own error.
    #[error("{message} ({kind}, {code}){}", .tx_id.as_ref().map(|id| format!("; record {id}")).unwrap_or_default())]
    Refused {
        /// JSON-RPC error code.
        code: i64,
        /// The stable word.
        kind: String,
        /// The sentence.
        message: String,
        /// The record, if one was made.
        tx_id: Option<String>,
        /// Whether the same may be asked again later.
        #[cfg_attr(not(feature = "simulator"), allow(dead_code, reason = "only a load asks again by itself"))]
        retriable: bool,
    },
}

impl GatewayClient {
    /// A client of the gateway at `url` with the credential `id`, whose private key is in `key_file`.
    ///
    /// # Errors
    /// Where the key can't be read.
    pub(crate) fn new(url: &str, id: CredentialId, key_file: &Path) -> Result<Self, ClientError> {
        let _ = rustls::crypto::ring::default_provider().install_default(); // another one serves as well
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .map_err(|e| ClientError::Unreachable { url: url.to_owned(), reason: e.to_string() })?;
        Ok(Self { http, url: url.to_owned(), id, key: credential::read_private_key(key_file)?, audience: None })
    }

    /// The same client, with requests for this deployment.
    pub(crate) fn for_audience(self, audience: Option<Audience>) -> Self {
        Self { audience, ..self }
    }

    /// Calls a method.
    ///
    /// # Errors
    /// Where there is no result.
    pub(crate) async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, ClientError> {
        self.send(&self.sign(method, params)).await
    }

    /// Signs a call with a token of its own.
    pub(crate) fn sign(&self, method: &str, params: Value) -> SignedRequest {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string().into_bytes();
        let now = SystemClock.unix_seconds();
        let claims = Claims {
            sub: self.id.clone(),
            aud: self.audience.clone(),
            uri: "/".to_owned(),
            jti: format!("{:032x}", random_u128()),
            iat: now,
            exp: now.saturating_add(TOKEN_SECONDS),
            body_hash: String::new(),
        };
        SignedRequest::sign_claims(&self.key, claims, body)
    }

    /// Sends a signed call. The gateway takes each once.
    ///
    /// # Errors
    /// Where there is no result.
    pub(crate) async fn send<T: DeserializeOwned>(&self, signed: &SignedRequest) -> Result<T, ClientError> {
        let unreachable =
            |e: reqwest::Error| ClientError::Unreachable { url: self.url.clone(), reason: e.without_url().to_string() };
        let answer = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .bearer_auth(&signed.token)
            .body(signed.body.clone())
            .send()
            .await
            .map_err(unreachable)?;
        let text = answer.text().await.map_err(unreachable)?;
        let mut response: Value = serde_json::from_str(&text).map_err(|e| ClientError::Malformed(e.to_string()))?;
        if let Some(error) = response.get("error") {
            let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
            let data = error.get("data");
            return Err(ClientError::Refused {
                code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
                kind: text(data.and_then(|data| data.get("kind"))).unwrap_or_else(|| "unknown".to_owned()),
                message: text(error.get("message")).unwrap_or_default(),
                tx_id: text(data.and_then(|data| data.get("tx_id"))),
                retriable: data.and_then(|data| data.get("retriable")).and_then(Value::as_bool).unwrap_or_default(),
            });
        }
        let result = response.get_mut("result").map(Value::take).unwrap_or_default();
        serde_json::from_value(result).map_err(|e| ClientError::Malformed(e.to_string()))
    }
}

fn random_u128() -> u128 {
    use rand_core::RngCore;
    let mut bytes = [0; 16];
    rand_core::OsRng.fill_bytes(&mut bytes);
    u128::from_be_bytes(bytes)
}
