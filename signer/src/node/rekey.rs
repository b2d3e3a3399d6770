//! Other shares of a key that this signer holds: the epochs after the first.
//!
//! A signer keeps the epoch that it signs with, the next one while it is in the making, and the one before until all have
//! gone over, so signing never stops. It goes over to another epoch only after it has itself seen that epoch sign, and it
//! erases the shares of an epoch only where it holds a later one, or took part in the reshare that left it out. Whom a key
//! may be shared anew among is not the coordinator's to say: a signer deals to the members of its own pool and with its
//! own threshold, both of which it is told at its start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use chains::account::KeyId;

use super::own::Orders;
use super::recall::{Recall, recalled};
use super::wire::{Answer, HeldKey, SessionId};
use super::{Node, Output, Parties, Purpose, Stop, WalletSpec, context, failed, refused, setup};
use crate::ceremony::echo::echoed;
use crate::policy::Policy;
use crate::protocol::{PartyIndex, Run, map};
use crate::roster::Roster;
use crate::scheme::Resharing;
use crate::share::Share;
use crate::transport::SignerId;
use crate::vault::{Held, KeyInfo};

/// What a signer knows of its keys beyond the epochs that it signs with.
#[derive(Default)]
pub(super) struct Epochs {
    /// Shares of the epochs to come and of those that are over.
    others: RwLock<Others>,
    /// The epochs that this signer has seen sign, each with the share of it that did.
    proved: Mutex<BTreeMap<(KeyId, u32), Weak<Share>>>,
    /// The signers of this one's pool; none where it was not told.
    members: Option<BTreeSet<SignerId>>,
    /// What was installed, for the keys that come to this signer later.
    installed: RwLock<Option<Orders>>,
}

/// That an epoch signs with a certain share of it. Ceremonies for one epoch that were cut off leave shares that have its
/// number and are of no use together, so what one share has proved says nothing of another.
pub(super) struct Proof {
    key: KeyId,
    epoch: u32,
    share: Weak<Share>,
}

/// Who hands a key over to whom.
pub(super) struct Handover {
    /// The key as it is to be held.
    pub(super) target: KeyInfo,
    /// The holders until here, in the order of their shares.
    pub(super) old: Vec<SignerId>,
    /// Those of them that deal.
    pub(super) dealers: Vec<SignerId>,
    /// Those of them that are to hold nothing any more, and know it.
    pub(super) leavers: Vec<SignerId>,
}

/// The epochs that a signer signs with.
type Keys = BTreeMap<KeyId, Held>;
/// The other ones.
type Others = BTreeMap<(KeyId, u32), Held>;

impl Proof {
    /// That the key signs with the share.
    pub(super) fn of(info: &KeyInfo, share: &Arc<Share>) -> Self {
        Self { key: info.key.clone(), epoch: info.epoch, share: Arc::downgrade(share) }
    }
}

impl Epochs {
    /// Of the shares in a vault, those that are not the ones to sign with.
    pub(super) fn of(all: Vec<Held>, keys: &Keys) -> Self {
        let other = |held: &Held| {
            let current = keys.get(&held.info.key);
            held.share.is_some() && current.is_none_or(|current| current.info.epoch != held.info.epoch)
        };
        let others = all.into_iter().filter(other).map(|held| ((held.info.key.clone(), held.info.epoch), held));
        Self { others: RwLock::new(others.collect()), ..Self::default() }
    }

    /// Whether this signer has seen the epoch sign with the very share that is held.
    fn has_seen(&self, held: &Held) -> bool {
        let proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        let share = proved.get(&(held.info.key.clone(), held.info.epoch));
        share.zip(held.share.as_ref()).is_some_and(|(proved, share)| std::ptr::eq(proved.as_ptr(), Arc::as_ptr(share)))
    }

    /// Forgets that this signer has seen an epoch sign.
    fn forget(&self, key: &KeyId, epoch: u32) {
        self.proved.lock().unwrap_or_else(PoisonError::into_inner).remove(&(key.clone(), epoch));
    }

    /// An epoch that is in use is never made again, nor is one that this signer has seen sign, unless it was given up:
    /// others may have gone over to it.
    fn check_unused(&self, key: &KeyId, epoch: u32, keys: &Keys, others: &Others) -> Result<(), Stop> {
        let current = keys.get(key).is_some_and(|held| held.usable && held.info.epoch >= epoch);
        let other = others.values().any(|held| held.usable && held.info.key == *key && held.info.epoch >= epoch);
        if current || other {
            return Err(Stop::Refused(format!("key {key} is at epoch {epoch} or a later one already")));
        }
        let pending = keys.get(key).filter(|held| held.info.epoch == epoch);
        let pending = pending.or_else(|| others.get(&(key.clone(), epoch)));
        if pending.is_some_and(|held| self.has_seen(held)) {
            return Err(Stop::Refused(format!(
                "epoch {epoch} of key {key} has been proved to sign; go over to it or discard it before it is made anew"
            )));
        }
        Ok(())
    }

    pub(super) fn install(&self, roster: &Arc<Roster>, policy: &Arc<Policy>, wallets: &[WalletSpec]) {
        let installed = Some(Orders { roster: roster.clone(), policy: policy.clone(), wallets: wallets.to_vec() });
        *self.installed.write().unwrap_or_else(PoisonError::into_inner) = installed;
    }
}

impl Node {
    /// The same, in a pool of these signers.
    pub(crate) fn with_members(mut self, members: impl IntoIterator<Item = SignerId>) -> Self {
        self.epochs.members = Some(members.into_iter().collect());
        self
    }

    /// The signer's name.
    pub(super) const fn id(&self) -> &SignerId {
        &self.id
    }

    /// Every epoch of every key that is here.
    pub(super) fn held_epochs(&self) -> Vec<HeldKey> {
        let report = |held: &Held| HeldKey {
            info: held.info.clone(),
            usable: held.usable,
            share: held.share.is_some(),
            nonces: held.share.as_ref().and_then(|share| share.nonces()).and_then(|depth| u32::try_from(depth).ok()),
            since: self.vault.since(&held.info),
            escrow: self.vault.escrowed(&held.info.key),
        };
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let others = self.epochs.others.read().unwrap_or_else(PoisonError::into_inner);
        keys.values().chain(others.values()).map(report).collect()
    }

    /// The share of an epoch, and whether it may sign for others than the pool itself.
    pub(super) fn share_at(&self, key: &KeyId, epoch: u32) -> Result<(KeyInfo, Arc<Share>, bool), Stop> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let others = self.epochs.others.read().unwrap_or_else(PoisonError::into_inner);
        let current = keys.get(key).filter(|held| held.info.epoch == epoch);
        let held = current.or_else(|| others.get(&(key.clone(), epoch)));
        let held = held.and_then(|held| Some((held.info.clone(), held.share.clone()?, held.usable)));
        if let Some((_, share, _)) = &held {
            share.keep_nonces_in(&self.nonces);
        }
        held.ok_or_else(|| match keys.get(key) {
            Some(held) => Stop::Refused(format!(
                "no share of key {key} of epoch {epoch} is here, but of epoch {}; shares of different epochs don't mix",
                held.info.epoch
            )),
            None => Stop::Refused(format!("no share of key {key} is here")),
        })
    }

    /// Remembers that this signer has seen an epoch sign, if the share that did is the one that is here still.
    pub(super) fn saw(&self, proof: Proof) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let others = self.epochs.others.read().unwrap_or_else(PoisonError::into_inner);
        let Proof { key, epoch, share } = proof;
        let current = keys.get(&key).filter(|held| held.info.epoch == epoch);
        let held = current.or_else(|| others.get(&(key.clone(), epoch))).and_then(|held| held.share.as_ref());
        if held.is_some_and(|held| std::ptr::eq(share.as_ptr(), Arc::as_ptr(held))) {
            self.epochs.proved.lock().unwrap_or_else(PoisonError::into_inner).insert((key, epoch), share);
        }
    }

    /// Starts the refresh to `epoch`.
    pub(super) fn refresh(
        &self,
        session: SessionId,
        key: &KeyId,
        epoch: u32,
        signers: &[SignerId],
    ) -> Result<Answer, Stop> {
        let before = epoch.checked_sub(1).ok_or_else(|| Stop::Refused("epochs count from 1".to_owned()))?;
        let (info, share, usable) = self.share_at(key, before)?;
        if !usable {
            return Err(Stop::Refused(format!("epoch {before} of key {key} has not been proved to sign")));
        }
        if info.participants != signers {
            return Err(Stop::Refused(format!("a refresh of key {key} takes all of its holders")));
        }
        self.check_unused(key, epoch)?;
        let target = KeyInfo { epoch, ..info.clone() };
        let parties = self.parties(signers, |name| info.party(name))?;
        let setup = setup(&parties, info.threshold)?;
        let run = share.refresh(&setup, session.0).map_err(refused)?;
        let run = self.recall_first(map(run, Output::Key), &parties);
        let run = echoed(run, setup.me(), setup.peers().to_vec());
        let context = context(session, "refresh", &target, &[])?;
        self.start(session, run, Purpose::Rekey(target), &parties, context)
    }

    /// Starts the reshare of a key to another circle of holders.
    pub(super) fn reshare(&self, session: SessionId, handover: &Handover) -> Result<Answer, Stop> {
        let Handover { target, old, dealers, leavers } = handover;
        let key = &target.key;
        let members = self.epochs.members.clone().or_else(|| self.own_circle());
        let members = members.ok_or_else(|| Stop::Refused("this signer was not told its pool's members".to_owned()))?;
        if let Some(stranger) = target.participants.iter().find(|name| !members.contains(*name)) {
            return Err(Stop::Refused(format!("{stranger} is no member of this signer's pool")));
        }
        if target.threshold != self.threshold {
            let (own, asked) = (self.threshold, target.threshold);
            return Err(Stop::Refused(format!("this signer's pool signs with {own}, not with {asked}")));
        }
        self.check_unused(key, target.epoch)?;
        let before = target.epoch.checked_sub(1).ok_or_else(|| Stop::Refused("epochs count from 1".to_owned()))?;
        let (here, left) = (self.infos(key), self.vault.left(key).map_err(failed)?);
        if here.iter().chain(&left).any(|known| !same_key(known, target)) {
            return Err(Stop::Refused(format!("key {key} is another one here")));
        }
        // Fewer dealers than it takes to sign can't know the key, whatever they deal.
        let enough = here.iter().map(|info| info.threshold).max().unwrap_or_default();
        let named = dealers.iter().collect::<BTreeSet<_>>().len();
        if named < usize::from(enough) || named != dealers.len() {
            return Err(Stop::Refused(format!("key {key} takes {enough} different dealers, and {named} are named")));
        }
        let held = self.share_at(key, before).ok().filter(|(_, _, usable)| *usable);
        if let Some((info, _, _)) = &held {
            if info.participants != *old || named != usize::from(info.threshold) {
                return Err(Stop::Refused(format!("key {key} is held in another way here")));
            }
        } else if dealers.contains(&self.id) {
            return Err(Stop::Refused(format!("no usable share of key {key} of epoch {before} is here")));
        }
        let signers = target.participants.iter().chain(leavers).cloned().collect::<Vec<_>>();
        let parties = self.parties(&signers, |name| place(&signers, name))?;
        let dealer = |name: &SignerId| {
            let places = place(&signers, name).zip(place(old, name));
            places.ok_or_else(|| Stop::Refused(format!("{name} deals, but is not named among the old holders")))
        };
        let dealers = dealers.iter().map(dealer).collect::<Result<BTreeMap<_, _>, _>>()?;
        let count = u8::try_from(target.participants.len()).map_err(failed)?;
        let resharing = Resharing::new(parties.me, dealers, target.threshold, count, target.group).map_err(refused)?;
        let share = if resharing.deals() { held.map(|(_, share, _)| share) } else { None };
        let run = Share::reshare(share.as_deref(), &resharing, session.0).map_err(refused)?;
        let peers = parties.peers.values().map(|(party, _)| *party).collect();
        let run = map(run, |share| share.map_or(Output::Nothing, Output::Key));
        let run = echoed(self.recall_first(run, &parties), parties.me, peers);
        let context = context(session, "reshare", &(target, old, &handover.dealers, leavers), &[])?;
        self.start(session, run, Purpose::Rekey(target.clone()), &parties, context)
    }

    /// Every epoch of a key that is here.
    fn infos(&self, key: &KeyId) -> Vec<KeyInfo> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let others = self.epochs.others.read().unwrap_or_else(PoisonError::into_inner);
        let here = keys.get(key).into_iter().chain(others.values().filter(|held| held.info.key == *key));
        here.map(|held| held.info.clone()).collect()
    }

    /// `run`, after those of its parties whose ledgers went back in time were told what they have forgotten.
    fn recall_first(&self, run: Run<Output>, parties: &Parties) -> Run<Output> {
        let peers = parties.peers.iter().map(|(name, (party, _))| (*party, name.clone())).collect::<BTreeMap<_, _>>();
        let remembered = |(party, name): (&PartyIndex, &SignerId)| Some((*party, self.witness.remembered(name)?));
        let entries = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).entries();
        let recall = Recall {
            me: parties.me,
            own: self.witness.own(entries),
            remembered: peers.iter().filter_map(remembered).collect(),
            peers,
            ledger: self.ledger.clone(),
            witness: self.witness.clone(),
        };
        recalled(run, recall)
    }

    /// Takes a share of a key that was whole until here. Only whoever started this signer can ask for it.
    pub(crate) fn import(&self, info: &KeyInfo, share: &Share) -> Result<(), String> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.contains_key(&info.key) {
            return Err(format!("key {} exists", info.key));
        }
        let held = self.vault.put(info, share).map_err(|error| error.to_string())?;
        keys.insert(info.key.clone(), held);
        Ok(())
    }

    /// A session of a refresh or a reshare has ended well.
    pub(super) fn finish_rekey(&self, target: &KeyInfo, output: Output) -> Result<Answer, Stop> {
        let share = match output {
            Output::Key(share) => share,
            Output::Nothing => {
                self.vault.mark_left(target).map_err(failed)?;
                return Ok(Answer::Done);
            }
            Output::Signatures(_) | Output::Part(_) => {
                return Err(failed("a run yielded something else than it was for"));
            }
        };
        if share.group() != target.group {
            return Err(Stop::Fault { culprit: None, reason: "the share is of another key".to_owned() });
        }
        // Nobody proves the epoch, nor goes over to it, while its share is replaced.
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut others = self.epochs.others.write().unwrap_or_else(PoisonError::into_inner);
        self.epochs.check_unused(&target.key, target.epoch, &keys, &others)?;
        // What another ceremony that was cut off has left of the epoch could be taken for this.
        self.vault.discard(&target.key, target.epoch).map_err(failed)?;
        self.epochs.forget(&target.key, target.epoch);
        let held = self.vault.put(target, &share).map_err(failed)?;
        if keys.get(&target.key).is_some_and(|current| current.usable) {
            others.insert((target.key.clone(), target.epoch), held);
        } else {
            keys.insert(target.key.clone(), held);
        }
        Ok(Answer::Generated(target.clone()))
    }

    /// Goes over to an epoch.
    pub(super) fn activate(&self, key: &KeyId, epoch: u32) -> Result<Answer, Stop> {
        let left = self.vault.left(key).map_err(failed)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut others = self.epochs.others.write().unwrap_or_else(PoisonError::into_inner);
        let absent = || Stop::Refused(format!("no share of key {key} at epoch {epoch} is here"));
        let current = keys.get(key).filter(|held| held.info.epoch == epoch);
        let next = &current.or_else(|| others.get(&(key.clone(), epoch))).ok_or_else(absent)?.info;
        let used = keys.get(key).into_iter().chain(others.values().filter(|held| held.info.key == *key));
        let mut used = used.filter(|held| held.usable).map(|held| &held.info).chain(&left);
        if let Some(other) = used.find(|other| !same_key(other, next)) {
            return Err(Stop::Refused(format!(
                "key {key} of epoch {epoch} is another one than of epoch {}",
                other.epoch
            )));
        }
        if let Some(held) = keys.get_mut(key).filter(|held| held.info.epoch == epoch && held.share.is_some()) {
            if held.usable {
                return Ok(Answer::Done);
            }
            self.vault.mark_usable(&held.info).map_err(failed)?;
            held.usable = true;
        } else {
            let next = others.get(&(key.clone(), epoch)).ok_or_else(absent)?;
            if keys.get(key).is_some_and(|current| current.usable && current.info.epoch > epoch) {
                return Err(Stop::Refused(format!("key {key} is at a later epoch than {epoch}")));
            }
            if !self.epochs.has_seen(next) {
                return Err(Stop::Refused(format!("this signer has not seen epoch {epoch} of key {key} sign")));
            }
            self.vault.mark_usable(&next.info).map_err(failed)?;
            if let Some(mut next) = others.remove(&(key.clone(), epoch)) {
                next.usable = true;
                let before = keys.insert(key.clone(), next).filter(|before| before.share.is_some());
                others.extend(before.map(|before| ((key.clone(), before.info.epoch), before)));
            }
        }
        drop((keys, others));
        // A key that has come to this signer just now may serve wallets that it was told of before.
        let installed = self.epochs.installed.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Orders { roster, policy, wallets }) = installed {
            self.install(roster, policy, &wallets).map_err(failed)?;
        }
        Ok(Answer::Done)
    }

    /// Gives up a pending epoch.
    pub(super) fn discard(&self, key: &KeyId, epoch: u32) -> Result<Answer, Stop> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut others = self.epochs.others.write().unwrap_or_else(PoisonError::into_inner);
        let current = keys.get(key).filter(|held| held.info.epoch == epoch);
        let held = current.or_else(|| others.get(&(key.clone(), epoch)));
        if held.is_some_and(|held| held.usable) {
            return Err(Stop::Refused(format!("key {key} is in use and is not discarded")));
        }
        self.vault.discard(key, epoch).map_err(failed)?;
        self.epochs.forget(key, epoch);
        if current.is_some() {
            keys.remove(key);
        }
        others.remove(&(key.clone(), epoch));
        Ok(Answer::Done)
    }

    /// Erases every epoch before `epoch`.
    pub(super) fn retire(&self, key: &KeyId, epoch: u32) -> Result<Answer, Stop> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut others = self.epochs.others.write().unwrap_or_else(PoisonError::into_inner);
        let current = keys.get(key);
        let later = current.is_some_and(|held| held.usable && held.share.is_some() && held.info.epoch >= epoch);
        let left = self.vault.left(key).map_err(failed)?;
        if !later && left.is_none_or(|left| left.epoch < epoch) {
            return Err(Stop::Refused(format!("nothing later than epoch {epoch} of key {key} is known here")));
        }
        self.vault.erase_before(key, epoch).map_err(failed)?;
        others.retain(|(name, at), _| name != key || *at >= epoch);
        if current.is_some_and(|held| held.info.epoch < epoch) {
            keys.remove(key);
        }
        Ok(Answer::Done)
    }

    /// See [`Epochs::check_unused`].
    fn check_unused(&self, key: &KeyId, epoch: u32) -> Result<(), Stop> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let others = self.epochs.others.read().unwrap_or_else(PoisonError::into_inner);
        self.epochs.check_unused(key, epoch, &keys, &others)
    }
}

/// Whether two epochs are of one key, whoever holds it.
fn same_key(one: &KeyInfo, other: &KeyInfo) -> bool {
    one.group == other.group && one.scheme == other.scheme
}

/// A signer's place in a list of them, from 1.
fn place(list: &[SignerId], name: &SignerId) -> Option<PartyIndex> {
    let position = list.iter().position(|other| other == name)?;
    PartyIndex::new(u8::try_from(position).ok()?.checked_add(1)?)
}
