//! A node that answers what a test tells it to, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chains::ethereum::{EthereumClient, Options};
use chains::rpc::{Auth, RpcClient};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers};

use crate::fixture::CHAIN_ID;

/// What the node says to one call.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Result(Value),
    Error { code: i64, message: &'static str, data: Option<Value> },
    Http(u16, &'static str),
}

type Answers = HashMap<&'static str, Box<dyn Fn(&Value) -> Answer + Send>>;

#[derive(Default)]
struct Script {
    answers: Answers,
    asked: Vec<(String, Value)>,
}

pub(crate) struct FakeNode {
    server: MockServer,
    script: Arc<Mutex<Script>>,
}

/// A node's error without data.
pub(crate) fn error(code: i64, message: &'static str) -> Answer {
    Answer::Error { code, message, data: None }
}

/// A block header at `height`, whose hash is `fill` over and over.
pub(crate) fn block(height: u64, fill: u8) -> Value {
    json!({ "number": format!("{height:#x}"), "hash": hash(fill), "baseFeePerGas": "0x3b9aca00" })
}

/// A 32-byte hash of one byte.
pub(crate) fn hash(fill: u8) -> String {
    format!("0x{}", hex::encode([fill; 32]))
}

impl FakeNode {
    /// A node of the tests' network, which knows nothing but its chain id.
    pub(crate) async fn start() -> Self {
        let script: Arc<Mutex<Script>> = Arc::default();
        let shared = Arc::clone(&script);
        let respond = move |request: &Request| -> ResponseTemplate {
            let call: Value = request.body_json().expect("a JSON-RPC call");
            let method = call.get("method").and_then(Value::as_str).expect("a method");
            let params = call.get("params").expect("parameters");
            let id = call.get("id").expect("an id");
            let mut script = shared.lock().unwrap_or_else(PoisonError::into_inner);
            script.asked.push((method.to_owned(), params.clone()));
            match script.answers.get(method).map_or_else(|| error(-32601, "no such method"), |answer| answer(params)) {
                Answer::Result(result) => {
                    ResponseTemplate::new(200).set_body_json(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
                }
                Answer::Error { code, message, data } => {
                    let error = json!({ "code": code, "message": message, "data": data });
                    ResponseTemplate::new(200).set_body_json(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
                }
                Answer::Http(status, body) => ResponseTemplate::new(status).set_body_string(body),
            }
        };
        let server = MockServer::start().await;
        Mock::given(matchers::method("POST")).respond_with(respond).mount(&server).await;
        let node = Self { server, script };
        node.result("eth_chainId", json!(format!("{CHAIN_ID:#x}")));
        node
    }

    /// Answers `method` as `answer` says, given the parameters.
    pub(crate) fn on(&self, method: &'static str, answer: impl Fn(&Value) -> Answer + Send + 'static) {
        self.lock().answers.insert(method, Box::new(answer));
    }

    /// Answers `method` with `result`, whatever is asked.
    pub(crate) fn result(&self, method: &'static str, result: Value) {
        self.on(method, move |_| Answer::Result(result.clone()));
    }

    /// Answers `method` with an error, whatever is asked.
    pub(crate) fn error(&self, method: &'static str, code: i64, message: &'static str) {
        self.on(method, move |_| error(code, message));
    }

    /// The parameters of every call of `method`.
    pub(crate) fn asked(&self, method: &str) -> Vec<Value> {
        self.lock().asked.iter().filter(|(asked, _)| asked == method).map(|(_, params)| params.clone()).collect()
    }

    pub(crate) fn client(&self, options: Options) -> EthereumClient {
        client_of(&self.server.uri(), Duration::from_secs(10), options)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn client_of(url: &str, timeout: Duration, options: Options) -> EthereumClient {
    EthereumClient::new(RpcClient::new(url, Auth::None, timeout).expect("a URL"), CHAIN_ID, options)
}

/// The URL of an endpoint that reads a request, writes `bytes`, and then hangs up, or else keeps silent for good.
pub(crate) async fn raw_endpoint(bytes: &'static str, hang_up: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes.as_bytes()).await;
            if !hang_up {
                open.push(stream);
            }
        }
    });
    url
}
