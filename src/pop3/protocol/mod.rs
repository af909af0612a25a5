//! The POP3 line machine: what was asked and the bytes that came go in, typed replies come out.
//! Pure, and indifferent to how the bytes were cut on their way.
//!
//! A caller says with [`Machine::expect`] what each command waits for, in the order that it sends
//! them, and calls [`Machine::step`] with all bytes that came and were not used yet. Everything
//! that a server can make longer is bounded here: lines, listings, capabilities, messages.

mod body;
mod capabilities;
mod listing;
mod reply;
mod violation;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

pub use capabilities::{Capabilities, Expire, LoginDelay};
pub use listing::{Number, Stat, Uidl, Uidls};
pub use reply::{Answer, Code};
pub use violation::Violation;

use body::{Body, Part};
use listing::{Bounds, Entries};

/// The longest line of an answer or a listing that is taken, in bytes without its LF. RFC 1939
/// section 3 allows 512; capabilities and error texts are longer in the field.
pub const LONGEST_LINE: usize = 8 * 1024;

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The greeting, and every command with an answer of one line.
    Answer,
    /// One step of AUTH: an answer, or a challenge.
    Auth,
    /// STAT.
    Stat,
    /// CAPA.
    Capabilities,
    /// UIDL without an argument.
    Uidls,
    /// LIST without an argument.
    Sizes,
    /// RETR or TOP: at most so many bytes, counted as they come.
    Message(u64),
}

/// A piece of a reply. Bytes are given by their place in the input of that step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole reply: +OK or -ERR. To what has more than one line it is -ERR only.
    Answer(Answer),
    /// The server waits for the next step of AUTH. The bytes after "+ ".
    Challenge(Vec<u8>),
    /// The whole reply to STAT.
    Stat(Stat),
    /// The whole reply to CAPA.
    Capabilities(Capabilities),
    /// The whole reply to UIDL, in order of numbers.
    Uidls(Vec<(Number, Option<Uidl>)>),
    /// The whole reply to LIST, in order of numbers: sizes in bytes.
    Sizes(Vec<(Number, u64)>),
    /// A message follows: any number of `Data`, then `End`.
    Begin,
    /// Its next bytes.
    Data(Range<usize>),
    /// The end of the message, and of the reply.
    End,
}

/// What one step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// So many bytes at the beginning of the input are done with.
    pub used: usize,
    /// What they said. Nothing used and nothing said: it takes more bytes.
    pub event: Option<Event>,
}

/// The client's side of the conversation.
#[derive(Debug, Default)]
pub struct Machine {
    expected: VecDeque<Expected>,
    open: Option<Open>,
    /// What STAT said last: how long listings may be.
    messages: Option<u32>,
}

/// A reply of several lines that has begun.
#[derive(Debug)]
enum Open {
    Capabilities(Capabilities),
    Uidls(Entries<Option<Uidl>>),
    Sizes(Entries<u64>),
    Message(Body),
}

impl Machine {
    /// Another command was sent.
    pub fn expect(&mut self, what: Expected) {
        self.expected.push_back(what);
    }

    /// How many replies are still to come to their end.
    pub fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// Reads on. `input` is everything that came and was not used.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Violation> {
        match &mut self.open {
            None => self.first_line(input),
            Some(Open::Message(body)) => {
                let (used, part) = body.step(input)?;
                let event = match part {
                    Part::More => None,
                    Part::Data(range) => Some(Event::Data(range)),
                    Part::End => Some(self.close(Event::End)),
                };
                Ok(Step { used, event })
            }
            Some(_) => self.lines(input),
        }
    }

    /// The line that every reply begins with.
    fn first_line(&mut self, input: &[u8]) -> Result<Step, Violation> {
        let Some(line) = line(input)? else { return Ok(Step { used: 0, event: None }) };
        let Some(expected) = self.expected.front().copied() else {
            return Err(Violation::Unasked(line.text.to_vec()));
        };
        let used = line.used;
        if expected == Expected::Auth
            && let Some(challenge) = reply::challenge(line.text)
        {
            return Ok(Step { used, event: Some(self.close(Event::Challenge(challenge))) });
        }
        let answer =
            reply::parse(line.text).ok_or_else(|| Violation::NoAnswer(line.text.to_vec()))?;
        let bounds = Bounds::new(self.messages);
        let open = match expected {
            _ if !answer.ok => None,
            Expected::Answer | Expected::Auth => None,
            Expected::Stat => {
                let stat = Stat::parse(&answer.text)
                    .ok_or_else(|| Violation::BadStat(answer.text.clone()))?;
                self.messages = Some(stat.messages);
                return Ok(Step { used, event: Some(self.close(Event::Stat(stat))) });
            }
            Expected::Capabilities => Some(Open::Capabilities(Capabilities::begun())),
            Expected::Uidls => Some(Open::Uidls(Entries::new(bounds))),
            Expected::Sizes => Some(Open::Sizes(Entries::new(bounds))),
            Expected::Message(most) => {
                self.open = Some(Open::Message(Body::new(most, line.bare_lf)));
                return Ok(Step { used, event: Some(Event::Begin) });
            }
        };
        match open {
            None => Ok(Step { used, event: Some(self.close(Event::Answer(answer))) }),
            open => {
                self.open = open;
                Ok(Step { used, event: None })
            }
        }
    }

    /// The other lines of a reply that is kept whole.
    fn lines(&mut self, input: &[u8]) -> Result<Step, Violation> {
        let mut used = 0;
        while let Some(line) = line(input.get(used..).unwrap_or_default())? {
            used += line.used;
            if line.text == b"." {
                let event = match self.open.take() {
                    Some(Open::Capabilities(c)) => Event::Capabilities(c),
                    Some(Open::Uidls(entries)) => Event::Uidls(entries.finish()?),
                    Some(Open::Sizes(entries)) => Event::Sizes(entries.finish()?),
                    Some(Open::Message(_)) | None => return Err(Violation::Unasked(Vec::new())),
                };
                return Ok(Step { used, event: Some(self.close(event)) });
            }
            match &mut self.open {
                Some(Open::Capabilities(c)) => c.add(line.text)?,
                Some(Open::Uidls(e)) => e.add(line.text, listing::uidl)?,
                Some(Open::Sizes(e)) => e.add(line.text, listing::size)?,
                Some(Open::Message(_)) | None => {}
            }
        }
        Ok(Step { used, event: None })
    }

    fn close(&mut self, event: Event) -> Event {
        self.open = None;
        self.expected.pop_front();
        event
    }
}

/// A complete line.
struct Line<'a> {
    /// Without its end.
    text: &'a [u8],
    /// With its end.
    used: usize,
    /// It ended in LF alone.
    bare_lf: bool,
}

/// The line that the input begins with, if it is complete.
fn line(input: &[u8]) -> Result<Option<Line<'_>>, Violation> {
    let searched = input.get(..LONGEST_LINE + 1).unwrap_or(input);
    let Some(end) = memchr::memchr(b'\n', searched) else {
        return if input.len() > LONGEST_LINE { Err(Violation::LongLine) } else { Ok(None) };
    };
    let text = input.get(..end).unwrap_or_default();
    let (text, bare_lf) = match text.strip_suffix(b"\r") {
        Some(text) => (text, false),
        None => (text, true),
    };
    Ok(Some(Line { text, used: end + 1, bare_lf }))
}
