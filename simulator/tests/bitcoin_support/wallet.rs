//! A client and single-key wallets for the tests, on rust-bitcoin alone.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, SecretKey, ecdsa};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, CompressedPublicKey, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use serde_json::{Value, json};

/// An RPC client.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    credentials: Option<(String, String)>,
}

impl Client {
    pub(crate) fn new(url: &str, cookie: Option<&str>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let credentials = cookie.map(|cookie| {
            let (user, password) = cookie.split_once(':').unwrap_or((cookie, ""));
            (user.to_owned(), password.to_owned())
        });
        Self { http: reqwest::Client::new(), url: url.to_owned(), credentials }
    }

    /// Posts a body, and returns the status with the JSON of the answer.
    pub(crate) async fn raw(&self, body: &str) -> (u16, Value) {
        let mut request = self.http.post(&self.url).body(body.to_owned());
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "1.0", "id": "test", "method": method, "params": params });
        self.raw(&body.to_string()).await.1
    }

    pub(crate) async fn ok(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params).await;
        assert_eq!(answer["error"], Value::Null, "{method}");
        answer["result"].clone()
    }

    pub(crate) async fn error(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.call(method, params).await;
        let error = &answer["error"];
        let code = error["code"].as_i64().unwrap_or_else(|| panic!("{method} was answered {answer}"));
        (code, error["message"].as_str().unwrap().to_owned())
    }
}

/// What a wallet's coins are locked by.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    P2pkh,
    P2shP2wpkh,
    P2wpkh,
    P2tr,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::P2pkh, Self::P2shP2wpkh, Self::P2wpkh, Self::P2tr];
}

/// A wallet of one key.
pub(crate) struct Wallet {
    secp: Secp256k1<All>,
    secret: SecretKey,
    kind: Kind,
}

impl Wallet {
    pub(crate) fn new(seed: u8, kind: Kind) -> Self {
        Self { secp: Secp256k1::new(), secret: SecretKey::from_slice(&[seed; 32]).unwrap(), kind }
    }

    fn key(&self) -> CompressedPublicKey {
        CompressedPublicKey(self.secret.public_key(&self.secp))
    }

    pub(crate) fn address(&self) -> Address {
        let key = self.key();
        match self.kind {
            Kind::P2pkh => Address::p2pkh(key, Network::Regtest),
            Kind::P2shP2wpkh => Address::p2shwpkh(&key, Network::Regtest),
            Kind::P2wpkh => Address::p2wpkh(&key, Network::Regtest),
            Kind::P2tr => {
                let (internal, _) = self.secret.x_only_public_key(&self.secp);
                Address::p2tr(&self.secp, internal, None, Network::Regtest)
            }
        }
    }

    pub(crate) fn script(&self) -> ScriptBuf {
        self.address().script_pubkey()
    }

    pub(crate) fn unsigned(&self, coins: &[(OutPoint, Amount)], to: ScriptBuf, fee: u64) -> Transaction {
        let total: Amount = coins.iter().map(|(_, amount)| *amount).sum();
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins
                .iter()
                .map(|(outpoint, _)| TxIn {
                    previous_output: *outpoint,
                    sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                    ..TxIn::default()
                })
                .collect(),
            output: vec![TxOut { value: total - Amount::from_sat(fee), script_pubkey: to }],
        }
    }

    pub(crate) fn spend(&self, coins: &[(OutPoint, Amount)], to: ScriptBuf, fee: u64) -> Transaction {
        self.sign(self.unsigned(coins, to, fee), coins)
    }

    /// Signs as many inputs as there are coins.
    pub(crate) fn sign(&self, mut tx: Transaction, coins: &[(OutPoint, Amount)]) -> Transaction {
        let prevouts: Vec<_> =
            coins.iter().map(|(_, value)| TxOut { value: *value, script_pubkey: self.script() }).collect();
        for (index, (_, amount)) in coins.iter().enumerate() {
            let all = EcdsaSighashType::All;
            let mut cache = SighashCache::new(&tx);
            let (script_sig, witness) = match self.kind {
                Kind::P2pkh => {
                    let hash = cache.legacy_signature_hash(index, &self.script(), all.to_u32()).unwrap();
                    let signature = self.ecdsa(hash.to_byte_array());
                    let push = PushBytesBuf::try_from(signature).unwrap();
                    let script = Builder::new().push_slice(push).push_key(&self.key().into()).into_script();
                    (script, Witness::new())
                }
                Kind::P2wpkh | Kind::P2shP2wpkh => {
                    let program = ScriptBuf::new_p2wpkh(&self.key().wpubkey_hash());
                    let hash = cache.p2wpkh_signature_hash(index, &program, *amount, all).unwrap();
                    let signature = self.ecdsa(hash.to_byte_array());
                    let witness = Witness::from_slice(&[signature, self.key().to_bytes().to_vec()]);
                    let push = PushBytesBuf::try_from(program.into_bytes()).unwrap();
                    match self.kind {
                        Kind::P2shP2wpkh => (Builder::new().push_slice(push).into_script(), witness),
                        _ => (ScriptBuf::new(), witness),
                    }
                }
                Kind::P2tr => {
                    let prevouts = Prevouts::All(&prevouts);
                    let hash = cache.taproot_key_spend_signature_hash(index, &prevouts, TapSighashType::Default);
                    let pair = Keypair::from_secret_key(&self.secp, &self.secret).tap_tweak(&self.secp, None);
                    let message = Message::from_digest(hash.unwrap().to_byte_array());
                    let signature = self.secp.sign_schnorr_no_aux_rand(&message, &pair.to_keypair());
                    (ScriptBuf::new(), Witness::from_slice(&[signature.serialize()]))
                }
            };
            tx.input[index].script_sig = script_sig;
            tx.input[index].witness = witness;
        }
        tx
    }

    fn ecdsa(&self, hash: [u8; 32]) -> Vec<u8> {
        let signature = self.secp.sign_ecdsa(&Message::from_digest(hash), &self.secret);
        let mut bytes = signature.serialize_der().to_vec();
        bytes.push(1);
        bytes
    }

    /// The same transaction with the other, equally valid S in its first signature.
    pub(crate) fn with_high_s(&self, mut tx: Transaction) -> Transaction {
        /// The order of secp256k1.
        const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let witness: Vec<_> = tx.input[0].witness.iter().map(<[u8]>::to_vec).collect();
        let (hash_type, der) = witness[0].split_last().unwrap();
        let mut compact = ecdsa::Signature::from_der(der).unwrap().serialize_compact();
        let order = hex::decode(ORDER).unwrap();
        let mut borrow = 0;
        for index in (0..32).rev() {
            let difference = i16::from(order[index]) - i16::from(compact[32 + index]) - borrow;
            borrow = i16::from(difference < 0);
            compact[32 + index] = u8::try_from(difference.rem_euclid(256)).unwrap();
        }
        let mut signature = ecdsa::Signature::from_compact(&compact).unwrap().serialize_der().to_vec();
        signature.push(*hash_type);
        tx.input[0].witness = Witness::from_slice(&[signature, witness[1].clone()]);
        tx
    }
}
