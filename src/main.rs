//! `portcullis`: the one binary. It wires the rooms together and prints; everything else is theirs.
//!
//! - `cli`: what can be typed;
//! - `config`, `credential`: what is read from files;
//! - `house`: the composition root: store, signers, lanes, pipeline, server;
//! - `signer`, `apart`: one signer in a process of its own, and the gateway's end of such signers;
//! - `lanes`: a configured network as the pipeline's lane;
//! - `serve`, `dev`, `demo`: running it, on real or on simulated chains;
//! - `client`, `tx`: asking a running gateway;
//! - `person`: who asks and signs, by a key or by a passkey in the browser;
//! - `approve`, `policy`, `otc`: what people say of payments that wait for them, changes of the policy, and deals;
//! - `keys`: escrow, recovery and import while no gateway runs;
//! - `load`: payments at a schedule against a running gateway;
//! - `sim`: what is done with simulated chains, the crash matrix first of all.

mod apart;
mod approve;
mod cli;
mod client;
mod config;
mod credential;
#[cfg(feature = "simulator")]
mod demo;
#[cfg(feature = "simulator")]
mod dev;
mod house;
mod keys;
mod lanes;
#[cfg(feature = "simulator")]
mod load;
mod otc;
mod person;
mod policy;
mod serve;
mod signer;
#[cfg(feature = "simulator")]
mod sim;
mod tx;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = fail(error.as_ref());
            #[cfg(feature = "simulator")]
            if error.is::<sim::BadScenario>() {
                return ExitCode::from(2);
            }
            code
        }
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("portcullis: {error}");
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            eprintln!("  because: {text}");
        }
        said = text;
        cause = error.source();
    }
    ExitCode::FAILURE
}
