//! Typed data: hashes as another implementation computes them, what a signature permits, and what is refused.

use alloy::primitives::{Address, B256};
use chains::address::Address as ChainAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::DecodeError;
use chains::ethereum::typed::{self, Kind, Typed};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{CHAIN, alice, alice_key, vectors};

const BOB: Address = Address::repeat_byte(0xb0);
const TOKEN: Address = Address::repeat_byte(0x70);
const TOKEN_2: Address = Address::repeat_byte(0x71);

#[derive(Deserialize)]
struct Vectors {
    wallet: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    typed_data: Value,
    hash: B256,
}

fn rows() -> Vec<Row> {
    let vectors: Vectors = vectors("eip-712.json");
    assert_eq!(vectors.wallet, alice().address().to_string(), "the vectors are of this wallet");
    vectors.rows
}

fn row(name: &str) -> Value {
    rows().into_iter().find(|row| row.name == name).expect("a vector").typed_data
}

fn read(data: &Value) -> Result<Typed, DecodeError> {
    typed::read(&CHAIN, &alice(), &data.to_string())
}

fn grants(of: &[(Address, Amount)]) -> Vec<(Asset, ChainAddress, Amount)> {
    of.iter().map(|(token, amount)| (Asset::Erc20(*token), ChainAddress::Ethereum(BOB), *amount)).collect()
}

#[test]
fn known_kinds_have_their_hash_and_effects() {
    let wei = Amount::from_wei;
    let all = [
        ("permit", Kind::Permit, grants(&[(TOKEN, wei(25_000_000))])),
        ("dai", Kind::DaiPermit, grants(&[(TOKEN, Amount::MAX)])),
        ("permit2.single", Kind::PermitSingle, grants(&[(TOKEN, wei(500))])),
        ("permit2.batch", Kind::PermitBatch, grants(&[(TOKEN, wei(500)), (TOKEN_2, wei(7))])),
        ("permit2.transfer", Kind::PermitTransferFrom, grants(&[(TOKEN, wei(900))])),
        ("permit2.transfers", Kind::PermitBatchTransferFrom, grants(&[(TOKEN, wei(900)), (TOKEN_2, wei(8))])),
        ("safe", Kind::SafeTransaction, Vec::new()),
    ];
    let rows = rows();
    for (name, kind, allowances) in all {
        let row = rows.iter().find(|row| row.name == name).expect("a vector");
        let found = read(&row.typed_data).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((found.kind, found.hash), (kind, row.hash), "{name}");
        let granted: Vec<_> = found.effects.allowances.iter().map(|a| (a.asset, a.spender.clone(), a.amount)).collect();
        assert_eq!(granted, allowances, "{name}");
        let verifier = row.typed_data["domain"]["verifyingContract"].as_str().expect("a contract");
        let verifier: Address = verifier.parse().expect("an address");
        assert!(found.effects.parties().any(|party| party == ChainAddress::Ethereum(verifier)), "{name}");
    }
}

#[test]
fn a_safe_transaction_does_what_its_call_does() {
    let found = read(&row("safe")).expect("known");
    let [transfer] = found.effects.transfers.as_slice() else { panic!("one transfer: {found:?}") };
    let safe = ChainAddress::Ethereum("0x5afe5afe5afe5afe5afe5afe5afe5afe5afe5afe".parse().expect("an address"));
    assert_eq!((&transfer.from, &transfer.to), (&safe, &ChainAddress::Ethereum(BOB)));
    let mut delegates = row("safe");
    delegates["message"]["operation"] = json!(1);
    assert!(matches!(read(&delegates), Err(DecodeError::Undecodable(_))), "code under the Safe's name");
    delegates["message"]["operation"] = json!(256);
    assert!(read(&delegates).is_err());
}

#[test]
fn what_is_not_known_is_refused() {
    for name in ["mail", "order"] {
        assert!(matches!(read(&row(name)), Err(DecodeError::Undecodable(_))), "{name}");
    }
    let change = |path: &str, to: Value| {
        let mut data = row("permit2.single");
        *data.pointer_mut(path).expect("it is there") = to;
        read(&data)
    };
    let mallory = json!("0x6666666666666666666666666666666666666666");
    assert!(matches!(change("/domain/verifyingContract", mallory.clone()), Err(DecodeError::Undecodable(_))));
    assert!(matches!(change("/domain/chainId", json!(1)), Err(DecodeError::WrongNetwork { .. })));
    assert!(matches!(change("/types/PermitDetails/1/type", json!("uint256")), Err(DecodeError::Undecodable(_))));
    assert!(matches!(change("/types/PermitSingle/1/name", json!("delegate")), Err(DecodeError::Undecodable(_))));
    assert!(matches!(change("/primaryType", json!("PermitDetails")), Err(DecodeError::Undecodable(_))));
    assert!(change("/message/spender", json!("nobody")).is_err());
    assert!(
        change("/message/details/amount", json!("0x10000000000000000000000000000000000000000")).is_err(),
        "161 bits"
    );

    let mut more = row("permit2.single");
    more["message"]["details"]["note"] = json!("not signed");
    assert!(matches!(read(&more), Err(DecodeError::Malformed(_))));
    for missing in ["chainId", "verifyingContract"] {
        let mut data = row("permit");
        data["domain"].as_object_mut().expect("an object").remove(missing);
        assert!(matches!(read(&data), Err(DecodeError::Undecodable(_))), "{missing}");
    }
    let mut salted = row("permit");
    salted["domain"]["salt"] = json!("0x0000000000000000000000000000000000000000000000000000000000000001");
    assert!(matches!(read(&salted), Err(DecodeError::Undecodable(_))));
    for (name, owner) in [("permit", "owner"), ("dai", "holder")] {
        let mut data = row(name);
        data["message"][owner] = mallory.clone();
        assert!(matches!(read(&data), Err(DecodeError::WrongAccount(_))), "{name}");
    }
    for text in ["", "{}", "[]", "null", r#"{"types":{},"primaryType":"Permit","domain":{},"message":{}}"#] {
        assert!(typed::read(&CHAIN, &alice(), text).is_err(), "{text}");
    }
    let elsewhere = crate::fixture::account(&alice_key(), 1);
    assert!(matches!(typed::read(&CHAIN, &elsewhere, &row("permit").to_string()), Err(DecodeError::WrongAccount(_))));
}

#[test]
fn types_that_refer_to_themselves_are_refused() {
    let mut data = row("permit2.single");
    data["types"]["PermitDetails"][0]["type"] = json!("PermitSingle");
    assert!(read(&data).is_err());
}
