//! What people say of a payment that waits for them. An approval is kept as it was signed; it counts here as it counts at each
//! signer, which checks it again against its own roster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use signer::approval::{Approval, Decision, Statement, Subject, Tally};
use signer::policy::quorum::{Group, Person, Quorum};
use signer::request::{IntentId, Submission};
use tokio::time::MissedTickBehavior;

use super::stage::Standing;
use super::{Next, Pipeline, StepError};
use crate::record::{Reason, Record, State};
use crate::store::pages::Pages;
use crate::store::{Hold, StoreError};

/// How often waiting records are looked at: for approvals that came in elsewhere, and for those whose time is over.
const LOOK: Duration = Duration::from_secs(1);

/// What a waiting record waits for.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Each quorum, and how many more people it takes at least.
    pub quorums: Vec<(Quorum, usize)>,
    /// Whether a deal's desk has to give its go.
    pub go: bool,
    /// Whether the Travel Rule's data has to be attached.
    pub travel: bool,
    /// Whether the verdict told what it waits for.
    told: bool,
    /// When the record expires, in milliseconds since the Unix epoch.
    pub expires_at: u64,
}

impl Needs {
    /// Whether it waits for nothing any more. A record that waits for nothing can't have come to wait: it stays, and expires.
    fn are_met(&self) -> bool {
        self.told && !self.go && !self.travel && self.people_missing() == 0
    }

    /// How many more people it takes, over all quorums.
    pub fn people_missing(&self) -> usize {
        self.quorums.iter().fold(0, |sum, (_, missing)| sum.saturating_add(*missing))
    }
}

impl Record {
    /// The intent, as its approvals name it.
    pub fn intent_id(&self) -> IntentId {
        let submission = Submission {
            idempotency_key: self.idempotency_key.clone(),
            intent: self.intent.clone(),
            deal: self.deal.clone(),
        };
        submission.intent_id(&self.client)
    }

    /// What its approvals have to be about.
    pub fn subject(&self) -> Subject<'_> {
        Subject { intent: self.intent_id(), initiator: &self.client, body: &self.request.body }
    }

    /// The quorums that T2 found, where the record waits for people or has waited.
    pub fn quorums(&self) -> BTreeSet<Quorum> {
        let told = self.history.iter().filter(|event| event.state == State::AwaitingApproval);
        let told = told.filter_map(|event| event.detail.as_ref()?.get("quorums").cloned()).next_back();
        told.and_then(|quorums| serde_json::from_value(quorums).ok()).unwrap_or_default()
    }

    /// Since when it waits for people, in milliseconds since the Unix epoch.
    fn waits_since(&self) -> Option<u64> {
        self.history.iter().find(|event| event.state == State::AwaitingApproval).map(|event| event.at)
    }
}

impl Pipeline {
    /// Who has approved the record, and as of when it is judged: when signers were first asked, or else at present.
    pub(super) fn standing(&self, record: &Record) -> Standing {
        let at = self.judged_at(record);
        let people = self.counted(record, at).1;
        Standing { people, deal: record.deal.clone(), waits_for_go: record.waits_for_go(), travel: None, at }
    }

    /// The approvals that hold: what goes to the signers.
    pub(super) fn valid_approvals(&self, record: &Record) -> Vec<Approval> {
        self.counted(record, self.judged_at(record)).0
    }

    /// As of when the record is judged: when signers were first asked, or else at present.
    pub(super) fn judged_at(&self, record: &Record) -> u64 {
        let first = record.history.iter().find(|event| event.state == State::Signing);
        first.map_or_else(|| self.clock.unix_millis(), |event| event.at)
    }

    fn counted(&self, record: &Record, at: u64) -> (Vec<Approval>, BTreeMap<Person, BTreeSet<Group>>) {
        let subject = record.subject();
        let mut said = Vec::new();
        for approval in &record.approvals {
            let Ok((statement, approver)) = approval.check(&self.roster, &subject) else { continue };
            if statement.decision == Decision::Approve && holds(&statement, at) && !self.is_revoked(&statement) {
                said.push((approval, statement, approver));
            }
        }
        // As signers count them: what approvers say for themselves comes first.
        said.sort_by_key(|(_, statement, _)| statement.delegation.is_some());
        let (mut tally, mut valid) = (Tally::default(), Vec::new());
        for (approval, statement, approver) in said {
            if tally.count(&statement, approver, &self.roster, at).is_ok() {
                valid.push(approval.clone());
            }
        }
        (valid, tally.into_people())
    }

    /// What a record waits for.
    pub fn needs(&self, record: &Record) -> Needs {
        let people = self.standing(record).people;
        let deal = record.deal.as_ref().map(|deal| (deal, deal.quorum()));
        let missing = |quorum: Quorum| {
            let missing = match &deal {
                Some((deal, own)) if *own == quorum => deal.missing(&people),
                _ => quorum.missing(&people),
            };
            (quorum, missing)
        };
        let since = record.waits_since().unwrap_or_default();
        Needs {
            quorums: record.quorums().into_iter().map(missing).collect(),
            go: record.waits_for_go(),
            travel: record.waits_for_travel(),
            told: !record.quorums().is_empty() || record.travel_demand().is_some(),
            expires_at: match record.deal_ends_at() {
                Some(end) => end,
                None => since.saturating_add(self.approvals.expire_millis()),
            },
        }
    }

    /// `awaiting_approval` -> `queued` once every quorum is met, -> `expired` once its time is over.
    pub(super) async fn await_approval(&self, record: &Record, hold: Hold) -> Result<Next, StepError> {
        let (needs, at) = (self.needs(record), self.clock.unix_millis());
        if at >= needs.expires_at {
            let (kind, message) = if record.deal.is_some() {
                ("deal_expired", "the deal's time was over before everything was there".to_owned())
            } else if needs.travel {
                let hours = self.approvals.expire_hours;
                ("travel_data_missing", format!("nobody has attached what the Travel Rule wants within {hours} hours"))
            } else {
                let hours = self.approvals.expire_hours;
                ("approvals_expired", format!("not enough people have approved it within {hours} hours"))
            };
            let reason = Reason { kind: kind.to_owned(), message, rule: None };
            self.store.abandon(hold, State::AwaitingApproval, State::Expired, reason, at).await?;
            return Ok(Next::Go);
        }
        if !needs.are_met() {
            return Ok(Next::Rest);
        }
        self.store.approved(hold, at).await?;
        Ok(Next::Go)
    }

    /// Looks at a waiting record without waiting for the next round, where this gateway holds it.
    pub(crate) fn look_at(self: &Arc<Self>, record: &Record) {
        if self.hold(record.id).is_ok()
            && let Some(turn) = self.begin(record.id)
        {
            self.drive_in(turn, None);
        }
    }

    /// Looks at every waiting record that this gateway holds, from time to time.
    pub(super) async fn watch_approvals(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.load_revocations().await {
                tracing::warn!(%error, "revoked delegations can't be read; those known stay revoked");
            }
            if let Err(error) = self.look_at_waiting().await {
                tracing::warn!(%error, "payments that wait for approval can't be looked at");
            }
        }
    }

    pub(super) async fn look_at_waiting(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut pages = Pages::in_state(self.store.as_ref(), State::AwaitingApproval);
        while let Some(records) = pages.next().await? {
            for record in &records {
                self.rescreen_one(record).await; // a list may have changed just while it came to wait
                let needs = self.needs(record);
                if needs.are_met() || self.is_judged_by_another(record) || self.clock.unix_millis() >= needs.expires_at
                {
                    self.look_at(record);
                }
            }
        }
        Ok(())
    }
}

/// Whether a statement counts at a time in milliseconds since the Unix epoch, as signers say it.
const fn holds(statement: &Statement, at: u64) -> bool {
    statement.expires >= at / 1000
}
