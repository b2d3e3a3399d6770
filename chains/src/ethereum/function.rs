//! Functions of contracts by their signature, `transfer(address,uint256)`, and the arguments of a call to one.

use std::fmt;
use std::str::FromStr;

use alloy::dyn_abi::{DynSolType, DynSolValue, JsonAbiExt, Specifier};
use alloy::json_abi::Function as Abi;
use alloy::primitives::{Address, U256};

use crate::amount::Amount;
use crate::chain::DecodeError;

/// The longest signature that is read, in bytes.
const MAX_LEN: usize = 1024;

/// A function of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    signature: String,
    abi: Abi,
}

/// A string that is no function's signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no function's signature: {reason}; write transfer(address,uint256)")]
pub struct FunctionError {
    text: String,
    reason: String,
}

/// Where an argument is: its place, and inside of a tuple or array the places on the way: `0`, `1.3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Vec<usize>);

/// A string that is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place of an argument; write 0 for the first, 1.3 for the fourth member of the second")]
pub struct PlaceError(String);

/// An argument's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentType(DynSolType);

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument(DynSolValue);

impl Function {
    /// The four bytes that name it.
    pub fn selector(&self) -> [u8; 4] {
        self.abi.selector().0
    }

    /// The type of what is at a place; `None` where the function has no such place. Inside of an array every place has the
    /// array's type.
    pub fn type_at(&self, place: &Place) -> Option<ArgumentType> {
        let (first, rest) = place.0.split_first()?;
        let mut found = self.abi.inputs.get(*first)?.resolve().ok()?;
        for step in rest {
            found = match found {
                DynSolType::Tuple(members) => members.into_iter().nth(*step)?,
                DynSolType::Array(inner) => *inner,
                DynSolType::FixedArray(inner, length) if *step < length => *inner,
                _ => return None,
            };
        }
        Some(ArgumentType(found))
    }

    /// The arguments of a call to it, without the selector.
    ///
    /// # Errors
    /// [`DecodeError::Undecodable`] where they are not the one canonical encoding of the function's types.
    pub fn arguments(&self, bytes: &[u8]) -> Result<Vec<Argument>, DecodeError> {
        let wrong = || DecodeError::Undecodable(format!("arguments that are not those of {self}"));
        let values = self.abi.abi_decode_input(bytes).map_err(|_| wrong())?;
        let canonical = self.abi.abi_encode_input_raw(&values).map_err(|_| wrong())?;
        if canonical == bytes { Ok(values.into_iter().map(Argument).collect()) } else { Err(wrong()) }
    }
}

impl ArgumentType {
    /// Reads a value of the type as people write it: `0x…` for an address or bytes, decimal for a number.
    pub fn read(&self, text: &str) -> Option<Argument> {
        self.0.coerce_str(text).ok().map(Argument)
    }

    /// Whether it is an unsigned integer.
    pub const fn is_uint(&self) -> bool {
        matches!(self.0, DynSolType::Uint(_))
    }

    /// Whether it is an address.
    pub const fn is_address(&self) -> bool {
        matches!(self.0, DynSolType::Address)
    }
}

impl Argument {
    /// What is inside of it at the rest of a place.
    fn member(&self, steps: &[usize]) -> Option<Self> {
        let mut found = &self.0;
        for step in steps {
            found = match found {
                DynSolValue::Tuple(members) | DynSolValue::Array(members) | DynSolValue::FixedArray(members) => {
                    members.get(*step)?
                }
                _ => return None,
            };
        }
        Some(Self(found.clone()))
    }

    /// The argument at a place among `arguments`.
    pub fn at(arguments: &[Self], place: &Place) -> Option<Self> {
        let (first, rest) = place.0.split_first()?;
        arguments.get(*first)?.member(rest)
    }

    /// An unsigned integer's value.
    pub fn as_uint(&self) -> Option<Amount> {
        match &self.0 {
            DynSolValue::Uint(value, _) => Some(Amount::from_base_units(*value)),
            _ => None,
        }
    }

    /// An address.
    pub fn as_address(&self) -> Option<Address> {
        match &self.0 {
            DynSolValue::Address(address) => Some(*address),
            _ => None,
        }
    }

    /// An unsigned integer.
    pub fn uint(value: Amount) -> Self {
        let value: U256 = value.base_units();
        Self(DynSolValue::Uint(value, 256))
    }
}

impl FromStr for Function {
    type Err = FunctionError;

    fn from_str(text: &str) -> Result<Self, FunctionError> {
        let wrong = |reason: String| FunctionError { text: text.chars().take(200).collect(), reason };
        if text.len() > MAX_LEN {
            return Err(wrong(format!("it is longer than {MAX_LEN} bytes")));
        }
        let abi = Abi::parse(text).map_err(|e| wrong(e.to_string()))?;
        for input in &abi.inputs {
            input.resolve().map_err(|e| wrong(e.to_string()))?;
        }
        let signature = abi.signature();
        Ok(Self { signature, abi })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.signature)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let wrong = || PlaceError(text.chars().take(50).collect());
        let plain = |step: &str| (1..=4).contains(&step.len()) && step.bytes().all(|byte| byte.is_ascii_digit());
        let step = |step: &str| step.parse().ok().filter(|_| plain(step)).ok_or_else(wrong);
        text.split('.').map(step).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&steps.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(text: &str) -> Function {
        text.parse().unwrap()
    }

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    /// The example calls of Solidity's ABI specification.
    #[test]
    fn reads_the_examples_of_the_specification() {
        let baz = function("baz(uint32,bool)");
        assert_eq!(baz.selector(), [0xcd, 0xcd, 0x77, 0xc0]);
        let mut bytes = [0; 64];
        bytes[31] = 69;
        bytes[63] = 1;
        let arguments = baz.arguments(&bytes).unwrap();
        assert_eq!(Argument::at(&arguments, &place("0")).unwrap().as_uint(), Some(Amount::from_wei(69)));
        assert_eq!(Argument::at(&arguments, &place("1")), baz.type_at(&place("1")).unwrap().read("true"));
        assert_eq!(Argument::at(&arguments, &place("2")), None);
        assert_eq!(function("sam(bytes,bool,uint256[])").selector(), [0xa5, 0x64, 0x3b, 0xf2]);
    }

    #[test]
    fn only_the_canonical_encoding_is_read() {
        let baz = function("baz(uint32,bool)");
        let mut dirty = [0; 64];
        dirty[0] = 1;
        assert!(baz.arguments(&dirty).is_err(), "dirt above the number");
        assert!(baz.arguments(&[0; 63]).is_err());
        assert!(baz.arguments(&[0; 96]).is_err(), "a tail");
        let mut wrong = [0; 64];
        wrong[63] = 2;
        assert!(baz.arguments(&wrong).is_err(), "no boolean");
    }

    #[test]
    fn members_of_tuples_have_places() {
        let swap = function("swap((address,uint24,(address,uint256)[]),uint256)");
        assert!(swap.type_at(&place("0.0")).unwrap().is_address());
        assert!(swap.type_at(&place("0.2.7.1")).unwrap().is_uint());
        for none in ["2", "0.3", "0.1.0", "1.0"] {
            assert_eq!(swap.type_at(&place(none)), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_signature_or_place_is_refused() {
        for text in ["", "transfer", "transfer(", "transfer(adress)", "transfer(address,,uint256)", "0(uint256)"] {
            assert!(text.parse::<Function>().is_err(), "{text:?}");
        }
        for text in ["", ".", "0.", "a", "-1", "1.x", "99999"] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
        assert_eq!(function("function transfer(address to, uint amount) returns (bool)").to_string(), "transfer(address,uint256)");
    }
}
