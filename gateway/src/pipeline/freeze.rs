//! Wallets for which nothing is signed: frozen by an operator, or by the gateway where somebody else signs with the key.

use chains::account::{Account, WalletId};

use super::nonces::Ledger;
use super::track::reason;
use super::{Pipeline, StepError};
use crate::record::Reason;
use crate::store::{StoreError, WalletFreeze};

/// Who freezes where nobody asked.
const GATEWAY: &str = "gateway";

impl Pipeline {
    /// Holds a payment back whose wallet is frozen. It stays where it is and is taken up again once that was lifted.
    pub(super) async fn not_frozen(&self, wallet: &WalletId) -> Result<(), StepError> {
        self.freeze_of(wallet).await?.map_or(Ok(()), |reason| Err(StepError::Retry(reason)))
    }

    /// Why nothing but a cancellation is signed for the wallet, if nothing is.
    pub(super) async fn freeze_of(&self, wallet: &WalletId) -> Result<Option<Reason>, StoreError> {
        let frozen = self.store.frozen_wallets().await?.into_iter().find(|freeze| freeze.wallet == *wallet);
        Ok(frozen.map(|WalletFreeze { wallet, by, reason: why, .. }| {
            reason("wallet_frozen", &format!("wallet {wallet} was frozen by {by}: {why}"))
        }))
    }

    /// Freezes a wallet whose key somebody else signs with. An operator who lifts that vouches for the nonces up to then.
    pub(super) async fn freeze_if_foreign(&self, account: &Account, ledger: &Ledger) {
        let Some(nonce) = ledger.foreign else { return };
        let freeze = WalletFreeze {
            wallet: account.wallet().clone(),
            by: GATEWAY.to_owned(),
            reason: format!("nonce {nonce} was used up on chain by no record of this store"),
            at: self.clock.unix_millis(),
            nonce: Some(nonce),
        };
        match self.store.freeze_wallet(freeze, None).await {
            Ok(true) => {
                tracing::error!(wallet = %account.wallet(), nonce, "the wallet is frozen: its key is used elsewhere")
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(wallet = %account.wallet(), %error, "the wallet can't be frozen just now"),
        }
    }
}
