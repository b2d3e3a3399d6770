//! Blockhashes, durable nonces and duplicates.

use serde_json::json;
use solana_sdk::hash::Hash;
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};
use solana_sdk::transaction::VersionedTransaction;
use solana_system_interface::instruction as system;

use crate::node::{Node, SOL, sign, transfer};

const NONCE_BYTES: usize = 80;

#[tokio::test]
async fn a_blockhash_is_good_for_150_blocks() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let answer = node.ok("getLatestBlockhash", json!([{ "commitment": "processed" }])).await;
    let blockhash: Hash = answer["value"]["blockhash"].as_str().unwrap().parse().unwrap();
    let height = answer["context"]["slot"].as_u64().unwrap();
    assert_eq!(answer["value"]["lastValidBlockHeight"], height + 150);
    let valid =
        async || node.value("isBlockhashValid", json!([blockhash.to_string(), {"commitment": "processed"}])).await;

    node.node.mine(149).await.unwrap();
    node.send(&sign(&[&from], &[transfer(&from, &to, 1)], blockhash)).await.unwrap();
    node.node.mine(1).await.unwrap();
    assert_eq!((node.balance(&to, "processed").await, valid().await), (SOL + 1, json!(true)));

    // As on a cluster, the block after the last valid height still takes it.
    node.send(&sign(&[&from], &[transfer(&from, &to, 2)], blockhash)).await.unwrap();
    node.node.mine(1).await.unwrap();
    assert_eq!((node.balance(&to, "processed").await, valid().await), (SOL + 3, json!(false)));

    let late = sign(&[&from], &[transfer(&from, &to, 3)], blockhash);
    let error = node.send(&late).await.unwrap_err();
    assert_eq!(error["message"], "Transaction simulation failed: Blockhash not found");
    assert_eq!((&error["code"], &error["data"]["err"]), (&json!(-32002), &json!("BlockhashNotFound")));
    let signature = node.send_blindly(&late).await;
    node.node.mine(1).await.unwrap();
    assert_eq!(node.status(&signature).await, json!(null));
    node.stop().await;
}

#[tokio::test]
async fn preflight_does_not_know_a_blockhash_newer_than_its_commitment() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let transaction = node.sign(&[&from], &[transfer(&from, &Pubkey::new_unique(), SOL / 2)]).await;
    let text = crate::node::encode(&transaction);
    // The default is finalized, and the blockhash is of the newest slot.
    let (code, message) = node.fails("sendTransaction", json!([text, { "encoding": "base64" }])).await;
    assert_eq!((code, message.as_str()), (-32002, "Transaction simulation failed: Blockhash not found"));
    node.node.mine(8).await.unwrap();
    node.ok("sendTransaction", json!([text, { "encoding": "base64" }])).await;
    node.stop().await;
}

#[tokio::test]
async fn a_duplicate_is_executed_once() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let transaction = node.sign(&[&from], &[transfer(&from, &to, 7)]).await;
    let signature = node.send(&transaction).await.unwrap();
    assert_eq!(node.send(&transaction).await.unwrap(), signature, "it waits already");
    let slot = node.node.mine(1).await.unwrap();

    let error = node.send(&transaction).await.unwrap_err();
    assert_eq!(error["message"], "Transaction simulation failed: This transaction has already been processed");
    assert_eq!(error["data"]["err"], "AlreadyProcessed");
    assert_eq!(node.send_blindly(&transaction).await, signature);
    node.node.mine(1).await.unwrap();
    assert_eq!(node.balance(&to, "processed").await, SOL + 7);
    assert_eq!(node.status(&signature).await["slot"], slot);
    node.stop().await;
}

#[tokio::test]
async fn a_nonce_account_outlives_blockhashes_and_is_used_once() {
    let node = Node::start().await;
    let payer = node.funded(SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let nonce = Keypair::new();
    let minimum = node.ok("getMinimumBalanceForRentExemption", json!([NONCE_BYTES])).await.as_u64().unwrap();
    let create = system::create_nonce_account(&payer.pubkey(), &nonce.pubkey(), &payer.pubkey(), minimum);
    node.execute(&[&payer, &nonce], &create).await;

    let with_nonce = |value: Hash, lamports: u64| {
        let instructions =
            [system::advance_nonce_account(&nonce.pubkey(), &payer.pubkey()), transfer(&payer, &to, lamports)];
        let message = Message::new_with_blockhash(&instructions, Some(&payer.pubkey()), &value);
        VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&payer]).unwrap()
    };
    let first = nonce_value(&node, &nonce.pubkey()).await;
    node.node.mine(300).await.unwrap();
    let transaction = with_nonce(first, 5);
    node.send(&transaction).await.unwrap();
    node.node.mine(1).await.unwrap();
    assert_eq!(node.balance(&to, "processed").await, SOL + 5);

    let second = nonce_value(&node, &nonce.pubkey()).await;
    assert_ne!(second, first);
    let error = node.send(&with_nonce(first, 6)).await.unwrap_err();
    assert_eq!(error["data"]["err"], "BlockhashNotFound");

    // A failed transaction uses its nonce up too, and of two in one slot only one is taken.
    node.node.mine(1).await.unwrap();
    let failed = node.send_blindly(&with_nonce(second, 2 * SOL)).await;
    let rival = node.send_blindly(&with_nonce(second, 8)).await;
    node.node.mine(1).await.unwrap();
    assert_eq!(node.status(&failed).await["err"], json!({ "InstructionError": [1, { "Custom": 1 }] }));
    assert_eq!(node.status(&rival).await, json!(null));
    assert_ne!(nonce_value(&node, &nonce.pubkey()).await, second);
    assert_eq!(node.balance(&to, "processed").await, SOL + 5);
    node.stop().await;
}

#[tokio::test]
async fn a_nonce_needs_its_authority() {
    let node = Node::start().await;
    let (owner, thief) = (node.funded(SOL).await, node.funded(SOL).await);
    let nonce = Keypair::new();
    let minimum = node.ok("getMinimumBalanceForRentExemption", json!([NONCE_BYTES])).await.as_u64().unwrap();
    let create = system::create_nonce_account(&owner.pubkey(), &nonce.pubkey(), &owner.pubkey(), minimum);
    node.execute(&[&owner, &nonce], &create).await;
    let value = nonce_value(&node, &nonce.pubkey()).await;
    node.node.mine(1).await.unwrap();
    let advance = system::advance_nonce_account(&nonce.pubkey(), &thief.pubkey());
    let error = node.send(&sign(&[&thief], &[advance], value)).await.unwrap_err();
    assert_eq!(error["data"]["err"], "BlockhashNotFound");
    node.stop().await;
}

async fn nonce_value(node: &Node, address: &Pubkey) -> Hash {
    use base64::Engine as _;
    let config =
        json!({ "encoding": "base64", "commitment": "processed", "dataSlice": { "offset": 40, "length": 32 } });
    let account = node.value("getAccountInfo", json!([address.to_string(), config])).await;
    assert_eq!(account["space"], NONCE_BYTES);
    let bytes = base64::prelude::BASE64_STANDARD.decode(account["data"][0].as_str().unwrap()).unwrap();
    Hash::new_from_array(bytes.try_into().unwrap())
}
