//! What a message does, decoded from its bytes.
//!
//! The receiver of tokens is the *owner* of the token account that they go to. The bytes prove who that is where the
//! account's address derives from the owner, the mint and the token program; where it doesn't, nothing is signed. What
//! the bytes can't show is whether an associated account was later handed to another owner (SPL Token allows that): the
//! client looks it up before a message is built.
//!
//! A message that does more than pay is told instruction by instruction ([`ProgramCall`]), and its payments as well. What a
//! program does that isn't known here, the bytes don't say: such an instruction has the wallet's own signature to spend what
//! the wallet has, and only a rule that names it lets it pass. Owners claimed for accounts that such a message names prove
//! nothing and are told as touched, to be screened.
//!
//! Accounts that a message reads from lookup tables are told like its own, and the tables with them.
//!
//! A message under a durable nonce starts by advancing a nonce account of the wallet's own; nothing else is advanced, and a
//! message that opens such an account does nothing else.

mod reading;

use std::collections::BTreeSet;

use solana_sdk::pubkey::Pubkey;

use self::reading::Reading;
use super::fee::{self, ComputeBudget, DEFAULT_UNITS_PER_INSTRUCTION, MAX_COMPUTE_UNITS};
use super::instruction::{self, Step};
use super::nonce::Validity;
use super::table::Resolved;
use super::wire::Unsigned;
use crate::account::Account;
use crate::address::Address;
use crate::amount::Amount;
use crate::chain::DecodeError;
use crate::effects::{AccountUse, Effects, Proceeds, ProgramCall};
use crate::network::Cluster;

/// Decodes everything that the message does.
pub(super) fn effects(cluster: Cluster, account: &Account, unsigned: &Unsigned) -> Result<Effects, DecodeError> {
    let payer = unsigned.require_payer(cluster, account)?;
    let message = unsigned.message();
    let resolved = unsigned.resolved()?;
    let keys = &resolved.keys;
    if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
        return Err(undecodable("an account is named twice"));
    }

    let mut reading = Reading::new(payer, unsigned.owners());
    let mut programs = Vec::new();
    for (index, instruction) in message.instructions().iter().enumerate() {
        let step = instruction::read(keys, index, instruction)?;
        // The cluster looks for a nonce among the message's own accounts. By way of a table, the message would advance one and be
        // valid under something else.
        if matches!(step, Step::AdvanceNonce { .. }) && !matches!(unsigned.validity(), Validity::Nonce(_)) {
            return Err(undecodable("a nonce is advanced by way of a lookup table"));
        }
        let setting = matches!(step, Step::UnitLimit(_) | Step::UnitPrice(_) | Step::AdvanceNonce { .. });
        let explained = reading.take(index, step)?;
        if !setting {
            let (program, accounts) = instruction::resolve(keys, index, instruction)?;
            programs.push(call(unsigned, &resolved, program, &accounts, &instruction.data, explained));
        }
    }
    let transfers = reading.transfers()?;
    let proceeds = reading.beneficiaries.iter().map(|to| Proceeds { to: Address::Solana(*to) }).collect();
    let upkeep = reading.upkeep()?;
    if !reading.calls {
        programs.clear();
    }

    let limit = reading.unit_limit.unwrap_or_else(|| {
        let instructions = u32::try_from(message.instructions().len()).unwrap_or(u32::MAX);
        instructions.saturating_mul(DEFAULT_UNITS_PER_INSTRUCTION).min(MAX_COMPUTE_UNITS)
    });
    let compute = ComputeBudget { unit_limit: limit, unit_price: reading.unit_price.unwrap_or_default() };
    let created = reading.created.iter().map(|created| created.program);
    let fee = fee::max_fee(message.header().num_required_signatures, compute, created);
    let rent = fee::amount(reading.rent());
    let tables = resolved.tables.iter().map(|read| read.address).filter(|table| !keys.contains(table));
    let named = keys.iter().copied().filter(|key| *key != payer).chain(tables);
    let beside = reading.names.iter().copied().filter(|key| !keys.contains(key));
    Ok(Effects {
        transfers,
        allowances: reading.allowances,
        calls: Vec::new(),
        programs,
        proceeds,
        change: Amount::ZERO,
        max_fee: fee.checked_add(rent).ok_or_else(|| undecodable("it costs more than there is"))?,
        touches: named.chain(beside).map(Address::Solana).collect(),
        tables: resolved.tables.clone(),
        upkeep,
    })
}

/// An instruction as the call that it is. The cluster knows which accounts are writable for the message as a whole.
fn call(
    unsigned: &Unsigned,
    resolved: &Resolved,
    program: Pubkey,
    accounts: &[Pubkey],
    data: &[u8],
    explained: bool,
) -> ProgramCall {
    let keys = &resolved.keys;
    let header = unsigned.message().header();
    let (signed, all) = (usize::from(header.num_required_signatures), unsigned.message().static_account_keys().len());
    let read_only_signed = usize::from(header.num_readonly_signed_accounts);
    let read_only = usize::from(header.num_readonly_unsigned_accounts);
    let is_writable = |at: usize| {
        if at < signed {
            at < signed.saturating_sub(read_only_signed)
        } else if at < all {
            at < all.saturating_sub(read_only)
        } else {
            at < all.saturating_add(resolved.writable)
        }
    };
    let used = |address: &Pubkey| AccountUse {
        address: *address,
        writable: keys.iter().position(|key| key == address).is_some_and(is_writable),
    };
    ProgramCall { program, accounts: accounts.iter().map(used).collect(), data: data.to_vec().into(), explained }
}

fn undecodable(reason: impl Into<String>) -> DecodeError {
    DecodeError::Undecodable(reason.into())
}
