//! A signer's help in making an escrow.
//!
//! Whoever holds an escrow holds a share, so whom one is made for is not the coordinator's to say: a signer knows the
//! recipients from whoever started it, and helps for nobody else. The place of the share is not the coordinator's to say
//! either: it is the one after the last holder's, so all escrows of one epoch are the same share.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use chains::account::KeyId;

use super::wire::{Answer, SessionId};
use super::{Node, Output, Purpose, Stop, context, failed, refused, setup};
use crate::ceremony::echo::echoed;
use crate::ceremony::escrow::{Recipient, next_place, seal_part};
use crate::protocol::map;
use crate::scheme::enroll::Part;
use crate::transport::SignerId;
use crate::vault::KeyInfo;

/// For whom this signer helps.
#[derive(Default)]
pub(super) struct Permitted(RwLock<BTreeSet<String>>);

/// The escrow that a session is for.
pub(super) struct EscrowPlan {
    pub(super) info: KeyInfo,
    recipient: Recipient,
}

impl Node {
    /// Lets this signer help in making escrows for these recipients, and for nobody else.
    pub(crate) fn permit_escrow(&self, recipients: &[Recipient]) {
        let recipients = recipients.iter().map(ToString::to_string).collect();
        *self.permitted.0.write().unwrap_or_else(PoisonError::into_inner) = recipients;
    }

    /// Starts the session.
    pub(super) fn escrow(
        &self,
        session: SessionId,
        key: &KeyId,
        epoch: u32,
        helpers: &[SignerId],
        recipient: &str,
    ) -> Result<Answer, Stop> {
        if !self.permitted.0.read().unwrap_or_else(PoisonError::into_inner).contains(recipient) {
            let reason = "this signer's own configuration names no such recipient of escrows";
            return Err(Stop::Refused(format!("{reason}: {recipient}")));
        }
        self.vault.ready().map_err(failed)?;
        let (info, share, usable) = self.share_at(key, epoch)?;
        if !usable {
            return Err(Stop::Refused(format!("epoch {epoch} of key {key} has not been proved to sign")));
        }
        let parties = self.parties(helpers, |name| info.party(name))?;
        let setup = setup(&parties, info.threshold)?;
        let place = next_place(&info).ok_or_else(|| Stop::Refused("there is no place left".to_owned()))?;
        let context = context(session, "escrow", &(&info, helpers, recipient), &[])?;
        let run = share.enroll(&setup, place, context.0).map_err(refused)?;
        let run = echoed(map(run, Output::Part), setup.me(), setup.peers().to_vec());
        let recipient = recipient.parse().map_err(refused)?;
        self.start(session, run, Purpose::Escrow(EscrowPlan { info, recipient }), &parties, context)
    }

    /// A session has ended well: the part is sealed to the holder before it leaves.
    pub(super) fn finish_escrow(&self, plan: &EscrowPlan, part: &Part) -> Result<Answer, Stop> {
        let me = plan.info.party(&self.id).ok_or_else(|| failed("this signer holds no share"))?;
        seal_part(&plan.info, me, part, &plan.recipient).map(Answer::Escrowed).map_err(failed)
    }

    /// Remembers that the escrow of an epoch is in its holder's hands.
    pub(super) fn note_escrow(&self, key: &KeyId, epoch: u32) -> Result<Answer, Stop> {
        self.share_at(key, epoch)?;
        self.vault.note_escrow(key, epoch).map_err(failed)?;
        Ok(Answer::Done)
    }
}
