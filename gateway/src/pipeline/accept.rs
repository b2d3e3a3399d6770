//! T1: the intent becomes durable. From here on the client may disconnect.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Pipeline;
use crate::fail;
use crate::record::Record;
use crate::store::{Accepted, NewIntent, StoreError};

/// How long a client is kept waiting for the verdict. After that it is answered `received` and asks again.
const VERDICT_WAIT: Duration = Duration::from_secs(10);

impl Pipeline {
    /// Accepts an intent, waits for its verdict, and answers the record as it then stands.
    ///
    /// # Errors
    /// Where the key names another intent, the request token was used before, or the store fails.
    pub async fn accept(self: &Arc<Self>, intent: NewIntent) -> Result<Record, StoreError> {
        // In a task of its own: a client that leaves in the middle must not leave a record behind that nobody drives.
        let pipeline = Arc::clone(self);
        let accepting = tokio::spawn(async move {
            let network = intent.network;
            fail::point("accept.before");
            let accepted = pipeline.store.accept(intent).await;
            accepted.map(|accepted| match accepted {
                Accepted::Known(id) => (id, None),
                Accepted::New(hold) => {
                    fail::point("accept.after");
                    let (judged, verdict) = oneshot::channel();
                    pipeline.hold_and_drive(hold, network, Some(judged));
                    (hold.id, Some(verdict))
                }
            })
        });
        let (id, verdict) = accepting.await.map_err(|_| StoreError::Closed)??;
        if let Some(verdict) = verdict {
            let _ = tokio::time::timeout(VERDICT_WAIT, verdict).await; // late or not, the record says where it stands
        }
        self.store.get(id).await?.ok_or(StoreError::NoRecord(id))
    }
}
