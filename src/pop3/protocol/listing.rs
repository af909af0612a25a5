//! STAT, LIST and UIDL (RFC 1939 sections 5 and 7): how many messages, how large, and their names.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;

use super::Violation;

/// A message's number. It means this message in this session only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(NonZeroU32);

impl Number {
    /// 1.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// None for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// From 1 on.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message's unique id: 1 to 512 bytes as the server gave them, not all of them blank. RFC 1939
/// allows 1 to 70 printable ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uidl(Box<[u8]>);

impl Uidl {
    /// The longest that is taken, in bytes.
    pub const LONGEST: usize = 512;

    /// None where the bytes are no id.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() <= Self::LONGEST && !bytes.trim_ascii().is_empty();
        fits.then(|| Self(bytes.into()))
    }

    /// As the server gave them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Uidl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uidl({})", self.0.escape_ascii())
    }
}

/// The reply to STAT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    /// How many messages there are.
    pub messages: u32,
    /// How large they are together, as far as the server's word goes.
    pub bytes: u64,
}

impl Stat {
    /// From the text of +OK. What follows the two numbers is passed over.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut words = words(text);
        Some(Self { messages: number(words.next()?)?, bytes: number(words.next()?)? })
    }
}

/// The messages' ids, as far as there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uidls {
    /// In order of numbers. None: this message's is blank or too long to be used.
    Known(Vec<(Number, Option<Uidl>)>),
    /// The server has no UIDL, and said this.
    Unsupported(String),
}

/// How long a listing may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    most: u32,
    highest: u32,
}

/// The most messages that are taken in a listing: what 300 MB of memory hold.
const MOST: u32 = 1_000_000;
/// The most bytes of a listing: a million lines with ids of 80 bytes.
const MOST_BYTES: usize = 96 << 20;
/// Messages beyond what STAT said: some servers let mail arrive in a session.
const ARRIVED: u32 = 100;

impl Bounds {
    /// `messages`: what STAT said, if it was asked.
    pub(super) fn new(messages: Option<u32>) -> Self {
        let most = messages.map_or(MOST, |n| n.saturating_add(ARRIVED));
        Self { most: most.min(MOST), highest: most }
    }
}

/// A listing that is being read.
#[derive(Debug)]
pub(super) struct Entries<T> {
    bounds: Bounds,
    bytes: usize,
    entries: Vec<(Number, T)>,
    /// Whether the numbers rose so far, as those of all known servers do.
    in_order: bool,
}

impl<T> Entries<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, bytes: 0, entries: Vec::new(), in_order: true }
    }

    /// Another line; `read` gives what follows the number and one blank.
    pub(super) fn add(
        &mut self,
        line: &[u8],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<(), Violation> {
        self.bytes += line.len();
        if self.bytes > MOST_BYTES || self.entries.len() as u64 >= u64::from(self.bounds.most) {
            return Err(Violation::LongListing);
        }
        let bad = || Violation::BadListing(line.to_vec());
        let line = line.trim_ascii_start();
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (digits, rest) = line.split_at_checked(end).ok_or_else(bad)?;
        let number = number(digits).and_then(Number::new).ok_or_else(bad)?;
        if number.get() > self.bounds.highest {
            return Err(Violation::OutOfRange(number));
        }
        let value = read(rest.get(1..).unwrap_or_default()).ok_or_else(bad)?;
        self.in_order &= self.entries.last().is_none_or(|(last, _)| *last < number);
        self.entries.push((number, value));
        Ok(())
    }

    /// In order of numbers, each once.
    pub(super) fn finish(self) -> Result<Vec<(Number, T)>, Violation> {
        let mut entries = self.entries;
        if !self.in_order {
            let mut seen = BTreeSet::new();
            if let Some((twice, _)) = entries.iter().find(|(n, _)| !seen.insert(*n)) {
                return Err(Violation::Twice(*twice));
            }
            entries.sort_by_key(|(number, _)| *number);
        }
        Ok(entries)
    }
}

/// The id in a line of UIDL: the rest of the line, byte for byte.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn uidl(rest: &[u8]) -> Option<Option<Uidl>> {
    Some(Uidl::new(rest))
}

/// The size in a line of LIST. RFC 1939 section 5 allows more to follow.
pub(super) fn size(rest: &[u8]) -> Option<u64> {
    number(words(rest).next()?)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty())
}

/// A decimal number of digits alone.
fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
