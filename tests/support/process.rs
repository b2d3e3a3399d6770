//! Real processes for the tests: the `portcullis` binary and the nodes beside it, killed when the test ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long anything may take to come up: key generation in an unoptimised build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A process that is killed with its owner, and the lines that it has printed.
pub(crate) struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Starts it with its standard output read line by line.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let output = child.stdout.take().expect("its output is piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line with `part` in it.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(part)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {part:?}; it printed:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The process id.
    #[allow(dead_code, reason = "not every test file sends signals")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does.
    #[allow(dead_code, reason = "not every test file kills")]
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test.
pub(crate) fn portcullis() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
}

/// The shipped configuration with every port left to the system and blocks that come quickly, written into `dir`.
#[allow(dead_code, reason = "not every test file runs on simulated chains")]
pub(crate) fn quick_config(dir: &Path) -> PathBuf {
    let text = include_str!("../../config/portcullis.toml");
    let text = ["8645", "18443", "18545", "18899"]
        .iter()
        .fold(text.to_owned(), |text, port| text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0"));
    let text = text
        .replace("block_interval_ms = 1000", "block_interval_ms = 200")
        .replace("block_interval_ms = 400", "block_interval_ms = 100")
        .replace("poll_interval_ms = 200", "poll_interval_ms = 50");
    let path = dir.join("portcullis.toml");
    std::fs::write(&path, text).expect("the test's folder is writable");
    path
}

/// The URL at the end of a printed line.
pub(crate) fn url_in(line: &str) -> String {
    let start = line.find("http://").unwrap_or_else(|| panic!("no URL in {line:?}"));
    line[start..].split_whitespace().next().expect("a URL").to_owned()
}
