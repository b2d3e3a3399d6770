//! Building: what the intent says is what the bytes do, and what can't be is a typed error.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy::primitives::U256;
use bitcoin::absolute::LockTime;
use bitcoin::{FeeRate, Sequence, Transaction};
use chains::account::PublicKey;
use chains::address::{AddressError, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::{State, Unsigned, Utxo};
use chains::chain::{BuildError, Chain};
use chains::effects::Effects;
use chains::intent::{Action, Intent};
use chains::network::{BitcoinNetwork, Network};
use proptest::prelude::*;

use crate::fixture::{CHAIN, DESTINATIONS, NETWORK, Wallet, account, consensus_accepts, pay, transfer};

fn sat(unsigned: &Unsigned) -> u64 {
    unsigned.spent().iter().map(|output| output.value.to_sat()).sum()
}

fn assert_says(effects: &Effects, wallet: &Wallet, to: &str, amount: u64) {
    assert_eq!(effects.transfers.len(), 1);
    let transfer = &effects.transfers[0];
    assert_eq!(transfer.asset, Asset::Native);
    assert_eq!(transfer.from, *wallet.account.address());
    assert_eq!(transfer.to.to_string(), to);
    assert_eq!(transfer.amount, Amount::from_sat(amount));
    assert!(effects.allowances.is_empty() && effects.calls.is_empty() && effects.touches.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn intent_and_effects_agree(
        taproot: bool,
        to in prop::sample::select(DESTINATIONS.to_vec()),
        amount in 600u64..3_000_000,
        coins in prop::collection::vec(1_000u64..2_000_000, 1..12),
        rate in 1u32..200,
    ) {
        let wallet = if taproot { Wallet::p2tr(2) } else { Wallet::p2wpkh(1) };
        let mut state = wallet.state(&coins);
        state.fee_rate = FeeRate::from_sat_per_vb_u32(rate);
        let intent = transfer(to, amount);
        let unsigned = match CHAIN.build(&intent, &wallet.account, &state) {
            Ok(unsigned) => unsigned,
            Err(BuildError::InsufficientFunds { needed, available, .. }) => {
                prop_assert!(available < needed);
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        // The same input, whatever its order, gives the same bytes.
        state.utxos.reverse();
        prop_assert_eq!(CHAIN.build(&intent, &wallet.account, &state), Ok(unsigned.clone()));

        let bytes = CHAIN.encode_unsigned(&unsigned);
        let decoded = CHAIN.decode_unsigned(&bytes).expect("what was encoded");
        prop_assert_eq!(&decoded, &unsigned);
        let effects = CHAIN.effects(&wallet.account, &decoded).expect("what was built");
        assert_says(&effects, &wallet, to, amount);
        let out = [effects.transfers[0].amount, effects.change, effects.max_fee];
        let out = out.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
        prop_assert_eq!(out, Some(Amount::from_sat(sat(&decoded))));

        let payloads = CHAIN.payloads(&wallet.account, &decoded).expect("the account's");
        let signatures: Vec<_> = payloads.iter().map(|payload| wallet.sign(payload)).collect();
        let signed = CHAIN.assemble(&wallet.account, &decoded, &signatures).expect("signatures that verify");
        prop_assert!(consensus_accepts(signed.transaction(), decoded.spent()));
        // The rate is met by the bytes as they are sent, and overpaid by no more than dust and a change output.
        let least = u64::from(rate) * u64::try_from(signed.transaction().vsize()).expect("small");
        let fee = decoded.fee().to_sat();
        prop_assert!(fee >= least, "{fee} < {least}");
        let inputs = u64::try_from(signed.transaction().input.len()).expect("few");
        prop_assert!(fee <= least + u64::from(rate) * (45 + inputs) + 330, "{fee} for {least}");
    }
}

#[test]
fn the_transaction_is_what_the_network_expects() {
    for wallet in Wallet::both() {
        let state = wallet.state(&[40_000, 50_000, 60_000]);
        let unsigned = CHAIN.build(&transfer(DESTINATIONS[2], 100_000), &wallet.account, &state).expect("enough");
        let tx = unsigned.transaction();
        assert_eq!(tx.version.0, 2);
        assert_eq!(tx.lock_time, LockTime::from_height(840_000).expect("a height"));
        assert!(tx.input.iter().all(|input| input.sequence == Sequence(0xffff_fffd)));
        assert!(tx.is_explicitly_rbf() && tx.is_lock_time_enabled());
        assert!(unsigned.psbt().inputs.iter().all(|input| input.witness_utxo.is_some()));
        let slots: BTreeSet<_> =
            tx.input.iter().map(|input| format!("bitcoin:regtest/{}", input.previous_output)).collect();
        let found: BTreeSet<_> = CHAIN.slots(&wallet.account, &unsigned).iter().map(ToString::to_string).collect();
        assert_eq!(found, slots);
    }
}

#[test]
fn p2wpkh_inputs_carry_their_whole_transaction_and_p2tr_inputs_their_key() {
    let [p2wpkh, p2tr] = Wallet::both();
    let build = |wallet: &Wallet| {
        let state = wallet.state(&[100_000]);
        CHAIN.build(&transfer(DESTINATIONS[0], 50_000), &wallet.account, &state).expect("enough")
    };
    let unsigned = build(&p2wpkh);
    let input = &unsigned.psbt().inputs[0];
    let previous = input.non_witness_utxo.as_ref().expect("the previous transaction");
    assert_eq!(previous.compute_txid(), unsigned.transaction().input[0].previous_output.txid);
    assert!(input.tap_internal_key.is_none());

    let unsigned = build(&p2tr);
    let input = &unsigned.psbt().inputs[0];
    assert_eq!(input.tap_internal_key.map(PublicKey::Taproot).as_ref(), Some(p2tr.account.public_key()));
    assert!(input.non_witness_utxo.is_none());
}

#[test]
fn unconfirmed_change_is_spent_only_where_it_must_be() {
    let wallet = Wallet::p2tr(2);
    let mut state = wallet.state(&[100_000]);
    let change = Arc::new(pay(&[(wallet.script(), 900_000)], 200));
    state.utxos.push(Utxo::new(change, 0, 0).expect("the output is there"));
    let inputs = |amount: u64| {
        let built = CHAIN.build(&transfer(DESTINATIONS[4], amount), &wallet.account, &state).expect("enough");
        sat(&built)
    };
    assert_eq!(inputs(90_000), 100_000);
    assert_eq!(inputs(500_000), 900_000);
    assert_eq!(inputs(950_000), 1_000_000);
}

fn refused(wallet: &Wallet, intent: &Intent, state: &State) -> BuildError {
    CHAIN.build(intent, &wallet.account, state).expect_err("refused")
}

#[test]
fn every_bad_input_has_its_error() {
    for wallet in Wallet::both() {
        let state = wallet.state(&[1_000_000]);
        let error = |to: &str, amount: u64| refused(&wallet, &transfer(to, amount), &state);
        let to = DESTINATIONS[2];

        assert_eq!(error(to, 0), BuildError::ZeroAmount);
        assert!(matches!(error(to, 2_100_000_000_000_001), BuildError::Overflow(_)));
        let mut above_64_bits = transfer(to, 1);
        above_64_bits.action = Action::Transfer {
            asset: Asset::Native,
            to: UncheckedAddress::new(to),
            amount: Amount::from_base_units(U256::from(1) << 64),
        };
        assert!(matches!(refused(&wallet, &above_64_bits, &state), BuildError::Overflow(_)));

        // Bitcoin Core's dust limits at 3 sat/vB, `GetDustThreshold`.
        for (to, minimum) in DESTINATIONS.iter().zip([546, 540, 294, 330, 330]) {
            assert_eq!(error(to, minimum - 1), BuildError::Dust { minimum: Amount::from_sat(minimum) });
            assert!(CHAIN.build(&transfer(to, minimum), &wallet.account, &state).is_ok());
        }

        assert!(matches!(
            error(to, 1_000_000),
            BuildError::InsufficientFunds { asset: Asset::Native, needed, available }
                if needed > Amount::from_sat(1_000_000) && available == Amount::from_sat(1_000_000)
        ));
        let empty = wallet.state(&[]);
        assert!(matches!(
            refused(&wallet, &transfer(to, 1_000), &empty),
            BuildError::InsufficientFunds { available: Amount::ZERO, .. }
        ));

        let mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
        assert!(matches!(error(mainnet, 1_000), BuildError::Address(AddressError::WrongNetwork { .. })));
        assert!(matches!(error("nonsense", 1_000), BuildError::Address(AddressError::Malformed { .. })));
        let witness_v16 = "bcrt1sw50qgdz25j"; // a wrong checksum for this prefix
        assert!(matches!(error(witness_v16, 1_000), BuildError::Address(AddressError::Malformed { .. })));
        let own = wallet.account.address().to_string();
        assert!(matches!(error(&own, 1_000), BuildError::Unsupported(_)));
    }
}

#[test]
fn undefined_witness_versions_are_not_paid() {
    let program = bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V16, &[7; 32]).expect("a program");
    let address = bitcoin::Address::from_witness_program(program, NETWORK).to_string();
    let wallet = Wallet::p2tr(2);
    let error = refused(&wallet, &transfer(&address, 10_000), &wallet.state(&[100_000]));
    assert!(matches!(error, BuildError::Unsupported(_)));
}

#[test]
fn tokens_and_calls_are_of_other_chains() {
    let wallet = Wallet::p2tr(2);
    let state = wallet.state(&[100_000]);
    let mut intent = transfer(DESTINATIONS[0], 10_000);
    let token: Asset = "erc20:0x52908400098527886E0F7030069857D2E4169EE7".parse().expect("an asset");
    if let Action::Transfer { asset, .. } = &mut intent.action {
        *asset = token;
    }
    let network = Network::Bitcoin(NETWORK);
    assert_eq!(refused(&wallet, &intent, &state), BuildError::WrongAsset { asset: token, network });
    intent.action = Action::Call {
        contract: UncheckedAddress::new(DESTINATIONS[0]),
        data: Default::default(),
        value: Amount::ZERO,
    };
    assert!(matches!(refused(&wallet, &intent, &state), BuildError::Unsupported(_)));
}

#[test]
fn the_cap_on_the_fee_holds_to_the_satoshi() {
    let wallet = Wallet::p2wpkh(1);
    let state = wallet.state(&[100_000]);
    let mut intent = transfer(DESTINATIONS[2], 10_000);
    let fee = CHAIN.build(&intent, &wallet.account, &state).expect("enough").fee().to_sat();
    intent.max_fee = Some(Amount::from_sat(fee));
    assert!(CHAIN.build(&intent, &wallet.account, &state).is_ok());
    let cap = Amount::from_sat(fee - 1);
    intent.max_fee = Some(cap);
    assert_eq!(refused(&wallet, &intent, &state), BuildError::FeeAboveCap { fee: Amount::from_sat(fee), cap });
}

#[test]
fn an_account_of_another_network_or_coins_of_another_account_are_refused() {
    let wallet = Wallet::p2tr(2);
    let intent = transfer(DESTINATIONS[2], 10_000);
    let wrong = BuildError::WrongAccount(Network::Bitcoin(NETWORK));
    let main = Network::Bitcoin(BitcoinNetwork::Bitcoin);
    let elsewhere = account(*wallet.account.public_key(), main);
    assert_eq!(CHAIN.build(&intent, &elsewhere, &wallet.state(&[100_000])), Err(wrong.clone()));
    let solana = account(PublicKey::Ed25519([3; 32]), "solana:localnet".parse().expect("a network"));
    assert_eq!(CHAIN.build(&intent, &solana, &wallet.state(&[100_000])), Err(wrong.clone()));
    let others = Wallet::p2tr(9).state(&[100_000]);
    assert_eq!(refused(&wallet, &intent, &others), wrong);
}

#[test]
fn coins_that_cannot_be_are_not_spent() {
    let wallet = Wallet::p2tr(2);
    let output = |sat: u64| Arc::new(pay(&[(wallet.script(), sat)], 1));
    assert!(Utxo::new(output(u64::MAX), 0, 1).is_none());
    assert!(Utxo::new(output(2_100_000_000_000_001), 0, 1).is_none());
    assert!(Utxo::new(output(1_000), 1, 1).is_none());
    // Two that can, together above 21 million.
    let mut state = wallet.state(&[1_100_000_000_000_000, 1_100_000_000_000_000]);
    let intent = transfer(DESTINATIONS[2], 2_000_000_000_000_000);
    assert!(matches!(refused(&wallet, &intent, &state), BuildError::Unsupported(_)));
    // One coin twice is one coin.
    state = wallet.state(&[100_000]);
    state.utxos.push(state.utxos[0].clone());
    assert!(matches!(
        refused(&wallet, &transfer(DESTINATIONS[2], 150_000), &state),
        BuildError::InsufficientFunds { .. }
    ));
}

#[test]
fn a_transaction_that_nobody_relays_is_not_built() {
    let wallet = Wallet::p2tr(2);
    let outputs: Vec<_> = (0..2_000).map(|_| (wallet.script(), 10_000)).collect();
    let previous: Arc<Transaction> = Arc::new(pay(&outputs, 1));
    let mut state = wallet.state(&[]);
    state.fee_rate = FeeRate::from_sat_per_vb_u32(1);
    state.utxos = (0..2_000).filter_map(|vout| Utxo::new(previous.clone(), vout, 3)).collect();
    assert!(matches!(refused(&wallet, &transfer(DESTINATIONS[2], 19_000_000), &state), BuildError::Unsupported(_)));
    assert!(CHAIN.build(&transfer(DESTINATIONS[2], 10_000_000), &wallet.account, &state).is_ok());
}
