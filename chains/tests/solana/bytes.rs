//! Bytes against other implementations, and from the intent to the bytes and back.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{Chain, DecodeError};
use chains::effects::Transfer;
use chains::network::{Cluster, Network};
use chains::payload::Signature;
use chains::solana::{
    ComputeBudget, Lamports, MessageVersion, MicroLamports, Solana, State, TokenProgram, Unsigned, Validity,
};
use proptest::prelude::*;
use serde_json::Value;
use solana_sdk::hash::Hash;
use solana_sdk::instruction::Instruction;
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::transaction::VersionedTransaction;

use crate::fixture::{
    CHAIN, LAST_VALID, Wallet, account, key, legacy, pay, pay_sol, pay_spl, state, token, transfer, under_blockhash,
    unsigned, wallet,
};

fn vectors(text: &str) -> (Value, Vec<Value>) {
    let vectors: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let rows = vectors["transactions"].as_array().expect("a list of transactions").clone();
    (vectors, rows)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    text(value).parse().expect("well formed")
}

fn transaction(row: &Value) -> (Vec<u8>, VersionedTransaction) {
    let bytes = BASE64_STANDARD.decode(text(&row["transaction"])).expect("base64");
    let transaction = bincode::deserialize(&bytes).expect("the official crates read it");
    (bytes, transaction)
}

fn signature(transaction: &VersionedTransaction) -> Signature {
    Signature::Ed25519(*transaction.signatures[0].as_array())
}

#[test]
fn transactions_that_are_on_chain() {
    let (_, rows) = vectors(include_str!("../../../tests/vectors/solana-onchain.json"));
    assert_eq!(rows.len(), 2);
    for row in rows {
        let (bytes, found) = transaction(&row);
        let payer: Pubkey = parse(&row["payer"]);
        let account = account(payer.to_bytes(), Cluster::Localnet);
        let unsigned = unsigned(found.message.clone(), Vec::new());
        assert_eq!(unsigned.message_bytes(), bytes[65..]);

        let signed = CHAIN.assemble(&account, &unsigned, &[signature(&found)]).expect("the cluster took it");
        assert_eq!(signed.transaction_bytes(), bytes);
        assert_eq!(CHAIN.id(&signed).as_str(), text(&row["id"]));

        let effects = CHAIN.effects(&account, &unsigned);
        if row["asset"].is_null() {
            assert!(matches!(effects, Err(DecodeError::Undecodable(why)) if why.contains("nothing proves who owns")));
        } else {
            let effects = effects.expect("decodable");
            let to: Pubkey = parse(&row["to"]);
            let expected = Transfer {
                asset: parse(&row["asset"]),
                from: Address::Solana(payer),
                to: Address::Solana(to),
                amount: parse(&row["amount"]),
            };
            assert_eq!((effects.transfers, effects.max_fee), (vec![expected], parse(&row["max_fee"])));
        }
    }
}

/// Byte for byte what `@solana/web3.js` signs; and what is built here does the same.
#[test]
fn transactions_of_web3_js() {
    let (all, rows) = vectors(include_str!("../../../tests/vectors/solana-web3js.json"));
    assert_eq!(rows.len(), 10);
    let secret = hex::decode(text(&all["secret_key"])).expect("hex").try_into().expect("32 bytes");
    let wallet = Wallet::new(secret, Cluster::Localnet);
    assert_eq!(wallet.address(), parse(&all["payer"]));
    let fee: Amount = parse(&all["fee"]);

    for row in rows {
        let name = format!("{} {}", row["name"], row["version"]);
        let (bytes, found) = transaction(&row);
        let (asset, to, amount): (Asset, Pubkey, Amount) =
            (parse(&row["asset"]), parse(&row["to"]), parse(&row["amount"]));
        let creates = row["creates_account"] == true;
        let owners = if asset != Asset::Native && !creates { vec![to] } else { Vec::new() };
        let theirs = unsigned(found.message.clone(), owners);

        let payloads = CHAIN.payloads(&wallet.account, &theirs).expect("the wallet's to sign");
        let [payload] = payloads.as_slice() else { panic!("one signature") };
        let signed = CHAIN.assemble(&wallet.account, &theirs, &[wallet.sign(payload)]).expect("signed");
        assert_eq!(signed.transaction_bytes(), bytes, "{name}");

        let effects = CHAIN.effects(&wallet.account, &theirs).expect("decodable");
        assert_eq!(effects.transfers, transfer(&wallet, asset, to, amount.to_u64().expect("64 bits")), "{name}");
        let rent = effects.max_fee.checked_sub(fee).expect("at least the fee");
        assert_eq!(rent.is_zero(), !creates, "{name}");

        let token = match asset {
            Asset::Spl(mint) => {
                let program = if text(&row["name"]).starts_with("Token-2022") {
                    TokenProgram::Token2022
                } else {
                    TokenProgram::Token
                };
                let mut token = token(mint, program, !creates);
                token.source_balance = u64::MAX;
                token.decimals = if program == TokenProgram::Token { 6 } else { 5 };
                Some(token)
            }
            _ => None,
        };
        let state = State {
            validity: under_blockhash(parse::<Hash>(&all["blockhash"])),
            token,
            version: if row["version"] == "legacy" { MessageVersion::Legacy } else { MessageVersion::V0 },
            ..state()
        };
        let intent = pay(asset, &to.to_string(), amount);
        let ours = CHAIN.build(&intent, &wallet.account, &state).expect("possible");
        assert_eq!(resolved(ours.message()), resolved(theirs.message()), "{name}");
        assert_eq!(ours.message().header(), theirs.message().header(), "{name}");
    }
}

/// A program, its accounts and whether each is writable, and the data.
pub(crate) type Resolved = (Pubkey, Vec<(Pubkey, bool)>, Vec<u8>);

/// The instructions with their accounts in words; implementations order the accounts of a message differently.
pub(crate) fn resolved(message: &VersionedMessage) -> Vec<Resolved> {
    let keys = message.static_account_keys();
    let header = message.header();
    let writable = |at: u8| {
        let at = usize::from(at);
        let signers = usize::from(header.num_required_signatures);
        if at < signers {
            at < signers - usize::from(header.num_readonly_signed_accounts)
        } else {
            at < keys.len() - usize::from(header.num_readonly_unsigned_accounts)
        }
    };
    let resolve = |at: &u8| (keys[usize::from(*at)], writable(*at));
    let instructions = message.instructions().iter();
    instructions
        .map(|i| (resolve(&i.program_id_index).0, i.accounts.iter().map(resolve).collect(), i.data.clone()))
        .collect()
}

/// The compact-u16 of <https://solana.com/docs/rpc/json-structures>: seven bits a byte, low ones first.
#[test]
fn lengths_are_compact() {
    let payer = key(1);
    for (len, prefix) in [(0, vec![0]), (127, vec![0x7f]), (128, vec![0x80, 0x01]), (300, vec![0xac, 0x02])] {
        let instruction = Instruction { program_id: key(2), accounts: Vec::new(), data: vec![0xee; len] };
        let bytes = unsigned(legacy(&payer, &[instruction]), Vec::new()).message_bytes();
        // header, two keys, blockhash
        let mut expected = vec![1, 0, 1, 2];
        expected.extend([1; 32]);
        expected.extend([2; 32]);
        expected.extend([9; 32]);
        expected.extend([1, 1, 0]);
        expected.extend(prefix);
        expected.extend(vec![0xee; len]);
        assert_eq!(bytes, expected, "{len}");
    }
}

#[test]
fn a_length_has_one_spelling() {
    let plain = CHAIN.encode_unsigned(&unsigned(legacy(&key(1), &[]), Vec::new()));
    assert_eq!(plain.last(), Some(&0), "no instructions");
    let mut longer = plain[..plain.len() - 1].to_vec();
    longer.extend([0x80, 0x00]);
    assert!(CHAIN.decode_unsigned(&plain).is_ok());
    assert!(matches!(CHAIN.decode_unsigned(&longer), Err(DecodeError::Malformed(_))));
}

#[test]
fn the_two_kinds_of_message() {
    let wallet = wallet();
    let build = |version| {
        let state = State { version, ..state() };
        CHAIN.build(&pay_sol(key(5), 1), &wallet.account, &state).expect("possible").message_bytes()
    };
    let (legacy, v0) = (build(MessageVersion::Legacy), build(MessageVersion::V0));
    // One signer, which is writable; two programs that are only read.
    assert_eq!(legacy[..4], [1, 0, 2, 4]);
    assert_eq!(v0[..5], [0x80, 1, 0, 2, 4]);
    assert_eq!(v0.last(), Some(&0), "no lookup tables");
    assert_eq!(v0[1..v0.len() - 1], legacy);
}

// ---- from the intent to the bytes and back ----

fn any_case() -> impl Strategy<Value = (Asset, [u8; 32], u64, State)> {
    let programs = prop_oneof![Just(TokenProgram::Token), Just(TokenProgram::Token2022)];
    let versions = prop_oneof![Just(MessageVersion::Legacy), Just(MessageVersion::V0)];
    let spl = proptest::option::of((any::<[u8; 32]>(), programs, any::<bool>()));
    (spl, any::<[u8; 32]>(), 1..=u64::MAX, versions, 0..=1_400_000_u32, 0..=1_000_000_u64).prop_map(
        |(spl, to, amount, version, unit_limit, price)| {
            let compute = ComputeBudget { unit_limit, unit_price: MicroLamports::new(price) };
            let mut state = State { version, compute, balance: Lamports::new(u64::MAX), ..state() };
            let Some((mint, program, exists)) = spl else {
                return (Asset::Native, to, amount.min(u64::MAX - 100_000_000_000), state);
            };
            let mint = Pubkey::new_from_array(mint);
            let mut facts = token(mint, program, exists);
            facts.source_balance = amount;
            state.token = Some(facts);
            (Asset::Spl(mint), to, amount, state)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_built_does_what_was_asked((asset, to, amount, state) in any_case()) {
        let wallet = wallet();
        let to = Pubkey::new_from_array(to);
        let intent = pay(asset, &to.to_string(), Amount::from_lamports(amount));
        let built = CHAIN.build(&intent, &wallet.account, &state).expect("possible");
        let bytes = CHAIN.encode_unsigned(&built);
        let read = CHAIN.decode_unsigned(&bytes).expect("its own encoding");
        prop_assert_eq!(&read, &built);
        prop_assert_eq!(read.validity(), &state.validity);

        let effects = CHAIN.effects(&wallet.account, &read).expect("decodable");
        prop_assert_eq!(&effects.transfers, &transfer(&wallet, asset, to, amount));
        prop_assert!(effects.allowances.is_empty() && effects.calls.is_empty() && effects.change.is_zero());
        let named: BTreeSet<_> = effects.touches.iter().collect();
        for key in read.message().static_account_keys().iter().filter(|key| **key != wallet.address()) {
            prop_assert!(named.contains(&Address::Solana(*key)));
        }

        let payloads = CHAIN.payloads(&wallet.account, &read).expect("the wallet's");
        let signatures: Vec<_> = payloads.iter().map(|payload| wallet.sign(payload)).collect();
        let signed = CHAIN.assemble(&wallet.account, &read, &signatures).expect("signed");
        let bytes = CHAIN.encode_signed(&signed);
        prop_assert_eq!(CHAIN.decode_signed(&bytes).expect("its own encoding"), signed);
    }

    /// Bent bytes are refused, or they are the one encoding of another message: nothing is read out of them that they
    /// don't say, and nothing panics.
    #[test]
    fn bent_bytes((asset, to, amount, state) in any_case(), at: proptest::sample::Index, with: u8, cut: bool) {
        let wallet = wallet();
        let intent = pay(asset, &Pubkey::new_from_array(to).to_string(), Amount::from_lamports(amount));
        let built = CHAIN.build(&intent, &wallet.account, &state).expect("possible");
        let before = CHAIN.effects(&wallet.account, &built).expect("decodable");
        let original = CHAIN.encode_unsigned(&built);
        let mut bytes = original.clone();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        if let Ok(read) = CHAIN.decode_unsigned(&bytes) {
            prop_assert_eq!(CHAIN.encode_unsigned(&read), bytes.clone());
            let _ = CHAIN.payloads(&wallet.account, &read);
            let _ = CHAIN.slots(&wallet.account, &read);
            if let Ok(effects) = CHAIN.effects(&wallet.account, &read) {
                // Whom is paid, what and how much stays unless the bytes that say so changed; then so do the slots.
                if effects.transfers != before.transfers {
                    prop_assert_ne!(CHAIN.slots(&wallet.account, &read), CHAIN.slots(&wallet.account, &built));
                }
            }
        } else {
            prop_assert_ne!(bytes, original);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        // The head must be right to get further.
        let mut headed = vec![1, 3];
        headed.extend(&bytes);
        for bytes in [bytes, headed] {
            if let Ok(read) = CHAIN.decode_unsigned(&bytes) {
                prop_assert_eq!(CHAIN.encode_unsigned(&read), bytes.clone());
            }
            prop_assert!(CHAIN.decode_signed(&bytes).is_err());
        }
    }
}

#[test]
fn a_tail_a_cut_and_another_head() {
    let wallet = wallet();
    let state = State { token: Some(token(key(3), TokenProgram::Token, true)), ..state() };
    let built = CHAIN.build(&pay_spl(key(3), key(5), 7), &wallet.account, &state).expect("possible");
    let bytes = CHAIN.encode_unsigned(&built);
    let payloads = CHAIN.payloads(&wallet.account, &built).expect("the wallet's");
    let signed = CHAIN.assemble(&wallet.account, &built, &[wallet.sign(&payloads[0])]).expect("signed");
    let signed = CHAIN.encode_signed(&signed);

    for len in 0..bytes.len() {
        assert!(matches!(CHAIN.decode_unsigned(&bytes[..len]), Err(DecodeError::Malformed(_))), "{len}");
    }
    for len in 0..signed.len() {
        assert!(matches!(CHAIN.decode_signed(&signed[..len]), Err(DecodeError::Malformed(_))), "{len}");
    }
    assert!(CHAIN.decode_unsigned(&[bytes.as_slice(), &[0]].concat()).is_err());
    assert!(CHAIN.decode_signed(&[signed.as_slice(), &[0]].concat()).is_err());

    let devnet = Solana::new(Cluster::Devnet);
    let wrong =
        DecodeError::WrongNetwork { expected: Network::Solana(Cluster::Devnet), found: "solana:localnet".to_owned() };
    assert_eq!(devnet.decode_unsigned(&bytes), Err(wrong.clone()));
    assert_eq!(devnet.decode_signed(&signed), Err(wrong.clone()));
    assert_eq!(devnet.effects(&wallet.account, &built), Err(wrong.clone()));
    assert_eq!(devnet.payloads(&wallet.account, &built), Err(wrong));

    let mut format = bytes.clone();
    format[0] = 2;
    assert!(CHAIN.decode_unsigned(&format).is_err());
    let mut cluster = bytes.clone();
    cluster[1] = 4;
    assert!(CHAIN.decode_unsigned(&cluster).is_err());
}

#[test]
fn owners_are_written_in_one_order() {
    let message = legacy(&wallet().address(), &[]);
    let sorted = unsigned(message.clone(), vec![key(2), key(1), key(2)]);
    assert_eq!(sorted.owners(), [key(1), key(2)]);
    let mut bytes = CHAIN.encode_unsigned(&sorted);
    assert_eq!(CHAIN.decode_unsigned(&bytes), Ok(sorted));
    let (first, second) = bytes[11..75].split_at_mut(32);
    first.swap_with_slice(second);
    assert!(matches!(CHAIN.decode_unsigned(&bytes), Err(DecodeError::Malformed(_))));

    let many = (0..17).map(key).collect();
    assert!(Unsigned::new(Cluster::Localnet, message, LAST_VALID, many).is_err());
}

#[test]
fn equal_messages_exclude_each_other_and_others_do_not() {
    let wallet = wallet();
    let slots = |state: &State| {
        let built = CHAIN.build(&pay_sol(key(5), 1), &wallet.account, state).expect("possible");
        CHAIN.slots(&wallet.account, &built)
    };
    let first = slots(&state());
    assert_eq!(first.len(), 1);
    assert_eq!(first, slots(&state()));
    // When it is valid is not part of the message.
    let later = Validity::Blockhash { blockhash: Hash::new_from_array([9; 32]), last_valid_block_height: 7 };
    assert_eq!(first, slots(&State { validity: later, ..state() }));
    assert!(first.is_disjoint(&slots(&State { validity: under_blockhash([8; 32]), ..state() })));
    let slot = first.first().expect("one").to_string();
    assert!(slot.starts_with("solana:localnet/") && slot.len() == "solana:localnet/".len() + 64, "{slot}");
}
