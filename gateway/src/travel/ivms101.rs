//! IVMS101, the data that the Travel Rule wants to go with a transfer: who pays, who is paid, and by which institutions.
//!
//! The model and its constraints C1 to C12 are those of the *interVASP Messaging Standard IVMS101, data model standard, issue 1*
//! (interVASP Joint Working Group, May 2020, <https://www.intervasp.org>). Names are spelled as there, unknown ones are refused.
//! Two things are looser than the standard: a registration authority is checked by its form, not against GLEIF's list (C10), and no
//! script is demanded of texts.
//!
//! - [`check`]: the constraints; [`element`], [`code`]: texts, dates and codes.

use serde::{Deserialize, Serialize};

use self::code::{AddressType, LegalNameType, NationalIdentifierType, NaturalNameType, TransliterationMethod};
use self::element::{BirthDate, CountryCode, RegistrationAuthority, Text};

pub mod check;
pub mod code;
pub mod element;

pub use check::{Fault, Rule, TravelData};

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

#[cfg(test)]
mod tests;
