//! WebSockets: the same calls as by POST, and notifications of what a connection has subscribed to.
//!
//! A dialect that has subscriptions gives each connection a [`Session`]. Calls of one connection are answered side by side, so that one
//! which a fault holds up holds up no other; the answer to a subscription is sent before its first notification.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use serde_json::{Value, json};

use super::listener::Connection;
use super::{
    BreakOff, Dialect, Framing, INVALID_REQUEST, JsonRpcVersion, MAX_BODY, PARSE_ERROR, RpcError, Served, execute,
};

/// The subscriptions of one connection.
pub trait Session: Send + Sync + 'static {
    /// Answers a call that begins or ends a subscription. `None` where the method is none of these: the dialect answers it.
    fn call<'a>(&'a self, method: &'a str, params: &'a Value) -> BoxFuture<'a, Option<Result<Value, RpcError>>>;

    /// Waits for what the client is to be told next. It is called again when it has returned, never twice at once.
    fn next(&self) -> BoxFuture<'_, Vec<Notification>>;
}

/// What a client is told without having asked in this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The notification's method, such as `eth_subscription`.
    pub method: &'static str,
    /// Its parameters.
    pub params: Value,
}

impl Notification {
    fn text(&self) -> String {
        json!({ "jsonrpc": "2.0", "method": self.method, "params": self.params }).to_string()
    }
}

/// A dialect with one connection's subscriptions before it.
struct Spoken<D> {
    dialect: Arc<D>,
    session: Arc<dyn Session>,
}

impl<D: Dialect> Dialect for Spoken<D> {
    const VERSION: JsonRpcVersion = D::VERSION;

    async fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        match self.session.call(method, params).await {
            Some(answer) => answer,
            None => self.dialect.call(method, params).await,
        }
    }

    async fn call_behind(&self, method: &str, params: &Value, blocks: u32) -> Result<Value, RpcError> {
        self.dialect.call_behind(method, params, blocks).await
    }

    fn lie(&self, method: &str, params: &Value) -> Option<Result<Value, RpcError>> {
        self.dialect.lie(method, params)
    }
}

/// Takes a connection over from HTTP.
pub(super) fn upgrade<D: Dialect>(
    upgrade: WebSocketUpgrade,
    served: &Served<D>,
    session: Arc<dyn Session>,
    connection: Connection,
) -> Response {
    let spoken = Spoken { dialect: Arc::clone(&served.dialect), session: Arc::clone(&session) };
    let served = Served { dialect: Arc::new(spoken), gate: served.gate.clone(), stop: served.stop.clone() };
    let upgrade = upgrade.max_message_size(MAX_BODY).max_frame_size(MAX_BODY);
    upgrade.on_upgrade(async move |socket| {
        if let Err(BreakOff) = talk(&served, &*session, socket).await {
            connection.break_off();
        }
    })
}

/// Answers and notifies until the client hangs up or the node stops.
async fn talk<D: Dialect>(served: &Served<D>, session: &dyn Session, mut socket: WebSocket) -> Result<(), BreakOff> {
    let mut answers: FuturesUnordered<BoxFuture<'_, Result<Option<String>, BreakOff>>> = FuturesUnordered::new();
    let mut news = session.next();
    loop {
        let said = tokio::select! {
            // An answer before the notifications that it brings about.
            biased;
            () = served.stop.cancelled() => return Ok(()),
            Some(answered) = answers.next() => answered?.into_iter().collect(),
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    answers.push(Box::pin(answer(served, text.as_bytes().to_vec())));
                    continue;
                }
                Some(Ok(Message::Binary(bytes))) => {
                    answers.push(Box::pin(answer(served, bytes.to_vec())));
                    continue;
                }
                // Pings are answered below this layer.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            },
            told = &mut news => {
                news = session.next();
                told.iter().map(Notification::text).collect::<Vec<_>>()
            }
        };
        for text in said {
            let sent = tokio::select! {
                sent = socket.send(Message::text(text)) => sent,
                () = served.stop.cancelled() => return Ok(()),
            };
            if sent.is_err() {
                return Ok(());
            }
        }
    }
}

/// The answer to one message: none where it holds nothing but notifications.
async fn answer<D: Dialect>(served: &Served<D>, message: Vec<u8>) -> Result<Option<String>, BreakOff> {
    let unread = |error| Some(Framing::unknown::<D>().body(&Value::Null, Err(error)).to_string());
    let requests = match serde_json::from_slice::<Value>(&message) {
        Ok(Value::Array(requests)) if requests.is_empty() => {
            return Ok(unread(RpcError::new(INVALID_REQUEST, "empty batch")));
        }
        Ok(Value::Array(requests)) => requests,
        Ok(request) => {
            let (framing, id, result) = execute(served, request).await?;
            return Ok(id.map(|id| framing.body(&id, result).to_string()));
        }
        Err(_) => return Ok(unread(RpcError::new(PARSE_ERROR, "parse error"))),
    };
    let mut answers = Vec::new();
    for request in requests {
        let (framing, id, result) = execute(served, request).await?;
        answers.extend(id.map(|id| framing.body(&id, result)));
    }
    Ok((!answers.is_empty()).then(|| Value::Array(answers).to_string()))
}
