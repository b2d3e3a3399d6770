//! Instructions, read strictly. Of the programs that are known here every instruction is either told for what it does or refused;
//! an instruction of any other program is told as the call that it is.

mod lookup;
mod system;
mod token;

use solana_sdk::message::VersionedMessage;
use solana_sdk::message::compiled_instruction::CompiledInstruction;
use solana_sdk::pubkey::Pubkey;

use super::fee::MicroLamports;
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
    /// System program: `TransferWithSeed`.
    TransferWithSeed {
        from: Pubkey,
        base: Pubkey,
        seed: String,
        /// The program that owns the account that pays, from which its address derives.
        owner: Pubkey,
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
    /// Associated token account program: `RecoverNested`.
    RecoverNested(NestedAccount),
    /// A token program: `Transfer`, `TransferChecked` or `TransferCheckedWithFee`.
    TokenTransfer(TokenTransfer),
    /// A token program: `ApproveChecked`.
    Approve(TokenApproval),
    /// A token program: `Burn` or `BurnChecked`.
    Burn(TokenBurn),
    /// A token program: `CloseAccount`.
    Close { to: Pubkey, authority: Pubkey },
    /// It moves nothing and grants nothing: a memo, a heap frame, the end of an allowance. Who has to sign for it, if anybody.
    Harmless { authority: Option<Pubkey> },
    /// Something else, which a rule has to name.
    Other(Other),
}

/// What is known of an instruction that a rule has to name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Other {
    /// Who is given something: an authority, what a closed account leaves.
    pub(super) beneficiaries: Vec<Pubkey>,
    /// Accounts that only the data names.
    pub(super) names: Vec<Pubkey>,
    /// Token accounts that receive.
    pub(super) paid: Vec<TokenPlace>,
    /// The most that it costs in rent, in lamports, where that is known.
    pub(super) rent: u128,
}

/// A token account, and what is kept in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenPlace {
    pub(super) program: TokenProgram,
    pub(super) mint: Pubkey,
    pub(super) account: Pubkey,
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

/// Tokens in an associated account whose owner is an associated account of the wallet's, brought back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NestedAccount {
    pub(super) nested: Pubkey,
    pub(super) nested_mint: Pubkey,
    pub(super) destination: Pubkey,
    pub(super) owner: Pubkey,
    pub(super) owner_mint: Pubkey,
    pub(super) wallet: Pubkey,
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
    /// In the token's base units; a mint with a transfer fee keeps some of it.
    pub(super) amount: u64,
}

/// A right to spend tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenApproval {
    pub(super) program: TokenProgram,
    pub(super) source: Pubkey,
    pub(super) mint: Pubkey,
    pub(super) delegate: Pubkey,
    pub(super) authority: Pubkey,
    /// In the token's base units.
    pub(super) amount: u64,
}

/// Tokens that cease to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenBurn {
    pub(super) program: TokenProgram,
    pub(super) source: Pubkey,
    pub(super) mint: Pubkey,
    pub(super) authority: Pubkey,
    /// In the token's base units.
    pub(super) amount: u64,
}

const REQUEST_HEAP_FRAME: u8 = 1;
const SET_COMPUTE_UNIT_LIMIT: u8 = 2;
const SET_COMPUTE_UNIT_PRICE: u8 = 3;
const SET_LOADED_ACCOUNTS_DATA_SIZE_LIMIT: u8 = 4;

const CREATE: u8 = 0;
const CREATE_IDEMPOTENT: u8 = 1;
const RECOVER_NESTED: u8 = 2;

/// The memo program's two versions (<https://spl.solana.com/memo>).
const MEMO: [Pubkey; 2] = [
    Pubkey::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"),
    Pubkey::from_str_const("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVddwQDxFMNo"),
];

/// Reads instruction `index` of a message whose accounts are `keys`.
pub(super) fn read(keys: &[Pubkey], index: usize, instruction: &CompiledInstruction) -> Result<Step, DecodeError> {
    let (program, accounts) = resolve(keys, index, instruction)?;
    let data = &instruction.data;
    let step = if program == solana_compute_budget_interface::ID {
        compute_budget(&accounts, data)
    } else if program == solana_system_interface::program::ID {
        system::read(&accounts, data)
    } else if program == spl_associated_token_account_interface::program::ID {
        associated_account(&accounts, data)
    } else if program == lookup::ID {
        lookup::read(&accounts, data)
    } else if MEMO.contains(&program) {
        memo(&accounts, data)
    } else if let Some(program) = TokenProgram::from_id(&program) {
        token::read(program, &accounts, data)
    } else {
        Some(Step::Other(Other::default()))
    };
    step.ok_or_else(|| {
        DecodeError::Undecodable(format!("instruction {index}: program {program} has none such that may be signed"))
    })
}

/// The program and the accounts of instruction `index` of a message whose accounts are `keys`.
pub(super) fn resolve(
    keys: &[Pubkey],
    index: usize,
    instruction: &CompiledInstruction,
) -> Result<(Pubkey, Vec<Pubkey>), DecodeError> {
    let key = |at: &u8| {
        let key = keys.get(usize::from(*at)).copied();
        key.ok_or_else(|| {
            DecodeError::Undecodable(format!("instruction {index} names an account outside of the message"))
        })
    };
    Ok((key(&instruction.program_id_index)?, instruction.accounts.iter().map(key).collect::<Result<Vec<_>, _>>()?))
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
    let mut value = Reader(value);
    let step = match *kind {
        SET_COMPUTE_UNIT_LIMIT => Step::UnitLimit(value.u32()?),
        SET_COMPUTE_UNIT_PRICE => Step::UnitPrice(MicroLamports::new(value.u64()?)),
        REQUEST_HEAP_FRAME | SET_LOADED_ACCOUNTS_DATA_SIZE_LIMIT => {
            value.u32()?;
            Step::Harmless { authority: None }
        }
        _ => return None,
    };
    value.end(step)
}

fn associated_account(accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    match (data, accounts) {
        ([] | [CREATE | CREATE_IDEMPOTENT], [payer, account, owner, mint, system, program]) => {
            let program = TokenProgram::from_id(program)?;
            let (payer, account, owner, mint) = (*payer, *account, *owner, *mint);
            let created = NewAccount { payer, account, owner, mint, program };
            (*system == solana_system_interface::program::ID).then_some(Step::CreateAccount(created))
        }
        ([RECOVER_NESTED], [nested, nested_mint, destination, owner, owner_mint, wallet, program]) => {
            Some(Step::RecoverNested(NestedAccount {
                nested: *nested,
                nested_mint: *nested_mint,
                destination: *destination,
                owner: *owner,
                owner_mint: *owner_mint,
                wallet: *wallet,
                program: TokenProgram::from_id(program)?,
            }))
        }
        _ => None,
    }
}

/// Text, for which every account that it names signs.
fn memo(accounts: &[Pubkey], data: &[u8]) -> Option<Step> {
    str::from_utf8(data).ok()?;
    match accounts {
        [] => Some(Step::Harmless { authority: None }),
        [authority] => Some(Step::Harmless { authority: Some(*authority) }),
        _ => None,
    }
}

/// What is left to be read of an instruction's data; numbers are little-endian.
struct Reader<'d>(&'d [u8]);

impl Reader<'_> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn u8(&mut self) -> Option<u8> {
        self.chunk::<1>().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    fn key(&mut self) -> Option<Pubkey> {
        self.chunk().map(Pubkey::new_from_array)
    }

    /// A key behind a mark that says whether it is there: one byte, 0 or 1.
    fn optional_key(&mut self) -> Option<Option<Pubkey>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.key().map(Some),
            _ => None,
        }
    }

    /// Text behind its length.
    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    /// The value, if nothing is left.
    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}
