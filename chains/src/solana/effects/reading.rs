//! What has been read of a message, instruction by instruction.

use std::collections::BTreeSet;

use solana_sdk::pubkey::Pubkey;

use super::super::fee::{self, MicroLamports};
use super::super::instruction::{
    NestedAccount, NewAccount, Other, SeededAccount, Step, TokenApproval, TokenBurn, TokenPlace, TokenTransfer,
};
use super::super::nonce::{self, NONCE_ACCOUNTS, nonce_account};
use super::super::token::{TokenProgram, associated_token_account};
use super::undecodable;
use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::{Allowance, Transfer, Upkeep};

/// The mint of lamports that are wrapped as tokens (SPL Token's `native_mint`).
const WRAPPED_SOL: Pubkey = Pubkey::from_str_const("So11111111111111111111111111111111111111112");

/// What has been read of a message.
pub(super) struct Reading<'a> {
    payer: Pubkey,
    claimed: &'a [Pubkey],
    pub(super) unit_limit: Option<u32>,
    pub(super) unit_price: Option<MicroLamports>,
    pub(super) created: Vec<NewAccount>,
    payments: Vec<Payment>,
    pub(super) allowances: Vec<Allowance>,
    /// Who is given something of unknown worth.
    pub(super) beneficiaries: BTreeSet<Pubkey>,
    /// Accounts that aren't the message's own.
    pub(super) names: BTreeSet<Pubkey>,
    /// Whether it does more than pay.
    pub(super) calls: bool,
    /// Whether all that it does is known.
    explained: bool,
    /// Rent that instructions ask for, in lamports.
    rent: u128,
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
    Burnt(TokenBurn),
}

impl<'a> Reading<'a> {
    pub(super) fn new(payer: Pubkey, claimed: &'a [Pubkey]) -> Self {
        Self {
            payer,
            claimed,
            unit_limit: None,
            unit_price: None,
            created: Vec::new(),
            payments: Vec::new(),
            allowances: Vec::new(),
            beneficiaries: BTreeSet::new(),
            names: BTreeSet::new(),
            calls: false,
            explained: true,
            rent: 0,
            advances: false,
            opening: None,
        }
    }

    /// Takes instruction `index`; whether payments, allowances and proceeds tell all that it does.
    pub(super) fn take(&mut self, index: usize, step: Step) -> Result<bool, DecodeError> {
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
                self.require_wallet(&from, "pays lamports")?;
                if to == associated_token_account(&self.payer, &WRAPPED_SOL, TokenProgram::Token) {
                    // Lamports to be wrapped stay the wallet's.
                    self.calls = true;
                } else {
                    self.payments.push(Payment::Lamports { to, amount });
                }
            }
            Step::TransferWithSeed { from, base, seed, owner, to, amount } => {
                self.require_wallet(&base, "pays lamports")?;
                let derived = Pubkey::create_with_seed(&base, &seed, &owner);
                if derived.as_ref() != Ok(&from) || nonce::is_own(&self.payer, &from) {
                    return Err(undecodable(format!("{from} is no account that derives from the wallet")));
                }
                self.calls = true;
                self.names.insert(owner);
                self.payments.push(Payment::Lamports { to, amount });
            }
            Step::AdvanceNonce { account, authority } => {
                self.require_wallet(&authority, "advances a nonce")?;
                if index != 0 || !nonce::is_own(&self.payer, &account) {
                    return Err(undecodable("only a nonce of the wallet is advanced, and first of all"));
                }
                self.advances = true;
            }
            Step::CreateWithSeed(created) => return self.create(&created),
            Step::InitializeNonce { account, authority } => {
                self.require_wallet(&authority, "would have the nonce")?;
                let opening =
                    self.opening.as_mut().filter(|opening| opening.account == account && !opening.initialized);
                opening.ok_or_else(|| undecodable(format!("{account} is not created here")))?.initialized = true;
            }
            Step::CreateAccount(created) => {
                self.require_wallet(&created.payer, "pays for a token account")?;
                if created.account != associated_token_account(&created.owner, &created.mint, created.program) {
                    return Err(undecodable(format!("{} is not its owner's associated account", created.account)));
                }
                self.created.push(created);
            }
            Step::RecoverNested(nested) => self.recover(&nested)?,
            Step::TokenTransfer(transfer) => {
                self.require_wallet(&transfer.authority, "moves tokens")?;
                self.payments.push(Payment::Tokens(transfer));
            }
            Step::Approve(approval) => self.approve(&approval)?,
            Step::Burn(burn) => {
                self.require_wallet(&burn.authority, "burns tokens")?;
                self.calls = true;
                self.payments.push(Payment::Burnt(burn));
            }
            Step::Close { to, authority } => {
                self.require_wallet(&authority, "closes a token account")?;
                self.calls = true;
                if to != self.payer {
                    // How much it holds, the bytes don't say.
                    return Ok(self.unexplained(Other { beneficiaries: vec![to], ..Other::default() }));
                }
            }
            Step::Harmless { authority } => {
                if let Some(authority) = authority {
                    self.require_wallet(&authority, "signs")?;
                }
                self.calls = true;
            }
            Step::Other(other) => return Ok(self.unexplained(other)),
        }
        Ok(true)
    }

    fn require_wallet(&self, who: &Pubkey, what: &str) -> Result<(), DecodeError> {
        if *who == self.payer { Ok(()) } else { Err(undecodable(format!("{who} {what}, not the wallet"))) }
    }

    /// Takes what a rule has to name.
    fn unexplained(&mut self, other: Other) -> bool {
        self.calls = true;
        self.explained = false;
        self.rent = self.rent.saturating_add(other.rent);
        let owners: Vec<Pubkey> = other.paid.iter().map(|place| self.owner(place).unwrap_or(place.account)).collect();
        let payer = self.payer;
        self.beneficiaries.extend(other.beneficiaries.into_iter().chain(owners).filter(|to| *to != payer));
        self.names.extend(other.names);
        false
    }

    /// Takes the creation of an account: of the wallet's own nonce, or of one that is paid for and a program's from then on.
    fn create(&mut self, created: &SeededAccount) -> Result<bool, DecodeError> {
        self.require_wallet(&created.payer, "pays for an account")?;
        self.require_wallet(&created.base, "has an account derived")?;
        if Pubkey::create_with_seed(&created.base, &created.seed, &created.owner).as_ref() != Ok(&created.account) {
            return Err(undecodable(format!("{} doesn't derive from its seed", created.account)));
        }
        if created.owner == solana_system_interface::program::ID {
            self.open(created)?;
            return Ok(true);
        }
        self.payments.push(Payment::Lamports { to: created.account, amount: created.lamports });
        Ok(self.unexplained(Other { names: vec![created.owner], ..Other::default() }))
    }

    /// Takes the creation of an account of the system program's, which must be a nonce account of the wallet.
    fn open(&mut self, created: &SeededAccount) -> Result<(), DecodeError> {
        let index = (0..NONCE_ACCOUNTS).find(|index| nonce::seed(*index) == created.seed);
        let index = index.filter(|index| nonce_account(&self.payer, *index) == created.account);
        let own =
            created.space == nonce::ACCOUNT_LEN as u64 && u128::from(created.lamports) <= fee::max_nonce_account_rent();
        let (Some(index), true, None) = (index, own, self.opening) else {
            return Err(undecodable("an account is created that is no nonce account of the wallet's own"));
        };
        let (account, lamports) = (created.account, created.lamports);
        self.opening = Some(Opening { index, account, lamports, initialized: false });
        Ok(())
    }

    /// Takes tokens that come back to the wallet from an account of its account.
    fn recover(&mut self, nested: &NestedAccount) -> Result<(), DecodeError> {
        self.require_wallet(&nested.wallet, "takes tokens back")?;
        let derived = |owner: &Pubkey, mint: &Pubkey| associated_token_account(owner, mint, nested.program);
        let own = nested.owner == derived(&self.payer, &nested.owner_mint)
            && nested.nested == derived(&nested.owner, &nested.nested_mint)
            && nested.destination == derived(&self.payer, &nested.nested_mint);
        if !own {
            return Err(undecodable(format!("{} is no account nested in the wallet's", nested.nested)));
        }
        self.calls = true;
        Ok(())
    }

    fn approve(&mut self, approval: &TokenApproval) -> Result<(), DecodeError> {
        self.require_wallet(&approval.authority, "lets tokens be spent")?;
        self.require_own(&approval.source, &approval.mint, approval.program)?;
        self.calls = true;
        self.allowances.push(Allowance {
            asset: Asset::Spl(approval.mint),
            spender: Address::Solana(approval.delegate),
            amount: Amount::from_lamports(approval.amount),
        });
        Ok(())
    }

    fn require_own(&self, account: &Pubkey, mint: &Pubkey, program: TokenProgram) -> Result<(), DecodeError> {
        if associated_token_account(&self.payer, mint, program) == *account {
            return Ok(());
        }
        Err(undecodable(format!("{account} is not the wallet's associated token account")))
    }

    /// Lamports that stay in accounts which the message makes, payments and token accounts aside.
    pub(super) fn rent(&self) -> u128 {
        self.rent.saturating_add(self.opening.map_or(0, |opening| opening.lamports.into()))
    }

    /// What the message does for the wallet's own upkeep; then it does nothing else.
    pub(super) fn upkeep(&self) -> Result<Option<Upkeep>, DecodeError> {
        let Some(opening) = self.opening else { return Ok(None) };
        if !opening.initialized {
            return Err(undecodable("a nonce account is left for others to initialize"));
        }
        if !self.payments.is_empty() || !self.created.is_empty() || self.advances || self.calls {
            return Err(undecodable("a nonce account is opened, and more than that is done"));
        }
        Ok(Some(Upkeep::OpenNonce { index: opening.index }))
    }

    /// The payments, receivers of tokens found. Every claimed owner must have been needed, unless a call is made of which
    /// the bytes don't say whom it pays.
    pub(super) fn transfers(&mut self) -> Result<Vec<Transfer>, DecodeError> {
        let mut proven = BTreeSet::new();
        let mut transfers = Vec::with_capacity(self.payments.len());
        for payment in &self.payments {
            let (asset, to, amount) = match payment {
                Payment::Lamports { to, amount } => (Asset::Native, *to, *amount),
                Payment::Tokens(transfer) => {
                    let mint = self.mint(transfer)?;
                    let place = TokenPlace { program: transfer.program, mint, account: transfer.destination };
                    let owner = self.owner(&place).ok_or_else(|| {
                        undecodable(format!("nothing proves who owns the token account {}", transfer.destination))
                    })?;
                    proven.insert(owner);
                    (Asset::Spl(mint), owner, transfer.amount)
                }
                Payment::Burnt(burn) => {
                    self.require_own(&burn.source, &burn.mint, burn.program)?;
                    // Nobody has them then; who may burn what is said with the mint as the receiver.
                    (Asset::Spl(burn.mint), burn.mint, burn.amount)
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
        let unproven = self.claimed.iter().copied().filter(|claimed| !proven.contains(claimed));
        let unproven: Vec<Pubkey> = unproven.collect();
        match unproven.first() {
            Some(claimed) if self.explained => {
                Err(undecodable(format!("{claimed} is said to own an account that isn't paid")))
            }
            _ => {
                let payer = self.payer;
                self.names.extend(unproven.into_iter().filter(|claimed| *claimed != payer));
                Ok(transfers)
            }
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

    /// The owner of a token account: the one candidate whose associated account it is.
    fn owner(&self, place: &TokenPlace) -> Option<Pubkey> {
        let candidates = self.created.iter().map(|created| created.owner).chain(self.claimed.iter().copied());
        candidates
            .chain([self.payer])
            .find(|owner| associated_token_account(owner, &place.mint, place.program) == place.account)
    }
}
