//! Addresses against the vectors of BIP-86, BIP-341 and BIP-350.

use std::str::FromStr;

use bitcoin::bip32::Xpub;
use bitcoin::{CompressedPublicKey, ScriptBuf, XOnlyPublicKey};
use chains::account::{KeyPath, PublicKey};
use chains::address::{Address, AddressError, UncheckedAddress};
use chains::derive::ExtendedKey;
use chains::network::{BitcoinNetwork, Network};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::fixture;

fn vectors<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("the vectors")
}

#[derive(Deserialize)]
struct Bip350 {
    valid: Vec<Valid>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Valid {
    address: String,
    script_pubkey: ScriptBuf,
}

#[derive(Deserialize)]
struct Invalid {
    address: String,
    reason: String,
}

#[test]
fn bip_350_addresses() {
    let vectors: Bip350 = vectors(include_str!("../../../tests/vectors/bip-0350.json"));
    assert_eq!((vectors.valid.len(), vectors.invalid.len()), (8, 15));
    let (main, test) = (Network::Bitcoin(BitcoinNetwork::Bitcoin), Network::Bitcoin(BitcoinNetwork::Testnet));
    for valid in vectors.valid {
        let is_main = valid.address.to_lowercase().starts_with("bc1");
        let (right, wrong) = if is_main { (main, test) } else { (test, main) };
        let address = UncheckedAddress::new(&*valid.address);
        match address.require_network(right) {
            Ok(Address::Bitcoin(parsed)) => assert_eq!(parsed.script_pubkey(), valid.script_pubkey),
            other => panic!("{}: {other:?}", valid.address),
        }
        let error = AddressError::WrongNetwork { address: valid.address, network: wrong };
        assert_eq!(address.require_network(wrong), Err(error));
    }
    for invalid in vectors.invalid {
        for network in [main, test] {
            let read = UncheckedAddress::new(&*invalid.address).require_network(network);
            assert!(matches!(read, Err(AddressError::Malformed { .. })), "{}: {read:?}", invalid.reason);
        }
    }
}

#[derive(Deserialize)]
struct Bip86 {
    account: String,
    addresses: Vec<Bip86Address>,
}

#[derive(Deserialize)]
struct Bip86Address {
    path: KeyPath,
    internal_key: XOnlyPublicKey,
    script_pubkey: ScriptBuf,
    address: String,
}

#[test]
fn bip_86_addresses() {
    let vectors: Bip86 = vectors(include_str!("../../../tests/vectors/bip-0086.json"));
    let xpub = Xpub::from_str(&vectors.account).expect("an extended public key");
    let key = ExtendedKey { public_key: CompressedPublicKey(xpub.public_key), chain_code: xpub.chain_code.to_bytes() };
    assert_eq!(vectors.addresses.len(), 3);
    for expected in vectors.addresses {
        let child = key.derive(&expected.path).expect("a child");
        assert_eq!(child.x_only(), expected.internal_key);
        let main = Network::Bitcoin(BitcoinNetwork::Bitcoin);
        let account = fixture::account(PublicKey::Taproot(child.x_only()), main);
        assert_eq!(account.address().to_string(), expected.address);
        let Address::Bitcoin(address) = account.address() else { panic!("a Bitcoin account") };
        assert_eq!(address.script_pubkey(), expected.script_pubkey);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bip341 {
    script_pub_key: Vec<Bip341Output>,
}

#[derive(Deserialize)]
struct Bip341Output {
    given: Bip341Given,
    expected: Bip341Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bip341Given {
    internal_pubkey: XOnlyPublicKey,
    script_tree: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bip341Expected {
    script_pub_key: ScriptBuf,
    bip350_address: String,
}

#[test]
fn bip_341_outputs() {
    let vectors: Bip341 = vectors(include_str!("../../../tests/vectors/bip-0341-wallet.json"));
    let mut without_tree = 0;
    for output in vectors.script_pub_key {
        let address = chains::bitcoin::address::p2tr(output.given.internal_pubkey, BitcoinNetwork::Bitcoin);
        // An output that commits to scripts is another one than the key's alone.
        assert_eq!(address.script_pubkey() == output.expected.script_pub_key, output.given.script_tree.is_none());
        if output.given.script_tree.is_none() {
            assert_eq!(address.to_string(), output.expected.bip350_address);
            without_tree += 1;
        }
    }
    assert_eq!(without_tree, 1);
}
