//! A change of the policy over the lines to the signers: in one process, and apart from each other over gRPC.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers state their assumptions bluntly"
)]

#[allow(dead_code, reason = "shared with the tests of the pool, which use all of it")]
#[path = "pool/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use serde_json::json;
use signer::approval::{Approver, Decision};
use signer::policy::Policy;
use signer::policy::change::{Change, Version};
use signer::policy::document::Document;
use signer::pool::{PolicyRefusal, SignError};
use signer::request::SignedRequest;
use signer::roster::{Credential, Role, Roster};

use world::{Means, SOL_PAYEE, World, id, sol};

const PEOPLE: [(&str, Role, u8, &[&str]); 4] = [
    ("desk", Role::Initiator, 42, &[]),
    ("ada", Role::PolicyAdmin, 1, &[]),
    ("pat", Role::Approver, 2, &["policy"]),
    ("cis", Role::Approver, 3, &["ciso"]),
];

fn key(who: &str) -> SigningKey {
    let seed = PEOPLE.iter().find(|(name, ..)| *name == who).unwrap().2;
    SigningKey::from_bytes(&[seed; 32])
}

fn roster() -> Roster {
    let credential = |(name, role, ..): &(&str, Role, u8, &[&str])| Credential {
        id: name.parse().unwrap(),
        role: *role,
        public_key: key(name).verifying_key(),
    };
    let people = PEOPLE.iter().map(|(name, _, _, groups)| {
        let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
        (name.parse().unwrap(), Approver { person: name.parse().unwrap(), groups, passkeys: Vec::new() })
    });
    Roster::new(PEOPLE.iter().map(credential).collect()).unwrap().with_people(people.collect()).unwrap()
}

fn document(most: u64) -> Document {
    let changes = json!({ "require": "1 of policy and 1 of ciso", "delay_seconds": 0 });
    let rule =
        json!({ "id": "sol", "wallets": ["treasury-sol"], "addresses": [SOL_PAYEE], "max_amount": most.to_string() });
    Document::new(json!({ "rules": [rule], "changes": changes }).to_string().into_bytes())
}

fn compiled(document: &Document) -> Policy {
    let networks = sol().1.iter().map(|spec| (spec.wallet.clone(), spec.network)).collect::<BTreeMap<_, _>>();
    document.compile(&networks).unwrap()
}

/// Tells signers and pool what is configured.
async fn install(world: &World) {
    let (roster, policy, wallets) = (roster(), compiled(&document(1_000)), sol().1);
    #[cfg(feature = "grpc")]
    for station in &world.stations {
        station.install(roster.clone(), policy.clone(), wallets.clone()).unwrap();
    }
    world.pool.install(roster, policy, wallets).await.unwrap();
}

fn change(document: &Document, approvers: &[&str]) -> Change {
    let text = std::str::from_utf8(document.bytes()).unwrap();
    let params = json!({ "document": text, "note": "" });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "policy_propose", "params": params }).to_string();
    let ada = "ada".parse().unwrap();
    let mut change = Change {
        version: Version::new(1),
        previous: self::document(1_000).digest(),
        document: document.bytes().to_vec(),
        request: SignedRequest::sign(&key("ada"), &ada, "/", "jti", 1_800_000_000, 30, body.into_bytes()),
        approvals: Vec::new(),
    };
    let word = |who: &&str| change.statement(Decision::Approve, u64::MAX).sign(who.parse().unwrap(), &key(who));
    change.approvals = approvers.iter().map(word).collect();
    change
}

async fn versions(world: &World) -> Vec<u64> {
    let standings = world.pool.policy_standings().await;
    standings.into_iter().map(|(_, standing)| standing.unwrap().version.get()).collect()
}

async fn every_signer_changes_for_itself_and_signs_under_nothing_else(means: Means) {
    let mut world = World::start_by(means, |_| ()).await;
    world.pool.ensure_keys(&sol().0, |_| ()).await.unwrap();
    install(&world).await;
    let pay = async |world: &World, number: u128, lamports| {
        let request = world.pay_sol(number, lamports);
        world.pool.sign(request).await
    };
    pay(&world, 1, 900).await.unwrap();
    assert!(matches!(pay(&world, 2, 1_100).await, Err(SignError::Refused { .. })), "above the limit");
    let wider = document(2_000);
    for signer in world::NAMES {
        let refused = world.pool.offer_policy(&id(signer), &change(&wider, &["pat"])).await;
        assert!(matches!(refused, Err(PolicyRefusal::Refused(_))), "{signer}");
    }
    assert_eq!(versions(&world).await, [0, 0, 0]);

    // One of three goes ahead: the others sign under what they have.
    let whole = change(&wider, &["pat", "cis"]);
    world.pool.offer_policy(&id(world::NAMES[0]), &whole).await.unwrap();
    assert_eq!(versions(&world).await, [1, 0, 0]);
    let outcome = pay(&world, 3, 901).await.unwrap();
    assert!(!outcome.participants.contains(&id(world::NAMES[0])), "{outcome:?}");
    world.pool.offer_policy(&id(world::NAMES[1]), &whole).await.unwrap();
    match pay(&world, 4, 902).await {
        Err(SignError::PolicyStale { by, .. }) => assert!(by.iter().all(|(_, at)| at.digest == wider.digest())),
        other => panic!("two of three judge by another policy: {other:?}"),
    }
    world.pool.adopt_policy(Arc::new(compiled(&wider)));
    pay(&world, 5, 1_200).await.unwrap();
    world.pool.offer_policy(&id(world::NAMES[2]), &whole).await.unwrap();

    // Signers apart read their configuration at their start; here it is the pool that hands it over.
    if means != Means::Memory {
        return;
    }
    world = world.restart().await;
    world.pool.ensure_keys(&sol().0, |_| ()).await.unwrap();
    install(&world).await;
    assert_eq!(versions(&world).await, [1, 1, 1]);
    let learnt = world.pool.policy_change(&id(world::NAMES[2]), Version::new(1)).await.unwrap();
    assert_eq!(learnt, whole);
    assert!(matches!(pay(&world, 6, 903).await, Err(SignError::PolicyStale { .. })), "the pool has to be told again");
    world.pool.adopt_policy(Arc::new(compiled(&wider)));
    pay(&world, 7, 1_300).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process() {
    every_signer_changes_for_itself_and_signs_under_nothing_else(Means::Memory).await;
}

#[cfg(feature = "grpc")]
#[tokio::test(flavor = "multi_thread")]
async fn over_grpc() {
    every_signer_changes_for_itself_and_signs_under_nothing_else(Means::Grpc).await;
}
