//! Holds: what waits for a person's decision, by the number that `status` shows.

use rusqlite::{Connection, params};

use super::fault::{Fault, Result as Inner};
use super::values::{Cells, all, first, folder_out, hash_out, row_out, run, run_one, words};
use super::{Tx, View};
use crate::Result;
use crate::model::{BaseName, ContentHash, FolderId, RowId};

/// A hold's number, as users see it. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub i64);

words!(
    /// What is held.
    HoldKind {
        /// Removals of files here, which the server would follow.
        LocalDeletions = "local-deletions",
        /// Removals of messages on the server, which the maildir would follow.
        RemoteDeletions = "remote-deletions",
        /// Files of unknown origin, which would be uploaded.
        UnknownFiles = "unknown-files",
        /// Removals that need a `\Trash`, where there is none.
        NoTrash = "no-trash",
        /// Deletions on a POP3 server that the configuration asks for and the brake stopped.
        Retention = "retention",
        /// Moves on the server to where files were put while the account was POP3.
        Refiled = "refiled",
        /// Uploads that the server refused for good.
        Refused = "refused",
    }
);

words!(
    /// What was decided.
    HoldState {
        /// Nothing yet.
        Open = "open",
        /// It may go on.
        Approved = "approved",
        /// It is undone.
        Rejected = "rejected",
    }
);

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number. Not looked at by [`Tx::put_hold`].
    pub id: HoldId,
    /// What it is.
    pub kind: HoldKind,
    /// The folder it is about; `None`: the account.
    pub folder: Option<FolderId>,
    /// Why it is held.
    pub reason: String,
    /// What the user can do.
    pub next: String,
    /// What was decided.
    pub state: HoldState,
    /// Since when, in Unix time.
    pub created: i64,
    /// What exactly is held.
    pub items: Vec<HoldItem>,
}

/// One message of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldItem {
    /// Its row.
    pub row: Option<RowId>,
    /// Its folder.
    pub folder: FolderId,
    /// Its file.
    pub base: Option<BaseName>,
    /// Its bytes.
    pub content: Option<ContentHash>,
    /// What a file's are without what readers write.
    pub reader: Option<ContentHash>,
}

macro_rules! select {
    ($tail:literal) => {
        concat!("SELECT id, kind, folder_id, reason, next, state, created FROM holds ", $tail)
    };
}

impl View {
    /// Every hold, by number.
    pub fn holds(&self) -> Result<Vec<Hold>> {
        self.run(|c| {
            let mut holds = all(c, select!("ORDER BY id"), [], hold)?;
            for h in &mut holds {
                h.items = items(c, h.id)?;
            }
            Ok(holds)
        })
    }

    /// One hold.
    pub fn hold(&self, id: HoldId) -> Result<Option<Hold>> {
        self.run(|c| by_id(c, id))
    }
}

impl Tx<'_> {
    /// Writes what is held now. An open hold of the same kind and folder keeps its number and its
    /// date, and nothing is written if it says the same already.
    pub fn put_hold(&mut self, new: &Hold) -> Result<HoldId> {
        self.run(|c| {
            let same = first(
                c,
                "SELECT id, created FROM holds \
                 WHERE kind = ?1 AND folder_id = ?2 AND state = ?3 ORDER BY id LIMIT 1",
                params![new.kind.as_str(), folder_out(new.folder), HoldState::Open.as_str()],
                |r| Ok((HoldId(r.take()?), r.take()?)),
            )?;
            if let Some((id, created)) = same {
                update(c, &Hold { id, created, ..new.clone() })?;
                return Ok(id);
            }
            run(
                c,
                "INSERT INTO holds (kind, folder_id, reason, next, state, created) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    new.kind.as_str(),
                    folder_out(new.folder),
                    new.reason,
                    new.next,
                    new.state.as_str(),
                    new.created,
                ],
            )?;
            let id = HoldId(c.last_insert_rowid());
            insert_items(c, id, &new.items)?;
            Ok(id)
        })
    }

    /// Writes a hold by its number, if anything differs.
    pub fn update_hold(&mut self, hold: &Hold) -> Result<()> {
        self.run(|c| update(c, hold))
    }

    /// Removes a hold.
    pub fn delete_hold(&mut self, id: HoldId) -> Result<()> {
        self.run(|c| run_one(c, "DELETE FROM holds WHERE id = ?1", "that hold", [id.0]))
    }
}

fn by_id(c: &Connection, id: HoldId) -> Inner<Option<Hold>> {
    let Some(mut h) = first(c, select!("WHERE id = ?1"), [id.0], hold)? else { return Ok(None) };
    h.items = items(c, id)?;
    Ok(Some(h))
}

fn update(c: &Connection, new: &Hold) -> Inner<()> {
    let Some(old) = by_id(c, new.id)? else {
        return Err(Fault::internal(format!("the ledger has no hold {}", new.id.0)));
    };
    if old == *new {
        return Ok(());
    }
    run_one(
        c,
        "UPDATE holds SET kind = ?1, folder_id = ?2, reason = ?3, next = ?4, state = ?5, \
         created = ?6 WHERE id = ?7",
        "that hold",
        params![
            new.kind.as_str(),
            folder_out(new.folder),
            new.reason,
            new.next,
            new.state.as_str(),
            new.created,
            new.id.0,
        ],
    )?;
    if old.items != new.items {
        run(c, "DELETE FROM hold_items WHERE hold_id = ?1", [new.id.0])?;
        insert_items(c, new.id, &new.items)?;
    }
    Ok(())
}

fn insert_items(c: &Connection, id: HoldId, items: &[HoldItem]) -> Inner<()> {
    for (position, item) in (0i64..).zip(items) {
        run(
            c,
            "INSERT INTO hold_items (hold_id, position, row, folder_id, base, content, reader) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id.0,
                position,
                row_out(item.row),
                item.folder.0,
                item.base.as_ref().map_or(&[][..], BaseName::as_bytes),
                hash_out(item.content.as_ref()),
                hash_out(item.reader.as_ref()),
            ],
        )?;
    }
    Ok(())
}

/// Without its items.
fn hold(r: &mut Cells<'_>) -> Inner<Hold> {
    Ok(Hold {
        id: HoldId(r.take()?),
        kind: HoldKind::read(&r.text()?)?,
        folder: r.folder_id()?,
        reason: r.text()?,
        next: r.text()?,
        state: HoldState::read(&r.text()?)?,
        created: r.take()?,
        items: Vec::new(),
    })
}

fn items(c: &Connection, id: HoldId) -> Inner<Vec<HoldItem>> {
    all(
        c,
        "SELECT row, folder_id, base, content, reader FROM hold_items WHERE hold_id = ?1 \
         ORDER BY position",
        [id.0],
        |r| {
            Ok(HoldItem {
                row: r.row_id()?,
                folder: FolderId(r.take()?),
                base: r.base()?,
                content: r.hash()?,
                reader: r.hash()?,
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{folder, identity, ledger, place};

    fn hold_of(kind: HoldKind, folder: Option<FolderId>, created: i64, rows: &[i64]) -> Hold {
        let item = |n: &i64| HoldItem {
            row: Some(RowId(*n)),
            folder: FolderId(1),
            base: Some(place(1).file.base),
            content: identity(1).content,
            reader: identity(2).content,
        };
        Hold {
            id: HoldId(0),
            kind,
            folder,
            reason: "31 of 40 messages are gone".into(),
            next: "mailkeep approve".into(),
            state: HoldState::Open,
            created,
            items: rows.iter().map(item).collect(),
        }
    }

    #[test]
    fn a_hold_keeps_its_number_while_it_is_open() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "a");
        let put = |l: &mut crate::ledger::Ledger, h: &Hold| l.write(|tx| tx.put_hold(h)).unwrap();
        let one = put(&mut l, &hold_of(HoldKind::RemoteDeletions, Some(f), 10, &[1, 2]));
        let more = hold_of(HoldKind::RemoteDeletions, Some(f), 20, &[3, 1, 2]);
        assert_eq!(put(&mut l, &more), one);
        assert_eq!(l.hold(one).unwrap(), Some(Hold { id: one, created: 10, ..more.clone() }));
        let before = l.conn.total_changes();
        put(&mut l, &more);
        assert_eq!(l.conn.total_changes(), before, "the same again is not written");
        let account = put(&mut l, &hold_of(HoldKind::RemoteDeletions, None, 30, &[]));
        let files = put(&mut l, &hold_of(HoldKind::UnknownFiles, Some(f), 30, &[]));
        assert!(one < account && account < files);
        // once decided, what comes later is another one
        let mut decided = l.hold(one).unwrap().unwrap();
        decided.state = HoldState::Approved;
        l.write(|tx| tx.update_hold(&decided)).unwrap();
        let later = put(&mut l, &hold_of(HoldKind::RemoteDeletions, Some(f), 40, &[9]));
        assert!(later > files);
        assert_eq!(l.hold(one).unwrap(), Some(decided));
        l.write(|tx| tx.delete_hold(later)).unwrap();
        let again = put(&mut l, &hold_of(HoldKind::RemoteDeletions, Some(f), 50, &[9]));
        assert!(again > later, "a number that was shown never means something else");
        assert_eq!(l.holds().unwrap().len(), 4);
        assert!(l.write(|tx| tx.delete_hold(later)).is_err());
    }
}
