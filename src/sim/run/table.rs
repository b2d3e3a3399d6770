//! All scenarios that come with the binary, one after the other.

use std::path::PathBuf;

use clap::Args;
use simulator::report::{Report, html};
use simulator::seed::Seed;

use super::shipped::{SHIPPED, find};
use super::{BadScenario, Folder, perform};
use crate::cli::Failure;

/// Which of them, and where their reports go.
#[derive(Clone, Debug, Args)]
pub(crate) struct TableArgs {
    /// Only these.
    #[arg(long)]
    only: Vec<String>,
    /// What all chance comes from, instead of each scenario's own seed.
    #[arg(long)]
    seed: Option<Seed>,
    /// Break each on purpose, and see that it fails by the claim that it names.
    #[arg(long)]
    broken: bool,
    /// A folder for the reports, as pages and as JSON.
    #[arg(long)]
    reports: Option<PathBuf>,
}

/// What came of a scenario.
struct Row {
    name: &'static str,
    /// Whether it came as it should.
    right: bool,
    told: String,
}

/// Runs them, and prints a line for each.
///
/// # Errors
/// Where one doesn't come as it should.
pub(crate) async fn table(args: TableArgs) -> Result<(), Failure> {
    if let Some(unknown) = args.only.iter().find(|name| !SHIPPED.iter().any(|(shipped, _)| shipped == name)) {
        find(unknown).map(drop)?;
        return Err(BadScenario::Unfit(format!("{unknown} doesn't come with the binary; `sim run` it")).into());
    }
    if let Some(folder) = &args.reports {
        std::fs::create_dir_all(folder)?;
    }
    let ground = Folder::make(None)?;
    let keys = ground.0.join("keys");
    let mut rows = Vec::new();
    for (name, _) in SHIPPED {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        let row = one(name, &args, &ground, &keys).await;
        println!("{}", row.line());
        rows.push(row);
    }
    println!();
    rows.iter().for_each(|row| println!("{}", row.line()));
    let wrong = rows.iter().filter(|row| !row.right).count();
    ground.clear(wrong > 0);
    let all = rows.len();
    let what =
        if args.broken { "scenarios broken on purpose, {} of them caught" } else { "scenarios, {} of them hold" };
    println!("\n{all} {}", what.replace("{}", &all.saturating_sub(wrong).to_string()));
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} scenarios didn't come as they should").into()) }
}

/// Runs one. The keys of signers in the gateway's process are made once.
async fn one(name: &'static str, args: &TableArgs, ground: &Folder, keys: &std::path::Path) -> Row {
    let row = |right, told| Row { name, right, told };
    let mut scenario = match find(name) {
        Ok(scenario) => scenario,
        Err(error) => return row(false, error.to_string()),
    };
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let claim = scenario.broken.as_ref().map(|sabotage| sabotage.claim).filter(|_| args.broken);
    let usual = !scenario.gateway.apart && scenario.gateway.signers == 3 && scenario.gateway.threshold == 2;
    let broken = if args.broken { " --broken" } else { "" };
    let command = format!("portcullis sim run {name} --seed {}{broken}", scenario.seed);
    let dir = ground.0.join(name);
    let made = std::fs::create_dir_all(&dir).map_err(Failure::from);
    let shared = Some(keys).filter(|_| usual);
    let report = match made {
        Ok(()) => perform(scenario, args.broken, &command, &dir, shared).await,
        Err(error) => Err(error),
    };
    let report = match report {
        Ok(report) => report,
        Err(error) => return row(false, error.to_string()),
    };
    if let Err(error) = keep(&report, args, name) {
        return row(false, error.to_string());
    }
    let failed: Vec<_> = report.verdicts.iter().filter(|verdict| !verdict.holds).collect();
    for verdict in &failed {
        println!("  {} {}: {}", verdict.claim, verdict.found, verdict.against.first().map_or("", String::as_str));
    }
    let names = failed.iter().map(|verdict| verdict.claim.name()).collect::<Vec<_>>().join(", ");
    let totals = report.totals;
    let payments = format!("{} payments, {} final, in {} s", totals.intended, totals.finalized, report.end_ms / 1_000);
    match claim {
        None if failed.is_empty() => row(true, payments),
        None => row(false, format!("{payments}; fails: {names}")),
        Some(claim) if failed.iter().any(|verdict| verdict.claim == claim) => row(true, format!("caught: {names}")),
        Some(claim) => {
            row(false, format!("{claim} should fail; fails: {}", if names.is_empty() { "nothing" } else { &names }))
        }
    }
}

fn keep(report: &Report, args: &TableArgs, name: &str) -> Result<(), Failure> {
    let Some(folder) = &args.reports else { return Ok(()) };
    std::fs::write(folder.join(format!("{name}.html")), html(report))?;
    std::fs::write(folder.join(format!("{name}.json")), serde_json::to_vec_pretty(report)?)?;
    Ok(())
}

impl Row {
    fn line(&self) -> String {
        let word = if self.right { "ok    " } else { "FAILED" };
        format!("{word}  {:<18} {}", self.name, self.told)
    }
}
