//! What waits for a person: the holds in the ledger, the verdicts that policy asks for, and the
//! window that the brake looks at.

use std::collections::{BTreeMap, BTreeSet};

use super::pass::Pass;
use crate::error::Result;
use crate::ledger::{
    Action as Done, Hold, HoldId, HoldItem, HoldKind, HoldState, JournalEntry, Side as There,
};
use crate::model::{BaseName, ContentHash, FolderId, Gone};
use crate::policy::decide::{Decision, Held, HeldKind, Side, Standing, Verdict};
use crate::reconcile::{FileId, Trees};
use crate::words::messages;

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
    let files = Files::of(trees, &holds);
    for hold in &holds {
        if hold.kind == HoldKind::NoTrash && hold.state == HoldState::Open {
            continue; // there may be a trash now
        }
        let verdict = match hold.state {
            HoldState::Open => Verdict::Open,
            HoldState::Approved => Verdict::Approved,
            HoldState::Rejected => Verdict::Rejected,
        };
        s.rows.extend(hold.items.iter().filter_map(|i| Some((i.row?, verdict))));
        for file in files.of_hold(hold) {
            if hold.kind == HoldKind::Refused && verdict == Verdict::Open {
                s.refused.insert(file);
            } else {
                s.files.insert(file, verdict);
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
        if f.is_unseen() {
            s.unseen.insert(*id);
        }
        if let Some(permanent) = &f.permanent {
            s.permanent.insert(*id, permanent.clone());
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

/// The files that stood here before the ledger, whatever was said of them since: until that is done,
/// they may still turn up on the server.
pub fn old_files(p: &Pass<'_>, trees: &Trees) -> Result<BTreeSet<FileId>> {
    let holds = p.ledger.with(|l| l.holds())?;
    if trees.files.is_empty() || holds.iter().all(|h| h.kind != HoldKind::UnknownFiles) {
        return Ok(BTreeSet::new());
    }
    let files = Files::of(trees, &holds);
    let old = holds.iter().filter(|h| h.kind == HoldKind::UnknownFiles);
    Ok(old.flat_map(|h| files.of_hold(h)).collect())
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
    let files = Files::of(trees, &existing);
    let stale: Vec<HoldId> = existing
        .iter()
        .filter(|h| match h.state {
            HoldState::Open => !wanted.iter().any(|w| w.kind == h.kind && w.folder == h.folder),
            // the verdict stays while anything of it is still to be done
            HoldState::Approved | HoldState::Rejected => {
                files.of_hold(h).is_empty() && !h.items.iter().any(|i| still_there(p, trees, i))
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
            let why = format!("hold {}: {}", id.0, messages(hold.items.len()));
            let side = There::Here;
            tx.journal(&JournalEntry::new(now, Done::Hold, side, why))?;
        }
        Ok(())
    })
}

/// Which files without a row are those of holds. Renamed, moved or written anew by a reader, a file
/// is still what was held.
struct Files<'a> {
    by_name: BTreeMap<(FolderId, &'a BaseName), FileId>,
    by_content: BTreeMap<ContentHash, Vec<FileId>>,
    by_reader: BTreeMap<ContentHash, Vec<FileId>>,
    /// Those that stand where a hold has them.
    in_place: BTreeSet<FileId>,
}

impl<'a> Files<'a> {
    fn of(trees: &'a Trees, holds: &[Hold]) -> Self {
        let mut out = Self {
            by_name: BTreeMap::new(),
            by_content: BTreeMap::new(),
            by_reader: BTreeMap::new(),
            in_place: BTreeSet::new(),
        };
        for (id, f) in &trees.files {
            out.by_name.insert((f.folder, &f.place.file.base), *id);
            if let Some(h) = f.identity.content {
                out.by_content.entry(h).or_default().push(*id);
            }
            if let Some(h) = f.identity.reader {
                out.by_reader.entry(h).or_default().push(*id);
            }
        }
        let items = holds.iter().flat_map(|h| &h.items);
        out.in_place = items.filter_map(|i| out.in_place(i)).collect();
        out
    }

    fn in_place(&self, item: &HoldItem) -> Option<FileId> {
        let base = item.base.as_ref().filter(|_| item.row.is_none())?;
        self.by_name.get(&(item.folder, base)).copied()
    }

    /// The files that have the item's bytes, and then those that have them but for what readers
    /// write.
    fn alike(&self, item: &HoldItem) -> impl Iterator<Item = FileId> {
        let all = [
            item.content.and_then(|h| self.by_content.get(&h)),
            item.reader.and_then(|h| self.by_reader.get(&h)),
        ];
        let all = all.into_iter().flatten().flatten().copied();
        all.filter(|id| !self.in_place.contains(id))
    }

    /// What the verdict on a hold is about. Whoever saves a file in two steps copies it first, so a
    /// copy waits, too, or stays here; but what is approved is no more than what was held.
    fn of_hold(&self, hold: &Hold) -> BTreeSet<FileId> {
        let mut out = BTreeSet::new();
        for item in hold.items.iter().filter(|i| i.row.is_none()) {
            let here = self.in_place(item);
            out.extend(here);
            match (hold.state, here) {
                (HoldState::Approved, Some(_)) => {}
                (HoldState::Approved, None) => {
                    let moved = self.alike(item).find(|id| !out.contains(id));
                    out.extend(moved);
                }
                (HoldState::Open | HoldState::Rejected, _) => out.extend(self.alike(item)),
            }
        }
        out
    }
}

fn still_there(p: &Pass<'_>, trees: &Trees, item: &HoldItem) -> bool {
    let row = item.row.and_then(|id| trees.rows.get(&id));
    row.is_some_and(|r| p.missing.contains(&r.id) || r.gone.is_some())
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
        reader: None,
    });
    let items: Vec<HoldItem> = rows.chain(file_items(trees, &h.files)).collect();
    Hold {
        id: HoldId(0),
        kind,
        folder: None,
        reason: h.reason.clone(),
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
            reader: f.identity.reader,
        })
        .collect()
}

/// Uploads that the server refused for good, in this pass or before.
fn refused(p: &Pass<'_>, trees: &Trees) -> Result<Option<Hold>> {
    let mut files: Vec<FileId> = p.refused.keys().copied().collect();
    let before = p.ledger.with(|l| l.holds())?;
    let mut reason = p.refused.values().next().cloned().unwrap_or_default();
    let known = Files::of(trees, &before);
    for hold in before.iter().filter(|h| h.kind == HoldKind::Refused && h.state == HoldState::Open)
    {
        reason.clone_from(&hold.reason);
        files.extend(known.of_hold(hold).iter().filter(|id| !p.refused.contains_key(id)));
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
