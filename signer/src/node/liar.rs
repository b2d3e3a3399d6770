//! A signer that sends wrong shares, to see that the others catch it. Without the feature `mutations` nothing of this is compiled in; with
//! it, `PORTCULLIS_LIARS` names the signers that do so, with commas between them.
//!
//! The letters are sealed as they should be: the lie is in what they say. Keys are generated and proved honestly.

use crate::protocol::Outbox;
use crate::transport::SignerId;

/// Leaves what a signer says in a signature as it is.
#[cfg(not(feature = "mutations"))]
#[inline]
pub(super) const fn tamper(_me: &SignerId, _outbox: &mut Outbox) {}

/// Alters what a signer says in a signature, where it is one that lies.
#[cfg(feature = "mutations")]
pub(super) fn tamper(me: &SignerId, outbox: &mut Outbox) {
    use std::sync::LazyLock;

    static LIARS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let names = std::env::var("PORTCULLIS_LIARS").unwrap_or_default();
        names.split(',').map(|name| name.trim().to_owned()).collect()
    });
    if !LIARS.iter().any(|liar| liar == me.as_str()) {
        return;
    }
    // One bit in the middle, where a share's or a commitment's number is.
    let alter = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
    };
    alter(&mut outbox.broadcast);
    outbox.directed.values_mut().for_each(|letter| alter(letter));
}
