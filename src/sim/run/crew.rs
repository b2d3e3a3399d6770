//! Signers in processes of their own: their folders, their files, and whom each of them pins.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::clock::{Clock, SystemClock};
use signer::station::link_key;
use signer::transport::grpc::LinkIdentity;

use crate::cli::Failure;
use crate::{credential, signer as signer_command};

/// How long their certificates hold.
const TERM: Duration = Duration::from_secs(86_400);

/// Prepares signers and the gateway's end of their links. Answers the gateway's part of its configuration.
///
/// # Errors
/// Where something can't be written.
pub(super) async fn furnish(dir: &Path, count: u16, threshold: u16, port: u16, rules: &str) -> Result<String, Failure> {
    let names: Vec<String> = (1..=count).map(|number| format!("signer-{number}")).collect();
    let now = SystemClock.unix_seconds();
    let gateway = LinkIdentity::renew(&dir.join("data/signers/link"), "gateway", now, TERM)?;
    let file = |name: &str, peers: &str| {
        format!(
            "name = \"{name}\"\ndata_dir = {:?}\nthreshold = {threshold}\n[coordinator]\naddress = \"127.0.0.1:{port}\"\n\
             public_key = \"{}\"\n[peers]\n{peers}{rules}",
            dir.join(name),
            gateway.pin()
        )
    };
    let (mut peers, mut apart) = (String::new(), String::new());
    for name in &names {
        let folder = dir.join(name);
        credential::write_secret(&folder.join("passphrase"), format!("of {name}").as_bytes())?;
        let path = path(dir, name);
        fs::write(&path, file(name, ""))?;
        // Opening a seal takes a while on purpose.
        let link =
            tokio::task::spawn_blocking(move || Ok::<_, Failure>(link_key(signer_command::folder(&path)?)?)).await??;
        let identity = LinkIdentity::renew(&folder.join("link"), name, now, TERM)?;
        writeln!(peers, "{name} = \"{link}\"")?;
        writeln!(apart, "[[signers.apart]]\nname = \"{name}\"\npublic_key = \"{}\"", identity.pin())?;
    }
    for name in &names {
        fs::write(path(dir, name), file(name, &peers))?;
    }
    Ok(format!("[signers]\nthreshold = {threshold}\nlisten = \"127.0.0.1:{port}\"\n{apart}"))
}

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.toml"))
}
