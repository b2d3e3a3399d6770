//! Links are late, lose and repeat by the seed alone; partitions cut them.

use super::*;
use crate::seed::Seed;

type Words = Gossip<u32, u32, u32>;

const A: NodeIndex = NodeIndex(0);
const B: NodeIndex = NodeIndex(1);
const C: NodeIndex = NodeIndex(2);

fn network(seed: u64, conditions: Conditions) -> Network<Words> {
    Network::new(ChainKind::Bitcoin, Arc::new(Faults::new(Seed(seed))), conditions)
}

/// All that has arrived at a node or is on its way.
async fn heard(endpoint: &Endpoint<Words>) -> Vec<Event<Words>> {
    let mut events = Vec::new();
    loop {
        match endpoint.take() {
            Taken::Event(event) => events.push(event),
            Taken::Until(at) => sleep_until(at).await,
            Taken::Nothing => return events,
        }
    }
}

fn said(from: NodeIndex, number: u32) -> Event<Words> {
    Event::Message { from, message: Gossip::Transaction(number) }
}

#[tokio::test]
async fn messages_arrive_late_and_in_order() {
    let network = network(1, Conditions::default());
    let (a, b) = (network.join(A), network.join(B));
    assert_eq!(heard(&a).await, [Event::Met(B)]);
    assert_eq!(heard(&b).await, [Event::Met(A)]);
    let start = Instant::now();
    for number in 0..100 {
        a.send(B, Gossip::Transaction(number));
    }
    assert_eq!(b.receive().await, said(A, 0));
    assert!(start.elapsed() >= Duration::from_millis(5), "no message takes less");
    let rest: Vec<_> = (1..100).map(|number| said(A, number)).collect();
    assert_eq!(heard(&b).await, rest);
}

#[tokio::test]
async fn a_partition_cuts_and_a_heal_lets_meet() {
    let network = network(1, Conditions::default());
    let (a, b, c) = (network.join(A), network.join(B), network.join(C));
    for endpoint in [&a, &b, &c] {
        assert_eq!(heard(endpoint).await.len(), 2);
    }
    a.send(B, Gossip::Transaction(1));
    network.partition(&[vec![A], vec![B, C]]);
    assert_eq!(network.groups(), [vec![A], vec![B, C]]);
    a.send(B, Gossip::Transaction(2));
    c.send(B, Gossip::Transaction(3));
    assert_eq!(heard(&b).await, [said(C, 3)], "what was on its way is lost, too");
    assert_eq!(a.peers(), []);
    network.heal();
    assert_eq!(heard(&a).await, [Event::Met(B), Event::Met(C)]);
    assert_eq!(heard(&b).await, [Event::Met(A)]);
    a.spread(&Gossip::Transaction(4), Some(C));
    assert_eq!(heard(&b).await, [said(A, 4)]);
    assert_eq!(heard(&c).await, [Event::Met(A)]);

    network.leave(B);
    assert_eq!(a.peers(), [C]);
    a.send(B, Gossip::Transaction(5));
    let b = network.join(B);
    assert_eq!(heard(&b).await, [Event::Met(A), Event::Met(C)]);
}

async fn losses(seed: u64, other_traffic: bool) -> Vec<Event<Words>> {
    let conditions = Conditions {
        loss: Probability::from_millionths(300_000),
        duplication: Probability::from_millionths(200_000),
        ..Conditions::default()
    };
    let network = network(seed, conditions);
    let (a, b) = (network.join(A), network.join(B));
    heard(&b).await;
    for number in 0..200 {
        if other_traffic {
            a.send(B, Gossip::Tip(number));
            b.send(A, Gossip::Transaction(number));
        }
        a.send(B, Gossip::Transaction(number));
    }
    let events = heard(&b).await;
    let is_transaction = |event: &Event<Words>| matches!(event, Event::Message { message: Gossip::Transaction(_), .. });
    events.into_iter().filter(is_transaction).collect()
}

#[tokio::test]
async fn one_seed_gives_one_fate() {
    let first = losses(7, false).await;
    assert!((130..230).contains(&first.len()), "{} of 200 at 30% lost and 20% twice", first.len());
    assert_eq!(losses(7, true).await, first, "other traffic changes nothing");
    assert_ne!(losses(8, false).await, first);
}

#[test]
fn the_tail_has_its_mean() {
    let stream = Seed(3).stream("tail");
    let sum: u64 = (0..20_000).map(|number| exponential(stream.draw(number).word(), 1_000)).sum();
    let mean = sum / 20_000;
    assert!((950..1_100).contains(&mean), "{mean}");
    assert!(exponential(0, 1_000) > 40_000);
    assert_eq!(exponential(u64::MAX, 1_000_000), 0);
}
