//! What stands between the gateway and its node: it passes everything on, writes down every transaction that is sent, when it
//! came, and can answer in the node's place: with an error, with rubbish, or not at all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::cli::Failure;

/// The longest head and body of a request.
const MAX: usize = 1 << 22;

/// A node's stand-in.
pub(super) struct Relay {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    sent: Mutex<Vec<Sent>>,
    weather: Mutex<Option<Weather>>,
}

/// A transaction that the gateway sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// When it came, in milliseconds since the Unix epoch.
    pub(super) at: u64,
    /// The signed bytes.
    pub(super) bytes: Vec<u8>,
    /// The call that it came in.
    pub(super) method: String,
    /// Its parameters.
    pub(super) params: Value,
}

/// Which calls something happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// Those that send a transaction.
    Sends,
    /// Those that ask what became of one.
    Looks,
    /// Every one.
    All,
}

/// What happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The node takes them, and this is what the gateway is told.
    DoneBut(Box<Answer>),
    /// A JSON-RPC error of this code and these words.
    Error(i64, String),
    /// A page as a load balancer has it.
    Html,
    /// The beginning of an answer.
    Half,
    /// The connection is closed without a word.
    Nothing,
    /// As if the node had taken it.
    Lost,
}

/// What happens to which calls, how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weather {
    /// Which calls.
    pub(super) calls: Calls,
    /// What happens.
    pub(super) answer: Answer,
    /// So many times.
    pub(super) times: u32,
}

impl Relay {
    /// Listens on a port of its own, before the node at `target`.
    ///
    /// # Errors
    /// Where no port is free.
    pub(super) async fn start(target: &str) -> Result<Self, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default(); // another one serves as well
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let shared =
            Arc::new(Shared { target: target.to_owned(), http, sent: Mutex::default(), weather: Mutex::default() });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    let _ = serve(stream, &shared).await; // a client that goes away is no news
                });
            }
        });
        Ok(Self { addr, shared, task: task.abort_handle() })
    }

    /// The endpoint to give the gateway.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every transaction that was sent, oldest first.
    pub(super) fn sent(&self) -> Vec<Sent> {
        self.shared.sent().clone()
    }

    /// Has something happen to calls from here on, or nothing any more.
    pub(super) fn weather(&self, weather: Option<Weather>) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, Vec<Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to this call, if anything does.
    fn happening(&self, method: &str) -> Option<Answer> {
        let mut weather = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        let present = weather.as_mut()?;
        let hit = match present.calls {
            Calls::Sends => is_send(method),
            Calls::Looks => is_look(method),
            Calls::All => true,
        };
        if !hit || present.times == 0 {
            return None;
        }
        present.times = present.times.saturating_sub(1);
        Some(present.answer.clone())
    }
}

fn is_send(method: &str) -> bool {
    matches!(method, "sendrawtransaction" | "eth_sendRawTransaction" | "sendTransaction")
}

/// The calls by which the three clients follow a transaction.
fn is_look(method: &str) -> bool {
    matches!(
        method,
        "getSignatureStatuses"
            | "isBlockhashValid"
            | "eth_getTransactionReceipt"
            | "eth_getTransactionByHash"
            | "getrawtransaction"
            | "getmempoolentry"
            | "gettxout"
            | "getblock"
    )
}

/// The signed bytes of a call that sends some.
fn signed_bytes(method: &str, params: &Value) -> Option<Vec<u8>> {
    let text = params.get(0)?.as_str()?;
    match method {
        "sendrawtransaction" => hex::decode(text).ok(),
        "eth_sendRawTransaction" => hex::decode(text.trim_start_matches("0x")).ok(),
        "sendTransaction" => STANDARD.decode(text).ok(),
        _ => None,
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, shared: &Shared) -> Result<(), Failure> {
    let mut buffer = Vec::new();
    loop {
        let Some((head, body)) = request(&mut stream, &mut buffer).await? else { return Ok(()) };
        let call: Value = serde_json::from_slice(&body).unwrap_or_default();
        let method = call.get("method").and_then(Value::as_str).unwrap_or_default();
        let params = call.get("params").cloned().unwrap_or_default();
        if let Some(bytes) = signed_bytes(method, &params) {
            let sent = Sent { at: SystemClock.unix_millis(), bytes, method: method.to_owned(), params };
            shared.sent().push(sent);
        }
        let mut answer = shared.happening(method);
        if let Some(Answer::DoneBut(then)) = answer {
            forward(shared, &head, body.clone()).await?;
            answer = Some(*then);
        }
        let id = call.get("id").cloned().unwrap_or_default();
        match answer {
            None | Some(Answer::DoneBut(_)) => {
                let (status, text) = forward(shared, &head, body).await?;
                write(&mut stream, status, "application/json", &text).await?;
            }
            Some(Answer::Error(code, message)) => {
                let error = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
                write(&mut stream, 200, "application/json", error.to_string().as_bytes()).await?;
            }
            Some(Answer::Html) => {
                write(&mut stream, 502, "text/html", b"<html><h1>502 Bad Gateway</h1></html>").await?;
            }
            Some(Answer::Half) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"jsonrpc\":\"2.0\",\"res").await?;
                return Ok(());
            }
            Some(Answer::Nothing) => return Ok(()),
            Some(Answer::Lost) => {
                // The id that the node would answer isn't looked at.
                let taken = json!({ "jsonrpc": "2.0", "id": id, "result": lost_id(method) });
                write(&mut stream, 200, "application/json", taken.to_string().as_bytes()).await?;
            }
        }
    }
}

/// An id of the right form.
fn lost_id(method: &str) -> String {
    match method {
        "eth_sendRawTransaction" => format!("0x{}", "00".repeat(32)),
        "sendTransaction" => "1".repeat(64),
        _ => "00".repeat(32),
    }
}

/// The head and the body of the next request; none where the connection is done.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<(String, Vec<u8>)>, Failure> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
            let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0_usize);
            let from = end.saturating_add(4);
            let whole = from.saturating_add(length);
            if let Some(body) = buffer.get(from..whole) {
                let body = body.to_vec();
                buffer.drain(..whole);
                return Ok(Some((head, body)));
            }
        }
        if buffer.len() > MAX {
            return Err("a request that is too long".into());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The node's own answer.
async fn forward(shared: &Shared, head: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>), Failure> {
    let mut request = shared.http.post(&shared.target).header("content-type", "application/json").body(body);
    if let Some(authorization) = header(head, "authorization") {
        request = request.header("authorization", authorization);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.bytes().await?.to_vec()))
}

async fn write(stream: &mut TcpStream, status: u16, kind: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}
