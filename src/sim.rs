//! `portcullis sim`: what is done with simulated chains beside running on them.

mod crash;
mod run;
mod up;

pub(crate) use self::run::BadScenario;

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::{Args, Subcommand};

use crate::cli::Failure;
use crate::serve;

/// How many ports there are to choose among.
const PORTS: u32 = 12_000;

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
    /// Runs a scenario against the real gateway on simulated chains, and holds what came of it against the chains. Ends with 1
    /// where a claim doesn't hold, with 2 where the scenario can't be run.
    Run(run::RunArgs),
    /// Runs every scenario that comes with the binary.
    Scenarios(run::TableArgs),
    /// Renders a run's page again, from its JSON.
    Report(run::ReportArgs),
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
        SimCommand::Run(args) => unless_stopped(run::run(args)).await,
        SimCommand::Scenarios(args) => unless_stopped(run::table(args)).await,
        SimCommand::Report(args) => run::report(&args),
        SimCommand::CrashMatrix(args) => unless_stopped(crash::matrix(args)).await,
        SimCommand::MutationCheck(args) => unless_stopped(crash::mutations(args)).await,
    }
}

/// A port that is free, and below those that systems give out by themselves, so that it stays free until it is bound, and over
/// restarts.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let ports = (0..PORTS).map(|number| 20_000 + start.wrapping_add(number) % PORTS);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))
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
