//! The Solana suite: what the simulated node tells of executed transactions against the bare `litesvm`, the engine that agave's own runtime
//! crates make up.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use litesvm::LiteSVM;
use serde_json::{Value, json};
use simulator::clock::SystemClock;
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::rpc::CancellationToken;
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::hash::Hash;
use solana_sdk::instruction::Instruction;
use solana_sdk::message::{VersionedMessage, v0};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};
use solana_sdk::transaction::VersionedTransaction;
use solana_system_interface::instruction as system;
use spl_associated_token_account_interface::address::get_associated_token_address as associated;
use spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent as create_associated;
use spl_token_interface::instruction as token;

use crate::subject::Subject;
use crate::transcript::Transcript;

const SOL: u64 = 1_000_000_000;
const TOKEN: Pubkey = spl_token_interface::ID;
const MEMO: Pubkey = Pubkey::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
/// Slots after which a transaction is final on the simulated node, and some.
const SETTLED: u32 = 40;

/// Something that executes transactions.
enum Machine {
    Bare(Box<LiteSVM>),
    Node(Subject),
}

impl Machine {
    fn bare() -> Self {
        let svm = LiteSVM::default().with_mainnet_features().with_builtins().with_sysvars();
        let svm = svm.with_feature_accounts().with_default_programs().with_lamports(1_000 * SOL);
        Self::Bare(Box::new(svm))
    }

    async fn fund(&mut self, address: &Pubkey, lamports: u64) {
        match self {
            Self::Bare(svm) => drop(svm.airdrop(address, lamports).unwrap()),
            Self::Node(node) => drop(node.ask("sim_fund", json!([address.to_string(), lamports.to_string()])).await),
        }
    }

    async fn blockhash(&mut self) -> Hash {
        match self {
            Self::Bare(svm) => {
                svm.expire_blockhash();
                svm.latest_blockhash()
            }
            Self::Node(node) => {
                let answer = node.ask("getLatestBlockhash", json!([{ "commitment": "processed" }])).await;
                answer["value"]["blockhash"].as_str().unwrap().parse().unwrap()
            }
        }
    }

    /// What came of a transaction, included in any case: error, fee, logs, compute units, calls between programs.
    async fn execute(&mut self, transaction: VersionedTransaction) -> Value {
        match self {
            Self::Bare(svm) => {
                let (err, meta) = match svm.send_transaction(transaction) {
                    Ok(meta) => (Value::Null, meta),
                    Err(failed) => (json!(failed.err), failed.meta),
                };
                let calls: usize = meta.inner_instructions.iter().map(Vec::len).sum();
                json!({ "err": err, "fee": meta.fee, "logs": meta.logs, "units": meta.compute_units_consumed, "calls": calls })
            }
            Self::Node(node) => {
                let wire = BASE64_STANDARD.encode(bincode::serialize(&transaction).unwrap());
                let config = json!({ "encoding": "base64", "skipPreflight": true });
                let signature = node.ask("sendTransaction", json!([wire, config])).await;
                node.ask("sim_mine", json!([SETTLED])).await;
                let config = json!({ "encoding": "json", "maxSupportedTransactionVersion": 0 });
                let meta = node.ask("getTransaction", json!([signature, config])).await["meta"].take();
                let inner = meta["innerInstructions"].as_array().unwrap();
                let calls: usize = inner.iter().map(|of| of["instructions"].as_array().unwrap().len()).sum();
                json!({ "err": meta["err"], "fee": meta["fee"], "logs": meta["logMessages"],
                    "units": meta["computeUnitsConsumed"], "calls": calls })
            }
        }
    }
}

async fn run(mut machine: Machine) -> Transcript {
    let key = |seed: u8| Keypair::new_from_array([seed; 32]);
    let (me, mint, nonce) = (key(1), key(2), key(3));
    let (from, you, coin) = (me.pubkey(), key(4).pubkey(), mint.pubkey());
    let (mine, yours) = (associated(&from, &coin), associated(&you, &coin));
    machine.fund(&from, 10 * SOL).await;
    let rent = LiteSVM::new().minimum_balance_for_rent_exemption(82);
    let limit = ComputeBudgetInstruction::set_compute_unit_limit;
    let pay = |amount: u64, decimals: u8| {
        token::transfer_checked(&TOKEN, &mine, &coin, &yours, &from, &[], amount, decimals).unwrap()
    };
    let memo = Instruction { program_id: MEMO, accounts: Vec::new(), data: b"parity".to_vec() };
    let steps: Vec<(&str, Vec<&Keypair>, Vec<Instruction>)> = vec![
        ("a transfer", vec![&me], vec![system::transfer(&from, &you, SOL)]),
        ("a transfer beyond the balance", vec![&me], vec![system::transfer(&from, &you, 100 * SOL)]),
        (
            "a priority fee",
            vec![&me],
            vec![
                limit(1_000),
                ComputeBudgetInstruction::set_compute_unit_price(1_000_000),
                system::transfer(&from, &you, 1),
            ],
        ),
        ("too few compute units", vec![&me], vec![limit(200), system::transfer(&from, &you, 1)]),
        ("a memo", vec![&me], vec![memo]),
        (
            "a mint",
            vec![&me, &mint],
            vec![
                system::create_account(&from, &coin, rent, 82, &TOKEN),
                token::initialize_mint2(&TOKEN, &coin, &from, None, 2).unwrap(),
                create_associated(&from, &from, &coin, &TOKEN),
                token::mint_to(&TOKEN, &coin, &mine, &from, &[], 1_000).unwrap(),
            ],
        ),
        ("a token transfer", vec![&me], vec![create_associated(&from, &you, &coin, &TOKEN), pay(400, 2)]),
        ("more tokens than there are", vec![&me], vec![pay(4_000, 2)]),
        ("other decimals", vec![&me], vec![pay(1, 3)]),
        (
            "the end of an account that isn't empty",
            vec![&me],
            vec![token::close_account(&TOKEN, &mine, &from, &from, &[]).unwrap()],
        ),
        (
            "the second of two fails",
            vec![&me],
            vec![system::transfer(&from, &you, 5), system::transfer(&from, &you, 100 * SOL)],
        ),
        ("a nonce account", vec![&me, &nonce], system::create_nonce_account(&from, &nonce.pubkey(), &from, 2_000_000)),
        ("two programs", vec![&me], vec![system::transfer(&from, &you, 2), pay(1, 2)]),
    ];
    let mut notes = Transcript::new("solana");
    for (step, keys, instructions) in steps {
        let message = v0::Message::try_compile(&from, &instructions, &[], machine.blockhash().await).unwrap();
        let transaction = VersionedTransaction::try_new(VersionedMessage::V0(message), &keys).unwrap();
        notes.exact(step, &machine.execute(transaction).await);
    }
    notes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_solana_node_executes_as_the_bare_litesvm_does() {
    let shutdown = CancellationToken::new();
    let config = SolanaConfig { block_interval: None, ..SolanaConfig::default() };
    let node = SolanaNode::start(config, Arc::new(SystemClock), shutdown.clone()).await.unwrap();
    let simulated = run(Machine::Node(Subject::new(&node.url()))).await;
    shutdown.cancel();
    node.stopped().await;
    Transcript::compare(&simulated, &run(Machine::bare()).await, &[]);
}
