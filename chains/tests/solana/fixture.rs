//! A wallet, intents and a state to start from.

use chains::account::{Account, KeyPath, PublicKey};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::Transfer;
use chains::intent::{Action, Intent};
use chains::network::{Cluster, Network};
use chains::payload::{Message, Payload, Signature};
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, Nonce, Solana, State,
    TokenProgram, TokenState, Unsigned, Validity, nonce_account,
};
use ed25519_dalek::{Signer, SigningKey};
use solana_nonce::state::DurableNonce;
use solana_sdk::hash::Hash;
use solana_sdk::instruction::Instruction;
use solana_sdk::message::{Message as SolanaMessage, VersionedMessage};
use solana_sdk::pubkey::Pubkey;

/// The rent exemption of an account without data, in lamports.
pub(crate) const MINIMUM: u64 = 890_880;
pub(crate) const CHAIN: Solana = Solana::new(Cluster::Localnet);
pub(crate) const LAST_VALID: u64 = 1_150;

pub(crate) struct Wallet {
    pub(crate) key: SigningKey,
    pub(crate) account: Account,
}

impl Wallet {
    pub(crate) fn new(seed: [u8; 32], cluster: Cluster) -> Self {
        let key = SigningKey::from_bytes(&seed);
        let account = account(key.verifying_key().to_bytes(), cluster);
        Self { key, account }
    }

    pub(crate) fn address(&self) -> Pubkey {
        Pubkey::new_from_array(self.key.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, payload: &Payload) -> Signature {
        let Message::Ed25519(message) = payload.message() else { panic!("Solana signs with Ed25519") };
        Signature::Ed25519(self.key.sign(message).to_bytes())
    }
}

pub(crate) fn wallet() -> Wallet {
    Wallet::new([7; 32], Cluster::Localnet)
}

pub(crate) fn account(public_key: [u8; 32], cluster: Cluster) -> Account {
    Account::new(
        "treasury-sol".parse().expect("a name"),
        Network::Solana(cluster),
        "ed25519".parse().expect("a name"),
        KeyPath::root(),
        PublicKey::Ed25519(public_key),
    )
    .expect("an Ed25519 key on Solana")
}

pub(crate) fn key(n: u8) -> Pubkey {
    Pubkey::new_from_array([n; 32])
}

pub(crate) fn pay(asset: Asset, to: &str, amount: Amount) -> Intent {
    Intent {
        wallet: "treasury-sol".parse().expect("a name"),
        action: Action::Transfer { asset, to: UncheckedAddress::new(to), amount },
        max_fee: None,
        reference: None,
    }
}

pub(crate) fn pay_sol(to: Pubkey, lamports: u64) -> Intent {
    pay(Asset::Native, &to.to_string(), Amount::from_lamports(lamports))
}

pub(crate) fn pay_spl(mint: Pubkey, to: Pubkey, amount: u64) -> Intent {
    pay(Asset::Spl(mint), &to.to_string(), Amount::from_lamports(amount))
}

pub(crate) fn under_blockhash(blockhash: impl Into<Hash>) -> Validity {
    Validity::Blockhash { blockhash: blockhash.into(), last_valid_block_height: LAST_VALID }
}

/// A value of the wallet's first nonce account that derives from the blockhash which is `n` in every byte.
pub(crate) fn nonce(wallet: &Wallet, n: u8) -> Nonce {
    let origin = Hash::new_from_array([n; 32]);
    let value = *DurableNonce::from_blockhash(&origin).as_hash();
    Nonce { account: nonce_account(&wallet.address(), 0), value, origin, seen_at: 900 }
}

/// The state under a durable nonce of `wallet`.
pub(crate) fn durable(wallet: &Wallet, n: u8) -> State {
    State { validity: Validity::Nonce(nonce(wallet, n)), ..state() }
}

pub(crate) fn open_nonce(index: u8) -> Intent {
    Intent { action: Action::OpenNonce { index }, ..pay_sol(key(5), 1) }
}

/// A wallet with one SOL that pays another wallet with one SOL.
pub(crate) fn state() -> State {
    State {
        validity: under_blockhash([9; 32]),
        balance: Lamports::new(1_000_000_000),
        rent_exempt_minimum: Lamports::new(MINIMUM),
        destination: Destination { lamports: Lamports::new(1_000_000_000), kind: DestinationKind::Wallet },
        token: None,
        owners: Vec::new(),
        tables: Vec::new(),
        nonce_rent: None,
        compute: ComputeBudget { unit_limit: 30_000, unit_price: MicroLamports::new(12_345) },
        version: MessageVersion::V0,
    }
}

pub(crate) fn token(mint: Pubkey, program: TokenProgram, destination_exists: bool) -> TokenState {
    let rent = match program {
        TokenProgram::Token => 2_039_280,
        TokenProgram::Token2022 => 2_074_080,
    };
    TokenState {
        mint,
        program,
        decimals: 6,
        source_balance: 1_000_000,
        destination_exists,
        account_rent: Lamports::new(rent),
    }
}

pub(crate) fn unsigned(message: VersionedMessage, owners: Vec<Pubkey>) -> Unsigned {
    Unsigned::new(Cluster::Localnet, message, LAST_VALID, owners).expect("a message that can be signed")
}

pub(crate) fn legacy(payer: &Pubkey, instructions: &[Instruction]) -> VersionedMessage {
    VersionedMessage::Legacy(SolanaMessage::new_with_blockhash(
        instructions,
        Some(payer),
        &Hash::new_from_array([9; 32]),
    ))
}

/// The one transfer of a payment by `wallet`.
pub(crate) fn transfer(wallet: &Wallet, asset: Asset, to: Pubkey, amount: u64) -> Vec<Transfer> {
    vec![Transfer {
        asset,
        from: Address::Solana(wallet.address()),
        to: Address::Solana(to),
        amount: Amount::from_lamports(amount),
    }]
}
