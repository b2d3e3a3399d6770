//! The same for a wallet on Solana: tables, transactions and what is said to them, with instructions of programs.

use std::sync::LazyLock;

use chains::account::{Account, KeyPath, PublicKey};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{AccountUse, Allowance, Effects, Proceeds, ProgramCall, Transfer};
use chains::network::Network;
use chains::solana::{TokenProgram, associated_token_account};
use serde_json::{Value, json};
use signer::policy::{Policy, PolicyConfig};

use super::names::{ASKERS, initiator};
use super::random::Random;
use super::tx::nothing;

/// Accounts and programs that rules name.
const TEXTS: [&str; 5] = [
    "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q",
    "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi",
    "D8cy77BBepLMngZx6ZukaTff5hCt1HrWyKk3Hnd9oitf",
    "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4",
    "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc",
];
const PROGRAMS: [usize; 2] = [3, 4];
/// The wallet itself, its token accounts under both token programs, and, the last of all, an account that nothing names.
const OWN: usize = 5;
const OWN_TOKENS: [usize; 2] = [6, 7];
const ALL: usize = 9;
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
/// One is the beginning of another.
const BEGINNINGS: [&[u8]; 3] = [&[1], &[1, 2], &[3]];

#[derive(Clone, Debug)]
enum Demand {
    OneOf(Vec<usize>),
    Wallet,
    WalletToken,
}

#[derive(Clone, Debug)]
struct Form {
    program: usize,
    beginnings: Vec<usize>,
    accounts: Vec<(usize, Demand)>,
    others: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    deny: bool,
    initiators: Vec<usize>,
    /// The coin, the token; without, the coin alone or, where it denies, either.
    assets: Option<Vec<usize>>,
    addresses: Vec<usize>,
    programs: Vec<Form>,
    max: Option<u64>,
    fee: Option<u64>,
    /// Whether somebody has to approve, and above which amount.
    approval: Option<Option<u64>>,
}

#[derive(Clone, Debug)]
struct Use {
    program: usize,
    data: Vec<u8>,
    accounts: Vec<usize>,
    explained: bool,
}

/// Rules for one wallet.
#[derive(Clone, Debug)]
pub struct SolanaTable {
    rules: Vec<Rule>,
}

/// A transaction of its.
#[derive(Clone, Debug)]
pub struct SolanaTx {
    pub initiator: usize,
    /// What is paid, to whom, and how much.
    transfers: Vec<(usize, usize, u64)>,
    /// Who may spend how much of the token.
    allowances: Vec<(usize, u64)>,
    uses: Vec<Use>,
    proceeds: Vec<usize>,
    fee: u64,
}

fn network() -> Network {
    "solana:devnet".parse().unwrap()
}

pub fn solana_account() -> Account {
    let (wallet, key) = ("sol".parse().unwrap(), "key".parse().unwrap());
    Account::new(wallet, network(), key, KeyPath::root(), PublicKey::Ed25519([7; 32])).unwrap()
}

/// All of them; to derive a token account takes long.
static ADDRESSES: LazyLock<Vec<Address>> = LazyLock::new(|| {
    let read = |text: &str| UncheckedAddress::new(text).require_network(network()).unwrap();
    let own = solana_account().address().clone();
    let (Address::Solana(wallet), Address::Solana(mint)) = (&own, read(MINT)) else { panic!("{own}") };
    let token = |program| Address::Solana(associated_token_account(wallet, &mint, program));
    let named = TEXTS.iter().map(|text| read(text)).chain([own.clone()]);
    named.chain(TokenProgram::ALL.map(token)).chain([Address::Solana([9; 32].into())]).collect()
});

fn address(at: usize) -> Address {
    ADDRESSES[at].clone()
}

fn asset(at: usize) -> Asset {
    if at == 0 { Asset::Native } else { format!("spl:{MINT}").parse().unwrap() }
}

fn one_of<T: Copy>(random: &mut Random, list: &[T]) -> T {
    list[random.below(list.len())]
}

impl Form {
    fn some(random: &mut Random) -> Self {
        let demand = |random: &mut Random| match random.below(4) {
            0 | 1 => Demand::OneOf(random.few(TEXTS.len())),
            2 => Demand::Wallet,
            _ => Demand::WalletToken,
        };
        let places = random.some(3);
        Self {
            program: one_of(random, &PROGRAMS),
            beginnings: random.few(BEGINNINGS.len()),
            accounts: places.into_iter().map(|at| (at, demand(random))).collect(),
            others: random.one_in(2),
        }
    }

    fn json(&self) -> Value {
        let account = |(at, demand): &(usize, Demand)| match demand {
            Demand::OneOf(some) => json!({"at": at, "one_of": some.iter().map(|at| TEXTS[*at]).collect::<Vec<_>>()}),
            Demand::Wallet => json!({"at": at, "wallet": true}),
            Demand::WalletToken => json!({"at": at, "wallet_token": MINT}),
        };
        let beginning = |at: &usize| format!("0x{}", hex::encode(BEGINNINGS[*at]));
        json!({
            "address": TEXTS[self.program],
            "discriminators": self.beginnings.iter().map(beginning).collect::<Vec<_>>(),
            "accounts": self.accounts.iter().map(account).collect::<Vec<_>>(),
            "other_accounts": self.others,
        })
    }

    /// Whether an instruction is what the form names, whatever other accounts there are.
    fn is_met_by(&self, used: &Use) -> bool {
        let meets = |(at, demand): &(usize, Demand)| {
            used.accounts.get(*at).is_some_and(|found| match demand {
                Demand::OneOf(some) => some.contains(found),
                Demand::Wallet => *found == OWN,
                Demand::WalletToken => OWN_TOKENS.contains(found),
            })
        };
        self.program == used.program
            && self.beginnings.iter().any(|at| used.data.starts_with(BEGINNINGS[*at]))
            && self.accounts.iter().all(meets)
    }

    /// As [`Self::is_met_by`], and whether the accounts that it doesn't mention may be there.
    fn permits(&self, used: &Use) -> bool {
        let mentioned = (0..used.accounts.len()).all(|at| self.accounts.iter().any(|(place, _)| *place == at));
        self.is_met_by(used) && (self.others || mentioned)
    }
}

impl Rule {
    fn some(random: &mut Random) -> Self {
        let deny = random.one_in(4);
        let assets = random.one_in(2).then(|| random.few(2));
        let one = assets.as_ref().map_or(!deny, |assets| assets.len() == 1);
        let few = |random: &mut Random| random.one_in(3).then(|| 1 + random.number(6));
        Self {
            deny,
            initiators: if random.one_in(3) { random.few(2) } else { Vec::new() },
            assets,
            addresses: if deny && random.one_in(2) { Vec::new() } else { random.some(TEXTS.len() + 1) },
            programs: (0..random.below(3)).map(|_| Form::some(random)).collect(),
            max: few(random).filter(|_| one && !deny),
            fee: few(random).filter(|_| !deny),
            approval: (!deny && random.one_in(3)).then(|| few(random).filter(|_| one)),
        }
    }

    fn json(&self, number: usize) -> Value {
        let mut json = json!({
            "id": format!("rule-{number}"), "wallets": ["sol"],
            "initiators": self.initiators.iter().map(|at| ASKERS[*at]).collect::<Vec<_>>(),
            "addresses": self.addresses.iter().map(|at| address(*at).to_string()).collect::<Vec<_>>(),
            "programs": self.programs.iter().map(Form::json).collect::<Vec<_>>(),
        });
        let text = |amount: &u64| json!(amount.to_string());
        let assets = |list: &Vec<usize>| json!(list.iter().map(|at| asset(*at).to_string()).collect::<Vec<_>>());
        for (key, value) in [
            ("effect", self.deny.then(|| json!("deny"))),
            ("assets", self.assets.as_ref().map(assets)),
            ("max_amount", self.max.as_ref().map(text)),
            ("max_fee", self.fee.as_ref().map(text)),
            ("require", self.approval.as_ref().map(|_| json!("1 of finance"))),
            ("require_above", self.approval.as_ref().and_then(Option::as_ref).map(text)),
        ] {
            json.as_object_mut().unwrap().extend(value.map(|value| (key.to_owned(), value)));
        }
        json
    }

    fn is_about(&self, asset: usize) -> bool {
        self.assets.as_ref().map_or(self.deny || asset == 0, |assets| assets.contains(&asset))
    }

    fn asks(&self, amount: u64) -> bool {
        self.approval.is_some_and(|above| above.is_none_or(|above| amount > above))
    }

    /// Whether it denies something of it. What it doesn't say, it denies in any form.
    fn forbids(&self, tx: &SolanaTx) -> bool {
        let whoever = self.addresses.is_empty();
        let names = |at: &usize| self.addresses.contains(at);
        let pays = |asset: usize, to: usize| self.is_about(asset) && (whoever || names(&to));
        if self.programs.is_empty()
            && ((whoever && self.assets.is_none())
                || tx.transfers.iter().any(|(asset, to, _)| pays(*asset, *to))
                || tx.allowances.iter().any(|(to, _)| pays(1, *to)))
        {
            return true;
        }
        tx.uses.iter().any(|used| names(&used.program) || self.programs.iter().any(|form| form.is_met_by(used)))
            || tx.proceeds.iter().any(names)
    }
}

impl SolanaTable {
    pub fn some(random: &mut Random) -> Self {
        Self { rules: (0..1 + random.below(6)).map(|_| Rule::some(random)).collect() }
    }

    pub fn compile(&self) -> Policy {
        let rules: Vec<Value> = self.rules.iter().enumerate().map(|(number, rule)| rule.json(number)).collect();
        let config: PolicyConfig = serde_json::from_value(json!({ "rules": rules })).unwrap();
        let wallets = [("sol".parse().unwrap(), network())].into();
        config.compile(&wallets).unwrap_or_else(|error| panic!("{error} {self:#?}"))
    }

    /// No, with approval, yes: 0, 1, 2.
    pub fn says(&self, tx: &SolanaTx) -> u8 {
        let asked = |rule: &&Rule| rule.initiators.is_empty() || rule.initiators.contains(&tx.initiator);
        let (denying, live): (Vec<&Rule>, Vec<&Rule>) = self.rules.iter().filter(asked).partition(|rule| rule.deny);
        if denying.iter().any(|rule| rule.forbids(tx)) || tx.allowances.iter().any(|(_, amount)| *amount == u64::MAX) {
            return 0;
        }
        let dear = |rule: &Rule| rule.fee.is_some_and(|fee| tx.fee > fee);
        let pays = |rule: &Rule, asset: usize, to: usize, amount: u64| {
            rule.is_about(asset) && rule.addresses.contains(&to) && rule.max.is_none_or(|max| amount <= max)
        };
        // For each effect, whether the rules that permit it ask for approval.
        let by = |permits: &dyn Fn(&Rule) -> bool, amount: u64| -> Vec<bool> {
            let rules = live.iter().filter(|rule| permits(rule) && !dear(rule));
            rules.map(|rule| rule.asks(amount)).collect()
        };
        let mut effects: Vec<Vec<bool>> = Vec::new();
        effects.extend(tx.transfers.iter().map(|(asset, to, n)| by(&|rule| pays(rule, *asset, *to, *n), *n)));
        effects.extend(tx.allowances.iter().map(|(to, n)| by(&|rule| pays(rule, 1, *to, *n), *n)));
        let unexplained = tx.uses.iter().filter(|used| !used.explained);
        effects.extend(unexplained.map(|used| by(&|rule| rule.programs.iter().any(|form| form.permits(used)), 0)));
        if effects.is_empty() && !tx.uses.is_empty() {
            effects.push(by(&|_| true, 0));
        }
        let listed = |to: &usize| *to == OWN || live.iter().any(|rule| rule.addresses.contains(to));
        if effects.is_empty() || effects.iter().any(Vec::is_empty) || !tx.proceeds.iter().all(listed) {
            return 0;
        }
        if effects.iter().any(|rules| rules.iter().all(|asks| *asks)) { 1 } else { 2 }
    }
}

impl SolanaTx {
    /// As often as not what some rule is about.
    pub fn some(random: &mut Random, table: &SolanaTable) -> Self {
        let rule = table.rules[random.below(table.rules.len())].clone();
        let pick = |random: &mut Random, from: &[usize], of: usize| {
            if from.is_empty() || random.one_in(5) { random.below(of) } else { one_of(random, from) }
        };
        let assets = rule.assets.clone().unwrap_or(vec![0]);
        let mut tx = Self {
            initiator: pick(random, &rule.initiators, ASKERS.len()),
            transfers: Vec::new(),
            allowances: Vec::new(),
            uses: Vec::new(),
            proceeds: Vec::new(),
            fee: random.number(5),
        };
        for _ in 0..if random.one_in(3) { 2 } else { 1 } {
            let (to, amount) = (pick(random, &rule.addresses, ALL), 1 + random.number(8));
            match random.below(5) {
                0 => tx.transfers.push((pick(random, &assets, 2), to, amount)),
                1 => tx.allowances.push((to, if random.one_in(10) { u64::MAX } else { amount })),
                _ => {
                    tx.uses.push(Use::some(random, &rule));
                    tx.proceeds.extend(random.one_in(4).then_some(to));
                }
            }
        }
        tx
    }

    pub fn effects(&self) -> Effects {
        let account = |at: &usize| match address(*at) {
            Address::Solana(address) => AccountUse { address, writable: true },
            other => panic!("{other}"),
        };
        let call = |used: &Use| ProgramCall {
            program: account(&used.program).address,
            accounts: used.accounts.iter().map(account).collect(),
            data: used.data.clone().into(),
            explained: used.explained,
        };
        let transfer = |(at, to, amount): &(usize, usize, u64)| {
            let (asset, amount) = (asset(*at), Amount::from_lamports(*amount));
            Transfer { asset, from: address(OWN), to: address(*to), amount }
        };
        let allowance = |(spender, amount): &(usize, u64)| {
            let (asset, amount) = (asset(1), Amount::from_lamports(*amount));
            Allowance { asset, spender: address(*spender), amount }
        };
        Effects {
            transfers: self.transfers.iter().map(transfer).collect(),
            allowances: self.allowances.iter().map(allowance).collect(),
            programs: self.uses.iter().map(call).collect(),
            proceeds: self.proceeds.iter().map(|to| Proceeds { to: address(*to) }).collect(),
            max_fee: Amount::from_lamports(self.fee),
            ..nothing()
        }
    }

    pub fn asker(&self) -> signer::roster::CredentialId {
        initiator(self.initiator)
    }
}

impl Use {
    /// An instruction that a form of the rule permits or nearly does, or any.
    fn some(random: &mut Random, rule: &Rule) -> Self {
        let form = if rule.programs.is_empty() {
            Form::some(random)
        } else {
            rule.programs[random.below(rule.programs.len())].clone()
        };
        let least = form.accounts.iter().map(|(at, _)| at + 1).max().unwrap_or(0);
        let more = if random.one_in(3) { 1 } else { 0 };
        let account = |random: &mut Random, at: usize| match form.accounts.iter().find(|(place, _)| *place == at) {
            Some(_) if random.one_in(8) => random.below(ALL),
            Some((_, Demand::OneOf(some))) => one_of(random, some),
            Some((_, Demand::Wallet)) => OWN,
            Some((_, Demand::WalletToken)) => one_of(random, &OWN_TOKENS),
            None => random.below(ALL),
        };
        let mut data = BEGINNINGS[one_of(random, &form.beginnings)].to_vec();
        data.extend((0..random.below(3)).map(|_| if random.one_in(2) { 2 } else { 7 }));
        Self {
            program: if random.one_in(8) { one_of(random, &PROGRAMS) } else { form.program },
            data: if random.one_in(12) { Vec::new() } else { data },
            accounts: (0..least + more).map(|at| account(random, at)).collect(),
            explained: random.one_in(6),
        }
    }
}
