//! `otc_open`: a payment that is one leg of a deal, delivery versus payment.
//!
//! A deal has a crypto leg, the intent, and a fiat leg that is paid elsewhere. Its terms stand in the body that the desk signs,
//! so whatever is signed about that body, an approval or a confirmation, covers them, and every signer reads them for
//! itself. A signer takes part only where somebody of each party has approved and somebody of the group named for it has
//! confirmed that the fiat leg is paid, all different people, before the deal's time is over; and where the terms say so, only
//! once the desk has given its explicit go.
//!
//! Whoever is of a party's group stands for that party alone: nobody confirms the payment of a deal that they have a side in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::{BodyError, Call};
use crate::policy::quorum::{Group, Person, Quorum};

/// The method that asks for a deal's crypto leg.
pub const METHOD: &str = "otc_open";
/// The method whose parameters are a [`Go`].
const GO_METHOD: &str = "otc_release";
/// The longest reference of a fiat payment, in characters: that of a SEPA transfer's remittance information (EPC109-08).
const MAX_REFERENCE: usize = 140;

/// The terms of a deal, as they stand in the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The group of approvers that speaks for the one party.
    pub party_a: Group,
    /// The group that speaks for the other.
    pub party_b: Group,
    /// The group that confirms that the fiat leg is paid.
    pub fiat_confirmer: Group,
    /// The fiat leg.
    pub fiat: Fiat,
    /// Until when everything must be there, in seconds since the Unix epoch: a signer that has agreed to no attempt of the
    /// intent by then agrees to none.
    pub expires: u64,
    /// What happens once everything is there.
    #[serde(default)]
    pub release: Release,
}

/// Terms that can be met: three different groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Terms", into = "Terms")]
pub struct Deal(Terms);

/// The fiat leg: what is paid elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fiat {
    /// ISO 4217's three letters.
    pub currency: Currency,
    /// How much, in units of the currency.
    pub amount: FiatAmount,
    /// What the payment is recognized by.
    pub reference: FiatReference,
}

/// What happens once both parties have approved and the fiat leg is confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// The crypto leg is paid.
    #[default]
    Automatic,
    /// It waits for the desk's go.
    Manual,
}

/// A currency's code: three letters, `EUR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Currency(String);

/// An amount of a currency, a decimal number above zero in its one spelling: `1250000.00`. At most 18 digits before the point and
/// 1 to 4 after it (ISO 4217 has up to four).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FiatAmount(String);

/// What a fiat payment is recognized by: 1 to 140 characters without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FiatReference(String);

/// Why terms are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DealError {
    /// One group in two places.
    #[error("party_a, party_b and fiat_confirmer are three different groups")]
    Groups,
    /// No currency's code.
    #[error("{0:?} is no currency; write its three letters: EUR")]
    Currency(String),
    /// No amount.
    #[error("{0:?} is no amount of a currency; write a decimal number above zero: 1250000.00")]
    Amount(String),
    /// No reference.
    #[error("{0:?} is no reference of a payment; write 1 to {MAX_REFERENCE} printable characters")]
    Reference(String),
}

/// The desk's go, the parameters of `otc_release`: `{"tx_id": "<uuid>", "request": "<SHA-256 of the deal's body, hex>"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Go {
    /// The gateway's name for the deal.
    pub tx_id: Uuid,
    /// The SHA-256 of the raw body that opened it.
    #[serde(with = "hex::serde")]
    pub request: [u8; 32],
}

impl Deal {
    /// The terms.
    pub const fn terms(&self) -> &Terms {
        &self.0
    }

    /// One of each party and one who confirms.
    pub fn quorum(&self) -> Quorum {
        let Terms { party_a, party_b, fiat_confirmer, .. } = &self.0;
        Quorum::one_of_each([party_a, party_b, fiat_confirmer])
    }

    /// Whether these people fulfil it.
    pub fn is_met_by(&self, people: &BTreeMap<Person, BTreeSet<Group>>) -> bool {
        self.quorum().is_met_by(&self.seated(people))
    }

    /// How many more people it takes at least.
    pub fn missing(&self, people: &BTreeMap<Person, BTreeSet<Group>>) -> usize {
        self.quorum().missing(&self.seated(people))
    }

    /// Which of the deal's groups somebody of these groups speaks for: a party's, or else the confirmer's.
    pub fn seats(&self, groups: &BTreeSet<Group>) -> BTreeSet<Group> {
        let Terms { party_a, party_b, fiat_confirmer, .. } = &self.0;
        let of = |names: &[&Group]| -> BTreeSet<Group> {
            names.iter().filter(|name| groups.contains(**name)).map(|name| (*name).clone()).collect()
        };
        let parties = of(&[party_a, party_b]);
        if parties.is_empty() { of(&[fiat_confirmer]) } else { parties }
    }

    /// Whether its time is over, at a time in milliseconds since the Unix epoch.
    pub const fn is_over(&self, at: u64) -> bool {
        self.0.expires < at / 1000
    }

    /// Whether the desk's explicit go is needed.
    pub fn is_released_by_hand(&self) -> bool {
        self.0.release == Release::Manual
    }

    fn seated(&self, people: &BTreeMap<Person, BTreeSet<Group>>) -> BTreeMap<Person, BTreeSet<Group>> {
        people.iter().map(|(person, groups)| (person.clone(), self.seats(groups))).collect()
    }
}

impl Go {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// Where the call is of another method, or its parameters are not exactly the two.
    pub fn from_call(call: &Call) -> Result<Self, BodyError> {
        if call.method != GO_METHOD {
            return Err(BodyError::Method { expected: GO_METHOD, found: call.method.chars().take(100).collect() });
        }
        if !call.params.is_object() {
            return Err(BodyError::Params("send an object with tx_id and request".to_owned()));
        }
        Self::deserialize(&call.params).map_err(|error| BodyError::Params(error.to_string()))
    }
}

impl TryFrom<Terms> for Deal {
    type Error = DealError;

    fn try_from(terms: Terms) -> Result<Self, DealError> {
        let groups = BTreeSet::from([&terms.party_a, &terms.party_b, &terms.fiat_confirmer]);
        if groups.len() == 3 { Ok(Self(terms)) } else { Err(DealError::Groups) }
    }
}

impl From<Deal> for Terms {
    fn from(deal: Deal) -> Self {
        deal.0
    }
}

impl FromStr for Currency {
    type Err = DealError;

    fn from_str(text: &str) -> Result<Self, DealError> {
        let plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        if plain { Ok(Self(text.to_owned())) } else { Err(DealError::Currency(cut(text))) }
    }
}

impl FromStr for FiatAmount {
    type Err = DealError;

    fn from_str(text: &str) -> Result<Self, DealError> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let whole_is_plain =
            (1..=18).contains(&whole.len()) && digits(whole) && (whole == "0" || !whole.starts_with('0'));
        let fraction_is_plain = fraction.is_none_or(|part| (1..=4).contains(&part.len()) && digits(part));
        let above_zero = text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
        if whole_is_plain && fraction_is_plain && above_zero {
            Ok(Self(text.to_owned()))
        } else {
            Err(DealError::Amount(cut(text)))
        }
    }
}

impl FromStr for FiatReference {
    type Err = DealError;

    fn from_str(text: &str) -> Result<Self, DealError> {
        let plain = (1..=MAX_REFERENCE).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if plain { Ok(Self(text.to_owned())) } else { Err(DealError::Reference(cut(text))) }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = DealError;

            fn try_from(text: String) -> Result<Self, DealError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )+};
}

as_text!(Currency, FiatAmount, FiatReference);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deal() -> Deal {
        let terms = serde_json::json!({
            "party_a": "fund", "party_b": "desk", "fiat_confirmer": "settlement", "expires": 100,
            "fiat": { "currency": "EUR", "amount": "1250000.00", "reference": "deal 17" },
        });
        serde_json::from_value(terms).unwrap()
    }

    fn people(list: &[(&str, &[&str])]) -> BTreeMap<Person, BTreeSet<Group>> {
        let person = |(name, groups): &(&str, &[&str])| {
            (name.parse().unwrap(), groups.iter().map(|group| group.parse().unwrap()).collect())
        };
        list.iter().map(person).collect()
    }

    #[test]
    fn it_takes_one_of_each() {
        let all: [(&str, &[&str]); 3] = [("ann", &["fund"]), ("bob", &["desk"]), ("cleo", &["settlement"])];
        assert!(deal().is_met_by(&people(&all)));
        for without in 0..3 {
            let some: Vec<_> = (0..3).filter(|at| *at != without).map(|at| all[at]).collect();
            assert!(!deal().is_met_by(&people(&some)), "{some:?}");
            assert_eq!(deal().missing(&people(&some)), 1);
        }
    }

    #[test]
    fn one_person_counts_once_and_no_party_confirms() {
        let both: [(&str, &[&str]); 2] = [("ann", &["fund", "desk"]), ("cleo", &["settlement"])];
        assert_eq!(deal().missing(&people(&both)), 1);
        let judge: [(&str, &[&str]); 3] =
            [("ann", &["fund", "settlement"]), ("abe", &["fund"]), ("bob", &["desk", "settlement"])];
        assert_eq!(deal().missing(&people(&judge)), 1, "each of the three has a side");
    }

    #[test]
    fn it_is_over_after_its_last_second() {
        assert!(!deal().is_over(100_999) && deal().is_over(101_000));
    }

    #[test]
    fn what_is_no_term_is_refused() {
        let with = |name: &str, value: serde_json::Value| {
            let mut terms = serde_json::to_value(deal()).unwrap();
            *terms.pointer_mut(name).unwrap() = value;
            serde_json::from_value::<Deal>(terms)
        };
        assert!(with("/party_a", "seller".into()).is_ok());
        for (name, value) in [
            ("/party_a", "desk".into()),
            ("/fiat_confirmer", "fund".into()),
            ("/party_b", "and".into()),
            ("/fiat/currency", "eur".into()),
            ("/fiat/currency", "EURO".into()),
            ("/fiat/reference", "".into()),
            ("/fiat/reference", "a\u{1b}[2Jb".into()),
            ("/fiat/reference", "x".repeat(141).into()),
            ("/expires", "100".into()),
            ("/release", "perhaps".into()),
        ] {
            let refused = with(name, value);
            assert!(refused.is_err(), "{name}: {refused:?}");
        }
        for amount in ["", "0", "0.00", "01", "1.", ".5", "1.00000", "-1", "1e6", "1,000", " 1", "1234567890123456789"]
        {
            assert!(with("/fiat/amount", amount.into()).is_err(), "{amount:?}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_is_read_as_it_is_written(text in "[0-9]{0,20}(\\.[0-9]{0,6})?") {
            if let Ok(amount) = text.parse::<FiatAmount>() {
                prop_assert_eq!(amount.to_string(), text);
            }
        }
    }
}
