//! Reshare from the coordinator's side: as many of the old holders as it takes to sign share the key anew, among other
//! holders and with another threshold if need be. So a lost signer is replaced, and a pool grows or shrinks.
//!
//! Each dealer shares its Lagrange-weighted share by Feldman's verifiable sharing; the new shares are the sums. The sum of
//! the dealers' constant commitments has to be the key, so neither key nor addresses can change. What follows is as in a
//! [refresh](super::refresh): pending, proved, gone over to, and the old shares erased.

use tokio::time::Instant;

use super::dkg::{DkgError, ROUND, WHOLE, common};
use super::refresh::{COMPARING, prove_or_discard};
use crate::node::wire::Command;
use crate::scheme::SchemeId;
use crate::session::{Limits, Line, fresh_session};
use crate::transport::SignerId;
use crate::vault::KeyInfo;

/// How many rounds of messages a reshare takes, the echo rounds counted. Where a signer has forgotten something, it takes
/// more.
pub(crate) const fn rounds(scheme: SchemeId) -> u32 {
    let sharing: u32 = match scheme {
        // The complete refresh that follows gives the new holders what they need to sign together.
        SchemeId::Ecdsa => 7,
        SchemeId::Taproot | SchemeId::Ed25519 => 2,
    };
    sharing.saturating_add(COMPARING)
}

/// Makes the next epoch of a key for other holders, as `target` says, and proves it. `leavers` are the old holders that
/// are there and are none of the new ones.
pub(crate) async fn prepare(
    line: &Line,
    target: KeyInfo,
    old: &[SignerId],
    dealers: &[SignerId],
    leavers: &[SignerId],
    on_round: impl FnMut(u32),
) -> Result<KeyInfo, DkgError> {
    let session = fresh_session();
    let signers = target.participants.iter().chain(leavers).cloned().collect::<Vec<_>>();
    let start = Command::Reshare {
        session,
        target: target.clone(),
        old: old.to_vec(),
        dealers: dealers.to_vec(),
        leavers: leavers.to_vec(),
    };
    let limits = Limits { round: ROUND, deadline: Instant::now() + WHOLE };
    let ended = line.run(session, &signers, &start, limits, on_round).await;
    let made = common(ended, &target);
    prove_or_discard(line, target, made, &signers).await
}
