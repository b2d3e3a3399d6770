//! Signing: a quorum, a session, a check; where it fails, another quorum, until the deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use chains::payload::{Payload, Signature};
use tokio::time::Instant as Deadline;

use super::error::{Culprit, SignError};
use super::quorum::Quarrels;
use super::{Installed, KnownKey, Pool};
use crate::ledger::{Clock as _, SystemClock};
use crate::node::wire::{Answer, Command, WireSignature};
use crate::policy::versions::PolicyStanding;
use crate::request::SigningRequest;
use crate::scheme;
use crate::session::{Ended, Failure, FailureKind, Limits, fresh_session};
use crate::transport::SignerId;

/// What was signed, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOutcome {
    /// One signature for each payload, in order, each verified.
    pub signatures: Vec<Signature>,
    /// The signers that took part.
    pub participants: Vec<SignerId>,
    /// Who kept earlier attempts from their end.
    pub culprits: Vec<Culprit>,
}

/// What has been learned in the attempts of one request.
#[derive(Default)]
struct Attempts {
    stale: BTreeMap<SignerId, PolicyStanding>,
    refused: BTreeMap<SignerId, String>,
    silent: BTreeSet<SignerId>,
    quarrels: Quarrels,
    culprits: Vec<Culprit>,
}

impl Pool {
    /// Has the request signed: every signer judges for itself, a quorum of them signs, and each signature is verified
    /// before it is returned, one per payload in order.
    ///
    /// # Errors
    /// Where no quorum is left that would sign, or the deadline passes.
    pub async fn sign(&self, request: SigningRequest) -> Result<SignOutcome, SignError> {
        self.sign_as_of(request, SystemClock.unix_millis()).await
    }

    /// The same for a payment that signers were first asked for at `at`, in milliseconds since the Unix epoch: hours and
    /// approvals that were good then are good for every further attempt, here as at the signers.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub async fn sign_as_of(&self, request: SigningRequest, at: u64) -> Result<SignOutcome, SignError> {
        let installed = self.installed.read().unwrap_or_else(PoisonError::into_inner).clone();
        let installed = installed.ok_or(SignError::NotInstalled)?;
        let account = installed.accounts.get(&request.wallet);
        let account = account.ok_or_else(|| SignError::UnknownWallet(request.wallet.clone()))?;
        let named = request.policy;
        if installed.guard.policy().digest() != named {
            return Err(SignError::PolicyStale { named, by: Vec::new() });
        }
        // While too many others are signed for, it waits for its turn.
        let admitted = self.admission.enter(Deadline::now() + self.config.deadline).await;
        let _place = admitted.ok_or(SignError::Timeout)?;
        let entered = self.enter(account.key()).await;
        let (key, _lease) = entered.ok_or_else(|| SignError::UnknownKey(account.key().clone()))?;
        let json = serde_json::to_vec(&request)
            .map_err(|error| SignError::Invalid(format!("the request cannot be sent: {error}")))?;

        let deadline = Deadline::now() + self.config.deadline;
        let mut attempts = Attempts::default();
        // What the result is checked against is computed while the signers are at work.
        let mut judging = Some(tokio::spawn(payloads(installed, Arc::new(request), at)));
        let mut payloads = Vec::new();
        loop {
            self.note_culprit(&key.info.key, &attempts.culprits);
            if Deadline::now() >= deadline {
                return Err(SignError::Timeout);
            }
            let quorum = match self.quorum(&key, &attempts) {
                // With those that judge by another policy there might be one.
                Err(_) if !attempts.stale.is_empty() => {
                    return Err(SignError::PolicyStale { named, by: attempts.stale.into_iter().collect() });
                }
                quorum => quorum?,
            };
            let session = fresh_session();
            let start =
                Command::Sign { session, participants: quorum.clone(), epoch: key.info.epoch, request: json.clone() };
            let limits = Limits { round: self.config.round_timeout, deadline };
            let engaged = self.health.engage(&quorum);
            let began = Deadline::now();
            let Ended { outputs, failures } = self.line.run(session, &quorum, &start, limits, |_| ()).await;
            drop(engaged);
            match failures.iter().filter(|failure| failure.is_late()).count() {
                0 if failures.is_empty() => self.admission.went_well(),
                // One is slow by itself, and others are asked.
                0 | 1 => (),
                _ => self.admission.fell_silent(began),
            }
            self.learn_failures(&quorum, failures, &mut attempts);
            if outputs.is_empty() {
                continue;
            }
            if let Some(judging) = judging.take() {
                payloads = judging.await.map_err(|error| SignError::Invalid(error.to_string()))??;
            }
            if let Some(signatures) = self.first_valid(&key, &payloads, outputs, &mut attempts) {
                self.note_culprit(&key.info.key, &attempts.culprits);
                return Ok(SignOutcome { signatures, participants: quorum, culprits: attempts.culprits });
            }
        }
    }

    /// Judges the request as a signer with the pool's own roster, policy and wallets does, and signs nothing. Each signer
    /// decides for itself all the same.
    ///
    /// # Errors
    /// [`SignError::Invalid`] with the first thing that is wrong with it.
    pub fn judge(&self, request: &SigningRequest) -> Result<(), SignError> {
        let installed = self.installed.read().unwrap_or_else(PoisonError::into_inner).clone();
        let installed = installed.ok_or(SignError::NotInstalled)?;
        installed
            .guard
            .judge(request, |_| SystemClock.unix_millis())
            .map(drop)
            .map_err(|refusal| SignError::Invalid(refusal.to_string()))
    }

    /// The healthiest signers that are left.
    fn quorum(&self, key: &KnownKey, attempts: &Attempts) -> Result<Vec<SignerId>, SignError> {
        let threshold = usize::from(key.info.threshold);
        let left = |signer: &&SignerId| !attempts.refused.contains_key(*signer) && !attempts.silent.contains(*signer);
        let left = key.holders.iter().filter(left).cloned().collect::<Vec<_>>();
        let mut ranked = self.health.rank(&left, Instant::now());
        let behind = self.behind().clone();
        ranked.sort_by_key(|signer| behind.contains(signer));
        if let Some(quorum) = self.choose(&attempts.quarrels, &ranked, threshold) {
            return Ok(quorum);
        }
        if key.holders.len().saturating_sub(attempts.refused.len()) < threshold {
            let by = attempts.refused.iter().map(|(signer, reason)| (signer.clone(), reason.clone())).collect();
            return Err(SignError::Refused { by });
        }
        let willing = key.holders.iter().filter(|signer| !attempts.refused.contains_key(*signer)).cloned();
        if self.regions_short(&willing.collect::<Vec<_>>()).is_some() && !attempts.refused.is_empty() {
            let by = attempts.refused.iter().map(|(signer, reason)| (signer.clone(), reason.clone())).collect();
            return Err(SignError::Refused { by });
        }
        if let (true, Some((needed, up))) = (left.len() >= threshold, self.regions_short(&left)) {
            return Err(SignError::TooFewRegions { needed, up });
        }
        if left.len() >= threshold {
            return Err(SignError::Misbehaviour { culprits: attempts.culprits.clone() });
        }
        let up = u16::try_from(left.len()).unwrap_or(u16::MAX);
        Err(SignError::TooFewSigners { needed: key.info.threshold.into(), up })
    }

    fn learn_failures(&self, quorum: &[SignerId], failures: Vec<Failure>, attempts: &mut Attempts) {
        let now = Instant::now();
        if failures.is_empty() {
            quorum.iter().for_each(|signer| self.health.succeeded(signer));
        }
        for Failure { signer, kind } in failures {
            tracing::warn!(%signer, ?kind, "a signing attempt failed");
            match kind {
                FailureKind::Refused(reason) => {
                    attempts.refused.insert(signer, reason);
                }
                FailureKind::StalePolicy(standing) => {
                    let reason = format!("it judges by policy {}, version {}", standing.digest, standing.version);
                    attempts.refused.insert(signer.clone(), reason);
                    self.behind().insert(signer.clone());
                    attempts.stale.insert(signer, standing);
                }
                FailureKind::Silent(error) => self.blame(signer, error.to_string(), attempts, now),
                FailureKind::Broken(reason) => self.blame(signer, reason, attempts, now),
                FailureKind::Accuses { culprit: Some(culprit), reason } if quorum.contains(&culprit) => {
                    attempts.quarrels.add(&signer, &culprit);
                    self.health.failed(&culprit, now);
                    attempts.culprits.push(Culprit { signer: culprit, accused_by: Some(signer), reason });
                }
                FailureKind::Accuses { reason, .. } => {
                    // It blames nobody who was there, so it cannot go on with any of them.
                    let others = quorum.iter().filter(|other| **other != signer);
                    others.for_each(|other| attempts.quarrels.add(&signer, other));
                    self.health.failed(&signer, now);
                    attempts.culprits.push(Culprit { signer, accused_by: None, reason });
                }
            }
        }
    }

    /// Leaves a signer out of the rest of this request, for what the coordinator saw for itself.
    fn blame(&self, signer: SignerId, reason: String, attempts: &mut Attempts, now: Instant) {
        self.health.failed(&signer, now);
        attempts.silent.insert(signer.clone());
        attempts.culprits.push(Culprit { signer, accused_by: None, reason });
    }

    /// The first signer's signatures that verify, all of them. A signer whose signatures don't is a culprit.
    fn first_valid(
        &self,
        key: &KnownKey,
        payloads: &[Payload],
        outputs: Vec<(SignerId, Answer)>,
        attempts: &mut Attempts,
    ) -> Option<Vec<Signature>> {
        let mut valid: Option<(Vec<WireSignature>, Vec<Signature>)> = None;
        for (signer, answer) in outputs {
            let Answer::Signed(sent) = answer else {
                self.blame(signer, "it has no signatures".to_owned(), attempts, Instant::now());
                continue;
            };
            // Mostly all signers report the same signatures.
            if valid.as_ref().is_some_and(|(known, _)| *known == sent) {
                continue;
            }
            match verified(key, payloads, &sent) {
                Some(signatures) => valid = valid.or(Some((sent, signatures))),
                None => {
                    let reason = "its signatures do not verify".to_owned();
                    self.blame(signer, reason, attempts, Instant::now());
                }
            }
        }
        valid.map(|(_, signatures)| signatures)
    }
}

/// What has to be signed, computed anew, off the async threads.
async fn payloads(installed: Arc<Installed>, request: Arc<SigningRequest>, at: u64) -> Result<Vec<Payload>, SignError> {
    match tokio::task::spawn_blocking(move || installed.guard.judge(&request, |_| at)).await {
        Ok(Ok(judged)) => Ok(judged.payloads),
        Ok(Err(refusal)) => Err(SignError::Invalid(format!("signed what the coordinator would refuse: {refusal}"))),
        Err(error) => Err(SignError::Invalid(error.to_string())),
    }
}

fn verified(key: &KnownKey, payloads: &[Payload], signatures: &[WireSignature]) -> Option<Vec<Signature>> {
    if payloads.len() != signatures.len() {
        return None;
    }
    let check = |(payload, signature): (&Payload, &WireSignature)| {
        let signature = signature.signature()?;
        let public_key = key.info.group.at(payload.path()).ok()?;
        scheme::verify(&public_key, payload.message(), &signature).ok().map(|()| signature)
    };
    payloads.iter().zip(signatures).map(check).collect()
}
