//! `portcullis keys`: what is done with keys while the gateway doesn't run: listing, escrow, recovery, drills, import.
//!
//! Each of these opens the signers' folders itself; a gateway that runs holds them locked. Signers apart keep running: they
//! dial in here as they would at the gateway.

mod drill;
mod recover;
mod secret;

use std::path::{Path, PathBuf};

use chains::account::KeyId;
use clap::{Args, Subcommand};
use gateway::clock::{Clock, SystemClock};
use signer::escrow::{Escrow, Identity, Recipient};
use signer::pool::{KeySpec, KeyStatus, Pool, Progress, SchemeId};

use crate::cli::{ConfigArgs, Failure};
use crate::{credential, house, serve};

/// What can be said to `portcullis keys`.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Shows every key: who holds it, at which epoch, and whether its escrow is stale.
    List(ConfigArgs),
    /// Makes a recovery share of a key that only its holder can open, an age file. Make another after each refresh.
    Escrow(EscrowArgs),
    /// Makes a pool in a fresh folder from escrows and the folders of the signers that are left.
    Recover(recover::RecoverArgs),
    /// Proves that an escrow and your own signers move funds while the others are away, and that either alone doesn't.
    Drill(drill::DrillArgs),
    /// Splits a key that exists among the signers. Copies of it may exist: prefer generated keys.
    Import(ImportArgs),
}

/// What to put in escrow, for whom.
#[derive(Debug, Args)]
struct EscrowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The key.
    #[arg(long)]
    key: KeyId,
    /// The holder's age recipient, `age1…`, as age-keygen prints it.
    #[arg(long)]
    recipient: Recipient,
    /// The file to write; it must not exist.
    #[arg(long)]
    out: PathBuf,
}

/// What to import.
#[derive(Debug, Args)]
struct ImportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The name that the key is to have.
    #[arg(long)]
    key: KeyId,
    /// How it signs: ecdsa, taproot or ed25519.
    #[arg(long, value_parser = scheme)]
    scheme: SchemeId,
    /// A file with the secret: 64 hexadecimal digits, 32 raw bytes, a Bitcoin WIF, or a Solana keypair (JSON). It is left
    /// as it is.
    #[arg(long)]
    secret_file: PathBuf,
    /// The BIP-32 chain code, 64 hexadecimal digits, where children of an ECDSA key are in use; random if left out.
    #[arg(long)]
    chain_code: Option<String>,
}

/// Does what was asked.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(args: KeysArgs) -> Result<(), Failure> {
    match args.command {
        KeysCommand::List(args) => list(&args).await,
        KeysCommand::Escrow(args) => escrow(args).await,
        KeysCommand::Recover(args) => recover::run(args).await,
        KeysCommand::Drill(args) => drill::run(args).await,
        KeysCommand::Import(args) => import(args).await,
    }
}

async fn list(args: &ConfigArgs) -> Result<(), Failure> {
    let config = serve::load(args)?;
    let pool = house::gather(&config, &|line| println!("{line}")).await?;
    let status = pool.status().await;
    for signer in status.signers.iter().filter(|signer| !signer.up) {
        println!("signer   {} is away: {}", signer.signer, signer.problem.as_deref().unwrap_or("no answer"));
    }
    for key in &status.keys {
        show(key);
    }
    for key in config.keys.iter().filter(|key| !status.keys.iter().any(|held| held.key == key.id)) {
        println!("key      {}: {}, not generated yet, or too few of its shares are here", key.id, key.scheme);
    }
    Ok(())
}

fn show(key: &KeyStatus) {
    println!("key      {}: {}, {} of {}, epoch {}", key.key, key.scheme, key.threshold, key.shares, key.epoch);
    println!("  public   {}", key.public_key);
    let names = |names: &[signer::pool::SignerId]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    println!("  holders  {}; up: {}; may fail: {}", names(&key.holders), names(&key.signers_up), key.faults_tolerated);
    println!("  since    {}", key.since.map_or_else(|| "unknown".to_owned(), |at| format!("{at} ms (Unix)")));
    println!("  escrow   {}", escrow_state(key));
}

/// Whether a key's escrow is worth anything.
fn escrow_state(key: &KeyStatus) -> String {
    match key.escrowed {
        None => "none".to_owned(),
        Some(epoch) if epoch == key.epoch => format!("of epoch {epoch}"),
        Some(epoch) => format!("STALE: of epoch {epoch}, worth nothing at epoch {}; make another", key.epoch),
    }
}

async fn escrow(args: EscrowArgs) -> Result<(), Failure> {
    let EscrowArgs { config, key, recipient, out } = args;
    let config = serve::load(&config)?;
    if out.exists() {
        return Err(format!("{} exists; an escrow is never written over another", out.display()).into());
    }
    let pool = house::gather(&config, &|line| println!("{line}")).await?;
    // Whoever runs the signers in this process says whom they may help for; signers apart say so for themselves.
    pool.permit_escrow(&recipient);
    let file = pool.escrow(&key, &recipient, SystemClock.unix_millis()).await?;
    credential::write_secret(&out, file.text().as_bytes())?;
    pool.note_escrow(&file).await?;
    let helpers = file.helpers().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    println!("escrow   {key}: epoch {}, made by {helpers} for {recipient}", file.epoch());
    println!("file     {}", out.display());
    println!(
        "It is one share: with {} other(s) it moves funds. Give it to its holder, and drill.",
        threshold(&pool, &key).await
    );
    println!("A refresh or a reshare of {key} makes it worthless: make another one then.");
    Ok(())
}

/// How many shares it takes beside the escrow.
async fn threshold(pool: &Pool, key: &KeyId) -> u16 {
    let status = pool.status().await;
    let status = status.keys.into_iter().find(|status| status.key == *key);
    status.map_or(1, |status| status.threshold.saturating_sub(1))
}

async fn import(args: ImportArgs) -> Result<(), Failure> {
    let ImportArgs { config, key, scheme, secret_file, chain_code } = args;
    let config = serve::load(&config)?;
    if !config.signers.apart.is_empty() {
        return Err(
            "signers apart can't be handed a key that somebody else knows; import into a pool in one process, \
                    then reshare"
                .into(),
        );
    }
    if let Some(other) = config.keys.iter().find(|entry| entry.id == key && entry.scheme != scheme) {
        return Err(format!("the configuration calls {key} a {} key; correct one of them", other.scheme).into());
    }
    let secret = secret::read(&secret_file, scheme, chain_code.as_deref())?;
    let pool = house::gather(&config, &|line| println!("{line}")).await?;
    let spec = KeySpec { key: key.clone(), scheme };
    let group = pool
        .import(&spec, secret, |progress| {
            if let Progress::ImportWarning { key } = progress {
                println!("WARNING  {key} was whole: copies may exist that no ceremony can find or erase.");
                println!("WARNING  Generate a key where you can, and move the funds there.");
            }
        })
        .await?;
    println!("key      {key}: {scheme}, imported");
    println!("public   {group}");
    println!("{} is as it was; erase it, and every other copy.", secret_file.display());
    if !config.keys.iter().any(|entry| entry.id == key) {
        println!("The configuration doesn't name {key} yet: add it to [[keys]].");
    }
    Ok(())
}

/// Opens an escrow with the identity in a file.
///
/// # Errors
/// Where either can't be read, or they don't fit.
fn open_escrow(file: &Path, identity: &Path) -> Result<Escrow, Failure> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()));
    let text = zeroize::Zeroizing::new(read(identity)?);
    let text = std::str::from_utf8(&text).map_err(|_| format!("{}: no text", identity.display()))?;
    let identity = Identity::read(text).map_err(|error| format!("{}: {error}", identity.display()))?;
    Ok(Escrow::open(&read(file)?, &identity).map_err(|error| format!("{}: {error}", file.display()))?)
}

fn scheme(text: &str) -> Result<SchemeId, String> {
    let known = SchemeId::ALL.into_iter().find(|scheme| scheme.name() == text);
    known.ok_or_else(|| "a scheme is ecdsa, taproot or ed25519".to_owned())
}
