//! What code a contract must have: the hash of it, which a rule may name.
//!
//! A contract whose code can be exchanged, by a proxy or by self-destruction, may be another one than was looked at. Only who
//! asks a node can tell, so it is the gateway that holds it: signers see no chain and can't.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chains::account::Account;
use chains::address::Address;
use chains::effects::Effects;
use serde::{Deserialize, Serialize};

use super::Policy;

/// The Keccak-256 of the code that a contract has on chain (`eth_getCode`), `0x` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CodeHash([u8; 32]);

/// A string that is no code's hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hash of a contract's code; write 0x and 64 hexadecimal digits")]
pub struct CodeHashError(String);

/// A contract that has to have some code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeDemand {
    /// The contract.
    pub contract: Address,
    /// The code that it may have, any of these.
    pub code: BTreeSet<CodeHash>,
}

impl CodeHash {
    /// The hash of these bytes.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

/// What the rules that permit the calls of `effects` want to be true of the contracts' code. A call that some rule permits
/// whatever the code is, wants nothing.
pub fn code_demands(policy: &Policy, account: &Account, effects: &Effects) -> BTreeSet<CodeDemand> {
    let (_, permitting) = policy.index.by_effect(&policy.index.of_wallet(account.wallet()));
    let demand = |call| {
        let rules = policy.rules_at(&policy.index.fitting_call(&permitting, call));
        let hashes = rules.into_iter().flat_map(|rule| rule.code_of(account, call));
        let code = hashes.collect::<Option<BTreeSet<CodeHash>>>()?;
        (!code.is_empty()).then_some(code)
    };
    let calls = effects.calls.iter();
    calls
        .filter_map(|call| Some(CodeDemand { contract: Address::Ethereum(call.contract), code: demand(call)? }))
        .collect()
}

impl fmt::Display for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl FromStr for CodeHash {
    type Err = CodeHashError;

    fn from_str(text: &str) -> Result<Self, CodeHashError> {
        let mut hash = [0; 32];
        let digits = text.strip_prefix("0x").unwrap_or_default();
        hex::decode_to_slice(digits, &mut hash)
            .map(|()| Self(hash))
            .map_err(|_| CodeHashError(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for CodeHash {
    type Error = CodeHashError;

    fn try_from(text: String) -> Result<Self, CodeHashError> {
        text.parse()
    }
}

impl From<CodeHash> for String {
    fn from(hash: CodeHash) -> Self {
        hash.to_string()
    }
}
