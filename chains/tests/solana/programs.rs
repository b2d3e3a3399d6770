//! Instructions of programs: what is told of those that are known, and how those that aren't are told.

use std::collections::BTreeSet;

use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain, DecodeError};
use chains::effects::{Allowance, Effects, Transfer};
use chains::intent::{Action, Intent, ProgramAccount, ProgramInstruction};
use chains::network::Cluster;
use chains::solana::{State, TokenProgram, Unsigned, associated_token_account, nonce_account};
use proptest::prelude::*;
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::instruction::{AccountMeta, Instruction};
use solana_sdk::pubkey::Pubkey;
use solana_system_interface::instruction as system;
use spl_associated_token_account_interface::instruction::{create_associated_token_account_idempotent, recover_nested};
use spl_token_interface::instruction as spl;

use crate::fixture::{CHAIN, LAST_VALID, durable, key, legacy, pay_sol, state, unsigned, wallet};

const TOKEN: Pubkey = spl_token_interface::ID;
const LOOKUP: Pubkey = Pubkey::from_str_const("AddressLookupTab1e1111111111111111111111111");
const MEMO: Pubkey = Pubkey::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const WRAPPED: Pubkey = Pubkey::from_str_const("So11111111111111111111111111111111111111112");

fn read(instructions: &[Instruction], owners: Vec<Pubkey>) -> Result<Effects, DecodeError> {
    let wallet = wallet();
    CHAIN.effects(&wallet.account, &unsigned(legacy(&wallet.address(), instructions), owners))
}

fn effects(instructions: &[Instruction]) -> Effects {
    read(instructions, Vec::new()).expect("decodable")
}

fn refused(instructions: &[Instruction]) -> String {
    match read(instructions, Vec::new()) {
        Err(DecodeError::Undecodable(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn own_account(mint: &Pubkey) -> Pubkey {
    associated_token_account(&wallet().address(), mint, TokenProgram::Token)
}

/// Whether each of the instructions is explained, in their order.
fn explained(effects: &Effects) -> Vec<bool> {
    effects.programs.iter().map(|call| call.explained).collect()
}

fn proceeds(effects: &Effects) -> Vec<Address> {
    effects.proceeds.iter().map(|proceeds| proceeds.to.clone()).collect()
}

fn call(program: Pubkey, accounts: Vec<AccountMeta>, data: &[u8]) -> Instruction {
    Instruction { program_id: program, accounts, data: data.to_vec() }
}

/// The intent that asks for exactly these instructions.
pub(crate) fn asks(instructions: &[Instruction]) -> Intent {
    let text = |key: &Pubkey| UncheckedAddress::new(key.to_string());
    let asked = instructions.iter().map(|instruction| ProgramInstruction {
        program: text(&instruction.program_id),
        accounts: instruction
            .accounts
            .iter()
            .map(|used| ProgramAccount { address: text(&used.pubkey), writable: used.is_writable })
            .collect(),
        data: instruction.data.clone().into(),
    });
    Intent {
        action: Action::CallProgram { instructions: asked.collect(), lookup_tables: Vec::new() },
        ..pay_sol(key(5), 1)
    }
}

#[test]
fn an_unknown_program_is_told_as_it_is_called() {
    let own = wallet().address();
    let accounts = vec![
        AccountMeta::new(own, true),
        AccountMeta::new(key(6), false),
        AccountMeta::new_readonly(key(7), false),
        AccountMeta::new(key(6), false),
    ];
    let effects = effects(&[call(key(9), accounts, &[1, 2, 3])]);
    let [found] = effects.programs.as_slice() else { panic!("one call: {effects:?}") };
    assert_eq!((found.program, found.data.to_vec(), found.explained), (key(9), vec![1, 2, 3], false));
    let used: Vec<_> = found.accounts.iter().map(|used| (used.address, used.writable)).collect();
    assert_eq!(used, [(own, true), (key(6), true), (key(7), false), (key(6), true)]);
    let touched: BTreeSet<_> = effects.touches.iter().cloned().collect();
    assert_eq!(touched, [key(6), key(7), key(9)].map(Address::Solana).into());
    assert!(effects.transfers.is_empty() && effects.allowances.is_empty() && effects.proceeds.is_empty());
}

#[test]
fn what_only_pays_has_no_calls() {
    let own = wallet().address();
    let pays = effects(&[ComputeBudgetInstruction::set_compute_unit_limit(9), system::transfer(&own, &key(5), 1)]);
    assert!(pays.programs.is_empty());
    let memo = call(MEMO, Vec::new(), b"invoice 7");
    let pays = effects(&[system::transfer(&own, &key(5), 1), memo]);
    assert_eq!(explained(&pays), [true, true], "with a memo, all of it is told");
    assert_eq!(pays.transfers.len(), 1);
}

#[test]
fn token_instructions_with_a_meaning() {
    let (own, mint, other) = (wallet().address(), key(3), key(5));
    let source = own_account(&mint);
    let (asset, from) = (Asset::Spl(mint), Address::Solana(own));

    let approve = spl::approve_checked(&TOKEN, &source, &mint, &other, &own, &[], 7, 6).expect("well formed");
    let found = effects(std::slice::from_ref(&approve));
    let allowance = Allowance { asset, spender: Address::Solana(other), amount: Amount::from_lamports(7) };
    assert_eq!((found.allowances.as_slice(), explained(&found)), (&[allowance][..], vec![true]));

    let burn = spl::burn_checked(&TOKEN, &source, &mint, &own, &[], 7, 6).expect("well formed");
    let found = effects(&[burn]);
    let burnt = Transfer { asset, from, to: Address::Solana(mint), amount: Amount::from_lamports(7) };
    assert_eq!((found.transfers.as_slice(), explained(&found)), (&[burnt][..], vec![true]));

    let close = |to: &Pubkey| spl::close_account(&TOKEN, &source, to, &own, &[]).expect("well formed");
    let found = effects(&[close(&own)]);
    assert_eq!((explained(&found), proceeds(&found)), (vec![true], vec![]));
    let found = effects(&[close(&other)]);
    assert_eq!((explained(&found), proceeds(&found)), (vec![false], vec![Address::Solana(other)]));

    let revoke = spl::revoke(&TOKEN, &source, &own, &[]).expect("well formed");
    assert_eq!(explained(&effects(&[revoke])), [true]);

    let mint_to = |to: &Pubkey| spl::mint_to(&TOKEN, &mint, to, &own, &[], 9).expect("well formed");
    assert_eq!(proceeds(&effects(&[mint_to(&source)])), [], "to the wallet itself");
    assert_eq!(proceeds(&effects(&[mint_to(&key(8))])), [Address::Solana(key(8))]);
    let theirs = associated_token_account(&other, &mint, TokenProgram::Token);
    let create = create_associated_token_account_idempotent(&own, &other, &mint, &TOKEN);
    assert_eq!(proceeds(&effects(&[create, mint_to(&theirs)])), [Address::Solana(other)]);

    let hand = |of, to: Option<&Pubkey>| spl::set_authority(&TOKEN, &mint, to, of, &own, &[]).expect("well formed");
    let found = effects(&[hand(spl::AuthorityType::MintTokens, Some(&other))]);
    assert_eq!((explained(&found), proceeds(&found)), (vec![false], vec![Address::Solana(other)]));
    assert_eq!(proceeds(&effects(&[hand(spl::AuthorityType::FreezeAccount, None)])), []);

    let init = spl::initialize_mint2(&TOKEN, &mint, &other, Some(&key(6)), 6).expect("well formed");
    let both: BTreeSet<_> = proceeds(&effects(&[init])).into_iter().collect();
    assert_eq!(both, [other, key(6)].map(Address::Solana).into());
}

#[test]
fn lamports_are_wrapped_and_unwrapped() {
    let own = wallet().address();
    let wrapped = own_account(&WRAPPED);
    let found = effects(&[
        create_associated_token_account_idempotent(&own, &own, &WRAPPED, &TOKEN),
        system::transfer(&own, &wrapped, 1_000),
        spl::sync_native(&TOKEN, &wrapped).expect("well formed"),
    ]);
    assert_eq!((found.transfers.as_slice(), explained(&found)), (&[][..], vec![true; 3]));
    let theirs = associated_token_account(&key(5), &WRAPPED, TokenProgram::Token);
    assert_eq!(effects(&[system::transfer(&own, &theirs, 1_000)]).transfers.len(), 1, "another's account is paid");
}

#[test]
fn a_transfer_with_a_fee_is_told_with_all_that_leaves() {
    let (own, mint, other) = (wallet().address(), key(3), key(5));
    let [source, theirs] = [own, other].map(|owner| associated_token_account(&owner, &mint, TokenProgram::Token2022));
    let accounts = vec![
        AccountMeta::new(source, false),
        AccountMeta::new_readonly(mint, false),
        AccountMeta::new(theirs, false),
        AccountMeta::new_readonly(own, true),
    ];
    let data = |amount: u64, fee: u64| [&[26, 1][..], &amount.to_le_bytes(), &[6], &fee.to_le_bytes()].concat();
    let pays = |program: TokenProgram, data: &[u8]| read(&[call(program.id(), accounts.clone(), data)], vec![other]);
    let found = pays(TokenProgram::Token2022, &data(100, 3)).expect("decodable");
    assert_eq!(found.transfers, crate::fixture::transfer(&wallet(), Asset::Spl(mint), other, 100));
    assert!(found.programs.is_empty());
    for (what, bytes) in [
        ("more fee than amount", data(3, 4)),
        ("a tail", [data(100, 3), vec![0]].concat()),
        ("cut", data(100, 3)[..12].to_vec()),
        ("confidential", [&[27, 7][..], &[0; 40]].concat()),
        ("confidential fee", vec![37, 0]),
        ("confidential burning", vec![42, 0]),
        ("an extension that isn't known", vec![99, 0]),
        ("a hook's settings", vec![36, 0]),
    ] {
        let found = pays(TokenProgram::Token2022, &bytes);
        assert!(matches!(found, Err(DecodeError::Undecodable(_))), "{what}: {found:?}");
    }
    assert!(pays(TokenProgram::Token, &data(100, 3)).is_err(), "SPL Token has no fees");
}

#[test]
fn accounts_that_derive_from_the_wallet() {
    let own = wallet().address();
    let derived = Pubkey::create_with_seed(&own, "seed", &TOKEN).expect("a short seed");
    let create = system::create_account_with_seed(&own, &derived, &own, "seed", 2_039_280, 165, &TOKEN);
    let found = effects(std::slice::from_ref(&create));
    assert_eq!(found.transfers, crate::fixture::transfer(&wallet(), Asset::Native, derived, 2_039_280));
    assert_eq!(explained(&found), [false], "a rule has to name it");
    assert!(found.touches.contains(&Address::Solana(TOKEN)));
    let mut other = create;
    other.accounts[1].pubkey = key(6);
    refused(&[other]);

    let from_seed =
        |from: &Pubkey, base: &Pubkey| system::transfer_with_seed(from, base, "seed".to_owned(), &TOKEN, &key(5), 70);
    let found = effects(&[from_seed(&derived, &own)]);
    assert_eq!(found.transfers, crate::fixture::transfer(&wallet(), Asset::Native, key(5), 70));
    refused(&[from_seed(&key(6), &own)]);

    let nested = recover_nested(&own, &key(3), &key(4), &TOKEN);
    assert_eq!(explained(&effects(&[nested])), [true]);
}

#[test]
fn nonces_are_not_given_away() {
    let own = wallet().address();
    let nonce = nonce_account(&own, 0);
    refused(&[system::withdraw_nonce_account(&nonce, &own, &own, 9)]);
    refused(&[system::authorize_nonce_account(&nonce, &own, &key(5))]);
    refused(&[system::assign(&own, &key(9))]);
    refused(&[system::allocate(&own, 10)]);
    // Opening one and calling a program is more than upkeep.
    let mut open = system::create_nonce_account_with_seed(&own, &nonce, &own, "portcullis-nonce-0", &own, 1_447_680);
    assert!(effects(&open).upkeep.is_some());
    open.push(call(MEMO, Vec::new(), b"and more"));
    assert!(refused(&open).contains("more than that"));
}

#[test]
fn lookup_tables_are_made_by_rule() {
    let own = wallet().address();
    let system = AccountMeta::new_readonly(solana_system_interface::program::ID, false);
    let with = |accounts: Vec<AccountMeta>, data: &[u8]| call(LOOKUP, accounts, data);
    let table = AccountMeta::new(key(8), false);
    let signs = AccountMeta::new(own, true);
    let create = [&[0; 4][..], &77_u64.to_le_bytes(), &[255]].concat();
    let accounts = |authority| vec![table.clone(), authority, signs.clone(), system.clone()];
    let found = effects(&[with(accounts(signs.clone()), &create)]);
    assert_eq!((explained(&found), proceeds(&found)), (vec![false], vec![]));
    assert_eq!(found.max_fee, Amount::from_lamports(5_000 + (128 + 56) * 6_960));
    let found = effects(&[with(accounts(AccountMeta::new_readonly(key(5), false)), &create)]);
    assert_eq!(proceeds(&found), [Address::Solana(key(5))], "another has the table");

    let extend = [&[2, 0, 0, 0][..], &2_u64.to_le_bytes(), &[7; 32], &[6; 32]].concat();
    let found = effects(&[with(accounts(signs.clone()), &extend)]);
    assert_eq!(found.max_fee, Amount::from_lamports(5_000 + 64 * 6_960));
    assert!([key(6), key(7)].iter().all(|key| found.touches.contains(&Address::Solana(*key))), "names in the data");
    refused(&[with(accounts(signs.clone()), &[&[2, 0, 0, 0][..], &3_u64.to_le_bytes(), &[7; 32]].concat())]);
    let close = with(vec![table.clone(), signs.clone(), AccountMeta::new(key(5), false)], &[4, 0, 0, 0]);
    assert_eq!(proceeds(&effects(&[close])), [Address::Solana(key(5))]);
    refused(&[with(vec![table, signs], &[5, 0, 0, 0])]);
}

#[test]
fn memos_are_text_that_the_wallet_signs() {
    let own = wallet().address();
    assert_eq!(explained(&effects(&[call(MEMO, vec![AccountMeta::new(own, true)], "größe".as_bytes())])), [true]);
    refused(&[call(MEMO, vec![AccountMeta::new_readonly(key(6), false)], b"text")]);
    refused(&[call(MEMO, Vec::new(), &[0xff, 0xfe])]);
}

/// What a rule names is told of owners that nothing proves, so that they are screened; what needs no rule admits no such claim.
#[test]
fn claimed_owners_of_called_accounts_are_touched() {
    let claimed = vec![key(42)];
    let found = read(&[call(key(9), vec![AccountMeta::new(key(6), false)], &[1])], claimed.clone());
    assert!(found.expect("decodable").touches.contains(&Address::Solana(key(42))));
    assert!(read(&[call(MEMO, Vec::new(), b"text")], claimed).is_err());
}

#[test]
fn an_intent_becomes_its_instructions_and_nothing_else() {
    let wallet = wallet();
    let own = wallet.address();
    let swap = call(
        key(9),
        vec![AccountMeta::new(own, true), AccountMeta::new(key(6), false), AccountMeta::new_readonly(key(7), false)],
        &[0xe5, 0x17, 0xcb, 0x97, 0x7a, 0xe3, 0xad, 0x2a, 1, 2],
    );
    let memo = call(MEMO, vec![], b"desk 4");
    let all = [swap.clone(), memo];
    let intent = asks(&all);
    for state in [state(), durable(&wallet, 9)] {
        let state = State { owners: vec![key(42)], ..state };
        let built = CHAIN.build(&intent, &wallet.account, &state).expect("possible");
        let found = CHAIN.effects(&wallet.account, &built).expect("decodable");
        assert_eq!(found.programs.len(), 2);
        for (told, asked) in found.programs.iter().zip(&all) {
            assert_eq!((told.program, &told.data[..]), (asked.program_id, &asked.data[..]));
            let accounts: Vec<_> = told.accounts.iter().map(|used| (used.address, used.writable)).collect();
            let wanted: Vec<_> = asked.accounts.iter().map(|used| (used.pubkey, used.is_writable)).collect();
            assert_eq!(accounts, wanted);
        }
        assert!(found.touches.contains(&Address::Solana(key(42))), "the owner that the node tells");
        assert_eq!(CHAIN.decode_unsigned(&CHAIN.encode_unsigned(&built)), Ok(built));
    }

    let refusal = |instructions: &[Instruction]| {
        CHAIN.build(&asks(instructions), &wallet.account, &state()).expect_err("impossible")
    };
    assert!(
        matches!(refusal(&[system::transfer(&own, &key(5), 1)]), BuildError::Unsupported(why) if why.contains("transfer"))
    );
    assert!(matches!(refusal(&[]), BuildError::Unsupported(_)));
    assert!(matches!(refusal(&[swap.clone(), system::assign(&own, &key(9))]), BuildError::Unsupported(_)));
    let limited = [ComputeBudgetInstruction::set_compute_unit_limit(1), swap.clone()];
    assert!(matches!(refusal(&limited), BuildError::Unsupported(_)), "the limit isn't the intent's to set");
    let mut capped = asks(std::slice::from_ref(&swap));
    capped.max_fee = Some(Amount::from_lamports(5_370));
    let found = CHAIN.build(&capped, &wallet.account, &state());
    assert!(matches!(found, Err(BuildError::FeeAboveCap { .. })), "{found:?}");
}

proptest! {
    /// Whatever the accounts and data of the known programs: every account is named, and nothing is decoded that doesn't come
    /// from the wallet.
    #[test]
    fn every_account_is_named(
        program in prop::sample::select(vec![
            solana_system_interface::program::ID, TOKEN, TokenProgram::Token2022.id(), LOOKUP, MEMO,
            spl_associated_token_account_interface::program::ID, solana_compute_budget_interface::ID, key(9),
        ]),
        places in prop::collection::vec((0_u8..6, any::<bool>()), 0..6),
        head in 0_u8..48,
        data in prop::collection::vec(0_u8..4, 0..60),
    ) {
        let own = wallet().address();
        let accounts: Vec<_> = places.iter().map(|(at, writable)| {
            let address = match at { 0 => own, 1 => own_account(&key(3)), at => key(*at + 1) };
            AccountMeta { pubkey: address, is_signer: address == own, is_writable: *writable }
        }).collect();
        let named: BTreeSet<_> = accounts.iter().map(|used| used.pubkey).filter(|used| *used != own).collect();
        let message = legacy(&own, &[call(program, accounts, &[vec![head], data].concat())]);
        // What advances a nonce isn't signed under a blockhash.
        let unsigned = Unsigned::new(Cluster::Localnet, message, LAST_VALID, Vec::new());
        if let Ok(found) = unsigned.and_then(|unsigned| CHAIN.effects(&wallet().account, &unsigned)) {
            let parties: BTreeSet<_> = found.parties().collect();
            prop_assert!(named.iter().all(|key| parties.contains(&Address::Solana(*key))));
            prop_assert!(found.transfers.iter().all(|transfer| transfer.from == Address::Solana(own)));
        }
    }
}
