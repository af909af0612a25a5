//! Opening a folder, with what changed since the last time where the server can say so.

use super::session::Session;
use crate::error::Result;
use crate::model::{Flags, Keyword, ModSeq, SystemFlags, Uid, UidSet, UidValidity};
use std::collections::BTreeSet;

/// What was known of a folder when it was observed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its epoch then.
    pub uidvalidity: UidValidity,
    /// Its HIGHESTMODSEQ then.
    pub modseq: ModSeq,
    /// Its UIDNEXT then: all below have been observed.
    pub uidnext: Uid,
}

/// An open folder.
#[derive(Debug, Clone)]
pub struct Selected {
    /// `None`: the server has no persistent UIDs here, so the folder cannot be mirrored.
    pub uidvalidity: Option<UidValidity>,
    /// `None` where the server does not say (RFC 3501 allows that).
    pub uidnext: Option<Uid>,
    /// How many messages are in it.
    pub exists: u32,
    /// HIGHESTMODSEQ; `None` for NOMODSEQ, 0, or where the server does not say.
    pub modseq: Option<ModSeq>,
    /// What can be stored for good.
    pub permanent: PermanentFlags,
    /// Opened read-only, whether or not that was asked.
    pub read_only: bool,
    /// What changed since `Known`: only with QRESYNC, and only where UIDVALIDITY is the same.
    pub delta: Option<Delta>,
    /// MAILBOXID (RFC 8474).
    pub mailbox_id: Option<String>,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// UIDs below the known UIDNEXT that are not there any more (may name some that never were).
    pub vanished: UidSet,
    /// New and changed messages with all their flags, in the server's order.
    pub changed: Vec<(Uid, Flags)>,
}

/// PERMANENTFLAGS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermanentFlags {
    /// The system flags that can be stored.
    pub system: SystemFlags,
    /// The keywords that can be stored.
    pub keywords: BTreeSet<Keyword>,
    /// `\*`: new keywords can be made.
    pub any_keyword: bool,
}

impl PermanentFlags {
    /// Those of `flags` that this folder keeps.
    #[must_use]
    pub fn keeps(&self, flags: &Flags) -> Flags {
        Flags {
            system: flags.system.intersection(self.system),
            keywords: flags
                .keywords
                .iter()
                .filter(|k| self.any_keyword || self.keywords.contains(*k))
                .cloned()
                .collect(),
        }
    }
}

impl Session {
    /// Opens a folder: EXAMINE unless `write`. With `known` and QRESYNC the delta comes along.
    pub async fn select(
        &mut self,
        wire: &[u8],
        write: bool,
        known: Option<Known>,
    ) -> Result<Selected> {
        let _ = (wire, write, known);
        self.unwritten()
    }
    /// The UIDs of all messages of the selected folder. Compare its size with `exists()`.
    pub async fn uids(&mut self) -> Result<UidSet> {
        self.unwritten()
    }
}
