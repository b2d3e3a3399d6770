//! Acting for others: an approver's signed delegation, made, listed and revoked.

use std::collections::BTreeSet;

use chains::account::WalletId;
use chains::amount::Amount;
use chains::asset::Asset;
use clap::Args;
use gateway::api::delegation::{DelegationState, DelegationView};
use gateway::clock::{Clock as _, SystemClock};
use serde_json::json;
use signer::approval::Approval;
use signer::approval::delegation::{Delegation, DelegationId, PAYLOAD_TYPE, UpTo};
use signer::roster::CredentialId;

use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::person::Person;

/// What is delegated.
#[derive(Debug, Args)]
pub(crate) struct Delegate {
    /// The credential of the approver who is to act for you.
    delegate: CredentialId,
    /// For so many hours from the present on, at most 31 days.
    #[arg(long)]
    hours: u32,
    /// For payments of this wallet alone; may be given several times.
    #[arg(long)]
    wallet: Vec<WalletId>,
    /// For transfers up to this amount alone, in base units.
    #[arg(long)]
    up_to: Option<Amount>,
    /// Of what: native, erc20:0x… or spl:MINT.
    #[arg(long, default_value = "native")]
    asset: Asset,
}

/// Signs a delegation and hands it in.
///
/// # Errors
/// What went wrong.
pub(crate) async fn delegate(person: &Person, what: Delegate) -> Result<(), Failure> {
    let Delegate { delegate, hours, wallet, up_to, asset } = what;
    let from = SystemClock.unix_seconds();
    let terms = Delegation {
        delegate,
        from,
        until: from.saturating_add(u64::from(hours).saturating_mul(3_600)),
        wallets: BTreeSet::from_iter(wallet),
        up_to: up_to.map(|amount| UpTo { asset, amount }),
    };
    let about = format!("{} acts for {}", terms.delegate, person.id);
    let envelope = person.sign(PAYLOAD_TYPE, terms.to_payload(), &about).await?;
    let view: DelegationView = person.client.call("approval_delegate", json!({ "delegation": envelope })).await?;
    tell(&view);
    Ok(())
}

/// Lists delegations.
///
/// # Errors
/// What went wrong.
pub(crate) async fn list(client: &GatewayClient) -> Result<(), Failure> {
    all(client).await?.iter().for_each(tell);
    Ok(())
}

/// Takes a delegation back.
///
/// # Errors
/// What went wrong.
pub(crate) async fn revoke(client: &GatewayClient, id: DelegationId) -> Result<(), Failure> {
    let view: DelegationView = client.call("approval_revoke", json!({ "id": id })).await?;
    tell(&view);
    println!("signers count it until its time is over; a gateway that is your own no longer hands it to them");
    Ok(())
}

/// The delegation under which `delegate` may act for `delegator`, where one is asked for.
///
/// # Errors
/// Where none stands.
pub(crate) async fn standing(
    client: &GatewayClient,
    delegate: &CredentialId,
    delegator: Option<&CredentialId>,
) -> Result<Option<Approval>, Failure> {
    let Some(delegator) = delegator else { return Ok(None) };
    let found = all(client).await?.into_iter().find(|view| {
        view.state == DelegationState::Standing && view.delegator == *delegator && view.terms.delegate == *delegate
    });
    Ok(Some(found.ok_or_else(|| format!("{delegator} has delegated nothing to {delegate} that stands"))?.envelope))
}

async fn all(client: &GatewayClient) -> Result<Vec<DelegationView>, Failure> {
    Ok(client.call("approval_delegations", json!({})).await?)
}

fn tell(view: &DelegationView) {
    let Delegation { delegate, until, wallets, up_to, .. } = &view.terms;
    let wallets: Vec<_> = wallets.iter().map(ToString::to_string).collect();
    let wallets = if wallets.is_empty() { "every wallet".to_owned() } else { wallets.join(", ") };
    let most = up_to.map(|most| format!(", up to {} of {}", most.amount, most.asset)).unwrap_or_default();
    println!("{}  {:?}", view.id, view.state);
    println!("  {delegate} acts for {} for {wallets}{most}, until {until} (seconds since 1970)", view.delegator);
}
