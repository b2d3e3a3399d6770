//! `portcullis sim run`: a scenario from its file to its verdict. The simulated chains run in this process, the gateway and its signers as
//! the real binary in processes of their own.
//!
//! - [`shipped`]: the scenarios that come with the binary;
//! - [`site`]: the folder with the gateway's configuration, the processes, and who is killed when; [`crew`]: signers apart;
//! - [`town`]: the simulated world of the scenario;
//! - [`books`]: what the nodes say of wallets, payees and transactions;
//! - [`mod@table`]: all shipped scenarios, one after the other.

mod books;
mod crew;
mod shipped;
mod site;
mod table;
mod town;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use gateway::api::view::TxView;
use gateway::record::{Purpose, State};
use serde_json::{Value, json};
use simulator::load::orders;
use simulator::report::{Fact, FaultSpan, Report, Told, build, html, summary};
use simulator::scenario::judge::{Evidence, judge};
use simulator::scenario::{Claim, Scenario, ScenarioError, Sight, Verdict};
use simulator::seed::Seed;
use tokio::time::Instant;

use self::books::Books;
use self::site::Site;
pub(super) use self::table::{TableArgs, table};
use self::town::Town;
use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::load::drive::{self, Board, Course};
use crate::load::{live, write};

/// How long the nodes may take to agree once all is over.
const AGREEMENT: Duration = Duration::from_secs(20);
/// How often they are asked then.
const LOOK: Duration = Duration::from_millis(500);

/// Which scenario, and where its report goes.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// A file, or the name of one that comes with the binary.
    scenario: String,
    /// What all chance comes from, instead of the scenario's own seed.
    #[arg(long)]
    seed: Option<Seed>,
    /// A file for the report, as a page.
    #[arg(long)]
    report: Option<PathBuf>,
    /// A file for the report, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Break the scenario on purpose, in the way that it says itself: then it must fail.
    #[arg(long)]
    broken: bool,
    /// The folder of gateway and signers, kept afterwards; one among the system's temporary ones, if left out.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Which report is rendered again.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// The report as JSON.
    json: PathBuf,
    /// The page's file.
    #[arg(long)]
    html: PathBuf,
}

/// A scenario that can't be run as it is written. The program ends with 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BadScenario {
    /// It can't be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// There is none.
    #[error("there is no scenario {name:?}: no such file, and none of those that come with the binary: {shipped}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        shipped: String,
    },
    /// It can't be run by this binary.
    #[error("{0}")]
    Unfit(String),
}

/// Runs a scenario and tells what came of it.
///
/// # Errors
/// [`BadScenario`], or that a claim doesn't hold.
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let mut scenario = shipped::find(&args.scenario)?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let command = command(&args, scenario.seed);
    let folder = Folder::make(args.dir.as_deref())?;
    let report = perform(scenario, args.broken, &command, &folder.0, None).await?;
    println!("{}", summary(&report));
    write(&report, args.report.as_deref(), args.json.as_deref())?;
    folder.clear(args.dir.is_some() || !report.holds());
    let failed = report.verdicts.iter().filter(|verdict| !verdict.holds).count();
    if failed == 0 { Ok(()) } else { Err(format!("{failed} claims don't hold").into()) }
}

/// Renders a report's page again.
///
/// # Errors
/// Where the JSON can't be read, or the page can't be written.
pub(crate) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let text = std::fs::read(&args.json).map_err(|error| format!("{}: {error}", args.json.display()))?;
    let report: Report = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", args.json.display()))?;
    std::fs::write(&args.html, html(&report)).map_err(|error| format!("{}: {error}", args.html.display()))?;
    println!("{}\nreport   {}", summary(&report), args.html.display());
    Ok(())
}

/// The command that does the same again.
fn command(args: &RunArgs, seed: Seed) -> String {
    let broken = if args.broken { " --broken" } else { "" };
    format!("portcullis sim run {} --seed {seed}{broken}", args.scenario)
}

/// Where gateway and signers are.
struct Folder(PathBuf);

impl Folder {
    fn make(wanted: Option<&Path>) -> Result<Self, Failure> {
        let made = || std::env::temp_dir().join(format!("portcullis-scenario-{}", uuid::Uuid::now_v7().simple()));
        let dir = wanted.map_or_else(made, Path::to_owned);
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir.canonicalize()?))
    }

    fn clear(self, keep: bool) {
        if keep {
            println!("kept     {}", self.0.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "the folder stays");
        }
    }
}

/// Runs a scenario. `keys` is a folder for the shares of every key: they are taken from there, or put there for the next run.
///
/// # Errors
/// Where a part can't be had; that a claim doesn't hold is told in the report.
async fn perform(
    mut scenario: Scenario,
    broken: bool,
    command: &str,
    dir: &Path,
    keys: Option<&Path>,
) -> Result<Report, Failure> {
    if broken && !scenario.sabotage() {
        return Err(BadScenario::Unfit(format!("{} doesn't say how it is broken", scenario.name)).into());
    }
    let sabotage = scenario.broken.clone().filter(|_| broken);
    site::fits(&scenario, sabotage.as_ref())?;
    town::name_rules(&mut scenario);
    println!("scenario {}, seed {}{}", scenario.name, scenario.seed, if broken { ", broken on purpose" } else { "" });

    let run = format!("{}-{}", scenario.name, scenario.seed);
    let orders = orders(scenario.seed, &run, &scenario.load);
    let town = Town::start(&scenario).await?;
    let mut site = Site::prepare(&scenario, sabotage.as_ref(), &town, &orders, dir, keys).await?;
    let client = site.open().await?;
    let wallets = crate::load::book::wallets(&client).await?;
    town.fund(&client, &wallets).await?;
    let books = Books::open(&town, &wallets).await?;
    println!("load     {} payments in {} s", orders.len(), scenario.load_end_ms().div_ceil(1_000));

    let board = Board::new(orders, &site.book)?;
    let shown = live::show(Arc::clone(&board));
    let before = town.begin_faults(&scenario)?;
    let kills = site.begin_kills(&scenario);
    let settle = Duration::from_millis(scenario.settle_ms);
    let course = Course { settle, keep_views: true, repeat: scenario.repeat };
    let end_ms = drive::drive(Arc::clone(&client), Arc::clone(&board), site.book.clone(), course).await;
    shown.end();
    let killed = kills.ended(&board).await?;
    town.end_faults();

    if let Some(sabotage) = &sabotage
        && sabotage.pay_again
    {
        town.pay_again(&board.fates()).await?;
    }
    let sights = sights(&board, &client).await;
    let panics = site.close().await;
    let timeline = town.timeline(before);
    let strikes = timeline.counts();
    let mut evidence = Evidence { fates: board.fates(), strikes, sights, panics, ..Evidence::default() };
    let verdicts = agreed(&scenario, &books, &board, &mut evidence).await?;
    let mut faults: Vec<FaultSpan> = scenario.faults.iter().map(|rule| timeline.span(rule)).collect();
    faults.extend(killed);
    faults.extend(site::liars(&scenario));
    faults.sort_by_key(|fault| (fault.from_ms, fault.name.clone()));
    town.shutdown().await;
    Ok(build(Told {
        name: scenario.name.clone(),
        about: match &sabotage {
            None => scenario.about.clone(),
            Some(sabotage) => format!("Broken on purpose, so that {} fails: {}.", sabotage.claim, sabotage.how),
        },
        seed: scenario.seed,
        command: command.to_owned(),
        began_unix_ms: board.began_unix_ms(),
        end_ms,
        facts: facts(&scenario),
        verdicts,
        faults,
        fates: evidence.fates,
        ends: scenario.expect.ends.clone(),
    }))
}

/// Reads the chains until every claim about them holds, or the nodes have had time enough to agree.
async fn agreed(
    scenario: &Scenario,
    books: &Books,
    board: &Board,
    evidence: &mut Evidence,
) -> Result<Vec<Verdict>, Failure> {
    let views = board.views();
    let deadline = Instant::now() + AGREEMENT;
    loop {
        let read = books.close(&evidence.fates, &views).await;
        let late = Instant::now() >= deadline;
        match read {
            Ok(closed) => {
                evidence.received = closed.received;
                evidence.purses = closed.purses;
                evidence.unfounded = closed.unfounded;
                let verdicts = judge(scenario, evidence);
                let of_chain = |claim| matches!(claim, Claim::ExactlyOnce | Claim::Conservation | Claim::Finality);
                if late || verdicts.iter().all(|verdict| verdict.holds || !of_chain(verdict.claim)) {
                    return Ok(verdicts);
                }
            }
            Err(error) if late => return Err(error),
            Err(error) => tracing::debug!(%error, "the nodes can't tell yet"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was seen in the course of the run.
async fn sights(board: &Board, client: &GatewayClient) -> BTreeSet<Sight> {
    let views = board.views();
    let any = |test: &dyn Fn(&TxView) -> bool| views.values().any(test);
    let mut sights = BTreeSet::new();
    let mut see = |sight, seen: bool| {
        if seen {
            sights.insert(sight);
        }
    };
    see(Sight::SpeedUp, any(&|view| view.attempts.iter().any(|attempt| attempt.purpose == Purpose::SpeedUp)));
    see(Sight::Reorg, any(&was_taken_back));
    see(Sight::Expiry, any(&|view| view.state == State::Expired));
    see(Sight::Retry, board.look(|fates| fates.iter().any(|fate| fate.tries > 1)));
    // A gateway that can't be asked names nobody.
    let keys: Vec<Value> = client.call("key_list", json!({})).await.unwrap_or_default();
    let culprit = |key: &Value| key.get("last_culprit").is_some_and(|culprit| !culprit.is_null());
    see(Sight::Culprit, keys.iter().any(culprit));
    sights
}

/// Whether it was in a block, and out of it again: back in the mempool, or in another block by the time that the gateway looked.
fn was_taken_back(view: &TxView) -> bool {
    let mut last: Option<Option<&Value>> = None;
    view.history.iter().any(|step| {
        let before = last;
        match step.state {
            State::InMempool | State::Broadcasting => before.is_some(),
            State::Included | State::Confirmed | State::Finalized | State::Failed => {
                let detail = step.detail.as_ref();
                let block =
                    detail.and_then(|detail| detail.get("block").or_else(|| detail.pointer("/inclusion/block")));
                last = Some(block);
                before.is_some_and(|before| before != block)
            }
            _ => false,
        }
    })
}

fn facts(scenario: &Scenario) -> Vec<Fact> {
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
    let mut facts = Vec::new();
    for part in &scenario.chains {
        let (nodes, setup) = (part.setup.nodes, part.setup);
        let plural = if nodes == 1 { "node" } else { "nodes" };
        let value = format!(
            "{nodes} {plural}, a block every {} ms, final after {}",
            setup.block_interval_ms, setup.finality_depth
        );
        facts.push(fact(part.chain.name(), value));
    }
    let gateway = &scenario.gateway;
    let place = if gateway.apart { "in processes of their own" } else { "in the gateway's process" };
    facts.push(fact("signers", format!("{} of {}, {place}", gateway.threshold, gateway.signers)));
    facts
}
