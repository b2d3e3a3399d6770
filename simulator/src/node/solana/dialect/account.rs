//! Accounts: balances, data in the encoding asked for, scans.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use solana_sdk::account::{AccountSharedData, ReadableAccount};
use solana_sdk::pubkey::Pubkey;

use super::error::invalid_params;
use super::params::{Args, ContextConfig, MAX_MULTIPLE_ACCOUNTS, limited, pubkey};
use super::{Answer, token, with_context};
use crate::node::solana::engine::Engine;
use crate::node::solana::ledger::Slot;
use crate::node::solana::nonce;
use crate::node::solana::validator::Validator;
use crate::rpc::{INVALID_REQUEST, RpcError};

/// The longest data that base58 is used for, in bytes.
const MAX_BASE58_BYTES: usize = 128;

/// The most filters of a scan.
const MAX_FILTERS: usize = 4;

/// How account data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Encoding {
    /// Base58 without saying so: the oldest form.
    #[serde(rename = "binary")]
    Binary,
    #[serde(rename = "base58")]
    Base58,
    #[serde(rename = "base64")]
    Base64,
    #[serde(rename = "base64+zstd")]
    Base64Zstd,
    /// By fields where the owner is known, else base64.
    #[serde(rename = "jsonParsed")]
    JsonParsed,
}

/// A part of an account's data.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct DataSlice {
    offset: usize,
    length: usize,
}

/// How accounts are asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountConfig {
    pub(super) encoding: Option<Encoding>,
    data_slice: Option<DataSlice>,
    #[serde(flatten)]
    pub(super) context: ContextConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScanConfig {
    filters: Option<Vec<Filter>>,
    with_context: Option<bool>,
    #[serde(flatten)]
    account: AccountConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Filter {
    DataSize(usize),
    Memcmp(Memcmp),
    TokenAccountState,
}

#[derive(Debug, Deserialize)]
struct Memcmp {
    offset: usize,
    bytes: String,
    encoding: Option<Encoding>,
}

pub(super) fn balance(validator: &Validator, args: &Args<'_>) -> Answer {
    let address = args.pubkey(0)?;
    let slot = args.optional::<ContextConfig>(1)?.slot(validator.engine())?;
    let lamports = validator.engine().account(&address, slot).map_or(0, |account| account.lamports());
    Ok(with_context(slot, json!(lamports)))
}

pub(super) fn info(validator: &Validator, args: &Args<'_>) -> Answer {
    let address = args.pubkey(0)?;
    let config: AccountConfig = args.optional(1)?;
    let slot = config.context.slot(validator.engine())?;
    let account = config.encoded(validator.engine(), &address, slot, Encoding::Binary)?;
    Ok(with_context(slot, account))
}

pub(super) fn multiple(validator: &Validator, args: &Args<'_>) -> Answer {
    let addresses = limited(args.required::<Vec<String>>(0)?, MAX_MULTIPLE_ACCOUNTS)?;
    let addresses = addresses.iter().map(|text| pubkey(text)).collect::<Result<Vec<_>, _>>()?;
    let config: AccountConfig = args.optional(1)?;
    let slot = config.context.slot(validator.engine())?;
    let encoded = |address| config.encoded(validator.engine(), address, slot, Encoding::Base64);
    let accounts = addresses.iter().map(encoded).collect::<Result<Vec<_>, _>>()?;
    Ok(with_context(slot, Value::Array(accounts)))
}

pub(super) fn of_program(validator: &Validator, args: &Args<'_>) -> Answer {
    let program = args.pubkey(0)?;
    let config: ScanConfig = args.optional(1)?;
    let engine = validator.engine();
    let slot = config.account.context.slot(engine)?;
    let filters = config.filters.unwrap_or_default();
    if filters.len() > MAX_FILTERS {
        return Err(invalid_params(format!("Too many filters provided; max {MAX_FILTERS}")));
    }
    let filters = filters.into_iter().map(Matcher::try_from).collect::<Result<Vec<_>, _>>()?;

    let owned = engine.accounts(slot).into_iter().filter(|(_, account)| *account.owner() == program);
    let matching = owned.filter(|(_, account)| filters.iter().all(|filter| filter.accepts(account)));
    let encoding = config.account.encoding.unwrap_or(Encoding::Binary);
    let accounts = matching.map(|(address, account)| {
        let account = encode(engine, slot, &account, encoding, config.account.data_slice)?;
        Ok(json!({ "pubkey": address.to_string(), "account": account }))
    });
    let accounts = Value::Array(accounts.collect::<Result<_, RpcError>>()?);
    Ok(if config.with_context == Some(true) { with_context(slot, accounts) } else { accounts })
}

impl AccountConfig {
    /// The account at `address` as of `slot`, or null.
    fn encoded(&self, engine: &Engine, address: &Pubkey, slot: Slot, default: Encoding) -> Answer {
        let Some(account) = engine.account(address, slot) else { return Ok(Value::Null) };
        encode(engine, slot, &account, self.encoding.unwrap_or(default), self.data_slice)
    }

    /// `account` as it is asked for.
    pub(super) fn encode(&self, engine: &Engine, slot: Slot, account: &AccountSharedData) -> Answer {
        encode(engine, slot, account, self.encoding.unwrap_or(Encoding::Binary), self.data_slice)
    }
}

/// An account as JSON. `slot` is where a mint's decimals are looked up.
pub(super) fn encode(
    engine: &Engine,
    slot: Slot,
    account: &AccountSharedData,
    encoding: Encoding,
    slice: Option<DataSlice>,
) -> Answer {
    Ok(json!({
        "lamports": account.lamports(),
        "data": data(engine, slot, account, encoding, slice)?,
        "owner": account.owner().to_string(),
        "executable": account.executable(),
        "rentEpoch": account.rent_epoch(),
        "space": account.data().len(),
    }))
}

fn data(
    engine: &Engine,
    slot: Slot,
    account: &AccountSharedData,
    encoding: Encoding,
    slice: Option<DataSlice>,
) -> Answer {
    let bytes = slice.map_or(account.data(), |slice| slice.of(account.data()));
    let base64 = || json!([BASE64_STANDARD.encode(bytes), "base64"]);
    match encoding {
        Encoding::Binary | Encoding::Base58 if bytes.len() > MAX_BASE58_BYTES => Err(RpcError::new(
            INVALID_REQUEST,
            format!(
                "Encoded binary (base 58) data should be less than {MAX_BASE58_BYTES} bytes, please use Base64 encoding."
            ),
        )),
        Encoding::Binary => Ok(json!(bs58::encode(bytes).into_string())),
        Encoding::Base58 => Ok(json!([bs58::encode(bytes).into_string(), "base58"])),
        Encoding::Base64 => Ok(base64()),
        Encoding::Base64Zstd => {
            Err(invalid_params("Invalid params: this node does not compress; use the encoding `base64`."))
        }
        Encoding::JsonParsed => {
            Ok(token::parsed(engine, slot, account).or_else(|| parsed_nonce(account)).unwrap_or_else(base64))
        }
    }
}

/// A durable nonce's account by its fields, as agave's `parse_nonce` writes them.
fn parsed_nonce(account: &AccountSharedData) -> Option<Value> {
    let nonce = nonce::fields(account)?;
    let info = json!({
        "authority": nonce.authority.to_string(),
        "blockhash": nonce.value.to_string(),
        "feeCalculator": { "lamportsPerSignature": nonce.lamports_per_signature.to_string() },
    });
    let parsed = json!({ "info": info, "type": "initialized" });
    Some(json!({ "program": "nonce", "parsed": parsed, "space": account.data().len() }))
}

impl DataSlice {
    fn of(self, data: &[u8]) -> &[u8] {
        let end = self.offset.saturating_add(self.length).min(data.len());
        data.get(self.offset..end).unwrap_or_default()
    }
}

/// A filter whose bytes are decoded.
enum Matcher {
    Size(usize),
    Bytes { offset: usize, bytes: Vec<u8> },
    TokenAccount,
}

impl Matcher {
    fn accepts(&self, account: &AccountSharedData) -> bool {
        match self {
            Self::Size(size) => account.data().len() == *size,
            Self::Bytes { offset, bytes } => account.data().get(*offset..).is_some_and(|data| data.starts_with(bytes)),
            Self::TokenAccount => crate::node::solana::token::token_account(account).is_some(),
        }
    }
}

impl TryFrom<Filter> for Matcher {
    type Error = RpcError;

    fn try_from(filter: Filter) -> Result<Self, RpcError> {
        let memcmp = match filter {
            Filter::DataSize(size) => return Ok(Self::Size(size)),
            Filter::TokenAccountState => return Ok(Self::TokenAccount),
            Filter::Memcmp(memcmp) => memcmp,
        };
        let bytes = match memcmp.encoding.unwrap_or(Encoding::Base58) {
            Encoding::Base58 | Encoding::Binary => bs58::decode(&memcmp.bytes).into_vec().ok(),
            Encoding::Base64 => BASE64_STANDARD.decode(&memcmp.bytes).ok(),
            Encoding::Base64Zstd | Encoding::JsonParsed => None,
        };
        let bytes = bytes.filter(|bytes| bytes.len() <= MAX_BASE58_BYTES);
        let bytes =
            bytes.ok_or_else(|| invalid_params("Invalid param: memcmp bytes can't be decoded or are too long"))?;
        Ok(Self::Bytes { offset: memcmp.offset, bytes })
    }
}
