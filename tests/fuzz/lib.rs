//! What the targets share: accounts that transactions are read for, a roster, and bytes changed by one bit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::chain::Chain;
use chains::effects::Effects;
use chains::network::{BitcoinNetwork, Cluster, Network};
use chains::payload::Payload;
use ed25519_dalek::SigningKey;
use signer::approval::Approver;
use signer::approval::passkey::Passkey;
use signer::roster::{Credential, Role, Roster};

/// The secp256k1 generator, compressed: the public key of the private key 1.
const GENERATOR: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
/// A key of RFC 8032, section 7.1, test 1.
const ED25519: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
    0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];
/// The P-256 generator as a SubjectPublicKeyInfo: the public key of the private key 1.
const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
";

/// A wallet on Ethereum.
pub fn ethereum() -> Account {
    ecdsa("eth", Network::Ethereum(1))
}

/// A wallet on Bitcoin, paid by P2WPKH.
pub fn bitcoin() -> Account {
    ecdsa("btc", Network::Bitcoin(BitcoinNetwork::Regtest))
}

fn ecdsa(name: &str, network: Network) -> Account {
    let key = PublicKey::Ecdsa(GENERATOR.parse().expect("a point"));
    account(name, network, key)
}

/// A wallet on Solana.
pub fn solana() -> Account {
    account("sol", Network::Solana(Cluster::Localnet), PublicKey::Ed25519(ED25519))
}

fn account(name: &str, network: Network, key: PublicKey) -> Account {
    let (wallet, held) = (name.parse().expect("a name"), "key".parse().expect("a name"));
    Account::new(wallet, network, held, KeyPath::root(), key).expect("a key of the network's kind")
}

/// The wallets that policies are for.
pub fn wallets() -> BTreeMap<WalletId, Network> {
    [ethereum(), bitcoin(), solana()].map(|account| (account.wallet().clone(), account.network())).into()
}

/// A roster with an initiator and two approvers: Ada, who signs by her key, and Pia, who has a passkey.
pub fn roster() -> Roster {
    let credential = |id: &str, role: Role, seed: u8| Credential {
        id: id.parse().expect("a name"),
        role,
        public_key: SigningKey::from_bytes(&[seed; 32]).verifying_key(),
    };
    let passkey = Passkey::new(P256, "example.org".to_owned(), vec!["https://example.org".to_owned()]);
    let approver = |person: &str, passkeys: Vec<Passkey>| {
        let groups = ["finance".parse().expect("a name")].into();
        let approver = Approver { person: person.parse().expect("a name"), groups, passkeys };
        (person.parse().expect("a name"), approver)
    };
    let people = [approver("ada", Vec::new()), approver("pia", vec![passkey.expect("a point")])];
    let credentials = [("trader", Role::Initiator, 1), ("ada", Role::Approver, 2), ("pia", Role::Approver, 3)];
    Roster::new(credentials.map(|(id, role, seed)| credential(id, role, seed)).to_vec())
        .and_then(|roster| roster.with_people(people.into()))
        .expect("three names and three keys")
}

/// A file of this process in memory.
pub fn file(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("portcullis-fuzz-{}-{name}", std::process::id()))
}

/// What must hold of any unsigned transaction that is taken: it has one encoding, and what has the same
/// payloads does the same. Its effects, if it has any.
pub fn unsigned<C: Chain>(chain: &C, account: &Account, bytes: &[u8]) -> Option<Effects> {
    let unsigned = chain.decode_unsigned(bytes).ok()?;
    assert_eq!(chain.encode_unsigned(&unsigned), bytes, "a second encoding");
    let effects = chain.effects(account, &unsigned).ok()?;
    let payloads = chain.payloads(account, &unsigned).expect("what has effects is the account's to sign");
    assert!(!payloads.is_empty());
    assert!(!chain.slots(account, &unsigned).is_empty(), "it uses something up");
    // One bit, which the bytes choose themselves.
    let at = bytes.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let mut bent = bytes.to_vec();
    if let Some(byte) = bent.get_mut(at / 8 % bytes.len().max(1)) {
        *byte ^= 1 << (at % 8);
    }
    if let Some((other, others)) = payloads_of(chain, account, &bent)
        && same(&payloads) == same(&others)
    {
        // What isn't signed, a Solana message's last height or the owners of what it pays, changes nothing that it does.
        assert_eq!(chain.slots(account, &unsigned), chain.slots(account, &other.0), "one payload uses up two things");
        let does = |effects: &Effects| {
            let Effects { transfers, allowances, calls, programs, proceeds, max_fee, .. } = effects.clone();
            (transfers, allowances, calls, programs, proceeds, max_fee)
        };
        // What stands in a lookup table isn't signed: it is the policy's to hold against what it names.
        assert!(effects.tables != other.1.tables || does(&effects) == does(&other.1), "one payload does two things");
    }
    Some(effects)
}

/// A transaction, what it does, and what is signed for it.
type Read<C> = ((<C as Chain>::Unsigned, Effects), Vec<Payload>);

fn payloads_of<C: Chain>(chain: &C, account: &Account, bytes: &[u8]) -> Option<Read<C>> {
    let unsigned = chain.decode_unsigned(bytes).ok()?;
    let effects = chain.effects(account, &unsigned).ok()?;
    let payloads = chain.payloads(account, &unsigned).ok()?;
    Some(((unsigned, effects), payloads))
}

fn same(payloads: &[Payload]) -> String {
    format!("{payloads:?}")
}
