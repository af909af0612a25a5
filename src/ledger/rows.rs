//! Reading rows.

use rusqlite::{Connection, params};

use super::View;
use super::fault::{Fault, Result as Inner};
use super::values::{Cells, all, each, fingerprint_key, first};
use crate::Result;
use crate::model::{
    BaseName, ContentHash, Fingerprint, FolderId, Gone, Place, Row, RowId, ServerId, State, Subdir,
    Uid, UidSet,
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
        self.at_once(|c| {
            let mut out = Vec::new();
            for id in ids {
                out.extend(by_id(c, *id)?);
            }
            Ok(out)
        })
    }

    /// The rows of the folder that have one of these UIDs, by UID.
    pub fn rows_by_uids(&self, folder: FolderId, uids: &UidSet) -> Result<Vec<Row>> {
        self.at_once(|c| {
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
        self.at_once(|c| {
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

    /// The row with the largest number; 0 if there is none.
    pub fn newest_row(&self) -> Result<RowId> {
        self.run(|c| {
            let sql = "SELECT coalesce(max(id), 0) FROM messages";
            let found = first(c, sql, [], |r| r.row_id())?;
            Ok(found.flatten().unwrap_or(RowId(0)))
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

    /// The names of a folder's files, without an allocation a row: where they were seen last, the
    /// base name, and what follows it.
    pub fn for_each_name(
        &self,
        folder: FolderId,
        mut f: impl FnMut(RowId, Subdir, &[u8], &str),
    ) -> Result<()> {
        self.run(|c| {
            each(
                c,
                "SELECT id, sub, base, suffix FROM messages \
                 WHERE folder_id = ?1 AND base <> x''",
                [folder.0],
                |r| {
                    let id = RowId(r.take()?);
                    let (sub, base, suffix) = r.name()?;
                    f(id, sub, base, suffix);
                    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::ledger::fixture::{folder, identity, in_state, ledger, place, synced};
    use crate::ledger::values::cost;
    use crate::ledger::{Ledger, Tx};
    use crate::model::{FileName, Flags, Identity, Subdir};

    fn put(l: &mut Ledger, mut row: Row) -> Row {
        row.id = l.write(|tx: &mut Tx<'_>| tx.insert_row(&row)).unwrap();
        row
    }

    #[test]
    fn a_row_comes_back_to_the_bit() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        let base = BaseName::new(b"not utf-8 \xff\xfe:1,").unwrap();
        let full = put(
            &mut l,
            Row {
                uid: Some(Uid::MAX),
                place: Some(Place { sub: Subdir::New, file: FileName::bare(base) }),
                agreed: Flags::from_imap(["\\Seen", "todo"]),
                remote: Flags::from_imap(["$Junk", "ToDo"]),
                local: Flags::default(),
                identity: Identity {
                    server_id: Some(ServerId("M6d99ac3275bb4e".into())),
                    internal_date: -1,
                    ..identity(3)
                },
                exact: false,
                copy_of: Some(RowId(77)),
                keeps: true,
                ..synced(f, 3)
            },
        );
        let bare =
            put(&mut l, Row { identity: Identity::default(), ..in_state(f, 4, State::Pending) });
        let gone = put(&mut l, Row { uid: None, gone: Some(Gone::Epoch), ..synced(f, 5) });
        let rows = [full, bare, gone];
        assert_eq!(l.rows_in(f).unwrap(), rows);
        for r in rows {
            assert_eq!(l.row(r.id).unwrap(), Some(r));
        }
        assert_eq!(l.row(RowId(99)).unwrap(), None);
    }

    #[test]
    fn every_question_finds_its_rows_and_reads_no_others() {
        let (_dir, mut l) = ledger();
        let (a, b) = (folder(&mut l, "a"), folder(&mut l, "b"));
        l.write(|tx| (100..300).try_for_each(|n| tx.insert_row(&synced(b, n)).map(|_| ())))
            .unwrap();
        let one = put(&mut l, synced(a, 1));
        let twin = put(&mut l, Row { identity: identity(1), ..synced(b, 1) });
        let id = Some(ServerId("x".into()));
        let named = put(
            &mut l,
            Row { identity: Identity { server_id: id.clone(), ..identity(2) }, ..synced(a, 2) },
        );
        let kept = put(&mut l, in_state(a, 3, State::Kept));
        let absent = put(&mut l, in_state(a, 4, State::Absent));
        let pending = put(&mut l, in_state(b, 5, State::Pending));
        let both = vec![one.clone(), twin.clone()];
        let cheap = |what: &str, got: Result<Vec<Row>>, want: &[&Row]| {
            let want: Vec<Row> = want.iter().map(|r| (*r).clone()).collect();
            assert_eq!(got.unwrap(), want, "{what}");
        };
        let ((), steps) = cost::of(|| {
            assert_eq!(l.by_content(&one.identity.content.unwrap()).unwrap(), both);
            assert_eq!(l.by_reader(&one.identity.reader.unwrap()).unwrap(), both);
            assert_eq!(l.by_fingerprint(&one.identity.fingerprint).unwrap(), both);
            cheap("server id", l.by_server_id(&id.clone().unwrap()), &[&named]);
            cheap("no server id", l.by_server_id(&ServerId("".into())), &[]);
            cheap("dirty", l.dirty_rows(), &[&pending]);
            cheap("kept", l.rows_with_state(State::Kept), &[&kept]);
            cheap("absent", l.rows_with_state(State::Absent), &[&absent]);
            cheap("pending", l.rows_with_state(State::Pending), &[&pending]);
            cheap("kept rows", l.kept_rows(None, 9), &[&kept]);
            cheap("kept rows after", l.kept_rows(Some(kept.id), 9), &[]);
            assert_eq!(l.row_by_uid(a, Uid::MIN).unwrap().as_ref(), Some(&one));
            assert_eq!(l.row_by_uid(a, Uid::MAX).unwrap(), None);
            let uids = UidSet::range(Uid::MIN, Uid::new(4).unwrap());
            cheap("uids", l.rows_by_uids(a, &uids), &[&one, &named, &absent]);
            cheap("ids", l.rows_by_ids(&[kept.id, RowId(999)]), &[&kept]);
            let bases = [3, 1, 4].map(|n| place(n).file.base);
            cheap("bases", l.rows_at(a, &bases), &[&kept, &one]);
            assert_eq!(l.row_at(b, &bases[0]).unwrap(), None);
            assert_eq!(l.uid_set(a).unwrap().to_string(), "1:2,4");
            l.for_each_local(b, |_, _| Ok(())).unwrap();
            l.for_each_name(b, |_, _, _, _| {}).unwrap();
        });
        assert_eq!(steps, 0, "something read a whole table or sorted it");
        // and the measure can fail
        let (all, steps) = cost::of(|| l.rows_with_state(State::Synced).unwrap());
        assert_eq!(all.len(), 203);
        assert!(steps > 200);
    }

    #[test]
    fn files_come_in_the_order_of_their_bytes() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "a");
        let names: [&[u8]; 5] = [b"b", b"B", b"a\xff", b"a", b"a!"];
        for (n, name) in (1..).zip(names) {
            let file = FileName::bare(BaseName::new(name).unwrap());
            put(&mut l, Row { place: Some(Place { sub: Subdir::New, file }), ..synced(f, n) });
        }
        put(&mut l, in_state(f, 9, State::Absent));
        let mut got = Vec::new();
        l.for_each_local(f, |_, p| {
            got.push(p.file.base.clone());
            Ok(())
        })
        .unwrap();
        let mut want: Vec<BaseName> = names.iter().map(|n| BaseName::new(n).unwrap()).collect();
        want.sort();
        assert_eq!(got, want);
        let mut names = Vec::new();
        l.for_each_name(f, |_, sub, base, suffix| {
            assert_eq!((sub, suffix), (Subdir::New, ""));
            names.push(BaseName::new(base).unwrap());
        })
        .unwrap();
        names.sort();
        assert_eq!(names, want);
        let stopped = l.for_each_local(f, |_, _| Err(crate::Error::folder(Kind::Raced, "x")));
        assert_eq!(stopped.unwrap_err().kind, Kind::Raced);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_an_error_and_no_absence() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "a");
        put(&mut l, synced(f, 1));
        for broken in [
            "agreed = 'Se(en'",
            "remote = '\\Recent'",
            "content = x'00'",
            "sub = 2",
            "base = x'2e'",
            "suffix = 'S'",
            "uid = 4294967296",
            "wire_size = -1",
            "local = cast(x'ff' AS TEXT)",
        ] {
            l.conn.execute_batch("SAVEPOINT s").unwrap();
            l.conn.execute_batch(&format!("UPDATE messages SET {broken}")).unwrap();
            let e = l.rows_in(f).expect_err(broken);
            assert_eq!((e.kind, e.scope), (Kind::Ledger, crate::Scope::Account), "{broken}");
            assert!(e.next.contains("move"), "{broken}: {e}");
            l.conn.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
            assert_eq!(l.rows_in(f).unwrap().len(), 1);
        }
        l.conn.execute_batch("UPDATE messages SET sub = 2").unwrap();
        assert_eq!(l.for_each_local(f, |_, _| Ok(())).unwrap_err().kind, Kind::Ledger);
        assert_eq!(l.for_each_name(f, |_, _, _, _| {}).unwrap_err().kind, Kind::Ledger);
    }
}
