//! Unmodified clients drive the simulated nodes: ethers and viem with solc, `cast`, web3.py; python-bitcoinlib and `bitcoin-cli`;
//! `@solana/kit`, `@solana/web3.js`, and solana-py with solders. What has subscriptions hears by WebSocket, too.
//!
//! `tests/run` installs them, names the folders in the environment and runs this file; the scripts are in `tests/clients`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use simulator::clock::SystemClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::{DEMO_TOKEN, EthereumConfig};
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::world::{World, WorldConfig};
use tokio::process::Command;

/// How long a client may take: its start on a busy machine, and some dozen blocks.
const PATIENCE: Duration = Duration::from_secs(240);

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn folder(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("tests/run installs the clients and names them in {variable}"))
}

/// A world whose blocks come quickly where clients wait for them, and when they are asked for on Bitcoin.
async fn world(dir: &Path) -> World {
    start(config(dir)).await
}

fn config(dir: &Path) -> WorldConfig {
    WorldConfig {
        bitcoin: BitcoinConfig { dir: Some(dir.to_owned()), ..BitcoinConfig::default() },
        ethereum: EthereumConfig {
            block_interval: Some(Duration::from_millis(200)),
            finality_depth: 2,
            ..EthereumConfig::default()
        },
        solana: SolanaConfig { block_interval: Some(Duration::from_millis(100)), ..SolanaConfig::default() },
        ..WorldConfig::default()
    }
}

async fn start(config: WorldConfig) -> World {
    World::start(config, Arc::new(SystemClock)).await.unwrap()
}

/// Runs a client to its end, which says that it is done.
async fn run(command: &mut Command) {
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("the client comes to an end").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains(": done"), "{text}");
}

async fn node(script: &str, args: &[impl AsRef<OsStr>]) {
    let modules = Path::new(&folder("PORTCULLIS_NODE_CLIENTS")).join("node_modules");
    // The system's, unless tests/run has had to install a later one.
    let program = std::env::var("PORTCULLIS_NODE").unwrap_or_else(|_| "node".to_owned());
    run(Command::new(program).env("NODE_PATH", modules).arg(file("tests/clients").join(script)).args(args)).await;
}

async fn python(script: &str, args: &[impl AsRef<OsStr>]) {
    let packages = folder("PORTCULLIS_PYTHON_CLIENTS");
    let script = file("tests/clients").join(script);
    run(Command::new("python3").env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").arg(script).args(args))
        .await;
}

async fn shell(script: &str, args: &[impl AsRef<OsStr>]) {
    run(Command::new("bash").arg(file("tests/clients").join(script)).args(args)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ethers and solc; tests/run installs and names them"]
async fn ethers_deploys_and_calls_what_solc_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    node("ethers.cjs", &[world.ethereum().url()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ethers; tests/run installs and names it"]
async fn ethers_hears_of_ethereum() {
    let dir = tempfile::tempdir().unwrap();
    // Blocks when the client asks for them: it counts them.
    let ethereum = EthereumConfig { block_interval: None, ..EthereumConfig::default() };
    let world = start(WorldConfig { ethereum, ..config(dir.path()) }).await;
    node("ethers_socket.cjs", &[world.ethereum().url().replace("http:", "ws:"), DEMO_TOKEN.to_string()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs viem and solc; tests/run installs and names them"]
async fn viem_drives_ethereum_and_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let url = world.ethereum().url();
    node("viem.cjs", &[url.clone(), url.replace("http:", "ws:")]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cast; tests/run installs and names it"]
async fn cast_drives_ethereum() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    folder("PORTCULLIS_CAST");
    shell("cast", &[world.ethereum().url(), DEMO_TOKEN.to_string()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs web3.py; tests/run installs and names it"]
async fn web3_py_drives_ethereum() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let token = file("simulator/assets/DemoToken.bin");
    python("web3py.py", &[OsStr::new(&world.ethereum().url()), token.as_os_str()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python-bitcoinlib; tests/run installs and names it"]
async fn python_bitcoinlib_drives_bitcoin() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let bitcoin = world.bitcoin();
    let cookie = std::fs::read_to_string(bitcoin.cookie_file().unwrap()).unwrap();
    python("bitcoinlib.py", &[bitcoin.url().replace("http://", &format!("http://{cookie}@"))]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bitcoin-cli; `just parity` builds and names it"]
async fn bitcoin_cli_drives_bitcoin() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    folder("PORTCULLIS_BITCOIND");
    let bitcoin = world.bitcoin();
    let url = bitcoin.url();
    let port = url.rsplit(':').next().unwrap();
    shell("bitcoin-cli", &[OsStr::new(port), bitcoin.cookie_file().unwrap().as_os_str()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs @solana/kit; tests/run installs and names it"]
async fn kit_drives_solana() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    node("kit.cjs", &[world.solana().url()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs @solana/kit; tests/run installs and names it"]
async fn kit_hears_of_solana() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    node("kit_socket.cjs", &[world.solana().url(), world.solana().websocket_url()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs @solana/web3.js; tests/run installs and names it"]
async fn web3_js_drives_solana() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    node("web3js.cjs", &[world.solana().url()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs @solana/web3.js; tests/run installs and names it"]
async fn web3_js_hears_of_solana() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    node("web3js_socket.cjs", &[world.solana().url(), world.solana().websocket_url()]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs solana-py and solders; tests/run installs and names them"]
async fn solana_py_drives_solana() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    python("solanapy.py", &[world.solana().url(), SolanaNode::demo_mint().to_string()]).await;
    world.shutdown().await;
}
