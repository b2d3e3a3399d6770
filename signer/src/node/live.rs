//! The sessions that a signer has under way, each at a certain round.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chains::payload::Message;

use super::link::Link;
use super::wire::{SealedLetter, SessionId};
use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Run};
use crate::transport::SignerId;

/// How many sessions a signer has under way at most.
pub(super) const MAX_LIVE: u16 = 512;
/// How long a session may lie idle.
const IDLE: Duration = Duration::from_secs(300);
/// How many ended sessions are remembered, so that none of them starts over.
const REMEMBERED: usize = 65_536;

/// The sessions of one signer.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    live: HashMap<SessionId, Live>,
    used: HashSet<SessionId>,
    order: VecDeque<SessionId>,
}

struct Live {
    place: Place,
    touched: Instant,
    /// With whom it is.
    peers: BTreeSet<SignerId>,
}

enum Place {
    /// Waiting for the letters of its round.
    Waiting(Box<Session>),
    /// A step is being computed.
    Busy,
    /// One of the others was banned, and what the session held is dropped.
    Barred,
}

/// A run with its links.
pub(super) struct Session {
    /// The run.
    pub(super) run: Run<super::Output>,
    /// What it is for.
    pub(super) purpose: super::Purpose,
    /// The round whose letters it waits for.
    pub(super) round: u32,
    /// This signer.
    pub(super) me: SignerId,
    /// The others.
    pub(super) peers: BTreeMap<SignerId, (PartyIndex, Link)>,
}

/// Why a session cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the session id was used before")]
    Used,
    #[error("the signer has too many sessions under way; try again later")]
    TooMany,
    #[error("no such session is under way")]
    Unknown,
    #[error("the session is at round {at}, not at round {given}")]
    WrongRound { at: u32, given: u32 },
    #[error("one of its signers was banned")]
    Barred,
}

impl Sessions {
    /// Reserves a session id for good, for a session with `peers`.
    pub(super) fn reserve(&self, id: SessionId, peers: BTreeSet<SignerId>, now: Instant) -> Result<(), SessionError> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.live.retain(|_, live| now.saturating_duration_since(live.touched) < IDLE);
        if table.live.len() >= usize::from(MAX_LIVE) {
            return Err(SessionError::TooMany);
        }
        if !table.used.insert(id) {
            return Err(SessionError::Used);
        }
        table.order.push_back(id);
        if table.order.len() > REMEMBERED
            && let Some(oldest) = table.order.pop_front()
        {
            table.used.remove(&oldest);
        }
        table.live.insert(id, Live { place: Place::Busy, touched: now, peers });
        Ok(())
    }

    /// Takes a session that waits for the letters of `round`.
    pub(super) fn take(&self, id: SessionId, round: u32, now: Instant) -> Result<Session, SessionError> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live = table.live.get_mut(&id).ok_or(SessionError::Unknown)?;
        match std::mem::replace(&mut live.place, Place::Busy) {
            Place::Busy => Err(SessionError::Unknown),
            Place::Waiting(session) if session.round == round => {
                live.touched = now;
                Ok(*session)
            }
            Place::Waiting(session) => {
                let at = session.round;
                live.place = Place::Waiting(session);
                Err(SessionError::WrongRound { at, given: round })
            }
            Place::Barred => {
                live.place = Place::Barred;
                Err(SessionError::Barred)
            }
        }
    }

    /// Puts a session back, unless it was ended meanwhile.
    pub(super) fn put(&self, id: SessionId, session: Session, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = table.live.get_mut(&id).filter(|live| matches!(live.place, Place::Busy)) {
            (live.place, live.touched) = (Place::Waiting(Box::new(session)), now);
        }
    }

    /// Ends every session with `culprit`, one whose step is being computed too; what they hold is dropped.
    pub(super) fn bar(&self, culprit: &SignerId) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for live in table.live.values_mut().filter(|live| live.peers.contains(culprit)) {
            live.place = Place::Barred;
        }
    }

    /// With whom a session is, where it is under way or barred.
    pub(super) fn peers(&self, id: SessionId) -> BTreeSet<SignerId> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.live.get(&id).map(|live| live.peers.clone()).unwrap_or_default()
    }

    /// Ends a session; what it holds is dropped.
    pub(super) fn end(&self, id: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).live.remove(&id);
    }
}

impl Session {
    /// Whether its next step checks what the others sent in a way that can end in a ban. DKLs23 does so in its second and
    /// third phase, with what came in answer to the first letters; the step after that is short, and counted as well.
    pub(super) fn can_ban(&self) -> bool {
        let super::Purpose::Sign { what, .. } = &self.purpose else { return false };
        self.round > 0 && what.iter().any(|(_, message)| matches!(message, Message::Ecdsa(_)))
    }

    /// This signer's letters of a round.
    pub(super) fn seal(
        me: &SignerId,
        peers: &BTreeMap<SignerId, (PartyIndex, Link)>,
        round: u32,
        mut outbox: Outbox,
    ) -> Result<Vec<SealedLetter>, Fault> {
        let letter = |(to, (party, link)): (&SignerId, &(PartyIndex, Link))| {
            let sealed = link.seal(round, &outbox.take_letter_to(*party));
            let sealed = sealed.ok_or_else(|| Fault::unattributed("a letter is too long to seal"))?;
            Ok(SealedLetter { from: me.clone(), to: to.clone(), sealed })
        };
        peers.iter().map(letter).collect()
    }

    /// Opens the others' letters of the session's round: one from each, addressed to this signer.
    pub(super) fn open(&self, letters: &[SealedLetter]) -> Result<Inbox, Fault> {
        let mut inbox = BTreeMap::new();
        for letter in letters {
            let Some((party, link)) = self.peers.get(&letter.from).filter(|_| letter.to == self.me) else {
                tracing::warn!(signer = %self.me, from = %letter.from, to = %letter.to, "a letter of no concern is dropped");
                continue;
            };
            let opened = link.open(self.round, &letter.sealed);
            let opened = opened.ok_or_else(|| {
                Fault::of(*party, "its letter is altered, or bound to another session, round or message")
            })?;
            if inbox.insert(*party, opened).is_some() {
                return Err(Fault::of(*party, "it sent two letters in one round"));
            }
        }
        match self.peers.values().find(|(party, _)| !inbox.contains_key(party)) {
            Some((party, _)) => Err(Fault::of(*party, "its letter is missing")),
            None => Ok(Inbox::new(inbox)),
        }
    }

    /// The name of a party of this session.
    pub(super) fn name(&self, party: PartyIndex) -> Option<SignerId> {
        self.peers.iter().find(|(_, (index, _))| *index == party).map(|(name, _)| name.clone())
    }
}
