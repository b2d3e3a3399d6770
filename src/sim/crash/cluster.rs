//! A PostgreSQL of its own: made, started, killed like any other process, and gone with its folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::cli::Failure;
use crate::sim::free_port;

/// How often a start is tried.
const STARTS: u32 = 20;

/// The programs that it takes, all from one folder.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "createdb"];

/// A server with its data in one folder.
#[derive(Debug)]
pub(super) struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
}

impl Cluster {
    /// Makes a cluster in `dir` and starts its server; none where PostgreSQL isn't installed.
    ///
    /// # Errors
    /// Where it is there and doesn't start.
    pub(super) fn start(dir: &Path) -> Result<Option<Self>, Failure> {
        let Some(bin) = find() else { return Ok(None) };
        fs::create_dir_all(dir)?;
        let port = free_port()?;
        let cluster = Self { bin, dir: dir.to_owned(), port };
        if is_root() {
            // The server refuses to run as root.
            checked("chown", Command::new("chown").arg("postgres:").arg(dir).output()?)?;
        }
        let data = cluster.data();
        let made = cluster
            .run("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"])?;
        checked("initdb", made)?;
        cluster.up()?;
        Ok(Some(cluster))
    }

    /// Starts the server and waits until it takes connections.
    ///
    /// # Errors
    /// Where it doesn't start.
    pub(super) fn up(&self) -> Result<(), Failure> {
        let log = self.dir.join("log").display().to_string();
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200",
            self.port
        );
        let mut tries = 1;
        loop {
            let started = self.run("pg_ctl", &["-D", &self.data(), "-w", "-l", &log, "-o", &options, "start"])?;
            match checked("pg_ctl start", started) {
                // What was killed may not be gone yet, and still have the shared memory.
                Err(_) if tries < STARTS => std::thread::sleep(Duration::from_millis(300)),
                done => return done,
            }
            tries = tries.saturating_add(1);
        }
    }

    /// Kills the server and every process of it with SIGKILL.
    ///
    /// # Errors
    /// Where it doesn't run.
    pub(super) fn kill(&self) -> Result<(), Failure> {
        let file = fs::read_to_string(Path::new(&self.data()).join("postmaster.pid"))?;
        let pid = file.lines().next().ok_or("no process id in postmaster.pid")?.trim().to_owned();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output()?;
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let all = std::iter::once(pid.as_str()).chain(children.split_whitespace());
        // The parent first: it would start others in the place of its children.
        for process in all {
            let _ = Command::new("kill").args(["-9", process]).output(); // one may have ended with its parent
        }
        Ok(())
    }

    /// Makes a database, and answers its URL.
    ///
    /// # Errors
    /// Where the server refuses.
    pub(super) fn database(&self, name: &str) -> Result<String, Failure> {
        let port = self.port.to_string();
        checked("createdb", self.run("createdb", &["-h", "127.0.0.1", "-p", &port, "-U", "postgres", name])?)?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }

    fn data(&self) -> String {
        self.dir.join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Output, Failure> {
        let program = self.bin.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        Ok(command.args(arguments).current_dir("/").stdin(std::process::Stdio::null()).output()?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

/// The folder with the server's programs, which Debian keeps off the path.
fn find() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let debian =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    on_path
        .unwrap_or_default()
        .into_iter()
        .chain(debian)
        .find(|bin| PROGRAMS.iter().all(|program| bin.join(program).exists()))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn checked(what: &str, output: Output) -> Result<(), Failure> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
