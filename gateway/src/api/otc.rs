//! `otc_*`: deals, delivery versus payment. A deal is a record like any other; [`crate::pipeline::deal`] tells its states.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use signer::approval::{Approval, Decision};
use signer::policy::quorum::Group;
use signer::request::deal::{Deal, Terms};
use signer::request::{Go, IntentId, SignedRequest, Submission};
use signer::roster::{CredentialId, Role};

use super::approval::{QuorumView, checked, keep, not_waiting, quorums, shown};
use super::view::TxView;
use super::{Context, params, tx};
use crate::auth::Asked;
use crate::error::ApiError;
use crate::pipeline::deal::Voice;
use crate::record::{Record, RecordId, State};
use crate::store::Filter;

/// How many deals `otc_list` answers if not told otherwise, and at most.
const PAGE: (u32, u32) = (50, 500);
/// How long a deal may be open, in seconds: 31 days. It keeps what it reserves of the limits for so long.
const MAX_OPEN_SECONDS: u64 = 31 * 86_400;

/// A deal as it stands, as `otc_get` answers it. Nothing of it has to be believed: payment and terms are in the request's body, and
/// every signer counts for itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DealView {
    /// The record of the crypto leg.
    pub tx: TxView,
    /// The request as the desk signed it: the JWT, and the raw body in base64.
    pub request: SignedRequest,
    /// The SHA-256 of the body, hex: what statements and the desk's go name.
    pub request_digest: String,
    /// The intent that a statement names.
    pub intent_id: IntentId,
    /// The terms.
    pub deal: Deal,
    /// The crypto leg: who has approved for the one party, and for the other.
    pub crypto: CryptoLeg,
    /// The fiat leg: who has confirmed that it is paid.
    pub fiat_confirmed_by: Vec<Voice>,
    /// What has to be met: the deal's own quorum, and the policy's.
    pub quorums: Vec<QuorumView>,
    /// Who is missing, in words; `release` where only the desk's go is.
    pub missing: Vec<String>,
    /// Who has given the go, where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_by: Option<CredentialId>,
    /// Until when everything must be there, in milliseconds since the Unix epoch.
    pub until: u64,
}

/// Who has approved the crypto leg.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CryptoLeg {
    /// For party A.
    pub party_a: Vec<Voice>,
    /// For party B.
    pub party_b: Vec<Voice>,
}

/// `otc_open {idempotency_key, intent, deal}`: a payment that waits until both parties have approved and the fiat leg is confirmed.
/// By an initiator, the desk.
pub(super) async fn open(context: &Context, asked: &Asked) -> Result<DealView, ApiError> {
    let caller = asked.caller_as(Role::Initiator)?;
    let submission = Submission::from_call(&asked.call)?;
    let deal = submission.deal.clone().ok_or_else(|| ApiError::new("not_a_deal", "the call has no terms of a deal"))?;
    check(context, &deal)?;
    let record = tx::accept(context, caller, submission).await?;
    view(context, record)
}

/// What can be seen to be wrong with terms: nothing is stored for them.
fn check(context: &Context, deal: &Deal) -> Result<(), ApiError> {
    let Terms { party_a, party_b, fiat_confirmer, expires, .. } = deal.terms();
    let roster = &context.pipeline.roster;
    for group in [party_a, party_b, fiat_confirmer] {
        let somebody = roster.credentials().filter(|credential| credential.role == Role::Approver);
        let mut groups = somebody.filter_map(|credential| roster.approver(&credential.id));
        if !groups.any(|approver| approver.groups.contains(group)) {
            return Err(ApiError::new("invalid_params", format!("no approver is of the group {group}")));
        }
    }
    let now = context.clock.unix_millis() / 1000;
    if *expires <= now || expires.saturating_sub(now) > MAX_OPEN_SECONDS {
        let message = "a deal's time ends in the future, within 31 days; `expires` is in seconds since 1970";
        return Err(ApiError::new("invalid_params", message));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    tx_id: RecordId,
}

/// `otc_get {tx_id}`: both legs, who has said what, what is missing, and until when.
pub(super) async fn get(context: &Context, asked: &Asked) -> Result<DealView, ApiError> {
    let caller = asked.caller()?;
    let Get { tx_id } = params(asked)?;
    view(context, shown(context, caller, tx_id).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    state: Option<State>,
    before: Option<RecordId>,
    limit: Option<u32>,
}

/// `otc_list {state?, before?, limit?}`: deals, newest first.
pub(super) async fn list(context: &Context, asked: &Asked) -> Result<Vec<DealView>, ApiError> {
    let caller = asked.caller()?;
    let List { state, before, limit } = params(asked)?;
    let filter = Filter {
        client: (caller.role == Role::Initiator).then(|| caller.id.clone()),
        wallet: None,
        state,
        deals: true,
        before,
        limit: limit.unwrap_or(PAGE.0).min(PAGE.1),
    };
    let records = context.pipeline.store().list(filter).await?;
    records.into_iter().map(|record| view(context, record)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirm {
    tx_id: RecordId,
    approval: Approval,
}

/// `otc_confirmLeg {tx_id, approval}`: the statement of somebody whom the terms name: a party's approval, or the confirmation that the
/// fiat leg is paid. What it is follows from the approver's groups. Anybody with a credential may hand it in.
pub(super) async fn confirm_leg(context: &Context, asked: &Asked) -> Result<DealView, ApiError> {
    let caller = asked.caller()?;
    let Confirm { tx_id, approval } = params(asked)?;
    let record = shown(context, caller, tx_id).await?;
    let deal = terms(&record)?;
    let (statement, approver) = checked(context, &record, &approval)?;
    if statement.decision != Decision::Approve {
        return Err(ApiError::new("invalid_approval", "that is a rejection; hand it in by otc_abort").about(&record));
    }
    if deal.seats(&approver.groups).is_empty() {
        return Err(no_part(&record, &approval.approver));
    }
    keep(context, caller, &record, approval, Decision::Approve).await?;
    view(context, shown(context, caller, tx_id).await?)
}

/// `otc_release {tx_id, request}`: the explicit go of the initiator who opened the deal, once everything else is there; `request` is the
/// SHA-256 of the body that opened it, so that the go is for these terms and no others.
pub(super) async fn release(context: &Context, asked: &Asked) -> Result<DealView, ApiError> {
    let caller = asked.caller_as(Role::Initiator)?;
    let Go { tx_id, request } = Go::from_call(&asked.call)?;
    let tx_id = RecordId::new(tx_id);
    let record = shown(context, caller, tx_id).await?;
    if !terms(&record)?.is_released_by_hand() {
        return Err(ApiError::new("invalid_params", "the deal releases itself once everything is there").about(&record));
    }
    if request != <[u8; 32]>::from(Sha256::digest(&record.request.body)) {
        return Err(ApiError::new("invalid_params", "the go is for other terms").about(&record));
    }
    if record.state == State::AwaitingApproval && context.pipeline.needs(&record).people_missing() > 0 {
        let missing = view(context, record.clone())?.missing.join(", ");
        return Err(ApiError::new("deal_incomplete", format!("the deal waits for {missing}")).about(&record));
    }
    let (claims, signed, at) = (caller.claims.clone(), (*caller.request).clone(), context.clock.unix_millis());
    let kept = context.pipeline.store().let_deal_go(tx_id, claims, signed, at).await;
    kept.map_err(|error| not_waiting(error, &record))?;
    tracing::info!(%tx_id, credential = %caller.id, "the desk has released the deal");
    context.pipeline.look_at(&record);
    view(context, shown(context, caller, tx_id).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Abort {
    tx_id: RecordId,
    approval: Option<Approval>,
}

/// `otc_abort {tx_id, approval?}`: ends a deal that isn't signed: with the signed rejection of either party, or without one by whoever
/// opened it or an operator.
pub(super) async fn abort(context: &Context, asked: &Asked) -> Result<DealView, ApiError> {
    let caller = asked.caller()?;
    let Abort { tx_id, approval } = params(asked)?;
    let record = shown(context, caller, tx_id).await?;
    let deal = terms(&record)?;
    let Some(approval) = approval else {
        if record.state >= State::Signing {
            let message = format!("the deal is {}; what was signed is cancelled by tx_cancel", record.state);
            return Err(ApiError::new("not_awaiting_approval", message).about(&record));
        }
        tx::cancel(context, asked).await?;
        return view(context, shown(context, caller, tx_id).await?);
    };
    let (statement, approver) = checked(context, &record, &approval)?;
    if statement.decision != Decision::Reject {
        return Err(
            ApiError::new("invalid_approval", "that is an approval; hand it in by otc_confirmLeg").about(&record)
        );
    }
    let Terms { party_a, party_b, .. } = deal.terms();
    if !approver.groups.contains(party_a) && !approver.groups.contains(party_b) {
        return Err(no_part(&record, &approval.approver));
    }
    keep(context, caller, &record, approval, Decision::Reject).await?;
    view(context, shown(context, caller, tx_id).await?)
}

fn terms(record: &Record) -> Result<&Deal, ApiError> {
    let deal = record.deal.as_ref();
    deal.ok_or_else(|| ApiError::new("not_a_deal", format!("record {} is no deal's leg", record.id)).about(record))
}

fn no_part(record: &Record, who: &CredentialId) -> ApiError {
    ApiError::new("no_part_in_deal", format!("the deal's terms name no group of {who}'s")).about(record)
}

fn view(context: &Context, record: Record) -> Result<DealView, ApiError> {
    let pipeline = &context.pipeline;
    let deal = terms(&record)?.clone();
    let Terms { party_a, party_b, fiat_confirmer, .. } = deal.terms();
    let (needs, voices) = (pipeline.needs(&record), pipeline.voices(&record));
    let of = |group: &Group| -> Vec<Voice> {
        voices.iter().filter(|voice| voice.speaks_for.contains(group)).cloned().collect()
    };
    let crypto = CryptoLeg { party_a: of(party_a), party_b: of(party_b) };
    let fiat_confirmed_by = of(fiat_confirmer);
    let sides = [(party_a, &crypto.party_a), (party_b, &crypto.party_b), (fiat_confirmer, &fiat_confirmed_by)];
    let mut missing: Vec<String> =
        sides.iter().filter(|(_, said)| said.is_empty()).map(|(group, _)| format!("1 of {group}")).collect();
    let own = deal.quorum();
    let (mine, others): (Vec<_>, Vec<_>) = needs.quorums.iter().partition(|(quorum, _)| *quorum == own);
    if mine.iter().any(|(_, people)| *people > missing.len()) {
        // Somebody is of both parties, and speaks for one of them.
        missing.push(format!("1 more of {party_a} or {party_b}"));
    }
    let unmet = others.into_iter().filter(|(_, people)| *people > 0);
    missing.extend(unmet.map(|(quorum, people)| format!("{people} more for {quorum}")));
    if missing.is_empty() && needs.go {
        missing.push("release".to_owned());
    }
    if record.state >= State::Queued {
        missing.clear(); // it waits for nobody any more
    }
    let released_by = record.release().map(|_| record.client.clone());
    Ok(DealView {
        request: record.request.clone(),
        request_digest: hex_digest(&record.request.body),
        intent_id: record.intent_id(),
        crypto,
        fiat_confirmed_by,
        quorums: quorums(&needs),
        missing,
        released_by,
        until: needs.expires_at,
        deal,
        tx: record.into(),
    })
}

fn hex_digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}
