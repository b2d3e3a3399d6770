//! The constraints C1 to C12: what is let through is [`TravelData`].

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::code::{AddressType, LegalNameType, NationalIdentifierType, NaturalNameType};
use super::{
    Address, BeneficiaryVasp, IntermediaryVasp, LegalPerson, LegalPersonName, NaturalPerson, NaturalPersonName,
    OriginatingVasp, Payload, Person, TransferPath,
};

/// How many of anything there may be where the standard sets no bound.
const MOST: usize = 50;

/// A payload that keeps the constraints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TravelData(Payload);

/// A constraint that a payload breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {rule}")]
pub struct Fault {
    /// The element, `originator.originatorPersons[0]`.
    pub place: String,
    /// What it breaks.
    pub rule: Rule,
}

/// What a payload can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// An element that must be there at least once isn't, or there are too many.
    #[error("there must be at least one, and at most {MOST}")]
    Count,
    /// C1 OriginatorInformationNaturalPerson.
    #[error(
        "C1: a natural person who pays has an address, a customer or national identification, or a date and place of birth"
    )]
    C1,
    /// C2 DateInPast.
    #[error("C2: the date of birth is in the past")]
    C2,
    /// C4 OriginatorInformationLegalPerson.
    #[error(
        "C4: a legal person who pays has an address of the type GEOG, a national identification or a customer number"
    )]
    C4,
    /// C5 LegalNamePresentLegalPerson.
    #[error("C5: one of a legal person's names is of the type LEGL")]
    C5,
    /// C6 LegalNamePresentNaturalPerson.
    #[error("C6: one of a natural person's names is of the type LEGL")]
    C6,
    /// C7 ValidNationalIdentifierLegalPerson.
    #[error("C7: a legal person's national identification is of the type RAID, MISC, LEIX or TXID")]
    C7,
    /// C8 ValidAddress.
    #[error(
        "C8: an address has an address line, or a street with the name or number of a building; at most seven lines"
    )]
    C8,
    /// C9 CompleteNationalIdentifierLegalPerson.
    #[error(
        "C9: a legal person's identification has no country of issue, and a registration authority unless it is an LEI"
    )]
    C9,
    /// C11 ValidLEI.
    #[error("C11: an LEI has 18 letters or digits and two check digits (ISO 17442)")]
    C11,
    /// C12 SequentialIntegrity.
    #[error("C12: the sequence of a transfer path begins with 0 and leaves nothing out")]
    C12,
}

impl TravelData {
    /// Checks a payload, as of a time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The first constraint that it breaks.
    pub fn new(payload: Payload, at: u64) -> Result<Self, Fault> {
        let check = Check { today: today(at) };
        check.payers(&payload.originator.originator_persons)?;
        check.persons("beneficiary.beneficiaryPersons", &payload.beneficiary.beneficiary_persons)?;
        for (place, accounts) in [
            ("originator.accountNumber", &payload.originator.account_number),
            ("beneficiary.accountNumber", &payload.beneficiary.account_number),
        ] {
            if accounts.len() > MOST {
                return Err(fault(place, Rule::Count));
            }
        }
        if let Some(OriginatingVasp { vasp }) = &payload.originating_vasp {
            check.person("originatingVASP", vasp)?;
        }
        if let Some(BeneficiaryVasp { vasp }) = &payload.beneficiary_vasp {
            check.person("beneficiaryVASP", vasp)?;
        }
        if let Some(TransferPath { transfer_path }) = &payload.transfer_path {
            check.path(transfer_path)?;
        }
        Ok(Self(payload))
    }

    /// What it says.
    pub const fn payload(&self) -> &Payload {
        &self.0
    }

    /// Its JSON: what is kept, and what its digest is of.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always have a JSON form")
    }
}

/// The day of a time in UTC. What is beyond any calendar is the end of it: every birth is in the past then.
fn today(at: u64) -> Date {
    let now = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    now.map_or(Date::MAX, |now| now.to_zoned(TimeZone::UTC).date())
}

fn fault(place: impl fmt::Display, rule: Rule) -> Fault {
    Fault { place: place.to_string(), rule }
}

/// The constraints, as of a day.
struct Check {
    today: Date,
}

impl Check {
    fn payers(&self, persons: &[Person]) -> Result<(), Fault> {
        let place = "originator.originatorPersons";
        self.persons(place, persons)?;
        for (at, person) in persons.iter().enumerate() {
            let known = match person {
                Person::NaturalPerson(natural) => {
                    let identified =
                        natural.national_identification.is_some() || natural.customer_identification.is_some();
                    let placed = !natural.geographic_address.is_empty() || natural.date_and_place_of_birth.is_some();
                    if identified || placed { Ok(()) } else { Err(Rule::C1) }
                }
                Person::LegalPerson(legal) => {
                    let placed = legal.geographic_address.iter().any(|place| place.address_type == AddressType::Geog);
                    let identified = legal.national_identification.is_some() || legal.customer_number.is_some();
                    if identified || placed { Ok(()) } else { Err(Rule::C4) }
                }
            };
            known.map_err(|rule| fault(format_args!("{place}[{at}]"), rule))?;
        }
        Ok(())
    }

    fn persons(&self, place: &str, persons: &[Person]) -> Result<(), Fault> {
        if !(1..=MOST).contains(&persons.len()) {
            return Err(fault(place, Rule::Count));
        }
        persons.iter().enumerate().try_for_each(|(at, person)| self.person(&format!("{place}[{at}]"), person))
    }

    fn person(&self, place: &str, person: &Person) -> Result<(), Fault> {
        let (addresses, rule) = match person {
            Person::NaturalPerson(natural) => (&natural.geographic_address, self.natural(natural)),
            Person::LegalPerson(legal) => (&legal.geographic_address, legal_person(legal)),
        };
        rule.map_err(|rule| fault(place, rule))?;
        if addresses.len() > MOST {
            return Err(fault(format_args!("{place}.geographicAddress"), Rule::Count));
        }
        let bad = addresses.iter().position(|address| !is_whole(address));
        bad.map_or(Ok(()), |at| Err(fault(format_args!("{place}.geographicAddress[{at}]"), Rule::C8)))
    }

    fn natural(&self, person: &NaturalPerson) -> Result<(), Rule> {
        let NaturalPersonName { name_identifier, local_name_identifier, phonetic_name_identifier } = &person.name;
        if [name_identifier, local_name_identifier, phonetic_name_identifier].iter().any(|names| names.len() > MOST) {
            return Err(Rule::Count);
        }
        if !name_identifier.iter().any(|name| name.name_identifier_type == NaturalNameType::Legl) {
            return Err(Rule::C6);
        }
        match &person.date_and_place_of_birth {
            Some(birth) if birth.date_of_birth.0 >= self.today => Err(Rule::C2),
            _ => Ok(()),
        }
    }

    fn path(&self, path: &[IntermediaryVasp]) -> Result<(), Fault> {
        let place = "transferPath.transferPath";
        if !(1..=MOST).contains(&path.len()) {
            return Err(fault(place, Rule::Count));
        }
        let mut sequence: Vec<u64> = path.iter().map(|one| one.sequence).collect();
        sequence.sort_unstable();
        if !(0..).zip(sequence).all(|(expected, found): (u64, u64)| expected == found) {
            return Err(fault(place, Rule::C12));
        }
        path.iter().enumerate().try_for_each(|(at, one)| self.person(&format!("{place}[{at}]"), &one.vasp))
    }
}

fn legal_person(person: &LegalPerson) -> Result<(), Rule> {
    let LegalPersonName { name_identifier, local_name_identifier, phonetic_name_identifier } = &person.name;
    if [name_identifier, local_name_identifier, phonetic_name_identifier].iter().any(|names| names.len() > MOST) {
        return Err(Rule::Count);
    }
    if !name_identifier.iter().any(|name| name.legal_person_name_identifier_type == LegalNameType::Legl) {
        return Err(Rule::C5);
    }
    let Some(identification) = &person.national_identification else { return Ok(()) };
    let kind = identification.national_identifier_type;
    if !kind.is_of_legal_persons() {
        return Err(Rule::C7);
    }
    let is_lei = kind == NationalIdentifierType::Leix;
    if identification.country_of_issue.is_some() || (identification.registration_authority.is_none() && !is_lei) {
        return Err(Rule::C9);
    }
    if is_lei && !is_an_lei(identification.national_identifier.as_str()) { Err(Rule::C11) } else { Ok(()) }
}

fn is_whole(address: &Address) -> bool {
    let building = address.building_name.is_some() || address.building_number.is_some();
    let street = address.street_name.is_some() && building;
    address.address_line.len() <= 7 && (street || !address.address_line.is_empty())
}

/// ISO 17442: 18 upper-case letters or digits and two check digits, which ISO 7064's MOD 97-10 makes 1.
fn is_an_lei(text: &str) -> bool {
    let plain = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let checked = text.bytes().rev().take(2).all(|byte| byte.is_ascii_digit());
    let remainder = text.chars().try_fold(0_u32, |sum, letter| {
        let value = letter.to_digit(36)?;
        let shift = if value < 10 { 10 } else { 100 };
        Some((sum * shift + value) % 97)
    });
    plain && checked && remainder == Some(1)
}
