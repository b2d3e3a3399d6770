//! Transactions that wait for a block: geth's rules of admission, replacement and order.
//!
//! A sender's transactions are *pending* as far as their nonces follow the account's without a gap, and *queued* beyond. Left out of
//! geth's rules: time limits and the limits per account; the pool as a whole refuses what is over [`CAPACITY`].

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use alloy::consensus::Transaction as _;
use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{TxEnvelope, Typed2718};
use alloy::eips::eip2718::{Decodable2718, Encodable2718};
use alloy::primitives::{Address, B256, U256};
use revm::context_interface::cfg::gas::calculate_initial_tx_gas_for_tx;
use revm::primitives::eip3860::MAX_INITCODE_SIZE;

use super::block::{BLOCK_GAS_LIMIT, Transaction};
use super::executor::{self, SPEC};
use super::state::View;

/// The most transactions that the pool holds: geth's default slots, pending and queued.
pub const CAPACITY: usize = 5120 + 1024;
/// The longest transaction, in bytes (geth: four slots of 32 KiB).
const MAX_SIZE: usize = 4 * 32 * 1024;
/// The smallest priority fee, in wei (geth's `txpool.pricelimit`).
const MIN_TIP: u128 = 1;
/// How much more a replacement pays, in percent (geth's `txpool.pricebump`).
const PRICE_BUMP: u128 = 10;
/// How many arrivals are remembered for pending-transaction filters.
const REMEMBERED_ARRIVALS: usize = 16_384;
/// The most that a transaction sent by RPC may pay in fees: 1 ether (geth's `rpc.txfeecap`).
const FEE_CAP: u128 = 1_000_000_000_000_000_000;

/// Why a transaction isn't admitted, in geth's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxError {
    /// Nothing was sent.
    #[error("typed transaction too short")]
    Empty,
    /// Bytes that are no transaction.
    #[error("rlp: {0}")]
    Rlp(String),
    /// An unknown type, or one that this chain doesn't carry.
    #[error("transaction type not supported")]
    Type,
    /// A legacy transaction that any chain would accept.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    /// Another chain's transaction.
    #[error("invalid sender: invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The transaction's chain.
        have: u64,
        /// This chain.
        want: u64,
    },
    /// A signature that doesn't verify, or isn't in its canonical form (EIP-2).
    #[error("invalid sender: invalid transaction v, r, s values")]
    Signature,
    /// The fees could exceed a sane limit.
    #[error("tx fee ({} ether) exceeds the configured cap (1.00 ether)", ether(*.0))]
    FeeCap(u128),
    /// The pool holds it.
    #[error("already known")]
    Known,
    /// Too long.
    #[error("oversized data: transaction size {size}, limit {}", MAX_SIZE)]
    Oversized {
        /// Its length in bytes.
        size: usize,
    },
    /// More creation code than EIP-3860 allows.
    #[error("max initcode size exceeded: code size {size}, limit {}", MAX_INITCODE_SIZE)]
    InitCode {
        /// The code's length in bytes.
        size: usize,
    },
    /// No block has room for it.
    #[error("exceeds block gas limit")]
    GasLimit,
    /// A tip that the fee doesn't cover.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    /// The nonce is the last one (EIP-2681).
    #[error("nonce has max value")]
    NonceMax,
    /// Not enough gas for the transaction's own bytes.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// Its gas limit.
        gas: u64,
        /// What it needs at least.
        needed: u64,
    },
    /// Not enough gas for its data (EIP-7623).
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas {
        /// Its gas limit.
        gas: u64,
        /// What it needs at least.
        needed: u64,
    },
    /// The tip is below the pool's minimum.
    #[error("transaction underpriced: gas tip cap {tip}, minimum needed {}", MIN_TIP)]
    Underpriced {
        /// In wei per gas.
        tip: u128,
    },
    /// A set-code transaction (EIP-7702) without an authorization.
    #[error("set code tx must have at least one authorization tuple")]
    NoAuthorization,
    /// The sender is a contract (EIP-3607).
    #[error("sender not an eoa: address {address}, codehash: {code_hash}")]
    NotEoa {
        /// The sender.
        address: Address,
        /// The digest of its code.
        code_hash: B256,
    },
    /// The nonce was used.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's next nonce.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// The balance doesn't cover the transaction.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {}",
        cost.saturating_sub(*balance)
    )]
    Funds {
        /// In wei.
        balance: U256,
        /// The most that it can cost, in wei.
        cost: U256,
    },
    /// The balance doesn't cover the transaction on top of the pending ones.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {}",
        queued.saturating_add(*cost).saturating_sub(*balance)
    )]
    QueuedFunds {
        /// In wei.
        balance: U256,
        /// The most that the sender's other waiting transactions can cost, in wei.
        queued: U256,
        /// The most that this one can cost, in wei.
        cost: U256,
    },
    /// Another transaction has this nonce and pays too much to be replaced by this one.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// No room.
    #[error("txpool is full")]
    Full,
}

/// Wei as ether, rounded to two decimals, as geth prints it.
fn ether(wei: u128) -> String {
    let cents = wei.saturating_add(FEE_CAP / 200) / (FEE_CAP / 100);
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A transaction in the pool.
#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    pub(crate) tx: Arc<Transaction>,
    /// Its place in the order of arrival.
    arrival: u64,
}

impl Pooled {
    pub(crate) fn hash(&self) -> B256 {
        *self.tx.tx_hash()
    }

    /// The most that it can take from its sender, in wei.
    fn cost(&self) -> U256 {
        cost(&self.tx)
    }
}

fn cost(tx: &Transaction) -> U256 {
    U256::from(tx.max_fee_per_gas()).saturating_mul(U256::from(tx.gas_limit())).saturating_add(tx.value())
}

/// The priority fee that a transaction offers at most, in wei per gas.
fn tip_cap(tx: &Transaction) -> u128 {
    tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas())
}

/// Reads a transaction as `eth_sendRawTransaction` takes it, and checks what depends on no state.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode(raw: &[u8], chain_id: u64) -> Result<Transaction, TxError> {
    // The first byte is the type (EIP-2718), or the head of a legacy transaction's RLP list.
    match raw.first() {
        None => return Err(TxError::Empty),
        Some(1 | 2 | 4 | 0x80..) => {}
        Some(_) => return Err(TxError::Type),
    }
    let tx = TxEnvelope::decode_2718_exact(raw).map_err(|error| TxError::Rlp(error.to_string()))?;
    match tx.chain_id() {
        None => return Err(TxError::Unprotected),
        Some(have) if have != chain_id => return Err(TxError::ChainId { have, want: chain_id }),
        Some(_) => {}
    }
    let signer = tx.recover_signer().map_err(|_| TxError::Signature)?;
    Ok(Transaction::new_unchecked(tx, signer))
}

/// Refuses a transaction whose fees could be a mistake. Applies to what comes by RPC.
pub(crate) fn check_fee_cap(tx: &Transaction) -> Result<(), TxError> {
    let fee = tx.max_fee_per_gas().saturating_mul(tx.gas_limit().into());
    if fee > FEE_CAP { Err(TxError::FeeCap(fee)) } else { Ok(()) }
}

/// geth's `ValidateTransaction`: what depends on the rules of the chain only.
fn check_form(tx: &Transaction) -> Result<(), TxError> {
    let size = tx.encode_2718_len();
    if size > MAX_SIZE {
        return Err(TxError::Oversized { size });
    }
    if tx.is_create() && tx.input().len() > MAX_INITCODE_SIZE {
        return Err(TxError::InitCode { size: tx.input().len() });
    }
    if tx.gas_limit() > BLOCK_GAS_LIMIT {
        return Err(TxError::GasLimit);
    }
    let tip = tip_cap(tx);
    if tip > tx.max_fee_per_gas() {
        return Err(TxError::TipAboveFee);
    }
    if tx.nonce() == u64::MAX {
        return Err(TxError::NonceMax);
    }
    let gas = tx.gas_limit();
    let needed = calculate_initial_tx_gas_for_tx(executor::transaction(tx), SPEC, None);
    if gas < needed.initial_total_gas() {
        return Err(TxError::IntrinsicGas { gas, needed: needed.initial_total_gas() });
    }
    if gas < needed.floor_gas() {
        return Err(TxError::FloorGas { gas, needed: needed.floor_gas() });
    }
    if tip < MIN_TIP {
        return Err(TxError::Underpriced { tip });
    }
    if tx.is_eip7702() && tx.authorization_list().is_none_or(<[_]>::is_empty) {
        return Err(TxError::NoAuthorization);
    }
    Ok(())
}

/// How a transaction comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// From a client or another node.
    News,
    /// From there, while nothing that waits can be replaced.
    Pinned,
    /// Back from a block that has left the chain: there is always room for it, and nobody is told again.
    Returned,
}

/// The pool.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    by_hash: HashMap<B256, Arc<Pooled>>,
    by_sender: HashMap<Address, Lane>,
    arrivals: u64,
    /// The newest arrivals that became pending, with the number of their arrival.
    announced: VecDeque<(u64, B256)>,
}

/// What waits of one sender.
#[derive(Debug, Default)]
struct Lane {
    /// By nonce.
    waiting: BTreeMap<u64, Arc<Pooled>>,
    /// What all of it can cost together, in wei.
    cost: U256,
}

impl Lane {
    fn insert(&mut self, pooled: Arc<Pooled>) {
        let nonce = pooled.tx.nonce();
        self.remove(nonce);
        self.cost = self.cost.saturating_add(pooled.cost());
        self.waiting.insert(nonce, pooled);
    }

    fn remove(&mut self, nonce: u64) -> Option<Arc<Pooled>> {
        let pooled = self.waiting.remove(&nonce)?;
        // A sum that has reached its end says nothing of its parts.
        self.cost = match self.cost == U256::MAX {
            true => self.waiting.values().fold(U256::ZERO, |sum, other| sum.saturating_add(other.cost())),
            false => self.cost.saturating_sub(pooled.cost()),
        };
        Some(pooled)
    }

    /// The highest nonce, where all that waits is pending: no gap between the account's nonce and this one.
    fn end(&self, account: u64) -> Option<u64> {
        let (first, last) = (*self.waiting.first_key_value()?.0, *self.waiting.last_key_value()?.0);
        let count = u64::try_from(self.waiting.len()).ok()?;
        (first == account && last.checked_sub(first)?.checked_add(1)? == count).then_some(last)
    }
}

impl Mempool {
    /// Admits `tx`, given the state at the head of the chain.
    ///
    /// # Errors
    /// geth's reason for refusing it.
    pub(crate) fn add(&mut self, tx: Arc<Transaction>, state: &View<'_>, entry: Entry) -> Result<B256, TxError> {
        let hash = *tx.tx_hash();
        if self.by_hash.contains_key(&hash) {
            return Err(TxError::Known);
        }
        check_form(&tx)?;
        self.check_state(&tx, state)?;

        let replaced = self.by_sender.get(&tx.signer()).and_then(|lane| lane.waiting.get(&tx.nonce()));
        match replaced {
            Some(old) if entry == Entry::Pinned || !outbids(&tx, &old.tx) => {
                return Err(TxError::ReplacementUnderpriced);
            }
            Some(old) => {
                let old = old.hash();
                self.by_hash.remove(&old);
            }
            None if self.by_hash.len() >= CAPACITY && entry != Entry::Returned => return Err(TxError::Full),
            None => {}
        }
        self.arrivals = self.arrivals.saturating_add(1);
        let pooled = Arc::new(Pooled { tx, arrival: self.arrivals });
        self.by_hash.insert(hash, pooled.clone());
        self.by_sender.entry(pooled.tx.signer()).or_default().insert(pooled);
        if entry != Entry::Returned {
            self.announced.push_back((self.arrivals, hash));
            if self.announced.len() > REMEMBERED_ARRIVALS {
                self.announced.pop_front();
            }
        }
        Ok(hash)
    }

    /// What waits of a sender at this nonce.
    pub(crate) fn at(&self, sender: Address, nonce: u64) -> Option<&Pooled> {
        self.by_sender.get(&sender)?.waiting.get(&nonce).map(|pooled| &**pooled)
    }

    /// Whether it holds a transaction.
    pub(crate) fn contains(&self, hash: &B256) -> bool {
        self.by_hash.contains_key(hash)
    }

    /// Forgets everything. Returns how many transactions it held.
    pub(crate) fn clear(&mut self) -> usize {
        self.by_sender.clear();
        std::mem::take(&mut self.by_hash).len()
    }

    /// Everything that waits, in the order of arrival.
    pub(crate) fn in_order(&self) -> Vec<Arc<Transaction>> {
        let mut waiting: Vec<_> = self.by_hash.values().collect();
        waiting.sort_unstable_by_key(|pooled| pooled.arrival);
        waiting.into_iter().map(|pooled| Arc::clone(&pooled.tx)).collect()
    }

    /// geth's `ValidateTransactionWithState`.
    fn check_state(&self, tx: &Transaction, state: &View<'_>) -> Result<(), TxError> {
        let sender = tx.signer();
        let account = state.account(sender).unwrap_or(super::state::Basic::external(0, U256::ZERO));
        if let Some(code_hash) = state.foreign_code(&account) {
            return Err(TxError::NotEoa { address: sender, code_hash });
        }
        if tx.nonce() < account.nonce {
            return Err(TxError::NonceTooLow { next: account.nonce, nonce: tx.nonce() });
        }
        let (balance, cost) = (account.balance, cost(tx));
        if balance < cost {
            return Err(TxError::Funds { balance, cost });
        }
        let queued = self.pending_cost(sender, account.nonce, tx.nonce());
        if balance < queued.saturating_add(cost) {
            return Err(TxError::QueuedFunds { balance, queued, cost });
        }
        Ok(())
    }

    /// What a sender's pending transactions can cost together, in wei, but for the one with the nonce `except`, whose cost a replacement
    /// sets free.
    fn pending_cost(&self, sender: Address, account: u64, except: u64) -> U256 {
        let Some(lane) = self.by_sender.get(&sender) else { return U256::ZERO };
        if lane.end(account).is_some() && lane.cost != U256::MAX {
            let freed = lane.waiting.get(&except).map(|pooled| pooled.cost()).unwrap_or_default();
            return lane.cost.saturating_sub(freed);
        }
        let others = self.pending_of(sender, account).filter(|other| other.tx.nonce() != except);
        others.fold(U256::ZERO, |sum, other| sum.saturating_add(other.cost()))
    }

    /// Drops what the state at the head of the chain has made impossible: used nonces, costs beyond the balance.
    pub(crate) fn prune(&mut self, state: &View<'_>) {
        let senders: Vec<Address> = self.by_sender.keys().copied().collect();
        self.prune_of(senders, state);
    }

    /// [`prune`](Self::prune), of these senders only.
    pub(crate) fn prune_of(&mut self, senders: impl IntoIterator<Item = Address>, state: &View<'_>) {
        for sender in senders {
            let Some(lane) = self.by_sender.get_mut(&sender) else { continue };
            let (nonce, balance) = (state.nonce(sender), state.balance(sender));
            let possible = |pooled: &Pooled| pooled.tx.nonce() >= nonce && pooled.cost() <= balance;
            let gone: Vec<u64> =
                lane.waiting.iter().filter(|(_, pooled)| !possible(pooled)).map(|(nonce, _)| *nonce).collect();
            for nonce in gone {
                if let Some(pooled) = lane.remove(nonce) {
                    self.by_hash.remove(&pooled.hash());
                }
            }
            if lane.waiting.is_empty() {
                self.by_sender.remove(&sender);
            }
        }
    }

    /// Removes one transaction that can't be executed although it was admitted.
    pub(crate) fn drop_one(&mut self, hash: B256) {
        let Some(pooled) = self.by_hash.remove(&hash) else { return };
        if let Some(lane) = self.by_sender.get_mut(&pooled.tx.signer()) {
            lane.remove(pooled.tx.nonce());
            if lane.waiting.is_empty() {
                self.by_sender.remove(&pooled.tx.signer());
            }
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// A waiting transaction.
    pub(crate) fn get(&self, hash: B256) -> Option<&Pooled> {
        self.by_hash.get(&hash).map(|pooled| &**pooled)
    }

    /// The nonce that follows the sender's pending transactions, given the account's own.
    pub(crate) fn next_nonce(&self, sender: Address, account: u64) -> u64 {
        if let Some(last) = self.by_sender.get(&sender).and_then(|lane| lane.end(account)) {
            return last.saturating_add(1);
        }
        self.pending_of(sender, account).last().map_or(account, |pooled| pooled.tx.nonce().saturating_add(1))
    }

    /// A sender's transactions from the account's nonce up to the first gap.
    pub(crate) fn pending_of(&self, sender: Address, account: u64) -> impl Iterator<Item = &Pooled> {
        let waiting = self.by_sender.get(&sender).into_iter().flat_map(move |lane| lane.waiting.range(account..));
        waiting.zip(account..).take_while(|((nonce, _), expected)| *nonce == expected).map(|((_, pooled), _)| &**pooled)
    }

    /// Every sender with everything that waits, by nonce.
    pub(crate) fn content(&self) -> impl Iterator<Item = (Address, impl Iterator<Item = &Pooled>)> {
        self.by_sender.iter().map(|(sender, lane)| (*sender, lane.waiting.values().map(|pooled| &**pooled)))
    }

    /// The number of the newest arrival.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// The transactions that arrived after the one with this number.
    pub(crate) fn arrived_after(&self, arrival: u64) -> Vec<B256> {
        self.announced.iter().filter(|(number, _)| *number > arrival).map(|(_, hash)| *hash).collect()
    }

    /// The pending transactions in the order that a block takes them: the best effective tip first, the first come at equal
    /// tips, each sender's by nonce. Transactions that don't pay the base fee are left out with all that follow them.
    pub(crate) fn best(&self, state: &View<'_>, base_fee: u64) -> Best<'_> {
        let mut best = Best { base_fee, heads: BinaryHeap::new(), senders: HashMap::new() };
        for (sender, lane) in &self.by_sender {
            let nonce = state.nonce(*sender);
            best.senders.insert(*sender, Queue { waiting: &lane.waiting, next: nonce });
            best.push(*sender);
        }
        best
    }
}

/// Whether `tx` pays so much more than `old` that it takes its place: both the fee and the tip at least 10 % higher.
fn outbids(tx: &Transaction, old: &Transaction) -> bool {
    let enough = |new: u128, old: u128| {
        let (new, old) = (U256::from(new), U256::from(old));
        new > old && new.saturating_mul(U256::from(100)) >= old.saturating_mul(U256::from(100 + PRICE_BUMP))
    };
    enough(tx.max_fee_per_gas(), old.max_fee_per_gas()) && enough(tip_cap(tx), tip_cap(old))
}

/// Hands out pending transactions, the best one first.
pub(crate) struct Best<'a> {
    base_fee: u64,
    /// By tip; then the earlier arrival is the greater.
    heads: BinaryHeap<(u128, std::cmp::Reverse<u64>, Address)>,
    senders: HashMap<Address, Queue<'a>>,
}

struct Queue<'a> {
    waiting: &'a BTreeMap<u64, Arc<Pooled>>,
    next: u64,
}

impl<'a> Best<'a> {
    fn push(&mut self, sender: Address) {
        let Some(pooled) = self.senders.get(&sender).and_then(Queue::head) else { return };
        if let Some(tip) = pooled.tx.effective_tip_per_gas(self.base_fee) {
            self.heads.push((tip, std::cmp::Reverse(pooled.arrival), sender));
        }
    }

    /// The best transaction. The sender's next one follows once [`accept`](Self::accept) was called.
    pub(crate) fn next(&mut self) -> Option<&'a Pooled> {
        let (_, _, sender) = self.heads.pop()?;
        self.senders.get(&sender).and_then(Queue::head)
    }

    /// Goes on with the sender of a transaction that was executed.
    pub(crate) fn accept(&mut self, sender: Address) {
        if let Some(queue) = self.senders.get_mut(&sender) {
            queue.next = queue.next.saturating_add(1);
        }
        self.push(sender);
    }
}

impl<'a> Queue<'a> {
    fn head(&self) -> Option<&'a Pooled> {
        self.waiting.get(&self.next).map(|pooled| &**pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::Bytes;
    use proptest::prelude::*;

    /// The example of EIP-155: the raw transaction and the address of its key.
    fn example() -> (Bytes, Address) {
        let vector: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/vectors/eip-155.json")).unwrap();
        let secret: B256 = serde_json::from_value(vector["private_key"].clone()).unwrap();
        let key = k256::ecdsa::SigningKey::from_slice(secret.as_slice()).unwrap();
        (serde_json::from_value(vector["signed"].clone()).unwrap(), Address::from_private_key(&key))
    }

    #[test]
    fn rounds_fees_as_geth_prints_them() {
        assert_eq!(ether(0), "0.00");
        assert_eq!(ether(1_004_999_999_999_999_999), "1.00");
        assert_eq!(ether(1_005_000_000_000_000_000), "1.01");
        assert_eq!(ether(12 * FEE_CAP), "12.00");
    }

    proptest! {
        #[test]
        fn nothing_changed_still_comes_from_the_signer(place in any::<prop::sample::Index>(), flip in 1_u8..) {
            let (raw, signer) = example();
            prop_assert_eq!(decode(&raw, 1).unwrap().signer(), signer);
            let mut changed = raw.to_vec();
            *place.get_mut(&mut changed) ^= flip;
            prop_assert_ne!(decode(&changed, 1).map(|tx| tx.signer()), Ok(signer));
        }

        #[test]
        fn noise_is_never_taken(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&noise, 1).is_err());
        }
    }
}
