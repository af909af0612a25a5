//! `mailkeep history`: what was done to which message, when and why, a line each: time, account,
//! action, side, folder (and where it went), Message-ID, file, reason, with tabs between.

use super::Exit;
use super::screen::Screen;
use super::table::{cell, rfc3339};
use crate::config::{Account, Config};
use crate::error::Result;
use crate::ledger::{JournalEntry, JournalFilter, Ledger, path_for};

/// Lists it, oldest first. An account that cannot be read does not stop the others.
pub(super) fn run(
    config: &Config,
    accounts: &[&Account],
    message_id: Option<&str>,
    screen: &Screen,
) -> Result<Exit> {
    let filter =
        JournalFilter { message_id: message_id.map(str::to_owned), ..JournalFilter::default() };
    let mut exit = Exit::Ok;
    for account in accounts {
        let path = path_for(&config.state_dir, &account.name);
        let listed = Ledger::open_readonly(&path).and_then(|ledger| match ledger {
            Some(ledger) => {
                ledger.for_each_journal(&filter, |entry| screen.data(line(account, &entry)))
            }
            None => Ok(()),
        });
        if let Err(e) = listed {
            screen.failed(Some(&account.name), &e);
            exit = exit.and(Exit::Failed);
        }
    }
    Ok(exit)
}

fn line(account: &Account, e: &JournalEntry) -> String {
    let name = |f: &Option<crate::model::FolderName>| {
        f.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    let folder = match &e.to {
        Some(_) => format!("{} -> {}", name(&e.folder), name(&e.to)),
        None => name(&e.folder),
    };
    let base = e.base.as_ref().map(ToString::to_string).unwrap_or_default();
    [
        rfc3339(e.at).as_str(),
        &account.name,
        e.action.as_str(),
        e.side.as_str(),
        &folder,
        &e.message_id,
        &base,
        &e.why,
    ]
    .map(cell)
    .join("\t")
}
