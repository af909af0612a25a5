//! The words of a decision: what may be done, what is held and why, and what must be known beside
//! the plan. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Flags, FolderId, PermanentFlags, RowId, Uid};
use crate::reconcile::FileId;

/// A side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The Maildir.
    Here,
    /// The server.
    There,
}

/// What a person said about something held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Open,
    /// Go on.
    Approved,
    /// Undo it.
    Rejected,
}

/// What policy must know beside the plan.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Rows in a hold, and what was said of it.
    pub rows: BTreeMap<RowId, Verdict>,
    /// Files in a hold, likewise.
    pub files: BTreeMap<FileId, Verdict>,
    /// Files that the server refused for good, and about which nothing was said yet.
    pub refused: BTreeSet<FileId>,
    /// Rows that were put into another folder while the account was POP3, which has none: the
    /// server is not rearranged unasked.
    pub refiled: BTreeSet<RowId>,
    /// Deletions of the last 24 hours that no person approved.
    pub deleted: BTreeMap<(Side, FolderId), u64>,
    /// Messages by folder as that window began.
    pub sizes: BTreeMap<FolderId, u64>,
    /// The folder that deleted messages are moved to on the server.
    pub trash: Option<FolderId>,
    /// Folders that the server does not let us change, with its reason.
    pub closed: BTreeMap<FolderId, String>,
    /// Folders of the server that could not be looked into: what would be put there may be there
    /// already.
    pub unseen: BTreeSet<FolderId>,
    /// What the server stores in the folders that were opened for that.
    pub permanent: BTreeMap<FolderId, PermanentFlags>,
    /// `--folder`: only here is anything done. Empty for everywhere.
    pub only: Option<BTreeSet<FolderId>>,
}

/// One thing to do. Rows, arrivals and files are those of the trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the folder here.
    CreateHere(FolderId),
    /// Make the folder on the server.
    CreateThere(FolderId),
    /// Remove the empty folder here.
    RemoveHere(FolderId),
    /// Remove the empty folder on the server.
    RemoveThere(FolderId),
    /// Row and file become one `synced` row; the file follows the arrival's folder.
    Adopt {
        /// The `pending` row.
        arrival: RowId,
        /// The file.
        file: FileId,
        /// Whether the bytes are known to be equal.
        exact: bool,
    },
    /// The row takes the arrival's UID; its file follows into the arrival's folder.
    Follow {
        /// The row.
        row: RowId,
        /// The `pending` row, which goes.
        arrival: RowId,
    },
    /// The row takes the arrival's UID and the file's place; if the folders differ, the message is
    /// moved on the server to where the file is.
    MeetAt {
        /// The row.
        row: RowId,
        /// The `pending` row, which goes.
        arrival: RowId,
        /// The file.
        file: FileId,
    },
    /// The row's file has another place; if in another folder, UID MOVE.
    MoveThere {
        /// The row.
        row: RowId,
        /// The file.
        file: FileId,
    },
    /// The file is `kept` mail: the row takes its place, or if its own file is still there, a row
    /// is added.
    KeepAt {
        /// The row.
        row: RowId,
        /// The file.
        file: FileId,
    },
    /// UID COPY of the row's message into the file's folder.
    CopyThere {
        /// The row.
        of: RowId,
        /// The file.
        file: FileId,
    },
    /// The end of a save in two steps: expunge the original, whose copy is there.
    FinishMove {
        /// The row whose file went.
        row: RowId,
        /// The row of the copy.
        copy: RowId,
    },
    /// Fetch one message.
    Download {
        /// The `pending` row.
        arrival: RowId,
        /// A row whose message it is, and which goes: it was deleted here before.
        instead_of: Option<RowId>,
    },
    /// Take the bytes from a file that is here.
    Link {
        /// The `pending` row.
        arrival: RowId,
        /// The row whose file has the bytes.
        from: RowId,
    },
    /// Fetch everything from a UID on.
    Pull {
        /// The folder.
        folder: FolderId,
        /// The first UID.
        from: Uid,
    },
    /// The `absent` row takes the arrival's UID and folder.
    StayAbsent {
        /// The row.
        row: RowId,
        /// The `pending` row, which goes.
        arrival: RowId,
    },
    /// APPEND.
    Upload(FileId),
    /// The file stays here only, as `kept`.
    KeepFile(FileId),
    /// The sides get the same flags.
    SetFlags {
        /// The row.
        row: RowId,
        /// What both shall have.
        merged: Flags,
        /// Whether the server may be told.
        there: bool,
    },
    /// Remove the file here.
    Unlink {
        /// The row.
        row: RowId,
        /// The row whose file must prove to have the same bytes first.
        twin: Option<RowId>,
        /// A person approved it.
        approved: bool,
    },
    /// The row becomes `kept`.
    Keep(RowId),
    /// UID MOVE to the trash.
    TrashThere {
        /// The row.
        row: RowId,
        /// The trash.
        trash: FolderId,
        /// A person approved it.
        approved: bool,
    },
    /// UID EXPUNGE.
    ExpungeThere {
        /// The row.
        row: RowId,
        /// A person approved it.
        approved: bool,
    },
    /// The row becomes `absent`.
    MakeAbsent(RowId),
    /// What was deleted here is fetched again.
    Refetch(RowId),
    /// The row goes; neither side has the message.
    Drop(RowId),
}

/// Why something is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldKind {
    /// Deletions on the server that the brake stopped.
    LocalDeletions,
    /// Deletions here that the brake stopped.
    RemoteDeletions,
    /// Files that stood here before there was a ledger.
    UnknownFiles,
    /// Deletions that want a trash the server does not have.
    NoTrash,
    /// Moves on the server to where the files were put in POP3 times.
    Refiled,
}

/// Something that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Why.
    pub kind: HeldKind,
    /// The folder of the first of them.
    pub folder: FolderId,
    /// The rows.
    pub rows: Vec<RowId>,
    /// The files.
    pub files: Vec<FileId>,
    /// The reason, for people.
    pub reason: String,
}

/// The plan after policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// What the same pass does once that is done: it is planned and decided anew then.
    pub later: Vec<Action>,
    /// What waits for a person.
    pub held: Vec<Held>,
    /// What waits for the server (or for `read_only` to go, or for what is here to be readable), by
    /// folder and reason.
    pub waiting: BTreeMap<(FolderId, String), u64>,
}
