//! What is shown of a message file: From and Subject, decoded as far as that is easy (RFC 2047
//! with UTF-8, Latin-1 or ASCII).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest header that is looked at, in bytes.
const LONGEST: u64 = 256 * 1024;

/// From and Subject; both empty if the file cannot be read.
pub(super) fn from_and_subject(path: &Path) -> (String, String) {
    let mut header = Vec::new();
    let read = File::open(path).and_then(|f| f.take(LONGEST).read_to_end(&mut header));
    if read.is_err() {
        return Default::default();
    }
    (field(&header, "from"), field(&header, "subject"))
}

/// The first field of this name, unfolded and decoded.
fn field(header: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(header);
    let mut value: Option<String> = None;
    for line in text.lines() {
        if line.is_empty() {
            break;
        }
        let folded = line.starts_with([' ', '\t']);
        match (&mut value, folded) {
            (Some(v), true) => v.push_str(line),
            (Some(_), false) => break,
            (None, true) => {}
            (None, false) => {
                value = line
                    .split_once(':')
                    .filter(|(n, _)| n.trim_end().eq_ignore_ascii_case(name))
                    .map(|(_, v)| v.to_owned());
            }
        }
    }
    decoded(value.unwrap_or_default().trim())
}

/// With its encoded words decoded; white space between two of them goes (RFC 2047 section 6.2).
fn decoded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, from) = rest.split_at(start);
        let Some((word, tail)) = encoded_word(from) else {
            out.push_str(before);
            out.push_str("=?");
            rest = from.get(2..).unwrap_or_default();
            after_word = false;
            continue;
        };
        if !(after_word && before.trim().is_empty()) {
            out.push_str(before);
        }
        out.push_str(&word);
        rest = tail;
        after_word = true;
    }
    out.push_str(rest);
    out
}

/// The encoded word at the start, and what follows it. `None` for what cannot be decoded.
fn encoded_word(text: &str) -> Option<(String, &str)> {
    let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (payload, tail) = rest.split_once("?=")?;
    if payload.contains([' ', '?']) {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => STANDARD.decode(payload).ok()?,
        "Q" | "q" => quoted(payload)?,
        _ => return None,
    };
    // RFC 2231 section 5: a language may follow the charset
    let charset = charset.split('*').next()?.to_ascii_lowercase();
    let text = match charset.as_str() {
        "utf-8" | "us-ascii" => String::from_utf8(bytes).ok()?,
        "iso-8859-1" => bytes.into_iter().map(char::from).collect(),
        _ => return None,
    };
    Some((text, tail))
}

fn quoted(payload: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = payload.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'_' => b' ',
            b'=' => {
                let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(bytes.next()?)? << 4 | digit(bytes.next()?)?
            }
            b => b,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_unfolded_and_decoded() {
        let h = b"Received: x\n\tfrom: no\nFROM : =?utf-8?q?J=C3=BCrgen_A?= <j@x>\r\nSubject: =?UTF-8?B?w6Q=?=\n \
                  =?iso-8859-1*de?Q?=E4?= =?koi8-r?Q?=E4?= end\n\nFrom: body\n";
        assert_eq!(field(h, "from"), "J\u{fc}rgen A <j@x>");
        assert_eq!(field(h, "subject"), "ää =?koi8-r?Q?=E4?= end");
        assert_eq!(field(h, "to"), "");
        assert_eq!(field(b"\nsubject: body", "subject"), "");
    }

    proptest! {
        #[test]
        fn nothing_panics(s in "[=?a-z0-9ü_ \n:]{0,60}") {
            let _ = (decoded(&s), decoded(&format!("=?utf-8?q?{s}")), field(s.as_bytes(), "a"));
        }
    }
}
