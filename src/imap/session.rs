//! One logged-in connection: sends commands, hands their answers on, keeps what came unasked, and
//! refuses to go on after a broken connection.
//!
//! Commands are pipelined wherever one does not depend on the answer to another: what is sent
//! waits in the connection until somebody needs an answer, so that ENABLE, ID, NAMESPACE and LIST
//! are one round trip.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::bounds::{Talk, is_progress};
use super::capabilities::Capabilities;
use super::frame::Limits;
use super::login;
use super::names::Hierarchy;
use super::quirks::Server;
use super::response::{self, Answer, Condition, Response, Untagged};
use super::wire::{Connection, Tag};
use crate::error::{Error, Kind, Refusal, Result, Scope};
use crate::model::FolderName;
use crate::net::{Endpoint, Timeouts};
use crate::sasl::LoginSpec;
use crate::steps;

/// What the server said about the selected folder without being asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    /// EXISTS grew.
    pub arrived: bool,
    /// EXPUNGE or VANISHED.
    pub vanished: bool,
    /// FETCH with flags of messages nobody asked about.
    pub flags: bool,
}

impl Noticed {
    /// Whether anything came.
    pub fn any(self) -> bool {
        self.arrived || self.vanished || self.flags
    }
}

/// Logged in. After a `Connection` or `Protocol` error every later call gives that error at once.
pub struct Session {
    pub(super) conn: Connection,
    pub(super) caps: Capabilities,
    pub(super) folder: Folder,
    pub(super) hierarchy: Option<Hierarchy>,
    /// Names as spelled in the last listing, with their separators.
    pub(super) wires: BTreeMap<FolderName, (Vec<u8>, Option<u8>)>,
    pub(super) bodies: super::bodies::Bodies,
    pub(super) qresync: bool,
    pub(super) compressed: bool,
    /// MOVE is offered, and was refused.
    pub(super) no_move: bool,
    about: About,
    /// Sent (or waiting to be sent), and not answered.
    pending: Vec<Pending>,
    dead: Option<Error>,
    /// What came since the last answer to a command.
    talk: Talk,
    /// Since when it only says that it is still there, and what was sent to it until then.
    lingers: Option<(Instant, u64)>,
}

/// What the server said of itself.
struct About {
    host: String,
    greeting: String,
    words: Vec<String>,
    id: Vec<(String, String)>,
}

impl About {
    /// The effective capabilities, after the quirk table.
    fn judge(&self) -> Capabilities {
        Capabilities::new(&Server {
            host: &self.host,
            greeting: &self.greeting,
            capabilities: &self.words,
            id: &self.id,
        })
    }
}

struct Pending {
    tag: Tag,
    text: String,
    /// Nobody waits for it: ID, ENABLE, SUBSCRIBE.
    aside: bool,
}

/// What is known of the selected folder.
#[derive(Default)]
pub(super) struct Folder {
    pub exists: u32,
    /// The most it ever had since it was opened.
    pub most: u32,
    pub noticed: Noticed,
    pub selected: bool,
    /// Flags are being fetched: FETCH is an answer.
    pub fetching: bool,
    /// Messages are being removed by us.
    pub removing: bool,
}

/// A response as a command's caller sees it.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// The end of a command, OK or refused.
    Done(Tag, Answer<'a>),
    /// The server waits for a literal.
    Continue,
    /// Anything else, with nothing in it for `aside` commands.
    Data(Untagged<'a>),
}

/// How long a server may work on a command and only say that it is still there. Dovecot does every
/// 15 s while it reads a folder anew, searches or copies; what is asked of it at once takes minutes at
/// most, but who is cut off at that begins again from the start at the next pass.
const LINGER: Duration = Duration::from_secs(30 * 60);

/// How long a goodbye may take to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

impl Session {
    /// Connects and logs in. ID and ENABLE go out with the first command, in its round trip.
    pub async fn connect(
        endpoint: &Endpoint,
        login: &LoginSpec,
        timeouts: &Timeouts,
    ) -> Result<Self> {
        let (conn, words) = login::open(endpoint, login, timeouts).await?;
        Self::over(conn, &endpoint.host, words).await
    }

    /// The same over a connection that is logged in already, with its capabilities.
    pub async fn over(conn: Connection, host: &str, words: Vec<String>) -> Result<Self> {
        let greeting = conn.greeting().to_owned();
        let about = About { host: host.to_owned(), greeting, words, id: Vec::new() };
        let mut conn = conn;
        // VANISHED, SEARCH and their like may be long at any time
        conn.set_limits(conn.limits().with_line(Limits::LINE_MAX));
        let mut s = Self {
            conn,
            caps: Capabilities::default(),
            folder: Folder::default(),
            hierarchy: None,
            wires: BTreeMap::new(),
            bodies: super::bodies::Bodies::default(),
            qresync: false,
            compressed: false,
            no_move: false,
            about,
            pending: Vec::new(),
            dead: None,
            talk: Talk::default(),
            lingers: None,
        };
        s.caps = s.about.judge();
        if s.caps.id {
            let id =
                concat!(r#"ID ("name" "mailkeep" "version" ""#, env!("CARGO_PKG_VERSION"), r#"")"#);
            s.send_aside(id.as_bytes());
        }
        if s.caps.id_first {
            s.settle().await?;
        }
        if s.caps.qresync {
            s.send_aside(b"ENABLE QRESYNC");
        } else if s.caps.condstore && s.caps.enable {
            s.send_aside(b"ENABLE CONDSTORE");
        }
        Ok(s)
    }

    /// What may be asked of the server, after the quirk table.
    pub fn caps(&self) -> &Capabilities {
        &self.caps
    }

    /// What it answered to ID; empty until the first command was answered.
    pub fn server_id(&self) -> &[(String, String)] {
        &self.about.id
    }

    /// The error that ended the session, if one did.
    pub fn dead(&self) -> Option<&Error> {
        self.dead.as_ref()
    }

    /// What came unasked about the selected folder since it was selected.
    pub fn noticed(&self) -> Noticed {
        self.folder.noticed
    }

    /// How many messages the selected folder has now: EXISTS, less what was expunged since.
    pub fn exists(&self) -> u32 {
        self.folder.exists
    }

    /// Bytes received and sent so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.conn.received(), self.conn.sent())
    }

    /// Nothing, but the server may tell what changed.
    pub async fn noop(&mut self) -> Result<()> {
        self.command(Scope::Account, b"NOOP", |_| Ok(())).await
    }

    /// Leaves the open folder, so that the session can wait for another pass: what STATUS says of an
    /// open folder may be old (RFC 9051 6.3.11). False: this server cannot do that, so log out.
    pub async fn rest(&mut self) -> Result<bool> {
        if self.folder.selected {
            if !self.caps.unselect {
                return Ok(false);
            }
            self.command(Scope::Account, b"UNSELECT", |_| Ok(())).await?;
            self.folder = Folder::default();
        }
        self.conn.trim();
        Ok(self.dead.is_none())
    }

    /// Says goodbye and does not wait for the answer.
    pub async fn logout(mut self) {
        if self.dead.is_none() {
            self.conn.queue(b"LOGOUT");
            if let Ok(Ok(())) = tokio::time::timeout(FAREWELL, self.conn.flush()).await {
                self.conn.close().await;
            }
        }
    }

    /// Queues a command. Nothing is sent before somebody waits for an answer.
    pub(super) fn send(&mut self, command: &[u8]) -> Tag {
        note_change("send", command);
        let tag = self.conn.queue(command);
        self.expect(tag)
    }

    /// Queues a command whose answer nobody waits for.
    pub(super) fn send_aside(&mut self, command: &[u8]) {
        let tag = self.conn.queue(command);
        self.pending.push(Pending { tag, text: tag.to_string(), aside: true });
    }

    /// Notes that an answer will come under this tag.
    pub(super) fn expect(&mut self, tag: Tag) -> Tag {
        self.pending.push(Pending { tag, text: tag.to_string(), aside: false });
        tag
    }

    /// The error that ended the session, as a result.
    pub(super) fn alive(&self) -> Result<()> {
        self.dead.clone().map_or(Ok(()), Err)
    }

    /// Ends the session.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        let first = self.dead.get_or_insert(error).clone();
        self.conn.fail(first)
    }

    /// The next response that means something.
    pub(super) async fn next(&mut self) -> Result<Event<'_>> {
        self.alive()?;
        let Self { conn, caps, folder, about, pending, dead, talk, qresync, lingers, .. } = self;
        let mut ended = |e: Error| dead.get_or_insert(e).clone();
        let sent = conn.sent();
        let frame = conn.frame().await.map_err(&mut ended)?;
        let response = response::parse(frame);
        if let Err(what) = talk.count(&response, frame.len(), folder.most) {
            return Err(ended(protocol(what)));
        }
        *lingers = match *lingers {
            _ if is_progress(&response) => None,
            Some((since, before)) if before == sent => {
                if since.elapsed() > LINGER {
                    return Err(ended(lingering(&about.host)));
                }
                Some((since, before))
            }
            _ => Some((Instant::now(), sent)),
        };
        let event = match response {
            Response::Continuation(_) => Event::Continue,
            Response::Tagged { tag, answer } => {
                let at = pending.iter().position(|p| p.text.as_bytes() == tag);
                let Some(at) = at else {
                    return Err(ended(protocol("the server answered a command nobody sent")));
                };
                if matches!(answer.condition, Condition::Bye | Condition::PreAuth) {
                    return Err(ended(protocol("the server's answer is neither OK, NO nor BAD")));
                }
                let p = pending.remove(at);
                if p.aside {
                    if answer.condition != Condition::Ok {
                        tracing::debug!(text = %answer.text, "the server refused a courtesy");
                    }
                    Event::Data(Untagged::Ignored)
                } else {
                    Event::Done(p.tag, answer)
                }
            }
            Response::Untagged(Untagged::Status(a)) if a.condition == Condition::Bye => {
                return Err(ended(farewell(&about.host, &a.text)));
            }
            Response::Untagged(data) => {
                match &data {
                    Untagged::Unreadable(_) => {
                        let start = frame.get(..frame.len().min(200)).unwrap_or_default();
                        if pending.iter().any(|p| p.tag.strip(frame).is_some()) {
                            return Err(ended(protocol("the server's answer is unreadable")));
                        }
                        tracing::debug!(start = %start.escape_ascii(), "unreadable, passed over");
                    }
                    Untagged::Enabled(words) => {
                        *qresync |= words.iter().any(|w| w.eq_ignore_ascii_case(b"QRESYNC"));
                    }
                    Untagged::Id(pairs) => {
                        about.id.clone_from(pairs);
                        *caps = about.judge();
                    }
                    other => folder.note(other),
                }
                Event::Data(data)
            }
        };
        Ok(event)
    }

    /// Waits until nothing is pending, neither commands nor courtesies.
    pub(super) async fn settle(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.next().await?;
        }
        Ok(())
    }

    /// Whether courtesies are still unanswered.
    pub(super) fn unsettled(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Sends one command and gives everything that comes to `f`, its tagged answer too. The first
    /// error of `f` is given back when the command is answered; a refusal comes first.
    pub(super) async fn command(
        &mut self,
        scope: Scope,
        command: &[u8],
        f: impl FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        self.alive()?;
        let tag = self.send(command);
        self.answered(scope, tag, command, f).await
    }

    /// Waits for the answer to a command that was sent, as [`Session::command`] does.
    pub(super) async fn answered(
        &mut self,
        scope: Scope,
        tag: Tag,
        command: &[u8],
        mut f: impl FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut first = Ok(());
        loop {
            let event = self.next().await?;
            if first.is_ok() {
                first = f(&event);
            }
            if let Event::Done(t, answer) = event
                && t == tag
            {
                verdict(scope, command, &answer)?;
                return first;
            }
        }
    }

    /// Sends commands, at most `window` of them unanswered at a time, and gives what comes to `f`.
    /// After a refusal no more are sent; the first error is given back when all are answered.
    pub(super) async fn pipeline(
        &mut self,
        scope: Scope,
        window: usize,
        commands: impl IntoIterator<Item = Vec<u8>>,
        mut f: impl FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        self.alive()?;
        let mut first = Ok(());
        let mut commands = commands.into_iter();
        let mut waiting: Vec<(Tag, Vec<u8>)> = Vec::new();
        loop {
            while waiting.len() < window && first.is_ok() {
                let Some(command) = commands.next() else { break };
                waiting.push((self.send(&command), command));
            }
            if waiting.is_empty() {
                return first;
            }
            let event = self.next().await?;
            if first.is_ok() {
                first = f(&event);
            }
            if let Event::Done(tag, answer) = event
                && let Some(i) = waiting.iter().position(|w| w.0 == tag)
            {
                let (_, command) = waiting.remove(i);
                let v = verdict(scope, &command, &answer);
                first = first.and(v);
            }
        }
    }
}

impl Folder {
    /// Keeps count of the selected folder. A server that lies here is found out by counting.
    fn note(&mut self, data: &Untagged<'_>) {
        match data {
            Untagged::Exists(n) => {
                self.noticed.arrived |= *n > self.exists && self.selected;
                self.exists = *n;
                self.most = self.most.max(*n);
            }
            Untagged::Expunge(_) => self.gone(1),
            Untagged::Vanished { earlier: false, uids } => {
                self.gone(u32::try_from(uids.len()).unwrap_or(u32::MAX));
            }
            Untagged::Fetch(f) => {
                self.noticed.flags |= !self.fetching && self.selected && f.flags.is_some();
            }
            _ => {}
        }
    }

    fn gone(&mut self, n: u32) {
        self.exists = self.exists.saturating_sub(n);
        self.noticed.vanished |= !self.removing && self.selected;
    }
}

/// Commands that change what the server has.
const CHANGES: [&[u8]; 8] = [
    b"APPEND",
    b"CREATE",
    b"DELETE",
    b"EXPUNGE",
    b"UID COPY",
    b"UID EXPUNGE",
    b"UID MOVE",
    b"UID STORE",
];

/// Before such a command goes out, and after its answer came.
pub(super) fn note_change(when: &str, command: &[u8]) {
    if cfg!(debug_assertions)
        && let Some(verb) = CHANGES.iter().find(|verb| command.starts_with(verb))
    {
        steps::moment(|| format!("{when}\t{}", verb.escape_ascii()));
    }
}

/// What a tagged answer means.
pub(super) fn verdict(scope: Scope, command: &[u8], answer: &Answer<'_>) -> Result<()> {
    note_change("answered", command);
    if answer.condition == Condition::Ok {
        return Ok(());
    }
    let why = match (answer.condition, &answer.code) {
        (Condition::Bad, _) => Refusal::Bad,
        (_, Some(code)) => code.refusal(),
        (_, None) => Refusal::Unsaid,
    };
    // the command's name, with the UID before it
    let mut words = command.split(|b| *b == b' ');
    let mut verb = words.next().unwrap_or_default().escape_ascii().to_string();
    if verb.eq_ignore_ascii_case("UID") {
        verb = format!("UID {}", words.next().unwrap_or_default().escape_ascii());
    }
    let said: String = answer.text.chars().filter(|c| !c.is_control()).take(300).collect();
    let what = format!("the server refused {verb}: {said}");
    Err(refused(scope, why, what))
}

/// What the server will not do, with the step that may help.
pub(super) fn refused(scope: Scope, why: Refusal, what: impl Into<String>) -> Error {
    Error::refused(scope, why, what).next(advice(why))
}

fn advice(why: Refusal) -> &'static str {
    match why {
        Refusal::OverQuota => "make room on the server; it is tried again at the next pass",
        Refusal::NoPerm => "ask the owner of the folder for the right, or exclude the folder",
        Refusal::TooBig | Refusal::Limit => "the server's limit stands; it stays here only",
        Refusal::InUse | Refusal::Unavailable | Refusal::ExpungeIssued => {
            "it is tried again at the next pass"
        }
        Refusal::NonExistent | Refusal::TryCreate | Refusal::AlreadyExists => {
            "the folder changed on the server meanwhile; the next pass sees it"
        }
        Refusal::Cannot | Refusal::Bad | Refusal::Unsaid => {
            "if it happens at every pass, report it with a log made by -vv"
        }
    }
}

fn lingering(host: &str) -> Error {
    let minutes = LINGER.as_secs() / 60;
    let what = format!("{host} did nothing for {minutes} minutes but say that it is still there");
    Error::account(Kind::Connection, what)
        .next("it is tried again by itself; if it goes on, ask who runs the server")
}

/// The peer broke the protocol or a bound.
pub(super) fn protocol(what: &str) -> Error {
    Error::account(Kind::Protocol, what)
        .next("the connection was dropped; if it happens again, report it with a log made by -vv")
}

fn farewell(host: &str, text: &str) -> Error {
    let said: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    Error::account(Kind::Connection, format!("{host} ended the session: {said}"))
        .by_server()
        .next("it is tried again by itself, later each time")
}

/// An answer that was there and could not be read: what it said is unknown, and no absence (I7).
pub(super) fn unreadable(what: &str) -> Error {
    let what = format!("the server's answer to {what} is unreadable in part");
    Error::refused(Scope::Folder, Refusal::Unsaid, what)
        .next("it is tried again at the next pass; if it goes on, report it with a log made by -vv")
}

/// A folder name as a command's argument. A name with a line end has none.
pub(super) fn quoted(wire: &[u8]) -> Result<Vec<u8>> {
    if memchr::memchr3(b'\r', b'\n', 0, wire).is_some() {
        let what = format!("the folder name {} cannot be sent", wire.escape_ascii());
        return Err(Error::refused(Scope::Folder, Refusal::Cannot, what)
            .next("rename the folder on the server"));
    }
    let mut out = vec![b'"'];
    for b in wire {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
    Ok(out)
}

/// A command line from its parts.
pub(super) fn line(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b' ')
}

#[cfg(test)]
mod tests;
