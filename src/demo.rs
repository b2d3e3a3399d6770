//! `portcullis dev --demo`: one payment of each kind, from JSON-RPC to finality, with the balances checked on both sides.

use std::collections::BTreeMap;

use chains::account::WalletId;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::intent::{Action, Intent};
use chains::rpc::RpcClient;
use gateway::api::view::TxView;
use gateway::record::State;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::tx;

/// One payment of the demo.
pub(crate) struct Payment {
    /// What kind it is, for people.
    pub title: &'static str,
    /// What is asked for.
    pub intent: Intent,
}

/// Where a payee's balance can be read on the node itself, past the gateway.
pub(crate) struct Nodes {
    /// The Bitcoin node, with its cookie.
    pub bitcoin: RpcClient,
    /// The Ethereum node.
    pub ethereum: RpcClient,
    /// The Solana node.
    pub solana: RpcClient,
}

/// Sends every payment, follows each to its end, and checks the balances of payers and payees.
///
/// # Errors
/// Where a payment doesn't become final, or a balance doesn't add up.
pub(crate) async fn run(client: &GatewayClient, nodes: &Nodes, payments: Vec<Payment>) -> Result<(), Failure> {
    let mut books = Books::default();
    for Payment { intent, .. } in &payments {
        let Action::Transfer { asset, to, .. } = &intent.action else { continue };
        books.open(client, &intent.wallet, *asset).await?;
        books.open(client, &intent.wallet, Asset::Native).await?;
        let before = nodes.balance(*asset, to.as_str()).await?;
        books.payees.entry((asset.to_string(), to.to_string())).or_insert((before, Amount::ZERO));
    }
    for (number, Payment { title, intent }) in payments.iter().enumerate() {
        println!("\n{}. {title}: {}", number + 1, tx::describe(intent));
        let rent_before = nodes.token_account_rent(intent).await?;
        let key = format!("demo-{}", uuid::Uuid::now_v7());
        let view = tx::submit(client, &key, intent).await?;
        let view = tx::walk(client, view.tx_id).await?;
        if view.state != State::Finalized {
            let reason = view.reason.map(|reason| reason.message).unwrap_or_default();
            return Err(format!("{title}: ended {} instead of finalized: {reason}", view.state).into());
        }
        let rent_after = nodes.token_account_rent(intent).await?;
        let rent = rent_after.checked_sub(rent_before).unwrap_or_default();
        books.post(&view, rent)?;
    }
    println!("\nbalances, in base units");
    books.close(client, nodes).await
}

/// What every balance was, and by how much it should have changed.
#[derive(Default)]
struct Books {
    wallets: BTreeMap<(WalletId, String), (Asset, Amount, Amount)>,
    payees: BTreeMap<(String, String), (Amount, Amount)>,
}

impl Books {
    async fn open(&mut self, client: &GatewayClient, wallet: &WalletId, asset: Asset) -> Result<(), Failure> {
        let before = wallet_balance(client, wallet, asset).await?;
        self.wallets.entry((wallet.clone(), asset.to_string())).or_insert((asset, before, Amount::ZERO));
        Ok(())
    }

    fn post(&mut self, view: &TxView, rent: Amount) -> Result<(), Failure> {
        let Action::Transfer { asset, to, amount } = &view.intent.action else { return Ok(()) };
        let fee = fee(view).ok_or("the node didn't tell the fee")?;
        let costs = [(*asset, *amount), (Asset::Native, fee), (Asset::Native, rent)];
        for (asset, cost) in costs {
            if let Some((_, _, spent)) = self.wallets.get_mut(&(view.intent.wallet.clone(), asset.to_string())) {
                *spent = spent.checked_add(cost).ok_or("a sum above 2^256")?;
            }
        }
        if let Some((_, received)) = self.payees.get_mut(&(asset.to_string(), to.to_string())) {
            *received = received.checked_add(*amount).ok_or("a sum above 2^256")?;
        }
        Ok(())
    }

    async fn close(self, client: &GatewayClient, nodes: &Nodes) -> Result<(), Failure> {
        let mut wrong = 0_u32;
        for ((wallet, name), (asset, before, spent)) in self.wallets {
            let after = wallet_balance(client, &wallet, asset).await?;
            let right = before.checked_sub(spent) == Some(after);
            wrong += u32::from(!right);
            println!("  {} {wallet}: {before} - {spent} = {after} {name}", verdict(right));
        }
        for ((name, payee), (before, received)) in self.payees {
            let after = nodes.balance(name.parse()?, &payee).await?;
            let right = before.checked_add(received) == Some(after);
            wrong += u32::from(!right);
            println!("  {} {payee}: {before} + {received} = {after} {name}", verdict(right));
        }
        if wrong == 0 { Ok(()) } else { Err(format!("{wrong} balances don't add up").into()) }
    }
}

const fn verdict(right: bool) -> &'static str {
    if right { "ok   " } else { "WRONG" }
}

/// The fee as the chain tells it, or as the transaction's own bytes fix it (Bitcoin).
fn fee(view: &TxView) -> Option<Amount> {
    let told = view.attempts.last()?.inclusion.as_ref()?.fee;
    told.or_else(|| {
        let exact =
            view.history.iter().rev().find_map(|step| step.detail.as_ref()?.pointer("/effects/max_fee").cloned());
        serde_json::from_value(exact?).ok()
    })
}

/// What a wallet has, asked of the gateway.
///
/// # Errors
/// Where it doesn't answer.
pub(crate) async fn wallet_balance(client: &GatewayClient, wallet: &WalletId, asset: Asset) -> Result<Amount, Failure> {
    let answer: Value = client.call("wallet_balance", json!({ "wallet": wallet, "asset": asset })).await?;
    Ok(serde_json::from_value(answer.get("amount").cloned().unwrap_or_default())?)
}

impl Nodes {
    /// What a payee has, asked of the node.
    async fn balance(&self, asset: Asset, payee: &str) -> Result<Amount, Failure> {
        Ok(match asset {
            Asset::Erc20(contract) => {
                let data = format!("0x70a08231{:0>64}", payee.trim_start_matches("0x")); // balanceOf(address)
                let word: String =
                    self.ethereum.call("eth_call", json!([{ "to": contract, "data": data }, "latest"])).await?;
                quantity(&word)?
            }
            Asset::Spl(_) => match self.token_account(asset, payee).await? {
                Some(account) => {
                    let answer: Value = self.solana.call("getTokenAccountBalance", json!([account])).await?;
                    answer.pointer("/value/amount").and_then(Value::as_str).ok_or("no token balance")?.parse()?
                }
                None => Amount::ZERO,
            },
            Asset::Native if payee.starts_with("0x") => {
                let balance: String = self.ethereum.call("eth_getBalance", json!([payee, "latest"])).await?;
                quantity(&balance)?
            }
            Asset::Native if payee.starts_with("bcrt1") => {
                let found: Value =
                    self.bitcoin.call("scantxoutset", json!(["start", [format!("addr({payee})")]])).await?;
                let outputs = found.get("unspents").and_then(Value::as_array).ok_or("no unspent outputs")?;
                let mut total = Amount::ZERO;
                for output in outputs {
                    let amount = output.get("amount").ok_or("an output without an amount")?.to_string();
                    let sat = bitcoin::Amount::from_str_in(&amount, bitcoin::Denomination::Bitcoin)?;
                    total = total.checked_add(Amount::from_sat(sat.to_sat())).ok_or("a sum above 2^256")?;
                }
                total
            }
            Asset::Native => {
                let answer: Value =
                    self.solana.call("getBalance", json!([payee, { "commitment": "finalized" }])).await?;
                let lamports = answer.get("value").and_then(Value::as_u64).ok_or("no balance")?;
                Amount::from_lamports(lamports)
            }
        })
    }

    async fn token_account(&self, asset: Asset, owner: &str) -> Result<Option<Value>, Failure> {
        let Asset::Spl(mint) = asset else { return Ok(None) };
        let params = json!([owner, { "mint": mint.to_string() }, { "encoding": "base64", "commitment": "finalized" }]);
        let answer: Value = self.solana.call("getTokenAccountsByOwner", params).await?;
        Ok(answer.pointer("/value/0/pubkey").cloned())
    }

    /// The lamports that the payee's token account holds as rent: the payer puts them there when it creates it.
    async fn token_account_rent(&self, intent: &Intent) -> Result<Amount, Failure> {
        let Action::Transfer { asset, to, .. } = &intent.action else { return Ok(Amount::ZERO) };
        let Some(account) = self.token_account(*asset, to.as_str()).await? else { return Ok(Amount::ZERO) };
        let answer: Value = self.solana.call("getBalance", json!([account, { "commitment": "finalized" }])).await?;
        Ok(Amount::from_lamports(answer.get("value").and_then(Value::as_u64).unwrap_or_default()))
    }
}

/// A `0x` quantity of at most 32 bytes.
fn quantity(text: &str) -> Result<Amount, Failure> {
    let digits = text.strip_prefix("0x").ok_or_else(|| format!("{text:?} is no quantity"))?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(format!("{digits:0>64}"), &mut bytes)?;
    Ok(Amount::from_be_bytes(bytes))
}
