//! The node, the cluster and its newest slots.

use serde_json::{Value, json};
use solana_sdk::account::ReadableAccount;
use solana_sdk::hash::Hash;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signer;

use super::error::{invalid_params, node_unhealthy};
use super::params::{Args, BlockContext, ContextConfig, MAX_FEE_ADDRESSES, limited, pubkey};
use super::{Answer, SOLANA_CORE, with_context};
use crate::node::solana::genesis::{self, SLOTS_PER_EPOCH};
use crate::node::solana::ledger::{Executed, MAX_AGE, Slot, is_writable};
use crate::node::solana::validator::Validator;
use crate::node::solana::votes::Vote;
use crate::topology::NodeIndex;

/// Stands for the mainnet feature set that the runtime crates know; a real node derives the number from the features.
const FEATURE_SET: u32 = 4_020_002;

/// How far behind a node's votes are when it counts as gone (agave: `DELINQUENT_VALIDATOR_SLOT_DISTANCE`).
const DELINQUENT_SLOTS: u64 = 128;

const MAX_ACCOUNT_BYTES: usize = 10 * 1024 * 1024;

pub(super) fn health(validator: &Validator) -> Answer {
    if validator.is_healthy() { Ok(json!("ok")) } else { Err(node_unhealthy()) }
}

pub(super) fn version() -> Answer {
    Ok(json!({ "feature-set": FEATURE_SET, "solana-core": SOLANA_CORE }))
}

pub(super) fn genesis_hash() -> Answer {
    Ok(json!(genesis::genesis_hash().to_string()))
}

pub(super) fn identity(validator: &Validator) -> Answer {
    Ok(json!({ "identity": genesis::identity(validator.index()).to_string() }))
}

/// All nodes of the cluster, running or not.
pub(super) fn nodes(validator: &Validator) -> Answer {
    let node = |index| {
        json!({
            "pubkey": genesis::identity(index).to_string(),
            "gossip": null, "tvu": null, "tpu": null, "tpuQuic": null, "tpuForwards": null, "tpuForwardsQuic": null,
            "tpuVote": null, "serveRepair": null, "rpc": null, "pubsub": null,
            "version": SOLANA_CORE,
            "featureSet": FEATURE_SET,
            "shredVersion": 0,
        })
    };
    Ok((0..validator.size()).map(NodeIndex).map(node).collect())
}

/// Who led the newest slot. Who leads the next one is decided when it comes.
pub(super) fn slot_leader(validator: &Validator, args: &Args<'_>) -> Answer {
    let slot = args.optional::<ContextConfig>(0)?.slot(validator.engine())?;
    let leader = validator.engine().ledger().slot(slot).and_then(|info| info.leader);
    Ok(json!(genesis::identity(leader.unwrap_or(validator.index())).to_string()))
}

pub(super) fn vote_accounts(validator: &Validator) -> Answer {
    let account = |index: NodeIndex, last: Slot, root: Slot| {
        json!({
            "votePubkey": genesis::vote_account(index).to_string(),
            "nodePubkey": genesis::identity(index).to_string(),
            "activatedStake": 0,
            "epochVoteAccount": true,
            "commission": 0,
            "lastVote": last,
            "epochCredits": [],
            "rootSlot": root,
        })
    };
    let tip = validator.engine().processed();
    let Some(consensus) = validator.consensus() else {
        let current = account(validator.index(), tip, validator.engine().finalized());
        return Ok(json!({ "current": [current], "delinquent": [] }));
    };
    let votes = consensus.votes().into_iter();
    let (current, delinquent): (Vec<_>, Vec<_>) =
        votes.partition(|vote| vote.head.slot.saturating_add(DELINQUENT_SLOTS) >= tip);
    let list = |votes: Vec<Vote>| -> Value {
        votes.iter().map(|vote| account(vote.voter, vote.head.slot, vote.rooted.slot)).collect()
    };
    Ok(json!({ "current": list(current), "delinquent": list(delinquent) }))
}

pub(super) fn slot(validator: &Validator, args: &Args<'_>) -> Answer {
    Ok(json!(args.optional::<ContextConfig>(0)?.slot(validator.engine())?))
}

/// How many blocks there are up to the slot that is asked for.
pub(super) fn block_height(validator: &Validator, args: &Args<'_>) -> Answer {
    let slot = args.optional::<ContextConfig>(0)?.slot(validator.engine())?;
    Ok(json!(validator.engine().ledger().height_of(slot)))
}

pub(super) fn epoch_info(validator: &Validator, args: &Args<'_>) -> Answer {
    let slot = args.optional::<ContextConfig>(0)?.slot(validator.engine())?;
    Ok(json!({
        "absoluteSlot": slot,
        "blockHeight": validator.engine().ledger().height_of(slot),
        "epoch": slot / SLOTS_PER_EPOCH,
        "slotIndex": slot % SLOTS_PER_EPOCH,
        "slotsInEpoch": SLOTS_PER_EPOCH,
        "transactionCount": validator.engine().ledger().count_up_to(slot),
    }))
}

pub(super) fn epoch_schedule() -> Answer {
    Ok(json!({
        "slotsPerEpoch": SLOTS_PER_EPOCH,
        "leaderScheduleSlotOffset": SLOTS_PER_EPOCH,
        "warmup": false,
        "firstNormalEpoch": 0,
        "firstNormalSlot": 0,
    }))
}

pub(super) fn transaction_count(validator: &Validator, args: &Args<'_>) -> Answer {
    let slot = args.optional::<ContextConfig>(0)?.slot(validator.engine())?;
    Ok(json!(validator.engine().ledger().count_up_to(slot)))
}

/// All lamports there are; what the faucet still holds does not circulate.
pub(super) fn supply(validator: &Validator, args: &Args<'_>) -> Answer {
    let engine = validator.engine();
    let slot = args.optional::<BlockContext>(0)?.commitment.unwrap_or_default().slot(engine);
    let faucet = genesis::faucet().pubkey();
    let total = engine.accounts(slot).iter().fold(0_u64, |sum, (_, account)| sum.saturating_add(account.lamports()));
    let held = engine.account(&faucet, slot).map_or(0, |account| account.lamports());
    let supply = json!({
        "total": total,
        "circulating": total.saturating_sub(held),
        "nonCirculating": held,
        "nonCirculatingAccounts": [faucet.to_string()],
    });
    Ok(with_context(slot, supply))
}

pub(super) fn latest_blockhash(validator: &Validator, args: &Args<'_>) -> Answer {
    let slot = args.optional::<ContextConfig>(0)?.slot(validator.engine())?;
    let info = validator.engine().ledger().slot(slot).unwrap_or_else(|| validator.engine().ledger().latest());
    let value = json!({
        "blockhash": info.blockhash.to_string(),
        "lastValidBlockHeight": validator.engine().ledger().height_of(slot).saturating_add(MAX_AGE),
    });
    Ok(with_context(slot, value))
}

pub(super) fn is_blockhash_valid(validator: &Validator, args: &Args<'_>) -> Answer {
    let blockhash: Hash = args.required::<String>(0)?.parse().map_err(|e| invalid_params(format!("{e:?}")))?;
    let slot = args.optional::<ContextConfig>(1)?.slot(validator.engine())?;
    let valid = !validator.engine().view().expired && validator.engine().ledger().recent(&blockhash, slot).is_some();
    Ok(with_context(slot, json!(valid)))
}

/// The lowest price in each of the last blocks, or the lowest among those that lock one of the addresses for writing.
pub(super) fn recent_prioritization_fees(validator: &Validator, args: &Args<'_>) -> Answer {
    let addresses = limited(args.optional::<Vec<String>>(0)?, MAX_FEE_ADDRESSES)?;
    let addresses = addresses.iter().map(|text| pubkey(text)).collect::<Result<Vec<Pubkey>, _>>()?;
    let ledger = validator.engine().ledger();
    let lowest = |block: &mut dyn Iterator<Item = &Executed>| block.map(|executed| executed.unit_price).min();
    let floor = validator.engine().view().fee_floor;
    let newest = validator.engine().processed();
    let oldest = ledger.height_of(newest).saturating_sub(MAX_AGE.saturating_sub(1));
    let mut fees: Vec<Value> = Vec::new();
    for slot in ledger.between(ledger.slot_at(oldest), newest).map(|info| info.slot) {
        let block = || ledger.block(slot).iter().map(AsRef::as_ref);
        let any = lowest(&mut block()).unwrap_or(0);
        let on =
            addresses.iter().filter_map(|address| lowest(&mut block().filter(|executed| writes(executed, address))));
        let fee = on.fold(any, u64::max).max(floor);
        fees.push(json!({ "slot": slot, "prioritizationFee": fee }));
    }
    Ok(Value::Array(fees))
}

pub(super) fn rent_exempt_minimum(validator: &Validator, args: &Args<'_>) -> Answer {
    let bytes: usize = args.required(0)?;
    args.optional::<BlockContext>(1)?;
    if bytes > MAX_ACCOUNT_BYTES {
        return Err(invalid_params(format!("Invalid params: accounts hold at most {MAX_ACCOUNT_BYTES} bytes.")));
    }
    Ok(json!(validator.engine().rent_exempt_minimum(bytes)))
}

fn writes(executed: &Executed, address: &Pubkey) -> bool {
    let (transaction, loaded) = (&executed.transaction, &executed.loaded);
    executed.keys().enumerate().any(|(index, key)| key == address && is_writable(transaction, loaded, index))
}
