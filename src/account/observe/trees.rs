//! The three trees that the planner gets: rows that differ, what has no row, and the rows that it
//! may belong to.

use std::collections::{BTreeMap, BTreeSet};

use super::super::holds;
use super::super::pass::Pass;
use crate::error::Result;
use crate::ledger::IntentKind;
use crate::model::{BaseName, Row, RowId, State};
use crate::reconcile::{Folder, Presence, Sent, Trees};

/// Collects what differs.
pub fn trees(p: &Pass<'_>) -> Result<Trees> {
    let mut rows: BTreeMap<RowId, Row> = BTreeMap::new();
    p.ledger.with(|l| {
        let mut take = |found: Vec<Row>| rows.extend(found.into_iter().map(|r| (r.id, r)));
        take(l.dirty_rows()?);
        take(l.rows_by_ids(&p.missing.iter().copied().collect::<Vec<_>>())?);
        for f in p.files.values() {
            if let Some(h) = &f.identity.content {
                take(l.by_content(h)?);
            }
            if let Some(h) = &f.identity.reader {
                take(l.by_reader(h)?);
            }
        }
        // a file that was saved out of a folder that is left alone, and edited, has its name
        for id in p.folders.iter().filter(|(_, f)| !f.selected).map(|(id, _)| *id) {
            let bases: Vec<_> = ours(p).cloned().collect();
            take(l.rows_at(id, &bases)?);
        }
        let first: Vec<Row> = rows.values().cloned().collect();
        let mut take = |found: Vec<Row>| {
            for r in found {
                rows.entry(r.id).or_insert(r);
            }
        };
        for r in &first {
            if r.state == State::Pending {
                // kept mail that the server has again; what else it may be is in the plan anyhow
                let known = l.by_fingerprint(&r.identity.fingerprint)?;
                take(
                    known
                        .into_iter()
                        .filter(|k| k.state == State::Kept || k.gone.is_some())
                        .collect(),
                );
                if let Some(id) = &r.identity.server_id {
                    take(l.by_server_id(id)?);
                }
            }
            // the other labels of what vanished, and the copies that complete a move
            if r.gone.is_some() || p.missing.contains(&r.id) {
                if let Some(h) = &r.identity.content {
                    take(l.by_content(h)?);
                }
                if let Some(h) = &r.identity.reader {
                    take(l.by_reader(h)?);
                }
            }
        }
        Ok(())
    })?;
    let folders = p.folders.iter().map(|(id, f)| {
        let folder = Folder {
            name: f.rec.name.clone(),
            special_use: f.rec.special_use,
            server: f.server,
            disk: f.disk,
            selected: f.selected,
            pull_from: f.fresh.filter(|_| f.failed.is_none()).map(|n| n.from),
        };
        (*id, folder)
    });
    let folders: BTreeMap<_, _> = folders.collect();
    // a folder that was not observed, or is not selected, says nothing of its rows
    let is_excluded = |r: &&Row| p.folders.get(&r.folder).is_some_and(|f| !f.selected);
    let excluded = rows.values().filter(is_excluded).cloned().collect();
    rows.retain(|_, r| {
        let observed = p.folders.get(&r.folder).is_some_and(|f| f.selected);
        let failed = r.state == State::Pending
            && p.folders
                .get(&r.folder)
                .is_some_and(|f| f.failed.is_some() || f.server != Presence::There);
        observed && !failed && !p.unfetchable.contains(&r.id)
    });
    let mut trees = Trees {
        folders,
        rows,
        missing: p.missing.clone(),
        files: p.files.clone(),
        held: BTreeSet::new(),
        unread: p.unread.clone(),
        remote_complete: p.remote_complete,
        local_complete: p.local_complete,
        first_pass: p.first_pass,
        sizes_lie: p.session.caps().sizes_lie,
        newest_before: Some(p.newest_before),
        sent: sent(p)?,
        excluded,
    };
    trees.held = holds::old_files(p, &trees)?;
    Ok(trees)
}

/// The base names of files without a row that we made.
fn ours<'p>(p: &'p Pass<'_>) -> impl Iterator<Item = &'p BaseName> {
    p.files.values().map(|f| &f.place.file.base).filter(|b| b.is_ours())
}

/// What broken commands may have stored: an upload, or what is left of a move of a message that has
/// no row any more.
fn sent(p: &Pass<'_>) -> Result<Vec<Sent>> {
    p.ledger.with(|l| {
        let mut out = Vec::new();
        for i in l.intents()? {
            let same_epoch =
                p.folders.get(&i.target).is_some_and(|f| f.rec.uidvalidity == i.uidvalidity);
            let lost = match i.row {
                _ if i.kind == IntentKind::Unlink => false,
                Some(row) => i.place.is_some() && l.row(row)?.is_none(),
                None => i.kind == IntentKind::Append,
            };
            if same_epoch && lost {
                out.push(Sent { target: i.target, from: i.uidnext_before, identity: i.identity });
            }
        }
        Ok(out)
    })
}
