//! Accounts with keys of their own, coins, and Bitcoin Core's verdict on a signed transaction.

use std::sync::Arc;

use bitcoin::absolute::{Height, LockTime};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{Keypair, Message as Digest, Secp256k1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount as Sats, CompressedPublicKey, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use chains::account::{Account, KeyPath, PublicKey};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::{Bitcoin, State, Utxo, Waiting};
use chains::intent::{Action, Intent};
use chains::network::{BitcoinNetwork, Network};
use chains::payload::{Message, Payload, Signature};

pub(crate) const NETWORK: BitcoinNetwork = BitcoinNetwork::Regtest;
pub(crate) const CHAIN: Bitcoin = Bitcoin::new(NETWORK);
/// Destinations of every standard kind on regtest.
pub(crate) const DESTINATIONS: [&str; 5] = [
    "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r",                               // P2PKH
    "2N3vVYSK5XRgVSGWy21PnsRmBUywSQNdCsf",                              // P2SH
    "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",                     // P2WPKH
    "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry", // P2WSH
    "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6", // P2TR
];

/// An account whose secret key is known.
#[derive(Clone)]
pub(crate) struct Wallet {
    pub(crate) account: Account,
    secret: SecretKey,
}

impl Wallet {
    pub(crate) fn p2wpkh(seed: u8) -> Self {
        let secret = SecretKey::from_slice(&[seed; 32]).expect("a secret key");
        let public = CompressedPublicKey(secret.public_key(&Secp256k1::new()));
        Self { account: account(PublicKey::Ecdsa(public), Network::Bitcoin(NETWORK)), secret }
    }

    pub(crate) fn p2tr(seed: u8) -> Self {
        let secret = SecretKey::from_slice(&[seed; 32]).expect("a secret key");
        let (internal, _) = secret.public_key(&Secp256k1::new()).x_only_public_key();
        Self { account: account(PublicKey::Taproot(internal), Network::Bitcoin(NETWORK)), secret }
    }

    pub(crate) fn both() -> [Self; 2] {
        [Self::p2wpkh(1), Self::p2tr(2)]
    }

    pub(crate) fn script(&self) -> ScriptBuf {
        match self.account.address() {
            Address::Bitcoin(address) => address.script_pubkey(),
            other => panic!("{other} is no Bitcoin address"),
        }
    }

    pub(crate) fn sign(&self, payload: &Payload) -> Signature {
        let secp = Secp256k1::new();
        match payload.message() {
            Message::Ecdsa(hash) => {
                let rs = secp.sign_ecdsa(&Digest::from_digest(*hash), &self.secret).serialize_compact();
                Signature::Ecdsa { rs, recovery_id: 0 }
            }
            Message::Taproot(hash) => {
                let pair = Keypair::from_secret_key(&secp, &self.secret).tap_tweak(&secp, None).to_keypair();
                Signature::Schnorr(secp.sign_schnorr_no_aux_rand(&Digest::from_digest(*hash), &pair).serialize())
            }
            Message::Ed25519(_) => panic!("Bitcoin signs no Ed25519"),
        }
    }

    /// A coin of this wallet with 10 confirmations.
    pub(crate) fn coin(&self, sat: u64, salt: u8) -> Utxo {
        Utxo::new(Arc::new(pay(&[(self.script(), sat)], salt)), 0, 10).expect("the output is there")
    }

    pub(crate) fn state(&self, coins: &[u64]) -> State {
        let coins = coins.iter().zip(0u8..);
        State {
            utxos: coins.map(|(sat, salt)| self.coin(*sat, salt)).collect(),
            fee_rate: FeeRate::from_sat_per_vb_u32(5),
            max_fee_rate: FeeRate::from_sat_per_vb_u32(500),
            tip: Height::from_consensus(840_000).expect("a height"),
            waiting: Waiting::Untouched,
        }
    }
}

pub(crate) fn account(key: PublicKey, network: Network) -> Account {
    let wallet = "treasury".parse().expect("a name");
    Account::new(wallet, network, "key".parse().expect("a name"), KeyPath::root(), key).expect("an account")
}

/// A transaction from nowhere with these outputs; another `salt` gives another id. It has a witness, like most.
pub(crate) fn pay(outputs: &[(ScriptBuf, u64)], salt: u8) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([salt; 32]), u32::from(salt)),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[salt; 64]]),
        }],
        output: outputs
            .iter()
            .map(|(script, sat)| TxOut { value: Sats::from_sat(*sat), script_pubkey: script.clone() })
            .collect(),
    }
}

pub(crate) fn transfer(to: &str, sat: u64) -> Intent {
    Intent {
        wallet: "treasury".parse().expect("a name"),
        action: Action::Transfer { asset: Asset::Native, to: UncheckedAddress::new(to), amount: Amount::from_sat(sat) },
        max_fee: None,
        reference: None,
    }
}

/// Runs Bitcoin Core's script interpreter over every input.
pub(crate) fn consensus_accepts(tx: &Transaction, spent: &[TxOut]) -> bool {
    let bytes = serialize(tx);
    let outputs: Vec<bitcoinconsensus::Utxo> = spent
        .iter()
        .map(|output| bitcoinconsensus::Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(output.script_pubkey.len()).expect("a short script"),
            value: i64::try_from(output.value.to_sat()).expect("below 21 million"),
        })
        .collect();
    assert_eq!(tx.input.len(), spent.len());
    spent.iter().enumerate().all(|(index, output)| {
        let script = output.script_pubkey.as_bytes();
        bitcoinconsensus::verify(script, output.value.to_sat(), &bytes, Some(&outputs), index).is_ok()
    })
}
