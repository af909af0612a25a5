//! Reading messages: a stream of pipelined commands, and nothing kept in memory but the bytes at
//! hand.

use super::client::{Session, refused};
use super::protocol::{Event, Expected, Number};
use crate::error::{Error, Kind, Result, Scope};

/// Takes messages as they come. Each is `begin`, any number of `data`, then `end`; or `failed`
/// alone, or `failed` after some `data`, which must then be thrown away. An error from the sink
/// ends the session, since what is under way cannot be called back.
#[allow(async_fn_in_trait)]
pub trait MessageSink {
    /// A message begins.
    async fn begin(&mut self, number: Number) -> Result<()>;
    /// Its next bytes, as sent (CRLF), without the dots of the transport.
    async fn data(&mut self, bytes: &[u8]) -> Result<()>;
    /// It is complete.
    async fn end(&mut self) -> Result<()>;
    /// This message cannot be had. The others go on, unless the session is over.
    async fn failed(&mut self, number: Number, error: Error) -> Result<()>;
}

/// A message to be retrieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its number in this session.
    pub number: Number,
    /// Its size in bytes by LIST, where that is known. Another size is no error.
    pub size: Option<u64>,
}

/// Commands that are sent before the answers to those before came: enough to fill the way to a
/// server far away, and little enough (some 10 KB) for it to hold.
const WINDOW: usize = 1000;
/// Bytes of messages that are under way, where they are known: what a session that breaks wastes.
const IN_FLIGHT: u64 = 32 << 20;
/// A message may be larger than announced, by so much beyond twice.
const SPARE: u64 = 16 << 20;
/// The largest message of a server that announces no sizes.
const UNANNOUNCED: u64 = 4 << 30;
/// What is kept of a header.
const HEADER: usize = 1 << 20;
/// What is read of a header: a server may take no notice of the 0 in TOP, and send all.
const MOST_OF_TOP: u64 = 256 << 20;

impl Session {
    /// The bytes of the messages, each once and in this order.
    ///
    /// A server that does not double the dots at the beginnings of lines seems to end a message at
    /// a line with nothing but a dot. Where the size is not as announced, the message `end`s only
    /// when what follows is an answer, and not the rest of its text: for the last one, NOOP is
    /// asked. Otherwise it `failed`, and the session is over.
    pub async fn retr<S: MessageSink>(&mut self, wanted: &[Wanted], sink: &mut S) -> Result<()> {
        self.alive()?;
        let done = self.retrieve(wanted, sink).await;
        done.map_err(|e| self.wire.fail(e))
    }

    async fn retrieve<S: MessageSink>(&mut self, wanted: &[Wanted], sink: &mut S) -> Result<()> {
        let window = if self.caps.pipelining { WINDOW } else { 1 };
        let mut to_ask = wanted.iter().peekable();
        let mut in_flight = 0;
        let mut unproven: Option<Number> = None;
        for one in wanted {
            let Wanted { number, size } = *one;
            let mut came = 0;
            loop {
                while let Some(next) = to_ask.peek() {
                    let (under_way, adds) = (self.wire.outstanding(), next.size.unwrap_or(0));
                    let fits = under_way < window && in_flight + adds <= IN_FLIGHT;
                    if !fits && under_way > 0 {
                        break;
                    }
                    in_flight += adds;
                    // Nothing has a size of 0: such a server does not know.
                    let announced = next.size.filter(|size| *size > 0);
                    let most = announced
                        .map_or(UNANNOUNCED, |size| size.saturating_mul(2).saturating_add(SPARE));
                    let command = format!("RETR {}", next.number);
                    self.wire.send(command.as_bytes(), Expected::Message(most));
                    to_ask.next();
                }
                let event = match self.next().await {
                    Ok(event) => event,
                    Err(e) => {
                        // it may be the message that the server cannot say
                        if let Some(number) = unproven {
                            sink.failed(number, cut(number, &e)).await?;
                        } else {
                            let e = Error { scope: Scope::Message, ..e.clone() };
                            sink.failed(number, e.at(format!("message {number}"))).await?;
                        }
                        return Err(e);
                    }
                };
                // Whatever it is, it is an answer.
                if unproven.take().is_some() {
                    sink.end().await?;
                }
                match event {
                    Event::Begin => {
                        sink.begin(number).await?;
                    }
                    Event::Data(range) => {
                        came += range.len() as u64;
                        sink.data(self.wire.bytes(range)).await?;
                    }
                    Event::End => {
                        if size == Some(came) {
                            sink.end().await?;
                        } else {
                            unproven = Some(number);
                        }
                        break;
                    }
                    Event::Answer(answer) => {
                        let command = format!("RETR {number}");
                        sink.failed(number, refused(Scope::Message, &command, &answer)).await?;
                        break;
                    }
                    _ => return Err(self.confused()),
                }
            }
            in_flight = in_flight.saturating_sub(size.unwrap_or(0));
        }
        let Some(number) = unproven else { return Ok(()) };
        match self.noop().await {
            Err(e) if e.kind != Kind::Refused => {
                sink.failed(number, cut(number, &e)).await?;
                Err(e)
            }
            _ => sink.end().await,
        }
    }

    /// TOP with no lines of the body: the header of each message, up to 1 MiB of it, in this
    /// order. An error from `each` ends the session.
    pub async fn top(
        &mut self,
        numbers: &[Number],
        each: &mut impl FnMut(Number, Result<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        self.alive()?;
        let done = self.headers(numbers, each).await;
        done.map_err(|e| self.wire.fail(e))
    }

    async fn headers(
        &mut self,
        numbers: &[Number],
        each: &mut impl FnMut(Number, Result<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let window = if self.caps.pipelining { WINDOW } else { 1 };
        let mut to_ask = numbers.iter();
        let mut header = Vec::new();
        for number in numbers {
            header.clear();
            loop {
                if self.wire.outstanding() <= window / 2 {
                    for next in to_ask.by_ref().take(window - self.wire.outstanding()) {
                        let command = format!("TOP {next} 0");
                        self.wire.send(command.as_bytes(), Expected::Message(MOST_OF_TOP));
                    }
                }
                match self.next().await? {
                    Event::Begin => {}
                    Event::Data(range) => {
                        let room = HEADER.saturating_sub(header.len());
                        let bytes = self.wire.bytes(range);
                        header.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                    }
                    Event::End => {
                        each(*number, Ok(&header))?;
                        break;
                    }
                    Event::Answer(answer) => {
                        let command = format!("TOP {number} 0");
                        each(*number, Err(refused(Scope::Message, &command, &answer)))?;
                        break;
                    }
                    _ => return Err(self.confused()),
                }
            }
        }
        Ok(())
    }
}

/// The error of a message whose end nothing proves.
fn cut(number: Number, e: &Error) -> Error {
    if e.kind != Kind::Protocol {
        let e = Error { scope: Scope::Message, ..e.clone() };
        return e.at(format!("message {number}"));
    }
    Error::message(
        Kind::Protocol,
        format!(
            "message {number} seems to end at a line with a lone dot, which the server did not \
             double ({})",
            e.what
        ),
    )
    .next("read this message by webmail or IMAP; it was not kept, since it would be cut short")
}
