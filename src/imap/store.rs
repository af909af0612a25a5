//! Changing what is there: flags, copies, moves, deletions. All by UID.

use super::session::Session;
use crate::error::Result;
use crate::model::{Flags, Uid, UidSet, UidValidity};

/// Where copies or moved messages went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyUid {
    /// The server said so. What is not in `pairs` was not copied or moved.
    Known {
        /// Of the target folder.
        uidvalidity: UidValidity,
        /// (UID here, UID there).
        pairs: Vec<(Uid, Uid)>,
    },
    /// It did not say, or nothing readable: the new UIDs are found by pairing.
    Unknown,
}

/// What became of messages to be expunged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expunged {
    /// They are gone.
    Done,
    /// They are marked `\Deleted` and still there: without UIDPLUS others' marks would go too.
    Marked,
}

impl Session {
    /// Adds and removes flags; what is in neither stays.
    pub async fn store(&mut self, set: &UidSet, add: &Flags, remove: &Flags) -> Result<()> {
        let _ = (set, add, remove);
        self.unwritten()
    }
    /// Copies within the account.
    pub async fn copy(&mut self, set: &UidSet, to_wire: &[u8]) -> Result<CopyUid> {
        let _ = (set, to_wire);
        self.unwritten()
    }
    /// Moves within the account: MOVE, else COPY, `\Deleted` and expunge.
    pub async fn move_messages(
        &mut self,
        set: &UidSet,
        to_wire: &[u8],
    ) -> Result<(CopyUid, Expunged)> {
        let _ = (set, to_wire);
        self.unwritten()
    }
    /// Marks `\Deleted` and expunges exactly these.
    pub async fn expunge(&mut self, set: &UidSet) -> Result<Expunged> {
        let _ = set;
        self.unwritten()
    }
}
