//! Certificates and TLS servers for tests.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::server::TlsStream;

use super::{Endpoint, Security, Transport};

/// An authority that signs server certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key, as a server has them.
pub struct Identity {
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "An Authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a host name, valid from one year's first day to another's.
    pub fn issue(&self, name: &str, from: i32, to: i32) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::of(&certificate, &key)
    }
}

impl Identity {
    /// A certificate signed by itself, as an authority (the way `openssl req -x509` does it).
    pub fn self_signed(name: &str, authority: bool) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        Self::of(&params.self_signed(&key).unwrap(), &key)
    }

    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            chain: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            pem: certificate.pem(),
        }
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.chain).into()
    }

    /// The certificate of this one with the key of another.
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self { chain: self.chain.clone(), key: other.key.clone_key(), pem: self.pem.clone() }
    }

    /// A server's side of the handshake.
    pub async fn accept<T: Transport>(&self, io: T) -> io::Result<TlsStream<T>> {
        self.accept_with(io, rustls::ALL_VERSIONS).await
    }

    pub async fn accept_with<T: Transport>(
        &self,
        io: T,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<TlsStream<T>> {
        let provider = rustls::crypto::ring::default_provider();
        let resolver = Held(Arc::new(rustls::sign::CertifiedKey::new(
            vec![self.chain.clone()],
            rustls::crypto::ring::sign::any_supported_type(&self.key).unwrap(),
        )));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        TlsAcceptor::from(Arc::new(config)).accept(io).await
    }
}

/// `mail.example`, secured by implicit TLS.
pub fn endpoint() -> Endpoint {
    Endpoint {
        host: "mail.example".into(),
        port: 993,
        security: Security::Implicit,
        ca_file: None,
        fingerprint: None,
    }
}

/// Serves what it was given: also a key that does not fit.
#[derive(Debug)]
struct Held(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Held {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
