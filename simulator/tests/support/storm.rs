//! Hard weather between a client and its node: a proxy that lets every request through and spoils the answers to one method.
//!
//! The node has done what it was asked, so whatever the client concludes from the broken answer is put to the test too.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use chains::rpc::RpcError;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug)]
enum Weather {
    /// An HTML page that says 200.
    Page,
    /// An HTML page of a proxy.
    BadGateway,
    /// The connection ends before the body does.
    HalfBody,
    /// Half the JSON, in a body of that length.
    HalfJson,
    /// Nothing, with HTTP 200.
    Empty,
    /// No HTTP at all.
    HangUp,
    /// The answer to another request.
    WrongId,
    /// An object that is no answer.
    NeitherNor,
    /// A result of another shape.
    Strange,
    /// The right answer in a list.
    List,
    /// The right answer under an HTTP error.
    Unavailable,
}

const ALL: [Weather; 11] = [
    Weather::Page,
    Weather::BadGateway,
    Weather::HalfBody,
    Weather::HalfJson,
    Weather::Empty,
    Weather::HangUp,
    Weather::WrongId,
    Weather::NeitherNor,
    Weather::Strange,
    Weather::List,
    Weather::Unavailable,
];

/// Solana's `getTransaction` tells the fee of what is known to be included already; without it the fee stays unknown.
const OPTIONAL: [&str; 1] = ["getTransaction"];

#[derive(Default)]
struct Sky {
    spoiled: Option<(String, Weather)>,
    hits: usize,
    asked: BTreeSet<String>,
}

/// The proxy.
pub(crate) struct Storm {
    url: String,
    sky: Arc<Mutex<Sky>>,
}

impl Storm {
    /// A proxy before the node at `upstream`, in clear weather.
    pub(crate) async fn before(upstream: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sky: Arc<Mutex<Sky>> = Arc::default();
        let (upstream, shared) = (upstream.to_owned(), Arc::clone(&sky));
        tokio::spawn(async move {
            let http = reqwest::Client::new();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, http.clone(), upstream.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, sky }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn sky(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap()
    }

    /// Does `work` in clear weather, and then once for every method that it asks and every weather: each time that the
    /// weather strikes, the work ends with an error that says what the answer was like.
    pub(crate) async fn weather<F: Future<Output = Result<String, RpcError>>>(&self, name: &str, work: impl Fn() -> F) {
        *self.sky() = Sky::default();
        let clear = work().await.unwrap();
        let asked = std::mem::take(&mut *self.sky()).asked;
        assert!(!asked.is_empty(), "{name} asks nothing");
        for method in asked {
            for weather in ALL {
                *self.sky() = Sky { spoiled: Some((method.clone(), weather)), ..Sky::default() };
                let outcome = work().await;
                let hits = std::mem::take(&mut *self.sky()).hits;
                let place = format!("{name}, {method}, {weather:?}");
                assert!(hits > 0, "{place}: it was asked in clear weather");
                if OPTIONAL.contains(&method.as_str()) {
                    continue;
                }
                let error = outcome.expect_err(&place);
                assert!(matches!(error, RpcError::Malformed { .. } | RpcError::Connection { .. }), "{place}: {error}");
            }
        }
        assert_eq!(work().await.unwrap(), clear, "{name}: the sky is clear again");
    }
}

async fn serve(mut stream: TcpStream, http: reqwest::Client, upstream: String, sky: Arc<Mutex<Sky>>) {
    let Some(body) = request(&mut stream).await else { return };
    let call: Value = serde_json::from_slice(&body).unwrap();
    let method = call["method"].as_str().unwrap().to_owned();
    let answer = http.post(&upstream).header("content-type", "application/json").body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let weather = {
        let mut sky = sky.lock().unwrap();
        sky.asked.insert(method.clone());
        let struck = sky.spoiled.as_ref().filter(|(spoiled, _)| *spoiled == method).map(|(_, weather)| *weather);
        sky.hits += usize::from(struck.is_some());
        struck
    };
    let mut told: Value = serde_json::from_str(&text).unwrap();
    let page = "<html><body>Welcome</body></html>".to_owned();
    let (status, body, length) = match weather {
        None => (status, text, None),
        Some(Weather::HangUp) => return,
        Some(Weather::Page) => (200, page, None),
        Some(Weather::BadGateway) => (502, page, None),
        Some(Weather::Empty) => (200, String::new(), None),
        Some(Weather::HalfBody) => (200, text[..text.len() / 2].to_owned(), Some(text.len())),
        Some(Weather::HalfJson) => (200, text[..text.len() / 2].to_owned(), None),
        Some(Weather::WrongId) => {
            told["id"] = json!(call["id"].as_u64().unwrap() + 1);
            (200, told.to_string(), None)
        }
        Some(Weather::NeitherNor) => (200, json!({ "jsonrpc": "2.0", "id": call["id"] }).to_string(), None),
        Some(Weather::Strange) => {
            (200, json!({ "jsonrpc": "2.0", "id": call["id"], "result": { "weather": [] } }).to_string(), None)
        }
        Some(Weather::List) => (200, json!([told]).to_string(), None),
        Some(Weather::Unavailable) => {
            let result = told.get("result").cloned().unwrap_or_default();
            (503, json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }).to_string(), None)
        }
    };
    let length = length.unwrap_or(body.len());
    let head = format!("HTTP/1.1 {status} Weather\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The body of the one request on the connection.
async fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
        let length: usize = length.trim().parse().ok()?;
        if bytes.len() >= end + 4 + length {
            return Some(bytes[end + 4..end + 4 + length].to_vec());
        }
    }
}

/// The node's fault in what a state couldn't be gathered for.
pub(crate) fn of_state(error: chains::client::StateError) -> RpcError {
    match error {
        chains::client::StateError::Rpc(error) => error,
        other => panic!("no word of the node's: {other}"),
    }
}

/// The node's fault in what a broadcast failed for: a broken answer is no refusal.
pub(crate) fn of_broadcast(error: chains::client::BroadcastError) -> RpcError {
    match error {
        chains::client::BroadcastError::Rpc(error) => error,
        other => panic!("no word of the node's: {other}"),
    }
}
