//! `signed` -> `broadcasting`: recorded first, then sent to every node.

use std::time::Duration;

use chains::client::BroadcastError;
use chains::send::SendClass;
use tokio::time::Instant;

use super::{Next, Pipeline, StepError};
use crate::fail;
use crate::lane::{Lane, LaneError};
use crate::record::{Attempt, Reason, Record, State};
use crate::store::Hold;

/// The kind of the reason that a record has whose bytes pay less than the nodes take.
pub(super) const UNDERPRICED: &str = "underpriced";
/// The same of a further attempt that doesn't pay enough more than an earlier one.
pub(super) const REPLACEMENT_UNDERPRICED: &str = "replacement_underpriced";

/// After how long bytes go out again that a node couldn't take at the time.
const BUSY: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Notes that the bytes are about to leave the house, and sends them. From then on the record is the tracker's.
    pub(super) async fn broadcast(&self, record: &Record, hold: Hold) -> Result<Next, StepError> {
        let (_, lane) = self.place(record)?;
        if let Some(attempt) = record.attempt() {
            self.store.sending(hold, attempt.number, self.clock.unix_millis()).await?;
            fail::point("sending.after");
            if self.waits_for_its_cancel(record) {
                self.look_now(record); // the tracker has it cancelled before the payment is out
            } else {
                self.send(record, hold, State::Broadcasting, attempt, lane.as_ref()).await?;
            }
        }
        Ok(Next::Rest)
    }

    /// Sends the signed bytes of an attempt, and notes what the nodes say against it. An error proves nothing: the bytes may be
    /// on their way, so the record stays with the tracker, which looks at the chain and sends again.
    pub(super) async fn send(
        &self,
        record: &Record,
        hold: Hold,
        state: State,
        attempt: &Attempt,
        lane: &dyn Lane,
    ) -> Result<(), StepError> {
        let Some(signed) = &attempt.signed else { return Ok(()) };
        let id = record.id;
        if let Some(tracking) = self.tracking(record.network) {
            self.due().insert(id, Instant::now() + tracking.resend_after);
        }
        let answer = lane.broadcast(&signed.bytes).await;
        fail::point(if attempt.number == 1 { "send.after" } else { "replace.sent" });
        let reason = answer.err().map(|error| {
            tracing::warn!(%id, attempt = attempt.number, %error, "no node took the transaction; it will be sent again");
            self.heed(record, &error);
            Reason { kind: refusal_kind(&error).to_owned(), message: error.to_string(), rule: None }
        });
        // A refused repetition of what was seen on chain before is no news, and a node that takes the bytes again doesn't mean
        // that they are stuck no more.
        let news = match &reason {
            Some(_) => state == State::Broadcasting || attempt.number > 1,
            None => record.reason.as_ref().is_none_or(|standing| standing.kind != super::track::STUCK),
        };
        if news {
            self.store.note(hold, reason, self.clock.unix_millis()).await?;
        }
        Ok(())
    }

    /// What a refusal makes more urgent. None is ever taken as proof that the bytes are not out.
    fn heed(&self, record: &Record, error: &LaneError) {
        let LaneError::Broadcast(BroadcastError::Rejected { class, .. }) = error else { return };
        match class {
            // This very transaction, another attempt or somebody else's: the chain knows.
            SendClass::SlotUsed | SendClass::Expired | SendClass::InsufficientFunds => self.look_now(record),
            // The tracker makes one that pays more, if it may.
            class if class.asks_for_more() => self.look_now(record),
            SendClass::Busy => {
                self.due().insert(record.id, Instant::now() + BUSY);
            }
            _ => {}
        }
    }

    /// Has the network's records looked at without waiting for the next turn.
    pub(super) fn look_now(&self, record: &Record) {
        if let Some(look) = self.look.get(&record.network) {
            look.notify_one();
        }
    }
}

/// The stable word for what the nodes say.
fn refusal_kind(error: &LaneError) -> &'static str {
    match error {
        LaneError::Broadcast(BroadcastError::Rejected { class, .. }) => match class {
            SendClass::SlotUsed => "slot_used",
            SendClass::Underpriced => UNDERPRICED,
            SendClass::ReplacementUnderpriced => REPLACEMENT_UNDERPRICED,
            SendClass::Busy => "node_busy",
            _ => "node_refused",
        },
        _ => "node_unreachable",
    }
}
