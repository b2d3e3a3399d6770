//! The Solana client against a node that answers, lies, stalls and breaks off.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain};
use chains::client::{BroadcastError, Client, SendClass, StateError, Status, Tip};
use chains::intent::Intent;
use chains::network::Cluster;
use chains::rpc::{Auth, RpcClient, RpcError};
use chains::solana::{
    DestinationKind, Lamports, MessageVersion, MicroLamports, Options, Percent, Signed, SolanaClient, State,
    TokenProgram, associated_token_account,
};
use serde_json::{Value, json};
use solana_program_pack::Pack;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::transaction::VersionedTransaction;
use spl_token_interface::state::{Account as TokenAccount, AccountState, Mint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

use crate::fixture::{CHAIN, LAST_VALID, MINIMUM, key, pay_sol, pay_spl, state, under_blockhash, wallet};

const GENESIS: &str = "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn";

/// `getMultipleAccounts` for the wallet's eight nonce accounts.
pub(crate) const NONCES: &str = "the nonce accounts";

/// A node that answers each method from its own queue; the last answer stays.
pub(crate) struct Node {
    answers: Mutex<HashMap<&'static str, VecDeque<Result<Value, Value>>>>,
}

impl Node {
    /// A node of a local cluster, with a state from which a payment in SOL can be built.
    pub(crate) fn new() -> Self {
        let node = Self { answers: Mutex::new(HashMap::new()) };
        node.says("getGenesisHash", json!(GENESIS))
            .says(
                "getLatestBlockhash",
                valued(json!({ "blockhash": key(9).to_string(), "lastValidBlockHeight": LAST_VALID })),
            )
            .says("getMinimumBalanceForRentExemption", json!(MINIMUM))
            .says("getRecentPrioritizationFees", json!([]))
            .says("simulateTransaction", valued(json!({ "err": null, "logs": [], "unitsConsumed": 450 })))
            .says("getMultipleAccounts", accounts(&[wallet_account(1_000_000_000), Value::Null]))
            .says(NONCES, accounts(&[const { Value::Null }; 8]))
    }

    pub(crate) fn answer(self, method: &'static str, answers: impl IntoIterator<Item = Result<Value, Value>>) -> Self {
        self.answers.lock().expect("no panic before").insert(method, answers.into_iter().collect());
        self
    }

    pub(crate) fn says(self, method: &'static str, result: Value) -> Self {
        self.answer(method, [Ok(result)])
    }

    pub(crate) fn fails(self, method: &'static str, code: i64, data: Value) -> Self {
        self.answer(method, [Err(json!({ "code": code, "message": "words", "data": data }))])
    }

    pub(crate) async fn start(self) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(matchers::method("POST")).respond_with(self).mount(&server).await;
        server
    }
}

impl Respond for Node {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().expect("JSON");
        let mut answers = self.answers.lock().expect("no panic before");
        // The wallet's durable nonces are asked for by the same method as the parties of a payment.
        let nonces = body["method"] == "getMultipleAccounts" && body["params"][0].as_array().map(Vec::len) == Some(8);
        let method = if nonces { NONCES } else { body["method"].as_str().expect("a method") };
        let queue = answers.get_mut(method);
        let answer = queue.and_then(|queue| if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() });
        let (name, value) = match answer {
            Some(Ok(result)) => ("result", result),
            Some(Err(error)) => ("error", error),
            None => ("error", json!({ "code": -32601, "message": "Method not found" })),
        };
        ResponseTemplate::new(200).set_body_json(json!({ "jsonrpc": "2.0", "id": body["id"], name: value }))
    }
}

pub(crate) fn valued(value: Value) -> Value {
    json!({ "context": { "slot": 1_000 }, "value": value })
}

pub(crate) fn accounts(list: &[Value]) -> Value {
    valued(json!(list))
}

pub(crate) fn an_account(owner: Pubkey, lamports: u64, data: &[u8]) -> Value {
    json!({
        "lamports": lamports, "owner": owner.to_string(), "executable": false, "rentEpoch": u64::MAX,
        "data": [BASE64_STANDARD.encode(data), "base64"], "space": data.len(),
    })
}

pub(crate) fn wallet_account(lamports: u64) -> Value {
    an_account(Pubkey::default(), lamports, &[])
}

fn mint(program: TokenProgram) -> Value {
    let mut data = vec![0; Mint::LEN];
    let packed = Mint { decimals: 6, is_initialized: true, ..Mint::default() };
    Mint::pack(packed, &mut data).expect("82 bytes");
    an_account(program.id(), 1_461_600, &data)
}

fn holding(program: TokenProgram, mint: Pubkey, owner: Pubkey, amount: u64, state: AccountState) -> Value {
    let mut data = vec![0; TokenAccount::LEN];
    let packed = TokenAccount { mint, owner, amount, state, ..Default::default() };
    TokenAccount::pack(packed, &mut data).expect("165 bytes");
    an_account(program.id(), 2_039_280, &data)
}

pub(crate) fn client_with(server: &MockServer, cluster: Cluster, options: Options) -> SolanaClient {
    let rpc = RpcClient::new(&server.uri(), Auth::None, Duration::from_secs(5)).expect("a URL");
    SolanaClient::new(rpc, cluster, options)
}

pub(crate) fn client(server: &MockServer) -> SolanaClient {
    client_with(server, Cluster::Localnet, Options::default())
}

async fn read(node: Node, intent: &Intent) -> Result<State, StateError> {
    client(&node.start().await).state(intent, &wallet().account, &BTreeSet::new()).await
}

pub(crate) async fn asked(server: &MockServer, method: &str) -> Vec<Value> {
    let requests = server.received_requests().await.expect("recorded");
    let bodies = requests.iter().map(|request| request.body_json::<Value>().expect("JSON"));
    bodies.filter(|body| body["method"] == method).map(|body| body["params"].clone()).collect()
}

fn signed() -> Signed {
    let wallet = wallet();
    let built = CHAIN.build(&pay_sol(key(5), 1), &wallet.account, &state()).expect("possible");
    let payloads = CHAIN.payloads(&wallet.account, &built).expect("the wallet's");
    CHAIN.assemble(&wallet.account, &built, &[wallet.sign(&payloads[0])]).expect("signed")
}

// ---- state ----

#[tokio::test]
async fn a_state_for_sol() {
    let node = Node::new().says("getRecentPrioritizationFees", {
        let fees = [7, 0, 900, 100].map(|fee| json!({ "slot": 1, "prioritizationFee": fee }));
        json!(fees)
    });
    let server = node.start().await;
    let intent = pay_sol(key(5), MINIMUM);
    let state = client(&server).state(&intent, &wallet().account, &BTreeSet::new()).await.expect("a state");
    assert_eq!(state.validity, under_blockhash([9; 32]));
    assert_eq!(state.balance, Lamports::new(1_000_000_000));
    assert_eq!(state.rent_exempt_minimum, Lamports::new(MINIMUM));
    assert_eq!((state.destination.kind, state.destination.lamports), (DestinationKind::Absent, Lamports::new(0)));
    assert_eq!((state.version, state.token), (MessageVersion::V0, None));
    // 450 units and a fifth more; the third of four prices is the 75th percentile.
    assert_eq!((state.compute.unit_limit, state.compute.unit_price), (540, MicroLamports::new(100)));
    assert!(CHAIN.build(&intent, &wallet().account, &state).is_ok());

    let simulated = asked(&server, "simulateTransaction").await;
    let [params] = simulated.as_slice() else { panic!("one simulation") };
    let bytes = BASE64_STANDARD.decode(params[0].as_str().expect("base64")).expect("base64");
    let tried: VersionedTransaction = bincode::deserialize(&bytes).expect("a transaction");
    assert_eq!(tried.message.static_account_keys()[0], wallet().address());
    assert_eq!((&params[1]["sigVerify"], &params[1]["replaceRecentBlockhash"]), (&json!(false), &json!(true)));
    let fees = asked(&server, "getRecentPrioritizationFees").await;
    assert_eq!(fees, [json!([[wallet().address().to_string(), key(5).to_string()]])]);
    assert_eq!(asked(&server, "getGenesisHash").await.len(), 1, "asked once");
}

#[tokio::test]
async fn the_price_of_a_unit_has_bounds() {
    for (fees, percentile, expected) in [
        (vec![], 75, 5),
        (vec![1, 2, 3], 100, 5),
        (vec![6, 10, 20], 0, 6),
        (vec![6, 10, 20], 50, 10),
        (vec![6, 10, 20], 100, 20),
        (vec![6, 10, 20], 9_999, 20),
        (vec![1_000], 50, 50),
    ] {
        let answer: Vec<_> = fees.iter().map(|fee| json!({ "slot": 1, "prioritizationFee": fee })).collect();
        let server = Node::new().says("getRecentPrioritizationFees", json!(answer)).start().await;
        let mut options = Options::default();
        options.priority.percentile = Percent::new(percentile);
        options.priority.floor = MicroLamports::new(5);
        options.priority.cap = MicroLamports::new(50);
        let client = client_with(&server, Cluster::Localnet, options);
        let state =
            client.state(&pay_sol(key(5), MINIMUM), &wallet().account, &BTreeSet::new()).await.expect("a state");
        assert_eq!(state.compute.unit_price, MicroLamports::new(expected), "{fees:?} {percentile}");
    }
}

/// The accounts that are asked for in one snapshot, in their order.
fn token_accounts(program: TokenProgram, source: Value, destination: Value) -> Value {
    let payer = wallet_account(1_000_000_000);
    let (to, mint) = (wallet_account(1), mint(program));
    match program {
        TokenProgram::Token => accounts(&[payer, to, mint, source, destination, Value::Null, Value::Null]),
        TokenProgram::Token2022 => accounts(&[payer, to, mint, Value::Null, Value::Null, source, destination]),
    }
}

#[tokio::test]
async fn a_state_for_tokens() {
    let (minted, own, to) = (key(3), wallet().address(), key(5));
    for program in TokenProgram::ALL {
        let rent = if program == TokenProgram::Token { 2_039_280_u64 } else { 2_074_080 };
        let source = holding(program, minted, own, 77, AccountState::Initialized);
        let theirs = holding(program, minted, to, 0, AccountState::Initialized);
        // Lamports alone make no token account.
        for (destination, exists) in [(theirs, true), (Value::Null, false), (wallet_account(5), false)] {
            let node = Node::new()
                .says("getMultipleAccounts", token_accounts(program, source.clone(), destination))
                .answer("getMinimumBalanceForRentExemption", [Ok(json!(rent)), Ok(json!(MINIMUM))]);
            let server = node.start().await;
            let intent = pay_spl(minted, to, 70);
            let state = client(&server).state(&intent, &wallet().account, &BTreeSet::new()).await.expect("a state");
            let token = state.token.expect("facts about the token");
            assert_eq!((token.mint, token.program, token.decimals), (minted, program, 6));
            assert_eq!((token.source_balance, token.destination_exists), (77, exists));
            assert_eq!(token.account_rent, Lamports::new(rent));
            let asked = asked(&server, "getMultipleAccounts").await;
            let names = asked[0][0].as_array().expect("names");
            let at = if program == TokenProgram::Token { 3 } else { 5 };
            assert_eq!(names[at], associated_token_account(&own, &minted, program).to_string());
            assert_eq!(names[at + 1], associated_token_account(&to, &minted, program).to_string());
            assert!(CHAIN.build(&intent, &wallet().account, &state).is_ok());
        }
    }
}

#[tokio::test]
async fn tokens_that_do_not_move() {
    let (minted, own, to, program) = (key(3), wallet().address(), key(5), TokenProgram::Token);
    let intent = pay_spl(minted, to, 70);
    let source = holding(program, minted, own, 77, AccountState::Initialized);
    let unsupported = [
        ("handed over", holding(program, minted, key(6), 0, AccountState::Initialized)),
        ("another mint", holding(program, key(6), to, 0, AccountState::Initialized)),
        ("frozen", holding(program, minted, to, 0, AccountState::Frozen)),
        ("unreadable", an_account(program.id(), 1, &[1, 2, 3])),
    ];
    for (name, destination) in unsupported {
        let node = Node::new().says("getMultipleAccounts", token_accounts(program, source.clone(), destination));
        let found = read(node, &intent).await;
        assert!(matches!(found, Err(StateError::Build(BuildError::Unsupported(_)))), "{name}: {found:?}");
    }

    for no_mint in [Value::Null, wallet_account(1), source.clone(), an_account(program.id(), 1, &[0; 82])] {
        let mut list = vec![Value::Null; 7];
        list[2] = no_mint;
        let found = read(Node::new().says("getMultipleAccounts", accounts(&list)), &intent).await;
        assert!(matches!(found, Err(StateError::Build(BuildError::WrongAsset { .. }))), "{found:?}");
    }

    let mut with_fee = vec![0; 165];
    Mint::pack(Mint { is_initialized: true, ..Mint::default() }, &mut with_fee[..82]).expect("82 bytes");
    with_fee.extend([1, 1, 0, 0, 0]);
    let mut list = vec![Value::Null; 7];
    list[2] = an_account(TokenProgram::Token2022.id(), 1, &with_fee);
    let found = read(Node::new().says("getMultipleAccounts", accounts(&list)), &intent).await;
    assert!(matches!(found, Err(StateError::Build(BuildError::Unsupported(_)))), "{found:?}");

    let nothing = token_accounts(program, Value::Null, Value::Null);
    let found = read(Node::new().says("getMultipleAccounts", nothing), &intent).await;
    assert!(matches!(found, Err(StateError::Build(BuildError::InsufficientFunds { .. }))), "{found:?}");
}

#[tokio::test]
async fn what_a_destination_is() {
    let token = TokenProgram::Token;
    let mut program = wallet_account(1);
    program["executable"] = json!(true);
    let refused = [
        ("program", program),
        ("mint", mint(token)),
        ("token account", holding(token, key(3), key(4), 1, AccountState::Initialized)),
    ];
    for (name, destination) in refused {
        let node = Node::new().says("getMultipleAccounts", accounts(&[wallet_account(1_000_000_000), destination]));
        let found = read(node, &pay_sol(key(5), MINIMUM)).await;
        assert!(matches!(found, Err(StateError::Build(BuildError::Unsupported(_)))), "{name}: {found:?}");
    }
    for (destination, kind) in
        [(wallet_account(9), DestinationKind::Wallet), (an_account(key(8), MINIMUM, &[1]), DestinationKind::Other)]
    {
        let node = Node::new().says("getMultipleAccounts", accounts(&[wallet_account(1_000_000_000), destination]));
        let state = read(node, &pay_sol(key(5), MINIMUM)).await.expect("a state");
        assert_eq!(state.destination.kind, kind);
    }
}

#[tokio::test]
async fn what_the_simulation_says() {
    let intent = pay_sol(key(5), MINIMUM);
    let failed = valued(json!({ "err": { "InstructionError": [2, { "Custom": 1 }] }, "unitsConsumed": 1 }));
    let found = read(Node::new().says("simulateTransaction", failed), &intent).await;
    assert!(matches!(&found, Err(StateError::Reverted(why)) if why.contains("Custom")), "{found:?}");
    // The blockhash is the node's own: it is the node that is at fault.
    let lost = valued(json!({ "err": "BlockhashNotFound", "unitsConsumed": 0 }));
    let found = read(Node::new().says("simulateTransaction", lost), &intent).await;
    assert!(matches!(&found, Err(StateError::Rpc(_))), "{found:?}");

    let silent = valued(json!({ "err": null }));
    let found = read(Node::new().says("simulateTransaction", silent), &intent).await;
    assert!(matches!(found, Err(StateError::Rpc(RpcError::Malformed { .. }))), "{found:?}");

    let huge = valued(json!({ "err": null, "unitsConsumed": u64::MAX }));
    let state = read(Node::new().says("simulateTransaction", huge), &intent).await.expect("a state");
    assert_eq!(state.compute.unit_limit, 1_400_000);
}

#[tokio::test]
async fn equal_payments_become_different_messages() {
    let server = Node::new().start().await;
    let (client, wallet, intent) = (client(&server), wallet(), pay_sol(key(5), MINIMUM));
    let mut busy = BTreeSet::new();
    let mut limits = Vec::new();
    for _ in 0..3 {
        let state = client.state(&intent, &wallet.account, &busy).await.expect("a state");
        let built = CHAIN.build(&intent, &wallet.account, &state).expect("possible");
        let slots = CHAIN.slots(&wallet.account, &built);
        assert!(slots.is_disjoint(&busy));
        busy.extend(slots);
        limits.push(state.compute.unit_limit);
    }
    assert_eq!(limits, [540, 541, 542]);
}

#[tokio::test]
async fn answers_that_break_their_promise() {
    let intent = pay_sol(key(5), MINIMUM);
    let mut json_parsed = wallet_account(1);
    json_parsed["data"] = json!({ "parsed": {} });
    let mut base58 = wallet_account(1);
    base58["data"] = json!(["", "base58"]);
    let mut owner = wallet_account(1);
    owner["owner"] = json!("nobody");
    let cases = [
        ("getMultipleAccounts", accounts(&[wallet_account(1)])),
        ("getMultipleAccounts", accounts(&[json_parsed, Value::Null])),
        ("getMultipleAccounts", accounts(&[base58, Value::Null])),
        ("getMultipleAccounts", accounts(&[owner, Value::Null])),
        ("getMultipleAccounts", json!([])),
        ("getLatestBlockhash", valued(json!({ "blockhash": "short", "lastValidBlockHeight": 1 }))),
        ("getLatestBlockhash", valued(json!({ "blockhash": key(9).to_string(), "lastValidBlockHeight": -1 }))),
        ("getMinimumBalanceForRentExemption", json!("890880")),
        ("getRecentPrioritizationFees", Value::Null),
        ("getGenesisHash", json!(1)),
    ];
    for (method, answer) in cases {
        let found = read(Node::new().says(method, answer.clone()), &intent).await;
        assert!(matches!(found, Err(StateError::Rpc(RpcError::Malformed { .. }))), "{method} {answer}: {found:?}");
    }
}

// ---- which cluster ----

#[tokio::test]
async fn a_node_of_another_cluster() {
    const DEVNET: &str = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG";
    let pinned = Options { genesis: Some(GENESIS.parse().expect("a hash")), ..Options::default() };
    let cases = [
        (Cluster::MainnetBeta, DEVNET, Options::default(), false),
        (Cluster::Testnet, GENESIS, Options::default(), false),
        (Cluster::Devnet, DEVNET, Options::default(), true),
        (Cluster::Localnet, DEVNET, Options::default(), true),
        (Cluster::Localnet, DEVNET, pinned.clone(), false),
        (Cluster::Localnet, GENESIS, pinned.clone(), true),
        (Cluster::Devnet, DEVNET, pinned, false),
    ];
    for (cluster, genesis, options, right) in cases {
        let node = Node::new().says("getGenesisHash", json!(genesis)).says("getSlot", json!(7));
        let server = node.says("sendTransaction", json!(CHAIN.id(&signed()).as_str())).start().await;
        let client = client_with(&server, cluster, options);
        let tip = client.tip().await;
        let sent = client.broadcast(&signed()).await;
        if right {
            assert_eq!(tip.expect("the right cluster"), Tip { height: 7, finalized: Some(7) });
            assert!(sent.is_ok());
        } else {
            assert!(matches!(&tip, Err(RpcError::Endpoint { reason, .. }) if reason.contains(genesis)), "{tip:?}");
            assert!(matches!(sent, Err(BroadcastError::Rpc(RpcError::Endpoint { .. }))), "{sent:?}");
            assert!(asked(&server, "sendTransaction").await.is_empty(), "nothing leaves for another cluster");
        }
    }
}

// ---- balance ----

#[tokio::test]
async fn balances() {
    let (minted, own) = (key(3), wallet().address());
    let held = |program| holding(program, minted, own, 77, AccountState::Initialized);
    let theirs = holding(TokenProgram::Token, minted, key(6), 99, AccountState::Initialized);
    let frozen = holding(TokenProgram::Token, minted, own, 77, AccountState::Frozen);
    for (pair, expected) in [
        ([held(TokenProgram::Token), Value::Null], 77),
        ([Value::Null, held(TokenProgram::Token2022)], 77),
        ([Value::Null, Value::Null], 0),
        ([theirs, Value::Null], 0),
        ([frozen, Value::Null], 77),
    ] {
        let node = Node::new().says("getMultipleAccounts", accounts(&pair)).says("getBalance", valued(json!(5)));
        let server = node.start().await;
        let client = client(&server);
        let account = &wallet().account;
        assert_eq!(client.balance(account, Asset::Native).await.expect("told"), Amount::from_lamports(5));
        let tokens = client.balance(account, Asset::Spl(minted)).await.expect("told");
        assert_eq!(tokens, Amount::from_lamports(expected));
    }
}

// ---- broadcast ----

#[tokio::test]
async fn a_broadcast() {
    let signed = signed();
    let server = Node::new().says("sendTransaction", json!(CHAIN.id(&signed).as_str())).start().await;
    client(&server).broadcast(&signed).await.expect("taken");
    let sent = asked(&server, "sendTransaction").await;
    let config = json!({
        "encoding": "base64", "skipPreflight": false, "preflightCommitment": "confirmed", "maxRetries": 0,
    });
    assert_eq!(sent, [json!([BASE64_STANDARD.encode(signed.transaction_bytes()), config])]);

    let server = Node::new().says("sendTransaction", json!("another")).start().await;
    let lie = client(&server).broadcast(&signed).await;
    assert!(matches!(lie, Err(BroadcastError::Rpc(RpcError::Malformed { .. }))), "{lie:?}");
}

#[tokio::test]
async fn what_a_node_says_to_a_broadcast() {
    let send = async |code, data| {
        let server = Node::new().fails("sendTransaction", code, data).start().await;
        client(&server).broadcast(&signed()).await
    };
    assert!(send(-32002, json!({ "err": "AlreadyProcessed" })).await.is_ok());
    let late = send(-32002, json!({ "err": "BlockhashNotFound" })).await;
    let expired = |late: &_| matches!(late, Err(BroadcastError::Rejected { class: SendClass::Expired, .. }));
    assert!(expired(&late), "{late:?}");
    let behind = send(-32005, json!({ "numSlotsBehind": 42 })).await;
    assert!(matches!(behind, Err(BroadcastError::Rejected { class: SendClass::Busy, .. })), "{behind:?}");
}

// ---- status ----

pub(crate) fn status(slot: u64, confirmations: Value, err: Value, commitment: &str) -> Value {
    json!({ "slot": slot, "confirmations": confirmations, "err": err, "confirmationStatus": commitment, "status": {} })
}

async fn becomes(node: Node) -> Status {
    client(&node.start().await).status(&signed()).await.expect("told")
}

fn epoch(height: u64) -> Value {
    json!({ "absoluteSlot": 1_000, "blockHeight": height })
}

#[tokio::test]
async fn what_is_not_seen_is_unknown_until_its_blockhash_is_too_old() {
    let nothing = valued(json!([null]));
    let seen = valued(json!([status(990, json!(0), Value::Null, "processed")]));
    // What has become of it then, its blocks tell.
    for (height, looks) in [(0, 0), (LAST_VALID, 0), (LAST_VALID + 1, 1)] {
        let node = Node::new().says("getSignatureStatuses", nothing.clone()).says("getEpochInfo", epoch(height));
        let server = node.says("getBlocksWithLimit", json!([])).start().await;
        assert_eq!(client(&server).status(&signed()).await.expect("told"), Status::Unknown, "{height}");
        assert_eq!(asked(&server, "getBlocksWithLimit").await.len(), looks, "{height}");
    }
    // It was included between the questions for its status and for the height.
    let node = Node::new()
        .answer("getSignatureStatuses", [Ok(nothing.clone()), Ok(seen)])
        .says("getEpochInfo", epoch(LAST_VALID + 1));
    assert!(matches!(becomes(node).await, Status::Included(_)));
    // Another node answers, which is behind.
    let behind = json!({ "context": { "slot": 999 }, "value": [null] });
    let node = Node::new().says("getSignatureStatuses", behind).says("getEpochInfo", epoch(LAST_VALID + 1));
    let server = node.start().await;
    assert_eq!(client(&server).status(&signed()).await.expect("told"), Status::Unknown);
    assert!(asked(&server, "getBlocksWithLimit").await.is_empty());

    let server = Node::new().says("getSignatureStatuses", nothing).says("getEpochInfo", epoch(0)).start().await;
    client(&server).status(&signed()).await.expect("told");
    let id = CHAIN.id(&signed());
    let asked_for = asked(&server, "getSignatureStatuses").await;
    assert_eq!(asked_for, [json!([[id.as_str()], { "searchTransactionHistory": true }])]);
    assert_eq!(asked(&server, "getEpochInfo").await, [json!([{ "commitment": "finalized" }])]);
}

/// Without its history a node can't say that there is no status.
#[tokio::test]
async fn a_node_without_history_proves_nothing() {
    let node = Node::new().fails("getSignatureStatuses", -32011, Value::Null).says("getEpochInfo", epoch(u64::MAX));
    let found = client(&node.start().await).status(&signed()).await;
    assert!(matches!(found, Err(RpcError::Node { code: -32011, .. })), "{found:?}");
}

#[tokio::test]
async fn inclusions() {
    let custom = json!({ "InstructionError": [2, { "Custom": 1 }] });
    // slot 1000 is the node's best
    let cases = [
        (status(1_000, json!(0), Value::Null, "processed"), (1, false, true)),
        (status(990, json!(10), Value::Null, "confirmed"), (11, false, true)),
        (status(960, Value::Null, Value::Null, "finalized"), (41, true, true)),
        (status(1_001, Value::Null, Value::Null, "finalized"), (1, true, true)),
        (status(990, json!(10), custom.clone(), "confirmed"), (11, false, false)),
    ];
    for (answer, (confirmations, finalized, succeeded)) in cases {
        let node = Node::new()
            .says("getSignatureStatuses", valued(json!([answer])))
            .says("getTransaction", json!({ "slot": 960, "meta": { "fee": 5_371, "err": null } }));
        let Status::Included(found) = becomes(node).await else { panic!("included: {answer}") };
        assert_eq!(found.height, answer["slot"].as_u64().expect("a slot"));
        assert_eq!((found.confirmations, found.finalized, found.succeeded), (confirmations, finalized, succeeded));
        assert_eq!(found.failure, (!succeeded).then(|| custom.to_string()));
        assert_eq!(found.fee, finalized.then(|| Amount::from_lamports(5_371)));
    }
    // The fee is not worth an error.
    for node in
        [Node::new().says("getTransaction", Value::Null), Node::new().fails("getTransaction", -32011, Value::Null)]
    {
        let answer = valued(json!([status(960, Value::Null, Value::Null, "finalized")]));
        let Status::Included(found) = becomes(node.says("getSignatureStatuses", answer)).await else {
            panic!("included")
        };
        assert_eq!((found.finalized, found.fee), (true, None));
    }
}

#[tokio::test]
async fn a_status_for_each_signature_asked() {
    for answer in [json!([]), json!([null, null])] {
        let node = Node::new().says("getSignatureStatuses", valued(answer));
        let found = client(&node.start().await).status(&signed()).await;
        assert!(matches!(found, Err(RpcError::Malformed { .. })), "{found:?}");
    }
}

// ---- broken nodes ----

/// What a client learns from a node that answers everything with `template`.
async fn from_broken(template: ResponseTemplate) -> [RpcError; 3] {
    let server = MockServer::start().await;
    Mock::given(matchers::any()).respond_with(template).mount(&server).await;
    let rpc = RpcClient::new(&server.uri(), Auth::None, Duration::from_millis(200)).expect("a URL");
    let client = SolanaClient::new(rpc, Cluster::Localnet, Options::default());
    let state = client.state(&pay_sol(key(5), MINIMUM), &wallet().account, &BTreeSet::new()).await;
    let StateError::Rpc(state) = state.expect_err("broken") else { panic!("a node's failure") };
    let BroadcastError::Rpc(sent) = client.broadcast(&signed()).await.expect_err("broken") else {
        panic!("a broken node's answer is no verdict")
    };
    [state, sent, client.status(&signed()).await.expect_err("broken")]
}

#[tokio::test]
async fn nodes_that_stall_or_babble() {
    let page = ResponseTemplate::new(502).set_body_raw("<html>Bad Gateway</html>", "text/html");
    for error in from_broken(page).await {
        assert!(matches!(error, RpcError::Malformed { status: 502, .. }), "{error:?}");
        assert!(error.is_transient());
    }
    let half = ResponseTemplate::new(200).set_body_raw(r#"{"jsonrpc":"2.0","id":1,"resu"#, "application/json");
    for error in from_broken(half).await {
        assert!(matches!(error, RpcError::Malformed { status: 200, .. }), "{error:?}");
    }
    let late = ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    for error in from_broken(late).await {
        assert!(matches!(error, RpcError::Timeout { .. }), "{error:?}");
    }
}

/// A connection that ends before the announced length.
#[tokio::test]
async fn half_a_body() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let node = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a client");
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await.expect("a request");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
        socket.write_all(format!("{head}{{\"jsonrpc\":").as_bytes()).await.expect("half an answer");
    });
    let rpc = RpcClient::new(&url, Auth::None, Duration::from_secs(5)).expect("a URL");
    let client = SolanaClient::new(rpc, Cluster::Localnet, Options::default());
    let found = client.tip().await;
    node.await.expect("it has broken off");
    assert!(matches!(found, Err(RpcError::Connection { .. })), "{found:?}");
}
