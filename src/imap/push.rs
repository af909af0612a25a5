//! Hearing of changes on the server as they happen: NOTIFY on one connection for all folders
//! (RFC 5465), else IDLE on some folders, a connection each (RFC 2177), else nothing. The
//! connections are its own. What is heard is a hint: it says where to look, never what to do.
//!
//! Each connection is a task (`ear`); what they hear is united (`heard`) until somebody asks.

mod ear;
mod heard;
mod said;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::session::Session;
use crate::error::{Kind, Result};
use crate::model::FolderName;
use crate::net::{Endpoint, Timeouts};
use crate::sasl::LoginSpec;
use ear::Ear;
use heard::Heard;
pub use said::Said;

/// How the changes of a folder are heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// NOTIFY tells.
    Notify,
    /// IDLE tells.
    Idle,
    /// Nothing tells: somebody has to ask.
    Poll,
}

impl Method {
    /// As `status` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Idle => "idle",
            Self::Poll => "poll",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A folder of the last listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub name: FolderName,
    /// The name as the server spells it.
    pub wire: Vec<u8>,
    /// Whether it is the user's own; else another user's or a shared one.
    pub personal: bool,
    /// Whether it is mirrored. Of others nothing is told, but their names are no news either.
    pub mirrored: bool,
}

/// What is to be heard of.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// All folders that can be opened, as listed.
    pub folders: Vec<Watched>,
    /// Where there is no NOTIFY: the folders to watch by IDLE, the most important first.
    pub idle: Vec<FolderName>,
    /// How many connections may be held. With 0, all is polled.
    pub connections: usize,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// After so much time the server has to show that it is still there. Below what a NAT forgets
    /// a connection after, and below the 29 minutes of RFC 2177.
    pub renew: Duration,
    /// How long it may take to.
    pub answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { renew: Duration::from_secs(300), answer: Duration::from_secs(30) }
    }
}

/// Where to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// In these folders, with what the server said of each: enough to know one's own doings again,
    /// never enough to act on.
    Folders(BTreeMap<FolderName, Said>),
    /// Everywhere: folders were made, renamed or removed, or something was missed.
    Everything,
}

/// The connections that hear. Dropped, they are closed.
pub struct Push {
    heard: Arc<Heard>,
    methods: BTreeMap<FolderName, Method>,
    ears: JoinSet<()>,
    /// True: say goodbye.
    closing: watch::Sender<bool>,
}

impl Push {
    /// Connects, and begins to listen; falls from NOTIFY to IDLE to polling as the server refuses.
    /// The connections live in tasks of the runtime that this is called in. An error has the scope
    /// account: try again later.
    pub async fn start(
        endpoint: &Endpoint,
        login: &LoginSpec,
        timeouts: &Timeouts,
        wanted: &Wanted,
        pace: Pace,
    ) -> Result<Self> {
        let mut push = Self {
            heard: Arc::new(Heard::new(&wanted.folders)),
            methods: BTreeMap::new(),
            ears: JoinSet::new(),
            closing: watch::Sender::new(false),
        };
        for f in wanted.folders.iter().filter(|f| f.mirrored) {
            push.methods.insert(f.name.clone(), Method::Poll);
        }
        if wanted.connections == 0 {
            return Ok(push);
        }
        let session = Session::connect(endpoint, login, timeouts).await?;
        let mut ear = Ear::new(session, push.heard.clone(), pace);
        // what the quirk table knows of the server counts the pass's own connection too
        let most = ear.most_connections().map_or(wanted.connections, |m| {
            wanted.connections.min(usize::try_from(m).unwrap_or(usize::MAX).saturating_sub(1))
        });
        if ear.notify(&wanted.folders).await? {
            push.methods.values_mut().for_each(|m| *m = Method::Notify);
            push.listen(ear);
            return Ok(push);
        }
        let mut first = Some(ear);
        for name in wanted.idle.iter() {
            if push.ears.len() >= most {
                break;
            }
            let Some(folder) = wanted.folders.iter().find(|f| f.name == *name && f.mirrored) else {
                continue;
            };
            let mut ear = match first.take() {
                Some(ear) => ear,
                None => match Session::connect(endpoint, login, timeouts).await {
                    Ok(session) => Ear::new(session, push.heard.clone(), pace),
                    // one connection more than the server likes: what is heard already stays
                    Err(e) if matches!(e.kind, Kind::Connection | Kind::Credentials) => {
                        tracing::info!(server = %endpoint, folder = %name, "not watched: {e}");
                        break;
                    }
                    Err(e) => return Err(e),
                },
            };
            if ear.idle(folder).await? {
                push.methods.insert(name.clone(), Method::Idle);
                push.listen(ear);
            } else if ear.can_idle() {
                first = Some(ear);
            } else {
                ear.logout().await;
                break;
            }
        }
        if let Some(ear) = first {
            ear.logout().await;
        }
        Ok(push)
    }

    /// The next hint. The first is [`Hint::Everything`], for what happened until now. What comes
    /// while nobody asks is united. Cancel-safe. Where nothing pushes it waits for ever. An error
    /// ends the hearing: drop this, and start another one later.
    pub async fn next(&mut self) -> Result<Hint> {
        self.heard.next().await
    }

    /// How each mirrored folder is heard of.
    pub fn methods(&self) -> &BTreeMap<FolderName, Method> {
        &self.methods
    }

    /// Whether there are folders that nothing tells of.
    pub fn needs_polling(&self) -> bool {
        self.methods.values().any(|m| *m == Method::Poll)
    }

    /// Somebody asked and found what should have been told of this folder: it counts as polled from
    /// now on, and with it all that the same connection told of. False if it did already.
    pub fn demote(&mut self, folder: &FolderName) -> bool {
        match self.methods.get(folder) {
            None | Some(Method::Poll) => false,
            Some(Method::Idle) => {
                self.methods.insert(folder.clone(), Method::Poll);
                true
            }
            Some(Method::Notify) => {
                self.methods.values_mut().for_each(|m| *m = Method::Poll);
                true
            }
        }
    }

    /// After a new listing: what the server's spellings mean. Folders that are new here are heard
    /// of by NOTIFY where they are personal; else they are polled until the next start.
    pub fn set_folders(&mut self, folders: &[Watched]) {
        self.heard.set_folders(folders);
        let notify = self.methods.values().any(|m| *m == Method::Notify);
        let method = |f: &Watched| match self.methods.get(&f.name) {
            Some(m) => *m,
            None if notify && f.personal => Method::Notify,
            None => Method::Poll,
        };
        let mirrored = folders.iter().filter(|f| f.mirrored);
        self.methods = mirrored.map(|f| (f.name.clone(), method(f))).collect();
    }

    /// Says goodbye, and does not wait for the answers.
    pub async fn close(mut self) {
        self.closing.send_replace(true);
        while self.ears.join_next().await.is_some() {}
    }

    fn listen(&mut self, ear: Ear) {
        self.ears.spawn(ear.listen(self.closing.subscribe()));
    }
}
