//! `eth_subscribe`: what a WebSocket connection is told without asking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy::primitives::U64;
use alloy::rpc::types::Filter;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::answer;
use super::args::Args;
use super::call::FAILED;
use super::filter;
use super::host::Host;
use super::sight::Sight;
use crate::rpc::socket::{Notification, Session};
use crate::rpc::{INTERNAL_ERROR, METHOD_NOT_FOUND, RpcError};

/// What a client subscribes to.
#[derive(Clone, Debug)]
enum Topic {
    Heads,
    Logs(Box<Filter>),
    /// Transactions that come into the mempool: whole ones, or their hashes.
    Pending {
        full: bool,
    },
    /// Never told of anything: a simulated node doesn't synchronize from far behind.
    Syncing,
}

#[derive(Debug)]
struct Subscription {
    topic: Topic,
    /// How many steps of the chain (or arrivals in the mempool) the client has been told of.
    seen: u64,
}

#[derive(Debug, Default)]
struct List {
    last: u64,
    subscriptions: BTreeMap<u64, Subscription>,
}

/// The subscriptions of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Subscriptions {
    host: Arc<Host>,
    list: Arc<Mutex<List>>,
}

impl Subscriptions {
    /// None yet.
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host, list: Arc::default() }
    }

    fn subscribe(&self, args: Args<'_>) -> Result<Value, RpcError> {
        let topic = match args.required::<String>(0)?.as_str() {
            "newHeads" => Topic::Heads,
            "logs" => {
                let filter = args.optional::<Value>(1)?.map(|value| filter::parse(&value)).transpose()?;
                Topic::Logs(Box::new(filter.unwrap_or_default()))
            }
            "newPendingTransactions" => Topic::Pending { full: args.optional(1)?.unwrap_or_default() },
            "syncing" => Topic::Syncing,
            other => {
                let message = format!("no {other:?} subscription in eth namespace");
                return Err(RpcError::new(METHOD_NOT_FOUND, message));
            }
        };
        let engine = self.host.engine()?;
        let sight = engine.sight(0, None);
        let seen = if matches!(topic, Topic::Pending { .. }) { sight.pool().arrivals() } else { sight.stepped() };
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.last = list.last.saturating_add(1);
        let id = list.last;
        list.subscriptions.insert(id, Subscription { topic, seen });
        Ok(answer::json(&U64::from(id)))
    }

    fn unsubscribe(&self, args: Args<'_>) -> Result<Value, RpcError> {
        let id: U64 = args.required(0)?;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        match list.subscriptions.remove(&id.to()) {
            Some(_) => Ok(true.into()),
            None => Err(RpcError::new(FAILED, "subscription not found")),
        }
    }

    /// What has happened since the last time.
    fn collect(&self) -> Vec<Notification> {
        let Ok(engine) = self.host.engine() else { return Vec::new() };
        let sight = engine.sight(0, None);
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        for (id, subscription) in &mut list.subscriptions {
            let id = answer::json(&U64::from(*id));
            let results = subscription.news(sight);
            told.extend(results.into_iter().map(|result| Notification {
                method: "eth_subscription",
                params: json!({ "subscription": id, "result": result }),
            }));
        }
        told
    }
}

impl Subscription {
    fn news(&mut self, sight: Sight<'_>) -> Vec<Value> {
        let seen = self.seen;
        self.seen = match self.topic {
            Topic::Pending { .. } => sight.pool().arrivals(),
            _ => sight.stepped(),
        };
        match &self.topic {
            Topic::Heads => {
                let joined = sight.steps_after(seen).filter(|step| !step.removed);
                joined.map(|step| answer::header(&step.block)).collect()
            }
            Topic::Logs(filter) => {
                let logs = sight.steps_after(seen).flat_map(|step| filter::logs_of(filter, step));
                logs.map(|log| answer::json(&log)).collect()
            }
            Topic::Pending { full } => {
                let hashes = sight.pool().arrived_after(seen).into_iter();
                let show = |hash| match full {
                    true => Some(answer::json(&answer::waiting(sight.waiting(hash)?))),
                    false => Some(answer::json(&hash)),
                };
                hashes.filter_map(show).collect()
            }
            Topic::Syncing => Vec::new(),
        }
    }
}

impl Session for Subscriptions {
    fn call<'a>(&'a self, method: &'a str, params: &'a Value) -> BoxFuture<'a, Option<Result<Value, RpcError>>> {
        Box::pin(async move {
            let subscribes = match method {
                "eth_subscribe" => true,
                "eth_unsubscribe" => false,
                _ => return None,
            };
            let (this, params) = (self.clone(), params.clone());
            // The engine may be busy for a while.
            let answered = tokio::task::spawn_blocking(move || {
                let args = Args::new(&params)?;
                if subscribes { this.subscribe(args) } else { this.unsubscribe(args) }
            });
            Some(answered.await.unwrap_or_else(|_| Err(RpcError::new(INTERNAL_ERROR, "method handler crashed"))))
        })
    }

    fn next(&self) -> BoxFuture<'_, Vec<Notification>> {
        Box::pin(async move {
            let mut news = self.host.news();
            loop {
                let this = self.clone();
                let told = tokio::task::spawn_blocking(move || this.collect()).await.unwrap_or_default();
                if !told.is_empty() {
                    return told;
                }
                if news.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        })
    }
}
