//! One logged-in session: its commands, a call each. What costs a round trip is pipelined where the
//! server says that it can (RFC 2449 section 6.6).
//!
//! A session that broke stays broken: every later call gives the error that broke it. Nothing that
//! was marked for deletion is deleted but by [`Session::quit`] (RFC 1939 section 6).

use super::login;
use super::protocol::{Answer, Capabilities, Code, Event, Expected, Number, Stat, Uidls};
use super::wire::Wire;
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::net::{self, Endpoint, Stream, Timeouts};
use crate::sasl::LoginSpec;
use crate::secret::printable;

/// Logged in.
pub struct Session {
    pub(super) wire: Wire,
    pub(super) caps: Capabilities,
    /// CAPA went out after the login, and its reply comes before all others.
    capa_pending: bool,
    greeting: String,
}

/// What is in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The count that the listings have to agree with.
    pub stat: Stat,
    /// The messages' ids.
    pub uidls: Uidls,
    /// The messages' sizes in bytes, in order of numbers. Some servers' are wrong.
    pub sizes: Vec<(Number, u64)>,
}

/// How the server took its leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quit {
    /// +OK: what was marked is deleted.
    Done,
    /// -ERR: some of what was marked may still be there.
    Refused(Error),
    /// No answer: nobody knows.
    Unknown(Error),
}

/// DELE commands that are sent before the answers to those before came.
const WINDOW: usize = 1000;

impl Session {
    /// Connects and logs in. Where there is PIPELINING, the second CAPA goes with the first
    /// command, in its round trip.
    pub async fn connect(
        endpoint: &Endpoint,
        login: &LoginSpec,
        timeouts: &Timeouts,
    ) -> Result<Self> {
        let stream = net::connect(endpoint, timeouts).await?;
        Self::over(stream, endpoint, login, timeouts).await
    }

    /// The same over a stream that is there already (of implicit TLS, the handshake is done).
    pub async fn over(
        stream: Stream,
        endpoint: &Endpoint,
        login: &LoginSpec,
        timeouts: &Timeouts,
    ) -> Result<Self> {
        let opened = login::open(stream, endpoint, login, timeouts).await?;
        let mut session = Self {
            wire: opened.wire,
            caps: opened.caps,
            capa_pending: false,
            greeting: opened.greeting,
        };
        // What was said before the login may differ after it (RFC 2449 section 5).
        if session.caps.known {
            session.wire.send(b"CAPA", Expected::Capabilities);
            session.capa_pending = true;
            if !session.caps.pipelining {
                session.settle().await?;
            }
        }
        Ok(session)
    }

    /// What the server can do; as said after the login once any command was answered.
    pub fn caps(&self) -> &Capabilities {
        &self.caps
    }

    /// What the server said first.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        self.wire.is_tls()
    }

    /// The error that broke the session.
    pub fn dead(&self) -> Option<&Error> {
        self.wire.broken()
    }

    /// STAT, UIDL and LIST, in one round trip where there is PIPELINING. The listings may be
    /// shorter than STAT says, or longer by what arrived meanwhile: that is for the caller to see.
    pub async fn mailbox(&mut self) -> Result<Mailbox> {
        self.alive()?;
        if !self.caps.pipelining {
            let stat = self.stat().await?;
            let uidls = self.uidl().await?;
            return Ok(Mailbox { stat, uidls, sizes: self.list().await? });
        }
        self.wire.send(b"STAT", Expected::Stat);
        self.wire.send(b"UIDL", Expected::Uidls);
        self.wire.send(b"LIST", Expected::Sizes);
        // All three are read, so that the session lives whatever was refused.
        let stat = self.next().await?;
        let uidls = self.next().await?;
        let sizes = self.next().await?;
        Ok(Mailbox {
            stat: self.as_stat(stat)?,
            uidls: self.as_uidls(uidls)?,
            sizes: self.as_sizes(sizes)?,
        })
    }

    /// STAT. Listings after it are held to its count.
    pub async fn stat(&mut self) -> Result<Stat> {
        let event = self.ask(b"STAT", Expected::Stat).await?;
        self.as_stat(event)
    }

    /// UIDL.
    pub async fn uidl(&mut self) -> Result<Uidls> {
        let event = self.ask(b"UIDL", Expected::Uidls).await?;
        self.as_uidls(event)
    }

    /// LIST: sizes in bytes, in order of numbers.
    pub async fn list(&mut self) -> Result<Vec<(Number, u64)>> {
        let event = self.ask(b"LIST", Expected::Sizes).await?;
        self.as_sizes(event)
    }

    /// Marks messages for deletion; one result each, in their order. They are deleted by
    /// [`Session::quit`] only.
    pub async fn dele(&mut self, numbers: &[Number]) -> Result<Vec<Result<()>>> {
        self.alive()?;
        let window = if self.caps.pipelining { WINDOW } else { 1 };
        let mut results = Vec::with_capacity(numbers.len());
        let mut rest = numbers.iter();
        while results.len() < numbers.len() {
            if self.wire.outstanding() <= window / 2 {
                for number in rest.by_ref().take(window - self.wire.outstanding()) {
                    self.wire.send(format!("DELE {number}").as_bytes(), Expected::Answer);
                }
            }
            let event = self.next().await?;
            let number = numbers.get(results.len()).map(Number::to_string).unwrap_or_default();
            results.push(match event {
                Event::Answer(answer) if answer.ok => Ok(()),
                Event::Answer(answer) => {
                    Err(refused(Scope::Message, &format!("DELE {number}"), &answer))
                }
                _ => return Err(self.confused()),
            });
        }
        Ok(results)
    }

    /// Takes all marks for deletion back.
    pub async fn rset(&mut self) -> Result<()> {
        self.plain(b"RSET").await
    }

    /// Nothing, but the server has to answer.
    pub async fn noop(&mut self) -> Result<()> {
        self.plain(b"NOOP").await
    }

    /// Ends the session: the server deletes what was marked, and says so.
    pub async fn quit(mut self) -> Quit {
        let done = self.ask(b"QUIT", Expected::Answer).await;
        let quit = match done {
            Ok(Event::Answer(answer)) if answer.ok => Quit::Done,
            Ok(Event::Answer(answer)) => Quit::Refused(refused(Scope::Account, "QUIT", &answer)),
            Ok(_) => Quit::Unknown(self.confused()),
            Err(e) => Quit::Unknown(e),
        };
        self.wire.close().await;
        quit
    }

    /// Ends a session that marked nothing: QUIT, without waiting for its answer.
    pub async fn leave(mut self) {
        if self.alive().is_ok() {
            self.wire.send(b"QUIT", Expected::Answer);
        }
        self.wire.close().await;
    }

    /// Hangs up without QUIT: nothing is deleted.
    pub async fn close(self) {
        self.wire.close().await;
    }

    /// Whether a command may be sent.
    pub(super) fn alive(&mut self) -> Result<()> {
        if let Some(e) = self.wire.broken() {
            return Err(e.clone());
        }
        if self.wire.outstanding() > usize::from(self.capa_pending) {
            let e = Error::account(Kind::Internal, "a POP3 command was abandoned halfway");
            return Err(self.wire.fail(e));
        }
        if self.wire.speaks_unasked() {
            let e = Error::account(Kind::Protocol, "the POP3 server said more than it was asked")
                .next(
                    "it is tried again by itself; if it goes on, report it with a log made by -vv",
                );
            return Err(self.wire.fail(e));
        }
        Ok(())
    }

    /// The next event of the caller's commands.
    pub(super) async fn next(&mut self) -> Result<Event> {
        self.settle().await?;
        self.wire.event().await
    }

    /// Reads the capabilities that are still to come.
    async fn settle(&mut self) -> Result<()> {
        while self.capa_pending {
            match self.wire.event().await? {
                Event::Capabilities(caps) => self.caps = caps,
                // What it said before the login stands.
                Event::Answer(_) => {}
                _ => return Err(self.confused()),
            }
            self.capa_pending = false;
        }
        Ok(())
    }

    async fn ask(&mut self, command: &[u8], expected: Expected) -> Result<Event> {
        self.alive()?;
        self.wire.send(command, expected);
        self.next().await
    }

    async fn plain(&mut self, command: &[u8]) -> Result<()> {
        match self.ask(command, Expected::Answer).await? {
            Event::Answer(answer) if answer.ok => Ok(()),
            Event::Answer(answer) => {
                Err(refused(Scope::Account, &String::from_utf8_lossy(command), &answer))
            }
            _ => Err(self.confused()),
        }
    }

    fn as_stat(&mut self, event: Event) -> Result<Stat> {
        match event {
            Event::Stat(stat) => Ok(stat),
            Event::Answer(answer) => Err(refused(Scope::Account, "STAT", &answer)),
            _ => Err(self.confused()),
        }
    }

    fn as_uidls(&mut self, event: Event) -> Result<Uidls> {
        match event {
            Event::Uidls(uidls) => Ok(Uidls::Known(uidls)),
            // A refusal with a reason, or by a server that has UIDL, is no lack of it.
            Event::Answer(answer) if answer.code.is_none() && !self.caps.uidl => {
                Ok(Uidls::Unsupported(printable(&answer.text)))
            }
            Event::Answer(answer) => Err(refused(Scope::Account, "UIDL", &answer)),
            _ => Err(self.confused()),
        }
    }

    fn as_sizes(&mut self, event: Event) -> Result<Vec<(Number, u64)>> {
        match event {
            Event::Sizes(sizes) => Ok(sizes),
            Event::Answer(answer) => Err(refused(Scope::Account, "LIST", &answer)),
            _ => Err(self.confused()),
        }
    }

    /// The machine gave what no command of ours leads to.
    pub(super) fn confused(&mut self) -> Error {
        self.wire.fail(Error::account(Kind::Internal, "a POP3 reply of the wrong kind"))
    }
}

/// What a -ERR to a command comes to.
pub(super) fn refused(scope: Scope, command: &str, answer: &Answer) -> Error {
    let said = printable(&answer.text);
    let said = if said.is_empty() { "without a word".to_owned() } else { said };
    Error::refused(scope, reason(answer), format!("the server refused {command}: {said}"))
        .next("it is tried again by itself; if it goes on, ask the server's operator")
}

/// The reason that a -ERR names.
pub(super) fn reason(answer: &Answer) -> Refusal {
    match answer.code {
        Some(Code::InUse) => Refusal::InUse,
        Some(Code::LoginDelay) => Refusal::Limit,
        Some(Code::SysTemp) => Refusal::Unavailable,
        Some(Code::SysPerm) => Refusal::Cannot,
        Some(Code::Auth) => Refusal::NoPerm,
        Some(Code::Other) | None => Refusal::Unsaid,
    }
}
