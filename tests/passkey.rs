//! Approvals by passkey, end to end: the real binary serves its page, and a browser and an authenticator in software, both by others
//! (1Password's `passkey-rs`), do on it what people's own do.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "support/office.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod office;

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::record::State;
use passkey_authenticator::{Authenticator, UiHint, UserCheck, UserValidationMethod};
use passkey_client::{Client, DefaultClientData};
use passkey_crypto::AvailableBackend;
use passkey_types::Passkey as Credential;
use passkey_types::ctap2::{Aaguid, Ctap2Error};
use passkey_types::webauthn::{CredentialCreationOptions, CredentialRequestOptions};
use public_suffix::PublicSuffixList;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use signer::approval::Decision;
use signer::approval::passkey::Passkey;
use signer::roster::Role;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use self::office::{Member, Office, PATIENCE, PAYEE, Plan, WALLET, word};

const MEMBERS: [Member; 2] = [("trader", Role::Initiator, "tina", &[]), ("pia", Role::Approver, "pia", &["finance"])];

/// A person who touches the authenticator and whom it recognises.
struct Finger;

#[async_trait::async_trait]
impl UserValidationMethod for Finger {
    type PasskeyItem = Credential;

    async fn check_user<'a>(&self, _: UiHint<'a, Credential>, _: bool, _: bool) -> Result<UserCheck, Ctap2Error> {
        Ok(UserCheck { presence: true, verification: true })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}

/// A browser with an authenticator.
struct Browser {
    client: Client<Option<Credential>, Finger, AvailableBackend, PublicSuffixList, ()>,
    http: reqwest::Client,
}

impl Browser {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default(); // another one serves as well
        let authenticator = Authenticator::new(Aaguid::new_empty(), None, Finger, AvailableBackend);
        Self { client: Client::new(authenticator).allows_insecure_localhost(true), http: reqwest::Client::new() }
    }

    /// Opens the page and presses its button. Answers what the page is told of the answer.
    async fn use_page(&mut self, page: &Url) -> StatusCode {
        let html = self.http.get(page.clone()).send().await.unwrap();
        let policy = html.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(html.text().await.unwrap().contains("Use your passkey"));
        let ceremony = self.http.get(page.join("ceremony").unwrap()).send().await.unwrap().text().await.unwrap();
        let ceremony: Value = serde_json::from_str(&ceremony).unwrap();
        let options = json!({ "publicKey": ceremony["publicKey"] });
        let origin = Url::parse(&page.origin().ascii_serialization()).unwrap();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let answer = match ceremony["kind"].as_str().unwrap() {
            "create" => {
                let options: CredentialCreationOptions = serde_json::from_value(options).unwrap();
                let made = self.client.register(&origin, options, DefaultClientData).await.unwrap().response;
                json!({ "clientDataJSON": text(&made.client_data_json), "publicKey": text(&made.public_key.unwrap()) })
            }
            _ => {
                let options: CredentialRequestOptions = serde_json::from_value(options).unwrap();
                let used = self.client.authenticate(&origin, options, DefaultClientData).await.unwrap().response;
                json!({
                    "clientDataJSON": text(&used.client_data_json),
                    "authenticatorData": text(&used.authenticator_data),
                    "signature": text(&used.signature),
                })
            }
        };
        let origin = page.origin().ascii_serialization();
        let answered = self.http.post(page.join("answer").unwrap()).header("origin", origin).body(answer.to_string());
        answered.send().await.unwrap().status()
    }

    /// Makes a passkey with the real program.
    async fn make(&mut self, file: &Path, port: u16) -> Passkey {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("passkey").arg(file).args(["--credential", "pia", "--port", &port.to_string()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (page, _) = page(&mut child).await;
        assert_eq!(self.use_page(&page).await, StatusCode::NO_CONTENT);
        let (told, done) = end(child).await;
        let origin = format!("http://localhost:{port}");
        assert!(done && told.contains(&format!("origins = [\"{origin}\"]")), "{told}");
        Passkey::new(&std::fs::read_to_string(file).unwrap(), "localhost".to_owned(), vec![origin]).unwrap()
    }
}

/// The page that a program serves, and what it printed before.
async fn page(child: &mut Child) -> (Url, String) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut told = String::new();
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(page) = line.trim().strip_prefix("http://localhost:") {
                return Url::parse(&format!("http://localhost:{page}")).unwrap();
            }
            told.push_str(&line);
            told.push('\n');
        }
        panic!("no page: {told}");
    };
    let page = tokio::time::timeout(PATIENCE, read).await.unwrap();
    (page, told)
}

/// What a program prints until it ends, and whether it did what it was for.
async fn end(mut child: Child) -> (String, bool) {
    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).await.unwrap();
    child.stderr.take().unwrap().read_to_string(&mut told).await.unwrap();
    (told, child.wait().await.unwrap().success())
}

/// A port below those that systems give out by themselves, so that it is still free whenever it is bound.
fn free_port() -> u16 {
    let from = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    (from..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

async fn parked(office: &Office, key: &str) -> Value {
    let action = json!({ "kind": "transfer", "asset": "native", "to": PAYEE, "amount": "1000" });
    let intent = json!({ "wallet": WALLET, "action": action });
    let view = office.call("trader", "tx_submit", json!({ "idempotency_key": key, "intent": intent })).await.unwrap();
    assert_eq!(view["state"], "awaiting_approval");
    view["tx_id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_makes_a_passkey_and_approves_by_it_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (file, port) = (dir.path().join("pia.pem"), free_port());
    let mut browser = Browser::new();
    let passkey = browser.make(&file, port).await;

    let rule = json!({ "id": "payee", "wallets": [WALLET], "addresses": [PAYEE], "require": "1 of finance" });
    let plan = Plan { passkeys: [("pia", passkey)].into(), policy: json!({ "rules": [rule] }), ..Plan::new(&MEMBERS) };
    let office = plan.start().await;
    let tx_id = parked(&office, "one").await;
    let name = tx_id.as_str().unwrap();

    // Her key in a file says nothing.
    let (told, done) = office.type_in("pia", &["approve", "sign", name, "--yes"], "").await;
    assert!(!done && told.contains("pia has a passkey, and approves by nothing else"), "{told}");
    let view = office.call("pia", "approval_get", json!({ "tx_id": tx_id })).await.unwrap();
    let by_key = json!({ "tx_id": tx_id, "approval": word("pia", &view, Decision::Approve) });
    let refused = office.call("pia", "approval_submit", by_key).await.unwrap_err();
    assert_eq!(refused["data"]["kind"], "invalid_approval");

    // Nor does another passkey, of the same relying party, made at the same port.
    let at_port = format!("--passkey={port}");
    let mut stranger = Browser::new();
    stranger.make(&dir.path().join("stranger.pem"), port).await;
    let mut child = office.type_to("pia", &["approve", &at_port, "sign", name], "y\n").await;
    let (url, told) = page(&mut child).await;
    assert!(told.contains(&format!("pays to    {PAYEE}")), "what is signed stands in the terminal first: {told}");
    assert_eq!(stranger.use_page(&url).await, StatusCode::NO_CONTENT);
    let (told, done) = end(child).await;
    assert!(!done && told.contains("no passkey of the approver has signed it"), "{told}");
    assert_eq!(office.tx(&tx_id).await.state, State::AwaitingApproval);

    // A page of somebody else's can neither ask nor answer.
    let mut child = office.type_to("pia", &["approve", &at_port, "sign", name], "y\n").await;
    let (url, _) = page(&mut child).await;
    let http = reqwest::Client::new();
    let rebound = http.get(url.clone()).header("host", format!("evil.example:{port}")).send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::FORBIDDEN);
    let answer = url.join("answer").unwrap();
    let foreign = http.post(answer).header("origin", "https://evil.example").body("{}").send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let guessed = http.get(url.join("/ceremony").unwrap()).send().await.unwrap();
    assert_eq!(guessed.status(), StatusCode::NOT_FOUND);

    // Hers, on the page that the program serves.
    assert_eq!(browser.use_page(&url).await, StatusCode::NO_CONTENT);
    let (told, done) = end(child).await;
    assert!(done && told.contains("signed; the payment is"), "{told}");
    assert_eq!(office.ended(&tx_id).await.state, State::Finalized);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_there_and_a_port_that_is_taken_are_told_before_anybody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("there.pem");
    std::fs::write(&there, "mine").unwrap();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (file, port, says) in
        [(there.as_path(), "0", "File exists"), (&dir.path().join("new.pem"), port.as_str(), "no page can be served")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("passkey").arg(file).args(["--credential", "pia", "--port", port]);
        let output = command.output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(says), "{told}");
    }
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "mine");
    assert!(!dir.path().join("new.pem").exists());
}
