//! A signer's memory of what it has signed for: which intent took which slot.
//!
//! One intent moves money at most once because all its attempts exclude each other on chain, and because a slot that
//! served one intent never serves another. The gateway keeps that rule; the ledger is why it cannot break it. An entry is
//! on the disk before anything of its signing leaves the signer (`flush`).
//!
//! It is the memory of velocity limits, too: an entry holds what its transaction draws on the limits of this signer's
//! policy, and when by this signer's clock. Slots and draws are in one line, so that both are on the disk or neither is.
//! An intent draws once, whatever the number of its attempts.
//!
//! A signer whose ledger went back in time is told by the others what it may have forgotten, before it signs with another
//! epoch of a key (`hearsay`).
//!
//! The file is append-only, one JSON line an entry. Each line carries the SHA-256 over the check of the line before it and
//! its own entry, so a line can't be changed, left out or moved without breaking the chain. It holds no secret.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chains::amount::Amount;
use chains::chain::Slot;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::policy::Denial;
use crate::policy::limit::{BucketId, CounterKey, Draw, Used};
use crate::request::IntentId;
use crate::transport::SignerId;

mod clock;
mod flush;
mod hearsay;
mod memory;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub(crate) use clock::SystemClock;
use flush::Flush;
pub(crate) use flush::Written;
pub(crate) use hearsay::Told;
use memory::{Known, Memory};

/// How far the fence of a payment may rise from one entry to the next, and how high it may begin. Without a bound, one
/// request of a gateway that was taken over could use the numbers up.
const MAX_FENCE_STEP: u64 = 1 << 32;

/// The ledger of one signer, open and locked against every other process.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    flush: Arc<Flush>,
    clock: Arc<dyn Clock>,
    /// The check of the last line.
    head: [u8; 32],
    memory: Memory,
    /// Set while a write is under way and left set by one that failed: what is on the disk is then unknown.
    broken: bool,
}

/// One signing that was agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The gateway's name for the intent.
    tx: Uuid,
    /// The intent, by who asked and under which idempotency key.
    intent: IntentId,
    /// SHA-256 of the unsigned bytes.
    #[serde(with = "hex::serde")]
    unsigned: [u8; 32],
    slots: BTreeSet<Slot>,
    /// The lease under which the gateway asked. Each payment has fences of its own.
    #[serde(default)]
    fence: u64,
    /// When, by this signer's clock, in milliseconds since 1970; never less than in the line before. Lines without draws
    /// may lack it.
    #[serde(default)]
    at: u64,
    /// What it draws on limits, beyond what its intent has drawn before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    draws: Vec<Drawn>,
    /// Who told of it, where this signer didn't agree to it itself or has forgotten that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learnt: Option<SignerId>,
}

/// What was drawn on one counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drawn {
    counter: CounterKey,
    bucket: BucketId,
    amount: Amount,
    count: u64,
}

/// What a transaction uses up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// On chain; never empty.
    pub(crate) slots: BTreeSet<Slot>,
    /// Of the limits of this signer's policy.
    pub(crate) draws: Vec<Draw>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(with = "hex::serde")]
    check: [u8; 32],
    #[serde(borrow)]
    entry: &'l RawValue,
}

/// Why slots are not burned. Then nothing may be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LedgerError {
    /// The slot serves another intent.
    #[error("slot {slot} was signed for by transaction {tx}")]
    SlotTaken { slot: Slot, tx: Uuid },
    /// The client's one request under two names: it would pay twice.
    #[error("the same intent was signed for as transaction {tx}")]
    IntentTaken { tx: Uuid },
    /// One name for two requests.
    #[error("transaction {tx} was signed for with another intent")]
    OtherIntent { tx: Uuid },
    /// A further attempt that could be included beside an earlier one.
    #[error("this attempt of transaction {tx} doesn't exclude its attempt {}", hex::encode(.earlier))]
    NoConflict { tx: Uuid, earlier: [u8; 32] },
    /// The same bytes use other slots than before.
    #[error("the slots of transaction {tx} are not those of before")]
    SlotsChanged { tx: Uuid },
    /// A transaction that uses nothing up can't be told from its copy.
    #[error("transaction {tx} has no slot")]
    NoSlot { tx: Uuid },
    /// A gateway whose lease has been taken over.
    #[error("the fence {given} is below {seen}, which was seen before; another gateway has taken over")]
    StaleFence { given: u64, seen: u64 },
    /// A fence that no takeover leads to: it would lock every later gateway out.
    #[error("the fence {given} is more than {MAX_FENCE_STEP} above {seen}, the last one")]
    WildFence { given: u64, seen: u64 },
    /// More than a limit of this signer's policy permits, by its own count.
    #[error("the policy denies it: {0}")]
    Limit(#[from] Denial),
    /// The disk failed.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A write failed before, so the file's end is unknown.
    #[error("{}: an earlier write failed; start the signer again", path.display())]
    Broken { path: PathBuf },
    /// Another process has the ledger open.
    #[error("{}: in use by another process", path.display())]
    InUse { path: PathBuf },
    /// A line that was not written so. Nothing is signed until somebody has looked.
    #[error("{}: line {line} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, line: usize, reason: &'static str },
}

impl Ledger {
    /// Opens the ledger at `path`, an empty one where there is none. A last line that a crash left unfinished is cut off:
    /// nothing was signed for it.
    ///
    /// # Errors
    /// Where the file can't be read or is open elsewhere, and where any finished line is damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let at = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut file = open_private(path).map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(at(source)),
        }
        // The file's own name must survive a crash, too.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(at)?;

        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at)?;
        let damaged = |line, reason| LedgerError::Damaged { path: path.to_owned(), line, reason };

        let mut head = genesis();
        let mut memory = Memory::default();
        let mut kept = 0_usize;
        let mut ended = true;
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let number = index.saturating_add(1);
            let finished = line.strip_suffix(b"\n");
            // What a crash leaves undone may read as zeros.
            let text = finished.unwrap_or_else(|| without_zeros(line));
            match read_line(text, head) {
                Ok((entry, check)) => {
                    if entry.learnt.is_none() {
                        memory.check(&entry).map_err(|_| damaged(number, "it contradicts an earlier line"))?;
                    }
                    memory.remember(entry);
                    head = check;
                    // All there but its end: somebody may have signed for it, so it counts.
                    ended = finished.is_some();
                    kept = kept.saturating_add(text.len()).saturating_add(usize::from(ended));
                }
                Err(LineError::Unfinished) if finished.is_none() => {}
                Err(LineError::Unfinished) => return Err(damaged(number, "it is cut short")),
                Err(LineError::Damaged(reason)) => return Err(damaged(number, reason)),
            }
        }
        let kept = u64::try_from(kept).expect("a file's length fits 64 bits");
        file.set_len(kept).map_err(at)?;
        file.seek(SeekFrom::Start(kept)).map_err(at)?;
        if !ended {
            file.write_all(b"\n").map_err(at)?;
        }
        file.sync_all().map_err(at)?;
        let flush = Arc::new(Flush::new(path, file.try_clone().map_err(at)?, memory.entries));
        Ok(Self { path: path.to_owned(), file, flush, clock: Arc::new(SystemClock), head, memory, broken: false })
    }

    /// Counts by another clock from here on.
    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    /// The same by another clock.
    #[cfg(test)]
    pub(crate) fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// How many entries are on the disk; it only grows.
    pub(crate) fn entries(&self) -> u64 {
        self.flush.settled()
    }

    /// As of when an intent is judged, in milliseconds since the Unix epoch: when it was first agreed to, or else the present.
    pub(crate) fn as_of(&self, intent: IntentId) -> u64 {
        self.memory.agreed(intent).unwrap_or_else(|| self.memory.time(self.clock.unix_millis()))
    }

    /// Takes what a transaction `uses` for `intent`, named `tx` by the gateway, whose unsigned bytes have the SHA-256 `unsigned`. What is
    /// answered says when the entry is on the disk. The same bytes may be burned for again (a crash came between), and so may other
    /// bytes of the same intent that exclude every earlier attempt of it. `fence` is the gateway's lease of this payment: once
    /// a higher one was seen for it, the gateway that held the lower one is out.
    ///
    /// # Errors
    /// Where the slots or the intent belong to another payment, where an earlier attempt isn't excluded, where a limit
    /// is passed, where the fence is out of order, or where the entry can't be written.
    pub(crate) fn burn(
        &mut self,
        tx: Uuid,
        intent: IntentId,
        unsigned: [u8; 32],
        uses: &Uses,
        fence: u64,
    ) -> Result<Written, LedgerError> {
        self.intact()?;
        let at = self.memory.time(self.clock.unix_millis());
        let mut entry =
            Entry { tx, intent, unsigned, slots: uses.slots.clone(), fence, at, draws: Vec::new(), learnt: None };
        let known = self.memory.check(&entry)?;
        entry.draws = self.memory.draw(tx, &uses.draws, at)?.into_iter().map(|draw| Drawn::at(draw, at)).collect();
        // A fence that rises is written down, whatever it comes with.
        if known == Known::Yes && entry.draws.is_empty() && entry.fence == self.memory.fence(tx) {
            return Ok(self.flush.wrote(self.memory.entries)); // it may be on its way to the disk still
        }
        self.append(vec![entry])
    }

    /// All that is known here, for a signer whose ledger went back in time.
    pub(crate) fn tell(&self) -> Vec<Told> {
        self.memory.tell()
    }

    /// Takes in what the signer `from` tells of its ledger. When this returns, all of it is on the disk.
    ///
    /// Nothing of it can free a slot or a budget, whoever tells it. What is told to have been drawn in a bucket that lies
    /// ahead by this signer's clock counts in the present one. The fence isn't told: the next request brings it.
    ///
    /// # Errors
    /// [`LedgerError::NoSlot`] where a payment without a slot is told, and then nothing is taken in; or where the lines
    /// can't be written.
    pub(crate) fn learn(&mut self, from: &SignerId, told: Vec<Told>) -> Result<(), LedgerError> {
        self.intact()?;
        let slotless =
            |told: &&Told| told.attempts.is_empty() || told.attempts.iter().any(|(_, slots)| slots.is_empty());
        if let Some(Told { tx, .. }) = told.iter().find(slotless) {
            return Err(LedgerError::NoSlot { tx: *tx });
        }
        let at = self.memory.time(self.clock.unix_millis());
        let mut entries = Vec::new();
        for Told { tx, intent, attempts, draws } in told {
            let clamp = |drawn: Drawn| Drawn { bucket: drawn.bucket.min(drawn.counter.window().bucket(at)), ..drawn };
            // The draws are those of the whole payment, so one line has them.
            let mut draws = draws.into_iter().map(clamp).collect::<Vec<_>>();
            for (unsigned, slots) in attempts {
                let (draws, learnt) = (std::mem::take(&mut draws), Some(from.clone()));
                let entry = Entry { tx, intent, unsigned, slots, fence: 0, at, draws, learnt };
                if !self.memory.knows(&entry) {
                    entries.push(entry);
                }
            }
        }
        self.append(entries)?.settle()
    }

    /// Whether it can be written to: after a write that failed it can't, until it is opened anew.
    pub(crate) fn intact(&self) -> Result<(), LedgerError> {
        let broken = self.broken || self.flush.has_failed();
        if broken { Err(LedgerError::Broken { path: self.path.clone() }) } else { Ok(()) }
    }

    /// Writes entries down and remembers them. A crash may leave the first of them alone.
    fn append(&mut self, entries: Vec<Entry>) -> Result<Written, LedgerError> {
        let (mut lines, mut head) = (Vec::new(), self.head);
        for entry in &entries {
            let entry = serde_json::value::to_raw_value(entry).expect("strings always have a JSON form");
            head = link(head, &entry);
            let line = serde_json::to_vec(&Line { check: head, entry: &entry });
            lines.extend(line.expect("strings always have a JSON form"));
            lines.push(b'\n');
        }
        self.broken = true;
        self.file.write_all(&lines).map_err(|source| LedgerError::Io { path: self.path.clone(), source })?;
        self.broken = false;
        self.head = head;
        entries.into_iter().for_each(|entry| self.memory.remember(entry));
        Ok(self.flush.wrote(self.memory.entries))
    }
}

impl Drawn {
    const fn used(&self) -> Used {
        Used { amount: self.amount, count: self.count }
    }

    fn at(draw: Draw, at: u64) -> Self {
        let bucket = draw.counter.window().bucket(at);
        Self { counter: draw.counter, bucket, amount: draw.amount, count: draw.count }
    }
}

enum LineError {
    /// The beginning of a line.
    Unfinished,
    Damaged(&'static str),
}

fn without_zeros(line: &[u8]) -> &[u8] {
    line.iter().rposition(|byte| *byte != 0).and_then(|last| line.get(..=last)).unwrap_or_default()
}

fn read_line(text: &[u8], head: [u8; 32]) -> Result<(Entry, [u8; 32]), LineError> {
    let parsed: Line<'_> = serde_json::from_slice(text)
        .map_err(|error| if error.is_eof() { LineError::Unfinished } else { LineError::Damaged("it is no entry") })?;
    if link(head, parsed.entry) != parsed.check {
        return Err(LineError::Damaged("its check is wrong"));
    }
    let entry = serde_json::from_str(parsed.entry.get()).map_err(|_| LineError::Damaged("it is no entry"))?;
    Ok((entry, parsed.check))
}

/// The check of a line that follows the line checked by `head`.
fn link(head: [u8; 32], entry: &RawValue) -> [u8; 32] {
    Sha256::new().chain_update(head).chain_update(entry.get()).finalize().into()
}

/// What stands for the check of the line before the first.
fn genesis() -> [u8; 32] {
    Sha256::digest(b"portcullis slot ledger v1").into()
}

/// Opens for reading and writing; created readable for its owner alone.
fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
