//! What an operator must know of: payments that are stuck, nonces that don't add up. Kept in memory; what is still so after a
//! restart is found again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::MissedTickBehavior;

use super::Pipeline;
use crate::record::{Exposure, Record, State};
use crate::store::StoreError;
use crate::store::pages::Pages;

/// The kind of an alert about a record that was set aside.
const QUARANTINED: &str = "quarantined";
/// The kind of an alert about a record that this gateway can't read or move.
pub(super) const HALTED: &str = "halted";
/// How often quarantined records are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// A stable word: `stuck`, `quarantined`, `halted`, `nonce_gap`, `foreign_transaction`, `node_behind`.
    pub kind: String,
    /// What it is about: a record's id, `<network>/<address>/<nonce>`.
    pub subject: String,
    /// What is the matter, in a sentence.
    pub message: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
}

/// Every alert that stands, by subject and kind.
#[derive(Debug, Default)]
pub(super) struct Alerts(Mutex<BTreeMap<(String, String), Alert>>);

impl Alerts {
    /// Raises one. Answers whether it is news.
    pub(super) fn raise(&self, kind: &str, subject: String, message: String, at: u64) -> bool {
        let mut alerts = self.lock();
        let key = (subject.clone(), kind.to_owned());
        if let Some(known) = alerts.get_mut(&key) {
            known.message = message;
            return false;
        }
        alerts.insert(key, Alert { kind: kind.to_owned(), subject, message, since: at });
        true
    }

    /// Takes back every alert about the subject.
    pub(super) fn settle(&self, subject: &str) {
        self.lock().retain(|(about, _), _| about != subject);
    }

    /// Takes back every alert whose subject begins with `prefix` and that isn't in `standing`.
    pub(super) fn keep_only(&self, prefix: &str, standing: &[(String, String)]) {
        self.lock().retain(|key, _| !key.0.starts_with(prefix) || standing.contains(key));
    }

    /// Has exactly these alerts of the kind stand.
    fn replace_kind(&self, kind: &str, standing: Vec<Alert>) {
        let mut alerts = self.lock();
        alerts.retain(|key, _| key.1 != kind);
        alerts.extend(standing.into_iter().map(|alert| ((alert.subject.clone(), kind.to_owned()), alert)));
    }

    /// Every alert that stands.
    pub(super) fn all(&self) -> Vec<Alert> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Alert>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// Looks for quarantined records, from time to time. They are nobody's: whichever gateway set them aside, and whenever,
    /// each tells of them until a person has had them cancelled.
    pub(super) async fn watch_quarantined(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.quarantined().await {
                Ok(alerts) => self.alerts.replace_kind(QUARANTINED, alerts),
                Err(error) => tracing::warn!(%error, "quarantined payments can't be looked for; those known stand"),
            }
        }
    }

    async fn quarantined(&self) -> Result<Vec<Alert>, StoreError> {
        let mut alerts = Vec::new();
        let mut pages = Pages::in_state(self.store.as_ref(), State::Quarantined);
        while let Some(records) = pages.next().await? {
            alerts.extend(records.iter().map(set_aside));
        }
        Ok(alerts)
    }
}

fn set_aside(record: &Record) -> Alert {
    let why = record.reason.as_ref().map_or("no reason is kept", |reason| reason.message.as_str());
    let can = match record.exposure {
        Exposure::None => "it can't move money, and what it drew from limits is kept until it is cancelled",
        _ => "it may still move money",
    };
    Alert {
        kind: QUARANTINED.to_owned(),
        subject: record.id.to_string(),
        message: format!("set aside, {can}: {why}"),
        since: record.history.last().map_or(0, |event| event.at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_news_once_and_stands_until_it_is_settled() {
        let alerts = Alerts::default();
        assert!(alerts.raise("nonce_gap", "ethereum:1/0xa/3".to_owned(), "a".to_owned(), 1));
        assert!(!alerts.raise("nonce_gap", "ethereum:1/0xa/3".to_owned(), "b".to_owned(), 2));
        assert!(alerts.raise("stuck", "record".to_owned(), "c".to_owned(), 3));
        assert_eq!(alerts.all().iter().map(|alert| alert.since).collect::<Vec<_>>(), [1, 3]);

        let standing = [("ethereum:1/0xa/3".to_owned(), "nonce_gap".to_owned())];
        alerts.keep_only("ethereum:1/", &standing);
        assert_eq!(alerts.all().len(), 2, "it stands, and the other is no business of this account");
        alerts.keep_only("ethereum:1/", &[]);
        alerts.settle("record");
        assert!(alerts.all().is_empty());
    }
}
