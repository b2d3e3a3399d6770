//! Durable nonces: transactions that are valid until their nonce account is advanced.
//!
//! The state of a nonce account is 80 bytes: version (u32, 1 = current), state (u32, 1 = initialized), authority (32
//! bytes), durable nonce (32 bytes), lamports per signature (u64); `solana_nonce::versions::Versions` in bincode.

use sha2::{Digest, Sha256};
use solana_sdk::account::{AccountSharedData, ReadableAccount, WritableAccount};
use solana_sdk::hash::Hash;
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;

use super::genesis::SYSTEM;

const LENGTH: usize = 80;
const CURRENT_INITIALIZED: [u8; 8] = [1, 0, 0, 0, 1, 0, 0, 0];
const AUTHORITY: std::ops::Range<usize> = 8..40;
const NONCE: std::ops::Range<usize> = 40..72;
const FEE: std::ops::Range<usize> = 72..80;

/// `SystemInstruction::AdvanceNonceAccount` in bincode.
const ADVANCE: [u8; 4] = [4, 0, 0, 0];

/// The value that a nonce account gets when it is advanced while `blockhash` is the latest:
/// `solana_nonce::state::DurableNonce`.
pub(super) fn next_value(blockhash: &Hash) -> Hash {
    let digest = Sha256::new().chain_update(b"DURABLE_NONCE").chain_update(blockhash.as_ref()).finalize();
    Hash::new_from_array(digest.into())
}

/// The nonce account that `message` starts by advancing.
pub(super) fn account_of(message: &VersionedMessage) -> Option<Pubkey> {
    let keys = message.static_account_keys();
    let first = message.instructions().first()?;
    let program = keys.get(usize::from(first.program_id_index))?;
    if *program != SYSTEM || first.data.get(..ADVANCE.len()) != Some(&ADVANCE[..]) {
        return None;
    }
    let index = usize::from(*first.accounts.first()?);
    let writable = message.is_maybe_writable_with_reserved_addresses(index, NOTHING_RESERVED);
    keys.get(index).filter(|_| writable).copied()
}

/// Whether `account` is the nonce account by which `message` stays valid, and its authority signs the advance.
pub(super) fn covers(account: &AccountSharedData, message: &VersionedMessage) -> bool {
    let Some(value) = value(account) else { return false };
    let Some(authority) = account.data().get(AUTHORITY) else { return false };
    let keys = message.static_account_keys();
    let signed = message.instructions().first().is_some_and(|advance| {
        advance
            .accounts
            .iter()
            .map(|index| usize::from(*index))
            .any(|index| message.is_signer(index) && keys.get(index).is_some_and(|key| key.as_ref() == authority))
    });
    signed && value == *message.recent_blockhash()
}

/// The value that an initialized nonce account holds.
pub(super) fn value(account: &AccountSharedData) -> Option<Hash> {
    let data = account.data();
    if *account.owner() != SYSTEM || data.len() != LENGTH || data.get(..8) != Some(&CURRENT_INITIALIZED[..]) {
        return None;
    }
    let value = data.get(NONCE)?.try_into().ok()?;
    Some(Hash::new_from_array(value))
}

/// What an initialized nonce account holds.
pub(super) struct Fields {
    /// Who may advance it.
    pub(super) authority: Pubkey,
    /// The durable nonce.
    pub(super) value: Hash,
    /// The fee rate when it was last advanced.
    pub(super) lamports_per_signature: u64,
}

/// All fields of an initialized nonce account.
pub(super) fn fields(account: &AccountSharedData) -> Option<Fields> {
    let value = value(account)?;
    let data = account.data();
    Some(Fields {
        authority: Pubkey::new_from_array(data.get(AUTHORITY)?.try_into().ok()?),
        value,
        lamports_per_signature: u64::from_le_bytes(data.get(FEE)?.try_into().ok()?),
    })
}

/// Writes `next` into an initialized nonce account.
pub(super) fn advance(account: &mut AccountSharedData, next: &Hash) {
    if let Some(place) = account.data_as_mut_slice().get_mut(NONCE) {
        place.copy_from_slice(next.as_ref());
    }
}

/// No reserved addresses: a nonce account is none of them.
const NOTHING_RESERVED: Option<&std::collections::HashSet<Pubkey>> = None;
