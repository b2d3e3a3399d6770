//! From an intent to a transaction: pure, the chain's state comes in as a value.

use alloy::consensus::{TxEip1559, TxEip2930};
use alloy::eips::eip2930::AccessList;
use alloy::primitives::{Address, Bytes, TxKind, U256};

use super::{BasisPoints, Ethereum, Gas, GasPrice, Nonce, Transaction, Unsigned, decode};
use crate::account::Account;
use crate::address::{Address as ChainAddress, AddressError, UncheckedAddress};
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::{BuildError, Chain};
use crate::intent::{Action, Intent};

/// The facts that a transaction is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The nonce to use.
    pub nonce: Nonce,
    /// What the account has of the native coin, its own pending payments taken off, in wei.
    pub balance: Amount,
    /// What the account has of the token, for an ERC-20 transfer; a token whose balance isn't told counts as nothing.
    pub token_balance: Option<Amount>,
    /// What gas costs.
    pub fees: Fees,
    /// The most gas that the transaction may use.
    pub gas_limit: Gas,
    /// What a replacement needs besides; `None` where the state is not for one.
    pub replacing: Option<Replacing>,
}

/// What a transaction in the place of an earlier one needs. Nonce and balances are those of the best chain then, nothing
/// pending counted: the earlier one would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacing {
    /// By how much both prices must be above the earlier one's.
    pub bump: BasisPoints,
}

/// What gas costs, and with it the type of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fees {
    /// The network has a base fee: type 2.
    Eip1559 {
        /// The most that a unit of gas may cost, tip included.
        max_fee_per_gas: GasPrice,
        /// The tip for whoever makes the block, at most `max_fee_per_gas`.
        max_priority_fee_per_gas: GasPrice,
    },
    /// The network has no base fee: type 1.
    Legacy {
        /// What a unit of gas costs.
        gas_price: GasPrice,
    },
}

impl Fees {
    /// The most that a unit of gas can cost.
    pub const fn max_gas_price(self) -> GasPrice {
        match self {
            Self::Eip1559 { max_fee_per_gas, .. } => max_fee_per_gas,
            Self::Legacy { gas_price } => gas_price,
        }
    }
}

/// What an intent comes to, before nonce, gas and fees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Who pays.
    pub(super) from: Address,
    /// Who is paid or called.
    pub(super) to: Address,
    /// Wei that go along.
    pub(super) value: Amount,
    /// The calldata.
    pub(super) input: Bytes,
    /// The token that moves and how much of it.
    pub(super) token: Option<(Address, Amount)>,
}

impl Plan {
    /// Reads `intent` as a transaction of `account`.
    pub(super) fn new(chain: &Ethereum, intent: &Intent, account: &Account) -> Result<Self, BuildError> {
        let from = chain.address_of(account).ok_or_else(|| BuildError::WrongAccount(chain.network()))?;
        match &intent.action {
            Action::Transfer { amount, .. } if amount.is_zero() => Err(BuildError::ZeroAmount),
            Action::Transfer { asset: Asset::Native, to, amount } => {
                let to = address(chain, to)?;
                Ok(Self { from, to, value: *amount, input: Bytes::new(), token: None })
            }
            Action::Transfer { asset: Asset::Erc20(token), to, amount } => {
                let input = decode::transfer(address(chain, to)?, amount.base_units());
                Ok(Self { from, to: *token, value: Amount::ZERO, input, token: Some((*token, *amount)) })
            }
            Action::Transfer { asset: asset @ Asset::Spl(_), .. } => {
                Err(BuildError::WrongAsset { asset: *asset, network: chain.network() })
            }
            Action::Call { data, .. } if data.len() < 4 => {
                Err(BuildError::Unsupported("a call whose data is shorter than a selector; use a transfer to pay"))
            }
            Action::Call { contract, data, value } => {
                let to = address(chain, contract)?;
                Ok(Self { from, to, value: *value, input: data.clone(), token: None })
            }
            Action::CallProgram { .. } => Err(BuildError::Unsupported("programs are Solana's; call a contract")),
            Action::OpenNonce { .. } => Err(BuildError::Unsupported("durable nonces are Solana's")),
            Action::Accelerate { .. } => {
                Err(BuildError::Unsupported("only Bitcoin has transactions that spend another's output"))
            }
        }
    }

    /// A payment of nothing from the account to itself.
    pub(super) fn nothing(chain: &Ethereum, account: &Account) -> Result<Self, BuildError> {
        let from = chain.address_of(account).ok_or_else(|| BuildError::WrongAccount(chain.network()))?;
        Ok(Self { from, to: from, value: Amount::ZERO, input: Bytes::new(), token: None })
    }

    /// Makes sure that the account can pay what moves, and `max_fee` wei on top.
    pub(super) fn check_funds(
        &self,
        balance: Amount,
        token_balance: Option<Amount>,
        max_fee: Amount,
    ) -> Result<(), BuildError> {
        if let Some((token, amount)) = self.token {
            let available = token_balance.unwrap_or(Amount::ZERO);
            if amount > available {
                let asset = Asset::Erc20(token);
                return Err(BuildError::InsufficientFunds { asset, needed: amount, available });
            }
        }
        let needed = self.value.checked_add(max_fee).ok_or(BuildError::Overflow("a balance of 256 bits"))?;
        if needed > balance {
            return Err(BuildError::InsufficientFunds { asset: Asset::Native, needed, available: balance });
        }
        Ok(())
    }
}

/// Builds the transaction that does what `intent` says.
pub(super) fn build(
    chain: &Ethereum,
    intent: &Intent,
    account: &Account,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let plan = Plan::new(chain, intent, account)?;
    let fee = state.gas_limit.cost(state.fees.max_gas_price());
    if let Some(cap) = intent.max_fee.filter(|cap| fee > *cap) {
        return Err(BuildError::FeeAboveCap { fee, cap });
    }
    plan.check_funds(state.balance, state.token_balance, fee)?;

    Ok(transaction(chain, plan, state.nonce, state.gas_limit, state.fees))
}

/// The transaction that does what `plan` says.
pub(super) fn transaction(chain: &Ethereum, plan: Plan, nonce: Nonce, gas_limit: Gas, fees: Fees) -> Unsigned {
    let value: U256 = plan.value.base_units();
    let to = TxKind::Call(plan.to);
    let chain_id = chain.chain_id();
    let (nonce, gas_limit) = (nonce.get(), gas_limit.units());
    let (input, access_list) = (plan.input, AccessList::default());
    let tx = match fees {
        Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas } => Transaction::Eip1559(TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: max_fee_per_gas.wei(),
            max_priority_fee_per_gas: max_priority_fee_per_gas.min(max_fee_per_gas).wei(),
            to,
            value,
            access_list,
            input,
        }),
        Fees::Legacy { gas_price } => Transaction::Eip2930(TxEip2930 {
            chain_id,
            nonce,
            gas_price: gas_price.wei(),
            gas_limit,
            to,
            value,
            access_list,
            input,
        }),
    };
    Unsigned::new(plan.from, tx).expect("it calls an address, and the tip was cut to the highest price")
}

fn address(chain: &Ethereum, text: &UncheckedAddress) -> Result<Address, AddressError> {
    match text.require_network(chain.network())? {
        ChainAddress::Ethereum(address) => Ok(address),
        other => Err(AddressError::WrongNetwork { address: other.to_string(), network: chain.network() }),
    }
}
