//! Consistent broadcast: every round of broadcasts is followed by one in which the parties compare what they received.
//!
//! A key generation is only sound when all parties see the same commitments (RFC 9591, appendix D, asks for a broadcast
//! channel). The coordinator relays letters one by one, so a party could tell each peer something else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::protocol::{Fault, Inbox, Outbox, PartyIndex, Protocol, Run, Step, decode_owned, encode};

/// `run`, with an echo round after each round of broadcasts.
pub(crate) fn echoed<O: 'static>(run: Run<O>, me: PartyIndex, peers: Vec<PartyIndex>) -> Run<O> {
    Box::new(Inner { run, own: None, me, peers })
}

/// The inner run takes the next step. `own` is what it broadcast last, where it did.
struct Inner<O> {
    run: Run<O>,
    own: Option<Vec<u8>>,
    me: PartyIndex,
    peers: Vec<PartyIndex>,
}

/// The letters are held back until all have confirmed what was broadcast.
struct Echo<O> {
    run: Run<O>,
    held: Inbox,
    digests: Digests,
    me: PartyIndex,
    peers: Vec<PartyIndex>,
}

/// SHA-256 of what each party broadcast, as the sender of the echo saw it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Digests(BTreeMap<PartyIndex, [u8; 32]>);

impl<O: 'static> Protocol for Inner<O> {
    type Output = O;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        let Self { run, own, me, peers } = *self;
        let Some(own) = own else {
            return advance(run, inbox, me, peers);
        };
        let mut digests = inbox.broadcasts(&peers, |broadcast| Some(digest(broadcast)))?;
        digests.insert(me, digest(&own));
        let digests = Digests(digests);
        let outbox = Outbox::broadcast(encode(&digests)?);
        Ok(Step::Continue(Box::new(Echo { run, held: inbox, digests, me, peers }), outbox))
    }
}

impl<O: 'static> Protocol for Echo<O> {
    type Output = O;

    fn step(self: Box<Self>, inbox: Inbox) -> Result<Step<O>, Fault> {
        let Self { run, held, digests, me, peers } = *self;
        for (witness, echo) in inbox.broadcasts(&peers, decode_owned::<Digests>)? {
            if echo == digests {
                continue;
            }
            // Either the sender told two stories or the witness lies; without signatures nobody else can tell which.
            // Where the witness denies what this very party sent it, the witness is the one.
            let differs = |party: &PartyIndex| echo.0.get(party) != digests.0.get(party);
            let sender = digests.0.keys().copied().find(differs).unwrap_or(witness);
            let culprit = if sender == me { witness } else { sender };
            return Err(Fault::of(culprit, format!("parties {me} and {witness} got different broadcasts of {sender}")));
        }
        advance(run, held, me, peers)
    }
}

fn advance<O: 'static>(run: Run<O>, inbox: Inbox, me: PartyIndex, peers: Vec<PartyIndex>) -> Result<Step<O>, Fault> {
    match run.step(inbox)? {
        Step::Done(output) => Ok(Step::Done(output)),
        Step::Continue(run, outbox) => {
            let own = (!outbox.broadcast.is_empty()).then(|| outbox.broadcast.clone());
            Ok(Step::Continue(Box::new(Inner { run, own, me, peers }), outbox))
        }
    }
}

fn digest(broadcast: &[u8]) -> [u8; 32] {
    Sha256::digest(broadcast).into()
}
