//! Functions of contracts by their signature, `transfer(address,uint256)`, and the arguments of a call to one.

use std::fmt;
use std::str::FromStr;

use alloy::dyn_abi::{DynSolType, DynSolValue, JsonAbiExt, Specifier};
use alloy::json_abi::{Function as Abi, JsonAbi};
use alloy::primitives::{Address, B256, I256, U256};

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
    /// The function of this name in a contract's ABI as JSON (Solidity's ABI specification), by itself or in an artifact that has it
    /// under `abi`.
    ///
    /// # Errors
    /// Where the text is no ABI, has no such function, or several.
    pub fn of_abi(abi: &str, name: &str) -> Result<Self, FunctionError> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum File {
            Abi(JsonAbi),
            Artifact { abi: JsonAbi },
        }
        let wrong = |reason: String| FunctionError { text: name.chars().take(200).collect(), reason };
        let file: File = serde_json::from_str(abi).map_err(|_| wrong("the file is no ABI".to_owned()))?;
        let (File::Abi(abi) | File::Artifact { abi }) = file;
        match abi.function(name).map(Vec::as_slice) {
            Some([one]) => one.signature().parse(),
            Some([_, _, ..]) => Err(wrong("the ABI has several of that name".to_owned())),
            Some([]) | None => Err(wrong("the ABI has none of that name".to_owned())),
        }
    }

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
        let clean = canonical == bytes && values.iter().all(is_clean);
        if clean { Ok(values.into_iter().map(Argument).collect()) } else { Err(wrong()) }
    }

    /// The arguments of some call to it, without the selector: these values at their places, and what is zero or empty at
    /// all others. `None` where a value isn't of its place's type, or the type has no zero.
    pub fn example(&self, values: &[(Place, Argument)]) -> Option<Vec<u8>> {
        let kinds = self.abi.inputs.iter().map(|input| input.resolve().ok()).collect::<Option<Vec<_>>>()?;
        let mut arguments = kinds.iter().map(zero).collect::<Option<Vec<_>>>()?;
        for (place, value) in values {
            let (first, rest) = place.0.split_first()?;
            put(arguments.get_mut(*first)?, kinds.get(*first)?, rest, value)?;
        }
        let bytes = self.abi.abi_encode_input_raw(&arguments).ok()?;
        let read = self.arguments(&bytes).ok()?;
        values.iter().all(|(place, value)| Argument::at(&read, place).as_ref() == Some(value)).then_some(bytes)
    }
}

/// Whether nothing is in the bits that a value's type doesn't have: a decoder keeps them, a contract may not.
fn is_clean(value: &DynSolValue) -> bool {
    match value {
        DynSolValue::Uint(number, bits) => number.bit_len() <= *bits,
        DynSolValue::Int(number, bits) => usize::try_from(number.bits()).is_ok_and(|has| has <= *bits),
        DynSolValue::FixedBytes(word, size) => word.iter().skip(*size).all(|byte| *byte == 0),
        DynSolValue::Tuple(members) | DynSolValue::Array(members) | DynSolValue::FixedArray(members) => {
            members.iter().all(is_clean)
        }
        _ => true,
    }
}

/// A type's zero, or what is empty of it.
fn zero(kind: &DynSolType) -> Option<DynSolValue> {
    let zeros = |kinds: &[DynSolType]| kinds.iter().map(zero).collect::<Option<Vec<_>>>();
    match kind {
        DynSolType::Array(_) => Some(DynSolValue::Array(Vec::new())),
        DynSolType::FixedArray(inner, length) => zero(inner).map(|inner| DynSolValue::FixedArray(vec![inner; *length])),
        DynSolType::Tuple(members) => zeros(members).map(DynSolValue::Tuple),
        plain => nth(plain, 0),
    }
}

/// One of a plain type's values, another for each number as long as there are others.
fn nth(kind: &DynSolType, number: u16) -> Option<DynSolValue> {
    let value = U256::from(number);
    let [high, low] = number.to_be_bytes();
    match kind {
        DynSolType::Bool => (number < 2).then_some(DynSolValue::Bool(number == 1)),
        // The highest bit of the smallest signed type is its sign.
        DynSolType::Int(bits) => (*bits > 16 || number < 128).then(|| DynSolValue::Int(I256::from_raw(value), *bits)),
        DynSolType::Uint(bits) => (*bits >= 16 || high == 0).then_some(DynSolValue::Uint(value, *bits)),
        DynSolType::FixedBytes(size) => {
            let mut word = B256::ZERO;
            word.0.iter_mut().zip([low, high]).for_each(|(to, from)| *to = from);
            (*size > 1 || high == 0).then_some(DynSolValue::FixedBytes(word, *size))
        }
        DynSolType::Address => Some(DynSolValue::Address(Address::from_word(value.into()))),
        DynSolType::Bytes => Some(DynSolValue::Bytes(if number == 0 { Vec::new() } else { vec![high, low] })),
        DynSolType::String => Some(DynSolValue::String(if number == 0 { String::new() } else { number.to_string() })),
        _ => None,
    }
}

/// Puts a value where the steps lead. A list is made long enough for it.
fn put(at: &mut DynSolValue, kind: &DynSolType, steps: &[usize], value: &Argument) -> Option<()> {
    let Some((step, rest)) = steps.split_first() else {
        *at = value.0.clone();
        return Some(());
    };
    match (at, kind) {
        (DynSolValue::Tuple(members), DynSolType::Tuple(kinds)) => {
            put(members.get_mut(*step)?, kinds.get(*step)?, rest, value)
        }
        (DynSolValue::FixedArray(members), DynSolType::FixedArray(inner, _)) => {
            put(members.get_mut(*step)?, inner, rest, value)
        }
        (DynSolValue::Array(members), DynSolType::Array(inner)) => {
            while members.len() <= *step {
                members.push(zero(inner)?);
            }
            put(members.get_mut(*step)?, inner, rest, value)
        }
        _ => None,
    }
}

impl ArgumentType {
    /// A value of the type that is none of these. `None` where they are all, and of tuples and lists.
    pub fn other(&self, than: &[Argument]) -> Option<Argument> {
        (0..=u16::MAX).map_while(|number| nth(&self.0, number)).map(Argument).find(|value| !than.contains(value))
    }

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

    /// Its encoding by the ABI, as the only value. Equal arguments have equal ones.
    pub fn encoded(&self) -> Vec<u8> {
        self.0.abi_encode()
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
    fn an_example_has_the_values_it_is_asked_for() {
        let swap = function("swap((address,uint24,bytes)[],uint256[2],string,bool)");
        let kind = |at: &str| swap.type_at(&place(at)).unwrap();
        let values: Vec<_> = [("0.1.1", "500"), ("1.1", "7"), ("2", "text"), ("3", "true")]
            .into_iter()
            .map(|(at, text)| (place(at), kind(at).read(text).unwrap()))
            .collect();
        let read = swap.arguments(&swap.example(&values).unwrap()).unwrap();
        for (at, value) in &values {
            assert_eq!(Argument::at(&read, at).as_ref(), Some(value));
        }
        assert_eq!(swap.example(&[]).map(|bytes| swap.arguments(&bytes).is_ok()), Some(true));
        assert_eq!(swap.example(&[(place("3"), kind("2").read("text").unwrap())]), None, "text for a bool");
        assert_eq!(swap.example(&[(place("1.2"), kind("1.1").read("7").unwrap())]), None, "no third place");
    }

    #[test]
    fn there_is_another_value_until_all_are_named() {
        let all = function("f(bool,uint8,int256,bytes1,address,string,bytes,uint8[])");
        for (at, most) in [("0", 2), ("1", 256), ("2", 300), ("3", 256), ("4", 300), ("5", 300), ("6", 300), ("7", 0)] {
            let kind = all.type_at(&place(at)).unwrap();
            let mut named = Vec::new();
            while let Some(other) = kind.other(&named).filter(|_| named.len() < 300) {
                assert!(all.example(&[(place(at), other.clone())]).is_some(), "{at} {other:?}");
                named.push(other);
            }
            assert_eq!(named.len(), most, "{at}");
        }
    }

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
        let bar = function("bar(bytes3[2],int8)");
        let word = |first: u8, last: u8| [&[first][..], &[0; 30], &[last]].concat();
        assert!(bar.arguments(&[word(1, 0), word(2, 0), [0xff; 32].to_vec()].concat()).is_ok());
        assert!(bar.arguments(&[word(1, 0), word(2, 1), word(0, 0)].concat()).is_err(), "dirt behind the bytes");
        assert!(bar.arguments(&[word(1, 0), word(2, 0), word(0, 0x80)].concat()).is_err(), "dirt above the sign");
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
        assert_eq!(
            function("function transfer(address to, uint amount) returns (bool)").to_string(),
            "transfer(address,uint256)"
        );
    }
}
