//! Durable nonces: messages under them, the opening of one, what is never signed, and what takes an attempt's place.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain, DecodeError, Replacement};
use chains::effects::{Effects, Upkeep};
use chains::intent::Intent;
use chains::network::Cluster;
use chains::payload::Signature;
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, NONCE_ACCOUNTS, Nonce, State,
    TokenProgram, Unsigned, Validity, nonce_account,
};
use proptest::prelude::*;
use serde_json::Value;
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::hash::Hash;
use solana_sdk::instruction::{AccountMeta, Instruction};
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::transaction::VersionedTransaction;
use solana_system_interface::instruction as system;

use crate::bytes::resolved;
use crate::fixture::{
    CHAIN, LAST_VALID, MINIMUM, Wallet, durable, key, nonce, open_nonce, pay, pay_sol, pay_spl, state, token, transfer,
    under_blockhash, wallet,
};

/// The rent of 80 bytes, in lamports.
const RENT: u64 = 1_447_680;
const FEE: u64 = 5_371;

/// The state in which a nonce account can be opened.
fn opening() -> State {
    let nothing = Destination { lamports: Lamports::new(0), kind: DestinationKind::Absent };
    State { destination: nothing, nonce_rent: Some(Lamports::new(RENT)), ..state() }
}

/// A message under the wallet's nonce with these instructions.
fn message(wallet: &Wallet, nonce: &Nonce, instructions: &[Instruction]) -> VersionedMessage {
    VersionedMessage::Legacy(Message::new_with_blockhash(instructions, Some(&wallet.address()), &nonce.value))
}

fn under(nonce: &Nonce, message: VersionedMessage) -> Result<Unsigned, DecodeError> {
    Unsigned::durable(Cluster::Localnet, message, nonce.origin, nonce.seen_at, Vec::new())
}

// ---- bytes ----

/// Byte for byte what `@solana/web3.js` signs; and what is built here does the same.
#[test]
fn transactions_of_web3_js() {
    let text = include_str!("../../../tests/vectors/solana-nonce.json");
    let all: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let string = |value: &Value| value.as_str().expect("a string").to_owned();
    let number = |value: &Value| string(value).parse::<u64>().expect("a number");
    let secret = hex::decode(string(&all["secret_key"])).expect("hex").try_into().expect("32 bytes");
    let wallet = Wallet::new(secret, Cluster::Localnet);
    let accounts: Vec<String> = (0..NONCE_ACCOUNTS).map(|n| nonce_account(&wallet.address(), n).to_string()).collect();
    assert_eq!(Value::from(accounts), all["accounts"]);

    let rows = all["transactions"].as_array().expect("rows");
    assert_eq!(rows.len(), 8);
    for row in rows {
        let name = format!("{} {}", row["name"], row["version"]);
        let bytes = BASE64_STANDARD.decode(string(&row["transaction"])).expect("base64");
        let found: VersionedTransaction = bincode::deserialize(&bytes).expect("the official crates read it");
        let nonce = Nonce {
            account: nonce_account(&wallet.address(), 3),
            value: string(&all["nonce"]).parse().expect("a hash"),
            origin: string(&all["origin"]).parse().expect("a hash"),
            seen_at: 5,
        };
        let version = if row["version"] == "legacy" { MessageVersion::Legacy } else { MessageVersion::V0 };
        let does = string(&row["does"]);
        let base = State { version, validity: Validity::Nonce(nonce), ..state() };

        let (ours, theirs) = if does == "open" {
            let blockhash: Hash = string(&all["blockhash"]).parse().expect("a hash");
            let state = State { validity: under_blockhash(blockhash), version, ..opening() };
            let ours = CHAIN.build(&open_nonce(3), &wallet.account, &state).expect("possible");
            (ours, Unsigned::new(Cluster::Localnet, found.message.clone(), LAST_VALID, Vec::new()).expect("sound"))
        } else {
            let to: Pubkey = row["to"].as_str().map_or_else(|| key(5), |to| to.parse().expect("an address"));
            let asset: Asset = row["asset"].as_str().map_or(Asset::Native, |asset| asset.parse().expect("an asset"));
            let amount = row["amount"].as_str().map_or(Amount::from_lamports(1), |n| n.parse().expect("an amount"));
            let mut owners = Vec::new();
            let mut state = base;
            if let Asset::Spl(mint) = asset {
                owners.push(to);
                let mut facts = token(mint, TokenProgram::Token, true);
                facts.source_balance = u64::MAX;
                state.token = Some(facts);
            }
            let intent = pay(asset, &to.to_string(), amount);
            let ours = if does == "pay" {
                CHAIN.build(&intent, &wallet.account, &state).expect("possible")
            } else {
                cheap_cancel(&wallet, &intent, &state)
            };
            let message = found.message.clone();
            let theirs = Unsigned::durable(Cluster::Localnet, message, nonce.origin, nonce.seen_at, owners);
            (ours, theirs.expect("sound"))
        };
        assert_eq!(resolved(ours.message()), resolved(theirs.message()), "{name}");
        assert_eq!(ours.message().header(), theirs.message().header(), "{name}");
        assert_eq!(ours.message().recent_blockhash(), theirs.message().recent_blockhash(), "{name}");
        assert_eq!(ours.validity(), theirs.validity(), "{name}");

        let payloads = CHAIN.payloads(&wallet.account, &theirs).expect("the wallet's to sign");
        let signed = CHAIN.assemble(&wallet.account, &theirs, &[wallet.sign(&payloads[0])]).expect("signed");
        assert_eq!(signed.transaction_bytes(), bytes, "{name}");
        assert_eq!(CHAIN.decode_signed(&CHAIN.encode_signed(&signed)).expect("its own encoding"), signed, "{name}");

        let effects = CHAIN.effects(&wallet.account, &theirs).expect("decodable");
        // Implementations order the accounts of a message differently.
        let sorted = |mut effects: Effects| {
            effects.touches.sort();
            effects
        };
        let same = CHAIN.effects(&wallet.account, &ours).expect("decodable");
        assert_eq!(sorted(effects.clone()), sorted(same), "{name}");
        assert_eq!(effects.transfers.len(), usize::from(does == "pay"), "{name}");
        let (upkeep, rent) = match does.as_str() {
            "open" => (Some(Upkeep::OpenNonce { index: 3 }), number(&row["rent"])),
            _ => (None, 0),
        };
        let fee = Amount::from_lamports(number(&all["fee"]) + rent);
        assert_eq!((effects.upkeep, effects.max_fee), (upkeep, fee), "{name}");
    }
}

/// A cancellation at the price of the vectors: what is replaced offered so much less that a tenth more is below it.
fn cheap_cancel(wallet: &Wallet, intent: &Intent, state: &State) -> Unsigned {
    let free = State { compute: ComputeBudget { unit_limit: 1, unit_price: MicroLamports::new(0) }, ..state.clone() };
    let first = CHAIN.build(intent, &wallet.account, &free).expect("possible");
    CHAIN.replace(intent, &wallet.account, &[first], Replacement::Cancel, state).expect("possible")
}

/// The official crate's own way to put a message under a nonce.
#[test]
fn the_sdk_builds_the_same_bytes() {
    let wallet = wallet();
    let nonce = nonce(&wallet, 1);
    let state = State { version: MessageVersion::Legacy, ..durable(&wallet, 1) };
    let ours = CHAIN.build(&pay_sol(key(5), 77), &wallet.account, &state).expect("possible");
    let instructions = vec![
        ComputeBudgetInstruction::set_compute_unit_limit(30_000),
        ComputeBudgetInstruction::set_compute_unit_price(12_345),
        system::transfer(&wallet.address(), &key(5), 77),
    ];
    let own = wallet.address();
    let mut theirs = Message::new_with_nonce(instructions, Some(&own), &nonce.account, &own);
    theirs.recent_blockhash = nonce.value;
    assert_eq!(ours.message_bytes(), theirs.serialize());
}

/// What was frozen in the first format stays readable, and is what is still written under a blockhash.
#[test]
fn the_two_formats() {
    let wallet = wallet();
    let plain = CHAIN.build(&pay_sol(key(5), 1), &wallet.account, &state()).expect("possible");
    let mut first = vec![1, 3];
    first.extend(LAST_VALID.to_le_bytes());
    first.push(0);
    first.extend(plain.message_bytes());
    assert_eq!(CHAIN.encode_unsigned(&plain), first);
    assert_eq!(CHAIN.decode_unsigned(&first).expect("format 1"), plain);

    let nonce = nonce(&wallet, 1);
    let lasting = CHAIN.build(&pay_sol(key(5), 1), &wallet.account, &durable(&wallet, 1)).expect("possible");
    let mut second = vec![2, 3];
    second.extend(900_u64.to_le_bytes());
    second.extend(nonce.origin.to_bytes());
    second.push(0);
    second.extend(lasting.message_bytes());
    assert_eq!(CHAIN.encode_unsigned(&lasting), second);
    assert_eq!(CHAIN.decode_unsigned(&second).expect("format 2"), lasting);
    assert_eq!(lasting.validity(), &Validity::Nonce(nonce));

    for len in 0..second.len() {
        assert!(matches!(CHAIN.decode_unsigned(&second[..len]), Err(DecodeError::Malformed(_))), "{len}");
    }
    // One message can't be said to be of the other kind.
    let rest = |bytes: &[u8], head: usize| bytes[head..].to_vec();
    let as_first = [&first[..10], &rest(&second, 42)].concat();
    let as_second = [&second[..42], &rest(&first, 10)].concat();
    for bytes in [as_first, as_second, [&[3], &second[1..]].concat()] {
        assert!(matches!(CHAIN.decode_unsigned(&bytes), Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn messages_under_one_value_exclude_each_other() {
    let wallet = wallet();
    let slots = |intent: &Intent, state: &State| {
        let built = CHAIN.build(intent, &wallet.account, state).expect("possible");
        CHAIN.slots(&wallet.account, &built)
    };
    let first = slots(&pay_sol(key(5), 1), &durable(&wallet, 1));
    let nonce = nonce(&wallet, 1);
    let expected = format!("solana:localnet/nonce/{}/{}", nonce.account, nonce.value);
    assert_eq!(first.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(first, slots(&pay_sol(key(6), 2), &durable(&wallet, 1)));
    assert!(first.is_disjoint(&slots(&pay_sol(key(5), 1), &durable(&wallet, 2))));
    assert!(first.is_disjoint(&slots(&pay_sol(key(5), 1), &state())));
}

// ---- what is never signed ----

/// The attack that the proof is for: two payments that start by advancing the nonce but are under a recent blockhash would both be
/// included.
#[test]
fn a_blockhash_is_not_taken_for_a_nonce() {
    let wallet = wallet();
    let good = nonce(&wallet, 1);
    let own = wallet.address();
    let instructions = [system::advance_nonce_account(&good.account, &own), system::transfer(&own, &key(5), 1)];
    assert!(under(&good, message(&wallet, &good, &instructions)).is_ok());

    let blockhash = Hash::new_from_array([9; 32]);
    for origin in [good.origin, blockhash, good.value, Hash::default()] {
        let bad = Nonce { value: blockhash, origin, ..good };
        let found = under(&bad, message(&wallet, &bad, &instructions));
        assert!(matches!(found, Err(DecodeError::Malformed(_))), "{found:?}");
    }
    let lying = State { validity: Validity::Nonce(Nonce { value: blockhash, ..good }), ..state() };
    let built = CHAIN.build(&pay_sol(key(5), 1), &wallet.account, &lying);
    assert!(matches!(built, Err(BuildError::Unsupported(_))), "{built:?}");
    // Nor the other way round: it would outlive the height that it is said to be valid to.
    let found = Unsigned::new(Cluster::Localnet, message(&wallet, &good, &instructions), LAST_VALID, Vec::new());
    assert!(matches!(found, Err(DecodeError::Malformed(_))), "{found:?}");
}

#[test]
fn nonces_that_are_not_advanced() {
    let wallet = wallet();
    let own = wallet.address();
    let nonce = nonce(&wallet, 1);
    let advance = system::advance_nonce_account(&nonce.account, &own);
    let pay = system::transfer(&own, &key(5), 1);
    let effects = |instructions: &[Instruction]| {
        let unsigned = under(&nonce, message(&wallet, &nonce, instructions)).expect("a message under a nonce");
        CHAIN.effects(&wallet.account, &unsigned)
    };
    let bend = |change: &dyn Fn(&mut Instruction)| {
        let mut bent = advance.clone();
        change(&mut bent);
        bent
    };
    assert!(effects(&[advance.clone(), pay.clone()]).is_ok(), "the base of what follows");
    let unsigned_stranger = bend(&|i| i.accounts[2] = AccountMeta::new_readonly(key(6), false));
    let strangers = nonce_account(&key(6), 0);
    let cases: Vec<(&str, Vec<Instruction>)> = vec![
        ("some account", vec![system::advance_nonce_account(&key(6), &own), pay.clone()]),
        ("another wallet's", vec![system::advance_nonce_account(&strangers, &own), pay.clone()]),
        ("beyond the indices", vec![system::advance_nonce_account(&nonce_account(&own, 8), &own), pay.clone()]),
        ("the wallet itself", vec![system::advance_nonce_account(&own, &own), pay.clone()]),
        ("another authority", vec![unsigned_stranger, pay.clone()]),
        ("twice", vec![advance.clone(), advance.clone(), pay.clone()]),
        (
            "another one later",
            vec![advance.clone(), pay.clone(), system::advance_nonce_account(&nonce_account(&own, 1), &own)],
        ),
        ("a tail", vec![bend(&|i| i.data.push(0)), pay.clone()]),
        ("another sysvar", vec![bend(&|i| i.accounts[1].pubkey = key(6)), pay.clone()]),
        ("a fourth account", vec![bend(&|i| i.accounts.push(AccountMeta::new(key(6), false))), pay.clone()]),
        ("a withdrawal", vec![advance.clone(), system::withdraw_nonce_account(&nonce.account, &own, &key(6), 1)]),
        ("a new authority", vec![advance.clone(), system::authorize_nonce_account(&nonce.account, &own, &key(6))]),
    ];
    for (name, instructions) in cases {
        let found = effects(&instructions);
        assert!(matches!(found, Err(DecodeError::Undecodable(_))), "{name}: {found:?}");
    }
    // Under a blockhash, not first, it advances as well: nobody asked for that.
    let later = [pay, advance];
    let unsigned = crate::fixture::unsigned(crate::fixture::legacy(&own, &later), Vec::new());
    assert!(matches!(CHAIN.effects(&wallet.account, &unsigned), Err(DecodeError::Undecodable(_))));
}

/// Somebody else's transaction advances the nonce by its own authority.
#[test]
fn a_stranger_does_not_sign_for_the_nonce() {
    let wallet = wallet();
    let nonce = nonce(&wallet, 1);
    let instructions =
        [system::advance_nonce_account(&nonce.account, &key(6)), system::transfer(&wallet.address(), &key(5), 1)];
    let unsigned = under(&nonce, message(&wallet, &nonce, &instructions)).expect("a message under a nonce");
    assert!(matches!(CHAIN.effects(&wallet.account, &unsigned), Err(DecodeError::WrongAccount(_))), "both sign");
}

// ---- opening ----

#[test]
fn a_nonce_account_is_opened() {
    let wallet = wallet();
    for index in 0..NONCE_ACCOUNTS {
        let mut intent = open_nonce(index);
        intent.max_fee = Some(Amount::from_lamports(FEE + RENT));
        let built = CHAIN.build(&intent, &wallet.account, &opening()).expect("possible");
        let effects = CHAIN.effects(&wallet.account, &built).expect("decodable");
        assert_eq!(effects.upkeep, Some(Upkeep::OpenNonce { index }));
        assert_eq!(effects.max_fee, Amount::from_lamports(FEE + RENT));
        assert!(effects.transfers.is_empty() && effects.allowances.is_empty() && effects.calls.is_empty());
        let opened = chains::address::Address::Solana(nonce_account(&wallet.address(), index));
        assert!(effects.touches.contains(&opened));
        assert_eq!(
            CHAIN.payloads(&wallet.account, &built).map(|payloads| payloads.len()),
            Ok(1),
            "the wallet alone signs"
        );

        intent.max_fee = Some(Amount::from_lamports(FEE + RENT - 1));
        let refused = CHAIN.build(&intent, &wallet.account, &opening());
        assert!(matches!(refused, Err(BuildError::FeeAboveCap { .. })), "{refused:?}");
    }
    let json = serde_json::to_value(open_nonce(3).action).expect("JSON");
    assert_eq!(json, serde_json::json!({ "kind": "open_nonce", "index": 3 }));
}

#[test]
fn nonce_accounts_that_are_not_opened() {
    let wallet = wallet();
    let there =
        |lamports, kind| State { destination: Destination { lamports: Lamports::new(lamports), kind }, ..opening() };
    let cases = [
        ("beyond the indices", 8, opening()),
        ("there already", 0, there(RENT, DestinationKind::Wallet)),
        ("somebody sent lamports there", 0, there(1, DestinationKind::Wallet)),
        ("no rent told", 0, State { nonce_rent: None, ..opening() }),
        ("a dear cluster", 0, State { nonce_rent: Some(Lamports::new(RENT + 1)), ..opening() }),
        ("under a nonce", 0, State { validity: durable(&wallet, 1).validity, ..opening() }),
    ];
    for (name, index, state) in cases {
        let found = CHAIN.build(&open_nonce(index), &wallet.account, &state);
        assert!(matches!(found, Err(BuildError::Unsupported(_))), "{name}: {found:?}");
    }
    let poor = State { balance: Lamports::new(RENT + FEE - 1), ..opening() };
    let found = CHAIN.build(&open_nonce(0), &wallet.account, &poor);
    assert!(matches!(found, Err(BuildError::InsufficientFunds { .. })), "{found:?}");
}

#[test]
fn openings_that_are_never_signed() {
    let wallet = wallet();
    let (own, other) = (wallet.address(), key(6));
    let account = nonce_account(&own, 2);
    let seed = "portcullis-nonce-2";
    let open = |nonce: &Pubkey, base: &Pubkey, seed: &str, authority: &Pubkey, lamports| {
        system::create_nonce_account_with_seed(&own, nonce, base, seed, authority, lamports)
    };
    let good = open(&account, &own, seed, &own, RENT);
    let effects = |instructions: &[Instruction]| -> Result<Effects, DecodeError> {
        CHAIN
            .effects(&wallet.account, &crate::fixture::unsigned(crate::fixture::legacy(&own, instructions), Vec::new()))
    };
    assert_eq!(effects(&good).expect("decodable").upkeep, Some(Upkeep::OpenNonce { index: 2 }));
    let fee = |lamports| effects(&open(&account, &own, seed, &own, lamports)).expect("decodable").max_fee;
    assert_eq!(fee(7), Amount::from_lamports(5_000 + 7), "what the bytes say, not what is usual");

    let create =
        |space, owner: &Pubkey| system::create_account_with_seed(&own, &account, &own, seed, RENT, space, owner);
    let [creation, initialization] = good.as_slice() else { panic!("two instructions") };
    let system_program = Pubkey::default();
    let bend = |instruction: &Instruction, change: &dyn Fn(&mut Instruction)| {
        let mut bent = instruction.clone();
        change(&mut bent);
        bent
    };
    let mut foreign_base = creation.clone();
    foreign_base.data[4..36].copy_from_slice(other.as_ref());
    let third = nonce_account(&own, 3);
    let cases: Vec<(&str, Vec<Instruction>)> = vec![
        ("another seed", open(&account, &own, "portcullis-nonce-3", &own, RENT)),
        ("an unknown seed", {
            let other = Pubkey::create_with_seed(&own, "savings", &system_program).expect("a short seed");
            open(&other, &own, "savings", &own, RENT)
        }),
        ("an index in another spelling", {
            let other = Pubkey::create_with_seed(&own, "portcullis-nonce-02", &system_program).expect("a short seed");
            open(&other, &own, "portcullis-nonce-02", &own, RENT)
        }),
        ("another account", open(&other, &own, seed, &own, RENT)),
        ("another base", vec![foreign_base, initialization.clone()]),
        ("another authority", open(&account, &own, seed, &other, RENT)),
        ("more than the rent", open(&account, &own, seed, &own, RENT + 1)),
        ("a longer account", vec![create(81, &system_program), initialization.clone()]),
        ("an account of another program", vec![create(80, &other), initialization.clone()]),
        ("not initialized", vec![creation.clone()]),
        ("only initialized", vec![initialization.clone()]),
        ("initialized first", vec![initialization.clone(), creation.clone()]),
        ("initialized twice", vec![creation.clone(), initialization.clone(), initialization.clone()]),
        ("another one initialized", vec![creation.clone(), bend(initialization, &|i| i.accounts[0].pubkey = third)]),
        ("another sysvar", vec![creation.clone(), bend(initialization, &|i| i.accounts[1].pubkey = other)]),
        ("another rent", vec![creation.clone(), bend(initialization, &|i| i.accounts[2].pubkey = other)]),
        ("a tail", vec![bend(creation, &|i| i.data.push(0)), initialization.clone()]),
        ("another tail", vec![creation.clone(), bend(initialization, &|i| i.data.push(0))]),
        ("a seed that runs out", vec![bend(creation, &|i| i.data[36] = 0xff), initialization.clone()]),
        ("and a payment", [good.as_slice(), &[system::transfer(&own, &other, 1)]].concat()),
        ("a payment and", [&[system::transfer(&own, &other, 1)], good.as_slice()].concat()),
        ("two of them", [good.clone(), open(&third, &own, "portcullis-nonce-3", &own, RENT)].concat()),
        ("without a seed", system::create_nonce_account(&own, &account, &own, RENT)),
    ];
    for (name, instructions) in cases {
        let found = std::panic::catch_unwind(|| effects(&instructions)).unwrap_or_else(|_| panic!("{name}"));
        let refused = matches!(found, Err(DecodeError::Undecodable(_) | DecodeError::WrongAccount(_)));
        assert!(refused, "{name}: {found:?}");
    }
    // Under a nonce it would be more than an opening.
    let nonce = nonce(&wallet, 1);
    let instructions = [&[system::advance_nonce_account(&nonce.account, &own)], good.as_slice()].concat();
    let unsigned = under(&nonce, message(&wallet, &nonce, &instructions)).expect("a message under a nonce");
    assert!(matches!(CHAIN.effects(&wallet.account, &unsigned), Err(DecodeError::Undecodable(_))));
}

// ---- replacement ----

fn offer(unsigned: &Unsigned) -> (u32, u64) {
    let data = |kind: u8| {
        let instructions = unsigned.message().instructions().iter();
        let mut found = instructions.filter(|i| i.data.first() == Some(&kind) && i.accounts.is_empty());
        found.next().expect("a budget").data[1..].to_vec()
    };
    let limit = u32::from_le_bytes(data(2).try_into().expect("4 bytes"));
    (limit, u64::from_le_bytes(data(3).try_into().expect("8 bytes")))
}

fn at(state: &State, unit_limit: u32, price: u64) -> State {
    State { compute: ComputeBudget { unit_limit, unit_price: MicroLamports::new(price) }, ..state.clone() }
}

#[test]
fn a_payment_is_sped_up_and_cancelled() {
    let wallet = wallet();
    let account = &wallet.account;
    let intent = pay_sol(key(5), 77);
    let base = durable(&wallet, 1);
    let first = CHAIN.build(&intent, account, &at(&base, 1_000, 100)).expect("possible");
    let slots = CHAIN.slots(account, &first);

    let second =
        CHAIN.replace(&intent, account, std::slice::from_ref(&first), Replacement::SpeedUp, &at(&base, 900, 0));
    let second = second.expect("possible");
    assert_eq!(offer(&second), (1_000, 110), "a tenth more, for as many units");
    let third =
        CHAIN.replace(&intent, account, &[first.clone(), second.clone()], Replacement::SpeedUp, &at(&base, 2_000, 500));
    let third = third.expect("possible");
    assert_eq!(offer(&third), (2_000, 500), "the market's price");
    let previous = [first.clone(), second.clone(), third.clone()];
    let cancel = CHAIN.replace(&intent, account, &previous, Replacement::Cancel, &at(&base, 300, 0)).expect("possible");
    assert_eq!(offer(&cancel), (2_000, 550));
    // What was cancelled may be cancelled faster.
    let previous = [first.clone(), second.clone(), third.clone(), cancel.clone()];
    let again =
        CHAIN.replace(&intent, account, &previous, Replacement::Cancel, &at(&base, 300, 551)).expect("possible");
    assert_eq!(offer(&again), (2_000, 605));

    let mut ids = BTreeSet::new();
    for (unsigned, pays) in [(&first, true), (&second, true), (&third, true), (&cancel, false), (&again, false)] {
        assert_eq!(CHAIN.slots(account, unsigned), slots);
        let effects = CHAIN.effects(account, unsigned).expect("decodable");
        let expected = if pays { transfer(&wallet, Asset::Native, key(5), 77) } else { Vec::new() };
        assert_eq!((effects.transfers, effects.upkeep), (expected, None));
        assert!(effects.calls.is_empty() && effects.allowances.is_empty());
        ids.insert(unsigned.message_bytes());
    }
    assert_eq!(ids.len(), 5, "each is another message");
    assert_eq!(cancel.message().instructions().len(), 3, "it advances, and says what it offers");
}

#[test]
fn what_is_not_replaced() {
    let wallet = wallet();
    let account = &wallet.account;
    let intent = pay_sol(key(5), MINIMUM);
    let under_hash = CHAIN.build(&intent, account, &state()).expect("possible");
    let lasting = CHAIN.build(&intent, account, &durable(&wallet, 1)).expect("possible");
    let elsewhere = CHAIN.build(&intent, account, &durable(&wallet, 2)).expect("possible");
    let dear = CHAIN.build(
        &intent,
        account,
        &at(&State { balance: Lamports::new(u64::MAX), ..durable(&wallet, 1) }, 0, u64::MAX),
    );
    let moved = State {
        validity: Validity::Nonce(Nonce { account: nonce_account(&wallet.address(), 1), ..nonce(&wallet, 1) }),
        ..state()
    };
    for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
        let refused = |previous: &[Unsigned], state: &State| {
            let found = CHAIN.replace(&intent, account, previous, purpose, state);
            assert!(matches!(found, Err(BuildError::NotReplaceable(_))), "{found:?}");
        };
        refused(std::slice::from_ref(&under_hash), &state());
        refused(std::slice::from_ref(&under_hash), &durable(&wallet, 1));
        refused(&[lasting.clone(), under_hash.clone()], &durable(&wallet, 1));
        refused(&[lasting.clone(), elsewhere.clone()], &durable(&wallet, 1));
        refused(&[], &durable(&wallet, 1));
        refused(std::slice::from_ref(&lasting), &state());
        refused(std::slice::from_ref(&lasting), &durable(&wallet, 2));
        refused(std::slice::from_ref(&lasting), &moved);
        refused(&[dear.clone().expect("no units cost nothing")], &durable(&wallet, 1));
    }
}

#[test]
fn the_cap_holds_for_replacements() {
    let wallet = wallet();
    let account = &wallet.account;
    let base = durable(&wallet, 1);
    // 10 000 units at 1 lamport each, and the signature.
    let first = CHAIN.build(&pay_sol(key(5), 77), account, &at(&base, 10_000, 1_000_000)).expect("possible");
    for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
        let mut intent = pay_sol(key(5), 77);
        let replace = |intent: &Intent, market| {
            CHAIN.replace(intent, account, std::slice::from_ref(&first), purpose, &at(&base, 500, market))
        };
        intent.max_fee = Some(Amount::from_lamports(5_000 + 11_000));
        // The market's price doesn't fit under the cap; a tenth more does.
        assert_eq!(offer(&replace(&intent, 9_000_000).expect("possible")), (10_000, 1_100_000));
        intent.max_fee = Some(Amount::from_lamports(5_000 + 10_999));
        let (fee, cap) = (Amount::from_lamports(16_000), Amount::from_lamports(15_999));
        for market in [0, 9_000_000] {
            assert_eq!(replace(&intent, market), Err(BuildError::FeeAboveCap { fee, cap }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was offered before and whatever the market asks, a replacement excludes every earlier attempt, offers at least a
    /// tenth more than each for a unit and more in all, and does the payment or nothing.
    #[test]
    fn replacements(
        offers in proptest::collection::vec((1..=1_400_000_u32, 0..=1_000_000_000_u64), 1..5),
        market in (1..=1_400_000_u32, 0..=2_000_000_000_u64),
        spl: bool,
        cancels: bool,
    ) {
        let wallet = wallet();
        let account = &wallet.account;
        let mut base = State { balance: Lamports::new(u64::MAX), ..durable(&wallet, 1) };
        base.token = Some(token(key(3), TokenProgram::Token, true));
        let intent = if spl { pay_spl(key(3), key(5), 7) } else { pay_sol(key(5), 7) };
        let build = |(limit, price): &(u32, u64)| CHAIN.build(&intent, account, &at(&base, *limit, *price));
        let previous: Vec<Unsigned> = offers.iter().map(|offer| build(offer).expect("possible")).collect();
        let purpose = if cancels { Replacement::Cancel } else { Replacement::SpeedUp };
        let built = CHAIN.replace(&intent, account, &previous, purpose, &at(&base, market.0, market.1)).expect("possible");

        let read = CHAIN.decode_unsigned(&CHAIN.encode_unsigned(&built)).expect("its own encoding");
        let effects = CHAIN.effects(account, &read).expect("decodable");
        let (_, price) = offer(&read);
        prop_assert!(price >= market.1);
        for earlier in &previous {
            prop_assert_eq!(CHAIN.slots(account, &read), CHAIN.slots(account, earlier));
            let before = CHAIN.effects(account, earlier).expect("decodable");
            prop_assert!(u128::from(price) * 10 >= u128::from(offer(earlier).1) * 11);
            prop_assert!(effects.max_fee >= before.max_fee);
            prop_assert_ne!(read.message_bytes(), earlier.message_bytes());
            prop_assert_eq!(effects.transfers.is_empty(), cancels);
            if !cancels {
                prop_assert_eq!(&effects.transfers, &before.transfers);
            }
        }
    }

    /// Bent bytes under a nonce are refused, or they are another message, whose own effects are told.
    #[test]
    fn bent_bytes(at: proptest::sample::Index, with: u8, cut: bool) {
        let wallet = wallet();
        let built = CHAIN.build(&pay_sol(key(5), 7), &wallet.account, &durable(&wallet, 1)).expect("possible");
        let before = CHAIN.effects(&wallet.account, &built).expect("decodable");
        let original = CHAIN.encode_unsigned(&built);
        let mut bytes = original.clone();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        match CHAIN.decode_unsigned(&bytes) {
            Ok(read) => {
                prop_assert_eq!(CHAIN.encode_unsigned(&read), bytes.clone());
                if let Ok(effects) = CHAIN.effects(&wallet.account, &read) {
                    // Under the same value at most one of the two is included; under another, the bytes say so.
                    let same = CHAIN.slots(&wallet.account, &read) == CHAIN.slots(&wallet.account, &built);
                    prop_assert!(same || read.validity() != built.validity());
                    if bytes == original { prop_assert_eq!(effects, before); }
                }
                if let Ok(payloads) = CHAIN.payloads(&wallet.account, &read) {
                    let signature = wallet.sign(&payloads[0]);
                    let signed = CHAIN.assemble(&wallet.account, &read, &[signature]).expect("signed");
                    prop_assert_eq!(CHAIN.decode_signed(&CHAIN.encode_signed(&signed)).expect("its own encoding"), signed);
                }
            }
            Err(_) => prop_assert_ne!(bytes, original),
        }
    }
}

#[test]
fn a_signed_one_keeps_its_head() {
    let wallet = wallet();
    let built = CHAIN.build(&pay_sol(key(5), 7), &wallet.account, &durable(&wallet, 1)).expect("possible");
    let payloads = CHAIN.payloads(&wallet.account, &built).expect("the wallet's");
    let signed = CHAIN.assemble(&wallet.account, &built, &[wallet.sign(&payloads[0])]).expect("signed");
    assert_eq!(signed.validity(), built.validity());
    let bytes = CHAIN.encode_signed(&signed);
    assert_eq!(bytes[..2], [2, 3]);
    assert_eq!(CHAIN.decode_signed(&bytes).expect("its own encoding"), signed);
    // The slot may be another; the blockhash that proves the value, and all that is signed, may not.
    for at in (0..2).chain(10..bytes.len()) {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(CHAIN.decode_signed(&bent).is_err(), "byte {at}");
    }
    assert!(matches!(wallet.sign(&payloads[0]), Signature::Ed25519(_)));
}
