//! Writing rows.

use rusqlite::params;

use super::Tx;
use super::fault::Fault;
use super::rows::{gone_out, state_out};
use super::values::{
    count_out, fingerprint_key, first, hash_out, place_out, row_out, run, run_one, server_id_out,
    uid_out,
};
use crate::Result;
use crate::model::{Flags, FolderId, Row, RowId, Uid, UidSet};

/// The columns after `id`. A row that is gone has no UID, whatever it says.
macro_rules! columns {
    ($r:expr, $place:expr $(, $more:expr)*) => {
        params![
            $r.folder.0,
            state_out($r.state),
            if $r.gone.is_some() { 0 } else { uid_out($r.uid) },
            gone_out($r.gone),
            $place.0,
            $place.1,
            $place.2,
            $r.agreed.to_text(),
            $r.remote.to_text(),
            $r.local.to_text(),
            hash_out($r.identity.content.as_ref()),
            hash_out($r.identity.reader.as_ref()),
            &*$r.identity.fingerprint.message_id,
            &*$r.identity.fingerprint.date,
            fingerprint_key(&$r.identity.fingerprint),
            count_out($r.identity.wire_size)?,
            $r.identity.internal_date,
            server_id_out($r.identity.server_id.as_ref()),
            $r.exact,
            row_out($r.copy_of),
            $r.keeps,
            $r.is_dirty()
            $(, $more)*
        ]
    };
}

impl Tx<'_> {
    /// Adds a row; its `id` is not looked at. Refused if another row has its UID, or if the row
    /// contradicts its state: see `schema.sql`.
    pub fn insert_row(&mut self, row: &Row) -> Result<RowId> {
        let place = place_out(row.place.as_ref());
        let id = self.run(|c| {
            run(
                c,
                "INSERT INTO messages (folder_id, state, uid, gone, sub, base, suffix, agreed, \
                 remote, local, content, reader, message_id, date, fingerprint, wire_size, \
                 internal_date, server_id, exact, copy_of, keeps, dirty) VALUES (?1, ?2, ?3, ?4, \
                 ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, \
                 ?22)",
                columns!(row, place),
            )?;
            Ok(RowId(c.last_insert_rowid()))
        })?;
        self.claim(row, id)?;
        Ok(id)
    }

    /// Writes a row by its number. A row whose UID is taken over must be removed first.
    pub fn update_row(&mut self, row: &Row) -> Result<()> {
        let place = place_out(row.place.as_ref());
        self.run(|c| {
            run_one(
                c,
                "UPDATE messages SET folder_id = ?1, state = ?2, uid = ?3, gone = ?4, sub = ?5, \
                 base = ?6, suffix = ?7, agreed = ?8, remote = ?9, local = ?10, content = ?11, \
                 reader = ?12, message_id = ?13, date = ?14, fingerprint = ?15, wire_size = ?16, \
                 internal_date = ?17, server_id = ?18, exact = ?19, copy_of = ?20, keeps = ?21, \
                 dirty = ?22 WHERE id = ?23",
                "that row",
                columns!(row, place, row.id.0),
            )
        })?;
        self.claim(row, row.id)
    }

    /// Removes a row.
    pub fn delete_row(&mut self, id: RowId) -> Result<()> {
        self.run(|c| run_one(c, "DELETE FROM messages WHERE id = ?1", "that row", [id.0]))
    }

    /// The server shows these flags for this UID; whether there is a row for it. Flags that the
    /// server cannot say must be in `remote` already.
    pub fn update_remote(&mut self, folder: FolderId, uid: Uid, remote: &Flags) -> Result<bool> {
        let Some(mut row) = self.row_by_uid(folder, uid)? else { return Ok(false) };
        if row.remote != *remote {
            row.remote = remote.clone();
            self.run(|c| {
                run_one(
                    c,
                    "UPDATE messages SET remote = ?1, dirty = ?2 WHERE id = ?3",
                    "that row",
                    params![row.remote.to_text(), row.is_dirty(), row.id.0],
                )
            })?;
        }
        Ok(true)
    }

    /// The server does not have these UIDs any more: `pending` rows are removed, `synced` and
    /// `absent` ones marked as vanished. How many rows that were.
    pub fn vanish(&mut self, folder: FolderId, uids: &UidSet) -> Result<u64> {
        self.run(|c| {
            let mut n = 0;
            for (a, b) in uids.ranges() {
                let at = params![folder.0, a.get(), b.get()];
                n += run(
                    c,
                    "DELETE FROM messages WHERE folder_id = ?1 AND uid BETWEEN ?2 AND ?3 \
                     AND uid <> 0 AND state = 0",
                    at,
                )?;
                n += run(
                    c,
                    "UPDATE messages SET uid = 0, gone = 1, dirty = 1 \
                     WHERE folder_id = ?1 AND uid BETWEEN ?2 AND ?3 AND uid <> 0",
                    at,
                )?;
            }
            Ok(n)
        })
    }

    /// The folder's UIDs say nothing any more: `pending` rows are removed, the others lose their
    /// UID, which proves no deletion. How many rows that were. The folder's record is the
    /// caller's.
    pub fn mark_epoch(&mut self, folder: FolderId) -> Result<u64> {
        self.run(|c| {
            let removed = run(
                c,
                "DELETE FROM messages WHERE folder_id = ?1 AND uid <> 0 AND state = 0",
                [folder.0],
            )?;
            let marked = run(
                c,
                "UPDATE messages SET uid = 0, gone = 2, dirty = 1 \
                 WHERE folder_id = ?1 AND uid <> 0",
                [folder.0],
            )?;
            Ok(removed + marked)
        })
    }

    /// Two rows must not have the same file: the loss of one would be the loss of both. Inside a
    /// transaction they may, since names can be exchanged; so it is settled at its end.
    fn claim(&mut self, row: &Row, id: RowId) -> Result<()> {
        let Some(place) = &row.place else { return Ok(()) };
        let base = &place.file.base;
        let taken = self.run(|c| {
            first(
                c,
                "SELECT 1 FROM messages \
                 WHERE folder_id = ?1 AND base = ?2 AND base <> x'' AND id <> ?3",
                params![row.folder.0, base.as_bytes(), id.0],
                |_| Ok(()),
            )
        })?;
        if taken.is_some() {
            self.contested.push((row.folder, base.clone()));
        }
        Ok(())
    }

    pub(super) fn settle(&self) -> Result<()> {
        self.run(|c| {
            for (folder, base) in &self.contested {
                let rows: Option<u64> = first(
                    c,
                    "SELECT count(*) FROM messages \
                     WHERE folder_id = ?1 AND base = ?2 AND base <> x''",
                    params![folder.0, base.as_bytes()],
                    |r| r.count(),
                )?;
                if rows.unwrap_or(0) > 1 {
                    return Err(contested(base));
                }
            }
            Ok(())
        })
    }
}

fn contested(base: &crate::model::BaseName) -> Fault {
    Fault::internal(format!("two rows of the ledger would have the file {base}"))
}
