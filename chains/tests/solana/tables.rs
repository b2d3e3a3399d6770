//! Lookup tables: a message that reads them is told like one that names all its accounts, and what doesn't fit is refused.

use chains::address::{Address, UncheckedAddress};
use chains::chain::{BuildError, Chain, DecodeError};
use chains::effects::Effects;
use chains::intent::{Action, Intent};
use chains::solana::{MessageVersion, State, TableAccount, TableError, Unsigned, table_digest};
use litesvm::LiteSVM;
use proptest::prelude::*;
use solana_sdk::instruction::{AccountMeta, Instruction};
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer as _};
use solana_sdk::transaction::Transaction;
use solana_system_interface::instruction as system;

use crate::fixture::{CHAIN, durable, key, state, wallet};
use crate::programs::asks;

const PROGRAM: Pubkey = Pubkey::from_str_const("AddressLookupTab1e1111111111111111111111111");
const MEMO: Pubkey = Pubkey::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");

/// A table as the program writes it: kind, deactivation slot, last extended slot and from where on, authority, padding, entries.
fn table(address: Pubkey, entries: &[Pubkey]) -> TableAccount {
    let head = [&1_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes(), &77_u64.to_le_bytes(), &[0, 1], &[4; 32], &[0, 0]];
    let entries: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    TableAccount { address, owner: PROGRAM, data: [head.concat(), entries].concat() }
}

/// Reads and writes accounts, of which 5 to 7 stand in the tables.
fn swap() -> Vec<Instruction> {
    let accounts = vec![
        AccountMeta::new(wallet().address(), true),
        AccountMeta::new(key(5), false),
        AccountMeta::new_readonly(key(6), false),
        AccountMeta::new(key(7), false),
        AccountMeta::new_readonly(key(8), false),
        AccountMeta::new(key(5), false),
    ];
    let memo = Instruction { program_id: MEMO, accounts: Vec::new(), data: b"desk 4".to_vec() };
    vec![Instruction { program_id: key(9), accounts, data: vec![1, 2, 3] }, memo]
}

fn tables() -> Vec<TableAccount> {
    vec![table(key(20), &[key(40), key(6), key(5)]), table(key(21), &[key(7), key(41)])]
}

/// The intent with these tables.
fn through(tables: &[TableAccount]) -> Intent {
    let intent = asks(&swap());
    let Action::CallProgram { instructions, .. } = intent.action else { panic!("a call") };
    let lookup_tables = tables.iter().map(|table| UncheckedAddress::new(table.address.to_string())).collect();
    Intent { action: Action::CallProgram { instructions, lookup_tables }, ..intent }
}

fn with(tables: Vec<TableAccount>) -> State {
    State { tables, ..state() }
}

fn built() -> Unsigned {
    CHAIN.build(&through(&tables()), &wallet().account, &with(tables())).expect("possible")
}

fn effects(unsigned: &Unsigned) -> Effects {
    CHAIN.effects(&wallet().account, unsigned).expect("decodable")
}

/// The same message with other accounts of tables.
fn beside(tables: Vec<TableAccount>) -> Result<Effects, DecodeError> {
    let bare = Unsigned::new(wallet_cluster(), built().message().clone(), crate::fixture::LAST_VALID, Vec::new())?;
    let unsigned = if tables.is_empty() { bare } else { bare.with_tables(tables)? };
    CHAIN.effects(&wallet().account, &unsigned)
}

fn wallet_cluster() -> chains::network::Cluster {
    built().cluster()
}

fn refused(tables: Vec<TableAccount>) -> TableError {
    match beside(tables) {
        Err(DecodeError::LookupTable(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_read_from_tables_is_told_like_the_messages_own() {
    let wallet = wallet();
    for state in [state(), durable(&wallet, 9)] {
        let plain = CHAIN.build(&asks(&swap()), &wallet.account, &state).expect("possible");
        let state = State { tables: tables(), ..state };
        let short = CHAIN.build(&through(&tables()), &wallet.account, &state).expect("possible");
        assert!(short.message_bytes().len() < plain.message_bytes().len());
        let lookups = short.message().address_table_lookups().expect("v0");
        assert_eq!(lookups.len(), 2);
        assert_eq!(
            (lookups[0].writable_indexes.as_slice(), lookups[0].readonly_indexes.as_slice()),
            (&[2][..], &[1][..])
        );
        let (plain, found) = (effects(&plain), effects(&short));
        assert_eq!(found.programs, plain.programs, "accounts, order, flags and data");
        assert_eq!(found.max_fee, plain.max_fee);
        for touched in plain.touches.iter().cloned().chain([key(20), key(21)].map(Address::Solana)) {
            assert!(found.touches.contains(&touched), "{touched}");
        }
        assert!(![40, 41].map(key).iter().any(|key| found.touches.contains(&Address::Solana(*key))), "not read");
        let read: Vec<_> = found.tables.iter().map(|read| (read.address, read.last)).collect();
        assert_eq!(read, [(key(20), 2), (key(21), 0)]);
        assert_eq!(found.tables[0].digest(2), table_digest(&[key(40), key(6)], 2));
        assert_eq!(found.tables[0].digest(4), None, "it has three");
        let bytes = CHAIN.encode_unsigned(&short);
        assert_eq!(CHAIN.decode_unsigned(&bytes), Ok(short));
        for cut in 0..bytes.len() {
            assert!(CHAIN.decode_unsigned(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_table_of_the_message_is_refused() {
    let [first, second] = <[_; 2]>::try_from(tables()).expect("two");
    assert!(beside(vec![first.clone(), second.clone()]).is_ok());
    let both = |first: &TableAccount| vec![first.clone(), second.clone()];

    assert_eq!(refused(vec![]), TableError::Missing { table: key(20) });
    assert_eq!(refused(vec![first.clone()]), TableError::Missing { table: key(21) });
    assert_eq!(refused(vec![second.clone(), first.clone()]), TableError::Missing { table: key(20) }, "another order");
    let other = TableAccount { address: key(22), ..first.clone() };
    assert_eq!(refused(both(&other)), TableError::Unread { table: key(22) });
    let more = vec![first.clone(), second.clone(), other];
    assert_eq!(refused(more), TableError::Unread { table: key(22) }, "supplied and not read");
    let twice = vec![first.clone(), second.clone(), first.clone()];
    assert_eq!(refused(twice), TableError::Unread { table: key(20) });

    let stranger = TableAccount { owner: key(30), ..first.clone() };
    assert_eq!(refused(both(&stranger)), TableError::NotOwned { table: key(20), owner: key(30) });
    for (what, change) in [
        ("not set up", (|data: &mut Vec<u8>| data[0] = 0) as fn(&mut Vec<u8>)),
        ("another kind", |data| data[0] = 2),
        ("cut in the head", |data| data.truncate(55)),
        ("half an entry", |data| data.truncate(data.len() - 1)),
        ("a tail", |data| data.push(0)),
        ("an authority that is neither there nor not", |data| data[21] = 2),
        ("nothing", Vec::clear),
    ] {
        let mut account = first.clone();
        change(&mut account.data);
        assert_eq!(refused(both(&account)), TableError::Unreadable { table: key(20) }, "{what}");
    }
    let long = table(key(20), &[key(5); 257]);
    assert_eq!(refused(both(&long)), TableError::Unreadable { table: key(20) });
    let mut given_up = first.clone();
    given_up.data[4..12].copy_from_slice(&900_u64.to_le_bytes());
    assert_eq!(refused(both(&given_up)), TableError::Deactivated { table: key(20), slot: 900 });
    let shorter = table(key(20), &[key(40), key(6)]);
    assert_eq!(refused(both(&shorter)), TableError::OutOfRange { table: key(20), index: 2, length: 2 });
}

#[test]
fn a_message_reads_a_table_once_and_no_account_twice() {
    let VersionedMessage::V0(message) = built().message().clone() else { panic!("v0") };
    let mut twice = message.clone();
    twice.address_table_lookups[1].account_key = key(20);
    let unsigned = |message| {
        let message = VersionedMessage::V0(message);
        Unsigned::new(wallet_cluster(), message, crate::fixture::LAST_VALID, Vec::new()).expect("well formed")
    };
    let [first, second] = <[_; 2]>::try_from(tables()).expect("two");
    let found = unsigned(twice).with_tables(vec![first.clone(), first.clone()]);
    assert_eq!(found, Err(DecodeError::LookupTable(TableError::Repeated { table: key(20) })));
    // An account that the message names itself, by way of a table.
    let again = table(key(20), &[key(40), key(6), key(8)]);
    let found = unsigned(message).with_tables(vec![again, second]).expect("as far as tables go");
    let found = CHAIN.effects(&wallet().account, &found);
    assert!(matches!(&found, Err(DecodeError::Undecodable(why)) if why.contains("twice")), "{found:?}");
}

/// The cluster looks for a nonce among a message's own accounts only: what advances one by way of a table is valid under something
/// else than it seems.
#[test]
fn a_nonce_stays_in_the_message() {
    let wallet = wallet();
    let own = wallet.address();
    let nonce = chains::solana::nonce_account(&own, 0);
    // The compiler leaves it there.
    let state = State { tables: vec![table(key(20), &[nonce, key(5)])], ..durable(&wallet, 9) };
    let built = CHAIN.build(&through(&state.tables), &wallet.account, &state).expect("possible");
    assert!(built.message().static_account_keys().contains(&nonce));

    let advance = system::advance_nonce_account(&nonce, &own);
    let VersionedMessage::V0(mut message) = (match crate::fixture::legacy(&own, &[advance]) {
        VersionedMessage::Legacy(Message { header, account_keys, recent_blockhash, instructions }) => {
            VersionedMessage::V0(solana_sdk::message::v0::Message {
                header,
                account_keys,
                recent_blockhash,
                instructions,
                address_table_lookups: Vec::new(),
            })
        }
        other => panic!("{other:?}"),
    }) else {
        panic!("v0")
    };
    let at = message.account_keys.iter().position(|key| *key == nonce).expect("named");
    message.account_keys.remove(at);
    let last = u8::try_from(message.account_keys.len()).expect("few");
    for index in message.instructions.iter_mut().flat_map(|one| one.accounts.iter_mut()) {
        let was = usize::from(*index);
        *index = if was == at { last } else { *index - u8::from(was > at) };
    }
    let program = &mut message.instructions[0].program_id_index;
    *program -= u8::from(usize::from(*program) > at);
    message.address_table_lookups.push(solana_sdk::message::v0::MessageAddressTableLookup {
        account_key: key(20),
        writable_indexes: vec![0],
        readonly_indexes: Vec::new(),
    });
    let unsigned =
        Unsigned::new(wallet_cluster(), VersionedMessage::V0(message), crate::fixture::LAST_VALID, Vec::new())
            .and_then(|unsigned| unsigned.with_tables(vec![table(key(20), &[nonce])]))
            .expect("well formed");
    let found = CHAIN.effects(&wallet.account, &unsigned);
    assert!(matches!(&found, Err(DecodeError::Undecodable(why)) if why.contains("lookup table")), "{found:?}");
}

#[test]
fn tables_that_an_intent_cannot_have() {
    let wallet = wallet();
    let refusal = |intent: &Intent, state: &State| CHAIN.build(intent, &wallet.account, state).expect_err("impossible");
    let intent = through(&tables());
    assert_eq!(refusal(&intent, &state()), BuildError::LookupTable(TableError::Missing { table: key(20) }));
    let legacy = State { version: MessageVersion::Legacy, ..with(tables()) };
    assert!(matches!(refusal(&intent, &legacy), BuildError::Unsupported(why) if why.contains("legacy")));
    let useless = vec![table(key(20), &[key(40)])];
    let why = refusal(&through(&useless), &with(useless));
    assert!(matches!(why, BuildError::Unsupported(why) if why.contains("leave it out")), "{why:?}");
    let mut given_up = tables();
    given_up[1].data[4..12].copy_from_slice(&900_u64.to_le_bytes());
    let why = refusal(&intent, &with(given_up));
    assert_eq!(why, BuildError::LookupTable(TableError::Deactivated { table: key(21), slot: 900 }));
    let twice = [tables(), tables()].concat();
    assert!(matches!(refusal(&through(&twice), &with(tables())), BuildError::Unsupported(_)));
}

/// A table that the runtime's own program has made reads as what was put into it.
#[test]
fn a_table_of_the_runtime() {
    let mut svm = LiteSVM::new();
    let owner = Keypair::new_from_array([3; 32]);
    svm.airdrop(&owner.pubkey(), 10_000_000_000).expect("the faucet pays");
    svm.warp_to_slot(50);
    let slot = svm.get_sysvar::<solana_sdk::slot_hashes::SlotHashes>().first().map_or(0, |(slot, _)| *slot);
    let (table, bump) = Pubkey::find_program_address(&[owner.pubkey().as_ref(), &slot.to_le_bytes()], &PROGRAM);
    let accounts = vec![
        AccountMeta::new(table, false),
        AccountMeta::new_readonly(owner.pubkey(), true),
        AccountMeta::new(owner.pubkey(), true),
        AccountMeta::new_readonly(solana_system_interface::program::ID, false),
    ];
    let entries: Vec<Pubkey> = (1..=20).map(key).collect();
    let create = Instruction::new_with_bincode(PROGRAM, &(0_u32, slot, bump), accounts.clone());
    let extend = Instruction::new_with_bincode(PROGRAM, &(2_u32, entries.clone()), accounts.clone());
    let send = |svm: &mut LiteSVM, instructions: &[Instruction]| {
        let blockhash = svm.latest_blockhash();
        let message = Message::new_with_blockhash(instructions, Some(&owner.pubkey()), &blockhash);
        svm.send_transaction(Transaction::new(&[&owner], message, blockhash)).expect("the runtime takes it");
    };
    send(&mut svm, &[create, extend]);
    let read = |svm: &LiteSVM| {
        let found = svm.get_account(&table).expect("made");
        TableAccount { address: table, owner: found.owner, data: found.data }
    };
    assert_eq!(read(&svm).entries(), Ok(entries));
    let deactivate = Instruction::new_with_bincode(PROGRAM, &3_u32, accounts[..2].to_vec());
    send(&mut svm, &[deactivate]);
    assert_eq!(read(&svm).entries(), Err(TableError::Deactivated { table, slot: 50 }));
}

#[test]
fn a_digest_is_of_the_entries_bytes() {
    // What `sha256sum` says of 32 bytes of 5, and of these with 32 bytes of 6 behind them.
    let expected = [
        "f849d67325facf04177bc663b2dc544051831c589ef581d412f2eba44834e77c",
        "e38b0325ae6067640715997f0ef9f478600cbaeb410ebbceb7f749d90bd9d896",
    ];
    let one = table_digest(&[key(5), key(6)], 1).expect("there is one");
    let two = table_digest(&[key(5), key(6)], 2).expect("there are two");
    assert_eq!([one, two].map(hex::encode), expected);
    assert_eq!(table_digest(&[key(5)], 1), Some(one), "what follows doesn't matter");
    assert_ne!(table_digest(&[key(6), key(5)], 2), Some(two), "the order does");
    assert_eq!(table_digest(&[key(5)], 2), None);
}

proptest! {
    /// Whatever bit of a table is changed: it is refused, or other accounts are read, or nothing that is read depends on it.
    #[test]
    fn no_bit_of_a_table_lies_unseen(place in 0_usize..2, bit in 0_usize..(56 + 3 * 32) * 8) {
        let mut changed = tables();
        let data = &mut changed[place].data;
        prop_assume!(bit / 8 < data.len());
        data[bit / 8] ^= 1 << (bit % 8);
        let (honest, entry) = (effects(&built()), (bit / 8).checked_sub(56).map(|at| at / 32));
        match (beside(changed), entry) {
            (Err(DecodeError::LookupTable(_)), None) => {}
            (Err(other), _) => prop_assert!(false, "{other:?}"),
            // Since when it is as it is, and whose: that is nothing to the message.
            (Ok(found), None) => prop_assert_eq!(found, honest),
            (Ok(found), Some(entry)) => {
                let read: &[&[usize]] = &[&[1, 2], &[0]];
                prop_assert_eq!(found.programs == honest.programs, !read[place].contains(&entry));
                prop_assert!(found.tables[place].digest(entry + 1) != honest.tables[place].digest(entry + 1));
                prop_assert_eq!(found.tables[place].digest(entry), honest.tables[place].digest(entry));
            }
        }
    }
}
