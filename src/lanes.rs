//! A configured network as the pipeline's lane: the chain, and a client of each of its nodes.

use std::sync::Arc;

use chains::account::Account;
use chains::address::Address;
use chains::bitcoin::{Bitcoin, BitcoinClient};
use chains::client::Client;
use chains::ethereum::{BasisPoints, Ethereum, EthereumClient, Finality};
use chains::network::Network;
use chains::rpc::{Auth, RpcClient, RpcError};
use chains::solana::{Solana, SolanaClient};
use chains::{bitcoin, ethereum, solana};
use gateway::config::NetworkConfig;
use gateway::lane::{Lane, NodeLane};
use gateway::nodes::Nodes;
use gateway::store::Store;

use crate::cli::Failure;

/// Makes the lane. Nothing is asked of the nodes yet: they may come up later.
///
/// # Errors
/// Where an endpoint is no URL, or the store holds an unreadable chain state.
pub(crate) async fn lane(
    config: &NetworkConfig,
    accounts: &[Account],
    store: &dyn Store,
) -> Result<Arc<dyn Lane>, Failure> {
    let rpcs = config.endpoints.iter().map(|url| rpc(config, url)).collect::<Result<Vec<_>, _>>()?;
    let named = |_| format!("network {} has no endpoint", config.id);
    Ok(match config.id {
        Network::Bitcoin(network) => {
            let scripts: Vec<_> = accounts
                .iter()
                .filter(|account| account.network() == config.id)
                .filter_map(|account| match account.address() {
                    Address::Bitcoin(address) => Some(address.script_pubkey()),
                    _ => None,
                })
                .collect();
            let mut clients = Vec::new();
            for (node, rpc) in (0..).zip(rpcs) {
                let options = bitcoin::Options::default();
                let client = BitcoinClient::new(rpc, network, scripts.clone(), config.birthday, options);
                clients.push(client.restored(&store.chain_changes(config.id, node).await?)?);
            }
            Arc::new(NodeLane::new(Bitcoin::new(network), agreeing(config, Nodes::new(clients).map_err(named)?)))
        }
        Network::Ethereum(chain_id) => {
            let finality = Finality::Tag { else_depth: Some(config.finality_depth()) };
            let mut options = ethereum::Options { finality, ..ethereum::Options::default() };
            if let Some(bump) = config.replacement_bump {
                options.replacement_bump = BasisPoints::new(bump);
            }
            let clients = rpcs.into_iter().map(|rpc| EthereumClient::new(rpc, chain_id, options)).collect();
            Arc::new(NodeLane::new(Ethereum::new(chain_id), agreeing(config, Nodes::new(clients).map_err(named)?)))
        }
        Network::Solana(cluster) => {
            let options = solana::Options { durable: config.durable_nonces, ..solana::Options::default() };
            let clients = rpcs.into_iter().map(|rpc| SolanaClient::new(rpc, cluster, options.clone())).collect();
            Arc::new(NodeLane::new(Solana::new(cluster), agreeing(config, Nodes::new(clients).map_err(named)?)))
        }
    })
}

/// The nodes, of which as many as are configured must agree on what is final.
fn agreeing<N: Client>(config: &NetworkConfig, nodes: Nodes<N>) -> Nodes<N> {
    match config.finality_agreement {
        None => nodes,
        Some(agreement) => nodes.agreeing(agreement),
    }
}

fn rpc(config: &NetworkConfig, url: &str) -> Result<RpcClient, RpcError> {
    let auth = config.auth_file.clone().map_or(Auth::None, Auth::BasicFile);
    RpcClient::new(url, auth, config.timeout())
}
