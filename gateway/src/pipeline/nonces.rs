//! The ledger of nonces: what the store says of an account's nonces is held against what the nodes say, at start and every
//! minute, in both directions. Nothing is repaired behind anybody's back: a gap is filled by the next payment, everything else
//! is raised for a person, and a wallet whose key somebody else uses is frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chains::account::{Account, WalletId};
use chains::client::Nonces;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use super::Pipeline;
use crate::lane::{Lane, LaneError};
use crate::record::State;
use crate::store::{SlotRow, StoreError};

/// How often the ledger is held against the chain.
const PERIOD: Duration = Duration::from_secs(60);

/// How many missing nonces are named one by one.
const NAMED: usize = 32;

/// The first final nonce that this process saw of an account whose store held none.
#[derive(Debug, Default)]
pub(super) struct Baselines(Mutex<BTreeMap<WalletId, u64>>);

/// An account's nonces, as store and chain have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// The wallet.
    pub wallet: WalletId,
    /// What the nodes say; none on a chain that doesn't count transactions.
    pub chain: Option<Nonces>,
    /// The lowest and the highest nonce that a record holds.
    pub held: Option<(u64, u64)>,
    /// The highest nonce that is used up at final depth by no record.
    #[serde(skip)]
    pub(super) foreign: Option<u64>,
    /// What doesn't add up.
    pub findings: Vec<Finding>,
}

/// Something about a nonce that doesn't add up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// No record holds it, but one holds a higher one that may be signed: that one waits until this is used. The next payment of
    /// the wallet takes it.
    NonceGap {
        /// The nonce.
        nonce: u64,
    },
    /// It is used up at final depth, and no record holds it: somebody else signs with the key, or the store is an old copy.
    ForeignTransaction {
        /// The nonce.
        nonce: u64,
    },
    /// A record's payment is final with it, and the node says that it is free: the node lags, or lies.
    NodeBehind {
        /// The nonce.
        nonce: u64,
        /// The first one that the node says is free.
        latest: u64,
    },
}

/// Why the ledger can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The nodes can't be asked.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The wallet's network has no lane.
    #[error("wallet {0} is on no configured network")]
    NoLane(WalletId),
}

impl Finding {
    /// The stable word for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NonceGap { .. } => "nonce_gap",
            Self::ForeignTransaction { .. } => "foreign_transaction",
            Self::NodeBehind { .. } => "node_behind",
        }
    }

    /// The nonce that it is about.
    pub const fn nonce(&self) -> u64 {
        match self {
            Self::NonceGap { nonce } | Self::ForeignTransaction { nonce } | Self::NodeBehind { nonce, .. } => *nonce,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NonceGap { nonce } => {
                write!(f, "nonce {nonce} is held by no record, and higher ones wait for it; the next payment takes it")
            }
            Self::ForeignTransaction { nonce } => write!(
                f,
                "nonce {nonce} is used up on chain by no record of this store: somebody else signs with the key, or the \
                 store is an old copy; the wallet is frozen until an operator knows which"
            ),
            Self::NodeBehind { nonce, latest } => {
                write!(f, "nonce {nonce} is final, but the node says that {latest} is free: it lags, or lies")
            }
        }
    }
}

impl Pipeline {
    /// Holds the ledgers of the network's accounts against the chain, for as long as the process lives.
    pub(super) async fn watch_nonces(self: Arc<Self>, lane: Arc<dyn Lane>) {
        let network = lane.network();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for account in self.accounts().filter(|account| account.network() == network) {
                match self.nonces(account).await {
                    Ok(Ledger { chain: None, .. }) => return, // a chain without nonces, whatever the account
                    Ok(ledger) => {
                        self.raise(account, &ledger);
                        self.freeze_if_foreign(account, &ledger).await;
                    }
                    Err(error) => {
                        tracing::warn!(wallet = %account.wallet(), %error, "nonces can't be checked just now")
                    }
                }
            }
        }
    }

    /// The account's ledger, held against the chain.
    ///
    /// # Errors
    /// Where the store or the nodes can't be asked.
    pub async fn nonces(&self, account: &Account) -> Result<Ledger, LedgerError> {
        let wallet = account.wallet().clone();
        let lane = self.lane(account.network()).ok_or_else(|| LedgerError::NoLane(wallet.clone()))?;
        // The chain first: a payment that is frozen between the two questions is then no foreign one.
        let Some(chain) = lane.nonces(account).await? else {
            return Ok(Ledger { wallet, chain: None, held: None, foreign: None, findings: Vec::new() });
        };
        let slots = self.store.slots(account.network(), &subject(account)).await?;
        let held = held(&slots);
        let baseline = match held.keys().next() {
            Some(lowest) => *lowest,
            None => self.baselines.first_seen(&wallet, chain.finalized.unwrap_or(chain.latest)),
        };
        let findings = findings(&held, &chain, baseline);
        let ends = held.keys().next().zip(held.keys().next_back()).map(|(lowest, highest)| (*lowest, *highest));
        let foreign = (baseline..chain.finalized.unwrap_or(0)).rev().find(|nonce| !held.contains_key(nonce));
        Ok(Ledger { wallet, chain: Some(chain), held: ends, foreign, findings })
    }

    fn raise(&self, account: &Account, ledger: &Ledger) {
        let prefix = subject(account);
        let about = |finding: &Finding| format!("{prefix}{}", finding.nonce());
        let at = self.clock.unix_millis();
        for finding in &ledger.findings {
            let message = finding.to_string();
            if self.alerts.raise(finding.kind(), about(finding), message.clone(), at) {
                tracing::error!(wallet = %account.wallet(), kind = finding.kind(), message, "nonces don't add up");
            }
        }
        let standing: Vec<_> =
            ledger.findings.iter().map(|finding| (about(finding), finding.kind().to_owned())).collect();
        // A foreign transaction doesn't go away; somebody has to have seen it.
        let foreign: Vec<_> = self.alerts.all();
        let foreign = foreign.into_iter().filter(|alert| alert.kind == "foreign_transaction");
        let standing: Vec<_> = standing.into_iter().chain(foreign.map(|alert| (alert.subject, alert.kind))).collect();
        self.alerts.keep_only(&prefix, &standing);
    }
}

impl Baselines {
    /// The nonce from which on an account that no record has used is watched.
    fn first_seen(&self, wallet: &WalletId, finalized: u64) -> u64 {
        let mut baselines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *baselines.entry(wallet.clone()).or_insert(finalized)
    }
}

/// What the text of the account's slots begins with.
fn subject(account: &Account) -> String {
    format!("{}/{}/", account.network(), account.address())
}

/// A nonce that a record holds.
struct Held {
    state: State,
    burned: bool,
}

fn held(slots: &[SlotRow]) -> BTreeMap<u64, Held> {
    let nonce = |row: &SlotRow| row.slot.what().rsplit_once('/').and_then(|(_, nonce)| nonce.parse().ok());
    slots.iter().filter_map(|row| Some((nonce(row)?, Held { state: row.state, burned: row.burned }))).collect()
}

/// What doesn't add up between the nonces that records hold and those that the chain tells, from `baseline` on.
fn findings(held: &BTreeMap<u64, Held>, chain: &Nonces, baseline: u64) -> Vec<Finding> {
    let mut found = BTreeSet::new();
    let finalized = chain.finalized.unwrap_or(0);
    let missing = |from: u64, to: u64| (from..to).filter(|nonce| !held.contains_key(nonce)).take(NAMED);
    found.extend(missing(baseline, finalized).map(|nonce| Finding::ForeignTransaction { nonce }));
    if let Some((highest, _)) = held.iter().rev().find(|(_, held)| held.burned) {
        found.extend(missing(chain.latest.max(baseline), *highest).map(|nonce| Finding::NonceGap { nonce }));
    }
    let done = |held: &Held| matches!(held.state, State::Finalized | State::Failed);
    if let Some((nonce, _)) = held.iter().rev().find(|(_, held)| done(held))
        && *nonce >= chain.latest
    {
        found.insert(Finding::NodeBehind { nonce: *nonce, latest: chain.latest });
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(rows: &[(u64, State)]) -> BTreeMap<u64, Held> {
        rows.iter().map(|(nonce, state)| (*nonce, Held { state: *state, burned: *state >= State::Signing })).collect()
    }

    fn chain(latest: u64, finalized: u64) -> Nonces {
        Nonces { latest, pending: latest, finalized: Some(finalized) }
    }

    #[test]
    fn a_ledger_that_adds_up_has_no_findings() {
        let rows = [(3, State::Finalized), (4, State::Included), (5, State::Broadcasting), (6, State::Queued)];
        assert_eq!(findings(&ledger(&rows), &chain(5, 4), 3), []);
        assert_eq!(findings(&ledger(&[]), &chain(9, 9), 9), []);
    }

    #[test]
    fn a_gap_is_what_burned_nonces_wait_for() {
        let rows = [(3, State::Finalized), (5, State::Broadcasting), (7, State::Queued)];
        assert_eq!(findings(&ledger(&rows), &chain(4, 4), 3), [Finding::NonceGap { nonce: 4 }]);
        // Nothing above it has been signed for: it is simply free.
        assert_eq!(findings(&ledger(&[(3, State::Finalized), (5, State::Queued)]), &chain(4, 4), 3), []);
    }

    #[test]
    fn a_final_nonce_that_no_record_holds_is_somebody_elses() {
        let rows = [(3, State::Finalized), (5, State::Finalized)];
        let foreign = |nonce| Finding::ForeignTransaction { nonce };
        assert_eq!(findings(&ledger(&rows), &chain(8, 8), 3), [foreign(4), foreign(6), foreign(7)]);
        // Before it is final it may be anything; an empty store counts from what it first saw.
        assert_eq!(findings(&ledger(&[(3, State::Finalized)]), &chain(8, 4), 3), []);
        assert_eq!(findings(&ledger(&[]), &chain(10, 10), 9), [foreign(9)]);
    }

    #[test]
    fn a_node_that_forgets_what_is_final_is_named() {
        let rows = [(3, State::Finalized), (4, State::Finalized)];
        assert_eq!(findings(&ledger(&rows), &chain(4, 4), 3), [Finding::NodeBehind { nonce: 4, latest: 4 }]);
    }
}
