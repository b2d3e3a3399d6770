//! TLS 1.3 (RFC 8446) between ends that know each other's keys.
//!
//! An end presents a self-signed certificate. The other end believes it where its key is pinned, its signature is its
//! own and its term covers the present; that it holds the key it proves in the handshake. No authority is asked and
//! no name is looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::identity::{LinkIdentity, Pin};
use crate::transport::SignerId;

/// HTTP/2's name in the handshake (RFC 7301, RFC 9113).
const ALPN: &[u8] = b"h2";

/// The coordinator's side: whoever connects must show the pinned key of a signer.
pub(super) fn server(identity: &LinkIdentity, pins: &BTreeMap<SignerId, Pin>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { pins: pins.values().copied().collect(), provider: provider.clone() };
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config =
        config.with_client_cert_verifier(Arc::new(verifier)).with_single_cert(identity.chain(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection proves its key anew.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A signer's side: the coordinator must show its pinned key.
pub(super) fn client(identity: &LinkIdentity, coordinator: Pin) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { pins: vec![coordinator], provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = config
        .dangerous() // the name that rustls has for any verifier but its own
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The signer whose key a certificate carries.
pub(super) fn signer_of(certificate: &CertificateDer<'_>, pins: &BTreeMap<SignerId, Pin>) -> Option<SignerId> {
    let spki = ParsedCertificate::try_from(certificate).ok()?.subject_public_key_info();
    pins.iter().find(|(_, pin)| pin.matches(&spki)).map(|(signer, _)| signer.clone())
}

/// Believes pinned keys, and nothing else.
struct Pinned {
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let spki = parsed.subject_public_key_info();
        if !self.pins.iter().any(|pin| pin.matches(&spki)) {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        // With itself as the only root: its own signature and its term are checked.
        let mut itself = RootCertStore::empty();
        itself.add(certificate.clone().into_owned())?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &itself, &[], now, algorithms)
    }
}

/// What a verifier says of the handshake, the same at both ends: it is TLS 1.3, signed by an Ed25519 key.
macro_rules! handshake {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    };
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, now).map(|()| ServerCertVerified::assertion())
    }

    handshake!();
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, now).map(|()| ClientCertVerified::assertion())
    }

    handshake!();
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("pins", &self.pins).finish_non_exhaustive()
    }
}
