//! `portcullis approve`: what waits for people, shown as its request says it, and an approver's signed word on it.
//!
//! The gateway is believed nothing: the payment is read from the raw body of the client's request on this machine, and what is
//! signed is made of that body. What the gateway tells beside it is only compared.

use chains::intent::{Action, Intent, ProgramInstruction};
use clap::{Args, Subcommand};
use gateway::api::approval::ApprovalView;
use gateway::api::screen::OverrideView;
use gateway::clock::{Clock as _, SystemClock};
use gateway::record::{RecordId, State};
use gateway::screening::waiver::{self, Proposal, WaiverId};
use serde_json::json;
use signer::approval::delegation::DelegationId;
use signer::approval::{Approval, Decision, PAYLOAD_TYPE, Statement, Subject};
use signer::request::deal::{Deal, Terms};
use signer::request::{Submission, parse_call};
use signer::roster::CredentialId;

use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::person::{Person, PersonArgs};
use crate::{person, tx};

pub(crate) mod delegation;

/// What waits, of whom, as whom: an approver.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    person: PersonArgs,
    #[command(subcommand)]
    command: ApproveCommand,
}

#[derive(Debug, Subcommand)]
enum ApproveCommand {
    /// Lists what waits for approval, newest first.
    List,
    /// Shows one payment as its request says it.
    Show {
        /// The gateway's name for it.
        tx_id: RecordId,
    },
    /// Shows one payment, asks, and signs an approval.
    Sign(Word),
    /// Shows one payment, asks, and signs a rejection, which ends it.
    Reject(Word),
    /// Lists overrides of the screening.
    Overrides,
    /// Shows an override of the screening, asks, and signs an approval, or with --reject a rejection, which ends it.
    Override {
        /// Its name, 64 hex digits.
        id: String,
        /// Say no.
        #[arg(long)]
        reject: bool,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// Has another approver act for you, for a time.
    Delegate(delegation::Delegate),
    /// Lists delegations.
    Delegations,
    /// Takes a delegation back.
    Revoke {
        /// Its name, 64 hex digits.
        id: DelegationId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Word {
    /// The gateway's name for it.
    pub(crate) tx_id: RecordId,
    /// Don't ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// For so many hours the word holds.
    #[arg(long, default_value_t = 24)]
    hours: u32,
    /// Say it for this approver, who has delegated to you.
    #[arg(long)]
    pub(crate) acting_for: Option<CredentialId>,
}

impl Word {
    /// For how long the word holds, in seconds.
    pub(crate) fn seconds(&self) -> u64 {
        u64::from(self.hours).saturating_mul(3_600)
    }
}

/// A payment as an approver sees it: read from the request's body and from nothing else.
pub(crate) struct Read {
    intent: Intent,
    deal: Option<Deal>,
    pub(crate) statement: Statement,
}

impl Read {
    /// The same, said under a delegation where there is one.
    pub(crate) fn under(self, delegation: Option<Approval>) -> Self {
        match delegation {
            Some(envelope) => Self { statement: self.statement.under(envelope), ..self },
            None => self,
        }
    }
}

/// Does what was typed.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(args: ApproveArgs) -> Result<(), Failure> {
    let person = args.person.open()?;
    let client = &person.client;
    let (word, decision) = match args.command {
        ApproveCommand::List => {
            let waiting: Vec<ApprovalView> = client.call("approval_list", json!({})).await?;
            for view in waiting {
                let missing: usize = view.quorums.iter().map(|quorum| quorum.missing).sum();
                let read = read(&view, Decision::Approve, 0)?;
                println!("{}  {missing} missing  {}", view.tx.tx_id, tx::describe(&read.intent));
            }
            return Ok(());
        }
        ApproveCommand::Show { tx_id } => {
            let view = get(client, tx_id).await?;
            let read = read(&view, Decision::Approve, 0)?;
            show(&view, &read);
            return Ok(());
        }
        ApproveCommand::Delegate(what) => return delegation::delegate(&person, what).await,
        ApproveCommand::Delegations => return delegation::list(client).await,
        ApproveCommand::Revoke { id } => return delegation::revoke(client, id).await,
        ApproveCommand::Overrides => {
            for view in overrides(client).await? {
                let Proposal { address, network, .. } = &view.proposal;
                println!("{}  {:?}, {} missing  {address} on {network}", view.id, view.state, view.missing);
            }
            return Ok(());
        }
        ApproveCommand::Override { id: name, reject, yes } => {
            let decision = if reject { Decision::Reject } else { Decision::Approve };
            return decide_override(&person, &name, decision, yes).await;
        }
        ApproveCommand::Sign(word) => (word, Decision::Approve),
        ApproveCommand::Reject(word) => (word, Decision::Reject),
    };
    let approval = word_on(&person, &word, decision).await?;
    let after: ApprovalView =
        client.call("approval_submit", json!({ "tx_id": word.tx_id, "approval": approval })).await?;
    println!("\nsigned; the payment is {}", after.tx.state);
    if after.tx.state == State::AwaitingApproval {
        for quorum in &after.quorums {
            println!("  {}: {} missing", quorum.quorum, quorum.missing);
        }
    }
    Ok(())
}

/// Shows a payment, asks, and signs the person's word on it.
///
/// # Errors
/// Where it isn't shown, or not signed.
pub(crate) async fn word_on(person: &Person, word: &Word, decision: Decision) -> Result<Approval, Failure> {
    let view = get(&person.client, word.tx_id).await?;
    let expires = SystemClock.unix_seconds().saturating_add(word.seconds());
    let acting = delegation::standing(&person.client, &person.id, word.acting_for.as_ref()).await?;
    let read = read(&view, decision, expires)?.under(acting);
    show(&view, &read);
    if !word.yes && !person::agrees(decision, "this")? {
        return Err("nothing was signed".into());
    }
    let about = format!("{}: {}", person::verb(decision), tx::describe(&read.intent));
    person.sign(PAYLOAD_TYPE, read.statement.to_payload(), &about).await
}

/// What an approver needs, of exactly this payment.
///
/// # Errors
/// Where the gateway doesn't show it.
pub(crate) async fn get(client: &GatewayClient, tx_id: RecordId) -> Result<ApprovalView, Failure> {
    let view: ApprovalView = client.call("approval_get", json!({ "tx_id": tx_id })).await?;
    if view.tx.tx_id == tx_id { Ok(view) } else { Err("the gateway answers with another payment".into()) }
}

/// Reads the payment from the request's body, makes the statement of it, and compares what the gateway tells.
///
/// # Errors
/// Where the body is no payment, or the gateway tells something else of it.
pub(crate) fn read(view: &ApprovalView, decision: Decision, expires: u64) -> Result<Read, Failure> {
    let body = &view.request.body;
    let submission = Submission::from_call(&parse_call(body)?)?;
    let initiator: CredentialId = view.tx.client.parse()?;
    let intent = submission.intent_id(&initiator);
    let statement = Statement::about(&Subject { intent, initiator: &initiator, body }, decision, expires);
    let told = (view.intent_id, view.request_digest.as_str(), &view.tx.intent);
    if told != (intent, hex::encode(statement.request).as_str(), &submission.intent) {
        return Err("what the gateway tells of the payment isn't what its request says; don't sign".into());
    }
    Ok(Read { intent: submission.intent, deal: submission.deal, statement })
}

/// Prints what the request says, and then what the gateway does.
pub(crate) fn show(view: &ApprovalView, read: &Read) {
    let Intent { wallet, action, max_fee, reference } = &read.intent;
    println!("from the client's own request:");
    println!("  asked by   {}", view.tx.client);
    println!("  wallet     {wallet} ({})", view.tx.network);
    match action {
        Action::Transfer { asset, to, amount } => {
            println!("  pays to    {to}\n  amount     {amount} base units of {asset}");
        }
        Action::Call { contract, data, value } => {
            println!("  calls      {contract}\n  data       {data}\n  with       {value} wei");
        }
        Action::CallProgram { instructions, lookup_tables } => {
            for ProgramInstruction { program, accounts, data } in instructions {
                println!("  calls      program {program}\n  data       {data}");
                for account in accounts {
                    let access = if account.writable { "writes" } else { "reads" };
                    println!("  {access:<10} {}", account.address);
                }
            }
            // What stands in them, every signer holds against its policy; the accounts above are what it comes to.
            for table in lookup_tables {
                println!("  by table   {table}");
            }
        }
        other => println!("  does       {}", serde_json::to_string(other).unwrap_or_default()),
    }
    match max_fee {
        Some(fee) => println!("  fee        at most {fee} native base units"),
        None => println!("  fee        no cap of its own; the policy's holds"),
    }
    if let Some(reference) = reference {
        // Words of the client's: what would move the cursor is not shown as such.
        println!("  reference  {reference:?}");
    }
    if let Some(deal) = &read.deal {
        show_terms(deal);
    }
    if let Some(envelope) = &read.statement.delegation {
        println!("  you act    for {}", envelope.approver);
    }
    println!("  intent     {}\n  request    {}", read.statement.intent, hex::encode(read.statement.request));
    println!("by the gateway's word:");
    println!("  state      {}", view.tx.state);
    for quorum in &view.quorums {
        println!("  needs      {}: {} missing", quorum.quorum, quorum.missing);
    }
    println!(
        "The transaction's bytes are made later. Every signer checks them against this request before it signs, and this \
         approval against its own roster."
    );
}

async fn overrides(client: &GatewayClient) -> Result<Vec<OverrideView>, Failure> {
    Ok(client.call("screen_overrides", json!({})).await?)
}

/// Shows an override as the operator's own request says it, asks, and signs.
async fn decide_override(person: &Person, name: &str, decision: Decision, yes: bool) -> Result<(), Failure> {
    let client = &person.client;
    let found = overrides(client).await?.into_iter().find(|view| view.id.to_string() == name);
    let view = found.ok_or_else(|| format!("there is no override {name}"))?;
    let waiver = WaiverId::of(&view.request.body);
    let proposal = Proposal::from_call(&parse_call(&view.request.body)?)?;
    if waiver != view.id || proposal != view.proposal {
        return Err("what the gateway tells of the override isn't what its request says; don't sign".into());
    }
    let Proposal { address, network, reason, expires } = &proposal;
    println!("from the operator's own request:");
    println!("  asked by   {}", view.proposed_by);
    println!("  clears     {address} on {network}, for every payment");
    println!("  because    {reason:?}\n  until      {expires} (seconds since 1970)");
    if !yes && !person::agrees(decision, "this")? {
        return Err("nothing was signed".into());
    }
    let payload = waiver::Word { decision, waiver }.to_payload();
    let about = format!("{}: {address} on {network} is cleared", person::verb(decision));
    let approval = person.sign(waiver::PAYLOAD_TYPE, payload, &about).await?;
    let params = json!({ "override": waiver, "approval": approval });
    let after: OverrideView = client.call("screen_approveOverride", params).await?;
    println!("\nsigned; the override is {:?}, {} missing", after.state, after.missing);
    Ok(())
}

/// Prints the terms of a deal: what an approval of it says yes to.
fn show_terms(deal: &Deal) {
    let Terms { party_a, party_b, fiat_confirmer, fiat, expires, .. } = deal.terms();
    println!("  it is one leg of a deal:");
    println!("  against    {} {}, reference {:?}", fiat.currency, fiat.amount, fiat.reference.to_string());
    println!("  paid only  once one of {party_a} and one of {party_b} have approved");
    println!(
        "             and one of {fiat_confirmer} has confirmed the fiat leg: yours is that word, if you are of them"
    );
    println!(
        "             until {expires} (seconds since 1970){}",
        match deal.is_released_by_hand() {
            true => ", and on the desk's explicit go",
            false => "",
        }
    );
}
