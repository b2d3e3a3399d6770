//! bitcoind 28's RPC: the table of methods, and which of its error codes each failure gets.

mod args;
mod blocks;
mod descriptor;
mod mining;
mod pool;
mod scripts;
mod transactions;

use serde_json::Value;

use self::args::Args;
use super::engine::Engine;
use super::reject::RejectKind;
use super::{BitcoinError, Cookie, Node};
use crate::rpc::{Dialect, JsonRpcVersion, METHOD_NOT_FOUND, RpcError};

/// bitcoind's error codes (`rpc/protocol.h`).
mod code {
    pub(super) const MISC_ERROR: i64 = -1;
    pub(super) const TYPE_ERROR: i64 = -3;
    pub(super) const INVALID_ADDRESS_OR_KEY: i64 = -5;
    pub(super) const INVALID_PARAMETER: i64 = -8;
    pub(super) const DESERIALIZATION_ERROR: i64 = -22;
    pub(super) const VERIFY_ERROR: i64 = -25;
    pub(super) const VERIFY_REJECTED: i64 = -26;
    pub(super) const VERIFY_ALREADY_IN_UTXO_SET: i64 = -27;
    pub(super) const IN_WARMUP: i64 = -28;
}

type Answer = Result<Value, RpcError>;

/// A method: its name, its parameters' names (those from `required` on may be left out) and what it does.
struct Method {
    name: &'static str,
    params: &'static [&'static str],
    required: usize,
    run: Run,
}

enum Run {
    /// Looks at the state.
    Read(fn(&Engine, &Args<'_>) -> Answer),
    /// Changes the state, or needs the clock.
    Do(fn(&Node, &Args<'_>) -> Answer),
}

const fn read(
    name: &'static str,
    params: &'static [&'static str],
    required: usize,
    run: fn(&Engine, &Args<'_>) -> Answer,
) -> Method {
    Method { name, params, required, run: Run::Read(run) }
}

const fn act(
    name: &'static str,
    params: &'static [&'static str],
    required: usize,
    run: fn(&Node, &Args<'_>) -> Answer,
) -> Method {
    Method { name, params, required, run: Run::Do(run) }
}

const METHODS: &[Method] = &[
    // Blockchain
    read("getbestblockhash", &[], 0, blocks::best_hash),
    read("getblock", &["blockhash", "verbosity"], 1, blocks::block),
    read("getblockchaininfo", &[], 0, blocks::chain_info),
    read("getblockcount", &[], 0, blocks::count),
    read("getblockhash", &["height"], 1, blocks::hash_at),
    read("getblockheader", &["blockhash", "verbose"], 1, blocks::header),
    read("getchaintips", &[], 0, blocks::tips),
    read("getdifficulty", &[], 0, blocks::difficulty),
    read("gettxout", &["txid", "n", "include_mempool"], 2, blocks::unspent_output),
    read("scantxoutset", &["action", "scanobjects"], 1, descriptor::scan),
    act("invalidateblock", &["blockhash"], 1, blocks::invalidate),
    act("reconsiderblock", &["blockhash"], 1, blocks::reconsider),
    // Mempool
    read("getmempoolentry", &["txid"], 1, pool::entry),
    read("getmempoolinfo", &[], 0, pool::info),
    read("getrawmempool", &["verbose", "mempool_sequence"], 0, pool::content),
    read("estimatesmartfee", &["conf_target", "estimate_mode"], 1, pool::estimate_fee),
    // Transactions
    read("decoderawtransaction", &["hexstring", "iswitness"], 1, transactions::decode),
    read("getrawtransaction", &["txid", "verbosity", "blockhash"], 1, transactions::get),
    act("sendrawtransaction", &["hexstring", "maxfeerate", "maxburnamount"], 1, transactions::send),
    act("testmempoolaccept", &["rawtxs", "maxfeerate"], 1, transactions::test),
    // Mining
    read("getmininginfo", &[], 0, mining::info),
    act("generateblock", &["output", "transactions", "submit"], 2, mining::generate_block),
    act("generatetoaddress", &["nblocks", "address", "maxtries"], 2, mining::generate_to_address),
    act("submitblock", &["hexdata", "dummy"], 1, mining::submit_block),
    // The node
    act("getconnectioncount", &[], 0, mining::connection_count),
    act("getnetworkinfo", &[], 0, mining::network_info),
    act("getpeerinfo", &[], 0, mining::peers),
    read("validateaddress", &["address"], 1, scripts::validate_address),
    act("uptime", &[], 0, mining::uptime),
    read("help", &["command"], 0, help),
    // The simulator
    act("sim_fund", &["address", "sats"], 2, mining::sim_fund),
    act("sim_mine", &["nblocks"], 0, mining::sim_mine),
];

impl Dialect for Node {
    const VERSION: JsonRpcVersion = JsonRpcVersion::Bitcoind;

    async fn call(&self, method: &str, params: &Value) -> Answer {
        let Some(method) = METHODS.iter().find(|known| known.name == method) else {
            return Err(RpcError::new(METHOD_NOT_FOUND, "Method not found"));
        };
        let args = Args::bind(method, params)?;
        match method.run {
            Run::Read(run) => self.read(|engine| run(engine, &args))?,
            Run::Do(run) => run(self, &args),
        }
    }

    async fn call_behind(&self, method: &str, params: &Value, blocks: u32) -> Answer {
        let Some(known) = METHODS.iter().find(|known| known.name == method) else {
            return self.call(method, params).await;
        };
        match known.run {
            Run::Read(run) => {
                let args = Args::bind(known, params)?;
                let past = self.read(|engine| engine.rewound(blocks))?;
                run(&past, &args)
            }
            Run::Do(_) => self.call(method, params).await,
        }
    }

    fn lie(&self, method: &str, params: &Value) -> Option<Answer> {
        let known = METHODS.iter().find(|known| known.name == method && method == "sendrawtransaction")?;
        Some(Args::bind(known, params).and_then(|args| transactions::pretend(&args)))
    }

    fn authorized(&self, authorization: Option<&str>) -> bool {
        self.cookie.as_ref().is_none_or(|cookie: &Cookie| cookie.allows(authorization))
    }
}

impl Method {
    /// The method and its parameters as bitcoind's help starts with them.
    fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        for (index, param) in self.params.iter().enumerate() {
            usage.push(' ');
            usage.push_str(&if index < self.required { (*param).to_owned() } else { format!("( {param} )") });
        }
        usage
    }
}

fn help(_: &Engine, args: &Args<'_>) -> Answer {
    let text = match args.opt_text(0)? {
        None => METHODS.iter().map(Method::usage).collect::<Vec<_>>().join("\n"),
        Some(name) => match METHODS.iter().find(|method| method.name == name) {
            Some(method) => method.usage(),
            None => format!("help: unknown command: {name}\n"),
        },
    };
    Ok(text.into())
}

impl From<BitcoinError> for RpcError {
    fn from(error: BitcoinError) -> Self {
        let code = match &error {
            BitcoinError::Rejected(reject) if reject.kind == RejectKind::MissingInputs => code::VERIFY_ERROR,
            BitcoinError::Rejected(_) => code::VERIFY_REJECTED,
            BitcoinError::FeeAboveLimit => code::VERIFY_ERROR,
            BitcoinError::Address(_) => return Self::new(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address"),
            BitcoinError::UnknownBlock(_) => code::INVALID_ADDRESS_OR_KEY,
            BitcoinError::Stopped => code::IN_WARMUP,
            BitcoinError::TooDeep { .. } => code::INVALID_PARAMETER,
            BitcoinError::Faucet(_)
            | BitcoinError::Journal(_)
            | BitcoinError::Replay { .. }
            | BitcoinError::Write(_)
            | BitcoinError::Cookie(_)
            | BitcoinError::Listen(_) => code::MISC_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    use crate::clock::ManualClock;
    use crate::cluster::Seat;
    use crate::node::bitcoin::BitcoinConfig;
    use crate::rpc::CancellationToken;
    use crate::topology::ChainKind;

    fn any_param() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3..4_i64).prop_map(Value::from),
            prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(i64::from(u32::MAX) + 1)].prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            "[0-9a-f]{64}".prop_map(Value::from),
            "([0-9a-f]{2}){0,80}".prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
            prop_oneof![Just("start"), Just("status"), Just("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080")]
                .prop_map(Value::from),
        ];
        prop_oneof![
            4 => leaf.clone(),
            1 => prop::collection::vec(leaf.clone(), 0..4).prop_map(Value::from),
            1 => prop::collection::btree_map("[a-z]{1,8}", leaf, 0..3).prop_map(|map| json!(map)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_parameter_is_fatal(calls in prop::collection::vec(prop::collection::vec(any_param(), 0..4), METHODS.len())) {
            let clock = Arc::new(ManualClock::new(1_750_000_000_000));
            let seat = Seat::alone(ChainKind::Bitcoin, clock, CancellationToken::new());
            let node = Node::open(&BitcoinConfig::default(), seat).unwrap();
            for (method, params) in METHODS.iter().zip(calls) {
                // What comes of it doesn't matter: none of the calls may panic, and the node goes on answering.
                let _ = futures::executor::block_on(node.call(method.name, &Value::from(params)));
            }
            prop_assert!(futures::executor::block_on(node.call("getblockcount", &Value::Null)).is_ok());
        }
    }
}
