//! Connections that can be broken from inside: a node that dies, or drops one call, leaves its clients without an answer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A listener whose connections all break when `killed` is cancelled.
pub(super) struct BreakableListener {
    pub(super) listener: TcpListener,
    pub(super) killed: CancellationToken,
}

impl Listener for BreakableListener {
    type Io = BreakableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BreakableStream, SocketAddr) {
        let (stream, addr) = Listener::accept(&mut self.listener).await;
        (BreakableStream::new(stream, self.killed.child_token()), addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The handle by which a call can break the connection that it came over.
#[derive(Clone, Debug)]
pub(super) struct Connection(CancellationToken);

impl Connection {
    pub(super) fn break_off(&self) {
        self.0.cancel();
    }
}

impl Connected<IncomingStream<'_, BreakableListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, BreakableListener>) -> Self {
        Self(stream.io().token.clone())
    }
}

/// A connection that fails once its token is cancelled.
pub(super) struct BreakableStream {
    stream: TcpStream,
    token: CancellationToken,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl BreakableStream {
    fn new(stream: TcpStream, token: CancellationToken) -> Self {
        let broken = Box::pin(token.clone().cancelled_owned());
        Self { stream, token, broken }
    }

    /// Fails where the token is cancelled, and wakes the task when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.broken.as_mut().poll(cx) {
            Poll::Ready(()) => Err(broken()),
            Poll::Pending => Ok(()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the simulated node has broken off the connection")
}

impl AsyncRead for BreakableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Err(error) = self.check(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BreakableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.token.is_cancelled() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.token.is_cancelled() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.token.is_cancelled() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
