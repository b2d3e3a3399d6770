//! Golden vectors from outside; their sources are named in the files.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEip2930, TxLegacy};
use alloy::eips::eip2930::AccessList;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use chains::address::{Address as ChainAddress, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::Chain;
use chains::effects::Transfer;
use chains::ethereum::{Ethereum, Fees, Gas, GasPrice, Nonce, State};
use chains::network::Network;
use serde::Deserialize;

use crate::fixture::{CHAIN, account, alice, evm_address, key, signed, state, transfer, vectors};

#[derive(Deserialize)]
struct Eip55 {
    checksummed: Vec<String>,
    all_caps: Vec<String>,
    all_lower: Vec<String>,
}

#[test]
fn eip55_checksums() {
    let read = |text: &str| UncheckedAddress::new(text).require_network(Network::Ethereum(1));
    let cases: Eip55 = vectors("eip-55.json");
    for text in cases.checksummed.iter().chain(&cases.all_caps).chain(&cases.all_lower) {
        assert_eq!(read(text).expect("a vector").to_string(), *text, "the canonical spelling");
    }
    for text in &cases.checksummed {
        let swapped: String = text.chars().skip(2).map(swap_case).collect();
        assert!(read(&format!("0x{swapped}")).is_err(), "every letter in the wrong case: {text}");
        assert!(read(&text.to_lowercase()).is_ok(), "no checksum is no wrong checksum");
        for (place, letter) in text.char_indices().skip(2).filter(|(_, c)| c.is_ascii_alphabetic()) {
            let mut bad = text.clone();
            bad.replace_range(place..=place, &swap_case(letter).to_string());
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
    let without_prefix = "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    for bad in ["", "0x", without_prefix, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe", "0xzz"] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
}

fn swap_case(letter: char) -> char {
    if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
}

#[derive(Deserialize)]
struct Eip155 {
    private_key: String,
    chain_id: u64,
    nonce: u64,
    gas_price: u128,
    gas_limit: u64,
    to: Address,
    value: String,
    signing_data: Bytes,
    signing_hash: B256,
    r: String,
    s: String,
    v: u64,
    signed: Bytes,
}

/// This crate makes no legacy transactions; the example checks the hash, the signature and the address all the same.
#[test]
fn eip155_example() {
    let case: Eip155 = vectors("eip-155.json");
    let value = case.value.parse().expect("a number");
    let to = TxKind::Call(case.to);
    let (nonce, gas_price, gas_limit) = (case.nonce, case.gas_price, case.gas_limit);
    let chain_id = Some(case.chain_id);
    let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input: Bytes::new() };
    assert_eq!(tx.encoded_for_signing(), case.signing_data);
    assert_eq!(tx.signature_hash(), case.signing_hash);
    assert_eq!(keccak256(&case.signing_data), case.signing_hash);

    let key = key(&case.private_key);
    let (rs, recovery_id) = key.sign_prehash_recoverable(case.signing_hash.as_slice()).expect("a hash");
    let signature = alloy::primitives::Signature::from_signature_and_parity(rs, recovery_id.is_y_odd());
    assert_eq!(signature.r().to_string(), case.r);
    assert_eq!(signature.s().to_string(), case.s);
    assert_eq!(u64::from(recovery_id.to_byte()) + 35 + 2 * case.chain_id, case.v);

    let mut encoded = Vec::new();
    tx.into_signed(signature).rlp_encode(&mut encoded);
    assert_eq!(encoded, case.signed);
    let signer = signature.recover_address_from_prehash(&case.signing_hash).expect("the signer");
    assert_eq!(evm_address(&account(&key, 1)), signer, "the address of the public key");
}

#[derive(Deserialize)]
struct Eip1559 {
    private_key: String,
    chain_id: u64,
    to: Address,
    signed: Vec<BuiltAndSigned>,
    mainnet: Vec<Mainnet>,
    mainnet_raw: Vec<Raw>,
}

#[derive(Deserialize)]
struct BuiltAndSigned {
    nonce: u64,
    value: Amount,
    gas_limit: u64,
    max_priority_fee_per_gas: u128,
    max_fee_per_gas: u128,
    signed: Bytes,
}

#[derive(Deserialize)]
struct Mainnet {
    hash: B256,
    signing_hash: B256,
    chain_id: u64,
    nonce: u64,
    gas_limit: u64,
    max_fee_per_gas: u128,
    max_priority_fee_per_gas: u128,
    to: Address,
    value: U256,
    input: Bytes,
    from: Address,
    r: B256,
    s: B256,
    y_parity: u8,
}

#[derive(Deserialize)]
struct Raw {
    raw: Bytes,
    hash: B256,
    from: Address,
    to: Address,
}

/// From intent to signed bytes: built, signed (RFC 6979) and assembled, they are another implementation's, bit for bit.
#[test]
fn eip1559_from_intent_to_signed_bytes() {
    let cases: Eip1559 = vectors("eip-1559.json");
    let chain = Ethereum::new(cases.chain_id);
    let key = key(&cases.private_key);
    let account = account(&key, cases.chain_id);
    for case in &cases.signed {
        let state = State {
            nonce: Nonce::new(case.nonce),
            fees: Fees::Eip1559 {
                max_fee_per_gas: GasPrice::from_wei(case.max_fee_per_gas),
                max_priority_fee_per_gas: GasPrice::from_wei(case.max_priority_fee_per_gas),
            },
            gas_limit: Gas::from_units(case.gas_limit),
            replacing: None,
            ..state()
        };
        let intent = transfer(Asset::Native, cases.to, case.value);
        let unsigned = chain.build(&intent, &account, &state).expect("it can be built");
        let signed = signed(&chain, &key, &unsigned);
        assert_eq!(chain.encode_signed(&signed), case.signed, "nonce {}", case.nonce);
        assert_eq!(chain.decode_signed(&case.signed), Ok(signed));
    }
}

#[test]
fn eip1559_on_mainnet() {
    let cases: Eip1559 = vectors("eip-1559.json");
    for case in cases.mainnet {
        let tx = TxEip1559 {
            chain_id: case.chain_id,
            nonce: case.nonce,
            gas_limit: case.gas_limit,
            max_fee_per_gas: case.max_fee_per_gas,
            max_priority_fee_per_gas: case.max_priority_fee_per_gas,
            to: TxKind::Call(case.to),
            value: case.value,
            access_list: AccessList::default(),
            input: case.input,
        };
        let unsigned_bytes = [case.from.as_slice(), &tx.encoded_for_signing()].concat();
        let chain = Ethereum::new(case.chain_id);
        let unsigned = chain.decode_unsigned(&unsigned_bytes).expect("it is on chain");
        assert_eq!(unsigned.signature_hash(), case.signing_hash);

        let signature = alloy::primitives::Signature::from_scalars_and_parity(case.r, case.s, case.y_parity == 1);
        let raw = alloy::consensus::TxEnvelope::from(tx.into_signed(signature));
        let raw = alloy::eips::Encodable2718::encoded_2718(&raw);
        let signed = chain.decode_signed(&raw).expect("it is on chain");
        assert_eq!(signed.unsigned(), &unsigned, "the sender is recovered from the signature");
        assert_eq!(chain.id(&signed).as_str(), case.hash.to_string());
    }
    for case in cases.mainnet_raw {
        let chain = Ethereum::new(1);
        let signed = chain.decode_signed(&case.raw).expect("a well-formed transaction");
        assert_eq!((signed.unsigned().from(), signed.unsigned().to()), (case.from, case.to));
        assert_eq!(chain.id(&signed).as_str(), case.hash.to_string());
        assert_eq!(chain.encode_signed(&signed), case.raw);
        assert!(Ethereum::new(2).decode_signed(&case.raw).is_err(), "another network");
    }
}

#[derive(Deserialize)]
struct Eip2930 {
    signed: WithAccessList,
    go_ethereum: GoEthereum,
}

#[derive(Deserialize)]
struct WithAccessList {
    private_key: String,
    from: Address,
    chain_id: u64,
    nonce: u64,
    gas_price: u128,
    gas_limit: u64,
    to: Address,
    value: Amount,
    access_list: AccessList,
    raw: Bytes,
    hash: B256,
}

#[derive(Deserialize)]
struct GoEthereum {
    signing_hash: B256,
    raw: Bytes,
}

#[test]
fn eip2930_with_an_access_list() {
    let case = vectors::<Eip2930>("eip-2930.json").signed;
    let key = key(&case.private_key);
    let account = account(&key, case.chain_id);
    assert_eq!(evm_address(&account), case.from, "the address of the public key");

    let announced: Vec<_> = case.access_list.iter().map(|item| ChainAddress::Ethereum(item.address)).collect();
    let tx = TxEip2930 {
        chain_id: case.chain_id,
        nonce: case.nonce,
        gas_price: case.gas_price,
        gas_limit: case.gas_limit,
        to: TxKind::Call(case.to),
        value: case.value.base_units(),
        access_list: case.access_list,
        input: Bytes::new(),
    };
    let chain = Ethereum::new(case.chain_id);
    let bytes = [case.from.as_slice(), &tx.encoded_for_signing()].concat();
    let unsigned = chain.decode_unsigned(&bytes).expect("a well-formed transaction");
    assert_eq!(chain.encode_unsigned(&unsigned), bytes);

    let effects = chain.effects(&account, &unsigned).expect("decodable");
    let (from, to) = (ChainAddress::Ethereum(case.from), ChainAddress::Ethereum(case.to));
    assert_eq!(effects.transfers, [Transfer { asset: Asset::Native, from, to, amount: case.value }]);
    assert_eq!(effects.touches, announced);
    assert_eq!(effects.max_fee, Amount::from_wei(u128::from(case.gas_limit) * case.gas_price));

    let signed = signed(&chain, &key, &unsigned);
    assert_eq!(chain.encode_signed(&signed), case.raw);
    assert_eq!(chain.id(&signed).as_str(), case.hash.to_string());
    assert_eq!(chain.decode_signed(&case.raw), Ok(signed));
}

#[test]
fn eip2930_of_go_ethereum() {
    let case = vectors::<Eip2930>("eip-2930.json").go_ethereum;
    let chain = Ethereum::new(1);
    let signed = chain.decode_signed(&case.raw).expect("a well-formed transaction");
    assert_eq!(signed.unsigned().signature_hash(), case.signing_hash);
    assert_eq!(chain.encode_signed(&signed), case.raw);
}

#[derive(Deserialize)]
struct Erc20 {
    token: Address,
    to: Address,
    amount: Amount,
    calldata: Bytes,
    selectors: std::collections::BTreeMap<String, Bytes>,
}

#[test]
fn erc20_calldata() {
    let case: Erc20 = vectors("erc-20.json");
    let asset = Asset::Erc20(case.token);
    let unsigned = CHAIN.build(&transfer(asset, case.to, case.amount), &alice(), &state()).expect("it can be built");
    assert_eq!(unsigned.input(), &case.calldata);
    assert_eq!((unsigned.to(), unsigned.value()), (case.token, U256::ZERO));

    let effects = CHAIN.effects(&alice(), &unsigned).expect("decodable");
    let paid =
        Transfer { asset, from: alice().address().clone(), to: ChainAddress::Ethereum(case.to), amount: case.amount };
    assert_eq!(effects.transfers, [paid]);

    for (signature, selector) in &case.selectors {
        assert_eq!(keccak256(signature).get(..4), Some(selector.as_ref()), "{signature}");
    }
}
