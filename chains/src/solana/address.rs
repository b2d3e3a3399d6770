//! Solana addresses: 32 bytes in base58. They carry neither a checksum nor a network.

use std::str::FromStr;

use solana_sdk::pubkey::Pubkey;

use crate::account::{Account, PublicKey};
use crate::network::{Cluster, Network};

/// Why a string is no Solana address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write 32 bytes in base58")]
pub struct ParseError;

/// Reads a base58 string of 32 bytes.
///
/// # Errors
/// Where it is none.
pub fn parse(text: &str) -> Result<Pubkey, ParseError> {
    Pubkey::from_str(text).map_err(|_| ParseError)
}

/// The account's own address, where it is one of `cluster`.
pub(super) fn of_account(account: &Account, cluster: Cluster) -> Option<Pubkey> {
    match (account.network(), account.public_key()) {
        (Network::Solana(own), PublicKey::Ed25519(key)) if own == cluster => Some(Pubkey::new_from_array(*key)),
        _ => None,
    }
}
