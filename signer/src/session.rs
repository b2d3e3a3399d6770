//! Drives one session from the coordinator's side: asks every participant for its letters, round after round, and hands
//! each what is addressed to it. The coordinator cannot read a letter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand_core::{OsRng, RngCore};
use tokio::time::Instant;

use crate::node::wire::{self, Answer, Command, SealedLetter, SessionId};
use crate::policy::versions::PolicyStanding;
use crate::transport::{SignerId, Transport, TransportError};

/// No protocol here takes more rounds; a session that does is stuck.
const MAX_ROUNDS: u32 = 16;
/// How long a signer has for what takes no computing.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A way to the signers.
#[derive(Clone)]
pub(crate) struct Line {
    transport: Arc<dyn Transport>,
}

/// What went wrong with one signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Who reported it, or kept silent.
    pub(crate) signer: SignerId,
    /// What it was.
    pub(crate) kind: FailureKind,
}

/// The kinds of failures, which differ in whom they speak against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No answer.
    Silent(TransportError),
    /// It refused by its own judgement.
    Refused(String),
    /// It holds another signer, or nobody in particular, responsible.
    Accuses { culprit: Option<SignerId>, reason: String },
    /// It failed by itself, or answered with nonsense.
    Broken(String),
    /// It judges by another policy than the request was judged under.
    StalePolicy(PolicyStanding),
}

impl Failure {
    /// Whether it didn't answer in time.
    pub(crate) fn is_late(&self) -> bool {
        self.kind == FailureKind::Silent(TransportError::Timeout)
    }
}

/// How a session ended: what each signer yielded, and what went wrong with the others.
pub(crate) struct Ended {
    pub(crate) outputs: Vec<(SignerId, Answer)>,
    pub(crate) failures: Vec<Failure>,
}

/// How long a session may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One answer of one signer.
    pub(crate) round: Duration,
    /// All of it.
    pub(crate) deadline: Instant,
}

/// A name for a session that was never used.
pub(crate) fn fresh_session() -> SessionId {
    let mut id = [0; 32];
    OsRng.fill_bytes(&mut id);
    SessionId(id)
}

impl Line {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Asks one signer something that takes no computing.
    pub(crate) async fn ask(&self, to: &SignerId, command: &Command) -> Result<Answer, Failure> {
        self.call(to, command, CALL_TIMEOUT).await
    }

    /// Asks several signers the same, each answer by its signer.
    pub(crate) async fn ask_all(
        &self,
        signers: &[SignerId],
        command: &Command,
    ) -> Vec<(SignerId, Result<Answer, Failure>)> {
        self.ask_all_within(signers, command, CALL_TIMEOUT).await
    }

    /// Like [`Line::ask_all`], with another timeout.
    pub(crate) async fn ask_all_within(
        &self,
        signers: &[SignerId],
        command: &Command,
        timeout: Duration,
    ) -> Vec<(SignerId, Result<Answer, Failure>)> {
        let ask = |signer: &SignerId| {
            let signer = signer.clone();
            async move {
                let answer = self.call(&signer, command, timeout).await;
                (signer, answer)
            }
        };
        join_all(signers.iter().map(ask)).await
    }

    async fn call(&self, to: &SignerId, command: &Command, timeout: Duration) -> Result<Answer, Failure> {
        let failure = |kind| Failure { signer: to.clone(), kind };
        let answer = self.transport.call(to, wire::to_bytes(command), timeout).await;
        let answer = answer.map_err(|error| failure(FailureKind::Silent(error)))?;
        match wire::from_bytes(&answer) {
            None => Err(failure(FailureKind::Broken("its answer is malformed".to_owned()))),
            Some(Answer::Refused(reason)) => Err(failure(FailureKind::Refused(reason))),
            Some(Answer::Fault { culprit, reason }) => Err(failure(FailureKind::Accuses { culprit, reason })),
            Some(Answer::Failed(reason)) => Err(failure(FailureKind::Broken(reason))),
            Some(Answer::StalePolicy(standing)) => Err(failure(FailureKind::StalePolicy(standing))),
            Some(answer) => Ok(answer),
        }
    }

    /// Runs a session that starts with `start` at every participant. `on_round` is told the number of each round.
    pub(crate) async fn run(
        &self,
        session: SessionId,
        participants: &[SignerId],
        start: &Command,
        limits: Limits,
        mut on_round: impl FnMut(u32),
    ) -> Ended {
        let mut commands: BTreeMap<SignerId, Command> = BTreeMap::new();
        for round in 1..=MAX_ROUNDS {
            on_round(round);
            let answers = self.round(participants, start, &commands, limits).await;
            let mut ended = Ended { outputs: Vec::new(), failures: Vec::new() };
            let mut letters: BTreeMap<SignerId, Vec<SealedLetter>> = BTreeMap::new();
            let mut waiting = BTreeSet::new();
            for (signer, answer) in answers {
                match answer {
                    Err(failure) => ended.failures.push(failure),
                    Ok(Answer::Letters { round: at, letters: sent }) if at == round => {
                        // Letters under another's name are dropped here already; their receiver would do the same.
                        for letter in sent.into_iter().filter(|letter| letter.from == signer) {
                            letters.entry(letter.to.clone()).or_default().push(letter);
                        }
                        waiting.insert(signer);
                    }
                    Ok(output @ (Answer::Generated(_) | Answer::Signed(_) | Answer::Escrowed(_) | Answer::Done)) => {
                        ended.outputs.push((signer, output))
                    }
                    Ok(_) => {
                        let kind = FailureKind::Broken("its answer is out of place".to_owned());
                        ended.failures.push(Failure { signer, kind });
                    }
                }
            }
            if !ended.failures.is_empty() || waiting.is_empty() {
                self.abandon(session, participants, &waiting);
                return ended;
            }
            if !ended.outputs.is_empty() {
                // Some are done and some are not: the latter have left the protocol.
                let late = |signer| Failure { signer, kind: FailureKind::Broken("it fell out of step".to_owned()) };
                self.abandon(session, participants, &waiting);
                ended.failures.extend(waiting.into_iter().map(late));
                return ended;
            }
            commands.clear();
            for signer in participants {
                let letters = letters.remove(signer).unwrap_or_default();
                commands.insert(signer.clone(), Command::Round { session, round, letters });
            }
        }
        let stuck = |signer: &SignerId| Failure {
            signer: signer.clone(),
            kind: FailureKind::Broken("the session takes too many rounds".to_owned()),
        };
        Ended { outputs: Vec::new(), failures: participants.iter().map(stuck).collect() }
    }

    async fn round(
        &self,
        participants: &[SignerId],
        start: &Command,
        commands: &BTreeMap<SignerId, Command>,
        limits: Limits,
    ) -> Vec<(SignerId, Result<Answer, Failure>)> {
        let left = limits.deadline.saturating_duration_since(Instant::now());
        let timeout = limits.round.min(left);
        let ask = |signer: &SignerId| {
            let (signer, command) = (signer.clone(), commands.get(signer).unwrap_or(start));
            async move {
                let answer = self.call(&signer, command, timeout).await;
                (signer, answer)
            }
        };
        join_all(participants.iter().map(ask)).await
    }

    /// Tells those who still wait that nothing more will come. Nobody waits for their answer: a session that is not told
    /// lapses by itself.
    fn abandon(&self, session: SessionId, participants: &[SignerId], waiting: &BTreeSet<SignerId>) {
        for signer in participants.iter().filter(|signer| waiting.contains(*signer)) {
            let (line, signer) = (self.clone(), signer.clone());
            tokio::spawn(async move {
                let _ = line.ask(&signer, &Command::Abandon { session }).await;
            });
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { signer, kind } = self;
        match kind {
            FailureKind::Silent(error) => write!(f, "{signer}: {error}"),
            FailureKind::Refused(reason) => write!(f, "{signer} refused: {reason}"),
            FailureKind::StalePolicy(PolicyStanding { version, digest, .. }) => {
                write!(f, "{signer} judges by policy {digest}, version {version}")
            }
            FailureKind::Accuses { culprit: Some(culprit), reason } => write!(f, "{signer} blames {culprit}: {reason}"),
            FailureKind::Accuses { culprit: None, reason } | FailureKind::Broken(reason) => {
                write!(f, "{signer}: {reason}")
            }
        }
    }
}
