//! `portcullis keys recover`: escrows and the signers that are left become a pool in a fresh folder.

use std::path::{Path, PathBuf};

use clap::Args;
use rand_core::{OsRng, RngCore};
use signer::escrow::{Recovered, Recovery};
use signer::pool::{PoolConfig, Progress, SignerConfig, SignerId};

use super::open_escrow;
use crate::cli::{ConfigArgs, Failure};
use crate::config::Config;
use crate::{credential, house, serve, signer as station};

/// What to recover, from whom, to where.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// An escrow file; name it again for each key.
    #[arg(long, required = true)]
    escrow: Vec<PathBuf>,
    /// The file with the holder's age identity.
    #[arg(long)]
    identity: PathBuf,
    #[command(flatten)]
    live: LiveArgs,
    /// The data folder to be: the pool's signers in it must not hold these keys.
    #[arg(long)]
    out: PathBuf,
}

/// The signers that are left.
#[derive(Clone, Debug, Args)]
pub(super) struct LiveArgs {
    /// Their names, where their folders are in the configuration's data folder.
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    signers: Vec<SignerId>,
    /// The configuration files of signers apart, whose folders these name.
    #[arg(long)]
    signer_config: Vec<PathBuf>,
}

impl LiveArgs {
    /// Their folders and seals.
    ///
    /// # Errors
    /// Where one is not configured, or none is named.
    pub(super) fn folders(&self, config: &Config) -> Result<Vec<SignerConfig>, Failure> {
        let mut folders = Vec::new();
        for name in &self.signers {
            if !config.signers.names.contains(name) {
                return Err(format!("{name} is no signer of this configuration; name its file: --signer-config").into());
            }
            let dir = config.path("signers".as_ref()).join(name.as_str());
            folders.push(SignerConfig { id: name.clone(), seal: house::seal(config, name, &dir)?, dir });
        }
        for path in &self.signer_config {
            folders.push(station::folder(path)?);
        }
        if folders.is_empty() {
            return Err("name the signers that are left: --signers signer-1".into());
        }
        Ok(folders)
    }
}

/// Recovers.
///
/// # Errors
/// What stands in the way.
pub(crate) async fn run(args: RecoverArgs) -> Result<(), Failure> {
    let RecoverArgs { config, escrow, identity, live, out } = args;
    let config = serve::load(&config)?;
    let escrows = escrow.iter().map(|file| open_escrow(file, &identity)).collect::<Result<Vec<_>, _>>()?;
    let live = live.folders(&config)?;
    let next = elsewhere(&config, &out)?;
    passphrase(&next)?;
    for escrow in &escrows {
        let key = escrow.key();
        let recovery =
            Recovery { pool: pool(&next)?, live: live.clone(), scratch: out.join(format!("in-passing-{key}")) };
        let recovered = recovery.run(escrow, |progress| tell(&progress)).await?;
        let Recovered { key, group, epoch, holders } = recovered;
        let holders = holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        println!("key      {key}: epoch {epoch}, held by {holders}\n  public   {group}");
    }
    for missing in config.keys.iter().filter(|key| !escrows.iter().any(|escrow| *escrow.key() == key.id)) {
        println!("WARNING  {} was not recovered; take it and its wallets out of the configuration, or", missing.id);
        println!("WARNING  the gateway generates ANOTHER key under that name.");
    }
    println!("data     {}", out.display());
    println!("Serve it with --data-dir {}; these signers run in one process, sealed under", out.display());
    println!(
        "{}: take [[signers.apart]] and [[signers.seals]] out.",
        next.path(&next.signers.passphrase_file).display()
    );
    println!("The shares that were brought together are worthless beside the new ones only once the old folders are");
    println!("erased. Move the funds to a key of a pool whose signers stand apart.");
    Ok(())
}

pub(super) fn tell(progress: &Progress) {
    if let Progress::Resharing { key, round, of } = progress {
        println!("reshare  {key}: round {round} of {of}");
    }
}

/// The same configuration with everything durable in another folder, and all signers in this process under the software
/// seal.
pub(super) fn elsewhere(config: &Config, data_dir: &Path) -> Result<Config, Failure> {
    let mut next = config.clone();
    let from = std::path::absolute(&config.data_dir)?;
    next.data_dir = std::path::absolute(data_dir)?;
    for credential in &mut next.credentials {
        credential.public_key_file = from.join(&credential.public_key_file);
    }
    let signers = &mut next.signers;
    if signers.names.is_empty() {
        signers.names = signers.apart.iter().map(|signer| signer.name.clone()).collect();
    }
    signers.apart.clear();
    signers.seals.clear();
    (signers.listen, signers.min_regions, signers.refresh_every_hours) = (None, 0, None);
    signers.passphrase_file = PathBuf::from("signers/passphrase");
    next.check()?;
    Ok(next)
}

/// Makes the passphrase of a fresh folder's seals, where there is none.
pub(super) fn passphrase(config: &Config) -> Result<(), Failure> {
    let passphrase = config.path(&config.signers.passphrase_file);
    if !passphrase.exists() {
        let mut random = [0; 32];
        OsRng.fill_bytes(&mut random);
        credential::write_secret(&passphrase, hex::encode(random).as_bytes())?;
    }
    Ok(())
}

/// The pool of a configuration whose signers are all in this process.
pub(super) fn pool(config: &Config) -> Result<PoolConfig, Failure> {
    house::pool_config(config)
}
