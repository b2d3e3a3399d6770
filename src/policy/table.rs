//! `portcullis policy table`: what a policy says of a Solana lookup table, as nodes tell it.
//!
//! What is printed is what signers go by from then on. So it is read from final blocks, and every node that is named has to tell
//! the same.

use std::time::Duration;

use chains::address::{Address, UncheckedAddress};
use chains::network::Network;
use chains::rpc::{Auth, RpcClient};
use chains::solana::{Options, SolanaClient, table_digest};
use clap::Args;

use crate::cli::Failure;

/// How long a node may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which table, and who is asked.
#[derive(Debug, Args)]
pub(super) struct TableArgs {
    /// The table's address.
    address: String,
    /// A node's RPC endpoint; named several times, all of them have to tell the same.
    #[arg(long = "node", required = true)]
    nodes: Vec<String>,
    /// The cluster.
    #[arg(long, default_value = "solana:mainnet-beta")]
    network: Network,
    /// How many entries may be read, from the first on; all that there are, if left out.
    #[arg(long)]
    length: Option<u16>,
}

/// Prints the lines, with the entries beside them.
///
/// # Errors
/// Where there is no such table, it is being given up, or nodes tell different things of it.
pub(super) async fn run(args: TableArgs) -> Result<(), Failure> {
    let Network::Solana(cluster) = args.network else { return Err("lookup tables are on Solana".into()) };
    let address = UncheckedAddress::new(args.address).require_network(args.network)?;
    let Address::Solana(table) = address else { return Err("the address isn't of Solana".into()) };
    let mut told: Option<(Vec<_>, [u8; 32])> = None;
    for url in &args.nodes {
        let client = SolanaClient::new(RpcClient::new(url, Auth::None, PATIENCE)?, cluster, Options::default());
        let mut entries = client.lookup_table(table).await?;
        // The first node says how many there are; one that has seen the table grow since is cut to that.
        let length = args.length.map(usize::from).or(told.as_ref().map(|(first, _)| first.len()));
        let length = length.unwrap_or(entries.len());
        let digest = table_digest(&entries, length).filter(|_| length > 0);
        let digest = digest.ok_or_else(|| format!("{url} tells of {} entries, not of {length}", entries.len()))?;
        entries.truncate(length);
        if told.as_ref().is_some_and(|(_, first)| *first != digest) {
            return Err(format!("{url} tells of other entries than the nodes before it; don't use any").into());
        }
        told = Some((entries, digest));
    }
    let (entries, digest) = told.ok_or("name a node: --node")?;
    println!("# lookup table {table}, as {} of your nodes tell it by final blocks:", args.nodes.len());
    for (place, entry) in entries.iter().enumerate() {
        println!("#   {place:>3}  {entry}");
    }
    println!("[[policy.lookup_tables]]");
    println!("address = \"{table}\"\nnetwork = \"{}\"", args.network);
    println!("length = {}\nsha256 = \"{}\"", entries.len(), hex::encode(digest));
    Ok(())
}
