//! The composition root: opens the store, starts the signers, makes the lanes, and serves.

use std::net::SocketAddr;
use std::sync::Arc;

use chains::account::Account;
use gateway::clock::{Clock, SystemClock};
use gateway::pipeline::{NetworkLane, Pipeline};
use gateway::server::{self, Listening};
use gateway::store::Store;
use gateway::store::sqlite::SqliteStore;
use signer::pool::{Pool, PoolConfig, Progress, SignerConfig};
use signer::seal::software::SoftwareSeal;

use crate::cli::Failure;
use crate::config::Config;
use crate::lanes;

/// A running gateway with its signers.
pub(crate) struct House {
    listening: Listening,
    accounts: Vec<Account>,
}

impl House {
    /// Opens everything under the data folder, generates the keys that are missing, takes up unfinished records and
    /// serves. `say` is told of each step.
    ///
    /// # Errors
    /// Where a part can't be had.
    pub(crate) async fn open(config: &Config, say: &(dyn Fn(String) + Send + Sync)) -> Result<Self, Failure> {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|e| format!("the data folder {} can't be made: {e}", config.data_dir.display()))?;
        let policy = config.policy()?;
        let roster = config.roster()?;
        let pool = Arc::new(open_pool(config, say).await?);
        pool.install(roster.clone(), policy.clone(), config.wallet_specs()).await?;
        let accounts = config.wallet_specs().iter().map(|spec| pool.account(spec)).collect::<Result<Vec<_>, _>>()?;

        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.path("gateway.sqlite".as_ref()))?);
        let mut networks = Vec::new();
        for network in &config.networks {
            let lane = lanes::lane(network, &accounts, store.as_ref()).await?;
            networks.push(NetworkLane { lane, tracking: network.tracking() });
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let pipeline = Pipeline::new(store, pool, Arc::clone(&clock), Arc::new(policy), networks, accounts.clone());
        pipeline.start().await?;
        let listening = server::serve(&config.server, pipeline, roster, clock)
            .await
            .map_err(|e| format!("can't listen on {}: {e}", config.server.listen))?;
        Ok(Self { listening, accounts })
    }

    /// Where the gateway listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.listening.addr
    }

    /// The wallets' accounts, in the configuration's order.
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Stops serving. What is under way goes on at the next start.
    pub(crate) async fn close(self) {
        self.listening.stop().await;
    }
}

async fn open_pool(config: &Config, say: &(dyn Fn(String) + Send + Sync)) -> Result<Pool, Failure> {
    let passphrase = config.path(&config.signers.passphrase_file);
    let mut signers = Vec::new();
    for name in &config.signers.names {
        let dir = config.path("signers".as_ref()).join(name.as_str());
        let seal = SoftwareSeal::open_or_create(&dir.join("seal.key"), &passphrase)
            .map_err(|e| format!("{name}: the seal can't be opened: {e}"))?;
        signers.push(SignerConfig { id: name.clone(), dir, seal: Arc::new(seal) });
    }
    say(format!("signers  {} of {} must sign", config.signers.threshold, signers.len()));
    let pool = Pool::start(PoolConfig {
        threshold: config.signers.threshold,
        signers,
        deadline: config.signers.deadline(),
        round_timeout: config.signers.round_timeout(),
    })
    .await?;
    pool.ensure_keys(&config.key_specs(), |progress| match progress {
        Progress::KeyExists { key, missing } if missing.is_empty() => say(format!("key      {key}: there")),
        Progress::KeyExists { key, missing } => {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            say(format!("key      {key}: there, but {} lost their share", names.join(", ")));
        }
        Progress::Generating { key, round, of } => {
            say(format!("key      {key}: joint generation, round {round} of {of}"))
        }
        Progress::Generated { key, took } => say(format!("key      {key}: generated in {} ms", took.as_millis())),
        _ => {}
    })
    .await?;
    Ok(pool)
}
