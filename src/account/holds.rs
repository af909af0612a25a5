//! What waits for a person: the holds in the ledger, the verdicts that policy asks for, and the
//! window that the brake looks at.

use std::collections::BTreeMap;

use super::pass::Pass;
use crate::error::Result;
use crate::ledger::{
    Action as Done, Hold, HoldId, HoldItem, HoldKind, HoldState, JournalEntry, Side as There,
};
use crate::model::{BaseName, ContentHash, FolderId, Gone};
use crate::policy::decide::{Decision, Held, HeldKind, Side, Standing, Verdict};
use crate::reconcile::{FileId, Trees};

/// The brake looks back so many seconds.
const WINDOW: i64 = 24 * 3600;

/// What policy must know beside the plan.
pub fn standing(p: &Pass<'_>, trees: &Trees) -> Result<Standing> {
    let since = p.now() - WINDOW;
    let (holds, deleted, sizes) = p
        .ledger
        .with(|l| Ok((l.holds()?, l.deletions_since(since)?, l.folder_sizes_at(since)?)))?;
    let mut s = Standing { sizes, trash: p.trash(), ..Standing::default() };
    for (side, folder, n) in deleted {
        let side = match side {
            There::Here => Side::Here,
            There::There => Side::There,
        };
        *s.deleted.entry((side, folder)).or_default() += n;
    }
    let by_name = by_name(trees);
    let by_content: BTreeMap<ContentHash, FileId> =
        trees.files.iter().filter_map(|(id, f)| Some((f.identity.content?, *id))).collect();
    for hold in &holds {
        if hold.kind == HoldKind::NoTrash && hold.state == HoldState::Open {
            continue; // there may be a trash now
        }
        let verdict = match hold.state {
            HoldState::Open => Verdict::Open,
            HoldState::Approved => Verdict::Approved,
            HoldState::Rejected => Verdict::Rejected,
        };
        for item in &hold.items {
            if let Some(row) = item.row {
                s.rows.insert(row, verdict);
            } else if let Some(file) = item
                .base
                .as_ref()
                .and_then(|base| by_name.get(&(item.folder, base)))
                // renamed or moved, it is still what was held
                .or_else(|| by_content.get(&item.content?))
            {
                if hold.kind == HoldKind::Refused && verdict == Verdict::Open {
                    s.refused.insert(*file);
                } else {
                    s.files.insert(*file, verdict);
                }
            }
        }
    }
    for (id, row) in &trees.rows {
        if row.gone == Some(Gone::Epoch) && p.ledger.with(|l| l.uidl_of_row(*id))?.is_some() {
            s.refiled.insert(*id);
        }
    }
    // what the server refused in this pass is not tried again in it
    s.refused.extend(p.refused.keys());
    for (id, f) in &p.folders {
        if let Some(why) = &f.closed {
            s.closed.insert(*id, why.clone());
        }
    }
    if !p.options.folders.is_empty() {
        let only = p.folders.iter().filter(|(_, f)| {
            p.options.folders.iter().any(|g| g.matches(&f.rec.name, f.rec.special_use))
        });
        s.only = Some(only.map(|(id, _)| *id).collect());
    }
    Ok(s)
}

/// How many messages are held.
pub fn count(decision: &Decision) -> u64 {
    decision.held.iter().map(|h| (h.rows.len() + h.files.len()) as u64).sum()
}

/// Writes into the ledger what is held now: an open hold keeps its number; one that holds nothing
/// any more goes, and so does one whose verdict was carried out.
pub fn record(p: &mut Pass<'_>, trees: &Trees, decision: &Decision) -> Result<()> {
    let mut wanted: Vec<Hold> = decision.held.iter().map(|h| hold(p, trees, h)).collect();
    if let Some(refused) = refused(p, trees)? {
        wanted.push(refused);
    }
    p.report.held = wanted.iter().map(|h| h.items.len() as u64).sum();
    let existing = p.ledger.with(|l| l.holds())?;
    let names = by_name(trees);
    let stale: Vec<HoldId> = existing
        .iter()
        .filter(|h| match h.state {
            HoldState::Open => !wanted.iter().any(|w| w.kind == h.kind && w.folder == h.folder),
            // the verdict stays while anything of it is still to be done
            HoldState::Approved | HoldState::Rejected => {
                !h.items.iter().any(|i| still_there(p, trees, &names, i))
            }
        })
        .map(|h| h.id)
        .collect();
    let new: Vec<&Hold> = wanted
        .iter()
        .filter(|w| {
            !existing.iter().any(|h| {
                h.state == HoldState::Open
                    && h.kind == w.kind
                    && h.folder == w.folder
                    && h.items == w.items
            })
        })
        .collect();
    if stale.is_empty() && new.is_empty() {
        return Ok(());
    }
    let now = p.now();
    p.write(|tx| {
        for id in stale {
            tx.delete_hold(id)?;
        }
        for hold in new {
            let id = tx.put_hold(hold)?;
            let why = format!("hold {}: {} messages", id.0, hold.items.len());
            let side = There::Here;
            tx.journal(&JournalEntry::new(now, Done::Hold, side, why))?;
        }
        Ok(())
    })
}

/// Files by folder and base name.
fn by_name(trees: &Trees) -> BTreeMap<(FolderId, &BaseName), FileId> {
    trees.files.iter().map(|(id, f)| ((f.folder, &f.place.file.base), *id)).collect()
}

fn still_there(
    p: &Pass<'_>,
    trees: &Trees,
    names: &BTreeMap<(FolderId, &BaseName), FileId>,
    item: &HoldItem,
) -> bool {
    match (&item.row, &item.base) {
        (Some(row), _) => {
            let row = trees.rows.get(row);
            row.is_some_and(|r| p.missing.contains(&r.id) || r.gone.is_some())
        }
        (None, Some(base)) => names.contains_key(&(item.folder, base)),
        (None, None) => false,
    }
}

fn hold(p: &Pass<'_>, trees: &Trees, h: &Held) -> Hold {
    let kind = match h.kind {
        HeldKind::LocalDeletions => HoldKind::LocalDeletions,
        HeldKind::RemoteDeletions => HoldKind::RemoteDeletions,
        HeldKind::UnknownFiles => HoldKind::UnknownFiles,
        HeldKind::NoTrash => HoldKind::NoTrash,
        HeldKind::Refiled => HoldKind::Refiled,
    };
    let rows = h.rows.iter().filter_map(|id| trees.rows.get(id)).map(|r| HoldItem {
        row: Some(r.id),
        folder: r.folder,
        base: r.place.as_ref().map(|p| p.file.base.clone()),
        content: r.identity.content,
    });
    let items: Vec<HoldItem> = rows.chain(file_items(trees, &h.files)).collect();
    Hold {
        id: HoldId(0),
        kind,
        folder: None,
        reason: format!("{} messages: {}", items.len(), h.reason),
        next: "mailkeep approve or mailkeep reject, with the account and this number".into(),
        state: HoldState::Open,
        created: p.now(),
        items,
    }
}

fn file_items(trees: &Trees, files: &[FileId]) -> Vec<HoldItem> {
    files
        .iter()
        .filter_map(|id| trees.files.get(id))
        .map(|f| HoldItem {
            row: None,
            folder: f.folder,
            base: Some(f.place.file.base.clone()),
            content: f.identity.content,
        })
        .collect()
}

/// Uploads that the server refused for good, in this pass or before.
fn refused(p: &Pass<'_>, trees: &Trees) -> Result<Option<Hold>> {
    let mut files: Vec<FileId> = p.refused.keys().copied().collect();
    let before = p.ledger.with(|l| l.holds())?;
    let before =
        before.iter().filter(|h| h.kind == HoldKind::Refused && h.state == HoldState::Open);
    let mut reason = p.refused.values().next().cloned().unwrap_or_default();
    let names = by_name(trees);
    for hold in before {
        reason.clone_from(&hold.reason);
        let held = hold.items.iter().filter_map(|i| names.get(&(i.folder, i.base.as_ref()?)));
        files.extend(held.filter(|id| !p.refused.contains_key(id)));
    }
    let items = file_items(trees, &files);
    Ok((!items.is_empty()).then(|| Hold {
        id: HoldId(0),
        kind: HoldKind::Refused,
        folder: None,
        reason,
        next: "approve tries them again, reject keeps them here only".into(),
        state: HoldState::Open,
        created: p.now(),
        items,
    }))
}
