//! A further attempt at an intent that is on its way: the same payment for a higher fee, or a transaction that does nothing but
//! use up what every earlier attempt would.
//!
//! It walks the same stages as the first one: built from the earlier attempts, screened and allowed, frozen and burned in one
//! step ([`crate::store::Store::replace`]), signed, durable, and only then sent. The record stays where it is meanwhile; the
//! chain decides which attempt wins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chains::chain::{Replacement, Slot};
use tokio::time::Instant;

use super::allocate::{SLOTS_TRIED, fully_approved, slots_taken};
use super::broadcast::{REPLACEMENT_UNDERPRICED, UNDERPRICED};
use super::evaluate::refusal;
use super::sign::Signing;
use super::stage::{Allowed, Frozen};
use super::track::{Tracking, reason};
use super::{Pipeline, StepError, Turn, Wallet};
use crate::fail;
use crate::lane::Lane;
use crate::mutation::Mutation;
use crate::record::{Attempt, Purpose, Reason, Record, RecordId, State};
use crate::store::{Hold, StoreError};

/// How long a request waits for the record's turn before it is answered that it is busy.
const TURN: Duration = Duration::from_secs(10);
/// How long a replacement that can't be made waits before it is tried again: where the signers or nodes are down, and where
/// the chain's state or the caps don't admit one.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// So many attempts there are at most where no fee policy says.
const MOST: u32 = 16;

/// When a payment that waits in no block is hurried on without being asked, never above the intent's `max_fee`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeePolicy {
    /// So long after an attempt was sent the next one is made; never, if left out.
    pub bump_after: Option<Duration>,
    /// So many replacements are made by themselves, at most.
    pub bump_limit: u32,
}

/// When a replacement that couldn't be made is tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later {
    at: Instant,
    /// Whether it was refused, and not only postponed.
    refused: bool,
}

/// What there is to do about a record's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The latest attempt was left between two steps.
    Finish,
    /// Another one.
    Make(Replacement),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// One that pays more than every earlier one.
    SpeedUp {
        /// The number of the attempt that is too slow: where there is a later one already, nothing is done.
        slow: Option<u32>,
    },
    /// One that keeps the payment off the chain; nothing where there is one already. The request for it is in the record.
    Cancel,
}

/// Why there is no further attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// The record has ended, or nothing of it has been sent yet.
    #[error("the payment is {0}; only one that is on its way can be replaced")]
    NotOnItsWay(State),
    /// One of its attempts is in a block.
    #[error("attempt {0} of the payment is in a block already")]
    AlreadyIncluded(u32),
    /// Another gateway has the record's lease.
    #[error("another gateway works on the record; ask again")]
    HeldElsewhere,
    /// The record is being worked on for longer than a request waits.
    #[error("the payment is being worked on; ask again")]
    Busy,
    /// The chain, a cap, the policy or the signers don't admit one.
    #[error("{}", .0.message)]
    Refused(Reason),
    /// For a passing reason; where an attempt was frozen it is gone on with by itself.
    #[error("{}", .0.message)]
    Retry(Reason),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StepError> for ReplaceError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Retry(reason) => Self::Retry(reason),
            StepError::Store(StoreError::Fenced(_)) => Self::HeldElsewhere,
            StepError::Store(error) => Self::Store(error),
        }
    }
}

impl Pipeline {
    /// Makes a further attempt at once, unless it stands already, and answers the record with it.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn replace(self: &Arc<Self>, id: RecordId, ask: Ask) -> Result<Record, ReplaceError> {
        let record = self.store.get(id).await?.ok_or(StoreError::NoRecord(id))?;
        if stands(&record, ask)? {
            return Ok(record);
        }
        let turn = tokio::time::timeout(TURN, self.turn(id)).await.map_err(|_| ReplaceError::Busy)?;
        let hold = self.hold_now(&record).await?;
        // What it was before the turn came may be past.
        let record = self.store.get(id).await?.ok_or(StoreError::NoRecord(id))?;
        if stands(&record, ask)? {
            return Ok(record);
        }
        let wanted = if unfinished(&record) { Wanted::Finish } else { Wanted::Make(purpose(&record)) };
        let outcome = self.replace_once(&record, hold, wanted).await;
        drop(turn);
        self.look_now(&record);
        match outcome? {
            Ok(()) => Ok(self.store.get(id).await?.ok_or(StoreError::NoRecord(id))?),
            Err(reason) => Err(ReplaceError::Refused(reason)),
        }
    }

    /// The lease of a record, taken at once where nobody has it.
    async fn hold_now(self: &Arc<Self>, record: &Record) -> Result<Hold, ReplaceError> {
        if let Ok(hold) = self.hold(record.id) {
            return Ok(hold);
        }
        // In a task of its own: a client that leaves in the middle must not leave leases behind that nobody works on.
        let (pipeline, network) = (Arc::clone(self), record.network);
        tokio::spawn(async move { pipeline.claim(network).await }).await.map_err(|_| StoreError::Closed)??;
        self.hold(record.id).map_err(|_| ReplaceError::HeldElsewhere)
    }

    /// What there is to do about the record's attempts by itself, if it is time for it.
    pub(super) fn wanted(&self, record: &Record, tracking: &Tracking) -> Option<Wanted> {
        if self.later().get(&record.id).is_some_and(|later| later.at > Instant::now()) {
            return None;
        }
        if record.state.is_on_its_way() && unfinished(record) {
            return Some(Wanted::Finish);
        }
        let open = matches!(record.state, State::Broadcasting | State::InMempool);
        if record.cancel.is_some() && (open || record.state == State::Quarantined) {
            let standing = |attempt: &Attempt| attempt.purpose == Purpose::Cancel && attempt.given_up.is_none();
            let few = u32::try_from(record.attempts.len()).is_ok_and(|made| made < MOST);
            if few && !record.attempts.iter().any(standing) {
                return Some(Wanted::Make(Replacement::Cancel));
            }
        }
        let policy = self.fees.get(&record.intent.wallet).unwrap_or(&tracking.fees);
        (open && due_for_a_bump(record, policy, self.clock.unix_millis())).then(|| Wanted::Make(purpose(record)))
    }

    /// Whether the payment's bytes are held back because it is to be cancelled. Where a cancelling transaction is refused (the
    /// fee it takes is above the cap), they go out all the same: else its slot would block the wallet for good.
    pub(super) fn waits_for_its_cancel(&self, record: &Record) -> bool {
        let made = record.attempts.iter().any(|attempt| attempt.purpose == Purpose::Cancel);
        record.cancel.is_some() && !made && !self.later().get(&record.id).is_some_and(|later| later.refused)
    }

    /// Whether a cancelling transaction can be made: the fee that it takes may be above the cap.
    pub(super) async fn can_be_cancelled(
        &self,
        record: &Record,
        wallet: &Wallet,
        lane: &dyn Lane,
    ) -> Result<bool, StepError> {
        let busy = self.store.busy(record.network).await?;
        Ok(self.propose(record, wallet, lane, Replacement::Cancel, &busy).await?.is_ok())
    }

    /// Does what is wanted in a task of its own, so that the network's other records are followed meanwhile.
    pub(super) fn replace_in(self: &Arc<Self>, turn: Turn, wanted: Wanted) {
        let pipeline = Arc::clone(self);
        tokio::spawn(async move {
            pipeline.replace_by_itself(turn.id, wanted).await;
            drop(turn);
        });
    }

    async fn replace_by_itself(&self, id: RecordId, wanted: Wanted) {
        let Ok(hold) = self.hold(id) else { return };
        let outcome = async {
            let record = self.store.get(id).await?.ok_or(StoreError::NoRecord(id))?;
            self.replace_once(&record, hold, wanted).await
        };
        let (reason, later) = match outcome.await {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => (reason, Later { at: Instant::now() + AGAIN.1, refused: true }),
            Err(StepError::Retry(reason)) => (reason, Later { at: Instant::now() + AGAIN.0, refused: false }),
            Err(StepError::Store(StoreError::Fenced(_))) => return self.let_go(hold),
            Err(StepError::Store(error)) => {
                tracing::warn!(%id, %error, "the replacement will be tried again");
                self.later().insert(id, Later { at: Instant::now() + AGAIN.0, refused: false });
                return;
            }
        };
        tracing::warn!(%id, reason = reason.message, "the replacement will be tried again");
        self.later().insert(id, later);
        if let Err(error) = self.store.note(hold, Some(reason), self.clock.unix_millis()).await {
            tracing::warn!(%id, %error, "the reason can't be noted");
        }
    }

    /// Does what is wanted.
    ///
    /// # Errors
    /// Inside, why there is no such attempt; outside, where it may be tried again.
    async fn replace_once(&self, record: &Record, hold: Hold, wanted: Wanted) -> Result<Result<(), Reason>, StepError> {
        let (wallet, lane) = self.place(record)?;
        match wanted {
            Wanted::Finish => self.finish(record, hold, wallet, lane.as_ref()).await,
            Wanted::Make(purpose) => match self.freeze_further(record, hold, wallet, lane.as_ref(), purpose).await? {
                Ok(frozen) => self.sign_further(record, hold, wallet, lane.as_ref(), frozen).await,
                Err(reason) => Ok(Err(reason)),
            },
        }
    }

    /// Goes on with an attempt that was frozen, or signed, and left there.
    async fn finish(
        &self,
        record: &Record,
        hold: Hold,
        wallet: &Wallet,
        lane: &dyn Lane,
    ) -> Result<Result<(), Reason>, StepError> {
        let Some(attempt) = record.unsigned_replacement() else {
            if let Some(unsent) = record.attempts.iter().rev().find(|attempt| waits_to_be_sent(attempt)) {
                self.send_further(record, hold, lane, unsent).await?;
            }
            return Ok(Ok(()));
        };
        let included = record.attempts.iter().any(|earlier| earlier.inclusion.is_some());
        let frozen = if included {
            Err(reason("already_included", "an earlier attempt is in a block"))
        } else if record.cancel.is_some() && attempt.purpose != Purpose::Cancel {
            Err(reason("cancelled", "the payment is to be cancelled, not hurried on"))
        } else if attempt.purpose != Purpose::Cancel
            && let Some(frozen) = self.freeze_of(wallet.account.wallet()).await?
        {
            return Ok(Err(frozen)); // it waits until that is lifted
        } else {
            self.thawed(record, attempt, &wallet.account, lane).await?
        };
        match frozen {
            Ok(frozen) => self.sign_further(record, hold, wallet, lane, frozen).await,
            Err(reason) => {
                self.store.give_up(hold, attempt.number, reason.clone(), self.clock.unix_millis()).await?;
                Ok(Err(reason))
            }
        }
    }

    /// A further attempt, built on the earlier ones, screened and allowed.
    ///
    /// # Errors
    /// Inside, why there is none; outside, where it may be tried again.
    async fn propose(
        &self,
        record: &Record,
        wallet: &Wallet,
        lane: &dyn Lane,
        purpose: Replacement,
        busy: &BTreeSet<Slot>,
    ) -> Result<Result<Allowed, Reason>, StepError> {
        let previous: Vec<Vec<u8>> = record.attempts.iter().map(|attempt| attempt.unsigned.clone()).collect();
        let built = if Mutation::ReplacementWithoutConflict.on() {
            lane.build(&record.intent, &wallet.account, busy).await
        } else {
            lane.replace(&record.intent, &wallet.account, &previous, purpose, busy).await
        };
        let draft = match built {
            Ok(draft) => draft,
            Err(error) => return refusal(error).map(|(_, reason)| Err(reason)),
        };
        let kept = match purpose {
            Replacement::SpeedUp => Purpose::SpeedUp,
            Replacement::Cancel => Purpose::Cancel,
        };
        let judged = self.judge(draft, record, &wallet.account, kept).await?;
        Ok(judged.and_then(fully_approved).map_err(|(_, reason)| reason))
    }

    /// Proposes one, and makes the bytes durable with their slots burned. One
    /// transaction of a wallet at a time, so that two don't choose the same outputs.
    async fn freeze_further(
        &self,
        record: &Record,
        hold: Hold,
        wallet: &Wallet,
        lane: &dyn Lane,
        purpose: Replacement,
    ) -> Result<Result<Frozen, Reason>, StepError> {
        if purpose == Replacement::SpeedUp
            && let Some(frozen) = self.freeze_of(wallet.account.wallet()).await?
        {
            return Ok(Err(frozen));
        }
        let _turn = wallet.turn.lock().await;
        let mut busy = self.store.busy(record.network).await?;
        for _ in 0..SLOTS_TRIED {
            let allowed = match self.propose(record, wallet, lane, purpose, &busy).await? {
                Ok(allowed) => allowed,
                Err(reason) => return Ok(Err(reason)),
            };
            // No node tries it again. The call is the one that was tried before the first attempt was frozen, and that attempt
            // is signed and out: holding this one back would keep nothing from happening. A node would try it in its pending
            // block, after the earlier attempt, and say of a good payment that its second half reverts.
            fail::point("replace.built");
            let (unsigned, slots) = (allowed.draft().unsigned().to_vec(), allowed.draft().slots().clone());
            match self.store.replace(hold, purpose, unsigned, slots, self.clock.unix_millis()).await {
                Ok(number) => {
                    fail::point("replace.frozen");
                    tracing::info!(id = %record.id, attempt = number, ?purpose, "a further attempt is frozen");
                    return Ok(Ok(allowed.freeze(number)));
                }
                Err(StoreError::SlotTaken(slot)) => _ = busy.insert(slot),
                Err(error @ StoreError::NoConflict(_)) => {
                    return Ok(Err(Reason {
                        kind: "not_replaceable".to_owned(),
                        message: error.to_string(),
                        rule: None,
                    }));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(slots_taken())
    }

    async fn sign_further(
        &self,
        record: &Record,
        hold: Hold,
        wallet: &Wallet,
        lane: &dyn Lane,
        frozen: Frozen,
    ) -> Result<Result<(), Reason>, StepError> {
        let number = frozen.number();
        match self.ask_signers(record, hold, &wallet.account, lane, frozen).await? {
            Signing::Signed(signed, detail) => {
                fail::point("replace.signed_not_stored");
                self.store.signed(hold, number, signed, detail, self.clock.unix_millis()).await?;
                fail::point("replace.stored");
            }
            Signing::Refused(reason) => {
                self.store.give_up(hold, number, reason.clone(), self.clock.unix_millis()).await?;
                return Ok(Err(reason));
            }
        }
        // Read back: what is sent is what is durable.
        let record = self.store.get(record.id).await?.ok_or(StoreError::NoRecord(record.id))?;
        if let Some(attempt) = record.attempts.iter().find(|attempt| attempt.number == number) {
            self.send_further(&record, hold, lane, attempt).await?;
        }
        Ok(Ok(()))
    }

    async fn send_further(
        &self,
        record: &Record,
        hold: Hold,
        lane: &dyn Lane,
        attempt: &Attempt,
    ) -> Result<(), StepError> {
        self.store.sending(hold, attempt.number, self.clock.unix_millis()).await?;
        fail::point("sending.after");
        self.send(record, hold, record.state, attempt, lane).await
    }
}

/// Whether what is asked for is there already, so that nothing is to be done.
///
/// # Errors
/// Where no further attempt has a place.
fn stands(record: &Record, ask: Ask) -> Result<bool, ReplaceError> {
    let there = |attempt: &Attempt| match ask {
        Ask::SpeedUp { slow } => slow.is_some_and(|slow| attempt.number > slow),
        Ask::Cancel => attempt.purpose == Purpose::Cancel,
    };
    if record.attempts.iter().any(|attempt| attempt.signed.is_some() && there(attempt)) {
        return Ok(true);
    }
    if let Some(included) = record.attempts.iter().find(|attempt| attempt.inclusion.is_some()) {
        return Err(ReplaceError::AlreadyIncluded(included.number));
    }
    match record.state {
        State::Broadcasting | State::InMempool => Ok(false),
        State::Quarantined if record.cancel.is_some() => Ok(false),
        state => Err(ReplaceError::NotOnItsWay(state)),
    }
}

/// What a further attempt of the record is for: once it is to be cancelled, nothing hurries the payment on.
const fn purpose(record: &Record) -> Replacement {
    if record.cancel.is_some() { Replacement::Cancel } else { Replacement::SpeedUp }
}

fn waits_to_be_sent(attempt: &Attempt) -> bool {
    attempt.signed.is_some() && attempt.sent_at.is_none()
}

/// Whether the record has an attempt that was left between two steps.
fn unfinished(record: &Record) -> bool {
    record.unsigned_replacement().is_some() || record.attempts.iter().any(waits_to_be_sent)
}

/// Whether the fee policy makes a further attempt: the latest has waited long enough, or the nodes say that it pays too
/// little.
fn due_for_a_bump(record: &Record, policy: &FeePolicy, at: u64) -> bool {
    let made = record.attempts.iter().filter(|attempt| attempt.purpose != Purpose::Pay).count();
    let made = u32::try_from(made).unwrap_or(u32::MAX);
    let Some(sent_at) = record.attempts.iter().rev().find_map(|attempt| attempt.sent_at) else { return false };
    let said = record.reason.as_ref().map(|reason| reason.kind.as_str());
    // A replacement that was asked for and that the nodes find too cheap is followed by one that pays more, policy or not.
    if said == Some(REPLACEMENT_UNDERPRICED) && made > 0 {
        return made < if policy.bump_after.is_some() { policy.bump_limit } else { MOST };
    }
    policy.bump_after.is_some_and(|after| {
        let waited = Duration::from_millis(at.saturating_sub(sent_at));
        made < policy.bump_limit && (waited >= after || said == Some(UNDERPRICED))
    })
}
