//! The simulator's own methods, `sim_*`: faults, partitions, crashes, reorganisations and block production, live.
//!
//! They are answered at each node's port, where chain and node may be left out, and at the world's control port. Parameters are one
//! object, by itself or in an array.

mod direct;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::{ClusterError, Commands};
use crate::fault::Faults;
use crate::fault::rule::{Fault, Rule, RuleError, RuleId};
use crate::fault::timeline::Subject;
use crate::network::Conditions;
use crate::rpc::gate::Control;
use crate::rpc::{
    Dialect, INTERNAL_ERROR, INVALID_PARAMS, JsonRpcVersion, ListenError, METHOD_NOT_FOUND, RpcError, RpcServer, serve,
};
use crate::topology::{ChainKind, NodeId, NodeIndex};

/// Most blocks that one call makes or replaces.
const MAX_BLOCKS: u32 = 10_000;

/// Who commands a world.
#[derive(Debug)]
pub struct Controller {
    faults: Arc<Faults>,
    clusters: OnceLock<Vec<Weak<dyn Commands>>>,
}

impl Controller {
    /// The commander of a world whose clusters are still to come.
    pub(crate) fn new(faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { faults, clusters: OnceLock::new() })
    }

    /// Hands over the clusters, and begins to do what rules say, until `shutdown` is cancelled.
    pub(crate) fn command(self: &Arc<Self>, clusters: Vec<Weak<dyn Commands>>, shutdown: CancellationToken) {
        let changes = self.faults.changes();
        // A world has its clusters once.
        let _ = self.clusters.set(clusters);
        tokio::spawn(direct::direct(Arc::downgrade(self), changes, shutdown));
    }

    /// The faults of the world.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// Puts a rule in force.
    ///
    /// # Errors
    /// Where it makes no sense, its name is taken, or its chain knows no such fault.
    pub fn add_fault(&self, rule: Rule) -> Result<RuleId, RuleError> {
        if let Some(chain) = rule.chain
            && let Some(cluster) = self.cluster(chain)
            && !cluster.supports(&rule.fault)
        {
            return Err(RuleError::Unsupported { chain, fault: rule.fault.to_string() });
        }
        self.faults.add(rule)
    }

    /// A chain's cluster, while the world lasts.
    pub fn cluster(&self, chain: ChainKind) -> Option<Arc<dyn Commands>> {
        self.clusters().into_iter().find(|cluster| cluster.chain() == chain)
    }

    fn clusters(&self) -> Vec<Arc<dyn Commands>> {
        self.clusters.get().into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// The chain that a call names, or at whose node it came in.
    fn named(&self, at: Option<NodeId>, chain: Option<ChainKind>) -> Result<Arc<dyn Commands>, RpcError> {
        let chain = chain.or(at.map(|node| node.chain));
        let chain = chain.ok_or_else(|| invalid("name the chain: bitcoin, ethereum or solana"))?;
        self.cluster(chain).ok_or_else(|| RpcError::new(INTERNAL_ERROR, format!("the {chain} chain doesn't run")))
    }

    async fn answer(&self, at: Option<NodeId>, method: &str, params: &Value) -> Option<Result<Value, RpcError>> {
        Some(match method {
            "sim_addFault" => self.sim_add_fault(at, params),
            "sim_removeFault" => read::<Named>(params).map(|Named { id }| self.faults.remove(&id).into()),
            "sim_listFaults" => Ok(json!(self.faults.list())),
            "sim_timeline" => Ok(json!(self.faults.timeline())),
            "sim_status" => Ok(self.sim_status().await),
            "sim_partition" => self.sim_partition(at, params),
            "sim_heal" => self.sim_heal(at, params),
            "sim_setNetwork" => self.sim_set_network(at, params),
            "sim_setBlockProduction" => self.sim_set_block_production(at, params),
            "sim_crash" => self.sim_crash(at, params).await,
            "sim_restart" => self.sim_restart(at, params).await,
            "sim_reorg" => self.sim_reorg(at, params).await,
            "sim_evictMempool" => self.sim_evict(at, params).await,
            // At a node's port the chain's own dialect knows how to mine.
            "sim_mine" if at.is_none() => self.sim_mine(params).await,
            _ => return None,
        })
    }

    fn sim_add_fault(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let mut rule: Rule = read(params)?;
        rule.chain = rule.chain.or(at.map(|node| node.chain));
        let id = self.add_fault(rule).map_err(invalid)?;
        Ok(json!({ "id": id }))
    }

    async fn sim_status(&self) -> Value {
        let mut chains = Vec::new();
        for cluster in self.clusters() {
            let up = cluster.up().await;
            let nodes = (0_u16..).map(NodeIndex).zip(cluster.urls());
            let nodes: Vec<_> =
                nodes.map(|(index, url)| json!({ "node": index, "url": url, "up": up.contains(&index) })).collect();
            chains.push(json!({ "chain": cluster.chain(), "nodes": nodes, "groups": cluster.groups() }));
        }
        json!({ "seed": self.faults.seed().to_string(), "chains": chains })
    }

    fn sim_partition(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let Partition { chain, groups } = read(params)?;
        let cluster = self.named(at, chain)?;
        cluster.partition(&groups);
        let what = Fault::Partition { groups }.to_string();
        self.faults.record_command(Subject::Network(cluster.chain()), what);
        Ok(Value::Null)
    }

    fn sim_heal(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let Heal { chain } = read(params)?;
        let healed = match chain.or(at.map(|node| node.chain)) {
            Some(chain) => vec![self.named(at, Some(chain))?],
            None => self.clusters(),
        };
        for cluster in healed {
            cluster.partition(&[]);
            self.faults.record_command(Subject::Network(cluster.chain()), "heal");
        }
        Ok(Value::Null)
    }

    fn sim_set_network(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let SetNetwork { chain, from, to, conditions } = read(params)?;
        let link = match (from, to) {
            (Some(from), Some(to)) => Some((from, to)),
            (None, None) => None,
            _ => return Err(invalid("give both from and to, or neither for all links")),
        };
        self.named(at, chain)?.set_conditions(link, conditions);
        Ok(Value::Null)
    }

    fn sim_set_block_production(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let SetBlockProduction { chain, interval_ms } = read(params)?;
        self.named(at, chain)?.set_block_interval(interval_ms.map(Duration::from_millis));
        Ok(Value::Null)
    }

    async fn sim_crash(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let (cluster, index) = self.target(at, params)?;
        let (faults, subject) = (Arc::clone(&self.faults), Subject::Node(NodeId { chain: cluster.chain(), index }));
        // A node that is told to crash at its own port takes this very call with it.
        let crash = tokio::spawn(async move {
            let crashed = cluster.crash(index).await;
            if crashed.is_ok() {
                faults.record_command(subject, Fault::Crash.to_string());
            }
            crashed
        });
        done(crash.await.unwrap_or(Ok(())))
    }

    async fn sim_restart(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let (cluster, index) = self.target(at, params)?;
        let (faults, subject) = (Arc::clone(&self.faults), Subject::Node(NodeId { chain: cluster.chain(), index }));
        // A client that hangs up doesn't leave the node half started.
        let restart = tokio::spawn(async move {
            let restarted = cluster.restart(index).await;
            if restarted.is_ok() {
                faults.record_command(subject, "restart");
            }
            restarted
        });
        done(restart.await.unwrap_or(Ok(())))
    }

    async fn sim_reorg(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let Reorg { chain, node, depth } = read(params)?;
        if depth == 0 || depth > MAX_BLOCKS {
            return Err(invalid(format!("depth must be between 1 and {MAX_BLOCKS}")));
        }
        let cluster = self.named(at, chain)?;
        let index = node.or(at.map(|node| node.index).filter(|_| chain.is_none()));
        let blocks = cluster.reorg(index, depth).await.map_err(failed)?;
        let subject = match index {
            Some(index) => Subject::Node(NodeId { chain: cluster.chain(), index }),
            None => Subject::Network(cluster.chain()),
        };
        self.faults.record_command(subject, Fault::Reorg { depth }.to_string());
        Ok(json!(blocks))
    }

    async fn sim_evict(&self, at: Option<NodeId>, params: &Value) -> Result<Value, RpcError> {
        let (cluster, index) = self.target(at, params)?;
        let evicted = cluster.evict(index).await.map_err(failed)?;
        let subject = Subject::Node(NodeId { chain: cluster.chain(), index });
        self.faults.record_command(subject, Fault::EvictMempool.to_string());
        Ok(evicted.into())
    }

    async fn sim_mine(&self, params: &Value) -> Result<Value, RpcError> {
        let Mine { chain, node, blocks } = read(params)?;
        if blocks > MAX_BLOCKS {
            return Err(invalid(format!("blocks must be at most {MAX_BLOCKS}")));
        }
        let blocks = self.named(None, chain)?.mine(node, blocks).await.map_err(failed)?;
        Ok(json!(blocks))
    }

    /// The node that a call names, or at which it came in.
    fn target(&self, at: Option<NodeId>, params: &Value) -> Result<(Arc<dyn Commands>, NodeIndex), RpcError> {
        let Target { chain, node } = read(params)?;
        let index = node.or(at.map(|node| node.index).filter(|_| chain.is_none()));
        let index = index.ok_or_else(|| invalid("name the node, counted from 0"))?;
        Ok((self.named(at, chain)?, index))
    }
}

impl Control for Controller {
    fn control<'a>(
        &'a self,
        at: Option<NodeId>,
        method: &'a str,
        params: &'a Value,
    ) -> BoxFuture<'a, Option<Result<Value, RpcError>>> {
        Box::pin(self.answer(at, method, params))
    }
}

/// The world's own port.
struct ControlPort(Arc<Controller>);

impl Dialect for ControlPort {
    const VERSION: JsonRpcVersion = JsonRpcVersion::V2;

    async fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        let unknown = || RpcError::new(METHOD_NOT_FOUND, format!("the simulator has no method {method}"));
        self.0.answer(None, method, params).await.unwrap_or_else(|| Err(unknown()))
    }
}

/// Serves `sim_*` for a whole world.
pub(crate) async fn serve_control(
    listen: SocketAddr,
    controller: Arc<Controller>,
    shutdown: CancellationToken,
) -> Result<RpcServer, ListenError> {
    serve(listen, Arc::new(ControlPort(controller)), shutdown).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    id: RuleId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Partition {
    chain: Option<ChainKind>,
    groups: Vec<Vec<NodeIndex>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Heal {
    chain: Option<ChainKind>,
}

#[derive(Deserialize)]
struct SetNetwork {
    chain: Option<ChainKind>,
    from: Option<NodeIndex>,
    to: Option<NodeIndex>,
    conditions: Conditions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBlockProduction {
    chain: Option<ChainKind>,
    /// In milliseconds. Null: only on demand.
    interval_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    chain: Option<ChainKind>,
    node: Option<NodeIndex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reorg {
    chain: Option<ChainKind>,
    node: Option<NodeIndex>,
    depth: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mine {
    chain: Option<ChainKind>,
    node: Option<NodeIndex>,
    #[serde(default = "one")]
    blocks: u32,
}

const fn one() -> u32 {
    1
}

/// Reads a call's one object.
fn read<T: DeserializeOwned>(params: &Value) -> Result<T, RpcError> {
    let object = match params {
        Value::Null => json!({}),
        Value::Array(values) => match values.as_slice() {
            [] => json!({}),
            [object] => object.clone(),
            _ => return Err(invalid("one object with named parameters is expected")),
        },
        object => object.clone(),
    };
    serde_json::from_value(object).map_err(invalid)
}

fn invalid(reason: impl ToString) -> RpcError {
    RpcError::new(INVALID_PARAMS, reason.to_string())
}

fn done(result: Result<(), ClusterError>) -> Result<Value, RpcError> {
    result.map(|()| Value::Null).map_err(failed)
}

fn failed(error: ClusterError) -> RpcError {
    match error {
        ClusterError::Node(..) => RpcError::new(INTERNAL_ERROR, error.to_string()),
        _ => invalid(error),
    }
}
