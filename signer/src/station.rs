//! One signer in a process of its own: it judges by its own configuration, and dials the coordinator.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::escrow::Recipient;
use crate::node::wire::Peer;
use crate::node::{Handle, Node, Orders};
use crate::policy::Policy;
use crate::pool::{PoolError, SignerConfig, WalletSpec};
use crate::roster::Roster;
use crate::transport::SignerId;
use crate::transport::grpc::{Dialing, Route, dial};
use crate::transport::memory::Memory;

/// A signer's own configuration.
pub struct StationConfig {
    /// The signer.
    pub signer: SignerConfig,
    /// How many signers it takes to sign with a key that this one helps to generate.
    pub threshold: u16,
    /// The signers of the pool, this one included, each with the key of its links in hexadecimal, as [`link_key`] gives
    /// it. The signer works with nobody else.
    pub peers: BTreeMap<SignerId, String>,
    /// Who may ask.
    pub roster: Roster,
    /// What may be signed.
    pub policy: Policy,
    /// The wallets that it signs for.
    pub wallets: Vec<WalletSpec>,
}

/// A running signer.
pub struct Station {
    id: SignerId,
    handle: Handle,
    door: Arc<Memory>,
    dialing: Option<Dialing>,
}

impl Station {
    /// Starts the signer. Nobody can ask it anything until it [dials](Station::dial).
    ///
    /// # Errors
    /// Where its directory is in use or damaged, a peer's key is none or another than before, or a wallet's key cannot
    /// serve it.
    pub async fn open(config: StationConfig) -> Result<Self, PoolError> {
        let StationConfig { signer, threshold, peers, roster, policy, wallets } = config;
        let id = signer.id.clone();
        let start = |reason: String| PoolError::Start { signer: id.clone(), reason };
        let t = u8::try_from(threshold).ok().filter(|t| *t >= 2);
        let t = t.ok_or_else(|| PoolError::Config(format!("a threshold of {threshold} is none; use 2 to 255")))?;
        let circle = circle(&id, peers).map_err(start)?;
        let orders = Orders { roster: Arc::new(roster), policy: Arc::new(policy), wallets };
        let open = move || {
            let node = Node::open(signer.id, signer.dir, signer.seal, t).map_err(|error| error.to_string())?;
            let node = node.with_members(circle.iter().map(|peer| peer.id.clone()));
            node.acquaint(circle)?;
            node.take_orders(orders)?;
            Ok(node)
        };
        let node = tokio::task::spawn_blocking(open).await.map_err(|error| start(error.to_string()))?.map_err(start)?;
        let mut door = Memory::default();
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let handle = Handle::spawn(node, door.connect(id.clone()), cores);
        Ok(Self { id, handle, door: Arc::new(door), dialing: None })
    }

    /// Dials the coordinator, and again whenever the line breaks, until the signer is [closed](Station::close).
    ///
    /// # Errors
    /// Where the route's identity can't be used for TLS.
    pub fn dial(&mut self, route: &Route) -> Result<(), PoolError> {
        let dialing = dial(route, self.door.clone(), self.id.clone());
        let failed = |error: rustls::Error| PoolError::Start { signer: self.id.clone(), reason: error.to_string() };
        self.dialing = Some(dialing.map_err(failed)?);
        Ok(())
    }

    /// Replaces what the signer judges by, from its own configuration.
    ///
    /// # Errors
    /// Where a wallet's key cannot serve it.
    pub fn install(&self, roster: Roster, policy: Policy, wallets: Vec<WalletSpec>) -> Result<(), PoolError> {
        let orders = Orders { roster: Arc::new(roster), policy: Arc::new(policy), wallets };
        self.handle.take_orders(orders).map_err(PoolError::Account)
    }

    /// Lets the signer help in making escrows for these recipients, and for nobody else. Without this it helps nobody.
    pub fn permit_escrow(&self, recipients: &[Recipient]) {
        self.handle.permit_escrow(recipients);
    }

    /// Hangs up, and stops the signer. Sessions under way are dropped.
    pub async fn close(self) {
        if let Some(dialing) = self.dialing {
            dialing.stop().await;
        }
        self.handle.stop().await;
    }
}

/// The public key of a signer's links, in hexadecimal, for the configurations of its peers. It is made where there is
/// none. The signer must not be running.
///
/// # Errors
/// Where its directory is in use or damaged.
pub fn link_key(signer: SignerConfig) -> Result<String, PoolError> {
    let id = signer.id.clone();
    // No key is generated here, so the threshold doesn't matter.
    let node = Node::open(signer.id, signer.dir, signer.seal, 2);
    let node = node.map_err(|error| PoolError::Start { signer: id, reason: error.to_string() })?;
    Ok(node.link_key().into())
}

/// The peers with their keys; the signer itself has to be among them, so that its own key is checked too.
fn circle(me: &SignerId, peers: BTreeMap<SignerId, String>) -> Result<Vec<Peer>, String> {
    if !peers.contains_key(me) {
        return Err("its own link key is not among the peers; use the same list at every signer".to_owned());
    }
    let peer = |(id, key): (SignerId, String)| {
        let key = key.try_into().map_err(|reason: &str| format!("the link key of {id}: {reason}"))?;
        Ok(Peer { id, key })
    };
    peers.into_iter().map(peer).collect()
}
