//! Where one server response ends: its line and all literals in it, within bounds. Pure; it never
//! looks at a byte twice, however small the pieces the bytes come in.

use crate::error::{Error, Kind, Result};

/// What one response may cost. A server that exceeds a bound gets an error, not memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All bytes outside of literals.
    pub line: usize,
    /// One literal.
    pub literal: usize,
    /// How many literals.
    pub literals: usize,
    /// Everything together.
    pub frame: usize,
}

impl Limits {
    /// The most that [`Limits::line`] can be set to: FETCH, SEARCH and VANISHED lines of large
    /// folders are long, but not longer than this.
    pub const LINE_MAX: usize = 16 * 1024 * 1024;

    /// For commands that fetch bodies: literals of at most `literal` bytes.
    pub fn with_literal(mut self, literal: usize) -> Self {
        self.literal = literal;
        self.frame = self.line.saturating_add(literal.saturating_mul(2));
        self
    }

    /// For commands whose answer is one long line.
    pub fn with_line(mut self, line: usize) -> Self {
        self.line = line.min(Self::LINE_MAX);
        self.frame = self.frame.max(self.line.saturating_add(self.literal));
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 1024 * 1024, literal: 64 * 1024, literals: 1024, frame: 2 * 1024 * 1024 }
    }
}

/// What is known about the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first so many bytes are one complete response.
    Frame(usize),
    /// It is incomplete, and will be at least so many bytes long.
    Need(usize),
}

/// Follows one response through its line and literals. All positions count from its first byte.
#[derive(Debug, Clone, Default)]
pub struct Scanner {
    /// The next byte to look at; inside a literal, the byte after it.
    at: usize,
    /// Where the present piece of line starts.
    piece: usize,
    /// Bytes of line in the pieces before.
    line: usize,
    literals: usize,
    text: bool,
}

impl Scanner {
    /// Goes on with `bytes`, the response from its start on and whatever follows. After
    /// [`Step::Frame`] it is ready for the next response.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Step> {
        loop {
            let fresh = match bytes.get(self.at..) {
                Some(fresh) => fresh,
                // Inside a literal: at least the line end comes after it.
                None => return Ok(Step::Need(self.at + 2)),
            };
            let Some(found) = memchr::memchr(b'\n', fresh) else {
                self.check_line(limits, bytes.len())?;
                self.at = bytes.len();
                return Ok(Step::Need(bytes.len() + 1));
            };
            let end = self.at + found + 1;
            self.check_line(limits, end)?;
            self.at = end;
            let piece = bytes.get(self.piece..end).unwrap_or_default();
            // A bare LF ends nothing (RFC 9051 §2.2), nor one whose CR belongs to a literal.
            let Some(piece) = piece.strip_suffix(b"\r\n") else { continue };
            if self.literals == 0 {
                self.text = is_text(piece);
            }
            match if self.text { None } else { literal_size(piece)? } {
                None => {
                    *self = Self::default();
                    return Ok(Step::Frame(end));
                }
                Some(size) => self.enter_literal(end, size, limits)?,
            }
        }
    }

    fn enter_literal(&mut self, end: usize, size: u64, limits: &Limits) -> Result<()> {
        self.literals += 1;
        if self.literals > limits.literals {
            return Err(broken(format!(
                "the server sent more than {} literals in one response",
                limits.literals
            )));
        }
        let size =
            usize::try_from(size).ok().filter(|s| *s <= limits.literal).ok_or_else(|| {
                broken(format!(
                    "the server announced a literal of {size} bytes where {} are the most expected",
                    limits.literal
                ))
            })?;
        self.line += end - self.piece;
        self.at = end + size;
        self.piece = self.at;
        if self.at > limits.frame {
            return Err(broken(format!("the server sent a response over {} bytes", limits.frame)));
        }
        Ok(())
    }

    fn check_line(&self, limits: &Limits, end: usize) -> Result<()> {
        if self.line + end.saturating_sub(self.piece) > limits.line || end > limits.frame {
            return Err(broken(format!("the server sent a line over {} bytes", limits.line)));
        }
        Ok(())
    }
}

/// The response as it may stand in a log: literals as their sizes, cut where it gets long.
pub fn for_log(frame: &[u8]) -> String {
    const LONGEST: usize = 1000;
    let mut out = String::new();
    let mut rest = frame;
    let mut first = true;
    let mut text = false;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        let piece = line.strip_suffix(b"\r\n");
        text |= first && piece.is_some_and(is_text);
        first = false;
        out.push_str(&line.strip_suffix(b"\r\n").unwrap_or(line).escape_ascii().to_string());
        if let Some(Ok(Some(size))) = piece.filter(|_| !text).map(literal_size) {
            rest = usize::try_from(size).ok().and_then(|s| rest.get(s..)).unwrap_or_default();
        }
        if out.len() > LONGEST {
            // escape_ascii leaves ASCII only, so that any index is a boundary.
            out.truncate(LONGEST);
            out.push('…');
            break;
        }
    }
    out
}

/// Whether the response ends in free text, where "{5}" means nothing: continuation requests and
/// status responses, tagged or not (RFC 9051 §7.1).
fn is_text(line: &[u8]) -> bool {
    // No tag has a "+" in it, so that a missing space changes nothing.
    if line.starts_with(b"+") {
        return true;
    }
    let mut words = line.splitn(3, |b| *b == b' ').skip(1);
    let word = words.next().unwrap_or_default();
    [&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// The literal that a line ends in, `{n}` or `~{n}` (RFC 9051 §4.3).
fn literal_size(line: &[u8]) -> Result<Option<u64>> {
    let Some(inner) = line.strip_suffix(b"}") else { return Ok(None) };
    let Some(open) = memchr::memrchr(b'{', inner) else { return Ok(None) };
    let digits = inner.get(open + 1..).unwrap_or_default();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok(None);
    }
    let size = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
    size.map(Some).ok_or_else(|| broken("the server announced a literal larger than any file"))
}

fn broken(what: impl Into<String>) -> Error {
    Error::account(Kind::Protocol, what)
        .next("the connection was dropped; if it happens again, report it with a log made by -vv")
}

#[cfg(test)]
mod tests;
