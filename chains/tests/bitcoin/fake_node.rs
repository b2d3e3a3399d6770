//! A scripted bitcoind: it has blocks and a mempool, reorganises when told, and lies when told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount as Sats, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
    Witness,
};
use chains::rpc::{Auth, RpcClient};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::fixture::NETWORK;

/// What the node answers instead of the truth.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Result(Value),
    Error(i64, &'static str),
    Html,
    HalfBody,
    TooLate,
}

pub(crate) struct World {
    pub(crate) blocks: Vec<Block>,
    pub(crate) mempool: BTreeMap<Txid, Transaction>,
    pub(crate) calls: Vec<String>,
    /// By method.
    pub(crate) lies: BTreeMap<&'static str, Reply>,
    pub(crate) fee_per_kvb: Option<f64>,
    /// Blocks that were the best chain's once. A node keeps them.
    stale: Vec<Block>,
    /// What happens just before the method is answered next.
    surprise: Option<(&'static str, Surprise)>,
    salt: u32,
}

type Surprise = Box<dyn FnOnce(&mut World) + Send>;

#[derive(Clone)]
pub(crate) struct FakeNode(Arc<Mutex<World>>);

impl FakeNode {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            blocks: vec![genesis_block(NETWORK)],
            mempool: BTreeMap::new(),
            calls: Vec::new(),
            lies: BTreeMap::new(),
            fee_per_kvb: Some(0.00002),
            stale: Vec::new(),
            surprise: None,
            salt: 0,
        })))
    }

    pub(crate) async fn serve(&self) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(self.clone()).mount(&server).await;
        server
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the world")
    }

    /// Mines `transactions`, which leave the mempool.
    pub(crate) fn mine(&self, transactions: &[Transaction]) -> BlockHash {
        self.mine_to(ScriptBuf::from_bytes(vec![0x51]), transactions)
    }

    pub(crate) fn mine_to(&self, reward: ScriptBuf, transactions: &[Transaction]) -> BlockHash {
        self.world().mine_to(reward, transactions)
    }

    pub(crate) fn mine_empty(&self, count: usize) {
        for _ in 0..count {
            self.mine(&[]);
        }
    }

    /// Reorganises the last `depth` blocks away; their transactions are not put back into the mempool.
    pub(crate) fn drop_blocks(&self, depth: usize) {
        self.world().drop_blocks(depth);
    }

    /// Lets something happen just before `method` is answered the next time.
    pub(crate) fn surprise(&self, method: &'static str, surprise: impl FnOnce(&mut World) + Send + 'static) {
        self.world().surprise = Some((method, Box::new(surprise)));
    }

    pub(crate) fn add_to_mempool(&self, tx: &Transaction) {
        self.world().mempool.insert(tx.compute_txid(), tx.clone());
    }

    pub(crate) fn lie(&self, method: &'static str, reply: Reply) {
        self.world().lies.insert(method, reply);
    }

    pub(crate) fn tell_the_truth(&self) {
        self.world().lies.clear();
    }

    /// The methods called since the last time.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.world().calls)
    }
}

pub(crate) fn rpc(url: &str) -> RpcClient {
    RpcClient::new(url, Auth::None, Duration::from_millis(500)).expect("a URL")
}

pub(crate) fn block(previous: BlockHash, height: usize, salt: u32, reward: ScriptBuf, txs: &[Transaction]) -> Block {
    let height = i64::try_from(height).expect("a height");
    let coinbase = Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_int(height).push_int(i64::from(salt)).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Sats::from_sat(5_000_000_000), script_pubkey: reward }],
    };
    let mut block = Block {
        header: Header {
            version: BlockVersion::TWO,
            prev_blockhash: previous,
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_700_000_000 + salt,
            bits: genesis_block(NETWORK).header.bits,
            nonce: 0,
        },
        txdata: std::iter::once(coinbase).chain(txs.iter().cloned()).collect(),
    };
    block.header.merkle_root = block.compute_merkle_root().expect("a coinbase");
    block
}

impl World {
    pub(crate) fn mine_to(&mut self, reward: ScriptBuf, transactions: &[Transaction]) -> BlockHash {
        self.salt += 1;
        let previous = self.blocks.last().expect("the first block").block_hash();
        let block = block(previous, self.blocks.len(), self.salt, reward, transactions);
        for tx in transactions {
            self.mempool.remove(&tx.compute_txid());
        }
        let hash = block.block_hash();
        self.blocks.push(block);
        hash
    }

    pub(crate) fn drop_blocks(&mut self, depth: usize) {
        let len = self.blocks.len();
        self.stale.extend(self.blocks.drain(len - depth..));
    }

    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, (i64, String)> {
        let error = |code: i64, message: &str| Err((code, message.to_owned()));
        match method {
            "getblockchaininfo" => Ok(json!({
                "chain": NETWORK.to_core_arg(),
                "blocks": self.blocks.len() - 1,
                "bestblockhash": self.blocks.last().map(Block::block_hash),
            })),
            "getblockhash" => {
                let height = params[0].as_u64().and_then(|height| usize::try_from(height).ok());
                match height.and_then(|height| self.blocks.get(height)) {
                    Some(block) => Ok(json!(block.block_hash())),
                    None => error(-8, "Block height out of range"),
                }
            }
            "getblock" => {
                match self.blocks.iter().chain(&self.stale).find(|block| params[0] == json!(block.block_hash())) {
                    Some(block) if params[1] == json!(0) => Ok(json!(serialize_hex(block))),
                    _ => error(-5, "Block not found"),
                }
            }
            "getrawmempool" => Ok(json!(self.mempool.keys().collect::<Vec<_>>())),
            "getrawtransaction" => match self.mempool.values().find(|tx| params[0] == json!(tx.compute_txid())) {
                Some(tx) => Ok(json!(serialize_hex(tx))),
                None => error(-5, "No such mempool transaction"),
            },
            "estimatesmartfee" => Ok(match self.fee_per_kvb {
                Some(rate) => json!({"feerate": rate, "blocks": 6}),
                None => json!({"errors": ["Insufficient data or no feerate found"], "blocks": 0}),
            }),
            "getmempoolinfo" => Ok(json!({"mempoolminfee": 0.00001, "minrelaytxfee": 0.000001})),
            "sendrawtransaction" => {
                let tx: Transaction = match params[0].as_str().map(deserialize_hex) {
                    Some(Ok(tx)) => tx,
                    _ => return error(-22, "TX decode failed"),
                };
                self.mempool.insert(tx.compute_txid(), tx.clone());
                Ok(json!(tx.compute_txid()))
            }
            _ => error(-32601, "Method not found"),
        }
    }
}

impl Respond for FakeNode {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let call: Value = serde_json::from_slice(&request.body).expect("a JSON-RPC request");
        let method = call["method"].as_str().expect("a method").to_owned();
        let mut world = self.world();
        world.calls.push(method.clone());
        if let Some((_, surprise)) = world.surprise.take_if(|(at, _)| *at == method) {
            surprise(&mut world);
        }
        let failure = |code: i64, message: String| {
            let body = json!({"result": null, "error": {"code": code, "message": message}, "id": call["id"]});
            ResponseTemplate::new(500).set_body_json(body)
        };
        let success = |result: Value| {
            ResponseTemplate::new(200).set_body_json(json!({"result": result, "error": null, "id": call["id"]}))
        };
        match world.lies.get(method.as_str()).cloned() {
            Some(Reply::Result(value)) => success(value),
            Some(Reply::Error(code, message)) => failure(code, message.to_owned()),
            Some(Reply::Html) => ResponseTemplate::new(502).set_body_raw("<html>Bad Gateway</html>", "text/html"),
            Some(Reply::HalfBody) => {
                ResponseTemplate::new(200).set_body_raw(r#"{"result": "0000000000"#, "application/json")
            }
            Some(Reply::TooLate) => success(Value::Null).set_delay(Duration::from_secs(30)),
            None => match world.answer(&method, &call["params"]) {
                Ok(result) => success(result),
                Err((code, message)) => failure(code, message),
            },
        }
    }
}
