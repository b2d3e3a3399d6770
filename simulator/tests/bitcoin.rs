//! The Bitcoin node over HTTP, as bitcoind's clients use it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

#[path = "bitcoin_support/wallet.rs"]
mod wallet;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, Txid};

use serde_json::{Value, json};
use simulator::clock::{Clock, ManualClock};
use simulator::node::bitcoin::policy::Policy;
use simulator::node::bitcoin::{BitcoinConfig, BitcoinNode, faucet};
use simulator::rpc::CancellationToken;
use wallet::{Client, Kind, Wallet};

const NOW: u64 = 1_750_000_000_000;
const BTC: u64 = 100_000_000;

struct Run {
    node: BitcoinNode,
    client: Client,
    clock: Arc<ManualClock>,
    shutdown: CancellationToken,
}

impl Run {
    async fn start(config: BitcoinConfig) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let shutdown = CancellationToken::new();
        let node = BitcoinNode::start(config, clock.clone(), shutdown.clone()).await.unwrap();
        let cookie = node.cookie_file().map(|path| std::fs::read_to_string(path).unwrap());
        let client = Client::new(&node.url(), cookie.as_deref());
        Self { node, client, clock, shutdown }
    }

    async fn fresh() -> Self {
        Self::start(BitcoinConfig::default()).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.node.stopped().await;
    }

    async fn ok(&self, method: &str, params: Value) -> Value {
        self.client.ok(method, params).await
    }

    async fn error(&self, method: &str, params: Value) -> (i64, String) {
        self.client.error(method, params).await
    }

    /// Pays a wallet from the faucet and returns the coin.
    async fn fund(&self, wallet: &Wallet, sats: u64) -> (OutPoint, Amount) {
        let amount = Amount::from_sat(sats);
        let txid = self.node.fund(&wallet.address().to_string(), amount).await.unwrap();
        let tx: Transaction = self.transaction(txid).await;
        let vout = tx.output.iter().position(|output| output.script_pubkey == wallet.script()).unwrap();
        (OutPoint::new(txid, u32::try_from(vout).unwrap()), amount)
    }

    async fn transaction(&self, txid: Txid) -> Transaction {
        let hex = self.ok("getrawtransaction", json!([txid])).await;
        bitcoin::consensus::encode::deserialize_hex(hex.as_str().unwrap()).unwrap()
    }

    async fn send(&self, tx: &Transaction) -> Value {
        self.ok("sendrawtransaction", json!([serialize_hex(tx)])).await
    }

    /// Sends what must be refused; `testmempoolaccept` must refuse it for the same reason.
    async fn refused(&self, tx: &Transaction) -> (i64, String) {
        let hex = serialize_hex(tx);
        let (code, message) = self.error("sendrawtransaction", json!([hex])).await;
        let tried = self.ok("testmempoolaccept", json!([[hex]])).await;
        assert_eq!(tried[0]["allowed"], false);
        let reason = tried[0]["reject-reason"].as_str().unwrap();
        let expected = if reason == "missing-inputs" { "bad-txns-inputs-missingorspent" } else { reason };
        assert!(message.starts_with(expected), "{message} against {reason}");
        (code, message)
    }
}

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

#[tokio::test]
async fn a_replacement_pays_for_what_it_replaces() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let to = Wallet::new(9, Kind::P2tr).script();
    let first = wallet.spend(&[coin], wallet.script(), 1_000);
    run.send(&first).await;
    let child_coin = (OutPoint::new(first.compute_txid(), 0), Amount::from_sat(BTC - 1_000));
    let child = wallet.spend(&[child_coin], wallet.script(), 3_000);
    run.send(&child).await;

    let cheap = wallet.spend(&[coin], to.clone(), 900);
    let (code, message) = run.refused(&cheap).await;
    assert_eq!(code, -26);
    assert!(
        message
            .starts_with(&format!("insufficient fee, rejecting replacement {}; new feerate 0.0", cheap.compute_txid()))
    );
    let less = wallet.spend(&[coin], to.clone(), 3_999);
    assert!(run.refused(&less).await.1.ends_with("less fees than conflicting txs; 0.00003999 < 0.00004"));
    let no_relay = wallet.spend(&[coin], to.clone(), 4_100);
    assert!(run.refused(&no_relay).await.1.contains("not enough additional fees to relay; 0.000001 < 0.00000"));

    let (replacement, entry) = (wallet.spend(&[coin], to, 4_200), child.compute_txid());
    assert_eq!(run.ok("getmempoolentry", json!([entry])).await["ancestorcount"], 2);
    let before = run.ok("getrawmempool", json!([false, true])).await["mempool_sequence"].as_u64().unwrap();
    run.send(&replacement).await;
    let after = run.ok("getrawmempool", json!([false, true])).await;
    assert_eq!(after["txids"], json!([replacement.compute_txid()]));
    assert_eq!(after["mempool_sequence"], before + 3);
    assert_eq!(run.error("getmempoolentry", json!([entry])).await, (-5, "Transaction not in mempool".to_owned()));
    let mined = run.node.mine(1).await.unwrap()[0];
    assert_eq!(run.ok("getblock", json!([mined])).await["tx"][1], json!(replacement.compute_txid()));
    run.stop().await;
}

#[tokio::test]
async fn without_full_rbf_only_signalling_transactions_are_replaced() {
    let policy = Policy { full_rbf: false, ..Policy::default() };
    let run = Run::start(BitcoinConfig { policy, ..BitcoinConfig::default() }).await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let mut tx = wallet.unsigned(&[coin], wallet.script(), 1_000);
    tx.input[0].sequence = Sequence::MAX;
    run.send(&wallet.sign(tx, &[coin])).await;
    let replacement = wallet.spend(&[coin], wallet.script(), 50_000);
    assert_eq!(run.refused(&replacement).await, (-26, "txn-mempool-conflict".to_owned()));
    run.stop().await;
}

#[tokio::test]
async fn chains_of_unconfirmed_transactions_are_limited() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let mut coin = run.fund(&wallet, BTC).await;
    for depth in 0..26 {
        let tx = wallet.spend(&[coin], wallet.script(), 1_000);
        if depth == 25 {
            let refusal = "too-long-mempool-chain, too many unconfirmed ancestors [limit: 25]".to_owned();
            assert_eq!(run.refused(&tx).await, (-26, refusal));
        } else {
            run.send(&tx).await;
        }
        coin = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
    }
    run.node.mine(1).await.unwrap();
    assert_eq!(run.ok("getmempoolinfo", json!([])).await["size"], 0);
    run.stop().await;
}

#[tokio::test]
async fn a_child_pays_for_its_parent() {
    let run = Run::fresh().await;
    let (poor, middle) = (Wallet::new(1, Kind::P2wpkh), Wallet::new(2, Kind::P2wpkh));
    let poor_coin = run.fund(&poor, BTC).await;
    let middle_coin = run.fund(&middle, BTC).await;
    let parent = poor.spend(&[poor_coin], poor.script(), 120);
    let other = middle.spend(&[middle_coin], middle.script(), 1_000);
    let child = poor.spend(&[(OutPoint::new(parent.compute_txid(), 0), parent.output[0].value)], poor.script(), 9_000);
    for tx in [&parent, &other, &child] {
        run.send(tx).await;
    }
    let mined = run.node.mine(1).await.unwrap()[0];
    let block = run.ok("getblock", json!([mined, 2])).await;
    let order: Vec<_> = block["tx"].as_array().unwrap().iter().skip(1).map(|tx| tx["txid"].clone()).collect();
    assert_eq!(order, [&parent, &child, &other].map(|tx| json!(tx.compute_txid())));
    let paid = Amount::from_btc(block["tx"][0]["vout"][0]["value"].as_f64().unwrap()).unwrap();
    assert_eq!(paid, Amount::from_sat(50 * BTC + 120 + 9_000 + 1_000));
    run.stop().await;
}

#[tokio::test]
async fn version_3_transactions_have_small_families() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let version3 = |coin| {
        let mut tx = wallet.unsigned(&[coin], wallet.script(), 1_000);
        tx.version.0 = 3;
        let tx = wallet.sign(tx, &[coin]);
        let next = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
        (tx, next)
    };
    let (parent, next) = version3(coin);
    run.send(&parent).await;
    let (_, mixed) = run.refused(&wallet.spend(&[next], wallet.script(), 1_000)).await;
    assert!(mixed.starts_with("TRUC-violation, non-version=3 tx "), "{mixed}");
    let (child, next) = version3(next);
    run.send(&child).await;
    let (_, long) = run.refused(&version3(next).0).await;
    assert!(long.ends_with("would have too many ancestors"), "{long}");
    run.stop().await;
}

#[tokio::test]
async fn a_reorganisation_gives_transactions_back() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let tx = wallet.spend(&[coin], wallet.script(), 1_000);
    run.send(&tx).await;
    let first = run.node.mine(1).await.unwrap()[0];
    let second = run.node.mine(1).await.unwrap()[0];
    assert_eq!(run.ok("getrawtransaction", json!([tx.compute_txid(), 1])).await["confirmations"], 2);

    assert_eq!(run.ok("invalidateblock", json!([first])).await, Value::Null);
    assert_eq!(run.ok("getrawmempool", json!([])).await, json!([tx.compute_txid()]));
    assert_eq!(run.ok("getblockheader", json!([second])).await["confirmations"], -1);
    let tips = run.ok("getchaintips", json!([])).await;
    assert_eq!(
        (&tips[0]["hash"], &tips[0]["status"], &tips[0]["branchlen"]),
        (&json!(second), &json!("invalid"), &json!(2))
    );
    assert_eq!(tips[1]["status"], "active");

    let other = run.ok("generateblock", json!([wallet.address().to_string(), []])).await;
    assert_eq!(run.ok("getbestblockhash", json!([])).await, other["hash"]);
    assert_eq!(run.ok("getrawmempool", json!([])).await, json!([tx.compute_txid()]), "an empty block confirms nothing");

    run.ok("reconsiderblock", json!([first])).await;
    assert_eq!(run.ok("getbestblockhash", json!([])).await, json!(second), "the longer branch is back");
    assert_eq!(run.ok("getrawmempool", json!([])).await, json!([]));
    let tips = run.ok("getchaintips", json!([])).await;
    assert_eq!(tips[1]["status"], "valid-fork");
    assert_eq!(tips[1]["hash"], other["hash"]);
    for bad in ["getblock", "invalidateblock", "reconsiderblock"] {
        let unknown = "11".repeat(32);
        assert_eq!(run.error(bad, json!([unknown])).await, (-5, "Block not found".to_owned()));
    }
    run.stop().await;
}

#[tokio::test]
async fn blocks_of_another_node_are_taken() {
    let (ours, theirs) = (Run::fresh().await, Run::fresh().await);
    let wallet = Wallet::new(1, Kind::P2tr);
    let coin = theirs.fund(&wallet, BTC).await;
    theirs.send(&wallet.spend(&[coin], wallet.script(), 1_000)).await;
    // The first blocks of both are the same: same clock, same faucet.
    assert_eq!(ours.ok("getbestblockhash", json!([])).await, theirs.ok("getblockhash", json!([130])).await);
    theirs.node.mine(2).await.unwrap();
    ours.node.mine(1).await.unwrap();
    ours.clock.advance(Duration::from_secs(5));
    let branch = ours.node.mine(1).await.unwrap();

    let mut answers = Vec::new();
    for height in 131..=133 {
        let hash = theirs.ok("getblockhash", json!([height])).await;
        let block = theirs.ok("getblock", json!([hash, 0])).await;
        answers.push(ours.ok("submitblock", json!([block])).await);
        if height == 133 {
            assert_eq!(ours.ok("submitblock", json!([block])).await, "duplicate");
            assert_eq!(ours.ok("getbestblockhash", json!([])).await, hash);
        }
    }
    assert_eq!(answers, [json!("inconclusive"), json!("inconclusive"), Value::Null]);
    assert_eq!(ours.ok("getblockheader", json!([branch[0]])).await["confirmations"], -1);

    // A block with a spend whose signature was spoilt.
    let hash = theirs.ok("getblockhash", json!([132])).await;
    let mut orphan: bitcoin::Block =
        bitcoin::consensus::encode::deserialize_hex(theirs.ok("getblock", json!([hash, 0])).await.as_str().unwrap())
            .unwrap();
    orphan.header.nonce ^= 0x8000_0000;
    let answer = ours.ok("submitblock", json!([serialize_hex(&orphan)])).await;
    assert!(answer == "high-hash" || answer == "inconclusive", "{answer}");
    assert_eq!(ours.error("submitblock", json!(["00"])).await, (-22, "Block decode failed".to_owned()));
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test]
async fn a_block_with_a_bad_spend_is_not_made() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let mut tx = wallet.spend(&[coin], wallet.script(), 0);
    let address = wallet.address().to_string();
    let height = run.node.height().await.unwrap();
    // Without a fee it isn't relayed, but a block may have it.
    let block = run.ok("generateblock", json!([address, [serialize_hex(&tx)], false])).await;
    assert!(block.get("hex").is_some());
    assert_eq!(run.node.height().await.unwrap(), height);
    run.ok("generateblock", json!([address, [serialize_hex(&tx)]])).await;
    assert_eq!(run.node.height().await.unwrap(), height + 1);

    tx.input[0].previous_output = OutPoint::new(tx.compute_txid(), 0);
    let (code, message) = run.error("generateblock", json!([address, [serialize_hex(&tx)]])).await;
    assert_eq!(code, -25);
    assert!(message.starts_with("TestBlockValidity failed: mandatory-script-verify-flag-failed"), "{message}");
    run.stop().await;
}

#[tokio::test]
async fn a_restart_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let config = BitcoinConfig { dir: Some(folder.path().join("bitcoin")), ..BitcoinConfig::default() };
    let wallet = Wallet::new(1, Kind::P2wpkh);

    let run = Run::start(config.clone()).await;
    let coin = run.fund(&wallet, BTC).await;
    let refused = run.node.mine(2).await.unwrap()[0];
    run.node.invalidate(refused).await.unwrap();
    let tx = wallet.spend(&[coin], wallet.script(), 1_000);
    run.send(&tx).await;
    let visible = async |run: &Run| {
        let mut all = Vec::new();
        for (method, params) in [
            ("getbestblockhash", json!([])),
            ("getchaintips", json!([])),
            ("getrawmempool", json!([true])),
            ("getrawmempool", json!([false, true])),
            ("scantxoutset", json!(["start", [format!("raw({})", faucet::script().to_hex_string())]])),
        ] {
            all.push(run.ok(method, params).await);
        }
        all
    };
    let before = visible(&run).await;
    let cookie = std::fs::read_to_string(run.node.cookie_file().unwrap()).unwrap();
    assert!(cookie.starts_with("__cookie__:"));
    let path = run.node.cookie_file().unwrap().to_owned();
    run.stop().await;
    assert!(!path.exists(), "the cookie is removed at the end");

    let run = Run::start(config.clone()).await;
    assert_eq!(visible(&run).await, before);
    assert_ne!(std::fs::read_to_string(&path).unwrap(), cookie);
    let second = BitcoinNode::start(config, run.clock.clone(), CancellationToken::new()).await;
    assert!(second.is_err(), "the folder is in use");
    run.node.mine(1).await.unwrap();
    assert_eq!(run.ok("getrawtransaction", json!([tx.compute_txid(), 1])).await["confirmations"], 1);
    run.stop().await;
}

#[tokio::test]
async fn credentials_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = BitcoinConfig { dir: Some(folder.path().to_owned()), ..BitcoinConfig::default() };
    let run = Run::start(config).await;
    for wrong in [None, Some("__cookie__:00"), Some("x")] {
        let (status, _) = Client::new(&run.node.url(), wrong).raw("{}").await;
        assert_eq!(status, 401);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(run.node.cookie_file().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(run.ok("getblockcount", json!([])).await, 130);
    run.stop().await;
}

#[tokio::test]
async fn bad_calls_get_bitcoinds_codes() {
    let run = Run::fresh().await;
    let (status, body) = run.client.raw("{").await;
    assert_eq!((status, &body["error"]["code"]), (500, &json!(-32700)));
    let (status, body) = run.client.raw(r#"{"id":1,"method":"nonsense"}"#).await;
    assert_eq!((status, &body["error"]), (404, &json!({ "code": -32601, "message": "Method not found" })));
    let (status, _) = run.client.raw(r#"{"id":1,"method":"getblockhash","params":[9999]}"#).await;
    assert_eq!(status, 500);
    for (method, params, code, message) in [
        ("getblockhash", json!([]), -1, "getblockhash height"),
        ("getblockhash", json!([1, 2]), -1, "getblockhash height"),
        ("getblockhash", json!({ "high": 1 }), -8, "Unknown named parameter high"),
        ("getblockhash", json!([131]), -8, "Block height out of range"),
        ("getblockhash", json!([-1]), -8, "Block height out of range"),
        ("getblockhash", json!([1.5]), -1, "JSON integer out of range"),
        (
            "getblockhash",
            json!(["1"]),
            -3,
            "Wrong type passed:\n{\n    \"Position 1 (height)\": \"JSON value of type string is not of expected type number\"\n}",
        ),
        ("getblock", json!(["00"]), -8, "blockhash must be of length 64 (not 2, for '00')"),
        (
            "getrawtransaction",
            json!(["11".repeat(32)]),
            -5,
            "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
        ),
        (
            "getrawtransaction",
            json!(["4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"]),
            -5,
            "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved",
        ),
        ("generatetoaddress", json!([1, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"]), -5, "Error: Invalid address"),
        ("decoderawtransaction", json!(["zz"]), -22, "TX decode failed"),
        ("estimatesmartfee", json!([0]), -8, "Invalid conf_target, must be between 1 and 1008"),
        ("testmempoolaccept", json!([[]]), -8, "Array must contain between 1 and 25 transactions."),
        ("getrawmempool", json!([true, true]), -8, "Verbose results cannot contain mempool sequence values."),
        ("sim_fund", json!(["x", 1_000]), -5, "Error: Invalid address"),
        (
            "sim_fund",
            json!([Wallet::new(1, Kind::P2tr).address().to_string(), "1.5"]),
            -8,
            "sats must be a whole number of satoshis",
        ),
        ("sim_fund", json!([Wallet::new(1, Kind::P2tr).address().to_string(), 1]), -26, "dust"),
    ] {
        assert_eq!(run.error(method, params.clone()).await, (code, message.to_owned()), "{method} {params}");
    }
    let (code, message) =
        run.error("sim_fund", json!([Wallet::new(1, Kind::P2tr).address().to_string(), 20_000_000 * BTC])).await;
    assert_eq!(code, -1);
    assert!(message.starts_with("the faucet has 1550 BTC to spend"), "{message}");
    let help = run.ok("help", json!([])).await;
    assert!(help.as_str().unwrap().contains("getblock blockhash ( verbosity )"));
    run.stop().await;
}

#[tokio::test]
async fn fees_are_estimated_once_there_is_something_to_go_by() {
    let run = Run::fresh().await;
    let nothing = run.ok("estimatesmartfee", json!([1])).await;
    assert_eq!(nothing, json!({ "errors": ["Insufficient data or no feerate found"], "blocks": 0 }));
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let mut coin = run.fund(&wallet, BTC).await;
    for _ in 0..20 {
        let tx = wallet.spend(&[coin], wallet.script(), 1_100);
        run.send(&tx).await;
        coin = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
    }
    run.node.mine(1).await.unwrap();
    let rate = run.ok("estimatesmartfee", json!([6])).await;
    assert_eq!(rate["feerate"].to_string().parse::<f64>().unwrap(), 0.0001);
    run.stop().await;
}

#[tokio::test]
async fn the_interval_makes_blocks() {
    let clock = Arc::new(simulator::clock::SystemClock);
    let shutdown = CancellationToken::new();
    let config = BitcoinConfig { block_interval: Some(Duration::from_millis(5)), ..BitcoinConfig::default() };
    let node = BitcoinNode::start(config, clock.clone(), shutdown.clone()).await.unwrap();
    let mut heights = BTreeSet::new();
    let deadline = clock.unix_millis() + 20_000;
    while heights.len() < 3 && clock.unix_millis() < deadline {
        heights.insert(node.height().await.unwrap());
        tokio::task::yield_now().await;
    }
    assert_eq!(heights.len(), 3);
    shutdown.cancel();
    node.stopped().await;
}
