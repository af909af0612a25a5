//! The connection: commands out, replies in, within bounds of memory and time.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use zeroize::Zeroize;

use super::protocol::{Event, Expected, Machine};
use crate::error::{Error, Kind, Result};
use crate::net::{Endpoint, Stream, Timeouts};

/// A POP3 connection below the meaning of commands. After any error it is broken for good, and
/// every later call returns that error.
pub(super) struct Wire {
    stream: Stream,
    server: String,
    machine: Machine,
    /// Bytes received; those before `start` are done with.
    buf: Vec<u8>,
    start: usize,
    /// Bytes of the event handed out last: done with at the next call.
    used: usize,
    /// How much to read at once, by how much came the last time.
    chunk: usize,
    eof: bool,
    out: Vec<u8>,
    written: usize,
    silence: Duration,
    masked: bool,
    pace: Pace,
    broken: Option<Error>,
}

/// How fast the present reply comes.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    came: u64,
}

/// The read buffer of a connection on which little comes.
const IDLE: usize = 16 * 1024;
/// The most that is read at once, and about the most that is held.
const CHUNK: usize = 256 * 1024;
/// A reply that drips in slower than this (bytes a second) is given up, after a grace period.
const MIN_RATE: u64 = 256;
/// How many silences a reply may take in all before its rate counts.
const GRACE: u32 = 5;
/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

impl Wire {
    /// Takes over a stream from its first byte on.
    pub(super) fn new(stream: Stream, endpoint: &Endpoint, timeouts: &Timeouts) -> Self {
        Self {
            stream,
            server: endpoint.to_string(),
            machine: Machine::default(),
            buf: Vec::new(),
            start: 0,
            used: 0,
            chunk: IDLE,
            eof: false,
            out: Vec::new(),
            written: 0,
            silence: timeouts.silence,
            masked: false,
            pace: Pace::default(),
            broken: None,
        }
    }

    /// Expects a reply that no command asks for: the greeting.
    pub(super) fn expect(&mut self, what: Expected) {
        self.machine.expect(what);
    }

    /// Queues a command; it is sent while the next event is waited for.
    pub(super) fn send(&mut self, command: &[u8], expected: Expected) {
        if tracing::enabled!(tracing::Level::TRACE) {
            let verb = command.split(|b| *b == b' ').next().unwrap_or_default();
            let shown = if self.masked { verb } else { command };
            let hidden = if self.masked { " ***" } else { "" };
            tracing::trace!(server = %self.server, "> {}{hidden}", shown.escape_ascii());
        }
        self.queue(command, expected);
    }

    /// Queues the next step of AUTH, which is never shown.
    pub(super) fn send_secret(&mut self, line: &[u8]) {
        tracing::trace!(server = %self.server, "> … {} bytes", line.len());
        self.queue(line, Expected::Auth);
    }

    fn queue(&mut self, line: &[u8], expected: Expected) {
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(b"\r\n");
        self.machine.expect(expected);
    }

    /// How many replies are still to come to their end.
    pub(super) fn outstanding(&self) -> usize {
        self.machine.outstanding()
    }

    /// Whether bytes are here that nothing asked for.
    pub(super) fn speaks_unasked(&self) -> bool {
        self.machine.outstanding() == 0 && self.unread().len() > self.used
    }

    /// The next event. Sends what is queued on the way: whoever only wrote would wait for a
    /// server that waits for its own output to be taken.
    pub(super) async fn event(&mut self) -> Result<Event> {
        self.release();
        loop {
            if let Some(e) = &self.broken {
                return Err(e.clone());
            }
            let unread = self.buf.get(self.start..).unwrap_or_default();
            let step = match self.machine.step(unread) {
                Ok(step) => step,
                Err(violation) => {
                    // A secret that was echoed may be cut where it is shown, and be found no more.
                    let said = if self.masked {
                        "broke the protocol while logging in".to_owned()
                    } else {
                        violation.to_string()
                    };
                    let what = format!("{} {said}", self.server);
                    return Err(self.fail(Error::account(Kind::Protocol, what).next(
                        "check `host` and `port`; if they are right, report it with a log made by -vv",
                    )));
                }
            };
            match step.event {
                Some(event) => {
                    self.used = step.used;
                    if !matches!(event, Event::Begin | Event::Data(_)) {
                        self.pace = Pace::default();
                    }
                    self.trace(&event);
                    return Ok(event);
                }
                None if step.used > 0 => self.start += step.used,
                None => self.progress().await?,
            }
        }
    }

    /// The bytes of the event that was returned last.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.unread().get(range).unwrap_or_default()
    }

    /// Starts TLS in place. Whatever was received and not yet taken is an error.
    pub(super) async fn start_tls(&mut self, endpoint: &Endpoint, within: Duration) -> Result<()> {
        self.release();
        let left_over = self.unread().to_vec();
        let started = self.stream.start_tls(endpoint, &left_over, within).await;
        started.map_err(|e| self.fail(e))
    }

    /// Sends what is queued, and ends the connection, politely as far as TLS goes. Waits for
    /// nothing long.
    pub(super) async fn close(mut self) {
        let _ = timeout(FAREWELL, async {
            if self.broken.is_none() {
                let rest = self.out.get(self.written..).unwrap_or_default();
                self.stream.write_all(rest).await?;
            }
            self.stream.shutdown().await
        })
        .await;
    }

    /// While masked, the log has verbs only, and sent bytes are wiped.
    pub(super) fn set_masked(&mut self, masked: bool) {
        self.masked = masked;
    }

    /// Whether TLS is on.
    pub(super) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Breaks the connection for good: every later call returns `error`, or the one before it.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.broken.get_or_insert(error).clone()
    }

    /// The error that broke the connection.
    pub(super) fn broken(&self) -> Option<&Error> {
        self.broken.as_ref()
    }

    fn unread(&self) -> &[u8] {
        self.buf.get(self.start..).unwrap_or_default()
    }

    fn release(&mut self) {
        self.start += std::mem::take(&mut self.used);
        if self.start >= self.buf.len() {
            self.buf.clear();
            self.start = 0;
        }
    }

    fn trace(&self, event: &Event) {
        if !tracing::enabled!(tracing::Level::TRACE) {
            return;
        }
        match event {
            Event::Data(_) => {}
            Event::Answer(answer) if !self.masked => {
                let word = if answer.ok { "+OK" } else { "-ERR" };
                tracing::trace!(server = %self.server, "< {word} {}", answer.text.escape_ascii());
            }
            Event::Stat(_) | Event::Capabilities(_) => {
                tracing::trace!(server = %self.server, "< {event:?}");
            }
            _ => tracing::trace!(server = %self.server, "< … {} bytes", self.used),
        }
    }

    /// Waits until some bytes went either way.
    async fn progress(&mut self) -> Result<()> {
        let slow = Duration::from_secs(self.pace.came / MIN_RATE);
        if self.pace.waited > self.silence.saturating_mul(GRACE).saturating_add(slow) {
            let (came, took) = (self.pace.came, self.pace.waited.as_secs());
            return Err(self.lost(format!("sent {came} bytes of a reply in {took} s")));
        }
        let begun = Instant::now();
        let done = timeout(self.silence, poll_fn(|cx| self.poll_progress(cx))).await;
        self.pace.waited += begun.elapsed();
        match done {
            Err(_) => Err(self.lost(format!("was silent for {} s", self.silence.as_secs()))),
            Ok(Err(e)) => Err(self.lost(format!("broke the connection: {e}"))),
            Ok(Ok(())) if self.eof => Err(self.lost("closed the connection".to_owned())),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Writes what it can and reads what there is; ready after any progress.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        // A server that no longer takes anything may have said why: what it said is read first,
        // and the failure comes again.
        let mut failed = None;
        while let Some(rest) = self.out.get(self.written..).filter(|r| !r.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(n @ 1..)) => {
                    self.written += n;
                    moved = true;
                }
                Poll::Ready(Ok(0)) => failed = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(e)) => failed = Some(e),
                Poll::Pending => break,
            }
            if failed.is_some() {
                break;
            }
        }
        if !self.out.is_empty() && self.written == self.out.len() {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    if self.masked {
                        self.out.zeroize();
                    }
                    self.out.clear();
                    self.written = 0;
                    moved = true;
                }
                Poll::Ready(Err(e)) => failed = Some(e),
                Poll::Pending => {}
            }
        }
        self.make_room();
        let room = self.buf.capacity() - self.buf.len();
        let read = pin!(self.stream.read_buf(&mut self.buf)).poll(cx)?;
        if let Poll::Ready(n) = read {
            self.eof = n == 0;
            self.pace.came += n as u64;
            if n == room {
                self.chunk = (self.chunk * 2).min(CHUNK);
            }
            moved = true;
        }
        match failed {
            _ if moved => Poll::Ready(Ok(())),
            Some(e) => Poll::Ready(Err(e)),
            None => Poll::Pending,
        }
    }

    /// Makes room for the next read. What is unread is less than a line.
    fn make_room(&mut self) {
        if self.buf.capacity() - self.buf.len() >= self.chunk / 2 && self.buf.capacity() > 0 {
            return;
        }
        self.buf.drain(..self.start);
        self.start = 0;
        self.buf.reserve_exact(self.chunk);
    }

    fn lost(&mut self, what: String) -> Error {
        let e = Error::account(Kind::Connection, format!("{} {what}", self.server))
            .next("it is tried again by itself; if it goes on, check the network and the server");
        self.fail(e)
    }
}

#[cfg(test)]
mod tests;
