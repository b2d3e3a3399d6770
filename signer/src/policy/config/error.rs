//! What is wrong with a policy as it is written.

use chains::account::WalletId;
use chains::address::{AddressError, UncheckedAddress};
use chains::asset::Asset;
use chains::network::Network;

use crate::policy::hours::HoursError;
use crate::policy::limit::LimitError;

/// Why a policy doesn't compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A denied address that is none on any chain that a wallet is on.
    #[error("denied address {0:?} is an address of no chain that a wallet is on")]
    DeniedAddress(UncheckedAddress),
    /// A rule without a name, or with the name of another.
    #[error("rule {0:?}: give every rule a name of its own")]
    Id(String),
    /// A wallet that is to pay under deals alone, and doesn't exist.
    #[error("deals_only: there is no wallet {0}")]
    DealsOnly(WalletId),
    /// A rule for no wallet.
    #[error("rule {rule}: name the wallets that it is for")]
    NoWallet {
        /// The rule.
        rule: String,
    },
    /// A wallet that doesn't exist.
    #[error("rule {rule}: there is no wallet {wallet}")]
    UnknownWallet {
        /// The rule.
        rule: String,
        /// The wallet that it names.
        wallet: WalletId,
    },
    /// Wallets of two networks, on which one address may have two owners.
    #[error("rule {rule}: its wallets are on {first} and {second}; write a rule for each network")]
    Networks {
        /// The rule.
        rule: String,
        /// The network of its first wallet.
        first: Network,
        /// Another one.
        second: Network,
    },
    /// An asset that doesn't exist on the wallets' chain.
    #[error("rule {rule}: {asset} doesn't exist on {network}")]
    Asset {
        /// The rule.
        rule: String,
        /// The asset that it names.
        asset: Asset,
        /// The network of its wallets.
        network: Network,
    },
    /// An address that is none of the wallets' network.
    #[error("rule {rule}: {source}")]
    Address {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// Contracts on a chain that has none to call, or a contract without a function.
    #[error("rule {rule}: contracts are called on EVM networks, by the functions that the rule names")]
    Contracts {
        /// The rule.
        rule: String,
    },
    /// Programs on a chain that has none, or one whose instructions or accounts can't be meant.
    #[error("rule {rule}: {reason}")]
    Programs {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A function or an argument that can't be meant.
    #[error("rule {rule}: {reason}")]
    Function {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Hours that are none.
    #[error("rule {rule}: {source}")]
    Hours {
        /// The rule.
        rule: String,
        /// What is wrong with them.
        source: HoursError,
    },
    /// A counterparty without a name of its own, without an address, or with one that reads on no chain that a wallet is on.
    #[error("counterparty {0:?}: give it a name of its own, and addresses of chains that wallets are on")]
    Counterparty(String),
    /// A counterparty that isn't there, or has no address on the wallets' network.
    #[error("rule {rule}: there is no counterparty {counterparty} on {network}")]
    UnknownCounterparty {
        /// The rule.
        rule: String,
        /// The counterparty that it names.
        counterparty: String,
        /// The network of its wallets.
        network: Network,
    },
    /// A lookup table that can't be meant.
    #[error("lookup table {table}: {reason}")]
    LookupTable {
        /// The table.
        table: UncheckedAddress,
        /// What is wrong with it.
        reason: String,
    },
    /// A denying rule that sets what only an allowing one can.
    #[error("rule {rule}: a denying rule has no max_amount, max_fee, require or require_above")]
    Deny {
        /// The rule.
        rule: String,
    },
    /// A step-up amount without anybody to step up to.
    #[error("rule {rule}: require_above goes with require")]
    StepUp {
        /// The rule.
        rule: String,
    },
    /// A range of amounts with nothing in it.
    #[error("rule {rule}: min_amount is above max_amount")]
    Range {
        /// The rule.
        rule: String,
    },
    /// One limit for amounts of different units.
    #[error("rule {rule}: amounts count the base units of one asset; write a rule for each asset")]
    LimitOfMany {
        /// The rule.
        rule: String,
    },
    /// A limit that can't mean anything.
    #[error("limit {limit:?}: {source}")]
    Limit {
        /// The limit.
        limit: String,
        /// What is wrong with it.
        source: LimitError,
    },
}
