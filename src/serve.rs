//! `portcullis serve`: the gateway on real nodes.

use crate::cli::{ConfigArgs, Failure};
use crate::config::Config;
use crate::house::House;

/// Runs until it is told to stop (SIGINT, SIGTERM).
///
/// # Errors
/// Where it can't start.
pub(crate) async fn run(args: ConfigArgs) -> Result<(), Failure> {
    let config = load(&args)?;
    if let Some(network) = config.networks.iter().find(|network| network.endpoints.is_empty()) {
        return Err(
            format!("network {} has no endpoint; simulated chains run under `portcullis dev`", network.id).into()
        );
    }
    let house = House::open(&config, &|line| println!("{line}")).await?;
    for account in house.accounts() {
        println!("wallet   {} {}  {}", account.wallet(), account.address(), account.network());
    }
    println!("gateway  http://{}", house.addr());
    stop_signal().await?;
    house.close().await;
    Ok(())
}

/// The configuration that the arguments name.
///
/// # Errors
/// Where it can't be used.
pub(crate) fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(data_dir) = &args.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    config.check()?;
    Ok(config)
}

/// Waits for SIGINT or SIGTERM.
///
/// # Errors
/// Where signals can't be waited for.
pub(crate) async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
