//! Delegations that were revoked. Delegations travel with the approvals that are given under them, and are checked with them; what
//! this gateway adds is that one which its delegator has taken back counts for nothing here any more.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use signer::approval::delegation::DelegationId;
use signer::approval::{Approval, Statement};

use super::Pipeline;
use crate::store::{PaperKind, StoreError};

impl Pipeline {
    /// Reads which delegations were revoked: here, or at another gateway.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn load_revocations(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.reading.lock().await;
        let papers = self.store.papers(PaperKind::Revocation).await?;
        let revoked = papers.iter().filter_map(|paper| paper.name.parse().ok()).collect();
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(revoked);
        Ok(())
    }

    /// The delegations that were revoked.
    pub(crate) fn revoked(&self) -> Arc<BTreeSet<DelegationId>> {
        Arc::clone(&self.revoked.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a statement is said under a delegation that was revoked.
    pub(crate) fn is_revoked(&self, statement: &Statement) -> bool {
        let under = |envelope: &Approval| self.revoked().contains(&DelegationId::of(envelope));
        statement.delegation.as_ref().is_some_and(under)
    }
}
