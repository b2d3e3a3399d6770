//! T4 and T5: the slot is burned, the signers are asked, and the signed bytes are durable before anyone sees them.

use chains::account::Account;
use serde_json::json;
use signer::request::{Evidence, SigningRequest};

use super::stage::Frozen;
use super::{Next, Pipeline, StepError};
use crate::lane::Lane;
use crate::record::{Reason, Record, State};

/// The only lease that there is with one gateway on one store.
const FENCE: u64 = 1;

impl Pipeline {
    /// `queued` -> `signing` -> `signed`.
    pub(super) async fn sign(
        &self,
        record: &Record,
        account: &Account,
        lane: &dyn Lane,
        frozen: Frozen,
    ) -> Result<Next, StepError> {
        self.store.burn(record.id, self.clock.unix_millis()).await?;
        self.ask_signers(record, account, lane, frozen).await
    }

    /// `signing` -> `signed` after a crash or a failed try: the same frozen bytes, a fresh signing session.
    pub(super) async fn sign_again(&self, record: &Record) -> Result<Next, StepError> {
        let (wallet, lane) = self.place(record)?;
        match self.thawed(record, &wallet.account, lane.as_ref()) {
            Ok(frozen) => self.ask_signers(record, &wallet.account, lane.as_ref(), frozen).await,
            Err((state, reason)) => self.quarantine(record, state, reason).await,
        }
    }

    async fn ask_signers(
        &self,
        record: &Record,
        account: &Account,
        lane: &dyn Lane,
        frozen: Frozen,
    ) -> Result<Next, StepError> {
        let request = SigningRequest {
            tx: record.id.uuid(),
            wallet: account.wallet().clone(),
            unsigned: frozen.unsigned().to_vec(),
            evidence: Evidence { request: record.request.clone(), approvals: Vec::new() },
            fence: FENCE,
        };
        let outcome = match self.pool.sign(request).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let kind = if error.is_transient() { "signers_unavailable" } else { "signers_refused" };
                let reason = Reason { kind: kind.to_owned(), message: error.to_string(), rule: None };
                if error.is_transient() {
                    return Err(StepError::Retry(reason));
                }
                return self.quarantine(record, State::Quarantined, reason).await;
            }
        };
        let signed = match lane.assemble(account, &frozen.into_unsigned(), &outcome.signatures) {
            Ok(signed) => signed,
            Err(error) => {
                let reason = Reason { kind: "invalid_signature".to_owned(), message: error.to_string(), rule: None };
                return self.quarantine(record, State::Quarantined, reason).await;
            }
        };
        let detail = json!({
            "tx_id": signed.id,
            "signers": outcome.participants,
            "culprits": outcome.culprits,
        });
        self.store.signed(record.id, signed, detail, self.clock.unix_millis()).await?;
        Ok(Next::Go)
    }

    /// Sets aside a record whose slot is burned and that can't go on by itself. Its exposure stays `possible`.
    async fn quarantine(&self, record: &Record, state: State, reason: Reason) -> Result<Next, StepError> {
        tracing::error!(id = %record.id, reason = reason.message, "quarantined: a person must look");
        let at = self.clock.unix_millis();
        self.store.observed(record.id, State::Signing, state, None, Some(reason), at).await?;
        Ok(Next::Rest)
    }
}
