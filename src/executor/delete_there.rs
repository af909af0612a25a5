//! Deletions on the server, of what was removed here: to the trash, for good, or as the end of a move
//! whose copy is there.

use std::collections::BTreeMap;

use super::joins::keeps_in;
use super::there::{advance, ensure_folder, intents, marked, not_moved, pairs, proven, refused};
use super::{by_folder, journal};
use crate::account::observe_pending;
use crate::account::pass::Pass;
use crate::error::{Kind, Result};
use crate::imap::Expunged;
use crate::ledger::{Action as Done, IntentKind, Side};
use crate::model::{FolderId, Row, RowId, State, UidSet};
use crate::reconcile::Trees;
use crate::words::count;

/// Expunges the originals of messages whose copies are there.
pub async fn finish_moves(p: &mut Pass<'_>, _trees: &Trees, all: &[(RowId, RowId)]) -> Result<()> {
    let mut rows = Vec::new();
    for (id, copy) in all {
        let (row, copy) = (p.row(*id)?, p.row(*copy)?);
        rows.push((row.folder, (row, copy)));
    }
    for (folder, rows) in by_folder(rows) {
        let copies: BTreeMap<RowId, Row> = rows.iter().map(|(r, c)| (r.id, c.clone())).collect();
        let rows = rows.into_iter().map(|(r, _)| (r, false)).collect();
        let finished = expunge_folder(p, folder, rows, Some(&copies)).await;
        p.each(finished)?;
    }
    Ok(())
}

/// Moves messages whose files were removed to the trash.
pub async fn trash(
    p: &mut Pass<'_>,
    _trees: &Trees,
    all: &[(RowId, FolderId, bool)],
) -> Result<()> {
    let mut groups: BTreeMap<(FolderId, FolderId), Vec<(Row, bool)>> = BTreeMap::new();
    for (id, trash, approved) in all {
        let row = p.row(*id)?;
        groups.entry((row.folder, *trash)).or_default().push((row, *approved));
    }
    for ((from, to), rows) in groups {
        let trashed = trash_group(p, from, to, rows).await;
        p.each(trashed)?;
    }
    Ok(())
}

async fn trash_group(
    p: &mut Pass<'_>,
    from: FolderId,
    to: FolderId,
    rows: Vec<(Row, bool)>,
) -> Result<()> {
    if !ensure_folder(p, to).await? {
        return Ok(());
    }
    let approved: BTreeMap<RowId, bool> = rows.iter().map(|(r, a)| (r.id, *a)).collect();
    let rows = proven(p, from, rows.into_iter().map(|(r, _)| r).collect()).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(());
    }
    let wire = p.folder(to)?.wire()?;
    let open: Vec<_> = rows.iter().map(|r| (Some(r), to, None)).collect();
    let open = intents(p, IntentKind::Move, &open)?;
    let by_move = p.session.moves();
    let (copied, expunged) = match p.session.move_messages(&set, &wire).await {
        Err(e) if e.kind == Kind::Refused => return not_moved(p, to, &open, by_move, e),
        other => other?,
    };
    let known = pairs(p, to, copied)?;
    let mut arrivals = Vec::new();
    let mut stays = Vec::new();
    let mut gone = Vec::new();
    let mut entries = Vec::new();
    for row in rows {
        let new = match &known {
            Some(pairs) => match row.uid.and_then(|u| pairs.get(&u).copied()) {
                Some(uid) => Some(uid),
                None => continue, // it did not move
            },
            None => None,
        };
        let why = "its file was removed here";
        let mut e = journal::moved(p, Done::TrashThere, Side::There, &row, to, why);
        e.counted = !approved.get(&row.id).copied().unwrap_or(false);
        entries.push(e);
        if expunged == Expunged::Marked {
            stays.push(marked(&row));
        }
        if let Some(uid) = new {
            // fetched again, into the Trash here
            let mut a = observe_pending(to, uid, row.remote.clone(), row.identity.clone());
            a.keeps = keeps_in(p, &row, to);
            arrivals.push(a);
        } else {
            p.look_again = true;
        }
        gone.push(row.id);
    }
    p.report.deleted += gone.len() as u64;
    advance(p, to, arrivals.iter().filter_map(|r| r.uid))?;
    for id in &gone {
        p.missing.remove(id);
    }
    p.write_folder(to, |tx| {
        for id in &gone {
            tx.delete_row(*id)?;
        }
        for row in arrivals.iter().chain(&stays) {
            tx.insert_row(row)?;
        }
        open.iter().try_for_each(|i| tx.delete_intent(*i))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}

/// Expunges messages whose files were removed.
pub async fn expunge(p: &mut Pass<'_>, _trees: &Trees, all: &[(RowId, bool)]) -> Result<()> {
    let mut rows = Vec::new();
    for (id, approved) in all {
        let row = p.row(*id)?;
        rows.push((row.folder, (row, *approved)));
    }
    for (folder, rows) in by_folder(rows) {
        let expunged = expunge_folder(p, folder, rows, None).await;
        p.each(expunged)?;
    }
    Ok(())
}

/// `copies`: the rows whose copies prove that this is the end of a move.
async fn expunge_folder(
    p: &mut Pass<'_>,
    folder: FolderId,
    rows: Vec<(Row, bool)>,
    copies: Option<&BTreeMap<RowId, Row>>,
) -> Result<()> {
    let approved: BTreeMap<RowId, bool> = rows.iter().map(|(r, a)| (r.id, *a)).collect();
    let rows = proven(p, folder, rows.into_iter().map(|(r, _)| r).collect()).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(());
    }
    p.guard.open(&p.ledger)?;
    let done = match p.session.expunge(&set).await {
        Err(e) if e.kind == Kind::Refused => return refused(p, folder, e),
        done => done?,
    };
    let mut entries = Vec::new();
    for row in &rows {
        let (action, why) = match (copies.and_then(|c| c.get(&row.id)), done) {
            (Some(_), _) => (Done::MoveThere, "it was moved here, in two steps"),
            (None, Expunged::Done) => (Done::ExpungeThere, "its file was removed here"),
            (None, Expunged::Marked) => (Done::MarkThere, "its file was removed here"),
        };
        let mut e = match copies.and_then(|c| c.get(&row.id)) {
            Some(copy) => journal::moved(p, action, Side::There, row, copy.folder, why),
            None => journal::of_row(p, action, Side::There, row, why),
        };
        e.counted = copies.is_none() && !approved.get(&row.id).copied().unwrap_or(false);
        entries.push(e);
        p.missing.remove(&row.id);
    }
    if done == Expunged::Marked {
        let name = p.folder(folder)?.rec.name.clone();
        p.report.notes.push(format!(
            "folder {name}: {} marked \\Deleted and left, since the server cannot expunge some \
             messages alone (no UIDPLUS)",
            count(rows.len(), "message is", "messages are")
        ));
    }
    if copies.is_some() {
        p.report.moved += rows.len() as u64;
    } else {
        p.report.deleted += rows.len() as u64;
    }
    p.write(|tx| {
        for row in &rows {
            match done {
                Expunged::Done => tx.delete_row(row.id)?,
                Expunged::Marked => tx.update_row(&marked(row))?,
            }
            if let Some(copy) = copies.and_then(|c| c.get(&row.id)) {
                if copy.state == State::Pending {
                    tx.answer(copy)?;
                }
                let copy = Row { copy_of: None, ..copy.clone() };
                tx.update_row(&copy)?;
            }
        }
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}
