//! Instructions, read strictly: what isn't listed here can't be decoded and so is never signed.

use solana_sdk::message::VersionedMessage;
use solana_sdk::message::compiled_instruction::CompiledInstruction;
use solana_sdk::pubkey::Pubkey;

use super::fee::MicroLamports;
use super::nonce::ADVANCE;
use super::token::TokenProgram;
use crate::chain::DecodeError;

/// One instruction, its accounts resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Compute budget: `SetComputeUnitLimit`.
    UnitLimit(u32),
    /// Compute budget: `SetComputeUnitPrice`.
    UnitPrice(MicroLamports),
    /// System program: `Transfer`.
    Transfer {
        from: Pubkey,
        to: Pubkey,
        /// In lamports.
        amount: u64,
    },
    /// System program: `AdvanceNonceAccount`.
    AdvanceNonce { account: Pubkey, authority: Pubkey },
    /// System program: `CreateAccountWithSeed`.
    CreateWithSeed(SeededAccount),
    /// System program: `InitializeNonceAccount`.
    InitializeNonce { account: Pubkey, authority: Pubkey },
    /// Associated token account program: `Create` or `CreateIdempotent`.
    CreateAccount(NewAccount),
    /// A token program: `Transfer` or `TransferChecked`.
    TokenTransfer(TokenTransfer),
}

/// A token account that is created unless it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewAccount {
    pub(super) payer: Pubkey,
    pub(super) account: Pubkey,
    pub(super) owner: Pubkey,
    pub(super) mint: Pubkey,
    pub(super) program: TokenProgram,
}

/// An account that is created at an address which derives from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeededAccount {
    pub(super) payer: Pubkey,
    pub(super) account: Pubkey,
    pub(super) base: Pubkey,
    pub(super) seed: String,
    pub(super) lamports: u64,
    /// The length of its data, in bytes.
    pub(super) space: u64,
    /// The program that owns it.
    pub(super) owner: Pubkey,
}

/// Tokens that move from one token account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenTransfer {
    pub(super) program: TokenProgram,
    pub(super) source: Pubkey,
    /// `Transfer` doesn't name it.
    pub(super) mint: Option<Pubkey>,
    pub(super) destination: Pubkey,
    pub(super) authority: Pubkey,
    /// In the token's base units.
    pub(super) amount: u64,
}

const SET_COMPUTE_UNIT_LIMIT: u8 = 2;
const SET_COMPUTE_UNIT_PRICE: u8 = 3;
/// The sysvars that the system program wants to see with nonces.
const RECENT_BLOCKHASHES: Pubkey = Pubkey::from_str_const("SysvarRecentB1ockHashes11111111111111111111");
const RENT: Pubkey = Pubkey::from_str_const("SysvarRent111111111111111111111111111111111");

// `SystemInstruction` in bincode.
const SYSTEM_TRANSFER: [u8; 4] = [2, 0, 0, 0];
const CREATE_WITH_SEED: [u8; 4] = [3, 0, 0, 0];
const INITIALIZE_NONCE: [u8; 4] = [6, 0, 0, 0];
const CREATE: u8 = 0;
const CREATE_IDEMPOTENT: u8 = 1;
const TRANSFER: u8 = 3;
const TRANSFER_CHECKED: u8 = 12;

/// Reads instruction `index` of `message`.
pub(super) fn read(
    message: &VersionedMessage,
    index: usize,
    instruction: &CompiledInstruction,
) -> Result<Step, DecodeError> {
    let key = |at: &u8| {
        let key = message.static_account_keys().get(usize::from(*at)).copied();
        key.ok_or_else(|| {
            DecodeError::Undecodable(format!("instruction {index} names an account outside of the message"))
        })
    };
    let program = key(&instruction.program_id_index)?;
    let accounts = instruction.accounts.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let step = if program == solana_compute_budget_interface::ID {
        compute_budget(&accounts, &instruction.data)
    } else if program == solana_system_interface::program::ID {
        system(&accounts, &instruction.data)
    } else if program == spl_associated_token_account_interface::program::ID {
        associated_account(&accounts, &instruction.data)
    } else {
        TokenProgram::from_id(&program).and_then(|program| token(program, &accounts, &instruction.data))
    };
    step.ok_or_else(|| DecodeError::Undecodable(format!("instruction {index} of program {program} is not known")))
}

/// The price of a compute unit that the message offers.
pub(super) fn unit_price(message: &VersionedMessage) -> MicroLamports {
    budget(message)
        .find_map(|step| if let Step::UnitPrice(price) = step { Some(price) } else { None })
        .unwrap_or_default()
}

/// The compute units that the message is limited to, where it says so.
pub(super) fn unit_limit(message: &VersionedMessage) -> Option<u32> {
    budget(message).find_map(|step| if let Step::UnitLimit(limit) = step { Some(limit) } else { None })
}

fn budget(message: &VersionedMessage) -> impl Iterator<Item = Step> {
    let keys = message.static_account_keys();
    let own = |at: u8| keys.get(usize::from(at)) == Some(&solana_compute_budget_interface::ID);
    let instructions = message.instructions().iter().filter(move |instruction| own(instruction.program_id_index));
    instructions.filter_map(|instruction| compute_budget(&[], &instruction.data))
}

fn compute_budget(accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    let ([], [kind, value @ ..]) = (accounts, data) else { return None };
    match *kind {
        SET_COMPUTE_UNIT_LIMIT => Some(Step::UnitLimit(u32::from_le_bytes(value.try_into().ok()?))),
        SET_COMPUTE_UNIT_PRICE => {
            let price = u64::from_le_bytes(value.try_into().ok()?);
            Some(Step::UnitPrice(MicroLamports::new(price)))
        }
        _ => None,
    }
}

fn system(accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    let (kind, rest) = data.split_first_chunk::<4>()?;
    match (*kind, accounts, rest) {
        (SYSTEM_TRANSFER, [from, to], amount) => {
            Some(Step::Transfer { from: *from, to: *to, amount: u64::from_le_bytes(amount.try_into().ok()?) })
        }
        (ADVANCE, [account, RECENT_BLOCKHASHES, authority], []) => {
            Some(Step::AdvanceNonce { account: *account, authority: *authority })
        }
        (CREATE_WITH_SEED, [payer, account], rest) => Some(Step::CreateWithSeed(seeded(*payer, *account, rest)?)),
        (INITIALIZE_NONCE, [account, RECENT_BLOCKHASHES, RENT], authority) => {
            let authority = Pubkey::new_from_array(authority.try_into().ok()?);
            Some(Step::InitializeNonce { account: *account, authority })
        }
        _ => None,
    }
}

/// Base, seed behind its length, lamports, space, owner.
fn seeded(payer: Pubkey, account: Pubkey, data: &[u8]) -> Option<SeededAccount> {
    let (base, rest) = data.split_first_chunk::<32>()?;
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let (seed, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    let (lamports, rest) = rest.split_first_chunk::<8>()?;
    let (space, owner) = rest.split_first_chunk::<8>()?;
    Some(SeededAccount {
        payer,
        account,
        base: Pubkey::new_from_array(*base),
        seed: String::from_utf8(seed.to_vec()).ok()?,
        lamports: u64::from_le_bytes(*lamports),
        space: u64::from_le_bytes(*space),
        owner: Pubkey::new_from_array(owner.try_into().ok()?),
    })
}

fn associated_account(accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    if !matches!(data, [] | [CREATE | CREATE_IDEMPOTENT]) {
        return None;
    }
    let [payer, account, owner, mint, system, program] = *accounts else { return None };
    let program = TokenProgram::from_id(&program)?;
    let created = NewAccount { payer, account, owner, mint, program };
    (system == solana_system_interface::program::ID).then_some(Step::CreateAccount(created))
}

fn token(program: TokenProgram, accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    let (kind, value) = data.split_first()?;
    let (amount, rest) = value.split_first_chunk::<8>()?;
    let amount = u64::from_le_bytes(*amount);
    let (source, mint, destination, authority) = match (*kind, accounts, rest) {
        (TRANSFER, [source, destination, authority], []) => (source, None, destination, authority),
        (TRANSFER_CHECKED, [source, mint, destination, authority], [_decimals]) => {
            (source, Some(*mint), destination, authority)
        }
        _ => return None,
    };
    Some(Step::TokenTransfer(TokenTransfer {
        program,
        source: *source,
        mint,
        destination: *destination,
        authority: *authority,
        amount,
    }))
}
