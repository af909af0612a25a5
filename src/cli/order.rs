//! `mailkeep pause`, `resume` and `reload`: orders to the daemon.

use super::screen::Screen;
use super::{Exit, select};
use crate::config::Config;
use crate::daemon::client;
use crate::daemon::protocol::Request;
use crate::error::{Error, Kind, Result, Scope};

/// Nothing more is done for the account.
pub(super) fn pause(config: &Config, account: &str, screen: &Screen) -> Result<Exit> {
    let account = select::account(config, account)?.name.clone();
    tell(config, Some(&account.clone()), &Request::Pause { account }, screen)
}

/// The account goes on.
pub(super) fn resume(config: &Config, account: &str, screen: &Screen) -> Result<Exit> {
    let account = select::account(config, account)?.name.clone();
    tell(config, Some(&account.clone()), &Request::Resume { account }, screen)
}

/// The configuration is read again. That it is valid, this command has just seen itself.
pub(super) fn reload(config: &Config, screen: &Screen) -> Result<Exit> {
    tell(config, None, &Request::Reload, screen)
}

fn tell(
    config: &Config,
    account: Option<&str>,
    request: &Request,
    screen: &Screen,
) -> Result<Exit> {
    match client::order(config, request)? {
        Some(note) => {
            screen.note(account, &note);
            Ok(Exit::Ok)
        }
        None => {
            let what = match account {
                Some(account) => format!("no daemon serves {account}"),
                None => "no daemon runs".to_owned(),
            };
            Err(Error::new(Scope::Fatal, Kind::Connection, what)
                .next("start one with `mailkeep run`, or have it reload its configuration"))
        }
    }
}
