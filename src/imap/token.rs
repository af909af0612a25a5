//! The tokens of IMAP responses (RFC 9051 section 9): atoms, strings, numbers, lists, sets. Pure.
//!
//! Lenient where servers are (8-bit atoms, bare LF after a literal's size), never where bytes would
//! be taken for something they are not. `None` means unreadable; nothing here panics, recurses, or
//! allocates by what a number claims.

use std::borrow::Cow;

use crate::model::{Uid, UidSet};

/// The deepest nesting of parentheses that is read (Dovecot's own limit for BODYSTRUCTURE is 100).
const DEEPEST: u32 = 128;

/// A place in a response.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// At the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn advance(&mut self, n: usize) -> Option<&'a [u8]> {
        let (a, b) = self.rest.split_at_checked(n)?;
        self.rest = b;
        Some(a)
    }

    /// Takes this byte, if it is next.
    pub fn eat(&mut self, b: u8) -> bool {
        let is = self.peek() == Some(b);
        if is {
            self.advance(1);
        }
        is
    }

    /// Passes over spaces. Some servers put two, or one before a closing parenthesis.
    pub fn spaces(&mut self) {
        while self.eat(b' ') {}
    }

    /// An atom, or anything that stands where one does: up to a space, a parenthesis, a quote, a
    /// line end. Not empty.
    pub fn atom(&mut self) -> Option<&'a [u8]> {
        let n = self.run(|b| !matches!(b, b' ' | b'(' | b')' | b'"' | b'\r' | b'\n' | 0));
        if n == 0 { None } else { self.advance(n) }
    }

    /// The name of a FETCH item, without its section: `BODY` of `BODY[]<0>`.
    pub fn item_name(&mut self) -> Option<&'a [u8]> {
        let n = self.run(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if n == 0 { None } else { self.advance(n) }
    }

    /// What is between `[` and `]`, if that is next; `Some(None)` if something else is. Quoted
    /// strings inside may hold a `]`.
    pub fn section(&mut self) -> Option<Option<&'a [u8]>> {
        if self.peek() != Some(b'[') {
            return Some(None);
        }
        let n = close_bracket(self.rest)?;
        let inside = self.rest.get(1..n)?;
        self.advance(n + 1)?;
        Some(Some(inside))
    }

    fn run(&self, good: impl Fn(u8) -> bool) -> usize {
        self.rest.iter().position(|b| !good(*b)).unwrap_or(self.rest.len())
    }

    /// A number that fits.
    pub fn number(&mut self) -> Option<u64> {
        let n = self.run(|b| b.is_ascii_digit());
        number(self.advance(n)?)
    }

    /// A quoted string or a literal.
    pub fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        match self.peek()? {
            b'"' => self.quoted(),
            b'{' => self.literal(),
            b'~' if self.rest.get(1) == Some(&b'{') => {
                self.advance(1);
                self.literal()
            }
            _ => None,
        }
    }

    /// A string, or `Some(None)` for NIL.
    pub fn nstring(&mut self) -> Option<Option<Cow<'a, [u8]>>> {
        if matches!(self.peek()?, b'"' | b'{' | b'~') {
            return self.string().map(Some);
        }
        self.atom()?.eq_ignore_ascii_case(b"NIL").then_some(None)
    }

    /// A string or an atom.
    pub fn astring(&mut self) -> Option<Cow<'a, [u8]>> {
        match self.peek()? {
            b'"' | b'{' => self.string(),
            _ => self.atom().map(Cow::Borrowed),
        }
    }

    fn quoted(&mut self) -> Option<Cow<'a, [u8]>> {
        self.advance(1)?;
        let end = memchr::memchr2(b'"', b'\\', self.rest)?;
        if self.rest.get(end) == Some(&b'"') {
            let s = self.advance(end)?;
            self.advance(1);
            return one_line(s).then_some(Cow::Borrowed(s));
        }
        let mut out = Vec::new();
        loop {
            let n = memchr::memchr2(b'"', b'\\', self.rest)?;
            out.extend_from_slice(self.advance(n)?);
            if self.eat(b'"') {
                return one_line(&out).then_some(Cow::Owned(out));
            }
            self.advance(1)?;
            out.extend_from_slice(self.advance(1)?);
        }
    }

    fn literal(&mut self) -> Option<Cow<'a, [u8]>> {
        self.advance(1)?;
        let n = self.number()?;
        self.eat(b'+');
        if !self.eat(b'}') {
            return None;
        }
        self.eat(b'\r');
        if !self.eat(b'\n') {
            return None;
        }
        self.advance(usize::try_from(n).ok()?).map(Cow::Borrowed)
    }

    /// Passes over one value of any kind, however nested.
    pub fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0u32;
        loop {
            match self.peek()? {
                b'(' => {
                    depth += 1;
                    self.advance(1);
                    if depth > DEEPEST {
                        return None;
                    }
                }
                b')' if depth > 0 => {
                    depth -= 1;
                    self.advance(1);
                }
                b' ' if depth > 0 => self.spaces(),
                b'"' | b'{' => {
                    self.string()?;
                }
                _ => {
                    self.atom()?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// A list of atoms in parentheses: flags, attributes.
    pub fn atoms(&mut self) -> Option<Vec<&'a [u8]>> {
        let mut out = Vec::new();
        self.each_atom(|a| out.push(a))?;
        Some(out)
    }

    /// The same, one after the other.
    pub fn each_atom(&mut self, mut f: impl FnMut(&'a [u8])) -> Option<()> {
        if !self.eat(b'(') {
            return None;
        }
        loop {
            self.spaces();
            if self.eat(b')') {
                return Some(());
            }
            f(self.atom()?);
        }
    }
}

fn one_line(s: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, s).is_none()
}

/// Where the `]` is that closes the `[` at the beginning.
fn close_bracket(b: &[u8]) -> Option<usize> {
    let mut i = 1;
    loop {
        i += memchr::memchr2(b']', b'"', b.get(i..)?)?;
        if b.get(i) == Some(&b']') {
            return Some(i);
        }
        i += 1;
        loop {
            i += memchr::memchr2(b'"', b'\\', b.get(i..)?)?;
            if b.get(i) == Some(&b'"') {
                break;
            }
            i += 2;
        }
        i += 1;
    }
}

/// A decimal number of nothing but digits that fits into 64 bits.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, b| {
        let d = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(d)
    })
}

/// A decimal number that fits into 32 bits.
pub fn number32(digits: &[u8]) -> Option<u32> {
    number(digits).and_then(|n| u32::try_from(n).ok())
}

/// A set of UIDs as a server writes one: no `*`, no 0. The ranges in the order given, each with its
/// smaller end first.
pub fn uid_ranges(set: &[u8]) -> Option<Vec<(Uid, Uid)>> {
    let uid = |b| number32(b).and_then(Uid::new);
    set.split(|b| *b == b',')
        .map(|part| match part.iter().position(|b| *b == b':') {
            None => uid(part).map(|u| (u, u)),
            Some(i) => {
                let a = uid(part.get(..i)?)?;
                let b = uid(part.get(i + 1..)?)?;
                Some((a.min(b), a.max(b)))
            }
        })
        .collect()
}

/// The same as a set. Sorted first: ranges in a hostile order must not cost quadratic time.
pub fn uid_set(set: &[u8]) -> Option<UidSet> {
    uid_ranges(set).map(collect_ranges)
}

/// A set from ranges in any order.
pub fn collect_ranges(mut ranges: Vec<(Uid, Uid)>) -> UidSet {
    ranges.sort_unstable();
    let mut out = UidSet::new();
    for (a, b) in ranges {
        out.insert_range(a, b);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_of_all_kinds() {
        let mut c = Cursor::new(b"\"a\\\"b\\\\\" {3}\r\n\"\r\n ~{2}\r\n\0x NIL atom \"\"");
        assert_eq!(c.string().unwrap().as_ref(), b"a\"b\\");
        c.spaces();
        assert_eq!(c.string().unwrap().as_ref(), b"\"\r\n");
        c.spaces();
        assert_eq!(c.nstring().unwrap().unwrap().as_ref(), b"\0x");
        c.spaces();
        assert_eq!(c.nstring(), Some(None));
        c.spaces();
        assert_eq!(c.astring().unwrap().as_ref(), b"atom");
        c.spaces();
        assert_eq!(c.string().unwrap().as_ref(), b"");
        assert!(c.at_end());
    }

    #[test]
    fn a_literal_longer_than_the_frame_is_unreadable() {
        for s in ["{5}\r\nabc", "{99999999999999999999999}\r\n", "{18446744073709551615}\r\n", "{}"]
        {
            assert_eq!(Cursor::new(s.as_bytes()).string(), None, "{s}");
        }
    }

    #[test]
    fn deep_nesting_is_unreadable_and_no_stack() {
        let deep = vec![b'('; 1_000_000];
        assert_eq!(Cursor::new(&deep).skip_value(), None);
        let mut c = Cursor::new(b"((a \"b)\" {1}\r\n)) NIL) x");
        assert_eq!(c.skip_value(), Some(()));
        assert_eq!(c.rest(), b" x");
    }

    #[test]
    fn sets() {
        let s = uid_set(b"7,1:3,9:8").unwrap();
        assert_eq!(s.to_string(), "1:3,7:9");
        for bad in ["", "0", "1:", "*", "1:*", "4294967296", "1,,2", "1 2", "-1"] {
            assert_eq!(uid_set(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_hostile_order_costs_no_quadratic_time() {
        let text: Vec<String> = (1..200_000u32).rev().map(|n| (n * 2).to_string()).collect();
        let set = uid_set(text.join(",").as_bytes()).unwrap();
        assert_eq!(set.len(), 199_999);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(b in prop::collection::vec(any::<u8>(), 0..80)) {
            let c = Cursor::new(&b);
            let _ = (c.clone().string(), c.clone().nstring(), c.clone().astring());
            let _ = (c.clone().section(), c.clone().atoms(), c.clone().number());
            let _ = c.clone().skip_value();
            let _ = uid_set(&b);
        }

        #[test]
        fn brackets_and_quotes(b in prop::collection::vec(
            prop::sample::select(&b"[]\"\\a(){}1\r\n "[..]), 0..30)) {
            let mut c = Cursor::new(&b);
            let before = c.rest().len();
            if let Some(Some(s)) = c.section() {
                prop_assert_eq!(before, c.rest().len() + s.len() + 2);
            }
            let _ = Cursor::new(&b).skip_value();
        }
    }
}
