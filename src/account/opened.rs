//! An account that is open: its lock is held and its ledger is open; in a daemon it also stays
//! logged in from one pass to the next.

use std::time::{Duration, Instant};

use super::pass::{FolderState, SharedLedger};
use super::start::{log_in, on_ledger, open};
use super::{Failed, PassOptions, PassReport};
use crate::config::{Account, Config};
use crate::error::{Kind, Result};
use crate::imap::Session;
use crate::ledger::Ledger;
use crate::maildir::MarkerLock;
use crate::maildir::watch::Complete;
use crate::model::{FolderName, RowId};
use crate::progress::Progress;
use crate::reconcile::Presence;

/// An account in our hands.
pub struct Opened {
    ledger: SharedLedger,
    kept: Kept,
    _lock: MarkerLock,
}

/// A folder of the server as the last pass listed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: FolderName,
    /// The name as the server spells it.
    pub wire: Vec<u8>,
    /// Whether it is the user's own.
    pub personal: bool,
    /// Whether it is mirrored.
    pub mirrored: bool,
}

impl Opened {
    /// Takes the lock and opens the ledger; makes a new maildir where there was none.
    pub fn open(account: &Account, config: &Config) -> Result<Self> {
        let (lock, ledger) = open(account, config)?;
        Ok(Self { ledger: SharedLedger::new(ledger), kept: Kept::default(), _lock: lock })
    }

    /// One pass, and the end.
    pub async fn once(
        mut self,
        account: &Account,
        options: &PassOptions,
        progress: &Progress,
    ) -> Result<PassReport, Failed> {
        on_ledger(account, options, progress, &self.ledger, &mut self.kept).await
    }

    /// One pass of many. A session that broke since the last one is no failure: it is made anew.
    pub async fn pass(
        &mut self,
        account: &Account,
        options: &PassOptions,
        progress: &Progress,
    ) -> Result<PassReport, Failed> {
        self.kept.stays = true;
        let reused = self.kept.prove().await;
        let mut done = on_ledger(account, options, progress, &self.ledger, &mut self.kept).await;
        if let Err(first) = &done
            && reused
            && matches!(first.error.kind, Kind::Connection | Kind::Protocol)
        {
            tracing::debug!("{}: {}; once more with a new session", account.name, first.error);
            let earlier = (*first.report).clone();
            done = on_ledger(account, options, progress, &self.ledger, &mut self.kept).await;
            match &mut done {
                Ok(report) => report.after(earlier),
                Err(second) => second.report.after(earlier),
            }
        }
        let rested = self.ledger.with(|l| l.rest());
        match (done, rested) {
            (Ok(report), Err(e)) => Err(report.failed(e)),
            (done, _) => done,
        }
    }

    /// Files that are known to be whole though they are young need not be waited for.
    pub fn trust(&mut self, complete: Complete) {
        self.kept.complete = Some(complete);
    }

    /// Drops the session: the network is another one now.
    pub fn hang_up(&mut self) {
        self.kept.session = None;
    }

    /// The folders that the last pass found on the server.
    pub fn folders(&self) -> &[Known] {
        &self.kept.folders
    }

    /// Works with the ledger.
    pub fn with_ledger<T>(&self, f: impl FnOnce(&mut Ledger) -> Result<T>) -> Result<T> {
        self.ledger.with(f)
    }

    /// Says goodbye. The lock is given back when the threads of a pass that was dropped midway have
    /// committed what they had in hand.
    pub async fn close(mut self) {
        if let Some((session, _)) = self.kept.session.take() {
            session.logout().await;
        }
        while !self.ledger.is_alone() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What is kept from one pass to the next.
#[derive(Default)]
pub(super) struct Kept {
    /// Whether there will be another pass.
    stays: bool,
    /// Logged in, with no folder open, and since when it is idle.
    session: Option<(Session, Instant)>,
    folders: Vec<Known>,
    /// When the last pass began, and the newest row then.
    began: Option<(Instant, RowId)>,
    /// Files that are known to be whole.
    pub(super) complete: Option<Complete>,
    /// What a crash left in `tmp` was cleared.
    pub(super) cleared: bool,
}

/// A session that was idle for this long has to show that it still lives.
const DOUBTFUL: Duration = Duration::from_secs(30);
/// How long it may take to. A dead one would take a minute to be silent enough.
const PROOF: Duration = Duration::from_secs(10);

/// What was seen to arrive in a pass this long ago may be seen to go elsewhere in this one.
const JUST_NOW: Duration = Duration::from_secs(60);

impl Kept {
    /// Whether there is a session that can be used again. A half-open one is found out here.
    async fn prove(&mut self) -> bool {
        let Some((session, idle)) = &mut self.session else { return false };
        if idle.elapsed() >= DOUBTFUL
            && !matches!(tokio::time::timeout(PROOF, session.noop()).await, Ok(Ok(())))
        {
            self.session = None;
        }
        self.session.is_some()
    }

    /// The newest row when the last pass began, if that was just now; else the newest of all.
    pub(super) fn newest_before(&mut self, newest: RowId) -> RowId {
        let last = self.began.replace((Instant::now(), newest));
        last.filter(|(at, _)| at.elapsed() < JUST_NOW).map_or(newest, |(_, row)| row)
    }

    /// The session that is there, else a new one.
    pub(super) async fn session(&mut self, account: &Account) -> Result<Session> {
        match self.session.take() {
            Some((session, _)) => Ok(session),
            None => log_in(account).await,
        }
    }

    /// After a pass.
    pub(super) async fn keep<'a>(
        &mut self,
        mut session: Session,
        folders: impl Iterator<Item = &'a FolderState>,
    ) {
        if !self.stays {
            return session.logout().await;
        }
        self.folders = folders
            .filter(|f| f.server == Presence::There)
            .filter_map(|f| {
                Some(Known {
                    name: f.rec.name.clone(),
                    wire: f.rec.wire.clone()?,
                    personal: f.personal,
                    mirrored: f.selected,
                })
            })
            .collect();
        match session.rest().await {
            Ok(true) => self.session = Some((session, Instant::now())),
            Ok(false) => session.logout().await,
            // what was done is done; the next pass makes another
            Err(e) => tracing::debug!("the session is not kept: {e}"),
        }
    }
}
