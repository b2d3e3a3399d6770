//! Keys that change hands: refresh, reshare, import. Signing goes on meanwhile, with the epoch that is there.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chains::account::KeyId;
use serde::Serialize;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio::time::timeout;

use super::error::Culprit;
use super::settle::Settled;
use super::{KeySpec, KnownKey, Pool, PoolError, Progress};
use crate::ceremony::import::{self, ImportedKey};
use crate::ceremony::{dkg, refresh, reshare};
use crate::node::wire::{Answer, Command, HeldKey};
use crate::scheme::GroupKey;
use crate::session::{Limits, fresh_session};
use crate::transport::SignerId;
use crate::vault::KeyInfo;

/// What has become of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rekeyed {
    /// Its name.
    pub key: KeyId,
    /// The generation of shares that it signs with from here on.
    pub epoch: u32,
    /// How many shares it takes.
    pub threshold: u16,
    /// Who holds them.
    pub holders: Vec<SignerId>,
    /// Signers that keep an older share, each with the reason: it has to be erased there. Fewer old shares than the old
    /// threshold are of no use.
    pub unerased: Vec<(SignerId, String)>,
}

/// Stands before an epoch: signatures pass through it as long as the epoch is used.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<RwLock<bool>>);

/// A signature that is being made with the shares of an epoch, which are not erased before this is dropped.
pub(super) struct Lease(#[expect(dead_code, reason = "it is held, not read")] OwnedRwLockReadGuard<bool>);

impl Gate {
    /// Passes, unless the gate is closed.
    async fn enter(&self) -> Option<Lease> {
        let closed = self.0.clone().read_owned().await;
        (!*closed).then_some(Lease(closed))
    }

    /// Lets nobody pass any more, and waits until those that have passed are done.
    async fn close(&self) {
        *self.0.write().await = true;
    }
}

impl Pool {
    /// Gives every holder of a key another share of it. The key and its addresses stay the same, old and new shares are of
    /// no use together, and the old ones are erased. Signing goes on meanwhile. `progress` is told of each round.
    ///
    /// # Errors
    /// Where there is no such key, a holder is missing (then reshare the key without it), or the refresh fails; then the
    /// key is as it was.
    pub async fn refresh(&self, key: &KeyId, progress: impl Fn(Progress) + Send + Sync) -> Result<Rekeyed, PoolError> {
        let _one_at_a_time = self.ceremony.lock().await;
        let (known, _, awaited) = self.settled(key).await?;
        if let Some(missing) = known.info.participants.iter().find(|signer| !known.holders.contains(signer)) {
            let reason = format!("{missing} does not answer or has lost its share; reshare the key without it");
            return Err(PoolError::Ceremony { key: key.clone(), what: "refreshed", reason });
        }
        if let Some(away) = awaited {
            let reason = format!(
                "a ceremony of it was cut off, and {away} is away, which may have gone over to other shares; start it, \
                 or reshare the key without it"
            );
            return Err(PoolError::Ceremony { key: key.clone(), what: "refreshed", reason });
        }
        let began = Instant::now();
        let of = refresh::rounds(known.info.scheme);
        let on_round = |round: u32| {
            if round <= of {
                progress(Progress::Refreshing { key: key.clone(), round, of });
            }
        };
        let target = refresh::prepare(&self.line, &known.info, on_round).await;
        let target = target.map_err(|error| self.failed(key, "refreshed", &error))?;
        let holders = target.participants.clone();
        let rekeyed = self.go_over(known, target, &holders, Vec::new(), "refreshed").await?;
        progress(Progress::Rekeyed { key: key.clone(), epoch: rekeyed.epoch, took: began.elapsed() });
        Ok(rekeyed)
    }

    /// Shares a key anew among `holders`, with the pool's threshold. As many of the old holders as it takes to sign have
    /// to be up; the others may be lost. The key and its addresses stay the same, and the old shares are erased wherever
    /// they can be reached. Signing goes on meanwhile.
    ///
    /// # Errors
    /// Where there is no such key, the holders make no circle for the pool's threshold, too few old holders are up, or the
    /// reshare fails; then the key is as it was.
    pub async fn reshare(
        &self,
        key: &KeyId,
        holders: &[SignerId],
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Rekeyed, PoolError> {
        let _one_at_a_time = self.ceremony.lock().await;
        let refused = |reason: String| PoolError::Ceremony { key: key.clone(), what: "reshared", reason };
        let named = holders.iter().collect::<BTreeSet<_>>();
        if let Some(stranger) = holders.iter().find(|holder| !self.signers.contains(holder)) {
            return Err(refused(format!("{stranger} is no signer of this pool; configure it first")));
        }
        if named.len() != holders.len() || holders.len() < usize::from(self.threshold) {
            return Err(refused(format!("it takes {} different signers at least", self.threshold)));
        }
        // Whoever is away and awaited is given up, if it is none of the holders to be.
        let (known, held, awaited) = self.settled(key).await?;
        let old = &known.info;
        let has_share = |signer: &SignerId| held.iter().any(|(name, held)| name == signer && held.info == *old);
        let able = known.holders.iter().filter(|signer| has_share(signer)).cloned().collect::<Vec<_>>();
        let dealers = self.health.rank(&able, Instant::now()).into_iter().take(old.threshold.into());
        let dealers = dealers.collect::<Vec<_>>();
        if dealers.len() < usize::from(old.threshold) {
            return Err(refused(format!("{} old holders are up and it takes {}", dealers.len(), old.threshold)));
        }
        let epoch = old.epoch.checked_add(1).ok_or_else(|| refused("its epochs are used up".to_owned()))?;
        if awaited.is_some() {
            // What was kept for it, and may be proved, doesn't make room for another epoch of the same number by itself.
            self.line.ask_all(&self.signers, &Command::Discard { key: key.clone(), epoch }).await;
        }
        let target = KeyInfo { epoch, threshold: self.threshold, participants: holders.to_vec(), ..known.info.clone() };
        let leavers = able.into_iter().filter(|signer| !holders.contains(signer)).collect::<Vec<_>>();
        let unreachable = old.participants.iter().filter(|s| !holders.contains(s) && !leavers.contains(s));
        let unreachable = unreachable.map(|s| (s.clone(), "it cannot be reached".to_owned())).collect::<Vec<_>>();

        let began = Instant::now();
        let of = reshare::rounds(old.scheme);
        let on_round = |round: u32| {
            if round <= of {
                progress(Progress::Resharing { key: key.clone(), round, of });
            }
        };
        let participants = old.participants.clone();
        let target = reshare::prepare(&self.line, target, &participants, &dealers, &leavers, on_round).await;
        let target = target.map_err(|error| self.failed(key, "reshared", &error))?;
        let all = holders.iter().chain(&leavers).cloned().collect::<Vec<_>>();
        let rekeyed = self.go_over(known, target, &all, unreachable, "reshared").await?;
        progress(Progress::Rekeyed { key: key.clone(), epoch: rekeyed.epoch, took: began.elapsed() });
        Ok(rekeyed)
    }

    /// Splits a key that exists among the signers, each of which seals its share at once. Every signer has to run in this
    /// process: nobody can hand a signer apart a key that somebody else knows. A key that was whole may have copies;
    /// `progress` is told of that first.
    ///
    /// # Errors
    /// Where the key's name is taken, the key is none of the scheme, a signer is apart or fails, or the shares don't sign;
    /// then nothing of it stays behind.
    pub async fn import(
        &self,
        spec: &KeySpec,
        secret: ImportedKey,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<GroupKey, PoolError> {
        let _one_at_a_time = self.ceremony.lock().await;
        let KeySpec { key, scheme } = spec;
        let refused = |reason: String| PoolError::Ceremony { key: key.clone(), what: "imported", reason };
        progress(Progress::ImportWarning { key: key.clone() });
        let Settled { known, awaited } = self.settle(key, &self.inventory().await).await?;
        if known.is_some() || !awaited.is_empty() {
            return Err(refused("a key of that name exists".to_owned()));
        }
        let handles = self.signers.iter().map(|signer| self.handles.iter().find(|handle| handle.id() == signer));
        let handles = handles.collect::<Option<Vec<_>>>();
        let handles = handles.ok_or_else(|| {
            refused("not every signer runs in this process; import into a pool that does, then reshare".to_owned())
        })?;
        let (threshold, count) = (self.threshold, u8::try_from(self.signers.len()).unwrap_or(u8::MAX));
        let split = import::split(*scheme, &secret, threshold, count);
        drop(secret);
        let (group, shares) = split.map_err(|error| refused(error.to_string()))?;
        let (key, scheme, participants) = (key.clone(), *scheme, self.signers.clone());
        let info = KeyInfo { key, scheme, epoch: 1, threshold, participants, group };
        let sealed = handles.iter().zip(&shares).try_for_each(|(handle, share)| handle.import(&info, share));
        drop(shares);
        let made = match sealed {
            Ok(()) => dkg::prove(&self.line, &info).await.map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = made {
            let discard = Command::Discard { key: info.key.clone(), epoch: info.epoch };
            self.line.ask_all(&self.signers, &discard).await;
            return Err(refused(reason));
        }
        let over = refresh::go_over(&self.line, &info).await;
        let holders = over.map_err(|error| refused(error.to_string()))?;
        self.learn(KnownKey { info, holders, gate: Gate::default() });
        Ok(group)
    }

    /// All go over to the epoch that was proved; signatures that are being made with the one before are waited for, and
    /// then it is erased.
    async fn go_over(
        &self,
        before: KnownKey,
        target: KeyInfo,
        all: &[SignerId],
        mut unerased: Vec<(SignerId, String)>,
        what: &'static str,
    ) -> Result<Rekeyed, PoolError> {
        let (key, epoch, threshold) = (target.key.clone(), target.epoch, target.threshold.into());
        let holders = refresh::go_over(&self.line, &target).await;
        let holders = holders.map_err(|error| self.failed(&key, what, &error))?;
        self.learn(KnownKey { info: target, holders: holders.clone(), gate: Gate::default() });
        // No signature outlives its deadline by more than a moment.
        let patience = self.config.deadline.saturating_add(Duration::from_secs(5));
        if timeout(patience, before.gate.close()).await.is_err() {
            tracing::warn!(%key, epoch = before.info.epoch, "signatures are still under way with shares to be erased");
        }
        unerased.extend(refresh::erase_before(&self.line, &key, epoch, all).await);
        for (signer, reason) in &unerased {
            tracing::warn!(%key, epoch, %signer, reason, "a signer keeps an older share; erase it there");
        }
        Ok(Rekeyed { key, epoch, threshold, holders, unerased })
    }

    /// The key as its traces at the signers say, whatever an earlier ceremony left undone finished or cleared away; and who
    /// holds what of it that is used. Where a signer is away that may know of a later epoch, it is named.
    async fn settled(&self, key: &KeyId) -> Result<(KnownKey, Vec<(SignerId, HeldKey)>, Option<SignerId>), PoolError> {
        let Settled { known, awaited } = self.settle(key, &self.inventory().await).await?;
        self.learn(known.ok_or_else(|| PoolError::UnknownKey(key.clone()))?);
        let known = self.known(key).ok_or_else(|| PoolError::UnknownKey(key.clone()))?;
        let held = self.inventory().await.held.remove(key).unwrap_or_default();
        let held = held.into_iter().filter(|(_, held)| held.share && held.usable).collect();
        Ok((known, held, awaited.into_iter().next()))
    }

    /// Has a signer that missed the end of a ceremony catch up. It wants to see the epoch sign by itself first.
    pub(super) async fn catch_up(&self, info: &KeyInfo, late: &SignerId, able: &[SignerId]) -> bool {
        let activate = Command::Activate { key: info.key.clone(), epoch: info.epoch };
        if self.line.ask(late, &activate).await.is_ok() {
            return true;
        }
        let others = able.iter().filter(|signer| *signer != late);
        let quorum = std::iter::once(late).chain(others).take(info.threshold.into()).cloned().collect::<Vec<_>>();
        let session = fresh_session();
        let (key, epoch, participants) = (info.key.clone(), info.epoch, quorum.clone());
        let start = Command::Prove { session, key, epoch, participants };
        let deadline = tokio::time::Instant::now() + dkg::WHOLE;
        let limits = Limits { round: dkg::ROUND, deadline };
        let ended = self.line.run(session, &quorum, &start, limits, |_| ()).await;
        let saw = ended.outputs.iter().any(|(signer, answer)| signer == late && matches!(answer, Answer::Signed(_)));
        saw && self.line.ask(late, &activate).await.is_ok()
    }

    /// A usable key to sign with, and the lease that keeps its shares from being erased.
    pub(super) async fn enter(&self, key: &KeyId) -> Option<(KnownKey, Lease)> {
        loop {
            let known = self.known(key)?;
            // Where the gate is closed, the key has gone over to another epoch.
            if let Some(lease) = known.gate.enter().await {
                return Some((known, lease));
            }
        }
    }

    /// Remembers who last kept a signature with a key from its end.
    pub(super) fn note_culprit(&self, key: &KeyId, culprits: &[Culprit]) {
        if let Some(last) = culprits.last() {
            let mut noted = self.culprits.lock().unwrap_or_else(PoisonError::into_inner);
            noted.insert(key.clone(), last.clone());
        }
    }

    fn failed(&self, key: &KeyId, what: &'static str, error: &dkg::DkgError) -> PoolError {
        PoolError::Ceremony { key: key.clone(), what, reason: error.to_string() }
    }
}
