//! Signers in processes of their own, over gRPC.
//!
//! The signer dials out, so that it needs no open port; what runs over its connection is one bidirectional stream, on
//! which the coordinator asks and the signer answers:
//!
//! ```text
//! syntax = "proto3";
//! package portcullis.signer.v1;
//!
//! service Coordinator {
//!   rpc Attend(stream Frame) returns (stream Frame);
//! }
//!
//! message Frame {
//!   uint64 call = 1;        // which question; the answer has the same number
//!   bool more = 2;          // the message goes on in the next frame with this number
//!   uint64 patience_ms = 3; // how long the coordinator waits; questions only
//!   bytes body = 4;
//! }
//! ```
//!
//! - `identity`: the key and the certificate of one end, and the [`Pin`] by which the other end knows it;
//! - `tls`: TLS 1.3 with both ends authenticated by pinned keys, no public authority;
//! - `coordinator`: the coordinator's end, a [`Transport`](super::Transport);
//! - `dial`: the signer's end, which reconnects with backoff.
//!
//! HTTP/2 pings in both directions tell a dead line from an idle one. A frame has at most 1 MiB; a longer one ends the
//! connection.

mod coordinator;
mod dial;
mod identity;
mod tls;

use std::collections::HashMap;
use std::time::Duration;

use tonic_prost::ProstCodec;

pub use coordinator::Coordinator;
pub use dial::Route;
pub(crate) use dial::{Dialing, dial};
pub use identity::{IdentityError, LinkIdentity, Pin, PinError};

/// The longest frame, in bytes.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest message, in bytes, however many frames it takes.
pub const MAX_MESSAGE: usize = 32 << 20;

/// What a frame says beside its body takes less than this, in bytes.
const FRAME_HEAD: usize = 64;
/// How many bytes of unfinished messages one end keeps for the other.
const MAX_UNFINISHED: usize = 2 * MAX_MESSAGE;
/// The method that a signer calls.
const METHOD: &str = "/portcullis.signer.v1.Coordinator/Attend";
/// How often an idle line is tried.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long the other end has to show that it lives.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to be set up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many messages may wait to be sent on one line.
const QUEUE: usize = 256;
/// The flow-control window of a stream, in bytes: a round of a key generation fits in.
const WINDOW: u32 = 4 << 20;

/// A part of a message.
#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(uint64, tag = "1")]
    call: u64,
    #[prost(bool, tag = "2")]
    more: bool,
    #[prost(uint64, tag = "3")]
    patience_ms: u64,
    #[prost(bytes = "vec", tag = "4")]
    body: Vec<u8>,
}

/// A whole message on its way.
struct Post {
    call: u64,
    patience: Duration,
    body: Vec<u8>,
}

/// Messages of which more is to come.
#[derive(Default)]
struct Unfinished {
    parts: HashMap<u64, Vec<u8>>,
    held: usize,
}

/// The other end sends more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {MAX_MESSAGE} bytes, or too many are unfinished")]
struct TooMuch;

impl Post {
    /// The message as frames, each short enough.
    fn frames(self) -> Vec<Frame> {
        let Self { call, patience, body } = self;
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let chunks = body.chunks(MAX_FRAME - FRAME_HEAD);
        let last = chunks.len().saturating_sub(1);
        if body.is_empty() {
            return vec![Frame { call, more: false, patience_ms, body }];
        }
        let frame =
            |(number, chunk): (usize, &[u8])| Frame { call, more: number < last, patience_ms, body: chunk.to_vec() };
        chunks.enumerate().map(frame).collect()
    }
}

impl Unfinished {
    /// Takes a frame; yields the message that it completes.
    fn take(&mut self, frame: Frame) -> Result<Option<Post>, TooMuch> {
        let Frame { call, more, patience_ms, mut body } = frame;
        if let Some(mut begun) = self.parts.remove(&call) {
            self.held = self.held.saturating_sub(begun.len());
            begun.append(&mut body);
            body = begun;
        }
        if body.len() > MAX_MESSAGE {
            return Err(TooMuch);
        }
        if !more {
            return Ok(Some(Post { call, patience: Duration::from_millis(patience_ms), body }));
        }
        self.held = self.held.saturating_add(body.len()).saturating_add(FRAME_HEAD);
        self.parts.insert(call, body);
        // Empty frames count too: a line must not be filled with numbers.
        if self.held > MAX_UNFINISHED || self.parts.len() > QUEUE { Err(TooMuch) } else { Ok(None) }
    }
}

fn codec() -> ProstCodec<Frame, Frame> {
    ProstCodec::default()
}

/// An error with its causes: what a connection failed of is often the innermost.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
