//! `portcullis dev`: simulated chains, signers and the gateway in one process, with nothing to set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chains::account::{Account, WalletId};
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::intent::{Action, Intent};
use chains::network::Family;
use chains::rpc::{Auth, RpcClient};
use clap::Args;
use rand_core::{OsRng, RngCore};
use serde_json::{Value, json};
use simulator::clock::SystemClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::{DEMO_TOKEN, EthereumConfig};
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::world::{World, WorldConfig};

use crate::cli::{ConfigArgs, Failure};
use crate::client::GatewayClient;
use crate::config::{Config, SimulatorConfig};
use crate::demo::{self, Payment};
use crate::house::House;
use crate::{credential, serve};

/// What every wallet starts with, in base units: 10 BTC, 100 ETH, 1000 SOL; and of the demo token a million.
const FUNDS: [(Family, &str); 3] =
    [(Family::Bitcoin, "1000000000"), (Family::Ethereum, "100000000000000000000"), (Family::Solana, "1000000000000")];
const TOKENS: &str = "1000000000000";

/// How long the faucet's payments may take to arrive.
const FUNDING: Duration = Duration::from_secs(60);

/// What can be said to `portcullis dev`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Send one payment of each kind, check the balances, and stop.
    #[arg(long)]
    demo: bool,
}

/// Starts everything; then runs the demo, or until it is told to stop.
///
/// # Errors
/// Where something can't start, or the demo's books don't add up.
pub(crate) async fn run(args: DevArgs) -> Result<(), Failure> {
    let mut config = serve::load(&args.config)?;
    let simulator = config.simulator.clone().ok_or("the configuration has no [simulator]; run `portcullis serve`")?;
    let keys = prepare(&config)?;
    println!("data     {}", config.data_dir.display());

    let world = start_world(&config, &simulator).await?;
    let nodes = nodes(&world)?;
    println!("bitcoin  {}", world.bitcoin().url());
    println!("ethereum {}", world.ethereum().url());
    println!("solana   {}", world.solana().url());
    connect(&mut config, &world);

    let house = House::open(&config, &|line| println!("{line}")).await?;
    let url = format!("http://{}", house.addr());
    println!("gateway  {url}");
    let (id, key_file) = keys.first().ok_or("the configuration names no credential")?;
    println!("credential {id}: {}", key_file.display());
    let client = GatewayClient::new(&url, id.clone(), key_file)?.for_audience(config.audience.clone());
    fund(&client, &nodes, house.accounts()).await?;
    for account in house.accounts() {
        show(&client, account).await?;
    }
    let payments = payments(&config, house.accounts());
    let outcome = if args.demo {
        demo::run(&client, &nodes, payments).await
    } else {
        println!("\nready; try, in another terminal:");
        for Payment { title, intent } in &payments {
            println!("  # {title}\n  {}", command(&url, key_file, intent));
        }
        println!("\nCtrl-C stops; the next start goes on from here.");
        serve::stop_signal().await.map_err(Failure::from)
    };
    house.close().await;
    world.shutdown().await;
    outcome
}

/// Makes what a first start lacks: the data folder, the passphrase of the seals, the demo's credentials.
fn prepare(config: &Config) -> Result<Vec<(signer::roster::CredentialId, PathBuf)>, Failure> {
    let passphrase = config.path(&config.signers.passphrase_file);
    if !config.signers.names.is_empty() && !passphrase.exists() {
        let mut random = [0; 32];
        OsRng.fill_bytes(&mut random);
        credential::write_secret(&passphrase, hex::encode(random).as_bytes())?;
    }
    let pairs = config.credentials.iter().map(|entry| {
        let public = config.path(&entry.public_key_file);
        Ok((entry.id.clone(), credential::ensure_pair(&public)?))
    });
    pairs.collect()
}

async fn start_world(config: &Config, simulator: &SimulatorConfig) -> Result<World, Failure> {
    let interval = |millis: u64| Some(Duration::from_millis(millis.max(1)));
    let mut world = WorldConfig {
        dir: Some(config.path(Path::new("simulator"))),
        bitcoin: BitcoinConfig {
            listen: simulator.bitcoin.listen,
            block_interval: interval(simulator.bitcoin.block_interval_ms),
            ..BitcoinConfig::default()
        },
        ethereum: EthereumConfig {
            listen: simulator.ethereum.listen,
            block_interval: interval(simulator.ethereum.block_interval_ms),
            ..EthereumConfig::default()
        },
        solana: SolanaConfig {
            listen: simulator.solana.listen,
            block_interval: interval(simulator.solana.block_interval_ms),
            ..SolanaConfig::default()
        },
        ..WorldConfig::default()
    };
    if let Some(depth) = simulator.ethereum.finality_depth {
        world.ethereum.finality_depth = depth;
    }
    if let Some(depth) = simulator.solana.finality_depth {
        world.solana.finality_depth = u32::try_from(depth)?;
    }
    Ok(World::start(world, Arc::new(SystemClock)).await?)
}

/// Points every network without an endpoint at its simulated node.
fn connect(config: &mut Config, world: &World) {
    for network in config.networks.iter_mut().filter(|network| network.endpoints.is_empty()) {
        let url = match network.id.family() {
            Family::Bitcoin => {
                network.auth_file = world.bitcoin().cookie_file().map(Path::to_owned);
                world.bitcoin().url()
            }
            Family::Ethereum => world.ethereum().url(),
            Family::Solana => world.solana().url(),
        };
        network.endpoints.push(url);
    }
}

fn nodes(world: &World) -> Result<demo::Nodes, Failure> {
    let timeout = Duration::from_secs(30);
    let cookie = world.bitcoin().cookie_file().map_or(Auth::None, |path| Auth::BasicFile(path.to_owned()));
    Ok(demo::Nodes {
        bitcoin: RpcClient::new(&world.bitcoin().url(), cookie, timeout)?,
        ethereum: RpcClient::new(&world.ethereum().url(), Auth::None, timeout)?,
        solana: RpcClient::new(&world.solana().url(), Auth::None, timeout)?,
    })
}

/// The native coin of an account's chain, and the demo token where there is one.
fn assets(account: &Account) -> Vec<Asset> {
    match account.network().family() {
        Family::Bitcoin => vec![Asset::Native],
        Family::Ethereum => vec![Asset::Native, Asset::Erc20(DEMO_TOKEN)],
        Family::Solana => vec![Asset::Native, Asset::Spl(SolanaNode::demo_mint())],
    }
}

/// Gives every wallet that has nothing something to pay with, and waits until it is there.
async fn fund(client: &GatewayClient, nodes: &demo::Nodes, accounts: &[Account]) -> Result<(), Failure> {
    let mut awaited = Vec::new();
    for account in accounts {
        let family = account.network().family();
        for asset in assets(account) {
            if !demo::wallet_balance(client, account.wallet(), asset).await?.is_zero() {
                continue;
            }
            let native = FUNDS.iter().find(|(known, _)| *known == family).map_or("0", |(_, amount)| *amount);
            let amount = if asset == Asset::Native { native } else { TOKENS };
            let node = match family {
                Family::Bitcoin => &nodes.bitcoin,
                Family::Ethereum => &nodes.ethereum,
                Family::Solana => &nodes.solana,
            };
            let _: Value = match asset {
                Asset::Native => node.call("sim_fund", json!([account.address(), amount])).await?,
                Asset::Erc20(token) => node.call("sim_fund", json!([account.address(), amount, token])).await?,
                Asset::Spl(mint) => node.call("sim_fund", json!([account.address(), amount, mint.to_string()])).await?,
            };
            awaited.push((account.wallet(), asset));
        }
    }
    let arrival = async {
        for (wallet, asset) in awaited {
            while demo::wallet_balance(client, wallet, asset).await?.is_zero() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    };
    tokio::time::timeout(FUNDING, arrival).await.map_err(|_| "the faucet's payments don't arrive")?
}

async fn show(client: &GatewayClient, account: &Account) -> Result<(), Failure> {
    let mut balances = Vec::new();
    for asset in assets(account) {
        let balance = demo::wallet_balance(client, account.wallet(), asset).await?;
        balances.push(format!("{balance} {asset}"));
    }
    println!("wallet   {} {}  {}", account.wallet(), account.address(), balances.join(", "));
    Ok(())
}

/// One payment of each kind, to the first payee that the policy lists for the wallet and the asset.
fn payments(config: &Config, accounts: &[Account]) -> Vec<Payment> {
    let kinds = accounts.iter().flat_map(|account| {
        assets(account).into_iter().map(move |asset| {
            let segwit = account.address().to_string().starts_with("bcrt1q");
            let (title, amount) = match (account.network().family(), asset) {
                (Family::Bitcoin, _) if segwit => ("Bitcoin from P2WPKH", Amount::from_sat(150_000)),
                (Family::Bitcoin, _) => ("Bitcoin from P2TR", Amount::from_sat(250_000)),
                (Family::Ethereum, Asset::Native) => ("Ether", Amount::from_wei(1_000_000_000_000_000)),
                (Family::Ethereum, _) => ("ERC-20", Amount::from_wei(2_500_000)),
                (Family::Solana, Asset::Native) => ("SOL", Amount::from_lamports(50_000_000)),
                (Family::Solana, _) => ("SPL token", Amount::from_lamports(1_250_000)),
            };
            (title, account.wallet().clone(), asset, amount)
        })
    });
    kinds
        .filter_map(|(title, wallet, asset, amount)| {
            let to = payee(config, &wallet, asset)?;
            let action = Action::Transfer { asset, to, amount };
            Some(Payment { title, intent: Intent { wallet, action, max_fee: None, reference: None } })
        })
        .collect()
}

fn payee(config: &Config, wallet: &WalletId, asset: Asset) -> Option<UncheckedAddress> {
    let rule = config.policy.rules.iter().find(|rule| {
        rule.wallets.contains(wallet)
            && rule.assets.as_ref().map_or(asset == Asset::Native, |assets| assets.contains(&asset))
    });
    rule?.addresses.first().cloned()
}

/// The command that asks for the same.
fn command(url: &str, key_file: &Path, intent: &Intent) -> String {
    let Action::Transfer { asset, to, amount } = &intent.action else { return String::new() };
    let program = std::env::current_exe().map_or_else(|_| "portcullis".to_owned(), |path| path.display().to_string());
    let asset = if *asset == Asset::Native { String::new() } else { format!(" --asset {asset}") };
    format!("{program} tx send {} {to} {amount}{asset} --watch --url {url} --key {}", intent.wallet, key_file.display())
}
