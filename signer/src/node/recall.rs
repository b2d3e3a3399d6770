//! A signer that has forgotten is told again, before it gets shares of another epoch.
//!
//! What a refresh or a reshare gives a signer is a new beginning: its witnesses remember nothing of the epoch to come, so
//! they would sign with it again although its ledger went back in time. So the run begins with what all remember of each
//! other. Everybody sees the same (it is echoed), and so they agree on who has forgotten something. To whoever has, each of
//! the others tells its whole ledger, in as many rounds as the longest takes. The run itself, which makes the shares, goes
//! on only once everything that was told is on the forgetful signer's disk. Its first letter of the run shows that, and the
//! others readmit it.
//!
//! A signer that lies can make another look forgetful, and what it tells then can block payments; what that can't do is
//! said at [`Told`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::witness::{Memory, Witness};
use crate::ledger::{Ledger, LedgerError, Told};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step, decode_owned, encode};
use crate::transport::SignerId;

/// How much of a ledger goes into one letter, in bytes.
const CHUNK: usize = 512 << 10;
/// The longest ledger that is told, in chunks: 256 MiB, somewhat above a million payments.
const MAX_CHUNKS: usize = 512;

/// What a signer brings to the beginning of a run.
pub(super) struct Recall {
    pub(super) me: PartyIndex,
    /// The other parties of the run.
    pub(super) peers: BTreeMap<PartyIndex, SignerId>,
    /// What this signer says of its own ledger.
    pub(super) own: Memory,
    /// What it remembers of the others'.
    pub(super) remembered: BTreeMap<PartyIndex, Memory>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) witness: Arc<Witness>,
}

/// `run`, after those who have forgotten something were told.
pub(super) fn recalled<O: 'static>(run: Run<O>, recall: Recall) -> Run<O> {
    Box::new(Compare { run, recall, told: None })
}

/// All say what they have and what they remember.
struct Compare<O> {
    run: Run<O>,
    recall: Recall,
    /// Set once this party's part has been sent.
    told: Option<Memories>,
}

/// A party's ledger, and what the party remembers of the others'.
type Memories = (Memory, BTreeMap<PartyIndex, Memory>);

/// Those who have forgotten something, each as it was before it was told.
type Forgetful = BTreeMap<PartyIndex, Memory>;

/// Some have forgotten something, and all say how many letters their ledgers take.
struct Announce<O> {
    run: Run<O>,
    recall: Recall,
    forgetful: Forgetful,
    chunks: Vec<Vec<u8>>,
}

/// The ledgers are told.
struct Tell<O> {
    run: Run<O>,
    recall: Recall,
    forgetful: Forgetful,
    chunks: Vec<Vec<u8>>,
    /// How many letters each of the others takes.
    counts: BTreeMap<PartyIndex, usize>,
    /// How many letters this party has sent.
    sent: usize,
    /// What this party was told, where it is one that has forgotten.
    heard: BTreeMap<PartyIndex, Vec<u8>>,
}

/// All have been told, and those who had forgotten go on with the others.
struct Readmit<O> {
    run: Run<O>,
    recall: Recall,
    forgetful: Forgetful,
}

impl Recall {
    fn parties(&self) -> Vec<PartyIndex> {
        self.peers.keys().copied().collect()
    }

    /// Whom somebody remembers with more than it has.
    fn forgetful(all: &BTreeMap<PartyIndex, Memories>) -> Forgetful {
        let has_forgotten = |party: &PartyIndex, told: &Memory| {
            let mut last = all.values().filter_map(|(_, remembered)| remembered.get(party));
            last.any(|last| last.lost(told).is_some())
        };
        let forgetful = all.iter().filter(|(party, (told, _))| has_forgotten(party, told));
        forgetful.map(|(party, (told, _))| (*party, *told)).collect()
    }

    /// This signer's ledger in pieces, where there is somebody to tell it to.
    fn chunks(&self, forgetful: &Forgetful) -> Result<Vec<Vec<u8>>, Fault> {
        if forgetful.keys().all(|party| *party == self.me) {
            return Ok(Vec::new());
        }
        let told = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).tell();
        let chunks = encode(&told)?.chunks(CHUNK).map(<[u8]>::to_vec).collect::<Vec<_>>();
        if chunks.len() > MAX_CHUNKS {
            return Err(Fault::unattributed(
                "this signer's slot ledger is too long to be told to one that has forgotten",
            ));
        }
        Ok(chunks)
    }

    /// Takes in what the others told.
    fn learn(&self, heard: BTreeMap<PartyIndex, Vec<u8>>) -> Result<(), Fault> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        for (from, bytes) in heard {
            let malformed = || Fault::of(from, "what it tells of its slot ledger is malformed");
            let told = decode_owned::<Vec<Told>>(&bytes).ok_or_else(malformed)?;
            let name = self.peers.get(&from).ok_or_else(malformed)?;
            tracing::warn!(payments = told.len(), %from, signer = %name, "a signer tells what this one may have forgotten");
            ledger.learn(name, told).map_err(|error| match error {
                LedgerError::NoSlot { .. } => malformed(),
                error => Fault::unattributed(format!("what {name} tells cannot be written down: {error}")),
            })?;
        }
        Ok(())
    }
}

impl<O: 'static> Protocol for Compare<O> {
    type Output = O;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        let Self { run, recall, told } = *self;
        let Some(told) = told else {
            let own = (recall.own, recall.remembered.clone());
            let outbox = Outbox::broadcast(encode(&own)?);
            return Ok(Step::Continue(Box::new(Self { run, recall, told: Some(own) }), outbox));
        };
        let mut all = inbox.broadcasts(&recall.parties(), decode_owned::<Memories>)?;
        all.insert(recall.me, told);
        let forgetful = Recall::forgetful(&all);
        if forgetful.is_empty() {
            return run.step(Inbox::default());
        }
        let chunks = recall.chunks(&forgetful)?;
        let outbox = Outbox::broadcast(encode(&chunks.len())?);
        Ok(Step::Continue(Box::new(Announce { run, recall, forgetful, chunks }), outbox))
    }
}

impl<O: 'static> Protocol for Announce<O> {
    type Output = O;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        let Self { run, recall, forgetful, chunks } = *self;
        let count = |bytes: &[u8]| decode_owned::<usize>(bytes).filter(|count| *count <= MAX_CHUNKS);
        let counts = inbox.broadcasts(&recall.parties(), count)?;
        // Whoever has somebody to tell it to tells its ledger, be it empty: that takes one letter.
        let silent =
            |(from, count): &(&PartyIndex, &usize)| **count == 0 && forgetful.keys().any(|party| party != *from);
        if let Some((from, _)) = counts.iter().find(silent) {
            return Err(Fault::of(*from, "it tells nothing of its slot ledger"));
        }
        Box::new(Tell { run, recall, forgetful, chunks, counts, sent: 0, heard: BTreeMap::new() }).go_on()
    }
}

impl<O: 'static> Tell<O> {
    /// Sends the next letters, or goes on with the run where all have been sent.
    fn go_on(mut self: Box<Self>) -> Result<Step<O>, Fault> {
        let most = self.counts.values().copied().chain([self.chunks.len()]).max().unwrap_or_default();
        if self.sent >= most {
            self.recall.learn(std::mem::take(&mut self.heard))?;
            let Self { run, recall, forgetful, .. } = *self;
            return Ok(match run.step(Inbox::default())? {
                Step::Continue(run, outbox) => Step::Continue(Box::new(Readmit { run, recall, forgetful }), outbox),
                done @ Step::Done(_) => done,
            });
        }
        let mut outbox = Outbox::default();
        if let Some(chunk) = self.chunks.get(self.sent) {
            let receivers = self.forgetful.keys().filter(|party| **party != self.recall.me);
            outbox.directed = receivers.map(|party| (*party, Zeroizing::new(chunk.clone()))).collect();
        }
        self.sent = self.sent.saturating_add(1);
        Ok(Step::Continue(self, outbox))
    }
}

impl<O: 'static> Protocol for Tell<O> {
    type Output = O;

    fn step(mut self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        if self.forgetful.contains_key(&self.recall.me) {
            // The letters that answer those sent last.
            let speakers = self.counts.iter().filter(|(_, count)| **count >= self.sent).map(|(from, _)| *from);
            let piece = |bytes: &[u8]| (1..=CHUNK).contains(&bytes.len()).then(|| bytes.to_vec());
            for (from, piece) in inbox.directed(&speakers.collect::<Vec<_>>(), piece)? {
                self.heard.entry(from).or_default().extend(piece);
            }
        }
        self.go_on()
    }
}

impl<O: 'static> Protocol for Readmit<O> {
    type Output = O;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        let Self { run, recall, forgetful } = *self;
        for (party, told) in forgetful {
            if let Some(name) = recall.peers.get(&party) {
                let unwritten =
                    |error| Fault::unattributed(format!("that {name} was told cannot be written down: {error}"));
                recall.witness.readmit(name, told).map_err(unwritten)?;
            }
        }
        run.step(inbox)
    }
}
