//! Random histories of the Bitcoin engine: submissions, blocks, refusals and their reversal. Whatever happens, no value appears, the mempool
//! can be mined, and a replay of the journal ends in the same state.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, Sequence, Transaction, TxIn, TxOut, Witness};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use simulator::node::bitcoin::engine::{Engine, Raw, Record};
use simulator::node::bitcoin::faucet;
use simulator::node::bitcoin::policy::Policy;
use simulator::node::bitcoin::rules::subsidy;

const START: u64 = 1_700_000_000;

#[derive(Clone, Debug)]
enum Step {
    /// Spend the coins picked, confirmed or not, into `outputs` with a fee of `rate` satoshis for each virtual byte.
    Spend {
        picks: Vec<prop::sample::Index>,
        outputs: usize,
        rate: u64,
    },
    Mine,
    Invalidate(prop::sample::Index),
    Reconsider(prop::sample::Index),
    Evict,
    /// Another node's branch, from so many blocks below the tip and one block longer, with what then waits in its first block.
    Branch(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let picks = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    let step = prop_oneof![
        6 => (picks, 1..4_usize, 0..20_u64).prop_map(|(picks, outputs, rate)| Step::Spend { picks, outputs, rate }),
        2 => Just(Step::Mine),
        1 => any::<prop::sample::Index>().prop_map(Step::Invalidate),
        1 => any::<prop::sample::Index>().prop_map(Step::Reconsider),
        1 => Just(Step::Evict),
        1 => (1..6_u32).prop_map(Step::Branch),
    ];
    prop::collection::vec(step, 1..60)
}

/// An engine with its journal, as the node keeps them.
struct History {
    engine: Engine,
    records: Vec<Record>,
    now: u64,
    refused: Vec<bitcoin::BlockHash>,
}

impl History {
    fn new() -> Self {
        let engine = Engine::new(Policy::default(), faucet::script());
        let mut history = Self { engine, records: Vec::new(), now: START, refused: Vec::new() };
        for _ in 0..110 {
            history.mine();
        }
        history
    }

    fn mine(&mut self) {
        self.now += 60;
        let mined = self.engine.plan(None, self.now, None);
        let block = self.engine.assemble(&mined);
        self.engine.test(&block).expect("the mempool holds nothing that can't be mined");
        self.records.push(Record::Mined(mined));
        self.engine.accept(block).expect("a tested block");
    }

    fn apply(&mut self, step: &Step) {
        self.now += 1;
        match step {
            Step::Mine => self.mine(),
            Step::Evict => {
                self.records.push(Record::Evicted);
                self.engine.evict();
            }
            Step::Branch(depth) => {
                let mut other = self.engine.rewound(*depth);
                check(&other);
                other.set_salt(1 << 48);
                for _ in 0..=*depth {
                    let block = other.assemble(&other.plan(None, self.now, None));
                    other.accept(block.clone()).expect("what a node mines is valid");
                    // A branch that was refused here by command is refused again.
                    if self.engine.chain().admit(&block).is_ok() {
                        self.records.push(Record::Block { raw: Raw(block.clone()) });
                        let _ = self.engine.accept(block);
                    }
                }
            }
            Step::Spend { picks, outputs, rate } => {
                let tx = self.spend(picks, *outputs, *rate);
                if let Ok(candidate) = self.engine.check(Arc::new(tx.clone()), self.now) {
                    self.records.push(Record::Transaction { raw: Raw(tx), time: self.now });
                    self.engine.enter(candidate);
                }
            }
            Step::Invalidate(pick) => {
                let tip = self.engine.chain().tip().height;
                let back = u32::try_from(pick.index(4)).unwrap();
                let hash = self.engine.chain().at(tip - back).unwrap().hash;
                self.refused.push(hash);
                self.records.push(Record::Invalidated { hash });
                self.engine.invalidate(&hash).unwrap();
            }
            Step::Reconsider(pick) => {
                if !self.refused.is_empty() {
                    let hash = *pick.get(&self.refused);
                    self.records.push(Record::Reconsidered { hash });
                    self.engine.reconsider(&hash).unwrap();
                }
            }
        }
    }

    /// A transaction of coins that anyone can spend. It may be invalid: immature, conflicting, paying too little.
    fn spend(&self, picks: &[prop::sample::Index], outputs: usize, rate: u64) -> Transaction {
        let mut coins: BTreeMap<OutPoint, u64> =
            self.engine.chain().coins().map(|(outpoint, coin)| (*outpoint, coin.output.value.to_sat())).collect();
        for entry in self.engine.mempool().entries() {
            for (vout, output) in (0..).zip(&entry.tx.output) {
                coins.insert(OutPoint::new(entry.txid, vout), output.value.to_sat());
            }
        }
        // Mature coins and fresh ones; old blocks' coins are far more numerous than the rest.
        let coins: Vec<_> = coins.into_iter().collect();
        let chosen: BTreeMap<_, _> = picks.iter().map(|pick| *pick.get(&coins)).collect();
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: chosen
                .keys()
                .map(|outpoint| TxIn {
                    previous_output: *outpoint,
                    sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                    witness: Witness::from_slice(&[[0x51]]),
                    ..TxIn::default()
                })
                .collect(),
            output: vec![TxOut { value: Amount::ZERO, script_pubkey: faucet::script() }; outputs],
        };
        let total: u64 = chosen.values().sum();
        let fee = rate * u64::try_from(tx.vsize()).unwrap();
        let each = total.saturating_sub(fee) / u64::try_from(outputs).unwrap();
        for output in &mut tx.output {
            output.value = Amount::from_sat(each);
        }
        tx
    }

    /// Everything that can be seen of the state.
    fn visible(engine: &Engine) -> impl PartialEq + std::fmt::Debug {
        let coins: BTreeMap<_, _> =
            engine.chain().coins().map(|(outpoint, coin)| (*outpoint, (coin.height, coin.output.value))).collect();
        let waiting: Vec<_> = engine.mempool().entries().map(|e| (e.txid, e.fee, e.time, e.order)).collect();
        (engine.chain().tip().hash, engine.tips(), coins, waiting, engine.mempool().sequence())
    }
}

fn check(engine: &Engine) {
    let chain = engine.chain();
    let value: u64 = chain.coins().map(|(_, coin)| coin.output.value.to_sat()).sum();
    let minted: u64 = (1..=chain.tip().height).map(subsidy).sum();
    assert_eq!(value, minted, "every satoshi is in a coin: all coinbases collect their fees");

    let mut spent = BTreeSet::new();
    for entry in engine.mempool().entries() {
        let mut paid = 0;
        for input in &entry.tx.input {
            assert!(spent.insert(input.previous_output), "no coin is spent twice");
            let coin = chain.coin(&input.previous_output).cloned();
            let coin = coin.or_else(|| engine.mempool().coin(&input.previous_output, chain.next_height()));
            paid += coin.expect("every input's coin is there").output.value.to_sat();
        }
        let out: u64 = entry.tx.output.iter().map(|output| output.value.to_sat()).sum();
        assert_eq!(entry.fee, paid - out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_replayed_history_ends_in_the_same_state(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            history.apply(step);
            check(&history.engine);
        }

        let mut replayed = Engine::new(Policy::default(), faucet::script());
        for record in &history.records {
            let line = serde_json::to_string(record).unwrap();
            replayed.replay(serde_json::from_str(&line).unwrap()).unwrap();
        }
        prop_assert_eq!(History::visible(&replayed), History::visible(&history.engine));
    }
}

/// The random histories are worth something only if transactions get into the mempool and blocks.
#[test]
fn random_spends_are_not_all_refused() {
    let mut history = History::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut index = || any::<prop::sample::Index>().new_tree(&mut runner).unwrap().current();
    for _ in 0..200 {
        history.apply(&Step::Spend { picks: vec![index()], outputs: 2, rate: 2 });
    }
    assert!(history.engine.mempool().len() > 3);
    history.mine();
    assert!(history.engine.mempool().is_empty());
    assert!(history.engine.chain().tip().txids.len() > 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damaged transactions and blocks are refused, or valid in another way; nothing panics.
    #[test]
    fn damaged_bytes_are_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        pick in any::<prop::sample::Index>(),
    ) {
        let mut history = History::new();
        let damaged = |bytes: Vec<u8>| {
            let mut bytes = bytes;
            for (place, value) in &damage {
                let place = place.index(bytes.len());
                bytes[place] ^= *value;
            }
            bytes
        };
        let tx = history.spend(&[pick], 2, 5);
        if let Ok(tx) = deserialize::<Transaction>(&damaged(serialize(&tx))) {
            let _ = history.engine.check(Arc::new(tx), history.now);
        }
        let block = history.engine.assemble(&history.engine.plan(None, history.now + 60, None));
        if let Ok(block) = deserialize::<Block>(&damaged(serialize(&block))) {
            let _ = history.engine.accept(block);
        }
        history.mine();
        check(&history.engine);
    }
}
