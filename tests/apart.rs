//! Signers as real processes: prepared, started and killed through the binary, over gRPC on the loopback interface.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "apart/crew.rs"]
mod crew;
#[cfg(feature = "pkcs11")]
#[path = "apart/hsm.rs"]
mod hsm;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "apart/site.rs"]
mod site;
#[path = "support/trip.rs"]
mod trip;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use rand_core::{OsRng, RngCore};
use signer::pool::{ApartConfig, ApartSigner, KeySpec, Pool, PoolError, SchemeId, SignError, SignOutcome};
use signer::roster::{Credential, Role, Roster};
use signer::transport::Transport;
use signer::transport::grpc::{Coordinator, LinkIdentity};

use crew::Crew;
use process::{PATIENCE, Process, portcullis, url_in};
use proxy::Proxy;
use site::{NAMES, PAYEE, Site, eth_wallet, id, policy, request, wallet};
use trip::Trip;

/// Kills (`kill -9`) one signer process in the middle of rounds, and cuts the cable of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_signer_process_is_named_and_the_others_sign() {
    let client = SigningKey::from_bytes(&[42; 32]);
    let site = Site::prepare(Some(&client));
    let gateway = LinkIdentity::read(&site.path("gateway").join("signers/link")).unwrap();
    assert_eq!(gateway.pin().to_string(), site.gateway_key);
    let pins = site.keys.iter().map(|(name, (pin, _))| (id(name), *pin)).collect();
    let coordinator = Coordinator::listen("127.0.0.1:0".parse().unwrap(), &gateway, pins).await.unwrap();
    let mut arrivals = coordinator.arrivals();
    let mut proxies = BTreeMap::new();
    let mut processes = BTreeMap::new();
    for name in NAMES {
        let proxy = Proxy::start(coordinator.addr());
        site.write_signer(name, proxy.addr());
        proxies.insert(id(name), proxy);
        processes.insert(id(name), site.start(name));
    }
    coordinator.gather(PATIENCE).await;
    let config = ApartConfig {
        threshold: 2,
        signers: NAMES.iter().map(|name| ApartSigner { id: id(name), region: None }).collect(),
        min_regions: 0,
        deadline: Duration::from_secs(60),
        round_timeout: Duration::from_secs(20),
    };
    let trip = Trip::around(Arc::new(coordinator) as Arc<dyn Transport>);
    let pool = Pool::coordinate(config, trip.clone()).await.unwrap();
    let key = KeySpec { key: wallet().key, scheme: SchemeId::Ed25519 };
    pool.ensure_keys(&[key], |_| ()).await.unwrap();
    let trader =
        Credential { id: "demo-trader".parse().unwrap(), role: Role::Initiator, public_key: client.verifying_key() };
    pool.install(Roster::new(vec![trader]).unwrap(), policy(&[wallet()]), vec![wallet()]).await.unwrap();
    assert_eq!(pool.disagreements().await, BTreeMap::new(), "their files say the same");
    let account = pool.account(&wallet()).unwrap();
    let mut number = 0;
    let mut sign = async || -> Result<SignOutcome, SignError> {
        number += 1;
        pool.sign(request(&client, &account, number, &pool.policy().unwrap())).await
    };

    let lost = sign().await.unwrap().participants[0].clone();
    let process = processes.remove(&lost).unwrap();
    // It has sent its first letter; the others' letters never reach it.
    trip.set(&lost, 1, move || process.kill());
    // The healthiest two sign, in the order of their names: it comes to its turn at once, or when another has failed.
    let mut outcome = sign().await.unwrap();
    for _ in 0..9 {
        if !trip.tripped() {
            outcome = sign().await.unwrap();
        }
    }
    assert!(trip.tripped(), "its turn never comes");
    assert!(!outcome.participants.contains(&lost), "{outcome:?}");
    assert!(outcome.culprits.iter().any(|culprit| culprit.signer == lost), "{outcome:?}");
    let status = pool.status().await;
    assert!(status.signers.iter().all(|signer| signer.up == (signer.signer != lost)), "{status:?}");

    // Started again it is a signer as before, and without another one it is needed.
    arrivals.borrow_and_update();
    let _again = site.start(lost.as_str());
    tokio::time::timeout(PATIENCE, arrivals.changed()).await.unwrap().unwrap();
    pool.meet().await.unwrap();
    proxies[&outcome.participants[0]].cut();
    let outcome = sign().await.unwrap();
    assert!(outcome.participants.contains(&lost), "{outcome:?}");
    assert_eq!(proxies.len(), 3);
    proxies.values().for_each(Proxy::mend);
}

/// One signer's process is killed (`kill -9`) right before any of the calls that a refresh takes at it; then all three at once
/// before any of those that a reshare takes. Started again they are wholly at the old or wholly at the new epoch, sign for
/// the same address, and the ceremony can be run again.
#[tokio::test(flavor = "multi_thread")]
async fn ceremonies_cut_off_by_killed_processes_leave_one_epoch_that_signs() {
    let client = SigningKey::from_bytes(&[42; 32]);
    let mut crew = Crew::gather(Site::prepare(Some(&client)), client).await;
    let key = wallet().key;
    crew.make(&[KeySpec { key: key.clone(), scheme: SchemeId::Ed25519 }], &[wallet()]).await;
    for reshare in [false, true] {
        // Not all are called equally often: the end is reached once none of the three is called so often any more.
        let (mut steps, mut went_over, mut untouched) = (0, 0, 0);
        for calls in 0.. {
            if untouched == 3 {
                break;
            }
            let name = NAMES[usize::try_from(calls).unwrap() % 3];
            let before = crew.epoch(&key).await;
            crew.trip.set(&id(name), calls, crew.killer(if reshare { &NAMES } else { std::slice::from_ref(&name) }));
            let ended = crew.renew(&key, reshare).await;
            if !crew.trip.tripped() {
                crew.trip.disarm();
                assert_eq!(ended.unwrap().epoch, before + 1);
                untouched += 1;
                continue;
            }
            steps += 1;
            let went = crew.come_back(&wallet(), before, ended.is_ok(), &format!("{name} {calls}")).await;
            went_over += usize::from(went);
        }
        assert!(steps >= 8 && (1..steps).contains(&went_over), "{went_over} of {steps} went over");
    }
}

/// The same at any moment, wherever in their work the signers are then. `CASES` times; `just attack` asks for more.
#[tokio::test(flavor = "multi_thread")]
async fn ceremonies_cut_off_at_any_moment_leave_one_epoch_that_signs() {
    let cases = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(6);
    let client = SigningKey::from_bytes(&[42; 32]);
    let mut crew = Crew::gather(Site::prepare(Some(&client)), client).await;
    let key = wallet().key;
    crew.make(&[KeySpec { key: key.clone(), scheme: SchemeId::Ed25519 }], &[wallet()]).await;
    let began = Instant::now();
    crew.renew(&key, false).await.unwrap();
    let length = began.elapsed();
    let mut went_over = 0;
    for case in 0..cases {
        let (before, reshare) = (crew.epoch(&key).await, case % 2 == 1);
        let victims = [&NAMES[..1], &NAMES[1..], &NAMES][case % 3];
        let moment = length.mul_f64(1.2 * f64::from(OsRng.next_u32()) / f64::from(u32::MAX));
        let kill = crew.killer(victims);
        let killed = async {
            tokio::time::sleep(moment).await;
            kill();
        };
        let (ended, ()) = tokio::join!(crew.renew(&key, reshare), killed);
        let what = format!("{victims:?} killed after {moment:?} of {length:?}, reshare: {reshare}");
        went_over += usize::from(crew.come_back(&wallet(), before, ended.is_ok(), &what).await);
    }
    println!("{went_over} of {cases} went over");
}

/// Threshold ECDSA between processes: made, used, and a refresh that is cut off in the middle and run again.
#[tokio::test(flavor = "multi_thread")]
async fn an_ecdsa_key_is_made_used_and_refreshed_by_processes() {
    let client = SigningKey::from_bytes(&[42; 32]);
    let mut crew = Crew::gather(Site::prepare_with_ethereum(&client), client).await;
    let key = eth_wallet().key;
    crew.make(&[KeySpec { key: key.clone(), scheme: SchemeId::Ecdsa }], &[eth_wallet()]).await;
    let account = crew.pool.account(&eth_wallet()).unwrap();
    crew.sign(&eth_wallet()).await;
    crew.trip.set(&id(NAMES[0]), 5, crew.killer(&NAMES[..1]));
    let cut_off = crew.pool.refresh(&key, |_| ()).await.unwrap_err();
    assert!(crew.trip.tripped() && matches!(&cut_off, PoolError::Ceremony { reason, .. } if reason.contains(NAMES[0])));
    crew.revive().await;
    assert_eq!(crew.epoch(&key).await, 1);
    crew.sign(&eth_wallet()).await;
    let rekeyed = crew.pool.refresh(&key, |_| ()).await.unwrap();
    assert_eq!((rekeyed.epoch, rekeyed.holders.len(), rekeyed.unerased.len()), (2, 3, 0));
    crew.sign(&eth_wallet()).await;
    assert_eq!(crew.pool.account(&eth_wallet()).unwrap(), account);
}

/// The whole of it: a gateway and three signers, four processes, pay on a simulated chain what is asked of this deployment.
#[test]
fn a_gateway_pays_by_signers_in_processes_of_their_own() {
    let mut site = Site::prepare(None);
    site.call_it("treasury");
    let mut gateway = Process::start(portcullis().args(["dev", "--config"]).arg(site.path("gateway.toml")));
    let address = gateway.wait_for("dial in at");
    let address = address.rsplit(' ').next().unwrap().parse().unwrap();
    let mut signers = Vec::new();
    for name in NAMES {
        site.write_signer(name, address);
        signers.push(site.start(name));
    }
    gateway.wait_for("3 are here");
    gateway.wait_for("main-ed25519: generated");
    let url = url_in(&gateway.wait_for("gateway  http"));
    gateway.wait_for("ready");
    let payment = |audience: &[&str], key: &str| {
        let trader = site.path("gateway").join("demo/demo-trader.key");
        let mut tx = portcullis();
        tx.args(["tx", "--url", &url, "--key"]).arg(trader).args(audience);
        tx.args(["send", "sol-main", PAYEE, "50000000", "--watch", "--idempotency-key", key]);
        tx
    };
    let pay = |key: &str| printed(&mut payment(&["--audience", "treasury"], key));
    for other in [&[][..], &["--audience", "staging"]] {
        let refused = payment(other, "one").output().unwrap();
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("unauthenticated"));
    }
    assert!(pay("one").contains("by signer-"));
    signers.remove(0).kill();
    let by = pay("two");
    assert!(by.contains("by signer-2, signer-3") || by.contains("by signer-3, signer-2"), "{by}");
    assert!(site.path("signer-2/vault").is_dir() && !site.path("gateway/signers/signer-2").exists());
}

/// What a command that ends well prints.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
