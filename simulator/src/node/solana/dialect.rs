//! Agave's JSON-RPC: the table of methods, and subscriptions ([`subscribe`]).
//!
//! Documented at <https://solana.com/docs/rpc/http>; what the documentation leaves open follows agave 4.2
//! (`rpc/src/rpc.rs`).
//!
//! Limits of this node:
//! - accounts are kept as of the newest slot and of the slots that are not finalized yet; `commitment` is honoured
//!   everywhere;
//! - a simulation reads its accounts as of the commitment asked for, but always sees the newest slot's clock;
//! - a queued transaction that can't be included in the next slot is dropped. One whose block is lost with a fork is sent again unless
//!   `maxRetries` is 0; how often has no effect;
//! - the order in a block is the order of arrival, not of priority fees;
//! - there are no subscriptions to blocks, programs, votes and slot updates;
//! - nodes vote among themselves, not by transactions: there are no rewards, and there are no precompiles;
//! - who leads a slot is decided when it comes: `getSlotLeader` tells who led the newest;
//! - `base64+zstd` is refused, as are version 1 transactions.

mod account;
mod cluster;
mod error;
mod history;
mod params;
mod parsed;
mod submit;
mod subscribe;
mod token;
mod transaction;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use self::params::Args;
use self::subscribe::Subscriptions;
use super::ledger::Slot;
use super::validator::Validator;
use crate::rpc::socket::Session;
use crate::rpc::{Dialect, INTERNAL_ERROR, JsonRpcVersion, RpcError};

/// The agave release whose runtime crates execute the transactions, as `getVersion` names it.
const SOLANA_CORE: &str = "4.2.2";

/// What a method answers.
type Answer = Result<Value, RpcError>;

/// The node as its clients see it.
pub(super) struct SolanaDialect {
    pub(super) validator: Arc<Mutex<Validator>>,
}

impl Dialect for SolanaDialect {
    const VERSION: JsonRpcVersion = JsonRpcVersion::V2;

    async fn call(&self, method: &str, params: &Value) -> Answer {
        self.call_behind(method, params, 0).await
    }

    async fn call_behind(&self, method: &str, params: &Value, blocks: u32) -> Answer {
        // Executing a transaction takes too long for the threads that serve connections.
        let (validator, method, params) = (self.validator.clone(), method.to_owned(), params.clone());
        let answer = tokio::task::spawn_blocking(move || {
            let mut validator =
                validator.lock().map_err(|_| RpcError::new(INTERNAL_ERROR, "the node failed; restart it"))?;
            validator.look(blocks);
            let answered = Args::new(&params).and_then(|args| answer(&mut validator, &method, &args));
            validator.look_up();
            answered
        });
        answer.await.unwrap_or_else(|_| Err(RpcError::new(INTERNAL_ERROR, "the node failed")))
    }

    fn lie(&self, method: &str, params: &Value) -> Option<Answer> {
        (method == "sendTransaction").then(|| submit::pretend(&Args::new(params)?))
    }

    fn page(&self, path: &str) -> Option<String> {
        let healthy = self.validator.lock().is_ok_and(|validator| validator.is_healthy());
        (path == "/health").then(|| if healthy { "ok" } else { "unknown" }.to_owned())
    }

    fn session(&self) -> Option<Arc<dyn Session>> {
        let session: Arc<dyn Session> = Arc::new(Subscriptions::new(self.validator.clone())?);
        Some(session)
    }
}

fn answer(validator: &mut Validator, method: &str, args: &Args<'_>) -> Answer {
    match method {
        "getHealth" => cluster::health(validator),
        "getVersion" => cluster::version(),
        "getGenesisHash" => cluster::genesis_hash(),
        "getIdentity" => cluster::identity(validator),
        "getClusterNodes" => cluster::nodes(validator),
        "getSlotLeader" => cluster::slot_leader(validator, args),
        "getVoteAccounts" => cluster::vote_accounts(validator),
        "getSlot" => cluster::slot(validator, args),
        "getBlockHeight" => cluster::block_height(validator, args),
        "getEpochInfo" => cluster::epoch_info(validator, args),
        "getEpochSchedule" => cluster::epoch_schedule(),
        "getTransactionCount" => cluster::transaction_count(validator, args),
        "getSupply" => cluster::supply(validator, args),
        "getFirstAvailableBlock" | "minimumLedgerSlot" => Ok(json!(0)),

        "getLatestBlockhash" => cluster::latest_blockhash(validator, args),
        "isBlockhashValid" => cluster::is_blockhash_valid(validator, args),
        "getRecentPrioritizationFees" => cluster::recent_prioritization_fees(validator, args),
        "getMinimumBalanceForRentExemption" => cluster::rent_exempt_minimum(validator, args),

        "getBalance" => account::balance(validator, args),
        "getAccountInfo" => account::info(validator, args),
        "getMultipleAccounts" => account::multiple(validator, args),
        "getProgramAccounts" => account::of_program(validator, args),
        "getTokenAccountBalance" => token::account_balance(validator, args),
        "getTokenAccountsByOwner" => token::accounts_by_owner(validator, args),
        "getTokenSupply" => token::supply(validator, args),

        "getFeeForMessage" => submit::fee_for_message(validator, args),
        "simulateTransaction" => submit::simulate(validator, args),
        "sendTransaction" => submit::send(validator, args),
        "requestAirdrop" => submit::request_airdrop(validator, args),
        "sim_fund" => submit::fund(validator, args),
        "sim_mine" => submit::mine(validator, args),
        "sim_expireBlockhashes" => submit::expire_blockhashes(validator),

        "getSignatureStatuses" => history::signature_statuses(validator, args),
        "getSignaturesForAddress" => history::signatures_for_address(validator, args),
        "getTransaction" => history::transaction(validator, args),
        "getBlock" => history::block(validator, args),
        "getBlocks" => history::blocks(validator, args),
        "getBlocksWithLimit" => history::blocks_with_limit(validator, args),
        "getBlockTime" => history::block_time(validator, args),
        _ => Err(RpcError::new(crate::rpc::METHOD_NOT_FOUND, "Method not found")),
    }
}

/// An answer with the slot that it is of.
fn with_context(slot: Slot, value: Value) -> Value {
    json!({ "context": { "apiVersion": SOLANA_CORE, "slot": slot }, "value": value })
}
