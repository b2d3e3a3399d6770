//! No bit of a payment is free: whichever is flipped, it is another one or none.

use super::*;

/// Which bits are flipped outside of what is fixed. A PSBT is long, and slow to check.
#[derive(Clone, Copy, PartialEq)]
enum Bits {
    All,
    OneOfEachByte,
}

/// Whatever bit of the transaction is flipped: it is refused, or what is signed still pays the same. In particular every
/// flip inside of the receiver or the amount is refused.
fn flip_bits(intent: &Value, every: Bits, fixed: &[Vec<u8>]) {
    let guard = guard();
    let unsigned = built(intent);
    let good = request(intent, unsigned.clone());
    let ranges: Vec<_> = fixed
        .iter()
        .map(|part| {
            let at = unsigned.windows(part.len()).position(|window| window == part);
            let at = at.unwrap_or_else(|| panic!("{} is not in the bytes", hex::encode(part)));
            at..at + part.len()
        })
        .collect();
    let account = account(good.wallet.as_str());
    let mut accepted = 0;
    let is_fixed = |byte: usize| ranges.iter().any(|range| range.contains(&byte));
    let bits = (0..unsigned.len() * 8).filter(|bit| every == Bits::All || is_fixed(bit / 8) || bit / 8 % 8 == bit % 8);
    for bit in bits {
        let mut flipped = good.clone();
        flipped.unsigned[bit / 8] ^= 1 << (bit % 8);
        if guard.judge(&flipped, |_| NOW).is_ok() {
            accepted += 1;
            assert!(!is_fixed(bit / 8), "{intent}: bit {bit}");
            assert_eq!(pays_what(&account, &flipped.unsigned), pays_what(&account, &unsigned), "{intent}: bit {bit}");
        }
    }
    // A nonce, a gas price, a block hash: what the intent leaves open.
    assert!(accepted > 0, "{intent}: nothing but refusals proves nothing");
}

fn pays_what(account: &Account, bytes: &[u8]) -> Effects {
    fn of<C: Chain>(chain: &C, account: &Account, bytes: &[u8]) -> Effects {
        let unsigned = chain.decode_unsigned(bytes).expect("it was accepted");
        chain.effects(account, &unsigned).expect("it was accepted")
    }
    let effects = match account.network() {
        Network::Bitcoin(network) => of(&Bitcoin::new(network), account, bytes),
        Network::Ethereum(chain_id) => of(&Ethereum::new(chain_id), account, bytes),
        Network::Solana(cluster) => of(&Solana::new(cluster), account, bytes),
    };
    // Fees and what is announced may differ.
    Effects { max_fee: Amount::ZERO, change: Amount::ZERO, touches: Vec::new(), ..effects }
}

fn evm_bytes(address: &str) -> Vec<u8> {
    hex::decode(&address[2..]).expect("hex")
}

#[test]
fn no_bit_of_an_ethereum_payment_is_free() {
    let own = evm_bytes(&account("eth").address().to_string());
    flip_bits(&intents()[0], Bits::All, &[own.clone(), evm_bytes(EVM_PAYEE), vec![0x82, 0x03, 0xe8]]);
    let amount = Amount::from_sat(1000).to_be_bytes().to_vec();
    flip_bits(&intents()[1], Bits::All, &[own.clone(), evm_bytes(TOKEN), evm_bytes(EVM_PAYEE), amount]);
    flip_bits(
        &intents()[2],
        Bits::All,
        &[own, evm_bytes(TOKEN), evm_bytes(EVM_PAYEE), hex::decode("a9059cbb").expect("hex")],
    );
}

#[test]
fn no_bit_of_a_solana_payment_is_free() {
    let key_of = |address: &str| {
        let address = UncheckedAddress::new(address).require_network(Network::Solana(Cluster::Localnet));
        let Ok(Address::Solana(key)) = address else { panic!("a key") };
        key.to_bytes().to_vec()
    };
    let own = key(20).verifying_key().to_bytes().to_vec();
    // System program: instruction 2, little-endian lamports.
    let amount = [2_u32.to_le_bytes().as_slice(), &1000_u64.to_le_bytes()].concat();
    flip_bits(&intents()[6], Bits::All, &[own.clone(), key_of(SOL_PAYEE), amount]);
    // Token program: TransferChecked (12), little-endian units; the receiver stands among the owners.
    let amount = [[12].as_slice(), &1000_u64.to_le_bytes()].concat();
    flip_bits(&intents()[7], Bits::All, &[own, key_of(SOL_PAYEE), key_of(MINT), amount]);
}

#[test]
fn no_bit_of_a_bitcoin_payment_is_free() {
    let address = UncheckedAddress::new(BTC_PAYEE).require_network(Network::Bitcoin(BitcoinNetwork::Regtest));
    let Ok(Address::Bitcoin(payee)) = address else { panic!("an address") };
    let output = TxOut { value: bitcoin::Amount::from_sat(70_000), script_pubkey: payee.script_pubkey() };
    let output = bitcoin::consensus::serialize(&output);
    flip_bits(&intents()[4], Bits::OneOfEachByte, std::slice::from_ref(&output));
    flip_bits(&intents()[5], Bits::OneOfEachByte, &[output]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two payments that differ in anything: neither transaction serves the other intent.
    #[test]
    fn payments_are_not_mixed_up(
        chain in 0_usize..4,
        (first, second) in (1_u64..40_000, 1_u64..40_000),
        to_first: bool,
        to_second: bool,
    ) {
        prop_assume!((first, to_first) != (second, to_second));
        let erc20 = format!("erc20:{TOKEN}");
        let (wallet, asset, payees, least) = [
            ("eth", "native", [EVM_PAYEE, EVM_OTHER], 0),
            ("eth", &erc20, [EVM_PAYEE, EVM_OTHER], 0),
            ("btc", "native", [BTC_PAYEE, BTC_OTHER], 1_000),
            ("sol", "native", [SOL_PAYEE, SOL_OTHER], 0),
        ][chain];
        let intent = |amount: u64, to: bool| pays(wallet, asset, payees[usize::from(to)], &(least + amount).to_string());
        let (first, second) = (intent(first, to_first), intent(second, to_second));
        prop_assert!(guard().judge(&request(&first, built(&first)), |_| NOW).is_ok());
        prop_assert_eq!(refused(&request(&second, built(&first))), Refusal::Mismatch(match chain {
            1 => Mismatch::Calls,
            _ => Mismatch::Transfers,
        }));
    }

    #[test]
    fn no_bytes_make_the_guard_panic(at in 0_usize..8, bytes in prop::collection::vec(any::<u8>(), 0..300), cut: u16) {
        let intent = intents()[at].clone();
        prop_assert!(guard().judge(&request(&intent, bytes.clone()), |_| NOW).is_err());
        let mut unsigned = built(&intent);
        unsigned.truncate(usize::from(cut) % unsigned.len());
        prop_assert!(guard().judge(&request(&intent, unsigned.clone()), |_| NOW).is_err());
        unsigned.extend(bytes);
        if unsigned != built(&intent) {
            prop_assert!(guard().judge(&request(&intent, unsigned), |_| NOW).is_err());
        }
    }
}
