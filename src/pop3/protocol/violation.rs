//! What a server must not say. After any of these, what follows on the connection means nothing.

use std::fmt;

use super::{LONGEST_LINE, Number};
use crate::secret::printable;

/// How the server broke the protocol, or a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// It said this, and nothing was asked.
    Unasked(Vec<u8>),
    /// This stands where an answer should.
    NoAnswer(Vec<u8>),
    /// A line without an end.
    LongLine,
    /// This is no answer to STAT.
    BadStat(Vec<u8>),
    /// This is no line of a listing.
    BadListing(Vec<u8>),
    /// A listing has this message twice.
    Twice(Number),
    /// A listing has this message, which STAT did not count.
    OutOfRange(Number),
    /// A listing with more lines than there can be.
    LongListing,
    /// A message far larger than announced.
    LongMessage,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked(said) => write!(f, "spoke unasked: {:?}", printable(said)),
            Self::NoAnswer(said) => {
                write!(f, "sent {:?} where +OK or -ERR has to stand", printable(said))
            }
            Self::LongLine => write!(f, "sent a line of over {LONGEST_LINE} bytes"),
            Self::BadStat(said) => write!(f, "answered STAT with {:?}", printable(said)),
            Self::BadListing(said) => write!(f, "has {:?} in a listing", printable(said)),
            Self::Twice(number) => write!(f, "lists message {number} twice"),
            Self::OutOfRange(number) => {
                write!(f, "lists message {number}, and has not so many")
            }
            Self::LongListing => f.write_str("lists without end"),
            Self::LongMessage => f.write_str("sends a message far larger than it announced"),
        }
    }
}
