//! What the gateway is told at start. Unknown fields are refused; secrets come by path; every default is a constant here
//! and shown in `config/portcullis.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chains::account::{KeyId, KeyPath, WalletId};
use chains::network::{Family, Network};
use chains::solana::Durable;
use serde::Deserialize;
use signer::policy::quorum::{Group, Person};
use signer::roster::{CredentialId, Role};

use crate::pipeline::replace::FeePolicy;
use crate::pipeline::track::Tracking;

/// The JSON-RPC server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The longest request body, in bytes.
    pub max_body_bytes: u32,
    /// How many connections at once.
    pub max_connections: u32,
    /// How far a client's clock may be off, in seconds.
    pub clock_leeway_seconds: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8645)),
            max_body_bytes: 128 * 1024,
            max_connections: 1024,
            clock_leeway_seconds: 5,
        }
    }
}

/// This gateway among those that share a store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Its name, which no other that runs at the same time has. Without one, a name is made at first start and kept in the data
    /// folder.
    pub name: Option<String>,
    /// How long others leave its records alone when it is silent, in milliseconds.
    pub lease_ms: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { name: None, lease_ms: 10_000 }
    }
}

/// Where everything durable of payments is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// A file with the URL of a PostgreSQL database, `postgresql://user:password@host/database`, on its first line. Without one,
    /// the store is a SQLite file in the data folder.
    pub postgres_url_file: Option<PathBuf>,
    /// How many connections to PostgreSQL, 8 if left out.
    pub connections: Option<u32>,
}

/// Payments that wait for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalsConfig {
    /// After so many hours without enough approvals a payment expires, and what it reserved of the limits is given back.
    pub expire_hours: u64,
}

impl Default for ApprovalsConfig {
    fn default() -> Self {
        Self { expire_hours: 24 }
    }
}

impl ApprovalsConfig {
    /// The same in milliseconds.
    pub const fn expire_millis(self) -> u64 {
        self.expire_hours.saturating_mul(3_600_000)
    }
}

/// A network and its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which one: `bitcoin:regtest`, `ethereum:1`, `solana:devnet`.
    pub id: Network,
    /// The nodes' JSON-RPC endpoints, the preferred one first. May be empty only where the simulator provides the node.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// A file with `user:password` for HTTP basic authentication: bitcoind's `.cookie`.
    #[serde(default)]
    pub auth_file: Option<PathBuf>,
    /// How long a call to a node may take, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// So many confirmations make a transaction `confirmed`. Default: Bitcoin 1, Ethereum 2, Solana 1.
    #[serde(default)]
    pub confirmations: Option<u64>,
    /// So many make a Bitcoin transaction `finalized`, 6 by default; on Ethereum the depth that stands in for the
    /// `finalized` tag where a node has none, 64 by default. Solana's finality is the chain's own.
    #[serde(default)]
    pub finality_depth: Option<u64>,
    /// How often the nodes are asked, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_interval_ms: u64,
    /// After how many milliseconds a transaction that no node knows is sent again.
    #[serde(default = "default_resend_ms")]
    pub resend_after_ms: u64,
    /// So many nodes must say that a payment is final; most of them, if left out.
    #[serde(default)]
    pub finality_agreement: Option<usize>,
    /// After how many milliseconds in no block a payment is raised as stuck.
    #[serde(default = "default_stuck_ms")]
    pub stuck_after_ms: u64,
    /// After how many milliseconds in no block a payment is sped up by itself, never above its `max_fee`; never, if left out.
    #[serde(default)]
    pub bump_after_ms: Option<u64>,
    /// So many times a payment is sped up by itself, at most.
    #[serde(default = "default_bump_limit")]
    pub bump_limit: u32,
    /// Ethereum: by how many hundredths of a percent a replacement raises both fees at least; 1250 (12.5 %) by default, geth and reth
    /// demand 1000.
    #[serde(default)]
    pub replacement_bump: Option<u32>,
    /// Solana: whether payments are made under the wallet's durable nonces, so that they can be replaced.
    #[serde(default)]
    pub durable_nonces: Durable,
    /// Bitcoin: the block height from which wallets can have been paid; earlier blocks are not read.
    #[serde(default)]
    pub birthday: u32,
}

const fn default_timeout_ms() -> u64 {
    10_000
}

const fn default_poll_ms() -> u64 {
    1_000
}

const fn default_resend_ms() -> u64 {
    10_000
}

const fn default_stuck_ms() -> u64 {
    600_000
}

const fn default_bump_limit() -> u32 {
    5
}

impl NetworkConfig {
    /// The limit of one call to a node.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The depth that makes a transaction final where depth decides.
    pub fn finality_depth(&self) -> u64 {
        self.finality_depth.unwrap_or(match self.id.family() {
            Family::Bitcoin => 6,
            Family::Ethereum => 64,
            Family::Solana => 32,
        })
    }

    /// How transactions are followed.
    pub fn tracking(&self) -> Tracking {
        let confirmations = match self.id.family() {
            Family::Bitcoin | Family::Solana => 1,
            Family::Ethereum => 2,
        };
        Tracking {
            confirmations: self.confirmations.unwrap_or(confirmations),
            finality_depth: (self.id.family() == Family::Bitcoin).then(|| self.finality_depth()),
            poll_interval: Duration::from_millis(self.poll_interval_ms.max(1)),
            resend_after: Duration::from_millis(self.resend_after_ms),
            stuck_after: Duration::from_millis(self.stuck_after_ms),
            fees: FeePolicy { bump_after: self.bump_after_ms.map(Duration::from_millis), bump_limit: self.bump_limit },
        }
    }
}

/// A wallet: a key at a path on a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletConfig {
    /// Its name.
    pub id: WalletId,
    /// The network it lives on.
    pub network: Network,
    /// The key that the signers hold for it.
    pub key: KeyId,
    /// Non-hardened BIP-32 steps from the key; only for ECDSA keys.
    #[serde(default)]
    pub path: KeyPath,
    /// Other than its network's: after how many milliseconds in no block its payments are sped up by themselves; 0 for never.
    #[serde(default)]
    pub bump_after_ms: Option<u64>,
    /// Other than its network's: so many times at most.
    #[serde(default)]
    pub bump_limit: Option<u32>,
}

impl WalletConfig {
    /// The wallet's own fee policy, where it has one beside its network's.
    pub fn fees(&self, network: &FeePolicy) -> Option<FeePolicy> {
        if self.bump_after_ms.is_none() && self.bump_limit.is_none() {
            return None;
        }
        let bump_after = match self.bump_after_ms {
            None => network.bump_after,
            Some(0) => None,
            Some(millis) => Some(Duration::from_millis(millis)),
        };
        Some(FeePolicy { bump_after, bump_limit: self.bump_limit.unwrap_or(network.bump_limit) })
    }
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// The name, `sub` in the request's token.
    pub id: CredentialId,
    /// The one role of it.
    pub role: Role,
    /// A file with the Ed25519 public key, PEM (`openssl pkey -pubout`). A relative path starts at the data folder.
    pub public_key_file: PathBuf,
    /// The person behind it. One person's credentials approve once, and who asks doesn't approve.
    #[serde(default)]
    pub person: Option<Person>,
    /// The groups that the person approves for.
    #[serde(default)]
    pub groups: BTreeSet<Group>,
    /// The person's passkeys. Who has any approves by one of them, and by nothing else, under each of the person's credentials.
    #[serde(default)]
    pub passkeys: Vec<PasskeyConfig>,
}

/// A passkey of an approver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasskeyConfig {
    /// A file with its P-256 public key, PEM. A relative path starts at the data folder.
    pub public_key_file: PathBuf,
    /// The domain that it was made for.
    pub relying_party: String,
    /// The origins from which it may be used, `https://approve.example.org`.
    pub origins: Vec<String>,
}
