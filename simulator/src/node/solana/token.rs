//! Token accounts and mints, of SPL Token and Token-2022 alike: the base state is the same, extensions follow it.

use solana_program_pack::Pack;
use solana_sdk::account::{AccountSharedData, ReadableAccount};
use solana_sdk::pubkey::Pubkey;
use spl_token_interface::state::{Account, Mint, Multisig};

use super::genesis::{TOKEN, TOKEN_2022};
use super::ledger::TokenBalance;

/// Where Token-2022 says what an extended account is: after the length of a token account, even for a mint.
const ACCOUNT_TYPE: usize = Account::LEN;
const TYPE_MINT: u8 = 1;
const TYPE_ACCOUNT: u8 = 2;

/// Whether `program` is one of the two token programs.
pub(super) fn is_token_program(program: &Pubkey) -> bool {
    [TOKEN, TOKEN_2022].contains(program)
}

/// The token account in `account`.
pub(super) fn token_account(account: &AccountSharedData) -> Option<Account> {
    Account::unpack(base(account, Account::LEN, TYPE_ACCOUNT)?).ok()
}

/// The mint in `account`.
pub(super) fn mint(account: &AccountSharedData) -> Option<Mint> {
    Mint::unpack(base(account, Mint::LEN, TYPE_MINT)?).ok()
}

fn base(account: &AccountSharedData, length: usize, kind: u8) -> Option<&[u8]> {
    let data = account.data();
    let extended =
        || *account.owner() == TOKEN_2022 && data.len() != Multisig::LEN && data.get(ACCOUNT_TYPE) == Some(&kind);
    if !is_token_program(account.owner()) || (data.len() != length && !extended()) {
        return None;
    }
    data.get(..length)
}

/// The balances of the token accounts among `keys`.
pub(super) fn balances(keys: &[Pubkey], get: impl Fn(&Pubkey) -> Option<AccountSharedData>) -> Vec<TokenBalance> {
    let balance = |(index, key): (usize, &Pubkey)| {
        let account = get(key)?;
        let state = token_account(&account)?;
        let decimals = mint(&get(&state.mint)?)?.decimals;
        Some(TokenBalance {
            index,
            mint: state.mint,
            owner: state.owner,
            program: *account.owner(),
            amount: state.amount,
            decimals,
        })
    };
    keys.iter().enumerate().filter_map(balance).collect()
}
