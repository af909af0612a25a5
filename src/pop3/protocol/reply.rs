//! The first line of a reply: +OK or -ERR, its response code (RFC 2449 section 8, RFC 3206) and
//! its text.

/// An answer of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was +OK.
    pub ok: bool,
    /// What stood in brackets before the text of a -ERR.
    pub code: Option<Code>,
    /// The text after +OK or -ERR, the code included.
    pub text: Vec<u8>,
}

/// Why a server said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Another session has the mailbox (RFC 2449 section 8.1.2).
    InUse,
    /// Logged in too soon after the last time (RFC 2449 section 8.1.1).
    LoginDelay,
    /// Something behind the server is down; later it may work (RFC 3206 section 4).
    SysTemp,
    /// Something behind the server has to be mended by somebody (RFC 3206 section 4).
    SysPerm,
    /// The credentials, and nothing else, are wrong (RFC 3206 section 5).
    Auth,
    /// Another one.
    Other,
}

/// Reads the line. `None`: it is no answer at all.
pub(super) fn parse(line: &[u8]) -> Option<Answer> {
    let (ok, rest) = if let Some(rest) = strip(line, b"+OK") {
        (true, rest)
    } else if let Some(rest) = strip(line, b"-ERR") {
        (false, rest)
    } else {
        return None;
    };
    // "+OKAY" is not the protocol's; "+OK," and "+OK<1@x>" were seen.
    if rest.first().is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let text = rest.trim_ascii();
    let code = if ok { None } else { code(text) };
    Some(Answer { ok, code, text: text.to_vec() })
}

/// The bytes after "+ ", if the line asks for more (RFC 5034 section 4).
pub(super) fn challenge(line: &[u8]) -> Option<Vec<u8>> {
    match line {
        [b'+'] => Some(Vec::new()),
        [b'+', b' ', rest @ ..] => Some(rest.trim_ascii().to_vec()),
        _ => None,
    }
}

/// Codes are words with levels ("SYS/TEMP"); deeper levels than ours say the same more closely.
fn code(text: &[u8]) -> Option<Code> {
    let inner = text.strip_prefix(b"[")?;
    let end = inner.iter().position(|b| *b == b']')?;
    let word = inner.get(..end)?.trim_ascii().to_ascii_uppercase();
    let mut levels = word.split(|b| *b == b'/');
    Some(match (levels.next(), levels.next()) {
        (Some(b"IN-USE"), _) => Code::InUse,
        (Some(b"LOGIN-DELAY"), _) => Code::LoginDelay,
        (Some(b"AUTH"), _) => Code::Auth,
        (Some(b"SYS"), Some(b"PERM")) => Code::SysPerm,
        (Some(b"SYS"), _) => Code::SysTemp,
        _ => Code::Other,
    })
}

/// Without a prefix, whatever its case.
fn strip<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}
