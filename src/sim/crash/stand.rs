//! Where a cell runs: one chain, one store, the gateway's folder with its configuration, and the client that pays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use chains::network::Family;
use clap::ValueEnum;
use gateway::store::Store;
use gateway::store::postgres::PostgresStore;
use gateway::store::sqlite::SqliteStore;
use serde::Serialize;
use serde_json::{Value, json};

use super::chain::{Books, FINAL, SimChain};
use super::child::{Child, Ready};
use super::cluster::Cluster;
use super::relay::Relay;
use super::weather::limited;
use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::credential;

/// The limit that every payment draws from, in base units: more than all payments of a stand together.
pub(super) const LIMIT: u128 = 1 << 100;

/// Where payments are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    /// The embedded store.
    Sqlite,
    /// The shared store.
    Postgres,
}

/// What a stand is put up with.
#[derive(Clone)]
pub(super) struct Plan {
    /// The chain.
    pub(super) family: Family,
    /// The store.
    pub(super) store: StoreKind,
    /// Its folder, which isn't there yet.
    pub(super) dir: PathBuf,
    /// The folder with the signers' shares of every key.
    pub(super) keys: PathBuf,
    /// The server, where the store is PostgreSQL.
    pub(super) cluster: Option<Arc<Cluster>>,
    /// The known bug that is switched on.
    pub(super) mutation: Option<&'static str>,
    /// What all payments together may come to.
    pub(super) limit: u128,
}

/// One chain, one store, and a gateway between them that comes and goes.
pub(super) struct Stand {
    pub(super) plan: Plan,
    pub(super) chain: SimChain,
    pub(super) relay: Relay,
    /// The wallet's address.
    pub(super) wallet: String,
    /// What the chain said before the first payment.
    pub(super) books: Books,
    birthday: u32,
    database: Option<String>,
    key_file: PathBuf,
    starts: std::sync::atomic::AtomicU32,
    /// Whether a payment of the wallet can be replaced.
    pub(super) replaceable: bool,
}

/// The wallet's payee that the policy lists.
pub(super) const fn payee(family: Family) -> &'static str {
    match family {
        Family::Bitcoin => "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        Family::Ethereum => "0x52908400098527886E0F7030069857D2E4169EE7",
        Family::Solana => "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q",
    }
}

/// One that it doesn't list.
const fn stranger(family: Family) -> &'static str {
    match family {
        Family::Bitcoin => "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6",
        Family::Ethereum => "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        Family::Solana => "9sgso1vsgbmtGabPkZaKNzYPHP8JDsJFkA7HRNSKoV2G",
    }
}

/// The chain's name.
pub(in crate::sim) const fn name(family: Family) -> &'static str {
    match family {
        Family::Bitcoin => "bitcoin",
        Family::Ethereum => "ethereum",
        Family::Solana => "solana",
    }
}

pub(in crate::sim) const fn network(family: Family) -> &'static str {
    match family {
        Family::Bitcoin => "bitcoin:regtest",
        Family::Ethereum => "ethereum:31337",
        Family::Solana => "solana:localnet",
    }
}

/// The key, its scheme and the path of the chain's wallet: each chain another scheme.
pub(in crate::sim) const fn key(family: Family) -> (&'static str, &'static str, &'static str) {
    match family {
        Family::Bitcoin => ("taproot", "taproot", "m"),
        Family::Ethereum => ("ecdsa", "ecdsa", "m/60/0/0"),
        Family::Solana => ("ed25519", "ed25519", "m"),
    }
}

/// The three kinds of chain.
pub(super) const FAMILIES: [Family; 3] = [Family::Bitcoin, Family::Ethereum, Family::Solana];

/// Has the signers make every key once, and answers the folder with their shares.
///
/// # Errors
/// Where they don't.
pub(super) async fn make_keys(dir: &Path) -> Result<PathBuf, Failure> {
    let data = dir.join("data");
    prepare(&data)?;
    let config = dir.join("portcullis.toml");
    let mut text = head(&data, "keys", None);
    for family in FAMILIES {
        text.push_str(&chain_part(family, "http://127.0.0.1:9", None, 0));
    }
    fs::write(&config, text)?;
    let mut child = Child::start(&config, &dir.join("log"), &[])?;
    child.ready().await?;
    child.kill();
    Ok(data.join("signers"))
}

/// Writes what a data folder needs before the first start.
pub(in crate::sim) fn prepare(data: &Path) -> Result<PathBuf, Failure> {
    credential::write_secret(&data.join("signers/passphrase"), b"a passphrase for tests")?;
    Ok(credential::ensure_pair(&data.join("trader.pub"))?)
}

/// The parts of a configuration that are the same for every chain.
fn head(data: &Path, gateway: &str, database: Option<&Path>) -> String {
    let store = database.map_or_else(String::new, |file| format!("postgres_url_file = {:?}\nconnections = 4\n", file));
    format!(
        "data_dir = {data:?}\n[server]\nlisten = \"127.0.0.1:0\"\n[gateway]\nname = \"{gateway}\"\nlease_ms = 3000\n\
         [store]\n{store}[signers]\nnames = [\"a\", \"b\", \"c\"]\nthreshold = 2\n\
         [[credentials]]\nid = \"trader\"\nrole = \"initiator\"\npublic_key_file = \"trader.pub\"\n"
    )
}

/// The parts that are a chain's own.
fn chain_part(family: Family, endpoint: &str, cookie: Option<&Path>, birthday: u32) -> String {
    let (name, network, payee) = (name(family), network(family), payee(family));
    let (key, scheme, path) = key(family);
    let cookie = cookie.map_or_else(String::new, |cookie| format!("auth_file = {cookie:?}\n"));
    let depth = if family == Family::Solana { String::new() } else { format!("finality_depth = {FINAL}\n") };
    format!(
        "[[networks]]\nid = \"{network}\"\nendpoints = [\"{endpoint}\"]\n{cookie}{depth}timeout_ms = 3000\n\
         birthday = {birthday}\nconfirmations = 1\npoll_interval_ms = 200\nresend_after_ms = 1000\n\
         [[keys]]\nid = \"{key}\"\nscheme = \"{scheme}\"\n\
         [[wallets]]\nid = \"{name}\"\nnetwork = \"{network}\"\nkey = \"{key}\"\npath = \"{path}\"\n\
         [[policy.rules]]\nid = \"{name}\"\nwallets = [\"{name}\"]\naddresses = [\"{payee}\"]\n"
    )
}

impl Stand {
    /// Puts it up: the chain, the relay, the store, the configuration, a wallet with money in it.
    ///
    /// # Errors
    /// Where a part can't be had.
    pub(super) async fn put_up(plan: Plan) -> Result<Self, Failure> {
        fs::create_dir_all(&plan.dir)?;
        let chain = SimChain::start(plan.family, &plan.dir.join("chain")).await?;
        let relay = Relay::start(chain.url()).await?;
        let database = match (plan.store, &plan.cluster) {
            (StoreKind::Sqlite, _) => None,
            (StoreKind::Postgres, None) => return Err("PostgreSQL isn't installed (Debian: postgresql)".into()),
            (StoreKind::Postgres, Some(cluster)) => {
                Some(cluster.database(&format!("stand_{}", uuid::Uuid::now_v7().simple()))?)
            }
        };
        let key_file = plan.dir.join("one/data/trader.key");
        let books = Books { received: 0, count: 0 };
        let starts = std::sync::atomic::AtomicU32::new(0);
        let (wallet, birthday) = (String::new(), chain.birthday().await?);
        let mut stand =
            Self { plan, chain, relay, wallet, books, birthday, database, key_file, starts, replaceable: false };
        stand.furnish("one")?;
        let mut child = stand.start("one", &[])?;
        let ready = child.ready().await?;
        child.kill();
        stand.chain.fund(&ready.address).await?;
        stand.wallet = ready.address;
        stand.books = stand.chain.books(stand.payee(), &stand.wallet).await?;
        Ok(stand)
    }

    /// Writes the folder of a gateway: its configuration, and a copy of the signers.
    ///
    /// # Errors
    /// Where it can't be written.
    pub(super) fn furnish(&self, gateway: &str) -> Result<(), Failure> {
        let dir = self.plan.dir.join(gateway);
        let data = dir.join("data");
        copy(&self.plan.keys, &data.join("signers"))?;
        match self.key_file.exists() {
            false => drop(prepare(&data)?),
            true => drop(fs::copy(self.key_file.with_extension("pub"), data.join("trader.pub"))?),
        }
        let url_file = dir.join("postgres.url");
        if let Some(url) = &self.database {
            fs::write(&url_file, url)?;
        }
        let text = head(&data, gateway, self.database.as_ref().map(|_| url_file.as_path()))
            + &chain_part(self.plan.family, &self.relay.url(), self.chain.cookie(), self.birthday);
        Ok(fs::write(dir.join("portcullis.toml"), text)?)
    }

    /// Starts a gateway.
    ///
    /// # Errors
    /// Where the process can't be started.
    pub(super) fn start(&self, gateway: &str, environment: &[(String, String)]) -> Result<Child, Failure> {
        self.run(Command::new(std::env::current_exe()?), gateway, environment)
    }

    /// Starts one that may write no file beyond so many blocks of 512 bytes.
    ///
    /// # Errors
    /// Where the process can't be started.
    pub(super) fn start_limited(&self, gateway: &str, blocks: u64) -> Result<Child, Failure> {
        self.run(limited(&std::env::current_exe()?, blocks), gateway, &[])
    }

    fn run(&self, command: Command, gateway: &str, environment: &[(String, String)]) -> Result<Child, Failure> {
        let number = self.starts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut environment = environment.to_vec();
        environment.push(("PORTCULLIS_TEST_LIMIT".to_owned(), self.plan.limit.to_string()));
        if let Some(mutation) = self.plan.mutation {
            environment.push(("PORTCULLIS_MUTATION".to_owned(), mutation.to_owned()));
        }
        let dir = self.plan.dir.join(gateway);
        Child::run(command, &dir.join("portcullis.toml"), &dir.join(format!("log-{number:04}")), &environment)
    }

    /// Starts a gateway that stops for good, or until told, at the n-th pass of a place. Answers the file that tells of it.
    ///
    /// # Errors
    /// Where the process can't be started.
    pub(super) fn start_to_fail(&self, gateway: &str, place: &str, pass: u32) -> Result<(Child, PathBuf), Failure> {
        let file = self.plan.dir.join(format!("{gateway}-failed"));
        for leftover in [file.clone(), file.with_extension("go")] {
            match fs::remove_file(leftover) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let environment = [
            ("PORTCULLIS_FAIL_AT".to_owned(), format!("{place}:{pass}")),
            ("PORTCULLIS_FAIL_FILE".to_owned(), file.display().to_string()),
        ];
        Ok((self.start(gateway, &environment)?, file))
    }

    /// The client of a gateway that serves.
    ///
    /// # Errors
    /// Where its key can't be read.
    pub(super) fn client(&self, ready: &Ready) -> Result<Arc<GatewayClient>, Failure> {
        Ok(Arc::new(GatewayClient::new(&ready.url, "trader".parse()?, &self.key_file)?))
    }

    /// The parameters of a payment.
    pub(super) fn payment(&self, key: &str, amount: u128, listed: bool) -> Value {
        let family = self.plan.family;
        let to = if listed { payee(family) } else { stranger(family) };
        let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": amount.to_string() });
        json!({ "idempotency_key": key, "intent": { "wallet": name(family), "action": action } })
    }

    /// The wallet's payee.
    pub(super) const fn payee(&self) -> &'static str {
        payee(self.plan.family)
    }

    /// Opens the store beside the gateway, to read what is durable.
    ///
    /// # Errors
    /// Where it can't be opened.
    pub(super) async fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(match &self.database {
            None => Arc::new(SqliteStore::open(&self.database_file())?),
            Some(url) => Arc::new(PostgresStore::open(url, 2).await?),
        })
    }

    /// The file of the embedded store.
    pub(super) fn database_file(&self) -> PathBuf {
        self.plan.dir.join("one/data/gateway.sqlite")
    }

    /// The slots of the wallet begin so, on a chain that counts its transactions.
    pub(super) fn nonce_prefix(&self) -> Option<String> {
        (self.plan.family == Family::Ethereum).then(|| format!("{}/{}/", network(self.plan.family), self.wallet))
    }

    /// Takes it down, and its folder with it unless that is to be kept.
    pub(super) async fn take_down(self, keep: bool) {
        let Self { plan, chain, .. } = self;
        chain.stop().await;
        if !keep && let Err(error) = fs::remove_dir_all(&plan.dir) {
            tracing::debug!(%error, "the folder stays");
        }
    }
}

/// Copies a folder with all that is in it.
pub(in crate::sim) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
