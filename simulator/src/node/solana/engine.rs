//! The deterministic state machine: the state is the fold of the journal's records.
//!
//! Nothing here reads a clock, draws a random number or does I/O. Blockhashes are derived ([`blockhash`]).
//!
//! The runtime's accounts are those of the newest block. An undo log of the blocks that are not finalized yet, and of a few before,
//! keeps what they changed: an account can be read as of any commitment level, and a block that loses is taken back by it.
//! (A clone of the runtime copies every account there is; an undo log costs what the block changed.)

mod simulate;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use litesvm::LiteSVM;
use solana_sdk::account::{Account, AccountSharedData, ReadableAccount};
use solana_sdk::clock::Clock;
use solana_sdk::hash::Hash;
use solana_sdk::message::{AddressLoader, VersionedMessage, v0::LoadedAddresses};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::slot_hashes::{MAX_ENTRIES, SlotHashes};
#[expect(deprecated, reason = "nonce accounts can't be advanced without the old sysvar of recent blockhashes")]
use solana_sdk::sysvar::recent_blockhashes::{IterItem, RecentBlockhashes};
use solana_sdk::transaction::{TransactionError, VersionedTransaction};

pub(super) use self::simulate::Simulation;
use self::simulate::returned;
use super::block::{Block, Wired, blockhash};
use super::genesis;
use super::ledger::{Executed, Height, Ledger, MAX_AGE, Outcome, Slot, SlotInfo, all_keys, is_writable};
use super::nonce;
use super::record::Record;
use super::token;
use crate::topology::NodeIndex;

/// How many blocks below the finalized one can still be looked back at by an answer that is stale.
const KEPT_BACK: u64 = 32;

/// Lamports for each signature of a transaction.
pub(super) const LAMPORTS_PER_SIGNATURE: u64 = 5000;

const COMPUTE_BUDGET: Pubkey = solana_sdk::pubkey!("ComputeBudget111111111111111111111111111111");

/// A journal that this chain can't have written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The first record is missing or of another chain.
    #[error("the journal does not begin with this chain's genesis; move it away to start a fresh chain")]
    Genesis,
    /// A record does not follow the one before it.
    #[error("the journal's record for slot {slot} does not follow slot {tip}; move it away to start a fresh chain")]
    Order {
        /// The slot that the record is about.
        slot: Slot,
        /// The newest slot before it.
        tip: Slot,
    },
    /// A recorded transaction can't be decoded.
    #[error(
        "a transaction in slot {slot} of the journal can't be decoded; move the journal away to start a fresh chain"
    )]
    Transaction {
        /// The slot that the record is about.
        slot: Slot,
    },
}

/// The chain's state.
pub(super) struct Engine {
    svm: LiteSVM,
    ledger: Ledger,
    settling: Settling,
    confirmed: Height,
    finalized: Height,
    /// The newest slot that ever had a block here.
    newest: Slot,
    run: Run,
    undo: VecDeque<Undo>,
    /// The slot that the sysvars in `svm` show.
    sysvars_of: Slot,
    view: View,
}

/// What makes blocks sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settling {
    /// How many blocks deep one is final.
    pub(super) depth: u64,
    /// Whether the nodes that vote must agree too; then the engine is told what they settled. What a node made while it was alone is
    /// settled by its depth in any case.
    pub(super) votes: bool,
}

/// How the state is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// From so many blocks ago.
    pub(super) behind: u64,
    /// With no blockhash recent enough.
    pub(super) expired: bool,
    /// Where room is dear: the least price in micro-lamports per compute unit.
    pub(super) fee_floor: u64,
}

/// What is left of the recorded run of empty slots.
#[derive(Clone, Copy, Default)]
struct Run {
    left: u64,
    millis: u64,
    interval: u64,
}

/// The accounts that a slot changed, as they were before it.
struct Undo {
    slot: Slot,
    before: HashMap<Pubkey, Option<AccountSharedData>>,
}

impl Engine {
    /// The state after `genesis`.
    ///
    /// # Errors
    /// Where the record is not this chain's genesis.
    pub(super) fn new(genesis: &Record, settling: Settling) -> Result<Self, ReplayError> {
        let Record::Genesis { hash, millis } = genesis else { return Err(ReplayError::Genesis) };
        let blockhash = genesis::genesis_hash();
        if *hash != blockhash.to_string() {
            return Err(ReplayError::Genesis);
        }
        let ledger = Ledger::new(SlotInfo { slot: 0, blockhash, millis: *millis, leader: None });
        let mut engine = Self {
            svm: genesis::runtime(seconds(*millis)),
            ledger,
            settling,
            confirmed: 0,
            finalized: 0,
            newest: 0,
            run: Run::default(),
            undo: VecDeque::new(),
            sysvars_of: Slot::MAX,
            view: View::default(),
        };
        engine.show_sysvars();
        Ok(engine)
    }

    /// Takes in one record.
    ///
    /// # Errors
    /// Where it does not follow the records before it.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), ReplayError> {
        match record {
            Record::Genesis { .. } => Err(ReplayError::Genesis),
            Record::Empty { slot, slots, millis, interval } => {
                self.pass_until(*slot)?;
                self.run = Run { left: *slots, millis: *millis, interval: *interval };
                Ok(())
            }
            Record::Block { slot, millis, transactions } => {
                self.pass_until(*slot)?;
                let transactions = read(*slot, transactions)?;
                self.execute_block(*slot, None, *millis, &transactions);
                Ok(())
            }
            Record::Linked { slot, leader, millis, transactions } => {
                while self.next_slot() < *slot && self.pass_empty() {}
                if *slot <= self.ledger.tip() {
                    return Err(ReplayError::Order { slot: *slot, tip: self.ledger.tip() });
                }
                let transactions = read(*slot, transactions)?;
                self.execute_block(*slot, *leader, *millis, &transactions);
                Ok(())
            }
            Record::Back { slot } => {
                if self.ledger.tip() < *slot {
                    self.pass_until(slot.saturating_add(1))?;
                }
                while self.ledger.tip() > *slot {
                    self.take_back();
                }
                // What was left of a run is taken back with it.
                self.run = Run::default();
                Ok(())
            }
            Record::Settled { finalized, .. } => {
                self.settle(self.confirmed, self.ledger.height_of(*finalized));
                Ok(())
            }
            Record::Refused { .. } => Ok(()),
        }
    }

    /// Executes a block's transactions on top of the newest block. Those that it may not include are left out. Returns the block as it
    /// became.
    pub(super) fn execute_block(
        &mut self,
        slot: Slot,
        leader: Option<NodeIndex>,
        millis: u64,
        transactions: &[Arc<Wired>],
    ) -> Block {
        self.run = Run::default();
        let parent = self.ledger.latest();
        let millis = millis.max(parent.millis);
        self.set_sysvars(slot, millis);
        self.undo.push_back(Undo { slot, before: HashMap::new() });

        let mut seen = HashSet::new();
        let mut executed = Vec::with_capacity(transactions.len());
        let mut included = Vec::with_capacity(transactions.len());
        for wired in transactions {
            match self.execute(slot, wired, &seen) {
                Ok((hash, outcome)) => {
                    seen.insert(hash);
                    executed.push((hash, outcome));
                    included.push(Arc::clone(wired));
                }
                Err(error) => tracing::debug!(slot, %error, "a transaction is not included"),
            }
        }

        let block = Block::new(parent.id(), slot, leader, millis, included);
        self.push(SlotInfo { slot, blockhash: block.id.hash, millis, leader }, executed);
        block
    }

    /// Takes the newest block back, and with it what it changed. Returns its transactions.
    pub(super) fn take_back(&mut self) -> Vec<Arc<Executed>> {
        self.run = Run::default();
        let slot = self.ledger.tip();
        let taken = self.ledger.pop();
        if self.undo.back().is_some_and(|undo| undo.slot == slot)
            && let Some(undo) = self.undo.pop_back()
        {
            for (address, account) in undo.before {
                self.put(address, account);
            }
        }
        // The sysvars are of a block that isn't there any more; another one may have the same slot.
        self.sysvars_of = Slot::MAX;
        self.confirmed = self.confirmed.min(self.ledger.height());
        taken
    }

    /// The block at a height, as it was made.
    pub(super) fn block_at(&self, height: Height) -> Option<Block> {
        let info = self.ledger.at(height)?;
        let parent = self.ledger.at(height.checked_sub(1)?)?;
        let executed = self.ledger.block(info.slot).iter();
        let transactions = executed.map(|executed| Arc::new(Wired::new(executed.transaction.clone()))).collect();
        Some(Block { id: info.id(), parent: parent.id(), leader: info.leader, millis: info.millis, transactions })
    }

    /// Tells how sure blocks are, by height. What is final stays so.
    pub(super) fn settle(&mut self, confirmed: Height, finalized: Height) {
        self.finalized = self.finalized.max(finalized).min(self.ledger.height());
        self.confirmed = confirmed.min(self.ledger.height()).max(self.finalized);
        let kept = self.ledger.slot_at(self.finalized.saturating_sub(KEPT_BACK));
        while self.undo.front().is_some_and(|undo| undo.slot <= kept) {
            self.undo.pop_front();
        }
    }

    fn push(&mut self, info: SlotInfo, executed: Vec<(Hash, Executed)>) {
        self.ledger.push(info, executed);
        self.newest = self.newest.max(info.slot);
        let height = self.ledger.height();
        if !self.settling.votes || info.leader.is_none() {
            self.settle(height.saturating_sub(1), height.saturating_sub(self.settling.depth));
        }
    }

    /// Passes one slot of the run of empty ones, unless it is used up.
    pub(super) fn pass_empty(&mut self) -> bool {
        let Some(left) = self.run.left.checked_sub(1) else { return false };
        let millis = self.run.millis.max(self.ledger.latest().millis);
        self.run = Run { left, millis: self.run.millis.saturating_add(self.run.interval), ..self.run };
        let slot = self.next_slot();
        let blockhash = blockhash(&self.ledger.latest().blockhash, slot, std::iter::empty(), None, millis);
        self.push(SlotInfo { slot, blockhash, millis, leader: None }, Vec::new());
        true
    }

    /// Passes what the last record left of its run. A slot of it may have been shown before the node stopped.
    pub(super) fn pass_all(&mut self) {
        while self.pass_empty() {}
    }

    /// Brings the sysvars up to the newest slot.
    pub(super) fn show_sysvars(&mut self) {
        self.set_sysvars(self.ledger.tip(), self.ledger.latest().millis);
    }

    pub(super) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How the state is looked at from here on.
    pub(super) const fn set_view(&mut self, view: View) {
        self.view = view;
    }

    pub(super) const fn view(&self) -> View {
        self.view
    }

    /// The newest slot that is shown.
    pub(super) fn processed(&self) -> Slot {
        self.shown(self.ledger.height())
    }

    /// The newest slot that is shown as confirmed.
    pub(super) fn confirmed(&self) -> Slot {
        self.shown(self.confirmed)
    }

    /// The newest slot that is shown as final.
    pub(super) fn finalized(&self) -> Slot {
        self.shown(self.finalized)
    }

    /// The newest slot that ever had a block here, taken back or not.
    pub(super) const fn newest_slot(&self) -> Slot {
        self.newest
    }

    /// The height of the newest final block.
    pub(super) const fn finalized_height(&self) -> Height {
        self.finalized
    }

    /// The slot of the block that was at the place of the one at `height` when the view is from.
    fn shown(&self, height: Height) -> Slot {
        let oldest = self.finalized.saturating_sub(KEPT_BACK);
        self.ledger.slot_at(height.saturating_sub(self.view.behind).max(oldest))
    }

    /// The slot after the newest that has a block.
    pub(super) fn next_slot(&self) -> Slot {
        self.ledger.tip().saturating_add(1)
    }

    /// Lamports that an account with so many bytes must hold.
    pub(super) fn rent_exempt_minimum(&self, bytes: usize) -> u64 {
        self.svm.minimum_balance_for_rent_exemption(bytes)
    }

    /// An account as of slot `at`, which is not much older than the newest final one.
    pub(super) fn account(&self, address: &Pubkey, at: Slot) -> Option<AccountSharedData> {
        let changed = self.undo.iter().filter(|undo| undo.slot > at).find_map(|undo| undo.before.get(address));
        match changed {
            Some(before) => before.clone(),
            None => self.svm.accounts_db().get_account(address),
        }
    }

    /// All accounts as of slot `at`, in the order of their addresses.
    pub(super) fn accounts(&self, at: Slot) -> Vec<(Pubkey, AccountSharedData)> {
        let gone = self.undo.iter().filter(|undo| undo.slot > at).flat_map(|undo| undo.before.keys());
        let mut addresses: Vec<Pubkey> = self.svm.accounts_db().inner.keys().chain(gone).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.into_iter().filter_map(|address| Some((address, self.account(&address, at)?))).collect()
    }

    /// What `transaction`'s address tables resolve to.
    ///
    /// # Errors
    /// Where a table is missing or too short.
    pub(super) fn resolve(&self, message: &VersionedMessage) -> Result<LoadedAddresses, TransactionError> {
        match message.address_table_lookups() {
            Some(lookups) if !lookups.is_empty() => Ok(self.svm.accounts_db().load_addresses(lookups)?),
            _ => Ok(LoadedAddresses::default()),
        }
    }

    /// Whether a block after slot `at` could include a message with this blockhash or durable nonce.
    ///
    /// # Errors
    /// [`TransactionError::BlockhashNotFound`] where it couldn't.
    pub(super) fn check_age(&self, message: &VersionedMessage, at: Slot) -> Result<(), TransactionError> {
        let recent = !self.view.expired && self.ledger.recent(message.recent_blockhash(), at).is_some();
        if recent || self.nonce_of(message, at, at).is_some() {
            return Ok(());
        }
        Err(TransactionError::BlockhashNotFound)
    }

    /// Passes empty slots until `slot` is the next one.
    fn pass_until(&mut self, slot: Slot) -> Result<(), ReplayError> {
        let order = ReplayError::Order { slot, tip: self.ledger.tip() };
        if slot < self.next_slot() {
            return Err(order);
        }
        while self.next_slot() < slot {
            if !self.pass_empty() {
                return Err(order);
            }
        }
        Ok(())
    }

    /// Executes one transaction in `slot`, unless no block may include it.
    fn execute(
        &mut self,
        slot: Slot,
        wired: &Wired,
        earlier: &HashSet<Hash>,
    ) -> Result<(Hash, Executed), TransactionError> {
        let (hash, transaction) = (wired.check()?, &wired.transaction);
        let parent = self.ledger.tip();
        let recent = self.ledger.recent(transaction.message.recent_blockhash(), parent).is_some();
        let nonce = if recent { None } else { self.nonce_of(&transaction.message, parent, slot) };
        if !recent && nonce.is_none() {
            return Err(TransactionError::BlockhashNotFound);
        }
        if self.ledger.executed(&hash).is_some() || earlier.contains(&hash) {
            return Err(TransactionError::AlreadyProcessed);
        }
        let loaded = self.resolve(&transaction.message)?;

        let keys: Vec<Pubkey> = all_keys(transaction, &loaded).copied().collect();
        let written =
            keys.iter().enumerate().filter(|(index, _)| is_writable(transaction, &loaded, *index)).map(|(_, key)| *key);
        let before: Vec<_> = written.map(|key| (key, self.svm.accounts_db().get_account(&key))).collect();
        let balances = self.balances(&keys);
        let tokens_before = token::balances(&keys, |key| self.svm.accounts_db().get_account(key));

        let signature = transaction.signatures.first().copied().unwrap_or_default();
        let (error, meta) = match self.svm.send_transaction(self.in_environment(transaction.clone(), parent)) {
            Ok(meta) => (None, meta),
            // The runtime names the signature only of what it executed: the rest pays no fee and leaves no trace.
            Err(failed) if failed.meta.signature != signature => return Err(failed.err),
            Err(failed) => (Some(failed.err), failed.meta),
        };
        if let Some(address) = nonce {
            self.advance_nonce(address, transaction.message.recent_blockhash());
        }

        if let Some(undo) = self.undo.back_mut() {
            for (address, account) in before {
                undo.before.entry(address).or_insert(account);
            }
        }
        let outcome = Outcome {
            error,
            fee: meta.fee,
            units_consumed: meta.compute_units_consumed,
            returned: returned(&meta),
            logs: meta.logs,
            inner: meta.inner_instructions,
            before: balances,
            after: self.balances(&keys),
            tokens_before,
            tokens_after: token::balances(&keys, |key| self.svm.accounts_db().get_account(key)),
        };
        let unit_price = unit_price(&transaction.message);
        Ok((hash, Executed { slot, transaction: transaction.clone(), loaded, outcome, unit_price }))
    }

    /// The transaction as the runtime is to execute it on top of slot `parent`. A cluster shows programs the latest blockhash, from
    /// which nonces take their values; the runtime shows them the message's. Signature and age have been checked.
    fn in_environment(&self, mut transaction: VersionedTransaction, parent: Slot) -> VersionedTransaction {
        let latest = self.ledger.slot(parent).unwrap_or_else(|| self.ledger.latest());
        transaction.message.set_recent_blockhash(latest.blockhash);
        transaction
    }

    /// The nonce account that keeps `message` valid on top of slot `parent`, going by the accounts as of slot `at`.
    fn nonce_of(&self, message: &VersionedMessage, parent: Slot, at: Slot) -> Option<Pubkey> {
        let latest = self.ledger.slot(parent)?.blockhash;
        // A nonce can be used once for each blockhash.
        if *message.recent_blockhash() == nonce::next_value(&latest) {
            return None;
        }
        let address = nonce::account_of(message)?;
        let account = self.account(&address, at)?;
        nonce::covers(&account, message).then_some(address)
    }

    /// Gives the nonce account that kept a transaction valid its next value where the transaction failed: a cluster advances it all
    /// the same, the runtime does not.
    fn advance_nonce(&mut self, address: Pubkey, used: &Hash) {
        let Some(mut account) = self.svm.accounts_db().get_account(&address) else { return };
        if nonce::value(&account) == Some(*used) {
            nonce::advance(&mut account, &nonce::next_value(&self.ledger.latest().blockhash));
            self.put(address, Some(account));
        }
    }

    /// Puts the accounts of `transaction` back to slot `at` and returns what they were, for [`Self::put`].
    fn turn_back(
        &mut self,
        transaction: &VersionedTransaction,
        loaded: &LoadedAddresses,
        at: Slot,
    ) -> Vec<(Pubkey, Option<AccountSharedData>)> {
        let mut replaced = Vec::new();
        for address in all_keys(transaction, loaded) {
            if self.undo.iter().any(|undo| undo.slot > at && undo.before.contains_key(address)) {
                let past = self.account(address, at);
                replaced.push((*address, self.svm.accounts_db().get_account(address)));
                self.put(*address, past);
            }
        }
        replaced
    }

    fn put(&mut self, address: Pubkey, account: Option<AccountSharedData>) {
        // An account without lamports is how the runtime is told to remove one.
        let account = account.map_or_else(Account::default, Account::from);
        if let Err(error) = self.svm.set_account(address, account) {
            // Only a broken program or sysvar is refused, and both had been accepted before.
            tracing::error!(%address, %error, "an account could not be put back");
        }
    }

    fn balances(&self, keys: &[Pubkey]) -> Vec<u64> {
        let lamports = |key| self.svm.accounts_db().get_account_ref(key).map_or(0, ReadableAccount::lamports);
        keys.iter().map(lamports).collect()
    }

    /// Shows programs the clock of `slot` and the hashes of the slots before it. Blockhashes stand in for bank hashes.
    #[expect(deprecated, reason = "nonce accounts can't be advanced without the old sysvar of recent blockhashes")]
    fn set_sysvars(&mut self, slot: Slot, millis: u64) {
        if self.sysvars_of == slot {
            return;
        }
        self.sysvars_of = slot;
        let epoch = slot.checked_div(genesis::SLOTS_PER_EPOCH).unwrap_or_default();
        let epoch_start = self.ledger.between(epoch.saturating_mul(genesis::SLOTS_PER_EPOCH), slot).next();
        self.svm.set_sysvar(&Clock {
            slot,
            epoch_start_timestamp: seconds(epoch_start.map_or(millis, |start| start.millis)),
            epoch,
            leader_schedule_epoch: epoch.saturating_add(1),
            unix_timestamp: seconds(millis),
        });
        let parent = slot.saturating_sub(1);
        // Slots that were skipped have no hash.
        let hashes: Vec<_> =
            self.ledger.back_from(parent).take(MAX_ENTRIES).map(|(slot, info)| (slot, info.blockhash)).collect();
        self.svm.set_sysvar(&SlotHashes::new(&hashes));
        let recent = usize::try_from(MAX_AGE).unwrap_or(usize::MAX);
        let recent = hashes.iter().take(recent).map(|(slot, hash)| IterItem(*slot, hash, LAMPORTS_PER_SIGNATURE));
        self.svm.set_sysvar(&RecentBlockhashes::from_iter(recent));
    }
}

/// The price that a message offers, in micro-lamports per compute unit:
/// `ComputeBudgetInstruction::SetComputeUnitPrice`.
pub(super) fn unit_price(message: &VersionedMessage) -> u64 {
    let keys = message.static_account_keys();
    let price = |data: &[u8]| Some(u64::from_le_bytes(data.strip_prefix(&[3])?.try_into().ok()?));
    let mut budget = message
        .instructions()
        .iter()
        .filter(|instruction| keys.get(usize::from(instruction.program_id_index)) == Some(&COMPUTE_BUDGET));
    budget.find_map(|instruction| price(&instruction.data)).unwrap_or(0)
}

fn read(slot: Slot, wires: &[String]) -> Result<Vec<Arc<Wired>>, ReplayError> {
    let read: Option<Vec<_>> = wires.iter().map(|wire| Wired::read(wire).map(Arc::new)).collect();
    read.ok_or(ReplayError::Transaction { slot })
}

fn seconds(millis: u64) -> i64 {
    i64::try_from(millis / 1000).unwrap_or(i64::MAX)
}
