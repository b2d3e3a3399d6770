//! Hard weather: nodes that refuse what they have taken, or answer rubbish; a disk that is full; a database that is locked.
//! Whatever it is: a clear state, no panic, nothing paid twice.

use std::process::Command;
use std::time::{Duration, Instant};

use chains::network::Family;
use gateway::record::State;
use rusqlite::Connection;

use super::cell::{Dice, END, Outcome, Payment, books};
use super::relay::{Answer, Calls, Weather};
use super::stand::{Stand, StoreKind};
use crate::cli::Failure;
use crate::client::ClientError;

/// For how long the database is locked: longer than a writer waits.
const LOCKED: Duration = Duration::from_secs(6);
/// How far a file may grow beyond the database's size, in blocks of 512 bytes, before the disk is full.
const ROOM: u64 = 64;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storm {
    /// The node says that it knows the transaction.
    AlreadyKnown,
    /// The node says that the nonce is used up.
    NonceTooLow,
    /// The node says that a replacement must pay more.
    ReplacementUnderpriced,
    /// The node says that the inputs are spent.
    MissingInputs,
    /// The node doesn't know the blockhash.
    BlockhashNotFound,
    /// A page instead of an answer.
    Html,
    /// The first half of an answer.
    Half,
    /// No answer.
    Nothing,
    /// Whoever asks what became of a transaction gets an error.
    LooksFail,
    /// The node says yes, and forgets the transaction.
    SendLost,
    /// The disk is full.
    DiskFull,
    /// Somebody else has the database locked.
    DatabaseLocked,
}

impl Storm {
    /// Every one.
    pub(super) const ALL: [Self; 12] = [
        Self::AlreadyKnown,
        Self::NonceTooLow,
        Self::ReplacementUnderpriced,
        Self::MissingInputs,
        Self::BlockhashNotFound,
        Self::Html,
        Self::Half,
        Self::Nothing,
        Self::LooksFail,
        Self::SendLost,
        Self::DiskFull,
        Self::DatabaseLocked,
    ];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AlreadyKnown => "already.known",
            Self::NonceTooLow => "nonce.too.low",
            Self::ReplacementUnderpriced => "replacement.underpriced",
            Self::MissingInputs => "missing.inputs",
            Self::BlockhashNotFound => "blockhash.not.found",
            Self::Html => "html",
            Self::Half => "half.a.body",
            Self::Nothing => "no.answer",
            Self::LooksFail => "looks.fail",
            Self::SendLost => "send.lost",
            Self::DiskFull => "disk.full",
            Self::DatabaseLocked => "database.locked",
        }
    }

    /// Whether it can happen there.
    pub(super) const fn fits(self, family: Family, store: StoreKind) -> bool {
        match self {
            Self::NonceTooLow => matches!(family, Family::Ethereum),
            Self::ReplacementUnderpriced => matches!(family, Family::Ethereum | Family::Bitcoin),
            Self::MissingInputs => matches!(family, Family::Bitcoin),
            Self::BlockhashNotFound => matches!(family, Family::Solana),
            Self::DiskFull | Self::DatabaseLocked => matches!(store, StoreKind::Sqlite),
            _ => true,
        }
    }

    /// What the node says.
    fn words(self, family: Family) -> Option<(i64, &'static str)> {
        Some(match (self, family) {
            (Self::AlreadyKnown, Family::Bitcoin) => (-27, "Transaction already in block chain"),
            (Self::AlreadyKnown, Family::Ethereum) => (-32000, "already known"),
            (Self::AlreadyKnown, Family::Solana) => {
                (-32002, "Transaction simulation failed: This transaction has already been processed")
            }
            (Self::NonceTooLow, _) => (-32000, "nonce too low: next nonce 8, tx nonce 7"),
            (Self::ReplacementUnderpriced, Family::Bitcoin) => {
                (-26, "insufficient fee, rejecting replacement, less fees than conflicting txs; 0.00001 < 0.00002")
            }
            (Self::ReplacementUnderpriced, _) => (-32000, "replacement transaction underpriced"),
            (Self::MissingInputs, _) => (-25, "bad-txns-inputs-missingorspent"),
            (Self::BlockhashNotFound, _) => (-32002, "Transaction simulation failed: Blockhash not found"),
            _ => return None,
        })
    }

    /// What happens to which calls, and how often.
    fn weather(self, family: Family, dice: &mut Dice) -> Option<Weather> {
        // A step that fails waits twice as long each time: more of this takes a minute and shows nothing else.
        let times = u32::try_from(dice.below(5)).unwrap_or_default().saturating_add(2);
        let all = |answer| Some(Weather { calls: Calls::All, answer, times });
        if let Some((code, words)) = self.words(family) {
            let error = Answer::Error(code, words.to_owned());
            // The node has taken it, or it hasn't.
            let answer = if dice.below(2) == 0 { Answer::DoneBut(Box::new(error)) } else { error };
            let times = u32::try_from(dice.below(3)).unwrap_or_default().saturating_add(1);
            return Some(Weather { calls: Calls::Sends, answer, times });
        }
        match self {
            Self::Html => all(Answer::Html),
            Self::Half => all(Answer::Half),
            Self::Nothing => all(Answer::Nothing),
            Self::LooksFail => {
                let answer = Answer::Error(-32603, "Internal error".to_owned());
                Some(Weather { calls: Calls::Looks, answer, times: 10 })
            }
            Self::SendLost => Some(Weather { calls: Calls::Sends, answer: Answer::Lost, times: 2 }),
            _ => None,
        }
    }
}

/// Runs it once. What can't be run is a violation, too.
pub(super) async fn run(stand: &mut Stand, storm: Storm, dice: &mut Dice) -> Outcome {
    let mut outcome = Outcome::default();
    let done = match storm {
        Storm::DiskFull => disk_full(stand, dice, &mut outcome).await,
        Storm::DatabaseLocked => database_locked(stand, dice, &mut outcome).await,
        _ => nodes(stand, storm, dice, &mut outcome).await,
    };
    if let Err(error) = done {
        outcome.violations.push(error.to_string());
    }
    stand.relay.weather(None);
    stand.chain.mining(true);
    outcome
}

async fn nodes(stand: &mut Stand, storm: Storm, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    let payment = Payment::new(stand, dice, true);
    let mut child = stand.start("one", &[])?;
    let client = stand.client(&child.ready().await?)?;
    let weather = storm.weather(stand.plan.family, dice);
    let answer = if storm == Storm::LooksFail {
        // The payment is in a block, and nobody can be asked.
        stand.chain.mining(false);
        let answer = payment.submit(&client).await;
        payment.until(&client, END, |view| matches!(view.state, State::Broadcasting | State::InMempool)).await?;
        stand.relay.weather(weather);
        stand.chain.mining(true);
        answer
    } else {
        stand.relay.weather(weather);
        payment.submit(&client).await
    };
    // A gateway that can't reach its node says so, or has accepted the payment and goes on by itself.
    if let Err(error) = answer {
        outcome.violations.push(format!("the payment isn't accepted: {error}"));
    }
    let end = payment.until(&client, END, |view| view.state.is_terminal()).await?;
    let expired = stand.plan.family == Family::Solana && end.state == State::Expired;
    if end.state != State::Finalized && !expired {
        outcome.violations.push(format!("ended {} instead of finalized: {:?}", end.state, end.reason));
    }
    outcome.violations.extend(child.kill().into_iter().map(|panic| format!("panic: {panic}")));
    stand.relay.weather(None);
    outcome.violations.extend(books(stand, &payment).await?);
    Ok(())
}

/// No file may grow any further than the database is, as on a disk that is full; then there is room again.
async fn disk_full(stand: &mut Stand, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    // The write-ahead log that the last life left may be the larger one.
    let file = stand.database_file();
    let log = std::fs::metadata(file.with_extension("sqlite-wal")).map_or(0, |log| log.len());
    let size = std::fs::metadata(file)?.len().max(log);
    let blocks = size.div_ceil(512).saturating_add(ROOM);
    let mut child = stand.start_limited("one", blocks)?;
    let client = stand.client(&child.ready().await?)?;
    let mut asked = Vec::new();
    let mut refused = None;
    let deadline = Instant::now() + END;
    while refused.is_none() && Instant::now() < deadline {
        let payment = Payment::new(stand, dice, true);
        match payment.submit(&client).await {
            Ok(()) => {}
            Err(ClientError::Refused { kind, .. }) => refused = Some(kind),
            Err(error) => refused = Some(error.to_string()),
        }
        asked.push(payment);
    }
    match refused.as_deref() {
        Some("store_unavailable") => {}
        other => outcome.violations.push(format!("on a full disk the client is told {other:?}")),
    }
    if child.has_ended() {
        outcome.violations.push("a full disk ended the gateway".to_owned());
    }
    outcome.violations.extend(child.kill().into_iter().map(|panic| format!("panic: {panic}")));

    let mut child = stand.start("one", &[])?;
    let ready = child.ready().await?;
    outcome.ready = Some(ready.after);
    let client = stand.client(&ready)?;
    for payment in &asked {
        payment.submit(&client).await?;
        let end = payment.until(&client, END, |view| view.state.is_terminal()).await?;
        if end.state != State::Finalized {
            outcome.violations.push(format!("ended {} instead of finalized: {:?}", end.state, end.reason));
        }
    }
    outcome.violations.extend(child.kill().into_iter().map(|panic| format!("panic: {panic}")));
    if let Some(payment) = asked.first() {
        outcome.violations.extend(books(stand, payment).await?);
    }
    Ok(())
}

/// Another process has the database's only write lock for longer than a writer waits.
async fn database_locked(stand: &mut Stand, dice: &mut Dice, outcome: &mut Outcome) -> Result<(), Failure> {
    let payment = Payment::new(stand, dice, true);
    let mut child = stand.start("one", &[])?;
    let client = stand.client(&child.ready().await?)?;
    let file = stand.database_file();
    let lock = Connection::open(&file)?;
    lock.busy_timeout(Duration::from_secs(5))?;
    lock.execute_batch("BEGIN IMMEDIATE")?;
    let asking = payment.submit(&client);
    let (answer, ()) = tokio::join!(asking, tokio::time::sleep(LOCKED));
    match answer {
        Err(ClientError::Refused { kind, .. }) if kind == "store_unavailable" => {}
        other => outcome.violations.push(format!("while the database is locked the client is told {other:?}")),
    }
    lock.execute_batch("ROLLBACK")?;
    drop(lock);
    payment.submit(&client).await?;
    let end = payment.until(&client, END, |view| view.state.is_terminal()).await?;
    if end.state != State::Finalized {
        outcome.violations.push(format!("ended {} instead of finalized: {:?}", end.state, end.reason));
    }
    outcome.violations.extend(child.kill().into_iter().map(|panic| format!("panic: {panic}")));
    outcome.violations.extend(books(stand, &payment).await?);
    Ok(())
}

/// A shell's way to start something that may write no file beyond so many blocks of 512 bytes, and is told instead of killed.
pub(super) fn limited(program: &std::path::Path, blocks: u64) -> Command {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(program);
    command
}
