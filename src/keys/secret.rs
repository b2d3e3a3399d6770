//! Secret keys in files, as other programs write them.

use std::path::Path;

use bitcoin::PrivateKey;
use ed25519_dalek::SigningKey;
use signer::pool::{ImportedKey, SchemeId};
use zeroize::Zeroizing;

/// Why a file holds no key that can be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SecretError {
    /// The file can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// Which.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is in none of the forms.
    #[error("this is no secret key: 64 hexadecimal digits, 32 raw bytes, a WIF or a Solana keypair in JSON are")]
    Malformed,
    /// It is a key of another curve.
    #[error("a {form} is no key for the scheme {scheme}")]
    WrongForm {
        /// What it is.
        form: &'static str,
        /// What was asked for.
        scheme: SchemeId,
    },
    /// The two halves of a keypair don't belong together.
    #[error("the public half of the keypair is not that of the secret half; the file is damaged")]
    Halves,
    /// A chain code that is none, or has no place.
    #[error("a chain code is 64 hexadecimal digits, and only ECDSA keys have one")]
    ChainCode,
}

/// Reads a key for `scheme`. Nothing of it stays in memory but what is returned, which wipes itself.
///
/// # Errors
/// Where there is none.
pub(crate) fn read(path: &Path, scheme: SchemeId, chain_code: Option<&str>) -> Result<ImportedKey, SecretError> {
    let bytes = std::fs::read(path).map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
    parse(&Zeroizing::new(bytes), scheme, chain_code)
}

fn parse(bytes: &[u8], scheme: SchemeId, chain_code: Option<&str>) -> Result<ImportedKey, SecretError> {
    let chain_code =
        chain_code.map(|text| decode_hex(text).map(|code| *code).ok_or(SecretError::ChainCode)).transpose()?;
    if chain_code.is_some() && scheme != SchemeId::Ecdsa {
        return Err(SecretError::ChainCode);
    }
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    let secret = if let Some(secret) = text.and_then(decode_hex) {
        secret
    } else if let Some(json) = text.filter(|text| text.starts_with('[')) {
        return keypair(json, scheme);
    } else if let Some(key) = text.and_then(|text| PrivateKey::from_wif(text).ok()) {
        if scheme == SchemeId::Ed25519 {
            return Err(SecretError::WrongForm { form: "WIF", scheme });
        }
        Zeroizing::new(key.inner.secret_bytes())
    } else {
        // Sixteen bytes of hexadecimal are text of the right length, and no key.
        let hexadecimal = bytes.iter().all(u8::is_ascii_hexdigit);
        let raw = <[u8; 32]>::try_from(bytes).ok().filter(|_| !hexadecimal);
        Zeroizing::new(raw.ok_or(SecretError::Malformed)?)
    };
    Ok(match scheme {
        SchemeId::Ed25519 => ImportedKey::Ed25519Seed(secret),
        SchemeId::Ecdsa | SchemeId::Taproot => ImportedKey::Secp256k1 { secret, chain_code },
    })
}

/// What `solana-keygen` writes: 64 numbers, the seed and the public key.
fn keypair(json: &str, scheme: SchemeId) -> Result<ImportedKey, SecretError> {
    if scheme != SchemeId::Ed25519 {
        return Err(SecretError::WrongForm { form: "Solana keypair", scheme });
    }
    let numbers = serde_json::from_str::<Vec<u8>>(json).map(Zeroizing::new).map_err(|_| SecretError::Malformed)?;
    let (seed, public) = numbers.split_first_chunk::<32>().ok_or(SecretError::Malformed)?;
    let seed = Zeroizing::new(*seed);
    if public.len() != 32 {
        return Err(SecretError::Malformed);
    }
    if SigningKey::from_bytes(&seed).verifying_key().as_bytes() != public {
        return Err(SecretError::Halves);
    }
    Ok(ImportedKey::Ed25519Seed(seed))
}

fn decode_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), secret.as_mut_slice()).ok()?;
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the first example of BIP-38 and of the Bitcoin wiki's page on WIF.
    const WIF_KEY: &str = "0C28FCA386C7A227600B2FE50B7CAE11EC86D3BF1FBE471BE89827E19D72AA1D";
    const WIF: &str = "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ";

    fn secp(bytes: &[u8]) -> [u8; 32] {
        match parse(bytes, SchemeId::Ecdsa, None) {
            Ok(ImportedKey::Secp256k1 { secret, chain_code: None }) => *secret,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hex_raw_bytes_and_wif_are_the_same_key() {
        let raw: [u8; 32] = hex::decode(WIF_KEY).expect("hex").try_into().expect("32 bytes");
        assert_eq!(secp(WIF_KEY.as_bytes()), raw);
        assert_eq!(secp(format!("0x{}\n", WIF_KEY.to_lowercase()).as_bytes()), raw);
        assert_eq!(secp(&raw), raw);
        assert_eq!(secp(format!("{WIF}\n").as_bytes()), raw);
        let wrong = parse(WIF.as_bytes(), SchemeId::Ed25519, None);
        assert!(matches!(wrong, Err(SecretError::WrongForm { .. })), "{wrong:?}");
    }

    #[test]
    fn a_solana_keypair_has_to_belong_together() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut numbers = key.to_keypair_bytes().to_vec();
        let json = serde_json::to_vec(&numbers).expect("numbers");
        match parse(&json, SchemeId::Ed25519, None) {
            Ok(ImportedKey::Ed25519Seed(seed)) => assert_eq!(*seed, [7; 32]),
            other => panic!("{other:?}"),
        }
        assert!(matches!(parse(&json, SchemeId::Taproot, None), Err(SecretError::WrongForm { .. })));
        if let Some(last) = numbers.last_mut() {
            *last ^= 1;
        }
        let torn = serde_json::to_vec(&numbers).expect("numbers");
        assert!(matches!(parse(&torn, SchemeId::Ed25519, None), Err(SecretError::Halves)));
        assert!(matches!(parse(b"[1,2,3]", SchemeId::Ed25519, None), Err(SecretError::Malformed)));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bytes in
            [&b""[..], b"\n", &[1; 31], &[1; 33], b"00112233445566778899aabbccddeeff", &WIF_KEY.as_bytes()[1..]]
        {
            assert!(matches!(parse(bytes, SchemeId::Ecdsa, None), Err(SecretError::Malformed)), "{bytes:?}");
        }
        for (scheme, code) in [(SchemeId::Ecdsa, "12"), (SchemeId::Taproot, WIF_KEY), (SchemeId::Ed25519, WIF_KEY)] {
            assert!(matches!(parse(&[7; 32], scheme, Some(code)), Err(SecretError::ChainCode)));
        }
        let with = parse(&[7; 32], SchemeId::Ecdsa, Some(WIF_KEY));
        assert!(matches!(with, Ok(ImportedKey::Secp256k1 { chain_code: Some(_), .. })));
    }
}
