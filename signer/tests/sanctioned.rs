//! A sanctioned address in every position of what is decoded, in every valid spelling: the signers' own policy denies it, and the
//! gateway's lists, which compare the same names, find it. Ethereum's positions are in `chains/tests/ethereum/decode.rs`.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::absolute::{Height, LockTime};
use bitcoin::transaction::Version;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::bitcoin::Bitcoin;
use chains::chain::Chain;
use chains::effects::Effects;
use chains::holder::Holder;
use chains::intent::Intent;
use chains::network::{BitcoinNetwork, Cluster, Family, Network};
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, Solana, TableAccount,
    TokenProgram, TokenState, Validity, associated_token_account,
};
use serde_json::{Value, json};
use signer::policy::{Circumstances, Denial, Policy, PolicyConfig, Verdict, evaluate};

const LISTED: &str = "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi";
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
const ASSOCIATED: &str = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL";
const LOOKUP: &str = "AddressLookupTab1e1111111111111111111111111";
const SYSTEM: &str = "11111111111111111111111111111111";
const UNKNOWN: &str = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4";

fn account(wallet: &str, network: Network) -> Account {
    let key = match network {
        Network::Solana(_) => PublicKey::Ed25519([7; 32]),
        _ => PublicKey::Ecdsa(
            "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().expect("a point"),
        ),
    };
    let (wallet, held) = (wallet.parse().expect("a name"), "key".parse().expect("a name"));
    Account::new(wallet, network, held, KeyPath::root(), key).expect("an account")
}

/// A policy that lets the wallet do all that the tests do, but for one listed address.
fn policy(account: &Account, listed: &str) -> Policy {
    let config: PolicyConfig =
        serde_json::from_value(json!({ "denied_addresses": [listed], "rules": [] })).expect("the policy's form");
    let wallets: BTreeMap<WalletId, Network> = [(account.wallet().clone(), account.network())].into();
    config.compile(&wallets).expect("a sound policy")
}

/// What a signer's policy and a gateway's list say to the effects, where `listed` is listed.
fn is_blocked(account: &Account, effects: &Effects, listed: &str) -> bool {
    let initiator = "trader".parse().expect("a name");
    let verdict = evaluate(&policy(account, listed), account, &Circumstances { initiator: &initiator, at: 0 }, effects);
    let denied = matches!(verdict, Verdict::Deny { reason: Denial::DeniedAddress { .. }, .. });
    // A list keeps the fingerprints of the names of its entries.
    let entry = Holder::read(&UncheckedAddress::new(listed), account.network().family()).expect("an address");
    let names: BTreeSet<u128> = Holder::names(&entry).iter().map(Holder::fingerprint).collect();
    let found =
        effects.parties().any(|party| Holder::names(&party).iter().any(|name| names.contains(&name.fingerprint())));
    assert_eq!(denied, found, "gateway and signer agree");
    denied
}

fn key(text: &str) -> Address {
    UncheckedAddress::new(text).require_network(Network::Solana(Cluster::Localnet)).expect("an address")
}

fn bytes(text: &str) -> String {
    match key(text) {
        Address::Solana(key) => hex::encode(key.to_bytes()),
        other => panic!("{other}"),
    }
}

fn token_account(owner: &str) -> String {
    match (key(owner), key(MINT)) {
        (Address::Solana(owner), Address::Solana(mint)) => {
            associated_token_account(&owner, &mint, TokenProgram::Token).to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn solana() -> Account {
    account("sol", Network::Solana(Cluster::Localnet))
}

fn instruction(program: &str, accounts: &[&str], data: &str) -> Value {
    let accounts: Vec<Value> = accounts.iter().map(|address| json!({ "address": address, "writable": true })).collect();
    json!({ "program": program, "accounts": accounts, "data": format!("0x{data}") })
}

/// What the intent's message does. `owners` are what a node tells of token accounts.
fn effects_of(action: &Value, owners: &[&str], exists: bool) -> Effects {
    effects_with(action, owners, exists, Vec::new())
}

/// The same by way of lookup tables.
fn effects_with(action: &Value, owners: &[&str], exists: bool, tables: Vec<TableAccount>) -> Effects {
    let intent: Intent = serde_json::from_value(json!({ "wallet": "sol", "action": action })).expect("an intent");
    let Address::Solana(mint) = key(MINT) else { panic!("a mint") };
    let state = chains::solana::State {
        validity: Validity::Blockhash { blockhash: Default::default(), last_valid_block_height: 9 },
        balance: Lamports::new(1_000_000_000),
        rent_exempt_minimum: Lamports::new(890_880),
        destination: Destination { lamports: Lamports::new(1_000_000_000), kind: DestinationKind::Wallet },
        token: Some(TokenState {
            mint,
            program: TokenProgram::Token,
            decimals: 6,
            source_balance: 1_000,
            destination_exists: exists,
            account_rent: Lamports::new(2_039_280),
        }),
        owners: owners
            .iter()
            .map(|owner| match key(owner) {
                Address::Solana(owner) => owner,
                other => panic!("{other}"),
            })
            .collect(),
        tables,
        nonce_rent: None,
        compute: ComputeBudget { unit_limit: 200_000, unit_price: MicroLamports::new(1) },
        version: MessageVersion::V0,
    };
    let chain = Solana::new(Cluster::Localnet);
    let unsigned = chain.build(&intent, &solana(), &state).unwrap_or_else(|error| panic!("{action}: {error}"));
    // What is signed is read back from its bytes.
    let unsigned = chain.decode_unsigned(&chain.encode_unsigned(&unsigned)).expect("its own encoding");
    chain.effects(&solana(), &unsigned).expect("decodable")
}

/// A call that reads an account from a lookup table.
fn by_table(table: &str, entry: &str) -> Effects {
    let [Address::Solana(address), Address::Solana(entry), Address::Solana(owner)] = [table, entry, LOOKUP].map(key)
    else {
        panic!("addresses of Solana")
    };
    let head = [&1_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes(), &[0; 44]].concat();
    let data = [head, entry.to_bytes().to_vec()].concat();
    let call = instruction(UNKNOWN, &[&solana().address().to_string(), &entry.to_string()], "0102");
    let action = json!({ "kind": "call_program", "instructions": [call], "lookup_tables": [table] });
    effects_with(&action, &[], true, vec![TableAccount { address, owner, data }])
}

/// Every position of an address, with the effects of a message that has `x` there.
fn positions(x: &str) -> Vec<(&'static str, Effects)> {
    let own = solana().address().to_string();
    let (own_tokens, their_tokens) = (token_account(&own), token_account(x));
    let calls = |instructions: &[Value]| json!({ "kind": "call_program", "instructions": instructions });
    let one = |program: &str, accounts: &[&str], data: &str| {
        effects_of(&calls(&[instruction(program, accounts, data)]), &[], true)
    };
    let pays = |asset: &str, exists| {
        effects_of(&json!({ "kind": "transfer", "asset": asset, "to": x, "amount": "5" }), &[], exists)
    };
    let memo = instruction("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr", &[], "6869");
    let (spl, five, seed) = (format!("spl:{MINT}"), "0500000000000000", "0400000000000000746578740a00000000000000");
    let create = instruction(ASSOCIATED, &[&own, &their_tokens, x, MINT, SYSTEM, TOKEN], "01");
    let fresh = [&bytes(&own)[..], seed].concat();
    vec![
        ("transfer.lamports", pays("native", true)),
        ("transfer.tokens", pays(&spl, true)),
        ("transfer.tokens.created", pays(&spl, false)),
        (
            "transfer.of.mint",
            effects_of(
                &calls(&[instruction(TOKEN, &[&token_account_of(&own, x), x, &own], "0f050000000000000006")]),
                &[],
                true,
            ),
        ),
        (
            "transfer.in.call",
            effects_of(&calls(&[instruction(SYSTEM, &[&own, x], "020000000500000000000000"), memo.clone()]), &[], true),
        ),
        ("create.owner", effects_of(&calls(&[create.clone(), memo.clone()]), &[], true)),
        ("approve.delegate", one(TOKEN, &[&own_tokens, MINT, x, &own], &format!("0d{five}06"))),
        ("close.destination", one(TOKEN, &[&own_tokens, x, &own], "09")),
        ("authority.new", one(TOKEN, &[MINT, &own], &format!("060001{}", bytes(x)))),
        ("authority.of", one(TOKEN, &[x, &own], "060000")),
        ("mint.authority", one(TOKEN, &[MINT], &format!("1406{}00", bytes(x)))),
        ("mint.freezer", one(TOKEN, &[MINT], &format!("1406{}01{}", bytes(&own), bytes(x)))),
        ("mint.to.account", one(TOKEN, &[MINT, x, &own], &format!("07{five}"))),
        (
            "mint.to.owner",
            effects_of(
                &calls(&[create, instruction(TOKEN, &[MINT, &their_tokens, &own], &format!("07{five}"))]),
                &[],
                true,
            ),
        ),
        ("account.owner", one(TOKEN, &[PAYEE, MINT], &format!("12{}", bytes(x)))),
        ("freeze", one(TOKEN, &[x, MINT, &own], "0a")),
        ("table", one(LOOKUP, &[x, &own], "03000000")),
        ("table.authority", one(LOOKUP, &[PAYEE, x, &own, SYSTEM], &format!("00000000{five}ff"))),
        ("table.extended", one(LOOKUP, &[PAYEE, &own], &format!("020000000100000000000000{}", bytes(x)))),
        ("table.closed", one(LOOKUP, &[PAYEE, &own, x], "04000000")),
        ("seed.allocated", one(SYSTEM, &[PAYEE, &own], &format!("09000000{fresh}{}", bytes(x)))),
        (
            "seed.assigned",
            one(SYSTEM, &[PAYEE, &own], &format!("0a000000{}{}{}", bytes(&own), "040000000000000074657874", bytes(x))),
        ),
        ("call.program", one(x, &[&own], "0102")),
        ("call.first", one(UNKNOWN, &[x, &own], "0102")),
        ("call.last", one(UNKNOWN, &[&own, PAYEE, MINT, SYSTEM, x], "0102")),
        (
            "call.second",
            effects_of(
                &calls(&[instruction(UNKNOWN, &[&own], "01"), instruction(UNKNOWN, &[&own, x], "02")]),
                &[],
                true,
            ),
        ),
        ("call.by table", by_table(PAYEE, x)),
        ("call.table", by_table(x, PAYEE)),
        ("call.token account", effects_of(&calls(&[instruction(UNKNOWN, &[&own, &their_tokens], "01")]), &[x], true)),
    ]
}

fn token_account_of(owner: &str, mint: &str) -> String {
    match (key(owner), key(mint)) {
        (Address::Solana(owner), Address::Solana(mint)) => {
            associated_token_account(&owner, &mint, TokenProgram::Token).to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_hides_in_a_solana_message() {
    for (position, effects) in positions(LISTED) {
        assert!(is_blocked(&solana(), &effects, LISTED), "{position}");
        assert!(
            !is_blocked(&solana(), &effects, "Vote111111111111111111111111111111111111111"),
            "{position}: somebody else"
        );
    }
    // A token account may be listed itself.
    let tokens = token_account(LISTED);
    for (position, effects) in positions(LISTED) {
        let names_it = position.starts_with("transfer.tokens") || position == "call.token account";
        assert!(!names_it || is_blocked(&solana(), &effects, &tokens), "{position}");
    }
    // The wallet itself may be listed.
    let own = solana().address().to_string();
    let (_, effects) = positions(PAYEE).remove(0);
    assert!(is_blocked(&solana(), &effects, &own));
}

#[test]
fn what_only_looks_like_an_address_is_none() {
    let lower = LISTED.to_ascii_lowercase();
    for (family, texts) in [
        (
            Family::Solana,
            vec![
                &LISTED[1..],
                "0vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi",
                "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi1",
                &*lower,
            ],
        ),
        (
            Family::Bitcoin,
            vec![
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", // a wrong checksum
                "bc1qW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", // mixed case
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", // bech32m for version 0 (BIP-350)
                "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", // bech32 for version 1
                "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMG",
                "3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLM",
            ],
        ),
        (
            Family::Ethereum,
            vec![
                "0x098B716B8Aaf21512996dC57EB0615e2383E2f97",
                "0x098b716B8Aaf21512996dC57EB0615e2383E2f96", // one letter in the other case (EIP-55)
                "0x098B716B8Aaf21512996dC57EB0615e2383E2f9",
            ],
        ),
    ] {
        for text in texts {
            let read = Holder::read(&UncheckedAddress::new(text), family);
            let same = read.as_ref().is_some_and(|read| read.to_string() == LISTED);
            assert!(read.is_none() || (family == Family::Solana && !same), "{text}");
        }
    }
}

/// The holder of one key (BIP-173's example), in every spelling that there is of it.
const TWINS: [&str; 6] = [
    "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
    "BCRT1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KYGT080",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH",
    "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r",
    "3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLN",
];

fn bitcoin() -> Account {
    account("btc", Network::Bitcoin(BitcoinNetwork::Regtest))
}

fn pays_bitcoin(to: &str) -> Effects {
    let account = bitcoin();
    let Address::Bitcoin(own) = account.address() else { panic!("a Bitcoin account") };
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::from_bytes(vec![0x51]),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = TxOut { value: bitcoin::Amount::from_sat(90_000), script_pubkey: own.script_pubkey() };
    let previous =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: vec![output] };
    let state = chains::bitcoin::State {
        utxos: vec![chains::bitcoin::Utxo::new(Arc::new(previous), 0, 6).expect("an output")],
        fee_rate: FeeRate::from_sat_per_vb(2).expect("a rate"),
        max_fee_rate: FeeRate::from_sat_per_vb(500).expect("a rate"),
        tip: Height::from_consensus(100).expect("a height"),
        waiting: chains::bitcoin::Waiting::Untouched,
    };
    let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": "30000" });
    let intent: Intent = serde_json::from_value(json!({ "wallet": "btc", "action": action })).expect("an intent");
    let chain = Bitcoin::new(BitcoinNetwork::Regtest);
    let unsigned = chain.build(&intent, &account, &state).unwrap_or_else(|error| panic!("{to}: {error}"));
    let unsigned = chain.decode_unsigned(&chain.encode_unsigned(&unsigned)).expect("its own encoding");
    chain.effects(&account, &unsigned).expect("decodable")
}

#[test]
fn a_key_is_blocked_under_every_name_on_bitcoin() {
    let paid = [
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "BCRT1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KYGT080",
        "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r",
        "2NAUYAHhujozruyzpsFRP63mbrdaU5wnEpN",
    ];
    for to in paid {
        let effects = pays_bitcoin(to);
        for listed in TWINS {
            // A script's hash doesn't say which key is in it: nested, only the list's own spelling or the key's names tell.
            let tells = !listed.starts_with('3') || !to.starts_with('m');
            assert!(!tells || is_blocked(&bitcoin(), &effects, listed), "{to} with {listed} listed");
        }
        assert!(!is_blocked(&bitcoin(), &effects, "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"));
    }
    for (to, listed) in [
        (
            "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        ),
        (
            "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6",
            "BC1P0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQZK5JJ0",
        ),
    ] {
        assert!(is_blocked(&bitcoin(), &pays_bitcoin(to), listed), "{to} with {listed} listed");
    }
    let own = bitcoin().address().to_string();
    assert!(is_blocked(&bitcoin(), &pays_bitcoin(paid[0]), &own), "the wallet itself");
}
