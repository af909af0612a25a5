//! One account: what a pass over it is asked to do, what it does, and what it reports.
//!
//! Reading order: `start` (locks, root marker, ledger, login), `pass` (the rounds), `observe`,
//! then [`crate::reconcile`], [`crate::policy`] and [`crate::executor`]; `holds`, `resolve`
//! (intents) and `describe` (dry run) beside them.

pub mod clock;
mod connect;
mod describe;
mod holds;
mod marker;
mod observe;
pub mod pass;
mod resolve;
mod start;

pub use connect::connect;
pub(crate) use marker::Guard;
pub(crate) use observe::{as_observed as observe_flags, pending as observe_pending, sync_keywords};
pub(crate) use pass::{Namer, SharedLedger};
pub(crate) use start::SECRET_WITHIN;
pub use start::pass;

use std::fmt;

use crate::error::Error;
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
}

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassReport {
    /// Messages that came from the server.
    pub new: u64,
    /// Messages that were sent to the server.
    pub sent: u64,
    /// Messages whose flags changed, on either side.
    pub flags: u64,
    /// Messages that were moved or copied, on either side.
    pub moved: u64,
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
}

impl fmt::Display for PassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} new, {} sent, {} flags, {} moved, {} deleted; {} kept",
            self.new, self.sent, self.flags, self.moved, self.deleted, self.kept
        )?;
        if self.held > 0 {
            write!(f, ", {} held", self.held)?;
        }
        Ok(())
    }
}
