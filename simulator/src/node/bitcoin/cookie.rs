//! bitcoind's cookie: a password made at start, in a file that only the node's owner reads.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::secp256k1::rand::RngCore;
use bitcoin::secp256k1::rand::rngs::OsRng;

/// The cookie's user name.
const USER: &str = "__cookie__";
/// The cookie's file name.
const FILE: &str = ".cookie";

/// The credentials of one run of a node.
#[derive(Debug)]
pub(super) struct Cookie {
    path: PathBuf,
    header: String,
}

impl Cookie {
    /// Makes a cookie and writes it to `dir`.
    pub(super) fn write(dir: &Path) -> io::Result<Self> {
        let mut password = [0_u8; 32];
        // A secret is no part of what a run repeats.
        OsRng.fill_bytes(&mut password);
        let credentials = format!("{USER}:{}", hex::encode(password));

        let path = dir.join(FILE);
        let unfinished = dir.join(format!("{FILE}.tmp"));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&unfinished)?.write_all(credentials.as_bytes())?;
        std::fs::rename(&unfinished, &path)?;
        Ok(Self { path, header: format!("Basic {}", STANDARD.encode(credentials)) })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an `Authorization` header carries the cookie.
    pub(super) fn allows(&self, authorization: Option<&str>) -> bool {
        authorization.is_some_and(|header| header.trim() == self.header)
    }

    /// Removes the file, as bitcoind does when it stops.
    pub(super) fn remove(&self) {
        // A file that is gone already is what was wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}
