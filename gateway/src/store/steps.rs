//! The rules of the life of a transaction, without any database: from what is known of a record, what a step writes.
//!
//! A store reads [`Found`] under a lock, asks one of its methods for the [`Plan`], and carries that out, all in one
//! transaction. So both databases keep the same rules, and none of them is in SQL.

use std::collections::{BTreeMap, BTreeSet};

use chains::chain::{Replacement, Slot};
use chains::client::Inclusion;
use serde_json::{Value, json};
use signer::approval::{Approval, Decision};
use signer::request::SignedRequest;
use signer::roster::CredentialId;

use super::{Cancelling, Draw, Hold, Judgement, Sight, StoreError};
use crate::mutation::Mutation;
use crate::record::{Attempt, Event, Exposure, Purpose, Reason, RecordId, SignedBytes, State};

/// What a step needs to know of its record.
#[derive(Debug)]
pub(super) struct Found {
    /// The record.
    pub(super) id: RecordId,
    /// Where it stands.
    pub(super) state: State,
    /// Why.
    pub(super) reason: Option<Reason>,
    /// Can it still move money?
    pub(super) exposure: Exposure,
    /// The fence of its latest lease.
    pub(super) fence: u64,
    /// Whether a request to cancel it is kept.
    pub(super) asked: bool,
    /// Every attempt so far.
    pub(super) attempts: Vec<Attempt>,
    /// The slots that it holds, and which of them are burned.
    pub(super) slots: BTreeMap<Slot, bool>,
}

/// What a step writes, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The writes.
    pub(super) writes: Vec<Write>,
    /// The number of the attempt that it makes; 0 where it makes none.
    pub(super) attempt: u32,
}

/// One write.
#[derive(Debug)]
pub(super) enum Write {
    /// The record's state with what follows from it. Nobody holds a record that is not active.
    State { state: State, reason: Option<Reason>, exposure: Exposure, active: bool },
    /// Why it stays where it is.
    Reason(Option<Reason>),
    /// The request to cancel it. It is active from here on, even where it is quarantined.
    Asked(SignedRequest),
    /// Ends the present lease: whoever has it is fenced.
    Fence,
    /// One more step in its history.
    Event(Event),
    /// Takes a slot; fails where another record holds it.
    Take { slot: Slot, burned: bool },
    /// Burns every slot of the record.
    Burn,
    /// Gives back every slot that is not burned.
    Free,
    /// A further attempt.
    Attempt { number: u32, purpose: Purpose, unsigned: Vec<u8>, slots: BTreeSet<Slot> },
    /// Forgets every attempt. Only where none was signed for.
    Forget,
    /// The signed bytes of an attempt.
    Signed { number: u32, signed: SignedBytes },
    /// What an approver says of it, in place of what they said before.
    Approval { approval: Approval, at: u64 },
    /// The attempt will never be signed.
    GivenUp { number: u32, reason: Reason },
    /// When the attempt was about to be sent for the first time.
    Sent { number: u32, at: u64 },
    /// Where the attempt stands in the best chain; none of the others is in it.
    Included { number: u32, inclusion: Option<Inclusion> },
    /// Reserves draws, all or none; fails where a limit would be passed.
    Reserve(Vec<Draw>),
    /// Ends what is reserved.
    Settle(Settlement),
}

/// How reserved draws end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// The money moved.
    Post,
    /// It never will.
    GiveBack,
}

impl Settlement {
    /// What the end of a record makes of its draws. Only what the chain says settles them, never the time (I6): a record that a
    /// person must look at keeps them, and so does one whose exposure is open.
    const fn of(state: State, exposure: Exposure) -> Option<Self> {
        match (state, exposure) {
            (State::Quarantined, _) | (_, Exposure::Possible) => None,
            (state, Exposure::Certain) if state.is_terminal() => Some(Self::Post),
            (state, Exposure::None) if state.is_terminal() => Some(Self::GiveBack),
            _ => None,
        }
    }

    /// What a settled draw is called in its row.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Post => "posted",
            Self::GiveBack => "given_back",
        }
    }
}

impl Plan {
    /// Whether it gives reserved draws back.
    pub(super) fn gives_back(&self) -> bool {
        self.writes.iter().any(|write| matches!(write, Write::Settle(Settlement::GiveBack)))
    }
}

impl Found {
    /// Whether the hold still stands. Every step under a hold asks this first.
    pub(super) fn held(&self, hold: Hold) -> Result<(), StoreError> {
        if self.fence == hold.fence { Ok(()) } else { Err(StoreError::Fenced(self.id)) }
    }

    pub(super) fn judge(&self, steps: &[Event], verdict: &Judgement) -> Result<Plan, StoreError> {
        let mut plan = Plan::default();
        plan.writes.extend(steps.iter().cloned().map(Write::Event));
        self.advance(
            &mut plan,
            Arrow {
                from: State::Received,
                to: verdict.state,
                exposure: Exposure::of(verdict.state),
                reason: verdict.reason.clone(),
                detail: verdict.detail.clone(),
                at: verdict.at,
            },
        )?;
        let goes_on = matches!(verdict.state, State::Queued | State::AwaitingApproval);
        if goes_on && !verdict.draws.is_empty() {
            plan.writes.push(Write::Reserve(verdict.draws.clone())); // last: others wait for the counters from here on
        }
        Ok(plan)
    }

    /// The same for a record that was judged before, under another policy. What it has reserved is given back first.
    pub(super) fn judge_again(&self, verdict: &Judgement) -> Result<Plan, StoreError> {
        if !matches!(self.state, State::AwaitingApproval | State::Queued) || !self.attempts.is_empty() {
            return Err(self.stale(State::AwaitingApproval));
        }
        let mut plan = Plan::default();
        let goes_on = matches!(verdict.state, State::Queued | State::AwaitingApproval);
        if goes_on {
            plan.writes.push(Write::Settle(Settlement::GiveBack)); // or else the end of the record does
        }
        if verdict.state == self.state {
            plan.writes.push(Write::Reason(verdict.reason.clone()));
            self.event(&mut plan, verdict.at, verdict.detail.clone().unwrap_or_default());
        } else {
            let arrow = Arrow::plain(self.state, verdict.state, verdict.at);
            let (reason, detail) = (verdict.reason.clone(), verdict.detail.clone());
            self.advance(&mut plan, Arrow { reason, detail, ..arrow })?;
        }
        if goes_on && !verdict.draws.is_empty() {
            plan.writes.push(Write::Reserve(verdict.draws.clone()));
        }
        Ok(plan)
    }

    pub(super) fn freeze(&self, unsigned: &[u8], slots: &BTreeSet<Slot>, at: u64) -> Result<Plan, StoreError> {
        self.require(State::Queued)?;
        let mut plan = Plan { attempt: self.next_number(), ..Plan::default() };
        plan.writes.extend(slots.iter().map(|slot| Write::Take { slot: slot.clone(), burned: false }));
        plan.writes.push(Write::Attempt {
            number: plan.attempt,
            purpose: Purpose::Pay,
            unsigned: unsigned.to_vec(),
            slots: slots.clone(),
        });
        let detail = json!({ "attempt": plan.attempt, "slots": slots });
        self.event(&mut plan, at, detail);
        Ok(plan)
    }

    pub(super) fn thaw(&self, at: u64) -> Result<Plan, StoreError> {
        self.require(State::Queued)?;
        let mut plan = Plan { writes: vec![Write::Free, Write::Forget], attempt: 0 };
        self.event(&mut plan, at, json!({ "thawed": true }));
        Ok(plan)
    }

    pub(super) fn burn(&self, at: u64) -> Result<Plan, StoreError> {
        self.require(State::Queued)?;
        if self.asked {
            return Err(self.stale(State::Signing)); // it was cancelled after its bytes were frozen
        }
        if self.slots.is_empty() {
            return Err(StoreError::Corrupt(format!("record {} has no slot to burn", self.id)));
        }
        let burn = if Mutation::SlotReleasedWhileSigning.on() { Write::Free } else { Write::Burn };
        let mut plan = Plan { writes: vec![burn], attempt: 0 };
        self.advance(&mut plan, Arrow::plain(State::Queued, State::Signing, at))?;
        Ok(plan)
    }

    pub(super) fn replace(
        &self,
        purpose: Replacement,
        unsigned: &[u8],
        slots: &BTreeSet<Slot>,
        at: u64,
    ) -> Result<Plan, StoreError> {
        let burned = self.slots.values().any(|burned| *burned);
        let open = match self.state {
            State::Broadcasting | State::InMempool => true,
            State::Quarantined => burned,
            _ => false,
        };
        if !open || self.waiting().is_some() {
            return Err(self.stale(State::Broadcasting));
        }
        // I2: not only with the last one. A given-up attempt counts too: some signer may have signed it.
        if let Some(apart) = self.attempts.iter().find(|earlier| earlier.slots.is_disjoint(slots))
            && !Mutation::ReplacementWithoutConflict.on()
        {
            return Err(StoreError::NoConflict(apart.number));
        }
        let mut plan = Plan { attempt: self.next_number(), ..Plan::default() };
        let fresh = slots.iter().filter(|slot| !self.slots.contains_key(slot));
        plan.writes.extend(fresh.map(|slot| Write::Take { slot: slot.clone(), burned: true }));
        let (purpose, word) = match purpose {
            Replacement::SpeedUp => (Purpose::SpeedUp, "speed_up"),
            Replacement::Cancel => (Purpose::Cancel, "cancel"),
        };
        plan.writes.push(Write::Attempt {
            number: plan.attempt,
            purpose,
            unsigned: unsigned.to_vec(),
            slots: slots.clone(),
        });
        let detail = json!({ "attempt": plan.attempt, "purpose": word, "slots": slots });
        if self.state == State::Quarantined {
            let arrow = Arrow::plain(State::Quarantined, State::Broadcasting, at);
            self.advance(&mut plan, Arrow { detail: Some(detail), ..arrow })?;
        } else {
            self.event(&mut plan, at, detail);
        }
        Ok(plan)
    }

    pub(super) fn signed(
        &self,
        number: u32,
        signed: &SignedBytes,
        detail: &Value,
        at: u64,
    ) -> Result<Plan, StoreError> {
        let attempt = self.attempt(number)?;
        if attempt.signed.as_ref() == Some(signed) {
            return Ok(Plan::default()); // a repetition whose first answer was lost
        }
        let expected = if number == 1 { State::Signing } else { State::Broadcasting };
        let open = if number == 1 { self.state == expected } else { self.state.is_on_its_way() };
        if !open || attempt.signed.is_some() || attempt.given_up.is_some() {
            return Err(self.stale(expected));
        }
        let mut plan = Plan { writes: vec![Write::Signed { number, signed: signed.clone() }], attempt: 0 };
        if number == 1 {
            let arrow = Arrow::plain(State::Signing, State::Signed, at);
            self.advance(&mut plan, Arrow { detail: Some(detail.clone()), ..arrow })?;
        } else {
            self.event(&mut plan, at, json!({ "attempt": number, "signed": detail }));
        }
        Ok(plan)
    }

    pub(super) fn give_up(&self, number: u32, reason: &Reason, at: u64) -> Result<Plan, StoreError> {
        let attempt = self.attempt(number)?;
        if attempt.given_up.is_some() {
            return Ok(Plan::default());
        }
        let open = self.state.is_on_its_way() || self.state == State::Quarantined;
        if number == 1 || attempt.signed.is_some() || !open {
            return Err(self.stale(State::Broadcasting));
        }
        let mut plan = Plan { writes: vec![Write::GivenUp { number, reason: reason.clone() }], attempt: 0 };
        self.event(&mut plan, at, json!({ "attempt": number, "given_up": reason }));
        Ok(plan)
    }

    pub(super) fn sending(&self, number: u32, at: u64) -> Result<Plan, StoreError> {
        let attempt = self.attempt(number)?;
        let first = self.state == State::Signed && number == 1;
        // I3: what is not durable is not sent.
        if attempt.signed.is_none() || !(first || self.state.is_on_its_way()) {
            return Err(self.stale(State::Signed));
        }
        let mut plan = Plan::default();
        if attempt.sent_at.is_none() {
            plan.writes.push(Write::Sent { number, at });
            if !first {
                self.event(&mut plan, at, json!({ "attempt": number, "sending": true }));
            }
        }
        if Mutation::TimerRefund.on() {
            plan.writes.push(Write::Settle(Settlement::GiveBack));
        }
        if first {
            self.advance(&mut plan, Arrow::plain(State::Signed, State::Broadcasting, at))?;
        }
        Ok(plan)
    }

    pub(super) fn observed(&self, sight: &Sight) -> Result<Plan, StoreError> {
        if sight.inclusion.is_some() {
            self.attempt(sight.attempt)?;
        }
        let included = Write::Included { number: sight.attempt, inclusion: sight.inclusion.clone() };
        let mut plan = Plan { writes: vec![included], attempt: 0 };
        let detail = sight.inclusion.as_ref().map(|inclusion| match sight.attempt {
            1 => json!(inclusion),
            number => json!({ "attempt": number, "inclusion": inclusion }),
        });
        self.advance(
            &mut plan,
            Arrow {
                from: sight.from,
                to: sight.to,
                exposure: sight.exposure,
                reason: sight.reason.clone(),
                detail,
                at: sight.at,
            },
        )?;
        Ok(plan)
    }

    pub(super) fn abandon(&self, from: State, to: State, reason: &Reason, at: u64) -> Result<Plan, StoreError> {
        if from >= State::Signing || !to.is_terminal() {
            return Err(StoreError::NoSuchArrow { from, to });
        }
        let mut plan = Plan { writes: vec![Write::Free, Write::Forget], attempt: 0 };
        self.advance(&mut plan, Arrow { reason: Some(reason.clone()), ..Arrow::plain(from, to, at) })?;
        Ok(plan)
    }

    /// Needs no hold: approvals come in wherever people ask. One rejection is the end.
    pub(super) fn approve(&self, approval: &Approval, decision: Decision, at: u64) -> Result<Plan, StoreError> {
        self.require(State::AwaitingApproval)?;
        let mut plan = Plan { writes: vec![Write::Approval { approval: approval.clone(), at }], attempt: 0 };
        match decision {
            Decision::Approve => self.event(&mut plan, at, json!({ "approved_by": approval.approver })),
            Decision::Reject => {
                let reason = Reason {
                    kind: "rejected_by_approver".to_owned(),
                    message: format!("{} has rejected it", approval.approver),
                    rule: None,
                };
                let detail = Some(json!({ "rejected_by": approval.approver, "reason": reason }));
                let arrow = Arrow::plain(State::AwaitingApproval, State::Rejected, at);
                self.advance(&mut plan, Arrow { reason: Some(reason), detail, ..arrow })?;
                plan.writes.push(Write::Fence);
            }
        }
        Ok(plan)
    }

    /// Needs no hold either.
    pub(super) fn let_deal_go(&self, by: &CredentialId, request: &SignedRequest, at: u64) -> Result<Plan, StoreError> {
        self.require(State::AwaitingApproval)?;
        let mut plan = Plan::default();
        self.event(&mut plan, at, json!({ "released_by": by, "release": request }));
        Ok(plan)
    }

    /// Needs no hold either. What it was waiting for is there.
    pub(super) fn attach_travel(&self, detail: Value, at: u64) -> Result<Plan, StoreError> {
        self.require(State::AwaitingApproval)?;
        let mut plan = Plan { writes: vec![Write::Reason(None)], attempt: 0 };
        self.event(&mut plan, at, detail);
        Ok(plan)
    }

    pub(super) fn approved(&self, at: u64) -> Result<Plan, StoreError> {
        let mut plan = Plan::default();
        self.advance(&mut plan, Arrow::plain(State::AwaitingApproval, State::Queued, at))?;
        Ok(plan)
    }

    /// Needs no hold: a request to cancel ends the hold of a record that no slot was taken for.
    pub(super) fn cancel(
        &self,
        by: &CredentialId,
        request: &SignedRequest,
        at: u64,
    ) -> Result<(Plan, Cancelling), StoreError> {
        let untouched = match self.state {
            State::Received | State::AwaitingApproval | State::Queued => self.attempts.is_empty(),
            // Another transaction has used up the slot for good: nothing is left to be cancelled on chain.
            State::Quarantined => self.exposure == Exposure::None,
            _ => false,
        };
        let burned = self.slots.values().any(|burned| *burned);
        let detail = json!({ "cancel_asked_by": by });
        let mut plan = Plan { writes: vec![Write::Asked(request.clone())], attempt: 0 };
        if untouched {
            let reason = Reason {
                kind: "cancelled_by_request".to_owned(),
                message: format!("cancelled as {by} asked; it can't move money"),
                rule: None,
            };
            let arrow = Arrow::plain(self.state, State::Cancelled, at);
            self.advance(&mut plan, Arrow { reason: Some(reason), detail: Some(detail), ..arrow })?;
            plan.writes.push(Write::Fence);
            return Ok((plan, Cancelling::Done));
        }
        if self.state.is_terminal() && !(self.state == State::Quarantined && burned) {
            return Err(self.stale(State::Queued));
        }
        self.event(&mut plan, at, detail);
        Ok((plan, Cancelling::Asked))
    }

    /// A record at its end keeps the reason that it ended for.
    pub(super) fn note(&self, reason: Option<&Reason>, at: u64) -> Plan {
        let mut plan = Plan::default();
        if self.is_active(self.state) && self.reason.as_ref() != reason {
            plan.writes.push(Write::Reason(reason.cloned()));
            self.event(&mut plan, at, json!({ "reason": reason }));
        }
        plan
    }

    /// Whether the record was refused without any signer having been asked, so that its key may be used for the same intent
    /// again. What a person has cancelled stays so: a client that asks again hasn't heard of it.
    pub(super) fn burns_no_key(&self) -> bool {
        let refused = self.state.is_terminal() && self.state != State::Cancelled;
        refused && !self.slots.values().any(|burned| *burned)
    }

    /// Whether somebody has to work on the record in this state. A quarantined one that is to be cancelled is worked on.
    fn is_active(&self, state: State) -> bool {
        !state.is_terminal() || (state == State::Quarantined && self.asked)
    }

    /// Moves the record along one arrow, with its event and what it means for its draws.
    fn advance(&self, plan: &mut Plan, arrow: Arrow) -> Result<(), StoreError> {
        let Arrow { from, to, exposure, reason, detail, at } = arrow;
        // Tracking may see more of a record that stays where it is: another block, another attempt.
        let stays = from == to && from.is_on_its_way();
        if !stays && !from.may_become(to) {
            return Err(StoreError::NoSuchArrow { from, to });
        }
        self.require(from)?;
        let detail = detail.or_else(|| reason.as_ref().map(|reason| json!({ "reason": reason })));
        plan.writes.push(Write::State { state: to, reason, exposure, active: self.is_active(to) });
        plan.writes.push(Write::Event(Event { at, state: to, detail }));
        plan.writes.extend(Settlement::of(to, exposure).map(Write::Settle));
        Ok(())
    }

    /// An event that leaves the state.
    fn event(&self, plan: &mut Plan, at: u64, detail: Value) {
        plan.writes.push(Write::Event(Event { at, state: self.state, detail: Some(detail) }));
    }

    fn require(&self, expected: State) -> Result<(), StoreError> {
        if self.state == expected { Ok(()) } else { Err(self.stale(expected)) }
    }

    fn stale(&self, expected: State) -> StoreError {
        StoreError::Stale { id: self.id, expected, found: self.state }
    }

    /// The attempt of that number. Where there is none, the record has changed since it was looked at.
    fn attempt(&self, number: u32) -> Result<&Attempt, StoreError> {
        let found = self.attempts.iter().find(|attempt| attempt.number == number);
        found.ok_or_else(|| self.stale(State::Signing))
    }

    /// The replacement that waits for its signatures.
    fn waiting(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|one| one.number > 1 && one.signed.is_none() && one.given_up.is_none())
    }

    fn next_number(&self) -> u32 {
        let last = self.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0);
        last.saturating_add(1)
    }
}

/// One arrow of the life of a transaction.
struct Arrow {
    from: State,
    to: State,
    exposure: Exposure,
    reason: Option<Reason>,
    detail: Option<Value>,
    at: u64,
}

impl Arrow {
    fn plain(from: State, to: State, at: u64) -> Self {
        Self { from, to, exposure: Exposure::of(to), reason: None, detail: None, at }
    }
}
