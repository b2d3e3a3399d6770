//! One cell of the matrix: a chain, a store, a point. The gateway is killed there, started again, and what it makes of it is
//! held against the chain.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chains::network::Family;
use gateway::api::view::TxView;
use gateway::record::{Record, State};
use gateway::store::Store;
use serde_json::{Value, json};
use signer::request::SignedRequest;

use super::check;
use super::child::Child;
use super::relay::{Answer, Calls, Weather};
use super::stand::Stand;
use crate::cli::Failure;
use crate::client::{ClientError, GatewayClient};

/// How long the gateway may take to come to the point.
const ARRIVAL: Duration = Duration::from_secs(60);
/// How long a payment may take to its end.
pub(super) const END: Duration = Duration::from_secs(60);
/// How often a payment is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(25);
/// How long a restarted gateway may take to do something about a payment before blocks are made again.
const STIR: Duration = Duration::from_secs(2);

/// A place where the gateway is killed, and how a payment gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Its name in the gateway.
    pub(super) name: &'static str,
    /// What is asked for.
    pub(super) kind: Kind,
}

/// How a payment gets to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is simply paid.
    Pay,
    /// It waits, and is sped up or cancelled.
    Replace,
    /// It ends unsigned, or is cancelled while it waits: what it had drawn is given back.
    Refund,
}

const fn point(name: &'static str, kind: Kind) -> Point {
    Point { name, kind }
}

/// Every arrow of a payment's life.
pub(super) const POINTS: [Point; 22] = [
    point("accept.before", Kind::Pay),
    point("accept.after", Kind::Pay),
    point("judge.before", Kind::Pay),
    point("judge.after", Kind::Pay),
    point("freeze.before", Kind::Pay),
    point("freeze.after", Kind::Pay),
    point("burn.after", Kind::Pay),
    point("sign.after", Kind::Pay),
    point("signed.after", Kind::Pay),
    point("sending.after", Kind::Pay),
    point("send.after", Kind::Pay),
    point("observe.before", Kind::Pay),
    point("observe.after", Kind::Pay),
    point("final.before", Kind::Pay),
    point("replace.built", Kind::Replace),
    point("replace.frozen", Kind::Replace),
    point("replace.signed_not_stored", Kind::Replace),
    point("replace.stored", Kind::Replace),
    point("replace.sent", Kind::Replace),
    point("replace.sending", Kind::Replace),
    point("refund.before", Kind::Refund),
    point("refund.after", Kind::Refund),
];

/// What came of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// What is wrong.
    pub(super) violations: Vec<String>,
    /// From the restart to the first request that is served.
    pub(super) ready: Option<Duration>,
    /// From the restart to the first durable step of the payment; to being ready where nothing was left to do.
    pub(super) recovery: Option<Duration>,
}

/// Repeatable chance: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// One payment on its way through a run.
pub(super) struct Payment {
    pub(super) key: String,
    pub(super) params: Value,
}

impl Payment {
    pub(super) fn new(stand: &Stand, dice: &mut Dice, listed: bool) -> Self {
        let key = format!("{:016x}-{}", dice.below(u64::MAX), uuid::Uuid::now_v7().simple());
        let amount = 50_000_000_u128.saturating_add(dice.below(1_000_000).into());
        Self { params: stand.payment(&key, amount, listed), key }
    }

    /// The record as the gateway tells it.
    pub(super) async fn view(&self, client: &GatewayClient) -> Result<TxView, ClientError> {
        client.call("tx_getByKey", json!({ "idempotency_key": self.key })).await
    }

    /// Asks for it. A record that was refused is an answer, too.
    pub(super) async fn submit(&self, client: &GatewayClient) -> Result<(), ClientError> {
        answered(client.call("tx_submit", self.params.clone()).await)
    }

    /// Waits until the record is as it should be.
    pub(super) async fn until(
        &self,
        client: &GatewayClient,
        patience: Duration,
        test: impl Fn(&TxView) -> bool,
    ) -> Result<TxView, Failure> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        while Instant::now() < deadline {
            match self.view(client).await {
                Ok(view) if test(&view) => return Ok(view),
                Ok(view) => last = Some(format!("{} {:?} {} attempts", view.state, view.reason, view.attempts.len())),
                Err(error) => last = Some(error.to_string()),
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("payment {} stays: {}", self.key, last.unwrap_or_default()).into())
    }
}

/// A submission whose record was refused was answered.
fn answered(answer: Result<Value, ClientError>) -> Result<(), ClientError> {
    match answer {
        Ok(_) | Err(ClientError::Refused { tx_id: Some(_), .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Runs the cell once. What can't be run is a violation, too.
pub(super) async fn run(stand: &mut Stand, point: Point, dice: &mut Dice) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = run_through(stand, point, dice, &mut outcome).await {
        outcome.violations.push(error.to_string());
    }
    stand.relay.weather(None);
    stand.chain.mining(true);
    outcome
}

async fn run_through(stand: &mut Stand, point: Point, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    let unsigned = point.kind == Kind::Refund && dice.below(2) == 0;
    let payment = Payment::new(stand, dice, !unsigned);
    let replaced = point.kind != Kind::Pay && !unsigned;
    if replaced {
        ensure_replaceable(stand, dice).await?;
    }
    // Any of the passes of a place that is passed again and again.
    let (place, pass) = match point.name {
        "observe.before" | "observe.after" => (point.name, u32::try_from(dice.below(2))?.saturating_add(1)),
        // The second sending is the replacement's.
        "replace.sending" => ("sending.after", 2),
        name => (name, 1),
    };
    let cancel = point.kind == Kind::Refund || dice.below(2) == 0;

    // To the point, and killed there.
    let (mut child, file) = stand.start_to_fail("one", place, pass)?;
    let ready = child.ready().await?;
    let client = stand.client(&ready)?;
    let first = client.sign("tx_submit", payment.params.clone());
    let asked = ask(stand, &payment, &client, &first, replaced.then_some(cancel), point.kind == Kind::Refund).await;
    let reached = match asked {
        Ok(()) => arrived(&file, &mut child).await,
        Err(error) => Err(error),
    };
    outcome.violations.extend(child.kill().into_iter().map(|panic| format!("panic: {panic}")));
    if let Err(error) = reached {
        outcome.violations.push(format!("{} was never reached: {error}", point.name));
    }

    // Started again: the client asks again, as one does that had no answer.
    let mut child = stand.start("one", &[])?;
    let ready = child.ready().await?;
    let client = stand.client(&ready)?;
    outcome.ready = Some(ready.after);
    if point.name != "accept.before" {
        match client.send::<Value>(&first).await {
            // On a slow machine the token has run out by now.
            Err(ClientError::Refused { kind, .. }) if kind == "token_replayed" || kind == "unauthenticated" => {}
            answer => outcome.violations.push(format!("a used token is taken again: {answer:?}")),
        }
    }
    payment.submit(&client).await?;
    let end = finish(stand, &payment, &client, child.started_at, replaced.then_some(cancel), dice).await;
    let restarted_at = child.started_at;
    outcome.violations.extend(child.kill().into_iter().map(|panic| format!("panic: {panic}")));
    let end = match end {
        Ok(end) => end,
        Err(error) => {
            outcome.violations.push(error.to_string());
            outcome.violations.extend(books(stand, &payment).await?);
            return Ok(());
        }
    };
    let stirred = end.history.iter().map(|step| step.at).find(|at| *at >= restarted_at);
    let stirred = stirred.map(|at| Duration::from_millis(at.saturating_sub(restarted_at)));
    outcome.recovery = stirred.or(outcome.ready);
    let listed = if unsigned { State::Rejected } else { State::Finalized };
    // A cancelling transaction may win; a blockhash may have run out while nobody looked. What matters is checked below.
    let right = end.state == listed
        || (replaced && cancel && end.state == State::Cancelled)
        || (stand.plan.family == Family::Solana && end.state == State::Expired);
    if !right {
        outcome.violations.push(format!("ended {} instead of {listed}: {:?}", end.state, end.reason));
    }
    outcome.violations.extend(books(stand, &payment).await?);
    Ok(())
}

/// Asks for the payment, and has it replaced while it waits.
async fn ask(
    stand: &Stand,
    payment: &Payment,
    client: &Arc<GatewayClient>,
    first: &SignedRequest,
    replaced: Option<bool>,
    refund: bool,
) -> Result<(), Failure> {
    let Some(cancel) = replaced else {
        let (client, first) = (Arc::clone(client), first.clone());
        // It may never be answered.
        tokio::spawn(async move { client.send::<Value>(&first).await });
        return Ok(());
    };
    stand.chain.mining(false);
    let solana = stand.plan.family == Family::Solana;
    if solana && cancel {
        // A Solana node takes the first of two that exclude each other: the payment gets lost on its way.
        stand.relay.weather(Some(Weather { calls: Calls::Sends, answer: Answer::Lost, times: u32::MAX }));
    }
    answered(client.send(first).await)?;
    let sent = |view: &TxView| matches!(view.state, State::Broadcasting | State::InMempool);
    let view = payment.until(client, END, sent).await?;
    let method = if cancel { "tx_cancel" } else { "tx_speedUp" };
    let asking = Arc::clone(client);
    let params = json!({ "tx_id": view.tx_id });
    tokio::spawn(async move { asking.call::<Value>(method, params).await }); // it may never be answered
    if refund {
        // What was drawn is given back once the cancelling transaction is final.
        let out = |view: &TxView| view.attempts.last().is_some_and(|last| last.number > 1 && last.sent_at.is_some());
        payment.until(client, END, out).await?;
        stand.relay.weather(None);
        stand.chain.mining(true);
    }
    Ok(())
}

/// Waits for the file that tells that the point was reached.
pub(super) async fn arrived(file: &Path, child: &mut Child) -> Result<(), Failure> {
    let deadline = Instant::now() + ARRIVAL;
    while !file.exists() {
        if child.has_ended() {
            return Err("the gateway ended by itself".into());
        }
        if Instant::now() > deadline {
            return Err(format!("not within {} s", ARRIVAL.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Sees the payment to its end after a restart.
async fn finish(
    stand: &Stand,
    payment: &Payment,
    client: &Arc<GatewayClient>,
    restarted_at: u64,
    replaced: Option<bool>,
    dice: &mut Dice,
) -> Result<TxView, Failure> {
    stand.relay.weather(None);
    if let Some(cancel) = replaced {
        // The gateway goes on by itself, or the client asks again; whatever it is answered, the chain decides.
        if dice.below(2) == 0 {
            let view = payment.view(client).await?;
            let (method, params) = if cancel {
                ("tx_cancel", json!({ "tx_id": view.tx_id }))
            } else {
                ("tx_speedUp", json!({ "tx_id": view.tx_id, "attempt": 1 }))
            };
            let _: Result<Value, _> = client.call(method, params).await;
        }
        let stirred = |view: &TxView| view.history.iter().any(|step| step.at >= restarted_at);
        let _ = payment.until(client, STIR, stirred).await; // nothing may be left to do
        stand.chain.mining(true);
    }
    payment.until(client, END, |view| view.state.is_terminal()).await
}

/// Holds everything durable against the chain.
///
/// # Errors
/// Where store or node can't be asked.
pub(super) async fn books(stand: &Stand, payment: &Payment) -> Result<Vec<String>, Failure> {
    let store = stand.store().await?;
    let mut wrong = check::check(stand, store.as_ref()).await?;
    if let Some(record) = of_key(store.as_ref(), &payment.key).await? {
        check::late(stand, &record, &mut wrong).await?;
    }
    Ok(wrong)
}

/// The latest record of a key.
///
/// # Errors
/// Where the store can't be asked.
pub(super) async fn of_key(store: &dyn Store, key: &str) -> Result<Option<Record>, Failure> {
    Ok(store.by_key(&"trader".parse()?, &key.parse()?).await?)
}

/// A Solana payment can be replaced only where it is made under a durable nonce: has the wallet open one, once.
pub(super) async fn ensure_replaceable(stand: &mut Stand, dice: &mut Dice) -> Result<(), Failure> {
    if stand.plan.family != Family::Solana || stand.replaceable {
        return Ok(());
    }
    let mut child = stand.start("one", &[])?;
    let ready = child.ready().await?;
    let client = stand.client(&ready)?;
    let key = format!("nonce-{:016x}", dice.below(u64::MAX));
    let action = json!({ "kind": "open_nonce", "index": 0 });
    let params = json!({ "idempotency_key": key, "intent": { "wallet": "solana", "action": action } });
    let opening = Payment { key, params };
    opening.submit(&client).await?;
    let end = opening.until(&client, END, |view| view.state.is_terminal()).await?;
    if end.state != State::Finalized {
        return Err(format!("no durable nonce can be opened: {} {:?}", end.state, end.reason).into());
    }
    child.kill();
    stand.replaceable = true;
    Ok(())
}
