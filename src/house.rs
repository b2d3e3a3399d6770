//! The composition root: opens the store, starts the signers, makes the lanes, and serves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chains::account::Account;
use gateway::clock::{Clock, SystemClock};
use gateway::pipeline::lease::Tenure;
use gateway::pipeline::{NetworkLane, Parts, Pipeline};
use gateway::screening::Screening;
use gateway::server::{self, Listening};
use gateway::store::postgres::PostgresStore;
use gateway::store::sqlite::SqliteStore;
use gateway::store::{GatewayId, Store};
use signer::policy::Policy;
use signer::pool::{Pool, PoolConfig, Progress, SignerConfig, SignerId};
use signer::seal::Seal;
use signer::seal::deferred::DeferredSeal;
use signer::seal::software::SoftwareSeal;
use tokio::task::AbortHandle;

use crate::cli::Failure;
use crate::config::{Config, SealConfig};
use crate::{apart, lanes};

/// How many connections to PostgreSQL there are, if not told otherwise.
const DEFAULT_CONNECTIONS: u32 = 8;

/// A running gateway with its signers.
pub(crate) struct House {
    listening: Listening,
    accounts: Vec<Account>,
    pipeline: Arc<Pipeline>,
    /// The schedule of refreshes, where there is one.
    refreshes: Option<AbortHandle>,
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
        let pool = open_pool(config, say).await?;
        pool.install(roster.clone(), policy.clone(), config.wallet_specs()).await?;
        let accounts = config.wallet_specs().iter().map(|spec| pool.account(spec)).collect::<Result<Vec<_>, _>>()?;

        let store = open_store(config).await?;
        let tenure = Tenure { owner: name(config)?, lease: Duration::from_millis(config.gateway.lease_ms) };
        let mut networks = Vec::new();
        for network in &config.networks {
            let lane = lanes::lane(network, &accounts, store.as_ref()).await?;
            networks.push(NetworkLane { lane, tracking: network.tracking() });
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let policy = Arc::new(policy);
        let screening = screening(config, Arc::clone(&policy), Arc::clone(&clock)).await?;
        let fees = config.wallets.iter().filter_map(|wallet| {
            let network = config.networks.iter().find(|network| network.id == wallet.network)?;
            Some((wallet.id.clone(), wallet.fees(&network.tracking().fees)?))
        });
        let pipeline = Pipeline::new(Parts {
            store,
            pool,
            clock: Arc::clone(&clock),
            policy,
            screening,
            roster: roster.clone(),
            approvals: config.approvals,
            travel: config.travel.compile()?,
            networks,
            accounts: accounts.clone(),
            tenure,
            fees: fees.collect(),
        });
        pipeline.start().await?;
        let journal = config.path("ceremonies".as_ref());
        pipeline.ceremonies().take_up(&journal).map_err(|e| format!("{}: {e}", journal.display()))?;
        let refreshes = config.signers.refresh_every().map(|every| {
            let ceremonies = Arc::clone(pipeline.ceremonies());
            tokio::spawn(ceremonies.keep_refreshed(every)).abort_handle()
        });
        let listening = server::serve(&config.server, Arc::clone(&pipeline), roster, clock)
            .await
            .map_err(|e| format!("can't listen on {}: {e}", config.server.listen))?;
        Ok(Self { listening, accounts, pipeline, refreshes })
    }

    /// Where the gateway listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.listening.addr
    }

    /// The wallets' accounts, in the configuration's order.
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Stops serving and lets go of every record. What is under way goes on at the next start, or at another gateway.
    pub(crate) async fn close(self) {
        if let Some(refreshes) = self.refreshes {
            refreshes.abort();
        }
        self.listening.stop().await;
        self.pipeline.stop().await;
    }
}

/// The lists and providers that the configuration names. Reading long lists takes a while.
async fn screening(config: &Config, policy: Arc<Policy>, clock: Arc<dyn Clock>) -> Result<Screening, Failure> {
    let config = config.clone();
    let open = move || Screening::open(&config.screening, policy, clock, |path| config.path(path));
    Ok(tokio::task::spawn_blocking(open).await??)
}

/// The store that the configuration names.
async fn open_store(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    let Some(file) = &config.store.postgres_url_file else {
        return Ok(Arc::new(SqliteStore::open(&config.path("gateway.sqlite".as_ref()))?));
    };
    let path = config.path(file);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let url = text.lines().next().unwrap_or_default().trim();
    let connections = config.store.connections.unwrap_or(DEFAULT_CONNECTIONS);
    Ok(Arc::new(PostgresStore::open(url, connections).await?))
}

/// The gateway's name: the configured one, or else one that is made at first start and kept, so that the same gateway takes its
/// records up again at once.
fn name(config: &Config) -> Result<GatewayId, Failure> {
    if let Some(name) = &config.gateway.name {
        return Ok(name.parse()?);
    }
    let path = config.path("gateway.id".as_ref());
    match std::fs::read_to_string(&path) {
        Ok(name) => Ok(name.trim().parse().map_err(|error| format!("{}: {error}", path.display()))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = uuid::Uuid::now_v7().to_string();
            // Whole or not at all: a name that is cut short by a crash would be another gateway's.
            let draft = path.with_extension("new");
            std::fs::write(&draft, format!("{name}\n"))?;
            std::fs::File::open(&draft)?.sync_all()?;
            std::fs::rename(&draft, &path)?;
            Ok(name.parse()?)
        }
        Err(error) => Err(format!("{} can't be read: {error}", path.display()).into()),
    }
}

/// What seals a signer's shares. It is opened at its first use: where that fails, the pool leaves this one signer out.
pub(crate) fn seal(config: &Config, signer: &SignerId, dir: &Path) -> Result<Arc<dyn Seal>, Failure> {
    let entry = config.signers.seals.iter().find(|seal| seal.signer() == signer);
    seal_by(entry, signer, dir, config.path(&config.signers.passphrase_file), |path| config.path(path))
}

/// What seals a signer's shares by its entry, or else a key file under the passphrase in `shared`. Relative paths of the
/// entry are resolved by `resolve`.
pub(crate) fn seal_by(
    entry: Option<&SealConfig>,
    signer: &SignerId,
    dir: &Path,
    shared: PathBuf,
    resolve: impl Fn(&Path) -> PathBuf,
) -> Result<Arc<dyn Seal>, Failure> {
    let key_file = dir.join("seal.key");
    let software = |passphrase: PathBuf| {
        DeferredSeal::new(move || Ok(Arc::new(SoftwareSeal::open_or_create(&key_file, &passphrase)?)))
    };
    Ok(Arc::new(match entry {
        None => software(shared),
        Some(SealConfig::Software { passphrase_file, .. }) => {
            software(passphrase_file.as_ref().map_or(shared, |own| resolve(own)))
        }
        #[cfg(feature = "pkcs11")]
        Some(SealConfig::Pkcs11 { module, token, pin_file, pin_env, key, create_key, .. }) => {
            use signer::seal::pkcs11::{PinSource, Pkcs11Config, Pkcs11Seal};
            let pin = match (pin_file, pin_env) {
                (Some(file), None) => PinSource::File(resolve(file)),
                (None, Some(name)) => PinSource::Environment(name.clone()),
                _ => return Err(format!("the seal of {signer} needs a pin_file or a pin_env, one of them").into()),
            };
            let (module, token, key, create) = (module.clone(), token.clone(), key.clone(), *create_key);
            let place = Pkcs11Config { module, token, pin, key, create };
            DeferredSeal::new(move || Ok(Arc::new(Pkcs11Seal::open(place.clone())?)))
        }
        #[cfg(not(feature = "pkcs11"))]
        Some(SealConfig::Pkcs11 { .. }) => {
            return Err(format!("the seal of {signer}: this binary was built without the feature `pkcs11`").into());
        }
    }))
}

/// The signers with the keys that they hold; nothing is generated.
///
/// # Errors
/// Where too few signers can be had.
pub(crate) async fn gather(config: &Config, say: &(dyn Fn(String) + Send + Sync)) -> Result<Arc<Pool>, Failure> {
    Ok(if config.signers.apart.is_empty() {
        Arc::new(start_pool(config, say).await?)
    } else {
        let (pool, arrivals) = apart::open(config, say).await?;
        let pool = Arc::new(pool);
        apart::welcome(&pool, arrivals);
        pool
    })
}

async fn open_pool(config: &Config, say: &(dyn Fn(String) + Send + Sync)) -> Result<Arc<Pool>, Failure> {
    let pool = gather(config, say).await?;
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

/// The signers, all in this process.
async fn start_pool(config: &Config, say: &(dyn Fn(String) + Send + Sync)) -> Result<Pool, Failure> {
    let pool = pool_config(config)?;
    say(format!("signers  {} of {} must sign", pool.threshold, pool.signers.len()));
    Ok(Pool::start(pool).await?)
}

/// The signers of this process, as the pool knows them.
///
/// # Errors
/// Where a seal is not configured as it must be.
pub(crate) fn pool_config(config: &Config) -> Result<PoolConfig, Failure> {
    let mut signers = Vec::new();
    for name in &config.signers.names {
        let dir = config.path("signers".as_ref()).join(name.as_str());
        signers.push(SignerConfig { id: name.clone(), seal: seal(config, name, &dir)?, dir });
    }
    Ok(PoolConfig {
        threshold: config.signers.threshold,
        signers,
        deadline: config.signers.deadline(),
        round_timeout: config.signers.round_timeout(),
    })
}
