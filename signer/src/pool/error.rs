//! Why the pool could not do what it was asked.

use chains::account::{KeyId, WalletId};

use crate::policy::document::PolicyDigest;
use crate::policy::versions::PolicyStanding;
use crate::scheme::SchemeId;
use crate::transport::SignerId;

/// Why a pool cannot start, make its keys or take a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The configuration makes no pool.
    #[error("{0}")]
    Config(String),
    /// A signer cannot start.
    #[error("signer {signer} cannot start: {reason}")]
    Start {
        /// The signer.
        signer: SignerId,
        /// What is wrong.
        reason: String,
    },
    /// A signer does not answer, or refuses to join.
    #[error("signer {signer} does not take part: {reason}")]
    Absent {
        /// The signer.
        signer: SignerId,
        /// What is wrong.
        reason: String,
    },
    /// No such key.
    #[error("there is no key {0}; generate it first")]
    UnknownKey(KeyId),
    /// The key exists under another scheme.
    #[error("key {key} is a {is} key, not a {asked} key; give the other key another name")]
    WrongScheme {
        /// The key.
        key: KeyId,
        /// What it is.
        is: SchemeId,
        /// What was asked for.
        asked: SchemeId,
    },
    /// The key was proved once, but too many of its shares are lost.
    #[error("key {key} has lost too many shares: {left} are left and it takes {needed}; restore a signer's backup")]
    KeyLost {
        /// The key.
        key: KeyId,
        /// How many shares are there.
        left: usize,
        /// How many it takes.
        needed: u16,
    },
    /// The signers hold different keys under one name.
    #[error("the signers hold different keys under the name {0}; restore the right backups")]
    Disagreement(KeyId),
    /// The key could not be refreshed, reshared or imported. It is as it was.
    #[error("key {key} was not {what}: {reason}")]
    Ceremony {
        /// The key.
        key: KeyId,
        /// `refreshed`, `reshared`, `imported`, `put in escrow` or `proved`.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The key could not be generated. Nothing of it stays behind.
    #[error("key {key} was not generated: {reason}")]
    Generation {
        /// The key.
        key: KeyId,
        /// Why.
        reason: String,
    },
    /// The signers stand in fewer regions than a quorum has to be in.
    #[error("a quorum has to be in {needed} regions and can be in {there}; name the signers' regions or ask for fewer")]
    TooFewRegions {
        /// How many it takes.
        needed: u16,
        /// How many a quorum can be in at most.
        there: u16,
    },
    /// A wallet's key cannot serve it.
    #[error("{0}")]
    Account(String),
}

/// Someone who kept a session from its end.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Culprit {
    /// Who it is.
    pub signer: SignerId,
    /// The signer that says so; none where the coordinator saw it for itself. Of two signers where one accuses the
    /// other, either may be lying.
    pub accused_by: Option<SignerId>,
    /// What it did.
    pub reason: String,
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// No policy was installed.
    #[error("no policy is installed; install roster, policy and wallets first")]
    NotInstalled,
    /// No such wallet.
    #[error("there is no wallet {0}")]
    UnknownWallet(WalletId),
    /// No such key.
    #[error("there is no key {0}")]
    UnknownKey(KeyId),
    /// Too few signers can be reached.
    #[error("it takes {needed} signers and {up} are up")]
    TooFewSigners {
        /// How many it takes.
        needed: u16,
        /// How many are left.
        up: u16,
    },
    /// The signers that can be reached are in too few regions.
    #[error("a quorum has to be in {needed} regions and the signers that are left are in {up}")]
    TooFewRegions {
        /// How many it takes.
        needed: u16,
        /// How many are left.
        up: u16,
    },
    /// So many signers refused that no quorum is left.
    #[error("refused by {}", list(.by))]
    Refused {
        /// Each with its reason.
        by: Vec<(SignerId, String)>,
    },
    /// So many signers judge by another policy than the request was judged under that no quorum is left. Judge it again.
    #[error("it was judged under policy {named}, and {}", stale(.by))]
    PolicyStale {
        /// The policy that the request names.
        named: PolicyDigest,
        /// The signers, with what they judge by.
        by: Vec<(SignerId, PolicyStanding)>,
    },
    /// The deadline passed.
    #[error("the deadline for signing passed")]
    Timeout,
    /// Signers misbehaved, and no quorum is left without them.
    #[error("no quorum is left without {}", names(.culprits))]
    Misbehaviour {
        /// Who they are.
        culprits: Vec<Culprit>,
    },
    /// What came back is not a signature of the transaction. Nothing of it is released.
    #[error("the signers' result is invalid: {0}")]
    Invalid(String),
}

impl SignError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TooFewSigners { .. } | Self::TooFewRegions { .. } | Self::PolicyStale { .. } | Self::Timeout => true,
            Self::NotInstalled
            | Self::UnknownWallet(_)
            | Self::UnknownKey(_)
            | Self::Refused { .. }
            | Self::Misbehaviour { .. }
            | Self::Invalid(_) => false,
        }
    }
}

fn list(by: &[(SignerId, String)]) -> String {
    by.iter().map(|(signer, reason)| format!("{signer}: {reason}")).collect::<Vec<_>>().join("; ")
}

fn stale(by: &[(SignerId, PolicyStanding)]) -> String {
    match by {
        [] => "the pool checks by another one".to_owned(),
        by => by.iter().map(|(signer, at)| format!("{signer} judges by {}", at.digest)).collect::<Vec<_>>().join(", "),
    }
}

fn names(culprits: &[Culprit]) -> String {
    culprits.iter().map(|culprit| format!("{} ({})", culprit.signer, culprit.reason)).collect::<Vec<_>>().join(", ")
}
