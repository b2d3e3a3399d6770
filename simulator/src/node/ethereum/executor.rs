//! Runs transactions on `revm`, with the rules of the Prague upgrade.
//!
//! Left out: the system calls of EIP-2935, EIP-4788, EIP-7002 and EIP-7251, whose contracts the simulated chain doesn't have (a system call
//! to an address without code does nothing), and blobs.

use std::convert::Infallible;
use std::sync::Arc;

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{Header, Receipt, ReceiptEnvelope, Transaction as _, TxType};
use alloy::primitives::{Address, B256, Bloom, TxKind, U256};
use revm::DatabaseRef;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database::{AccountState, Cache, CacheDB};
use revm::handler::MainnetContext;
use revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode};
use revm::{Database, ExecuteCommitEvm, MainBuilder, MainContext, MainnetEvm};

use super::block::{Outcome, Transaction};
use super::state::View;

/// The rules that blocks follow.
pub(crate) const SPEC: SpecId = SpecId::PRAGUE;

/// Why a transaction can't be the next one of a block.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The block has less gas left than the transaction may use.
    #[error("the block's gas limit is reached")]
    NoRoom,
    /// The transaction is invalid in this state.
    #[error("{0}")]
    Invalid(InvalidTransaction),
    /// The engine failed.
    #[error("{0}")]
    Engine(String),
}

impl From<EVMError<Infallible>> for Unfit {
    fn from(error: EVMError<Infallible>) -> Self {
        match error {
            EVMError::Transaction(reason) => Self::Invalid(reason),
            other => Self::Engine(other.to_string()),
        }
    }
}

/// A block under construction.
pub(crate) struct Builder<'a> {
    evm: MainnetEvm<MainnetContext<CacheDB<View<'a>>>>,
    header: Header,
    transactions: Vec<Arc<Transaction>>,
    outcomes: Vec<Outcome>,
    balances: Vec<(Address, U256)>,
    logs: u64,
}

/// An executed block and what it did to the state. Its header lacks all roots until it is [`finished`](Builder::finish) or
/// [`committed`](Draft::committed), and the state root then too.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) header: Header,
    pub(crate) transactions: Vec<Arc<Transaction>>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) balances: Vec<(Address, U256)>,
    pub(crate) cache: Cache,
}

impl<'a> Builder<'a> {
    /// Starts a block on the state `view`.
    pub(crate) fn new(view: View<'a>, header: Header, chain_id: u64) -> Self {
        Self::resume(view, Draft::empty(header), chain_id)
    }

    /// Goes on with a block on the state `view`.
    pub(crate) fn resume(view: View<'a>, draft: Draft, chain_id: u64) -> Self {
        let Draft { header, transactions, outcomes, balances, cache } = draft;
        let evm = Context::mainnet()
            .with_db(CacheDB { cache, db: view })
            .with_cfg(config(chain_id))
            .with_block(environment(&header))
            .build_mainnet();
        let logs = outcomes.iter().fold(0_u64, |sum, outcome| sum.saturating_add(outcome.logs()));
        Self { evm, header, transactions, outcomes, balances, logs }
    }

    /// Sets a balance outside of any transaction: an irregular state change, for test set-ups.
    pub(crate) fn set_balance(&mut self, address: Address, wei: U256) {
        let db = &mut self.evm.ctx.journaled_state.database;
        let Ok(info) = db.basic(address);
        let mut info = info.unwrap_or_default();
        info.balance = wei;
        db.insert_account_info(address, info);
        self.balances.push((address, wei));
    }

    /// Executes one more transaction. One that doesn't fit leaves no trace.
    pub(crate) fn execute(&mut self, tx: &Arc<Transaction>) -> Result<(), Unfit> {
        if tx.gas_limit() > self.header.gas_limit.saturating_sub(self.header.gas_used) {
            return Err(Unfit::NoRoom);
        }
        let result = self.evm.transact_commit(transaction(tx))?;

        let gas_used = result.tx_gas_used();
        self.header.gas_used = self.header.gas_used.saturating_add(gas_used);
        let outcome = Outcome {
            effective_gas_price: tx.effective_gas_price(self.header.base_fee_per_gas),
            contract_address: tx.to().is_none().then(|| tx.signer().create(tx.nonce())),
            gas_used,
            first_log: self.logs,
            receipt: receipt(tx.tx_type(), self.header.gas_used, result),
        };
        self.logs = self.logs.saturating_add(outcome.logs());
        self.outcomes.push(outcome);
        self.transactions.push(Arc::clone(tx));
        Ok(())
    }

    /// Completes the header but for the state root.
    pub(crate) fn finish(self) -> Draft {
        self.pause().committed()
    }

    /// Leaves the block as it is, to be gone on with.
    pub(crate) fn pause(self) -> Draft {
        let Self { evm, header, transactions, outcomes, balances, .. } = self;
        Draft { header, transactions, outcomes, balances, cache: evm.ctx.journaled_state.database.cache }
    }
}

impl Draft {
    /// A block without transactions.
    pub(crate) fn empty(header: Header) -> Self {
        let (transactions, outcomes, balances) = (Vec::new(), Vec::new(), Vec::new());
        Self { header, transactions, outcomes, balances, cache: Cache::default() }
    }

    /// The same with a header that commits to transactions and receipts.
    pub(crate) fn committed(mut self) -> Self {
        let signed: Vec<&Transaction> = self.transactions.iter().map(|tx| &**tx).collect();
        self.header.transactions_root = calculate_transaction_root(&signed);
        let receipts: Vec<&ReceiptEnvelope> = self.outcomes.iter().map(|outcome| &outcome.receipt).collect();
        self.header.receipts_root = calculate_receipt_root(&receipts);
        self.header.logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
        self
    }
}

/// The state after a block, or after a draft that follows on it.
#[derive(Clone, Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) view: View<'a>,
    pub(crate) draft: Option<Arc<Draft>>,
}

impl Ground<'_> {
    fn cache(&self) -> Option<&Cache> {
        self.draft.as_ref().map(|draft| &draft.cache)
    }

    /// The root of this state with what execution has left in `cache` on top of it.
    pub(crate) fn root_with(&self, cache: &Cache) -> B256 {
        self.view.root_with(self.cache().into_iter().chain([cache]))
    }
}

impl DatabaseRef for Ground<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        match self.cache().and_then(|cache| cache.accounts.get(&address)) {
            Some(account) => Ok(account.info()),
            None => self.view.basic_ref(address),
        }
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Infallible> {
        match self.cache().and_then(|cache| cache.contracts.get(&code_hash)) {
            Some(code) => Ok(code.clone()),
            None => self.view.code_by_hash_ref(code_hash),
        }
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, Infallible> {
        let account = self.cache().and_then(|cache| cache.accounts.get(&address));
        if let Some(value) = account.and_then(|account| account.storage.get(&index)) {
            return Ok(*value);
        }
        match account.map(|account| &account.account_state) {
            Some(AccountState::StorageCleared | AccountState::NotExisting) => Ok(U256::ZERO),
            _ => self.view.storage_ref(address, index),
        }
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        self.view.block_hash_ref(number)
    }
}

/// What a block commits to of a transaction.
pub(crate) fn receipt(kind: TxType, cumulative_gas_used: u64, result: ExecutionResult) -> ReceiptEnvelope {
    let success = result.is_success();
    // Logs of a reverted call are undone with everything else that it did.
    let logs = if success { result.into_logs() } else { Vec::new() };
    ReceiptEnvelope::from_typed(kind, Receipt { status: success.into(), cumulative_gas_used, logs })
}

/// The rules of this chain.
pub(crate) fn config(chain_id: u64) -> CfgEnv {
    CfgEnv::new_with_spec(SPEC).with_chain_id(chain_id)
}

/// What a contract sees of its block.
pub(crate) fn environment(header: &Header) -> BlockEnv {
    let mut block = BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: header.difficulty,
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    };
    block.set_blob_excess_gas_and_price(
        header.excess_blob_gas.unwrap_or_default(),
        BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE,
    );
    block
}

/// A signed transaction in the engine's form.
pub(crate) fn transaction(tx: &Transaction) -> TxEnv {
    let mut env = TxEnv {
        tx_type: tx.tx_type().into(),
        caller: tx.signer(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.to().map_or(TxKind::Create, TxKind::Call),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        ..TxEnv::default()
    };
    env.set_signed_authorization(tx.authorization_list().map(<[_]>::to_vec).unwrap_or_default());
    env
}
