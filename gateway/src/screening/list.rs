//! Lists of addresses that nothing may touch: OFAC's file, or plain text with one address a line.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use chains::address::{Address, UncheckedAddress};
use chains::holder::Holder;
use chains::network::Family;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::index::{Index, TooMany};
use super::ofac::{self, SdnError};

/// The longest line of a text list that is read, in bytes.
const MAX_LINE: u64 = 1024;
/// How many unreadable entries are kept for the report.
const MAX_EXAMPLES: usize = 20;
/// OFAC's tickers of the chains that the gateway moves money on: an unreadable address under one of them is an alarm.
const OWN_TICKERS: [&str; 7] = ["XBT", "ETH", "USDT", "USDC", "ARB", "BSC", "SOL"];

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListConfig {
    /// Its name, which verdicts give.
    pub id: String,
    /// What the file is.
    pub format: Format,
    /// The file.
    pub path: PathBuf,
    /// A file that was last written longer ago blocks every payment, in hours; without it, age doesn't matter.
    #[serde(default)]
    pub max_age_hours: Option<u64>,
}

/// What a list's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// OFAC's `sdn_advanced.xml`.
    OfacXml,
    /// One address a line; empty lines and what follows a `#` are skipped.
    Text,
}

/// A list that was read.
#[derive(Clone, Debug)]
pub struct List {
    /// Its name.
    pub id: String,
    /// The SHA-256 of the file.
    pub digest: [u8; 32],
    /// When the file was last written, in milliseconds since the Unix epoch.
    pub written_at: u64,
    /// How long the file is, in bytes.
    pub length: u64,
    /// What the file says of its own date.
    pub issued: Option<String>,
    /// How many entries it has.
    pub entries: u64,
    /// Entries that read as an address on none of the gateway's chains.
    pub unreadable: Unreadable,
    /// The holders behind the addresses.
    pub index: Index,
}

/// Entries that no payment of this gateway can touch, or that look as if one could and can't be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// How many are of other chains.
    pub other_chains: u64,
    /// How many should be addresses of one of the gateway's chains: the list, or this program, needs a look.
    pub alarming: u64,
    /// The first of the alarming ones.
    pub examples: Vec<String>,
    /// Tickers that this program doesn't know.
    pub unknown_tickers: Vec<String>,
}

/// Why a list can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not OFAC's file, or not all of it.
    #[error("{}: {source}", path.display())]
    Ofac {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SdnError,
    },
    /// A text list with a line that can't be one address.
    #[error("{}: line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A list without an entry: it would let everything pass.
    #[error("{}: the list is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More entries than the index counts.
    #[error("{}: {source}", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many it counts.
        source: TooMany,
    },
}

impl List {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it can't be read whole, isn't what `config` says, or is empty.
    pub fn load(config: &ListConfig) -> Result<Self, ListError> {
        let path = &config.path;
        let io = |source| ListError::Io { path: path.clone(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let (written_at, length) = (millis(&metadata).map_err(io)?, metadata.len());
        let mut input = BufReader::with_capacity(1 << 16, Hashing { file, hash: Sha256::new() });
        let mut gathered = Gathered::default();
        let issued = match config.format {
            Format::OfacXml => {
                let sdn = ofac::parse(&mut input).map_err(|source| ListError::Ofac { path: path.clone(), source })?;
                for filed in &sdn.addresses {
                    gathered.add(&filed.address, OWN_TICKERS.contains(&filed.ticker.as_str()));
                }
                gathered.unreadable.unknown_tickers = sdn.unknown_tickers.into_iter().collect();
                sdn.issued
            }
            Format::Text => {
                read_lines(&mut input, path, &mut gathered)?;
                None
            }
        };
        // The digest is of the whole file, whatever the parser left.
        io::copy(&mut input, &mut io::sink()).map_err(io)?;
        let digest = input.into_inner().hash.finalize().into();
        let Gathered { names, entries, unreadable } = gathered;
        if entries == 0 {
            return Err(ListError::Empty { path: path.clone() });
        }
        let index = Index::new(names).map_err(|source| ListError::TooMany { path: path.clone(), source })?;
        Ok(Self { id: config.id.clone(), digest, written_at, length, issued, entries, unreadable, index })
    }

    /// Whether the file is as it was when it was read, by its length and time.
    ///
    /// # Errors
    /// Where the file can't be looked at.
    pub fn is_current(&self, config: &ListConfig) -> io::Result<bool> {
        let file = std::fs::metadata(&config.path)?;
        Ok((millis(&file)?, file.len()) == (self.written_at, self.length))
    }

    /// Whether the holder of the address is listed.
    pub fn contains(&self, address: &Address) -> bool {
        self.index.contains(address)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfacXml => "ofac_xml",
            Self::Text => "text",
        })
    }
}

#[derive(Default)]
struct Gathered {
    names: Vec<u128>,
    entries: u64,
    unreadable: Unreadable,
}

impl Gathered {
    /// Takes an entry on whatever chains it reads as an address of. `own` says that it should be one of the gateway's.
    fn add(&mut self, entry: &str, own: bool) {
        self.entries = self.entries.saturating_add(1);
        let readings = readings(entry);
        if readings.is_empty() {
            // A look-alike of one of the gateway's own is alarming wherever it is filed.
            if own && !is_tron(entry) {
                self.unreadable.alarming = self.unreadable.alarming.saturating_add(1);
                if self.unreadable.examples.len() < MAX_EXAMPLES {
                    self.unreadable.examples.push(entry.chars().take(100).collect());
                }
            } else {
                self.unreadable.other_chains = self.unreadable.other_chains.saturating_add(1);
            }
            return;
        }
        self.names.extend(readings.iter().flat_map(Holder::names).map(|name| name.fingerprint()));
    }
}

/// Every address that the entry is. A list's spelling is taken more kindly than a payment's: its mixed case need not be
/// EIP-55's.
fn readings(entry: &str) -> Vec<Address> {
    let hex = entry.strip_prefix("0x").or_else(|| entry.strip_prefix("0X"));
    let entry = match hex {
        Some(digits) => format!("0x{}", digits.to_ascii_lowercase()),
        None => entry.to_owned(),
    };
    let entry = UncheckedAddress::new(entry);
    [Family::Bitcoin, Family::Ethereum, Family::Solana]
        .into_iter()
        .filter_map(|family| Holder::read(&entry, family))
        .collect()
}

/// Tron's addresses are filed under other tickers, too: 21 bytes that begin with 0x41, in base58check, so `T…`.
fn is_tron(entry: &str) -> bool {
    bitcoin::base58::decode_check(entry).is_ok_and(|bytes| bytes.len() == 21 && bytes.first() == Some(&0x41))
}

fn read_lines(input: &mut impl BufRead, path: &Path, gathered: &mut Gathered) -> Result<(), ListError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let broken = |reason| ListError::Line { path: path.to_owned(), line: number, reason };
        let read = input.take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|source| ListError::Io { path: path.to_owned(), source })?;
        if read == 0 {
            break;
        }
        if !line.ends_with(b"\n") && u64::try_from(read) == Ok(MAX_LINE) {
            return Err(broken("it is longer than an address"));
        }
        let text = std::str::from_utf8(&line).map_err(|_| broken("it is no UTF-8"))?;
        let entry = text.split('#').next().unwrap_or_default().trim();
        if entry.contains(char::is_whitespace) {
            return Err(broken("write one address a line"));
        }
        if !entry.is_empty() {
            gathered.add(entry, true);
        }
    }
    Ok(())
}

/// When a file was last written, in milliseconds since the Unix epoch.
fn millis(file: &Metadata) -> io::Result<u64> {
    let since = file.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Hashes what is read through it.
struct Hashing {
    file: File,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_list(content: &str) -> Result<List, ListError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        std::fs::write(&path, content).unwrap();
        List::load(&ListConfig { id: "house".to_owned(), format: Format::Text, path, max_age_hours: None })
    }

    fn address(text: &str, family: Family) -> Address {
        Holder::read(&UncheckedAddress::new(text), family).unwrap()
    }

    #[test]
    fn finds_every_spelling_of_what_is_listed() {
        let list = text_list(
            "# ours\n0x098B716B8AAF21512996DC57EB0615E2383E2F96 # shouted\n\n\
             BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4\n7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q\n",
        )
        .unwrap();
        assert_eq!((list.entries, list.unreadable.alarming), (3, 0));
        for (text, family) in [
            ("0x098B716B8Aaf21512996dC57EB0615e2383E2f96", Family::Ethereum),
            ("0x098b716b8aaf21512996dc57eb0615e2383e2f96", Family::Ethereum),
            ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", Family::Bitcoin),
            ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", Family::Bitcoin),
            ("3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLN", Family::Bitcoin),
            ("7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q", Family::Solana),
        ] {
            assert!(list.contains(&address(text, family)), "{text}");
        }
        assert!(!list.contains(&address("0x52908400098527886E0F7030069857D2E4169EE7", Family::Ethereum)));
    }

    #[test]
    fn what_should_be_readable_and_is_not_alarms() {
        // A bech32 string whose last character is wrong, Bitcoin's in bech32m's place, and an address of Tron.
        let list = text_list(
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5\n0x1234\nTNHrhtVnRMRaTJFRsqLUqSytCKsavXJJab\n\
             0x52908400098527886E0F7030069857D2E4169EE7\n",
        )
        .unwrap();
        assert!(list.unreadable.alarming >= 2, "{:?}", list.unreadable);
        assert_eq!(
            list.unreadable.examples.first().map(String::as_str),
            Some("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5")
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert!(matches!(text_list(""), Err(ListError::Empty { .. })));
        assert!(matches!(text_list("# nothing\n"), Err(ListError::Empty { .. })));
        assert!(matches!(text_list("<html> 502 Bad Gateway </html>\n"), Err(ListError::Line { line: 1, .. })));
        let endless = "a".repeat(5000);
        assert!(matches!(text_list(&endless), Err(ListError::Line { .. })));
    }

    #[test]
    fn the_digest_is_of_the_file() {
        let content = "0x52908400098527886E0F7030069857D2E4169EE7\n";
        assert_eq!(text_list(content).unwrap().digest, <[u8; 32]>::from(Sha256::digest(content)));
    }

    #[test]
    fn reads_the_list_of_ofac() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ofac/sdn_advanced_excerpt.xml");
        let config = ListConfig { id: "ofac".to_owned(), format: Format::OfacXml, path, max_age_hours: None };
        let list = List::load(&config).unwrap();
        assert_eq!(list.entries, 6);
        assert_eq!(list.unreadable.unknown_tickers, ["NEWCOIN"]);
        assert!(list.contains(&address("0xd90e2f925DA726b50C4Ed8D0Fb90Ad053324F31b", Family::Ethereum)));
        assert!(list.contains(&address("1FzWLkAahHooV3kzTgyx6qsswXJ6sCXkSR", Family::Bitcoin)));
    }
}
