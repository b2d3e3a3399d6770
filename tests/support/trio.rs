//! Three signers in a folder, two of whom sign, under keys that a test knows; and the calls that members of its roster sign.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use signer::pool::{ImportedKey, KeySpec, Pool, PoolConfig, SchemeId, SignerConfig};
use signer::request::SignedRequest;
use signer::seal::software::SoftwareSeal;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long a call's token holds, in seconds.
const TOKEN_SECONDS: u64 = 60;

/// Where the three are.
pub fn config(dir: &Path, names: [&str; 3]) -> PoolConfig {
    let passphrase = dir.join("passphrase");
    std::fs::write(&passphrase, "a passphrase for tests").unwrap();
    let seal = Arc::new(SoftwareSeal::open_or_create(&dir.join("seal"), &passphrase).unwrap());
    let signer = |name: &str| SignerConfig { id: name.parse().unwrap(), dir: dir.join(name), seal: seal.clone() };
    let signers = names.map(signer).to_vec();
    PoolConfig { threshold: 2, signers, deadline: PATIENCE, round_timeout: PATIENCE }
}

pub async fn start(dir: &Path) -> Pool {
    Pool::start(config(dir, ["a", "b", "c"])).await.unwrap()
}

/// The key `ecdsa`, always the same.
pub async fn import_ecdsa(pool: &Pool) {
    let key = KeySpec { key: "ecdsa".parse().unwrap(), scheme: SchemeId::Ecdsa };
    let secret = ImportedKey::Secp256k1 { secret: [7; 32].into(), chain_code: None };
    pool.import(&key, secret, |_| ()).await.unwrap();
}

/// The key `ed25519` of this seed.
pub async fn import_ed25519(pool: &Pool, seed: [u8; 32]) {
    let key = KeySpec { key: "ed25519".parse().unwrap(), scheme: SchemeId::Ed25519 };
    pool.import(&key, ImportedKey::Ed25519Seed(seed.into()), |_| ()).await.unwrap();
}

/// A gateway's answer to a call that `who` signs at `now`, in seconds since the Unix epoch.
pub async fn call(
    http: &reqwest::Client,
    url: &str,
    (who, key): (&str, &SigningKey),
    now: u64,
    method: &str,
    params: Value,
) -> Result<Value, Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let jti = uuid::Uuid::now_v7().to_string();
    let signed = SignedRequest::sign(key, &who.parse().unwrap(), "/", &jti, now, TOKEN_SECONDS, body.into_bytes());
    let request = http.post(url).header("content-type", "application/json");
    let request = request.bearer_auth(signed.token).body(signed.body);
    let answer = request.send().await.unwrap().text().await.unwrap();
    let mut answer: Value = serde_json::from_str(&answer).unwrap();
    match answer.get_mut("error") {
        Some(error) => Err(error.take()),
        None => Ok(answer["result"].take()),
    }
}
