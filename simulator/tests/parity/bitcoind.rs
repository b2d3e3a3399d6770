//! A real `bitcoind` on regtest, alone in its network.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use crate::subject::{Process, Subject};

/// The process and its folder.
pub(crate) struct Bitcoind {
    _process: Process,
    dir: tempfile::TempDir,
    url: String,
}

impl Bitcoind {
    /// Starts one with the policy of the simulated node, as far as its options go, and with the fields that Bitcoin Core 28 had.
    pub(crate) fn start() -> Self {
        let programs =
            std::env::var("PORTCULLIS_BITCOIND").expect("`just parity` names bitcoind's folder in PORTCULLIS_BITCOIND");
        let dir = tempfile::tempdir().unwrap();
        // bitcoind takes no port 0: a port that was free a moment ago.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new(PathBuf::from(programs).join("bitcoind"));
        command
            .arg(format!("-datadir={}", dir.path().display()))
            .arg(format!("-rpcport={port}"))
            .args(["-regtest", "-listen=0", "-connect=0", "-dnsseed=0", "-txindex=1", "-dbcache=16", "-par=1"])
            .args([
                "-minrelaytxfee=0.00001",
                "-incrementalrelayfee=0.00001",
                "-datacarriersize=83",
                "-limitclustercount=25",
            ])
            .args(["-deprecatedrpc=bip125", "-deprecatedrpc=fullrbf"]);
        let (process, _) = Process::start(&mut command, "Done loading");
        Self { _process: process, dir, url: format!("http://127.0.0.1:{port}") }
    }

    /// The RPC's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The file with the credentials.
    pub(crate) fn cookie(&self) -> PathBuf {
        self.dir.path().join("regtest/.cookie")
    }

    /// The node as a suite asks it.
    pub(crate) fn subject(&self) -> Subject {
        Subject::new(&self.url).with_credentials(&std::fs::read_to_string(self.cookie()).unwrap())
    }
}
