//! `wallet_*`: what there is to pay from.

use std::collections::BTreeMap;

use chains::account::{Account, KeyId, KeyPath, WalletId};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use signer::roster::Role;

use super::{Context, params};
use crate::auth::Asked;
use crate::error::ApiError;
use crate::pipeline::nonces::{Ledger, LedgerError};
use crate::store::WalletFreeze;

#[derive(Clone, Serialize)]
pub(super) struct WalletView {
    wallet: WalletId,
    network: Network,
    address: String,
    key: KeyId,
    path: KeyPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    frozen: Option<WalletFreeze>,
}

impl WalletView {
    fn new(account: &Account, frozen: Option<WalletFreeze>) -> Self {
        Self {
            wallet: account.wallet().clone(),
            network: account.network(),
            address: account.address().to_string(),
            key: account.key().clone(),
            path: account.path().clone(),
            frozen,
        }
    }
}

/// `wallet_list`.
pub(super) async fn list(context: &Context, asked: &Asked) -> Result<Vec<WalletView>, ApiError> {
    asked.caller()?;
    let mut frozen = frozen(context).await?;
    Ok(context.pipeline.accounts().map(|account| WalletView::new(account, frozen.remove(account.wallet()))).collect())
}

async fn frozen(context: &Context) -> Result<BTreeMap<WalletId, WalletFreeze>, ApiError> {
    let freezes = context.pipeline.store().frozen_wallets().await?;
    Ok(freezes.into_iter().map(|freeze| (freeze.wallet.clone(), freeze)).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Balance {
    wallet: WalletId,
    asset: Option<Asset>,
}

#[derive(Clone, Serialize)]
pub(super) struct BalanceView {
    wallet: WalletId,
    asset: Asset,
    amount: Amount,
}

/// `wallet_balance {wallet, asset?}`: of the native coin, if not told otherwise.
pub(super) async fn balance(context: &Context, asked: &Asked) -> Result<BalanceView, ApiError> {
    asked.caller()?;
    let Balance { wallet, asset } = params(asked)?;
    let asset = asset.unwrap_or(Asset::Native);
    let account = account(context, &wallet)?;
    let network = account.network();
    if !asset.exists_on(network.family()) {
        return Err(ApiError::new("wrong_asset", format!("{asset} doesn't exist on {network}")));
    }
    let lane = context.pipeline.lane(network).ok_or_else(|| unknown(&wallet))?;
    let amount = lane
        .balance(account, asset)
        .await
        .map_err(|error| ApiError::new("node_unreachable", error.to_string()).retry_after(1_000))?;
    Ok(BalanceView { wallet, asset, amount })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    wallet: WalletId,
}

/// `wallet_nonces {wallet}`: the account's nonces as the store and the nodes have them, and what doesn't add up.
pub(super) async fn nonces(context: &Context, asked: &Asked) -> Result<Ledger, ApiError> {
    asked.caller()?;
    let Named { wallet } = params(asked)?;
    let account = account(context, &wallet)?;
    context.pipeline.nonces(account).await.map_err(|error| match error {
        LedgerError::Store(error) => error.into(),
        LedgerError::Lane(error) => ApiError::new("node_unreachable", error.to_string()).retry_after(1_000),
        LedgerError::NoLane(_) => unknown(&wallet),
    })
}

/// The longest reason of a freeze, in bytes.
const MAX_REASON: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Freeze {
    wallet: WalletId,
    reason: String,
}

/// `wallet_freeze {wallet, reason}`: from here on nothing but cancellations is signed for the wallet. What the signers were
/// asked for before is under way. By an operator.
pub(super) async fn freeze(context: &Context, asked: &Asked) -> Result<WalletView, ApiError> {
    let caller = asked.caller_as(Role::Operator)?;
    let Freeze { wallet, reason } = params(asked)?;
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(ApiError::new("invalid_params", format!("say why, in at most {MAX_REASON} bytes")));
    }
    let account = account(context, &wallet)?;
    let at = context.clock.unix_millis();
    let freeze = WalletFreeze { wallet, by: caller.id.to_string(), reason, at, nonce: None };
    context.pipeline.store().freeze_wallet(freeze.clone(), Some(caller.claims.clone())).await?;
    tracing::warn!(wallet = %freeze.wallet, by = freeze.by, reason = freeze.reason, "the wallet is frozen");
    Ok(WalletView::new(account, Some(freeze)))
}

/// `wallet_unfreeze {wallet}`: payments go on. Whoever lifts a freeze that the gateway made vouches for the nonces that somebody
/// else has used up by then. By an operator.
pub(super) async fn unfreeze(context: &Context, asked: &Asked) -> Result<WalletView, ApiError> {
    let caller = asked.caller_as(Role::Operator)?;
    let Named { wallet } = params(asked)?;
    let account = account(context, &wallet)?;
    let at = context.clock.unix_millis();
    context.pipeline.store().unfreeze_wallet(wallet, caller.claims.clone(), at).await?;
    tracing::warn!(wallet = %account.wallet(), by = %caller.id, "the wallet is frozen no more");
    Ok(WalletView::new(account, None))
}

fn account<'c>(context: &'c Context, wallet: &WalletId) -> Result<&'c Account, ApiError> {
    context.pipeline.account(wallet).ok_or_else(|| unknown(wallet))
}

fn unknown(wallet: &WalletId) -> ApiError {
    ApiError::new("unknown_wallet", format!("there is no wallet {wallet}"))
}
