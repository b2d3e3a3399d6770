//! `portcullis policy`: changes of the policy, proposed, shown, approved and asked about.
//!
//! The gateway is believed nothing: what a change does is read from the two documents on this machine, and what is signed names the
//! digests of these very documents. Every signer compares them with what it has.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gateway::api::policy::change::{DocumentView, VersionView};
use gateway::clock::{Clock as _, SystemClock};
use gateway::store::policies::PolicyState;
use serde::Deserialize;
use serde_json::{Value, json};
use signer::approval::Decision;
use signer::policy::change::{ChangeStatement, PAYLOAD_TYPE, Version};
use signer::policy::document::Document;
use signer::request::parse_call;
use signer::request::proposal::Proposal;

use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::person::{self, PersonArgs};

mod render;
mod table;

/// What is to be done, where, as whom.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    person: PersonArgs,
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Lists every version, and what the signers have in force.
    Versions,
    /// Proposes a document, TOML or JSON, as the next version; your role is policy_admin.
    Propose {
        /// The document: what stands under `[policy]` in a configuration, without that heading.
        document: PathBuf,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Proposes an earlier version's document as the next version.
    Rollback {
        /// The earlier version.
        version: u64,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Shows what a version changes, from its documents.
    Show {
        /// The version.
        version: u64,
    },
    /// Shows a proposed version, asks, and signs an approval.
    Approve(Word),
    /// Shows a proposed version, asks, and signs a rejection, which ends it.
    Reject(Word),
    /// Asks whether an approved version is in force, which it is by itself once its delay is over.
    Activate {
        /// The version.
        version: u64,
    },
    /// Asks the gateway what a document would change, with a transaction that passes more easily, and one that passes less.
    Diff {
        /// The document.
        document: PathBuf,
    },
    /// Asks the gateway whether the policy allows anything that a question describes.
    Prove {
        /// The question, JSON: `{"acts": ["pay"], "addresses": {"one_of": ["0x…"]}}`.
        question: String,
        /// Of this version instead of the one in force.
        #[arg(long)]
        version: Option<u64>,
    },
    /// Asks the gateway what a document would have said to past payments.
    Replay {
        /// The document.
        document: PathBuf,
        /// From this time on, in milliseconds since the Unix epoch.
        #[arg(long)]
        from: Option<u64>,
        /// Up to this time.
        #[arg(long)]
        to: Option<u64>,
    },
    /// Prints what a policy says of a Solana lookup table, from your own nodes; no gateway and no credential are asked for.
    Table(table::TableArgs),
}

#[derive(Debug, Args)]
struct Word {
    /// The version.
    version: u64,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    /// For so many days the word holds: a signer that is away longer won't count it.
    #[arg(long, default_value_t = 30)]
    days: u32,
}

/// `policy_versions`, as far as it is shown.
#[derive(Deserialize)]
struct Versions {
    versions: Vec<VersionView>,
    signers: Vec<Value>,
}

/// Does what was typed.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(args: PolicyArgs) -> Result<(), Failure> {
    let args = match args {
        PolicyArgs { command: PolicyCommand::Table(args), .. } => return table::run(args).await,
        args => args,
    };
    let person = args.person.open()?;
    let client = &person.client;
    let (word, decision) = match args.command {
        PolicyCommand::Versions => return list(client.call("policy_versions", json!({})).await?),
        PolicyCommand::Propose { document, note } => {
            let document = read(&document)?;
            Document::new(document.as_bytes()).read()?; // what is no policy needn't be sent
            let view = client.call("policy_propose", json!({ "document": document, "note": note })).await?;
            return proposed(&view);
        }
        PolicyCommand::Rollback { version, note } => {
            let view = client.call("policy_rollback", json!({ "version": version, "note": note })).await?;
            return proposed(&view);
        }
        PolicyCommand::Show { version } => return show(&get(client, version).await?),
        PolicyCommand::Activate { version } => {
            let view: DocumentView = client.call("policy_activate", json!({ "version": version })).await?;
            println!("version {} is in force", view.version.version);
            return Ok(());
        }
        PolicyCommand::Diff { document } => {
            return answer(client, "policy_diff", json!({ "document": read(&document)? })).await;
        }
        PolicyCommand::Prove { question, version } => {
            let question: Value = serde_json::from_str(&question)?;
            return answer(client, "policy_prove", json!({ "question": question, "version": version })).await;
        }
        PolicyCommand::Replay { document, from, to } => {
            let params = json!({ "document": read(&document)?, "from": from, "to": to });
            return answer(client, "policy_replay", params).await;
        }
        PolicyCommand::Table(args) => return table::run(args).await,
        PolicyCommand::Approve(word) => (word, Decision::Approve),
        PolicyCommand::Reject(word) => (word, Decision::Reject),
    };
    let view = get(client, word.version).await?;
    show(&view)?;
    if !word.yes && !person::agrees(decision, "this policy")? {
        return Err("nothing was signed".into());
    }
    let expires = SystemClock.unix_seconds().saturating_add(u64::from(word.days).saturating_mul(86_400));
    let statement = statement(&view, decision, expires)?;
    let about = format!("{}: version {} of the policy", person::verb(decision), word.version);
    let approval = person.sign(PAYLOAD_TYPE, statement.to_payload(), &about).await?;
    let method = match decision {
        Decision::Approve => "policy_approve",
        Decision::Reject => "policy_reject",
    };
    let params = json!({ "version": word.version, "approval": approval });
    let after: DocumentView = client.call(method, params).await?;
    println!("\nsigned; version {} is {}", after.version.version, state(&after.version));
    if let Some(quorum) = after.version.change.and_then(|change| change.quorum) {
        println!("  {}: {} missing", quorum.quorum, quorum.missing);
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| format!("{} can't be read: {error}", path.display()).into())
}

/// Prints what the gateway answers.
async fn answer(client: &GatewayClient, method: &str, params: Value) -> Result<(), Failure> {
    let answer: Value = client.call(method, params).await?;
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}

async fn get(client: &GatewayClient, version: u64) -> Result<DocumentView, Failure> {
    let view: DocumentView = client.call("policy_get", json!({ "version": version })).await?;
    if view.version.version == Version::new(version) {
        Ok(view)
    } else {
        Err("the gateway answers with another one".into())
    }
}

/// What is signed, made of the documents that were shown.
fn statement(view: &DocumentView, decision: Decision, expires: u64) -> Result<ChangeStatement, Failure> {
    let replaces = view.replaces.as_ref().ok_or("the configured policy is nothing to approve")?;
    let previous = Document::new(replaces.as_bytes()).digest();
    let document = Document::new(view.document.as_bytes()).digest();
    Ok(ChangeStatement { decision, version: view.version.version, document, previous, expires })
}

fn list(Versions { versions, signers }: Versions) -> Result<(), Failure> {
    for view in versions {
        let note = view.change.as_ref().map(|change| format!("  {} {:?}", change.proposer, change.note));
        println!("{}  {}  {}{}", view.version, view.digest, state(&view), note.unwrap_or_default());
    }
    for signer in signers {
        println!("signer  {}", render::plain(&signer));
    }
    Ok(())
}

fn proposed(view: &DocumentView) -> Result<(), Failure> {
    show(view)?;
    let version = view.version.version;
    println!("\nproposed as version {version}; approvers: portcullis policy approve {version}");
    Ok(())
}

/// Shows what a version changes, read from its documents on this machine.
fn show(view: &DocumentView) -> Result<(), Failure> {
    let document = Document::new(view.document.as_bytes());
    println!("version    {} ({})\n  document {}", view.version.version, state(&view.version), document.digest());
    let (Some(change), Some(replaces)) = (&view.version.change, &view.replaces) else {
        println!("{}", render::whole(&document.read()?)?.join("\n"));
        return Ok(());
    };
    let before = Document::new(replaces.as_bytes());
    if document.digest() != view.version.digest || before.digest() != change.previous {
        return Err("what the gateway tells of the documents isn't what they are; don't sign".into());
    }
    let request = view.request.as_ref().ok_or("the gateway shows no proposal; don't sign")?;
    match Proposal::from_call(&parse_call(&request.body)?)? {
        Proposal::Document { document, .. } if document != view.document => {
            return Err("the proposer has proposed another document; don't sign".into());
        }
        Proposal::Document { note, .. } => println!("  proposed by {}: {note:?}", change.proposer),
        Proposal::Rollback { version, note } => {
            println!("  proposed by {}: back to version {version}: {note:?}", change.proposer);
        }
    }
    println!("  replaces {}", before.digest());
    println!("what it changes, from the two documents:");
    for line in render::difference(&before.read()?, &document.read()?)? {
        println!("  {line}");
    }
    if let Some(quorum) = &change.quorum {
        println!("by the gateway's word:\n  needs    {}: {} missing", quorum.quorum, quorum.missing);
    }
    println!("Every signer checks these digests, the quorum and the delay against its own policy and roster.");
    Ok(())
}

fn state(view: &VersionView) -> &'static str {
    match view.state {
        PolicyState::Active if view.in_force => "in force",
        PolicyState::Active => "over",
        PolicyState::Proposed => "proposed",
        PolicyState::Approved => "approved, waiting for its delay",
        PolicyState::Rejected => "rejected",
    }
}
