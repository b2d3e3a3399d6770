//! Escrow and disaster recovery in a whole pool: an escrow and one signer's share become a pool of the same key; either
//! alone is nothing; and whatever is wrong with an escrow is said.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers state their assumptions bluntly"
)]

#[path = "pool/world.rs"]
#[allow(dead_code, reason = "the world serves other suites too")]
mod world;

use std::path::{Path, PathBuf};

use chains::account::KeyId;
use chains::amount::Amount;
use chains::chain::Chain;
use serde_json::Value;
use signer::escrow::{Alone, Escrow, EscrowError, EscrowFile, Identity, Recipient, Recovery};
use signer::pool::{
    ImportedKey, KeyStatus, Pool, PoolConfig, PoolError, SchemeId, SignError, SignerConfig, WalletSpec,
};
use zeroize::Zeroizing;

use world::{
    BTC_PAYEE, Break, ETH_PAYEE, EVM, NAMES, REGTEST, SOL_PAYEE, SVM, World, assemble, bitcoin_chain, bitcoin_state,
    config, ethereum, ethereum_state, id, intent, key, solana, solana_state, wallet,
};

fn main_key() -> KeyId {
    "main".parse().unwrap()
}

fn wallets(scheme: SchemeId) -> Vec<WalletSpec> {
    vec![match scheme {
        SchemeId::Ecdsa => wallet("w", EVM, "main", "m/0/7"),
        SchemeId::Taproot => wallet("w", REGTEST, "main", "m"),
        SchemeId::Ed25519 => wallet("w", SVM, "main", "m"),
    }]
}

/// A key that takes milliseconds to make.
async fn make_key(world: &World, scheme: SchemeId, secret: u8) {
    let secret = Zeroizing::new([secret; 32]);
    let secret = match scheme {
        SchemeId::Ed25519 => ImportedKey::Ed25519Seed(secret),
        _ => ImportedKey::Secp256k1 { secret, chain_code: Some([9; 32]) },
    };
    world.pool.import(&key("main", scheme), secret, |_| ()).await.unwrap();
}

async fn ready(scheme: SchemeId) -> World {
    let world = World::start(|_| ()).await;
    make_key(&world, scheme, 7).await;
    world.install(wallets(scheme)).await;
    world
}

fn holder() -> Identity {
    // The identity of the age crate's own tests.
    Identity::read("# a comment\n\nAGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n")
        .unwrap()
}

fn stranger() -> (Identity, Recipient) {
    let identity = age::x25519::Identity::generate();
    let text = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    let identity = Identity::read(&text).unwrap();
    let recipient = identity.recipient();
    (identity, recipient)
}

async fn escrow(world: &World) -> EscrowFile {
    let recipient = holder().recipient();
    world.pool.permit_escrow(&recipient);
    world.pool.escrow(&main_key(), &recipient, 1_700_000_000_000).await.unwrap()
}

fn opened(file: &EscrowFile) -> Escrow {
    Escrow::open(file.text().as_bytes(), &holder()).unwrap()
}

async fn status(world: &World) -> KeyStatus {
    world.pool.status().await.keys.into_iter().next().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A copy of a signer's folder as it is at this moment, under `name`.
fn copy_of(world: &World, signer: &str, name: &str) -> SignerConfig {
    let dir = world.dir.path().join(name).join(signer);
    copy(&world.dir.path().join(signer), &dir);
    let all = config(world.dir.path()).signers;
    let signer = all.into_iter().find(|config| config.id.as_str() == signer).unwrap();
    SignerConfig { dir, ..signer }
}

/// The pool that is recovered to, with the same signers' names, in fresh folders.
fn fresh(world: &World) -> PoolConfig {
    config(&world.dir.path().join("recovered"))
}

fn recovery(world: &World, live: Vec<SignerConfig>) -> Recovery {
    Recovery { pool: fresh(world), live, scratch: world.dir.path().join("scratch") }
}

/// A payment, signed and put in place, which verifies it against the wallet's address.
async fn sign(world: &World, scheme: SchemeId, number: u64) -> Result<(), SignError> {
    let account = world.pool.account(&wallets(scheme)[0]).unwrap();
    let build = |to: &str, amount: Amount| intent(account.wallet(), number.into(), to, amount);
    let (body, unsigned) = match scheme {
        SchemeId::Ecdsa => {
            let (body, intent) = build(ETH_PAYEE, Amount::from_wei(1_000_000_000 + u128::from(number)));
            let unsigned = ethereum().build(&intent, &account, &ethereum_state(number)).unwrap();
            (body, ethereum().encode_unsigned(&unsigned))
        }
        SchemeId::Taproot => {
            let (body, intent) = build(BTC_PAYEE, Amount::from_sat(20_000));
            let unsigned = bitcoin_chain().build(&intent, &account, &bitcoin_state(&account, &[60_000 + number]));
            (body, bitcoin_chain().encode_unsigned(&unsigned.unwrap()))
        }
        SchemeId::Ed25519 => {
            let (body, intent) = build(SOL_PAYEE, Amount::from_lamports(1_000_000 + number));
            let unsigned = solana().build(&intent, &account, &solana_state()).unwrap();
            (body, solana().encode_unsigned(&unsigned))
        }
    };
    let request = world.request(number.into(), &account, body, unsigned);
    let outcome = world.pool.sign(request.clone()).await?;
    match scheme {
        SchemeId::Ecdsa => assemble(&ethereum(), &account, &request.unsigned, &outcome.signatures),
        SchemeId::Taproot => assemble(&bitcoin_chain(), &account, &request.unsigned, &outcome.signatures),
        SchemeId::Ed25519 => assemble(&solana(), &account, &request.unsigned, &outcome.signatures),
    }
    Ok(())
}

/// Every file under a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_and_one_share_become_a_pool_of_the_same_key_and_either_alone_does_not() {
    for scheme in SchemeId::ALL {
        let world = ready(scheme).await;
        let before = world.pool.account(&wallets(scheme)[0]).unwrap();
        // The client's signer takes part in this one, and remembers it.
        world.lines.break_line("signer-1", Break::Down);
        sign(&world, scheme, 1).await.unwrap();
        world.lines.mend();
        assert_eq!(status(&world).await.escrowed, None);
        let file = escrow(&world).await;
        assert!(file.text().starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{}", file.text());
        assert_eq!(file.helpers().len(), 2);
        world.pool.note_escrow(&file).await.unwrap();
        assert_eq!(status(&world).await.escrowed, Some(1));
        // Making it has changed nothing.
        sign(&world, scheme, 2).await.unwrap();
        let opened = opened(&file);
        assert_eq!((opened.key(), opened.scheme(), opened.epoch()), (&main_key(), scheme, 1));
        assert_eq!((opened.threshold(), opened.place(), opened.holders().len()), (2, 4, 3));
        assert_eq!((opened.created_at(), opened.replaces()), (1_700_000_000_000, None));
        assert_eq!(opened.recipient(), holder().recipient().to_string());

        let live = copy_of(&world, "signer-3", "client");
        let kept = files(&live.dir.join("vault"));
        let recovery = recovery(&world, vec![live]);
        for with_escrow in [true, false] {
            let alone = recovery.alone(&opened, with_escrow).await.unwrap();
            let Alone::Powerless { said } = alone else { panic!("{scheme}: one share was enough") };
            assert!(said.contains("1 are left and it takes 2"), "{said}");
            assert!(!recovery.scratch.exists());
            let left = files(&world.dir.path().join("recovered"));
            assert!(left.iter().all(|path| !path.to_string_lossy().contains("main.")), "{left:?}");
        }
        let recovered = recovery.run(&opened, |_| ()).await.unwrap();
        assert_eq!((recovered.group, recovered.epoch), (opened.group(), 2));
        assert_eq!(recovered.holders, NAMES.map(id));
        assert!(!recovery.scratch.exists(), "what was only passing is gone");
        assert_eq!(files(&recovery.live[0].dir.join("vault")), kept, "the live signer's folder is as it was");
        let again = recovery.run(&opened, |_| ()).await.unwrap_err();
        assert!(matches!(again, EscrowError::Occupied { .. }), "{again}");

        let dir = world.dir.path().join("recovered");
        for name in NAMES {
            let ledger = std::fs::metadata(dir.join(name).join("ledger")).unwrap();
            assert!(ledger.len() > 0, "{name} knows nothing of what was signed before");
        }
        let world = world.restart_with(|config| *config = world::config(&dir)).await;
        world.install(wallets(scheme)).await;
        assert_eq!(world.pool.account(&wallets(scheme)[0]).unwrap(), before, "the same address");
        assert_eq!(world.pool.prove(&main_key()).await.unwrap(), 3, "every share signs");
        // Any two of them sign, though two of the three have never seen the key before.
        for (number, down) in NAMES.iter().enumerate() {
            world.lines.break_line(down, Break::Down);
            sign(&world, scheme, 10 + number as u64).await.unwrap();
            world.lines.mend();
        }
        // It is a pool like any other.
        if scheme != SchemeId::Ecdsa {
            assert_eq!(world.pool.refresh(&main_key(), |_| ()).await.unwrap().epoch, 3);
        }
        let next = escrow(&world).await;
        assert_eq!(next.epoch(), status(&world).await.epoch);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_of_another_epoch_is_refused_by_name() {
    let scheme = SchemeId::Taproot;
    let world = ready(scheme).await;
    let old = escrow(&world).await;
    world.pool.note_escrow(&old).await.unwrap();
    let old_share = copy_of(&world, "signer-1", "before");
    world.pool.refresh(&main_key(), |_| ()).await.unwrap();
    let told = status(&world).await;
    assert_eq!((told.epoch, told.escrowed), (2, Some(1)), "it can be seen that the escrow is stale");

    let refreshed = copy_of(&world, "signer-1", "after");
    let stale = recovery(&world, vec![refreshed.clone()]).run(&opened(&old), |_| ()).await.unwrap_err();
    assert!(matches!(stale, EscrowError::OtherEpoch { escrow: 1, live: 2, .. }), "{stale}");
    assert!(stale.to_string().contains("made after the last refresh"), "{stale}");

    let new = escrow(&world).await;
    assert_eq!(opened(&new).replaces(), Some(1));
    let early = recovery(&world, vec![old_share.clone()]).run(&opened(&new), |_| ()).await.unwrap_err();
    assert!(matches!(early, EscrowError::OtherEpoch { escrow: 2, live: 1, .. }), "{early}");
    // A marker that was moved along does not make a share of one epoch one of another.
    for (one, other) in [("main.1.1.share", "main.2.1.share"), ("main.1.usable.json", "main.2.usable.json")] {
        let vault = old_share.dir.join("vault");
        let text = std::fs::read(vault.join(one)).unwrap();
        std::fs::write(vault.join(other), text).unwrap();
        std::fs::remove_file(vault.join(one)).unwrap();
    }
    let forged = recovery(&world, vec![old_share]).run(&opened(&new), |_| ()).await.unwrap_err();
    assert!(matches!(forged, EscrowError::Folder { .. } | EscrowError::NoShare { .. }), "{forged}");

    recovery(&world, vec![refreshed]).run(&opened(&new), |_| ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_of_another_key_and_too_few_shares_are_refused() {
    let scheme = SchemeId::Ed25519;
    let world = ready(scheme).await;
    let other = World::start(|_| ()).await;
    make_key(&other, scheme, 8).await;
    let twin = ready(scheme).await;
    let file = escrow(&world).await;

    let foreign = recovery(&world, vec![copy_of(&other, "signer-1", "client")]);
    let error = foreign.run(&opened(&file), |_| ()).await.unwrap_err();
    assert!(matches!(error, EscrowError::OtherKey { .. }), "{error}");
    // The same key, split once more: same name, same epoch, same public key.
    let twin = recovery(&world, vec![copy_of(&twin, "signer-1", "client")]);
    let error = twin.run(&opened(&file), |_| ()).await.unwrap_err();
    assert!(matches!(error, EscrowError::OtherSharing { .. }), "{error}");
    let error = recovery(&world, Vec::new()).run(&opened(&file), |_| ()).await.unwrap_err();
    assert!(matches!(error, EscrowError::TooFew { have: 1, needed: 2, .. }), "{error}");
    let empty = World::start(|_| ()).await;
    let error = recovery(&world, vec![copy_of(&empty, "signer-1", "client")]).run(&opened(&file), |_| ()).await;
    assert!(matches!(error, Err(EscrowError::NoShare { .. })), "{error:?}");
    let nowhere = SignerConfig { dir: world.dir.path().join("nowhere"), ..copy_of(&world, "signer-1", "copy") };
    let error = recovery(&world, vec![nowhere]).run(&opened(&file), |_| ()).await;
    assert!(matches!(error, Err(EscrowError::Folder { .. })), "{error:?}");
    // The folder of a signer that runs.
    let running = config(world.dir.path()).signers[0].clone();
    let error = recovery(&world, vec![running]).run(&opened(&file), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    assert!(files(&world.dir.path().join("recovered")).iter().all(|path| !path.ends_with(".share")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_escrow_and_a_wrong_identity_are_told_apart() {
    let world = ready(SchemeId::Ed25519).await;
    let file = escrow(&world).await;
    let text = file.text().as_bytes();
    let open = |text: &[u8]| Escrow::open(text, &holder());
    assert!(open(text).is_ok());
    assert!(matches!(Escrow::open(text, &stranger().0), Err(EscrowError::WrongIdentity)));
    let spread = |count: usize| (0..count).step_by((count / 60).max(1));
    for length in spread(text.len() - 1) {
        assert!(matches!(open(&text[..length]), Err(EscrowError::Damaged(_))), "cut at {length}");
    }
    for position in spread(text.len()) {
        let mut altered = text.to_vec();
        altered[position] ^= 1;
        // What stands around the armour doesn't count; what counts is never read as something else.
        match open(&altered) {
            Err(EscrowError::Damaged(_) | EscrowError::WrongIdentity) => (),
            Ok(_) => assert!(text[position].is_ascii_whitespace(), "byte {position} was altered and nobody saw it"),
            Err(error) => panic!("byte {position}: {error}"),
        }
    }
    for text in ["", "age1", "-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----\n"] {
        assert!(matches!(open(text.as_bytes()), Err(EscrowError::Damaged(_))), "{text:?}");
    }
    for text in
        ["", "# only a comment", "AGE-SECRET-KEY-1", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
    {
        assert!(matches!(Identity::read(text), Err(EscrowError::Identity)), "{text:?}");
    }
    for text in ["", "age1", "AGE-SECRET-KEY-1", "ssh-ed25519 AAAA"] {
        assert!(matches!(text.parse::<Recipient>(), Err(EscrowError::Recipient)), "{text:?}");
    }
    assert!(!format!("{:?}", holder()).contains("SECRET"));
}

/// Whoever knows the recipient can write a file to it; what they write is found out.
#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_that_was_put_together_from_others_is_found_out() {
    let scheme = SchemeId::Ed25519;
    let world = ready(scheme).await;
    let (one, other) = (escrow(&world).await, escrow(&world).await);
    let identity: age::x25519::Identity =
        "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33".parse().unwrap();
    let inside = |file: &EscrowFile| -> Value {
        serde_json::from_slice(&age::decrypt(&identity, file.text().as_bytes()).unwrap()).unwrap()
    };
    let forge = |content: &Value| {
        let text = serde_json::to_vec(content).unwrap();
        let text = age::encrypt_and_armor(&identity.to_public(), &text).unwrap();
        Escrow::open(text.as_bytes(), &holder()).map(|_| ())
    };
    let (honest, other) = (inside(&one), inside(&other));
    forge(&honest).unwrap();
    assert!(age::decrypt(&identity, honest["parts"]["1"].as_str().unwrap().as_bytes()).is_ok());
    assert_ne!(honest["parts"]["1"], other["parts"]["1"]);

    let altered = |path: &str, value: Value| {
        let mut content = honest.clone();
        *content.pointer_mut(path).unwrap() = value;
        forge(&content)
    };
    let names = |error: Result<(), EscrowError>, signer: &str| match error {
        Err(EscrowError::WrongPart { signer: named, .. }) => assert_eq!(named.as_str(), signer),
        other => panic!("{other:?}"),
    };
    names(altered("/parts/1", other["parts"]["1"].clone()), "signer-1");
    names(altered("/parts/2", honest["parts"]["1"].clone()), "signer-2");
    names(altered("/parts/2", "-----BEGIN AGE ENCRYPTED FILE-----".into()), "signer-2");
    let sealed = age::encrypt_and_armor(&identity.to_public(), b"nothing").unwrap();
    names(altered("/parts/2", sealed.into()), "signer-2");
    for (path, value) in [
        ("/format", Value::from("portcullis escrow v2")),
        ("/public/parts/1", other["public"]["parts"]["1"].clone()),
        ("/public/shares/1", honest["public"]["shares"]["2"].clone()),
        ("/public/threshold", 3.into()),
        ("/public/place", 5.into()),
        ("/public/group", format!("ed25519:{}", "01".repeat(32)).into()),
        ("/key/group", format!("ed25519:{}", "01".repeat(32)).into()),
        ("/key/scheme", "taproot".into()),
    ] {
        let error = altered(path, value);
        assert!(matches!(error, Err(EscrowError::Damaged(_))), "{path}: {error:?}");
    }
    // The parts are bound to name and epoch too.
    for (path, value) in [("/key/epoch", Value::from(2)), ("/key/key", "another".into())] {
        names(altered(path, value), "signer-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signers_help_for_nobody_but_the_recipients_they_were_told_of() {
    let world = ready(SchemeId::Ed25519).await;
    let recipient = holder().recipient();
    let refused = |error: PoolError| match error {
        PoolError::Ceremony { what: "put in escrow", reason, .. } => reason,
        other => panic!("{other}"),
    };
    let nobody = world.pool.escrow(&main_key(), &recipient, 1).await.unwrap_err();
    assert!(refused(nobody).contains("names no such recipient"));
    world.pool.permit_escrow(&recipient);
    let thief = world.pool.escrow(&main_key(), &stranger().1, 1).await.unwrap_err();
    assert!(refused(thief).contains("names no such recipient"));
    let missing = world.pool.escrow(&"missing".parse().unwrap(), &recipient, 1).await.unwrap_err();
    assert!(matches!(missing, PoolError::UnknownKey(_)), "{missing}");
    world.lines.break_line("signer-1", Break::Down);
    world.lines.break_line("signer-2", Break::Down);
    assert!(world.pool.escrow(&main_key(), &recipient, 1).await.is_err(), "one signer alone makes none");
    world.lines.mend();
    world.pool.escrow(&main_key(), &recipient, 1).await.unwrap();
}

/// A signer's folder beside the first one's.
fn named(template: &SignerConfig, folder: &Path, name: &str) -> SignerConfig {
    SignerConfig { id: id(name), dir: folder.join(name), seal: template.seal.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_other_signers_with_another_threshold_takes_over() {
    let world = World::start(|config| {
        let folder = config.signers[0].dir.parent().unwrap().to_owned();
        config.signers.push(named(&config.signers[0], &folder, "signer-4"));
        config.threshold = 3;
    })
    .await;
    make_key(&world, SchemeId::Taproot, 7).await;
    let escrow = opened(&escrow(&world).await);
    assert_eq!((escrow.threshold(), escrow.place(), escrow.holders().len()), (3, 5, 4));
    let fourth = {
        let second = copy_of(&world, "signer-2", "unused");
        let fourth = named(&second, &world.dir.path().join("client"), "signer-4");
        copy(&world.dir.path().join("signer-4"), &fourth.dir);
        fourth
    };
    let live = vec![copy_of(&world, "signer-2", "client"), fourth];
    let mut pool = fresh(&world);
    let folder = world.dir.path().join("elsewhere");
    pool.signers = ["new-1", "new-2", "new-3"].iter().map(|name| named(&pool.signers[0], &folder, name)).collect();
    let scratch = world.dir.path().join("scratch");
    let few = Recovery { pool: pool.clone(), live: live[..1].to_vec(), scratch: scratch.clone() };
    let error = few.run(&escrow, |_| ()).await.unwrap_err();
    assert!(matches!(error, EscrowError::TooFew { have: 2, needed: 3, .. }), "{error}");
    let recovery = Recovery { pool: pool.clone(), live, scratch };
    assert!(matches!(recovery.alone(&escrow, false).await.unwrap(), Alone::Powerless { .. }));
    let recovered = recovery.run(&escrow, |_| ()).await.unwrap();
    assert_eq!((recovered.group, recovered.epoch), (escrow.group(), 2));
    assert!(!recovery.scratch.exists());
    let pool = Pool::start(pool).await.unwrap();
    assert_eq!(pool.prove(&main_key()).await.unwrap(), 3);
    let status = pool.status().await.keys.remove(0);
    assert_eq!((status.threshold, status.shares, status.public_key), (2, 3, escrow.group()));
    pool.shutdown().await;
}

/// A gateway that was taken over knows nobody's escrow recipients but those in the signers' own configurations.
#[cfg(feature = "grpc")]
#[tokio::test(flavor = "multi_thread")]
async fn signers_apart_help_for_the_recipients_of_their_own_configuration() {
    let world = World::ready_by(world::Means::Grpc, |_| ()).await;
    let (key, recipient) = (world::sol().0[0].key.clone(), holder().recipient());
    // Whatever the coordinator permits is not its to permit.
    world.pool.permit_escrow(&recipient);
    let error = world.pool.escrow(&key, &recipient, 1).await.unwrap_err();
    assert!(error.to_string().contains("names no such recipient"), "{error}");
    world.stations.iter().for_each(|station| station.permit_escrow(std::slice::from_ref(&recipient)));
    assert!(world.pool.escrow(&key, &stranger().1, 1).await.is_err());
    let file = world.pool.escrow(&key, &recipient, 1).await.unwrap();
    assert_eq!(*opened(&file).key(), key);
}

/// All escrows of one epoch are the same share: a second holder doesn't make a second share.
#[tokio::test(flavor = "multi_thread")]
async fn two_escrows_of_an_epoch_are_one_share() {
    let world = ready(SchemeId::Taproot).await;
    let (one, other) = (escrow(&world).await, escrow(&world).await);
    assert_ne!(one.text(), other.text());
    assert_eq!((opened(&one).place(), opened(&other).place()), (4, 4));
}
