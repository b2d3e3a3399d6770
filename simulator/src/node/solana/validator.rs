//! What makes the slots: the engine, its journal, and the queue of transactions that wait for the next slot.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::instruction::Instruction;
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Signature, Signer};
use solana_sdk::transaction::{TransactionError, VersionedTransaction};
use spl_associated_token_account_interface::address::get_associated_token_address_with_program_id;
use spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent;

use super::engine::{Engine, ReplayError};
use super::genesis;
use super::ledger::Slot;
use super::record::Record;
use crate::clock::Clock;
use crate::journal::{Journal, JournalError};

/// The most transactions that one slot takes; the rest of the queue waits for the next one.
const MAX_PER_SLOT: usize = 2_000;

/// The most transactions that wait.
const MAX_QUEUE: usize = 100_000;

/// How far ahead a run of empty slots is recorded, in milliseconds. After a restart the chain goes on behind the
/// recorded run.
const RUN_MILLIS: u64 = 10_000;

/// The validator's state: one at a time has it.
pub(super) struct Validator {
    engine: Engine,
    journal: Journal<Record>,
    clock: Arc<dyn Clock>,
    /// What waits, in wire form and base64, as the journal keeps it.
    queue: Vec<String>,
    queued: HashSet<String>,
    /// Milliseconds from slot to slot, where slots are made on an interval.
    interval: Option<u64>,
    /// Transactions that the faucet made since the start.
    faucet_count: u32,
    failed: bool,
}

/// How a chain's state can't be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal can't be written.
    #[error("the journal can't be written: {0}")]
    Write(#[from] io::Error),
    /// The journal is not this chain's.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Why no slot was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The journal can't be written. No further slot is made.
    #[error("the journal can't be written, so the node has stopped making slots: {0}")]
    Journal(#[from] io::Error),
    /// The node stopped earlier because its journal could not be written.
    #[error("the node has stopped making slots because its journal could not be written")]
    Stopped,
    /// The engine refused the node's own record.
    #[error(transparent)]
    Record(#[from] ReplayError),
}

/// Why a transaction is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_QUEUE} transactions are waiting; try again after the next slot")]
pub(super) struct QueueFull;

/// Why the faucet gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaucetError {
    /// Not an address.
    #[error("{0} is not a base58 public key")]
    Address(String),
    /// Only the demo mint can be minted.
    #[error("the faucet can't mint {mint}; the demo mint is {demo}")]
    Mint {
        /// What was asked for.
        mint: Pubkey,
        /// What can be had.
        demo: Pubkey,
    },
    /// The transaction would fail.
    #[error("the faucet's transaction would fail: {error}; {log}")]
    Refused {
        /// In the words of the runtime.
        error: TransactionError,
        /// The last line of the log.
        log: String,
    },
    /// Too much is waiting.
    #[error("{MAX_QUEUE} transactions are waiting; try again after the next slot")]
    QueueFull,
}

impl Validator {
    /// Restores the chain from the journal at `path`, or begins it.
    ///
    /// # Errors
    /// Where the journal can't be used or is another chain's.
    pub(super) fn restore(
        path: Option<&Path>,
        clock: Arc<dyn Clock>,
        interval: Option<u64>,
        depth: u64,
    ) -> Result<Self, RestoreError> {
        let (mut journal, mut records) = Journal::open(path)?;
        if records.is_empty() {
            let genesis = Record::Genesis { hash: genesis::genesis_hash().to_string(), millis: clock.unix_millis() };
            journal.append(&genesis)?;
            records.push(genesis);
        }
        let mut records = records.iter();
        let mut engine = Engine::new(records.next().ok_or(ReplayError::Genesis)?, depth)?;
        for record in records {
            engine.apply(record)?;
        }
        engine.pass_all();
        engine.show_sysvars();
        Ok(Self {
            engine,
            journal,
            clock,
            queue: Vec::new(),
            queued: HashSet::new(),
            interval,
            faucet_count: 0,
            failed: false,
        })
    }

    pub(super) const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) const fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Whether slots can still be made.
    pub(super) const fn is_healthy(&self) -> bool {
        !self.failed
    }

    /// Queues a transaction for the next slot. One that waits already is not queued again.
    ///
    /// # Errors
    /// Where too many are waiting.
    pub(super) fn submit(&mut self, transaction: &VersionedTransaction) -> Result<Signature, QueueFull> {
        let bytes = bincode::serialize(transaction).expect("a transaction that was decoded can be encoded");
        let encoded = BASE64_STANDARD.encode(bytes);
        if self.queue.len() >= MAX_QUEUE {
            return Err(QueueFull);
        }
        if self.queued.insert(encoded.clone()) {
            self.queue.push(encoded);
        }
        Ok(transaction.signatures.first().copied().unwrap_or_default())
    }

    /// Makes the next slot, with what is queued.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub(super) fn produce(&mut self) -> Result<Slot, ProduceError> {
        let interval = self.interval.unwrap_or_default();
        let slots = RUN_MILLIS.checked_div(interval).unwrap_or(1).max(1);
        let tip = self.produce_within(slots, interval)?;
        self.engine.show_sysvars();
        Ok(tip)
    }

    /// Makes `slots` slots at once.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub(super) fn mine(&mut self, slots: u32) -> Result<Slot, ProduceError> {
        let mut tip = self.engine.ledger().tip();
        let mut left = u64::from(slots);
        if left > 0 && self.queue.is_empty() {
            // The run under way is timed by the interval, which these slots do not wait for.
            self.begin_run(left, 0)?;
        }
        while left > 0 {
            tip = self.produce_within(left, 0)?;
            left = left.saturating_sub(1);
        }
        self.engine.show_sysvars();
        Ok(tip)
    }

    /// Queues a transfer of `lamports` from the faucet.
    ///
    /// # Errors
    /// Where the transfer would fail.
    pub(super) fn fund(&mut self, address: &Pubkey, lamports: u64) -> Result<Signature, FaucetError> {
        let faucet = genesis::faucet().pubkey();
        self.give(&[solana_system_interface::instruction::transfer(&faucet, address, lamports)])
    }

    /// Queues the minting of `amount` base units of `mint` to the associated token account of `owner`, which is created
    /// if need be.
    ///
    /// # Errors
    /// Where it isn't the demo mint or the transaction would fail.
    pub(super) fn fund_token(&mut self, owner: &Pubkey, mint: &Pubkey, amount: u64) -> Result<Signature, FaucetError> {
        let demo = genesis::demo_mint();
        let faucet = genesis::faucet().pubkey();
        let account = get_associated_token_address_with_program_id(owner, &demo, &genesis::TOKEN);
        let mint_to = spl_token_interface::instruction::mint_to(&genesis::TOKEN, mint, &account, &faucet, &[], amount);
        let (true, Ok(mint_to)) = (*mint == demo, mint_to) else {
            return Err(FaucetError::Mint { mint: *mint, demo });
        };
        let create = create_associated_token_account_idempotent(&faucet, owner, &demo, &genesis::TOKEN);
        self.give(&[create, mint_to])
    }

    fn give(&mut self, instructions: &[Instruction]) -> Result<Signature, FaucetError> {
        let faucet = genesis::faucet();
        // Two equal gifts in one slot are two transactions only if something in them differs.
        let units = 200_000_u32.saturating_add(self.faucet_count % 1_000_000);
        self.faucet_count = self.faucet_count.wrapping_add(1);
        let instructions = [&[ComputeBudgetInstruction::set_compute_unit_limit(units)], instructions].concat();
        let blockhash = self.engine.ledger().latest().blockhash;
        let message = Message::new_with_blockhash(&instructions, Some(&faucet.pubkey()), &blockhash);
        let transaction = VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&faucet])
            .expect("the faucet is the only signer of its transactions");

        let tip = self.engine.ledger().tip();
        let simulation = self.engine.simulate(transaction.clone(), tip);
        if let Some(error) = simulation.error {
            return Err(FaucetError::Refused { error, log: simulation.logs.last().cloned().unwrap_or_default() });
        }
        self.submit(&transaction).map_err(|QueueFull| FaucetError::QueueFull)
    }

    /// Makes the next slot. If it is empty and no run covers it, a run of `slots` is recorded.
    fn produce_within(&mut self, slots: u64, interval: u64) -> Result<Slot, ProduceError> {
        if self.queue.is_empty() {
            if !self.engine.pass_empty() {
                self.begin_run(slots, interval)?;
                self.engine.pass_empty();
            }
        } else {
            let transactions: Vec<String> = self.queue.iter().take(MAX_PER_SLOT).cloned().collect();
            let taken = transactions.len();
            let (slot, millis) = (self.engine.next_slot(), self.clock.unix_millis());
            self.record(&Record::Block { slot, millis, transactions })?;
            for encoded in self.queue.drain(..taken) {
                self.queued.remove(&encoded);
            }
        }
        Ok(self.engine.ledger().tip())
    }

    fn begin_run(&mut self, slots: u64, interval: u64) -> Result<(), ProduceError> {
        let (slot, millis) = (self.engine.next_slot(), self.clock.unix_millis());
        self.record(&Record::Empty { slot, slots, millis, interval })
    }

    /// Gives the journal back. A connection may hold the node a little longer, but no further slot is made.
    pub(crate) fn close(&mut self) {
        self.journal.close();
    }

    /// Writes a record, then lets it take effect.
    fn record(&mut self, record: &Record) -> Result<(), ProduceError> {
        if self.failed {
            return Err(ProduceError::Stopped);
        }
        self.failed = true;
        self.journal.append(record)?;
        self.engine.apply(record)?;
        self.failed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use solana_sdk::account::{AccountSharedData, ReadableAccount};
    use solana_sdk::signature::Keypair;

    use super::*;
    use crate::clock::ManualClock;

    const KEYS: usize = 4;

    #[derive(Clone, Debug)]
    enum Step {
        Pay { from: usize, to: usize, lamports: u64 },
        Fund { to: usize, lamports: u64 },
        Mint { to: usize, amount: u64 },
        Produce,
        Mine(u32),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..KEYS, 0..KEYS, 0..3_000_000_000_u64)
                .prop_map(|(from, to, lamports)| Step::Pay { from, to, lamports }),
            2 => (0..KEYS, 0..2_000_000_000_u64).prop_map(|(to, lamports)| Step::Fund { to, lamports }),
            1 => (0..KEYS, any::<u64>()).prop_map(|(to, amount)| Step::Mint { to, amount }),
            4 => Just(Step::Produce),
            1 => (0..30_u32).prop_map(Step::Mine),
            1 => Just(Step::Restart),
        ]
    }

    type State = (Slot, Vec<(Pubkey, AccountSharedData)>, Vec<(Pubkey, AccountSharedData)>);

    fn state(validator: &Validator) -> State {
        let tip = validator.engine.ledger().tip();
        let final_slot = tip.saturating_sub(validator.engine.depth());
        (tip, validator.engine.accounts(tip), validator.engine.accounts(final_slot))
    }

    fn lamports(validator: &Validator) -> u64 {
        validator.engine.accounts(validator.engine.ledger().tip()).iter().map(|(_, account)| account.lamports()).sum()
    }

    fn fees(validator: &Validator) -> u64 {
        let ledger = validator.engine.ledger();
        (0..=ledger.tip()).flat_map(|slot| ledger.block(slot)).map(|executed| executed.outcome.fee).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        /// Lamports only move or are burned as fees, and a replayed journal gives the same state, past and present.
        #[test]
        fn value_is_conserved_and_replay_is_exact(steps in proptest::collection::vec(step(), 1..40)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let clock = Arc::new(ManualClock::new(1_700_000_000_000));
            let open = || Validator::restore(Some(&path), clock.clone(), None, 8).unwrap();
            let keys: Vec<Keypair> = (1_u8..).take(KEYS).map(|seed| Keypair::new_from_array([seed; 32])).collect();
            let mut validator = open();
            let supply = lamports(&validator);
            for step in steps {
                clock.advance(std::time::Duration::from_millis(400));
                match step {
                    Step::Pay { from, to, lamports } => {
                        let (from, to) = (&keys[from], keys[to].pubkey());
                        let pay = solana_system_interface::instruction::transfer(&from.pubkey(), &to, lamports);
                        let blockhash = validator.engine.ledger().latest().blockhash;
                        let message = Message::new_with_blockhash(&[pay], Some(&from.pubkey()), &blockhash);
                        let message = VersionedMessage::Legacy(message);
                        validator.submit(&VersionedTransaction::try_new(message, &[from]).unwrap()).unwrap();
                    }
                    // What would fail is refused, and that is fine.
                    Step::Fund { to, lamports } => drop(validator.fund(&keys[to].pubkey(), lamports)),
                    Step::Mint { to, amount } => {
                        drop(validator.fund_token(&keys[to].pubkey(), &genesis::demo_mint(), amount));
                    }
                    Step::Produce => drop(validator.produce().unwrap()),
                    Step::Mine(slots) => drop(validator.mine(slots).unwrap()),
                    Step::Restart => {
                        let before = state(&validator);
                        drop(validator);
                        validator = open();
                        prop_assert_eq!(state(&validator), before);
                    }
                }
                prop_assert_eq!(lamports(&validator) + fees(&validator), supply);
            }
        }
    }
}
