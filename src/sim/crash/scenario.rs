//! What else dies or stands still: payments side by side, PostgreSQL in the middle, one of three gateways, a leaseholder that
//! is paused and wakes when another has its records.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chains::network::Family;
use gateway::clock::{Clock, SystemClock};
use gateway::record::State;
use serde_json::json;

use super::cell::{Dice, END, Outcome, Payment, arrived, books, of_key};
use super::child::Child;
use super::cluster::Cluster;
use super::stand::{LIMIT, Plan, Stand, StoreKind};
use crate::cli::Failure;

/// How long a gateway that was paused is watched after it wakes: several of its polls and a third of its lease.
const WATCH: Duration = Duration::from_millis(2_000);
/// How long a payment that is in one block is watched: several polls.
const HELD: Duration = Duration::from_millis(1_500);
/// A payment at least, and all at most, of those that race for a limit.
const RACERS: u32 = 6;

/// Something that happens beside the gateway's own death at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// One payment waits for its signatures when another comes; then the gateway is killed.
    TwoPayments,
    /// More payments at once than a limit admits.
    LimitRace,
    /// No block follows the one that a payment is in.
    OneBlock,
    /// The database's server is killed in the middle of a payment, and started again.
    PostgresKilled,
    /// Three gateways share a database; the one at work is killed.
    OneOfThreeKilled,
    /// A gateway is paused in the middle of a step; another takes over and ends the payment; the first wakes.
    HolderPaused,
    /// The same, but the first wakes while the second is amid the very same step.
    HolderOvertaken,
}

impl Scenario {
    /// Every one.
    pub(super) const ALL: [Self; 7] = [
        Self::TwoPayments,
        Self::LimitRace,
        Self::OneBlock,
        Self::PostgresKilled,
        Self::OneOfThreeKilled,
        Self::HolderPaused,
        Self::HolderOvertaken,
    ];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TwoPayments => "two.payments",
            Self::LimitRace => "limit.race",
            Self::OneBlock => "one.block",
            Self::PostgresKilled => "postgres.killed",
            Self::OneOfThreeKilled => "one.of.three.killed",
            Self::HolderPaused => "holder.paused",
            Self::HolderOvertaken => "holder.overtaken",
        }
    }

    /// Whether it can happen there.
    pub(super) const fn fits(self, _family: Family, store: StoreKind) -> bool {
        match self {
            Self::TwoPayments | Self::LimitRace | Self::OneBlock => true,
            Self::PostgresKilled | Self::OneOfThreeKilled | Self::HolderPaused | Self::HolderOvertaken => {
                matches!(store, StoreKind::Postgres)
            }
        }
    }
}

/// Runs it once. What can't be run is a violation, too.
pub(super) async fn run(stand: &mut Stand, scenario: Scenario, dice: &mut Dice) -> Outcome {
    let mut outcome = Outcome::default();
    let done = match scenario {
        Scenario::TwoPayments => two_payments(stand, dice, &mut outcome).await,
        Scenario::LimitRace => limit_race(stand, dice, &mut outcome).await,
        Scenario::OneBlock => one_block(stand, dice, &mut outcome).await,
        Scenario::PostgresKilled => postgres_killed(stand, dice, &mut outcome).await,
        Scenario::OneOfThreeKilled => one_of_three(stand, dice, &mut outcome).await,
        Scenario::HolderPaused => paused(stand, dice, &mut outcome, None).await,
        Scenario::HolderOvertaken => paused(stand, dice, &mut outcome, Some("freeze.after")).await,
    };
    if let Err(error) = done {
        outcome.violations.push(error.to_string());
    }
    stand.chain.mining(true);
    outcome
}

/// The recovery of a payment: from `since` to its first durable step.
fn since(since: u64, view: &gateway::api::view::TxView) -> Option<Duration> {
    let step = view.history.iter().map(|step| step.at).find(|at| *at >= since)?;
    Some(Duration::from_millis(step.saturating_sub(since)))
}

fn end_of(child: Child, outcome: &mut Outcome) {
    outcome.violations.extend(child.kill().into_iter().map(|panic| format!("panic: {panic}")));
}

fn must_be(view: &gateway::api::view::TxView, state: State, outcome: &mut Outcome) {
    if view.state != state {
        outcome.violations.push(format!("ended {} instead of {state}: {:?}", view.state, view.reason));
    }
}

async fn two_payments(stand: &mut Stand, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    let (first, second) = (Payment::new(stand, dice, true), Payment::new(stand, dice, true));
    let (mut child, file) = stand.start_to_fail("one", "burn.after", 1)?;
    let client = stand.client(&child.ready().await?)?;
    let asked = client.sign("tx_submit", first.params.clone());
    let asking = Arc::clone(&client);
    tokio::spawn(async move { asking.send::<serde_json::Value>(&asked).await });
    arrived(&file, &mut child).await?;
    // The first has its slot, and no signature yet.
    second.submit(&client).await?;
    let out = |view: &gateway::api::view::TxView| view.state >= State::Broadcasting;
    let _ = second.until(&client, Duration::from_secs(5), out).await; // it may wait for the first
    end_of(child, outcome);

    let mut child = stand.start("one", &[])?;
    let ready = child.ready().await?;
    let client = stand.client(&ready)?;
    outcome.ready = Some(ready.after);
    for payment in [&first, &second] {
        let end = payment.until(&client, END, |view| view.state.is_terminal()).await?;
        must_be(&end, State::Finalized, outcome);
        outcome.recovery = outcome.recovery.max(since(child.started_at, &end));
    }
    end_of(child, outcome);
    outcome.violations.extend(books(stand, &first).await?);
    Ok(())
}

async fn limit_race(stand: &mut Stand, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    let store = stand.store().await?;
    let used: u128 = store.usage("crash-test", 0, u64::MAX).await?.amount.to_string().parse()?;
    drop(store);
    // Two of them fit, three don't.
    stand.plan.limit = used.saturating_add(102_000_000);
    let payments: Vec<_> = (0..RACERS).map(|_| Arc::new(Payment::new(stand, dice, true))).collect();
    let raced = race(stand, &payments, outcome).await;
    let checked = match (&raced, payments.first()) {
        (Ok(()), Some(payment)) => books(stand, payment).await,
        _ => Ok(Vec::new()),
    };
    stand.plan.limit = LIMIT;
    raced?;
    outcome.violations.extend(checked?);
    Ok(())
}

async fn race(stand: &Stand, payments: &[Arc<Payment>], outcome: &mut Outcome) -> Result<(), Failure> {
    let mut child = stand.start("one", &[])?;
    let client = stand.client(&child.ready().await?)?;
    let mut asking = tokio::task::JoinSet::new();
    for payment in payments {
        let (payment, client) = (Arc::clone(payment), Arc::clone(&client));
        asking.spawn(async move { payment.submit(&client).await });
    }
    while let Some(asked) = asking.join_next().await {
        asked??;
    }
    let mut paid = 0_u32;
    for payment in payments {
        let end = payment.until(&client, END, |view| view.state.is_terminal()).await?;
        let kind = end.reason.as_ref().map(|reason| reason.kind.as_str());
        match end.state {
            State::Finalized => paid = paid.saturating_add(1),
            State::Rejected if kind == Some("above_velocity") => {}
            state => outcome.violations.push(format!("ended {state}: {:?}", end.reason)),
        }
    }
    if paid != 2 {
        outcome.violations.push(format!("I5: {paid} payments went through where the limit admits 2"));
    }
    end_of(child, outcome);
    Ok(())
}

async fn one_block(stand: &mut Stand, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    let payment = Payment::new(stand, dice, true);
    let mut child = stand.start("one", &[])?;
    let client = stand.client(&child.ready().await?)?;
    stand.chain.mining(false);
    payment.submit(&client).await?;
    payment.until(&client, END, |view| matches!(view.state, State::Broadcasting | State::InMempool)).await?;
    // A node takes what it was sent before it makes a block of it.
    let included = |view: &gateway::api::view::TxView| {
        view.state.is_terminal() || view.attempts.iter().any(|attempt| attempt.inclusion.is_some())
    };
    for _ in 0..super::chain::FINAL {
        stand.chain.mine(1).await?;
        if payment.until(&client, Duration::from_secs(2), included).await.is_ok() {
            break;
        }
    }
    let early = payment.until(&client, HELD, |view| view.state.is_terminal()).await;
    if let Ok(view) = early {
        outcome.violations.push(format!("finality: {} with the payment in the latest block", view.state));
    }
    stand.chain.mining(true);
    let end = payment.until(&client, END, |view| view.state.is_terminal()).await?;
    must_be(&end, State::Finalized, outcome);
    end_of(child, outcome);
    outcome.violations.extend(books(stand, &payment).await?);
    Ok(())
}

/// On a server of its own, because others are at the shared one.
async fn postgres_killed(stand: &mut Stand, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    stand.chain.mining(false);
    let dir = stand.plan.dir.join(format!("killed-{:08x}", dice.below(1 << 32)));
    let cluster = Cluster::start(&dir.join("postgres"))?.ok_or("PostgreSQL isn't installed")?;
    let cluster = Arc::new(cluster);
    let plan = Plan { dir: dir.join("stand"), cluster: Some(Arc::clone(&cluster)), ..stand.plan.clone() };
    let own = Stand::put_up(plan).await?;
    let done = kill_postgres(&own, &cluster, dice, outcome).await;
    own.take_down(done.is_err() || !outcome.violations.is_empty()).await;
    done
}

async fn kill_postgres(
    stand: &Stand,
    cluster: &Cluster,
    dice: &mut Dice,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let payment = Payment::new(stand, dice, true);
    let mut child = stand.start("one", &[])?;
    let client = stand.client(&child.ready().await?)?;
    let asked = client.sign("tx_submit", payment.params.clone());
    let asking = Arc::clone(&client);
    tokio::spawn(async move { asking.send::<serde_json::Value>(&asked).await });
    tokio::time::sleep(Duration::from_millis(dice.below(1_500))).await;
    cluster.kill()?;
    tokio::time::sleep(Duration::from_millis(dice.below(1_000))).await;
    cluster.up()?;
    let up = SystemClock.unix_millis();
    // The client had no answer, or one that it can't rely on: it asks again until it has one.
    let mut answer = payment.submit(&client).await;
    for _ in 0..50 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        answer = payment.submit(&client).await;
    }
    answer?;
    let end = payment.until(&client, END, |view| view.state.is_terminal()).await?;
    must_be(&end, State::Finalized, outcome);
    outcome.recovery = since(up, &end);
    end_of(child, outcome);
    outcome.violations.extend(books(stand, &payment).await?);
    Ok(())
}

/// Where a gateway is killed, or paused, that shares a database with others.
const SHARED: [&str; 8] = [
    "judge.before",
    "freeze.before",
    "freeze.after",
    "burn.after",
    "sign.after",
    "signed.after",
    "sending.after",
    "observe.before",
];

fn shared_point(dice: &mut Dice) -> &'static str {
    let number = usize::try_from(dice.below(8)).unwrap_or_default();
    SHARED.get(number).copied().unwrap_or("sign.after")
}

async fn one_of_three(stand: &mut Stand, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    for other in ["two", "three"] {
        stand.furnish(other)?;
    }
    let payment = Payment::new(stand, dice, true);
    let point = shared_point(dice);
    let (mut first, file) = stand.start_to_fail("one", point, 1)?;
    let (mut second, mut third) = (stand.start("two", &[])?, stand.start("three", &[])?);
    let client = stand.client(&first.ready().await?)?;
    let others = [stand.client(&second.ready().await?)?, stand.client(&third.ready().await?)?];
    let asked = client.sign("tx_submit", payment.params.clone());
    tokio::spawn(async move { client.send::<serde_json::Value>(&asked).await });
    arrived(&file, &mut first).await?;
    end_of(first, outcome);
    let killed = SystemClock.unix_millis();
    let other = if dice.below(2) == 0 { &others[0] } else { &others[1] };
    payment.submit(other).await?;
    let end = payment.until(other, END, |view| view.state.is_terminal()).await?;
    must_be(&end, State::Finalized, outcome);
    outcome.recovery = since(killed, &end);
    end_of(second, outcome);
    end_of(third, outcome);
    outcome.violations.extend(books(stand, &payment).await?);
    Ok(())
}

/// A gateway is paused at a step. Another takes the record over: to the payment's end, or to where it is paused itself.
async fn paused(
    stand: &mut Stand,
    dice: &mut Dice,
    outcome: &mut Outcome,
    overtaken: Option<&str>,
) -> Result<(), Failure> {
    stand.furnish("two")?;
    let payment = Payment::new(stand, dice, true);
    let point = if overtaken.is_some() { "freeze.before" } else { shared_point(dice) };
    let (mut first, file) = stand.start_to_fail("one", point, 1)?;
    let client = stand.client(&first.ready().await?)?;
    let asked = client.sign("tx_submit", payment.params.clone());
    tokio::spawn(async move { client.send::<serde_json::Value>(&asked).await });
    arrived(&file, &mut first).await?;
    first.signal("STOP")?;

    let (mut second, until) = match overtaken {
        None => (stand.start("two", &[])?, None),
        Some(place) => {
            let (child, file) = stand.start_to_fail("two", place, 1)?;
            (child, Some(file))
        }
    };
    let other = stand.client(&second.ready().await?)?;
    match &until {
        None => drop(payment.until(&other, END, |view| view.state.is_terminal()).await?),
        Some(file) => arrived(file, &mut second).await?,
    }
    let before = durable(stand, &payment).await?;
    go_on(&file)?;
    first.signal("CONT")?;
    tokio::time::sleep(WATCH).await;
    let after = durable(stand, &payment).await?;
    if before != after {
        outcome.violations.push(format!("a gateway that had lost its lease at {point} wrote: {before} became {after}"));
    }
    if let Some(file) = &until {
        go_on(file)?;
    }
    let end = payment.until(&other, END, |view| view.state.is_terminal()).await?;
    must_be(&end, State::Finalized, outcome);
    end_of(first, outcome);
    end_of(second, outcome);
    outcome.violations.extend(books(stand, &payment).await?);
    Ok(())
}

/// Everything durable of a payment, as text.
async fn durable(stand: &Stand, payment: &Payment) -> Result<String, Failure> {
    let store = stand.store().await?;
    let record = of_key(store.as_ref(), &payment.key).await?.ok_or("the record is gone")?;
    let attempts = record.attempts.iter().map(|attempt| {
        json!({
            "number": attempt.number,
            "slots": attempt.slots,
            "signed": attempt.signed.as_ref().map(|signed| &signed.id),
            "sent_at": attempt.sent_at,
            "inclusion": attempt.inclusion,
        })
    });
    let attempts: Vec<_> = attempts.collect();
    Ok(json!({ "state": record.state, "attempts": attempts, "history": record.history }).to_string())
}

/// Tells a gateway that waits at a point to go on.
fn go_on(file: &Path) -> Result<(), Failure> {
    Ok(std::fs::write(file.with_extension("go"), "")?)
}
