//! The gateway's end of signers that run in processes of their own: listens for them and makes a pool of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use signer::pool::{ApartConfig, ApartSigner, Pool};
use signer::transport::grpc::{Coordinator, LinkIdentity};
use tokio::sync::watch;

use crate::cli::Failure;
use crate::config::Config;

/// How long the signers may take to dial in at the gateway's start; who is later is learned of when it comes.
const GATHERING: Duration = Duration::from_secs(60);
/// How often signers are met without any having arrived.
const MEET_AGAIN: Duration = Duration::from_secs(60);

/// Where the gateway's end keeps its key and its certificate.
pub(crate) fn link(config: &Config) -> PathBuf {
    config.path("signers/link".as_ref())
}

/// Listens, waits for the signers, and makes a pool of those that come.
///
/// # Errors
/// Where there is no identity, the address can't be used, or too few signers come.
pub(crate) async fn open(
    config: &Config,
    say: &(dyn Fn(String) + Send + Sync),
) -> Result<(Pool, watch::Receiver<u64>), Failure> {
    let signers = &config.signers;
    let listen = signers.listen.ok_or("signers.listen is missing: where signers dial in")?;
    let identity = LinkIdentity::read(&link(config))?;
    let pins = signers.apart.iter().map(|signer| (signer.name.clone(), signer.public_key)).collect();
    let coordinator = Coordinator::listen(listen, &identity, pins)
        .await
        .map_err(|e| format!("can't listen for signers on {listen}: {e}"))?;
    say(format!("signers  dial in at {}", coordinator.addr()));
    let arrivals = coordinator.arrivals();
    coordinator.gather(GATHERING).await;
    let there = coordinator.connected();
    say(format!("signers  {} of {} must sign, {} are here", signers.threshold, signers.apart.len(), there.len()));
    for late in signers.apart.iter().filter(|signer| !there.contains(&signer.name)) {
        say(format!("signer   {} is not here", late.name));
    }
    let apart = ApartConfig {
        threshold: signers.threshold,
        signers: signers
            .apart
            .iter()
            .map(|signer| ApartSigner { id: signer.name.clone(), region: signer.region.clone() })
            .collect(),
        min_regions: signers.min_regions,
        deadline: signers.deadline(),
        round_timeout: signers.round_timeout(),
    };
    Ok((Pool::coordinate(apart, Arc::new(coordinator)).await?, arrivals))
}

/// Has the pool meet signers that arrive, for as long as there is a pool; and from time to time, since one that was silent at
/// its arrival isn't asked to sign until it has been met.
pub(crate) fn welcome(pool: &Arc<Pool>, mut arrivals: watch::Receiver<u64>) {
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        while !matches!(tokio::time::timeout(MEET_AGAIN, arrivals.changed()).await, Ok(Err(_))) {
            let Some(pool) = pool.upgrade() else { break };
            if let Err(error) = pool.meet().await {
                tracing::warn!(%error, "the signers don't meet");
            }
        }
    });
}
