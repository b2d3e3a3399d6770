//! The layer before a dialect: faults strike calls here, and the simulator's own methods are answered here.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Dialect, INTERNAL_ERROR, RpcError};
use crate::fault::Faults;
use crate::fault::rule::Fault;
use crate::topology::NodeId;

/// Whoever answers the simulator's own methods.
pub trait Control: Send + Sync + 'static {
    /// Answers `method` at a node's port, or (`at` is `None`) at the world's. `None` where the method is none of its own.
    fn control<'a>(
        &'a self,
        at: Option<NodeId>,
        method: &'a str,
        params: &'a Value,
    ) -> BoxFuture<'a, Option<Result<Value, RpcError>>>;
}

/// What stands between a node's server and its dialect.
#[derive(Clone)]
pub struct Gate {
    /// The node.
    pub node: NodeId,
    /// The faults that may strike its calls.
    pub faults: Arc<Faults>,
    /// Answers `sim_*`.
    pub control: Arc<dyn Control>,
    /// Breaks all connections at once: the node is dead.
    pub killed: CancellationToken,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What becomes of a call.
pub(super) enum Outcome {
    /// It is answered.
    Answer(Result<Value, RpcError>),
    /// The connection breaks.
    BreakOff,
}

impl Gate {
    /// Lets a call through to `dialect`, or not. `stop` ends what would otherwise wait for ever.
    pub(super) async fn call<D: Dialect>(
        &self,
        dialect: &D,
        method: &str,
        params: &Value,
        stop: &CancellationToken,
    ) -> Outcome {
        if method.starts_with("sim_")
            && let Some(answer) = self.control.control(Some(self.node), method, params).await
        {
            return Outcome::Answer(answer);
        }
        let verdict = self.faults.call(self.node, method);
        if !verdict.delay.is_zero() {
            tokio::select! {
                () = sleep(verdict.delay) => {}
                () = stop.cancelled() => return Outcome::BreakOff,
            }
        }
        match verdict.fault {
            Some(Fault::Error { code, message }) => Outcome::Answer(Err(RpcError::new(code, message))),
            Some(Fault::Timeout { executed }) => {
                if executed {
                    let _ = dialect.call(method, params).await;
                }
                stop.cancelled().await;
                Outcome::BreakOff
            }
            Some(Fault::Drop { executed }) => {
                if executed {
                    let _ = dialect.call(method, params).await;
                }
                Outcome::BreakOff
            }
            Some(Fault::Duplicate) => {
                let _ = dialect.call(method, params).await;
                Outcome::Answer(dialect.call(method, params).await)
            }
            Some(Fault::Stale { blocks }) => Outcome::Answer(dialect.call_behind(method, params, blocks).await),
            Some(Fault::Lie) => match dialect.lie(method, params) {
                Some(answer) => Outcome::Answer(answer),
                // Only what submits something can be lied about.
                None => Outcome::Answer(dialect.call(method, params).await),
            },
            Some(other) => {
                let message = format!("a fault of a call was expected, not {other}");
                Outcome::Answer(Err(RpcError::new(INTERNAL_ERROR, message)))
            }
            None => Outcome::Answer(dialect.call(method, params).await),
        }
    }
}
