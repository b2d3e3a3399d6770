//! The crash matrix: the real binary, killed at every step of a payment's life, on each chain, with each store, started again
//! and held against the chain.
//!
//! - [`cell`]: one cell: a chain, a store, a point where the gateway is killed;
//! - [`scenario`]: what else dies or stands still: PostgreSQL, one of three gateways, a leaseholder;
//! - [`weather`]: nodes that answer rubbish, disks that are full;
//! - [`mutation`]: known bugs, switched on to see that the harness catches them;
//! - [`check`]: the invariants;
//! - [`stand`], [`chain`], [`relay`], [`child`], [`cluster`]: what a cell runs on;
//! - [`table`]: what is printed.

mod cell;
mod chain;
mod check;
pub(super) mod child;
mod cluster;
mod mutation;
mod relay;
mod scenario;
pub(super) mod stand;
mod table;
mod weather;

use std::path::PathBuf;
use std::sync::Arc;

use chains::network::Family;
use clap::{Args, ValueEnum};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::cell::{Dice, POINTS, Point};
use self::cluster::Cluster;
use self::scenario::Scenario;
use self::stand::{LIMIT, Plan, Stand, StoreKind};
use self::table::Row;
use self::weather::Storm;
use crate::cli::Failure;

/// A chain, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ChainName {
    /// Bitcoin.
    Bitcoin,
    /// Ethereum.
    Ethereum,
    /// Solana.
    Solana,
}

impl ChainName {
    const fn family(self) -> Family {
        match self {
            Self::Bitcoin => Family::Bitcoin,
            Self::Ethereum => Family::Ethereum,
            Self::Solana => Family::Solana,
        }
    }
}

/// Which cells, and how often.
#[derive(Clone, Debug, Args)]
pub(crate) struct MatrixArgs {
    /// Only these chains.
    #[arg(long = "chain")]
    chains: Vec<ChainName>,
    /// Only these stores.
    #[arg(long = "store")]
    stores: Vec<StoreKind>,
    /// Only these points, scenarios and storms.
    #[arg(long = "point")]
    points: Vec<String>,
    /// How often each cell is run.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// What chance begins with; the same number makes the same choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file for the rows, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// How many stands (a chain with a store) there are at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Where the stands are; a folder of its own among the system's temporary ones, if left out.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Which known bugs.
#[derive(Clone, Debug, Args)]
pub(crate) struct MutationArgs {
    /// Only these bugs.
    #[arg(long = "mutation")]
    mutations: Vec<String>,
    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many are tried at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// What can happen on a stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// Killed at a point.
    Point(Point),
    /// Something else dies.
    Scenario(Scenario),
    /// Hard weather.
    Storm(Storm),
}

impl Trial {
    fn all() -> Vec<Self> {
        let points = POINTS.into_iter().map(Self::Point);
        let storms = Storm::ALL.into_iter().map(Self::Storm);
        points.chain(storms).chain(Scenario::ALL.into_iter().map(Self::Scenario)).collect()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Point(point) => point.name,
            Self::Scenario(scenario) => scenario.name(),
            Self::Storm(storm) => storm.name(),
        }
    }

    /// Whether it makes sense on this chain with this store.
    const fn fits(self, family: Family, store: StoreKind) -> bool {
        match self {
            Self::Point(_) => true,
            Self::Scenario(scenario) => scenario.fits(family, store),
            Self::Storm(storm) => storm.fits(family, store),
        }
    }

    async fn run(self, stand: &mut Stand, dice: &mut Dice) -> cell::Outcome {
        match self {
            Self::Point(point) => cell::run(stand, point, dice).await,
            Self::Scenario(scenario) => scenario::run(stand, scenario, dice).await,
            Self::Storm(storm) => weather::run(stand, storm, dice).await,
        }
    }
}

/// The folder of all stands, with what they share.
struct Ground {
    dir: PathBuf,
    keys: PathBuf,
    cluster: Option<Arc<Cluster>>,
}

impl Ground {
    /// Makes the folder, has the keys generated, and starts PostgreSQL where it is wanted.
    async fn prepare(dir: Option<PathBuf>, postgres: bool) -> Result<Self, Failure> {
        if !cfg!(feature = "failpoints") {
            return Err("this binary was built without the feature `failpoints`; \
                        `just crash-matrix` builds one that has it"
                .into());
        }
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("portcullis-crash-{}", std::process::id())));
        std::fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let cluster = if postgres { Cluster::start(&dir.join("postgres"))?.map(Arc::new) } else { None };
        let keys = stand::make_keys(&dir.join("keys")).await?;
        Ok(Self { dir, keys, cluster })
    }

    fn plan(&self, family: Family, store: StoreKind, name: &str) -> Plan {
        let dir = self.dir.join(name);
        let (keys, cluster) = (self.keys.clone(), self.cluster.clone());
        Plan { family, store, dir, keys, cluster, mutation: None, limit: LIMIT }
    }

    /// Leaves nothing behind but the folders of what failed.
    fn clear(self, keep: bool) {
        let Self { dir, cluster, .. } = self;
        drop(cluster);
        if !keep && let Err(error) = std::fs::remove_dir_all(&dir) {
            tracing::debug!(%error, "the folder stays");
        }
    }
}

/// Runs the matrix and prints its table.
///
/// # Errors
/// Where an invariant is violated, or the matrix can't be run.
pub(crate) async fn matrix(args: MatrixArgs) -> Result<(), Failure> {
    let trials: Vec<Trial> = Trial::all()
        .into_iter()
        .filter(|trial| args.points.is_empty() || args.points.iter().any(|name| name == trial.name()))
        .collect();
    if let Some(unknown) = args.points.iter().find(|name| !Trial::all().iter().any(|trial| trial.name() == *name)) {
        let names: Vec<_> = Trial::all().into_iter().map(Trial::name).collect();
        return Err(format!("there is no point {unknown}; there are {}", names.join(", ")).into());
    }
    let mut stores = args.stores.clone();
    if stores.is_empty() {
        stores = vec![StoreKind::Sqlite, StoreKind::Postgres];
    }
    let families: Vec<Family> = stand::FAMILIES
        .into_iter()
        .filter(|family| args.chains.is_empty() || args.chains.iter().any(|name| name.family() == *family))
        .collect();
    let ground = Ground::prepare(args.dir.clone(), stores.contains(&StoreKind::Postgres)).await?;
    if ground.cluster.is_none() && stores.contains(&StoreKind::Postgres) {
        println!("PostgreSQL isn't installed (Debian: postgresql); its cells are left out");
        stores.retain(|store| *store != StoreKind::Postgres);
    }

    let turns = Arc::new(Semaphore::new(args.jobs.max(1)));
    let mut running = JoinSet::new();
    for store in stores {
        for family in families.iter().copied() {
            let plan = ground.plan(family, store, &format!("{}-{store:?}", stand::name(family)).to_lowercase());
            let trials: Vec<_> = trials.iter().copied().filter(|trial| trial.fits(family, store)).collect();
            let (turns, runs, seed) = (Arc::clone(&turns), args.runs, args.seed);
            if trials.is_empty() {
                continue;
            }
            running.spawn(async move {
                let _turn = turns.acquire_owned().await;
                on_one_stand(plan, trials, runs, seed).await
            });
        }
    }
    let mut rows = Vec::new();
    while let Some(done) = running.join_next().await {
        rows.extend(done?);
    }
    let failed = rows.iter().any(|row| !row.violations.is_empty());
    table::print(&rows);
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&rows)?)?;
    }
    ground.clear(failed);
    if failed { Err("the matrix found violations".into()) } else { Ok(()) }
}

/// Runs every trial that fits a chain and a store, one after another. One that fails gets a fresh stand after it.
async fn on_one_stand(plan: Plan, trials: Vec<Trial>, runs: u32, seed: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut stand: Option<Stand> = None;
    for (number, trial) in trials.into_iter().enumerate() {
        let mut row = Row::new(stand::name(plan.family), plan.store, trial.name(), seed);
        let mut dice = Dice::new(seed ^ table::mix(&format!("{}/{:?}/{}", row.chain, plan.store, row.point)));
        for _ in 0..runs {
            let mut present = match stand.take() {
                Some(stand) => stand,
                None => {
                    let dir = plan.dir.join(format!("{number:02}-{}", trial.name()));
                    match Stand::put_up(Plan { dir, ..plan.clone() }).await {
                        Ok(stand) => stand,
                        Err(error) => {
                            row.violations.push(format!("no stand: {error}"));
                            break;
                        }
                    }
                }
            };
            present.chain.mining(true);
            let outcome = trial.run(&mut present, &mut dice).await;
            // Nobody looks until the next run: blocks would only have to be read then.
            present.chain.mining(false);
            row.add(&outcome);
            if outcome.violations.is_empty() {
                stand = Some(present);
            } else {
                row.folder = Some(present.plan.dir.clone());
                present.take_down(true).await;
                break;
            }
        }
        row.tell();
        rows.push(row);
    }
    if let Some(stand) = stand {
        stand.take_down(false).await;
    }
    rows
}

/// Switches the known bugs on, one at a time, and prints which are caught.
///
/// # Errors
/// Where one isn't.
pub(crate) async fn mutations(args: MutationArgs) -> Result<(), Failure> {
    mutation::check(args).await
}
