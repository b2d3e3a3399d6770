//! One catch-up: back to the last block in common, forward to the node's best one, then the mempool.

use bdk_chain::BlockId;
use bitcoin::{Transaction, Txid};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::follow::Follower;
use super::node::Node;
use crate::rpc::RpcError;

/// How often a sync starts again because the node's chain moved meanwhile.
const ROUNDS: usize = 5;
/// Transactions of the mempool that are fetched at a time.
const PARALLEL_FETCHES: usize = 8;

/// Brings `follower` to where `node` is. Between two awaits the follower is always consistent, so the future may be
/// dropped at any of them.
pub(super) async fn sync(node: &Node, follower: &mut Follower, fetch_limit: usize) -> Result<(), RpcError> {
    let mut rounds = ROUNDS;
    loop {
        rounds = rounds.saturating_sub(1);
        let best = node.best_block().await?;
        follow_blocks(node, follower, best).await?;

        let ids = node.mempool().await?;
        if follower.has_seen(&ids) {
            return Ok(());
        }
        let fetched = fetch(node, &follower.unseen(&ids, fetch_limit)).await?;
        // A transaction that left the mempool for a block which isn't followed yet is not gone.
        let settled = node.best_block().await? == follower.tip();
        if settled || rounds == 0 {
            follower.apply_mempool(ids, fetched, settled);
            return Ok(());
        }
    }
}

/// Those of the transactions that are still in the mempool.
async fn fetch(node: &Node, txids: &[Txid]) -> Result<Vec<Transaction>, RpcError> {
    let calls: Vec<_> = txids.iter().map(|txid| node.mempool_transaction(*txid)).collect();
    stream::iter(calls).buffered(PARALLEL_FETCHES).try_filter_map(|found| async move { Ok(found) }).try_collect().await
}

async fn follow_blocks(node: &Node, follower: &mut Follower, best: BlockId) -> Result<(), RpcError> {
    for _ in 0..ROUNDS {
        if follower.tip() == best {
            return Ok(());
        }
        walk_back(node, follower).await?;
        if walk_forward(node, follower, best.height).await? {
            return Ok(());
        }
    }
    // The node reorganises faster than it is followed. The next call goes on from here.
    Ok(())
}

/// Drops the blocks that aren't on the node's best chain.
async fn walk_back(node: &Node, follower: &mut Follower) -> Result<(), RpcError> {
    loop {
        let tip = follower.tip();
        if node.block_hash(tip.height).await? == Some(tip.hash) {
            return Ok(());
        }
        if !follower.disconnect_tip() {
            return Err(node.contradiction("getblockhash", format!("block 0 isn't {}, the network's", tip.hash)));
        }
    }
}

/// Takes on the blocks up to `height`. False where the node's chain has moved meanwhile.
async fn walk_forward(node: &Node, follower: &mut Follower, height: u32) -> Result<bool, RpcError> {
    // Below the birthday there is nothing to be seen.
    let birth = follower.birthday().saturating_sub(1).min(height);
    if follower.tip().height < birth {
        let Some(hash) = node.block_hash(birth).await? else {
            return Ok(false);
        };
        follower.skip_to(BlockId { height: birth, hash });
    }
    while follower.tip().height < height {
        let tip = follower.tip();
        let next = tip.height.saturating_add(1);
        let Some(hash) = node.block_hash(next).await? else {
            return Ok(false);
        };
        let block = node.block(hash).await?;
        if block.header.prev_blockhash != tip.hash {
            if node.block_hash(tip.height).await? != Some(tip.hash) {
                return Ok(false);
            }
            let words = format!("block {hash} at height {next} doesn't follow block {}", tip.hash);
            return Err(node.contradiction("getblock", words));
        }
        follower.connect(&block, next);
    }
    Ok(true)
}
