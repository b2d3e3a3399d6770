//! Signers apart from their pool, each with its own configuration, over gRPC on the loopback interface.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use signer::policy::Policy;
use signer::pool::{ApartConfig, ApartSigner, Pool, PoolConfig, PoolError, SignerConfig, SignerId};
use signer::roster::Roster;
use signer::station::{Station, StationConfig, link_key};
use signer::transport::Transport;
use signer::transport::grpc::{Coordinator, LinkIdentity, Pin, Route};
use tokio::sync::watch;

const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than it takes to dial in.
pub(crate) const GATHERING: Duration = Duration::from_secs(60);

pub(crate) fn identity(name: &str) -> LinkIdentity {
    LinkIdentity::generate(name, UnixTime::now().as_secs(), HOUR).unwrap()
}

/// The configuration of the pool's end.
pub(crate) fn pool_config(config: &PoolConfig) -> ApartConfig {
    let signer = |signer: &SignerConfig| ApartSigner { id: signer.id.clone(), region: None };
    ApartConfig {
        threshold: config.threshold,
        signers: config.signers.iter().map(signer).collect(),
        min_regions: 0,
        deadline: config.deadline,
        round_timeout: config.round_timeout,
    }
}

/// The link keys of all signers, for each other's configurations.
pub(crate) fn peers(config: &PoolConfig) -> BTreeMap<SignerId, String> {
    config.signers.iter().map(|signer| (signer.id.clone(), link_key(signer.clone()).unwrap())).collect()
}

/// A signer with nothing yet to judge by, so that it refuses every payment.
pub(crate) async fn station(
    config: &PoolConfig,
    signer: &SignerConfig,
    peers: BTreeMap<SignerId, String>,
) -> Result<Station, PoolError> {
    let (signer, threshold) = (signer.clone(), config.threshold);
    let (roster, policy, wallets) = (Roster::default(), Policy::default(), Vec::new());
    Station::open(StationConfig { signer, threshold, peers, roster, policy, wallets }).await
}

/// Starts every signer, then a pool that `wrap` puts something between.
pub(crate) async fn open(
    config: PoolConfig,
    wrap: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
) -> (Pool, Vec<Station>) {
    let pool = pool_config(&config);
    let (pool, stations, _) = open_with(config, pool, |address| address.to_string(), wrap).await;
    (pool, stations)
}

/// Like [`open`], with another configuration of the pool's end, and each signer dialling where `route` says. Answers what
/// tells of arrivals, too.
pub(crate) async fn open_with(
    config: PoolConfig,
    pool: ApartConfig,
    mut route: impl FnMut(SocketAddr) -> String,
    wrap: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
) -> (Pool, Vec<Station>, watch::Receiver<u64>) {
    let (gateway, peers) = (identity("gateway"), peers(&config));
    let identities = config.signers.iter().map(|signer| (signer.id.clone(), identity(signer.id.as_str())));
    let identities = identities.collect::<Vec<_>>();
    let pins: BTreeMap<SignerId, Pin> = identities.iter().map(|(id, identity)| (id.clone(), identity.pin())).collect();
    let coordinator = Coordinator::listen("127.0.0.1:0".parse().unwrap(), &gateway, pins).await.unwrap();
    let mut stations = Vec::new();
    for (signer, (_, identity)) in config.signers.iter().zip(identities) {
        let mut station = station(&config, signer, peers.clone()).await.unwrap();
        let address = route(coordinator.addr());
        station.dial(&Route { address, coordinator: gateway.pin(), identity }).unwrap();
        stations.push(station);
    }
    coordinator.gather(GATHERING).await;
    let arrivals = coordinator.arrivals();
    (Pool::coordinate(pool, wrap(Arc::new(coordinator))).await.unwrap(), stations, arrivals)
}
