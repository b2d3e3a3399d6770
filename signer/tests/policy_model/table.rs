//! Rule tables at random, and the policies that say the same.

use std::collections::{BTreeMap, BTreeSet};

use chains::account::WalletId;
use chains::network::Network;
use serde_json::{Value, json};
use signer::policy::{Policy, PolicyConfig};

use super::names::*;
use super::random::Random;

/// Of each group so many, all of them; any of the ways will do.
pub type Way = BTreeMap<usize, usize>;

#[derive(Clone, Debug)]
pub struct Hours {
    pub days: Vec<usize>,
    /// Minutes; where the end isn't after the beginning, it is on the next day.
    pub from: u64,
    pub to: u64,
    pub zone: usize,
}

#[derive(Clone, Debug)]
pub enum Demand {
    OneAddress(Vec<usize>),
    Wallet,
    OneNumber(Vec<u64>),
    Within(Option<u64>, Option<u64>),
}

/// A function, and what is demanded of the arguments at some places; without a list, nothing, not even that they can be read.
#[derive(Clone, Debug)]
pub struct Permitted {
    pub function: usize,
    pub demands: Option<Vec<(usize, Demand)>>,
}

/// What may be called of a contract.
#[derive(Clone, Debug)]
pub struct Contract {
    pub at: usize,
    /// Which code it must have; any, without.
    pub code: Option<u8>,
    pub functions: Vec<Permitted>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: String,
    pub deny: bool,
    pub wallets: Vec<usize>,
    pub initiators: Vec<usize>,
    pub hours: Option<Hours>,
    pub assets: Option<Vec<usize>>,
    pub addresses: Vec<usize>,
    pub counterparties: Vec<usize>,
    pub contracts: Vec<Contract>,
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub fee: Option<u64>,
    pub quorum: Option<Vec<Way>>,
    pub above: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Limit {
    pub wallets: Vec<usize>,
    pub asset: usize,
    pub addresses: Vec<usize>,
    pub initiators: Vec<usize>,
    pub per: usize,
    pub cap: u64,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub rules: Vec<Rule>,
    pub denied: Vec<usize>,
    /// The wallets that pay in deals alone.
    pub deals_only: Vec<usize>,
    /// Each with its addresses.
    pub counterparties: Vec<Vec<usize>>,
    pub limits: Vec<Limit>,
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
        let contract = |random: &mut Random, at: usize| Contract {
            at,
            code: random.one_in(4).then(|| if random.one_in(2) { 1 } else { 2 }),
            functions: random.few(FUNCTIONS.len()).into_iter().map(|at| Permitted::some(random, at)).collect(),
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

    pub fn json(&self) -> Value {
        let names = |list: &[usize], of: &[&str]| list.iter().map(|at| of[*at].to_owned()).collect::<Vec<_>>();
        let mut json = json!({
            "id": self.id,
            "wallets": names(&self.wallets, &WALLETS),
            "initiators": names(&self.initiators, &ASKERS),
            "addresses": self.addresses.iter().map(|at| text(*at)).collect::<Vec<_>>(),
            "counterparties": self.counterparties.iter().map(|at| format!("party-{at}")).collect::<Vec<_>>(),
            "contracts": self.contracts.iter().map(Contract::json).collect::<Vec<_>>(),
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

impl Contract {
    fn json(&self) -> Value {
        let plain = self.functions.iter().filter(|permitted| permitted.demands.is_none());
        let mut json = json!({
            "address": text(self.at),
            "selectors": plain.map(|of| format!("0x{}", hex::encode(FUNCTIONS[of.function].1))).collect::<Vec<_>>(),
            "functions": self.functions.iter().filter_map(Permitted::json).collect::<Vec<_>>(),
        });
        if let Some(code) = self.code {
            json["code_hash"] = json!(format!("0x{}", hex::encode([code; 32])));
        }
        json
    }
}

impl Permitted {
    pub fn some(random: &mut Random, function: usize) -> Self {
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

    pub fn json(&self) -> Option<Value> {
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
            deals_only: if random.one_in(6) { random.few(2) } else { Vec::new() },
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
            "deals_only": names(&self.deals_only, &WALLETS),
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
    pub fn named(&self, rule: &Rule) -> BTreeSet<usize> {
        let parties = rule.counterparties.iter().flat_map(|party| self.counterparties[*party].iter().copied());
        rule.addresses.iter().copied().chain(parties).collect()
    }
}
