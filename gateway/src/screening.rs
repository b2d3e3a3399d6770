//! Screening: no party that the bytes touch may be listed. It fails closed: a list that is too old, or a provider that doesn't
//! answer, holds the payment.
//!
//! - [`list`]: lists in files, OFAC's ([`ofac`]) and plain text, each with its [`index`] of holders;
//! - [`provider`]: services over HTTP;
//! - [`waiver`]: overrides, for which a quorum of people answers;
//! - the policy's own `denied_addresses`.
//!
//! Lists are read again when their files change; whoever is screened meanwhile is screened against the lists as they were.

pub mod index;
pub mod list;
pub mod ofac;
pub mod provider;
pub mod waiver;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chains::address::Address;
use chains::effects::Effects;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use signer::policy::quorum::Quorum;
use signer::policy::{self, Policy};

use self::list::{List, ListConfig, ListError, Unreadable};
use self::provider::{Provider, ProviderConfig, ProviderError, Unanswered};
use self::waiver::{Waiver, WaiverId};
use crate::clock::Clock;

/// Milliseconds in an hour.
const HOUR: u64 = 3_600_000;

/// What payments are screened against, beside the policy's denied addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScreeningConfig {
    /// Lists in files.
    pub lists: Vec<ListConfig>,
    /// Services that are asked for every party; only `http` and `https` URLs.
    pub providers: Vec<ProviderConfig>,
    /// How often the lists' files are looked at, in seconds; 60 if left out.
    pub reload_seconds: Option<u64>,
    /// Who has to approve an override: `2 of compliance`. Without it there are no overrides.
    pub override_require: Option<Quorum>,
}

impl ScreeningConfig {
    /// How often the lists' files are looked at.
    pub fn reload_every(&self) -> Duration {
        Duration::from_secs(self.reload_seconds.unwrap_or(60).max(1))
    }
}

/// The lists and providers.
pub struct Screening {
    policy: RwLock<Arc<Policy>>,
    clock: Arc<dyn Clock>,
    configs: Vec<ListConfig>,
    lists: RwLock<Arc<Vec<Arc<List>>>>,
    /// Held while the lists are read again: what was read earlier must not take the place of what was read later.
    reloading: Mutex<()>,
    providers: Vec<Provider>,
    reload_every: Duration,
    override_require: Option<Quorum>,
    waivers: RwLock<Arc<Vec<Waiver>>>,
}

/// Proof that none of a transaction's parties was listed, and what they were looked up in: it goes into the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clearance {
    /// The lists, as they were.
    pub lists: Vec<Consulted>,
    /// The providers that were asked.
    pub providers: Vec<String>,
    /// The parties that a list or a provider has something on and that people have answered for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Waived>,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// A party that was cleared by an override.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Waived {
    /// The party.
    pub address: Address,
    /// The list or provider that has something on it.
    pub source: String,
    /// The override.
    #[serde(rename = "override")]
    pub waiver: WaiverId,
}

/// A list as it was when a payment was screened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Consulted {
    /// Its name.
    pub id: String,
    /// The SHA-256 of its file, in hex.
    pub digest: String,
    /// How old the file was, in hours.
    pub age_hours: u64,
}

/// How a list stands, for `screen_status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListStatus {
    /// The list.
    #[serde(flatten)]
    pub list: Consulted,
    /// What the file says of its own date.
    pub issued: Option<String>,
    /// How many entries it has.
    pub entries: u64,
    /// Whether it is older than its configured most, so that every payment is held.
    pub stale: bool,
    /// What in it could not be read.
    pub unreadable: Unreadable,
}

/// Why a transaction isn't cleared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The policy denies the address.
    #[error("{0} is on the denylist")]
    Denied(Address),
    /// A list has it.
    #[error("{address} is on the list {list}")]
    Listed {
        /// The list's name.
        list: String,
        /// As the transaction has it.
        address: Address,
    },
    /// A provider has something on it.
    #[error("{address} is identified by {provider} as {category}")]
    Identified {
        /// The provider's name.
        provider: String,
        /// As the transaction has it.
        address: Address,
        /// The provider's word.
        category: String,
    },
    /// A list is too old to clear anybody by.
    #[error("the list {list} is {age_hours} hours old, more than {most}; renew its file")]
    Stale {
        /// The list's name.
        list: String,
        /// Its age.
        age_hours: u64,
        /// The configured most.
        most: u64,
    },
    /// A provider didn't answer.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

impl Refusal {
    /// The stable word for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied_address",
            Self::Listed { .. } => "listed_address",
            Self::Identified { .. } => "identified_address",
            Self::Stale { .. } => "list_stale",
            Self::Unanswered(_) => "screening_unavailable",
        }
    }

    /// Whether nothing is known against the payment: it is held, and screened again later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Stale { .. } | Self::Unanswered(_))
    }
}

/// Why there is no screening. Then there are no payments.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScreeningError {
    /// A list can't be read.
    #[error("the screening list {id}: {source}")]
    List {
        /// The list's name.
        id: String,
        /// What is wrong.
        source: ListError,
    },
    /// A provider can't be used.
    #[error("the screening provider {id}: {source}")]
    Provider {
        /// The provider's name.
        id: String,
        /// What is wrong.
        source: ProviderError,
    },
    /// Two of one name.
    #[error("two screening sources are called {0:?}; name each differently")]
    Name(String),
}

impl Screening {
    /// Reads the lists and makes the providers' clients. Paths are resolved by `resolve`. Blocks while it reads.
    ///
    /// # Errors
    /// Where any list or provider can't be used.
    pub fn open(
        config: &ScreeningConfig,
        policy: Arc<Policy>,
        clock: Arc<dyn Clock>,
        resolve: impl Fn(&std::path::Path) -> PathBuf,
    ) -> Result<Self, ScreeningError> {
        let mut names = BTreeSet::new();
        let ids = config.lists.iter().map(|list| &list.id).chain(config.providers.iter().map(|provider| &provider.id));
        if let Some(twice) = ids.into_iter().find(|id| !names.insert(id.as_str())) {
            return Err(ScreeningError::Name(twice.clone()));
        }
        let configs: Vec<_> =
            config.lists.iter().map(|list| ListConfig { path: resolve(&list.path), ..list.clone() }).collect();
        let lists = configs.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let providers = config.providers.iter().map(|provider| {
            let placed = ProviderConfig { api_key_file: resolve(&provider.api_key_file), ..provider.clone() };
            Provider::new(&placed).map_err(|source| ScreeningError::Provider { id: provider.id.clone(), source })
        });
        let providers = providers.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            policy: RwLock::new(policy),
            clock,
            configs,
            lists: RwLock::new(Arc::new(lists)),
            providers,
            reload_every: config.reload_every(),
            override_require: config.override_require.clone(),
            reloading: Mutex::default(),
            waivers: RwLock::default(),
        })
    }

    /// Looks addresses up in this policy's denied ones from here on.
    pub fn adopt_policy(&self, policy: Arc<Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks up every party of the effects: first in the policy and the lists, then, where those have nothing, at every
    /// provider.
    ///
    /// # Errors
    /// The first thing that stands against it.
    pub async fn clear(&self, effects: &Effects) -> Result<Clearance, Refusal> {
        let mut clearance = self.look_up(effects)?;
        clearance.overrides.extend(self.ask_providers(effects.parties().collect()).await?);
        Ok(clearance)
    }

    /// The same for one address alone.
    ///
    /// # Errors
    /// What stands against it.
    pub async fn clear_address(&self, address: &Address) -> Result<Clearance, Refusal> {
        let denied = policy::screen_address(&self.policy(), address);
        let mut clearance = self.look_up_parties(denied, &BTreeSet::from([address.clone()]))?;
        clearance.overrides.extend(self.ask_providers(BTreeSet::from([address.clone()])).await?);
        Ok(clearance)
    }

    /// Asks every provider for every party; answers those that are cleared by an override.
    async fn ask_providers(&self, parties: BTreeSet<Address>) -> Result<Vec<Waived>, Refusal> {
        let questions = self.providers.iter().flat_map(|provider| {
            parties.iter().map(move |address| async move {
                let Some(found) = provider.identifications(address).await?.into_iter().next() else { return Ok(None) };
                match self.waived(address, provider.id(), self.clock.unix_millis()) {
                    Some(waived) => Ok(Some(waived)),
                    None => Err(Refusal::Identified {
                        provider: provider.id().to_owned(),
                        address: address.clone(),
                        category: found.category.chars().take(100).collect(),
                    }),
                }
            })
        });
        Ok(try_join_all(questions).await?.into_iter().flatten().collect())
    }

    /// Looks up every party in the policy and the lists alone: what needs no network.
    ///
    /// # Errors
    /// The first thing that stands against it.
    pub fn look_up(&self, effects: &Effects) -> Result<Clearance, Refusal> {
        self.look_up_parties(policy::screen(&self.policy(), effects), &effects.parties().collect())
    }

    /// The same for these parties, whose transaction the policy was asked about before.
    ///
    /// # Errors
    /// The first thing that stands against it.
    pub fn look_up_again(&self, parties: &BTreeSet<Address>) -> Result<Clearance, Refusal> {
        let denied = parties.iter().find_map(|address| policy::screen_address(&self.policy(), address));
        self.look_up_parties(denied, parties)
    }

    fn look_up_parties(&self, denied: Option<Address>, parties: &BTreeSet<Address>) -> Result<Clearance, Refusal> {
        if let Some(address) = denied {
            return Err(Refusal::Denied(address));
        }
        let at = self.clock.unix_millis();
        let lists = self.lists();
        let mut overrides = Vec::new();
        for list in lists.iter() {
            for address in parties.iter().filter(|address| list.contains(address)) {
                match self.waived(address, &list.id, at) {
                    Some(waived) => overrides.push(waived),
                    None => return Err(Refusal::Listed { list: list.id.clone(), address: address.clone() }),
                }
            }
        }
        for (list, config) in lists.iter().zip(&self.configs) {
            if let (age_hours, Some(most)) = (age_hours(list, at), config.max_age_hours)
                && age_hours > most
            {
                return Err(Refusal::Stale { list: list.id.clone(), age_hours, most });
            }
        }
        let providers = self.providers.iter().map(|provider| provider.id().to_owned()).collect();
        Ok(Clearance { lists: lists.iter().map(|list| consulted(list, at)).collect(), providers, overrides, at })
    }

    /// The override that clears an address which `source` has something on, if one stands.
    fn waived(&self, address: &Address, source: &str, at: u64) -> Option<Waived> {
        let quorum = self.override_require.as_ref()?;
        let waivers = self.waivers();
        let found = waivers.iter().find(|waiver| waiver.covers(address) && waiver.stands(quorum, at))?;
        Some(Waived { address: address.clone(), source: source.to_owned(), waiver: found.id() })
    }

    /// The overrides that were asked for.
    pub fn waivers(&self) -> Arc<Vec<Waiver>> {
        Arc::clone(&self.waivers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts these overrides in the place of those before.
    pub fn set_waivers(&self, waivers: Vec<Waiver>) {
        *self.waivers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(waivers);
    }

    /// Who has to approve an override; without it there are none.
    pub const fn override_require(&self) -> Option<&Quorum> {
        self.override_require.as_ref()
    }

    /// Whether the policy itself denies the address: no override helps then.
    pub fn denies(&self, address: &Address) -> bool {
        policy::screen_address(&self.policy(), address).is_some()
    }

    /// Reads the lists whose files were written since; answers the names of those that changed. A list that can't be read
    /// stays as it was, until its age blocks. Blocks while it reads.
    ///
    /// # Errors
    /// The first list that can't be read; the others are in place.
    pub fn reload(&self) -> Result<Vec<String>, ScreeningError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.lists();
        let mut changed = Vec::new();
        let mut failed = None;
        let mut after = Vec::with_capacity(before.len());
        for (config, list) in self.configs.iter().zip(before.iter()) {
            match list.is_current(config) {
                Ok(true) => after.push(Arc::clone(list)),
                Ok(false) | Err(_) => match load(config) {
                    Ok(fresh) => {
                        if fresh.digest != list.digest {
                            changed.push(fresh.id.clone());
                        }
                        after.push(fresh);
                    }
                    Err(error) => {
                        tracing::error!(list = config.id, %error, "the screening list can't be read; it stays as it was");
                        failed = failed.or(Some(error));
                        after.push(Arc::clone(list));
                    }
                },
            }
        }
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        match failed {
            Some(error) => Err(error),
            None => Ok(changed),
        }
    }

    /// Whether there are lists to be read again, and how often that is done.
    pub fn reload_every(&self) -> Option<Duration> {
        (!self.configs.is_empty()).then_some(self.reload_every)
    }

    /// How the lists stand.
    pub fn status(&self) -> Vec<ListStatus> {
        let at = self.clock.unix_millis();
        let lists = self.lists();
        let status = lists.iter().zip(&self.configs).map(|(list, config)| ListStatus {
            list: consulted(list, at),
            issued: list.issued.clone(),
            entries: list.entries,
            stale: config.max_age_hours.is_some_and(|most| age_hours(list, at) > most),
            unreadable: list.unreadable.clone(),
        });
        status.collect()
    }

    fn lists(&self) -> Arc<Vec<Arc<List>>> {
        Arc::clone(&self.lists.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Screening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists: Vec<_> = self.configs.iter().map(|list| &list.id).collect();
        f.debug_struct("Screening").field("lists", &lists).field("providers", &self.providers).finish_non_exhaustive()
    }
}

fn load(config: &ListConfig) -> Result<Arc<List>, ScreeningError> {
    let list = List::load(config).map_err(|source| ScreeningError::List { id: config.id.clone(), source })?;
    let Unreadable { alarming, unknown_tickers, .. } = &list.unreadable;
    if *alarming > 0 || !unknown_tickers.is_empty() {
        tracing::warn!(list = list.id, alarming, ?unknown_tickers, "the screening list has entries that can't be read");
    }
    Ok(Arc::new(list))
}

fn consulted(list: &List, at: u64) -> Consulted {
    let digest = list.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Consulted { id: list.id.clone(), digest, age_hours: age_hours(list, at) }
}

fn age_hours(list: &List, at: u64) -> u64 {
    at.saturating_sub(list.written_at) / HOUR
}
