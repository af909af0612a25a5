//! SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding: both proofs that the password is
//! known, neither of which shows it. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Message, escape_name, join, tampered};
use crate::error::{Error, Kind, Result};
use crate::secret::{Secret, printable};

/// Iterations below which SCRAM gives an attacker too little work (RFC 7677 §4), and above which
/// the server only wastes ours.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

/// A client that knows the password, before the server has said anything.
pub(super) struct Scram {
    secret: Secret,
    nonce: String,
    client_first: String,
}

impl Scram {
    pub(super) fn new(user: &str, secret: &Secret, nonce: &str) -> Self {
        Self {
            secret: secret.clone(),
            nonce: nonce.to_owned(),
            client_first: format!("n={},r={nonce}", escape_name(user)),
        }
    }

    /// The client's first message, with the header that says: no channel binding.
    pub(super) fn initial(&self) -> Message {
        join(&[b"n,,", self.client_first.as_bytes()])
    }

    /// From server-first to client-final, and the signature that the server must show then
    /// (RFC 5802 §3).
    pub(super) fn answer(self, server_first: &[u8]) -> Result<(Message, [u8; 32])> {
        let text = std::str::from_utf8(server_first)
            .map_err(|_| tampered("the server's SCRAM message is not text"))?;
        let mut fields = text.split(',');
        let mut field =
            |name: &str| fields.next().and_then(|f| f.strip_prefix(name)?.strip_prefix('='));
        // A mandatory extension (m=) in first place fails here, as it must.
        let (Some(nonce), Some(salt), Some(count)) = (field("r"), field("s"), field("i")) else {
            return Err(tampered("the server's SCRAM message is malformed"));
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() <= self.nonce.len() {
            return Err(tampered("the server's SCRAM nonce does not extend ours"));
        }
        let salt = STANDARD.decode(salt).ok().filter(|s| !s.is_empty());
        let salt = salt.ok_or_else(|| tampered("the server's SCRAM salt is malformed"))?;
        let plain = count.bytes().all(|b| b.is_ascii_digit());
        let count: u32 =
            count.parse().ok().filter(|c| plain && ITERATIONS.contains(c)).ok_or_else(|| {
                tampered(format!(
                    "the server asks for {} SCRAM iterations; {} to {} are accepted",
                    printable(count.as_bytes()),
                    ITERATIONS.start(),
                    ITERATIONS.end()
                ))
            })?;

        let mut salted = Zeroizing::new([0u8; 32]);
        pbkdf2::pbkdf2_hmac::<Sha256>(self.secret.expose(), &salt, count, salted.as_mut_slice());
        let client_key = Zeroizing::new(hmac(salted.as_slice(), b"Client Key")?);
        let stored_key = Sha256::digest(client_key.as_slice());
        // c= is the base64 of "n,,": no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{text},{without_proof}", self.client_first);
        let signature = hmac(&stored_key, signed.as_bytes())?;
        let proof: Vec<u8> =
            client_key.iter().zip(signature.iter()).map(|(key, sig)| key ^ sig).collect();
        let server_key = Zeroizing::new(hmac(salted.as_slice(), b"Server Key")?);
        let expected = hmac(server_key.as_slice(), signed.as_bytes())?;
        let message = format!("{without_proof},p={}", STANDARD.encode(Zeroizing::new(proof)));
        Ok((Message::new(message.into_bytes()), expected))
    }
}

/// Whether the server's last message proves that it knows the password too.
pub(super) fn verify_server(server_final: &[u8], expected: &[u8; 32]) -> Result<()> {
    let first = server_final.split(|b| *b == b',').next().unwrap_or_default();
    if let Some(error) = first.strip_prefix(b"e=") {
        return Err(Error::account(
            Kind::Credentials,
            format!("the server refused the login: {}", printable(error)),
        )
        .next("check `user` and the password"));
    }
    let signature = first.strip_prefix(b"v=").and_then(|v| STANDARD.decode(v).ok());
    match signature {
        Some(signature) if signature.ct_eq(expected).into() => Ok(()),
        _ => Err(tampered("the server could not prove that it knows the password")),
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Result<[u8; 32]> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key)
        .map_err(|_| Error::account(Kind::Internal, "an HMAC key of impossible length"))?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::super::{Exchange, Mechanism};
    use super::*;

    // RFC 7677 §3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn exchange(user: &str, secret: &str) -> Exchange {
        let at = ("mail.example", 993);
        Exchange::new(Mechanism::ScramSha256, user, &secret.into(), at, NONCE).unwrap()
    }

    fn scram() -> Exchange {
        let mut scram = exchange("user", "pencil");
        assert_eq!(scram.initial().unwrap().as_slice(), CLIENT_FIRST.as_bytes());
        scram
    }

    #[test]
    fn as_in_rfc_7677() {
        let mut scram = scram();
        let answer = scram.respond(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), CLIENT_FINAL);
        assert!(scram.accept().is_err(), "not before the server's proof");
        assert!(scram.respond(SERVER_FINAL.as_bytes()).unwrap().is_empty());
        scram.accept().unwrap();
        assert!(scram.respond(b"more").is_err());
    }

    #[test]
    fn refuses_a_server_without_proof() {
        let lies =
            ["v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "v=!!", "", "x=1", "v=6rri"];
        for lie in lies {
            let mut scram = scram();
            scram.respond(SERVER_FIRST.as_bytes()).unwrap();
            let e = scram.respond(lie.as_bytes()).unwrap_err();
            assert_eq!(e.kind, Kind::Protocol, "{lie}");
            assert!(scram.accept().is_err());
        }
        let mut scram = scram();
        scram.respond(SERVER_FIRST.as_bytes()).unwrap();
        let e = scram.respond(b"e=unknown-user").unwrap_err();
        assert_eq!(e.kind, Kind::Credentials);
        assert!(e.what.contains("unknown-user"));
    }

    #[test]
    fn refuses_weak_and_odd_parameters() {
        let nonce = "r=rOprNGfwEbeRWgbNEkqO%hv";
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
        for bad in [
            format!("{nonce},{salt},i=4095"),
            format!("{nonce},{salt},i=1000001"),
            format!("{nonce},{salt},i=0"),
            format!("{nonce},{salt},i=-1"),
            format!("{nonce},{salt},i=+5000"),
            format!("{nonce},{salt},i=99999999999999"),
            format!("{nonce},{salt},i="),
            format!("{nonce},s=,i=4096"),
            format!("{nonce},s=%,i=4096"),
            format!("r=rOprNGfwEbeRWgbNEkqO,{salt},i=4096"),
            format!("r=somethingElseAltogether,{salt},i=4096"),
            format!("m=ext,{nonce},{salt},i=4096"),
            format!("{salt},{nonce},i=4096"),
            String::new(),
        ] {
            let e = scram().respond(bad.as_bytes()).unwrap_err();
            assert_eq!(e.kind, Kind::Protocol, "{bad}");
        }
        assert!(scram().respond(&[0xff]).is_err());
        assert!(scram().respond(format!("{nonce},{salt},i=5000,x=later").as_bytes()).is_ok());
    }

    #[test]
    fn escapes_the_user_and_wants_a_real_nonce() {
        let mut scram = exchange("a,b=c", "x");
        let first = scram.initial().unwrap();
        assert_eq!(first.as_slice(), format!("n,,n=a=2Cb=3Dc,r={NONCE}").as_bytes());
        for nonce in ["short", "with,comma,in,the,middle", ""] {
            let at = ("h", 1);
            assert!(Exchange::new(Mechanism::ScramSha256, "u", &"p".into(), at, nonce).is_err());
        }
    }
}
