//! What happened: from three trees to a plan. Pure: no I/O, clock, randomness, log, and nothing
//! whose order depends on a hash.
//!
//! What comes in is what differs: rows on which both sides still agree stay in the ledger. What
//! comes out is a [`Plan`] of [`Change`]s in a fixed order. Where pairing cannot be settled without
//! the bytes of a message, the plan says which it [`wants`](Plan::wants) instead, and is made again
//! once they are known. What is to be done about a change is [`crate::policy::decide`]'s business.

mod changes;
mod index;
mod pairing;
mod refiling;
mod sent;
mod without_size;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Flags, FolderId, FolderName, Identity, Place, Row, RowId, SpecialUse, Uid};

/// A file without a row, as the scan numbered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// Whether a folder is on a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    There,
    /// It never was, as far as the ledger knows.
    Never,
    /// It was when the ledger was written last, and is not any more.
    Vanished,
}

/// A folder as both sides show it.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Its name.
    pub name: FolderName,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
    /// On the server.
    pub server: Presence,
    /// In the Maildir.
    pub disk: Presence,
    /// Whether `include` and `exclude` select it. What is not selected is left alone.
    pub selected: bool,
    /// Everything from this UID on is new, and nothing here could be paired with it: it is pulled
    /// as one stream.
    pub pull_from: Option<Uid>,
}

impl Folder {
    fn is_drafts(&self) -> bool {
        self.special_use == Some(SpecialUse::Drafts)
    }
}

/// A message file that no row knows.
#[derive(Debug, Clone)]
pub struct LocalFile {
    /// The folder that it stands in.
    pub folder: FolderId,
    /// Its place there.
    pub place: Place,
    /// Its flags.
    pub flags: Flags,
    /// What it is recognised by; `content`, `reader` and `wire_size` are known.
    pub identity: Identity,
}

/// Mail that stands here without a row, as far as anybody knows, and could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The folder that it stands in.
    pub folder: FolderId,
    /// What the file shows all the same; `None`: nothing, nor how many there are.
    pub file: Option<UnreadFile>,
}

/// What a file shows that cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadFile {
    /// Its size as stored, in bytes.
    pub size: u64,
    /// Its mtime, Unix time in seconds.
    pub mtime: i64,
    /// Whether we made its name: then it is byte for byte what the server sent.
    pub ours: bool,
}

/// What other programs add to a message, or take from it, is less than so many bytes.
const HEADERS: u64 = 4096;

impl Unread {
    /// Whether the arrival may be it. Elsewhere than in its own folder it is hardly ever, and then
    /// it has the INTERNALDATE as its mtime.
    fn may_be(&self, arrival: &Row, sizes_lie: bool) -> bool {
        let own = arrival.folder == self.folder;
        let Some(f) = self.file else { return own };
        // a line ending is one byte here and two there
        let slack = if f.ours { 0 } else { HEADERS };
        let sizes = f.size.saturating_sub(slack)..=f.size.saturating_mul(2).saturating_add(slack);
        (sizes_lie || sizes.contains(&arrival.identity.wire_size))
            && (own || arrival.identity.internal_date == f.mtime)
    }
}

/// Everything the planner may look at.
#[derive(Debug, Clone, Default)]
pub struct Trees {
    /// Every folder of the account.
    pub folders: BTreeMap<FolderId, Folder>,
    /// Rows that differ, and those that unmatched messages may belong to (equal hash, fingerprint
    /// or server id).
    pub rows: BTreeMap<RowId, Row>,
    /// Rows whose file is gone from its folder; believed (two scans).
    pub missing: BTreeSet<RowId>,
    /// Files without a row.
    pub files: BTreeMap<FileId, LocalFile>,
    /// Those of them that stood here before the ledger, and that a person was asked about.
    pub held: BTreeSet<FileId>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// Whether every folder of the server was observed completely. If not, a vanish that finds no
    /// pair waits.
    pub remote_complete: bool,
    /// Whether every folder of the Maildir was.
    pub local_complete: bool,
    /// The ledger is new, or lost, or older or younger than the Maildir: what stands here without
    /// a row is not new mail.
    pub first_pass: bool,
    /// The server's RFC822.SIZE is not the size of the body (a quirk): sizes prove nothing.
    pub sizes_lie: bool,
    /// The newest row before this pass, or the one just before it, began to observe. What has a
    /// larger number was seen to arrive in it. `None`: nobody knows.
    pub newest_before: Option<RowId>,
    /// What uploads that broke may have stored on the server.
    pub sent: Vec<Sent>,
    /// Rows of folders that are not selected, as far as a file without a row has their bytes, or the
    /// name of their file. They wait; but what was saved from there is no riddle.
    pub excluded: Vec<Row>,
}

impl Trees {
    fn is_drafts(&self, folder: FolderId) -> bool {
        self.folders.get(&folder).is_some_and(Folder::is_drafts)
    }

    fn is_sent(&self, folder: FolderId) -> bool {
        self.folders.get(&folder).is_some_and(|f| f.special_use == Some(SpecialUse::Sent))
    }
}

/// A file that the server was asked to store, when nobody knows whether it did.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The folder that it was sent to.
    pub target: FolderId,
    /// UIDNEXT there before; `None` if the server did not say.
    pub from: Option<Uid>,
    /// What was sent; its `internal_date` too.
    pub identity: Identity,
}

/// One thing that happened, in terms of rows, arrivals (`pending` rows) and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A folder of the server is not here yet.
    FolderArrived(FolderId),
    /// A folder made here is not on the server yet.
    FolderAppeared(FolderId),
    /// A folder went from the server; its messages went with it.
    FolderVanishedThere(FolderId),
    /// A folder was removed here; its messages went with it.
    FolderVanishedHere(FolderId),

    /// The arrival is the file: both sides have the message, and no row knew.
    Adopted {
        /// The `pending` row.
        arrival: RowId,
        /// The file; in the arrival's folder, or to be moved there.
        file: FileId,
        /// Whether the bytes are known to be equal.
        exact: bool,
    },
    /// The row's message has another UID: it was moved on the server, or all UIDs are new.
    Renumbered {
        /// The row that lost its UID.
        row: RowId,
        /// The `pending` row that has the new one.
        arrival: RowId,
    },
    /// Moved on the server, and here too.
    MovedBoth {
        /// The row that lost its UID.
        row: RowId,
        /// The `pending` row with the new one.
        arrival: RowId,
        /// The file's new place.
        file: FileId,
    },
    /// The file stands in another folder now, or under another name in the same.
    MovedHere {
        /// Its row: `synced`, and on the server unless the file was only renamed; or `absent`
        /// (somebody put it back); or `pending`, of a file that was sent or fetched when we were
        /// killed, and moved since.
        row: RowId,
        /// Where it is now.
        file: FileId,
    },
    /// A `kept` file was moved or copied here, or one whose message went from the server meanwhile.
    /// If it was copied, the row's own file stays what it is.
    MovedKept {
        /// Its row.
        row: RowId,
        /// Where it is now.
        file: FileId,
    },
    /// A file has the bytes of another row, whose file is still there.
    CopiedHere {
        /// The row.
        of: RowId,
        /// The copy.
        file: FileId,
    },
    /// The other half of a save in two steps: its copy is on the server already, now the file went.
    MoveCompleted {
        /// The row whose file went.
        row: RowId,
        /// The row of the copy.
        copy: RowId,
    },
    /// New on the server; `twin` has the same bytes here by the server's own id.
    Arrived {
        /// The `pending` row.
        arrival: RowId,
        /// A row whose file can be linked instead of fetched.
        twin: Option<RowId>,
    },
    /// It arrived in this folder, or so it seems; but in a first pass it may as well be what stands
    /// here and could not be read.
    Obscure(FolderId),
    /// The whole folder from a UID on is new.
    Pull {
        /// The folder.
        folder: FolderId,
        /// The first new UID.
        from: Uid,
    },
    /// It was deleted here before it was moved there.
    DeletedThenMoved {
        /// The row whose file is gone.
        row: RowId,
        /// The `pending` row.
        arrival: RowId,
    },
    /// An `absent` row's message has another UID.
    AbsentRenumbered {
        /// The `absent` row.
        row: RowId,
        /// The `pending` row.
        arrival: RowId,
    },
    /// New here, and not a name of ours.
    Appeared(FileId),
    /// Here before there was a ledger, and nothing on the server is it. `ours`: it came from a
    /// server once.
    Unknown {
        /// The file.
        file: FileId,
        /// Whether we made its name.
        ours: bool,
    },
    /// Gone from the server.
    VanishedThere {
        /// The row.
        row: RowId,
        /// A row with the same bytes, on the server and here, in another folder.
        twin: Option<RowId>,
        /// Only a change of UIDVALIDITY says so.
        epoch: bool,
    },
    /// Gone from here.
    VanishedHere(RowId),
    /// Gone from here, and a file with other bytes and its name appeared elsewhere: somebody edited
    /// and moved it. Once that file has a row of its own, this is like any other deletion.
    Replaced {
        /// The row whose file went.
        row: RowId,
        /// What became of it.
        file: FileId,
    },
    /// Gone from both sides (a `kept` or `absent` row: from the one that had it).
    VanishedBoth(RowId),
    /// The sides' flags differ from what was agreed on.
    Flags {
        /// The row.
        row: RowId,
        /// What both sides shall have.
        merged: Flags,
    },
}

/// What happened, in the order in which it is acted on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
    /// `pending` rows whose content must be known first. If any, `changes` is empty.
    pub wants: BTreeSet<RowId>,
    /// Vanishes, and files that may be what vanished, that wait because not every folder could be
    /// observed.
    pub waiting: u64,
}

/// Compares the trees.
pub fn plan(trees: &Trees) -> Plan {
    let mut wants = BTreeSet::new();
    let index = index::Index::new(trees);
    let pairs = pairing::pair(trees, &index, &mut wants);
    if !wants.is_empty() {
        return Plan { wants, ..Plan::default() };
    }
    let refiled = refiling::refile(trees, &pairs);
    changes::changes(trees, &index, &pairs, &refiled)
}
