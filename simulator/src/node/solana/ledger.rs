//! What happened: the blocks of the chain that the node follows, and the transactions in them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use solana_sdk::hash::Hash;
use solana_sdk::inner_instruction::InnerInstructionsList;
use solana_sdk::message::v0::LoadedAddresses;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;
use solana_sdk::transaction::{TransactionError, VersionedTransaction};

use crate::topology::NodeIndex;

/// A slot's number. Slots are time: one may pass without a block.
pub(super) type Slot = u64;

/// How many blocks are below a block.
pub(super) type Height = u64;

/// How old the blockhash of a transaction may be, in blocks, counted from the newest one (agave: `MAX_PROCESSING_AGE`).
pub(super) const MAX_AGE: u64 = 150;

/// The hashes of how many blocks are known by age.
const KEPT_AGES: u64 = MAX_AGE * 4;

/// A block's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockId {
    /// Its slot.
    pub slot: u64,
    /// Its blockhash.
    pub hash: Hash,
}

/// A slot that has a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotInfo {
    pub(super) slot: Slot,
    pub(super) blockhash: Hash,
    /// Milliseconds since the Unix epoch.
    pub(super) millis: u64,
    /// Who made it, where several nodes make up the chain.
    pub(super) leader: Option<NodeIndex>,
}

impl SlotInfo {
    /// The block's name.
    pub(super) const fn id(&self) -> BlockId {
        BlockId { slot: self.slot, hash: self.blockhash }
    }
}

/// A transaction in a block, with its outcome.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) slot: Slot,
    pub(super) transaction: VersionedTransaction,
    /// What its address tables resolved to.
    pub(super) loaded: LoadedAddresses,
    pub(super) outcome: Outcome,
    /// Micro-lamports per compute unit offered.
    pub(super) unit_price: u64,
}

/// What executing a transaction did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) error: Option<TransactionError>,
    /// Lamports.
    pub(super) fee: u64,
    pub(super) logs: Vec<String>,
    pub(super) units_consumed: u64,
    pub(super) inner: InnerInstructionsList,
    /// The program that returned data, and the data.
    pub(super) returned: Option<(Pubkey, Vec<u8>)>,
    /// Lamports of each account before and after.
    pub(super) before: Vec<u64>,
    pub(super) after: Vec<u64>,
    /// Balances of the token accounts among them.
    pub(super) tokens_before: Vec<TokenBalance>,
    pub(super) tokens_after: Vec<TokenBalance>,
}

/// A token account's balance before or after a transaction.
#[derive(Clone, Debug)]
pub(super) struct TokenBalance {
    /// The account's index in the transaction.
    pub(super) index: usize,
    pub(super) mint: Pubkey,
    pub(super) owner: Pubkey,
    pub(super) program: Pubkey,
    /// Base units.
    pub(super) amount: u64,
    pub(super) decimals: u8,
}

impl Executed {
    pub(super) fn signature(&self) -> Signature {
        self.transaction.signatures.first().copied().unwrap_or_default()
    }

    /// All addresses in the order that instructions count them: static, writable loaded, read-only loaded.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Pubkey> {
        all_keys(&self.transaction, &self.loaded)
    }
}

/// All addresses of `transaction`, with what its address tables resolved to.
pub(super) fn all_keys<'a>(
    transaction: &'a VersionedTransaction,
    loaded: &'a LoadedAddresses,
) -> impl Iterator<Item = &'a Pubkey> {
    transaction.message.static_account_keys().iter().chain(&loaded.writable).chain(&loaded.readonly)
}

/// Whether the account at `index` of [`all_keys`] is locked for writing.
pub(super) fn is_writable(transaction: &VersionedTransaction, loaded: &LoadedAddresses, index: usize) -> bool {
    let own = transaction.message.static_account_keys().len();
    match index.checked_sub(own) {
        Some(index) => index < loaded.writable.len(),
        None => transaction.message.is_maybe_writable_with_reserved_addresses(index, None::<&HashSet<Pubkey>>),
    }
}

/// All blocks since genesis.
#[derive(Debug)]
pub(super) struct Ledger {
    /// By height.
    chain: Vec<SlotInfo>,
    /// The slots that have transactions.
    blocks: BTreeMap<Slot, Vec<Arc<Executed>>>,
    transactions: HashMap<Signature, Arc<Executed>>,
    /// Hashes of the messages that were executed: what makes a duplicate.
    messages: HashMap<Hash, Slot>,
    /// Oldest first.
    by_address: HashMap<Pubkey, Vec<Arc<Executed>>>,
    ages: HashMap<Hash, Height>,
}

impl Ledger {
    pub(super) fn new(genesis: SlotInfo) -> Self {
        Self {
            ages: HashMap::from([(genesis.blockhash, 0)]),
            chain: vec![genesis],
            blocks: BTreeMap::new(),
            transactions: HashMap::new(),
            messages: HashMap::new(),
            by_address: HashMap::new(),
        }
    }

    /// The newest slot that has a block.
    pub(super) fn tip(&self) -> Slot {
        self.latest().slot
    }

    /// The newest block's height.
    pub(super) fn height(&self) -> Height {
        u64::try_from(self.chain.len()).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// The newest block.
    pub(super) fn latest(&self) -> SlotInfo {
        *self.chain.last().expect("the genesis block is there from the start and is never taken back")
    }

    /// The block of a slot.
    pub(super) fn slot(&self, slot: Slot) -> Option<SlotInfo> {
        self.at(self.height_of(slot)).filter(|info| info.slot == slot)
    }

    /// The block at a height.
    pub(super) fn at(&self, height: Height) -> Option<SlotInfo> {
        self.chain.get(usize::try_from(height).ok()?).copied()
    }

    /// The slot of the block at a height; the newest where there is none as high.
    pub(super) fn slot_at(&self, height: Height) -> Slot {
        self.at(height).unwrap_or_else(|| self.latest()).slot
    }

    /// The height of the newest block that is not newer than `slot`.
    pub(super) fn height_of(&self, slot: Slot) -> Height {
        // Until a slot is skipped, slots are heights.
        if self.at(slot).is_some_and(|info| info.slot == slot) {
            return slot;
        }
        let older = self.chain.partition_point(|info| info.slot <= slot);
        u64::try_from(older).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// Whether a block is one of the chain.
    pub(super) fn has(&self, id: BlockId) -> bool {
        self.slot(id.slot).is_some_and(|info| info.blockhash == id.hash)
    }

    /// The blocks down from slot `from`, with their slots, newest first.
    pub(super) fn back_from(&self, from: Slot) -> impl Iterator<Item = (Slot, SlotInfo)> {
        (0..=self.height_of(from)).rev().filter_map(|height| self.at(height)).map(|info| (info.slot, info))
    }

    /// The blocks from slot `first` to slot `last`, oldest first.
    pub(super) fn between(&self, first: Slot, last: Slot) -> impl Iterator<Item = SlotInfo> {
        let heights = self.height_of(first)..=self.height_of(last);
        let inside = move |info: &SlotInfo| (first..=last).contains(&info.slot);
        heights.filter_map(|height| self.at(height)).filter(inside)
    }

    /// The transactions of a slot.
    pub(super) fn block(&self, slot: Slot) -> &[Arc<Executed>] {
        self.blocks.get(&slot).map_or(&[], Vec::as_slice)
    }

    pub(super) fn transaction(&self, signature: &Signature) -> Option<&Arc<Executed>> {
        self.transactions.get(signature)
    }

    /// How many transactions were included up to `slot`.
    pub(super) fn count_up_to(&self, slot: Slot) -> usize {
        let later: usize = self.blocks.range(slot.saturating_add(1)..).map(|(_, block)| block.len()).sum();
        self.transactions.len().saturating_sub(later)
    }

    /// The slot in which a message with this hash was executed.
    pub(super) fn executed(&self, message: &Hash) -> Option<Slot> {
        self.messages.get(message).copied()
    }

    /// What touched `address`, oldest first.
    pub(super) fn of(&self, address: &Pubkey) -> &[Arc<Executed>] {
        self.by_address.get(address).map_or(&[], Vec::as_slice)
    }

    /// The height that `blockhash` is of, if that is one of the last `MAX_AGE` before slot `at`, or its own.
    pub(super) fn recent(&self, blockhash: &Hash, at: Slot) -> Option<Height> {
        let height = *self.ages.get(blockhash)?;
        self.height_of(at).checked_sub(height).filter(|age| *age <= MAX_AGE).map(|_| height)
    }

    /// Adds the next block.
    pub(super) fn push(&mut self, info: SlotInfo, block: Vec<(Hash, Executed)>) {
        let height = self.height().saturating_add(1);
        self.ages.insert(info.blockhash, height);
        if let Some(forgotten) = self.forgotten(height) {
            self.ages.remove(&forgotten.blockhash);
        }
        self.chain.push(info);

        let mut included = Vec::with_capacity(block.len());
        for (message, executed) in block {
            let executed = Arc::new(executed);
            self.messages.insert(message, info.slot);
            self.transactions.insert(executed.signature(), executed.clone());
            for address in executed.keys() {
                self.by_address.entry(*address).or_default().push(executed.clone());
            }
            included.push(executed);
        }
        if !included.is_empty() {
            self.blocks.insert(info.slot, included);
        }
    }

    /// Takes the newest block back, unless it is the first, and returns its transactions.
    pub(super) fn pop(&mut self) -> Vec<Arc<Executed>> {
        let height = self.height();
        if height == 0 {
            return Vec::new();
        }
        if let Some(forgotten) = self.forgotten(height) {
            self.ages.insert(forgotten.blockhash, height.saturating_sub(KEPT_AGES));
        }
        let info = self.latest();
        self.chain.pop();
        self.ages.remove(&info.blockhash);
        let block = self.blocks.remove(&info.slot).unwrap_or_default();
        for executed in block.iter().rev() {
            self.messages.remove(&executed.transaction.message.hash());
            self.transactions.remove(&executed.signature());
            for address in executed.keys() {
                if let Some(list) = self.by_address.get_mut(address) {
                    list.pop();
                }
            }
        }
        block
    }

    /// The block whose hash is no longer kept once there is one at `height`: older than any commitment level looks back, it
    /// would only be in the way.
    fn forgotten(&self, height: Height) -> Option<SlotInfo> {
        self.at(height.checked_sub(KEPT_AGES)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(slot: Slot) -> SlotInfo {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&slot.to_le_bytes());
        SlotInfo { slot, blockhash: Hash::new_from_array(hash), millis: slot, leader: None }
    }

    #[test]
    fn slots_without_blocks_have_no_height_of_their_own() {
        let mut ledger = Ledger::new(info(0));
        for slot in [1, 2, 5, 9] {
            ledger.push(info(slot), Vec::new());
        }
        assert_eq!((ledger.tip(), ledger.height()), (9, 4));
        let heights: Vec<_> = (0..=11).map(|slot| ledger.height_of(slot)).collect();
        assert_eq!(heights, [0, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4]);
        assert!(ledger.slot(4).is_none() && ledger.slot(10).is_none());
        assert_eq!(ledger.slot(5).unwrap().millis, 5);
        assert_eq!(ledger.between(2, 8).map(|info| info.slot).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(ledger.between(3, 4).count(), 0);
        assert_eq!(ledger.back_from(8).map(|(slot, _)| slot).collect::<Vec<_>>(), [5, 2, 1, 0]);
    }

    #[test]
    fn ages_are_counted_in_blocks_and_taken_back_with_them() {
        let mut ledger = Ledger::new(info(0));
        for height in 1..=1_000 {
            ledger.push(info(height * 2), Vec::new());
        }
        let recent = |ledger: &Ledger, slot: Slot, at: Slot| ledger.recent(&info(slot).blockhash, at).is_some();
        assert!(recent(&ledger, 1_700, 2_000) && !recent(&ledger, 1_698, 2_000));
        for _ in 0..700 {
            ledger.pop();
        }
        assert_eq!(ledger.tip(), 600);
        assert!(recent(&ledger, 300, 600) && !recent(&ledger, 298, 600) && !recent(&ledger, 602, 602));
        for _ in 0..400 {
            ledger.pop();
        }
        assert_eq!((ledger.tip(), ledger.height()), (0, 0));
        assert!(recent(&ledger, 0, 0));
    }
}
