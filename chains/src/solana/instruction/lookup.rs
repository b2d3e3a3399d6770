//! The address lookup table program: the making and keeping of tables
//! (<https://docs.rs/solana-address-lookup-table-interface>, `ProgramInstruction` in bincode). What a message *reads* from tables is
//! `table`'s.

use solana_sdk::pubkey::Pubkey;

use super::super::fee;
use super::{Other, Reader, Step};

/// The program.
pub(super) const ID: Pubkey = Pubkey::from_str_const("AddressLookupTab1e1111111111111111111111111");

const CREATE: [u8; 4] = [0, 0, 0, 0];
const FREEZE: [u8; 4] = [1, 0, 0, 0];
const EXTEND: [u8; 4] = [2, 0, 0, 0];
const DEACTIVATE: [u8; 4] = [3, 0, 0, 0];
const CLOSE: [u8; 4] = [4, 0, 0, 0];

const SYSTEM: Pubkey = solana_system_interface::program::ID;

/// The most addresses that a message has room to add.
const MAX_ADDED: u64 = 256;

pub(super) fn read(accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    let (kind, rest) = data.split_first_chunk::<4>()?;
    let mut rest = Reader(rest);
    let other = match (*kind, accounts) {
        (CREATE, [_table, authority, _payer, SYSTEM]) => {
            let (_slot, _bump) = (rest.u64()?, rest.u8()?);
            Other { beneficiaries: vec![*authority], rent: fee::lookup_table_rent(), ..Other::default() }
        }
        (EXTEND, [_table, _authority] | [_table, _authority, _, SYSTEM]) => {
            let count = rest.u64()?;
            if count > MAX_ADDED {
                return None;
            }
            let names = (0..count).map(|_| rest.key()).collect::<Option<Vec<_>>>()?;
            let rent = fee::lookup_entry_rent() * u128::from(count);
            Other { names, rent, ..Other::default() }
        }
        (CLOSE, [_table, _authority, to]) => Other { beneficiaries: vec![*to], ..Other::default() },
        (FREEZE | DEACTIVATE, [_table, _authority]) => Other::default(),
        _ => return None,
    };
    rest.end(Step::Other(other))
}
