//! Messages, seeded: realistic ones in numbers, and the odd ones that break mail programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rng::Rng;

/// A message as a server gets it: wire bytes, flags in IMAP's words, INTERNALDATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub body: Vec<u8>,
    pub flags: BTreeSet<String>,
    pub date: i64,
}

impl Letter {
    pub fn new(body: impl Into<Vec<u8>>, flags: &[&str], date: i64) -> Self {
        Self { body: body.into(), flags: flags.iter().map(|f| (*f).to_owned()).collect(), date }
    }
}

/// The hash by which contents are compared: CRLF counts as LF.
pub fn hash(body: &[u8]) -> blake3::Hash {
    blake3::hash(&to_lf(body))
}

/// The same without the header fields that mail readers change when they save a message.
pub fn reader_hash(body: &[u8]) -> blake3::Hash {
    let body = to_lf(body);
    let head = body.windows(2).position(|w| w == b"\n\n").map_or(body.len(), |i| i + 1);
    let mut hasher = blake3::Hasher::new();
    for line in body[..head].split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default().to_ascii_lowercase();
        let of_reader: [&[u8]; 4] = [b"status", b"x-status", b"content-length", b"lines"];
        if !of_reader.contains(&name.as_slice()) {
            hasher.update(line);
        }
    }
    hasher.update(&body[head..]).finalize()
}

/// With LF for CRLF.
pub fn to_lf(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for (i, b) in body.iter().enumerate() {
        if *b != b'\r' || body.get(i + 1) != Some(&b'\n') {
            out.push(*b);
        }
    }
    out
}

/// The first Message-ID field, or nothing.
pub fn message_id(body: &[u8]) -> String {
    let head = to_lf(&body[..body.len().min(1 << 16)]);
    let head = String::from_utf8_lossy(&head);
    let head = head.split("\n\n").next().unwrap_or_default();
    let field =
        head.lines().find(|l| l.get(..11).is_some_and(|n| n.eq_ignore_ascii_case("message-id:")));
    field.map(|l| l[11..].trim().to_owned()).unwrap_or_default()
}

/// Makes realistic messages: `Mint::new(seed).letter(i)` is the same for the same two numbers.
pub struct Mint {
    seed: u64,
    /// About how many bytes a message has.
    pub average: usize,
    sentences: Vec<String>,
    base64: Vec<String>,
}

const WORDS: [&str; 40] = [
    "agenda", "answer", "archive", "balance", "bicycle", "boat", "border", "branch", "budget",
    "carpet", "coffee", "contract", "deadline", "delivery", "draft", "engine", "evening", "garden",
    "harbour", "invoice", "kernel", "ladder", "letter", "library", "meadow", "meeting", "morning",
    "mountain", "network", "patch", "project", "question", "release", "report", "river", "station",
    "summer", "ticket", "travel", "window",
];

impl Mint {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::labelled(seed, "pool");
        let sentences = (0..300)
            .map(|_| {
                let words: Vec<&str> = (0..6 + rng.below(8)).map(|_| *rng.pick(&WORDS)).collect();
                words.join(" ")
            })
            .collect();
        let base64 = (0..2000)
            .map(|_| {
                let bytes: Vec<u8> = (0..57).map(|_| rng.next() as u8).collect();
                STANDARD.encode(bytes)
            })
            .collect();
        Self { seed, average: 8700, sentences, base64 }
    }

    pub fn letters(&self, range: std::ops::Range<usize>) -> Vec<Letter> {
        range.map(|i| self.letter(i)).collect()
    }

    pub fn letter(&self, i: usize) -> Letter {
        Letter { body: self.body(i), flags: self.flags(i), date: self.date(i) }
    }

    pub fn message_id(&self, i: usize) -> String {
        format!("<{i}.{}@mint.example>", self.seed)
    }

    /// INTERNALDATE, from 2009 to 2023.
    pub fn date(&self, i: usize) -> i64 {
        let mut rng = Rng::labelled(self.seed ^ i as u64, "date");
        1_231_000_000 + rng.below(14 * 365 * 86_400) as i64
    }

    pub fn flags(&self, i: usize) -> BTreeSet<String> {
        let mut rng = Rng::labelled(self.seed ^ i as u64, "flags");
        let chances = [(70, "\\Seen"), (15, "\\Answered"), (8, "\\Flagged")];
        chances.iter().filter(|(p, _)| rng.percent(*p)).map(|(_, f)| (*f).to_owned()).collect()
    }

    pub fn body(&self, i: usize) -> Vec<u8> {
        let mut rng = Rng::labelled(self.seed ^ ((i as u64) << 20), "body");
        // Sizes spread over two orders of magnitude, as in a real mailbox: the product of two
        // uniform numbers, with mean `average`.
        let spread = (rng.below(2000) * rng.below(2000)) as f64 / 1_000_000.0;
        let size = 300 + (spread * (self.average as f64 - 200.0).max(0.0)) as usize;
        let date = rfc2822(self.date(i) - rng.below(100) as i64);
        let mut s = String::with_capacity(size + 1024);
        let _ = write!(
            s,
            "Return-Path: <sender{a}@example.org>\r\n\
             Received: from mx{b}.example.org (mx{b}.example.org [192.0.2.{c}])\r\n\
             \tby in.example.net with ESMTPS id {i:08x}; {date}\r\n\
             From: \"Sender {a}\" <sender{a}@example.org>\r\n\
             To: reader@mint.example\r\n\
             Subject: {subject} {i}\r\n\
             Date: {date}\r\n\
             Message-ID: {id}\r\n\
             MIME-Version: 1.0\r\n",
            a = i % 97,
            b = i % 7,
            c = i % 250,
            subject = rng.pick(&self.sentences),
            id = self.message_id(i),
        );
        if !i.is_multiple_of(3) {
            let _ = write!(s, "References: {}\r\n", self.message_id(i - 1));
        }
        let start = rng.below(self.sentences.len());
        let line = |k: usize| &self.sentences[(start + k) % self.sentences.len()];
        if rng.percent(45) {
            s.push_str("Content-Type: text/plain; charset=utf-8\r\n");
            s.push_str("Content-Transfer-Encoding: 8bit\r\n\r\n");
            for k in 0.. {
                if s.len() >= size {
                    break;
                }
                match k % 13 {
                    5 => s.push_str("Grüße — žluťoučký kůň, 日本 "),
                    8 => s.push_str("From the start "),
                    11 => s.push('.'),
                    _ => {}
                }
                s.push_str(line(k));
                s.push_str("\r\n");
            }
            return s.into_bytes();
        }
        let _ = write!(
            s,
            "Content-Type: multipart/mixed; boundary=\"=_{i:x}\"\r\n\r\n\
             This is a multi-part message in MIME format.\r\n--=_{i:x}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\n{}\r\n{}\r\n--=_{i:x}\r\n\
             Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=\"part{i}.bin\"\r\n\r\n",
            line(0),
            line(1),
        );
        let start = rng.below(self.base64.len());
        for k in 0.. {
            if s.len() >= size {
                break;
            }
            s.push_str(&self.base64[(start + k) % self.base64.len()]);
            s.push_str("\r\n");
        }
        let _ = write!(s, "--=_{i:x}--\r\n");
        s.into_bytes()
    }
}

/// A small message with this Message-ID, subject and text.
pub fn simple(id: &str, subject: &str, text: &str) -> Vec<u8> {
    format!(
        "From: a@example.org\r\nTo: b@example.org\r\nSubject: {subject}\r\n\
         Date: Mon, 01 Feb 2021 10:00:00 +0000\r\nMessage-ID: {id}\r\n\r\n{text}"
    )
    .into_bytes()
}

/// What breaks mail programs, each with its name. Free of what the servers here would change
/// themselves: NUL, and CR before a line end.
pub fn odd() -> Vec<(&'static str, Vec<u8>)> {
    let long = |n: usize| "x".repeat(n);
    let big = simple("<big@odd.example>", "big", &"0123456789abcdef\r\n".repeat(80_000));
    vec![
        ("bare LF", b"From: a@example.org\nSubject: bare\nMessage-ID: <lf@odd>\n\nx\ny\n".into()),
        ("mixed ends", b"Subject: mixed\r\nMessage-ID: <mix@odd>\r\n\r\none\ntwo\r\nthree".into()),
        ("bare CR", simple("<cr@odd>", "cr", "one\rtwo\rthree\r\n")),
        ("long line", simple("<long@odd>", "long", &format!("{}\r\n", long(200_000)))),
        ("long header", {
            let mut m = format!("Subject: s\r\nX-Long: {}\r\n", long(90_000)).into_bytes();
            m.extend(simple("<longhead@odd>", "long header", "text\r\n"));
            m
        }),
        ("empty body", simple("<empty@odd>", "empty body", "")),
        ("no empty line", b"From: a@example.org\r\nMessage-ID: <noline@odd>\r\n".into()),
        ("no headers", b"\r\njust text without any header\r\n".into()),
        ("only text", b"text that is no header at all\r\nand more\r\n".into()),
        ("one byte", b"x".into()),
        ("line of dots", simple("<dots@odd>", "dots", ".\r\n..\r\n...\r\n.x\r\n")),
        ("From lines", simple("<from@odd>", "from", "From x\r\n>From y\r\n")),
        ("8-bit rubbish", {
            let mut m = simple("<eight@odd>", "8 bit", "");
            m.extend((1u8..=255).filter(|b| !b"\r\n".contains(b)));
            m.extend(b"\r\n");
            m
        }),
        ("8-bit header", {
            let mut m = b"Subject: gr\xfc\xdfe\r\n".to_vec();
            m.extend(simple("<eighthead@odd>", "second subject", "text\r\n"));
            m
        }),
        ("no final line end", simple("<noend@odd>", "no end", "text without line end")),
        ("looks like IMAP", simple("<imap@odd>", "imap", ")\r\na OK done\r\n* 1 EXPUNGE\r\n")),
        ("literal inside", simple("<lit@odd>", "literal", "a {10}\r\nb {3+}\r\n")),
        ("same id, one", simple("<same@odd>", "one", "one of two\r\n")),
        ("same id, two", simple("<same@odd>", "two", "two of two\r\n")),
        ("same id, same size", simple("<same@odd>", "one", "two of one\r\n")),
        ("equal copy", simple("<copy@odd>", "copy", "equal\r\n")),
        ("equal copy again", simple("<copy@odd>", "copy", "equal\r\n")),
        ("two ids", {
            let mut m = b"Message-ID: <first@odd>\r\n".to_vec();
            m.extend(simple("<second@odd>", "two ids", "text\r\n"));
            m
        }),
        ("folded id", b"Message-ID:\r\n <folded@odd>\r\nSubject: f\r\n\r\ntext\r\n".into()),
        ("reader headers", {
            let mut m = b"Status: RO\r\nX-Status: A\r\nContent-Length: 6\r\nLines: 1\r\n".to_vec();
            m.extend(simple("<status@odd>", "status", "text\r\n"));
            m
        }),
        ("big", big),
    ]
}

/// Unix time as a `Date` field has it, in UTC.
pub fn rfc2822(t: i64) -> String {
    jiff::Timestamp::from_second(t)
        .expect("in range")
        .to_zoned(jiff::tz::TimeZone::UTC)
        .strftime("%a, %d %b %Y %H:%M:%S +0000")
        .to_string()
}
