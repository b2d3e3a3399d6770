//! What waits: refusals, replacements, families.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction};
use serde_json::json;

use super::{BTC, COIN, Coin, Run};
use crate::wallet::{Kind, Wallet};

impl Run {
    /// What the gateway concludes from a refusal, and its code and words.
    pub(super) async fn class(&mut self, step: &str, tx: &Transaction) {
        let refusal = self.node.refused("sendrawtransaction", json!([serialize_hex(tx)])).await;
        self.notes.class(format!("the class of {step}"), &refusal);
        self.notes.words(step, Err(refusal));
    }

    /// The same, and a trial's reason.
    pub(super) async fn refused(&mut self, step: &str, tx: &Transaction) {
        self.class(step, tx).await;
        self.tried(step, tx).await;
    }

    /// What a trial says.
    async fn tried(&mut self, step: &str, tx: &Transaction) {
        let tried = self.node.ask("testmempoolaccept", json!([[serialize_hex(tx)]])).await;
        self.notes.fields(format!("a trial of {step}"), &tried[0], &["allowed", "reject-reason"]);
    }

    pub(super) async fn refusals(&mut self) {
        let coin = self.coin();
        let height: u32 = self.node.get("getblockcount", json!([])).await;
        let (wallet, to) = (Wallet::new(1, Kind::P2wpkh), self.to.clone());
        let change = |make: &dyn Fn(&mut Transaction)| {
            let mut tx = wallet.unsigned(&[coin], to.clone(), 1_000);
            make(&mut tx);
            wallet.sign(tx, &[coin])
        };
        let good = wallet.spend(&[coin], to.clone(), 1_000);
        let damage = |make: &dyn Fn(&mut Transaction)| {
            let mut tx = good.clone();
            make(&mut tx);
            tx
        };
        let script = |hex: &str| ScriptBuf::from_hex(hex).unwrap();
        // Those that the gateway's tables know.
        for (step, tx) in [
            ("more than there is", change(&|tx| tx.output[0].value = Amount::from_sat(COIN + 1))),
            ("version 0", change(&|tx| tx.version.0 = 0)),
            ("dust", change(&|tx| tx.output[0].value = Amount::from_sat(293))),
            ("a nonstandard output", change(&|tx| tx.output[0].script_pubkey = script("51"))),
            ("not final yet", change(&|tx| tx.lock_time = LockTime::from_consensus(height + 1))),
            ("not final for an hour", change(&|tx| tx.lock_time = LockTime::from_consensus(4_000_000_000))),
            ("a relative lock", change(&|tx| tx.input[0].sequence = Sequence::from_height(400))),
            ("an unknown coin", change(&|tx| tx.input[0].previous_output.vout = 7_777)),
            ("too low a fee", wallet.spend(&[coin], to.clone(), 110)),
            ("another's key", Wallet::new(8, Kind::P2wpkh).sign(wallet.unsigned(&[coin], to.clone(), 1_000), &[coin])),
        ] {
            self.refused(step, &tx).await;
        }
        // Those that no honest wallet makes.
        for (step, tx) in [
            ("no outputs", change(&|tx| tx.output.clear())),
            ("more than can be", change(&|tx| tx.output[0].value = Amount::from_sat(21_000_001 * BTC))),
            ("a coin twice", change(&|tx| tx.input.push(tx.input[0].clone()))),
            ("version 4", change(&|tx| tx.version.0 = 4)),
            ("no signature", damage(&|tx| tx.input[0].witness.clear())),
            ("a changed amount", damage(&|tx| tx.output[0].value = Amount::from_sat(5_000))),
            ("a scriptSig at a witness program", damage(&|tx| tx.input[0].script_sig = script("51"))),
            ("a high S", wallet.with_high_s(good.clone())),
        ] {
            self.words(step, "sendrawtransaction", json!([serialize_hex(&tx)])).await;
            self.tried(step, &tx).await;
        }
        let data = change(&|tx| {
            tx.output[0].value = Amount::ZERO;
            tx.output[0].script_pubkey = script("6a0401020304");
            tx.output.push(tx.output[0].clone());
        });
        self.tried("two data outputs", &data).await;
        let small = change(&|tx| tx.output[0].script_pubkey = script("6a"));
        self.words("money burned", "sendrawtransaction", json!([serialize_hex(&small)])).await;
        self.words("too small", "sendrawtransaction", json!([serialize_hex(&small), 0, 1])).await;
        let dear = wallet.spend(&[coin], to.clone(), 2_000_000);
        self.refused("too high a fee", &dear).await;
        let tried = self.node.ask("testmempoolaccept", json!([[serialize_hex(&dear)], 0])).await;
        self.notes.fields("a trial of any fee", &tried[0], &["allowed"]);
        self.words("no such limit", "sendrawtransaction", json!([serialize_hex(&dear), 1])).await;
        for hex in ["00", "", "zz"] {
            self.words(&format!("{hex:?} sent"), "sendrawtransaction", json!([hex])).await;
        }
        self.exact("nothing got in", "getrawmempool", json!([])).await;
    }

    /// BIP-125's rules, by number.
    pub(super) async fn replacement(&mut self) {
        let (coin, other) = (self.coin(), self.coin());
        let wallet = Wallet::new(1, Kind::P2wpkh);
        // Without a signal too: full replacement is the default since Bitcoin Core 28.
        let mut first = wallet.unsigned(&[coin], wallet.script(), 1_000);
        first.input[0].sequence = Sequence::MAX;
        let first = wallet.sign(first, &[coin]);
        self.send(&first).await;
        let child_coin = (OutPoint::new(first.compute_txid(), 0), first.output[0].value);
        let child = wallet.spend(&[child_coin], wallet.script(), 3_000);
        self.send(&child).await;
        let entry = self.shape("an entry with a child", "getmempoolentry", json!([first.compute_txid()])).await;
        let names = ["descendantcount", "descendantsize", "ancestorcount", "ancestorsize"];
        self.notes.fields("fields of an entry with a child", &entry, &names);
        self.notes.fields(
            "fees of an entry with a child",
            &entry["fees"],
            &["base", "modified", "ancestor", "descendant"],
        );
        let entry = self.node.ask("getmempoolentry", json!([child.compute_txid()])).await;
        self.notes.fields("fields of a child", &entry, &names);
        self.notes.fields("fees of a child", &entry["fees"], &["base", "modified", "ancestor", "descendant"]);

        let replace = |fee: u64| wallet.spend(&[coin], self.to.clone(), fee);
        let (cheap, less, no_relay, good) = (replace(900), replace(3_999), replace(4_100), replace(4_200));
        self.refused("a lower rate", &cheap).await;
        self.refused("rule 3: less than what it replaces", &less).await;
        self.refused("rule 4: too little for its relay", &no_relay).await;
        let both = wallet.spend(&[coin, child_coin], self.to.clone(), 50_000);
        self.tried("spends what it replaces", &both).await;
        // Another unconfirmed coin.
        let parent = wallet.spend(&[other], wallet.script(), 1_000);
        self.send(&parent).await;
        let unconfirmed = (OutPoint::new(parent.compute_txid(), 0), parent.output[0].value);
        let adds = wallet.spend(&[coin, unconfirmed], self.to.clone(), 50_000);
        self.tried("rule 2: a coin that isn't confirmed", &adds).await;
        self.send(&good).await;
        self.words("what was replaced", "getmempoolentry", json!([first.compute_txid()])).await;
        self.words("its child", "getmempoolentry", json!([child.compute_txid()])).await;
        self.class("the replaced one again", &first).await;

        // 101 transactions in the way.
        let coins: Vec<Coin> = (0..101).map(|_| self.coin()).collect();
        for coin in &coins {
            self.send(&self.wallet.spend(&[*coin], self.to.clone(), 200)).await;
        }
        let all = self.wallet.spend(&coins, self.to.clone(), 200_000);
        self.refused("rule 5: too many replaced", &all).await;
        let hundred = self.wallet.spend(&coins[1..], self.to.clone(), 200_000);
        self.tried("a hundred replaced", &hundred).await;
        self.mine(1).await;
        self.exact("all are mined", "getrawmempool", json!([])).await;
    }

    /// Chains of unconfirmed transactions: their length, and version 3 (TRUC, BIP-431).
    pub(super) async fn families(&mut self) {
        let mut coin = self.coin();
        let mut last = None;
        for depth in 0..26 {
            let tx = self.wallet.spend(&[coin], self.wallet.script(), 1_000);
            if depth == 25 {
                self.refused("the 26th in a chain", &tx).await;
            } else {
                last = Some(self.send(&tx).await);
            }
            coin = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
        }
        let entry = self.node.ask("getmempoolentry", json!([last])).await;
        self.notes.fields("the 25th in a chain", &entry, &["ancestorcount", "ancestorsize", "descendantcount"]);
        self.mine(1).await;

        let wallet = Wallet::new(1, Kind::P2wpkh);
        let version_3 = |coin: Coin| {
            let mut tx = wallet.unsigned(&[coin], wallet.script(), 1_000);
            tx.version.0 = 3;
            let tx = wallet.sign(tx, &[coin]);
            let next = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
            (tx, next)
        };
        let (parent, next) = version_3(self.coin());
        self.send(&parent).await;
        let mixed = wallet.spend(&[next], wallet.script(), 1_000);
        self.words("a child of another version", "sendrawtransaction", json!([serialize_hex(&mixed)])).await;
        let (child, next) = version_3(next);
        self.send(&child).await;
        let (grandchild, _) = version_3(next);
        self.words("a grandchild", "sendrawtransaction", json!([serialize_hex(&grandchild)])).await;
        self.mine(1).await;
    }
}
