//! What the faucet gives to whoever asks: transactions like anyone's.

use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::instruction::Instruction;
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Signature, Signer};
use solana_sdk::transaction::{TransactionError, VersionedTransaction};
use spl_associated_token_account_interface::address::get_associated_token_address_with_program_id;
use spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent;

use super::genesis;
use super::queue::{MAX_QUEUE, QueueFull};
use super::validator::Validator;

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
        let count =
            self.faucet_count.wrapping_mul(u32::from(self.seat.size)).wrapping_add(u32::from(self.seat.id.index.0));
        let units = 200_000_u32.saturating_add(count % 1_000_000);
        self.faucet_count = self.faucet_count.wrapping_add(1);
        let instructions = [&[ComputeBudgetInstruction::set_compute_unit_limit(units)], instructions].concat();
        // A blockhash that a fork may take away would take the gift with it.
        let ledger = self.engine.ledger();
        let blockhash = ledger.slot(self.engine.confirmed()).unwrap_or_else(|| ledger.latest()).blockhash;
        let message = Message::new_with_blockhash(&instructions, Some(&faucet.pubkey()), &blockhash);
        let transaction = VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&faucet])
            .expect("the faucet is the only signer of its transactions");

        let tip = self.engine.ledger().tip();
        let simulation = self.engine.simulate(transaction.clone(), tip);
        if let Some(error) = simulation.error {
            return Err(FaucetError::Refused { error, log: simulation.logs.last().cloned().unwrap_or_default() });
        }
        self.submit(transaction, true).map_err(|QueueFull| FaucetError::QueueFull)
    }
}
