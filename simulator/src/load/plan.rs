//! Orders: payments with their moments, drawn from the seed before the first of them is sent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::seed::{Draw, Seed};
use crate::topology::ChainKind;

/// Most orders that one plan holds.
pub const MOST_ORDERS: u64 = 1_000_000;

/// What kind of payment an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Of the chain's own coin.
    Transfer,
    /// Of a token.
    Token,
    /// A call of a contract.
    Call,
}

impl Kind {
    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Token => "token",
            Self::Call => "call",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many of each kind, as weights. A kind that a chain doesn't have (tokens on Bitcoin, calls on Bitcoin and Solana) counts as
/// transfers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Transfers of the chain's own coin.
    #[serde(default)]
    pub transfers: u32,
    /// Transfers of tokens.
    #[serde(default)]
    pub tokens: u32,
    /// Calls of contracts.
    #[serde(default)]
    pub calls: u32,
}

impl Default for Mix {
    /// Transfers only.
    fn default() -> Self {
        Self { transfers: 1, tokens: 0, calls: 0 }
    }
}

/// A text that is no mix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mix; write transfers=70,tokens=20,calls=10 with at least one weight above 0")]
pub struct MixError(String);

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let wrong = || MixError(text.chars().take(60).collect());
        let mut mix = Self { transfers: 0, tokens: 0, calls: 0 };
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or_else(wrong)?;
            let weight = weight.trim().parse().map_err(|_| wrong())?;
            match name.trim() {
                "transfers" => mix.transfers = weight,
                "tokens" => mix.tokens = weight,
                "calls" => mix.calls = weight,
                _ => return Err(wrong()),
            }
        }
        if mix.sum() == 0 { Err(wrong()) } else { Ok(mix) }
    }
}

impl Mix {
    /// All weights together.
    pub fn sum(self) -> u64 {
        u64::from(self.transfers).saturating_add(self.tokens.into()).saturating_add(self.calls.into())
    }

    /// The same with what `chain` doesn't have counted as transfers.
    fn on(self, chain: ChainKind) -> Self {
        let (mut mix, tokens, calls) = (self, chain != ChainKind::Bitcoin, chain == ChainKind::Ethereum);
        if !tokens {
            mix.transfers = mix.transfers.saturating_add(mix.tokens);
            mix.tokens = 0;
        }
        if !calls {
            mix.transfers = mix.transfers.saturating_add(mix.calls);
            mix.calls = 0;
        }
        mix
    }

    fn draw(self, draw: &mut Draw) -> Kind {
        let point = draw.below(self.sum());
        let transfers = u64::from(self.transfers);
        if point < transfers {
            Kind::Transfer
        } else if point < transfers.saturating_add(self.tokens.into()) {
            Kind::Token
        } else {
            Kind::Call
        }
    }
}

/// Payments on one chain at a steady rate for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// The chain.
    pub chain: ChainKind,
    /// So many payments a minute.
    pub per_minute: u32,
    /// When it begins, in milliseconds.
    #[serde(default)]
    pub from_ms: u64,
    /// How long it lasts, in milliseconds.
    pub for_ms: u64,
    /// Of which kinds.
    #[serde(default)]
    pub mix: Mix,
}

impl Wave {
    /// How many payments it has: the rate times the time, rounded up.
    pub fn len(&self) -> u64 {
        u64::from(self.per_minute).saturating_mul(self.for_ms).div_ceil(60_000)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When it is over, in milliseconds.
    pub fn end_ms(&self) -> u64 {
        self.from_ms.saturating_add(self.for_ms)
    }
}

/// One payment that is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its place among all, from 0.
    pub number: u32,
    /// When it is to be asked for, in milliseconds since the load began.
    pub at_ms: u64,
    /// The chain.
    pub chain: ChainKind,
    /// The kind.
    pub kind: Kind,
    /// The idempotency key.
    pub key: String,
    /// How much, in the asset's base units.
    pub amount: u64,
    /// 32 random bytes that a payee is made of, or chosen by.
    #[serde(with = "hex::serde")]
    pub payee: [u8; 32],
}

/// All payments of these waves in the order of their moments. Within a wave the moments are independent and equally likely, which is a
/// Poisson process whose number of arrivals is known. `run` is what the keys begin with.
pub fn orders(seed: Seed, run: &str, waves: &[Wave]) -> Vec<Order> {
    let mut orders = Vec::new();
    for (at, wave) in waves.iter().enumerate() {
        let stream = seed.stream(format_args!("load/{at}/{}", wave.chain));
        let mix = wave.mix.on(wave.chain);
        for number in 0..wave.len().min(MOST_ORDERS) {
            let mut draw = stream.draw(number);
            let at_ms = wave.from_ms.saturating_add(draw.below(wave.for_ms));
            let kind = mix.draw(&mut draw);
            let (least, span) = amounts(wave.chain, kind);
            let amount = least.saturating_add(draw.below(span));
            let mut payee = [0; 32];
            for chunk in payee.chunks_mut(8) {
                chunk.copy_from_slice(&draw.word().to_be_bytes());
            }
            orders.push(Order { number: 0, at_ms, chain: wave.chain, kind, key: String::new(), amount, payee });
        }
    }
    orders.sort_by_key(|order| (order.at_ms, order.chain, order.payee));
    for (number, order) in (0_u32..).zip(&mut orders) {
        order.number = number;
        order.key = format!("{run}-{number:06}");
    }
    orders
}

/// The least amount of a kind in base units, and how many amounts there are from there on. Above Bitcoin's dust limit and the rent of a
/// Solana account, and little enough that a wallet's funds last.
const fn amounts(chain: ChainKind, kind: Kind) -> (u64, u64) {
    match (chain, kind) {
        (_, Kind::Token | Kind::Call) => (1_000, 9_000),
        (ChainKind::Bitcoin, Kind::Transfer) => (10_000, 10_000),
        (ChainKind::Ethereum, Kind::Transfer) => (1_000_000_000_000, 1_000_000_000_000),
        (ChainKind::Solana, Kind::Transfer) => (1_000_000, 1_000_000),
    }
}

/// A short name of a set of orders: the first bytes of the SHA-256 of all of them. Equal sets have equal names.
pub fn digest(orders: &[Order]) -> String {
    let mut hash = Sha256::new();
    for order in orders {
        let Order { at_ms, chain, kind, key, amount, payee, .. } = order;
        hash.update(format!("{at_ms} {chain} {kind} {key} {amount} {}\n", hex::encode(payee)));
    }
    hex::encode(hash.finalize().get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wave(chain: ChainKind, per_minute: u32, from_ms: u64, for_ms: u64) -> Wave {
        Wave { chain, per_minute, from_ms, for_ms, mix: "transfers=7,tokens=2,calls=1".parse().unwrap() }
    }

    #[test]
    fn one_seed_gives_one_plan() {
        let waves = [wave(ChainKind::Ethereum, 600, 0, 20_000), wave(ChainKind::Solana, 60, 5_000, 30_000)];
        let plan = orders(Seed(7), "run", &waves);
        assert_eq!(plan, orders(Seed(7), "run", &waves));
        assert_eq!(digest(&plan), digest(&orders(Seed(7), "run", &waves)));
        let other = orders(Seed(8), "run", &waves);
        assert_ne!(digest(&plan), digest(&other));
        assert!(plan.iter().zip(&other).all(|(a, b)| a.payee != b.payee));
        assert_eq!(plan.len(), 200 + 30);
    }

    #[test]
    fn chains_have_only_their_kinds() {
        let of = |chain| orders(Seed(1), "run", &[wave(chain, 6_000, 0, 10_000)]);
        assert!(of(ChainKind::Bitcoin).iter().all(|order| order.kind == Kind::Transfer));
        assert!(of(ChainKind::Solana).iter().all(|order| order.kind != Kind::Call));
        let calls = of(ChainKind::Ethereum).iter().filter(|order| order.kind == Kind::Call).count();
        assert!((50..200).contains(&calls), "{calls} of 1000 at 1 in 10");
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for wrong in ["", "transfers", "transfers=x", "transfers=0", "gifts=1", "transfers=1;tokens=2", "tokens=-1"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
        assert_eq!("tokens=3".parse::<Mix>().unwrap(), Mix { transfers: 0, tokens: 3, calls: 0 });
    }

    proptest! {
        #[test]
        fn moments_are_within_their_wave_and_sorted(rate in 1..5_000_u32, from in 0..100_000_u64, long in 1..60_000_u64) {
            let wave = wave(ChainKind::Ethereum, rate, from, long);
            let plan = orders(Seed(3), "run", std::slice::from_ref(&wave));
            prop_assert_eq!(u64::try_from(plan.len()).unwrap(), wave.len());
            prop_assert!(plan.iter().all(|order| (from..from + long).contains(&order.at_ms)));
            prop_assert!(plan.is_sorted_by_key(|order| order.at_ms));
            let keys: std::collections::BTreeSet<_> = plan.iter().map(|order| &order.key).collect();
            prop_assert_eq!(keys.len(), plan.len());
        }
    }
}
