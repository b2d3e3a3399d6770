//! The two token programs (`spl_token_interface::instruction::TokenInstruction` and, from 25 on, Token-2022's own:
//! <https://github.com/solana-program/token-2022/blob/main/interface/src/instruction.rs>).
//!
//! Refused: `Approve`, which doesn't name the mint (`ApproveChecked` does); handing a token account to another owner; owners that
//! are multisigs; `Batch`; the confidential extensions, whose amounts nobody can read; and what isn't listed here.

use solana_sdk::pubkey::Pubkey;

use super::super::token::TokenProgram;
use super::{Other, Reader, Step, TokenApproval, TokenBurn, TokenPlace, TokenTransfer};

const INITIALIZE_MINT: u8 = 0;
const INITIALIZE_ACCOUNT: u8 = 1;
const TRANSFER: u8 = 3;
const REVOKE: u8 = 5;
const SET_AUTHORITY: u8 = 6;
const MINT_TO: u8 = 7;
const BURN: u8 = 8;
const CLOSE_ACCOUNT: u8 = 9;
const FREEZE_ACCOUNT: u8 = 10;
const THAW_ACCOUNT: u8 = 11;
const TRANSFER_CHECKED: u8 = 12;
const APPROVE_CHECKED: u8 = 13;
const MINT_TO_CHECKED: u8 = 14;
const BURN_CHECKED: u8 = 15;
const INITIALIZE_ACCOUNT_2: u8 = 16;
const SYNC_NATIVE: u8 = 17;
const INITIALIZE_ACCOUNT_3: u8 = 18;
const INITIALIZE_MINT_2: u8 = 20;
const GET_ACCOUNT_DATA_SIZE: u8 = 21;
const INITIALIZE_IMMUTABLE_OWNER: u8 = 22;
const AMOUNT_TO_UI_AMOUNT: u8 = 23;
const UI_AMOUNT_TO_AMOUNT: u8 = 24;
const TRANSFER_FEE_EXTENSION: u8 = 26;
const REALLOCATE: u8 = 29;
const MEMO_TRANSFER_EXTENSION: u8 = 30;
const CPI_GUARD_EXTENSION: u8 = 34;

/// Of the transfer fee extension.
const TRANSFER_CHECKED_WITH_FEE: u8 = 1;
const WITHDRAW_WITHHELD_FROM_MINT: u8 = 2;
const WITHDRAW_WITHHELD_FROM_ACCOUNTS: u8 = 3;
const HARVEST_WITHHELD_TO_MINT: u8 = 4;
const SET_TRANSFER_FEE: u8 = 5;

/// `AuthorityType::AccountOwner`.
const ACCOUNT_OWNER: u8 = 2;
/// Of the extensions that are switched on and off.
const ENABLE: u8 = 0;
const DISABLE: u8 = 1;

pub(super) fn read(program: TokenProgram, accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    let (kind, rest) = data.split_first()?;
    let mut rest = Reader(rest);
    let step = match (*kind, accounts) {
        (TRANSFER, [source, destination, authority]) => {
            moved(program, *source, None, *destination, *authority, rest.u64()?)
        }
        (TRANSFER_CHECKED, [source, mint, destination, authority]) => {
            let (amount, _decimals) = (rest.u64()?, rest.u8()?);
            moved(program, *source, Some(*mint), *destination, *authority, amount)
        }
        (APPROVE_CHECKED, [source, mint, delegate, authority]) => {
            let (amount, _decimals) = (rest.u64()?, rest.u8()?);
            let (source, mint, delegate, authority) = (*source, *mint, *delegate, *authority);
            Step::Approve(TokenApproval { program, source, mint, delegate, authority, amount })
        }
        (REVOKE, [_, authority]) => Step::Harmless { authority: Some(*authority) },
        (BURN, [source, mint, authority]) => burnt(program, *source, *mint, *authority, rest.u64()?),
        (BURN_CHECKED, [source, mint, authority]) => {
            let (amount, _decimals) = (rest.u64()?, rest.u8()?);
            burnt(program, *source, *mint, *authority, amount)
        }
        (CLOSE_ACCOUNT, [_, to, authority]) => Step::Close { to: *to, authority: *authority },
        // Wrapped lamports are counted.
        (SYNC_NATIVE, [_] | [_, _]) => Step::Harmless { authority: None },
        // Queries: what they are asked doesn't matter.
        (GET_ACCOUNT_DATA_SIZE | AMOUNT_TO_UI_AMOUNT | UI_AMOUNT_TO_AMOUNT, [_]) => {
            return Some(Step::Harmless { authority: None });
        }
        (SET_AUTHORITY, [_, _authority]) => {
            let (of, to) = (rest.u8()?, rest.optional_key()?);
            if of == ACCOUNT_OWNER {
                return None;
            }
            given(to)
        }
        (INITIALIZE_MINT, [_, _]) | (INITIALIZE_MINT_2, [_]) => {
            let (_decimals, minter, freezer) = (rest.u8()?, rest.key()?, rest.optional_key()?);
            given([minter].into_iter().chain(freezer))
        }
        (INITIALIZE_ACCOUNT, [_, _mint, owner, _rent]) => given([*owner]),
        (INITIALIZE_ACCOUNT_2, [_, _, _]) | (INITIALIZE_ACCOUNT_3, [_, _]) => given([rest.key()?]),
        (MINT_TO, [mint, to, _authority]) => {
            rest.u64()?;
            paid(program, *mint, *to)
        }
        (MINT_TO_CHECKED, [mint, to, _authority]) => {
            let (_amount, _decimals) = (rest.u64()?, rest.u8()?);
            paid(program, *mint, *to)
        }
        (FREEZE_ACCOUNT | THAW_ACCOUNT, [_, _, _]) | (INITIALIZE_IMMUTABLE_OWNER, [_]) => given([]),
        _ if program == TokenProgram::Token2022 => return extension(*kind, accounts, rest),
        _ => return None,
    };
    rest.end(step)
}

/// What only Token-2022 knows.
fn extension(kind: u8, accounts: &[Pubkey], mut rest: Reader<'_>) -> Option<Step> {
    let step = match (kind, accounts) {
        (TRANSFER_FEE_EXTENSION, accounts) => match (rest.u8()?, accounts) {
            (TRANSFER_CHECKED_WITH_FEE, [source, mint, destination, authority]) => {
                // The fee stays behind in the account that is paid, out of the amount.
                let (amount, _decimals, fee) = (rest.u64()?, rest.u8()?, rest.u64()?);
                if fee > amount {
                    return None;
                }
                moved(TokenProgram::Token2022, *source, Some(*mint), *destination, *authority, amount)
            }
            (WITHDRAW_WITHHELD_FROM_MINT, [mint, to, _authority]) => paid(TokenProgram::Token2022, *mint, *to),
            (WITHDRAW_WITHHELD_FROM_ACCOUNTS, [mint, to, _authority, _first, ..]) => {
                rest.u8()?;
                paid(TokenProgram::Token2022, *mint, *to)
            }
            (HARVEST_WITHHELD_TO_MINT, [_mint, ..]) => given([]),
            (SET_TRANSFER_FEE, [_mint, _authority]) => {
                let (_rate, _most) = (rest.chunk::<2>()?, rest.u64()?);
                given([])
            }
            _ => return None,
        },
        (REALLOCATE, [_, _payer, solana_system_interface::program::ID, _owner]) => {
            // Extension types follow, two bytes each; nobody is given anything.
            return rest.0.len().is_multiple_of(2).then(|| given([]));
        }
        (MEMO_TRANSFER_EXTENSION | CPI_GUARD_EXTENSION, [_, _owner]) => match rest.u8()? {
            ENABLE | DISABLE => given([]),
            _ => return None,
        },
        _ => return None,
    };
    rest.end(step)
}

fn moved(
    program: TokenProgram,
    source: Pubkey,
    mint: Option<Pubkey>,
    destination: Pubkey,
    authority: Pubkey,
    amount: u64,
) -> Step {
    Step::TokenTransfer(TokenTransfer { program, source, mint, destination, authority, amount })
}

fn burnt(program: TokenProgram, source: Pubkey, mint: Pubkey, authority: Pubkey, amount: u64) -> Step {
    Step::Burn(TokenBurn { program, source, mint, authority, amount })
}

fn paid(program: TokenProgram, mint: Pubkey, account: Pubkey) -> Step {
    Step::Other(Other { paid: vec![TokenPlace { program, mint, account }], ..Other::default() })
}

fn given(beneficiaries: impl IntoIterator<Item = Pubkey>) -> Step {
    Step::Other(Other { beneficiaries: beneficiaries.into_iter().collect(), ..Other::default() })
}
