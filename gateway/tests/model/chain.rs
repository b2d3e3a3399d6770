//! A Solana cluster that the test drives: blocks, reorgs, durable nonces, and three nodes that fail and lie.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use chains::account::Account;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain, Replacement, Slot};
use chains::client::{BroadcastError, Client, Inclusion, SendClass, StateError, Status, Tip};
use chains::intent::Intent;
use chains::network::Cluster;
use chains::rpc::RpcError;
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, Nonce, Signed, Solana, State,
    Unsigned, Validity, nonce_account,
};
use sha2::{Digest, Sha256};

use super::house::{Gate, Side};
use super::town::Town;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;
/// How many durable nonces the wallet has; payments beyond them are under a blockhash.
const NONCES: u8 = 3;
/// A block is final when it is so deep, itself counted.
const FINAL: usize = 4;
/// For so many blocks a blockhash is recent.
const RECENT: u64 = 4;
/// Micro-lamports for a compute unit, and how many units a message may use: 1000 lamports beside the signature's 5000.
const PRICE: (u64, u32) = (1_000_000, 1_000);

/// The chain.
pub(crate) const SOLANA: Solana = Solana::new(Cluster::Localnet);

type Hash = [u8; 32];

/// How a node is disposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It tells the truth.
    Fine,
    /// It answers nothing.
    Down,
    /// It takes what is sent, and the answer is lost.
    Swallows,
    /// It refuses what is sent.
    Refuses,
    /// A lie: it says that it took what it didn't take.
    Deaf,
    /// A lie: everything is in a block, and final.
    Boasts,
    /// A lie: nothing can ever be included.
    Buries,
    /// A lie: it has never heard of anything.
    Forgets,
    /// A lie: the block before the last is the last.
    Lags,
}

impl Weather {
    /// Whether it is a lie. At most one node lies at a time; no gateway stands a majority that does.
    pub(crate) const fn lies(self) -> bool {
        matches!(self, Self::Deaf | Self::Boasts | Self::Buries | Self::Forgets | Self::Lags)
    }
}

/// What keeps a transaction valid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// The value of one of the wallet's nonce accounts, and when it was seen.
    Nonce { account: usize, value: Hash, seen_at: usize },
    /// A recent blockhash, up to a height.
    Blockhash { hash: Hash, last: u64 },
}

/// A signed transaction as the cluster sees it.
#[derive(Clone)]
struct Tx {
    bytes: Vec<u8>,
    life: Life,
    /// The lamports that it pays; none where it only uses its nonce up.
    pays: Option<u64>,
}

#[derive(Clone)]
struct Block {
    hash: Hash,
    /// By nonce account, the blockhash that its value derives from.
    origins: [Hash; NONCES as usize],
    txs: Vec<(Tx, bool)>,
}

/// The cluster's truth.
pub(crate) struct Ledger {
    accounts: [Hash; NONCES as usize],
    blocks: Vec<Block>,
    mempool: VecDeque<Tx>,
    finalized: usize,
    made: u64,
    seed: u64,
    ever: BTreeSet<Vec<u8>>,
    /// How each node is disposed.
    pub(crate) weather: [Weather; NODES],
    /// Whether a block was ever taken back.
    pub(crate) reorged: bool,
    /// Whether a node ever lied.
    pub(crate) lied: bool,
}

impl Ledger {
    /// A cluster of its own, with no hash in common with that of another seed.
    pub(crate) fn new(account: &Account, seed: u64) -> Self {
        let chains::address::Address::Solana(wallet) = account.address() else { panic!("a Solana account") };
        let mut index = 0;
        let accounts = [(); NONCES as usize].map(|()| {
            index += 1;
            nonce_account(wallet, index - 1).to_bytes()
        });
        let origins = accounts.map(|account| sha(&[b"origin", &seed.to_le_bytes(), &account]));
        let genesis = Block { hash: sha(&[b"genesis", &seed.to_le_bytes()]), origins, txs: Vec::new() };
        Self {
            accounts,
            blocks: vec![genesis],
            mempool: VecDeque::new(),
            finalized: 0,
            made: 0,
            seed,
            ever: BTreeSet::new(),
            weather: [Weather::Fine; NODES],
            reorged: false,
            lied: false,
        }
    }

    fn tip(&self) -> usize {
        self.blocks.len() - 1
    }

    /// Makes a block: somebody else may have used a nonce up, then come those of the waiting transactions that `pick` has a bit
    /// for, the oldest first or last.
    pub(crate) fn mine(&mut self, pick: u8, newest_first: bool, foreign: Option<u8>, fails: bool) {
        let (previous, height) = (self.blocks[self.tip()].clone(), self.blocks.len() as u64);
        let mut origins = previous.origins;
        let mut advanced = BTreeSet::new();
        if let Some(account) = foreign.map(usize::from) {
            origins[account] = previous.hash;
            advanced.insert(account);
        }
        let mut waiting: Vec<Tx> = self.mempool.drain(..).collect();
        if newest_first {
            waiting.reverse();
        }
        let mut txs = Vec::new();
        for (place, tx) in waiting.into_iter().enumerate() {
            let picked = pick & (1 << (place % 8)) != 0;
            let fits = match tx.life {
                Life::Nonce { account, value, .. } => {
                    derive(&previous.origins[account]) == value && !advanced.contains(&account)
                }
                Life::Blockhash { .. } => self.admits(&tx.life) && !self.holds(&tx.bytes),
            };
            if picked && fits {
                if let Life::Nonce { account, .. } = tx.life {
                    origins[account] = previous.hash;
                    advanced.insert(account);
                }
                self.ever.insert(tx.bytes.clone());
                txs.push((tx, !fails));
            } else if self.admits(&tx.life) {
                self.mempool.push_back(tx); // what can't be included any more is forgotten
            }
        }
        self.made += 1;
        let hash = sha(&[b"block", &self.seed.to_le_bytes(), &self.made.to_le_bytes()]);
        debug_assert_eq!(height as usize, self.blocks.len());
        self.blocks.push(Block { hash, origins, txs });
        self.finalized = self.finalized.max((self.tip() + 1).saturating_sub(FINAL));
    }

    /// Takes back up to so many blocks, never a final one. What they held waits again, or is lost.
    pub(crate) fn reorg(&mut self, depth: usize, keep: bool) {
        for _ in 0..depth.min(self.tip() - self.finalized) {
            self.reorged = true;
            let Some(block) = self.blocks.pop() else { return };
            if keep {
                self.mempool.extend(block.txs.into_iter().map(|(tx, _)| tx));
            }
        }
    }

    /// Every node forgets what waits.
    pub(crate) fn drop_mempool(&mut self) {
        self.mempool.clear();
    }

    /// Changes how a node is disposed. Of two liars the earlier one repents.
    pub(crate) fn turn(&mut self, node: usize, weather: Weather) {
        if weather.lies() {
            self.weather = self.weather.map(|other| if other.lies() { Weather::Fine } else { other });
            self.lied = true;
        }
        self.weather[node] = weather;
    }

    /// Whether the transaction is in the best chain.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        self.find(bytes).is_some()
    }

    /// Whether the transaction was ever in a block.
    pub(crate) fn has_held(&self, bytes: &[u8]) -> bool {
        self.ever.contains(bytes)
    }

    /// Whether the transaction succeeded, once it is in a final block.
    pub(crate) fn final_outcome(&self, bytes: &[u8]) -> Option<bool> {
        self.find(bytes).filter(|(height, _)| *height <= self.finalized).map(|(_, succeeded)| succeeded)
    }

    /// Every payment in the best chain, failed ones too.
    pub(crate) fn payments(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().flat_map(|block| &block.txs).filter_map(|(tx, _)| tx.pays)
    }

    /// Whether nothing with this life can be included any more, whatever blocks come and whichever but the final ones go. By the rules of
    /// the cluster, and not by the way in which a client finds out.
    pub(crate) fn is_dead(&self, life: &Life) -> bool {
        let later = &self.blocks[self.finalized..];
        match life {
            Life::Nonce { account, value, .. } => {
                !later.iter().any(|block| derive(&block.origins[*account]) == *value || derive(&block.hash) == *value)
            }
            Life::Blockhash { last, .. } => self.finalized as u64 >= *last,
        }
    }

    /// Whether the next block may have a transaction with this life.
    fn admits(&self, life: &Life) -> bool {
        match life {
            Life::Nonce { account, value, .. } => derive(&self.blocks[self.tip()].origins[*account]) == *value,
            Life::Blockhash { hash, last } => {
                self.blocks.len() as u64 <= *last && self.blocks.iter().any(|block| block.hash == *hash)
            }
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<(usize, bool)> {
        self.blocks.iter().enumerate().find_map(|(height, block)| {
            block.txs.iter().find(|(tx, _)| tx.bytes == bytes).map(|(_, succeeded)| (height, *succeeded))
        })
    }

    /// What an honest node says of a transaction, found out as clients do.
    fn status(&self, tx: &Tx) -> Status {
        if let Some((height, succeeded)) = self.find(&tx.bytes) {
            return Status::Included(Inclusion {
                height: height as u64,
                block: Some(hex(&self.blocks[height].hash)),
                confirmations: (self.tip() - height + 1) as u64,
                finalized: height <= self.finalized,
                succeeded,
                failure: (!succeeded).then(|| "InstructionError".to_owned()),
                fee: None,
            });
        }
        let lapsed = match tx.life {
            Life::Nonce { account, value, seen_at } => {
                self.finalized >= seen_at && derive(&self.blocks[self.finalized].origins[account]) != value
            }
            Life::Blockhash { last, .. } => self.finalized as u64 > last,
        };
        if lapsed {
            Status::Expired
        } else if self.mempool.iter().any(|waiting| waiting.bytes == tx.bytes) {
            Status::InMempool
        } else {
            Status::Unknown
        }
    }

    fn send(&mut self, tx: Tx) -> Result<(), BroadcastError> {
        let waits = self.mempool.iter().any(|waiting| waiting.bytes == tx.bytes);
        if self.holds(&tx.bytes) || waits {
            return Ok(());
        }
        if !self.admits(&tx.life) {
            return Err(refused(SendClass::Expired, "Blockhash not found"));
        }
        self.mempool.push_back(tx);
        Ok(())
    }

    /// What a message is built from, as of the block at `height`.
    fn state(&self, height: usize, busy: &BTreeSet<Slot>) -> State {
        let block = &self.blocks[height];
        let free = (0..usize::from(NONCES)).map(|index| self.nonce(index, height)).find(|nonce| {
            let slot = format!("{}/nonce/{}/{}", SOLANA.network(), nonce.account, nonce.value);
            !busy.contains(&slot.parse().expect("a slot's text"))
        });
        let blockhash =
            || Validity::Blockhash { blockhash: block.hash.into(), last_valid_block_height: height as u64 + RECENT };
        state(free.map_or_else(blockhash, Validity::Nonce))
    }

    fn nonce(&self, index: usize, height: usize) -> Nonce {
        let origin = self.blocks[height].origins[index];
        Nonce {
            account: self.accounts[index].into(),
            value: derive(&origin).into(),
            origin: origin.into(),
            seen_at: height as u64,
        }
    }

    /// What keeps a transaction of these unsigned bytes valid.
    pub(crate) fn life(&self, unsigned: &[u8]) -> Life {
        self.read_life(SOLANA.decode_unsigned(unsigned).expect("bytes that the gateway built").validity())
    }

    fn read_life(&self, validity: &Validity) -> Life {
        match validity {
            Validity::Blockhash { blockhash, last_valid_block_height } => {
                Life::Blockhash { hash: blockhash.to_bytes(), last: *last_valid_block_height }
            }
            Validity::Nonce(nonce) => Life::Nonce {
                account: self
                    .accounts
                    .iter()
                    .position(|one| *one == nonce.account.to_bytes())
                    .expect("the wallet's own"),
                value: nonce.value.to_bytes(),
                seen_at: usize::try_from(nonce.seen_at).expect("a height"),
            },
        }
    }

    fn read(&self, signed: &Signed) -> Tx {
        // `SystemInstruction::Transfer { lamports }` in bincode.
        let pays = signed.transaction().message.instructions().iter().find_map(|instruction| {
            let lamports = instruction.data.strip_prefix(&[2, 0, 0, 0])?;
            Some(u64::from_le_bytes(lamports.try_into().ok()?))
        });
        Tx { bytes: SOLANA.encode_signed(signed), life: self.read_life(signed.validity()), pays }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let txs: Vec<_> = self.blocks.iter().map(|block| block.txs.len()).collect();
        let waiting = self.mempool.len();
        write!(f, "blocks {txs:?}, final {}, {waiting} waiting, nodes {:?}", self.finalized, self.weather)
    }
}

/// A gateway's client of one node.
pub(crate) struct Node {
    pub(crate) town: Arc<Town>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) index: usize,
}

impl Node {
    /// The cluster and the node's disposition, once the gateway is awake and the node is up.
    async fn ask(&self, method: &str) -> Result<(MutexGuard<'_, Ledger>, Weather), RpcError> {
        self.gate.pass().await.map_err(|_| timeout(method))?;
        let ledger = self.town.ledger();
        let weather = ledger.weather[self.index];
        if weather == Weather::Down { Err(timeout(method)) } else { Ok((ledger, weather)) }
    }
}

impl Client for Node {
    type Chain = Solana;

    async fn state(&self, _: &Intent, _: &Account, busy: &BTreeSet<Slot>) -> Result<State, StateError> {
        let (ledger, weather) = self.ask("getMultipleAccounts").await?;
        let behind = usize::from(weather == Weather::Lags).min(ledger.tip() - ledger.finalized);
        Ok(ledger.state(ledger.tip() - behind, busy))
    }

    async fn replacement_state(
        &self,
        _: &Intent,
        _: &Account,
        previous: &[Unsigned],
        _: Replacement,
        _: &BTreeSet<Slot>,
    ) -> Result<State, StateError> {
        let (ledger, _) = self.ask("getMultipleAccounts").await?;
        let Some(Validity::Nonce(nonce)) = previous.first().map(Unsigned::validity) else {
            return Err(BuildError::NotReplaceable("under a blockhash").into());
        };
        if !ledger.admits(&ledger.read_life(&Validity::Nonce(*nonce))) {
            return Err(BuildError::NotReplaceable("the nonce has moved on").into());
        }
        Ok(state(Validity::Nonce(*nonce)))
    }

    async fn balance(&self, _: &Account, _: Asset) -> Result<Amount, RpcError> {
        Ok(Amount::from_lamports(1_000_000_000))
    }

    async fn broadcast(&self, signed: &Signed) -> Result<(), BroadcastError> {
        const METHOD: &str = "sendTransaction";
        self.gate.pass().await.map_err(|_| timeout(METHOD))?;
        let bytes = SOLANA.encode_signed(signed);
        // Even a node that is down may have read the bytes.
        self.town.reference().await.sent(&bytes);
        let fault = if self.index == 0 { self.gate.strike() } else { None };
        if let Some(fault) = fault.filter(|fault| fault.side == Side::Before) {
            self.gate.fall(fault);
            return Err(timeout(METHOD).into());
        }
        let answer = {
            let (mut ledger, weather) = self.ask(METHOD).await?;
            let tx = ledger.read(signed);
            match weather {
                Weather::Deaf => Ok(()),
                Weather::Refuses => Err(refused(SendClass::SlotUsed, "the nonce has advanced")),
                Weather::Swallows => {
                    let _taken = ledger.send(tx);
                    Err(timeout(METHOD).into())
                }
                _ => ledger.send(tx),
            }
        };
        if let Some(fault) = fault {
            self.gate.fall(fault);
            return Err(timeout(METHOD).into());
        }
        answer
    }

    async fn status(&self, signed: &Signed) -> Result<Status, RpcError> {
        let (ledger, weather) = self.ask("getSignatureStatuses").await?;
        Ok(match weather {
            Weather::Boasts => Status::Included(Inclusion {
                height: ledger.tip() as u64,
                block: Some("boast".to_owned()),
                confirmations: 99,
                finalized: true,
                succeeded: true,
                failure: None,
                fee: None,
            }),
            Weather::Buries => Status::Expired,
            Weather::Forgets => Status::Unknown,
            _ => ledger.status(&ledger.read(signed)),
        })
    }

    async fn tip(&self) -> Result<Tip, RpcError> {
        let (ledger, _) = self.ask("getSlot").await?;
        Ok(Tip { height: ledger.tip() as u64, finalized: Some(ledger.finalized as u64) })
    }

    /// The tracker asks for this at the end of each of its rounds.
    async fn take_changes(&self) -> Option<Vec<u8>> {
        if self.index == 0 {
            self.gate.round();
        }
        None
    }
}

fn state(validity: Validity) -> State {
    State {
        validity,
        balance: Lamports::new(1_000_000_000_000),
        rent_exempt_minimum: Lamports::new(890_880),
        destination: Destination { lamports: Lamports::new(1_000_000), kind: DestinationKind::Wallet },
        token: None,
        tables: Vec::new(),
        nonce_rent: None,
        compute: ComputeBudget { unit_limit: PRICE.1, unit_price: MicroLamports::new(PRICE.0) },
        version: MessageVersion::V0,
        owners: Vec::new(),
    }
}

/// A nonce account's value, advanced when `blockhash` is the latest
/// (<https://docs.anza.xyz/implemented-proposals/durable-tx-nonces>).
fn derive(blockhash: &Hash) -> Hash {
    sha(&[b"DURABLE_NONCE", blockhash])
}

fn sha(parts: &[&[u8]]) -> Hash {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn timeout(method: &str) -> RpcError {
    RpcError::Timeout { method: method.to_owned() }
}

fn refused(class: SendClass, message: &str) -> BroadcastError {
    BroadcastError::Rejected { class, code: -32002, message: message.to_owned() }
}

/// The cluster, locked; a test that failed elsewhere has poisoned nothing.
pub(crate) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
