//! TLS 1.2 and later by rustls: which certificates are good, and what to do about one that is not.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    self, CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
};

use super::{Endpoint, Transport};
use crate::error::{Error, Kind, Result, Scope};

/// Shakes hands as a client, and verifies the server as the endpoint asks for: by the pinned leaf
/// certificate if there is one, else by chain, dates and host name.
pub async fn handshake(
    io: Box<dyn Transport>,
    endpoint: &Endpoint,
    within: Duration,
) -> Result<TlsStream<Box<dyn Transport>>> {
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| {
        Error::account(
            Kind::Config,
            format!("{:?} is not a host name that a certificate can be checked against", endpoint.host),
        )
        .next("write it as letters, digits, dots and hyphens (international names in their xn-- form), or as an IP address")
    })?;
    let provider = Arc::new(crypto::ring::default_provider());
    let check = Arc::new(Check {
        rule: match endpoint.fingerprint {
            Some(pin) => Rule::Pin(pin),
            None => Rule::Chain(chain_verifier(endpoint, &provider)?),
        },
        provider: Arc::clone(&provider),
        presented: OnceLock::new(),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| Error::account(Kind::Internal, format!("cannot set up TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&check) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    match timeout(within, connector.connect(name, io)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(explain(&e, endpoint, check.presented.get())),
        Err(_) => Err(Error::account(
            Kind::Connection,
            format!("{endpoint} did not finish the TLS handshake within {} s", within.as_secs()),
        )
        .next("check that `port` and `tls` fit together: implicit TLS is usually on 993 or 995, STARTTLS on 143 or 110")),
    }
}

/// A fingerprint as users write it in the configuration.
pub fn show_fingerprint(fingerprint: &[u8; 32]) -> String {
    fingerprint.iter().fold(String::from("sha256:"), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What makes a certificate good.
#[derive(Debug)]
enum Rule {
    Pin([u8; 32]),
    Chain(Verifier),
}

/// Applies the rule, and keeps the fingerprint that the server presented: errors show it.
#[derive(Debug)]
struct Check {
    rule: Rule,
    provider: Arc<CryptoProvider>,
    presented: OnceLock<[u8; 32]>,
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let presented: [u8; 32] = Sha256::digest(leaf.as_ref()).into();
        let _ = self.presented.set(presented);
        match &self.rule {
            Rule::Pin(pin) if *pin == presented => Ok(ServerCertVerified::assertion()),
            Rule::Pin(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Rule::Chain(verifier) => {
                verifier.verify_server_cert(leaf, intermediates, name, ocsp, now)
            }
        }
    }

    // A pin says which certificate; that the server holds its key is shown by these alone.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The platform's trust anchors, and those of `tls_ca_file` beside them.
fn chain_verifier(endpoint: &Endpoint, provider: &Arc<CryptoProvider>) -> Result<Verifier> {
    let extra = match &endpoint.ca_file {
        Some(path) => read_anchors(path)?,
        None => Vec::new(),
    };
    Verifier::new_with_extra_roots(extra, Arc::clone(provider)).map_err(|e| match &endpoint.ca_file
    {
        Some(path) => Error::account(
            Kind::Config,
            format!("tls_ca_file {} holds a certificate that is no trust anchor: {e}", path.display()),
        )
        .next("it must be a PEM file of X.509 certificates"),
        None => Error::account(Kind::Tls, format!("this machine trusts no certificates: {e}"))
            .next("install the system's CA certificates (package ca-certificates), or set tls_ca_file or tls_fingerprint"),
    })
}

fn read_anchors(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem =
        std::fs::read(path).map_err(|e| Error::io(Scope::Account, "read tls_ca_file", path, &e))?;
    let bad = |why: String| {
        Error::account(Kind::Config, format!("tls_ca_file {}: {why}", path.display()))
            .next("it must be a PEM file: -----BEGIN CERTIFICATE----- and so on")
    };
    let anchors = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| bad(e.to_string()))?;
    if anchors.is_empty() {
        return Err(bad("no certificate in it".to_owned()));
    }
    Ok(anchors)
}

/// Says what was wrong with the handshake, and what the user can do about it.
fn explain(e: &io::Error, endpoint: &Endpoint, presented: Option<&[u8; 32]>) -> Error {
    let Some(tls) = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return Error::account(
            Kind::Connection,
            format!("{endpoint} broke off the TLS handshake: {e}"),
        )
        .next("check that `port` and `tls` fit together, then the network");
    };
    let tls_error = |what: String| Error::account(Kind::Tls, format!("{endpoint} {what}"));
    let fingerprint = presented.map(show_fingerprint).unwrap_or_default();
    let pin = format!(
        "if you know from another source that this certificate is right, pin it: tls_fingerprint = \"{fingerprint}\""
    );
    let rustls::Error::InvalidCertificate(why) = tls else {
        return match tls {
            rustls::Error::InvalidMessage(_) => tls_error("does not speak TLS on this port".to_owned())
                .next("check `port` and `tls`: tls = \"starttls\" is for servers that start in the clear"),
            rustls::Error::AlertReceived(alert) => {
                tls_error(format!("refused the TLS handshake with the alert {alert:?}"))
                    .next("check `host` and `port`; the server may want another name or a newer client")
            }
            rustls::Error::PeerIncompatible(_) => tls_error(format!("offers no usable TLS: {tls}"))
                .next("TLS 1.2 or later is required; the server's operator has to enable it"),
            _ => tls_error(format!("failed the TLS handshake: {tls}"))
                .next("check `host` and `port`; if they are right, something between here and the server interferes"),
        };
    };
    use CertificateError as C;
    match why {
        C::ApplicationVerificationFailure if endpoint.fingerprint.is_some() => tls_error(format!(
            "presented another certificate than the pinned one: {fingerprint}"
        ))
        .next(format!("if the server's certificate was renewed (ask its operator), set tls_fingerprint = \"{fingerprint}\"; if not, someone may be listening in")),
        C::Expired => tls_error("presented an expired certificate".to_owned())
            .next("the server's operator has to renew it; check this machine's clock too"),
        C::ExpiredContext { not_after, .. } => {
            tls_error(format!("presented a certificate that expired on {}", date(*not_after)))
                .next("the server's operator has to renew it; check this machine's clock too")
        }
        C::NotValidYet => tls_error("presented a certificate that is not valid yet".to_owned())
            .next("check this machine's clock"),
        C::NotValidYetContext { not_before, .. } => tls_error(format!(
            "presented a certificate that is not valid before {}",
            date(*not_before)
        ))
        .next("check this machine's clock"),
        C::NotValidForName => {
            tls_error("presented a certificate for another host name".to_owned())
                .next(format!("set `host` to the name that the provider documents; {pin}"))
        }
        C::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> =
                presented.iter().take(8).map(|n| n.escape_debug().to_string()).collect();
            tls_error(format!("presented a certificate for {}", names.join(", ")))
                .next(format!("set `host` to the name that the provider documents; {pin}"))
        }
        C::UnknownIssuer => tls_error(
            "presented a certificate from an issuer that is not trusted here, or signed by itself"
                .to_owned(),
        )
        .next(format!("set tls_ca_file to the issuer's certificate; or {pin}")),
        C::Revoked => tls_error("presented a revoked certificate".to_owned())
            .next("do not pin it; ask the server's operator"),
        // Self-signed certificates are often made as authorities, which webpki takes for no leaf.
        _ => tls_error(format!("presented a certificate that cannot be verified: {why}"))
            .next(format!("the server's operator has to replace it; {pin}")),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(t) => t.to_string(),
        Err(_) => format!("second {seconds}"),
    }
}
