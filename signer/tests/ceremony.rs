//! Keys that change hands in a whole pool: import, refresh under load, reshare, and crashes at every step of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers state their assumptions bluntly"
)]

#[path = "pool/world.rs"]
#[allow(dead_code, reason = "the world serves other suites too")]
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bitcoin::bip32::{DerivationPath, Xpriv};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use chains::account::KeyId;
use chains::amount::Amount;
use chains::chain::Chain;
use ed25519_dalek::SigningKey;
use signer::pool::{
    GroupKey, ImportedKey, KeySpec, KeyStatus, PoolConfig, PoolError, Progress, SchemeId, SignerId, WalletSpec,
};
use signer::request::SigningRequest;
use signer::seal::SealError;
use signer::seal::deferred::DeferredSeal;
use zeroize::Zeroizing;

use world::{
    BTC_PAYEE, Break, ETH_PAYEE, EVM, NAMES, REGTEST, SVM, World, assemble, bitcoin_chain, bitcoin_state, ensure,
    ethereum, ethereum_state, id, intent, key, solana, wallet,
};

const SECRET: [u8; 32] = [7; 32];
const CHAIN: [u8; 32] = [9; 32];

fn spec(scheme: SchemeId) -> KeySpec {
    key("main", scheme)
}

fn main_key() -> KeyId {
    "main".parse().unwrap()
}

fn secret(scheme: SchemeId) -> ImportedKey {
    match scheme {
        SchemeId::Ed25519 => ImportedKey::Ed25519Seed(Zeroizing::new(SECRET)),
        _ => ImportedKey::Secp256k1 { secret: Zeroizing::new(SECRET), chain_code: Some(CHAIN) },
    }
}

fn wallets(scheme: SchemeId) -> Vec<WalletSpec> {
    vec![match scheme {
        SchemeId::Ecdsa => wallet("w", EVM, "main", "m"),
        SchemeId::Taproot => wallet("w", REGTEST, "main", "m"),
        SchemeId::Ed25519 => wallet("w", SVM, "main", "m"),
    }]
}

/// A pool that holds an imported key: it takes milliseconds where a generation takes seconds.
async fn ready(scheme: SchemeId, adjust: impl FnOnce(&mut PoolConfig)) -> World {
    let world = World::start(adjust).await;
    world.pool.import(&spec(scheme), secret(scheme), |_| ()).await.unwrap();
    world.install(wallets(scheme)).await;
    world
}

/// A payment by the key; the same number gives the same bytes.
fn payment(world: &World, scheme: SchemeId, number: u64) -> SigningRequest {
    let account = world.pool.account(&wallets(scheme)[0]).unwrap();
    let build = |to: &str, amount: Amount| intent(account.wallet(), number.into(), to, amount);
    let (body, unsigned) = match scheme {
        SchemeId::Ecdsa => {
            let (body, intent) = build(ETH_PAYEE, Amount::from_wei(1_000_000_000 + u128::from(number)));
            let chain = ethereum();
            let unsigned = chain.build(&intent, &account, &ethereum_state(number)).unwrap();
            (body, chain.encode_unsigned(&unsigned))
        }
        SchemeId::Taproot => {
            let (body, intent) = build(BTC_PAYEE, Amount::from_sat(20_000));
            let chain = bitcoin_chain();
            let state = bitcoin_state(&account, &[60_000 + number]);
            let unsigned = chain.build(&intent, &account, &state).unwrap();
            (body, chain.encode_unsigned(&unsigned))
        }
        SchemeId::Ed25519 => {
            let (body, intent) = build(world::SOL_PAYEE, Amount::from_lamports(1_000_000 + number));
            let unsigned = solana().build(&intent, &account, &world::solana_state()).unwrap();
            (body, solana().encode_unsigned(&unsigned))
        }
    };
    world.request(number.into(), &account, body, unsigned)
}

/// Signs a payment and puts the signatures in place, which verifies them against the wallet's address.
async fn sign(world: &World, scheme: SchemeId, number: u64) -> Vec<String> {
    let request = payment(world, scheme, number);
    let outcome = world.pool.sign(request.clone()).await.unwrap();
    let account = world.pool.account(&wallets(scheme)[0]).unwrap();
    match scheme {
        SchemeId::Ecdsa => assemble(&ethereum(), &account, &request.unsigned, &outcome.signatures),
        SchemeId::Taproot => assemble(&bitcoin_chain(), &account, &request.unsigned, &outcome.signatures),
        SchemeId::Ed25519 => assemble(&solana(), &account, &request.unsigned, &outcome.signatures),
    }
    outcome.participants.iter().map(ToString::to_string).collect()
}

async fn status(world: &World) -> KeyStatus {
    world.pool.status().await.keys.into_iter().next().unwrap()
}

/// The files of the key in the vaults of these signers, shares and markers.
fn files(world: &World, names: &[&str]) -> Vec<String> {
    let vault = |name: &&str| world.dir.path().join(name).join("vault");
    let list = |vault: PathBuf| std::fs::read_dir(vault).unwrap().map(|entry| entry.unwrap().file_name());
    let files = names.iter().map(vault).flat_map(list).map(|name| name.into_string().unwrap());
    let mut files = files.filter(|name| name.ends_with(".share") || name.ends_with(".usable.json")).collect::<Vec<_>>();
    files.sort();
    files
}

fn signers(config: &mut PoolConfig, dir: &Path, names: &[&str], threshold: u16) {
    let template = config.signers[0].clone();
    config.threshold = threshold;
    config.signers = names
        .iter()
        .map(|name| {
            let mut signer = template.clone();
            (signer.id, signer.dir) = (id(name), dir.join(name));
            signer
        })
        .collect();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_key_signs_for_its_own_address() {
    let context = Secp256k1::new();
    let public = SecretKey::from_slice(&SECRET).unwrap().public_key(&context);
    for scheme in SchemeId::ALL {
        let world = World::start(|_| ()).await;
        let told = Mutex::new(Vec::new());
        let tell = |progress| told.lock().unwrap().push(progress);
        let group = world.pool.import(&spec(scheme), secret(scheme), tell).await.unwrap();
        assert_eq!(told.into_inner().unwrap(), [Progress::ImportWarning { key: main_key() }]);
        match group {
            GroupKey::Ecdsa(key) => {
                assert_eq!((key.public_key.0, key.chain_code), (public, CHAIN));
                // Its children are those of BIP-32, as rust-bitcoin derives them from the whole key.
                let mut root = Xpriv::new_master(bitcoin::NetworkKind::Test, &[1; 32]).unwrap();
                root.private_key = SecretKey::from_slice(&SECRET).unwrap();
                root.chain_code = CHAIN.into();
                for path in ["m/0", "m/84/0/7", "m/2147483647"] {
                    let child = root.derive_priv(&context, &DerivationPath::from_str(path).unwrap()).unwrap();
                    let derived = group.at(&path.parse().unwrap()).unwrap();
                    let chains::account::PublicKey::Ecdsa(derived) = derived else { panic!("an ECDSA key") };
                    assert_eq!(derived.0, child.private_key.public_key(&context));
                }
            }
            GroupKey::Taproot(key) => assert_eq!(key, public.x_only_public_key().0),
            GroupKey::Ed25519(key) => {
                assert_eq!(key, SigningKey::from_bytes(&SECRET).verifying_key().to_bytes());
                let other = spec(SchemeId::Ed25519);
                let other = KeySpec { key: "scalar".parse().unwrap(), ..other };
                let scalar = SigningKey::from_bytes(&SECRET).to_scalar().to_bytes();
                let scalar = ImportedKey::Ed25519Scalar(Zeroizing::new(scalar));
                assert_eq!(world.pool.import(&other, scalar, |_| ()).await.unwrap(), group);
            }
        }
        world.install(wallets(scheme)).await;
        sign(&world, scheme, 1).await;
        let again = world.pool.import(&spec(scheme), secret(scheme), |_| ()).await.unwrap_err();
        assert!(matches!(&again, PoolError::Ceremony { reason, .. } if reason.contains("exists")), "{again}");

        // The key outlives the process; its shares are as good as those of a generated key.
        let world = world.restart().await;
        world.install(wallets(scheme)).await;
        sign(&world, scheme, 2).await;
        assert!(ensure(&world.pool, &[spec(scheme)]).await.unwrap().len() == 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_key_is_not_imported() {
    let world = World::start(|_| ()).await;
    let zero = || Zeroizing::new([0; 32]);
    for (scheme, secret) in [
        (SchemeId::Ecdsa, secret(SchemeId::Ed25519)),
        (SchemeId::Ed25519, secret(SchemeId::Ecdsa)),
        (SchemeId::Ecdsa, ImportedKey::Secp256k1 { secret: zero(), chain_code: None }),
        (SchemeId::Taproot, ImportedKey::Secp256k1 { secret: Zeroizing::new([0xff; 32]), chain_code: None }),
        (SchemeId::Ed25519, ImportedKey::Ed25519Scalar(zero())),
    ] {
        let printed = format!("{secret:?}");
        assert!(printed.ends_with("(<redacted>)"), "{printed}");
        let error = world.pool.import(&spec(scheme), secret, |_| ()).await.unwrap_err();
        assert!(matches!(error, PoolError::Ceremony { what: "imported", .. }), "{error}");
        assert!(files(&world, &NAMES).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_goes_on_during_a_refresh() {
    for scheme in SchemeId::ALL {
        let world = ready(scheme, |_| ()).await;
        let before = world.pool.account(&wallets(scheme)[0]).unwrap();
        let (over, signed) = (AtomicBool::new(false), AtomicUsize::new(0));
        let load = |lane: u64| {
            let (world, over, signed) = (&world, &over, &signed);
            async move {
                let mut number = lane * 10_000;
                while !over.load(Ordering::SeqCst) {
                    number += 1;
                    sign(world, scheme, number).await;
                    signed.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let rounds = Mutex::new(Vec::new());
        let refreshing = async {
            for epoch in 2..4 {
                let tell = |progress| rounds.lock().unwrap().push(progress);
                let rekeyed = world.pool.refresh(&main_key(), tell).await.unwrap();
                assert_eq!((rekeyed.epoch, rekeyed.threshold, rekeyed.unerased.len()), (epoch, 2, 0));
                assert_eq!(rekeyed.holders.len(), 3);
            }
            over.store(true, Ordering::SeqCst);
        };
        tokio::join!(refreshing, load(1), load(2), load(3));
        assert!(signed.load(Ordering::SeqCst) >= 3);
        // In the first two all compare what they remember of each other's ledgers.
        let of = if scheme == SchemeId::Ecdsa { 7 } else { 5 };
        let rounds = rounds.into_inner().unwrap();
        assert_eq!(rounds.len(), 2 * (of + 1));
        assert!(matches!(rounds[0], Progress::Refreshing { round: 1, .. }));
        assert!(matches!(rounds[of], Progress::Rekeyed { epoch: 2, .. }));

        assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
        let told = status(&world).await;
        assert_eq!((told.epoch, told.signers_up.len(), told.faults_tolerated), (3, 3, 1));
        assert!(told.since.is_some() && told.last_culprit.is_none());
        let only = ["main.3.1.share", "main.3.2.share", "main.3.3.share"];
        let expected = only.iter().copied().chain(["main.3.usable.json"; 3]).collect::<Vec<_>>();
        assert_eq!(files(&world, &NAMES), expected, "the old shares are gone");
        let world = world.restart().await;
        world.install(wallets(scheme)).await;
        sign(&world, scheme, 100_000).await;
    }
}

/// The coordinator is cut off from everybody after so many calls, as if it had died there; then all starts again.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_dies_anywhere_leaves_one_epoch_that_signs() {
    let mut ended_well = 0;
    for calls in 0..24 {
        for scheme in [SchemeId::Ed25519, SchemeId::Taproot] {
            ended_well += usize::from(dies_after(scheme, calls).await);
        }
    }
    assert!((1..22).contains(&ended_well), "some died and some did not: {ended_well}");
}

/// The same for ECDSA, at the calls that matter: after the shares are made, while they are proved, gone over to, erased.
#[tokio::test(flavor = "multi_thread")]
async fn an_ecdsa_refresh_that_dies_leaves_one_epoch_that_signs() {
    for calls in [8, 13, 17, 18] {
        dies_after(SchemeId::Ecdsa, calls).await;
    }
}

async fn dies_after(scheme: SchemeId, calls: u32) -> bool {
    let world = ready(scheme, |_| ()).await;
    let before = world.pool.account(&wallets(scheme)[0]).unwrap();
    // One signer loses the line a call earlier than the others: they are not all at the same step.
    for (name, early) in NAMES.iter().zip([0, 0, 1]) {
        world.lines.break_line(name, Break::DownAfter(calls.saturating_sub(early)));
    }
    let refreshed = world.pool.refresh(&main_key(), |_| ()).await;
    let world = world.restart().await;
    let told = status(&world).await;
    assert!(told.epoch == 1 || told.epoch == 2, "{calls}: {told:?}");
    assert!(refreshed.is_err() || told.epoch == 2, "{calls}: {told:?}");
    assert_eq!(told.signers_up.len(), 3, "{scheme} {calls}: {told:?}");
    let epoch = told.epoch;
    let shares = [1, 2, 3].map(|party| format!("main.{epoch}.{party}.share"));
    let markers = std::iter::repeat_n(format!("main.{epoch}.usable.json"), 3);
    assert_eq!(files(&world, &NAMES), shares.into_iter().chain(markers).collect::<Vec<_>>(), "{scheme} {calls}");
    assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
    world.install(wallets(scheme)).await;
    sign(&world, scheme, 1).await;
    if scheme != SchemeId::Ecdsa {
        let again = world.pool.refresh(&main_key(), |_| ()).await.unwrap();
        assert_eq!((again.epoch, again.unerased.len()), (epoch + 1, 0));
        sign(&world, scheme, 2).await;
    }
    refreshed.is_ok()
}

const FOUR: [&str; 4] = ["signer-1", "signer-2", "signer-3", "new-1"];
/// Who holds the key after the reshare that is cut off: one has left, and one has come.
const AFTER: [&str; 3] = ["signer-2", "new-1", "signer-3"];

/// A pool of four, of which three hold the key.
async fn ready_to_reshare(scheme: SchemeId) -> World {
    let world = ready(scheme, |_| ()).await;
    let dir = world.dir.path().to_owned();
    let world = world.restart_with(|config| signers(config, &dir, &FOUR, 2)).await;
    world.install(wallets(scheme)).await;
    world.lines.calls();
    world
}

/// The calls that a reshare takes at each signer. The last two have it go over, and erase its old share.
async fn calls_of_a_reshare(scheme: SchemeId) -> BTreeMap<SignerId, u32> {
    let world = ready_to_reshare(scheme).await;
    world.pool.reshare(&main_key(), &AFTER.map(id), |_| ()).await.unwrap();
    world.lines.calls()
}

/// As with a refresh, at every call: then the key is wholly with the old holders or wholly with the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_reshare_that_dies_anywhere_leaves_one_circle_that_signs() {
    for scheme in [SchemeId::Ed25519, SchemeId::Taproot] {
        let all = calls_of_a_reshare(scheme).await.into_values().max().unwrap();
        let mut handed_over = 0;
        for calls in 0..=all {
            handed_over += usize::from(reshare_dies_after(scheme, calls).await);
        }
        assert!((2..=6).contains(&handed_over), "some died before and some after: {handed_over} of {all}");
    }
}

/// The same for ECDSA, at the calls that matter: while the shares are made, while they are proved, gone over to, erased.
#[tokio::test(flavor = "multi_thread")]
async fn an_ecdsa_reshare_that_dies_leaves_one_circle_that_signs() {
    let all = calls_of_a_reshare(SchemeId::Ecdsa).await.into_values().max().unwrap();
    for before_the_end in [8, 2, 1] {
        reshare_dies_after(SchemeId::Ecdsa, all - before_the_end).await;
    }
}

async fn reshare_dies_after(scheme: SchemeId, calls: u32) -> bool {
    let world = ready_to_reshare(scheme).await;
    let before = world.pool.account(&wallets(scheme)[0]).unwrap();
    for (name, early) in FOUR.iter().zip([0, 0, 1, 0]) {
        world.lines.break_line(name, Break::DownAfter(calls.saturating_sub(early)));
    }
    let reshared = world.pool.reshare(&main_key(), &AFTER.map(id), |_| ()).await;
    let dir = world.dir.path().to_owned();
    let world = world.restart_with(|config| signers(config, &dir, &FOUR, 2)).await;
    let told = status(&world).await;
    let over = told.epoch == 2;
    assert!(over || (told.epoch == 1 && reshared.is_err()), "{scheme} {calls}: {told:?}");
    let (holders, next) = if over { (AFTER, NAMES) } else { (NAMES, AFTER) };
    assert_eq!((&told.holders, told.signers_up.len()), (&holders.map(id).to_vec(), 3), "{scheme} {calls}");
    let shares = [1, 2, 3].map(|party| format!("main.{}.{party}.share", told.epoch));
    let markers = std::iter::repeat_n(format!("main.{}.usable.json", told.epoch), 3);
    assert_eq!(files(&world, &FOUR), shares.into_iter().chain(markers).collect::<Vec<_>>(), "{scheme} {calls}");
    assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
    world.install(wallets(scheme)).await;
    sign(&world, scheme, 1).await;
    if scheme != SchemeId::Ecdsa {
        let again = world.pool.reshare(&main_key(), &next.map(id), |_| ()).await.unwrap();
        assert_eq!((again.epoch, again.holders, again.unerased.len()), (told.epoch + 1, next.map(id).to_vec(), 0));
        sign(&world, scheme, 2).await;
    }
    over
}

/// A signer that cannot start: its token is gone.
fn pulled(config: &mut PoolConfig, name: &str) {
    let signer = config.signers.iter_mut().find(|signer| signer.id == id(name)).unwrap();
    signer.seal = Arc::new(DeferredSeal::new(|| Err(SealError::TokenAbsent("pulled".to_owned()))));
}

/// How many signers have gone over to an epoch of the key.
fn gone_over(world: &World, names: &[&str], epoch: u32) -> usize {
    files(world, names).iter().filter(|name| **name == format!("main.{epoch}.usable.json")).count()
}

/// The coordinator dies when a single signer has gone over, and that one is away at the next start. What the others hold
/// pending is needed once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_one_absent_signer_has_gone_over_to_is_not_given_up() {
    let scheme = SchemeId::Ed25519;
    let mut met = 0;
    for calls in 8..16 {
        let world = ready(scheme, |_| ()).await;
        let before = world.pool.account(&wallets(scheme)[0]).unwrap();
        NAMES[1..].iter().for_each(|name| world.lines.break_line(name, Break::DownAfter(calls)));
        let _ = world.pool.refresh(&main_key(), |_| ()).await;
        if gone_over(&world, &NAMES[..1], 2) != 1 || gone_over(&world, &NAMES[1..], 2) != 0 {
            continue;
        }
        met += 1;
        let world = world.restart_with(|config| pulled(config, NAMES[0])).await;
        world.install(wallets(scheme)).await;
        assert_eq!(
            (status(&world).await.epoch, status(&world).await.holders),
            (1, NAMES[1..].iter().map(|name| id(name)).collect())
        );
        sign(&world, scheme, 1).await;
        let world = world.restart().await;
        world.install(wallets(scheme)).await;
        let told = status(&world).await;
        assert_eq!((told.epoch, told.holders.len()), (2, 3), "those that were late have caught up");
        assert_eq!(files(&world, &NAMES).len(), 6, "and nothing is left of the epoch before");
        for number in 2..5 {
            sign(&world, scheme, number).await;
        }
        assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
    }
    assert!(met > 0, "no call was right before the others go over");
}

/// The same in a key generation, where the address may be known already: nothing of it is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_absent_signer_knows_to_be_made_is_not_given_up() {
    let scheme = SchemeId::Ed25519;
    let mut met = 0;
    for calls in 6..14 {
        let world = World::start(|_| ()).await;
        NAMES[1..].iter().for_each(|name| world.lines.break_line(name, Break::DownAfter(calls)));
        let made = ensure(&world.pool, &[spec(scheme)]).await;
        if gone_over(&world, &NAMES[..1], 1) != 1 || gone_over(&world, &NAMES[1..], 1) != 0 {
            continue;
        }
        met += 1;
        assert!(matches!(made, Err(PoolError::Generation { .. })), "one signer that knows of it is too few: {made:?}");
        let world = world.restart_with(|config| pulled(config, NAMES[0])).await;
        match ensure(&world.pool, &[spec(scheme)]).await {
            Err(PoolError::Generation { reason, .. }) => assert!(reason.contains(NAMES[0]), "{reason}"),
            other => panic!("what may be needed is neither given up nor used: {other:?}"),
        }
        let world = world.restart().await;
        let told = ensure(&world.pool, &[spec(scheme)]).await.unwrap();
        assert!(matches!(told.as_slice(), [Progress::KeyExists { missing, .. }] if missing.is_empty()), "{told:?}");
        world.install(wallets(scheme)).await;
        sign(&world, scheme, 1).await;
    }
    assert!(met > 0, "no call was right before the others go over");
}

/// The coordinator dies when a new holder alone has gone over, and it stays away: a refresh waits for it, and a reshare
/// without it gives it up. When it comes back after all, it disturbs nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_holder_that_alone_has_gone_over_is_awaited_or_given_up() {
    let scheme = SchemeId::Taproot;
    let calls = calls_of_a_reshare(scheme).await;
    let world = ready_to_reshare(scheme).await;
    let (before, dir) = (world.pool.account(&wallets(scheme)[0]).unwrap(), world.dir.path().to_owned());
    for name in &NAMES[1..] {
        world.lines.break_line(name, Break::DownAfter(calls[&id(name)] - 2));
    }
    let cut_off = world.pool.reshare(&main_key(), &AFTER.map(id), |_| ()).await;
    assert!(matches!(cut_off, Err(PoolError::Ceremony { what: "reshared", .. })), "{cut_off:?}");
    assert_eq!((gone_over(&world, &["new-1"], 2), gone_over(&world, &NAMES, 2)), (1, 0));

    let four = |config: &mut PoolConfig| signers(config, &dir, &FOUR, 2);
    let without = |config: &mut PoolConfig| {
        four(config);
        pulled(config, "new-1");
    };
    let world = world.restart_with(without).await;
    world.install(wallets(scheme)).await;
    assert_eq!((status(&world).await.epoch, status(&world).await.holders), (1, NAMES.map(id).to_vec()));
    sign(&world, scheme, 1).await;
    match world.pool.refresh(&main_key(), |_| ()).await {
        Err(PoolError::Ceremony { reason, .. }) => assert!(reason.contains("new-1 is away"), "{reason}"),
        other => panic!("it waits for the one that may have gone over: {other:?}"),
    }
    let rekeyed = world.pool.reshare(&main_key(), &NAMES.map(id), |_| ()).await.unwrap();
    assert_eq!((rekeyed.epoch, rekeyed.holders.len(), rekeyed.unerased.len()), (2, 3, 0));
    sign(&world, scheme, 2).await;

    let world = world.restart_with(four).await;
    world.install(wallets(scheme)).await;
    let told = status(&world).await;
    assert_eq!((told.epoch, told.holders), (2, NAMES.map(id).to_vec()));
    for number in 3..6 {
        sign(&world, scheme, number).await;
    }
    assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
}

/// A signer that comes up with another key under the name, or with an epoch that nobody else knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_claims_another_key_is_passed_over() {
    let scheme = SchemeId::Ed25519;
    for other in [[8; 32], SECRET] {
        let world = ready(scheme, |_| ()).await;
        let before = world.pool.account(&wallets(scheme)[0]).unwrap();
        let liar = World::start(|_| ()).await;
        liar.pool.import(&spec(scheme), ImportedKey::Ed25519Seed(Zeroizing::new(other)), |_| ()).await.unwrap();
        if other == SECRET {
            // Nor with an epoch that nobody else knows.
            liar.pool.refresh(&main_key(), |_| ()).await.unwrap();
        }
        let vault = |world: &World| world.dir.path().join(NAMES[2]).join("vault");
        for name in files(&world, &NAMES[2..]) {
            std::fs::remove_file(vault(&world).join(name)).unwrap();
        }
        for name in files(&liar, &NAMES[2..]) {
            std::fs::copy(vault(&liar).join(&name), vault(&world).join(&name)).unwrap();
        }
        let world = world.restart().await;
        world.install(wallets(scheme)).await;
        assert_eq!(status(&world).await.holders, [id(NAMES[0]), id(NAMES[1])]);
        assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
        assert_eq!(sign(&world, scheme, 1).await, NAMES[..2]);
    }
}

/// A signer restored from a backup of before a refresh: the others don't sign with it, and a reshare brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_share_is_of_no_use_with_new_ones() {
    for scheme in [SchemeId::Ed25519, SchemeId::Taproot] {
        let world = ready(scheme, |_| ()).await;
        let vault = world.dir.path().join(NAMES[0]).join("vault");
        let backup =
            ["main.1.1.share", "main.1.usable.json"].map(|name| (name, std::fs::read(vault.join(name)).unwrap()));
        world.pool.refresh(&main_key(), |_| ()).await.unwrap();
        let world = world.restart().await;
        for name in ["main.2.1.share", "main.2.usable.json"] {
            std::fs::remove_file(vault.join(name)).unwrap();
        }
        for (name, bytes) in &backup {
            std::fs::write(vault.join(name), bytes).unwrap();
        }
        let world = world.restart().await;
        world.install(wallets(scheme)).await;
        assert_eq!(status(&world).await.holders, [id(NAMES[1]), id(NAMES[2])]);
        for number in 1..4 {
            assert!(!sign(&world, scheme, number).await.contains(&NAMES[0].to_owned()));
        }
        let error = world.pool.refresh(&main_key(), |_| ()).await.unwrap_err();
        assert!(matches!(&error, PoolError::Ceremony { reason, .. } if reason.contains(NAMES[0])), "{error}");
        world.lines.break_line(NAMES[1], Break::Down);
        let short = world.pool.sign(payment(&world, scheme, 5)).await.unwrap_err();
        assert!(short.is_transient(), "an old share and a new one are no quorum: {short}");
        world.lines.mend();

        let rekeyed = world.pool.reshare(&main_key(), &NAMES.map(id), |_| ()).await.unwrap();
        assert_eq!((rekeyed.epoch, rekeyed.holders.len(), rekeyed.unerased.len()), (3, 3, 0));
        world.lines.break_line(NAMES[1], Break::Down);
        assert!(sign(&world, scheme, 6).await.contains(&NAMES[0].to_owned()));
    }
}

/// 2 of 3 become 3 of 5 with one of the three lost for good, and 2 of 3 again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_grows_without_its_lost_signer_and_shrinks_again() {
    const FIVE: [&str; 5] = ["signer-1", "signer-2", "new-1", "new-2", "new-3"];
    for scheme in SchemeId::ALL {
        let world = ready(scheme, |_| ()).await;
        let before = world.pool.account(&wallets(scheme)[0]).unwrap();
        let dir = world.dir.path().to_owned();
        std::fs::remove_dir_all(dir.join(NAMES[2])).unwrap();
        let world = world.restart_with(|config| signers(config, &dir, &FIVE, 3)).await;
        world.install(wallets(scheme)).await;
        sign(&world, scheme, 1).await;

        let refused = world.pool.refresh(&main_key(), |_| ()).await.unwrap_err();
        assert!(matches!(&refused, PoolError::Ceremony { reason, .. } if reason.contains(NAMES[2])), "{refused}");
        for wrong in [&FIVE[..2], &["signer-1", "signer-1", "new-1"], &["signer-1", "signer-2", "stranger"]] {
            let holders = wrong.iter().map(|name| id(name)).collect::<Vec<_>>();
            let error = world.pool.reshare(&main_key(), &holders, |_| ()).await.unwrap_err();
            assert!(matches!(error, PoolError::Ceremony { what: "reshared", .. }), "{error}");
        }
        let rounds = Mutex::new(0);
        let tell = |progress| *rounds.lock().unwrap() += usize::from(matches!(progress, Progress::Resharing { .. }));
        let rekeyed = world.pool.reshare(&main_key(), &FIVE.map(id), tell).await.unwrap();
        assert_eq!(rounds.into_inner().unwrap(), if scheme == SchemeId::Ecdsa { 9 } else { 4 });
        assert_eq!((rekeyed.epoch, rekeyed.threshold, rekeyed.holders.len()), (2, 3, 5));
        assert_eq!(rekeyed.unerased.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [NAMES[2]]);
        assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
        world.lines.break_line("signer-1", Break::Down);
        world.lines.break_line("signer-2", Break::Down);
        let mut fresh = sign(&world, scheme, 2).await;
        fresh.sort();
        assert_eq!(fresh, ["new-1", "new-2", "new-3"], "those that came later sign by themselves");
        world.lines.mend();
        assert!(files(&world, &FIVE).iter().all(|name| name.starts_with("main.2.")));

        let world = world.restart_with(|config| signers(config, &dir, &FIVE, 2)).await;
        world.install(wallets(scheme)).await;
        sign(&world, scheme, 3).await;
        let three = ["new-2", "signer-1", "new-3"];
        let rekeyed = world.pool.reshare(&main_key(), &three.map(id), |_| ()).await.unwrap();
        assert_eq!((rekeyed.epoch, rekeyed.threshold, rekeyed.unerased.len()), (3, 2, 0));
        assert!(files(&world, &["new-1", "signer-2"]).is_empty(), "who has left keeps nothing");
        assert_eq!(files(&world, &three).len(), 6);
        let world = world.restart_with(|config| signers(config, &dir, &FIVE, 2)).await;
        world.install(wallets(scheme)).await;
        sign(&world, scheme, 4).await;
        assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before);
        let told = status(&world).await;
        assert_eq!((told.epoch, told.threshold, told.shares), (3, 2, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_a_signature_from_its_end_is_in_the_status() {
    let scheme = SchemeId::Ed25519;
    let world = ready(scheme, |config| config.round_timeout = std::time::Duration::from_secs(6)).await;
    let first = sign(&world, scheme, 1).await[0].clone();
    world.lines.break_line(&first, Break::Down);
    let mut number = 2;
    while sign(&world, scheme, number).await.len() == 2 && status(&world).await.last_culprit.is_none() {
        number += 1;
        assert!(number < 20, "the signer that is down is asked at some time");
    }
    let told = status(&world).await;
    assert_eq!(told.last_culprit.unwrap().signer.as_str(), first);
    assert_eq!((told.signers_required, told.faults_tolerated, told.signers_up.len()), (2, 1, 2));
}
