//! `wallet_*`: what there is to pay from.

use chains::account::{Account, KeyId, KeyPath, WalletId};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::network::Network;
use serde::{Deserialize, Serialize};

use super::{Context, params};
use crate::auth::Asked;
use crate::error::ApiError;
use crate::pipeline::nonces::{Ledger, LedgerError};

#[derive(Clone, Serialize)]
pub(super) struct WalletView {
    wallet: WalletId,
    network: Network,
    address: String,
    key: KeyId,
    path: KeyPath,
}

impl From<&Account> for WalletView {
    fn from(account: &Account) -> Self {
        Self {
            wallet: account.wallet().clone(),
            network: account.network(),
            address: account.address().to_string(),
            key: account.key().clone(),
            path: account.path().clone(),
        }
    }
}

/// `wallet_list`.
pub(super) async fn list(context: &Context, asked: &Asked) -> Result<Vec<WalletView>, ApiError> {
    asked.caller()?;
    Ok(context.pipeline.accounts().map(WalletView::from).collect())
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
    let unknown = || ApiError::new("unknown_wallet", format!("there is no wallet {wallet}"));
    let account = context.pipeline.account(&wallet).ok_or_else(unknown)?;
    let network = account.network();
    if !asset.exists_on(network.family()) {
        return Err(ApiError::new("wrong_asset", format!("{asset} doesn't exist on {network}")));
    }
    let lane = context.pipeline.lane(network).ok_or_else(unknown)?;
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
    let unknown = || ApiError::new("unknown_wallet", format!("there is no wallet {wallet}"));
    let account = context.pipeline.account(&wallet).ok_or_else(unknown)?;
    context.pipeline.nonces(account).await.map_err(|error| match error {
        LedgerError::Store(error) => error.into(),
        LedgerError::Lane(error) => ApiError::new("node_unreachable", error.to_string()).retry_after(1_000),
        LedgerError::NoLane(_) => unknown(),
    })
}
