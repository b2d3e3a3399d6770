//! Signing sessions: what has to be right before a signer takes part, and what is on its disk before anything leaves it.

use std::sync::{Arc, PoisonError};

use chains::account::{KeyId, KeyPath};
use chains::payload::Message;
use sha2::{Digest, Sha256};

use super::link::Context;
use super::rekey::Proof;
use super::wire::{Answer, SessionId};
use super::witness::{Listener, witnessed};
use super::{Node, Output, Purpose, Stop, context, failed, proof_message, refused, setup};
use crate::ledger::LedgerError;
use crate::protocol::{Fault, batch, map};
use crate::request::SigningRequest;
use crate::share::Share;
use crate::transport::SignerId;
use crate::vault::KeyInfo;

impl Node {
    pub(super) fn prove(
        &self,
        session: SessionId,
        key: &KeyId,
        epoch: u32,
        signers: &[SignerId],
    ) -> Result<Answer, Stop> {
        let (info, share, _) = self.share_at(key, epoch)?;
        let what = vec![(KeyPath::root(), proof_message(&info)?)];
        let entries = self.ledger().entries();
        self.start_signing(session, ("prove", entries), &info, &share, signers, what)
    }

    pub(super) fn sign(
        &self,
        session: SessionId,
        signers: &[SignerId],
        epoch: u32,
        request: &[u8],
    ) -> Result<Answer, Stop> {
        // Whoever takes a signer's token away stops the signer, though its shares are in memory.
        self.vault.ready().map_err(failed)?;
        self.settle_policy()?;
        let guard = self.guard.read().unwrap_or_else(PoisonError::into_inner).clone();
        let guard = guard.ok_or_else(|| Stop::Refused("no policy is installed at this signer".to_owned()))?;
        let request: SigningRequest = serde_json::from_slice(request)
            .map_err(|error| Stop::Refused(format!("the signing request is malformed: {error}")))?;
        let as_of = |intent| self.ledger().as_of(intent);
        if guard.policy().digest() != request.policy {
            return Err(Stop::StalePolicy);
        }
        let judged = guard.judge(&request, as_of).map_err(refused)?;
        let (info, share, usable) = self.share_at(judged.account.key(), epoch)?;
        if !usable {
            return Err(Stop::Refused(format!("key {} has not been proved to sign", info.key)));
        }
        let what = judged.payloads.iter().map(|payload| (payload.path().clone(), payload.message().clone()));
        let what = what.collect::<Vec<_>>();
        // Who takes part is settled before anything is written.
        self.parties(signers, |name| info.party(name))?;
        let digest = <[u8; 32]>::from(Sha256::digest(&request.unsigned));
        let mut ledger = self.ledger();
        let written = ledger.burn(request.tx, judged.intent, digest, &judged.uses, request.fence);
        drop(ledger);
        let written = written.map_err(|error| match error {
            LedgerError::Io { .. } | LedgerError::Broken { .. } => failed(error),
            conflict => refused(conflict),
        })?;
        // The disk is waited for beside the first step; nothing of that step leaves the signer before the entry is there.
        let (answer, settled) = std::thread::scope(|scope| {
            let disk = scope.spawn(|| written.settle());
            let answer = self.start_signing(session, ("sign", written.entries()), &info, &share, signers, what);
            (answer, disk.join())
        });
        if !matches!(settled, Ok(Ok(()))) {
            self.sessions.end(session);
        }
        settled.map_err(|_| Stop::Failed("waiting for the disk broke off".to_owned()))?.map_err(failed)?;
        answer
    }

    fn start_signing(
        &self,
        session: SessionId,
        (kind, entries): (&'static str, u64),
        info: &KeyInfo,
        share: &Arc<Share>,
        signers: &[SignerId],
        what: Vec<(KeyPath, Message)>,
    ) -> Result<Answer, Stop> {
        let parties = self.parties(signers, |name| info.party(name))?;
        let setup = setup(&parties, info.threshold)?;
        if setup.size() != info.threshold {
            let reason = format!("it takes exactly {} signers, not {}", info.threshold, setup.size());
            return Err(Stop::Refused(reason));
        }
        share.keep_nonces_in(&self.nonces);
        let context = context(session, kind, &(info, signers), &what)?;
        let run = |(number, (path, message)): (usize, &(KeyPath, Message))| {
            share.sign(&setup, sub_session(context, number), path, message)
        };
        let runs = what.iter().enumerate().map(run).collect::<Result<Vec<_>, _>>().map_err(refused)?;
        let public = |(path, message): (KeyPath, Message)| Ok((info.group.at(&path).map_err(refused)?, message));
        let what = what.into_iter().map(public).collect::<Result<Vec<_>, Stop>>()?;
        let run = map(batch(runs, setup.peers().to_vec()), Output::Signatures);
        let run = witnessed(run, self.witness.own(entries), setup.peers().to_vec(), self.listener(info));
        let proves = (kind == "prove").then(|| Proof::of(info, share));
        self.start(session, run, Purpose::Sign { what, proves }, &parties, context)
    }

    /// Hears what the others tell of their ledgers in a session of the key.
    fn listener(&self, info: &KeyInfo) -> Listener {
        let (witness, info) = (self.witness.clone(), info.clone());
        Arc::new(move |from, told| {
            let place = usize::from(from.get()).checked_sub(1);
            let peer = place.and_then(|place| info.participants.get(place));
            let peer = peer.ok_or_else(|| Fault::unattributed("a party that holds no share of the key"))?;
            match witness.hear(&info.key, info.epoch, peer, told) {
                Ok(heard) => heard.map_err(|reason| Fault::of(from, reason)),
                Err(error) => Err(Fault::unattributed(format!("what {peer} tells cannot be written down: {error}"))),
            }
        })
    }
}

/// The id of one payload's run within a session.
pub(super) fn sub_session(context: Context, number: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"portcullis sub-session v1");
    hash.update(context.0);
    hash.update(number.to_be_bytes());
    hash.finalize().into()
}
