//! Uploading messages.

use super::code::Code;
use super::date;
use super::response::Answer;
use super::session::{Event, Session, note_change, protocol, quoted, verdict};
use super::wire::Tag;
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::model::{Flags, Uid, UidValidity};

/// One message to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The flags to set; those the folder does not keep are the caller's to leave out.
    pub flags: Flags,
    /// INTERNALDATE, Unix seconds.
    pub internal_date: i64,
    /// Exactly how many bytes `chunk` will give.
    pub size: u64,
}

/// Where an uploaded message went; `None` where the server does not say (no UIDPLUS).
pub type Appended = Option<(UidValidity, Uid)>;

/// Gives messages to upload. A message may be opened again: a refused MULTIAPPEND is sent anew,
/// one by one.
#[allow(async_fn_in_trait)]
pub trait AppendSource {
    /// All messages of this call, in order.
    fn messages(&self) -> &[Outgoing];
    /// Goes to the beginning of message `index`. Large messages are opened twice: once to look.
    async fn open(&mut self, index: usize) -> Result<()>;
    /// The next bytes (CRLF line endings) of the open message, at most a few hundred KiB; `None` or
    /// nothing at its end. If this fails or the sizes disagree once bytes have been sent, the
    /// connection is dropped rather than the literal finished; before, that message fails alone.
    async fn chunk(&mut self) -> Result<Option<&[u8]>>;
    /// The last moment to find that the file changed while it was read: asked before the last
    /// bytes go out. After an error the server stores nothing.
    async fn settled(&mut self) -> Result<()>;
}

/// Messages up to this size are read whole before a byte of them is sent.
const SMALL: u64 = 256 * 1024;
/// One MULTIAPPEND carries at most so much.
const BATCH: u64 = 8 * 1024 * 1024;
/// And at most so many messages.
const BATCH_MESSAGES: usize = 100;
/// Above this the server is asked first even where it would take a literal unasked: a refusal then
/// costs a round trip, not the whole message (RFC 7888 section 4).
const ASK_FIRST: u64 = 4 * 1024 * 1024;
/// What LITERAL- takes unasked (RFC 7888 section 5).
const MINUS: u64 = 4096;
/// Commands that wait for their answers.
const WINDOW: usize = 8;
/// What is queued before it is sent.
const SEND: usize = 128 * 1024;

impl Session {
    /// Uploads to a folder; one result for each message, in order. After a broken connection those
    /// without an answer have that error: whether the server has them is for pairing to find.
    ///
    /// A file that changes while a large message is sent drops the connection, since a literal that
    /// has begun can only be finished (and then the server keeps it) or cut off.
    pub async fn append<S: AppendSource>(
        &mut self,
        wire: &[u8],
        source: &mut S,
    ) -> Vec<Result<Appended>> {
        let mut up = Upload {
            results: source.messages().iter().map(|_| None).collect(),
            sizes: source.messages().iter().map(|m| m.size).collect(),
            waiting: Vec::new(),
            again: Vec::new(),
            hopeless: None,
            full: None,
        };
        let outcome = self.upload(wire, source, &mut up).await;
        let rest = match (outcome, up.hopeless) {
            (Err(e), _) | (Ok(()), Some(e)) => e,
            (Ok(()), None) => Error::message(Kind::Internal, "the upload was forgotten"),
        };
        up.results.into_iter().map(|r| r.unwrap_or_else(|| Err(rest.clone()))).collect()
    }

    async fn upload<S: AppendSource>(
        &mut self,
        wire: &[u8],
        source: &mut S,
        up: &mut Upload,
    ) -> Result<()> {
        self.alive()?;
        let target = quoted(wire)?;
        let batches = self.batches(source.messages());
        for batch in batches {
            match up.full {
                None => self.send_batch(&target, &batch, source, up).await?,
                Some(_) => up.again.extend(batch),
            }
        }
        while !up.waiting.is_empty() {
            self.collect(up).await?;
        }
        // RFC 3502: of a refused MULTIAPPEND the server kept nothing
        for i in std::mem::take(&mut up.again) {
            self.send_batch(&target, &[i], source, up).await?;
        }
        while !up.waiting.is_empty() {
            self.collect(up).await?;
        }
        Ok(())
    }

    /// Which messages go into one command.
    fn batches(&self, messages: &[Outgoing]) -> Vec<Vec<usize>> {
        // without UIDPLUS many at once would only make it harder to find them again
        let many = self.caps.multiappend && self.caps.uidplus;
        let most = if many { BATCH_MESSAGES } else { 1 };
        let mut out: Vec<Vec<usize>> = Vec::new();
        let mut size = 0u64;
        for (i, m) in messages.iter().enumerate() {
            match out.last_mut().filter(|b| b.len() < most && size + m.size <= BATCH) {
                Some(batch) => {
                    batch.push(i);
                    size += m.size;
                }
                None => {
                    out.push(vec![i]);
                    size = m.size;
                }
            }
        }
        out
    }

    /// Sends one APPEND with these messages, without those that cannot be sent.
    async fn send_batch<S: AppendSource>(
        &mut self,
        target: &[u8],
        batch: &[usize],
        source: &mut S,
        up: &mut Upload,
    ) -> Result<()> {
        while up.waiting.len() >= WINDOW {
            self.collect(up).await?;
        }
        let mut tag = None;
        let mut sent = Vec::new();
        for (n, &i) in batch.iter().enumerate() {
            if up.hopeless.is_some() {
                break;
            }
            let Some(m) = source.messages().get(i).cloned() else { continue };
            if let Some((least, e)) = &up.full
                && m.size >= *least
            {
                let e = e.clone();
                up.put(i, Err(e));
                continue;
            }
            let text = match self.prepare(i, &m, source).await {
                Ok(text) => text,
                Err(e) => {
                    up.put(i, Err(e));
                    continue;
                }
            };
            let asks = self.asks_first(m.size);
            let header = format!(
                " ({}) \"{}\" {{{}{}}}\r\n",
                m.flags.to_text(),
                date::format(m.internal_date),
                m.size,
                if asks { "" } else { "+" }
            );
            let tag = *tag.get_or_insert_with(|| {
                note_change("send", b"APPEND");
                let mut command = b"APPEND ".to_vec();
                command.extend_from_slice(target);
                self.conn.start_command(&command)
            });
            if sent.is_empty() {
                self.expect(tag);
            }
            self.conn.queue_raw(header.as_bytes());
            sent.push(i);
            if asks && !self.may_go_on(tag, &sent, up).await? {
                up.again.extend_from_slice(batch.get(n + 1..).unwrap_or_default());
                return Ok(());
            }
            match text {
                Some(text) => self.conn.queue_raw(&text),
                None => {
                    if let Err(e) = self.stream(i, m.size, source).await {
                        up.put(i, Err(e.clone()));
                        return Err(self.fail(cut_off(&e)));
                    }
                }
            }
            if self.conn.unsent() >= SEND {
                self.flush().await?;
            }
        }
        if let Some(tag) = tag {
            self.conn.queue_raw(b"\r\n");
            up.waiting.push((tag, sent));
        }
        Ok(())
    }

    /// Whether a literal of this size has to wait for the server's leave.
    fn asks_first(&self, size: u64) -> bool {
        let unasked = (self.caps.literal_plus && size <= ASK_FIRST)
            || ((self.caps.literal_minus || self.caps.literal_plus) && size <= MINUS);
        !unasked
    }

    /// Finds out before anything is sent whether the message can be: small ones are read whole,
    /// large ones once to look. Sending it is then a second reading.
    async fn prepare<S: AppendSource>(
        &mut self,
        i: usize,
        m: &Outgoing,
        source: &mut S,
    ) -> Result<Option<Vec<u8>>> {
        if self.caps.append_limit.is_some_and(|most| m.size > most) {
            let what = format!("the message has {} bytes, more than the server takes", m.size);
            return Err(
                Error::refused(Scope::Message, Refusal::TooBig, what).next("it stays here only")
            );
        }
        if m.size == 0 {
            // {0} takes an APPEND back with some servers, and no message is empty
            let what = "an empty file is no message";
            return Err(
                Error::refused(Scope::Message, Refusal::Cannot, what).next("remove the file")
            );
        }
        let small = m.size <= SMALL;
        let mut text = Vec::new();
        let mut size = 0u64;
        source.open(i).await?;
        while let Some(chunk) = source.chunk().await? {
            size += chunk.len() as u64;
            if size > m.size {
                return Err(changed());
            }
            if memchr::memchr(0, chunk).is_some() {
                // Dovecot would store another byte in its place (I4)
                let what = "the message holds a NUL byte, which IMAP cannot carry";
                return Err(Error::refused(Scope::Message, Refusal::Cannot, what)
                    .next("it stays here only"));
            }
            if small {
                text.extend_from_slice(chunk);
            }
        }
        if size != m.size {
            return Err(changed());
        }
        if small {
            source.settled().await?;
            return Ok(Some(text));
        }
        source.open(i).await?;
        Ok(None)
    }

    /// The open message's bytes, after its header. Its last bytes are sent only once the source
    /// says that nothing changed.
    async fn stream<S: AppendSource>(&mut self, i: usize, size: u64, source: &mut S) -> Result<()> {
        tracing::trace!(i, size, "a message is streamed");
        let mut sent = 0u64;
        loop {
            let chunk = source.chunk().await?.unwrap_or_default();
            if chunk.is_empty() {
                break;
            }
            sent += chunk.len() as u64;
            if sent > size || memchr::memchr(0, chunk).is_some() {
                return Err(changed());
            }
            if self.conn.unsent() > 0 {
                self.conn.flush().await?;
            }
            self.conn.queue_raw(chunk);
        }
        if sent != size {
            return Err(changed());
        }
        source.settled().await
    }

    async fn flush(&mut self) -> Result<()> {
        match self.conn.flush().await {
            Ok(()) => Ok(()),
            Err(e) => Err(self.fail(e)),
        }
    }

    /// Waits for `+`. The command may be refused instead, and answers to others may come before.
    async fn may_go_on(&mut self, tag: Tag, sent: &[usize], up: &mut Upload) -> Result<bool> {
        loop {
            match self.next().await? {
                Event::Continue => return Ok(true),
                Event::Done(t, answer) if t == tag => {
                    up.answered(sent, &answer);
                    return Ok(false);
                }
                Event::Done(t, answer) => up.answer(t, &answer),
                Event::Data(_) => {}
            }
        }
    }

    /// Waits for the answer to one command.
    async fn collect(&mut self, up: &mut Upload) -> Result<()> {
        loop {
            match self.next().await? {
                Event::Done(t, answer) => {
                    up.answer(t, &answer);
                    return Ok(());
                }
                Event::Continue => {
                    return Err(self.fail(protocol("the server asks for what was not announced")));
                }
                Event::Data(_) => {}
            }
        }
    }
}

/// What became of the messages so far.
struct Upload {
    results: Vec<Option<Result<Appended>>>,
    /// How many bytes each has.
    sizes: Vec<u64>,
    waiting: Vec<(Tag, Vec<usize>)>,
    /// To be sent once more, each alone.
    again: Vec<usize>,
    /// A reason not to send any more.
    hopeless: Option<Error>,
    /// The server has no room, at least not for a message of so many bytes. Smaller ones may fit.
    full: Option<(u64, Error)>,
}

impl Upload {
    fn put(&mut self, i: usize, result: Result<Appended>) {
        if let Some(slot) = self.results.get_mut(i) {
            *slot = Some(result);
        }
    }

    fn answer(&mut self, tag: Tag, answer: &Answer<'_>) {
        if let Some(at) = self.waiting.iter().position(|w| w.0 == tag) {
            let (_, sent) = self.waiting.remove(at);
            self.answered(&sent, answer);
        }
    }

    fn answered(&mut self, sent: &[usize], answer: &Answer<'_>) {
        match verdict(Scope::Message, b"APPEND", answer) {
            Ok(()) => {
                let uids = match &answer.code {
                    Some(Code::AppendUid(Some((v, uids)))) if uids.len() == sent.len() => {
                        uids.iter().map(|u| Some((*v, *u))).collect()
                    }
                    _ => vec![None; sent.len()],
                };
                for (i, uid) in sent.iter().zip(uids) {
                    self.put(*i, Ok(uid));
                }
            }
            // one of them may be the reason: each has its own chance
            Err(e) if sent.len() > 1 => {
                self.no_room(u64::MAX, &e);
                self.again.extend_from_slice(sent);
            }
            Err(e) => {
                let sizes = sent.iter().filter_map(|i| self.sizes.get(*i).copied());
                self.no_room(sizes.min().unwrap_or(u64::MAX), &e);
                if matches!(
                    e.refusal,
                    Some(Refusal::TryCreate | Refusal::NonExistent | Refusal::NoPerm)
                ) {
                    self.hopeless = Some(e.clone());
                }
                for i in sent {
                    self.put(*i, Err(e.clone()));
                }
            }
        }
    }

    fn no_room(&mut self, size: u64, e: &Error) {
        if e.refusal == Some(Refusal::OverQuota) {
            let least = self.full.as_ref().map_or(size, |(least, _)| size.min(*least));
            self.full = Some((least, e.clone()));
        }
    }
}

fn changed() -> Error {
    Error::message(Kind::Raced, "the file changed while it was read for sending")
        .next("it is sent at the next pass")
}

fn cut_off(e: &Error) -> Error {
    let what = format!("the connection was dropped in the middle of a message: {}", e.what);
    Error::account(Kind::Connection, what).next("it is tried again by itself")
}
