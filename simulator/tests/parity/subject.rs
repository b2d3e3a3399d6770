//! A node under test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long a real node may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a node refuses a call with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Value,
}

/// A node, as its clients reach it.
pub(crate) struct Subject {
    url: String,
    credentials: Option<(String, String)>,
    http: reqwest::Client,
}

impl Subject {
    pub(crate) fn new(url: &str) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { url: url.to_owned(), credentials: None, http: reqwest::Client::new() }
    }

    /// The same node, asked with a user name and a password.
    pub(crate) fn with_credentials(self, cookie: &str) -> Self {
        let (user, password) = cookie.split_once(':').unwrap();
        Self { credentials: Some((user.to_owned(), password.to_owned())), ..self }
    }

    /// The raw answer to a body, with its HTTP status.
    pub(crate) async fn post(&self, body: &str) -> (u16, Value) {
        let mut request = self.http.post(&self.url).header("content-type", "application/json").body(body.to_owned());
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    /// What comes of a call.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, Refusal> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (_, mut answer) = self.post(&body.to_string()).await;
        match answer.get_mut("error").filter(|error| !error.is_null()) {
            None => Ok(answer.get_mut("result").unwrap_or_else(|| panic!("{method} has no result")).take()),
            Some(error) => Err(Refusal {
                code: error["code"].as_i64().unwrap(),
                message: error["message"].as_str().unwrap().to_owned(),
                data: error["data"].take(),
            }),
        }
    }

    /// The result of a call that must succeed.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        self.call(method, params.clone()).await.unwrap_or_else(|refusal| panic!("{method} {params}: {refusal:?}"))
    }

    /// The result of a call that must succeed, of a type.
    pub(crate) async fn get<T: DeserializeOwned>(&self, method: &str, params: Value) -> T {
        serde_json::from_value(self.ask(method, params).await).unwrap()
    }

    /// The refusal of a call that must fail.
    pub(crate) async fn refused(&self, method: &str, params: Value) -> Refusal {
        match self.call(method, params.clone()).await {
            Err(refusal) => refusal,
            Ok(answer) => panic!("{method} {params} was answered {answer}"),
        }
    }
}

/// A real node's process, killed when the test ends.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it and waits for a line of its standard output with `part` in it.
    pub(crate) fn start(command: &mut Command, part: &'static str) -> (Self, String) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let output = child.stdout.take().expect("its output is piped");
        let process = Self(child);
        let (send, line) = mpsc::channel();
        std::thread::spawn(move || {
            // It is read to its end, so that the program never waits for a reader.
            for line in BufReader::new(output).lines().map_while(Result::ok).filter(|line| line.contains(part)) {
                let _ = send.send(line);
            }
        });
        let line = line.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the program says no {part:?}"));
        (process, line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
