//! A signer's memory of what it has signed for: which intent took which slot.
//!
//! One intent moves money at most once because all its attempts exclude each other on chain, and because a slot that
//! served one intent never serves another. The gateway keeps that rule; the ledger is why it cannot break it. An entry is
//! on the disk before the first round of a signing begins.
//!
//! The file is append-only, one JSON line an entry. Each line carries the SHA-256 over the check of the line before it and
//! its own entry, so a line can't be changed, left out or moved without breaking the chain. It holds no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chains::chain::Slot;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::request::IntentId;

#[cfg(test)]
mod tests;

/// How far the fence of a payment may rise from one entry to the next, and how high it may begin. Without a bound, one
/// request of a gateway that was taken over could use the numbers up.
const MAX_FENCE_STEP: u64 = 1 << 32;

/// The ledger of one signer, open and locked against every other process.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
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
                    memory.check(&entry).map_err(|_| damaged(number, "it contradicts an earlier line"))?;
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
        Ok(Self { path: path.to_owned(), file, head, memory, broken: false })
    }

    /// How many entries there are; it only grows.
    pub(crate) fn entries(&self) -> u64 {
        self.memory.entries
    }

    /// Takes `slots` for `intent`, named `tx` by the gateway, whose unsigned bytes have the SHA-256 `unsigned`. When this
    /// returns, the entry is on the disk. The same bytes may be burned for again (a crash came between), and so may other
    /// bytes of the same intent that exclude every earlier attempt of it. `fence` is the gateway's lease of this payment: once
    /// a higher one was seen for it, the gateway that held the lower one is out.
    ///
    /// # Errors
    /// Where the slots or the intent belong to another payment, where an earlier attempt isn't excluded, where the fence
    /// is out of order, or where the entry can't be written.
    pub(crate) fn burn(
        &mut self,
        tx: Uuid,
        intent: IntentId,
        unsigned: [u8; 32],
        slots: &BTreeSet<Slot>,
        fence: u64,
    ) -> Result<(), LedgerError> {
        if self.broken {
            return Err(LedgerError::Broken { path: self.path.clone() });
        }
        let entry = Entry { tx, intent, unsigned, slots: slots.clone(), fence };
        // A fence that rises is written down, whatever it comes with.
        if self.memory.check(&entry)? == Known::Yes && entry.fence == self.memory.fence(tx) {
            return Ok(());
        }
        let entry_json = serde_json::value::to_raw_value(&entry).expect("strings always have a JSON form");
        let check = link(self.head, &entry_json);
        let mut line =
            serde_json::to_vec(&Line { check, entry: &entry_json }).expect("strings always have a JSON form");
        line.push(b'\n');
        self.broken = true;
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| LedgerError::Io { path: self.path.clone(), source })?;
        self.broken = false;
        self.head = check;
        self.memory.remember(entry);
        Ok(())
    }
}

/// What the lines say, for quick answers.
#[derive(Debug, Default)]
struct Memory {
    slots: BTreeMap<Slot, Uuid>,
    intents: BTreeMap<IntentId, Uuid>,
    payments: BTreeMap<Uuid, Payment>,
    /// How many entries there are.
    entries: u64,
}

#[derive(Debug)]
struct Payment {
    intent: IntentId,
    /// The highest fence of an entry.
    fence: u64,
    attempts: BTreeMap<[u8; 32], BTreeSet<Slot>>,
}

/// Whether an entry has been made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

impl Memory {
    /// The highest fence that was seen for a payment.
    fn fence(&self, tx: Uuid) -> u64 {
        self.payments.get(&tx).map_or(0, |payment| payment.fence)
    }

    fn check(&self, entry: &Entry) -> Result<Known, LedgerError> {
        let tx = entry.tx;
        if entry.slots.is_empty() {
            return Err(LedgerError::NoSlot { tx });
        }
        let (given, seen) = (entry.fence, self.fence(tx));
        match given.checked_sub(seen) {
            None => return Err(LedgerError::StaleFence { given, seen }),
            Some(step) if step > MAX_FENCE_STEP => return Err(LedgerError::WildFence { given, seen }),
            Some(_) => (),
        }
        if let Some(other) = self.intents.get(&entry.intent).filter(|other| **other != tx) {
            return Err(LedgerError::IntentTaken { tx: *other });
        }
        for slot in &entry.slots {
            if let Some(other) = self.slots.get(slot).filter(|other| **other != tx) {
                return Err(LedgerError::SlotTaken { slot: slot.clone(), tx: *other });
            }
        }
        let Some(payment) = self.payments.get(&tx) else {
            return Ok(Known::No);
        };
        if payment.intent != entry.intent {
            return Err(LedgerError::OtherIntent { tx });
        }
        if let Some(slots) = payment.attempts.get(&entry.unsigned) {
            return if *slots == entry.slots { Ok(Known::Yes) } else { Err(LedgerError::SlotsChanged { tx }) };
        }
        match payment.attempts.iter().find(|(_, slots)| slots.is_disjoint(&entry.slots)) {
            Some((earlier, _)) => Err(LedgerError::NoConflict { tx, earlier: *earlier }),
            None => Ok(Known::No),
        }
    }

    fn remember(&mut self, entry: Entry) {
        self.entries = self.entries.saturating_add(1);
        self.slots.extend(entry.slots.iter().map(|slot| (slot.clone(), entry.tx)));
        self.intents.insert(entry.intent, entry.tx);
        let payment = self
            .payments
            .entry(entry.tx)
            .or_insert_with(|| Payment { intent: entry.intent, fence: 0, attempts: BTreeMap::new() });
        payment.fence = payment.fence.max(entry.fence);
        payment.attempts.insert(entry.unsigned, entry.slots);
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
