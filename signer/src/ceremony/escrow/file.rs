//! The escrow as a file: armored age, readable by the holder alone, with everything that recovery needs.
//!
//! The outer layer hides what is public about the key (its chain code gives away every address); inside, each signer's
//! part is an age file of its own, which the signer itself has sealed. Nothing in the file proves who wrote it: a
//! coordinator that lies can hand out a file that is worth nothing, not one that gives anything away. A drill finds out.

use std::collections::BTreeMap;

use age::DecryptError;
use chains::account::KeyId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{EscrowError, Identity, Recipient};
use crate::protocol::{PartyIndex, decode};
use crate::scheme::enroll::{Enrollment, Part};
use crate::scheme::{GroupKey, SchemeId};
use crate::share::Share;
use crate::transport::SignerId;
use crate::vault::KeyInfo;

const FORMAT: &str = "portcullis escrow v1";
const PART: &str = "portcullis escrow part v1";

/// An escrow as its holder keeps it: the text of an armored age file.
#[derive(Clone, PartialEq, Eq)]
pub struct EscrowFile {
    text: String,
    key: KeyId,
    epoch: u32,
    helpers: Vec<SignerId>,
}

/// An escrow that was opened: a share that wipes itself, and what is public about it.
pub struct Escrow {
    pub(super) info: KeyInfo,
    pub(super) public: Enrollment,
    pub(super) share: Share,
    recipient: String,
    created_at: u64,
    replaces: Option<u32>,
}

/// What is inside the outer layer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: String,
    /// Whom it was made for.
    recipient: String,
    /// Milliseconds since the Unix epoch.
    created_at: u64,
    /// The epoch of the escrow before it, if the signers remember one.
    replaces: Option<u32>,
    key: KeyInfo,
    public: Enrollment,
    /// By helper: its part, an armored age file.
    parts: BTreeMap<PartyIndex, String>,
}

/// One signer's part, sealed by it to the holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedPart {
    /// What every helper has seen alike.
    pub(crate) public: Enrollment,
    /// An armored age file.
    pub(crate) sealed: String,
}

/// Seals a helper's part to the holder. It is bound to the key, its epoch, the place and the helper.
pub(crate) fn seal_part(
    info: &KeyInfo,
    helper: PartyIndex,
    part: &Part,
    recipient: &Recipient,
) -> Result<SealedPart, EscrowError> {
    let damaged = |error: &dyn std::fmt::Display| EscrowError::Damaged(error.to_string());
    // Room enough that the secret is not copied about while the vector grows.
    let plain = Vec::with_capacity(part.secret.len().saturating_add(8192));
    let plain = postcard::to_extend(&(PART, info, part.public.place, helper, part.secret.as_slice()), plain);
    let plain = Zeroizing::new(plain.map_err(|error| damaged(&error))?);
    let sealed = age::encrypt_and_armor(recipient.age(), &plain).map_err(|error| damaged(&error))?;
    Ok(SealedPart { public: part.public.clone(), sealed })
}

fn open_part(
    sealed: &str,
    identity: &Identity,
    info: &KeyInfo,
    place: PartyIndex,
    helper: PartyIndex,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let plain = open_age(sealed.as_bytes(), identity).map_err(|error| error.to_string())?;
    let opened: Option<(String, KeyInfo, PartyIndex, PartyIndex, &[u8])> = decode(&plain);
    let (domain, its, at, by, secret) = opened.ok_or("it is malformed")?;
    if domain != PART || its != *info || at != place || by != helper {
        return Err("it was made for another escrow".to_owned());
    }
    Ok(Zeroizing::new(secret.to_vec()))
}

fn open_age(text: &[u8], identity: &Identity) -> Result<Zeroizing<Vec<u8>>, EscrowError> {
    age::decrypt(identity.age(), text).map(Zeroizing::new).map_err(|error| match error {
        DecryptError::NoMatchingKeys => EscrowError::WrongIdentity,
        other => EscrowError::Damaged(other.to_string()),
    })
}

impl EscrowFile {
    /// Bundles the helpers' parts; they must all say the same.
    pub(crate) fn bundle(
        info: &KeyInfo,
        parts: BTreeMap<PartyIndex, SealedPart>,
        recipient: &Recipient,
        created_at: u64,
        replaces: Option<u32>,
    ) -> Result<Self, EscrowError> {
        let damaged = |reason: &str| EscrowError::Damaged(reason.to_owned());
        let public = parts.values().next().map(|part| part.public.clone());
        let public = public.ok_or_else(|| damaged("no signer has helped"))?;
        if parts.values().any(|part| part.public != public) || public.group != info.group {
            return Err(damaged("the signers say different things of it"));
        }
        let helpers = parts.keys().filter_map(|party| signer_at(info, *party)).collect();
        let content = Content {
            format: FORMAT.to_owned(),
            recipient: recipient.to_string(),
            created_at,
            replaces,
            key: info.clone(),
            public,
            parts: parts.into_iter().map(|(helper, part)| (helper, part.sealed)).collect(),
        };
        let content = serde_json::to_vec_pretty(&content).map_err(|error| EscrowError::Damaged(error.to_string()))?;
        let text = age::encrypt_and_armor(recipient.age(), &content);
        let text = text.map_err(|error| EscrowError::Damaged(error.to_string()))?;
        Ok(Self { text, key: info.key.clone(), epoch: info.epoch, helpers })
    }

    /// What to write to a disk, a sheet of paper or a safe.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key.
    pub const fn key(&self) -> &KeyId {
        &self.key
    }

    /// The generation of shares that it belongs to.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The signers that have made it.
    pub fn helpers(&self) -> &[SignerId] {
        &self.helpers
    }
}

impl std::fmt::Debug for EscrowFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EscrowFile").field("key", &self.key).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Escrow {
    /// Opens an escrow and checks it: the parts have to be what their signers told each other, and to add up to a share of
    /// the key.
    ///
    /// # Errors
    /// Where the file is damaged, is not for this identity, or does not hold what it says.
    pub fn open(text: &[u8], identity: &Identity) -> Result<Self, EscrowError> {
        let damaged = |reason: &dyn std::fmt::Display| EscrowError::Damaged(reason.to_string());
        let content = open_age(text, identity)?;
        let content: Content = serde_json::from_slice(&content).map_err(|error| damaged(&error))?;
        let Content { format, recipient, created_at, replaces, key: info, public, parts } = content;
        if format != FORMAT {
            return Err(damaged(&format!("its format is {format:?}, not {FORMAT:?}")));
        }
        let place = next_place(&info).ok_or_else(|| damaged(&"it names too many signers"))?;
        let fits = public.group == info.group
            && public.group.scheme() == info.scheme
            && public.threshold == info.threshold
            && public.place == place
            && parts.keys().eq(public.parts.keys());
        if !fits {
            return Err(damaged(&"its parts contradict each other"));
        }
        let mut opened = BTreeMap::new();
        for (helper, sealed) in parts {
            let signer = signer_at(&info, helper).ok_or_else(|| damaged(&"a part is nobody's"))?;
            let part = open_part(&sealed, identity, &info, place, helper);
            opened.insert(helper, part.map_err(|reason| EscrowError::WrongPart { signer, reason })?);
        }
        let share = Share::assemble(&public, opened).map_err(|fault| {
            match fault.culprit.and_then(|party| signer_at(&info, party)) {
                Some(signer) => EscrowError::WrongPart { signer, reason: fault.reason },
                None => EscrowError::Damaged(fault.reason),
            }
        })?;
        Ok(Self { info, public, share, recipient, created_at, replaces })
    }

    /// The key.
    pub const fn key(&self) -> &KeyId {
        &self.info.key
    }

    /// How it signs.
    pub const fn scheme(&self) -> SchemeId {
        self.info.scheme
    }

    /// The key's public key.
    pub const fn group(&self) -> GroupKey {
        self.info.group
    }

    /// The generation of shares that it belongs to.
    pub const fn epoch(&self) -> u32 {
        self.info.epoch
    }

    /// How many shares it takes to sign, this one counted where it takes part.
    pub const fn threshold(&self) -> u8 {
        self.info.threshold
    }

    /// The signers that hold the other shares.
    pub fn holders(&self) -> &[SignerId] {
        &self.info.participants
    }

    /// Its place: the x-coordinate of the share.
    pub const fn place(&self) -> u8 {
        self.public.place.get()
    }

    /// Whom it was made for.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// When it was made, in milliseconds since the Unix epoch, by the coordinator's clock.
    pub const fn created_at(&self) -> u64 {
        self.created_at
    }

    /// The epoch of the escrow that it replaces, if the signers remembered one.
    pub const fn replaces(&self) -> Option<u32> {
        self.replaces
    }
}

impl std::fmt::Debug for Escrow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Escrow").field("key", &self.info.key).field("epoch", &self.info.epoch).finish_non_exhaustive()
    }
}

/// The place that an escrow takes: the first one after the signers'.
pub(crate) fn next_place(info: &KeyInfo) -> Option<PartyIndex> {
    PartyIndex::new(u8::try_from(info.participants.len()).ok()?.checked_add(1)?)
}

/// The signer at a place.
fn signer_at(info: &KeyInfo, party: PartyIndex) -> Option<SignerId> {
    info.participants.get(usize::from(party.get()).checked_sub(1)?).cloned()
}
