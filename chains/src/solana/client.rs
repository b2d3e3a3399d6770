//! What a node knows: balances, blockhash and fees for building, and what has become of a transaction.

mod answer;
mod durable;
mod ending;
mod tables;
mod verdict;

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::try_join;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use solana_sdk::hash::Hash;
use solana_sdk::instruction::Instruction;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;
use solana_sdk::transaction::VersionedTransaction;
use tokio::sync::OnceCell;

use self::answer::{
    AccountInfo, LatestBlockhash, PrioritizationFee, Simulation, TransactionMeta, TxStatus, WithContext,
};
use super::build::{self, Destination, DestinationKind, MessageVersion, Order, State, TokenState};
use super::fee::{ComputeBudget, Lamports, MAX_COMPUTE_UNITS, MicroLamports};
use super::nonce::{self, Validity, nonce_account};
use super::replace;
use super::table::TableAccount;
use super::token::{self, MintError, TokenProgram, associated_token_account};
use super::wire::MAX_OWNERS;
use super::{Signed, Solana, Unsigned};
use crate::account::Account;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::{BuildError, Chain, Replacement, Slot};
use crate::client::{BroadcastError, Client, Inclusion, StateError, Status, Tip};
use crate::intent::{Action, Intent};
use crate::network::{Cluster, Network};
use crate::rpc::{RpcClient, RpcError};
use crate::simulation::Simulation as Tried;

/// A client of one Solana RPC node.
///
/// Reads are made at commitment `confirmed`. Before its first answer is used, the node must show the genesis hash of the
/// cluster.
#[derive(Debug)]
pub struct SolanaClient {
    rpc: RpcClient,
    chain: Solana,
    cluster: Cluster,
    options: Options,
    checked: OnceCell<()>,
}

/// How messages are built and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The kind of message that is built.
    pub version: MessageVersion,
    /// What is offered for a compute unit.
    pub priority: PriorityFee,
    /// What is added to the compute units that the simulation used.
    pub compute_margin: Percent,
    /// Whether payments are made under the wallet's durable nonces.
    pub durable: Durable,
    /// Whether the node sends without trying the transaction first.
    pub skip_preflight: bool,
    /// The genesis hash that the node must show. Without it: the known one of a public cluster, any on a local one.
    pub genesis: Option<Hash>,
}

/// Whether payments are made under the wallet's durable nonces. Opening one never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durable {
    /// Where one of them is free; else under a blockhash.
    #[default]
    Prefer,
    /// Under nothing else.
    Require,
    /// Always under a blockhash.
    Never,
}

/// How the price of a compute unit is found: a percentile of what transactions that touch the same accounts recently
/// paid, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityFee {
    /// Which percentile, 0 to 100; above counts as 100.
    pub percentile: Percent,
    /// The least that is offered for a unit.
    pub floor: MicroLamports,
    /// The most that is offered for a unit; it wins over the floor.
    pub cap: MicroLamports,
}

/// A whole number of hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u16);

impl Percent {
    /// That many hundredths.
    pub const fn new(percent: u16) -> Self {
        Self(percent)
    }

    /// The number of hundredths.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: MessageVersion::V0,
            priority: PriorityFee {
                percentile: Percent::new(75),
                floor: MicroLamports::new(0),
                cap: MicroLamports::new(1_000_000),
            },
            compute_margin: Percent::new(20),
            durable: Durable::default(),
            skip_preflight: false,
            genesis: None,
        }
    }
}

/// The genesis hashes of the public clusters (<https://solana.com/docs/references/clusters>).
const GENESIS: [(Cluster, &str); 3] = [
    (Cluster::MainnetBeta, "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"),
    (Cluster::Testnet, "4uhcVJyU9pJkvQyS88uRDiswHXSCkY3zQawwpjk2NsNY"),
    (Cluster::Devnet, "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"),
];

/// The budget under which a message is tried: all that there is, for nothing.
const FREE: ComputeBudget = ComputeBudget { unit_limit: MAX_COMPUTE_UNITS, unit_price: MicroLamports::new(0) };

const CONFIRMED: &str = "confirmed";
const FINALIZED: &str = "finalized";

impl SolanaClient {
    /// A client of the node behind `rpc`, which must be one of `cluster`.
    pub fn new(rpc: RpcClient, cluster: Cluster, options: Options) -> Self {
        Self { rpc, chain: Solana::new(cluster), cluster, options, checked: OnceCell::new() }
    }

    /// Makes sure that the node belongs to the cluster; asks it once.
    ///
    /// # Errors
    /// Where the node doesn't answer, or shows another genesis hash ([`RpcError::Endpoint`]).
    pub async fn require_cluster(&self) -> Result<(), RpcError> {
        self.checked.get_or_try_init(|| self.check_genesis()).await.copied()
    }

    async fn check_genesis(&self) -> Result<(), RpcError> {
        let found: String = self.rpc.call("getGenesisHash", json!([])).await?;
        let known = GENESIS.iter().find(|(cluster, _)| *cluster == self.cluster).map(|(_, hash)| (*hash).to_owned());
        match self.options.genesis.map(|hash| hash.to_string()).or(known) {
            Some(expected) if expected != found => Err(RpcError::Endpoint {
                url: self.rpc.url().to_owned(),
                reason: format!("its genesis is {found}, that of {} is {expected}", Network::Solana(self.cluster)),
            }),
            _ => Ok(()),
        }
    }

    /// Calls `method` on a node of which it is known that it belongs to the cluster.
    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        self.require_cluster().await?;
        self.rpc.call(method, params).await
    }

    async fn accounts<const N: usize>(&self, keys: [Pubkey; N]) -> Result<[Option<AccountInfo>; N], RpcError> {
        self.accounts_at(keys, CONFIRMED, None).await.map(|(_, accounts)| accounts)
    }

    /// The accounts in one snapshot, and the slot that it is of, which is `least` at least.
    async fn accounts_at<const N: usize>(
        &self,
        keys: [Pubkey; N],
        commitment: &str,
        least: Option<u64>,
    ) -> Result<(u64, [Option<AccountInfo>; N]), RpcError> {
        const METHOD: &str = "getMultipleAccounts";
        let names = keys.map(|key| key.to_string());
        let mut config = json!({ "encoding": "base64", "commitment": commitment });
        if let (Some(least), Some(config)) = (least, config.as_object_mut()) {
            config.insert("minContextSlot".to_owned(), json!(least));
        }
        let answer: WithContext<Vec<Option<AccountInfo>>> =
            self.call(METHOD, json!([names.as_slice(), config])).await?;
        let slot = answer.context.slot;
        if least.is_some_and(|least| slot < least) {
            return Err(malformed(METHOD, format!("a snapshot of slot {slot}, older than was asked for")));
        }
        let count = answer.value.len();
        let accounts = answer.value.try_into();
        accounts.map(|found| (slot, found)).map_err(|_| malformed(METHOD, format!("{count} accounts for {N} asked")))
    }

    async fn latest_blockhash(&self) -> Result<Validity, RpcError> {
        const METHOD: &str = "getLatestBlockhash";
        let answer: WithContext<LatestBlockhash> = self.call(METHOD, json!([{ "commitment": CONFIRMED }])).await?;
        let blockhash = answer.value.blockhash.parse().map_err(|e| malformed(METHOD, format!("blockhash: {e}")))?;
        Ok(Validity::Blockhash { blockhash, last_valid_block_height: answer.value.last_valid_block_height })
    }

    async fn rent(&self, len: usize) -> Result<Lamports, RpcError> {
        self.call("getMinimumBalanceForRentExemption", json!([len])).await.map(Lamports::new)
    }

    /// The price of a unit, from what was paid in recent slots for the same writable accounts.
    async fn unit_price(&self, writable: &[Pubkey]) -> Result<MicroLamports, RpcError> {
        let names: Vec<String> = writable.iter().map(Pubkey::to_string).collect();
        let recent: Vec<PrioritizationFee> = self.call("getRecentPrioritizationFees", json!([names])).await?;
        let priority = self.options.priority;
        let mut prices: Vec<u64> = recent.into_iter().map(|slot| slot.prioritization_fee).collect();
        prices.sort_unstable();
        let rank = (prices.len() * usize::from(priority.percentile.get().min(100))).div_ceil(100);
        let price = prices.get(rank.saturating_sub(1)).copied().unwrap_or(0);
        Ok(MicroLamports::new(price).max(priority.floor).min(priority.cap))
    }

    /// The unit limit: what the node's own try of the message used, with the margin. The try is made under the node's own
    /// latest blockhash, whatever the message's.
    async fn unit_limit(&self, draft: &Unsigned) -> Result<u32, StateError> {
        const METHOD: &str = "simulateTransaction";
        /// Agave's code for a transaction that a node's own try of it refuses.
        const PREFLIGHT_FAILURE: i64 = -32_002;
        let transaction =
            VersionedTransaction { signatures: vec![Signature::default()], message: draft.message().clone() };
        let bytes = bincode::serialize(&transaction).map_err(|e| malformed(METHOD, e.to_string()))?;
        let config = json!({
            "encoding": "base64", "commitment": CONFIRMED, "sigVerify": false, "replaceRecentBlockhash": true,
        });
        let answer: WithContext<Simulation> = self.call(METHOD, json!([BASE64_STANDARD.encode(bytes), config])).await?;
        if let Some(error) = answer.value.err {
            // The blockhash is the node's own: that it doesn't hold says nothing of the payment.
            if error == "BlockhashNotFound" {
                let message = "the node doesn't know its own latest blockhash".to_owned();
                let (method, code) = (METHOD.to_owned(), PREFLIGHT_FAILURE);
                return Err(RpcError::Node { method, code, message, data: None }.into());
            }
            return Err(StateError::Reverted(error.to_string()));
        }
        let used = answer.value.units_consumed.ok_or_else(|| malformed(METHOD, "unitsConsumed is missing"))?;
        let margin = 100 + u128::from(self.options.compute_margin.get());
        let limit = (u128::from(used) * margin).div_ceil(100);
        Ok(u32::try_from(limit).unwrap_or(MAX_COMPUTE_UNITS).clamp(1, MAX_COMPUTE_UNITS))
    }

    /// What the node tells of those who take part in what the intent says.
    async fn parties(&self, intent: &Intent, account: &Account) -> Result<Parties, StateError> {
        match &intent.action {
            Action::CallProgram { instructions, lookup_tables } => {
                let payer = build::payer(self.cluster, account)?;
                let tables = self.tables(&build::read_keys(self.cluster, lookup_tables)?, CONFIRMED).await?;
                let instructions = build::read_instructions(self.cluster, &payer, instructions)?;
                Ok(Parties { tables, ..self.called(&payer, &instructions).await? })
            }
            _ => self.paid(&Order::read(self.cluster, intent, account)?).await,
        }
    }

    /// What the node tells of the accounts that instructions name: who owns those which are token accounts.
    async fn called(&self, payer: &Pubkey, instructions: &[Instruction]) -> Result<Parties, StateError> {
        const METHOD: &str = "getMultipleAccounts";
        let used = instructions.iter().flat_map(|instruction| &instruction.accounts);
        let writable: BTreeSet<Pubkey> = used.clone().filter(|used| used.is_writable).map(|used| used.pubkey).collect();
        let named: BTreeSet<Pubkey> = used.map(|used| used.pubkey).filter(|key| key != payer).collect();
        let keys: Vec<Pubkey> = [*payer].into_iter().chain(named).collect();
        let names: Vec<String> = keys.iter().map(Pubkey::to_string).collect();
        // A token account begins with what is read of it, however long its extensions are.
        let slice = json!({ "offset": 0, "length": token::ACCOUNT_LEN });
        let config = json!({ "encoding": "base64", "commitment": CONFIRMED, "dataSlice": slice });
        let answer: WithContext<Vec<Option<AccountInfo>>> = self.call(METHOD, json!([names, config])).await?;
        if answer.value.len() != keys.len() {
            return Err(malformed(METHOD, format!("{} accounts for {}", answer.value.len(), keys.len())).into());
        }
        let held = answer.value.iter().flatten().filter_map(|found| {
            token::parse_token_account(&found.owner, found.data.get(..token::ACCOUNT_LEN).unwrap_or(&found.data))
        });
        let owners: BTreeSet<Pubkey> = held.map(|held| held.owner).filter(|owner| !keys.contains(owner)).collect();
        if owners.len() > MAX_OWNERS {
            return Err(BuildError::Unsupported("instructions with token accounts of more than 16 owners").into());
        }
        Ok(Parties {
            balance: lamports(answer.value.first().unwrap_or(&None)),
            destination: destination(&None),
            token: None,
            owners: owners.into_iter().collect(),
            tables: Vec::new(),
            writable: [*payer].into_iter().chain(writable.into_iter().filter(|key| key != payer)).collect(),
        })
    }

    /// What the node tells of the destination, and of the token where one moves.
    async fn paid(&self, order: &Order) -> Result<Parties, StateError> {
        let Some(mint) = order.mint else {
            let [payer, to] = self.accounts([order.payer, order.to]).await?;
            let writable = vec![order.payer, order.to];
            let (balance, destination, owners) = (lamports(&payer), destination(&to), Vec::new());
            return Ok(Parties { balance, destination, token: None, owners, tables: Vec::new(), writable });
        };
        // The token's program isn't known before its mint is; asking for the accounts under both keeps it one snapshot.
        let [source, source_2022] = TokenProgram::ALL.map(|p| associated_token_account(&order.payer, &mint, p));
        let [receiver, receiver_2022] = TokenProgram::ALL.map(|p| associated_token_account(&order.to, &mint, p));
        let keys = [order.payer, order.to, mint, source, receiver, source_2022, receiver_2022];
        let [payer, to, minted, source, receiver, source_2022, receiver_2022] = self.accounts(keys).await?;

        let asset = Asset::Spl(mint);
        let wrong = BuildError::WrongAsset { asset, network: Network::Solana(self.cluster) };
        let minted = minted.ok_or_else(|| wrong.clone())?;
        let read = token::parse_mint(&minted.owner, &minted.data).map_err(|error| match error {
            MintError::NotAMint => wrong,
            MintError::Extension => {
                BuildError::Unsupported("a Token-2022 mint whose extensions change what a transfer does")
            }
        })?;
        let (source, receiver) = match read.program {
            TokenProgram::Token => (source, receiver),
            TokenProgram::Token2022 => (source_2022, receiver_2022),
        };
        let source_balance = holding(source, read.program, &mint, &order.payer)?.unwrap_or(0);
        let destination_exists = holding(receiver, read.program, &mint, &order.to)?.is_some();
        let token = TokenState {
            mint,
            program: read.program,
            decimals: read.decimals,
            source_balance,
            destination_exists,
            account_rent: self.rent(read.account_len).await?,
        };
        let accounts = [order.payer, order.to].map(|owner| associated_token_account(&owner, &mint, read.program));
        let writable = [[order.payer].as_slice(), &accounts].concat();
        let (balance, destination, owners) = (lamports(&payer), destination(&to), Vec::new());
        Ok(Parties { balance, destination, token: Some(token), owners, tables: Vec::new(), writable })
    }

    /// The state of a message that those take part in, with the market's price for a compute unit and no limit yet.
    async fn priced(&self, parties: Parties, validity: Validity) -> Result<State, StateError> {
        let (rent_exempt_minimum, unit_price) = try_join!(self.rent(0), self.unit_price(&parties.writable))?;
        Ok(State {
            validity,
            balance: parties.balance,
            rent_exempt_minimum,
            destination: parties.destination,
            token: parties.token,
            owners: parties.owners,
            tables: parties.tables,
            nonce_rent: None,
            compute: ComputeBudget { unit_limit: MAX_COMPUTE_UNITS, unit_price },
            version: self.options.version,
        })
    }

    /// The state in which nonce account `index` is opened. It is always opened under a blockhash.
    async fn opening(&self, account: &Account, index: u8) -> Result<State, StateError> {
        let payer = build::payer(self.cluster, account)?;
        let nonce = nonce_account(&payer, index);
        let [own, there] = self.accounts([payer, nonce]).await?;
        let (balance, destination) = (lamports(&own), destination(&there));
        let (owners, tables) = (Vec::new(), Vec::new());
        let parties = Parties { balance, destination, token: None, owners, tables, writable: vec![payer, nonce] };
        let validity = self.latest_blockhash().await?;
        let nonce_rent = Some(self.rent(nonce::ACCOUNT_LEN).await?);
        Ok(State { nonce_rent, ..self.priced(parties, validity).await? })
    }

    async fn signature_status(&self, signature: &str) -> Result<(u64, Option<TxStatus>), RpcError> {
        const METHOD: &str = "getSignatureStatuses";
        let config = json!({ "searchTransactionHistory": true });
        let answer: WithContext<Vec<Option<TxStatus>>> = self.call(METHOD, json!([[signature], config])).await?;
        let slot = answer.context.slot;
        let [status] = <[_; 1]>::try_from(answer.value)
            .map_err(|statuses| malformed(METHOD, format!("{} statuses for one signature", statuses.len())))?;
        Ok((slot, status))
    }

    /// What a status that the node has seen from `slot` says.
    async fn included(&self, signature: &str, slot: u64, status: TxStatus) -> Status {
        let finalized = status.confirmation_status.as_deref() == Some(FINALIZED);
        let fee = if finalized { self.fee_paid(signature).await } else { None };
        Status::Included(Inclusion {
            height: status.slot,
            block: None,
            confirmations: match status.confirmations {
                Some(after) => after.saturating_add(1),
                // The node stops counting once the block is final.
                None => slot.saturating_sub(status.slot).saturating_add(1),
            },
            finalized,
            succeeded: status.err.is_none(),
            failure: status.err.map(|error| error.to_string()),
            fee,
        })
    }

    /// The fee that a final transaction paid. A node without history answers with an error or nothing: then it is not
    /// told.
    async fn fee_paid(&self, signature: &str) -> Option<Amount> {
        let config = json!({
            "encoding": "base64", "commitment": FINALIZED, "maxSupportedTransactionVersion": 0,
        });
        let answer: Result<Option<TransactionMeta>, _> = self.call("getTransaction", json!([signature, config])).await;
        match answer {
            Ok(found) => found.and_then(|found| found.meta).map(|meta| Amount::from_lamports(meta.fee)),
            Err(error) => {
                tracing::debug!(%error, signature, "the node doesn't tell the fee");
                None
            }
        }
    }
}

impl Client for SolanaClient {
    type Chain = Solana;

    async fn state(&self, intent: &Intent, account: &Account, busy: &BTreeSet<Slot>) -> Result<State, StateError> {
        let mut state = if let Action::OpenNonce { index } = intent.action {
            self.opening(account, index).await?
        } else {
            let parties = self.parties(intent, account).await?;
            let validity = self.validity(&build::payer(self.cluster, account)?, busy).await?;
            self.priced(parties, validity).await?
        };
        let unit_price = state.compute.unit_price;
        state.compute = FREE;
        let unit_limit = self.unit_limit(&self.chain.build(intent, account, &state)?).await?;
        state.compute = ComputeBudget { unit_limit, unit_price };

        // Two equal payments under one blockhash would be one message, which the cluster takes once. Another unit limit
        // makes another message. Under a nonce no two payments are.
        for _ in busy {
            let unsigned = self.chain.build(intent, account, &state)?;
            if self.chain.slots(account, &unsigned).is_disjoint(busy) {
                break;
            }
            state.compute.unit_limit = state.compute.unit_limit.saturating_add(1);
        }
        Ok(state)
    }

    async fn replacement_state(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Unsigned],
        purpose: Replacement,
        _busy: &BTreeSet<Slot>,
    ) -> Result<State, StateError> {
        let nonce = replace::nonce_of(previous)?;
        let least = replace::least(previous)?;
        if least.unit_price > self.options.priority.cap {
            return Err(
                BuildError::NotReplaceable("a higher price for a compute unit is above the configured one").into()
            );
        }
        let payer = build::payer(self.cluster, account)?;
        self.require_unmoved(&payer, &nonce).await?;
        let parties = match purpose {
            Replacement::SpeedUp => self.parties(intent, account).await?,
            Replacement::Cancel => {
                let [own] = self.accounts([payer]).await?;
                let destination = destination(&None);
                let (owners, tables) = (Vec::new(), Vec::new());
                Parties { balance: lamports(&own), destination, token: None, owners, tables, writable: vec![payer] }
            }
        };
        let mut state = self.priced(parties, Validity::Nonce(nonce)).await?;
        let unit_price = state.compute.unit_price;
        state.compute = FREE;
        let draft = match purpose {
            Replacement::SpeedUp => self.chain.build(intent, account, &state)?,
            Replacement::Cancel => build::cancel(self.cluster, intent, account, &state)?,
        };
        state.compute = ComputeBudget { unit_limit: self.unit_limit(&draft).await?, unit_price };
        Ok(state)
    }

    async fn balance(&self, account: &Account, asset: Asset) -> Result<Amount, RpcError> {
        let Some(owner) = super::address::of_account(account, self.cluster) else { return Ok(Amount::ZERO) };
        match asset {
            Asset::Native => {
                let config = json!({ "commitment": CONFIRMED });
                let answer: WithContext<u64> = self.call("getBalance", json!([owner.to_string(), config])).await?;
                Ok(Amount::from_lamports(answer.value))
            }
            Asset::Spl(mint) => {
                let keys = TokenProgram::ALL.map(|program| associated_token_account(&owner, &mint, program));
                let found = self.accounts(keys).await?;
                let held = TokenProgram::ALL.into_iter().zip(found).filter_map(|(program, found)| {
                    let found = found.filter(|account| account.owner == program.id())?;
                    let read = token::parse_token_account(&found.owner, &found.data)?;
                    (read.mint == mint && read.owner == owner).then_some(read.amount)
                });
                // A mint belongs to one program, so at most one of the two is there.
                Ok(Amount::from_lamports(held.max().unwrap_or(0)))
            }
            Asset::Erc20(_) => Ok(Amount::ZERO),
        }
    }

    async fn broadcast(&self, signed: &Signed) -> Result<(), BroadcastError> {
        const METHOD: &str = "sendTransaction";
        let config = json!({
            "encoding": "base64",
            "skipPreflight": self.options.skip_preflight,
            "preflightCommitment": CONFIRMED,
            "maxRetries": 0,
        });
        let bytes = BASE64_STANDARD.encode(signed.transaction_bytes());
        // Asked apart, so that an error to another question is no word on the transaction.
        self.require_cluster().await?;
        match self.rpc.call::<String>(METHOD, json!([bytes, config])).await {
            Ok(id) if id == signed.signature().to_string() => Ok(()),
            Ok(id) => Err(malformed(METHOD, format!("the node names another transaction: {id}")).into()),
            Err(error) => verdict::of(error),
        }
    }

    async fn status(&self, signed: &Signed) -> Result<Status, RpcError> {
        let signature = signed.signature().to_string();
        let (slot, found) = self.signature_status(&signature).await?;
        if let Some(status) = found {
            return Ok(self.included(&signature, slot, status).await);
        }
        let Some(lapsed) = self.lapsed(signed).await? else { return Ok(Status::Unknown) };
        // It may have been included between the two questions; after it has lapsed it can't be any more.
        let (slot, found) = self.signature_status(&signature).await?;
        match found {
            Some(status) => Ok(self.included(&signature, slot, status).await),
            // Another node may have answered, which is behind the one that saw it lapse.
            None if slot < lapsed.slot() => Ok(Status::Unknown),
            None => self.ending(signed, &lapsed).await,
        }
    }

    async fn simulate(&self, unsigned: &Unsigned) -> Result<Tried, RpcError> {
        match self.unit_limit(unsigned).await {
            Ok(_) => Ok(Tried::Passed(Vec::new())),
            Err(StateError::Reverted(why)) => Ok(Tried::Reverted(why)),
            Err(StateError::Rpc(error)) => Err(error),
            Err(StateError::Build(_)) => Ok(Tried::Unsupported),
        }
    }

    async fn tip(&self) -> Result<Tip, RpcError> {
        let slot = |commitment: &'static str| self.call::<u64>("getSlot", json!([{ "commitment": commitment }]));
        // The final one first: it must not be ahead of the other.
        let finalized = slot(FINALIZED).await?;
        let height = slot(CONFIRMED).await?;
        Ok(Tip { height, finalized: Some(finalized) })
    }
}

/// What a node tells of those who take part.
struct Parties {
    balance: Lamports,
    destination: Destination,
    token: Option<TokenState>,
    /// Owners of token accounts that instructions name.
    owners: Vec<Pubkey>,
    /// The lookup tables that the intent names.
    tables: Vec<TableAccount>,
    /// The accounts that are written to, for which recent prices are looked up.
    writable: Vec<Pubkey>,
}

fn lamports(account: &Option<AccountInfo>) -> Lamports {
    Lamports::new(account.as_ref().map_or(0, |account| account.lamports))
}

fn destination(account: &Option<AccountInfo>) -> Destination {
    let kind = match account {
        None => DestinationKind::Absent,
        Some(account) if account.executable => DestinationKind::Program,
        Some(account) if account.owner == solana_system_interface::program::ID => DestinationKind::Wallet,
        Some(account) if token::parse_token_account(&account.owner, &account.data).is_some() => {
            DestinationKind::TokenAccount
        }
        Some(account) => match token::parse_mint(&account.owner, &account.data) {
            Ok(_) | Err(MintError::Extension) => DestinationKind::Mint,
            Err(MintError::NotAMint) => DestinationKind::Other,
        },
    };
    Destination { lamports: lamports(account), kind }
}

/// What an associated token account holds; `None` where there is none.
fn holding(
    account: Option<AccountInfo>,
    program: TokenProgram,
    mint: &Pubkey,
    owner: &Pubkey,
) -> Result<Option<u64>, BuildError> {
    // Lamports sent to the address before the account is created leave it with the system program.
    let Some(account) = account.filter(|account| account.owner == program.id()) else { return Ok(None) };
    let read = token::parse_token_account(&account.owner, &account.data)
        .ok_or(BuildError::Unsupported("an associated token account that can't be read"))?;
    if read.mint != *mint || read.owner != *owner {
        return Err(BuildError::Unsupported("an associated token account that was handed to another owner"));
    }
    if read.frozen {
        return Err(BuildError::Unsupported("a frozen token account; ask the token's issuer"));
    }
    Ok(Some(read.amount))
}

/// An answer that is JSON-RPC but not what the method promises.
fn malformed(method: &str, reason: impl Into<String>) -> RpcError {
    RpcError::Malformed { method: method.to_owned(), status: 200, reason: reason.into() }
}
