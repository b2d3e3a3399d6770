//! A corporate treasury: two of finance, the CFO and the CEO approve, on a simulated chain with real signers. And lists that
//! change while a payment waits for people.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chains::account::Account;
use chains::ethereum::{Ethereum, EthereumClient};
use chains::rpc::{Auth, RpcClient};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use gateway::api::approval::ApprovalView;
use gateway::api::view::TxView;
use gateway::clock::{Clock, SystemClock};
use gateway::config::{ApprovalsConfig, ServerConfig};
use gateway::lane::NodeLane;
use gateway::nodes::Nodes;
use gateway::pipeline::lease::Tenure;
use gateway::pipeline::replace::FeePolicy;
use gateway::pipeline::track::Tracking;
use gateway::pipeline::{NetworkLane, Parts, Pipeline};
use gateway::record::State;
use gateway::screening::{Screening, ScreeningConfig};
use gateway::server::{self, Listening};
use gateway::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use signer::approval::{Approval, Approver, Decision, Statement, Subject};
use signer::policy::{Policy, PolicyConfig};
use signer::pool::WalletSpec;
use signer::roster::{Credential, Role, Roster};
use simulator::clock::ManualClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::EthereumConfig;
use simulator::node::solana::SolanaConfig;
use simulator::world::{World, WorldConfig};
use tokio::io::AsyncWriteExt as _;

#[path = "support/trio.rs"]
#[allow(dead_code, unreachable_pub, reason = "each house needs another part of it")]
mod trio;

use trio::PATIENCE;

const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
const NOBODY: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
const QUORUM: &str = "2 of finance and 1 of cfo and 1 of ceo";

/// Everybody with a credential: role, person, groups. The trader, Tina, has a credential to approve with, too.
const PEOPLE: [(&str, Role, &str, &[&str]); 6] = [
    ("trader", Role::Initiator, "tina", &[]),
    ("fay", Role::Approver, "fay", &["finance"]),
    ("finn", Role::Approver, "finn", &["finance"]),
    ("carla", Role::Approver, "carla", &["cfo"]),
    ("ed", Role::Approver, "ed", &["ceo"]),
    ("tina-approves", Role::Approver, "tina", &["finance", "cfo", "ceo"]),
];
const APPROVERS: [&str; 4] = ["fay", "finn", "carla", "ed"];

fn key(who: &str) -> SigningKey {
    let seed = if who == "ops" { 99 } else { PEOPLE.iter().position(|(id, ..)| *id == who).unwrap() + 1 };
    SigningKey::from_bytes(&[u8::try_from(seed).unwrap(); 32])
}

fn roster() -> Roster {
    let credential = |id: &str, role| Credential { id: id.parse().unwrap(), role, public_key: key(id).verifying_key() };
    let mut credentials: Vec<_> = PEOPLE.iter().map(|(id, role, ..)| credential(id, *role)).collect();
    credentials.push(credential("ops", Role::Operator));
    let people = PEOPLE.iter().map(|(id, _, person, groups)| {
        let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
        (id.parse().unwrap(), Approver { person: person.parse().unwrap(), groups, passkeys: Vec::new() })
    });
    Roster::new(credentials).unwrap().with_people(people.collect()).unwrap()
}

/// A gateway with signers and a simulated node, in this process.
struct Treasury {
    world: World,
    listening: Listening,
    http: reqwest::Client,
    dir: tempfile::TempDir,
}

impl Treasury {
    /// The signers require the quorum; the gateway believes in `quorum`.
    async fn start(quorum: Option<&str>) -> Self {
        Self::start_with(quorum, ApprovalsConfig::default()).await
    }

    async fn start_with(quorum: Option<&str>, approvals: ApprovalsConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let world = WorldConfig {
            dir: Some(dir.path().join("world")),
            bitcoin: BitcoinConfig::default(),
            ethereum: EthereumConfig::default(),
            solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
            ..WorldConfig::default()
        };
        let world = World::start(world, Arc::new(ManualClock::new(1_750_000_000_000))).await.unwrap();
        let spec = WalletSpec {
            wallet: "cold".parse().unwrap(),
            network: "ethereum:31337".parse().unwrap(),
            key: "ecdsa".parse().unwrap(),
            path: "m".parse().unwrap(),
        };
        let networks = BTreeMap::from([(spec.wallet.clone(), spec.network)]);
        let policy = |quorum: Option<&str>| -> Policy {
            let rule = json!({ "id": "treasury", "wallets": ["cold"], "addresses": [PAYEE], "require": quorum });
            let config: PolicyConfig = serde_json::from_value(json!({ "rules": [rule] })).unwrap();
            config.compile(&networks).unwrap()
        };
        let pool = Arc::new(trio::start(dir.path()).await);
        trio::import_ecdsa(&pool).await;
        pool.install(roster(), policy(Some(QUORUM)), vec![spec.clone()]).await.unwrap();
        let account: Account = pool.account(&spec).unwrap();

        let policy = Arc::new(policy(quorum));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let list = dir.path().join("list.txt");
        std::fs::write(&list, format!("{NOBODY}\n")).unwrap();
        let lists: ScreeningConfig = serde_json::from_value(
            json!({ "reload_seconds": 86_400, "lists": [{ "id": "house", "format": "text", "path": list, "max_age_hours": 24 }] }),
        )
        .unwrap();
        let screening =
            Screening::open(&lists, Arc::clone(&policy), Arc::clone(&clock), |path: &Path| path.to_owned()).unwrap();
        let chains::network::Network::Ethereum(chain_id) = spec.network else { panic!("{spec:?}") };
        let node = rpc(&world);
        let client = EthereumClient::new(rpc(&world), chain_id, chains::ethereum::Options::default());
        let tracking = Tracking {
            confirmations: 1,
            finality_depth: None,
            poll_interval: Duration::from_millis(20),
            resend_after: Duration::from_millis(100),
            stuck_after: PATIENCE,
            fees: FeePolicy::default(),
        };
        let lane = Arc::new(NodeLane::new(Ethereum::new(chain_id), Nodes::new(vec![client]).unwrap()));
        let pipeline = Pipeline::new(Parts {
            store: Arc::new(SqliteStore::open(&dir.path().join("store")).unwrap()),
            pool,
            clock: Arc::clone(&clock),
            policy,
            screening,
            roster: roster(),
            approvals,
            travel: gateway::travel::TravelRule::default(),
            networks: vec![NetworkLane { lane, tracking }],
            accounts: vec![account.clone()],
            tenure: Tenure { owner: "treasury".parse().unwrap(), lease: Duration::from_secs(10) },
            fees: BTreeMap::new(),
        });
        pipeline.start().await.unwrap();
        let config = ServerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServerConfig::default() };
        let listening = server::serve(&config, pipeline, roster(), clock).await.unwrap();
        let _: Value = node.call("sim_fund", json!([account.address(), "10000000000000000000"])).await.unwrap();
        let _: Value = node.call("sim_mine", json!([10])).await.unwrap();
        Self { world, listening, http: reqwest::Client::new(), dir }
    }

    async fn call(&self, who: &str, method: &str, params: Value) -> Result<Value, Value> {
        let url = format!("http://{}", self.listening.addr);
        trio::call(&self.http, &url, (who, &key(who)), SystemClock.unix_seconds(), method, params).await
    }

    async fn pay(&self, name: &str) -> TxView {
        let action = json!({ "kind": "transfer", "asset": "native", "to": PAYEE, "amount": "1000" });
        let params = json!({ "idempotency_key": name, "intent": { "wallet": "cold", "action": action } });
        serde_json::from_value(self.call("trader", "tx_submit", params).await.unwrap()).unwrap()
    }

    async fn get(&self, tx: &TxView) -> TxView {
        serde_json::from_value(self.call("trader", "tx_get", json!({ "tx_id": tx.tx_id })).await.unwrap()).unwrap()
    }

    async fn wanted(&self, who: &str, tx: &TxView) -> ApprovalView {
        let view = self.call(who, "approval_get", json!({ "tx_id": tx.tx_id })).await.unwrap();
        serde_json::from_value(view).unwrap()
    }

    async fn say(&self, who: &str, tx: &TxView, decision: Decision) -> Result<ApprovalView, Value> {
        self.say_until(who, tx, decision, SystemClock.unix_seconds() + 3_600).await
    }

    /// Says it with an end, in seconds since the Unix epoch.
    async fn say_until(&self, who: &str, tx: &TxView, decision: Decision, end: u64) -> Result<ApprovalView, Value> {
        let asked = self.wanted(who, tx).await;
        let initiator = asked.tx.client.parse().unwrap();
        let subject = Subject { intent: asked.intent_id, initiator: &initiator, body: &asked.request.body };
        let statement = Statement::about(&subject, decision, end);
        let approval = Approval::sign(who.parse().unwrap(), &statement, &key(who));
        let answer = self.call(who, "approval_submit", json!({ "tx_id": tx.tx_id, "approval": approval })).await?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    /// The same on the approver's own machine, where somebody types `typed`. Answers what was printed, and whether it was done.
    async fn type_in(&self, who: &str, args: &[&str], typed: &str) -> (String, bool) {
        let key_file = self.dir.path().join(format!("{who}.key"));
        std::fs::write(&key_file, key(who).to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["approve", "--url", &format!("http://{}", self.listening.addr), "--credential", who, "--key"]);
        command.arg(key_file).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(typed.as_bytes()).await; // whoever isn't asked doesn't listen
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }

    /// Waits, with blocks, until the record is at its end.
    async fn ended(&self, tx: &TxView) -> TxView {
        let node = rpc(&self.world);
        let wait = async {
            loop {
                let view = self.get(tx).await;
                if view.state.is_terminal() {
                    return view;
                }
                let _: Value = node.call("sim_mine", json!([1])).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(view) => view,
            Err(_) => panic!("it never ends: {:#?}", self.get(tx).await),
        }
    }
}

fn rpc(world: &World) -> RpcClient {
    RpcClient::new(&world.ethereum().url(), Auth::None, Duration::from_secs(30)).unwrap()
}

fn missing(view: &ApprovalView) -> usize {
    view.quorums.iter().map(|quorum| quorum.missing).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_missing_it_stays_pending_and_with_all_of_them_it_is_paid() {
    let treasury = Treasury::start(Some(QUORUM)).await;
    let mut pending = Vec::new();
    for subset in 0..15_u32 {
        let tx = treasury.pay(&format!("pay-{subset}")).await;
        assert_eq!(tx.state, State::AwaitingApproval);
        for (number, who) in APPROVERS.iter().enumerate() {
            if subset & (1 << number) != 0 {
                treasury.say(who, &tx, Decision::Approve).await.unwrap();
                // The same person again counts no more.
                treasury.say(who, &tx, Decision::Approve).await.unwrap();
            }
        }
        let view = treasury.wanted("ed", &tx).await;
        assert_eq!(view.tx.state, State::AwaitingApproval, "{subset:b}");
        assert_eq!(missing(&view), 4 - usize::try_from(subset.count_ones()).unwrap(), "{subset:b}");
        pending.push(tx);
    }
    // Whoever asked doesn't approve, under whatever credential.
    let last = pending.pop().unwrap();
    let refused = treasury.say("tina-approves", &last, Decision::Approve).await.unwrap_err();
    assert_eq!(refused["data"]["kind"], "invalid_approval");
    // Somebody else's signature is none.
    let asked = treasury.wanted("fay", &last).await;
    let initiator = "trader".parse().unwrap();
    let subject = Subject { intent: asked.intent_id, initiator: &initiator, body: &asked.request.body };
    let statement = Statement::about(&subject, Decision::Approve, SystemClock.unix_seconds() + 60);
    let forged = Approval::sign("fay".parse().unwrap(), &statement, &key("trader"));
    let params = json!({ "tx_id": last.tx_id, "approval": forged });
    let refused = treasury.call("trader", "approval_submit", params).await.unwrap_err();
    assert_eq!((&refused["data"]["kind"], &refused["code"]), (&json!("invalid_approval"), &json!(-33204)));

    // 0b1110 lacks Fay.
    assert_eq!(missing(&treasury.wanted("fay", &last).await), 1);
    treasury.say("fay", &last, Decision::Approve).await.unwrap();
    assert_eq!(treasury.ended(&last).await.state, State::Finalized);
    let late = treasury.say("ed", &last, Decision::Reject).await.unwrap_err();
    assert_eq!(late["data"]["kind"], "not_awaiting_approval");
    for tx in &pending {
        assert_eq!(treasury.get(tx).await.state, State::AwaitingApproval, "{}", tx.idempotency_key);
    }
    let waiting = treasury.call("ed", "approval_list", json!({})).await.unwrap();
    assert_eq!(waiting.as_array().unwrap().len(), pending.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rejection_is_the_end() {
    let treasury = Treasury::start(Some(QUORUM)).await;
    let tx = treasury.pay("rejected").await;
    for who in ["fay", "finn", "carla"] {
        treasury.say(who, &tx, Decision::Approve).await.unwrap();
    }
    let view = treasury.say("ed", &tx, Decision::Reject).await.unwrap();
    assert_eq!(view.tx.state, State::Rejected);
    let reason = view.tx.reason.unwrap();
    assert_eq!((reason.kind.as_str(), reason.message.as_str()), ("rejected_by_approver", "ed has rejected it"));
    let late = treasury.say("ed", &tx, Decision::Approve).await.unwrap_err();
    assert_eq!(late["data"]["kind"], "not_awaiting_approval");
}

/// What was approved when the signers were first asked is good for every further attempt, a cancelling one above all.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_in_time_is_cancelled_after_the_approvals_have_expired() {
    let treasury = Treasury::start(Some(QUORUM)).await;
    let tx = treasury.pay("outlived").await;
    let end = SystemClock.unix_seconds() + 15;
    for who in APPROVERS {
        treasury.say_until(who, &tx, Decision::Approve, end).await.unwrap();
    }
    let sent = async {
        while treasury.get(&tx).await.state != State::InMempool || SystemClock.unix_seconds() <= end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("it is sent");
    let answer = treasury.call("trader", "tx_cancel", json!({ "tx_id": tx.tx_id })).await.unwrap();
    let view: TxView = serde_json::from_value(answer).unwrap();
    assert!(view.cancelling && view.attempts.len() == 2 && view.attempts[1].chain_tx_id.is_some(), "{view:#?}");
    assert_eq!(treasury.ended(&tx).await.state, State::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_asks_nobody_gets_no_signature() {
    let treasury = Treasury::start(None).await;
    let tx = treasury.pay("unasked").await;
    let view = treasury.ended(&tx).await;
    assert_eq!(view.state, State::Quarantined);
    assert!(view.attempts.iter().all(|attempt| attempt.chain_tx_id.is_none()), "{view:#?}");
    assert_eq!(view.reason.unwrap().kind, "signers_refused");
    // Whoever watches learns of it.
    let told = async {
        loop {
            let alerts = treasury.call("ops", "gw_alerts", json!({})).await.unwrap();
            let about = |alert: &&Value| alert["subject"] == tx.tx_id.to_string();
            if let Some(alert) = alerts.as_array().unwrap().iter().find(about) {
                return alert["kind"].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, told).await.unwrap(), "quarantined");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_while_people_decide_blocks_what_they_would_approve() {
    let treasury = Treasury::start(Some(QUORUM)).await;
    let tx = treasury.pay("listed").await;
    let cleared =
        tx.history.iter().find_map(|step| step.detail.as_ref()?.pointer("/clearance/lists/0/digest").cloned());
    let before = treasury.call("ops", "screen_status", json!({})).await.unwrap();
    assert_eq!(cleared.as_ref(), before.pointer("/0/digest"), "the record says what it was looked up in");
    std::fs::write(treasury.dir.path().join("list.txt"), format!("{NOBODY}\n{}\n", PAYEE.to_lowercase())).unwrap();
    let reloaded = treasury.call("ops", "screen_reload", json!({})).await.unwrap();
    assert_eq!(reloaded["changed"], json!(["house"]));
    let looked = json!({ "address": PAYEE, "network": "ethereum:31337" });
    assert_eq!(treasury.call("ed", "screen_address", looked).await.unwrap()["kind"], "listed_address");
    // It is looked up again by itself, and then nobody is asked any more.
    let view = treasury.ended(&tx).await;
    assert_eq!((view.state, view.reason.unwrap().kind.as_str()), (State::Blocked, "listed_address"));
    assert!(view.attempts.is_empty());
    for who in APPROVERS {
        let late = treasury.say(who, &tx, Decision::Approve).await.unwrap_err();
        assert_eq!(late["data"]["kind"], "not_awaiting_approval");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_approves_in_time_expires() {
    let treasury = Treasury::start_with(Some(QUORUM), ApprovalsConfig { expire_hours: 0 }).await;
    let tx = treasury.pay("late").await;
    let view = treasury.ended(&tx).await;
    assert_eq!((view.state, view.reason.unwrap().kind.as_str()), (State::Expired, "approvals_expired"));
    assert!(view.history.iter().any(|step| step.state == State::AwaitingApproval));
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_sign_what_their_own_machine_shows_them() {
    let treasury = Treasury::start(Some(QUORUM)).await;
    let tx = treasury.pay("typed").await;
    let id = tx.tx_id.to_string();
    let (listed, _) = treasury.type_in("fay", &["list"], "").await;
    assert!(listed.contains(&id) && listed.contains("4 missing"), "{listed}");
    let (shown, done) = treasury.type_in("fay", &["sign", &id], "n\n").await;
    assert!(!done && shown.contains(&format!("pays to    {PAYEE}")) && shown.contains("amount     1000 "), "{shown}");
    assert_eq!(missing(&treasury.wanted("fay", &tx).await), 4, "nothing was signed");
    let (said, done) = treasury.type_in("fay", &["sign", &id], "y\n").await;
    assert!(done && said.contains("3 missing"), "{said}");
    for who in ["finn", "carla", "ed"] {
        let (said, done) = treasury.type_in(who, &["sign", &id, "--yes"], "").await;
        assert!(done, "{said}");
    }
    assert_eq!(treasury.ended(&tx).await.state, State::Finalized);

    let other = treasury.pay("typed-no").await;
    let (said, done) = treasury.type_in("ed", &["reject", &other.tx_id.to_string(), "--yes"], "").await;
    assert!(done && said.contains("rejected"), "{said}");
    assert_eq!(treasury.get(&other).await.state, State::Rejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_asked_without_asking_for_a_payment() {
    let treasury = Treasury::start(Some(QUORUM)).await;
    let intent = |to: &str| {
        let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": "1000" });
        json!({ "intent": { "wallet": "cold", "action": action } })
    };
    let asked = treasury.call("trader", "policy_evaluate", intent(PAYEE)).await.unwrap();
    assert_eq!(asked.pointer("/trace/verdict/verdict").unwrap(), "require", "{asked:#}");
    assert_eq!(asked.pointer("/clearance/lists/0/id").unwrap(), "house");
    let denied = treasury.call("trader", "policy_evaluate", intent(NOBODY)).await.unwrap();
    assert_eq!(denied.pointer("/trace/verdict/verdict").unwrap(), "deny");
    assert_eq!(denied.pointer("/refused/kind").unwrap(), "listed_address");
    let unnamed = treasury.call("ed", "policy_evaluate", intent(PAYEE)).await.unwrap_err();
    assert_eq!(unnamed["code"], -32602);
    let rules = treasury.call("ed", "policy_get", json!({})).await.unwrap();
    assert_eq!(rules.pointer("/policy/rules/0/id").unwrap(), "treasury");
    let none = treasury.call("ed", "approval_list", json!({})).await.unwrap();
    assert_eq!(none, json!([]), "nothing is stored for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_too_old_holds_payments_until_it_is_renewed() {
    let treasury = Treasury::start(Some(QUORUM)).await;
    let list = treasury.dir.path().join("list.txt");
    let written = |hours_ago: u64| {
        let file = std::fs::File::options().write(true).open(&list).unwrap();
        let then = Duration::from_secs(SystemClock.unix_seconds() - hours_ago * 3_600);
        file.set_modified(std::time::UNIX_EPOCH + then).unwrap();
    };
    written(30);
    treasury.call("ops", "screen_reload", json!({})).await.unwrap();
    let tx = treasury.pay("held").await;
    let held = |view: &TxView| view.reason.as_ref().is_some_and(|reason| reason.kind == "list_stale");
    let wait = async {
        while !held(&treasury.get(&tx).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    assert_eq!(treasury.get(&tx).await.state, State::Received, "nothing is known against it");
    written(0);
    treasury.call("ops", "screen_reload", json!({})).await.unwrap();
    let wait = async {
        while treasury.get(&tx).await.state != State::AwaitingApproval {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}
