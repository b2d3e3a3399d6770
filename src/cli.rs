//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::person::passkey;
use crate::{approve, credential, otc, policy, serve, tx};

/// Whatever goes wrong on the way, told to the person who typed.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An institution's gate to the chains: a multi-chain transaction gateway with a threshold signer pool.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts three simulated chains, a signer pool and the gateway; nothing else is needed.
    #[cfg(feature = "simulator")]
    Dev(crate::dev::DevArgs),
    /// Starts the gateway and its signers on the nodes that the configuration names.
    Serve(ConfigArgs),
    /// Runs one signer in a process of its own.
    Signer(crate::signer::SignerArgs),
    /// Lists keys, makes escrows and drills them, recovers, imports; while no gateway runs.
    Keys(crate::keys::KeysArgs),
    /// Puts the gateway to the test on simulated chains.
    #[cfg(feature = "simulator")]
    Sim(crate::sim::SimArgs),
    /// Puts load on a running gateway: payments at a fixed schedule, each followed to its end.
    #[cfg(feature = "simulator")]
    Load(crate::load::LoadArgs),
    /// Asks a running gateway for payments, signed with your credential.
    Tx(tx::TxArgs),
    /// Shows payments that wait for people, and signs an approval or a rejection.
    Approve(approve::ApproveArgs),
    /// Proposes, shows, approves and asks about changes of the policy.
    Policy(policy::PolicyArgs),
    /// Opens, confirms, releases and aborts deals, delivery versus payment.
    Otc(otc::OtcArgs),
    /// Makes a credential: an Ed25519 key pair in PEM.
    Credential(CredentialArgs),
    /// Makes a passkey for approvals, in your browser.
    Passkey(passkey::PasskeyArgs),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file; `config/portcullis.toml` as shipped, if left out.
    #[arg(long, short, env = "PORTCULLIS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where everything durable lives, whatever the configuration says.
    #[arg(long, env = "PORTCULLIS_DATA")]
    pub data_dir: Option<PathBuf>,
}

/// Where the key pair goes.
#[derive(Debug, Args)]
struct CredentialArgs {
    /// The public key's file, for the gateway's configuration; the private key goes beside it, with the ending `.key`.
    public_key_file: PathBuf,
}

impl Cli {
    /// Does what was typed.
    ///
    /// # Errors
    /// What went wrong.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            #[cfg(feature = "simulator")]
            Command::Dev(args) => crate::dev::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Signer(args) => crate::signer::run(args).await,
            Command::Keys(args) => crate::keys::run(args).await,
            #[cfg(feature = "simulator")]
            Command::Sim(args) => crate::sim::run(args).await,
            #[cfg(feature = "simulator")]
            Command::Load(args) => crate::load::run(args).await,
            Command::Tx(args) => tx::run(args).await,
            Command::Approve(args) => approve::run(args).await,
            Command::Policy(args) => policy::run(args).await,
            Command::Otc(args) => otc::run(args).await,
            Command::Credential(args) => {
                let private = credential::ensure_pair(&args.public_key_file)?;
                println!("public   {}\nprivate  {}", args.public_key_file.display(), private.display());
                Ok(())
            }
            Command::Passkey(args) => passkey::make(args).await,
        }
    }
}
