//! Passkeys (W3C Web Authentication) in the person's own browser, on a page that this program serves on loopback for as long as it takes.
//!
//! The relying party is `localhost`, and the origin `http://localhost:PORT`: browsers treat it as a secure context, no server of
//! anybody's stands between the person and the authenticator, and what is signed is made on this machine. The page's path is a secret of
//! one run, so that no other page can ask or answer for it.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use ed25519_dalek::pkcs8::spki::der::pem::{self, LineEnding};
use rand_core::{OsRng, RngCore as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use signer::approval::passkey::{Assertion, Passkey};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cli::Failure;

/// The page's port, unless another is named.
pub(super) const PORT: &str = "8647";
/// The relying party of every passkey that is made and used here.
const RELYING_PARTY: &str = "localhost";
/// How long the person may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// COSE's number of ECDSA on P-256 with SHA-256 (RFC 9053, section 2.1).
const ES256: i32 = -7;

const PAGE: &str = include_str!("passkey.html");
const SCRIPT: &str = include_str!("passkey.js");
/// The page loads its own script, and nothing else from anywhere.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; \
                              frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Whose passkey is made, and where its public key goes.
#[derive(Debug, Args)]
pub(crate) struct PasskeyArgs {
    /// The public key's file, PEM, for the roster of the gateway and of every signer.
    public_key_file: PathBuf,
    /// What the authenticator is to call it: the name of your credential.
    #[arg(long, env = "PORTCULLIS_CREDENTIAL")]
    credential: String,
    /// The page's port. A passkey is used from the port that it was made at.
    #[arg(long, default_value = PORT)]
    port: u16,
}

/// What the page does: `navigator.credentials.create` or `get`, with options in the standard's own JSON form (sections 5.4 and 5.5).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ceremony {
    about: String,
    kind: &'static str,
    public_key: Value,
}

/// The answer to `create`; binary members are base64url.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Made {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    /// A SubjectPublicKeyInfo, DER: `AuthenticatorAttestationResponse.getPublicKey()`.
    public_key: String,
}

/// The answer to `get`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Used {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    signature: String,
}

/// The members of a browser's client data that say what it answers (section 5.8.1).
#[derive(Debug, Deserialize)]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
}

/// Makes a passkey and writes its public key. Prints what the roster says of it.
///
/// # Errors
/// Where the file is there, or the person doesn't make one.
pub(crate) async fn make(args: PasskeyArgs) -> Result<(), Failure> {
    let PasskeyArgs { public_key_file, credential, port } = args;
    // Tried first: nobody is asked for a passkey that can't be kept. Whoever breaks off leaves no file behind.
    drop(create(&public_key_file)?);
    std::fs::remove_file(&public_key_file)?;
    let (pem, origin) = made(&credential, port).await?;
    create(&public_key_file)?.write_all(pem.as_bytes())?;
    let name = public_key_file.display().to_string();
    println!("written  {name}; in the roster of the gateway and of every signer, beside the credential {credential}:");
    println!(
        "passkeys = [{{ public_key_file = {name:?}, relying_party = \"{RELYING_PARTY}\", origins = [\"{origin}\"] }}]"
    );
    Ok(())
}

/// A file that wasn't there.
fn create(path: &Path) -> Result<File, Failure> {
    File::create_new(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The public key in PEM, and the origin at which it was made.
async fn made(credential: &str, port: u16) -> Result<(String, String), Failure> {
    let challenge = random();
    let ceremony = Ceremony {
        about: format!("make a passkey for the approvals of {credential}"),
        kind: "create",
        public_key: json!({
            "rp": { "id": RELYING_PARTY, "name": "Portcullis" },
            "user": { "id": random(), "name": credential, "displayName": credential },
            "challenge": challenge,
            "pubKeyCredParams": [{ "type": "public-key", "alg": ES256 }],
            "authenticatorSelection": {
                "residentKey": "required", "requireResidentKey": true, "userVerification": "required",
            },
            "attestation": "none",
            "timeout": u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX),
        }),
    };
    let (made, origin): (Made, _) = converse(port, &ceremony).await?;
    let client: ClientData = serde_json::from_slice(&unbase64(&made.client_data)?)?;
    if (client.r#type.as_str(), &client.challenge, &client.origin) != ("webauthn.create", &challenge, &origin) {
        return Err("the browser answers another request; no passkey was taken".into());
    }
    let pem = pem::encode_string("PUBLIC KEY", LineEnding::LF, &unbase64(&made.public_key)?)
        .map_err(|error| format!("the browser tells no public key: {error}"))?;
    Passkey::new(&pem, RELYING_PARTY.to_owned(), vec![origin.clone()])?;
    Ok((pem, origin))
}

/// Has a passkey sign a challenge. `about` says in a line what is signed.
///
/// # Errors
/// Where the port is taken, or the person doesn't use one. Whose passkey it is, the gateway and the signers say.
pub(super) async fn sign(port: u16, challenge: [u8; 32], about: &str) -> Result<Assertion, Failure> {
    let ceremony = Ceremony {
        about: about.to_owned(),
        kind: "get",
        public_key: json!({
            "rpId": RELYING_PARTY,
            "challenge": URL_SAFE_NO_PAD.encode(challenge),
            "userVerification": "required",
            "timeout": u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX),
        }),
    };
    let (used, _): (Used, _) = converse(port, &ceremony).await?;
    Ok(Assertion {
        authenticator_data: unbase64(&used.authenticator_data)?,
        client_data: unbase64(&used.client_data)?,
        signature: unbase64(&used.signature)?,
    })
}

/// The page of one ceremony.
struct Desk {
    /// `localhost:PORT`, as browsers name it.
    host: String,
    ceremony: String,
    answers: mpsc::Sender<Bytes>,
}

/// Serves the page until it is answered. Answers also the page's origin.
async fn converse<A: DeserializeOwned>(port: u16, ceremony: &Ceremony) -> Result<(A, String), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("no page can be served at port {port} of this machine: {error}"))?;
    let host = format!("{RELYING_PARTY}:{}", listener.local_addr()?.port());
    let (origin, path) = (format!("http://{host}"), random());
    let (answers, mut answered) = mpsc::channel(1);
    let desk = Arc::new(Desk { host, ceremony: serde_json::to_string(ceremony)?, answers });
    println!(
        "\n{}: open this page in your browser, within {} minutes\n  {origin}/{path}/",
        ceremony.about,
        PATIENCE.as_secs() / 60
    );
    std::io::stdout().flush()?;

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, pages(&path, desk)).with_graceful_shutdown(async {
        let _ = stopped.await; // given up is stopped as well
    });
    let serving = tokio::spawn(server.into_future());
    let answer = tokio::time::timeout(PATIENCE, answered.recv()).await;
    let _ = stop.send(()); // a server that has ended needs no word
    let answer = answer.ok().flatten().ok_or("nobody has used a passkey; nothing was signed")?;
    // The page gets its last answer before this program ends.
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    Ok((serde_json::from_slice(&answer)?, origin))
}

fn pages(path: &str, desk: Arc<Desk>) -> Router {
    let text =
        |content_type: &'static str, body: &'static str| async move { ([(header::CONTENT_TYPE, content_type)], body) };
    Router::new()
        .route(&format!("/{path}/"), get(move || text("text/html; charset=utf-8", PAGE)))
        .route(&format!("/{path}/page.js"), get(move || text("text/javascript; charset=utf-8", SCRIPT)))
        .route(&format!("/{path}/ceremony"), get(ceremony))
        .route(&format!("/{path}/answer"), post(answer))
        .layer(middleware::from_fn_with_state(Arc::clone(&desk), guard))
        .with_state(desk)
}

/// Only a page under this very name is served: another name that leads here is somebody else's page (DNS rebinding).
async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let of = |headers: &HeaderMap, name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let host = of(request.headers(), header::HOST);
    let foreign = of(request.headers(), header::ORIGIN).is_some_and(|origin| origin != format!("http://{}", desk.host));
    if host.as_ref() != Some(&desk.host) || foreign {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

async fn ceremony(State(desk): State<Arc<Desk>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], desk.ceremony.clone()).into_response()
}

async fn answer(State(desk): State<Arc<Desk>>, body: Bytes) -> StatusCode {
    match desk.answers.try_send(body) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::CONFLICT, // answered already
    }
}

/// 32 random bytes, base64url.
fn random() -> String {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unbase64(text: &str) -> Result<Vec<u8>, Failure> {
    URL_SAFE_NO_PAD.decode(text).map_err(|error| format!("the browser's answer can't be read: {error}").into())
}
