//! What the server has no more: kept here, or forgotten where it was deleted here too.

use std::collections::BTreeMap;

use super::deliver::Done;
use super::pass::Pass;
use super::recognise::Known;
use crate::error::Result;
use crate::ledger::{Action, JournalEntry, Side, Tx};
use crate::model::{FolderId, FolderName, Gone, State, UidlRow, UidlState};

/// What the server had and does not list any more. A listing that is not whole, or of a server that
/// shows a part only, says nothing of that.
pub fn vanished(p: &mut Pass<'_>, known: &Known, done: &Done, short: bool) -> Result<()> {
    if short || p.mailbox.windowed {
        return Ok(());
    }
    let left: Vec<&UidlRow> = known
        .rows
        .values()
        .filter(|r| r.state.on_server() && !done.taken.contains(&r.id))
        .collect();
    let mut epoch_rows = if p.first { p.ledger.with(|l| l.dirty_rows())? } else { Vec::new() };
    epoch_rows.retain(|r| r.gone == Some(Gone::Epoch));
    let names: BTreeMap<FolderId, FolderName> =
        p.folders.iter().map(|(id, s)| (*id, s.rec.name.clone())).collect();
    let now = p.now;
    if left.is_empty() && epoch_rows.is_empty() {
        return Ok(());
    }
    let kept = p.write(|tx| {
        let mut kept = 0;
        for uidl in left {
            let ours = uidl.state == UidlState::DelePending;
            let mut uidl = uidl.clone();
            uidl.state = if ours { UidlState::Deleted } else { UidlState::Gone };
            let why = if ours { "deleted by an earlier session" } else { "gone from the server" };
            kept += u64::from(!ours);
            gone_there(tx, &mut uidl, &names, now, ours.then_some(false), why)?;
        }
        for row in &epoch_rows {
            let Some(mut row) = tx.row(row.id)?.filter(|r| r.gone == Some(Gone::Epoch)) else {
                continue;
            };
            if row.place.is_some() {
                row.state = State::Kept;
                row.gone = None;
                row.uid = None;
                tx.update_row(&row)?;
            } else {
                if let Some(mut uidl) = tx.uidl_of_row(row.id)? {
                    uidl.row = None;
                    tx.update_uidl(&uidl)?;
                }
                tx.delete_row(row.id)?;
            }
        }
        Ok(kept)
    })?;
    p.report.kept += kept;
    Ok(())
}

/// The server has it no more: its file is kept, and what has none is forgotten but for its UIDL.
/// `ours`: we deleted it, and whether the brake counts that.
pub fn gone_there(
    tx: &mut Tx<'_>,
    uidl: &mut UidlRow,
    names: &BTreeMap<FolderId, FolderName>,
    now: i64,
    ours: Option<bool>,
    why: &str,
) -> Result<()> {
    let action = if ours.is_some() { Action::ExpungeThere } else { Action::Keep };
    let mut e = JournalEntry::new(now, action, Side::There, why);
    e.counted = false;
    e.message_id = uidl.fingerprint.message_id.to_string();
    if let Some(name) = names.get(&uidl.folder) {
        e = e.in_folder(uidl.folder, name);
        e.counted = ours == Some(true);
    }
    e.uid = uidl.id.uid();
    e.base.clone_from(&uidl.base);
    let row = match uidl.row {
        Some(id) => tx.row(id)?,
        None => None,
    };
    match row {
        Some(mut row) if row.place.is_some() => {
            row.state = State::Kept;
            row.uid = None;
            row.gone = None;
            tx.update_row(&row)?;
        }
        Some(row) => {
            tx.delete_row(row.id)?;
            uidl.row = None;
        }
        None => uidl.row = None,
    }
    tx.update_uidl(uidl)?;
    tx.journal(&e)
}
