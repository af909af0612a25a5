//! The ledger: what both sides of an account agreed on last, beside what each showed last. One
//! SQLite database an account, and the only user of SQLite.
//!
//! It can be lost, or be older or newer than the maildir (I9): then the next pass pairs both sides
//! again. But what it says must be right: a row that cannot be read is an error, never an absence
//! (I7), and the schema refuses rows that no plan would ever see again.
//!
//! Reading is done through [`View`], to which both [`Ledger`] and [`Tx`] dereference; writing only
//! in [`Ledger::write`]. What would write the same again writes nothing (I5).

mod changes;
mod fault;
#[cfg(test)]
mod fixture;
mod folders;
mod holds;
mod intents;
mod journal;
mod meta;
mod open;
mod rows;
mod uidls;
mod unmatched;
mod values;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::Result;
use crate::model::{BaseName, FolderId};
use crate::steps::{line, step};

pub use folders::{Counts, FolderRecord};
pub use holds::{Hold, HoldId, HoldItem, HoldKind, HoldState};
pub use intents::{Intent, IntentId, IntentKind};
pub use journal::{Action, JournalEntry, JournalFilter, Side};
pub use meta::{Meta, PassState};
pub use open::path_for;
pub use uidls::Mailbox;

/// One account's ledger. Can be sent to another thread, and shared behind a mutex.
#[derive(Debug)]
pub struct Ledger {
    view: View,
}

/// What can be read, inside a transaction or outside.
#[derive(Debug)]
pub struct View {
    conn: Connection,
    path: PathBuf,
}

/// A transaction: all of it is committed, or nothing.
#[derive(Debug)]
pub struct Tx<'a> {
    view: &'a View,
    /// Files that were claimed while another row had them; settled before the commit.
    contested: Vec<(FolderId, BaseName)>,
    /// Folders in which a row's place changed: what was remembered of their names holds no more.
    renamed: BTreeSet<FolderId>,
}

impl Ledger {
    /// Does `f` in a transaction. An error undoes everything that `f` wrote. Committed means
    /// durable.
    pub fn write<T>(&mut self, f: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let view = &self.view;
        // dropped without a commit, it rolls back
        let transaction =
            view.run(|c| Ok(Transaction::new_unchecked(c, TransactionBehavior::Immediate)?))?;
        let mut tx = Tx { view, contested: Vec::new(), renamed: BTreeSet::new() };
        let out = f(&mut tx)?;
        tx.settle()?;
        let commit = || view.run(|_| Ok(transaction.commit()?));
        step(|| line("commit", &[&view.path]), commit)?;
        Ok(out)
    }

    /// The same, but a power cut may undo it, and what was jotted after it, until the next `write`:
    /// for what can be observed again. Where an fsync is slow, several of them are what a pass
    /// takes.
    pub fn jot<T>(&mut self, f: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let lasting =
            |l: &Self, how: &str| l.view.run(|c| Ok(c.pragma_update(None, "synchronous", how)?));
        lasting(self, "normal")?;
        let done = self.write(f);
        lasting(self, open::COMMITS_LAST)?;
        done
    }
}

impl Ledger {
    /// Gives back the memory of pages that were read; for who waits long before the next pass.
    pub fn rest(&self) -> Result<()> {
        self.view.run(|c| Ok(c.execute_batch("PRAGMA shrink_memory")?))
    }
}

impl View {
    /// Writes a copy of the whole ledger, as it stands, to a path where no file is yet.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let name = path.to_string_lossy();
        self.run(|c| {
            c.execute("VACUUM INTO ?1", [name.as_ref()])?;
            Ok(())
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn run<'v, T>(&'v self, f: impl FnOnce(&'v Connection) -> fault::Result<T>) -> Result<T> {
        f(&self.conn).map_err(|e| e.tell(&self.path))
    }

    /// Many reads in one transaction: each alone would take the file's locks.
    fn at_once<T>(&self, f: impl FnOnce(&Connection) -> fault::Result<T>) -> Result<T> {
        self.run(|c| {
            let _read = if c.is_autocommit() {
                Some(Transaction::new_unchecked(c, TransactionBehavior::Deferred)?)
            } else {
                None
            };
            f(c)
        })
    }
}

impl Deref for Ledger {
    type Target = View;
    fn deref(&self) -> &View {
        &self.view
    }
}

impl Deref for Tx<'_> {
    type Target = View;
    fn deref(&self) -> &View {
        self.view
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{folder, ledger, synced};
    use super::*;
    use crate::{Error, Kind};

    #[test]
    fn a_ledger_can_be_sent_to_another_thread() {
        fn send<T: Send>() {}
        send::<Ledger>();
        send::<std::sync::Mutex<Ledger>>();
    }

    #[test]
    fn an_error_undoes_the_whole_transaction_and_the_next_one_works() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        let failed: Result<()> = l.write(|tx| {
            tx.insert_row(&synced(f, 1))?;
            assert_eq!(tx.rows_in(f)?.len(), 1);
            Err(Error::message(Kind::Raced, "x"))
        });
        assert_eq!(failed.unwrap_err().kind, Kind::Raced);
        assert_eq!(l.rows_in(f).unwrap(), []);
        assert_eq!(l.count_on_server(f).unwrap(), 0);
        l.write(|tx| tx.insert_row(&synced(f, 1))).unwrap();
        assert_eq!(l.rows_in(f).unwrap().len(), 1);
    }

    #[test]
    fn a_write_after_something_jotted_is_as_durable_as_ever() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        let how = |view: &View| -> i64 {
            view.conn.query_row("PRAGMA synchronous", [], |r| r.get(0)).unwrap()
        };
        let full = how(&l);
        l.jot(|tx| {
            assert!(how(tx) < full, "or nothing is gained");
            tx.insert_row(&synced(f, 1))
        })
        .unwrap();
        assert_eq!((how(&l), l.rows_in(f).unwrap().len()), (full, 1));
        let failed: Result<()> = l.jot(|_| Err(Error::message(Kind::Raced, "x")));
        assert_eq!((failed.unwrap_err().kind, how(&l)), (Kind::Raced, full));
    }

    #[test]
    fn a_full_disk_says_so_and_loses_nothing() {
        let (_dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        l.write(|tx| tx.insert_row(&synced(f, 1))).unwrap();
        let pages: i64 = l.conn.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
        l.conn.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let full =
            l.write(|tx| (2..5000).try_for_each(|n| tx.insert_row(&synced(f, n)).map(|_| ())));
        let full = full.unwrap_err();
        assert_eq!((full.kind, full.scope), (Kind::DiskFull, crate::Scope::Account));
        assert!(!full.next.is_empty());
        assert_eq!(l.rows_in(f).unwrap().len(), 1);
        l.conn.pragma_update(None, "max_page_count", pages + 5000).unwrap();
        l.write(|tx| tx.insert_row(&synced(f, 2))).unwrap();
    }
}
