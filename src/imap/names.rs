//! Folder names on the wire: modified UTF-7 (RFC 3501 5.1.3), separators, namespaces. Pure.
//!
//! Servers spell names that are no modified UTF-7: raw UTF-8, Latin-1, a lone `&`. Every spelling
//! becomes a name, and no two spellings that cannot be decoded become the same one: a byte that
//! means nothing stands as a character at the end of Unicode's last private plane, and goes back
//! as that byte.

use super::response::{Namespace, Namespaces};
use crate::model::FolderName;

/// Byte 0 of those characters. Only `&` and 0x80 to 0xff are ever made or undone: nobody can put a
/// line end into a command by a file name.
const RAW: u32 = 0x10_ff00;

fn raw_char(b: u8) -> char {
    char::from_u32(RAW + u32::from(b)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn raw_byte(c: char) -> Option<u8> {
    let b = u8::try_from(u32::from(c).checked_sub(RAW)?).ok()?;
    (b == b'&' || b >= 0x80).then_some(b)
}

/// One component of a name, to text.
pub fn decode(wire: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = wire;
    while let Some((&b, tail)) = rest.split_first() {
        if b == b'&' {
            if let Some((text, after)) = shifted(tail) {
                out.push_str(&text);
                rest = after;
            } else {
                out.push(raw_char(b));
                rest = tail;
            }
        } else if b.is_ascii() {
            out.push(char::from(b));
            rest = tail;
        } else {
            match utf8_char(rest) {
                Some((c, after)) => {
                    out.push(c);
                    rest = after;
                }
                None => {
                    out.push(raw_char(b));
                    rest = tail;
                }
            }
        }
    }
    out
}

fn utf8_char(b: &[u8]) -> Option<(char, &[u8])> {
    (2..=4).find_map(|n| {
        let (head, after) = b.split_at_checked(n)?;
        let c = std::str::from_utf8(head).ok()?.chars().next()?;
        raw_byte(c).is_none().then_some((c, after))
    })
}

/// What stands between `&` and `-`, and what follows. `None` if it is malformed, or not how the
/// text would be spelled again: then two spellings would be one name.
fn shifted(tail: &[u8]) -> Option<(String, &[u8])> {
    let end = tail.iter().position(|b| *b == b'-')?;
    let (inside, after) = (tail.get(..end)?, tail.get(end + 1..)?);
    if inside.is_empty() {
        return Some(("&".into(), after));
    }
    let mut units = Vec::new();
    let (mut acc, mut bits) = (0u32, 0u32);
    for b in inside {
        let v = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b',' => 63,
            _ => return None,
        };
        acc = (acc << 6) | u32::from(v);
        bits += 6;
        if bits >= 16 {
            bits -= 16;
            units.push(u16::try_from((acc >> bits) & 0xffff).ok()?);
            acc &= (1 << bits) - 1;
        }
    }
    // fewer than six bits are padding, and they are zero
    if bits >= 6 || acc != 0 {
        return None;
    }
    let text = String::from_utf16(&units).ok()?;
    let strange = |c: char| raw_byte(c).is_some() || (' '..='~').contains(&c);
    if text.chars().any(strange) { None } else { Some((text, after)) }
}

/// One component of a name, from text.
pub fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut shift: Vec<u16> = Vec::new();
    for c in name.chars() {
        let raw = raw_byte(c);
        if raw.is_some() || (' '..='~').contains(&c) {
            unshift(&mut shift, &mut out);
            match (raw, u8::try_from(c)) {
                (Some(b), _) => out.push(b),
                (None, Ok(b'&')) => out.extend_from_slice(b"&-"),
                (None, Ok(b)) => out.push(b),
                (None, Err(_)) => {}
            }
        } else {
            let mut buf = [0u16; 2];
            shift.extend_from_slice(c.encode_utf16(&mut buf));
        }
    }
    unshift(&mut shift, &mut out);
    out
}

/// What a component means that a program left as it is spelled on the wire; `None` where nothing
/// shows that it did.
pub fn meant(component: &str) -> Option<String> {
    let text = decode(component.as_bytes());
    let whole =
        encode(&text) == component.as_bytes() && !text.chars().any(|c| raw_byte(c).is_some());
    (whole && text != component).then_some(text)
}

fn unshift(units: &mut Vec<u16>, out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    if units.is_empty() {
        return;
    }
    let digit = |v: u32| ALPHABET.get((v & 63) as usize).copied().unwrap_or(b'A');
    out.push(b'&');
    let (mut acc, mut bits) = (0u32, 0u32);
    for u in units.drain(..) {
        acc = (acc << 16) | u32::from(u);
        bits += 16;
        while bits >= 6 {
            bits -= 6;
            out.push(digit(acc >> bits));
        }
        acc &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(digit(acc << (6 - bits)));
    }
    out.push(b'-');
}

/// How this server arranges its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchy {
    namespaces: Namespaces,
    separator: Option<u8>,
}

impl Hierarchy {
    /// `separator` is what LIST shows, for servers without NAMESPACE.
    pub fn new(namespaces: Namespaces, separator: Option<u8>) -> Self {
        let first = namespaces.personal.first();
        let separator = first.and_then(|n| n.separator).or(separator);
        Self { namespaces, separator }
    }

    /// The separator in the personal namespace.
    pub fn separator(&self) -> Option<u8> {
        self.separator
    }

    /// The name of a folder as listed, and whether it is the user's own. `None` for an empty name.
    pub fn name_of(&self, wire: &[u8], separator: Option<u8>) -> Option<(FolderName, bool)> {
        if wire.eq_ignore_ascii_case(b"INBOX") {
            return Some((FolderName::inbox(), true));
        }
        let (own, default) = self.place(wire);
        let stripped = default
            .and_then(|n| strip(wire, &n.prefix))
            .filter(|rest| !rest.eq_ignore_ascii_case(b"INBOX"))
            .unwrap_or(wire);
        let name = match separator {
            Some(s) => FolderName::from_components(stripped.split(|b| *b == s).map(decode)),
            None => FolderName::from_components([decode(stripped)]),
        };
        Some((name?, own))
    }

    /// How a folder that was not listed would be spelled. `None` where that cannot be said: a
    /// separator inside a component, levels where the server has none.
    pub fn wire_of(&self, name: &FolderName) -> Option<Vec<u8>> {
        if name.is_inbox() {
            return Some(b"INBOX".to_vec());
        }
        let parts: Vec<Vec<u8>> = name.components().map(encode).collect();
        let joined = match self.separator {
            Some(s) => parts.join(&[s][..]),
            None if parts.len() > 1 => return None,
            None => parts.concat(),
        };
        let prefix = self.namespaces.personal.first().map_or(&b""[..], |n| &n.prefix);
        let mut prefixed = prefix.to_vec();
        prefixed.extend_from_slice(&joined);
        // names of other namespaces carry their prefix
        [prefixed, joined].into_iter().find(|w| {
            !w.is_empty() && self.name_of(w, self.separator).map(|n| n.0) == Some(name.clone())
        })
    }

    /// Whether `wire` is the user's own; and the default namespace, if it is in that.
    fn place(&self, wire: &[u8]) -> (bool, Option<&Namespace>) {
        let ns = &self.namespaces;
        let kinds = [(&ns.personal, true), (&ns.others, false), (&ns.shared, false)];
        let best = kinds
            .into_iter()
            .flat_map(|(list, own)| list.iter().map(move |n| (n, own)))
            .filter(|(n, _)| n.holds(wire))
            .max_by_key(|(n, own)| (n.prefix.len(), *own));
        match best {
            None => (true, None),
            Some((n, own)) => {
                (own, ns.personal.first().filter(|first| own && first.prefix == n.prefix))
            }
        }
    }
}

impl Namespace {
    /// Whether the name is in here, or is its root ("Public" of "Public/").
    fn holds(&self, wire: &[u8]) -> bool {
        if strip(wire, &self.prefix).is_some() {
            return true;
        }
        let root = match (self.prefix.split_last(), self.separator) {
            (Some((last, root)), Some(s)) if *last == s => root,
            _ => return false,
        };
        strip(wire, root).is_some_and(<[u8]>::is_empty)
    }
}

/// Without the prefix. `INBOX` at its beginning is the same in any case (RFC 9051 5.1).
fn strip<'a>(wire: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = wire.split_at_checked(prefix.len())?;
    let inbox = prefix.len().min(5);
    let (a, b) = (head.split_at_checked(inbox)?, prefix.split_at_checked(inbox)?);
    let same = head == prefix
        || (b.0.eq_ignore_ascii_case(b"INBOX") && a.0.eq_ignore_ascii_case(b.0) && a.1 == b.1);
    same.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ns(prefix: &str, separator: u8) -> Namespace {
        Namespace { prefix: prefix.into(), separator: Some(separator) }
    }

    fn name(s: &str) -> FolderName {
        FolderName::from_text(s).unwrap()
    }

    #[test]
    fn modified_utf7() {
        for (text, wire) in [
            ("Entwürfe", "Entw&APw-rfe"),
            ("台北", "&U,BTFw-"),
            ("A&B", "A&-B"),
            ("😀x", "&2D3eAA-x"),
            ("~peter/mail", "~peter/mail"),
            ("a\tb", "a&AAk-b"),
        ] {
            assert_eq!(encode(text), wire.as_bytes());
            assert_eq!(decode(wire.as_bytes()), text);
        }
        // raw UTF-8 is read too
        assert_eq!(decode("Entwürfe".as_bytes()), "Entwürfe");
    }

    #[test]
    fn what_cannot_be_decoded_goes_back_as_it_came() {
        for wire in [
            &b"a&b"[..],
            b"&",
            b"Entw\xfcrfe",
            b"&AEE-",        // an ASCII letter has no business there
            b"&2D0-",        // half a surrogate pair
            b"&APx-",        // padding that is not zero
            b"&EP,,,w-\xff", // ends in the characters that stand for bytes
        ] {
            assert_eq!(encode(&decode(wire)), wire, "{}", wire.escape_ascii());
        }
        assert_ne!(decode(b"a&b"), decode(b"a&-b"));
    }

    #[test]
    fn no_name_on_disk_becomes_a_line_end_in_a_command() {
        for c in ['\r', '\n', '\0', '\u{10ff0d}', '\u{10ff0a}', '\u{10ff00}', '\u{10ff22}'] {
            let wire = encode(&format!("a{c}b"));
            assert!(wire.iter().all(|b| (0x20..0x7f).contains(b) && *b != b'"'), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(s in "\\PC{0,12}|[\\x00-\\xff&-]{0,12}") {
            prop_assume!(!s.chars().any(|c| raw_byte(c).is_some()));
            prop_assert_eq!(decode(&encode(&s)), s);
        }

        #[test]
        fn undecodable_bytes_and_back(b in prop::collection::vec(
                prop::sample::select(&b"&-AEw,+b\x80\xc3\xbc\xff\xf4\x8f\xbf\xbd"[..]), 0..14)) {
            let text = decode(&b);
            let again = encode(&text);
            // raw UTF-8 is spelled anew; everything else comes back
            if !text.chars().any(|c| !c.is_ascii() && raw_byte(c).is_none()) {
                prop_assert_eq!(again, b);
            } else {
                prop_assert_eq!(decode(&again), text);
            }
        }

        #[test]
        fn spellings_are_names_and_back(parts in prop::collection::vec("[a-zA-Z.&ü/ ]{0,4}", 1..4),
                                        prefix in "(INBOX\\.|INBOX/|)", sep in "[./]") {
            let s = sep.as_bytes()[0];
            let h = Hierarchy::new(
                Namespaces { personal: vec![ns(&prefix, s)], ..Namespaces::default() }, None);
            if let Some(n) = FolderName::from_components(parts)
                && let Some(wire) = h.wire_of(&n)
            {
                prop_assert_eq!(h.name_of(&wire, Some(s)), Some((n, true)));
            }
        }
    }

    #[test]
    fn courier_keeps_everything_below_inbox() {
        let h = Hierarchy::new(
            Namespaces {
                personal: vec![ns("INBOX.", b'.')],
                others: vec![],
                shared: vec![ns("#shared.", b'.'), ns("shared.", b'.')],
            },
            None,
        );
        let is = |wire: &str, text: &str, own| {
            assert_eq!(h.name_of(wire.as_bytes(), Some(b'.')), Some((name(text), own)), "{wire}");
        };
        is("INBOX", "INBOX", true);
        is("inbox", "INBOX", true);
        is("INBOX.Sent", "Sent", true);
        is("Inbox.Sent", "Sent", true);
        is("INBOX.a.b", "a/b", true);
        is("INBOX.INBOX", "INBOX/INBOX", true);
        is("shared.x", "shared/x", false);
        is("shared", "shared", false);
        assert_eq!(h.wire_of(&name("Sent/x")), Some(b"INBOX.Sent.x".to_vec()));
        assert_eq!(h.wire_of(&name("shared/x")), Some(b"INBOX.shared.x".to_vec()));
        assert_eq!(h.wire_of(&name("v1.2")), None);
    }

    #[test]
    fn without_namespaces() {
        let h = Hierarchy::new(Namespaces::default(), Some(b'/'));
        assert_eq!(h.wire_of(&name("a/ü")), Some(b"a/&APw-".to_vec()));
        let flat = Hierarchy::new(Namespaces::default(), None);
        assert_eq!(flat.wire_of(&name("a")), Some(b"a".to_vec()));
        assert_eq!(flat.wire_of(&name("a/b")), None);
        assert_eq!(h.name_of(b"", Some(b'/')), None);
    }
}
