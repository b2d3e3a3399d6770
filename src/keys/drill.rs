//! `portcullis keys drill`: proves that an escrow works before it is needed.
//!
//! It works on copies of the signers' folders that it is given, and opens no other signer's. Everything that it makes lies
//! in a scratch folder of its own, which is overwritten and removed in the end, whatever comes of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use chains::account::{Account, KeyId, WalletId};
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::intent::{Action, Intent};
use chains::network::Network;
use clap::Args;
use gateway::record::State;
use signer::escrow::{Alone, Escrow, Recovery, wipe};
use signer::policy::PolicyError;
use signer::pool::{Pool, SignerConfig};
use signer::roster::CredentialId;
use uuid::Uuid;

use super::open_escrow;
use super::recover::{LiveArgs, elsewhere, passphrase, pool};
use crate::cli::{ConfigArgs, Failure};
use crate::client::GatewayClient;
use crate::config::Config;
use crate::house::House;
use crate::{serve, tx};

/// What to drill, with whom.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The escrow file.
    #[arg(long)]
    escrow: PathBuf,
    /// The file with the holder's age identity.
    #[arg(long)]
    identity: PathBuf,
    #[command(flatten)]
    live: LiveArgs,
    /// Have the recovered pool make a real payment: from which wallet, to whom, how much in base units. The policy holds.
    /// The gateway must not be running.
    #[arg(long, num_args = 3, value_names = ["WALLET", "TO", "AMOUNT"])]
    pay: Option<Vec<String>>,
    /// What to pay: native, erc20:0x… or spl:MINT.
    #[arg(long, default_value = "native")]
    asset: Asset,
    /// The name of the credential that asks for the payment.
    #[arg(long, env = "PORTCULLIS_CREDENTIAL", default_value = "demo-trader")]
    credential: CredentialId,
    /// The file with its private key, PEM; beside its public key, if left out.
    #[arg(long, env = "PORTCULLIS_KEY")]
    credential_key: Option<PathBuf>,
    /// Where the scratch folder is made: the system's folder for such, if left out. Memory is better than a disk.
    #[arg(long)]
    scratch: Option<PathBuf>,
}

/// A payment to be made.
struct Payment {
    intent: Intent,
    credential: CredentialId,
    key: PathBuf,
}

/// Drills.
///
/// # Errors
/// Where any of it did not hold.
pub(crate) async fn run(args: DrillArgs) -> Result<(), Failure> {
    let config = serve::load(&args.config)?;
    let payment = payment(&args, &config)?;
    let escrow = open_escrow(&args.escrow, &args.identity)?;
    let live = args.live.folders(&config)?;
    // A gateway that runs could give the payment's slot to another one meanwhile.
    let _locks = if payment.is_some() { hold(&config, &live)? } else { Vec::new() };
    let scratch = args.scratch.unwrap_or_else(std::env::temp_dir).join(format!("portcullis-drill-{}", Uuid::now_v7()));
    private_dir(&scratch)?;
    let drilled = drill(&config, &escrow, &live, payment, &scratch).await;
    let wiped = wipe(&scratch);
    match &wiped {
        Ok(()) => report("wiped", &scratch.display()),
        Err(error) => report("FAILED", &format!("{} is left behind with shares in it: {error}", scratch.display())),
    }
    drilled?;
    wiped?;
    println!(
        "\ndrill passed: the escrow and {} move the funds of {}; either alone doesn't",
        names(&live),
        escrow.key()
    );
    Ok(())
}

async fn drill(
    config: &Config,
    escrow: &Escrow,
    live: &[SignerConfig],
    payment: Option<Payment>,
    scratch: &Path,
) -> Result<(), Failure> {
    let key = escrow.key();
    let (t, n) = (escrow.threshold(), escrow.holders().len());
    report(
        "escrow",
        &format!("{key}: {}, share {} beside {n}, {t} sign, epoch {}", escrow.scheme(), escrow.place(), escrow.epoch()),
    );
    report("public", &escrow.group());
    let copies = live.iter().map(|signer| copy(signer, &scratch.join("copies"))).collect::<Result<Vec<_>, _>>()?;
    report("copied", &names(live));
    let away = escrow.holders().iter().filter(|holder| !live.iter().any(|signer| signer.id == **holder));
    let away = away.map(ToString::to_string).collect::<Vec<_>>();
    report("away", &if away.is_empty() { "nobody".to_owned() } else { format!("{}: not opened", away.join(", ")) });

    for (who, with_escrow) in [("the escrow", true), (names(live).as_str(), false)] {
        let place = scratch.join(if with_escrow { "escrow-alone" } else { "signers-alone" });
        let alone = recovery(config, &place, &copies)?.1.alone(escrow, with_escrow).await?;
        match alone {
            Alone::Powerless { said } => report("alone", &format!("{who} can do nothing: {said}")),
            other => {
                let what = format!("{who} alone moves funds ({other:?}); it must not");
                report("FAILED", &what);
                return Err(what.into());
            }
        }
    }

    let (next, recovery) = recovery(config, &scratch.join("recovered"), &copies)?;
    let recovered = recovery.run(escrow, |_| ()).await?;
    let holders = recovered.holders.len();
    report("together", &format!("the escrow and {} make a pool of {holders}, epoch {}", names(live), recovered.epoch));
    if recovered.group != escrow.group() {
        return Err("the recovered pool has another public key".into());
    }
    let specs = next.wallet_specs().into_iter().filter(|spec| spec.key == *key).collect::<Vec<_>>();
    let again = Pool::start(pool(&next)?).await?;
    let proved = again.prove(key).await;
    let accounts = specs.iter().map(|spec| again.account(spec)).collect::<Result<Vec<_>, _>>();
    again.shutdown().await;
    report("signed", &format!("{} shares, test messages, checked by stock verifiers", proved?));
    for account in accounts? {
        report("address", &format!("{} {}, as before", account.wallet(), account.address()));
    }
    match payment {
        None => report("paid", &"nothing: no --pay"),
        Some(payment) => pay(next, escrow, payment).await?,
    }
    Ok(())
}

/// The recovery into a fresh folder, and the configuration of what comes of it.
fn recovery(config: &Config, place: &Path, copies: &[SignerConfig]) -> Result<(Config, Recovery), Failure> {
    let next = elsewhere(config, &place.join("data"))?;
    passphrase(&next)?;
    let recovery = Recovery { pool: pool(&next)?, live: copies.to_vec(), scratch: place.join("in-passing") };
    Ok((next, recovery))
}

/// Pays through a gateway of its own, on the recovered pool: the whole pipeline, with the configuration's policy.
async fn pay(mut next: Config, escrow: &Escrow, payment: Payment) -> Result<(), Failure> {
    only(&mut next, escrow.key());
    if let Some(network) = next.networks.iter().find(|network| network.endpoints.is_empty()) {
        return Err(format!("network {} has no endpoint to pay by; name its node", network.id).into());
    }
    next.server.listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));

    let Payment { intent, credential, key } = payment;
    report("paying", &tx::describe(&intent));
    let house = House::open(&next, &|_| ()).await?;
    let outcome = async {
        let known = |account: &Account| *account.wallet() == intent.wallet;
        if !house.accounts().iter().any(known) {
            return Err(Failure::from(format!("{} is no wallet of key {}", intent.wallet, escrow.key())));
        }
        let client = GatewayClient::new(&format!("http://{}", house.addr()), credential, &key)?
            .for_audience(next.audience.clone());
        let view = tx::submit(&client, &format!("drill-{}", Uuid::now_v7()), &intent).await?;
        let view = tx::walk(&client, view.tx_id).await?;
        if view.state == State::Finalized {
            report("paid", &format!("{}: final on the chain", tx::describe(&intent)));
            return Ok(());
        }
        let reason = view.reason.map(|reason| reason.message).unwrap_or_default();
        Err(Failure::from(format!("the payment ended {}: {reason}", view.state)))
    };
    let outcome = outcome.await;
    house.close().await;
    outcome
}

/// Leaves one key in a configuration, and what hangs on it: the gateway would generate any other key afresh.
fn only(config: &mut Config, key: &KeyId) {
    config.keys.retain(|entry| entry.id == *key);
    config.wallets.retain(|entry| entry.key == *key);
    let networks: BTreeMap<WalletId, Network> = config.wallets.iter().map(|w| (w.id.clone(), w.network)).collect();
    config.networks.retain(|network| networks.values().any(|its| *its == network.id));
    for rule in &mut config.policy.rules {
        rule.wallets.retain(|wallet| networks.contains_key(wallet));
    }
    for limit in &mut config.policy.limits {
        limit.wallets.retain(|wallet| networks.contains_key(wallet));
    }
    config.policy.rules.retain(|rule| !rule.wallets.is_empty());
    config.policy.limits.retain(|limit| !limit.wallets.is_empty());
    // A denied address of a chain that is left out is refused as an address of none.
    while let Err(PolicyError::DeniedAddress(address)) = config.policy.compile(&networks) {
        config.policy.denied_addresses.retain(|denied| *denied != address);
    }
}

fn payment(args: &DrillArgs, config: &Config) -> Result<Option<Payment>, Failure> {
    let Some([wallet, to, amount]) = args.pay.as_deref() else { return Ok(None) };
    let amount: Amount = amount.parse().map_err(|error| format!("{amount}: {error}"))?;
    let wallet: WalletId = wallet.parse().map_err(|error| format!("{wallet}: {error}"))?;
    let action = Action::Transfer { asset: args.asset, to: UncheckedAddress::new(to), amount };
    let intent = Intent { wallet, action, max_fee: None, reference: Some("drill".to_owned()) };
    let credential = args.credential.clone();
    let key = match &args.credential_key {
        Some(key) => key.clone(),
        None => {
            let entry = config.credentials.iter().find(|entry| entry.id == credential);
            let entry = entry.ok_or_else(|| format!("the configuration names no credential {credential}"))?;
            config.path(&entry.public_key_file).with_extension("key")
        }
    };
    Ok(Some(Payment { intent, credential, key }))
}

/// Keeps a gateway or a signer from starting on these folders, and finds out whether one runs.
fn hold(config: &Config, live: &[SignerConfig]) -> Result<Vec<File>, Failure> {
    let own = config.signers.names.iter().map(|name| config.path("signers".as_ref()).join(name.as_str()));
    let mut dirs = own.chain(live.iter().map(|signer| signer.dir.clone())).collect::<Vec<_>>();
    dirs.sort();
    dirs.dedup();
    let mut locks = Vec::new();
    for dir in dirs.into_iter().filter(|dir| dir.is_dir()) {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        if lock.try_lock().is_err() {
            let what = "is in use: stop the gateway before the drill pays, or leave --pay out";
            return Err(format!("{} {what}", dir.display()).into());
        }
        locks.push(lock);
    }
    Ok(locks)
}

/// A copy of what a signer's folder holds of its shares and of what it has signed. Its seal stays where it is.
fn copy(signer: &SignerConfig, to: &Path) -> Result<SignerConfig, Failure> {
    let dir = to.join(signer.id.as_str());
    let (from, vault) = (signer.dir.join("vault"), dir.join("vault"));
    let unreadable = |error: std::io::Error| format!("can't copy {}: {error}", signer.dir.display());
    private_dir(&vault)?;
    for entry in fs::read_dir(&from).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        fs::copy(entry.path(), vault.join(entry.file_name())).map_err(unreadable)?;
    }
    let ledger = signer.dir.join("ledger");
    if ledger.exists() {
        fs::copy(ledger, dir.join("ledger")).map_err(unreadable)?;
    }
    Ok(SignerConfig { dir, ..signer.clone() })
}

fn private_dir(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    Ok(made.map_err(|error| format!("can't make {}: {error}", path.display()))?)
}

fn names(live: &[SignerConfig]) -> String {
    live.iter().map(|signer| signer.id.to_string()).collect::<Vec<_>>().join(", ")
}

fn report(what: &str, text: &dyn std::fmt::Display) {
    println!("{what:<8} {text}");
}
