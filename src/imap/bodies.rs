//! Reading messages whole: a stream of pipelined commands, large messages in pieces, and nothing
//! kept in memory but the response at hand.

use std::collections::VecDeque;

use super::fetch::{Meta, WINDOW, meta};
use super::frame::Limits;
use super::response::{Body, Fetch, Looks, Untagged};
use super::session::{Event, Session, protocol, unreadable, verdict};
use super::store::RANGES;
use super::wire::Tag;
use crate::error::{Error, Kind, Result, Scope};
use crate::model::{Uid, UidSet};

/// Takes messages as they come. Each is `begin`, any number of `data`, then `end`; or `failed`
/// alone, or `failed` after some `data`, which must then be thrown away. An error from the sink ends the
/// fetch, and mostly the session with it, since what is under way cannot be called back.
#[allow(async_fn_in_trait)]
pub trait BodySink {
    /// A message begins.
    async fn begin(&mut self, meta: &Meta) -> Result<()>;
    /// Its next bytes, as sent (CRLF).
    async fn data(&mut self, bytes: &[u8]) -> Result<()>;
    /// It is complete.
    async fn end(&mut self) -> Result<()>;
    /// This message cannot be had; the others go on.
    async fn failed(&mut self, uid: Uid, error: Error) -> Result<()>;
}

/// UIDs in one command that fetches bodies.
const CHUNK: u64 = 500;
/// Beyond the usual window another command is sent while fewer messages than this are asked for and
/// have not come. A server may answer several commands in turn (Dovecot does): then they end
/// together, and a round trip would pass with nothing asked for.
const AHEAD: u64 = 1_500;
/// The most commands that wait for their answers.
const MOST_COMMANDS: usize = 16;
/// More commands than this are not made of one set, however wide its ranges.
const MOST_CHUNKS: u64 = 2_000;
/// After so many refusals it is not the messages that are bad.
const MOST_REFUSALS: u32 = 50;
/// A message comes in pieces of this size; what is smaller comes at once.
const PIECE: u64 = 8 * 1024 * 1024;
/// The largest literal that is taken from a server that does not cut as it was asked to.
const UNCUT: u64 = 64 * 1024 * 1024;
/// The sink gets at most so much at a time.
const BITE: usize = 256 * 1024;
/// So many bytes of texts that nobody asked for are passed over.
const MOST_STRAYS: usize = 256 * 1024 * 1024;
/// A set with more than this is made of ranges, not of messages.
const WIDE: u64 = 10_000_000;
/// COMPRESS=DEFLATE pays from so many messages on.
const WORTH_COMPRESSING: u64 = 100;
/// What was learned of how this server gives bodies.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bodies {
    /// RFC822.SIZE was more than the whole message.
    sizes_lie: bool,
    /// A piece was less than was asked for and there: it cannot be asked for pieces.
    cuts_short: bool,
}

/// A command that waits for its answer.
struct Asked {
    tag: Tag,
    part: UidSet,
    /// How many of the part have not come.
    due: u64,
}

impl Session {
    /// The bytes of the messages in `set`, each once, in the server's order; those over 8 MiB
    /// come last, in pieces.
    ///
    /// Every message is asked for by its first piece, since only the server knows which are large,
    /// and to ask for that first would cost a round trip for each new message. A piece that is
    /// full may not be all: that message is fetched piece by piece at the end (which costs its
    /// first piece twice). One shorter than RFC822.SIZE is fetched uncut at the end, in case it is
    /// the cutting that the server cannot do; so is one that has a size and came empty, which is
    /// believed only of a server whose sizes are known to lie.
    ///
    /// A message that is gone does not come. Where an answer could not be read, or was about no
    /// message (UID 0), nobody can tell it from one that is: then each that did not come `failed`.
    pub async fn fetch_bodies<S: BodySink>(&mut self, set: &UidSet, sink: &mut S) -> Result<()> {
        self.alive()?;
        if set.len() >= WORTH_COMPRESSING {
            self.compress().await?;
        }
        let limits = self.conn.limits();
        let literal = usize::try_from(UNCUT).unwrap_or(usize::MAX);
        let frame = limits.line.saturating_add(literal);
        self.conn.set_limits(Limits { literal, frame, ..limits });
        self.folder.fetching = true;
        let done = self.bodies_of(set, sink).await;
        self.folder.fetching = false;
        self.conn.set_limits(limits);
        match done {
            // what is under way cannot be called back
            Err(e) if self.unsettled() => Err(self.fail(e)),
            other => other,
        }
    }

    async fn bodies_of<S: BodySink>(&mut self, set: &UidSet, sink: &mut S) -> Result<()> {
        let items = self.meta_items();
        let cut = if self.bodies.cuts_short { String::new() } else { format!("<0.{PIECE}>") };
        let per_chunk = CHUNK.max(set.len() / MOST_CHUNKS);
        let mut chunks: VecDeque<UidSet> =
            set.chunks(u32::try_from(per_chunk).unwrap_or(u32::MAX), RANGES).into();
        let mut waiting: Vec<Asked> = Vec::new();
        let mut refusals = 0;
        let mut seen = UidSet::new();
        let mut later = Vec::new();
        let mut garbled = false;
        let mut strays = 0;
        let trust = !self.caps.sizes_lie && !self.bodies.sizes_lie;
        loop {
            while asks_more(&waiting) {
                let Some(part) = chunks.pop_front() else { break };
                let command = format!("UID FETCH {part} ({items} BODY.PEEK[]{cut})");
                let tag = self.send(command.as_bytes());
                waiting.push(Asked { tag, due: part.len(), part });
            }
            if waiting.is_empty() {
                break;
            }
            match self.next().await? {
                Event::Done(tag, answer) => {
                    let Some(at) = waiting.iter().position(|w| w.tag == tag) else { continue };
                    let Asked { part, .. } = waiting.remove(at);
                    let Err(e) = verdict(Scope::Folder, b"UID FETCH", &answer) else { continue };
                    refusals += 1;
                    if refusals > MOST_REFUSALS {
                        // the others are answered before anything else is
                        drop(chunks);
                        self.settle().await?;
                        return Err(e);
                    }
                    // one message may be the reason: the halves are asked for by themselves
                    let left: Vec<Uid> = part.iter().filter(|u| !seen.contains(*u)).collect();
                    match left.as_slice() {
                        [] => {}
                        [uid] => {
                            seen.insert(*uid);
                            let e = Error { scope: Scope::Message, ..e };
                            sink.failed(*uid, e.at(format!("message {uid}"))).await?;
                        }
                        more => {
                            let (a, b) = more.split_at(more.len() / 2);
                            chunks.push_front(b.iter().copied().collect());
                            chunks.push_front(a.iter().copied().collect());
                        }
                    }
                }
                Event::Data(Untagged::Fetch(fetch)) => {
                    let Some(body) = &fetch.body else { continue };
                    garbled |= fetch.uid.is_none();
                    let Some(uid) = fetch.uid.filter(|u| set.contains(*u) && !seen.contains(*u))
                    else {
                        strays += body.data.as_deref().map_or(0, <[u8]>::len);
                        if strays > MOST_STRAYS {
                            return Err(protocol(
                                "the server sends messages that were not asked for",
                            ));
                        }
                        continue;
                    };
                    seen.insert(uid);
                    if let Some(of) = waiting.iter_mut().find(|w| w.part.contains(uid)) {
                        of.due -= 1;
                    }
                    match judge(uid, &fetch, body, trust) {
                        Verdict::Whole(m, data) => give(sink, &m, data).await?,
                        Verdict::Later(m) => later.push(m),
                        Verdict::Failed(e) => sink.failed(uid, e).await?,
                    }
                }
                Event::Data(Untagged::Unreadable(Looks::Fetch)) => garbled = true,
                _ => {}
            }
        }
        if garbled && set.len() > WIDE {
            return Err(unreadable("FETCH"));
        }
        if garbled {
            for uid in set.iter().filter(|u| !seen.contains(*u)) {
                sink.failed(uid, unread(uid)).await?;
            }
        }
        for l in later {
            match l {
                Later::Pieces(m) => self.in_pieces(m, sink).await?,
                Later::Uncut { meta, .. } if meta.wire_size > UNCUT => {
                    sink.failed(meta.uid, disagrees(meta.uid)).await?;
                }
                Later::Uncut { meta, came } => self.uncut(meta, came, sink).await?,
            }
        }
        Ok(())
    }

    /// One large message, piece after piece. The pieces have to fit together, and to end where the
    /// server ends them twice.
    async fn in_pieces<S: BodySink>(&mut self, first: Meta, sink: &mut S) -> Result<()> {
        let uid = first.uid;
        let size = first.wire_size;
        let lies = self.caps.sizes_lie || self.bodies.sizes_lie;
        let mut at = 0u64;
        let mut begun = false;
        loop {
            let command =
                format!("UID FETCH {uid} (UID RFC822.SIZE BODY.PEEK[]<{at}.{PIECE}>)").into_bytes();
            let tag = self.send(&command);
            let mut came: Option<u64> = None;
            let mut trouble = None;
            loop {
                match self.next().await? {
                    Event::Done(t, answer) if t == tag => {
                        if let Err(e) = verdict(Scope::Message, &command, &answer) {
                            trouble = Some(e);
                        }
                        break;
                    }
                    Event::Data(Untagged::Fetch(f)) if f.uid == Some(uid) && came.is_none() => {
                        let Some(body) = &f.body else { continue };
                        let data = body.data.as_deref().unwrap_or_default();
                        let n = data.len() as u64;
                        came = Some(n);
                        let fits = body.origin == Some(at) && n <= PIECE && f.size == Some(size);
                        if !fits {
                            trouble = Some(disagrees(uid));
                        } else if n > 0 {
                            if !begun {
                                begun = true;
                                sink.begin(&first).await?;
                            }
                            for bite in data.chunks(BITE) {
                                sink.data(bite).await?;
                            }
                        }
                    }
                    Event::Data(Untagged::Unreadable(Looks::Fetch)) => trouble = Some(unread(uid)),
                    _ => {}
                }
            }
            let trouble = trouble.or_else(|| came.is_none().then(|| went(uid)));
            if let Some(e) = trouble {
                return sink.failed(uid, e).await;
            }
            let n = came.unwrap_or(0);
            at += n;
            let ended = n == 0 || (n < PIECE && (lies || at == size));
            if ended && begun {
                return sink.end().await;
            }
            if ended || at > size.saturating_mul(4).max(4 * PIECE) {
                return sink.failed(uid, disagrees(uid)).await;
            }
            if n < PIECE {
                // shorter than RFC822.SIZE says: it ends here if nothing follows
                let more = self.piece_follows(uid, at).await?;
                return if more {
                    sink.failed(uid, disagrees(uid)).await
                } else {
                    sink.end().await
                };
            }
        }
    }

    async fn piece_follows(&mut self, uid: Uid, at: u64) -> Result<bool> {
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[]<{at}.{PIECE}>)").into_bytes();
        let mut follows = None;
        let done = self
            .command(Scope::Message, &command, |event| {
                if let Event::Data(Untagged::Fetch(f)) = event
                    && f.uid == Some(uid)
                    && let Some(body) = &f.body
                {
                    follows = Some(body.data.as_ref().is_some_and(|d| !d.is_empty()));
                }
                Ok(())
            })
            .await;
        match done {
            Ok(()) => Ok(follows.unwrap_or(true)),
            Err(e) if e.kind == Kind::Refused => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// A message whose first piece was shorter than its RFC822.SIZE, or nothing: either the size or
    /// the cut is wrong, and the whole text says which.
    async fn uncut<S: BodySink>(&mut self, m: Meta, came: u64, sink: &mut S) -> Result<()> {
        let uid = m.uid;
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[])").into_bytes();
        let tag = self.send(&command);
        let mut given = false;
        let mut learned = self.bodies;
        let lie = self.caps.sizes_lie;
        loop {
            match self.next().await? {
                Event::Done(t, answer) if t == tag => {
                    let refused = verdict(Scope::Message, &command, &answer);
                    self.bodies = learned;
                    return match refused {
                        Err(e) if !given => sink.failed(uid, e).await,
                        Ok(()) if !given => sink.failed(uid, went(uid)).await,
                        _ => Ok(()),
                    };
                }
                Event::Data(Untagged::Fetch(f)) if f.uid == Some(uid) && !given => {
                    let Some(body) = &f.body else { continue };
                    given = true;
                    let Some(data) = &body.data else {
                        sink.failed(uid, cannot(uid)).await?;
                        continue;
                    };
                    let n = data.len() as u64;
                    learned.sizes_lie |= n == came && n > 0;
                    learned.cuts_short |= n > came;
                    if n == 0 && !lie {
                        sink.failed(uid, cannot(uid)).await?;
                    } else if n < came {
                        sink.failed(uid, disagrees(uid)).await?;
                    } else {
                        give(sink, &m, data).await?;
                    }
                }
                _ => {}
            }
        }
    }

    /// COMPRESS=DEFLATE (RFC 4978), where it is offered and the server is not on this machine.
    async fn compress(&mut self) -> Result<()> {
        if self.compressed || !self.caps.compress_deflate || self.conn.is_loopback() {
            return Ok(());
        }
        self.compressed = true;
        self.settle().await?;
        match self.command(Scope::Account, b"COMPRESS DEFLATE", |_| Ok(())).await {
            Ok(()) => match self.conn.start_deflate().await {
                Ok(()) => Ok(()),
                Err(e) => Err(self.fail(e)),
            },
            Err(e) if e.kind == Kind::Refused => {
                tracing::debug!(error = %e, "no compression");
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

fn asks_more(waiting: &[Asked]) -> bool {
    let due: u64 = waiting.iter().map(|w| w.due).sum();
    waiting.len() < WINDOW || due < AHEAD && waiting.len() < MOST_COMMANDS
}

/// What a message's first piece means.
enum Verdict<'a> {
    Whole(Meta, &'a [u8]),
    Later(Later),
    Failed(Error),
}

enum Later {
    Pieces(Meta),
    Uncut { meta: Meta, came: u64 },
}

fn judge<'a>(uid: Uid, fetch: &Fetch<'_>, body: &'a Body<'_>, trust: bool) -> Verdict<'a> {
    let m = match meta(uid, fetch) {
        Ok(m) => m,
        Err(e) => return Verdict::Failed(e),
    };
    let Some(data) = body.data.as_deref() else { return Verdict::Failed(cannot(uid)) };
    let n = data.len() as u64;
    match body.origin {
        // a message that has a size has a text
        None | Some(0) if n == 0 && m.wire_size > 0 => {
            Verdict::Later(Later::Uncut { meta: m, came: 0 })
        }
        // the server does not cut: this is all
        None => Verdict::Whole(m, data),
        Some(0) if n == PIECE => Verdict::Later(Later::Pieces(m)),
        Some(0) if n > PIECE && n == m.wire_size => Verdict::Whole(m, data),
        Some(0) if n < PIECE && (!trust || n >= m.wire_size) => Verdict::Whole(m, data),
        Some(0) if n < PIECE => Verdict::Later(Later::Uncut { meta: m, came: n }),
        Some(_) => Verdict::Failed(disagrees(uid)),
    }
}

async fn give<S: BodySink>(sink: &mut S, m: &Meta, data: &[u8]) -> Result<()> {
    sink.begin(m).await?;
    for bite in data.chunks(BITE) {
        sink.data(bite).await?;
    }
    sink.end().await
}

fn cannot(uid: Uid) -> Error {
    Error::message(Kind::Refused, format!("the server has no text for message {uid}"))
        .next("it is tried again at the next pass; look at it in another mail program")
}

fn unread(uid: Uid) -> Error {
    let what = format!("message {uid} did not come, and an answer came that cannot be read");
    Error::message(Kind::Refused, what)
        .next("it is tried again at the next pass; look at it in another mail program")
}

fn went(uid: Uid) -> Error {
    Error::message(Kind::Raced, format!("message {uid} went while it was fetched"))
        .next("nothing, if it was deleted; else it is tried again at the next pass")
}

fn disagrees(uid: Uid) -> Error {
    let what = format!("the server's pieces of message {uid} do not fit together");
    Error::message(Kind::Refused, what)
        .next("it is tried again at the next pass; look at it in another mail program")
}
