//! A Bitcoin wallet in the gateway's own hands: its client and chain, and a key of this file's.

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::secp256k1::{self, SecretKey};
use bitcoin::{Address, CompressedPublicKey, Network, ScriptBuf};
use chains::account::{Account, KeyPath, PublicKey};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::{Bitcoin, BitcoinClient, Options, Signed, Unsigned};
use chains::chain::{Chain, Replacement, Slot};
use chains::client::{Client, StateError, Status};
use chains::intent::Intent;
use chains::payload::{Message, Payload, Signature};
use chains::rpc::{Auth, RpcClient};
use serde_json::json;

pub(crate) const CHAIN: Bitcoin = Bitcoin::new(Network::Regtest);
pub(crate) const PAYEE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
/// What a wallet begins with, unless its test says otherwise, and what it pays; in satoshis.
pub(crate) const FUNDS: u64 = 1_000_000;
pub(crate) const PAID: u64 = 250_000;

/// A payment to the payee.
pub(crate) fn pay(sat: u64) -> Intent {
    let action = json!({ "kind": "transfer", "asset": "native", "to": PAYEE, "amount": sat.to_string() });
    serde_json::from_value(json!({ "wallet": "test", "action": action })).unwrap()
}

fn secret() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

pub(crate) fn account(taproot: bool) -> Account {
    let secp = Secp256k1::new();
    let key = match taproot {
        true => PublicKey::Taproot(secret().x_only_public_key(&secp).0),
        false => PublicKey::Ecdsa(CompressedPublicKey(secret().public_key(&secp))),
    };
    let network = "bitcoin:regtest".parse().unwrap();
    Account::new("test".parse().unwrap(), network, "key".parse().unwrap(), KeyPath::root(), key).unwrap()
}

fn sign(payload: &Payload) -> Signature {
    let secp = Secp256k1::new();
    match payload.message() {
        Message::Ecdsa(hash) => {
            let message = secp256k1::Message::from_digest(*hash);
            let (id, rs) = secp.sign_ecdsa_recoverable(&message, &secret()).serialize_compact();
            Signature::Ecdsa { rs, recovery_id: u8::try_from(id.to_i32()).unwrap() }
        }
        Message::Taproot(hash) => {
            let pair = Keypair::from_secret_key(&secp, &secret()).tap_tweak(&secp, None).to_keypair();
            let message = secp256k1::Message::from_digest(*hash);
            Signature::Schnorr(secp.sign_schnorr_no_aux_rand(&message, &pair).serialize())
        }
        Message::Ed25519(_) => panic!("not on Bitcoin"),
    }
}

/// The script that an account is paid to.
pub(crate) fn script(account: &Account) -> ScriptBuf {
    account.address().to_string().parse::<Address<_>>().unwrap().assume_checked().script_pubkey()
}

/// A wallet and its client.
pub(crate) struct Purse {
    pub(crate) client: BitcoinClient,
    pub(crate) account: Account,
}

impl Purse {
    pub(crate) fn new(url: &str, auth: Auth, account: Account) -> Self {
        let rpc = RpcClient::new(url, auth, Duration::from_secs(30)).unwrap();
        let client = BitcoinClient::new(rpc, Network::Regtest, [script(&account)], 0, Options::default());
        Self { client, account }
    }

    pub(crate) async fn balance(&self) -> Amount {
        self.client.balance(&self.account, Asset::Native).await.unwrap()
    }

    pub(crate) async fn build(&self, intent: &Intent) -> Unsigned {
        let state = self.client.state(intent, &self.account, &BTreeSet::new()).await.unwrap();
        CHAIN.build(intent, &self.account, &state).unwrap()
    }

    /// A further attempt, where `others` are slots of other payments.
    pub(crate) async fn replace(
        &self,
        intent: &Intent,
        previous: &[Unsigned],
        purpose: Replacement,
        others: BTreeSet<Slot>,
    ) -> Result<Unsigned, StateError> {
        let busy = previous.iter().flat_map(|tx| CHAIN.slots(&self.account, tx)).chain(others).collect();
        let state = self.client.replacement_state(intent, &self.account, previous, purpose, &busy).await?;
        Ok(CHAIN.replace(intent, &self.account, previous, purpose, &state)?)
    }

    pub(crate) fn signed(&self, unsigned: &Unsigned) -> Signed {
        let signatures: Vec<_> = CHAIN.payloads(&self.account, unsigned).unwrap().iter().map(sign).collect();
        CHAIN.assemble(&self.account, unsigned, &signatures).unwrap()
    }

    pub(crate) async fn send(&self, unsigned: &Unsigned) -> Signed {
        let signed = self.signed(unsigned);
        self.client.broadcast(&signed).await.unwrap();
        assert_eq!(self.status(&signed).await, Status::InMempool);
        signed
    }

    pub(crate) async fn status(&self, signed: &Signed) -> Status {
        self.client.status(signed).await.unwrap()
    }
}
