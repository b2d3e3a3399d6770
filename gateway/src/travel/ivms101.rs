//! IVMS101, the data that the Travel Rule wants to go with a transfer: who pays, who is paid, and by which institutions.
//!
//! The model and its constraints C1 to C12 are those of the *interVASP Messaging Standard IVMS101, data model standard, issue 1*
//! (interVASP Joint Working Group, May 2020, <https://www.intervasp.org>). Names are spelled as there, unknown ones are refused.
//! Two things are looser than the standard: a registration authority is checked by its form, not against GLEIF's list (C10), and no
//! script is demanded of texts.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use self::code::{AddressType, LegalNameType, NationalIdentifierType, NaturalNameType, TransliterationMethod};

/// The codes that the standard lists.
pub mod code;

/// How many of anything there may be where the standard sets no bound.
const MOST: usize = 50;

/// What is handed in: the standard's payload, read but not checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Payload {
    /// Who pays.
    pub originator: Originator,
    /// Who is paid.
    pub beneficiary: Beneficiary,
    /// The institution of the one who pays.
    #[serde(default, rename = "originatingVASP", skip_serializing_if = "Option::is_none")]
    pub originating_vasp: Option<OriginatingVasp>,
    /// The institution of the one who is paid.
    #[serde(default, rename = "beneficiaryVASP", skip_serializing_if = "Option::is_none")]
    pub beneficiary_vasp: Option<BeneficiaryVasp>,
    /// The institutions between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_path: Option<TransferPath>,
    /// How names were brought into Latin letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_metadata: Option<PayloadMetadata>,
}

/// A payload that keeps the constraints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TravelData(Payload);

/// Who pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Originator {
    /// The people or companies; at least one.
    pub originator_persons: Vec<Person>,
    /// The accounts that it is paid from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub account_number: Vec<Text<100>>,
}

/// Who is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Beneficiary {
    /// The people or companies; at least one.
    pub beneficiary_persons: Vec<Person>,
    /// The accounts that it is paid to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub account_number: Vec<Text<100>>,
}

/// The institution of the one who pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginatingVasp {
    /// The institution.
    #[serde(rename = "originatingVASP")]
    pub vasp: Person,
}

/// The institution of the one who is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeneficiaryVasp {
    /// The institution.
    #[serde(rename = "beneficiaryVASP")]
    pub vasp: Person,
}

/// The institutions between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TransferPath {
    /// In the order of their sequence (C12).
    pub transfer_path: Vec<IntermediaryVasp>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntermediaryVasp {
    /// The institution.
    #[serde(rename = "intermediaryVASP")]
    pub vasp: Person,
    /// Its place, from 0.
    pub sequence: u64,
}

/// How names were brought into Latin letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PayloadMetadata {
    /// By which methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transliteration_method: Vec<TransliterationMethod>,
}

/// A person of either kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Person {
    /// A human being.
    NaturalPerson(NaturalPerson),
    /// A company, a foundation, a partnership.
    LegalPerson(LegalPerson),
}

/// A human being.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NaturalPerson {
    /// The names.
    pub name: NaturalPersonName,
    /// The addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub geographic_address: Vec<Address>,
    /// A number by which the state knows the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub national_identification: Option<NationalIdentification>,
    /// A number by which the institution does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_identification: Option<Text<50>>,
    /// When and where the person was born.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_and_place_of_birth: Option<DateAndPlaceOfBirth>,
    /// Where the person lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_of_residence: Option<CountryCode>,
}

/// The names of a human being.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NaturalPersonName {
    /// In Latin letters; one of them the legal name (C6).
    pub name_identifier: Vec<NaturalPersonNameId>,
    /// In the letters of the country.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_name_identifier: Vec<NaturalPersonNameId>,
    /// As they sound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phonetic_name_identifier: Vec<NaturalPersonNameId>,
}

/// One of the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NaturalPersonNameId {
    /// The family name, or the whole name where it can't be told apart.
    pub primary_identifier: Text<100>,
    /// The given names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_identifier: Option<Text<100>>,
    /// What kind of name it is.
    pub name_identifier_type: NaturalNameType,
}

/// When and where somebody was born.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DateAndPlaceOfBirth {
    /// `YYYY-MM-DD`, in the past (C2).
    pub date_of_birth: BirthDate,
    /// The town, province or country.
    pub place_of_birth: Text<70>,
}

/// A company, a foundation, a partnership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LegalPerson {
    /// The names.
    pub name: LegalPersonName,
    /// The addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub geographic_address: Vec<Address>,
    /// A number by which the institution knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_number: Option<Text<50>>,
    /// A number by which a register does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub national_identification: Option<NationalIdentification>,
    /// Where it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_of_registration: Option<CountryCode>,
}

/// The names of a company.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LegalPersonName {
    /// In Latin letters; one of them the legal name (C5).
    pub name_identifier: Vec<LegalPersonNameId>,
    /// In the letters of the country.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_name_identifier: Vec<LegalPersonNameId>,
    /// As they sound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phonetic_name_identifier: Vec<LegalPersonNameId>,
}

/// One of the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LegalPersonNameId {
    /// The name.
    pub legal_person_name: Text<100>,
    /// What kind of name it is.
    pub legal_person_name_identifier_type: LegalNameType,
}

/// A postal address (C8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Address {
    /// What kind of address it is.
    pub address_type: AddressType,
    /// A division of an organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<Text<50>>,
    /// A part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_department: Option<Text<70>>,
    /// The street.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub street_name: Option<Text<70>>,
    /// The number in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building_number: Option<Text<16>>,
    /// The house's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building_name: Option<Text<35>>,
    /// The floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Text<70>>,
    /// The box at the post office.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_box: Option<Text<16>>,
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Text<70>>,
    /// The postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_code: Option<Text<16>>,
    /// The town.
    pub town_name: Text<35>,
    /// A part of the town.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub town_location_name: Option<Text<35>>,
    /// The district.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub district_name: Option<Text<35>>,
    /// The state, region or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_sub_division: Option<Text<35>>,
    /// The address in lines, at most seven.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_line: Vec<Text<70>>,
    /// The country.
    pub country: CountryCode,
}

/// A number by which a state or a register knows somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NationalIdentification {
    /// The number.
    pub national_identifier: Text<35>,
    /// What kind of number it is.
    pub national_identifier_type: NationalIdentifierType,
    /// Who issued it; of natural persons only (C9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_of_issue: Option<CountryCode>,
    /// The register, by GLEIF's code (C10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_authority: Option<RegistrationAuthority>,
}

/// A text of 1 to `MAX` characters without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Text<const MAX: usize>(String);

/// A country by ISO 3166-1's two letters, or `XX` for none (C3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CountryCode(String);

/// A register by GLEIF's code, `RA` and six digits (C10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RegistrationAuthority(String);

/// A day, `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BirthDate(Date);

/// A text that isn't what its element is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ElementError {
    what: String,
}

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
    if is_lei && !is_an_lei(&identification.national_identifier.0) { Err(Rule::C11) } else { Ok(()) }
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

impl<const MAX: usize> Text<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = ElementError;

    fn try_from(text: String) -> Result<Self, ElementError> {
        let plain = !text.trim().is_empty() && !text.chars().any(char::is_control);
        if plain && text.chars().count() <= MAX {
            Ok(Self(text))
        } else {
            Err(ElementError { what: format!("a text has 1 to {MAX} printable characters here") })
        }
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> Self {
        text.0
    }
}

impl TryFrom<String> for CountryCode {
    type Error = ElementError;

    fn try_from(text: String) -> Result<Self, ElementError> {
        if code::is_country(&text) {
            Ok(Self(text))
        } else {
            let what = format!("{:?} is no country of ISO 3166-1", text.chars().take(10).collect::<String>());
            Err(ElementError { what })
        }
    }
}

impl From<CountryCode> for String {
    fn from(code: CountryCode) -> Self {
        code.0
    }
}

impl TryFrom<String> for RegistrationAuthority {
    type Error = ElementError;

    fn try_from(text: String) -> Result<Self, ElementError> {
        let digits = text.strip_prefix("RA").unwrap_or_default();
        if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text))
        } else {
            Err(ElementError { what: "a registration authority is RA and six digits (C10)".to_owned() })
        }
    }
}

impl From<RegistrationAuthority> for String {
    fn from(authority: RegistrationAuthority) -> Self {
        authority.0
    }
}

impl TryFrom<String> for BirthDate {
    type Error = ElementError;

    fn try_from(text: String) -> Result<Self, ElementError> {
        let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
        date.map(Self).ok_or_else(|| ElementError { what: "a date is written YYYY-MM-DD".to_owned() })
    }
}

impl From<BirthDate> for String {
    fn from(date: BirthDate) -> Self {
        date.0.to_string()
    }
}

#[cfg(test)]
mod tests;
