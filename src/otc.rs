//! `portcullis otc`: deals, delivery versus payment: opened and released by the desk, confirmed and aborted by people.

use chains::account::WalletId;
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::intent::{Action, Intent};
use clap::{Args, Subcommand};
use gateway::api::otc::DealView;
use gateway::clock::{Clock as _, SystemClock};
use gateway::record::RecordId;
use serde_json::{Value, json};
use signer::approval::Decision;
use signer::policy::quorum::Group;
use signer::request::deal::{Currency, Deal, Fiat, FiatAmount, FiatReference, Release, Terms};

use crate::approve;
use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::person::PersonArgs;

/// Which deal, of whom, as whom.
#[derive(Debug, Args)]
pub(crate) struct OtcArgs {
    #[command(flatten)]
    person: PersonArgs,
    #[command(subcommand)]
    command: OtcCommand,
}

#[derive(Debug, Subcommand)]
enum OtcCommand {
    /// Opens a deal: a payment that waits for both parties and for the fiat leg. By an initiator, the desk.
    Open(Box<Open>),
    /// Shows a deal: both legs, what is missing, until when.
    Get {
        /// The gateway's name for it.
        tx_id: RecordId,
    },
    /// Lists deals, newest first.
    List,
    /// Shows a deal, asks, and signs: a party's approval, or the confirmation that the fiat leg is paid.
    Confirm(approve::Word),
    /// Ends a deal that isn't signed: as the desk or an operator; or with --party as a party, by a signed rejection.
    Abort {
        #[command(flatten)]
        word: approve::Word,
        /// Abort as one of the parties.
        #[arg(long)]
        party: bool,
    },
    /// Gives the desk's go, where the terms ask for one. By whoever opened the deal.
    Release {
        /// The gateway's name for it.
        tx_id: RecordId,
    },
}

#[derive(Debug, Args)]
struct Open {
    /// The wallet that pays the crypto leg.
    wallet: WalletId,
    /// Who receives it.
    to: String,
    /// How much, in base units.
    amount: Amount,
    /// What: native, erc20:0x… or spl:MINT.
    #[arg(long, default_value = "native")]
    asset: Asset,
    /// The group that speaks for the one party.
    #[arg(long)]
    party_a: Group,
    /// The group that speaks for the other.
    #[arg(long)]
    party_b: Group,
    /// The group that confirms that the fiat leg is paid.
    #[arg(long)]
    fiat_confirmer: Group,
    /// The fiat leg's currency: EUR.
    #[arg(long)]
    currency: Currency,
    /// How much of it: 1250000.00.
    #[arg(long)]
    fiat_amount: FiatAmount,
    /// What the fiat payment is recognized by.
    #[arg(long)]
    fiat_reference: FiatReference,
    /// For so many minutes the deal is open.
    #[arg(long, default_value_t = 24 * 60)]
    minutes: u32,
    /// Wait for the desk's go once everything else is there.
    #[arg(long)]
    manual_release: bool,
    /// Your name for this deal; the same name never pays twice. One is made if left out.
    #[arg(long)]
    idempotency_key: Option<String>,
    /// The most that the crypto leg may cost in fees, native base units.
    #[arg(long)]
    max_fee: Option<Amount>,
}

/// Does what was typed.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(args: OtcArgs) -> Result<(), Failure> {
    let person = args.person.open()?;
    let client = &person.client;
    let signed = async |word: &approve::Word, decision: Decision| {
        let approval = approve::word_on(&person, word, decision).await?;
        Ok::<_, Failure>(json!({ "tx_id": word.tx_id, "approval": approval }))
    };
    let view: DealView = match &args.command {
        OtcCommand::Open(open) => client.call("otc_open", open.params()?).await?,
        OtcCommand::Get { tx_id } => get(client, *tx_id).await?,
        OtcCommand::List => {
            let deals: Vec<DealView> = client.call("otc_list", json!({})).await?;
            for view in deals {
                println!("{}  {:<17} {}", view.tx.tx_id, view.tx.state.to_string(), summary(&view));
            }
            return Ok(());
        }
        OtcCommand::Confirm(word) => client.call("otc_confirmLeg", signed(word, Decision::Approve).await?).await?,
        OtcCommand::Abort { word, party: true } => {
            client.call("otc_abort", signed(word, Decision::Reject).await?).await?
        }
        OtcCommand::Abort { word, party: false } => client.call("otc_abort", json!({ "tx_id": word.tx_id })).await?,
        OtcCommand::Release { tx_id } => {
            // The go is for what this machine reads, not for what the gateway tells.
            let waiting = approve::get(client, *tx_id).await?;
            let read = approve::read(&waiting, Decision::Approve, 0)?;
            approve::show(&waiting, &read);
            let digest = hex::encode(read.statement.request);
            client.call("otc_release", json!({ "tx_id": tx_id, "request": digest })).await?
        }
    };
    tell(&view);
    Ok(())
}

async fn get(client: &GatewayClient, tx_id: RecordId) -> Result<DealView, Failure> {
    Ok(client.call("otc_get", json!({ "tx_id": tx_id })).await?)
}

impl Open {
    fn params(&self) -> Result<Value, Failure> {
        let terms = Terms {
            party_a: self.party_a.clone(),
            party_b: self.party_b.clone(),
            fiat_confirmer: self.fiat_confirmer.clone(),
            fiat: Fiat {
                currency: self.currency.clone(),
                amount: self.fiat_amount.clone(),
                reference: self.fiat_reference.clone(),
            },
            expires: SystemClock.unix_seconds().saturating_add(u64::from(self.minutes).saturating_mul(60)),
            release: if self.manual_release { Release::Manual } else { Release::Automatic },
        };
        let deal = Deal::try_from(terms)?;
        let to = UncheckedAddress::new(self.to.clone());
        let action = Action::Transfer { asset: self.asset, to, amount: self.amount };
        let intent = Intent { wallet: self.wallet.clone(), action, max_fee: self.max_fee, reference: None };
        let key = self.idempotency_key.clone().unwrap_or_else(|| format!("cli-{}", uuid::Uuid::now_v7()));
        Ok(json!({ "idempotency_key": key, "intent": intent, "deal": deal }))
    }
}

fn summary(view: &DealView) -> String {
    let Terms { fiat, .. } = view.deal.terms();
    let missing = if view.missing.is_empty() { "nothing".to_owned() } else { view.missing.join(", ") };
    format!("for {} {} ({:?}); waits for {missing}", fiat.currency, fiat.amount, fiat.reference.to_string())
}

/// Prints a deal as the gateway tells it.
fn tell(view: &DealView) {
    let voices = |list: &[gateway::pipeline::deal::Voice]| {
        let names: Vec<_> = list.iter().map(|voice| voice.approver.to_string()).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    };
    let Terms { party_a, party_b, fiat_confirmer, fiat, .. } = view.deal.terms();
    println!("deal {}: {}", view.tx.tx_id, view.tx.state);
    println!(
        "  crypto leg  {}: {}; {}: {}",
        party_a,
        voices(&view.crypto.party_a),
        party_b,
        voices(&view.crypto.party_b)
    );
    println!(
        "  fiat leg    {} {}: {}: {}",
        fiat.currency,
        fiat.amount,
        fiat_confirmer,
        voices(&view.fiat_confirmed_by)
    );
    if !view.missing.is_empty() {
        println!("  waits for   {}, until {} (ms since 1970)", view.missing.join(", "), view.until);
    }
    if let Some(reason) = &view.tx.reason {
        println!("  reason      {}", reason.message);
    }
}
