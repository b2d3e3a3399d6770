//! `tx_*`: asking for payments and looking after them.

use chains::account::WalletId;
use chains::address::{AddressError, UncheckedAddress};
use chains::intent::{Action, Intent};
use chains::network::Network;
use serde::Deserialize;
use signer::request::{Cancellation, IdempotencyKey, Submission};
use signer::roster::Role;
use uuid::Uuid;

use super::view::TxView;
use super::{Context, params};
use crate::auth::{Asked, Caller};
use crate::error::ApiError;
use crate::pipeline::replace::{Ask, ReplaceError};
use crate::record::{Purpose, Record, RecordId, State};
use crate::store::{Cancelling, Filter, NewIntent, StoreError};

/// How many records `tx_list` answers if not told otherwise, and at most.
const PAGE: (u32, u32) = (50, 500);

/// `tx_submit {idempotency_key, intent}`: accepts the intent and answers its record, which then goes on by itself.
pub(super) async fn submit(context: &Context, asked: &Asked) -> Result<TxView, ApiError> {
    let caller = asked.caller_as(Role::Initiator)?;
    Ok(accept(context, caller, Submission::from_call(&asked.call)?).await?.into())
}

/// Accepts what was asked for, and answers its record unless it is refused.
pub(super) async fn accept(context: &Context, caller: &Caller, submission: Submission) -> Result<Record, ApiError> {
    let network = check(context, &submission.intent)?;
    let (at, until) = context.pipeline.term();
    let record = context
        .pipeline
        .accept(NewIntent {
            id: RecordId::new(Uuid::now_v7()),
            claims: caller.claims.clone(),
            idempotency_key: submission.idempotency_key,
            network,
            intent: submission.intent,
            deal: submission.deal,
            request: (*caller.request).clone(),
            owner: context.pipeline.tenure.owner.clone(),
            at,
            until,
        })
        .await?;
    match record.state {
        State::Rejected | State::Blocked => Err(ApiError::of_record(&record)),
        _ => Ok(record),
    }
}

/// What can be seen to be wrong without asking a node: nothing is stored for it.
pub(super) fn check(context: &Context, intent: &Intent) -> Result<Network, ApiError> {
    let account = context
        .pipeline
        .account(&intent.wallet)
        .ok_or_else(|| ApiError::new("unknown_wallet", format!("there is no wallet {}", intent.wallet)))?;
    let network = account.network();
    match &intent.action {
        Action::Transfer { asset, to, amount } => {
            if !asset.exists_on(network.family()) {
                return Err(ApiError::new("wrong_asset", format!("{asset} doesn't exist on {network}")));
            }
            if amount.is_zero() {
                return Err(ApiError::new("zero_amount", "the amount is zero"));
            }
            check_address(to, network)?;
        }
        Action::Call { contract, .. } => check_address(contract, network)?,
        Action::CallProgram { instructions, lookup_tables } => {
            lookup_tables.iter().try_for_each(|table| check_address(table, network))?;
            for instruction in instructions {
                check_address(&instruction.program, network)?;
                instruction.accounts.iter().try_for_each(|account| check_address(&account.address, network))?;
            }
        }
        // Whether the network has such accounts, and which indices, is for its adapter to say.
        Action::OpenNonce { .. } | Action::Accelerate { .. } => {}
    }
    Ok(network)
}

fn check_address(address: &UncheckedAddress, network: Network) -> Result<(), ApiError> {
    address.require_network(network).map(|_| ()).map_err(|error| {
        let kind = match &error {
            AddressError::WrongNetwork { .. } => "wrong_network",
            _ => "invalid_address",
        };
        ApiError::new(kind, error.to_string())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    tx_id: RecordId,
}

/// `tx_get {tx_id}`.
pub(super) async fn get(context: &Context, asked: &Asked) -> Result<TxView, ApiError> {
    let caller = asked.caller()?;
    let Get { tx_id } = params(asked)?;
    let record = context.pipeline.store().get(tx_id).await?;
    shown(record, caller).ok_or_else(|| ApiError::new("unknown_record", format!("there is no record {tx_id}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetByKey {
    idempotency_key: IdempotencyKey,
}

/// `tx_getByKey {idempotency_key}`: the caller's own record of this key.
pub(super) async fn get_by_key(context: &Context, asked: &Asked) -> Result<TxView, ApiError> {
    let caller = asked.caller()?;
    let GetByKey { idempotency_key } = params(asked)?;
    let record = context.pipeline.store().by_key(&caller.id, &idempotency_key).await?;
    shown(record, caller).ok_or_else(|| {
        ApiError::new("unknown_record", format!("there is no record of key {}", idempotency_key.as_str()))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpeedUp {
    tx_id: RecordId,
    attempt: Option<u32>,
}

/// `tx_speedUp {tx_id, attempt?}`: the same payment, or the same cancelling transaction, for a higher fee. Where there is a later
/// attempt than `attempt` already, nothing is done. By its initiator or an operator.
pub(super) async fn speed_up(context: &Context, asked: &Asked) -> Result<TxView, ApiError> {
    let caller = asked.caller()?;
    let SpeedUp { tx_id, attempt } = params(asked)?;
    let record = steered(context, caller, tx_id).await?;
    let pipeline = &context.pipeline;
    pipeline.store().use_token(caller.claims.clone(), context.clock.unix_millis()).await?;
    tracing::info!(%tx_id, credential = %caller.id, "a higher fee is asked for");
    let replaced = pipeline.replace(tx_id, Ask::SpeedUp { slow: attempt }).await;
    Ok(replaced.map_err(|error| ApiError::from(error).about(&record))?.into())
}

/// `tx_cancel {tx_id}`: ends a payment that isn't signed; of any other it has a transaction signed that keeps it off the chain,
/// and answers as soon as that is sent. Whether it wins, the record tells. By its initiator or an operator.
pub(super) async fn cancel(context: &Context, asked: &Asked) -> Result<TxView, ApiError> {
    let caller = asked.caller()?;
    let tx_id = RecordId::new(Cancellation::from_call(&asked.call)?.tx_id);
    let record = steered(context, caller, tx_id).await?;
    let pipeline = &context.pipeline;
    if let Some(included) = record.attempts.iter().find(|attempt| attempt.inclusion.is_some()) {
        if included.purpose == Purpose::Cancel {
            return Ok(record.into());
        }
        return Err(ApiError::from(ReplaceError::AlreadyIncluded(included.number)).about(&record));
    }
    tracing::info!(%tx_id, credential = %caller.id, "cancelling is asked for");
    let (claims, request) = (caller.claims.clone(), (*caller.request).clone());
    match pipeline.store().cancel(tx_id, claims, request, context.clock.unix_millis()).await {
        Ok(Cancelling::Done) => {}
        Ok(Cancelling::Asked) => match pipeline.replace(tx_id, Ask::Cancel).await {
            // The request is kept: what passes is gone on with by itself, by whoever holds the record.
            Ok(_)
            | Err(
                ReplaceError::Retry(_)
                | ReplaceError::Busy
                | ReplaceError::HeldElsewhere
                | ReplaceError::NotOnItsWay(State::Queued | State::Signing | State::Signed | State::Cancelled),
            ) => {}
            Err(error) => return Err(ApiError::from(error).about(&record)),
        },
        Err(StoreError::Stale { found: State::Cancelled, .. }) => {}
        Err(StoreError::Stale { found, .. }) => {
            return Err(ApiError::from(ReplaceError::NotOnItsWay(found)).about(&record));
        }
        Err(error) => return Err(error.into()),
    }
    let record = pipeline.store().get(tx_id).await?;
    record.map(TxView::from).ok_or_else(|| StoreError::NoRecord(tx_id).into())
}

/// The record, for somebody who may hurry it on or cancel it.
async fn steered(context: &Context, caller: &Caller, id: RecordId) -> Result<Record, ApiError> {
    if !matches!(caller.role, Role::Initiator | Role::Operator) {
        let message = format!("this needs the payment's initiator or an operator; {} has {}", caller.id, caller.role);
        return Err(ApiError::new("forbidden", message));
    }
    let record = context.pipeline.store().get(id).await?;
    let own = record.filter(|record| caller.role == Role::Operator || record.client == caller.id);
    own.ok_or_else(|| ApiError::new("unknown_record", format!("there is no record {id}")))
}

/// An initiator sees its own records, everybody else all of them.
fn shown(record: Option<Record>, caller: &Caller) -> Option<TxView> {
    record.filter(|record| caller.role != Role::Initiator || record.client == caller.id).map(TxView::from)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    wallet: Option<WalletId>,
    state: Option<State>,
    before: Option<RecordId>,
    limit: Option<u32>,
}

/// `tx_list {wallet?, state?, before?, limit?}`: records, newest first; `before` is the last one of the page before.
pub(super) async fn list(context: &Context, asked: &Asked) -> Result<Vec<TxView>, ApiError> {
    let caller = asked.caller()?;
    let List { wallet, state, before, limit } = params(asked)?;
    let filter = Filter {
        client: (caller.role == Role::Initiator).then(|| caller.id.clone()),
        wallet: wallet.map(|wallet| wallet.to_string()),
        state,
        deals: false,
        before,
        limit: limit.unwrap_or(PAGE.0).min(PAGE.1),
    };
    let records = context.pipeline.store().list(filter).await?;
    Ok(records.into_iter().map(TxView::from).collect())
}
