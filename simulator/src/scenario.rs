//! Scenarios: a world, a load, what goes wrong when, and what must hold all the same. Read from TOML; unknown settings are refused, and
//! what is wrong is told with its line.
//!
//! - [`Scenario`]: the file;
//! - [`claim`]: what is claimed of a run;
//! - [`judge`]: the claims held against what the gateway told and what the chains say.
//!
//! All offsets are in milliseconds since the load began.

pub mod claim;
pub mod judge;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

pub use self::claim::{Claim, Sight, Verdict};
use crate::fault::rule::{Rule, Scope};
use crate::load::Wave;
use crate::network::Conditions;
use crate::seed::Seed;
use crate::topology::{ChainKind, NodeIndex};

/// Most nodes of one chain.
const MOST_NODES: u16 = 16;
/// Most signers.
const MOST_SIGNERS: u16 = 16;

/// A scenario that can be run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// What all chance comes from, unless another seed is asked for.
    pub seed: Seed,
    /// How long after the last order's moment everything may take to end.
    pub settle_ms: u64,
    /// The chains that take part.
    pub chains: Vec<ChainPart>,
    /// What the links between nodes do to messages.
    pub network: Conditions,
    /// The gateway and its signers.
    pub gateway: GatewayPart,
    /// The load.
    pub load: Vec<Wave>,
    /// Whether each payment is asked for once more under the same key when it is answered, as a client does that has lost the answer.
    pub repeat: bool,
    /// What goes wrong in the world, each rule at its `after_ms`.
    pub faults: Vec<Rule>,
    /// What is killed of the gateway's own processes.
    pub kills: Vec<Kill>,
    /// What must hold, beside what always must.
    pub expect: Expect,
    /// How one of the claims is broken on purpose.
    pub broken: Option<Sabotage>,
}

/// One chain of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPart {
    /// Which.
    pub chain: ChainKind,
    /// Its setup.
    pub setup: ChainSetup,
}

/// How a chain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSetup {
    /// How many nodes it has.
    #[serde(default = "three")]
    pub nodes: u16,
    /// The time between blocks or slots, in milliseconds.
    pub block_interval_ms: u64,
    /// So many blocks or slots make a payment final.
    pub finality_depth: u32,
}

/// The gateway and its signers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayPart {
    /// How many signers there are.
    #[serde(default = "three")]
    pub signers: u16,
    /// So many sign.
    #[serde(default = "two")]
    pub threshold: u16,
    /// Whether each signer is a process of its own.
    #[serde(default)]
    pub apart: bool,
    /// Signers, counted from 1, that send wrong shares.
    #[serde(default)]
    pub liars: Vec<u16>,
    /// How often the nodes are asked, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_interval_ms: u64,
    /// After how long a transaction that no node knows is sent again, in milliseconds.
    #[serde(default = "default_resend_ms")]
    pub resend_after_ms: u64,
    /// After how long in no block a payment is sped up, in milliseconds; never, if left out.
    #[serde(default)]
    pub bump_after_ms: Option<u64>,
    /// The most that a payment may cost in fees, in base units.
    #[serde(default)]
    pub max_fee: MaxFees,
    /// The most that one payment may come to, in base units of the asset; no limit, if left out.
    #[serde(default)]
    pub max_amount: Option<u64>,
    /// The most that all payments of a wallet in its own coin may come to in an hour, in base units; no limit, if left out.
    #[serde(default)]
    pub hourly: Hourly,
}

impl Default for GatewayPart {
    fn default() -> Self {
        Self {
            signers: three(),
            threshold: two(),
            apart: false,
            liars: Vec::new(),
            poll_interval_ms: default_poll_ms(),
            resend_after_ms: default_resend_ms(),
            bump_after_ms: None,
            max_fee: MaxFees::default(),
            max_amount: None,
            hourly: Hourly::default(),
        }
    }
}

/// The most that a payment may cost in fees, in base units of each chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxFees {
    /// Satoshis.
    pub bitcoin: u64,
    /// Wei.
    pub ethereum: u64,
    /// Lamports, the rent of a token account included.
    pub solana: u64,
}

impl Default for MaxFees {
    fn default() -> Self {
        Self { bitcoin: 200_000, ethereum: 50_000_000_000_000_000, solana: 10_000_000 }
    }
}

impl MaxFees {
    /// That of a chain.
    pub const fn of(&self, chain: ChainKind) -> u64 {
        match chain {
            ChainKind::Bitcoin => self.bitcoin,
            ChainKind::Ethereum => self.ethereum,
            ChainKind::Solana => self.solana,
        }
    }
}

/// Velocity limits of the wallets' own coins, in base units an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hourly {
    /// Satoshis.
    pub bitcoin: Option<u64>,
    /// Wei.
    pub ethereum: Option<u64>,
    /// Lamports.
    pub solana: Option<u64>,
}

impl Hourly {
    /// That of a chain.
    pub const fn of(&self, chain: ChainKind) -> Option<u64> {
        match chain {
            ChainKind::Bitcoin => self.bitcoin,
            ChainKind::Ethereum => self.ethereum,
            ChainKind::Solana => self.solana,
        }
    }
}

/// A process of the gateway's that is killed as `kill -9` does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which.
    pub kill: Victim,
    /// When.
    pub after_ms: u64,
    /// After how long it is started again; not at all, if left out.
    #[serde(default)]
    pub down_ms: Option<u64>,
}

/// Who is killed: `gateway`, or `signer-N` with N from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Victim {
    /// The gateway, with the signers that run in its process.
    Gateway,
    /// A signer in a process of its own, from 1.
    Signer(u16),
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Signer(number) => write!(f, "signer-{number}"),
        }
    }
}

impl TryFrom<String> for Victim {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = || text.strip_prefix("signer-")?.parse().ok().filter(|number| *number > 0);
        match (text.as_str(), number()) {
            ("gateway", _) => Ok(Self::Gateway),
            (_, Some(number)) => Ok(Self::Signer(number)),
            _ => Err(format!("{text:?} is nobody; write \"gateway\" or \"signer-1\"")),
        }
    }
}

/// What must hold, beside what always must.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// States that a payment may end in.
    pub ends: Vec<String>,
    /// Bounds of latencies.
    pub latency: Vec<Bound>,
    /// How long after the last fault's end the payments that were under way may take to end.
    pub recovery_ms: Option<u64>,
    /// What must have been seen at least once, lest the scenario shows nothing.
    pub seen: Vec<Sight>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { ends: vec!["finalized".to_owned()], latency: Vec::new(), recovery_ms: None, seen: Vec::new() }
    }
}

/// A bound of latencies, from an order's moment until it reached a state for good.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Of payments on this chain; of all, if left out.
    #[serde(default)]
    pub chain: Option<ChainKind>,
    /// The state.
    #[serde(default = "finalized")]
    pub state: String,
    /// Half of them within so many milliseconds.
    #[serde(default)]
    pub p50_ms: Option<u64>,
    /// 99 in 100 within so many milliseconds.
    #[serde(default)]
    pub p99_ms: Option<u64>,
}

/// How a claim is broken on purpose, to show that the run then fails.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sabotage {
    /// The claim that must fail.
    pub claim: Claim,
    /// What is done, for the reader.
    pub how: String,
    /// A known bug that is switched on in the gateway.
    #[serde(default)]
    pub mutation: Option<String>,
    /// Further faults.
    #[serde(default)]
    pub faults: Vec<Rule>,
    /// Further kills.
    #[serde(default)]
    pub kills: Vec<Kill>,
    /// Further signers that send wrong shares.
    #[serde(default)]
    pub liars: Vec<u16>,
    /// Whether payments are not sped up by themselves.
    #[serde(default)]
    pub without_bumps: bool,
    /// So many nodes' word makes a payment final, instead of most nodes'.
    #[serde(default)]
    pub finality_agreement: Option<u16>,
    /// Whether the chain pays one of the payees once more, past the gateway.
    #[serde(default)]
    pub pay_again: bool,
    /// Another time for everything to end.
    #[serde(default)]
    pub settle_ms: Option<u64>,
}

/// Why a scenario can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// It isn't what a scenario should be.
    #[error("{name}: {reason}")]
    Parse {
        /// The file.
        name: String,
        /// Where and what.
        reason: Box<toml::de::Error>,
    },
    /// Its parts contradict each other.
    #[error("{name}, line {line}: {reason}")]
    Invalid {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
        /// What.
        reason: String,
    },
}

const fn two() -> u16 {
    2
}

const fn three() -> u16 {
    3
}

const fn default_poll_ms() -> u64 {
    500
}

const fn default_resend_ms() -> u64 {
    3_000
}

fn finalized() -> String {
    "finalized".to_owned()
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    about: String,
    seed: Seed,
    settle_ms: u64,
    chains: Spanned<Chains>,
    #[serde(default)]
    network: Conditions,
    #[serde(default)]
    gateway: Option<Spanned<GatewayPart>>,
    #[serde(default)]
    load: Vec<Spanned<Wave>>,
    #[serde(default)]
    repeat: bool,
    #[serde(default)]
    faults: Vec<Spanned<Rule>>,
    #[serde(default)]
    kills: Vec<Spanned<Kill>>,
    #[serde(default)]
    expect: Expect,
    #[serde(default)]
    broken: Option<Spanned<Sabotage>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chains {
    bitcoin: Option<Spanned<ChainSetup>>,
    ethereum: Option<Spanned<ChainSetup>>,
    solana: Option<Spanned<ChainSetup>>,
}

/// What is wrong, and where in the text.
struct Wrong(Range<usize>, String);

impl Scenario {
    /// Reads a scenario. `name` is what the file is called in errors.
    ///
    /// # Errors
    /// Where it can't be parsed, or its parts contradict each other; with the line.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let file: File = toml::from_str(text)
            .map_err(|reason| ScenarioError::Parse { name: name.to_owned(), reason: Box::new(reason) })?;
        Self::from_file(file).map_err(|Wrong(span, reason)| {
            let line = text.get(..span.start).unwrap_or(text).matches('\n').count().saturating_add(1);
            ScenarioError::Invalid { name: name.to_owned(), line, reason }
        })
    }

    fn from_file(file: File) -> Result<Self, Wrong> {
        let span = file.chains.span();
        let Chains { bitcoin, ethereum, solana } = file.chains.into_inner();
        let mut chains = Vec::new();
        let all = [(ChainKind::Bitcoin, bitcoin), (ChainKind::Ethereum, ethereum), (ChainKind::Solana, solana)];
        for (chain, setup) in all.into_iter().filter_map(|(chain, setup)| Some((chain, setup?))) {
            let span = setup.span();
            let setup = setup.into_inner();
            if !(1..=MOST_NODES).contains(&setup.nodes) {
                return Err(Wrong(span, format!("{chain} has from 1 to {MOST_NODES} nodes")));
            }
            if setup.block_interval_ms == 0 || setup.finality_depth == 0 {
                return Err(Wrong(span, format!("block_interval_ms and finality_depth of {chain} are above 0")));
            }
            chains.push(ChainPart { chain, setup });
        }
        if chains.is_empty() {
            return Err(Wrong(span, "no chain takes part; write [chains.ethereum]".to_owned()));
        }
        let span = file.gateway.as_ref().map_or(0..0, Spanned::span);
        let gateway = file.gateway.map_or_else(GatewayPart::default, Spanned::into_inner);
        check_gateway(&gateway).map_err(|reason| Wrong(span, reason))?;
        let nodes = |chain: ChainKind| chains.iter().find(|part| part.chain == chain).map(|part| part.setup.nodes);
        let load = checked(file.load, |wave| check_wave(wave, nodes(wave.chain)))?;
        if load.iter().all(Wave::is_empty) {
            return Err(Wrong(0..0, "there is no load; write [[load]] with a chain and a rate".to_owned()));
        }
        let faults = checked(file.faults, |rule| check_rule(rule, nodes))?;
        let kills = checked(file.kills, |kill| check_kill(kill, &gateway))?;
        let broken = match file.broken {
            None => None,
            Some(sabotage) => {
                let span = sabotage.span();
                let sabotage = sabotage.into_inner();
                let sound = sabotage.faults.iter().try_for_each(|rule| check_rule(rule, nodes));
                let sound = sound.and_then(|()| sabotage.kills.iter().try_for_each(|kill| check_kill(kill, &gateway)));
                sound.and_then(|()| check_liars(&sabotage.liars, &gateway)).map_err(|reason| Wrong(span, reason))?;
                Some(sabotage)
            }
        };
        let File { name, about, seed, settle_ms, network, repeat, expect, .. } = file;
        Ok(Self { name, about, seed, settle_ms, chains, network, gateway, load, repeat, faults, kills, expect, broken })
    }

    /// Breaks it on purpose, in the way that it says itself. `false` where it says none.
    pub fn sabotage(&mut self) -> bool {
        let Some(sabotage) = &self.broken else { return false };
        self.faults.extend(sabotage.faults.iter().cloned());
        self.kills.extend(sabotage.kills.iter().cloned());
        self.gateway.liars.extend(&sabotage.liars);
        if sabotage.without_bumps {
            self.gateway.bump_after_ms = None;
        }
        if let Some(settle_ms) = sabotage.settle_ms {
            self.settle_ms = settle_ms;
        }
        true
    }

    /// A chain's setup, where it takes part.
    pub fn chain(&self, chain: ChainKind) -> Option<ChainSetup> {
        self.chains.iter().find(|part| part.chain == chain).map(|part| part.setup)
    }

    /// When the last wave is over.
    pub fn load_end_ms(&self) -> u64 {
        self.load.iter().map(Wave::end_ms).max().unwrap_or_default()
    }

    /// When the last fault is over, where there is any that is.
    pub fn faults_end_ms(&self) -> Option<u64> {
        let rules = self.faults.iter().filter_map(|rule| match (rule.for_ms, rule.fault.is_act()) {
            (Some(lasts), _) => Some(rule.after_ms.saturating_add(lasts)),
            (None, true) => Some(rule.after_ms),
            (None, false) => None,
        });
        let kills = self.kills.iter().map(|kill| kill.after_ms.saturating_add(kill.down_ms.unwrap_or_default()));
        rules.chain(kills).max()
    }
}

/// What is sound of a list, or the first thing that isn't.
fn checked<T>(items: Vec<Spanned<T>>, check: impl Fn(&T) -> Result<(), String>) -> Result<Vec<T>, Wrong> {
    let one = |item: Spanned<T>| {
        let span = item.span();
        let item = item.into_inner();
        check(&item).map(|()| item).map_err(|reason| Wrong(span, reason))
    };
    items.into_iter().map(one).collect()
}

fn check_gateway(gateway: &GatewayPart) -> Result<(), String> {
    if !(2..=MOST_SIGNERS).contains(&gateway.signers) || !(2..=gateway.signers).contains(&gateway.threshold) {
        return Err(format!("there are from 2 to {MOST_SIGNERS} signers, and from 2 to all of them sign"));
    }
    check_liars(&gateway.liars, gateway)
}

fn check_liars(liars: &[u16], gateway: &GatewayPart) -> Result<(), String> {
    match liars.iter().find(|liar| !(1..=gateway.signers).contains(*liar)) {
        Some(liar) => Err(format!("there is no signer {liar}; they are counted from 1 to {}", gateway.signers)),
        None if gateway.apart && !liars.is_empty() => {
            Err("signers that lie run in the gateway's process; leave out apart".to_owned())
        }
        None => Ok(()),
    }
}

fn check_wave(wave: &Wave, nodes: Option<u16>) -> Result<(), String> {
    if nodes.is_none() {
        return Err(format!("the load is on {chain}, which takes no part; write [chains.{chain}]", chain = wave.chain));
    }
    if wave.mix.sum() == 0 {
        return Err("all weights of the mix are 0".to_owned());
    }
    if wave.len() > crate::load::plan::MOST_ORDERS {
        return Err(format!("at most {} payments a wave", crate::load::plan::MOST_ORDERS));
    }
    Ok(())
}

fn check_rule(rule: &Rule, nodes: impl Fn(ChainKind) -> Option<u16>) -> Result<(), String> {
    rule.check().map_err(|error| error.to_string())?;
    let Some(chain) = rule.chain else { return Ok(()) };
    let count = nodes(chain).ok_or_else(|| format!("the fault is on {chain}, which takes no part"))?;
    let named: Vec<NodeIndex> = match &rule.scope {
        Scope::Rpc { nodes, .. } | Scope::Node { nodes } => nodes.clone(),
        Scope::Link { from, to, .. } => from.iter().chain(to).copied().collect(),
    };
    match named.iter().find(|index| index.0 >= count) {
        Some(index) => {
            Err(format!("there is no node {index} of {chain}; they are counted from 0 to {}", count.saturating_sub(1)))
        }
        None => Ok(()),
    }
}

fn check_kill(kill: &Kill, gateway: &GatewayPart) -> Result<(), String> {
    match kill.kill {
        Victim::Gateway => Ok(()),
        Victim::Signer(_) if !gateway.apart => {
            Err("a signer is killed that runs in the gateway's process; write apart = true under [gateway]".to_owned())
        }
        Victim::Signer(number) if number > gateway.signers => {
            Err(format!("there is no signer {number}; they are counted from 1 to {}", gateway.signers))
        }
        Victim::Signer(_) => Ok(()),
    }
}
