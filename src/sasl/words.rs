//! What is said of a login that failed, alike by IMAP and POP3. No secret is in it, whatever the
//! server echoes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{LoginSpec, Mechanism, Method};
use crate::error::{Error, Kind, Result};
use crate::secret::{Secret, printable};

/// The words of one login.
pub struct Words<'a> {
    server: String,
    login: &'a LoginSpec,
    /// What was sent that has the secret in it, as it was sent: never to be shown if echoed.
    sent: Vec<Secret>,
}

impl<'a> Words<'a> {
    /// For a login to this server.
    pub fn new(server: impl ToString, login: &'a LoginSpec) -> Self {
        Self { server: server.to_string(), login, sent: Vec::new() }
    }

    /// This goes out, and has the secret in it.
    pub fn sends(&mut self, bytes: &[u8]) {
        self.sent.push(Secret::new(bytes));
    }

    /// What the server said, fit to be shown. Secrets go first: a token cut short is none that
    /// could be found any more.
    pub fn clean(&self, said: &str) -> String {
        let mut text = said.to_owned();
        for sent in &self.sent {
            text = sent.scrub(&text);
        }
        printable(self.login.secret.scrub(&text).as_bytes())
    }

    /// An error of another layer, with the server and without secrets.
    pub fn scrubbed(&self, e: Error) -> Error {
        Error { what: self.clean(&e.what), ..e }.at(&self.server)
    }

    /// It said what has no place here.
    pub fn confused(&self, said: &str) -> Error {
        let said = self.clean(said);
        Error::account(
            Kind::Protocol,
            format!("{} answered out of place while logging in: {said:?}", self.server),
        )
        .next("check `host` and `port`; if they are right, report it with a log made by -vv")
    }

    /// There will be no TLS by `command`; with the port where it begins at once.
    pub fn no_tls(&self, what: &str, command: &str, port: u16) -> Error {
        Error::account(Kind::Tls, format!("{} {what}", self.server)).next(format!(
            "try tls = \"implicit\" (port {port}); if {command} worked before, someone may be \
             interfering"
        ))
    }

    /// It did not greet.
    pub fn silent(&self, waited: Duration, hint: &str) -> Error {
        let waited = waited.as_secs();
        Error::account(Kind::Connection, format!("{} did not greet within {waited} s", self.server))
            .next(hint)
    }

    /// All steps together took too long.
    pub fn slow(&self, waited: Duration) -> Error {
        let waited = waited.as_secs();
        Error::account(
            Kind::Connection,
            format!("{} did not finish the login within {waited} s", self.server),
        )
        .next("it is tried again by itself; if it goes on, ask the server's operator")
    }

    /// It refuses now, and may not later.
    pub fn not_now(&self, said: &str) -> Error {
        let what = format!("{} cannot log in {} now: {said}", self.server, self.login.user);
        Error::account(Kind::Connection, what)
            .next("it is tried again by itself; if it goes on, ask the server's operator")
    }

    /// It refuses these credentials. `also`: what else to look at.
    pub fn refused(&self, said: &str, also: &str) -> Error {
        let what = format!("{} refused the login of {}: {said}", self.server, self.login.user);
        Error::account(Kind::Credentials, what).next(if self.login.token {
            "run token_command by hand, and authorise it again if need be; then `mailkeep sync` or \
             reload"
                .to_owned()
        } else {
            format!(
                "check `user` and the password (many providers want an app password{also}); then \
                 `mailkeep sync` or reload"
            )
        })
    }

    /// The refusal of a way to log in that was ours to choose. Some servers offer SCRAM for every
    /// user, and have the key it needs for none: their passwords are the system's, or hashed
    /// otherwise.
    pub fn refused_way(&self, mechanism: Mechanism, e: Error) -> Error {
        let chosen = self.login.auth == Method::Auto && mechanism == Mechanism::ScramSha256;
        if !chosen || e.kind != Kind::Credentials {
            return e;
        }
        let next = format!(
            "{}; if both are right, the server may offer SCRAM without being able to: set auth = \
             \"plain\" or \"login\"",
            e.next
        );
        e.next(next)
    }

    /// User and password, if a line can say them.
    pub fn in_a_line(&self) -> Result<(&'a [u8], &'a [u8])> {
        let (user, secret) = (self.login.user.as_bytes(), self.login.secret.expose());
        if [user, secret].iter().any(|s| s.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))) {
            return Err(Error::account(
                Kind::Config,
                "the user or the password contains a NUL or a line end, which no server takes",
            )
            .next("check what the password command or file gives"));
        }
        Ok((user, secret))
    }
}

/// A step of SASL as it is sent.
pub fn encode(message: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(STANDARD.encode(message).into_bytes())
}
