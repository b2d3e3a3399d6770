//! Rule tables and transactions at random, and what policy.md says to them, read as simply as it can be.

use std::collections::{BTreeMap, BTreeSet};

use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, Proceeds, Transfer};
use chains::network::Network;
use serde_json::{Value, json};
use signer::policy::prove::{Act, Among, Question, Witness};
use signer::policy::quorum::{Group, Person};
use signer::policy::trace::{Input, Wanted};
use signer::policy::{Policy, PolicyConfig};
use signer::roster::CredentialId;

pub const MINUTE: u64 = 60_000;
pub const DAY: u64 = 24 * 60 * MINUTE;
/// A Monday, 2 November 2026, in UTC.
pub const WEEK: u64 = 20_759 * DAY;

/// The addresses that rules name; the last but one is the wallets' own. One more is named by nothing.
const TEXTS: [&str; 6] = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
    "0xde709f2102306220921060314715629080e2fb77",
    "own",
    "0x00000000000000000000000000000000000000f5",
];
pub const ADDRESSES: usize = 5;
const OWN: usize = 4;
const TOKENS: [usize; 2] = [2, 1];
pub const ASSETS: usize = 3;
const CONTRACTS: [usize; 2] = [2, 3];
/// Functions with the number of their addresses; a number follows them, except in the last.
const FUNCTIONS: [(&str, [u8; 4], usize); 4] = [
    ("transfer(address,uint256)", [0xa9, 0x05, 0x9c, 0xbb], 1),
    ("approve(address,uint256)", [0x09, 0x5e, 0xa7, 0xb3], 1),
    ("transferFrom(address,address,uint256)", [0x23, 0xb8, 0x72, 0xdd], 2),
    ("poke()", [0x18, 0x17, 0x83, 0x58], 0),
];
const ASKERS: [&str; 3] = ["alice", "bob", "somebody-0"];
const GROUPS: [&str; 3] = ["finance", "cfo", "ceo"];
const WALLETS: [&str; 2] = ["eth", "eth2"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Zones whose clocks are never put forward or back, with their hours ahead of UTC.
const ZONES: [(&str, u64); 2] = [("UTC", 0), ("Asia/Tokyo", 9)];

/// SplitMix64: the same numbers in every run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn number(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn some(&mut self, of: usize) -> Vec<usize> {
        (0..of).filter(|_| self.next() & 1 == 0).collect()
    }

    /// One or several.
    fn few(&mut self, of: usize) -> Vec<usize> {
        let one = self.below(of);
        (0..of).filter(|at| *at == one || self.one_in(3)).collect()
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

pub fn account(wallet: usize) -> Account {
    let public_key =
        PublicKey::Ecdsa("02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().unwrap());
    let (wallet, network) = (WALLETS[wallet].parse().unwrap(), Network::Ethereum(1));
    Account::new(wallet, network, "key".parse().unwrap(), KeyPath::root(), public_key).unwrap()
}

pub fn initiator(at: usize) -> CredentialId {
    ASKERS[at].parse().unwrap()
}

pub fn text(at: usize) -> String {
    if at == OWN { account(0).address().to_string() } else { TEXTS[at].to_owned() }
}

fn address(at: usize) -> Address {
    if at == OWN {
        return account(0).address().clone();
    }
    UncheckedAddress::new(TEXTS[at]).require_network(Network::Ethereum(1)).unwrap()
}

fn place_of(of: &Address) -> usize {
    (0..TEXTS.len()).find(|at| address(*at) == *of).unwrap()
}

pub fn asset(at: usize) -> Asset {
    match at {
        0 => Asset::Native,
        token => format!("erc20:{}", TEXTS[TOKENS[token - 1]]).parse().unwrap(),
    }
}

/// Of each group so many, all of them; any of the ways will do.
type Way = BTreeMap<usize, usize>;

#[derive(Clone, Debug)]
pub struct Hours {
    days: Vec<usize>,
    /// Minutes; where the end isn't after the beginning, it is on the next day.
    from: u64,
    to: u64,
    zone: usize,
}

#[derive(Clone, Debug)]
enum Demand {
    OneAddress(Vec<usize>),
    Wallet,
    OneNumber(Vec<u64>),
    Within(Option<u64>, Option<u64>),
}

/// A function, and what is demanded of the arguments at some places; without a list, nothing, not even that they can be read.
#[derive(Clone, Debug)]
struct Permitted {
    function: usize,
    demands: Option<Vec<(usize, Demand)>>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: String,
    pub deny: bool,
    wallets: Vec<usize>,
    initiators: Vec<usize>,
    hours: Option<Hours>,
    assets: Option<Vec<usize>>,
    addresses: Vec<usize>,
    counterparties: Vec<usize>,
    contracts: Vec<(usize, Vec<Permitted>)>,
    pub min: Option<u64>,
    max: Option<u64>,
    fee: Option<u64>,
    quorum: Option<Vec<Way>>,
    above: Option<u64>,
}

#[derive(Clone, Debug)]
struct Limit {
    wallets: Vec<usize>,
    asset: usize,
    addresses: Vec<usize>,
    initiators: Vec<usize>,
    per: usize,
    cap: u64,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub rules: Vec<Rule>,
    pub denied: Vec<usize>,
    /// Each with its addresses.
    counterparties: Vec<Vec<usize>>,
    limits: Vec<Limit>,
}

#[derive(Clone, Debug)]
enum Arguments {
    /// Not the function's.
    Garbage,
    Of(Vec<usize>, u64),
}

#[derive(Clone, Debug)]
pub struct Pays {
    asset: usize,
    from: usize,
    to: usize,
    pub amount: u64,
}

#[derive(Clone, Debug)]
pub struct Grants {
    token: usize,
    to: usize,
    pub amount: u128,
    unlimited: bool,
}

#[derive(Clone, Debug)]
struct Calls {
    contract: usize,
    function: usize,
    arguments: Arguments,
    value: u64,
}

#[derive(Clone, Debug)]
pub struct Tx {
    pub wallet: usize,
    pub initiator: usize,
    pub at: u64,
    pub transfers: Vec<Pays>,
    pub allowances: Vec<Grants>,
    calls: Vec<Calls>,
    proceeds: Vec<usize>,
    fee: u64,
}

#[derive(Clone, Debug)]
pub enum Said<'a> {
    No,
    /// For each effect that needs approval, the ways to give it.
    Yes {
        needs: Vec<Vec<&'a Way>>,
    },
}

impl Rule {
    pub fn some(random: &mut Random, id: &str, deny: bool) -> Self {
        let assets = match random.below(6) {
            0 | 1 => None,
            2 => Some(vec![0, 1 + random.below(2)]),
            _ => Some(vec![random.below(ASSETS)]),
        };
        let one_asset = assets.as_ref().map_or(!deny, |assets| assets.len() == 1);
        let few = |random: &mut Random| if random.one_in(3) { Some(1 + random.number(6)) } else { None };
        let (min, max) = if one_asset { (few(random), few(random)) } else { (None, None) };
        let min = min.filter(|min| max.is_none_or(|max| *min <= max));
        let quorum = (!deny && random.one_in(3)).then(|| {
            let way = |random: &mut Random| {
                random.few(GROUPS.len()).into_iter().map(|group| (group, 1 + random.below(2))).collect()
            };
            (0..1 + random.below(2)).map(|_| way(random)).collect::<Vec<Way>>()
        });
        let hours = random.one_in(3).then(|| Hours {
            days: random.few(7),
            // The times at which `universe` looks are those at which a window may open or close.
            from: 720 * random.number(2),
            to: 720 * (1 + random.number(2)),
            zone: random.below(2),
        });
        let contract = |random: &mut Random, contract: usize| {
            (
                contract,
                random.few(FUNCTIONS.len()).into_iter().map(|function| Permitted::some(random, function)).collect(),
            )
        };
        let plain = random.one_in(if deny { 2 } else { 4 });
        let contracts = if plain {
            Vec::new()
        } else {
            random.few(2).into_iter().map(|at| contract(random, CONTRACTS[at])).collect()
        };
        Self {
            id: id.to_owned(),
            deny,
            wallets: if random.one_in(2) { vec![0, 1] } else { vec![random.below(2)] },
            initiators: if random.one_in(3) { random.few(2) } else { Vec::new() },
            hours,
            assets,
            addresses: if deny && random.one_in(2) { Vec::new() } else { random.some(ADDRESSES) },
            counterparties: if random.one_in(4) { vec![random.below(2)] } else { Vec::new() },
            contracts,
            min,
            max: max.filter(|_| !deny),
            fee: (!deny && random.one_in(3)).then(|| 1 + random.number(6)),
            above: quorum.as_ref().and_then(|_| if one_asset { few(random) } else { None }),
            quorum,
        }
    }

    fn json(&self) -> Value {
        let names = |list: &[usize], of: &[&str]| list.iter().map(|at| of[*at].to_owned()).collect::<Vec<_>>();
        let mut json = json!({
            "id": self.id,
            "wallets": names(&self.wallets, &WALLETS),
            "initiators": names(&self.initiators, &ASKERS),
            "addresses": self.addresses.iter().map(|at| text(*at)).collect::<Vec<_>>(),
            "counterparties": self.counterparties.iter().map(|at| format!("party-{at}")).collect::<Vec<_>>(),
            "contracts": self.contracts.iter().map(|(at, functions)| json!({
                "address": text(*at),
                "selectors": functions.iter().filter(|permitted| permitted.demands.is_none())
                    .map(|permitted| format!("0x{}", hex::encode(FUNCTIONS[permitted.function].1))).collect::<Vec<_>>(),
                "functions": functions.iter().filter_map(Permitted::json).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        });
        let object = json.as_object_mut().unwrap();
        let mut put = |key: &str, value: Option<Value>| object.extend(value.map(|value| (key.to_owned(), value)));
        put("effect", self.deny.then(|| json!("deny")));
        put(
            "assets",
            self.assets
                .as_ref()
                .map(|assets| json!(assets.iter().map(|at| asset(*at).to_string()).collect::<Vec<_>>())),
        );
        for (key, amount) in
            [("min_amount", self.min), ("max_amount", self.max), ("max_fee", self.fee), ("require_above", self.above)]
        {
            put(key, amount.map(|amount| json!(amount.to_string())));
        }
        let way = |way: &Way| {
            let parts: Vec<_> = way.iter().map(|(group, count)| format!("{count} of {}", GROUPS[*group])).collect();
            format!("({})", parts.join(" and "))
        };
        put("require", self.quorum.as_ref().map(|ways| json!(ways.iter().map(way).collect::<Vec<_>>().join(" or "))));
        let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
        put("hours", self.hours.as_ref().map(|hours| json!({
            "days": names(&hours.days, &DAYS), "from": clock(hours.from), "to": clock(hours.to), "zone": ZONES[hours.zone].0,
        })));
        json
    }
}

impl Permitted {
    fn some(random: &mut Random, function: usize) -> Self {
        let addresses = FUNCTIONS[function].2;
        if addresses == 0 || random.one_in(3) {
            return Self { function, demands: None };
        }
        let mut demands = Vec::new();
        for place in 0..addresses {
            match random.below(4) {
                0 | 1 => demands.push((place, Demand::OneAddress(random.few(ADDRESSES)))),
                2 => demands.push((place, Demand::Wallet)),
                _ => {}
            }
        }
        // The universe has only one number for the longest function.
        if addresses == 1 {
            let number = |random: &mut Random| if random.one_in(2) { Some(random.number(7)) } else { None };
            match random.below(3) {
                0 => demands
                    .push((addresses, Demand::OneNumber((0..7).filter(|_| random.one_in(2)).chain([3]).collect()))),
                1 => demands.push((addresses, Demand::Within(number(random), Some(random.number(7))))),
                _ => {}
            }
        }
        Self { function, demands: Some(demands) }
    }

    fn json(&self) -> Option<Value> {
        let argument = |(at, demand): &(usize, Demand)| {
            let at = at.to_string();
            match demand {
                Demand::OneAddress(some) => {
                    json!({"at": at, "one_of": some.iter().map(|at| text(*at)).collect::<Vec<_>>()})
                }
                Demand::Wallet => json!({"at": at, "wallet": true}),
                Demand::OneNumber(some) => {
                    json!({"at": at, "one_of": some.iter().map(ToString::to_string).collect::<Vec<_>>()})
                }
                Demand::Within(min, max) => {
                    let mut json = json!({"at": at});
                    let bounds = [("min", min), ("max", max)]
                        .into_iter()
                        .filter_map(|(key, bound)| Some((key.to_owned(), json!(bound.as_ref()?.to_string()))));
                    json.as_object_mut().unwrap().extend(bounds);
                    json
                }
            }
        };
        let demands = self.demands.as_ref()?;
        Some(
            json!({"signature": FUNCTIONS[self.function].0, "arguments": demands.iter().map(argument).collect::<Vec<_>>()}),
        )
    }
}

impl Table {
    pub fn some(random: &mut Random) -> Self {
        let rule = |random: &mut Random, number: usize| {
            let deny = random.one_in(6);
            Rule::some(random, &format!("rule-{number}"), deny)
        };
        let limit = |random: &mut Random| Limit {
            wallets: random.few(2),
            asset: random.below(ASSETS),
            addresses: if random.one_in(2) { random.few(ADDRESSES) } else { Vec::new() },
            initiators: if random.one_in(2) { random.few(2) } else { Vec::new() },
            per: random.below(4),
            cap: 1 + random.number(6),
        };
        let count = 1 + random.below(6);
        Self {
            rules: (0..count).map(|number| rule(random, number)).collect(),
            denied: if random.one_in(4) { vec![random.below(ADDRESSES)] } else { Vec::new() },
            counterparties: vec![random.few(ADDRESSES), random.few(ADDRESSES)],
            limits: (0..random.below(3)).map(|_| limit(random)).collect(),
        }
    }

    pub fn without_limits(mut self) -> Self {
        self.limits.clear();
        self
    }

    pub fn compile(&self) -> Policy {
        let texts = |list: &[usize]| list.iter().map(|at| text(*at)).collect::<Vec<_>>();
        let names = |list: &[usize], of: &[&str]| list.iter().map(|at| of[*at].to_owned()).collect::<Vec<_>>();
        let limits = self.limits.iter().enumerate().map(|(number, limit)| {
            json!({
                "id": format!("limit-{number}"), "wallets": names(&limit.wallets, &WALLETS), "asset": asset(limit.asset).to_string(),
                "addresses": texts(&limit.addresses), "initiators": names(&limit.initiators, &ASKERS),
                "per": (["limit", "wallet", "initiator", "destination"][limit.per]), "window": "day",
                "max_amount": limit.cap.to_string(),
            })
        });
        let config = json!({
            "denied_addresses": texts(&self.denied),
            "counterparties": self.counterparties.iter().enumerate()
                .map(|(number, addresses)| json!({"id": format!("party-{number}"), "addresses": texts(addresses)})).collect::<Vec<_>>(),
            "rules": self.rules.iter().map(Rule::json).collect::<Vec<_>>(),
            "limits": limits.collect::<Vec<_>>(),
        });
        let config: PolicyConfig = serde_json::from_value(config).unwrap();
        let wallets =
            WALLETS.iter().map(|wallet| (wallet.parse::<WalletId>().unwrap(), Network::Ethereum(1))).collect();
        config.compile(&wallets).unwrap_or_else(|error| panic!("{error} {self:#?}"))
    }

    /// Whom a rule names, by itself or as counterparties.
    fn named(&self, rule: &Rule) -> BTreeSet<usize> {
        let parties = rule.counterparties.iter().flat_map(|party| self.counterparties[*party].iter().copied());
        rule.addresses.iter().copied().chain(parties).collect()
    }

    /// What the table says: deny wins, and what no rule allows is denied.
    pub fn says(&self, tx: &Tx) -> Said<'_> {
        let touches = |at: usize| {
            at == OWN
                || tx
                    .transfers
                    .iter()
                    .any(|pays| pays.from == at || pays.to == at || (pays.asset > 0 && TOKENS[pays.asset - 1] == at))
                || tx.allowances.iter().any(|grants| grants.to == at || TOKENS[grants.token - 1] == at)
                || tx.calls.iter().any(|calls| calls.contract == at)
                || tx.proceeds.contains(&at)
        };
        let live: Vec<&Rule> = self.rules.iter().filter(|rule| rule.holds(tx)).collect();
        if self.denied.iter().any(|at| touches(*at)) || live.iter().any(|rule| rule.deny && self.forbids(rule, tx)) {
            return Said::No;
        }
        let live: Vec<&Rule> = live.into_iter().filter(|rule| !rule.deny).collect();
        let pays = |rule: &Rule, asset: usize, to: usize, amount: u128| {
            rule.assets.as_ref().map_or(asset == 0, |assets| assets.contains(&asset))
                && self.named(rule).contains(&to)
                && rule.min.is_none_or(|min| amount >= min.into())
                && rule.max.is_none_or(|max| amount <= max.into())
                && rule.fee.is_none_or(|fee| tx.fee <= fee)
        };
        let may_call = |rule: &Rule, calls: &Calls| rule.names(calls) && rule.fee.is_none_or(|fee| tx.fee <= fee);
        // For each effect, what the rules that permit it ask for.
        let mut effects: Vec<Vec<Option<&Vec<Way>>>> = Vec::new();
        for transfer in &tx.transfers {
            let token = transfer.asset.checked_sub(1).map(|at| TOKENS[at]);
            let explained = tx.calls.iter().any(|calls| {
                (Some(calls.contract) == token || calls.contract == transfer.from)
                    && live.iter().any(|rule| may_call(rule, calls))
            });
            if transfer.from != OWN && !explained {
                return Said::No;
            }
            let amount = u128::from(transfer.amount);
            let by = live.iter().filter(|rule| pays(rule, transfer.asset, transfer.to, amount));
            effects.push(by.map(|rule| rule.asks(amount)).collect());
        }
        for grant in &tx.allowances {
            if grant.unlimited {
                return Said::No;
            }
            let by = live.iter().filter(|rule| pays(rule, grant.token, grant.to, grant.amount));
            effects.push(by.map(|rule| rule.asks(grant.amount)).collect());
        }
        for calls in &tx.calls {
            effects.push(
                live.iter().filter(|rule| may_call(rule, calls)).map(|rule| rule.asks(calls.value.into())).collect(),
            );
        }
        let brought = |to: &usize| *to == OWN || live.iter().any(|rule| self.named(rule).contains(to));
        if effects.is_empty() || effects.iter().any(Vec::is_empty) || !tx.proceeds.iter().all(brought) {
            return Said::No;
        }
        let needy = effects.iter().filter(|rules| rules.iter().all(Option::is_some));
        Said::Yes { needs: needy.map(|rules| rules.iter().flatten().flat_map(|ways| ways.iter()).collect()).collect() }
    }

    /// Whether a denying rule meets anything that the transaction does. What it doesn't say, it denies in any form.
    fn forbids(&self, rule: &Rule, tx: &Tx) -> bool {
        let named = self.named(rule);
        let whoever = named.is_empty();
        if rule.contracts.is_empty() && whoever && rule.assets.is_none() {
            return true;
        }
        let moves = |asset: usize, to: usize, amount: u128| {
            rule.contracts.is_empty()
                && rule.assets.as_ref().is_none_or(|assets| assets.contains(&asset))
                && (whoever || named.contains(&to))
                && rule.min.is_none_or(|min| amount >= min.into())
        };
        let most = |grant: &Grants| if grant.unlimited { u128::MAX } else { grant.amount };
        tx.transfers.iter().any(|pays| moves(pays.asset, pays.to, pays.amount.into()))
            || tx.allowances.iter().any(|grant| moves(grant.token, grant.to, most(grant)))
            || tx.calls.iter().any(|calls| rule.names(calls) || named.contains(&calls.contract))
            || tx.proceeds.iter().any(|to| named.contains(to))
    }

    /// What the transaction draws on which counters.
    pub fn draws(&self, tx: &Tx) -> BTreeSet<(String, Amount)> {
        let mut sums: BTreeMap<String, u128> = BTreeMap::new();
        for (number, limit) in self.limits.iter().enumerate() {
            let asked = limit.initiators.is_empty() || limit.initiators.contains(&tx.initiator);
            let transfers = tx.transfers.iter().map(|pays| (pays.asset, pays.to, u128::from(pays.amount)));
            for (asset, to, amount) in
                transfers.chain(tx.allowances.iter().map(|grant| (grant.token, grant.to, grant.amount)))
            {
                let meant = limit.addresses.is_empty() || limit.addresses.contains(&to);
                if asked && limit.wallets.contains(&tx.wallet) && asset == limit.asset && meant {
                    let of = match limit.per {
                        0 => String::new(),
                        1 => format!("/wallet:{}", WALLETS[tx.wallet]),
                        2 => format!("/initiator:{}", ASKERS[tx.initiator]),
                        _ => format!("/destination:{}", address(to)),
                    };
                    *sums.entry(format!("limit-{number}/day{of}")).or_default() += amount;
                }
            }
        }
        sums.into_iter().map(|(counter, sum)| (counter, Amount::from_wei(sum))).collect()
    }
}

impl Rule {
    /// Whether it is for the wallet, for who asks, and at this time.
    fn holds(&self, tx: &Tx) -> bool {
        let open = |hours: &Hours| {
            let local = tx.at + ZONES[hours.zone].1 * 60 * MINUTE;
            // 1 January 1970 was a Thursday.
            let (day, minute) = (usize::try_from((local / DAY + 3) % 7).unwrap(), local % DAY / MINUTE);
            if hours.from < hours.to {
                return hours.days.contains(&day) && hours.from <= minute && minute < hours.to;
            }
            let since_yesterday = hours.days.contains(&((day + 6) % 7)) && minute < hours.to;
            since_yesterday || (hours.days.contains(&day) && minute >= hours.from)
        };
        self.wallets.contains(&tx.wallet)
            && (self.initiators.is_empty() || self.initiators.contains(&tx.initiator))
            && self.hours.as_ref().is_none_or(open)
    }

    fn names(&self, calls: &Calls) -> bool {
        let functions =
            self.contracts.iter().filter(|(at, _)| *at == calls.contract).flat_map(|(_, functions)| functions);
        functions.filter(|permitted| permitted.function == calls.function).any(|permitted| {
            let Some(demands) = permitted.demands.as_ref().filter(|demands| !demands.is_empty()) else { return true };
            let Arguments::Of(addresses, number) = &calls.arguments else { return false };
            demands.iter().all(|(place, demand)| match demand {
                Demand::OneAddress(some) => some.contains(&addresses[*place]),
                Demand::Wallet => addresses[*place] == OWN,
                Demand::OneNumber(some) => some.contains(number),
                Demand::Within(min, max) => {
                    min.is_none_or(|min| *number >= min) && max.is_none_or(|max| *number <= max)
                }
            })
        })
    }

    /// The ways to approve an amount; none where nobody has to.
    fn asks(&self, amount: u128) -> Option<&Vec<Way>> {
        self.quorum.as_ref().filter(|_| self.above.is_none_or(|above| amount > above.into()))
    }
}

impl Tx {
    pub fn some(random: &mut Random, table: &Table) -> Self {
        // As often as not what some rule is about, so that not everything is denied.
        let rule = table.rules[random.below(table.rules.len())].clone();
        let pick = |random: &mut Random, from: &[usize], of: usize| {
            if from.is_empty() || random.one_in(5) { random.below(of) } else { from[random.below(from.len())] }
        };
        let named: Vec<usize> = table.named(&rule).into_iter().collect();
        let assets = rule.assets.clone().unwrap_or(vec![0]);
        let payment = |random: &mut Random| {
            (pick(random, &assets, ASSETS), pick(random, &named, ADDRESSES + 1), 1 + random.number(8))
        };
        let mut tx = Self {
            wallet: pick(random, &rule.wallets, 2),
            initiator: pick(random, &rule.initiators, 3),
            at: WEEK + random.number(7 * 24) * 60 * MINUTE + random.number(60) * MINUTE,
            transfers: Vec::new(),
            allowances: Vec::new(),
            calls: Vec::new(),
            proceeds: Vec::new(),
            fee: random.number(5),
        };
        let kinds = if random.one_in(3) { 2 } else { 1 };
        for _ in 0..kinds {
            match random.below(4) {
                0 | 1 => {
                    let (asset, to, amount) = payment(random);
                    let from = if random.one_in(8) { random.below(ADDRESSES) } else { OWN };
                    if asset > 0 && random.one_in(2) {
                        let (contract, arguments) = (TOKENS[asset - 1], Arguments::Of(vec![to], amount));
                        tx.calls.push(Calls { contract, function: 0, arguments, value: 0 });
                    }
                    tx.transfers.push(Pays { asset, from, to, amount });
                }
                2 => {
                    let (asset, to, amount) = payment(random);
                    let token = asset.max(1);
                    tx.allowances.push(Grants { token, to, amount: amount.into(), unlimited: random.one_in(10) });
                }
                _ => {
                    let contracts: Vec<usize> = rule.contracts.iter().map(|(at, _)| *at).collect();
                    let contract = if contracts.is_empty() {
                        CONTRACTS[random.below(2)]
                    } else {
                        contracts[random.below(contracts.len())]
                    };
                    let function = random.below(FUNCTIONS.len());
                    let addresses = (0..FUNCTIONS[function].2).map(|_| random.below(ADDRESSES + 1)).collect();
                    let arguments =
                        if random.one_in(8) { Arguments::Garbage } else { Arguments::Of(addresses, random.number(8)) };
                    let value = if random.one_in(6) { random.number(5) } else { 0 };
                    tx.calls.push(Calls { contract, function, arguments, value });
                    if random.one_in(3) {
                        tx.proceeds.push(pick(random, &named, ADDRESSES + 1));
                    }
                }
            }
        }
        tx
    }

    pub fn effects(&self) -> Effects {
        let transfer = |pays: &Pays| Transfer {
            asset: asset(pays.asset),
            from: address(pays.from),
            to: address(pays.to),
            amount: Amount::from_sat(pays.amount),
        };
        let unlimited = Amount::from_wei(u128::MAX).checked_add(Amount::from_sat(1)).unwrap();
        let allowance = |grants: &Grants| Allowance {
            asset: asset(grants.token),
            spender: address(grants.to),
            amount: if grants.unlimited { unlimited } else { Amount::from_wei(grants.amount) },
        };
        Effects {
            transfers: self.transfers.iter().map(transfer).collect(),
            allowances: self.allowances.iter().map(allowance).collect(),
            calls: self
                .calls
                .iter()
                .map(|calls| call(calls.contract, calls.function, &calls.arguments, calls.value))
                .collect(),
            proceeds: self.proceeds.iter().map(|to| Proceeds { to: address(*to) }).collect(),
            max_fee: Amount::from_sat(self.fee),
            ..nothing()
        }
    }
}

fn nothing() -> Effects {
    Effects {
        transfers: Vec::new(),
        allowances: Vec::new(),
        calls: Vec::new(),
        programs: Vec::new(),
        proceeds: Vec::new(),
        change: Amount::ZERO,
        max_fee: Amount::ZERO,
        touches: Vec::new(),
        tables: Vec::new(),
        upkeep: None,
    }
}

fn call(contract: usize, function: usize, arguments: &Arguments, value: u64) -> Call {
    let evm = |at: usize| match address(at) {
        Address::Ethereum(address) => address,
        other => panic!("{other}"),
    };
    let bytes = match arguments {
        Arguments::Garbage => vec![7; 5],
        Arguments::Of(addresses, number) => {
            let mut bytes: Vec<u8> =
                addresses.iter().flat_map(|at| [&[0; 12][..], evm(*at).as_slice()].concat()).collect();
            if !addresses.is_empty() {
                bytes.extend(Amount::from_sat(*number).to_be_bytes());
            }
            bytes
        }
    };
    Call {
        caller: evm(OWN),
        depth: 0,
        contract: evm(contract),
        selector: FUNCTIONS[function].1.into(),
        arguments: bytes.into(),
        value: Amount::from_sat(value),
    }
}

/// Whether people, each in some groups, fulfil a way: every way to hand out the places is tried.
pub fn met(way: &Way, people: &[Vec<usize>]) -> bool {
    let Some((group, count)) = way.iter().find(|(_, count)| **count > 0) else { return true };
    let mut fewer = way.clone();
    fewer.insert(*group, count - 1);
    (0..people.len()).filter(|at| people[*at].contains(group)).any(|at| {
        let mut others = people.to_vec();
        others.remove(at);
        met(&fewer, &others)
    })
}

pub fn some_people(random: &mut Random) -> Vec<Vec<usize>> {
    (0..random.below(6)).map(|_| random.some(GROUPS.len())).collect()
}

pub fn as_people(people: &[Vec<usize>]) -> BTreeMap<Person, BTreeSet<Group>> {
    let groups = |of: &Vec<usize>| of.iter().map(|group| GROUPS[*group].parse().unwrap()).collect();
    people.iter().enumerate().map(|(at, of)| (format!("person-{at}").parse().unwrap(), groups(of))).collect()
}

/// The effects after a change of one input, once for each value that will do.
pub fn changes(effects: &Effects, input: &Input, wanted: &Wanted) -> Vec<Effects> {
    let values: Vec<(Option<Asset>, Option<Address>, Option<Amount>)> = match wanted {
        Wanted::AmountAtMost { amount } | Wanted::AmountAtLeast { amount } => vec![(None, None, Some(*amount))],
        Wanted::OneOfAddresses { addresses } => addresses.iter().map(|to| (None, Some(to.clone()), None)).collect(),
        Wanted::OneOfAssets { assets } => assets.iter().map(|asset| (Some(*asset), None, None)).collect(),
        other => panic!("{other:?}"),
    };
    let change = |(asset, to, amount): (Option<Asset>, Option<Address>, Option<Amount>)| {
        let mut effects = effects.clone();
        match input {
            Input::Transfer { index, .. } => {
                let of = &mut effects.transfers[*index];
                let before = of.clone();
                of.asset = asset.unwrap_or(of.asset);
                of.to = to.unwrap_or_else(|| of.to.clone());
                of.amount = amount.unwrap_or(of.amount);
                let after = of.clone();
                // The token's own call says the same.
                let words = |of: &Transfer| match &of.to {
                    Address::Ethereum(to) => [&[0; 12][..], to.as_slice(), &of.amount.to_be_bytes()].concat(),
                    other => panic!("{other}"),
                };
                let says = |call: &&mut Call| {
                    Asset::Erc20(call.contract) == before.asset
                        && call.selector.0 == FUNCTIONS[0].1
                        && call.arguments[..] == words(&before)[..]
                };
                if let Some(call) = effects.calls.iter_mut().find(says)
                    && let Asset::Erc20(contract) = after.asset
                {
                    call.contract = contract;
                    call.arguments = words(&after).into();
                }
            }
            Input::Allowance { index, .. } => {
                let of = &mut effects.allowances[*index];
                of.asset = asset.unwrap_or(of.asset);
                of.spender = to.unwrap_or_else(|| of.spender.clone());
                of.amount = amount.unwrap_or(of.amount);
            }
            Input::Proceeds { index, .. } => effects.proceeds[*index].to = to.unwrap(),
            other => panic!("{other:?}"),
        }
        effects
    };
    values.into_iter().map(change).collect()
}

/// Everything that the first wallet may do and that the question admits, of the few values that there are: who asks and
/// when, and what is done.
pub fn universe(question: &Question) -> (Vec<(CredentialId, u64)>, Vec<Effects>) {
    let does = |act: Act| question.acts.is_empty() || question.acts.contains(&act);
    let least = question.min_amount.unwrap_or(Amount::from_sat(1));
    let most = question.max_amount.unwrap_or(Amount::MAX);
    let (own, fee) = (account(0).address().clone(), question.min_fee);
    let blank = Effects { max_fee: fee, ..nothing() };
    let all: Vec<usize> = (0..=ADDRESSES).collect();
    let admitted: Vec<usize> = all.iter().copied().filter(|at| admits(&question.addresses, &address(*at))).collect();
    let mut deeds = Vec::new();
    for (at, to) in (0..ASSETS).flat_map(|at| admitted.iter().map(move |to| (at, *to))) {
        if !question.assets.admits(&asset(at)) {
            continue;
        }
        for number in (1..=8).filter(|number| (least..=most).contains(&Amount::from_sat(*number))) {
            let (to_address, amount) = (address(to), Amount::from_sat(number));
            let transfer = Transfer { asset: asset(at), from: own.clone(), to: to_address.clone(), amount };
            let with = |calls: Vec<Call>| Effects { transfers: vec![transfer.clone()], calls, ..blank.clone() };
            let Some(token) = at.checked_sub(1).map(|at| TOKENS[at]) else {
                if does(Act::Pay) {
                    deeds.push(with(Vec::new()));
                }
                continue;
            };
            if does(Act::Pay) {
                deeds.push(with(vec![call(token, 0, &Arguments::Of(vec![to], number), 0)]));
                deeds.push(with(vec![call(token, 2, &Arguments::Of(vec![OWN, to], number), 0)]));
            }
            if does(Act::Approve) {
                let allowances = vec![Allowance { asset: asset(at), spender: to_address, amount }];
                deeds.push(Effects {
                    allowances,
                    calls: vec![call(token, 1, &Arguments::Of(vec![to], number), 0)],
                    ..blank.clone()
                });
            }
        }
    }
    for (contract, function) in
        CONTRACTS.iter().flat_map(|contract| (0..FUNCTIONS.len()).map(move |function| (*contract, function)))
    {
        if !(does(Act::Call) || does(Act::Collect)) {
            break;
        }
        let mut arguments = vec![Arguments::Garbage];
        match FUNCTIONS[function].2 {
            0 => arguments.push(Arguments::Of(Vec::new(), 0)),
            1 => arguments.extend(all.iter().flat_map(|to| (0..=8).map(|number| Arguments::Of(vec![*to], number)))),
            _ => arguments.extend(all.iter().flat_map(|from| all.iter().map(|to| Arguments::Of(vec![*from, *to], 0)))),
        }
        for arguments in arguments {
            let calls = vec![call(contract, function, &arguments, 0)];
            if does(Act::Call) {
                deeds.push(Effects { calls: calls.clone(), ..blank.clone() });
            }
            if does(Act::Collect) {
                let to = |at: &usize| vec![Proceeds { to: address(*at) }];
                deeds.extend(admitted.iter().map(|at| Effects {
                    calls: calls.clone(),
                    proceeds: to(at),
                    ..blank.clone()
                }));
            }
        }
    }
    let times = (0..7).flat_map(|day| [0, 3, 12, 15].map(|hour| question.from + day * DAY + hour * 60 * MINUTE));
    let times: Vec<u64> = times.collect();
    let askers = (0..ASKERS.len()).map(initiator).filter(|asker| question.initiators.admits(asker));
    (askers.flat_map(|asker| times.iter().map(move |at| (asker.clone(), *at))).collect(), deeds)
}

fn admits(among: &Among<UncheckedAddress>, address: &Address) -> bool {
    let is = |text: &UncheckedAddress| text.require_network(Network::Ethereum(1)).as_ref() == Ok(address);
    match among {
        Among::Any => true,
        Among::OneOf(some) => some.iter().any(is),
        Among::NoneOf(some) => !some.iter().any(is),
    }
}

/// Whether a witness is what was asked about.
pub fn fits_question(question: &Question, witness: &Witness) -> bool {
    let Effects { transfers, allowances, calls, proceeds, max_fee, .. } = &witness.effects;
    let moved = transfers
        .iter()
        .map(|of| (of.asset, &of.to, of.amount))
        .chain(allowances.iter().map(|of| (of.asset, &of.spender, of.amount)));
    let act = match (transfers.is_empty(), allowances.is_empty(), proceeds.is_empty()) {
        (false, ..) => Act::Pay,
        (_, false, _) => Act::Approve,
        (.., false) => Act::Collect,
        _ => Act::Call,
    };
    let least = question.min_amount.unwrap_or(Amount::from_sat(1));
    (question.acts.is_empty() || question.acts.contains(&act))
        && question.wallets.admits(&witness.wallet)
        && question.initiators.admits(&witness.initiator)
        && (question.from..=question.until.unwrap()).contains(&witness.at)
        && *max_fee >= question.min_fee
        && proceeds.iter().all(|of| admits(&question.addresses, &of.to))
        && !(calls.is_empty() && transfers.is_empty() && allowances.is_empty())
        && { moved }.all(|(asset, to, amount)| {
            let within = (least..=question.max_amount.unwrap_or(Amount::MAX)).contains(&amount);
            question.assets.admits(&asset) && admits(&question.addresses, to) && within && place_of(to) < TEXTS.len()
        })
}
