//! The JSON-RPC transport to a node: HTTP, one endpoint, timeouts everywhere.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A node's JSON-RPC endpoint.
#[derive(Debug)]
pub struct RpcClient {
    http: reqwest::Client,
    url: reqwest::Url,
    auth: Auth,
    next_id: AtomicU64,
}

/// How a node wants to be spoken to.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// No credentials.
    #[default]
    None,
    /// HTTP basic authentication with the contents of a file of the form `user:password`, read anew for every request:
    /// bitcoind writes a new `.cookie` at every start.
    BasicFile(PathBuf),
}

/// Why a call has no result. Never evidence that something did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The endpoint isn't a URL, or no HTTP client can be had.
    #[error("{url:?} can't be used as a node's endpoint: {reason}")]
    Endpoint {
        /// What was configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with the node's credentials can't be read.
    #[error("can't read the node's credentials from {path}: {reason}")]
    Credentials {
        /// The configured path.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// No answer in time.
    #[error("{method}: the node didn't answer in time")]
    Timeout {
        /// The method called.
        method: String,
    },
    /// The connection failed, or broke before the whole answer was there.
    #[error("{method}: no connection to the node: {reason}")]
    Connection {
        /// The method called.
        method: String,
        /// What the HTTP client says.
        reason: String,
    },
    /// An answer that is no JSON-RPC response: an HTML page, half a body, a wrong type.
    #[error("{method}: the node's answer (HTTP {status}) can't be read: {reason}")]
    Malformed {
        /// The method called.
        method: String,
        /// HTTP status.
        status: u16,
        /// What is wrong.
        reason: String,
    },
    /// The node answered with an error.
    #[error("{method}: the node answers {code}: {message}")]
    Node {
        /// The method called.
        method: String,
        /// JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
        /// What the node adds: revert data, simulation logs.
        data: Option<Value>,
    },
}

impl RpcError {
    /// Whether the same call may succeed later. What is unknown is permanent.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Connection { .. } | Self::Credentials { .. } => true,
            Self::Malformed { status, .. } => *status == 429 || *status >= 500,
            Self::Endpoint { .. } | Self::Node { .. } => false,
        }
    }
}

/// The longest answer that is read: a full Bitcoin block in hex is 8 MB.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: P,
}

#[derive(Deserialize)]
struct Response {
    id: Value,
    /// `Some(Value::Null)` is an answer; a member that is missing isn't.
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

impl RpcClient {
    /// A client of the node at `url`, each call limited to `timeout` from connect to last byte.
    ///
    /// # Errors
    /// [`RpcError::Endpoint`] where `url` is no URL.
    pub fn new(url: &str, auth: Auth, timeout: Duration) -> Result<Self, RpcError> {
        let endpoint = |reason: String| RpcError::Endpoint { url: url.to_owned(), reason };
        // An application may have installed its own provider before; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = reqwest::Url::parse(url).map_err(|e| endpoint(e.to_string()))?;
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| endpoint(e.to_string()))?;
        Ok(Self { http, url: parsed, auth, next_id: AtomicU64::new(1) })
    }

    /// The endpoint, for messages.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Calls `method` and reads its result as `T`.
    ///
    /// # Errors
    /// Whatever stands between the call and a well-formed result.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: impl Serialize) -> Result<T, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = self.http.post(self.url.clone()).json(&Request { jsonrpc: "2.0", id, method, params });
        if let Auth::BasicFile(path) = &self.auth {
            let credentials = tokio::fs::read_to_string(path)
                .await
                .map_err(|reason| RpcError::Credentials { path: path.clone(), reason })?;
            let (user, password) = credentials.trim().split_once(':').unwrap_or((credentials.trim(), ""));
            request = request.basic_auth(user, Some(password));
        }
        let broken = |e: reqwest::Error| {
            if e.is_timeout() {
                RpcError::Timeout { method: method.to_owned() }
            } else {
                RpcError::Connection { method: method.to_owned(), reason: e.without_url().to_string() }
            }
        };
        let mut answer = request.send().await.map_err(broken)?;
        let status = answer.status().as_u16();
        let malformed = |reason: String| RpcError::Malformed { method: method.to_owned(), status, reason };

        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(malformed(format!("longer than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        // bitcoind answers errors with HTTP 500 and a JSON body, so the body is read whatever the status.
        let response: Response = serde_json::from_slice(&body).map_err(|e| malformed(e.to_string()))?;
        let same = response.id == id;
        match (response.error, response.result) {
            // A node that couldn't read the request knows no id (JSON-RPC 2.0, section 5).
            (Some(ErrorObject { code, message, data }), _) if same || response.id.is_null() => {
                Err(RpcError::Node { method: method.to_owned(), code, message, data })
            }
            _ if !same => Err(malformed(format!("request {id} was answered with the id {}", response.id))),
            (_, Some(_)) if !(200..300).contains(&status) => Err(malformed("a result beside an HTTP error".to_owned())),
            (_, Some(result)) => serde_json::from_value(result).map_err(|e| malformed(e.to_string())),
            (_, None) => Err(malformed("neither a result nor an error".to_owned())),
        }
    }
}
