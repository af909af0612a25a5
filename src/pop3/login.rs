//! From nothing to a logged-in connection: greeting, STLS, capabilities, credentials. The
//! credentials are tried once: a second try brings the user nearer to a locked account.
//!
//! APOP is not there: it proves the password by MD5, whose collisions give the password away to
//! whoever can pose as the server (RFC 6151 section 2.1), and TLS made it needless.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::client::reason;
use super::protocol::{Answer, Capabilities, Code, Event, Expected};
use super::wire::Wire;
use crate::error::{Error, Kind, Result};
use crate::net::{Endpoint, Security, Stream, Timeouts};
use crate::sasl::words::{Words, encode};
use crate::sasl::{Exchange, LoginSpec, Mechanism, Offer, choose, says_later};
use crate::secret::{nonce, printable};

/// A connection that is logged in.
pub(super) struct Opened {
    pub wire: Wire,
    /// As said before the login.
    pub caps: Capabilities,
    pub greeting: String,
}

/// Logs in over a stream (of implicit TLS, the handshake is done).
pub(super) async fn open(
    stream: Stream,
    endpoint: &Endpoint,
    login: &LoginSpec,
    timeouts: &Timeouts,
) -> Result<Opened> {
    let mut opening = Opening {
        wire: Wire::new(stream, endpoint, timeouts),
        endpoint,
        login,
        timeouts,
        words: Words::new(endpoint, login),
    };
    // Each step waits for silence only; a server that drips on forever ends here.
    let whole = timeouts.greeting + timeouts.connect + timeouts.silence * 3;
    let (greeting, caps) = match timeout(whole, opening.run()).await {
        Ok(done) => done?,
        Err(_) => return Err(opening.words.slow(whole)),
    };
    Ok(Opened { wire: opening.wire, caps, greeting })
}

struct Opening<'a> {
    wire: Wire,
    endpoint: &'a Endpoint,
    login: &'a LoginSpec,
    timeouts: &'a Timeouts,
    words: Words<'a>,
}

/// The longest AUTH command that may carry the first message (RFC 5034 section 4: 255 bytes with
/// CRLF).
const LONGEST_AUTH: usize = 253;

impl Opening<'_> {
    async fn run(&mut self) -> Result<(String, Capabilities)> {
        let greeting = self.greeting().await?;
        let mut caps = self.capabilities().await?;
        if self.endpoint.security == Security::StartTls {
            self.start_tls(&caps).await?;
            // What was said before was not protected.
            caps = self.capabilities().await?;
        }
        let secured = self.wire.is_tls() || self.login.plaintext_ok;
        let mechanism =
            choose(self.login.auth, self.login.token, &offer(&caps), secured).map_err(|e| {
                let what = e.what.replace("the LOGIN command", "USER and PASS");
                Error { what, ..e }.at(self.endpoint)
            })?;
        self.wire.set_masked(true);
        let (answer, oauth) = match mechanism {
            Mechanism::LoginCommand => (self.user_and_pass().await?, None),
            _ => self.authenticate(mechanism).await?,
        };
        self.wire.set_masked(false);
        if answer.ok {
            return Ok((greeting, caps));
        }
        Err(self.words.refused_way(mechanism, self.refused(&answer, oauth.as_deref())))
    }

    async fn greeting(&mut self) -> Result<String> {
        let hint = "check `port` and `tls`: implicit TLS is usually on 995, STLS on 110";
        self.wire.expect(Expected::Answer);
        let answer = match timeout(self.timeouts.greeting, self.wire.event()).await {
            Ok(Ok(Event::Answer(answer))) => answer,
            Ok(Ok(_)) => return Err(self.words.confused("something else than a greeting")),
            Ok(Err(e)) if e.kind == Kind::Protocol => {
                let what = format!("{} does not speak POP3: {}", self.endpoint, e.what);
                return Err(Error { what, ..e }.next("check `host`, `port` and `protocol`"));
            }
            Ok(Err(e)) => return Err(e.next(hint)),
            Err(_) => return Err(self.words.silent(self.timeouts.greeting, hint)),
        };
        if !answer.ok {
            let text = printable(&answer.text);
            let what = format!("{} turned the connection away: {text}", self.endpoint);
            return Err(passing(what, &answer));
        }
        Ok(printable(&answer.text))
    }

    async fn capabilities(&mut self) -> Result<Capabilities> {
        match self.ask(b"CAPA", Expected::Capabilities).await? {
            Event::Capabilities(caps) => Ok(caps),
            // RFC 1939 has no CAPA.
            Event::Answer(_) => Ok(Capabilities::default()),
            _ => Err(self.words.confused("something else than capabilities")),
        }
    }

    /// Upgrades to TLS. A server that knows no CAPA is asked all the same.
    async fn start_tls(&mut self, caps: &Capabilities) -> Result<()> {
        if caps.known && !caps.stls {
            return Err(self.tls_error("does not offer STLS; no credentials were sent"));
        }
        match self.ask(b"STLS", Expected::Answer).await? {
            Event::Answer(answer) if answer.ok => {
                self.wire.start_tls(self.endpoint, self.timeouts.connect).await
            }
            Event::Answer(answer) => Err(self.tls_error(&format!(
                "refused STLS ({}); no credentials were sent",
                printable(&answer.text)
            ))),
            _ => Err(self.words.confused("something else than an answer to STLS")),
        }
    }

    /// USER and PASS (RFC 1939 section 7). The answer that counts.
    async fn user_and_pass(&mut self) -> Result<Answer> {
        let (user, secret) = self.words.in_a_line()?;
        for (verb, argument) in [(&b"USER "[..], user), (b"PASS ", secret)] {
            // Exactly as large as needed: growing would leave unwiped copies behind.
            let mut command = Zeroizing::new(Vec::with_capacity(verb.len() + argument.len()));
            command.extend_from_slice(verb);
            command.extend_from_slice(argument);
            match self.ask(&command, Expected::Answer).await? {
                Event::Answer(answer) if answer.ok && verb == b"USER " => {}
                Event::Answer(answer) => return Ok(answer),
                _ => break,
            }
        }
        Err(self.words.confused("something else than an answer to USER and PASS"))
    }

    /// AUTH (RFC 5034). The answer, and what an OAuth server said of its refusal.
    async fn authenticate(&mut self, mechanism: Mechanism) -> Result<(Answer, Option<String>)> {
        let at = (self.endpoint.host.as_str(), self.endpoint.port);
        let (user, secret) = (&self.login.user, &self.login.secret);
        let mut exchange = Exchange::new(mechanism, user, secret, at, &nonce()?)?;
        let verb = format!("AUTH {}", mechanism.name().unwrap_or_default());
        let mut early = None;
        // Microsoft's servers take XOAUTH2 in two steps only.
        if mechanism != Mechanism::XOAuth2 && exchange.client_first() {
            early = exchange.initial().map(|message| encode(&message));
        }
        let mut command = Zeroizing::new(Vec::with_capacity(LONGEST_AUTH));
        command.extend_from_slice(verb.as_bytes());
        if let Some(encoded) = &early {
            self.words.sends(encoded);
            if command.len() + 1 + encoded.len() <= LONGEST_AUTH {
                command.push(b' ');
                command.extend_from_slice(encoded);
                // A server from before RFC 5034 passes it over, and asks.
                if mechanism != Mechanism::Plain {
                    early = None;
                }
            }
        }
        self.wire.send(&command, Expected::Auth);
        loop {
            let challenge = match self.event().await? {
                Event::Challenge(challenge) => challenge,
                Event::Answer(answer) => {
                    if answer.ok {
                        exchange.accept().map_err(|e| self.words.scrubbed(e))?;
                    }
                    return Ok((answer, exchange.refusal().map(str::to_owned)));
                }
                _ => return Err(self.words.confused("something else than a step of AUTH")),
            };
            // The challenge before a client's first message is empty by definition; some servers
            // put a text there.
            if let Some(encoded) = early.take() {
                self.wire.send_secret(&encoded);
                continue;
            }
            let message = match exchange.initial() {
                Some(message) => message,
                None => {
                    let decoded = match STANDARD.decode(&challenge) {
                        Ok(decoded) => decoded,
                        // LOGIN's prompts mean nothing, whatever they are.
                        Err(_) if mechanism == Mechanism::Login => Vec::new(),
                        Err(_) => {
                            return Err(self.words.confused(&String::from_utf8_lossy(&challenge)));
                        }
                    };
                    exchange.respond(&decoded).map_err(|e| self.words.scrubbed(e))?
                }
            };
            let encoded = encode(&message);
            self.words.sends(&encoded);
            self.wire.send_secret(&encoded);
        }
    }

    async fn ask(&mut self, command: &[u8], expected: Expected) -> Result<Event> {
        self.wire.send(command, expected);
        self.event().await
    }

    async fn event(&mut self) -> Result<Event> {
        let event = self.wire.event().await;
        event.map_err(|e| Error { what: self.words.clean(&e.what), ..e })
    }

    /// The server's -ERR to the credentials. It parks the account, unless the server says that
    /// the credentials were not the reason.
    fn refused(&self, answer: &Answer, oauth: Option<&str>) -> Error {
        let mut said = String::from_utf8_lossy(&answer.text).into_owned();
        if let Some(oauth) = oauth {
            said = format!("{said} {oauth}");
        }
        let said = self.words.clean(&said);
        let (server, user) = (self.endpoint, &self.login.user);
        let not_now = || Error { refusal: Some(reason(answer)), ..self.words.not_now(&said) };
        match answer.code {
            Some(Code::SysPerm) => {
                let what = format!("{server} cannot log in {user}: {said}");
                Error::refused(crate::Scope::Account, reason(answer), what)
                    .next("the server's operator has to mend this; it is no matter of the password")
            }
            Some(Code::LoginDelay) => {
                passing(format!("{server} lets {user} log in less often: {said}"), answer)
                    .next("it is tried again by itself; raise `poll_interval` if it goes on")
            }
            Some(Code::InUse | Code::SysTemp) => not_now(),
            Some(Code::Other) | None if is_passing(&said) => not_now(),
            Some(Code::Auth | Code::Other) | None => {
                self.words.refused(&said, ", and POP3 switched on")
            }
        }
    }

    fn tls_error(&self, what: &str) -> Error {
        self.words.no_tls(what, "STLS", 995)
    }
}

/// Ways to log in. AUTH LOGIN is USER and PASS in more steps, and only used where they are not
/// offered; a server that offers nothing at all is older than its offers.
fn offer(caps: &Capabilities) -> Offer {
    let login_command = caps.user || caps.sasl.is_empty();
    let mut mechanisms = caps.sasl.clone();
    if login_command {
        mechanisms.remove("LOGIN");
    }
    Offer { mechanisms, login_command }
}

/// A refusal after which trying later may help, with the server's reason.
fn passing(what: String, answer: &Answer) -> Error {
    let refusal = Some(reason(answer));
    Error { refusal, ..Error::account(Kind::Connection, what) }
        .next("it is tried again by itself; if it goes on, ask the server's operator")
}

/// Whether a refusal without a code of its own says that trying later may help: the mailbox is
/// locked by another session (RFC 1939 section 8), or what large providers write.
fn is_passing(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let locked =
        ["mailbox is locked", "maildrop is locked", "unable to lock", "already locked", "in use"];
    locked.iter().any(|sign| lower.contains(sign)) || says_later(text)
}
