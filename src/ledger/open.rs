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
use crate::{Error, Kind, Result, Scope};

/// Numbered from 1; `user_version` says how many were applied. A migration that was released is
/// never changed.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// "mkpL", in the file's header: this is a ledger of ours.
const APPLICATION_ID: i64 = 0x6d6b_704c;

/// How long to wait for another program: a `status` beside a `sync`, a backup.
const PATIENCE: Duration = Duration::from_secs(10);

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
        if !exists(path)? {
            return Ok(None);
        }
        // A writer leaves its -wal and -shm in place, so they are missing only where the file was
        // put there from elsewhere. SQLite would create both; what nobody writes can be read as
        // immutable.
        let immutable = if exists(&beside(path, "-wal"))? { "" } else { "&immutable=1" };
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
    fn drop(&mut self) {
        // So that the file alone is a whole ledger for whoever copies it. Where a reader is in the
        // way or the disk is full, the -wal still has it.
        let conn = &self.view.conn;
        if conn.is_readonly(rusqlite::MAIN_DB).is_ok_and(|readonly| !readonly) {
            let done = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(e) = done {
                tracing::debug!("checkpoint of {} left to the next: {e}", self.view.path.display());
            }
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
        c.pragma_update(None, "synchronous", "full")?;
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
    tx.commit()?;
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

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|e| Error::io(Scope::Account, "look at", path, &e))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
