//! What a message does, decoded from its bytes.
//!
//! The receiver of tokens is the *owner* of the token account that they go to. The bytes prove who that is where the
//! account's address derives from the owner, the mint and the token program; where it doesn't, nothing is signed. What
//! the bytes can't show is whether an associated account was later handed to another owner (SPL Token allows that): the
//! client looks it up before a message is built.
//!
//! A message under a durable nonce starts by advancing a nonce account of the wallet's own; nothing else is advanced, and a
//! message that opens such an account does nothing else.

use std::collections::BTreeSet;

use solana_sdk::pubkey::Pubkey;

use super::fee::{self, ComputeBudget, DEFAULT_UNITS_PER_INSTRUCTION, MAX_COMPUTE_UNITS, MicroLamports};
use super::instruction::{self, NewAccount, SeededAccount, Step, TokenTransfer};
use super::nonce::{self, NONCE_ACCOUNTS, nonce_account};
use super::token::associated_token_account;
use super::wire::Unsigned;
use crate::account::Account;
use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::{Effects, Transfer, Upkeep};
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
        reading.take(index, instruction::read(message, index, instruction)?)?;
    }
    let transfers = reading.transfers()?;
    let upkeep = reading.upkeep()?;

    let limit = reading.unit_limit.unwrap_or_else(|| {
        let instructions = u32::try_from(message.instructions().len()).unwrap_or(u32::MAX);
        instructions.saturating_mul(DEFAULT_UNITS_PER_INSTRUCTION).min(MAX_COMPUTE_UNITS)
    });
    let compute = ComputeBudget { unit_limit: limit, unit_price: reading.unit_price.unwrap_or_default() };
    let created = reading.created.iter().map(|created| created.program);
    let fee = fee::max_fee(message.header().num_required_signatures, compute, created);
    let rent = Amount::from_lamports(reading.opening.map_or(0, |opening| opening.lamports));
    Ok(Effects {
        transfers,
        allowances: Vec::new(),
        calls: Vec::new(),
        proceeds: Vec::new(),
        change: Amount::ZERO,
        max_fee: fee.checked_add(rent).ok_or_else(|| undecodable("it costs more than there is"))?,
        touches: keys.iter().filter(|key| **key != payer).copied().map(Address::Solana).collect(),
        upkeep,
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
    /// Whether it is under a nonce.
    advances: bool,
    opening: Option<Opening>,
}

/// A nonce account of the wallet that is created, and not to be left without its authority.
#[derive(Clone, Copy)]
struct Opening {
    index: u8,
    account: Pubkey,
    lamports: u64,
    initialized: bool,
}

enum Payment {
    Lamports { to: Pubkey, amount: u64 },
    Tokens(TokenTransfer),
}

impl<'a> Reading<'a> {
    fn new(payer: Pubkey, claimed: &'a [Pubkey]) -> Self {
        Self {
            payer,
            claimed,
            unit_limit: None,
            unit_price: None,
            created: Vec::new(),
            payments: Vec::new(),
            advances: false,
            opening: None,
        }
    }

    /// Takes instruction `index`.
    fn take(&mut self, index: usize, step: Step) -> Result<(), DecodeError> {
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
            Step::AdvanceNonce { account, authority } => {
                by(&authority, "advances a nonce")?;
                if index != 0 || !nonce::is_own(&self.payer, &account) {
                    return Err(undecodable("only a nonce of the wallet is advanced, and first of all"));
                }
                self.advances = true;
            }
            Step::CreateWithSeed(created) => self.open(&created)?,
            Step::InitializeNonce { account, authority } => {
                by(&authority, "would have the nonce")?;
                let opening =
                    self.opening.as_mut().filter(|opening| opening.account == account && !opening.initialized);
                opening.ok_or_else(|| undecodable(format!("{account} is not created here")))?.initialized = true;
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

    /// Takes the creation of an account, which must be a nonce account of the wallet that the wallet pays for.
    fn open(&mut self, created: &SeededAccount) -> Result<(), DecodeError> {
        let index = (0..NONCE_ACCOUNTS).find(|index| nonce::seed(*index) == created.seed);
        let index = index.filter(|index| nonce_account(&self.payer, *index) == created.account);
        let own = created.payer == self.payer
            && created.base == self.payer
            && created.owner == solana_system_interface::program::ID
            && created.space == nonce::ACCOUNT_LEN as u64
            && u128::from(created.lamports) <= fee::max_nonce_account_rent();
        let (Some(index), true, None) = (index, own, self.opening) else {
            return Err(undecodable("an account is created that is no nonce account of the wallet's own"));
        };
        let (account, lamports) = (created.account, created.lamports);
        self.opening = Some(Opening { index, account, lamports, initialized: false });
        Ok(())
    }

    /// What the message does for the wallet's own upkeep; then it does nothing else.
    fn upkeep(&self) -> Result<Option<Upkeep>, DecodeError> {
        let Some(opening) = self.opening else { return Ok(None) };
        if !opening.initialized {
            return Err(undecodable("a nonce account is left for others to initialize"));
        }
        if !self.payments.is_empty() || !self.created.is_empty() || self.advances {
            return Err(undecodable("a nonce account is opened, and more than that is done"));
        }
        Ok(Some(Upkeep::OpenNonce { index: opening.index }))
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
