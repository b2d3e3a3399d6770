//! Which instructions of Solana programs a rule is for.
//!
//! ```toml
//! [[policy.rules.programs]]
//! address = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4"
//! discriminators = ["0xe517cb977ae3ad2a"]
//! accounts = [
//!     { at = 1, wallet = true },
//!     { at = 2, wallet_token = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v" },
//!     { at = 5, one_of = ["D8cy77BBepLMngZx6ZukaTff5hCt1HrWyKk3Hnd9oitf"] },
//! ]
//! other_accounts = true
//! ```
//!
//! Such an instruction has the wallet's signature: what the program does with it, nobody reads from the bytes. So accounts that
//! the rule doesn't mention are refused unless it says that any others may be there. A rule that denies is for an instruction with
//! whatever others: one more account makes it no other instruction.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chains::account::Account;
use chains::address::{Address, UncheckedAddress};
use chains::effects::{AccountUse, ProgramCall};
use chains::network::{Family, Network};
use chains::solana::{TokenProgram, associated_token_account};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How the data of an instruction begins, 1 to 16 bytes: what tells it from the program's other instructions. Anchor's programs
/// take 8, the token programs 1, the system program 4.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Discriminator(Vec<u8>);

/// A string that is no discriminator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no discriminator; write 0x and 2 to 32 hexadecimal digits")]
pub struct DiscriminatorError(String);

/// The longest discriminator, in bytes.
const MAX_LEN: usize = 16;
/// How much of an unknown instruction's data stands for its discriminator, in bytes.
const SHOWN: usize = 8;
/// The most accounts that an instruction can get.
const MAX_ACCOUNTS: u16 = 256;
/// How many instructions are made of one program's rules at most.
const MAX_EXAMPLES: usize = 100_000;

/// Instructions of one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramConfig {
    /// The program.
    pub address: UncheckedAddress,
    /// Its instructions, by how their data begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discriminators: Vec<Discriminator>,
    /// An Anchor IDL to look instructions up in; read where the configuration is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idl_file: Option<String>,
    /// Its instructions, by their names in the IDL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
    /// What must be true of the accounts, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountConfig>,
    /// Whether there may be accounts that aren't mentioned. For a rule that denies, there always may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_accounts: bool,
}

/// What must be true of one account: one of `one_of`, `wallet` and `wallet_token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// Its place, from 0 on.
    pub at: u16,
    /// It is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<UncheckedAddress>,
    /// It is the wallet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wallet: bool,
    /// It is the wallet's associated token account for this mint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_token: Option<UncheckedAddress>,
}

/// One instruction of a program, and the accounts that it may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ProgramForm {
    pub(super) discriminator: Discriminator,
    accounts: Vec<(u16, AccountDemand)>,
    others: bool,
}

/// What is demanded of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AccountDemand {
    OneOf(Vec<Address>),
    Wallet,
    WalletToken(Address),
}

impl Discriminator {
    /// How the data of a call begins, as far as it is shown.
    pub fn of(call: &ProgramCall) -> Self {
        Self(call.data.iter().take(SHOWN).copied().collect())
    }

    /// The discriminator that Anchor gives an instruction of this name: the first 8 bytes of the SHA-256 of `global:<name>`, the name
    /// in snake case (<https://www.anchor-lang.com/docs/basics/idl>).
    pub fn of_anchor(name: &str) -> Self {
        let mut snake = String::with_capacity(name.len() + 8);
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        Self(Sha256::digest(format!("global:{snake}")).iter().take(8).copied().collect())
    }

    /// The discriminator of the instruction `name` in an Anchor IDL. IDLs since Anchor 0.30 carry it, older ones go by the name.
    ///
    /// # Errors
    /// Where the text is no IDL, or has no such instruction.
    pub fn of_idl(idl: &str, name: &str) -> Result<Self, String> {
        let idl: Idl = serde_json::from_str(idl).map_err(|error| format!("no Anchor IDL: {error}"))?;
        let mut named = idl.instructions.into_iter().filter(|instruction| instruction.name == name);
        match (named.next(), named.next()) {
            (Some(IdlInstruction { discriminator: Some(bytes), .. }), None) => {
                Self::new(bytes).ok_or_else(|| format!("instruction {name} has no discriminator of 1 to 16 bytes"))
            }
            (Some(_), None) => Ok(Self::of_anchor(name)),
            (Some(_), Some(_)) => Err(format!("the IDL has instruction {name} twice")),
            (None, _) => Err(format!("the IDL has no instruction {name}")),
        }
    }

    fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=MAX_LEN).contains(&bytes.len()).then_some(Self(bytes))
    }
}

#[derive(Deserialize)]
struct Idl {
    instructions: Vec<IdlInstruction>,
}

#[derive(Deserialize)]
struct IdlInstruction {
    name: String,
    discriminator: Option<Vec<u8>>,
}

impl fmt::Display for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(&self.0))
    }
}

impl FromStr for Discriminator {
    type Err = DiscriminatorError;

    fn from_str(text: &str) -> Result<Self, DiscriminatorError> {
        let wrong = || DiscriminatorError(text.chars().take(100).collect());
        let bytes = hex::decode(text.strip_prefix("0x").ok_or_else(wrong)?).map_err(|_| wrong())?;
        Self::new(bytes).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Discriminator {
    type Error = DiscriminatorError;

    fn try_from(text: String) -> Result<Self, DiscriminatorError> {
        text.parse()
    }
}

impl From<Discriminator> for String {
    fn from(discriminator: Discriminator) -> Self {
        discriminator.to_string()
    }
}

impl ProgramConfig {
    /// Looks the named instructions up in the IDL, which `read` reads; nothing is left of either.
    ///
    /// # Errors
    /// Why there is no such instruction.
    pub(super) fn look_up(&mut self, read: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<(), String> {
        let Some(file) = self.idl_file.take() else { return Ok(()) };
        let idl = read(&file)?;
        for name in std::mem::take(&mut self.instructions) {
            self.discriminators.push(Discriminator::of_idl(&idl, &name).map_err(|why| format!("{file}: {why}"))?);
        }
        Ok(())
    }

    pub(super) fn compile(&self, network: Network) -> Result<Vec<ProgramForm>, String> {
        let program = &self.address;
        if network.family() != Family::Solana {
            return Err("programs are called on Solana; on EVM networks name contracts".to_owned());
        }
        if self.idl_file.is_some() || !self.instructions.is_empty() {
            return Err(format!(
                "program {program}: an IDL is read from a configuration file; write discriminators here"
            ));
        }
        if self.discriminators.is_empty() {
            return Err(format!("program {program}: name the instructions, by discriminators"));
        }
        let accounts = self.accounts.iter().map(|account| account.compile(network));
        let accounts: Vec<_> = accounts.collect::<Result<_, _>>().map_err(|why| format!("program {program}: {why}"))?;
        let form = |discriminator: &Discriminator| ProgramForm {
            discriminator: discriminator.clone(),
            accounts: accounts.clone(),
            others: self.other_accounts,
        };
        Ok(self.discriminators.iter().map(form).collect())
    }
}

impl AccountConfig {
    fn compile(&self, network: Network) -> Result<(u16, AccountDemand), String> {
        if self.at >= MAX_ACCOUNTS {
            return Err(format!("an instruction has at most {MAX_ACCOUNTS} accounts"));
        }
        let read = |text: &UncheckedAddress| text.require_network(network).map_err(|error| error.to_string());
        let demand = match (self.one_of.as_slice(), self.wallet, &self.wallet_token) {
            (one_of @ [_, ..], false, None) => AccountDemand::OneOf(one_of.iter().map(read).collect::<Result<_, _>>()?),
            ([], true, None) => AccountDemand::Wallet,
            ([], false, Some(mint)) => AccountDemand::WalletToken(read(mint)?),
            _ => return Err(format!("say of the account at {} one thing: one_of, wallet or wallet_token", self.at)),
        };
        Ok((self.at, demand))
    }
}

impl ProgramForm {
    /// Whether a call is of this instruction.
    pub(super) fn names(&self, call: &ProgramCall) -> bool {
        call.data.starts_with(&self.discriminator.0)
    }

    /// Whether a call is of this instruction, with accounts as they are demanded, whatever others there are. An account that isn't
    /// there fits nothing.
    pub(super) fn fits(&self, account: &Account, call: &ProgramCall) -> bool {
        self.names(call)
            && self.accounts.iter().all(|(at, demand)| {
                call.accounts.get(usize::from(*at)).is_some_and(|found| demand.is_met(account, found))
            })
    }

    /// Whether a call has no accounts but those that are mentioned, or may have any others.
    pub(super) fn has_only_mentioned(&self, call: &ProgramCall) -> bool {
        let mentioned = |at: usize| self.accounts.iter().any(|(place, _)| usize::from(*place) == at);
        self.others || (0..call.accounts.len()).all(mentioned)
    }
}

impl AccountDemand {
    fn is_met(&self, account: &Account, found: &AccountUse) -> bool {
        self.values(account).contains(&Address::Solana(found.address))
    }

    /// Every account that meets it.
    fn values(&self, account: &Account) -> Vec<Address> {
        match (self, account.address()) {
            (Self::OneOf(addresses), _) => addresses.clone(),
            (Self::Wallet, own) => vec![own.clone()],
            (Self::WalletToken(Address::Solana(mint)), Address::Solana(own)) => {
                TokenProgram::ALL.map(|program| Address::Solana(associated_token_account(own, mint, program))).to_vec()
            }
            (Self::WalletToken(_), _) => Vec::new(),
        }
    }
}

/// Calls that `form` may be for and that `all` forms of the program tell apart: its accounts where it mentions them, at other
/// places every account that another form names there and one that none names; and its discriminator, with every longer one.
/// `None` where there are too many.
pub(super) fn examples(
    account: &Account,
    program: &Address,
    form: &ProgramForm,
    all: &[&ProgramForm],
) -> Option<Vec<ProgramCall>> {
    let Address::Solana(program) = program else { return Some(Vec::new()) };
    let end = |form: &ProgramForm| form.accounts.iter().map(|(at, _)| at.saturating_add(1)).max().unwrap_or(0);
    let least = end(form);
    let most = if form.others { all.iter().map(|form| end(form)).max().unwrap_or(least).max(least) } else { least };
    let fresh: [u8; 32] = Sha256::digest(b"an account that no rule names").into();
    let mut open: Vec<Vec<AccountUse>> = vec![Vec::new()];
    let mut lists = if least == 0 { open.clone() } else { Vec::new() };
    for at in 0..most {
        let here = |form: &&ProgramForm| form.accounts.iter().any(|(place, _)| *place == at);
        let own = here(&form);
        let deciding = if own { vec![form] } else { all.iter().copied().filter(here).collect() };
        let demands = deciding.iter().flat_map(|form| &form.accounts).filter(|(place, _)| *place == at);
        let values = demands.flat_map(|(_, demand)| demand.values(account)).filter_map(|value| match value {
            Address::Solana(address) => Some(address),
            _ => None,
        });
        let mut values: Vec<_> = values.chain((!own).then(|| fresh.into())).collect();
        values.sort_unstable();
        values.dedup();
        let longer = |list: &Vec<AccountUse>| {
            let with = |address: &_| [list.clone(), vec![AccountUse { address: *address, writable: true }]].concat();
            values.iter().map(with).collect::<Vec<_>>()
        };
        open = open.iter().flat_map(longer).collect();
        if at.saturating_add(1) >= least {
            lists.extend(open.iter().cloned());
        }
        if open.len() + lists.len() > MAX_EXAMPLES {
            return None;
        }
    }
    let begins =
        all.iter().map(|other| &other.discriminator).filter(|other| other.0.starts_with(&form.discriminator.0));
    let begins: BTreeSet<&Discriminator> = begins.chain([&form.discriminator]).collect();
    if lists.len().saturating_mul(begins.len()) > MAX_EXAMPLES {
        return None;
    }
    let call = |begin: &Discriminator, accounts: &Vec<AccountUse>| ProgramCall {
        program: *program,
        accounts: accounts.clone(),
        data: begin.0.clone().into(),
        explained: false,
    };
    Some(begins.iter().flat_map(|begin| lists.iter().map(|list| call(begin, list)).collect::<Vec<_>>()).collect())
}
