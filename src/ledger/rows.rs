//! Reading rows.

use rusqlite::{Connection, params};

use super::View;
use super::fault::{Fault, Result as Inner};
use super::values::{Cells, all, each, fingerprint_key, first};
use crate::Result;
use crate::model::{
    BaseName, ContentHash, Fingerprint, FolderId, Gone, Place, Row, RowId, ServerId, State, Uid,
    UidSet,
};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, folder_id, state, uid, gone, sub, base, suffix, agreed, remote, local, \
             content, reader, message_id, date, wire_size, internal_date, server_id, exact, \
             copy_of, keeps FROM messages ",
            $tail
        )
    };
}

impl View {
    /// One row.
    pub fn row(&self, id: RowId) -> Result<Option<Row>> {
        self.run(|c| by_id(c, id))
    }

    /// The rows with these numbers, as far as there are any.
    pub fn rows_by_ids(&self, ids: &[RowId]) -> Result<Vec<Row>> {
        self.run(|c| {
            let mut out = Vec::new();
            for id in ids {
                out.extend(by_id(c, *id)?);
            }
            Ok(out)
        })
    }

    /// The rows of the folder that have one of these UIDs, by UID.
    pub fn rows_by_uids(&self, folder: FolderId, uids: &UidSet) -> Result<Vec<Row>> {
        self.run(|c| {
            let mut out = Vec::new();
            for (a, b) in uids.ranges() {
                out.extend(all(
                    c,
                    select!(
                        "WHERE folder_id = ?1 AND uid BETWEEN ?2 AND ?3 AND uid <> 0 ORDER BY uid"
                    ),
                    params![folder.0, a.get(), b.get()],
                    row,
                )?);
            }
            Ok(out)
        })
    }

    /// The row of the folder that has this UID.
    pub fn row_by_uid(&self, folder: FolderId, uid: Uid) -> Result<Option<Row>> {
        self.run(|c| {
            first(
                c,
                select!("WHERE folder_id = ?1 AND uid = ?2 AND uid <> 0"),
                params![folder.0, uid.get()],
                row,
            )
        })
    }

    /// The row whose file is in this folder under this base name.
    pub fn row_at(&self, folder: FolderId, base: &BaseName) -> Result<Option<Row>> {
        self.run(|c| at(c, folder, base))
    }

    /// The rows whose files are in this folder under these base names, as far as there are any.
    pub fn rows_at(&self, folder: FolderId, bases: &[BaseName]) -> Result<Vec<Row>> {
        self.run(|c| {
            let mut out = Vec::new();
            for base in bases {
                out.extend(at(c, folder, base)?);
            }
            Ok(out)
        })
    }

    /// The UIDs that the server has in this folder, as far as was seen last.
    pub fn uid_set(&self, folder: FolderId) -> Result<UidSet> {
        self.run(|c| {
            let mut set = UidSet::new();
            each(
                c,
                "SELECT uid FROM messages WHERE folder_id = ?1 AND uid <> 0 ORDER BY uid",
                [folder.0],
                |r| {
                    if let Some(uid) = r.uid()? {
                        set.insert(uid);
                    }
                    Ok(())
                },
            )?;
            Ok(set)
        })
    }

    /// The rows of which something was observed that nobody has acted on yet, by folder and number.
    pub fn dirty_rows(&self) -> Result<Vec<Row>> {
        self.run(|c| all(c, select!("WHERE dirty = 1 ORDER BY folder_id, id"), [], row))
    }

    /// The rows in this state, by number.
    pub fn rows_with_state(&self, state: State) -> Result<Vec<Row>> {
        self.run(|c| match state {
            State::Pending => {
                all(c, select!("WHERE state = 0 AND dirty = 1 ORDER BY folder_id, id"), [], row)
            }
            State::Synced => all(c, select!("WHERE state = 1 ORDER BY id"), [], row),
            State::Kept | State::Absent => all(
                c,
                select!("WHERE state = ?1 AND state >= 2 ORDER BY id"),
                [state_out(state)],
                row,
            ),
        })
    }

    /// Whether any row is in this state.
    pub fn has_state(&self, state: State) -> Result<bool> {
        self.run(|c| {
            let found = first(
                c,
                "SELECT 1 FROM counts WHERE state = ?1 AND n > 0 LIMIT 1",
                [state_out(state)],
                |_| Ok(()),
            )?;
            Ok(found.is_some())
        })
    }

    /// At most `limit` `kept` rows with larger numbers than `after`, by number.
    pub fn kept_rows(&self, after: Option<RowId>, limit: u32) -> Result<Vec<Row>> {
        self.run(|c| {
            all(
                c,
                select!("WHERE state = 2 AND state >= 2 AND id > ?1 ORDER BY id LIMIT ?2"),
                params![after.map_or(0, |a| a.0), limit],
                row,
            )
        })
    }

    /// Every row of the folder that has a file, ordered by the bytes of the base name, one at a
    /// time: to be compared with a sorted scan.
    pub fn for_each_local(
        &self,
        folder: FolderId,
        mut f: impl FnMut(RowId, &Place) -> Result<()>,
    ) -> Result<()> {
        self.run(|c| {
            each(
                c,
                "SELECT id, sub, base, suffix FROM messages \
                 WHERE folder_id = ?1 AND base <> x'' ORDER BY base, suffix",
                [folder.0],
                |r| {
                    let id = RowId(r.take()?);
                    let place = r.place()?.ok_or_else(|| bad(id, "no place"))?;
                    f(id, &place).map_err(Fault::Told)
                },
            )
        })
    }

    /// The rows with these bytes, line endings aside, by number.
    pub fn by_content(&self, hash: &ContentHash) -> Result<Vec<Row>> {
        self.run(|c| {
            all(
                c,
                select!(
                    "WHERE substr(content, 1, 8) = substr(?1, 1, 8) AND content = ?1 \
                     AND content <> x'' ORDER BY id"
                ),
                [&hash.0[..]],
                row,
            )
        })
    }

    /// The rows with these bytes, what readers change aside, by number.
    pub fn by_reader(&self, hash: &ContentHash) -> Result<Vec<Row>> {
        self.run(|c| {
            all(
                c,
                select!(
                    "WHERE substr(reader, 1, 8) = substr(?1, 1, 8) AND reader = ?1 \
                     AND reader <> x'' ORDER BY id"
                ),
                [&hash.0[..]],
                row,
            )
        })
    }

    /// The rows with this Message-ID and Date, by number.
    pub fn by_fingerprint(&self, f: &Fingerprint) -> Result<Vec<Row>> {
        self.run(|c| {
            all(
                c,
                select!("WHERE fingerprint = ?1 AND message_id = ?2 AND date = ?3 ORDER BY id"),
                params![fingerprint_key(f), &*f.message_id, &*f.date],
                row,
            )
        })
    }

    /// The rows that the server knows by this id, by number.
    pub fn by_server_id(&self, id: &ServerId) -> Result<Vec<Row>> {
        self.run(|c| {
            all(c, select!("WHERE server_id = ?1 AND server_id <> '' ORDER BY id"), [&*id.0], row)
        })
    }

    /// Every row of the folder, by number.
    pub fn rows_in(&self, folder: FolderId) -> Result<Vec<Row>> {
        self.run(|c| all(c, select!("WHERE folder_id = ?1 ORDER BY id"), [folder.0], row))
    }
}

pub(super) fn by_id(c: &Connection, id: RowId) -> Inner<Option<Row>> {
    first(c, select!("WHERE id = ?1"), [id.0], row)
}

pub(super) fn state_out(s: State) -> i64 {
    match s {
        State::Pending => 0,
        State::Synced => 1,
        State::Kept => 2,
        State::Absent => 3,
    }
}

pub(super) fn gone_out(g: Option<Gone>) -> i64 {
    match g {
        None => 0,
        Some(Gone::Vanished) => 1,
        Some(Gone::Epoch) => 2,
    }
}

fn at(c: &Connection, folder: FolderId, base: &BaseName) -> Inner<Option<Row>> {
    first(
        c,
        select!("WHERE folder_id = ?1 AND base = ?2 AND base <> x''"),
        params![folder.0, base.as_bytes()],
        row,
    )
}

fn row(r: &mut Cells<'_>) -> Inner<Row> {
    let id = RowId(r.take()?);
    read(id, r).map_err(|e| match e {
        Fault::Unreadable(what) => bad(id, &what),
        e => e,
    })
}

fn read(id: RowId, r: &mut Cells<'_>) -> Inner<Row> {
    Ok(Row {
        id,
        folder: FolderId(r.take()?),
        state: match r.take::<i64>()? {
            0 => State::Pending,
            1 => State::Synced,
            2 => State::Kept,
            3 => State::Absent,
            n => return Err(Fault::Unreadable(format!("state {n}"))),
        },
        uid: r.uid()?,
        gone: match r.take::<i64>()? {
            0 => None,
            1 => Some(Gone::Vanished),
            2 => Some(Gone::Epoch),
            n => return Err(Fault::Unreadable(format!("gone {n}"))),
        },
        place: r.place()?,
        agreed: r.flags()?,
        remote: r.flags()?,
        local: r.flags()?,
        identity: r.identity()?,
        exact: r.take()?,
        copy_of: r.row_id()?,
        keeps: r.take()?,
    })
}

fn bad(id: RowId, what: &str) -> Fault {
    Fault::Unreadable(format!("row {}: {what}", id.0))
}
