//! What happened: slots, and the transactions in them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use solana_sdk::hash::Hash;
use solana_sdk::inner_instruction::InnerInstructionsList;
use solana_sdk::message::v0::LoadedAddresses;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;
use solana_sdk::transaction::{TransactionError, VersionedTransaction};

/// A slot's number. Every slot has a block here, so it is the block's height too.
pub(super) type Slot = u64;

/// How old the blockhash of a transaction may be, in blocks, counted from the newest one (agave: `MAX_PROCESSING_AGE`).
pub(super) const MAX_AGE: u64 = 150;

/// One slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotInfo {
    pub(super) blockhash: Hash,
    /// Milliseconds since the Unix epoch.
    pub(super) millis: u64,
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

/// All slots since genesis.
#[derive(Debug)]
pub(super) struct Ledger {
    slots: Vec<SlotInfo>,
    /// The slots that have transactions.
    blocks: BTreeMap<Slot, Vec<Arc<Executed>>>,
    transactions: HashMap<Signature, Arc<Executed>>,
    /// Hashes of the messages that were executed: what makes a duplicate.
    messages: HashMap<Hash, Slot>,
    /// Oldest first.
    by_address: HashMap<Pubkey, Vec<Arc<Executed>>>,
    ages: HashMap<Hash, Slot>,
}

impl Ledger {
    pub(super) fn new(genesis: SlotInfo) -> Self {
        Self {
            ages: HashMap::from([(genesis.blockhash, 0)]),
            slots: vec![genesis],
            blocks: BTreeMap::new(),
            transactions: HashMap::new(),
            messages: HashMap::new(),
            by_address: HashMap::new(),
        }
    }

    /// The newest slot.
    pub(super) fn tip(&self) -> Slot {
        u64::try_from(self.slots.len()).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// The newest slot's block.
    pub(super) fn latest(&self) -> SlotInfo {
        *self.slots.last().expect("the genesis slot is there from the start and nothing is taken away")
    }

    pub(super) fn slot(&self, slot: Slot) -> Option<SlotInfo> {
        self.slots.get(usize::try_from(slot).ok()?).copied()
    }

    /// The slots down from `from`, with their numbers, newest first.
    pub(super) fn back_from(&self, from: Slot) -> impl Iterator<Item = (Slot, SlotInfo)> {
        (0..=from).rev().filter_map(|slot| Some((slot, self.slot(slot)?)))
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

    /// The slot that `blockhash` is of, if that is one of the last `MAX_AGE` before `at`, or `at` itself.
    pub(super) fn recent(&self, blockhash: &Hash, at: Slot) -> Option<Slot> {
        let slot = *self.ages.get(blockhash)?;
        at.checked_sub(slot).filter(|age| *age <= MAX_AGE).map(|_| slot)
    }

    /// Adds the next slot.
    pub(super) fn push(&mut self, slot: SlotInfo, block: Vec<(Hash, Executed)>) {
        let number = self.tip().saturating_add(1);
        self.ages.insert(slot.blockhash, number);
        // Hashes older than any commitment level looks back are only in the way.
        let forgotten = number.checked_sub(MAX_AGE.saturating_mul(4)).and_then(|slot| self.slot(slot));
        if let Some(forgotten) = forgotten {
            self.ages.remove(&forgotten.blockhash);
        }
        self.slots.push(slot);

        let mut included = Vec::with_capacity(block.len());
        for (message, executed) in block {
            let executed = Arc::new(executed);
            self.messages.insert(message, number);
            self.transactions.insert(executed.signature(), executed.clone());
            for address in executed.keys() {
                self.by_address.entry(*address).or_default().push(executed.clone());
            }
            included.push(executed);
        }
        if !included.is_empty() {
            self.blocks.insert(number, included);
        }
    }
}
