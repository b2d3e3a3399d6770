//! Who makes the next block, and when.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{ChainNode, Cluster};
use crate::seed::Seed;
use crate::topology::{ChainKind, NodeIndex};

/// Whose turn it is in `round`: one node of each group, by the seed.
fn turns(seed: Seed, chain: ChainKind, round: u64, groups: &[Vec<NodeIndex>]) -> Vec<NodeIndex> {
    let turn = |group: &Vec<NodeIndex>| {
        let first = group.first()?;
        let mut draw = seed.stream(format_args!("producer/{chain}/{first}")).draw(round);
        let place = draw.below(u64::try_from(group.len()).ok()?);
        group.get(usize::try_from(place).ok()?).copied()
    };
    groups.iter().filter_map(turn).collect()
}

/// Lets one node of each group make a block whenever the interval has passed, until the world ends.
pub(super) async fn produce<N: ChainNode>(
    cluster: Weak<Cluster<N>>,
    mut interval: watch::Receiver<Option<Duration>>,
    shutdown: CancellationToken,
) {
    let mut round: u64 = 0;
    let mut last = Instant::now();
    loop {
        let every = *interval.borrow_and_update();
        let due = every.and_then(|every| last.checked_add(every.max(Duration::from_millis(1))));
        let tick = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = interval.changed() => match changed {
                Ok(()) => {
                    last = Instant::now();
                    continue;
                }
                Err(_) => return,
            },
            () = tick => {}
        }
        // Rounds that were missed while the machine was busy are not made up for.
        last = Instant::now();
        round = round.saturating_add(1);
        let Some(cluster) = cluster.upgrade() else { return };
        let seed = cluster.ground.faults.seed();
        for index in turns(seed, N::CHAIN, round, &cluster.network.groups()) {
            // A node that dies at this moment makes no block, as its like in the world.
            if let Err(error) = cluster.mine(Some(index), 1).await {
                tracing::debug!(chain = %N::CHAIN, %index, %error, "a simulated node made no block");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn_and_groups_have_their_own() {
        let all = vec![NodeIndex(0), NodeIndex(1), NodeIndex(2)];
        let round = |number| turns(Seed(4), ChainKind::Bitcoin, number, std::slice::from_ref(&all));
        let made: Vec<_> = (0..60).flat_map(round).collect();
        for node in &all {
            let turns = made.iter().filter(|turn| *turn == node).count();
            assert!((8..35).contains(&turns), "{node} had {turns} of 60");
        }
        let apart = [vec![NodeIndex(0)], vec![NodeIndex(1), NodeIndex(2)]];
        for number in 0..20 {
            let turns = turns(Seed(4), ChainKind::Bitcoin, number, &apart);
            assert_eq!(turns[0], NodeIndex(0));
            assert!(turns[1] == NodeIndex(1) || turns[1] == NodeIndex(2));
        }
    }
}
