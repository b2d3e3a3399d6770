//! The programs that a payment may meet: tokens of both kinds, associated accounts, memos, lookup tables.

use serde_json::{Value, json};
use simulator::node::solana::SolanaNode;
use solana_sdk::instruction::{AccountMeta, Instruction};
use solana_sdk::message::{AddressLookupTableAccount, VersionedMessage, v0};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};
use solana_sdk::transaction::VersionedTransaction;
use spl_associated_token_account_interface::address::get_associated_token_address_with_program_id as associated;
use spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent as create_associated;
use spl_token_interface::instruction as token;

use crate::node::{Node, SOL, transfer};

const TOKEN: Pubkey = spl_token_interface::ID;
const TOKEN_2022: Pubkey = Pubkey::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
const MEMO: Pubkey = Pubkey::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const LOOKUP_TABLES: Pubkey = Pubkey::from_str_const("AddressLookupTab1e1111111111111111111111111");
const SYSTEM: Pubkey = Pubkey::from_str_const("11111111111111111111111111111111");

fn processed() -> Value {
    json!({ "commitment": "processed" })
}

#[tokio::test]
async fn the_demo_token_is_minted_and_paid() {
    let node = Node::start().await;
    let payer = node.funded(SOL).await;
    let mint = SolanaNode::demo_mint();
    let owner = payer.pubkey().to_string();
    node.ok("sim_fund", json!([owner, "2500000", mint.to_string()])).await;
    node.node.fund_token(&owner, 1).await.unwrap();
    node.node.mine(9).await.unwrap();

    let source = associated(&payer.pubkey(), &mint, &TOKEN);
    let balance = node.value("getTokenAccountBalance", json!([source.to_string()])).await;
    let expected = json!({ "amount": "2500001", "decimals": 6, "uiAmount": 2.500001, "uiAmountString": "2.500001" });
    assert_eq!(balance, expected);
    assert_eq!(node.value("getTokenSupply", json!([mint.to_string()])).await, expected);

    let to = Pubkey::new_unique();
    let destination = associated(&to, &mint, &TOKEN);
    let create = create_associated(&payer.pubkey(), &to, &mint, &TOKEN);
    let pay =
        token::transfer_checked(&TOKEN, &source, &mint, &destination, &payer.pubkey(), &[], 2_000_000, 6).unwrap();
    let executed = node.execute(&[&payer], &[create, pay]).await;
    assert_eq!(executed["meta"]["err"], json!(null));
    let balances = |name: &str| -> Vec<(Value, Value)> {
        let balances = executed["meta"][name].as_array().unwrap().iter();
        balances.map(|one| (one["owner"].clone(), one["uiTokenAmount"]["amount"].clone())).collect()
    };
    assert_eq!(balances("preTokenBalances"), [(json!(owner), json!("2500001"))]);
    let mut after = balances("postTokenBalances");
    after.sort_by_key(|(_, amount)| amount.to_string());
    assert_eq!(after, [(json!(to.to_string()), json!("2000000")), (json!(owner), json!("500001"))]);
    assert!(executed["meta"]["computeUnitsConsumed"].as_u64().unwrap() > 1000);
    assert!(!executed["meta"]["innerInstructions"].as_array().unwrap().is_empty());

    let config = json!({ "encoding": "jsonParsed", "commitment": "processed" });
    let of_mint =
        node.value("getTokenAccountsByOwner", json!([to.to_string(), {"mint": mint.to_string()}, config])).await;
    assert_eq!(of_mint[0]["pubkey"], destination.to_string());
    let parsed = &of_mint[0]["account"]["data"];
    assert_eq!((&parsed["program"], &parsed["space"]), (&json!("spl-token"), &json!(165)));
    assert_eq!(parsed["parsed"]["info"]["tokenAmount"]["uiAmountString"], "2");
    assert_eq!(parsed["parsed"]["info"]["state"], "initialized");
    let program = json!({ "programId": TOKEN.to_string() });
    assert_eq!(node.value("getTokenAccountsByOwner", json!([to.to_string(), program, config])).await, of_mint);
    let parsed_mint = node.value("getAccountInfo", json!([mint.to_string(), config])).await;
    assert_eq!(parsed_mint["data"]["parsed"]["info"]["supply"], "2500001");

    let filters = json!([{ "dataSize": 165 }, { "memcmp": { "offset": 0, "bytes": mint.to_string() } }]);
    let scan = json!({ "encoding": "base64", "filters": filters, "commitment": "processed" });
    assert_eq!(node.ok("getProgramAccounts", json!([TOKEN.to_string(), scan])).await.as_array().unwrap().len(), 2);

    let error = node.fails("sim_fund", json!([owner, "1", TOKEN_2022.to_string()])).await;
    assert_eq!(error.0, -32602);
    let too_much = token::transfer(&TOKEN, &source, &destination, &payer.pubkey(), &[], 2_000_000).unwrap();
    let refused = node.send(&node.sign(&[&payer], &[too_much]).await).await.unwrap_err();
    assert_eq!(refused["data"]["err"], json!({ "InstructionError": [0, { "Custom": 1 }] }));
    node.stop().await;
}

#[tokio::test]
async fn token_2022_works_the_same() {
    let node = Node::start().await;
    let payer = node.funded(SOL).await;
    let mint = Keypair::new();
    let minimum = node.ok("getMinimumBalanceForRentExemption", json!([82])).await.as_u64().unwrap();
    let (from, to) = (payer.pubkey(), Pubkey::new_unique());
    let [source, destination] = [from, to].map(|owner| associated(&owner, &mint.pubkey(), &TOKEN_2022));
    let key = mint.pubkey();
    // The builders of the interface know the first token program only; the second has the same instructions.
    let of_2022 = |instruction: Instruction| Instruction { program_id: TOKEN_2022, ..instruction };
    let instructions = [
        solana_system_interface::instruction::create_account(&from, &key, minimum, 82, &TOKEN_2022),
        of_2022(token::initialize_mint2(&TOKEN, &key, &from, None, 2).unwrap()),
        create_associated(&from, &from, &key, &TOKEN_2022),
        create_associated(&from, &to, &key, &TOKEN_2022),
        of_2022(token::mint_to(&TOKEN, &key, &source, &from, &[], 1000).unwrap()),
        of_2022(token::transfer_checked(&TOKEN, &source, &key, &destination, &from, &[], 150, 2).unwrap()),
    ];
    let executed = node.execute(&[&payer, &mint], &instructions).await;
    assert_eq!(executed["meta"]["err"], json!(null));
    let balance = node.value("getTokenAccountBalance", json!([destination.to_string(), processed()])).await;
    assert_eq!(balance["uiAmountString"], "1.5");
    let config = json!({ "encoding": "jsonParsed", "commitment": "processed" });
    let account = node.value("getAccountInfo", json!([destination.to_string(), config])).await;
    assert_eq!(account["data"]["program"], "spl-token-2022");
    assert_eq!(account["data"]["parsed"]["info"]["owner"], to.to_string());
    node.stop().await;
}

#[tokio::test]
async fn a_memo_is_listed_with_the_signature() {
    let node = Node::start().await;
    let payer = node.funded(SOL).await;
    let memo = Instruction { program_id: MEMO, accounts: Vec::new(), data: "für alle".into() };
    let to = Pubkey::new_unique();
    node.execute(&[&payer], &[transfer(&payer, &to, SOL / 2), memo]).await;
    let listed = node.ok("getSignaturesForAddress", json!([to.to_string(), { "commitment": "confirmed" }])).await;
    assert_eq!(listed[0]["memo"], "[9] für alle");
    node.stop().await;
}

#[tokio::test]
async fn a_lookup_table_is_made_and_used() {
    let node = Node::start().await;
    let payer = node.funded(SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let recent = node.ok("getSlot", json!([processed()])).await.as_u64().unwrap() - 1;
    let (table, bump) = Pubkey::find_program_address(&[payer.pubkey().as_ref(), &recent.to_le_bytes()], &LOOKUP_TABLES);
    let accounts = vec![
        AccountMeta::new(table, false),
        AccountMeta::new_readonly(payer.pubkey(), true),
        AccountMeta::new(payer.pubkey(), true),
        AccountMeta::new_readonly(SYSTEM, false),
    ];
    let create = Instruction::new_with_bincode(LOOKUP_TABLES, &(0_u32, recent, bump), accounts.clone());
    let extend = Instruction::new_with_bincode(LOOKUP_TABLES, &(2_u32, vec![to]), accounts);
    assert_eq!(node.execute(&[&payer], &[create, extend]).await["meta"]["err"], json!(null));

    let tables = [AddressLookupTableAccount { key: table, addresses: vec![to] }];
    let pay = transfer(&payer, &to, 7);
    let message = v0::Message::try_compile(&payer.pubkey(), &[pay], &tables, node.blockhash().await).unwrap();
    assert_eq!(message.address_table_lookups.len(), 1);
    let transaction = VersionedTransaction::try_new(VersionedMessage::V0(message), &[&payer]).unwrap();
    let signature = node.send(&transaction).await.unwrap();
    node.node.mine(2).await.unwrap();
    assert_eq!(node.balance(&to, "processed").await, SOL + 7);

    let executed = node.transaction(&signature).await;
    assert_eq!(executed["version"], 0);
    assert_eq!(executed["meta"]["loadedAddresses"], json!({ "writable": [to.to_string()], "readonly": [] }));
    let config = json!({ "commitment": "confirmed", "encoding": "jsonParsed", "maxSupportedTransactionVersion": 0 });
    let parsed = node.ok("getTransaction", json!([signature, config])).await;
    let keys = parsed["transaction"]["message"]["accountKeys"].as_array().unwrap();
    let loaded = json!({ "pubkey": to.to_string(), "signer": false, "source": "lookupTable", "writable": true });
    assert_eq!(keys.last(), Some(&loaded));
    let pay = &parsed["transaction"]["message"]["instructions"][0]["parsed"];
    let info = json!({ "source": payer.pubkey().to_string(), "destination": to.to_string(), "lamports": 7 });
    assert_eq!(pay, &json!({ "type": "transfer", "info": info }));

    // A client that can't read version 0 is told so.
    let old = json!([signature, { "commitment": "confirmed" }]);
    assert_eq!(node.fails("getTransaction", old).await.0, -32015);
    node.stop().await;
}
