//! Subscriptions over WebSockets: signatures, accounts, logs, slots and roots
//! (<https://solana.com/docs/rpc/websocket>; agave: `rpc/src/rpc_pubsub.rs`).
//!
//! What has happened is told in the order of the branch that the node follows. After a fork, the blocks of the new branch are told and
//! the lost ones are not taken back: agave's clients aren't told either. A transaction is received when a block with it comes in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use solana_sdk::account::AccountSharedData;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;
use tokio::sync::{Notify, watch};

use super::account::AccountConfig;
use super::error::invalid_params;
use super::params::{Args, Commitment, pubkey};
use crate::node::solana::engine::Engine;
use crate::node::solana::ledger::{BlockId, Executed, Ledger, Slot, SlotInfo};
use crate::node::solana::validator::Validator;
use crate::rpc::socket::{Notification, Session};
use crate::rpc::{INTERNAL_ERROR, RpcError};

/// The most subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 10_000;
/// How many of the blocks that were told are remembered, to find where a branch goes on.
const TRAIL: usize = 1_024;

/// The subscriptions of one connection.
#[derive(Clone)]
pub(super) struct Subscriptions {
    validator: Arc<Mutex<Validator>>,
    news: watch::Receiver<()>,
    list: Arc<Mutex<List>>,
    /// Tells of a subscription that there may be something to tell of already.
    begun: Arc<Notify>,
}

#[derive(Debug, Default)]
struct List {
    last: u64,
    subscriptions: BTreeMap<u64, Subscription>,
}

#[derive(Debug)]
enum Subscription {
    Signature { signature: Signature, level: Commitment, progress: Progress },
    Account { address: Pubkey, config: AccountConfig, level: Commitment, last: Option<AccountSharedData> },
    Logs { mentions: Option<Pubkey>, level: Commitment, trail: Trail },
    Slots(Trail),
    Roots(Trail),
}

/// How much of a signature's way a client has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It wants to know when a block brings the transaction.
    Awaited,
    /// It wants to know what came of it.
    Received,
    /// All.
    Over,
}

/// The blocks that a client has been told of.
#[derive(Debug)]
struct Trail(VecDeque<BlockId>);

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct LevelConfig {
    commitment: Option<Commitment>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureConfig {
    commitment: Option<Commitment>,
    enable_received_notification: Option<bool>,
}

/// Which transactions' logs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum LogsFilter {
    All,
    AllWithVotes,
    Mentions(Vec<String>),
}

impl Subscriptions {
    /// None yet.
    pub(super) fn new(validator: Arc<Mutex<Validator>>) -> Option<Self> {
        let news = validator.lock().ok()?.news();
        Some(Self { validator, news, list: Arc::default(), begun: Arc::default() })
    }

    fn subscribe(&self, method: &str, args: &Args<'_>) -> Result<Value, RpcError> {
        let validator = self.validator.lock().map_err(|_| RpcError::new(INTERNAL_ERROR, "the node failed"))?;
        let subscription = Subscription::read(method, args, validator.engine())?;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(RpcError::new(INTERNAL_ERROR, "Node subscription limit reached"));
        }
        let id = list.last;
        list.last = list.last.saturating_add(1);
        list.subscriptions.insert(id, subscription);
        self.begun.notify_one();
        Ok(json!(id))
    }

    fn unsubscribe(&self, args: &Args<'_>) -> Result<Value, RpcError> {
        let id: u64 = args.required(0)?;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        match list.subscriptions.remove(&id) {
            Some(_) => Ok(json!(true)),
            None => Err(invalid_params("Invalid subscription id.")),
        }
    }

    /// What has happened since the last time.
    fn collect(&self) -> Vec<Notification> {
        let Ok(validator) = self.validator.lock() else { return Vec::new() };
        let engine = validator.engine();
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        list.subscriptions.retain(|id, subscription| {
            let (method, results) = subscription.news(engine);
            let notify = |result| Notification { method, params: json!({ "result": result, "subscription": id }) };
            told.extend(results.into_iter().map(notify));
            // What came of a signature is told once.
            !matches!(subscription, Subscription::Signature { progress: Progress::Over, .. })
        });
        told
    }
}

impl Subscription {
    fn read(method: &str, args: &Args<'_>, engine: &Engine) -> Result<Self, RpcError> {
        let level = |index| args.optional::<LevelConfig>(index).map(|config| config.commitment.unwrap_or_default());
        Ok(match method {
            "signatureSubscribe" => {
                let (signature, config) = (args.signature(0)?, args.optional::<SignatureConfig>(1)?);
                // What has been received already isn't received again.
                let awaited = config.enable_received_notification == Some(true)
                    && engine.ledger().transaction(&signature).is_none();
                let progress = if awaited { Progress::Awaited } else { Progress::Received };
                Self::Signature { signature, level: config.commitment.unwrap_or_default(), progress }
            }
            "accountSubscribe" => {
                let (address, config) = (args.pubkey(0)?, args.optional::<AccountConfig>(1)?);
                let level = config.context.commitment.unwrap_or_default();
                Self::Account { address, config, level, last: engine.account(&address, level.slot(engine)) }
            }
            "logsSubscribe" => {
                let mentions = match args.required::<LogsFilter>(0)? {
                    LogsFilter::All | LogsFilter::AllWithVotes => None,
                    LogsFilter::Mentions(addresses) => match addresses.as_slice() {
                        [address] => Some(pubkey(address)?),
                        _ => return Err(invalid_params("Invalid Request: Only 1 address supported")),
                    },
                };
                let level = level(1)?;
                Self::Logs { mentions, level, trail: Trail::from(engine.ledger(), level.slot(engine)) }
            }
            "slotSubscribe" => Self::Slots(Trail::from(engine.ledger(), engine.processed())),
            // Only those that are here are asked for.
            _ => Self::Roots(Trail::from(engine.ledger(), engine.finalized())),
        })
    }

    /// The name of the notifications, and what is to be told.
    fn news(&mut self, engine: &Engine) -> (&'static str, Vec<Value>) {
        let ledger = engine.ledger();
        match self {
            Self::Signature { signature, level, progress } => {
                let mut told = Vec::new();
                if let Some(executed) = ledger.transaction(signature) {
                    if *progress == Progress::Awaited {
                        *progress = Progress::Received;
                        told.push(in_context(executed.slot, json!("receivedSignature")));
                    }
                    let slot = level.slot(engine);
                    if executed.slot <= slot {
                        *progress = Progress::Over;
                        told.push(in_context(slot, json!({ "err": executed.outcome.error })));
                    }
                }
                ("signatureNotification", told)
            }
            Self::Account { address, config, level, last } => {
                let slot = level.slot(engine);
                let account = engine.account(address, slot);
                if account == *last {
                    return ("accountNotification", Vec::new());
                }
                // One that is gone is told of as an empty one.
                let shown = account.clone().unwrap_or_default();
                *last = account;
                let told = config.encode(engine, slot, &shown).map(|account| in_context(slot, account));
                ("accountNotification", told.into_iter().collect())
            }
            Self::Logs { mentions, level, trail } => {
                let mut told = Vec::new();
                for info in trail.follow(ledger, engine, level.slot(engine)) {
                    let wanted = ledger.block(info.slot).iter().filter(|executed| names(executed, mentions.as_ref()));
                    told.extend(wanted.map(|executed| {
                        let value = json!({
                            "signature": executed.signature().to_string(),
                            "err": executed.outcome.error,
                            "logs": executed.outcome.logs,
                        });
                        in_context(info.slot, value)
                    }));
                }
                ("logsNotification", told)
            }
            Self::Slots(trail) => {
                let root = engine.finalized();
                let told = trail.follow(ledger, engine, engine.processed()).into_iter().map(|info| {
                    let below = ledger.height_of(info.slot).checked_sub(1).map_or(0, |below| ledger.slot_at(below));
                    json!({ "slot": info.slot, "parent": below, "root": root })
                });
                ("slotNotification", told.collect())
            }
            Self::Roots(trail) => {
                let told = trail.follow(ledger, engine, engine.finalized());
                ("rootNotification", told.iter().map(|info| json!(info.slot)).collect())
            }
        }
    }
}

impl Trail {
    /// Everything up to a slot is known.
    fn from(ledger: &Ledger, slot: Slot) -> Self {
        let mut trail: VecDeque<_> = ledger.back_from(slot).take(TRAIL).map(|(_, info)| info.id()).collect();
        trail.make_contiguous().reverse();
        Self(trail)
    }

    /// The blocks up to a slot that have not been told, oldest first.
    fn follow(&mut self, ledger: &Ledger, engine: &Engine, slot: Slot) -> Vec<SlotInfo> {
        while self.0.back().is_some_and(|last| !ledger.has(*last)) {
            self.0.pop_back();
        }
        let last = self.0.back().map_or_else(|| engine.finalized(), |last| last.slot);
        if slot <= last {
            return Vec::new();
        }
        let news: Vec<_> = ledger.between(last.saturating_add(1), slot).collect();
        self.0.extend(news.iter().map(SlotInfo::id));
        let excess = self.0.len().saturating_sub(TRAIL);
        self.0.drain(..excess);
        news
    }
}

fn names(executed: &Executed, address: Option<&Pubkey>) -> bool {
    address.is_none_or(|address| executed.keys().any(|key| key == address))
}

fn in_context(slot: Slot, value: Value) -> Value {
    json!({ "context": { "slot": slot }, "value": value })
}

impl Session for Subscriptions {
    fn call<'a>(&'a self, method: &'a str, params: &'a Value) -> BoxFuture<'a, Option<Result<Value, RpcError>>> {
        Box::pin(async move {
            let begins = match method {
                "signatureSubscribe" | "accountSubscribe" | "logsSubscribe" | "slotSubscribe" | "rootSubscribe" => true,
                "signatureUnsubscribe"
                | "accountUnsubscribe"
                | "logsUnsubscribe"
                | "slotUnsubscribe"
                | "rootUnsubscribe" => false,
                _ => return None,
            };
            let (this, method, params) = (self.clone(), method.to_owned(), params.clone());
            // The validator may be busy for a while.
            let answered = tokio::task::spawn_blocking(move || {
                let args = Args::new(&params)?;
                if begins { this.subscribe(&method, &args) } else { this.unsubscribe(&args) }
            });
            Some(answered.await.unwrap_or_else(|_| Err(RpcError::new(INTERNAL_ERROR, "the node failed"))))
        })
    }

    fn next(&self) -> BoxFuture<'_, Vec<Notification>> {
        Box::pin(async move {
            let mut news = self.news.clone();
            loop {
                news.mark_unchanged();
                let this = self.clone();
                let told = tokio::task::spawn_blocking(move || this.collect()).await.unwrap_or_default();
                if !told.is_empty() {
                    return told;
                }
                tokio::select! {
                    changed = news.changed() => if changed.is_err() {
                        return std::future::pending().await;
                    },
                    () = self.begun.notified() => {}
                }
            }
        })
    }
}
