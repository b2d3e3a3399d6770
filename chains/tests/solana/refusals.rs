//! What Solana refuses: intents that can't be built, messages that are never signed, signatures that don't fit.

use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{AssembleError, BuildError, Chain, DecodeError};
use chains::effects::Effects;
use chains::intent::Action;
use chains::network::{Cluster, Network};
use chains::payload::{Message as Signable, Signature};
use chains::solana::{
    ComputeBudget, DestinationKind, Lamports, MicroLamports, State, TableError, TokenProgram, Unsigned,
    associated_token_account,
};
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::hash::Hash;
use solana_sdk::instruction::{AccountMeta, Instruction};
use solana_sdk::message::{AddressLookupTableAccount, Message, VersionedMessage, v0};
use solana_sdk::pubkey::Pubkey;
use solana_system_interface::instruction as system;
use spl_associated_token_account_interface::instruction::{
    create_associated_token_account, create_associated_token_account_idempotent, recover_nested,
};
use spl_token_interface::instruction as spl;

use crate::fixture::{
    CHAIN, LAST_VALID, MINIMUM, Wallet, key, legacy, pay, pay_sol, pay_spl, state, token, unsigned, wallet,
};

fn refusal(intent: &chains::intent::Intent, state: &State) -> BuildError {
    CHAIN.build(intent, &wallet().account, state).expect_err("impossible")
}

#[test]
fn intents_that_make_no_sense() {
    let network = Network::Solana(Cluster::Localnet);
    let to = key(5).to_string();
    assert_eq!(refusal(&pay_sol(key(5), 0), &state()), BuildError::ZeroAmount);
    assert_eq!(refusal(&pay_spl(key(3), key(5), 0), &state()), BuildError::ZeroAmount);
    let above = Amount::from_wei(u128::from(u64::MAX) + 1);
    assert!(matches!(refusal(&pay(Asset::Native, &to, above), &state()), BuildError::Overflow(_)));
    assert!(matches!(refusal(&pay(Asset::Spl(key(3)), &to, Amount::MAX), &state()), BuildError::Overflow(_)));
    let erc20: Asset = "erc20:0x52908400098527886E0F7030069857D2E4169EE7".parse().expect("an asset");
    assert_eq!(
        refusal(&pay(erc20, &to, Amount::from_lamports(1)), &state()),
        BuildError::WrongAsset { asset: erc20, network }
    );
    for bad in [
        "",
        "1111",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
        &"1".repeat(91),
    ] {
        let intent = pay(Asset::Native, bad, Amount::from_lamports(1));
        assert!(matches!(refusal(&intent, &state()), BuildError::Address(_)), "{bad}");
    }
    let mut call = pay_sol(key(5), 1);
    call.action = Action::Call {
        contract: chains::address::UncheckedAddress::new(to),
        data: Default::default(),
        value: Amount::ZERO,
    };
    assert!(matches!(refusal(&call, &state()), BuildError::Unsupported(_)));

    let devnet = Wallet::new([7; 32], Cluster::Devnet);
    assert_eq!(CHAIN.build(&pay_sol(key(5), 1), &devnet.account, &state()), Err(BuildError::WrongAccount(network)));
}

#[test]
fn destinations_that_would_lose_it() {
    for kind in [DestinationKind::TokenAccount, DestinationKind::Mint, DestinationKind::Program] {
        let mut state = state();
        state.destination.kind = kind;
        assert!(matches!(refusal(&pay_sol(key(5), MINIMUM), &state), BuildError::Unsupported(_)), "{kind:?}");
        state.token = Some(token(key(3), TokenProgram::Token, true));
        assert!(matches!(refusal(&pay_spl(key(3), key(5), 1), &state), BuildError::Unsupported(_)), "{kind:?}");
    }
    let mut other = state();
    other.destination.kind = DestinationKind::Other;
    assert!(CHAIN.build(&pay_sol(key(5), 1), &wallet().account, &other).is_ok());
}

#[test]
fn the_edges_of_a_payment_in_sol() {
    let wallet = wallet();
    let fee = 5_371;
    let with = |balance: u64, there: u64| {
        let mut state = State { balance: Lamports::new(balance), ..state() };
        state.destination.lamports = Lamports::new(there);
        state.destination.kind = if there == 0 { DestinationKind::Absent } else { DestinationKind::Wallet };
        state
    };
    let build = |amount, state: &State| CHAIN.build(&pay_sol(key(5), amount), &wallet.account, state).map(|_| ());
    let dust = |minimum| Err(BuildError::Dust { minimum: Amount::from_lamports(minimum) });
    let short = |needed, available| {
        let (needed, available) = (Amount::from_lamports(needed), Amount::from_lamports(available));
        Err(BuildError::InsufficientFunds { asset: Asset::Native, needed, available })
    };
    let rich = 1_000_000_000;

    assert_eq!(build(MINIMUM - 1, &with(rich, 0)), dust(MINIMUM));
    assert_eq!(build(MINIMUM, &with(rich, 0)), Ok(()));
    assert_eq!(build(1, &with(rich, MINIMUM)), Ok(()));
    assert_eq!(build(9, &with(rich, MINIMUM - 10)), dust(10));
    assert_eq!(build(10, &with(rich, MINIMUM - 10)), Ok(()));

    // The last lamport may go, and the rent-exempt minimum may stay, but nothing in between.
    assert_eq!(build(rich - fee, &with(rich, MINIMUM)), Ok(()));
    assert_eq!(build(rich - fee + 1, &with(rich, MINIMUM)), short(rich + 1, rich));
    assert_eq!(build(rich - fee - 1, &with(rich, MINIMUM)), short(rich - 1 + MINIMUM, rich));
    assert_eq!(build(rich - fee - MINIMUM + 1, &with(rich, MINIMUM)), short(rich + 1, rich));
    assert_eq!(build(rich - fee - MINIMUM, &with(rich, MINIMUM)), Ok(()));
    assert_eq!(build(1, &with(0, MINIMUM)), short(1 + fee, 0));
    assert!(build(u64::MAX, &with(rich, MINIMUM)).is_err());
}

#[test]
fn the_edges_of_a_payment_in_tokens() {
    let wallet = wallet();
    let (mint, fee, rent) = (key(3), 5_371, 2_039_280);
    let with = |balance: u64, exists| State {
        balance: Lamports::new(balance),
        token: Some(token(mint, TokenProgram::Token, exists)),
        ..state()
    };
    let build = |amount, state: &State| CHAIN.build(&pay_spl(mint, key(5), amount), &wallet.account, state).map(|_| ());
    let short = |asset, needed, available| {
        let (needed, available) = (Amount::from_lamports(needed), Amount::from_lamports(available));
        Err(BuildError::InsufficientFunds { asset, needed, available })
    };
    let rich = 1_000_000_000;

    assert_eq!(build(1_000_000, &with(rich, true)), Ok(()));
    assert_eq!(build(1_000_001, &with(rich, true)), short(Asset::Spl(mint), 1_000_001, 1_000_000));
    assert_eq!(build(1, &with(fee, true)), Ok(()));
    assert_eq!(build(1, &with(fee - 1, true)), short(Asset::Native, fee, fee - 1));
    assert_eq!(build(1, &with(fee + rent, false)), Ok(()));
    assert_eq!(build(1, &with(fee + rent - 1, false)), short(Asset::Native, fee + rent, fee + rent - 1));
    assert_eq!(build(1, &with(fee + rent + 1, false)), short(Asset::Native, fee + rent + MINIMUM, fee + rent + 1));

    assert!(matches!(build(1, &state()), Err(BuildError::Unsupported(_))), "no facts about the token");
    let mut other = with(rich, true);
    other.token = Some(token(key(4), TokenProgram::Token, true));
    assert!(matches!(build(1, &other), Err(BuildError::Unsupported(_))), "facts about another token");
    let mut dear = with(rich, false);
    dear.token = dear.token.map(|t| chains::solana::TokenState { account_rent: Lamports::new(rent + 1), ..t });
    assert!(matches!(build(1, &dear), Err(BuildError::Unsupported(_))), "rent that the effects wouldn't cover");
}

#[test]
fn the_fee_has_a_cap() {
    let wallet = wallet();
    let spl = State { token: Some(token(key(3), TokenProgram::Token, false)), ..state() };
    for (mut intent, state, fee) in
        [(pay_sol(key(5), 1), state(), 5_371), (pay_spl(key(3), key(5), 1), spl, 5_371 + 2_039_280)]
    {
        intent.max_fee = Some(Amount::from_lamports(fee));
        let built = CHAIN.build(&intent, &wallet.account, &state).expect("within the cap");
        let effects = CHAIN.effects(&wallet.account, &built).expect("decodable");
        assert_eq!(effects.max_fee, Amount::from_lamports(fee));
        intent.max_fee = Some(Amount::from_lamports(fee - 1));
        let (fee, cap) = (Amount::from_lamports(fee), Amount::from_lamports(fee - 1));
        assert_eq!(refusal(&intent, &state), BuildError::FeeAboveCap { fee, cap });
    }
    let compute = ComputeBudget { unit_limit: 1_400_001, unit_price: MicroLamports::new(0) };
    assert!(matches!(refusal(&pay_sol(key(5), 1), &State { compute, ..state() }), BuildError::Unsupported(_)));
}

// ---- what is never signed ----

fn effects_of(instructions: &[Instruction], owners: Vec<Pubkey>) -> Result<Effects, DecodeError> {
    let wallet = wallet();
    CHAIN.effects(&wallet.account, &unsigned(legacy(&wallet.address(), instructions), owners))
}

#[test]
fn instructions_that_are_not_known() {
    let own = wallet().address();
    let (mint, other) = (key(3), key(5));
    let (token, token_2022) = (TokenProgram::Token, TokenProgram::Token2022);
    let source = associated_token_account(&own, &mint, token);
    let theirs = associated_token_account(&other, &mint, token);
    let create = create_associated_token_account(&own, &other, &mint, &token.id());
    let transfer = spl::transfer_checked(&token.id(), &source, &mint, &theirs, &own, &[], 5, 6).expect("well formed");
    assert!(effects_of(&[create.clone(), transfer.clone()], Vec::new()).is_ok(), "the base of what follows");

    let bend = |instruction: &Instruction, change: &dyn Fn(&mut Instruction)| {
        let mut bent = instruction.clone();
        change(&mut bent);
        bent
    };
    let sol = system::transfer(&own, &other, 1);
    let ok = |result: Result<Instruction, _>| {
        result.unwrap_or_else(|e: solana_sdk::program_error::ProgramError| panic!("{e}"))
    };
    let set_authority =
        spl::set_authority(&token.id(), &source, Some(&other), spl::AuthorityType::AccountOwner, &own, &[]);
    let cases: Vec<(&str, Vec<Instruction>)> = vec![
        ("a longer system transfer", vec![bend(&sol, &|i| i.data.push(0))]),
        ("a shorter system transfer", vec![bend(&sol, &|i| i.data.truncate(11))]),
        (
            "a system transfer with a third account",
            vec![bend(&sol, &|i| i.accounts.push(AccountMeta::new(key(6), false)))],
        ),
        ("another system instruction", vec![system::assign(&own, &other)]),
        ("a heap frame with a tail", vec![bend(&ComputeBudgetInstruction::request_heap_frame(1), &|i| i.data.push(0))]),
        ("two limits", vec![ComputeBudgetInstruction::set_compute_unit_limit(1); 2]),
        ("two prices", vec![ComputeBudgetInstruction::set_compute_unit_price(1); 2]),
        ("a limit with a tail", vec![bend(&ComputeBudgetInstruction::set_compute_unit_limit(1), &|i| i.data.push(0))]),
        ("an approval", vec![ok(spl::approve(&token.id(), &source, &other, &own, &[], 5))]),
        ("another owner", vec![ok(set_authority)]),
        ("a token transfer with a tail", vec![create.clone(), bend(&transfer, &|i| i.data.push(0))]),
        (
            "a token transfer with hook accounts",
            vec![create.clone(), bend(&transfer, &|i| i.accounts.push(AccountMeta::new(key(6), false)))],
        ),
        (
            "a token transfer with a fee",
            vec![create.clone(), bend(&transfer, &|i| i.data = vec![26, 1, 5, 0, 0, 0, 0, 0, 0, 0])],
        ),
        (
            "a nested account that goes elsewhere",
            vec![bend(&recover_nested(&own, &mint, &key(4), &token.id()), &|i| i.accounts[2].pubkey = key(6))],
        ),
        (
            "an account that isn't its owner's",
            vec![
                bend(&create, &|i| i.accounts[1].pubkey = key(6)),
                bend(&transfer, &|i| i.accounts[2].pubkey = key(6)),
            ],
        ),
        (
            "an account for another owner than is paid",
            vec![bend(&create, &|i| i.accounts[2].pubkey = key(6)), transfer.clone()],
        ),
        ("an account of an unknown token program", vec![bend(&create, &|i| i.accounts[5].pubkey = key(6))]),
        ("an account with another system program", vec![bend(&create, &|i| i.accounts[4].pubkey = key(6))]),
        ("an owner nobody proves", vec![transfer.clone()]),
        ("another token account as source", vec![create.clone(), bend(&transfer, &|i| i.accounts[0].pubkey = key(6))]),
        ("another mint", vec![create.clone(), bend(&transfer, &|i| i.accounts[1].pubkey = key(6))]),
        ("the other token program", vec![create.clone(), bend(&transfer, &|i| i.program_id = token_2022.id())]),
    ];
    for (name, instructions) in cases {
        let effects = effects_of(&instructions, Vec::new());
        assert!(matches!(effects, Err(DecodeError::Undecodable(_))), "{name}: {effects:?}");
    }
}

#[test]
fn owners_prove_themselves() {
    let own = wallet().address();
    let (mint, other) = (key(3), key(5));
    for program in TokenProgram::ALL {
        let source = associated_token_account(&own, &mint, program);
        let theirs = associated_token_account(&other, &mint, program);
        let mut transfer = spl::transfer_checked(&spl_token_interface::ID, &source, &mint, &theirs, &own, &[], 5, 6)
            .expect("well formed");
        transfer.program_id = program.id();
        let effects = effects_of(std::slice::from_ref(&transfer), vec![other]).expect("the owner is proven");
        assert_eq!(effects.transfers, crate::fixture::transfer(&wallet(), Asset::Spl(mint), other, 5));
        for claimed in [vec![key(6)], vec![other, key(6)], vec![own, other]] {
            let effects = effects_of(std::slice::from_ref(&transfer), claimed);
            assert!(matches!(effects, Err(DecodeError::Undecodable(_))), "{effects:?}");
        }
        let sol = effects_of(&[system::transfer(&own, &other, 1)], vec![other]);
        assert!(matches!(sol, Err(DecodeError::Undecodable(_))), "a claim about nothing: {sol:?}");
    }
}

/// The plain `Transfer` doesn't name the mint; the creation of the account that it pays does.
#[test]
fn a_transfer_that_does_not_name_its_mint() {
    let own = wallet().address();
    let (mint, other) = (key(3), key(5));
    let program = TokenProgram::Token;
    let source = associated_token_account(&own, &mint, program);
    let theirs = associated_token_account(&other, &mint, program);
    let transfer = spl::transfer(&program.id(), &source, &theirs, &own, &[], 5).expect("well formed");
    let create = create_associated_token_account_idempotent(&own, &other, &mint, &program.id());
    let effects = effects_of(&[create, transfer.clone()], Vec::new()).expect("decodable");
    assert_eq!(effects.transfers, crate::fixture::transfer(&wallet(), Asset::Spl(mint), other, 5));
    assert!(matches!(effects_of(&[transfer], vec![other]), Err(DecodeError::Undecodable(_))));
}

#[test]
fn somebody_else_pays_signs_or_moves() {
    let wallet = wallet();
    let own = wallet.address();
    let stranger = key(6);
    let read = |message: VersionedMessage| CHAIN.effects(&wallet.account, &unsigned(message, Vec::new()));
    let wrong = DecodeError::WrongAccount(own.to_string());

    let theirs = legacy(&stranger, &[system::transfer(&stranger, &key(5), 1)]);
    assert_eq!(read(theirs.clone()), Err(wrong.clone()));
    assert_eq!(CHAIN.payloads(&wallet.account, &unsigned(theirs, Vec::new())), Err(wrong.clone()));
    assert_eq!(read(legacy(&stranger, &[system::transfer(&own, &key(5), 1)])), Err(wrong.clone()), "both sign");
    assert_eq!(read(legacy(&own, &[system::transfer(&stranger, &key(5), 1)])), Err(wrong), "both sign");

    // Named as payer, but without a signature: the cluster would refuse it; so does the decoder.
    let mut unsigned_payer = system::transfer(&stranger, &key(5), 1);
    unsigned_payer.accounts[0].is_signer = false;
    let found = read(legacy(&own, &[unsigned_payer]));
    assert!(matches!(found, Err(DecodeError::Undecodable(_))), "{found:?}");
}

#[test]
fn lookup_tables_and_double_names() {
    let wallet = wallet();
    let own = wallet.address();
    let table = AddressLookupTableAccount { key: key(8), addresses: vec![key(5)] };
    let message = v0::Message::try_compile(&own, &[system::transfer(&own, &key(5), 1)], &[table], Hash::default());
    let message = VersionedMessage::V0(message.expect("compiles"));
    assert_eq!(message.address_table_lookups().map(<[_]>::len), Some(1), "the table is used");
    let found = CHAIN.effects(&wallet.account, &unsigned(message, Vec::new()));
    assert_eq!(found, Err(DecodeError::LookupTable(TableError::Missing { table: key(8) })));

    let VersionedMessage::Legacy(mut message) = legacy(&own, &[system::transfer(&own, &key(5), 1)]) else {
        panic!("legacy")
    };
    message.account_keys[1] = own;
    let found = CHAIN.effects(&wallet.account, &unsigned(VersionedMessage::Legacy(message), Vec::new()));
    assert!(matches!(&found, Err(DecodeError::Undecodable(why)) if why.contains("twice")), "{found:?}");
}

#[test]
fn messages_that_are_none() {
    let own = wallet().address();
    let new = |message| Unsigned::new(Cluster::Localnet, message, LAST_VALID, Vec::new());
    let VersionedMessage::Legacy(good) = legacy(&own, &[system::transfer(&own, &key(5), 1)]) else { panic!("legacy") };
    assert!(new(VersionedMessage::Legacy(good.clone())).is_ok());

    let mut outside = good.clone();
    outside.instructions[0].accounts[1] = 3;
    let mut program = good.clone();
    program.instructions[0].program_id_index = 3;
    let mut read_only_payer = good.clone();
    read_only_payer.header.num_readonly_signed_accounts = 1;
    let mut prefix = good.clone();
    prefix.header.num_required_signatures = 0x80;
    let mut long = good.clone();
    long.instructions[0].data = vec![0; 1_232];
    for (name, message) in [
        ("outside", outside),
        ("program", program),
        ("payer", read_only_payer),
        ("prefix", prefix),
        ("long", long),
        ("empty", Message::default()),
    ] {
        assert!(matches!(new(VersionedMessage::Legacy(message)), Err(DecodeError::Malformed(_))), "{name}");
    }
    let v1 = VersionedMessage::V1(Default::default());
    assert!(matches!(new(v1), Err(DecodeError::Malformed(_))));
}

#[test]
fn without_a_limit_the_most_is_counted() {
    let own = wallet().address();
    let price = ComputeBudgetInstruction::set_compute_unit_price(1_000_000);
    let fee = |instructions: &[Instruction]| effects_of(instructions, Vec::new()).expect("decodable").max_fee;
    let pay = system::transfer(&own, &key(5), 1);
    assert_eq!(fee(std::slice::from_ref(&pay)), Amount::from_lamports(5_000));
    assert_eq!(fee(&[price.clone(), pay.clone()]), Amount::from_lamports(5_000 + 400_000));
    let many: Vec<_> = std::iter::once(price.clone()).chain(vec![pay.clone(); 9]).collect();
    assert_eq!(fee(&many), Amount::from_lamports(5_000 + 1_400_000));
    let limit = ComputeBudgetInstruction::set_compute_unit_limit(u32::MAX);
    assert_eq!(fee(&[limit, price, pay]), Amount::from_lamports(5_000 + 1_400_000));
}

#[test]
fn signatures_that_do_not_fit() {
    let wallet = wallet();
    let built = CHAIN.build(&pay_sol(key(5), 1), &wallet.account, &state()).expect("possible");
    let payloads = CHAIN.payloads(&wallet.account, &built).expect("the wallet's");
    assert_eq!(payloads.len(), 1);
    assert_eq!(payloads[0].message(), &Signable::Ed25519(built.message_bytes()));
    let good = wallet.sign(&payloads[0]);
    let assemble = |signatures: &[Signature]| CHAIN.assemble(&wallet.account, &built, signatures);
    let signed = assemble(&[good]).expect("signed");

    assert_eq!(assemble(&[]), Err(AssembleError::Count { expected: 1, found: 0 }));
    assert_eq!(assemble(&[good, good]), Err(AssembleError::Count { expected: 1, found: 2 }));
    assert_eq!(assemble(&[Signature::Schnorr([1; 64])]), Err(AssembleError::Invalid(0)));
    let stranger = Wallet::new([8; 32], Cluster::Localnet);
    assert_eq!(assemble(&[stranger.sign(&payloads[0])]), Err(AssembleError::Invalid(0)));
    assert!(matches!(CHAIN.assemble(&stranger.account, &built, &[good]), Err(AssembleError::Decode(_))));

    // A stored transaction is verified anew: no byte of message or signature can change.
    let bytes = CHAIN.encode_signed(&signed);
    for at in 10..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(CHAIN.decode_signed(&bent).is_err(), "byte {at}");
    }
}
