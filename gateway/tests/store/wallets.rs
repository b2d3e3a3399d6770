//! Wallets for which nothing is signed.

use gateway::store::{StoreError, WalletFreeze};

use crate::world::{claims, for_each_place};

fn freeze(wallet: &str, by: &str, nonce: Option<u64>) -> WalletFreeze {
    let wallet = wallet.parse().unwrap();
    WalletFreeze { wallet, by: by.to_owned(), reason: "seen elsewhere".to_owned(), at: 5, nonce }
}

#[test]
fn a_freeze_outlives_the_process_and_is_lifted_once() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let asked = claims();
        assert!(store.freeze_wallet(freeze("b", "ops", None), Some(asked.clone())).await.unwrap());
        let replay = store.freeze_wallet(freeze("a", "ops", None), Some(asked)).await;
        assert_eq!(replay.unwrap_err(), StoreError::TokenReplayed);
        assert!(store.freeze_wallet(freeze("a", "gateway", Some(7)), None).await.unwrap());
        drop(store);

        let store = place.open().await;
        let both = [freeze("a", "gateway", Some(7)), freeze("b", "ops", None)];
        assert_eq!(store.frozen_wallets().await.unwrap(), both);
        let lifts = claims();
        assert!(store.unfreeze_wallet("b".parse().unwrap(), lifts.clone(), 6).await.unwrap());
        let replay = store.unfreeze_wallet("a".parse().unwrap(), lifts, 6).await;
        assert_eq!(replay.unwrap_err(), StoreError::TokenReplayed);
        assert!(!store.unfreeze_wallet("b".parse().unwrap(), claims(), 6).await.unwrap());
        assert!(!store.unfreeze_wallet("c".parse().unwrap(), claims(), 6).await.unwrap());
        assert_eq!(store.frozen_wallets().await.unwrap(), [freeze("a", "gateway", Some(7))]);
    });
}

#[test]
fn a_nonce_that_an_operator_knows_of_freezes_nothing_again() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let wallet = || "a".parse().unwrap();
        assert!(store.freeze_wallet(freeze("a", "gateway", Some(7)), None).await.unwrap());
        assert!(!store.freeze_wallet(freeze("a", "gateway", Some(7)), None).await.unwrap(), "it is frozen already");
        store.unfreeze_wallet(wallet(), claims(), 6).await.unwrap();
        for known in [0, 6, 7] {
            assert!(!store.freeze_wallet(freeze("a", "gateway", Some(known)), None).await.unwrap(), "{known}");
        }
        assert!(store.frozen_wallets().await.unwrap().is_empty());
        // An operator's own freeze forgets no nonce.
        store.freeze_wallet(freeze("a", "ops", None), Some(claims())).await.unwrap();
        store.unfreeze_wallet(wallet(), claims(), 6).await.unwrap();
        assert!(!store.freeze_wallet(freeze("a", "gateway", Some(7)), None).await.unwrap());
        assert!(store.freeze_wallet(freeze("a", "gateway", Some(8)), None).await.unwrap());
        assert_eq!(store.frozen_wallets().await.unwrap(), [freeze("a", "gateway", Some(8))]);
    });
}
