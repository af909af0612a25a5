//! Moves and copies on the server, of what was moved and copied here.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use super::joins::{keeps_in, take_file, unite};
use super::journal;
use super::there::{
    advance, ensure_folder, intents, marked, not_moved, pairs, proven, refused, settle_intents,
};
use crate::account::pass::Pass;
use crate::error::{Kind, Result};
use crate::imap::Expunged;
use crate::ledger::{Action as Done, IntentId, IntentKind, Side};
use crate::maildir::place_path;
use crate::model::{FolderId, Keyword, Row, RowId, State, UidSet};
use crate::reconcile::{FileId, LocalFile, Trees};

/// Moves messages on the server to where their files are.
pub async fn move_messages(p: &mut Pass<'_>, trees: &Trees, all: &[(RowId, FileId)]) -> Result<()> {
    let mut groups: BTreeMap<(FolderId, FolderId), Vec<(Row, FileId)>> = BTreeMap::new();
    for (id, file) in all {
        let Some(f) = trees.files.get(file) else { continue };
        let row = p.row(*id)?;
        groups.entry((row.folder, f.folder)).or_default().push((row, *file));
    }
    for ((from, to), rows) in groups {
        let moved = move_group(p, trees, from, to, rows).await;
        p.each(moved)?;
    }
    Ok(())
}

fn done_with(p: &mut Pass<'_>, row: RowId, file: Option<FileId>) {
    p.missing.remove(&row);
    if let Some(f) = file {
        p.files.remove(&f);
    }
}

/// What one MOVE or COPY is about to be asked of the server.
struct Group {
    rows: Vec<Row>,
    files: BTreeMap<RowId, FileId>,
    set: UidSet,
    /// The target, as the server spells it.
    wire: Vec<u8>,
    open: Vec<IntentId>,
}

/// Makes the target, proves the messages, and notes what is going to be asked; nothing where
/// nothing is left to ask.
async fn begin(
    p: &mut Pass<'_>,
    trees: &Trees,
    kind: IntentKind,
    (from, to): (FolderId, FolderId),
    rows: Vec<(Row, FileId)>,
) -> Result<Option<Group>> {
    if !ensure_folder(p, to).await? {
        return Ok(None);
    }
    let files: BTreeMap<RowId, FileId> = rows.iter().map(|(r, f)| (r.id, *f)).collect();
    let rows = proven(p, from, rows.into_iter().map(|(r, _)| r).collect()).await?;
    let set: UidSet = rows.iter().filter_map(|r| r.uid).collect();
    if set.is_empty() {
        return Ok(None);
    }
    let wire = p.folder(to)?.wire()?;
    let file_of = |row: &Row| files.get(&row.id).and_then(|f| trees.files.get(f));
    let open: Vec<_> = rows.iter().map(|r| (Some(r), to, file_of(r))).collect();
    let open = intents(p, kind, &open)?;
    Ok(Some(Group { rows, files, set, wire, open }))
}

async fn move_group(
    p: &mut Pass<'_>,
    trees: &Trees,
    from: FolderId,
    to: FolderId,
    rows: Vec<(Row, FileId)>,
) -> Result<()> {
    let Some(group) = begin(p, trees, IntentKind::Move, (from, to), rows).await? else {
        return Ok(());
    };
    let Group { rows, files, set, wire, open } = group;
    let by_move = p.session.moves();
    let moved = match p.session.move_messages(&set, &wire).await {
        Err(e) if e.kind == Kind::Refused => return not_moved(p, to, &open, by_move, e),
        other => other?,
    };
    let why = "it was moved here";
    let (copied, expunged) = moved;
    let Some(pairs) = pairs(p, to, copied)? else {
        // its new UID is found by pairing
        p.look_again = true;
        return p.write(|tx| {
            match expunged {
                Expunged::Done => {
                    tx.vanish(from, &set)?;
                }
                Expunged::Marked => rows.iter().try_for_each(|r| tx.update_row(&marked(r)))?,
            }
            open.iter().try_for_each(|i| tx.delete_intent(*i))
        });
    };
    let mut updates = Vec::new();
    let mut stays = Vec::new();
    let mut entries = Vec::new();
    let arrivals: Vec<Row> = rows.iter().filter(|r| r.state == State::Pending).cloned().collect();
    for row in rows {
        let new = row.uid.and_then(|u| pairs.get(&u).copied());
        let (Some(uid), Some(file)) = (new, files.get(&row.id)) else { continue };
        let Some(f) = trees.files.get(file) else { continue };
        entries.push(journal::moved(p, Done::MoveThere, Side::There, &row, to, why));
        if expunged == Expunged::Marked {
            stays.push(marked(&row));
        }
        let mut new = row.clone();
        new.state = State::Synced;
        new.folder = to;
        new.uid = Some(uid);
        new.keeps = keeps_in(p, &row, to);
        take_file(&mut new, f);
        translate(p, &row, &mut new, f)?;
        if row.state != State::Synced {
            unite(&mut new);
        }
        updates.push(new);
    }
    p.report.moved += updates.len() as u64;
    for row in &updates {
        done_with(p, row.id, files.get(&row.id).copied());
    }
    advance(p, to, updates.iter().filter_map(|r| r.uid))?;
    p.write_folder(to, |tx| {
        for row in &updates {
            tx.update_row(row)?;
        }
        for row in &stays {
            tx.insert_row(row)?;
        }
        arrivals.iter().try_for_each(|a| tx.answer(a))?;
        open.iter().try_for_each(|i| tx.delete_intent(*i))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}

/// Letters are a folder's own, and a reader that moves a file knows nothing of that: they still mean
/// what they meant before. A keyword that they do not say where the file is now was not removed; it
/// comes from the server again, and gets its letter.
fn translate(p: &Pass<'_>, old: &Row, new: &mut Row, f: &LocalFile) -> Result<()> {
    let (before, here) = (&old.local.keywords, &f.flags.keywords);
    // a program that knows of letters has chosen others
    if old.folder == f.folder || here == before {
        return Ok(());
    }
    let source = p.folder(old.folder)?;
    let meant = match source.letters_void {
        true => before.clone(),
        false => source.keywords.flags_of(&f.place.file.info()).0.keywords,
    };
    new.local.keywords.retain(|k| meant.contains(k));
    let unsaid = |k: &Keyword| meant.contains(k) && before.contains(k) && !here.contains(k);
    new.agreed.keywords.retain(|k| !unsaid(k));
    Ok(())
}

/// Copies on the server what was copied here.
pub async fn copy_messages(p: &mut Pass<'_>, trees: &Trees, all: &[(RowId, FileId)]) -> Result<()> {
    let mut groups: BTreeMap<(FolderId, FolderId), Vec<(Row, FileId)>> = BTreeMap::new();
    for (of, file) in all {
        let (Some(f), Some(row)) = (trees.files.get(file), p.ledger.with(|l| l.row(*of))?) else {
            continue;
        };
        if row.on_server() && is_second_file(p, &row, *file)? {
            groups.entry((row.folder, f.folder)).or_default().push((row, *file));
        } else {
            p.look_again = true;
        }
    }
    for ((from, to), mut rows) in groups {
        // one COPY command makes one copy of a message: equal ones go one after the other
        while !rows.is_empty() {
            let mut seen = BTreeSet::new();
            let (now, later): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|(r, _)| seen.insert(r.id));
            rows = later;
            let copied = copy_group(p, trees, from, to, now).await;
            if p.each(copied)?.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// Whether the file is another one than the row's own, which is still there. A message that a reader
/// moves to and fro is seen in two folders, and is one file all the same.
fn is_second_file(p: &Pass<'_>, row: &Row, file: FileId) -> Result<bool> {
    let Some(at) = &row.place else { return Ok(false) };
    let path = place_path(&p.folder(row.folder)?.dir, at);
    let Ok(own) = std::fs::symlink_metadata(path) else { return Ok(false) };
    let same = p.stats.get(&file).is_some_and(|s| (s.dev, s.ino) == (own.dev(), own.ino()));
    Ok(!same || own.nlink() > 1)
}

async fn copy_group(
    p: &mut Pass<'_>,
    trees: &Trees,
    from: FolderId,
    to: FolderId,
    rows: Vec<(Row, FileId)>,
) -> Result<()> {
    let Some(group) = begin(p, trees, IntentKind::Copy, (from, to), rows).await? else {
        return Ok(());
    };
    let Group { rows, files, set, wire, open } = group;
    let copied = match p.session.copy(&set, &wire).await {
        Err(e) if e.kind == Kind::Refused => {
            settle_intents(p, &open)?;
            return refused(p, to, e);
        }
        other => other?,
    };
    let Some(pairs) = pairs(p, to, copied)? else {
        p.look_again = true; // the intents stay until pairing found the copies
        return Ok(());
    };
    let mut new = Vec::new();
    let mut entries = Vec::new();
    for row in rows {
        let uid = row.uid.and_then(|u| pairs.get(&u).copied());
        let (Some(uid), Some(file)) = (uid, files.get(&row.id)) else { continue };
        let Some(f) = trees.files.get(file) else { continue };
        entries.push(journal::moved(p, Done::Copy, Side::There, &row, to, "it was copied here"));
        let mut copy = row.clone();
        copy.folder = to;
        copy.uid = Some(uid);
        copy.agreed = row.remote.clone();
        copy.copy_of = Some(row.id);
        copy.keeps = keeps_in(p, &row, to);
        copy.identity.server_id = None;
        take_file(&mut copy, f);
        translate(p, &row, &mut copy, f)?;
        copy.exact = row.exact && f.identity.content == row.identity.content;
        new.push(copy);
        p.files.remove(file);
    }
    p.report.copied += new.len() as u64;
    advance(p, to, new.iter().filter_map(|r| r.uid))?;
    p.write_folder(to, |tx| {
        for row in &new {
            tx.insert_row(row)?;
        }
        open.iter().try_for_each(|i| tx.delete_intent(*i))?;
        entries.iter().try_for_each(|e| tx.journal(e))
    })
}
