//! The system under test: two gateways on one store's file, and the town around them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::clock::Clock;
use gateway::pipeline::replace::Ask;
use gateway::record::RecordId;
use gateway::store::sqlite::SqliteStore;
use gateway::store::{Cancelling, Filter, NewIntent, Store};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::chain::{Ledger, NODES, Weather};
use super::house::{Fault, House, NAMES, NETWORK, cancellation, signers, submission};
use super::plan::{Plan, Step};
use super::town::Town;

/// How long a client waits for an answer before it hangs up.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long a step that should need nobody is waited for. Nothing hangs on it but how much happens in a sequence.
const LEISURE: Duration = Duration::from_millis(250);
/// How long anything may take before the test says that it hangs.
const HANGS: Duration = Duration::from_secs(300);
/// In how many rounds of clear weather everything has come to rest, and after how many of them the gateways are restarted, which
/// ends the waiting between tries.
const ROUNDS: (u32, u32) = (90, 15);

/// Two gateways on one store's file.
pub(crate) struct Street {
    runtime: Runtime,
    town: Arc<Town>,
    houses: RefCell<[Option<House>; 2]>,
    /// For looking at the store from outside.
    outside: SqliteStore,
    dir: tempfile::TempDir,
    case: u64,
    last: RefCell<Option<NewIntent>>,
    steps: RefCell<Vec<String>>,
}

impl Street {
    /// A fresh store, a fresh chain, and both gateways at work.
    pub(crate) fn open() -> Self {
        static CASES: AtomicU64 = AtomicU64::new(0);
        let case = CASES.fetch_add(1, Ordering::SeqCst);
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let town = Town::new(Ledger::new(&signers().account, case));
        let outside = SqliteStore::open(&dir.path().join("gateway.sqlite")).unwrap();
        let street = Self {
            runtime,
            town,
            houses: RefCell::default(),
            outside,
            dir,
            case,
            last: RefCell::default(),
            steps: RefCell::default(),
        };
        street.run(async {
            street.restart(0).await;
            street.restart(1).await;
        });
        street
    }

    fn run(&self, work: impl Future<Output = ()>) {
        self.runtime.block_on(async { timeout(HANGS, work).await.unwrap_or_else(|_| panic!("hangs")) });
    }

    async fn restart(&self, gateway: usize) {
        let old = self.houses.borrow_mut()[gateway].take();
        if let Some(old) = old {
            old.kill().await;
        }
        let house = House::open(NAMES[gateway], &self.dir.path().join("gateway.sqlite"), &self.town).await;
        self.houses.borrow_mut()[gateway] = Some(house);
    }

    /// Lets something happen.
    pub(crate) fn take(&self, step: Step) {
        let line = format!("-- {step:?}");
        self.steps.borrow_mut().push(line.clone());
        self.run(async {
            self.town.reference().await.log.push(line);
            self.happen(step).await;
        });
    }

    async fn happen(&self, step: Step) {
        match step {
            Step::Submit { gateway, key, body } => {
                let at = self.town.unix_millis();
                let asked = submission(self.case, key, body, NAMES[gateway], at);
                *self.last.borrow_mut() = Some(asked.clone());
                self.submit(gateway, asked).await;
            }
            Step::Replay { gateway } => {
                let last = self.last.borrow().clone();
                if let Some(asked) = last {
                    self.submit(gateway, NewIntent { id: RecordId::new(Uuid::now_v7()), ..asked }).await;
                }
            }
            Step::Rest => self.rest().await,
            Step::Mine { pick, newest_first, foreign, fails } => {
                self.town.ledger().mine(pick, newest_first, foreign, fails);
                self.rest().await;
            }
            Step::Reorg { depth, keep } => {
                self.town.ledger().reorg(depth, keep);
                self.rest().await;
            }
            Step::Drop => self.town.ledger().drop_mempool(),
            Step::Turn { node, weather } => self.town.ledger().turn(node, weather),
            Step::Storm { down } => {
                let weather = if down { Weather::Down } else { Weather::Fine };
                (0..NODES).for_each(|node| self.town.ledger().turn(node, weather));
            }
            Step::SpeedUp { gateway, key } => {
                let (Some(pipeline), Some(id)) = (self.at_work(gateway), self.record(key).await) else { return };
                self.client(tokio::spawn(async move {
                    let _answer = pipeline.replace(id, Ask::SpeedUp { slow: None }).await;
                }))
                .await;
            }
            Step::Cancel { gateway, key } => {
                let (Some(pipeline), Some(id)) = (self.at_work(gateway), self.record(key).await) else { return };
                let at = self.town.unix_millis();
                self.client(tokio::spawn(async move {
                    let (request, claims) = cancellation(id);
                    if let Ok(Cancelling::Asked) = pipeline.store().cancel(id, claims, request, at).await {
                        let _answer = pipeline.replace(id, Ask::Cancel).await;
                    }
                }))
                .await;
            }
            Step::Fault { gateway, left, side, crash } => {
                if let Some(house) = &self.houses.borrow()[gateway] {
                    house.gate.arm(Some(Fault { left, side, crash }));
                }
            }
            Step::Restart { gateway } => {
                self.restart(gateway).await;
                self.rest().await;
            }
            Step::Pause { gateway, paused } => {
                if let Some(house) = &self.houses.borrow()[gateway] {
                    house.gate.wake(!paused);
                }
            }
            Step::Pass { millis } => {
                self.town.pass(millis);
                self.rest().await;
            }
        }
    }

    async fn submit(&self, gateway: usize, asked: NewIntent) {
        let Some(pipeline) = self.at_work(gateway) else { return };
        self.client(tokio::spawn(async move {
            let _answer = pipeline.accept(asked).await; // the reference hears what the store says
        }))
        .await;
    }

    /// A gateway that answers.
    fn at_work(&self, gateway: usize) -> Option<Arc<gateway::pipeline::Pipeline>> {
        let houses = self.houses.borrow();
        houses[gateway].as_ref().filter(|house| house.works()).map(|house| house.pipeline.clone())
    }

    /// Waits for an answer as a client does; what it asked for goes on when it hangs up.
    async fn client(&self, answer: JoinHandle<()>) {
        if let Ok(ended) = timeout(PATIENCE, answer).await {
            ended.unwrap();
        }
    }

    /// The latest record of a key.
    async fn record(&self, key: u8) -> Option<RecordId> {
        let key = format!("case-{}-{key}", self.case).parse().unwrap();
        self.outside.by_key(&"desk".parse().unwrap(), &key).await.unwrap().map(|record| record.id)
    }

    /// Lets every gateway that works look twice at everything, and finish what needs nobody.
    async fn rest(&self) {
        let goals: Vec<_> =
            self.houses.borrow().iter().flatten().map(|one| (one.gate.clone(), one.gate.rounds() + 2)).collect();
        for (gate, goal) in goals {
            while gate.rounds() < goal && !gate.is_dead() && gate.is_awake() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let somebody = self.houses.borrow().iter().flatten().any(House::works);
        let quiet = async {
            while somebody && self.town.reference().await.entries.values().any(super::reference::Entry::is_busy) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _late = timeout(LEISURE, quiet).await;
    }

    /// Fails if a write was wrong, or if the store doesn't hold what it should.
    pub(crate) fn check(&self, plan: &Plan) {
        self.run(async {
            let mut reference = self.town.reference().await;
            let filter = Filter { client: None, wallet: None, state: None, deals: false, before: None, limit: 500 };
            let records = self.outside.list(filter).await.unwrap();
            let slots = self.outside.slots(NETWORK, "").await.unwrap();
            let usage = self.outside.usage("model", 0, 0).await.unwrap();
            let ledger = self.town.ledger();
            reference.compare(&records, &slots, usage, &ledger);
            let asked: Vec<_> = plan.asked.keys().map(|key| format!("case-{}-{key}", self.case)).collect();
            let stray = reference.entries.values().find(|entry| !asked.contains(&entry.key)).map(|one| one.key.clone());
            reference.wrong.extend(stray.map(|key| format!("I1: nobody asked for {key}")));
            if !reference.wrong.is_empty() {
                let (steps, wrong, log) = (self.steps.borrow().join("\n"), &reference.wrong, reference.log.join("\n"));
                panic!("{wrong:#?}\n{steps}\n\nwhat happened:\n{log}\n{ledger}");
            }
        });
    }

    /// The weather clears, and everything is brought to its end.
    pub(crate) fn come_to_rest(self, plan: &Plan) {
        self.run(async {
            for node in 0..NODES {
                self.town.ledger().turn(node, Weather::Fine);
            }
            for gateway in 0..NAMES.len() {
                let dead = self.houses.borrow()[gateway].as_ref().is_none_or(|house| house.gate.is_dead());
                if dead {
                    self.restart(gateway).await;
                } else if let Some(house) = &self.houses.borrow()[gateway] {
                    house.gate.arm(None);
                    house.gate.wake(true);
                }
            }
            for round in 1..=ROUNDS.0 {
                if self.town.reference().await.entries.values().all(super::reference::Entry::has_ended) {
                    break;
                }
                if round % ROUNDS.1 == 0 {
                    self.restart(0).await;
                    self.restart(1).await;
                }
                self.town.pass(200);
                self.rest().await;
                self.town.ledger().mine(u8::MAX, round % 2 == 0, None, false);
                self.rest().await;
            }
            let mut reference = self.town.reference().await;
            let ledger = self.town.ledger();
            reference.finish(&ledger);
        });
        self.check(plan);
        self.run(async {
            let mut active = self.outside.active(NETWORK).await.unwrap();
            let reference = self.town.reference().await;
            active.retain(|id| !reference.entries[id].is_for_a_person()); // its cancellation is tried now and then
            drop(reference);
            assert!(active.is_empty(), "nobody should have to work on {active:?}");
            self.count().await;
            for house in self.houses.take().into_iter().flatten() {
                house.kill().await;
            }
        });
    }

    /// Tells what all cases so far have come to; `--nocapture` shows it. A model in which nothing happens would pass too.
    async fn count(&self) {
        static CENSUS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
        let reference = self.town.reference().await;
        let mut census = CENSUS.lock().unwrap();
        for entry in reference.entries.values() {
            *census.entry(format!("{} of {} attempts", entry.state, entry.attempts())).or_default() += 1;
        }
        for line in reference.log.iter().filter(|line| !line.starts_with("--")) {
            let (what, answer) = line.split_once(": ").unwrap_or_default();
            let what = what.split(' ').nth(1).unwrap_or_default();
            let word: String = answer.chars().take_while(char::is_ascii_alphabetic).collect();
            let inner = answer.strip_prefix("Err(").unwrap_or_default();
            let inner: String = inner.chars().take_while(char::is_ascii_alphabetic).collect();
            *census.entry(format!("{what} {word} {inner}").trim().to_owned()).or_default() += 1;
        }
        println!("{} cases: {census:?}", self.case + 1);
    }
}
