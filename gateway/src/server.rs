//! The JSON-RPC server: HTTP POST, one call a request.

use std::net::SocketAddr;
use std::sync::Arc;

use jsonrpsee::server::{BatchRequestConfig, Server, ServerConfig as JsonRpcConfig, ServerHandle};
use signer::roster::Roster;

use crate::api;
use crate::auth::AuthLayer;
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::pipeline::Pipeline;

/// A server that listens.
#[derive(Debug)]
pub struct Listening {
    /// Where.
    pub addr: SocketAddr,
    handle: ServerHandle,
}

impl Listening {
    /// Takes no more requests, and waits for those under way.
    pub async fn stop(self) {
        let _ = self.handle.stop(); // an error says that it was stopped already
        self.handle.stopped().await;
    }
}

/// Serves the API.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve(
    config: &ServerConfig,
    pipeline: Arc<Pipeline>,
    roster: Roster,
    clock: Arc<dyn Clock>,
) -> std::io::Result<Listening> {
    let max_body = usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX);
    let auth = AuthLayer::new(roster, Arc::clone(&clock), config.clock_leeway_seconds, max_body);
    let settings = JsonRpcConfig::builder()
        .http_only()
        .max_request_body_size(config.max_body_bytes)
        .max_connections(config.max_connections)
        .set_batch_request_config(BatchRequestConfig::Disabled)
        .build();
    let server = Server::builder()
        .set_config(settings)
        .set_http_middleware(tower::ServiceBuilder::new().layer(auth))
        .build(config.listen)
        .await?;
    let addr = server.local_addr()?;
    Ok(Listening { addr, handle: server.start(api::module(pipeline, clock)) })
}
