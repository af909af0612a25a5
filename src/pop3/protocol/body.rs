//! A message on the wire: its end, and the dots that were put before its lines (RFC 1939
//! section 3).
//!
//! What is not as the RFC has it is read so that no byte is lost:
//! - A line that begins with one dot and goes on otherwise comes from a server that stuffs no
//!   dots. It is kept as it is; the RFC would take the dot away.
//! - A line ends in LF, with or without a CR before it. Both are kept as they came.
//! - The end is a dot and CR LF. A dot and LF is the end only where the server ended the answer
//!   before it in a bare LF, too: else it may stand in a message.
//! - NUL and all other bytes are bytes.

use std::ops::Range;

use super::Violation;

/// A message that is being read.
#[derive(Debug)]
pub(super) struct Body {
    at_line_start: bool,
    /// Whether a dot and a bare LF is the end.
    bare_lf: bool,
    /// Bytes that may still come.
    left: u64,
}

/// What a step came to.
pub(super) enum Part {
    /// Nothing; it takes more bytes.
    More,
    /// Bytes of the message, at this place of the input.
    Data(Range<usize>),
    /// The end.
    End,
}

impl Body {
    /// At most `most` bytes long. `bare_lf`: the server's lines end in LF alone.
    pub(super) fn new(most: u64, bare_lf: bool) -> Self {
        Self { at_line_start: true, bare_lf, left: most }
    }

    /// How many bytes are used, and what they are.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<(usize, Part), Violation> {
        let mut from = 0;
        if self.at_line_start {
            match input {
                [] | [b'.'] | [b'.', b'\r'] => return Ok((0, Part::More)),
                [b'.', b'\r', b'\n', ..] => return Ok((3, Part::End)),
                [b'.', b'\n', ..] if self.bare_lf => return Ok((2, Part::End)),
                [b'.', b'.', ..] => from = 1,
                _ => {}
            }
        }
        let data = input.get(from..).unwrap_or_default();
        if data.is_empty() {
            return Ok((0, Part::More));
        }
        // Up to the next line that begins with a dot.
        let length = memchr::memmem::find(data, b"\n.").map_or(data.len(), |at| at + 1);
        self.at_line_start = data.get(length - 1) == Some(&b'\n');
        self.left = self.left.checked_sub(length as u64).ok_or(Violation::LongMessage)?;
        Ok((from + length, Part::Data(from..from + length)))
    }
}
