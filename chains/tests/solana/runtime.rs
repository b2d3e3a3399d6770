//! What is built and signed here runs on Solana's own runtime, and costs what its effects say.

use chains::chain::Chain;
use chains::intent::Intent;
use chains::solana::{
    Destination, DestinationKind, Lamports, MessageVersion, State, TokenProgram, TokenState, associated_token_account,
};
use litesvm::LiteSVM;
use litesvm::types::TransactionResult;
use solana_program_pack::Pack;
use solana_sdk::account::Account;
use solana_sdk::pubkey::Pubkey;
use spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent;
use spl_token_interface::instruction as spl;
use spl_token_interface::state::{Account as TokenAccount, AccountState, Mint};

use crate::fixture::{CHAIN, MINIMUM, Wallet, key, pay_sol, pay_spl, state, token, under_blockhash, wallet};
use crate::programs::asks;

const FUNDS: u64 = 1_000_000_000;

fn world(wallet: &Wallet) -> LiteSVM {
    let mut svm = LiteSVM::new();
    svm.airdrop(&wallet.address(), FUNDS).expect("the faucet pays");
    svm
}

/// The state as a node would tell it, from the runtime itself.
fn read(svm: &LiteSVM, wallet: &Wallet, to: Pubkey, token: Option<TokenState>, version: MessageVersion) -> State {
    let there = svm.get_balance(&to).filter(|lamports| *lamports > 0);
    State {
        validity: under_blockhash(svm.latest_blockhash()),
        balance: Lamports::new(svm.get_balance(&wallet.address()).unwrap_or(0)),
        rent_exempt_minimum: Lamports::new(svm.minimum_balance_for_rent_exemption(0)),
        destination: Destination {
            lamports: Lamports::new(there.unwrap_or(0)),
            kind: if there.is_some() { DestinationKind::Wallet } else { DestinationKind::Absent },
        },
        token,
        version,
        ..state()
    }
}

/// Runs the payment and returns what it cost the wallet beyond its fee, and the most that its effects allowed.
fn run(svm: &mut LiteSVM, wallet: &Wallet, intent: &Intent, state: &State) -> (TransactionResult, u64) {
    let built = CHAIN.build(intent, &wallet.account, state).expect("possible");
    let max_fee = CHAIN.effects(&wallet.account, &built).expect("decodable").max_fee.to_u64().expect("64 bits");
    let payloads = CHAIN.payloads(&wallet.account, &built).expect("the wallet's");
    let signed = CHAIN.assemble(&wallet.account, &built, &[wallet.sign(&payloads[0])]).expect("signed");
    let transaction =
        bincode::deserialize::<solana_sdk::transaction::VersionedTransaction>(&signed.transaction_bytes());
    let result = svm.send_transaction(transaction.expect("a transaction"));
    if let Ok(done) = &result {
        assert_eq!(done.signature.to_string(), CHAIN.id(&signed).as_str());
    }
    (result, max_fee)
}

fn token_balance(svm: &LiteSVM, account: &Pubkey) -> Option<u64> {
    let account = svm.get_account(account).filter(|account| account.lamports > 0)?;
    TokenAccount::unpack(&account.data[..TokenAccount::LEN]).ok().map(|account| account.amount)
}

fn install(svm: &mut LiteSVM, address: Pubkey, program: TokenProgram, data: Vec<u8>) {
    let lamports = svm.minimum_balance_for_rent_exemption(data.len());
    let account = Account { lamports, data, owner: program.id(), executable: false, rent_epoch: u64::MAX };
    svm.set_account(address, account).expect("the runtime takes it");
}

fn issue(svm: &mut LiteSVM, mint: Pubkey, program: TokenProgram, holder: Pubkey, amount: u64) {
    let mut data = vec![0; Mint::LEN];
    let packed = Mint { supply: amount, decimals: 6, is_initialized: true, ..Mint::default() };
    Mint::pack(packed, &mut data).expect("82 bytes");
    install(svm, mint, program, data);
    let mut data = vec![0; TokenAccount::LEN];
    let packed = TokenAccount { mint, owner: holder, amount, state: AccountState::Initialized, ..Default::default() };
    TokenAccount::pack(packed, &mut data).expect("165 bytes");
    install(svm, associated_token_account(&holder, &mint, program), program, data);
}

#[test]
fn sol_arrives() {
    let wallet = wallet();
    for version in [MessageVersion::Legacy, MessageVersion::V0] {
        let mut svm = world(&wallet);
        let to = key(5);
        // A new account first, then one that exists, then everything that is left.
        for amount in [MINIMUM, 1] {
            let state = read(&svm, &wallet, to, None, version);
            let (result, max_fee) = run(&mut svm, &wallet, &pay_sol(to, amount), &state);
            result.expect("it runs");
            let after = svm.get_balance(&wallet.address()).expect("it has the rest");
            assert_eq!(state.balance.get() - after, amount + max_fee, "the fee is exact");
            assert_eq!(svm.get_balance(&to), Some(state.destination.lamports.get() + amount));
        }
        let state = read(&svm, &wallet, to, None, version);
        let (result, _) = run(&mut svm, &wallet, &pay_sol(to, state.balance.get() - 5_371), &state);
        result.expect("the last lamport may go");
        assert_eq!(svm.get_balance(&wallet.address()).unwrap_or(0), 0);
    }
}

#[test]
fn tokens_arrive_and_their_account_is_created_once() {
    let wallet = wallet();
    for program in TokenProgram::ALL {
        for version in [MessageVersion::Legacy, MessageVersion::V0] {
            let mut svm = world(&wallet);
            let (mint, to) = (key(3), key(5));
            issue(&mut svm, mint, program, wallet.address(), 1_000_000);
            let source = associated_token_account(&wallet.address(), &mint, program);
            let destination = associated_token_account(&to, &mint, program);
            let len = if program == TokenProgram::Token { 165 } else { 170 };
            let rent = svm.minimum_balance_for_rent_exemption(len);

            for (exists, sent) in [(false, 400_000), (true, 600_000)] {
                let mut facts = token(mint, program, exists);
                facts.source_balance = token_balance(&svm, &source).expect("the wallet holds some");
                facts.account_rent = Lamports::new(rent);
                let before = token_balance(&svm, &destination);
                assert_eq!(before.is_some(), exists);
                let state = read(&svm, &wallet, to, Some(facts), version);
                let (result, max_fee) = run(&mut svm, &wallet, &pay_spl(mint, to, sent), &state);
                result.unwrap_or_else(|e| panic!("{program:?} {version:?}: {e:?}"));
                assert_eq!(token_balance(&svm, &destination), Some(before.unwrap_or(0) + sent));
                assert_eq!(token_balance(&svm, &source), Some(facts.source_balance - sent));
                let cost = state.balance.get() - svm.get_balance(&wallet.address()).expect("it has the rest");
                assert_eq!(cost, 5_371 + if exists { 0 } else { rent });
                assert!(cost <= max_fee, "{cost} {max_fee}");
                if let Some(created) = svm.get_account(&destination) {
                    assert_eq!(created.data.len(), len, "{program:?}");
                }
            }
        }
    }
}

/// The rules about dust are the runtime's own: a state that hides them makes a transaction that it refuses.
#[test]
fn the_runtime_refuses_what_the_builder_refuses() {
    let wallet = wallet();
    let mut svm = world(&wallet);
    let mut blind = read(&svm, &wallet, key(5), None, MessageVersion::V0);
    blind.rent_exempt_minimum = Lamports::new(0);
    let (below, _) = run(&mut svm, &wallet, &pay_sol(key(5), MINIMUM - 1), &blind);
    assert!(format!("{:?}", below.expect_err("a poor account").err).contains("InsufficientFundsForRent"));

    let mut blind = read(&svm, &wallet, key(5), None, MessageVersion::V0);
    blind.rent_exempt_minimum = Lamports::new(0);
    let leaves_one = blind.balance.get() - 5_371 - 1;
    let (rest, _) = run(&mut svm, &wallet, &pay_sol(key(5), leaves_one), &blind);
    assert!(format!("{:?}", rest.expect_err("a poor payer").err).contains("InsufficientFundsForRent"));
}

#[test]
fn a_message_is_taken_once() {
    let wallet = wallet();
    let mut svm = world(&wallet);
    let state = read(&svm, &wallet, key(5), None, MessageVersion::V0);
    run(&mut svm, &wallet, &pay_sol(key(5), MINIMUM), &state).0.expect("the first time");
    let (again, _) = run(&mut svm, &wallet, &pay_sol(key(5), MINIMUM), &state);
    assert!(format!("{:?}", again.expect_err("the second time").err).contains("AlreadyProcessed"));
    // One compute unit more makes another message: what the client does for two equal payments.
    let mut other = state.clone();
    other.compute.unit_limit += 1;
    run(&mut svm, &wallet, &pay_sol(key(5), MINIMUM), &other).0.expect("another message");
}

/// Instructions of the known programs do on the runtime what their effects tell: lamports are wrapped, some of the tokens may be
/// spent, the rest is unwrapped again.
#[test]
fn instructions_do_what_their_effects_tell() {
    let wallet = wallet();
    let own = wallet.address();
    let mut svm = world(&wallet);
    let wrapped = Pubkey::from_str_const("So11111111111111111111111111111111111111112");
    let token = spl_token_interface::ID;
    let account = associated_token_account(&own, &wrapped, TokenProgram::Token);
    let rent = svm.minimum_balance_for_rent_exemption(165);
    let mut data = vec![0; Mint::LEN];
    let packed = Mint { decimals: 9, is_initialized: true, ..Mint::default() };
    Mint::pack(packed, &mut data).expect("82 bytes");
    install(&mut svm, wrapped, TokenProgram::Token, data);

    let wraps = asks(&[
        create_associated_token_account_idempotent(&own, &own, &wrapped, &token),
        solana_system_interface::instruction::transfer(&own, &account, 500_000),
        spl::sync_native(&token, &account).expect("well formed"),
        spl::approve_checked(&token, &account, &wrapped, &key(5), &own, &[], 300_000, 9).expect("well formed"),
    ]);
    let mut state = read(&svm, &wallet, key(5), None, MessageVersion::V0);
    state.compute.unit_limit = 200_000;
    let (result, max_fee) = run(&mut svm, &wallet, &wraps, &state);
    result.expect("it runs");
    assert_eq!(token_balance(&svm, &account), Some(500_000));
    let cost = state.balance.get() - svm.get_balance(&own).expect("it has the rest");
    assert_eq!(cost - 500_000, max_fee, "fee and rent are what the effects tell");
    let held = svm.get_account(&account).expect("it was created");
    let held = TokenAccount::unpack(&held.data).expect("a token account");
    assert_eq!((held.delegate, held.delegated_amount), (Some(key(5)).into(), 300_000));

    let unwraps = asks(&[
        spl::revoke(&token, &account, &own, &[]).expect("well formed"),
        spl::close_account(&token, &account, &own, &own, &[]).expect("well formed"),
    ]);
    let before = svm.get_balance(&own).expect("it has the rest");
    let mut state = read(&svm, &wallet, key(5), None, MessageVersion::Legacy);
    state.compute.unit_limit = 100_000;
    let (result, max_fee) = run(&mut svm, &wallet, &unwraps, &state);
    result.expect("it runs");
    assert_eq!(svm.get_balance(&own), Some(before + rent + 500_000 - max_fee), "all of it comes back");
}
