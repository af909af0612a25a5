//! Entries of the journal, in the pass's words.

use crate::account::pass::Pass;
use crate::ledger::{Action, JournalEntry, Side};
use crate::model::{FolderId, Place, Row};

/// An entry about a row, in its folder.
pub fn of_row(p: &Pass<'_>, action: Action, side: Side, row: &Row, why: &str) -> JournalEntry {
    let mut e = in_folder(p, action, side, row.folder, why);
    e.message_id = row.identity.fingerprint.message_id.to_string();
    e.uid = row.uid;
    e.base = row.place.as_ref().map(|p| p.file.base.clone());
    e
}

/// The same that went to another folder.
pub fn moved(
    p: &Pass<'_>,
    action: Action,
    side: Side,
    row: &Row,
    to: FolderId,
    why: &str,
) -> JournalEntry {
    let mut e = of_row(p, action, side, row, why);
    e.to = p.folders.get(&to).map(|f| f.rec.name.clone());
    e
}

/// An entry about a folder.
pub fn in_folder(
    p: &Pass<'_>,
    action: Action,
    side: Side,
    folder: FolderId,
    why: &str,
) -> JournalEntry {
    let e = JournalEntry::new(p.now(), action, side, why);
    match p.folders.get(&folder) {
        Some(f) => e.in_folder(folder, &f.rec.name),
        None => JournalEntry { folder_id: Some(folder), ..e },
    }
}

/// An entry about a file.
pub fn of_file(
    p: &Pass<'_>,
    action: Action,
    side: Side,
    folder: FolderId,
    place: &Place,
    message_id: &str,
    why: &str,
) -> JournalEntry {
    let mut e = in_folder(p, action, side, folder, why);
    e.base = Some(place.file.base.clone());
    e.message_id = message_id.to_owned();
    e
}
