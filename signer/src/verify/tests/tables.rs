//! Lookup tables: read as the intent names them, and only for what the policy says stands in them.

use chains::solana::{TableAccount, TableError, table_digest};

use super::*;

const PROGRAM: &str = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4";
const TABLES: &str = "AddressLookupTab1e1111111111111111111111111";

fn address(text: &str) -> Address {
    UncheckedAddress::new(text).require_network(Network::Solana(Cluster::Localnet)).expect("an address")
}

/// A table of these accounts; the first stands at place 0.
fn table(seed: u8, entries: &[&str]) -> TableAccount {
    let Address::Solana(owner) = address(TABLES) else { panic!("a program") };
    let head = [&1_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes(), &77_u64.to_le_bytes(), &[0, 1], &[4; 32], &[0, 0]];
    let keys = entries.iter().flat_map(|entry| match address(entry) {
        Address::Solana(key) => key.to_bytes(),
        other => panic!("{other}"),
    });
    TableAccount { address: [seed; 32].into(), owner, data: [head.concat(), keys.collect()].concat() }
}

fn first() -> TableAccount {
    table(60, &[SOL_OTHER, SOL_PAYEE])
}

fn second() -> TableAccount {
    table(61, &[MINT])
}

/// A call that reads the mint by the second table and the others by the first.
fn through(tables: &[&TableAccount]) -> Value {
    let account = |address: &str, writable: bool| json!({"address": address, "writable": writable});
    let accounts = [account(SOL_PAYEE, true), account(SOL_OTHER, false), account(MINT, false)];
    let instruction = json!({"program": PROGRAM, "accounts": accounts, "data": "0x01"});
    let tables: Vec<String> = tables.iter().map(|table| table.address.to_string()).collect();
    json!({"wallet": "sol", "action": {"kind": "call_program", "instructions": [instruction], "lookup_tables": tables}})
}

fn built_on(intent: &Value, tables: &[TableAccount]) -> Vec<u8> {
    let intent: Intent = serde_json::from_value(intent.clone()).expect("an intent");
    let state = chains::solana::State { tables: tables.to_vec(), ..solana_state() };
    let chain = Solana::new(Cluster::Localnet);
    chain.encode_unsigned(&chain.build(&intent, &account("sol"), &state).expect("possible"))
}

/// What the policy says of a table: its first entries, so many.
fn pin(table: &TableAccount, length: usize) -> Value {
    let entries = table.entries().expect("a table");
    let sha256 = hex::encode(table_digest(&entries, length).expect("so many entries"));
    json!({"address": table.address.to_string(), "length": length, "sha256": sha256})
}

/// Any call of the program is permitted, so that a refusal is the tables'.
fn guard_with_pins(pins: &[Value]) -> Guard {
    let mut rules = rules();
    rules.as_array_mut().expect("a list").push(json!({
        "id": "program", "wallets": ["sol", "sol-2"],
        "programs": [{"address": PROGRAM, "discriminators": ["0x01"], "other_accounts": true}],
    }));
    guard_with(json!({"rules": rules, "lookup_tables": pins}))
}

fn judged(guard: &Guard, intent: &Value, unsigned: Vec<u8>) -> Result<(), Refusal> {
    guard.judge(&request(intent, unsigned), |_| NOW).map(|judged| assert_eq!(judged.payloads.len(), 1))
}

#[test]
fn what_the_policy_names_is_read() {
    let (first, second) = (first(), second());
    let guard = guard_with_pins(&[pin(&second, 1), pin(&first, 2)]);
    let intent = through(&[&first, &second]);
    assert_eq!(judged(&guard, &intent, built_on(&intent, &[first.clone(), second.clone()])), Ok(()));
    // A table grows: what the policy says of its first entries stays true.
    let grown = table(60, &[SOL_OTHER, SOL_PAYEE, BTC_LIKE]);
    assert_eq!(judged(&guard, &intent, built_on(&intent, &[grown, second])), Ok(()));
    // The same without a table is the same call.
    let plain = through(&[]);
    assert_eq!(judged(&guard, &plain, built_on(&plain, &[])), Ok(()));
}

/// Some account that nothing here is about.
const BTC_LIKE: &str = "Vote111111111111111111111111111111111111111";

#[test]
fn what_the_policy_does_not_name_is_not_read() {
    let (first, second) = (first(), second());
    let intent = through(&[&first, &second]);
    let unsigned = || built_on(&intent, &[first.clone(), second.clone()]);
    let denied = |pins: &[Value], unsigned| match judged(&guard_with_pins(pins), &intent, unsigned) {
        Err(Refusal::Denied(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let named = |table: &TableAccount| Address::Solana(table.address);
    assert_eq!(denied(&[pin(&first, 2)], unsigned()), Denial::UnlistedTable { table: named(&second) });
    assert_eq!(denied(&[], unsigned()), Denial::UnlistedTable { table: named(&first) });
    // The mint's place is named, the payee's is behind what is named.
    let beyond = Denial::UnlistedEntry { table: named(&first), index: 1, length: 1 };
    assert_eq!(denied(&[pin(&first, 1), pin(&second, 1)], unsigned()), beyond);
    // The gateway lies about what stands in it: the message would pay somebody else on chain.
    let lie = table(60, &[SOL_PAYEE, SOL_OTHER]);
    let other = Denial::OtherTable { table: named(&first), length: 2 };
    let pins = [pin(&first, 2), pin(&second, 1)];
    assert_eq!(denied(&pins, built_on(&intent, &[lie, second.clone()])), other);
    // It lies about an entry that isn't read, or tells of fewer than the policy names.
    let lie = table(61, &[MINT, BTC_LIKE]);
    let pins = [pin(&first, 2), pin(&table(61, &[MINT, SOL_OTHER]), 2)];
    let other = Denial::OtherTable { table: named(&second), length: 2 };
    assert_eq!(denied(&pins, built_on(&intent, &[first.clone(), lie])), other.clone());
    assert_eq!(denied(&pins, unsigned()), other);
}

#[test]
fn tables_are_those_that_the_intent_names() {
    let (first, second) = (first(), second());
    let guard = guard_with_pins(&[pin(&first, 2), pin(&second, 1)]);
    let both = through(&[&first, &second]);
    let tables = [first.clone(), second.clone()];
    for (what, asked) in [
        ("none", through(&[])),
        ("one less", through(&[&first])),
        ("another order", through(&[&second, &first])),
        ("one more", through(&[&first, &second, &table(62, &[BTC_LIKE])])),
        ("another", through(&[&first, &table(62, &[MINT])])),
    ] {
        let refusal = judged(&guard, &asked, built_on(&both, &tables));
        assert_eq!(refusal, Err(Refusal::Mismatch(Mismatch::Tables)), "{what}");
    }
}

#[test]
fn a_message_goes_with_its_tables() {
    let (first, second) = (first(), second());
    let guard = guard_with_pins(&[pin(&first, 2), pin(&second, 1)]);
    let intent = through(&[&first, &second]);
    let chain = Solana::new(Cluster::Localnet);
    let honest = chain.decode_unsigned(&built_on(&intent, &[first.clone(), second.clone()])).expect("its encoding");
    // None: the message is well formed without, but nobody can say what it does.
    let bare = chains::solana::Unsigned::new(Cluster::Localnet, honest.message().clone(), 1_150, Vec::new());
    let bare = chain.encode_unsigned(&bare.expect("well formed"));
    let missing = Refusal::Decode(DecodeError::LookupTable(TableError::Missing { table: first.address }));
    assert_eq!(judged(&guard, &intent, bare), Err(missing));
    // What is no table, or is no more: put into the bytes of an honest request.
    let bytes = built_on(&intent, &[first.clone(), second]);
    let at = bytes.windows(first.data.len()).position(|part| part == first.data).expect("it is there");
    let with = |place: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[place] = byte;
        match judged(&guard, &intent, bytes) {
            Err(Refusal::Decode(DecodeError::LookupTable(error))) => error,
            other => panic!("{other:?}"),
        }
    };
    let table = first.address;
    assert_eq!(with(at, 0), TableError::Unreadable { table });
    assert!(matches!(with(at + 4, 0), TableError::Deactivated { table: of, .. } if of == table));
    assert!(matches!(with(at - 3, 7), TableError::NotOwned { table: of, .. } if of == table));
}

/// Nothing but the call that names tables reads any.
#[test]
fn nothing_else_reads_a_table() {
    let (first, second) = (first(), second());
    let guard = guard_with_pins(&[pin(&first, 2), pin(&second, 1)]);
    let intent = through(&[&first, &second]);
    let unsigned = built_on(&intent, &[first, second]);
    for other in [
        pays("sol", "native", SOL_PAYEE, "1000"),
        json!({"wallet": "sol", "action": {"kind": "open_nonce", "index": 0}}),
    ] {
        assert!(matches!(judged(&guard, &other, unsigned.clone()), Err(Refusal::Mismatch(_))), "{other}");
    }
}
