//! The simulated world of a scenario, and what is done to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chains::asset::Asset;
use chains::rpc::{Auth, RpcClient};
use serde_json::{Value, json};
use simulator::clock::SystemClock;
use simulator::fault::rule::{Rule, RuleId, Scope};
use simulator::fault::timeline::Timeline;
use simulator::load::{Fate, Kind};
use simulator::network::Conditions;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::{DEMO_TOKEN, EthereumConfig};
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::report::{FaultSpan, Struck};
use simulator::scenario::Scenario;
use simulator::scenario::judge::FINALIZED;
use simulator::topology::ChainKind;
use simulator::world::{NodeCounts, World, WorldConfig};
use tokio::time::Instant;

use super::{BadScenario, books};
use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::demo;
use crate::load::book::{self, WalletRow};

/// How long the faucet's payments may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Strikes of one rule that are told one by one.
const MOST_STRIKES: usize = 400;

/// The world of a scenario.
pub(super) struct Town {
    world: World,
    began: Instant,
    /// The chains that take part, each with its nodes' endpoints.
    nodes: BTreeMap<ChainKind, Vec<String>>,
    /// So many blocks or slots make a payment final there.
    depths: BTreeMap<ChainKind, u64>,
}

/// When the load began on the world's clock, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offset(u64);

/// What has struck, on the load's clock.
pub(super) struct Strikes {
    timeline: Timeline,
    offset: Offset,
}

/// Gives each rule that has no name one, so that it is found again.
pub(super) fn name_rules(scenario: &mut Scenario) {
    for (number, rule) in (1_u32..).zip(&mut scenario.faults) {
        rule.id.get_or_insert_with(|| RuleId(format!("fault-{number}")));
    }
}

impl Town {
    /// Starts the nodes, without faults.
    ///
    /// # Errors
    /// Where one doesn't start.
    pub(super) async fn start(scenario: &Scenario) -> Result<Self, Failure> {
        let setup = |chain| scenario.chain(chain);
        let count = |chain| setup(chain).map_or(1, |setup| setup.nodes);
        let interval = |chain| setup(chain).map(|setup| Duration::from_millis(setup.block_interval_ms));
        let mut config = WorldConfig {
            dir: None,
            seed: scenario.seed,
            nodes: NodeCounts {
                bitcoin: count(ChainKind::Bitcoin),
                ethereum: count(ChainKind::Ethereum),
                solana: count(ChainKind::Solana),
            },
            network: Conditions { ..scenario.network },
            control: None,
            bitcoin: BitcoinConfig { block_interval: interval(ChainKind::Bitcoin), ..BitcoinConfig::default() },
            ethereum: EthereumConfig { block_interval: interval(ChainKind::Ethereum), ..EthereumConfig::default() },
            solana: SolanaConfig { block_interval: interval(ChainKind::Solana), ..SolanaConfig::default() },
        };
        if let Some(setup) = setup(ChainKind::Ethereum) {
            config.ethereum.finality_depth = setup.finality_depth.into();
        }
        if let Some(setup) = setup(ChainKind::Solana) {
            config.solana.finality_depth = setup.finality_depth;
        }
        let began = Instant::now();
        let world = World::start(config, Arc::new(SystemClock)).await?;
        let mut nodes = BTreeMap::new();
        for part in &scenario.chains {
            let cluster = world.controller().cluster(part.chain).ok_or("the chain doesn't run")?;
            nodes.insert(part.chain, cluster.urls());
        }
        let depths = scenario.chains.iter().map(|part| (part.chain, part.setup.finality_depth.into())).collect();
        Ok(Self { world, began, nodes, depths })
    }

    /// So many blocks or slots make a payment final.
    pub(super) fn finality_depth(&self, chain: ChainKind) -> u64 {
        self.depths.get(&chain).copied().unwrap_or_default()
    }

    /// The endpoints of a chain's nodes.
    pub(super) fn urls(&self, chain: ChainKind) -> &[String] {
        self.nodes.get(&chain).map(Vec::as_slice).unwrap_or_default()
    }

    /// The chains that take part.
    pub(super) fn chains(&self) -> impl Iterator<Item = ChainKind> + '_ {
        self.nodes.keys().copied()
    }

    /// A chain's first node.
    ///
    /// # Errors
    /// Where the chain takes no part.
    pub(super) fn node(&self, chain: ChainKind) -> Result<RpcClient, Failure> {
        let url = self.urls(chain).first().ok_or_else(|| format!("{chain} takes no part"))?;
        Ok(RpcClient::new(url, Auth::None, ANSWER)?)
    }

    /// Gives every wallet more than the load can spend, in several coins on Bitcoin, and waits until the gateway sees it.
    ///
    /// # Errors
    /// Where it doesn't arrive.
    pub(super) async fn fund(&self, client: &GatewayClient, wallets: &[WalletRow]) -> Result<(), Failure> {
        let mut awaited = Vec::new();
        for row in wallets {
            let chain = book::kind(row.network.family());
            let node = self.node(chain)?;
            let fund = async |params: Value| -> Result<(), Failure> {
                let _: Value = node.call("sim_fund", params).await?;
                Ok(())
            };
            match chain {
                ChainKind::Bitcoin => {
                    for _ in 0..COINS {
                        fund(json!([row.address, COIN])).await?;
                    }
                    let all = u64::from(COINS).saturating_mul(COIN.parse()?);
                    awaited.push((row, Asset::Native, all.to_string().parse()?));
                }
                ChainKind::Ethereum => {
                    fund(json!([row.address, ETHER])).await?;
                    fund(json!([row.address, TOKENS, DEMO_TOKEN])).await?;
                    awaited.push((row, Asset::Native, ETHER.parse()?));
                    awaited.push((row, Asset::Erc20(DEMO_TOKEN), TOKENS.parse()?));
                }
                ChainKind::Solana => {
                    let mint = SolanaNode::demo_mint();
                    fund(json!([row.address, LAMPORTS])).await?;
                    fund(json!([row.address, TOKENS, mint.to_string()])).await?;
                    awaited.push((row, Asset::Native, LAMPORTS.parse()?));
                    awaited.push((row, Asset::Spl(mint), TOKENS.parse()?));
                }
            }
        }
        let arrival = async {
            for (row, asset, amount) in awaited {
                let chain = book::kind(row.network.family());
                // The gateway may see it before it is final, and the books are opened on what is.
                while demo::wallet_balance(client, &row.wallet, asset).await.ok() != Some(amount)
                    || books::balance(&self.node(chain)?, chain, &row.address, asset).await.ok() != amount.to_u128()
                {
                    tokio::time::sleep(LOOK).await;
                }
            }
            Ok(())
        };
        let arrived = tokio::time::timeout(ARRIVAL, arrival).await;
        arrived.map_err(|_| "the faucet's payments don't arrive")?
    }

    /// Puts the scenario's rules in force: their times count from here.
    ///
    /// # Errors
    /// Where a chain knows no such fault.
    pub(super) fn begin_faults(&self, scenario: &Scenario) -> Result<Offset, Failure> {
        let offset = Offset(u64::try_from(self.began.elapsed().as_millis())?);
        for rule in &scenario.faults {
            let unfit =
                |error: simulator::fault::rule::RuleError| BadScenario::Unfit(format!("{}: {error}", scenario.name));
            self.world.controller().add_fault(rule.clone()).map_err(unfit)?;
        }
        Ok(offset)
    }

    /// Takes all rules out of force: what they did is undone.
    pub(super) fn end_faults(&self) {
        let faults = self.world.controller().faults();
        for listed in faults.list() {
            faults.remove(&listed.id);
        }
    }

    /// What has struck since the load began.
    pub(super) fn timeline(&self, offset: Offset) -> Strikes {
        Strikes { timeline: self.world.controller().faults().timeline(), offset }
    }

    /// Pays the payee of a final payment once more, and waits until that is on chain: what no record knows of.
    ///
    /// # Errors
    /// Where there is no such payment, or the faucet fails.
    pub(super) async fn pay_again(&self, fates: &[Fate]) -> Result<(), Failure> {
        let paid = fates.iter().find(|fate| fate.state == FINALIZED && fate.order.kind == Kind::Transfer);
        let paid = paid.ok_or("no payment is final that could be paid again")?;
        let node = self.node(paid.order.chain)?;
        let _: Value = node.call("sim_fund", json!([paid.to, paid.order.amount.to_string()])).await?;
        let twice = u128::from(paid.order.amount).saturating_mul(2);
        let arrival = async {
            while books::native(&node, paid.order.chain, &paid.to).await.ok() != Some(twice) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let arrived = tokio::time::timeout(ARRIVAL, arrival).await;
        arrived.map_err(|_| "the second payment doesn't arrive".into())
    }

    /// Stops all nodes.
    pub(super) async fn shutdown(self) {
        self.world.shutdown().await;
    }
}

/// How many coins a Bitcoin wallet gets, and of how many satoshis: payments side by side don't wait for each other's change.
const COINS: u32 = 40;
const COIN: &str = "5000000";
const ETHER: &str = "1000000000000000000000";
const LAMPORTS: &str = "10000000000000";
const TOKENS: &str = "1000000000000";

impl Strikes {
    /// How often each rule struck.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for strike in self.timeline.strikes() {
            let count: &mut u64 = counts.entry(strike.rule.to_string()).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }

    /// A rule in time.
    pub(super) fn span(&self, rule: &Rule) -> FaultSpan {
        let Offset(offset) = self.offset;
        let own = self.timeline.strikes().iter().filter(|strike| Some(&strike.rule) == rule.id.as_ref());
        let struck: Vec<Struck> = own
            .map(|strike| Struck {
                at_ms: strike.at_ms.saturating_sub(offset),
                subject: strike.subject.to_string(),
                event: strike.event,
            })
            .collect();
        let to_ms = match (rule.for_ms, rule.fault.is_act()) {
            (Some(lasts), _) => Some(rule.after_ms.saturating_add(lasts)),
            (None, true) => Some(rule.after_ms),
            (None, false) => None,
        };
        FaultSpan {
            name: rule.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            what: rule.fault.to_string(),
            place: place(rule),
            chain: rule.chain,
            from_ms: rule.after_ms,
            to_ms,
            strikes: u64::try_from(struck.len()).unwrap_or(u64::MAX),
            struck: struck.into_iter().take(MOST_STRIKES).collect(),
        }
    }
}

/// Where a rule strikes, in words.
fn place(rule: &Rule) -> String {
    let chain = rule.chain.map_or_else(|| "all chains".to_owned(), |chain| chain.to_string());
    let list = |names: Vec<String>| names.join(", ");
    let nodes = |nodes: &[simulator::topology::NodeIndex]| match nodes {
        [] => "every node".to_owned(),
        [node] => format!("node {node}"),
        several => format!("nodes {}", list(several.iter().map(ToString::to_string).collect())),
    };
    match &rule.scope {
        Scope::Rpc { nodes: on, methods } if methods.is_empty() => format!("{chain}, calls of {}", nodes(on)),
        Scope::Rpc { nodes: on, methods } => format!("{chain}, {} of {}", list(methods.clone()), nodes(on)),
        Scope::Link { .. } => format!("{chain}, links"),
        Scope::Node { nodes: on } => format!("{chain}, {}", nodes(on)),
        _ => chain,
    }
}
