//! What a message does, decoded from its bytes.
//!
//! The receiver of tokens is the *owner* of the token account that they go to. The bytes prove who that is where the
//! account's address derives from the owner, the mint and the token program; where it doesn't, nothing is signed. What
//! the bytes can't show is whether an associated account was later handed to another owner (SPL Token allows that): the
//! client looks it up before a message is built.

use std::collections::BTreeSet;

use solana_sdk::pubkey::Pubkey;

use super::fee::{self, ComputeBudget, DEFAULT_UNITS_PER_INSTRUCTION, MAX_COMPUTE_UNITS, MicroLamports};
use super::instruction::{self, NewAccount, Step, TokenTransfer};
use super::token::associated_token_account;
use super::wire::Unsigned;
use crate::account::Account;
use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::{Effects, Transfer};
use crate::network::Cluster;

/// Decodes everything that the message does.
pub(super) fn effects(cluster: Cluster, account: &Account, unsigned: &Unsigned) -> Result<Effects, DecodeError> {
    let payer = unsigned.require_payer(cluster, account)?;
    let message = unsigned.message();
    let keys = message.static_account_keys();
    if message.address_table_lookups().is_some_and(|lookups| !lookups.is_empty()) {
        return Err(undecodable("address lookup tables are not read; put every account into the message"));
    }
    if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
        return Err(undecodable("an account is named twice"));
    }

    let mut reading = Reading::new(payer, unsigned.owners());
    for (index, instruction) in message.instructions().iter().enumerate() {
        reading.take(instruction::read(message, index, instruction)?)?;
    }
    let transfers = reading.transfers()?;

    let limit = reading.unit_limit.unwrap_or_else(|| {
        let instructions = u32::try_from(message.instructions().len()).unwrap_or(u32::MAX);
        instructions.saturating_mul(DEFAULT_UNITS_PER_INSTRUCTION).min(MAX_COMPUTE_UNITS)
    });
    let compute = ComputeBudget { unit_limit: limit, unit_price: reading.unit_price.unwrap_or_default() };
    let created = reading.created.iter().map(|created| created.program);
    Ok(Effects {
        transfers,
        allowances: Vec::new(),
        calls: Vec::new(),
        change: Amount::ZERO,
        max_fee: fee::max_fee(message.header().num_required_signatures, compute, created),
        touches: keys.iter().filter(|key| **key != payer).copied().map(Address::Solana).collect(),
        upkeep: None,
    })
}

/// What has been read of a message.
struct Reading<'a> {
    payer: Pubkey,
    claimed: &'a [Pubkey],
    unit_limit: Option<u32>,
    unit_price: Option<MicroLamports>,
    created: Vec<NewAccount>,
    payments: Vec<Payment>,
}

enum Payment {
    Lamports { to: Pubkey, amount: u64 },
    Tokens(TokenTransfer),
}

impl<'a> Reading<'a> {
    fn new(payer: Pubkey, claimed: &'a [Pubkey]) -> Self {
        Self { payer, claimed, unit_limit: None, unit_price: None, created: Vec::new(), payments: Vec::new() }
    }

    fn take(&mut self, step: Step) -> Result<(), DecodeError> {
        let by = |who: &Pubkey, what: &str| {
            if *who == self.payer { Ok(()) } else { Err(undecodable(format!("{who} {what}, not the wallet"))) }
        };
        match step {
            Step::UnitLimit(limit) => {
                if self.unit_limit.replace(limit).is_some() {
                    return Err(undecodable("the compute unit limit is set twice"));
                }
            }
            Step::UnitPrice(price) => {
                if self.unit_price.replace(price).is_some() {
                    return Err(undecodable("the compute unit price is set twice"));
                }
            }
            Step::Transfer { from, to, amount } => {
                by(&from, "pays lamports")?;
                self.payments.push(Payment::Lamports { to, amount });
            }
            Step::CreateAccount(created) => {
                by(&created.payer, "pays for a token account")?;
                if created.account != associated_token_account(&created.owner, &created.mint, created.program) {
                    return Err(undecodable(format!("{} is not its owner's associated account", created.account)));
                }
                self.created.push(created);
            }
            Step::TokenTransfer(transfer) => {
                by(&transfer.authority, "moves tokens")?;
                self.payments.push(Payment::Tokens(transfer));
            }
        }
        Ok(())
    }

    /// The payments, receivers of tokens found. Every claimed owner must have been needed.
    fn transfers(&self) -> Result<Vec<Transfer>, DecodeError> {
        let mut proven = BTreeSet::new();
        let mut transfers = Vec::with_capacity(self.payments.len());
        for payment in &self.payments {
            let (asset, to, amount) = match payment {
                Payment::Lamports { to, amount } => (Asset::Native, *to, *amount),
                Payment::Tokens(transfer) => {
                    let mint = self.mint(transfer)?;
                    let owner = self.owner(transfer, &mint)?;
                    proven.insert(owner);
                    (Asset::Spl(mint), owner, transfer.amount)
                }
            };
            transfers.push(Transfer {
                asset,
                from: Address::Solana(self.payer),
                to: Address::Solana(to),
                // Both are counts of 64 bits.
                amount: Amount::from_lamports(amount),
            });
        }
        match self.claimed.iter().find(|claimed| !proven.contains(*claimed)) {
            Some(claimed) => Err(undecodable(format!("{claimed} is said to own an account that isn't paid"))),
            None => Ok(transfers),
        }
    }

    /// The token's mint: named by the transfer, or by the creation of an account; either way the source must be the
    /// wallet's associated account for it.
    fn mint(&self, transfer: &TokenTransfer) -> Result<Pubkey, DecodeError> {
        let own = |mint: &Pubkey| associated_token_account(&self.payer, mint, transfer.program) == transfer.source;
        let created = self.created.iter().map(|created| created.mint);
        let mut candidates = transfer.mint.into_iter().chain(created.filter(|_| transfer.mint.is_none()));
        candidates
            .find(own)
            .ok_or_else(|| undecodable(format!("{} is not the wallet's associated token account", transfer.source)))
    }

    /// The owner of the destination: the one candidate whose associated account it is.
    fn owner(&self, transfer: &TokenTransfer, mint: &Pubkey) -> Result<Pubkey, DecodeError> {
        let candidates = self.created.iter().map(|created| created.owner).chain(self.claimed.iter().copied());
        candidates
            .chain([self.payer])
            .find(|owner| associated_token_account(owner, mint, transfer.program) == transfer.destination)
            .ok_or_else(|| undecodable(format!("nothing proves who owns the token account {}", transfer.destination)))
    }
}

fn undecodable(reason: impl Into<String>) -> DecodeError {
    DecodeError::Undecodable(reason.into())
}
