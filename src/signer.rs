//! `portcullis signer`: one signer in a process of its own, which dials the gateway and judges by its own configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chains::account::WalletId;
use chains::network::Network;
use clap::{Args, Subcommand};
use gateway::clock::{Clock, SystemClock};
use gateway::config::{CredentialConfig, WalletConfig};
use serde::Deserialize;
use signer::policy::PolicyConfig;
use signer::pool::{SignerConfig, SignerId};
use signer::roster::Audience;
use signer::station::{Station, StationConfig, link_key};
use signer::transport::grpc::{LinkIdentity, Pin, Route};

use crate::cli::Failure;
use crate::config::{Config, ConfigError, SealConfig};
use crate::house::seal_by;
use crate::{apart, config, serve};

/// What can be said to `portcullis signer`.
#[derive(Debug, Args)]
pub(crate) struct SignerArgs {
    /// The signer's configuration file (with `init --gateway`, the gateway's).
    #[arg(long, short, env = "PORTCULLIS_SIGNER_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<SignerCommand>,
}

#[derive(Debug, Subcommand)]
enum SignerCommand {
    /// Makes the keys that the signer is known by, where there are none, and a fresh certificate; prints what the others
    /// have to pin.
    Init {
        /// For how many days the certificate holds. Run this again before they are over; the keys stay.
        #[arg(long, default_value_t = 825)]
        days: u32,
        /// Do so for the gateway's end.
        #[arg(long)]
        gateway: bool,
    },
}

/// A signer's configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerFile {
    /// Its name, for good.
    name: SignerId,
    /// Where everything durable lives; relative paths start here.
    data_dir: PathBuf,
    /// So many sign, with keys that this signer helps to generate.
    threshold: u16,
    /// Whom it dials.
    coordinator: CoordinatorEntry,
    /// A file with the passphrase of the software seal.
    #[serde(default = "own_passphrase_file")]
    passphrase_file: PathBuf,
    /// What seals its shares, as in the gateway's `[[signers.seals]]` without the name; the software seal, if left out.
    #[serde(default)]
    seal: Option<toml::Table>,
    /// The pool's signers with the keys of their links, the same list at every signer.
    #[serde(default)]
    peers: BTreeMap<SignerId, String>,
    /// The wallets that it signs for.
    #[serde(default)]
    wallets: Vec<WalletConfig>,
    /// The name of the deployment, which requests have to carry as `aud`; without one they may carry none.
    #[serde(default)]
    audience: Option<Audience>,
    /// Who may ask.
    #[serde(default)]
    credentials: Vec<CredentialConfig>,
    /// What is allowed.
    #[serde(default)]
    policy: PolicyConfig,
    /// For whom it helps in making escrows: age recipients. For nobody, if left out.
    #[serde(default)]
    escrow_recipients: Vec<String>,
}

/// Where the gateway listens for signers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CoordinatorEntry {
    /// `host:port`.
    address: String,
    /// Its key, as `portcullis signer init --gateway` prints it.
    #[serde(default)]
    public_key: Option<Pin>,
}

impl SignerFile {
    fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })?;
        let mut file: Self =
            toml::from_str(&text).map_err(|reason| ConfigError::Parse { path: path.to_owned(), reason })?;
        let mut policy = std::mem::take(&mut file.policy);
        config::read_policy_files(&mut policy, |path| file.path(path))?;
        Ok(Self { policy, ..file })
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.data_dir.join(path)
    }

    fn seal_entry(&self) -> Result<Option<SealConfig>, ConfigError> {
        let Some(mut entry) = self.seal.clone() else { return Ok(None) };
        entry.insert("signer".to_owned(), self.name.to_string().into());
        let wrong = |error: toml::de::Error| ConfigError::Invalid(format!("[seal]: {}", error.message()));
        entry.try_into().map(Some).map_err(wrong)
    }

    fn signer(&self) -> Result<SignerConfig, Failure> {
        let (entry, dir, shared) = (self.seal_entry()?, self.data_dir.clone(), self.path(&self.passphrase_file));
        let seal = seal_by(entry.as_ref(), &self.name, &dir, shared, |path| self.path(path))?;
        Ok(SignerConfig { id: self.name.clone(), dir, seal })
    }

    fn station(&self) -> Result<StationConfig, Failure> {
        let networks: BTreeMap<WalletId, Network> = self.wallets.iter().map(|w| (w.id.clone(), w.network)).collect();
        if self.wallets.iter().map(|w| &w.id).collect::<BTreeSet<_>>().len() != self.wallets.len() {
            return Err(ConfigError::Invalid("a wallet is named twice".to_owned()).into());
        }
        let policy = self.policy.compile(&networks).map_err(|error| ConfigError::Invalid(error.to_string()))?;
        Ok(StationConfig {
            signer: self.signer()?,
            threshold: self.threshold,
            peers: self.peers.clone(),
            roster: config::roster(&self.credentials, |path| self.path(path))?.for_audience(self.audience.clone()),
            policy,
            wallets: config::wallet_specs(&self.wallets),
        })
    }

    fn link(&self) -> PathBuf {
        self.path("link".as_ref())
    }
}

/// Runs the signer until it is told to stop (SIGINT, SIGTERM), or prepares it.
///
/// # Errors
/// Where it can't start.
pub(crate) async fn run(args: SignerArgs) -> Result<(), Failure> {
    let path = args.config.ok_or("name the signer's configuration file: --config signer-1.toml")?;
    match args.command {
        None => attend(&path).await,
        Some(SignerCommand::Init { days, gateway: false }) => init(&path, term(days)),
        Some(SignerCommand::Init { days, gateway: true }) => init_gateway(&path, term(days)),
    }
}

async fn attend(path: &Path) -> Result<(), Failure> {
    let file = SignerFile::load(path)?;
    let public_key = "coordinator.public_key is missing; `portcullis signer init --gateway` prints it";
    let coordinator = file.coordinator.public_key.ok_or(public_key)?;
    let identity = LinkIdentity::read(&file.link())?;
    let config = {
        let file = file.clone();
        // Opening a seal takes a while on purpose.
        tokio::task::spawn_blocking(move || file.station()).await??
    };
    let recipients = file.escrow_recipients.iter().map(|recipient| recipient.parse());
    let recipients = recipients.collect::<Result<Vec<_>, _>>().map_err(|e| format!("escrow_recipients: {e}"))?;
    let mut station = Station::open(config).await?;
    station.permit_escrow(&recipients);
    let address = file.coordinator.address.clone();
    station.dial(&Route { address: address.clone(), coordinator, identity })?;
    println!("signer   {} dials {address}", file.name);
    serve::stop_signal().await?;
    station.close().await;
    Ok(())
}

/// The folder and the seal of the signer that a configuration file is for.
///
/// # Errors
/// Where the file can't be used.
pub(crate) fn folder(path: &Path) -> Result<SignerConfig, Failure> {
    SignerFile::load(path)?.signer()
}

fn init(path: &Path, term: Duration) -> Result<(), Failure> {
    let file = SignerFile::load(path)?;
    let link = link_key(file.signer()?)?;
    let identity = LinkIdentity::renew(&file.link(), file.name.as_str(), now(), term)?;
    println!("# for the gateway's configuration");
    println!("[[signers.apart]]\nname = \"{}\"\npublic_key = \"{}\"\n", file.name, identity.pin());
    println!("# for the [peers] of every signer, this one included");
    println!("{} = \"{link}\"", file.name);
    Ok(())
}

fn init_gateway(path: &Path, term: Duration) -> Result<(), Failure> {
    let config = Config::load(Some(path))?;
    let identity = LinkIdentity::renew(&apart::link(&config), "gateway", now(), term)?;
    println!("# for the [coordinator] of every signer");
    println!("public_key = \"{}\"", identity.pin());
    Ok(())
}

fn own_passphrase_file() -> PathBuf {
    PathBuf::from("passphrase")
}

fn now() -> u64 {
    SystemClock.unix_seconds()
}

fn term(days: u32) -> Duration {
    Duration::from_secs(u64::from(days).saturating_mul(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = include_str!("../config/apart/gateway.toml");
    const SIGNERS: [&str; 3] = [
        include_str!("../config/apart/signer-1.toml"),
        include_str!("../config/apart/signer-2.toml"),
        include_str!("../config/apart/signer-3.toml"),
    ];

    fn signers() -> Vec<SignerFile> {
        SIGNERS.iter().map(|text| toml::from_str(text).expect("the example parses")).collect()
    }

    #[test]
    fn the_example_of_three_hosts_fits_together() {
        let gateway: Config = toml::from_str(GATEWAY).expect("the example parses");
        gateway.check().expect("its parts fit together");
        gateway.policy().expect("its policy compiles");
        let (signers, apart) = (signers(), &gateway.signers.apart);
        let names = |names: Vec<&SignerId>| names.into_iter().cloned().collect::<BTreeSet<_>>();
        let all = names(apart.iter().map(|signer| &signer.name).collect());
        assert_eq!(names(signers.iter().map(|signer| &signer.name).collect()), all);
        assert_eq!(apart.iter().filter_map(|signer| signer.region.as_ref()).collect::<BTreeSet<_>>().len(), 2);
        for signer in &signers {
            assert_eq!(signer.threshold, gateway.signers.threshold);
            assert_eq!(names(signer.peers.keys().collect()), all);
            assert_eq!(signer.wallets, gateway.wallets);
            assert_eq!((&signer.audience, &signer.credentials), (&gateway.audience, &gateway.credentials));
            assert_eq!(signer.policy, gateway.policy);
        }
    }

    #[test]
    fn a_gateway_has_signers_here_or_apart_and_not_both() {
        let check = |text: String| toml::from_str::<Config>(&text).expect("it parses").check();
        assert!(check(GATEWAY.to_owned()).is_ok());
        let (head, rest) = GATEWAY.split_once("\n[[signers.apart]]\n").expect("signers are named");
        let (_, rest) = rest.split_once("\n[[keys]]\n").expect("keys follow");
        let alone = |settings: &str| format!("{head}\n{settings}\n[[keys]]\n{rest}");
        let here = "names = [\"a\", \"b\"]";
        assert!(check(GATEWAY.replace("listen = ", "# listen = ")).is_err(), "nowhere to dial in");
        assert!(check(GATEWAY.replace("threshold = 2", &format!("threshold = 2\n{here}"))).is_err(), "both");
        assert!(check(alone("")).is_err(), "none");
        assert!(check(alone(here)).is_err(), "a place to dial in, for nobody");
        assert!(check(alone(here).replace("listen = ", "# listen = ")).is_err(), "regions, of nobody");
        let plain = alone(here).replace("listen = ", "# listen = ").replace("min_regions = 2", "");
        assert!(check(plain).is_ok());
    }

    #[test]
    fn the_examples_have_different_seals() {
        let kind = |signer: &SignerFile| match signer.seal_entry().expect("it parses") {
            None => "shared passphrase",
            Some(SealConfig::Software { .. }) => "own passphrase",
            Some(SealConfig::Pkcs11 { .. }) => "hardware",
        };
        let kinds = signers().iter().map(kind).collect::<Vec<_>>();
        assert_eq!(kinds, ["shared passphrase", "hardware", "own passphrase"]);
    }

    #[test]
    fn unknown_settings_are_refused() {
        for place in ["threshold = ", "address = ", "key = ", "role = ", "assets = "] {
            let text = SIGNERS[1].replacen(place, &format!("surprise = 1\n{place}"), 1);
            assert_ne!(text, SIGNERS[1], "{place}");
            assert!(toml::from_str::<SignerFile>(&text).is_err(), "{place}");
        }
        let text = SIGNERS[1].replacen("token = ", "surprise = 1\ntoken = ", 1);
        let file: SignerFile = toml::from_str(&text).expect("the seal is read on its own");
        assert!(file.seal_entry().is_err());
    }
}
