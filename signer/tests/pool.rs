//! The pool as the gateway meets it: keys from real ceremonies, real transactions of every chain, broken lines, crashes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers state their assumptions bluntly"
)]

#[path = "pool/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chains::account::Account;
use chains::amount::Amount;
use chains::chain::Chain;
use signer::pool::{Pool, PoolError, Progress, SchemeId, SignError};
use signer::request::SigningRequest;

use world::{
    BTC_PAYEE, Break, ETH_PAYEE, EVM, Means, NAMES, REGTEST, SVM, World, assemble, bitcoin_chain, bitcoin_state,
    config, ensure, ethereum, ethereum_state, id, intent, key, open, sol, solana, wallet,
};

/// The suite, written once, for every way in which signers can be reached.
macro_rules! by {
    ($means:expr => $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($means).await;
            }
        )*
    };
}

macro_rules! suite {
    ($($test:ident)*) => {
        mod memory {
            by!(super::Means::Memory => $($test)*);
        }

        #[cfg(feature = "grpc")]
        mod grpc {
            by!(super::Means::Grpc => $($test)*);
        }
    };
}

suite! {
    a_broken_signer_is_named_and_the_others_sign
    replayed_messages_change_nothing
    below_the_threshold_the_error_comes_at_once
    the_deadline_holds
    every_signer_judges_for_itself
    many_requests_at_once_are_all_signed
    a_key_cut_off_in_the_making_is_made_anew
    a_lost_share_is_reported_and_the_rest_go_on
    an_aborted_ceremony_leaves_nothing_behind
    a_key_keeps_its_scheme
}

fn build<C: Chain>(
    world: &World,
    number: u128,
    chain: &C,
    account: &Account,
    state: &C::State,
    to: &str,
    amount: Amount,
) -> SigningRequest {
    let (body, intent) = intent(account.wallet(), number, to, amount);
    let unsigned = chain.build(&intent, account, state).unwrap();
    world.request(number, account, body, chain.encode_unsigned(&unsigned))
}

/// The whole of it, once: every scheme's key generation, a payment on every chain, a restart, and the slot ledger.
#[tokio::test(flavor = "multi_thread")]
async fn keys_from_real_ceremonies_sign_on_every_chain() {
    let world = World::start(|_| ()).await;
    let keys = [
        key("main-ecdsa", SchemeId::Ecdsa),
        key("main-taproot", SchemeId::Taproot),
        key("main-ed25519", SchemeId::Ed25519),
    ];
    let wallets = vec![
        wallet("treasury-eth", EVM, "main-ecdsa", "m/0"),
        wallet("treasury-btc", REGTEST, "main-ecdsa", "m/1/5"),
        wallet("treasury-tr", REGTEST, "main-taproot", "m"),
        wallet("treasury-sol", SVM, "main-ed25519", "m"),
    ];
    assert!(matches!(world.pool.account(&wallets[0]), Err(PoolError::UnknownKey(_))));
    let told = ensure(&world.pool, &keys).await.unwrap();
    for (spec, rounds) in keys.iter().zip([5, 3, 3]) {
        let of = |progress: &&Progress| match progress {
            Progress::Generating { key, of, .. } => *key == spec.key && *of == rounds,
            Progress::Generated { key, .. } => *key == spec.key,
            _ => false,
        };
        let mine = told.iter().filter(of).collect::<Vec<_>>();
        assert_eq!(mine.len(), rounds as usize + 1);
        assert!(matches!(mine.first(), Some(Progress::Generating { round: 1, .. })));
        assert!(matches!(mine.last(), Some(Progress::Generated { .. })));
    }
    let again = ensure(&world.pool, &keys).await.unwrap();
    assert!(again.iter().all(|p| matches!(p, Progress::KeyExists { missing, .. } if missing.is_empty())));
    let accounts = wallets.iter().map(|spec| world.pool.account(spec).unwrap()).collect::<Vec<_>>();
    let [eth, btc, tr, treasury_sol] = accounts.as_slice() else { panic!("four wallets") };

    world.install(wallets.clone()).await;
    let amount = Amount::from_wei(1_000_000_000_000_000_000);
    let ethereum_request = build(&world, 1, &ethereum(), eth, &ethereum_state(0), ETH_PAYEE, amount);
    let outcome = world.pool.sign(ethereum_request.clone()).await.unwrap();
    assert_eq!((outcome.signatures.len(), outcome.participants.len()), (1, 2));
    assert!(outcome.culprits.is_empty());
    assemble(&ethereum(), eth, &ethereum_request.unsigned, &outcome.signatures);

    // Three coins, of which two are needed: several payloads in one session.
    for (number, account) in [(2, btc), (3, tr)] {
        let state = bitcoin_state(account, &[60_000, 60_000, 60_000]);
        let request = build(&world, number, &bitcoin_chain(), account, &state, BTC_PAYEE, Amount::from_sat(100_000));
        let outcome = world.pool.sign(request.clone()).await.unwrap();
        assert!(outcome.signatures.len() >= 2, "one signature an input");
        assemble(&bitcoin_chain(), account, &request.unsigned, &outcome.signatures);
    }
    world.sign_sol(4).await.unwrap();

    let world = world.restart().await;
    let reloaded = wallets.iter().map(|spec| world.pool.account(spec).unwrap()).collect::<Vec<_>>();
    assert_eq!(reloaded, accounts, "the same keys after a restart");
    assert!(matches!(world.pool.sign(ethereum_request.clone()).await, Err(SignError::NotInstalled)));
    world.install(wallets).await;
    // The same bytes may be signed again, by any quorum; another payment may not take their nonce.
    for _ in 0..3 {
        let outcome = world.pool.sign(ethereum_request.clone()).await.unwrap();
        assemble(&ethereum(), eth, &ethereum_request.unsigned, &outcome.signatures);
    }
    let amount = Amount::from_wei(2_000_000_000_000_000_000);
    let thief = build(&world, 5, &ethereum(), eth, &ethereum_state(0), ETH_PAYEE, amount);
    match world.pool.sign(thief).await {
        Err(error @ SignError::Refused { .. }) => assert!(!error.is_transient()),
        other => panic!("the slot is another payment's: {other:?}"),
    }
    assert_eq!(treasury_sol.wallet().as_str(), "treasury-sol");

    let status = world.pool.status().await;
    assert_eq!((status.threshold, status.keys.len()), (2, 3));
    assert!(status.signers.iter().all(|signer| signer.up));
    assert!(status.keys.iter().all(|key| key.holders.len() == 3 && key.shares == 3 && key.epoch == 1));
    world.pool.shutdown().await;
}

async fn a_broken_signer_is_named_and_the_others_sign(means: Means) {
    for how in [Break::Down, Break::Slow, Break::Corrupt, Break::Repeat, Break::Swap] {
        // Short enough to be waited for, long enough for a machine that runs all tests at once.
        let world = World::ready_by(means, |config| config.round_timeout = Duration::from_secs(6)).await;
        let first = world.sign_sol(1).await.unwrap().participants[0].clone();
        world.lines.break_line(first.as_str(), how);
        let began = Instant::now();
        let outcome = world.sign_sol(2).await.unwrap_or_else(|e| panic!("{how:?}: {e}"));
        assert!(began.elapsed() < Duration::from_secs(30), "within the deadline");
        // A last letter that is of no use to the others doesn't keep its sender from the signature.
        assert!(how == Break::Repeat || !outcome.participants.contains(&first), "{how:?}: {outcome:?}");
        assert!(outcome.culprits.iter().any(|culprit| culprit.signer == first), "{how:?}: {outcome:?}");
        let status = world.pool.status().await;
        let broken = status.signers.iter().find(|signer| signer.signer == first).unwrap();
        assert!(broken.failures > 0, "{how:?}: {broken:?}");

        // Mended and with the others down, it is needed again, bench or not.
        world.lines.mend();
        let other = id(NAMES.into_iter().find(|name| *name != first.as_str()).unwrap());
        world.lines.break_line(other.as_str(), Break::Down);
        let outcome = world.sign_sol(3).await.unwrap();
        assert!(outcome.participants.contains(&first));
    }
}

async fn replayed_messages_change_nothing(means: Means) {
    let world = World::ready_by(means, |_| ()).await;
    for name in NAMES {
        world.lines.break_line(name, Break::Replay);
    }
    let outcome = world.sign_sol(1).await.unwrap();
    assert!(outcome.culprits.is_empty(), "{outcome:?}");
}

async fn below_the_threshold_the_error_comes_at_once(means: Means) {
    let world = World::ready_by(means, |_| ()).await;
    world.lines.break_line(NAMES[0], Break::Down);
    world.lines.break_line(NAMES[2], Break::Down);
    let began = Instant::now();
    let error = world.sign_sol(1).await.unwrap_err();
    assert_eq!(error, SignError::TooFewSigners { needed: 2, up: 1 });
    assert!(error.is_transient() && began.elapsed() < Duration::from_secs(10));
    let status = world.pool.status().await;
    assert_eq!(status.signers.iter().filter(|signer| signer.up).count(), 1);
    world.lines.mend();
    world.sign_sol(1).await.unwrap();
}

async fn the_deadline_holds(means: Means) {
    let world = World::ready_by(means, |config| {
        config.deadline = Duration::from_millis(500);
        config.round_timeout = Duration::from_secs(30);
    })
    .await;
    NAMES.into_iter().for_each(|name| world.lines.break_line(name, Break::Slow));
    let began = Instant::now();
    let error = world.sign_sol(1).await.unwrap_err();
    assert!(matches!(error, SignError::Timeout) && error.is_transient());
    assert!(began.elapsed() < Duration::from_secs(10));
}

async fn every_signer_judges_for_itself(means: Means) {
    let world = World::start_by(means, |_| ()).await;
    let (keys, wallets) = sol();
    world.pool.ensure_keys(&keys, |_| ()).await.unwrap();
    let good = world.pay_sol(1, 1_000_000);
    assert_eq!(world.pool.sign(good.clone()).await, Err(SignError::NotInstalled));
    world.install(wallets).await;

    // Under the policy that is installed.
    let good = world.pay_sol(1, 1_000_000);
    let mut stranger = good.clone();
    stranger.wallet = "nobody".parse().unwrap();
    assert!(matches!(world.pool.sign(stranger).await, Err(SignError::UnknownWallet(_))));

    // Bytes that pay another amount than the client asked for.
    let mut swapped = good.clone();
    swapped.unsigned = world.pay_sol(1, 2_000_000).unsigned;
    // A body that the client did not sign.
    let mut forged = good.clone();
    forged.evidence.request.body = world.pay_sol(2, 1_000_000).evidence.request.body;
    for request in [swapped, forged] {
        let error = world.pool.sign(request).await.unwrap_err();
        let SignError::Refused { by } = &error else { panic!("{error}") };
        // One refusal leaves two to sign; the second one settles it.
        let by = by.iter().map(|(signer, _)| signer).collect::<BTreeSet<_>>();
        assert!(by.len() >= 2 && !error.is_transient(), "{error}");
    }
    let outcome = world.pool.sign(good.clone()).await.unwrap();
    let account = world.pool.account(&sol().1[0]).unwrap();
    assemble(&solana(), &account, &good.unsigned, &outcome.signatures);
}

async fn many_requests_at_once_are_all_signed(means: Means) {
    let world = World::ready_by(means, |_| ()).await;
    let requests = (1..=24u32).map(|number| world.pay_sol(number.into(), 1_000_000 + u64::from(number)));
    let requests = requests.collect::<Vec<_>>();
    let outcomes = futures::future::join_all(requests.iter().map(|request| world.pool.sign(request.clone()))).await;
    let account = world.pool.account(&sol().1[0]).unwrap();
    let mut took_part = BTreeSet::new();
    for (request, outcome) in requests.iter().zip(outcomes) {
        let outcome = outcome.unwrap();
        assemble(&solana(), &account, &request.unsigned, &outcome.signatures);
        took_part.extend(outcome.participants);
    }
    assert_eq!(took_part.len(), 3, "the load is spread over all signers");
}

/// What would have all signers answer too late, if it were let in at once, and be asked for again for ever.
#[tokio::test(flavor = "multi_thread")]
async fn far_more_requests_than_signers_can_serve_in_time_are_all_signed() {
    const REQUESTS: u64 = 300;
    let world = World::ready(|config| config.round_timeout = Duration::from_millis(300)).await;
    NAMES.into_iter().for_each(|name| world.lines.break_line(name, Break::Busy));
    let signed = async |number: u64| loop {
        match world.sign_sol(number).await {
            Ok(_) => break,
            Err(error) => assert!(error.is_transient(), "{number}: {error}"),
        }
        // As the pipeline does: again after a while.
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let all = futures::future::join_all((1..=REQUESTS).map(signed));
    tokio::time::timeout(Duration::from_secs(240), all).await.expect("they are signed, one after the other");
}

async fn a_key_cut_off_in_the_making_is_made_anew(means: Means) {
    let world = World::ready_by(means, |_| ()).await;
    let (keys, wallets) = sol();
    let before = world.pool.account(&wallets[0]).unwrap();

    // Nobody got to mark it, and one share was never written: as after a crash in the ceremony.
    for marker in world.files(".usable.json") {
        std::fs::remove_file(marker).unwrap();
    }
    std::fs::remove_file(&world.files(".share")[0]).unwrap();
    let world = world.restart().await;
    assert!(world.pool.account(&wallets[0]).is_err());
    let told = ensure(&world.pool, &keys).await.unwrap();
    assert!(matches!(told.last(), Some(Progress::Generated { .. })));
    let after = world.pool.account(&wallets[0]).unwrap();
    assert_ne!(before.address(), after.address());
    assert_eq!((world.files(".share").len(), world.files(".usable.json").len()), (3, 3));

    // One signer got to mark it: the key was proved, so the others catch up.
    for marker in &world.files(".usable.json")[1..] {
        std::fs::remove_file(marker).unwrap();
    }
    let world = world.restart().await;
    let told = ensure(&world.pool, &keys).await.unwrap();
    assert!(matches!(told.as_slice(), [Progress::KeyExists { missing, .. }] if missing.is_empty()));
    assert_eq!(world.pool.account(&wallets[0]).unwrap(), after);
    assert_eq!(world.files(".usable.json").len(), 3);
    world.install(wallets).await;
    world.sign_sol(1).await.unwrap();
}

async fn a_lost_share_is_reported_and_the_rest_go_on(means: Means) {
    let world = World::ready_by(means, |_| ()).await;
    let (keys, wallets) = sol();
    let account = world.pool.account(&wallets[0]).unwrap();
    let shares = world.files(".share");
    std::fs::remove_file(&shares[1]).unwrap();
    let world = world.restart().await;
    let told = ensure(&world.pool, &keys).await.unwrap();
    assert!(matches!(told.as_slice(), [Progress::KeyExists { missing, .. }] if *missing == vec![id(NAMES[1])]));
    assert_eq!(world.pool.account(&wallets[0]).unwrap(), account);
    world.install(wallets).await;
    let outcome = world.sign_sol(1).await.unwrap();
    assert!(!outcome.participants.contains(&id(NAMES[1])));

    std::fs::remove_file(&shares[2]).unwrap();
    let world = world.restart().await;
    let error = ensure(&world.pool, &keys).await.unwrap_err();
    assert!(matches!(error, PoolError::KeyLost { left: 1, needed: 2, .. }), "{error}");
    assert_eq!(world.files(".share").len(), 1, "what is left stays");
}

async fn an_aborted_ceremony_leaves_nothing_behind(means: Means) {
    let keys = sol().0;
    // A generation and its proof are some ten calls a signer; the inventory before it is one.
    for calls in 0..12 {
        let world = World::start_by(means, |_| ()).await;
        world.lines.break_line(NAMES[2], Break::DownAfter(calls));
        match ensure(&world.pool, &keys).await {
            Ok(_) => {
                // From here on the signer goes down after the key was proved.
                assert!(calls > 4, "a signer that is down has no share");
                continue;
            }
            Err(PoolError::Generation { reason, .. }) => assert!(reason.contains(NAMES[2]), "{reason}"),
            Err(other) => panic!("{other}"),
        }
        let left = world.files(".share");
        assert!(left.iter().all(|path| path.starts_with(world.dir.path().join(NAMES[2]))), "{left:?}");
        assert!(world.files(".usable.json").is_empty());
        world.lines.mend();
        ensure(&world.pool, &keys).await.unwrap();
        assert_eq!((world.files(".share").len(), world.files(".usable.json").len()), (3, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_none_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    for threshold in [0, 1, 4] {
        let started = open(dir.path(), |config| config.threshold = threshold).await;
        assert!(matches!(started, Err(PoolError::Config(_))));
    }
    let twice = open(dir.path(), |config| config.signers[1].id = config.signers[0].id.clone()).await;
    assert!(matches!(twice, Err(PoolError::Config(_))));

    let (pool, _) = open(dir.path(), |_| ()).await.unwrap();
    match Pool::start(config(dir.path())).await {
        Err(PoolError::Start { signer, reason }) => {
            assert_eq!(signer, id(NAMES[0]));
            assert!(reason.contains("in use by another process"), "{reason}");
        }
        other => panic!("the directories are taken: {:?}", other.err()),
    }
    pool.shutdown().await;

    // A signer that was set up anew has another link key, which the others refuse.
    std::fs::remove_file(dir.path().join(NAMES[1]).join("vault/link.secret")).unwrap();
    let error = open(dir.path(), |_| ()).await.err().expect("the link key changed");
    assert!(matches!(&error, PoolError::Absent { reason, .. } if reason.contains("another link key")), "{error}");
}

async fn a_key_keeps_its_scheme(means: Means) {
    let world = World::ready_by(means, |_| ()).await;
    let error = ensure(&world.pool, &[key("main-ed25519", SchemeId::Taproot)]).await.unwrap_err();
    assert!(matches!(error, PoolError::WrongScheme { is: SchemeId::Ed25519, asked: SchemeId::Taproot, .. }));
    let wrong = world.pool.account(&wallet("w", EVM, "main-ed25519", "m"));
    assert!(matches!(wrong, Err(PoolError::Account(_))), "an Ed25519 key has no Ethereum address");
    let child = world.pool.account(&wallet("w", SVM, "main-ed25519", "m/0"));
    assert!(matches!(child, Err(PoolError::Account(_))), "an Ed25519 key has no children");
}
