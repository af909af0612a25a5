//! Folders: what is known of each on either side, and how many messages it has and had.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::fault::{Fault, Result as Inner};
use super::values::{Cells, all, count_out, each, first, run, run_one, uid_out};
use super::{Tx, View};
use crate::Result;
use crate::model::{FolderId, FolderName, ModSeq, SpecialUse, Uid, UidValidity};

/// What is known of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRecord {
    /// Its number. Not looked at on inserting.
    pub id: FolderId,
    /// Its name.
    pub name: FolderName,
    /// Its name as the server spells it.
    pub wire: Option<Vec<u8>>,
    /// The server's separator in that name.
    pub separator: Option<char>,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
    /// MAILBOXID (RFC 8474), which a rename does not change.
    pub mailbox_id: Option<String>,
    /// Whether the server had it when it was observed last.
    pub on_server: bool,
    /// Whether the maildir had it when it was scanned last.
    pub on_disk: bool,
    /// The epoch that the UIDs of its rows belong to.
    pub uidvalidity: Option<UidValidity>,
    /// Every UID below it has been observed.
    pub uidnext: Option<Uid>,
    /// Every change up to it has been observed.
    pub modseq: Option<ModSeq>,
    /// EXISTS at the last complete observation.
    pub messages: u32,
    /// `dovecot-keywords` as it should be.
    pub keywords: String,
    /// Of the directories at the last scan.
    pub signature: Option<Vec<u8>>,
    /// Of the file names at the last scan. `None`: it must be scanned again.
    pub digest: Option<u128>,
    /// When its names were read in full, in Unix time. 0: never.
    pub last_full_scan: i64,
    /// How the server tells of changes.
    pub push: String,
    /// A warning for `status`.
    pub note: String,
    /// The server refused to make it, as `note` says: when it is asked again, in Unix time. 0: it did
    /// not refuse.
    pub retry_at: i64,
    /// Messages that the server has, and that no row knows yet: they were not looked at.
    pub unseen: u64,
}

impl FolderRecord {
    /// A folder of which nothing but the name is known.
    pub fn new(name: FolderName) -> Self {
        Self {
            id: FolderId(0),
            name,
            wire: None,
            separator: None,
            special_use: None,
            mailbox_id: None,
            on_server: false,
            on_disk: false,
            uidvalidity: None,
            uidnext: None,
            modseq: None,
            messages: 0,
            keywords: String::new(),
            signature: None,
            digest: None,
            last_full_scan: 0,
            push: String::new(),
            note: String::new(),
            retry_at: 0,
            unseen: 0,
        }
    }
}

/// How many rows of a folder are what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// On both sides, as agreed on last.
    pub messages: u64,
    /// Here only.
    pub kept: u64,
    /// On the server only.
    pub absent: u64,
    /// Not here yet.
    pub pending: u64,
}

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, name, wire, separator, special_use, mailbox_id, on_server, on_disk, \
             uidvalidity, uidnext, modseq, messages, keywords, signature, digest, last_full_scan, \
             push, note, retry_at, unseen FROM folders ",
            $tail
        )
    };
}

macro_rules! columns {
    ($f:expr $(, $more:expr)*) => {
        params![
            $f.name.to_text(),
            $f.wire.as_deref().unwrap_or_default(),
            $f.separator.map(String::from).unwrap_or_default(),
            $f.special_use.map_or("", SpecialUse::attribute),
            $f.mailbox_id.as_deref().unwrap_or_default(),
            $f.on_server,
            $f.on_disk,
            $f.uidvalidity.map_or(0, UidValidity::get),
            uid_out($f.uidnext),
            count_out($f.modseq.map_or(0, ModSeq::get))?,
            $f.messages,
            $f.keywords,
            $f.signature.as_deref().unwrap_or_default(),
            $f.digest.map(|d| d.to_be_bytes().to_vec()).unwrap_or_default(),
            $f.last_full_scan,
            $f.push,
            $f.note,
            $f.retry_at,
            count_out($f.unseen)?
            $(, $more)*
        ]
    };
}

impl View {
    /// Every folder.
    pub fn folders(&self) -> Result<BTreeMap<FolderId, FolderRecord>> {
        let list = self.run(|c| all(c, select!(""), [], record))?;
        Ok(list.into_iter().map(|f| (f.id, f)).collect())
    }

    /// One folder.
    pub fn folder(&self, id: FolderId) -> Result<Option<FolderRecord>> {
        self.run(|c| by_id(c, id))
    }

    /// One folder by its name.
    pub fn folder_named(&self, name: &FolderName) -> Result<Option<FolderRecord>> {
        self.run(|c| first(c, select!("WHERE name = ?1"), [name.to_text()], record))
    }

    /// How many rows are what, for every folder.
    pub fn counts(&self) -> Result<BTreeMap<FolderId, Counts>> {
        self.run(|c| {
            let mut out: BTreeMap<FolderId, Counts> = all(c, "SELECT id FROM folders", [], |r| {
                Ok((FolderId(r.take()?), Counts::default()))
            })?
            .into_iter()
            .collect();
            each(c, "SELECT folder_id, state, n FROM counts", [], |r| {
                let of = out.entry(FolderId(r.take()?)).or_default();
                let slot = match r.take::<i64>()? {
                    0 => &mut of.pending,
                    1 => &mut of.messages,
                    2 => &mut of.kept,
                    3 => &mut of.absent,
                    n => return Err(Fault::Unreadable(format!("{n} is no state"))),
                };
                *slot += r.count()?;
                Ok(())
            })?;
            Ok(out)
        })
    }

    /// How many messages of the folder the server has, as far as was seen last: synced, absent and
    /// pending rows that are not gone. Compared with EXISTS.
    pub fn count_on_server(&self, folder: FolderId) -> Result<u64> {
        self.run(|c| {
            let n = first(
                c,
                "SELECT coalesce(sum(n), 0) FROM counts \
                 WHERE folder_id = ?1 AND state <> 2 AND gone = 0",
                [folder.0],
                |r| r.count(),
            )?;
            Ok(n.unwrap_or(0))
        })
    }

    /// How many messages each folder had at the time `t` that a deletion could reach, that is
    /// synced ones: `kept` and `absent` rows do not dilute the brake's percentage. Exact to the
    /// pass, by what [`Tx::note_sizes`] noted; where nothing is as old as `t`, the oldest note;
    /// where there is none, what the folder has now.
    pub fn folder_sizes_at(&self, t: i64) -> Result<BTreeMap<FolderId, u64>> {
        self.run(|c| {
            let list = all(
                c,
                "SELECT f.id, coalesce( \
                   (SELECT messages FROM sizes WHERE folder_id = f.id AND at <= ?1 \
                      ORDER BY at DESC LIMIT 1), \
                   (SELECT messages FROM sizes WHERE folder_id = f.id AND at > ?1 \
                      ORDER BY at LIMIT 1), \
                   (SELECT sum(n) FROM counts WHERE folder_id = f.id AND state = 1), \
                   0) FROM folders f",
                [t],
                |r| Ok((FolderId(r.take()?), r.count()?)),
            )?;
            Ok(list.into_iter().collect())
        })
    }
}

impl Tx<'_> {
    /// Adds a folder. Its name must be new.
    pub fn insert_folder(&mut self, f: &FolderRecord) -> Result<FolderId> {
        self.run(|c| {
            run(
                c,
                "INSERT INTO folders (name, wire, separator, special_use, mailbox_id, on_server, \
                 on_disk, uidvalidity, uidnext, modseq, messages, keywords, signature, digest, \
                 last_full_scan, push, note, retry_at, unseen) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, \
                 ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
                columns!(f),
            )?;
            Ok(FolderId(c.last_insert_rowid()))
        })
    }

    /// Writes a folder, if anything differs.
    pub fn update_folder(&mut self, f: &FolderRecord) -> Result<()> {
        self.run(|c| {
            if by_id(c, f.id)?.as_ref() == Some(f) {
                return Ok(());
            }
            run_one(
                c,
                "UPDATE folders SET name = ?1, wire = ?2, separator = ?3, special_use = ?4, \
                 mailbox_id = ?5, on_server = ?6, on_disk = ?7, uidvalidity = ?8, uidnext = ?9, \
                 modseq = ?10, messages = ?11, keywords = ?12, signature = ?13, digest = ?14, \
                 last_full_scan = ?15, push = ?16, note = ?17, retry_at = ?18, \
                 unseen = ?19 WHERE id = ?20",
                "that folder",
                columns!(f, f.id.0),
            )
        })
    }

    /// Removes a folder that has no rows and no intents; an error if it has.
    pub fn delete_folder(&mut self, id: FolderId) -> Result<()> {
        self.run(|c| run_one(c, "DELETE FROM folders WHERE id = ?1", "that folder", [id.0]))
    }

    /// Removes a folder that is nowhere any more, with its `pending` and `absent` rows, which say
    /// nothing without it. An error if a row is left that has a file here.
    pub fn forget_folder(&mut self, id: FolderId) -> Result<()> {
        self.run(|c| {
            run(c, "DELETE FROM messages WHERE folder_id = ?1 AND state IN (0, 3)", [id.0])?;
            run_one(c, "DELETE FROM folders WHERE id = ?1", "that folder", [id.0])
        })
    }

    /// The ledger turned out to be older or younger than the maildir. What it says of `kept` and
    /// `absent` messages stays as a hint; everything else is to be paired again. How many rows that
    /// were.
    pub fn distrust(&mut self) -> Result<u64> {
        self.run(|c| {
            let dropped = run(c, "DELETE FROM messages WHERE state IN (0, 1)", [])?;
            let hints =
                run(c, "UPDATE messages SET uid = 0, gone = 2, dirty = 1 WHERE state = 3", [])?;
            run(c, "DELETE FROM intents", [])?;
            // POP3: what was fetched is found again by pairing, or fetched again
            run(c, "UPDATE uidls SET row = 0 WHERE row NOT IN (SELECT id FROM messages)", [])?;
            run(c, "UPDATE pop3 SET epoch = epoch + 1, listed_at = 0", [])?;
            run(
                c,
                "UPDATE folders SET uidvalidity = 0, uidnext = 0, modseq = 0, messages = 0, \
                 signature = x'', digest = x'', last_full_scan = 0",
                [],
            )?;
            Ok(dropped + hints)
        })
    }

    /// Notes at the end of a pass how large the folders are, where that changed. Notes that no
    /// window of 24 hours can reach any more are removed.
    pub fn note_sizes(&mut self, at: i64) -> Result<()> {
        const TWO_DAYS: i64 = 2 * 24 * 3600;
        self.run(|c| {
            let noted = run(
                c,
                "INSERT INTO sizes (folder_id, at, messages) \
                 SELECT id, ?1, now FROM ( \
                   SELECT f.id AS id, \
                     coalesce((SELECT sum(n) FROM counts WHERE folder_id = f.id AND state = 1), 0) \
                       AS now, \
                     (SELECT messages FROM sizes WHERE folder_id = f.id ORDER BY at DESC LIMIT 1) \
                       AS last \
                   FROM folders f) \
                 WHERE last IS NULL OR last <> now \
                 ON CONFLICT DO UPDATE SET messages = excluded.messages",
                [at],
            )?;
            if noted > 0 {
                run(
                    c,
                    "DELETE FROM sizes WHERE at < (SELECT max(s.at) FROM sizes s \
                       WHERE s.folder_id = sizes.folder_id AND s.at <= ?1)",
                    [at.saturating_sub(TWO_DAYS)],
                )?;
            }
            Ok(())
        })
    }
}

fn by_id(c: &Connection, id: FolderId) -> Inner<Option<FolderRecord>> {
    first(c, select!("WHERE id = ?1"), [id.0], record)
}

fn record(r: &mut Cells<'_>) -> Inner<FolderRecord> {
    let bad = |what: &str| Fault::Unreadable(format!("a folder with {what}"));
    Ok(FolderRecord {
        id: FolderId(r.take()?),
        name: r.folder_name()?.ok_or_else(|| bad("no name"))?,
        wire: r.some_bytes()?,
        separator: r.some_text()?.and_then(|s| s.chars().next()),
        special_use: match r.some_text()? {
            Some(s) => {
                Some(SpecialUse::from_attribute(&s).ok_or_else(|| bad("an unknown special use"))?)
            }
            None => None,
        },
        mailbox_id: r.some_text()?,
        on_server: r.take()?,
        on_disk: r.take()?,
        uidvalidity: r.number(UidValidity::new)?,
        uidnext: r.uid()?,
        modseq: ModSeq::new(r.count()?),
        messages: r.number(Some)?.unwrap_or(0),
        keywords: r.text()?,
        signature: r.some_bytes()?,
        digest: match r.some_bytes()? {
            Some(b) => Some(u128::from_be_bytes(
                b.try_into().map_err(|_| bad("a digest that is not 16 bytes long"))?,
            )),
            None => None,
        },
        last_full_scan: r.take()?,
        push: r.text()?,
        note: r.text()?,
        retry_at: r.take()?,
        unseen: r.count()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::ledger::fixture::{folder, in_state, ledger, synced};
    use crate::model::{State, UidSet};

    fn full() -> FolderRecord {
        FolderRecord {
            wire: Some(b"INBOX.Entw&APw-rfe\xff".to_vec()),
            separator: Some('.'),
            special_use: Some(SpecialUse::Drafts),
            mailbox_id: Some("F2212ea87".into()),
            on_server: true,
            on_disk: true,
            uidvalidity: UidValidity::new(u32::MAX),
            uidnext: Uid::new(7),
            modseq: ModSeq::new(i64::MAX as u64),
            messages: u32::MAX,
            keywords: "0 todo\n".into(),
            signature: Some(vec![0, 1, 2]),
            digest: Some(u128::MAX - 5),
            last_full_scan: 1_709_204_400,
            push: "notify".into(),
            note: "read-only".into(),
            retry_at: 1_709_290_800,
            unseen: 9,
            ..FolderRecord::new(FolderName::from_text("a%2Fb/Entwürfe").unwrap())
        }
    }

    #[test]
    fn a_folder_comes_back_to_the_bit() {
        let (_dir, mut l) = ledger();
        let mut a = full();
        let mut b = FolderRecord { digest: Some(0), ..FolderRecord::new(FolderName::inbox()) };
        a.id = l.write(|tx| tx.insert_folder(&a)).unwrap();
        b.id = l.write(|tx| tx.insert_folder(&b)).unwrap();
        let want: BTreeMap<_, _> = [(a.id, a.clone()), (b.id, b.clone())].into();
        assert_eq!(l.folders().unwrap(), want);
        assert_eq!(l.folder(a.id).unwrap().as_ref(), Some(&a));
        assert_eq!(l.folder_named(&b.name).unwrap().as_ref(), Some(&b));
        let changed =
            FolderRecord { id: b.id, name: FolderName::from_text("c").unwrap(), ..full() };
        l.write(|tx| tx.update_folder(&changed)).unwrap();
        assert_eq!(l.folder(b.id).unwrap(), Some(changed));
        assert_eq!(l.folder(a.id).unwrap(), Some(a));
    }

    #[test]
    fn two_folders_never_have_one_name_and_a_mod_sequence_must_fit() {
        let (_dir, mut l) = ledger();
        folder(&mut l, "a");
        let again = FolderRecord::new(FolderName::from_text("a").unwrap());
        assert_eq!(l.write(|tx| tx.insert_folder(&again)).unwrap_err().kind, Kind::Internal);
        let large = FolderRecord { modseq: ModSeq::new(u64::MAX), ..full() };
        assert_eq!(l.write(|tx| tx.insert_folder(&large)).unwrap_err().kind, Kind::Internal);
    }

    #[test]
    fn a_folder_with_messages_cannot_be_removed() {
        let (_dir, mut l) = ledger();
        let (f, g) = (folder(&mut l, "a"), folder(&mut l, "b"));
        l.write(|tx| {
            tx.insert_row(&in_state(f, 1, State::Pending))?;
            tx.insert_row(&in_state(f, 2, State::Absent))?;
            tx.insert_row(&in_state(g, 3, State::Kept))?;
            tx.note_sizes(1)
        })
        .unwrap();
        assert!(l.write(|tx| tx.delete_folder(f)).is_err());
        assert!(l.write(|tx| tx.forget_folder(g)).is_err());
        assert_eq!(l.rows_in(g).unwrap().len(), 1);
        l.write(|tx| tx.forget_folder(f)).unwrap();
        assert_eq!(l.folder(f).unwrap(), None);
        let kept = l.rows_in(g).unwrap()[0].id;
        l.write(|tx| {
            tx.delete_row(kept)?;
            tx.delete_folder(g)
        })
        .unwrap();
        assert!(l.folders().unwrap().is_empty() && l.counts().unwrap().is_empty());
        assert!(l.write(|tx| tx.delete_folder(g)).is_err());
        assert!(folder(&mut l, "a") > g, "the number of a folder is not used again");
    }

    #[test]
    fn the_brake_sees_the_folders_as_they_stood_at_the_start_of_its_window() {
        const HOUR: i64 = 3600;
        let (_dir, mut l) = ledger();
        let (f, g) = (folder(&mut l, "a"), folder(&mut l, "b"));
        let t = 1_709_204_400;
        let sizes = |l: &crate::ledger::Ledger, at| {
            l.folder_sizes_at(at).unwrap().into_values().collect::<Vec<_>>()
        };
        assert_eq!(sizes(&l, t), [0, 0]);
        l.write(|tx| {
            (1..=100).try_for_each(|n| tx.insert_row(&synced(f, n)).map(|_| ()))?;
            // neither can be deleted by following the other side
            tx.insert_row(&in_state(f, 200, State::Kept))?;
            tx.insert_row(&in_state(f, 201, State::Absent))?;
            tx.insert_row(&in_state(f, 202, State::Pending))
        })
        .unwrap();
        assert_eq!(sizes(&l, t), [100, 0], "nothing noted yet");
        l.write(|tx| tx.note_sizes(t)).unwrap();
        let remove = |l: &mut crate::ledger::Ledger, n| {
            let ids: Vec<_> = l.rows_with_state(State::Synced).unwrap();
            l.write(|tx| ids.iter().take(n).try_for_each(|r| tx.delete_row(r.id))).unwrap();
        };
        for (hour, n) in [(10, 30), (20, 20), (30, 20)] {
            remove(&mut l, n);
            l.write(|tx| tx.note_sizes(t + hour * HOUR)).unwrap();
        }
        l.write(|tx| tx.insert_row(&synced(g, 1))).unwrap();
        l.write(|tx| tx.note_sizes(t + 31 * HOUR)).unwrap();
        assert_eq!(sizes(&l, t - 1), [100, 0], "the oldest note");
        assert_eq!(sizes(&l, t + 10 * HOUR - 1), [100, 0]);
        assert_eq!(sizes(&l, t + 10 * HOUR), [70, 0]);
        assert_eq!(sizes(&l, t + 29 * HOUR), [50, 0]);
        assert_eq!(sizes(&l, t + 31 * HOUR), [30, 1]);
        // three days later: what no window reaches any more is not kept
        remove(&mut l, 1);
        l.write(|tx| tx.note_sizes(t + 100 * HOUR)).unwrap();
        let notes: i64 = l
            .conn
            .query_row("SELECT count(*) FROM sizes WHERE folder_id = ?1", [f.0], |r| r.get(0))
            .unwrap();
        assert_eq!(notes, 2);
        assert_eq!(sizes(&l, t + 76 * HOUR), [30, 1]);
    }

    #[test]
    fn what_would_write_the_same_again_writes_nothing() {
        let (_dir, mut l) = ledger();
        let mut f = full();
        f.id = l.write(|tx| tx.insert_folder(&f)).unwrap();
        l.write(|tx| tx.insert_row(&synced(f.id, 1))).unwrap();
        let meta = l.meta().unwrap();
        l.write(|tx| {
            tx.note_sizes(5)?;
            tx.update_folder(&f) // the row's place made it forget the names' digest
        })
        .unwrap();
        let before = l.conn.total_changes();
        let row = l.rows_in(f.id).unwrap().remove(0);
        l.write(|tx| {
            tx.update_folder(&f)?;
            tx.set_meta(&meta)?;
            tx.note_sizes(9)?;
            tx.vanish(f.id, &UidSet::new())?;
            tx.update_row_from(&row, &row)?;
            tx.prune_journal(i64::MAX)
        })
        .unwrap();
        assert_eq!(l.conn.total_changes(), before);
    }
}
