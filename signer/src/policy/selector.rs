//! Which function of a contract is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The four bytes that name a contract's function: the beginning of the Keccak-256 of its signature, `0xa9059cbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Selector(pub(super) [u8; 4]);

/// A string that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no function selector; write 0x and 8 hexadecimal digits")]
pub struct SelectorError(String);

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut bytes = [0; 4];
        let digits = text.strip_prefix("0x").unwrap_or_default();
        hex::decode_to_slice(digits, &mut bytes)
            .map(|()| Self(bytes))
            .map_err(|_| SelectorError(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}
