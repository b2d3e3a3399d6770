//! The gateway as a process of its own: the very binary that runs the harness, killed as `kill -9` does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use gateway::clock::{Clock, SystemClock};

use crate::cli::Failure;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(120);
/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A gateway that runs, or is about to.
#[derive(Debug)]
pub(in crate::sim) struct Child {
    process: process::Child,
    log: PathBuf,
    started: Instant,
    /// When it was started, in milliseconds since the Unix epoch.
    pub(in crate::sim) started_at: u64,
}

/// What a gateway has told by the time that it serves.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Ready {
    /// Where it listens.
    pub(in crate::sim) url: String,
    /// Its first wallet's address.
    pub(in crate::sim) address: String,
    /// How long it took.
    pub(in crate::sim) after: Duration,
}

impl Child {
    /// Starts `serve` on this configuration, with what it prints in `log`.
    ///
    /// # Errors
    /// Where the process can't be started.
    pub(in crate::sim) fn start(config: &Path, log: &Path, environment: &[(String, String)]) -> Result<Self, Failure> {
        Self::run(Command::new(std::env::current_exe()?), config, log, environment)
    }

    /// The same by a command that runs the binary.
    ///
    /// # Errors
    /// Where the process can't be started.
    pub(in crate::sim) fn run(
        mut command: Command,
        config: &Path,
        log: &Path,
        environment: &[(String, String)],
    ) -> Result<Self, Failure> {
        command.arg("serve").arg("--config").arg(config);
        Self::spawn(command, log, environment)
    }

    /// The same by a command that is whole.
    ///
    /// # Errors
    /// Where the process can't be started.
    pub(in crate::sim) fn spawn(
        mut command: Command,
        log: &Path,
        environment: &[(String, String)],
    ) -> Result<Self, Failure> {
        let output = File::create(log)?;
        command.env("PORTCULLIS_LOG", "info");
        for name in ["PORTCULLIS_FAIL_AT", "PORTCULLIS_FAIL_FILE", "PORTCULLIS_MUTATION", "PORTCULLIS_LIARS"] {
            command.env_remove(name);
        }
        command.env_remove("PORTCULLIS_CONFIG").env_remove("PORTCULLIS_DATA").envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let (started, started_at) = (Instant::now(), SystemClock.unix_millis());
        Ok(Self { process: command.spawn()?, log: log.to_owned(), started, started_at })
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// Where it ends instead, or takes too long.
    pub(in crate::sim) async fn ready(&mut self) -> Result<Ready, Failure> {
        loop {
            let text = self.said();
            let line = |word: &str| text.lines().find_map(|line| line.strip_prefix(word));
            // The line is whole once the next one has begun, or its end is there.
            if let Some(url) = line("gateway ").filter(|_| text.ends_with('\n')) {
                let wallet = line("wallet ").and_then(|line| line.split_whitespace().nth(1));
                let address = wallet.ok_or("the gateway has no wallet")?.to_owned();
                return Ok(Ready { url: url.trim().to_owned(), address, after: self.started.elapsed() });
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("the gateway ended ({status}) instead of serving:\n{}", self.tail()).into());
            }
            if self.started.elapsed() > START {
                return Err(format!("the gateway doesn't serve after {} s:\n{}", START.as_secs(), self.tail()).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a signal, by the system's own `kill`.
    ///
    /// # Errors
    /// Where it isn't delivered.
    pub(in crate::sim) fn signal(&self, name: &str) -> Result<(), Failure> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(format!("SIG{name} can't be sent").into()) }
    }

    /// Kills it with SIGKILL, and answers the panics that it had until then.
    pub(in crate::sim) fn kill(mut self) -> Vec<String> {
        self.end();
        let panics = self.said();
        panics.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }

    /// Whether it has ended by itself.
    pub(in crate::sim) fn has_ended(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_some())
    }

    fn end(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }

    fn said(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn tail(&self) -> String {
        let text = self.said();
        let lines: Vec<_> = text.lines().collect();
        lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
