//! Escrows of the pool's keys, and test signatures that prove a key.

use std::collections::BTreeMap;
use std::time::Instant;

use chains::account::KeyId;

use super::{KnownKey, Pool, PoolError};
use crate::ceremony::dkg;
use crate::ceremony::escrow::{EscrowFile, Recipient};
use crate::node::wire::{Answer, Command};
use crate::session::{Limits, fresh_session};

impl Pool {
    /// Lets the signers of this process help in making escrows for `recipient`, and for nobody else. A signer apart learns
    /// from its own configuration whom it may help for.
    pub fn permit_escrow(&self, recipient: &Recipient) {
        for handle in &self.handles {
            handle.permit_escrow(std::slice::from_ref(recipient));
        }
    }

    /// Has as many signers as it takes make one more share of a key for the holder of `recipient`, which nobody else can
    /// open. It is good for the key's present epoch. Once the file is safe, [`Pool::note_escrow`].
    ///
    /// # Errors
    /// Where there is no such key, too few of its holders are up, one of them may not help for this recipient, or they
    /// fail.
    pub async fn escrow(&self, key: &KeyId, recipient: &Recipient, created_at: u64) -> Result<EscrowFile, PoolError> {
        let _one_at_a_time = self.ceremony.lock().await;
        let refused = |reason: String| PoolError::Ceremony { key: key.clone(), what: "put in escrow", reason };
        let KnownKey { info, holders, .. } = self.known(key).ok_or_else(|| PoolError::UnknownKey(key.clone()))?;
        let helpers = self.health.rank(&holders, Instant::now()).into_iter().take(info.threshold.into());
        let helpers = helpers.collect::<Vec<_>>();
        if helpers.len() < usize::from(info.threshold) {
            return Err(refused(format!("{} holders are up and it takes {}", helpers.len(), info.threshold)));
        }
        let status = self.status().await.keys.into_iter().find(|status| status.key == *key);
        let replaces = status.and_then(|status| status.escrowed);
        let (session, recipient_text) = (fresh_session(), recipient.to_string());
        let (name, epoch) = (key.clone(), info.epoch);
        let start = Command::Escrow { session, key: name, epoch, helpers: helpers.clone(), recipient: recipient_text };
        let deadline = tokio::time::Instant::now() + dkg::WHOLE;
        let ended = self.line.run(session, &helpers, &start, Limits { round: dkg::ROUND, deadline }, |_| ()).await;
        if let Some(failure) = ended.failures.first() {
            return Err(refused(failure.to_string()));
        }
        let mut parts = BTreeMap::new();
        for (signer, answer) in ended.outputs {
            if let (Some(party), Answer::Escrowed(part)) = (info.party(&signer), answer) {
                parts.insert(party, part);
            }
        }
        if parts.len() != helpers.len() {
            return Err(refused("a signer has left its part out".to_owned()));
        }
        EscrowFile::bundle(&info, parts, recipient, created_at, replaces).map_err(|error| refused(error.to_string()))
    }

    /// Has the signers remember that the escrow of an epoch is safe in its holder's hands, for
    /// [`KeyStatus::escrowed`](super::KeyStatus::escrowed).
    ///
    /// # Errors
    /// Where no signer can write it down.
    pub async fn note_escrow(&self, escrow: &EscrowFile) -> Result<(), PoolError> {
        let key = escrow.key();
        let known = self.known(key).ok_or_else(|| PoolError::UnknownKey(key.clone()))?;
        let command = Command::NoteEscrow { key: key.clone(), epoch: escrow.epoch() };
        let mut last = None;
        for (_, answer) in self.line.ask_all(&known.holders, &command).await {
            match answer {
                Ok(_) => return Ok(()),
                Err(failure) => last = Some(failure.to_string()),
            }
        }
        let reason = last.unwrap_or_else(|| "no holder is up".to_owned());
        Err(PoolError::Ceremony { key: key.clone(), what: "put in escrow", reason })
    }

    /// Has every holder of a key sign test messages, in as few quorums as cover them all; each signature is checked by a
    /// stock verifier. Answers how many shares have signed.
    ///
    /// # Errors
    /// Where there is no such key, or a holder doesn't sign.
    pub async fn prove(&self, key: &KeyId) -> Result<usize, PoolError> {
        let _one_at_a_time = self.ceremony.lock().await;
        let known = self.known(key).ok_or_else(|| PoolError::UnknownKey(key.clone()))?;
        let proved = dkg::prove(&self.line, &known.info).await;
        proved.map_err(|error| PoolError::Ceremony { key: key.clone(), what: "proved", reason: error.to_string() })?;
        Ok(known.info.participants.len())
    }
}
