//! Names of the parts of a simulated world: chains, their nodes, and the links between these.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A simulated chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainKind {
    /// Bitcoin's regtest.
    Bitcoin,
    /// Ethereum.
    Ethereum,
    /// Solana.
    Solana,
}

impl ChainKind {
    /// The chain's name, in small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Ethereum => "ethereum",
            Self::Solana => "solana",
        }
    }
}

impl fmt::Display for ChainKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A node's place among those of its chain, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeIndex(pub u16);

impl fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node of a world. Displayed as `bitcoin/0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// Its chain.
    pub chain: ChainKind,
    /// Its place there.
    pub index: NodeIndex,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.chain, self.index)
    }
}

/// The way from one node to another. The way back is a link of its own. Displayed as `bitcoin/0>1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The nodes' chain.
    pub chain: ChainKind,
    /// Who sends.
    pub from: NodeIndex,
    /// Who receives.
    pub to: NodeIndex,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}>{}", self.chain, self.from, self.to)
    }
}
