//! Accounts, intents and states that the tests share.

use alloy::primitives::{Address as EvmAddress, Bytes, hex};
use chains::account::{Account, KeyPath, PublicKey};
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::Chain;
use chains::ethereum::{Ethereum, Fees, Gas, GasPrice, Nonce, Signed, State, Unsigned};
use chains::intent::{Action, Intent};
use chains::network::Network;
use chains::payload::{Message, Payload, Signature};
use k256::ecdsa::SigningKey;
use k256::ecdsa::hazmat::SignPrimitive;
use k256::sha2::Sha256;
use serde::de::DeserializeOwned;

pub(crate) const CHAIN_ID: u64 = 31_337;
pub(crate) const CHAIN: Ethereum = Ethereum::new(CHAIN_ID);

/// The test vectors in `tests/vectors/<name>`.
pub(crate) fn vectors<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the vectors are in the repository");
    serde_json::from_str(&text).expect("the vectors have the form that the test reads")
}

pub(crate) fn key(hex_key: &str) -> SigningKey {
    SigningKey::from_slice(&hex::decode(hex_key).expect("hex")).expect("a private key")
}

/// The key of the account of most tests.
pub(crate) fn alice_key() -> SigningKey {
    key("0x4646464646464646464646464646464646464646464646464646464646464646")
}

pub(crate) fn alice() -> Account {
    account(&alice_key(), CHAIN_ID)
}

pub(crate) fn account(key: &SigningKey, chain_id: u64) -> Account {
    let point = key.verifying_key().to_encoded_point(true);
    let public = bitcoin::CompressedPublicKey::from_slice(point.as_bytes()).expect("a point");
    let wallet = "treasury".parse().expect("a name");
    let key = "main".parse().expect("a name");
    let network = Network::Ethereum(chain_id);
    Account::new(wallet, network, key, KeyPath::root(), PublicKey::Ecdsa(public)).expect("ECDSA serves Ethereum")
}

pub(crate) fn evm_address(account: &Account) -> EvmAddress {
    account.address().to_string().parse().expect("an EVM address")
}

pub(crate) fn intent(action: Action) -> Intent {
    Intent { wallet: "treasury".parse().expect("a name"), action, max_fee: None, reference: None }
}

pub(crate) fn transfer(asset: Asset, to: EvmAddress, amount: Amount) -> Intent {
    intent(Action::Transfer { asset, to: UncheckedAddress::new(to.to_string()), amount })
}

pub(crate) fn call(contract: EvmAddress, data: impl Into<Bytes>, value: Amount) -> Intent {
    intent(Action::Call { contract: UncheckedAddress::new(contract.to_string()), data: data.into(), value })
}

/// Plenty of everything: nonce 7, 100,000 gas at most 30 gwei, 1 gwei of it as tip.
pub(crate) fn state() -> State {
    State {
        nonce: Nonce::new(7),
        balance: Amount::MAX,
        token_balance: Some(Amount::MAX),
        fees: Fees::Eip1559 {
            max_fee_per_gas: GasPrice::from_gwei(30),
            max_priority_fee_per_gas: GasPrice::from_gwei(1),
        },
        gas_limit: Gas::from_units(100_000),
        replacing: None,
    }
}

pub(crate) fn sign(key: &SigningKey, payload: &Payload) -> Signature {
    let Message::Ecdsa(hash) = payload.message() else { unreachable!("Ethereum signs hashes with ECDSA") };
    let (signature, recovery_id) = key.sign_prehash_recoverable(hash).expect("a hash can be signed");
    Signature::Ecdsa { rs: signature.to_bytes().into(), recovery_id: recovery_id.to_byte() }
}

/// Signs and assembles on the chain with `chain_id`.
pub(crate) fn signed(chain: &Ethereum, key: &SigningKey, unsigned: &Unsigned) -> Signed {
    let account = account(key, chain.chain_id());
    let payloads = chain.payloads(&account, unsigned).expect("the account's own");
    let signatures: Vec<_> = payloads.iter().map(|payload| sign(key, payload)).collect();
    chain.assemble(&account, unsigned, &signatures).expect("a right signature")
}

/// The same message under another signature, of another hash: ECDSA takes any ephemeral scalar.
pub(crate) fn signed_anew(key: &SigningKey, signed: &Signed) -> Signed {
    let hash = signed.unsigned().signature_hash();
    let scalar = key.as_nonzero_scalar();
    let (signature, recovery_id) =
        scalar.try_sign_prehashed_rfc6979::<Sha256>(&hash.0.into(), b"another").expect("a hash can be signed");
    let recovery_id = recovery_id.expect("secp256k1 recovers").to_byte();
    let again = Signature::Ecdsa { rs: signature.to_bytes().into(), recovery_id };
    CHAIN.assemble(&account(key, CHAIN_ID), signed.unsigned(), &[again]).expect("a right signature")
}

/// A signed native transfer of Alice's with nonce 7.
pub(crate) fn signed_transfer() -> Signed {
    let intent = transfer(Asset::Native, EvmAddress::repeat_byte(0xbb), Amount::from_wei(1));
    let unsigned = CHAIN.build(&intent, &alice(), &state()).expect("it can be built");
    signed(&CHAIN, &alice_key(), &unsigned)
}
