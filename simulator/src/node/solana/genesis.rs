//! The chain before its first transaction: programs, the faucet and the demo mint.
//!
//! Everything here is the same on every machine and in every run: keys come from labels, not from randomness, so that a
//! journal can be replayed anywhere.

use litesvm::LiteSVM;
use sha2::{Digest, Sha256};
use solana_program_pack::Pack;
use solana_sdk::account::Account;
use solana_sdk::clock::Clock;
use solana_sdk::epoch_schedule::EpochSchedule;
use solana_sdk::hash::Hash;
use solana_sdk::program_option::COption;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};
use spl_token_interface::state::Mint;

use crate::topology::NodeIndex;

/// What the faucet holds at first, in lamports: 500,000,000 SOL, the supply that a test validator starts with too.
pub(super) const FAUCET_LAMPORTS: u64 = 500_000_000_000_000_000;

/// Decimals of the demo mint.
pub(super) const DEMO_MINT_DECIMALS: u8 = 6;

/// Slots in an epoch, as on mainnet. There are no shorter first epochs.
pub(super) const SLOTS_PER_EPOCH: u64 = 432_000;

/// The SPL Token program.
pub(super) const TOKEN: Pubkey = spl_token_interface::ID;

/// The Token-2022 program.
pub(super) const TOKEN_2022: Pubkey = Pubkey::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// The associated token account program.
pub(super) const ASSOCIATED_TOKEN: Pubkey = spl_associated_token_account_interface::program::ID;

/// The system program.
pub(super) const SYSTEM: Pubkey = solana_system_interface::program::ID;

/// The key that pays airdrops and may mint the demo token.
pub(super) fn faucet() -> Keypair {
    Keypair::new_from_array(digest("portcullis simulator: solana faucet"))
}

/// The address of the demo mint.
pub(super) fn demo_mint() -> Pubkey {
    Keypair::new_from_array(digest("portcullis simulator: solana demo mint")).pubkey()
}

/// The key that the node at a place presents as its identity.
pub(super) fn identity(node: NodeIndex) -> Pubkey {
    own("identity", node)
}

/// The account that the node at a place votes with.
pub(super) fn vote_account(node: NodeIndex) -> Pubkey {
    own("vote account", node)
}

fn own(what: &str, node: NodeIndex) -> Pubkey {
    let label = match node {
        NodeIndex(0) => format!("portcullis simulator: solana {what}"),
        other => format!("portcullis simulator: solana {what} {other}"),
    };
    Keypair::new_from_array(digest(&label)).pubkey()
}

/// The genesis hash: the blockhash of slot 0, which names the cluster.
pub(super) fn genesis_hash() -> Hash {
    Hash::new_from_array(digest("portcullis simulator: solana genesis 1"))
}

/// The runtime at slot 0, which began at `unix_seconds`.
///
/// The engine checks signatures, ages and duplicates by itself, so the runtime's own checks, which know one blockhash
/// only, are off.
pub(super) fn runtime(unix_seconds: i64) -> LiteSVM {
    let mut svm = LiteSVM::default().with_mainnet_features().with_builtins().with_sysvars();
    svm.set_sysvar(&EpochSchedule::custom(SLOTS_PER_EPOCH, SLOTS_PER_EPOCH, false));
    // Before the programs are loaded: a program counts as deployed in the slot that the clock shows.
    svm.set_sysvar(&Clock {
        slot: 0,
        epoch_start_timestamp: unix_seconds,
        epoch: 0,
        leader_schedule_epoch: 1,
        unix_timestamp: unix_seconds,
    });
    let mut svm = svm
        .with_feature_accounts()
        .with_default_programs()
        .with_transaction_history(0)
        .with_sigverify(false)
        .with_blockhash_check(false);

    let faucet = faucet().pubkey();
    endow(&mut svm, faucet, Account { lamports: FAUCET_LAMPORTS, owner: SYSTEM, ..Account::default() });

    let mut data = vec![0; Mint::LEN];
    Mint {
        mint_authority: COption::Some(faucet),
        supply: 0,
        decimals: DEMO_MINT_DECIMALS,
        is_initialized: true,
        freeze_authority: COption::None,
    }
    .pack_into_slice(&mut data);
    let lamports = svm.minimum_balance_for_rent_exemption(data.len());
    endow(&mut svm, demo_mint(), Account { lamports, data, owner: TOKEN, executable: false, rent_epoch: u64::MAX });
    svm
}

fn endow(svm: &mut LiteSVM, address: Pubkey, account: Account) {
    svm.set_account(address, Account { rent_epoch: u64::MAX, ..account })
        .expect("an account that is neither a program nor a sysvar is only stored");
}

fn digest(label: &str) -> [u8; 32] {
    Sha256::digest(label).into()
}
