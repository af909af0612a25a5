//! Where a worker says how it stands: for `status`, for systemd, and for the watchdog.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::protocol::{Live, State};
use crate::account::clock::unix_now;
use crate::model::FolderName;
use crate::progress::{Progress, Show};
use crate::words::messages;

/// One worker's.
pub struct Board {
    live: Mutex<Live>,
    /// Told when the state changed; shared by all boards.
    changed: Arc<Notify>,
    started: Instant,
    /// The last sign of life, in milliseconds since `started`.
    beat: AtomicU64,
    total: AtomicU64,
    done: AtomicU64,
    folder: Mutex<String>,
}

impl Board {
    /// Of a worker that is started now.
    pub fn new(changed: Arc<Notify>) -> Self {
        Self {
            live: Mutex::new(Live::new(unix_now())),
            changed,
            started: Instant::now(),
            beat: AtomicU64::new(0),
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            folder: Mutex::default(),
        }
    }

    /// How it stands.
    pub fn live(&self) -> Live {
        let mut live = lock(&self.live).clone();
        if live.state == State::Syncing {
            live.doing = self.doing();
        }
        live
    }

    /// Changes what it says.
    pub fn set(&self, f: impl FnOnce(&mut Live)) {
        let mut live = lock(&self.live);
        let before = live.state;
        f(&mut live);
        if live.state != before {
            live.since = unix_now();
            self.changed.notify_one();
        }
    }

    /// A sign of life.
    pub fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(now, Ordering::Relaxed);
    }

    /// How long ago the last sign of life was.
    pub fn quiet(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(beat)
    }

    /// What a pass reports to.
    pub fn progress(self: &Arc<Self>) -> Progress {
        self.total.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        lock(&self.folder).clear();
        Progress::shown_by(Reporter(self.clone()))
    }

    fn doing(&self) -> Option<String> {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let folder = lock(&self.folder).clone();
        (done > 0 || total > 0)
            .then(|| format!("{done} of {}, now {folder}", messages(total.max(done))))
    }
}

/// A pass's progress, for the board.
struct Reporter(Arc<Board>);

impl Show for Reporter {
    fn begin(&self, messages: u64) {
        self.0.total.store(messages, Ordering::Relaxed);
        self.0.beat();
    }
    fn folder(&self, name: &FolderName) {
        *lock(&self.0.folder) = name.to_string();
        self.0.beat();
    }
    fn message(&self, _: u64) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
        self.0.beat();
    }
    fn undone(&self, messages: u64, _: u64) {
        self.0.done.fetch_sub(messages, Ordering::Relaxed);
        self.0.beat();
    }
    fn note(&self, text: &str) {
        tracing::info!("{text}");
    }
    fn alive(&self) {
        self.0.beat();
    }
    fn finish(&self) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing in here panics halfway
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
