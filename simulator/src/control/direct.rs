//! Does what rules say that nobody calls for: crashes, partitions, reorganisations, evictions, each at its time.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Controller;
use crate::cluster::Commands;
use crate::fault::Change;
use crate::fault::rule::{Fault, Rule, RuleId};
use crate::fault::timeline::Subject;
use crate::topology::{NodeId, NodeIndex};

/// The number of the event that ends what a rule did once, which was its first.
const OVER: u64 = 2;

/// Follows the rules until `shutdown` is cancelled.
pub(super) async fn direct(controller: Weak<Controller>, mut changes: Receiver<Change>, shutdown: CancellationToken) {
    let mut acts: BTreeMap<RuleId, CancellationToken> = BTreeMap::new();
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change::Added(id, rule)) if rule.fault.is_act() => {
                let removed = shutdown.child_token();
                acts.insert(id.clone(), removed.clone());
                tokio::spawn(act(Weak::clone(&controller), id, rule, removed, shutdown.clone()));
            }
            Ok(Change::Added(..)) => {}
            Ok(Change::Removed(id)) => {
                if let Some(removed) = acts.remove(&id) {
                    removed.cancel();
                }
            }
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "more rules came and went than could be followed"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// One rule from its beginning to its end: what it did is undone when its time is over or it is removed.
async fn act(
    controller: Weak<Controller>,
    id: RuleId,
    rule: Rule,
    removed: CancellationToken,
    shutdown: CancellationToken,
) {
    tokio::select! {
        () = sleep(rule.after()) => {}
        () = removed.cancelled() => return,
    }
    let mut undo = Vec::new();
    for (cluster, nodes) in targets(&controller, &rule) {
        undo.extend(strike(&controller, &id, &rule, &cluster, nodes).await);
    }
    if undo.is_empty() {
        return;
    }
    let over = async {
        match rule.lasts() {
            Some(lasts) => sleep(lasts).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = removed.cancelled() => {}
    }
    if shutdown.is_cancelled() {
        return;
    }
    for act in undo {
        let (subject, what) = act.undo().await;
        if let Some(controller) = controller.upgrade() {
            controller.faults().record(&id.0, subject, OVER, what);
        }
    }
}

/// What has been done and can be undone.
enum Done {
    Crashed(Arc<dyn Commands>, NodeIndex),
    Partitioned(Arc<dyn Commands>),
}

impl Done {
    /// Undoes it, and tells how it is written down.
    async fn undo(self) -> (Subject, &'static str) {
        match self {
            Self::Crashed(cluster, index) => {
                let restarted = cluster.restart(index).await;
                if let Err(error) = &restarted {
                    tracing::warn!(%error, "a crashed node doesn't come back");
                }
                let subject = Subject::Node(NodeId { chain: cluster.chain(), index });
                (subject, if restarted.is_ok() { "restart" } else { "no restart" })
            }
            Self::Partitioned(cluster) => {
                cluster.partition(&[]);
                (Subject::Network(cluster.chain()), "heal")
            }
        }
    }
}

/// The clusters and nodes that a rule is about.
fn targets(controller: &Weak<Controller>, rule: &Rule) -> Vec<(Arc<dyn Commands>, Vec<NodeIndex>)> {
    let clusters = controller.upgrade().map(|controller| controller.clusters()).unwrap_or_default();
    let seen = |cluster: Arc<dyn Commands>| {
        let chain = cluster.chain();
        let all = (0_u16..).map(NodeIndex).zip(cluster.urls()).map(|(index, _)| index);
        let nodes = all.filter(|index| rule.scope.sees_node(rule.chain, NodeId { chain, index: *index })).collect();
        (cluster, nodes)
    };
    clusters.into_iter().map(seen).collect()
}

async fn strike(
    controller: &Weak<Controller>,
    id: &RuleId,
    rule: &Rule,
    cluster: &Arc<dyn Commands>,
    nodes: Vec<NodeIndex>,
) -> Vec<Done> {
    let Some(faults) = controller.upgrade().map(|controller| Arc::clone(controller.faults())) else {
        return Vec::new();
    };
    let chain = cluster.chain();
    if nodes.is_empty() || !cluster.supports(&rule.fault) {
        return Vec::new();
    }
    if let Fault::Partition { groups } = &rule.fault {
        if !faults.acts(id, Subject::Network(chain)) {
            return Vec::new();
        }
        cluster.partition(groups);
        return vec![Done::Partitioned(Arc::clone(cluster))];
    }
    let mut done = Vec::new();
    for index in nodes {
        if !faults.acts(id, Subject::Node(NodeId { chain, index })) {
            continue;
        }
        let result = match &rule.fault {
            Fault::Crash => {
                let crashed = cluster.crash(index).await;
                if crashed.is_ok() {
                    done.push(Done::Crashed(Arc::clone(cluster), index));
                }
                crashed
            }
            Fault::Reorg { depth } => cluster.reorg(Some(index), *depth).await.map(drop),
            Fault::EvictMempool => cluster.evict(index).await.map(drop),
            // Nothing else is an act.
            _ => Ok(()),
        };
        if let Err(error) = result {
            tracing::warn!(rule = %id, %error, "a fault could not be done");
        }
    }
    done
}
