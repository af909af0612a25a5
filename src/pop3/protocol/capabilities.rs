//! What the server says it can do: the reply to CAPA (RFC 2449), a line a capability, whatever
//! the case.

use std::collections::BTreeSet;

use super::Violation;

/// The reply to CAPA.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the server knows CAPA. If not, nothing else here says anything.
    pub known: bool,
    /// Commands may be sent before the answers to those before came.
    pub pipelining: bool,
    /// TOP.
    pub top: bool,
    /// UIDL.
    pub uidl: bool,
    /// USER and PASS.
    pub user: bool,
    /// STLS (RFC 2595).
    pub stls: bool,
    /// UTF8 (RFC 6856).
    pub utf8: bool,
    /// -ERR may begin with a response code.
    pub resp_codes: bool,
    /// [AUTH] marks every refusal of credentials (RFC 3206 section 6).
    pub auth_resp_code: bool,
    /// SASL mechanisms, in upper case.
    pub sasl: BTreeSet<String>,
    /// How long the server keeps what was read.
    pub expire: Option<Expire>,
    /// How often one may log in.
    pub login_delay: Option<LoginDelay>,
    /// What the server calls itself.
    pub implementation: Option<String>,
    lines: usize,
}

/// How long the server keeps what was read (RFC 2449 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expire {
    /// For ever.
    Never,
    /// So many days; 0 means that nothing can be left on the server.
    Days {
        /// At least so many.
        days: u32,
        /// Said before the login, and other users may have more.
        per_user: bool,
    },
}

/// How often one may log in (RFC 2449 section 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginDelay {
    /// Seconds from one login to the next.
    pub seconds: u32,
    /// Said before the login, and it may differ for this user.
    pub per_user: bool,
}

/// A server with more capabilities than this does not mean it.
const MOST_LINES: usize = 500;
/// SASL mechanisms that are kept.
const MOST_MECHANISMS: usize = 100;

impl Capabilities {
    /// Of a server that has answered, before its first line.
    pub(super) fn begun() -> Self {
        Self { known: true, ..Self::default() }
    }

    /// Another line of the reply. What is not known here is passed over.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.lines += 1;
        if self.lines > MOST_LINES {
            return Err(Violation::LongListing);
        }
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace();
        let name = words.next().unwrap_or_default().to_ascii_uppercase();
        match name.as_str() {
            "PIPELINING" => self.pipelining = true,
            "TOP" => self.top = true,
            "UIDL" => self.uidl = true,
            "USER" => self.user = true,
            "STLS" => self.stls = true,
            "UTF8" => self.utf8 = true,
            "RESP-CODES" => self.resp_codes = true,
            "AUTH-RESP-CODE" => self.auth_resp_code = true,
            "SASL" => {
                let room = MOST_MECHANISMS.saturating_sub(self.sasl.len());
                self.sasl.extend(words.take(room).map(str::to_ascii_uppercase));
            }
            "EXPIRE" => self.expire = expire(words.next(), words.next()).or(self.expire),
            "LOGIN-DELAY" => {
                let seconds = words.next().and_then(|w| w.parse().ok());
                let per_user = says_user(words.next());
                self.login_delay =
                    seconds.map(|seconds| LoginDelay { seconds, per_user }).or(self.login_delay);
            }
            "IMPLEMENTATION" => {
                let rest = text.trim().get(name.len()..).unwrap_or_default().trim();
                self.implementation = Some(rest.to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

fn expire(when: Option<&str>, user: Option<&str>) -> Option<Expire> {
    let when = when?;
    if when.eq_ignore_ascii_case("NEVER") {
        return Some(Expire::Never);
    }
    Some(Expire::Days { days: when.parse().ok()?, per_user: says_user(user) })
}

fn says_user(word: Option<&str>) -> bool {
    word.is_some_and(|w| w.eq_ignore_ascii_case("USER"))
}
