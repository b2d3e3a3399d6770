//! Deals, delivery versus payment: a payment that waits until both of its parties have approved and the fiat leg is confirmed.
//!
//! A deal is a record whose request carries terms ([`Deal`]). It has no state of its own, and so needs no recovery of its own:
//!
//! | the record | the deal | leaves it by |
//! |---|---|---|
//! | `received` | is screened and judged | the verdict |
//! | `awaiting_approval` | is open: who approves and who confirms is kept | everything is there (and, where the terms ask for it, the desk's go): `queued`; an abort: `rejected` by a party, `cancelled` by the desk; its time: `expired` |
//! | `queued` | is being released | as before; the time still counts |
//! | `signing` and on | is released: only the chain decides | as any payment |
//! | `expired`, `rejected`, `cancelled`, `blocked` | is over, nothing was signed, what it reserved is given back | |
//!
//! None of this has to be believed: every signer reads the terms in the body that the desk signed, and counts for itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use signer::policy::quorum::{Group, Person};
use signer::request::{Deal, SignedRequest};
use signer::roster::CredentialId;

use super::Pipeline;
use crate::record::{Record, State};

/// So long before the signers stop, in seconds, the gateway doesn't begin any more: the request has to reach them in time.
pub(super) const LAST_CALL_SECONDS: u64 = 5;

/// Somebody whose word counts for a deal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    /// The credential.
    pub approver: CredentialId,
    /// The person behind it.
    pub person: Person,
    /// The deal's groups that the person speaks for.
    pub speaks_for: BTreeSet<Group>,
}

impl Record {
    /// The desk's go, where it was given.
    pub fn release(&self) -> Option<SignedRequest> {
        let given = self.history.iter().rev().find_map(|event| event.detail.as_ref()?.get("release"));
        given.and_then(|request| serde_json::from_value(request.clone()).ok())
    }

    /// When the gateway gives the record up, where it is a deal's leg, in milliseconds since the Unix epoch.
    pub fn deal_ends_at(&self) -> Option<u64> {
        let expires = self.deal.as_ref()?.terms().expires;
        Some(expires.saturating_sub(LAST_CALL_SECONDS).saturating_mul(1000))
    }

    /// Whether the desk's go is still missing.
    pub(super) fn waits_for_go(&self) -> bool {
        self.deal.as_ref().is_some_and(Deal::is_released_by_hand) && self.release().is_none()
    }

    /// Whether its time as a deal is over and it was not released before.
    pub(super) fn is_over_as_deal(&self, at: u64) -> bool {
        self.state < State::Signing && self.deal_ends_at().is_some_and(|end| at >= end)
    }
}

impl Pipeline {
    /// Who speaks for the deal that the record is a leg of.
    pub fn voices(&self, record: &Record) -> Vec<Voice> {
        let Some(deal) = &record.deal else { return Vec::new() };
        let subject = record.subject();
        let voices = self.valid_approvals(record).into_iter().filter_map(|approval| {
            let (_, known) = approval.check(&self.roster, &subject).ok()?;
            let speaks_for = deal.seats(&known.groups);
            Some(Voice { approver: approval.approver, person: known.person, speaks_for })
        });
        voices.filter(|voice| !voice.speaks_for.is_empty()).collect()
    }
}
