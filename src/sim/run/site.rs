//! The gateway of a scenario: its folder, its configuration, its processes, and who of them is killed when.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chains::asset::Asset;
use chains::network::Family;
use simulator::load::Order;
use simulator::node::ethereum::DEMO_TOKEN;
use simulator::node::solana::SolanaNode;
use simulator::report::{FaultSpan, Struck};
use simulator::scenario::{Kill, Sabotage, Scenario, Victim};
use simulator::topology::ChainKind;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::BadScenario;
use super::crew;
use super::town::Town;
use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::load::book::{Book, Payees, Payer, address};
use crate::load::drive::Board;
use crate::sim::crash::child::Child;
use crate::sim::crash::stand::{copy, key, name, network, prepare};
use crate::sim::free_port;

/// How long a call of the gateway to a node may take, in milliseconds.
const NODE_TIMEOUT_MS: u64 = 3_000;

/// A gateway's folder and its processes.
pub(super) struct Site {
    /// Who pays whom.
    pub(super) book: Book,
    url: String,
    key_file: PathBuf,
    /// Where the keys are put once they are made, before anything is signed by them.
    keys: Option<PathBuf>,
    yard: Arc<Yard>,
}

/// The processes, and how they are started.
struct Yard {
    dir: PathBuf,
    environment: Vec<(String, String)>,
    /// How many signers run apart.
    apart: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<Victim, Child>,
    panics: Vec<String>,
    starts: u32,
    /// The kills so far.
    spans: Vec<FaultSpan>,
}

/// The kills of a run, each at its time.
pub(super) struct Kills {
    tasks: JoinSet<Result<(), Failure>>,
    yard: Arc<Yard>,
}

/// The chain's family.
const fn family(chain: ChainKind) -> Family {
    match chain {
        ChainKind::Bitcoin => Family::Bitcoin,
        ChainKind::Ethereum => Family::Ethereum,
        ChainKind::Solana => Family::Solana,
    }
}

/// The demo token of a chain that has one.
fn token(chain: ChainKind) -> Option<Asset> {
    match chain {
        ChainKind::Bitcoin => None,
        ChainKind::Ethereum => Some(Asset::Erc20(DEMO_TOKEN)),
        ChainKind::Solana => Some(Asset::Spl(SolanaNode::demo_mint())),
    }
}

/// Whether this binary can do what the scenario asks for.
///
/// # Errors
/// Where it was built without a feature that it takes.
pub(super) fn fits(scenario: &Scenario, sabotage: Option<&Sabotage>) -> Result<(), BadScenario> {
    let mutated = sabotage.is_some_and(|sabotage| sabotage.mutation.is_some());
    if (mutated || !scenario.gateway.liars.is_empty()) && !cfg!(feature = "mutations") {
        return Err(BadScenario::Unfit(format!(
            "{} takes a gateway with known bugs or signers that lie, and this binary was built without the feature \
             `mutations`; `just scenario {}` builds one that has it",
            scenario.name, scenario.name
        )));
    }
    Ok(())
}

/// Signers that lie all the time, as the report shows them.
pub(super) fn liars(scenario: &Scenario) -> impl Iterator<Item = FaultSpan> + '_ {
    scenario.gateway.liars.iter().map(|liar| FaultSpan {
        name: format!("signer-{liar} lies"),
        what: "wrong shares".to_owned(),
        place: "the signer pool".to_owned(),
        chain: None,
        from_ms: 0,
        to_ms: None,
        strikes: 0,
        struck: Vec::new(),
    })
}

impl Site {
    /// Writes everything that gateway and signers need before their first start.
    ///
    /// # Errors
    /// Where it can't be written.
    pub(super) async fn prepare(
        scenario: &Scenario,
        sabotage: Option<&Sabotage>,
        town: &Town,
        orders: &[Order],
        dir: &Path,
        keys: Option<&Path>,
    ) -> Result<Self, Failure> {
        let data = dir.join("data");
        fs::create_dir_all(&data)?;
        if let Some(keys) = keys.filter(|keys| keys.exists()) {
            copy(keys, &data.join("signers"))?;
        }
        let key_file = prepare(&data)?;
        let gateway = &scenario.gateway;
        let (port, rules) = (free_port()?, rules(scenario, orders, &data.join("trader.pub")));
        let signers = if gateway.apart {
            crew::furnish(dir, gateway.signers, gateway.threshold, free_port()?, &rules).await?
        } else {
            let names: Vec<_> = (1..=gateway.signers).map(|number| format!("\"signer-{number}\"")).collect();
            format!("[signers]\nthreshold = {}\nnames = [{}]\n", gateway.threshold, names.join(", "))
        };
        let mut text = format!(
            "data_dir = {data:?}\n[server]\nlisten = \"127.0.0.1:{port}\"\n[gateway]\nname = \"gateway\"\nlease_ms = 3000\n{signers}"
        );
        for chain in town.chains() {
            text.push_str(&network_part(scenario, sabotage, town, chain)?);
        }
        fs::write(dir.join("portcullis.toml"), text + &rules)?;

        let mut environment = Vec::new();
        if let Some(mutation) = sabotage.and_then(|sabotage| sabotage.mutation.clone()) {
            environment.push(("PORTCULLIS_MUTATION".to_owned(), mutation));
        }
        if !gateway.liars.is_empty() {
            let names: Vec<_> = gateway.liars.iter().map(|number| format!("signer-{number}")).collect();
            environment.push(("PORTCULLIS_LIARS".to_owned(), names.join(",")));
        }
        let mut book = Book::default();
        for chain in town.chains() {
            let tokens = token(chain).map(|asset| (asset, Payees::OfOrder));
            book.add(chain, Payer { wallet: name(family(chain)).parse()?, natives: Payees::OfOrder, tokens });
        }
        let apart = if gateway.apart { gateway.signers } else { 0 };
        let yard = Yard { dir: dir.to_owned(), environment, apart, state: Mutex::default() };
        let keys = keys.filter(|keys| !keys.exists()).map(Path::to_owned);
        Ok(Self { book, url: format!("http://127.0.0.1:{port}"), key_file, keys, yard: Arc::new(yard) })
    }

    /// Starts all processes and answers a client of the gateway once it serves.
    ///
    /// # Errors
    /// Where one doesn't start.
    pub(super) async fn open(&mut self) -> Result<Arc<GatewayClient>, Failure> {
        for number in 1..=self.yard.apart {
            self.yard.start(Victim::Signer(number)).await?;
        }
        self.yard.start(Victim::Gateway).await?;
        if let Some(keys) = self.keys.take() {
            copy(&self.yard.dir.join("data/signers"), &keys)?;
        }
        Ok(Arc::new(GatewayClient::new(&self.url, "trader".parse()?, &self.key_file)?))
    }

    /// Lets the scenario's kills happen, each at its time from here on, or as soon as its victim runs again after the one before.
    pub(super) fn begin_kills(&self, scenario: &Scenario) -> Kills {
        let began = Instant::now();
        let mut by_victim: BTreeMap<Victim, Vec<Kill>> = BTreeMap::new();
        for kill in &scenario.kills {
            by_victim.entry(kill.kill).or_default().push(kill.clone());
        }
        let mut tasks = JoinSet::new();
        for mut kills in by_victim.into_values() {
            kills.sort_by_key(|kill| kill.after_ms);
            let yard = Arc::clone(&self.yard);
            tasks.spawn(async move {
                for kill in kills {
                    sleep_until(began + Duration::from_millis(kill.after_ms)).await;
                    yard.end(kill.kill);
                    let from_ms = u64::try_from(began.elapsed().as_millis())?;
                    let span = yard.told(&kill, from_ms);
                    if let Some(down_ms) = kill.down_ms {
                        sleep(Duration::from_millis(down_ms)).await;
                        yard.start(kill.kill).await?;
                        yard.back(span, u64::try_from(began.elapsed().as_millis())?);
                    }
                }
                Ok(())
            });
        }
        Kills { tasks, yard: Arc::clone(&self.yard) }
    }

    /// Ends all processes. Answers the panics that they had.
    pub(super) async fn close(self) -> Vec<String> {
        let all: Vec<Victim> = self.yard.lock().running.keys().copied().collect();
        all.into_iter().for_each(|victim| self.yard.end(victim));
        std::mem::take(&mut self.yard.lock().panics)
    }
}

impl Kills {
    /// Waits until the last one has happened; where all payments have ended before, the others don't happen any more. Answers when each
    /// was.
    ///
    /// # Errors
    /// Where what was killed doesn't start again.
    pub(super) async fn ended(mut self, board: &Board) -> Result<Vec<FaultSpan>, Failure> {
        let over = board.is_done();
        while let Some(done) = if over { self.tasks.try_join_next() } else { self.tasks.join_next().await } {
            done??;
        }
        self.tasks.shutdown().await;
        Ok(std::mem::take(&mut self.yard.lock().spans))
    }
}

impl Yard {
    async fn start(&self, victim: Victim) -> Result<(), Failure> {
        let number = {
            let mut state = self.lock();
            state.starts = state.starts.saturating_add(1);
            state.starts
        };
        let log = self.dir.join(format!("log-{number:02}-{victim}"));
        let mut child = match victim {
            Victim::Gateway => Child::start(&self.dir.join("portcullis.toml"), &log, &self.environment)?,
            Victim::Signer(_) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("signer").arg("--config").arg(self.dir.join(format!("{victim}.toml")));
                Child::spawn(command, &log, &self.environment)?
            }
        };
        if victim == Victim::Gateway {
            child.ready().await?;
        }
        self.lock().running.insert(victim, child);
        Ok(())
    }

    /// Writes a kill down, and answers its place.
    fn told(&self, kill: &Kill, from_ms: u64) -> usize {
        let victim = kill.kill.to_string();
        let what = if kill.down_ms.is_some() { "kill -9, and started again" } else { "kill -9" };
        let span = FaultSpan {
            name: format!("kill {victim}"),
            what: what.to_owned(),
            place: if kill.kill == Victim::Gateway { "the gateway" } else { "a signer apart" }.to_owned(),
            chain: None,
            from_ms,
            to_ms: None,
            strikes: 1,
            struck: vec![Struck { at_ms: from_ms, subject: victim, event: 1 }],
        };
        let mut state = self.lock();
        state.spans.push(span);
        state.spans.len().saturating_sub(1)
    }

    /// Writes down when what was killed was there again.
    fn back(&self, span: usize, to_ms: u64) {
        if let Some(span) = self.lock().spans.get_mut(span) {
            span.to_ms = Some(to_ms);
        }
    }

    /// Kills a process that runs.
    fn end(&self, victim: Victim) {
        let mut state = self.lock();
        if let Some(child) = state.running.remove(&victim) {
            let panics = child.kill().into_iter().map(|panic| format!("{victim}: {panic}"));
            state.panics.extend(panics);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chain's network and key.
fn network_part(
    scenario: &Scenario,
    sabotage: Option<&Sabotage>,
    town: &Town,
    chain: ChainKind,
) -> Result<String, Failure> {
    let gateway = &scenario.gateway;
    let (network, (key, scheme, _)) = (network(family(chain)), key(family(chain)));
    let endpoints: Vec<_> = town.urls(chain).iter().map(|url| format!("{url:?}")).collect();
    let mut text = String::new();
    writeln!(text, "[[networks]]\nid = \"{network}\"\nendpoints = [{}]", endpoints.join(", "))?;
    if chain != ChainKind::Solana {
        writeln!(text, "finality_depth = {}", town.finality_depth(chain))?;
    }
    if let Some(after) = gateway.bump_after_ms {
        writeln!(text, "bump_after_ms = {after}")?;
    }
    if let Some(agreement) = sabotage.and_then(|sabotage| sabotage.finality_agreement) {
        writeln!(text, "finality_agreement = {agreement}")?;
    }
    writeln!(
        text,
        "timeout_ms = {NODE_TIMEOUT_MS}\nconfirmations = 1\npoll_interval_ms = {}\nresend_after_ms = {}",
        gateway.poll_interval_ms, gateway.resend_after_ms
    )?;
    writeln!(text, "[[keys]]\nid = \"{key}\"\nscheme = \"{scheme}\"")?;
    Ok(text)
}

/// What gateway and signers alike judge by: wallets, credentials, and who may be paid.
fn rules(scenario: &Scenario, orders: &[Order], public_key: &Path) -> String {
    let mut text = String::new();
    // Writing into a string can't fail.
    let _ = write_rules(&mut text, scenario, orders, public_key);
    text
}

fn write_rules(text: &mut String, scenario: &Scenario, orders: &[Order], public_key: &Path) -> std::fmt::Result {
    writeln!(text, "[[credentials]]\nid = \"trader\"\nrole = \"initiator\"\npublic_key_file = {public_key:?}")?;
    for part in &scenario.chains {
        let chain = part.chain;
        let (name, network, (key, _, path)) = (name(family(chain)), network(family(chain)), key(family(chain)));
        writeln!(text, "[[wallets]]\nid = \"{name}\"\nnetwork = \"{network}\"\nkey = \"{key}\"\npath = \"{path}\"")?;
        let payees: Vec<_> = orders
            .iter()
            .filter(|order| order.chain == chain)
            .map(|order| format!("{:?}", address(chain, &order.payee)))
            .collect();
        if payees.is_empty() {
            continue;
        }
        let (payees, max_fee) = (payees.join(", "), scenario.gateway.max_fee.of(chain));
        let rule = |text: &mut String, id: &str, asset: &str| {
            writeln!(text, "[[policy.rules]]\nid = \"{name}-{id}\"\nwallets = [\"{name}\"]\nassets = [\"{asset}\"]")?;
            if let Some(most) = scenario.gateway.max_amount {
                writeln!(text, "max_amount = \"{most}\"")?;
            }
            writeln!(text, "max_fee = \"{max_fee}\"\naddresses = [{payees}]")
        };
        rule(text, "coin", "native")?;
        if let Some(token) = token(chain) {
            rule(text, "token", &token.to_string())?;
        }
        if chain == ChainKind::Ethereum {
            writeln!(text, "contracts = [{{ address = \"{DEMO_TOKEN}\", selectors = [\"0xa9059cbb\"] }}]")?;
        }
        if let Some(most) = scenario.gateway.hourly.of(chain) {
            writeln!(
                text,
                "[[policy.limits]]\nid = \"{name}-hourly\"\nwallets = [\"{name}\"]\nasset = \"native\"\nper = \"wallet\"\n\
                 window = \"1h\"\nmax_amount = \"{most}\""
            )?;
        }
    }
    Ok(())
}
