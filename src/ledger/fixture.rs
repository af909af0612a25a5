//! What the ledger's tests start from.

use tempfile::TempDir;

use super::{FolderRecord, Ledger};
use crate::model::{
    BaseName, ContentHash, FileName, Fingerprint, Flags, FolderId, FolderName, Identity, Place,
    Row, RowId, State, Subdir, Uid,
};

/// An empty ledger of the account "work".
pub fn ledger() -> (TempDir, Ledger) {
    let dir = TempDir::new().unwrap();
    let l = Ledger::open(&dir.path().join("work.db"), "work", 0xfeed).unwrap();
    (dir, l)
}

/// A new folder.
pub fn folder(l: &mut Ledger, name: &str) -> FolderId {
    let record = FolderRecord::new(FolderName::from_text(name).unwrap());
    l.write(|tx| tx.insert_folder(&record)).unwrap()
}

/// Where the file number `n` stands.
pub fn place(n: u32) -> Place {
    let base = BaseName::new(format!("1700000000.R{n:08}.mailkeep").as_bytes()).unwrap();
    Place { sub: Subdir::Cur, file: FileName::from_parts(base, ":2,S") }
}

/// What the message number `n` is recognised by.
pub fn identity(n: u32) -> Identity {
    Identity {
        content: Some(ContentHash(*blake3::hash(&n.to_le_bytes()).as_bytes())),
        reader: Some(ContentHash(*blake3::hash(&n.to_be_bytes()).as_bytes())),
        fingerprint: Fingerprint {
            message_id: format!("<{n}.20240229.0123456789abcdef@mail.example.org>").into(),
            date: format!("Thu, 29 Feb 2024 12:{:02}:{:02} +0100", n / 60 % 60, n % 60).into(),
        },
        wire_size: 8700 + u64::from(n),
        internal_date: 1_709_204_400 + i64::from(n),
        server_id: None,
    }
}

/// A message on both sides with nothing to do, with the UID and the file number `n`.
pub fn synced(folder: FolderId, n: u32) -> Row {
    let seen = Flags::from_imap(["\\Seen"]);
    Row {
        id: RowId(0),
        folder,
        state: State::Synced,
        uid: Uid::new(n),
        gone: None,
        place: Some(place(n)),
        agreed: seen.clone(),
        remote: seen.clone(),
        local: seen,
        identity: identity(n),
        exact: true,
        copy_of: None,
        keeps: false,
    }
}

/// The same in another state.
pub fn in_state(folder: FolderId, n: u32, state: State) -> Row {
    let mut row = Row { state, ..synced(folder, n) };
    if matches!(state, State::Pending | State::Absent) {
        row.place = None;
    }
    if state == State::Kept {
        row.uid = None;
    }
    row
}
