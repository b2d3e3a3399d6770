//! The codes that IVMS101 lists (issue 1, section 7), and the countries of ISO 3166-1.

use serde::{Deserialize, Serialize};

/// What kind of name a natural person's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NaturalNameType {
    /// Another name than the legal one.
    Alia,
    /// The name at birth.
    Birt,
    /// The name before a marriage.
    Maid,
    /// The name in an official document.
    Legl,
    /// Any other.
    Misc,
}

/// What kind of name a legal person's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LegalNameType {
    /// The name in the register.
    Legl,
    /// A short one.
    Shrt,
    /// The one it trades under.
    Trad,
}

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AddressType {
    /// A home.
    Home,
    /// A place of business.
    Bizz,
    /// Where it is, of whatever kind.
    Geog,
}

/// What kind of number a state or a register knows somebody by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NationalIdentifierType {
    /// Of an alien's registration.
    Arnu,
    /// Of a passport.
    Ccpt,
    /// Of a registration authority.
    Raid,
    /// Of a driver's licence.
    Drlc,
    /// Of a foreign investor.
    Fiin,
    /// Of a tax payer.
    Txid,
    /// Of a social security.
    Socs,
    /// Of an identity card.
    Idcd,
    /// An LEI (ISO 17442).
    Leix,
    /// Any other.
    Misc,
}

impl NationalIdentifierType {
    /// Whether legal persons have such numbers (C7).
    pub const fn is_of_legal_persons(self) -> bool {
        matches!(self, Self::Raid | Self::Misc | Self::Leix | Self::Txid)
    }
}

/// How a script was brought into Latin letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransliterationMethod {
    /// Arabic, ISO 233-2.
    Arab,
    /// Aramaic or Persian, ISO 233-3.
    Aran,
    /// Armenian, ISO 9985.
    Armn,
    /// Cyrillic, ISO 9.
    Cyrl,
    /// Devanagari and related scripts, ISO 15919.
    Deva,
    /// Georgian, ISO 9984.
    Geor,
    /// Greek, ISO 843.
    Grek,
    /// Han, ISO 7098.
    Hani,
    /// Hebrew, ISO 259-2.
    Hebr,
    /// Kana, ISO 3602.
    Kana,
    /// Korean, the Revised Romanization.
    Kore,
    /// Thai, ISO 11940-2.
    Thai,
    /// Any other.
    Othr,
}

/// ISO 3166-1's assigned alpha-2 codes, in their order.
const COUNTRIES: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO \
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE \
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO \
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW \
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM \
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// Whether it is a country's code, or `XX`, which stands for none (C3).
pub fn is_country(code: &str) -> bool {
    code == "XX" || COUNTRIES.split_ascii_whitespace().any(|country| country == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_249_countries_in_order() {
        let all: Vec<_> = COUNTRIES.split_ascii_whitespace().collect();
        assert_eq!(all.len(), 249);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(is_country("CH") && is_country("XX"));
        assert!(!is_country("ch") && !is_country("UK") && !is_country("") && !is_country("CH DE"));
    }
}
