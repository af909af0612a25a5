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
use crate::model::{BaseName, FolderId, Row, RowId, UidSet};

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

    /// Writes a row by its number, if anything differs. A row whose UID is taken over must be
    /// removed first.
    pub fn update_row(&mut self, row: &Row) -> Result<()> {
        let old = self.row(row.id)?;
        self.rewrite(old.as_ref(), row)
    }

    /// The same where it is known how the row stands in the ledger.
    pub fn update_row_from(&mut self, old: &Row, row: &Row) -> Result<()> {
        self.rewrite(Some(old), row)
    }

    /// Where only flags and the file's name differ, which is the common case, no index but that of
    /// the names is written.
    fn rewrite(&mut self, old: Option<&Row>, row: &Row) -> Result<()> {
        if old == Some(row) {
            return Ok(());
        }
        let place = place_out(row.place.as_ref());
        let renamed = |old: &Row| Row {
            place: row.place.clone(),
            agreed: row.agreed.clone(),
            remote: row.remote.clone(),
            local: row.local.clone(),
            ..old.clone()
        };
        if let Some(old) = old.filter(|old| renamed(old) == *row) {
            self.run(|c| {
                run_one(
                    c,
                    "UPDATE messages SET sub = ?1, base = ?2, suffix = ?3, agreed = ?4, \
                     remote = ?5, local = ?6, dirty = ?7 WHERE id = ?8",
                    "that row",
                    params![
                        place.0,
                        place.1,
                        place.2,
                        row.agreed.to_text(),
                        row.remote.to_text(),
                        row.local.to_text(),
                        row.is_dirty(),
                        row.id.0
                    ],
                )
            })?;
            if old.place == row.place {
                return Ok(());
            }
            let base = |r: &Row| r.place.as_ref().map(|p| p.file.base.clone());
            if base(old) == base(row) {
                self.renamed.insert(row.folder);
                return Ok(());
            }
            return self.claim(row, row.id);
        }
        if let Some(old) = old {
            self.renamed.insert(old.folder);
        }
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
        if let Some(row) = self.row(id)? {
            self.renamed.insert(row.folder);
        }
        self.run(|c| run_one(c, "DELETE FROM messages WHERE id = ?1", "that row", [id.0]))
    }

    /// Writes the flags that the server shows for a row. Flags that it cannot say must be among
    /// them.
    pub fn update_remote(&mut self, row: &Row) -> Result<()> {
        self.run(|c| {
            run_one(
                c,
                "UPDATE messages SET remote = ?1, dirty = ?2 WHERE id = ?3",
                "that row",
                params![row.remote.to_text(), row.is_dirty(), row.id.0],
            )
        })
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
        self.renamed.insert(row.folder);
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
            for folder in &self.renamed {
                run(
                    c,
                    "UPDATE folders SET digest = x'', signature = x'' \
                     WHERE id = ?1 AND (digest <> x'' OR signature <> x'')",
                    [folder.0],
                )?;
            }
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

fn contested(base: &BaseName) -> Fault {
    Fault::internal(format!("two rows of the ledger would have the file {base}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::fixture::{folder, in_state, ledger, place, synced};
    use crate::model::{Flags, Gone, State, Uid};
    use proptest::prelude::*;

    #[test]
    fn a_row_that_contradicts_its_state_is_refused() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "a");
        let refused = |l: &mut Ledger, what: &str, row: Row| {
            let e = l.write(|tx| tx.insert_row(&row)).expect_err(what);
            assert_eq!(e.kind, crate::Kind::Internal, "{what}: {e}");
            assert!(l.rows_in(f).unwrap().is_empty());
        };
        let kept = in_state(f, 1, State::Kept);
        let absent = in_state(f, 1, State::Absent);
        let pending = in_state(f, 1, State::Pending);
        refused(&mut l, "kept with a uid", Row { uid: Uid::new(1), ..kept.clone() });
        refused(&mut l, "kept and gone", Row { gone: Some(Gone::Epoch), ..kept.clone() });
        refused(&mut l, "kept without a file", Row { place: None, ..kept });
        refused(&mut l, "absent with a file", Row { place: Some(place(1)), ..absent.clone() });
        refused(&mut l, "absent nowhere", Row { uid: None, ..absent });
        refused(&mut l, "pending with a file", Row { place: Some(place(1)), ..pending.clone() });
        refused(&mut l, "pending nowhere", Row { uid: None, ..pending.clone() });
        refused(&mut l, "pending and gone", Row { gone: Some(Gone::Vanished), ..pending });
        refused(&mut l, "synced without a file", Row { place: None, ..synced(f, 1) });
        refused(&mut l, "synced with neither", Row { uid: None, ..synced(f, 1) });
        refused(&mut l, "no folder", synced(FolderId(99), 1));
    }

    #[test]
    fn one_uid_is_one_row_and_one_file_is_one_row() {
        let (_dir, mut l) = ledger();
        let (f, g) = (folder(&mut l, "a"), folder(&mut l, "b"));
        let write = |l: &mut Ledger, r: &Row| l.write(|tx| tx.insert_row(r));
        let mut one = synced(f, 1);
        one.id = write(&mut l, &one).unwrap();
        assert!(write(&mut l, &Row { place: Some(place(2)), ..synced(f, 1) }).is_err());
        assert!(write(&mut l, &Row { uid: Uid::new(2), ..synced(f, 1) }).is_err());
        write(&mut l, &synced(g, 1)).unwrap();
        let mut two = synced(f, 2);
        two.id = write(&mut l, &two).unwrap();
        // names can be exchanged
        std::mem::swap(&mut one.place, &mut two.place);
        l.write(|tx| {
            tx.update_row(&one)?;
            tx.update_row(&two)
        })
        .unwrap();
        assert_eq!(l.row_at(f, &place(2).file.base).unwrap(), Some(one));
    }

    #[test]
    fn the_number_of_a_removed_row_is_not_used_again() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "a");
        let first = l.write(|tx| tx.insert_row(&synced(f, 1))).unwrap();
        l.write(|tx| tx.delete_row(first)).unwrap();
        let second = l.write(|tx| tx.insert_row(&synced(f, 1))).unwrap();
        assert!(second > first);
        assert!(l.write(|tx| tx.delete_row(first)).is_err());
        assert!(l.write(|tx| tx.update_row(&Row { id: first, ..synced(f, 1) })).is_err());
    }

    #[derive(Debug, Clone)]
    enum Op {
        Insert(usize, u32, State),
        Delete(usize),
        Remote(usize, u32, bool),
        Vanish(usize, u32, u32),
        Epoch(usize),
        Move(usize, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let state = prop_oneof![
            Just(State::Pending),
            Just(State::Synced),
            Just(State::Kept),
            Just(State::Absent)
        ];
        prop_oneof![
            8 => (0usize..2, 1u32..12, state).prop_map(|(f, n, s)| Op::Insert(f, n, s)),
            1 => (0usize..9).prop_map(Op::Delete),
            3 => (0usize..2, 1u32..12, any::<bool>()).prop_map(|(f, n, s)| Op::Remote(f, n, s)),
            2 => (0usize..2, 1u32..12, 0u32..4).prop_map(|(f, a, n)| Op::Vanish(f, a, a + n)),
            1 => (0usize..2).prop_map(Op::Epoch),
            2 => (0usize..9, 0usize..2).prop_map(|(i, f)| Op::Move(i, f)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Against a plain list of rows: what the indexes, the triggers and the bulk statements
        /// make of any sequence of changes.
        #[test]
        fn the_ledger_is_a_list_of_rows(ops in prop::collection::vec(op(), 0..40)) {
            let (_dir, mut l) = ledger();
            l.conn.pragma_update(None, "synchronous", "off").unwrap();
            let f = [folder(&mut l, "a"), folder(&mut l, "b")];
            let mut model: Vec<Row> = Vec::new();
            let uid = |n| Uid::new(n).unwrap();
            for op in ops {
                match op {
                    Op::Insert(at, n, state) => {
                        let mut row = in_state(f[at], n, state);
                        let clash = model.iter().any(|r| r.folder == row.folder
                            && ((r.uid.is_some() && r.uid == row.uid)
                                || (r.place.is_some() && r.place == row.place)));
                        match l.write(|tx| tx.insert_row(&row)) {
                            Ok(id) => { prop_assert!(!clash); row.id = id; model.push(row); }
                            Err(_) => prop_assert!(clash),
                        }
                    }
                    Op::Delete(i) => if i < model.len() {
                        let id = model.remove(i).id;
                        l.write(|tx| tx.delete_row(id)).unwrap();
                    },
                    Op::Remote(at, n, seen) => {
                        let flags = Flags::from_imap(seen.then_some("\\Seen"));
                        let row = model.iter_mut()
                            .find(|r| r.folder == f[at] && r.uid == Some(uid(n)));
                        if let Some(r) = row {
                            r.remote = flags;
                            l.write(|tx| tx.update_remote(r)).unwrap();
                        }
                    }
                    Op::Vanish(at, a, b) => {
                        let set = UidSet::range(uid(a), uid(b));
                        let n = l.write(|tx| tx.vanish(f[at], &set)).unwrap();
                        let hit = |r: &Row| r.folder == f[at]
                            && r.uid.is_some_and(|u| set.contains(u));
                        prop_assert_eq!(n, model.iter().filter(|r| hit(r)).count() as u64);
                        model.retain(|r| !(hit(r) && r.state == State::Pending));
                        for r in model.iter_mut().filter(|r| hit(r)) {
                            (r.uid, r.gone) = (None, Some(Gone::Vanished));
                        }
                    }
                    Op::Epoch(at) => {
                        let n = l.write(|tx| tx.mark_epoch(f[at])).unwrap();
                        let hit = |r: &Row| r.folder == f[at] && r.uid.is_some();
                        prop_assert_eq!(n, model.iter().filter(|r| hit(r)).count() as u64);
                        model.retain(|r| !(hit(r) && r.state == State::Pending));
                        for r in model.iter_mut().filter(|r| hit(r)) {
                            (r.uid, r.gone) = (None, Some(Gone::Epoch));
                        }
                    }
                    Op::Move(i, to) => if let Some(r) = model.get(i).cloned() {
                        let moved = Row { folder: f[to], ..r };
                        let clash = model.iter().any(|r| r.id != moved.id
                            && r.folder == moved.folder
                            && ((r.uid.is_some() && r.uid == moved.uid)
                                || (r.place.is_some() && r.place == moved.place)));
                        let done = l.write(|tx| tx.update_row(&moved));
                        prop_assert_eq!(done.is_err(), clash);
                        if !clash { model[i] = moved; }
                    },
                }
            }
            for id in f {
                let here = || model.iter().filter(|r| r.folder == id);
                prop_assert_eq!(l.rows_in(id).unwrap(), sorted(here()));
                let uids: UidSet = here().filter(|r| r.on_server()).filter_map(|r| r.uid).collect();
                prop_assert_eq!(l.count_on_server(id).unwrap(), uids.len());
                prop_assert_eq!(l.uid_set(id).unwrap(), uids);
                let n = |s| here().filter(|r| r.state == s).count() as u64;
                let counts = l.counts().unwrap()[&id];
                prop_assert_eq!((counts.pending, counts.messages, counts.kept, counts.absent),
                    (n(State::Pending), n(State::Synced), n(State::Kept), n(State::Absent)));
                let mut files = Vec::new();
                l.for_each_local(id, |row, p| { files.push((p.clone(), row)); Ok(()) }).unwrap();
                let mut want: Vec<_> =
                    here().filter_map(|r| Some((r.place.clone()?, r.id))).collect();
                want.sort();
                prop_assert_eq!(files, want);
            }
            let mut dirty = l.dirty_rows().unwrap();
            dirty.sort_by_key(|r| r.id);
            prop_assert_eq!(dirty, sorted(model.iter().filter(|r| r.is_dirty())));
            for s in [State::Pending, State::Synced, State::Kept, State::Absent] {
                prop_assert_eq!(l.has_state(s).unwrap(), model.iter().any(|r| r.state == s));
            }
        }
    }

    fn sorted<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Row> {
        let mut v: Vec<Row> = rows.cloned().collect();
        v.sort_by_key(|r| r.id);
        v
    }
}
