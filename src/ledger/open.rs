//! Opening: creating and migrating the file, and refusing what is no ledger that we can rely on.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::fault::{Fault, Result as Inner};
use super::{Ledger, View, meta};
use crate::steps::{line, step};
use crate::{Error, Kind, Result, Scope};

/// Numbered from 1; `user_version` says how many were applied. A migration that was released is
/// never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema_unmatched.sql"),
    include_str!("schema_pop3.sql"),
    include_str!("schema_pop3_seen.sql"),
    include_str!("schema_holds.sql"),
    include_str!("schema_pop3_broken.sql"),
    include_str!("schema_undone.sql"),
    include_str!("schema_pop3_short.sql"),
];

/// "mkpL", in the file's header: this is a ledger of ours.
const APPLICATION_ID: i64 = 0x6d6b_704c;

/// `synchronous` in a WAL: every commit is fsynced.
pub(super) const COMMITS_LAST: &str = "full";

/// How long to wait for another program: a `status` beside a `sync`, a backup.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same on closing, where nothing depends on it.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// The file of an account's ledger. No two accounts share one, whatever they are called.
pub fn path_for(state_dir: &Path, account: &str) -> PathBuf {
    let mut name = String::new();
    for (i, b) in account.bytes().enumerate() {
        let plain = b.is_ascii_alphanumeric() || b"-_@+".contains(&b) || (b == b'.' && i > 0);
        if plain {
            name.push(char::from(b));
        } else {
            name.push_str(&format!("%{b:02X}"));
        }
    }
    name.push_str(".db");
    state_dir.join(name)
}

impl Ledger {
    /// Opens an account's ledger to write; creates it, numbered `random_id`, if there is none. A
    /// generation of 0 says that no pass has written it yet.
    pub fn open(path: &Path, account: &str, random_id: u128) -> Result<Self> {
        create_file(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Self::connect(path, path.as_os_str().as_bytes(), flags)?;
        ledger.view.run(|c| {
            migrate(c, path, account, random_id)?;
            let owner = meta::read(c)?.account;
            if owner == account {
                Ok(())
            } else {
                Err(Fault::Told(
                    Error::account(
                        Kind::Ledger,
                        format!(
                            "ledger {} belongs to account {owner}, not to {account}",
                            path.display()
                        ),
                    )
                    .next(format!(
                        "give the account its name back, or move that file away; the next sync \
                         pairs both sides of {account} again"
                    )),
                ))
            }
        })?;
        Ok(ledger)
    }

    /// Opens a ledger to read, beside whoever writes it; `None` if there is none. Creates no file.
    pub fn open_readonly(path: &Path) -> Result<Option<Self>> {
        if size(path)?.is_none() {
            return Ok(None);
        }
        // A writer leaves its -wal and -shm in place, so they are missing only where the file was
        // put there from elsewhere. SQLite would create both; what nobody writes can be read as
        // immutable.
        let (wal, shm) = (beside(path, "-wal"), beside(path, "-shm"));
        let whole = match size(&wal)? {
            None => true,
            Some(0) => size(&shm)?.is_none(),
            Some(_) => false,
        };
        let immutable = if whole { "&immutable=1" } else { "" };
        let mut uri = b"file:".to_vec();
        for b in path.as_os_str().as_bytes() {
            match b {
                b'%' | b'?' | b'#' => uri.extend_from_slice(format!("%{b:02X}").as_bytes()),
                b => uri.push(*b),
            }
        }
        uri.extend_from_slice(b"?mode=ro");
        uri.extend_from_slice(immutable.as_bytes());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Self::connect(path, &uri, flags)?;
        let found = ledger.view.run(|c| {
            let version = version(c, path)?;
            if version > 0 && version < MIGRATIONS.len() {
                return Err(Fault::Told(
                    Error::account(
                        Kind::Ledger,
                        format!("ledger {} is of an older mailkeep", path.display()),
                    )
                    .next("run mailkeep sync once, which brings it up to date"),
                ));
            }
            Ok(version > 0)
        })?;
        Ok(found.then_some(ledger))
    }

    fn connect(path: &Path, name: &[u8], flags: OpenFlags) -> Result<Self> {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        let conn =
            Connection::open_with_flags(name, flags).map_err(|e| Fault::from(e).tell(path))?;
        let view = View { conn, path: path.to_owned() };
        let write = flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE);
        view.run(|c| settle(c, write))?;
        Ok(Self { view })
    }
}

impl Drop for Ledger {
    /// Empties the -wal into the file: the file alone is then a whole ledger for whoever copies it,
    /// and one that is put in its place from a backup is not mixed with what the -wal still had.
    /// Where a reader is in the way or the disk is full, the -wal stays as it is.
    fn drop(&mut self) {
        let View { conn, path } = &self.view;
        let readonly = conn.is_readonly(rusqlite::MAIN_DB).unwrap_or(true);
        let empty = std::fs::metadata(beside(path, "-wal")).is_ok_and(|m| m.len() == 0);
        if readonly || empty {
            return;
        }
        let done = conn
            .busy_timeout(SHORT_PATIENCE)
            .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        if let Err(e) = done {
            tracing::debug!("the -wal of {} stays: {e}", path.display());
        }
    }
}

fn settle(c: &Connection, write: bool) -> Inner<()> {
    c.busy_timeout(PATIENCE)?;
    c.set_prepared_statement_cache_capacity(96);
    // -wal and -shm stay when the last one closes: a reader would have to create them
    c.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    c.pragma_update(None, "foreign_keys", true)?;
    c.pragma_update(None, "trusted_schema", false)?;
    c.pragma_update(None, "cache_size", -2048)?;
    c.pragma_update(None, "mmap_size", 0)?;
    c.pragma_update(None, "temp_store", "memory")?;
    if write {
        let mode: String = c.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get(0))?;
        if mode != "wal" {
            return Err(Fault::Told(
                Error::account(
                    Kind::Ledger,
                    format!("the ledger's journal is {mode:?}, not a WAL"),
                )
                .next("put state_dir on a local filesystem that supports shared memory"),
            ));
        }
        c.pragma_update(None, "synchronous", COMMITS_LAST)?;
        c.pragma_update(None, "journal_size_limit", 8 << 20)?;
    }
    Ok(())
}

fn migrate(c: &Connection, path: &Path, account: &str, random_id: u128) -> Inner<()> {
    if version(c, path)? == MIGRATIONS.len() {
        return Ok(());
    }
    let tx = Transaction::new_unchecked(c, TransactionBehavior::Immediate)?;
    // another process may have done it while we waited
    let done = version(c, path)?;
    for (n, sql) in (1i64..).zip(MIGRATIONS).skip(done) {
        c.execute_batch(sql)?;
        c.pragma_update(None, "user_version", n)?;
    }
    if done == 0 {
        c.pragma_update(None, "application_id", APPLICATION_ID)?;
        meta::create(c, account, random_id)?;
    }
    step(|| line("commit", &[path]), || tx.commit())?;
    Ok(())
}

/// How many migrations the file has seen; 0 only for one that is empty.
fn version(c: &Connection, path: &Path) -> Inner<usize> {
    let pragma = |name| c.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 = c.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    if (version, application, tables) == (0, 0, 0) {
        return Ok(0);
    }
    let ledger = path.display();
    let told = |what: String, next: String| {
        Err(Fault::Told(Error::account(Kind::Ledger, what).next(next)))
    };
    if application != APPLICATION_ID || version < 1 {
        return told(
            format!("{ledger} is a database, but no ledger of mailkeep"),
            "check state_dir, or move that file away".into(),
        );
    }
    match usize::try_from(version) {
        Ok(n) if n <= MIGRATIONS.len() => Ok(n),
        _ => told(
            format!(
                "ledger {ledger} was written by a newer mailkeep: its version is {version}, and \
                 this one knows {}",
                MIGRATIONS.len()
            ),
            "install that mailkeep again".into(),
        ),
    }
}

/// The file, 0600, in a directory of ours, 0700. SQLite gives its other files the same mode.
fn create_file(path: &Path) -> Result<()> {
    let io = |doing, path: &Path, e: &std::io::Error| Error::io(Scope::Account, doing, path, e);
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| io("create directory", dir, &e))?;
    refuse_network(dir)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io("sync directory", dir, &e))
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io("create ledger", path, &e)),
    }
}

/// A WAL needs memory shared between its users, and locks that hold: neither is to be had from a
/// network filesystem. FUSE is not refused, since encrypted home directories are of that kind;
/// the marker's host tells two machines apart there.
fn refuse_network(dir: &Path) -> Result<()> {
    const NETWORK: [(u32, &str); 8] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x0102_1997, "9P"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x7375_7245, "Coda"),
    ];
    let stat = rustix::fs::statfs(dir)
        .map_err(|e| Error::io(Scope::Account, "look at", dir, &std::io::Error::from(e)))?;
    // some architectures sign-extend the number
    let magic = stat.f_type as u64 & 0xffff_ffff;
    match NETWORK.iter().find(|(m, _)| u64::from(*m) == magic) {
        Some((_, name)) => Err(Error::account(
            Kind::Ledger,
            format!(
                "{} is on a network filesystem ({name}), where no ledger is safe",
                dir.display()
            ),
        )
        .next("set state_dir to a directory on a local disk")),
        None => Ok(()),
    }
}

/// The size of a file, `None` if there is none.
fn size(path: &Path) -> Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(m) => Ok(Some(m.len())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(Scope::Account, "look at", path, &e)),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{folder, ledger, synced};
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    fn files(dir: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn all(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    /// A ledger with one message, closed, and its path.
    fn closed() -> (tempfile::TempDir, PathBuf) {
        let (dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        l.write(|tx| tx.insert_row(&synced(f, 1))).unwrap();
        let path = l.path().to_owned();
        (dir, path)
    }

    #[track_caller]
    fn refused(path: &Path, says: &str) {
        for e in
            [Ledger::open(path, "work", 1).unwrap_err(), Ledger::open_readonly(path).unwrap_err()]
        {
            assert_eq!((e.kind, e.scope), (Kind::Ledger, Scope::Account), "{e}");
            assert!(e.what.contains(says) && e.what.contains("work.db"), "{e}");
            assert!(!e.next.is_empty(), "{e}");
        }
    }

    #[test]
    fn a_released_migration_is_never_changed() {
        let hash = |sql: &str| blake3::hash(sql.as_bytes()).to_hex()[..16].to_owned();
        assert_eq!(hash(MIGRATIONS[0]), "5982090da2b382b7");
    }

    #[test]
    fn no_two_accounts_share_a_file_and_none_leaves_the_directory() {
        let dir = Path::new("/state");
        let accounts =
            ["a", "A", "a/b", "a%2Fb", "..", ".", "../x", "%", "a b", "ä", "a.b", ".a", "a\n"];
        let paths: BTreeSet<PathBuf> = accounts.iter().map(|a| path_for(dir, a)).collect();
        assert_eq!(paths.len(), accounts.len());
        assert!(paths.iter().all(|p| p.parent() == Some(dir)));
        assert_eq!(path_for(dir, "me@example.org"), dir.join("me@example.org.db"));
    }

    #[test]
    fn only_the_owner_can_read_it() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("x/state/work.db");
        let mut l = Ledger::open(&path, "work", 1).unwrap();
        folder(&mut l, "INBOX");
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for end in ["", "-wal", "-shm"] {
            assert_eq!(mode(&beside(&path, end)), 0o600, "{end}");
        }
    }

    #[test]
    fn it_is_the_same_after_closing_and_after_a_crash() {
        let (dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        l.write(|tx| tx.insert_row(&synced(f, 1))).unwrap();
        // as the files stand at a kill: nothing was closed
        let crashed = dir.path().join("crashed.db");
        for end in ["", "-wal"] {
            std::fs::copy(beside(l.path(), end), beside(&crashed, end)).unwrap();
        }
        let want = l.rows_in(f).unwrap();
        let path = l.path().to_owned();
        drop(l);
        for p in [&path, &crashed] {
            let l = Ledger::open(p, "work", 2).unwrap();
            assert_eq!(l.rows_in(f).unwrap(), want);
            assert_eq!(l.meta().unwrap().id, 0xfeed);
        }
    }

    #[test]
    fn the_closed_file_alone_is_a_whole_ledger() {
        let (dir, path) = closed();
        let copy = dir.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        for with_wal in [false, true] {
            if with_wal {
                std::fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
            }
            let before = files(dir.path());
            let l = Ledger::open_readonly(&copy).unwrap().unwrap();
            assert_eq!(l.rows_with_state(crate::model::State::Synced).unwrap().len(), 1);
            drop(l);
            assert_eq!(files(dir.path()), before, "reading creates no file");
        }
    }

    #[test]
    fn a_file_from_a_backup_is_not_mixed_with_what_came_after_it() {
        let (dir, path) = closed();
        let backup = dir.path().join("backup");
        std::fs::copy(&path, &backup).unwrap();
        let mut l = Ledger::open(&path, "work", 1).unwrap();
        let want = l.rows_with_state(crate::model::State::Synced).unwrap();
        let f = want[0].folder;
        l.write(|tx| (2..50).try_for_each(|n| tx.insert_row(&synced(f, n)).map(|_| ()))).unwrap();
        drop(l);
        std::fs::copy(&backup, &path).unwrap();
        let l = Ledger::open(&path, "work", 1).unwrap();
        assert_eq!(l.rows_in(f).unwrap(), want);
        assert_eq!(l.count_on_server(f).unwrap(), 1);
    }

    #[test]
    fn opening_and_closing_changes_no_byte_and_no_time() {
        let (dir, path) = closed();
        let stamp = || {
            ["", "-wal"].map(|end| {
                let path = beside(&path, end);
                let m = std::fs::metadata(&path).unwrap();
                (m.modified().unwrap(), std::fs::read(&path).unwrap())
            })
        };
        let before = stamp();
        let mut l = Ledger::open(&path, "work", 1).unwrap();
        l.write(|tx| tx.prune_journal(i64::MAX)).unwrap();
        drop(l);
        assert_eq!(stamp(), before);
        drop(dir);
    }

    #[test]
    fn reading_beside_a_writer_sees_what_was_committed_and_creates_nothing() {
        let (dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        l.write(|tx| tx.insert_row(&synced(f, 1))).unwrap();
        let path = l.path().to_owned();
        let (inside, wait_inside) = mpsc::channel();
        let (go_on, wait_go_on) = mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            l.write(|tx| {
                tx.insert_row(&synced(f, 2))?;
                inside.send(()).unwrap();
                wait_go_on.recv().unwrap();
                Ok(())
            })
            .unwrap();
            l
        });
        wait_inside.recv().unwrap();
        let before = files(dir.path());
        assert_eq!(before, all(&["work.db", "work.db-shm", "work.db-wal"]));
        let reader = Ledger::open_readonly(&path).unwrap().unwrap();
        assert_eq!(reader.count_on_server(f).unwrap(), 1);
        go_on.send(()).unwrap();
        let writer = writer.join().unwrap();
        assert_eq!(reader.count_on_server(f).unwrap(), 2);
        // both ways round: the last one to close leaves the files for the next reader
        drop(writer);
        drop(reader);
        assert_eq!(files(dir.path()), before);
        let mut reader = Ledger::open_readonly(&path).unwrap().unwrap();
        assert_eq!(reader.count_on_server(f).unwrap(), 2);
        assert_eq!(reader.write(|tx| tx.mark_epoch(f)).unwrap_err().kind, Kind::Ledger);
        drop(reader);
        assert_eq!(files(dir.path()), before);
    }

    #[test]
    fn a_reader_waits_for_a_lock_instead_of_failing() {
        let (_dir, path) = closed();
        // the lock that recovery and a restart of the WAL take
        let other = Connection::open(&path).unwrap();
        other.pragma_update(None, "locking_mode", "exclusive").unwrap();
        other.execute_batch("BEGIN IMMEDIATE; DELETE FROM notes; COMMIT").unwrap();
        let (started, wait_started) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            started.send(()).unwrap();
            let l = Ledger::open_readonly(&path)?.unwrap();
            l.rows_with_state(crate::model::State::Synced)
        });
        wait_started.recv().unwrap();
        drop(other);
        assert_eq!(reader.join().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn where_there_is_none_reading_creates_none() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("work.db");
        assert!(Ledger::open_readonly(&path).unwrap().is_none());
        assert_eq!(files(dir.path()), all(&[]));
        // a first sync was killed at once
        File::create(&path).unwrap();
        assert!(Ledger::open_readonly(&path).unwrap().is_none());
        assert_eq!(files(dir.path()), all(&["work.db"]));
        assert_eq!(Ledger::open(&path, "work", 3).unwrap().meta().unwrap().generation, 0);
    }

    #[test]
    fn what_is_no_ledger_is_refused_and_left_alone() {
        let (dir, path) = closed();
        std::fs::write(&path, "this is a text, and long enough to be looked at in full".repeat(9))
            .unwrap();
        refused(&path, "is damaged");
        for end in ["", "-wal", "-shm"] {
            std::fs::remove_file(beside(&path, end)).unwrap();
        }
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE t (a)").unwrap();
        drop(other);
        refused(&path, "no ledger of mailkeep");
        drop(dir);
    }

    #[test]
    fn a_damaged_page_is_an_error_that_says_what_to_do() {
        let (dir, mut l) = ledger();
        let f = folder(&mut l, "INBOX");
        l.write(|tx| (1..500).try_for_each(|n| tx.insert_row(&synced(f, n)).map(|_| ()))).unwrap();
        let path = l.path().to_owned();
        drop(l);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.get_mut(40 * 4096..).unwrap().fill(0x5a);
        std::fs::write(&path, bytes).unwrap();
        let rows = Ledger::open(&path, "work", 1).and_then(|l| l.rows_in(f));
        let e = rows.map(|r| r.len()).unwrap_err();
        assert_eq!(e.kind, Kind::Ledger, "{e}");
        assert!(e.next.contains("work.db-wal") && e.next.contains("pairs"), "{e}");
        drop(dir);
    }

    #[test]
    fn a_newer_ledger_and_another_accounts_are_refused() {
        let (_dir, path) = closed();
        let e = Ledger::open(&path, "home", 1).unwrap_err();
        assert!(e.what.contains("work") && e.what.contains("home"), "{e}");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        refused(&path, "newer mailkeep");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("file");
        File::create(&file).unwrap();
        let e = Ledger::open(&file.join("work.db"), "work", 1).unwrap_err();
        assert!(e.what.contains("file") && !e.next.is_empty(), "{e}");
    }

    #[test]
    fn a_second_writer_is_told_that_somebody_writes() {
        let (_dir, mut l) = ledger();
        let mut other = Ledger::open(l.path(), "work", 1).unwrap();
        other.conn.busy_timeout(Duration::ZERO).unwrap();
        l.write(|_| {
            let e = other.write(|tx| tx.prune_journal(0)).unwrap_err();
            assert_eq!(e.kind, Kind::Locked, "{e}");
            Ok(())
        })
        .unwrap();
        other.write(|tx| tx.prune_journal(0)).unwrap();
    }

    #[test]
    fn a_commit_waits_for_the_disk_and_memory_is_bounded() {
        let (_dir, l) = ledger();
        let pragma =
            |name: &str| -> i64 { l.conn.pragma_query_value(None, name, |r| r.get(0)).unwrap() };
        assert_eq!(pragma("synchronous"), 2);
        assert_eq!(pragma("foreign_keys"), 1);
        assert_eq!(pragma("cache_size"), -2048);
        assert_eq!(pragma("mmap_size"), 0);
    }

    #[test]
    fn every_table_is_strict_and_no_column_can_be_null() {
        let (_dir, l) = ledger();
        let loose: i64 = l
            .conn
            .query_row(
                "SELECT count(*) FROM pragma_table_list t JOIN pragma_table_info(t.name) c \
                 WHERE t.schema = 'main' AND t.name NOT LIKE 'sqlite_%' \
                 AND (t.strict = 0 OR c.\"notnull\" = 0)",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(loose, 0);
    }
}
