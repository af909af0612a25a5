//! A row of the UIDL ledger: what is known of one message of a POP3 server. Never dropped because
//! the message is not listed any more; what was fetched once must not be fetched again.

use super::identity::{ContentHash, Fingerprint};
use super::name::BaseName;
use super::row::{FolderId, RowId};
use super::uid::Uid;

/// Its number in the ledger. The row of the message has the same number as its UID: a POP3 message
/// has no other one, and a folder's rows must have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UidlId(pub u32);

impl UidlId {
    /// The number as the UID that the message's row has.
    pub fn uid(self) -> Option<Uid> {
        Uid::new(self.0)
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UidlState {
    /// Durable in `tmp`; perhaps not at its place yet.
    Staged,
    /// Durable at its place, or it was once.
    Delivered,
    /// DELE was or will be sent in a session whose end is not known.
    DelePending,
    /// The server said that it is deleted.
    Deleted,
    /// A whole listing did not have it, and we had not asked for that.
    Gone,
}

impl UidlState {
    /// Whether the server has it, as far as is known.
    pub fn on_server(self) -> bool {
        matches!(self, Self::Staged | Self::Delivered | Self::DelePending)
    }
}

/// One message of a POP3 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UidlRow {
    /// Its number. Not looked at on inserting.
    pub id: UidlId,
    /// Of which server and user it was said: another one is another epoch.
    pub epoch: u32,
    /// As the server gave it. `None`: it gives none that can be used.
    pub uidl: Option<Box<[u8]>>,
    /// Counts the messages that had this UIDL, from 1.
    pub generation: u32,
    /// As LIST said, in bytes. 0: not known.
    pub size: u64,
    /// How far it is.
    pub state: UidlState,
    /// The message's row; `None` once it is on neither side, and while it is `Staged`.
    pub row: Option<RowId>,
    /// Where it was delivered.
    pub folder: FolderId,
    /// Under which name it was delivered.
    pub base: Option<BaseName>,
    /// Of the whole message; `None` where a file was adopted without reading the server's copy.
    pub content: Option<ContentHash>,
    /// Message-ID and Date.
    pub fingerprint: Fingerprint,
    /// When it was seen first, in Unix time.
    pub first_seen: i64,
    /// When it was durable here, in Unix time.
    pub delivered_at: i64,
    /// It came clearly shorter than LIST says, twice: what the server has may be more.
    pub short: bool,
}

/// A message at which sessions broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenUidl {
    /// As the server gave it. A message without is not remembered: its number is another's tomorrow.
    pub uidl: Box<[u8]>,
    /// As LIST said, in bytes.
    pub size: u64,
    /// In so many passes.
    pub times: u32,
    /// When it was asked for last, in Unix time.
    pub last: i64,
    /// How the session ended.
    pub error: String,
}
