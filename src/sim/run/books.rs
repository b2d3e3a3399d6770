//! What the nodes themselves say of wallets, payees and transactions, past the gateway.

use std::collections::BTreeMap;

use chains::address::UncheckedAddress;
use chains::asset::Asset;
use chains::rpc::RpcClient;
use gateway::api::view::TxView;
use gateway::record::State;
use serde_json::{Value, json};
use simulator::load::{Fate, Kind};
use simulator::node::ethereum::DEMO_TOKEN;
use simulator::node::solana::SolanaNode;
use simulator::scenario::judge::{FINALIZED, Purse};
use simulator::topology::ChainKind;

use super::town::Town;
use crate::cli::Failure;
use crate::load::book::{self, WalletRow};

/// The chains' books, opened before the load.
pub(super) struct Books {
    chains: Vec<ChainBooks>,
}

struct ChainBooks {
    chain: ChainKind,
    node: RpcClient,
    wallet: String,
    /// Blocks that make a Bitcoin payment final.
    depth: u64,
    native: u128,
    tokens: u128,
}

/// What they say when all is over.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// What the payee of each order got.
    pub(super) received: BTreeMap<u32, u128>,
    /// What the wallets had and have.
    pub(super) purses: Vec<Purse>,
    /// What was called final and isn't.
    pub(super) unfounded: Vec<String>,
}

impl Books {
    /// Writes down what every wallet has.
    ///
    /// # Errors
    /// Where a node doesn't tell.
    pub(super) async fn open(town: &Town, wallets: &[WalletRow]) -> Result<Self, Failure> {
        let mut chains = Vec::new();
        for row in wallets {
            let chain = book::kind(row.network.family());
            let (node, wallet) = (town.node(chain)?, row.address.clone());
            let native = native(&node, chain, &wallet).await?;
            let tokens = tokens(&node, chain, &wallet).await?.0;
            chains.push(ChainBooks { chain, node, wallet, depth: town.finality_depth(chain), native, tokens });
        }
        Ok(Self { chains })
    }

    /// Reads everything again.
    ///
    /// # Errors
    /// Where a node doesn't tell.
    pub(super) async fn close(&self, fates: &[Fate], views: &BTreeMap<u32, TxView>) -> Result<Closed, Failure> {
        let mut closed = Closed::default();
        for books in &self.chains {
            books.close(fates, views, &mut closed).await?;
        }
        Ok(closed)
    }
}

impl ChainBooks {
    async fn close(&self, fates: &[Fate], views: &BTreeMap<u32, TxView>, closed: &mut Closed) -> Result<(), Failure> {
        let (chain, node) = (self.chain, &self.node);
        let own: Vec<&Fate> = fates.iter().filter(|fate| fate.order.chain == chain).collect();
        let (mut paid, mut paid_tokens, mut taken) = (0_u128, 0_u128, 0_u128);
        let utxos = match chain {
            ChainKind::Bitcoin => unspent(node, own.iter().map(|fate| fate.to.as_str())).await?,
            ChainKind::Ethereum | ChainKind::Solana => BTreeMap::new(),
        };
        for fate in &own {
            let (got, rent) = match (chain, fate.order.kind) {
                (ChainKind::Bitcoin, _) => (utxos.get(&fate.to).copied().unwrap_or_default(), 0),
                (_, Kind::Transfer) => (native(node, chain, &fate.to).await?, 0),
                (_, Kind::Token | Kind::Call) => tokens(node, chain, &fate.to).await?,
            };
            closed.received.insert(fate.order.number, got);
            let sum = if fate.order.kind == Kind::Transfer || chain == ChainKind::Bitcoin {
                &mut paid
            } else {
                &mut paid_tokens
            };
            *sum = sum.checked_add(got).ok_or("a sum above 2^128")?;
            taken = taken.checked_add(rent).ok_or("a sum above 2^128")?;
            for transaction in &fate.transactions {
                let fee = fee(node, chain, transaction).await?;
                taken = taken.checked_add(fee.unwrap_or_default()).ok_or("a sum above 2^128")?;
            }
            if fate.state == FINALIZED {
                let view = views.get(&fate.order.number);
                if let Some(why) = self.unfounded(fate, view).await? {
                    closed.unfounded.push(format!("{chain} {}: {why}", fate.order.key));
                }
            }
        }
        let after = native(node, chain, &self.wallet).await?;
        let purse = |asset: &str, before, after, paid, taken| Purse {
            chain,
            asset: asset.to_owned(),
            before,
            after,
            paid,
            taken,
        };
        closed.purses.push(purse("native", self.native, after, paid, taken));
        if chain != ChainKind::Bitcoin {
            let after = tokens(node, chain, &self.wallet).await?.0;
            closed.purses.push(purse("token", self.tokens, after, paid_tokens, 0));
        }
        Ok(())
    }

    /// Why a payment that was called final isn't: it wasn't final when that was said, or it is in no block of the best chain.
    async fn unfounded(&self, fate: &Fate, view: Option<&TxView>) -> Result<Option<String>, Failure> {
        let inclusion =
            view.and_then(|view| view.attempts.iter().find_map(|attempt| Some((attempt, attempt.inclusion.as_ref()?))));
        let Some((attempt, inclusion)) = inclusion.filter(|_| view.is_some_and(|view| view.state == State::Finalized))
        else {
            return Ok(Some("its record names no block".to_owned()));
        };
        let by_depth = self.chain == ChainKind::Bitcoin;
        if by_depth && inclusion.confirmations < self.depth {
            return Ok(Some(format!(
                "called final {} blocks deep, {} make it final",
                inclusion.confirmations, self.depth
            )));
        }
        if !by_depth && !inclusion.finalized {
            return Ok(Some(format!(
                "called final {} blocks deep, and the chain didn't say so",
                inclusion.confirmations
            )));
        }
        let id =
            attempt.chain_tx_id.as_deref().or_else(|| fate.transactions.last().map(String::as_str)).unwrap_or_default();
        let stands = match self.chain {
            ChainKind::Bitcoin => {
                let found: Result<Value, _> = self.node.call("getrawtransaction", json!([id, 2])).await;
                found.is_ok_and(|found| {
                    found.get("confirmations").and_then(Value::as_u64).is_some_and(|deep| deep >= self.depth)
                })
            }
            ChainKind::Ethereum => {
                let receipt: Value = self.node.call("eth_getTransactionReceipt", json!([id])).await?;
                let last: Value = self.node.call("eth_getBlockByNumber", json!(["finalized", false])).await?;
                let height = |value: Option<&Value>| value.and_then(Value::as_str).and_then(|text| quantity(text).ok());
                height(receipt.get("blockNumber")).is_some_and(|at| Some(at) <= height(last.get("number")))
            }
            ChainKind::Solana => {
                let asked = json!([[id], { "searchTransactionHistory": true }]);
                let found: Value = self.node.call("getSignatureStatuses", asked).await?;
                found.pointer("/value/0/confirmationStatus").and_then(Value::as_str) == Some("finalized")
            }
        };
        Ok((!stands).then(|| format!("{id} isn't final on its chain")))
    }
}

/// What an address has of its chain's own coin.
///
/// # Errors
/// Where the node doesn't tell.
pub(super) async fn native(node: &RpcClient, chain: ChainKind, address: &str) -> Result<u128, Failure> {
    match chain {
        ChainKind::Bitcoin => {
            Ok(unspent(node, std::iter::once(address)).await?.get(address).copied().unwrap_or_default())
        }
        ChainKind::Ethereum => {
            let balance: String = node.call("eth_getBalance", json!([address, "latest"])).await?;
            quantity(&balance)
        }
        ChainKind::Solana => {
            let answer: Value = node.call("getBalance", json!([address, { "commitment": "finalized" }])).await?;
            Ok(answer.get("value").and_then(Value::as_u64).ok_or("no balance")?.into())
        }
    }
}

/// What an address has of an asset: the chain's own coin, or the demo token.
///
/// # Errors
/// Where the node doesn't tell.
pub(super) async fn balance(node: &RpcClient, chain: ChainKind, address: &str, asset: Asset) -> Result<u128, Failure> {
    match asset {
        Asset::Native => native(node, chain, address).await,
        Asset::Erc20(_) | Asset::Spl(_) => Ok(tokens(node, chain, address).await?.0),
    }
}

/// What an address has of the demo token, and the rent of the accounts that hold it.
async fn tokens(node: &RpcClient, chain: ChainKind, address: &str) -> Result<(u128, u128), Failure> {
    match chain {
        ChainKind::Bitcoin => Ok((0, 0)),
        ChainKind::Ethereum => {
            let data = format!("0x70a08231{:0>64}", address.trim_start_matches("0x")); // balanceOf(address)
            let word: String = node.call("eth_call", json!([{ "to": DEMO_TOKEN, "data": data }, "latest"])).await?;
            Ok((quantity(&word)?, 0))
        }
        ChainKind::Solana => {
            let mint = SolanaNode::demo_mint().to_string();
            let asked = json!([address, { "mint": mint }, { "encoding": "jsonParsed", "commitment": "finalized" }]);
            let answer: Value = node.call("getTokenAccountsByOwner", asked).await?;
            let accounts = answer.get("value").and_then(Value::as_array).ok_or("no token accounts")?;
            let (mut sum, mut rent) = (0_u128, 0_u128);
            for account in accounts {
                let amount = account.pointer("/account/data/parsed/info/tokenAmount/amount").and_then(Value::as_str);
                sum = sum.saturating_add(amount.ok_or("no token amount")?.parse()?);
                rent = rent.saturating_add(
                    account.pointer("/account/lamports").and_then(Value::as_u64).ok_or("no rent")?.into(),
                );
            }
            Ok((sum, rent))
        }
    }
}

/// What these addresses have in the blocks of the best chain, in satoshis.
async fn unspent<'a>(
    node: &RpcClient,
    addresses: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, u128>, Failure> {
    let mut by_script = BTreeMap::new();
    for address in addresses {
        let unchecked: bitcoin::Address<bitcoin::address::NetworkUnchecked> = address.parse()?;
        let script = unchecked.assume_checked().script_pubkey().to_hex_string();
        by_script.insert(script, UncheckedAddress::new(address));
    }
    let wanted: Vec<String> = by_script.values().map(|address| format!("addr({address})")).collect();
    let found: Value = node.call("scantxoutset", json!(["start", wanted])).await?;
    let mut sums: BTreeMap<String, u128> = BTreeMap::new();
    for output in found.get("unspents").and_then(Value::as_array).ok_or("no unspent outputs")? {
        let script = output.get("scriptPubKey").and_then(Value::as_str).ok_or("an output without a script")?;
        let Some(address) = by_script.get(script) else { continue };
        let value = satoshis(output.get("amount").ok_or("an output without an amount")?)?;
        let sum = sums.entry(address.as_str().to_owned()).or_default();
        *sum = sum.checked_add(value).ok_or("a sum above 2^128")?;
    }
    Ok(sums)
}

/// The fee that the chain took for a transaction; none where it is in no block.
async fn fee(node: &RpcClient, chain: ChainKind, id: &str) -> Result<Option<u128>, Failure> {
    match chain {
        ChainKind::Bitcoin => {
            let found: Result<Value, _> = node.call("getrawtransaction", json!([id, 2])).await;
            // A transaction that was replaced isn't there any more.
            let Ok(found) = found else { return Ok(None) };
            let included = found.get("confirmations").and_then(Value::as_u64).is_some_and(|deep| deep > 0);
            found.get("fee").filter(|_| included).map(satoshis).transpose()
        }
        ChainKind::Ethereum => {
            let receipt: Value = node.call("eth_getTransactionReceipt", json!([id])).await?;
            let field = |name: &str| receipt.get(name).and_then(Value::as_str).map(quantity).transpose();
            let (Some(gas), Some(price)) = (field("gasUsed")?, field("effectiveGasPrice")?) else { return Ok(None) };
            Ok(Some(gas.checked_mul(price).ok_or("a fee above 2^128")?))
        }
        ChainKind::Solana => {
            let asked = json!([id, { "commitment": "finalized", "maxSupportedTransactionVersion": 0 }]);
            let found: Value = node.call("getTransaction", asked).await?;
            Ok(found.pointer("/meta/fee").and_then(Value::as_u64).map(u128::from))
        }
    }
}

fn satoshis(amount: &Value) -> Result<u128, Failure> {
    // The shortest text that means this number, without an exponent, is what the node wrote.
    let text = amount.as_f64().ok_or("an amount that is no number")?.to_string();
    Ok(bitcoin::Amount::from_str_in(&text, bitcoin::Denomination::Bitcoin)?.to_sat().into())
}

/// A `0x` quantity below 2^128.
fn quantity(text: &str) -> Result<u128, Failure> {
    let digits = text.strip_prefix("0x").ok_or_else(|| format!("{text:?} is no quantity"))?;
    let digits = digits.trim_start_matches('0');
    Ok(u128::from_str_radix(if digits.is_empty() { "0" } else { digits }, 16)?)
}
