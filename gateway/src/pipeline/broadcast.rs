//! `signed` -> `broadcasting`: recorded first, then sent to every node.

use chains::client::BroadcastError;
use tokio::time::Instant;

use super::{Next, Pipeline, StepError};
use crate::lane::{Lane, LaneError};
use crate::record::{Reason, Record, RecordId, State};

impl Pipeline {
    /// Notes that the bytes are about to leave the house, and sends them. From then on the record is the tracker's.
    pub(super) async fn broadcast(&self, record: &Record) -> Result<Next, StepError> {
        let (_, lane) = self.place(record)?;
        self.store.broadcasting(record.id, self.clock.unix_millis()).await?;
        if let Some(signed) = record.attempt().and_then(|attempt| attempt.signed.as_ref()) {
            self.send(record.id, State::Broadcasting, &signed.bytes, lane.as_ref()).await?;
        }
        Ok(Next::Rest)
    }

    /// Sends signed bytes, and notes what the nodes say against it. An error proves nothing: the bytes may be on their
    /// way, so the record stays with the tracker, which sends again.
    pub(super) async fn send(
        &self,
        id: RecordId,
        state: State,
        signed: &[u8],
        lane: &dyn Lane,
    ) -> Result<(), StepError> {
        self.sent().insert(id, Instant::now());
        let reason = match lane.broadcast(signed).await {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%id, %error, "no node took the transaction; it will be sent again");
                let kind = match &error {
                    LaneError::Broadcast(BroadcastError::Rejected { .. }) => "node_refused",
                    _ => "node_unreachable",
                };
                Some(Reason { kind: kind.to_owned(), message: error.to_string(), rule: None })
            }
        };
        // A refused repetition of what was seen on chain before is no news.
        if reason.is_none() || state == State::Broadcasting {
            self.store.note(id, reason, self.clock.unix_millis()).await?;
        }
        Ok(())
    }
}
