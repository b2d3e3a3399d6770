//! The client and a node that fails or lies: each a typed error, and the next call works.

use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, ScriptBuf};
use chains::bitcoin::{BitcoinClient, Options};
use chains::client::Client;
use chains::network::BitcoinNetwork;
use chains::rpc::RpcError;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Setup;
use crate::fake_node::{Reply, block, rpc};
use crate::fixture::{NETWORK, pay};

#[tokio::test]
async fn what_a_node_cannot_mean_is_refused_and_nothing_is_lost() {
    let (setup, funding) = Setup::funded(100_000).await;
    assert_eq!(setup.balance().await, 100_000);
    setup.node.mine_empty(1);
    let tip = setup.node.world().blocks[1].block_hash();
    let theft = pay(&[(setup.wallet.script(), 1_000_000_000)], 9);

    let foreign = block(BlockHash::all_zeros(), 2, 99, ScriptBuf::new(), std::slice::from_ref(&theft));
    let mut forged = setup.node.world().blocks[2].clone();
    forged.txdata.push(theft);
    let stranger = pay(&[(setup.wallet.script(), 7)], 8);
    setup.node.add_to_mempool(&stranger);
    let lies: [(&'static str, serde_json::Value); 8] = [
        ("getblockchaininfo", json!({"chain": "main", "blocks": 2, "bestblockhash": tip})),
        ("getblockchaininfo", json!({"chain": "regtest", "blocks": -2, "bestblockhash": tip})),
        ("getblock", json!(serialize_hex(&foreign))),
        ("getblock", json!(serialize_hex(&forged))),
        ("getblock", json!("00ff")),
        ("getblock", json!(null)),
        ("getrawmempool", json!(["nonsense"])),
        ("getrawtransaction", json!(serialize_hex(&funding))),
    ];
    for (method, lie) in lies {
        setup.node.lie(method, Reply::Result(lie));
        let error = setup.client.sync().await.expect_err(method);
        assert!(matches!(&error, RpcError::Malformed { method: m, .. } if m == method), "{error}");
        assert!(!error.is_transient());
        setup.node.tell_the_truth();
    }
    assert_eq!(setup.balance().await, 100_000);
}

#[tokio::test]
async fn a_block_that_does_not_follow_is_refused() {
    let setup = Setup::new().await;
    setup.node.mine_empty(2);
    setup.client.sync().await.expect("a sync");
    let theft = pay(&[(setup.wallet.script(), 1_000_000_000)], 9);
    let floating = block(BlockHash::all_zeros(), 3, 99, ScriptBuf::new(), &[theft]);
    setup.node.world().blocks.push(floating);
    let error = setup.client.sync().await.expect_err("no chain");
    assert!(error.to_string().contains("doesn't follow"), "{error}");
    setup.node.drop_blocks(1);
    assert_eq!(setup.balance().await, 0);
}

#[tokio::test]
async fn another_network_s_first_block_is_refused() {
    let setup = Setup::new().await;
    let genesis = bitcoin::constants::genesis_block(BitcoinNetwork::Signet);
    setup.node.world().blocks = vec![genesis];
    let error = setup.client.sync().await.expect_err("another network");
    assert!(error.to_string().contains("block 0"), "{error}");
}

#[tokio::test]
async fn a_failing_node_is_a_typed_error_and_the_next_call_works() {
    let (setup, _) = Setup::funded(100_000).await;
    for method in ["getblockchaininfo", "getblockhash", "getblock", "getrawmempool"] {
        setup.node.lie(method, Reply::Html);
        let error = setup.client.sync().await.expect_err("a page");
        assert!(matches!(error, RpcError::Malformed { status: 502, .. }) && error.is_transient());
        setup.node.lie(method, Reply::HalfBody);
        let error = setup.client.sync().await.expect_err("half a body");
        assert!(matches!(error, RpcError::Malformed { status: 200, .. }) && !error.is_transient());
        setup.node.lie(method, Reply::Error(-28, "Loading block index..."));
        assert!(matches!(setup.client.sync().await, Err(RpcError::Node { code: -28, .. })));
        setup.node.tell_the_truth();
    }
    setup.node.mine_empty(1);
    setup.node.lie("getblock", Reply::TooLate);
    let error = setup.client.sync().await.expect_err("too late");
    assert!(matches!(error, RpcError::Timeout { .. }) && error.is_transient());
    setup.node.tell_the_truth();
    assert_eq!(setup.balance().await, 100_000);
}

#[tokio::test]
async fn a_connection_that_breaks_half_way_is_transient() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 1024];
        let _ = socket.read(&mut request).await;
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"result\": {\"chain\"";
        socket.write_all(half).await.expect("a peer that listens");
    });
    let client = BitcoinClient::new(rpc(&url), NETWORK, [], 0, Options::default());
    let error = client.tip().await.expect_err("half a body");
    assert!(matches!(error, RpcError::Connection { .. }) && error.is_transient(), "{error}");
    server.await.expect("the server ends");
    // Nobody listens any more.
    assert!(matches!(client.tip().await, Err(RpcError::Connection { .. })));
}

#[tokio::test]
async fn a_sync_that_is_dropped_half_way_loses_nothing() {
    let setup = Setup::new().await;
    for salt in 1..=20 {
        setup.node.mine(&[pay(&[(setup.wallet.script(), 1_000)], salt)]);
    }
    // Dropped at ever later points; each leaves what it has done.
    for millis in 0..30 {
        let _ = tokio::time::timeout(Duration::from_millis(millis), setup.client.sync()).await;
    }
    assert_eq!(setup.balance().await, 20_000);
}

#[tokio::test]
async fn a_reorg_whose_mempool_could_not_be_had_is_settled_later() {
    let (setup, _) = Setup::funded(100_000).await;
    let signed = setup.payment(30_000).await;
    setup.node.mine(&[signed.transaction().clone()]);
    assert!(setup.balance().await < 70_000);
    // The payment's block goes, and the mempool stays as it was: empty. Meanwhile the node fails half-way.
    setup.node.drop_blocks(1);
    setup.node.mine_empty(2);
    setup.node.lie("getrawmempool", Reply::Html);
    setup.client.sync().await.expect_err("a page");
    setup.node.tell_the_truth();
    assert_eq!(setup.balance().await, 100_000);
}
