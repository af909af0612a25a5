//! SASL and LOGIN as state machines, for IMAP and POP3: which way to log in, and what to say at
//! each step (SCRAM's arithmetic is in `scram`). Pure: the client nonce is an argument, and nothing
//! here sends or logs anything.

mod scram;
pub mod words;

use std::collections::BTreeSet;
use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::secret::{Secret, printable};
use scram::Scram;

/// Who logs in, and how.
#[derive(Debug, Clone)]
pub struct LoginSpec {
    /// The user, as the server knows it.
    pub user: String,
    /// What the configuration's `auth` says.
    pub auth: Method,
    /// The password or token, resolved.
    pub secret: Secret,
    /// Whether the secret is an OAuth token.
    pub token: bool,
    /// Whether credentials may go over a connection without TLS (loopback, `allow_plaintext`).
    pub plaintext_ok: bool,
}

/// What the configuration's `auth` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// The strongest that is offered.
    #[default]
    Auto,
    /// SASL PLAIN.
    Plain,
    /// The LOGIN command, or SASL LOGIN.
    Login,
    /// SASL SCRAM-SHA-256.
    ScramSha256,
    /// SASL XOAUTH2.
    XOAuth2,
    /// SASL OAUTHBEARER.
    OAuthBearer,
}

/// One way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The LOGIN command (RFC 9051 §6.2.3).
    LoginCommand,
    /// LOGIN (draft-murchison-sasl-login): user and password, asked for one by one.
    Login,
    /// PLAIN (RFC 4616).
    Plain,
    /// SCRAM-SHA-256 (RFC 7677), without channel binding.
    ScramSha256,
    /// XOAUTH2 (Google's, also Microsoft's).
    XOAuth2,
    /// OAUTHBEARER (RFC 7628).
    OAuthBearer,
}

/// What the server offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// SASL mechanisms, in upper case.
    pub mechanisms: BTreeSet<String>,
    /// Whether the LOGIN command (POP3: USER and PASS) may be used.
    pub login_command: bool,
}

impl Offer {
    /// From capability atoms: `AUTH=…` and `LOGINDISABLED`.
    pub fn from_capabilities<S: AsRef<str>>(atoms: &[S]) -> Self {
        let atoms = || atoms.iter().map(|a| a.as_ref().to_ascii_uppercase());
        Self {
            mechanisms: atoms()
                .filter_map(|a| a.strip_prefix("AUTH=").map(str::to_owned))
                .collect(),
            login_command: !atoms().any(|a| a == "LOGINDISABLED"),
        }
    }

    fn has(&self, mechanism: Mechanism) -> bool {
        match mechanism.name() {
            Some(name) => self.mechanisms.contains(name),
            None => self.login_command,
        }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ways: Vec<String> =
            self.mechanisms.iter().take(16).map(|m| printable(m.as_bytes())).collect();
        if self.login_command {
            ways.push("the LOGIN command".to_owned());
        }
        if ways.is_empty() { f.write_str("nothing") } else { f.write_str(&ways.join(", ")) }
    }
}

impl Mechanism {
    /// The SASL name; none for the LOGIN command.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::LoginCommand => None,
            Self::Login => Some("LOGIN"),
            Self::Plain => Some("PLAIN"),
            Self::ScramSha256 => Some("SCRAM-SHA-256"),
            Self::XOAuth2 => Some("XOAUTH2"),
            Self::OAuthBearer => Some("OAUTHBEARER"),
        }
    }
}

/// Chooses how to log in. Without `plaintext_ok` (TLS is on, or the configuration or a loopback
/// host allows it) nothing is chosen: SCRAM too would give an eavesdropper a hash to work on.
pub fn choose(method: Method, token: bool, offer: &Offer, plaintext_ok: bool) -> Result<Mechanism> {
    use Mechanism as M;
    if !plaintext_ok {
        return Err(Error::account(Kind::Tls, "the connection is not secured: no credentials are sent")
            .next("set tls to \"implicit\" or \"starttls\"; or, knowing that anyone on the way can read the password, allow_plaintext = true"));
    }
    let wanted: &[M] = match (method, token) {
        (Method::Auto, true) => &[M::OAuthBearer, M::XOAuth2],
        (Method::Auto, false) => &[M::ScramSha256, M::Plain, M::LoginCommand, M::Login],
        (Method::XOAuth2, true) => &[M::XOAuth2],
        (Method::OAuthBearer, true) => &[M::OAuthBearer],
        (Method::Plain, false) => &[M::Plain],
        (Method::Login, false) => &[M::LoginCommand, M::Login],
        (Method::ScramSha256, false) => &[M::ScramSha256],
        (Method::XOAuth2 | Method::OAuthBearer, false) => {
            return Err(Error::account(Kind::Config, "this `auth` needs a token, not a password")
                .next("set token_command in place of the password"));
        }
        (Method::Plain | Method::Login | Method::ScramSha256, true) => {
            return Err(Error::account(Kind::Config, "this `auth` needs a password, not a token")
                .next("set a password_… key in place of token_command, or auth = \"auto\""));
        }
    };
    wanted.iter().copied().find(|m| offer.has(*m)).ok_or_else(|| {
        let names: Vec<_> =
            wanted.iter().map(|m| m.name().unwrap_or("the LOGIN command")).collect();
        let e = Error::account(
            Kind::Credentials,
            format!(
                "the server offers no way to log in that can be used: {offer}; wanted: {}",
                names.join(" or ")
            ),
        );
        if token {
            e.next("the server takes no OAuth tokens: use a password (often an app password)")
        } else if offer.mechanisms.iter().any(|m| m == "XOAUTH2" || m == "OAUTHBEARER") {
            e.next("the server wants OAuth: set token_command")
        } else {
            e.next("set `auth` to what the server offers, or \"auto\"")
        }
    })
}

/// What is sent to the server; wiped when dropped.
pub type Message = Zeroizing<Vec<u8>>;

/// One run of a SASL mechanism. Messages are raw: base64 is the protocol's business.
pub struct Exchange {
    step: Step,
    /// The server's own account of why it refuses, from an OAuth error challenge.
    refusal: Option<String>,
}

enum Step {
    /// The first message is ready, and is the only one (but for OAuth's answer to an error).
    Single {
        message: Message,
        oauth: Option<&'static [u8]>,
    },
    /// The token is sent; only an error challenge can come now, and this is the answer to it.
    OauthSent {
        answer: &'static [u8],
    },
    LoginUser {
        user: String,
        secret: Secret,
    },
    LoginSecret {
        secret: Secret,
    },
    ScramFirst {
        scram: Scram,
    },
    ScramFinal {
        scram: Scram,
    },
    ScramVerify {
        signature: [u8; 32],
    },
    /// Nothing more to say.
    Done {
        proven: bool,
    },
}

impl Exchange {
    /// Starts. `nonce` is fresh randomness in printable ASCII without commas; only SCRAM uses it.
    /// Host and port are those of the configuration (OAUTHBEARER names them).
    pub fn new(
        mechanism: Mechanism,
        user: &str,
        secret: &Secret,
        (host, port): (&str, u16),
        nonce: &str,
    ) -> Result<Self> {
        let unfit = |bytes: &[u8]| bytes.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'));
        if unfit(user.as_bytes()) || unfit(secret.expose()) {
            return Err(Error::account(
                Kind::Config,
                "the user or the password contains a NUL or a line end, which no server takes",
            )
            .next("check what the password command or file gives"));
        }
        let secret_bytes = secret.expose();
        let step = match mechanism {
            Mechanism::LoginCommand => {
                return Err(Error::account(Kind::Internal, "the LOGIN command is not SASL"));
            }
            Mechanism::Plain => Step::Single {
                message: join(&[b"\0", user.as_bytes(), b"\0", secret_bytes]),
                oauth: None,
            },
            Mechanism::Login => Step::LoginUser { user: user.to_owned(), secret: secret.clone() },
            Mechanism::ScramSha256 => {
                if nonce.len() < 16 || !nonce.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
                    return Err(Error::account(Kind::Internal, "a nonce unfit for SCRAM"));
                }
                Step::ScramFirst { scram: Scram::new(user, secret, nonce) }
            }
            // A ^A would end the field it is in.
            _ if secret_bytes.contains(&1) || user.contains('\u{1}') => {
                return Err(Error::account(Kind::Config, "the token contains control characters")
                    .next("token_command has to print the access token alone"));
            }
            Mechanism::XOAuth2 => Step::Single {
                message: join(&[
                    b"user=",
                    user.as_bytes(),
                    b"\x01auth=Bearer ",
                    secret_bytes,
                    b"\x01\x01",
                ]),
                oauth: Some(b""),
            },
            Mechanism::OAuthBearer => Step::Single {
                message: join(&[
                    b"n,a=",
                    escape_name(user).as_bytes(),
                    b",\x01host=",
                    host.as_bytes(),
                    b"\x01port=",
                    port.to_string().as_bytes(),
                    b"\x01auth=Bearer ",
                    secret_bytes,
                    b"\x01\x01",
                ]),
                // RFC 7628 §3.2.3: a refused client answers with one ^A, which ends the exchange.
                oauth: Some(b"\x01"),
            },
        };
        Ok(Self { step, refusal: None })
    }

    /// Whether the client speaks first, so that its message may go with the command (SASL-IR).
    pub fn client_first(&self) -> bool {
        matches!(self.step, Step::Single { .. } | Step::ScramFirst { .. })
    }

    /// The first message of a mechanism where the client speaks first; to be sent with the
    /// command, or on the server's first (empty) challenge. None where the server speaks first.
    pub fn initial(&mut self) -> Option<Message> {
        match std::mem::replace(&mut self.step, Step::Done { proven: false }) {
            Step::Single { message, oauth } => {
                self.step = match oauth {
                    Some(answer) => Step::OauthSent { answer },
                    None => Step::Done { proven: true },
                };
                Some(message)
            }
            Step::ScramFirst { scram } => {
                let message = scram.initial();
                self.step = Step::ScramFinal { scram };
                Some(message)
            }
            other => {
                self.step = other;
                None
            }
        }
    }

    /// Answers a challenge.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Message> {
        match std::mem::replace(&mut self.step, Step::Done { proven: false }) {
            Step::LoginUser { user, secret } => {
                self.step = Step::LoginSecret { secret };
                Ok(Message::new(user.into_bytes()))
            }
            Step::LoginSecret { secret } => {
                self.step = Step::Done { proven: true };
                Ok(join(&[secret.expose()]))
            }
            Step::OauthSent { answer } => {
                self.refusal = Some(String::from_utf8_lossy(challenge).into_owned());
                Ok(Message::new(answer.to_vec()))
            }
            Step::ScramFinal { scram } => {
                let (message, signature) = scram.answer(challenge)?;
                self.step = Step::ScramVerify { signature };
                Ok(message)
            }
            Step::ScramVerify { signature } => {
                scram::verify_server(challenge, &signature)?;
                self.step = Step::Done { proven: true };
                Ok(Message::default())
            }
            Step::Single { .. } | Step::ScramFirst { .. } | Step::Done { .. } => {
                Err(tampered("the server asks for more than the mechanism has to say"))
            }
        }
    }

    /// To be called when the server reports success: whether it may. A SCRAM server that did not
    /// prove that it knows the password is not the user's server (RFC 5802 §5).
    pub fn accept(&self) -> Result<()> {
        match &self.step {
            Step::Done { proven: true } | Step::OauthSent { .. } => Ok(()),
            Step::ScramFinal { .. } | Step::ScramVerify { .. } => Err(tampered(
                "the server reported success without proving that it knows the password",
            )),
            _ => Err(tampered("the server reported success before the exchange was complete")),
        }
    }

    /// What an OAuth server said in its error challenge (a JSON object, RFC 7628 §3.2.2), as it
    /// came.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }
}

/// Whether a refusal that names no reason says that trying later may help, by what the large
/// providers write (Gmail: "Too many simultaneous connections", Microsoft: "Server Unavailable",
/// "User is authenticated but not connected").
pub fn says_later(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let signs = [
        "too many simultaneous",
        "too many connections",
        "maximum number of connections",
        "temporar",
        "try again later",
        "unavailable",
        "rate limit",
        "throttl",
        "not connected",
    ];
    signs.iter().any(|sign| text.contains(sign))
}

/// A saslname (RFC 5802 §5.1): "," and "=" would end the field.
fn escape_name(user: &str) -> String {
    user.replace('=', "=3D").replace(',', "=2C")
}

fn join(parts: &[&[u8]]) -> Message {
    // Exactly as large as needed: growing would leave unwiped copies behind.
    let mut out = Message::new(Vec::with_capacity(parts.iter().map(|p| p.len()).sum()));
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

fn tampered(what: impl Into<String>) -> Error {
    Error::account(Kind::Protocol, what)
        .next("this may not be the server it claims to be; check `host`, then ask its operator")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

    fn exchange(mechanism: Mechanism, user: &str, secret: &str) -> Exchange {
        Exchange::new(mechanism, user, &secret.into(), ("mail.example", 993), NONCE).unwrap()
    }

    fn offer(atoms: &[&str]) -> Offer {
        Offer::from_capabilities(atoms)
    }

    #[test]
    fn plain_says_everything_at_once() {
        let mut plain = exchange(Mechanism::Plain, "tim", "tanstaaf\u{e4}");
        assert!(plain.client_first());
        assert_eq!(plain.initial().unwrap().as_slice(), "\0tim\0tanstaafä".as_bytes());
        plain.accept().unwrap();
        assert!(plain.respond(b"").is_err(), "a second question is one too many");
    }

    #[test]
    fn login_answers_in_order_whatever_the_prompts() {
        let mut login = exchange(Mechanism::Login, "me", "pw");
        assert!(!login.client_first() && login.initial().is_none());
        assert!(login.accept().is_err());
        assert_eq!(login.respond(b"Username:").unwrap().as_slice(), b"me");
        assert!(login.accept().is_err());
        assert_eq!(login.respond(b"?").unwrap().as_slice(), b"pw");
        login.accept().unwrap();
        assert!(login.respond(b"Password:").is_err());
    }

    #[test]
    fn oauth_messages_and_error_challenges() {
        let mut x = exchange(Mechanism::XOAuth2, "me@x", "ya29");
        assert_eq!(x.initial().unwrap().as_slice(), b"user=me@x\x01auth=Bearer ya29\x01\x01");
        x.accept().unwrap();
        assert!(x.initial().is_none(), "said once");
        assert_eq!(x.respond(br#"{"status":"401"}"#).unwrap().as_slice(), b"");
        assert_eq!(x.refusal(), Some(r#"{"status":"401"}"#));
        assert!(x.accept().is_err(), "no success after an error");
        assert!(x.respond(b"").is_err());

        let mut o = exchange(Mechanism::OAuthBearer, "a,b", "tok");
        assert_eq!(
            o.initial().unwrap().as_slice(),
            b"n,a=a=2Cb,\x01host=mail.example\x01port=993\x01auth=Bearer tok\x01\x01"
        );
        assert_eq!(o.respond(b"{}").unwrap().as_slice(), b"\x01");
    }

    #[test]
    fn refuses_what_would_break_the_framing() {
        let all = [
            Mechanism::Plain,
            Mechanism::Login,
            Mechanism::ScramSha256,
            Mechanism::XOAuth2,
            Mechanism::OAuthBearer,
        ];
        for mechanism in all {
            for (user, secret) in [("u", "a\nb"), ("u", "a\0b"), ("u\r", "p"), ("u", "a\r")] {
                let e = Exchange::new(mechanism, user, &secret.into(), ("h", 1), NONCE);
                assert_eq!(e.err().map(|e| e.kind), Some(Kind::Config), "{mechanism:?}");
            }
        }
        assert!(Exchange::new(Mechanism::XOAuth2, "u", &"a\x01b".into(), ("h", 1), NONCE).is_err());
    }

    #[test]
    fn auto_takes_the_strongest() {
        use Mechanism as M;
        let all =
            ["AUTH=plain", "AUTH=LOGIN", "AUTH=SCRAM-SHA-256", "AUTH=XOAUTH2", "auth=OAuthBearer"];
        let ladder: [(&[&str], bool, M); 7] = [
            (&all, false, M::ScramSha256),
            (&["AUTH=LOGIN", "AUTH=PLAIN"], false, M::Plain),
            (&["AUTH=LOGIN"], false, M::LoginCommand),
            (&["AUTH=LOGIN", "LOGINDISABLED"], false, M::Login),
            (&["IMAP4rev1"], false, M::LoginCommand),
            (&all, true, M::OAuthBearer),
            (&["AUTH=PLAIN", "AUTH=XOAUTH2"], true, M::XOAuth2),
        ];
        for (atoms, token, expected) in ladder {
            let chosen = choose(Method::Auto, token, &offer(atoms), true).unwrap();
            assert_eq!(chosen, expected, "{atoms:?}");
        }
    }

    #[test]
    fn nothing_usable_is_an_error_that_names_the_offer() {
        let o = offer(&["AUTH=XOAUTH2", "LOGINDISABLED"]);
        let e = choose(Method::Auto, false, &o, true).unwrap_err();
        assert!(e.kind == Kind::Credentials && e.what.contains("XOAUTH2"), "{e}");
        assert!(e.next.contains("token_command"));
        assert!(choose(Method::Plain, false, &offer(&["AUTH=LOGIN"]), true).is_err());
        assert!(choose(Method::Auto, true, &offer(&["AUTH=PLAIN"]), true).is_err());
        assert_eq!(
            choose(Method::Login, false, &offer(&[]), true).unwrap(),
            Mechanism::LoginCommand
        );
        for (method, token) in [(Method::XOAuth2, false), (Method::Plain, true)] {
            let e = choose(method, token, &offer(&["AUTH=XOAUTH2", "AUTH=PLAIN"]), true);
            assert_eq!(e.unwrap_err().kind, Kind::Config);
        }
    }

    #[test]
    fn nothing_goes_over_plaintext_unasked() {
        for method in [Method::Auto, Method::Plain, Method::ScramSha256] {
            let o = offer(&["AUTH=PLAIN", "AUTH=SCRAM-SHA-256"]);
            assert_eq!(choose(method, false, &o, false).unwrap_err().kind, Kind::Tls);
        }
    }
}
