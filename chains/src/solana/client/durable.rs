//! Durable nonces as a node tells them: a free one to pay under, and whether one has moved on.

use std::collections::BTreeSet;

use serde_json::json;
use solana_sdk::hash::Hash;
use solana_sdk::pubkey::Pubkey;

use super::answer::{Block, SignatureOf};
use super::{CONFIRMED, Durable, FINALIZED, SolanaClient, malformed};
use crate::chain::{BuildError, Chain, Slot};
use crate::client::StateError;
use crate::rpc::RpcError;
use crate::solana::nonce::{self, Nonce, Validity, nonce_accounts};

/// How many of the transactions that name a nonce account are looked at to find the one that advanced it last. Only the
/// wallet's own advance it, but anybody can name it.
const HISTORY: usize = 64;

/// In how many blocks, at most, they are looked for.
const HISTORY_BLOCKS: usize = 8;

impl SolanaClient {
    /// What a payment is made under: a durable nonce that nothing in `busy` uses, or the latest blockhash.
    pub(super) async fn validity(&self, payer: &Pubkey, busy: &BTreeSet<Slot>) -> Result<Validity, StateError> {
        if self.options.durable != Durable::Never
            && let Some(nonce) = self.free_nonce(payer, busy).await?
        {
            return Ok(Validity::Nonce(nonce));
        }
        if self.options.durable == Durable::Require {
            return Err(BuildError::NoNonce.into());
        }
        Ok(self.latest_blockhash().await?)
    }

    async fn free_nonce(&self, payer: &Pubkey, busy: &BTreeSet<Slot>) -> Result<Option<Nonce>, RpcError> {
        let accounts = nonce_accounts(payer);
        let (seen_at, found) = self.accounts_at(accounts, CONFIRMED, None).await?;
        for (account, found) in accounts.into_iter().zip(found) {
            let Some(value) = found.and_then(|found| nonce::value(&found.owner, &found.data, payer)) else { continue };
            if busy.contains(&Slot::new(self.chain.network(), Nonce::slot_text(&account, &value))) {
                continue;
            }
            if let Some(origin) = self.origin(&account, &value).await? {
                return Ok(Some(Nonce { account, value, origin, seen_at }));
            }
        }
        Ok(None)
    }

    /// The blockhash from which the account's value derives: the one before the block in which it was advanced. A node
    /// that keeps too little history can't tell; then the account is of no use for the time being.
    async fn origin(&self, account: &Pubkey, value: &Hash) -> Result<Option<Hash>, RpcError> {
        match self.search_origin(account, value).await {
            Err(error @ RpcError::Node { .. }) => {
                tracing::warn!(%error, %account, "the node doesn't tell when the durable nonce was advanced");
                Ok(None)
            }
            answer => answer,
        }
    }

    async fn search_origin(&self, account: &Pubkey, value: &Hash) -> Result<Option<Hash>, RpcError> {
        const METHOD: &str = "getBlock";
        let config = json!({ "commitment": CONFIRMED, "limit": HISTORY });
        let history: Vec<SignatureOf> =
            self.call("getSignaturesForAddress", json!([account.to_string(), config])).await?;
        let mut slots: Vec<u64> = history.into_iter().map(|one| one.slot).collect();
        slots.dedup();
        for slot in slots.into_iter().take(HISTORY_BLOCKS) {
            let config = json!({
                "commitment": CONFIRMED, "transactionDetails": "none", "rewards": false,
                "maxSupportedTransactionVersion": 0,
            });
            let Some(block) = self.call::<Option<Block>>(METHOD, json!([slot, config])).await? else { continue };
            let previous =
                block.previous_blockhash.parse().map_err(|e| malformed(METHOD, format!("previousBlockhash: {e}")))?;
            if nonce::derives(value, &previous) {
                return Ok(Some(previous));
            }
        }
        Ok(None)
    }

    /// Makes sure that the nonce still has its value, as far as the node's confirmed blocks tell.
    pub(super) async fn require_unmoved(&self, payer: &Pubkey, nonce: &Nonce) -> Result<(), StateError> {
        // A node that is behind would show the value before this one.
        let (_, [found]) = self.accounts_at([nonce.account], CONFIRMED, Some(nonce.seen_at)).await?;
        match found.and_then(|found| nonce::value(&found.owner, &found.data, payer)) {
            Some(value) if value == nonce.value => Ok(()),
            _ => Err(BuildError::NotReplaceable("the nonce has moved on; one of the attempts may be included").into()),
        }
    }

    /// The slot at which final blocks show that the nonce has another value than it had, if they do: what is under the old one
    /// is included by then or never. An account that isn't there, or isn't read, proves nothing.
    pub(super) async fn moved_on(&self, payer: &Pubkey, nonce: &Nonce) -> Result<Option<u64>, RpcError> {
        let (slot, [found]) = self.accounts_at([nonce.account], FINALIZED, None).await?;
        let value = found.and_then(|found| nonce::value(&found.owner, &found.data, payer));
        // Final blocks before the one in which the value was seen show an earlier value.
        let moved = slot >= nonce.seen_at && value.is_some_and(|value| value != nonce.value);
        Ok(moved.then_some(slot))
    }
}
