//! Signers apart: links that are cut in the middle of rounds, signers that come late or judge by something else, peers
//! that nobody named, and quorums over regions.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers state their assumptions bluntly"
)]

#[path = "../../tests/support/proxy.rs"]
mod proxy;
#[path = "../../tests/support/trip.rs"]
mod trip;
#[allow(dead_code, reason = "shared with the tests of the pool, which use all of it")]
#[path = "pool/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chains::amount::Amount;
use chains::chain::Chain;
use futures::FutureExt;
use futures::future::BoxFuture;
use signer::pool::{ApartConfig, ImportedKey, Pool, PoolError, SchemeId, SignError, SignerId};
use signer::roster::Roster;
use signer::transport::grpc::{Coordinator, MAX_MESSAGE, Route};
use signer::transport::{Transport, TransportError};
use tokio::sync::watch;

use proxy::Proxy;
use trip::Trip;
use world::apart::{GATHERING, identity, open, open_with, peers, pool_config, station};
use world::{
    BTC_PAYEE, ETH_PAYEE, EVM, NAMES, REGTEST, SOL_PAYEE, SVM, World, assemble, bitcoin_chain, bitcoin_state, config,
    ethereum, ethereum_state, id, intent, key, sol, solana, solana_state, wallet,
};

/// Signers behind proxies, with their key, ready to sign.
struct Cables {
    world: World,
    proxies: BTreeMap<SignerId, Proxy>,
    trip: Arc<Trip>,
    arrivals: watch::Receiver<u64>,
}

impl Cables {
    async fn lay(adjust: impl FnOnce(&mut ApartConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let mut pool = pool_config(&config);
        adjust(&mut pool);
        let (mut cables, mut trip) = (Vec::new(), None);
        let route = |address| {
            let proxy = Proxy::start(address);
            let address = proxy.addr().to_string();
            cables.push(proxy);
            address
        };
        let wrap = |grpc: Arc<dyn Transport>| -> Arc<dyn Transport> {
            let around = Trip::around(grpc);
            trip = Some(around.clone());
            around
        };
        let (pool, stations, arrivals) = open_with(config, pool, route, wrap).await;
        let world = World::of(dir, pool, stations);
        let (keys, wallets) = sol();
        world.pool.ensure_keys(&keys, |_| ()).await.unwrap();
        world.install(wallets).await;
        let proxies = NAMES.into_iter().map(id).zip(cables).collect();
        Self { world, proxies, trip: trip.unwrap(), arrivals }
    }

    /// Puts a signer's cable in again, and waits until it is back in the pool.
    async fn mend(&mut self, signer: &SignerId) {
        self.arrivals.borrow_and_update();
        self.proxies[signer].mend();
        tokio::time::timeout(GATHERING, self.arrivals.changed()).await.unwrap().unwrap();
        self.world.pool.meet().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_in_the_middle_of_rounds_costs_one_signer_and_names_it() {
    let mut cables = Cables::lay(|_| ()).await;
    for (number, calls) in [(10, 0), (20, 1)] {
        let lost = cables.world.sign_sol(number).await.unwrap().participants[0].clone();
        // Before the signing request, or before the others' letters of the first round.
        cables.trip.set(&lost, calls, cables.proxies[&lost].cutter());
        let began = Instant::now();
        // Who signs depends on who is the healthiest: it comes to the lost one's turn soon.
        let mut next = number;
        let outcome = loop {
            next += 1;
            let outcome = cables.world.sign_sol(next).await.unwrap();
            if cables.trip.tripped() {
                break outcome;
            }
            assert!(next < number + 9, "the lost one's turn never comes");
        };
        assert!(began.elapsed() < Duration::from_secs(15), "a cut is noticed long before a round's time is over");
        assert!(!outcome.participants.contains(&lost), "{outcome:?}");
        assert!(outcome.culprits.iter().any(|culprit| culprit.signer == lost), "{outcome:?}");
        let status = cables.world.pool.status().await;
        let down = status.signers.iter().filter(|signer| !signer.up).map(|signer| &signer.signer).collect::<Vec<_>>();
        assert_eq!(down, [&lost]);

        // With another one cut too, it takes one more.
        let other = outcome.participants[0].clone();
        cables.proxies[&other].cut();
        let error = cables.world.sign_sol(number + 9).await.unwrap_err();
        assert_eq!(error, SignError::TooFewSigners { needed: 2, up: 1 });
        cables.mend(&lost).await;
        let outcome = cables.world.sign_sol(number + 9).await.unwrap();
        assert!(outcome.participants.contains(&lost), "mended, it signs again");
        cables.mend(&other).await;
    }
}

/// Nothing tells of a cable that goes dead but the heartbeat, and it does so before a round's time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_falls_silent_is_noticed_by_the_heartbeat() {
    let mut cables = Cables::lay(|config| {
        config.deadline = Duration::from_secs(300);
        config.round_timeout = Duration::from_secs(120);
    })
    .await;
    let lost = cables.world.sign_sol(1).await.unwrap().participants[0].clone();
    cables.proxies[&lost].fall_silent();
    let outcome = cables.world.sign_sol(2).await.unwrap();
    let unreachable = |reason: &str| reason == TransportError::Unreachable.to_string();
    let blamed = outcome.culprits.iter().find(|culprit| culprit.signer == lost);
    assert!(blamed.is_some_and(|culprit| unreachable(&culprit.reason)), "{outcome:?}");
    cables.mend(&lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_is_never_in_one_region_alone() {
    let places = |config: &mut ApartConfig| {
        config.min_regions = 2;
        for (signer, region) in config.signers.iter_mut().zip(["frankfurt", "frankfurt", "zurich"]) {
            signer.region = Some(region.parse().unwrap());
        }
    };
    let mut cables = Cables::lay(places).await;
    let zurich = id(NAMES[2]);
    for number in 1..=4 {
        let outcome = cables.world.sign_sol(number).await.unwrap();
        assert!(outcome.participants.contains(&zurich), "{outcome:?}");
    }
    cables.proxies[&zurich].cut();
    let error = cables.world.sign_sol(5).await.unwrap_err();
    assert_eq!(error, SignError::TooFewRegions { needed: 2, up: 1 });
    assert!(error.is_transient());
    cables.mend(&zurich).await;
    cables.world.sign_sol(5).await.unwrap();
    let status = cables.world.pool.status().await;
    assert_eq!(status.signers[2].region.as_ref().map(ToString::to_string).as_deref(), Some("zurich"));

    let dir = tempfile::tempdir().unwrap();
    let mut single = pool_config(&config(dir.path()));
    places(&mut single);
    single.signers[2].region = single.signers[0].region.clone();
    let nobody = Coordinator::listen("127.0.0.1:0".parse().unwrap(), &identity("gateway"), BTreeMap::new()).await;
    let refused = Pool::coordinate(single, Arc::new(nobody.unwrap())).await;
    assert!(matches!(refused, Err(PoolError::TooFewRegions { needed: 2, there: 1 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_judges_by_its_own_configuration_and_differences_are_reported() {
    let cables = Cables::lay(|_| ()).await;
    let (world, (_, wallets)) = (&cables.world, sol());
    world.sign_sol(1).await.unwrap();
    assert!(world.pool.disagreements().await.is_empty());

    // A signer's own people take the payer off its roster. The gateway, which knows nothing of it, can't undo that.
    let (roster, policy) = world.orders(&wallets);
    for station in &world.stations[..2] {
        station.install(Roster::default(), policy.clone(), wallets.clone()).unwrap();
    }
    world.pool.install(roster.clone(), policy.clone(), wallets.clone()).await.unwrap();
    match world.sign_sol(2).await {
        Err(SignError::Refused { by }) => assert_eq!(by.len(), 2),
        other => panic!("two of three refuse: {other:?}"),
    }
    let different = world.pool.disagreements().await;
    assert_eq!(different.keys().cloned().collect::<Vec<_>>(), [id(NAMES[0]), id(NAMES[1])]);
    assert!(different.values().all(|what| what.contains("another roster")), "{different:?}");
    let status = world.pool.status().await;
    assert!(status.signers[0].up && status.signers[0].problem.as_ref().is_some_and(|p| p.contains("roster")));
    assert_eq!(status.signers[2].problem, None);

    for station in &world.stations[..2] {
        station.install(roster.clone(), policy.clone(), wallets.clone()).unwrap();
    }
    assert!(world.pool.disagreements().await.is_empty());
    world.sign_sol(3).await.unwrap();
}

/// Keeps in mind how long the longest request and the longest answer were.
struct Measure {
    inner: Arc<dyn Transport>,
    longest: AtomicUsize,
}

impl Transport for Measure {
    fn call<'a>(
        &'a self,
        to: &'a SignerId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        self.longest.fetch_max(request.len(), Ordering::SeqCst);
        async move {
            let answer = self.inner.call(to, request, deadline).await?;
            self.longest.fetch_max(answer.len(), Ordering::SeqCst);
            Ok(answer)
        }
        .boxed()
    }
}

/// Threshold ECDSA over the line: its messages are the longest by far.
#[tokio::test(flavor = "multi_thread")]
async fn an_ecdsa_key_is_made_used_and_refreshed_by_signers_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut measure = None;
    let wrap = |grpc: Arc<dyn Transport>| -> Arc<dyn Transport> {
        let around = Arc::new(Measure { inner: grpc, longest: AtomicUsize::new(0) });
        measure = Some(around.clone());
        around
    };
    let (pool, stations) = open(config(dir.path()), wrap).await;
    let measure = measure.unwrap();
    let world = World::of(dir, pool, stations);
    world.pool.ensure_keys(&[key("main", SchemeId::Ecdsa)], |_| ()).await.unwrap();
    let wallet = wallet("treasury-eth", EVM, "main", "m/0");
    world.install(vec![wallet.clone()]).await;
    let account = world.pool.account(&wallet).unwrap();
    for nonce in 0..2 {
        let (body, intent) = intent(account.wallet(), nonce.into(), ETH_PAYEE, Amount::from_wei(1_000_000_000));
        let unsigned = ethereum().build(&intent, &account, &ethereum_state(nonce)).unwrap();
        let unsigned = ethereum().encode_unsigned(&unsigned);
        let request = world.request(nonce.into(), &account, body, unsigned);
        let outcome = world.pool.sign(request.clone()).await.unwrap();
        assert!(outcome.culprits.is_empty(), "{outcome:?}");
        assemble(&ethereum(), &account, &request.unsigned, &outcome.signatures);
        if nonce == 0 {
            let rekeyed = world.pool.refresh(&wallet.key, |_| ()).await.unwrap();
            assert_eq!((rekeyed.epoch, rekeyed.holders.len(), rekeyed.unerased.len()), (2, 3, 0));
            assert_eq!(world.pool.account(&wallet).unwrap(), account);
        }
    }
    let longest = measure.longest.load(Ordering::SeqCst);
    println!("the longest message of threshold ECDSA has {longest} bytes");
    assert!(longest > 64 << 10 && longest < MAX_MESSAGE / 4, "{longest}");
}

/// A signer whose share is one of another sharing of the same key: sealed by it, marked as usable, and wrong. It says nothing
/// wrong of itself, and its letters are its own; only its part of a signature doesn't fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_with_a_wrong_share_is_named_and_the_others_sign() {
    for scheme in SchemeId::ALL {
        let [liar, name] = [NAMES[0], "main"];
        let secret = || match scheme {
            SchemeId::Ed25519 => ImportedKey::Ed25519Seed([7; 32].into()),
            _ => ImportedKey::Secp256k1 { secret: [7; 32].into(), chain_code: Some([9; 32]) },
        };
        let mut dirs = Vec::new();
        for _ in 0..2 {
            // Only into a pool that hosts its signers can a key be imported; they stand apart afterwards.
            let world = World::start(|_| ()).await;
            world.pool.import(&key(name, scheme), secret(), |_| ()).await.unwrap();
            world.pool.shutdown().await;
            dirs.push(world.dir);
        }
        let share = |dir: &tempfile::TempDir| dir.path().join(liar).join(format!("vault/{name}.1.1.share"));
        std::fs::copy(share(&dirs[1]), share(&dirs[0])).unwrap();
        let dir = dirs.remove(0);
        let mut config = config(dir.path());
        config.round_timeout = Duration::from_secs(30);
        let (pool, stations) = open(config, |grpc| grpc).await;
        let world = World::of(dir, pool, stations);
        let (spec, payee, amount) = match scheme {
            SchemeId::Ecdsa => (wallet("w", EVM, name, "m"), ETH_PAYEE, Amount::from_wei(1_000_000)),
            SchemeId::Taproot => (wallet("w", REGTEST, name, "m"), BTC_PAYEE, Amount::from_sat(20_000)),
            SchemeId::Ed25519 => (wallet("w", SVM, name, "m"), SOL_PAYEE, Amount::from_lamports(1_000_000)),
        };
        world.install(vec![spec.clone()]).await;
        let account = world.pool.account(&spec).unwrap();
        let (body, intent) = intent(account.wallet(), 1, payee, amount);
        let unsigned = match scheme {
            SchemeId::Ecdsa => {
                ethereum().encode_unsigned(&ethereum().build(&intent, &account, &ethereum_state(0)).unwrap())
            }
            SchemeId::Taproot => {
                let state = bitcoin_state(&account, &[60_000]);
                bitcoin_chain().encode_unsigned(&bitcoin_chain().build(&intent, &account, &state).unwrap())
            }
            SchemeId::Ed25519 => solana().encode_unsigned(&solana().build(&intent, &account, &solana_state()).unwrap()),
        };
        let request = world.request(1, &account, body, unsigned);
        let outcome = world.pool.sign(request.clone()).await.unwrap();
        match scheme {
            SchemeId::Ecdsa => assemble(&ethereum(), &account, &request.unsigned, &outcome.signatures),
            SchemeId::Taproot => assemble(&bitcoin_chain(), &account, &request.unsigned, &outcome.signatures),
            SchemeId::Ed25519 => assemble(&solana(), &account, &request.unsigned, &outcome.signatures),
        }
        assert!(!outcome.participants.contains(&id(liar)), "{scheme}: {outcome:?}");
        println!("{scheme}: {:?}", outcome.culprits);
        assert!(outcome.culprits.iter().any(|culprit| culprit.signer == id(liar)), "{scheme}: {outcome:?}");
        let last = world.pool.status().await.keys[0].last_culprit.clone();
        assert!(last.is_some(), "{scheme}: the status names one, too");
    }
}

/// How many signers hold a share of the one key.
async fn holders(pool: &Pool) -> usize {
    pool.status().await.keys[0].holders.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_comes_late_is_met_and_signs() {
    let Cables { world, .. } = Cables::lay(|_| ()).await;
    let account = world.pool.account(&sol().1[0]).unwrap();
    let World { dir, pool, stations, .. } = world;
    drop(pool);
    for station in stations {
        station.close().await;
    }

    let config = config(dir.path());
    let (gateway, links) = (identity("gateway"), peers(&config));
    let identities = NAMES.map(identity);
    let pins = NAMES.into_iter().map(id).zip(identities.iter().map(|identity| identity.pin())).collect();
    let coordinator = Coordinator::listen("127.0.0.1:0".parse().unwrap(), &gateway, pins).await.unwrap();
    let (address, mut arrivals) = (coordinator.addr().to_string(), coordinator.arrivals());
    let mut stations = Vec::new();
    for signer in &config.signers {
        stations.push(station(&config, signer, links.clone()).await.unwrap());
    }
    let mut routes =
        identities.into_iter().map(|identity| Route { address: address.clone(), coordinator: gateway.pin(), identity });
    for station in &mut stations[..2] {
        station.dial(&routes.next().unwrap()).unwrap();
    }
    arrivals.wait_for(|count| *count == 2).await.unwrap();
    let pool = Pool::coordinate(pool_config(&config), Arc::new(coordinator)).await.unwrap();
    assert_eq!(holders(&pool).await, 2);

    stations[2].dial(&routes.next().unwrap()).unwrap();
    arrivals.wait_for(|count| *count == 3).await.unwrap();
    pool.meet().await.unwrap();
    assert_eq!(holders(&pool).await, 3);
    let mut world = World::of(dir, pool, stations);
    world.install(sol().1).await;
    assert_eq!(world.pool.account(&sol().1[0]).unwrap(), account);
    world.stations.remove(0).close().await;
    let outcome = world.sign_sol(2).await.unwrap();
    assert!(outcome.participants.contains(&id(NAMES[2])), "{outcome:?}");
    // Who is away when the others meet keeps what it held.
    world.pool.meet().await.unwrap();
    assert_eq!(world.pool.status().await.keys[0].holders.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_signers_apart_is_refreshed_and_reshared() {
    let mut cables = Cables::lay(|_| ()).await;
    let (keys, wallets) = sol();
    let (key, [one, two, three]) = (&keys[0].key, NAMES.map(id));
    let account = cables.world.pool.account(&wallets[0]).unwrap();
    cables.world.sign_sol(1).await.unwrap();
    cables.world.pool.refresh(key, |_| ()).await.unwrap();
    cables.world.sign_sol(2).await.unwrap();
    cables.proxies[&three].cut();
    let refreshed = cables.world.pool.refresh(key, |_| ()).await;
    assert!(refreshed.is_err(), "all holders have to be there");
    cables.world.pool.reshare(key, &[one.clone(), two.clone()], |_| ()).await.unwrap();
    cables.world.sign_sol(3).await.unwrap();
    cables.mend(&three).await;
    cables.world.pool.reshare(key, &[one, two, three.clone()], |_| ()).await.unwrap();
    let mut took_part = BTreeSet::new();
    for number in 4..=9 {
        took_part.extend(cables.world.sign_sol(number).await.unwrap().participants);
    }
    let status = cables.world.pool.status().await;
    assert_eq!((status.keys[0].epoch, status.keys[0].holders.len()), (4, 3), "{took_part:?}");
    assert_eq!(cables.world.pool.account(&wallets[0]).unwrap(), account);
    // The one that had left is a signer again.
    cables.proxies[&NAMES.map(id)[0]].cut();
    assert!(cables.world.sign_sol(10).await.unwrap().participants.contains(&three));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_works_with_those_alone_whom_its_own_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let links = peers(&config);
    let mut without_itself = links.clone();
    without_itself.remove(&config.signers[0].id);
    let mut no_key = links.clone();
    no_key.insert(id(NAMES[1]), "00".repeat(33));
    for wrong in [without_itself, no_key] {
        let refused = station(&config, &config.signers[0], wrong).await;
        assert!(matches!(refused, Err(PoolError::Start { .. })));
    }
    // The first signer knows the third by another link key, as if somebody stood between them; or not at all.
    let mut wrong_key = links.clone();
    wrong_key.insert(id(NAMES[2]), links[&id(NAMES[1])].clone());
    let mut stranger = links.clone();
    stranger.remove(&id(NAMES[2]));
    for (number, (own, reason)) in
        [(wrong_key, "another link key"), (stranger, "not among the peers")].into_iter().enumerate()
    {
        let mut config = world::config(&dir.path().join(number.to_string()));
        for (signer, known) in config.signers.iter_mut().zip(world::config(dir.path()).signers) {
            if signer.id != id(NAMES[0]) {
                signer.dir = known.dir;
            }
        }
        let mut own = own;
        own.insert(id(NAMES[0]), signer::station::link_key(config.signers[0].clone()).unwrap());
        let (gateway, identities) = (identity("gateway"), NAMES.map(identity));
        let pins = NAMES.into_iter().map(id).zip(identities.iter().map(|identity| identity.pin())).collect();
        let coordinator = Coordinator::listen("127.0.0.1:0".parse().unwrap(), &gateway, pins).await.unwrap();
        let mut others = links.clone();
        others.insert(id(NAMES[0]), own[&id(NAMES[0])].clone());
        let mut stations = Vec::new();
        for (signer, identity) in config.signers.iter().zip(identities) {
            let peers = if signer.id == id(NAMES[0]) { own.clone() } else { others.clone() };
            let peers_path = signer.dir.join("peers.json");
            // Signers of the round before remember the first one by its old key.
            let _ = std::fs::remove_file(peers_path);
            let mut station = station(&config, signer, peers).await.unwrap();
            let address = coordinator.addr().to_string();
            station.dial(&Route { address, coordinator: gateway.pin(), identity }).unwrap();
            stations.push(station);
        }
        coordinator.gather(GATHERING).await;
        match Pool::coordinate(pool_config(&config), Arc::new(coordinator)).await {
            Err(PoolError::Absent { signer, reason: said }) => {
                assert_eq!(signer, id(NAMES[0]));
                assert!(said.contains(reason), "{said}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a stranger is let in: {reason}"),
        }
        for station in stations {
            station.close().await;
        }
    }
}
