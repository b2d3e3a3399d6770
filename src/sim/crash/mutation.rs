//! The mutation check: every known bug of [`gateway::mutation`] is switched on in the real binary, and the cells that are
//! made for its rule are run. A bug that no cell sees is a hole in the harness.

use std::sync::Arc;

use chains::network::Family;
use gateway::mutation::Mutation;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cell::{Dice, POINTS};
use super::scenario::Scenario;
use super::stand::{Plan, Stand, StoreKind};
use super::weather::Storm;
use super::{Ground, MutationArgs, Trial, table};
use crate::cli::Failure;

/// How often a cell is run until it sees the bug: where chance decides, the first run may not.
const TRIES: u32 = 4;

/// Where a bug shows.
struct Cage {
    family: Family,
    store: StoreKind,
    trial: Trial,
}

/// A point by its name.
fn point(name: &str) -> Option<Trial> {
    POINTS.into_iter().find(|point| point.name == name).map(Trial::Point)
}

/// The cell that is made for a bug's rule.
fn cage(mutation: Mutation) -> Option<Cage> {
    use Family::{Ethereum, Solana};
    use StoreKind::{Postgres, Sqlite};
    let (family, store, trial) = match mutation {
        Mutation::BroadcastBeforePersist => (Solana, Sqlite, point("sign.after")?),
        Mutation::ErrorIsAbsence => (Ethereum, Sqlite, Trial::Storm(Storm::LooksFail)),
        Mutation::UnknownIsExpired => (Solana, Sqlite, Trial::Storm(Storm::SendLost)),
        Mutation::TimerRefund => (Ethereum, Sqlite, point("send.after")?),
        Mutation::BurnedIsFree | Mutation::SlotReleasedWhileSigning => {
            (Ethereum, Sqlite, Trial::Scenario(Scenario::TwoPayments))
        }
        Mutation::FreshBuildOnResign => (Ethereum, Sqlite, point("sign.after")?),
        Mutation::KeyNotDurable | Mutation::TokenNotDurable => (Ethereum, Sqlite, point("accept.after")?),
        Mutation::LimitOutsideTransaction => (Ethereum, Sqlite, Trial::Scenario(Scenario::LimitRace)),
        Mutation::IncludedIsFinal => (Ethereum, Sqlite, Trial::Scenario(Scenario::OneBlock)),
        Mutation::ReplacementWithoutConflict => (Ethereum, Sqlite, point("replace.sent")?),
        Mutation::FenceIgnored => (Ethereum, Postgres, Trial::Scenario(Scenario::HolderOvertaken)),
    };
    Some(Cage { family, store, trial })
}

/// What came of one bug.
struct Verdict {
    mutation: Mutation,
    cell: String,
    caught: Result<String, &'static str>,
}

/// Tries every bug, and first that the same cells are silent without it.
///
/// # Errors
/// Where one isn't caught.
pub(super) async fn check(args: MutationArgs) -> Result<(), Failure> {
    if !cfg!(feature = "mutations") {
        return Err(
            "this binary was built without the feature `mutations`; `just mutation-check` builds one that has \
                    it"
            .into(),
        );
    }
    if let Some(unknown) = args.mutations.iter().find(|name| !Mutation::ALL.iter().any(|one| one.name() == *name)) {
        let names: Vec<_> = Mutation::ALL.into_iter().map(Mutation::name).collect();
        return Err(format!("there is no mutation {unknown}; there are {}", names.join(", ")).into());
    }
    let wanted = |one: &Mutation| args.mutations.is_empty() || args.mutations.iter().any(|name| one.name() == name);
    let ground = Ground::prepare(None, true).await?;
    let turns = Arc::new(Semaphore::new(args.jobs.max(1)));
    let mut running = JoinSet::new();
    for mutation in Mutation::ALL.into_iter().filter(wanted) {
        let Some(cage) = cage(mutation) else { return Err(format!("no cell for {}", mutation.name()).into()) };
        let plan = ground.plan(cage.family, cage.store, mutation.name());
        let (turns, seed) = (Arc::clone(&turns), args.seed);
        running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let verdict = attempt(mutation, cage.trial, plan, seed).await;
            verdict.tell();
            verdict
        });
    }
    let mut verdicts = Vec::new();
    while let Some(done) = running.join_next().await {
        verdicts.push(done?);
    }
    ground.clear(false);
    println!();
    verdicts.sort_by_key(|verdict| verdict.mutation.name());
    for verdict in &verdicts {
        verdict.tell();
    }
    let missed = verdicts.iter().filter(|verdict| verdict.caught.is_err()).count();
    println!("\n{} mutations, {} caught", verdicts.len(), verdicts.len().saturating_sub(missed));
    if missed == 0 { Ok(()) } else { Err(format!("{missed} mutations were not caught").into()) }
}

impl Verdict {
    fn tell(&self) {
        let (word, why) = match &self.caught {
            Ok(violation) => ("caught", violation.as_str()),
            Err(why) => ("NOT CAUGHT", *why),
        };
        let why: String = why.chars().take(160).collect();
        println!("{:<30} {word:<11} {:<36} {why}", self.mutation.name(), self.cell);
    }
}

/// The violation that says most: of an invariant, if there is one.
fn telling(violations: Vec<String>) -> Option<String> {
    let named = |violation: &String| {
        let begins = |word: &str| violation.starts_with(word);
        begins("exposure:") || begins("finality:") || (begins("I") && violation.contains(": "))
    };
    let at = violations.iter().position(named).unwrap_or_default();
    violations.into_iter().nth(at)
}

async fn attempt(mutation: Mutation, trial: Trial, plan: Plan, seed: u64) -> Verdict {
    let cell = format!("{}/{:?}/{}", super::stand::name(plan.family), plan.store, trial.name()).to_lowercase();
    let verdict = |caught| Verdict { mutation, cell: cell.clone(), caught };
    if plan.store == StoreKind::Postgres && plan.cluster.is_none() {
        return verdict(Err("PostgreSQL isn't installed"));
    }
    let mut dice = Dice::new(seed ^ table::mix(&cell));
    // Without the bug the cell is silent: what it says with the bug is about the bug.
    for (mutation, tries) in [(None, 1), (Some(mutation.name()), TRIES)] {
        for number in 0..tries {
            let dir = plan.dir.join(format!("{}-{number}", mutation.unwrap_or("without")));
            let mut stand = match Stand::put_up(Plan { dir, mutation, ..plan.clone() }).await {
                Ok(stand) => stand,
                Err(error) => {
                    tracing::error!(%error, "no stand");
                    return verdict(Err("no stand could be put up"));
                }
            };
            let outcome = trial.run(&mut stand, &mut dice).await;
            stand.take_down(false).await;
            match (mutation, telling(outcome.violations)) {
                (None, Some(violation)) => {
                    println!("{cell}: {violation}");
                    return verdict(Err("the cell fails without it, too"));
                }
                (Some(_), Some(violation)) => return verdict(Ok(violation)),
                (_, None) => {}
            }
        }
    }
    verdict(Err("no invariant was violated"))
}
