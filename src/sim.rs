//! `portcullis sim`: what is done with simulated chains beside running on them.

mod crash;
mod up;

use clap::{Args, Subcommand};

use crate::cli::Failure;
use crate::serve;

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Debug, Subcommand)]
enum SimCommand {
    /// Starts the simulated chains alone, for any client, until it is told to stop.
    Up(up::UpArgs),
    /// Kills the gateway at every step of a payment, starts it again, and holds what it made of it against the chain.
    CrashMatrix(crash::MatrixArgs),
    /// Switches known bugs on, one at a time, and sees whether the crash matrix catches each.
    MutationCheck(crash::MutationArgs),
}

/// Does it.
///
/// # Errors
/// What was found wrong, or why it can't be done.
pub(crate) async fn run(args: SimArgs) -> Result<(), Failure> {
    match args.command {
        SimCommand::Up(args) => up::run(args).await,
        SimCommand::CrashMatrix(args) => unless_stopped(crash::matrix(args)).await,
        SimCommand::MutationCheck(args) => unless_stopped(crash::mutations(args)).await,
    }
}

/// Whoever is told to stop takes its processes along.
async fn unless_stopped(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        done = work => done,
        told = serve::stop_signal() => {
            told?;
            Err("stopped".into())
        }
    }
}
