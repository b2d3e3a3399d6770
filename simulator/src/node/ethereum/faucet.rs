//! Who is rich from the start: an account that funds others, and a token that anybody may mint.
//!
//! The faucet is an ordinary account whose key is public. It pays by ordinary signed transactions, so that a deposit looks on the simulated
//! chain as it would anywhere.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::primitives::{Address, Bytes, TxKind, U256, address, hex, keccak256};
use alloy::sol;
use alloy::sol_types::SolCall;
use k256::ecdsa::SigningKey;

use super::block::Transaction;

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
    /// The same account on every chain.
    pub(crate) fn new() -> Self {
        let secret = keccak256("portcullis simulator faucet");
        let key = SigningKey::from_slice(secret.as_slice()).expect("the digest is a number below the group's order");
        Self { key }
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
        let signature = self
            .key
            .sign_prehash_recoverable(tx.signature_hash().as_slice())
            .expect("a 32-byte digest can be signed: the nonce of RFC 6979 is never out of range in practice");
        let tx: TxEnvelope = tx.into_signed(signature.into()).into();
        Transaction::new_unchecked(tx, self.address())
    }
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
