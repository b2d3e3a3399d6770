//! Every kind of seal: one suite over all of them; then what only hardware can do: PINs, tokens that come and go, and a
//! pool whose signers have different seals.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers state their assumptions bluntly"
)]

#[allow(dead_code, reason = "each test binary uses its part of it")]
#[path = "pool/world.rs"]
mod world;

use std::sync::{Arc, OnceLock};

use signer::pool::PoolConfig;
use signer::seal::deferred::DeferredSeal;
use signer::seal::software::SoftwareSeal;
use signer::seal::{Seal, SealError};
use world::{NAMES, World, id, sol};

/// Two seals of one kind, each with a key of its own; and the first once more, opened anew.
struct Seals {
    one: Arc<dyn Seal>,
    again: Arc<dyn Seal>,
    other: Arc<dyn Seal>,
}

fn secrets() -> Vec<Vec<u8>> {
    [1, 31, 32, 33, 4096].map(|len: u16| (0..len).map(|byte| byte.to_le_bytes()[0]).collect()).to_vec()
}

fn what_is_sealed_opens_again(seals: &Seals) {
    for secret in secrets() {
        let blob = seals.one.seal(&secret).unwrap();
        assert_eq!(seals.one.open(&blob).unwrap().as_slice(), secret);
        assert_eq!(seals.again.open(&blob).unwrap().as_slice(), secret, "opened anew");
        assert_ne!(seals.one.seal(&secret).unwrap(), blob, "no IV is used twice");
        assert!(secret.len() < 31 || !blob.windows(16).any(|window| secret.windows(16).any(|part| part == window)));
    }
    seals.one.ready().unwrap();
}

fn what_was_altered_does_not_open(seals: &Seals) {
    let blob = seals.one.seal(&[7; 32]).unwrap();
    for position in 0..blob.len() {
        for bit in [1, 0x80] {
            let mut altered = blob.clone();
            altered[position] ^= bit;
            assert!(matches!(seals.one.open(&altered), Err(SealError::Refused)), "byte {position}");
        }
        assert!(matches!(seals.one.open(&blob[..position]), Err(SealError::Refused)), "cut at {position}");
    }
    let longer = [blob.as_slice(), &[0]].concat();
    assert!(matches!(seals.one.open(&longer), Err(SealError::Refused)));
    assert_eq!(seals.one.open(&blob).unwrap().as_slice(), [7; 32], "a refusal breaks nothing");
}

fn what_another_key_sealed_does_not_open(seals: &Seals) {
    let (mine, theirs) = (seals.one.seal(b"mine").unwrap(), seals.other.seal(b"theirs").unwrap());
    assert!(matches!(seals.one.open(&theirs), Err(SealError::Refused)));
    assert!(matches!(seals.other.open(&mine), Err(SealError::Refused)));
    assert_eq!(seals.other.open(&theirs).unwrap().as_slice(), b"theirs");
}

fn many_workers_use_a_seal_at_once(seals: &Seals) {
    std::thread::scope(|scope| {
        for worker in 0..8u8 {
            scope.spawn(move || {
                for turn in 0..25u8 {
                    let secret = [worker, turn];
                    let mut blob = seals.one.seal(&secret).unwrap();
                    assert_eq!(seals.one.open(&blob).unwrap().as_slice(), secret);
                    *blob.last_mut().unwrap() ^= 1;
                    assert!(matches!(seals.one.open(&blob), Err(SealError::Refused)));
                }
            });
        }
    });
}

macro_rules! suite {
    ($kind:ident, $(#[$attribute:meta])* $test:ident $($more:ident)*) => {
        #[test]
        $(#[$attribute])*
        fn $test() {
            super::$test(&super::$kind());
        }
        suite!($kind, $(#[$attribute])* $($more)*);
    };
    ($kind:ident, $(#[$attribute:meta])*) => {};
}

fn software() -> Seals {
    static SEALS: OnceLock<[Arc<SoftwareSeal>; 3]> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = dir.path().join("passphrase");
        std::fs::write(&passphrase, "a passphrase for tests").unwrap();
        ["one", "one", "other"]
            .map(|name| Arc::new(SoftwareSeal::open_or_create(&dir.path().join(name), &passphrase).unwrap()))
    };
    let [one, again, other] = SEALS.get_or_init(make).clone();
    Seals { one, again, other }
}

mod software_seal {
    suite!(software,
        what_is_sealed_opens_again
        what_was_altered_does_not_open
        what_another_key_sealed_does_not_open
        many_workers_use_a_seal_at_once
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_goes_on_without_a_signer_whose_seal_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let (key, passphrase) = (dir.path().join("key.json"), dir.path().join("passphrase"));
    let own_seal = |config: &mut PoolConfig| {
        let (key, passphrase) = (key.clone(), passphrase.clone());
        let open = move || Ok(Arc::new(SoftwareSeal::open_or_create(&key, &passphrase)?) as Arc<dyn Seal>);
        config.signers[2].seal = Arc::new(DeferredSeal::new(open));
    };
    std::fs::write(&passphrase, "correct horse").unwrap();
    let world = World::ready(own_seal).await;
    std::fs::write(&passphrase, "wrong horse").unwrap();
    let world = world.restart_with(own_seal).await;
    world.install(sol().1).await;
    let outcome = world.sign_sol(1).await.unwrap();
    assert_eq!(outcome.participants, [id(NAMES[0]), id(NAMES[1])]);
    let status = world.pool.status().await;
    for signer in &status.signers {
        let problem = signer.problem.clone().unwrap_or_default();
        assert_eq!(signer.up, signer.signer != id(NAMES[2]), "{signer:?}");
        assert_eq!(problem.contains("the passphrase does not open"), !signer.up, "{signer:?}");
    }
    assert_eq!(status.keys[0].holders, [id(NAMES[0]), id(NAMES[1])]);

    std::fs::write(&passphrase, "correct horse").unwrap();
    let world = world.restart_with(own_seal).await;
    assert_eq!(world.pool.status().await.keys[0].holders, NAMES.map(id));
}

#[cfg(feature = "pkcs11")]
fn softhsm() -> Seals {
    // The same label on another token: only the tag can tell.
    let seal = |token| hsm::open(hsm::config(token, "suite"));
    Seals { one: seal("a"), again: seal("a"), other: seal("b") }
}

#[cfg(feature = "pkcs11")]
mod softhsm_seal {
    suite!(softhsm,
        #[ignore = "needs SoftHSM2; tests/run installs and names it"]
        what_is_sealed_opens_again
        what_was_altered_does_not_open
        what_another_key_sealed_does_not_open
        many_workers_use_a_seal_at_once
    );
}

#[cfg(feature = "pkcs11")]
#[path = "seals/hsm.rs"]
mod hsm;
