//! Several nodes of one network behind one face: reads go to the preferred node and move on when it fails, broadcasts and
//! questions about a transaction go to all.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use chains::chain::Chain;

use chains::client::{BroadcastError, Client, Inclusion, Status};
use chains::rpc::RpcError;
use futures::future::join_all;

/// The nodes of one network; at least one.
#[derive(Debug)]
pub struct Nodes<N> {
    nodes: Vec<N>,
    preferred: AtomicUsize,
    /// So many must say that something is final.
    agreement: usize,
}

/// What the nodes together say of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The furthest that any node saw it. `finalized` and [`Status::Expired`] are the word of enough nodes.
    pub status: Status,
    /// So many blocks, the including one counted, it is deep by the word of enough nodes; 0 where it is in none.
    pub agreed_depth: u64,
    /// Whether every node that there is said [`Status::Expired`].
    pub unanimous: bool,
}

/// A network without a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network needs at least one node endpoint")]
pub struct NoNodes;

/// An error that may be a node's fault, so that another node may do better.
pub trait NodeFault {
    /// Whether it is a failure to reach the node, which may pass: it says nothing but that.
    fn is_transient(&self) -> bool;

    /// Whether another node may answer where this one didn't: it is not the question that is at fault.
    fn may_be_the_nodes(&self) -> bool;
}

impl NodeFault for RpcError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }

    /// Always: a node that answers with an error may be warming up, lag, limit its callers or be of another network.
    fn may_be_the_nodes(&self) -> bool {
        true
    }
}

impl NodeFault for chains::client::StateError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Rpc(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Not what the transaction or the chain's state is to blame for.
    fn may_be_the_nodes(&self) -> bool {
        match self {
            Self::Rpc(error) => error.may_be_the_nodes(),
            _ => false,
        }
    }
}

impl<N> Nodes<N> {
    /// Nodes in the order of preference.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(nodes: Vec<N>) -> Result<Self, NoNodes> {
        if nodes.is_empty() {
            return Err(NoNodes);
        }
        let agreement = nodes.len() / 2 + 1;
        Ok(Self { nodes, preferred: AtomicUsize::new(0), agreement })
    }

    /// The same, of which `agreement` must say that something is final: at least one, at most all. Without this, it takes most
    /// of them.
    #[must_use]
    pub fn agreeing(mut self, agreement: usize) -> Self {
        self.agreement = agreement.clamp(1, self.nodes.len());
        self
    }

    /// Every node.
    pub fn iter(&self) -> impl Iterator<Item = &N> {
        self.nodes.iter()
    }

    /// Asks the preferred node, and where it fails in any way of its own the next ones; who answers is preferred from then
    /// on.
    ///
    /// # Errors
    /// What the question itself is to blame for, by the first node that says so. Else, where no node answers, the last error
    /// that is more than a failure to reach a node, or the last one.
    pub async fn read<'a, T, E, F>(&'a self, ask: impl Fn(&'a N) -> F) -> Result<T, E>
    where
        E: NodeFault,
        F: Future<Output = Result<T, E>>,
    {
        let count = self.nodes.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut told: Option<E> = None;
        for offset in 0..count {
            let index = (first + offset) % count;
            let Some(node) = self.nodes.get(index) else { continue };
            match ask(node).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if !error.may_be_the_nodes() => return Err(error),
                Err(error) if error.is_transient() && told.as_ref().is_some_and(|told| !told.is_transient()) => {}
                Err(error) => told = Some(error),
            }
        }
        Err(told.expect("there is at least one node, and every turn of the loop returns or leaves an error"))
    }
}

impl<N: Client> Nodes<N> {
    /// Sends the transaction to every node; one that takes it is enough.
    ///
    /// # Errors
    /// Where all refused or failed, the refusal that says most about the transaction, else a failure.
    pub async fn broadcast(&self, signed: &<N::Chain as Chain>::Signed) -> Result<(), BroadcastError> {
        let answers = join_all(self.nodes.iter().map(|node| node.broadcast(signed))).await;
        let mut worst = Ok(());
        for answer in answers {
            match (&worst, answer) {
                (_, Ok(())) => return Ok(()),
                (Err(known), Err(error)) if weight(known) >= weight(&error) => {}
                (_, refused) => worst = refused,
            }
        }
        worst
    }

    /// What has become of the transaction, by the word of all nodes.
    ///
    /// # Errors
    /// Where no node answers, or where too few answer to say that it is expired.
    pub async fn status(&self, signed: &<N::Chain as Chain>::Signed) -> Result<Seen, RpcError> {
        agree(join_all(self.nodes.iter().map(|node| node.status(signed))).await, self.agreement)
    }
}

/// How much an error says about the transaction itself; a failure to ask says nothing.
fn weight(error: &BroadcastError) -> Option<u8> {
    match error {
        BroadcastError::Rejected { class, .. } => Some(class.weight()),
        _ => None,
    }
}

/// What the answers of all nodes come to. The best news is taken from any node, because a node that lags doesn't know it; what
/// can't be taken back (finality, expiry) takes `agreement` of them, and expiry two where there are two.
fn agree(answers: Vec<Result<Status, RpcError>>, agreement: usize) -> Result<Seen, RpcError> {
    let nodes = answers.len();
    let mut statuses = Vec::with_capacity(nodes);
    let mut failed = None;
    for answer in answers {
        match answer {
            Ok(status) => statuses.push(status),
            Err(error) => failed = Some(error),
        }
    }
    let best = statuses.iter().max_by_key(|status| rank(status)).cloned();
    match (best, failed) {
        (None, Some(error)) => Err(error),
        (None, None) => Ok(Seen { status: Status::Unknown, agreed_depth: 0, unanimous: false }),
        (Some(Status::Expired | Status::SlotUsed), Some(error)) if statuses.len() < agreement.max(nodes.min(2)) => {
            Err(error)
        }
        (Some(Status::Expired), _) => {
            Ok(Seen { status: Status::Expired, agreed_depth: 0, unanimous: statuses.len() == nodes })
        }
        (Some(Status::Included(best)), _) => Ok(included(best, &statuses, agreement)),
        (Some(status), _) => Ok(Seen { status, agreed_depth: 0, unanimous: false }),
    }
}

/// How deep and how final the transaction is in the block that the furthest node tells.
fn included(mut best: Inclusion, statuses: &[Status], agreement: usize) -> Seen {
    let same = statuses.iter().filter_map(|status| match status {
        Status::Included(inclusion) if inclusion.block == best.block && inclusion.height == best.height => {
            Some(inclusion)
        }
        _ => None,
    });
    let mut depths: Vec<u64> = Vec::new();
    let mut finals = 0_usize;
    for inclusion in same {
        depths.push(inclusion.confirmations);
        finals = finals.saturating_add(usize::from(inclusion.finalized));
    }
    depths.sort_unstable_by(|a, b| b.cmp(a));
    let agreed_depth = depths.get(agreement.saturating_sub(1)).copied().unwrap_or_default();
    best.finalized = finals >= agreement;
    Seen { status: Status::Included(best), agreed_depth, unanimous: false }
}

/// How far a status is along the way. `Expired` ranks lowest, and `SlotUsed` next: any node that knows better overrules them.
fn rank(status: &Status) -> (u8, u64) {
    match status {
        Status::Expired => (0, 0),
        Status::SlotUsed => (1, 0),
        Status::Unknown => (2, 0),
        Status::InMempool => (3, 0),
        Status::Included(inclusion) => (4, inclusion.confirmations),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chains::chain::BuildError;
    use chains::client::StateError;

    use super::*;

    fn included(block: &str, confirmations: u64, finalized: bool) -> Result<Status, RpcError> {
        Ok(Status::Included(Inclusion {
            height: 7,
            block: Some(block.to_owned()),
            confirmations,
            finalized,
            succeeded: true,
            failure: None,
            fee: None,
        }))
    }

    fn down() -> Result<Status, RpcError> {
        Err(RpcError::Timeout { method: "any".to_owned() })
    }

    fn final_and_deep(seen: &Seen) -> (bool, u64) {
        let Status::Included(inclusion) = &seen.status else { panic!("{seen:?}") };
        (inclusion.finalized, seen.agreed_depth)
    }

    #[test]
    fn one_nodes_word_makes_nothing_final_where_there_are_more() {
        let alone = agree(vec![included("a", 9, true)], 1).unwrap();
        assert_eq!(final_and_deep(&alone), (true, 9));
        let one_of_three = vec![included("a", 9, true), Ok(Status::Unknown), included("a", 2, false)];
        assert_eq!(final_and_deep(&agree(one_of_three, 2).unwrap()), (false, 2));
        let two_of_three = vec![included("a", 9, true), down(), included("a", 7, true)];
        assert_eq!(final_and_deep(&agree(two_of_three, 2).unwrap()), (true, 7));
        // Another block is another word.
        let forked = vec![included("a", 9, true), included("b", 8, true)];
        assert_eq!(final_and_deep(&agree(forked, 2).unwrap()), (false, 0));
    }

    #[test]
    fn expiry_takes_two_and_nobody_who_knows_better() {
        let expired = || Ok(Status::Expired);
        assert!(agree(vec![expired()], 1).unwrap().unanimous);
        assert!(agree(vec![expired(), down()], 1).is_err(), "one of two isn't enough, whatever is configured");
        let two = agree(vec![expired(), expired(), down()], 2).unwrap();
        assert_eq!((two.status, two.unanimous), (Status::Expired, false));
        assert!(agree(vec![expired(), expired(), down()], 3).is_err());
        let known = agree(vec![expired(), expired(), Ok(Status::Unknown)], 1).unwrap();
        assert_eq!(known.status, Status::Unknown);
    }

    /// Asks nodes that answer as told, by name; the names of those that were asked, in order.
    async fn read<'a, E: NodeFault>(
        nodes: &'a Nodes<&'static str>,
        answer: impl Fn(&str) -> Result<u8, E>,
    ) -> (Result<u8, E>, Vec<&'static str>) {
        let asked = Mutex::new(Vec::new());
        let result = nodes
            .read(|node: &'a &'static str| {
                asked.lock().unwrap().push(*node);
                std::future::ready(answer(node))
            })
            .await;
        (result, asked.into_inner().unwrap())
    }

    fn three() -> Nodes<&'static str> {
        Nodes::new(vec!["first", "second", "third"]).unwrap()
    }

    fn timeout() -> RpcError {
        RpcError::Timeout { method: "any".to_owned() }
    }

    /// What a node may say that is no answer: bitcoind warming up, agave lagging, a provider's limit, an HTML page, another
    /// network's node, silence.
    fn faults() -> Vec<RpcError> {
        let node = |code: i64| RpcError::Node { method: "any".to_owned(), code, message: String::new(), data: None };
        let malformed = |status| RpcError::Malformed { method: "any".to_owned(), status, reason: String::new() };
        let unfit = RpcError::Endpoint { url: "http://localhost".to_owned(), reason: String::new() };
        vec![node(-28), node(-32005), node(-32000), malformed(200), malformed(429), unfit, timeout()]
    }

    #[tokio::test]
    async fn a_read_moves_on_whatever_the_node_fails_with() {
        for fault in faults() {
            let nodes = three();
            let fault = Mutex::new(Some(fault));
            let (answer, asked) = read(&nodes, |node| match node {
                "first" => Err(fault.lock().unwrap().take().unwrap()),
                _ => Ok(7),
            })
            .await;
            assert_eq!((answer.unwrap(), asked), (7, vec!["first", "second"]));
            let (_, asked) = read::<RpcError>(&nodes, |_| Ok(7)).await;
            assert_eq!(asked, ["second"], "who answered is preferred");
        }
    }

    #[tokio::test]
    async fn nobody_is_preferred_for_an_error() {
        let nodes = three();
        let faults = Mutex::new(faults());
        for _ in 0..2 {
            let (_, asked) = read(&nodes, |_| Err(faults.lock().unwrap().pop().unwrap())).await;
            assert_eq!(asked, ["first", "second", "third"]);
        }
        let reverts = || Err(StateError::Reverted("no".to_owned()));
        let (_, asked) = read(&nodes, |node| if node == "first" { Err(timeout().into()) } else { reverts() }).await;
        assert_eq!(asked, ["first", "second"]);
        let (_, asked) = read::<RpcError>(&nodes, |_| Ok(7)).await;
        assert_eq!(asked, ["first"]);
    }

    #[tokio::test]
    async fn what_the_transaction_is_to_blame_for_ends_the_search() {
        for error in [StateError::Reverted("no".to_owned()), BuildError::ZeroAmount.into()] {
            let nodes = three();
            let error = Mutex::new(Some(error));
            let (answer, asked) = read(&nodes, |_| Err(error.lock().unwrap().take().unwrap())).await;
            assert!(matches!(answer, Err(StateError::Reverted(_) | StateError::Build(_))), "{answer:?}");
            assert_eq!(asked, ["first"]);
        }
        let (answer, asked) = read(&three(), |_| Err(StateError::Rpc(timeout()))).await;
        assert!(answer.is_err());
        assert_eq!(asked.len(), 3, "a node's failure to tell the state is no verdict");
    }

    #[tokio::test]
    async fn where_all_fail_the_error_that_says_most_is_told() {
        let refused = |code| RpcError::Node { method: "any".to_owned(), code, message: String::new(), data: None };
        let of = async |answers: [Option<i64>; 3]| {
            let (result, _) = read(&three(), |node| {
                let place = ["first", "second", "third"].iter().position(|name| *name == node).unwrap();
                Err(answers[place].map_or_else(timeout, refused))
            })
            .await;
            match result.unwrap_err() {
                RpcError::Node { code, .. } => Some(code),
                _ => None,
            }
        };
        assert_eq!(of([Some(1), None, None]).await, Some(1), "more than a failure to reach a node");
        assert_eq!(of([None, Some(2), None]).await, Some(2));
        assert_eq!(of([Some(1), Some(2), None]).await, Some(2), "the last of them");
        assert_eq!(of([None, None, None]).await, None);
    }
}
