//! T4 and T5: the slot is burned, the signers are asked, and the signed bytes are durable before anyone sees them.

use chains::account::Account;
use serde_json::{Value, json};
use signer::pool::SignError;
use signer::request::{Evidence, SigningRequest};

use super::stage::{Frozen, Permitted};
use super::{Next, Pipeline, StepError};
use crate::fail;
use crate::lane::Lane;
use crate::mutation::Mutation;
use crate::record::{Exposure, Reason, Record, SignedBytes, State};
use crate::store::{Hold, Sight};

/// What the signers made of frozen bytes.
pub(super) enum Signing {
    /// Signed bytes, and what there is to say of how.
    Signed(SignedBytes, Value),
    /// They will not sign. A part of them may have.
    Refused(Reason),
}

impl Pipeline {
    /// `queued` -> `signing` -> `signed`.
    pub(super) async fn sign(
        &self,
        record: &Record,
        hold: Hold,
        account: &Account,
        lane: &dyn Lane,
        frozen: Frozen,
    ) -> Result<Next, StepError> {
        self.not_frozen(account.wallet()).await?; // it may have been frozen while the bytes were built and tried
        self.store.burn(hold, self.clock.unix_millis()).await?;
        fail::point("burn.after");
        self.sign_first(record, hold, account, lane, frozen).await
    }

    /// `signing` -> `signed` after a crash or a failed try: the same frozen bytes, a fresh signing session.
    pub(super) async fn sign_again(&self, record: &Record, hold: Hold) -> Result<Next, StepError> {
        let (wallet, lane) = self.place(record)?;
        let Some(attempt) = record.attempt() else {
            let message = "the record is signing but has no attempt".to_owned();
            let reason = Reason { kind: "unreadable_attempt".to_owned(), message, rule: None };
            return self.quarantine(hold, 0, reason).await;
        };
        if record.cancel.is_some() && self.can_be_cancelled(record, wallet, lane.as_ref()).await? {
            // A signature may exist, so the slot has to be used up by a cancelling transaction; the payment is signed no more.
            let reason = Reason {
                kind: "cancelled".to_owned(),
                message: "cancelled while it was signed; its slot is to be used up".to_owned(),
                rule: None,
            };
            return self.quarantine(hold, attempt.number, reason).await;
        }
        self.not_frozen(&record.intent.wallet).await?;
        if Mutation::FreshBuildOnResign.on() {
            let busy = self.store.busy(record.network).await?;
            if let Ok(draft) = lane.build(&record.intent, &wallet.account, &busy).await
                && let Ok(Permitted::Allowed(allowed)) =
                    self.judge(draft, record, &wallet.account, attempt.purpose).await?
            {
                let frozen = allowed.freeze(attempt.number);
                return self.sign_first(record, hold, &wallet.account, lane.as_ref(), frozen).await;
            }
        }
        match self.thawed(record, attempt, &wallet.account, lane.as_ref()).await? {
            Ok(frozen) => self.sign_first(record, hold, &wallet.account, lane.as_ref(), frozen).await,
            // The slot is burned and a signature may exist already: what isn't allowed any more is for a person to see.
            Err(reason) => self.quarantine(hold, attempt.number, reason).await,
        }
    }

    async fn sign_first(
        &self,
        record: &Record,
        hold: Hold,
        account: &Account,
        lane: &dyn Lane,
        frozen: Frozen,
    ) -> Result<Next, StepError> {
        let number = frozen.number();
        match self.ask_signers(record, hold, account, lane, frozen).await? {
            Signing::Signed(signed, detail) => {
                if Mutation::BroadcastBeforePersist.on() {
                    let _ = lane.broadcast(&signed.bytes).await;
                }
                fail::point("sign.after");
                self.store.signed(hold, number, signed, detail, self.clock.unix_millis()).await?;
                fail::point("signed.after");
                Ok(Next::Go)
            }
            Signing::Refused(reason) => self.quarantine(hold, number, reason).await,
        }
    }

    /// Has frozen bytes signed, with the client's own words as evidence.
    pub(super) async fn ask_signers(
        &self,
        record: &Record,
        hold: Hold,
        account: &Account,
        lane: &dyn Lane,
        frozen: Frozen,
    ) -> Result<Signing, StepError> {
        let request = SigningRequest {
            tx: record.id.uuid(),
            wallet: account.wallet().clone(),
            unsigned: frozen.unsigned().to_vec(),
            evidence: Evidence {
                request: record.request.clone(),
                approvals: self.valid_approvals(record),
                cancel: record.cancel.clone().filter(|_| frozen.cancels()),
                release: record.release(),
            },
            fence: hold.fence,
            policy: frozen.policy(),
        };
        let outcome = match self.pool.sign_as_of(request, self.judged_at(record)).await {
            Ok(outcome) => outcome,
            Err(error @ SignError::PolicyStale { .. }) => {
                let reason = |kind: &str, message| Reason { kind: kind.to_owned(), message, rule: None };
                return match self.governance.reconcile().await {
                    // The record is judged again, by the policy that is in force then.
                    Ok(()) => Err(StepError::Retry(reason("policy_stale", error.to_string()))),
                    Err(differs) => Ok(Signing::Refused(reason("signers_refused", format!("{error}; {differs}")))),
                };
            }
            Err(error) => {
                let kind = if error.is_transient() { "signers_unavailable" } else { "signers_refused" };
                let reason = Reason { kind: kind.to_owned(), message: error.to_string(), rule: None };
                return if error.is_transient() { Err(StepError::Retry(reason)) } else { Ok(Signing::Refused(reason)) };
            }
        };
        let number = frozen.number();
        Ok(match lane.assemble(account, &frozen.into_unsigned(), &outcome.signatures) {
            Ok(signed) => {
                let detail = json!({
                    "attempt": number,
                    "tx_id": signed.id,
                    "signers": outcome.participants,
                    "culprits": outcome.culprits,
                });
                Signing::Signed(signed, detail)
            }
            Err(error) => Signing::Refused(Reason {
                kind: "invalid_signature".to_owned(),
                message: error.to_string(),
                rule: None,
            }),
        })
    }

    /// Sets aside a record whose slot is burned and that can't go on by itself. Its exposure stays `possible`.
    async fn quarantine(&self, hold: Hold, attempt: u32, reason: Reason) -> Result<Next, StepError> {
        tracing::error!(id = %hold.id, reason = reason.message, "quarantined: a person must look");
        let sight = Sight {
            from: State::Signing,
            to: State::Quarantined,
            attempt,
            inclusion: None,
            exposure: Exposure::Possible,
            reason: Some(reason),
            at: self.clock.unix_millis(),
        };
        self.store.observed(hold, sight).await?;
        Ok(Next::Go)
    }
}
