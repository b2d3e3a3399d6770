//! The smallest parts: texts, countries, registers, days.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::code;

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
pub struct BirthDate(pub(super) Date);

/// A text that isn't what its element is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ElementError {
    what: String,
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
