//! What a transaction does, decoded from its unsigned bytes and from nothing else.

use alloy::primitives::{Address as EvmAddress, Bytes, FixedBytes};
use serde::{Serialize, Serializer};
use solana_sdk::pubkey::Pubkey;

use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;

/// Everything that the bytes do, as screening and policy see it. What a decoder does not understand is an error, never
/// an omission: an `Effects` is complete. The default one does nothing and costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// Who is paid what, change to the wallet itself left out.
    pub transfers: Vec<Transfer>,
    /// Who may spend what from then on.
    pub allowances: Vec<Allowance>,
    /// What is called: the transaction's own call first, and every call in it that the decoder sees.
    pub calls: Vec<Call>,
    /// Which programs of a Solana cluster are called: every instruction in its order, of a message that does more than pay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramCall>,
    /// Who receives what the calls buy or take out, in amounts that only the chain knows.
    pub proceeds: Vec<Proceeds>,
    /// What comes back to the paying wallet (Bitcoin change), native base units.
    pub change: Amount,
    /// The most that the transaction can cost its wallet beyond what it transfers, in native base units: Bitcoin's exact
    /// fee, Ethereum's gas limit times its highest price, Solana's fees and the rent of accounts that it may create. What a
    /// Solana program that isn't known takes from the wallet, the bytes don't say.
    pub max_fee: Amount,
    /// Every other account that the bytes name: token accounts, programs, access-list entries. Screened, like the rest.
    pub touches: Vec<Address>,
    /// The lookup tables that accounts were read from, in the message's order. The accounts themselves are told with all others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableRead>,
    /// What the bytes do for the wallet's own upkeep, where they do nothing else: they pay nobody then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upkeep: Option<Upkeep>,
}

/// Something that a wallet does for itself. The decoder has proven from the bytes that it is this and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Upkeep {
    /// Opens the wallet's own durable nonce account of this index, whose authority is the wallet.
    OpenNonce {
        /// Which of the wallet's nonce accounts.
        index: u8,
    },
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// What moves.
    pub asset: Asset,
    /// Who pays. The wallet itself, except in a call that spends another's allowance.
    pub from: Address,
    /// Who receives: for an SPL token the owner of the token account.
    pub to: Address,
    /// How much, in the asset's base units.
    pub amount: Amount,
}

/// A right to spend that the transaction grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// What may be spent.
    pub asset: Asset,
    /// Who may spend it.
    pub spender: Address,
    /// Up to how much, in the asset's base units.
    pub amount: Amount,
}

/// A receiver of what a call buys or takes out: the `recipient` of a swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proceeds {
    /// Who receives it.
    pub to: Address,
}

/// A contract call on an EVM network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Who calls: the wallet, or a contract that the wallet's call makes call.
    pub caller: EvmAddress,
    /// How deep it lies: 0 for the transaction's own call.
    pub depth: u8,
    /// The contract.
    pub contract: EvmAddress,
    /// The first four bytes of the calldata.
    pub selector: FixedBytes<4>,
    /// The arguments, ABI-encoded.
    pub arguments: Bytes,
    /// Wei sent along.
    pub value: Amount,
}

/// An instruction of a Solana program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramCall {
    /// The program.
    #[serde(serialize_with = "text")]
    pub program: Pubkey,
    /// The accounts that it gets, in its order.
    pub accounts: Vec<AccountUse>,
    /// Its data, which begins with what says which instruction of the program it is.
    pub data: Bytes,
    /// Whether transfers, allowances and proceeds tell all that it does, so that no rule has to name it.
    pub explained: bool,
}

/// An account that an instruction gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AccountUse {
    /// The account.
    #[serde(serialize_with = "text")]
    pub address: Pubkey,
    /// Whether the message lets it be written to.
    pub writable: bool,
}

/// What a Solana message reads of a lookup table. What stands in the table is a node's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableRead {
    /// The table.
    #[serde(serialize_with = "text")]
    pub address: Pubkey,
    /// The highest place that is read, from 0 on.
    pub last: u8,
    /// All of its entries, as a node told them.
    #[serde(skip)]
    pub entries: Vec<Pubkey>,
}

fn text<S: Serializer>(key: &Pubkey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

impl Effects {
    /// Every address that the transaction touches, for screening: payers, receivers, spenders, contracts, accounts.
    pub fn parties(&self) -> impl Iterator<Item = Address> + '_ {
        let transfers = self.transfers.iter().flat_map(|t| [t.from.clone(), t.to.clone()]);
        let tokens = self.transfers.iter().map(|t| t.asset).chain(self.allowances.iter().map(|a| a.asset));
        let tokens = tokens.filter_map(|asset| match asset {
            Asset::Native => None,
            Asset::Erc20(contract) => Some(Address::Ethereum(contract)),
            Asset::Spl(mint) => Some(Address::Solana(mint)),
        });
        transfers
            .chain(self.allowances.iter().map(|a| a.spender.clone()))
            .chain(self.proceeds.iter().map(|p| p.to.clone()))
            .chain(self.calls.iter().flat_map(|c| [Address::Ethereum(c.contract), Address::Ethereum(c.caller)]))
            .chain(self.programs.iter().map(|call| Address::Solana(call.program)))
            .chain(tokens)
            .chain(self.touches.iter().cloned())
    }
}
