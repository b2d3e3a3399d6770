//! Denied addresses, under every spelling.

use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::Effects;
use serde_json::json;
use signer::policy::{Denial, screen};

use super::desk::*;

#[test]
fn deny_wins_wherever_the_address_stands() {
    let account = account("eth");
    let denied = |effects: &Effects, whom: &str| {
        // Every spelling of the address, and both on a list and in a rule.
        for spelling in [whom.to_owned(), format!("0x{}", whom[2..].to_lowercase())] {
            let policy = denying(&[&spelling], eth_rules());
            let expected = Denial::DeniedAddress { address: address(&account, whom) };
            assert_eq!(denial(&policy, &account, effects), expected, "{spelling}");
            assert_eq!(screen(&policy, effects), Some(address(&account, whom)), "{spelling}");
        }
    };
    denied(&pays(&account, Asset::Native, PAYEE, 1), PAYEE);
    denied(&pays_token(&account, PAYEE, 1), TOKEN);
    denied(&allows(&account, ROUTER, Amount::from_sat(1)), ROUTER);
    let touching = Effects { touches: vec![address(&account, OTHER)], ..pays(&account, Asset::Native, PAYEE, 1) };
    denied(&touching, OTHER);
    let mut foreign = pays_token(&account, PAYEE, 1);
    foreign.transfers[0].from = address(&account, OTHER);
    denied(&foreign, OTHER);

    // The wallet itself.
    let own = denying(&[&account.address().to_string()], eth_rules());
    let pays = pays(&account, Asset::Native, PAYEE, 1);
    assert!(matches!(denial(&own, &account, &pays), Denial::DeniedAddress { .. }));
    // On every EVM network.
    let base = self::account("base");
    let policy = denying(&[PAYEE], json!([{"id": "base", "wallets": ["base"], "addresses": [PAYEE]}]));
    let pays = self::pays(&base, Asset::Native, PAYEE, 1);
    assert!(matches!(denial(&policy, &base, &pays), Denial::DeniedAddress { .. }));
}

#[test]
fn one_bitcoin_key_is_denied_in_every_form() {
    let (main, regtest) = (account("btc"), account("btc-regtest"));
    for listed in [P2PKH, P2WPKH, P2PKH_TEST, P2WPKH_REGTEST, &P2WPKH.to_uppercase()] {
        let policy = denying(&[listed], json!([]));
        for (account, paid) in
            [(&main, P2PKH), (&main, P2WPKH), (&main, NESTED), (&regtest, P2PKH_TEST), (&regtest, P2WPKH_REGTEST)]
        {
            let hit = screen(&policy, &pays(account, Asset::Native, paid, 1));
            assert_eq!(hit, Some(address(account, paid)), "{listed} is listed, {paid} is paid");
        }
        // Another key, and the same bytes as another kind of hash.
        for free in ["bc1q34aq5drpuwy3wgl9lhup9892qp6svr8ldzyy7c", "3CNHUhP3uyB9EUtRLsmvFUmvGdjGdkTxJw"] {
            assert_eq!(screen(&policy, &pays(&main, Asset::Native, free, 1)), None, "{listed}, {free}");
        }
    }
    // A nested address on the list denies the key that it wraps.
    let policy = denying(&[NESTED], json!([]));
    assert!(screen(&policy, &pays(&main, Asset::Native, NESTED, 1)).is_some());
    assert!(screen(&policy, &pays(&main, Asset::Native, P2WPKH, 1)).is_some());
}

#[test]
fn solana_accounts_are_denied_by_their_key() {
    let sol = account("sol");
    let policy = denying(&[MINT, SOL_PAYEE], json!([]));
    let effects = pays(&sol, asset(&format!("spl:{MINT}")), SOL_PAYEE, 1);
    assert_eq!(screen(&policy, &effects), Some(address(&sol, SOL_PAYEE)));
    let effects = Effects { transfers: Vec::new(), touches: vec![address(&sol, MINT)], ..nothing() };
    assert_eq!(screen(&policy, &effects), Some(address(&sol, MINT)));
    assert_eq!(screen(&policy, &nothing()), None);
}
