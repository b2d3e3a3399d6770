//! Transactions at random, and their effects.

use chains::address::Address;
use chains::amount::Amount;
use chains::effects::{Allowance, Call, Effects, Proceeds, Transfer};

use super::names::*;
use super::random::Random;
use super::table::Table;

#[derive(Clone, Debug)]
pub enum Arguments {
    /// Not the function's.
    Garbage,
    /// The function's, and a word behind them, which contracts pass over.
    Tailed(Vec<usize>, u64),
    Of(Vec<usize>, u64),
}

#[derive(Clone, Debug)]
pub struct Pays {
    pub asset: usize,
    pub from: usize,
    pub to: usize,
    pub amount: u64,
}

#[derive(Clone, Debug)]
pub struct Grants {
    pub token: usize,
    pub to: usize,
    pub amount: u128,
    pub unlimited: bool,
}

#[derive(Clone, Debug)]
pub struct Calls {
    pub contract: usize,
    pub function: usize,
    pub arguments: Arguments,
    pub value: u64,
}

#[derive(Clone, Debug)]
pub struct Tx {
    pub wallet: usize,
    pub initiator: usize,
    pub at: u64,
    /// Whether it is a leg of a deal.
    pub deal: bool,
    pub transfers: Vec<Pays>,
    pub allowances: Vec<Grants>,
    pub calls: Vec<Calls>,
    pub proceeds: Vec<usize>,
    pub fee: u64,
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
            deal: random.one_in(2),
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
                    let contracts: Vec<usize> = rule.contracts.iter().map(|contract| contract.at).collect();
                    let contract = if contracts.is_empty() {
                        CONTRACTS[random.below(2)]
                    } else {
                        contracts[random.below(contracts.len())]
                    };
                    let function = random.below(FUNCTIONS.len());
                    let addresses = (0..FUNCTIONS[function].2).map(|_| random.below(ADDRESSES + 1)).collect();
                    let arguments = match random.below(16) {
                        0 | 1 => Arguments::Garbage,
                        2 | 3 => Arguments::Tailed(addresses, random.number(8)),
                        _ => Arguments::Of(addresses, random.number(8)),
                    };
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

pub fn nothing() -> Effects {
    Effects::default()
}

pub fn call(contract: usize, function: usize, arguments: &Arguments, value: u64) -> Call {
    let evm = |at: usize| match address(at) {
        Address::Ethereum(address) => address,
        other => panic!("{other}"),
    };
    let bytes = match arguments {
        Arguments::Garbage => vec![7; 5],
        Arguments::Of(addresses, number) | Arguments::Tailed(addresses, number) => {
            let mut bytes: Vec<u8> =
                addresses.iter().flat_map(|at| [&[0; 12][..], evm(*at).as_slice()].concat()).collect();
            if !addresses.is_empty() {
                bytes.extend(Amount::from_sat(*number).to_be_bytes());
            }
            if let Arguments::Tailed(..) = arguments {
                bytes.extend([0; 32]);
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
