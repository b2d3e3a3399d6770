//! The intent: what a client asks for, in the words of its business.

use alloy::primitives::Bytes;
use serde::{Deserialize, Serialize};

use crate::account::WalletId;
use crate::address::UncheckedAddress;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::TxId;

/// What a client asks a wallet to do. It is signed by the client as part of the request's body, so every signer reads
/// the same words as the gateway.
///
/// ```
/// let intent: chains::intent::Intent = serde_json::from_str(r#"{
///   "wallet": "treasury-eth",
///   "action": {
///     "kind": "transfer", "asset": "native",
///     "to": "0x52908400098527886E0F7030069857D2E4169EE7", "amount": "1000000000000000000"
///   },
///   "max_fee": "3000000000000000"
/// }"#)?;
/// # assert_eq!(intent.wallet.as_str(), "treasury-eth");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The wallet that pays.
    pub wallet: WalletId,
    /// What it does.
    pub action: Action,
    /// The most that the whole intent may spend on fees, over all its attempts, in the chain's native base units.
    /// Without it, only the policy's own caps hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee: Option<Amount>,
    /// The client's own words, kept with the record and never put on chain. At most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// One thing that a wallet can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Pays `amount` of `asset` to `to`.
    Transfer {
        /// What moves.
        asset: Asset,
        /// Who receives. For an SPL token: the *owner*; the associated token account is found and, where it does not
        /// exist, created.
        to: UncheckedAddress,
        /// How much, in the asset's base units.
        amount: Amount,
    },
    /// Calls a contract of an EVM network.
    Call {
        /// The contract.
        contract: UncheckedAddress,
        /// The calldata, `0x` hex: a 4-byte selector and its ABI-encoded arguments.
        data: Bytes,
        /// Wei sent along.
        #[serde(default)]
        value: Amount,
    },
    /// Calls programs of a Solana cluster: these instructions in this order, all of them or none.
    CallProgram {
        /// The instructions, one at least. Limit and price of compute units, and the durable nonce, are no part of them.
        instructions: Vec<ProgramInstruction>,
        /// The address lookup tables that the message reads accounts from, in this order, each of use to it. The policy has to
        /// name them, too.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lookup_tables: Vec<UncheckedAddress>,
    },
    /// Opens one of the wallet's own durable nonce accounts on a Solana cluster: payments made under it stay valid until it
    /// is used, however long people take to approve them. It pays nobody; the account's rent stays the wallet's and counts as
    /// fee.
    OpenNonce {
        /// Which of the wallet's nonce accounts, 0 to 7.
        index: u8,
    },
    /// Hurries on a transaction that waits in Bitcoin's mempools, whose change the wallet hasn't spent: the change is paid back to
    /// the wallet for a fee that is enough for both (child pays for parent). It pays nobody.
    Accelerate {
        /// The id of the transaction that waits.
        parent: TxId,
    },
}

/// An instruction of a Solana program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramInstruction {
    /// The program.
    pub program: UncheckedAddress,
    /// The accounts that it gets, in its order. The wallet is the one that signs, wherever it is named.
    #[serde(default)]
    pub accounts: Vec<ProgramAccount>,
    /// Its data, `0x` hex.
    #[serde(default)]
    pub data: Bytes,
}

/// An account that an instruction gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramAccount {
    /// The account.
    pub address: UncheckedAddress,
    /// Whether the program may write to it.
    #[serde(default)]
    pub writable: bool,
}

impl Action {
    /// Whether it only looks after the wallet: it pays nobody. The effects of opening a nonce say so
    /// by themselves; that something is accelerated shows in what it spends, [`Slot::is_output_of`](crate::chain::Slot::is_output_of).
    pub const fn is_upkeep(&self) -> bool {
        match self {
            Self::Transfer { .. } | Self::Call { .. } | Self::CallProgram { .. } => false,
            Self::OpenNonce { .. } | Self::Accelerate { .. } => true,
        }
    }
}

/// The longest [`Intent::reference`], in bytes.
pub const MAX_REFERENCE_LEN: usize = 256;
