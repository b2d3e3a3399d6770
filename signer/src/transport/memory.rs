//! Signers in the same process: each has a queue.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{SignerId, Transport, TransportError};

/// How many requests may wait at one signer.
const QUEUE: usize = 1024;

/// A request on its way, with the line for its answer.
pub(crate) struct Delivery {
    /// What is asked.
    pub(crate) request: Vec<u8>,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Vec<u8>>,
}

/// A transport between signers of one process.
#[derive(Default)]
pub struct Memory {
    queues: BTreeMap<SignerId, mpsc::Sender<Delivery>>,
}

impl Memory {
    /// Connects a signer; it reads its requests from the receiver.
    pub(crate) fn connect(&mut self, id: SignerId) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.queues.insert(id, sender);
        receiver
    }
}

impl Transport for Memory {
    fn call<'a>(
        &'a self,
        to: &'a SignerId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        let exchange = async move {
            let queue = self.queues.get(to).ok_or(TransportError::Unreachable)?;
            let (answer, answered) = oneshot::channel();
            queue.send(Delivery { request, answer }).await.map_err(|_| TransportError::Unreachable)?;
            answered.await.map_err(|_| TransportError::Unreachable)
        };
        async move { timeout(deadline, exchange).await.unwrap_or(Err(TransportError::Timeout)) }.boxed()
    }
}
