//! A pool of five signers, three of whom sign: whatever two of them do, the others carry on; and what no signer may do, all
//! of them refuse. The gateway that colludes with a signer is in `src/node/tests/attack.rs`, where the keys to read along
//! are; every field of a request in `src/node/tests/fields.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers state their assumptions bluntly"
)]

#[allow(dead_code, reason = "shared with the tests of the pool, which use all of it")]
#[path = "pool/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use signer::pool::{PoolConfig, SignError, SignerConfig};
use signer::request::SigningRequest;

use world::{Break, NAMES, World, id};

const FIVE: [&str; 5] = [NAMES[0], NAMES[1], NAMES[2], "signer-4", "signer-5"];

/// Three of five.
fn five(config: &mut PoolConfig) {
    let (dir, seal) = (config.signers[0].dir.parent().unwrap().to_owned(), config.signers[0].seal.clone());
    for name in &FIVE[3..] {
        config.signers.push(SignerConfig { id: id(name), dir: dir.join(name), seal: seal.clone() });
    }
    config.threshold = 3;
    // Short enough to be waited for, long enough for a machine that runs all tests at once.
    config.round_timeout = Duration::from_secs(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_of_five_may_be_down_slow_or_byzantine() {
    let world = World::ready(five).await;
    let kinds = [
        (Break::Down, Break::Down),
        (Break::Corrupt, Break::Corrupt),
        (Break::Down, Break::Corrupt),
        (Break::Slow, Break::Down),
        (Break::Corrupt, Break::Slow),
    ];
    let pairs = (0..5).flat_map(|one| (0..one).map(move |other| (FIVE[one], FIVE[other])));
    for (number, ((one, other), how)) in (1..).zip(pairs.zip(kinds.into_iter().cycle())) {
        world.lines.mend();
        world.lines.break_line(one, how.0);
        world.lines.break_line(other, how.1);
        let began = Instant::now();
        let outcome = world.sign_sol(number).await.unwrap_or_else(|e| panic!("{one} and {other}, {how:?}: {e}"));
        assert!(began.elapsed() < Duration::from_secs(60), "within the deadline");
        let broken = [id(one), id(other)];
        assert_eq!(outcome.participants.len(), 3);
        assert!(outcome.participants.iter().all(|signer| !broken.contains(signer)), "{how:?}: {outcome:?}");
        // Whoever is blamed is one of the two, or was blamed by one of the two: of a pair that quarrel either may lie.
        for culprit in &outcome.culprits {
            let by_broken = culprit.accused_by.as_ref().is_some_and(|accuser| broken.contains(accuser));
            assert!(broken.contains(&culprit.signer) || by_broken, "{how:?}: {outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_broken_among_five_is_named() {
    for how in [Break::Down, Break::Slow, Break::Corrupt] {
        let world = World::ready(five).await;
        let first = world.sign_sol(1).await.unwrap().participants;
        for name in &first[..2] {
            world.lines.break_line(name.as_str(), how);
        }
        let outcome = world.sign_sol(2).await.unwrap_or_else(|e| panic!("{how:?}: {e}"));
        let named = outcome.culprits.iter().map(|culprit| &culprit.signer).collect::<BTreeSet<_>>();
        assert!(named.iter().any(|signer| first[..2].contains(signer)), "{how:?}: {outcome:?}");
        let status = world.pool.status().await;
        let failed = status.signers.iter().filter(|signer| signer.failures > 0).map(|signer| &signer.signer);
        assert!(failed.into_iter().any(|signer| first[..2].contains(signer)), "{how:?}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_three_of_five_the_answer_comes_at_once() {
    let world = World::ready(five).await;
    for name in &FIVE[1..4] {
        world.lines.break_line(name, Break::Down);
    }
    let began = Instant::now();
    let error = world.sign_sol(1).await.unwrap_err();
    assert_eq!(error, SignError::TooFewSigners { needed: 3, up: 2 });
    assert!(error.is_transient() && began.elapsed() < Duration::from_secs(10));
    world.lines.mend();
    world.sign_sol(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_delivered_twice_and_out_of_turn_change_nothing() {
    let world = World::ready(five).await;
    FIVE.into_iter().for_each(|name| world.lines.break_line(name, Break::Replay));
    for number in 1..4 {
        let outcome = world.sign_sol(number).await.unwrap();
        assert!(outcome.culprits.is_empty(), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_under_another_name_is_refused_by_all_who_signed() {
    let world = World::ready(five).await;
    let request = world.pay_sol(1, 1_000_000);
    // Three of five signed; any quorum of three has one of them.
    let signed = world.pool.sign(request.clone()).await.unwrap().participants;
    for number in 2..8 {
        let mut renamed = request.clone();
        renamed.tx = uuid::Uuid::from_u128(number);
        match world.pool.sign(renamed).await {
            Err(SignError::Refused { by }) => assert!(by.iter().any(|(signer, _)| signed.contains(signer))),
            other => panic!("one request is one payment: {other:?}"),
        }
    }
    // Its own name is good for ever, at any three.
    for _ in 0..3 {
        world.pool.sign(request.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_taken_over_is_out() {
    let world = World::ready(|_| ()).await;
    let late = world.pay_sol(1, 1_000_000);
    let next = SigningRequest { fence: late.fence + 1, ..late.clone() };
    let outcome = world.pool.sign(next).await.unwrap();
    world.pool.sign(late).await.map_or_else(
        |error| assert!(matches!(error, SignError::Refused { .. }), "{error}"),
        |signed| panic!("under fence 1, after {:?} saw fence 2: {:?}", outcome.participants, signed.participants),
    );
    // Its other payments, which nobody has taken over, are its own.
    world.pool.sign(world.pay_sol(2, 1_000_001)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_of_nonces_is_seen_and_refilled() {
    let world = World::ready(|_| ()).await;
    let depth = async || world.pool.status().await.keys[0].pool_depth.unwrap();
    // Every command that is answered is followed by some more.
    let mut last = depth().await;
    for _ in 0..40 {
        let next = depth().await;
        assert!(next >= last && next <= 64);
        last = next;
    }
    assert_eq!(last, 64);
    for number in 1..20 {
        world.sign_sol(number).await.unwrap();
    }
    assert!(depth().await > 32, "signing keeps it full");
    let world = world.restart().await;
    assert!(world.pool.status().await.keys[0].pool_depth.unwrap() < 64, "nothing of it was kept");
}
