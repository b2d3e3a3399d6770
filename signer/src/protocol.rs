//! A round-based protocol between parties, as a value that each step consumes.
//!
//! A party's run starts with an empty [`Inbox`]; each [`Protocol::step`] takes what the others sent in the last round and
//! gives what this party sends in the next one, until it is done. What a run holds (nonces, polynomial coefficients) is
//! for one use only, so a step takes the run by value: it cannot be repeated with another message.
//!
//! ```
//! use signer::protocol::{Inbox, Protocol};
//!
//! fn once<O>(run: Box<dyn Protocol<Output = O>>) {
//!     let _ = run.step(Inbox::default());
//! }
//! ```
//!
//! ```compile_fail,E0382
//! use signer::protocol::{Inbox, Protocol};
//!
//! fn twice<O>(run: Box<dyn Protocol<Output = O>>) {
//!     let _ = run.step(Inbox::default());
//!     let _ = run.step(Inbox::default()); // the run was consumed
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use zeroize::Zeroizing;

/// A party's place among those that hold a key, from 1: the x-coordinate of its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartyIndex(NonZeroU8);

/// One party's run of a protocol.
pub trait Protocol: Send {
    /// What the run yields in the end.
    type Output;

    /// Takes the messages of the last round (none at first) and goes on to the next.
    ///
    /// # Errors
    /// The run ends with a [`Fault`] where a message is missing or wrong.
    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Self::Output>, Fault>;
}

/// A run whose kind doesn't matter.
pub type Run<O> = Box<dyn Protocol<Output = O>>;

/// Where a run stands after a step.
pub enum Step<O> {
    /// There is more to do, once the others' answers to this outbox are there.
    Continue(Run<O>, Outbox),
    /// The run is over.
    Done(O),
}

/// What one party sends another in one round; a part that the round doesn't have is empty.
#[derive(Default)]
pub struct Letter {
    /// What every other party gets alike.
    pub broadcast: Vec<u8>,
    /// What only the receiver may read.
    pub directed: Zeroizing<Vec<u8>>,
}

/// The letters of one round, by sender.
#[derive(Default)]
pub struct Inbox(BTreeMap<PartyIndex, Letter>);

/// What one party sends in one round.
#[derive(Default)]
pub struct Outbox {
    /// What every other party gets alike.
    pub broadcast: Vec<u8>,
    /// What each party gets for itself.
    pub directed: BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>,
}

/// Why a run ended without its output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// Who caused it, where that can be told.
    pub culprit: Option<PartyIndex>,
    /// The culprit cheated in a way that makes any further run with it dangerous.
    pub ban: bool,
    /// What was wrong.
    pub reason: String,
}

impl PartyIndex {
    /// The index, unless it is zero.
    pub const fn new(index: u8) -> Option<Self> {
        match NonZeroU8::new(index) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// The index, from 1.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// The first `n` indices.
    pub fn first(n: u8) -> impl Iterator<Item = Self> {
        (1..=n).filter_map(Self::new)
    }
}

impl fmt::Display for PartyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Inbox {
    /// The letters of a round by sender.
    pub fn new(letters: BTreeMap<PartyIndex, Letter>) -> Self {
        Self(letters)
    }

    /// Every letter by its sender.
    pub fn letters(&self) -> impl Iterator<Item = (PartyIndex, &Letter)> {
        self.0.iter().map(|(from, letter)| (*from, letter))
    }

    /// Every letter by its sender, to be kept.
    pub(crate) fn into_letters(self) -> impl Iterator<Item = (PartyIndex, Letter)> {
        self.0.into_iter()
    }

    /// What each of `peers` broadcast, decoded.
    ///
    /// # Errors
    /// A letter that is missing or that `decode` refuses is its sender's fault.
    pub fn broadcasts<T>(
        &self,
        peers: &[PartyIndex],
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<BTreeMap<PartyIndex, T>, Fault> {
        self.read(peers, |letter| decode(&letter.broadcast))
    }

    /// What each of `peers` sent to this party alone, decoded.
    ///
    /// # Errors
    /// A letter that is missing or that `decode` refuses is its sender's fault.
    pub fn directed<T>(
        &self,
        peers: &[PartyIndex],
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<BTreeMap<PartyIndex, T>, Fault> {
        self.read(peers, |letter| decode(&letter.directed))
    }

    fn read<T>(
        &self,
        peers: &[PartyIndex],
        decode: impl Fn(&Letter) -> Option<T>,
    ) -> Result<BTreeMap<PartyIndex, T>, Fault> {
        let read = |from: &PartyIndex| {
            let letter = self.0.get(from).ok_or_else(|| Fault::of(*from, "its message is missing"))?;
            let message = decode(letter).ok_or_else(|| Fault::of(*from, "its message is malformed"))?;
            Ok((*from, message))
        };
        peers.iter().map(read).collect()
    }
}

impl Outbox {
    /// The same message to everybody.
    pub fn broadcast(message: Vec<u8>) -> Self {
        Self { broadcast: message, directed: BTreeMap::new() }
    }

    /// What `to` gets.
    pub fn letter_to(&self, to: PartyIndex) -> Letter {
        let directed = self.directed.get(&to).cloned().unwrap_or_default();
        Letter { broadcast: self.broadcast.clone(), directed }
    }

    /// What `to` gets, taken out: what is for it alone is in no letter after this one.
    pub(crate) fn take_letter_to(&mut self, to: PartyIndex) -> Letter {
        let directed = self.directed.remove(&to).unwrap_or_default();
        Letter { broadcast: self.broadcast.clone(), directed }
    }
}

impl Fault {
    /// A fault of `culprit`.
    pub fn of(culprit: PartyIndex, reason: impl Into<String>) -> Self {
        Self { culprit: Some(culprit), ban: false, reason: reason.into() }
    }

    /// A fault that nobody can be named for.
    pub fn unattributed(reason: impl Into<String>) -> Self {
        Self { culprit: None, ban: false, reason: reason.into() }
    }
}

/// `run`, with its output turned into something else.
pub(crate) fn map<O: 'static, P: 'static>(run: Run<O>, f: impl FnOnce(O) -> P + Send + 'static) -> Run<P> {
    Box::new(Map { run, f })
}

struct Map<O, F> {
    run: Run<O>,
    f: F,
}

impl<O: 'static, P: 'static, F: FnOnce(O) -> P + Send + 'static> Protocol for Map<O, F> {
    type Output = P;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<P>, Fault> {
        let Self { run, f } = *self;
        match run.step(inbox)? {
            Step::Continue(run, outbox) => Ok(Step::Continue(Box::new(Map { run, f }), outbox)),
            Step::Done(output) => Ok(Step::Done(f(output))),
        }
    }
}

/// Runs of the same protocol in step with each other, such as the inputs of one Bitcoin transaction: as many messages,
/// but no more rounds than one run has.
pub(crate) fn batch<O: Send + 'static>(runs: Vec<Run<O>>, peers: Vec<PartyIndex>) -> Run<Vec<O>> {
    Box::new(Batch { runs, peers })
}

struct Batch<O> {
    runs: Vec<Run<O>>,
    peers: Vec<PartyIndex>,
}

impl<O: Send + 'static> Protocol for Batch<O> {
    type Output = Vec<O>;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<Vec<O>>, Fault> {
        let count = self.runs.len();
        let mut next = Vec::with_capacity(count);
        let mut done = Vec::with_capacity(count);
        let mut broadcasts = Vec::with_capacity(count);
        let mut directed: BTreeMap<PartyIndex, Vec<Zeroizing<Vec<u8>>>> = BTreeMap::new();
        for (run, inbox) in self.runs.into_iter().zip(split(inbox, count)?) {
            match run.step(inbox)? {
                Step::Continue(run, mut outbox) => {
                    for peer in &self.peers {
                        let part = outbox.directed.remove(peer).unwrap_or_default();
                        directed.entry(*peer).or_default().push(part);
                    }
                    broadcasts.push(outbox.broadcast);
                    next.push(run);
                }
                Step::Done(output) => done.push(output),
            }
        }
        match (next.is_empty(), done.is_empty()) {
            (true, _) => Ok(Step::Done(done)),
            (false, true) => {
                let directed = directed.into_iter().map(|(to, parts)| Ok((to, Zeroizing::new(encode_parts(&parts)?))));
                let directed = directed.collect::<Result<_, _>>()?;
                let outbox = Outbox { broadcast: encode_parts(&broadcasts)?, directed };
                Ok(Step::Continue(Box::new(Self { runs: next, peers: self.peers }), outbox))
            }
            (false, false) => Err(Fault::unattributed("the runs of a batch fell out of step")),
        }
    }
}

/// The letters of a batch, run by run.
fn split(inbox: Inbox, count: usize) -> Result<Vec<Inbox>, Fault> {
    let mut inboxes: Vec<Inbox> = (0..count).map(|_| Inbox::default()).collect();
    for (from, letter) in inbox.0 {
        let malformed = || Fault::of(from, "its batch is malformed");
        let broadcasts = decode_parts(&letter.broadcast, count).ok_or_else(malformed)?;
        let directed = decode_parts(&letter.directed, count).ok_or_else(malformed)?;
        for (inbox, (broadcast, directed)) in inboxes.iter_mut().zip(broadcasts.into_iter().zip(directed)) {
            let letter = Letter { broadcast: broadcast.to_vec(), directed: Zeroizing::new(directed.to_vec()) };
            inbox.0.insert(from, letter);
        }
    }
    Ok(inboxes)
}

/// The parts of a batch as bytes. They are long, so they are written each at one stroke and not byte by byte.
fn encode_parts<P: AsRef<[u8]>>(parts: &[P]) -> Result<Vec<u8>, Fault> {
    encode(&parts.iter().map(|part| Bytes::new(part.as_ref())).collect::<Vec<_>>())
}

/// The `count` parts of a batch.
fn decode_parts(bytes: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    decode::<Vec<&[u8]>>(bytes).filter(|parts| parts.len() == count)
}

/// A message as bytes.
pub(crate) fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, Fault> {
    postcard::to_allocvec(message).map_err(|error| Fault::unattributed(format!("cannot encode a message: {error}")))
}

/// A message from bytes, all of them.
pub(crate) fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

/// Like [`decode`], for what borrows nothing.
pub(crate) fn decode_owned<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    decode(bytes)
}
