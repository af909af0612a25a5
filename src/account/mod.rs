//! One account: what a pass over it is asked to do, what it does, and what it reports.
//!
//! Reading order: `start` (locks, root marker, ledger, login), `opened` (what a daemon keeps from
//! one pass to the next), `pass` (the rounds), `observe`,
//! then [`crate::reconcile`], [`crate::policy`] and [`crate::executor`]; `holds`, `resolve`
//! (intents) and `describe` (dry run) beside them.

pub mod backoff;
pub mod clock;
mod connect;
mod decide;
mod describe;
mod holds;
mod marker;
mod observe;
mod opened;
pub mod pass;
mod resolve;
mod start;

pub use connect::connect;
pub use decide::{decide, find_hold};
pub(crate) use marker::Guard;
pub(crate) use observe::{as_observed as observe_flags, pending as observe_pending, sync_keywords};
pub use opened::{Known, Opened};
pub(crate) use pass::{Namer, SharedLedger};
pub(crate) use start::SECRET_WITHIN;
pub(crate) use start::log_in_as;
pub use start::pass;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::FolderName;
use crate::policy::FolderPattern;

/// What one pass is asked to do, beside what the configuration says.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// Act only in these folders; empty means in all. What is observed is never limited.
    pub folders: Vec<FolderPattern>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Take the maildir over from the host that its marker names.
    pub take_over: bool,
    /// Nobody asked for it: the daemon looks by itself.
    pub by_itself: bool,
}

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassReport {
    /// Messages that came from the server.
    pub new: u64,
    /// Where they came to.
    #[serde(skip)]
    pub new_in: BTreeSet<FolderName>,
    /// Messages that were sent to the server.
    pub sent: u64,
    /// Messages whose flags changed, on either side.
    pub flags: u64,
    /// Messages that were moved, on either side.
    pub moved: u64,
    /// Messages that were copied on the server, as they were here.
    #[serde(default)]
    pub copied: u64,
    /// Messages that were deleted, on either side.
    pub deleted: u64,
    /// Messages whose remote copy went in this pass, and which stay here.
    pub kept: u64,
    /// Messages that wait for a decision, of earlier passes too.
    pub held: u64,
    /// What the user should know and need not act on at once.
    pub notes: Vec<String>,
    /// Folders and messages that failed; the others are done.
    pub errors: Vec<Error>,
    /// POP3: the least time between two logins that the server allows, in seconds. 0: not said.
    pub login_delay: u32,
    /// Under dry-run: what would be done, a line each.
    pub plan: Vec<String>,
    /// Something was left for another pass: it could not be observed whole, or kept changing.
    #[serde(skip)]
    pub unfinished: bool,
    /// Folders in which the server had something that the ledger did not know.
    #[serde(skip)]
    pub news_in: BTreeSet<FolderName>,
}

/// A pass that failed. What it had done until then is done all the same: new mail is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Why it failed.
    pub error: Error,
    /// What it had done.
    pub report: Box<PassReport>,
}

impl From<Error> for Failed {
    /// It failed before it did anything.
    fn from(error: Error) -> Self {
        Self { error, report: Box::default() }
    }
}

impl PassReport {
    /// It ended with this error.
    pub(crate) fn failed(self, error: Error) -> Failed {
        Failed { error, report: Box::new(self) }
    }

    /// Counts what came before, too.
    pub(crate) fn after(&mut self, earlier: Self) {
        self.new += earlier.new;
        self.new_in.extend(earlier.new_in);
        self.sent += earlier.sent;
        self.flags += earlier.flags;
        self.moved += earlier.moved;
        self.copied += earlier.copied;
        self.deleted += earlier.deleted;
        self.kept += earlier.kept;
        self.news_in.extend(earlier.news_in);
    }
}

impl fmt::Display for PassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} new, {} sent, {} flags, {} moved, ",
            self.new, self.sent, self.flags, self.moved
        )?;
        if self.copied > 0 {
            write!(f, "{} copied, ", self.copied)?;
        }
        write!(f, "{} deleted; {} kept", self.deleted, self.kept)?;
        if self.held > 0 {
            write!(f, ", {} held", self.held)?;
        }
        Ok(())
    }
}
