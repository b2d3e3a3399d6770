//! Before T3: what the nodes say of a call that the policy allows. It can only be held against it.

use chains::account::Account;
use chains::simulation::{Simulation, unexplained};
use signer::policy::Policy;
use signer::policy::code::{CodeDemand, code_demands};

use super::StepError;
use super::evaluate::refusal;
use super::stage::Allowed;
use crate::lane::Lane;
use crate::record::{Reason, State};

/// Makes sure that the called contracts have the code that the rules want, and has a node try the transaction. A plain payment
/// has nothing to be tried.
///
/// # Errors
/// Inside, the state that the record ends in, and why; outside, where that can't be told at present.
pub(super) async fn try_out(
    allowed: &Allowed,
    policy: &Policy,
    account: &Account,
    lane: &dyn Lane,
) -> Result<Result<(), (State, Reason)>, StepError> {
    let effects = allowed.draft().effects();
    if effects.calls.is_empty() && effects.programs.is_empty() {
        return Ok(Ok(()));
    }
    let rejected = |kind: &str, message: String| {
        let rule = Some(allowed.rule().to_owned());
        Ok(Err((State::Rejected, Reason { kind: kind.to_owned(), message, rule })))
    };
    for CodeDemand { contract, code } in code_demands(policy, account, effects) {
        let found = match lane.code_hash(&contract).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(refusal(error)?)),
        };
        if !found.is_some_and(|found| code.contains(&found)) {
            let found = found.map_or_else(|| "no code".to_owned(), |found| format!("code {found}"));
            return rejected("code_hash_mismatch", format!("contract {contract} has {found}, which no rule names"));
        }
    }
    match lane.simulate(allowed.draft().unsigned()).await {
        Err(error) => Ok(Err(refusal(error)?)),
        Ok(Simulation::Unsupported) if policy.requires_simulation() => Err(StepError::Retry(Reason {
            kind: "simulation_unavailable".to_owned(),
            message: "the policy wants the call tried, and no node can".to_owned(),
            rule: None,
        })),
        Ok(Simulation::Unsupported) => Ok(Ok(())),
        Ok(Simulation::Reverted(why)) => rejected("would_revert", format!("the call would revert: {why}")),
        Ok(Simulation::Passed(movements)) => match unexplained(effects, account.address(), &movements) {
            None => Ok(Ok(())),
            Some(movement) => rejected(
                "simulation_mismatch",
                format!("tried by a node, it does what its bytes don't say: {movement}"),
            ),
        },
    }
}
