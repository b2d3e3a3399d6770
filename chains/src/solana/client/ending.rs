//! The end of a message that can't be included any more: whether it was, under another signature.
//!
//! A transaction's id is its signature, and signatures that several signers make together are randomised (RFC 9591). A signer that
//! keeps a second one over the same message can send it: the payment is made, and no node has a status for the id that is
//! known here. So [`Status::Expired`] takes more than that there is no status:
//! - under a durable nonce, the transaction that used up its value. There is one at most, so where that is another, this one never was;
//! - under a blockhash, all that the payer has in the blocks that could include it. The node must have kept every one
//!   of them: a ledger begins later where the node was restored from a snapshot, or has a gap.

use std::ops::RangeInclusive;

use serde_json::json;
use solana_sdk::hash::Hash;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::transaction::VersionedTransaction;

use super::answer::{Block, EpochInfo, SignatureOf, Transaction, WithContext};
use super::{FINALIZED, SolanaClient, malformed};
use crate::amount::Amount;
use crate::client::{Inclusion, Status};
use crate::rpc::RpcError;
use crate::solana::Signed;
use crate::solana::nonce::{Nonce, Validity};
use crate::solana::wire;

/// By how many blocks `lastValidBlockHeight` is above the block of the blockhash: agave's `MAX_PROCESSING_AGE`. The block after that
/// height still takes it, as its own is not counted.
const MAX_AGE: u64 = 150;

/// From the block of the blockhash to the last one that can include the message, both counted.
const WINDOW: u64 = MAX_AGE + 2;

/// How often the slot of a block whose height is known is guessed better. What a guess is off by is the number of slots without a
/// block that lie between, so each is off by a small part of the one before.
const GUESSES: usize = 16;

/// The most signatures that a node lists at once (agave: `MAX_GET_CONFIRMED_SIGNATURES_FOR_ADDRESS2_LIMIT`).
const PAGE: usize = 1_000;

/// How many pages of signatures are looked through.
const PAGES: usize = 5;

/// How many transactions are read to find one.
const MOST_READ: usize = 256;

/// What final blocks show of a message that they can't include any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lapsed {
    /// Its blockhash is too old for the block after this one.
    Blockhash { blockhash: Hash, last_valid_block_height: u64, tip: EpochInfo },
    /// Its nonce has another value at this slot.
    Nonce { nonce: Nonce, slot: u64 },
}

impl Lapsed {
    /// The slot of the block that shows it.
    pub(super) const fn slot(&self) -> u64 {
        match self {
            Self::Blockhash { tip, .. } => tip.absolute_slot,
            Self::Nonce { slot, .. } => *slot,
        }
    }
}

/// A transaction of the ledger.
struct Found {
    slot: u64,
    failure: Option<String>,
    fee: Option<Amount>,
    transaction: VersionedTransaction,
}

/// What a node tells of a transaction that it has listed.
enum Read {
    Told(Box<Found>),
    /// It is of a version in which the adapter makes none.
    Foreign,
    Untold,
}

impl SolanaClient {
    /// Whether final blocks show that the message's validity has passed.
    pub(super) async fn lapsed(&self, signed: &Signed) -> Result<Option<Lapsed>, RpcError> {
        match *signed.validity() {
            Validity::Blockhash { blockhash, last_valid_block_height } => {
                let tip: EpochInfo = self.call("getEpochInfo", json!([{ "commitment": FINALIZED }])).await?;
                let lapsed = Lapsed::Blockhash { blockhash, last_valid_block_height, tip };
                Ok((tip.block_height > last_valid_block_height).then_some(lapsed))
            }
            Validity::Nonce(nonce) => {
                let slot = self.moved_on(&payer(signed), &nonce).await?;
                Ok(slot.map(|slot| Lapsed::Nonce { nonce, slot }))
            }
        }
    }

    /// What has become of a message that can't be included any more, and of whose own signature the node knows nothing.
    pub(super) async fn ending(&self, signed: &Signed, lapsed: &Lapsed) -> Result<Status, RpcError> {
        match lapsed {
            Lapsed::Blockhash { blockhash, last_valid_block_height, tip } => {
                match self.window(blockhash, *last_valid_block_height, tip).await? {
                    Some(window) => self.ending_in(signed, window, tip.absolute_slot).await,
                    None => Ok(Status::Unknown),
                }
            }
            Lapsed::Nonce { nonce, slot } => self.ending_under(signed, nonce, *slot).await,
        }
    }

    /// Looks for the message in all that its payer has in the blocks that could include it.
    async fn ending_in(&self, signed: &Signed, window: RangeInclusive<u64>, tip: u64) -> Result<Status, RpcError> {
        let listed = self.listed(&payer(signed), *window.start(), tip).await?;
        let mut complete = listed.is_some();
        let inside = listed.unwrap_or_default().into_iter().filter(|one| window.contains(&one.slot));
        for (count, one) in inside.enumerate() {
            if count == MOST_READ {
                complete = false;
                break;
            }
            match self.read(&one).await? {
                Read::Told(found) if found.has_message_of(signed) => return found.included(tip),
                Read::Told(_) | Read::Foreign => {}
                Read::Untold => complete = false,
            }
        }
        // Asked last: what the node still has, it had when it listed.
        match (self.reaches_back(*window.start()).await?, complete) {
            (false, _) => Ok(Status::Unknown),
            (true, false) => Ok(Status::SlotUsed),
            (true, true) => Ok(Status::Expired),
        }
    }

    /// Looks for what used up the nonce's value.
    async fn ending_under(&self, signed: &Signed, nonce: &Nonce, tip: u64) -> Result<Status, RpcError> {
        let listed = self.listed(&nonce.account, nonce.seen_at, tip).await?.unwrap_or_default();
        for one in listed.iter().take(MOST_READ) {
            let Read::Told(found) = self.read(one).await? else { continue };
            if found.has_message_of(signed) {
                return found.included(tip);
            }
            if nonce.is_used_by(&found.transaction.message) {
                found.require_signatures()?;
                return Ok(Status::Expired);
            }
        }
        Ok(if self.reaches_back(nonce.seen_at).await? { Status::SlotUsed } else { Status::Unknown })
    }

    /// The slots of the block of `blockhash` and of the last one that can include what is under it. `None` where the node can't show
    /// all blocks from one to the other.
    async fn window(
        &self,
        blockhash: &Hash,
        last_valid_block_height: u64,
        tip: &EpochInfo,
    ) -> Result<Option<RangeInclusive<u64>>, RpcError> {
        let Some(born) = last_valid_block_height.checked_sub(MAX_AGE) else { return Ok(None) };
        // So many blocks before the tip are at least as many slots: the block is never later than a guess.
        let above = tip.block_height.checked_sub(born);
        let mut guess = above.and_then(|above| tip.absolute_slot.checked_sub(above));
        for _ in 0..GUESSES {
            let Some(from) = guess else { return Ok(None) };
            let slots = self.final_slots(from).await?;
            let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return Ok(None) };
            let Some(block) = self.final_block(*first).await? else { return Ok(None) };
            let Some(above) = block.block_height.and_then(|height| height.checked_sub(born)) else { return Ok(None) };
            if above > 0 {
                guess = from.checked_sub(above);
                continue;
            }
            // Heights count blocks: where as many are listed as lie between two heights, none is missing.
            let height = self.final_block(*last).await?.and_then(|block| block.block_height);
            let all = u64::try_from(slots.len()) == Ok(WINDOW) && height == born.checked_add(WINDOW - 1);
            if !all {
                return Ok(None);
            }
            if block.blockhash == blockhash.to_string() {
                return Ok(Some(*first..=*last));
            }
            // Its fork was given up, or the height is a lie of the node that told it.
            let gone = self.is_gone(blockhash, tip.absolute_slot).await?;
            return Ok(gone.then_some(*first..=tip.absolute_slot));
        }
        Ok(None)
    }

    /// The slots of the next [`WINDOW`] final blocks from `from` on. None where the node can't tell.
    async fn final_slots(&self, from: u64) -> Result<Vec<u64>, RpcError> {
        let config = json!({ "commitment": FINALIZED });
        let slots = told(self.call("getBlocksWithLimit", json!([from, WINDOW, config])).await)?;
        Ok(slots.unwrap_or_default())
    }

    async fn final_block(&self, slot: u64) -> Result<Option<Block>, RpcError> {
        let config = json!({
            "commitment": FINALIZED, "transactionDetails": "none", "rewards": false, "maxSupportedTransactionVersion": 0,
        });
        told(self.call::<Option<Block>>("getBlock", json!([slot, config])).await).map(Option::flatten)
    }

    /// Whether `blockhash` is valid neither for final blocks nor for the newest ones. Both are asked for: a blockhash that is
    /// not final yet isn't valid for final blocks either.
    async fn is_gone(&self, blockhash: &Hash, least: u64) -> Result<bool, RpcError> {
        for commitment in [FINALIZED, "processed"] {
            let config = json!({ "commitment": commitment, "minContextSlot": least });
            let answer: Option<WithContext<bool>> =
                told(self.call("isBlockhashValid", json!([blockhash.to_string(), config])).await)?;
            if answer.is_none_or(|answer| answer.value) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The final transactions that name `account`, from slot `first` on, oldest first, as a node lists them that has the final block of
    /// slot `least`. `None` where there are too many, or the node has no such list.
    async fn listed(&self, account: &Pubkey, first: u64, least: u64) -> Result<Option<Vec<SignatureOf>>, RpcError> {
        let mut found = Vec::new();
        let mut before: Option<String> = None;
        for _ in 0..PAGES {
            let mut config = json!({ "commitment": FINALIZED, "limit": PAGE, "minContextSlot": least });
            if let (Some(before), Some(config)) = (before.take(), config.as_object_mut()) {
                config.insert("before".to_owned(), json!(before));
            }
            let params = json!([account.to_string(), config]);
            let page: Option<Vec<SignatureOf>> = told(self.call("getSignaturesForAddress", params).await)?;
            let Some(page) = page else { return Ok(None) };
            // Nodes may list fewer at once than they are asked for: only an older one, or none, is the end.
            let ended = page.last().is_none_or(|oldest| oldest.slot < first);
            before = page.last().map(|oldest| oldest.signature.clone());
            found.extend(page.into_iter().filter(|one| one.slot >= first));
            if ended {
                found.reverse();
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn read(&self, listed: &SignatureOf) -> Result<Read, RpcError> {
        const METHOD: &str = "getTransaction";
        /// Agave's code for a transaction of a higher version than was asked for.
        const UNSUPPORTED_TRANSACTION_VERSION: i64 = -32_015;
        let config = json!({
            "encoding": "base64", "commitment": FINALIZED, "maxSupportedTransactionVersion": 0,
        });
        let answer = self.call::<Option<Transaction>>(METHOD, json!([listed.signature, config])).await;
        if matches!(answer, Err(RpcError::Node { code: UNSUPPORTED_TRANSACTION_VERSION, .. })) {
            return Ok(Read::Foreign);
        }
        let Some(found) = told(answer)?.flatten() else { return Ok(Read::Untold) };
        let transaction: VersionedTransaction =
            bincode::deserialize(&found.transaction).map_err(|e| malformed(METHOD, e.to_string()))?;
        if transaction.signatures.first().map(ToString::to_string).as_deref() != Some(&listed.signature) {
            return Err(malformed(METHOD, format!("another transaction than {}", listed.signature)));
        }
        Ok(Read::Told(Box::new(Found {
            slot: listed.slot,
            failure: listed.err.as_ref().map(ToString::to_string),
            fee: found.meta.map(|meta| Amount::from_lamports(meta.fee)),
            transaction,
        })))
    }

    /// Whether the node's ledger begins at `slot` or before.
    async fn reaches_back(&self, slot: u64) -> Result<bool, RpcError> {
        let first: Option<u64> = told(self.call("getFirstAvailableBlock", json!([])).await)?;
        Ok(first.is_some_and(|first| first <= slot))
    }
}

impl Found {
    fn has_message_of(&self, signed: &Signed) -> bool {
        self.transaction.message.serialize() == signed.transaction().message.serialize()
    }

    /// Makes sure that those whom it names as signers have signed it: a node can't invent what decides.
    fn require_signatures(&self) -> Result<(), RpcError> {
        wire::verify(&self.transaction).map_err(|e| malformed("getTransaction", e.to_string()))
    }

    /// That the message is in a final block, seen from slot `tip`.
    fn included(self, tip: u64) -> Result<Status, RpcError> {
        self.require_signatures()?;
        Ok(Status::Included(Inclusion {
            height: self.slot,
            block: None,
            confirmations: tip.saturating_sub(self.slot).saturating_add(1),
            finalized: true,
            succeeded: self.failure.is_none(),
            failure: self.failure,
            fee: self.fee,
        }))
    }
}

/// Who pays for the transaction: its first signer.
fn payer(signed: &Signed) -> Pubkey {
    signed.transaction().message.static_account_keys().first().copied().unwrap_or_default()
}

/// The answer; `None` where the node says itself that it can't give one: it keeps no history, or not that long.
fn told<T>(answer: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
    match answer {
        Err(error @ RpcError::Node { .. }) => {
            tracing::debug!(%error, "the node can't tell how a payment ended");
            Ok(None)
        }
        answer => answer.map(Some),
    }
}
