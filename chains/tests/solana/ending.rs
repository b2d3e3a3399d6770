//! How a payment ends that can't be included any more, as the client reads it from a node's ledger: with a second signature over the
//! same message in it, with gaps, with pages, without what it would have to hold.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chains::amount::Amount;
use chains::chain::Chain;
use chains::client::{Client, Inclusion, Status};
use chains::rpc::RpcError;
use chains::solana::{Signed, State};
use ed25519_dalek::Signer;
use serde_json::{Value, json};
use solana_sdk::hash::Hash;
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;
use solana_sdk::transaction::VersionedTransaction;
use solana_system_interface::instruction as system;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

use crate::client::{asked, client};
use crate::fixture::{CHAIN, LAST_VALID, MINIMUM, durable, key, nonce, pay_sol, state, wallet};
use crate::nonces::good;

/// The height of the block whose blockhash the payment has, and of the last block that can include it.
const BORN: u64 = LAST_VALID - 150;
const LAST: u64 = LAST_VALID + 1;
const TIP: u64 = 1_400;
const FEE: u64 = 5_371;

/// Every seventh slot has no block.
const fn slot_of(height: u64) -> u64 {
    20_000 + height + height / 6
}

#[derive(Clone)]
struct Entry {
    slot: u64,
    transaction: VersionedTransaction,
    err: Value,
}

/// A node whose final blocks go up to height [`TIP`].
#[derive(Clone)]
struct Ledger {
    /// The heights of the blocks that it has.
    heights: Vec<u64>,
    /// What it says that its first block is.
    begins: u64,
    /// The blockhash of the block at height [`BORN`].
    born: Hash,
    /// Oldest first.
    entries: Vec<Entry>,
    /// How many signatures it lists at once.
    page: usize,
    /// Whether a blockhash is valid, by commitment.
    valid: HashMap<&'static str, bool>,
    /// Methods that it answers with an error of this code.
    fails: HashMap<&'static str, i64>,
    /// A transaction that it lists but doesn't have.
    lost: Option<Signature>,
}

impl Ledger {
    fn new(entries: impl IntoIterator<Item = (u64, VersionedTransaction)>) -> Self {
        let entry = |(height, transaction)| Entry { slot: slot_of(height), transaction, err: Value::Null };
        Self {
            heights: (0..=TIP).collect(),
            begins: 0,
            born: Hash::new_from_array([9; 32]),
            entries: entries.into_iter().map(entry).collect(),
            page: 1_000,
            valid: HashMap::from([("processed", false), ("finalized", false)]),
            fails: HashMap::new(),
            lost: None,
        }
    }

    /// From this height on.
    fn starting_at(mut self, height: u64) -> Self {
        self.heights.retain(|one| *one >= height);
        self.begins = slot_of(height);
        self
    }

    fn failing(mut self, method: &'static str, code: i64) -> Self {
        self.fails.insert(method, code);
        self
    }

    async fn start(self) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(matchers::method("POST")).respond_with(self).mount(&server).await;
        server
    }

    async fn tells(self, signed: &Signed) -> Status {
        client(&self.start().await).status(signed).await.expect("told")
    }

    fn block(&self, slot: u64) -> Option<Value> {
        let height = *self.heights.iter().find(|height| slot_of(**height) == slot)?;
        let hash = if height == BORN { self.born } else { Hash::new_unique() };
        let (hash, previous) = (hash.to_string(), Hash::new_unique().to_string());
        Some(json!({ "blockhash": hash, "previousBlockhash": previous, "parentSlot": 1, "blockHeight": height }))
    }

    fn list(&self, address: &str, config: &Value) -> Value {
        assert_eq!((&config["commitment"], &config["minContextSlot"]), (&json!("finalized"), &json!(slot_of(TIP))));
        let address: Pubkey = address.parse().expect("an address");
        let named = |entry: &&Entry| entry.transaction.message.static_account_keys().contains(&address);
        let signature = |entry: &Entry| entry.transaction.signatures[0].to_string();
        let newest_first: Vec<&Entry> = self.entries.iter().rev().filter(named).collect();
        let from = config["before"].as_str().map_or(0, |before| {
            newest_first.iter().position(|entry| signature(entry) == before).expect("one that was listed") + 1
        });
        let page = newest_first[from..].iter().take(self.page);
        page.map(|entry| json!({ "signature": signature(entry), "slot": entry.slot, "err": entry.err })).collect()
    }

    fn transaction(&self, signature: &str) -> Value {
        let wanted: Signature = signature.parse().expect("a signature");
        let found = self.entries.iter().find(|entry| entry.transaction.signatures[0] == wanted);
        let Some(entry) = found else { return Value::Null };
        if self.lost == entry.transaction.signatures.first().copied() {
            return Value::Null;
        }
        let bytes = BASE64_STANDARD.encode(bincode::serialize(&entry.transaction).expect("bytes"));
        json!({ "slot": entry.slot, "transaction": [bytes, "base64"], "meta": { "fee": FEE, "err": entry.err } })
    }

    fn answer(&self, method: &str, params: &Value) -> Result<Value, i64> {
        if let Some(code) = self.fails.get(method) {
            return Err(*code);
        }
        let at_tip = |value: Value| json!({ "context": { "slot": slot_of(TIP) }, "value": value });
        let number = |index: usize| params[index].as_u64().expect("a number");
        let text = |index: usize| params[index].as_str().expect("a text");
        Ok(match method {
            "getGenesisHash" => json!("any"),
            "getSignatureStatuses" => at_tip(json!([null])),
            "getEpochInfo" => json!({ "absoluteSlot": slot_of(TIP), "blockHeight": TIP }),
            "getMultipleAccounts" => at_tip(json!([good(22)])),
            "getBlocksWithLimit" => {
                let slots = self.heights.iter().map(|height| slot_of(*height)).filter(|slot| *slot >= number(0));
                slots.take(usize::try_from(number(1)).expect("small")).collect()
            }
            "getBlock" => self.block(number(0)).ok_or(-32_007)?,
            "getFirstAvailableBlock" => json!(self.begins),
            "getSignaturesForAddress" => self.list(text(0), &params[1]),
            "getTransaction" => self.transaction(text(0)),
            "isBlockhashValid" => at_tip(json!(self.valid[params[1]["commitment"].as_str().expect("a level")])),
            _ => return Err(-32_601),
        })
    }
}

impl Respond for Ledger {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().expect("JSON");
        let answer = self.answer(body["method"].as_str().expect("a method"), &body["params"]);
        let (name, value) = match answer {
            Ok(result) => ("result", result),
            Err(code) => ("error", json!({ "code": code, "message": "words" })),
        };
        ResponseTemplate::new(200).set_body_json(json!({ "jsonrpc": "2.0", "id": body["id"], name: value }))
    }
}

fn signed_in(state: &State) -> Signed {
    let wallet = wallet();
    let built = CHAIN.build(&pay_sol(key(5), MINIMUM), &wallet.account, state).expect("possible");
    let payloads = CHAIN.payloads(&wallet.account, &built).expect("the wallet's");
    CHAIN.assemble(&wallet.account, &built, &[wallet.sign(&payloads[0])]).expect("signed")
}

/// A payment under a blockhash.
fn plain() -> Signed {
    signed_in(&state())
}

/// A payment under the wallet's nonce.
fn under_nonce() -> Signed {
    signed_in(&durable(&wallet(), 21))
}

/// The same message under another signature of the wallet's: what a signer that took part in two can make.
fn again(signed: &Signed) -> VersionedTransaction {
    let message = signed.transaction().message.clone();
    let key = frost_ed25519::SigningKey::deserialize(&wallet().key.to_scalar().to_bytes()).expect("a scalar");
    let signature = key.sign(rand_core::OsRng, &message.serialize()).serialize().expect("64 bytes");
    let signature = Signature::try_from(signature).expect("64 bytes");
    assert_ne!(signature, signed.signature());
    VersionedTransaction { signatures: vec![signature], message }
}

fn sign(message: Message) -> VersionedTransaction {
    let signature = wallet().key.sign(&message.serialize());
    VersionedTransaction {
        signatures: vec![Signature::from(signature.to_bytes())],
        message: VersionedMessage::Legacy(message),
    }
}

/// Another payment of the wallet's.
fn other(lamports: u64) -> VersionedTransaction {
    let own = wallet().address();
    let pays = system::transfer(&own, &key(6), lamports);
    sign(Message::new_with_blockhash(&[pays], Some(&own), &Hash::new_from_array([9; 32])))
}

/// What starts by advancing the wallet's nonce, with `hash` in the place of the blockhash.
fn advance(hash: Hash) -> VersionedTransaction {
    let own = wallet().address();
    let advances = system::advance_nonce_account(&nonce(&wallet(), 21).account, &own);
    sign(Message::new_with_blockhash(&[advances], Some(&own), &hash))
}

/// What only names the nonce account, as anybody can.
fn mention(n: u64) -> VersionedTransaction {
    let own = wallet().address();
    let pays = system::transfer(&own, &nonce(&wallet(), 21).account, n);
    sign(Message::new_with_blockhash(&[pays], Some(&own), &Hash::new_from_array([8; 32])))
}

fn inclusion(height: u64) -> Inclusion {
    Inclusion {
        height: slot_of(height),
        block: None,
        confirmations: slot_of(TIP) - slot_of(height) + 1,
        finalized: true,
        succeeded: true,
        failure: None,
        fee: Some(Amount::from_lamports(FEE)),
    }
}

// ---- under a blockhash ----

#[tokio::test]
async fn it_has_expired_where_the_blocks_that_could_include_it_hold_others_only() {
    let others = [(BORN - 9, other(1)), (BORN + 1, other(2)), (LAST, other(3)), (LAST + 1, other(4)), (TIP, other(5))];
    let server = Ledger::new(others).start().await;
    assert_eq!(client(&server).status(&plain()).await.expect("told"), Status::Expired);
    assert_eq!(asked(&server, "getTransaction").await.len(), 2, "those in blocks that could include it");
    assert_eq!(asked(&server, "getSignaturesForAddress").await.len(), 1, "an older one is the end");
    assert!(asked(&server, "getBlocksWithLimit").await.len() <= 4, "the slot is found soon");

    assert_eq!(Ledger::new([]).tells(&plain()).await, Status::Expired, "a wallet that did nothing else");
    assert_eq!(
        Ledger::new([]).starting_at(BORN).tells(&plain()).await,
        Status::Expired,
        "the ledger just reaches back"
    );
}

#[tokio::test]
async fn a_second_signature_over_the_message_is_the_payment() {
    let signed = plain();
    for height in [BORN + 1, LAST] {
        let ledger = Ledger::new([(BORN - 9, other(1)), (height, again(&signed)), (LAST + 2, other(2))]);
        assert_eq!(ledger.tells(&signed).await, Status::Included(inclusion(height)));
    }
    let mut failed = Ledger::new([(BORN + 7, again(&signed))]);
    failed.entries[0].err = json!({ "InstructionError": [2, { "Custom": 1 }] });
    let Status::Included(found) = failed.clone().tells(&signed).await else { panic!("included") };
    assert_eq!((found.succeeded, found.failure), (false, Some(failed.entries[0].err.to_string())));

    // What the wallet never signed proves nothing, and isn't passed over.
    let mut forged = Ledger::new([(BORN + 7, again(&signed))]);
    forged.entries[0].transaction.signatures = vec![Signature::from([7; 64])];
    let found = client(&forged.start().await).status(&signed).await;
    assert!(matches!(found, Err(RpcError::Malformed { .. })), "{found:?}");
}

#[tokio::test]
async fn signatures_are_looked_through_page_by_page() {
    let signed = plain();
    let later = (0..25).map(|n| (LAST + 1 + n, other(n)));
    let mut ledger = Ledger::new([(BORN - 9, other(100)), (BORN + 3, again(&signed))].into_iter().chain(later));
    ledger.page = 6;
    assert_eq!(ledger.clone().tells(&signed).await, Status::Included(inclusion(BORN + 3)));
    // Five pages, and the message would be on the next.
    ledger.page = 5;
    assert_eq!(ledger.tells(&signed).await, Status::SlotUsed);
}

#[tokio::test]
async fn a_ledger_that_may_have_lost_the_payment_proves_nothing() {
    assert_eq!(Ledger::new([]).starting_at(BORN + 1).tells(&plain()).await, Status::Unknown, "from a later snapshot");
    assert_eq!(
        Ledger::new([]).starting_at(LAST + 9).tells(&plain()).await,
        Status::Unknown,
        "from a snapshot after it"
    );
    for (first, last) in [(BORN + 20, BORN + 20), (BORN - 5, BORN + 1), (BORN + 90, LAST + 30), (BORN, TIP - 1)] {
        let mut gap = Ledger::new([]);
        gap.heights.retain(|height| !(first..=last).contains(height));
        assert_eq!(gap.tells(&plain()).await, Status::Unknown, "a gap from {first} to {last}");
    }
    let mut cleaned = Ledger::new([]);
    cleaned.begins = slot_of(BORN) + 1;
    assert_eq!(cleaned.tells(&plain()).await, Status::Unknown, "cleaned up while it was asked");
    for method in ["getBlocksWithLimit", "getBlock", "getFirstAvailableBlock"] {
        assert_eq!(Ledger::new([]).failing(method, -32_601).tells(&plain()).await, Status::Unknown, "{method}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_may_be_the_payment() {
    let ledger = || Ledger::new([(BORN - 9, other(1)), (BORN + 1, other(2))]);
    for (method, code) in [("getSignaturesForAddress", -32_011), ("getTransaction", -32_011)] {
        assert_eq!(ledger().failing(method, code).tells(&plain()).await, Status::SlotUsed, "{method}");
    }
    let mut lost = ledger();
    lost.lost = Some(other(2).signatures[0]);
    assert_eq!(lost.tells(&plain()).await, Status::SlotUsed);
    // Of a version in which no payment is made.
    assert_eq!(ledger().failing("getTransaction", -32_015).tells(&plain()).await, Status::Expired);
    for (count, expected) in [(256, Status::Expired), (257, Status::SlotUsed)] {
        let crowd = (0..count).map(|n| (BORN + 1 + n / 4, other(n)));
        assert_eq!(Ledger::new(crowd).tells(&plain()).await, expected, "{count} to read");
    }
}

/// A blockhash of a fork that was given up; or of no block at the height that a lying node told.
#[tokio::test]
async fn a_blockhash_that_final_blocks_do_not_have() {
    let signed = plain();
    let forked = |entries: Vec<(u64, VersionedTransaction)>| {
        let mut ledger = Ledger::new(entries);
        ledger.born = Hash::new_unique();
        ledger
    };
    assert_eq!(forked(Vec::new()).tells(&signed).await, Status::Expired);
    for level in ["processed", "finalized"] {
        let mut valid = forked(Vec::new());
        valid.valid.insert(level, true);
        assert_eq!(valid.tells(&signed).await, Status::Unknown, "still valid: {level}");
    }
    assert_eq!(forked(Vec::new()).failing("isBlockhashValid", -32_601).tells(&signed).await, Status::Unknown);
    let late = forked(vec![(LAST + 50, again(&signed))]);
    assert_eq!(late.tells(&signed).await, Status::Included(inclusion(LAST + 50)), "later than was told");
}

// ---- under a nonce ----

#[tokio::test]
async fn it_has_expired_where_another_used_the_nonce_up() {
    let signed = under_nonce();
    let value = nonce(&wallet(), 21).value;
    let entries = [(3, mention(1)), (5, advance(value)), (9, mention(2)), (12, advance(Hash::new_unique()))];
    let server = Ledger::new(entries.clone()).start().await;
    assert_eq!(client(&server).status(&signed).await.expect("told"), Status::Expired);
    assert_eq!(asked(&server, "getTransaction").await.len(), 2, "the oldest first");
    assert!(asked(&server, "getBlock").await.is_empty());
    // Whatever else it has lost: that one excludes the payment.
    assert_eq!(Ledger::new(entries.clone()).starting_at(5).tells(&signed).await, Status::Expired);
    assert_eq!(Ledger::new(entries.clone()).failing("getFirstAvailableBlock", 1).tells(&signed).await, Status::Expired);

    let mut forged = Ledger::new(entries);
    forged.entries[1].transaction.signatures = vec![Signature::from([7; 64])];
    let found = client(&forged.start().await).status(&signed).await;
    assert!(matches!(found, Err(RpcError::Malformed { .. })), "{found:?}");
}

#[tokio::test]
async fn a_second_signature_over_the_message_used_the_nonce_up() {
    let signed = under_nonce();
    let entries = [(3, mention(1)), (5, again(&signed)), (9, advance(Hash::new_unique()))];
    assert_eq!(Ledger::new(entries).tells(&signed).await, Status::Included(inclusion(5)));
}

#[tokio::test]
async fn a_nonce_of_which_nobody_tells_what_used_it_up() {
    let signed = under_nonce();
    let value = nonce(&wallet(), 21).value;
    // Neither advances the account under the value.
    let others = || Ledger::new([(3, mention(1)), (5, advance(Hash::new_unique()))]);
    assert_eq!(others().tells(&signed).await, Status::SlotUsed);
    let mut late = others();
    late.begins = 901;
    assert_eq!(late.clone().tells(&signed).await, Status::Unknown, "it was seen at slot 900");
    late.begins = 900;
    assert_eq!(late.tells(&signed).await, Status::SlotUsed);

    let used = || Ledger::new([(5, advance(value))]);
    for (method, code) in [("getSignaturesForAddress", -32_011), ("getTransaction", -32_011)] {
        assert_eq!(used().failing(method, code).tells(&signed).await, Status::SlotUsed, "{method}");
        assert_eq!(used().starting_at(7).failing(method, code).tells(&signed).await, Status::Unknown, "{method}");
    }
    let spam = (0..256).map(|n| (3, mention(n))).chain([(5, advance(value))]);
    assert_eq!(Ledger::new(spam).tells(&signed).await, Status::SlotUsed, "too many to read");
}

/// What is asked of the ledger is asked about the payer or its nonce account.
#[tokio::test]
async fn whose_signatures_are_listed() {
    for (signed, account) in [(plain(), wallet().address()), (under_nonce(), nonce(&wallet(), 21).account)] {
        let server = Ledger::new([]).start().await;
        client(&server).status(&signed).await.expect("told");
        let listed = asked(&server, "getSignaturesForAddress").await;
        let config = json!({ "commitment": "finalized", "limit": 1_000, "minContextSlot": slot_of(TIP) });
        assert_eq!(listed, [json!([Pubkey::to_string(&account), config])]);
    }
}
