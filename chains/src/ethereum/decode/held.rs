//! What a router keeps for its next step.
//!
//! Whoever calls the router next can have it swept to themselves. So it has to be handed on in the same call, all of it, to somebody
//! who is named there; else it would be paid to nobody in particular, which can't be told.

use std::collections::BTreeSet;
use std::fmt;

use alloy::primitives::{Address, address};

use super::undecodable;
use crate::chain::DecodeError;

/// The contracts that wrap the coin of their network (Uniswap's sdk-core, `WETH9`, and its deployments' `WETH9` of BNB Chain, Polygon
/// and Avalanche). A router unwraps what it was deployed with, which its calls don't name. None of these is another token elsewhere.
const WRAPPED_COINS: [Address; 7] = [
    // Ethereum
    address!("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"),
    // Sepolia
    address!("0xfFf9976782d46CC05630D1f6eBAb18b2324d6B14"),
    // OP Mainnet, Base, and others of the OP Stack, which have it there from the first block on
    address!("0x4200000000000000000000000000000000000006"),
    // Arbitrum One
    address!("0x82aF49447D8a07e3bd95BD0d56f35241523fBab1"),
    // BNB Chain
    address!("0xbb4CdB9CBd36B01bD1cBaEBF2De08d9173bc095c"),
    // Polygon
    address!("0x0d500B1d8E8eF31E21C99d1Db9A6444d3ADf1270"),
    // Avalanche
    address!("0xB31f66AA3C1e785363F0875A1B74E27b85FD66c7"),
];

/// What routers keep that swaps have bought, as far as the steps of one call have been read.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeSet<Kept>);

/// Something that a router may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    Coin,
    /// The token that the router makes of coin.
    Wrapped,
    Token(Address),
}

impl Kept {
    /// By the token's address; the zero address stands for the coin.
    pub(super) fn of(token: Address) -> Self {
        match token {
            Address::ZERO => Self::Coin,
            wrapped if WRAPPED_COINS.contains(&wrapped) => Self::Wrapped,
            other => Self::Token(other),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coin => f.write_str("coin"),
            Self::Wrapped => f.write_str("wrapped coin"),
            Self::Token(token) => write!(f, "token {token}"),
        }
    }
}

impl Held {
    /// A step leaves it with the router.
    pub(super) fn keep(&mut self, what: Kept) {
        self.0.insert(what);
    }

    /// A step hands on all that there is of it.
    pub(super) fn release(&mut self, what: Kept) {
        self.0.remove(&what);
    }

    /// A step makes one thing of another, perhaps not of all of it. What the router hasn't bought, its caller has paid it, and that is
    /// told.
    pub(super) fn turn(&mut self, from: Kept, to: Kept) {
        if self.0.contains(&from) {
            self.0.insert(to);
        }
    }

    /// # Errors
    /// Where a router is left with something.
    pub(super) fn require_nothing(&self) -> Result<(), DecodeError> {
        match self.0.first() {
            None => Ok(()),
            Some(what) => Err(undecodable(format!(
                "a router that keeps the {what} it buys for whoever calls it next; name the recipient, or have the same call \
                 sweep or unwrap it to one"
            ))),
        }
    }
}
