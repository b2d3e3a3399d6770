//! The signer's end: it dials the coordinator, answers what it is asked, and dials again when the line breaks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use rand_core::{OsRng, RngCore};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use super::identity::{LinkIdentity, Pin};
use super::{
    Frame, HANDSHAKE_TIMEOUT, HEARTBEAT, HEARTBEAT_TIMEOUT, MAX_FRAME, METHOD, Post, QUEUE, Unfinished, WINDOW, codec,
    describe, tls,
};
use crate::transport::{SignerId, Transport};

/// The pause before the second attempt to connect; doubled with each more.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A line that held for so long starts over with the first pause.
const STEADY: Duration = Duration::from_secs(10);
/// How many questions a signer works on at once; the rest have to wait.
const AT_ONCE: usize = 256;

/// How a signer reaches the coordinator.
pub struct Route {
    /// Its address: `host:port`.
    pub address: String,
    /// Its pinned key.
    pub coordinator: Pin,
    /// Who the signer is.
    pub identity: LinkIdentity,
}

/// A signer that dials.
pub(crate) struct Dialing {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Why a line ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the address {0} is none: {1}")]
    Address(String, String),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{0}")]
    Ended(String),
}

/// Dials the coordinator until it is stopped. What `signer` is asked goes through `door`.
///
/// # Errors
/// Where the identity can't be used for TLS.
pub(crate) fn dial(route: &Route, door: Arc<dyn Transport>, signer: SignerId) -> Result<Dialing, rustls::Error> {
    let line = Line::new(route, door, signer)?;
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let attending = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let began = Instant::now();
                let Err(reason) = line.attend().await;
                tracing::warn!(signer = %line.signer, address = %line.address, %reason, "no line to the coordinator");
                pause = if began.elapsed() >= STEADY { FIRST_PAUSE } else { pause };
                tokio::time::sleep(jittered(pause)).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        };
        tokio::select! {
            () = attending => (),
            _ = stopped.wait_for(|stop| *stop) => (),
        }
    });
    Ok(Dialing { stop, task })
}

impl Dialing {
    /// Hangs up.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        // The task may have ended by itself.
        let _ = self.task.await;
    }
}

pub(super) struct Line {
    address: String,
    tls: TlsConnector,
    door: Arc<dyn Transport>,
    signer: SignerId,
}

impl Line {
    pub(super) fn new(route: &Route, door: Arc<dyn Transport>, signer: SignerId) -> Result<Self, rustls::Error> {
        let tls = TlsConnector::from(Arc::new(tls::client(&route.identity, route.coordinator)?));
        Ok(Self { address: route.address.clone(), tls, door, signer })
    }

    /// Connects and answers until the line breaks.
    pub(super) async fn attend(&self) -> Result<Infallible, Broken> {
        let mut grpc =
            Grpc::new(self.connect().await?).max_decoding_message_size(MAX_FRAME).max_encoding_message_size(MAX_FRAME);
        grpc.ready().await.map_err(|error| Broken::Connect(describe(&error)))?;
        let (answers, posts) = mpsc::channel::<Post>(QUEUE);
        let outgoing = ReceiverStream::new(posts).flat_map(|post| stream::iter(post.frames()));
        let attended = grpc.streaming(Request::new(outgoing), PathAndQuery::from_static(METHOD), codec());
        let attended = timeout(HANDSHAKE_TIMEOUT, attended).await;
        let attended = attended.map_err(|_| Broken::Connect("the coordinator does not answer".to_owned()))?;
        let mut questions = attended.map_err(|status| Broken::Connect(describe(&status)))?.into_inner();
        tracing::info!(signer = %self.signer, address = %self.address, "connected to the coordinator");

        let (mut unfinished, working) = (Unfinished::default(), Arc::new(Semaphore::new(AT_ONCE)));
        // Ends with the line, so that nothing keeps it half open.
        let mut work = JoinSet::new();
        loop {
            let frame: Option<Frame> = questions.message().await.map_err(|status| Broken::Ended(describe(&status)))?;
            let frame = frame.ok_or_else(|| Broken::Ended("the coordinator hung up".to_owned()))?;
            let question = unfinished.take(frame).map_err(|error| Broken::Ended(error.to_string()))?;
            let Some(Post { call, patience, body }) = question else { continue };
            let permit = working.clone().acquire_owned().await;
            let (door, signer, answers) = (self.door.clone(), self.signer.clone(), answers.clone());
            while work.try_join_next().is_some() {}
            work.spawn(async move {
                // Where it takes too long, the coordinator waits no more either.
                if let Ok(body) = door.call(&signer, body, patience).await {
                    // The line may have broken meanwhile; the coordinator asks again if it wants to know.
                    let _ = answers.send(Post { call, patience: Duration::ZERO, body }).await;
                }
                drop(permit);
            });
        }
    }

    pub(super) async fn connect(&self) -> Result<Channel, Broken> {
        let wrong = |reason: String| Broken::Address(self.address.clone(), reason);
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).map_err(|e| wrong(e.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(HANDSHAKE_TIMEOUT)
            .http2_keep_alive_interval(HEARTBEAT)
            .keep_alive_timeout(HEARTBEAT_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let (tls, address) = (self.tls.clone(), self.address.clone());
        let connector = tower::service_fn(move |_| {
            let (tls, address) = (tls.clone(), address.clone());
            async move {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                // The coordinator is known by its key; its name is not looked at.
                let name = ServerName::try_from("coordinator").map_err(std::io::Error::other)?;
                tls.connect(name, stream).await.map(TokioIo::new)
            }
        });
        let connected = endpoint.connect_with_connector(connector).await;
        connected.map_err(|error| Broken::Connect(describe(&error)))
    }
}

/// Between half of the pause and all of it, so that signers don't dial in step after the coordinator was away.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half.saturating_add(Duration::from_millis(OsRng.next_u64() % millis))
}
