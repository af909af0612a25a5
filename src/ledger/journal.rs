//! The journal: what was done to which message, when and why (I2), and what the brake counts.

use rusqlite::params;

use super::fault::{Fault, Result as Inner};
use super::values::{Cells, all, each, first, folder_out, name_out, run, uid_out, words};
use super::{Tx, View};
use crate::Result;
use crate::model::{BaseName, FolderId, FolderName, Uid};

words!(
    /// What was done.
    Action {
        /// A message came from the server.
        Download = "download",
        /// A message was sent to the server.
        Upload = "upload",
        /// A message was copied on the server, as it was here.
        Copy = "copy",
        /// A file followed its message into another folder.
        MoveHere = "move-here",
        /// A message followed its file into another folder.
        MoveThere = "move-there",
        /// A file was removed.
        UnlinkHere = "unlink",
        /// A message was expunged from the server.
        ExpungeThere = "expunge",
        /// A message was moved to the server's `\Trash`, since its file was removed.
        TrashThere = "trash",
        /// A message was marked `\Deleted` on the server, which cannot expunge it alone.
        MarkThere = "mark-deleted",
        /// A file stays, and its message is gone from the server.
        Keep = "keep",
        /// A message stays on the server, and its file is gone.
        Absent = "absent",
        /// A file and a message were recognised as the same.
        Adopt = "adopt",
        /// Flags changed.
        Flags = "flags",
        /// A row was dropped: the message is on neither side.
        Drop = "drop",
        /// A folder was created.
        FolderCreate = "create-folder",
        /// An empty folder was removed.
        FolderRemove = "remove-folder",
        /// A folder was renamed.
        FolderRename = "rename-folder",
        /// Something was held.
        Hold = "hold",
        /// What was held may go on.
        Approve = "approve",
        /// What was held was undone.
        Reject = "reject",
    }
);

impl Action {
    /// Whether it takes a message away, which is what the brake counts.
    pub fn is_deletion(self) -> bool {
        matches!(self, Self::UnlinkHere | Self::ExpungeThere | Self::TrashThere | Self::MarkThere)
    }
}

words!(
    /// Where it was done.
    Side {
        /// In the maildir.
        Here = "here",
        /// On the server.
        There = "there",
    }
);

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// When, in Unix time.
    pub at: i64,
    /// What.
    pub action: Action,
    /// Where.
    pub side: Side,
    /// The folder it was done in.
    pub folder_id: Option<FolderId>,
    /// What that folder was called then.
    pub folder: Option<FolderName>,
    /// What the folder was called that it went to.
    pub to: Option<FolderName>,
    /// Message-ID, empty if there is none.
    pub message_id: String,
    /// Its UID in `folder`.
    pub uid: Option<Uid>,
    /// The base name of its file.
    pub base: Option<BaseName>,
    /// Whether the brake counts it: true for deletions, except for those that lose nothing or that
    /// a configured retention asked for. What counts must have a `folder_id`.
    pub counted: bool,
    /// Why.
    pub why: String,
}

impl JournalEntry {
    /// An entry about nothing in particular yet; the brake counts it if it is a deletion.
    pub fn new(at: i64, action: Action, side: Side, why: impl Into<String>) -> Self {
        Self {
            at,
            action,
            side,
            folder_id: None,
            folder: None,
            to: None,
            message_id: String::new(),
            uid: None,
            base: None,
            counted: action.is_deletion(),
            why: why.into(),
        }
    }

    /// The same of this folder.
    #[must_use]
    pub fn in_folder(mut self, id: FolderId, name: &FolderName) -> Self {
        self.folder_id = Some(id);
        self.folder = Some(name.clone());
        self
    }
}

/// Which entries are wanted. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalFilter {
    /// Of the message with this Message-ID, with or without angle brackets.
    pub message_id: Option<String>,
    /// Not older than this, in Unix time.
    pub since: Option<i64>,
    /// The newest so many.
    pub limit: Option<u32>,
}

macro_rules! wanted {
    ($select:literal, $tail:literal) => {
        concat!(
            $select,
            " FROM journal WHERE at >= ?1 \
             AND (?2 = '' OR trim(message_id, '<>') = trim(?2, '<>')) ",
            $tail
        )
    };
}

impl View {
    /// The entries wanted, oldest first.
    pub fn journal(&self, filter: &JournalFilter) -> Result<Vec<JournalEntry>> {
        let mut out = Vec::new();
        self.for_each_journal(filter, |e| {
            out.push(e);
            Ok(())
        })?;
        Ok(out)
    }

    /// The entries wanted, oldest first, one at a time.
    pub fn for_each_journal(
        &self,
        filter: &JournalFilter,
        mut f: impl FnMut(JournalEntry) -> Result<()>,
    ) -> Result<()> {
        self.run(|c| {
            let since = filter.since.unwrap_or(i64::MIN);
            let message_id = filter.message_id.as_deref().unwrap_or("");
            // the number follows time but for a clock that was set back; told as it happened
            let start = match filter.limit {
                None => 0,
                Some(0) => return Ok(()),
                Some(n) => first(
                    c,
                    wanted!("SELECT id", "ORDER BY id DESC LIMIT 1 OFFSET ?3"),
                    params![since, message_id, n - 1],
                    |r| r.take(),
                )?
                .unwrap_or(0),
            };
            each(
                c,
                wanted!(
                    "SELECT at, action, side, folder_id, folder, to_folder, message_id, uid, \
                     base, counted, why",
                    "AND id >= ?3 ORDER BY id"
                ),
                params![since, message_id, start],
                |r| f(entry(r)?).map_err(Fault::Told),
            )
        })
    }

    /// How many deletions the brake counts since `t`, by side and folder.
    pub fn deletions_since(&self, t: i64) -> Result<Vec<(Side, FolderId, u64)>> {
        self.run(|c| {
            all(
                c,
                "SELECT side, folder_id, count(*) FROM journal WHERE counted = 1 AND at >= ?1 \
                 GROUP BY side, folder_id ORDER BY side, folder_id",
                [t],
                |r| Ok((Side::read(&r.text()?)?, FolderId(r.take()?), r.count()?)),
            )
        })
    }
}

impl Tx<'_> {
    /// Writes an entry.
    pub fn journal(&mut self, e: &JournalEntry) -> Result<()> {
        self.run(|c| {
            run(
                c,
                "INSERT INTO journal (at, action, side, folder_id, folder, to_folder, message_id, \
                 uid, base, counted, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    e.at,
                    e.action.as_str(),
                    e.side.as_str(),
                    folder_out(e.folder_id),
                    name_out(e.folder.as_ref()),
                    name_out(e.to.as_ref()),
                    e.message_id,
                    uid_out(e.uid),
                    e.base.as_ref().map_or(&[][..], BaseName::as_bytes),
                    e.counted,
                    e.why,
                ],
            )?;
            Ok(())
        })
    }

    /// Removes the changes of flags from before this time; everything else stays for good.
    pub fn prune_journal(&mut self, before: i64) -> Result<u64> {
        self.run(|c| run(c, "DELETE FROM journal WHERE action = 'flags' AND at < ?1", [before]))
    }
}

fn entry(r: &mut Cells<'_>) -> Inner<JournalEntry> {
    Ok(JournalEntry {
        at: r.take()?,
        action: Action::read(&r.text()?)?,
        side: Side::read(&r.text()?)?,
        folder_id: r.folder_id()?,
        folder: r.folder_name()?,
        to: r.folder_name()?,
        message_id: r.text()?,
        uid: r.uid()?,
        base: r.base()?,
        counted: r.take()?,
        why: r.text()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{folder, ledger};

    fn entry_of(at: i64, action: Action, side: Side, message_id: &str) -> JournalEntry {
        JournalEntry {
            message_id: message_id.into(),
            uid: Uid::new(7),
            base: BaseName::new(b"b\xff"),
            to: FolderName::from_text("x/y"),
            ..JournalEntry::new(at, action, side, "why")
                .in_folder(FolderId(1), &FolderName::inbox())
        }
    }

    #[test]
    fn history_is_told_as_it_happened_by_message_and_by_time() {
        let (_dir, mut l) = ledger();
        let list = [
            entry_of(10, Action::Download, Side::Here, "<a@x>"),
            entry_of(30, Action::Flags, Side::There, "<b@x>"),
            entry_of(20, Action::UnlinkHere, Side::Here, "<a@x>"),
            entry_of(40, Action::Keep, Side::Here, "a@x"),
        ];
        l.write(|tx| list.iter().try_for_each(|e| tx.journal(e))).unwrap();
        let told = |f: JournalFilter| l.journal(&f).unwrap();
        assert_eq!(told(JournalFilter::default()), list);
        let a = |s: &str| JournalFilter { message_id: Some(s.into()), ..Default::default() };
        assert_eq!(told(a("a@x")), [&list[0], &list[2], &list[3]].map(Clone::clone));
        assert_eq!(told(a("<a@x>")), told(a("a@x")));
        assert_eq!(told(a("c@x")), []);
        let newest = |n| JournalFilter { limit: Some(n), ..a("a@x") };
        assert_eq!(told(newest(2)), list[2..]);
        assert_eq!(told(newest(9)), told(a("a@x")));
        assert_eq!(told(newest(0)), []);
        assert_eq!(told(JournalFilter { since: Some(30), ..Default::default() }).len(), 2);
    }

    #[test]
    fn only_changes_of_flags_are_forgotten() {
        let (_dir, mut l) = ledger();
        for action in [Action::Flags, Action::UnlinkHere, Action::MoveThere, Action::Download] {
            for at in [1, 100] {
                l.write(|tx| tx.journal(&entry_of(at, action, Side::Here, ""))).unwrap();
            }
        }
        assert_eq!(l.write(|tx| tx.prune_journal(100)).unwrap(), 1);
        let left = l.journal(&JournalFilter::default()).unwrap();
        assert_eq!(left.len(), 7);
        assert!(left.iter().all(|e| e.action != Action::Flags || e.at == 100));
    }

    #[test]
    fn the_brake_counts_deletions_by_side_and_folder() {
        let (_dir, mut l) = ledger();
        let (a, b) = (folder(&mut l, "a"), folder(&mut l, "b"));
        let name = FolderName::inbox();
        let mut write = |at, action, side, f| {
            let e = JournalEntry::new(at, action, side, "").in_folder(f, &name);
            l.write(|tx| tx.journal(&e)).unwrap();
        };
        write(9, Action::UnlinkHere, Side::Here, a);
        write(10, Action::UnlinkHere, Side::Here, a);
        write(11, Action::ExpungeThere, Side::There, a);
        write(12, Action::TrashThere, Side::There, a);
        write(13, Action::TrashThere, Side::There, b);
        write(14, Action::MoveThere, Side::There, b);
        let asked_for = JournalEntry {
            counted: false,
            ..JournalEntry::new(15, Action::ExpungeThere, Side::There, "").in_folder(b, &name)
        };
        l.write(|tx| tx.journal(&asked_for)).unwrap();
        assert_eq!(
            l.deletions_since(10).unwrap(),
            [(Side::Here, a, 1), (Side::There, a, 2), (Side::There, b, 1)]
        );
    }

    #[test]
    fn a_deletion_that_would_escape_the_brake_is_refused() {
        let (_dir, mut l) = ledger();
        let e = JournalEntry::new(1, Action::ExpungeThere, Side::There, "");
        assert_eq!(l.write(|tx| tx.journal(&e)).unwrap_err().kind, crate::Kind::Internal);
    }
}
