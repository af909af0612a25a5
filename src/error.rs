//! The one error type. Its scope says how far the damage reaches; the level of that scope handles
//! it, and nothing inside swallows it. Every error says what happened, where, and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a failure reaches. The level that owns the scope reports it and goes on with the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// One message: the others of its folder are done.
    Message,
    /// One folder: the other folders are done.
    Folder,
    /// One account: the other accounts are done.
    Account,
    /// The program cannot go on at all.
    Fatal,
}

/// What kind of failure it is, where the caller's next move depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The server refused the credentials. Trying again makes the server lock the account.
    Credentials,
    /// The connection could not be made, broke, or timed out. Trying again later may help.
    Connection,
    /// TLS: certificate, name, or a missing or tampered STARTTLS.
    Tls,
    /// The peer broke the protocol or a bound. The session is over.
    Protocol,
    /// The server said NO (or BAD) to this one command; the session lives.
    Refused,
    /// A local file or directory.
    Io,
    /// The name is taken: choose another one. Nothing was overwritten.
    Exists,
    /// No space left on a local filesystem.
    DiskFull,
    /// A local file went away or changed between the scan and the act: scan again.
    Raced,
    /// The ledger.
    Ledger,
    /// The maildir is not the one the ledger knows (missing, swapped, restored, another host's).
    Maildir,
    /// Another process holds the account.
    Locked,
    /// Configuration or usage: exit status 2.
    Config,
    /// A state that should not be; a defect of the program.
    Internal,
}

/// Why a server refused a command, as far as it said so (RFC 5530, RFC 9051 7.1, RFC 7889).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such folder.
    NonExistent,
    /// There is one already.
    AlreadyExists,
    /// There is no such folder, and it could be made.
    TryCreate,
    /// No room left.
    OverQuota,
    /// Some other limit.
    Limit,
    /// Not allowed.
    NoPerm,
    /// Somebody else has it locked; later it may work.
    InUse,
    /// Something behind the server is down; later it may work.
    Unavailable,
    /// Some of the messages are gone.
    ExpungeIssued,
    /// The message is too large, for good.
    TooBig,
    /// Not possible, for good.
    Cannot,
    /// It did not understand the command (BAD).
    Bad,
    /// It did not say why.
    Unsaid,
}

/// A failure: scope, kind, what happened and where, and the user's next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// How far it reaches.
    pub scope: Scope,
    /// What the caller's next move depends on.
    pub kind: Kind,
    /// What happened, and where (account, folder, file). One sentence without a full stop.
    pub what: String,
    /// What the user can do about it. Empty only where nothing can be done.
    pub next: String,
    /// Why the server refused. Beside `Refused` also of a `Connection` that the server itself ended
    /// or would not have: it answers, and wants to be left alone for a while.
    pub refusal: Option<Refusal>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error without advice; add it with [`Error::next`].
    pub fn new(scope: Scope, kind: Kind, what: impl Into<String>) -> Self {
        Self { scope, kind, what: what.into(), next: String::new(), refusal: None }
    }

    /// A refusal, with its reason.
    pub fn refused(scope: Scope, why: Refusal, what: impl Into<String>) -> Self {
        Self { refusal: Some(why), ..Self::new(scope, Kind::Refused, what) }
    }

    /// An error that ends one account's pass.
    pub fn account(kind: Kind, what: impl Into<String>) -> Self {
        Self::new(Scope::Account, kind, what)
    }

    /// An error that ends one folder's turn.
    pub fn folder(kind: Kind, what: impl Into<String>) -> Self {
        Self::new(Scope::Folder, kind, what)
    }

    /// An error of one message.
    pub fn message(kind: Kind, what: impl Into<String>) -> Self {
        Self::new(Scope::Message, kind, what)
    }

    /// An I/O error at a path. `ENOSPC` and `EDQUOT` are told apart, since they need another step.
    pub fn io(scope: Scope, doing: &str, path: &std::path::Path, e: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let what = format!("cannot {doing} {}: {e}", path.display());
        match e.kind() {
            K::StorageFull | K::QuotaExceeded => Self::new(Scope::Account, Kind::DiskFull, what)
                .next("make room on that filesystem and sync again; nothing was lost"),
            K::PermissionDenied => {
                Self::new(scope, Kind::Io, what).next("check the owner and the mode of that path")
            }
            K::ReadOnlyFilesystem => Self::new(scope, Kind::Io, what)
                .next("the filesystem is mounted read-only; remount it, then sync again"),
            _ => Self::new(scope, Kind::Io, what)
                .next("check the filesystem (dmesg, df) and sync again"),
        }
    }

    /// The same error with the user's next step.
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next = step.into();
        self
    }

    /// The same error, said of a place: "folder Work: …".
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The same error, said by the server and not by the network between.
    pub fn by_server(mut self) -> Self {
        self.refusal = Some(Refusal::Unavailable);
        self
    }

    /// The same error with at least this scope.
    pub fn widen(mut self, scope: Scope) -> Self {
        self.scope = self.scope.max(scope);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.next.is_empty() {
            write!(f, " ({})", self.next)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
