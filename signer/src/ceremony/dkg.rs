//! Key generation from the coordinator's side: all signers run the protocol, each seals its share; all must report the
//! same key; every share must prove itself in a signature; then the key is marked usable everywhere. Where any of that
//! fails, nothing stays behind.

use std::collections::BTreeSet;
use std::time::Duration;

use chains::account::{KeyId, KeyPath};
use tokio::time::Instant;

use crate::node::proof_message;
use crate::node::wire::{Answer, Command};
use crate::scheme::{self, SchemeId};
use crate::session::{Ended, Failure, FailureKind, Limits, Line, fresh_session};
use crate::transport::SignerId;
use crate::vault::KeyInfo;

/// How long a signer has for one round. A round of a threshold-ECDSA key generation is seconds of computing.
pub(crate) const ROUND: Duration = Duration::from_secs(120);
/// How long a key generation may take.
pub(crate) const WHOLE: Duration = Duration::from_secs(900);

/// Why no key came into being.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DkgError {
    #[error("the protocol ended early: {}", describe(.0))]
    Protocol(Vec<Failure>),
    #[error("the signers report different public keys")]
    Disagreement,
    #[error("the test signature failed: {}", describe(.0))]
    Proof(Vec<Failure>),
    #[error("the key cannot be marked usable: {}", describe(.0))]
    Activation(Vec<Failure>),
}

/// How many rounds of messages a key generation takes, the echo rounds counted.
pub(crate) const fn rounds(scheme: SchemeId) -> u32 {
    match scheme {
        SchemeId::Ecdsa => 5,
        SchemeId::Taproot | SchemeId::Ed25519 => 3,
    }
}

/// Generates a key held by all of `signers`.
pub(crate) async fn generate(
    line: &Line,
    key: &KeyId,
    scheme: SchemeId,
    threshold: u8,
    signers: &[SignerId],
    on_round: impl FnMut(u32),
) -> Result<KeyInfo, DkgError> {
    let epoch = 1;
    let generated = attempt(line, key, scheme, epoch, threshold, signers, on_round).await;
    // Where some signers have gone over to the key and others not, the next attempt finds out what it amounts to.
    if generated.as_ref().is_err_and(|error| !matches!(error, DkgError::Activation(_))) {
        // A signer that doesn't hear this gives its share up at the next start of a key generation.
        line.ask_all(signers, &Command::Discard { key: key.clone(), epoch }).await;
    }
    generated
}

async fn attempt(
    line: &Line,
    key: &KeyId,
    scheme: SchemeId,
    epoch: u32,
    threshold: u8,
    signers: &[SignerId],
    on_round: impl FnMut(u32),
) -> Result<KeyInfo, DkgError> {
    let session = fresh_session();
    let participants = signers.to_vec();
    let start = Command::Generate { session, key: key.clone(), scheme, epoch, participants };
    let limits = Limits { round: ROUND, deadline: Instant::now() + WHOLE };
    let ended = line.run(session, signers, &start, limits, on_round).await;
    if !ended.failures.is_empty() {
        return Err(DkgError::Protocol(ended.failures));
    }
    let infos = ended.outputs.into_iter().filter_map(|(_, answer)| match answer {
        Answer::Generated(info) => Some(info),
        _ => None,
    });
    let mut infos = infos.collect::<Vec<_>>();
    let info = infos.pop().filter(|info| infos.len() + 1 == signers.len() && infos.iter().all(|i| i == info));
    let info = info.ok_or(DkgError::Disagreement)?;
    let asked = info.key == *key
        && info.scheme == scheme
        && info.epoch == epoch
        && info.threshold == threshold
        && info.participants == signers;
    if !asked {
        return Err(DkgError::Disagreement);
    }
    prove(line, &info).await?;
    activate(line, &info).await?;
    Ok(info)
}

/// Whether all holders of `target` report that they hold it, pending.
pub(super) fn common(ended: Ended, target: &KeyInfo) -> Result<(), DkgError> {
    if !ended.failures.is_empty() {
        return Err(DkgError::Protocol(ended.failures));
    }
    let reported = |signer: &SignerId| {
        let mut answers = ended.outputs.iter().filter(|(from, _)| from == signer);
        matches!(answers.next(), Some((_, Answer::Generated(info))) if info == target)
    };
    if target.participants.iter().all(reported) { Ok(()) } else { Err(DkgError::Disagreement) }
}

/// Has every share sign, in as few quorums as cover them all.
pub(crate) async fn prove(line: &Line, info: &KeyInfo) -> Result<(), DkgError> {
    for quorum in covering_quorums(&info.participants, usize::from(info.threshold)) {
        prove_by(line, info, &quorum, Limits { round: ROUND, deadline: Instant::now() + WHOLE }).await?;
    }
    Ok(())
}

/// Has a quorum sign with its shares of an epoch.
pub(crate) async fn prove_by(line: &Line, info: &KeyInfo, quorum: &[SignerId], limits: Limits) -> Result<(), DkgError> {
    let message = proof_message(info).map_err(|_| DkgError::Disagreement)?;
    let public_key = info.group.at(&KeyPath::root()).map_err(|_| DkgError::Disagreement)?;
    let session = fresh_session();
    let (key, epoch, participants) = (info.key.clone(), info.epoch, quorum.to_vec());
    let start = Command::Prove { session, key, epoch, participants };
    let ended = line.run(session, quorum, &start, limits, |_| ()).await;
    if !ended.failures.is_empty() {
        return Err(DkgError::Proof(ended.failures));
    }
    for (signer, answer) in ended.outputs {
        let good = matches!(&answer, Answer::Signed(signatures) if matches!(signatures.as_slice(), [signature]
            if signature.signature().is_some_and(|s| scheme::verify(&public_key, &message, &s).is_ok())));
        if !good {
            let kind = FailureKind::Broken("its test signature does not verify".to_owned());
            return Err(DkgError::Proof(vec![Failure { signer, kind }]));
        }
    }
    Ok(())
}

/// Marks the key usable at every signer. Those that fail catch up later; as many as it takes to sign have to know, so that
/// no one signer can lose the key for all by denying it.
async fn activate(line: &Line, info: &KeyInfo) -> Result<(), DkgError> {
    let command = Command::Activate { key: info.key.clone(), epoch: info.epoch };
    let answers = line.ask_all(&info.participants, &command).await;
    let failures = answers.into_iter().filter_map(|(_, answer)| answer.err()).collect::<Vec<_>>();
    let over = info.participants.len().saturating_sub(failures.len());
    if over < usize::from(info.threshold) { Err(DkgError::Activation(failures)) } else { Ok(()) }
}

/// Quorums of `threshold` signers that together hold every signer.
fn covering_quorums(signers: &[SignerId], threshold: usize) -> Vec<Vec<SignerId>> {
    let mut quorums = Vec::new();
    let mut left: BTreeSet<&SignerId> = signers.iter().collect();
    while !left.is_empty() {
        // First those that have not signed yet, then others to fill up.
        let (fresh, done): (Vec<_>, Vec<_>) = signers.iter().partition(|signer| left.contains(signer));
        let quorum = fresh.into_iter().chain(done).take(threshold.max(1)).cloned().collect::<Vec<_>>();
        left.retain(|signer| !quorum.contains(signer));
        quorums.push(quorum);
    }
    quorums
}

pub(super) fn describe(failures: &[Failure]) -> String {
    failures.iter().map(Failure::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_cover_every_signer() {
        for (n, t) in [(2usize, 2usize), (3, 2), (5, 3), (7, 3), (4, 4)] {
            let signers: Vec<SignerId> = (0..n).map(|i| format!("s{i}").parse().unwrap()).collect();
            let quorums = covering_quorums(&signers, t);
            assert!(quorums.iter().all(|quorum| quorum.iter().collect::<BTreeSet<_>>().len() == t));
            assert!(signers.iter().all(|signer| quorums.iter().any(|quorum| quorum.contains(signer))));
            assert_eq!(quorums.len(), n.div_ceil(t));
        }
    }
}
