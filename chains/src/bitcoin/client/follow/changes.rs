//! What a follower learns, as it is stored: bdk_chain's changesets in JSON, one blob after the other.

use std::collections::BTreeSet;

use bdk_chain::local_chain::{self, LocalChain};
use bdk_chain::{ConfirmationBlockTime, Merge, indexed_tx_graph, tx_graph};
use bitcoin::ScriptBuf;
use bitcoin::constants::genesis_block;
use serde::{Deserialize, Serialize};

use super::Follower;

/// Why stored changes can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// They can't be read.
    #[error("change {index} of the followed chain can't be read: {reason}; drop all of them to follow the chain anew")]
    Malformed {
        /// Its place, from 0.
        index: usize,
        /// What is wrong.
        reason: serde_json::Error,
    },
    /// They are of another network.
    #[error("the stored changes of the followed chain are of another network")]
    WrongNetwork,
}

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) scripts: BTreeSet<ScriptBuf>,
    pub(super) birthday: u32,
}

/// What was learned between two blobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Changes {
    /// 0 for the first one, which has the origin. A blob that is missing can't be told from the others otherwise, and a
    /// payment with it.
    sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    pub(super) chain: local_chain::ChangeSet,
    pub(super) graph: tx_graph::ChangeSet<ConfirmationBlockTime>,
}

impl Changes {
    pub(super) fn first(origin: Origin, chain: local_chain::ChangeSet) -> Self {
        Self { sequence: 0, origin: Some(origin), chain, graph: tx_graph::ChangeSet::default() }
    }

    fn after(sequence: u64) -> Self {
        let chain = local_chain::ChangeSet::default();
        Self { sequence: sequence.saturating_add(1), origin: None, chain, graph: tx_graph::ChangeSet::default() }
    }

    fn is_empty(&self) -> bool {
        self.origin.is_none() && self.chain.is_empty() && self.graph.is_empty()
    }
}

impl Follower {
    /// What was learned since the last call.
    pub(in crate::bitcoin::client) fn take_changes(&mut self) -> Option<Vec<u8>> {
        if self.staged.is_empty() {
            return None;
        }
        // Maps with keys of strings and numbers, and no failing serializer: JSON holds them all.
        let blob = serde_json::to_vec(&self.staged).ok()?;
        self.staged = Changes::after(self.staged.sequence);
        Some(blob)
    }

    /// Takes up what an earlier follower learned, where that is all that this one needs to know.
    pub(in crate::bitcoin::client) fn restore(&mut self, blobs: &[Vec<u8>]) -> Result<(), RestoreError> {
        let mut merged: Option<Changes> = None;
        for (index, blob) in blobs.iter().enumerate() {
            let changes: Changes =
                serde_json::from_slice(blob).map_err(|reason| RestoreError::Malformed { index, reason })?;
            merged = match (merged, changes) {
                (_, first @ Changes { sequence: 0, origin: Some(_), .. }) => Some(first),
                (Some(mut all), next) if next.sequence == all.sequence.saturating_add(1) => {
                    all.sequence = next.sequence;
                    all.chain.merge(next.chain);
                    all.graph.merge(next.graph);
                    Some(all)
                }
                _ => None,
            };
        }
        let Some(Changes { sequence, origin: Some(known), chain, graph }) = merged else {
            return Ok(());
        };
        if !self.origin.scripts.is_subset(&known.scripts) || known.birthday > self.origin.birthday {
            tracing::warn!(birthday = self.origin.birthday, "other wallets than before: following the chain anew");
            return Ok(());
        }
        let chain = LocalChain::from_changeset(chain).map_err(|_| RestoreError::WrongNetwork)?;
        if chain.genesis_hash() != genesis_block(self.network).block_hash() {
            return Err(RestoreError::WrongNetwork);
        }
        let mut restored = Self::new(self.network, known.scripts, known.birthday);
        restored.clock = graph.last_seen.values().chain(graph.last_evicted.values()).copied().max().unwrap_or(0);
        restored.chain = chain;
        restored.graph.apply_changeset(indexed_tx_graph::ChangeSet { tx_graph: graph, indexer: () });
        restored.staged = Changes::after(sequence);
        *self = restored;
        Ok(())
    }
}
