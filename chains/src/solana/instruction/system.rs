//! The system program (`solana_system_interface::instruction::SystemInstruction`, in bincode).
//!
//! Refused: `CreateAccount`, for which the created account would have to sign; `Assign` and `Allocate`, which would hand the
//! wallet itself to a program; `AuthorizeNonceAccount`, after which a nonce would be somebody else's; `WithdrawNonceAccount`, which
//! can end a nonce while payments under it wait.

use solana_sdk::pubkey::Pubkey;

use super::super::nonce::ADVANCE;
use super::{Other, Reader, SeededAccount, Step};

/// The sysvars that the system program wants to see with nonces.
const RECENT_BLOCKHASHES: Pubkey = Pubkey::from_str_const("SysvarRecentB1ockHashes11111111111111111111");
const RENT: Pubkey = Pubkey::from_str_const("SysvarRent111111111111111111111111111111111");

const TRANSFER: [u8; 4] = [2, 0, 0, 0];
const CREATE_WITH_SEED: [u8; 4] = [3, 0, 0, 0];
const INITIALIZE_NONCE: [u8; 4] = [6, 0, 0, 0];
const ALLOCATE_WITH_SEED: [u8; 4] = [9, 0, 0, 0];
const ASSIGN_WITH_SEED: [u8; 4] = [10, 0, 0, 0];
const TRANSFER_WITH_SEED: [u8; 4] = [11, 0, 0, 0];
const UPGRADE_NONCE: [u8; 4] = [12, 0, 0, 0];

pub(super) fn read(accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    let (kind, rest) = data.split_first_chunk::<4>()?;
    let mut rest = Reader(rest);
    let step = match (*kind, accounts) {
        (TRANSFER, [from, to]) => Step::Transfer { from: *from, to: *to, amount: rest.u64()? },
        (TRANSFER_WITH_SEED, [from, base, to]) => Step::TransferWithSeed {
            from: *from,
            base: *base,
            to: *to,
            amount: rest.u64()?,
            seed: rest.text()?,
            owner: rest.key()?,
        },
        (ADVANCE, [account, RECENT_BLOCKHASHES, authority]) => {
            Step::AdvanceNonce { account: *account, authority: *authority }
        }
        (CREATE_WITH_SEED, [payer, account]) => Step::CreateWithSeed(seeded(*payer, *account, &mut rest)?),
        (INITIALIZE_NONCE, [account, RECENT_BLOCKHASHES, RENT]) => {
            Step::InitializeNonce { account: *account, authority: rest.key()? }
        }
        (ALLOCATE_WITH_SEED, [_, base]) => {
            let (named, _, _, owner) = (rest.key()?, rest.text()?, rest.u64()?, rest.key()?);
            with_owner(named == *base, owner)?
        }
        (ASSIGN_WITH_SEED, [_, base]) => {
            let (named, _, owner) = (rest.key()?, rest.text()?, rest.key()?);
            with_owner(named == *base, owner)?
        }
        (UPGRADE_NONCE, [_]) => Step::Other(Other::default()),
        _ => return None,
    };
    rest.end(step)
}

/// An account that derives from the wallet is handed to a program.
fn with_owner(same_base: bool, owner: Pubkey) -> Option<Step> {
    same_base.then(|| Step::Other(Other { names: vec![owner], ..Other::default() }))
}

/// Base, seed, lamports, space, owner.
fn seeded(payer: Pubkey, account: Pubkey, rest: &mut Reader<'_>) -> Option<SeededAccount> {
    let (base, seed) = (rest.key()?, rest.text()?);
    let (lamports, space, owner) = (rest.u64()?, rest.u64()?, rest.key()?);
    Some(SeededAccount { payer, account, base, seed, lamports, space, owner })
}
