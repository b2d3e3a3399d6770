//! What policy.md says to a transaction, read as simply as it can be.

use std::collections::{BTreeMap, BTreeSet};

use chains::amount::Amount;
use signer::policy::quorum::{Group, Person};

use super::names::*;
use super::random::Random;
use super::table::{Contract, Demand, Hours, Permitted, Rule, Table, Way};
use super::tx::{Arguments, Calls, Grants, Tx};

#[derive(Clone, Debug)]
pub enum Said<'a> {
    No,
    /// For each effect that needs approval, the ways to give it.
    Yes {
        needs: Vec<Vec<&'a Way>>,
    },
}

impl Table {
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
        if self.deals_only.contains(&tx.wallet) && !tx.deal {
            return Said::No;
        }
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

    /// Whether the fee of a transaction that moves nothing is admitted to who asks, at this time.
    pub fn keeps_up(&self, tx: &Tx) -> bool {
        let idle = Tx { transfers: vec![], allowances: vec![], calls: vec![], proceeds: vec![], ..tx.clone() };
        let live: Vec<&Rule> = self.rules.iter().filter(|rule| rule.holds(tx)).collect();
        let denied = self.denied.contains(&OWN) || live.iter().any(|rule| rule.deny && self.forbids(rule, &idle));
        !denied && live.iter().any(|rule| !rule.deny && rule.fee.is_none_or(|fee| tx.fee <= fee))
    }

    /// Whether the fee of a transaction that cancels one is admitted, whoever asks and whenever.
    pub fn cancels(&self, tx: &Tx) -> bool {
        let of_wallet = |rule: &&Rule| !rule.deny && rule.wallets.contains(&tx.wallet);
        let mut rules = self.rules.iter().filter(of_wallet);
        !self.denied.contains(&OWN) && rules.any(|rule| rule.fee.is_none_or(|fee| tx.fee <= fee))
    }

    /// Whether a denying rule meets anything that the transaction does. What it doesn't say, it denies in any form.
    pub fn forbids(&self, rule: &Rule, tx: &Tx) -> bool {
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

    /// Which code the contracts must have that are called: any that a rule wants which permits the call, whoever asks and whenever. A
    /// call that some rule permits whatever the code is, wants nothing.
    pub fn codes(&self, tx: &Tx) -> BTreeSet<(usize, BTreeSet<u8>)> {
        let rules = || self.rules.iter().filter(|rule| !rule.deny && rule.wallets.contains(&tx.wallet));
        let code = |calls: &Calls| -> Option<BTreeSet<u8>> {
            rules().flat_map(|rule| rule.naming(calls)).map(|contract| contract.code).collect()
        };
        let called = tx.calls.iter().filter_map(|calls| Some((calls.contract, code(calls)?)));
        called.filter(|(_, code)| !code.is_empty()).collect()
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
    pub fn holds(&self, tx: &Tx) -> bool {
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

    pub fn names(&self, calls: &Calls) -> bool {
        self.naming(calls).next().is_some()
    }

    /// The contracts of the rule that a call is permitted under, or denied. Whatever can't be read is denied.
    fn naming(&self, calls: &Calls) -> impl Iterator<Item = &Contract> {
        let permits = |permitted: &Permitted| {
            let Some(demands) = permitted.demands.as_ref().filter(|demands| !demands.is_empty()) else { return true };
            let Arguments::Of(addresses, number) = &calls.arguments else { return self.deny };
            demands.iter().all(|(place, demand)| match demand {
                Demand::OneAddress(some) => some.contains(&addresses[*place]),
                Demand::Wallet => addresses[*place] == OWN,
                Demand::OneNumber(some) => some.contains(number),
                Demand::Within(min, max) => {
                    min.is_none_or(|min| *number >= min) && max.is_none_or(|max| *number <= max)
                }
            })
        };
        let named = self.contracts.iter().filter(|contract| contract.at == calls.contract);
        named.filter(move |contract| contract.functions.iter().any(|of| of.function == calls.function && permits(of)))
    }

    /// The ways to approve an amount; none where nobody has to.
    pub fn asks(&self, amount: u128) -> Option<&Vec<Way>> {
        self.quorum.as_ref().filter(|_| self.above.is_none_or(|above| amount > above.into()))
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
