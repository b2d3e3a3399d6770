//! Signers watch over each other's memory: one that was restored from an old copy is found out.
//!
//! A signer whose directory went back in time has forgotten slots that it signed for, and would sign for them again. So
//! each tells the others, in its first letter of a signature, how many entries its slot ledger has, and how many it had
//! when its process began. Whoever begins with fewer than it told before has lost some, whatever key it told that with: a
//! signer has one ledger for all. It is refused until the key is refreshed, and is then told what it has forgotten
//! (`recall`). From there on it has to have what it had when it was told; with a key that it was refused for, it is refused
//! until that one is refreshed, too.
//!
//! The letters are sealed, so whoever carries them can't change what is told. Letters of sessions under way at once may
//! overtake each other, so that within one process the number may seem to fall a little; one that falls further than
//! there can be sessions under way has been lost as well (a virtual machine that was set back while it ran).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chains::account::KeyId;
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};

use super::live::MAX_LIVE;
use crate::disk;
use crate::protocol::{Fault, Inbox, Letter, Outbox, PartyIndex, Protocol, Run, Step, decode, encode};
use crate::transport::SignerId;

/// Where the most is kept that is remembered of a signer, of whatever key. Names of epochs have a dot in them.
const ALL: &str = "all";
/// How much more than the disk knows may be remembered in memory alone. What a crash forgets is no more than this.
const SLACK: u64 = 32;

/// What a signer says of its ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Chosen at random when the process began.
    process: u64,
    /// How many entries the ledger had when the process began.
    at_start: u64,
    /// How many it has.
    entries: u64,
}

/// What a signer remembers of the others' ledgers.
pub(super) struct Witness {
    path: PathBuf,
    own: Memory,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By key and epoch, and under [`ALL`].
    peers: BTreeMap<String, BTreeMap<SignerId, Memory>>,
    /// How many entries were seen since the disk was last told.
    unsaved: u64,
}

impl Memory {
    /// How many entries the ledger has that is said to be as `told`, and how many it had when it was last told of as here:
    /// where some were lost.
    pub(super) fn lost(&self, told: &Self) -> Option<(u64, u64)> {
        let same = self.process == told.process;
        // A letter is overtaken by no more entries than there are sessions under way, at both ends.
        let overtaken = u64::from(MAX_LIVE).saturating_mul(2);
        let least = if same { self.entries.saturating_sub(overtaken) } else { self.entries };
        let has = if same { told.entries } else { told.at_start };
        (has < least).then_some((has, self.entries))
    }
}

impl Seen {
    fn of(&self, name: &str, peer: &SignerId) -> Option<Memory> {
        self.peers.get(name)?.get(peer).copied()
    }

    fn most(&self, peer: &SignerId) -> Option<Memory> {
        self.peers.values().filter_map(|of_key| of_key.get(peer)).max_by_key(|memory| memory.entries).copied()
    }
}

impl Witness {
    /// What was remembered in `path`, for a signer whose own ledger has `entries`.
    pub(super) fn open(path: &Path, entries: u64) -> io::Result<Self> {
        let peers = match disk::read(path)? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => BTreeMap::new(),
        };
        let own = Memory { process: OsRng.next_u64(), at_start: entries, entries };
        Ok(Self { path: path.to_owned(), own, seen: Mutex::new(Seen { peers, unsaved: 0 }) })
    }

    /// What this signer tells, its ledger having `entries`.
    pub(super) fn own(&self, entries: u64) -> Memory {
        Memory { entries, ..self.own }
    }

    /// Hears what `peer` tells in a session of the key.
    ///
    /// # Errors
    /// Where the peer has forgotten something, or that cannot be remembered here. The inner error says what it forgot.
    pub(super) fn hear(
        &self,
        key: &KeyId,
        epoch: u32,
        peer: &SignerId,
        told: Memory,
    ) -> io::Result<Result<(), String>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{key}.{epoch}");
        let (of_key, of_all) = (seen.of(&name, peer), seen.of(ALL, peer).or_else(|| seen.most(peer)));
        if let Some((has, had)) = [of_key, of_all].into_iter().flatten().find_map(|last| last.lost(&told)) {
            return Ok(Err(format!(
                "its slot ledger has {has} entries and had {had}: it was restored from an old copy; refresh the key"
            )));
        }
        let mut most_risen = 0;
        for (name, last) in [(name.as_str(), of_key), (ALL, of_all)] {
            // A process that is new is written down at once.
            let same = last.filter(|last| last.process == told.process);
            let risen = same.map_or(SLACK, |last| told.entries.saturating_sub(last.entries));
            most_risen = risen.max(most_risen);
            let entries = last.map_or(told.entries, |last| last.entries.max(told.entries));
            let memory = Memory { entries, ..told };
            seen.peers.entry(name.to_owned()).or_default().insert(peer.clone(), memory);
        }
        seen.unsaved = seen.unsaved.saturating_add(most_risen);
        if seen.unsaved >= SLACK {
            self.save(&mut seen)?;
        }
        Ok(Ok(()))
    }

    /// The most that is remembered of a signer's ledger, of whatever key and epoch: each signer has one for all.
    pub(super) fn remembered(&self, peer: &SignerId) -> Option<Memory> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).most(peer)
    }

    /// Remembers that `peer`, whose ledger was as `told`, has been told what it had forgotten.
    ///
    /// # Errors
    /// Where that cannot be written down.
    pub(super) fn readmit(&self, peer: &SignerId, told: Memory) -> io::Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.peers.entry(ALL.to_owned()).or_default().insert(peer.clone(), told);
        self.save(&mut seen)
    }

    fn save(&self, seen: &mut Seen) -> io::Result<()> {
        disk::write_atomic(&self.path, &serde_json::to_vec(&seen.peers)?)?;
        seen.unsaved = 0;
        Ok(())
    }
}

/// A signer that is stopped in good order forgets nothing.
impl Drop for Witness {
    fn drop(&mut self) {
        let mut seen = std::mem::take(self.seen.get_mut().unwrap_or_else(PoisonError::into_inner));
        if seen.unsaved > 0
            && let Err(error) = self.save(&mut seen)
        {
            tracing::error!(path = %self.path.display(), %error, "what was seen of the others' ledgers is not saved");
        }
    }
}

/// Who listens to what the others tell.
pub(super) type Listener = Arc<dyn Fn(PartyIndex, Memory) -> Result<(), Fault> + Send + Sync>;

/// `run`, with `told` in its first letters and `listener` hearing what is in the others'.
pub(super) fn witnessed<O: 'static>(run: Run<O>, told: Memory, peers: Vec<PartyIndex>, listener: Listener) -> Run<O> {
    Box::new(Tell { run, told, peers, listener })
}

struct Tell<O> {
    run: Run<O>,
    told: Memory,
    peers: Vec<PartyIndex>,
    listener: Listener,
}

struct Listen<O> {
    run: Run<O>,
    peers: Vec<PartyIndex>,
    listener: Listener,
}

impl<O: 'static> Protocol for Tell<O> {
    type Output = O;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        let Self { run, told, peers, listener } = *self;
        match run.step(inbox)? {
            Step::Done(output) => Ok(Step::Done(output)),
            Step::Continue(run, outbox) => {
                let outbox = Outbox { broadcast: encode(&(told, outbox.broadcast))?, ..outbox };
                Ok(Step::Continue(Box::new(Listen { run, peers, listener }), outbox))
            }
        }
    }
}

impl<O: 'static> Protocol for Listen<O> {
    type Output = O;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        let Self { run, peers, listener } = *self;
        let told = inbox.broadcasts(&peers, |bytes| decode::<(Memory, Vec<u8>)>(bytes))?;
        let mut letters = BTreeMap::new();
        for (from, (memory, broadcast)) in told {
            listener(from, memory)?;
            letters.insert(from, broadcast);
        }
        let letter = |(from, letter): (PartyIndex, Letter)| {
            let broadcast = letters.remove(&from).unwrap_or_default();
            (from, Letter { broadcast, directed: letter.directed })
        };
        let inner = Inbox::new(inbox.into_letters().map(letter).collect());
        run.step(inner)
    }
}
