//! `portcullis sim up`: the simulated chains alone, for any client, until they are told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rand_core::{OsRng, RngCore};
use simulator::clock::SystemClock;
use simulator::cluster::Commands as _;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::{DEMO_TOKEN, EthereumConfig};
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::seed::Seed;
use simulator::world::{NodeCounts, World, WorldConfig};

use crate::cli::Failure;
use crate::load::length;
use crate::serve;

/// Which nodes, and where.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// How many nodes each chain has. The first listens at the chain's port, the others at the next ones.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// What all chance comes from; made up and printed, if left out.
    #[arg(long)]
    seed: Option<Seed>,
    /// Where the nodes keep their state; nothing outlives the process, and Bitcoin takes any credentials, if left out.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The address that all ports are of.
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    host: Ipv4Addr,
    /// The first Bitcoin node's port; 0 for any free ones.
    #[arg(long, default_value_t = 18_443)]
    bitcoin_port: u16,
    /// The first Ethereum node's port.
    #[arg(long, default_value_t = 18_545)]
    ethereum_port: u16,
    /// The first Solana node's port.
    #[arg(long, default_value_t = 18_899)]
    solana_port: u16,
    /// The port that answers `sim_*` for the whole world.
    #[arg(long, default_value_t = 18_000)]
    control_port: u16,
    /// The time between Bitcoin blocks.
    #[arg(long, default_value = "5s", value_parser = length)]
    bitcoin_interval: Duration,
    /// The time between Ethereum blocks.
    #[arg(long, default_value = "2s", value_parser = length)]
    ethereum_interval: Duration,
    /// The time between Solana slots.
    #[arg(long, default_value = "400ms", value_parser = length)]
    solana_interval: Duration,
}

/// Starts the nodes and waits until it is told to stop.
///
/// # Errors
/// Where one doesn't start.
pub(super) async fn run(args: UpArgs) -> Result<(), Failure> {
    let seed = args.seed.unwrap_or_else(|| Seed(OsRng.next_u64()));
    let at = |port: u16| SocketAddr::from((args.host, port));
    let config = WorldConfig {
        dir: args.dir.clone(),
        seed,
        nodes: NodeCounts { bitcoin: args.nodes, ethereum: args.nodes, solana: args.nodes },
        control: Some(at(args.control_port)),
        bitcoin: BitcoinConfig {
            listen: at(args.bitcoin_port),
            block_interval: Some(args.bitcoin_interval),
            ..BitcoinConfig::default()
        },
        ethereum: EthereumConfig {
            listen: at(args.ethereum_port),
            block_interval: Some(args.ethereum_interval),
            ..EthereumConfig::default()
        },
        solana: SolanaConfig {
            listen: at(args.solana_port),
            block_interval: Some(args.solana_interval),
            ..SolanaConfig::default()
        },
        ..WorldConfig::default()
    };
    let world = World::start(config, Arc::new(SystemClock)).await?;
    for (number, node) in (0_u32..).zip(world.bitcoin_nodes().nodes()) {
        println!("bitcoin/{number}   {}  {}", node.url(), credentials(node.cookie_file()));
    }
    for (number, url) in (0_u32..).zip(world.ethereum_nodes().urls()) {
        println!("ethereum/{number}  {url}");
    }
    for (number, url) in (0_u32..).zip(world.solana_nodes().urls()) {
        println!("solana/{number}    {url}");
    }
    println!("token       {DEMO_TOKEN} (ERC-20), {} (SPL)", SolanaNode::demo_mint());
    println!("control     {}", world.control_url().unwrap_or_default());
    println!("seed        {seed}");
    println!("\nsim_fund at any node gives coins, sim_addFault at the control port makes trouble; Ctrl-C stops.");
    serve::stop_signal().await?;
    world.shutdown().await;
    Ok(())
}

/// A Bitcoin node's user and password, as `bitcoin-cli` is given them.
fn credentials(cookie: Option<&std::path::Path>) -> String {
    let text = cookie.and_then(|file| std::fs::read_to_string(file).ok());
    match text.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, password)) => format!("user {user}, password {password}"),
        None => "any user and password".to_owned(),
    }
}
