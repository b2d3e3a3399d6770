//! Rows as records. What a database holds is parsed like any other input, the same way from every database.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use chains::amount::Amount;
use chains::chain::Slot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use signer::request::{Deal, SignedRequest};

use super::steps::Found;
use super::{NewIntent, SlotRow, StoreError, WalletFreeze};
use crate::record::{Attempt, Event, Exposure, Purpose, Record, RecordId, SignedBytes};

/// A row of `record`.
pub(super) struct RecordRow {
    pub(super) id: RecordId,
    pub(super) client: String,
    pub(super) key: String,
    pub(super) network: String,
    pub(super) intent: String,
    pub(super) deal: Option<String>,
    pub(super) token: String,
    pub(super) body: Vec<u8>,
    pub(super) cancel_token: Option<String>,
    pub(super) cancel_body: Option<Vec<u8>>,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) exposure: String,
}

/// What a step reads of `record`.
pub(super) struct HeadRow {
    pub(super) id: RecordId,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) exposure: String,
    pub(super) fence: i64,
    pub(super) asked: bool,
}

/// A row of `attempt`.
pub(super) struct AttemptRow {
    pub(super) number: i64,
    pub(super) purpose: String,
    pub(super) unsigned: Vec<u8>,
    pub(super) slots: String,
    pub(super) signed: Option<Vec<u8>>,
    pub(super) tx_id: Option<String>,
    pub(super) given_up: Option<String>,
    pub(super) sent_at: Option<i64>,
    pub(super) inclusion: Option<String>,
}

/// A row of `event`.
pub(super) struct EventRow {
    pub(super) at: i64,
    pub(super) state: String,
    pub(super) detail: Option<String>,
}

impl RecordRow {
    pub(super) fn whole(
        self,
        attempts: Vec<AttemptRow>,
        history: Vec<EventRow>,
        approvals: &[String],
    ) -> Result<Record, StoreError> {
        Ok(Record {
            id: self.id,
            client: parse(&self.client)?,
            idempotency_key: parse(&self.key)?,
            network: parse(&self.network)?,
            intent: from_json(&self.intent)?,
            deal: self.deal.as_deref().map(from_json::<Deal>).transpose()?,
            request: SignedRequest { token: self.token, body: self.body },
            cancel: self.cancel_token.zip(self.cancel_body).map(|(token, body)| SignedRequest { token, body }),
            approvals: approvals.iter().map(|approval| from_json(approval)).collect::<Result<_, _>>()?,
            state: parse(&self.state)?,
            reason: self.reason.as_deref().map(from_json).transpose()?,
            exposure: exposure(&self.exposure)?,
            attempts: attempts.into_iter().map(AttemptRow::whole).collect::<Result<_, _>>()?,
            history: history.into_iter().map(EventRow::whole).collect::<Result<_, _>>()?,
        })
    }
}

impl HeadRow {
    /// Before the verdict a record has neither attempts nor slots.
    pub(super) fn is_bare(&self) -> bool {
        self.state == crate::record::State::Received.as_str()
    }

    pub(super) fn found(self, attempts: Vec<AttemptRow>, slots: Vec<(String, bool)>) -> Result<Found, StoreError> {
        Ok(Found {
            id: self.id,
            state: parse(&self.state)?,
            reason: self.reason.as_deref().map(from_json).transpose()?,
            exposure: exposure(&self.exposure)?,
            fence: unsigned_int(self.fence)?,
            asked: self.asked,
            attempts: attempts.into_iter().map(AttemptRow::whole).collect::<Result<_, _>>()?,
            slots: slots
                .into_iter()
                .map(|(slot, burned)| Ok((parse(&slot)?, burned)))
                .collect::<Result<BTreeMap<Slot, bool>, StoreError>>()?,
        })
    }
}

impl AttemptRow {
    fn whole(self) -> Result<Attempt, StoreError> {
        Ok(Attempt {
            number: u32::try_from(self.number).map_err(|_| corrupt("an attempt's number", &self.number))?,
            purpose: purpose(&self.purpose)?,
            unsigned: self.unsigned,
            slots: from_json(&self.slots)?,
            signed: self.signed.zip(self.tx_id).map(|(bytes, id)| SignedBytes { bytes, id }),
            given_up: self.given_up.as_deref().map(from_json).transpose()?,
            sent_at: self.sent_at.map(unsigned_int).transpose()?,
            inclusion: self.inclusion.as_deref().map(from_json).transpose()?,
        })
    }
}

impl EventRow {
    fn whole(self) -> Result<Event, StoreError> {
        Ok(Event {
            at: unsigned_int(self.at)?,
            state: parse(&self.state)?,
            detail: self.detail.as_deref().map(from_json).transpose()?,
        })
    }
}

/// What an idempotency key names: the intent and, of a deal's leg, its terms.
pub(super) struct Named {
    /// The intent's JSON.
    pub(super) intent: String,
    /// The terms' JSON.
    pub(super) deal: Option<String>,
    /// The SHA-256 over both.
    pub(super) digest: Vec<u8>,
}

impl Named {
    pub(super) fn of(new: &NewIntent) -> Result<Self, StoreError> {
        let (intent, deal) = (to_json(&new.intent)?, optional_json(new.deal.as_ref())?);
        let mut hash = Sha256::new();
        hash.update(&intent);
        if let Some(deal) = &deal {
            hash.update([0]); // no JSON holds it
            hash.update(deal);
        }
        Ok(Self { intent, deal, digest: hash.finalize().to_vec() })
    }
}

pub(super) fn slot_row(slot: &str, record: RecordId, state: &str, burned: bool) -> Result<SlotRow, StoreError> {
    Ok(SlotRow { slot: parse(slot)?, record, state: parse(state)?, burned })
}

pub(super) const fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Pay => "pay",
        Purpose::SpeedUp => "speed_up",
        Purpose::Cancel => "cancel",
    }
}

fn purpose(text: &str) -> Result<Purpose, StoreError> {
    [Purpose::Pay, Purpose::SpeedUp, Purpose::Cancel]
        .into_iter()
        .find(|purpose| purpose_word(*purpose) == text)
        .ok_or_else(|| corrupt("an attempt's purpose", &text))
}

fn exposure(text: &str) -> Result<Exposure, StoreError> {
    [Exposure::None, Exposure::Possible, Exposure::Certain]
        .into_iter()
        .find(|exposure| exposure.as_str() == text)
        .ok_or_else(|| corrupt("an exposure", &text))
}

/// An amount as it is stored: 32 bytes, big-endian.
pub(super) fn amount(bytes: &[u8]) -> Result<Amount, StoreError> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| corrupt("an amount", &format!("{} bytes", bytes.len())))?;
    Ok(Amount::from_be_bytes(bytes))
}

pub(super) fn parse<T: FromStr>(text: &str) -> Result<T, StoreError>
where
    T::Err: Display,
{
    text.parse().map_err(|e: T::Err| StoreError::Corrupt(e.to_string()))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(e.to_string()))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(e.to_string()))
}

pub(super) fn optional_json(value: Option<&impl Serialize>) -> Result<Option<String>, StoreError> {
    value.map(to_json).transpose()
}

/// The databases' integers are signed 64 bit; times, heights and counts are far below that.
pub(super) fn signed_int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned_int(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| corrupt("a number", &value))
}

fn corrupt(what: &str, found: &(impl Display + ?Sized)) -> StoreError {
    StoreError::Corrupt(format!("{what} that can't be: {found}"))
}

/// The columns of a freeze: wallet, by, reason, at, nonce.
pub(super) type FreezeRow = (String, String, String, i64, Option<i64>);

pub(super) fn wallet_freeze((wallet, by, reason, at, nonce): FreezeRow) -> Result<WalletFreeze, StoreError> {
    let (at, nonce) = (unsigned_int(at)?, nonce.map(unsigned_int).transpose()?);
    Ok(WalletFreeze { wallet: parse(&wallet)?, by, reason, at, nonce })
}
