//! The chain, and transactions that its rules admit or refuse.

use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction};
use serde_json::{Value, json};

use crate::run::{BTC, NOW, Run};
use crate::wallet::{Kind, Wallet};

#[tokio::test]
async fn the_chain_is_regtest() {
    let run = Run::fresh().await;
    let genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    assert_eq!(run.ok("getblockhash", json!([0])).await, genesis);
    assert_eq!(run.ok("getblockcount", json!([])).await, 130);
    let tip = run.ok("getbestblockhash", json!([])).await;
    let info = run.ok("getblockchaininfo", Value::Null).await;
    assert_eq!(info["chain"], "regtest");
    assert_eq!(info["blocks"], 130);
    assert_eq!(info["bestblockhash"], tip);
    assert_eq!(info["initialblockdownload"], false);
    assert_eq!(info["chainwork"], format!("{:064x}", 131 * 2));

    let header = run.ok("getblockheader", json!([tip])).await;
    assert_eq!(header["height"], 130);
    assert_eq!(header["confirmations"], 1);
    assert_eq!(header["bits"], "207fffff");
    assert!(header.get("nextblockhash").is_none());
    let raw = run.ok("getblock", json!([tip, 0])).await;
    let block: bitcoin::Block = bitcoin::consensus::encode::deserialize_hex(raw.as_str().unwrap()).unwrap();
    assert_eq!(json!(block.block_hash()), tip);
    assert_eq!(json!(block.header.prev_blockhash), header["previousblockhash"]);
    assert_eq!(run.ok("getblockheader", json!([tip, false])).await, serialize_hex(&block.header));
    let shown = run.ok("getblock", json!({ "blockhash": tip, "verbosity": 2 })).await;
    assert_eq!(shown["tx"][0]["vout"][0]["value"], json!(50.0));
    assert_eq!(shown["tx"][0]["vout"][0]["scriptPubKey"]["type"], "witness_v0_scripthash");
    assert_eq!(shown["tx"][0]["vout"][1]["scriptPubKey"]["type"], "nulldata");
    assert_eq!(shown["nTx"], 1);
    assert_eq!(shown["weight"], block.weight().to_wu());
    assert_eq!(shown["strippedsize"].as_u64().unwrap() * 3 + shown["size"].as_u64().unwrap(), block.weight().to_wu());
    run.stop().await;
}

#[tokio::test]
async fn money_moves_from_every_kind_of_output() {
    let run = Run::fresh().await;
    let receiver = Wallet::new(9, Kind::P2wpkh);
    for (seed, kind) in (1..).zip(Kind::ALL) {
        let wallet = Wallet::new(seed, kind);
        let (outpoint, amount) = run.fund(&wallet, BTC).await;
        let shown = run.ok("gettxout", json!([outpoint.txid, outpoint.vout])).await;
        assert_eq!(shown["confirmations"], 1);
        assert_eq!(shown["value"], json!(1.0));
        assert_eq!(shown["scriptPubKey"]["address"], wallet.address().to_string());

        let tx = wallet.spend(&[(outpoint, amount)], receiver.script(), 1_234);
        let txid = json!(tx.compute_txid());
        let tried = run.ok("testmempoolaccept", json!([[serialize_hex(&tx)]])).await;
        assert_eq!(tried[0]["allowed"], true, "{tried}");
        assert_eq!(tried[0]["fees"]["base"].to_string().parse::<f64>().unwrap(), 0.00001234);
        assert_eq!(run.send(&tx).await, txid);
        assert_eq!(run.ok("getrawmempool", json!([])).await, json!([txid]));
        assert_eq!(run.send(&tx).await, txid, "sending what waits already is no error");
        assert_eq!(run.ok("gettxout", json!([outpoint.txid, outpoint.vout])).await, Value::Null);
        assert_eq!(run.ok("gettxout", json!([outpoint.txid, outpoint.vout, false])).await["confirmations"], 1);
        assert_eq!(run.ok("gettxout", json!([txid, 0])).await["confirmations"], 0);
        let waiting = run.ok("getrawtransaction", json!([txid, true])).await;
        assert!(waiting.get("blockhash").is_none());

        let block = run.ok("sim_mine", json!([])).await[0].clone();
        let shown = run.ok("getrawtransaction", json!([txid, 2])).await;
        assert_eq!(shown["blockhash"], block);
        assert_eq!(shown["confirmations"], 1);
        assert_eq!(shown["fee"].to_string().parse::<f64>().unwrap(), 0.00001234);
        assert_eq!(shown["vin"][0]["prevout"]["value"], json!(1.0));
        assert_eq!(run.ok("getrawmempool", json!([])).await, json!([]));

        let (code, message) = run.error("sendrawtransaction", json!([serialize_hex(&tx)])).await;
        assert_eq!((code, message.as_str()), (-27, "Transaction outputs already in utxo set"));
        let tried = run.ok("testmempoolaccept", json!([[serialize_hex(&tx)]])).await;
        assert_eq!(tried[0]["reject-reason"], "txn-already-known");
    }
    let scan = run.ok("scantxoutset", json!(["start", [format!("addr({})", receiver.address())]])).await;
    let expected = (BTC - 1_234) * u64::try_from(Kind::ALL.len()).unwrap();
    assert_eq!(Amount::from_btc(scan["total_amount"].as_f64().unwrap()).unwrap().to_sat(), expected);
    assert_eq!(scan["unspents"].as_array().unwrap().len(), Kind::ALL.len());
    run.stop().await;
}

#[tokio::test]
async fn invalid_transactions_are_refused_in_cores_words() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let taproot = Wallet::new(2, Kind::P2tr);
    let legacy = Wallet::new(3, Kind::P2pkh);
    let to = Wallet::new(9, Kind::P2wpkh).script();
    let coin = run.fund(&wallet, BTC).await;
    let taproot_coin = run.fund(&taproot, BTC).await;
    let legacy_coin = run.fund(&legacy, BTC).await;
    let good = wallet.spend(&[coin], to.clone(), 1_000);
    let tip = run.node.height().await.unwrap();

    let change = |make: &dyn Fn(&mut Transaction)| {
        let mut tx = wallet.unsigned(&[coin], to.clone(), 1_000);
        make(&mut tx);
        wallet.sign(tx, &[coin])
    };
    let damage = |make: &dyn Fn(&mut Transaction)| {
        let mut tx = good.clone();
        make(&mut tx);
        tx
    };
    let mut cases: Vec<(&str, Transaction, i64, String)> = Vec::new();
    let mut case = |name, tx, code, message: &str| cases.push((name, tx, code, message.to_owned()));

    case("no outputs", change(&|tx| tx.output.clear()), -26, "bad-txns-vout-empty");
    case(
        "more than there is",
        change(&|tx| tx.output[0].value = Amount::from_sat(BTC + 1)),
        -26,
        "bad-txns-in-belowout, value in (1.00) < value out (1.00000001)",
    );
    case(
        "more than can be",
        change(&|tx| tx.output[0].value = Amount::from_sat(21_000_001 * BTC)),
        -26,
        "bad-txns-vout-toolarge",
    );
    case("a coin twice", change(&|tx| tx.input.push(tx.input[0].clone())), -26, "bad-txns-inputs-duplicate");
    case("version 0", change(&|tx| tx.version.0 = 0), -26, "version");
    case("version 4", change(&|tx| tx.version.0 = 4), -26, "version");
    case("dust", change(&|tx| tx.output[0].value = Amount::from_sat(293)), -26, "dust");
    case(
        "a nonstandard output",
        change(&|tx| tx.output[0].script_pubkey = ScriptBuf::from_hex("51").unwrap()),
        -26,
        "scriptpubkey",
    );
    case(
        "two data outputs",
        change(&|tx| {
            tx.output[0].value = Amount::ZERO;
            tx.output[0].script_pubkey = ScriptBuf::from_hex("6a0401020304").unwrap();
            tx.output.push(tx.output[0].clone());
        }),
        -26,
        "multi-op-return",
    );
    case(
        "too small",
        change(&|tx| tx.output[0].script_pubkey = ScriptBuf::from_hex("6a").unwrap()),
        -25,
        "Unspendable",
    );
    case("not final yet", change(&|tx| tx.lock_time = LockTime::from_consensus(tip + 1)), -26, "non-final");
    case("a relative lock", change(&|tx| tx.input[0].sequence = Sequence::from_height(4)), -26, "non-BIP68-final");
    case("an unknown coin", change(&|tx| tx.input[0].previous_output.vout = 77), -25, "bad-txns-inputs-missingorspent");
    case("too low a fee", wallet.spend(&[coin], to.clone(), 109), -26, "min relay fee not met, 109 < 110");
    case(
        "no signature",
        damage(&|tx| tx.input[0].witness.clear()),
        -26,
        "mandatory-script-verify-flag-failed (Witness program hash mismatch)",
    );
    case(
        "a changed amount",
        damage(&|tx| tx.output[0].value = Amount::from_sat(5_000)),
        -26,
        "mandatory-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG operation)",
    );
    case(
        "another's key",
        Wallet::new(8, Kind::P2wpkh).sign(wallet.unsigned(&[coin], to.clone(), 1_000), &[coin]),
        -26,
        "mandatory-script-verify-flag-failed (Script failed an OP_EQUALVERIFY operation)",
    );
    case(
        "a scriptSig at a witness program",
        damage(&|tx| tx.input[0].script_sig = ScriptBuf::from_hex("51").unwrap()),
        -26,
        "mandatory-script-verify-flag-failed (Witness requires empty scriptSig)",
    );
    case(
        "a high S",
        wallet.with_high_s(good.clone()),
        -26,
        "non-mandatory-script-verify-flag (Non-canonical signature: S value is unnecessarily high)",
    );
    let mut bad_schnorr = taproot.spend(&[taproot_coin], to.clone(), 1_000);
    bad_schnorr.output[0].value = Amount::from_sat(5_000);
    case(
        "a bad Schnorr signature",
        bad_schnorr,
        -26,
        "mandatory-script-verify-flag-failed (Invalid Schnorr signature)",
    );
    let mut bad_legacy = legacy.spend(&[legacy_coin], to.clone(), 1_000);
    bad_legacy.output[0].value = Amount::from_sat(5_000);
    case(
        "a bad legacy signature",
        bad_legacy,
        -26,
        "mandatory-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG operation)",
    );

    for (name, tx, code, message) in cases {
        if message == "Unspendable" {
            // Burning money is refused before anything else is looked at, unless it is allowed.
            let hex = serialize_hex(&tx);
            let (code_found, found) = run.error("sendrawtransaction", json!([hex])).await;
            assert_eq!((code_found, found.starts_with("Unspendable output")), (code, true), "{name}: {found}");
            let (_, found) = run.error("sendrawtransaction", json!([hex, 0, 1])).await;
            assert_eq!(found, "tx-size-small");
            continue;
        }
        assert_eq!(run.refused(&tx).await, (code, message), "{name}");
    }

    let hex = serialize_hex(&wallet.spend(&[coin], to.clone(), 2_000_000));
    let (code, message) = run.error("sendrawtransaction", json!([hex])).await;
    assert_eq!((code, message.as_str()), (-25, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)"));
    let tried = run.ok("testmempoolaccept", json!([[hex]])).await;
    assert_eq!(tried[0]["reject-reason"], "max-fee-exceeded");
    assert_eq!(run.ok("testmempoolaccept", json!([[hex], 0])).await[0]["allowed"], true);
    let (code, message) = run.error("sendrawtransaction", json!([hex, 1])).await;
    assert_eq!((code, message.as_str()), (-8, "Fee rates larger than or equal to 1BTC/kvB are not accepted"));
    let (code, message) = run.error("sendrawtransaction", json!(["00"])).await;
    assert_eq!((code, message.as_str()), (-22, "TX decode failed. Make sure the tx has at least one input."));
    assert_eq!(run.ok("getrawmempool", json!([])).await, json!([]), "nothing got in");
    run.send(&good).await;
    run.stop().await;
}

#[tokio::test]
async fn a_coinbase_matures_after_100_blocks() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let hash = run.ok("generatetoaddress", json!([1, wallet.address().to_string()])).await[0].clone();
    let block = run.ok("getblock", json!([hash, 2])).await;
    let outpoint = OutPoint::new(block["tx"][0]["txid"].as_str().unwrap().parse().unwrap(), 0);
    let tx = wallet.spend(&[(outpoint, Amount::from_sat(50 * BTC))], wallet.script(), 1_000);
    run.node.mine(98).await.unwrap();
    let refusal = (-26, "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 99".to_owned());
    assert_eq!(run.refused(&tx).await, refusal);
    run.node.mine(1).await.unwrap();
    run.send(&tx).await;
    run.stop().await;
}

#[tokio::test]
async fn time_locks_pass_with_the_median_time() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let unlock = u32::try_from(NOW / 1000).unwrap() + 3_600;
    let mut tx = wallet.unsigned(&[coin], wallet.script(), 1_000);
    tx.lock_time = LockTime::from_consensus(unlock);
    let tx = wallet.sign(tx, &[coin]);
    assert_eq!(run.refused(&tx).await, (-26, "non-final".to_owned()));
    run.clock.advance(Duration::from_secs(3_601));
    run.node.mine(5).await.unwrap();
    assert_eq!(run.refused(&tx).await, (-26, "non-final".to_owned()), "the median is still of the hour before");
    run.node.mine(1).await.unwrap();
    run.send(&tx).await;
    run.stop().await;
}
