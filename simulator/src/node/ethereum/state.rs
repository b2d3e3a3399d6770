//! Accounts, storage and code after a block.
//!
//! Everything is kept under the keccak-256 digest of its key, in Merkle Patricia tries ([`trie`]). A [`State`] shares with the one that
//! it came from all that the block between them left alone, so that each block keeps its own. A [`View`] reads one of them.

pub(crate) mod trie;

use std::collections::HashMap;
use std::convert::Infallible;

use alloy::consensus::TrieAccount;
use alloy::consensus::constants::KECCAK_EMPTY;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use revm::DatabaseRef;
use revm::database::{AccountState, Cache, DbAccount};
use revm::state::{AccountInfo, Bytecode};

use self::trie::{Trie, Value};

/// All code that was ever deployed, by its digest.
pub(crate) type Codes = HashMap<B256, Bytecode>;

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
    storage: Trie<U256>,
}

impl Value for Account {
    fn rlp(&self) -> Vec<u8> {
        let Basic { nonce, balance, code_hash } = self.basic;
        alloy::rlp::encode(TrieAccount { nonce, balance, storage_root: self.storage.root(), code_hash })
    }
}

impl Value for U256 {
    fn rlp(&self) -> Vec<u8> {
        alloy::rlp::encode(self)
    }
}

/// The state after a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    accounts: Trie<Account>,
}

impl State {
    /// Puts an account into the state of the genesis block.
    pub(crate) fn allocate(&mut self, address: Address, nonce: u64, balance: U256, code: Bytes, codes: &mut Codes) {
        let code = Bytecode::new_raw(code);
        let basic = Basic { nonce, balance, code_hash: code.hash_slow() };
        codes.insert(basic.code_hash, code);
        self.accounts.insert(keccak256(address), Account { basic, storage: Trie::default() });
    }

    /// Takes over what a block's execution left in `cache`.
    pub(crate) fn apply(&mut self, cache: &Cache) {
        for (address, changed) in &cache.accounts {
            self.apply_account(keccak256(address), changed);
        }
    }

    fn apply_account(&mut self, key: B256, changed: &DbAccount) {
        let before = self.accounts.get(&key);
        let Some(basic) = Basic::of(changed) else {
            if before.is_some() {
                self.accounts.remove(&key);
            }
            return;
        };
        let cleared = matches!(changed.account_state, AccountState::StorageCleared | AccountState::NotExisting);
        let same = before.is_some_and(|before| before.basic == basic);
        if same && !cleared && changed.storage.is_empty() {
            return;
        }
        let mut storage = match before {
            Some(before) if !cleared => before.storage.clone(),
            _ => Trie::default(),
        };
        for (slot, value) in &changed.storage {
            let slot = keccak256(B256::from(*slot));
            if value.is_zero() {
                storage.remove(&slot);
            } else if storage.get(&slot) != Some(value) {
                storage.insert(slot, *value);
            }
        }
        self.accounts.insert(key, Account { basic, storage });
    }

    /// The root of the state's trie (Yellow Paper, 4.1).
    pub(crate) fn root(&self) -> B256 {
        self.accounts.root()
    }
}

/// The code that a block's execution left in `cache` and that is not empty.
pub(crate) fn codes(cache: &Cache) -> impl Iterator<Item = (B256, Bytecode)> {
    cache.contracts.iter().filter(|(_, code)| !code.is_empty()).map(|(hash, code)| (*hash, code.clone()))
}

/// Whoever knows the hashes of a block's ancestors, by number.
pub(crate) trait Ancestry: Sync {
    /// The hash of the ancestor of `block` with this number.
    fn ancestor(&self, block: B256, number: u64) -> Option<B256>;
}

/// The state after one block, for reading.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    state: &'a State,
    codes: &'a Codes,
    /// The block, and who answers the BLOCKHASH instruction.
    block: Option<(B256, &'a dyn Ancestry)>,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("state", self.state).finish_non_exhaustive()
    }
}

impl<'a> View<'a> {
    /// The state after a block.
    pub(crate) fn new(state: &'a State, codes: &'a Codes, block: B256, ancestry: &'a dyn Ancestry) -> Self {
        Self { state, codes, block: Some((block, ancestry)) }
    }

    /// The root of this state with what executions have left in `caches` on top of it, the latest last.
    pub(crate) fn root_with<'c>(&self, caches: impl IntoIterator<Item = &'c Cache>) -> B256 {
        let mut state = self.state.clone();
        for cache in caches {
            state.apply(cache);
        }
        state.root()
    }

    /// An account, where there is one.
    pub(crate) fn account(&self, address: Address) -> Option<Basic> {
        self.state.accounts.get(&keccak256(address)).map(|account| account.basic)
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
        let code = self.codes.get(&account.code_hash)?;
        (!code.is_empty() && !code.is_eip7702()).then_some(account.code_hash)
    }

    /// An account's code.
    pub(crate) fn code(&self, address: Address) -> Bytes {
        let code = self.account(address).and_then(|account| self.codes.get(&account.code_hash));
        code.map(Bytecode::original_bytes).unwrap_or_default()
    }

    /// A storage slot of an account.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        let account = self.state.accounts.get(&keccak256(address));
        account.and_then(|account| account.storage.get(&keccak256(B256::from(slot)))).copied().unwrap_or_default()
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
        Ok(self.codes.get(&code_hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, index))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        let hash = self.block.and_then(|(block, ancestry)| ancestry.ancestor(block, number));
        Ok(hash.unwrap_or_default())
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

    /// The state after a block that leaves `address` so.
    fn commit(state: &State, address: Address, balance: u64, slots: &[(u64, u64)]) -> State {
        let codes = Codes::new();
        let mut cache = CacheDB::new(View { state, codes: &codes, block: None });
        let mut account = Touched::from(AccountInfo::from_balance(U256::from(balance)));
        account.mark_touch();
        for (slot, value) in slots {
            let slot_value = EvmStorageSlot::new_changed(U256::ZERO, U256::from(*value), TransactionId::ZERO);
            account.storage.insert(U256::from(*slot), slot_value);
        }
        cache.commit(AddressMap::from_iter([(address, account)]));
        let mut after = state.clone();
        after.apply(&cache.cache);
        after
    }

    #[test]
    fn each_block_keeps_its_state_and_the_root_follows() {
        let address = Address::repeat_byte(7);
        let none = State::default();
        // The root of the empty trie: keccak-256 of the RLP of the empty string (Yellow Paper, appendix D).
        let empty = b256!("0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
        assert_eq!(none.root(), empty);

        let first = commit(&none, address, 5, &[(1, 10), (2, 20)]);
        assert_ne!(first.root(), empty);
        let second = commit(&first, address, 6, &[(1, 11), (2, 0)]);
        assert_ne!(second.root(), first.root());

        let seen = |state: &State| {
            let codes = Codes::new();
            let view = View { state, codes: &codes, block: None };
            (view.balance(address).to::<u64>(), [1, 2].map(|slot| view.slot(address, U256::from(slot)).to::<u64>()))
        };
        assert_eq!(seen(&second), (6, [11, 0]));
        assert_eq!(seen(&first), (5, [10, 20]));
        assert_eq!(seen(&none), (0, [0, 0]));

        // The same content gives the same root, and an empty account leaves nothing behind.
        let again = commit(&second, address, 5, &[(1, 10), (2, 20)]);
        assert_eq!(again.root(), first.root());
        assert_eq!(commit(&again, address, 0, &[]).root(), empty);
    }
}
