//! The two token programs: their mints, token accounts and associated addresses.

use solana_program_pack::Pack;
use solana_sdk::pubkey::Pubkey;
use spl_associated_token_account_interface::address::get_associated_token_address_with_program_id;
use spl_token_interface::state::{Account as PackedAccount, AccountState, Mint as PackedMint, Multisig};

/// A program that keeps tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenProgram {
    /// SPL Token, `TokenkegQ…`.
    Token,
    /// Token-2022, also called Token Extensions, `TokenzQd…`.
    Token2022,
}

impl TokenProgram {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Token, Self::Token2022];

    /// The program's address.
    pub const fn id(self) -> Pubkey {
        match self {
            Self::Token => spl_token_interface::ID,
            Self::Token2022 => TOKEN_2022,
        }
    }

    /// The program with this address, if it is one of the two.
    pub fn from_id(id: &Pubkey) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.id() == *id)
    }

    /// The longest token account that the associated token account program creates, in bytes. Token-2022 adds an account
    /// type, the immutable-owner mark, and what the mint's extensions ask for: transfer fee (8 bytes), transfer hook (1),
    /// non-transferable and pausable marks (0), each behind a 4-byte header.
    pub(super) const fn max_account_len(self) -> u128 {
        match self {
            Self::Token => 165,
            Self::Token2022 => 165 + 1 + 5 * 4 + 8 + 1,
        }
    }
}

const TOKEN_2022: Pubkey = Pubkey::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// The associated token account of `owner` for `mint`: a program-derived address
/// (<https://spl.solana.com/associated-token-account>).
pub fn associated_token_account(owner: &Pubkey, mint: &Pubkey, program: TokenProgram) -> Pubkey {
    get_associated_token_address_with_program_id(owner, mint, &program.id())
}

/// What is read of a mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mint {
    pub(super) program: TokenProgram,
    pub(super) decimals: u8,
    /// How long a holder's associated token account is, in bytes.
    pub(super) account_len: usize,
}

/// Why an account is no mint whose token can be transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MintError {
    /// No initialized mint of a token program.
    NotAMint,
    /// It has an extension under which a plain transfer doesn't do what it says, or one that isn't known.
    Extension,
}

/// What is read of a token account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenAccount {
    pub(super) mint: Pubkey,
    pub(super) owner: Pubkey,
    /// In the token's base units.
    pub(super) amount: u64,
    pub(super) frozen: bool,
}

/// The length of a token account without extensions, in bytes.
pub(super) const ACCOUNT_LEN: usize = PackedAccount::LEN;

const MINT_TYPE: u8 = 1;
const ACCOUNT_TYPE: u8 = 2;

/// Extensions under which a `TransferChecked` still moves exactly its amount, by the number that
/// `spl_token_2022::extension::ExtensionType` gives them. Left out on purpose: transfer fee (1, 16), non-transferable
/// (9), transfer hook (14), and whatever is not listed.
const HARMLESS_EXTENSIONS: [u16; 13] = [
    3,  // mint close authority
    4,  // confidential transfer mint
    6,  // default account state: a frozen account is seen in the simulation
    10, // interest-bearing: changes what is displayed
    12, // permanent delegate
    18, // metadata pointer
    19, // token metadata
    20, // group pointer
    21, // token group
    22, // group member pointer
    23, // token group member
    25, // scaled display amount
    PAUSABLE,
];

const PAUSABLE: u16 = 26;

/// Reads an account as a mint; `owner` is the program that owns it.
pub(super) fn parse_mint(owner: &Pubkey, data: &[u8]) -> Result<Mint, MintError> {
    let program = TokenProgram::from_id(owner).ok_or(MintError::NotAMint)?;
    let (base, extensions) = split(program, data, PackedMint::LEN, MINT_TYPE).ok_or(MintError::NotAMint)?;
    let mint = PackedMint::unpack(base).map_err(|_| MintError::NotAMint)?;
    let extensions = extension_types(extensions).ok_or(MintError::NotAMint)?;
    if !extensions.iter().all(|extension| HARMLESS_EXTENSIONS.contains(extension)) {
        return Err(MintError::Extension);
    }
    let account_len = match program {
        TokenProgram::Token => PackedAccount::LEN,
        // Account type and the immutable-owner mark, and a mark for a pausable mint.
        TokenProgram::Token2022 if extensions.contains(&PAUSABLE) => PackedAccount::LEN + 1 + 4 + 4,
        TokenProgram::Token2022 => PackedAccount::LEN + 1 + 4,
    };
    Ok(Mint { program, decimals: mint.decimals, account_len })
}

/// Reads an account as a token account; `owner` is the program that owns it.
pub(super) fn parse_token_account(owner: &Pubkey, data: &[u8]) -> Option<TokenAccount> {
    let program = TokenProgram::from_id(owner)?;
    let (base, _) = split(program, data, PackedAccount::LEN, ACCOUNT_TYPE)?;
    let account = PackedAccount::unpack(base).ok()?;
    Some(TokenAccount {
        mint: account.mint,
        owner: account.owner,
        amount: account.amount,
        frozen: account.state == AccountState::Frozen,
    })
}

/// Parts the base state of `len` bytes from its extensions. In Token-2022 an extended account has its type at byte 165,
/// with zeros between a mint and that byte, and never the length of a multisig.
fn split(program: TokenProgram, data: &[u8], len: usize, account_type: u8) -> Option<(&[u8], &[u8])> {
    let (base, rest) = data.split_at_checked(len)?;
    if rest.is_empty() {
        return Some((base, rest));
    }
    if program == TokenProgram::Token || data.len() == Multisig::LEN {
        return None;
    }
    let (padding, rest) = rest.split_at_checked(PackedAccount::LEN.checked_sub(len)?)?;
    let (kind, extensions) = rest.split_first()?;
    (*kind == account_type && padding.iter().all(|byte| *byte == 0)).then_some((base, extensions))
}

/// The types in a list of extensions: each is a type and a length, two bytes little-endian each, and its value. Type 0
/// ends the list.
fn extension_types(mut rest: &[u8]) -> Option<Vec<u16>> {
    let mut types = Vec::new();
    while let Some((kind, after)) = rest.split_first_chunk::<2>() {
        let kind = u16::from_le_bytes(*kind);
        if kind == 0 {
            return Some(types);
        }
        let (len, after) = after.split_first_chunk::<2>()?;
        let (_, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        types.push(kind);
        rest = after;
    }
    rest.is_empty().then_some(types)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const VECTORS: &str = include_str!("../../../tests/vectors/solana-ata.json");

    fn key(value: &Value) -> Pubkey {
        value.as_str().expect("a string").parse().expect("an address")
    }

    #[test]
    fn associated_accounts_of_other_implementations() {
        let vectors: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
        let rows = vectors["accounts"].as_array().expect("rows");
        assert!(rows.len() >= 7);
        for row in rows {
            let program = if row["program"] == "Token" { TokenProgram::Token } else { TokenProgram::Token2022 };
            let account = associated_token_account(&key(&row["owner"]), &key(&row["mint"]), program);
            assert_eq!(account, key(&row["account"]));
        }
    }

    fn mint(decimals: u8) -> Vec<u8> {
        let mut data = vec![0; PackedMint::LEN];
        let packed = PackedMint { decimals, is_initialized: true, ..PackedMint::default() };
        PackedMint::pack(packed, &mut data).expect("82 bytes hold a mint");
        data
    }

    fn extended(decimals: u8, extensions: &[(u16, usize)]) -> Vec<u8> {
        let mut data = mint(decimals);
        data.resize(PackedAccount::LEN, 0);
        data.push(MINT_TYPE);
        for (kind, len) in extensions {
            data.extend(kind.to_le_bytes());
            data.extend(u16::try_from(*len).expect("short").to_le_bytes());
            data.resize(data.len() + len, 7);
        }
        data
    }

    #[test]
    fn mints_are_read_strictly() {
        let (token, token_2022) = (TokenProgram::Token.id(), TokenProgram::Token2022.id());
        let plain = parse_mint(&token, &mint(6)).expect("a mint");
        assert_eq!((plain.program, plain.decimals, plain.account_len), (TokenProgram::Token, 6, 165));
        assert_eq!(parse_mint(&token_2022, &mint(9)).map(|m| m.account_len), Ok(170));
        assert_eq!(parse_mint(&token_2022, &extended(9, &[(18, 64), (19, 100)])).map(|m| m.account_len), Ok(170));
        assert_eq!(parse_mint(&token_2022, &extended(9, &[(PAUSABLE, 33)])).map(|m| m.account_len), Ok(174));

        for refused in [1, 9, 14, 16, 99] {
            let data = extended(9, &[(18, 64), (refused, 8)]);
            assert_eq!(parse_mint(&token_2022, &data), Err(MintError::Extension), "{refused}");
        }
        let cases: [(&Pubkey, Vec<u8>); 8] = [
            (&Pubkey::default(), mint(6)),
            (&token, Vec::new()),
            (&token, vec![0; 82]),
            (&token, mint(6).into_iter().chain([0]).collect()),
            (&token, vec![1; 165]),
            (&token_2022, vec![1; 355]),
            (&token_2022, extended(6, &[(18, 64)])[..200].to_vec()),
            (&token_2022, extended(6, &[(18, 64)]).into_iter().chain([3]).collect()),
        ];
        for (owner, data) in cases {
            assert_eq!(parse_mint(owner, &data), Err(MintError::NotAMint), "{} bytes", data.len());
        }
    }

    #[test]
    fn a_mint_is_no_token_account_and_the_other_way_round() {
        let token = TokenProgram::Token.id();
        let mut data = vec![0; PackedAccount::LEN];
        let packed = PackedAccount {
            mint: Pubkey::new_from_array([1; 32]),
            owner: Pubkey::new_from_array([2; 32]),
            amount: 3,
            state: AccountState::Frozen,
            ..PackedAccount::default()
        };
        PackedAccount::pack(packed, &mut data).expect("165 bytes hold a token account");
        let account = parse_token_account(&token, &data).expect("a token account");
        assert_eq!((account.mint, account.owner, account.amount, account.frozen), (packed.mint, packed.owner, 3, true));
        assert_eq!(parse_mint(&token, &data), Err(MintError::NotAMint));
        assert_eq!(parse_token_account(&token, &mint(6)), None);
        assert_eq!(parse_token_account(&TokenProgram::Token2022.id(), &extended(6, &[])), None);
        assert_eq!(parse_token_account(&Pubkey::default(), &data), None);
    }
}
