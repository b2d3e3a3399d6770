//! What can't be built, and what is.

use alloy::primitives::{Address, Bytes, TxKind, U256};
use chains::address::{AddressError, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain};
use chains::ethereum::{Fees, Gas, GasPrice, State, Transaction};
use chains::intent::{Action, Intent};
use chains::network::Network;

use crate::fixture::{CHAIN, CHAIN_ID, account, alice, alice_key, call, intent, state, transfer};

const BOB: Address = Address::repeat_byte(0xb0);
const TOKEN: Address = Address::repeat_byte(0x70);

fn refused(intent: &Intent, state: &State) -> BuildError {
    CHAIN.build(intent, &alice(), state).expect_err("it can't be built")
}

#[test]
fn nothing_can_be_transferred_by_nobody_or_to_nowhere() {
    let one = Amount::from_wei(1);
    for asset in [Asset::Native, Asset::Erc20(TOKEN)] {
        assert_eq!(refused(&transfer(asset, BOB, Amount::ZERO), &state()), BuildError::ZeroAmount);
    }
    let solana = "spl:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v".parse().expect("an asset");
    let network = Network::Ethereum(CHAIN_ID);
    assert_eq!(refused(&transfer(solana, BOB, one), &state()), BuildError::WrongAsset { asset: solana, network });

    let elsewhere = account(&alice_key(), 1);
    assert_eq!(
        CHAIN.build(&transfer(Asset::Native, BOB, one), &elsewhere, &state()),
        Err(BuildError::WrongAccount(network))
    );
    for bad in ["", "0x12", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed"]
    {
        let to = UncheckedAddress::new(bad);
        let pay = intent(Action::Transfer { asset: Asset::Native, to: to.clone(), amount: one });
        let call = intent(Action::Call { contract: to, data: Bytes::from([0; 4]), value: Amount::ZERO });
        for intent in [pay, call] {
            let error = refused(&intent, &state());
            assert!(matches!(error, BuildError::Address(AddressError::Malformed { .. })), "{bad:?}: {error}");
        }
    }
}

#[test]
fn a_call_needs_a_selector() {
    for length in 0..4 {
        let error = refused(&call(BOB, vec![0; length], Amount::from_wei(1)), &state());
        assert!(matches!(error, BuildError::Unsupported(_)), "{error}");
    }
    assert!(CHAIN.build(&call(BOB, vec![0; 4], Amount::ZERO), &alice(), &state()).is_ok());
}

#[test]
fn funds_are_counted_to_the_wei() {
    let fee = Amount::from_wei(100_000 * 30_000_000_000);
    let value = Amount::from_wei(1_000);
    let needed = value.checked_add(fee).expect("small");
    let pay = transfer(Asset::Native, BOB, value);
    assert!(CHAIN.build(&pay, &alice(), &State { balance: needed, ..state() }).is_ok());
    let available = needed.checked_sub(Amount::from_wei(1)).expect("positive");
    let short = BuildError::InsufficientFunds { asset: Asset::Native, needed, available };
    assert_eq!(refused(&pay, &State { balance: available, ..state() }), short);

    let all = transfer(Asset::Native, BOB, Amount::MAX);
    assert!(matches!(refused(&all, &state()), BuildError::Overflow(_)));

    let asset = Asset::Erc20(TOKEN);
    let pay = transfer(asset, BOB, value);
    assert!(CHAIN.build(&pay, &alice(), &State { token_balance: Some(value), balance: fee, ..state() }).is_ok());
    for (told, available) in [(Some(Amount::from_wei(999)), Amount::from_wei(999)), (None, Amount::ZERO)] {
        let short = BuildError::InsufficientFunds { asset, needed: value, available };
        assert_eq!(refused(&pay, &State { token_balance: told, ..state() }), short);
    }
}

#[test]
fn the_fee_stays_below_the_intents_cap() {
    let fee = Amount::from_wei(100_000 * 30_000_000_000);
    let pay = |cap| Intent { max_fee: Some(cap), ..transfer(Asset::Native, BOB, Amount::from_wei(1)) };
    assert!(CHAIN.build(&pay(fee), &alice(), &state()).is_ok());
    let cap = fee.checked_sub(Amount::from_wei(1)).expect("positive");
    assert_eq!(refused(&pay(cap), &state()), BuildError::FeeAboveCap { fee, cap });
}

#[test]
fn the_fees_decide_the_type() {
    let pay = transfer(Asset::Native, BOB, Amount::from_wei(5));
    let gas_price = GasPrice::from_gwei(2);
    let unsigned = CHAIN.build(&pay, &alice(), &State { fees: Fees::Legacy { gas_price }, ..state() }).expect("built");
    let Transaction::Eip2930(tx) = unsigned.transaction() else { panic!("no base fee, no EIP-1559") };
    assert_eq!((tx.chain_id, tx.nonce, tx.gas_price, tx.gas_limit), (CHAIN_ID, 7, 2_000_000_000, 100_000));
    assert_eq!((tx.to, tx.value, &tx.input), (TxKind::Call(BOB), U256::from(5), &Bytes::new()));

    let unsigned = CHAIN.build(&pay, &alice(), &state()).expect("built");
    let Transaction::Eip1559(tx) = unsigned.transaction() else { panic!("a base fee") };
    assert_eq!((tx.chain_id, tx.nonce, tx.gas_limit), (CHAIN_ID, 7, 100_000));
    assert_eq!((tx.max_fee_per_gas, tx.max_priority_fee_per_gas), (30_000_000_000, 1_000_000_000));
    assert_eq!((tx.to, tx.value, &tx.input), (TxKind::Call(BOB), U256::from(5), &Bytes::new()));
}

#[test]
fn the_tip_is_never_above_the_price() {
    let fees =
        Fees::Eip1559 { max_fee_per_gas: GasPrice::from_gwei(1), max_priority_fee_per_gas: GasPrice::from_gwei(2) };
    let state = State { fees, gas_limit: Gas::from_units(21_000), ..state() };
    let unsigned =
        CHAIN.build(&transfer(Asset::Native, BOB, Amount::from_wei(1)), &alice(), &state).expect("the tip is cut");
    let Transaction::Eip1559(tx) = unsigned.transaction() else { panic!("a base fee") };
    assert_eq!(tx.max_priority_fee_per_gas, 1_000_000_000);
    assert_eq!(unsigned.max_gas_price(), GasPrice::from_gwei(1));
}
