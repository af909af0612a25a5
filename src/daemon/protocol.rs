//! What is said over the control socket: a line of JSON each way. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::PassReport;
use crate::error::Error;

/// No request is longer, in bytes.
pub const LONGEST_REQUEST: usize = 64 << 10;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How everything stands.
    Status,
    /// A pass over one account, now; answered when it has ended.
    Sync {
        /// The account.
        account: String,
        /// Act only in these folders, as patterns.
        folders: Vec<String>,
        /// Take the maildir over from another host.
        take_over: bool,
    },
    /// A decision about a hold; a pass follows.
    Decide {
        /// The account.
        account: String,
        /// The hold's number.
        hold: i64,
        /// Approved, else rejected.
        approve: bool,
    },
    /// Nothing more is done for this account until it is resumed.
    Pause {
        /// The account.
        account: String,
    },
    /// Goes on with it.
    Resume {
        /// The account.
        account: String,
    },
    /// Reads the configuration again.
    Reload,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Reply {
    /// How everything stands.
    Status(Status),
    /// What the pass did.
    Pass(PassReport),
    /// It is done, and this is to be said of it.
    Done {
        /// For a person.
        note: String,
    },
    /// The daemon does not serve this account.
    UnknownAccount,
    /// It failed, or was not understood.
    Failed(Error),
}

/// The daemon and its accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Unix time of its start.
    pub since: i64,
    /// By account.
    pub accounts: BTreeMap<String, Live>,
}

/// What an account's worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It was started just now.
    Starting,
    /// All is done; it waits for changes.
    Waiting,
    /// A pass is under way.
    Syncing,
    /// It failed, and is tried again.
    Backoff,
    /// The server refused the credentials; it waits for a person.
    Parked,
    /// A person paused it.
    Paused,
    /// Something is held and needs a decision; everything else goes on.
    Held,
    /// No room on the disk.
    DiskFull,
    /// The maildir is not there, or not the right one.
    MaildirMissing,
    /// Another process is at work on the account.
    Locked,
}

impl State {
    /// As `status` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Syncing => "syncing",
            Self::Backoff => "backing off",
            Self::Parked => "parked",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::DiskFull => "disk full",
            Self::MaildirMissing => "maildir missing",
            Self::Locked => "locked",
        }
    }
}

/// How one account stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// What its worker is at.
    pub state: State,
    /// Since when, Unix time.
    pub since: i64,
    /// When it is looked at again at the latest, Unix time.
    pub until: Option<i64>,
    /// What failed, with the user's next step.
    pub error: Option<String>,
    /// How far the pass is.
    pub doing: Option<String>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// How changes of each folder are heard of.
    pub push: BTreeMap<String, String>,
    /// When the last pass ended, Unix time, and what it did.
    pub last_pass: Option<(i64, String)>,
    /// Passes since the start.
    pub passes: u64,
}

impl Live {
    /// Of a worker that was started now.
    pub fn new(now: i64) -> Self {
        Self {
            state: State::Starting,
            since: now,
            until: None,
            error: None,
            doing: None,
            notes: Vec::new(),
            push: BTreeMap::new(),
            last_pass: None,
            passes: 0,
        }
    }
}

/// Reads a request. The error says what is wrong with it.
pub fn parse(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|e| format!("the request is not understood: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_survive_the_way() {
        let all = [
            Request::Status,
            Request::Sync {
                account: "a".into(),
                folders: vec!["\\Junk".into(), "ä*".into()],
                take_over: true,
            },
            Request::Decide { account: "a".into(), hold: -1, approve: false },
            Request::Pause { account: "\n".into() },
            Request::Reload,
        ];
        for request in all {
            let line = serde_json::to_string(&request).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(parse(line.as_bytes()), Ok(request));
        }
        assert_eq!(parse(br#"{"do":"status"}"#), Ok(Request::Status));
        for bad in [&b"{}"[..], b"", b"\xff", br#"{"do":"rm"}"#, br#"{"do":"pause","x":1}"#] {
            assert!(parse(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
