//! The few things that tables and transactions are made of, each known by its place in a list.

use chains::account::{Account, KeyPath, PublicKey};
use chains::address::{Address, UncheckedAddress};
use chains::asset::Asset;
use chains::network::Network;
use signer::roster::CredentialId;

pub const MINUTE: u64 = 60_000;
pub const DAY: u64 = 24 * 60 * MINUTE;
/// A Monday, 2 November 2026, in UTC.
pub const WEEK: u64 = 20_759 * DAY;

/// The addresses that rules name; the last but one is the wallets' own. One more is named by nothing.
pub const TEXTS: [&str; 6] = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
    "0xde709f2102306220921060314715629080e2fb77",
    "own",
    "0x00000000000000000000000000000000000000f5",
];
pub const ADDRESSES: usize = 5;
pub const OWN: usize = 4;
pub const TOKENS: [usize; 2] = [2, 1];
pub const ASSETS: usize = 3;
pub const CONTRACTS: [usize; 2] = [2, 3];
/// Functions with the number of their addresses; a number follows them, except in the last.
pub const FUNCTIONS: [(&str, [u8; 4], usize); 4] = [
    ("transfer(address,uint256)", [0xa9, 0x05, 0x9c, 0xbb], 1),
    ("approve(address,uint256)", [0x09, 0x5e, 0xa7, 0xb3], 1),
    ("transferFrom(address,address,uint256)", [0x23, 0xb8, 0x72, 0xdd], 2),
    ("poke()", [0x18, 0x17, 0x83, 0x58], 0),
];
pub const ASKERS: [&str; 3] = ["alice", "bob", "somebody-0"];
pub const GROUPS: [&str; 3] = ["finance", "cfo", "ceo"];
pub const WALLETS: [&str; 2] = ["eth", "eth2"];
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Zones whose clocks are never put forward or back, with their hours ahead of UTC.
pub const ZONES: [(&str, u64); 2] = [("UTC", 0), ("Asia/Tokyo", 9)];

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

pub fn address(at: usize) -> Address {
    if at == OWN {
        return account(0).address().clone();
    }
    UncheckedAddress::new(TEXTS[at]).require_network(Network::Ethereum(1)).unwrap()
}

pub fn place_of(of: &Address) -> usize {
    (0..TEXTS.len()).find(|at| address(*at) == *of).unwrap()
}

pub fn asset(at: usize) -> Asset {
    match at {
        0 => Asset::Native,
        token => format!("erc20:{}", TEXTS[TOKENS[token - 1]]).parse().unwrap(),
    }
}
