//! POP3: what is known of each message that the server ever listed, and of its mailbox.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::fault::{Fault, Result as Inner};
use super::values::{
    Cells, all, count_out, each, fingerprint_key, first, hash_out, row_out, run, run_one,
};
use super::{Tx, View};
use crate::Result;
use crate::model::{
    BaseName, ContentHash, Fingerprint, FolderId, RowId, UidlId, UidlRow, UidlState,
};

/// What is known of a POP3 mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// Raised when the server or the user is another one: what UIDLs said before says nothing.
    pub epoch: u32,
    /// The server was seen to list some of its messages only.
    pub windowed: bool,
    /// Messages that the last session listed.
    pub on_server: u64,
    /// When that was, in Unix time; `None`: no session of this epoch came so far, and what stands
    /// here of the server says nothing.
    pub listed_at: Option<i64>,
    /// The epoch in which all that was here before has been compared with the server.
    pub paired: u32,
    /// Messages that retention deletes there, and which were not deleted yet.
    pub due: u64,
    /// When the next one will be due, in Unix time.
    pub next_due: Option<i64>,
    /// Why nothing was deleted there in the last session; empty if nothing forbade it.
    pub frozen: String,
    /// The least time between two logins, in seconds (RFC 2449 section 6.5). 0: not said.
    pub login_delay: u32,
    /// A session gave messages that were clearly shorter than LIST said, which were not taken. No
    /// whole session came since.
    pub doubted: bool,
}

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, epoch, uidl, generation, size, state, row, folder_id, base, content, \
             message_id, date, first_seen, delivered_at, short FROM uidls ",
            $tail
        )
    };
}

macro_rules! columns {
    ($r:expr $(, $more:expr)*) => {
        params![
            $r.epoch,
            $r.uidl.as_deref().unwrap_or_default(),
            $r.generation,
            count_out($r.size)?,
            state_out($r.state),
            row_out($r.row),
            $r.folder.0,
            $r.base.as_ref().map_or(&[][..], BaseName::as_bytes),
            hash_out($r.content.as_ref()),
            &*$r.fingerprint.message_id,
            &*$r.fingerprint.date,
            fingerprint_key(&$r.fingerprint),
            $r.first_seen,
            $r.delivered_at,
            $r.short
            $(, $more)*
        ]
    };
}

impl View {
    /// What is known of the mailbox; the default before the first session.
    pub fn mailbox(&self) -> Result<Mailbox> {
        self.run(|c| Ok(mailbox(c)?.unwrap_or_default()))
    }

    /// Every message of the epoch that the server has, as far as is known, by number.
    pub fn uidls_on_server(&self, epoch: u32) -> Result<Vec<UidlRow>> {
        self.run(|c| {
            all(c, select!("WHERE state <= 2 AND epoch = ?1 ORDER BY id"), [epoch], uidl_row)
        })
    }

    /// Those of [`uidls_on_server`](Self::uidls_on_server) whose message is not here any more.
    pub fn uidls_removed_here(&self, epoch: u32) -> Result<BTreeSet<UidlId>> {
        self.run(|c| {
            let removed = all(
                c,
                "SELECT u.id FROM uidls u LEFT JOIN messages m ON m.id = u.row \
                 WHERE u.state <= 2 AND u.epoch = ?1 AND (m.id IS NULL OR m.state = 3)",
                [epoch],
                number,
            )?;
            Ok(removed.into_iter().collect())
        })
    }

    /// What a crash left between `tmp` and its place.
    pub fn uidls_staged(&self) -> Result<Vec<UidlRow>> {
        self.run(|c| all(c, select!("WHERE state = 0 ORDER BY id"), [], uidl_row))
    }

    /// The generations of a UIDL, by generation.
    pub fn uidls_named(&self, epoch: u32, uidl: &[u8]) -> Result<Vec<UidlRow>> {
        self.run(|c| {
            all(
                c,
                select!("WHERE epoch = ?1 AND uidl = ?2 AND uidl <> x'' ORDER BY generation"),
                params![epoch, uidl],
                uidl_row,
            )
        })
    }

    /// Messages that went without our doing, of this size; of any with `None`.
    pub fn uidls_gone(&self, epoch: u32, size: Option<u64>) -> Result<Vec<UidlRow>> {
        self.run(|c| match size {
            Some(size) => all(
                c,
                select!("WHERE size = ?1 AND epoch = ?2 AND state = 4 ORDER BY id"),
                params![count_out(size)?, epoch],
                uidl_row,
            ),
            None => {
                all(c, select!("WHERE state = 4 AND epoch = ?1 ORDER BY id"), [epoch], uidl_row)
            }
        })
    }

    /// The messages of the epoch with these bytes, line endings aside, by number.
    pub fn uidls_by_content(&self, epoch: u32, hash: &ContentHash) -> Result<Vec<UidlRow>> {
        self.run(|c| {
            all(
                c,
                select!(
                    "WHERE substr(content, 1, 8) = substr(?1, 1, 8) AND content = ?1 \
                     AND content <> x'' AND epoch = ?2 ORDER BY id"
                ),
                params![&hash.0[..], epoch],
                uidl_row,
            )
        })
    }

    /// The one whose message this row is.
    pub fn uidl_of_row(&self, row: RowId) -> Result<Option<UidlRow>> {
        self.run(|c| first(c, select!("WHERE row = ?1 AND row <> 0"), [row.0], uidl_row))
    }

    /// One by its number.
    pub fn uidl(&self, id: UidlId) -> Result<Option<UidlRow>> {
        self.run(|c| by_id(c, id))
    }

    /// How many messages of an epoch are known.
    pub fn count_uidls(&self, epoch: u32) -> Result<u64> {
        self.run(|c| {
            let n = first(c, "SELECT count(*) FROM uidls WHERE epoch = ?1", [epoch], |r| r.count());
            Ok(n?.unwrap_or(0))
        })
    }

    /// How many messages of an epoch are on the server and came shorter than it says.
    pub fn count_short(&self, epoch: u32) -> Result<u64> {
        self.run(|c| {
            let sql = "SELECT count(*) FROM uidls WHERE short = 1 AND state <= 2 AND epoch = ?1";
            Ok(first(c, sql, [epoch], |r| r.count())?.unwrap_or(0))
        })
    }

    /// The rows that belong to UIDLs, with these.
    pub fn rows_of_uidls(&self) -> Result<BTreeMap<RowId, UidlId>> {
        self.run(|c| {
            let mut out = BTreeMap::new();
            each(c, "SELECT row, id FROM uidls WHERE row <> 0 ORDER BY row", [], |r| {
                out.insert(RowId(r.take()?), number(r)?);
                Ok(())
            })?;
            Ok(out)
        })
    }
}

impl Tx<'_> {
    /// Writes what is known of the mailbox, if anything differs.
    pub fn set_mailbox(&mut self, m: &Mailbox) -> Result<()> {
        self.run(|c| {
            if mailbox(c)?.as_ref() == Some(m) {
                return Ok(());
            }
            run(
                c,
                "INSERT INTO pop3 (one, epoch, windowed, on_server, due, next_due, frozen, \
                 login_delay, listed_at, paired, doubted) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, \
                 ?8, ?9, ?10) \
                 ON CONFLICT DO UPDATE SET epoch = ?1, windowed = ?2, on_server = ?3, due = ?4, \
                 next_due = ?5, frozen = ?6, login_delay = ?7, listed_at = ?8, \
                 paired = ?9, doubted = ?10",
                params![
                    m.epoch,
                    m.windowed,
                    count_out(m.on_server)?,
                    count_out(m.due)?,
                    m.next_due.unwrap_or(0),
                    m.frozen,
                    m.login_delay,
                    m.listed_at.unwrap_or(0),
                    m.paired,
                    m.doubted
                ],
            )?;
            Ok(())
        })
    }

    /// Adds one; its `id` is not looked at.
    pub fn insert_uidl(&mut self, r: &UidlRow) -> Result<UidlId> {
        self.run(|c| {
            run(
                c,
                "INSERT INTO uidls (epoch, uidl, generation, size, state, row, folder_id, base, \
                 content, message_id, date, fingerprint, first_seen, delivered_at, short) VALUES \
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                columns!(r),
            )?;
            u32::try_from(c.last_insert_rowid())
                .map(UidlId)
                .map_err(|_| Fault::internal("the ledger has no number left for a UIDL"))
        })
    }

    /// Writes one by its number.
    pub fn update_uidl(&mut self, r: &UidlRow) -> Result<()> {
        self.run(|c| {
            run_one(
                c,
                "UPDATE uidls SET epoch = ?1, uidl = ?2, generation = ?3, size = ?4, state = ?5, \
                 row = ?6, folder_id = ?7, base = ?8, content = ?9, message_id = ?10, date = ?11, \
                 fingerprint = ?12, first_seen = ?13, delivered_at = ?14, short = ?15 \
                 WHERE id = ?16",
                "that UIDL",
                columns!(r, r.id.0),
            )
        })
    }

    /// Another server follows. Where readers put the files of POP3 messages was never agreed on with
    /// the old one: their rows are given back the folder that they were delivered to, in which
    /// the next pass misses them, and finds them moved.
    pub fn unfile_uidls(&mut self) -> Result<()> {
        self.run(|c| {
            run(
                c,
                "UPDATE messages SET folder_id = (SELECT u.folder_id FROM uidls u \
                   WHERE u.row = messages.id AND u.row <> 0) \
                 WHERE state = 1 AND id IN (SELECT u.row FROM uidls u \
                   JOIN folders f ON f.id = u.folder_id WHERE u.row <> 0) \
                   AND folder_id <> (SELECT u.folder_id FROM uidls u \
                     WHERE u.row = messages.id AND u.row <> 0) \
                   AND NOT EXISTS (SELECT 1 FROM messages o JOIN uidls u ON u.row = messages.id \
                     WHERE o.folder_id = u.folder_id AND o.base = messages.base AND u.row <> 0 \
                       AND o.base <> x'')",
                [],
            )?;
            Ok(())
        })
    }

    /// Forgets one whose message was never here.
    pub fn delete_uidl(&mut self, id: UidlId) -> Result<()> {
        self.run(|c| run_one(c, "DELETE FROM uidls WHERE id = ?1", "that UIDL", [id.0]))
    }
}

fn mailbox(c: &Connection) -> Inner<Option<Mailbox>> {
    first(
        c,
        "SELECT epoch, windowed, on_server, due, next_due, frozen, login_delay, listed_at, \
         paired, doubted FROM pop3",
        [],
        |r| {
            Ok(Mailbox {
                epoch: r.number(Some)?.unwrap_or(0),
                windowed: r.take()?,
                on_server: r.count()?,
                due: r.count()?,
                next_due: r.time()?,
                frozen: r.text()?,
                login_delay: r.number(Some)?.unwrap_or(0),
                listed_at: r.time()?,
                paired: r.number(Some)?.unwrap_or(0),
                doubted: r.take()?,
            })
        },
    )
}

fn by_id(c: &Connection, id: UidlId) -> Inner<Option<UidlRow>> {
    first(c, select!("WHERE id = ?1"), [id.0], uidl_row)
}

fn number(r: &mut Cells<'_>) -> Inner<UidlId> {
    let n = r.number(Some)?;
    Ok(UidlId(n.unwrap_or(0)))
}

fn state_out(s: UidlState) -> i64 {
    match s {
        UidlState::Staged => 0,
        UidlState::Delivered => 1,
        UidlState::DelePending => 2,
        UidlState::Deleted => 3,
        UidlState::Gone => 4,
    }
}

fn uidl_row(r: &mut Cells<'_>) -> Inner<UidlRow> {
    Ok(UidlRow {
        id: number(r)?,
        epoch: r.number(Some)?.unwrap_or(0),
        uidl: r.some_bytes()?.map(Into::into),
        generation: r.number(Some)?.unwrap_or(0),
        size: r.count()?,
        state: match r.take::<i64>()? {
            0 => UidlState::Staged,
            1 => UidlState::Delivered,
            2 => UidlState::DelePending,
            3 => UidlState::Deleted,
            4 => UidlState::Gone,
            n => return Err(Fault::Unreadable(format!("state {n} of a UIDL"))),
        },
        row: r.row_id()?,
        folder: FolderId(r.take()?),
        base: r.base()?,
        content: r.hash()?,
        fingerprint: Fingerprint { message_id: r.text()?.into(), date: r.text()?.into() },
        first_seen: r.take()?,
        delivered_at: r.take()?,
        short: r.take()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{identity, ledger, place};
    use crate::ledger::values::cost;

    fn row(n: u32, state: UidlState) -> UidlRow {
        UidlRow {
            id: UidlId(0),
            epoch: 1,
            uidl: Some(format!("u {n}\u{e9}").into_bytes().into()),
            generation: 1,
            size: 100 + u64::from(n),
            state,
            row: Some(RowId(i64::from(n))),
            folder: FolderId(1),
            base: Some(place(n).file.base),
            content: identity(n).content,
            fingerprint: identity(n).fingerprint,
            first_seen: 5,
            delivered_at: 6,
            short: n % 2 == 1,
        }
    }

    #[test]
    fn a_uidl_comes_back_to_the_bit_and_is_found_without_reading_the_rest() {
        let (_dir, mut l) = ledger();
        let states = [
            UidlState::Staged,
            UidlState::Delivered,
            UidlState::DelePending,
            UidlState::Deleted,
            UidlState::Gone,
        ];
        let mut all = Vec::new();
        for (n, state) in (1..).zip(states) {
            let mut r = row(n, state);
            r.id = l.write(|tx| tx.insert_uidl(&r)).unwrap();
            assert_eq!(l.uidl(r.id).unwrap().as_ref(), Some(&r));
            all.push(r);
        }
        let bare =
            UidlRow { uidl: None, row: None, base: None, content: None, ..row(9, states[1]) };
        let bare = UidlRow { id: l.write(|tx| tx.insert_uidl(&bare)).unwrap(), ..bare };
        assert_eq!(l.uidl(bare.id).unwrap().as_ref(), Some(&bare));
        l.write(|tx| (100..300).try_for_each(|n| tx.insert_uidl(&row(n, states[3])).map(|_| ())))
            .unwrap();
        let ((), steps) = cost::of(|| {
            let there = l.uidls_on_server(1).unwrap();
            assert_eq!(there, [all[0].clone(), all[1].clone(), all[2].clone(), bare.clone()]);
            assert_eq!(l.uidls_on_server(2).unwrap(), []);
            assert_eq!(l.uidls_staged().unwrap(), [all[0].clone()]);
            assert_eq!(l.uidls_named(1, all[3].uidl.as_ref().unwrap()).unwrap(), [all[3].clone()]);
            assert_eq!(l.uidls_named(2, all[3].uidl.as_ref().unwrap()).unwrap(), []);
            assert_eq!(l.uidls_gone(1, Some(105)).unwrap(), [all[4].clone()]);
            let same = l.uidls_by_content(1, &all[1].content.unwrap()).unwrap();
            assert_eq!(same, [all[1].clone()]);
            assert_eq!(l.uidl_of_row(RowId(3)).unwrap(), Some(all[2].clone()));
            assert_eq!((l.count_short(1).unwrap(), l.count_short(2).unwrap()), (3, 0));
        });
        assert_eq!(steps, 0, "something read a whole table or sorted it");
        assert_eq!(l.count_uidls(1).unwrap(), 206);
    }

    #[test]
    fn a_uidl_has_one_row_a_generation() {
        let (_dir, mut l) = ledger();
        let mut r = row(1, UidlState::Deleted);
        l.write(|tx| tx.insert_uidl(&r)).unwrap();
        assert!(l.write(|tx| tx.insert_uidl(&r)).is_err());
        r.generation = 2;
        r.id = l.write(|tx| tx.insert_uidl(&r)).unwrap();
        r.state = UidlState::Gone;
        l.write(|tx| tx.update_uidl(&r)).unwrap();
        let both = l.uidls_named(1, r.uidl.as_ref().unwrap()).unwrap();
        assert_eq!(both.iter().map(|r| r.generation).collect::<Vec<_>>(), [1, 2]);
        l.write(|tx| tx.delete_uidl(r.id)).unwrap();
        assert_eq!(l.uidl(r.id).unwrap(), None);
    }

    #[test]
    fn what_is_known_of_the_mailbox_comes_back() {
        let (_dir, mut l) = ledger();
        assert_eq!(l.mailbox().unwrap(), Mailbox::default());
        let mut m = Mailbox {
            epoch: 3,
            windowed: true,
            on_server: 7,
            due: 2,
            next_due: Some(9),
            frozen: "why".into(),
            login_delay: 60,
            listed_at: Some(12),
            paired: 2,
            doubted: true,
        };
        l.write(|tx| tx.set_mailbox(&m)).unwrap();
        assert_eq!(l.mailbox().unwrap(), m);
        m.next_due = None;
        l.write(|tx| tx.set_mailbox(&m)).unwrap();
        assert_eq!(l.mailbox().unwrap(), m);
        l.write(|tx| tx.distrust()).unwrap();
        let after = l.mailbox().unwrap();
        assert_eq!((after.epoch, after.listed_at, after.paired), (4, None, 2));
    }
}
