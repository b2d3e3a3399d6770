//! The person who types: the credential that calls the gateway, and what that person signs with.
//!
//! - [`passkey`]: signing by a passkey, in the person's browser.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use ed25519_dalek::SigningKey;
use signer::approval::{Approval, Decision};
use signer::roster::{Audience, CredentialId};

use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::credential;

pub(crate) mod passkey;

/// Where the gateway is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct PersonArgs {
    /// The gateway's endpoint.
    #[arg(long, env = "PORTCULLIS_URL", default_value = "http://127.0.0.1:8645", global = true)]
    url: String,
    /// The name of your credential.
    #[arg(long, env = "PORTCULLIS_CREDENTIAL", global = true)]
    credential: Option<CredentialId>,
    /// The file with its private key, PEM.
    #[arg(long, env = "PORTCULLIS_KEY", global = true)]
    key: Option<PathBuf>,
    /// The name of the gateway's deployment, where it has one.
    #[arg(long, env = "PORTCULLIS_AUDIENCE", global = true)]
    audience: Option<Audience>,
    /// Sign statements with a passkey in your browser, on a page at this port: the one that the passkey was made at.
    #[arg(
        long,
        env = "PORTCULLIS_PASSKEY",
        global = true,
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = passkey::PORT
    )]
    passkey: Option<u16>,
}

/// Who asks, ready to.
pub(crate) struct Person {
    /// The credential's name.
    pub(crate) id: CredentialId,
    /// Calls the gateway as that credential.
    pub(crate) client: GatewayClient,
    pen: Pen,
}

/// What statements are signed with.
enum Pen {
    Key(SigningKey),
    Passkey { port: u16 },
}

impl PersonArgs {
    /// Reads the credential's key.
    ///
    /// # Errors
    /// Where it isn't named, or can't be read.
    pub(crate) fn open(self) -> Result<Person, Failure> {
        let id = self.credential.ok_or("name your credential: --credential")?;
        let file = self.key.ok_or("name the file of your private key: --key")?;
        let client = GatewayClient::new(&self.url, id.clone(), &file)?.for_audience(self.audience);
        let pen = match self.passkey {
            Some(port) => Pen::Passkey { port },
            None => Pen::Key(credential::read_private_key(&file)?),
        };
        Ok(Person { id, client, pen })
    }
}

impl Person {
    /// Signs the bytes of a statement. `about` says in a line what is signed, for the page of a passkey.
    ///
    /// # Errors
    /// Where the passkey isn't used.
    pub(crate) async fn sign(&self, payload_type: &str, payload: Vec<u8>, about: &str) -> Result<Approval, Failure> {
        match &self.pen {
            Pen::Key(key) => Ok(Approval::sign_payload(self.id.clone(), payload_type, payload, key)),
            Pen::Passkey { port } => {
                let challenge = signer::approval::challenge(payload_type, &payload);
                let assertion = passkey::sign(*port, challenge, about).await?;
                Ok(Approval::by_passkey(self.id.clone(), payload, assertion))
            }
        }
    }
}

/// Asks the person whether to approve, or reject, what was shown: they type `y` or nothing happens.
///
/// # Errors
/// Where nobody can be asked.
pub(crate) fn agrees(decision: Decision, what: &str) -> Result<bool, Failure> {
    print!("\n{} {what}? [y/N] ", verb(decision));
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// What the person does by this decision.
pub(crate) fn verb(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::Reject => "reject",
    }
}
