//! Messages between signers and their coordinator, for the fuzz targets.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::link::{Context, Identity, Link};
use super::wire::{Answer, Command, from_bytes, to_bytes};
use crate::protocol::PartyIndex;

/// Reads a command to a signer, and what it is written as.
pub(crate) fn commands(bytes: &[u8]) {
    again::<Command>(bytes);
}

/// Reads a signer's answer, and what it is written as.
pub(crate) fn answers(bytes: &[u8]) {
    again::<Answer>(bytes);
}

/// What is read is written in one way, which reads as the same.
fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Some(read) = from_bytes::<T>(bytes) else { return };
    let written = to_bytes(&read);
    let second: Option<T> = from_bytes(&written);
    assert_eq!(second.map(|second| to_bytes(&second)), Some(written), "it reads as something else");
}

/// A link between two signers.
pub(crate) struct Ends(Link);

impl Ends {
    pub(crate) fn new() -> Self {
        let (me, peer) = (Identity::generate(), Identity::generate());
        let mut parties = PartyIndex::first(2);
        let (Some(first), Some(second)) = (parties.next(), parties.next()) else { unreachable!("two were asked for") };
        Self(me.link(&peer.public(), Context([7; 32]), first, second))
    }

    /// Whether bytes open as a letter of the peer.
    pub(crate) fn opens(&self, sealed: &[u8]) -> bool {
        self.0.open(1, sealed).is_some()
    }
}
