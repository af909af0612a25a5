//! Raw TOML → a [`Config`] that cannot be invalid: whoever holds one need not ask again whether a
//! host is empty or two maildirs overlap. Every error is found in one go, and says file, line,
//! column, the key's full path, and what would be right.

mod account;
mod build;
mod credential;
mod overlap;
mod paths;
mod read;
mod search;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::maildir::Layout;
use crate::model::FolderName;
use crate::net::Endpoint;
use crate::policy::Policy;
use crate::secret::Credential;

pub use crate::sasl::Method as AuthMethod;
pub use paths::Surroundings;
pub use read::nearest;
pub use search::{EXAMPLE, load, load_in};
pub use value::{account_name, duration_text, parse_duration};

/// Everything the user configured, with the defaults filled in.
#[derive(Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Holds one ledger an account. May not exist yet.
    pub state_dir: PathBuf,
    /// Holds the control socket. May not exist yet.
    pub runtime_dir: PathBuf,
    /// By name; at least one.
    pub accounts: BTreeMap<String, Account>,
    /// What `[hooks]` says. An account's own [`Account::hooks`] has these in it already.
    pub hooks: Hooks,
    /// What is no error and yet deserves a look, each with file, line and column.
    pub warnings: Vec<String>,
}

/// One `[accounts.NAME]`.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name: see [`account_name`] for what one may be.
    pub name: String,
    /// IMAP or POP3.
    pub protocol: Protocol,
    /// Where the server is and how the connection is secured.
    pub endpoint: Endpoint,
    /// Who logs in.
    pub user: String,
    /// Where the password or token comes from.
    pub credential: Credential,
    /// How it is shown to the server; fits `credential`.
    pub auth: AuthMethod,
    /// The root of its Maildir. Absolute. May not exist yet.
    pub maildir: PathBuf,
    /// How folders are laid out below it.
    pub layout: Layout,
    /// How many connections may be open at once; at least 1. POP3: always 1.
    pub connections: usize,
    /// How often to look where nothing pushes.
    pub poll_interval: Duration,
    /// Folders watched by IDLE where there is no NOTIFY.
    pub idle_folders: Vec<FolderName>,
    /// What happens to messages. For POP3, only `brake` and `read_only` mean anything.
    pub policy: Policy,
    /// Some for POP3 accounts, and only for them.
    pub pop3: Option<Pop3>,
    /// Commands to run; `[hooks]` with this account's own laid over it, key by key.
    pub hooks: Hooks,
}

impl Account {
    /// Whether nothing about it differs. Patterns are compared by their text.
    pub fn same_as(&self, other: &Self) -> bool {
        // what Debug shows is everything but the secret
        self.credential == other.credential && format!("{self:?}") == format!("{other:?}")
    }
}

/// The protocol of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Both ways, all folders.
    Imap,
    /// One folder, from the server to here.
    Pop3,
}

impl Protocol {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
        }
    }
}

/// `[accounts.NAME.pop3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pop3 {
    /// How long messages stay on the server.
    pub keep: Keep,
    /// Only this many stay on the server, the newest.
    pub keep_newest: Option<NonZeroU32>,
    /// Whether a file removed here is deleted there.
    pub delete_when_removed_locally: bool,
    /// The folder that mail is delivered to.
    pub folder: FolderName,
}

/// How long a POP3 server keeps what has been retrieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing is deleted there.
    Forever,
    /// Until it is durable here.
    Delete,
    /// This long after it became durable here.
    DeleteAfter(Duration),
}

/// Commands that are run when something happened; each a line for the shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// New mail has arrived.
    pub new_mail: Option<String>,
    /// Something is held and needs a decision.
    pub held: Option<String>,
    /// An account failed.
    pub failed: Option<String>,
}
