//! How a worker hears of changes on the server: starts push, starts it again when it is lost, knows
//! its own doings again, and finds out whether push tells all.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::account::backoff::{self, Backoff, Cause, Then};
use crate::account::{self, Known, Opened};
use crate::config::{Account, Protocol};
use crate::error::{Error, Kind, Result};
use crate::imap::push::{Hint, Method, Pace, Push, Said, Wanted, Watched};
use crate::model::FolderName;
use crate::net::Timeouts;

/// An account's push, or what is left of it.
pub struct Hearing {
    account: Arc<Account>,
    push: Option<Push>,
    starting: Option<JoinHandle<Result<Push>>>,
    /// When it is to be started.
    start_at: Option<Instant>,
    /// When it was started, and what folders there were then.
    started: (Instant, BTreeSet<FolderName>),
    backoff: Backoff,
    /// As last listed.
    folders: Vec<Watched>,
    /// News that a poll found and push has not told of yet, and until when it may.
    suspects: BTreeMap<FolderName, Instant>,
    /// What it did not tell of, for `status`.
    demoted: Option<String>,
}

/// What became of it.
pub enum Event {
    /// The server told of something.
    Hint(Hint),
    /// The connection is lost.
    Lost(Error),
    /// A start has ended.
    Started(Result<Push>),
    /// It is time to start.
    Start,
    /// Something that a poll found was not told in time.
    Late,
}

/// A server that let a pass through is asked for push again within this, however often the
/// connections broke before.
const AFTER_A_PASS: Duration = Duration::from_secs(60);

/// How long it may take to tell what a poll found. Dovecot lets news rest for half a second.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// What lived this long was no failure.
const STEADY: Duration = Duration::from_secs(60);

/// Where the credentials are refused, though a pass has logged in with them.
const REFUSED_AGAIN: Duration = Duration::from_secs(900);

impl Hearing {
    /// Of nothing, until a pass has listed the folders.
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            push: None,
            starting: None,
            start_at: None,
            started: (Instant::now(), BTreeSet::new()),
            backoff: Backoff::default(),
            folders: Vec::new(),
            suspects: BTreeMap::new(),
            demoted: None,
        }
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        let start_at = self.start_at.filter(|_| self.starting.is_none());
        let late = self.suspects.values().min().copied();
        tokio::select! {
            hint = hint(&mut self.push) => match hint {
                Ok(hint) => Event::Hint(hint),
                Err(e) => Event::Lost(e),
            },
            started = started(&mut self.starting) => Event::Started(started),
            () = until(start_at) => Event::Start,
            () = until(late) => Event::Late,
        }
    }

    /// Does what the event asks for. True: look at the server.
    pub fn take(&mut self, event: Event, opened: Option<&Opened>, dice: u64) -> bool {
        match event {
            Event::Hint(hint) => return self.is_news(hint, opened),
            Event::Lost(e) => {
                self.lost(&e, dice);
                return true;
            }
            Event::Started(Ok(push)) => {
                self.push = Some(push);
                self.demoted = None;
                tracing::debug!("{}: push: {:?}", self.account.name, self.methods());
            }
            Event::Started(Err(e)) => self.lost(&e, dice),
            Event::Start => self.start(),
            Event::Late => self.demote(),
        }
        false
    }

    /// After a listing: what is to be heard of.
    pub fn know(&mut self, folders: &[Known]) {
        if self.account.protocol != Protocol::Imap {
            return;
        }
        let watched = |f: &Known| Watched {
            name: f.name.clone(),
            wire: f.wire.clone(),
            personal: f.personal,
            mirrored: f.mirrored,
        };
        self.folders = folders.iter().map(watched).collect();
        let Some(push) = &mut self.push else {
            if self.starting.is_none() {
                let now = Instant::now();
                self.start_at = Some(self.start_at.map_or(now, |at| at.min(now + AFTER_A_PASS)));
            }
            return;
        };
        push.set_folders(&self.folders);
        // a folder that is to be watched by IDLE has appeared
        let appeared = |f: &FolderName| {
            push.methods().get(f) == Some(&Method::Poll) && !self.started.1.contains(f)
        };
        let idles = push.methods().values().any(|m| *m == Method::Idle);
        if idles && self.account.idle_folders.iter().any(appeared) {
            self.push = None;
            self.start_at = Some(Instant::now());
        }
    }

    /// A poll found news in these folders, which was not told of until now.
    pub fn suspect(&mut self, found: &BTreeSet<FolderName>) {
        let Some(push) = &self.push else { return };
        let until = Instant::now() + TOLD_WITHIN;
        for folder in found {
            if push.methods().get(folder).is_some_and(|m| *m != Method::Poll) {
                self.suspects.insert(folder.clone(), until);
            }
        }
    }

    /// Whether `poll_interval` counts.
    pub fn needs_polling(&self) -> bool {
        self.push.as_ref().is_none_or(Push::needs_polling)
    }

    /// How each mirrored folder is heard of.
    pub fn methods(&self) -> BTreeMap<String, String> {
        let polled = |f: &Watched| (f.name.to_string(), Method::Poll.to_string());
        match &self.push {
            Some(p) => p.methods().iter().map(|(f, m)| (f.to_string(), m.to_string())).collect(),
            None => self.folders.iter().filter(|f| f.mirrored).map(polled).collect(),
        }
    }

    /// What a person should know.
    pub fn note(&self) -> Option<&str> {
        self.demoted.as_deref()
    }

    /// A start that failed is tried again without more waiting.
    pub fn forgive(&mut self) {
        self.backoff.reset();
        self.start_at = self.start_at.map(|_| Instant::now());
    }

    /// Drops every connection.
    pub async fn hang_up(&mut self) {
        if let Some(starting) = self.starting.take() {
            starting.abort();
        }
        if let Some(push) = self.push.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), push.close()).await;
        }
        self.suspects.clear();
    }

    fn start(&mut self) {
        self.start_at = None;
        let account = self.account.clone();
        let wanted = Wanted {
            folders: self.folders.clone(),
            idle: account.idle_folders.clone(),
            // one is the pass's own
            connections: account.connections.saturating_sub(1),
        };
        let names = wanted.folders.iter().map(|f| f.name.clone()).collect();
        self.started = (Instant::now(), names);
        self.starting = Some(tokio::spawn(async move {
            let login = account::log_in_as(&account).await?;
            let (timeouts, pace) = (Timeouts::default(), Pace::default());
            Push::start(&account.endpoint, &login, &timeouts, &wanted, pace).await
        }));
    }

    /// There is no push for a while; the polls go on.
    fn lost(&mut self, e: &Error, dice: u64) {
        tracing::debug!("{}: push is lost: {e}", self.account.name);
        if self.push.take().is_some() && self.started.0.elapsed() > STEADY {
            self.backoff.reset();
        }
        self.suspects.clear();
        let wait = match self.backoff.failed(Cause::of(e), backoff::hint(&e.what), dice) {
            Then::Wait(wait) => wait,
            Then::Park => REFUSED_AGAIN,
        };
        self.start_at = Instant::now().checked_add(wait);
    }

    /// Whether a hint says more than the ledger knows: our own doings come back as hints.
    fn is_news(&mut self, hint: Hint, opened: Option<&Opened>) -> bool {
        let Hint::Folders(said) = hint else {
            self.suspects.clear();
            return true;
        };
        self.suspects.retain(|folder, _| !said.contains_key(folder));
        let Some(opened) = opened else { return true };
        let Ok(records) = opened.with_ledger(|l| l.folders()) else { return true };
        let known = |(name, said): (&FolderName, &Said)| {
            let record = records.values().find(|r| r.name == *name);
            record.is_some_and(|r| {
                // Dovecot does not say UIDVALIDITY; a folder that was made anew is told as such
                said.uidvalidity.is_none_or(|v| Some(v) == r.uidvalidity)
                    && said.uidnext.is_some()
                    && said.uidnext == r.uidnext
                    && said.messages == Some(r.messages)
                    && said.modseq.is_some()
                    && said.modseq == r.modseq
            })
        };
        !said.iter().all(known)
    }

    /// A poll found what push has not told of in time.
    fn demote(&mut self) {
        let now = Instant::now();
        let Some(push) = &mut self.push else { return self.suspects.clear() };
        for (folder, until) in std::mem::take(&mut self.suspects) {
            if until > now {
                self.suspects.insert(folder, until);
            } else if push.demote(&folder) {
                let note =
                    format!("the server did not tell of changes in {folder} by push; it is polled");
                tracing::warn!("{}: {note}", self.account.name);
                self.demoted = Some(note);
            }
        }
    }
}

/// Until then, or for ever.
pub async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}

async fn hint(push: &mut Option<Push>) -> Result<Hint> {
    match push {
        Some(push) => push.next().await,
        None => pending().await,
    }
}

async fn started(starting: &mut Option<JoinHandle<Result<Push>>>) -> Result<Push> {
    let Some(task) = starting else { return pending().await };
    let done = task.await;
    *starting = None;
    done.unwrap_or_else(|_| Err(Error::account(Kind::Internal, "the start of push was lost")))
}
