//! Accounts, storage and code at the head of the chain, and how they looked a few blocks ago.
//!
//! Everything is kept under the keccak-256 digest of its key, in order, as the Merkle Patricia trie wants it, so that the state
//! root is a walk over the map. Each block leaves an [`Undo`]: what it overwrote. A [`View`] reads the state at an earlier block by
//! asking the undos of the blocks after it first.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use alloy::consensus::constants::KECCAK_EMPTY;
use alloy::consensus::proofs::{state_root, storage_root};
use alloy::consensus::{EMPTY_ROOT_HASH, TrieAccount};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use revm::DatabaseRef;
use revm::database::{AccountState, Cache, DbAccount};
use revm::state::{AccountInfo, Bytecode};

use super::block::Block;

/// An account without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basic {
    /// The number of transactions sent (or contracts created).
    pub(crate) nonce: u64,
    /// In wei.
    pub(crate) balance: U256,
    /// The keccak-256 digest of the code.
    pub(crate) code_hash: B256,
}

impl Basic {
    /// An account without code.
    pub(crate) const fn external(nonce: u64, balance: U256) -> Self {
        Self { nonce, balance, code_hash: KECCAK_EMPTY }
    }

    /// Whether the account is one that the state doesn't hold (EIP-161).
    fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK_EMPTY
    }

    fn of(account: &DbAccount) -> Option<Self> {
        let info = account.info()?;
        let basic = Self { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash };
        (!basic.is_empty()).then_some(basic)
    }
}

#[derive(Clone, Debug)]
struct Account {
    basic: Basic,
    storage: BTreeMap<B256, U256>,
    /// The root of `storage`, once it was asked for.
    storage_root: Option<B256>,
}

/// The state after the newest block.
#[derive(Debug, Default)]
pub(crate) struct State {
    accounts: BTreeMap<B256, Account>,
    codes: HashMap<B256, Bytecode>,
}

/// What a block overwrote: `None` and zero where there was nothing.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    accounts: HashMap<B256, Option<Basic>>,
    storage: HashMap<(B256, B256), U256>,
}

impl State {
    /// Puts an account into the state of the genesis block.
    pub(crate) fn allocate(&mut self, address: Address, nonce: u64, balance: U256, code: Bytes) {
        let code = Bytecode::new_raw(code);
        let basic = Basic { nonce, balance, code_hash: code.hash_slow() };
        self.codes.insert(basic.code_hash, code);
        self.accounts.insert(keccak256(address), Account { basic, storage: BTreeMap::new(), storage_root: None });
    }

    /// Takes over what a block's execution left in `cache`.
    pub(crate) fn apply(&mut self, cache: &Cache) -> Undo {
        let mut undo = Undo::default();
        for (address, changed) in &cache.accounts {
            self.apply_account(keccak256(address), changed, &mut undo);
        }
        for (hash, code) in &cache.contracts {
            if !code.is_empty() {
                self.codes.entry(*hash).or_insert_with(|| code.clone());
            }
        }
        undo
    }

    fn apply_account(&mut self, key: B256, changed: &DbAccount, undo: &mut Undo) {
        let before = self.accounts.get(&key).map(|account| account.basic);
        let after = Basic::of(changed);
        if before != after {
            undo.accounts.insert(key, before);
        }
        let cleared = matches!(changed.account_state, AccountState::StorageCleared | AccountState::NotExisting);
        if (cleared || after.is_none())
            && let Some(account) = self.accounts.get_mut(&key)
        {
            for (slot, value) in std::mem::take(&mut account.storage) {
                undo.storage.insert((key, slot), value);
            }
            account.storage_root = None;
        }
        let Some(basic) = after else {
            self.accounts.remove(&key);
            return;
        };
        let account =
            self.accounts.entry(key).or_insert_with(|| Account { basic, storage: BTreeMap::new(), storage_root: None });
        account.basic = basic;
        for (slot, value) in &changed.storage {
            let slot = keccak256(B256::from(*slot));
            let old =
                if value.is_zero() { account.storage.remove(&slot) } else { account.storage.insert(slot, *value) };
            let old = old.unwrap_or_default();
            if old != *value {
                // A slot of a cleared account has its true former value in the undo already.
                undo.storage.entry((key, slot)).or_insert(old);
                account.storage_root = None;
            }
        }
    }

    /// The root of the state's trie (Yellow Paper, 4.1).
    pub(crate) fn root(&mut self) -> B256 {
        state_root(self.accounts.iter_mut().map(|(key, account)| {
            let Basic { nonce, balance, code_hash } = account.basic;
            let storage = &account.storage;
            let storage_root = *account.storage_root.get_or_insert_with(|| {
                if storage.is_empty() {
                    EMPTY_ROOT_HASH
                } else {
                    storage_root(storage.iter().map(|(slot, value)| (*slot, *value)))
                }
            });
            (*key, TrieAccount { nonce, balance, storage_root, code_hash })
        }))
    }
}

/// The state after one block, for reading.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    state: &'a State,
    /// The undos of the blocks after the viewed one, oldest first.
    undos: Vec<&'a Undo>,
    blocks: &'a [Block],
}

impl<'a> View<'a> {
    /// The state before the blocks that left `undos` (oldest first). `blocks` answers the BLOCKHASH instruction.
    pub(crate) fn new(state: &'a State, undos: Vec<&'a Undo>, blocks: &'a [Block]) -> Self {
        Self { state, undos, blocks }
    }

    /// An account, where there is one.
    pub(crate) fn account(&self, address: Address) -> Option<Basic> {
        let key = keccak256(address);
        self.undos
            .iter()
            .find_map(|undo| undo.accounts.get(&key).copied())
            .unwrap_or_else(|| self.state.accounts.get(&key).map(|account| account.basic))
    }

    /// An account's balance in wei.
    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.account(address).map(|account| account.balance).unwrap_or_default()
    }

    /// The nonce of an account's next transaction.
    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.account(address).map(|account| account.nonce).unwrap_or_default()
    }

    /// The digest of an account's code, if it has code of its own: not none, and not a delegation (EIP-7702).
    pub(crate) fn foreign_code(&self, account: &Basic) -> Option<B256> {
        let code = self.state.codes.get(&account.code_hash)?;
        (!code.is_empty() && !code.is_eip7702()).then_some(account.code_hash)
    }

    /// An account's code.
    pub(crate) fn code(&self, address: Address) -> Bytes {
        let code = self.account(address).and_then(|account| self.state.codes.get(&account.code_hash));
        code.map(Bytecode::original_bytes).unwrap_or_default()
    }

    /// A storage slot of an account.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        let key = (keccak256(address), keccak256(B256::from(slot)));
        self.undos
            .iter()
            .find_map(|undo| undo.storage.get(&key).copied())
            .or_else(|| self.state.accounts.get(&key.0)?.storage.get(&key.1).copied())
            .unwrap_or_default()
    }
}

impl DatabaseRef for View<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.account(address).map(|Basic { nonce, balance, code_hash }| AccountInfo {
            nonce,
            balance,
            code_hash,
            code: None,
            account_id: None,
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.state.codes.get(&code_hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, index))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        let block = usize::try_from(number).ok().and_then(|number| self.blocks.get(number));
        Ok(block.map(Block::hash).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::b256;
    use revm::DatabaseCommit;
    use revm::database::CacheDB;
    use revm::primitives::AddressMap;
    use revm::state::{Account as Touched, EvmStorageSlot, TransactionId};

    fn commit(state: &mut State, address: Address, balance: u64, slots: &[(u64, u64)]) -> Undo {
        let mut cache = CacheDB::new(View::new(state, Vec::new(), &[]));
        let mut account = Touched::from(AccountInfo::from_balance(U256::from(balance)));
        account.mark_touch();
        for (slot, value) in slots {
            let slot_value = EvmStorageSlot::new_changed(U256::ZERO, U256::from(*value), TransactionId::ZERO);
            account.storage.insert(U256::from(*slot), slot_value);
        }
        cache.commit(AddressMap::from_iter([(address, account)]));
        let cache = cache.cache;
        state.apply(&cache)
    }

    #[test]
    fn views_see_the_past_and_the_root_follows() {
        let address = Address::repeat_byte(7);
        let mut state = State::default();
        // The root of the empty trie: keccak-256 of the RLP of the empty string (Yellow Paper, appendix D).
        let empty = b256!("0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
        assert_eq!(state.root(), empty);

        let first = commit(&mut state, address, 5, &[(1, 10), (2, 20)]);
        let root = state.root();
        assert_ne!(root, empty);
        let second = commit(&mut state, address, 6, &[(1, 11), (2, 0)]);
        assert_ne!(state.root(), root);

        let seen = |undos: Vec<&Undo>| {
            let view = View::new(&state, undos, &[]);
            (view.balance(address).to::<u64>(), [1, 2].map(|slot| view.slot(address, U256::from(slot)).to::<u64>()))
        };
        assert_eq!(seen(vec![]), (6, [11, 0]));
        assert_eq!(seen(vec![&second]), (5, [10, 20]));
        assert_eq!(seen(vec![&first, &second]), (0, [0, 0]));

        // The same content gives the same root, and an empty account leaves nothing behind.
        commit(&mut state, address, 5, &[(1, 10), (2, 20)]);
        assert_eq!(state.root(), root);
        commit(&mut state, address, 0, &[]);
        assert_eq!(state.root(), empty);
    }
}
