//! Which folders there are and how they stand: LIST with STATUS, in one round trip where the
//! server allows; and making and removing folders.

use super::session::Session;
use crate::error::{Error, Result};
use crate::model::{FolderName, ModSeq, SpecialUse, Uid, UidValidity};

/// All folders of the account. There is one only if the server ended it in OK.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// In the server's order, INBOX first. No two have the same `name` or the same `wire`.
    pub folders: Vec<Listed>,
    /// Folders that cannot be mirrored: two names that mean the same, a name that is none. Scope
    /// folder. Such a folder exists all the same: what is not listed for this reason is not gone.
    pub errors: Vec<Error>,
}

/// One folder.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The name as the server spells it, for every later command.
    pub wire: Vec<u8>,
    /// The name for people, without the personal namespace's prefix.
    pub name: FolderName,
    /// The hierarchy separator; `None` for a flat name.
    pub separator: Option<char>,
    /// Its special use, if the server marks one.
    pub special_use: Option<SpecialUse>,
    /// Whether it can hold messages.
    pub selectable: bool,
    /// Whether it is the user's own; else another user's or a shared one.
    pub personal: bool,
    /// The server's id of the folder (RFC 8474), which survives a rename.
    pub mailbox_id: Option<String>,
    /// How it stands; `None` where it is not selectable or `status_error` says why.
    pub status: Option<Status>,
    /// The server refused STATUS for this folder.
    pub status_error: Option<Error>,
}

/// How a folder stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// MESSAGES.
    pub messages: u32,
    /// UIDNEXT; `None` where the server does not say.
    pub uidnext: Option<Uid>,
    /// UIDVALIDITY; `None` where the server does not say.
    pub uidvalidity: Option<UidValidity>,
    /// HIGHESTMODSEQ; `None` for 0 or where the server does not say: flags change without a trace.
    pub modseq: Option<ModSeq>,
    /// MAILBOXID.
    pub mailbox_id: Option<String>,
}

impl Session {
    /// Every folder with its status.
    pub async fn list(&mut self) -> Result<Listing> {
        self.unwritten()
    }
    /// How these folders stand, pipelined. `None`: the server says there is no such folder.
    pub async fn status(&mut self, wires: &[Vec<u8>]) -> Result<Vec<Result<Option<Status>>>> {
        let _ = wires;
        self.unwritten()
    }
    /// How the server would spell this name: as it was listed, else below its listed parent, else
    /// in the personal namespace. Needs an earlier `list`.
    pub fn wire_for(&self, name: &FolderName) -> Result<Vec<u8>> {
        let _ = name;
        self.unwritten()
    }
    /// Makes a folder and subscribes it; its name as the server spells it. One that is there
    /// already is no error.
    pub async fn create(&mut self, name: &FolderName) -> Result<Vec<u8>> {
        let _ = name;
        self.unwritten()
    }
    /// Removes a folder, if a fresh SELECT shows it empty and nothing below it is lost; else says
    /// `false`. Leaves no folder selected.
    pub async fn delete_if_empty(&mut self, wire: &[u8]) -> Result<bool> {
        let _ = wire;
        self.unwritten()
    }
}
