//! The pool: the coordinator of the signers, and what the gateway talks to.
//!
//! The coordinator holds no share and decides nothing: it asks, routes sealed letters, chooses who signs, and checks what
//! comes back. By default every signer runs in this process, each an actor with its own directory.

mod admission;
mod apart;
mod error;
mod escrow;
mod policy;
mod quorum;
mod rekey;
mod settle;
mod sign;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chains::account::{Account, KeyId, KeyPath, WalletId};
use chains::network::Network;
use serde::{Deserialize, Serialize};

use crate::ceremony::dkg;
pub use crate::ceremony::import::{ImportError, ImportedKey};
pub use crate::ledger::Clock;
use crate::ledger::SystemClock;
use crate::node::wire::{Answer, Command, Peer};
use crate::node::{self, Handle, Node};
use crate::policy::Policy;
use crate::roster::Roster;
pub use crate::scheme::{GroupKey, SchemeId};
use crate::seal::Seal;
use crate::session::{Failure, FailureKind, Line};
pub use crate::transport::SignerId;
use crate::transport::Transport;
use crate::transport::memory::Memory;
use crate::vault::KeyInfo;
use crate::verify::Guard;
use admission::Admission;
use apart::Apart;
pub use apart::{ApartConfig, ApartSigner, Region};
pub use error::{Culprit, PoolError, SignError};
pub use policy::PolicyRefusal;
use quorum::Health;
use rekey::Gate;
pub use rekey::Rekeyed;
pub use sign::SignOutcome;

/// How long a signer has to say that it is up.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool's signers and its patience.
#[derive(Clone)]
pub struct PoolConfig {
    /// How many signers it takes to sign: at least 2, at most all.
    pub threshold: u16,
    /// The signers, at most 255.
    pub signers: Vec<SignerConfig>,
    /// How long a signing may take, restarts with other signers counted; so long it may also wait for its turn.
    pub deadline: Duration,
    /// How long a signer may take for one round.
    pub round_timeout: Duration,
}

/// One signer.
#[derive(Clone)]
pub struct SignerConfig {
    /// Its name, for good: shares are bound to it.
    pub id: SignerId,
    /// Its own directory, which is made where it doesn't exist.
    pub dir: PathBuf,
    /// What seals its shares.
    pub seal: Arc<dyn Seal>,
}

/// A wallet: which key at which path, on which network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletSpec {
    /// Its name.
    pub wallet: WalletId,
    /// Where it lives.
    pub network: Network,
    /// The key that it is derived from.
    pub key: KeyId,
    /// The way from the key to the wallet.
    #[serde(default)]
    pub path: KeyPath,
}

/// A key to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Its name.
    pub key: KeyId,
    /// How it signs.
    pub scheme: SchemeId,
}

/// What [`Pool::ensure_keys`] is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The key is there.
    KeyExists {
        /// Its name.
        key: KeyId,
        /// Signers that should hold a share of it and don't.
        missing: Vec<SignerId>,
    },
    /// A round of a key generation begins.
    Generating {
        /// The key's name.
        key: KeyId,
        /// Which round, from 1.
        round: u32,
        /// How many there are.
        of: u32,
    },
    /// A round of a refresh begins.
    Refreshing {
        /// The key's name.
        key: KeyId,
        /// Which round, from 1.
        round: u32,
        /// How many there are.
        of: u32,
    },
    /// A round of a reshare begins.
    Resharing {
        /// The key's name.
        key: KeyId,
        /// Which round, from 1.
        round: u32,
        /// How many there are.
        of: u32,
    },
    /// The key signs with other shares from here on.
    Rekeyed {
        /// Its name.
        key: KeyId,
        /// The generation of the shares.
        epoch: u32,
        /// How long it took.
        took: Duration,
    },
    /// A key is imported that was whole until here: copies of it may exist that no ceremony can find. A generated key has
    /// none.
    ImportWarning {
        /// Its name.
        key: KeyId,
    },
    /// The key is there and has proved that it signs.
    Generated {
        /// Its name.
        key: KeyId,
        /// How long it took.
        took: Duration,
    },
}

/// What the pool looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolStatus {
    /// How many signers it takes.
    pub threshold: u16,
    /// The signers.
    pub signers: Vec<SignerStatus>,
    /// The keys.
    pub keys: Vec<KeyStatus>,
}

/// How a signer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignerStatus {
    /// Its name.
    pub signer: SignerId,
    /// Whether it answers.
    pub up: bool,
    /// Why it does not answer as it should; none where it does. Names its seal where that cannot be used.
    pub problem: Option<String>,
    /// Whether it is passed over for its recent failures.
    pub benched: bool,
    /// How often it failed in a row.
    pub failures: u32,
    /// Where it stands, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// How a key is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    /// Its name.
    pub key: KeyId,
    /// How it signs.
    pub scheme: SchemeId,
    /// How many shares it takes (t).
    pub threshold: u16,
    /// How many shares there were made (n).
    pub shares: u16,
    /// Who holds a share that opens.
    pub holders: Vec<SignerId>,
    /// The generation of the shares, from 1.
    pub epoch: u32,
    /// The group's public key.
    pub public_key: GroupKey,
    /// How many signers it takes to sign: as `threshold`.
    pub signers_required: u16,
    /// How many of the holders may fail before it cannot sign.
    pub faults_tolerated: u16,
    /// The holders that answer.
    pub signers_up: Vec<SignerId>,
    /// When this generation of shares came into use, in milliseconds since the Unix epoch, by the signers' own clocks: the
    /// last refresh, where there was one.
    pub since: Option<u64>,
    /// The generation that the last escrow was made for, as far as the signers remember. An escrow of an earlier epoch than
    /// the key's is worth nothing: make another one.
    pub escrowed: Option<u32>,
    /// Who last kept a signature with this key from its end, since the pool was started.
    pub last_culprit: Option<Culprit>,
    /// How many nonces are made ahead at the holder that has the fewest, of those that answer; none where the scheme has
    /// none to make ahead, or nobody answers.
    pub pool_depth: Option<u32>,
}

/// A pool of threshold signers.
pub struct Pool {
    config: PoolConfig,
    threshold: u8,
    line: Line,
    signers: Vec<SignerId>,
    left_out: BTreeMap<SignerId, String>,
    handles: Vec<Handle>,
    keys: RwLock<BTreeMap<KeyId, KnownKey>>,
    installed: RwLock<Option<Arc<Installed>>>,
    health: Health,
    admission: Admission,
    culprits: Mutex<BTreeMap<KeyId, Culprit>>,
    /// The signers that judge by another policy than this side, as they last said: they are asked after the others.
    behind: Mutex<BTreeSet<SignerId>>,
    ceremony: tokio::sync::Mutex<()>,
    apart: Option<Apart>,
}

/// A usable key, and who can sign with it.
#[derive(Clone, Debug)]
struct KnownKey {
    info: KeyInfo,
    holders: Vec<SignerId>,
    gate: Gate,
}

/// What the coordinator checks results against. It has no say in what is signed.
struct Installed {
    guard: Guard,
    accounts: BTreeMap<WalletId, Account>,
}

impl Pool {
    /// Starts the signers in this process. Keys already in the vaults are loaded. A signer that cannot start, because its
    /// seal cannot be used for one, is reported and left out until the next start, as long as enough others are there.
    ///
    /// # Errors
    /// Where the configuration makes no pool, too few signers can start, or the signers don't accept each other.
    pub async fn start(config: PoolConfig) -> Result<Self, PoolError> {
        Self::start_over(config, |memory| memory).await
    }

    /// Like [`Pool::start`], with another transport put around the one in memory.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub async fn start_over(
        config: PoolConfig,
        wrap: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
    ) -> Result<Self, PoolError> {
        Self::start_by(config, Arc::new(SystemClock), wrap).await
    }

    /// Like [`Pool::start_over`], with signers that go by another clock than the machine's.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub async fn start_by(
        config: PoolConfig,
        clock: Arc<dyn Clock>,
        wrap: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
    ) -> Result<Self, PoolError> {
        let threshold = check(&config)?;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut memory = Memory::default();
        let mut handles = Vec::with_capacity(config.signers.len());
        let mut left_out = BTreeMap::new();
        for signer in config.signers.clone() {
            let SignerConfig { id, dir, seal } = signer;
            let name = id.clone();
            let opened = tokio::task::spawn_blocking(move || Node::open(id, dir, seal, threshold)).await;
            let reason = match opened {
                Ok(Ok(node)) => {
                    let node = node.with_members(config.signers.iter().map(|signer| signer.id.clone()));
                    let node = node.with_clock(Arc::clone(&clock));
                    handles.push(Handle::spawn(node, memory.connect(name), cores));
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!(signer = %name, reason, "a signer cannot start and is left out");
            left_out.insert(name, reason);
        }
        if handles.len() < usize::from(threshold) {
            for handle in handles {
                handle.stop().await;
            }
            let first = left_out.into_iter().next();
            return Err(first.map_or_else(
                || PoolError::Config("there are too few signers".to_owned()),
                |(signer, reason)| PoolError::Start { signer, reason },
            ));
        }
        let signers = config.signers.iter().map(|signer| signer.id.clone()).collect();
        let line = Line::new(wrap(Arc::new(memory)));
        let pool = Self { left_out, handles, ..Self::assemble(config, threshold, line, signers, None) };
        pool.introduce().await?.map_or(Ok(()), Err)?;
        pool.load_keys().await;
        Ok(pool)
    }

    /// A pool that hosts no signer.
    fn assemble(config: PoolConfig, threshold: u8, line: Line, signers: Vec<SignerId>, apart: Option<Apart>) -> Self {
        Self {
            config,
            threshold,
            line,
            signers,
            left_out: BTreeMap::new(),
            handles: Vec::new(),
            keys: RwLock::default(),
            installed: RwLock::default(),
            health: Health::default(),
            admission: Admission::default(),
            culprits: Mutex::default(),
            behind: Mutex::default(),
            ceremony: tokio::sync::Mutex::new(()),
            apart,
        }
    }

    /// Makes the signers known to each other. Answers why one of them doesn't accept the others, where that is so.
    async fn introduce(&self) -> Result<Option<PoolError>, PoolError> {
        let mut peers: Vec<Peer> = Vec::with_capacity(self.signers.len());
        for (signer, answer) in self.line.ask_all(&self.signers, &Command::Hello).await {
            match answer {
                Ok(Answer::Identity(peer)) if peer.id == signer => peers.push(peer),
                Ok(_) => return Err(PoolError::Absent { signer, reason: "it goes by another name".to_owned() }),
                // It may come up later; the others know it from before.
                Err(failure) => tracing::warn!(%signer, ?failure, "a signer does not answer"),
            }
        }
        if peers.len() < usize::from(self.threshold)
            && let Some(signer) = self.signers.iter().find(|signer| !peers.iter().any(|peer| peer.id == **signer))
        {
            return Err(PoolError::Absent { signer: signer.clone(), reason: "too few signers answer".to_owned() });
        }
        let mut refusal = None;
        for (signer, answer) in self.line.ask_all(&self.signers, &Command::Join { peers }).await {
            match answer {
                Ok(_) | Err(Failure { kind: FailureKind::Silent(_), .. }) => (),
                Err(failure) => {
                    tracing::error!(%signer, %failure, "a signer doesn't accept the others");
                    refusal.get_or_insert(PoolError::Absent { signer, reason: failure.to_string() });
                }
            }
        }
        Ok(refusal)
    }

    /// Makes sure that every key exists: runs a distributed key generation for those that don't, one after another.
    /// `progress` is told of each step.
    ///
    /// # Errors
    /// Where a key has lost too many shares, exists under another scheme, or cannot be generated.
    pub async fn ensure_keys(
        &self,
        keys: &[KeySpec],
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<(), PoolError> {
        let _one_at_a_time = self.ceremony.lock().await;
        for KeySpec { key, scheme } in keys {
            let settled = self.settle(key, &self.inventory().await).await?;
            if let Some(known) = settled.known {
                if known.info.scheme != *scheme {
                    let (key, is, asked) = (key.clone(), known.info.scheme, *scheme);
                    return Err(PoolError::WrongScheme { key, is, asked });
                }
                let missing = known.info.participants.iter().filter(|s| !known.holders.contains(s)).cloned();
                let missing = missing.collect::<Vec<_>>();
                if !missing.is_empty() {
                    tracing::error!(%key, ?missing, "signers have lost their shares; restore their backups");
                }
                self.learn(known);
                progress(Progress::KeyExists { key: key.clone(), missing });
                continue;
            }
            if !settled.awaited.is_empty() {
                let away = settled.awaited.iter().map(SignerId::as_str).collect::<Vec<_>>().join(", ");
                let reason =
                    format!("its generation was cut off, and it may be needed; start {away}, away, to find out");
                return Err(PoolError::Generation { key: key.clone(), reason });
            }
            let began = Instant::now();
            let of = dkg::rounds(*scheme);
            let on_round = |round: u32| {
                // After the last round of messages the driver collects the results.
                if round <= of {
                    progress(Progress::Generating { key: key.clone(), round, of });
                }
            };
            let info = dkg::generate(&self.line, key, *scheme, self.threshold, &self.signers, on_round)
                .await
                .map_err(|error| PoolError::Generation { key: key.clone(), reason: error.to_string() })?;
            self.learn(KnownKey { holders: info.participants.clone(), info, gate: Gate::default() });
            progress(Progress::Generated { key: key.clone(), took: began.elapsed() });
        }
        Ok(())
    }

    /// The account of a wallet, from its key at its path.
    ///
    /// # Errors
    /// Where the key doesn't exist or cannot serve the wallet.
    pub fn account(&self, spec: &WalletSpec) -> Result<Account, PoolError> {
        let known = self.known(&spec.key).ok_or_else(|| PoolError::UnknownKey(spec.key.clone()))?;
        node::account(spec, &known.info).map_err(PoolError::Account)
    }

    /// Hands every signer its copy of the roster, the policy and the wallets. Signing before this is refused.
    ///
    /// # Errors
    /// Where a wallet's key doesn't exist or cannot serve it.
    pub async fn install(&self, roster: Roster, policy: Policy, wallets: Vec<WalletSpec>) -> Result<(), PoolError> {
        let accounts = wallets.iter().map(|spec| Ok((spec.wallet.clone(), self.account(spec)?)));
        let accounts = accounts.collect::<Result<BTreeMap<_, _>, PoolError>>()?;
        let (roster, policy) = (Arc::new(roster), Arc::new(policy));
        for handle in &self.handles {
            handle.install(roster.clone(), policy.clone(), &wallets).map_err(PoolError::Account)?;
        }
        self.compare_terms(&roster, &policy, &wallets).await;
        let installed = Installed { guard: Guard::new(roster, policy, accounts.clone()), accounts };
        *self.installed.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(installed));
        Ok(())
    }

    /// How the signers and the keys are.
    pub async fn status(&self) -> PoolStatus {
        let answers = self.line.ask_all_within(&self.signers, &Command::Hello, STATUS_TIMEOUT).await;
        let inventory = self.inventory_within(STATUS_TIMEOUT).await;
        let disagreements = self.disagreements().await;
        let depth = |known: &KnownKey| {
            let held = inventory.of(&known.info.key).iter();
            held.filter(|(_, held)| held.info.epoch == known.info.epoch).filter_map(|(_, held)| held.nonces).min()
        };
        let here = |known: &KnownKey| {
            let held = inventory.of(&known.info.key).iter();
            held.filter(|(_, held)| held.info == known.info && held.share && held.usable).collect::<Vec<_>>()
        };
        let up = |known: &KnownKey| here(known).into_iter().map(|(signer, _)| signer.clone()).collect();
        let since = |known: &KnownKey| here(known).into_iter().filter_map(|(_, held)| held.since).max();
        let escrowed = |known: &KnownKey| {
            let held = inventory.of(&known.info.key).iter();
            held.filter_map(|(_, held)| held.escrow).max()
        };
        let culprits = self.culprits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        let signer = |(signer, answer): (SignerId, Result<Answer, Failure>)| {
            let (benched, failures) = self.health.of(&signer, now);
            let (up, silent) = (answer.is_ok(), answer.err().map(|failure| failure.to_string()));
            let problem = self.left_out.get(&signer).or(disagreements.get(&signer)).cloned().or(silent);
            let region = self.region_of(&signer);
            SignerStatus { up, signer, problem, benched, failures, region }
        };
        let key = |known: &KnownKey| KeyStatus {
            key: known.info.key.clone(),
            scheme: known.info.scheme,
            threshold: known.info.threshold.into(),
            shares: u16::try_from(known.info.participants.len()).unwrap_or(u16::MAX),
            holders: known.holders.clone(),
            epoch: known.info.epoch,
            public_key: known.info.group,
            signers_required: known.info.threshold.into(),
            faults_tolerated: u16::try_from(known.holders.len())
                .unwrap_or(u16::MAX)
                .saturating_sub(known.info.threshold.into()),
            signers_up: up(known),
            since: since(known),
            escrowed: escrowed(known),
            last_culprit: culprits.get(&known.info.key).cloned(),
            pool_depth: depth(known),
        };
        PoolStatus {
            threshold: self.threshold.into(),
            signers: answers.into_iter().map(signer).collect(),
            keys: self.keys.read().unwrap_or_else(PoisonError::into_inner).values().map(key).collect(),
        }
    }

    /// Stops the signers. Sessions under way are dropped.
    pub async fn shutdown(self) {
        for handle in self.handles {
            handle.stop().await;
        }
    }

    fn learn(&self, mut known: KnownKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        match keys.get(&known.info.key) {
            Some(before) if before.info == known.info => known.gate = before.gate.clone(),
            // Those that know better are away, or hold their tongues.
            Some(before) if before.info.epoch > known.info.epoch => {
                tracing::error!(key = %known.info.key, epoch = known.info.epoch, "signers claim an epoch that is over");
                return;
            }
            _ => (),
        }
        keys.insert(known.info.key.clone(), known);
    }

    fn known(&self, key: &KeyId) -> Option<KnownKey> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

/// The threshold, if it is one of `count` signers.
fn check_threshold(t: u16, count: usize) -> Result<u8, PoolError> {
    let threshold = u8::try_from(t).ok().filter(|t| *t >= 2 && usize::from(*t) <= count);
    threshold.filter(|_| count <= usize::from(u8::MAX)).ok_or_else(|| {
        PoolError::Config(format!("a threshold of {t} of {count} signers is none; use at least 2, of at most 255"))
    })
}

/// The threshold, if the configuration makes a pool.
fn check(config: &PoolConfig) -> Result<u8, PoolError> {
    let count = config.signers.len();
    let threshold = check_threshold(config.threshold, count)?;
    let names = config.signers.iter().map(|signer| &signer.id).collect::<BTreeSet<_>>();
    let dirs = config.signers.iter().map(|signer| &signer.dir).collect::<BTreeSet<_>>();
    if names.len() != count || dirs.len() != count {
        return Err(PoolError::Config("every signer needs a name and a directory of its own".to_owned()));
    }
    Ok(threshold)
}
