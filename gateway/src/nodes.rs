//! Several nodes of one network behind one face: reads go to the preferred node and move on when it fails, broadcasts go
//! to all.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use chains::chain::Chain;

use chains::client::{BroadcastError, Client, Status};
use chains::rpc::RpcError;
use futures::future::join_all;

/// The nodes of one network; at least one.
#[derive(Debug)]
pub struct Nodes<N> {
    nodes: Vec<N>,
    preferred: AtomicUsize,
}

/// A network without a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network needs at least one node endpoint")]
pub struct NoNodes;

/// An error that may be a node's fault, so that another node may do better.
pub trait NodeFault {
    /// Whether asking another node, or the same one later, may succeed.
    fn is_transient(&self) -> bool;
}

impl NodeFault for RpcError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }
}

impl NodeFault for chains::client::StateError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Rpc(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl<N: Client> Nodes<N> {
    /// Nodes in the order of preference.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(nodes: Vec<N>) -> Result<Self, NoNodes> {
        if nodes.is_empty() { Err(NoNodes) } else { Ok(Self { nodes, preferred: AtomicUsize::new(0) }) }
    }

    /// Every node.
    pub fn iter(&self) -> impl Iterator<Item = &N> {
        self.nodes.iter()
    }

    /// Asks the preferred node, and where it fails for a passing reason the next ones; who answers is preferred from then
    /// on.
    ///
    /// # Errors
    /// The last node's error where none answers.
    pub async fn read<'a, T, E, F>(&'a self, ask: impl Fn(&'a N) -> F) -> Result<T, E>
    where
        E: NodeFault,
        F: Future<Output = Result<T, E>>,
    {
        let count = self.nodes.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for offset in 0..count {
            let index = (first + offset) % count;
            let Some(node) = self.nodes.get(index) else { continue };
            match ask(node).await {
                Err(error) if error.is_transient() => last = Some(error),
                answer => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(last.expect("there is at least one node, and every turn of the loop returns or leaves its error"))
    }

    /// Sends the transaction to every node; one that takes it is enough.
    ///
    /// # Errors
    /// A node's refusal where all refused or failed, else a failure.
    pub async fn broadcast(&self, signed: &<N::Chain as Chain>::Signed) -> Result<(), BroadcastError> {
        let answers = join_all(self.nodes.iter().map(|node| node.broadcast(signed))).await;
        let mut worst = Ok(());
        for answer in answers {
            match (&worst, answer) {
                (_, Ok(())) => return Ok(()),
                (Err(BroadcastError::Rejected { .. }), Err(_)) => {}
                (_, refused) => worst = refused,
            }
        }
        worst
    }

    /// What has become of the transaction: the furthest that any node saw it. `Expired` only where every node says so.
    ///
    /// # Errors
    /// Where no node answers, or where a node that might contradict `Expired` doesn't.
    pub async fn status(&self, signed: &<N::Chain as Chain>::Signed) -> Result<Status, RpcError> {
        let answers = join_all(self.nodes.iter().map(|node| node.status(signed))).await;
        let mut best: Option<Status> = None;
        let mut failed = None;
        for answer in answers {
            match answer {
                Ok(status) if best.as_ref().is_none_or(|best| rank(&status) > rank(best)) => best = Some(status),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        match (best, failed) {
            (Some(Status::Expired) | None, Some(error)) => Err(error),
            (Some(status), _) => Ok(status),
            (None, None) => Ok(Status::Unknown),
        }
    }
}

/// How far a status is along the way. `Expired` ranks lowest: any node that knows better overrules it.
fn rank(status: &Status) -> (u8, u64) {
    match status {
        Status::Expired => (0, 0),
        Status::Unknown => (1, 0),
        Status::InMempool => (2, 0),
        Status::Included(inclusion) => (3, inclusion.confirmations),
    }
}
