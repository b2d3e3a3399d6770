//! A pool of three signers in a temporary directory, a client with a credential, and a transport that can be broken.

#[cfg(feature = "grpc")]
pub(crate) mod apart;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chains::account::{Account, WalletId};
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::bitcoin::{Bitcoin, Utxo};
use chains::chain::Chain;
use chains::ethereum::{Ethereum, Fees, Gas, GasPrice, Nonce};
use chains::intent::Intent;
use chains::network::{BitcoinNetwork, Cluster, Network};
use chains::payload::Signature;
use chains::solana::{ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, Solana};
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use signer::policy::{Policy, PolicyConfig};
use signer::pool::{
    KeySpec, Pool, PoolConfig, Progress, SchemeId, SignError, SignOutcome, SignerConfig, SignerId, WalletSpec,
};
use signer::request::{Evidence, SignedRequest, SigningRequest};
use signer::roster::{Credential, Role, Roster};
use signer::seal::software::SoftwareSeal;
use signer::transport::{Transport, TransportError};
use uuid::Uuid;

pub(crate) const NAMES: [&str; 3] = ["signer-1", "signer-2", "signer-3"];
pub(crate) const ETH_PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
pub(crate) const BTC_PAYEE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
pub(crate) const SOL_PAYEE: &str = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";

/// How a signer's line is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// Nothing gets through.
    Down,
    /// Everything works until so many calls were made, then nothing does.
    DownAfter(u32),
    /// Answers never come.
    Slow,
    /// One bit of every long answer is flipped.
    Corrupt,
    /// Every request is delivered twice, and then the one before it again.
    Replay,
    /// The signer sends its letters of the round before once more, as those of this round.
    Repeat,
    /// The signer's letters to the one are sent to the other, and the other way round.
    Swap,
    /// All signers that are so share one slow core, which goes on with what was asked though nobody waits for it any more.
    Busy,
}

/// A transport that breaks lines on demand.
pub(crate) struct Faulty {
    inner: Mutex<Option<Arc<dyn Transport>>>,
    broken: Mutex<BTreeMap<SignerId, Break>>,
    last: Mutex<BTreeMap<SignerId, Vec<u8>>>,
    calls: Mutex<BTreeMap<SignerId, u32>>,
    answers: Mutex<BTreeMap<SignerId, Vec<u8>>>,
    core: Arc<tokio::sync::Mutex<()>>,
}

impl Faulty {
    fn new() -> Arc<Self> {
        let (inner, broken) = (Mutex::default(), Mutex::default());
        let (last, calls, answers) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { inner, broken, last, calls, answers, core: Arc::default() })
    }

    fn around(self: &Arc<Self>, inner: Arc<dyn Transport>) -> Arc<dyn Transport> {
        *self.inner.lock().unwrap() = Some(inner);
        self.clone()
    }

    pub(crate) fn break_line(&self, signer: &str, how: Break) {
        self.broken.lock().unwrap().insert(id(signer), how);
    }

    /// The calls that each signer has got since this was last asked.
    #[allow(dead_code, reason = "only the tests of ceremonies count")]
    pub(crate) fn calls(&self) -> BTreeMap<SignerId, u32> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    pub(crate) fn mend(&self) {
        self.broken.lock().unwrap().clear();
    }
}

impl Transport for Faulty {
    fn call<'a>(
        &'a self,
        to: &'a SignerId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        let inner = self.inner.lock().unwrap().clone().unwrap();
        let how = {
            let mut broken = self.broken.lock().unwrap();
            match broken.get_mut(to) {
                Some(Break::DownAfter(0)) => Some(Break::Down),
                Some(Break::DownAfter(calls)) => {
                    *calls -= 1;
                    None
                }
                other => other.copied(),
            }
        };
        *self.calls.lock().unwrap().entry(to.clone()).or_default() += 1;
        let before = self.last.lock().unwrap().insert(to.clone(), request.clone());
        async move {
            match how {
                Some(Break::Down | Break::DownAfter(_)) => Err(TransportError::Unreachable),
                Some(Break::Slow) => {
                    inner.call(to, request, deadline).await?;
                    let never = std::future::pending::<()>();
                    tokio::time::timeout(deadline, never).await.map_err(|_| TransportError::Timeout)?;
                    Err(TransportError::Timeout)
                }
                Some(Break::Corrupt) => {
                    let mut answer = inner.call(to, request, deadline).await?;
                    if answer.len() > 60 {
                        let last = answer.len() - 1;
                        answer[last] ^= 1;
                    }
                    Ok(answer)
                }
                Some(Break::Replay) => {
                    let answer = inner.call(to, request.clone(), deadline).await;
                    inner.call(to, request, deadline).await?;
                    if let Some(before) = before {
                        inner.call(to, before, deadline).await?;
                    }
                    answer
                }
                Some(Break::Repeat) => {
                    let answer = inner.call(to, request, deadline).await?;
                    let before = self.answers.lock().unwrap().insert(to.clone(), answer.clone());
                    Ok(match before {
                        Some(before) if are_letters(&answer) && are_letters(&before) => {
                            // The number of the round comes right after the kind of the answer.
                            [&answer[..3], &before[3..]].concat()
                        }
                        _ => answer,
                    })
                }
                Some(Break::Busy) => {
                    let (core, to) = (self.core.clone(), to.clone());
                    // Whoever asked may give up; the work is done all the same.
                    let work = tokio::spawn(async move {
                        let _core = core.lock().await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        inner.call(&to, request, Duration::from_secs(600)).await
                    });
                    tokio::time::timeout(deadline, work)
                        .await
                        .map_or(Err(TransportError::Timeout), |work| work.unwrap())
                }
                Some(Break::Swap) => {
                    let answer = inner.call(to, request, deadline).await?;
                    Ok(if are_letters(&answer) { swapped(&answer, to) } else { answer })
                }
                None => inner.call(to, request, deadline).await,
            }
        }
        .boxed()
    }
}

/// Whether an answer has letters in it: the version, the kind, the number of the round, and the letters.
fn are_letters(answer: &[u8]) -> bool {
    matches!(answer, [1, 3, ..])
}

/// The signer's letters, each with another receiver's name on it. All names here are of one length.
fn swapped(answer: &[u8], from: &SignerId) -> Vec<u8> {
    let others = NAMES.iter().filter(|name| **name != from.as_str()).collect::<Vec<_>>();
    let [one, other] = others.as_slice() else { panic!("three signers") };
    let mut swapped = answer.to_vec();
    let mut at = 0;
    while at + one.len() <= swapped.len() {
        let place = &mut swapped[at..at + one.len()];
        if place == one.as_bytes() {
            place.copy_from_slice(other.as_bytes());
        } else if place == other.as_bytes() {
            place.copy_from_slice(one.as_bytes());
        }
        at += 1;
    }
    swapped
}

/// How the signers run and are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// In the pool's process, over memory.
    Memory,
    /// Apart from the pool, each with its own configuration, over gRPC on the loopback interface.
    #[cfg(feature = "grpc")]
    Grpc,
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) lines: Arc<Faulty>,
    pub(crate) pool: Pool,
    means: Means,
    #[cfg(feature = "grpc")]
    pub(crate) stations: Vec<signer::station::Station>,
    client: SigningKey,
}

pub(crate) fn id(name: &str) -> SignerId {
    name.parse().unwrap()
}

/// One sealing key for all tests: opening it costs a fraction of a second on purpose.
fn seal() -> Arc<SoftwareSeal> {
    static SEAL: std::sync::OnceLock<Arc<SoftwareSeal>> = std::sync::OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = dir.path().join("passphrase");
        std::fs::write(&passphrase, "a passphrase for tests").unwrap();
        Arc::new(SoftwareSeal::open_or_create(&dir.path().join("key.json"), &passphrase).unwrap())
    };
    SEAL.get_or_init(make).clone()
}

pub(crate) fn config(dir: &Path) -> PoolConfig {
    let signer = |name: &&str| SignerConfig { id: id(name), dir: dir.join(name), seal: seal() };
    PoolConfig {
        threshold: 2,
        signers: NAMES.iter().map(signer).collect(),
        deadline: Duration::from_secs(60),
        round_timeout: Duration::from_secs(20),
    }
}

pub(crate) fn key(name: &str, scheme: SchemeId) -> KeySpec {
    KeySpec { key: name.parse().unwrap(), scheme }
}

pub(crate) fn wallet(name: &str, network: Network, key: &str, path: &str) -> WalletSpec {
    WalletSpec { wallet: name.parse().unwrap(), network, key: key.parse().unwrap(), path: path.parse().unwrap() }
}

pub(crate) const REGTEST: Network = Network::Bitcoin(BitcoinNetwork::Regtest);
pub(crate) const EVM: Network = Network::Ethereum(31337);
pub(crate) const SVM: Network = Network::Solana(Cluster::Localnet);

/// Every signing here is by one Ed25519 key, except where a test says otherwise: it is the fastest.
pub(crate) fn sol() -> (Vec<KeySpec>, Vec<WalletSpec>) {
    (vec![key("main-ed25519", SchemeId::Ed25519)], vec![wallet("treasury-sol", SVM, "main-ed25519", "m")])
}

/// When requests are signed, in seconds since 1970: so far ahead that none gets too old.
const NEVER_OLD: u64 = 4_102_444_800;

impl World {
    pub(crate) async fn start(adjust: impl FnOnce(&mut PoolConfig)) -> Self {
        Self::start_by(Means::Memory, adjust).await
    }

    pub(crate) async fn start_by(means: Means, adjust: impl FnOnce(&mut PoolConfig)) -> Self {
        Self::open(tempfile::tempdir().unwrap(), means, adjust).await
    }

    async fn open(dir: tempfile::TempDir, means: Means, adjust: impl FnOnce(&mut PoolConfig)) -> Self {
        let client = SigningKey::from_bytes(&[42; 32]);
        match means {
            Means::Memory => {
                let (pool, lines) = open(dir.path(), adjust).await.unwrap();
                #[cfg(feature = "grpc")]
                let stations = Vec::new();
                Self {
                    dir,
                    lines,
                    pool,
                    means,
                    #[cfg(feature = "grpc")]
                    stations,
                    client,
                }
            }
            #[cfg(feature = "grpc")]
            Means::Grpc => {
                let mut config = config(dir.path());
                adjust(&mut config);
                let lines = Faulty::new();
                let (pool, stations) = apart::open(config, |grpc| lines.around(grpc)).await;
                Self { dir, lines, pool, means, stations, client }
            }
        }
    }

    /// A pool with its Ed25519 key, ready to sign.
    #[allow(dead_code, reason = "the pool's own suite runs by every means")]
    pub(crate) async fn ready(adjust: impl FnOnce(&mut PoolConfig)) -> Self {
        Self::ready_by(Means::Memory, adjust).await
    }

    pub(crate) async fn ready_by(means: Means, adjust: impl FnOnce(&mut PoolConfig)) -> Self {
        let world = Self::start_by(means, adjust).await;
        let (keys, wallets) = sol();
        world.pool.ensure_keys(&keys, |_| ()).await.unwrap();
        world.install(wallets).await;
        world
    }

    /// A pool of signers apart that the test has started for itself.
    #[cfg(feature = "grpc")]
    #[allow(dead_code, reason = "only the tests of signers apart start them for themselves")]
    pub(crate) fn of(dir: tempfile::TempDir, pool: Pool, stations: Vec<signer::station::Station>) -> Self {
        let client = SigningKey::from_bytes(&[42; 32]);
        Self { dir, lines: Faulty::new(), pool, means: Means::Grpc, stations, client }
    }

    /// Stops the pool and starts it again on the same directories.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    pub(crate) async fn restart_with(self, adjust: impl FnOnce(&mut PoolConfig)) -> Self {
        self.pool.shutdown().await;
        #[cfg(feature = "grpc")]
        for station in self.stations {
            station.close().await;
        }
        Self::open(self.dir, self.means, adjust).await
    }

    pub(crate) async fn install(&self, wallets: Vec<WalletSpec>) {
        let (roster, policy) = self.orders(&wallets);
        #[cfg(feature = "grpc")]
        for station in &self.stations {
            // From its own configuration: the pool has no say in it.
            station.install(roster.clone(), policy.clone(), wallets.clone()).unwrap();
        }
        self.pool.install(roster, policy, wallets).await.unwrap();
    }

    /// What is judged by.
    pub(crate) fn orders(&self, wallets: &[WalletSpec]) -> (Roster, Policy) {
        (self.roster(), policy(wallets))
    }

    fn roster(&self) -> Roster {
        let public_key = self.client.verifying_key();
        let client = Credential { id: "desk".parse().unwrap(), role: Role::Initiator, public_key };
        Roster::new(vec![client]).unwrap()
    }

    /// The client asks for a payment of `amount`; the pool gets `unsigned` with it.
    pub(crate) fn request(&self, number: u128, account: &Account, body: Vec<u8>, unsigned: Vec<u8>) -> SigningRequest {
        let (sub, jti) = ("desk".parse().unwrap(), format!("jti-{number}"));
        let request = SignedRequest::sign(&self.client, &sub, "/v1", &jti, NEVER_OLD, 60, body);
        let evidence = Evidence { request, approvals: Vec::new(), cancel: None, release: None };
        let (tx, wallet) = (Uuid::from_u128(number), account.wallet().clone());
        let policy = self.pool.policy().unwrap_or_default().digest();
        SigningRequest { tx, wallet, unsigned, evidence, fence: 1, policy }
    }

    /// A payment of `lamports` on Solana.
    pub(crate) fn pay_sol(&self, number: u128, lamports: u64) -> SigningRequest {
        let account = self.pool.account(&sol().1[0]).unwrap();
        let (body, intent) = intent(account.wallet(), number, SOL_PAYEE, Amount::from_lamports(lamports));
        let unsigned = solana().build(&intent, &account, &solana_state()).unwrap();
        self.request(number, &account, body, solana().encode_unsigned(&unsigned))
    }

    /// Signs and puts the signatures in place, which verifies them once more.
    pub(crate) async fn sign_sol(&self, number: u64) -> Result<SignOutcome, SignError> {
        // Another amount each time: payments with the same message would take each other's slot.
        let request = self.pay_sol(number.into(), 1_000_000 + number);
        let outcome = self.pool.sign(request.clone()).await?;
        let account = self.pool.account(&sol().1[0]).unwrap();
        assemble(&solana(), &account, &request.unsigned, &outcome.signatures);
        Ok(outcome)
    }

    pub(crate) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for name in NAMES {
            let entries = std::fs::read_dir(self.dir.path().join(name).join("vault")).unwrap();
            found.extend(
                entries.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().ends_with(ending)),
            );
        }
        found.sort();
        found
    }
}

pub(crate) async fn open(
    dir: &Path,
    adjust: impl FnOnce(&mut PoolConfig),
) -> Result<(Pool, Arc<Faulty>), signer::pool::PoolError> {
    let mut config = config(dir);
    adjust(&mut config);
    let lines = Faulty::new();
    let pool = Pool::start_over(config, |memory| lines.around(memory)).await?;
    Ok((pool, lines))
}

/// Every wallet may pay the payee of its chain.
fn policy(wallets: &[WalletSpec]) -> Policy {
    let payee = |network: Network| match network {
        Network::Bitcoin(_) => BTC_PAYEE,
        Network::Ethereum(_) => ETH_PAYEE,
        Network::Solana(_) => SOL_PAYEE,
    };
    let rule =
        |spec: &WalletSpec| json!({ "id": spec.wallet, "wallets": [spec.wallet], "addresses": [payee(spec.network)] });
    let rules = wallets.iter().map(rule).collect::<Vec<_>>();
    let config: PolicyConfig = serde_json::from_value(json!({ "rules": rules })).unwrap();
    let networks = wallets.iter().map(|spec| (spec.wallet.clone(), spec.network)).collect::<BTreeMap<_, _>>();
    config.compile(&networks).unwrap()
}

/// A transfer of the native coin, as the client's body and as the intent in it.
pub(crate) fn intent(wallet: &WalletId, number: u128, to: &str, amount: Amount) -> (Vec<u8>, Intent) {
    let to = UncheckedAddress::new(to);
    let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": amount });
    let intent = json!({ "wallet": wallet, "action": action });
    let params = json!({ "idempotency_key": format!("payment-{number}"), "intent": intent });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": params });
    (serde_json::to_vec(&body).unwrap(), serde_json::from_value(intent).unwrap())
}

pub(crate) fn solana() -> Solana {
    Solana::new(Cluster::Localnet)
}

pub(crate) fn solana_state() -> chains::solana::State {
    chains::solana::State {
        validity: chains::solana::Validity::Blockhash {
            blockhash: "EkSnNWid2cvwEVnVx9aBqawnmiCNiDgp3gUdkDPTKN1N".parse().unwrap(),
            last_valid_block_height: 1_000,
        },
        balance: Lamports::new(10_000_000_000),
        rent_exempt_minimum: Lamports::new(890_880),
        destination: Destination { lamports: Lamports::new(1_000_000), kind: DestinationKind::Wallet },
        token: None,
        owners: Vec::new(),
        tables: Vec::new(),
        nonce_rent: None,
        compute: ComputeBudget { unit_limit: 1_000, unit_price: MicroLamports::new(1_000) },
        version: MessageVersion::V0,
    }
}

pub(crate) fn ethereum() -> Ethereum {
    Ethereum::new(31337)
}

pub(crate) fn ethereum_state(nonce: u64) -> chains::ethereum::State {
    chains::ethereum::State {
        nonce: Nonce::new(nonce),
        balance: Amount::from_wei(10_000_000_000_000_000_000),
        token_balance: None,
        fees: Fees::Eip1559 {
            max_fee_per_gas: GasPrice::from_gwei(20),
            max_priority_fee_per_gas: GasPrice::from_gwei(1),
        },
        gas_limit: Gas::from_units(21_000),
        replacing: None,
    }
}

pub(crate) fn bitcoin_chain() -> Bitcoin {
    Bitcoin::new(BitcoinNetwork::Regtest)
}

/// Coins of `sats` each, one transaction a coin.
pub(crate) fn bitcoin_state(account: &Account, sats: &[u64]) -> chains::bitcoin::State {
    let chains::address::Address::Bitcoin(address) = account.address() else { panic!("a Bitcoin account") };
    let coin = |(number, sats): (usize, &u64)| {
        let lock_time = bitcoin::absolute::LockTime::from_consensus(u32::try_from(number).unwrap());
        let output = bitcoin::TxOut { value: bitcoin::Amount::from_sat(*sats), script_pubkey: address.script_pubkey() };
        let input = bitcoin::TxIn { previous_output: bitcoin::OutPoint::null(), ..Default::default() };
        let version = bitcoin::transaction::Version::TWO;
        let previous = bitcoin::Transaction { version, lock_time, input: vec![input], output: vec![output] };
        Utxo::new(Arc::new(previous), 0, 6).unwrap()
    };
    chains::bitcoin::State {
        utxos: sats.iter().enumerate().map(coin).collect(),
        fee_rate: bitcoin::FeeRate::from_sat_per_vb(2).unwrap(),
        max_fee_rate: bitcoin::FeeRate::from_sat_per_vb(500).unwrap(),
        tip: bitcoin::absolute::Height::from_consensus(200).unwrap(),
        waiting: chains::bitcoin::Waiting::Untouched,
    }
}

/// Puts the signatures in place, which verifies each.
pub(crate) fn assemble<C: Chain>(chain: &C, account: &Account, unsigned: &[u8], signatures: &[Signature]) {
    let unsigned = chain.decode_unsigned(unsigned).unwrap();
    chain.assemble(account, &unsigned, signatures).unwrap();
}

/// What [`Pool::ensure_keys`] told.
pub(crate) async fn ensure(pool: &Pool, keys: &[KeySpec]) -> Result<Vec<Progress>, signer::pool::PoolError> {
    let told = Mutex::new(Vec::new());
    pool.ensure_keys(keys, |progress| told.lock().unwrap().push(progress)).await?;
    Ok(told.into_inner().unwrap())
}
