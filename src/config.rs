//! The configuration file: parsed strictly, then turned into what the crates want.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chains::account::{KeyId, WalletId};
use chains::network::Network;
use gateway::config::{
    ApprovalsConfig, CredentialConfig, GatewayConfig, NetworkConfig, ServerConfig, StoreConfig, WalletConfig,
};
use gateway::screening::ScreeningConfig;
use gateway::travel::TravelConfig;
use serde::Deserialize;
use signer::approval::Approver;
use signer::approval::passkey::Passkey;
use signer::policy::{Policy, PolicyConfig};
use signer::pool::{KeySpec, Region, SchemeId, SignerId, WalletSpec};
use signer::roster::{Audience, Credential, CredentialId, Roster};
use signer::transport::grpc::Pin;

use crate::credential;

/// The shipped configuration, which `portcullis dev` runs on.
pub(crate) const DEFAULT: &str = include_str!("../config/portcullis.toml");

/// The shortest lease, in milliseconds.
const MIN_LEASE_MS: u64 = 1_000;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where everything durable lives.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// The JSON-RPC server.
    #[serde(default)]
    pub server: ServerConfig,
    /// This gateway among those that share a store.
    #[serde(default)]
    pub gateway: GatewayConfig,
    /// Where payments are kept.
    #[serde(default)]
    pub store: StoreConfig,
    /// The signers.
    pub signers: SignersConfig,
    /// Networks and their nodes.
    pub networks: Vec<NetworkConfig>,
    /// Keys.
    pub keys: Vec<KeyConfig>,
    /// Wallets.
    pub wallets: Vec<WalletConfig>,
    /// The name of this deployment, which requests have to carry as `aud`; without one they may carry none.
    #[serde(default)]
    pub audience: Option<Audience>,
    /// Who may ask.
    #[serde(default)]
    pub credentials: Vec<CredentialConfig>,
    /// What is allowed.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// What parties are looked up in.
    #[serde(default)]
    pub screening: ScreeningConfig,
    /// Payments that wait for people.
    #[serde(default)]
    pub approvals: ApprovalsConfig,
    /// From which amounts on the Travel Rule wants data.
    #[serde(default)]
    pub travel: TravelConfig,
    /// The simulated chains, where there are such.
    #[serde(default)]
    pub simulator: Option<SimulatorConfig>,
}

/// A key that the signers hold together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyConfig {
    /// Its name.
    pub id: KeyId,
    /// How it signs.
    pub scheme: SchemeId,
}

/// The signers, all in this process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignersConfig {
    /// Their names; as many signers as names. None where they run in processes of their own.
    #[serde(default)]
    pub names: Vec<SignerId>,
    /// So many sign.
    pub threshold: u16,
    /// For a whole signature, in milliseconds.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
    /// For one answer of one signer, in milliseconds.
    #[serde(default = "default_round_timeout_ms")]
    pub round_timeout_ms: u64,
    /// After how many hours the shares of a key are refreshed; never by themselves if left out.
    #[serde(default)]
    pub refresh_every_hours: Option<NonZeroU32>,
    /// A file with the passphrase of the software seal.
    #[serde(default = "default_passphrase_file")]
    pub passphrase_file: PathBuf,
    /// Where signers in processes of their own dial in.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Those signers.
    #[serde(default)]
    pub apart: Vec<ApartEntry>,
    /// In how many of their regions a quorum has to be.
    #[serde(default)]
    pub min_regions: u16,
    /// What seals the shares of those signers that don't use the software seal.
    #[serde(default)]
    pub seals: Vec<SealConfig>,
}

/// A signer in a process of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApartEntry {
    /// Its name.
    pub name: SignerId,
    /// The key that it is known by, as `portcullis signer init` prints it.
    pub public_key: Pin,
    /// Where it stands.
    #[serde(default)]
    pub region: Option<Region>,
}

/// What seals one signer's shares.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[cfg_attr(not(feature = "pkcs11"), allow(dead_code, reason = "read, and refused, without PKCS#11 too"))]
pub(crate) enum SealConfig {
    /// A key file under a passphrase.
    Software {
        /// The signer.
        signer: SignerId,
        /// A passphrase of its own; without one, that of all signers.
        passphrase_file: Option<PathBuf>,
    },
    /// A key in a hardware security module.
    Pkcs11 {
        /// The signer.
        signer: SignerId,
        /// The vendor's library.
        module: PathBuf,
        /// The token's label.
        token: String,
        /// A file with the PIN on its first line; or else:
        pin_file: Option<PathBuf>,
        /// An environment variable with the PIN.
        pin_env: Option<String>,
        /// The key's label.
        key: String,
        /// Whether the key is made where the token doesn't hold it.
        #[serde(default)]
        create_key: bool,
    },
}

impl SealConfig {
    /// Whose it is.
    pub(crate) const fn signer(&self) -> &SignerId {
        match self {
            Self::Software { signer, .. } | Self::Pkcs11 { signer, .. } => signer,
        }
    }
}

impl SignersConfig {
    /// The limit of a whole signature.
    pub(crate) const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// How old the shares of a key get, where they are refreshed on a schedule.
    pub(crate) fn refresh_every(&self) -> Option<Duration> {
        self.refresh_every_hours.map(|hours| Duration::from_secs(3600 * u64::from(hours.get())))
    }

    /// The limit of one answer.
    pub(crate) const fn round_timeout(&self) -> Duration {
        Duration::from_millis(self.round_timeout_ms)
    }
}

/// The simulated chains.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "simulator"), expect(dead_code, reason = "read, and refused, without the simulator too"))]
pub(crate) struct SimulatorConfig {
    /// The Bitcoin node.
    pub bitcoin: SimulatedNode,
    /// The Ethereum node.
    pub ethereum: SimulatedNode,
    /// The Solana node.
    pub solana: SimulatedNode,
}

/// One simulated node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "simulator"), expect(dead_code, reason = "read, and refused, without the simulator too"))]
pub(crate) struct SimulatedNode {
    /// Where it listens.
    pub listen: std::net::SocketAddr,
    /// How long a block (Solana: a slot) takes, in milliseconds.
    pub block_interval_ms: u64,
    /// After how many blocks or slots it calls one final.
    #[serde(default)]
    pub finality_depth: Option<u64>,
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("portcullis-data")
}

fn default_passphrase_file() -> PathBuf {
    PathBuf::from("signers/passphrase")
}

const fn default_deadline_ms() -> u64 {
    10_000
}

const fn default_round_timeout_ms() -> u64 {
    3_000
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("can't read {path}: {reason}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The file isn't what it should be.
    #[error("{path}: {reason}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        reason: toml::de::Error,
    },
    /// The settings contradict each other.
    #[error("configuration: {0}")]
    Invalid(String),
}

/// Puts what the files say that the policy's rules name into the policy: ABIs and IDLs.
///
/// # Errors
/// Where one can't be read, or hasn't what the rule wants of it.
pub(crate) fn read_policy_files(
    policy: &mut PolicyConfig,
    place: impl Fn(&Path) -> PathBuf,
) -> Result<(), ConfigError> {
    let read = |name: &str| {
        let path = place(Path::new(name));
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    policy.read_files(read).map_err(|error| ConfigError::Invalid(error.to_string()))
}

impl Config {
    /// Reads a file; without one, the shipped configuration.
    ///
    /// # Errors
    /// Where it can't be read or holds what isn't known.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, text) = match path {
            None => (PathBuf::from("config/portcullis.toml (built in)"), DEFAULT.to_owned()),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })?;
                (path.to_owned(), text)
            }
        };
        let mut config: Self = toml::from_str(&text).map_err(|reason| ConfigError::Parse { path, reason })?;
        let mut policy = std::mem::take(&mut config.policy);
        read_policy_files(&mut policy, |path| config.path(path))?;
        Ok(Self { policy, ..config })
    }

    /// A path of the file: relative ones start at the data folder.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.data_dir.join(path)
    }

    /// The keys as the signers know them.
    pub(crate) fn key_specs(&self) -> Vec<KeySpec> {
        self.keys.iter().map(|key| KeySpec { key: key.id.clone(), scheme: key.scheme }).collect()
    }

    /// The wallets as the signers know them.
    pub(crate) fn wallet_specs(&self) -> Vec<WalletSpec> {
        wallet_specs(&self.wallets)
    }

    /// Checks what one part says of another: names that are used twice or that name nothing.
    ///
    /// # Errors
    /// The first contradiction.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let invalid = |what: String| Err(ConfigError::Invalid(what));
        let mut seen = BTreeMap::new();
        for wallet in &self.wallets {
            if seen.insert(&wallet.id, ()).is_some() {
                return invalid(format!("wallet {} is named twice", wallet.id));
            }
            if !self.networks.iter().any(|network| network.id == wallet.network) {
                return invalid(format!("wallet {}: there is no network {}", wallet.id, wallet.network));
            }
            if !self.keys.iter().any(|key| key.id == wallet.key) {
                return invalid(format!("wallet {}: there is no key {}", wallet.id, wallet.key));
            }
        }
        if self.gateway.lease_ms < MIN_LEASE_MS {
            return invalid(format!("gateway.lease_ms is below {MIN_LEASE_MS}; a lease must outlast a slow disk"));
        }
        self.check_seals()?;
        self.check_apart()?;
        let mut seen = BTreeMap::new();
        for network in &self.networks {
            if seen.insert(network.id, ()).is_some() {
                return invalid(format!("network {} is named twice", network.id));
            }
            let nodes = network.endpoints.len().max(1);
            if network.finality_agreement.is_some_and(|agreement| !(1..=nodes).contains(&agreement)) {
                return invalid(format!("network {}: finality_agreement is from 1 to its {nodes} nodes", network.id));
            }
            if network.endpoints.is_empty() && self.simulator.is_none() {
                return invalid(format!("network {} has no endpoint, and there is no [simulator]", network.id));
            }
        }
        Ok(())
    }

    fn check_seals(&self) -> Result<(), ConfigError> {
        let invalid = |what: String| Err(ConfigError::Invalid(what));
        let mut seen = BTreeMap::new();
        for seal in &self.signers.seals {
            let signer = seal.signer();
            if !self.signers.names.contains(signer) {
                return invalid(format!("a seal is for {signer}, and there is no such signer"));
            }
            if seen.insert(signer, ()).is_some() {
                return invalid(format!("signer {signer} has two seals"));
            }
            if let SealConfig::Pkcs11 { pin_file, pin_env, .. } = seal {
                if pin_file.is_some() == pin_env.is_some() {
                    return invalid(format!("the seal of {signer} needs a pin_file or a pin_env, one of them"));
                }
                if !cfg!(feature = "pkcs11") {
                    return invalid(format!(
                        "the seal of {signer}: this binary was built without the feature `pkcs11`"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The policy, every address in it parsed and checked.
    ///
    /// # Errors
    /// Where a rule names what doesn't exist.
    pub(crate) fn policy(&self) -> Result<Policy, ConfigError> {
        let networks: BTreeMap<WalletId, Network> =
            self.wallets.iter().map(|wallet| (wallet.id.clone(), wallet.network)).collect();
        self.policy.compile(&networks).map_err(|error| ConfigError::Invalid(error.to_string()))
    }

    /// The roster, its public keys read from their files.
    ///
    /// # Errors
    /// Where a file can't be read, or an id or a key stands twice.
    pub(crate) fn roster(&self) -> Result<Roster, ConfigError> {
        Ok(roster(&self.credentials, |path| self.path(path))?.for_audience(self.audience.clone()))
    }

    fn check_apart(&self) -> Result<(), ConfigError> {
        let invalid = |what: &str| Err(ConfigError::Invalid(what.to_owned()));
        let SignersConfig { names, listen, apart, min_regions, .. } = &self.signers;
        match (names.is_empty(), apart.is_empty(), listen) {
            (false, true, None) if *min_regions == 0 => Ok(()),
            (false, true, None) => invalid("signers.min_regions is a rule for signers apart; leave it out"),
            (true, false, Some(_)) => Ok(()),
            (true, false, None) => invalid("signers apart need signers.listen, where they dial in"),
            (false, true, Some(_)) => invalid("signers.listen is for signers apart, and none is named"),
            (true, true, _) => invalid("no signers are named: signers.names, or [[signers.apart]]"),
            (false, false, _) => invalid("signers run in this process or apart: signers.names or [[signers.apart]]"),
        }
    }
}

/// The wallets as the signers know them.
pub(crate) fn wallet_specs(wallets: &[WalletConfig]) -> Vec<WalletSpec> {
    let spec = |wallet: &WalletConfig| WalletSpec {
        wallet: wallet.id.clone(),
        network: wallet.network,
        key: wallet.key.clone(),
        path: wallet.path.clone(),
    };
    wallets.iter().map(spec).collect()
}

/// A roster of these credentials, their public keys read from their files.
///
/// # Errors
/// Where a file can't be read, or an id or a key stands twice.
pub(crate) fn roster(credentials: &[CredentialConfig], path: impl Fn(&Path) -> PathBuf) -> Result<Roster, ConfigError> {
    let people = people(credentials, &path)?;
    let credentials = credentials.iter().map(|entry| {
        let public_key = credential::read_public_key(&path(&entry.public_key_file))
            .map_err(|error| ConfigError::Invalid(error.to_string()))?;
        Ok(Credential { id: entry.id.clone(), role: entry.role, public_key })
    });
    let credentials = credentials.collect::<Result<Vec<_>, ConfigError>>()?;
    let roster = Roster::new(credentials).and_then(|roster| roster.with_people(people));
    roster.map_err(|error| ConfigError::Invalid(error.to_string()))
}

/// The people behind the credentials that name one, their passkeys read from their files.
fn people(
    credentials: &[CredentialConfig],
    path: impl Fn(&Path) -> PathBuf,
) -> Result<BTreeMap<CredentialId, Approver>, ConfigError> {
    let mut people = BTreeMap::new();
    for entry in credentials {
        let Some(person) = &entry.person else {
            if entry.groups.is_empty() && entry.passkeys.is_empty() {
                continue;
            }
            let what = format!("credential {}: groups and passkeys are a person's; name the person", entry.id);
            return Err(ConfigError::Invalid(what));
        };
        let passkeys = entry.passkeys.iter().map(|passkey| {
            let file = path(&passkey.public_key_file);
            let unusable = |error: String| ConfigError::Invalid(format!("{}: {error}", file.display()));
            let pem = std::fs::read_to_string(&file).map_err(|error| unusable(error.to_string()))?;
            Passkey::new(&pem, passkey.relying_party.clone(), passkey.origins.clone())
                .map_err(|error| unusable(error.to_string()))
        });
        let passkeys = passkeys.collect::<Result<Vec<_>, ConfigError>>()?;
        let approver = Approver { person: person.clone(), groups: entry.groups.clone(), passkeys };
        people.insert(entry.id.clone(), approver);
    }
    Ok(people)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_sound() {
        let config = Config::load(None).expect("the shipped file parses");
        config.check().expect("its parts fit together");
        config.policy().expect("its policy compiles");
    }

    #[test]
    fn the_shipped_file_shows_the_defaults() {
        let config = Config::load(None).expect("the shipped file parses");
        assert_eq!(config.server, ServerConfig::default());
        assert_eq!(config.data_dir, default_data_dir());
        assert_eq!(config.gateway, GatewayConfig::default());
        assert_eq!(config.store, StoreConfig::default());
        assert_eq!(config.signers.deadline_ms, default_deadline_ms());
        assert_eq!(config.signers.round_timeout_ms, default_round_timeout_ms());
    }

    /// The shipped file with its example seal switched on, and `extra` in it.
    fn with_seal(extra: &str) -> String {
        let (start, rest) = DEFAULT.split_once("# [[signers.seals]]\n").expect("the example is there");
        let (example, rest) = rest.split_once("\n\n").expect("it ends");
        let example = example.lines().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join("\n");
        format!("{start}[[signers.seals]]\n{example}\n{extra}\n\n{rest}")
    }

    #[cfg(feature = "pkcs11")]
    #[test]
    fn the_shipped_example_of_a_seal_works() {
        let config: Config = toml::from_str(&with_seal("")).expect("the example parses");
        config.check().expect("it fits");
        let [SealConfig::Pkcs11 { signer, pin_file: Some(_), create_key: false, .. }] = config.signers.seals.as_slice()
        else {
            panic!("{:?}", config.signers.seals)
        };
        assert_eq!(*signer, config.signers.names[0]);
    }

    #[test]
    fn seals_that_contradict_are_refused() {
        let software = "\n[[signers.seals]]\nsigner = \"signer-1\"\nkind = \"software\"";
        let nobody = "\n[[signers.seals]]\nsigner = \"nobody\"\nkind = \"software\"";
        for extra in ["pin_env = \"PIN\"", software, nobody] {
            let config: Config = toml::from_str(&with_seal(extra)).expect("it parses");
            assert!(matches!(config.check(), Err(ConfigError::Invalid(_))), "{extra}");
        }
        // A PIN has no place in the file.
        for extra in ["pin = \"1234\"", "surprise = 1"] {
            assert!(toml::from_str::<Config>(&with_seal(extra)).is_err(), "{extra}");
        }
    }

    #[test]
    fn unknown_settings_are_refused() {
        for place in
            ["data_dir = ", "listen = ", "threshold = ", "scheme = ", "timeout_ms = ", "key = ", "role = ", "assets = "]
        {
            let text = DEFAULT.replacen(place, &format!("surprise = 1\n{place}"), 1);
            assert_ne!(text, DEFAULT, "{place}");
            assert!(toml::from_str::<Config>(&text).is_err(), "{place}");
        }
        let text = DEFAULT.replacen("block_interval_ms", "surprise = 1, block_interval_ms", 1);
        assert!(toml::from_str::<Config>(&text).is_err());
    }
}
