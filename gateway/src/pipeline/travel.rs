//! Payments that wait for Travel Rule data ([`crate::travel`]): they wait as for people, beside whom they wait for, and expire as
//! those do. What is attached is in the record's history by its digest, and in the store beside the record.

use chains::address::UncheckedAddress;
use chains::effects::Effects;
use serde::Deserialize;

use super::Pipeline;
use crate::record::{Reason, Record, State};
use crate::travel::Demand;

/// What a record's history says of attached data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attached {
    /// The SHA-256 of the data's JSON, hex.
    #[serde(rename = "travel_digest")]
    pub digest: String,
    /// Who attached it.
    #[serde(rename = "travel_by")]
    pub by: String,
    /// The receivers that it names.
    #[serde(rename = "travel_for")]
    pub named: Vec<UncheckedAddress>,
}

impl Record {
    /// The data that was attached last, and when, in milliseconds since the Unix epoch.
    pub fn travel_attached(&self) -> Option<(Attached, u64)> {
        self.history.iter().rev().find_map(|event| {
            let detail = event.detail.as_ref().filter(|detail| detail.get("travel_digest").is_some())?;
            Some((serde_json::from_value(detail.clone()).ok()?, event.at))
        })
    }

    /// What the last verdict wanted data for.
    pub fn travel_demand(&self) -> Option<Demand> {
        let verdicts = self.history.iter().rev().filter_map(|event| event.detail.as_ref());
        let verdict = verdicts.into_iter().find(|detail| detail.get("effects").is_some())?;
        serde_json::from_value(verdict.get("travel")?.clone()).ok()
    }

    /// Whether it waits for data.
    pub fn waits_for_travel(&self) -> bool {
        self.state == State::AwaitingApproval
            && self.travel_demand().is_some_and(|demand| {
                !self.travel_attached().is_some_and(|(attached, _)| demand.is_met_for(&attached.named))
            })
    }
}

impl Pipeline {
    /// What the Travel Rule wants of a transaction of the record and doesn't have. Whoever is signing for it has seen the data.
    pub(super) fn travel_missing(&self, record: &Record, effects: &Effects) -> Option<Demand> {
        if record.state >= State::Signing {
            return None;
        }
        let own = |address: &chains::address::Address| self.accounts().any(|account| account.address() == address);
        let demand = self.travel.demand(record.network, effects, own)?;
        let met = record.travel_attached().is_some_and(|(attached, _)| demand.is_met_for(&attached.named));
        (!met).then_some(demand)
    }
}

impl From<&Demand> for Reason {
    fn from(demand: &Demand) -> Self {
        let Demand { asset, amount, above, .. } = demand;
        let message = format!("{amount} of {asset} is above {above}: attach the data that the Travel Rule wants");
        Self { kind: "travel_data_missing".to_owned(), message, rule: None }
    }
}
