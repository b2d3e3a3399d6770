//! The HTTP server that all dialects share: JSON-RPC by POST, single calls and batches.
//!
//! A dialect is the method table of one kind of node. What differs around it, bitcoind's two generations of JSON-RPC with HTTP
//! statuses and basic authentication against plain JSON-RPC 2.0, is [`JsonRpcVersion`].
//! A node of a world has a [`gate::Gate`] before its dialect, where faults strike. Dialects with subscriptions are spoken over
//! WebSockets too, at the same address ([`socket`]).

pub mod gate;
mod listener;
pub mod socket;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use self::gate::{Gate, Outcome};
use self::listener::{BreakableListener, Connection};
use self::socket::Session;
use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
pub use tokio_util::sync::CancellationToken;

/// The largest request body: bitcoind's own limit.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Invalid JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON that is no request.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// A method's parameters are wrong.
pub const INVALID_PARAMS: i64 = -32602;
/// The node failed.
pub const INTERNAL_ERROR: i64 = -32603;

/// A JSON-RPC error object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RpcError {
    /// The error code.
    pub code: i64,
    /// What is wrong, in the words of the node that is simulated.
    pub message: String,
    /// What some nodes add: revert data, simulation logs.
    pub data: Option<Value>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The same error with data.
    #[must_use]
    pub fn with_data(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }

    fn to_value(&self) -> Value {
        let mut object = Map::new();
        object.insert("code".into(), self.code.into());
        object.insert("message".into(), self.message.as_str().into());
        if let Some(data) = &self.data {
            object.insert("data".into(), data.clone());
        }
        Value::Object(object)
    }
}

/// The generation of JSON-RPC that a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonRpcVersion {
    /// bitcoind (28): a request without `"jsonrpc": "2.0"` is answered with all of `result`, `error` and `id`, and an error with
    /// HTTP status 500 (404 for an unknown method, 400 for an invalid request); a request with it as JSON-RPC 2.0 says.
    /// Without the right credentials the answer is HTTP 401.
    Bitcoind,
    /// JSON-RPC 2.0 as geth and agave speak it: errors come with HTTP status 200.
    V2,
}

/// A node as its clients see it: one method table.
pub trait Dialect: Send + Sync + 'static {
    /// How requests and answers are framed.
    const VERSION: JsonRpcVersion;

    /// Answers one call. `params` is an array, an object, or null where the request had none.
    fn call(&self, method: &str, params: &Value) -> impl Future<Output = Result<Value, RpcError>> + Send;

    /// Answers one call as it would have been answered `blocks` blocks ago.
    fn call_behind(
        &self,
        method: &str,
        _params: &Value,
        blocks: u32,
    ) -> impl Future<Output = Result<Value, RpcError>> + Send {
        let message = format!("this simulated node can't answer {method} from {blocks} blocks ago");
        std::future::ready(Err(RpcError::new(INTERNAL_ERROR, message)))
    }

    /// The answer to a call that submits a transaction as if it had been accepted, without a look at the node's state. `None` where the
    /// method submits nothing.
    fn lie(&self, _method: &str, _params: &Value) -> Option<Result<Value, RpcError>> {
        None
    }

    /// Whether a request with this `Authorization` header may be answered.
    fn authorized(&self, _authorization: Option<&str>) -> bool {
        true
    }

    /// The plain text that a GET of `path` is answered with, as agave's `/health` is. `None` is HTTP 405.
    fn page(&self, _path: &str) -> Option<String> {
        None
    }

    /// The subscriptions of a new WebSocket connection, none of which are there yet. `None` where the dialect has no WebSockets.
    fn session(&self) -> Option<Arc<dyn Session>> {
        None
    }
}

/// A server that runs until it is told to stop.
#[derive(Debug)]
pub struct RpcServer {
    addr: SocketAddr,
    /// Cancelled when the server's task has ended, however it did.
    done: CancellationToken,
}

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {addr}: {reason}")]
pub struct ListenError {
    /// The address asked for.
    pub addr: SocketAddr,
    /// What the system says.
    pub reason: std::io::Error,
}

impl RpcServer {
    /// The address that is listened on, with the port that the system chose where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The endpoint to give a client.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Waits until the server has stopped: after `shutdown` was cancelled and the requests under way were answered.
    pub async fn stopped(&self) {
        self.done.cancelled().await;
    }
}

/// Serves `dialect` on `listen` (port 0: any free one) until `shutdown` is cancelled.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve<D: Dialect>(
    listen: SocketAddr,
    dialect: Arc<D>,
    shutdown: CancellationToken,
) -> Result<RpcServer, ListenError> {
    serve_behind(listen, dialect, shutdown, None).await
}

/// What a handler of requests is given.
struct Served<D> {
    dialect: Arc<D>,
    gate: Option<Gate>,
    stop: CancellationToken,
}

impl<D> Clone for Served<D> {
    fn clone(&self) -> Self {
        Self { dialect: Arc::clone(&self.dialect), gate: self.gate.clone(), stop: self.stop.clone() }
    }
}

impl<D: Dialect> Served<D> {
    async fn call(&self, method: &str, params: &Value) -> Outcome {
        match &self.gate {
            Some(gate) => gate.call(&*self.dialect, method, params, &self.stop).await,
            None => Outcome::Answer(self.dialect.call(method, params).await),
        }
    }
}

/// The connection has to break off instead of an answer.
struct BreakOff;

/// Serves `dialect` behind `gate`, as [`serve`] does without one.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve_behind<D: Dialect>(
    listen: SocketAddr,
    dialect: Arc<D>,
    shutdown: CancellationToken,
    gate: Option<Gate>,
) -> Result<RpcServer, ListenError> {
    let failed = |reason| ListenError { addr: listen, reason };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let killed = gate.as_ref().map_or_else(CancellationToken::new, |gate| gate.killed.clone());
    let served = Served { dialect, gate, stop: shutdown.clone() };
    let app = Router::new().fallback(answer::<D>).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(served);
    let app = app.into_make_service_with_connect_info::<Connection>();
    let listener = BreakableListener { listener, killed };
    let done = CancellationToken::new();
    let guard = done.clone().drop_guard();
    tokio::spawn(async move {
        let _guard = guard;
        let server = axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%addr, %error, "a simulated node's server failed");
        }
    });
    Ok(RpcServer { addr, done })
}

async fn answer<D: Dialect>(
    State(served): State<Served<D>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let dialect = &served.dialect;
    if method != Method::POST {
        if let Ok(upgrade) = socket
            && let Some(session) = dialect.session()
        {
            return socket::upgrade(upgrade, &served, session, connection);
        }
        let page = if method == Method::GET { dialect.page(uri.path()) } else { None };
        return match page {
            Some(text) => text.into_response(),
            None => (StatusCode::METHOD_NOT_ALLOWED, "JSONRPC server handles only POST requests").into_response(),
        };
    }
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !dialect.authorized(authorization) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\"")]).into_response();
    }
    let answered = match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Array(requests)) => batch(&served, requests).await,
        Ok(request) => single(&served, request).await,
        Err(_) => {
            let message = if D::VERSION == JsonRpcVersion::Bitcoind { "Parse error" } else { "parse error" };
            Ok(Framing::unknown::<D>().http(&Value::Null, Err(RpcError::new(PARSE_ERROR, message))))
        }
    };
    answered.unwrap_or_else(|BreakOff| {
        // Nothing is written to a connection that is broken.
        connection.break_off();
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    })
}

async fn single<D: Dialect>(served: &Served<D>, request: Value) -> Result<Response, BreakOff> {
    if D::VERSION == JsonRpcVersion::Bitcoind && !request.is_object() {
        let error = RpcError::new(PARSE_ERROR, "Top-level object parse error");
        return Ok(Framing::Legacy.http(&Value::Null, Err(error)));
    }
    let (framing, id, result) = execute(served, request).await?;
    Ok(match id {
        Some(id) => framing.http(&id, result),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn batch<D: Dialect>(served: &Served<D>, requests: Vec<Value>) -> Result<Response, BreakOff> {
    if requests.is_empty() && D::VERSION == JsonRpcVersion::V2 {
        return Ok(Framing::V2.http(&Value::Null, Err(RpcError::new(INVALID_REQUEST, "empty batch"))));
    }
    let was_empty = requests.is_empty();
    let mut answers = Vec::new();
    for request in requests {
        let (framing, id, result) = execute(served, request).await?;
        if let Some(id) = id {
            answers.push(framing.body(&id, result));
        }
    }
    if answers.is_empty() && !was_empty {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(json_response(StatusCode::OK, &Value::Array(answers)))
}

/// Runs one request. The id is `None` for a notification, which is executed but not answered.
async fn execute<D: Dialect>(
    served: &Served<D>,
    request: Value,
) -> Result<(Framing, Option<Value>, Result<Value, RpcError>), BreakOff> {
    match frame::<D>(request) {
        Err((framing, id, error)) => Ok((framing, id, Err(error))),
        Ok(Call { framing, id, method, params }) => match served.call(&method, &params).await {
            Outcome::Answer(result) => Ok((framing, id, result)),
            Outcome::BreakOff => Err(BreakOff),
        },
    }
}

/// A request that can be executed.
struct Call {
    framing: Framing,
    id: Option<Value>,
    method: String,
    params: Value,
}

/// Reads a request. What is none is answered with the error.
fn frame<D: Dialect>(request: Value) -> Result<Call, (Framing, Option<Value>, RpcError)> {
    let invalid = |message: &str| RpcError::new(INVALID_REQUEST, message);
    let Value::Object(mut request) = request else {
        return Err((Framing::unknown::<D>(), Some(Value::Null), invalid("Invalid Request object")));
    };
    let id = request.remove("id");
    let framing = match (D::VERSION, request.get("jsonrpc")) {
        (JsonRpcVersion::V2, Some(Value::String(version))) if version == "2.0" => Framing::V2,
        (JsonRpcVersion::V2, _) => return Err((Framing::V2, id.or(Some(Value::Null)), invalid("invalid request"))),
        (JsonRpcVersion::Bitcoind, None | Some(Value::Null)) => Framing::Legacy,
        (JsonRpcVersion::Bitcoind, Some(Value::String(version))) => match version.as_str() {
            "2.0" => Framing::V2,
            "1.0" | "1.1" => Framing::Legacy,
            _ => return Err((Framing::Legacy, id.or(Some(Value::Null)), invalid("JSON-RPC version not supported"))),
        },
        (JsonRpcVersion::Bitcoind, Some(_)) => {
            return Err((Framing::Legacy, id.or(Some(Value::Null)), invalid("jsonrpc field must be a string")));
        }
    };
    let id = match framing {
        Framing::V2 => id,
        Framing::Legacy => id.or(Some(Value::Null)),
    };
    let method = match request.remove("method") {
        Some(Value::String(method)) => method,
        None | Some(Value::Null) => return Err((framing, id.or(Some(Value::Null)), invalid("Missing method"))),
        Some(_) => return Err((framing, id.or(Some(Value::Null)), invalid("Method must be a string"))),
    };
    let params = request.remove("params").unwrap_or(Value::Null);
    if !matches!(params, Value::Null | Value::Array(_) | Value::Object(_)) {
        return Err((framing, id, invalid("Params must be an array or object")));
    }
    Ok(Call { framing, id, method, params })
}

/// How one answer is framed.
#[derive(Clone, Copy)]
enum Framing {
    /// bitcoind's JSON-RPC 1.0 and 1.1.
    Legacy,
    V2,
}

impl Framing {
    /// The framing of an answer to something that names no version.
    fn unknown<D: Dialect>() -> Self {
        match D::VERSION {
            JsonRpcVersion::Bitcoind => Self::Legacy,
            JsonRpcVersion::V2 => Self::V2,
        }
    }

    fn body(self, id: &Value, result: Result<Value, RpcError>) -> Value {
        match (self, result) {
            (Self::Legacy, Ok(result)) => json!({ "result": result, "error": null, "id": id }),
            (Self::Legacy, Err(error)) => json!({ "result": null, "error": error.to_value(), "id": id }),
            (Self::V2, Ok(result)) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
            (Self::V2, Err(error)) => json!({ "jsonrpc": "2.0", "error": error.to_value(), "id": id }),
        }
    }

    fn http(self, id: &Value, result: Result<Value, RpcError>) -> Response {
        let status = match (self, &result) {
            (Self::V2, _) | (Self::Legacy, Ok(_)) => StatusCode::OK,
            (Self::Legacy, Err(error)) => match error.code {
                INVALID_REQUEST => StatusCode::BAD_REQUEST,
                METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        };
        json_response(status, &self.body(id, result))
    }
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;
    struct Bitcoind;

    impl Dialect for Echo {
        const VERSION: JsonRpcVersion = JsonRpcVersion::V2;

        async fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
            match method {
                "echo" => Ok(params.clone()),
                _ => Err(RpcError::new(METHOD_NOT_FOUND, "no").with_data(json!({ "method": method }))),
            }
        }

        fn page(&self, path: &str) -> Option<String> {
            (path == "/health").then(|| "ok".to_owned())
        }
    }

    impl Dialect for Bitcoind {
        const VERSION: JsonRpcVersion = JsonRpcVersion::Bitcoind;

        async fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
            match method {
                "fail" => Err(RpcError::new(-5, "failed")),
                _ => Echo.call(method, params).await,
            }
        }

        fn authorized(&self, authorization: Option<&str>) -> bool {
            authorization == Some("Basic right")
        }
    }

    async fn post<D: Dialect>(dialect: D, authorization: Option<&str>, body: &str) -> (u16, Value) {
        let shutdown = CancellationToken::new();
        let server = serve(([127, 0, 0, 1], 0).into(), Arc::new(dialect), shutdown.clone()).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut request = reqwest::Client::new().post(server.url()).body(body.to_owned());
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        shutdown.cancel();
        server.stopped().await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    #[tokio::test]
    async fn strict_version_2() {
        let error =
            |code: i64, message: &str| json!({"jsonrpc":"2.0","id":null,"error":{"code":code,"message":message}});
        for (body, status, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":"x","method":"echo","params":[1]}"#,
                200,
                json!({"jsonrpc":"2.0","id":"x","result":[1]}),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"nope"}"#,
                200,
                json!({"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no","data":{"method":"nope"}}}),
            ),
            (r#"{"jsonrpc":"2.0","method":"echo"}"#, 204, json!("")),
            ("{", 200, error(PARSE_ERROR, "parse error")),
            ("[]", 200, error(INVALID_REQUEST, "empty batch")),
            ("1", 200, error(INVALID_REQUEST, "Invalid Request object")),
            (
                r#"[1,{"jsonrpc":"2.0","id":2,"method":"echo","params":{"a":1}},{"jsonrpc":"2.0","method":"echo"}]"#,
                200,
                json!([error(INVALID_REQUEST, "Invalid Request object"), {"jsonrpc":"2.0","id":2,"result":{"a":1}}]),
            ),
        ] {
            assert_eq!(post(Echo, None, body).await, (status, expected), "{body}");
        }
    }

    #[tokio::test]
    async fn bitcoind_framing() {
        let right = Some("Basic right");
        for (body, status, expected) in [
            (r#"{"id":1,"method":"echo","params":[1]}"#, 200, json!({"result":[1],"error":null,"id":1})),
            (r#"{"method":"echo"}"#, 200, json!({"result":null,"error":null,"id":null})),
            (r#"{"id":1,"method":"fail"}"#, 500, json!({"result":null,"error":{"code":-5,"message":"failed"},"id":1})),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"fail"}"#,
                200,
                json!({"jsonrpc":"2.0","error":{"code":-5,"message":"failed"},"id":1}),
            ),
            (r#"{"id":1}"#, 400, json!({"result":null,"error":{"code":-32600,"message":"Missing method"},"id":1})),
            ("nonsense", 500, json!({"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null})),
            ("[]", 200, json!([])),
        ] {
            assert_eq!(post(Bitcoind, right, body).await, (status, expected), "{body}");
        }
        let (status, _) = post(Bitcoind, right, r#"{"id":1,"method":"nope"}"#).await;
        assert_eq!(status, 404);
        for wrong in [None, Some("Basic wrong")] {
            assert_eq!(post(Bitcoind, wrong, "{}").await, (401, json!("")));
        }
    }

    #[tokio::test]
    async fn a_get_is_answered() {
        let shutdown = CancellationToken::new();
        let server = serve(([127, 0, 0, 1], 0).into(), Arc::new(Echo), shutdown.clone()).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let health = reqwest::get(format!("{}/health", server.url())).await.unwrap();
        assert_eq!((health.status().as_u16(), health.text().await.unwrap().as_str()), (200, "ok"));
        assert_eq!(reqwest::get(server.url()).await.unwrap().status().as_u16(), 405);
        shutdown.cancel();
        server.stopped().await;
        assert!(reqwest::get("http://127.0.0.1:1").await.is_err());
    }
}
