//! A session on a test server, a sink in memory, and the beginnings of scripts.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use mailkeep::net::{Endpoint, Security, Timeouts};
use mailkeep::pop3::{MessageSink, Number, Session, Wanted};
use mailkeep::sasl::{LoginSpec, Method};
use mailkeep::secret::Secret;
use mailkeep::{Error, Result};

use crate::common::scripted::{Script, send};
use crate::common::server::{PASSWORD, USER};

pub fn run<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

pub fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".into(),
        port,
        security: Security::None,
        ca_file: None,
        fingerprint: None,
    }
}

pub fn secured(port: u16, security: Security, ca: PathBuf) -> Endpoint {
    Endpoint { host: "localhost".into(), security, ca_file: Some(ca), ..endpoint(port) }
}

pub fn credentials() -> LoginSpec {
    LoginSpec {
        user: USER.into(),
        auth: Method::Auto,
        secret: Secret::new(PASSWORD),
        token: false,
        plaintext_ok: true,
    }
}

/// Silence is an error after so much.
pub fn patient(silence: Duration) -> Timeouts {
    Timeouts { silence, greeting: silence, connect: Duration::from_secs(30) }
}

pub async fn log_in(endpoint: &Endpoint, login: &LoginSpec) -> Result<Session> {
    Session::connect(endpoint, login, &patient(Duration::from_secs(30))).await
}

pub async fn session(port: u16) -> Session {
    log_in(&endpoint(port), &credentials()).await.unwrap()
}

/// What a login that has to fail fails by. The password is in no error.
pub async fn refused(endpoint: &Endpoint, login: &LoginSpec) -> Error {
    let Err(e) = log_in(endpoint, login).await else { panic!("logged in") };
    assert!(!e.to_string().contains(std::str::from_utf8(login.secret.expose()).unwrap()), "{e}");
    assert!(!e.next.is_empty(), "no next step: {e}");
    e
}

pub fn number(n: u32) -> Number {
    Number::new(n).unwrap()
}

pub fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<Number> {
    range.map(number).collect()
}

/// All of a listing.
pub fn all(sizes: &[(Number, u64)]) -> Vec<Wanted> {
    sizes.iter().map(|(number, size)| Wanted { number: *number, size: Some(*size) }).collect()
}

/// Messages whose sizes are not known.
pub fn some(range: std::ops::RangeInclusive<u32>) -> Vec<Wanted> {
    range.map(|n| Wanted { number: number(n), size: None }).collect()
}

/// Keeps what it is given, in order.
#[derive(Default)]
pub struct Kept {
    pub messages: Vec<(u32, Vec<u8>)>,
    pub failed: Vec<(u32, Error)>,
    /// The largest piece that came at once.
    pub largest: usize,
    /// Gives an error once so many messages are kept.
    pub full_at: Option<usize>,
    pub open: Option<(u32, Vec<u8>)>,
}

impl Kept {
    pub fn texts(&self) -> Vec<&[u8]> {
        self.messages.iter().map(|(_, text)| text.as_slice()).collect()
    }
}

impl MessageSink for Kept {
    async fn begin(&mut self, number: Number) -> Result<()> {
        assert!(self.open.is_none(), "a message begins within another");
        self.open = Some((number.get(), Vec::new()));
        Ok(())
    }
    async fn data(&mut self, bytes: &[u8]) -> Result<()> {
        assert!(!bytes.is_empty());
        self.largest = self.largest.max(bytes.len());
        self.open.as_mut().expect("a message has begun").1.extend_from_slice(bytes);
        Ok(())
    }
    async fn end(&mut self) -> Result<()> {
        if self.full_at == Some(self.messages.len()) {
            return Err(Error::account(mailkeep::Kind::DiskFull, "no room"));
        }
        self.messages.push(self.open.take().expect("a message has begun"));
        Ok(())
    }
    async fn failed(&mut self, number: Number, error: Error) -> Result<()> {
        if let Some((open, _)) = self.open.take() {
            assert_eq!(open, number.get(), "another message failed than the one that is open");
        }
        self.failed.push((number.get(), error));
        Ok(())
    }
}

/// A server with these capabilities (a line each) that lets anybody in by USER and PASS.
pub fn server(capabilities: &[&str]) -> Script {
    let capabilities: String = capabilities.iter().map(|c| format!("{c}\r\n")).collect();
    Script::greeting([send("+OK hi\r\n")])
        .on("CAPA", [send(format!("+OK\r\n{capabilities}.\r\n"))])
        .on("USER", [send("+OK\r\n")])
        .on("PASS", [send("+OK in\r\n")])
        .on("NOOP", [send("+OK\r\n")])
        .on("QUIT", [send("+OK bye\r\n")])
}
