//! A provider of screening over HTTP, in the shape of Chainalysis' free sanctions API:
//! `GET /api/v1/address/{address}` with `X-API-Key`, answered by `{"identifications": [{"category": "sanctions", …}]}`.
//!
//! It fails closed: whatever is not a well-formed answer in time means that the address is not cleared. After several
//! failures in a row it isn't asked for a while, so that a dead provider costs no time.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chains::address::Address;
use reqwest::StatusCode;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;

/// Failures in a row after which the provider is left alone.
const TOLERANCE: u32 = 5;
/// For how long.
const REST: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Where a provider is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name, which verdicts give.
    pub id: String,
    /// The service's root, `https://public.chainalysis.com`.
    pub url: String,
    /// A file with the API key.
    pub api_key_file: PathBuf,
    /// How long one question may take, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

const fn default_timeout_ms() -> u64 {
    2000
}

/// One provider.
#[derive(Debug)]
pub struct Provider {
    id: String,
    url: String,
    key: HeaderValue,
    client: reqwest::Client,
    breaker: Mutex<Breaker>,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    resting_until: Option<Instant>,
}

/// What a provider has on an address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Identification {
    /// `sanctions`.
    #[serde(default)]
    pub category: String,
    /// Who it is.
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    identifications: Vec<Identification>,
}

/// Why a provider can't be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The key's file can't be read, or holds no key.
    #[error("{}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The URL is none.
    #[error("{url:?} is no URL of a screening provider: {reason}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why an address is not cleared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the screening provider {provider} can't be asked: {reason}")]
pub struct Unanswered {
    /// The provider's name.
    pub provider: String,
    /// What happened.
    pub reason: String,
}

impl Provider {
    /// Reads the key. Nothing is asked yet.
    ///
    /// # Errors
    /// Where the key or the URL can't be used.
    pub fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
        let path = &config.api_key_file;
        let unusable = |reason: String| ProviderError::Key { path: path.clone(), reason };
        let key = std::fs::read_to_string(path).map_err(|e| unusable(e.to_string()))?;
        let no_key = || unusable("it holds no API key".to_owned());
        let key = Some(key.trim()).filter(|key| !key.is_empty()).ok_or_else(no_key)?;
        let mut key = HeaderValue::from_str(key).map_err(|_| no_key())?;
        key.set_sensitive(true);
        let wrong = |reason: String| ProviderError::Url { url: config.url.clone(), reason };
        reqwest::Url::parse(&config.url).map_err(|e| wrong(e.to_string()))?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_millis(config.timeout_ms))
            // An answer that comes from elsewhere is not the provider's.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        let url = config.url.trim_end_matches('/').to_owned();
        Ok(Self { id: config.id.clone(), url, key, client, breaker: Mutex::default() })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the provider has on the address: nothing, if it is cleared.
    ///
    /// # Errors
    /// Where there is no well-formed answer in time, and while the provider is left alone. The address is not cleared then.
    pub async fn identifications(&self, address: &Address) -> Result<Vec<Identification>, Unanswered> {
        let unanswered = |reason: String| Unanswered { provider: self.id.clone(), reason };
        if self.resting() {
            return Err(unanswered("it failed several times in a row and is left alone for some seconds".to_owned()));
        }
        let answer = self.ask(address).await;
        self.learn(answer.is_ok());
        answer.map_err(unanswered)
    }

    async fn ask(&self, address: &Address) -> Result<Vec<Identification>, String> {
        // Canonical spellings of addresses are alphanumeric, so they need no escape.
        let url = format!("{}/api/v1/address/{address}", self.url);
        let request = self.client.get(url).header(HeaderName::from_static("x-api-key"), self.key.clone());
        let mut response = request.send().await.map_err(without_url)?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers with status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(without_url)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
                return Err("its answer is too long".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|e| format!("its answer can't be read: {e}"))?;
        Ok(answer.identifications)
    }

    fn resting(&self) -> bool {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.resting_until.is_some_and(|until| Instant::now() < until)
    }

    fn learn(&self, answered: bool) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *breaker = Breaker::default();
            return;
        }
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.failures >= TOLERANCE {
            breaker.resting_until = Some(Instant::now() + REST);
        }
    }
}

/// The address is in the URL, and errors go to logs and clients.
fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() { "it does not answer in time".to_owned() } else { error.to_string() }
}
