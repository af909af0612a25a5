//! The few replies that matter before a session stands: status, continuation, CAPABILITY. Pure.

use crate::secret::printable;

/// One response, as far as logging in looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// "+": the server waits for more of the command.
    Continue(&'a [u8]),
    /// A status, tagged or not.
    Status(Status),
    /// An untagged CAPABILITY.
    Capabilities(Vec<String>),
    /// Untagged data of no interest here.
    Other,
    /// No IMAP at all.
    Garbage,
}

/// A status response (RFC 9051 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The tag; none for "*".
    pub tag: Option<String>,
    /// What it says.
    pub word: Word,
    /// The response code's name in upper case, `AUTHENTICATIONFAILED`; empty if there is none.
    pub code: String,
    /// What is in the code after its name.
    pub argument: String,
    /// The text for people, as it came.
    pub text: String,
}

/// The word of a status response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Done.
    Ok,
    /// Refused.
    No,
    /// Not understood.
    Bad,
    /// The server hangs up.
    Bye,
    /// A greeting of a session that is logged in already.
    PreAuth,
}

impl Status {
    /// The capabilities that the response code brings.
    pub fn capabilities(&self) -> Option<Vec<String>> {
        (self.code == "CAPABILITY").then(|| atoms(&self.argument))
    }

    /// Code and text, as far as they tell a user something; not yet fit for a terminal.
    pub fn said(&self) -> String {
        match self.code.as_str() {
            "" | "CAPABILITY" | "ALERT" => self.text.clone(),
            code if self.text.is_empty() => format!("[{code}]"),
            code => format!("[{code}] {}", self.text),
        }
    }
}

/// Reads one framed response.
pub fn parse(frame: &[u8]) -> Reply<'_> {
    let line = frame.strip_suffix(b"\r\n").unwrap_or(frame);
    if let Some(rest) = line.strip_prefix(b"+") {
        // Some servers leave out the space. "+OK" is POP3.
        return match rest.first() {
            Some(b' ') | None => Reply::Continue(rest.trim_ascii_start()),
            Some(_) => Reply::Garbage,
        };
    }
    let (tag, rest) = split(line);
    let (word, rest) = split(rest);
    let plain = !tag.is_empty() && tag.iter().all(|b| b.is_ascii_alphanumeric());
    let untagged = tag == b"*";
    if !untagged && !plain {
        return Reply::Garbage;
    }
    if untagged && word.eq_ignore_ascii_case(b"CAPABILITY") {
        return Reply::Capabilities(atoms(&String::from_utf8_lossy(rest)));
    }
    let Some(word) = status_word(word) else {
        return if untagged && !word.is_empty() { Reply::Other } else { Reply::Garbage };
    };
    let (code, text) = match rest.strip_prefix(b"[").and_then(|r| {
        let end = memchr::memchr(b']', r)?;
        Some((r.get(..end)?, r.get(end + 1..)?))
    }) {
        Some((code, text)) => (code, text),
        None => (&b""[..], rest),
    };
    let (code, argument) = split(code);
    Reply::Status(Status {
        tag: plain.then(|| String::from_utf8_lossy(tag).into_owned()),
        word,
        code: printable(code).to_ascii_uppercase(),
        argument: String::from_utf8_lossy(argument).into_owned(),
        text: String::from_utf8_lossy(text.trim_ascii()).into_owned(),
    })
}

fn status_word(word: &[u8]) -> Option<Word> {
    [
        ("OK", Word::Ok),
        ("NO", Word::No),
        ("BAD", Word::Bad),
        ("BYE", Word::Bye),
        ("PREAUTH", Word::PreAuth),
    ]
    .into_iter()
    .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
    .map(|(_, w)| w)
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', bytes) {
        Some(at) => {
            let (word, rest) = bytes.split_at(at);
            (word, rest.get(1..).unwrap_or_default())
        }
        None => (bytes, b""),
    }
}

fn atoms(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(frame: &str) -> Status {
        match parse(frame.as_bytes()) {
            Reply::Status(status) => status,
            other => panic!("{frame:?} is {other:?}"),
        }
    }

    #[test]
    fn reads_statuses() {
        let s = status("M1 NO [AUTHENTICATIONFAILED] Invalid \x1bcredentials\r\n");
        assert_eq!(s.tag.as_deref(), Some("M1"));
        assert_eq!((s.word, s.code.as_str()), (Word::No, "AUTHENTICATIONFAILED"));
        assert_eq!(s.said(), "[AUTHENTICATIONFAILED] Invalid \u{1b}credentials");
        let s = status("* ok [capability IMAP4rev1 AUTH=PLAIN] hi\r\n");
        assert_eq!(s.capabilities().unwrap(), ["IMAP4rev1", "AUTH=PLAIN"]);
        assert_eq!((s.tag.clone(), s.said()), (None, "hi".to_owned()));
        assert_eq!(status("* BYE\r\n").text, "");
        assert_eq!(status("* OK [unclosed\r\n").text, "[unclosed");
    }

    #[test]
    fn tells_the_rest_apart() {
        assert_eq!(parse(b"+ cGFzcw==\r\n"), Reply::Continue(b"cGFzcw=="));
        assert_eq!(parse(b"+\r\n"), Reply::Continue(b""));
        assert_eq!(parse(b"* 5 EXISTS\r\n"), Reply::Other);
        assert_eq!(
            parse(b"* CAPABILITY A B\r\n"),
            Reply::Capabilities(vec!["A".into(), "B".into()])
        );
        for garbage in [
            &b"+OK POP3 ready\r\n"[..],
            b"\r\n",
            b"HTTP/1.1 400 Bad\r\n",
            b"* \r\n",
            b"220 smtp ESMTP\r\n",
            b"SSH-2.0-x\r\n",
        ] {
            assert_eq!(parse(garbage), Reply::Garbage, "{}", garbage.escape_ascii());
        }
    }
}
