//! `mailkeep kept`: the messages whose remote copy is gone, a line each: date, account, folder,
//! path, From, Subject, Message-ID, with tabs between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Exit;
use super::mail::from_and_subject;
use super::screen::Screen;
use super::table::{cell, rfc3339};
use crate::config::{Account, Config};
use crate::error::Result;
use crate::ledger::{Ledger, path_for};
use crate::maildir::file;
use crate::model::{Place, Row};

/// Rows read at a time.
const PIECE: u32 = 500;

/// Lists them. An account that cannot be read does not stop the others.
pub(super) fn run(config: &Config, accounts: &[&Account], screen: &Screen) -> Result<Exit> {
    let mut exit = Exit::Ok;
    for account in accounts {
        if let Err(e) = list(config, account, screen) {
            screen.failed(Some(&account.name), &e);
            exit = exit.and(Exit::Failed);
        }
    }
    Ok(exit)
}

fn list(config: &Config, account: &Account, screen: &Screen) -> Result<()> {
    let path = path_for(&config.state_dir, &account.name);
    let Some(ledger) = Ledger::open_readonly(&path)? else { return Ok(()) };
    let folders: BTreeMap<_, _> = ledger
        .folders()?
        .into_iter()
        .map(|(id, f)| {
            let dir = account.maildir.join(account.layout.relative_dir(&f.name));
            (id, (f.name, dir))
        })
        .collect();
    let mut last = None;
    loop {
        let rows = ledger.kept_rows(last, PIECE)?;
        let Some(end) = rows.last() else { return Ok(()) };
        last = Some(end.id);
        for row in &rows {
            let Some((name, dir)) = folders.get(&row.folder) else { continue };
            let (path, (from, subject)) = row
                .place
                .as_ref()
                .map(|place| present(dir, place))
                .map(|p| (p.display().to_string(), from_and_subject(&p)))
                .unwrap_or_default();
            screen.data(line(account, row, &[&name.to_string(), &path, &from, &subject]))?;
            if screen.is_closed() {
                return Ok(());
            }
        }
    }
}

/// The file's path: a reader may have renamed it since the last pass.
fn present(dir: &Path, place: &Place) -> PathBuf {
    let path = file::place_path(dir, place);
    if path.exists() {
        return path;
    }
    match file::find(dir, &place.file.base) {
        Ok(Some(now)) => file::place_path(dir, &now),
        _ => path,
    }
}

fn line(account: &Account, row: &Row, cells: &[&str]) -> String {
    let date = rfc3339(row.identity.internal_date);
    let ends = [row.identity.fingerprint.message_id.as_ref()];
    let all = [date.as_str(), account.name.as_str()].into_iter().chain(cells.iter().copied());
    all.chain(ends).map(cell).collect::<Vec<_>>().join("\t")
}
