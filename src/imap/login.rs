//! From nothing to a logged-in connection: greeting, STARTTLS, credentials, capabilities. The
//! credentials are tried once: a second try brings the user nearer to a locked account.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::frame::Limits;
use super::reply::{Reply, Status, Word, parse};
use super::wire::{Connection, Tag};
use crate::error::{Error, Kind, Result};
use crate::net::{self, Endpoint, Security, Timeouts};
use crate::sasl::words::{Words, encode};
use crate::sasl::{Exchange, LoginSpec, Mechanism, Offer, choose, says_later};
use crate::secret::{nonce, printable};

/// Connects and logs in. Returns the connection, and the capabilities after the login as the
/// server spells them.
pub async fn open(
    endpoint: &Endpoint,
    login: &LoginSpec,
    timeouts: &Timeouts,
) -> Result<(Connection, Vec<String>)> {
    let stream = net::connect(endpoint, timeouts).await?;
    open_over(stream, endpoint, login, timeouts).await
}

/// The same over a stream that is there already (of implicit TLS, the handshake is done).
pub async fn open_over(
    stream: net::Stream,
    endpoint: &Endpoint,
    login: &LoginSpec,
    timeouts: &Timeouts,
) -> Result<(Connection, Vec<String>)> {
    let mut opening = Opening {
        connection: Connection::new(stream, endpoint, timeouts),
        endpoint,
        login,
        timeouts,
        words: Words::new(endpoint, login),
    };
    opening.connection.set_limits(LIMITS);
    // Each step waits for silence only; a server that drips on forever ends here.
    let whole = timeouts.greeting + timeouts.connect + timeouts.silence * 3;
    let capabilities = match timeout(whole, opening.run()).await {
        Ok(done) => done?,
        Err(_) => return Err(opening.words.slow(whole)),
    };
    let mut connection = opening.connection;
    connection.set_masked(false);
    connection.set_limits(Limits::default());
    Ok((connection, capabilities))
}

/// Nothing before the login is long.
const LIMITS: Limits = Limits { line: 64 * 1024, literal: 4096, literals: 16, frame: 128 * 1024 };
/// Responses to one command; a server with more to say than this does not mean it.
const MOST_RESPONSES: usize = 200;

struct Opening<'a> {
    connection: Connection,
    endpoint: &'a Endpoint,
    login: &'a LoginSpec,
    timeouts: &'a Timeouts,
    words: Words<'a>,
}

/// What came in answer to a command, up to where we have to act.
struct Heard {
    /// The tagged status, or none where the server waits for more.
    status: Option<Status>,
    /// The challenge, where it waits.
    challenge: Vec<u8>,
    /// Capabilities that came along.
    capabilities: Option<Vec<String>>,
}

impl Opening<'_> {
    async fn run(&mut self) -> Result<Vec<String>> {
        let greeting = self.greeting().await?;
        let mut capabilities = greeting.capabilities();
        if self.endpoint.security == Security::StartTls {
            if greeting.word == Word::PreAuth {
                return Err(self.tls_error(
                    "greeted as logged in already (PREAUTH), which rules out STARTTLS",
                ));
            }
            self.start_tls(capabilities.take()).await?;
        }
        if greeting.word == Word::PreAuth {
            return match capabilities {
                Some(known) => Ok(known),
                None => self.ask_capabilities().await,
            };
        }
        let capabilities = match capabilities {
            Some(known) => known,
            None => self.ask_capabilities().await?,
        };
        let secured = self.connection.is_tls() || self.login.plaintext_ok;
        let offer = Offer::from_capabilities(&capabilities);
        let mechanism = choose(self.login.auth, self.login.token, &offer, secured)
            .map_err(|e| e.at(self.endpoint))?;
        self.connection.set_masked(true);
        let heard = match mechanism {
            Mechanism::LoginCommand => self.login_command(&capabilities).await?,
            _ => self.authenticate(mechanism, &capabilities).await?,
        };
        self.connection.set_masked(false);
        // What was said before the login no longer counts (RFC 9051 §6.1.1).
        match heard {
            Some(fresh) => Ok(fresh),
            None => self.ask_capabilities().await,
        }
    }

    async fn greeting(&mut self) -> Result<Status> {
        let hint = "check `port` and `tls`: implicit TLS is usually on 993, STARTTLS on 143";
        let frame = match timeout(self.timeouts.greeting, self.connection.frame()).await {
            Ok(frame) => frame.map_err(|e| Error { next: hint.to_owned(), ..e })?,
            Err(_) => return Err(self.words.silent(self.timeouts.greeting, hint)),
        };
        let said = printable(frame);
        match parse(frame) {
            Reply::Status(s) if s.tag.is_none() => match s.word {
                Word::Ok | Word::PreAuth => {
                    self.surface(&s);
                    self.connection.set_greeting(said);
                    Ok(s)
                }
                Word::Bye => Err(self.turned_away(&s.said())),
                Word::No | Word::Bad => Err(self.words.confused(&said)),
            },
            _ => Err(Error::account(
                Kind::Protocol,
                format!("{} does not speak IMAP: it greeted with {said:?}", self.endpoint),
            )
            .next("check `host`, `port` and `protocol`")),
        }
    }

    /// Upgrades to TLS. Capabilities from before are forgotten with it: they were not protected.
    async fn start_tls(&mut self, known: Option<Vec<String>>) -> Result<()> {
        let offered = |atoms: &[String]| atoms.iter().any(|a| a.eq_ignore_ascii_case("STARTTLS"));
        // A greeting may tell only some; what the command says counts.
        if !known.is_some_and(|k| offered(&k)) && !offered(&self.ask_capabilities().await?) {
            return Err(self.tls_error("does not offer STARTTLS; no credentials were sent"));
        }
        let tag = self.connection.queue(b"STARTTLS");
        let heard = self.hear(tag).await?;
        match heard.status {
            Some(s) if s.word == Word::Ok => {}
            Some(s) => {
                return Err(self.tls_error(&format!(
                    "refused STARTTLS ({}); no credentials were sent",
                    s.said()
                )));
            }
            None => return Err(self.words.confused("+")),
        }
        self.connection.start_tls(self.endpoint, self.timeouts.connect).await
    }

    async fn ask_capabilities(&mut self) -> Result<Vec<String>> {
        let tag = self.connection.queue(b"CAPABILITY");
        let heard = self.hear(tag).await?;
        match (heard.status, heard.capabilities) {
            (Some(Status { word: Word::Ok, .. }), Some(atoms)) => Ok(atoms),
            (Some(s), _) => Err(self.words.confused(&s.said())),
            (None, _) => Err(self.words.confused("+")),
        }
    }

    /// The LOGIN command: quoted strings where they can say it, else literals.
    async fn login_command(&mut self, capabilities: &[String]) -> Result<Option<Vec<String>>> {
        let has = |name: &str| capabilities.iter().any(|c| c.eq_ignore_ascii_case(name));
        // RFC 7888: LITERAL- is for 4096 bytes at most.
        let at_once = |n: usize| has("LITERAL+") || (has("LITERAL-") && n <= 4096);
        let (user, secret) = self.words.in_a_line()?;
        let tag = self.connection.start_command(b"LOGIN");
        for argument in [user, secret] {
            self.connection.queue_raw(b" ");
            if argument.is_ascii() {
                let quoted = quoted(argument);
                self.connection.queue_raw(&quoted);
                self.words.sends(&quoted);
                continue;
            }
            let plus = if at_once(argument.len()) { "+" } else { "" };
            self.connection.queue_raw(format!("{{{}{plus}}}\r\n", argument.len()).as_bytes());
            if plus.is_empty() {
                let heard = self.hear(tag).await?;
                if let Some(status) = heard.status {
                    return Err(self.refused(&status, None));
                }
            }
            self.connection.queue_raw(argument);
        }
        self.connection.queue_raw(b"\r\n");
        let heard = self.hear(tag).await?;
        match heard.status {
            Some(s) if s.word == Word::Ok => Ok(s.capabilities().or(heard.capabilities)),
            Some(s) => Err(self.refused(&s, None)),
            None => Err(self.words.confused("+")),
        }
    }

    async fn authenticate(
        &mut self,
        mechanism: Mechanism,
        capabilities: &[String],
    ) -> Result<Option<Vec<String>>> {
        let at = (self.endpoint.host.as_str(), self.endpoint.port);
        let (user, secret) = (&self.login.user, &self.login.secret);
        let mut exchange = Exchange::new(mechanism, user, secret, at, &nonce()?)?;
        let mut command = Zeroizing::new(
            format!("AUTHENTICATE {}", mechanism.name().unwrap_or_default()).into_bytes(),
        );
        // RFC 4959: the first message goes with the command, an empty one as "=".
        let at_once = capabilities.iter().any(|c| c.eq_ignore_ascii_case("SASL-IR"));
        if let Some(message) = at_once.then(|| exchange.initial()).flatten() {
            let encoded = encode(&message);
            self.words.sends(&encoded);
            command.reserve_exact(encoded.len() + 1);
            command.push(b' ');
            command.extend_from_slice(if encoded.is_empty() { b"=" } else { &encoded });
        }
        let tag = self.connection.queue(&command);
        loop {
            let heard = self.hear(tag).await?;
            let Some(status) = heard.status else {
                // The challenge before a client's first message is empty by definition; some
                // servers put a text there.
                let message = match exchange.initial() {
                    Some(message) => message,
                    None => {
                        let challenge = match STANDARD.decode(&heard.challenge) {
                            Ok(challenge) => challenge,
                            // LOGIN's prompts mean nothing, whatever they are.
                            Err(_) if mechanism == Mechanism::Login => Vec::new(),
                            Err(_) => {
                                return Err(self
                                    .words
                                    .confused(&String::from_utf8_lossy(&heard.challenge)));
                            }
                        };
                        exchange.respond(&challenge).map_err(|e| self.words.scrubbed(e))?
                    }
                };
                let encoded = encode(&message);
                self.words.sends(&encoded);
                self.connection.queue_raw(&encoded);
                self.connection.queue_raw(b"\r\n");
                continue;
            };
            if status.word != Word::Ok {
                let e = self.refused(&status, exchange.refusal());
                return Err(self.words.refused_way(mechanism, e));
            }
            exchange.accept().map_err(|e| self.words.scrubbed(e))?;
            return Ok(status.capabilities().or(heard.capabilities));
        }
    }

    /// Sends what is queued, and reads until the command's end or the server's "+".
    async fn hear(&mut self, tag: Tag) -> Result<Heard> {
        let tag = tag.to_string();
        let mut capabilities = None;
        let mut bye: Option<String> = None;
        for _ in 0..MOST_RESPONSES {
            let frame = match self.connection.frame().await {
                Ok(frame) => frame,
                // A server that says goodbye first and then hangs up told why.
                Err(e) => return Err(bye.map_or(e, |text| self.turned_away(&text))),
            };
            match parse(frame) {
                Reply::Continue(challenge) => {
                    let challenge = challenge.to_vec();
                    return Ok(Heard { status: None, challenge, capabilities });
                }
                Reply::Capabilities(atoms) => capabilities = Some(atoms),
                Reply::Status(status) => {
                    self.surface(&status);
                    match &status.tag {
                        Some(t) if *t == tag => {
                            return Ok(Heard {
                                status: Some(status),
                                challenge: Vec::new(),
                                capabilities,
                            });
                        }
                        Some(_) => return Err(self.words.confused(&status.said())),
                        None if status.word == Word::Bye => bye = Some(status.said()),
                        None => {}
                    }
                }
                Reply::Other => {}
                Reply::Garbage => {
                    let said = String::from_utf8_lossy(frame).into_owned();
                    return Err(self.words.confused(&said));
                }
            }
        }
        Err(self.words.confused("more and more responses"))
    }

    /// Alerts must be shown to the user (RFC 9051 §7.1), also when all went well.
    fn surface(&self, status: &Status) {
        if status.code == "ALERT" {
            let text = self.words.clean(&status.text);
            tracing::warn!(server = %self.endpoint, "the server says: {text}");
        }
    }

    /// The server's NO (or BAD) to the credentials. It parks the account, unless the server says
    /// that the credentials were not the reason.
    fn refused(&self, status: &Status, oauth: Option<&str>) -> Error {
        let mut said = status.said();
        if let Some(oauth) = oauth {
            said = format!("{said} {oauth}");
        }
        let said = self.words.clean(&said);
        if is_passing(status) {
            return self.words.not_now(&said).by_server();
        }
        let e = self.words.refused(&said, "");
        match status.code.as_str() {
            "PRIVACYREQUIRED" => {
                e.next("the server wants TLS: set tls = \"implicit\" or \"starttls\"")
            }
            "EXPIRED" => e.next("the password has expired: set a new one with the provider"),
            "CONTACTADMIN" => e.next("the provider's support has to unlock the account"),
            _ => e,
        }
    }

    fn turned_away(&self, text: &str) -> Error {
        let text = self.words.clean(text);
        Error::account(Kind::Connection, format!("{} hung up: {text}", self.endpoint))
            .by_server()
            .next("it is tried again by itself; if it goes on, ask the server's operator")
    }

    fn tls_error(&self, what: &str) -> Error {
        self.words.no_tls(what, "STARTTLS", 993)
    }
}

/// Whether the server says that trying later may help: by response code (RFC 5530), or where it
/// gives none that tells, by its text.
fn is_passing(status: &Status) -> bool {
    match status.code.as_str() {
        "UNAVAILABLE" | "INUSE" | "LIMIT" | "SERVERBUG" | "THROTTLED" | "OVERQUOTA" => true,
        "" | "ALERT" => says_later(&status.text),
        _ => false,
    }
}

/// A quoted string (RFC 9051 §4.3). The caller has ruled out what it cannot say.
fn quoted(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() * 2 + 2));
    out.push(b'"');
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests;
