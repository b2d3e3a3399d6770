//! The client against a scripted node: blocks, reorgs, mempool, restarts, broadcast, fees.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use chains::account::PublicKey;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::{BitcoinClient, Options, RestoreError, Signed};
use chains::chain::{BuildError, Chain, Slot};
use chains::client::{BroadcastError, Client, SendClass, StateError, Status};
use chains::network::{BitcoinNetwork, Network};
use chains::rpc::RpcError;
use serde_json::json;
use wiremock::MockServer;

use crate::fake_node::{FakeNode, Reply, rpc};
use crate::fixture::{CHAIN, DESTINATIONS, NETWORK, Wallet, account, pay, transfer};

pub(crate) struct Setup {
    pub(crate) node: FakeNode,
    server: MockServer,
    pub(crate) wallet: Wallet,
    pub(crate) client: BitcoinClient,
}

impl Setup {
    pub(crate) async fn new() -> Self {
        let node = FakeNode::new();
        let server = node.serve().await;
        let wallet = Wallet::p2tr(2);
        let client = client(&server, [wallet.script()], 0);
        Self { node, server, wallet, client }
    }

    /// A wallet with one confirmed coin.
    pub(crate) async fn funded(sat: u64) -> (Self, Transaction) {
        let setup = Self::new().await;
        let funding = pay(&[(setup.wallet.script(), sat)], 1);
        setup.node.mine(std::slice::from_ref(&funding));
        (setup, funding)
    }

    pub(crate) async fn balance(&self) -> u64 {
        balance(&self.client, &self.wallet).await
    }

    async fn coins(&self) -> BTreeSet<(OutPoint, u32)> {
        let intent = transfer(DESTINATIONS[0], 1_000);
        let state = self.client.state(&intent, &self.wallet.account, &BTreeSet::new()).await.expect("a state");
        state.utxos.iter().map(|utxo| (utxo.outpoint(), utxo.confirmations())).collect()
    }

    /// Builds and signs a payment of `sat`.
    pub(crate) async fn payment(&self, sat: u64) -> Signed {
        let intent = transfer(DESTINATIONS[2], sat);
        let account = &self.wallet.account;
        let state = self.client.state(&intent, account, &BTreeSet::new()).await.expect("a state");
        let unsigned = CHAIN.build(&intent, account, &state).expect("enough");
        let payloads = CHAIN.payloads(account, &unsigned).expect("the account's");
        let signatures: Vec<_> = payloads.iter().map(|payload| self.wallet.sign(payload)).collect();
        CHAIN.assemble(account, &unsigned, &signatures).expect("signatures that verify")
    }

    async fn status(&self, signed: &Signed) -> Status {
        self.client.status(signed).await.expect("a status")
    }
}

fn client(server: &MockServer, scripts: impl IntoIterator<Item = ScriptBuf>, birthday: u32) -> BitcoinClient {
    BitcoinClient::new(rpc(&server.uri()), NETWORK, scripts, birthday, Options::default())
}

async fn balance(client: &BitcoinClient, wallet: &Wallet) -> u64 {
    let balance = client.balance(&wallet.account, Asset::Native).await.expect("a balance");
    balance.to_u64().expect("below 21 million")
}

fn height(node: &FakeNode) -> u64 {
    u64::try_from(node.world().blocks.len() - 1).expect("a height")
}

#[tokio::test]
async fn a_confirmed_payment_is_seen_and_grows_confirmations() {
    let (setup, funding) = Setup::funded(100_000).await;
    setup.node.mine(&[pay(&[(Wallet::p2tr(9).script(), 5_000)], 2)]);
    let outpoint = OutPoint::new(funding.compute_txid(), 0);
    assert_eq!(setup.coins().await, BTreeSet::from([(outpoint, 2)]));
    assert_eq!(setup.balance().await, 100_000);
    setup.node.mine_empty(3);
    assert_eq!(setup.coins().await, BTreeSet::from([(outpoint, 5)]));
    let tip = setup.client.tip().await.expect("a tip");
    assert_eq!((tip.height, tip.finalized), (5, None));
}

#[tokio::test]
async fn another_s_unconfirmed_payment_does_not_count_yet() {
    let setup = Setup::new().await;
    setup.node.mine_empty(1);
    let incoming = pay(&[(setup.wallet.script(), 70_000)], 1);
    setup.node.add_to_mempool(&incoming);
    assert_eq!(setup.balance().await, 0);
    setup.node.mine(&[incoming]);
    assert_eq!(setup.balance().await, 70_000);
}

#[tokio::test]
async fn a_coinbase_matures() {
    let setup = Setup::new().await;
    setup.node.mine_to(setup.wallet.script(), &[]);
    setup.node.mine_empty(98);
    assert_eq!(setup.balance().await, 0);
    setup.node.mine_empty(1);
    assert_eq!(setup.balance().await, 5_000_000_000);
}

#[tokio::test]
async fn own_change_is_spendable_before_it_confirms_until_it_is_evicted() {
    let (setup, funding) = Setup::funded(100_000).await;
    let signed = setup.payment(30_000).await;
    setup.client.broadcast(&signed).await.expect("accepted");
    let fee = signed.transaction().output.iter().map(|output| output.value.to_sat()).sum::<u64>();
    let fee = 100_000 - fee;
    assert_eq!(setup.balance().await, 70_000 - fee);
    let coins = setup.coins().await;
    assert!(coins.iter().all(|(outpoint, confirmations)| {
        outpoint.txid == signed.transaction().compute_txid() && *confirmations == 0
    }));
    // A payment out of it.
    let second = setup.payment(20_000).await;
    assert_eq!(second.transaction().input[0].previous_output.txid, signed.transaction().compute_txid());

    setup.node.world().mempool.clear();
    assert_eq!(setup.coins().await, BTreeSet::from([(OutPoint::new(funding.compute_txid(), 0), 1)]));
    assert_eq!(setup.status(&signed).await, Status::Unknown);
    // It comes back.
    setup.node.add_to_mempool(signed.transaction());
    assert_eq!(setup.balance().await, 70_000 - fee);
    assert_eq!(setup.status(&signed).await, Status::InMempool);
}

#[tokio::test]
async fn a_payment_that_another_client_sent_is_seen_in_the_mempool() {
    let (setup, _) = Setup::funded(100_000).await;
    let signed = setup.payment(30_000).await;
    setup.node.add_to_mempool(signed.transaction());
    let coins = setup.coins().await;
    assert!(coins.iter().all(|(outpoint, _)| outpoint.txid == signed.transaction().compute_txid()));
    assert_eq!(coins.len(), 1);
}

#[tokio::test]
async fn a_payment_s_life() {
    let (setup, _) = Setup::funded(100_000).await;
    let signed = setup.payment(30_000).await;
    assert_eq!(setup.status(&signed).await, Status::Unknown);
    setup.client.broadcast(&signed).await.expect("accepted");
    assert_eq!(setup.status(&signed).await, Status::InMempool);

    let hash = setup.node.mine(&[signed.transaction().clone()]);
    setup.node.mine_empty(2);
    let Status::Included(inclusion) = setup.status(&signed).await else { panic!("it is in a block") };
    assert_eq!((inclusion.height, inclusion.confirmations), (2, 3));
    assert_eq!(inclusion.block, Some(hash.to_string()));
    assert!(inclusion.succeeded && !inclusion.finalized);
    let paid: u64 = signed.transaction().output.iter().map(|output| output.value.to_sat()).sum();
    assert_eq!(inclusion.fee, Some(Amount::from_sat(100_000 - paid)));

    // Its block is reorganised away, and the node has it in the mempool again.
    setup.node.drop_blocks(3);
    setup.node.mine_empty(4);
    setup.node.add_to_mempool(signed.transaction());
    assert_eq!(setup.status(&signed).await, Status::InMempool);
    setup.node.mine(&[signed.transaction().clone()]);
    let Status::Included(inclusion) = setup.status(&signed).await else { panic!("it is in a block") };
    assert_eq!((inclusion.height, inclusion.confirmations), (height(&setup.node), 1));
}

#[tokio::test]
async fn a_reorg_takes_coins_away_and_gives_them_back() {
    let setup = Setup::new().await;
    setup.node.mine_empty(2);
    let funding = pay(&[(setup.wallet.script(), 100_000)], 1);
    setup.node.mine(std::slice::from_ref(&funding));
    setup.node.mine_empty(1);
    assert_eq!(setup.balance().await, 100_000);

    // A longer chain without it; the mempool doesn't have it either.
    setup.node.drop_blocks(2);
    setup.node.mine_empty(3);
    assert_eq!(setup.balance().await, 0);
    assert!(setup.coins().await.is_empty());

    setup.node.mine(std::slice::from_ref(&funding));
    assert_eq!(setup.coins().await, BTreeSet::from([(OutPoint::new(funding.compute_txid(), 0), 1)]));

    // A node that is behind: the follower goes back with it.
    setup.node.drop_blocks(1);
    assert_eq!(setup.balance().await, 0);
    // Everything but the first block.
    let all = setup.node.world().blocks.len() - 1;
    setup.node.drop_blocks(all);
    setup.node.mine(&[funding]);
    assert_eq!(setup.balance().await, 100_000);
}

#[tokio::test]
async fn a_payment_that_confirms_during_a_sync_is_not_taken_for_gone() {
    let (setup, _) = Setup::funded(100_000).await;
    let signed = setup.payment(30_000).await;
    setup.client.broadcast(&signed).await.expect("accepted");
    let before = setup.balance().await;
    let tx = signed.transaction().clone();
    setup.node.mine_empty(1);
    // After its blocks were followed and before its mempool is looked at.
    setup.node.surprise("getrawmempool", |world| {
        world.mine_to(ScriptBuf::new(), &[tx]);
    });
    assert_eq!(setup.balance().await, before);
    assert!(matches!(setup.status(&signed).await, Status::Included(_)));
}

#[tokio::test]
async fn a_reorg_during_a_sync_is_followed() {
    let setup = Setup::new().await;
    let (lost, kept) = (pay(&[(setup.wallet.script(), 1_000)], 1), pay(&[(setup.wallet.script(), 20_000)], 2));
    setup.node.mine_empty(1);
    setup.node.mine(&[lost]);
    setup.node.mine_empty(1);
    setup.client.sync().await.expect("a sync");
    setup.node.mine_empty(2);
    setup.node.surprise("getblock", |world| {
        world.drop_blocks(4);
        world.mine_to(ScriptBuf::new(), &[kept]);
        for _ in 0..5 {
            world.mine_to(ScriptBuf::new(), &[]);
        }
    });
    assert_eq!(setup.balance().await, 20_000);
    assert_eq!(height(&setup.node), 7);
}

#[tokio::test]
async fn a_payment_expires_when_another_one_has_spent_its_coin_deep_enough() {
    let (setup, funding) = Setup::funded(100_000).await;
    let signed = setup.payment(30_000).await;
    setup.client.broadcast(&signed).await.expect("accepted");
    let mut rival = pay(&[(Wallet::p2tr(9).script(), 90_000)], 3);
    rival.input[0].previous_output = OutPoint::new(funding.compute_txid(), 0);
    setup.node.world().mempool.clear();
    setup.node.mine(&[rival]);
    assert_eq!(setup.status(&signed).await, Status::Unknown);
    assert_eq!(setup.balance().await, 0);
    setup.node.mine_empty(4);
    assert_eq!(setup.status(&signed).await, Status::Unknown);
    setup.node.mine_empty(1);
    assert_eq!(setup.status(&signed).await, Status::Expired);
    // Even that is taken back by a reorg that is deep enough.
    setup.node.drop_blocks(6);
    setup.node.mine_empty(7);
    assert_eq!(setup.status(&signed).await, Status::Unknown);
    assert_eq!(setup.balance().await, 100_000);
}

#[tokio::test]
async fn busy_coins_are_left_out() {
    let setup = Setup::new().await;
    let funding = pay(&[(setup.wallet.script(), 60_000), (setup.wallet.script(), 70_000)], 1);
    setup.node.mine(std::slice::from_ref(&funding));
    let busy: Slot = format!("bitcoin:regtest/{}:1", funding.compute_txid()).parse().expect("a slot");
    let intent = transfer(DESTINATIONS[0], 1_000);
    let state = setup.client.state(&intent, &setup.wallet.account, &BTreeSet::from([busy])).await.expect("a state");
    let outpoints: Vec<OutPoint> = state.utxos.iter().map(|utxo| utxo.outpoint()).collect();
    assert_eq!(outpoints, [OutPoint::new(funding.compute_txid(), 0)]);
    assert_eq!(state.tip.to_consensus_u32(), 1);
    // Both count as the wallet's.
    assert_eq!(setup.balance().await, 130_000);
}

#[tokio::test]
async fn two_wallets_are_kept_apart() {
    let node = FakeNode::new();
    let server = node.serve().await;
    let [a, b] = Wallet::both();
    node.mine(&[pay(&[(a.script(), 1_000), (b.script(), 2_000), (a.script(), 4_000)], 1)]);
    let client = client(&server, [a.script(), b.script()], 0);
    assert_eq!((balance(&client, &a).await, balance(&client, &b).await), (5_000, 2_000));

    let stranger = Wallet::p2tr(9);
    let intent = transfer(DESTINATIONS[0], 1_000);
    let state = client.state(&intent, &stranger.account, &BTreeSet::new()).await;
    assert!(matches!(state, Err(StateError::Build(BuildError::WrongAccount(_)))));
    assert!(client.balance(&stranger.account, Asset::Native).await.is_err());
    let elsewhere = account(*a.account.public_key(), Network::Bitcoin(BitcoinNetwork::Signet));
    assert!(client.balance(&elsewhere, Asset::Native).await.is_err());
    let solana = account(PublicKey::Ed25519([3; 32]), "solana:localnet".parse().expect("a network"));
    assert!(client.balance(&solana, Asset::Native).await.is_err());
    let token: Asset = "erc20:0x52908400098527886E0F7030069857D2E4169EE7".parse().expect("an asset");
    assert_eq!(client.balance(&a.account, token).await.expect("nothing"), Amount::ZERO);
}

#[tokio::test]
async fn a_sync_with_nothing_to_learn_is_two_calls() {
    let (setup, _) = Setup::funded(100_000).await;
    setup.node.add_to_mempool(&pay(&[(Wallet::p2tr(9).script(), 5_000)], 2));
    setup.client.sync().await.expect("a sync");
    setup.node.take_calls();
    setup.client.sync().await.expect("a sync");
    assert_eq!(setup.node.take_calls(), ["getblockchaininfo", "getrawmempool"]);
    // One block more is fetched alone.
    setup.node.mine_empty(1);
    setup.client.sync().await.expect("a sync");
    assert_eq!(setup.node.take_calls().iter().filter(|call| *call == "getblock").count(), 1);
}

#[tokio::test]
async fn the_mempool_is_fetched_in_portions() {
    let node = FakeNode::new();
    let server = node.serve().await;
    let wallet = Wallet::p2tr(2);
    for salt in 1..=7 {
        node.add_to_mempool(&pay(&[(wallet.script(), 1_000)], salt));
    }
    let options = Options { mempool_fetch: 3, ..Options::default() };
    let client = BitcoinClient::new(rpc(&server.uri()), NETWORK, [wallet.script()], 0, options);
    for expected in [3, 3, 1, 0] {
        client.sync().await.expect("a sync");
        let fetched = node.take_calls().iter().filter(|call| *call == "getrawtransaction").count();
        assert_eq!(fetched, expected);
    }
}

#[tokio::test]
async fn blocks_below_the_birthday_are_not_fetched() {
    let node = FakeNode::new();
    let server = node.serve().await;
    let wallet = Wallet::p2tr(2);
    node.mine_empty(9);
    node.mine(&[pay(&[(wallet.script(), 1_000)], 1)]);
    node.mine_empty(2);
    let client = client(&server, [wallet.script()], 10);
    assert_eq!(balance(&client, &wallet).await, 1_000);
    assert_eq!(node.take_calls().iter().filter(|call| *call == "getblock").count(), 3);
    // A reorg to below it.
    node.drop_blocks(5);
    node.mine_empty(6);
    assert_eq!(balance(&client, &wallet).await, 0);
}

#[tokio::test]
async fn a_birthday_in_the_future_waits_for_it() {
    let node = FakeNode::new();
    let server = node.serve().await;
    let wallet = Wallet::p2tr(2);
    let client = client(&server, [wallet.script()], 5);
    node.mine_empty(2);
    assert_eq!(balance(&client, &wallet).await, 0);
    node.mine_empty(2);
    node.mine(&[pay(&[(wallet.script(), 1_000)], 1)]);
    assert_eq!(balance(&client, &wallet).await, 1_000);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let (setup, _) = Setup::funded(100_000).await;
    let mut stored = Vec::new();
    setup.client.sync().await.expect("a sync");
    stored.extend(setup.client.take_changes().await);
    assert_eq!(setup.client.take_changes().await, None);

    let signed = setup.payment(30_000).await;
    setup.client.broadcast(&signed).await.expect("accepted");
    setup.node.mine_empty(1);
    let before = setup.balance().await;
    stored.extend(setup.client.take_changes().await);
    // A reorg, stored as well.
    setup.node.drop_blocks(1);
    setup.node.mine_empty(2);
    setup.client.sync().await.expect("a sync");
    stored.extend(setup.client.take_changes().await);
    assert_eq!(stored.len(), 3);

    setup.node.take_calls();
    let again = client(&setup.server, [setup.wallet.script()], 0).restored(&stored).expect("what was stored");
    assert_eq!(balance(&again, &setup.wallet).await, before);
    assert!(!setup.node.take_calls().contains(&"getblock".to_owned()));
    assert_eq!(again.take_changes().await, None);

    // What left the mempool meanwhile is gone, though nothing else has happened.
    setup.node.world().mempool.clear();
    let later = client(&setup.server, [setup.wallet.script()], 0).restored(&stored).expect("what was stored");
    assert_eq!(balance(&later, &setup.wallet).await, 100_000);
    stored.extend(later.take_changes().await);
    let last = client(&setup.server, [setup.wallet.script()], 0).restored(&stored).expect("what was stored");
    assert_eq!(balance(&last, &setup.wallet).await, 100_000);
}

#[tokio::test]
async fn stored_changes_that_do_not_suffice_are_not_used() {
    let (setup, _) = Setup::funded(100_000).await;
    let mut stored = Vec::new();
    for _ in 0..3 {
        setup.node.mine_empty(1);
        setup.client.sync().await.expect("a sync");
        stored.extend(setup.client.take_changes().await);
    }
    let fetches = async |client: BitcoinClient, wallet: &Wallet| {
        setup.node.take_calls();
        let balance = balance(&client, wallet).await;
        (balance, setup.node.take_calls().iter().filter(|call| *call == "getblock").count())
    };
    let new = |birthday: u32| client(&setup.server, [setup.wallet.script()], birthday);
    let restored = new(0).restored(&stored).expect("what was stored");
    assert_eq!(fetches(restored, &setup.wallet).await, (100_000, 0));
    // One is missing.
    let gap = [stored[0].clone(), stored[2].clone()];
    assert_eq!(fetches(new(0).restored(&gap).expect("readable"), &setup.wallet).await, (100_000, 4));
    assert_eq!(fetches(new(0).restored(&stored[1..]).expect("readable"), &setup.wallet).await, (100_000, 4));
    assert_eq!(fetches(new(0).restored(&[]).expect("nothing"), &setup.wallet).await, (100_000, 4));
    // One wallet more than before.
    let two = client(&setup.server, [setup.wallet.script(), Wallet::p2wpkh(1).script()], 0);
    assert_eq!(fetches(two.restored(&stored).expect("readable"), &setup.wallet).await, (100_000, 4));
    // What a client started anew stores is appended, and holds from then on.
    let anew = client(&setup.server, [setup.wallet.script(), Wallet::p2wpkh(1).script()], 0);
    let anew = anew.restored(&stored).expect("readable");
    anew.sync().await.expect("a sync");
    stored.extend(anew.take_changes().await);
    let two = client(&setup.server, [setup.wallet.script(), Wallet::p2wpkh(1).script()], 0);
    assert_eq!(fetches(two.restored(&stored).expect("readable"), &setup.wallet).await, (100_000, 0));

    let garbage = [stored[0].clone(), b"{".to_vec()];
    assert!(matches!(new(0).restored(&garbage), Err(RestoreError::Malformed { index: 1, .. })));
    let script = [setup.wallet.script()];
    let signet = BitcoinClient::new(rpc(&setup.server.uri()), BitcoinNetwork::Signet, script, 0, Options::default());
    assert!(matches!(signet.restored(&stored), Err(RestoreError::WrongNetwork)));
}

#[tokio::test]
async fn broadcast_tells_known_from_refused() {
    let (setup, _) = Setup::funded(100_000).await;
    let signed = setup.payment(30_000).await;
    for (code, message) in [(-27, "Transaction outputs already in utxo set"), (-26, "txn-already-in-mempool")] {
        setup.node.lie("sendrawtransaction", Reply::Error(code, message));
        setup.client.broadcast(&signed).await.expect("known already");
    }
    setup.node.lie("sendrawtransaction", Reply::Error(-26, "dust"));
    assert!(matches!(
        setup.client.broadcast(&signed).await,
        Err(BroadcastError::Rejected { class: SendClass::Invalid, code: -26, message }) if message == "dust"
    ));
    // A node that starts, or doesn't answer, says nothing of the transaction.
    setup.node.lie("sendrawtransaction", Reply::Error(-28, "Loading block index..."));
    assert!(matches!(
        setup.client.broadcast(&signed).await,
        Err(BroadcastError::Rejected { class: SendClass::Busy, code: -28, .. })
    ));
    setup.node.lie("sendrawtransaction", Reply::TooLate);
    assert!(matches!(setup.client.broadcast(&signed).await, Err(BroadcastError::Rpc(RpcError::Timeout { .. }))));
    setup.node.lie("sendrawtransaction", Reply::Result(json!(Txid::all_zeros())));
    assert!(matches!(setup.client.broadcast(&signed).await, Err(BroadcastError::Rpc(RpcError::Malformed { .. }))));
    setup.node.tell_the_truth();
    setup.client.broadcast(&signed).await.expect("accepted");
    assert_eq!(setup.status(&signed).await, Status::InMempool);
}

#[tokio::test]
async fn the_fee_rate_stays_between_relay_and_belief() {
    let (setup, _) = Setup::funded(100_000).await;
    let rate = async || {
        let intent = transfer(DESTINATIONS[0], 1_000);
        let state = setup.client.state(&intent, &setup.wallet.account, &BTreeSet::new()).await;
        state.map(|state| state.fee_rate)
    };
    let sat_per_vb = FeeRate::from_sat_per_vb_u32;
    for (btc_per_kvb, expected) in [
        (Some(0.00002), sat_per_vb(2)),
        (Some(0.000_012_34), FeeRate::from_sat_per_kwu(309)),
        (Some(0.0000001), sat_per_vb(1)), // below `mempoolminfee`
        (Some(1.0), sat_per_vb(500)),     // above belief
        (None, sat_per_vb(5)),            // no estimate
    ] {
        setup.node.world().fee_per_kvb = btc_per_kvb;
        assert_eq!(rate().await.expect("a rate"), expected, "{btc_per_kvb:?}");
    }
    setup.node.lie("estimatesmartfee", Reply::Result(json!({"feerate": "free"})));
    assert!(matches!(rate().await, Err(StateError::Rpc(RpcError::Malformed { .. }))));
}
