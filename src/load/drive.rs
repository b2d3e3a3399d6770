//! Drives a load: asks for each order at its moment, whatever became of the others, and follows what was asked for in batches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway::api::view::TxView;
use gateway::clock::{Clock, SystemClock};
use gateway::record::RecordId;
use serde_json::json;
use simulator::load::{Fate, Order, Reached};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::book::Book;
use crate::cli::Failure;
use crate::client::{ClientError, GatewayClient};
use crate::tx;

/// How often records are looked up.
const LOOK: Duration = Duration::from_millis(300);
/// Up to so many records are asked for one by one; more of them in pages.
const FEW: usize = 6;
/// The largest page.
const PAGE: usize = 500;
/// The shortest and the longest wait before the gateway is asked again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1_000));

/// How a load is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// How long after the last order's moment everything may take to end.
    pub(crate) settle: Duration,
    /// Whether the records are kept as the gateway tells them.
    pub(crate) keep_views: bool,
    /// Whether each order is asked for once more when it is answered, under the same key, as a client does that has lost the answer.
    pub(crate) repeat: bool,
}

/// Where everybody sees what became of the orders.
#[derive(Debug)]
pub(crate) struct Board {
    began: Mutex<(Instant, u64)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fates: Vec<Fate>,
    open: BTreeMap<RecordId, usize>,
    views: BTreeMap<u32, TxView>,
}

impl Board {
    /// A board of these orders.
    ///
    /// # Errors
    /// Where the book doesn't know who pays one of them.
    pub(crate) fn new(orders: Vec<Order>, book: &Book) -> Result<Arc<Self>, Failure> {
        let mut fates = Vec::with_capacity(orders.len());
        for order in orders {
            let (_, to) = book.intent(&order)?;
            fates.push(Fate::new(order, to.to_string()));
        }
        let began = Mutex::new((Instant::now(), SystemClock.unix_millis()));
        Ok(Arc::new(Self { began, state: Mutex::new(State { fates, ..State::default() }) }))
    }

    /// The load begins here and at this moment.
    pub(crate) fn begin(&self) -> Instant {
        let now = (Instant::now(), SystemClock.unix_millis());
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = now;
        now.0
    }

    /// When it began, in milliseconds since the Unix epoch.
    pub(crate) fn began_unix_ms(&self) -> u64 {
        self.began.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// How long ago that was, in milliseconds.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner).0;
        u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What became of each order so far.
    pub(crate) fn fates(&self) -> Vec<Fate> {
        self.lock().fates.clone()
    }

    /// Looks at all fates.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Fate]) -> T) -> T {
        look(&self.lock().fates)
    }

    /// The records as the gateway told them last, by the order's number.
    pub(crate) fn views(&self) -> BTreeMap<u32, TxView> {
        self.lock().views.clone()
    }

    /// Whether every order has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.lock().fates.iter().all(|fate| fate.ended)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Fate)) {
        if let Some(fate) = self.lock().fates.get_mut(at) {
            change(fate);
        }
    }

    /// Writes down that the gateway has taken an order.
    fn taken(&self, at: usize, id: RecordId) {
        let mut state = self.lock();
        if let Some(fate) = state.fates.get_mut(at) {
            fate.record = Some(id.to_string());
        }
        state.open.insert(id, at);
    }

    /// Writes down a record as it stands.
    fn note(&self, view: TxView, keep: bool) {
        let began = self.began_unix_ms();
        let mut state = self.lock();
        let Some(at) = state.open.get(&view.tx_id).copied() else { return };
        if view.state.is_terminal() {
            state.open.remove(&view.tx_id);
        }
        let Some(fate) = state.fates.get_mut(at) else { return };
        fate.state = view.state.to_string();
        fate.ended = view.state.is_terminal();
        fate.reason = view.reason.as_ref().map(|reason| format!("{} ({})", reason.message, reason.kind));
        fate.transactions = view.attempts.iter().filter_map(|attempt| attempt.chain_tx_id.clone()).collect();
        fate.steps = steps(&view, fate, began);
        let number = fate.order.number;
        if keep {
            state.views.insert(number, view);
        }
    }
}

/// The record's steps on the load's own clock. The gateway's clock may be another: the record began between the first question and the
/// answer, and where it says otherwise all its steps are moved by what is missing.
fn steps(view: &TxView, fate: &Fate, began: u64) -> Vec<Reached> {
    let (Some(first), Some(sent)) = (view.history.first(), fate.sent_ms) else { return Vec::new() };
    let answered = fate.answered_ms.unwrap_or(u64::MAX).max(sent);
    let told = i128::from(first.at) - i128::from(began);
    let shift = told.clamp(sent.into(), answered.into()) - told;
    let moved = |at: u64| u64::try_from(i128::from(at) - i128::from(began) + shift).unwrap_or_default();
    view.history.iter().map(|step| Reached { state: step.state.to_string(), at_ms: moved(step.at) }).collect()
}

/// Asks for every order at its moment and follows all until they have ended, or until the course's patience is over. Answers when that was,
/// in milliseconds since the load began.
pub(crate) async fn drive(client: Arc<GatewayClient>, board: Arc<Board>, book: Book, course: Course) -> u64 {
    let orders: Vec<Order> = board.look(|fates| fates.iter().map(|fate| fate.order.clone()).collect());
    let began = board.begin();
    let last = orders.last().map_or(0, |order| order.at_ms);
    let deadline = began + Duration::from_millis(last) + course.settle;
    let mut asking = JoinSet::new();
    let book = Arc::new(book);
    for (at, order) in orders.into_iter().enumerate() {
        let (client, board, book) = (Arc::clone(&client), Arc::clone(&board), Arc::clone(&book));
        asking.spawn(async move {
            sleep_until(began + Duration::from_millis(order.at_ms)).await;
            ask(&client, &board, &book, at, &order, deadline).await;
            if course.repeat {
                repeat(&client, &book, &order).await;
            }
        });
    }
    while !board.is_done() && Instant::now() < deadline {
        sleep(LOOK).await;
        follow(&client, &board, course.keep_views).await;
    }
    asking.shutdown().await;
    board.elapsed_ms()
}

/// Asks for one order until there is an answer that says what became of it.
async fn ask(client: &GatewayClient, board: &Board, book: &Book, at: usize, order: &Order, deadline: Instant) {
    let intent = match book.intent(order) {
        Ok((intent, _)) => intent,
        Err(error) => return board.change(at, |fate| refused(fate, error.to_string())),
    };
    let mut wait = AGAIN.0;
    let sent = board.elapsed_ms();
    board.change(at, |fate| fate.sent_ms = Some(sent));
    loop {
        board.change(at, |fate| fate.tries = fate.tries.saturating_add(1));
        let answer = tx::submit(client, &order.key, &intent).await;
        let answered = board.elapsed_ms();
        let said = match answer {
            Ok(view) => {
                board.change(at, |fate| fate.answered_ms = Some(answered));
                board.taken(at, view.tx_id);
                return;
            }
            // A record was made, and tells itself how it ended.
            Err(ClientError::Refused { tx_id: Some(id), message, .. }) => {
                board.change(at, |fate| fate.answered_ms = Some(answered));
                match id.parse() {
                    Ok(id) => board.taken(at, id),
                    Err(_) => board.change(at, |fate| refused(fate, message)),
                }
                return;
            }
            Err(error @ ClientError::Refused { retriable: false, .. }) => {
                board.change(at, |fate| {
                    fate.answered_ms = Some(answered);
                    refused(fate, error.to_string());
                });
                return;
            }
            // Nobody knows whether it arrived: the same is asked again under the same key.
            Err(error) => error.to_string(),
        };
        board.change(at, |fate| fate.reason = Some(said));
        if Instant::now() + wait >= deadline {
            return;
        }
        sleep(wait).await;
        wait = wait.saturating_mul(2).min(AGAIN.1);
    }
}

/// Asks for the same again: whatever the answer is, nothing more may come of it.
async fn repeat(client: &GatewayClient, book: &Book, order: &Order) {
    let Ok((intent, _)) = book.intent(order) else { return };
    if let Err(error) = tx::submit(client, &order.key, &intent).await {
        tracing::debug!(key = order.key, %error, "asked again");
    }
}

fn refused(fate: &mut Fate, reason: String) {
    fate.ended = true;
    fate.reason = Some(reason);
}

/// Looks up what is still open.
async fn follow(client: &GatewayClient, board: &Board, keep: bool) {
    let open: Vec<RecordId> = board.lock().open.keys().copied().collect();
    let Some(oldest) = open.first().copied() else { return };
    if open.len() <= FEW {
        for id in open {
            // One that can't be had is looked up again.
            let Ok(view) = tx::get(client, id).await else { return };
            board.note(view, keep);
        }
        return;
    }
    let limit = open.len().saturating_mul(2).min(PAGE);
    let mut before: Option<RecordId> = None;
    loop {
        let params = json!({ "limit": limit, "before": before });
        let Ok(views) = client.call::<Vec<TxView>>("tx_list", params).await else { return };
        let last = views.last().map(|view| view.tx_id);
        let whole = views.len() >= limit;
        views.into_iter().for_each(|view| board.note(view, keep));
        // Names sort by time: there is nothing of ours behind the oldest that is open.
        match last {
            Some(last) if whole && last > oldest => before = Some(last),
            _ => return,
        }
    }
}
