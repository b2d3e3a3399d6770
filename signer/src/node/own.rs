//! What a signer in a process of its own knows from its own configuration: by what it judges, and whom it works with.
//! The coordinator can neither give nor change it; it may only ask whether both have the same.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::wire::{Answer, Peer};
use super::{Node, Stop};
use crate::policy::Policy;
use crate::pool::WalletSpec;
use crate::roster::Roster;
use crate::transport::SignerId;

/// A signer's own configuration, where it has one.
#[derive(Default)]
pub(super) struct Own {
    orders: RwLock<Option<Orders>>,
    circle: RwLock<Option<BTreeSet<SignerId>>>,
}

/// By what a signer judges.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) roster: Arc<Roster>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) wallets: Vec<WalletSpec>,
}

/// The digests of roster, policy and wallets: whether two judge by the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    roster: [u8; 32],
    policy: [u8; 32],
    wallets: [u8; 32],
}

impl Terms {
    pub(crate) fn of(roster: &Roster, policy: &Policy, wallets: &[WalletSpec]) -> Self {
        let credential = |c: &crate::roster::Credential| (c.id.clone(), c.role, c.public_key.to_bytes());
        let roster = (roster.audience(), roster.credentials().map(credential).collect::<Vec<_>>());
        let mut wallets = wallets.iter().collect::<Vec<_>>();
        wallets.sort_by(|one, other| one.wallet.cmp(&other.wallet));
        Self {
            roster: digest("roster", &roster),
            policy: digest("policy", policy),
            wallets: digest("wallets", &wallets),
        }
    }

    /// What differs, in words; none where all is the same.
    fn differences(&self, other: &Self) -> Option<String> {
        let parts = [
            ("roster", self.roster == other.roster),
            ("policy", self.policy == other.policy),
            ("wallets", self.wallets == other.wallets),
        ];
        let different = parts.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect::<Vec<_>>();
        (!different.is_empty()).then(|| different.join(", "))
    }
}

fn digest<T: Serialize>(what: &str, value: &T) -> [u8; 32] {
    let bytes = postcard::to_allocvec(&("portcullis terms v1", what, value))
        .expect("names, numbers and addresses always encode into a growing vector");
    Sha256::digest(bytes).into()
}

impl Node {
    /// Takes the signer's own orders. Each wallet's account is derived from the signer's own share, and again whenever
    /// a key has come into use.
    #[cfg_attr(not(feature = "grpc"), expect(dead_code, reason = "only signers apart have orders of their own"))]
    pub(crate) fn take_orders(&self, orders: Orders) -> Result<(), String> {
        self.install(orders.roster.clone(), orders.policy.clone(), &orders.wallets)?;
        *self.own.orders.write().unwrap_or_else(PoisonError::into_inner) = Some(orders);
        Ok(())
    }

    /// Derives the wallets' accounts anew, where the signer has orders of its own.
    pub(super) fn renew_orders(&self) {
        let orders = self.own.orders.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(orders) = orders
            && let Err(error) = self.install(orders.roster, orders.policy, &orders.wallets)
        {
            tracing::error!(signer = %self.id, %error, "a wallet cannot be served");
        }
    }

    /// Says whether the coordinator expects the orders that the signer has.
    pub(super) fn agree(&self, terms: &Terms) -> Result<Answer, Stop> {
        let orders = self.own.orders.read().unwrap_or_else(PoisonError::into_inner);
        let orders = orders.as_ref().ok_or_else(|| Stop::Refused("this signer has no orders of its own".to_owned()))?;
        match Terms::of(&orders.roster, &orders.policy, &orders.wallets).differences(terms) {
            None => Ok(Answer::Done),
            Some(parts) => Err(Stop::Refused(format!("its own configuration has another {parts}"))),
        }
    }

    /// Takes the signers of the pool with their link keys from the signer's own configuration; from then on it meets
    /// nobody else.
    #[cfg_attr(not(feature = "grpc"), expect(dead_code, reason = "only signers apart have orders of their own"))]
    pub(crate) fn acquaint(&self, peers: Vec<Peer>) -> Result<(), String> {
        let names = peers.iter().map(|peer| peer.id.clone()).collect();
        self.join(peers).map_err(|stop| match stop {
            Stop::Refused(reason) | Stop::Failed(reason) | Stop::Fault { reason, .. } => reason,
            Stop::StalePolicy => "another policy is in force".to_owned(),
        })?;
        *self.own.circle.write().unwrap_or_else(PoisonError::into_inner) = Some(names);
        Ok(())
    }

    /// The signers that the signer's own configuration names, where it names any.
    pub(super) fn own_circle(&self) -> Option<BTreeSet<SignerId>> {
        self.own.circle.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses signers that the signer's own configuration doesn't name, where it names any.
    pub(super) fn no_strangers(&self, peers: &[Peer]) -> Result<(), Stop> {
        let circle = self.own.circle.read().unwrap_or_else(PoisonError::into_inner);
        let Some(circle) = &*circle else { return Ok(()) };
        match peers.iter().find(|peer| !circle.contains(&peer.id)) {
            None => Ok(()),
            Some(stranger) => Err(Stop::Refused(format!("{} is not among the peers of {}", stranger.id, self.id))),
        }
    }
}
