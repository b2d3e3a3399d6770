//! T3: the slot is reserved and the exact bytes are frozen. So late, because a payment that waits for people must not
//! hold a nonce.

use chains::account::Account;

use super::evaluate::refusal;
use super::simulate;
use super::stage::{Allowed, Frozen, Permitted};
use super::{Next, Pipeline, StepError, Wallet};
use crate::fail;
use crate::lane::Lane;
use crate::record::{Attempt, Purpose, Reason, Record, State};
use crate::store::{Hold, StoreError};

/// How many times bytes are built anew because a slot was taken, before the payment waits a while.
pub(super) const SLOTS_TRIED: u32 = 16;

impl Pipeline {
    /// `queued` -> `signing` -> `signed`: reserves, freezes and signs.
    pub(super) async fn allocate_and_sign(&self, record: &Record, hold: Hold) -> Result<Next, StepError> {
        let (wallet, lane) = self.place(record)?;
        if record.cancel.is_some() {
            // Asked for between T3 and T4. No signer was, so nothing has to win on chain.
            let message = "cancelled before it was signed".to_owned();
            let reason = Reason { kind: "cancelled".to_owned(), message, rule: None };
            return self.abandon(hold, State::Cancelled, reason).await;
        }
        if record.is_over_as_deal(self.clock.unix_millis()) {
            let message = "the deal's time was over before it was signed".to_owned();
            let reason = Reason { kind: "deal_expired".to_owned(), message, rule: None };
            return self.abandon(hold, State::Expired, reason).await;
        }
        if record.attempt().is_some() {
            // A crash came between T3 and T4. No signer was asked, so the slot is free to be chosen anew.
            self.store.thaw(hold, self.clock.unix_millis()).await?;
            return Ok(Next::Go); // it may have been frozen under another policy
        }
        match self.allocate(record, hold, wallet, lane.as_ref()).await? {
            Ok(frozen) => self.sign(record, hold, &wallet.account, lane.as_ref(), frozen).await,
            Err((state, reason)) => self.abandon(hold, state, reason).await,
        }
    }

    /// Ends a record that was queued and never signed.
    async fn abandon(&self, hold: Hold, state: State, reason: Reason) -> Result<Next, StepError> {
        self.store.abandon(hold, State::Queued, state, reason, self.clock.unix_millis()).await?;
        Ok(Next::Go)
    }

    /// Builds on the slots that are free, screens and evaluates again, and makes the result durable. One payment of a
    /// wallet at a time, so that two don't choose the same slot; should they all the same, the store refuses the second.
    async fn allocate(
        &self,
        record: &Record,
        hold: Hold,
        wallet: &Wallet,
        lane: &dyn Lane,
    ) -> Result<Result<Frozen, (State, Reason)>, StepError> {
        let _turn = wallet.turn.lock().await;
        self.not_frozen(&record.intent.wallet).await?; // a queue may have stood before it
        let mut busy = self.store.busy(record.network).await?;
        // A node that lags may offer what a finished payment has used up, and one that has lost its mempool what another holds.
        for _ in 0..SLOTS_TRIED {
            let draft = match lane.build(&record.intent, &wallet.account, &busy).await {
                Ok(draft) => draft,
                Err(error) => return Ok(Err(refusal(error)?)),
            };
            let judged = self.judge(draft, record, &wallet.account, Purpose::Pay).await?;
            let allowed = match judged.and_then(fully_approved) {
                Ok(allowed) => allowed,
                Err(end) => return Ok(Err(end)),
            };
            let tried = simulate::try_out(&allowed, &self.governance.policy(), &wallet.account, lane).await?;
            if let Err(end) = tried {
                return Ok(Err(end));
            }
            let (unsigned, slots) = (allowed.draft().unsigned().to_vec(), allowed.draft().slots().clone());
            fail::point("freeze.before");
            match self.store.freeze(hold, unsigned, slots, self.clock.unix_millis()).await {
                Ok(number) => {
                    fail::point("freeze.after");
                    return Ok(Ok(allowed.freeze(number)));
                }
                Err(StoreError::SlotTaken(slot)) => _ = busy.insert(slot),
                Err(error) => return Err(error.into()),
            }
        }
        Err(slots_taken())
    }

    /// The frozen bytes of an attempt that waited for its signatures when the process ended, decoded, screened and evaluated
    /// anew. No node tries them again: they were tried before they were frozen, a signature may be out, and a node's answer must not
    /// decide whether a payment that may be on the chain is followed or set aside.
    ///
    /// # Errors
    /// Inside, why they are not to be signed; outside, where that can't be told at present. A signature may exist all the same.
    pub(super) async fn thawed(
        &self,
        record: &Record,
        attempt: &Attempt,
        account: &Account,
        lane: &dyn Lane,
    ) -> Result<Result<Frozen, Reason>, StepError> {
        let draft = match lane.decode(account, attempt.unsigned.clone()) {
            Ok(draft) => draft,
            Err(error) => {
                let (kind, message) = ("unreadable_attempt".to_owned(), error.to_string());
                return Ok(Err(Reason { kind, message, rule: None }));
            }
        };
        let judged = self.judge(draft, record, account, attempt.purpose).await?;
        Ok(judged.and_then(fully_approved).map(|allowed| allowed.freeze(attempt.number)).map_err(|(_, reason)| reason))
    }
}

/// Every slot that the nodes offered is another payment's.
pub(super) fn slots_taken() -> StepError {
    StepError::Retry(Reason {
        kind: "slot_taken".to_owned(),
        message: format!("{SLOTS_TRIED} slots that the nodes offered were taken by other payments"),
        rule: None,
    })
}

/// Past T2 nobody waits for people any more.
///
/// # Errors
/// Where approvals are missing: they have expired since, or the policy asks for others.
pub(super) fn fully_approved(permitted: Permitted) -> Result<Allowed, (State, Reason)> {
    match permitted {
        Permitted::Allowed(allowed) => Ok(allowed),
        Permitted::Waiting(waiting) => {
            if let Some(demand) = waiting.travel() {
                return Err((State::Rejected, demand.into()));
            }
            let quorums: Vec<_> = waiting.quorums().iter().map(ToString::to_string).collect();
            let message = format!("it takes the approval of {}, and not all of it holds", quorums.join(", and "));
            let reason = Reason { kind: "approval_missing".to_owned(), message, rule: Some(waiting.rule().to_owned()) };
            Err((State::Rejected, reason))
        }
    }
}
