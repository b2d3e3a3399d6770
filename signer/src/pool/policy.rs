//! The signers' policies, from the coordinator's side: it asks which one is in force at each, and carries changes to them.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Installed, Pool};
use crate::node::wire::{Answer, Command};
use crate::policy::Policy;
use crate::policy::change::{Change, Version};
use crate::policy::versions::PolicyStanding;
use crate::session::{Failure, FailureKind};
use crate::transport::SignerId;

/// What a signer says to a question about its policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyRefusal {
    /// It will not, by its own judgement.
    #[error("{0}")]
    Refused(String),
    /// It doesn't answer, or not as it should.
    #[error("{0}")]
    Away(String),
}

impl Pool {
    /// How many signers of a key of this pool it takes to sign.
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Which policy is in force at each signer, and which one waits there.
    pub async fn policy_standings(&self) -> Vec<(SignerId, Result<PolicyStanding, PolicyRefusal>)> {
        let answers = self.line.ask_all(&self.signers, &Command::PolicyStanding).await;
        let standings: Vec<_> = answers.into_iter().map(|(signer, answer)| (signer, standing(answer))).collect();
        let own = self.policy().map(|policy| policy.digest());
        let differs = |standing: &PolicyStanding| Some(standing.digest) != own;
        let behind = standings.iter().filter(|(_, standing)| standing.as_ref().is_ok_and(differs));
        *self.behind() = behind.map(|(signer, _)| signer.clone()).collect();
        standings
    }

    /// The signers that judge by another policy than this side, as they last said.
    pub(super) fn behind(&self) -> MutexGuard<'_, BTreeSet<SignerId>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a change to a signer, which judges it by its own roster and its own policy.
    ///
    /// # Errors
    /// Where it isn't taken, or nobody answers.
    pub async fn offer_policy(&self, to: &SignerId, change: &Change) -> Result<PolicyStanding, PolicyRefusal> {
        let change = serde_json::to_vec(change).map_err(|error| PolicyRefusal::Refused(error.to_string()))?;
        standing(self.line.ask(to, &Command::OfferPolicy { change }).await)
    }

    /// The change that made a version at a signer.
    ///
    /// # Errors
    /// Where the signer has no such version, or doesn't answer.
    pub async fn policy_change(&self, of: &SignerId, version: Version) -> Result<Change, PolicyRefusal> {
        match self.line.ask(of, &Command::PolicyChange { version }).await {
            Ok(Answer::PolicyChange(change)) => serde_json::from_slice(&change)
                .map_err(|error| PolicyRefusal::Away(format!("{of} answers with what is no change: {error}"))),
            other => Err(refusal(other)),
        }
    }

    /// The policy that this side checks by, once one is installed.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        let installed = self.installed.read().unwrap_or_else(PoisonError::into_inner);
        installed.as_ref().map(|installed| Arc::clone(installed.guard.policy()))
    }

    /// Checks what signers make by this policy from here on. They judge by their own, whatever this one is.
    pub fn adopt_policy(&self, policy: Arc<Policy>) {
        let mut installed = self.installed.write().unwrap_or_else(PoisonError::into_inner);
        let adopted = |installed: &Arc<Installed>| Installed {
            guard: installed.guard.with_policy(policy),
            accounts: installed.accounts.clone(),
        };
        *installed = installed.as_ref().map(adopted).map(Arc::new);
        drop(installed);
        self.behind().clear(); // they were compared with another one
    }
}

fn standing(answer: Result<Answer, Failure>) -> Result<PolicyStanding, PolicyRefusal> {
    match answer {
        Ok(Answer::Policy(standing)) => Ok(standing),
        other => Err(refusal(other)),
    }
}

fn refusal(answer: Result<Answer, Failure>) -> PolicyRefusal {
    match answer {
        Err(Failure { kind: FailureKind::Refused(reason), .. }) => PolicyRefusal::Refused(reason),
        Err(failure) => PolicyRefusal::Away(failure.to_string()),
        Ok(_) => PolicyRefusal::Away("its answer is out of place".to_owned()),
    }
}
