//! Certificates for TLS tests: one CA, and from it a good server certificate, one for another
//! host and one that has expired; and one self-signed.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use sha2::{Digest as _, Sha256};

/// A server's certificate and key, as PEM files.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: String,
}

/// All of them, in one directory.
pub struct Certs {
    /// The CA of all but `self_signed`.
    pub ca: PathBuf,
    /// A CA that signed none of them.
    pub other_ca: PathBuf,
    pub good: Pair,
    pub wrong_host: Pair,
    pub expired: Pair,
    pub self_signed: Pair,
}

impl Certs {
    pub fn make(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("mkdir");
        let (ca, issuer) = authority(dir, "ca");
        let (other_ca, _) = authority(dir, "other-ca");
        let here = ["localhost", "127.0.0.1"];
        let signed = |name: &str, hosts: &[&str], expired: bool| {
            let mut params = leaf(hosts);
            if expired {
                params.not_before = rcgen::date_time_ymd(2001, 1, 1);
                params.not_after = rcgen::date_time_ymd(2002, 1, 1);
            }
            let key = KeyPair::generate().expect("key");
            let certificate = params.signed_by(&key, &issuer).expect("sign");
            write(dir, name, &certificate, &key)
        };
        let key = KeyPair::generate().expect("key");
        let alone = leaf(&here).self_signed(&key).expect("sign");
        Self {
            ca,
            other_ca,
            good: signed("good", &here, false),
            wrong_host: signed("wrong-host", &["mail.elsewhere.example"], false),
            expired: signed("expired", &here, true),
            self_signed: write(dir, "self-signed", &alone, &key),
        }
    }
}

fn leaf(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn authority(dir: &Path, name: &str) -> (PathBuf, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).expect("names");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("sign");
    let path = dir.join(format!("{name}.pem"));
    fs::write(&path, certificate.pem()).expect("write");
    (path, Issuer::new(params, key))
}

fn write(dir: &Path, name: &str, certificate: &rcgen::Certificate, key: &KeyPair) -> Pair {
    let pair = Pair {
        certificate: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
        fingerprint: Sha256::digest(certificate.der()).iter().map(|b| format!("{b:02x}")).collect(),
    };
    fs::write(&pair.certificate, certificate.pem()).expect("write");
    fs::write(&pair.key, key.serialize_pem()).expect("write");
    pair
}
