//! Typed data (EIP-712): what somebody may do with a signature over it, and the hash that is signed.
//!
//! A signature over typed data moves nothing by itself, and it needs no transaction of the wallet's: whoever has it can use it
//! when it suits them. So only kinds whose effects are known are read: permits of tokens (ERC-2612, and DAI's), of Permit2, and
//! transactions of a Safe. Everything else is refused, orders of exchanges among it: what they give for what, only the
//! exchange's contract decides.
//!
//! It is a decoder only. No intent asks for a signature over typed data, and signers make none.

use alloy::primitives::{Address, B256, Bytes, U256, address};
use alloy_dyn_abi::{DynSolValue, TypedData};
use serde::Serialize;
use serde_json::Value;

use super::Ethereum;
use super::decode::{self, SafeTransaction};
use crate::account::Account;
use crate::address::Address as ChainAddress;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::{Allowance, Effects};
use crate::network::Network;

/// What typed data is, and what a signature over it permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// Which of the known kinds it is.
    pub kind: Kind,
    /// What is signed: `keccak256(0x1901 ‖ domain separator ‖ hashStruct(message))`.
    pub hash: B256,
    /// What whoever has the signature can do.
    pub effects: Effects,
}

/// The kinds of typed data that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A token's own permit (ERC-2612).
    Permit,
    /// DAI's permit: all or nothing.
    DaiPermit,
    /// Permit2: an allowance of one token.
    PermitSingle,
    /// Permit2: allowances of several.
    PermitBatch,
    /// Permit2: one transfer of one token, to whom the spender chooses.
    PermitTransferFrom,
    /// Permit2: one transfer of several.
    PermitBatchTransferFrom,
    /// A transaction of a Safe of which the wallet is an owner.
    SafeTransaction,
}

/// Permit2, which has one address on every network (<https://docs.uniswap.org/contracts/permit2/overview>).
const PERMIT2: Address = address!("0x000000000022D473030F116dDEE9F6B43aC78BA3");

/// The longest typed data that is read, in bytes.
const MAX_LEN: usize = 64 * 1024;

impl Kind {
    const ALL: [Self; 7] = [
        Self::Permit,
        Self::DaiPermit,
        Self::PermitSingle,
        Self::PermitBatch,
        Self::PermitTransferFrom,
        Self::PermitBatchTransferFrom,
        Self::SafeTransaction,
    ];

    /// The type as EIP-712 encodes it, with all types that it refers to.
    const fn encoded(self) -> &'static str {
        match self {
            Self::Permit => "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)",
            Self::DaiPermit => "Permit(address holder,address spender,uint256 nonce,uint256 expiry,bool allowed)",
            Self::PermitSingle => {
                "PermitSingle(PermitDetails details,address spender,uint256 sigDeadline)\
                 PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)"
            }
            Self::PermitBatch => {
                "PermitBatch(PermitDetails[] details,address spender,uint256 sigDeadline)\
                 PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)"
            }
            Self::PermitTransferFrom => {
                "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)\
                 TokenPermissions(address token,uint256 amount)"
            }
            Self::PermitBatchTransferFrom => {
                "PermitBatchTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline)\
                 TokenPermissions(address token,uint256 amount)"
            }
            Self::SafeTransaction => {
                "SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,\
                 uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)"
            }
        }
    }
}

/// Reads typed data as JSON (the argument of `eth_signTypedData_v4`) that `account` would sign.
///
/// # Errors
/// [`DecodeError::WrongNetwork`] where the domain is of another network or of none, [`DecodeError::WrongAccount`] where somebody
/// else's tokens are permitted, [`DecodeError::Malformed`] where it is no typed data, [`DecodeError::Undecodable`] for every kind
/// that isn't known.
pub fn read(chain: &Ethereum, account: &Account, json: &str) -> Result<Typed, DecodeError> {
    let wrong_account = || DecodeError::WrongAccount(account.address().to_string());
    let wallet = chain.address_of(account).ok_or_else(wrong_account)?;
    if json.len() > MAX_LEN {
        return Err(malformed(format!("typed data of more than {MAX_LEN} bytes")));
    }
    let data: TypedData = serde_json::from_str(json).map_err(|error| malformed(error.to_string()))?;
    let contract = domain(chain, &data)?;
    let encoded = data.encode_type().map_err(|error| malformed(error.to_string()))?;
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.encoded() == encoded) else {
        let name: String = data.primary_type.chars().take(100).collect();
        return Err(undecodable(format!("typed data of type {name:?}, whose effects aren't known")));
    };
    let message = data.coerce().map_err(|error| malformed(error.to_string()))?;
    if !is_exact(&data.message, &message) {
        return Err(malformed("the message has members that its type doesn't have".to_owned()));
    }
    let hash = data.eip712_signing_hash().map_err(|error| malformed(error.to_string()))?;
    let fields = members(&message).ok_or_else(wrong_shape)?;
    let effects = effects(kind, wallet, contract, fields).ok_or_else(wrong_shape)??;
    Ok(Typed { kind, hash, effects })
}

/// The contract that verifies the signature, on the chain's own network. A domain has these two at least, and no salt.
fn domain(chain: &Ethereum, data: &TypedData) -> Result<Address, DecodeError> {
    let found = data.domain.chain_id.ok_or_else(|| undecodable("typed data for no network; name a chainId"))?;
    if found != U256::from(chain.chain_id()) {
        let network = Network::Ethereum(chain.chain_id());
        return Err(DecodeError::WrongNetwork { expected: network, found: format!("ethereum:{found}") });
    }
    if data.domain.salt.is_some() {
        return Err(undecodable("typed data with a salt in its domain"));
    }
    data.domain.verifying_contract.ok_or_else(|| undecodable("typed data for no contract; name a verifyingContract"))
}

/// What the signature permits; `None` where the fields aren't those of the kind, which its encoded type excludes.
fn effects(
    kind: Kind,
    wallet: Address,
    contract: Address,
    fields: &[DynSolValue],
) -> Option<Result<Effects, DecodeError>> {
    let mut effects = Effects {
        transfers: Vec::new(),
        allowances: Vec::new(),
        calls: Vec::new(),
        programs: Vec::new(),
        proceeds: Vec::new(),
        change: Amount::ZERO,
        max_fee: Amount::ZERO,
        touches: vec![ChainAddress::Ethereum(contract)],
        tables: Vec::new(),
        upkeep: None,
    };
    let own = |owner: Address| {
        if owner == wallet {
            Ok(())
        } else {
            Err(DecodeError::WrongAccount(ChainAddress::Ethereum(wallet).to_string()))
        }
    };
    let permit2 = || {
        if contract == PERMIT2 {
            Ok(())
        } else {
            Err(undecodable(format!("a permit for {contract}, which isn't Permit2")))
        }
    };
    let checked = match (kind, fields) {
        (Kind::Permit, [owner, spender, value, _, _]) => {
            allow(&mut effects, contract, spender.as_address()?, uint(value)?);
            own(owner.as_address()?)
        }
        (Kind::DaiPermit, [holder, spender, _, _, allowed]) => {
            let spender = spender.as_address()?;
            if allowed.as_bool()? {
                allow(&mut effects, contract, spender, U256::MAX);
            } else {
                effects.touches.push(ChainAddress::Ethereum(spender));
            }
            own(holder.as_address()?)
        }
        (Kind::PermitSingle | Kind::PermitTransferFrom, [details, spender, ..]) => {
            token(&mut effects, details, spender.as_address()?)?;
            permit2()
        }
        (Kind::PermitBatch | Kind::PermitBatchTransferFrom, [details, spender, ..]) => {
            let spender = spender.as_address()?;
            details.as_array()?.iter().try_for_each(|details| token(&mut effects, details, spender))?;
            // A batch of nothing still names somebody.
            effects.touches.push(ChainAddress::Ethereum(spender));
            permit2()
        }
        (Kind::SafeTransaction, [to, value, data, operation, _, _, price, gas_token, receiver, _]) => {
            let transaction = SafeTransaction {
                to: to.as_address()?,
                value: uint(value)?,
                data: Bytes::from(data.as_bytes()?.to_vec()),
                operation: u8::try_from(uint(operation)?).ok()?,
                gas_price: uint(price)?,
                gas_token: gas_token.as_address()?,
                refund_receiver: receiver.as_address()?,
            };
            decode::safe_transaction(&mut effects, wallet, contract, transaction)
        }
        _ => return None,
    };
    effects.touches.sort_unstable();
    effects.touches.dedup();
    Some(checked.map(|()| effects))
}

/// What Permit2 lets be spent of one token: its details begin with the token and the amount.
fn token(effects: &mut Effects, details: &DynSolValue, spender: Address) -> Option<()> {
    let [token, amount, ..] = members(details)? else { return None };
    allow(effects, token.as_address()?, spender, uint(amount)?);
    Some(())
}

fn allow(effects: &mut Effects, token: Address, spender: Address, amount: U256) {
    effects.allowances.push(Allowance {
        asset: Asset::Erc20(token),
        spender: ChainAddress::Ethereum(spender),
        amount: Amount::from_base_units(amount),
    });
}

fn members(value: &DynSolValue) -> Option<&[DynSolValue]> {
    value.as_custom_struct().map(|(_, _, members)| members)
}

fn uint(value: &DynSolValue) -> Option<U256> {
    value.as_uint().map(|(value, _)| value)
}

/// Whether the JSON has nothing that isn't in the value, and so isn't signed.
fn is_exact(json: &Value, value: &DynSolValue) -> bool {
    match (json, value) {
        (Value::Object(object), DynSolValue::CustomStruct { prop_names, tuple, .. }) => {
            object.len() == tuple.len()
                && prop_names
                    .iter()
                    .zip(tuple)
                    .all(|(name, member)| object.get(name).is_some_and(|json| is_exact(json, member)))
        }
        (Value::Array(list), DynSolValue::Array(members) | DynSolValue::FixedArray(members)) => {
            list.len() == members.len() && list.iter().zip(members).all(|(json, member)| is_exact(json, member))
        }
        (Value::Object(_) | Value::Array(_), _) => false,
        _ => !matches!(value, DynSolValue::CustomStruct { .. }),
    }
}

fn wrong_shape() -> DecodeError {
    malformed("the message isn't of its type".to_owned())
}

fn malformed(reason: String) -> DecodeError {
    DecodeError::Malformed(reason)
}

fn undecodable(reason: impl Into<String>) -> DecodeError {
    DecodeError::Undecodable(reason.into())
}
