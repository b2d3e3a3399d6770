//! From an intent and the cluster's state to a message.

use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::instruction::{AccountMeta, Instruction};
use solana_sdk::message::{AddressLookupTableAccount, Message, VersionedMessage, v0};
use solana_sdk::pubkey::Pubkey;
use spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent;
use spl_token_interface::instruction::TokenInstruction;

use super::address;
use super::effects;
use super::fee::{self, ComputeBudget, Lamports, MAX_COMPUTE_UNITS};
use super::nonce::{self, NONCE_ACCOUNTS, Validity, nonce_account};
use super::table::{TableAccount, TableError};
use super::token::{TokenProgram, associated_token_account};
use super::wire::Unsigned;
use crate::account::Account;
use crate::address::{Address, UncheckedAddress};
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::BuildError;
use crate::intent::{Action, Intent, ProgramInstruction};
use crate::network::{Cluster, Network};

/// What a cluster says that a message is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// How long the message will be valid.
    pub validity: Validity,
    /// What the account has.
    pub balance: Lamports,
    /// The least that an account without data must keep.
    pub rent_exempt_minimum: Lamports,
    /// The account that receives; for an SPL token, its owner. Where a nonce account is opened: what is there yet.
    pub destination: Destination,
    /// The token, where the intent moves one.
    pub token: Option<TokenState>,
    /// Owners of token accounts that the intent's instructions name, other than the wallet, so that they are screened.
    pub owners: Vec<Pubkey>,
    /// The accounts of the lookup tables that the intent names, in its order.
    pub tables: Vec<TableAccount>,
    /// What a durable nonce account must keep to exist, where the intent opens one.
    pub nonce_rent: Option<Lamports>,
    /// What the message may compute and what it offers for that.
    pub compute: ComputeBudget,
    /// Which kind of message is built.
    pub version: MessageVersion,
}

/// The account that receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What it has.
    pub lamports: Lamports,
    /// What it is.
    pub kind: DestinationKind,
}

/// What an account is, as far as a payment to it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// It doesn't exist.
    Absent,
    /// Owned by the system program.
    Wallet,
    /// A token account.
    TokenAccount,
    /// A token's mint.
    Mint,
    /// A program.
    Program,
    /// An account that some other program owns.
    Other,
}

/// What is known of a token and of the two token accounts between which it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// The token's mint.
    pub mint: Pubkey,
    /// The program that keeps it.
    pub program: TokenProgram,
    /// How many decimals it has.
    pub decimals: u8,
    /// What the account's own associated token account holds, in the token's base units; 0 where there is none.
    pub source_balance: u64,
    /// Whether the destination's associated token account exists (and belongs to the destination).
    pub destination_exists: bool,
    /// What a token account must keep to exist.
    pub account_rent: Lamports,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageVersion {
    /// The original one.
    Legacy,
    /// With a version byte, and lookup tables where the intent names them.
    #[default]
    V0,
}

/// A transfer whose words have been checked: who pays how much of what to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) payer: Pubkey,
    pub(super) to: Pubkey,
    pub(super) amount: u64,
    /// The mint, where it moves a token.
    pub(super) mint: Option<Pubkey>,
}

impl Order {
    /// Reads the intent, as far as that is possible without the state.
    pub(super) fn read(cluster: Cluster, intent: &Intent, account: &Account) -> Result<Self, BuildError> {
        let network = Network::Solana(cluster);
        let payer = payer(cluster, account)?;
        let Action::Transfer { asset, to, amount } = &intent.action else {
            return Err(BuildError::Unsupported("Solana takes transfers, calls of programs, and opens durable nonces"));
        };
        let mint = match asset {
            Asset::Native => None,
            Asset::Spl(mint) => Some(*mint),
            Asset::Erc20(_) => return Err(BuildError::WrongAsset { asset: *asset, network }),
        };
        if amount.is_zero() {
            return Err(BuildError::ZeroAmount);
        }
        let amount = amount.to_u64().ok_or(BuildError::Overflow("64 bits of base units"))?;
        let Address::Solana(to) = to.require_network(network)? else {
            return Err(BuildError::Unsupported("a destination of another chain"));
        };
        Ok(Self { payer, to, amount, mint })
    }
}

/// The account's address, which pays for everything.
pub(super) fn payer(cluster: Cluster, account: &Account) -> Result<Pubkey, BuildError> {
    address::of_account(account, cluster).ok_or(BuildError::WrongAccount(Network::Solana(cluster)))
}

/// Builds the message that does what the intent says.
pub(super) fn build(
    cluster: Cluster,
    intent: &Intent,
    account: &Account,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let payer = payer(cluster, account)?;
    let plan = if let Action::OpenNonce { index } = intent.action {
        open_nonce(&payer, index, state)?
    } else if let Action::CallProgram { instructions, lookup_tables } = &intent.action {
        return call_programs(cluster, intent, account, instructions, lookup_tables, state);
    } else {
        let order = Order::read(cluster, intent, account)?;
        require_payable(state.destination.kind)?;
        match order.mint {
            None => sol(&order, state)?,
            Some(mint) => spl(&order, state, mint)?,
        }
    };
    plan.compile(cluster, &payer, intent.max_fee, state)
}

/// Builds the message that does nothing but use up its nonce.
pub(super) fn cancel(
    cluster: Cluster,
    intent: &Intent,
    account: &Account,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let nothing = Plan::default();
    nothing.compile(cluster, &payer(cluster, account)?, intent.max_fee, state)
}

/// What a message does, beside its fee.
#[derive(Default)]
struct Plan {
    instructions: Vec<Instruction>,
    /// Lamports that leave the account with it.
    spent: u128,
    /// The most of them that are rent, which counts as fee.
    rent: u128,
    /// Owners of paid token accounts that the message doesn't name.
    owners: Vec<Pubkey>,
    /// The lookup tables that it reads, each with its entries.
    tables: Vec<(TableAccount, Vec<Pubkey>)>,
}

impl Plan {
    fn compile(
        self,
        cluster: Cluster,
        payer: &Pubkey,
        cap: Option<Amount>,
        state: &State,
    ) -> Result<Unsigned, BuildError> {
        if state.compute.unit_limit > MAX_COMPUTE_UNITS {
            return Err(BuildError::Unsupported("a compute unit limit above 1,400,000"));
        }
        self.require_fee_below(cap, state)?;
        self.require_lamports(state)?;

        let mut instructions = Vec::with_capacity(self.instructions.len() + 3);
        if let Validity::Nonce(nonce) = &state.validity {
            instructions.push(solana_system_interface::instruction::advance_nonce_account(&nonce.account, payer));
        }
        instructions.push(ComputeBudgetInstruction::set_compute_unit_limit(state.compute.unit_limit));
        instructions.push(ComputeBudgetInstruction::set_compute_unit_price(state.compute.unit_price.get()));
        instructions.extend(self.instructions);
        let hash = state.validity.hash();
        let (accounts, tables): (Vec<TableAccount>, Vec<_>) = self
            .tables
            .into_iter()
            .map(|(account, addresses)| {
                (account.clone(), AddressLookupTableAccount { key: account.address, addresses })
            })
            .unzip();
        let message = match state.version {
            MessageVersion::Legacy if !tables.is_empty() => {
                return Err(BuildError::Unsupported("lookup tables in a legacy message; build v0"));
            }
            MessageVersion::Legacy => {
                VersionedMessage::Legacy(Message::new_with_blockhash(&instructions, Some(payer), &hash))
            }
            MessageVersion::V0 => v0::Message::try_compile(payer, &instructions, &tables, hash)
                .map(VersionedMessage::V0)
                .map_err(|_| BuildError::Unsupported("more accounts than a message holds"))?,
        };
        // What no account is found in, the compiler leaves out.
        if message.address_table_lookups().map_or(0, <[_]>::len) != accounts.len() {
            return Err(BuildError::Unsupported("a lookup table that no account is read from; leave it out"));
        }
        let unsigned = match &state.validity {
            Validity::Blockhash { last_valid_block_height, .. } => {
                Unsigned::new(cluster, message, *last_valid_block_height, self.owners)
            }
            Validity::Nonce(nonce) => Unsigned::durable(cluster, message, nonce.origin, nonce.seen_at, self.owners),
        };
        unsigned
            .and_then(|unsigned| unsigned.with_tables(accounts))
            .map_err(|_| BuildError::Unsupported("a message that the cluster wouldn't take"))
    }

    fn require_fee_below(&self, cap: Option<Amount>, state: &State) -> Result<(), BuildError> {
        let fee = fee::amount(state.compute.fee(1) + self.rent);
        match cap {
            Some(cap) if fee > cap => Err(BuildError::FeeAboveCap { fee, cap }),
            _ => Ok(()),
        }
    }

    /// The account must afford it all and be left with nothing or with the rent-exempt minimum: the cluster refuses what
    /// lies between.
    fn require_lamports(&self, state: &State) -> Result<(), BuildError> {
        let needed = self.spent + state.compute.fee(1);
        let available = u128::from(state.balance.get());
        let minimum = u128::from(state.rent_exempt_minimum.get());
        let short = |needed| BuildError::InsufficientFunds {
            asset: Asset::Native,
            needed: fee::amount(needed),
            available: state.balance.into(),
        };
        match available.checked_sub(needed) {
            None => Err(short(needed)),
            Some(rest) if rest > 0 && rest < minimum => Err(short(needed + minimum)),
            Some(_) => Ok(()),
        }
    }
}

fn require_payable(kind: DestinationKind) -> Result<(), BuildError> {
    match kind {
        DestinationKind::Absent | DestinationKind::Wallet | DestinationKind::Other => Ok(()),
        DestinationKind::TokenAccount => {
            Err(BuildError::Unsupported("the destination is a token account; name its owner"))
        }
        DestinationKind::Mint => Err(BuildError::Unsupported("the destination is a token's mint; name a wallet")),
        DestinationKind::Program => Err(BuildError::Unsupported("the destination is a program; name a wallet")),
    }
}

fn sol(order: &Order, state: &State) -> Result<Plan, BuildError> {
    // An account is kept only with the rent-exempt minimum; what it has already counts.
    let minimum = state.rent_exempt_minimum.get().saturating_sub(state.destination.lamports.get());
    if order.to != order.payer && order.amount < minimum {
        return Err(BuildError::Dust { minimum: Amount::from_lamports(minimum) });
    }
    let transfer = solana_system_interface::instruction::transfer(&order.payer, &order.to, order.amount);
    Ok(Plan { instructions: vec![transfer], spent: order.amount.into(), ..Plan::default() })
}

/// Creates the wallet's nonce account and makes the wallet its authority, in one message: between two, anybody could
/// initialize it.
fn open_nonce(payer: &Pubkey, index: u8, state: &State) -> Result<Plan, BuildError> {
    if index >= NONCE_ACCOUNTS {
        return Err(BuildError::Unsupported("a nonce account beyond index 7"));
    }
    if !matches!(state.validity, Validity::Blockhash { .. }) {
        return Err(BuildError::Unsupported("opening a nonce under a nonce; the state must have a blockhash"));
    }
    // The system program creates no account where there are lamports.
    if state.destination.kind != DestinationKind::Absent || state.destination.lamports.get() > 0 {
        return Err(BuildError::Unsupported("a nonce account that is there already; use it, or open another index"));
    }
    let rent = state.nonce_rent.ok_or(BuildError::Unsupported("the state doesn't tell of the rent; read it anew"))?;
    if u128::from(rent.get()) > fee::max_nonce_account_rent() {
        return Err(BuildError::Unsupported("a cluster whose rent is above the protocol's default"));
    }
    let instructions = solana_system_interface::instruction::create_nonce_account_with_seed(
        payer,
        &nonce_account(payer, index),
        payer,
        &nonce::seed(index),
        payer,
        rent.get(),
    );
    Ok(Plan { instructions, spent: rent.get().into(), rent: rent.get().into(), ..Plan::default() })
}

/// The intent's instructions as they are. What they cost and whether they are understood shows in their effects; what they
/// move, in the node's own try of them.
fn call_programs(
    cluster: Cluster,
    intent: &Intent,
    account: &Account,
    instructions: &[ProgramInstruction],
    lookup_tables: &[UncheckedAddress],
    state: &State,
) -> Result<Unsigned, BuildError> {
    let payer = payer(cluster, account)?;
    let instructions = read_instructions(cluster, &payer, instructions)?;
    let mut tables = Vec::with_capacity(lookup_tables.len());
    for table in read_keys(cluster, lookup_tables)? {
        let found = state.tables.iter().find(|found| found.address == table).ok_or(TableError::Missing { table })?;
        tables.push((found.clone(), found.entries()?));
    }
    let plan = Plan { instructions, owners: state.owners.clone(), tables, ..Plan::default() };
    let unsigned = plan.compile(cluster, &payer, intent.max_fee, state)?;
    let effects = effects::effects(cluster, account, &unsigned);
    let effects = effects.map_err(|_| BuildError::Unsupported("instructions whose effects can't be told"))?;
    if effects.programs.is_empty() {
        return Err(BuildError::Unsupported("instructions that only pay; use a transfer"));
    }
    match intent.max_fee {
        Some(cap) if effects.max_fee > cap => Err(BuildError::FeeAboveCap { fee: effects.max_fee, cap }),
        _ => Ok(unsigned),
    }
}

/// Addresses of the intent, read.
pub(super) fn read_keys(cluster: Cluster, texts: &[UncheckedAddress]) -> Result<Vec<Pubkey>, BuildError> {
    texts.iter().map(|text| read_key(cluster, text)).collect()
}

fn read_key(cluster: Cluster, text: &UncheckedAddress) -> Result<Pubkey, BuildError> {
    let network = Network::Solana(cluster);
    match text.require_network(network)? {
        Address::Solana(key) => Ok(key),
        _ => Err(BuildError::WrongAccount(network)),
    }
}

/// The intent's instructions, every address in them read.
pub(super) fn read_instructions(
    cluster: Cluster,
    payer: &Pubkey,
    instructions: &[ProgramInstruction],
) -> Result<Vec<Instruction>, BuildError> {
    let key = |text: &UncheckedAddress| read_key(cluster, text);
    let read = |instruction: &ProgramInstruction| {
        let accounts = instruction.accounts.iter().map(|account| {
            let pubkey = key(&account.address)?;
            Ok(AccountMeta { pubkey, is_signer: pubkey == *payer, is_writable: account.writable })
        });
        Ok(Instruction {
            program_id: key(&instruction.program)?,
            accounts: accounts.collect::<Result<_, BuildError>>()?,
            data: instruction.data.to_vec(),
        })
    };
    instructions.iter().map(read).collect()
}

fn spl(order: &Order, state: &State, mint: Pubkey) -> Result<Plan, BuildError> {
    let token = state.token.filter(|token| token.mint == mint);
    let token = token.ok_or(BuildError::Unsupported("the state doesn't tell of the token; read it anew"))?;
    if order.amount > token.source_balance {
        return Err(BuildError::InsufficientFunds {
            asset: Asset::Spl(mint),
            needed: Amount::from_lamports(order.amount),
            available: Amount::from_lamports(token.source_balance),
        });
    }
    let rent = u128::from(token.account_rent.get());
    let most = fee::max_token_account_rent(token.program);
    if rent > most {
        return Err(BuildError::Unsupported("a cluster whose rent is above the protocol's default"));
    }
    let destination = associated_token_account(&order.to, &mint, token.program);
    let transfer = transfer_checked(order, &token, destination);
    if token.destination_exists {
        return Ok(Plan { instructions: vec![transfer], owners: vec![order.to], ..Plan::default() });
    }
    let create = create_associated_token_account_idempotent(&order.payer, &order.to, &mint, &token.program.id());
    Ok(Plan { instructions: vec![create, transfer], spent: rent, rent: most, ..Plan::default() })
}

/// `TransferChecked`, which both token programs know by the same number and accounts.
fn transfer_checked(order: &Order, token: &TokenState, destination: Pubkey) -> Instruction {
    let source = associated_token_account(&order.payer, &token.mint, token.program);
    Instruction {
        program_id: token.program.id(),
        accounts: vec![
            AccountMeta::new(source, false),
            AccountMeta::new_readonly(token.mint, false),
            AccountMeta::new(destination, false),
            AccountMeta::new_readonly(order.payer, true),
        ],
        data: TokenInstruction::TransferChecked { amount: order.amount, decimals: token.decimals }.pack(),
    }
}
