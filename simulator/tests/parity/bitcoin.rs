//! The Bitcoin suite: the simulated node against `bitcoind -regtest`.
//!
//! The simulated node speaks as Bitcoin Core 28 does. `bitcoind` is built of a later source, so some rows of the table name the release that
//! changed something.

mod mempool;

use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::{Value, json};
use simulator::clock::SystemClock;
use simulator::node::bitcoin::{BitcoinConfig, BitcoinNode};
use simulator::rpc::CancellationToken;

use crate::bitcoind::Bitcoind;
use crate::subject::Subject;
use crate::transcript::{Known, Transcript};
use crate::wallet::{Kind, Wallet};

/// `bitcoind` is a development build between the releases 31 and 32.
const KNOWN: &[Known] = &[
    Known { step: "*", place: "target", why: "since Bitcoin Core 29" },
    Known { step: "the chain", place: "bits", why: "since Bitcoin Core 29" },
    Known { step: "*", place: "coinbase_tx.*", why: "since Bitcoin Core 31" },
    Known { step: "*", place: "chunkweight", why: "the cluster mempool of Bitcoin Core 31" },
    Known { step: "*", place: "fees.chunk", why: "the cluster mempool of Bitcoin Core 31" },
    Known { step: "the chain", place: "warnings.[]", why: "that it is no release" },
    Known { step: "getnetworkinfo", place: "warnings.[]", why: "the same" },
    Known { step: "fields of the chain", place: "warnings.*", why: "the same" },
    Known { step: "getmempoolinfo", place: "permitbaremultisig", why: "since Bitcoin Core 30" },
    Known { step: "getmempoolinfo", place: "maxdatacarriersize", why: "since Bitcoin Core 30" },
    Known { step: "getmempoolinfo", place: "limitcluster*", why: "the cluster mempool of Bitcoin Core 31" },
    Known { step: "getmempoolinfo", place: "optimal", why: "the cluster mempool of Bitcoin Core 31" },
    Known {
        step: "getmininginfo",
        place: "*",
        why: "since 29, and what is told of the last block template: nothing is mined by these",
    },
    Known { step: "dust", place: "words", why: "ephemeral dust may be made for no fee since Bitcoin Core 29" },
    Known {
        step: "another's key",
        place: "words",
        why: "one word for every failed script since Bitcoin Core 30, and where it failed",
    },
    Known { step: "no signature", place: "words", why: "the same" },
    Known { step: "a changed amount", place: "words", why: "the same" },
    Known { step: "a scriptSig at a witness program", place: "words", why: "the same" },
    Known { step: "a high S", place: "words", why: "the same" },
    Known { step: "a trial of another's key", place: "reject-reason", why: "the same" },
    Known { step: "a trial of no signature", place: "reject-reason", why: "the same" },
    Known { step: "a trial of a changed amount", place: "reject-reason", why: "the same" },
    Known { step: "a trial of a scriptSig at a witness program", place: "reject-reason", why: "the same" },
    Known { step: "a trial of a high S", place: "reject-reason", why: "the same" },
    Known {
        step: "a trial of two data outputs",
        place: "reject-reason",
        why: "any number is relayed since Bitcoin Core 30",
    },
    Known {
        step: "a lower rate",
        place: "words",
        why: "rates are no rule of their own in the cluster mempool; the fees decide",
    },
    Known { step: "the replaced one again", place: "words", why: "the same" },
    Known { step: "a trial of rule 2*", place: "*", why: "rule 2 is gone since Bitcoin Core 31" },
    Known { step: "rule 5: too many replaced", place: "words", why: "clusters are counted since Bitcoin Core 31" },
    Known { step: "the 26th in a chain", place: "words", why: "clusters are limited since Bitcoin Core 31" },
    Known { step: "a trial of the 26th in a chain", place: "reject-reason", why: "the same" },
];

const BTC: u64 = 100_000_000;
/// What each of the coins is worth that the suite spends.
const COIN: u64 = BTC;
/// Pays nobody.
const NOBODY: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

type Coin = (OutPoint, Amount);

/// A run of the suite on one node.
struct Run {
    node: Subject,
    notes: Transcript,
    wallet: Wallet,
    to: ScriptBuf,
    coins: Vec<Coin>,
}

impl Run {
    async fn on(node: Subject) -> Transcript {
        let (wallet, to) = (Wallet::new(1, Kind::P2wpkh), Wallet::new(9, Kind::P2tr).script());
        let mut run = Self { node, notes: Transcript::new("bitcoin"), wallet, to, coins: Vec::new() };
        run.the_chain().await;
        run.fee_estimates().await;
        run.a_payment().await;
        run.refusals().await;
        run.replacement().await;
        run.families().await;
        run.a_reorganisation().await;
        run.transactions_and_addresses().await;
        run.blocks_by_hand().await;
        run.bad_requests().await;
        run.notes
    }

    async fn shape(&mut self, step: &str, method: &str, params: Value) -> Value {
        let answer = self.node.ask(method, params).await;
        self.notes.shape(step, &answer);
        answer
    }

    async fn exact(&mut self, step: &str, method: &str, params: Value) -> Value {
        let answer = self.node.ask(method, params).await;
        self.notes.exact(step, &answer);
        answer
    }

    async fn words(&mut self, step: &str, method: &str, params: Value) {
        let outcome = self.node.call(method, params).await;
        self.notes.words(step, outcome);
    }

    async fn mine(&self, blocks: u64) -> Vec<String> {
        self.node.get("generatetoaddress", json!([blocks, NOBODY])).await
    }

    async fn send(&self, tx: &Transaction) -> Txid {
        self.node.get("sendrawtransaction", json!([serialize_hex(tx)])).await
    }

    /// A coin of the suite's that nobody has spent.
    fn coin(&mut self) -> Coin {
        self.coins.pop().expect("enough coins were made")
    }

    /// The chain at one height on every node, and what is told of it. Makes the coins.
    async fn the_chain(&mut self) {
        let height: u64 = self.node.get("getblockcount", json!([])).await;
        self.mine(130 - height).await;
        let to = self.wallet.address().to_string();
        let first: Vec<String> = self.node.get("generatetoaddress", json!([110, to])).await;
        self.exact("the height", "getblockcount", json!([])).await;
        self.exact("the genesis block", "getblockhash", json!([0])).await;
        let genesis = self.node.ask("getblockhash", json!([0])).await;
        self.exact("the genesis block's header", "getblockheader", json!([genesis, false])).await;
        self.shape("the best block", "getbestblockhash", json!([])).await;
        self.exact("the difficulty", "getdifficulty", json!([])).await;
        let info = self.shape("the chain", "getblockchaininfo", json!([])).await;
        let names =
            ["chain", "blocks", "headers", "difficulty", "initialblockdownload", "chainwork", "pruned", "warnings"];
        self.notes.fields("fields of the chain", &info, &names);
        let header = self.shape("a header", "getblockheader", json!([first[0]])).await;
        let names = ["confirmations", "height", "version", "versionHex", "bits", "difficulty", "chainwork", "nTx"];
        self.notes.fields("fields of a header", &header, &names);
        let raw: String = self.node.get("getblockheader", json!([first[0], false])).await;
        self.notes.exact("the length of a raw header", &json!(raw.len()));
        self.shape("the newest header", "getblockheader", json!([first[109]])).await;
        for verbosity in 1..=3 {
            self.shape(&format!("a block, {verbosity}"), "getblock", json!([first[0], verbosity])).await;
        }
        self.shape("the tips", "getchaintips", json!([])).await;
        for method in ["getnetworkinfo", "getmempoolinfo", "getmininginfo", "getpeerinfo", "getconnectioncount"] {
            self.shape(method, method, json!([])).await;
        }
        let info = self.node.ask("getmempoolinfo", json!([])).await;
        let names = ["loaded", "size", "bytes", "total_fee", "mempoolminfee", "minrelaytxfee", "incrementalrelayfee"];
        self.notes.fields("fields of the empty mempool", &info, &names);

        // The eleven coinbases that have matured become the suite's coins.
        let mut coins = Vec::new();
        for hash in &first[..11] {
            let block = self.node.ask("getblock", json!([hash, 1])).await;
            coins.push((
                OutPoint::new(block["tx"][0].as_str().unwrap().parse().unwrap(), 0),
                Amount::from_sat(50 * BTC),
            ));
        }
        let shown = self.shape("a coinbase's output", "gettxout", json!([coins[0].0.txid, 0])).await;
        self.notes.fields(
            "fields of a coinbase's output",
            &shown,
            &["confirmations", "value", "coinbase", "scriptPubKey"],
        );
        let young = self.node.ask("getblock", json!([first[11], 1])).await["tx"][0].clone();
        let young = (OutPoint::new(young.as_str().unwrap().parse().unwrap(), 0), Amount::from_sat(50 * BTC));
        let early = self.wallet.spend(&[young], self.to.clone(), 1_000);
        self.refused("a young coinbase", &early).await;

        let mut split = self.wallet.unsigned(&coins, self.wallet.script(), 100_000);
        split.output = vec![TxOut { value: Amount::from_sat(COIN), script_pubkey: self.wallet.script() }; 540];
        split.output.push(TxOut { value: Amount::from_sat(10 * BTC - 100_000), script_pubkey: self.to.clone() });
        let split = self.wallet.sign(split, &coins);
        let txid = self.send(&split).await;
        self.mine(1).await;
        self.coins = (0..540).map(|index| (OutPoint::new(txid, index), Amount::from_sat(COIN))).collect();
        self.exact("nothing waits", "getrawmempool", json!([])).await;
    }

    async fn fee_estimates(&mut self) {
        for target in [1, 2, 6, 1_008] {
            self.exact(&format!("the fee for {target}"), "estimatesmartfee", json!([target])).await;
        }
        self.exact("the fee in a mode", "estimatesmartfee", json!([6, "conservative"])).await;
        for (step, params) in [
            ("the fee for no block", json!([0])),
            ("the fee for too many", json!([1_009])),
            ("the fee in no mode", json!([6, "cheap"])),
            ("the fee for text", json!(["6"])),
            ("the fee for nothing", json!([])),
        ] {
            let outcome = self.node.call("estimatesmartfee", params).await;
            self.notes.code(step, outcome);
        }
    }

    /// From the mempool into a block, and what is told of it on the way.
    async fn a_payment(&mut self) {
        let coin = self.coin();
        let tx = self.wallet.spend(&[coin], self.to.clone(), 1_234);
        let (txid, hex) = (tx.compute_txid(), serialize_hex(&tx));
        let tried = self.shape("a trial", "testmempoolaccept", json!([[hex]])).await;
        self.notes.fields("fields of a trial", &tried[0], &["allowed", "vsize"]);
        self.notes.fields("fees of a trial", &tried[0]["fees"], &["base", "effective-feerate"]);
        let sent = self.shape("sent", "sendrawtransaction", json!([hex])).await;
        assert_eq!(sent, json!(txid));
        self.shape("sent again", "sendrawtransaction", json!([hex])).await;
        self.shape("the mempool", "getrawmempool", json!([])).await;
        self.shape("the mempool with its sequence", "getrawmempool", json!([false, true])).await;
        let mut entries = self.node.ask("getrawmempool", json!([true])).await;
        self.notes.shape("the mempool in detail", &entries[txid.to_string()].take());
        let entry = self.shape("an entry", "getmempoolentry", json!([txid])).await;
        let names = [
            "vsize",
            "weight",
            "height",
            "descendantcount",
            "descendantsize",
            "ancestorcount",
            "ancestorsize",
            "fees",
            "depends",
            "spentby",
            "bip125-replaceable",
        ];
        self.notes.fields("fields of an entry", &entry, &names);
        let info = self.node.ask("getmempoolinfo", json!([])).await;
        self.notes.fields("fields of the mempool", &info, &["size", "bytes", "total_fee"]);
        let again = self.node.ask("testmempoolaccept", json!([[hex]])).await;
        self.notes.fields("a trial of what waits", &again[0], &["allowed", "reject-reason"]);
        for verbosity in 0..=2 {
            self.shape(&format!("a waiting transaction, {verbosity}"), "getrawtransaction", json!([txid, verbosity]))
                .await;
        }
        let (spent, vout) = (coin.0.txid, coin.0.vout);
        self.exact("the spent coin", "gettxout", json!([spent, vout])).await;
        self.shape("the spent coin in the chain", "gettxout", json!([spent, vout, false])).await;
        let made = self.shape("the coin that it makes", "gettxout", json!([txid, 0])).await;
        self.notes.fields(
            "fields of the coin that it makes",
            &made,
            &["confirmations", "value", "scriptPubKey", "coinbase"],
        );
        self.exact("the coin that it makes, in the chain", "gettxout", json!([txid, 0, false])).await;

        let block = self.mine(2).await.remove(0);
        for verbosity in 0..=2 {
            self.shape(
                &format!("a transaction in a block, {verbosity}"),
                "getrawtransaction",
                json!([txid, verbosity]),
            )
            .await;
        }
        let shown = self.node.ask("getrawtransaction", json!([txid, 2])).await;
        self.notes.fields(
            "fields of it",
            &shown,
            &["confirmations", "fee", "vsize", "weight", "size", "version", "locktime"],
        );
        self.notes.fields("what it spends", &shown["vin"][0]["prevout"], &["generated", "value", "scriptPubKey"]);
        self.notes.fields("what it makes", &shown["vout"][0], &["value", "n", "scriptPubKey"]);
        self.shape("a transaction in a named block", "getrawtransaction", json!([txid, 1, block])).await;
        for verbosity in 1..=3 {
            let shown = self.shape(&format!("its block, {verbosity}"), "getblock", json!([block, verbosity])).await;
            assert_eq!(shown["nTx"], 2);
        }
        self.class("what is in a block", &tx).await;
        let again = self.node.ask("testmempoolaccept", json!([[hex]])).await;
        self.notes.fields("a trial of what is in a block", &again[0], &["allowed", "reject-reason"]);
        self.words("no waiting transaction", "getmempoolentry", json!([txid])).await;
        self.words(
            "no transaction",
            "getrawtransaction",
            json!([Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros())]),
        )
        .await;
    }

    async fn a_reorganisation(&mut self) {
        let coin = self.coin();
        let tx = self.wallet.spend(&[coin], self.to.clone(), 1_000);
        let txid = self.send(&tx).await;
        let lost = self.mine(2).await;
        self.exact("invalidated", "invalidateblock", json!([lost[0]])).await;
        self.exact("one block less", "getblockcount", json!([])).await;
        self.notes_of_lost("a lost block", &lost[0]).await;
        let waiting = self.node.ask("getrawmempool", json!([])).await;
        self.notes.exact("it waits again", &json!(waiting == json!([txid])));
        self.shape("it again", "getrawtransaction", json!([txid, 1])).await;
        self.shape("the tips with a lost branch", "getchaintips", json!([])).await;
        let tips: Value = self.node.ask("getchaintips", json!([])).await;
        let tips: Vec<_> =
            tips.as_array().unwrap().iter().map(|tip| json!([tip["status"], tip["branchlen"]])).collect();
        self.notes.exact("the state of the tips", &json!(tips));
        self.words("a block's height is lost", "getblockhash", json!([99_999])).await;
        // Paid to somebody else: otherwise it could be the very block that is invalid.
        let other: Vec<String> =
            self.node.get("generatetoaddress", json!([1, self.wallet.address().to_string()])).await;
        let shown = self.node.ask("getrawtransaction", json!([txid, 1])).await;
        self.notes.exact(
            "it is in the other branch",
            &json!([shown["confirmations"], shown["blockhash"] == json!(other[0])]),
        );
        // The longer branch wins when it is allowed again.
        self.exact("reconsidered", "reconsiderblock", json!([lost[0]])).await;
        let best: String = self.node.get("getbestblockhash", json!([])).await;
        self.notes.exact("the longer branch is back", &json!(best == lost[1]));
        self.notes_of_lost("the shorter branch", &other[0]).await;
        let tips: Value = self.node.ask("getchaintips", json!([])).await;
        let tips: Vec<_> =
            tips.as_array().unwrap().iter().map(|tip| json!([tip["status"], tip["branchlen"]])).collect();
        self.notes.exact("the state of the tips at the end", &json!(tips));
        self.words("an unknown block invalidated", "invalidateblock", json!(["11".repeat(32)])).await;
    }

    async fn notes_of_lost(&mut self, step: &str, hash: &str) {
        let header = self.shape(&format!("{step}'s header"), "getblockheader", json!([hash])).await;
        self.notes.exact(format!("{step}'s confirmations"), &header["confirmations"]);
        self.shape(step, "getblock", json!([hash, 1])).await;
    }

    /// What needs no chain.
    async fn transactions_and_addresses(&mut self) {
        let fixed =
            (OutPoint::new(Txid::from_raw_hash(bitcoin::hashes::Hash::hash(b"a coin")), 3), Amount::from_sat(BTC));
        for (kind, name) in Kind::ALL.into_iter().zip(["P2PKH", "P2SH-P2WPKH", "P2WPKH", "P2TR"]) {
            let tx = Wallet::new(5, kind).spend(&[fixed], self.to.clone(), 1_000);
            self.exact(&format!("{name} decoded"), "decoderawtransaction", json!([serialize_hex(&tx)])).await;
            let address = Wallet::new(5, kind).address().to_string();
            self.exact(&format!("a {name} address"), "validateaddress", json!([address])).await;
        }
        let multisig = format!("5121{}21{}52ae", "02".repeat(33), "03".repeat(33));
        for (step, script) in [
            ("bare multisig", multisig.as_str()),
            ("data", "6a0401020304"),
            ("an anchor", "51024e73"),
            ("anything", "51"),
        ] {
            let mut tx = self.wallet.unsigned(&[fixed], self.to.clone(), 1_000);
            tx.output[0].script_pubkey = ScriptBuf::from_hex(script).unwrap();
            self.exact(&format!("{step} decoded"), "decoderawtransaction", json!([serialize_hex(&tx)])).await;
        }
        for address in [
            "",
            "nonsense",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081",
        ] {
            let answer = self.node.ask("validateaddress", json!([address])).await;
            self.notes.fields(format!("the address {address:?}"), &answer, &["isvalid"]);
        }
        let address = format!("addr({})", Wallet::new(9, Kind::P2tr).address());
        let found = self.shape("a scan", "scantxoutset", json!(["start", [address]])).await;
        self.notes.fields("fields of a scan", &found, &["success", "height", "total_amount"]);
        self.exact("no scan runs", "scantxoutset", json!(["status"])).await;
    }

    async fn blocks_by_hand(&mut self) {
        let best: String = self.node.get("getbestblockhash", json!([])).await;
        let raw = self.node.ask("getblock", json!([best, 0])).await;
        self.exact("a known block again", "submitblock", json!([raw])).await;
        self.words("no block", "submitblock", json!(["00"])).await;
        let coin = self.coin();
        let tx = self.wallet.spend(&[coin], self.to.clone(), 1_000);
        let made =
            self.shape("a block of one transaction", "generateblock", json!([NOBODY, [serialize_hex(&tx)]])).await;
        let shown = self.node.ask("getblock", json!([made["hash"], 1])).await;
        self.notes.exact("it is in", &json!(shown["tx"][1] == json!(tx.compute_txid())));
        self.words("blocks to nobody", "generatetoaddress", json!([1, "nobody"])).await;
    }

    async fn bad_requests(&mut self) {
        let old = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"1.0","id":"x","method":"{method}","params":{params}}}"#)
        };
        let new =
            |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        for (step, body) in [
            ("no JSON", "{".to_owned()),
            ("no request", "1".to_owned()),
            ("an empty batch", "[]".to_owned()),
            ("no method", r#"{"id":1,"params":[]}"#.to_owned()),
            ("a number as a method", r#"{"id":1,"method":1,"params":[]}"#.to_owned()),
            ("text as parameters", r#"{"id":1,"method":"getblockcount","params":"x"}"#.to_owned()),
            ("no version", r#"{"id":1,"method":"getblockcount"}"#.to_owned()),
            ("another version", r#"{"jsonrpc":"3.0","id":1,"method":"getblockcount"}"#.to_owned()),
            ("an unknown method", old("getnonsense", "[]")),
            ("an unknown method, 2.0", new("getnonsense", "[]")),
            ("a short hash", old("getblock", r#"["00"]"#)),
            ("a short hash, 2.0", new("getblock", r#"["00"]"#)),
            ("a wrong type", old("getblockhash", r#"["1"]"#)),
            ("names", old("getblockhash", r#"{"height":0}"#)),
            ("an unknown name", old("getblockhash", r#"{"hight":0}"#)),
            ("names and places", old("getblockhash", r#"{"args":[0]}"#)),
            ("a batch", format!("[{},{}]", old("getblockcount", "[]"), new("getnonsense", "[]"))),
            ("a notification", r#"{"jsonrpc":"2.0","method":"getblockcount"}"#.to_owned()),
        ] {
            let (status, answer) = self.node.post(&body).await;
            self.notes.exact(format!("the answer to {step}"), &json!([status, answer]));
        }
        for (step, params) in
            [("too few", json!([])), ("too many", json!(["a", 1, 2, 3])), ("no hash", json!(["zz".repeat(32)]))]
        {
            let outcome = self.node.call("getblock", params).await;
            self.notes.code(format!("{step} parameters"), outcome);
        }
        self.words("no such block", "getblock", json!(["11".repeat(32)])).await;
        self.words("no such output", "gettxout", json!(["11", 0])).await;
        self.exact("an output of nothing", "gettxout", json!(["11".repeat(32), 0])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bitcoind; `just parity` builds and names it"]
async fn the_bitcoin_node_answers_as_bitcoind_does() {
    let bitcoind = Bitcoind::start();
    let real = Run::on(bitcoind.subject()).await;

    let shutdown = CancellationToken::new();
    let node = BitcoinNode::start(BitcoinConfig::default(), Arc::new(SystemClock), shutdown.clone()).await.unwrap();
    let simulated = Run::on(Subject::new(&node.url())).await;
    shutdown.cancel();
    node.stopped().await;
    Transcript::compare(&simulated, &real, KNOWN);
}
