//! The coordinator's end: it listens, and signers that dial in by a pinned key can be asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::identity::{LinkIdentity, Pin as PinnedKey};
use super::{
    Frame, HANDSHAKE_TIMEOUT, HEARTBEAT, HEARTBEAT_TIMEOUT, MAX_FRAME, MAX_MESSAGE, METHOD, Post, QUEUE, Unfinished,
    WINDOW, codec, describe, tls,
};
use crate::transport::{SignerId, Transport, TransportError};

/// How many connections may be in their handshake at once; more have to wait.
const HANDSHAKES: usize = 64;

/// Listens for signers, and carries requests to those that are there.
pub struct Coordinator {
    desk: Desk,
    addr: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

/// The lines of the signers, of which some may be down.
#[derive(Clone)]
struct Desk(Arc<Lines>);

struct Lines {
    lines: BTreeMap<SignerId, Mutex<Option<Arc<Line>>>>,
    /// Counts the arrivals.
    arrivals: watch::Sender<u64>,
}

/// The line of one signer, until it breaks.
struct Line {
    outgoing: mpsc::Sender<Post>,
    calls: Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>,
    next: AtomicU64,
    /// Why the line ended.
    over: watch::Sender<Option<Status>>,
}

impl Coordinator {
    /// Listens on `listen` as `identity`, for the signers with these keys and for no others.
    ///
    /// # Errors
    /// Where the address can't be used, or the identity by TLS, or where two signers have one key.
    pub async fn listen(
        listen: SocketAddr,
        identity: &LinkIdentity,
        signers: BTreeMap<SignerId, PinnedKey>,
    ) -> std::io::Result<Self> {
        if signers.values().collect::<BTreeSet<_>>().len() != signers.len() {
            return Err(std::io::Error::other("two signers have one key; pin the key that each prints"));
        }
        let config = tls::server(identity, &signers).map_err(std::io::Error::other)?;
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let lines = signers.keys().map(|signer| (signer.clone(), Mutex::default())).collect();
        let desk = Desk(Arc::new(Lines { lines, arrivals: watch::Sender::new(0) }));

        let (admitted, incoming) = mpsc::channel(QUEUE);
        let door = tokio::spawn(admit(listener, TlsAcceptor::from(Arc::new(config)), Arc::new(signers), admitted));
        let server = Server::builder()
            .http2_keepalive_interval(Some(HEARTBEAT))
            .http2_keepalive_timeout(Some(HEARTBEAT_TIMEOUT))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(4)
            .serve_with_incoming(desk.clone(), ReceiverStream::new(incoming).map(Ok::<_, Infallible>));
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the coordinator's listener failed");
            }
        });
        Ok(Self { desk, addr, tasks: vec![door, server] })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The signers that are connected.
    pub fn connected(&self) -> Vec<SignerId> {
        let up = |(signer, line): (&SignerId, &Mutex<Option<Arc<Line>>>)| {
            line.lock().unwrap_or_else(PoisonError::into_inner).is_some().then(|| signer.clone())
        };
        self.desk.0.lines.iter().filter_map(up).collect()
    }

    /// Waits until all signers are connected, no longer than `patience`. Whether they are, [`Coordinator::connected`]
    /// tells.
    pub async fn gather(&self, patience: Duration) {
        let mut arrivals = self.arrivals();
        let all = async {
            while self.connected().len() < self.desk.0.lines.len() {
                if arrivals.changed().await.is_err() {
                    break;
                }
            }
        };
        // Who is late is named by the pool.
        let _ = timeout(patience, all).await;
    }

    /// Changes whenever a signer connects, for the first time or again.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.desk.0.arrivals.subscribe()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        for line in self.desk.0.lines.values() {
            if let Some(line) = line.lock().unwrap_or_else(PoisonError::into_inner).take() {
                line.end(Status::unavailable("the coordinator stops"));
            }
        }
    }
}

impl Transport for Coordinator {
    fn call<'a>(
        &'a self,
        to: &'a SignerId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        let exchange = async move {
            if request.len() > MAX_MESSAGE {
                return Err(TransportError::TooLong);
            }
            let line = self.desk.line(to).ok_or(TransportError::Unreachable)?;
            line.ask(request, deadline).await
        };
        async move { timeout(deadline, exchange).await.unwrap_or(Err(TransportError::Timeout)) }.boxed()
    }
}

impl Line {
    async fn ask(&self, body: Vec<u8>, patience: Duration) -> Result<Vec<u8>, TransportError> {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.calls().insert(call, answer);
        // Forgets the call when this is dropped at the deadline.
        let _asked = Asked { line: self, call };
        let mut over = self.over.subscribe();
        let exchange = async {
            self.outgoing.send(Post { call, patience, body }).await.map_err(|_| TransportError::Unreachable)?;
            answered.await.map_err(|_| TransportError::Unreachable)
        };
        tokio::select! {
            answer = exchange => answer,
            _ = over.wait_for(Option::is_some) => Err(TransportError::Unreachable),
        }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Vec<u8>>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: Status) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            if first {
                *over = Some(why);
            }
            first
        });
        self.calls().clear();
    }
}

struct Asked<'l> {
    line: &'l Line,
    call: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.line.calls().remove(&self.call);
    }
}

impl Desk {
    fn line(&self, signer: &SignerId) -> Option<Arc<Line>> {
        self.0.lines.get(signer)?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a signer's stream as its line; an older line of the same signer ends.
    fn attend(&self, signer: SignerId, incoming: Streaming<Frame>) -> Result<FrameStream, Status> {
        let slot =
            self.0.lines.get(&signer).ok_or_else(|| Status::permission_denied("this is no signer of the pool"))?;
        let (outgoing, posts) = mpsc::channel(QUEUE);
        let over = watch::Sender::new(None);
        let (calls, next) = (Mutex::default(), AtomicU64::new(1));
        let line = Arc::new(Line { outgoing, calls, next, over });
        let before = slot.lock().unwrap_or_else(PoisonError::into_inner).replace(line.clone());
        if let Some(before) = before {
            before.end(Status::aborted("the signer connected again"));
        }
        tracing::info!(%signer, "a signer is connected");
        let answer = frames(posts, line.over.subscribe());
        tokio::spawn(self.clone().listen(signer, line, incoming));
        self.0.arrivals.send_modify(|count| *count = count.wrapping_add(1));
        Ok(answer)
    }

    /// Takes a signer's answers until its line breaks.
    async fn listen(self, signer: SignerId, line: Arc<Line>, mut incoming: Streaming<Frame>) {
        let mut unfinished = Unfinished::default();
        let mut over = line.over.subscribe();
        let why = loop {
            let frame = tokio::select! {
                frame = incoming.message() => frame,
                _ = over.wait_for(Option::is_some) => break Status::unavailable("the line is over"),
            };
            match frame.map(|frame| frame.map(|frame| unfinished.take(frame))) {
                Ok(Some(Ok(None))) => (),
                Ok(Some(Ok(Some(Post { call, body, .. })))) => {
                    let asked = line.calls().remove(&call);
                    // Where nobody waits any more, the answer is of no use.
                    let _ = asked.map(|asked| asked.send(body));
                }
                Ok(Some(Err(too_much))) => break Status::resource_exhausted(too_much.to_string()),
                Ok(None) => break Status::unavailable("the signer hung up"),
                Err(status) => break status,
            }
        };
        tracing::warn!(%signer, reason = %why.message(), "a signer's line is down");
        line.end(why);
        if let Some(slot) = self.0.lines.get(&signer) {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, &line)) {
                *slot = None;
            }
        }
    }
}

type FrameStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

/// What is posted, frame by frame, until the line is over; then why.
fn frames(posts: mpsc::Receiver<Post>, mut over: watch::Receiver<Option<Status>>) -> FrameStream {
    let over = async move {
        match over.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_else(|| Status::unavailable("the line is over")),
            Err(_) => Status::unavailable("the line is over"),
        }
    };
    let over = over.boxed().shared();
    let frames = ReceiverStream::new(posts).flat_map(|post| stream::iter(post.frames())).map(Ok);
    frames.take_until(over.clone()).chain(stream::once(over).map(Err)).boxed()
}

/// Takes connections, and lets those in that show a pinned key.
async fn admit(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pins: Arc<BTreeMap<SignerId, PinnedKey>>,
    admitted: mpsc::Sender<Admitted>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, for one: trying again at once would only burn the processor.
                tracing::error!(%error, "a connection can't be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, pins, admitted) = (acceptor.clone(), pins.clone(), admitted.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_TIMEOUT, handshake(acceptor, &pins, stream)).await {
                Ok(Ok(connection)) => {
                    // The listener is being closed where nobody takes it.
                    let _ = admitted.send(connection).await;
                }
                Ok(Err(error)) => tracing::warn!(%peer, error = %describe(&error), "a connection is refused"),
                Err(_) => tracing::warn!(%peer, "a connection is refused: its handshake takes too long"),
            }
            drop(permit);
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    pins: &BTreeMap<SignerId, PinnedKey>,
    stream: TcpStream,
) -> std::io::Result<Admitted> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let signer = certificate.and_then(|certificate| tls::signer_of(certificate, pins));
    let signer = signer.ok_or_else(|| std::io::Error::other("the certificate names no signer of the pool"))?;
    Ok(Admitted { signer, stream })
}

/// A connection whose other end is known.
struct Admitted {
    signer: SignerId,
    stream: TlsStream<TcpStream>,
}

/// Which signer is at the other end of a connection.
#[derive(Clone)]
struct Caller(SignerId);

impl Connected for Admitted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller(self.signer.clone())
    }
}

impl AsyncRead for Admitted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The gRPC service, with its one method.
impl Service<http::Request<Body>> for Desk {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let desk = self.clone();
        async move {
            if request.uri().path() != METHOD {
                return Ok(Status::unimplemented("the coordinator has one method, Attend").into_http());
            }
            let mut grpc = Grpc::new(codec()).max_decoding_message_size(MAX_FRAME).max_encoding_message_size(MAX_FRAME);
            Ok(grpc.streaming(Attend(desk), request).await)
        }
        .boxed()
    }
}

struct Attend(Desk);

impl StreamingService<Frame> for Attend {
    type Response = Frame;
    type ResponseStream = FrameStream;
    type Future = std::future::Ready<Result<Response<FrameStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Frame>>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        let attended = caller.ok_or_else(|| Status::unauthenticated("the connection names no signer"));
        std::future::ready(
            attended.and_then(|Caller(signer)| self.0.attend(signer, request.into_inner()).map(Response::new)),
        )
    }
}
