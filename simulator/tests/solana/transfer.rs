//! Lamports from one account to another, through every commitment level.

use serde_json::json;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};

use crate::node::{Node, SOL, encode, sign, transfer};

#[tokio::test]
async fn from_queued_to_final() {
    let node = Node::start().await;
    let from = node.funded(2 * SOL).await;
    let to = Pubkey::new_unique();
    let transaction = node.sign(&[&from], &[transfer(&from, &to, SOL)]).await;
    let signature = node.send(&transaction).await.unwrap();
    assert_eq!(signature, transaction.signatures[0].to_string());
    assert_eq!(node.status(&signature).await, json!(null));
    assert_eq!(node.balance(&to, "processed").await, 0);

    let slot = node.node.mine(1).await.unwrap();
    for (confirmations, name) in [(json!(0), "processed"), (json!(1), "confirmed"), (json!(2), "confirmed")] {
        let expected = json!({
            "slot": slot, "confirmations": confirmations, "err": null, "status": {"Ok": null}, "confirmationStatus": name,
        });
        assert_eq!(node.status(&signature).await, expected);
        node.node.mine(1).await.unwrap();
    }
    assert_eq!(node.status(&signature).await["confirmations"], 3);
    node.node.mine(5).await.unwrap();
    let status = node.status(&signature).await;
    assert_eq!((&status["confirmations"], &status["confirmationStatus"]), (&json!(null), &json!("finalized")));

    assert_eq!(node.balance(&from.pubkey(), "finalized").await, SOL - 5000);
    let executed = node.transaction(&signature).await;
    assert_eq!(executed["meta"]["fee"], 5000);
    assert_eq!(executed["meta"]["preBalances"], json!([2 * SOL, 0, 1]));
    assert_eq!(executed["meta"]["postBalances"], json!([SOL - 5000, SOL, 1]));
    assert_eq!(executed["meta"]["logMessages"][1], "Program 11111111111111111111111111111111 success");
    assert_eq!(executed["version"], "legacy");
    node.stop().await;
}

#[tokio::test]
async fn accounts_are_seen_as_of_the_commitment() {
    let node = Node::start().await;
    let from = node.funded(2 * SOL).await;
    let to = Pubkey::new_unique();
    let seen = async || {
        let mut seen = Vec::new();
        for level in ["processed", "confirmed", "finalized"] {
            seen.push(node.balance(&to, level).await);
        }
        seen
    };
    for expected in [[SOL, 0, 0], [SOL + 1, SOL, 0]] {
        let lamports = if expected[0] == SOL { SOL } else { 1 };
        let transaction = node.sign(&[&from], &[transfer(&from, &to, lamports)]).await;
        node.send(&transaction).await.unwrap();
        node.node.mine(1).await.unwrap();
        assert_eq!(seen().await, expected);
    }
    node.node.mine(7).await.unwrap();
    assert_eq!(seen().await, [SOL + 1, SOL + 1, SOL]);
    node.node.mine(1).await.unwrap();
    assert_eq!(seen().await, [SOL + 1; 3]);

    // A scan and a simulation see the same past.
    let spend = node.sign(&[&from], &[transfer(&from, &to, SOL / 2)]).await;
    node.send(&spend).await.unwrap();
    node.node.mine(1).await.unwrap();
    let supply = async |level: &str| node.value("getSupply", json!([{ "commitment": level }])).await["total"].as_u64();
    assert_eq!(supply("processed").await.unwrap() + 5000, supply("finalized").await.unwrap());
    let twice = sign(&[&from], &[transfer(&from, &to, SOL * 9 / 10)], node.blockhash().await);
    let config = |level: &str| json!({ "encoding": "base64", "commitment": level, "replaceRecentBlockhash": true });
    let past = node.value("simulateTransaction", json!([encode(&twice), config("finalized")])).await;
    assert_eq!(past["err"], json!(null));
    let now = node.value("simulateTransaction", json!([encode(&twice), config("processed")])).await;
    assert_eq!(now["err"], json!({ "InstructionError": [0, { "Custom": 1 }] }));
    assert_eq!(node.balance(&to, "processed").await, SOL + 1 + SOL / 2);
    node.stop().await;
}

#[tokio::test]
async fn a_failed_transaction_pays_its_fee() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = Pubkey::new_unique();
    let transaction = node.sign(&[&from], &[transfer(&from, &to, 3 * SOL)]).await;

    let error = node.send(&transaction).await.unwrap_err();
    assert_eq!(error["code"], -32002);
    assert_eq!(
        error["message"],
        "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    );
    assert_eq!(error["data"]["err"], json!({ "InstructionError": [0, { "Custom": 1 }] }));
    assert_eq!(error["data"]["logs"][1], "Transfer: insufficient lamports 999995000, need 3000000000");
    assert!(error["data"]["unitsConsumed"].as_u64().unwrap() > 0);

    let signature = node.send_blindly(&transaction).await;
    node.node.mine(2).await.unwrap();
    assert_eq!(node.status(&signature).await["err"], json!({ "InstructionError": [0, { "Custom": 1 }] }));
    assert_eq!(node.balance(&from.pubkey(), "processed").await, SOL - 5000);
    node.stop().await;
}

#[tokio::test]
async fn rent_and_fees_are_enforced() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = Pubkey::new_unique();
    let minimum = node.ok("getMinimumBalanceForRentExemption", json!([0])).await.as_u64().unwrap();
    assert_eq!(minimum, 890_880);

    let poor = node.sign(&[&from], &[transfer(&from, &to, minimum - 1)]).await;
    let error = node.send(&poor).await.unwrap_err();
    assert_eq!(error["data"]["err"], json!({ "InsufficientFundsForRent": { "account_index": 1 } }));
    node.execute(&[&from], &[transfer(&from, &to, minimum)]).await;
    assert_eq!(node.balance(&to, "processed").await, minimum);

    let nobody = Keypair::new();
    let unfunded = node.sign(&[&nobody], &[transfer(&nobody, &to, 1)]).await;
    assert_eq!(node.send(&unfunded).await.unwrap_err()["data"]["err"], "AccountNotFound");
    let signature = node.send_blindly(&unfunded).await;
    node.node.mine(1).await.unwrap();
    assert_eq!(node.status(&signature).await, json!(null), "what can't pay is in no block");
    node.stop().await;
}

#[tokio::test]
async fn a_priority_fee_is_charged_and_reported() {
    use solana_compute_budget_interface::ComputeBudgetInstruction;
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let instructions = [
        ComputeBudgetInstruction::set_compute_unit_limit(1_000),
        ComputeBudgetInstruction::set_compute_unit_price(2_500_001),
        transfer(&from, &to, 1),
    ];
    let transaction = node.sign(&[&from], &instructions).await;
    let message = {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(transaction.message.serialize())
    };
    let level = json!({ "commitment": "processed" });
    // 5000 and the ceiling of 1000 * 2.500001.
    assert_eq!(node.value("getFeeForMessage", json!([message, level])).await, 7501);
    assert_eq!(node.execute(&[&from], &instructions).await["meta"]["fee"], 7501);
    node.node.mine(200).await.unwrap();
    assert_eq!(node.value("getFeeForMessage", json!([message, level])).await, json!(null), "its blockhash is too old");

    node.execute(&[&from], &instructions).await;
    let fees = node.ok("getRecentPrioritizationFees", json!([[to.to_string()]])).await;
    let fees = fees.as_array().unwrap();
    assert_eq!(fees.len(), 150);
    let paid: Vec<_> = fees.iter().filter(|fee| fee["prioritizationFee"] == 2_500_001).collect();
    assert_eq!(paid.len(), 1);

    let starved = [ComputeBudgetInstruction::set_compute_unit_limit(100), transfer(&from, &to, 1)];
    let error = node.send(&node.sign(&[&from], &starved).await).await.unwrap_err();
    assert_eq!(error["data"]["err"], json!({ "InstructionError": [0, "ComputationalBudgetExceeded"] }));
    node.stop().await;
}

#[tokio::test]
async fn airdrops_even_equal_ones() {
    let node = Node::start().await;
    let to = Pubkey::new_unique().to_string();
    let first = node.ok("requestAirdrop", json!([to, SOL])).await;
    let second = node.ok("requestAirdrop", json!([to, SOL, { "commitment": "confirmed" }])).await;
    let third = node.ok("sim_fund", json!([to, SOL.to_string()])).await;
    assert!(first != second && second != third);
    assert_eq!(node.ok("sim_mine", json!([])).await, 1);
    assert_eq!(node.balance(&to.parse().unwrap(), "processed").await, 3 * SOL);
    node.stop().await;
}
