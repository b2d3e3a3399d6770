//! EVM addresses, checksummed by EIP-55.

use alloy::primitives::{Address, hex, keccak256};
use bitcoin::CompressedPublicKey;

/// Why a string is no EVM address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not `0x` and 40 hexadecimal digits.
    #[error("write 0x and 40 hexadecimal digits")]
    Form,
    /// Mixed case that is not the EIP-55 checksum.
    #[error("the EIP-55 checksum is wrong")]
    Checksum,
}

/// Reads `0x` and 40 hex digits. All-lower and all-upper digits carry no checksum and are taken as they are; mixed case
/// must be the EIP-55 checksum.
///
/// # Errors
/// Where the form or the checksum is wrong.
pub fn parse(text: &str) -> Result<Address, ParseError> {
    let digits = text.strip_prefix("0x").ok_or(ParseError::Form)?;
    if digits.len() != 40 {
        return Err(ParseError::Form);
    }
    let bytes: [u8; 20] = hex::decode(digits).ok().and_then(|b| b.try_into().ok()).ok_or(ParseError::Form)?;
    let address = Address::from(bytes);
    let mixed = digits.bytes().any(|b| b.is_ascii_lowercase()) && digits.bytes().any(|b| b.is_ascii_uppercase());
    if mixed && address.to_checksum(None) != text {
        return Err(ParseError::Checksum);
    }
    Ok(address)
}

/// The account of a public key: the last 20 bytes of the Keccak-256 of its uncompressed point.
pub fn of_public_key(key: &CompressedPublicKey) -> Address {
    let point = key.0.serialize_uncompressed();
    let [_tag, xy @ ..] = point;
    let digest = keccak256(xy);
    Address::from_word(digest)
}
