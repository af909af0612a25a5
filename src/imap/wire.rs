//! The connection: commands out, framed responses in, within bounds of memory and time.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use zeroize::Zeroize;

use super::frame::{self, Limits, Scanner, Step};
use crate::error::{Error, Kind, Result};
use crate::net::{Endpoint, Stream, Timeouts};

/// The tag of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u32);

impl Tag {
    /// The response after "tag SP", where this is the tag the response begins with.
    pub fn strip<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        frame.strip_prefix(self.to_string().as_bytes())?.strip_prefix(b" ")
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "M{}", self.0)
    }
}

/// An IMAP connection below the meaning of commands.
///
/// Every future here is cancel-safe: one that is dropped loses no byte in either direction. What
/// a half-done *command* means is for its caller, who has to end a session it abandons midway.
/// After any error the connection is broken for good, and every later call returns that error.
pub struct Connection {
    stream: Stream,
    server: String,
    /// Bytes received; those before `start` are done with.
    buf: Vec<u8>,
    start: usize,
    /// The length of the complete response at `start`, once known.
    complete: Option<usize>,
    /// Whether that response was handed out, and goes at the next call.
    handed_out: bool,
    scanner: Scanner,
    /// How long the present response will be at least.
    need: usize,
    /// How much to read at once, by how much came the last time.
    chunk: usize,
    eof: bool,
    out: Vec<u8>,
    written: usize,
    last_tag: u32,
    limits: Limits,
    silence: Duration,
    masked: bool,
    received: u64,
    sent: u64,
    greeting: String,
    broken: Option<Error>,
}

/// The read buffer of an idle connection.
const IDLE: usize = 16 * 1024;
/// The most that is read at once.
const CHUNK: usize = 256 * 1024;
/// A message is asked for in pieces of 8 MiB; a whole one with what stands around it.
const PIECE: usize = (8 << 20) + (1 << 20);
/// What may pile up unread while a write is under way.
const READ_AHEAD: usize = 1024 * 1024;
/// After so much quiet, buffers shrink.
const SETTLE: Duration = Duration::from_secs(1);
/// A response that drips in slower than this (bytes a second) is given up, after a grace period.
const MIN_RATE: u64 = 256;
/// How many silences a response may take in all before its rate counts.
const GRACE: u32 = 5;

impl Connection {
    /// Takes over a stream from its first byte on.
    pub fn new(stream: Stream, server: impl fmt::Display, timeouts: &Timeouts) -> Self {
        Self {
            stream,
            server: server.to_string(),
            buf: Vec::new(),
            start: 0,
            complete: None,
            handed_out: false,
            scanner: Scanner::default(),
            need: 0,
            chunk: IDLE,
            eof: false,
            out: Vec::new(),
            written: 0,
            last_tag: 0,
            limits: Limits::default(),
            silence: timeouts.silence,
            masked: false,
            received: 0,
            sent: 0,
            greeting: String::new(),
            broken: None,
        }
    }

    /// Queues `tag SP command CRLF` under the next tag. Nothing is sent before
    /// [`Connection::flush`] or [`Connection::frame`].
    pub fn queue(&mut self, command: &[u8]) -> Tag {
        let tag = self.start_command(command);
        self.out.extend_from_slice(b"\r\n");
        tag
    }

    /// Queues `tag SP command`, the line's end left to [`Connection::queue_raw`]: for commands
    /// with literals.
    pub fn start_command(&mut self, command: &[u8]) -> Tag {
        self.last_tag = self.last_tag.wrapping_add(1);
        let tag = Tag(self.last_tag);
        if tracing::enabled!(tracing::Level::TRACE) {
            tracing::trace!(server = %self.server, "> {tag} {}", self.command_for_log(command));
        }
        self.out.extend_from_slice(format!("{tag} ").as_bytes());
        self.out.extend_from_slice(command);
        tag
    }

    /// Queues bytes as they are: literals, continuations, DONE. The log has their size only.
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        tracing::trace!(server = %self.server, "> … {} bytes", bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// How many queued bytes are not sent yet.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// Sends what is queued. Responses that come meanwhile are read, up to a bound: a server that
    /// stops reading until its own output is taken must not lock both sides.
    pub async fn flush(&mut self) -> Result<()> {
        self.release();
        while !self.out.is_empty() {
            self.progress(Want::Sent, self.silence).await?;
        }
        Ok(())
    }

    /// The next complete response: its line with all literals, CRLF included. Sends what is
    /// queued on the way. Silence for as long as the time-out says is an error.
    pub async fn frame(&mut self) -> Result<&[u8]> {
        let length = self.fill(self.silence).await?;
        self.hand_out(length)
    }

    /// The next complete response if it is here already, without waiting.
    pub fn buffered_frame(&mut self) -> Result<Option<&[u8]>> {
        self.release();
        match self.scan()? {
            Some(length) => self.hand_out(length).map(Some),
            None => Ok(None),
        }
    }

    /// Waits for a response for as long as `within`, and says whether there is one now. Silence
    /// is no error here: this is for IDLE and NOTIFY.
    pub async fn ready(&mut self, within: Duration) -> Result<bool> {
        match timeout(within, self.fill(Duration::MAX)).await {
            Ok(filled) => filled.map(|_| true),
            Err(_) => Ok(false),
        }
    }

    /// Starts TLS in place. Whatever was received and not yet taken is an error.
    pub async fn start_tls(&mut self, endpoint: &Endpoint, within: Duration) -> Result<()> {
        self.flush().await?;
        let left_over = self.buf.get(self.start..).unwrap_or_default().to_vec();
        let started = self.stream.start_tls(endpoint, &left_over, within).await;
        started.map_err(|e| self.fail(e))
    }

    /// Compresses both directions from here on: to be called on the tagged OK to COMPRESS.
    pub async fn start_deflate(&mut self) -> Result<()> {
        self.flush().await?;
        self.stream.start_deflate(self.buf.get(self.start..).unwrap_or_default());
        self.buf.clear();
        self.start = 0;
        self.scanner = Scanner::default();
        self.complete = None;
        Ok(())
    }

    /// Ends the connection, politely as far as TLS goes.
    pub async fn close(mut self) {
        let _ = timeout(SETTLE, self.stream.shutdown()).await;
    }

    /// The bounds for responses from here on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The bounds in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How long silence may last from here on.
    pub fn set_silence(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// While masked, the log has sizes only, in both directions, and sent bytes are wiped.
    pub fn set_masked(&mut self, masked: bool) {
        self.masked = masked;
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Whether the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.stream.is_loopback()
    }

    /// What the server said first, for the log and for knowing it again.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Keeps what the server said first.
    pub fn set_greeting(&mut self, said: String) {
        self.greeting = said;
    }

    /// Bytes received so far, counted after decryption and decompression.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes sent so far, counted before compression.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Breaks the connection for good: every later call returns `error`, or the one before it.
    pub fn fail(&mut self, error: Error) -> Error {
        self.broken.get_or_insert(error).clone()
    }

    /// The error that broke the connection.
    pub fn broken(&self) -> Option<&Error> {
        self.broken.as_ref()
    }

    /// Gives memory back: for a connection that will be idle.
    pub fn trim(&mut self) {
        self.release();
        if self.start == self.buf.len() {
            self.buf.clear();
            self.start = 0;
            self.buf.shrink_to(IDLE);
            self.chunk = IDLE;
        }
        if self.out.is_empty() {
            self.out.shrink_to(IDLE);
        }
    }

    fn hand_out(&mut self, length: usize) -> Result<&[u8]> {
        self.handed_out = true;
        let frame = self.buf.get(self.start..self.start + length).unwrap_or_default();
        if tracing::enabled!(tracing::Level::TRACE) {
            if self.masked {
                tracing::trace!(server = %self.server, "< … {} bytes", frame.len());
            } else {
                tracing::trace!(server = %self.server, "< {}", frame::for_log(frame));
            }
        }
        Ok(frame)
    }

    /// Drops the response handed out last.
    fn release(&mut self) {
        if !std::mem::take(&mut self.handed_out) {
            return;
        }
        self.start += self.complete.take().unwrap_or(0);
        if self.start >= self.buf.len() {
            self.buf.clear();
            self.start = 0;
        }
        // One big response must not make the buffer big for good.
        if self.buf.capacity() > 2 * CHUNK && self.buf.len() - self.start <= CHUNK {
            self.compact();
            self.buf.shrink_to(CHUNK);
        }
    }

    fn compact(&mut self) {
        self.buf.drain(..self.start);
        self.start = 0;
    }

    /// Looks for a complete response in what is here.
    fn scan(&mut self) -> Result<Option<usize>> {
        if let Some(e) = &self.broken {
            return Err(e.clone());
        }
        if self.complete.is_none() {
            let unread = self.buf.get(self.start..).unwrap_or_default();
            match self.scanner.scan(unread, &self.limits) {
                Ok(Step::Frame(length)) => self.complete = Some(length),
                Ok(Step::Need(need)) => self.need = need,
                Err(e) => {
                    let e = e.at(&self.server);
                    return Err(self.fail(e));
                }
            }
        }
        Ok(self.complete)
    }

    /// Reads until a complete response is here.
    async fn fill(&mut self, patience: Duration) -> Result<usize> {
        self.release();
        let mut since = None;
        loop {
            if let Some(length) = self.scan()? {
                return Ok(length);
            }
            let partial = self.buf.len() - self.start;
            if partial > 0 {
                let since = *since.get_or_insert_with(Instant::now);
                let slow = Duration::from_secs(partial as u64 / MIN_RATE);
                if since.elapsed() > self.silence.saturating_mul(GRACE).saturating_add(slow) {
                    let took = since.elapsed().as_secs();
                    return Err(self.fail(lost(
                        &self.server,
                        format!("sent {partial} bytes of a response in {took} s"),
                    )));
                }
            }
            self.progress(Want::Frame, patience).await?;
        }
    }

    /// Waits until some bytes went either way.
    async fn progress(&mut self, want: Want, patience: Duration) -> Result<()> {
        if let Some(e) = &self.broken {
            return Err(e.clone());
        }
        let quick = SETTLE.min(patience);
        let done = match timeout(quick, poll_fn(|cx| self.poll_progress(cx, want))).await {
            Ok(done) => done,
            Err(_) => {
                self.trim();
                let rest = patience.saturating_sub(quick);
                match timeout(rest, poll_fn(|cx| self.poll_progress(cx, want))).await {
                    Ok(done) => done,
                    Err(_) => {
                        let said = format!("was silent for {} s", patience.as_secs());
                        return Err(self.fail(lost(&self.server, said)));
                    }
                }
            }
        };
        match done {
            Ok(()) if self.eof => {
                let said = self.farewell();
                Err(self.fail(lost(&self.server, said)))
            }
            Ok(()) => Ok(()),
            Err(e) => Err(self.fail(lost(&self.server, format!("broke the connection: {e}")))),
        }
    }

    /// Writes what it can and reads what it may; ready after any progress.
    fn poll_progress(&mut self, cx: &mut Context<'_>, want: Want) -> Poll<io::Result<()>> {
        let mut moved = false;
        // A server that no longer takes anything may have said why: what it said is read first,
        // and the failure comes again.
        let mut failed = None;
        while let Some(rest) = self.out.get(self.written..).filter(|r| !r.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(n @ 1..)) => {
                    self.written += n;
                    self.sent += n as u64;
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
        if !self.out.is_empty()
            && self.written == self.out.len()
            && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready()
        {
            if self.masked {
                self.out.zeroize();
            }
            self.out.clear();
            self.out.shrink_to(CHUNK);
            self.written = 0;
            moved = true;
        }
        let unread = self.buf.len() - self.start;
        if want == Want::Frame || unread < READ_AHEAD {
            self.make_room();
            let room = self.buf.capacity() - self.buf.len();
            let read = pin!(self.stream.read_buf(&mut self.buf)).poll(cx)?;
            if let Poll::Ready(n) = read {
                self.eof = n == 0;
                self.received += n as u64;
                if n == room {
                    self.chunk = (self.chunk * 2).min(CHUNK);
                }
                moved = true;
            }
        }
        match failed {
            _ if moved => Poll::Ready(Ok(())),
            Some(e) => Poll::Ready(Err(e)),
            None => Poll::Pending,
        }
    }

    /// Makes room for the next read. The buffer grows by what came, not by what was announced; but
    /// for one piece of a message it grows once, or for a moment the old and the new would be there.
    fn make_room(&mut self) {
        if self.buf.capacity() - self.buf.len() >= self.chunk / 4 && self.buf.capacity() > 0 {
            return;
        }
        self.compact();
        let unread = self.buf.len();
        let trusted = if unread >= CHUNK { unread.max(PIECE) } else { unread };
        let known = self.need.saturating_sub(unread).min(trusted);
        let more = known.max(self.chunk);
        if self.buf.capacity() - unread < more {
            self.buf.reserve_exact(more);
        }
    }

    /// What to say when the server closed: its BYE, if there is one.
    fn farewell(&self) -> String {
        let unread = self.buf.get(self.start..).unwrap_or_default();
        let bye = unread.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"* BYE "));
        match bye.filter(|_| !self.masked) {
            Some(text) => format!("closed the connection: {}", text.trim_ascii().escape_ascii()),
            None => "closed the connection".to_owned(),
        }
    }

    /// A command as it may stand in a log: no credentials, no literals.
    fn command_for_log(&self, command: &[u8]) -> String {
        let verb = command.split(|b| *b == b' ').next().unwrap_or_default();
        let secret = [&b"LOGIN"[..], b"AUTHENTICATE"].iter().any(|w| verb.eq_ignore_ascii_case(w));
        if self.masked || secret {
            return format!("{} ***", verb.escape_ascii());
        }
        let line = command.split(|b| *b == b'\r').next().unwrap_or_default();
        let shown = line.get(..line.len().min(500)).unwrap_or_default();
        let cut = if shown.len() < command.len() { "…" } else { "" };
        format!("{}{cut}", shown.escape_ascii())
    }
}

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Sent,
    Frame,
}

fn lost(server: &str, what: impl fmt::Display) -> Error {
    Error::account(Kind::Connection, format!("{server} {what}"))
        .next("it is tried again by itself; if it goes on, check the network and the server")
}

#[cfg(test)]
mod tests;
