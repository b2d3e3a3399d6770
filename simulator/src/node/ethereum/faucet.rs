//! Who is rich from the start: an account that funds others, and a token that anybody may mint.
//!
//! The faucet is an ordinary account whose key is public. It pays by ordinary signed transactions, so that a deposit looks on the simulated
//! chain as it would anywhere. Where a chain has several nodes each has a faucet of its own, so that none uses another's nonces.
//!
//! The crowd is the opposite: an account that fills a block by a transaction that uses all of its gas.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::primitives::{Address, Bytes, TxKind, U256, address, hex, keccak256};
use alloy::sol;
use alloy::sol_types::SolCall;
use k256::ecdsa::SigningKey;

use super::block::{BLOCK_GAS_LIMIT, Transaction};
use crate::topology::NodeIndex;

/// What the faucet has at the start: a thousand million ether, in wei.
pub(crate) const ENDOWMENT: U256 = U256::from_limbs([11_515_845_246_265_065_472, 54_210_108, 0, 0]);
/// The contract of the demo token: `Portcullis Demo Dollar` (PDD), an ERC-20 with 6 decimals and an open `mint(address,uint256)`.
pub const DEMO_TOKEN: Address = address!("0x7242BbEbA3EF8234Dd901735B2c18F2994b207e9");
/// More than minting any ordinary token takes.
const MINT_GAS: u64 = 200_000;
/// Enough to pay a contract that has a small `receive` function.
const TRANSFER_GAS: u64 = 60_000;

sol! {
    /// The faucet's side of a token.
    function mint(address to, uint256 value) external returns (bool);
}

/// The demo token's runtime code. `assets/DemoToken.sol` says how it was compiled.
pub(crate) fn demo_token_code() -> Bytes {
    let text = include_str!("../../../assets/DemoToken.bin").trim_end();
    hex::decode(text).expect("the file is part of the source and holds hexadecimal digits").into()
}

/// The funding account.
#[derive(Clone)]
pub(crate) struct Faucet {
    key: SigningKey,
}

/// What the faucet pays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coin {
    /// Ether, counted in wei.
    Ether,
    /// A token with an open `mint(address,uint256)`, counted in its base units.
    Token(Address),
}

/// What a payment depends on besides itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) chain_id: u64,
    /// The faucet's next nonce.
    pub(crate) nonce: u64,
    /// Of the next block, in wei per gas.
    pub(crate) base_fee: u64,
    /// The priority fee, in wei per gas.
    pub(crate) tip: u128,
}

impl Faucet {
    /// The first node's: the same account on every chain.
    pub(crate) fn new() -> Self {
        Self::of(NodeIndex(0))
    }

    /// A node's.
    pub(crate) fn of(node: NodeIndex) -> Self {
        match node.0 {
            0 => Self { key: key("portcullis simulator faucet") },
            node => Self { key: key(&format!("portcullis simulator faucet {node}")) },
        }
    }

    /// Where the money is.
    pub(crate) fn address(&self) -> Address {
        Address::from_private_key(&self.key)
    }

    /// Signs a payment of `amount` to `to`, at twice the next base fee plus `tip` (wei per gas).
    pub(crate) fn pay(&self, to: Address, amount: U256, coin: Coin, terms: Terms) -> Transaction {
        let Terms { chain_id, nonce, base_fee, tip } = terms;
        let (target, value, input, gas_limit) = match coin {
            Coin::Ether => (to, amount, Bytes::new(), TRANSFER_GAS),
            Coin::Token(token) => (token, U256::ZERO, mintCall { to, value: amount }.abi_encode().into(), MINT_GAS),
        };
        let tx = TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: u128::from(base_fee).saturating_mul(2).saturating_add(tip),
            max_priority_fee_per_gas: tip,
            to: TxKind::Call(target),
            value,
            access_list: Default::default(),
            input,
        };
        sign(&self.key, tx)
    }
}

/// Those who want into every block more than anybody else.
pub(crate) struct Crowd {
    key: SigningKey,
}

impl Crowd {
    /// The same account on every chain.
    pub(crate) fn new() -> Self {
        Self { key: key("portcullis simulator crowd") }
    }

    /// Its account.
    pub(crate) fn address(&self) -> Address {
        Address::from_private_key(&self.key)
    }

    /// A transaction that uses all gas of a block and does nothing, and what it costs in wei. `base_fee` is the block's, in wei per gas.
    pub(crate) fn fill(&self, chain_id: u64, nonce: u64, base_fee: u64) -> (Transaction, U256) {
        let tx = TxEip1559 {
            chain_id,
            nonce,
            gas_limit: BLOCK_GAS_LIMIT,
            max_fee_per_gas: base_fee.into(),
            max_priority_fee_per_gas: 0,
            to: TxKind::Create,
            value: U256::ZERO,
            access_list: Default::default(),
            // INVALID: the machine stops and takes all that is left.
            input: Bytes::from_static(&[0xfe]),
        };
        let cost = U256::from(base_fee).saturating_mul(U256::from(BLOCK_GAS_LIMIT));
        (sign(&self.key, tx), cost)
    }
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_slice(keccak256(name).as_slice()).expect("the digest is a number below the group's order")
}

fn sign(key: &SigningKey, tx: TxEip1559) -> Transaction {
    let signature = key
        .sign_prehash_recoverable(tx.signature_hash().as_slice())
        .expect("a 32-byte digest can be signed: the nonce of RFC 6979 is never out of range in practice");
    let tx: TxEnvelope = tx.into_signed(signature.into()).into();
    Transaction::new_unchecked(tx, Address::from_private_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::consensus::transaction::SignerRecoverable;

    #[test]
    fn signs_as_the_account_that_made_the_demo_token() {
        let faucet = Faucet::new();
        assert_eq!(faucet.address().create(0), DEMO_TOKEN);
        assert_eq!(ENDOWMENT, U256::from(10).pow(U256::from(27)));
        let terms = Terms { chain_id: 1, nonce: 2, base_fee: 3, tip: 4 };
        let paid = faucet.pay(Address::ZERO, U256::ONE, Coin::Token(DEMO_TOKEN), terms);
        assert_eq!(paid.inner().recover_signer().unwrap(), faucet.address());
    }
}
