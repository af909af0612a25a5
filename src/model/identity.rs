//! What makes two copies the same message: the server's own id, the hash of the content, or a
//! fingerprint of Message-ID, Date and size. Never a UID, never a file name.

use std::fmt;

/// BLAKE3 of the bytes with CRLF as LF.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in self.0.iter().take(6) {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// The server's own id of a message: EMAILID (RFC 8474) or X-GM-MSGID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub Box<str>);

/// Message-ID and Date, normalised: folding undone, white space single. Complete only with both.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    /// The first Message-ID field; empty if there is none.
    pub message_id: Box<str>,
    /// The first Date field; empty if there is none.
    pub date: Box<str>,
}

/// The longest Message-ID or Date that a fingerprint keeps, in bytes. Longer ones are cut, alike
/// on both sides: a hostile header must not fill the ledger.
const LONGEST: usize = 500;

impl Fingerprint {
    /// Whether it can tell messages apart.
    pub fn is_complete(&self) -> bool {
        !self.message_id.is_empty() && !self.date.is_empty()
    }

    /// From a header block, whole or cut to these two fields, with either line ending.
    pub fn from_header(header: &[u8]) -> Self {
        let mut out = Self::default();
        for field in fields(header) {
            let Some(colon) = field.iter().position(|b| *b == b':') else { continue };
            let (name, value) = field.split_at(colon);
            let slot = match name.trim_ascii_end() {
                n if n.eq_ignore_ascii_case(b"message-id") => &mut out.message_id,
                n if n.eq_ignore_ascii_case(b"date") => &mut out.date,
                _ => continue,
            };
            if slot.is_empty() {
                *slot = normal(value.get(1..).unwrap_or_default());
            }
        }
        out
    }
}

fn normal(value: &[u8]) -> Box<str> {
    let words: Vec<String> = value
        .split(u8::is_ascii_whitespace)
        .filter(|w| !w.is_empty())
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect();
    let mut s = words.join(" ");
    let mut cut = s.len().min(LONGEST);
    while !s.is_char_boundary(cut) {
        cut -= 1;
    }
    s.truncate(cut);
    s.replace('\0', "\u{fffd}").into()
}

/// The header fields with their continuation lines and line endings, up to the empty line.
fn fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        if rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            return None;
        }
        let mut end = 0;
        loop {
            let tail = rest.get(end..).unwrap_or_default();
            end += tail.iter().position(|b| *b == b'\n').map_or(tail.len(), |i| i + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, tail) = rest.split_at(end);
        rest = tail;
        Some(field)
    })
}

/// Everything by which a message can be recognised. What is not known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Of the whole message.
    pub content: Option<ContentHash>,
    /// Of the message without the header fields that readers change when they save it
    /// (`Status`, `X-Status`, `Content-Length`, `Lines`), and without mbsync's `X-TUID`; and with
    /// the last line end, which Courier and whatever has been in an mbox add.
    pub reader: Option<ContentHash>,
    /// Message-ID and Date.
    pub fingerprint: Fingerprint,
    /// RFC822.SIZE, or for a file its size with every line ending as CRLF. In bytes.
    pub wire_size: u64,
    /// INTERNALDATE, or for a file its mtime. Unix time in seconds.
    pub internal_date: i64,
    /// The server's own id.
    pub server_id: Option<ServerId>,
}

/// The longest header kept in memory; what follows counts as body. The same for every copy.
const LONGEST_HEADER: usize = 1 << 20;

/// Reads a message once, in pieces, in wire or in local form, and says what identifies it.
pub struct Digester {
    content: blake3::Hasher,
    /// `None` while it would have read what `content` has: most messages have no field that readers
    /// write, and are hashed once.
    reader: Option<blake3::Hasher>,
    header: Vec<u8>,
    in_header: bool,
    has_body: bool,
    /// The last byte ended a line.
    at_line_end: bool,
    pending_cr: bool,
    doubled_cr: bool,
    bare_lf: bool,
    wire_size: u64,
    buffer: Vec<u8>,
}

impl Default for Digester {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Digester`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// BLAKE3 with CRLF as LF.
    pub content: ContentHash,
    /// The same without the header fields that readers change, and with the last line end.
    pub reader: ContentHash,
    /// Message-ID and Date.
    pub fingerprint: Fingerprint,
    /// Size with every line ending as CRLF, in bytes.
    pub wire_size: u64,
    /// Whether turning CRLF into LF can be undone exactly: no bare LF, no CR before a CRLF.
    pub lf_is_exact: bool,
    /// Whether anything but line ends stands below the header.
    pub has_body: bool,
}

impl Digester {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self {
            content: blake3::Hasher::new(),
            reader: None,
            header: Vec::new(),
            in_header: true,
            has_body: false,
            // nothing at all has no line to end
            at_line_end: true,
            pending_cr: false,
            doubled_cr: false,
            bare_lf: false,
            wire_size: 0,
            buffer: Vec::new(),
        }
    }

    /// A whole message at once, and its text with CRLF as LF.
    pub fn whole(message: &[u8]) -> (Digest, Vec<u8>) {
        let mut d = Self::new();
        let mut text = Vec::with_capacity(message.len());
        d.append_lf(message, &mut text);
        d.end_line(&mut text);
        d.feed(&text);
        (d.finish(), text)
    }

    /// The next bytes of the message.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.append_lf(bytes, &mut buffer);
        self.feed(&buffer);
        self.buffer = buffer;
    }

    /// The end of the message.
    pub fn finish(mut self) -> Digest {
        let mut rest = Vec::new();
        self.end_line(&mut rest);
        self.feed(&rest);
        if self.in_header {
            self.end_header();
        } else if !self.at_line_end {
            self.reader.get_or_insert_with(|| self.content.clone()).update(b"\n");
        }
        let content = ContentHash(*self.content.finalize().as_bytes());
        let reader = self.reader.map_or(content, |r| ContentHash(*r.finalize().as_bytes()));
        Digest {
            content,
            reader,
            fingerprint: Fingerprint::from_header(&self.header),
            wire_size: self.wire_size,
            lf_is_exact: !self.bare_lf && !self.doubled_cr,
            has_body: self.has_body,
        }
    }

    /// Appends the bytes with CRLF as LF; a CR at their end waits for what follows.
    fn append_lf(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.pending_cr {
                if let Some(rest) = bytes.strip_prefix(b"\n") {
                    self.pending_cr = false;
                    out.push(b'\n');
                    self.wire_size += 2;
                    bytes = rest;
                    continue;
                }
                self.doubled_cr |= bytes.first() == Some(&b'\r');
                self.end_line(out);
            }
            let run = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
            let (text, tail) = bytes.split_at(run);
            out.extend_from_slice(text);
            self.wire_size += text.len() as u64;
            match tail.first() {
                Some(b'\n') => {
                    self.bare_lf = true;
                    out.push(b'\n');
                    self.wire_size += 2;
                }
                Some(_) => self.pending_cr = true,
                None => {}
            }
            bytes = tail.get(1..).unwrap_or_default();
        }
    }

    /// A CR that no LF followed is itself.
    fn end_line(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.pending_cr) {
            out.push(b'\r');
            self.wire_size += 1;
        }
    }

    /// Bytes with LF line endings.
    fn feed(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
        self.at_line_end = bytes.last().map_or(self.at_line_end, |b| *b == b'\n');
        let mut body = bytes;
        if self.in_header {
            let room = LONGEST_HEADER - self.header.len();
            let end = self.empty_line(bytes).unwrap_or(usize::MAX).min(room);
            let Some((header, tail)) = bytes.split_at_checked(end) else {
                return self.header.extend_from_slice(bytes);
            };
            self.header.extend_from_slice(header);
            self.end_header();
            body = tail;
        }
        self.has_body |= body.iter().any(|b| !matches!(b, b'\r' | b'\n'));
        if let Some(reader) = &mut self.reader {
            reader.update(body);
        }
    }

    /// Where the header ends in the bytes that follow it: behind the first empty line.
    fn empty_line(&self, bytes: &[u8]) -> Option<usize> {
        if matches!(self.header.last(), None | Some(b'\n')) && bytes.first() == Some(&b'\n') {
            return Some(1);
        }
        memchr::memmem::find(bytes, b"\n\n").map(|at| at + 2)
    }

    /// From here on the readers' hash goes its own way if the header has to be read otherwise.
    fn end_header(&mut self) {
        self.in_header = false;
        let mut kept = Vec::new();
        let mut len = 0;
        for f in fields(&self.header) {
            len += f.len();
            let name = f.split(|b| *b == b':').next().unwrap_or_default().trim_ascii_end();
            let reader_writes =
                [&b"status"[..], b"x-status", b"content-length", b"lines", b"x-tuid"];
            if !reader_writes.iter().any(|n| name.eq_ignore_ascii_case(n)) {
                kept.extend_from_slice(f);
            }
        }
        // a reader ends a header that has no empty line with one; nothing at all stays nothing
        let ends = len < self.header.len() || len == 0;
        if kept.len() < len || !ends {
            if kept.last().is_some_and(|b| *b != b'\n') {
                kept.push(b'\n');
            }
            kept.push(b'\n');
            let mut reader = blake3::Hasher::new();
            reader.update(&kept);
            self.reader = Some(reader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(parts: &[&[u8]]) -> Digest {
        let mut d = Digester::new();
        for p in parts {
            d.update(p);
        }
        d.finish()
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(m in prop::collection::vec(prop::sample::select(&b"\r\nab:"[..]),
                                                           0..60), cut in 0usize..60) {
            let cut = cut.min(m.len());
            let whole = digest(&[&m]);
            let (a, b) = m.split_at(cut);
            let pieces = digest(&[a, b]);
            prop_assert_eq!(&whole.content, &pieces.content);
            prop_assert_eq!(&whole.reader, &pieces.reader);
            prop_assert_eq!(whole.wire_size, pieces.wire_size);
            prop_assert_eq!(whole.lf_is_exact, pieces.lf_is_exact);
        }

        #[test]
        fn lf_is_exact_means_that_it_can_be_undone(
            m in prop::collection::vec(prop::sample::select(&b"\r\nab"[..]), 0..12)) {
            let s = String::from_utf8(m).unwrap();
            let stored = s.replace("\r\n", "\n");
            let sent = stored.replace("\r\n", "\n").replace('\n', "\r\n");
            let d = digest(&[s.as_bytes()]);
            if d.lf_is_exact {
                prop_assert_eq!(&sent, &s);
                prop_assert_eq!(digest(&[stored.as_bytes()]).content, d.content);
                prop_assert_eq!(digest(&[stored.as_bytes()]).wire_size, s.len() as u64);
            }
        }
    }

    #[test]
    fn the_reader_hash_overlooks_what_readers_write() {
        let a = digest(&[b"From: x\r\nStatus: RO\r\n\r\nbody\r\n"]);
        let b = digest(&[b"From: x\nContent-Length: 5\nLines: 1\n\nbody\n"]);
        let c = digest(&[b"From: x\nContent-Length: 5\nLines: 1\n\nbodi\n"]);
        assert_eq!(a.reader, b.reader);
        assert_ne!(a.content, b.content);
        assert_ne!(b.reader, c.reader);
        let d = digest(&[b"X-TUID: oJKTMTyzWvqS\nFrom: x\n\nbody\n"]);
        assert_eq!(a.reader, d.reader);
    }

    #[test]
    fn the_reader_hash_overlooks_a_line_end_that_was_added_to_the_last_line() {
        for (whole, cut) in [
            (&b"From: x\r\n\r\nbody\r\n"[..], &b"From: x\n\nbody"[..]),
            (b"From: x\nLines: 1\n\nbody\n", b"From: x\r\nStatus: O\r\n\r\nbody"),
            (b"From: x\n\n", b"From: x"),
            (b"From: x\n\n", b"From: x\nLines: 1"),
        ] {
            assert_eq!(digest(&[whole]).reader, digest(&[cut]).reader);
            assert_ne!(digest(&[whole]).content, digest(&[cut]).content);
        }
        // one only, and no other change of the end
        let reader = |m| digest(&[m]).reader;
        assert_ne!(reader(b"a: b\n\nc\n\n"), reader(b"a: b\n\nc"));
        assert_ne!(reader(b"a: b\n\nc\n "), reader(b"a: b\n\nc\n"));
        assert_ne!(reader(b"a: b\n\nc\r"), reader(b"a: b\n\nc"));
    }

    #[test]
    fn nothing_is_no_empty_line() {
        assert_ne!(digest(&[b""]).reader, digest(&[b"\n"]).reader);
        assert_eq!(digest(&[b"From: x\n"]).reader, digest(&[b"From: x\n\n"]).reader);
    }

    #[test]
    fn fingerprints_are_normalised() {
        let a = Fingerprint::from_header(
            b"Subject: x\r\nMESSAGE-ID:\r\n <a@b>\r\nDate: Mon,  1\r\n\r\nDate: 2",
        );
        let b =
            Fingerprint::from_header(b"Date:\tMon, 1\nMessage-Id: <a@b> \nMessage-ID: <other>\n");
        assert_eq!(a, b);
        assert!(a.is_complete());
        assert!(!Fingerprint::from_header(b"Date: 1\n").is_complete());
    }
}
