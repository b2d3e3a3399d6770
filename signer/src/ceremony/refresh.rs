//! Refresh from the coordinator's side: all holders make other shares of the same key, which are of no use together with
//! the present ones. Nothing but the shares changes: not the key, not its addresses, not who holds it.
//!
//! It goes in two phases. First all write the next epoch, sealed and pending, and prove it by test signatures in which
//! every share takes part; where any of that fails, the epoch is discarded and the present one stays. Then all go over to
//! it, and only once they have is the present one erased. A coordinator that dies in between leaves signers that hold
//! both; the next one finds out which epoch counts by whether any signer has gone over.

use chains::account::KeyId;
use tokio::time::Instant;

use super::dkg::{DkgError, ROUND, WHOLE, common, describe, prove};
use crate::node::wire::Command;
use crate::scheme::SchemeId;
use crate::session::{Limits, Line, fresh_session};
use crate::transport::SignerId;
use crate::vault::KeyInfo;

/// How many rounds of messages a refresh takes, the echo rounds counted. Where a signer has forgotten something, it takes
/// more.
pub(crate) const fn rounds(scheme: SchemeId) -> u32 {
    super::dkg::rounds(scheme).saturating_add(COMPARING)
}

/// The rounds in which all compare what they remember of each other's ledgers.
pub(super) const COMPARING: u32 = 2;

/// Makes the next epoch of a key and proves it; it is pending at every holder from then on.
pub(crate) async fn prepare(line: &Line, info: &KeyInfo, on_round: impl FnMut(u32)) -> Result<KeyInfo, DkgError> {
    let Some(epoch) = info.epoch.checked_add(1) else { return Err(DkgError::Disagreement) };
    let target = KeyInfo { epoch, ..info.clone() };
    let session = fresh_session();
    let start = Command::Refresh { session, key: target.key.clone(), epoch, participants: target.participants.clone() };
    let limits = Limits { round: ROUND, deadline: Instant::now() + WHOLE };
    let ended = line.run(session, &target.participants, &start, limits, on_round).await;
    prove_or_discard(line, target.clone(), common(ended, &target), &target.participants).await
}

/// Proves what was `made`, or has everybody of `all` discard it.
pub(super) async fn prove_or_discard(
    line: &Line,
    target: KeyInfo,
    made: Result<(), DkgError>,
    all: &[SignerId],
) -> Result<KeyInfo, DkgError> {
    let proved = match made {
        Ok(()) => prove(line, &target).await,
        Err(error) => Err(error),
    };
    if let Err(error) = proved {
        // A signer that doesn't hear this gives the epoch up when the key is next settled.
        line.ask_all(all, &Command::Discard { key: target.key.clone(), epoch: target.epoch }).await;
        return Err(error);
    }
    Ok(target)
}

/// Has every holder go over to the epoch that was proved. Answers those that did; the others catch up later.
pub(crate) async fn go_over(line: &Line, target: &KeyInfo) -> Result<Vec<SignerId>, DkgError> {
    let command = Command::Activate { key: target.key.clone(), epoch: target.epoch };
    let (mut over, mut failures) = (Vec::new(), Vec::new());
    for (signer, answer) in line.ask_all(&target.participants, &command).await {
        match answer {
            Ok(_) => over.push(signer),
            Err(failure) => {
                tracing::warn!(%signer, reason = %describe(std::slice::from_ref(&failure)), "a signer stays behind");
                failures.push(failure);
            }
        }
    }
    if over.len() < usize::from(target.threshold) { Err(DkgError::Activation(failures)) } else { Ok(over) }
}

/// Has everybody erase the epochs before `epoch`. Answers those that did not, each with its reason.
pub(crate) async fn erase_before(
    line: &Line,
    key: &KeyId,
    epoch: u32,
    signers: &[SignerId],
) -> Vec<(SignerId, String)> {
    let answers = line.ask_all(signers, &Command::Retire { key: key.clone(), epoch }).await;
    let kept = answers.into_iter().filter_map(|(signer, answer)| Some((signer, answer.err()?)));
    kept.map(|(signer, failure)| (signer, failure.to_string())).collect()
}
