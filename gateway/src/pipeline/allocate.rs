//! T3: the slot is reserved and the exact bytes are frozen. So late, because a payment that waits for people must not
//! hold a nonce.

use chains::account::Account;

use super::evaluate::refusal;
use super::stage::Frozen;
use super::{Next, Pipeline, StepError, Wallet};
use crate::lane::Lane;
use crate::record::{Reason, Record, State};
use crate::store::StoreError;

impl Pipeline {
    /// `queued` -> `signing` -> `signed`: reserves, freezes and signs.
    pub(super) async fn allocate_and_sign(&self, record: &Record) -> Result<Next, StepError> {
        let (wallet, lane) = self.place(record)?;
        if record.attempt().is_some() {
            // A crash came between T3 and T4. No signer was asked, so the slot is free to be chosen anew.
            self.store.thaw(record.id, self.clock.unix_millis()).await?;
        }
        match self.allocate(record, wallet, lane.as_ref()).await? {
            Ok(frozen) => self.sign(record, &wallet.account, lane.as_ref(), frozen).await,
            Err((state, reason)) => {
                self.store.abandon(record.id, State::Queued, state, reason, self.clock.unix_millis()).await?;
                Ok(Next::Go)
            }
        }
    }

    /// Builds on the slots that are free, screens and evaluates again, and makes the result durable. One payment of a
    /// wallet at a time, so that two don't choose the same slot; should they all the same, the store refuses the second.
    async fn allocate(
        &self,
        record: &Record,
        wallet: &Wallet,
        lane: &dyn Lane,
    ) -> Result<Result<Frozen, (State, Reason)>, StepError> {
        let _turn = wallet.turn.lock().await;
        let busy = self.store.busy(record.network).await?;
        let draft = match lane.build(&record.intent, &wallet.account, &busy).await {
            Ok(draft) => draft,
            Err(error) => return Ok(Err(refusal(error)?)),
        };
        let allowed = match self.judge(draft, &wallet.account) {
            Ok(allowed) => allowed,
            Err(end) => return Ok(Err(end)),
        };
        let (unsigned, slots) = (allowed.draft().unsigned().to_vec(), allowed.draft().slots().clone());
        match self.store.freeze(record.id, unsigned, slots, self.clock.unix_millis()).await {
            Ok(_) => Ok(Ok(allowed.freeze())),
            Err(StoreError::SlotTaken(slot)) => Err(StepError::Retry(Reason {
                kind: "slot_taken".to_owned(),
                message: format!("slot {slot} was taken by another payment; the next free one will be used"),
                rule: None,
            })),
            Err(error) => Err(error.into()),
        }
    }

    /// The frozen bytes of a record that was `signing` when the process ended, decoded, screened and evaluated anew.
    pub(super) fn thawed(
        &self,
        record: &Record,
        account: &Account,
        lane: &dyn Lane,
    ) -> Result<Frozen, (State, Reason)> {
        let broken = |message: String| {
            (State::Quarantined, Reason { kind: "unreadable_attempt".to_owned(), message, rule: None })
        };
        let attempt = record.attempt().ok_or_else(|| broken("the record is signing but has no attempt".to_owned()))?;
        let draft = lane.decode(account, attempt.unsigned.clone()).map_err(|error| broken(error.to_string()))?;
        // The slot is burned and a signature may exist already: what isn't allowed any more is for a person to see.
        let allowed = self.judge(draft, account).map_err(|(_, reason)| (State::Quarantined, reason))?;
        Ok(allowed.freeze())
    }
}
