//! Hearing of local changes as they happen, by inotify. What is heard is a hint: it says which
//! folders to look at again, never what happened there. Our own doings are not told (`ours`).
//!
//! A thread reads the events as they come (`tree`), also while a pass keeps everything else
//! busy: so the system's queue does not overflow, and files are known to be whole (`complete`).
//! What it reads is united until somebody asks (`pending`).
//!
//! Not by the crate `notify` (8.2): it asks for OPEN, ATTRIB and MODIFY of everything, so that
//! each of our own scans and every look of a reader wakes it; it drops IN_UNMOUNT and IN_IGNORED,
//! so that a lost watch goes unsaid; it follows symlinks, and keeps the old path of a directory
//! that was renamed. The calls it would spare are four, and safe in rustix.

mod complete;
mod pending;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::sync::Notify;

use super::layout::Layout;
use super::ours::Expected;
use super::tree::Maildir;
use crate::model::FolderName;
use crate::{Error, Kind, Result};
pub use complete::Complete;
use pending::{News, Pending};
use tree::Tree;

/// What to look at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// These folders.
    Folders(BTreeSet<FolderName>),
    /// Everything.
    Everything(Why),
}

/// Why everything has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing was watched before.
    Started,
    /// A folder appeared, went, or was renamed.
    Folders,
    /// More happened than the system could tell.
    Overflow,
    /// The maildir or a part of it went away, or can be watched again.
    Lost,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "it was not watched before",
            Self::Folders => "folders were made, removed or renamed",
            Self::Overflow => "more happened than the system could tell",
            Self::Lost => "what was watched went away or came back",
        })
    }
}

/// Watches one maildir. Dropped, it ends.
pub struct Watcher {
    shared: Arc<Shared>,
    stop: Arc<OwnedFd>,
    complete: Complete,
}

struct Shared {
    state: Mutex<State>,
    news: Notify,
    /// Times are counted from here.
    epoch: Instant,
}

struct State {
    pending: Pending,
    degraded: Option<Error>,
}

/// How long to wait before a root that is gone is looked for again.
const ROOT_AGAIN: Duration = Duration::from_secs(2);
/// The same for what there were no watches for: this reads all directories.
const WATCHES_AGAIN: Duration = Duration::from_secs(60);

impl Watcher {
    /// Watches `cur` and `new` of every folder, and where folders can appear. When this returns,
    /// everything that happens from now on will be told. Reads all directories that folders can
    /// be in. An error if the system gives no watches at all, or the root is not there.
    pub fn start(root: &Path, layout: Layout) -> Result<Self> {
        Maildir::open(root, layout)?;
        let complete = Complete::default();
        let expected = Expected::register(root);
        let fail = |e| unwatched(root, e);
        let tree = Tree::new(root, layout, expected.clone(), complete.clone()).map_err(fail)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?);
        let degraded = degraded(root, &tree);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { pending: Pending::started(), degraded }),
            news: Notify::new(),
            epoch: Instant::now(),
        });
        let thread = Thread {
            root: root.to_owned(),
            layout,
            tree,
            expected,
            complete: complete.clone(),
            shared: shared.clone(),
            stop: stop.clone(),
        };
        std::thread::Builder::new()
            .name("mk-watch".into())
            .stack_size(256 * 1024)
            .spawn(move || thread.run())
            .map_err(|e| {
                Error::account(Kind::Io, format!("cannot start a thread: {e}"))
                    .next("see ulimit -u and free memory")
            })?;
        Ok(Self { shared, stop, complete })
    }

    /// The next hint. The first says [`Why::Started`]. One change after quiet is told some 25 ms
    /// later, a stream of changes every 100 ms. Cancel-safe. What goes wrong is a hint to look at
    /// everything, and is said by [`Watcher::degraded`].
    pub async fn changed(&mut self) -> Hint {
        loop {
            let now = self.shared.epoch.elapsed();
            let due = {
                let mut state = self.shared.state();
                if let Some(hint) = state.pending.take(now) {
                    return hint;
                }
                state.pending.due()
            };
            match due {
                Some(due) => tokio::time::sleep(due.saturating_sub(now)).await,
                // what came meanwhile left a permit
                None => self.shared.news.notified().await,
            }
        }
    }

    /// Why not everything is heard of, with the next step. While there is such a reason, somebody
    /// has to look from time to time. It goes away by itself.
    pub fn degraded(&self) -> Option<Error> {
        self.shared.state().degraded.clone()
    }

    /// The files that are known to be whole though they are young.
    pub fn complete(&self) -> Complete {
        self.complete.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // a counter that takes no more wakes the thread all the same
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // nothing in here panics halfway
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: News, degraded: Option<Error>) {
        let some = !news.is_none();
        let mut state = self.state();
        state.pending.add(self.epoch.elapsed(), news);
        state.degraded = degraded;
        drop(state);
        if some {
            self.news.notify_one();
        }
    }
}

/// The reader of events.
struct Thread {
    root: PathBuf,
    layout: Layout,
    tree: Tree,
    expected: Arc<Expected>,
    complete: Complete,
    shared: Arc<Shared>,
    stop: Arc<OwnedFd>,
}

impl Thread {
    fn run(mut self) {
        loop {
            let again = match (self.tree.is_gone(), self.tree.missing()) {
                (true, _) => Some(ROOT_AGAIN),
                (false, Some(_)) => Some(WATCHES_AGAIN),
                (false, None) => None,
            };
            let Some(timed_out) = self.wait(again) else { return };
            let mut news = News::default();
            if timed_out {
                self.try_again(&mut news);
            } else if let Err(e) = self.tree.read(&mut news) {
                tracing::warn!(maildir = %self.root.display(), "cannot read what changed: {e}");
                news.everything(Why::Lost);
                self.renew(&mut news);
            }
            if self.tree.is_stale() {
                self.renew(&mut news);
            }
            self.shared.tell(news, degraded(&self.root, &self.tree));
        }
    }

    /// Waits for events: true if none came in time. Nothing if it is to end.
    fn wait(&self, within: Option<Duration>) -> Option<bool> {
        let within = within.and_then(|d| Timespec::try_from(d).ok());
        let tree = self.tree.fd();
        // the events of a root that is gone are read, and say nothing
        let mut fds = [
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::from_borrowed_fd(tree, PollFlags::IN),
        ];
        loop {
            match poll(&mut fds, within.as_ref()) {
                Ok(0) => return Some(true),
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
        let [stop, _] = &fds;
        stop.revents().is_empty().then_some(false)
    }

    fn try_again(&mut self, news: &mut News) {
        if self.tree.is_gone() {
            return self.renew(news);
        }
        self.tree.complete_again();
        if self.tree.missing().is_none() {
            news.everything(Why::Lost);
        }
    }

    /// Watches anew, since which watches stand is not known.
    fn renew(&mut self, news: &mut News) {
        self.complete.clear();
        self.expected.clear();
        let new = Tree::new(&self.root, self.layout, self.expected.clone(), self.complete.clone());
        match new {
            Ok(tree) => {
                self.tree = tree;
                if self.tree.missing().is_some() {
                    // now that the old ones are free
                    self.tree.complete_again();
                }
                news.everything(Why::Lost);
            }
            Err(e) => {
                tracing::debug!(maildir = %self.root.display(), "cannot be watched: {e}");
                self.tree.give_up();
            }
        }
    }
}

/// Why not everything is watched.
fn degraded(root: &Path, tree: &Tree) -> Option<Error> {
    if tree.is_gone() {
        let what = format!("the maildir {} went away", root.display());
        let next = "mount it again, or put it back; it is looked for every few seconds";
        return Some(Error::account(Kind::Maildir, what).next(next));
    }
    tree.missing().map(|e| unwatched(root, e))
}

fn unwatched(root: &Path, e: Errno) -> Error {
    // a service may not see it
    let limit = |name: &str| {
        let file = format!("/proc/sys/fs/inotify/{name}");
        std::fs::read_to_string(file).map(|n| format!(" (it is {})", n.trim())).unwrap_or_default()
    };
    let what = |why: &str| format!("cannot watch all of {}: {why}", root.display());
    let raise =
        |name: &str, to: &str| format!("raise it{}: sysctl fs.inotify.{name}={to}", limit(name));
    match e {
        Errno::NOSPC => Error::account(Kind::Io, what("this user's inotify watches are used up"))
            .next(raise("max_user_watches", "524288")),
        Errno::MFILE => Error::account(Kind::Io, what("this user's inotify instances are used up"))
            .next(raise("max_user_instances", "512")),
        e => Error::account(Kind::Io, what(&e.to_string()))
            .next("changes are found by looking from time to time; check the directory's mode"),
    }
}

#[cfg(test)]
mod tests;
