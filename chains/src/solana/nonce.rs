//! Durable nonces: what keeps a message valid until it, or another under the same value, is included.
//!
//! A wallet's nonce accounts derive from its own address, so that who reads a message can tell them without asking anybody.
//! A message under one starts by advancing it and has the account's value where others have a blockhash. The cluster advances
//! the account with whatever it includes under its value, success or not, so of all messages under one value at most one is
//! ever included.
//!
//! That holds of nonce values only. A message that starts by advancing a nonce but has a *blockhash* is valid under the
//! blockhash, and two of them can both be included. So the value must show that it is one: it is
//! `sha256("DURABLE_NONCE" ‖ blockhash)` of the blockhash that was the latest when the account was advanced, a domain of its own,
//! and a message under a nonce goes with that blockhash
//! (<https://docs.anza.xyz/implemented-proposals/durable-tx-nonces>, `solana_nonce::state::DurableNonce`).

use solana_nonce::state::{DurableNonce, State};
#[cfg(feature = "client")]
use solana_nonce::versions::Versions;
use solana_sdk::hash::Hash;
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;

/// How many durable nonce accounts a wallet may have: their indices are 0 to 7.
pub const NONCE_ACCOUNTS: u8 = 8;

/// The length of a nonce account, in bytes.
pub(super) const ACCOUNT_LEN: usize = State::size();

/// How long a message can be included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// As long as its blockhash is recent.
    Blockhash {
        /// The blockhash.
        blockhash: Hash,
        /// The last block height at which it is recent.
        last_valid_block_height: u64,
    },
    /// As long as a nonce account of the wallet has the same value.
    Nonce(Nonce),
}

/// A nonce account's value, and what proves things about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// The nonce account.
    pub account: Pubkey,
    /// Its value.
    pub value: Hash,
    /// The blockhash that the value derives from: the proof that the value is no blockhash.
    pub origin: Hash,
    /// A slot at which the account had the value. Who sees another value at a later slot sees that this one is used up, and
    /// not that it is still to come.
    pub seen_at: u64,
}

impl Validity {
    /// What a message has in the place of a recent blockhash.
    pub const fn hash(&self) -> Hash {
        match self {
            Self::Blockhash { blockhash, .. } => *blockhash,
            Self::Nonce(nonce) => nonce.value,
        }
    }
}

impl Nonce {
    /// Whether the value is proven to be one.
    pub(super) fn is_proven(&self) -> bool {
        derives(&self.value, &self.origin)
    }

    /// Whether of two messages under these nonces at most one can be included.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        (self.account, self.value) == (other.account, other.value)
    }

    /// Whether what the cluster includes of `message` uses the value up: it advances the account, and the value stands in the place
    /// of its blockhash.
    #[cfg(feature = "client")]
    pub(super) fn is_used_by(&self, message: &VersionedMessage) -> bool {
        *message.recent_blockhash() == self.value && advanced_by(message) == Some(self.account)
    }

    /// What is used up with the value, as a slot's text.
    pub(super) fn slot_text(account: &Pubkey, value: &Hash) -> String {
        format!("nonce/{account}/{value}")
    }
}

/// Whether `value` is what a nonce account gets that is advanced when `blockhash` is the latest.
pub(super) fn derives(value: &Hash, blockhash: &Hash) -> bool {
    DurableNonce::from_blockhash(blockhash).as_hash() == value
}

/// The nonce account `index` of `wallet`: the address that derives from it with the seed `portcullis-nonce-<index>` and the
/// system program as owner. Only the wallet's own signature can create it.
pub fn nonce_account(wallet: &Pubkey, index: u8) -> Pubkey {
    Pubkey::create_with_seed(wallet, &seed(index), &solana_system_interface::program::ID)
        .expect("the seed is shorter than 32 bytes, and the system program is no derived address")
}

/// The seed of nonce account `index`.
pub(super) fn seed(index: u8) -> String {
    format!("portcullis-nonce-{index}")
}

/// All nonce accounts that `wallet` may have, in the order of their indices.
pub(super) fn nonce_accounts(wallet: &Pubkey) -> [Pubkey; NONCE_ACCOUNTS as usize] {
    let mut index = 0;
    [(); NONCE_ACCOUNTS as usize].map(|()| {
        let account = nonce_account(wallet, index);
        index += 1;
        account
    })
}

/// Whether `account` is a nonce account of `wallet`.
pub(super) fn is_own(wallet: &Pubkey, account: &Pubkey) -> bool {
    nonce_accounts(wallet).contains(account)
}

/// The value of an account that is an initialized nonce account of the present version under `authority`; `owner` is the program that
/// owns it. Others keep no message valid.
#[cfg(feature = "client")]
pub(super) fn value(owner: &Pubkey, data: &[u8], authority: &Pubkey) -> Option<Hash> {
    if *owner != solana_system_interface::program::ID || data.len() != ACCOUNT_LEN {
        return None;
    }
    let Ok(Versions::Current(state)) = bincode::deserialize::<Versions>(data) else { return None };
    match *state {
        State::Initialized(held) if held.authority == *authority => Some(held.blockhash()),
        State::Initialized(_) | State::Uninitialized => None,
    }
}

/// The account that the message starts by advancing, where it does: what the cluster looks at to find the message's nonce.
pub(super) fn advanced_by(message: &VersionedMessage) -> Option<Pubkey> {
    let keys = message.static_account_keys();
    let first = message.instructions().first()?;
    let program = keys.get(usize::from(first.program_id_index))?;
    let advances = *program == solana_system_interface::program::ID && first.data.starts_with(&ADVANCE);
    let account = first.accounts.first().filter(|_| advances)?;
    keys.get(usize::from(*account)).copied()
}

/// `SystemInstruction::AdvanceNonceAccount` in bincode.
pub(super) const ADVANCE: [u8; 4] = [4, 0, 0, 0];
