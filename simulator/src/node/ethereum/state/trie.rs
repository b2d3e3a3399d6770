//! A Merkle Patricia trie that shares what doesn't change with its clones.
//!
//! A clone costs nothing, so that each block can keep the state that it leaves. A change copies the path to the changed leaf only, and
//! the root is computed anew along changed paths only. Keys are digests, all of the same length, so that values are at
//! leaves and no key is the beginning of another (Yellow Paper, appendix D). Extension nodes exist in the encoding only: a branch knows
//! how deep it is.

use std::fmt;
use std::sync::{Arc, OnceLock};

use alloy::consensus::EMPTY_ROOT_HASH;
use alloy::primitives::{B256, keccak256};
use alloy_trie::nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode};
use alloy_trie::{Nibbles, TrieMask};

/// The length of a key, in nibbles.
const KEY_LENGTH: u8 = 64;

/// What a trie holds.
pub(crate) trait Value: Clone {
    /// The value as the leaf commits to it.
    fn rlp(&self) -> Vec<u8>;
}

/// A map from digests to values with the root that commits to it.
#[derive(Clone)]
pub(crate) struct Trie<V> {
    top: Link<V>,
}

type Link<V> = Option<Arc<Node<V>>>;

struct Node<V> {
    kind: Kind<V>,
    /// The encoding (or its digest) in the place where the node is. A node that moves is made anew.
    rlp: OnceLock<RlpNode>,
}

#[derive(Clone)]
enum Kind<V> {
    Leaf {
        key: B256,
        value: V,
    },
    Branch {
        /// Any of the keys below: they agree in their first `depth` nibbles.
        key: B256,
        depth: u8,
        children: [Link<V>; 16],
    },
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { top: None }
    }
}

impl<V> fmt::Debug for Trie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie").field("is_empty", &self.top.is_none()).finish()
    }
}

impl<V: Value> Trie<V> {
    /// The value at `key`.
    pub(crate) fn get(&self, key: &B256) -> Option<&V> {
        let mut node = self.top.as_deref()?;
        loop {
            match &node.kind {
                Kind::Leaf { key: other, value } => return (other == key).then_some(value),
                Kind::Branch { depth, children, .. } => node = children.get(nibble(key, *depth))?.as_deref()?,
            }
        }
    }

    /// Sets the value at `key`.
    pub(crate) fn insert(&mut self, key: B256, value: V) {
        insert(&mut self.top, key, value);
    }

    /// Removes the value at `key`. Returns it.
    pub(crate) fn remove(&mut self, key: &B256) -> Option<V> {
        // Nothing is copied for a key that isn't there.
        let value = self.get(key)?.clone();
        remove(&mut self.top, key);
        Some(value)
    }

    /// The root's digest.
    pub(crate) fn root(&self) -> B256 {
        let Some(top) = &self.top else { return EMPTY_ROOT_HASH };
        let rlp = top.rlp(0);
        // The root is a digest even where its encoding is short.
        rlp.as_hash().unwrap_or_else(|| keccak256(&rlp[..]))
    }
}

impl<V> Node<V> {
    fn new(kind: Kind<V>) -> Arc<Self> {
        Arc::new(Self { kind, rlp: OnceLock::new() })
    }

    /// Any key below, and how many nibbles all keys below have in common.
    fn prefix(&self) -> (&B256, u8) {
        match &self.kind {
            Kind::Leaf { key, .. } => (key, KEY_LENGTH),
            Kind::Branch { key, depth, .. } => (key, *depth),
        }
    }
}

impl<V: Clone> Clone for Node<V> {
    /// A copy that is about to change.
    fn clone(&self) -> Self {
        Self { kind: self.kind.clone(), rlp: OnceLock::new() }
    }
}

impl<V: Value> Node<V> {
    /// The node's encoding, where the first `start` nibbles of its keys are said by the nodes above.
    fn rlp(&self, start: u8) -> &RlpNode {
        self.rlp.get_or_init(|| match &self.kind {
            Kind::Leaf { key, value } => {
                let path = nibbles(key, start, KEY_LENGTH);
                LeafNodeRef::new(&path, &value.rlp()).rlp(&mut Vec::new())
            }
            Kind::Branch { key, depth, children } => {
                let mut stack = Vec::with_capacity(children.len());
                let mut mask: u16 = 0;
                for (place, child) in children.iter().enumerate() {
                    if let Some(child) = child {
                        mask |= 1 << place;
                        stack.push(child.rlp(depth.saturating_add(1)).clone());
                    }
                }
                let branch = BranchNodeRef::new(&stack, TrieMask::new(mask)).rlp(&mut Vec::new());
                if *depth == start {
                    return branch;
                }
                ExtensionNodeRef::new(&nibbles(key, start, *depth), &branch).rlp(&mut Vec::new())
            }
        })
    }
}

fn insert<V: Value>(link: &mut Link<V>, key: B256, value: V) {
    let Some(node) = link else {
        *link = Some(Node::new(Kind::Leaf { key, value }));
        return;
    };
    let (other, depth) = node.prefix();
    let common = common(&key, other, depth);
    if common < depth {
        let other = *other;
        let old = Node::new(node.kind.clone());
        let mut children: [Link<V>; 16] = Default::default();
        put(&mut children, nibble(&other, common), old);
        put(&mut children, nibble(&key, common), Node::new(Kind::Leaf { key, value }));
        *link = Some(Node::new(Kind::Branch { key, depth: common, children }));
        return;
    }
    let node = Arc::make_mut(node);
    node.rlp = OnceLock::new();
    match &mut node.kind {
        Kind::Leaf { value: old, .. } => *old = value,
        Kind::Branch { depth, children, .. } => {
            if let Some(child) = children.get_mut(nibble(&key, *depth)) {
                insert(child, key, value);
            }
        }
    }
}

fn put<V>(children: &mut [Link<V>; 16], place: usize, node: Arc<Node<V>>) {
    if let Some(child) = children.get_mut(place) {
        *child = Some(node);
    }
}

/// Removes a key that is there.
fn remove<V: Value>(link: &mut Link<V>, key: &B256) {
    let Some(node) = link else { return };
    if matches!(node.kind, Kind::Leaf { .. }) {
        *link = None;
        return;
    }
    let node = Arc::make_mut(node);
    node.rlp = OnceLock::new();
    let Kind::Branch { key: any, depth, children } = &mut node.kind else { return };
    if let Some(child) = children.get_mut(nibble(key, *depth)) {
        remove(child, key);
    }
    let mut left = children.iter().flatten();
    match (left.next(), left.next()) {
        // A branch with one child is none.
        (Some(only), None) => *link = Some(Node::new(only.kind.clone())),
        (Some(first), Some(_)) => *any = *first.prefix().0,
        (None, _) => *link = None,
    }
}

/// The nibble of a key at `depth`.
fn nibble(key: &B256, depth: u8) -> usize {
    let byte = key.get(usize::from(depth / 2)).copied().unwrap_or_default();
    usize::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f })
}

/// How many nibbles two keys have in common, at most `limit`.
fn common(one: &B256, other: &B256, limit: u8) -> u8 {
    let mut common: u8 = 0;
    for (one, other) in one.iter().zip(other) {
        if one != other {
            if one >> 4 == other >> 4 {
                common = common.saturating_add(1);
            }
            break;
        }
        common = common.saturating_add(2);
    }
    common.min(limit)
}

fn nibbles(key: &B256, from: u8, to: u8) -> Nibbles {
    Nibbles::unpack_array(&key.0).slice(usize::from(from)..usize::from(to))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy::consensus::proofs::storage_root;
    use alloy::primitives::U256;
    use proptest::prelude::*;

    use super::*;

    /// Keys that share long beginnings, so that extensions come and go.
    fn key() -> impl Strategy<Value = B256> {
        (0..4_u8, 0..4_u8, 0..4_u8, any::<bool>()).prop_map(|(first, middle, last, far)| {
            let mut key = B256::ZERO;
            key[0] = if far { first << 4 } else { 0 };
            key[15] = middle;
            key[31] = last;
            key
        })
    }

    proptest! {
        #[test]
        fn the_root_is_that_of_the_same_map_built_at_once(
            changes in prop::collection::vec((key(), prop::option::of(1..100_u64)), 1..60),
        ) {
            let mut trie = Trie::default();
            let mut map: BTreeMap<B256, U256> = BTreeMap::new();
            let mut past = Vec::new();
            for (key, value) in changes {
                match value.map(U256::from) {
                    Some(value) => {
                        trie.insert(key, value);
                        map.insert(key, value);
                    }
                    None => prop_assert_eq!(trie.remove(&key), map.remove(&key)),
                }
                let root = storage_root(map.clone());
                prop_assert_eq!(trie.root(), root);
                past.push((trie.clone(), map.clone(), root));
            }
            // No clone has changed with the others.
            for (trie, map, root) in past {
                prop_assert_eq!(trie.root(), root);
                for (key, value) in &map {
                    prop_assert_eq!(trie.get(key), Some(value));
                }
            }
        }
    }
}
