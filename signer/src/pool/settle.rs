//! What the traces of a key at the signers amount to: which epoch counts, who holds it, and what an earlier ceremony left
//! behind.
//!
//! A signer's word is only its own. An epoch counts where a signer says that it has gone over to it, as many signers hold a
//! share of it as it takes to sign, and, where several epochs could count, they have signed with it here and then. So fewer
//! byzantine signers than it takes to sign can't talk the pool into an epoch that is none, nor out of one that is.
//!
//! A pending share is given up only once every signer that shares in it has been heard: one that is away may have gone over
//! to it, and then it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chains::account::KeyId;
use tokio::time::Instant;

use super::{Gate, KnownKey, Pool, PoolError};
use crate::ceremony::{dkg, refresh};
use crate::node::wire::{Answer, Command, HeldKey};
use crate::scheme::GroupKey;
use crate::session::{CALL_TIMEOUT, Limits};
use crate::transport::SignerId;
use crate::vault::KeyInfo;

/// What the signers say that they hold.
#[derive(Default)]
pub(super) struct Inventory {
    /// By key.
    pub(super) held: BTreeMap<KeyId, Vec<(SignerId, HeldKey)>>,
    /// The signers that have answered. The others may hold anything.
    pub(super) here: BTreeSet<SignerId>,
}

/// What a key's traces amount to.
pub(super) struct Settled {
    /// The key, if it is one that signs.
    pub(super) known: Option<KnownKey>,
    /// Signers that are away and may know of a later epoch than those that are here.
    pub(super) awaited: BTreeSet<SignerId>,
}

impl Inventory {
    /// What is held of one key.
    pub(super) fn of(&self, key: &KeyId) -> &[(SignerId, HeldKey)] {
        self.held.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// The keys that some signer has gone over to.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &KeyId> {
        self.held.iter().filter(|(_, held)| held.iter().any(|(_, held)| held.usable)).map(|(key, _)| key)
    }
}

impl Pool {
    /// Every key that any signer holds, with who holds it how.
    pub(super) async fn inventory(&self) -> Inventory {
        self.inventory_within(CALL_TIMEOUT).await
    }

    pub(super) async fn inventory_within(&self, timeout: Duration) -> Inventory {
        let mut inventory = Inventory::default();
        for (signer, answer) in self.line.ask_all_within(&self.signers, &Command::Keys, timeout).await {
            if let Ok(Answer::Keys(keys)) = answer {
                inventory.here.insert(signer.clone());
                for held in keys {
                    inventory.held.entry(held.info.key.clone()).or_default().push((signer.clone(), held));
                }
            }
        }
        inventory
    }

    /// What a key's traces at the signers amount to: a usable key, or none. A key that any signer has gone over to has been
    /// proved, so those that missed it catch up; one that none has was cut off in the making, and is cleared away.
    pub(super) async fn settle(&self, key: &KeyId, inventory: &Inventory) -> Result<Settled, PoolError> {
        let held = inventory.of(key);
        let candidates = candidates(held).ok_or_else(|| PoolError::Disagreement(key.clone()))?;
        let contested = candidates.len() > 1;
        let (mut known, mut lost) = (None, None);
        for info in candidates {
            let able = able(info, held);
            let proved = !contested || self.signs(info, &able).await;
            let holders = if proved { self.holders(info, held, &able).await } else { Vec::new() };
            if is_quorum(info, holders.len()) {
                known = Some(KnownKey { info: info.clone(), holders, gate: Gate::default() });
                break;
            }
            let (epoch, left, needed) = (info.epoch, able.len(), info.threshold.into());
            tracing::error!(%key, epoch, left, needed, "an epoch that too few signers can sign with is passed over");
            lost = lost.or(Some(PoolError::KeyLost { key: key.clone(), left, needed }));
        }
        if let (None, Some(lost)) = (&known, lost) {
            return Err(lost);
        }
        let info = known.as_ref().map(|known| &known.info);
        let awaited = self.clear(key, info, inventory).await;
        if let Some(info) = info {
            let older = held.iter().filter(|(_, held)| held.info.epoch < info.epoch).map(|(signer, _)| signer.clone());
            let older = older.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
            for (signer, reason) in refresh::erase_before(&self.line, key, info.epoch, &older).await {
                tracing::warn!(%key, epoch = info.epoch, %signer, reason, "a signer keeps an older share; erase it there");
            }
        }
        Ok(Settled { known, awaited })
    }

    /// Whether some quorum of `able` signs with an epoch. Each of them is asked in one quorum at least.
    async fn signs(&self, info: &KeyInfo, able: &[SignerId]) -> bool {
        for first in 0..able.len() {
            let quorum = able.iter().cycle().skip(first).take(info.threshold.into()).cloned().collect::<Vec<_>>();
            let deadline = Instant::now() + self.config.deadline;
            let limits = Limits { round: self.config.round_timeout, deadline };
            match dkg::prove_by(&self.line, info, &quorum, limits).await {
                Ok(()) => return true,
                Err(error) => tracing::warn!(key = %info.key, epoch = info.epoch, %error, "an epoch is not proved"),
            }
        }
        false
    }

    /// Who holds an epoch and has gone over to it, once those that are late have caught up.
    async fn holders(&self, info: &KeyInfo, held: &[(SignerId, HeldKey)], able: &[SignerId]) -> Vec<SignerId> {
        let over =
            |name: &SignerId| held.iter().any(|(signer, held)| signer == name && held.usable && held.info == *info);
        let (mut holders, late) = able.iter().cloned().partition::<Vec<_>, _>(over);
        for signer in late {
            if is_quorum(info, able.len()) && self.catch_up(info, &signer, able).await {
                holders.push(signer);
            }
        }
        holders.sort_by_key(|signer| info.party(signer));
        holders
    }

    /// Has pending shares given up that are of no use beside `known`. Answers the signers that are away and may need those
    /// that are kept.
    async fn clear(&self, key: &KeyId, known: Option<&KeyInfo>, inventory: &Inventory) -> BTreeSet<SignerId> {
        let mut awaited = BTreeSet::new();
        let pending = inventory.of(key).iter().filter(|(_, held)| !held.usable && known != Some(&held.info));
        for (signer, HeldKey { info, .. }) in pending {
            let away = info.participants.iter().filter(|name| !inventory.here.contains(*name)).collect::<Vec<_>>();
            if !away.is_empty() && known.is_none_or(|known| known.epoch < info.epoch) {
                let (epoch, away) = (info.epoch, away.into_iter().cloned());
                awaited.extend(away);
                tracing::warn!(%key, epoch, %signer, ?awaited, "a pending share is kept: a signer that is away may need it");
                continue;
            }
            self.line.ask(signer, &Command::Discard { key: key.clone(), epoch: info.epoch }).await.ok();
        }
        awaited
    }

    /// Learns the usable keys of the vaults.
    pub(super) async fn load_keys(&self) {
        let inventory = self.inventory().await;
        // What was cut off in the making is cleared away by `ensure_keys`.
        for key in inventory.in_use() {
            match self.settle(key, &inventory).await {
                Ok(settled) => settled.known.into_iter().for_each(|known| self.learn(known)),
                Err(error) => tracing::error!(%key, %error, "a key cannot be used"),
            }
        }
    }
}

/// The signers that hold a share of an epoch that opens, each once and in the order of their shares.
fn able(info: &KeyInfo, held: &[(SignerId, HeldKey)]) -> Vec<SignerId> {
    let holds =
        |signer: &&SignerId| held.iter().any(|(name, held)| name == *signer && held.share && held.info == *info);
    let mut named = BTreeSet::new();
    info.participants.iter().filter(holds).filter(|signer| named.insert(*signer)).cloned().collect()
}

/// Whether so many signers can sign with an epoch. No key is held by one signer alone, whatever that one says.
fn is_quorum(info: &KeyInfo, count: usize) -> bool {
    info.threshold > 1 && count >= usize::from(info.threshold)
}

/// The epochs that could count, the likeliest first: those of the public key that most signers hold, the latest first. None
/// where two public keys are held by as many.
fn candidates(held: &[(SignerId, HeldKey)]) -> Option<Vec<&KeyInfo>> {
    let mut claims: Vec<&KeyInfo> = Vec::new();
    for (_, HeldKey { info, .. }) in held.iter().filter(|(_, held)| held.usable) {
        if !claims.contains(&info) {
            claims.push(info);
        }
    }
    claims.sort_by_key(|info| std::cmp::Reverse((info.epoch, able(info, held).len())));
    let viable = |info: &&KeyInfo| is_quorum(info, able(info, held).len());
    let viable = claims.iter().copied().filter(viable).collect::<Vec<_>>();
    if viable.is_empty() {
        return Some(claims);
    }
    let group = common_group(&viable, held)?;
    Some(viable.into_iter().filter(|info| info.group == group).collect())
}

/// The public key of which most signers hold shares; none where two are held by as many.
fn common_group(infos: &[&KeyInfo], held: &[(SignerId, HeldKey)]) -> Option<GroupKey> {
    let mut holders: Vec<(GroupKey, BTreeSet<SignerId>)> = Vec::new();
    for info in infos {
        let able = able(info, held);
        match holders.iter_mut().find(|(group, _)| *group == info.group) {
            Some((_, signers)) => signers.extend(able),
            None => holders.push((info.group, able.into_iter().collect())),
        }
    }
    let most = holders.iter().map(|(_, signers)| signers.len()).max()?;
    let mut common = holders.iter().filter(|(_, signers)| signers.len() == most);
    match (common.next(), common.next()) {
        (Some((group, _)), None) => Some(*group),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::SchemeId;

    fn ids(names: &[&str]) -> Vec<SignerId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn info(group: u8, epoch: u32, participants: &[&str]) -> KeyInfo {
        KeyInfo {
            key: "main".parse().unwrap(),
            scheme: SchemeId::Ed25519,
            epoch,
            threshold: 2,
            participants: ids(participants),
            group: GroupKey::Ed25519([group; 32]),
        }
    }

    fn holds(signer: &str, info: &KeyInfo, share: bool) -> (SignerId, HeldKey) {
        let held = HeldKey { info: info.clone(), usable: true, share, nonces: None, since: None, escrow: None };
        (signer.parse().unwrap(), held)
    }

    #[test]
    fn nobody_counts_twice_and_strangers_dont_count() {
        let all = info(1, 1, &["a", "b", "c"]);
        let held = [holds("a", &all, true), holds("a", &all, true), holds("b", &all, false), holds("x", &all, true)];
        assert_eq!(able(&all, &held), ids(&["a"]));
        let twice = info(1, 1, &["a", "a", "b"]);
        assert_eq!(able(&twice, &[holds("a", &twice, true)]), ids(&["a"]));
    }

    #[test]
    fn a_signer_alone_talks_nobody_into_anything() {
        let good = info(1, 3, &["a", "b", "c"]);
        let honest = ["a", "b"].map(|name| holds(name, &good, true));
        let mut alone = info(1, 9, &["c"]);
        for threshold in [0, 1, 2] {
            for group in [1, 2] {
                (alone.threshold, alone.group) = (threshold, GroupKey::Ed25519([group; 32]));
                let held = [&honest[..], &[holds("c", &alone, true)]].concat();
                assert_eq!(candidates(&held).unwrap(), [&good], "it claims a later epoch, or another key");
                assert!(!is_quorum(&alone, 1), "with nobody else there");
            }
        }
        let before = info(1, 2, &["a", "b", "c"]);
        let held = [&honest[..], &["a", "b", "c"].map(|name| holds(name, &before, true))].concat();
        assert_eq!(candidates(&held).unwrap(), [&good, &before], "the latest first");
        assert_eq!(candidates(&held[1..3]).unwrap().len(), 2, "of what is lost, too");
    }

    #[test]
    fn the_public_key_is_the_one_that_most_hold() {
        let (good, bad) = (info(1, 1, &["a", "b", "c"]), info(2, 9, &["d", "e"]));
        let mut held = ["a", "b", "c"].map(|name| holds(name, &good, true)).to_vec();
        held.extend(["d", "e"].map(|name| holds(name, &bad, true)));
        assert_eq!(common_group(&[&bad, &good], &held), Some(good.group));
        assert_eq!(common_group(&[&bad, &good], &held[1..]), None, "two against two");
        assert_eq!(common_group(&[], &held), None);
    }
}
