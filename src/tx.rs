//! `portcullis tx`: payments, asked for by a person.

use std::path::PathBuf;
use std::time::Duration;

use chains::account::WalletId;
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::intent::{Action, Intent};
use clap::{Args, Subcommand};
use gateway::api::view::TxView;
use gateway::record::{RecordId, State};
use serde_json::{Value, json};
use signer::roster::{Audience, CredentialId};

use crate::cli::Failure;
use crate::client::{ClientError, GatewayClient};

/// How often `watch` looks.
const LOOK: Duration = Duration::from_millis(200);

/// What to ask, of whom, as whom.
#[derive(Debug, Args)]
pub(crate) struct TxArgs {
    /// The gateway's endpoint.
    #[arg(long, env = "PORTCULLIS_URL", default_value = "http://127.0.0.1:8645", global = true)]
    url: String,
    /// The name of your credential.
    #[arg(long, env = "PORTCULLIS_CREDENTIAL", default_value = "demo-trader", global = true)]
    credential: CredentialId,
    /// The file with its private key, PEM.
    #[arg(long, env = "PORTCULLIS_KEY", default_value = "portcullis-data/demo/demo-trader.key", global = true)]
    key: PathBuf,
    /// The name of the gateway's deployment, where it has one.
    #[arg(long, env = "PORTCULLIS_AUDIENCE", global = true)]
    audience: Option<Audience>,
    #[command(subcommand)]
    command: TxCommand,
}

#[derive(Debug, Subcommand)]
enum TxCommand {
    /// Pays.
    Send {
        /// The wallet that pays.
        wallet: WalletId,
        /// Who receives.
        to: String,
        /// How much, in base units: satoshi, wei, lamports, the token's smallest unit.
        amount: Amount,
        /// What: native, erc20:0x… or spl:MINT.
        #[arg(long, default_value = "native")]
        asset: Asset,
        /// Your name for this payment; the same name never pays twice. One is made if left out.
        #[arg(long)]
        idempotency_key: Option<String>,
        /// The most that it may cost in fees, native base units.
        #[arg(long)]
        max_fee: Option<Amount>,
        /// Your own words, kept with the record.
        #[arg(long)]
        reference: Option<String>,
        /// Stay until it is final.
        #[arg(long)]
        watch: bool,
    },
    /// Shows one payment.
    Get {
        /// The gateway's name for it.
        tx_id: RecordId,
    },
    /// Follows one payment to its end.
    Watch {
        /// The gateway's name for it.
        tx_id: RecordId,
    },
    /// Hurries one payment on: the same again for a higher fee, within its max_fee.
    SpeedUp {
        /// The gateway's name for it.
        tx_id: RecordId,
        /// The attempt that is too slow; where there is a later one already, nothing is done.
        #[arg(long)]
        attempt: Option<u32>,
        /// Stay until it is final.
        #[arg(long)]
        watch: bool,
    },
    /// Cancels one payment: at once where it isn't signed, else by a transaction that takes its place, if it wins.
    Cancel {
        /// The gateway's name for it.
        tx_id: RecordId,
        /// Stay until it is decided.
        #[arg(long)]
        watch: bool,
    },
    /// Lists payments, newest first.
    List {
        /// Only this wallet's.
        #[arg(long)]
        wallet: Option<WalletId>,
        /// Only in this state.
        #[arg(long)]
        state: Option<State>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

/// Asks, and prints the answer.
///
/// # Errors
/// What the gateway refused, or why it can't be asked.
pub(crate) async fn run(args: TxArgs) -> Result<(), Failure> {
    let client = GatewayClient::new(&args.url, args.credential, &args.key)?.for_audience(args.audience);
    match args.command {
        TxCommand::Send { wallet, to, amount, asset, idempotency_key, max_fee, reference, watch } => {
            let action = Action::Transfer { asset, to: UncheckedAddress::new(to), amount };
            let intent = Intent { wallet, action, max_fee, reference };
            let key = idempotency_key.unwrap_or_else(|| format!("cli-{}", uuid::Uuid::now_v7()));
            let view = submit(&client, &key, &intent).await?;
            if watch { follow(&client, view.tx_id).await } else { print_json(&json!(view)) }
        }
        TxCommand::Get { tx_id } => print_json(&json!(get(&client, tx_id).await?)),
        TxCommand::Watch { tx_id } => follow(&client, tx_id).await,
        TxCommand::SpeedUp { tx_id, attempt, watch } => {
            let view: TxView = client.call("tx_speedUp", json!({ "tx_id": tx_id, "attempt": attempt })).await?;
            if watch { follow(&client, view.tx_id).await } else { print_json(&json!(view)) }
        }
        TxCommand::Cancel { tx_id, watch } => {
            let view: TxView = client.call("tx_cancel", json!({ "tx_id": tx_id })).await?;
            if !watch {
                return print_json(&json!(view));
            }
            let view = walk(&client, tx_id).await?;
            match view.state {
                State::Cancelled => Ok(()),
                state => Err(format!("the payment was not cancelled; it ended {state}").into()),
            }
        }
        TxCommand::List { wallet, state, limit } => {
            let views: Vec<TxView> =
                client.call("tx_list", json!({ "wallet": wallet, "state": state, "limit": limit })).await?;
            for view in views {
                println!("{}  {:<17} {}", view.tx_id, view.state.to_string(), describe(&view.intent));
            }
            Ok(())
        }
    }
}

/// Asks for what the intent says.
///
/// # Errors
/// What the gateway says against it.
pub(crate) async fn submit(client: &GatewayClient, key: &str, intent: &Intent) -> Result<TxView, ClientError> {
    client.call("tx_submit", json!({ "idempotency_key": key, "intent": intent })).await
}

/// The record as it stands.
///
/// # Errors
/// Where the gateway doesn't show it.
pub(crate) async fn get(client: &GatewayClient, id: RecordId) -> Result<TxView, ClientError> {
    client.call("tx_get", json!({ "tx_id": id })).await
}

/// Prints each step as it happens, until the last one.
async fn follow(client: &GatewayClient, id: RecordId) -> Result<(), Failure> {
    let view = walk(client, id).await?;
    if view.state == State::Finalized {
        Ok(())
    } else {
        let reason = view.reason.map(|reason| reason.message).unwrap_or_default();
        Err(format!("the payment ended {}: {reason}", view.state).into())
    }
}

/// Follows a record to its end, printing each step with the milliseconds since the first.
///
/// # Errors
/// Where the gateway doesn't show it.
pub(crate) async fn walk(client: &GatewayClient, id: RecordId) -> Result<TxView, ClientError> {
    let mut seen = 0;
    loop {
        let view = get(client, id).await?;
        let start = view.history.first().map_or(0, |step| step.at);
        for step in view.history.iter().skip(seen) {
            let detail = step.detail.as_ref().map(summary).unwrap_or_default();
            println!("  {:>7} ms  {:<12} {detail}", step.at.saturating_sub(start), step.state.to_string());
        }
        seen = view.history.len();
        if view.state.is_terminal() {
            return Ok(view);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One line about a step's detail.
fn summary(detail: &Value) -> String {
    let text = |name: &str| detail.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(rule) = text("rule") {
        format!("rule {rule}")
    } else if let Some(id) = text("tx_id") {
        let signers = detail.get("signers").map(Value::to_string).unwrap_or_default();
        format!("{id} by {}", signers.replace(['"', '[', ']'], "").replace(',', ", "))
    } else if let Some(slots) = detail.get("slots").and_then(Value::as_array) {
        format!("slot {}", slots.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
    } else if let Some(height) = detail.get("height") {
        let deep = detail.get("confirmations").map(Value::to_string).unwrap_or_default();
        format!("block {height}, {deep} deep")
    } else if let Some(message) = detail.pointer("/reason/message").and_then(Value::as_str) {
        message.to_owned()
    } else {
        String::new()
    }
}

/// An intent in a line.
pub(crate) fn describe(intent: &Intent) -> String {
    match &intent.action {
        Action::Transfer { asset, to, amount } => format!("{} pays {amount} {asset} to {to}", intent.wallet),
        Action::Call { contract, value, .. } => format!("{} calls {contract} with {value} wei", intent.wallet),
        Action::CallProgram { instructions, .. } => {
            let programs: Vec<_> = instructions.iter().map(|instruction| instruction.program.as_str()).collect();
            format!("{} calls programs {}", intent.wallet, programs.join(", "))
        }
        Action::Accelerate { parent } => format!("{} hurries on {parent}", intent.wallet),
        Action::OpenNonce { index } => format!("{} opens its durable nonce {index}", intent.wallet),
    }
}

fn print_json(value: &Value) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
