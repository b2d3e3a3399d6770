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
        let network = intent.network;
        fail::point("accept.before");
        let id = match self.store.accept(intent).await? {
            Accepted::Known(id) => id,
            Accepted::New(hold) => {
                fail::point("accept.after");
                let (judged, verdict) = oneshot::channel();
                self.hold_and_drive(hold, network, Some(judged));
                let _ = tokio::time::timeout(VERDICT_WAIT, verdict).await; // late or not, the record says where it stands
                hold.id
            }
        };
        self.store.get(id).await?.ok_or(StoreError::NoRecord(id))
    }
}
