//! A policy's document: the exact bytes that people write, show each other and approve, and their digest.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chains::account::WalletId;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Policy, PolicyConfig, PolicyError};

/// A policy's name for good: the SHA-256 of its document; 64 hexadecimal digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PolicyDigest([u8; 32]);

/// A policy as it was written: the TOML of a [`PolicyConfig`], or its JSON where the first character is a brace. The document of a
/// policy that came with a configuration file is the JSON of its section, which is the same wherever the section says the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    bytes: Arc<[u8]>,
    digest: PolicyDigest,
}

/// Why a document is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Not text.
    #[error("the document is not UTF-8")]
    Text,
    /// Neither the TOML nor the JSON of a policy.
    #[error("the document is no policy: {0}")]
    Syntax(String),
    /// It says what can't be meant.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl Document {
    /// The document of these bytes, whatever they say.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let digest = PolicyDigest(Sha256::digest(&bytes).into());
        Self { bytes, digest }
    }

    /// The document of a section of a configuration.
    pub fn of(config: &PolicyConfig) -> Self {
        Self::new(serde_json::to_vec(config).expect("a policy is text, numbers and lists of them"))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their SHA-256.
    pub const fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// What it says.
    ///
    /// # Errors
    /// Where it isn't the TOML or JSON of a policy and of nothing else.
    pub fn read(&self) -> Result<PolicyConfig, DocumentError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| DocumentError::Text)?;
        if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| DocumentError::Syntax(error.to_string()))
        } else {
            toml::from_str(text).map_err(|error| DocumentError::Syntax(error.to_string()))
        }
    }

    /// The policy that it says, for these wallets.
    ///
    /// # Errors
    /// Where it is no policy, or one that can't mean anything for them.
    pub fn compile(&self, wallets: &BTreeMap<WalletId, Network>) -> Result<Policy, DocumentError> {
        let mut policy = self.read()?.compile(wallets)?;
        policy.document = self.clone();
        Ok(policy)
    }
}

impl Default for Document {
    /// The document of a policy that allows nothing.
    fn default() -> Self {
        Self::of(&PolicyConfig::default())
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({}, {} bytes)", self.digest, self.bytes.len())
    }
}

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyDigest({self})")
    }
}

impl From<PolicyDigest> for String {
    fn from(digest: PolicyDigest) -> Self {
        digest.to_string()
    }
}

impl FromStr for PolicyDigest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for PolicyDigest {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOML: &str = r#"
        denied_addresses = ["0x8617E340B3D01FA5F11F306F4090FD50E238070D"]
        [changes]
        require = "2 of policy and 1 of ciso"
        delay_seconds = 86400
        [[rules]]
        id = "one"
        wallets = ["w"]
        addresses = ["0x52908400098527886E0F7030069857D2E4169EE7"]
        max_amount = "5"
    "#;

    fn wallets() -> BTreeMap<WalletId, Network> {
        BTreeMap::from([("w".parse().unwrap(), "ethereum:1".parse().unwrap())])
    }

    #[test]
    fn toml_and_json_say_the_same_under_different_digests() {
        let toml = Document::new(TOML.as_bytes());
        let config = toml.read().unwrap();
        assert_eq!(config.changes.as_ref().map(|changes| changes.delay_seconds), Some(86_400));
        let json = Document::of(&config);
        assert_eq!(json.read().unwrap(), config);
        assert_ne!(json.digest(), toml.digest());
        let (from_toml, from_json) = (toml.compile(&wallets()).unwrap(), json.compile(&wallets()).unwrap());
        assert_eq!(serde_json::to_value(&from_toml).unwrap(), serde_json::to_value(&from_json).unwrap());
        assert_eq!((from_toml.digest(), from_json.digest()), (toml.digest(), json.digest()));
        assert_eq!(config.compile(&wallets()).unwrap().digest(), json.digest());
    }

    #[test]
    fn a_digest_is_the_sha256_of_the_bytes() {
        // The digest of the empty string: FIPS 180-4, as NIST's example values give it.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Document::new(Vec::new()).digest().to_string(), empty);
        assert_eq!(empty.parse::<PolicyDigest>().unwrap(), Document::new(Vec::new()).digest());
        assert!("e3b0".parse::<PolicyDigest>().is_err());
    }

    #[test]
    fn the_document_of_a_configuration_stays_the_same() {
        // Signers find their chain of versions by this digest: were it another after an upgrade, none of them would start.
        let text = std::str::from_utf8(Document::default().bytes()).unwrap().to_owned();
        assert_eq!(text, r#"{"denied_addresses":[],"rules":[]}"#);
        let rule = json!({ "id": "one", "wallets": ["w"], "addresses": [], "contracts": [], "max_amount": "5" });
        let config: PolicyConfig = serde_json::from_value(json!({ "rules": [rule] })).unwrap();
        let expected = r#"{"denied_addresses":[],"rules":[{"id":"one","effect":"allow","wallets":["w"],"addresses":[],"contracts":[],"max_amount":"5"}]}"#;
        assert_eq!(std::str::from_utf8(Document::of(&config).bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let read = |text: &str| Document::new(text.as_bytes()).read();
        for text in ["surprise = 1", "rules = 5", "{\"rules\": 5}", "{\"surprise\": 1}", "{\"rules\": []} x", "{", "[["]
        {
            assert!(matches!(read(text), Err(DocumentError::Syntax(_))), "{text}");
        }
        assert!(matches!(read("{\"rules\": [], \"rules\": []}"), Err(DocumentError::Syntax(_))), "said twice");
        assert_eq!(Document::new(vec![0xff, 0xfe]).read(), Err(DocumentError::Text));
        let unknown = Document::new(TOML.replace("[\"w\"]", "[\"v\"]").into_bytes());
        assert!(matches!(unknown.compile(&wallets()), Err(DocumentError::Policy(PolicyError::UnknownWallet { .. }))));
    }
}
