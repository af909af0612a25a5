//! What the command line needs of the account's worker.

use crate::account::{PassOptions, PassReport};
use crate::config::{Account, Config};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;

/// One pass over an account.
pub async fn pass(
    _account: &Account,
    _config: &Config,
    _options: &PassOptions,
    _progress: &Progress,
) -> Result<PassReport> {
    Err(Error::account(Kind::Internal, "this build cannot sync"))
}

/// Logs in and says what the server can do and what that leads to, a line each.
pub async fn connect(_account: &Account) -> Result<Vec<String>> {
    Err(Error::account(Kind::Internal, "this build cannot connect"))
}
