//! What a transaction would do, and what it would cost.

use litesvm::types::TransactionMetadata;
use solana_sdk::account::AccountSharedData;
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::transaction::{TransactionError, VersionedTransaction};

use super::Engine;
use crate::node::solana::ledger::Slot;

/// What a transaction would do.
pub(in crate::node::solana) struct Simulation {
    pub(in crate::node::solana) error: Option<TransactionError>,
    pub(in crate::node::solana) logs: Vec<String>,
    pub(in crate::node::solana) units_consumed: u64,
    /// Lamports.
    pub(in crate::node::solana) fee: u64,
    pub(in crate::node::solana) returned: Option<(Pubkey, Vec<u8>)>,
    pub(in crate::node::solana) inner: solana_sdk::inner_instruction::InnerInstructionsList,
    /// The writable accounts after it.
    pub(in crate::node::solana) accounts: Vec<(Pubkey, AccountSharedData)>,
}

impl Engine {
    /// What `transaction` would do on top of slot `at`. Signatures are the caller's business.
    pub(in crate::node::solana) fn simulate(&mut self, transaction: VersionedTransaction, at: Slot) -> Simulation {
        let checked = self.check_age(&transaction.message, at).and_then(|()| {
            match self.ledger.executed(&transaction.message.hash()) {
                Some(slot) if slot <= at => Err(TransactionError::AlreadyProcessed),
                _ => self.resolve(&transaction.message),
            }
        });
        let loaded = match checked {
            Ok(loaded) => loaded,
            Err(error) => return Simulation::failed(error),
        };
        let replaced = self.turn_back(&transaction, &loaded, at);
        let simulated = self.svm.simulate_transaction(self.in_environment(transaction, at));
        for (address, account) in replaced {
            self.put(address, account);
        }
        match simulated {
            Ok(done) => Simulation { accounts: done.post_accounts, ..Simulation::of(None, done.meta) },
            Err(failed) => Simulation::of(Some(failed.err), failed.meta),
        }
    }

    /// The fee of a message in lamports, as the runtime computes it, if its blockhash is good in slot `at`.
    pub(in crate::node::solana) fn fee(&mut self, message: VersionedMessage, at: Slot) -> Option<u64> {
        self.check_age(&message, at).ok()?;
        let signatures = vec![Default::default(); usize::from(message.header().num_required_signatures)];
        let simulated = self.svm.simulate_transaction(VersionedTransaction { signatures, message });
        Some(simulated.map_or_else(|failed| failed.meta.fee, |done| done.meta.fee))
    }
}

impl Simulation {
    fn failed(error: TransactionError) -> Self {
        Self::of(Some(error), TransactionMetadata::default())
    }

    fn of(error: Option<TransactionError>, meta: TransactionMetadata) -> Self {
        Self {
            error,
            returned: returned(&meta),
            logs: meta.logs,
            units_consumed: meta.compute_units_consumed,
            fee: meta.fee,
            inner: meta.inner_instructions,
            accounts: Vec::new(),
        }
    }
}

/// The data that the last program to return any has returned.
pub(super) fn returned(meta: &TransactionMetadata) -> Option<(Pubkey, Vec<u8>)> {
    let data = &meta.return_data;
    (!data.data.is_empty()).then(|| (data.program_id, data.data.clone()))
}
