//! Calls of Solana's programs, end to end: a real gateway and real signers on a simulated cluster. What a rule names is signed and
//! final; what no rule names, what a list names and what a node's try speaks against isn't.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "programs/house.rs"]
mod house;

use std::sync::Arc;

use gateway::api::view::TxView;
use gateway::record::{Exposure, State};
use gateway::store::WalletFreeze;
use serde_json::{Value, json};
use simulator::node::solana::SolanaNode;
use solana_sdk::instruction::{AccountMeta, Instruction};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer as _};

use crate::house::*;

const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
const TABLES: &str = "AddressLookupTab1e1111111111111111111111111";
const SYSTEM: &str = "11111111111111111111111111111111";
/// The demo token's decimals.
const DECIMALS: u8 = 6;

fn payee() -> Keypair {
    Keypair::new_from_array([9; 32])
}

fn memo(text: &str) -> Value {
    instruction(MEMO, &[], text.as_bytes())
}

/// `TransferChecked` of the demo token out of the wallet.
fn pays(to: &Pubkey, amount: u64) -> Value {
    let (own, mint) = (wallet(), SolanaNode::demo_mint());
    let accounts = [(tokens_of(&own), true), (mint, false), (tokens_of(to), true), (own, false)];
    let data = [&[12][..], &amount.to_le_bytes(), &[DECIMALS]].concat();
    instruction(TOKEN, &accounts, &data)
}

/// The creation of somebody's lookup table, which the wallet pays for, at an address that derives from a slot.
fn creates_table(whose: Pubkey, slot: u64) -> (Pubkey, Value) {
    let program = TABLES.parse().unwrap();
    let (table, bump) = Pubkey::find_program_address(&[whose.as_ref(), &slot.to_le_bytes()], &program);
    let data = [&[0; 4][..], &slot.to_le_bytes(), &[bump]].concat();
    let accounts = [(table, true), (whose, false), (wallet(), true), (SYSTEM.parse().unwrap(), false)];
    (table, instruction(TABLES, &accounts, &data))
}

/// The wallet may pay the demo token to the payee, and make lookup tables for itself.
fn policy() -> Value {
    let mint = SolanaNode::demo_mint();
    let wallet_at = |at: u16| json!({ "at": at, "wallet": true });
    json!({ "rules": [
        {
            "id": "payee", "wallets": ["sol"], "assets": [format!("spl:{mint}")],
            "addresses": [payee().pubkey().to_string()], "max_amount": "2000000", "max_fee": "10000000",
        },
        {
            "id": "tables", "wallets": ["sol"], "max_fee": "10000000",
            "programs": [{
                "address": TABLES, "discriminators": ["0x00000000"],
                "accounts": [wallet_at(1), wallet_at(2)], "other_accounts": true,
            }],
        },
    ] })
}

fn kind(error: &Value) -> &str {
    error["data"]["kind"].as_str().unwrap()
}

fn id(view: &TxView) -> String {
    view.attempts[0].chain_tx_id.as_ref().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_names_is_called_and_final() {
    let town = Town::start().await;
    town.fund_tokens(&payee().pubkey(), 1).await;
    let house = town.open(&policy(), &policy()).await;

    // A memo moves nothing: it needs no more than its fee.
    let view = house.submit("memo", &[memo("invoice 7")], json!({})).await.unwrap();
    let end = house.ended(&view).await;
    assert_eq!((end.state, end.exposure), (State::Finalized, Exposure::Certain), "{end:#?}");
    let executed = house.town.transaction(&id(&end)).await;
    assert!(executed["meta"]["logMessages"].to_string().contains("invoice 7"), "{executed:#}");

    // A payment and its memo are told as a payment, which a rule for payments permits.
    let view = house.submit("paid", &[pays(&payee().pubkey(), 1_500_000), memo("invoice 8")], json!({})).await.unwrap();
    assert_eq!(house.ended(&view).await.state, State::Finalized);
    assert_eq!(house.town.tokens(&payee().pubkey()).await, 1_500_001);
    assert_eq!(house.town.tokens(&wallet()).await, TOKENS - 1_500_000);

    // What only the program knows is called because a rule names it.
    let slot = house.town.ask("getSlot", json!([{ "commitment": "confirmed" }])).await.as_u64().unwrap() - 1;
    let (table, creates) = creates_table(wallet(), slot);
    let told = house.evaluate(std::slice::from_ref(&creates), json!({})).await;
    assert_eq!(told["trace"]["verdict"]["rule"], "tables", "{told:#}");
    let view = house.submit("created", &[creates], json!({})).await.unwrap();
    assert_eq!(house.ended(&view).await.state, State::Finalized);
    let found = house.town.ask("getAccountInfo", json!([table.to_string(), { "encoding": "base64" }])).await;
    assert_eq!(found["value"]["owner"], TABLES, "{found}");
    // Another instruction of the same program no rule names.
    let data = [&[2, 0, 0, 0][..], &1_u64.to_le_bytes(), &[14; 32]].concat();
    let accounts = [(table, true), (wallet(), false), (wallet(), true), (SYSTEM.parse().unwrap(), false)];
    let error = house.submit("extended", &[instruction(TABLES, &accounts, &data)], json!({})).await.unwrap_err();
    assert_eq!(kind(&error), "unlisted_program", "{error:#}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_names_is_not_called() {
    let town = Town::start().await;
    let (stranger, listed): (Pubkey, Pubkey) = (Pubkey::new_from_array([11; 32]), LISTED.parse().unwrap());
    for owner in [payee().pubkey(), stranger, listed] {
        town.fund_tokens(&owner, 1).await;
    }
    let house = town.open(&policy(), &policy()).await;
    let slot = house.town.ask("getSlot", json!([{ "commitment": "confirmed" }])).await.as_u64().unwrap() - 1;
    let (_, for_another) = creates_table(stranger, slot);
    // `SetAuthority` of the wallet's own token account.
    let hands_over = [&[6, 2, 1][..], stranger.as_ref()].concat();
    let hands_over = instruction(TOKEN, &[(tokens_of(&wallet()), true), (wallet(), false)], &hands_over);
    let first = || memo("with a memo");
    for (what, instructions, expected) in [
        ("another receiver", vec![pays(&stranger, 1), first()], "unlisted_address"),
        ("more than the rule permits", vec![pays(&payee().pubkey(), 2_000_001), first()], "above_limit"),
        ("more than there is", vec![pays(&payee().pubkey(), 6_000_000), first()], "would_revert"),
        ("a payment and nothing else", vec![pays(&payee().pubkey(), 1)], "unsupported"),
        ("a listed receiver", vec![pays(&listed, 1), first()], "listed_address"),
        ("a table of another's", vec![for_another], "unlisted_accounts"),
        ("all tokens to another", vec![hands_over], "unsupported"),
    ] {
        let error = house.submit(what, &instructions, json!({})).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{what}: {error:#}");
        assert_eq!(error["data"]["exposure"], "none", "{what}: {error:#}");
    }
    assert_eq!(house.town.tokens(&wallet()).await, TOKENS);
    house.close().await;
}

/// A signer believes no gateway: one that was taken over, and has another policy, gets nothing signed.
#[tokio::test(flavor = "multi_thread")]
async fn signers_go_by_their_own_rules() {
    let town = Town::start().await;
    town.fund_tokens(&payee().pubkey(), 1).await;
    let mut of_signers = policy();
    of_signers["rules"][0]["max_amount"] = json!("999");
    let house = town.open(&policy(), &of_signers).await;
    let view = house.submit("too-much", &[pays(&payee().pubkey(), 1_000), memo("much")], json!({})).await.unwrap();
    let refused = house.until(&view, "refused", |view| view.reason.is_some()).await;
    assert_eq!(refused.attempts.iter().filter(|attempt| attempt.sent_at.is_some()).count(), 0, "{refused:#?}");
    assert_eq!(house.town.tokens(&payee().pubkey()).await, 1);
    house.close().await;
}

/// Whoever freezes the wallet while the bytes are built and tried comes in time, and so does who cancels then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_frozen_or_cancelled_before_it_is_signed_is_not_signed() {
    let town = Town::start().await;
    town.fund_tokens(&payee().pubkey(), 1).await;
    let house = town.open(&policy(), &policy()).await;
    let (store, wallet) = (Arc::clone(house.pipeline.store()), "sol".parse().unwrap());
    let (by, reason) = ("gateway".to_owned(), "for a look".to_owned());
    let freeze = WalletFreeze { wallet, by, reason, at: 1, nonce: Some(1) };
    house.before_try.set(async move { assert!(store.freeze_wallet(freeze, None).await.unwrap()) });
    let view = house.tried("frozen", &[pays(&payee().pubkey(), 1_000), memo("wait")]).await;
    let waits = house.until(&view, "frozen", |view| view.reason.is_some()).await;
    assert_eq!((waits.state, waits.reason.unwrap().kind.as_str()), (State::Queued, "wallet_frozen"));
    assert!(house.before_try.is_over(), "it was frozen after it was allowed");

    house.call("tx_cancel", json!({ "tx_id": view.tx_id })).await.unwrap();
    let end = house.ended(&view).await;
    assert_eq!((end.state, end.exposure), (State::Cancelled, Exposure::None), "{end:#?}");
    assert!(end.history.iter().all(|step| step.state != State::Signing), "{end:#?}");
    assert_eq!(house.town.tokens(&payee().pubkey()).await, 1);
    house.close().await;
}

/// Between the verdict and the try the receiver closes its account: the policy has nothing against it, the node has.
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_try_tightens_the_verdict() {
    let town = Town::start().await;
    let payee = payee();
    town.fund(&payee.pubkey(), SOL).await;
    town.fund_tokens(&payee.pubkey(), 1).await;
    let house = town.open(&policy(), &policy()).await;
    let url = house.town.url();
    let (to, own) = (payee.pubkey(), tokens_of(&payee.pubkey()));
    let token = TOKEN.parse().unwrap();
    let burns = Instruction {
        program_id: token,
        accounts: vec![
            AccountMeta::new(own, false),
            AccountMeta::new(SolanaNode::demo_mint(), false),
            AccountMeta::new_readonly(to, true),
        ],
        data: [&[8][..], &1_u64.to_le_bytes()].concat(),
    };
    let closes = Instruction {
        program_id: token,
        accounts: vec![AccountMeta::new(own, false), AccountMeta::new(to, false), AccountMeta::new_readonly(to, true)],
        data: vec![9],
    };
    house.before_try.set(async move { execute(&rpc(&url), &payee, &[burns, closes]).await });
    let view = house.tried("closed", &[pays(&to, 1), memo("too late")]).await;
    let end = house.until(&view, "ended", |view| view.state.is_terminal()).await;
    assert!(house.before_try.is_over(), "the try was made");
    assert_eq!((end.state, end.exposure), (State::Rejected, Exposure::None), "{end:#?}");
    let reason = end.reason.as_ref().unwrap();
    assert!(reason.kind == "would_revert" && reason.message.starts_with("the call would revert"), "{end:#?}");
    assert!(end.attempts.is_empty(), "{end:#?}");
    house.close().await;
}

/// A lookup table of a test's own key on the cluster, with these entries, which can be used from the next slot on.
async fn table_of(town: &Town, owner: &Keypair, entries: &[Pubkey]) -> Pubkey {
    let program: Pubkey = TABLES.parse().unwrap();
    let slot = town.ask("getSlot", json!([{ "commitment": "processed" }])).await.as_u64().unwrap() - 1;
    let (table, bump) = Pubkey::find_program_address(&[owner.pubkey().as_ref(), &slot.to_le_bytes()], &program);
    let create = Instruction::new_with_bincode(program, &(0_u32, slot, bump), keepers(owner, &table));
    town.execute(owner, &[create, extension(owner, &table, entries)]).await;
    town.mine(40).await;
    table
}

fn keepers(owner: &Keypair, table: &Pubkey) -> Vec<AccountMeta> {
    vec![
        AccountMeta::new(*table, false),
        AccountMeta::new_readonly(owner.pubkey(), true),
        AccountMeta::new(owner.pubkey(), true),
        AccountMeta::new_readonly(SYSTEM.parse().unwrap(), false),
    ]
}

fn extension(owner: &Keypair, table: &Pubkey, entries: &[Pubkey]) -> Instruction {
    Instruction::new_with_bincode(TABLES.parse().unwrap(), &(2_u32, entries.to_vec()), keepers(owner, table))
}

/// What the binary prints of a table for a policy.
async fn printed(town: &Town, table: &Pubkey, length: Option<u16>) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["policy", "table", &table.to_string(), "--network", "solana:localnet"]);
    command.args(["--node", &town.url(), "--node", &town.url()]);
    if let Some(length) = length {
        command.args(["--length", &length.to_string()]);
    }
    let output = command.output().await.unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The policy with what the binary printed.
async fn pinned(town: &Town, table: &Pubkey, length: Option<u16>) -> Value {
    #[derive(serde::Deserialize)]
    struct File {
        policy: Value,
    }
    let (done, text) = printed(town, table, length).await;
    assert!(done, "{text}");
    let mut policy = policy();
    policy["lookup_tables"] = toml::from_str::<File>(&text).unwrap().policy["lookup_tables"].clone();
    assert_eq!(policy["lookup_tables"][0]["address"], table.to_string(), "{text}");
    policy
}

fn by(tables: &[Pubkey]) -> Value {
    json!({ "lookup_tables": tables.iter().map(ToString::to_string).collect::<Vec<_>>() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_reads_its_accounts_from_a_table() {
    let town = Town::start().await;
    let (payee, keeper, listed) = (payee(), Keypair::new_from_array([12; 32]), LISTED.parse::<Pubkey>().unwrap());
    for owner in [payee.pubkey(), listed] {
        town.fund_tokens(&owner, 1).await;
    }
    town.fund(&keeper.pubkey(), SOL).await;
    let (source, mint, to) = (tokens_of(&wallet()), SolanaNode::demo_mint(), tokens_of(&payee.pubkey()));
    let entries = [mint, to, source, tokens_of(&listed), listed];
    let table = table_of(&town, &keeper, &entries).await;
    let unnamed = table_of(&town, &keeper, &[to]).await;
    let policy = pinned(&town, &table, None).await;
    assert_eq!(policy["lookup_tables"][0]["length"], 5);
    // It grows after it was named; what it had stays.
    let later = Pubkey::new_from_array([13; 32]);
    town.execute(&keeper, &[extension(&keeper, &table, &[later])]).await;
    town.mine(40).await;
    let house = town.open(&policy, &policy).await;

    let calls = [pays(&payee.pubkey(), 1_500_000), memo("invoice 9")];
    let told = house.evaluate(&calls, by(&[table])).await;
    assert_eq!(told["trace"]["verdict"]["rule"], "payee", "{told:#}");
    assert_eq!(told["effects"]["transfers"][0]["to"], payee.pubkey().to_string(), "{told:#}");
    let accounts = &told["effects"]["programs"][0]["accounts"];
    let used: Vec<_> = accounts.as_array().unwrap().iter().map(|used| used["address"].as_str().unwrap()).collect();
    assert_eq!(used, [source, mint, to, wallet()].map(|key| key.to_string()), "resolved, in order");
    let view = house.submit("by-table", &calls, by(&[table])).await.unwrap();
    let end = house.ended(&view).await;
    assert_eq!((end.state, end.exposure), (State::Finalized, Exposure::Certain), "{end:#?}");
    assert_eq!(house.town.tokens(&payee.pubkey()).await, 1_500_001);
    let executed = house.town.transaction(&id(&end)).await;
    assert_eq!(executed["version"], 0);
    let lookups = &executed["transaction"]["message"]["addressTableLookups"];
    assert_eq!(lookups[0]["accountKey"], table.to_string(), "{executed:#}");
    let loaded = &executed["meta"]["loadedAddresses"];
    assert_eq!(loaded["readonly"], json!([mint.to_string()]), "{executed:#}");
    let mut written: Vec<_> = loaded["writable"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    written.sort_unstable();
    let mut expected = [source, to].map(|key| key.to_string());
    expected.sort_unstable();
    assert_eq!(written, expected);

    // What no policy names, no table brings in; nor a table that isn't one, or that nothing is read from.
    for (what, calls, tables, expected) in [
        ("a table of no policy", calls.to_vec(), vec![unnamed], "unlisted_table"),
        ("no table", calls.to_vec(), vec![to], "lookup_table"),
        ("nothing there", calls.to_vec(), vec![later], "lookup_table"),
        ("a table of no use", vec![memo("x")], vec![table], "unsupported"),
        ("a listed receiver by a table", vec![pays(&listed, 1), memo("x")], vec![table], "listed_address"),
    ] {
        let error = house.submit(what, &calls, by(&tables)).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{what}: {error:#}");
    }
    assert_eq!(house.town.tokens(&wallet()).await, TOKENS - 1_500_000);
    house.close().await;
}

/// Entries behind those that the policy names are nobody's to read, and signers hold what a gateway tells against what they know.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_as_far_as_the_policy_names_it() {
    let town = Town::start().await;
    let (payee, keeper) = (payee(), Keypair::new_from_array([12; 32]));
    town.fund_tokens(&payee.pubkey(), 1).await;
    town.fund(&keeper.pubkey(), SOL).await;
    let entries = [SolanaNode::demo_mint(), tokens_of(&payee.pubkey())];
    let table = table_of(&town, &keeper, &entries).await;
    let policy = pinned(&town, &table, Some(1)).await;
    let (done, told) = printed(&town, &table, Some(3)).await;
    assert!(!done && told.contains("tells of 2 entries"), "{told}");
    let (done, told) = printed(&town, &entries[1], None).await;
    assert!(!done && told.contains("is no lookup table"), "{told}");
    let house = town.open(&policy, &policy).await;
    let calls = [pays(&payee.pubkey(), 7), memo("behind")];
    let error = house.submit("behind", &calls, by(&[table])).await.unwrap_err();
    assert_eq!(kind(&error), "unlisted_entry", "{error:#}");
    let told = house.evaluate(&calls, by(&[table])).await;
    assert_eq!(told["trace"]["verdict"]["reason"]["kind"], "unlisted_entry", "{told:#}");
    house.close().await;
}
