//! A session on a test server, and the two ends of a transfer in memory.

use std::collections::BTreeMap;
use std::future::Future;

use mailkeep::imap::{AppendSource, BodySink, LoginSpec, Meta, Outgoing, Session};
use mailkeep::model::{Flags, Uid, UidSet};
use mailkeep::net::{Endpoint, Security, Timeouts};
use mailkeep::secret::Secret;
use mailkeep::{Error, Result};

use crate::common::scripted::{Script, Scripted, send};
use crate::common::server::{PASSWORD, USER};

pub fn run<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

pub async fn session(port: u16) -> Session {
    session_patient(port, 30).await
}

/// Silence is an error after so many seconds.
pub async fn session_patient(port: u16, seconds: u64) -> Session {
    let (endpoint, login, timeouts) = door(port, seconds);
    Session::connect(&endpoint, &login, &timeouts).await.unwrap()
}

/// What it takes to log in at a test server.
pub fn door(port: u16, seconds: u64) -> (Endpoint, LoginSpec, Timeouts) {
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port,
        security: Security::None,
        ca_file: None,
        fingerprint: None,
    };
    let login = LoginSpec {
        user: USER.into(),
        auth: mailkeep::imap::auth::Method::Auto,
        secret: Secret::new(PASSWORD),
        token: false,
        plaintext_ok: true,
    };
    let silence = std::time::Duration::from_secs(seconds);
    (endpoint, login, Timeouts { silence, ..Timeouts::default() })
}

/// Logs in with these capabilities, after these words.
pub fn greeting(words: &str, capabilities: &str) -> Script {
    Script::greeting([send(format!("* OK [CAPABILITY IMAP4rev1 {capabilities}] {words}\r\n"))])
        .on("LOGIN", [send(format!("{{tag}} OK [CAPABILITY IMAP4rev1 {capabilities}] in\r\n"))])
}

/// A server with one folder of three messages; everything else is OK and nothing more.
pub fn open_folder(rules: Script, capabilities: &str) -> Scripted {
    open_folder_of("hi", rules, capabilities)
}

/// The same of a server that greets in these words.
pub fn open_folder_of(words: &str, rules: Script, capabilities: &str) -> Scripted {
    let select = Script::greeting([]).on(
        "SELECT",
        [send(
            "* 3 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* OK [UIDNEXT 10] x\r\n\
             {tag} OK [READ-WRITE] opened\r\n",
        )],
    );
    let server = greeting(words, capabilities).on("", [send("{tag} OK done\r\n")]);
    Scripted::start(rules.before(select.before(server)))
}

pub fn uid(n: u32) -> Uid {
    Uid::new(n).unwrap()
}

pub fn set(uids: impl IntoIterator<Item = u32>) -> UidSet {
    uids.into_iter().map(uid).collect()
}

pub fn flags(names: &[&str]) -> Flags {
    Flags::from_imap(names.iter().copied())
}

/// What comes of fetching message 1 of INBOX.
pub fn fetched(port: u16) -> Kept {
    let mut kept = Kept::default();
    run(async {
        let mut session = session(port).await;
        session.select(b"INBOX", true, None).await.unwrap();
        session.fetch_bodies(&set([1]), &mut kept).await.unwrap();
    });
    kept
}

/// Keeps what it is given.
#[derive(Default)]
pub struct Kept {
    pub messages: BTreeMap<Uid, (Meta, Vec<u8>)>,
    pub failed: BTreeMap<Uid, Error>,
    open: Option<(Meta, Vec<u8>)>,
}

impl BodySink for Kept {
    async fn begin(&mut self, meta: &Meta) -> Result<()> {
        assert!(self.open.is_none(), "a message begins within another");
        self.open = Some((meta.clone(), Vec::new()));
        Ok(())
    }
    async fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.open.as_mut().expect("a message has begun").1.extend_from_slice(bytes);
        Ok(())
    }
    async fn end(&mut self) -> Result<()> {
        let (meta, text) = self.open.take().expect("a message has begun");
        assert!(self.messages.insert(meta.uid, (meta, text)).is_none(), "a message came twice");
        Ok(())
    }
    async fn failed(&mut self, uid: Uid, error: Error) -> Result<()> {
        self.open = None;
        assert!(self.failed.insert(uid, error).is_none(), "a message failed twice");
        Ok(())
    }
}

/// Messages from memory, in pieces of `piece` bytes.
pub struct Given {
    pub announced: Vec<Outgoing>,
    pub texts: Vec<Vec<u8>>,
    pub piece: usize,
    /// The file of this message changes after it was looked at.
    pub changes: Option<usize>,
    at: (usize, usize),
    buffer: Vec<u8>,
}

impl Given {
    pub fn new(messages: Vec<(Vec<u8>, Flags, i64)>) -> Self {
        let announced = messages
            .iter()
            .map(|(t, f, d)| Outgoing { flags: f.clone(), internal_date: *d, size: t.len() as u64 })
            .collect();
        let texts = messages.into_iter().map(|m| m.0).collect();
        Self { announced, texts, piece: 50_000, changes: None, at: (0, 0), buffer: Vec::new() }
    }
}

impl AppendSource for Given {
    fn messages(&self) -> &[Outgoing] {
        &self.announced
    }
    async fn open(&mut self, index: usize) -> Result<()> {
        self.at = (index, 0);
        Ok(())
    }
    async fn chunk(&mut self) -> Result<Option<&[u8]>> {
        let (index, from) = self.at;
        let text = &self.texts[index];
        let to = (from + self.piece).min(text.len());
        self.buffer = text[from..to].to_vec();
        self.at.1 = to;
        Ok((to > from).then_some(&self.buffer))
    }
    async fn settled(&mut self) -> Result<()> {
        if self.changes == Some(self.at.0) {
            return Err(Error::message(mailkeep::Kind::Raced, "the file changed"));
        }
        Ok(())
    }
}
