//! What can go wrong inside the ledger, and how the user is told: which file, and the next step.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::{Error, Kind};

/// A failure before it is said of a file.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite's.
    Sql(rusqlite::Error),
    /// A value that we never write.
    Unreadable(String),
    /// Already an error for the user.
    Told(Error),
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sql(e)
    }
}

impl Fault {
    /// A value that does not fit what the ledger can hold, or should not be.
    pub(super) fn internal(what: impl Into<String>) -> Self {
        Self::Told(Error::account(Kind::Internal, what).next(REPORT))
    }

    /// Said of the ledger at `path`.
    pub(super) fn tell(self, path: &Path) -> Error {
        let ledger = path.display();
        match self {
            Self::Told(e) => e,
            Self::Unreadable(what) => damaged(path, &what),
            Self::Sql(e) => {
                let code = e.sqlite_error_code();
                let what = |did: &str| format!("ledger {ledger} {did}: {e}");
                match code {
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                        damaged(path, &e.to_string())
                    }
                    Some(ErrorCode::DiskFull) => {
                        Error::account(Kind::DiskFull, what("cannot grow"))
                            .next("make room on that filesystem and sync again; nothing was lost")
                    }
                    Some(ErrorCode::SystemIoFailure) => {
                        Error::account(Kind::Ledger, what("cannot be read or written")).next(
                            "check the filesystem and its quota (dmesg, df, quota), then sync \
                             again; what was not recorded is found again by pairing",
                        )
                    }
                    Some(
                        ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                        | ErrorCode::PermissionDenied
                        | ErrorCode::AuthorizationForStatementDenied,
                    ) => Error::account(Kind::Ledger, what("cannot be opened or written")).next(
                        "check the owner and the mode of that file and its directory, and that \
                         the filesystem is not mounted read-only",
                    ),
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                        Error::account(Kind::Locked, what("is in use by another program")).next(
                            "wait until that program is done (fuser shows it), then sync again",
                        )
                    }
                    // No result of SQLite itself: a column that does not hold what it should.
                    None if is_conversion(&e) => damaged(path, &e.to_string()),
                    _ => Error::account(Kind::Internal, what("refused a command")).next(REPORT),
                }
            }
        }
    }
}

/// The ledger cannot be relied on.
fn damaged(path: &Path, what: &str) -> Error {
    let ledger = path.display();
    Error::account(Kind::Ledger, format!("ledger {ledger} is damaged: {what}")).next(format!(
        "move {ledger} away, together with {ledger}-wal and {ledger}-shm; the next sync pairs both \
         sides again, and neither deletes nor doubles a message"
    ))
}

const REPORT: &str = "this is a defect of mailkeep; please report it. Nothing was changed";

fn is_conversion(e: &rusqlite::Error) -> bool {
    matches!(
        e,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows
    )
}
